/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A reply parser with a few requests in flight, and streams of replies given as
 * tables of pieces. A stream is fed whole, byte by byte, in two parts split at
 * every byte, and with payloads received in place, always with the same result.
 */
#ifndef RX_RIG_H
#define RX_RIG_H

#include "nbd-client/rx.h"
#include "tests/reply_bytes.h"

#define READ_BYTES 64u
#define PAYLOAD_MAX 4096u
#define REPLIES_MAX 4u
#define UNTOUCHED 0xee

/* The requests in flight. */
enum { READ_A, READ_B, WRITE, FLUSH, READ_LOW, REQUESTS };

#define GENERATION(index) (7u + (index))
#define COOKIE(index) ((uint64_t)GENERATION(index) << 32 | (index))

extern const struct request templates[REQUESTS];

struct reply {
	uint32_t index;
	int error;
};

/* What a stream leads to; the same for every way to feed it. */
struct outcome {
	struct reply replies[REPLIES_MAX];
	uint32_t replies_count;
	const char *failure;
	uint8_t data[REQUESTS][READ_BYTES];
};

extern struct rx rx;
extern struct request requests[REQUESTS];
extern bool in_flight[REQUESTS];
extern struct outcome got;
extern struct reply_bytes stream;

/* Slots, of exactly READ_BYTES: ASan watches. */
int rx_rig_set_up(void **state);
int rx_rig_tear_down(void **state);

/* A new connection, all requests in flight. */
void rx_rig_fresh(bool structured);

/* The stream in parts of at most `step` bytes, the first one of `first`. */
int rx_rig_feed(size_t first, size_t step);

/* Leaves the outcome in `got`; fails if it depends on the way of feeding. */
void rx_rig_play(const char *name, bool structured);

enum piece_kind {
	PIECE_END,
	PIECE_RAW,
	PIECE_SIMPLE,
	PIECE_PAYLOAD, /* of a simple reply */
	PIECE_DATA,
	PIECE_HOLE,
	PIECE_ERROR, /* with a text */
	PIECE_HEAD,  /* of a chunk, of any type and length */
	PIECE_ERROR_RAW,
	PIECE_ERRORS,  /* many of them */
	PIECE_EXTENTS, /* many bytes with gaps between them */
};

struct piece {
	enum piece_kind kind;
	uint64_t cookie;
	uint16_t flags;
	uint16_t type;
	uint64_t at;
	uint32_t n;
	uint32_t rest;
	const char *text;
};

#define RAW(bytes) { PIECE_RAW, .text = bytes, .n = sizeof(bytes) - 1 }
#define SIMPLE_TO(to, error) { PIECE_SIMPLE, .cookie = to, .n = error }
#define SIMPLE(index, error) SIMPLE_TO(COOKIE(index), error)
#define PAYLOAD(index, bytes) { PIECE_PAYLOAD, COOKIE(index), .n = bytes }
#define DATA(index, flag, start, bytes) \
	{ PIECE_DATA, COOKIE(index), flag, .at = start, .n = bytes }
#define HOLE(index, flag, start, bytes) \
	{ PIECE_HOLE, COOKIE(index), flag, .at = start, .n = bytes }
#define HEAD(index, flag, chunk_type, bytes) \
	{ PIECE_HEAD, COOKIE(index), flag, chunk_type, .n = bytes }
#define NONE(index) HEAD(index, REPLY_DONE, NBD_REPLY_TYPE_NONE, 0)
#define ERROR(index, flag, error, words) \
	{ PIECE_ERROR, COOKIE(index), flag, .n = error, .text = words }
/* `at` bytes of text are claimed, and `bytes` bytes follow. */
#define ERROR_RAW(index, flag, chunk_type, error, claimed, bytes) \
	{ PIECE_ERROR_RAW, COOKIE(index), flag, chunk_type, claimed, error, \
	  .rest = bytes }
#define ERRORS(index, count) { PIECE_ERRORS, COOKIE(index), .n = count }
#define EXTENTS(index, count) { PIECE_EXTENTS, COOKIE(index), .n = count }

#define PIECES_MAX 6u

/* The bytes from `start` on of what a read of ours would find. */
const uint8_t *rx_rig_content(uint32_t index, uint64_t start);

/* Adds to the stream; makes all of it. */
void rx_rig_piece(const struct piece *p);
void rx_rig_build(const struct piece pieces[PIECES_MAX]);

#endif
