/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much of everything: each figure is derived here from what the user asked
 * and what the server allows, as a sum that a reader can add up.
 *
 * Pure. Control thread and tests.
 */
#ifndef NBD_SIZING_H
#define NBD_SIZING_H

#include <stddef.h>
#include <stdint.h>

#include "include/export.h"
#include "nbd-client/conn.h"
#include "nbd-client/daemon.h"
#include "nbd-client/engine.h"
#include "nbd-client/front_nbd.h"
#include "nbd-client/front_ublk.h"
#include "nbd-client/host.h"
#include "nbd-client/host_strangers.h"

/*
 * Slots, their size and the windows. With o->reserve_bytes, as many slots as fit
 * into it with all else that is pinned; never fewer than SLOTS_MIN. None, and no
 * windows, where no engine runs (o->kernel_path).
 */
struct engine_config sizing_config(const struct attach_options *o,
				   const struct export_info *x);

/* How many queues a device has whose server has these flags (NBD_FLAG_*). */
uint32_t sizing_queues(const struct attach_options *o, uint32_t export_flags);

/* Of a front's struct, whichever it is. */
#define DEVICE_FRONT_BYTES                                                     \
	(sizeof(union {                                                        \
		struct front_nbd nbd;                                          \
		struct front_ublk ublk;                                        \
	}))

/* A queue's pinned region; the memory of the base slots is not in it. */
size_t sizing_pinned_bytes(const struct engine_config *c);

/*
 * The same with all of the base, of all queues: what requests and all they need may
 * lock.
 */
uint64_t sizing_request_bytes(const struct engine_config *c);

/* One holder of memory: what it is, and its bytes at the worst moment. */
struct sizing_line {
	char holder[64];
	uint64_t bytes;
};
#define SIZING_LINES_MAX 16u

/*
 * The sums as lines, for people: the pinned region, what the process locks with
 * that, and what the kernel may hold on its behalf. Return how many.
 */
size_t sizing_pinned_lines(const struct engine_config *c,
			   struct sizing_line ret_lines[SIZING_LINES_MAX]);
size_t sizing_process_lines(const struct engine_config *c,
			    struct sizing_line ret_lines[SIZING_LINES_MAX]);
size_t sizing_kernel_lines(const struct attach_options *o, uint32_t queues,
			   const struct host_strangers *strangers,
			   struct sizing_line ret_lines[SIZING_LINES_MAX]);

/* All that the process needs to stay in memory, libraries included. */
uint64_t sizing_footprint_bytes(const struct engine_config *c);

/* Of each socket to the server. */
struct socket_memory sizing_socket_memory(const struct attach_options *o);

/* SO_SNDBUF of either end of the socketpair, likewise. */
uint32_t sizing_pair_bytes(const struct attach_options *o);

/* What the kernel may hold for us at the worst moment. */
struct host_needs sizing_needs(const struct attach_options *o,
			       uint32_t queues);

#endif
