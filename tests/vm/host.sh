#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# host.sh: the host side of one run: network, guest, and what the guest asks
# for.  Runs as the first process of new network, mount and process namespaces
# (see run), so all it starts and makes goes away with it.
#
# The guest's second serial port carries one message a line:
#	!up		the guest has booted
#	# TEXT		progress for the person who watches
#	=KEY VALUE	a fact for the result; the first value of a key counts
#	?ID ACTION ARG…	do ACTION now (act_ACTION below); answered with
#			"ID ok TEXT" or "ID err TEXT"
#	@ACTION ARG…	do it now; nobody waits for an answer
# and "!end STATUS", written by this side, when QEMU has ended.
# shellcheck disable=SC2154 # run exports: vm work log key_* and what to boot
set -eu

fact() { printf '%s\n' "$*" >>"$work/facts"; }

# ---- network and servers

net_up() {
	ip link set lo up
	ip tuntap add dev tap0 mode tap
	address_set 10.77.0.1
	ip link set tap0 up
	# Server content is on a tmpfs: fast, and kept when a server restarts.
	mkdir -p "$work/content"
	mount -t tmpfs content "$work/content"
}

# address_set ADDRESS: of this end, and of servers that are started from now on.
address_set() {
	ip addr flush dev tap0
	ip addr add "$1/24" dev tap0
	echo "$1" >"$work/address"
}

# port_open PORT: whether something listens there.
port_open() { ss -Hltn "sport = :$1" | grep -q .; }

# act_server_start NAME PORT MB [ro]: serve content/NAME, made if it is missing.
act_server_start() {
	file=$work/content/$1
	[ -e "$file" ] || truncate -s "${3}M" "$file"
	set -- "$1" "$2" "${4-}"
	address=$(cat "$work/address")
	case $key_server-$key_link in
	nbdkit-tls) secure="--tls=require --tls-certificates=$tls" ;;
	nbdkit-psk) secure="--tls=require --tls-psk=$tls/keys.psk" ;;
	qemu-nbd-tls) secure="--tls-creds=tls --object tls-creds-x509,id=tls,endpoint=server,verify-peer=no,dir=$tls" ;;
	qemu-nbd-psk) secure="--tls-creds=tls --object tls-creds-psk,id=tls,endpoint=server,dir=$tls" ;;
	nbd-server-tls)
		secure="force_tls = true
		certfile = $tls/server-cert.pem
		keyfile = $tls/server-key.pem
		cacertfile = $tls/ca-cert.pem"
		;;
	*) secure= ;;
	esac
	case $key_server in
	nbdkit)
		# shellcheck disable=SC2086 # words are meant
		nbdkit -f -t 16 -i "$address" -p "$2" ${3:+-r} -e "$1" \
			$secure ${key_errors:+--filter=error} file "$file" \
			${key_errors:+error="$key_errors" error-rate=100% \
				error-file="$work/fails-$1"} \
			>>"$log/server.log" 2>&1 &
		;;
	qemu-nbd)
		# shellcheck disable=SC2086 # words are meant
		qemu-nbd -t -e 16 -f raw -x "$1" -b "$address" -p "$2" ${3:+-r} \
			$secure --discard=unmap --cache=writeback "$file" \
			>>"$log/server.log" 2>&1 &
		;;
	nbd-server)
		cat >"$work/server-$1.conf" <<-END
		[generic]
		allowlist = true
		listenaddr = $address
		port = $2
		$secure
		[$1]
		exportname = $file
		readonly = $([ -n "$3" ] && echo true || echo false)
		flush = true
		fua = true
		trim = true
		END
		# It goes to the background by itself: with -d it would serve one
		# connection only.
		"$nbd_server" -C "$work/server-$1.conf" \
			-p "$work/server-$1.pid" >>"$log/server.log" 2>&1 || return
		;;
	esac
	[ "$key_server" = nbd-server ] || echo $! >"$work/server-$1.pid"
	tries=0
	until port_open "$2"; do
		tries=$((tries + 1))
		[ "$key_server" = nbd-server ] ||
			kill -0 "$(cat "$work/server-$1.pid")" 2>/dev/null || {
			echo "$key_server ended: $(tail -n 1 "$log/server.log")"
			return 1
		}
		[ $tries -lt 200 ] || {
			echo "$key_server does not listen"
			return 1
		}
		sleep 0.05
	done
}

# server_signal SIGNAL NAME
server_signal() {
	pid=$(cat "$work/server-$2.pid")
	case $key_server in
	nbd-server) kill "-$1" -- "-$pid" ;; # a process for each connection
	*) kill "-$1" "$pid" ;;
	esac
}

# act_server_stop NAME: kill a server; its content stays.
act_server_stop() { server_signal KILL "$1"; }

# act_server_move NAME PORT MB ADDRESS: its host has this address from now on, and
# another card.
act_server_move() {
	act_server_stop "$1"
	address_set "$4"
	ip link set tap0 address 02:00:00:00:00:03
	act_server_start "$1" "$2" "$3"
}

# act_server_mute NAME, act_server_unmute NAME: connections to it are made by the
# kernel, and what is sent to it is taken; but it says nothing.
act_server_mute() { server_signal STOP "$1"; }
act_server_unmute() { server_signal CONT "$1"; }
# act_share NAME OTHER: a server of NAME will have the same store as one of OTHER.
act_share() {
	ln -s "$2" "$work/content/$1"
}

# act_server_fail NAME, act_server_heal NAME: between these nbdkit fails all that it
# is asked, with the errno of the key errors.
act_server_fail() { : >"$work/fails-$1"; }
act_server_heal() { rm "$work/fails-$1"; }

# act_truncate NAME BYTES: served with this size to whoever connects next.
act_truncate() {
	truncate -s "$2" "$work/content/$1"
}

# act_serve_text PORT [TEXT]: one client of something that is no NBD server: it
# says TEXT or nothing, and then waits.
act_serve_text() {
	port=$1
	shift
	(
		[ $# -eq 0 ] || echo "$*"
		exec sleep 1000
	) | busybox nc -l -p "$port" >/dev/null 2>>"$log/host.log" &
	tries=0
	until port_open "$port"; do
		tries=$((tries + 1))
		[ $tries -lt 200 ] || return 1
		sleep 0.05
	done
}

# act_flood KIND PORT AMOUNT: strangers' traffic to the guest (guest/flood.c).
act_flood() {
	"$tools/flood" "$1" 10.77.0.2 "$2" "$3" >>"$log/host.log" 2>&1 &
}

# act_link up|down: while it is down all packets are lost, on both ways.
act_link() {
	ip link set dev tap0 "$1"
}

# act_cut PORT: reset the connections to a server.
act_cut() {
	ss -HKtn state established "sport = :$1"
}

# act_host_gone NAME PORT: the server's host loses its power; nobody is told.
act_host_gone() {
	act_link down
	act_server_stop "$1"
	ss -HKtan "sport = :$2"
}

# act_host_back NAME PORT MB: it has booted, and knows nothing of connections.
act_host_back() {
	[ -z "$(ss -Htan "sport = :$2")" ] || {
		echo "connections of before are still there"
		return 1
	}
	act_server_start "$@" && act_link up
}

# act_slow RATE SECONDS: so many bits a second each way, and a round trip of more
# than 100 ms: the machine's card gets and sends packets only that often.
act_slow() {
	ip link add ifb0 type ifb
	ip link set ifb0 up
	tc qdisc add dev tap0 ingress
	tc filter add dev tap0 parent ffff: protocol all u32 match u32 0 0 \
		action mirred egress redirect dev ifb0
	for card in tap0 ifb0; do
		tc qdisc add dev $card root tbf rate "$1" burst 4k latency 200ms
	done
	delay on
	busybox ping -q -w "$2" 10.77.0.2 >"$work/slow"
	delay off
	for card in tap0 ifb0; do
		tc -s qdisc show dev $card root >>"$work/slow"
		tc qdisc del dev $card root
	done
	tc qdisc del dev tap0 ingress
	ip link del ifb0
}

delay() {
	echo "qom-set /objects/delay status $1" | busybox nc -w 1 127.0.0.1 4444 >/dev/null
}

# act_slow_was: the shortest round trip in ms, and bytes to and from the guest.
act_slow_was() {
	sed -n -e 's/^round-trip.* = \([0-9]*\).*/\1/p' -e 's/^ Sent \([0-9]*\) .*/\1/p' \
		"$work/slow" | tr '\n' ' '
}

# act_small_packets: send the guest no packet larger than the wire's, for a
# network in the guest that loses some: it would lose all that is in one.
act_small_packets() {
	ip link set dev tap0 gso_max_segs 1
}

# act_fill NAME MB: content that nothing else has.
act_fill() {
	head -c "${2}M" /dev/urandom >"$work/content/$1"
}

# act_checksum NAME: of the content as the server's side has it.
act_checksum() {
	md5sum <"$work/content/$1" | cut -d ' ' -f 1
}

# act_later SECONDS ACTION ARG…: for a guest that will not be able to ask then.
act_later() {
	seconds=$1
	shift
	action=$1
	shift
	# With wait: some servers end with the shell that has started them.
	(
		sleep "$seconds"
		"act_$action" "$@" >>"$log/host.log" 2>&1
		wait
	) &
}

# act_swapping: the guest's gauge says that memory is used up.
act_swapping() {
	: >"$work/swapping"
}

# act_at SECONDS ACTION ARG…: likewise, so long after that.
act_at() {
	undone=$work/at.$1.$2
	: >"$undone"
	(
		until [ -e "$work/swapping" ]; do sleep 0.1; done
		sleep "$1"
		action=$2
		shift 2
		"act_$action" "$@" >>"$log/host.log" 2>&1 && rm "$undone"
		wait
	) &
}

# act_at_done: whether all of that has been done.
act_at_done() {
	for file in "$work"/at.*; do
		[ ! -e "$file" ] || {
			echo "${file##*/}"
			return 1
		}
	done
}

# act_end WHAT SECONDS again|last: this guest is about to end, which is to take no
# longer; then it is booted again, or the result is "done".
act_end() {
	echo "$* $(date +%s)" >"$work/end"
}

# end_judged: sees to that; true: booted again.
end_judged() {
	[ -e "$work/end" ] && [ "$ended" = 0 ] &&
		! grep -q 'Kernel panic' "$log/console.log" || return
	read -r what most next begin <"$work/end"
	rm "$work/end"
	cat "$log/console.log" >>"$log/console-before.log"
	took=$(($(date +%s) - begin))
	fact "${what}_s $took"
	if [ $took -gt "$most" ]; then
		fact "result stall"
		fact "reason $what took $took s, at most $most are allowed"
	elif [ "$next" = last ]; then
		fact "result done"
	else
		act_link up # as the guest may have had it put down
		return
	fi
	return 1
}

# ---- the guest

# root_disk: what a small guest may not write to, and a Debian may.
root_disk() {
	case $boots in
	debian) ;;
	debian-initramfs)
		echo driver=null-co # so that the scenario's is the second one
		return
		;;
	*)
		echo "file=$root_image,format=raw,readonly=on"
		return
		;;
	esac
	[ -e "$work/root.qcow2" ] ||
		qemu-img create -q -f qcow2 -F raw -b "$root_image" "$work/root.qcow2" >&2
	echo "file=$work/root.qcow2,format=qcow2,cache=unsafe"
}

# root_served: the root disk is an export, and so is swap; sets words to what tells
# the kernel.  In this shell, with which some servers end.
root_served() {
	[ -e "$work/content/root" ] || {
		cp --sparse=always "$root_image" "$work/served"
		ln -s "$work/served" "$work/content/root"
	}
	for export in root:10809 disk:10810; do
		port_open ${export#*:} ||
			act_server_start ${export%:*} ${export#*:} $((key_hog + 256))
	done
	words="$words root=/dev/nbd0 rw nbdroot=nbd://10.77.0.1:10809/root \
nbdswap=nbd://10.77.0.1:10810/disk ip=10.77.0.2::10.77.0.1:255.255.255.0:guest:eth0:off \
systemd.mask=networking.service systemd.mask=nbd-client@nbd0.service"
}

# Five-level paging and protection keys are what few machines have and emulate
# badly: a guest once died of a double fault with flags that cannot be. Strings of
# bytes are emulated byte by byte: a sixth of all time, and two CPUs once cleared
# pages at forty bytes a second.
guest_start() {
	# Left over from a guest that did not boot.
	rm -f "$work/port.in" "$work/port.out" "$work/console" "$work/swapping" \
		"$work"/at.* "$work/end"
	mkfifo "$work/port.in" "$work/port.out" "$work/console"
	case $key_nic in
	virtio) card=virtio-net-pci ;;
	*) card=$key_nic ;;
	esac
	set --
	# Nothing on it outlives the guest, so nothing is synced either.
	[ "$key_disk" = none ] || {
		rm -f "$work/local"
		truncate -s "${key_disk}M" "$work/local"
		mke2fs -q -t ext4 "$work/local" >>"$log/host.log" 2>&1
		set -- -drive "file=$work/local,format=raw,if=none,id=d2,cache=unsafe" \
			-device virtio-blk-pci,drive=d2
	}
	disk=$(root_disk)
	thread=multi icount=
	# Instructions can be counted only one after the other.
	[ "$key_clock" = host ] || thread=single icount='-icount shift=0,align=off'
	cpu=max,la57=off,pku=off,erms=off,fsrm=off
	[ "$key_cpu" = aes ] || cpu=$cpu,aes=off,pclmulqdq=off,avx=off,avx2=off
	words=
	[ -z "$boots" ] || words="loglevel=5" # what the OOM killer finds
	[ "$boots" != debian-initramfs ] || root_served >>"$log/host.log" 2>&1
	# The console through a pipe: QEMU waits for a disk that it writes to, and with it
	# the guest, whose timers it keeps. That took half a minute more than once.
	(
		exec 5<>"$work/console"
		cat <"$work/console" >"$log/console.log" 5>&- &
		status=0
		# shellcheck disable=SC2086 # words are meant
		timeout -s KILL "$key_limit" qemu-system-x86_64 -machine q35 \
			-accel tcg,thread=$thread $icount -cpu $cpu -smp "$key_cpus" -m "$key_mem" \
			-display none -nodefaults -no-reboot \
			-kernel "$kernel_dir/vmlinuz" -initrd "$initrd" \
			-append "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on net.ifnames=0 $words" \
			-drive "$disk,if=none,id=d0" \
			-device virtio-blk-pci,drive=d0 \
			-drive "file=$work/scenario.tar,format=raw,if=none,id=d1,readonly=on" \
			-device virtio-blk-pci,drive=d1 "$@" \
			-netdev tap,id=n0,ifname=tap0,script=no,downscript=no \
			-device "$card,netdev=n0,romfile=" \
			-object filter-buffer,id=delay,netdev=n0,interval=100000,status=off \
			-monitor tcp:127.0.0.1:4444,server=on,wait=off \
			-serial "file:$work/console" \
			-chardev "pipe,id=port,path=$work/port" -serial chardev:port \
			>"$log/qemu.log" 2>&1 5>&- || status=$?
		exec 5>&-
		wait
		echo "!end $status" >"$work/port.out"
	) &
}

# In this shell, not in one for its output: some servers end with their parent.
answer() {
	id=$1
	action=$2
	shift 2
	if ! command -v "act_$action" >/dev/null; then
		echo "$id err no such action" >&4
	elif "act_$action" "$@" >"$work/said" 2>>"$log/host.log"; then
		echo "$id ok $(cat "$work/said")" >&4
	else
		echo "$id err $(cat "$work/said")" >&4
	fi
}

# Reads until QEMU has ended; leaves its status in ended.
guest_serve() {
	up=
	while read -r line; do
		printf '%s\n' "$line" >>"$log/port.log"
		case $line in
		'!up') up=1 ;;
		'!end '*)
			ended=${line#!end }
			return
			;;
		'#'*) printf '%s\n' "$line" ;;
		'='*) fact "${line#=}" ;;
		'?'*)
			# shellcheck disable=SC2086 # words are meant
			answer ${line#?}
			;;
		'@'*)
			# shellcheck disable=SC2086 # words are meant
			act_${line#?} >>"$log/host.log" 2>&1 || :
			;;
		esac
	done <&3
}

net_up 2>"$log/host.log" || {
	fact "result skipped"
	fact "reason no tap device: $(tail -n 1 "$log/host.log")"
	exit 0
}
rm -f "$work/root.qcow2"
while :; do
	guest_start
	# Opened for both so that no open waits and no end of file comes early.
	exec 3<>"$work/port.out" 4<>"$work/port.in"
	guest_serve
	end_judged || break
done
if grep -q '^result ' "$work/facts"; then
	:
elif [ -z "$up" ]; then
	fact "result noboot"
	fact "reason no sign of the guest; QEMU ended with status $ended: $(cat "$log/qemu.log" "$log/console.log" | grep . | tail -n 1 | tr -d '\r')"
elif [ "$ended" = 137 ]; then
	fact "result timeout"
	fact "reason no end within $key_limit s"
else
	fact "result crash"
	fact "reason $(grep -m 1 -o 'Kernel panic.*' "$log/console.log" |
		tr -d '\r' || echo the guest ended without a result)"
fi
