# SPDX-License-Identifier: GPL-2.0-or-later
# image.sh: what a guest boots, made from Debian's packages and the build tree.
# Sourced by run, which gives get, say, skip and the variables cache, work, vm.
#
# image_prepare sets kernel_version, kernel_dir (with vmlinuz), initrd,
# root_image, nbd_server, tls, program.  Everything lies in the cache under a name that holds a hash of
# its contents or of what it was made from, appears there by one rename, and is
# never changed afterwards.
# shellcheck shell=sh disable=SC2034,SC2154 # variables shared with run

# Modules that the small first file system needs, and those for the real root.
# Names that a kernel does not have are built in or left out.
boot_modules='virtio_pci virtio_blk ext4 crc32c_generic'
root_modules='virtio_net e1000e nbd ublk_drv tls sch_netem sch_tbf af_packet
	ipv6 nf_tables crc32c_intel ifb act_mirred cls_matchall sch_ingress
	cls_bpf gcm ctr ghash_generic ghash_clmulni_intel aesni_intel
	chacha20poly1305 chacha_x86_64 poly1305_x86_64'

# Programs of the host that go into the root image with their libraries.
root_programs='fio strace blkdiscard mke2fs setpriv ip swapon tc openssl'

image_prepare() {
	image_tools
	image_kernel
	image_stock nbd-client
	stock_client=$stock/sbin/nbd-client
	[ "$(get front)" != kernel ] || program="Debian's ${stock##*/}"
	image_stock nbd-server
	nbd_server=$stock/bin/nbd-server
	image_guest_tools
	image_tls
	image_initrd
	[ -n "$boots" ] || image_root
}

hash_of() { sha256sum | cut -c 1-16; }

# unpack DEB DIR [MEMBER...]
unpack() {
	mkdir -p "$2"
	dpkg-deb --fsys-tarfile "$1" | (cd "$2" && shift 2 && tar -x "$@")
}

# fetch PACKAGE DIR: the .deb of a package into a new folder; sets deb.
fetch() {
	say "fetching $1"
	mkdir -p "$2"
	(cd "$2" && apt-get -q -o APT::Sandbox::User="$(id -un)" download "$1") \
		>"$log/apt.log" 2>&1 || return 1
	deb=$(find "$2" -name '*.deb' | head -n 1)
	[ -n "$deb" ]
}

image_tools() {
	for tool in qemu-system-x86_64 busybox mke2fs modprobe depmod nbdkit qemu-nbd \
		unshare flock cc openssl xz dpkg-deb $root_programs; do
		PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null ||
			skip "no $tool on this machine: run tests/vm/deps"
	done
	PATH=$PATH:/usr/sbin:/sbin
	busybox=$(command -v busybox)
	! ldd "$busybox" >/dev/null 2>&1 ||
		skip "busybox is not the static one: run tests/vm/deps"
	unshare --net --mount --pid --fork --mount-proc true 2>"$log/unshare.log" ||
		skip "cannot make namespaces, root may: $(tail -n 1 "$log/unshare.log")"
	[ -c /dev/net/tun ] || skip "no /dev/net/tun for the guest's network card"
	build=$(get builddir)
	if [ -z "$build" ]; then
		for build in "$PWD" "$top/build" "$top"; do
			[ ! -x "$build/nbd-client/nbd-client" ] || break
		done
	fi
	client=$build/nbd-client/nbd-client
	program=
	[ -x "$client" ] || {
		[ "$(get front)" = kernel ] ||
			skip "no $client: build it, or say builddir="
		client=
		return 0
	}
	# A copy: it may be built again while the image is made.
	[ ! -x "$build/nbd-client/.libs/nbd-client" ] ||
		client=$build/nbd-client/.libs/nbd-client
	cp "$client" "$work/nbd-client"
	client=$work/nbd-client
	[ "$(get front)" = kernel ] || program=$("$client" --version | head -n 1)
}

# The newest kernel of the series that apt offers: the cloud flavour is small
# but has no e1000e.  Without apt's lists the newest one in the cache.
image_kernel() {
	series=$(get kernel)
	flavour=cloud-amd64
	[ "$(get nic)" = virtio ] || flavour=amd64
	pattern="^linux-image-${series%.*}\\.${series#*.}\\.[0-9+.a-z]*(-[0-9]+)?-$flavour-unsigned\$"
	package=$(apt-cache pkgnames "linux-image-$series." 2>/dev/null |
		grep -E "$pattern" | sort -V | tail -n 1)
	modules_hash=$(echo "$boot_modules $root_modules" | hash_of)
	if [ -z "$package" ]; then
		package=$(find "$cache/kernels" -mindepth 1 -maxdepth 1 \
			-name "linux-image-*.$modules_hash" -printf '%f\n' 2>/dev/null |
			sed 's/\.[0-9a-f]*$//' | grep -E "$pattern" | sort -V | tail -n 1)
		[ -n "$package" ] ||
			skip "apt offers no kernel $series $flavour: apt-get update?"
	fi
	kernel_dir=$cache/kernels/$package.$modules_hash
	kernel_version=${package#linux-image-}
	kernel_version=${kernel_version%-unsigned}
	[ ! -d "$kernel_dir" ] || return 0

	fetch "$package" "$work/kernel" || skip "apt-get could not download $package"
	say "unpacking the kernel"
	tree=$work/kernel/tree
	unpack "$deb" "$tree" ./boot ./lib/modules
	depmod -b "$tree" "$kernel_version"
	new=$work/kernel/new
	mkdir -p "$new/modules"
	cp "$tree/boot/vmlinuz-$kernel_version" "$new/vmlinuz"
	cp "$tree/lib/modules/$kernel_version"/modules.builtin* \
		"$tree/lib/modules/$kernel_version/modules.order" "$new/modules"
	# shellcheck disable=SC2086 # a list of names
	pick_modules $boot_modules >"$new/boot-order"
	# shellcheck disable=SC2086 # a list of names
	pick_modules $root_modules >/dev/null
	mkdir -p "$cache/kernels"
	mv "$new" "$kernel_dir"
	rm -rf "$work/kernel"
}

# pick_modules NAME...: copy modules with all that they need, uncompressed, and
# print the files in the order of loading.
pick_modules() {
	for module in "$@"; do
		modprobe -d "$tree" -S "$kernel_version" --show-depends "$module" \
			2>/dev/null || :
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
		while read -r file; do
			name=${file##*/}
			name=${name%.xz}
			echo "$name"
			case $file in
			*.xz) xz -dc "$file" >"$new/modules/$name" ;;
			*) cp "$file" "$new/modules/$name" ;;
			esac
		done
}

# image_stock PACKAGE: unpack Debian's package; sets stock to its tree.
image_stock() {
	version=$(apt-cache policy "$1" 2>/dev/null |
		sed -n 's/^ *Candidate: //p' | tr : _)
	dir=$cache/stock/$1-$version
	[ -n "$version" ] || dir=$(find "$cache/stock" -maxdepth 1 -name "$1-*" \
		2>/dev/null | sort -V | tail -n 1)
	[ -n "$dir" ] || skip "apt offers no $1"
	if [ ! -d "$dir" ]; then
		fetch "$1" "$work/stock-$1" || skip "apt-get could not download $1"
		unpack "$deb" "$work/stock-$1/tree"
		mkdir -p "$cache/stock"
		mv "$work/stock-$1/tree" "$dir"
	fi
	stock=$dir
}

# The tools that measure in the guest, static so that they need no page of a
# library while memory is short.
image_guest_tools() {
	flags='-std=gnu11 -O2 -static -pthread -Wall -Wextra -Wshadow -Wvla -Werror'
	id=$( (echo "$flags"; cat "$vm"/guest/*.[ch] "$top"/include/*.h) | hash_of)
	tools=$cache/tools/$id
	[ ! -d "$tools" ] || return 0
	mkdir -p "$work/tools" "$cache/tools"
	for source in "$vm"/guest/*.c; do
		name=${source##*/}
		# shellcheck disable=SC2086 # a list of flags
		"${CC:-cc}" $flags -iquote "$top" -o "$work/tools/${name%.c}" "$source" -luring
	done
	mv "$work/tools" "$tools"
}

# Certificates and who has signed them, and a pre-shared key, for both sides.
image_tls() {
	tls=$cache/tls/$(sed -n '/^image_tls/,/^}/p' "$vm/image.sh" | hash_of)
	[ "$(get link)" != tcp ] && [ ! -d "$tls" ] || return 0
	mkdir "$work/tls"
	(umask 077 && echo "guest:$(openssl rand -hex 32)" >"$work/tls/keys.psk")
	for name in ca server client; do
		set -- -subj "/CN=$name"
		[ $name = ca ] || set -- -subj /CN=host -CA "$work/tls/ca-cert.pem" \
			-CAkey "$work/tls/ca-key.pem" -addext basicConstraints=CA:FALSE \
			-addext subjectAltName=DNS:host,IP:10.77.0.1
		openssl req -x509 -newkey rsa:2048 -nodes -days 3650 "$@" \
			-keyout "$work/tls/$name-key.pem" \
			-out "$work/tls/$name-cert.pem" 2>"$log/openssl.log" ||
			skip "openssl made no certificate: $(tail -n 1 "$log/openssl.log")"
	done
	mkdir -p "$cache/tls"
	mv "$work/tls" "$tls"
}

image_initrd() {
	id=$( (cat "$vm/guest/first"; sha256sum <"$busybox") | hash_of)
	initrd=$kernel_dir/initrd-$id
	[ ! -f "$initrd" ] || return 0
	tree=$work/initrd
	mkdir -p "$tree/bin" "$tree/modules" "$tree/dev" "$tree/proc" "$tree/root"
	cp "$busybox" "$tree/bin/busybox"
	cp "$kernel_dir/boot-order" "$tree/modules/order"
	while read -r name; do
		cp "$kernel_dir/modules/$name" "$tree/modules"
	done <"$kernel_dir/boot-order"
	install -m 755 "$vm/guest/first" "$tree/init"
	(cd "$tree" && find . | busybox cpio -o -H newc 2>/dev/null) |
		gzip -1 >"$work/initrd.gz"
	mv "$work/initrd.gz" "$initrd"
}

# The root image holds programs only; scenario and settings are on a disk of
# their own, so that a change there makes no new image.
image_root() {
	list=$work/root-files
	programs=$(header programs "$vm/scenarios/$scenario")
	for name in $programs; do
		[ -x "$build/$name" ] || skip "no $build/$name: make check"
	done
	{
		echo "755 /usr/bin/busybox $busybox"
		for name in hog gauge half killer sink trap; do
			echo "755 /usr/bin/$name $tools/$name"
		done
		echo "755 /usr/sbin/init $vm/guest/init"
		with_libraries /usr/libexec/stock-nbd-client "$stock_client"
		[ -z "$client" ] || {
			with_libraries /usr/sbin/nbd-client "$client"
			echo "755 /usr/sbin/nbd-client-new $client"
		}
		for name in $root_programs; do
			with_libraries "/usr/bin/$name" "$(command -v "$name")"
		done
		for name in $programs; do
			with_libraries "/usr/libexec/$name" "$build/$name"
		done
		for file in "$kernel_dir"/modules/*; do
			echo "644 /usr/lib/modules/$kernel_version/${file##*/} $file"
		done
	} | sort -u >"$list"
	id=$( (cat "$vm/image.sh" "$list"
		cut -d ' ' -f 3 "$list" | xargs sha256sum) | sed "s|$work/||" | hash_of)
	root_image=$cache/images/$id.ext4
	if [ -f "$root_image" ]; then
		touch "$root_image"
		return 0
	fi
	say "making the root image"
	tree=$work/root
	mkdir -p "$tree/usr/bin" "$tree/usr/sbin" "$tree/usr/lib64" "$tree/etc" \
		"$tree/usr/lib/x86_64-linux-gnu" "$tree/dev" "$tree/proc" \
		"$tree/sys" "$tree/run" "$tree/tmp" "$tree/var" "$tree/root"
	for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$tree/$dir"; done
	ln -s /run "$tree/var/run"
	ln -s /run/lock "$tree/var/lock"
	ln -s /tmp "$tree/var/tmp"
	ln -s /proc/mounts "$tree/etc/mtab"
	echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
	printf 'root:x:0:\ndisk:x:6:\n' >"$tree/etc/group"
	printf '127.0.0.1 localhost\n10.77.0.1 host\n10.77.0.2 guest\n' >"$tree/etc/hosts"
	while read -r mode to from; do
		[ -d "$tree${to%/*}" ] || mkdir -p "$tree${to%/*}"
		cp -L "$from" "$tree$to"
		chmod "$mode" "$tree$to"
	done <"$list"
	for name in $("$busybox" --list); do
		[ -e "$tree/usr/bin/$name" ] || [ -e "$tree/usr/sbin/$name" ] ||
			[ "$name" = busybox ] || ln -s busybox "$tree/usr/bin/$name"
	done
	ln -sf ../bin/modprobe "$tree/usr/sbin/modprobe"
	depmod -b "$tree" "$kernel_version"
	ldconfig -r "$tree" 2>/dev/null || :
	size=$(($(du -sk "$tree" | cut -f 1) * 5 / 4 + 8192))
	mke2fs -q -t ext4 -O ^has_journal -E root_owner=0:0 -d "$tree" \
		"$work/root.ext4" "${size}k" >"$log/mke2fs.log" 2>&1
	mkdir -p "$cache/images"
	mv "$work/root.ext4" "$root_image"
	rm -rf "$tree"
	# Each build of the client makes an image: keep the last few.
	find "$cache/images" -name '*.ext4' -printf '%T@ %p\n' | sort -rn |
		tail -n +9 | cut -d ' ' -f 2- | xargs -r rm -f
}

# with_libraries TO FROM: lines "mode to from" for a program and its libraries.
with_libraries() {
	echo "755 $1 $2"
	ldd "$2" | awk '
		$2 == "=>" && $3 ~ /^\// { print $3 }
		$1 ~ /^\// { print $1 }' |
		while read -r file; do echo "755 $file $file"; done
}
