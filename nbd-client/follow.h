/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the servers of a device are now: addresses behind their names, and the
 * neighbour entries on the way (neighbours.h). A reconnect must not ask, so it is
 * asked ahead of need: from time to time, while memory is plentiful, by a process
 * that may wait for the resolver; more often while the link is down, for then the
 * server may have gone elsewhere. Permanent entries are let go of then: its address
 * may have been taken over by another host.
 */
#ifndef NBD_FOLLOW_H
#define NBD_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "nbd-client/device.h"
#include "nbd-client/errand.h"

/* How often, with the link and without. */
#define FOLLOW_UP_MS 60000u
#define FOLLOW_DOWN_MS 10000u

/* Longer than a resolver takes with two name servers that do not answer. */
#define FOLLOW_LIMIT_MS 60000u

struct follow {
	struct errand errand;
	bool was_up;
	uint64_t next_ns;
};

/* Attach, once the link is there: the first neighbour entries. */
int follow_up(struct device *d, struct err *err);

/* The supervisor, now and then: never waits. */
void follow_step(struct follow *f, struct device *d, uint64_t now_ns);

/* That process, for process_start(). */
int follow_look(void *device, int go_fd);

/* What it has found is used from now on: by each process of the device. */
void follow_take(struct device *d);

#endif
