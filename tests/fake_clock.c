// SPDX-License-Identifier: GPL-2.0-or-later
/* clock_now_ns() as tests want it; see fake_clock.h. */
#include "common/clock.h"
#include "tests/fake_clock.h"

uint64_t fake_clock_ns = NS_PER_S;

uint64_t clock_now_ns(void)
{
	return fake_clock_ns;
}

void fake_clock_advance_us(uint64_t us)
{
	fake_clock_ns += us * 1000;
}
