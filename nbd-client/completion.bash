# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Bash completion for nbd-client. Commands and options are asked of the program
# itself, so only the words for a value are written here.

# The commands, or with a command its options: --name, --name= if a value has to
# follow, --name[=...] if one may.
_nbd_client_words() {
	"$1" ${2:+"$2"} --help 2>/dev/null | if [ -n "${2-}" ]; then
		sed -n 's/^  \(-., \|    \)\(--[a-z-]*\(=\|\[=[^]]*\]\)\{0,1\}\).*/\2/p'
	else
		sed -n 's/^  \([a-z]\{1,\}\) .*/\1/p'
	fi
}

# What may follow an option's "=".
_nbd_client_values() {
	case $1 in
	--tls) echo off allow require ;;
	--tls-records) echo auto kernel user ;;
	--swap) echo best-effort ;;
	--on-eio) echo fail retry ;;
	--identity) echo description ;;
	--endpoint) [ "${2-}" != reconnect ] || echo preferred 1 2 3 4 ;;
	--rw) echo read write randread randwrite verify ;;
	--without)
		echo reserve donor socket-memory cgroup mlock flusher fifo oom \
			tune windows elastic buffers sysctls
		;;
	esac
}

_nbd_client() {
	local line=${COMP_LINE:0:COMP_POINT} program=${COMP_WORDS[0]}
	local command=${COMP_WORDS[1]} word
	word=${line##*[[:space:]]}
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W \
			"$(_nbd_client_words "$program")" -- "$word")
		return
	fi
	case $word in
	--tls-ca=* | --tls-cert=* | --tls-key=* | --tls-psk-file=* | --config=*)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "${word#*=}")
		;;
	--*=*)
		mapfile -t COMPREPLY < <(compgen -W \
			"$(_nbd_client_values "${word%%=*}" "$command")" -- "${word#*=}")
		;;
	-*)
		mapfile -t COMPREPLY < <(compgen -W \
			"$(_nbd_client_words "$program" "$command" |
				sed 's/\(.*\)\[=.*/\1\n\1=/')" -- "$word")
		[[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace
		;;
	*)
		case $command in
		detach | status | reconnect | upgrade)
			mapfile -t COMPREPLY < <(compgen -W "$("$program" list \
				--no-headings 2>/dev/null | awk '{ print $1 }')" \
				-- "$word")
			;;
		attach)
			mapfile -t COMPREPLY < <(compgen -W 'nbd ublk auto' \
				-- "$word")
			;;
		esac
		;;
	esac
}
complete -F _nbd_client nbd-client
