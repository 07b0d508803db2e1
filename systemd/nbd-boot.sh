# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
# Devices named on the kernel's command line, for the initramfs: sourced by what
# is in initramfs-tools/ and dracut/. No external program but nbd-client.

# nbd_boot_parse SPEC: sets nbd_uri, nbd_export, nbd_dev, nbd_fstype, nbd_flags;
# empty is what SPEC does not say. False if it says too little. SPEC is
#   nbd://..., nbds://...           a URI; ",DEV" may follow
#   URI,URI...                      several servers; ",DEV" may follow
#   HOST[:PORT]/EXPORT, HOST:/EXPORT, HOST,EXPORT,DEV, HOST,PORT
#   nbd:HOST:PORT[/EXPORT][:FSTYPE[:FLAGS[:OPTIONS]]], nbd:HOST:EXPORT...
# with an IPv6 address in brackets. OPTIONS were for the old client: ignored.
# shellcheck disable=SC2034 # read by whoever calls
nbd_boot_parse() {
	nbd_uri='' nbd_export='' nbd_dev='' nbd_fstype='' nbd_flags=''
	nbd_host='' nbd_port=''
	nbd_spec=$1
	case $nbd_spec in
	nbd://* | nbds://* | nbd+unix://* | nbds+unix://*)
		nbd_dev=${nbd_spec##*,}
		case $nbd_dev in *://*) nbd_dev='' ;; esac
		nbd_uri=${nbd_spec%"${nbd_dev:+,$nbd_dev}"}
		return 0
		;;
	nbd:*) nbd_spec=${nbd_spec#nbd:} nbd_form=colons ;;
	*) nbd_form=slash ;;
	esac
	case $nbd_spec in
	\[*\]*)
		nbd_host=${nbd_spec%%\]*}]
		nbd_spec=${nbd_spec#"$nbd_host"}
		;;
	*)
		nbd_host=${nbd_spec%%[:/,]*}
		nbd_spec=${nbd_spec#"$nbd_host"}
		;;
	esac
	if [ $nbd_form = colons ]; then
		nbd_spec=${nbd_spec#:}:::
		nbd_export=${nbd_spec%%:*}
		nbd_spec=${nbd_spec#*:}
		nbd_fstype=${nbd_spec%%:*}
		nbd_spec=${nbd_spec#*:}
		nbd_flags=${nbd_spec%%:*}
		nbd_port=${nbd_export%%/*}
		case $nbd_port in
		*[!0-9]* | '') nbd_port='' ;;
		"$nbd_export") nbd_export='' ;;
		*) nbd_export=${nbd_export#*/} ;;
		esac
		nbd_export=${nbd_export#/}
	else
		case $nbd_spec in
		,*,*)
			nbd_export=${nbd_spec#,}
			nbd_dev=${nbd_export##*,}
			nbd_export=${nbd_export%,*}
			;;
		,*) nbd_port=${nbd_spec#,} ;;
		:/*) nbd_export=${nbd_spec#:/} ;;
		:*/*)
			nbd_port=${nbd_spec#:}
			nbd_port=${nbd_port%%/*}
			nbd_export=${nbd_spec#*/}
			;;
		/*) nbd_export=${nbd_spec#/} ;;
		*) return 1 ;;
		esac
	fi
	[ -n "$nbd_host" ] || return 1
	nbd_uri=nbd://$nbd_host${nbd_port:+:$nbd_port}/
}

# nbd_boot_attach OPTION...: what nbd_boot_parse found. By the name with the
# mark: who has it is not killed when the real system takes over, nor in the end.
nbd_boot_attach() {
	@nbd-client attach "$@" ${nbd_export:+"--export=$nbd_export"} \
		"$nbd_uri" "${nbd_dev:-nbd}"
}
