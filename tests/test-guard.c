// SPDX-License-Identifier: GPL-2.0-or-later
/* The malloc watch counts every call of the family, on the armed thread alone. */
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
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
	if (!guard_available() || guard_aborts())
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
	EXPECT(0, free(sink));
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
	if (!guard_available() || guard_aborts())
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

/* ---- Builds that end the process ---- */

static void call_malloc(void)
{
	sink = malloc(n);
}

static void call_calloc(void)
{
	sink = calloc(n, 3);
}

static void call_realloc(void)
{
	sink = realloc(sink, 2 * n);
}

static void call_memalign(void)
{
	sink = memalign(64, n);
}

static void call_aligned_alloc(void)
{
	sink = aligned_alloc(64, 128);
}

static void call_posix_memalign(void)
{
	void *p = NULL;

	(void)!posix_memalign(&p, 4096, n);
	sink = p;
}

static void call_free(void)
{
	free(sink);
}

/* In a child: how it ended, and what it said. */
static int armed_child(void (*call)(void), char *said, size_t said_bytes)
{
	int pipes[2], status = -1;
	ssize_t got;
	pid_t pid;

	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	if (pid == 0) {
		dup2(pipes[1], STDERR_FILENO);
		guard_arm(&counter);
		call();
		guard_disarm();
		_exit(0);
	}
	close(pipes[1]);
	got = read(pipes[0], said, said_bytes - 1);
	said[got > 0 ? got : 0] = '\0';
	close(pipes[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void an_armed_thread_is_stopped(void **state)
{
	static const struct {
		const char *name;
		void (*call)(void);
	} calls[] = {
		{ "malloc()", call_malloc },
		{ "calloc()", call_calloc },
		{ "realloc()", call_realloc },
		{ "memalign()", call_memalign },
		{ "aligned_alloc()", call_aligned_alloc },
		{ "posix_memalign()", call_posix_memalign },
		{ "free()", call_free },
	};
	char said[128];
	int status;

	(void)state;
	if (!guard_aborts())
		skip();
	sink = malloc(n);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		status = armed_child(calls[i].call, said, sizeof(said));
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGABRT);
		assert_non_null(strstr(said, calls[i].name));
		assert_non_null(strstr(said, "data thread"));
	}
	free(sink);
	/* and nobody else is */
	sink = NULL;
	allocate(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_of_the_family),
		cmocka_unit_test(memory_is_usable),
		cmocka_unit_test(other_threads_do_not_count),
		cmocka_unit_test(an_armed_thread_is_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
