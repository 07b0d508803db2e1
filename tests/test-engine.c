// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The engine with a link that stays up: the life of requests, their states and
 * counters, what is sent and how it is matched with what comes back. What
 * happens when the link does not stay up is in test-engine_link.c.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/engine_rig.h"

#define HEAD_BYTES sizeof(struct nbd_request)

/* ---- one request ---- */

static void life_of_a_read(void **state)
{
	const uint32_t n = 512;
	struct request *r;
	uint64_t cookie;

	(void)state;
	rig_link_up();
	r = engine_take(rig.e);
	rig_expect_states(1, 0, 0, 0, 0, 0);
	r->command = NBD_CMD_READ;
	r->flags = 0;
	r->offset = 1024;
	r->length = n;
	r->front_tag = 5;
	assert_int_equal(engine_check(rig.e, r), 0);
	engine_submit(rig.e, r);
	rig_expect_states(0, 1, 0, 0, 0, 0);

	fake_ring.files[RING_LINK].send_held = true;
	rig_rounds(2);
	rig_expect_states(0, 0, 1, 0, 0, 0);
	fake_ring.files[RING_LINK].send_held = false;
	rig_rounds(1);
	rig_expect_states(0, 0, 0, 1, 0, 0);
	cookie = rig_expect(NBD_CMD_READ, 1024, n);
	assert_int_equal(cookie, 1ull << 32 | r->index);

	rig_answer_read(cookie, 1024, n);
	fake_ring_feed(RING_LINK, rig.reply.data, 20);
	rig_rounds(1);
	rig_expect_states(0, 0, 0, 0, 1, 0);
	rig.fake.keep = true;
	fake_ring_feed(RING_LINK, rig.reply.data + 20, rig.reply.used - 20);
	rig.reply.used = 0;
	rig_rounds(1);
	rig_expect_states(0, 0, 0, 0, 0, 1);
	RIG_EXPECT_DONE({ 5, 0 });
	fake_front_release(&rig.fake);
	rig_expect_states(0, 0, 0, 0, 0, 0);

	assert_int_equal(rig.stats.requests[STATS_READ], 1);
	assert_int_equal(rig.stats.bytes[STATS_READ], n);
	assert_int_equal(rig.stats.errors[STATS_READ], 0);
	assert_int_equal(rig.stats.in_flight_max, 1);
	assert_int_equal(rig.stats.slots_free_min, rig.config.slots - 1);
	assert_int_equal(rig.stats.link_sends, 2);
	rig_close();
}

/* Command, flags, payload and counters of each kind. */
static void each_command(void **state)
{
	static const struct {
		uint16_t command, flags;
		uint64_t offset;
		uint32_t length;
		enum stats_op op;
	} rows[] = {
		{ NBD_CMD_READ, 0, 0, 4096, STATS_READ },
		{ NBD_CMD_WRITE, 0, 4096, 4096, STATS_WRITE },
		{ NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 8192, 1, STATS_WRITE },
		{ NBD_CMD_FLUSH, 0, 0, 0, STATS_FLUSH },
		{ NBD_CMD_TRIM, 0, 512, 1024, STATS_TRIM },
		{ NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 0, 512,
		  STATS_ZEROES },
		{ NBD_CMD_READ, 0, RIG_DISK_BYTES - 1, 1, STATS_READ },
	};
	static struct rig_request got;

	(void)state;
	rig_link_up();
	for (uint64_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t count = rig.stats.requests[rows[i].op];
		uint64_t bytes = rig.stats.bytes[rows[i].op];

		fake_front_submit(&rig.fake, rows[i].command, rows[i].flags,
				  rows[i].offset, rows[i].length, i);
		rig_settle();
		assert_true(rig_next(&got));
		assert_int_equal(got.head.command, rows[i].command);
		assert_int_equal(got.head.flags, rows[i].flags);
		assert_int_equal(got.head.offset_bytes, rows[i].offset);
		assert_int_equal(got.head.length_bytes, rows[i].length);
		if (rows[i].command == NBD_CMD_WRITE)
			for (uint32_t k = 0; k < rows[i].length; k++)
				assert_int_equal(
					got.payload[k],
					fake_front_byte(i, rows[i].offset + k));
		rig_expect_nothing();
		rig_answer_well(&got);
		rig_answer();
		RIG_EXPECT_DONE({ i, 0 });
		assert_int_equal(rig.stats.requests[rows[i].op], count + 1);
		assert_int_equal(rig.stats.bytes[rows[i].op],
				 bytes + rows[i].length);
	}
	rig_close();
}

static void server_error_reaches_the_front(void **state)
{
	(void)state;
	rig_link_up();
	rig_submit(NBD_CMD_WRITE, 0, 512, 1);
	rig_submit(NBD_CMD_READ, 0, 512, 2);
	rig_settle();
	rig_answer_simple(rig_expect(NBD_CMD_WRITE, 0, 512), NBD_ENOSPC);
	reply_error(&rig.reply, rig_expect(NBD_CMD_READ, 0, 512), REPLY_DONE,
		    NBD_EIO, "unreadable");
	rig_answer();
	RIG_EXPECT_DONE({ 1, ENOSPC }, { 2, EIO });
	assert_int_equal(rig.stats.errors[STATS_WRITE], 1);
	assert_int_equal(rig.stats.errors[STATS_READ], 1);
	rig_close();
}

/* Replies in any order; the same slots are used again with other cookies. */
static void replies_out_of_order(void **state)
{
	uint64_t cookies[4], again;

	(void)state;
	rig_link_up();
	for (uint64_t i = 0; i < 4; i++)
		rig_submit(NBD_CMD_READ, i * 4096, 4096, i);
	rig_settle();
	for (uint64_t i = 0; i < 4; i++)
		cookies[i] = rig_expect(NBD_CMD_READ, i * 4096, 4096);
	rig_answer_read(cookies[2], 2 * 4096, 4096);
	rig_answer_read(cookies[0], 0, 4096);
	rig_answer();
	RIG_EXPECT_DONE({ 2, 0 }, { 0, 0 });
	rig_submit(NBD_CMD_READ, 0, 1, 9);
	rig_settle();
	again = rig_expect(NBD_CMD_READ, 0, 1);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_not_equal(again, cookies[i]);
	rig_answer_read(again, 0, 1);
	rig_answer_read(cookies[3], 3 * 4096, 4096);
	rig_answer_read(cookies[1], 4096, 4096);
	rig_answer();
	RIG_EXPECT_DONE({ 9, 0 }, { 3, 0 }, { 1, 0 });
	rig_close();
}

/* A cookie of generation 0 could be that of a slot that was never used. */
static void generation_skips_zero(void **state)
{
	struct request *r;

	(void)state;
	rig_link_up();
	for (uint32_t i = 0; i < rig.config.slots; i++)
		rig.e->requests[i].generation = UINT32_MAX;
	r = rig_submit(NBD_CMD_FLUSH, 0, 0, 1);
	rig_settle();
	assert_int_equal(rig_expect(NBD_CMD_FLUSH, 0, 0),
			 1ull << 32 | r->index);
	rig_answer_simple(request_cookie(r), 0);
	rig_close();
}

/* ---- sending ---- */

static void many_requests_in_one_send(void **state)
{
	(void)state;
	rig_link_up();
	for (uint64_t i = 0; i < 8; i++)
		rig_submit(i % 2 ? NBD_CMD_WRITE : NBD_CMD_READ, i * 4096, 4096,
			   i);
	rig_rounds(2);
	assert_int_equal(fake_ring.files[RING_LINK].sends, 1);
	assert_int_equal(rig.stats.link_sends, 1);
	rig_expect_states(0, 0, 0, 8, 0, 0);
	assert_int_equal(rig.stats.in_flight_max, 8);
	assert_int_equal(rig_serve_all(), 8);
	/* All answers fit into one receive, if they are there together. */
	rig_close();
}

static void batches_have_a_limit(void **state)
{
	const uint32_t count = 2 * TX_BATCH_REQUESTS + 1;

	(void)state;
	rig_close();
	rig_open(count, NULL);
	rig_link_up();
	for (uint64_t i = 0; i < count; i++)
		rig_submit(NBD_CMD_WRITE, i * 8, 8, i);
	rig_rounds(2);
	rig_expect_states(0, 0, count - TX_BATCH_REQUESTS, TX_BATCH_REQUESTS, 0,
			  0);
	rig_settle();
	assert_int_equal(fake_ring.files[RING_LINK].sends, 3);
	assert_int_equal(rig_serve_all(), count);
	rig_close();
}

/* What has gathered while a send was under way leaves with the next one. */
static void requests_gather_behind_a_send(void **state)
{
	(void)state;
	rig_link_up();
	fake_ring.files[RING_LINK].send_held = true;
	for (uint64_t i = 0; i < 5; i++) {
		rig_submit(NBD_CMD_READ, i * 4096, 512, i);
		rig_rounds(1);
	}
	fake_ring.files[RING_LINK].send_held = false;
	rig_settle();
	/* One that found no room, one that waited for it, the others. */
	assert_int_equal(fake_ring.files[RING_LINK].sends, 3);
	assert_int_equal(rig_serve_all(), 5);
	rig_close();
}

/* The first send stops at every byte; what the server gets is the same. */
static void short_send_at_every_byte(void **state)
{
	static struct rig_request got;
	const size_t all = 3 * HEAD_BYTES + 40 + 1;

	(void)state;
	rig_close();
	for (size_t n = 1; n <= all; n++) {
		rig_open(0, NULL);
		rig.at = n;
		rig_link_up();
		rig_submit(NBD_CMD_WRITE, 0, 40, 0);
		rig_submit(NBD_CMD_READ, 64, 10, 1);
		rig_submit(NBD_CMD_WRITE, 128, 1, 2);
		fake_ring.files[RING_LINK].send_max = n;
		rig_rounds(2);
		fake_ring.files[RING_LINK].send_max = 0;
		rig_settle();
		assert_int_equal(fake_ring.files[RING_LINK].sends,
				 n < all ? 2 : 1);
		assert_true(rig_next(&got));
		for (uint32_t i = 0; i < 40; i++)
			assert_int_equal(got.payload[i], fake_front_byte(0, i));
		rig_answer_well(&got);
		rig_answer();
		assert_int_equal(rig_serve_all(), 2);
		RIG_EXPECT_DONE({ 0, 0 }, { 1, 0 }, { 2, 0 });
		rig_close();
	}
	/* And byte by byte. */
	rig_open(0, NULL);
	rig_link_up();
	fake_ring.files[RING_LINK].send_max = 1;
	rig_submit(NBD_CMD_WRITE, 0, 40, 0);
	rig_submit(NBD_CMD_READ, 64, 10, 1);
	assert_int_equal(rig_serve_all(), 2);
	assert_int_equal(fake_ring.files[RING_LINK].sends, 2 * HEAD_BYTES + 40);
	rig_close();
}

static void send_is_tried_again(void **state)
{
	(void)state;
	rig_link_up();
	rig_submit(NBD_CMD_WRITE, 0, 40, 0);
	fake_ring.files[RING_LINK].send_error = -EAGAIN;
	rig_rounds(2);
	fake_ring.files[RING_LINK].send_error = -EINTR;
	rig_rounds(1);
	rig_expect_nothing();
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 0, 0 });
	rig_close();
}

/*
 * A server may refuse a write before it has all of the payload. The slot is
 * still being sent from then, so the request ends only after its send.
 */
static void reply_before_send_is_complete(void **state)
{
	uint64_t cookie;

	(void)state;
	for (int error = 0; error < 2; error++) {
		struct request *r;

		rig_link_up();
		r = rig_submit(NBD_CMD_WRITE, 0, 4096, 7);
		rig_submit(NBD_CMD_READ, 8192, 512, 8);
		fake_ring.files[RING_LINK].send_max = HEAD_BYTES + 100;
		rig_rounds(2);
		fake_ring.files[RING_LINK].send_held = true;
		cookie = request_cookie(r);
		rig_answer_simple(cookie, error ? NBD_ENOSPC : 0);
		assert_int_equal(rig.fake.done_count, 0);
		rig_expect_states(0, 0, 1, 0, 1, 0);
		fake_ring.files[RING_LINK].send_held = false;
		fake_ring.files[RING_LINK].send_max = 0;
		rig_settle();
		RIG_EXPECT_DONE({ 7, error ? ENOSPC : 0 });
		rig_expect(NBD_CMD_WRITE, 0, 4096);
		assert_int_equal(rig_serve_all(), 1);
		RIG_EXPECT_DONE({ 8, 0 });
		rig_link_down();
	}
	rig_close();
}

/* ---- receiving ---- */

#define LONG_BYTES (RX_DIRECT_BYTES_MIN + 5000u)

/* Three requests, and the bytes of their answers in rig.reply. */
static void three_answers(void)
{
	rig_submit(NBD_CMD_READ, 0, 40, 0);
	rig_submit(NBD_CMD_READ, 4096, LONG_BYTES, 1);
	rig_submit(NBD_CMD_FLUSH, 0, 0, 2);
	rig_settle();
	rig_answer_read(rig_expect(NBD_CMD_READ, 0, 40), 0, 40);
	rig_answer_read(rig_expect(NBD_CMD_READ, 4096, LONG_BYTES), 4096,
			LONG_BYTES);
	reply_simple(&rig.reply, rig_expect(NBD_CMD_FLUSH, 0, 0), 0);
}

/* Answers come in two parts split at every byte near a border, or in shreds. */
static void answers_split(void **state)
{
	(void)state;
	rig_close();
	for (int structured = 0; structured < 2; structured++) {
		size_t all = 1;

		for (size_t split = 0; split < all; split++) {
			if (split > 200 && split < all - 100)
				split = all - 100;
			rig_open(0, NULL);
			rig.at = split;
			rig.structured = structured;
			rig_link_up();
			three_answers();
			all = rig.reply.used;
			fake_ring_feed(RING_LINK, rig.reply.data, split);
			rig_settle();
			fake_ring_feed(RING_LINK, rig.reply.data + split,
				       all - split);
			rig_settle();
			RIG_EXPECT_DONE({ 0, 0 }, { 1, 0 }, { 2, 0 });
			rig_close();
		}
	}
	for (size_t shred = 1; shred < 3000; shred = shred * 2 + 1) {
		rig_open(0, NULL);
		rig_link_up();
		fake_ring.files[RING_LINK].receive_max = shred;
		three_answers();
		rig_answer();
		RIG_EXPECT_DONE({ 0, 0 }, { 1, 0 }, { 2, 0 });
		rig_close();
	}
}

/* A long payload is received where it belongs, beside at most one copy. */
static void long_payload_in_place(void **state)
{
	(void)state;
	rig_link_up();
	three_answers();
	/* heads and payload of the first, head of the second, a little of it */
	fake_ring_feed(RING_LINK, rig.reply.data, 28 + 40 + 28 + 10);
	rig_settle();
	assert_true(rig.e->link_stream.placed);
	fake_ring_feed(RING_LINK, rig.reply.data + 28 + 40 + 28 + 10,
		       rig.reply.used - (28 + 40 + 28 + 10));
	rig.reply.used = 0;
	rig_settle();
	assert_false(rig.e->link_stream.placed);
	RIG_EXPECT_DONE({ 0, 0 }, { 1, 0 }, { 2, 0 });
	rig_close();
}

static void receive_is_armed_again(void **state)
{
	static const int errors[] = { -ENOBUFS, -EINTR, -EAGAIN };

	(void)state;
	rig_link_up();
	for (int i = 0; i < 3; i++) {
		rig_submit(NBD_CMD_FLUSH, 0, 0, 1);
		fake_ring.files[RING_LINK].receive_error = errors[i];
		assert_int_equal(rig_serve_all(), 1);
		RIG_EXPECT_DONE({ 1, 0 });
	}
	assert_int_equal(rig.stats.rx_exhausted, 1);
	/* No buffer at all, until somebody gives one back. */
	fake_ring_steal_buffers(RX_BUFFERS);
	rig_submit(NBD_CMD_FLUSH, 0, 0, 1);
	rig_rounds(2);
	reply_simple(&rig.reply, rig_expect(NBD_CMD_FLUSH, 0, 0), 0);
	fake_ring_feed(RING_LINK, rig.reply.data, rig.reply.used);
	rig.reply.used = 0;
	rig_rounds(3);
	assert_int_equal(rig.fake.done_count, 0);
	/* The first of them had been armed since the last flush. */
	assert_int_equal(rig.stats.rx_exhausted, 1 + 2);
	fake_ring_return_buffers();
	rig_settle();
	RIG_EXPECT_DONE({ 1, 0 });
	rig_close();
}

/* ---- admission ---- */

static void slots_run_out(void **state)
{
	(void)state;
	rig_link_up();
	for (uint64_t i = 0; i < rig.base; i++)
		rig_submit(NBD_CMD_FLUSH, 0, 0, i);
	assert_null(engine_take(rig.e));
	assert_null(engine_take(rig.e));
	assert_int_equal(rig.stats.front_stalls, 1); /* one stall */
	/* The base is whole and busy: no reason to touch the reserve. */
	assert_int_equal(rig.stats.slots_free_min, 1);
	assert_int_equal(rig.stats.low_episodes, 0);
	rig.fake.keep = true; /* answered, but the front still sends */
	rig_serve_all();
	rig_expect_states(0, 0, 0, 0, 0, 8);
	assert_null(engine_take(rig.e));
	fake_front_release(&rig.fake);
	rig_submit(NBD_CMD_FLUSH, 0, 0, 99);
	rig_serve_all();
	while (rig.fake.kept_count)
		fake_front_release(&rig.fake);
	rig_close();
}

/* A window of two requests: the third waits, and nobody overtakes it. */
static void window_holds_requests_back(void **state)
{
	const uint32_t n = 40000;
	uint64_t a, b;

	(void)state;
	rig_windows(2 * (HEAD_BYTES + n), 1u << 30);
	rig_link_up();
	rig_submit(NBD_CMD_WRITE, 0, n, 0);
	rig_submit(NBD_CMD_WRITE, n, n, 1);
	rig_submit(NBD_CMD_WRITE, 2 * n, n, 2);
	rig_submit(NBD_CMD_FLUSH, 0, 0, 3); /* it would fit */
	rig_settle();
	rig_expect_states(0, 2, 0, 2, 0, 0);
	a = rig_expect(NBD_CMD_WRITE, 0, n);
	b = rig_expect(NBD_CMD_WRITE, n, n);
	rig_expect_nothing();
	rig_answer_simple(b, 0);
	rig_expect_states(0, 1, 0, 2, 0, 0);
	b = rig_expect(NBD_CMD_WRITE, 2 * n, n);
	rig_expect_nothing();
	rig_answer_simple(a, 0);
	rig_answer_simple(b, 0);
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 1, 0 }, { 0, 0 }, { 2, 0 }, { 3, 0 });
	assert_int_equal(rig.stats.in_flight_max, 2);
	rig_close();
}

/* The smallest window there may be admits the largest requests, one by one. */
static void one_is_always_admitted(void **state)
{
	(void)state;
	rig_windows(RIG_REQUEST_BYTES, RIG_REQUEST_BYTES);
	rig_link_up();
	for (uint64_t i = 0; i < 4; i++)
		rig_submit(i / 2 ? NBD_CMD_WRITE : NBD_CMD_READ, i,
			   RIG_SLOT_BYTES, i);
	rig_settle();
	rig_expect_states(0, 3, 0, 1, 0, 0);
	assert_int_equal(rig_serve_all(), 4);
	RIG_EXPECT_DONE({ 0, 0 }, { 1, 0 }, { 2, 0 }, { 3, 0 });
	rig_close();
}

/* ---- pieces ---- */

static void zeroes_go_in_pieces(void **state)
{
	static const uint16_t commands[] = { NBD_CMD_TRIM,
					     NBD_CMD_WRITE_ZEROES };
	const uint32_t most = UINT32_MAX - 511; /* what the kernel may ask */

	(void)state;
	rig_link_up();
	for (int i = 0; i < 2; i++) {
		uint64_t last = 0;

		fake_front_submit(&rig.fake, commands[i], NBD_CMD_FLAG_FUA, 512,
				  most - 512, 1);
		for (uint32_t at = 0; at < most - 512; at += ZERO_PIECE_BYTES) {
			static struct rig_request got;
			uint32_t left = most - 512 - at;

			rig_settle();
			assert_true(rig_next(&got));
			rig_expect_nothing(); /* one at a time */
			assert_int_equal(got.head.command, commands[i]);
			assert_int_equal(got.head.flags, NBD_CMD_FLAG_FUA);
			assert_int_equal(got.head.offset_bytes, 512ull + at);
			assert_int_equal(got.head.length_bytes,
					 left < ZERO_PIECE_BYTES ?
						 left : ZERO_PIECE_BYTES);
			assert_int_not_equal(got.head.cookie, last);
			last = got.head.cookie;
			assert_int_equal(rig.fake.done_count, 0);
			rig_answer_simple(last, 0);
			if (UINT32_MAX - at < ZERO_PIECE_BYTES)
				break;
		}
		RIG_EXPECT_DONE({ 1, 0 });
		rig_expect_nothing();
	}
	assert_int_equal(rig.stats.requests[STATS_TRIM], 1);
	assert_int_equal(rig.stats.bytes[STATS_TRIM], most - 512);
	rig_close();
}

/* Exactly one, and one byte more. */
static void piece_borders(void **state)
{
	(void)state;
	rig_link_up();
	rig_submit(NBD_CMD_TRIM, 0, ZERO_PIECE_BYTES, 1);
	assert_int_equal(rig_serve_all(), 1);
	rig_submit(NBD_CMD_TRIM, 0, ZERO_PIECE_BYTES + 1, 2);
	assert_int_equal(rig_serve_all(), 2);
	RIG_EXPECT_DONE({ 1, 0 }, { 2, 0 });
	rig_close();
}

static void failed_piece_ends_the_request(void **state)
{
	(void)state;
	rig_link_up();
	rig_submit(NBD_CMD_WRITE_ZEROES, 0, 3 * ZERO_PIECE_BYTES, 1);
	rig_settle();
	rig_answer_simple(rig_expect(NBD_CMD_WRITE_ZEROES, 0, ZERO_PIECE_BYTES),
			  0);
	rig_answer_simple(rig_expect(NBD_CMD_WRITE_ZEROES, ZERO_PIECE_BYTES,
				     ZERO_PIECE_BYTES), NBD_EIO);
	rig_expect_nothing();
	RIG_EXPECT_DONE({ 1, EIO });
	rig_close();
}

/* The next piece goes before requests that came later. */
static void pieces_keep_their_turn(void **state)
{
	uint64_t cookie, write;

	(void)state;
	rig_windows(THROTTLE_HEAD_BYTES + RIG_SLOT_BYTES, 1u << 30);
	rig_link_up();
	/* Beside the write there is room for one head. */
	rig_submit(NBD_CMD_WRITE, 0, RIG_SLOT_BYTES, 0);
	rig_submit(NBD_CMD_TRIM, 0, 2 * ZERO_PIECE_BYTES, 1);
	rig_submit(NBD_CMD_FLUSH, 0, 0, 2);
	rig_settle();
	write = rig_expect(NBD_CMD_WRITE, 0, RIG_SLOT_BYTES);
	cookie = rig_expect(NBD_CMD_TRIM, 0, ZERO_PIECE_BYTES);
	rig_answer_simple(cookie, 0);
	cookie = rig_expect(NBD_CMD_TRIM, ZERO_PIECE_BYTES, ZERO_PIECE_BYTES);
	rig_expect_nothing();
	rig_answer_simple(cookie, 0);
	rig_answer_simple(write, 0);
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 1, 0 }, { 0, 0 }, { 2, 0 });
	rig_close();
}

/* ---- refusals ---- */

static void what_the_export_does_not_allow(void **state)
{
	const uint16_t all = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH |
			     NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES;
	static const struct {
		uint16_t export_lacks, export_adds;
		uint16_t command, flags;
		uint64_t offset;
		uint32_t length;
		int error;
	} rows[] = {
		{ 0, 0, NBD_CMD_READ, 0, 0, RIG_SLOT_BYTES + 1, EINVAL },
		{ 0, 0, NBD_CMD_WRITE, 0, 0, RIG_SLOT_BYTES + 1, EINVAL },
		{ 0, 0, NBD_CMD_READ, 0, 0, UINT32_MAX, EINVAL },
		{ 0, 0, NBD_CMD_READ, 0, RIG_DISK_BYTES - 1, 2, EINVAL },
		{ 0, 0, NBD_CMD_WRITE, 0, RIG_DISK_BYTES, 1, ENOSPC },
		{ 0, 0, NBD_CMD_WRITE, 0, UINT64_MAX, 1, ENOSPC },
		{ 0, 0, NBD_CMD_READ, 0, 0, 0, EINVAL },
		{ 0, 0, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 1, EINVAL },
		{ 0, 0, NBD_CMD_READ, 0x8000, 0, 1, EINVAL },
		{ 0, 0, NBD_CMD_FLUSH, 0, 512, 0, EINVAL },
		{ NBD_FLAG_SEND_FLUSH, 0, NBD_CMD_FLUSH, 0, 0, 0, EOPNOTSUPP },
		{ NBD_FLAG_SEND_TRIM, 0, NBD_CMD_TRIM, 0, 0, 1, EOPNOTSUPP },
		{ NBD_FLAG_SEND_WRITE_ZEROES, 0, NBD_CMD_WRITE_ZEROES, 0, 0, 1,
		  EOPNOTSUPP },
		{ 0, 0, NBD_CMD_CACHE, 0, 0, 1, EOPNOTSUPP },
		{ 0, 0, 77, 0, 0, 1, EOPNOTSUPP },
		{ 0, NBD_FLAG_READ_ONLY, NBD_CMD_WRITE, 0, 0, 1, EPERM },
		{ 0, NBD_FLAG_READ_ONLY, NBD_CMD_TRIM, 0, 0, 1, EPERM },
	};

	(void)state;
	rig_link_up();
	for (uint64_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rig.e->export.flags = (uint16_t)((all & ~rows[i].export_lacks) |
						 rows[i].export_adds);
		fake_front_submit(&rig.fake, rows[i].command, rows[i].flags,
				  rows[i].offset, rows[i].length, i);
		rig_settle();
		rig_expect_nothing();
		RIG_EXPECT_DONE({ i, rows[i].error });
	}
	assert_int_equal(rig.stats.oversize, 3);
	assert_int_equal(rig.stats.errors[STATS_WRITE], 5);
	/* Each is told of once. */
	assert_int_equal(atomic_load(&rig.e->log.head),
			 sizeof(rows) / sizeof(rows[0]));
	assert_int_equal(rig.e->log.records[0].level, LOG_LEVEL_WARNING);
	/* As long as a slot: good. */
	rig_submit(NBD_CMD_READ, 0, RIG_SLOT_BYTES, 1);
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 1, 0 });
	rig_close();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(life_of_a_read),
		TEST(each_command),
		TEST(server_error_reaches_the_front),
		TEST(replies_out_of_order),
		TEST(generation_skips_zero),
		TEST(many_requests_in_one_send),
		TEST(batches_have_a_limit),
		TEST(requests_gather_behind_a_send),
		TEST(short_send_at_every_byte),
		TEST(send_is_tried_again),
		TEST(reply_before_send_is_complete),
		TEST(answers_split),
		TEST(long_payload_in_place),
		TEST(receive_is_armed_again),
		TEST(slots_run_out),
		TEST(window_holds_requests_back),
		TEST(one_is_always_admitted),
		TEST(zeroes_go_in_pieces),
		TEST(piece_borders),
		TEST(failed_piece_ends_the_request),
		TEST(pieces_keep_their_turn),
		TEST(what_the_export_does_not_allow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
