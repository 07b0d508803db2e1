// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The memory of the base: not there before it is wanted, also under
 * mlockall(MCL_FUTURE); freed only when the owner has let go; and keeper and
 * owner as two threads, with every slot written to while it is held.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/base.h"
#include "common/pin.h"

#define COUNT 12u
#define RESERVE 3u
#define SLOT_BYTES (4 * PIN_PAGE)

static struct base base;
static struct pool pool;

static uint32_t resident_pages(void)
{
	unsigned char in[COUNT * SLOT_BYTES / PIN_PAGE];
	uint32_t pages = 0;

	assert_int_equal(mincore(base.memory, COUNT * SLOT_BYTES, in), 0);
	for (size_t i = 0; i < sizeof(in); i++)
		pages += in[i] & 1;
	return pages;
}

static void expect_resident(uint32_t slots)
{
	unsigned char in[COUNT * SLOT_BYTES / PIN_PAGE];

	assert_int_equal(base.resident, slots);
	assert_int_equal(mincore(base.memory, COUNT * SLOT_BYTES, in), 0);
	/* A prefix, and nothing but. */
	for (size_t i = 0; i < sizeof(in); i++)
		assert_int_equal(in[i] & 1, i < slots * 4);
}

static void open_base(void)
{
	int ret = base_init(&base, COUNT, SLOT_BYTES);

	if (ret == -EPERM || ret == -ENOMEM) {
		print_message("locking memory is not allowed here\n");
		skip();
	}
	assert_int_equal(ret, 0);
	pool_init(&pool, COUNT + RESERVE, RESERVE);
	base_bind(&base, &pool);
	expect_resident(0);
}

static void comes_step_by_step(void **state)
{
	(void)state;
	open_base();
	assert_false(base_step(&base, COUNT, 0));
	expect_resident(0);
	assert_true(base_step(&base, COUNT, 5));
	expect_resident(5);
	assert_true(base_step(&base, 7, 5));
	expect_resident(7);
	assert_false(base_step(&base, 7, 5));
	pool_step(&pool);
	assert_int_equal(pool.base_free, 7);
	assert_true(base_step(&base, COUNT, COUNT));
	expect_resident(COUNT);
	base_fini(&base);
}

static void goes_when_the_owner_has_let_go(void **state)
{
	uint32_t index;

	(void)state;
	open_base();
	base_step(&base, COUNT, COUNT);
	pool_step(&pool);
	do {
		assert_int_equal(pool_take(&pool, &index), POOL_BASE);
		memset(base.memory + index * SLOT_BYTES, 1, SLOT_BYTES);
	} while (index != COUNT - 1);
	assert_true(base_step(&base, 0, 1));
	assert_false(base_step(&base, 0, 1)); /* asked once */
	assert_false(pool_step(&pool));
	base_step(&base, 0, 1);
	expect_resident(COUNT); /* one is still out */
	while (pool.taken)
		for (uint32_t i = 0; i < COUNT; i++)
			if (pool.slots[i] == POOL_SLOT_TAKEN)
				pool_give(&pool, i);
	assert_true(pool_step(&pool));
	expect_resident(COUNT);
	base_step(&base, 0, 1);
	expect_resident(0);
	assert_int_equal(base.shrinks, 1);
	/* And back: fresh memory. */
	assert_true(base_step(&base, 2, 2));
	expect_resident(2);
	assert_int_equal(base.memory[SLOT_BYTES], 0);
	base_fini(&base);
}

/* Pressure ends before the owner has answered, or before we looked. */
static void taken_back(void **state)
{
	(void)state;
	for (int late = 0; late < 2; late++) {
		uint32_t index;

		open_base();
		base_step(&base, COUNT, COUNT);
		pool_step(&pool);
		pool_take(&pool, &index);
		base_step(&base, 4, 1);
		if (late)
			pool_give(&pool, index);
		assert_int_equal(pool_step(&pool), late);
		/* Late: the answer is there, and what is resident goes home again. */
		assert_true(base_step(&base, COUNT, 0));
		pool_step(&pool);
		base_step(&base, COUNT, 0);
		pool_step(&pool);
		expect_resident(COUNT);
		assert_int_equal(base.given, COUNT);
		assert_int_equal(pool.base_free + pool.taken, COUNT);
		assert_int_equal(base.shrinks, 0);
		base_fini(&base);
	}
}

static uint64_t locked_kbytes(void)
{
	char line[128];
	FILE *file = fopen("/proc/self/status", "r");
	unsigned long kbytes = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "VmLck: %lu", &kbytes) == 1)
			break;
	fclose(file);
	return kbytes;
}

/* In a process of its own: what is locked for ever cannot be undone here. */
static void under_mlockall(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
			_exit(77);
		if (base_init(&base, COUNT, SLOT_BYTES) < 0)
			_exit(77);
		pool_init(&pool, COUNT + RESERVE, RESERVE);
		base_bind(&base, &pool);
		if (resident_pages() != 0)
			_exit(1);
		base_step(&base, 5, 5);
		if (resident_pages() != 20 || !locked_kbytes())
			_exit(2);
		pool_step(&pool);
		base_step(&base, 1, 0);
		pool_step(&pool);
		base_step(&base, 1, 0);
		_exit(resident_pages() == 4 ? 0 : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- two threads ---- */

static _Atomic bool over;

/* Takes and gives at random; a slot is written and read while it is held. */
static void *owner(void *arg)
{
	uint32_t held[COUNT + RESERVE], count = 0;
	unsigned int seed = 1;
	uint64_t *bad = arg;

	while (!atomic_load(&over) || count) {
		uint32_t index;
		bool take = rand_r(&seed) % 2 && !atomic_load(&over);

		pool_step(&pool);
		if (take && pool_take(&pool, &index) != POOL_NONE) {
			held[count++] = index;
			if (index < COUNT)
				memset(base.memory + index * SLOT_BYTES,
				       (int)index + 1, SLOT_BYTES);
		} else if (!take && count) {
			index = held[--count];
			for (uint32_t i = 0; index < COUNT && i < SLOT_BYTES;
			     i += 512)
				*bad += base.memory[index * SLOT_BYTES + i] !=
					index + 1;
			pool_give(&pool, index);
		}
	}
	return NULL;
}

static void keeper_and_owner(void **state)
{
	uint64_t bad = 0, turns = 0;
	pthread_t thread;

	(void)state;
	open_base();
	srandom(7);
	assert_int_equal(pthread_create(&thread, NULL, owner, &bad), 0);
	while (base.shrinks < 2000) {
		uint32_t wanted = (uint32_t)random() % (COUNT + 1);

		/* Sometimes it changes its mind at once. */
		for (long n = random() % 20; n >= 0; n--, turns++)
			base_step(&base, wanted, 2);
		assert_true(base.given <= base.resident);
	}
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	assert_int_equal(bad, 0);
	assert_int_equal(pool.taken, 0);
	base_fini(&base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_step_by_step),
		cmocka_unit_test(goes_when_the_owner_has_let_go),
		cmocka_unit_test(taken_back),
		cmocka_unit_test(under_mlockall),
		cmocka_unit_test(keeper_and_owner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
