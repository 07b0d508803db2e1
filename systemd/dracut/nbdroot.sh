#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# /sbin/nbdroot INTERFACE NETROOT NEWROOT: once the network is up; again for
# each interface, and for the next attempt if this one fails.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
# shellcheck source=/dev/null
. /lib/dracut-lib.sh
# shellcheck source=/dev/null
. /lib/nbd-boot.sh

modprobe -q nbd
if [ -s /run/nbd-client.root ] && [ ! -e /run/nbd-client/nbd0.stats ]; then
	nbd_boot_parse "$(cat /run/nbd-client.root)" || exit 1
	# shellcheck disable=SC2034 # read by nbd_boot_attach
	nbd_dev=/dev/nbd0
	nbd_boot_attach --swap=best-effort || exit 1
fi
if [ -s /run/nbd-client.swap ]; then
	nbd_boot_parse "$(cat /run/nbd-client.swap)" || exit 1
	nbd_boot_attach --swapon || exit 1
	rm /run/nbd-client.swap
fi
need_shutdown
exit 0
