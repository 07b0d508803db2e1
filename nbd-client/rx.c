// SPDX-License-Identifier: GPL-2.0-or-later
/* Replies in; the data thread. */
#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "common/list.h"
#include "nbd-client/rx.h"

static int broken(struct rx *rx, const char *why)
{
	rx->state = RX_BROKEN;
	rx->failure = why;
	rx->request = NULL;
	return -1;
}

static void next_head(struct rx *rx)
{
	rx->state = RX_HEAD;
	rx->head_bytes = 0;
	rx->body_bytes = 0;
	rx->request = NULL;
}

/* The answer is complete. */
static int finish(struct rx *rx)
{
	struct request *r = rx->request;

	if (rx->reply.structured && r->command == NBD_CMD_READ && !r->error &&
	    (r->extents_used != 1 || r->extents[0].start != 0 ||
	     r->extents[0].end != r->length))
		return broken(rx, "a read was answered with less than it asked for");
	next_head(rx);
	rx->ops->on_reply(rx, r);
	return 0;
}

static int chunk_end(struct rx *rx)
{
	if (!rx->reply.structured || (rx->reply.flags & NBD_REPLY_FLAG_DONE))
		return finish(rx);
	next_head(rx);
	return 0;
}

/*
 * Notes [start, end) as arrived. False if some of it had arrived before, or if
 * the pieces have become too many.
 */
static bool cover(struct request *r, uint32_t start, uint32_t end)
{
	struct extent *x = r->extents;
	uint32_t at = 0;
	bool joins_left, joins_right;

	while (at < r->extents_used && x[at].end < start)
		at++;
	joins_left = at < r->extents_used && x[at].end == start;
	if (joins_left)
		at++;
	/* x[at] is the first that ends beyond start: it must begin after us */
	if (at < r->extents_used && x[at].start < end)
		return false;
	joins_right = at < r->extents_used && x[at].start == end;
	if (joins_left && joins_right) {
		x[at - 1].end = x[at].end;
		r->extents_used--;
		memmove(&x[at], &x[at + 1], (r->extents_used - at) * sizeof(*x));
	} else if (joins_left) {
		x[at - 1].end = end;
	} else if (joins_right) {
		x[at].start = start;
	} else {
		if (r->extents_used == COVERAGE_EXTENTS)
			return false;
		memmove(&x[at + 1], &x[at], (r->extents_used - at) * sizeof(*x));
		x[at] = (struct extent){ start, end };
		r->extents_used++;
	}
	return true;
}

/* Where in the slot a chunk's bytes belong; NULL if nowhere. */
static uint8_t *chunk_place(struct request *r, uint64_t offset, uint32_t bytes)
{
	uint64_t start = offset - r->offset;

	if (offset < r->offset || start >= r->length ||
	    bytes > r->length - start)
		return NULL;
	if (!cover(r, (uint32_t)start, (uint32_t)start + bytes))
		return NULL;
	return r->data + start;
}

static int on_simple(struct rx *rx)
{
	struct request *r = rx->request;

	if (rx->structured && r->command == NBD_CMD_READ)
		return broken(rx, "a simple reply to a read, structured replies were agreed");
	/* It must not turn an error that a chunk has told into a success. */
	if (r->error)
		return broken(rx, "a simple reply after chunks of a structured one");
	r->error = proto_error_to_errno(rx->reply.error);
	if (r->error || r->command != NBD_CMD_READ)
		return finish(rx);
	rx->state = RX_DATA;
	rx->place = r->data;
	rx->left = r->length;
	return 0;
}

static int on_chunk(struct rx *rx)
{
	uint16_t type = rx->reply.type;

	if (!rx->structured)
		return broken(rx, "a structured reply that was not agreed on");
	if (proto_check_chunk(&rx->reply, rx->payload_max) < 0)
		return broken(rx, "a chunk of a type or length that cannot be");
	if (proto_chunk_is_error(type)) {
		rx->left = rx->reply.length_bytes;
		rx->state = RX_BODY;
		return 0;
	}
	if (type == NBD_REPLY_TYPE_NONE)
		return chunk_end(rx);
	if (rx->request->command != NBD_CMD_READ ||
	    type == NBD_REPLY_TYPE_BLOCK_STATUS)
		return broken(rx, "a chunk that does not answer its request");
	rx->left = rx->reply.length_bytes;
	rx->state = RX_BODY;
	return 0;
}

static int on_head(struct rx *rx)
{
	rx->request = rx->ops->find(rx, rx->reply.cookie);
	if (!rx->request)
		return broken(rx, "a reply to a request that is not in flight");
	rx->ops->on_progress(rx, rx->request);
	return rx->reply.structured ? on_chunk(rx) : on_simple(rx);
}

/* The fixed part of a chunk's payload; rx->left counts all of the payload. */
static uint32_t body_size(const struct rx *rx)
{
	switch (rx->reply.type) {
	case NBD_REPLY_TYPE_OFFSET_DATA:
		return sizeof(struct nbd_chunk_offset_data);
	case NBD_REPLY_TYPE_OFFSET_HOLE:
		return sizeof(struct nbd_chunk_offset_hole);
	default:
		return sizeof(struct nbd_chunk_error);
	}
}

static int on_error_body(struct rx *rx)
{
	uint16_t message_bytes;
	uint32_t error;

	if (proto_get_chunk_error(&error, &message_bytes, rx->head,
				  rx->reply.type, rx->reply.length_bytes) < 0)
		return broken(rx, "an error chunk that contradicts itself");
	/* Without DONE more may follow, but never an endless row of errors. */
	if (rx->request->error && !(rx->reply.flags & NBD_REPLY_FLAG_DONE) &&
	    ++rx->request->error_chunks > ERROR_CHUNKS_MAX)
		return broken(rx, "a request answered with too many errors");
	if (!rx->request->error)
		rx->request->error = proto_error_to_errno(error);
	rx->state = RX_SKIP;
	return rx->left ? 0 : chunk_end(rx);
}

static int on_body(struct rx *rx)
{
	uint64_t offset;
	uint32_t hole;
	uint8_t *place;

	switch (rx->reply.type) {
	case NBD_REPLY_TYPE_OFFSET_DATA:
		offset = proto_get_chunk_data(rx->head);
		rx->place = chunk_place(rx->request, offset, rx->left);
		if (!rx->place)
			return broken(rx, "data outside of its read, or twice");
		rx->state = RX_DATA;
		return 0;
	case NBD_REPLY_TYPE_OFFSET_HOLE:
		if (proto_get_chunk_hole(&offset, &hole, rx->head) < 0)
			return broken(rx, "an empty hole");
		place = chunk_place(rx->request, offset, hole);
		if (!place)
			return broken(rx, "a hole outside of its read, or twice");
		memset(place, 0, hole);
		return chunk_end(rx);
	default:
		return on_error_body(rx);
	}
}

/* Gathers up to `want` bytes in rx->head; returns how many were taken. */
static size_t gather(struct rx *rx, uint32_t *have, uint32_t want,
		     const uint8_t *from, size_t bytes)
{
	size_t n = want - *have < bytes ? want - *have : bytes;

	memcpy(rx->head + *have, from, n);
	*have += (uint32_t)n;
	return n;
}

static ssize_t take_head(struct rx *rx, const uint8_t *from, size_t bytes)
{
	/* A structured head is longer: that shows once a simple one is full. */
	uint32_t want = rx->head_bytes < sizeof(struct nbd_simple_reply) ?
				sizeof(struct nbd_simple_reply) :
				PROTO_REPLY_HEAD_MAX;
	size_t n = gather(rx, &rx->head_bytes, want, from, bytes);
	int ret = proto_get_reply(&rx->reply, rx->head, rx->head_bytes);

	if (ret < 0)
		return broken(rx, "what came is not a reply");
	if (ret > 0 && on_head(rx) < 0)
		return -1;
	return (ssize_t)n;
}

static ssize_t take_body(struct rx *rx, const uint8_t *from, size_t bytes)
{
	uint32_t want = body_size(rx);
	size_t n = gather(rx, &rx->body_bytes, want, from, bytes);

	rx->left -= (uint32_t)n;
	if (rx->body_bytes == want && on_body(rx) < 0)
		return -1;
	return (ssize_t)n;
}

static ssize_t take_rest(struct rx *rx, const uint8_t *from, size_t bytes)
{
	size_t n = rx->left < bytes ? rx->left : bytes;

	if (rx->state == RX_DATA) {
		memcpy(rx->place, from, n);
		rx->place += n;
	}
	rx->left -= (uint32_t)n;
	if (!rx->left && chunk_end(rx) < 0)
		return -1;
	return (ssize_t)n;
}

static ssize_t take_some(struct rx *rx, const uint8_t *from, size_t bytes)
{
	switch (rx->state) {
	case RX_HEAD:
		return take_head(rx, from, bytes);
	case RX_BODY:
		return take_body(rx, from, bytes);
	case RX_DATA:
	case RX_SKIP:
		return take_rest(rx, from, bytes);
	case RX_BROKEN:
		break;
	}
	return -1;
}

int rx_take(struct rx *rx, const uint8_t *from, size_t bytes)
{
	while (bytes) {
		ssize_t n = take_some(rx, from, bytes);

		if (n < 0)
			return -1;
		from += n;
		bytes -= (size_t)n;
	}
	return 0;
}

size_t rx_place(struct rx *rx, uint8_t **ret_to)
{
	if (rx->state != RX_DATA)
		return 0;
	*ret_to = rx->place;
	return rx->left;
}

int rx_placed(struct rx *rx, size_t bytes)
{
	CHECK(rx->state == RX_DATA && bytes <= rx->left);
	rx->place += bytes;
	rx->left -= (uint32_t)bytes;
	return rx->left ? 0 : chunk_end(rx);
}

void rx_init(struct rx *rx, const struct rx_ops *ops)
{
	*rx = (struct rx){ .ops = ops };
	next_head(rx);
}

void rx_reset(struct rx *rx, bool structured, uint32_t payload_max)
{
	next_head(rx);
	rx->structured = structured;
	rx->payload_max = payload_max;
	rx->failure = NULL;
}
