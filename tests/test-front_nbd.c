// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The nbd front on an engine, both on the fake ring: the test is nbd.ko on one
 * side and the server on the other.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "nbd-client/front_nbd.h"
#include "tests/engine_rig.h"

#define HEAD_BYTES sizeof(struct nbd_request)
#define REPLY_HEAD_BYTES sizeof(struct nbd_simple_reply)
#define COOKIE 0xabcdef0100000000ull

static struct front_nbd front;

/* ---- the kernel's part ---- */

/* What the kernel sends is gathered here first. */
static struct reply_bytes said;

static int set_up(void **state)
{
	(void)state;
	memset(&front, 0, sizeof(front));
	front_nbd_init(&front);
	said.used = 0;
	rig_open(0, &front.front);
	rig_rounds(1); /* before the front is open */
	rig.e->mail.front_fd = 101;
	engine_post(rig.e, MAIL_FRONT_UP);
	rig_rounds(1);
	rig_link_up();
	return 0;
}

static void say(uint16_t command, uint64_t offset, uint32_t length, uint64_t tag)
{
	struct proto_request p = {
		.command = command,
		.cookie = COOKIE + tag,
		.offset_bytes = offset,
		.length_bytes = length,
	};
	uint8_t head[HEAD_BYTES];

	proto_put_request(head, &p);
	reply_raw(&said, head, sizeof(head));
	if (command != NBD_CMD_WRITE)
		return;
	for (uint32_t i = 0; i < length; i++) {
		uint8_t byte = fake_front_byte(tag, offset + i);

		reply_raw(&said, &byte, 1);
	}
}

static void send_said(void)
{
	fake_ring_feed(RING_FRONT, said.data, said.used);
	said.used = 0;
	rig_settle();
}

/* The kernel has got a whole answer; *ret_payload to `length` bytes of it. */
static bool next_answer(uint64_t *ret_tag, uint32_t *ret_error)
{
	struct proto_reply reply;
	const uint8_t *from;
	size_t bytes = fake_ring_sent(RING_FRONT, &from);

	if (bytes < REPLY_HEAD_BYTES)
		return false;
	assert_int_equal(proto_get_reply(&reply, from, REPLY_HEAD_BYTES), 16);
	assert_false(reply.structured);
	*ret_tag = reply.cookie - COOKIE;
	*ret_error = reply.error;
	return true;
}

static void expect_answer(uint64_t tag, uint32_t error)
{
	uint64_t got_tag = 0;
	uint32_t got_error = 0;

	if (!next_answer(&got_tag, &got_error))
		fail_msg("no answer for %llu", (unsigned long long)tag);
	if (got_tag != tag || got_error != error)
		fail_msg("answer for %llu with error %u, not for %llu with %u",
			 (unsigned long long)got_tag, got_error,
			 (unsigned long long)tag, error);
	fake_ring_take(RING_FRONT, REPLY_HEAD_BYTES);
}

static void expect_read(uint64_t tag, uint64_t offset, uint32_t length)
{
	const uint8_t *from;

	expect_answer(tag, 0);
	assert_true(fake_ring_sent(RING_FRONT, &from) >= length);
	for (uint32_t i = 0; i < length; i++)
		assert_int_equal(from[i], rig_disk_byte(offset + i));
	fake_ring_take(RING_FRONT, length);
}

static void expect_no_answer(void)
{
	const uint8_t *from;

	assert_int_equal(fake_ring_sent(RING_FRONT, &from), 0);
}

/* The server got a write with the right payload; returns its cookie. */
static uint64_t expect_write(uint64_t offset, uint32_t length, uint64_t tag)
{
	static struct rig_request got;

	assert_true(rig_next(&got));
	assert_int_equal(got.head.command, NBD_CMD_WRITE);
	assert_int_equal(got.head.offset_bytes, offset);
	assert_int_equal(got.head.length_bytes, length);
	for (uint32_t i = 0; i < length; i++)
		assert_int_equal(got.payload[i],
				 fake_front_byte(tag, offset + i));
	return got.head.cookie;
}

/* ---- good requests ---- */

static void each_command(void **state)
{
	(void)state;
	say(NBD_CMD_READ, 4096, 512, 1);
	say(NBD_CMD_WRITE, 0, 600, 2);
	say(NBD_CMD_FLUSH, 0, 0, 3);
	say(NBD_CMD_TRIM, 0, 1u << 31, 4); /* in pieces */
	say(NBD_CMD_WRITE_ZEROES, 1, 1, 5);
	send_said();
	assert_int_equal(rig.stats.front_receives, 2); /* and one is armed */
	assert_int_equal(rig_serve_all(), 4 + 16);
	expect_read(1, 4096, 512);
	expect_answer(2, 0);
	expect_answer(3, 0);
	expect_answer(5, 0);
	expect_answer(4, 0);
	expect_no_answer();
	rig_close();
}

/* A stream of requests that goes in place, split at every byte, in shreds. */
static void split_and_check(size_t split, size_t shred)
{
	const uint32_t length = RX_DIRECT_BYTES_MIN + 300;
	uint64_t a, b, c;

	fake_ring.files[RING_FRONT].receive_max = shred;
	say(NBD_CMD_WRITE, 0, 40, 1);
	say(NBD_CMD_READ, 4096, 10, 2);
	say(NBD_CMD_WRITE, 512, length, 3);
	if (split > said.used)
		split = said.used;
	fake_ring_feed(RING_FRONT, said.data, split);
	rig_settle();
	fake_ring_feed(RING_FRONT, said.data + split, said.used - split);
	said.used = 0;
	rig_settle();
	a = expect_write(0, 40, 1);
	b = rig_expect(NBD_CMD_READ, 4096, 10);
	c = expect_write(512, length, 3);
	reply_simple(&rig.reply, c, 0);
	rig_answer_read(b, 4096, 10);
	reply_simple(&rig.reply, a, 0);
	rig_answer();
	expect_answer(3, 0);
	expect_read(2, 4096, 10);
	expect_answer(1, 0);
	expect_no_answer();
	rig_close();
}

static void requests_split(void **state)
{
	const size_t all = 3 * HEAD_BYTES + 40 + RX_DIRECT_BYTES_MIN + 300;

	rig_close();
	for (size_t split = 0; split <= all;
	     split += split < 200 || split > all - 50 ? 1 : 509) {
		set_up(state);
		rig.at = split;
		split_and_check(split, 0);
	}
	for (size_t shred = 1; shred < 5000; shred = 2 * shred + 1) {
		set_up(state);
		rig.at = shred;
		split_and_check(0, shred);
	}
}

static void answers_split(void **state)
{
	const size_t all = 2 * REPLY_HEAD_BYTES + 40;

	rig_close();
	for (size_t n = 1; n <= all; n++) {
		set_up(state);
		rig.at = n;
		fake_ring.files[RING_FRONT].send_max = n;
		say(NBD_CMD_READ, 0, 40, 1);
		say(NBD_CMD_FLUSH, 0, 0, 2);
		send_said();
		assert_int_equal(rig_serve_all(), 2);
		expect_read(1, 0, 40);
		expect_answer(2, 0);
		rig_close();
	}
}

/* A slot is busy until its payload has left for the kernel. */
static void slot_is_kept_while_the_answer_leaves(void **state)
{
	(void)state;
	fake_ring.files[RING_FRONT].send_held = true;
	say(NBD_CMD_READ, 0, 40, 1);
	send_said();
	rig_serve_all();
	rig_expect_states(0, 0, 0, 0, 0, 1);
	fake_ring.files[RING_FRONT].send_held = false;
	rig_settle();
	rig_expect_states(0, 0, 0, 0, 0, 0);
	expect_read(1, 0, 40);
	rig_close();
}

/* ---- no slot ---- */

/* More requests than slots, cut at every byte: the rest waits in the buffer. */
static void stall_and_resume(void **state)
{
	const uint32_t count = 12; /* 8 slots */
	const size_t each = HEAD_BYTES + 3;

	rig_close();
	for (size_t split = 0; split <= 2 * each; split++) {
		set_up(state);
		rig.at = split;
		for (uint64_t i = 0; i < count; i++)
			say(NBD_CMD_WRITE, 8 * i, 3, i);
		fake_ring_feed(RING_FRONT, said.data, 7 * each + split);
		rig_settle();
		fake_ring_feed(RING_FRONT, said.data + 7 * each + split,
			       said.used - 7 * each - split);
		rig_rounds(3);
		said.used = 0;
		rig_expect_states(0, 0, 0, 8, 0, 0);
		assert_true(rig.stats.front_stalls > 0);
		assert_true(front.stream.held);
		assert_false(stream_busy(&front.stream));
		for (uint64_t i = 0; i < count; i++) {
			rig_answer_simple(expect_write(8 * i, 3, i), 0);
			expect_answer(i, 0);
		}
		assert_false(front.stream.held);
		assert_true(stream_busy(&front.stream));
		rig_close();
	}
}

/* ---- refusals ---- */

/* Payload of a refused write is thrown away, and what follows is served. */
static void refused_payload_is_skipped(void **state)
{
	static const uint32_t lengths[] = { RIG_SLOT_BYTES + 1,
					    3 * RIG_SLOT_BYTES };

	rig_close();
	for (int i = 0; i < 2; i++) {
		for (size_t shred = 0; shred < 20000; shred = shred * 3 + 1) {
			set_up(state);
			rig.at = shred;
			fake_ring.files[RING_FRONT].receive_max = shred;
			say(NBD_CMD_WRITE, 0, lengths[i], 1);
			say(NBD_CMD_WRITE, RIG_DISK_BYTES, 1000, 2);
			say(NBD_CMD_FLUSH, 0, 0, 3);
			send_said();
			assert_int_equal(rig_serve_all(), 1);
			expect_answer(1, NBD_EINVAL);
			expect_answer(2, NBD_ENOSPC);
			expect_answer(3, 0);
			assert_int_equal(rig.stats.oversize, 1);
			rig_close();
		}
	}
}

static void refused_without_payload(void **state)
{
	(void)state;
	rig.e->export.flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY;
	say(NBD_CMD_READ, 0, RIG_SLOT_BYTES + 1, 1);
	say(NBD_CMD_WRITE, 0, 512, 2);
	say(NBD_CMD_WRITE, 0, 0, 3);
	say(NBD_CMD_TRIM, 0, 512, 4);
	say(NBD_CMD_BLOCK_STATUS, 0, 512, 5);
	say(12345, 0, 512, 6);
	say(NBD_CMD_READ, 0, 512, 7);
	send_said();
	assert_int_equal(rig_serve_all(), 1);
	expect_answer(1, NBD_EINVAL);
	expect_answer(2, NBD_EPERM);
	expect_answer(3, NBD_EPERM);
	expect_answer(4, NBD_ENOTSUP);
	expect_answer(5, NBD_ENOTSUP);
	expect_answer(6, NBD_ENOTSUP);
	expect_read(7, 0, 512);
	rig_close();
}

static void server_errors_are_passed_on(void **state)
{
	static const uint32_t errors[] = { NBD_EPERM, NBD_EIO, NBD_ENOMEM,
					   NBD_EINVAL, NBD_ENOSPC };

	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		say(NBD_CMD_READ, 0, 512, i);
		send_said();
		reply_error(&rig.reply, rig_expect(NBD_CMD_READ, 0, 512),
			    REPLY_DONE, errors[i], "no");
		rig_answer();
		expect_answer(i, errors[i]); /* and no payload */
		expect_no_answer();
	}
	rig_close();
}

/* ---- the link ---- */

static void link_lost_and_back(void **state)
{
	uint64_t cookie;

	(void)state;
	say(NBD_CMD_WRITE, 0, 600, 1);
	say(NBD_CMD_READ, 0, 512, 2);
	send_said();
	rig_link_down();
	/* The kernel goes on. */
	say(NBD_CMD_FLUSH, 0, 0, 3);
	send_said();
	expect_no_answer();
	rig_link_up();
	rig_settle();
	cookie = expect_write(0, 600, 1);
	rig_answer_simple(cookie, 0);
	assert_int_equal(rig_serve_all(), 2);
	expect_answer(1, 0);
	expect_read(2, 0, 512);
	expect_answer(3, 0);
	/* Given up: errors at once. */
	rig_link_down();
	engine_post(rig.e, MAIL_FAIL);
	say(NBD_CMD_READ, 0, 512, 4);
	send_said();
	expect_answer(4, NBD_EIO);
	expect_no_answer();
	rig_close();
}

/* ---- the end ---- */

static void expect_gone(void)
{
	assert_true(rig_take_news() & NEWS_FRONT_GONE);
	assert_true(front.front.gone);
	rig_rounds(3);
	assert_int_equal(rig_take_news(), 0); /* told once */
}

static void kernel_closes(void **state)
{
	static const int ways = 5;

	rig_close();
	for (int way = 0; way < ways; way++) {
		set_up(state);
		rig.at = (size_t)way;
		switch (way) {
		case 0: /* end of file */
			fake_ring.files[RING_FRONT].ended = true;
			break;
		case 1:
			fake_ring.files[RING_FRONT].receive_error = -ECONNRESET;
			break;
		case 2:
			say(NBD_CMD_DISC, 0, 0, 1);
			break;
		case 3: /* not a request */
			reply_raw(&said, "GET / HTTP/1.0\r\nHost: there\r\n\r\n",
				  30);
			break;
		default: /* in the middle of a head */
			say(NBD_CMD_READ, 0, 512, 1);
			said.used = 20;
			fake_ring.files[RING_FRONT].ended = true;
			break;
		}
		send_said();
		expect_gone();
		/* Else another process may take the device over. */
		assert_int_equal(front.front.dismissed, way == 2);
		rig_expect_states(0, 0, 0, 0, 0, 0);
		fake_ring_shutdown(RING_FRONT);
		rig_settle();
		/* The goodbye to the server. */
		engine_post(rig.e, MAIL_CLOSE);
		rig_settle();
		rig_expect(NBD_CMD_DISC, 0, 0);
		assert_int_equal(rig_take_news(), NEWS_CLOSED);
		rig_close();
	}
}

/* In the middle of payloads, received in place or not. */
static void closes_amid_a_write(void **state)
{
	static const size_t cuts[] = { HEAD_BYTES, HEAD_BYTES + 1, 15000 };

	rig_close();
	for (size_t i = 0; i < 3; i++) {
		set_up(state);
		say(NBD_CMD_WRITE, 0, 20000, 1);
		said.used = cuts[i];
		send_said();
		rig_expect_states(1, 0, 0, 0, 0, 0);
		fake_ring.files[RING_FRONT].ended = true;
		rig_settle();
		expect_gone();
		rig_expect_states(0, 0, 0, 0, 0, 0);
		rig_expect_nothing();
		rig_close();
	}
}

/*
 * The sending side breaks while a receive into a slot is still with the kernel:
 * the slot is free only when that has ended.
 */
static void slot_of_an_armed_receive(void **state)
{
	(void)state;
	say(NBD_CMD_FLUSH, 0, 0, 1);
	say(NBD_CMD_WRITE, 0, 20000, 2);
	said.used = 2 * HEAD_BYTES + 10;
	send_said();
	assert_true(front.stream.placed);
	fake_ring.files[RING_FRONT].send_error = -EPIPE;
	rig_answer_simple(rig_expect(NBD_CMD_FLUSH, 0, 0), 0);
	expect_gone();
	assert_true(stream_busy(&front.stream));
	/* the flush's slot is free, the write's is not */
	rig_expect_states(1, 0, 0, 0, 0, 0);
	engine_post(rig.e, MAIL_CLOSE);
	rig_rounds(3);
	assert_int_equal(rig_take_news(), 0);
	fake_ring_shutdown(RING_FRONT);
	rig_settle();
	rig_expect(NBD_CMD_DISC, 0, 0);
	assert_int_equal(rig_take_news(), NEWS_CLOSED);
	rig_close();
}

/* Answers that come when nobody waits for them any more. */
static void gone_with_requests_in_flight(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 5; i++)
		say(NBD_CMD_READ, i * 512, 512, i);
	send_said();
	fake_ring.files[RING_FRONT].send_held = true;
	rig_answer_read(rig_expect(NBD_CMD_READ, 0, 512), 0, 512);
	rig_answer();
	rig_answer_read(rig_expect(NBD_CMD_READ, 512, 512), 512, 512);
	rig_answer();
	rig_expect_states(0, 0, 0, 3, 0, 2);
	fake_ring.files[RING_FRONT].ended = true;
	rig_rounds(3);
	expect_gone();
	/* One is with the kernel, the other behind it. */
	rig_expect_states(0, 0, 0, 3, 0, 2);
	engine_post(rig.e, MAIL_CLOSE);
	fake_ring_shutdown(RING_FRONT);
	rig_rounds(2);
	rig_expect_states(0, 0, 0, 3, 0, 0);
	assert_int_equal(rig_serve_all(), 3 + 1);
	assert_int_equal(rig_take_news(), NEWS_CLOSED);
	rig_close();
}

/* Likewise when the link is down: only giving up ends it. */
static void gone_without_a_link(void **state)
{
	(void)state;
	say(NBD_CMD_WRITE, 0, 512, 1);
	send_said();
	rig_link_down();
	fake_ring.files[RING_FRONT].ended = true;
	rig_settle();
	expect_gone();
	engine_post(rig.e, MAIL_CLOSE);
	rig_rounds(5);
	assert_int_equal(rig_take_news(), 0);
	engine_post(rig.e, MAIL_FAIL);
	rig_rounds(2);
	assert_int_equal(rig_take_news(), NEWS_CLOSED);
	rig_close();
}

/* ---- by the dice ---- */

#define GAME_REQUESTS 6000u

static struct {
	bool used;
	uint16_t command;
	uint64_t offset;
	uint32_t length;
} game[16];

static void game_say(void)
{
	for (uint32_t i = 0; i < 16; i++) {
		if (game[i].used || fake_ring_roll(3))
			continue;
		game[i].used = true;
		game[i].command = (uint16_t)fake_ring_roll(2);
		game[i].length = 1 + fake_ring_roll(fake_ring_roll(4) ?
							    300 : 20000);
		game[i].offset = fake_ring_roll(1u << 30);
		/* The tag of a write is its pattern: constant for a place. */
		say(game[i].command, game[i].offset, game[i].length, i);
		fake_ring_feed(RING_FRONT, said.data, said.used);
		said.used = 0;
	}
}

static uint32_t game_hear(void)
{
	uint32_t heard = 0, error;
	uint64_t tag;

	while (next_answer(&tag, &error)) {
		const uint8_t *from;

		assert_true(tag < 16 && game[tag].used);
		if (game[tag].command == NBD_CMD_READ) {
			if (fake_ring_sent(RING_FRONT, &from) <
			    REPLY_HEAD_BYTES + game[tag].length)
				break;
			expect_read(tag, game[tag].offset, game[tag].length);
		} else {
			expect_answer(tag, 0);
		}
		game[tag].used = false;
		heard++;
	}
	return heard;
}

static void random_bytes(void **state)
{
	uint32_t answered = 0;

	(void)state;
	fake_ring.dice = 4711;
	for (uint32_t i = 0; answered < GAME_REQUESTS; i++) {
		static struct rig_request got;

		assert_true(i < 40 * GAME_REQUESTS);
		game_say();
		rig_rounds(1 + fake_ring_roll(3));
		while (fake_ring_roll(3) && rig_next(&got)) {
			rig_answer_well(&got);
			fake_ring_feed(RING_LINK, rig.reply.data,
				       rig.reply.used);
			rig.reply.used = 0;
		}
		answered += game_hear();
		if (fake_ring_roll(300) == 0) {
			rig_link_down();
			rig_link_up();
		}
	}
	assert_true(rig.stats.front_stalls > 100);
	assert_true(rig.stats.replayed_total > 10);
	fake_ring.dice = 0;
	for (uint32_t i = 0; i < 100; i++) {
		rig_serve_all();
		game_hear();
	}
	rig_close();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_command),
		TEST(requests_split),
		TEST(answers_split),
		TEST(slot_is_kept_while_the_answer_leaves),
		TEST(stall_and_resume),
		TEST(refused_payload_is_skipped),
		TEST(refused_without_payload),
		TEST(server_errors_are_passed_on),
		TEST(link_lost_and_back),
		TEST(kernel_closes),
		TEST(closes_amid_a_write),
		TEST(slot_of_an_armed_receive),
		TEST(gone_with_requests_in_flight),
		TEST(gone_without_a_link),
		TEST(random_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
