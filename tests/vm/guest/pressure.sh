# SPDX-License-Identifier: GPL-2.0-or-later
# pressure.sh: a hog on swap over the device, and who watches it; what "swap",
# "kill" and the scenarios of lost links share.  Sourced by lib.sh.
#
# A lost link is a scenario of few lines:
#
#	pressure_start
#	at 10 link down		what the host does meanwhile
#	at 25 link up
#	pressure_run		the hog, which must still be at work then
#	pressure_end 10 17	a gap of 10 to 17 seconds, and nothing is left
# shellcheck shell=sh disable=SC2154 # keys come from env

# number KEY: what status says of the device.
number() { nbd-client status "$DEV" --json | sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p"; }

# whole: nothing of the pool's base is given back.
whole() { [ "$(number base_slots)" = $(($(number slots) - $(number slots_reserve))) ]; }

# at SECONDS ACTION ARG…: have the host do something so long after memory is used up.
at() { ask at "$@" >/dev/null || result failed "at $*"; }

# flood_start KIND: strangers' traffic, to sockets that nobody reads or to none:
#	udp+tcp		UDP packets, and TCP connections that fill up
#	frag+syn	fragments never completed, connections never made
#	stuck		64 TCP connections with full queues
flood_start() {
	case $1 in
	none) ;;
	udp+tcp)
		sink_start
		flood udp 7777 2000
		flood tcp 7777 16
		;;
	frag+syn)
		flood frag 7777 1000
		flood syn 10809 1000
		;;
	stuck)
		sink_start
		flood tcp 7777 64
		;;
	*) result failed "no flood $1" ;;
	esac
}

flood() { ask flood "$@" >/dev/null || result failed "flood $1"; }

sink_start() {
	sink 7777 4096 >/run/vm/sink &
	poll 10 test -s /run/vm/sink || result failed "sink did not start"
}

# gauge_start: from now on stall= seconds without progress end the guest.
gauge_start() {
	gauge /run/vm/progress /dev/ttyS1 "${DEV#/dev/}" "$stall" sysrq >/run/vm/gap &
	gauge=$!
	poll 10 test -s /run/vm/progress || result failed "gauge did not start"
	killed=$(vmstat oom_kill)
	swapped_in=$(vmstat pswpin)
}

# hog_run: to its end, and gauge's.
hog_run() {
	hog_start
	hog_end
}

hog_start() {
	hog "$hog" "$seconds" /run/vm/progress >/run/vm/hog &
	hog_pid=$!
}

hog_end() {
	status=0
	wait $hog_pid || status=$?
	kill -TERM $gauge
	wait $gauge || :
	while read -r line; do fact "$line"; done </run/vm/hog
	# shellcheck disable=SC2034 # gap: by the scenario
	read -r gap hog_gap </run/vm/gap
}

# hog_fine: all was as written, nobody was killed, and it was a hog.
hog_fine() {
	[ "$front" = kernel ] || client_records tls_after
	[ "$(vmstat oom_kill)" = "$killed" ] || result oom "$(dmesg | grep -m 1 'Out of memory')"
	kernel_fine
	case $status in
	0) ;;
	1) result corrupt "pages were not as written" ;;
	*) result failed "hog ended with status $status" ;;
	esac
	[ "$hog" -le "$mem" ] || [ "$(vmstat pswpin)" -gt $((swapped_in + 1000)) ] ||
		result failed "hardly anything came back from swap: nothing was tested"
}

# data_thread_fine: it paid nothing for it.
data_thread_fine() {
	for key in data_minor_faults data_major_faults stray_mallocs; do
		fact "$key $(number $key)"
		[ "$(number $key)" = 0 ] || result failed "$key of the data thread: $(number $key)"
	done
}

# ---- a device under a hog, from attach to detach

pressure_start() {
	# shellcheck disable=SC2034 # by kernel_fine
	! kernel_path || expected=$of_a_dead_socket
	# Swap space for all of the hog, and some.
	server_start disk 10809 $((hog + 256))
	before
	client_attach disk 10809 swapon
	client_facts client
	say "swap on $DEV; the hog takes $hog MB of $mem MB for $seconds s"
	flood_start "$flood"
	gauge_start
}

# pressure_run: the hog, which must have worked until the host had done all.
pressure_run() {
	hog_run
	undone=$(ask at_done) || result failed "$undone was not done, or seconds= are too few"
	client_facts client_after
	[ "$front" = kernel ] || for key in reconnects unfenced replayed; do
		fact "$key $(number $key)"
	done
	hog_fine
	[ "$front" = kernel ] || kernel_path || data_thread_fine
}

# pressure_end SHORTEST LONGEST: detach; nothing is left, and the hog stood still for so
# many seconds.  A gap that is shorter tells that what was to be done was not.
pressure_end() {
	client_detach
	after
	kernel_fine
	[ "$hog_gap" -le $(($2 * 1000)) ] ||
		result stall "a gap of $hog_gap ms, at most $2 s are allowed"
	[ "$hog_gap" -ge $(($1 * 1000)) ] ||
		result failed "the longest gap is $hog_gap ms: nobody was without a server for $1 s"
	result "done"
}
