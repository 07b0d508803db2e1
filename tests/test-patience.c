// SPDX-License-Identifier: GPL-2.0-or-later
/* Patience with a silent server: when it ends, what is asked, what follows. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/clock.h"
#include "include/nbd-wire.h"
#include "tests/conn_rig.h"

#define LIMIT_US (RIG_REQUEST_MS * 1000ull)
#define PLACE 4096u

static struct engine_owed owed;

static void begin(bool tls)
{
	rig_open(tls, true);
	rig_until(CONN_UP);
	owed = (struct engine_owed){
		.since_ns = clock_now_ns(),
		.offset = PLACE,
		.read = true,
	};
}

static enum patience_verdict look(void)
{
	return patience_look(&rig_patience, &owed);
}

/* The end of the probe that is under way; by poll(2), as it is in life. */
static int outcome(void)
{
	uint64_t start_ns = clock_now_ns();
	int ret = -EAGAIN;

	while (rig_patience.probe.stage != PROBE_REST) {
		int due_ms = probe_due_ms(&rig_patience.probe, clock_now_ns());
		struct pollfd fd;

		assert_true(due_ms >= 0);
		assert_true(clock_now_ns() - start_ns <= LIMIT_US * 1000);
		probe_pollfd(&rig_patience.probe, &fd);
		if (due_ms == 0 || (fd.fd >= 0 && fake_net_ready(fd.fd, fd.events)))
			ret = patience_step(&rig_patience);
		rig_check();
		fake_net_progress();
		if (due_ms > 0)
			fake_clock_advance_us(1000);
	}
	return rig_patience.proved_ns ? 0 : ret;
}

static void expect_rest(void)
{
	rig_check();
	assert_int_equal(rig_patience.probe.stage, PROBE_REST);
	assert_int_equal(probe_due_ms(&rig_patience.probe, clock_now_ns()), -1);
	/* the connection's own, beside the spare */
	assert_int_equal(fake_net.open, SOCKETS_COUNT);
	assert_int_equal(rig_conn.state, CONN_UP);
}

/* Time is up, and not a moment before. */
static void run_out(uint32_t limits)
{
	uint64_t end_ns = owed.since_ns + limits * LIMIT_US * 1000;

	if (clock_now_ns() < end_ns - 1000) {
		fake_clock_advance_us((end_ns - clock_now_ns()) / 1000 - 1);
		assert_int_equal(look(), PATIENCE_KEPT);
		expect_rest();
	}
	fake_clock_advance_us(1);
	assert_int_equal(look(), PATIENCE_LOST);
	assert_int_equal(rig_patience.probe.stage, PROBE_DIAL);
}

/* Not before the old link, too, has had a chance to answer. */
static void expect_replaced(void)
{
	uint64_t replaced = rig_patience.replaced;

	assert_int_equal(outcome(), 0);
	assert_int_equal(look(), PATIENCE_LOST);
	assert_int_equal(rig_patience.probe.stage, PROBE_REST);
	fake_clock_advance_us(1000000);
	assert_int_equal(look(), PATIENCE_REPLACE);
	assert_int_equal(rig_patience.replaced, replaced + 1);
	expect_rest();
}

static void check_replaced_when_answered(bool tls)
{
	begin(tls);
	run_out(1);
	expect_replaced();
	assert_int_equal(rig_patience.probes, 1);
	rig_close();
}

static void replaced_when_answered(void **state)
{
	(void)state;
	check_replaced_when_answered(false);
	check_replaced_when_answered(true);
}

/* However a server fails to answer, the link stays, and it is asked again. */
static void kept_when_not_answered(void **state)
{
	static const enum fake_server ways[] = {
		FAKE_UNREACHABLE, FAKE_REFUSED, FAKE_BUSY,    FAKE_SILENT,
		FAKE_RESETS,	  FAKE_GARBAGE, FAKE_REFUSES, FAKE_UNANSWERED,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		uint64_t ended_ns;

		begin(false);
		fake_net.server = ways[i];
		run_out(1);
		assert_true(outcome() < 0);
		assert_true(rig_patience.probe.err.text[0]);
		assert_int_equal(rig_patience.replaced, 0);
		expect_rest();
		/* not at once, and then again */
		ended_ns = clock_now_ns();
		assert_int_equal(look(), PATIENCE_LOST);
		expect_rest();
		fake_clock_advance_us(LIMIT_US);
		assert_int_equal(look(), PATIENCE_LOST);
		assert_int_equal(rig_patience.probes, 2);
		assert_true(clock_now_ns() - ended_ns >= LIMIT_US * 1000);
		fake_net.server = FAKE_GOOD;
		patience_end(&rig_patience);
		fake_clock_advance_us(LIMIT_US);
		assert_int_equal(look(), PATIENCE_LOST);
		expect_replaced();
		rig_close();
	}
}

/* It was stopped, and goes on: the probe's answer came first, that is all. */
static void kept_when_both_are_answered(void **state)
{
	(void)state;
	begin(false);
	run_out(1);
	assert_int_equal(outcome(), 0);
	assert_int_equal(look(), PATIENCE_LOST);
	owed.since_ns = clock_now_ns();
	fake_clock_advance_us(1000000);
	assert_int_equal(look(), PATIENCE_KEPT);
	run_out(1);
	expect_replaced();
	rig_close();
}

static void asks_for_what_is_owed(void **state)
{
	static const struct {
		uint16_t flags;
		bool read;
		uint16_t asked;
	} ways[] = {
		{ NBD_FLAG_SEND_FLUSH, true, NBD_CMD_READ },
		{ NBD_FLAG_SEND_FLUSH, false, NBD_CMD_FLUSH },
		{ 0, false, NBD_CMD_READ },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		bool flush = ways[i].asked == NBD_CMD_FLUSH;

		begin(false);
		rig_conn.export.flags = NBD_FLAG_HAS_FLAGS | ways[i].flags;
		owed.read = ways[i].read;
		run_out(1);
		assert_int_equal(outcome(), 0);
		assert_int_equal(fake_net.asked, ways[i].asked);
		assert_int_equal(fake_net.asked_offset, flush ? 0 : PLACE);
		assert_int_equal(fake_net.asked_bytes,
				 flush ? 0 : 512);
		rig_close();
	}
}

/* A sign of the answer ends the probe, wherever it is. */
static void sign_of_life_ends_it(void **state)
{
	static const enum fake_server servers[] = {
		FAKE_UNREACHABLE, FAKE_SILENT, FAKE_UNANSWERED,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(servers) / sizeof(servers[0]); i++) {
		begin(i == 1);
		fake_net.server = servers[i];
		run_out(1);
		while (rig_patience.probe.stage < PROBE_DIAL + i) {
			assert_int_equal(patience_step(&rig_patience), -EAGAIN);
			fake_net_progress();
		}
		owed.since_ns = i == 2 ? 0 : clock_now_ns();
		assert_int_equal(look(), PATIENCE_KEPT);
		expect_rest();
		rig_close();
	}
}

/* A byte that leaves for a slow link is a sign, unless others are answered. */
static void slow_link_is_not_silent(void **state)
{
	(void)state;
	begin(false);
	fake_net.queued = 1000000;
	for (int i = 0; i < 100; i++) {
		fake_clock_advance_us(LIMIT_US - 1000);
		assert_int_equal(look(), PATIENCE_KEPT);
		fake_net.queued -= 1000;
		assert_int_equal(look(), PATIENCE_KEPT);
	}
	owed.overtaken = true;
	fake_net.queued -= 1000;
	assert_int_equal(look(), PATIENCE_LOST);
	patience_end(&rig_patience);
	/* It stands still, or more is queued. */
	owed.overtaken = false;
	assert_int_equal(look(), PATIENCE_KEPT);
	fake_net.queued += 500;
	fake_clock_advance_us(LIMIT_US);
	assert_int_equal(look(), PATIENCE_LOST);
	rig_close();
}

/* Nobody is asked there; but before its time it is not gone. */
static void host_is_gone(void **state)
{
	(void)state;
	begin(false);
	fake_net.unacknowledged_ms = RIG_REQUEST_MS;
	fake_clock_advance_us(LIMIT_US - 1);
	assert_int_equal(look(), PATIENCE_KEPT);
	fake_clock_advance_us(1);
	assert_int_equal(look(), PATIENCE_GONE);
	assert_int_equal(rig_patience.probes, 0);
	expect_rest();
	/* also one that is being asked */
	fake_net.unacknowledged_ms--;
	assert_int_equal(look(), PATIENCE_LOST);
	assert_int_equal(rig_patience.probe.stage, PROBE_DIAL);
	fake_net.unacknowledged_ms++;
	assert_int_equal(look(), PATIENCE_GONE);
	expect_rest();
	rig_close();
}

/* A request that takes long must come to its end some time. */
static void patience_grows_and_is_forgotten(void **state)
{
	uint32_t limits = 1;

	(void)state;
	begin(false);
	for (int i = 0; i < 8; i++) {
		run_out(limits);
		expect_replaced();
		owed.since_ns = clock_now_ns();
		if (limits < PATIENCE_FACTOR_MAX)
			limits *= 2;
	}
	assert_int_equal(limits, PATIENCE_FACTOR_MAX);
	owed.since_ns = 0;
	fake_clock_advance_us(limits * LIMIT_US * 9);
	assert_int_equal(look(), PATIENCE_KEPT);
	owed.since_ns = clock_now_ns();
	run_out(1);
	rig_close();
}

static void no_limit_no_end(void **state)
{
	(void)state;
	begin(false);
	patience_init(&rig_patience, &rig_conn, 0);
	fake_clock_advance_us(LIMIT_US * 1000);
	assert_int_equal(look(), PATIENCE_KEPT);
	expect_rest();
	rig_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replaced_when_answered),
		cmocka_unit_test(kept_when_not_answered),
		cmocka_unit_test(kept_when_both_are_answered),
		cmocka_unit_test(asks_for_what_is_owed),
		cmocka_unit_test(sign_of_life_ends_it),
		cmocka_unit_test(slow_link_is_not_silent),
		cmocka_unit_test(host_is_gone),
		cmocka_unit_test(patience_grows_and_is_forgotten),
		cmocka_unit_test(no_limit_no_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
