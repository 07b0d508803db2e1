/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Monotonic time. Tests link fake_clock.c instead and move time by hand. */
#ifndef NBD_CLOCK_H
#define NBD_CLOCK_H

#include <stdint.h>

#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

/* Nanoseconds since an arbitrary point; never goes back. Any thread. */
uint64_t clock_now_ns(void);

#endif
