/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the supervisor has done by a process of its own, because it may wait for
 * memory or for the network: one at a time, for which nobody waits, and which is
 * given up after a limit.
 *
 * The supervisor.
 */
#ifndef NBD_ERRAND_H
#define NBD_ERRAND_H

#include <stdbool.h>
#include <stdint.h>

#include "nbd-client/process.h"

/* How long one is waited for when the supervisor ends. */
#define ERRAND_END_MS 1000

struct errand {
	struct process process;
	uint64_t due_ns; /* when it is given up, or the next one may start */
};

#define ERRAND_NONE { .process = { .fd = -1, .go_fd = -1 } }

/*
 * Looks after the one under way. True: there is none, and the next one may
 * start, which after a failure is so only when retry_ms have passed.
 */
bool errand_is_due(struct errand *e, uint32_t retry_ms, uint64_t now_ns);

/* main: as for process_start(); 0: well done. */
void errand_start(struct errand *e, int (*main)(void *arg, int go_fd),
		  void *arg, uint32_t limit_ms, uint64_t now_ns);

/* Before the supervisor ends, or becomes another program. True: it was killed. */
bool errand_end(struct errand *e);

/* For that process: ordinary priority, for there is no hurry. */
void errand_be_patient(void);

#endif
