/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Waiting for a socket, for all kinds of links. Control thread.
 */
#ifndef NBD_LINK_IO_H
#define NBD_LINK_IO_H

#include <stdbool.h>
#include <stdint.h>

/* On the monotonic clock. */
uint64_t link_deadline(int timeout_ms);

/* Rounded up, so that a wait never ends before its deadline. */
int link_left_ms(uint64_t deadline_ns);

/* 0 when one of `events` or an error is there, -ETIMEDOUT, or -errno. */
int link_wait(int fd, short events, uint64_t deadline_ns);

/* A peer that resets says no more than one that closes. */
bool link_is_gone(int error);

#endif
