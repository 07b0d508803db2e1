#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/test-output.sh: what programs read of nbd-client's output, against the
# files beside the manual page that say what it is.
# shellcheck disable=SC2317 # called by check
set -u
man=${srcdir:-.}/man
fake=$(dirname "${NBD_CLIENT:-nbd-client/nbd-client}")/../tests/fake-client
dir=$(mktemp -d) || exit 1
failed=0
trap 'rm -rf "$dir"' EXIT

# check WHAT TEST...: one test, passed if the command succeeds.
check() {
	what=$1
	shift
	if "$@" >"$dir/log" 2>&1; then
		echo "ok - $what"
		return
	fi
	echo "not ok - $what"
	failed=1
	sed 's/^/# /' "$dir/log"
}

names() { grep -o 'nbd_client_[a-z_]*' "$1" | sort -u; }

# ---- metrics ----

dashboard_shows_what_there_is() {
	"$fake" "$dir/run" metrics >"$dir/metrics" || return
	names "$man/grafana-dashboard.json" >"$dir/shown"
	names "$dir/metrics" >"$dir/there"
	[ "$(wc -l <"$dir/shown")" -gt 20 ] || return
	comm -23 "$dir/shown" "$dir/there" >"$dir/unknown"
	cat "$dir/unknown"
	[ ! -s "$dir/unknown" ]
}
check 'the dashboard shows metrics that there are' dashboard_shows_what_there_is

exit $failed
