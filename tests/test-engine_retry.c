// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the server fails and may get over is asked again, for a while: when, how
 * often, what is not, and that nothing of it is lost with a link or a front.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/clock.h"
#include "tests/engine_rig.h"
#include "tests/fake_clock.h"

#define RETRY_MS 10000u
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define TRIM_START (1ull << 30)

static int set_up(void **state)
{
	rig_set_up(state);
	rig.e->config.retry_ms = RETRY_MS;
	rig.structured = false;
	rig_link_up();
	return 0;
}

static uint64_t put_off(void)
{
	return rig.stats.states[REQUEST_PUT_OFF];
}

static void advance_ms(uint32_t ms)
{
	fake_clock_advance_us(1000ull * ms);
	rig_settle();
}

/* Fails what the server got, which must be this. */
static uint64_t fail_one(uint16_t command, uint64_t offset, uint32_t length,
			 uint32_t error)
{
	uint64_t cookie = rig_expect(command, offset, length);

	rig_answer_simple(cookie, error);
	return cookie;
}

static void asked_again_until_answered(void **state)
{
	static const uint32_t errors[] = { NBD_EIO, NBD_ENOSPC, NBD_ENOMEM };
	static const uint16_t commands[] = { NBD_CMD_READ, NBD_CMD_WRITE,
					     NBD_CMD_TRIM,
					     NBD_CMD_WRITE_ZEROES };

	(void)state;
	for (size_t i = 0; i < COUNT(errors) * COUNT(commands); i++) {
		uint16_t command = commands[i % COUNT(commands)];
		static struct rig_request got;
		uint64_t first;

		rig.at = i;
		rig_submit(command, 4096, 512, i);
		rig_settle();
		first = fail_one(command, 4096, 512, errors[i / COUNT(commands)]);
		assert_int_equal(put_off(), 1);
		assert_int_equal(rig.e->throttle.admitted, 0);
		advance_ms(RETRY_PAUSE_MIN_MS - 1);
		rig_expect_nothing();
		advance_ms(1);
		assert_int_equal(put_off(), 0);
		assert_true(rig_next(&got));
		assert_int_equal(got.head.command, command);
		assert_true(got.head.cookie != first);
		if (command == NBD_CMD_WRITE)
			assert_int_equal(got.payload[511],
					 fake_front_byte(i, 4096 + 511));
		rig_answer_well(&got);
		rig_answer();
		RIG_EXPECT_DONE({ i, 0 });
		assert_int_equal(rig.stats.retried_total, i + 1);
	}
	assert_int_equal(rig.stats.retries_failed, 0);
	rig_close();
}

static void fails_in_the_end(void **state)
{
	static const uint32_t pauses_ms[] = { 100, 200, 400, 800, 1600,
					      2000, 2000, 2000 };
	uint64_t start_ns = clock_now_ns();

	(void)state;
	rig_submit(NBD_CMD_READ, 0, 512, 1);
	rig_settle();
	for (size_t i = 0; i < COUNT(pauses_ms); i++) {
		fail_one(NBD_CMD_READ, 0, 512, NBD_EIO);
		assert_int_equal(rig.fake.done_count, 0);
		advance_ms(pauses_ms[i] - 1);
		rig_expect_nothing();
		advance_ms(1);
	}
	fail_one(NBD_CMD_READ, 0, 512, NBD_ENOSPC);
	RIG_EXPECT_DONE({ 1, ENOSPC });
	assert_true(clock_now_ns() - start_ns <= RETRY_MS * NS_PER_MS);
	assert_int_equal(rig.stats.retried_total, COUNT(pauses_ms));
	assert_int_equal(rig.stats.retries_failed, 1);
	/* The slot's next request begins anew. */
	rig_submit(NBD_CMD_READ, 0, 512, 2);
	rig_settle();
	fail_one(NBD_CMD_READ, 0, 512, NBD_EIO);
	advance_ms(RETRY_PAUSE_MIN_MS);
	assert_int_equal(rig_serve_all(), 1);
	RIG_EXPECT_DONE({ 2, 0 });
	rig_close();
}

static void what_cannot_pass_fails_at_once(void **state)
{
	static const struct {
		uint16_t command, flags;
		uint32_t length, error, retry_ms;
	} cases[] = {
		{ NBD_CMD_READ, 0, 512, NBD_EPERM, RETRY_MS },
		{ NBD_CMD_WRITE, 0, 512, NBD_EPERM, RETRY_MS },
		{ NBD_CMD_WRITE, 0, 512, NBD_EINVAL, RETRY_MS },
		{ NBD_CMD_FLUSH, 0, 0, NBD_EIO, RETRY_MS },
		{ NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 512, NBD_EIO, RETRY_MS },
		{ NBD_CMD_READ, 0, 512, NBD_EIO, 0 },
		{ NBD_CMD_WRITE, 0, 512, NBD_ENOSPC, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		rig.at = i;
		rig.e->config.retry_ms = cases[i].retry_ms;
		fake_front_submit(&rig.fake, cases[i].command, cases[i].flags, 0,
				  cases[i].length, i);
		rig_settle();
		fail_one(cases[i].command, 0, cases[i].length, cases[i].error);
		RIG_EXPECT_DONE({ i, proto_error_to_errno(cases[i].error) });
	}
	assert_int_equal(rig.stats.retried_total, 0);
	rig_close();
}

/* Only the piece that failed comes again. */
static void in_pieces(void **state)
{
	const uint32_t length = 2 * ZERO_PIECE_BYTES;
	const uint64_t second = TRIM_START + ZERO_PIECE_BYTES;

	(void)state;
	rig_submit(NBD_CMD_TRIM, TRIM_START, length, 1);
	rig_settle();
	rig_answer_simple(rig_expect(NBD_CMD_TRIM, TRIM_START,
				     ZERO_PIECE_BYTES), 0);
	fail_one(NBD_CMD_TRIM, second, ZERO_PIECE_BYTES, NBD_EIO);
	advance_ms(RETRY_PAUSE_MIN_MS);
	rig_answer_simple(rig_expect(NBD_CMD_TRIM, second, ZERO_PIECE_BYTES), 0);
	RIG_EXPECT_DONE({ 1, 0 });
	rig_close();
}

/* Due or not, it waits for the link; and an error that came early counts. */
static void link_is_lost_meanwhile(void **state)
{
	uint64_t cookie;

	(void)state;
	rig_submit(NBD_CMD_READ, 0, 512, 1);
	rig_settle();
	fail_one(NBD_CMD_READ, 0, 512, NBD_EIO);
	/* A write is failed while it is still being sent. */
	fake_ring.files[RING_LINK].send_max = 100;
	cookie = request_cookie(rig_submit(NBD_CMD_WRITE, 4096, 4096, 2));
	rig_rounds(2);
	fake_ring.files[RING_LINK].send_held = true;
	rig_rounds(1);
	cookie += 1ull << 32; /* it was submitted, and then sent */
	rig_answer_simple(cookie, NBD_ENOSPC);
	assert_int_equal(put_off(), 1);
	fake_ring.files[RING_LINK].send_held = false;
	fake_ring.files[RING_LINK].send_error = -EPIPE;
	rig_rounds(2);
	rig_link_idle();
	assert_int_equal(put_off(), 2);
	advance_ms(RETRY_PAUSE_MIN_MS);
	assert_int_equal(put_off(), 0);
	assert_int_equal(rig.fake.done_count, 0);
	fake_ring.files[RING_LINK].send_max = 0;
	rig_link_up();
	assert_int_equal(rig_serve_all(), 2);
	RIG_EXPECT_DONE({ 1, 0 }, { 2, 0 });
	rig_close();
}

/* Where all writes fail there are slots for reads. */
static void writes_leave_room_for_reads(void **state)
{
	const uint32_t most = rig.config.slots / 2;
	static struct rig_request got;

	(void)state;
	for (uint32_t i = 0; i < most + 1; i++)
		rig_submit(NBD_CMD_WRITE, i * 4096ull, 512, i);
	rig_settle();
	for (uint32_t i = 0; i < most + 1; i++)
		fail_one(NBD_CMD_WRITE, i * 4096ull, 512, NBD_ENOSPC);
	RIG_EXPECT_DONE({ most, ENOSPC });
	assert_int_equal(put_off(), most);
	assert_int_equal(rig.stats.retries_failed, 1);
	while (rig.e->pool.base_free) {
		rig_submit(NBD_CMD_READ, 0, 512, 100);
		rig_settle();
		fail_one(NBD_CMD_READ, 0, 512, NBD_EIO);
	}
	assert_int_equal(rig.fake.done_count, 0);
	assert_int_equal(put_off(), rig.base);
	advance_ms(RETRY_PAUSE_MIN_MS);
	while (rig_next(&got)) {
		rig_answer_well(&got);
		rig_answer();
	}
	assert_int_equal(rig.fake.done_count, rig.base);
	rig.fake.done_count = 0;
	rig_close();
}

static void nobody_waits_any_more(void **state)
{
	(void)state;
	/* detach --force, or a time-out of the user's: as the server said */
	rig_submit(NBD_CMD_READ, 0, 512, 1);
	rig_settle();
	fail_one(NBD_CMD_READ, 0, 512, NBD_EIO);
	engine_post(rig.e, MAIL_FAIL);
	rig_rounds(1);
	RIG_EXPECT_DONE({ 1, EIO });
	rig_submit(NBD_CMD_READ, 0, 512, 2);
	rig_settle();
	fail_one(NBD_CMD_READ, 0, 512, NBD_ENOSPC);
	RIG_EXPECT_DONE({ 2, ENOSPC });
	/* patience is back with the link */
	rig_link_down();
	rig_link_up();
	rig_submit(NBD_CMD_READ, 0, 512, 3);
	rig_settle();
	fail_one(NBD_CMD_READ, 0, 512, NBD_EIO);
	assert_int_equal(rig.fake.done_count, 0);
	/* and the device is gone */
	engine_front_gone(rig.e);
	rig_rounds(1);
	RIG_EXPECT_DONE({ 3, EIO });
	rig_close();
}

/* The thread wakes up for it, and not before. */
static void wakes_when_due(void **state)
{
	(void)state;
	rig_submit(NBD_CMD_READ, 0, 512, 1);
	rig_submit(NBD_CMD_READ, 4096, 512, 2);
	rig_settle();
	fail_one(NBD_CMD_READ, 0, 512, NBD_EIO);
	advance_ms(40);
	fail_one(NBD_CMD_READ, 4096, 512, NBD_EIO);
	assert_int_equal(engine_round(rig.e, 500), 0);
	assert_int_equal(fake_ring.last_timeout_ms, RETRY_PAUSE_MIN_MS - 40);
	assert_int_equal(engine_round(rig.e, 5), 0);
	assert_int_equal(fake_ring.last_timeout_ms, 5);
	advance_ms(RETRY_PAUSE_MIN_MS - 40);
	assert_int_equal(put_off(), 1);
	assert_int_equal(engine_round(rig.e, 500), 0);
	assert_int_equal(fake_ring.last_timeout_ms, 40);
	fake_clock_advance_us(40000);
	assert_int_equal(engine_round(rig.e, 500), 0);
	assert_int_equal(fake_ring.last_timeout_ms, 0);
	assert_int_equal(rig_serve_all(), 2);
	assert_int_equal(engine_round(rig.e, 500), 0);
	assert_int_equal(fake_ring.last_timeout_ms, 500);
	rig.fake.done_count = 0;
	rig_close();
}

/* One line for all that fails, now and then. */
static void told_but_not_each(void **state)
{
	struct log_ring *log = &rig.e->log;
	uint32_t before = atomic_load(&log->head);

	(void)state;
	for (int i = 0; i < 8; i++) {
		rig_submit(NBD_CMD_READ, i * 4096ull, 512, (uint64_t)i);
		rig_settle();
		fail_one(NBD_CMD_READ, i * 4096ull, 512, NBD_EIO);
	}
	assert_int_equal(atomic_load(&log->head) - before, 1);
	assert_int_equal(log->records[before].level, LOG_LEVEL_WARNING);
	advance_ms(11000);
	for (int i = 0; i < 8; i++)
		fail_one(NBD_CMD_READ, i * 4096ull, 512, NBD_EIO);
	assert_int_equal(rig.fake.done_count, 8);
	assert_int_equal(atomic_load(&log->head) - before, 2);
	rig.fake.done_count = 0;
	rig_close();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(asked_again_until_answered),
		TEST(fails_in_the_end),
		TEST(what_cannot_pass_fails_at_once),
		TEST(in_pieces),
		TEST(link_is_lost_meanwhile),
		TEST(writes_leave_room_for_reads),
		TEST(nobody_waits_any_more),
		TEST(wakes_when_due),
		TEST(told_but_not_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
