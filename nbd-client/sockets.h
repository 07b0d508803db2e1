/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sockets to the server, made before they are needed: the one in use and
 * spares, so that a reconnect makes none. Each has its buffers set, memory
 * reserved in its accounting (SO_RESERVE_MEM) and may have been donated
 * (donor.h). What it got stays with a TCP socket through connect(AF_UNSPEC), so
 * a used one goes back to the rest.
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
	} ready[SOCKETS_MAX];
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

/* For link_dial_start(). */
struct link_sockets sockets_source(struct sockets *s);

/* A socket that was taken, connected or not, comes back or is closed. */
void sockets_give(struct sockets *s, int fd);

/* Calls f for each ready one; true if all calls were. */
bool sockets_each(const struct sockets *s, bool (*f)(int fd));

/* All ready ones come back, whoever of this host's processes used them. */
void sockets_reset(struct sockets *s);

void sockets_fini(struct sockets *s);

#endif
