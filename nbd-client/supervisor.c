// SPDX-License-Identifier: GPL-2.0-or-later
/* Waits for a worker's death and hands over. A process of its own. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "nbd-client/handover.h"
#include "nbd-client/host.h"
#include "nbd-client/notify.h"
#include "nbd-client/supervisor.h"
#include "nbd-client/swap.h"
#include "nbd-client/worker.h"

static void show(const struct supervisor *s)
{
	s->device->page->worker_pid = s->worker.pid;
	s->device->page->standby_pid = s->standby.pid;
}

static void forget_stuck(struct supervisor *s)
{
	s->stuck_ticks = 0;
	for (uint32_t i = 0; i < QUEUES_MAX; i++)
		s->queues[i].stuck_ticks = 0;
}

static void expect_work(struct supervisor *s)
{
	s->heartbeat_ns = 0;
	s->silent_ticks = 0;
	s->answered = false;
	forget_stuck(s);
}

/* ---- handing over ---- */

static void take_over(struct supervisor *s, uint64_t now_ns)
{
	struct device *d = s->device;
	int ret = 0;

	if (s->standby.pid > 0) {
		s->worker = s->standby;
		s->standby = (struct process){ .fd = -1, .go_fd = -1 };
	} else {
		ret = process_start(&s->worker, worker_take_over, d);
	}
	if (ret < 0) {
		log_say(LOG_LEVEL_ERR, "%s: cannot fork: %s", d->path,
			strerror(-ret));
		s->retry_ns = now_ns + SUPERVISOR_RETRY_MS * NS_PER_MS;
		return;
	}
	process_go(&s->worker);
	expect_work(s);
}

/* It died after its last step, and before it could say so. */
static bool has_pages(const struct device *d)
{
	bool active;

	return d->options->swapon && swap_is_active(d->path, &active) == 0 &&
	       active;
}

/* 1: another one takes over; else supervisor_run()'s result. */
static int on_worker_end(struct supervisor *s, int status, uint64_t now_ns,
			 struct err *err)
{
	struct device *d = s->device;

	if (status == WORKER_DETACHED)
		return 0;
	if (!s->ready && !has_pages(d)) {
		*err = d->shared->err;
		if (!err->exit_code)
			err_set(err, X_FAILURE, ECHILD,
				"the worker process ended with status %d before the "
				"device was there; see the system's log",
				status);
		return -err->error;
	}
	if (status == WORKER_GIVES_UP)
		return err_set(err, X_FAILURE, ENODEV, "%s is gone", d->path);
	if (s->replacing)
		log_say(LOG_LEVEL_NOTICE, "%s: upgrading the worker process",
			d->path);
	else
		log_say(LOG_LEVEL_ERR, "%s: the worker process has died: %s %d",
			d->path, status > PROCESS_SIGNAL ? "signal" : "status",
			status > PROCESS_SIGNAL ? status - PROCESS_SIGNAL :
						  status);
	s->replacing = false;
	d->page->takeovers++;
	/* The interruption goes on until somebody serves again. */
	if (d->shared->ready_pid) {
		d->shared->died_ns = now_ns;
		s->retry_ns = 0;
	} else {
		s->retry_ns = now_ns + SUPERVISOR_RETRY_MS * NS_PER_MS;
	}
	d->shared->ready_pid = 0;
	return 1;
}

static void check_ready(struct supervisor *s)
{
	if (s->worker.pid <= 0 ||
	    s->device->shared->ready_pid != s->worker.pid)
		return;
	if (s->upgraded && !s->replacing) {
		s->upgraded = false;
		s->device->page->upgrades++;
	}
	if (s->ready)
		return;
	s->ready = true;
	device_unlock(s->device);
	s->device->report_fd = -1; /* it is closed there */
	s->on_ready(s->device->path, s->arg);
}

/* ---- now and then ---- */

/* Whether requests wait for the server, as far as the worker knows. */
static bool requests_wait(const struct stats_data *data)
{
	return data->states[REQUEST_PARKED] || data->states[REQUEST_SENDING] ||
	       data->states[REQUEST_WAITING] || data->states[REQUEST_RECEIVING];
}

static void count_stuck(struct supervisor *s, uint32_t queue)
{
	const struct stats_data *data = stats_queue(s->device->page, queue);
	uint32_t *ticks = &s->queues[queue].stuck_ticks;
	/* An error that is not passed on is an answer, too. */
	uint64_t completed = data->retried_total;

	for (int i = 0; i < STATS_OPS; i++)
		completed += data->requests[i];
	++*ticks;
	if (s->queues[queue].completed != completed || !requests_wait(data))
		*ticks = 0;
	s->queues[queue].completed = completed;
	if (*ticks > s->stuck_ticks)
		s->stuck_ticks = *ticks;
}

/*
 * In ticks and not in time: one that could not run itself, because the whole
 * machine stood still, has nothing to say about others.
 */
static void count_ticks(struct supervisor *s)
{
	const struct stats_page *page = s->device->page;
	uint64_t heartbeat_ns = s->device->options->kernel_path ?
					page->control_heartbeat_ns :
					stats_heartbeat_ns(page);

	s->silent_ticks++;
	if (s->heartbeat_ns != heartbeat_ns)
		s->silent_ticks = 0;
	s->heartbeat_ns = heartbeat_ns;
	s->stuck_ticks = 0;
	for (uint32_t i = 0; i < stats_queues(page); i++)
		count_stuck(s, i);
	if (!s->stuck_ticks)
		s->answered = false;
}

static void end_stuck(struct supervisor *s, const char *what)
{
	log_say(LOG_LEVEL_ERR, "%s: the worker process has %s for %u s: killed",
		s->device->path, what, s->device->options->watchdog_s);
	s->device->page->watchdog_kills++;
	expect_work(s);
	process_kill(&s->worker);
}

/*
 * A worker that gets nothing done is to blame only if the server does answer,
 * and then has as long again: to make a lost link anew, for one thing.
 */
static void watch(struct supervisor *s)
{
	uint32_t limit_ticks =
		s->device->options->watchdog_s * 1000 / SUPERVISOR_TICK_MS;

	count_ticks(s);
	if (!limit_ticks || s->worker.pid <= 0 ||
	    s->device->page->state != STATS_LIVE)
		return;
	if (s->silent_ticks >= limit_ticks)
		end_stuck(s, "shown no sign of life");
	else if (s->stuck_ticks < limit_ticks)
		;
	else if (s->answered)
		end_stuck(s, "completed no request, though the server answers,");
	else if (s->probe.pid <= 0)
		(void)process_start(&s->probe, worker_probe, s->device);
}

static void check_probe(struct supervisor *s)
{
	int status;

	if (!process_ended(&s->probe, &status))
		return;
	s->answered = status == WORKER_ANSWERED;
	forget_stuck(s);
}

/* To fork is to ask for memory, so while there is plenty, unless it must be. */
static void tick(struct supervisor *s, uint64_t now_ns)
{
	const struct stats_page *page = s->device->page;

	s->tick_ns = now_ns;
	process_reap();
	host_follow_root();
	notify_step(page, now_ns);
	watch(s);
	spares_step(&s->spares, s->device, now_ns);
	follow_step(&s->follow, s->device, now_ns);
	if (s->standby.pid > 0 || s->worker.pid <= 0 ||
	    (page->memory_tight && !s->replacing) ||
	    page->state != STATS_LIVE || !s->device->shared->ready_pid)
		return;
	(void)process_start(&s->standby, worker_take_over, s->device);
}

/* A worker of the program that was here before goes once another is prepared. */
static void replace(struct supervisor *s)
{
	if (s->replacing && s->standby.pid > 0 &&
	    s->device->page->standby_ready == s->standby.pid)
		process_kill(&s->worker);
}

/* It serves, and is to go on until it is replaced. */
static int adopt_worker(struct supervisor *s, struct err *err)
{
	int ret = process_adopt(&s->worker,
				s->device->options->handover->worker_pid);

	if (ret < 0)
		return err_set(err, X_FAILURE, -ret,
			       "cannot watch the worker process: %s",
			       strerror(-ret));
	s->ready = true;
	s->replacing = true;
	s->upgraded = true;
	s->device->shared->ready_pid = s->worker.pid;
	return 0;
}

int supervisor_start(struct supervisor *s, struct err *err)
{
	int ret;

	s->worker = (struct process){ .fd = -1, .go_fd = -1 };
	s->standby = s->worker;
	s->probe = s->worker;
	s->spares.process = s->worker;
	s->follow.errand.process = s->worker;
	s->device->page->supervised = 1;
	if (s->device->options->handover)
		return adopt_worker(s, err);
	ret = process_start(&s->worker,
			    s->device->options->recover ? worker_take_over :
							  worker_attach,
			    s->device);
	if (ret < 0)
		return err_set(err, X_FAILURE, -ret, "cannot fork: %s",
			       strerror(-ret));
	process_go(&s->worker);
	show(s);
	return 0;
}

int supervisor_step(struct supervisor *s, uint64_t now_ns, struct err *err)
{
	int status, ret;

	check_ready(s);
	check_probe(s);
	if (s->device->page->state == STATS_DETACHING)
		notify_stopping();
	if (process_ended(&s->standby, &status))
		log_say(LOG_LEVEL_WARNING, "%s: the standby process has died",
			s->device->path);
	if (process_ended(&s->worker, &status)) {
		ret = on_worker_end(s, status, now_ns, err);
		if (ret <= 0)
			return ret;
	}
	if (s->worker.pid <= 0 && now_ns >= s->retry_ns)
		take_over(s, now_ns);
	if (s->ready && now_ns - s->tick_ns >= SUPERVISOR_TICK_MS * NS_PER_MS)
		tick(s, now_ns);
	replace(s);
	show(s);
	return 1;
}

/* ---- the process ---- */

/*
 * Asked to end: do what an administrator would, in a process of its own,
 * because swapoff can take minutes in which workers must be looked after.
 */
static void spawn_detach(struct device *d)
{
	char *argv[] = { (char *)"nbd-client", (char *)"detach", d->path,
			 NULL };
	/* A service manager would not listen to it, and complain. */
	char *no_environment[] = { NULL };
	posix_spawnattr_t attr;
	sigset_t none;
	pid_t pid;
	int ret;

	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	ret = posix_spawn(&pid, "/proc/self/exe", NULL, &attr, argv,
			  no_environment);
	posix_spawnattr_destroy(&attr);
	if (ret)
		log_say(LOG_LEVEL_ERR, "%s: cannot start detach: %s", d->path,
			strerror(ret));
}

/* All of its processes but the one that serves. */
static void stop_others(struct supervisor *s)
{
	process_stop(&s->standby);
	process_stop(&s->probe);
	spares_end(&s->spares, s->device);
	(void)errand_end(&s->follow.errand);
}

/* What this process holds it holds on, but its memory is gone: see handover.h. */
static void upgrade(struct supervisor *s, pid_t asker)
{
	static struct handover h; /* large */
	struct device *d = s->device;
	int ret = -EAGAIN;

	if (s->ready && s->worker.pid > 0 && d->page->state == STATS_LIVE &&
	    d->shared->ready_pid == s->worker.pid) {
		stop_others(s);
		device_hand_over(d, &h);
		h.worker_pid = s->worker.pid;
		ret = handover_exec(&h, asker, d->options->argc,
				    d->options->argv);
	}
	log_say(LOG_LEVEL_ERR,
		"%s: cannot become the program of process %d: %s", d->path,
		asker, strerror(-ret));
	d->page->upgrades_refused++;
}

static void on_signal(struct supervisor *s, int signal_fd)
{
	struct device *d = s->device;
	struct signalfd_siginfo info;

	while (read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (handover_is_asked(&info))
			upgrade(s, (pid_t)info.ssi_pid);
		if (info.ssi_signo != SIGTERM && info.ssi_signo != SIGINT)
			continue;
		log_say(LOG_LEVEL_NOTICE, "%s: signal %u: detaching", d->path,
			info.ssi_signo);
		notify_stopping();
		spawn_detach(d);
	}
}

/* How long to sleep if nothing happens; until ready that is not told otherwise. */
static int pause_ms(const struct supervisor *s)
{
	return s->ready && s->worker.pid > 0 ? (int)SUPERVISOR_TICK_MS : 20;
}

int supervisor_run(struct supervisor *s, int signal_fd, struct err *err)
{
	int ret = supervisor_start(s, err);

	if (ret < 0)
		return ret;
	do {
		struct pollfd fds[] = {
			{ .fd = s->worker.fd, .events = POLLIN },
			{ .fd = s->standby.fd, .events = POLLIN },
			{ .fd = signal_fd, .events = POLLIN },
		};

		poll(fds, 3, pause_ms(s));
		if (fds[2].revents)
			on_signal(s, signal_fd);
		ret = supervisor_step(s, clock_now_ns(), err);
	} while (ret > 0);
	stop_others(s);
	show(s);
	return ret;
}
