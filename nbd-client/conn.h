/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connection of a device to its server, as the control thread sees it: to
 * make it, to hand it to the engine, to notice that it is lost, to make it
 * again, for ever if need be. A machine of states and events that never waits:
 * its table is in conn.c. The addresses were resolved at attach, so reconnecting
 * asks no name server; all that it needs lies in struct conn.
 *
 * Control thread.
 */
#ifndef NBD_CONN_H
#define NBD_CONN_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/err.h"
#include "include/ctl.h"
#include "include/export.h"
#include "nbd-client/endpoint.h"
#include "nbd-client/handshake.h"
#include "nbd-client/link_talk.h"
#include "nbd-client/link_tcp.h"
#include "nbd-client/link_tls.h"
#include "nbd-client/records.h"

/*
 * First and longest pause between two attempts, from the begin of one to that of
 * the next. A machine stands still until its swap is back: the longest is short.
 * It is the first again as soon as a link has been of any use.
 */
#define CONN_BACKOFF_MIN_MS 100u
#define CONN_BACKOFF_MAX_MS 1000u

/*
 * A request for a connection that is lost is repeated by the kernel after 1, 2, 4,
 * 8 seconds and so on (since Linux 6.5 each second at first); when an attempt to
 * reconnect takes that long, a new one is sooner there.
 */
#define CONN_DIAL_MS 5000u

/*
 * A link that lasted so long was a good one: its loss is answered at once. One
 * that breaks earlier, negotiated or not, or on which no request was ever
 * answered, is not tried again without a pause.
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

/* What status shows; see there. */
enum conn_state {
	CONN_DOWN = STATS_LINK_DOWN, /* an attempt is due at next_attempt_ns */
	CONN_CONNECTING = STATS_LINK_CONNECTING,
	CONN_NEGOTIATING = STATS_LINK_NEGOTIATING,
	CONN_TLS = STATS_LINK_TLS,
	CONN_READY = STATS_LINK_READY,
	CONN_UP = STATS_LINK_UP,
	CONN_LOST = STATS_LINK_LOST,
	CONN_FENCE = STATS_LINK_FENCE,
	CONN_STATES = STATS_LINK_STATES,
};

enum conn_event {
	CONN_EV_START,	   /* an attempt is to be made now */
	CONN_EV_STEP,	   /* its socket is ready, or its time has come */
	CONN_EV_CONNECTED, /* on the way up: */
	CONN_EV_TLS_ASKED,
	CONN_EV_TLS_DONE,
	CONN_EV_PROBED,	   /* all that a probe wanted to know */
	CONN_EV_AGREED,
	CONN_EV_FAILED,	   /* err says why */
	CONN_EV_TAKEN,	   /* by the engine */
	CONN_EV_LOST,	   /* the engine has given it up */
	CONN_EV_CLOSE,	   /* nobody uses it any more */
	CONN_EV_INHERIT,   /* there was one, of a process that has died */
	CONN_EV_ENDED,	   /* the old one has, or was waited for long enough */
	CONN_EV_MOVED,	   /* one that is ready: here, or from here */
	CONN_EVENTS,
	CONN_EV_NONE = CONN_EVENTS,
};

struct conn {
	enum conn_state state;
	int fd; /* from NEGOTIATING on; -1 before */
	struct endpoints *ends; /* own, or those of another connection */
	struct endpoints own;
	uint32_t at;	/* the one that is connected, or is tried next */
	uint32_t tried; /* the last attempt was made there */
	uint32_t round; /* so many are tried one after another; then a pause */
	uint32_t left;	/* of these */
	bool move_on;	/* not to the same one again when this one has ended */
	int family;	/* of the address that answered last */
	uint32_t handshake_ms;
	uint32_t request_timeout_ms; /* for link_set_patience() */
	uint32_t backoff_ms;
	uint64_t attempt_ns; /* when the last one began */
	uint64_t next_attempt_ns;
	uint64_t down_since_ns;
	uint64_t up_since_ns;
	/* Set by the owner before conn_shutdown(): */
	bool mute;     /* it has asked on it, and had no answer */
	bool answered; /* it has had one */
	uint64_t attempts; /* since there was one; 0 from READY to FENCE */

	/* The attempt that is being made, or was made last. */
	enum handshake_goal goal;
	struct link_dial dial;
	struct link_talk talk;
	int failed; /* -errno; 0: it has not */
	struct err err;

	/* The end of the old connection. */
	uint32_t fence_ms;
	uint64_t fence_end_ns;
	uint64_t fence_poll_ns; /* when to look next whether it has ended */
	bool fence_blind;  /* it cannot be seen any more whether it ended */
	bool cut;	   /* its sends and receives were made to end */
	uint64_t unfenced; /* times that no proof has come */

	bool known; /* `export` is what the server said first, but for its size */
	uint32_t known_at; /* the server that served it last */
	struct export_info export;
	struct handshake handshake; /* large, hence here and not on the stack */
	struct link_tls link_tls;   /* likewise */
	/* Of the connection in READY, UP and LOST: */
	enum stats_records records;
	struct link_tls_peer peer; /* with records of either kind */
	struct tls_half seal;	   /* STATS_RECORDS_USER; the engine's when UP */
	struct tls_half open;
	char why_user[96];	   /* STATS_RECORDS_USER: and not the kernel's */
	const char *no_ktls; /* why the kernel makes no records; NULL: it may */
	/* What the kernel has loaded for it: 1 << enum tls_cipher; or NULL. */
	uint32_t *ktls_ciphers;
	bool may_load; /* more than that may be loaded now */
	bool for_kernel; /* its nbd driver uses the connections, not an engine */
	bool simple_replies; /* structured ones are not asked for */

	/* Told of each change of state, unless NULL; must not cause another. */
	void (*on_change)(struct conn *c, enum conn_state was);
};

/* Resolves the address; memory: of its sockets. 0 or -errno. */
int conn_init(struct conn *c, const struct addr *addr,
	      const struct socket_memory *memory, uint32_t handshake_ms,
	      struct err *err);

/* Another server for the same, which comes after those that are there. */
int conn_add(struct conn *c, const struct addr *addr, struct err *err);

/*
 * For an export that was agreed on before, with all that is known of it: by which
 * server, and an address of what family.
 */
void conn_init_known(struct conn *c, const struct endpoints *ends,
		     const struct export_info *export, uint32_t at, int family,
		     uint32_t handshake_ms);

/* A second connection to the same servers, which must not be closed before. */
void conn_init_beside(struct conn *c, struct conn *first);

void conn_fini(struct conn *c);

/*
 * One more with sockets of its own to the only server, after conn_probe() of the
 * first: it goes to the address that has answered, as from now on the first does,
 * because what one server says of several connections may not hold for two.
 */
void conn_init_another(struct conn *c, struct conn *first);

/*
 * Before the first connection: whether structured replies are worth their price,
 * which is a part or two more for each read: so many more system calls for a
 * server, and buffers on a UNIX socket. They tell holes instead of sending them; but
 * swap has none, and through a UNIX socket nothing is sent far. The kernel's
 * nbd driver knows only simple ones.
 */
void conn_choose_replies(struct conn *c, bool swap);

/* Before the first connection: with TLS as configured. NULL: without. */
void conn_set_tls(struct conn *c, struct tls *tls);

/*
 * The same for a process that serves a device: also gets OpenSSL's memory, reads
 * the files, and decides who makes the records, if TLS is wanted. tls, one for
 * each server, are to be closed after conn_fini().
 */
int conn_init_tls(struct conn *c, struct tls tls[],
		  const struct tls_options *options, struct err *err);

/* ---- waiting, for those who have nothing else to do ---- */

/*
 * Asks what the export is, on a connection of its own that ends politely, and
 * fills in c->export. 0 or -errno.
 */
int conn_probe(struct conn *c, struct err *err);

/*
 * DOWN to READY: connects and negotiates. The server must offer the export that
 * c->export tells of, if that is known, else X_REFUSED. 0 or -errno; then it is
 * DOWN again, and the next attempt is scheduled.
 */
int conn_open(struct conn *c, struct err *err);

/* ---- not waiting ---- */

/* What to wait for until conn_due_ms(); nothing if fd is -1. */
void conn_pollfd(const struct conn *c, struct pollfd *ret);

/* Milliseconds until conn_step() is due; -1: not without an event. */
int conn_due_ms(const struct conn *c, uint64_t now_ns);

/*
 * Goes on with whatever is to be done, an attempt that is due included. Look
 * whether the state is READY afterwards.
 */
void conn_step(struct conn *c);

/* DOWN: does not wait for the next attempt to be due. */
void conn_hurry(struct conn *c);

/* The server that is there, or is tried next; its name for people. */
static inline const struct endpoint *conn_end(const struct conn *c)
{
	return &c->ends->list[c->at];
}

const char *conn_where(const struct conn *c);

/*
 * `c` is DOWN and `from`, which is beside it, READY: c gets its connection, if
 * that serves what is to be served. False: from is closed instead.
 */
bool conn_move(struct conn *c, struct conn *from);

/*
 * READY: readies the record layer for this connection. Returns r, or NULL if
 * the connection does not need one of ours; r may then be NULL, too.
 */
struct records *conn_start_records(struct conn *c, struct records *r);

/* READY to UP: the engine is going to use c->fd. */
void conn_take(struct conn *c);

/*
 * READY or UP to LOST: the server is told that nothing more will come; it ends
 * the connection when it has done with what came, and with that the engine's
 * operations. error: what the connection was lost by, 0: its end. Returns what
 * the kernel's TLS has to say of it, a literal; or NULL.
 */
const char *conn_shutdown(struct conn *c, int error);

/*
 * Nobody uses the socket any more: READY, UP and LOST go to FENCE, or DOWN if
 * the end has been seen; an attempt is given up.
 */
void conn_close(struct conn *c);

/*
 * DOWN: the connections of a process that has died, which had the same sockets:
 * to FENCE, or DOWN if there were none.
 */
void conn_inherit(struct conn *c);

/* DOWN to UP: fd, one of the ready ones, is connected, and is being used. */
void conn_adopt(struct conn *c, int fd);

/* For the above, and for tests: the one way into the table. */
void conn_dispatch(struct conn *c, enum conn_event event);

#endif
