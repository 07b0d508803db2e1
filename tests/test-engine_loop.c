// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The data thread's loop: mail from and news to the control thread, giving up
 * and closing, time, start and end.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/engine_rig.h"
#include "tests/fake_clock.h"

/* ---- MAIL_FAIL ---- */

static void fail_while_the_link_is_down(void **state)
{
	(void)state;
	rig_link_up();
	rig_submit(NBD_CMD_WRITE, 0, 512, 1);
	rig_submit(NBD_CMD_READ, 0, 512, 2);
	rig_settle();
	rig_link_down();
	rig_submit(NBD_CMD_FLUSH, 0, 0, 3);
	rig_rounds(5);
	assert_int_equal(rig.fake.done_count, 0); /* patience is the default */
	engine_post(rig.e, MAIL_FAIL);
	rig_rounds(1);
	RIG_EXPECT_DONE({ 1, EIO }, { 2, EIO }, { 3, EIO });
	assert_int_equal(rig.stats.errors[STATS_WRITE], 1);
	/* Later ones at once. */
	rig_submit(NBD_CMD_READ, 0, 512, 4);
	rig_rounds(1);
	RIG_EXPECT_DONE({ 4, EIO });
	/* Service goes on with the link, and patience too. */
	rig_link_up();
	rig_submit(NBD_CMD_READ, 0, 512, 5);
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 5, 0 });
	rig_submit(NBD_CMD_READ, 0, 512, 6);
	rig_settle();
	rig_link_down();
	rig_rounds(5);
	assert_int_equal(rig.fake.done_count, 0);
	rig_link_up();
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 6, 0 });
	rig_close();
}

/* As long as the kernel holds a request's memory it cannot end. */
static void fail_waits_for_the_link_to_drain(void **state)
{
	(void)state;
	rig_link_up();
	rig_submit(NBD_CMD_WRITE, 0, 512, 1);
	fake_ring.files[RING_LINK].send_held = true;
	rig_rounds(2);
	fake_ring.files[RING_LINK].ended = true;
	engine_post(rig.e, MAIL_FAIL);
	rig_rounds(3);
	assert_int_equal(rig.e->link, ENGINE_LINK_DRAINING);
	rig_submit(NBD_CMD_FLUSH, 0, 0, 2);
	rig_rounds(2);
	assert_int_equal(rig.fake.done_count, 0);
	rig_link_idle();
	RIG_EXPECT_DONE({ 1, EIO }, { 2, EIO });
	rig_close();
}

/*
 * The link comes back in the moment in which the control thread has given it
 * up: the new link counts, and its loss is waited for again.
 */
static void fail_and_link_up_together(void **state)
{
	(void)state;
	rig_submit(NBD_CMD_FLUSH, 0, 0, 1);
	engine_post(rig.e, MAIL_FAIL);
	rig_link_up();
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 1, 0 });
	rig_submit(NBD_CMD_FLUSH, 0, 0, 2);
	rig_settle();
	rig_link_down();
	rig_rounds(3);
	assert_int_equal(rig.fake.done_count, 0);
	rig_link_up();
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 2, 0 });
	rig_close();
}

/* ---- MAIL_CLOSE ---- */

static void close_says_goodbye_last(void **state)
{
	static struct rig_request got;
	uint64_t cookie;

	(void)state;
	rig_link_up();
	rig_submit(NBD_CMD_WRITE, 0, 512, 1);
	rig_settle();
	cookie = rig_expect(NBD_CMD_WRITE, 0, 512);
	engine_post(rig.e, MAIL_CLOSE);
	rig_rounds(5);
	rig_expect_nothing();
	assert_int_equal(rig_take_news(), 0);
	/* Answered, but the answer is still on its way to the kernel. */
	rig.fake.keep = true;
	rig_answer_simple(cookie, 0);
	rig_rounds(5);
	rig_expect_nothing();
	fake_front_release(&rig.fake);
	fake_ring.files[RING_LINK].send_max = 10;
	rig_rounds(2);
	assert_int_equal(rig_take_news(), 0); /* not all of it has left */
	rig_settle();
	assert_true(rig_next(&got));
	assert_int_equal(got.head.command, NBD_CMD_DISC);
	assert_int_equal(got.head.length_bytes, 0);
	rig_expect_nothing();
	assert_int_equal(rig_take_news(), NEWS_CLOSED);
	/* The server closes: that is no reason to speak again. */
	rig_link_down();
	assert_int_equal(rig_take_news(), 0);
	rig_expect_nothing();
	rig_close();
}

static void close_without_a_link(void **state)
{
	(void)state;
	engine_post(rig.e, MAIL_CLOSE);
	rig_rounds(2);
	assert_int_equal(rig_take_news(), NEWS_CLOSED);
	rig_close();
}

/* Requests that wait for a link that never comes are failed by MAIL_FAIL. */
static void close_and_fail(void **state)
{
	(void)state;
	rig_submit(NBD_CMD_WRITE, 0, 512, 1);
	engine_post(rig.e, MAIL_CLOSE);
	rig_rounds(5);
	assert_int_equal(rig_take_news(), 0);
	engine_post(rig.e, MAIL_FAIL);
	rig_rounds(2);
	RIG_EXPECT_DONE({ 1, EIO });
	assert_int_equal(rig_take_news(), NEWS_CLOSED);
	rig_close();
}

static void link_lost_under_the_goodbye(void **state)
{
	(void)state;
	rig_link_up();
	fake_ring.files[RING_LINK].send_held = true;
	engine_post(rig.e, MAIL_CLOSE);
	rig_rounds(3);
	assert_true(fake_ring_sending(RING_LINK));
	assert_int_equal(rig_take_news(), 0);
	fake_ring.files[RING_LINK].ended = true;
	rig_rounds(2);
	assert_true(rig.news & NEWS_CLOSED);
	rig_link_idle();
	rig_rounds(2);
	assert_int_equal(rig_take_news(), NEWS_CLOSED);
	rig_close();
}

/* ---- time ---- */

/* Time passes while the engine sleeps, and a request wakes it. */
static void submit_on_wait(void *arg)
{
	uint64_t *idle_us = arg;

	if (!*idle_us)
		return;
	fake_clock_advance_us(*idle_us);
	*idle_us = 0;
	/* As ring_wait() does before it tells of what has ended. */
	rig.e->ring.woke_ns = fake_clock_ns;
	rig_submit(NBD_CMD_READ, 0, 512, 1);
}

static void latency_is_that_of_the_request(void **state)
{
	static const struct {
		uint64_t us;
		uint32_t bucket; /* of less than 2^bucket us */
	} rows[] = {
		{ 0, 0 }, { 1, 1 }, { 2, 2 }, { 3, 2 }, { 4, 3 }, { 1000, 10 },
		{ 1024, 11 }, { 1ull << 40, STATS_BUCKETS - 1 },
	};

	(void)state;
	rig_link_up();
	for (uint64_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* The long sleep before it is not the request's. */
		uint64_t idle_us = 400000;
		uint64_t before = rig.stats.latency[STATS_READ][rows[i].bucket];
		uint64_t sum_ns = rig.stats.latency_sum_ns[STATS_READ];
		uint64_t cookie;

		fake_ring.on_wait = submit_on_wait;
		fake_ring.on_wait_arg = &idle_us;
		rig_rounds(2);
		cookie = rig_expect(NBD_CMD_READ, 0, 512);
		fake_clock_advance_us(rows[i].us);
		rig_answer_read(cookie, 0, 512);
		rig_answer();
		if (rig.stats.latency[STATS_READ][rows[i].bucket] != before + 1)
			fail_msg("%llu us are not counted in bucket %u",
				 (unsigned long long)rows[i].us, rows[i].bucket);
		assert_int_equal(rig.stats.latency_sum_ns[STATS_READ],
				 sum_ns + 1000 * rows[i].us);
	}
	rig_close();
}

static void heartbeat(void **state)
{
	(void)state;
	for (int i = 1; i <= 3; i++) {
		fake_clock_advance_us(1000);
		assert_int_equal(engine_round(rig.e, 123), 0);
		assert_int_equal(fake_ring.last_timeout_ms, 123);
		assert_int_equal(rig.stats.heartbeat_ns, fake_clock_ns);
		assert_int_equal(rig.stats.wakeups, i);
	}
	rig_close();
}

/* ---- mail, news, start and end ---- */

static void front_comes_and_goes(void **state)
{
	(void)state;
	rig.e->mail.front_fd = 101;
	engine_post(rig.e, MAIL_FRONT_UP);
	rig_rounds(1);
	assert_int_equal(rig.fake.opens, 1);
	assert_int_equal(fake_ring.files[RING_FRONT].fd, 101);
	rig_rounds(3);
	assert_int_equal(rig.fake.opens, 1);
	assert_int_equal(rig.fake.steps, 4);
	assert_int_equal(rig.fake.flushes, 4);
	engine_front_gone(rig.e);
	engine_front_gone(rig.e);
	rig_rounds(2);
	assert_int_equal(rig_take_news(), NEWS_FRONT_GONE);
	assert_true(rig.front->gone);
	rig_close();
}

static void front_socket_is_refused(void **state)
{
	(void)state;
	fake_ring.set_file_error[RING_FRONT] = -EBADF;
	engine_post(rig.e, MAIL_FRONT_UP);
	rig_rounds(2);
	assert_int_equal(rig.fake.opens, 0);
	assert_int_equal(rig_take_news(), NEWS_FRONT_GONE);
	rig_close();
}

static void link_socket_is_refused(void **state)
{
	(void)state;
	fake_ring.set_file_error[RING_LINK] = -EBADF;
	engine_post(rig.e, MAIL_LINK_UP);
	rig_submit(NBD_CMD_FLUSH, 0, 0, 1);
	rig_rounds(2);
	assert_int_equal(rig_take_news(), NEWS_LINK_LOST | NEWS_LINK_IDLE);
	assert_int_equal(atomic_load(&rig.e->news.link_error), EBADF);
	assert_int_equal(rig.e->link, ENGINE_LINK_DOWN);
	fake_ring.set_file_error[RING_LINK] = 0;
	rig_link_up();
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 1, 0 });
	rig_close();
}

/* News that come while older ones are being written are told with the next. */
static void news_gather(void **state)
{
	uint64_t count;

	(void)state;
	rig_link_up();
	fake_ring.files[RING_NEWS].send_held = true;
	engine_post(rig.e, MAIL_LINK_DROP);
	rig_rounds(1);
	assert_int_equal(rig_take_news(), NEWS_LINK_LOST);
	engine_front_gone(rig.e);
	fake_ring_shutdown(RING_LINK);
	rig_rounds(4);
	assert_int_equal(rig_take_news(), 0);
	fake_ring.files[RING_NEWS].send_held = false;
	rig_rounds(1);
	assert_int_equal(rig_take_news(), NEWS_LINK_IDLE | NEWS_FRONT_GONE);
	rig_rounds(1);
	/* One wake-up for each. */
	assert_int_equal(read(rig.e->news.event_fd, &count, 8), 8);
	assert_int_equal(count, 2);
	rig_close();
}

static void post_on_wait(void *arg)
{
	if (++*(uint32_t *)arg == 3)
		engine_post(rig.e, MAIL_STOP);
}

static void run_until_stopped(void **state)
{
	uint32_t waits = 0;

	(void)state;
	fake_ring.on_wait = post_on_wait;
	fake_ring.on_wait_arg = &waits;
	engine_run(rig.e);
	assert_int_equal(waits, 3);
	assert_int_equal(fake_ring.last_timeout_ms, HEARTBEAT_MS);
	assert_int_equal(engine_take_news(rig.e), 0);
	rig_close();
}

static void run_with_a_broken_ring(void **state)
{
	uint64_t count = 0;

	(void)state;
	fake_ring.wait_error = -EBADF;
	engine_run(rig.e);
	assert_int_equal(engine_take_news(rig.e), NEWS_FAILED);
	assert_int_equal(read(rig.e->news.event_fd, &count, 8), 8);
	assert_int_equal(count, 1);
	rig_close();
}

/* Whatever refuses at the start is passed on, and the ring is let go. */
static void open_fails(void **state)
{
	static struct {
		int *error;
	} rows[] = {
		{ &fake_ring.init_error },
		{ &fake_ring.rxring_error },
		{ &fake_ring.set_file_error[RING_MAIL] },
		{ &fake_ring.set_file_error[RING_NEWS] },
		{ &fake_ring.warm_up_error },
	};

	(void)state;
	engine_close(rig.e);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		*rows[i].error = -ENOSYS;
		assert_int_equal(engine_open(rig.e, &rig.fake.front), -ENOSYS);
		*rows[i].error = 0;
	}
	assert_int_equal(engine_open(rig.e, &rig.fake.front), 0);
	rig_close();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)

/* ---- what the server owes ---- */

static void expect_owed(uint64_t since_ns, uint64_t offset, bool read,
			bool overtaken)
{
	const struct engine_owed owed = engine_owed(rig.e);

	assert_int_equal(owed.since_ns, since_ns);
	assert_int_equal(rig.stats.owed_since_ns, since_ns);
	if (!since_ns)
		return;
	assert_int_equal(owed.offset, offset);
	assert_int_equal(owed.read, read);
	assert_int_equal(owed.overtaken, overtaken);
}

static uint64_t later(void)
{
	fake_clock_advance_us(1000000);
	rig_rounds(1);
	return fake_clock_ns;
}

/* Since when, for what, and what counts as a sign. */
static void longest_debt_is_shown(void **state)
{
	uint64_t write, read, flush, start_ns, sign_ns;

	(void)state;
	rig_submit(NBD_CMD_WRITE, 4096, 512, 1);
	later();
	expect_owed(0, 0, false, false); /* nobody has asked yet */
	rig_link_up();
	start_ns = fake_clock_ns;
	rig_submit(NBD_CMD_READ, 8192, 512, 2);
	rig_submit(NBD_CMD_FLUSH, 0, 0, 3);
	rig_settle();
	write = rig_expect(NBD_CMD_WRITE, 4096, 512);
	read = rig_expect(NBD_CMD_READ, 8192, 512);
	flush = rig_expect(NBD_CMD_FLUSH, 0, 0);
	later();
	expect_owed(start_ns, 4096, false, false);
	/* A later one is answered: the write has been there since. */
	sign_ns = later();
	rig_answer_simple(flush, 0);
	expect_owed(sign_ns, 4096, false, true);
	later();
	expect_owed(sign_ns, 4096, false, true);
	/* The oldest is: now the read is, and that was a sign of life. */
	sign_ns = later();
	rig_answer_simple(write, 0);
	expect_owed(sign_ns, 8192, true, false);
	/* So is a piece of an answer. */
	sign_ns = later();
	rig_answer_read(read, 8192, 512);
	rig.reply.used -= 100;
	rig_answer();
	expect_owed(sign_ns, 8192, true, false);
	later();
	expect_owed(sign_ns, 8192, true, false);
	rig_link_down();
	assert_false(atomic_load(&rig.e->news.link_mute));
	assert_true(atomic_load(&rig.e->news.link_answered));
	expect_owed(0, 0, false, false);
	sign_ns = later();
	rig_link_up();
	rig_settle();
	expect_owed(sign_ns, 8192, true, false);
	rig_link_down();
	assert_true(atomic_load(&rig.e->news.link_mute));
	assert_false(atomic_load(&rig.e->news.link_answered));
	rig_link_up();
	assert_int_equal(rig_serve_all(), 1);
	later();
	expect_owed(0, 0, false, false);
	rig_link_down(); /* nobody has asked: that is not mute */
	assert_false(atomic_load(&rig.e->news.link_mute));
	rig_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(fail_while_the_link_is_down),
		TEST(fail_waits_for_the_link_to_drain),
		TEST(fail_and_link_up_together),
		TEST(close_says_goodbye_last),
		TEST(close_without_a_link),
		TEST(close_and_fail),
		TEST(link_lost_under_the_goodbye),
		TEST(latency_is_that_of_the_request),
		TEST(heartbeat),
		TEST(front_comes_and_goes),
		TEST(front_socket_is_refused),
		TEST(link_socket_is_refused),
		TEST(news_gather),
		TEST(run_until_stopped),
		TEST(run_with_a_broken_ring),
		TEST(open_fails),
		TEST(longest_debt_is_shown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
