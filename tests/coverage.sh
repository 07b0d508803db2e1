#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/coverage.sh BUILDDIR: how many lines of the modules that decide over
# data the unit tests run; fails below 90 %. BUILDDIR is a build that was made
# with --enable-coverage and has run the unit tests.
set -eu
least=90
modules='common/proto nbd-client/rx nbd-client/engine nbd-client/engine_loop'

[ $# = 1 ] || { echo 'usage: tests/coverage.sh BUILDDIR' >&2; exit 2; }
cd "$1"

status=0
for module in $modules; do
	dir=${module%/*}
	if ! [ -f "$module.gcda" ]; then
		echo "$module.c: no test has run it"
		status=1
		continue
	fi
	gcov -n -o "$dir" "$module.gcda" 2>/dev/null |
	awk -v want="$module.c" -v least=$least '
		/^File / { file = substr($2, 2, length($2) - 2) }
		/^Lines executed:/ && index(file, want) {
			split($2, part, /[:%]/)
			printf "%s: %s %% of %d lines\n", want, part[2], $4
			seen = 1
			bad = part[2] < least
			exit
		}
		END {
			if (!seen)
				print want ": gcov says nothing"
			if (seen && bad)
				print want ": less than " least " %"
			exit !seen || bad
		}' || status=1
done
exit $status
