#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What goes wrong around an attach and a detach: each a clear error, and nothing left. Runs in scripts/lab.
set -uo pipefail
# shellcheck source=tests/kernel/lib.sh
. "$(dirname "$0")/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
uri=nbd://127.0.0.1:10901/
odd=nbd://127.0.0.1:10911/
odd_pid=

odd_server() {
	python3 "$here/odd_server.py" 10911 "$@" &
	odd_pid=$!
	wait_port 10911
}

odd_end() {
	kill "$odd_pid"
	wait "$odd_pid" || true
}

# One export after the other that is no disk; each line: what the server says, and the words of the refusal.
sizes_and_blocks() {
	local settings words
	while IFS='|' read -r settings words; do
		# shellcheck disable=SC2086 # several words
		odd_server $settings
		expect_failure 1 "$words" "$NBDCTL" attach "$odd" nbd0
		same "$(attached)" ""
		odd_end
	done <<-END
		size=0|size is 0
		size=0x8000000000000000|2^63
		size=1000 blocks=512,4096,1048576|not a multiple
		size=1048576 blocks=3,4096,1048576|minimum block size 3
		size=1048576 blocks=512,4096,512|maximum payload
		size=1048576 blocks=512,512,2048|at most 2048 bytes a request
		size=1048576 flags=0|NBD_FLAG_HAS_FLAGS
	END
}

# 64 KiB blocks: beyond what a kernel with 4 KiB pages takes before 6.13 or so; never a wrong device.
blocks_beyond_a_page() {
	odd_server size=1048576 blocks=65536,65536,1048576 then=error
	if "$NBDCTL" attach "$odd" nbd0 2>"$work/err"; then
		same "$(sysfs nbd0/queue/logical_block_size)" 65536
		"$NBDCTL" detach --force nbd0
	else
		cat "$work/err"
		grep -q "block size" "$work/err"
	fi
	odd_end
}

server_that_never_answers_reads() {
	odd_server then=mute
	expect_failure 1 "answers no reads" "$NBDCTL" attach --io-timeout 1 "$odd"
	odd_end
}

server_that_closes() {
	odd_server then=close
	# Seen before the handover or after it; either way a failure, or a device that is down and can be detached.
	"$NBDCTL" attach --io-timeout 2 "$odd" nbd0 || true
	"$NBDCTL" detach --all --force
	odd_end
}

server_with_a_byte_too_many() {
	odd_server then=extra
	if "$NBDCTL" attach --io-timeout 2 "$odd" nbd0 2>"$work/err"; then "$NBDCTL" detach --force nbd0; fi
	odd_end
}

server_that_fails_reads() {
	odd_server then=error
	"$NBDCTL" attach "$odd" nbd0 # the disk is attached; that it is broken shows when it is read
	if dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null; then return 1; fi
	# Its flush fails, so a detach would lose data for all it knows.
	expect_failure 1 "cannot flush" "$NBDCTL" detach nbd0
	[ -e /sys/block/nbd0/pid ]
	"$NBDCTL" detach --force nbd0
	odd_end
}

multi_conn_not_offered() {
	odd_server flags=0x45
	expect_failure 1 "CAN_MULTI_CONN" "$NBDCTL" attach --connections 2 "$odd"
	odd_end
}

connections_to_different_disks() {
	# shellcheck disable=SC2016 # nbdkit's shell expands it
	nbdkit -f -p 10912 eval get_size='n=$(cat '"$work"'/n 2>/dev/null || echo 1); echo $((n + 1)) >'"$work"'/n; echo $((n << 20))' \
		pread='dd if=/dev/zero bs=1 count=$3' can_multi_conn='exit 0' &
	local server=$!
	wait_port 10912
	expect_failure 4 "not the same disk" "$NBDCTL" attach --connections 4 nbd://127.0.0.1:10912/
	kill $server
}

one_client_only() {
	truncate -s 16M "$work/one.img"
	qemu-nbd -t -f raw -r -p 10913 "$work/one.img" &
	local server=$!
	wait_port 10913
	"$NBDCTL" attach --no-agent nbd://127.0.0.1:10913/ nbd0 # auto copes, whatever the server says
	expect_failure 1 "in time" "$NBDCTL" attach --connect-timeout 1 nbd://127.0.0.1:10913/
	"$NBDCTL" detach nbd0
	kill $server
}

already_attached() {
	"$NBDCTL" attach "$uri" nbd2
	expect_failure 1 "nbd2" "$NBDCTL" attach "$uri" nbd2
	same "$("$NBDCTL" list --json | grep -c '"device"')" 1
	"$NBDCTL" detach nbd2
}

not_an_nbd_device() {
	expect_failure 2 "loop0" "$NBDCTL" attach "$uri" loop0
	expect_failure 2 "/dev/null" "$NBDCTL" attach "$uri" /dev/null
	expect_failure 1 "nbd9" "$NBDCTL" detach nbd9
	expect_failure 1 "no nbd device is attached" "$NBDCTL" status
}

no_privileges() {
	expect_failure 1 "CAP_SYS_ADMIN" setpriv --reuid=nobody --clear-groups "$NBDCTL" attach "$uri" nbd0
	"$NBDCTL" attach "$uri" nbd0
	setpriv --reuid=nobody --clear-groups "$NBDCTL" list | grep -q "$uri"
	setpriv --reuid=nobody --clear-groups "$NBDCTL" detach nbd0 && return 1
	[ -e /sys/block/nbd0/pid ]
	"$NBDCTL" detach nbd0
}

run_is_full() {
	mkdir -p /run/nbdctl
	mount -t tmpfs -o size=4k,nr_inodes=2 none /run/nbdctl
	dd if=/dev/zero of=/run/nbdctl/filler bs=4k count=1 status=none
	expect_failure 1 "/run/nbdctl" "$NBDCTL" attach "$uri" nbd0
	umount /run/nbdctl
	rmdir /run/nbdctl
}

stdout_is_full() {
	"$NBDCTL" attach "$uri" >/dev/full && return 1
	same "$(attached)" ""
	"$NBDCTL" attach "$uri" >&- && return 1
	same "$(attached)" ""
}

# A signal at any moment: either the device is attached and told, or nothing is left.
interrupted() {
	local delay pid status
	for delay in 0 0.005 0.01 0.02 0.03 0.04 0.05 0.06 0.08 0.1 0.12 0.15 0.2; do
		for signal in INT TERM; do
			# (a background job of a script ignores SIGINT: undo that)
			python3 -c 'import os,signal,sys; signal.signal(signal.SIGINT, signal.default_int_handler); os.execvp(sys.argv[1], sys.argv[1:])' \
				"$NBDCTL" attach "$uri" nbd0 >"$work/out" 2>/dev/null &
			pid=$!
			sleep "$delay"
			kill -$signal $pid 2>/dev/null || true
			status=0
			wait $pid || status=$?
			if [ $status = 0 ]; then
				same "$(cat "$work/out")" /dev/nbd0
				"$NBDCTL" detach nbd0
			fi
			same "$(attached)" ""
			same "$(ls -A /run/nbdctl 2>/dev/null)" ""
		done
	done
}

holders_are_named() {
	"$NBDCTL" attach "$uri" nbd0
	mkfs.ext4 -q /dev/nbd0
	mkdir -p "$work/mnt"
	mount /dev/nbd0 "$work/mnt"
	expect_failure 1 "mounted on $work/mnt" "$NBDCTL" detach nbd0
	umount "$work/mnt"
	mkswap -q /dev/nbd0
	swapon /dev/nbd0
	expect_failure 1 "swap" "$NBDCTL" detach nbd0
	swapoff /dev/nbd0
	# shellcheck disable=SC2217 # that it is open is the point
	sleep 60 </dev/nbd0 &
	local sleeper=$!
	expect_failure 1 "sleep (pid $sleeper)" "$NBDCTL" detach nbd0
	kill $sleeper
	wait $sleeper || true
	"$NBDCTL" detach nbd0
}

device_mapper_holds() {
	modprobe -q dm-mod || true
	[ -e /dev/mapper/control ] || { echo "no device mapper in this kernel"; return 1; }
	"$NBDCTL" attach "$uri" nbd0
	echo "0 2048 linear /dev/nbd0 0" | dmsetup create --noudevsync held
	expect_failure 1 "held" "$NBDCTL" detach nbd0
	dmsetup remove --noudevsync held
	"$NBDCTL" detach nbd0
}

forced_while_mounted() {
	"$NBDCTL" attach "$uri" nbd0
	mkfs.ext4 -q /dev/nbd0
	mkdir -p "$work/mnt"
	mount /dev/nbd0 "$work/mnt"
	"$NBDCTL" detach --force nbd0 || true # disconnected, but the mount keeps the kernel from letting go
	[ ! -e /run/nbdctl/nbd0.json ]
	umount "$work/mnt"
	for _ in $(seq 50); do [ -e /sys/block/nbd0/pid ] || return 0; sleep 0.1; done
	return 1
}

# The server goes away under a device with unwritten data: detach says so and keeps it, --force ends it.
server_lost_with_dirty_pages() {
	truncate -s 16M "$work/lost.img"
	qemu-nbd -t -f raw -e 8 -p 10914 "$work/lost.img" &
	local server=$!
	wait_port 10914
	"$NBDCTL" attach --dead-timeout 0 nbd://127.0.0.1:10914/ nbd0
	dd if=/dev/urandom of=/dev/nbd0 bs=1M count=1 conv=nocreat status=none
	kill -9 $server
	wait $server || true
	sleep 0.2
	"$NBDCTL" list | grep -q " down "
	expect_failure 1 "cannot flush" "$NBDCTL" detach nbd0
	"$NBDCTL" detach --force nbd0
}

# I/O that waits for a lost server (for ever, here) must not make detach hang.
detach_of_a_waiting_device() {
	truncate -s 16M "$work/wait.img"
	qemu-nbd -t -f raw -e 8 -p 10915 "$work/wait.img" &
	local server=$!
	wait_port 10915
	"$NBDCTL" attach --dead-timeout forever nbd://127.0.0.1:10915/ nbd0
	dd if=/dev/urandom of=/dev/nbd0 bs=1M count=1 conv=nocreat status=none
	kill -9 $server
	wait $server || true
	expect_failure 1 "in time" "$NBDCTL" detach --timeout 1 nbd0
	[ -e /sys/block/nbd0/pid ]
	timeout 20 "$NBDCTL" detach --force --timeout 1 nbd0
}

# The window of a slow flush: who opens the device in it is found, and nothing is disconnected under a writer.
writer_during_the_flush() {
	odd_server then=store slowflush=3
	"$NBDCTL" attach "$odd" nbd0
	dd if=/dev/urandom of=/dev/nbd0 bs=4k count=1 conv=nocreat,notrunc status=none
	"$NBDCTL" detach nbd0 2>"$work/err" &
	local detach=$! status=0
	sleep 1
	(dd if=/dev/urandom of=/dev/nbd0 bs=4k seek=8 count=1 conv=nocreat,notrunc status=none && sleep 5) >>/dev/nbd0 &
	local writer=$!
	wait $detach || status=$?
	cat "$work/err"
	same $status 1
	grep -q "in use" "$work/err"
	[ -e /sys/block/nbd0/pid ]
	wait $writer
	"$NBDCTL" detach nbd0
	odd_end
}

# The kernel tells of a failed write-back once; we remember.
failed_flush_is_remembered() {
	odd_server then=store failwrite=1
	"$NBDCTL" attach "$odd" nbd0
	dd if=/dev/urandom of=/dev/nbd0 bs=4k count=1 conv=nocreat,notrunc status=none
	expect_failure 1 "cannot flush" "$NBDCTL" detach nbd0
	expect_failure 1 "cannot flush" "$NBDCTL" detach nbd0
	expect_failure 1 "cannot flush" "$NBDCTL" detach --all
	[ -e /sys/block/nbd0/pid ]
	"$NBDCTL" detach --force nbd0
	"$NBDCTL" attach "$odd" nbd0
	"$NBDCTL" detach nbd0 # another attach, nothing of the old one
	odd_end
}

# DISCONNECT itself blocks in the kernel while the server reads nothing; detach must not.
server_that_stops_reading() {
	odd_server then=deaf "deafen=$work/deaf" size=67108864
	"$NBDCTL" attach "$odd" nbd0
	: >"$work/deaf"
	dd if=/dev/zero of=/dev/nbd0 bs=1M count=32 conv=nocreat,notrunc oflag=direct status=none 2>/dev/null &
	local writer=$! status=0
	sleep 2
	SECONDS=0
	timeout -s KILL 40 "$NBDCTL" detach --force --timeout 1 nbd0 || status=$?
	[ $SECONDS -lt 25 ]
	[ $status -lt 2 ]
	odd_end # (whatever was stuck comes loose)
	wait $writer || true
	for _ in $(seq 100); do [ -e /sys/block/nbd0/pid ] || break; sleep 0.1; done
	same "$(attached)" ""
	rm -rf /run/nbdctl/* "$work/deaf"
}

# With several connections the driver would kill a slow server's after 30 s; not where nobody would bring them back.
several_connections_are_patient() {
	"$NBDCTL" attach --no-agent --connections 2 "$uri" nbd0
	same "$(sysfs nbd0/queue/io_timeout)" 86400000
	"$NBDCTL" detach nbd0
}

# What stands at /dev/nbdX need not be the device.
another_thing_at_the_node() {
	local node
	for node in file other; do
		rm -f /dev/nbd5
		if [ $node = file ]; then : >/dev/nbd5; else mknod /dev/nbd5 b "$(stat -c '%t' /dev/nbd6 | sed 's/^/0x/')" "$(printf '%d' "0x$(stat -c '%T' /dev/nbd6)")"; fi
		expect_failure 1 "is not the device" "$NBDCTL" attach "$uri" nbd5
		same "$(attached)" ""
	done
	rm -f /dev/nbd5
	mknod /dev/nbd5 b "$(cut -d: -f1 /sys/block/nbd5/dev)" "$(cut -d: -f2 /sys/block/nbd5/dev)"
	"$NBDCTL" attach "$uri" nbd5
	"$NBDCTL" detach nbd5
}

# Not being able to look for holders is not having found none.
without_proc() {
	"$NBDCTL" attach "$uri" nbd0
	# shellcheck disable=SC2016 # the inner shell expands it
	unshare -m sh -c 'mount -t tmpfs none /proc; "$0" detach nbd0 && exit 1; exit 0' "$NBDCTL"
	[ -e /sys/block/nbd0/pid ]
	"$NBDCTL" detach nbd0
}

sizes_that_are_no_sectors() {
	odd_server size=100 then=store
	expect_failure 1 "less than a sector" "$NBDCTL" attach "$odd" nbd0
	odd_end
	odd_server size=1000 then=store
	"$NBDCTL" attach --json "$odd" nbd0 >"$work/out" 2>"$work/err"
	grep -q "last 488 bytes" "$work/err"
	grep -q '"size":512' "$work/out"
	"$NBDCTL" detach nbd0
	odd_end
}

interrupted_detach_is_not_done() {
	local i pid status
	for i in 0 1 2 3 4 5; do "$NBDCTL" attach "$uri" "nbd$i"; done
	"$NBDCTL" detach nbd0 nbd1 nbd2 nbd3 nbd4 nbd5 &
	pid=$!
	while [ "$(attached | wc -l)" = 6 ]; do :; done
	kill -TERM $pid 2>/dev/null || true # it may be done already
	status=0
	wait $pid || status=$?
	if [ -n "$(attached)" ]; then [ $status != 0 ]; fi
	"$NBDCTL" detach --all
}

# Two that take turns on one index: neither waits for the other's attach to end, nor removes its state.
successor_on_the_same_index() {
	local i other
	for i in $(seq 6); do
		"$NBDCTL" attach "$uri" nbd0
		(until "$NBDCTL" -q attach "$uri" nbd0 2>/dev/null; do :; done) &
		other=$!
		SECONDS=0
		"$NBDCTL" detach nbd0
		[ $SECONDS -lt 8 ]
		wait $other
		"$NBDCTL" list | grep -q "$uri"
		"$NBDCTL" detach nbd0
	done
}

serve 10901 nbdkit -f -p 10901 memory 64M

t "sizes and block sizes that no disk has" sizes_and_blocks
t "blocks of 64 KiB" blocks_beyond_a_page
t "a server that never answers reads" server_that_never_answers_reads
t "a server that closes after the negotiation" server_that_closes
t "a server that sends a byte too many" server_with_a_byte_too_many
t "a server that fails all requests" server_that_fails_reads
t "several connections where the server does not offer it" multi_conn_not_offered
t "connections that reach different disks: exit status 4" connections_to_different_disks
t "a server for one client" one_client_only
t "already attached" already_attached
t "not an nbd device, not attached" not_an_nbd_device
t "no privileges" no_privileges
t "/run is full" run_is_full
t "stdout cannot be written" stdout_is_full
t "interrupted at any moment" interrupted
t "holders are named" holders_are_named
t "device mapper" device_mapper_holds
t "--force while mounted" forced_while_mounted
t "the server is lost with data unwritten" server_lost_with_dirty_pages
t "detach of a device that waits for ever" detach_of_a_waiting_device
t "somebody writes while detach flushes" writer_during_the_flush
t "a failed flush is remembered" failed_flush_is_remembered
t "a server that stops reading" server_that_stops_reading
t "several connections are patient" several_connections_are_patient
t "another thing at the device's node" another_thing_at_the_node
t "detach without /proc" without_proc
t "sizes that are no sectors" sizes_that_are_no_sectors
t "an interrupted detach of several is not done" interrupted_detach_is_not_done
t "a successor on the same index" successor_on_the_same_index
finish
