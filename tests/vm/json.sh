# SPDX-License-Identifier: GPL-2.0-or-later
# json.sh: lines "key value" to one JSON object.  Sourced by run.
#
# The first value of a key counts.  Numbers, objects and lists go in as they
# are, everything else as a string.
# shellcheck shell=sh

# json_object FILE
json_object() {
	awk '
	{
		key = $1
		value = substr($0, length(key) + 2)
		if (key == "" || key in seen)
			next
		seen[key] = 1
		if (value !~ /^(-?(0|[1-9][0-9]*)(\.[0-9]+)?|true|false|null|[{\[].*[]}])$/ ||
		    key == "kernel") {
			gsub(/\\/, "\\\\", value)
			gsub(/"/, "\\\"", value)
			gsub(/[[:cntrl:]]/, " ", value)
			value = "\"" value "\""
		}
		printf "%s\"%s\":%s", n++ ? "," : "{", key, value
	}
	END { print n ? "}" : "{}" }' "$1"
}
