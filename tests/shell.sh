# SPDX-License-Identifier: GPL-2.0-or-later
# tests/shell.sh: what tests in shell have in common; they read it with ".", after
# setting client and dir.
# shellcheck shell=sh disable=SC2154,SC2034

# server_start URI NBDKIT-ARG...: returns when it answers at the URI; sets server.
# The caller stops it.
server_start() {
	uri=$1
	shift
	nbdkit -f "$@" >"$dir/server.log" 2>&1 &
	server=$!
	tries=0
	# shellcheck disable=SC2086 # with options
	until "$client" exports $uri >"$dir/log" 2>&1; do
		tries=$((tries + 1))
		[ $tries -lt 200 ] || {
			echo "nbdkit does not answer: $(cat "$dir/log") $(tail -n 1 "$dir/server.log")"
			exit 1
		}
		sleep 0.05
	done
}

# check WHAT TEST...: one test, passed if the command succeeds; sets failed if not, and shows
# what it said, and the files out and err.
check() {
	what=$1
	shift
	if "$@" >"$dir/log" 2>&1; then
		echo "ok - $what"
		return
	fi
	echo "not ok - $what"
	failed=1
	cat "$dir/log" "$dir/out" "$dir/err" 2>/dev/null | sed 's/^/# /'
}
