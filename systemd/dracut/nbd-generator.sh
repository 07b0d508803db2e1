#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A generator in the initramfs: where root= is a server and no device, systemd
# does not know what to mount. $2 is the directory for early units.
# shellcheck source=/dev/null
. /lib/dracut-lib.sh
# shellcheck source=/dev/null
. /lib/nbd-boot.sh

root=$(getarg root=)
case $root in nbd:* | nbds:* | nbd+unix:* | nbds+unix:*) ;; *) exit 0 ;; esac
nbd_boot_parse "$root" || exit 0
options=${nbd_flags:-$(getarg rootflags=)}
! getarg ro >/dev/null || options=${options:+$options,}ro
fstype=${nbd_fstype:-$(getarg rootfstype=)}
mkdir -p "${2:?}"
{
	printf '%s\n' '[Unit]' 'Before=initrd-root-fs.target' \
		'[Mount]' 'Where=/sysroot' 'What=/dev/nbd0'
	[ -z "$fstype" ] || echo "Type=$fstype"
	[ -z "$options" ] || echo "Options=$options"
} >"$2/sysroot.mount"
