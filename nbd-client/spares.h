/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fills the stores of sockets that a device's connections with the kernel's TLS
 * use up (sockets.h). Each is donated (donor.h) as those were that go back, for
 * which a free nbd device is needed, and the driver's and netlink's memory: all of
 * that can wait for memory, and so for the very device that needs the socket.
 * Hence only attach does this itself; later it is done by a process of its own,
 * for which nobody waits.
 */
#ifndef NBD_SPARES_H
#define NBD_SPARES_H

#include <stdint.h>

#include "nbd-client/device.h"
#include "nbd-client/errand.h"

/* That process is given up after so long; and how long before the next one. */
#define SPARES_LIMIT_MS 10000u
#define SPARES_RETRY_MS 10000u

/* Attach, once the sockets that go back are there: makes the stores, fills them. */
int spares_up(struct device *d, struct err *err);

/* The supervisor, now and then: never waits. */
void spares_step(struct errand *e, struct device *d, uint64_t now_ns);

/* Before it ends, or becomes another program. */
void spares_end(struct errand *e, struct device *d);

/* That process, for process_start(): 0, or 1 if they could not be had. */
int spares_make(void *device, int go_fd);

#endif
