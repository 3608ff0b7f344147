#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The relay, where the kernel cannot encrypt: TLS over unix sockets, and over TCP when it is told to. Runs in scripts/lab.
# (Over vsock it cannot be tried here: that needs a hypervisor.)
set -uo pipefail
# shellcheck source=tests/kernel/lib.sh
. "$(dirname "$0")/lib.sh"

psk=$work/psk
unix="nbds+unix://alice@/disk?socket=$work/tls.sock&tls-psk-file=$psk/keys.psk"
tcp="nbds://alice@127.0.0.1:10931/disk?tls-psk-file=$psk/keys.psk"

make_keys() {
	mkdir -p "$psk"
	(
		umask 077
		echo "alice:$(head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n')" >"$psk/keys.psk"
	)
}

relays() {
	local name pid
	for pid in /proc/[0-9]*; do
		read -r name <"$pid/comm" 2>/dev/null || continue
		if [ "$name" = nbdctl-relay ]; then echo "${pid#/proc/}"; fi
	done
}

# In the time a relay has to end.
no_relay_left() {
	local left
	for _ in $(seq 20); do
		left=$(relays)
		if [ -z "$left" ]; then return 0; fi
		sleep 0.1
	done
	echo "still there: $left"
	return 1
}

# status_json PYTHON: of the only device, d
status_json() {
	"$NBDCTL" status --json | python3 -c "import json, sys; d = json.load(sys.stdin); $1"
}

verify() {
	fio --name=x --filename=/dev/nbd0 --direct=1 --verify=crc32c --verify_fatal=1 --ioengine=libaio --minimal "$@" >/dev/null
}

use_it() {
	dd if=/dev/urandom of="$work/data" bs=1M count=8 status=none
	dd if="$work/data" of=/dev/nbd0 bs=1M conv=nocreat,fsync status=none
	dd if=/dev/nbd0 bs=1M count=8 iflag=direct status=none | cmp - "$work/data"
	cmp -n 8388608 "$work/data" "$work/disk.img"
	verify --rw=randrw --bs=4k --size=8M --iodepth=16
	verify --rw=write --bs=1M --size=32M --iodepth=4
	mkfs.ext4 -q /dev/nbd0
	mkdir -p "$work/mnt"
	mount /dev/nbd0 "$work/mnt"
	cp "$work/data" "$work/mnt/data"
	umount "$work/mnt"
	fsck.ext4 -fn /dev/nbd0
}

over_a_unix_socket() {
	"$NBDCTL" attach "$unix" 2>"$work/err"
	cat "$work/err"
	same "$(grep -c 'nbdctl-relay' "$work/err")" 1
	grep -q "unix socket" "$work/err"
	use_it
	"$NBDCTL" detach nbd0
	no_relay_left
}

over_tcp() {
	"$NBDCTL" attach --ktls=no "$tcp" 2>"$work/err"
	same "$(cat "$work/err")" "" # who asks for it need not be told
	use_it
	"$NBDCTL" detach nbd0
	no_relay_left
}

four_connections() {
	"$NBDCTL" attach --quiet --connections 4 "$unix"
	same "$(relays | wc -l)" 4
	verify --rw=randrw --bs=4k --size=8M --iodepth=16 --numjobs=2 --offset_increment=8M
	"$NBDCTL" detach nbd0
	no_relay_left
}

required_means_required() {
	expect_failure 1 "unix socket" "$NBDCTL" attach --ktls=require "$unix"
	no_relay_left
}

list_and_status_tell() {
	"$NBDCTL" attach --ktls=no --connections 1 "$tcp"
	same "$("$NBDCTL" list --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["tls"])')" relay
	"$NBDCTL" list | grep -q " relay "
	dd if=/dev/nbd0 of=/dev/null bs=1M count=4 iflag=direct status=none
	status_json "
s, = d['sockets']
assert d['tls'] == 'relay' and s['established'] and s['remote'] == '127.0.0.1:10931', d
assert s['tls']['mode'] == 'relay' and s['tls']['version'] == 'TLS 1.3', s
assert s['tls']['cipher'] and 'ECDHE-PSK' in s['tls']['key_exchange'], s
assert s['relay_pid'] == $(relays), s
assert s['rtt_us'] > 0 and s['bytes_received'] > 4 << 20, s"
	"$NBDCTL" status | grep -q "TLS 1.3 .* in nbdctl-relay (process $(relays))"
	"$NBDCTL" detach nbd0
}

# What a process in the block path must have done before it begins.
process_is_fit() {
	local pid
	"$NBDCTL" attach --quiet --connections 1 "$unix"
	pid=$(relays)
	same "$(cat "/proc/$pid/oom_score_adj")" -1000
	same "$(readlink "/proc/$pid/cwd")" /
	same "$(ps -o ppid= -p "$pid" | tr -d ' ')" 1
	[ "$(awk '$1 == "VmLck:" { print $2 }' "/proc/$pid/status")" -gt 1000 ]
	same "$(awk '$1 == "Threads:" { print $2 }' "/proc/$pid/status")" 3
	# three times /dev/null, the kernel's log, an eventfd, two sockets
	same "$(find "/proc/$pid/fd" -type l | wc -l)" 7
	kill -TERM "$pid"
	kill -INT "$pid"
	kill -HUP "$pid"
	dd if=/dev/nbd0 of=/dev/null bs=1M count=1 iflag=direct status=none
	"$NBDCTL" detach nbd0
	no_relay_left
}

# A handshake's secrets are not a relay's business.
process_has_no_secret() {
	"$NBDCTL" attach --quiet --connections 1 "$unix"
	python3 - "$(relays)" "$psk/keys.psk" <<-'END'
		import sys
		pid, path = sys.argv[1:]
		with open(path) as file:
		    text = file.read().strip().split(":")[1]
		found = looked = 0
		with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
		    for line in maps:
		        fields = line.split()
		        if "rw" not in fields[1]:
		            continue
		        start, end = (int(number, 16) for number in fields[0].split("-"))
		        memory.seek(start)
		        content = memory.read(end - start)
		        looked += len(content)
		        found += bytes.fromhex(text) in content or text.encode() in content
		assert looked > 1 << 20 and found == 0, (looked, found)
	END
	"$NBDCTL" detach nbd0
}

# It needs no memory once it runs: none is taken, whatever passes.
memory_stays() {
	local pid before
	"$NBDCTL" attach --quiet --connections 1 "$unix"
	pid=$(relays)
	verify --rw=write --bs=1M --size=16M --iodepth=4
	before=$(awk '$1 == "VmSize:" || $1 == "VmRSS:"' "/proc/$pid/status")
	verify --rw=randrw --bs=64k --size=32M --iodepth=32
	same "$(awk '$1 == "VmSize:" || $1 == "VmRSS:"' "/proc/$pid/status")" "$before"
	"$NBDCTL" detach nbd0
}

relay_is_killed() {
	"$NBDCTL" attach --no-agent --quiet --connections 1 "$unix"
	kill -KILL "$(relays)"
	no_relay_left
	if dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null; then return 1; fi
	"$NBDCTL" list | grep -q " down .* relay "
	status_json "assert d['state'] == 'down' and d['connections_up'] == 0 and not d['sockets'][0]['established'], d"
	"$NBDCTL" detach --force nbd0
}

server_goes_away() {
	truncate -s 16M "$work/lost.img"
	qemu-nbd -t -f raw -e 8 -k "$work/lost.sock" -x disk --object "tls-creds-psk,id=t,endpoint=server,dir=$psk" \
		--tls-creds t "$work/lost.img" &
	local server=$!
	wait_socket "$work/lost.sock"
	"$NBDCTL" attach --no-agent --quiet --connections 1 "nbds+unix://alice@/disk?socket=$work/lost.sock&tls-psk-file=$psk/keys.psk"
	kill -KILL $server
	wait $server || true
	no_relay_left
	"$NBDCTL" list | grep -q " down "
	if dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null; then return 1; fi
	dmesg >"$work/dmesg"
	grep -q "nbdctl-relay.*the server closed the connection" "$work/dmesg"
	"$NBDCTL" detach --force nbd0
}

# A stopped server reads nothing: the relay is stuck in the middle of a write.
server_is_stuck() {
	truncate -s 64M "$work/stuck.img"
	qemu-nbd -t -f raw -e 8 -k "$work/stuck.sock" -x disk --object "tls-creds-psk,id=t,endpoint=server,dir=$psk" \
		--tls-creds t "$work/stuck.img" &
	local server=$!
	wait_socket "$work/stuck.sock"
	"$NBDCTL" attach --quiet --connections 1 "nbds+unix://alice@/disk?socket=$work/stuck.sock&tls-psk-file=$psk/keys.psk"
	kill -STOP $server
	dd if=/dev/zero of=/dev/nbd0 bs=1M count=32 conv=nocreat oflag=direct status=none 2>/dev/null &
	local writer=$!
	sleep 1
	timeout 20 "$NBDCTL" detach --force --timeout 1 nbd0
	no_relay_left
	wait $writer || true
	kill -KILL $server
	wait $server || true
}

# Nothing stays of an attach that fails after the relay has started.
rollback() {
	"$NBDCTL" attach --quiet "$unix" nbd2
	expect_failure 1 "nbd2" "$NBDCTL" attach --quiet "$unix" nbd2
	same "$(relays | wc -l)" "$("$NBDCTL" list --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["connections"])')"
	"$NBDCTL" detach nbd2
	no_relay_left
}

interrupted() {
	local delay pid status
	for delay in 0.02 0.05 0.08 0.12 0.2 0.3; do
		"$NBDCTL" attach --quiet "$unix" >"$work/out" 2>/dev/null &
		pid=$!
		sleep "$delay"
		kill -TERM $pid 2>/dev/null || true
		status=0
		wait $pid || status=$?
		if [ $status = 0 ]; then "$NBDCTL" detach nbd0; fi
		same "$(attached)" ""
		no_relay_left
	done
}

modprobe -q nbd
make_keys
truncate -s 64M "$work/disk.img"
credentials="tls-creds-psk,id=t,endpoint=server,dir=$psk"
qemu-nbd -t -f raw -e 16 -k "$work/tls.sock" -x disk --object "$credentials" --tls-creds t "$work/disk.img" &
servers+=($!)
wait_socket "$work/tls.sock"
serve 10931 qemu-nbd -t -f raw -e 16 -p 10931 -x disk --object "$credentials" --tls-creds t "$work/disk.img"

t "TLS over a unix socket: auto says why, data is right" over_a_unix_socket
t "TLS over TCP with --ktls=no" over_tcp
t "four connections, four relays" four_connections
t "--ktls=require" required_means_required
t "list and status tell" list_and_status_tell
t "the process is fit for the block path" process_is_fit
t "the process holds no key of a handshake" process_has_no_secret
t "its memory does not grow" memory_stays
t "the relay is killed: the device is down, and can be detached" relay_is_killed
t "the server goes away" server_goes_away
t "the server is stuck" server_is_stuck
t "an attach that fails leaves no relay" rollback
t "an attach that is interrupted leaves no relay" interrupted
finish
