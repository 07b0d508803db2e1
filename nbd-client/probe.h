/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a server still carries out requests: asked on a connection of its own.
 * A server that negotiates may have a disk that hangs, so it is asked for
 * something: for the block that a request waits for, or for a flush, if what
 * waits is no read. Any answer to that will do.
 *
 * Control thread.
 */
#ifndef NBD_PROBE_H
#define NBD_PROBE_H

#include <poll.h>

#include "nbd-client/conn.h"

enum probe_stage {
	PROBE_REST, /* none is under way */
	PROBE_DIAL,
	PROBE_TALK,
	PROBE_ASK,
};

struct probe {
	struct conn *conn; /* whose addresses, keys and sockets it uses */
	enum probe_stage stage;
	uint32_t timeout_ms; /* for all of it */
	uint64_t end_ns;
	int fd;
	struct link_dial dial;
	struct link_talk talk;
	struct handshake handshake;
	struct link_tls link_tls;
	uint8_t out[sizeof(struct nbd_request)];
	size_t out_bytes; /* that have left */
	uint8_t in[PROTO_REPLY_HEAD_MAX];
	size_t in_bytes;
	struct err err; /* why there was no answer */
};

/* c: knows the export. At rest. */
void probe_init(struct probe *p, struct conn *c);

/* read: for a block at offset; else for a flush, if the server has that. */
void probe_start(struct probe *p, bool read, uint64_t offset,
		 uint32_t timeout_ms);

/*
 * Goes on with it. 0: the server has answered; -EAGAIN: not yet, or there is no
 * probe; else it has not, and p->err says why. It is at rest then.
 */
int probe_step(struct probe *p);

/* To rest. */
void probe_end(struct probe *p);

/* What to wait for until probe_due_ms(), as with a connection. */
void probe_pollfd(const struct probe *p, struct pollfd *ret);
int probe_due_ms(const struct probe *p, uint64_t now_ns);

/*
 * All of that, by a process that has time to wait: for the first block, and for
 * two times c->handshake_ms at most. The ready sockets of c are not used, they
 * may be another process's. 0 or -errno.
 */
int probe_server(struct conn *c, struct err *err);

#endif
