/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Patience with a server that owes an answer. When it has owed one for too long
 * it is probed, with something like what it owes. An answer to that proves that
 * the server and its store work and that the old connection does not, and only
 * then is that one to be replaced. Without an answer there is nothing better to
 * go to, and to send everything again would do harm: a server that is only slow
 * would work on each write twice, and the older one could come last. But if its
 * host does not even acknowledge what it is sent, TCP would wait longer and longer
 * before it tries again, and so miss when the host is back.
 *
 * Control thread.
 */
#ifndef NBD_PATIENCE_H
#define NBD_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "nbd-client/engine.h"
#include "nbd-client/probe.h"

/* Replaced again and again, a connection gets so many times the patience. */
#define PATIENCE_FACTOR_MAX 16u

struct patience {
	uint64_t limit_ns; /* 0: without end */
	uint32_t factor;   /* times that, since it was replaced of late */
	uint64_t replaced_ns;
	uint64_t next_ns;  /* when to probe again */
	uint64_t proved_ns; /* since when a probe has had its answer; 0: not */
	int queued_bytes;  /* of ours that the peer's host has not taken */
	uint64_t moved_ns; /* when they became fewer */
	uint64_t probes;
	uint64_t replaced;
	struct probe probe;
};

/* timeout_ms: what a server may take for an answer; 0: any time. */
void patience_init(struct patience *p, struct conn *conn, uint32_t timeout_ms);

enum patience_verdict {
	PATIENCE_KEPT,
	PATIENCE_LOST,	  /* nobody knows yet whose fault it is */
	PATIENCE_REPLACE, /* the connection's: to be told once */
	PATIENCE_GONE,	  /* the server's host is not to be reached: likewise */
};

/*
 * Now and then while the connection is UP: begins to probe when it is time to,
 * stops when an answer has come.
 */
enum patience_verdict patience_look(struct patience *p,
				    const struct engine_owed *owed);

/* The connection is not UP any more, or is about to be closed. */
void patience_end(struct patience *p);

/*
 * Goes on with its probe, which says what to wait for. -EAGAIN: not yet, or it has
 * been answered; else there was no answer, and p->probe.err says why.
 */
int patience_step(struct patience *p);

#endif
