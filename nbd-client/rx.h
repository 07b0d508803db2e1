/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reply parser: bytes from the server become completed requests. It resumes
 * at any byte, never waits, and believes nothing: what breaks the protocol ends
 * the connection with a reason (doc/proto.md, "Simple reply message",
 * "Structured reply types"). A payload lands in its request's slot, copied from
 * a receive buffer or received in place.
 *
 * Data thread.
 */
#ifndef NBD_RX_H
#define NBD_RX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/proto.h"
#include "include/request.h"

struct rx;

struct rx_ops {
	/* The request in flight with this cookie, not yet answered; or NULL. */
	struct request *(*find)(struct rx *rx, uint64_t cookie);
	/* Something of its answer has come. */
	void (*on_progress)(struct rx *rx, struct request *r);
	/* Its answer is complete; r->error is set. */
	void (*on_reply)(struct rx *rx, struct request *r);
};

enum rx_state {
	RX_HEAD,  /* of a reply or chunk */
	RX_BODY,  /* fixed part of a chunk's payload */
	RX_DATA,  /* payload on its way to the slot */
	RX_SKIP,  /* payload that nobody wants: an error's text */
	RX_BROKEN,
};

struct rx {
	const struct rx_ops *ops;
	bool structured;       /* negotiated on this connection */
	uint32_t payload_max;  /* bytes of payload a chunk may carry */
	enum rx_state state;
	uint8_t head[PROTO_REPLY_HEAD_MAX];
	uint32_t head_bytes; /* how much of it has come */
	uint32_t body_bytes; /* RX_BODY: how much it has */
	struct proto_reply reply;
	struct request *request; /* that the reply answers; NULL in RX_HEAD */
	uint8_t *place;          /* RX_DATA: where the next byte goes */
	uint32_t left;           /* RX_DATA, RX_SKIP: bytes to come */
	const char *failure;     /* RX_BROKEN: why; a literal */
};

void rx_init(struct rx *rx, const struct rx_ops *ops);

/* A new connection: forget what had come on the old one. */
void rx_reset(struct rx *rx, bool structured, uint32_t payload_max);

/* Takes all of it: 0; or -1 and rx->failure says why the link must go. */
int rx_take(struct rx *rx, const uint8_t *from, size_t bytes);

/* How many of the next bytes go straight to *ret_to; 0: none. */
size_t rx_place(struct rx *rx, uint8_t **ret_to);

/* `bytes` of those have been put there by somebody else. As rx_take(). */
int rx_placed(struct rx *rx, size_t bytes);

#endif
