/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connection of a device to its server, as the control thread sees it: to
 * make it, to hand it to the engine, to notice that it is lost, to make it
 * again, for ever if need be. The addresses were resolved at attach, so
 * reconnecting asks no name server.
 *
 * Control thread.
 */
#ifndef NBD_CONN_H
#define NBD_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/err.h"
#include "include/ctl.h"
#include "include/export.h"
#include "nbd-client/handshake.h"
#include "nbd-client/link_tcp.h"
#include "nbd-client/link_tls.h"
#include "nbd-client/records.h"
#include "nbd-client/sockets.h"

/* First and longest pause between two attempts. */
#define CONN_BACKOFF_MIN_MS 100u
#define CONN_BACKOFF_MAX_MS 5000u

/*
 * A link that lasted so long was a good one: its loss is answered at once. One
 * that breaks earlier, negotiated or not, is not tried again without a pause.
 */
#define CONN_GOOD_MS 5000u

/*
 * How long to wait for the proof that the server has done with an old connection
 * and will not carry out a write of it any more: its end of file. A write that
 * is sent again could else be overtaken by its first sending, which would then
 * destroy what has been written to that place since.
 */
#define CONN_FENCE_MS 2000u
#define CONN_FENCE_POLL_MS 5u

enum conn_state {
	CONN_DOWN,  /* no socket; an attempt is due at next_attempt_ns */
	CONN_READY, /* negotiated, not yet with the engine */
	CONN_UP,    /* the engine uses it */
	CONN_LOST,  /* we send no more; the engine still holds operations */
	CONN_FENCE, /* nobody uses it; the server may still work on it */
};

struct conn {
	enum conn_state state;
	int fd; /* -1 in CONN_DOWN */
	struct link_addrs addrs;
	const struct addr *addr;
	struct sockets sockets;
	int family; /* of the address that answered last */
	uint32_t handshake_ms;
	uint32_t backoff_ms;
	uint64_t next_attempt_ns;
	uint64_t down_since_ns;
	uint64_t up_since_ns;
	uint32_t fence_ms;
	uint64_t fence_end_ns; /* of the wait for the end of the old connection */
	bool fence_blind;      /* it cannot be seen any more whether it ended */
	uint64_t unfenced;     /* times that no proof has come */
	bool known; /* `export` is what the server said first */
	struct export_info export;
	struct handshake handshake; /* large, hence here and not on the stack */
	struct link_tls link_tls;   /* likewise */
	struct tls *tls;	    /* NULL: none is spoken */
	/* Of the connection in READY, UP and LOST: */
	enum stats_records records;
	struct link_tls_peer peer; /* with records of either kind */
	struct tls_half seal;	   /* STATS_RECORDS_OURS; the engine's when UP */
	struct tls_half open;
	bool no_ktls; /* the kernel has failed at it */
};

/* Resolves the address; memory: of its sockets. 0 or -errno. */
int conn_init(struct conn *c, const struct addr *addr,
	      const struct socket_memory *memory, uint32_t handshake_ms,
	      struct err *err);
void conn_fini(struct conn *c);

/* Before the first connection: with TLS as configured. NULL: without. */
void conn_set_tls(struct conn *c, struct tls *tls);

/*
 * The same for a process that serves a device: also gets OpenSSL's memory and
 * reads the files, if TLS is wanted. *tls is to be closed after conn_fini().
 */
int conn_init_tls(struct conn *c, struct tls *tls,
		  const struct tls_options *options, struct err *err);

/*
 * Asks what the export is, on a connection of its own that ends politely, and
 * fills in c->export. 0 or -errno.
 */
int conn_probe(struct conn *c, struct err *err);

/*
 * DOWN to READY: connects and negotiates; blocks for at most a few times
 * handshake_ms. The server must offer the export that c->export tells of, if
 * that is known, else X_REFUSED. 0 or -errno; then it is still DOWN, and the
 * next attempt is scheduled.
 */
int conn_open(struct conn *c, struct err *err);

/*
 * READY: readies the record layer for this connection. Returns r, or NULL if
 * the connection does not need one of ours; r may then be NULL, too.
 */
struct records *conn_start_records(struct conn *c, struct records *r);

/*
 * READY or UP to LOST: the server is told that nothing more will come; it ends
 * the connection when it has done with what came, and with that the engine's
 * operations. error: what the connection was lost by, 0: its end.
 */
void conn_shutdown(struct conn *c, int error);

/* READY, or LOST and idle: to FENCE, or DOWN if the end has been seen. */
void conn_close(struct conn *c);

/*
 * The connections of a process that has died, which had the same sockets: to
 * FENCE, or DOWN if there were none.
 */
void conn_inherit(struct conn *c);

/* When conn_due_ms() says so, in LOST and FENCE: goes on with it. */
void conn_step(struct conn *c, uint64_t now_ns);

/* Milliseconds until an attempt, or conn_step(), is due; -1: none is. */
int conn_due_ms(const struct conn *c, uint64_t now_ns);

#endif
