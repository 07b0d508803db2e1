#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/deps.sh [--print] [--vm]: installs what building and testing need on
# Debian 12 or later; asks apt for nothing if all of it is there. --print only
# lists the packages, --vm adds those of the guest harness.
set -eu
here=$(dirname "$0")

build='autoconf automake gcc libc6-dev make pkg-config
	libblkid-dev liburing-dev libnl-3-dev libnl-genl-3-dev libssl-dev'
check='ca-certificates clang clang-format clang-tidy cppcheck iproute2
	libcmocka-dev libglib2.0-0 libgnutls30 man-db mandoc nbdkit openssl
	python3-jsonschema qemu-utils shellcheck strace universal-ctags xz-utils
	zsh'

print=no
vm=no
for arg; do
	case $arg in
	--print) print=yes ;;
	--vm) vm=yes ;;
	*)
		echo 'usage: tests/deps.sh [--print] [--vm]' >&2
		exit 2
		;;
	esac
done

installed() {
	case $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) in
	installed) return 0 ;;
	*) return 1 ;;
	esac
}

apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -y \
		-o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@" </dev/null
}

if [ $print = yes ]; then
	# shellcheck disable=SC2086 # a list
	printf '%s\n' $build $check
	[ $vm = no ] || sh "$here/vm/deps" --print
	exit 0
fi

missing=
for package in $build $check; do
	installed "$package" || missing="$missing $package"
done
if [ -n "$missing" ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "missing, install as root: apt-get install$missing" >&2
		exit 1
	fi
	apt update
	# shellcheck disable=SC2086 # a list
	apt install --no-install-recommends $missing
fi
[ $vm = no ] || sh "$here/vm/deps"
