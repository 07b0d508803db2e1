// SPDX-License-Identifier: GPL-2.0-or-later
/* Unit tests of child processes by descriptor, with real ones. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "nbd-client/process.h"

#define LONG_MS 10000

/* Waits to be told, then ends with *arg. */
static int told(void *arg, int go_fd)
{
	uint64_t count;

	if (read(go_fd, &count, sizeof(count)) != sizeof(count))
		return 99;
	return *(int *)arg;
}

static int at_once(void *arg, int go_fd)
{
	(void)go_fd;
	return *(int *)arg;
}

static int wait_end(struct process *p)
{
	struct pollfd fd = { .fd = p->fd, .events = POLLIN };
	int status;

	assert_int_equal(poll(&fd, 1, LONG_MS), 1);
	assert_true(process_ended(p, &status));
	assert_int_equal(p->pid, 0);
	assert_int_equal(p->fd, -1);
	assert_int_equal(p->go_fd, -1);
	assert_false(process_ended(p, &status));
	return status;
}

static void goes_when_told(void **state)
{
	struct process p;
	int result = 7, status;

	(void)state;
	assert_int_equal(process_start(&p, told, &result), 0);
	assert_int_equal(kill(p.pid, 0), 0);
	assert_false(process_ended(&p, &status));
	process_go(&p);
	assert_int_equal(wait_end(&p), 7);
}

static void told_before_it_waits(void **state)
{
	struct process p;
	int result = 8;

	(void)state;
	assert_int_equal(process_start(&p, told, &result), 0);
	process_go(&p);
	assert_int_equal(wait_end(&p), 8);
}

static void each_has_its_own(void **state)
{
	struct process a, b;
	int result = 9, status;

	(void)state;
	assert_int_equal(process_start(&a, told, &result), 0);
	assert_int_equal(process_start(&b, told, &result), 0);
	process_go(&b);
	assert_int_equal(wait_end(&b), 9);
	assert_false(process_ended(&a, &status));
	process_stop(&a);
	assert_int_equal(a.pid, 0);
}

static void killed(void **state)
{
	struct process p;
	int result = 0;

	(void)state;
	assert_int_equal(process_start(&p, told, &result), 0);
	process_kill(&p);
	assert_int_equal(wait_end(&p), PROCESS_SIGNAL + SIGKILL);
}

/* One that is stopped can be killed all the same. */
static void stopped_and_killed(void **state)
{
	struct process p;
	int result = 0, status;

	(void)state;
	assert_int_equal(process_start(&p, told, &result), 0);
	assert_int_equal(kill(p.pid, SIGSTOP), 0);
	process_go(&p);
	poll(NULL, 0, 50);
	assert_false(process_ended(&p, &status));
	process_kill(&p);
	assert_int_equal(wait_end(&p), PROCESS_SIGNAL + SIGKILL);
}

/* A takeover does not wait for it, and it is done at no real-time priority. */
static void reaped_later(void **state)
{
	struct sched_param param = { .sched_priority = 5 };
	const struct sched_param none = { 0 };
	int policy = sched_setscheduler(0, SCHED_FIFO, &param) ? SCHED_OTHER :
								 SCHED_FIFO;
	struct process p[12];
	int result = 0;
	pid_t pid = 0;

	(void)state;
	process_reap();
	for (int i = 0; i < 12; i++) {
		assert_int_equal(process_start(&p[i], at_once, &result), 0);
		pid = p[i].pid;
		assert_int_equal(wait_end(&p[i]), 0);
		assert_int_equal(kill(pid, 0), i == 7 ? -1 : 0); /* room for 8 */
	}
	process_reap();
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	assert_int_equal(sched_getscheduler(0), policy);
	assert_int_equal(sched_getparam(0, &param), 0);
	assert_int_equal(param.sched_priority, policy == SCHED_FIFO ? 5 : 0);
	assert_int_equal(sched_setscheduler(0, SCHED_OTHER, &none), 0);
}

static void none_is_harmless(void **state)
{
	struct process p;
	int result = 3, status;

	(void)state;
	assert_int_equal(process_start(&p, at_once, &result), 0);
	assert_int_equal(wait_end(&p), 3);
	process_kill(&p);
	process_stop(&p);
	assert_false(process_ended(&p, &status));
	/* Nothing is left to be reaped. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_when_told),
		cmocka_unit_test(told_before_it_waits),
		cmocka_unit_test(each_has_its_own),
		cmocka_unit_test(killed),
		cmocka_unit_test(stopped_and_killed),
		cmocka_unit_test(reaped_later),
		cmocka_unit_test(none_is_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
