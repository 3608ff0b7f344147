#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Checks scripts/lab itself: a test that runs in a lab is worth what the lab's exit status and output are worth.
# usage: lab-selftest.sh [6.1|6.12|newest|tcg]...     (default: all user-mode-linux kernels)
# shellcheck disable=SC2016 # many of the strings are code for a shell in the guest, or for all()
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
work=$(mktemp -d "${TMPDIR:-/tmp}/lab-selftest.XXXXXX")
mkdir "$work/tmp"
trap 'rm -rf "$work"' EXIT
failures=0
kernel=''

# A TMPDIR of our own shows what a lab leaves behind, and marks its processes: they carry its name in their arguments.
lab() {
	local options=(--kernel "$kernel")
	[ "$kernel" != tcg ] || options=(--tcg)
	TMPDIR=$work/tmp exec "$root/scripts/lab" "${options[@]}" "$@"
}

# lab's output into files: what, out, err; the status into $status
run_lab() {
	status=0
	(lab "$@") >"$work/out" 2>"$work/err" || status=$?
}

check() {
	local name=$1
	shift
	if "$@"; then
		echo "ok $kernel: $name"
	else
		echo "not ok $kernel: $name"
		tail -n 60 "$work/err" | sed 's/^/# /'
		failures=$((failures + 1))
	fi
}

is_status() { [ "$status" = "$1" ] || { echo "# status $status, expected $1" && false; }; }
says() { grep -q -e "$2" "$work/$1"; }
all() {
	local each
	for each in "$@"; do eval "$each" || return; done
}

nothing_left() {
	# what was killed may take a moment to die
	sleep 0.5
	local cmdline left=0
	for cmdline in /proc/[0-9]*/cmdline; do
		if grep -a -q -s -F "$work/tmp/" "$cmdline"; then
			echo "# still running: $cmdline"
			left=1
		fi
	done
	if [ -n "$(ls -A "$work/tmp")" ]; then
		echo "# left in TMPDIR: $(ls -A "$work/tmp")"
		left=1
	fi
	[ $left = 0 ]
}

statuses() {
	run_lab true
	check 'status 0' all 'is_status 0' '[ ! -s $work/out ]' '[ ! -s $work/err ]'
	run_lab sh -c 'exit 7'
	check 'status 7' is_status 7
	run_lab sh -c 'kill -TERM $$; sleep 5'
	check 'death by a signal is 143' is_status 143
	run_lab /nonexistent/program
	check 'no such program is 2' is_status 2
}

output() {
	cat >"$work/write" <<-'END'
		#!/bin/bash
		for i in $(seq 0 255); do printf "\\x$(printf %x "$i")"; done
		seq 1 160000
		printf 'no newline at the end'
		seq 5 | tr '\n' '\r' >&2
	END
	chmod +x "$work/write"
	"$work/write" >"$work/expected" 2>"$work/expected.err"
	run_lab "$work/write"
	check '1 MB and every byte value on stdout' all 'is_status 0' 'cmp $work/out $work/expected'
	check 'stderr apart from stdout' cmp "$work/err" "$work/expected.err"
	run_lab --env "A=it's \$HOME
two" bash -c 'printf "%s|" "$A" "$PWD" "$@"; [ ! -t 1 ] && ! read' x 'a  b' "'" ''
	check 'variables, arguments, cwd / and no stdin' all 'is_status 0' \
		"[ \"\$(cat \$work/out)\" = \"it's \\\$HOME
two|/|a  b|'||\" ]"
	status=0
	(lab sh -c 'seq 1 200000; seq 1 3 >&2' | head -n 1; exit "${PIPESTATUS[0]}") >"$work/out" 2>"$work/err" || status=$?
	check 'a reader that leaves early does not matter' all 'is_status 0' 'says err 3'
	run_lab sh -c 'echo early; sleep 300 & sleep 0.2'
	check 'a process left behind does not matter' all 'is_status 0' 'says out early'
}

live_output() {
	local line started
	mkfifo "$work/live"
	(lab sh -c 'echo first; sleep 4') >"$work/live" 2>"$work/err" &
	started=$!
	read -r line <"$work/live" || line=''
	check 'output comes as it is written' all "[ '$line' = first ]" "kill -0 $started"
	status=0
	wait $started || status=$?
	rm "$work/live"
}

interruption() {
	local signal expected line started
	for signal in TERM INT HUP; do
		case $signal in TERM) expected=143 ;; INT) expected=130 ;; HUP) expected=129 ;; esac
		mkfifo "$work/live"
		# a shell starts background commands with SIGINT ignored
		(TMPDIR=$work/tmp exec env --default-signal=INT "$root/scripts/lab" \
			"$([ "$kernel" = tcg ] && echo --tcg || echo "--kernel=$kernel")" \
			sh -c 'sleep 100 & sleep 100 & echo running; wait') >"$work/live" 2>"$work/err" &
		started=$!
		read -r line <"$work/live" || line=''
		kill -"$signal" $started
		status=0
		wait $started || status=$?
		check "interrupted by $signal" all "[ '$line' = running ]" "is_status $expected" nothing_left
		rm "$work/live"
	done
}

failing_guests() {
	SECONDS=0
	run_lab --timeout "$1" sh -c 'sleep 1000 & sleep 1000'
	check 'a hang is 124, in time' all 'is_status 124' "[ $SECONDS -le $(($1 + 6)) ]" nothing_left
	run_lab sh -c 'echo 1 >/proc/sys/kernel/panic_on_oops; echo c >/proc/sysrq-trigger; sleep 60'
	check 'a panic is 125 and is shown' all 'is_status 125' 'says err "Kernel panic"' nothing_left
	run_lab sh -c 'echo "<3>BUG: said by the selftest" >/dev/kmsg; exit 3'
	check 'a BUG is 126 and is shown' all 'is_status 126' 'says err "BUG: said by"'
	run_lab sh -c 'echo "<4>WARNING: said by the selftest" >/dev/kmsg; exit 3'
	check 'a WARNING is shown' all 'is_status 3' 'says err "WARNING: said by"'
}

modules() {
	run_lab sh -c '[ ! -e /sys/module/nbd ] && [ ! -e /dev/nbd0 ] && modprobe nbd nbds_max=64 && [ -b /dev/nbd63 ] &&
		modprobe tls && modprobe -r nbd && [ ! -e /sys/module/nbd ]'
	check 'nbd is absent, and modprobe brings it' is_status 0
}

folders() {
	mkdir -p "$work/shared"
	run_lab --share "$work/shared" --scratch 20G sh -c '
		echo from the guest >$1/file && touch /etc/x /usr/x /tmp/x /run/x && truncate -s 100G /tmp/sparse &&
		[ "$(stat -f -c %T /scratch)" = ext2/ext3 ] && dd if=/dev/zero of=/scratch/x bs=1M count=100 conv=fsync' x "$work/shared"
	check 'writable folders' all 'is_status 0' '[ "$(cat $work/shared/file)" = "from the guest" ]' \
		'[ ! -e /etc/x ]' '[ ! -e /usr/x ]' nothing_left
	check '/tmp is empty but for what the job needs' two_labs
}

# each writes a name of its own, into the folder that the other one uses too
two_labs() {
	local one two
	(lab sh -c 'echo one >/tmp/x; sleep 1; cat /tmp/x') >"$work/one" 2>"$work/err" &
	one=$!
	(lab sh -c 'echo two >/tmp/x; sleep 1; cat /tmp/x') >"$work/two" 2>"$work/err" &
	two=$!
	wait $one && wait $two && [ "$(cat "$work/one" "$work/two")" = $'one\ntwo' ] && nothing_left
}

[ $# -gt 0 ] || set -- 6.1 6.12 newest
for kernel in "$@"; do
	statuses
	output
	live_output
	interruption
	failing_guests "$([ "$kernel" = tcg ] && echo 60 || echo 6)"
	modules
	folders
done
echo "# $failures failed"
[ $failures = 0 ]
