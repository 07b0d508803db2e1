/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sockets without waiting, and waiting for them, for all kinds of links: every
 * system call on the way to a connection is here, so that a test can put a
 * network of its own in its place.
 *
 * Results are those of the system calls, with -errno for failure. Control
 * thread.
 */
#ifndef NBD_LINK_IO_H
#define NBD_LINK_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* On the monotonic clock. */
uint64_t link_deadline(int timeout_ms);

/* Rounded up, so that a wait never ends before its deadline. */
int link_left_ms(uint64_t deadline_ns);

/* 0 when one of `events` or an error is there, -ETIMEDOUT, or -errno. */
int link_wait(int fd, short events, uint64_t deadline_ns);

/* A peer that resets says no more than one that closes. */
bool link_is_gone(int error);

/* SOCK_STREAM, close-on-exec, blocking. */
int link_socket(int family);
void link_close(int fd);

/* 0; -EINPROGRESS; or why not. From here on the socket does not block. */
int link_begin_connect(int fd, const struct sockaddr_storage *sa,
		       socklen_t bytes);

/* After -EINPROGRESS: 0 once connected, -EINPROGRESS, or why it failed. */
int link_connect_result(int fd);

/*
 * Connected: makes it what the data thread needs, without Nagle's delay and
 * blocking, because io_uring does not wait on one that says it must not. A
 * connection to itself is -ECONNREFUSED.
 */
int link_end_connect(int fd);

/*
 * Of a connection that is idle the peer's host is asked four times in timeout_ms,
 * which is an hour at most. It is given up when that does not answer, or does not
 * take what we sent, for six times as long; 0: when it does not answer for 40 s.
 */
void link_set_patience(int fd, uint32_t timeout_ms);

/* Back to the state of a socket that was never connected (AF_UNSPEC). */
int link_disconnect(int fd);

ssize_t link_send(int fd, const void *from, size_t bytes);
ssize_t link_receive(int fd, void *to, size_t bytes);
ssize_t link_peek(int fd, void *to, size_t bytes);
void link_shutdown(int fd, int how);
int link_family(int fd);

/* Bytes sent that the peer's host has not yet taken. */
int link_queued(int fd);

/*
 * True if the peer's host was sent something again and again and has acknowledged
 * nothing for so long. It may still be there, with a network that is gone.
 */
bool link_is_unreachable(int fd, uint32_t ms);

#endif
