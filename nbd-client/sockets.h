/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sockets to the server, made before they are needed: the one in use and
 * spares, so that a reconnect makes none. Each has its buffers set, memory
 * reserved in its accounting (SO_RESERVE_MEM) and may have been donated
 * (donor.h). What it got stays with a TCP socket through connect(AF_UNSPEC), so
 * a used one goes back to the rest.
 *
 * That is so unless it was given the kernel's TLS, which nothing takes off it:
 * then it is spent. Connections that are to have that take theirs from a store of
 * further ones, which lies in the kernel (fd_queue.h) for all processes of the
 * device: a connection takes one, and somebody else puts others in, while memory
 * is plentiful (spares.h). When the store is empty, one of those that go back is
 * taken instead. So that a process can see the end of a connection that another
 * one had when it died, what was taken from the store is also noted there.
 *
 * Control thread.
 */
#ifndef NBD_SOCKETS_H
#define NBD_SOCKETS_H

#include <stdbool.h>
#include <stdint.h>

#include "nbd-client/link_tcp.h"

/* For one server: one in use, one whose close is still being waited for. */
#define SOCKETS_COUNT 2u

/* These, and a connection that waits besides; in either family. */
#define SOCKETS_MAX (2u * (SOCKETS_COUNT + 1u))

/* Taken from the store: likewise, one that was closed and one of a probe. */
#define SOCKETS_ONCE_MAX 8u

/* How many the store is to hold, for all connections of a device. */
#define SOCKETS_SPARES 4u

/* As asked for; the kernel doubles the buffers. 0: its own choice. */
struct socket_memory {
	uint32_t send_bytes;
	uint32_t receive_bytes;
	uint32_t reserve_bytes; /* SO_RESERVE_MEM */
};

/* The guarantee that SO_RESERVE_MEM gives. */
#define SOCKETS_ROW "socket memory"

struct sockets {
	struct socket_memory memory;
	uint32_t count; /* of the ready ones */
	struct {
		int fd; /* -1: it was of no use any more */
		int family;
		bool taken;
		bool once; /* out of the store */
	} ready[SOCKETS_MAX + SOCKETS_ONCE_MAX];
	/* The store: spares come out at the first end, notes at the second. */
	int store[2];
	int store_family; /* AF_UNSPEC: there is no store */
	uint32_t spares; /* that it is to hold; 0: they are made when taken */
};

/* No sockets are ready yet; each is made when it is taken. */
void sockets_init(struct sockets *s, const struct socket_memory *memory);

/*
 * Makes so many more ready ones, of this family. AF_UNIX has no use for them:
 * then nothing is made. *ret_reserved: untouched, or -errno of SO_RESERVE_MEM,
 * without which they are good all the same. 0 or -errno.
 */
int sockets_prepare(struct sockets *s, int family, uint32_t count,
		    int *ret_reserved, struct err *err);

/* Whether it is one of the ready ones, to be used again and again. */
bool sockets_is_ready(const struct sockets *s, int fd);

/* For link_dial_start(): one that goes back; or one for a single use, if any. */
struct link_sockets sockets_source(struct sockets *s);
struct link_sockets sockets_source_once(struct sockets *s);

/* ---- those for a single use ---- */

/* Makes the store, empty, for sockets of this family. 0 or -errno. */
int sockets_open_store(struct sockets *s, int family, uint32_t spares);

bool sockets_have_store(const struct sockets *s);

/* What it holds. */
uint32_t sockets_left(const struct sockets *s);

/*
 * One for the store, with all that the ready ones have; the caller donates it,
 * puts it in, and closes its own copy. It, or -errno; -ENOMEM: all TCP sockets of
 * the host may not hold so much (tcp_mem).
 */
int sockets_make_spare(const struct sockets *s);
int sockets_store(const struct sockets *s, int fd);

bool sockets_is_once(const struct sockets *s, int fd);

/*
 * Those that a process may have been using when it died become ready ones of
 * this process. False: not all of them can be seen any more.
 */
bool sockets_inherit(struct sockets *s);

/* A socket that was taken, connected or not, comes back or is closed. */
void sockets_give(struct sockets *s, int fd);

/* Calls f for each ready one; true if all calls were. */
bool sockets_each(const struct sockets *s, bool (*f)(int fd));

/* All ready ones come back, whoever of this host's processes used them. */
void sockets_reset(struct sockets *s);

void sockets_fini(struct sockets *s);

#endif
