#compdef nbd-client
# SPDX-License-Identifier: GPL-2.0-or-later
# Zsh completion for nbd-client. Commands and options are asked of the program
# itself, so only the words for a value are written here.

# "COMMAND:what it does", a line each.
_nbd_client_commands() {
	local line
	for line in ${(f)"$($1 --help 2>/dev/null)"}; do
		[[ $line =~ '^  ([a-z]+) .* ([A-Z][a-z]+s [^|]*)[.]$' ]] ||
			continue
		print -r -- "$match[1]:$match[2]"
	done
}

# The options of a command: --name, --name= if a value follows, both if it may.
_nbd_client_options() {
	local line
	for line in ${(f)"$($1 $2 --help 2>/dev/null)"}; do
		[[ $line =~ '^  (-.,|   ) (--[a-z-]+)([[]?=?)' ]] || continue
		[[ $match[3] == = ]] || print -r -- $match[2]
		[[ -z $match[3] ]] || print -r -- $match[2]=
	done
}

# What may follow an option's "=".
_nbd_client_values() {
	case $1 in
	--tls) compadd off allow require ;;
	--tls-records) compadd auto kernel user ;;
	--swap) compadd best-effort ;;
	--on-eio) compadd fail retry ;;
	--rw) compadd read write randread randwrite verify ;;
	--without)
		compset -P '*,'
		compadd -S '' reserve donor socket-memory cgroup mlock flusher \
			fifo oom tune windows elastic buffers sysctls
		;;
	--tls-(ca|cert|key|psk-file)|--config) _files ;;
	esac
}

_nbd_client() {
	local program=$words[1] command=$words[2] option
	local -a list
	if (( CURRENT == 2 )); then
		list=(${(f)"$(_nbd_client_commands $program)"})
		_describe command list
	elif [[ $PREFIX == --*=* ]]; then
		option=${PREFIX%%=*}
		compset -P '*='
		_nbd_client_values $option
	elif [[ $PREFIX == -* ]]; then
		list=(${(f)"$(_nbd_client_options $program $command)"})
		compadd -S '' -- ${(M)list:#*=}
		compadd -- ${list:#*=}
	elif [[ $command == (detach|status|reconnect|upgrade) ]]; then
		list=(${(f)"$($program list --no-headings 2>/dev/null)"})
		compadd -- ${list%% *}
	elif [[ $command == attach ]]; then
		compadd nbd ublk auto
	fi
}

[[ $funcstack[1] != _nbd-client ]] || _nbd_client
