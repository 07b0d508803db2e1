#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/test-bench.sh: "nbd-client bench" against nbdkit, as anybody would use
# it. NBD_CLIENT names the program.
# shellcheck disable=SC2317 # called by check
set -u
client=${NBD_CLIENT:-nbd-client/nbd-client}
command -v nbdkit >/dev/null || {
	echo 'no nbdkit'
	exit 77
}
dir=$(mktemp -d) || exit 1
# shellcheck source=tests/shell.sh
. "${0%/*}/shell.sh"
uri="nbd+unix:///?socket=$dir/socket"
server=''
failed=0

stop() {
	[ -z "$server" ] || kill "$server" 2>/dev/null
	[ -z "$server" ] || wait "$server" 2>/dev/null
	server=''
}
trap 'stop; rm -rf "$dir"' EXIT

# start ARG...: a server with these arguments to nbdkit.
start() {
	stop
	rm -f "$dir/socket"
	server_start "$uri" -U "$dir/socket" "$@"
}

# bench OPTION...: its output in $dir/out and $dir/err, its exit status in code.
bench() {
	timeout 60 "$client" bench "$@" --json >"$dir/out" 2>"$dir/err"
	code=$?
}
value() { sed -n "s/^ *\"$1\": \"*\([^\",]*\)\"*,*\$/\1/p" "$dir/out"; }

ran() { # CODE REQUESTS
	[ "$code" = "$1" ] && [ "$(value requests)" = "$2" ]
}
refused() { # CODE WORDS
	[ "$code" = "$1" ] && [ ! -s "$dir/out" ] && grep -q -e "$2" "$dir/err"
}
refused_some() { # WORDS
	[ "$code" = 1 ] && [ "$(value requests)" -gt 0 ] &&
		[ "$(value errors)$(value mismatches)" != 00 ] &&
		grep -q -e "$1" "$dir/err"
}
measured() {
	ran 0 5000 && [ "$(value errors)" = 0 ] &&
		[ "$(value requests_per_second)" -gt 0 ] &&
		[ "$(value thread_cpu_ns_per_request)" -gt 0 ] &&
		[ "$(value latency_p50_us)" -le "$(value latency_p99_us)" ] &&
		[ "$(value latency_p99_us)" -le "$(value latency_max_us)" ]
}

start memory 16M
for rw in read randread write randwrite; do
	bench "$uri" --rw=$rw --destroy --requests=5000
	check "$rw is measured" measured
done
bench "$uri" --rw=verify --destroy --size=4M
check 'verify compares each block' ran 0 2048
bench "$uri" --rw=verify --destroy --bs=1M --depth=3
check 'verify of large blocks' ran 0 32
bench "$uri" --seconds=1 --depth=1
check 'a second takes a second' [ "$(value milliseconds)" -ge 1000 ]

bench "$uri" --rw=write --requests=1
check 'writes only if told so' refused 2 --destroy
bench "$uri" --bs=1000
check 'odd block size' refused 2 'multiple of 512'
bench "$uri" --rw=verify --destroy --seconds=2
check 'verify has an end of its own' refused 2 --size
bench "$uri" --size=17M
check 'more than there is' refused 2 16777216
bench "$uri" --rw=sideways
check 'no such operation' refused 2 randwrite
start -r memory 16M
bench "$uri" --rw=write --destroy
check 'a read-only export' refused 7 read-only

start --filter=error memory 16M error-pread=EIO error-pread-rate=1%
bench "$uri" --requests=100000
check 'an error ends it' refused_some 'Input/output error'
# Takes what is written, and reads as zeroes.
start null 16M
bench "$uri" --rw=verify --destroy --size=1M
check 'a disk that forgets' refused_some 'other than written'
start --filter=delay memory 16M rdelay=2
(sleep 1 && kill -KILL $server) &
bench "$uri" --seconds=30
check 'a lost link ends it' refused 6 'link was lost'
exit $failed
