/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The negotiation (handshake.h) over a connected socket, inside TLS or not.
 *
 * Owns no socket. Control thread, and the command line.
 */
#ifndef NBD_LINK_TALK_H
#define NBD_LINK_TALK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "nbd-client/handshake.h"
#include "nbd-client/link_tls.h"

/* How long a server may take to answer a farewell that nobody needs. */
#define LINK_LEAVE_TIMEOUT_MS 1000

/* All steps together may take so many times what one may. */
#define LINK_TALK_STEPS_MAX 3

struct link_talk {
	int fd;
	struct handshake *hs;
	struct link_tls *tls; /* NULL: none is spoken */
	int timeout_ms;
	unsigned int step; /* that is being waited for */
	bool interrupted;  /* there may be more to do */
	uint64_t step_end_ns;
	uint64_t end_ns; /* of all of them */
};

/*
 * hs and tls, initialised, are the caller's, as is the socket; so are the keys
 * in tls when it is over. timeout_ms is for each step of the negotiation.
 */
void link_talk_start(struct link_talk *t, int fd, struct handshake *hs,
		     struct link_tls *tls, int timeout_ms);

/*
 * As far as it goes without waiting. 0: hs is HANDSHAKE_DONE and the server has
 * sent nothing beyond; -EAGAIN: to be called again when link_talk_events() are
 * there, or link_talk_due_ns() has come; otherwise what hs->err says.
 */
int link_talk_step(struct link_talk *t, struct err *err);

short link_talk_events(const struct link_talk *t);
uint64_t link_talk_due_ns(const struct link_talk *t);

/*
 * From beginning to end, waiting: 0 or -errno. Without tls a negotiation that
 * wants TLS fails.
 */
int link_negotiate(int fd, struct handshake *hs, struct link_tls *tls,
		   int timeout_ms, struct err *err);

#endif
