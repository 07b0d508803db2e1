#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/test-output.sh: what programs read of nbd-client's output, against the
# files beside the manual page that say what it is.
# shellcheck disable=SC2317 # called by check
set -u
man=${srcdir:-.}/man
client=${NBD_CLIENT:-nbd-client/nbd-client}
fake=$(dirname "$client")/../tests/fake-client
dir=$(mktemp -d) || exit 1
# shellcheck source=tests/shell.sh
. "${0%/*}/shell.sh"
uri="nbd+unix:///?socket=$dir/socket"
server=''
failed=0
trap '[ -z "$server" ] || kill "$server"; rm -rf "$dir"' EXIT

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

# ---- JSON ----

# "recover" is left out: it would set this host right.
python3 -c 'import jsonschema' 2>/dev/null || {
	echo 'no python3-jsonschema: the JSON is not checked'
	[ $failed = 0 ] && exit 77
	exit $failed
}
command -v nbdkit >/dev/null || {
	echo 'no nbdkit: the JSON is not checked'
	[ $failed = 0 ] && exit 77
	exit $failed
}

# Stricter than the schema, which lets later versions add keys: what it does
# not tell of is missing in it.
cat >"$dir/validate.py" <<'END'
import json
import sys

import jsonschema


def close(node):
    if isinstance(node, list):
        for each in node:
            close(each)
    elif isinstance(node, dict):
        for each in node.values():
            close(each)
        if "properties" in node:
            node["additionalProperties"] = False


schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
if sys.argv[2] == "breach":
    # The check itself: without a version, or with a word of its own.
    good = {"version": 1, "exports": [{"name": "", "description": ""}]}
    for bad in ({}, {"exports": []}, dict(good, version=2), dict(good, x=1)):
        close(schema)
        if jsonschema.Draft202012Validator(schema).is_valid(bad):
            sys.exit("taken for valid: %s" % bad)
else:
    value = json.load(open(sys.argv[2]))
    close(schema)
    jsonschema.Draft202012Validator(schema).validate(value)
    if sys.argv[3] not in value:
        sys.exit("no " + sys.argv[3])
END
valid() { # SECTION COMMAND...: prints JSON that has that section
	section=$1
	shift
	"$@" >"$dir/json" || [ "$section" = checks ] || return
	python3 "$dir/validate.py" "$man/nbd-client.schema.json" "$dir/json" \
		"$section"
}

server_start "$uri" -U "$dir/socket" memory 16M

check 'the schema says no' \
	python3 "$dir/validate.py" "$man/nbd-client.schema.json" breach
check 'status' valid groups "$fake" "$dir/run" status --json nbd0
check 'list' valid devices "$fake" "$dir/run" list --json
check 'exports' valid exports "$client" exports --json "$uri"
check 'info' valid export "$client" info --json "$uri"
check 'check' valid checks "$client" check --json
check 'bench' valid bench "$client" bench --json --requests=100 "$uri"
check 'attach --dry-run' valid windows \
	"$client" attach --dry-run --json "$uri"
check 'attach --dry-run --swap' valid kernel \
	"$client" attach --dry-run --swap --json "$uri"
check 'attach --dry-run --kernel-path' valid process \
	"$client" attach --dry-run --kernel-path --json "$uri"

exit $failed
