#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/test-systemd.sh: what is in systemd/: the unit as systemd-analyze sees
# it, and what the generator makes of tables. NBD_CLIENT names the program.
# shellcheck disable=SC2016,SC2317 # for an inner shell; called by check
set -u
client=${NBD_CLIENT:-nbd-client/nbd-client}
top=$(realpath "$(dirname "$0")/..")
dir=$(mktemp -d) || exit 1
# shellcheck source=tests/shell.sh
. "${0%/*}/shell.sh"
trap 'rm -rf "$dir"' EXIT
exposure_max=30 # tenths
failed=0

skip() {
	echo "skipped - $1: $2"
	[ $failed != 0 ] || failed=77
}

# ---- the unit ----

# Older systemd than 255 does not know one setting; the manual page may not be
# installed. Any other word is an error.
verify() {
	systemd-analyze verify --man=no "$dir/nbd-client@nbd0.service" \
		"$dir/nbd-client.target" "$dir/nbd-client-metrics.timer" \
		>"$dir/said" 2>&1
	verified=$?
	! grep -v 'SurviveFinalKillSignal' "$dir/said" && [ "$verified" = 0 ]
}
exposure() {
	systemd-analyze security --no-pager --offline=true \
		--threshold="$exposure_max" "$dir/nbd-client@nbd0.service"
}

if command -v systemd-analyze >/dev/null; then
	ln -s "$(realpath "$client")" "$dir/nbd-client"
	for unit in nbd-client@ nbd-client-metrics; do
		sed -e "s,@sbindir@,$dir," -e "s,@pkglibexecdir@,$top/systemd," \
			"$top/systemd/$unit.service.in" >"$dir/$unit.service"
	done
	mv "$dir/nbd-client@.service" "$dir/nbd-client@nbd0.service"
	cp "$top/systemd/nbd-client.target" \
		"$top/systemd/nbd-client-metrics.timer" "$dir"
	check 'systemd-analyze verify has nothing to say' verify
	if systemd-analyze security --help | grep -q -e --offline; then
		check "exposure is at most $exposure_max tenths" exposure
	else
		skip 'exposure' 'systemd-analyze cannot work offline'
	fi
else
	skip 'unit' 'no systemd-analyze'
	skip 'exposure' 'no systemd-analyze'
fi

# ---- the generator ----

# generate: what it makes, in $dir/made, of the tables in $dir/etc.
generate() {
	rm -rf "$dir/made"
	NBD_CLIENT_ETC=$dir/etc sh "$top/systemd/nbd-client-generator" \
		"$dir/made"
}
made() { (cd "$dir/made" 2>/dev/null && find . -type f | sort); }

nothing() {
	mkdir -p "$dir/etc"
	generate && [ -z "$(made)" ] || return
	printf '%s\n' '# /dev/nbd0 none swap' '/dev/sda1 / ext4' '' \
		'/dev/nbdx none swap' '/dev/nbd1-2 none swap' 'nbd none swap' \
		'/dev/nbd0p a ext4' 'LABEL=nbd0 none swap' '/dev/nbd0/../sda b' \
		'/dev/nbd 0 none' >"$dir/etc/fstab"
	generate && [ -z "$(made)" ]
}
all_tables() {
	mkdir -p "$dir/etc/nbd-client.d"
	printf '%s\n' '/dev/nbd0 none swap sw,_netdev 0 0' \
		'	/dev/nbd12p2 /mnt ext4 _netdev 0 0' >"$dir/etc/fstab"
	printf '%s\n' '# a comment' 'nbd3 host export swap' >"$dir/etc/nbdtab"
	: >"$dir/etc/nbd-client.d/ublkb1.conf"
	generate || return
	for node in nbd0 nbd12p2 nbd3 ublkb1; do
		for kind in device swap; do
			echo "./dev-$node.$kind.d/50-nbd-client.conf"
		done
	done >"$dir/expected"
	for unit in init.scope nbd-client@nbd0.service; do
		echo "./$unit.d/50-nbd-client.conf"
	done | sort -o "$dir/expected" - "$dir/expected"
	made | diff "$dir/expected" - || return
	grep -qx 'Wants=nbd-client@nbd12.service' \
		"$dir/made/dev-nbd12p2.device.d/50-nbd-client.conf" &&
		grep -qx 'After=nbd-client@ublkb1.service' \
			"$dir/made/dev-ublkb1.device.d/50-nbd-client.conf" &&
		grep -q '^ExecStartPost=.* start dev-nbd0.swap$' \
			"$dir/made/nbd-client@nbd0.service.d/50-nbd-client.conf"
}
# Each of these would have systemd switch swap off: where a service that has died
# is started again, or beside the service when the system goes down, or first.
left_to_the_service() {
	! grep -E '^(Requires|BindsTo|PartOf|Conflicts|After)=' \
		"$dir/made/dev-nbd0.swap.d/50-nbd-client.conf"
}
by_hand() {
	echo '/dev/nbd0 none swap sw,noauto 0 0' >"$dir/etc/fstab"
	generate || return
	made | grep -q dev-nbd0.swap && ! made | grep 'nbd-client@nbd0'
}
# With the drop-in and without the default dependencies there is no way from
# the swap to swap.target, and from there to the network and back.
no_cycle() {
	mkdir -p "$dir/cycle" && cp "$dir"/nbd-client* "$dir/cycle" || return
	cp -r "$dir/made/dev-nbd0.swap.d" "$dir/cycle" || return
	printf '%s\n' '[Unit]' 'Description=x' '[Swap]' 'What=/dev/nbd0' \
		>"$dir/cycle/dev-nbd0.swap"
	printf '%s\n' '[Unit]' 'DefaultDependencies=yes' '[Service]' \
		'ExecStart=/bin/true' >"$dir/cycle/network-manager.service"
	printf '%s\n' '[Unit]' 'Requires=network-manager.service' \
		'After=network-manager.service' \
		>"$dir/cycle/network-online.target"
	printf '%s\n' '[Unit]' 'Requires=swap.target dev-nbd0.swap' \
		'After=swap.target' >"$dir/cycle/sysinit.target"
	printf '%s\n' '[Unit]' 'Requires=dev-nbd0.swap' >"$dir/cycle/swap.target"
	SYSTEMD_UNIT_PATH=$dir/cycle: systemd-analyze verify --man=no \
		"$dir/cycle/sysinit.target" >"$dir/said" 2>&1
	cat "$dir/said"
	! grep -q 'ordering cycle' "$dir/said" || return
	# And it is the drop-in that does it.
	rm -r "$dir/cycle/dev-nbd0.swap.d"
	printf '%s\n' 'After=nbd-client@nbd0.service' \
		'Requires=nbd-client@nbd0.service' >"$dir/lines"
	sed -i "/Description=x/r $dir/lines" "$dir/cycle/dev-nbd0.swap"
	SYSTEMD_UNIT_PATH=$dir/cycle: systemd-analyze verify --man=no \
		"$dir/cycle/sysinit.target" 2>&1 | grep 'ordering cycle'
}
check 'nothing is made of what is not ours' nothing
check 'drop-ins for fstab, nbdtab and /etc/nbd-client.d' all_tables
check 'swap is for the service to switch off' left_to_the_service
if command -v systemd-analyze >/dev/null; then
	check 'swap and the network do not wait for each other' no_cycle
else
	skip 'swap and the network do not wait for each other' \
		'no systemd-analyze'
fi
check 'swap that is not to be switched on at boot' by_hand

# ---- stopping ----

# What there is of systemctl and nbd-client says what it was called with.
mkdir "$dir/bin"
printf '%s\n' '#!/bin/sh' 'echo "$STATE"' >"$dir/bin/systemctl"
printf '%s\n' '#!/bin/sh' 'echo "$*"' >"$dir/bin/nbd-client"
chmod +x "$dir"/bin/*
# stop STATE MAINPID EXPECTED
stop() {
	got=$(PATH=$dir/bin:$PATH STATE=$1 MAINPID=$2 sh \
		"$top/systemd/nbd-client-stop" nbd77) && [ "$got" = "$3" ]
}
check 'stopped by hand: detached' stop running 12 'detach nbd77'
check 'in a system that has its troubles, too' stop degraded 12 'detach nbd77'
check 'after its death: left for the next one' stop running '' ''
check 'at shutdown, without a device: nothing' stop stopping 12 ''
exit $failed
