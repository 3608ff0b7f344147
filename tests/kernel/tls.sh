#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# TLS into the kernel, with real servers: pre-shared keys and X.509. Runs in scripts/lab.
set -uo pipefail
# shellcheck source=tests/kernel/lib.sh
. "$(dirname "$0")/lib.sh"

psk=$work/psk
pki=$work/pki
qemu_psk="nbds://alice@127.0.0.1:10921/disk?tls-psk-file=$psk/keys.psk"
qemu_x509="nbds://localhost:10922/disk?tls-certificates=$pki/client"
nbdkit_psk="nbds://alice@127.0.0.1:10923/?tls-psk-file=$psk/keys.psk"
nbdkit_x509="nbds://127.0.0.1:10924/?tls-certificates=$pki/client"
nbd_server="nbds://localhost:10925/disk?tls-certificates=$pki/client"

# certificate NAME CA "TEMPLATE LINES": NAME-cert.pem and NAME-key.pem, signed by CA
certificate() {
	printf '%s\n' "$3" >"$pki/$1.cfg"
	certtool --generate-privkey --key-type ecdsa --curve secp256r1 --outfile "$pki/$1-key.pem" 2>/dev/null
	certtool --generate-certificate --load-privkey "$pki/$1-key.pem" --load-ca-certificate "$pki/$2-cert.pem" \
		--load-ca-privkey "$pki/$2-key.pem" --template "$pki/$1.cfg" --outfile "$pki/$1-cert.pem" 2>/dev/null
}

authority() {
	printf 'cn = %s\nca\ncert_signing_key\ncrl_signing_key\nexpiration_days = 30\n' "$1" >"$pki/$1.cfg"
	certtool --generate-privkey --key-type ecdsa --curve secp256r1 --outfile "$pki/$1-key.pem" 2>/dev/null
	certtool --generate-self-signed --load-privkey "$pki/$1-key.pem" --template "$pki/$1.cfg" \
		--outfile "$pki/$1-cert.pem" 2>/dev/null
}

# folder DIR CA NAME KIND: the names that qemu, nbdkit and nbdctl expect
folder() {
	mkdir -p "$pki/$1"
	cp "$pki/$2-cert.pem" "$pki/$1/ca-cert.pem"
	cp "$pki/$3-cert.pem" "$pki/$1/$4-cert.pem"
	cp "$pki/$3-key.pem" "$pki/$1/$4-key.pem"
}

make_credentials() {
	umask 077
	mkdir -p "$psk" "$pki"
	echo "alice:$(head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n')" >"$psk/keys.psk"
	echo "alice:$(head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n')" >"$psk/wrong.psk"
	authority ca
	authority other
	certificate server ca $'cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\ntls_www_server\nsigning_key\nencryption_key'
	certificate stranger ca $'cn = elsewhere\ndns_name = elsewhere.example\ntls_www_server\nsigning_key'
	certificate expired ca $'cn = localhost\ndns_name = localhost\ntls_www_server\nsigning_key\nactivation_date = "2020-01-01 00:00:00"\nexpiration_date = "2020-02-01 00:00:00"'
	certificate client ca $'cn = alice\ntls_www_client\nsigning_key'
	folder server ca server server
	folder stranger ca stranger server
	folder expired ca expired server
	folder client ca client client
	folder client-of-other other client client
	umask 022
}

kernel_has_tls_sessions() {
	local count
	count=$(awk '$1 == "TlsCurrRxSw" { print $2 }' /proc/net/tls_stat)
	same "$count" "$1"
}

# no process of ours: what the data path has is the kernel alone
no_process_left() {
	local name
	for name in /proc/[0-9]*/comm; do
		read -r name <"$name" 2>/dev/null || continue
		case $name in nbdctl*) return 1 ;; esac
	done
}

# A device over this URI, through its paces.
round_trip() {
	local uri=$1 connections=${2:-1}
	shift
	"$NBDCTL" attach --no-agent --ktls=require --connections "$connections" "$uri"
	no_process_left
	kernel_has_tls_sessions "$connections"
	same "$("$NBDCTL" list --json | python3 -c 'import json,sys; print(json.load(sys.stdin)[0]["tls"])')" ktls
	"$NBDCTL" status --json | python3 -c '
import json, sys
for s in json.load(sys.stdin)["sockets"]:
    assert s["tls"]["version"] == "TLS 1.3" and s["tls"]["mode"] == "ktls" and s["tls"]["cipher"], s'
	dd if=/dev/urandom of="$work/data" bs=1M count=8 status=none
	dd if="$work/data" of=/dev/nbd0 bs=1M conv=nocreat,fsync status=none
	dd if=/dev/nbd0 bs=1M count=8 iflag=direct status=none | cmp - "$work/data"
	fio --name=x --filename=/dev/nbd0 --rw=randrw --bs=4k --size=8M --iodepth=16 --ioengine=libaio --direct=1 \
		--verify=crc32c --verify_fatal=1 --minimal >/dev/null
	mkfs.ext4 -q /dev/nbd0
	mkdir -p "$work/mnt"
	mount /dev/nbd0 "$work/mnt"
	cp "$work/data" "$work/mnt/data"
	umount "$work/mnt"
	fsck.ext4 -fn /dev/nbd0
	"$NBDCTL" detach nbd0
	kernel_has_tls_sessions 0
}

# The modules are loaded for it; the guest has none of them at first.
loads_the_modules() {
	[ ! -e /proc/net/tls_stat ]
	"$NBDCTL" attach --ktls=require "$qemu_psk"
	kernel_has_tls_sessions 1
	"$NBDCTL" detach nbd0
}

info_over_tls() {
	local uri
	for uri in "$qemu_psk" "$qemu_x509" "$nbdkit_psk" "$nbdkit_x509" "$nbd_server"; do
		"$NBDCTL" info --json "$uri" | python3 -c 'import json,sys; assert json.load(sys.stdin)["TLS"] is True'
	done
	"$NBDCTL" info "$qemu_psk" | grep -q "with TLS"
}

multiple_connections() {
	"$NBDCTL" attach --ktls=require --connections 4 "$qemu_psk"
	kernel_has_tls_sessions 4
	fio --name=x --filename=/dev/nbd0 --rw=randrw --bs=4k --size=8M --iodepth=16 --ioengine=libaio --direct=1 \
		--numjobs=2 --offset_increment=8M --verify=crc32c --verify_fatal=1 --minimal >/dev/null
	"$NBDCTL" detach nbd0
}

wire_carries_no_plaintext() {
	local pattern=THE-PATTERN-NOBODY-MAY-SEE capture
	# (its buffer holds all of it, should it be slower than the disk)
	tcpdump -i lo -w "$work/wire.pcap" -s 0 -U -B 32768 port 10921 2>/dev/null &
	capture=$!
	for _ in $(seq 100); do
		if [ -s "$work/wire.pcap" ]; then break; fi
		sleep 0.1
	done
	"$NBDCTL" attach --ktls=require "$qemu_psk"
	python3 -c 'import sys; sys.stdout.write(((sys.argv[1] + "\n") * 40000)[:1 << 20])' "$pattern" >"$work/pattern"
	dd if="$work/pattern" of=/dev/nbd0 bs=64k conv=nocreat,fsync status=none
	dd if=/dev/nbd0 bs=64k count=16 iflag=direct status=none | cmp - "$work/pattern"
	"$NBDCTL" detach nbd0
	for _ in $(seq 100); do
		if [ "$(stat -c %s "$work/wire.pcap")" -gt 2097152 ]; then break; fi
		sleep 0.1
	done
	sleep 0.5
	kill $capture
	wait $capture || true
	[ "$(stat -c %s "$work/wire.pcap")" -gt 2097152 ]
	grep -qaF "$pattern" "$work/disk.img"
	if grep -qaF "$pattern" "$work/wire.pcap"; then return 1; fi
	# The export's name travels inside TLS too. (Among megabytes of cipher text its four letters may come up by chance.)
	if head -c 16384 "$work/wire.pcap" | grep -qaF disk; then return 1; fi
}

refusals() {
	local bad="$pki/client-of-other"
	expect_failure 1 "demands TLS" "$NBDCTL" attach nbd://127.0.0.1:10921/disk
	expect_failure 1 "refuses TLS" "$NBDCTL" attach "nbds://alice@127.0.0.1:10901/?tls-psk-file=$psk/keys.psk"
	expect_failure 1 "key" "$NBDCTL" attach "nbds://alice@127.0.0.1:10921/disk?tls-psk-file=$psk/wrong.psk"
	expect_failure 1 "bob" "$NBDCTL" attach "nbds://bob@127.0.0.1:10921/disk?tls-psk-file=$psk/keys.psk"
	expect_failure 1 "not signed by" "$NBDCTL" attach "nbds://localhost:10922/disk?tls-certificates=$bad"
	expect_failure 1 "not signed by" "$NBDCTL" attach "nbds://localhost:10922/disk"
	expect_failure 1 "elsewhere.example" "$NBDCTL" attach --tls-hostname elsewhere.example "$qemu_x509"
	expect_failure 1 "expired" "$NBDCTL" attach "nbds://localhost:10926/disk?tls-certificates=$pki/client"
	expect_failure 1 "localhost" "$NBDCTL" attach "nbds://localhost:10927/disk?tls-certificates=$pki/client"
	expect_failure 1 "ca-cert.pem" "$NBDCTL" attach "nbds://localhost:10922/disk?tls-certificates=$work"
	chmod 644 "$psk/keys.psk"
	expect_failure 1 "0600" "$NBDCTL" attach "$qemu_psk"
	chmod 600 "$psk/keys.psk"
	kernel_has_tls_sessions 0
}

verification_can_be_given_up() {
	"$NBDCTL" attach --tls-verify-peer=no "nbds://localhost:10927/disk?tls-certificates=$pki/client" 2>"$work/err"
	grep -qi "verif" "$work/err"
	"$NBDCTL" detach nbd0
}

tls_options_win_over_the_uri() {
	"$NBDCTL" attach --ktls=require --tls-psk-file "$psk/keys.psk" --tls-username alice nbds://127.0.0.1:10921/disk
	"$NBDCTL" detach nbd0
}

modprobe -q nbd
make_credentials
truncate -s 64M "$work/disk.img" "$work/nbd-server.img"
cat >"$work/nbd-server.conf" <<END
[generic]
	port = 10925
	force_tls = true
	certfile = $pki/server/server-cert.pem
	keyfile = $pki/server/server-key.pem
	cacertfile = $pki/server/ca-cert.pem
[disk]
	exportname = $work/nbd-server.img
END
x509() {
	echo "tls-creds-x509,dir=$pki/$1,verify-peer=$2"
}
serve 10921 qemu-nbd -t -f raw -e 8 -p 10921 -x disk --object "tls-creds-psk,id=t,endpoint=server,dir=$psk" --tls-creds t \
	"$work/disk.img"
serve 10922 qemu-nbd -t -f raw -e 8 -p 10922 -x disk --object "$(x509 server on),id=t,endpoint=server" --tls-creds t \
	"$work/disk.img"
serve 10923 nbdkit -f -p 10923 --tls=require --tls-psk="$psk/keys.psk" memory 64M
serve 10924 nbdkit -f -p 10924 --tls=require --tls-certificates="$pki/server" --tls-verify-peer memory 64M
serve_nbd_server 10925 "$work/nbd-server.conf"
# qemu checks its own certificate; nbdkit serves the bad ones
serve 10926 nbdkit -f -p 10926 --tls=require --tls-certificates="$pki/expired" memory 64M
serve 10927 nbdkit -f -p 10927 --tls=require --tls-certificates="$pki/stranger" memory 64M
serve 10901 nbdkit -f -p 10901 memory 64M

t "the modules are loaded" loads_the_modules
t "info over TLS, five servers" info_over_tls
t "qemu-nbd, pre-shared key" round_trip "$qemu_psk"
t "qemu-nbd, X.509, verify-peer" round_trip "$qemu_x509"
t "nbdkit, pre-shared key" round_trip "$nbdkit_psk"
t "nbdkit, X.509, verify-peer" round_trip "$nbdkit_x509"
t "nbd-server, forced TLS" round_trip "$nbd_server"
t "four connections" multiple_connections
t "the wire carries no plaintext" wire_carries_no_plaintext
t "refusals, each with its message" refusals
t "--tls-verify-peer=no is loud" verification_can_be_given_up
t "options win over the URI" tls_options_win_over_the_uri
finish
