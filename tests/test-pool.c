// SPDX-License-Identifier: GPL-2.0-or-later
/* Slots: each to one holder at a time, the reserve last, low and back again. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/pool.h"

static struct pool pool;

static uint32_t take(enum pool_part expected)
{
	uint32_t index = 12345;

	assert_int_equal(pool_take(&pool, &index), expected);
	assert_int_equal(index == 12345, expected == POOL_NONE);
	return index;
}

static void reserve_comes_last(void **state)
{
	bool seen[10] = { false };

	(void)state;
	pool_init(&pool, 10, 3);
	assert_int_equal(pool.free_count, 10);
	for (uint32_t i = 0; i < 10; i++) {
		uint32_t index = take(i < 7 ? POOL_BASE : POOL_RESERVE);

		assert_true(index < 10 && !seen[index]);
		/* Numbers from 7 on are the reserve. */
		assert_int_equal(index >= 7, i >= 7);
		seen[index] = true;
		assert_int_equal(pool.low, i >= 7);
		assert_int_equal(pool.free_min, 9 - i);
	}
	take(POOL_NONE);
	assert_int_equal(pool.low_episodes, 1);
	for (uint32_t i = 0; i < 10; i++)
		pool_give(&pool, i);
	assert_int_equal(pool.free_count, 10);
	assert_int_equal(pool.free_min, 0);
}

/* By number, whichever part it is in; the pool is never low then. */
static void slots_by_number(void **state)
{
	static const uint32_t order[] = { 4, 9, 0, 7, 6, 3, 8, 1, 5, 2 };

	(void)state;
	pool_init(&pool, 10, 3);
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 10; i++) {
			pool_take_slot(&pool, order[(i * 3 + round) % 10]);
			assert_int_equal(pool.free_count, 9 - i);
		}
		take(POOL_NONE);
		assert_false(pool.low);
		for (uint32_t i = 0; i < 10; i++)
			pool_give(&pool, order[(i * 7 + round) % 10]);
		assert_int_equal(pool.free_count, 10);
	}
	/* what is left is handed out as ever */
	pool_take_slot(&pool, 5);
	pool_take_slot(&pool, 8);
	for (uint32_t i = 0; i < 8; i++) {
		uint32_t index = take(i < 6 ? POOL_BASE : POOL_RESERVE);

		assert_true(index != 5 && index != 8);
	}
	take(POOL_NONE);
}

/* The slot given back last is in the cache: it is taken first. */
static void warmest_first(void **state)
{
	uint32_t a, b;

	(void)state;
	pool_init(&pool, 8, 1);
	a = take(POOL_BASE);
	b = take(POOL_BASE);
	assert_int_not_equal(a, b);
	pool_give(&pool, b);
	pool_give(&pool, a);
	assert_int_equal(take(POOL_BASE), a);
	assert_int_equal(take(POOL_BASE), b);
}

/* Low until a quarter of the ordinary slots are back, and once for each time. */
static void low_does_not_flap(void **state)
{
	(void)state;
	pool_init(&pool, 12, 2); /* ordinary ones: 0 to 9; a quarter is 3 */
	for (int episode = 1; episode <= 3; episode++) {
		for (int i = 0; i < 10; i++)
			take(POOL_BASE);
		assert_int_equal(pool.low, false);
		take(POOL_RESERVE);
		take(POOL_RESERVE);
		assert_int_equal(pool.low_episodes, episode);
		pool_give(&pool, 11); /* the reserve's own */
		assert_true(pool.low);
		pool_give(&pool, 0);
		pool_give(&pool, 1);
		assert_true(pool.low);
		take(POOL_BASE);
		take(POOL_BASE);
		take(POOL_RESERVE); /* still the same episode */
		assert_int_equal(pool.low_episodes, episode);
		for (uint32_t i = 0; i < 3; i++) {
			assert_true(pool.low);
			pool_give(&pool, i);
		}
		assert_false(pool.low);
		for (uint32_t i = 3; i < 12; i++)
			pool_give(&pool, i);
	}
}

static void sizes(void **state)
{
	(void)state;
	for (uint32_t count = 2; count <= SLOTS_MAX; count++)
		for (uint32_t reserve = 0; reserve < count; reserve += 1 + reserve) {
			pool_init(&pool, count, reserve);
			for (uint32_t i = 0; i < count - reserve; i++)
				take(POOL_BASE);
			for (uint32_t i = 0; i < reserve; i++)
				take(POOL_RESERVE);
			take(POOL_NONE);
		}
}

static void random_holders(void **state)
{
	bool held[SLOTS_MAX] = { false };
	uint32_t held_count = 0, low_water = SLOTS_MAX;

	(void)state;
	srandom(1);
	pool_init(&pool, SLOTS_MAX, 16);
	for (int i = 0; i < 100000; i++) {
		uint32_t index = (uint32_t)random() % SLOTS_MAX;
		/* Waves, so that it gets full and empty. */
		bool more = random() % 100 < (i / 1000 % 2 ? 70 : 30);

		if (more) {
			enum pool_part part = pool_take(&pool, &index);

			assert_int_equal(part == POOL_NONE,
					 held_count == SLOTS_MAX);
			if (part == POOL_NONE)
				continue;
			assert_false(held[index]);
			held[index] = true;
			held_count++;
		} else if (held[index]) {
			held[index] = false;
			held_count--;
			pool_give(&pool, index);
		}
		if (SLOTS_MAX - held_count < low_water)
			low_water = SLOTS_MAX - held_count;
		assert_int_equal(pool.free_count, SLOTS_MAX - held_count);
		assert_int_equal(pool.free_min, low_water);
	}
	assert_int_equal(low_water, 0);
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

static void give_twice(void)
{
	uint32_t index;

	pool_init(&pool, 4, 1);
	pool_take(&pool, &index);
	pool_give(&pool, index);
	pool_give(&pool, index);
}

static void give_unknown(void)
{
	pool_init(&pool, 4, 1);
	pool_give(&pool, 4);
}

static void take_slot_twice(void)
{
	pool_init(&pool, 4, 1);
	pool_take_slot(&pool, 2);
	pool_take_slot(&pool, 2);
}

static void all_reserve(void)
{
	pool_init(&pool, 4, 4);
}

static void too_many(void)
{
	pool_init(&pool, SLOTS_MAX + 1, 1);
}

static void misuse_is_caught(void **state)
{
	(void)state;
	assert_true(aborts(give_twice));
	assert_true(aborts(give_unknown));
	assert_true(aborts(take_slot_twice));
	assert_true(aborts(all_reserve));
	assert_true(aborts(too_many));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reserve_comes_last),
		cmocka_unit_test(slots_by_number),
		cmocka_unit_test(warmest_first),
		cmocka_unit_test(low_does_not_flap),
		cmocka_unit_test(sizes),
		cmocka_unit_test(random_holders),
		cmocka_unit_test(misuse_is_caught),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
