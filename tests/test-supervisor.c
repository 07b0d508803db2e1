// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the supervisor: whom it starts, tells to go, kills, and when it
 * ends. Processes are a list here, and time is what the test says.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/handover.h"
#include "nbd-client/notify.h"
#include "nbd-client/supervisor.h"
#include "nbd-client/swap.h"
#include "nbd-client/worker.h"

#define TICK_NS (SUPERVISOR_TICK_MS * NS_PER_MS)
#define ALIVE (-1)

/* ---- processes that are none ---- */

static struct fake {
	int (*main)(void *arg, int go_fd);
	int status; /* ALIVE, or how it ended */
	bool told;  /* to go */
} fakes[16];
static int count;      /* of fakes, each a process; its pid is the index + 1 */
static int fork_error; /* of the next fork */
static int reaped;     /* how often */

int process_start(struct process *p, int (*main)(void *arg, int go_fd),
		  void *arg)
{
	(void)arg;
	*p = (struct process){ .fd = -1, .go_fd = -1 };
	if (fork_error)
		return -fork_error;
	fakes[count] = (struct fake){ .main = main, .status = ALIVE };
	p->pid = ++count;
	return 0;
}

int process_adopt(struct process *p, pid_t pid)
{
	assert_int_equal(pid, 1);
	fakes[count++] = (struct fake){ .status = ALIVE };
	*p = (struct process){ .pid = pid, .fd = -1, .go_fd = -1 };
	return 0;
}

void process_go(const struct process *p)
{
	fakes[p->pid - 1].told = true;
}

void process_kill(const struct process *p)
{
	fakes[p->pid - 1].status = PROCESS_SIGNAL + SIGKILL;
}

bool process_ended(struct process *p, int *ret_status)
{
	if (p->pid <= 0 || fakes[p->pid - 1].status == ALIVE)
		return false;
	*ret_status = fakes[p->pid - 1].status;
	p->pid = 0;
	return true;
}

void process_stop(struct process *p)
{
	if (p->pid > 0)
		process_kill(p);
	p->pid = 0;
}

void process_reap(void)
{
	reaped++;
}

int worker_attach(void *device, int go_fd)
{
	(void)device;
	return go_fd;
}

int worker_take_over(void *device, int go_fd)
{
	(void)device;
	return go_fd;
}

int worker_probe(void *device, int go_fd)
{
	(void)device;
	return go_fd;
}

/* ---- the manager that is told ---- */

static uint32_t stopping; /* times, before any process ended */

void notify_step(const struct stats_page *p, uint64_t at_ns)
{
	(void)p;
	(void)at_ns;
}

void notify_stopping(void)
{
	stopping += fakes[0].status == ALIVE;
}

/* ---- the device around it ---- */

static struct stats_page page;
static struct device_shared shared;
static struct attach_options options;
static struct queue queue; /* without servers: nobody looks where they are */
static struct device device;
static struct supervisor s;
static struct err err;
static uint64_t now_ns;
static int unlocked, reported;

void device_unlock(struct device *d)
{
	assert_ptr_equal(d, &device);
	unlocked++;
}

/* Spare sockets have a test of their own; none are wanted here. */
int device_try_lock(struct device *d)
{
	assert_null(d);
	return -1;
}

/* The signal for it has a test of its own. */
void device_hand_over(const struct device *d, struct handover *ret)
{
	assert_null(d);
	assert_null(ret);
}

static void on_ready(const char *path, void *arg)
{
	assert_ptr_equal(path, device.path);
	assert_ptr_equal(arg, &s);
	reported++;
}

static int setup(void **state)
{
	(void)state;
	memset(fakes, 0, sizeof(fakes));
	memset(&page, 0, sizeof(page));
	memset(&shared, 0, sizeof(shared));
	memset(&err, 0, sizeof(err));
	count = fork_error = unlocked = reported = reaped = 0;
	options = (struct attach_options){ .watchdog_s = 10 };
	device = (struct device){ .options = &options,
				  .page = &page,
				  .shared = &shared,
				  .queues = &queue,
				  .path = "/dev/nbd0" };
	queue.conn.ends = &queue.conn.own;
	s = (struct supervisor){ .device = &device,
				 .on_ready = on_ready,
				 .arg = &s };
	now_ns = 100 * NS_PER_S;
	assert_int_equal(supervisor_start(&s, &err), 0);
	return 0;
}

static int step(void)
{
	return supervisor_step(&s, now_ns, &err);
}

/* A tick later, in which data threads have beaten or not. */
static int step_tick(bool beat)
{
	now_ns += TICK_NS;
	if (beat)
		page.data.heartbeat_ns = now_ns;
	return step();
}

/* The worker has attached, or taken over. */
static void become_ready(void)
{
	shared.ready_pid = s.worker.pid;
	page.state = STATS_LIVE;
	assert_int_equal(step(), 1);
}

static void begin_with_standby(void)
{
	become_ready();
	assert_int_equal(step_tick(true), 1);
	assert_int_equal(s.worker.pid, 1);
	assert_int_equal(s.standby.pid, 2);
}

/* ---- tests ---- */

static void first_worker_attaches(void **state)
{
	(void)state;
	assert_ptr_equal(fakes[0].main, worker_attach);
	assert_true(fakes[0].told);
	for (int i = 0; i < 100; i++)
		assert_int_equal(step_tick(false),
				 1); /* swapon takes its time */
	assert_int_equal(reported + unlocked, 0);
	assert_int_equal(count, 1);
	become_ready();
	assert_int_equal(step(), 1);
	assert_int_equal(reported, 1);
	assert_int_equal(unlocked, 1);
	assert_int_equal(page.worker_pid, 1);
	assert_int_equal(page.supervised, 1);
}

static void first_worker_cannot(void **state)
{
	(void)state;
	err_set(&shared.err, X_REFUSED, ENOENT, "no such export");
	fakes[0].status = WORKER_FAILED;
	assert_int_equal(step(), -ENOENT);
	assert_int_equal(err.exit_code, X_REFUSED);
	assert_string_equal(err.text, "no such export");
	assert_int_equal(reported, 0);
}

static void first_worker_dies(void **state)
{
	(void)state;
	fakes[0].status = PROCESS_SIGNAL + SIGKILL;
	assert_int_equal(step(), -ECHILD);
	assert_int_equal(err.exit_code, X_FAILURE);
	assert_int_equal(count, 1);
}

/* Right after its swapon: pages may be there, so there is no way back. */
static void first_worker_dies_too_late(void **state)
{
	char table[] = "/tmp/nbd-test-XXXXXX";
	int fd = mkstemp(table);

	(void)state;
	assert_int_equal(dprintf(fd, "Filename\n/dev/null partition 1 1 1\n"),
			 35);
	close(fd);
	swap_table_path = table;
	options.swapon = true;
	memcpy(device.path, "/dev/null", sizeof("/dev/null"));
	fakes[0].status = PROCESS_SIGNAL + SIGKILL;
	assert_int_equal(step(), 1);
	now_ns += SUPERVISOR_RETRY_MS * NS_PER_MS;
	assert_int_equal(step(), 1);
	assert_int_equal(count, 2);
	assert_ptr_equal(fakes[1].main, worker_take_over);
	assert_true(fakes[1].told);
	assert_int_equal(reported, 0);
	become_ready();
	assert_int_equal(reported, 1);
	swap_table_path = "/proc/swaps";
	unlink(table);
}

static void standby_takes_over(void **state)
{
	(void)state;
	begin_with_standby();
	reaped = 0;
	assert_ptr_equal(fakes[1].main, worker_take_over);
	assert_false(fakes[1].told);
	now_ns += NS_PER_MS;
	fakes[0].status = PROCESS_SIGNAL + SIGKILL;
	assert_int_equal(step(), 1);
	assert_true(fakes[1].told);
	assert_int_equal(page.worker_pid, 2);
	assert_int_equal(page.standby_pid, 0);
	assert_int_equal(page.takeovers, 1);
	assert_int_equal(shared.died_ns, now_ns);
	/* The dead one is reaped later: nobody waits for that. */
	assert_int_equal(reaped, 0);
	/* No other one is made before it serves, and only while memory is there. */
	assert_int_equal(step_tick(true), 1);
	assert_int_equal(reaped, 1);
	assert_int_equal(count, 2);
	page.memory_tight = 1;
	become_ready();
	assert_int_equal(step_tick(true), 1);
	assert_int_equal(count, 2);
	page.memory_tight = 0;
	assert_int_equal(step_tick(true), 1);
	assert_int_equal(page.standby_pid, 3);
	assert_int_equal(reported, 1);
}

static void nobody_stands_by(void **state)
{
	(void)state;
	page.memory_tight = 1;
	become_ready();
	assert_int_equal(step_tick(true), 1);
	fakes[0].status = 134; /* an assertion */
	assert_int_equal(step(), 1);
	assert_int_equal(count, 2);
	assert_ptr_equal(fakes[1].main, worker_take_over);
	assert_true(fakes[1].told);
}

static void fork_fails_at_first(void **state)
{
	(void)state;
	page.memory_tight = 1;
	become_ready();
	fakes[0].status = WORKER_FAILED;
	fork_error = ENOMEM;
	assert_int_equal(step(), 1);
	assert_int_equal(page.worker_pid, 0);
	fork_error = 0;
	assert_int_equal(step(), 1);
	assert_int_equal(count, 1); /* not at once */
	now_ns += SUPERVISOR_RETRY_MS * NS_PER_MS;
	assert_int_equal(step(), 1);
	assert_int_equal(page.worker_pid, 2);
	assert_int_equal(page.takeovers, 1);
}

static void takeover_fails_at_first(void **state)
{
	uint64_t died_ns;

	(void)state;
	page.memory_tight = 1;
	become_ready();
	fakes[0].status = PROCESS_SIGNAL + SIGKILL;
	died_ns = ++now_ns;
	assert_int_equal(step(), 1);
	for (int i = 1; i < 5; i++) {
		now_ns += NS_PER_MS;
		fakes[i].status = WORKER_FAILED;
		assert_int_equal(step(), 1);
		assert_int_equal(count, i + 1);
		now_ns += SUPERVISOR_RETRY_MS * NS_PER_MS;
		assert_int_equal(step(), 1);
		assert_int_equal(count, i + 2);
	}
	/* It is one interruption, from the first death on. */
	assert_int_equal(shared.died_ns, died_ns);
	fakes[5].status = WORKER_GIVES_UP;
	assert_int_equal(step(), -ENODEV);
}

static void both_die(void **state)
{
	(void)state;
	begin_with_standby();
	fakes[0].status = PROCESS_SIGNAL + SIGKILL;
	fakes[1].status = PROCESS_SIGNAL + SIGKILL;
	assert_int_equal(step(), 1);
	assert_int_equal(page.worker_pid, 3);
	assert_true(fakes[2].told);
}

static void detached(void **state)
{
	(void)state;
	begin_with_standby();
	stopping = 0;
	page.state = STATS_DETACHING;
	for (int i = 0; i < 100; i++)
		assert_int_equal(step_tick(false),
				 1); /* drains; nobody bites */
	assert_in_range(stopping, 1, 100);
	fakes[0].status = WORKER_DETACHED;
	assert_int_equal(step(), 0);
	assert_false(fakes[1].told);
	assert_int_equal(page.takeovers, 0);
}

static void silence_is_ended(void **state)
{
	(void)state;
	begin_with_standby();
	for (int i = 0; i < 100; i++)
		assert_int_equal(step_tick(true), 1);
	for (int i = 0; i < 19; i++)
		assert_int_equal(step_tick(false), 1);
	assert_int_equal(fakes[0].status, ALIVE);
	assert_int_equal(step_tick(false), 1);
	assert_int_equal(fakes[0].status, PROCESS_SIGNAL + SIGKILL);
	assert_int_equal(page.watchdog_kills, 1);
	assert_int_equal(step(), 1);
	assert_int_equal(page.worker_pid, 2);
	/* The next one gets all the time anew. */
	for (int i = 0; i < 20; i++)
		assert_int_equal(step_tick(false), 1);
	assert_int_equal(fakes[1].status, ALIVE);
}

/* One of several threads is enough. */
static void silence_of_one_is_ended(void **state)
{
	(void)state;
	begin_with_standby();
	page.queues = 2;
	page.more[0].heartbeat_ns = 1;
	for (int i = 0; i < 100 && fakes[0].status == ALIVE; i++)
		assert_int_equal(step_tick(true), 1);
	assert_int_equal(fakes[0].status, PROCESS_SIGNAL + SIGKILL);
	assert_int_equal(page.watchdog_kills, 1);
}

/* Without a data thread it is the control thread's. */
static void heartbeat_of_the_kernels_own_path(void **state)
{
	(void)state;
	options.kernel_path = true;
	begin_with_standby();
	for (int i = 0; i < 100; i++) {
		page.control_heartbeat_ns++;
		assert_int_equal(step_tick(false), 1);
	}
	assert_int_equal(fakes[0].status, ALIVE);
	for (int i = 0; i < 20; i++)
		assert_int_equal(step_tick(true), 1);
	assert_int_equal(fakes[0].status, PROCESS_SIGNAL + SIGKILL);
}

static void machine_stood_still(void **state)
{
	(void)state;
	begin_with_standby();
	for (int i = 0; i < 50; i++) {
		now_ns += 60 * NS_PER_S;
		assert_int_equal(step_tick(false), 1);
		assert_int_equal(step_tick(true), 1);
	}
	assert_int_equal(fakes[0].status, ALIVE);
}

static void watchdog_is_off(void **state)
{
	(void)state;
	options.watchdog_s = 0;
	begin_with_standby();
	for (int i = 0; i < 1000; i++)
		assert_int_equal(step_tick(false), 1);
	assert_int_equal(fakes[0].status, ALIVE);
}

/* Ticks in which the worker lives and requests wait. */
static void step_ticks(int ticks)
{
	while (ticks--)
		assert_int_equal(step_tick(true), 1);
}

static void begin_stuck(void)
{
	begin_with_standby();
	page.data.states[REQUEST_WAITING] = 3;
	page.data.requests[STATS_READ] = 7;
	step_ticks(1); /* the last one that was completed */
}

/* The third process, after the limit; and it ends. */
static void answer_probe(int status)
{
	step_ticks(19);
	assert_int_equal(count, 2);
	step_ticks(1);
	assert_int_equal(count, 3);
	assert_ptr_equal(fakes[2].main, worker_probe);
	step_ticks(100);
	assert_int_equal(count, 3);
	assert_int_equal(fakes[0].status, ALIVE);
	fakes[2].status = status;
	assert_int_equal(step(), 1);
}

static void stuck_one_is_ended(void **state)
{
	(void)state;
	begin_stuck();
	answer_probe(WORKER_ANSWERED);
	step_ticks(19);
	assert_int_equal(fakes[0].status, ALIVE);
	step_ticks(1);
	assert_int_equal(fakes[0].status, PROCESS_SIGNAL + SIGKILL);
	assert_int_equal(page.watchdog_kills, 1);
	assert_int_equal(step(), 1);
	assert_int_equal(page.worker_pid, 2);
	/* The next one gets all the time anew, and another question. */
	become_ready();
	page.memory_tight = 1;
	step_ticks(19);
	assert_int_equal(count, 3);
	step_ticks(1);
	assert_int_equal(count, 4);
	assert_int_equal(fakes[1].status, ALIVE);
}

/* What other queues get done is no comfort to one that gets nothing done. */
static void stuck_queue_is_ended(void **state)
{
	(void)state;
	begin_stuck();
	page.queues = 2;
	page.data.states[REQUEST_WAITING] = 0;
	page.more[0].heartbeat_ns = UINT64_MAX;
	page.more[0].states[REQUEST_WAITING] = 1;
	for (int i = 0; i < 20; i++) {
		page.data.requests[STATS_READ]++;
		step_ticks(1);
	}
	assert_int_equal(count, 3);
	fakes[2].status = WORKER_ANSWERED;
	for (int i = 0; i < 20 && fakes[0].status == ALIVE; i++) {
		page.data.requests[STATS_READ]++;
		step_ticks(1);
	}
	assert_int_equal(fakes[0].status, PROCESS_SIGNAL + SIGKILL);
}

static void server_does_not_answer(void **state)
{
	(void)state;
	begin_stuck();
	answer_probe(WORKER_FAILED);
	for (int i = 3; i < 10; i++) {
		step_ticks(20);
		assert_int_equal(count, i + 1);
		assert_ptr_equal(fakes[i].main, worker_probe);
		fakes[i].status = WORKER_FAILED;
		assert_int_equal(step(), 1);
	}
	assert_int_equal(fakes[0].status, ALIVE);
}

static void slow_is_not_stuck(void **state)
{
	(void)state;
	begin_stuck();
	answer_probe(WORKER_ANSWERED);
	for (int i = 0; i < 10; i++) {
		step_ticks(19);
		page.data.requests[STATS_WRITE]++;
	}
	assert_int_equal(count, 3);
	/* And nothing that waits needs nothing completed. */
	page.data.states[REQUEST_WAITING] = 0;
	step_ticks(1000);
	assert_int_equal(count, 3);
	assert_int_equal(fakes[0].status, ALIVE);
}

/* The program is another one, and a worker of the one before serves. */
static void begin_again(void)
{
	static const struct handover handover = { .worker_pid = 1 };

	memset(fakes, 0, sizeof(fakes));
	count = 0;
	s = (struct supervisor){ .device = &device };
	options.handover = &handover;
	page.state = STATS_LIVE;
	page.memory_tight = 1;
	assert_int_equal(supervisor_start(&s, &err), 0);
}

static void worker_is_replaced(void **state)
{
	(void)state;
	begin_again();
	step_ticks(1);
	assert_int_equal(page.worker_pid, 1);
	assert_int_equal(page.standby_pid, 2); /* however tight memory is */
	assert_ptr_equal(fakes[1].main, worker_take_over);
	step_ticks(100);
	assert_int_equal(fakes[0].status, ALIVE); /* nobody else could serve */
	page.standby_ready = 2;
	assert_int_equal(step(), 1);
	assert_int_equal(fakes[0].status, PROCESS_SIGNAL + SIGKILL);
	assert_int_equal(step(), 1);
	assert_true(fakes[1].told);
	assert_int_equal(page.worker_pid, 2);
	assert_int_equal(shared.died_ns, now_ns);
	assert_int_equal(page.upgrades, 0);
	shared.ready_pid = 2;
	assert_int_equal(step(), 1);
	assert_int_equal(page.upgrades, 1);
	/* From here on it is as ever. */
	step_ticks(100);
	assert_int_equal(page.standby_pid, 0);
	assert_int_equal(page.upgrades, 1);
	assert_int_equal(page.takeovers, 1);
}

static void worker_dies_before_that(void **state)
{
	(void)state;
	begin_again();
	fakes[0].status = PROCESS_SIGNAL + SIGSEGV;
	assert_int_equal(step(), 1);
	assert_int_equal(page.worker_pid, 2);
	assert_true(fakes[1].told);
	shared.ready_pid = 2;
	assert_int_equal(step(), 1);
	assert_int_equal(page.upgrades, 1);
	assert_int_equal(count, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(first_worker_attaches, setup),
		cmocka_unit_test_setup(first_worker_cannot, setup),
		cmocka_unit_test_setup(first_worker_dies, setup),
		cmocka_unit_test_setup(first_worker_dies_too_late, setup),
		cmocka_unit_test_setup(standby_takes_over, setup),
		cmocka_unit_test_setup(nobody_stands_by, setup),
		cmocka_unit_test_setup(fork_fails_at_first, setup),
		cmocka_unit_test_setup(takeover_fails_at_first, setup),
		cmocka_unit_test_setup(both_die, setup),
		cmocka_unit_test_setup(detached, setup),
		cmocka_unit_test_setup(silence_is_ended, setup),
		cmocka_unit_test_setup(silence_of_one_is_ended, setup),
		cmocka_unit_test_setup(heartbeat_of_the_kernels_own_path, setup),
		cmocka_unit_test_setup(machine_stood_still, setup),
		cmocka_unit_test_setup(watchdog_is_off, setup),
		cmocka_unit_test_setup(stuck_one_is_ended, setup),
		cmocka_unit_test_setup(stuck_queue_is_ended, setup),
		cmocka_unit_test_setup(server_does_not_answer, setup),
		cmocka_unit_test_setup(slow_is_not_stuck, setup),
		cmocka_unit_test_setup(worker_is_replaced, setup),
		cmocka_unit_test_setup(worker_dies_before_that, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
