# SPDX-License-Identifier: GPL-2.0-or-later
# lib.sh: what scenarios share; sourced in the guest by /sbin/init's shell.
#
# Descriptor 3 is the port to the host (see host.sh).  A scenario is a list of
# steps that calls these functions and ends with "result done", or earlier with
# another result.
# shellcheck shell=sh disable=SC1091,SC2154 # files of the guest; keys come from env

. /run/vm/env
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
	polls=$(($1 * 20))
	shift
	until "$@"; do
		polls=$((polls - 1))
		[ $polls -gt 0 ] || return 1
		usleep 50000
	done
}

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

# client_attach NAME PORT [swap|swapon|ro]
client_attach() {
	case $front in
	nbd)
		case ${3-} in
		swap) option=--swap ;;
		swapon) option=--swapon ;;
		*) option= ;;
		esac
		DEV=$(nbd-client attach "nbd://$host:$2/$1" auto $option) ||
			result failed "nbd-client attach: exit status $?"
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
		$stock $host "$2" "$DEV" -N "$1" $option >/run/vm/client.log 2>&1 ||
			result failed "stock nbd-client: $(tail -n 1 /run/vm/client.log)"
		poll 10 device_has_size || result failed "$DEV has no size"
		[ "${3-}" != swapon ] || {
			must mkswap mkswap "$DEV" >/dev/null
			must swapon swapon "$DEV"
		}
		;;
	esac
	name=${DEV#/dev/}
	[ -b "$DEV" ] || result failed "attach gave no device: '$DEV'"
}

device_has_size() { [ "$(cat "/sys/block/${DEV#/dev/}/size")" -gt 0 ]; }
device_free() { [ ! -e "/sys/block/$1/pid" ]; }

client_detach() {
	case $front in
	nbd)
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
		[ "$(readlink "$path/exe")" != /usr/sbin/nbd-client ] ||
			echo "${path#/proc/}"
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
	[ "$front" != nbd ] || [ -n "$list" ] || result failed "no process of the client is there"
	[ -z "$list" ] || fact "$1 [$list]"
}

# ---- nothing left behind, nothing complained

sysctls() {
	for path in /proc/sys/vm/*; do
		case $path in */stat_refresh) continue ;; esac
		printf '%s: ' "$path"
		cat "$path" 2>/dev/null || echo
	done
}

before() { sysctls >/run/vm/sysctls; }

# after: nothing of a device may be left.
after() {
	sysctls >/run/vm/sysctls.after
	changed=$(diff /run/vm/sysctls /run/vm/sysctls.after |
		sed -n 's/^[-+]\(\/proc.*\)/\1/p' | tr '\n' ' ')
	[ -z "$changed" ] || result leftover "sysctls: $changed"
	for path in /sys/block/nbd*; do
		device_free "${path##*/}" || result leftover "${path##*/} is connected"
	done
	pids=$(client_pids)
	[ -z "$pids" ] || result leftover "processes $pids"
}

# kernel_fine: no I/O error in the kernel's log.  "Receive control failed" with
# -107 and "Send disconnect failed" are what nbd says of a socket that was never
# connected, which our client lends to a spare device on purpose.
kernel_fine() {
	line=$(dmesg | grep -v -E 'Receive control failed \(result -107\)|Send disconnect failed' |
		grep -i -m 1 -E 'I/O error|(read|write)-error on swap|nbd[0-9]*: .*(timed out|stuck|error|dead|fail|invalid|unexpected|double|wrong)')
	[ -z "$line" ] || result ioerror "$line"
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
