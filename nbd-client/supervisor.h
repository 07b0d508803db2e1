/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The process that survives the one that serves. It has done the steps of attach
 * whose results cannot be had again while memory is short, and then does nothing
 * but wait: for a worker to die, to fall silent or to get nothing done, and for
 * signals.
 *
 *	            fork            fork
 *	supervisor ------> worker   ----> standby
 *	   |                 | serves       | prepared, waits to be told to go
 *	   |<-- its end -----+              |
 *	   +--- go ------------------------>| takes over
 *
 * It never opens what only one process may have: the data ring, /dev/ublkcN.
 */
#ifndef NBD_SUPERVISOR_H
#define NBD_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "nbd-client/device.h"
#include "nbd-client/process.h"
#include "nbd-client/follow.h"
#include "nbd-client/spares.h"

/* A worker is looked at so often; a standby is made at such a look. */
#define SUPERVISOR_TICK_MS 500u

/* Data threads show every HEARTBEAT_MS that they live. */
#define SUPERVISOR_WATCHDOG_S 10u

/* Between attempts to take over that fail. */
#define SUPERVISOR_RETRY_MS 100u

struct supervisor {
	struct device *device;
	struct process worker;
	struct process standby;
	struct process probe;  /* asks the server, see worker_probe() */
	struct errand spares;  /* who makes spare sockets */
	struct follow follow;  /* who looks where the servers are */
	bool ready;            /* the first worker has attached */
	bool replacing; /* the worker runs the program that was here before */
	bool upgraded;  /* its successor is not ready yet */
	uint64_t heartbeat_ns; /* of the worker, at the last tick */
	uint32_t silent_ticks; /* for so many ticks it has not changed */
	struct {
		uint64_t completed;   /* requests, at the last tick */
		uint32_t stuck_ticks; /* some wait, and none was completed */
	} queues[QUEUES_MAX];
	uint32_t stuck_ticks;  /* the longest of these */
	bool answered;         /* the server, since they wait */
	uint64_t tick_ns;      /* of the last tick */
	uint64_t retry_ns;     /* not before then is a process forked */
	void (*on_ready)(const char *device, void *arg);
	void *arg;
};

/*
 * Serves the device, which is held: starts the first worker, and returns when
 * one has detached it, or the first one could not attach. 0, or -errno with *err
 * set. signal_fd: of SIGTERM and the like, which detach the device; another one
 * makes this another program, see handover.h.
 */
int supervisor_run(struct supervisor *s, int signal_fd, struct err *err);

/* One round of it: 1: go on; else as above. For tests. */
int supervisor_start(struct supervisor *s, struct err *err);
int supervisor_step(struct supervisor *s, uint64_t now_ns, struct err *err);

#endif
