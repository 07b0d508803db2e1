#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# demo.sh: watch a small machine work with more memory than it has, on swap that
# nbd-client carries to a real NBD server, with every byte verified.
#
# Installs what is missing with apt-get, builds the program, and runs the guest
# scenario "swap" (tests/vm/run), or with --host the same on this machine.  The
# program that uses up memory and the lines drawn here come from tests/vm; both
# tests/vm/run and tests/vm/on-host print progress and then one JSON object.
set -eu

tests=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$tests")

usage() {
	cat <<-END
	usage: sh tests/demo.sh [--host] [key=value ...]
	  Runs a guest with 256 MB of memory in which a program works on 512 MB,
	  swapping over nbd-client; verifies every page.  Installs Debian packages
	  (root) and builds the program first where that is needed.
	  --host      on this machine itself, not in a guest: needs root, the module
	              nbd, and cgroup v2; the program is held in a cgroup
	  key=value   for a guest, as in tests/vm/run: kernel=6.1|6.12
	              nic=virtio|e1000e mem=MB hog=MB seconds=S front=nbd|kernel ...
	              with --host: hog=MB seconds=S mem=MB (of the cgroup)
	exit status: 0 all bytes verified, 1 not, 2 usage, 77 cannot run here
	END
}

cannot() {
	echo "demo: $*" >&2
	exit 77
}

# ---- what is needed

install_packages() {
	for list in "$tests/deps.sh" "$tests/vm/deps"; do
		[ -f "$list" ] || continue
		sh "$list" >"$work/apt.log" 2>&1 || {
			tail -n 5 "$work/apt.log" >&2
			cannot "packages are missing: as root, sh $list"
		}
	done
}

# In a folder of its own, unless the source tree itself was configured.
build_program() {
	build=$top/build
	[ ! -f "$top/config.status" ] || build=$top
	if [ ! -f "$top/configure" ] ||
		[ -n "$(find "$top/configure.ac" "$top/Makefile.am" -newer "$top/configure")" ]; then
		(cd "$top" && autoreconf -fi)
	fi
	mkdir -p "$build"
	[ -f "$build/config.status" ] || (cd "$build" && "$top/configure")
	make -C "$build" -j "$(nproc)"
}

# ---- the picture

# bar USED TOTAL: 30 characters.
bar() {
	full=$(($1 * 30 / ($2 > 0 ? $2 : 1)))
	[ $full -le 30 ] || full=30
	printf "[%.${full}s%.$((30 - full))s]" \
		'##############################' '..............................'
}

# spark MAX NUMBER…: a character for each.
spark() {
	max=$1
	shift
	for n in "$@"; do
		case $((n * 7 / (max > 0 ? max : 1))) in
		0) [ "$n" -gt 0 ] && printf . || printf ' ' ;;
		1) printf : ;;
		2) printf - ;;
		3) printf '=' ;;
		4) printf + ;;
		5) printf '*' ;;
		*) printf '#' ;;
		esac
	done
}

# last COUNT NUMBER…: the last of them.
last() {
	count=$1
	shift
	while [ $# -gt "$count" ]; do shift; done
	echo "$*"
}

phase_name() {
	case $1 in
	1) echo "filling all of it for the first time" ;;
	2) echo "checking and rewriting, here and there" ;;
	3) echo "final pass: checking every page" ;;
	*) echo "getting ready" ;;
	esac
}

picture_lines=9
# shellcheck disable=SC2086 # lists of numbers
picture() {
	# Each line ends with "erase to the end of the line".
	e=$(printf '\033[K')
	cat <<-END
	$e
	  $(printf '%3d s' "$g_t")   $(phase_name "$g_phase")$e
	  memory   $(bar $((g_memtotal_kb - g_memfree_kb)) "$g_memtotal_kb") $((g_memfree_kb / 1024)) of $((g_memtotal_kb / 1024)) MB free$e
	  swap     $(bar $((g_swaptotal_kb - g_swapfree_kb)) "$g_swaptotal_kb") $(((g_swaptotal_kb - g_swapfree_kb) / 1024)) of $((g_swaptotal_kb / 1024)) MB in use$e
	  out      [$(printf %-30s "$(spark "$peak" $outs)")] $g_out_s pages/s to the server$e
	  in       [$(printf %-30s "$(spark "$peak" $ins)")] $g_in_s pages/s from the server$e
	  reserve  $g_minfree_kb kB are kept free for the way to the server$e
	  requests $g_reads reads and $g_writes writes in flight$e
	  verified $g_verified pages = $((g_verified / 256)) MB, $g_mismatches wrong$e
	END
}

plain_line() {
	echo "$g_t s, $(phase_name "$g_phase"): $((g_memfree_kb / 1024)) of $((g_memtotal_kb / 1024)) MB free," \
		"swap $(((g_swaptotal_kb - g_swapfree_kb) / 1024)) of $((g_swaptotal_kb / 1024)) MB," \
		"out $g_out_s in $g_in_s pages/s, reserve $g_minfree_kb kB," \
		"in flight $g_reads r $g_writes w," \
		"verified $((g_verified / 256)) MB, $g_mismatches wrong"
}

# on_gauge KEY=NUMBER…: one second has passed.
on_gauge() {
	for pair in "$@"; do
		case ${pair%%=*} in *[!a-z_]*) continue ;; esac
		case ${pair#*=} in '' | *[!0-9]*) continue ;; esac
		eval "g_${pair%%=*}=${pair#*=}"
	done
	# shellcheck disable=SC2086 # lists of numbers
	outs=$(last 30 $outs "$g_out_s") ins=$(last 30 $ins "$g_in_s")
	for n in "$g_out_s" "$g_in_s"; do [ "$n" -le "$peak" ] || peak=$n; done
	if [ -t 1 ]; then
		[ -z "$drawn" ] || printf '\033[%dA' $picture_lines
		picture
		drawn=1
	else
		plain_line
	fi
}

# show: read the lines of a run, draw, and say at the end how it went.
show() {
	drawn='' outs='' ins='' json='' peak=1 status=1
	g_t=0 g_phase=0 g_memfree_kb=0 g_memtotal_kb=0 g_swapfree_kb=0 g_swaptotal_kb=0
	g_out_s=0 g_in_s=0 g_minfree_kb=0 g_reads=0 g_writes=0 g_verified=0 g_mismatches=0
	while IFS= read -r line; do
		case $line in
		'#gauge '*)
			# shellcheck disable=SC2086 # words are meant
			on_gauge ${line#\#gauge }
			;;
		'# '*)
			echo "${line#\# }"
			drawn=
			;;
		'{'*) json=$line ;;
		'!status '*) status=${line#!status } ;;
		esac
	done
	verdict
}

# json_value KEY
json_value() {
	printf '%s\n' "$json" | sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p"
}

verdict() {
	echo
	case $status in
	0)
		pages=$(json_value pages_verified)
		cat <<-END
		PASSED  $(json_value hog_mb) MB were in use where far less memory was.
		        $pages pages = $((pages * 4096)) bytes read back and verified,
		        $(json_value mismatches) wrong; $(json_value pswpout) pages went to the server, $(json_value pswpin) came back.
		        The longest moment without progress was $(json_value longest_gap_ms) ms.
		END
		;;
	77) echo "NOT RUN  $(json_value reason)" ;;
	*) echo "FAILED  $(json_value result): $(json_value reason)" ;;
	esac
	log=$(json_value log)
	[ -z "$log" ] || echo "        Logs: $log"
	exit "$status"
}


# ---- all of it

run=$tests/vm/run
case ${1-} in
-h | --help)
	usage
	exit 0
	;;
--host)
	run=$tests/vm/on-host
	shift
	# Before anything is installed or built.
	sh "$run" --check || exit
	;;
-*)
	usage >&2
	exit 2
	;;
esac

work=$(mktemp -d "${TMPDIR:-/tmp}/nbd-demo.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

echo "Installing what is missing ..."
install_packages
case " $* " in
*' front=kernel '*) set -- swap "$@" ;;
*)
	echo "Building nbd-client ..."
	build_program >"$work/build.log" 2>&1 || {
		tail -n 20 "$work/build.log" >&2
		echo "demo: the program does not build" >&2
		exit 1
	}
	set -- swap builddir="$build" "$@"
	;;
esac
echo "Starting ..."
# A pipe has the status of its end, so the run's comes as a line.
{ sh "$run" "$@" || status=$? && echo "!status ${status-0}"; } | show
