/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's own path: the negotiated socket, its encryption included, is the
 * nbd driver's, which sends requests and takes replies by itself. There is no
 * engine then; what is left to do is to see that a link has ended, and to bring the
 * driver another one.
 *
 * The driver goes on with it while no process of ours lives.
 *
 * Control thread.
 */
#ifndef NBD_DEVICE_KERNEL_H
#define NBD_DEVICE_KERNEL_H

#include <poll.h>

#include "nbd-client/device.h"

/* READY to UP: the driver has d->conn.fd. */
void device_kernel_taken(struct device *d);

/* READY: offers d->conn.fd in place of a link that is dead. 0 or -errno. */
int device_kernel_link_up(struct device *d);

/*
 * DOWN: what a worker that died has left: to UP where the driver's socket is one
 * of those that all workers have.
 */
void device_kernel_inherit(struct device *d);

/* UP: what to wait for; untouched in other states. */
void device_kernel_pollfd(const struct device *d, struct pollfd *ret);

/* UP: poll(2) has seen these. */
void device_kernel_on_link(struct device *d, short events);

/* Once a second: offers again what was not taken; counts requests. */
void device_kernel_tick(struct device *d);

#endif
