// SPDX-License-Identifier: GPL-2.0-or-later
/* The malloc watch counts every call of the family, on the armed thread alone. */
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/guard.h"

/* Not static, so that the compiler cannot leave calls out. */
void *volatile sink;
volatile size_t n = 100;

static uint64_t counter;

#define EXPECT(calls, ...)                                                     \
	do {                                                                   \
		counter = 0;                                                   \
		guard_arm(&counter);                                           \
		__VA_ARGS__;                                                   \
		guard_disarm();                                                \
		assert_int_equal(counter, calls);                              \
	} while (0)

static void each_of_the_family(void **state)
{
	void *p = NULL;
	char *text;
	int refused;

	(void)state;
	if (!guard_available())
		skip();
	EXPECT(0, sink = NULL);
	EXPECT(1, sink = malloc(n));
	EXPECT(1, sink = realloc(sink, 2 * n));
	EXPECT(1, free(sink));
	EXPECT(2, sink = calloc(n, 3); free(sink));
	EXPECT(2, sink = aligned_alloc(64, 128); free(sink));
	EXPECT(2, sink = memalign(64, n); free(sink));
	EXPECT(1, refused = posix_memalign(&p, 4096, n));
	assert_int_equal(refused, 0);
	assert_int_equal((uintptr_t)p % 4096, 0);
	free(p);
	sink = NULL;
	EXPECT(1, free(sink));
	/* What the C library takes for itself. */
	EXPECT(2, text = strdup("a text"); free(text));
}

/* What comes is as good as the C library's own. */
static void memory_is_usable(void **state)
{
	uint8_t *p;
	void *refused = &counter;

	(void)state;
	p = calloc(n, 7);
	for (size_t i = 0; i < 7 * n; i++)
		assert_int_equal(p[i], 0);
	memset(p, 0x5a, 7 * n);
	p = realloc(p, 100000);
	assert_non_null(p);
	for (size_t i = 0; i < 7 * n; i++)
		assert_int_equal(p[i], 0x5a);
	free(p);
	if (guard_available())
		assert_true(posix_memalign(&refused, 64, SIZE_MAX / 2) != 0);
	assert_ptr_equal(refused, &counter); /* untouched */
}

static void *allocate(void *arg)
{
	(void)arg;
	for (int i = 0; i < 1000; i++) {
		sink = malloc(n);
		free(sink);
	}
	return NULL;
}

static void *armed_thread(void *arg)
{
	guard_arm(arg);
	sink = malloc(n);
	free(sink);
	return NULL; /* without disarming: the thread's own variable dies too */
}

static void other_threads_do_not_count(void **state)
{
	uint64_t theirs = 0;
	pthread_t thread;

	(void)state;
	if (!guard_available())
		skip();
	assert_int_equal(pthread_create(&thread, NULL, allocate, NULL), 0);
	counter = 0;
	guard_arm(&counter);
	pthread_join(thread, NULL);
	guard_disarm();
	/* joining may free the other thread's stack, never 2000 times */
	assert_true(counter < 10);

	assert_int_equal(pthread_create(&thread, NULL, armed_thread, &theirs), 0);
	pthread_join(thread, NULL);
	assert_true(theirs >= 2);
	counter = 0;
	allocate(NULL);
	assert_int_equal(counter, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_of_the_family),
		cmocka_unit_test(memory_is_usable),
		cmocka_unit_test(other_threads_do_not_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
