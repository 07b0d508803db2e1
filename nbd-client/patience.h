/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Patience with a server that owes an answer. When it has owed one for too long
 * it is asked again, on a connection of its own: for the block that the request
 * was about if that reads, else for a flush. An answer to that proves that the
 * server and its store work and that the old connection does not, and only then
 * is that one to be replaced. Without an answer there is nothing better to go to,
 * and to send everything again would do harm: a server that is only slow would
 * work on each write twice, and the older one could come last.
 *
 * Uses the connection's addresses, and its spare socket. Control thread.
 */
#ifndef NBD_PATIENCE_H
#define NBD_PATIENCE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "nbd-client/conn.h"
#include "nbd-client/engine.h"

/* Replaced again and again, a connection gets so many times the patience. */
#define PATIENCE_FACTOR_MAX 16u

enum patience_stage {
	PATIENCE_REST, /* no probe is under way */
	PATIENCE_DIAL,
	PATIENCE_TALK,
	PATIENCE_ASK,
};

struct patience {
	struct conn *conn;
	uint64_t limit_ns; /* 0: without end */
	uint32_t factor;   /* times that, since it was replaced of late */
	uint64_t replaced_ns;
	uint64_t next_ns;  /* when to probe again */
	int queued_bytes;  /* of ours that the peer's host has not taken */
	uint64_t moved_ns; /* when they became fewer */
	uint64_t probes;
	uint64_t replaced;

	/* The probe. */
	enum patience_stage stage;
	uint64_t end_ns;
	int fd;
	struct link_dial dial;
	struct link_talk talk;
	struct handshake handshake;
	struct link_tls link_tls;
	uint8_t out[2 * sizeof(struct nbd_request)];
	size_t out_bytes; /* that have left */
	uint8_t in[PROTO_REPLY_HEAD_MAX];
	size_t in_bytes;
	struct err err; /* why there was no answer */
};

/* timeout_ms: what a server may take for an answer; 0: any time. */
void patience_init(struct patience *p, struct conn *conn, uint32_t timeout_ms);

/*
 * Now and then while the connection is UP: begins to probe when it is time to,
 * stops when an answer has come. True as long as patience is at an end.
 */
bool patience_look(struct patience *p, const struct engine_owed *owed);

/* The connection is not UP any more, or is about to be closed. */
void patience_end(struct patience *p);

/* What to wait for until patience_due_ms(), as with a connection. */
void patience_pollfd(const struct patience *p, struct pollfd *ret);
int patience_due_ms(const struct patience *p, uint64_t now_ns);

/*
 * Goes on with a probe. 0: answered, the connection is to be replaced; -EAGAIN:
 * not yet; else there was no answer, and p->err says why.
 */
int patience_step(struct patience *p);

#endif
