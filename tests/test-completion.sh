#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/test-completion.sh: each command and option of --help is completed by
# bash and zsh, and each word for a value is one that --help knows. NBD_CLIENT
# names the program.
# shellcheck disable=SC2317 # called by check
set -u
client=$(realpath "${NBD_CLIENT:-nbd-client/nbd-client}")
here=$(cd "$(dirname "$0")/../nbd-client" && pwd)
dir=$(mktemp -d) || exit 1
# shellcheck source=tests/shell.sh
. "${0%/*}/shell.sh"
trap 'rm -rf "$dir"' EXIT
failed=0
PATH=$dir:$PATH
ln -s "$client" "$dir/nbd-client"

commands=$(nbd-client --help | awk '/^  [a-z]/ { print $1 }')
# options COMMAND: names without values.
options() {
	nbd-client "$1" --help | sed -n 's/^  .\{4\}\(--[a-z-]*\).*/\1/p' | sort
}
if [ -z "$commands" ] || [ "$(options attach | wc -l)" -lt 10 ]; then
	echo '--help has another form now'
	exit 1
fi

# ---- bash ----

# bash_completes LINE: what it offers, a line each, sorted.
bash_completes() {
	bash --norc -c '
		compopt() { :; }
		. "$0/completion.bash"
		COMP_LINE=$1 COMP_POINT=${#1}
		read -ra COMP_WORDS <<<"$1"
		[[ $1 != *" " ]] || COMP_WORDS+=("")
		COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
		_nbd_client
		((!${#COMPREPLY[@]})) || printf "%s\n" "${COMPREPLY[@]}"
	' "$here" "$1" | sort
}
same() { # LINE WORD...: offers just these
	line=$1
	shift
	printf '%s\n' "$@" | sed '/^$/d' | sort >"$dir/want"
	bash_completes "$line" | diff "$dir/want" -
}
bash_options() {
	for command in $commands; do
		options "$command" >"$dir/want"
		bash_completes "nbd-client $command --" | sed 's/=$//' |
			sort -u | diff "$dir/want" - || return
	done
}
# The words for OPTION of COMMAND are in what --help says about it.
bash_values() {
	for pair in attach:tls attach:tls-records attach:swap attach:without bench:rw; do
		nbd-client "${pair%:*}" --help |
			awk -v option="--${pair#*:}" '
				/^  ....--/ { on = index($1 $2, option "=") ||
					index($1 $2, option "[") }
				on' >"$dir/text"
		bash_completes "nbd-client ${pair%:*} --${pair#*:}=" >"$dir/words"
		[ -s "$dir/words" ] || return
		while read -r word; do
			grep -qw -e "$word" "$dir/text" ||
				{ echo "$pair: $word"; return 1; }
		done <"$dir/words"
	done
}
bash_files() {
	: >"$dir/key-file"
	same "nbd-client attach --tls-key=$dir/key-f" "$dir/key-file"
}

if command -v bash >/dev/null; then
	# shellcheck disable=SC2086 # a list
	check 'bash: commands' same 'nbd-client ' $commands
	check 'bash: the beginning of a command' same 'nbd-client det' detach
	check 'bash: options of each command' bash_options
	check 'bash: one option' same 'nbd-client attach --tls-c' \
		--tls-ca= --tls-cert=
	check 'bash: with and without a value' same 'nbd-client attach --swapo' \
		--swapon --swapon=
	check 'bash: words for values are those of --help' bash_values
	check 'bash: files' bash_files
	check 'bash: kinds of device' same 'nbd-client attach nbd://x/ u' ublk
else
	echo 'skipped - no bash'
	failed=77
fi

# ---- zsh ----

zsh_says() { # FUNCTION ARG...
	zsh -f -c 'setopt extendedglob; . "$0/completion.zsh"; "$@"' "$here" "$@"
}
zsh_commands() {
	printf '%s\n' "$commands" >"$dir/want"
	zsh_says _nbd_client_commands nbd-client >"$dir/got" &&
		! grep -v ':[A-Z]' "$dir/got" &&
		sed 's/:.*//' "$dir/got" | diff "$dir/want" -
}
zsh_options() {
	for command in $commands; do
		options "$command" >"$dir/want"
		zsh_says _nbd_client_options nbd-client "$command" >"$dir/got" ||
			return
		sed 's/=$//' "$dir/got" | sort -u | diff "$dir/want" - ||
			return
	done
}
# As somebody would type it, in a terminal of its own: LINE becomes WORD.
zsh_typed() {
	cat >"$dir/type" <<'SCRIPT'
zmodload zsh/zpty
zpty -b z zsh -f -i
zpty -w z "PS1= fpath=($1 \$fpath); autoload -Uz compinit; compinit -D -u"
zpty -w z 'print RE""ADY'
read_until() {
	local text got i
	for ((i = 0; i < 200; i++)); do
		zpty -r -t z text && got+=$text
		[[ $got != *$1* ]] || return 0
		sleep 0.05
	done
	print -r -- "not seen: $1 in: $got"
	return 1
}
read_until READY || exit 1
zpty -n -w z "$2"$'\t'
read_until "$3"
SCRIPT
	zsh -f "$dir/type" "$dir/site" "$1" "$2"
}
if command -v zsh >/dev/null; then
	mkdir "$dir/site" && cp "$here/completion.zsh" "$dir/site/_nbd-client"
	check 'zsh: commands' zsh_commands
	check 'zsh: options of each command' zsh_options
	check 'zsh: typed, a command' zsh_typed 'nbd-client det' detach
	check 'zsh: typed, an option' zsh_typed \
		'nbd-client attach --handsh' ake-timeout=
	check 'zsh: typed, a word for a value' zsh_typed \
		'nbd-client attach --tls=req' require
else
	echo 'skipped - no zsh'
	[ $failed != 0 ] || failed=77
fi
exit $failed
