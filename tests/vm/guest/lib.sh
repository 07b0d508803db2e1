# SPDX-License-Identifier: GPL-2.0-or-later
# lib.sh: what scenarios share; sourced in the guest by /sbin/init's shell.
#
# Descriptor 3 is the port to the host (see host.sh).  A scenario is a list of
# steps that calls these functions and ends with "result done", or earlier with
# another result.
# shellcheck shell=sh disable=SC1091,SC2046,SC2154 # files of the guest; words are meant; keys come from env

. /run/vm/env
. /run/vm/pressure.sh
stock=/usr/libexec/stock-nbd-client
host=10.77.0.1

say() { echo "# $*" >&3; }
fact() { echo "=$*" >&3; }

# result NAME [REASON]: report and end the scenario.
result() {
	name=$1
	shift
	fact "result $name"
	[ $# -eq 0 ] || fact "reason $*"
	case $name in done | skipped) : >/run/vm/fine ;; esac
	exit 0
}

# poll SECONDS COMMAND…: until it succeeds; false when time is over.
poll() {
	polls=$(($(uptime_s) + $1))
	shift
	until "$@"; do
		[ "$(uptime_s)" -lt $polls ] || return 1
		usleep 50000
	done
}
uptime_s() { cut -d . -f 1 /proc/uptime; }

# ask ACTION ARG…: have the host do something; its answer is printed.
ask() {
	id=$(cut -d ' ' -f 1 /proc/uptime)
	echo "?$id $*" >&3
	while read -r back status text <&3; do
		[ "$back" = "$id" ] || continue
		echo "$text"
		[ "$status" = ok ]
		return
	done
	echo "no answer from the host"
	return 1
}

# must REASON COMMAND…: a step whose failure is the result "failed".
must() {
	why=$1
	shift
	"$@" || result failed "$why"
}

scenario_run() {
	# What udev loads elsewhere.
	[ "$link" = tcp ] || modprobe -a aesni_intel ghash_clmulni_intel
	poll 30 ping -q -c 1 -W 1 $host >/dev/null || result failed "no network"
	fact "kernel_release $(uname -r)"
	[ "$minfree" = default ] || echo "$minfree" >/proc/sys/vm/min_free_kbytes
	. /run/vm/scenario
	result failed "the scenario ended without a result"
}

# ---- servers

server_start() { # NAME PORT MB [ro]
	text=$(ask server_start "$@") || result failed "server: $text"
}

# ---- the client; sets DEV

# Whether the nbd driver talks to the server itself.
kernel_path() { case " $options " in *' --kernel-path '*) ;; *) false ;; esac; }

# client_words NAME PORT: which export, and how it is encrypted, for our client.
client_words() {
	case $link in
	tcp) echo "nbd://$host:$2/$1" ;;
	tls)
		echo "nbds://$host:$2/$1 --tls-ca=/run/vm/ca-cert.pem"
		# This one insists on a certificate of ours.
		[ "$server" != nbd-server ] ||
			echo --tls-cert=/run/vm/client-cert.pem --tls-key=/run/vm/client-key.pem
		;;
	psk) echo "nbds://guest@$host:$2/$1 --tls-psk-file=/run/vm/keys.psk" ;;
	esac
}

# client_records KEY: how the link is encrypted is a fact.
client_records() {
	[ "$link" != tcp ] || return 0
	how=$(nbd-client status "$DEV" --json | sed -n \
		's/.*\("\(tls_\(records\|records_why\|version\|cipher\)\|spare_sockets\)": \("[^"]*"\|[a-z0-9]*\)\).*/\1/p' |
		tr '\n' ,)
	fact "$1 {${how%,}}"
	case $how in *'"none"'*) result failed "the link is not encrypted" ;; esac
}

# Who makes the records is for options=--tls-records=kernel, or =user, to say.
records_as_asked() {
	case "$options" in
	*--tls-records=kernel*) asked=kernel ;;
	*--tls-records=user*) asked=user ;;
	*) return 0 ;;
	esac
	case $how in *"\"tls_records\": \"$asked\""*) ;; *) false ;; esac
}

# client_attach NAME PORT [swap|swapon|ro]
client_attach() {
	case $front in
	nbd | ublk)
		case ${3-} in
		swap) option=--swap ;;
		# The same for all, so that several devices share the pages.
		swapon) option=--swapon=10 ;;
		*) option= ;;
		esac
		[ "${shed-no}" = no ] || option="$option --shed"
		DEV=$(nbd-client attach $(client_words "$1" "$2") "$front" $option \
			${without:+--without="$without"} $options) ||
			result failed "nbd-client attach: exit status $?"
		client_records tls
		[ "$link" = tcp ] || records_as_asked ||
			result failed "others make the records than asked for: $how"
		;;
	kernel)
		DEV=
		for path in /sys/block/nbd*; do
			[ -e "$path/pid" ] || {
				DEV=/dev/${path##*/}
				break
			}
		done
		case ${3-} in swap*) option=-swap ;; *) option= ;; esac
		[ "$link" != tls ] ||
			option="$option -x -A /run/vm/ca-cert.pem -H host"
		$stock $host "$2" "$DEV" -N "$1" $option >/run/vm/client.log 2>&1 ||
			result failed "stock nbd-client: $(tail -n 1 /run/vm/client.log)"
		poll 10 device_has_size || result failed "$DEV has no size"
		[ "${3-}" != swapon ] || {
			must mkswap mkswap "$DEV" >/dev/null
			must swapon /usr/bin/swapon -p 10 "$DEV"
		}
		;;
	esac
	name=${DEV#/dev/}
	[ -b "$DEV" ] || result failed "attach gave no device: '$DEV'"
}

device_has_size() { [ "$(cat "/sys/block/${DEV#/dev/}/size")" -gt 0 ]; }
device_free() {
	case $1 in
	ublk*) [ ! -e "/sys/block/$1" ] ;;
	*) [ ! -e "/sys/block/$1/pid" ] ;;
	esac
}

client_detach() {
	case $front in
	nbd | ublk)
		nbd-client detach "$DEV" || result failed "nbd-client detach: exit status $?"
		;;
	kernel)
		! grep -q "^$DEV " /proc/swaps || must swapoff swapoff "$DEV"
		must "stock nbd-client -d" $stock -d "$DEV" >/dev/null
		;;
	esac
	poll 10 device_free "${DEV#/dev/}" || result leftover "$DEV is still connected"
}

# client_pids: all processes of our client, whatever they call themselves.
client_pids() {
	for path in /proc/[0-9]*; do
		case $(readlink "$path/exe") in
		/usr/sbin/nbd-client*) echo "${path#/proc/}" ;;
		esac
	done
}

# client_kill: all of them, also those that are forked meanwhile.
client_kill() {
	while pids=$(client_pids) && [ -n "$pids" ]; do
		# shellcheck disable=SC2086 # a list
		kill -KILL $pids 2>/dev/null || :
	done
}

# client_facts KEY: how each process of the client is protected, as a JSON list.
client_facts() {
	list=
	for pid in $(client_pids); do
		locked=$(sed -n 's/^VmLck:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status")
		resident=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status")
		swapped=$(sed -n 's/^VmSwap:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status")
		threads=
		for task in /proc/"$pid"/task/*; do
			# Fields after the name in brackets: 38 policy, 37 priority.
			threads="$threads${threads:+,}$(sed 's/^[^(]*(\(.*\)) /\1 /' "$task/stat" |
				awk '{ printf "{\"name\":\"%s\",\"policy\":%s,\"rt_priority\":%s}", $1, $40, $39 }')"
		done
		list="$list${list:+,}{\"pid\":$pid,\"vmlck_kb\":$locked,\"vmrss_kb\":$resident,\"vmswap_kb\":$swapped,\"oom_score_adj\":$(cat "/proc/$pid/oom_score_adj"),\"threads\":[$threads]}"
	done
	[ "$front" = kernel ] || [ -n "$list" ] || result failed "no process of the client is there"
	[ -z "$list" ] || fact "$1 [$list]"
}

# ---- nothing left behind, nothing complained

# settings: whatever a client may have changed on the host, a line each.  What
# a module adds to a list of what there is to choose from is no setting, and no
# counter is.
settings() {
	grep -r '' /proc/sys/vm /proc/sys/net /proc/sys/kernel/sched_* \
		/sys/kernel/mm/transparent_hugepage 2>/dev/null |
		grep -v -E '/stat_refresh:|/tcp_available_|/full_scans:|/pages_collapsed:|/stats/' | sort
	for setting in gro_flush_timeout mtu napi_defer_hard_irqs threaded \
		tx_queue_len 'queues/*/[rx]ps_*'; do
		grep -H '' /sys/class/net/eth0/$setting 2>/dev/null
	done
	# The count of references is not a setting.
	/usr/bin/tc qdisc show | sed 's/ refcnt [0-9]*//'
	ip neigh show nud permanent
	find /sys/fs/cgroup -type d | sort
	grep -H '' /sys/fs/cgroup/cgroup.subtree_control
}

before() { settings >/run/vm/settings; }

# after: nothing of a device may be left.
after() {
	settings >/run/vm/settings.after
	changed=$(diff -U 0 /run/vm/settings /run/vm/settings.after |
		grep '^[-+][^-+]' | tr '\n' ' ')
	[ -z "$changed" ] || result leftover "settings: $changed"
	for path in /sys/block/nbd*; do
		device_free "${path##*/}" || result leftover "${path##*/} is connected"
	done
	for path in /sys/block/ublkb* /sys/class/ublk-char/ublkc*; do
		[ ! -e "$path" ] || result leftover "$path is there"
	done
	pids=$(client_pids)
	[ -z "$pids" ] || result leftover "processes $pids"
}

# kernel_fine: no I/O error in the kernel's log.  "Receive control failed" with
# -107 and "Send disconnect failed" are what nbd says of a socket that was never
# connected, which our client lends to a spare device on purpose.  "Possible stuck
# request" is a timer of a second, without which nbd does not repeat what a dead
# client took along: how long a stop was is judged by the gauge.  A scenario that
# kills the client, or the server of a driver that talks to it, adds what nbd says
# of that, in $expected.
expected=
of_a_dead_socket='nbd[0-9]+: (Receive (control|data) failed|Send (control|data) failed|Possible stuck request|Request send failed, requeueing|Dead connection)'
kernel_fine() {
	line=$(dmesg | grep -v -E "Possible stuck request|Receive control failed \\(result -107\\)|Send disconnect failed${expected:+|$expected}" |
		grep -i -m 1 -E 'I/O error|(read|write)-error on swap|(nbd|ublkb)[0-9]*: .*(timed out|stuck|error|dead|fail|invalid|unexpected|double|wrong)')
	[ -z "$line" ] || result ioerror "$line"
}

# ---- a load beside the hog, and a network that is far away

# storm_start: programs that start others all the time, and a writer that
# dirties twice the memory of the machine on the local disk, again and again.
storm_start() {
	[ -b /dev/vdc ] || result failed "a storm needs a disk: disk=MB"
	mkdir -p /run/local
	must "mount the local disk" mount -t ext4 /dev/vdc /run/local
	storm_before=$(storm_counts)
	storm_pids=
	setsid sh -c "while :; do
		dd if=/dev/zero of=/run/local/file bs=64k count=$((mem * 32)) conv=notrunc
	done" >/dev/null 2>&1 &
	storm_pids="$storm_pids $!"
	for program in /usr/bin/busybox /usr/bin/busybox /usr/bin/busybox; do
		# By its path, so that the shell does not run it as part of itself.
		setsid sh -c "while :; do $program true; done" &
		storm_pids="$storm_pids $!"
	done
}

# Forks since boot, and sectors written to the local disk.
storm_counts() {
	sed -n 's/^processes //p' /proc/stat
	awk '{ print $7 }' /sys/block/vdc/stat
}

# storm_stop: ends it; a storm that was none is a failure.
storm_stop() {
	for pid in $storm_pids; do
		kill -KILL "-$pid" || result failed "a part of the storm has ended"
		wait "$pid" || :
	done
	# shellcheck disable=SC2046,SC2086 # words are meant
	set -- $storm_before $(storm_counts)
	forks=$(($3 - $1))
	written_mb=$((($4 - $2) / 2048))
	fact "storm {\"forks\":$forks,\"written_mb\":$written_mb}"
	must "unmount the local disk" poll 20 umount /run/local
	[ $forks -ge $((seconds * 5)) ] && [ $written_mb -gt "$mem" ] ||
		result failed "no storm: $forks forks, $written_mb MB written"
}

# netem_start MSms,LOSS%: so long a way to the host and back, so many packets
# lost on each.  Both queues are in the guest: in its memory, that is.
netem_start() {
	delay=$((${1%%ms,*} / 2))ms
	loss=${1##*,}
	for module in sch_netem ifb act_mirred cls_matchall sch_ingress; do
		modprobe $module
	done
	# What is lost must be a packet, not all that the card takes at once.
	ask small_packets >/dev/null || result failed "small packets"
	must "small packets" /usr/bin/ip link set dev eth0 gso_max_segs 1 \
		gro_max_size 1500
	ip link set ifb0 up
	for card in eth0 ifb0; do
		must "netem on $card" /usr/bin/tc qdisc add dev $card root netem \
			delay $delay loss "$loss" limit 10000
	done
	must "ingress" /usr/bin/tc qdisc add dev eth0 ingress
	must "ifb" /usr/bin/tc filter add dev eth0 ingress matchall \
		action mirred egress redirect dev ifb0
	rtt=$(ping -c 20 -i 0.1 -W 2 $host | sed -n 's/^round-trip.* = \([0-9]*\).*/\1/p')
	fact "netem {\"rtt_ms\":${rtt:-0},\"loss_each_way\":\"$loss\"}"
	[ "${rtt:-0}" -ge $((${1%%ms,*} - 1)) ] ||
		result failed "the network is as near as before: $rtt ms"
}

vmstat() { sed -n "s/^$1 //p" /proc/vmstat; }

# random_file FILE KB
random_file() { dd if=/dev/urandom of="$1" bs=1k count="$2" 2>/dev/null; }

# queue NAME: a value of the device's request queue.
queue() { cat "/sys/block/${DEV#/dev/}/queue/$1"; }

# direct_checksum MB: of the device's first MB, past the page cache.
direct_checksum() {
	dd if="$DEV" iflag=direct bs=1M count="$1" 2>/dev/null | md5sum | cut -d ' ' -f 1
}
