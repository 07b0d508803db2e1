/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A second connection of a device: to another of its servers, negotiated and
 * idle, so that a failover takes neither a connect nor a handshake. It is made
 * only while memory is plentiful. By it a device also goes to a server that is
 * preferred, or asked for: the link that is there is given up only when the
 * other is ready.
 *
 * Control thread. The owner of the active connection takes it, drops it and
 * closes it, but leaves it to standby_step() to make it anew.
 */
#ifndef NBD_STANDBY_H
#define NBD_STANDBY_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "nbd-client/conn.h"

/* A preferred server that is back must have been there for so long. */
#define STANDBY_FAILBACK_S_DEFAULT 30u

/* What has become of a command. */
enum standby_outcome {
	STANDBY_NONE, /* there is none, or it is not done yet */
	STANDBY_DONE,
	STANDBY_FAILED, /* err says why; the device goes on as it can */
};

struct standby {
	struct conn conn;
	struct conn *active;
	uint32_t failback_ms; /* 0: back to the preferred one by command only */
	bool plentiful;	      /* by the owner: memory, for what can wait */
	bool leave; /* by the owner: any other that is ready is better */
	bool dropping;	      /* the owner has been told, and is at it */

	/* A command: */
	bool asked;
	uint32_t wanted; /* the server to go to, may be the one in use */
	bool dialled;	 /* by the active connection, which was down */
	uint64_t asked_ns;
	struct err err;
};

/* active has been through conn_init() and has all its servers. */
void standby_init(struct standby *s, struct conn *active,
		  uint32_t failback_ms);
void standby_fini(struct standby *s);

/* Goes on with both; look whether the active one is READY afterwards. */
void standby_step(struct standby *s);

/* As conn_pollfd() and conn_due_ms(), for the second connection. */
void standby_pollfd(const struct standby *s, struct pollfd *ret);
int standby_due_ms(const struct standby *s, uint64_t now_ns);

/*
 * Why the active link is to be given up in favour of another, once; NULL: it is
 * not.
 */
const char *standby_wants_drop(struct standby *s, uint64_t now_ns);

/* Make the active link anew, now, to this server. One command at a time. */
void standby_ask(struct standby *s, uint32_t at);

/* Tells how a command ended, once. */
enum standby_outcome standby_outcome(struct standby *s);

#endif
