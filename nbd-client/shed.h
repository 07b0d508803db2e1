/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Traffic shedding: while memory is low, packets that have nothing to do with
 * the device are dropped where they come in, before they take memory in the
 * queues of sockets that nobody gets to read.
 *
 * A BPF program at the ingress of the interfaces drops until a deadline that
 * lies in a page shared with this process. So switching it on is one store, and
 * a process that died or hangs sheds no longer than SHED_HOLD_NS.
 *
 * Control thread; shed_drop_stale() also the command line.
 */
#ifndef NBD_SHED_H
#define NBD_SHED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "include/ctl.h"
#include "nbd-client/endpoint.h"
#include "nbd-client/shed_prog.h"

#define SHED_ROW "traffic shedding"

/* Twice the control thread's tick: one that comes late makes no gap. */
#define SHED_HOLD_NS (2ull * 1000 * 1000 * 1000)

struct shed {
	struct shed_values *values; /* NULL: off, and all calls do nothing */
	bool holding;
	bool outdated; /* never held again */
};

/*
 * Puts the program of "nbd0" on the interfaces, switched off, with the ports of
 * the user. Whatever dead daemons have left is removed first. The row is set
 * either way. 0, or -errno with a cause and a remedy; then nothing is left.
 */
int shed_open(struct shed *s, const char *device,
	      const struct endpoints *servers, const uint16_t *ports,
	      uint32_t port_count,
	      struct stats_guarantee rows[STATS_GUARANTEES], struct err *err);
void shed_close(struct shed *s, const char *device);

/* A plain store, no system call. Repeat it while memory is low. */
void shed_hold(struct shed *s, uint64_t now_ns);
void shed_release(struct shed *s);

/*
 * The servers have other addresses than those that the program lets pass: it
 * stays where it is, but never sheds any more.
 */
void shed_outdate(struct shed *s);

/* Removes what dead daemons have left, at all interfaces. 0 or -errno. */
int shed_drop_stale(void);

#endif
