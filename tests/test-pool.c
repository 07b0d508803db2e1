// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Slots: each to one holder at a time; the base comes home and is asked back;
 * the reserve only when the base is not whole; low and back again.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
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

static void bring_home(uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		pool_give_home(&pool, i);
	assert_false(pool_step(&pool));
}

static void make(uint32_t count, uint32_t reserve, uint32_t home)
{
	pool_init(&pool, count, reserve);
	bring_home(0, home);
}

static void expect_answer(uint32_t owned)
{
	uint32_t got;

	assert_true(pool_answered(&pool, &got));
	assert_int_equal(got, owned);
}

static void expect_no_answer(void)
{
	uint32_t got = 777;

	assert_false(pool_answered(&pool, &got));
	assert_int_equal(got, 777);
}

/* ---- the two parts ---- */

/* Busy is not low: the reserve stays closed while the base is whole. */
static void whole_base_does_not_open_the_reserve(void **state)
{
	(void)state;
	make(10, 3, 7);
	for (int i = 0; i < 7; i++)
		assert_true(take(POOL_BASE) < 7);
	take(POOL_NONE);
	assert_false(pool.low);
	assert_int_equal(pool.low_episodes, 0);
	assert_int_equal(pool.free_min, 3);
}

/* How much of the base is there: 0 to all but one. */
static void reserve_after_a_base_that_is_not_whole(void **state)
{
	(void)state;
	for (uint32_t home = 0; home < 7; home++) {
		bool seen[10] = { false };

		make(10, 3, home);
		for (uint32_t i = 0; i < home + 3; i++) {
			uint32_t index = take(i < home ? POOL_BASE :
							 POOL_RESERVE);

			assert_true(!seen[index]);
			seen[index] = true;
			assert_int_equal(index >= 7, i >= home);
			assert_true(i >= home || index < home);
			assert_int_equal(pool.low, i >= home);
		}
		take(POOL_NONE);
		assert_int_equal(pool.low_episodes, 1);
		assert_int_equal(pool.free_min, 0);
		assert_int_equal(pool.taken, home + 3);
	}
}

/* All of it is reserve: taken by number or as it comes, and never low. */
static void slots_by_number(void **state)
{
	static const uint32_t order[] = { 4, 9, 0, 7, 6, 3, 8, 1, 5, 2 };

	(void)state;
	make(10, 10, 0);
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 10; i++) {
			pool_take_slot(&pool, order[(i * 3 + round) % 10]);
			assert_int_equal(pool.taken, i + 1);
		}
		take(POOL_NONE);
		for (uint32_t i = 0; i < 10; i++)
			pool_give(&pool, order[(i * 7 + round) % 10]);
		assert_int_equal(pool.taken, 0);
	}
	pool_take_slot(&pool, 5);
	pool_take_slot(&pool, 8);
	for (uint32_t i = 0; i < 8; i++) {
		uint32_t index = take(POOL_RESERVE);

		assert_true(index != 5 && index != 8);
	}
	take(POOL_NONE);
	assert_false(pool.low);
	assert_int_equal(pool.free_min, 0);
}

/* The slot given back last is in the cache: it is taken first. */
static void warmest_first(void **state)
{
	uint32_t a, b;

	(void)state;
	make(8, 1, 7);
	a = take(POOL_BASE);
	b = take(POOL_BASE);
	assert_int_not_equal(a, b);
	pool_give(&pool, b);
	pool_give(&pool, a);
	assert_int_equal(take(POOL_BASE), a);
	assert_int_equal(take(POOL_BASE), b);
}

/* Low until a quarter of the base is free, and once for each time. */
static void low_does_not_flap(void **state)
{
	(void)state;
	make(14, 2, 10); /* the base has 12; a quarter is 3 */
	for (int episode = 1; episode <= 3; episode++) {
		for (int i = 0; i < 10; i++)
			take(POOL_BASE);
		assert_false(pool.low);
		take(POOL_RESERVE);
		take(POOL_RESERVE);
		assert_int_equal(pool.low_episodes, episode);
		pool_give(&pool, 13); /* the reserve's own */
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
		for (uint32_t i = 3; i < 10; i++)
			pool_give(&pool, i);
		pool_give(&pool, 12);
		pool_give(&pool, 13);
	}
}

/* Memory that comes back ends it as well. */
static void low_ends_when_slots_come_home(void **state)
{
	(void)state;
	make(10, 2, 0);
	take(POOL_RESERVE);
	assert_true(pool.low);
	bring_home(0, 1);
	assert_true(pool.low);
	bring_home(1, 2);
	assert_false(pool.low);
}

static void sizes(void **state)
{
	(void)state;
	for (uint32_t count = 2; count <= SLOTS_MAX; count++)
		for (uint32_t reserve = 1; reserve < count; reserve *= 2) {
			make(count, reserve, count - reserve - 1);
			for (uint32_t i = 0; i < count - reserve - 1; i++)
				take(POOL_BASE);
			for (uint32_t i = 0; i < reserve; i++)
				take(POOL_RESERVE);
			take(POOL_NONE);
		}
}

/* ---- giving memory back ---- */

static void asked_for_while_idle(void **state)
{
	(void)state;
	make(10, 2, 8);
	pool_ask(&pool, 3);
	expect_no_answer();
	assert_true(pool_step(&pool));
	expect_answer(3);
	assert_false(pool_step(&pool)); /* once */
	for (int i = 0; i < 3; i++)
		assert_true(take(POOL_BASE) < 3);
	take(POOL_RESERVE);
	bring_home(3, 8);
	assert_true(take(POOL_BASE) >= 3);
}

/* The slot at the border is out: it is kept when it comes, not handed out. */
static void asked_for_while_in_use(void **state)
{
	uint32_t index[8];

	(void)state;
	make(10, 2, 8);
	for (int i = 0; i < 8; i++)
		index[i] = take(POOL_BASE);
	pool_ask(&pool, 2);
	assert_false(pool_step(&pool));
	expect_no_answer();
	for (int i = 7; i >= 0; i--) {
		uint32_t out = 0, answer;

		pool_give(&pool, index[i]);
		for (int k = 0; k < i; k++)
			out += index[k] >= 2;
		assert_int_equal(pool_step(&pool), !out && index[i] >= 2);
		assert_int_equal(pool_answered(&pool, &answer), !out);
		assert_true(pool.base_free <= 2);
	}
	expect_answer(2);
}

/* Taken back before the answer: all is as it was. */
static void question_taken_back_in_time(void **state)
{
	uint32_t border;

	(void)state;
	make(10, 2, 8);
	do {
		border = take(POOL_BASE);
	} while (border != 7);
	pool_ask(&pool, 0);
	assert_false(pool_step(&pool));
	assert_int_equal(pool.base_free, 0);
	pool_ask(&pool, 8);
	assert_true(pool_step(&pool));
	expect_answer(8);
	assert_int_equal(pool.base_free + pool.taken, 8);
}

/* Too late: the answer tells how much there is, and what is missing comes home. */
static void question_taken_back_too_late(void **state)
{
	(void)state;
	make(10, 2, 8);
	pool_ask(&pool, 5);
	assert_true(pool_step(&pool));
	pool_ask(&pool, 8); /* the keeper has not looked at the answer */
	expect_no_answer();
	assert_true(pool_step(&pool));
	expect_answer(5);
	bring_home(5, 8);
	assert_int_equal(pool.base_free, 8);
}

/* Several questions at once: the last one counts. */
static void last_question_counts(void **state)
{
	(void)state;
	make(10, 2, 8);
	pool_ask(&pool, 1);
	pool_ask(&pool, 8);
	pool_ask(&pool, 4);
	assert_true(pool_step(&pool));
	expect_answer(4);
	assert_int_equal(pool.base_free, 4);
	/* All, and all again, some times round the ring. */
	for (int i = 0; i < 500; i++) {
		pool_ask(&pool, 0);
		assert_true(pool_step(&pool));
		expect_answer(0);
		assert_int_equal(pool.base_free, 0);
		bring_home(0, 8);
		assert_int_equal(pool.base_free, 8);
	}
}

/* ---- by the dice ---- */

static void random_holders(void **state)
{
	const uint32_t base = 112;
	bool held[SLOTS_MAX] = { false };
	uint32_t held_count = 0, given = 0, asked = 0;
	uint32_t episodes = 0, shrinks = 0;
	bool asking = false;

	(void)state;
	srandom(1);
	pool_init(&pool, SLOTS_MAX, SLOTS_MAX - base);
	for (int i = 0; i < 300000; i++) {
		uint32_t index = (uint32_t)random() % SLOTS_MAX;
		/* Waves, so that it gets full and empty. */
		bool more = random() % 100 < (i / 1000 % 2 ? 70 : 30);
		uint32_t owned;

		if (more) {
			enum pool_part part = pool_take(&pool, &index);

			episodes += part == POOL_RESERVE;
			if (part != POOL_NONE) {
				assert_int_equal(part == POOL_RESERVE,
						 index >= base);
				assert_false(held[index]);
				assert_true(index >= base || index < given);
				held[index] = true;
				held_count++;
			}
		} else if (held[index]) {
			held[index] = false;
			held_count--;
			pool_give(&pool, index);
		}
		assert_int_equal(pool.taken, held_count);
		if (random() % 4 == 0)
			pool_step(&pool);
		/* The keeper. */
		if (asking && pool_answered(&pool, &owned)) {
			assert_true(owned <= given);
			given = owned;
			asking = false;
			shrinks++;
			for (uint32_t k = given; k < base; k++)
				assert_false(held[k]);
		} else if (random() % 200 == 0) {
			asked = given ? (uint32_t)random() % (given + 1) : 0;
			pool_ask(&pool, asked);
			asking = true;
		} else if (!asking && given < base && random() % 4 == 0) {
			pool_give_home(&pool, given++);
		}
	}
	assert_true(episodes > 100 && shrinks > 100 && pool.low_episodes > 10);
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
	pool_init(&pool, 4, 4);
	pool_take_slot(&pool, 2);
	pool_take_slot(&pool, 2);
}

static void give_absent(void)
{
	pool_init(&pool, 4, 1);
	pool_give(&pool, 0);
}

static void reserve_larger_than_all(void)
{
	pool_init(&pool, 4, 5);
}

static void too_many(void)
{
	pool_init(&pool, SLOTS_MAX + 1, 1);
}

static void home_out_of_order(void)
{
	pool_init(&pool, 4, 1);
	pool_give_home(&pool, 1);
	pool_step(&pool);
}

static void reserve_comes_home(void)
{
	pool_init(&pool, 4, 1);
	pool_give_home(&pool, 3);
}

static void misuse_is_caught(void **state)
{
	(void)state;
	assert_true(aborts(give_twice));
	assert_true(aborts(give_unknown));
	assert_true(aborts(take_slot_twice));
	assert_true(aborts(give_absent));
	assert_true(aborts(reserve_larger_than_all));
	assert_true(aborts(too_many));
	assert_true(aborts(home_out_of_order));
	assert_true(aborts(reserve_comes_home));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slots_by_number),
		cmocka_unit_test(whole_base_does_not_open_the_reserve),
		cmocka_unit_test(reserve_after_a_base_that_is_not_whole),
		cmocka_unit_test(warmest_first),
		cmocka_unit_test(low_does_not_flap),
		cmocka_unit_test(low_ends_when_slots_come_home),
		cmocka_unit_test(sizes),
		cmocka_unit_test(asked_for_while_idle),
		cmocka_unit_test(asked_for_while_in_use),
		cmocka_unit_test(question_taken_back_in_time),
		cmocka_unit_test(question_taken_back_too_late),
		cmocka_unit_test(last_question_counts),
		cmocka_unit_test(random_holders),
		cmocka_unit_test(misuse_is_caught),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
