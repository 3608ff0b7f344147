#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The agent: servers that restart, hang, vanish, change or move under a busy device; agents that die. Runs in scripts/lab.
set -uo pipefail
# shellcheck source=tests/kernel/lib.sh
. "$(dirname "$0")/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
rounds=${AGENT_ROUNDS:-5}
port=10941
uri=nbd://127.0.0.1:$port/
psk=$work/psk
tls_uri="nbds://alice@127.0.0.1:$port/?tls-psk-file=$psk/keys.psk"
server=

mkdir -p "$psk" "$work/mnt"
(umask 077 && echo "alice:$(head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n')" >"$psk/keys.psk")

# start_server [OPTION...]: qemu-nbd on the image, as often as a test likes
start_server() {
	qemu-nbd -t -f raw -e 16 -p $port "$@" "$work/disk.img" 2>>"$work/server.log" &
	server=$!
	wait_port $port
}

start_tls_server() {
	start_server --object "tls-creds-psk,id=t,endpoint=server,dir=$psk" --tls-creds t
}

# At once, as when its machine loses power.
kill_server() {
	kill -9 "$server" 2>/dev/null || true
	wait "$server" 2>/dev/null || true
}

# Every test ends with no server and no device, whatever became of it.
clean() {
	local pid
	kill_server
	for pid in $(jobs -p); do kill -9 "$pid" 2>/dev/null || true; done
	umount "$work/mnt" 2>/dev/null || true
	swapoff /dev/nbd0 2>/dev/null || true
	umount "$work/cgroup" 2>/dev/null || true
	"$NBDCTL" -q detach --all --force --timeout 1 2>/dev/null || true
	tc qdisc del dev lo root 2>/dev/null || true
}

# test NAME FUNCTION: in a fresh image, and with everything cleaned up behind it
a() {
	local name=$1
	shift
	[[ $name =~ ${AGENT_ONLY:-} ]] || return 0
	truncate -s 0 "$work/disk.img"
	truncate -s 64M "$work/disk.img"
	wrapped() { trap clean EXIT; "$@"; }
	t "$name" wrapped "$@"
}

field() {
	"$NBDCTL" status --json "${2:-nbd0}" | python3 -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}

# until_field NAME VALUE [TRIES]: waits for what status says
until_field() {
	local i
	for i in $(seq "${3:-200}"); do
		[ "$(field "$1")" = "$2" ] && return 0
		sleep 0.1
	done
	echo "$1 is $(field "$1"), not $2, after $i tries"
	"$NBDCTL" status nbd0
	return 1
}

agent_pid() {
	python3 -c 'import json; print(json.load(open("/run/nbdctl/nbd0.json"))["agent_pid"])'
}

# busy SECONDS [OPTION...]
busy() {
	local seconds=$1
	shift
	fio --name=busy --filename=/dev/nbd0 --rw=randrw --bs=4k --size=16M --iodepth=16 --ioengine=libaio --direct=1 \
		--verify=crc32c --verify_fatal=1 --verify_backlog=64 --time_based --runtime="$seconds" "$@" --minimal >"$work/fio.log" 2>&1
}

# restarts START COUNT ATTACH-ARGUMENT...: the server dies and returns under fio, which notices nothing
restarts() {
	local start=$1 count=$2 fio i
	shift 2
	$start
	"$NBDCTL" attach "$@" nbd0
	busy $((4 + count * 3)) &
	fio=$!
	sleep 1
	for i in $(seq "$count"); do
		kill_server
		sleep 0.$((RANDOM % 9))
		$start
		until_field connections_up "$(field connections)"
		sleep 1.$((RANDOM % 9))
	done
	wait $fio || { cat "$work/fio.log"; return 1; }
	[ "$(field reconnects)" -ge "$count" ]
	until_field state up
	"$NBDCTL" detach nbd0
}

# A journalling file system and a writer that syncs: neither sees an error, and all is there afterwards.
file_system() {
	local kind=$1 writer i
	truncate -s 320M "$work/disk.img"
	start_tls_server
	"$NBDCTL" attach --ktls=require "$tls_uri" nbd0
	"mkfs.$kind" -q /dev/nbd0
	mount /dev/nbd0 "$work/mnt"
	(for i in $(seq 60); do
		head -c 65536 /dev/urandom | tee "$work/mnt/$i" | sha256sum >"$work/sum.$i"
		sync "$work/mnt/$i"
		sleep 0.1
	done) &
	writer=$!
	sleep 1
	kill_server
	sleep 3
	start_tls_server
	wait $writer
	umount "$work/mnt"
	[ "$(field reconnects)" = 1 ]
	mount -o ro /dev/nbd0 "$work/mnt"
	for i in $(seq 60); do same "$(sha256sum <"$work/mnt/$i")" "$(cat "$work/sum.$i")"; done
	umount "$work/mnt"
	if [ "$kind" = ext4 ]; then e2fsck -fn /dev/nbd0; else xfs_repair -n /dev/nbd0; fi
	"$NBDCTL" detach nbd0
}

# It answers nothing for a minute, and then everything.
stopped_server() {
	local fio
	start_server
	"$NBDCTL" attach "$uri" nbd0
	busy 70 &
	fio=$!
	sleep 1
	kill -STOP "$server"
	sleep 60
	kill -CONT "$server"
	wait $fio || { cat "$work/fio.log"; return 1; }
	"$NBDCTL" detach nbd0
}

# A reply that takes 20 s is late, not lost: one connection is left alone.
slow_server() {
	python3 "$here/odd_server.py" 10942 then=store slowflush=20 size=67108864 &
	wait_port 10942
	"$NBDCTL" attach nbd://127.0.0.1:10942/ nbd0
	dd if=/dev/urandom of=/dev/nbd0 bs=4k count=1 conv=nocreat,notrunc,fsync status=none
	same "$(field reconnects)" 0
	kill -9 $! # (not another 20 s)
	"$NBDCTL" detach --force --timeout 1 nbd0
}

# Nothing arrives on either side, and nobody is told so.
lost_packets() {
	local fio
	start_server
	"$NBDCTL" attach "$uri" nbd0
	busy 60 &
	fio=$!
	sleep 1
	tc qdisc add dev lo root netem loss 100%
	sleep "$1"
	tc qdisc del dev lo root
	wait $fio || { cat "$work/fio.log"; return 1; }
	until_field state up
	"$NBDCTL" detach nbd0
}

# A reply breaks off in its middle: the read is done again on the next connection, and nobody sees it.
cut_replies() {
	local i
	python3 "$here/odd_server.py" 10942 then=store cut=60 size=67108864 &
	wait_port 10942
	"$NBDCTL" attach nbd://127.0.0.1:10942/ nbd0
	dd if=/dev/urandom of="$work/data" bs=1M count=16 status=none
	dd if="$work/data" of=/dev/nbd0 bs=64k conv=nocreat,notrunc,fsync status=none
	for i in 1 2; do
		echo 3 >/proc/sys/vm/drop_caches
		dd if=/dev/nbd0 bs=64k count=256 iflag=direct status=none | cmp - "$work/data"
	done
	[ "$(field reconnects)" -ge 5 ]
	"$NBDCTL" detach nbd0
}

another_disk_comes_back() {
	local watch status=0
	start_server
	"$NBDCTL" attach "$uri" nbd0
	dd if=/dev/urandom of=/dev/nbd0 bs=4k count=1 conv=nocreat,notrunc,fsync status=none
	sum=$(dd if=/dev/nbd0 bs=4k count=1 iflag=direct status=none | sha256sum)
	"$NBDCTL" watch nbd0 >"$work/watch" 2>&1 &
	watch=$!
	kill_server
	mv "$work/disk.img" "$work/right.img"
	truncate -s 32M "$work/disk.img"
	start_server
	wait $watch || status=$?
	cat "$work/watch"
	same $status 4
	grep -q "not the same disk" "$work/watch"
	same "$(field state)" reconnecting
	[[ "$(field last_error)" == *"not the same disk"* ]]
	kill_server
	mv "$work/right.img" "$work/disk.img"
	start_server
	until_field state up
	same "$(dd if=/dev/nbd0 bs=4k count=1 iflag=direct status=none | sha256sum)" "$sum"
	"$NBDCTL" detach nbd0
}

longer_than_the_dead_timeout() {
	start_server
	"$NBDCTL" attach --dead-timeout 2 "$uri" nbd0
	kill_server
	if timeout 60 dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct status=none; then return 1; fi
	until_field state down
	start_server
	until_field state up
	dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct status=none
	"$NBDCTL" detach nbd0
}

# Two servers of one file; the second takes over, and the first again.
fail_over() {
	local other
	start_server --image-opts driver=raw,file.driver=file,file.locking=off,file.filename="$work/disk.img" 2>/dev/null || true
	kill_server
	serve_unlocked $port
	server=${servers[-1]}
	serve_unlocked 10943
	other=${servers[-1]}
	"$NBDCTL" attach "$uri" nbd://127.0.0.1:10943/ nbd0
	same "$(field uri)" "$uri"
	"$NBDCTL" watch --json nbd0 >"$work/watch" 2>&1 &
	sleep 1
	dd if=/dev/urandom of=/dev/nbd0 bs=4k count=64 conv=nocreat,notrunc,fsync status=none
	sum=$(dd if=/dev/nbd0 bs=4k count=64 iflag=direct status=none | sha256sum)
	kill_server
	until_field uri nbd://127.0.0.1:10943/
	same "$(dd if=/dev/nbd0 bs=4k count=64 iflag=direct status=none | sha256sum)" "$sum"
	serve_unlocked $port
	kill -9 "$other"
	until_field uri "$uri"
	same "$(dd if=/dev/nbd0 bs=4k count=64 iflag=direct status=none | sha256sum)" "$sum"
	grep -q '"event":"link-up".*10943' "$work/watch"
	"$NBDCTL" detach nbd0
}

serve_unlocked() {
	qemu-nbd -t -e 16 -p "$1" --image-opts "driver=raw,file.driver=file,file.locking=off,file.filename=$work/disk.img" &
	servers+=($!)
	wait_port "$1"
}

# I/O goes on without it; the same command brings another one, which touches nothing, and does the same work.
agent_is_killed() {
	local fio first
	start_server
	"$NBDCTL" attach "$@" nbd0
	first=$(agent_pid)
	busy 12 &
	fio=$!
	sleep 1
	kill -9 "$first"
	sleep 1
	kill -0 $fio
	same "$(field state)" up
	same "$("$NBDCTL" attach "$@")" /dev/nbd0
	[ "$(agent_pid)" != "$first" ]
	kill_server
	sleep 1
	start_server
	wait $fio || { cat "$work/fio.log"; return 1; }
	until_field connections_up "$(field connections)"
	"$NBDCTL" detach nbd0
}

# While it tries, and right after it was told to end.
agent_is_killed_in_an_outage() {
	local fio pid signal
	start_server
	"$NBDCTL" attach "$uri" nbd0
	busy 15 &
	fio=$!
	for signal in KILL TERM; do
		sleep 1
		kill_server
		sleep 0.$((RANDOM % 9))
		pid=$(agent_pid)
		kill -$signal "$pid"
		while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
		start_server
		sleep 0.5
		same "$("$NBDCTL" attach "$uri" nbd0)" /dev/nbd0
		until_field connections_up 1
	done
	wait $fio || { cat "$work/fio.log"; return 1; }
	"$NBDCTL" detach nbd0
}

detach_without_the_agent() {
	start_server
	"$NBDCTL" attach "$uri" nbd0
	kill -9 "$(agent_pid)"
	"$NBDCTL" detach nbd0
	# and while one is trying to reconnect
	"$NBDCTL" attach "$uri" nbd0
	kill_server
	sleep 0.5
	timeout 20 "$NBDCTL" detach --force --timeout 1 nbd0
	same "$(attached)" ""
}

# A server that takes less than the kernel's default for a request, and says so.
small_requests() {
	python3 "$here/odd_server.py" 10942 then=store size=67108864 blocks=512,4096,262144 cut=10 &
	wait_port 10942
	"$NBDCTL" attach nbd://127.0.0.1:10942/ nbd0
	dd if=/dev/nbd0 of=/dev/null bs=64k count=32 iflag=direct status=none
	[ "$(field reconnects)" -ge 1 ]
	"$NBDCTL" detach nbd0
}

# The socket of another user, as libvirt's and nbdkit's are.
socket_of_another_user() {
	local socket=$work/other/nbd.sock
	mkdir -p "$work/other"
	chmod 755 "$work"
	chown nobody "$work/other"
	start_other() {
		setpriv --reuid=nobody --clear-groups nbdkit -f -U "$socket" memory 16M &
		server=$!
		wait_socket "$socket"
		chmod 755 "$socket"
	}
	start_other
	"$NBDCTL" attach "nbd+unix:///?socket=$socket" nbd0
	kill_server
	rm -f "$socket"
	start_other
	until_field state up
	[ "$(field reconnects)" = 1 ]
	dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct status=none
	"$NBDCTL" detach nbd0
}

# Two connections before, one client allowed after: one is better than none.
fewer_clients() {
	start_server_for_all
	"$NBDCTL" attach --connections 2 "$uri" nbd0
	kill_server
	nbdkit -f -p $port --filter=limit memory 64M limit=1 &
	server=$!
	wait_port $port
	until_field connections_up 1
	dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct status=none
	same "$(field state)" up
	"$NBDCTL" detach nbd0
}

adopts_only_what_was_asked_for() {
	start_server
	"$NBDCTL" attach "$uri" nbd0
	kill -9 "$(agent_pid)"
	expect_failure 1 "writable" "$NBDCTL" attach --read-only "$uri" nbd0
	same "$("$NBDCTL" attach "$uri")" /dev/nbd0
	"$NBDCTL" detach nbd0
}

# Attached twice it would be two devices, neither aware of the other's writes.
attach_was_killed() {
	start_server
	"$NBDCTL" attach --no-agent "$uri" nbd3
	rm /run/nbdctl/nbd3.json # as if it had not come so far
	expect_failure 1 "/dev/nbd3" "$NBDCTL" attach "$uri"
	"$NBDCTL" detach nbd3
	"$NBDCTL" attach "$uri" nbd0
	"$NBDCTL" detach nbd0
}

# Under a service manager: told when it is ready; told to end it leaves the device, which the next start finds.
foreground() {
	local manager agent status=0
	start_server
	python3 - "$work/notify" >"$work/notified" <<-'END' &
		import socket, sys
		s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		s.bind(sys.argv[1])
		for _ in range(2):
		    print(s.recv(100).decode(), flush=True)
	END
	manager=$!
	wait_socket "$work/notify"
	for _ in 1 2; do
		NOTIFY_SOCKET=$work/notify "$NBDCTL" attach --foreground "$uri" nbd0 >"$work/out" 2>"$work/err" &
		agent=$!
		for _ in $(seq 100); do
			[ -s "$work/notified" ] && [ "$(agent_pid)" = $agent ] && break
			sleep 0.1
		done
		same "$(cat "$work/out")" /dev/nbd0
		same "$(agent_pid)" $agent
		kill -TERM $agent
		wait $agent || status=$?
		same $status 0
		dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct status=none
		same "$("$NBDCTL" list --json | grep -c '"agent_pid": null')" 1
	done
	wait $manager
	same "$(sort -u "$work/notified")" READY=1
	# detached from outside it ends by itself
	"$NBDCTL" attach --foreground "$uri" nbd0 >/dev/null 2>&1 &
	agent=$!
	until [ "$(agent_pid)" = $agent ]; do sleep 0.1; done
	until_field state up
	"$NBDCTL" detach nbd0
	wait $agent
}

children_are_ignored() {
	start_server
	python3 -c 'import os,signal,sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])' \
		"$NBDCTL" attach "$uri" nbd0
	"$NBDCTL" detach nbd0
}

# Told to end while it cannot write what it knows: the next one finds out by itself.
state_cannot_be_written() {
	start_server
	"$NBDCTL" attach "$uri" nbd0
	cp /run/nbdctl/nbd0.json "$work/stale.json"
	kill_server
	start_server
	until_field reconnects 1
	kill "$(agent_pid)"
	while agent_lives_yet; do sleep 0.05; done
	cp "$work/stale.json" /run/nbdctl/nbd0.json # as if the last one had not been written
	"$NBDCTL" attach "$uri" nbd0
	sleep 1
	kill_server
	start_server
	timeout 60 dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct status=none
	until_field state up
	"$NBDCTL" detach nbd0
}

agent_lives_yet() {
	[ "$(cat "/proc/$(agent_pid)/comm" 2>/dev/null)" = nbdctl-agent ]
}

# Growth is told to the kernel, in the midst of I/O; to shrink is to be another disk.
grows() {
	local fio
	start_server
	"$NBDCTL" attach "$uri" nbd0
	busy 6 &
	fio=$!
	sleep 1
	kill_server
	truncate -s 128M "$work/disk.img"
	start_server
	until_field size $((128 << 20))
	same "$(blockdev --getsize64 /dev/nbd0)" $((128 << 20))
	wait $fio || { cat "$work/fio.log"; return 1; }
	dd if=/dev/urandom of=/dev/nbd0 bs=1M seek=100 count=1 conv=nocreat,notrunc,fsync status=none
	"$NBDCTL" detach nbd0
}

# The server is asked now and then, and none of its connections is touched.
grows_while_up() {
	# shellcheck disable=SC2016 # nbdkit's shell expands it
	nbdkit -f -p 10945 eval get_size="cat $work/size" pread='dd if=/dev/zero count=$3 iflag=count_bytes status=none' &
	echo 16777216 >"$work/size"
	wait_port 10945
	"$NBDCTL" attach --poll-interval 500ms nbd://127.0.0.1:10945/ nbd0
	"$NBDCTL" watch nbd0 >"$work/watch" &
	echo 33554432 >"$work/size"
	until_field size 33554432
	same "$(field reconnects)" 0
	sleep 0.5
	grep -q "resized from 16777216 to 33554432" "$work/watch"
	"$NBDCTL" detach nbd0
}

# Memory that was written to the disk is needed while its server is away: the agent must do without any of it.
swap_under_pressure() {
	local hog
	truncate -s 256M "$work/disk.img"
	start_server
	"$NBDCTL" attach --swap "$uri" nbd0
	[ "$(head -c 1 "/proc/$(agent_pid)/cmdline")" = @ ]
	mkswap -q /dev/nbd0
	swapon /dev/nbd0
	mkdir -p "$work/cgroup"
	mount -t cgroup2 none "$work/cgroup"
	echo +memory >"$work/cgroup/cgroup.subtree_control"
	mkdir "$work/cgroup/hog"
	echo 48M >"$work/cgroup/hog/memory.max"
	(
		echo $BASHPID >"$work/cgroup/hog/cgroup.procs"
		exec python3 -c '
import hashlib, os
blocks = [os.urandom(1 << 20) for _ in range(96)]
sums = [hashlib.sha256(block).digest() for block in blocks]
for _ in range(2):
    for block, digest in zip(blocks, sums):
        assert hashlib.sha256(block).digest() == digest'
	) &
	hog=$!
	for _ in $(seq 300); do
		[ "$(awk '/nbd0/ { print ($4 > 1024) }' /proc/swaps)" = 1 ] && break
		sleep 0.1
	done
	kill_server
	sleep 2
	kill -0 $hog
	start_server
	wait $hog
	same "$(field reconnects)" 1
	swapoff /dev/nbd0
	rmdir "$work/cgroup/hog"
	umount "$work/cgroup"
	"$NBDCTL" detach nbd0
}

# call METHOD: of the agent's socket
call() {
	python3 - "$1" <<-'END'
		import socket, sys
		s = socket.socket(socket.AF_UNIX)
		s.connect("/run/nbdctl/nbd0.varlink")
		s.sendall(b'{"method":"io.nbdctl.Device.%s"}\0' % sys.argv[1].encode())
		assert s.recv(4096).startswith(b'{"parameters":{}}'), "no answer"
	END
}

# A moment without I/O is waited for.
until_renewed() {
	for _ in $(seq 100); do
		"$NBDCTL" status --json nbd0 | python3 -c '
import json, sys
old, new = json.loads(sys.argv[1])["sockets"], json.load(sys.stdin)["sockets"]
names = lambda sockets: {(s["local"], s["relay_pid"]) for s in sockets}
sys.exit(len(names(old) & names(new)) != 0)' "$1" && return 0
		sleep 0.2
	done
	echo "connections of old are still there"
	return 1
}

# New connections take the place of old ones under fio: no error, and no outage either.
renewals() {
	local start=$1 fio i before
	shift
	$start
	"$NBDCTL" attach "$@" nbd0
	# (it rests now and then: nothing is swapped while a request is under way)
	busy 20 --thinktime=20ms --thinktime_blocks=16 &
	fio=$!
	for i in 1 2 3; do
		before=$("$NBDCTL" status --json nbd0)
		call Renew
		until_renewed "$before"
	done
	wait $fio || { cat "$work/fio.log"; return 1; }
	same "$(field reconnects)" 0
	same "$(field connections_up)" "$(field connections)"
	"$NBDCTL" detach nbd0
}

# What the kernel driver cannot stand on a TLS connection costs a reconnect, and no error.
tls_vice() {
	"$NBDCTL_TLS_SERVER" --port 10944 --psk-file "$psk/keys.psk" --after 60 --vice "$1" >/dev/null 2>&1 &
	wait_port 10944
	"$NBDCTL" attach --ktls=require "nbds://alice@127.0.0.1:10944/disk?tls-psk-file=$psk/keys.psk" nbd0
	dd if=/dev/urandom of="$work/data" bs=64k count=16 status=none
	dd if="$work/data" of=/dev/nbd0 bs=64k conv=nocreat,notrunc,fsync oflag=direct status=none
	for _ in $(seq 8); do dd if=/dev/nbd0 bs=64k count=16 iflag=direct status=none | cmp - "$work/data"; done
	[ "$(field reconnects)" -ge 1 ]
	"$NBDCTL" detach --force nbd0 # (its server may be in the middle of a vice)
}

many_agents() {
	local i
	start_server_for_all
	for i in $(seq 0 "$1"); do "$NBDCTL" attach "$uri" "nbd$i" >/dev/null & done
	wait_jobs
	same "$("$NBDCTL" list --json | grep -c '"state": "up"')" $(($1 + 1))
	kill_server
	sleep 1
	same "$("$NBDCTL" list --json | grep -c '"state": "reconnecting"')" $(($1 + 1))
	start_server_for_all
	for i in $(seq 300); do
		[ "$("$NBDCTL" list --json | grep -c '"state": "up"')" = $(($1 + 1)) ] && break
		sleep 0.2
	done
	for i in $(seq 0 "$1"); do dd if="/dev/nbd$i" of=/dev/null bs=4k count=1 iflag=direct status=none; done
	"$NBDCTL" detach --all
	same "$(attached)" ""
}

start_server_for_all() {
	nbdkit -f -p $port memory 64M &
	server=$!
	wait_port $port
}

wait_jobs() {
	local pid
	for pid in $(jobs -p); do [ "$pid" = "$server" ] || wait "$pid"; done
}

nothing_left_behind() {
	local name comm
	for name in /proc/[0-9]*/comm; do
		read -r comm <"$name" 2>/dev/null || continue
		case $comm in nbdctl*) echo "$name is $comm"; return 1 ;; esac
	done
	same "$(ls -A /run/nbdctl 2>/dev/null)" ""
}

modprobe -q nbd
a "restarts under fio: plain" restarts start_server "$rounds" "$uri"
a "restarts under fio: plain, 4 connections" restarts start_server 2 --connections 4 "$uri"
a "restarts under fio: TLS in the kernel" restarts start_tls_server "$rounds" --ktls=require "$tls_uri"
a "restarts under fio: TLS in the kernel, 4 connections" restarts start_tls_server 2 --ktls=require --connections 4 "$tls_uri"
a "restarts under fio: relay" restarts start_tls_server "$rounds" --ktls=no "$tls_uri"
a "restarts under fio: relay, 4 connections" restarts start_tls_server 2 --ktls=no --connections 4 "$tls_uri"
a "ext4 notices nothing" file_system ext4
a "xfs notices nothing" file_system xfs
a "a server that stops for a minute" stopped_server
a "a server that takes 20 s" slow_server
a "all packets lost for 10 s" lost_packets 10
a "all packets lost for 50 s" lost_packets 50
a "replies that break off" cut_replies
a "another disk comes back" another_disk_comes_back
a "away for longer than the dead timeout" longer_than_the_dead_timeout
a "fail over between two servers" fail_over
a "the agent is killed" agent_is_killed "$uri"
a "the agent is killed, 2 connections" agent_is_killed --connections 2 "$uri"
a "the agent is killed in an outage" agent_is_killed_in_an_outage
a "detach without the agent" detach_without_the_agent
a "a server that takes small requests only" small_requests
a "a unix socket of another user" socket_of_another_user
a "fewer clients are allowed than before" fewer_clients
a "adoption of what was asked for only" adopts_only_what_was_asked_for
a "an attach that was killed" attach_was_killed
a "in the foreground, under a service manager" foreground
a "attach by somebody who ignores SIGCHLD" children_are_ignored
a "a state file that is out of date" state_cannot_be_written
a "the disk grows" grows
a "the disk grows, and is asked" grows_while_up
a "connections are renewed under fio: plain" renewals start_server "$uri"
a "connections are renewed under fio: TLS in the kernel" renewals start_tls_server --ktls=require "$tls_uri"
a "connections are renewed under fio: relay, 2 connections" renewals start_tls_server --ktls=no --connections 2 "$tls_uri"
# (6.1 is the slow one of the kernels; what these do to its driver, tls-faults.sh tests in full)
vices=(key-update late-alert bad-record)
agents=15
if [ "${NBDCTL_LAB:-}" != 6.1 ]; then
	vices+=(key-update-asked ticket late-close late-bye late-reset)
	agents=63
fi
for vice in "${vices[@]}"; do a "TLS: $vice" tls_vice "$vice"; done
# (6.1 kills the hog instead: its cgroups do not wait for swap space that is slow, whatever it is on)
if [ "${NBDCTL_LAB:-}" != 6.1 ]; then a "swap under memory pressure" swap_under_pressure; fi
a "$((agents + 1)) agents" many_agents $agents
t "nothing is left behind" nothing_left_behind
finish
