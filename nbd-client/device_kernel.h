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

/* READY to UP: the driver has q->conn.fd. */
void device_kernel_taken(struct queue *q);

/* READY: offers q->conn.fd in place of a link that is dead. 0 or -errno. */
int device_kernel_link_up(struct queue *q);

/*
 * DOWN: what a worker that died has left: to UP where the driver's socket is one
 * of those that all workers have.
 */
void device_kernel_inherit(struct queue *q);

/* UP: what to wait for; untouched in other states. */
void device_kernel_pollfd(const struct queue *q, struct pollfd *ret);

/* UP: poll(2) has seen these; ignored in other states. */
void device_kernel_on_link(struct queue *q, short events);

/* UP: the server is told that nothing more will come; it ends the link. */
void device_kernel_drop(struct queue *q);

/* Once a second: offers again what was not taken; counts requests. */
void device_kernel_tick(struct queue *q);

#endif
