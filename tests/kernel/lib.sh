# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# For the suites that run inside the lab (or, when asked, on a machine with nbd): TAP on stdout, details on stderr.
# Source it, call the tests with `t NAME FUNCTION`, end with `finish`.

NBDCTL=${NBDCTL_BIN:-nbdctl}
# nbd-server and nbd-client, unpacked so that no service of theirs starts on this machine
PATH=${NBDCTL_CACHE:+$NBDCTL_CACHE/nbd-tools/bin:}$PATH
command -v "$NBDCTL" >/dev/null || {
	echo "Bail out! no $NBDCTL: say NBDCTL_BIN=FILE"
	exit 1
}
count=0
failed=0
work=$(mktemp -d)
servers=()

# A test is a function that fails when something is not as it should be.
t() {
	local name=$1
	shift
	count=$((count + 1))
	# In a subshell with -e, so that the first thing that is wrong ends the test.
	(
		set -eE
		trap 'echo "# $name: line $LINENO: $BASH_COMMAND" >&2' ERR
		"$@"
	) >"$work/output" 2>&1 &
	# (not `if ( ... )`: a condition would turn -e off inside)
	if wait $!; then
		echo "ok $count - $name"
	else
		failed=$((failed + 1))
		echo "not ok $count - $name"
		sed 's/^/#   /' "$work/output"
	fi
	leftovers "$name"
}

# Whatever a test did, nothing may stay attached, and no state.
# shellcheck disable=SC2046,SC2086 # names without blanks, on one line
leftovers() {
	local left
	left=$(attached)
	if [ -n "$left" ] || [ -n "$(ls -A /run/nbdctl 2>/dev/null)" ]; then
		count=$((count + 1))
		failed=$((failed + 1))
		echo "not ok $count - $1: left behind:" $left $(ls -A /run/nbdctl 2>/dev/null)
		"$NBDCTL" detach --all --force >/dev/null 2>&1 || true
		rm -rf /run/nbdctl
	fi
}

attached() {
	local pid
	for pid in /sys/block/nbd*/pid; do
		[ -e "$pid" ] && basename "$(dirname "$pid")"
	done
	true
}

finish() {
	stop_servers
	rm -rf "$work"
	echo "1..$count"
	[ "$failed" = 0 ]
}

stop_servers() {
	local pid
	for pid in "${servers[@]}"; do
		kill "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	servers=()
}

# Runs a server in the background and waits until it listens on a TCP port.
serve() {
	local port=$1
	shift
	"$@" &
	servers+=($!)
	wait_port "$port"
}

# nbd-server leaves when its one client does, if it may not fork; so it forks, and tells its pid.
serve_nbd_server() {
	local port=$1 conf=$2
	nbd-server -C "$conf" -p "$conf.pid" || return 1
	wait_port "$port"
	servers+=("$(cat "$conf.pid")")
}

wait_port() {
	local hex i
	hex=$(printf ':%04X' "$1")
	for i in $(seq 200); do
		grep -qE "$hex 0+:0000 0A" /proc/net/tcp /proc/net/tcp6 2>/dev/null && return 0
		sleep 0.05
	done
	echo "nothing listens on port $1 after $i tries" >&2
	return 1
}

wait_socket() {
	for _ in $(seq 200); do
		[ -S "$1" ] && return 0
		sleep 0.05
	done
	return 1
}

# The command must fail with this status and say this (a fixed string) on stderr, on one line beside a hint.
expect_failure() {
	local status=$1 words=$2 got=0
	shift 2
	"$@" >"$work/out" 2>"$work/err" || got=$?
	cat "$work/err"
	[ "$got" = "$status" ] || { echo "exit status $got, expected $status"; return 1; }
	grep -qF -- "$words" "$work/err" || { echo "no '$words' in the message"; return 1; }
	[ ! -s "$work/out" ] || { echo "something on stdout"; return 1; }
	[ "$(grep -cv '^nbdctl: hint: ' "$work/err")" = 1 ] || { echo "not one line"; return 1; }
}

same() {
	[ "$1" = "$2" ] || { echo "'$1' is not '$2'"; return 1; }
}

sysfs() {
	cat "/sys/block/$1"
}
