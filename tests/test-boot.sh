#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/test-boot.sh: what the initramfs makes of the kernel's command line.
set -u
code=0
# shellcheck source=systemd/nbd-boot.sh
. "$(dirname "$0")/../systemd/nbd-boot.sh"

# says SPEC URI EXPORT [DEV [FSTYPE [FLAGS]]]
says() {
	nbd_boot_parse "$1" || nbd_uri=refused
	got="$nbd_uri|$nbd_export|$nbd_dev|$nbd_fstype|$nbd_flags"
	want="$2|${3-}|${4-}|${5-}|${6-}"
	if [ "$got" = "$want" ]; then
		echo "ok - $1"
	else
		echo "not ok - $1: $got, expected $want"
		code=1
	fi
}

says nbd://h/e nbd://h/e
says nbds://u@h:1/e?tls-hostname=x,nbd3 nbds://u@h:1/e?tls-hostname=x '' nbd3
says nbd://a/e,nbd://b:1/f nbd://a/e,nbd://b:1/f
says nbds://a/e,nbds://b/e,nbd://c/e,nbd2 nbds://a/e,nbds://b/e,nbd://c/e '' nbd2
says h,e,nbd2 nbd://h/ e nbd2
says h,a,b,nbd2 nbd://h/ a,b nbd2
says h,1234 nbd://h:1234/
says h:1234/e nbd://h:1234/ e
says 10.0.0.1:1234/a/b nbd://10.0.0.1:1234/ a/b
says h:/e nbd://h/ e
says h/e nbd://h/ e
says '[fe80::1]:1234/e' 'nbd://[fe80::1]:1234/' e
says '[::1]:/e' 'nbd://[::1]/' e
says nbd:h:1234 nbd://h:1234/
says nbd:h:e nbd://h/ e
says nbd:h:1234/e nbd://h:1234/ e
says nbd:h:1234/a/b:ext4 nbd://h:1234/ a/b '' ext4
says nbd:h:e:ext4:noatime,ro:bs=512 nbd://h/ e '' ext4 noatime,ro
says nbd:h:e::ro nbd://h/ e '' '' ro
says nbd:h:e/f nbd://h/ e/f
says 'nbd:[::1]:1234:xfs' 'nbd://[::1]:1234/' '' '' xfs
says '' refused
says h refused
says :1234/e refused e
says nbd::e refused e

# nbd_boot_attach: what nbd-client is called with.
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
printf '%s\n' '#!/bin/sh' 'printf "%s\n" "$@"' >"$dir/@nbd-client"
chmod +x "$dir/@nbd-client"
PATH=$dir:$PATH
nbd_boot_parse 'h:1/an export' &&
	got=$(nbd_boot_attach --swapon | tr '\n' '|')
want='attach|--swapon|--export=an export|nbd://h:1/|nbd|'
if [ "$got" = "$want" ]; then
	echo 'ok - attach'
else
	echo "not ok - attach: $got, expected $want"
	code=1
fi
exit $code
