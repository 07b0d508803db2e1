// SPDX-License-Identifier: GPL-2.0-or-later
/* Buffers of the ordinary class: all in good times, one a second in bad ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/classify.h"

static struct ordinary o;

/* How many messages can be received right now. */
static uint32_t messages(uint32_t limit)
{
	uint32_t count = 0;

	while (count < limit) {
		uint8_t *buffer = ordinary_take(&o);

		if (!buffer)
			break;
		memset(buffer, 0xaa, ORDINARY_BUFFER_BYTES);
		ordinary_give(&o, true);
		count++;
	}
	assert_int_equal(ordinary_ready(&o), count == limit);
	return count;
}

static void no_limit_in_good_times(void **state)
{
	(void)state;
	ordinary_init(&o);
	ordinary_update(&o, false, 0);
	assert_int_equal(messages(1000), 1000);
}

static void one_a_second_while_low(void **state)
{
	uint64_t now_ns = 100 * NS_PER_S, served = 0;

	(void)state;
	ordinary_init(&o);
	ordinary_update(&o, true, now_ns);
	/* What is provided is used up, and not refilled. */
	assert_int_equal(messages(1000), ORDINARY_BUFFERS);
	ordinary_update(&o, true, now_ns + NS_PER_S - 1);
	assert_int_equal(messages(1000), 0);
	for (int i = 0; i < 100; i++) { /* ten seconds of eager clients */
		now_ns += NS_PER_S / 10;
		ordinary_update(&o, true, now_ns);
		served += messages(1000);
	}
	assert_int_equal(served, 10);
	now_ns += 60 * NS_PER_S; /* nothing is saved up */
	ordinary_update(&o, true, now_ns);
	assert_int_equal(messages(1000), 1);
	ordinary_update(&o, false, now_ns);
	assert_int_equal(messages(1000), 1000);
}

/* Looking whether there is a message takes nothing away. */
static void unused_buffers_stay(void **state)
{
	(void)state;
	ordinary_init(&o);
	ordinary_update(&o, true, 0);
	for (int i = 0; i < 100; i++) {
		assert_non_null(ordinary_take(&o));
		ordinary_give(&o, false);
	}
	assert_int_equal(messages(1000), ORDINARY_BUFFERS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_limit_in_good_times),
		cmocka_unit_test(one_a_second_while_low),
		cmocka_unit_test(unused_buffers_stay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
