/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The process that serves a device: does a worker's steps of attach, or takes
 * the device over from a worker that has died, and then runs the control
 * thread's loop until the detach. A fork of the supervisor.
 */
#ifndef NBD_WORKER_H
#define NBD_WORKER_H

/* How it ends; anything else is a death, and another takes over. */
enum worker_end {
	WORKER_DETACHED,
	WORKER_FAILED,
	WORKER_GIVES_UP, /* there is no device to take over any more */
};

/* How worker_probe() ends if the server has answered. */
#define WORKER_ANSWERED 0

/* For process_start(), with the held struct device. */
int worker_attach(void *device, int go_fd);
int worker_take_over(void *device, int go_fd);

/* Likewise: not a worker, but asks for the supervisor what probe.h says. */
int worker_probe(void *device, int go_fd);

#endif
