#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The main job on a real kernel: attach, use, detach; with real servers. Runs in scripts/lab.
set -uo pipefail
# shellcheck source=tests/kernel/lib.sh
. "$(dirname "$0")/lib.sh"

disk=$work/disk.qcow2
uri=nbd://127.0.0.1:10901/disk

no_module() {
	mount -t tmpfs none "/lib/modules/$(uname -r)"
	expect_failure 1 "nbd" "$NBDCTL" attach nbd://127.0.0.1:10901/disk
	umount "/lib/modules/$(uname -r)"
	same "$("$NBDCTL" list)" ""
	"$NBDCTL" detach --all
}

loads_the_module() {
	[ ! -e /sys/module/nbd ]
	same "$("$NBDCTL" attach "$uri")" /dev/nbd0
	[ -e /sys/module/nbd ]
	"$NBDCTL" detach nbd0
}

ext4_survives() {
	local device
	device=$("$NBDCTL" attach "$uri")
	same "$(blockdev --getsize64 "$device")" $((256 << 20))
	mkfs.ext4 -q "$device"
	mkdir -p "$work/mnt"
	mount "$device" "$work/mnt"
	dd if=/dev/urandom of="$work/mnt/file" bs=1M count=16 status=none
	sha256sum <"$work/mnt/file" >"$work/sum"
	umount "$work/mnt"
	"$NBDCTL" detach "$device"
	[ ! -e "/sys/block/${device#/dev/}/pid" ]
	device=$("$NBDCTL" attach "$uri")
	fsck.ext4 -fn "$device"
	mount "$device" "$work/mnt"
	sha256sum <"$work/mnt/file" | cmp - "$work/sum"
	umount "$work/mnt"
	"$NBDCTL" detach "$device"
}

# What detach left in the page cache would be lost: so it must not leave anything.
detach_flushes() {
	local device
	device=$("$NBDCTL" attach "$uri")
	dd if=/dev/urandom of="$work/data" bs=1M count=8 status=none
	dd if="$work/data" of="$device" bs=1M seek=100 conv=notrunc,nocreat status=none
	"$NBDCTL" detach "$device"
	device=$("$NBDCTL" attach "$uri")
	dd if="$device" bs=1M skip=100 count=8 status=none | cmp - "$work/data"
	"$NBDCTL" detach "$device"
}

# The page cache of a partition is not that of the disk.
partitions_are_there_and_flushed() {
	local device
	device=$("$NBDCTL" attach "$uri")
	printf 'label: gpt\nsize=100M\nsize=50M\n' | sfdisk -q "$device"
	"$NBDCTL" detach "$device"
	[ ! -e "/sys/block/nbd0/nbd0p1" ]
	device=$("$NBDCTL" attach "$uri")
	[ -b "${device}p1" ] && [ -b "${device}p2" ]
	dd if=/dev/urandom of="$work/data" bs=1M count=4 status=none
	dd if="$work/data" of="${device}p2" bs=1M conv=nocreat status=none
	"$NBDCTL" detach "$device"
	[ ! -e "/sys/block/nbd0/nbd0p1" ]
	device=$("$NBDCTL" attach "$uri")
	dd if="${device}p2" bs=1M count=4 status=none | cmp - "$work/data"
	wipefs -qa "$device"
	"$NBDCTL" detach "$device"
}

list_and_status_tell() {
	"$NBDCTL" attach --name backup-disk "$uri" /dev/nbd3
	"$NBDCTL" list | grep -qE "^/dev/nbd3 +256M +rw +up +[0-9]+/[0-9]+ +none +$uri"
	"$NBDCTL" list --json | python3 -c '
import json, sys
d, = json.load(sys.stdin)
assert d["device"] == "/dev/nbd3" and d["size"] == 256 << 20 and d["read_only"] is False, d
assert d["state"] == "up" and d["connections"] == d["connections_up"] >= 1 and d["tls"] == "none", d
assert d["uri"] == "nbd://127.0.0.1:10901/disk" and d["export"] == "disk" and d["name"] == "backup-disk", d
assert list(d) == ["device", "size", "read_only", "state", "connections", "connections_up", "tls", "uri", "export",
                   "name", "agent_pid"], list(d)'
	"$NBDCTL" status nbd3 | grep -q "rtt .* ms"
	"$NBDCTL" status --json | python3 -c '
import json, sys
d = json.load(sys.stdin)
assert len(d["sockets"]) == d["connections"], d
for s in d["sockets"]:
    assert s["remote"] == "127.0.0.1:10901" and s["rtt_us"] > 0 and s["bytes_sent"] > 0 and s["tls"] is None, s
for key in "reconnects", "outage_seconds", "last_error", "bitmaps":
    assert key in d, key'
	same "$(sysfs nbd3/backend)" backup-disk
	"$NBDCTL" detach 3
}

read_only() {
	local device
	device=$("$NBDCTL" attach --read-only "$uri")
	same "$(sysfs nbd0/ro)" 1
	if dd if=/dev/zero of="$device" bs=4k count=1 conv=nocreat,fsync 2>/dev/null; then return 1; fi
	"$NBDCTL" detach "$device"
}

connections() {
	"$NBDCTL" attach --connections 4 "$uri"
	same "$(grep -cE ' [0-9A-F]+:2A95 01 ' /proc/net/tcp)" 4 # port 10901, established
	"$NBDCTL" list | grep -q " 4/4 "
	fio --name=x --filename=/dev/nbd0 --rw=randwrite --bs=4k --size=16M --iodepth=16 --ioengine=libaio --direct=1 \
		--verify=crc32c --verify_fatal=1 --minimal >/dev/null
	"$NBDCTL" detach nbd0
}

queue_limits() {
	"$NBDCTL" attach "$uri"
	same "$(sysfs nbd0/queue/logical_block_size)" 512
	[ "$(sysfs nbd0/queue/max_sectors_kb)" -ge 1024 ]
	"$NBDCTL" detach nbd0
	"$NBDCTL" attach --block-size 4K "$uri"
	same "$(sysfs nbd0/queue/logical_block_size)" 4096
	"$NBDCTL" detach nbd0
	# A server that takes no more than 64 KiB at once, in blocks of 4 KiB.
	"$NBDCTL" attach nbd://127.0.0.1:10902/
	same "$(sysfs nbd0/queue/logical_block_size)" 4096
	same "$(sysfs nbd0/queue/max_sectors_kb)" 64
	fio --name=x --filename=/dev/nbd0 --rw=write --bs=1M --size=16M --direct=1 --verify=crc32c --verify_fatal=1 \
		--minimal >/dev/null
	expect_failure 1 "below the server's minimum" "$NBDCTL" attach --block-size 512 nbd://127.0.0.1:10902/
	"$NBDCTL" detach nbd0
}

unix_socket() {
	"$NBDCTL" attach "nbd+unix:///?socket=$work/unix.sock"
	"$NBDCTL" status | grep -q "unix:.*: up"
	dd if=/dev/urandom of="$work/data" bs=1M count=4 status=none
	dd if="$work/data" of=/dev/nbd0 bs=1M conv=nocreat,fsync status=none
	dd if=/dev/nbd0 bs=1M count=4 iflag=direct status=none | cmp - "$work/data"
	"$NBDCTL" detach nbd0
}

old_servers() {
	# nbd-server: no structured replies, no block sizes; qemu's default export
	"$NBDCTL" attach nbd://127.0.0.1:10903/plain
	mkfs.ext4 -q /dev/nbd0
	fsck.ext4 -fn /dev/nbd0
	"$NBDCTL" detach nbd0
}

several_uris() {
	"$NBDCTL" attach nbd://127.0.0.1:9/x "$uri" nbd7
	same "$("$NBDCTL" list --json | python3 -c 'import json,sys; print(json.load(sys.stdin)[0]["uri"])')" "$uri"
	"$NBDCTL" detach nbd7
}

waits_for_the_server() {
	(sleep 1 && exec qemu-nbd -t -f qcow2 -p 10904 -x late "$work/late.qcow2") &
	local server=$!
	"$NBDCTL" attach --wait 20 nbd://127.0.0.1:10904/late
	"$NBDCTL" detach nbd0
	kill $server
}

many_devices() {
	local i
	for i in $(seq 64); do
		"$NBDCTL" attach --connect-timeout 60 --connections 1 "nbd+unix:///?socket=$work/unix.sock" "nbd$i" >/dev/null &
	done
	wait
	same "$("$NBDCTL" list --json | grep -c '"state": "up"')" 64
	for i in $(seq 64); do
		dd if="/dev/nbd$i" bs=4k count=1 skip=10000 iflag=direct status=none | cmp -n 4096 - /dev/zero
	done
	"$NBDCTL" detach --all
	same "$(attached)" ""
}

# udev and friends open what they see; an attach must not fail for it.
busy_race() {
	local opener i
	for i in $(seq 10); do
		(while :; do : </dev/nbd0; done) 2>/dev/null &
		opener=$!
		"$NBDCTL" attach "$uri" nbd0 || { kill $opener; return 1; }
		kill $opener
		wait $opener || true
		"$NBDCTL" detach nbd0
	done
}

extents_of_zero_kept_apart() {
	# TRIM and WRITE_ZEROES as the driver knows them
	"$NBDCTL" attach "$uri"
	dd if=/dev/urandom of=/dev/nbd0 bs=1M count=4 conv=nocreat,fsync status=none
	blkdiscard -o 0 -l 1M /dev/nbd0
	blkdiscard -z -o 1M -l 1M /dev/nbd0
	dd if=/dev/nbd0 bs=1M skip=1 count=1 iflag=direct status=none | cmp -n $((1 << 20)) - /dev/zero
	"$NBDCTL" detach nbd0
}

# 6.12 to 7.2 keep WRITE_ZEROES of the server before; a server without it must not get one.
limits_do_not_leak() {
	for _ in 1 2 3; do
		"$NBDCTL" attach "$uri" nbd0
		"$NBDCTL" detach nbd0
		same "$("$NBDCTL" attach nbd://127.0.0.1:10905/ nbd0)" /dev/nbd0
		same "$(sysfs nbd0/queue/write_zeroes_max_bytes)" 0
		"$NBDCTL" detach nbd0
	done
}

qemu-img create -q -f qcow2 "$disk" 256M
qemu-img create -q -f qcow2 "$work/late.qcow2" 16M
truncate -s 64M "$work/plain.img"
cat >"$work/nbd-server.conf" <<END
[generic]
	port = 10903
	allowlist = true
[plain]
	exportname = $work/plain.img
END
serve 10901 qemu-nbd -t -f qcow2 -e 70 -p 10901 -x disk "$disk"
serve 10902 nbdkit -f -p 10902 --filter=blocksize-policy memory 64M \
	blocksize-minimum=4096 blocksize-preferred=4096 blocksize-maximum=65536 blocksize-error-policy=error
serve 10905 nbdkit -f -p 10905 --filter=nozero memory 64M
serve_nbd_server 10903 "$work/nbd-server.conf"
nbdkit -f -U "$work/unix.sock" memory 64M &
servers+=($!)
wait_socket "$work/unix.sock"

t "module absent: a clear error, nothing left" no_module
t "loads the module" loads_the_module
t "ext4 on a qcow2 survives detach and attach" ext4_survives
t "detach flushes the page cache" detach_flushes
t "partitions are there after attach, flushed and dropped at detach" partitions_are_there_and_flushed
t "list and status tell" list_and_status_tell
t "--read-only" read_only
t "four connections" connections
t "queue limits from the server's block sizes" queue_limits
t "unix socket" unix_socket
t "nbd-server" old_servers
t "several URIs, the first is down" several_uris
t "--wait" waits_for_the_server
t "discard and write zeroes" extents_of_zero_kept_apart
t "queue limits do not leak to the next server" limits_do_not_leak
t "attach while something opens the device again and again" busy_race
t "64 devices at once" many_devices
finish
