#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Not all that brings the network up runs /sbin/netroot then: systemd-networkd in
# dracut 059 does not. Sourced by dracut in each round of its waiting.
nbd_wanted() {
	[ -s /run/nbd-client.swap ] ||
		{ [ -s /run/nbd-client.root ] && [ ! -e /run/nbd-client/nbd0.stats ]; }
}
if nbd_wanted; then
	for nbd_card in /sys/class/net/*; do
		case ${nbd_card##*/}:$(cat "$nbd_card/operstate" 2>/dev/null) in
		lo:*) continue ;;
		*:up | *:unknown) ;; # some drivers do not tell
		*) continue ;;
		esac
		/sbin/nbdroot "${nbd_card##*/}" nbd: /sysroot && break
	done
fi
