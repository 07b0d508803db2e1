/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Admission: before a request is sent, room is set aside for all that it will
 * move: its slot, its transmit bytes, and the reply that we are owed. The oldest
 * parked request is asked first, only reads may pass it, and a window holds at
 * least one of the largest, so there is always progress. What is not admitted
 * stays parked in its slot, and with the slots full the rest stays in the
 * kernel's block queue.
 *
 * Two windows. The open one is as large as the buffers allow: transmit bytes <=
 * SO_SNDBUF, so that a send never waits for buffer memory that only a reply could
 * free; receive bytes <= our receive ring and SO_RCVBUF, so that every reply owed
 * to us has a place to land. (Of a plain disk the kernel sizes the buffers as it
 * goes; there the window is a matter of throughput only.) The guaranteed one is
 * what the reserve alone can carry. When memory is low the window is closed to
 * that at once, and all that is admitted is charged to the reservation groups;
 * afterwards it opens by what is answered.
 *
 * Data thread.
 */
#ifndef NBD_THROTTLE_H
#define NBD_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/group.h"
#include "include/request.h"

struct throttle_window {
	uint64_t tx_bytes; /* of requests admitted and not yet answered */
	uint64_t rx_bytes; /* of replies owed to us */
};

/* What one request of a whole slot takes of either window, heads included. */
#define THROTTLE_HEAD_BYTES 64u

/*
 * The groups of a process, parents first. What else holds memory of a device
 * gets a leaf here and its limit in throttle_init().
 */
enum throttle_group {
	GROUP_HOST,
	GROUP_NET,
	GROUP_DEVICE,
	GROUP_SLOTS,
	GROUP_TX,
	GROUP_RX,
	GROUPS,
};

struct throttle {
	struct throttle_window open;
	struct throttle_window guaranteed;
	struct throttle_window max;  /* now; guaranteed <= max <= open */
	struct throttle_window used; /* <= open; <= max when admitted */
	uint64_t slot_bytes;
	uint32_t admitted;
	bool low;
	uint64_t closings; /* how often memory became low */
	struct group *groups; /* [GROUPS] */
};

/* slots_guaranteed: how many slots the reserve has. */
void throttle_init(struct throttle *t, const struct throttle_window *open,
		   const struct throttle_window *guaranteed,
		   uint32_t slot_bytes, uint32_t slots_guaranteed,
		   struct group groups[GROUPS]);

/*
 * Charges the request and says true, or charges nothing and says false; never
 * false when nothing else is admitted.
 */
bool throttle_admit(struct throttle *t, struct request *r);

/* Taken back after a lost link. */
void throttle_release(struct throttle *t, struct request *r);

/* Answered: releases, and opens the window by as much unless memory is low. */
void throttle_answered(struct throttle *t, struct request *r);

/*
 * Memory is low: closes the window. Every admitted request is to be given to
 * throttle_adopt() then, which charges it to the groups.
 */
void throttle_close(struct throttle *t);
void throttle_adopt(struct throttle *t, struct request *r);

/* Memory is no longer low. */
void throttle_reopen(struct throttle *t);

#endif
