/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sending side of a byte stream. Messages queue as struct tx_item and leave
 * in order, many to one sendmsg, headers and payloads from where they lie. One
 * sendmsg is in the kernel at a time; a short one goes on where it stopped, with
 * one that waits for room. With records of ours between, what leaves is a sealed
 * copy, and an item is sent when all of the copy that holds its end is.
 *
 * Data thread.
 */
#ifndef NBD_TX_H
#define NBD_TX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/ring.h"
#include "include/bounds.h"
#include "include/request.h"
#include "nbd-client/records.h"

struct tx {
	struct ring *ring;
	enum ring_file file;
	struct ring_op op;
	struct list queue; /* of tx_item; the first ones are in the kernel */
	size_t first_sent; /* bytes of the first item that have left */
	size_t started;    /* bytes of the sendmsg in the kernel */
	bool full;         /* the socket's buffer was: the next one waits */
	bool no_waitall;   /* the kernel's TLS does not take it, and has said so */
	bool open;
	struct records *records; /* NULL: sent as it is */
	struct msghdr message;
	struct iovec iovecs[TX_IOVECS];
	/* All of the item has left; it is the caller's again. */
	void (*on_sent)(struct tx *tx, struct tx_item *item);
	/* The stream is broken; closed already, the queue kept. */
	void (*on_error)(struct tx *tx, int error);
	uint64_t *sends; /* counter in the status page */
};

void tx_init(struct tx *tx, struct ring *ring, enum ring_file file,
	     void (*on_sent)(struct tx *, struct tx_item *),
	     void (*on_error)(struct tx *, int), uint64_t *sends);

/* records: started for this connection; or NULL. */
void tx_open(struct tx *tx, struct records *records);

/* Nothing more is started; what is in the kernel ends: until then tx_busy(). */
void tx_close(struct tx *tx);

/* The item, its header filled in, belongs to tx until on_sent. */
void tx_push(struct tx *tx, struct tx_item *item);

/* Starts to send what has gathered, once per round of the engine. */
void tx_step(struct tx *tx);

/* Closed and not busy: empties the queue without on_sent. */
void tx_reset(struct tx *tx);

static inline bool tx_busy(const struct tx *tx)
{
	return tx->op.pending;
}

#endif
