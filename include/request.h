/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One request from the kernel, from the moment a front takes a slot for it to
 * the moment its answer has left for the kernel. Requests exist once per slot,
 * in the pinned region, and are never allocated.
 */
#ifndef NBD_REQUEST_H
#define NBD_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "include/bounds.h"

/* Changed by request_set_state() in engine.c alone, which keeps the counts. */
enum request_state {
	REQUEST_FREE,      /* the slot is in the pool */
	REQUEST_NEW,       /* a front is still filling it in */
	REQUEST_PUT_OFF,   /* failed by the server; will be asked again later */
	REQUEST_PARKED,    /* complete, waits to be admitted to the link */
	REQUEST_SENDING,   /* admitted; some of it has not left for the server */
	REQUEST_WAITING,   /* sent; nothing of the answer has come */
	REQUEST_RECEIVING, /* some of the answer has come */
	REQUEST_DONE,      /* answered; the front still needs the slot */
	REQUEST_STATES,
};

/* A message on its way out: a header of ours, then a payload not copied. */
struct tx_item {
	struct list node;
	const uint8_t *payload;
	uint32_t header_bytes;
	uint32_t payload_bytes;
	uint8_t header[32];
};

/* Bytes [start, end) of a read's payload that have arrived. */
struct extent {
	uint32_t start;
	uint32_t end;
};

struct request {
	struct list node; /* engine: parked queue or in-flight queue */
	enum request_state state;
	uint32_t index; /* of the slot; low half of the NBD cookie */

	/*
	 * Counts up each time the request, or a piece of it, is sent; high half
	 * of the NBD cookie. A reply to an earlier sending does not match.
	 */
	uint32_t generation;

	/* As the front asked. */
	uint16_t command; /* NBD_CMD_* */
	uint16_t flags;   /* NBD_CMD_FLAG_* */
	uint64_t offset;  /* bytes */
	uint32_t length;  /* bytes; <= slot size for READ and WRITE */
	uint64_t front_tag;
	uint64_t born_ns;
	uint64_t sent_ns;      /* when it was last given to the link */
	uint64_t overtaken_ns; /* when one was answered that was sent later; or 0 */
	uint8_t *data; /* slot size bytes in the pinned region */

	/*
	 * TRIM and WRITE_ZEROES go out in pieces, one after another:
	 * [offset + piece_start, + piece_bytes) is on its way.
	 */
	uint32_t piece_start;
	uint32_t piece_bytes;

	uint64_t failed_ns; /* when the server failed it first; 0: it has not */
	uint64_t retry_ns;  /* PUT_OFF: until then */
	uint32_t pause_ms;  /* before that */

	int error; /* errno for the front; 0 as long as all is well */

	/*
	 * A read's payload so far: disjoint, in order, not touching each other;
	 * extents_used <= COVERAGE_EXTENTS.
	 */
	struct extent extents[COVERAGE_EXTENTS];
	uint32_t extents_used;
	uint32_t error_chunks; /* <= ERROR_CHUNKS_MAX */

	bool replied; /* the answer is complete, maybe before our send is */
	bool charged; /* to the reservation groups; by the throttle alone */

	struct tx_item out;  /* to the server */
	struct tx_item back; /* to the kernel, by fronts that answer on a stream */
};

static inline uint64_t request_cookie(const struct request *r)
{
	return (uint64_t)r->generation << 32 | r->index;
}

#endif
