// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Monotonic time, read through the vdso: no system call on clock sources that
 * the vdso can read (tsc, kvm-clock). Any thread.
 */
#include <time.h>

#include "common/clock.h"

uint64_t clock_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}
