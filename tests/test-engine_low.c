// SPDX-License-Identifier: GPL-2.0-or-later
/* The engine while memory is low, and its way there and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/engine_rig.h"

/*
 * A server that answers nothing before the window is full, then everything in
 * one go: `count` are under way each time, neither more nor less.
 */
static void serve_in_bursts(uint32_t total, uint32_t length, uint32_t count)
{
	static struct rig_request got;

	for (uint32_t i = 0; i < total; i++)
		rig_submit(NBD_CMD_READ, i * (uint64_t)length, length, i);
	for (uint32_t done = 0; done < total; done += count) {
		uint32_t due = total - done < count ? total - done : count;

		rig_settle();
		rig_expect_states(0, total - done - due, 0, due, 0, 0);
		for (uint32_t i = 0; i < due; i++) {
			assert_true(rig_next(&got));
			rig_answer_well(&got);
		}
		rig_expect_nothing();
		assert_true(rig.reply.used <= rig.e->throttle.max.rx_bytes);
		rig_answer();
	}
	assert_int_equal(rig.fake.done_count, total);
	rig.fake.done_count = 0;
}

static void window_filled_then_answered(void **state)
{
	const uint32_t length = 20000;

	(void)state;
	rig_close();
	rig_open_pool(32, 4, NULL);
	rig_windows(1u << 30, 10 * (length + 28));
	for (uint32_t i = 0; i < 32; i++)
		pool_give_home(&rig.e->pool, i);
	rig_link_up();
	serve_in_bursts(32, length, 10);
	engine_post(rig.e, MAIL_TIGHT);
	rig_rounds(1);
	assert_true(engine_is_low(rig.e));
	serve_in_bursts(32, length, RIG_REQUEST_BYTES / (length + 28));
	serve_in_bursts(32, 100, 4); /* the reserve has four slots */
	assert_int_equal(rig.stats.groups[GROUP_SLOTS].peak_bytes,
			 4 * RIG_SLOT_BYTES);
	/* It opens by what is answered: not at once, but soon. */
	engine_post(rig.e, MAIL_PLENTY);
	rig_rounds(1);
	assert_false(engine_is_low(rig.e));
	assert_int_equal(rig.stats.window_rx_bytes, RIG_REQUEST_BYTES);
	for (uint64_t i = 0; i < 8; i++) {
		rig_submit(NBD_CMD_READ, 0, length, i);
		rig_serve_all();
	}
	rig.fake.done_count = 0;
	serve_in_bursts(32, length, 10);
	assert_int_equal(rig.stats.window_closings, 1);
	rig_close();
}

/* The reserve opens when the base is not whole, and is low until it is back. */
static void reserve_opens_while_base_is_short(void **state)
{
	(void)state;
	rig_close();
	rig_open_pool(8, 2, NULL);
	rig_link_up();
	rig_submit(NBD_CMD_FLUSH, 0, 0, 0);
	rig_submit(NBD_CMD_FLUSH, 0, 0, 1);
	assert_null(engine_take(rig.e));
	assert_int_equal(rig.stats.low_episodes, 1);
	assert_true(engine_is_low(rig.e));
	assert_int_equal(rig_serve_all(), 2);
	assert_true(engine_is_low(rig.e)); /* all answered, but no base */
	for (uint32_t i = 0; i < 8; i++)
		pool_give_home(&rig.e->pool, i);
	engine_post(rig.e, MAIL_POOL);
	rig_rounds(2);
	assert_false(engine_is_low(rig.e));
	/* Asked back: the engine says so once the slots are in. */
	rig_take_news();
	pool_ask(&rig.e->pool, 0);
	rig_rounds(2);
	assert_true(rig_take_news() & NEWS_POOL);
	rig_close();
}

/* The newer word counts, though the older one was never read. */
static void tight_and_plenty_unread(void **state)
{
	(void)state;
	engine_post(rig.e, MAIL_TIGHT);
	engine_post(rig.e, MAIL_PLENTY);
	rig_rounds(1);
	assert_false(engine_is_low(rig.e));
	engine_post(rig.e, MAIL_PLENTY);
	engine_post(rig.e, MAIL_TIGHT);
	rig_rounds(1);
	assert_true(engine_is_low(rig.e));
	rig_close();
}

/*
 * Only what the control thread has negotiated may receive into the buffers that
 * draw on the reserve: before that, and after a loss, nothing is armed.
 */
static void link_is_critical_by_mail_alone(void **state)
{
	(void)state;
	rig_rounds(3);
	assert_false(fake_ring_receiving(RING_LINK));
	assert_int_equal(fake_ring.files[RING_LINK].fd, -1);
	rig_link_up();
	rig_rounds(1);
	assert_true(fake_ring_receiving(RING_LINK));
	rig_link_down();
	rig_rounds(3);
	assert_false(fake_ring_receiving(RING_LINK));
	assert_int_equal(fake_ring.files[RING_LINK].fd, -1);
	assert_int_equal(fake_ring_buffers(), RX_BUFFERS);
	rig_close();
}

/* A page that somebody waits for does not wait behind a queue of writes. */
static void reads_pass_a_write_without_room(void **state)
{
	const uint32_t n = 40000;
	uint64_t writes[3], flush, read;

	(void)state;
	rig_windows(2 * (28 + n) + 28, 1u << 30); /* 28: a head */
	rig_link_up();
	rig_submit(NBD_CMD_WRITE, 0, n, 0);
	rig_submit(NBD_CMD_WRITE, n, n, 1);
	rig_submit(NBD_CMD_WRITE, 2 * n, n, 2);
	rig_submit(NBD_CMD_FLUSH, 0, 0, 3);
	rig_submit(NBD_CMD_READ, 0, 512, 4);
	rig_settle();
	writes[0] = rig_expect(NBD_CMD_WRITE, 0, n);
	writes[1] = rig_expect(NBD_CMD_WRITE, n, n);
	read = rig_expect(NBD_CMD_READ, 0, 512);
	rig_expect_nothing();
	rig_answer_read(read, 0, 512);
	rig_answer_simple(writes[0], 0);
	writes[2] = rig_expect(NBD_CMD_WRITE, 2 * n, n);
	flush = rig_expect(NBD_CMD_FLUSH, 0, 0);
	rig_answer_simple(writes[1], 0);
	rig_answer_simple(writes[2], 0);
	rig_answer_simple(flush, 0);
	RIG_EXPECT_DONE({ 4, 0 }, { 0, 0 }, { 1, 0 }, { 2, 0 }, { 3, 0 });
	rig_close();
}

int main(void)
{
#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)
	const struct CMUnitTest tests[] = {
		TEST(window_filled_then_answered),
		TEST(reserve_opens_while_base_is_short),
		TEST(tight_and_plenty_unread),
		TEST(link_is_critical_by_mail_alone),
		TEST(reads_pass_a_write_without_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
