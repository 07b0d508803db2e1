// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The reply parser: streams of replies, good and bad, each fed in every way;
 * see rx_rig.h.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/rx_rig.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define D REPLY_DONE
#define LEN READ_BYTES
#define WHOLE(index) SIMPLE(index, 0), PAYLOAD(index, LEN)

static uint64_t cookie(uint32_t index)
{
	return request_cookie(&templates[index]);
}

static void data(uint32_t index, uint16_t flags, uint32_t start, uint32_t n)
{
	rx_rig_piece(&(struct piece)DATA(index, flags, start, n));
}

static void hole(uint32_t index, uint16_t flags, uint32_t start, uint32_t n)
{
	rx_rig_piece(&(struct piece)HOLE(index, flags, start, n));
}

static const struct good {
	const char *name;
	bool structured;
	struct reply replies[REPLIES_MAX];
	uint32_t replies_count;
	struct piece pieces[PIECES_MAX];
} good[] = {
	/* Simple replies. */
	{ "flush", false, { { FLUSH, 0 } }, 1, { SIMPLE(FLUSH, 0) } },
	{ "error", false, { { WRITE, ENOSPC } }, 1,
	  { SIMPLE(WRITE, NBD_ENOSPC) } },
	{ "read", false, { { READ_A, 0 } }, 1, { WHOLE(READ_A) } },
	{ "read error", false, { { READ_A, EIO } }, 1,
	  { SIMPLE(READ_A, NBD_EIO) } },
	{ "unknown error", false, { { WRITE, EINVAL } }, 1,
	  { SIMPLE(WRITE, 0x12345678) } },
	{ "shutdown", false, { { WRITE, ESHUTDOWN } }, 1,
	  { SIMPLE(WRITE, NBD_ESHUTDOWN) } },
	{ "four", false,
	  { { READ_B, 0 }, { WRITE, 0 }, { READ_LOW, ENOMEM }, { READ_A, 0 } },
	  4, { WHOLE(READ_B), SIMPLE(WRITE, 0), SIMPLE(READ_LOW, NBD_ENOMEM),
	       WHOLE(READ_A) } },
	{ "half a reply", false, { { 0 } }, 0,
	  { SIMPLE(READ_A, 0), PAYLOAD(READ_A, LEN / 2) } },
	/* Structured ones. */
	{ "one chunk", true, { { READ_A, 0 } }, 1, { DATA(READ_A, D, 0, LEN) } },
	{ "at offset 0", true, { { READ_LOW, 0 } }, 1,
	  { DATA(READ_LOW, D, 0, LEN) } },
	{ "one hole", true, { { READ_A, 0 } }, 1, { HOLE(READ_A, D, 0, LEN) } },
	{ "NONE", true, { { WRITE, 0 } }, 1, { NONE(WRITE) } },
	{ "simple to a flush", true, { { FLUSH, 0 } }, 1, { SIMPLE(FLUSH, 0) } },
	{ "data, NONE", true, { { READ_A, 0 } }, 1,
	  { DATA(READ_A, 0, 0, LEN), NONE(READ_A) } },
	{ "in order", true, { { READ_A, 0 } }, 1,
	  { DATA(READ_A, 0, 0, 10), HOLE(READ_A, 0, 10, 22),
	    DATA(READ_A, D, 32, 32) } },
	{ "in reverse", true, { { READ_A, 0 } }, 1,
	  { DATA(READ_A, 0, 32, 32), HOLE(READ_A, 0, 10, 22),
	    DATA(READ_A, D, 0, 10) } },
	{ "woven", true, { { WRITE, 0 }, { READ_A, 0 }, { READ_B, 0 } }, 3,
	  { DATA(READ_A, 0, 32, 32), DATA(READ_B, 0, 0, 32), NONE(WRITE),
	    DATA(READ_A, D, 0, 32), DATA(READ_B, D, 32, 32) } },
	{ "unknown flags", true, { { READ_A, 0 } }, 1,
	  { DATA(READ_A, 0xfffe, 0, 32), DATA(READ_A, 0xffff, 32, 32) } },
	{ "error", true, { { WRITE, EPERM } }, 1,
	  { ERROR(WRITE, D, NBD_EPERM, NULL) } },
	{ "error with text", true, { { READ_A, EIO }, { FLUSH, 0 } }, 2,
	  { ERROR(READ_A, D, NBD_EIO, "\x1b[2J not \xff utf-8"),
	    SIMPLE(FLUSH, 0) } },
	{ "error, NONE", true, { { READ_A, EIO } }, 1,
	  { ERROR(READ_A, 0, NBD_EIO, "first"), NONE(READ_A) } },
	/* The first error counts; not all of the data need come then. */
	{ "error between data", true, { { READ_A, ENOMEM } }, 1,
	  { DATA(READ_A, 0, 0, 16), ERROR(READ_A, 0, NBD_ENOMEM, NULL),
	    DATA(READ_A, 0, 48, 16), ERROR(READ_A, D, NBD_EIO, "again") } },
	{ "error with offset", true, { { READ_A, EIO } }, 1,
	  { ERROR_RAW(READ_A, D, NBD_REPLY_TYPE_ERROR_OFFSET, NBD_EIO, 3,
		      3 + 8) } },
	{ "unknown type of error", true, { { READ_A, EINVAL } }, 1,
	  { ERROR_RAW(READ_A, 0, NBD_REPLY_TYPE_ERR(77), NBD_EINVAL, 5, 40),
	    NONE(READ_A) } },
	{ "as many errors as may be", true, { { WRITE, EIO } }, 1,
	  { ERRORS(WRITE, 1 + ERROR_CHUNKS_MAX), NONE(WRITE) } },
	{ "longest text", true, { { WRITE, EIO } }, 1,
	  { ERROR_RAW(WRITE, D, NBD_REPLY_TYPE_ERROR, NBD_EIO, NBD_STRING_MAX,
		      NBD_STRING_MAX) } },
};

static void good_streams(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		const struct good *g = &good[i];

		rx_rig_build(g->pieces);
		rx_rig_play(g->name, g->structured);
		if (got.failure)
			fail_msg("%s: refused: %s", g->name, got.failure);
		if (got.replies_count != g->replies_count)
			fail_msg("%s: %u replies, not %u", g->name,
				 got.replies_count, g->replies_count);
		for (uint32_t k = 0; k < g->replies_count; k++)
			if (got.replies[k].index != g->replies[k].index ||
			    got.replies[k].error != g->replies[k].error)
				fail_msg("%s: reply %u: request %u, error %d",
					 g->name, k, got.replies[k].index,
					 got.replies[k].error);
	}
}

/* Each byte of a read is what the server sent for it, or zero in a hole. */
static void payload_lands_where_it_belongs(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		const struct good *g = &good[i];
		uint8_t expected[REQUESTS][READ_BYTES];

		for (uint32_t k = 0; k < REQUESTS; k++)
			memcpy(expected[k], rx_rig_content(k, 0), READ_BYTES);
		for (uint32_t k = 0; k < PIECES_MAX; k++)
			if (g->pieces[k].kind == PIECE_HOLE)
				memset(expected[(uint32_t)g->pieces[k].cookie] +
					       g->pieces[k].at,
				       0, g->pieces[k].n);
		rx_rig_build(g->pieces);
		rx_rig_play(g->name, g->structured);
		for (uint32_t k = 0; k < got.replies_count; k++) {
			uint32_t index = got.replies[k].index;

			if (templates[index].command == NBD_CMD_READ &&
			    !got.replies[k].error &&
			    memcmp(got.data[index], expected[index], READ_BYTES))
				fail_msg("%s: wrong data", g->name);
		}
	}
}

/* Five chunks in all of their 120 orders. */
static void every_order(void **state)
{
	static const uint32_t edges[] = { 0, 1, 17, 32, 50, READ_BYTES };
	uint8_t expected[READ_BYTES];

	(void)state;
	memcpy(expected, rx_rig_content(READ_B, 0), READ_BYTES);
	memset(expected + edges[2], 0, edges[3] - edges[2]);
	for (uint32_t order = 0; order < 120; order++) {
		uint32_t left[5] = { 0, 1, 2, 3, 4 };
		uint32_t code = order;

		stream.used = 0;
		for (uint32_t k = 5; k > 0; k--) {
			uint32_t at = code % k;
			uint32_t c = left[at];
			uint32_t start = edges[c];
			uint32_t n = edges[c + 1] - start;

			code /= k;
			left[at] = left[k - 1];
			if (c == 2)
				hole(READ_B, k == 1 ? REPLY_DONE : 0, start, n);
			else
				data(READ_B, k == 1 ? REPLY_DONE : 0, start, n);
		}
		rx_rig_fresh(true);
		assert_int_equal(rx_rig_feed(stream.used, 1), 0);
		assert_int_equal(got.replies_count, 1);
		assert_int_equal(got.replies[0].error, 0);
		assert_memory_equal(requests[READ_B].data, expected, READ_BYTES);
	}
}

/* ---- streams that are bad ---- */

#define NOT_A_REPLY "what came is not a reply"
#define NOT_IN_FLIGHT "a reply to a request that is not in flight"
#define SIMPLE_READ "a simple reply to a read"
#define CANNOT_BE "a chunk of a type or length that cannot be"
#define NOT_ITS_ANSWER "a chunk that does not answer its request"
#define TOO_LITTLE "a read was answered with less than it asked for"
#define DATA_OUTSIDE "data outside of its read, or twice"
#define HOLE_OUTSIDE "a hole outside of its read, or twice"
#define BAD_ERROR "an error chunk that contradicts itself"

static const struct bad {
	const char *name;
	bool structured;
	uint32_t replies_count; /* before it broke */
	const char *failure;    /* how it begins */
	struct piece pieces[PIECES_MAX];
} bad[] = {
	{ "magic", false, 0, NOT_A_REPLY, { RAW("\x67\x44\x66\x99") } },
	{ "magic of a chunk", true, 0, NOT_A_REPLY, { RAW("\x66\x8e\x34") } },
	{ "unknown cookie", false, 0, NOT_IN_FLIGHT,
	  { SIMPLE_TO(0x1234567890, 0) } },
	{ "stale cookie", true, 0, NOT_IN_FLIGHT,
	  { SIMPLE_TO(COOKIE(WRITE) - (1ull << 32), 0) } },
	{ "cookie of no slot", false, 0, NOT_IN_FLIGHT,
	  { SIMPLE_TO(REQUESTS, 0) } },
	{ "duplicate", false, 1, NOT_IN_FLIGHT,
	  { SIMPLE(FLUSH, 0), SIMPLE(FLUSH, 0) } },
	{ "duplicate chunk", true, 1, NOT_IN_FLIGHT,
	  { NONE(WRITE), NONE(WRITE) } },
	{ "simple reply to a read", true, 0, SIMPLE_READ, { WHOLE(READ_A) } },
	{ "simple error to a read", true, 0, SIMPLE_READ,
	  { SIMPLE(READ_A, NBD_EIO) } },
	/* The second would turn the first into a success. */
	{ "error chunk, simple success", true, 0, "a simple reply after chunks",
	  { ERROR(WRITE, 0, NBD_EIO, "disk on fire"), SIMPLE(WRITE, 0) } },
	{ "structured reply", false, 0, "a structured reply", { NONE(WRITE) } },
	{ "NONE without DONE", true, 0, CANNOT_BE,
	  { HEAD(WRITE, 0, NBD_REPLY_TYPE_NONE, 0) } },
	{ "NONE with payload", true, 0, CANNOT_BE,
	  { HEAD(WRITE, D, NBD_REPLY_TYPE_NONE, 1) } },
	{ "unknown type", true, 0, CANNOT_BE, { HEAD(READ_A, D, 3, 0) } },
	{ "block status", true, 0, CANNOT_BE,
	  { HEAD(READ_A, D, NBD_REPLY_TYPE_BLOCK_STATUS, 12) } },
	{ "data for a write", true, 0, NOT_ITS_ANSWER,
	  { DATA(WRITE, D, 0, 16) } },
	{ "hole for a flush", true, 0, NOT_ITS_ANSWER,
	  { HOLE(FLUSH, D, 0, 16) } },
	{ "NONE for a read", true, 0, TOO_LITTLE, { NONE(READ_A) } },
	{ "gap", true, 0, TOO_LITTLE,
	  { DATA(READ_A, 0, 0, 31), DATA(READ_A, D, 32, 32) } },
	{ "start is missing", true, 0, TOO_LITTLE, { DATA(READ_A, D, 1, 63) } },
	{ "end is missing", true, 0, TOO_LITTLE, { DATA(READ_A, D, 0, 63) } },
	{ "end is missing, NONE", true, 0, TOO_LITTLE,
	  { HOLE(READ_A, 0, 0, 63), NONE(READ_A) } },
	{ "overlap", true, 0, DATA_OUTSIDE,
	  { DATA(READ_A, 0, 0, 33), DATA(READ_A, D, 32, 32) } },
	{ "overlap to the left", true, 0, DATA_OUTSIDE,
	  { DATA(READ_A, 0, 32, 32), DATA(READ_A, D, 0, 33) } },
	{ "overlap inside", true, 0, HOLE_OUTSIDE,
	  { DATA(READ_A, 0, 0, LEN), HOLE(READ_A, D, 10, 1) } },
	{ "overlap around", true, 0, DATA_OUTSIDE,
	  { HOLE(READ_A, 0, 10, 1), DATA(READ_A, D, 0, LEN) } },
	{ "all of it twice", true, 0, DATA_OUTSIDE,
	  { DATA(READ_A, 0, 0, LEN), DATA(READ_A, D, 0, LEN) } },
	{ "beyond the end", true, 0, DATA_OUTSIDE, { DATA(READ_A, D, 32, 33) } },
	{ "before the start", true, 0, DATA_OUTSIDE,
	  { DATA(READ_A, 0, UINT64_MAX, 16) } },
	{ "right behind", true, 0, DATA_OUTSIDE, { DATA(READ_A, 0, LEN, 1) } },
	{ "offset wraps", true, 0, DATA_OUTSIDE,
	  { DATA(READ_A, 0, UINT64_MAX - 4096 - 3, 8) } },
	{ "offset wraps at 32 bits", true, 0, DATA_OUTSIDE,
	  { DATA(READ_A, 0, 1ull << 32, 8) } },
	{ "hole wraps", true, 0, HOLE_OUTSIDE, { HOLE(READ_A, 0, 32, ~0u) } },
	{ "hole wraps over 0", true, 0, HOLE_OUTSIDE,
	  { HOLE(READ_LOW, 0, UINT64_MAX, 2) } },
	{ "hole beyond", true, 0, HOLE_OUTSIDE, { HOLE(READ_A, D, 1, LEN) } },
	{ "empty hole", true, 0, "an empty hole", { HOLE(READ_A, 0, 0, 0) } },
	{ "hole of odd length", true, 0, CANNOT_BE,
	  { HEAD(READ_A, 0, NBD_REPLY_TYPE_OFFSET_HOLE, 13) } },
	{ "data without data", true, 0, CANNOT_BE,
	  { HEAD(READ_A, 0, NBD_REPLY_TYPE_OFFSET_DATA, 8) } },
	{ "data of 4 GiB", true, 0, CANNOT_BE,
	  { HEAD(READ_A, 0, NBD_REPLY_TYPE_OFFSET_DATA, ~0u) } },
	{ "data beyond the maximum", true, 0, CANNOT_BE,
	  { HEAD(READ_A, 0, NBD_REPLY_TYPE_OFFSET_DATA, 9 + PAYLOAD_MAX) } },
	{ "too many extents", true, 0, DATA_OUTSIDE,
	  { EXTENTS(READ_A, 1 + COVERAGE_EXTENTS) } },
	{ "error 0", true, 0, BAD_ERROR, { ERROR(WRITE, D, 0, NULL) } },
	{ "error too short", true, 0, CANNOT_BE,
	  { HEAD(WRITE, D, NBD_REPLY_TYPE_ERROR, 5) } },
	{ "error too long", true, 0, CANNOT_BE,
	  { HEAD(WRITE, D, NBD_REPLY_TYPE_ERROR, PROTO_ERROR_CHUNK_MAX + 1) } },
	{ "text beyond its chunk", true, 0, BAD_ERROR,
	  { ERROR_RAW(WRITE, D, NBD_REPLY_TYPE_ERROR, NBD_EIO, 5, 4) } },
	{ "text too long", true, 0, BAD_ERROR,
	  { ERROR_RAW(WRITE, D, NBD_REPLY_TYPE_ERROR, NBD_EIO,
		      NBD_STRING_MAX + 1, NBD_STRING_MAX + 1) } },
	{ "text over the offset", true, 0, BAD_ERROR,
	  { ERROR_RAW(WRITE, D, NBD_REPLY_TYPE_ERROR_OFFSET, NBD_EIO, 4,
		      3 + 8) } },
	{ "unknown error too short", true, 0, CANNOT_BE,
	  { HEAD(WRITE, D, NBD_REPLY_TYPE_ERR(9), 0) } },
	{ "too many errors", true, 0, "a request answered with too many",
	  { ERRORS(WRITE, 2 + ERROR_CHUNKS_MAX) } },
};

static void bad_streams(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		const struct bad *b = &bad[i];

		rx_rig_build(b->pieces);
		rx_rig_play(b->name, b->structured);
		if (!got.failure)
			fail_msg("%s: accepted", b->name);
		if (strncmp(got.failure, b->failure, strlen(b->failure)) != 0)
			fail_msg("%s: refused for the wrong reason: %s", b->name,
				 got.failure);
		if (got.replies_count != b->replies_count)
			fail_msg("%s: %u replies before it broke", b->name,
				 got.replies_count);
	}
}

/* Nothing that follows is believed until the next connection. */
static void broken_stays_broken(void **state)
{
	uint8_t *to;

	(void)state;
	rx_rig_build(bad[0].pieces);
	rx_rig_fresh(false);
	assert_int_equal(rx_rig_feed(stream.used, 1), -1);
	rx_rig_build(good[0].pieces);
	assert_int_equal(rx_rig_feed(stream.used, 1), -1);
	assert_int_equal(rx_place(&rx, &to), 0);
	assert_int_equal(got.replies_count, 0);
	assert_null(rx.request);

	rx_reset(&rx, false, PAYLOAD_MAX);
	assert_null(rx.failure);
	assert_int_equal(rx_rig_feed(stream.used, 1), 0);
	assert_int_equal(got.replies_count, 1);
}

/* A connection may end at any byte; the next one starts with a head. */
static void reset_at_every_byte(void **state)
{
	(void)state;
	stream.used = 0;
	data(READ_A, 0, 32, 32);
	data(READ_B, 0, 0, 32);
	hole(READ_A, REPLY_DONE, 0, 32);
	data(READ_B, REPLY_DONE, 32, 32);
	for (size_t cut = 0; cut < stream.used; cut++) {
		struct reply_bytes *all = malloc(sizeof(*all));

		*all = stream;
		rx_rig_fresh(true);
		stream.used = cut;
		assert_int_equal(rx_rig_feed(cut, 1), 0);
		rx_reset(&rx, true, PAYLOAD_MAX);
		/* As the engine does when it sends again. */
		for (uint32_t i = 0; i < REQUESTS; i++) {
			in_flight[i] = true;
			requests[i].extents_used = 0;
		}
		got.replies_count = 0;
		stream = *all;
		assert_int_equal(rx_rig_feed(stream.used, 1), 0);
		assert_int_equal(got.replies_count, 2);
		free(all);
	}
}

/* rx_place() offers the payload alone, and never more than is missing. */
static void place_is_payload_alone(void **state)
{
	uint8_t *to;

	(void)state;
	stream.used = 0;
	data(READ_A, REPLY_DONE, 0, READ_BYTES);
	rx_rig_fresh(true);
	for (size_t at = 0; at < 28; at++) {
		assert_int_equal(rx_place(&rx, &to), 0);
		assert_int_equal(rx_take(&rx, stream.data + at, 1), 0);
	}
	assert_int_equal(rx_place(&rx, &to), READ_BYTES);
	assert_ptr_equal(to, requests[READ_A].data);
	assert_int_equal(rx_take(&rx, stream.data + 28, 10), 0);
	assert_int_equal(rx_place(&rx, &to), READ_BYTES - 10);
	assert_ptr_equal(to, requests[READ_A].data + 10);
	memcpy(to, stream.data + 38, READ_BYTES - 10);
	assert_int_equal(rx_placed(&rx, READ_BYTES - 10), 0);
	assert_int_equal(got.replies_count, 1);
	assert_int_equal(rx_place(&rx, &to), 0);

	/* The text of an error is not for a slot. */
	stream.used = 0;
	reply_error(&stream, cookie(READ_B), REPLY_DONE, NBD_EIO, "text");
	assert_int_equal(rx_take(&rx, stream.data, stream.used - 2), 0);
	assert_int_equal(rx_place(&rx, &to), 0);
}

/*
 * Random chunks against a plain map of bytes: the parser accepts a chunk if and
 * only if it lies inside, hits nothing twice and leaves few enough extents.
 */
static void coverage_against_a_map(void **state)
{
	static uint8_t bytes[READ_BYTES];
	uint32_t seed = 1, refused = 0, accepted = 0;

	(void)state;
	for (uint32_t round = 0; round < 3000; round++) {
		bool map[READ_BYTES + 1] = { false };
		bool fits = true;

		rx_rig_fresh(true);
		for (uint32_t k = 0; k < 80 && fits; k++) {
			uint32_t start, n, extents = 0;
			int ret;

			seed = seed * 1664525 + 1013904223;
			start = (seed >> 8) % READ_BYTES;
			n = 1 + (seed >> 16) % (k % 3 ? 2 : 9);
			fits = start + n <= READ_BYTES;
			for (uint32_t i = start; fits && i < start + n; i++)
				fits = !map[i];
			for (uint32_t i = start; fits && i < start + n; i++)
				map[i] = true;
			for (uint32_t i = 0; i < READ_BYTES; i++)
				extents += map[i] && !map[i + 1];
			fits = fits && extents <= COVERAGE_EXTENTS;
			stream.used = 0;
			reply_data(&stream, cookie(READ_A), 0, 4096 + start,
				   bytes, n);
			ret = rx_take(&rx, stream.data, stream.used);
			if ((ret == 0) != fits)
				fail_msg("round %u: [%u, %u) was %s", round,
					 start, start + n,
					 ret ? "refused" : "accepted");
			if (fits)
				assert_int_equal(requests[READ_A].extents_used,
						 extents);
			accepted += fits;
		}
		refused += !fits;
	}
	assert_true(refused > 1000 && accepted > 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_streams),
		cmocka_unit_test(payload_lands_where_it_belongs),
		cmocka_unit_test(every_order),
		cmocka_unit_test(bad_streams),
		cmocka_unit_test(broken_stays_broken),
		cmocka_unit_test(reset_at_every_byte),
		cmocka_unit_test(place_is_payload_alone),
		cmocka_unit_test(coverage_against_a_map),
	};

	return cmocka_run_group_tests(tests, rx_rig_set_up, rx_rig_tear_down);
}
