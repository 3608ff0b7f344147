#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Servers that break TLS, before the kernel has the session and after: an error or a dead link, never a hang, never plaintext,
# never wrong data. Runs in scripts/lab; NBDCTL_TLS_SERVER is tests/fixtures' server.
set -uo pipefail
# shellcheck source=tests/kernel/lib.sh
. "$(dirname "$0")/lib.sh"

fixture=${NBDCTL_TLS_SERVER:?the misbehaving server}
keys=$work/keys.psk
uri="nbds://alice@127.0.0.1:10931/disk?tls-psk-file=$keys"

# The pid goes through a file: a test that fails leaves its server to the next one to end.
vicious() {
	if [ -e "$work/vicious" ]; then vicious_end; fi
	"$fixture" --port 10931 --psk-file "$keys" "$@" >/dev/null 2>&1 &
	echo $! >"$work/vicious"
	wait_port 10931
}

vicious_end() {
	local server
	read -r server <"$work/vicious"
	rm "$work/vicious"
	kill "$server"
	wait "$server" 2>/dev/null || while kill -0 "$server" 2>/dev/null; do sleep 0.05; done
}

# Until no request has been answered for three seconds.
wait_for_stall() {
	local before=some after=none
	until [ "$before" = "$after" ]; do
		before=$after
		sleep 3
		after=$(awk '{ print $1 }' /sys/block/nbd0/stat)
	done
}

# Fails in time, and says something of the kind.
refused_with() {
	local words=$1
	shift
	vicious "$@"
	SECONDS=0
	expect_failure 1 "$words" "$NBDCTL" attach --connect-timeout 3 "$uri"
	[ $SECONDS -lt 8 ]
	same "$(attached)" ""
	vicious_end
}

# Reads back what it wrote, block by block, until the link dies: all that was read before must be right.
good_until_it_dies() {
	local i read_error=
	head -c 65536 /dev/urandom >"$work/block"
	for i in $(seq 0 15); do
		dd if="$work/block" of=/dev/nbd0 bs=64k seek="$i" count=1 oflag=direct conv=nocreat,notrunc status=none 2>/dev/null || return 0
	done
	for i in $(seq 200); do
		if ! timeout 30 dd if=/dev/nbd0 of="$work/read" bs=64k skip=$((i % 16)) count=1 iflag=direct status=none 2>/dev/null; then
			read_error=yes
			break
		fi
		cmp "$work/block" "$work/read"
	done
	[ -n "$read_error" ]
}

link_dies_after_handover() {
	vicious --after 60 "$@"
	"$NBDCTL" attach --no-agent --ktls=require "$uri"
	good_until_it_dies
	"$NBDCTL" list --json | grep -q '"state": "down"'
	timeout 20 "$NBDCTL" detach --force nbd0
	vicious_end
}

# Nothing kills a slow server (one connection); but detach ends the wait, and the I/O with it.
stalls_after_handover() {
	local reader
	vicious --after 60 --vice late-stall
	"$NBDCTL" attach --no-agent --ktls=require "$uri"
	(for _ in $(seq 200); do dd if=/dev/nbd0 of=/dev/null bs=64k count=1 iflag=direct status=none || exit 7; done) 2>/dev/null &
	reader=$!
	wait_for_stall
	kill -0 $reader # it waits
	timeout 20 "$NBDCTL" detach --force --timeout 1 nbd0
	local status=0
	wait $reader || status=$?
	same $status 7
	vicious_end
}

# A peer that takes only small records: no kTLS, and the reason is told.
small_records() {
	vicious --record-limit 1024
	expect_failure 1 "record" "$NBDCTL" attach --no-agent --ktls=require "$uri"
	vicious_end
}

modprobe -q nbd
(umask 077 && echo "alice:$(head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n')" >"$keys")

t "STARTTLS refused" refused_with "refuses TLS" --vice refuse-starttls
t "plaintext injected before the answer" refused_with "when NBD_OPT_STARTTLS was asked" --vice inject-before
t "plaintext injected behind the answer" refused_with "injects" --vice inject-after
t "a stall after the ClientHello" refused_with "in time" --vice stall
t "a stall in the middle of the handshake" refused_with "in time" --vice stall-midway
t "an alert" refused_with "alert" --vice alert
t "data before Finished" refused_with "out of order" --vice early-data
t "closed in the middle of the handshake" refused_with "closed" --vice close-midway
t "reset in the middle of the handshake" refused_with "closed" --vice reset-midway
t "garbage instead of a ServerHello" refused_with "not TLS" --vice garbage
t "closed at the first option" refused_with "closed" --vice close-options
for vice in key-update key-update-asked ticket late-alert late-close late-bye late-reset bad-record; do
	t "$vice after the handover" link_dies_after_handover --vice $vice
done
t "a stall after the handover" stalls_after_handover
t "small records" small_records
if [ -e "$work/vicious" ]; then vicious_end; fi
finish
