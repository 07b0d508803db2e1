// SPDX-License-Identifier: GPL-2.0-or-later
/* Admission: two windows, exact sums, and always one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "include/nbd-wire.h"
#include "nbd-client/throttle.h"

/* What a request of n bytes costs; from the wire shapes, not from throttle.c. */
#define TX_HEAD 28u
#define RX_HEAD 28u

static const struct request read_4k = { .command = NBD_CMD_READ,
					.length = 4096 };
static const struct request write_4k = { .command = NBD_CMD_WRITE,
					 .length = 4096 };
static const struct request flush = { .command = NBD_CMD_FLUSH };
static const struct request trim = { .command = NBD_CMD_TRIM,
				     .length = UINT32_MAX };

static void costs(void **state)
{
	static const struct {
		const struct request *r;
		uint64_t tx, rx;
	} rows[] = {
		{ &read_4k, TX_HEAD, RX_HEAD + 4096 },
		{ &write_4k, TX_HEAD + 4096, RX_HEAD },
		{ &flush, TX_HEAD, RX_HEAD },
		{ &trim, TX_HEAD, RX_HEAD },
	};
	struct throttle t;

	(void)state;
	throttle_init(&t, 1 << 20, 1 << 20);
	for (int i = 0; i < 4; i++) {
		assert_true(throttle_admit(&t, rows[i].r));
		assert_int_equal(t.tx_bytes, rows[i].tx);
		assert_int_equal(t.rx_bytes, rows[i].rx);
		assert_int_equal(t.admitted, 1);
		throttle_release(&t, rows[i].r);
		assert_int_equal(t.tx_bytes, 0);
		assert_int_equal(t.rx_bytes, 0);
		assert_int_equal(t.admitted, 0);
	}
}

/* Full to the byte, and not one byte more; a refusal charges nothing. */
static void each_window_to_the_byte(void **state)
{
	static const struct request *const kinds[] = { &write_4k, &read_4k };

	(void)state;
	for (int i = 0; i < 2; i++) {
		const uint64_t big = 1 << 20, full = 3 * (28 + 4096);
		struct throttle t;

		for (uint64_t less = 0; less < 2; less++) {
			throttle_init(&t, i ? big : full - less,
				      i ? full - less : big);
			assert_true(throttle_admit(&t, kinds[i]));
			assert_true(throttle_admit(&t, kinds[i]));
			assert_int_equal(throttle_admit(&t, kinds[i]), !less);
			assert_int_equal(t.admitted, 3 - less);
			assert_int_equal(i ? t.rx_bytes : t.tx_bytes,
					 (3 - less) * (28 + 4096));
			assert_false(throttle_admit(&t, kinds[i]));
			throttle_release(&t, kinds[i]);
			assert_int_equal(throttle_admit(&t, kinds[i]), true);
		}
	}
}

static void one_always_and_only_one(void **state)
{
	struct throttle t;

	(void)state;
	throttle_init(&t, 0, 0);
	for (int i = 0; i < 3; i++) {
		assert_true(throttle_admit(&t, &read_4k));
		assert_false(throttle_admit(&t, &flush));
		assert_false(throttle_admit(&t, &write_4k));
		throttle_release(&t, &read_4k);
	}
	assert_int_equal(t.tx_bytes, 0);
	assert_int_equal(t.rx_bytes, 0);
}

/* By the dice: the sums are those of what is admitted, within the windows. */
static void sums(void **state)
{
	static const struct request *const kinds[] = { &read_4k, &write_4k,
						       &flush, &trim };
	const uint64_t tx_max = 20000, rx_max = 30000;
	uint32_t counts[4] = { 0 };
	struct throttle t;

	(void)state;
	srandom(1);
	throttle_init(&t, tx_max, rx_max);
	for (int i = 0; i < 20000; i++) {
		uint32_t k = (uint32_t)random() % 4;
		uint32_t all;

		if (random() % 2) {
			if (throttle_admit(&t, kinds[k]))
				counts[k]++;
		} else if (counts[k]) {
			throttle_release(&t, kinds[k]);
			counts[k]--;
		}
		all = counts[0] + counts[1] + counts[2] + counts[3];
		assert_int_equal(t.admitted, all);
		assert_int_equal(t.tx_bytes, 28 * all + 4096 * counts[1]);
		assert_int_equal(t.rx_bytes, 28 * all + 4096 * counts[0]);
		assert_true(all == 1 ||
			    (t.tx_bytes <= tx_max && t.rx_bytes <= rx_max));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(costs),
		cmocka_unit_test(each_window_to_the_byte),
		cmocka_unit_test(one_always_and_only_one),
		cmocka_unit_test(sums),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
