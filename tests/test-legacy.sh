#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/test-legacy.sh: the old command line as scripts use it: what is printed
# where, and the exit status. NBD_CLIENT names the program.
set -u
client=${NBD_CLIENT:-nbd-client/nbd-client}
command -v nbdkit >/dev/null || {
	echo 'no nbdkit'
	exit 77
}
dir=$(mktemp -d) || exit 1
# shellcheck source=tests/shell.sh
. "${0%/*}/shell.sh"
server=''
failed=0
trap '[ -z "$server" ] || kill "$server"; rm -rf "$dir"' EXIT

server_start "$dir/socket" -U "$dir/socket" --filter=exportname memory 1M exportname=one \
	exportname=two exportname-list=explicit \
	exportdesc=fixed:"$(printf 'a\033b')"

# check WHAT CODE OUT ERR ARG...: exit status, standard output, and a pattern for
# standard error, of the program with these arguments.
check() {
	what=$1 code=$2 out=$3 err=$4
	shift 4
	timeout 60 "$client" "$@" >"$dir/out" 2>"$dir/err"
	got=$?
	# shellcheck disable=SC2254 # a pattern
	case $(cat "$dir/err") in
	$err) matches=1 ;;
	*) matches=0 ;;
	esac
	if [ $got = "$code" ] && [ "$(cat "$dir/out")" = "$out" ] &&
		[ $matches = 1 ]; then
		echo "ok - $what"
		return
	fi
	echo "not ok - $what"
	echo "# exit status $got, not $code, or:"
	sed 's/^/# /' "$dir/out" "$dir/err"
	failed=1
}

list='Negotiation: ..
one: a\x1bb
two: a\x1bb'
check 'list' 0 "$list" '' -l -u "$dir/socket"
check 'list, the host first' 0 "$list" '' "$dir/socket" -unix --list
check 'list, nobody there' 6 'Negotiation: ..' '*cannot connect*' \
	-l -u "$dir/nothing"
check 'check, not connected' 1 '' '' -c /dev/nbd32767
check 'check, no device' 2 '' '*is not a device*' -check sda
check 'no configuration' 3 '' '*neither*says what to attach*' nbd32767
check 'no such option' 2 '' '*"-zz" is no option*' -zz "$dir/socket" nbd0
check 'a command with a slip' 2 '' '*did you mean status*' stauts
check 'a host that was meant as a command' 6 '' '*the command status*' \
	stauts 1 nbd0
check 'a URI without a command' 2 '' '*attach URI*' nbd://localhost/ nbd0
check 'a command comes first' 2 '' '*nbd-client list --help*' list -c nbd0
check 'the kernel path is not of ublk' 2 '' '*--kernel-path*nbd device*' \
	attach --kernel-path nbd://localhost/ ublk
check 'the kernel path has no slots' 2 '' '*--kernel-path*leave out --depth*' \
	attach --kernel-path --depth=8 nbd://localhost/
exit $failed
