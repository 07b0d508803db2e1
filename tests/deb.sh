#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# sh tests/deb.sh BUILDDIR [ROOT]: the Debian package, as "make deb" makes it in
# BUILDDIR, is installed in a system of its own (made by debootstrap in ROOT,
# which is kept if it is named): in place of Debian's nbd-client, again, and
# purged. As root; takes some minutes. 77: this machine cannot.
# shellcheck disable=SC2016,SC2317 # formats of dpkg; called by check
set -u
build=$(cd "${1:?usage: tests/deb.sh BUILDDIR [ROOT]}" && pwd) || exit 2
suite=${SUITE:-bookworm}
mirror=${MIRROR:-http://deb.debian.org/debian}
scratch=$(mktemp -d) || exit 2
root=${2:-$scratch/root}
code=0
trap 'rm -rf "$scratch"' EXIT

cannot() {
	echo "$1"
	exit 77
}
[ "$(id -u)" = 0 ] || cannot 'only root can make a system'
for tool in debootstrap dpkg-buildpackage dh; do
	command -v $tool >/dev/null || cannot "no $tool"
done

# check WHAT COMMAND...
check() {
	what=$1
	shift
	if "$@" >"$scratch/log" 2>&1; then
		echo "ok - $what"
		return
	fi
	echo "not ok - $what"
	tail -n 20 "$scratch/log" | sed 's/^/# /'
	code=1
}
inside() {
	DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$root" "$@"
}
# Everything but what apt and dpkg remember.
files() {
	(cd "$root" && find . -xdev \( -path ./var/lib -o -path ./var/cache -o \
		-path ./var/log -o -path ./tmp -o -path ./etc/ld.so.cache -o \
		-path ./run -o -name __pycache__ \) -prune -o -print | sort)
}
state() { inside dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null; }

make -s -C "$build" deb >"$scratch/build.log" 2>&1 || {
	tail -n 20 "$scratch/build.log"
	exit 1
}
for deb in "$build"/deb/nbd-reserve_*.deb; do :; done
if command -v lintian >/dev/null; then
	check 'lintian finds no error' lintian --allow-root --fail-on error \
		--tag-display-limit 0 "$deb"
fi

if ! [ -x "$root/usr/bin/apt-get" ]; then
	debootstrap --variant=minbase "$suite" "$root" "$mirror" \
		>"$scratch/debootstrap.log" 2>&1 ||
		cannot "debootstrap: $(tail -n 1 "$scratch/debootstrap.log")"
fi
cp -L /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null
inside apt-get -q update >"$scratch/log" 2>&1 || cannot 'no mirror of Debian'
# Libraries stay when the package goes, so they are there before.
libraries=$(dpkg-deb -f "$deb" Depends | sed 's/ *([^)]*)//g; s/|[^,]*//g; s/,/ /g')
# shellcheck disable=SC2086 # a list
inside apt-get -q -y --no-install-recommends install $libraries \
	>"$scratch/log" 2>&1 || cannot 'libraries cannot be installed'
cp "$deb" "$root/tmp/nbd-reserve.deb"
install_ours() {
	inside apt-get -q -y --no-install-recommends install \
		--reinstall /tmp/nbd-reserve.deb
}
works() {
	inside nbd-client --version | grep -q nbd-reserve &&
		inside nbd-client attach --help | grep -q -e --swapon &&
		inside /sbin/nbd-client --version
}
files >"$scratch/before"

# ---- alone ----

check 'apt installs it' install_ours
check 'the program runs' works
check 'and again' install_ours
check 'purge' inside apt-get -q -y purge nbd-reserve
files >"$scratch/after"
check 'nothing is left' diff "$scratch/before" "$scratch/after"

# ---- in place of Debian's ----

check "Debian's nbd-client" inside apt-get -q -y --no-install-recommends \
	install nbd-client
echo 'nbd0 server export swap' >>"$root/etc/nbdtab"
check 'apt puts ours in its place' install_ours
check 'the program runs' works
replaced() {
	[ "$(state nbd-reserve)" = 'ii ' ] && [ "$(state nbd-client)" != 'ii ' ] &&
		grep -q '^nbd0 server' "$root/etc/nbdtab" &&
		[ ! -e "$root/usr/share/initramfs-tools/hooks/nbd" ]
}
check 'which is gone, but not its table' replaced
echo 'uri=nbd://server/' >"$root/etc/nbd-client.d/nbd1.conf"
check 'the old one can be purged' inside apt-get -q -y purge nbd-client
check 'which takes no table and no file of ours' sh -c \
	"grep '^nbd0 server' '$root/etc/nbdtab' && ls '$root/etc/nbd-client.d/nbd1.conf'"
rm "$root/etc/nbd-client.d/nbd1.conf"
check 'the program runs all the same' works
check 'purge' inside apt-get -q -y purge nbd-reserve
files >"$scratch/after"
check 'nothing is left' sh -c "comm -13 '$scratch/before' '$scratch/after' |
	grep nbd; test \$? = 1"
exit $code
