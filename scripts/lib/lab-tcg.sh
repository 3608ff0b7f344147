# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# The emulated PC of scripts/lab --tcg: Debian 12's own kernel in qemu, without KVM. Sourced by scripts/lab, whose
# variables it uses: run, mem, scratch, shares. Sets machine.
# shellcheck disable=SC2054,SC2154 # qemu's arguments are full of commas

prepare_tcg() {
	local tree version modules initramfs i share
	need_packages tcg
	tree=$(private_suite bookworm linux-image-amd64)
	version=$(basename "$tree"/lib/modules/*)
	modules=$tree/lib/modules/$version
	# the package leaves this to its installation
	[ -e "$modules/modules.dep.bin" ] || depmod -b "$tree" "$version"
	initramfs=$(tcg_initramfs "$tree" "$version")
	machine=(qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none -machine q35,smm=off
		-accel "tcg,thread=multi" -cpu max -smp 2 -m "$mem"
		-kernel "$(tcg_kernel "$tree" "$version")" -initrd "$initramfs"
		-append "console=ttyS0 loglevel=5 panic=-1 mitigations=off nokaslr lab_run=$run lab_modules=$modules
			lab_scratch=${scratch:+/dev/vda}"
		-chardev stdio,id=console,signal=off -serial chardev:console
		-virtfs "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap"
		-device virtio-serial-pci)
	i=0
	for share in out err status; do
		i=$((i + 1))
		machine+=(-chardev "file,id=$share,path=$run/$share" -device "virtserialport,nr=$i,chardev=$share")
	done
	[ -z "$scratch" ] || machine+=(-drive "file=$run/scratch,if=virtio,format=raw,cache=unsafe,discard=unmap")
	i=0
	for share in "${shares[@]}"; do
		machine+=(-virtfs "local,path=$share,mount_tag=share$i,security_model=none,multidevs=remap")
		i=$((i + 1))
	done
}

# Unpacked once here, instead of at each boot by emulated instructions: that is a third of the time to boot.
tcg_kernel() {
	local packed=$1/boot/vmlinuz-$2 kernel=$NBDCTL_CACHE/tcg-vmlinux-$2 offset
	if [ ! -e "$kernel" ]; then
		offset=$(grep -a -b -o -m 1 -P '\xfd7zXZ\x00' "$packed" | head -n 1 | cut -d: -f1) || true
		# xz complains about what follows the compressed kernel
		tail -c "+$((${offset:-0} + 1))" "$packed" | xz -dc --single-stream >"$kernel.$$" 2>/dev/null || true
		if [ "$(head -c 4 "$kernel.$$")" != $'\x7fELF' ]; then
			cp "$packed" "$kernel.$$"
		fi
		mv "$kernel.$$" "$kernel"
	fi
	echo "$kernel"
}

# busybox and the modules between the kernel and the host's root. Named by what goes in.
tcg_initramfs() {
	local tree=$1 version=$2 busybox key dir
	busybox=$(command -v busybox)
	key=$({ cat "$busybox" "${BASH_SOURCE[0]}" && echo "$tree $version"; } | sha256sum | cut -c 1-16)
	local image=$NBDCTL_CACHE/tcg-initramfs-$key
	if [ ! -e "$image" ]; then
		dir=$(mktemp -d "$image.XXXXXX")
		mkdir "$dir"/{bin,modules,proc,dev,host,memory,newroot}
		cp "$busybox" "$dir/bin/busybox"
		tcg_init >"$dir/init"
		chmod 755 "$dir/init"
		modprobe -d "$tree" -S "$version" --show-depends -a \
			virtio_pci virtio_console virtio_blk 9pnet_virtio 9p overlay |
			sed -n 's/^insmod *\([^ ]*\).*/\1/p' | awk '!seen[$0]++' >"$dir/order"
		xargs -a "$dir/order" cp -t "$dir/modules"
		sed -i 's,.*/,,' "$dir/order"
		(cd "$dir" && find . | cpio --quiet -o -H newc) >"$image.$$"
		rm -rf "$dir"
		mv "$image.$$" "$image"
	fi
	echo "$image"
}

# The first process; lab-guest goes on from there.
tcg_init() {
	cat <<'END'
#!/bin/busybox sh
set -eu
/bin/busybox mount -n -t proc proc /proc
mount -n -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done </order
# the number in it is that of the virtio device
set -- /dev/vport*p1
export lab_streams="${1%1}"
p9=trans=virtio,version=9p2000.L,msize=512000
# loose: the host's files do not change during a test, or the test does not look
mount -n -t 9p -o "ro,cache=loose,$p9" hostroot /host
mount -n -t tmpfs -o size=90% tmpfs /memory
mkdir /memory/upper /memory/work
mount -n -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /newroot
eval "$(cat "/host$lab_run/shares")"
i=0
for dir; do
	mkdir -p "/newroot/lab-share$dir"
	mount -n -t 9p -o "$p9" "share$i" "/newroot/lab-share$dir"
	i=$((i + 1))
done
umount -n /dev
mount -n -o move /proc /newroot/proc
# with a path: exec looks for programs only
exec /bin/busybox switch_root /newroot /bin/busybox sh "$lab_run/init" rooted
END
}
