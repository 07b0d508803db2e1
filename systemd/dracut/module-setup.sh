#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# /usr/lib/dracut/modules.d/95nbd-client/: instead of the module nbd, which is
# omitted by dracut.conf.d/nbd-client.conf. See dracut.modules(7).
# shellcheck disable=SC2154 # moddir and systemdutildir are dracut's

check() {
	require_binaries nbd-client || return 1
	# For this host only if its root is on such a device.
	[[ ! ${hostonly-} ]] ||
		check_block_and_slaves block_is_nbd "$(find_root_block_device)" ||
		return 255
	return 0
}

depends() {
	echo network rootfs-block
}

installkernel() {
	instmods nbd ublk_drv tls
}

install() {
	inst nbd-client
	# A process whose name begins so is left alone by the final killing.
	ln -sf "$(command -v nbd-client)" "${initdir:?}/usr/bin/@nbd-client"
	inst_simple /usr/share/nbd-reserve/nbd-boot.sh /lib/nbd-boot.sh
	inst_simple -o /etc/ssl/certs/ca-certificates.crt
	inst_hook cmdline 90 "$moddir/parse-nbd.sh"
	inst_hook initqueue/settled 90 "$moddir/nbd-settled.sh"
	inst_script "$moddir/nbdroot.sh" /sbin/nbdroot
	! dracut_module_included systemd-initrd ||
		inst_script "$moddir/nbd-generator.sh" \
			"$systemdutildir/system-generators/dracut-nbd-generator"
	dracut_need_initqueue
}
