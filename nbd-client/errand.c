// SPDX-License-Identifier: GPL-2.0-or-later
/* What a process of its own does for the supervisor. See errand.h. */
#include <poll.h>
#include <sched.h>

#include "common/clock.h"
#include "nbd-client/errand.h"

/* One that hangs is given up again and again; no other is started beside it. */
bool errand_is_due(struct errand *e, uint32_t retry_ms, uint64_t now_ns)
{
	int status;

	if (process_ended(&e->process, &status))
		e->due_ns = status ? now_ns + retry_ms * NS_PER_MS : 0;
	if (now_ns < e->due_ns)
		return false;
	if (e->process.pid > 0)
		process_kill(&e->process);
	return e->process.pid <= 0;
}

void errand_start(struct errand *e, int (*main)(void *arg, int go_fd),
		  void *arg, uint32_t limit_ms, uint64_t now_ns)
{
	(void)process_start(&e->process, main, arg);
	e->due_ns = now_ns + limit_ms * NS_PER_MS;
}

bool errand_end(struct errand *e)
{
	struct pollfd fd = { .fd = e->process.fd, .events = POLLIN };
	bool killed = false;
	int status;

	if (e->process.pid > 0 && poll(&fd, 1, ERRAND_END_MS) == 0) {
		process_kill(&e->process);
		(void)poll(&fd, 1, ERRAND_END_MS);
		killed = true;
	}
	(void)process_ended(&e->process, &status);
	return killed;
}

void errand_be_patient(void)
{
	const struct sched_param ordinary = { 0 };

	(void)sched_setscheduler(0, SCHED_OTHER, &ordinary);
}
