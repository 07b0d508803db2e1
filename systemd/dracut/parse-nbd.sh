#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# root=SPEC, netroot=SPEC or nbdroot=SPEC, and nbdswap=SPEC, see nbd-boot.sh; of
# root= and netroot= only those that begin with nbd: or nbds: are ours.
# Sourced by dracut's cmdline hook: root, netroot, rootok, rflags, fstype and
# hookdir are its.
# shellcheck disable=SC2016,SC2034,SC2154

[ -n "$root" ] || root=$(getarg root=)
nbd_found=$(getarg nbdroot=)
for nbd_word in "$root" $(getargs netroot=); do
	case $nbd_word in
	nbd:* | nbds:* | nbd+unix:* | nbds+unix:*)
		[ -n "$nbd_found" ] || nbd_found=$nbd_word
		;;
	esac
done
if [ -n "$nbd_found" ]; then
	# shellcheck source=/dev/null
	. /lib/nbd-boot.sh
	nbd_boot_parse "$nbd_found" || die "$nbd_found: server or export missing"
	echo "$nbd_found" >/run/nbd-client.root
	case $root in
	/dev/* | block:*) ;;
	*) root=block:/dev/nbd0 ;;
	esac
	[ -z "$nbd_fstype" ] || fstype=$nbd_fstype
	[ -z "$nbd_flags" ] || rflags=$nbd_flags
	rootok=1
	# Until it is attached its size is 0.
	echo '[ "$(cat /sys/block/nbd0/size 2>/dev/null || echo 0)" != 0 ]' \
		>"$hookdir/initqueue/finished/nbdroot.sh"
fi
getarg nbdswap= >/run/nbd-client.swap
# The network comes up, and then /sbin/nbdroot is run.
[ ! -s /run/nbd-client.root ] && [ ! -s /run/nbd-client.swap ] || netroot=nbd:
