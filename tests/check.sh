#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# sh tests/check.sh [STEP...]: everything that must hold, from a clean checkout
# to guests that swap. Installs what is missing (as root), works on a copy of
# the sources in build-check/, leaves the logs there. A line per step, in the
# end one line that counts: each unit test of each build, and each other step
# as one test. Fails if any of them failed. STEPs are the names below; naming
# some repeats those, on the builds of the last full run; deb, the Debian
# package in a system made by debootstrap, is run by name only.
set -u
cd "$(dirname "$0")/.." || exit 2
top=$(pwd)
work=$top/build-check
src=$work/src
logs=$work/logs
tools=$work/tools
PATH=$PATH:$tools/bin:$tools/usr/bin
export PATH
jobs=${JOBS:-$(nproc)}
steps='deps sources gcc distcheck clang asan tsan cppcheck clang-tidy tidy man
	coverage vm-deps vm-swap-6.12 vm-swap-6.1 vm-swap-ublk vm-io
	vm-steady vm-steady-plain vm-errors vm-host-6.12 vm-host-6.1 vm-attach-detach
	vm-server-restart vm-link-loss vm-kill vm-moved vm-tls vm-attach-kill'

passed=0
failed=0
skipped=0

# ---- the steps: 0 holds, 77 cannot run here, anything else failed ----

# build DIR CONFIGURE-ARG...: an out-of-tree build in build-check/DIR.
build() {
	rm -rf "${work:?}/$1"
	mkdir -p "$work/$1" && cd "$work/$1" || return
	shift
	"$src/configure" -q "$@" && make -j"$jobs"
}

step_deps() {
	sh tests/deps.sh || return
	# Unpacked, not installed: the package would start a server.
	command -v nbd-server && return
	mkdir -p "$tools" && cd "$tools" && apt-get -q download nbd-server &&
		dpkg -x nbd-server_*.deb . || echo 'no nbd-server: skipped'
}

# Only what belongs to the sources, and as it is now: somebody may be editing.
step_sources() {
	rm -rf "$src" && mkdir "$src" || return
	git ls-files -co --exclude-standard >"$work/files" ||
		find . -type f ! -path './.git/*' ! -path './build*' \
			! -name '*.o' ! -name '*.a' ! -name Makefile \
			! -name config.status >"$work/files"
	tar -cf - --ignore-failed-read -T "$work/files" | tar -xf - -C "$src"
	cd "$src" && autoreconf -fi
}

step_gcc() {
	build gcc --enable-werror --enable-guard-abort CC=gcc && make -j"$jobs" check
}

step_distcheck() {
	cd "$work/gcc" && make -j"$jobs" distcheck && make tags
}

step_clang() {
	build clang --enable-werror CC=clang && make -j"$jobs" check TESTS=
}

step_asan() {
	build asan --enable-werror --enable-sanitizers CC=gcc \
		CFLAGS='-g -O1' && make -j"$jobs" check
}

step_tsan() {
	build tsan --enable-werror --enable-sanitizers=thread CC=gcc \
		CFLAGS='-g -O1' && make -j"$jobs" check-threads
}

step_cppcheck() {
	cd "$work/gcc" && make cppcheck
}

step_clang_tidy() {
	cd "$work/gcc" && make -k -j"$jobs" clang-tidy
}

step_tidy() {
	sh "$src/tests/tidy.sh" "$work/gcc"
}

step_man() {
	for page in "$src"/man/*.[0-9]; do
		mandoc -T lint -W warning "$page" || return
		said=$(LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings \
			-E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
		[ -z "$said" ] || { echo "$said"; return 1; }
	done
	# Each option of the program is in its page.
	for command in attach detach list status exports info check \
		reconnect recover metrics bench; do
		"$work/gcc/nbd-client/nbd-client" $command --help
	done | grep -o -- '--[a-z-]*' | sort -u | while read -r option; do
		grep -q -- "-${option#--}\\>" "$src/man/nbd-client.8" ||
			{ echo "nbd-client.8 lacks $option"; exit 1; }
	done || return
	"$work/gcc/nbd-client/nbd-client" -L -h |
		sed -n 's/^  \(-.\), -\([a-z-]*\).*/\1 , \2/p' |
		while read -r option; do
			grep -q -- "Fl ${option#-}\\>" "$src/man/nbd-client.8" ||
				{ echo "nbd-client.8 lacks $option"; exit 1; }
		done
}

# Not among the steps of a full run: it makes a system of its own.
step_deb() {
	sh "$src/tests/deb.sh" "$work/gcc"
}

step_coverage() {
	build coverage --enable-coverage CC=gcc CFLAGS='-g -O0' || return
	# A test that fails has been counted before.
	make -j"$jobs" check-unit >check-unit.log
	sh "$src/tests/coverage.sh" .
}

# What of this cannot be had, the guests report as skipped.
step_vm_deps() {
	sh tests/vm/deps || return 77
}

guest() {
	sh "$top/tests/vm/run" "$@" builddir="$work/gcc"
}

step_vm_swap_6_12() { guest swap front=nbd kernel=6.12 seconds=20; }
step_vm_swap_6_1() { guest swap front=nbd kernel=6.1 seconds=20 cpus=1; }
# With one CPU whoever waits in a loop at real-time priority waits for ever.
step_vm_swap_ublk() { guest swap front=ublk kernel=6.12 seconds=20 cpus=1; }
step_vm_io() { guest io front=nbd seconds=20; }
step_vm_steady() { guest steady front=nbd; }
step_vm_steady_plain() { guest steady front=nbd attach=plain cpus=1; }
step_vm_errors() { guest errors; }
step_vm_host_6_12() { guest host kernel=6.12; }
step_vm_host_6_1() { guest host kernel=6.1 nic=e1000e; }
step_vm_attach_detach() { guest attach-detach front=nbd cycles=100; }
step_vm_server_restart() { guest server-restart front=nbd; }
step_vm_link_loss() { guest link-loss front=ublk cpus=1; }
step_vm_kill() { guest kill front=ublk cpus=1 seconds=20; }
step_vm_moved() { guest moved front=ublk cpus=1; }
step_vm_tls() { guest ktls; }
# Around the moment at which the kernel takes the disk away.
step_vm_attach_kill() { guest attach-kill front=ublk cpus=1 phases=detach points=100 from=34 to=46; }

# ---- running and counting them ----

# tally LOG: adds the totals of automake's test suite; false if LOG has none.
tally() {
	totals=$(awk '
		/^# (PASS|XFAIL):/ { pass += $3 }
		/^# (FAIL|XPASS|ERROR):/ { fail += $3 }
		/^# SKIP:/ { skip += $3 }
		END { print pass + 0, fail + 0, skip + 0 }' "$1")
	[ "$totals" != '0 0 0' ] || return
	# shellcheck disable=SC2086 # three numbers
	set -- $totals
	passed=$((passed + $1))
	failed=$((failed + $2))
	skipped=$((skipped + $3))
	suite_failed=$2
}

# show LOG SUITE-LOG: what a reader wants to see of a failure.
show() {
	if [ -f "$2" ] && grep -qE '^(FAIL|ERROR|XPASS): ' "$1"; then
		grep -E '^(FAIL|ERROR|XPASS): ' "$1" | head -n 20
		grep -A 4 '^not ok .* - ' "$2" | grep -v '^FAIL' | head -n 40
	else
		tail -n 20 "$1"
	fi
}

step() {
	name=$1
	log=$logs/$name.log
	start=$(date +%s)
	("step_$(echo "$name" | tr -- '-.' '__')") >"$log" 2>&1 </dev/null
	code=$?
	took="$(($(date +%s) - start)) s"

	case $name in
	gcc | asan | tsan)
		suite_failed=0
		tally "$log" || [ $code = 77 ] || failed=$((failed + !!code))
		# A build that broke after its tests, or before any.
		if [ $code != 0 ] && [ $code != 77 ] &&
		   [ "$suite_failed" = 0 ] && grep -q '^# TOTAL' "$log"; then
			failed=$((failed + 1))
		fi
		[ $code != 77 ] || skipped=$((skipped + 1))
		;;
	deps | sources | vm-deps) [ $code = 0 ] || [ $code = 77 ] || failed=1 ;;
	*)
		case $code in
		0) passed=$((passed + 1)) ;;
		77) skipped=$((skipped + 1)) ;;
		*) failed=$((failed + 1)) ;;
		esac
		;;
	esac

	case $code in
	0) echo "ok $name ($took)" ;;
	77) echo "skipped $name ($took): $(tail -n 1 "$log")" ;;
	*)
		echo "FAILED $name ($took): see log build-check/logs/$name.log"
		show "$log" "$work/$name/test-suite.log" |
			sed 's/^/    /'
		;;
	esac
	sed -n 's/^SKIP: \(.*\) # SKIP/    skipped \1/p' "$log"
}

if [ $# = 0 ]; then
	# shellcheck disable=SC2086 # a list
	set -- $steps
	chmod -R u+w "$work" 2>/dev/null
	rm -rf "$work"
else
	set -- deps sources "$@"
fi
mkdir -p "$logs" || exit
for one; do
	step "$one"
	case $one:$code in deps:[!0]* | sources:[!0]*) break ;; esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
