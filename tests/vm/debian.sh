# SPDX-License-Identifier: GPL-2.0-or-later
# debian.sh: a Debian system with our package installed, for scenarios that say
# "# boots: debian".  Sourced by run after image.sh, whose functions and variables
# it uses.
#
# debian_prepare sets root_image, which a guest may write to, and initrd, which is
# the small one of image.sh, or with "# boots: debian-initramfs" the system's own.
# shellcheck shell=sh disable=SC2034,SC2154 # variables shared with run

debian_mirror=${MIRROR:-http://deb.debian.org/debian}

debian_prepare() {
	[ "$(id -u)" = 0 ] || skip "only root can make a Debian system"
	for tool in debootstrap dpkg-buildpackage dh; do
		command -v $tool >/dev/null ||
			skip "no $tool on this machine: run tests/vm/deps"
	done
	debian_package
	debian_base
	debian_image
	[ "$boots" = debian ] || initrd=$root_image.$key_initramfs
}

# inside ROOT COMMAND...
inside() {
	(
		DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
		export DEBIAN_FRONTEND LC_ALL
		chroot "$@"
	) >>"$log/debian.log" 2>&1
}

# The package that "make deb" has made of the sources as they are.
debian_package() {
	for package_file in "$build"/deb/nbd-reserve_*.deb; do :; done
	[ -f "$package_file" ] && [ -z "$(find "$top" -name .git -prune -o -type f \
		-newer "$package_file" ! -path "$top/tests/*" -print -quit)" ] &&
		return
	say "making the package"
	make -s -C "$build" deb >"$log/deb.log" 2>&1 ||
		skip "make deb failed: $(tail -n 1 "$log/deb.log")"
	for package_file in "$build"/deb/nbd-reserve_*.deb; do :; done
}

# What comes from Debian alone: it takes minutes, and is rarely made.
debian_base() {
	id=$( (echo "$package"; sed -n '/^debian_base/,/^}/p' "$vm/debian.sh") | hash_of)
	base=$cache/debian/$id
	[ ! -d "$base" ] || return 0
	say "making a Debian system"
	debootstrap --variant=minbase --include="systemd-sysv,udev,dbus,kmod,ifupdown,\
iproute2,iputils-ping,initramfs-tools,busybox-static,linux-base,zstd,\
libblkid1,liburing2,libnl-3-200,libnl-genl-3-200,libssl3,prometheus-node-exporter,\
dracut-core,dracut-network" \
		bookworm "$work/base" "$debian_mirror" >"$log/debian.log" 2>&1 ||
		skip "debootstrap: $(tail -n 1 "$log/debian.log")"
	fetch "$package" "$work/kernel" || skip "apt-get could not download $package"
	cp "$deb" "$work/base/tmp/kernel.deb"
	inside "$work/base" dpkg -i /tmp/kernel.deb ||
		skip "the kernel package: $(tail -n 1 "$log/debian.log")"
	rm -rf "$work/kernel" "$work/base/tmp/kernel.deb" \
		"$work/base"/var/cache/apt/archives/*.deb "$work/base"/var/lib/apt/lists/* \
		"$work/base"/usr/share/doc/* "$work/base"/usr/share/locale/*
	mkdir -p "$cache/debian"
	mv "$work/base" "$base"
}

# debian_image: the base with our package and what a scenario needs.  Which of the
# devices that it configures are wanted is for the kernel's command line to say.
debian_image() {
	id=$( (echo "$base $tools"; cat "$package_file" "$vm/debian.sh" \
		"$vm"/guest/debian-* "$busybox") | hash_of)
	root_image=$cache/images/$id.img
	[ ! -f "$root_image.dracut" ] || {
		touch "$root_image"
		return 0
	}
	say "installing the package"
	tree=$work/root
	cp -a "$base" "$tree"
	cp "$package_file" "$tree/tmp/nbd-reserve.deb"
	inside "$tree" dpkg -i /tmp/nbd-reserve.deb ||
		finish failed "the package: $(tail -n 1 "$log/debian.log")"
	rm "$tree/tmp/nbd-reserve.deb"
	debian_files
	inside "$tree" systemctl enable vm.service nbd-client@nbd0.service
	# A scenario starts it when it is asked for.
	inside "$tree" systemctl disable prometheus-node-exporter.service
	inside "$tree" systemctl mask getty@tty1.service serial-getty@ttyS0.service \
		apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
		e2scrub_all.timer e2scrub_reap.service fstrim.timer
	mkdir -p "$cache/images"
	inside "$tree" dracut --no-hostonly --kver "$kernel_version" /boot/dracut.img ||
		finish failed "dracut: $(tail -n 1 "$log/debian.log")"
	cp "$tree/boot/initrd.img-$kernel_version" "$work/initramfs-tools.img"
	cp "$tree/boot/dracut.img" "$work/dracut.img"
	rm -r "$tree/boot"
	size=$(($(du -sk "$tree" | cut -f 1) * 5 / 4 + 65536))
	mke2fs -q -t ext4 -L root -d "$tree" "$work/root.img" "${size}k" \
		>"$log/mke2fs.log" 2>&1
	rm -rf "$tree"
	mv "$work/root.img" "$root_image"
	mv "$work/initramfs-tools.img" "$root_image.initramfs-tools"
	mv "$work/dracut.img" "$root_image.dracut"
	find "$cache/images" -name '*.img' -printf '%T@ %p\n' | sort -rn |
		tail -n +3 | cut -d ' ' -f 2- | while read -r old; do
		rm -f "$old" "$old.initramfs-tools" "$old.dracut"
	done
}

debian_files() {
	for name in hog gauge; do cp "$tools/$name" "$tree/usr/bin"; done
	# What the scenarios' functions call and Debian has not, behind what it has.
	mkdir -p "$tree/usr/lib/vm/bin"
	for name in usleep setsid nc; do
		ln -s /usr/bin/busybox "$tree/usr/lib/vm/bin/$name"
	done
	install -m 755 "$vm/guest/debian-start" "$tree/usr/lib/vm/start"
	install -m 644 "$vm/guest/debian-vm.service" "$tree/etc/systemd/system/vm.service"
	echo guest >"$tree/etc/hostname"
	printf '127.0.0.1 localhost guest\n10.77.0.1 host\n' >"$tree/etc/hosts"
	echo 'LABEL=root / ext4 defaults 0 0' >"$tree/etc/fstab"
	printf '%s\n' 'auto lo' 'iface lo inet loopback' 'auto eth0' \
		'iface eth0 inet static' '	address 10.77.0.2/24' \
		'	gateway 10.77.0.1' >"$tree/etc/network/interfaces"
	printf '%s\n' 'uri = nbd://10.77.0.1:10809/disk' 'swapon = 10' \
		>"$tree/etc/nbd-client.d/nbd0.conf"
	mkdir -p "$tree/etc/systemd/journald.conf.d"
	printf '%s\n' '[Journal]' 'Storage=volatile' 'ForwardToConsole=yes' \
		'TTYPath=/dev/ttyS0' 'MaxLevelConsole=info' \
		>"$tree/etc/systemd/journald.conf.d/console.conf"
}
