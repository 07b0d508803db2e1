// SPDX-License-Identifier: GPL-2.0-or-later
/* The arena: no overlap, growing together, no room, other threads. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/arena.h"

#define BYTES 65536u
#define PIECES 200u

static _Alignas(ARENA_ALIGN) uint8_t memory[BYTES];
static struct arena arena;

static int set_up(void **state)
{
	(void)state;
	arena_init(&arena, memory, BYTES);
	return 0;
}

/* All of it in one piece: nothing is lost or split for ever. */
static void assert_whole(void)
{
	void *all = arena_take(&arena, BYTES - ARENA_ALIGN);

	assert_int_equal(arena.used_bytes, all ? BYTES : 0);
	assert_non_null(all);
	arena_give(&arena, all);
	assert_int_equal(arena.used_bytes, 0);
}

static void grows_together(void **state)
{
	void *a, *b, *c;

	(void)state;
	a = arena_take(&arena, 1);
	b = arena_take(&arena, 100);
	c = arena_take(&arena, 1000);
	assert_true(a && b && c);
	assert_int_equal((uintptr_t)a % ARENA_ALIGN, 0);
	assert_int_equal((uintptr_t)b % ARENA_ALIGN, 0);
	arena_give(&arena, b); /* alone, then before it, then behind it */
	arena_give(&arena, a);
	arena_give(&arena, c);
	arena_give(&arena, NULL);
	assert_whole();
	assert_int_equal(arena.peak_bytes, BYTES);
	assert_int_equal(arena.denied, 0);
}

static void no_room(void **state)
{
	void *half, *rest;

	(void)state;
	half = arena_take(&arena, BYTES / 2);
	assert_non_null(half);
	assert_null(arena_take(&arena, BYTES / 2));
	assert_null(arena_take(&arena, BYTES));
	assert_null(arena_take(&arena, SIZE_MAX));
	assert_null(arena_take(&arena, UINT32_MAX));
	assert_int_equal(arena.denied, 4);
	assert_null(arena_take(&arena, 0));
	assert_int_equal(arena.denied, 4);
	/* what cannot grow stays as it is */
	memset(half, 7, BYTES / 2);
	rest = arena_take(&arena, BYTES / 2 - 2 * ARENA_ALIGN);
	assert_non_null(rest);
	assert_null(arena_resize(&arena, half, BYTES / 2 + 1));
	assert_int_equal(((uint8_t *)half)[BYTES / 2 - 1], 7);
	arena_give(&arena, half);
	arena_give(&arena, rest);
	assert_whole();
}

static void resize_keeps_bytes(void **state)
{
	uint8_t *a, *wall, *moved;

	(void)state;
	a = arena_resize(&arena, NULL, 40);
	memset(a, 1, 40);
	assert_ptr_equal(arena_resize(&arena, a, 4000), a); /* room behind */
	for (int i = 0; i < 40; i++)
		assert_int_equal(a[i], 1);
	memset(a, 2, 4000);
	wall = arena_take(&arena, 16);
	moved = arena_resize(&arena, a, 8000);
	assert_ptr_not_equal(moved, a);
	for (int i = 0; i < 4000; i++)
		assert_int_equal(moved[i], 2);
	assert_ptr_equal(arena_resize(&arena, moved, 10), moved);
	arena_give(&arena, wall);
	arena_give(&arena, moved);
	assert_whole();
}

/* Random takes, resizes and gives; each piece keeps its own pattern. */
static void random_use(void **state)
{
	static struct {
		uint8_t *at;
		size_t bytes;
		uint8_t pattern;
	} piece[PIECES];

	(void)state;
	srandom(2);
	for (uint32_t round = 0; round < 200000; round++) {
		uint32_t i = (uint32_t)random() % PIECES;
		size_t bytes = (size_t)random() % 700 + 1;
		uint8_t *to;

		for (size_t k = 0; k < piece[i].bytes; k++)
			assert_int_equal(piece[i].at[k], piece[i].pattern);
		if (piece[i].at && random() % 2) {
			arena_give(&arena, piece[i].at);
			piece[i].at = NULL;
			piece[i].bytes = 0;
			continue;
		}
		to = arena_resize(&arena, piece[i].at, bytes);
		if (!to)
			continue;
		piece[i].at = to;
		piece[i].bytes = bytes;
		piece[i].pattern = (uint8_t)random();
		memset(to, piece[i].pattern, bytes);
	}
	assert_true(arena.denied > 0); /* it was full at times */
	for (uint32_t i = 0; i < PIECES; i++)
		arena_give(&arena, piece[i].at);
	assert_whole();
}

static void *stranger(void *arg)
{
	assert_null(arena_take(&arena, 1));
	assert_null(arena_resize(&arena, arg, 100));
	arena_give(&arena, arg);
	return NULL;
}

static void other_threads_get_nothing(void **state)
{
	void *piece = arena_take(&arena, 10);
	size_t used = arena.used_bytes;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, stranger, piece), 0);
	pthread_join(thread, NULL);
	assert_int_equal(arena.strays, 3);
	assert_int_equal(arena.used_bytes, used);
	arena_give(&arena, piece);
	assert_whole();
}

/* Dies by SIGABRT: giving twice is a bug of ours, not to be survived. */
static void giving_twice_is_caught(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		void *piece = arena_take(&arena, 10);
		int null = open("/dev/null", O_WRONLY);

		dup2(null, STDERR_FILENO);
		arena_give(&arena, piece);
		arena_give(&arena, piece);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(grows_together, set_up),
		cmocka_unit_test_setup(no_room, set_up),
		cmocka_unit_test_setup(resize_keeps_bytes, set_up),
		cmocka_unit_test_setup(random_use, set_up),
		cmocka_unit_test_setup(other_threads_get_nothing, set_up),
		cmocka_unit_test_setup(giving_twice_is_caught, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
