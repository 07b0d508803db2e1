// SPDX-License-Identifier: GPL-2.0-or-later
/* Admission: two windows, exact sums, groups while memory is low. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "include/nbd-wire.h"
#include "nbd-client/throttle.h"

/* What a request of n bytes costs; from the wire shapes, not from throttle.c. */
#define TX_HEAD 28u
#define RX_HEAD 28u

#define SLOT 8192u
#define LEAST (SLOT + THROTTLE_HEAD_BYTES)

static struct throttle t;
static struct group groups[GROUPS];

static void init(uint64_t tx_open, uint64_t rx_open, uint64_t tx_low,
		 uint64_t rx_low, uint32_t slots)
{
	const struct throttle_window open = { tx_open, rx_open };
	const struct throttle_window low = { tx_low, rx_low };

	throttle_init(&t, &open, &low, SLOT, slots, groups);
}

static struct request make(uint16_t command, uint32_t length)
{
	return (struct request){ .command = command, .length = length };
}

static uint64_t tx_of(const struct request *r)
{
	return TX_HEAD + (r->command == NBD_CMD_WRITE ? r->length : 0);
}

static uint64_t rx_of(const struct request *r)
{
	return RX_HEAD + (r->command == NBD_CMD_READ ? r->length : 0);
}

static void costs(void **state)
{
	struct request kinds[] = {
		make(NBD_CMD_READ, 4096), make(NBD_CMD_WRITE, 4096),
		make(NBD_CMD_FLUSH, 0), make(NBD_CMD_TRIM, UINT32_MAX),
		make(NBD_CMD_WRITE_ZEROES, UINT32_MAX),
	};

	(void)state;
	init(1 << 20, 1 << 20, LEAST, LEAST, 1);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		assert_true(throttle_admit(&t, &kinds[i]));
		assert_int_equal(t.used.tx_bytes, tx_of(&kinds[i]));
		assert_int_equal(t.used.rx_bytes, rx_of(&kinds[i]));
		assert_int_equal(t.admitted, 1);
		/* Memory is not low: no accounting. */
		assert_false(kinds[i].charged);
		assert_int_equal(groups[GROUP_HOST].usage_bytes, 0);
		throttle_release(&t, &kinds[i]);
		assert_int_equal(t.used.tx_bytes, 0);
		assert_int_equal(t.used.rx_bytes, 0);
		assert_int_equal(t.admitted, 0);
	}
}

/* Full to the byte, and not one byte more; a refusal charges nothing. */
static void each_window_to_the_byte(void **state)
{
	(void)state;
	for (int read = 0; read < 2; read++) {
		const uint64_t big = 1 << 20, full = 3 * (28 + 4096);
		struct request r[4];

		for (int i = 0; i < 4; i++)
			r[i] = make(read ? NBD_CMD_READ : NBD_CMD_WRITE, 4096);
		for (uint64_t less = 0; less < 2; less++) {
			init(read ? big : full - less, read ? full - less : big,
			     LEAST, LEAST, 1);
			assert_true(throttle_admit(&t, &r[0]));
			assert_true(throttle_admit(&t, &r[1]));
			assert_int_equal(throttle_admit(&t, &r[2]), !less);
			assert_int_equal(t.admitted, 3 - less);
			assert_int_equal(read ? t.used.rx_bytes :
						t.used.tx_bytes,
					 (3 - less) * (28 + 4096));
			assert_false(throttle_admit(&t, &r[3]));
			throttle_release(&t, &r[0]);
			assert_true(throttle_admit(&t, &r[3]));
		}
	}
}

/* The smallest windows there may be take a request of a whole slot. */
static void least_windows(void **state)
{
	(void)state;
	for (int low = 0; low < 2; low++) {
		struct request w = make(NBD_CMD_WRITE, SLOT);
		struct request r = make(NBD_CMD_READ, SLOT);

		init(LEAST, LEAST, LEAST, LEAST, 1);
		if (low)
			throttle_close(&t);
		assert_true(throttle_admit(&t, &w));
		throttle_answered(&t, &w);
		assert_true(throttle_admit(&t, &r));
		throttle_answered(&t, &r);
	}
}

#define COST (TX_HEAD + 4096u)
#define LOW (2u * COST + 16u)

/* Closed at once; opened by what is answered, not by what is taken back. */
static void closes_at_once_and_opens_slowly(void **state)
{
	struct request w[8];

	(void)state;
	for (int i = 0; i < 8; i++)
		w[i] = make(NBD_CMD_WRITE, 4096);
	init(6 * COST, 1 << 20, LOW, LEAST + 100, 8);
	for (int i = 0; i < 6; i++)
		assert_true(throttle_admit(&t, &w[i]));
	throttle_close(&t);
	for (int i = 0; i < 6; i++)
		throttle_adopt(&t, &w[i]);
	assert_int_equal(t.closings, 1);
	assert_int_equal(t.max.tx_bytes, LOW);
	for (int i = 0; i < 4; i++) {
		assert_false(throttle_admit(&t, &w[6]));
		throttle_answered(&t, &w[i]);
	}
	assert_false(throttle_admit(&t, &w[6])); /* two are under way still */
	throttle_answered(&t, &w[4]);
	assert_true(throttle_admit(&t, &w[6]));
	assert_int_equal(t.max.tx_bytes, LOW); /* still low */

	throttle_reopen(&t);
	assert_int_equal(t.max.tx_bytes, LOW);
	throttle_release(&t, &w[5]);
	assert_int_equal(t.max.tx_bytes, LOW);
	throttle_answered(&t, &w[6]);
	assert_int_equal(t.max.tx_bytes, LOW + COST);
	for (int i = 0; i < 3; i++)
		assert_true(throttle_admit(&t, &w[i]));
	assert_false(throttle_admit(&t, &w[3]));
	for (int i = 0; i < 3; i++)
		throttle_answered(&t, &w[i]);
	assert_int_equal(t.max.tx_bytes, 6 * COST);
	assert_true(throttle_admit(&t, &w[0]));
	throttle_answered(&t, &w[0]);
	assert_int_equal(t.max.tx_bytes, 6 * COST); /* not beyond */
	assert_int_equal(groups[GROUP_HOST].usage_bytes, 0);
}

/* What was charged is uncharged, after memory is no longer low as well. */
static void charges_are_exact(void **state)
{
	struct request before = make(NBD_CMD_READ, 4096);
	struct request during = make(NBD_CMD_WRITE, 1000);
	struct request after = make(NBD_CMD_FLUSH, 0);

	(void)state;
	init(1 << 20, 1 << 20, 2 * LEAST, 2 * LEAST, 8);
	assert_true(throttle_admit(&t, &before));
	throttle_close(&t);
	throttle_adopt(&t, &before);
	throttle_adopt(&t, &before); /* not twice */
	assert_true(throttle_admit(&t, &during));
	assert_int_equal(groups[GROUP_SLOTS].usage_bytes, 2 * SLOT);
	assert_int_equal(groups[GROUP_TX].usage_bytes, 28 + 28 + 1000);
	assert_int_equal(groups[GROUP_RX].usage_bytes, 28 + 4096 + 28);
	assert_int_equal(groups[GROUP_HOST].usage_bytes,
			 2 * SLOT + 4 * 28 + 1000 + 4096);
	throttle_reopen(&t);
	assert_true(throttle_admit(&t, &after));
	assert_false(after.charged);
	throttle_answered(&t, &before);
	throttle_answered(&t, &after);
	assert_int_equal(groups[GROUP_HOST].usage_bytes, SLOT + 56 + 1000);
	throttle_close(&t);
	throttle_adopt(&t, &during); /* since the last time */
	assert_int_equal(groups[GROUP_HOST].usage_bytes, SLOT + 56 + 1000);
	throttle_release(&t, &during);
	for (int i = 0; i < GROUPS; i++)
		assert_int_equal(groups[i].usage_bytes, 0);
}

/* Only as many slots as the reserve has, however small the requests. */
static void slots_of_the_reserve(void **state)
{
	struct request r[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		r[i] = make(NBD_CMD_FLUSH, 0);
	init(1 << 20, 1 << 20, LEAST, LEAST, 3);
	throttle_close(&t);
	for (int i = 0; i < 4; i++)
		assert_int_equal(throttle_admit(&t, &r[i]), i < 3);
	assert_int_equal(groups[GROUP_SLOTS].denied, 1);
	assert_false(r[3].charged);
	assert_int_equal(t.used.tx_bytes, 3 * TX_HEAD);
}

/* By the dice: the sums are those of what is admitted, within the windows. */
static void sums(void **state)
{
	struct request r[40];
	bool in[40] = { false };
	uint32_t refused = 0;

	(void)state;
	srandom(1);
	init(60000, 90000, 20000, 30000, 5);
	for (int i = 0; i < 40; i++)
		r[i] = make(NBD_CMD_READ, 0);
	for (int i = 0; i < 200000; i++) {
		uint32_t k = (uint32_t)random() % 40, count = 0;
		uint64_t tx = 0, rx = 0, charged = 0;

		if (in[k]) {
			if (random() % 2)
				throttle_answered(&t, &r[k]);
			else
				throttle_release(&t, &r[k]);
			in[k] = false;
		} else {
			r[k] = make((uint16_t)(random() % 4),
				    (uint32_t)random() % (SLOT + 1));
			in[k] = throttle_admit(&t, &r[k]);
			refused += !in[k];
			if (in[k])
				assert_true(t.used.tx_bytes <= t.max.tx_bytes &&
					    t.used.rx_bytes <= t.max.rx_bytes);
		}
		if (random() % 500 == 0) {
			if (t.low) {
				throttle_reopen(&t);
			} else {
				throttle_close(&t);
				for (int j = 0; j < 40; j++)
					if (in[j])
						throttle_adopt(&t, &r[j]);
			}
		}
		for (int j = 0; j < 40; j++) {
			if (!in[j])
				continue;
			count++;
			tx += tx_of(&r[j]);
			rx += rx_of(&r[j]);
			assert_true(r[j].charged || !t.low);
			charged += r[j].charged ?
					   SLOT + tx_of(&r[j]) + rx_of(&r[j]) :
					   0;
		}
		assert_int_equal(t.admitted, count);
		assert_int_equal(t.used.tx_bytes, tx);
		assert_int_equal(t.used.rx_bytes, rx);
		assert_int_equal(groups[GROUP_HOST].usage_bytes, charged);
		assert_true(tx <= 60000 && rx <= 90000);
	}
	assert_true(refused > 1000 && t.closings > 100);
}

/* ---- misuse ends the process ---- */

static bool aborts(void (*misuse)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
		misuse();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void too_small_for_a_write(void)
{
	init(1 << 20, 1 << 20, LEAST - 1, LEAST, 1);
}

static void too_small_for_a_read(void)
{
	init(1 << 20, 1 << 20, LEAST, LEAST - 1, 1);
}

static void open_is_smaller(void)
{
	init(LEAST, LEAST, LEAST, LEAST + 1, 1);
}

static void no_slot(void)
{
	init(LEAST, LEAST, LEAST, LEAST, 0);
}

static void released_twice(void)
{
	struct request r = make(NBD_CMD_READ, 1);

	init(LEAST, LEAST, LEAST, LEAST, 1);
	throttle_admit(&t, &r);
	throttle_release(&t, &r);
	throttle_release(&t, &r);
}

/* Larger than a slot, which engine_check() lets nobody be. */
static void would_wait_for_ever(void)
{
	struct request r = make(NBD_CMD_READ, 2 * SLOT);

	init(LEAST, LEAST, LEAST, LEAST, 1);
	throttle_admit(&t, &r);
}

static void misuse_is_caught(void **state)
{
	(void)state;
	assert_true(aborts(too_small_for_a_write));
	assert_true(aborts(too_small_for_a_read));
	assert_true(aborts(open_is_smaller));
	assert_true(aborts(no_slot));
	assert_true(aborts(released_twice));
	assert_true(aborts(would_wait_for_ever));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(costs),
		cmocka_unit_test(each_window_to_the_byte),
		cmocka_unit_test(least_windows),
		cmocka_unit_test(closes_at_once_and_opens_slowly),
		cmocka_unit_test(charges_are_exact),
		cmocka_unit_test(slots_of_the_reserve),
		cmocka_unit_test(sums),
		cmocka_unit_test(misuse_is_caught),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
