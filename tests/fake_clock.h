/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Time that stands still until a test moves it. Links in place of clock.c. */
#ifndef FAKE_CLOCK_H
#define FAKE_CLOCK_H

#include <stdint.h>

extern uint64_t fake_clock_ns;

void fake_clock_advance_us(uint64_t us);

#endif
