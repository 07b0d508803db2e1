/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Descriptors that lie in a queue of the kernel's, one to a message (SCM_RIGHTS,
 * unix(7)), for whichever process is there to take them: they outlive all but
 * the last that has the queue, and each is taken once.
 *
 * There are two queues in a pair of ends: what is put in at one end comes out at
 * the other. Nothing here waits; only putting in asks for memory.
 */
#ifndef NBD_FD_QUEUE_H
#define NBD_FD_QUEUE_H

#include <stdint.h>

/* Both ends are closed on exec. 0 or -errno. */
int fd_queue_open(int ret_ends[2]);

/* A copy of fd. 0 or -errno; -EAGAIN: no room. */
int fd_queue_put(int end, int fd);

/* The first one, closed on exec; -EAGAIN: there is none. */
int fd_queue_take(int end);

/* A copy of the one at this place, from 0, which stays there. Likewise. */
int fd_queue_peek(int end, uint32_t at);

/* How many could be taken at this end. */
uint32_t fd_queue_count(int end);

#endif
