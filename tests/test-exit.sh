#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/test-exit.sh: each exit status of nbd-client(8), by what a user may do, with
# one line that says why and nothing on standard output. In name spaces of its own,
# where it can; what needs that is skipped elsewhere. NBD_CLIENT names the program.
set -u
client=$(realpath "${NBD_CLIENT:-nbd-client/nbd-client}")
command -v nbdkit >/dev/null || {
	echo 'no nbdkit'
	exit 77
}
if [ "${1-}" = inside ]; then
	mount -t tmpfs -o mode=755 run /run || exit 1
	inside=1
elif unshare --net --mount true 2>/dev/null; then
	exec unshare --net --mount --fork --kill-child sh "$0" inside
fi
dir=$(mktemp -d) || exit 1
chmod 755 "$dir"
# shellcheck source=tests/shell.sh
. "${0%/*}/shell.sh"
server=''
code=0
trap '[ -z "$server" ] || kill "$server"; rm -rf "$dir"' EXIT

server_start "$dir/socket" -U "$dir/socket" --filter=exportname memory 1M exportname=one \
	exportname-list=explicit exportname-strict=true
chmod 666 "$dir/socket"
cp "$client" "$dir/nbd-client" # where nobody may read it

# expect CODE PATTERN COMMAND...: of what is said on standard error.
expect() {
	wanted=$1 pattern=$2
	shift 2
	timeout 60 "$@" >"$dir/out" 2>"$dir/err" </dev/null
	got=$?
	if [ $got = "$wanted" ] && [ ! -s "$dir/out" ] &&
		[ "$(grep -c '^nbd-client: ' "$dir/err")" = 1 ] &&
		grep -q "$pattern" "$dir/err"; then
		echo "ok - $wanted: $*"
		return
	fi
	echo "not ok - $wanted: $*: exit status $got, or:"
	sed 's/^/# /' "$dir/out" "$dir/err"
	code=1
}
needs_inside() {
	[ -n "${inside-}" ] && return
	echo "skipped - $1: needs name spaces"
	[ $code != 0 ] || code=77
	return 1
}
as_nobody='setpriv --reuid=65534 --regid=65534 --clear-groups'

expect 2 'attach wants' "$client" attach
expect 2 'device or --all' "$client" detach
expect 2 'device or --all' "$client" detach --all nbd0
expect 2 'did you mean --force' "$client" detach --forse nbd0
expect 2 '1 to 86400 seconds' "$client" detach --shutdown=0 nbd0
expect 2 'needs to know the device' "$client" attach --recover "$dir/socket"
expect 2 'no block device\|is not a device' "$client" status sda
expect 3 'not attached' "$client" detach nbd4095
expect 3 'not attached' "$client" status nbd4095
expect 3 'neither .* says what to attach' "$client" attach nbd4095
expect 6 'cannot connect' "$client" info "$dir/nothing"
expect 7 'three' "$client" info "nbd+unix:///three?socket=$dir/socket"
expect 8 'TLS' "$client" info "nbds+unix:///one?socket=$dir/socket&tls-hostname=x"
if needs_inside 'others'; then
	# shellcheck disable=SC2086 # words
	{
		expect 4 'root' $as_nobody "$dir/nbd-client" attach \
			"nbd+unix:///one?socket=$dir/socket"
		expect 4 'root' $as_nobody "$dir/nbd-client" recover
	}
	mkdir /run/nbd-client
	: >/run/nbd-client/attach.lock
	expect 5 'attach is under way' flock /run/nbd-client/attach.lock \
		"$client" recover
	if [ -d /sys/module/nbd ] || modprobe -n nbd 2>/dev/null; then
		echo 'skipped - 9: this kernel has nbd'
	else
		expect 9 'nbd' "$client" attach "nbd+unix:///one?socket=$dir/socket"
	fi
	expect 3 'is gone' "$client" recover nbd4095
fi
# What fails in a table says so there, too.
"$client" check >"$dir/out" 2>"$dir/err"
got=$?
if [ $got = "$(grep -c '' "$dir/err")" ] && [ $got -le 1 ]; then
	echo "ok - $got: check"
else
	echo "not ok - check: exit status $got"
	code=1
fi
exit $code
