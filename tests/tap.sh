#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/tap.sh PROGRAM [ARG...]: runs a cmocka program and hands on its TAP in
# the form that automake's driver wants: groups joined under one plan, skipped
# tests "ok # SKIP" (cmocka says "not ok"), and a failed test counted once, not
# a second time for the exit status that follows from it.
# A test that does not end is a failure too.
limit=300 # seconds
# A fuzz target is one test, that has passed if nothing came of it.
case $1 in
*/fuzz-*)
	echo 1..1
	if timeout -k 10 $limit "$@"; then
		echo 'ok 1 - seeds and mutations'
	else
		echo 'not ok 1 - seeds and mutations'
	fi
	exit 0
	;;
esac
CMOCKA_MESSAGE_OUTPUT=tap
export CMOCKA_MESSAGE_OUTPUT
{ timeout -k 10 $limit "$@"; echo "exit status $?"; } | awk '
	/^1\.\.[0-9]+/ { planned += substr($1, 4); next }
	/^ok [0-9]+/ || /^not ok [0-9]+ # SKIP/ {
		sub(/^(not )?ok [0-9]+/, "ok " ++ran); print; next
	}
	/^not ok [0-9]+/ { sub(/[0-9]+/, ++ran); print; failed++; next }
	/^exit status [0-9]+$/ { status = $3; next }
	{ print }
	END {
		if (status == 77 && !ran) {
			print "1..0 # SKIP cannot run here"
			exit 0
		}
		print "1.." planned
		if (status == 124)
			print "Bail out! did not end"
		exit (failed && status < 128 && ran == planned) ? 0 : status
	}'
