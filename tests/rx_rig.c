// SPDX-License-Identifier: GPL-2.0-or-later
/* The parser's surroundings; see rx_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/rx_rig.h"

#define FIXED(number) .index = number, .generation = GENERATION(number)

const struct request templates[REQUESTS] = {
	[READ_A] = { FIXED(READ_A), .command = NBD_CMD_READ,
		     .offset = 4096, .length = READ_BYTES },
	[READ_B] = { FIXED(READ_B), .command = NBD_CMD_READ,
		     .offset = 1ull << 40, .length = READ_BYTES },
	[WRITE] = { FIXED(WRITE), .command = NBD_CMD_WRITE,
		    .offset = 512, .length = 512 },
	[FLUSH] = { FIXED(FLUSH), .command = NBD_CMD_FLUSH },
	[READ_LOW] = { FIXED(READ_LOW), .command = NBD_CMD_READ,
		       .offset = 0, .length = READ_BYTES },
};

struct rx rx;
struct request requests[REQUESTS];
static uint8_t *slots[REQUESTS]; /* of exactly READ_BYTES: ASan watches */
bool in_flight[REQUESTS];
struct outcome got;
struct reply_bytes stream;

/* ---- around the parser ---- */

static struct request *find(struct rx *at, uint64_t cookie)
{
	uint32_t index = (uint32_t)cookie;

	assert_ptr_equal(at, &rx);
	if (index >= REQUESTS || !in_flight[index] ||
	    request_cookie(&requests[index]) != cookie)
		return NULL;
	return &requests[index];
}

static void on_progress(struct rx *at, struct request *r)
{
	assert_ptr_equal(at, &rx);
	assert_true(in_flight[r->index]);
}

static void on_reply(struct rx *at, struct request *r)
{
	assert_ptr_equal(at, &rx);
	assert_true(in_flight[r->index]);
	assert_true(got.replies_count < REPLIES_MAX);
	in_flight[r->index] = false;
	got.replies[got.replies_count++] =
		(struct reply){ r->index, r->error };
}

static const struct rx_ops ops = {
	.find = find, .on_progress = on_progress, .on_reply = on_reply,
};

int rx_rig_set_up(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < REQUESTS; i++)
		slots[i] = malloc(READ_BYTES);
	return 0;
}

int rx_rig_tear_down(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < REQUESTS; i++)
		free(slots[i]);
	return 0;
}

void rx_rig_fresh(bool structured)
{
	memcpy(requests, templates, sizeof(requests));
	for (uint32_t i = 0; i < REQUESTS; i++) {
		in_flight[i] = true;
		requests[i].data = slots[i];
		memset(slots[i], UNTOUCHED, READ_BYTES);
	}
	memset(&got, 0, sizeof(got));
	rx_init(&rx, &ops);
	rx_reset(&rx, structured, PAYLOAD_MAX);
}

static void note_outcome(void)
{
	got.failure = rx.failure;
	for (uint32_t i = 0; i < REQUESTS; i++)
		memcpy(got.data[i], slots[i], READ_BYTES);
}

/* Parts of at most `step` bytes, the first one of `first`. */
int rx_rig_feed(size_t first, size_t step)
{
	size_t at = 0, n = first;

	while (at < stream.used) {
		uint8_t *part;
		int ret;

		if (n > stream.used - at)
			n = stream.used - at;
		/* A copy, so that ASan sees a byte too many. */
		part = malloc(n ? n : 1);
		memcpy(part, stream.data + at, n);
		ret = rx_take(&rx, part, n);
		free(part);
		if (ret < 0)
			return ret;
		at += n;
		n = step;
	}
	return 0;
}

/* As stream.c does it, with payloads put in place in parts of `step` bytes. */
static int feed_in_place(size_t step)
{
	for (size_t at = 0; at < stream.used;) {
		uint8_t *to;
		size_t n = rx_place(&rx, &to);
		int ret;

		if (n > step)
			n = step;
		if (n > stream.used - at)
			n = stream.used - at;
		if (n) {
			memcpy(to, stream.data + at, n);
			ret = rx_placed(&rx, n);
		} else {
			n = 1;
			ret = rx_take(&rx, stream.data + at, n);
		}
		if (ret < 0)
			return ret;
		at += n;
	}
	return 0;
}

/* Leaves the outcome in `got`; fails if it depends on the way of feeding. */
void rx_rig_play(const char *name, bool structured)
{
	struct outcome first;
	int first_ret, ret;

	rx_rig_fresh(structured);
	first_ret = rx_rig_feed(stream.used, 1);
	note_outcome();
	first = got;
	if ((first_ret < 0) != (first.failure != NULL))
		fail_msg("%s: returns %d, failure is %s", name, first_ret,
			 first.failure ? first.failure : "not set");
	for (size_t split = 0; split <= stream.used; split++) {
		rx_rig_fresh(structured);
		/* 0 stands for byte by byte */
		ret = split ? rx_rig_feed(split, stream.used) : rx_rig_feed(1, 1);
		note_outcome();
		if (ret != first_ret || memcmp(&got, &first, sizeof(got)) != 0)
			fail_msg("%s: other result when split at %zu", name,
				 split);
	}
	for (size_t step = 1; step <= 65; step += 16) {
		rx_rig_fresh(structured);
		ret = feed_in_place(step);
		note_outcome();
		if (ret != first_ret || memcmp(&got, &first, sizeof(got)) != 0)
			fail_msg("%s: other result in place by %zu", name, step);
	}
	got = first;
}

/* ---- streams, as tables of pieces ---- */

/* The bytes [start, start + n) of what a read of ours would find. */
const uint8_t *rx_rig_content(uint32_t index, uint64_t start)
{
	static uint8_t bytes[2 * READ_BYTES];

	for (uint32_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(1 + index * 67 + start + i);
	return bytes;
}

void rx_rig_piece(const struct piece *p)
{
	static const uint8_t zeroes[NBD_STRING_MAX + 16];
	uint32_t index = (uint32_t)p->cookie % REQUESTS;
	uint64_t base = templates[index].offset;

	switch (p->kind) {
	case PIECE_END:
		break;
	case PIECE_RAW:
		reply_raw(&stream, p->text, p->n);
		break;
	case PIECE_SIMPLE:
		reply_simple(&stream, p->cookie, p->n);
		break;
	case PIECE_PAYLOAD:
		reply_raw(&stream, rx_rig_content(index, 0), p->n);
		break;
	case PIECE_DATA:
		reply_data(&stream, p->cookie, p->flags, base + p->at,
			   rx_rig_content(index, p->at), p->n);
		break;
	case PIECE_HOLE:
		reply_hole(&stream, p->cookie, p->flags, base + p->at, p->n);
		break;
	case PIECE_ERROR:
		reply_error(&stream, p->cookie, p->flags, p->n, p->text);
		break;
	case PIECE_HEAD:
		reply_chunk(&stream, p->cookie, p->flags, p->type, p->n);
		break;
	case PIECE_ERROR_RAW:
		reply_error_raw(&stream, p->cookie, p->flags, p->type, p->n,
				(uint16_t)p->at, zeroes, p->rest);
		break;
	case PIECE_ERRORS:
		for (uint32_t i = 0; i < p->n; i++)
			reply_error(&stream, p->cookie, 0, NBD_EIO, NULL);
		break;
	case PIECE_EXTENTS:
		for (uint32_t i = 0; i < p->n; i++)
			reply_data(&stream, p->cookie, 0, base + 2 * i,
				   rx_rig_content(index, 2 * i), 1);
		break;
	}
}

void rx_rig_build(const struct piece pieces[PIECES_MAX])
{
	stream.used = 0;
	for (uint32_t i = 0; i < PIECES_MAX; i++)
		rx_rig_piece(&pieces[i]);
}
