// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The engine when its link is lost, comes back, or is given up: nothing lost,
 * nothing twice, nothing ended that the server has not answered.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/engine_rig.h"

#define HEAD_BYTES sizeof(struct nbd_request)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define LONG_BYTES (RX_DIRECT_BYTES_MIN + 4000u)
#define TRIM_START (1ull << 30)
#define TRIM_BYTES (2 * ZERO_PIECE_BYTES + 512)

static uint64_t cookie_of(uint64_t tag)
{
	for (uint32_t i = 0; i < rig.config.slots; i++)
		if (rig.e->requests[i].state != REQUEST_FREE &&
		    rig.e->requests[i].front_tag == tag)
			return request_cookie(&rig.e->requests[i]);
	fail_msg("no request %llu is in flight", (unsigned long long)tag);
	return 0;
}

/* ---- lost at each point of three requests' lives ---- */

/* A write, a read that is received in place, a trim in pieces; tags 1 to 3. */
static void submit_three(void)
{
	rig_submit(NBD_CMD_WRITE, 0, 4096, 1);
	rig_submit(NBD_CMD_READ, 65536, LONG_BYTES, 2);
	rig_submit(NBD_CMD_TRIM, TRIM_START, TRIM_BYTES, 3);
}

static void before_sending(void)
{
	fake_ring.files[RING_LINK].send_held = true;
	rig_rounds(2);
	rig_expect_states(0, 0, 3, 0, 0, 0);
}

static void half_sent(void)
{
	fake_ring.files[RING_LINK].send_max = HEAD_BYTES + 100;
	rig_rounds(2);
	fake_ring.files[RING_LINK].send_held = true;
	rig_rounds(2);
	rig_expect_states(0, 0, 3, 0, 0, 0);
}

static void one_sent(void)
{
	fake_ring.files[RING_LINK].send_max = HEAD_BYTES + 4096 + 1;
	rig_rounds(2);
	fake_ring.files[RING_LINK].send_held = true;
	rig_rounds(2);
	rig_expect_states(0, 0, 2, 1, 0, 0);
}

static void all_sent(void)
{
	rig_settle();
	rig_expect_states(0, 0, 0, 3, 0, 0);
}

/* The server answers the read as far as `bytes`. */
static void answer_read_part(size_t bytes)
{
	uint64_t cookie;

	rig_settle();
	rig_expect(NBD_CMD_WRITE, 0, 4096);
	cookie = rig_expect(NBD_CMD_READ, 65536, LONG_BYTES);
	rig_answer_read(cookie, 65536, LONG_BYTES);
	rig.reply.used = bytes;
	rig_answer();
}

static void half_head(void)
{
	answer_read_part(13);
	rig_expect_states(0, 0, 0, 3, 0, 0);
}

static void head_alone(void)
{
	answer_read_part(20);
	rig_expect_states(0, 0, 0, 2, 1, 0);
}

static void mid_payload_copied(void)
{
	answer_read_part(28 + LONG_BYTES - 100);
	assert_false(rig.e->link_stream.placed);
	rig_expect_states(0, 0, 0, 2, 1, 0);
}

static void mid_payload_in_place(void)
{
	answer_read_part(28);
	assert_true(rig.e->link_stream.placed);
	fake_ring.files[RING_LINK].receive_max = 1000;
	rig_answer_read(0, 65536, LONG_BYTES);
	fake_ring_feed(RING_LINK, rig.reply.data + 28, 1000);
	rig.reply.used = 0;
	rig_settle();
	rig_expect_states(0, 0, 0, 2, 1, 0);
}

static void piece_half_done(void)
{
	uint64_t cookie;

	rig_settle();
	rig_expect(NBD_CMD_WRITE, 0, 4096);
	rig_expect(NBD_CMD_READ, 65536, LONG_BYTES);
	cookie = rig_expect(NBD_CMD_TRIM, TRIM_START, ZERO_PIECE_BYTES);
	rig_answer_simple(cookie, 0);
	rig_expect_states(0, 0, 0, 3, 0, 0);
}

/* An error that a chunk without DONE has told is no answer yet. */
static void half_an_error(void)
{
	uint64_t cookie;

	rig_settle();
	cookie = rig_expect(NBD_CMD_WRITE, 0, 4096);
	reply_error(&rig.reply, cookie, 0, NBD_EIO, "and more to follow");
	rig_answer();
	rig_expect_states(0, 0, 0, 2, 1, 0);
}

static const struct loss {
	const char *name;
	void (*arrange)(void);
	uint32_t pieces_done;
} losses[] = {
	{ "before sending", before_sending, 0 },
	{ "half sent", half_sent, 0 },
	{ "one sent", one_sent, 0 },
	{ "all sent", all_sent, 0 },
	{ "half a head received", half_head, 0 },
	{ "head received", head_alone, 0 },
	{ "amid a payload, copied", mid_payload_copied, 0 },
	{ "amid a payload, in place", mid_payload_in_place, 0 },
	{ "first piece done", piece_half_done, 1 },
	{ "half an error received", half_an_error, 0 },
};

/* On the new link: the same, in the same order, then tag 4; each ends once. */
static void expect_replay(uint32_t pieces_done)
{
	static struct rig_request write;
	uint64_t read, trim;

	rig_settle();
	assert_true(rig_next(&write));
	assert_int_equal(write.head.command, NBD_CMD_WRITE);
	assert_int_equal(write.head.length_bytes, 4096);
	for (uint32_t i = 0; i < 4096; i++)
		assert_int_equal(write.payload[i], fake_front_byte(1, i));
	read = rig_expect(NBD_CMD_READ, 65536, LONG_BYTES);
	rig_answer_simple(write.head.cookie, 0);
	rig_answer_read(read, 65536, LONG_BYTES);
	trim = rig_expect(NBD_CMD_TRIM,
			  TRIM_START + pieces_done * ZERO_PIECE_BYTES,
			  ZERO_PIECE_BYTES);
	reply_simple(&rig.reply, rig_expect(NBD_CMD_FLUSH, 0, 0), 0);
	rig_answer();
	for (uint32_t i = pieces_done + 1; i < 3; i++) {
		rig_answer_simple(trim, 0);
		trim = rig_expect(NBD_CMD_TRIM,
				  TRIM_START + i * ZERO_PIECE_BYTES,
				  i < 2 ? ZERO_PIECE_BYTES : 512);
	}
	rig_answer_simple(trim, 0);
	rig_expect_nothing();
	RIG_EXPECT_DONE({ 1, 0 }, { 2, 0 }, { 4, 0 }, { 3, 0 });
}

static void lost_at_each_point(void **state)
{
	(void)state;
	rig_close();
	for (size_t i = 0; i < COUNT(losses); i++) {
		uint32_t generations[3];

		rig_open(0, NULL);
		rig.what = losses[i].name;
		rig_link_up();
		submit_three();
		losses[i].arrange();
		for (uint32_t k = 0; k < 3; k++)
			generations[k] = rig.e->requests[k].generation;
		rig_link_down();
		rig_expect_states(0, 3, 0, 0, 0, 0);
		assert_int_equal(rig.stats.replayed_total, 3);
		assert_int_equal(rig.fake.done_count, 0);
		fake_ring.files[RING_LINK].send_max = 0;
		fake_ring.files[RING_LINK].receive_max = 0;
		/* What comes meanwhile queues behind. */
		rig_submit(NBD_CMD_FLUSH, 0, 0, 4);
		rig_link_up();
		for (uint32_t k = 0; k < 3; k++)
			assert_int_not_equal(rig.e->requests[k].generation,
					     generations[k]);
		rig_settle();
		rig_expect_states(0, 0, 0, 4, 0, 0);
		expect_replay(losses[i].pieces_done);
		rig_close();
	}
}

/* All three ends, in whatever order. */
static void expect_three_ends(void)
{
	bool seen[4] = { false };

	assert_int_equal(rig.fake.done_count, 3);
	for (uint32_t i = 0; i < 3; i++) {
		uint64_t tag = rig.fake.done[i].tag;

		assert_true(tag >= 1 && tag <= 3 && !seen[tag]);
		assert_int_equal(rig.fake.done[i].error, 0);
		seen[tag] = true;
	}
	rig.fake.done_count = 0;
}

/* The connection breaks after each number of bytes that the server gets. */
static void lost_at_every_byte_sent(void **state)
{
	const size_t all = 3 * HEAD_BYTES + 4096;

	(void)state;
	rig_close();
	for (size_t n = 1; n < all; n += n > 200 && n < 4000 ? 97 : 1) {
		rig_open(0, NULL);
		rig.at = n;
		rig_link_up();
		submit_three();
		fake_ring.files[RING_LINK].send_max = n;
		rig_rounds(2);
		fake_ring.files[RING_LINK].send_held = true;
		rig_rounds(1);
		fake_ring.files[RING_LINK].send_max = 0;
		rig_link_down();
		rig_link_up();
		assert_int_equal(rig_serve_all(), 5);
		expect_three_ends();
		rig_close();
	}
}

/* And after each number of bytes that it answers. */
static void lost_at_every_byte_received(void **state)
{
	size_t all = 1;

	(void)state;
	rig_close();
	for (size_t n = 0; n < all; n += n > 200 && n < all - 200 ? 331 : 1) {
		static struct rig_request got;

		rig_open(0, NULL);
		rig.at = n;
		rig.structured = n % 2;
		rig_link_up();
		submit_three();
		rig_settle();
		while (rig_next(&got))
			rig_answer_well(&got);
		all = rig.reply.used - 12; /* the simple one is shorter */
		rig.reply.used = n;
		rig_answer();
		rig_link_down();
		assert_int_equal(rig.stats.replayed_total +
				 rig.fake.done_count, 3);
		rig_link_up();
		rig_serve_all();
		expect_three_ends();
		rig_close();
	}
}

/* Lost again before the replay is through, many times. */
static void lost_again_and_again(void **state)
{
	(void)state;
	submit_three();
	for (uint32_t i = 0; i < 50; i++) {
		rig_link_up();
		rig_rounds(i % 4);
		rig_link_down();
		rig_expect_states(0, 3, 0, 0, 0, 0);
	}
	rig_link_up();
	assert_int_equal(rig_serve_all(), 5);
	RIG_EXPECT_DONE({ 1, 0 }, { 2, 0 }, { 3, 0 });
	assert_int_equal(rig.stats.replayed_total, 150);
	rig_close();
}

/*
 * Answered while we were still sending, then lost. An error is an answer. A
 * success is none as long as the payload may not have reached the server: sent
 * once more it does no harm, taken as done it might be a write that never was.
 */
static void answered_but_not_sent(void **state)
{
	(void)state;
	rig_link_up();
	submit_three();
	fake_ring.files[RING_LINK].send_max = HEAD_BYTES + 100;
	rig_rounds(2);
	fake_ring.files[RING_LINK].send_held = true;
	rig_answer_simple(cookie_of(1), 0);
	rig_link_down();
	fake_ring.files[RING_LINK].send_max = 0;
	assert_int_equal(rig.fake.done_count, 0);
	rig_link_up();
	assert_int_equal(rig_serve_all(), 5);
	expect_three_ends();

	submit_three();
	fake_ring.files[RING_LINK].send_max = HEAD_BYTES + 100;
	rig_rounds(2);
	fake_ring.files[RING_LINK].send_held = true;
	rig_answer_simple(cookie_of(1), NBD_ENOSPC);
	assert_int_equal(rig.fake.done_count, 0);
	rig_link_down();
	fake_ring.files[RING_LINK].send_max = 0;
	RIG_EXPECT_DONE({ 1, ENOSPC });
	rig_link_up();
	assert_int_equal(rig_serve_all(), 4);
	RIG_EXPECT_DONE({ 2, 0 }, { 3, 0 });
	rig_close();
}

/* ---- how a link is lost ---- */

#define NOT_IN_FLIGHT "a reply to a request that is not in flight"

static void expect_lost(int error, const char *reason)
{
	const char *got = atomic_load(&rig.e->news.link_reason);

	if (!(rig.news & NEWS_LINK_LOST))
		fail_msg("the link was not lost: %s", reason ? reason : "");
	assert_int_equal(atomic_load(&rig.e->news.link_error), error);
	if (!reason)
		assert_null(got);
	else if (!got || strncmp(got, reason, strlen(reason)) != 0)
		fail_msg("lost for \"%s\", not \"%s\"", got ? got : "nothing",
			 reason);
	rig_link_idle();
}

static void reasons_of_loss(void **state)
{
	(void)state;
	submit_three();
	rig_link_up();
	rig_settle();
	fake_ring.files[RING_LINK].ended = true;
	rig_rounds(2);
	expect_lost(0, NULL);

	rig_link_up();
	rig_settle();
	fake_ring.files[RING_LINK].receive_error = -ECONNRESET;
	rig_rounds(2);
	expect_lost(ECONNRESET, NULL);

	rig_link_up();
	fake_ring.files[RING_LINK].send_error = -EPIPE;
	rig_rounds(2);
	expect_lost(EPIPE, NULL);

	rig_link_up();
	rig_settle();
	fake_ring.files[RING_LINK].end_takes_buffer = true;
	fake_ring.files[RING_LINK].ended = true;
	rig_rounds(2);
	expect_lost(0, NULL);

	rig_link_up();
	rig_settle();
	fake_ring_feed(RING_LINK, "HTTP/1.1 400 Bad Request", 24);
	rig_rounds(2);
	expect_lost(EPROTO, "what came is not a reply");

	rig_link_up();
	engine_post(rig.e, MAIL_LINK_DROP);
	rig_rounds(1);
	expect_lost(0, "given up by command");
	engine_post(rig.e, MAIL_LINK_DROP); /* there is none */
	rig_rounds(2);
	assert_int_equal(rig_take_news(), 0);

	rig_link_up();
	assert_int_equal(rig_serve_all(), 5);
	expect_three_ends();
	rig_close();
}

/* A chunk that comes in place and is too short as an answer. */
static void broken_in_place(void **state)
{
	static uint8_t data[LONG_BYTES];
	uint64_t cookie;

	(void)state;
	rig_link_up();
	rig_submit(NBD_CMD_READ, 0, LONG_BYTES, 1);
	rig_settle();
	cookie = rig_expect(NBD_CMD_READ, 0, LONG_BYTES);
	reply_data(&rig.reply, cookie, REPLY_DONE, 0, data, LONG_BYTES - 1);
	fake_ring_feed(RING_LINK, rig.reply.data, 28);
	rig_settle();
	assert_true(rig.e->link_stream.placed);
	fake_ring_feed(RING_LINK, rig.reply.data + 28, rig.reply.used - 28);
	rig.reply.used = 0;
	rig_settle();
	expect_lost(EPROTO, "a read was answered with less");
	rig_link_up();
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 1, 0 });
	rig_close();
}

/* Answers to nothing: each ends the link, and no request. */
static void stray_replies(void **state)
{
	static const struct {
		int32_t generation; /* relative to that in flight */
		uint32_t index;
		uint64_t stale;
	} rows[] = {
		{ -1, 0, 1 }, /* answered before */
		{ 1, 0, 1 },  /* not sent yet */
		{ 0, 1, 1 },  /* a slot never used */
		{ 0, UINT32_MAX, 0 },
		{ -1, 9, 0 }, /* no such slot */
	};
	struct request *r;

	(void)state;
	rig_link_up();
	rig_submit(NBD_CMD_READ, 0, 512, 1);
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 1, 0 });
	r = rig_submit(NBD_CMD_READ, 0, 512, 1);
	assert_int_equal(r->index, 0);
	for (size_t i = 0; i < COUNT(rows); i++) {
		uint64_t stale = rig.stats.stale_replies;
		uint32_t generation;

		rig_settle();
		generation = r->generation + (uint32_t)rows[i].generation;
		rig_answer_simple((uint64_t)generation << 32 | rows[i].index, 0);
		expect_lost(EPROTO, NOT_IN_FLIGHT);
		assert_int_equal(rig.stats.stale_replies, stale + rows[i].stale);
		assert_int_equal(rig.fake.done_count, 0);
		rig_link_up();
	}
	/* Generation 0, of a slot that is free. */
	rig_settle();
	rig_answer_simple(3, 0);
	expect_lost(EPROTO, NOT_IN_FLIGHT);
	rig_link_up();
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 1, 0 });
	rig_close();
}

/* A late answer of the old connection that turns up on the new one. */
static void answer_of_the_old_link(void **state)
{
	uint64_t cookie;

	(void)state;
	rig_link_up();
	rig_submit(NBD_CMD_WRITE, 0, 512, 1);
	rig_settle();
	cookie = rig_expect(NBD_CMD_WRITE, 0, 512);
	rig_link_down();
	rig_link_up();
	rig_settle();
	rig_answer_simple(cookie, 0);
	assert_int_equal(rig.stats.stale_replies, 1);
	expect_lost(EPROTO, NOT_IN_FLIGHT);
	assert_int_equal(rig.fake.done_count, 0);
	rig_link_up();
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 1, 0 });
	rig_close();
}

/* Twice for a write whose send is not complete: no second end either. */
static void duplicate_before_sent(void **state)
{
	uint64_t cookie;

	(void)state;
	rig_link_up();
	cookie = 1ull << 32 | rig_submit(NBD_CMD_WRITE, 0, 512, 1)->index;
	fake_ring.files[RING_LINK].send_max = 100;
	rig_rounds(2);
	fake_ring.files[RING_LINK].send_held = true;
	reply_simple(&rig.reply, cookie, 0);
	rig_answer_simple(cookie, 0);
	expect_lost(EPROTO, NOT_IN_FLIGHT);
	fake_ring.files[RING_LINK].send_max = 0;
	rig_link_up();
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 1, 0 });
	rig_close();
}

/* ---- ESHUTDOWN ---- */

#define GOING_AWAY "the server is shutting down"

static void shutdown_is_no_answer(void **state)
{
	uint64_t cookie;

	(void)state;
	for (int structured = 0; structured < 2; structured++) {
		rig.structured = structured;
		rig_link_up();
		rig_submit(NBD_CMD_WRITE, 0, 512, 1);
		rig_submit(NBD_CMD_TRIM, 0, 512, 2);
		rig_settle();
		cookie = rig_expect(NBD_CMD_WRITE, 0, 512);
		if (structured)
			reply_error(&rig.reply, cookie, REPLY_DONE,
				    NBD_ESHUTDOWN, "maintenance");
		else
			reply_simple(&rig.reply, cookie, NBD_ESHUTDOWN);
		rig_answer();
		assert_int_equal(rig.fake.done_count, 0);
		expect_lost(0, GOING_AWAY);
		rig_link_up();
		assert_int_equal(rig_serve_all(), 2);
		RIG_EXPECT_DONE({ 1, 0 }, { 2, 0 });
		rig_link_down();
	}
	rig_close();
}

static void shutdown_before_sent(void **state)
{
	(void)state;
	rig_link_up();
	submit_three();
	fake_ring.files[RING_LINK].send_max = HEAD_BYTES + 100;
	rig_rounds(2);
	fake_ring.files[RING_LINK].send_held = true;
	rig_answer_simple(cookie_of(1), NBD_ESHUTDOWN);
	fake_ring.files[RING_LINK].send_held = false;
	fake_ring.files[RING_LINK].send_max = 0;
	rig_settle();
	expect_lost(0, GOING_AWAY);
	rig_expect_states(0, 3, 0, 0, 0, 0);
	rig_link_up();
	assert_int_equal(rig_serve_all(), 5);
	expect_three_ends();

	/* The link breaks before the send has ended. */
	submit_three();
	fake_ring.files[RING_LINK].send_max = HEAD_BYTES + 100;
	rig_rounds(2);
	fake_ring.files[RING_LINK].send_held = true;
	rig_answer_simple(cookie_of(1), NBD_ESHUTDOWN);
	rig_link_down();
	fake_ring.files[RING_LINK].send_max = 0;
	rig_expect_states(0, 3, 0, 0, 0, 0);
	rig_link_up();
	assert_int_equal(rig_serve_all(), 5);
	expect_three_ends();
	rig_close();
}

/*
 * What stands behind it in the same receive buffer are answers as good as any,
 * and the buffer must be ours for as long as we read in it.
 */
static void answers_behind_a_shutdown(void **state)
{
	uint64_t a, b, c;

	(void)state;
	rig_link_up();
	rig_submit(NBD_CMD_READ, 0, 40, 1);
	rig_submit(NBD_CMD_WRITE, 512, 512, 2);
	rig_submit(NBD_CMD_READ, 1024, 40, 3);
	rig_settle();
	a = rig_expect(NBD_CMD_READ, 0, 40);
	b = rig_expect(NBD_CMD_WRITE, 512, 512);
	c = rig_expect(NBD_CMD_READ, 1024, 40);
	reply_simple(&rig.reply, b, NBD_ESHUTDOWN);
	rig_answer_read(a, 0, 40);
	rig_answer_read(c, 1024, 40);
	rig_answer();
	RIG_EXPECT_DONE({ 1, 0 }, { 3, 0 });
	expect_lost(0, GOING_AWAY);
	rig_link_up();
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 2, 0 });
	rig_close();
}

/* After a long read the next one's payload is not copied at all. */
static void long_payload_without_a_copy(void **state)
{
	uint32_t bytes = RX_HEAD_ALONE_BYTES_MIN;

	(void)state;
	rig_close();
	for (int structured = 0; structured < 2; structured++) {
		uint64_t receives;

		rig_open(0, NULL);
		rig.structured = structured;
		rig_link_up();
		rig_submit(NBD_CMD_READ, 0, bytes, 1);
		assert_int_equal(rig_serve_all(), 1);
		rig_submit(NBD_CMD_READ, 0, bytes, 2);
		rig_settle();
		receives = rig.stats.link_receives;
		rig_answer_read(rig_expect(NBD_CMD_READ, 0, bytes), 0, bytes);
		fake_ring_feed(RING_LINK, rig.reply.data, 100);
		rig_rounds(1);
		assert_true(rig.e->link_stream.placed);
		assert_true(rig.e->link_rx.left >= bytes - 12);
		fake_ring_feed(RING_LINK, rig.reply.data + 100,
			       rig.reply.used - 100);
		rig.reply.used = 0;
		rig_settle();
		RIG_EXPECT_DONE({ 1, 0 }, { 2, 0 });
		/* This one, and the one armed now. */
		assert_int_equal(rig.stats.link_receives, receives + 2);
		/* A short one is received whole by the second piece. */
		rig_submit(NBD_CMD_READ, 0, 512, 3);
		assert_int_equal(rig_serve_all(), 1);
		RIG_EXPECT_DONE({ 3, 0 });
		assert_int_equal(rig.stats.link_receives, receives + 4);
		rig_close();
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lost_at_each_point),
		TEST(lost_at_every_byte_sent),
		TEST(lost_at_every_byte_received),
		TEST(lost_again_and_again),
		TEST(answered_but_not_sent),
		TEST(reasons_of_loss),
		TEST(broken_in_place),
		TEST(long_payload_without_a_copy),
		TEST(stray_replies),
		TEST(answer_of_the_old_link),
		TEST(duplicate_before_sent),
		TEST(shutdown_is_no_answer),
		TEST(shutdown_before_sent),
		TEST(answers_behind_a_shutdown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
