# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# What the scripts need from Debian. Source it; it only defines functions.
#
#   need_packages GROUP...                     install what is missing (build clang servers lab tcg)
#   private_suite SUITE PACKAGE...             print a folder with these packages of another suite, unpacked
#   private_programs NAME SUITE "PACKAGES" PROGRAM...
#                                              make $NBDCTL_CACHE/NAME/bin/PROGRAM, runnable on this machine
#   need_qemu10                                make $NBDCTL_CACHE/qemu-10/bin/{qemu-nbd,qemu-img,...}, print that folder
#
# Everything private lives in $NBDCTL_CACHE (default: .cache in the source tree). Nothing there is refreshed by itself:
# remove the folder to get newer packages.

NBDCTL_CACHE=${NBDCTL_CACHE:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)/.cache}
# the programs in it name their libraries by their full path
NBDCTL_CACHE=$(realpath -m -- "$NBDCTL_CACHE")
export NBDCTL_CACHE

package_group() {
	case $1 in
	build) echo meson ninja-build gcc pkg-config libnl-3-dev libnl-genl-3-dev libmnl-dev libkmod-dev \
		libgnutls28-dev libjson-c-dev libcmocka-dev libsystemd-dev scdoc ;;
	# libFuzzer and the sanitizers are in libclang-rt; llvm has the symbolizer and the coverage tools
	test) echo valgrind shellcheck python3 git ;;
	clang) echo clang clang-tidy clang-format libclang-rt-dev llvm ;;
	servers) echo qemu-utils qemu-system-common file nbdkit libnbd-bin fio dmsetup tcpdump e2fsprogs xfsprogs fdisk gnutls-bin patchelf ;;
	lab) echo patchelf iproute2 kmod nftables slirp4netns busybox-static util-linux mount e2fsprogs ;;
	tcg) echo qemu-system-x86 busybox-static cpio kmod xz-utils ;;
	*)
		echo "need_packages: no group '$1' (build clang servers lab tcg)" >&2
		return 2
		;;
	esac
}

need_packages() {
	local group names wanted=() missing=()
	for group in "$@"; do
		names=$(package_group "$group") || return
		read -ra names <<<"$names"
		wanted+=("${names[@]}")
	done
	mapfile -t missing < <(missing_packages "${wanted[@]}")
	if [ ${#missing[@]} -gt 0 ]; then
		apt_install "${missing[@]}" || return
	fi
	for group in "$@"; do
		if [ "$group" = servers ]; then
			need_nbd_tools || return
		fi
	done
}

missing_packages() {
	comm -23 <(printf '%s\n' "$@" | sort -u) \
		<(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p' | sort -u)
}

apt_install() {
	local try
	echo "installing: $*" >&2
	if [ "$(id -u)" != 0 ]; then
		echo "not root: please run  apt-get install --no-install-recommends $*" >&2
		return 1
	fi
	local log
	log=$(mktemp) || return
	for try in 1 2; do
		# Hundreds of lines that nobody reads, unless it fails.
		if { patient_apt update && patient_apt install --no-install-recommends "$@"; } >"$log" 2>&1; then
			rm -f "$log"
			return 0
		fi
		tail -n 40 "$log" >&2
		if [ "$try" = 1 ]; then
			echo "apt failed: once more in 15 seconds" >&2
			sleep 15
		fi
	done
	rm -f "$log"
	echo "could not install: $*" >&2
	return 1
}

# Mirrors drop connections and other programs hold the dpkg lock: neither is a reason to fail at once.
patient_apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Acquire::Retries=5 -o DPkg::Lock::Timeout=600 "$@" </dev/null
}

# The packages nbd-server and nbd-client start services, hook into the initramfs and ask questions. The tests want only
# the programs, so they are unpacked beside the system instead of being installed.
need_nbd_tools() {
	local codename
	codename=$(debian_codename) || return
	private_programs nbd-tools "$codename" "nbd-client nbd-server" nbd-client nbd-server || return
	case :$PATH: in
	*":$NBDCTL_CACHE/nbd-tools/bin:"*) ;;
	*) export PATH="$PATH:$NBDCTL_CACHE/nbd-tools/bin" ;;
	esac
}

need_qemu10() {
	# qemu-nbd of Debian 12 (7.2) knows neither extended headers nor BLOCK_STATUS_PAYLOAD; Debian 13 has 10.0
	private_programs qemu-10 trixie qemu-utils qemu-nbd qemu-img qemu-io qemu-storage-daemon || return
	echo "$NBDCTL_CACHE/qemu-10/bin"
}

# ---- programs of another suite ----

# They come with their suite's libc, so the copy names that suite's loader and libraries. patchelf instead of a wrapper
# script calling the loader: /proc/PID/comm, exe and argv[0] stay those of the program. DT_RPATH (--force-rpath) because
# DT_RUNPATH would not be followed for the libraries of the libraries.
private_programs() {
	local name=$1 suite=$2 packages=$3 dir=$NBDCTL_CACHE/$1
	shift 3
	# the programs contain absolute paths: a moved cache counts as stale
	local key="$dir: $suite: $packages: $*"
	if [ "$(cat "$dir/.complete" 2>/dev/null)" != "$key" ]; then
		mkdir -p "$NBDCTL_CACHE" || return
		(
			flock 9
			[ "$(cat "$dir/.complete" 2>/dev/null)" != "$key" ] || exit 0
			make_private_programs "$name" "$suite" "$packages" "$@" && echo "$key" >"$dir/.complete"
		) 9>"$NBDCTL_CACHE/.lock-$name" || return
	fi
}

make_private_programs() {
	local name=$1 suite=$2 packages=$3 tree libraries program file loader
	shift 3
	command -v patchelf >/dev/null || apt_install patchelf || return
	read -ra packages <<<"$packages"
	tree=$(private_suite "$suite" "${packages[@]}") || return
	libraries=$(library_path "$tree")
	rm -rf "${NBDCTL_CACHE:?}/$name"
	mkdir -p "$NBDCTL_CACHE/$name/bin" || return
	ln -s "$tree" "$NBDCTL_CACHE/$name/tree"
	for program in "$@"; do
		file=$(find "$tree"/{,usr/}{,s}bin -name "$program" -type f 2>/dev/null | head -n 1)
		if [ -z "$file" ]; then
			echo "$suite: no program $program in ${packages[*]}" >&2
			return 1
		fi
		loader=$(find "$tree" -name "$(basename "$(patchelf --print-interpreter "$file")")" -type f | head -n 1)
		patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" \
			--output "$NBDCTL_CACHE/$name/bin/$program" "$file" || return
		chmod 755 "$NBDCTL_CACHE/$name/bin/$program"
	done
}

# Debian 12 still ships libc6 in /lib and the rest in /usr/lib; unpacked beside each other the two are different folders.
library_path() {
	local dir path=
	for dir in "$1"/lib/*-linux-gnu "$1"/usr/lib/*-linux-gnu; do
		[ ! -d "$dir" ] || path=$path${path:+:}$dir
	done
	echo "$path"
}

# ---- packages of another suite ----

private_suite() {
	local suite=$1 name dir
	shift
	name=$(IFS=+ && echo "$*")
	dir=$NBDCTL_CACHE/suites/$suite/$name
	if [ ! -e "$dir/.complete" ]; then
		mkdir -p "$NBDCTL_CACHE/suites/$suite" || return
		(
			flock 9
			[ -e "$dir/.complete" ] || unpack_suite "$suite" "$dir" "$@"
		) 9>"$NBDCTL_CACHE/suites/$suite/.lock" >&2 || return
	fi
	echo "$dir"
}

# Each step says "|| exit": the callers test this one's status, which switches errexit off.
unpack_suite() (
	suite=$1 dir=$2
	shift 2
	echo "unpacking from $suite: $*"
	mirror=$(debian_mirror) || exit
	work=$(mktemp -d "$dir.XXXXXX") || exit
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM HUP
	private_apt_config "$work" "$suite" "$mirror" /usr/share/keyrings/debian-archive-keyring.gpg || exit
	export APT_CONFIG=$work/apt.conf
	if ! private_update 2>"$work/errors"; then
		# A suite signed by keys younger than this machine: Debian 13's keyring, itself checked with the
		# machine's keyring, has them.
		if [ "$suite" = trixie ] || ! grep -q -e NO_PUBKEY -e 'not signed' "$work/errors"; then
			cat "$work/errors"
			exit 1
		fi
		keyring=$(unset APT_CONFIG && private_suite trixie debian-archive-keyring) || exit
		private_apt_config "$work" "$suite" "$mirror" "$keyring/usr/share/keyrings/debian-archive-keyring.gpg" || exit
		private_update || exit
	fi
	patient_apt --no-install-recommends --download-only install "$@" >/dev/null || exit
	mkdir -m 755 "$work/tree" || exit
	for deb in "$work"/cache/archives/*.deb; do
		dpkg-deb -x "$deb" "$work/tree" || exit
	done
	basename -a "$work"/cache/archives/*.deb >"$work/tree/.complete" || exit
	rm -rf "$dir" && mv "$work/tree" "$dir"
)

# apt-get update succeeds with warnings when a suite cannot be verified and no older index exists, so ask for errors.
private_update() {
	patient_apt -o APT::Update::Error-Mode=any update >/dev/null
}

# Own state, cache, sources and none of the machine's hooks (apt.conf.d may hold Post-Invoke commands), but its proxies.
# An empty dpkg status makes apt fetch the whole closure, libc included. Signatures are verified, but an index may be past
# its Valid-Until: frozen mirrors (snapshots) are common where tests run, and an old sid serves as well.
# No _apt user, which could not enter a private folder: nothing of the packages is run here, they are only unpacked.
private_apt_config() {
	local work=$1 suite=$2 mirror=$3 keyring=$4
	mkdir -p "$work"/{etc/{apt.conf.d,preferences.d},state/lists/partial,cache/archives/partial}
	: >"$work/status"
	echo "deb [signed-by=$keyring] $mirror $suite main" >"$work/etc/sources.list"
	{
		(unset APT_CONFIG && apt-config dump | grep -E '^Acquire::(https?::|Check-Date)') || true
		cat <<-END
			Dir::Etc "$work/etc";
			Dir::State "$work/state";
			Dir::State::status "$work/status";
			Dir::Cache "$work/cache";
			Dir::Log "$work";
			APT::Sandbox::User "root";
			Acquire::Languages "none";
			Acquire::Check-Valid-Until "false";
		END
	} >"$work/apt.conf"
}

debian_codename() (
	# shellcheck source=/dev/null
	. /etc/os-release
	if [ "${ID:-}" != debian ] || [ -z "${VERSION_CODENAME:-}" ]; then
		echo "this needs a released Debian (12 or newer), not ${PRETTY_NAME:-an unknown system}" >&2
		return 1
	fi
	echo "$VERSION_CODENAME"
)

# The machine's own mirror of the main archive. Label and codename tell it from the security archive and from backports;
# the suite name does not help, it changes with each release (stable, oldstable).
debian_mirror() {
	local codename uri try
	codename=$(debian_codename) || return
	for try in 1 2; do
		# shellcheck disable=SC2016 # these are for apt
		uri=$(unset APT_CONFIG && apt-get indextargets --format '$(LABEL)|$(CODENAME)|$(REPO_URI)' |
			sed -n "s/^Debian|$codename|//p" | sort -u | head -n 1)
		if [ -n "$uri" ]; then
			echo "$uri"
			return 0
		fi
		# a freshly made system has no index yet, and without it no labels
		[ "$try" = 2 ] || patient_apt update >&2 || return
	done
	echo "no apt source of Debian $codename (main archive) on this machine" >&2
	return 1
}
