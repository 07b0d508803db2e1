// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The second connection: when it is made, when it becomes the first, and that a
 * link is given up for a better one only. Then a million events by chance.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/standby.h"
#include "tests/conn_rig.h"
#include "tests/fake_clock.h"

#define FAILBACK_MS 30000u
#define PATIENCE_NS (600 * NS_PER_S)

static struct standby standby;
static uint64_t drops;

static void begin(bool with_tls, uint32_t failback_ms)
{
	rig_open(with_tls, !with_tls);
	rig_add_others();
	standby_init(&standby, &rig_conn, failback_ms);
	standby.plentiful = true;
	drops = 0;
}

static void end(void)
{
	standby_fini(&standby);
	rig_close();
}

/* Neither shares a socket with the other, nor is there one too many. */
static void check(void)
{
	const struct sockets *s = &rig_conn.own.sockets;
	const struct conn *c = &standby.conn;
	uint32_t taken = 0;

	assert_int_equal(fake_net.faults, 0);
	assert_true(rig_conn.fd < 0 || rig_conn.fd != c->fd);
	for (uint32_t i = 0; i < s->count; i++)
		taken += s->ready[i].taken;
	assert_true(taken <= 2 && fake_net.open <= s->count + 2);
	assert_true(c->state != CONN_UP && c->state != CONN_LOST);
	if (c->state == CONN_READY && rig_conn.state == CONN_UP)
		assert_int_not_equal(c->at, rig_conn.at);
	assert_true(rig_conn.at < rig_conn.own.count &&
		    c->at < rig_conn.own.count);
}

/* The owner's part: one turn of its loop. */
static void turn(void)
{
	struct conn *a = &rig_conn;

	fake_net_progress();
	if (standby_wants_drop(&standby, clock_now_ns())) {
		drops++;
		standby.leave = false;
		conn_shutdown(a, 0);
	} else if (a->state == CONN_LOST) {
		conn_close(a);
	}
	standby_step(&standby);
	if (a->state == CONN_READY)
		conn_take(a);
	check();
}

/* One of the two in a state; false: not within so long. */
static bool comes(struct conn *c, enum conn_state state, uint64_t within_ns)
{
	uint64_t end_ns = clock_now_ns() + within_ns;

	while (c->state != state && clock_now_ns() < end_ns) {
		turn();
		fake_clock_advance_us(1000);
	}
	return c->state == state;
}

static void until_up(uint32_t at)
{
	if (!comes(&rig_conn, CONN_UP, PATIENCE_NS))
		fail_msg("stuck in state %d: %s", rig_conn.state,
			 rig_conn.err.text);
	assert_int_equal(rig_conn.at, at);
}

static void until_waiting(uint32_t at)
{
	if (!comes(&standby.conn, CONN_READY, PATIENCE_NS))
		fail_msg("stuck in state %d: %s", standby.conn.state,
			 standby.conn.err.text);
	assert_int_equal(standby.conn.at, at);
}

static void pass(uint64_t ms)
{
	(void)comes(&rig_conn, CONN_STATES, ms * NS_PER_MS);
}

/* The server dies, for good. */
static void lose(void)
{
	if (rig_conn.at == 0)
		fake_net.server = FAKE_REFUSED;
	else
		fake_net.others[rig_conn.at - 1] = FAKE_REFUSED;
	fake_net_drop(rig_conn.fd);
	conn_shutdown(&rig_conn, ECONNRESET);
}

static enum standby_outcome until_ended(void)
{
	enum standby_outcome outcome;
	uint64_t end_ns = clock_now_ns() + PATIENCE_NS;

	while ((outcome = standby_outcome(&standby)) == STANDBY_NONE) {
		assert_true(clock_now_ns() < end_ns);
		turn();
		fake_clock_advance_us(1000);
	}
	return outcome;
}

/* ---- tests ---- */

static void takes_the_place_at_once(void **state)
{
	(void)state;
	for (int tls = 0; tls < 2; tls++) {
		begin(tls, 0);
		until_up(0);
		until_waiting(1);
		lose();
		/* no attempt is made on the way */
		while (rig_conn.state != CONN_UP) {
			turn();
			assert_true(rig_conn.state != CONN_CONNECTING);
			fake_clock_advance_us(1000);
		}
		assert_int_equal(rig_conn.at, 1);
		/* and again, as long as there are servers */
		until_waiting(2);
		lose();
		until_up(2);
		fake_net.server = FAKE_GOOD;
		until_waiting(0);
		lose();
		until_up(0);
		end();
	}
}

static void none_while_memory_is_short(void **state)
{
	(void)state;
	begin(false, 0);
	standby.plentiful = false;
	until_up(0);
	pass(60000);
	assert_int_equal(standby.conn.state, CONN_DOWN);
	assert_int_equal(standby.conn.attempts, 0);
	standby.plentiful = true;
	until_waiting(1);
	/* what is there stays */
	standby.plentiful = false;
	pass(60000);
	assert_int_equal(standby.conn.state, CONN_READY);
	/* without one the way is longer, but there is one */
	fake_net_drop(standby.conn.fd);
	pass(1000);
	assert_int_equal(standby.conn.state, CONN_DOWN);
	lose();
	until_up(1);
	end();
}

static void end_of_one_that_waits_is_noticed(void **state)
{
	(void)state;
	begin(false, 0);
	until_up(0);
	until_waiting(1);
	fake_net.others[0] = FAKE_REFUSED;
	fake_net_drop(standby.conn.fd);
	assert_true(comes(&standby.conn, CONN_DOWN, NS_PER_S));
	until_waiting(2);
	assert_int_equal(rig_conn.state, CONN_UP);
	assert_int_equal(drops, 0);
	end();
}

static void other_export_does_not_wait(void **state)
{
	(void)state;
	begin(false, 0);
	until_up(0);
	fake_net.others[0] = FAKE_CHANGED;
	until_waiting(2);
	assert_int_equal(standby.conn.known_at, 2);
	end();
}

/* The export grew behind its back; it must not take the device back. */
static void older_one_is_not_taken(void **state)
{
	(void)state;
	begin(false, 0);
	until_up(0);
	until_waiting(1);
	standby.plentiful = false;
	fake_net.size_bytes *= 2;
	standby_ask(&standby, 0);
	assert_int_equal(until_ended(), STANDBY_DONE);
	assert_int_equal(rig_conn.export.size_bytes, fake_net.size_bytes);
	assert_int_equal(standby.conn.state, CONN_READY);
	/* it knows the size from before */
	lose();
	assert_false(comes(&rig_conn, CONN_UP, 60 * NS_PER_S) &&
		     rig_conn.export.size_bytes != fake_net.size_bytes);
	fake_net.server = FAKE_GOOD;
	assert_true(comes(&rig_conn, CONN_UP, PATIENCE_NS));
	assert_int_equal(rig_conn.export.size_bytes, fake_net.size_bytes);
	end();
}

static void back_only_if_wanted(void **state)
{
	(void)state;
	begin(false, 0);
	until_up(0);
	until_waiting(1);
	lose();
	until_up(1);
	fake_net.server = FAKE_GOOD;
	pass(10 * FAILBACK_MS);
	assert_int_equal(rig_conn.at, 1);
	assert_int_equal(drops, 0);
	end();
}

static void back_when_it_has_been_there_for_long(void **state)
{
	uint64_t start_ns;

	(void)state;
	begin(false, FAILBACK_MS);
	until_up(0);
	until_waiting(1);
	lose();
	until_up(1);
	/* there, but not for long enough, again and again */
	for (int i = 0; i < 5; i++) {
		fake_net.server = FAKE_GOOD;
		until_waiting(0);
		pass(FAILBACK_MS / 2);
		fake_net.server = FAKE_REFUSED;
		fake_net_drop(standby.conn.fd);
		assert_true(comes(&standby.conn, CONN_DOWN, NS_PER_S));
	}
	assert_int_equal(drops, 0);
	fake_net.server = FAKE_GOOD;
	until_waiting(0);
	start_ns = clock_now_ns();
	assert_true(comes(&rig_conn, CONN_FENCE, PATIENCE_NS) ||
		    rig_conn.at == 0);
	assert_true(clock_now_ns() - start_ns >= (FAILBACK_MS - 10) *
							 NS_PER_MS);
	until_up(0);
	assert_int_equal(drops, 1);
	end();
}

/* A server that owes an answer, and gives none to anybody. */
static void silent_one_is_left_for_one_that_is_ready(void **state)
{
	(void)state;
	begin(false, 0);
	until_up(0);
	standby.plentiful = false;
	standby.leave = true;
	fake_net.others[0] = FAKE_SILENT;
	fake_net.others[1] = FAKE_REFUSED;
	pass(60000);
	assert_int_equal(rig_conn.state, CONN_UP);
	assert_int_equal(drops, 0);
	fake_net.others[1] = FAKE_GOOD;
	assert_true(comes(&rig_conn, CONN_FENCE, PATIENCE_NS) ||
		    rig_conn.at == 2);
	until_up(2);
	assert_int_equal(drops, 1);
	end();
}

static void command_goes_to_another(void **state)
{
	(void)state;
	begin(false, 0);
	until_up(0);
	standby.plentiful = false; /* who asks for it gets it */
	standby_ask(&standby, 2);
	assert_int_equal(until_ended(), STANDBY_DONE);
	assert_int_equal(rig_conn.at, 2);
	assert_int_equal(drops, 1);
	/* also past one that waits elsewhere */
	standby.plentiful = true;
	until_waiting(0);
	standby_ask(&standby, 1);
	assert_int_equal(until_ended(), STANDBY_DONE);
	assert_int_equal(rig_conn.at, 1);
	assert_int_equal(drops, 2);
	assert_int_equal(standby_outcome(&standby), STANDBY_NONE);
	end();
}

/* A server that is not there costs nothing. */
static void good_link_is_not_given_up_for_a_bad_one(void **state)
{
	uint64_t up_since_ns;

	(void)state;
	begin(false, 0);
	until_up(0);
	up_since_ns = rig_conn.up_since_ns;
	fake_net.others[0] = FAKE_REFUSED;
	fake_net.others[1] = FAKE_CHANGED;
	for (uint32_t at = 1; at < 3; at++) {
		standby_ask(&standby, at);
		assert_int_equal(until_ended(), STANDBY_FAILED);
		assert_int_equal(standby.err.exit_code,
				 at == 1 ? X_UNREACHABLE : X_REFUSED);
	}
	pass(10000);
	assert_int_equal(rig_conn.state, CONN_UP);
	assert_int_equal(rig_conn.up_since_ns, up_since_ns);
	assert_int_equal(drops, 0);
	end();
}

static void command_renews_the_same(void **state)
{
	(void)state;
	begin(false, 0);
	until_up(0);
	until_waiting(1);
	standby_ask(&standby, 0);
	assert_int_equal(until_ended(), STANDBY_DONE);
	assert_int_equal(rig_conn.at, 0);
	assert_int_equal(drops, 1);
	/* it is gone when it is wanted: the other one is there */
	fake_net.server = FAKE_REFUSED;
	standby_ask(&standby, 0);
	assert_int_equal(until_ended(), STANDBY_FAILED);
	assert_int_equal(standby.err.exit_code, X_UNREACHABLE);
	until_up(1);
	end();
}

static void command_while_there_is_no_link(void **state)
{
	(void)state;
	begin(false, 0);
	until_up(0);
	standby.plentiful = false;
	lose();
	fake_net.others[0] = FAKE_UNREACHABLE;
	fake_net.others[1] = FAKE_UNREACHABLE;
	assert_true(comes(&rig_conn, CONN_CONNECTING, PATIENCE_NS));
	fake_net.others[1] = FAKE_GOOD;
	standby_ask(&standby, 2);
	assert_int_equal(until_ended(), STANDBY_DONE);
	assert_int_equal(rig_conn.at, 2);
	lose();
	assert_true(comes(&rig_conn, CONN_DOWN, PATIENCE_NS));
	standby_ask(&standby, 0);
	assert_int_equal(until_ended(), STANDBY_FAILED);
	/* and it goes on by itself */
	fake_net.server = FAKE_GOOD;
	fake_net.others[0] = FAKE_REFUSED;
	until_up(0);
	end();
}

/* ---- by chance ---- */

#define EVENTS 1000000u
#define STORM 500u

static void one_event(void)
{
	static const int errors[] = { 0, ECONNRESET, ETIMEDOUT, EPROTO };

	switch (fake_net_random(10)) {
	case 0:
		fake_net.server = fake_net_random(FAKE_SERVERS);
		fake_net.others[0] = fake_net_random(FAKE_SERVERS);
		fake_net.others[1] = fake_net_random(FAKE_SERVERS);
		fake_net.no_sockets = fake_net_random(16) == 0;
		standby.plentiful = fake_net_random(2);
		standby.leave = fake_net_random(8) == 0;
		break;
	case 1:
		if (rig_conn.state == CONN_UP && !fake_net_random(4))
			conn_shutdown(&rig_conn, errors[fake_net_random(4)]);
		break;
	case 2:
		if (!standby.asked)
			standby_ask(&standby, fake_net_random(3));
		break;
	case 3:
		fake_clock_advance_us(fake_net_random(4000000));
		break;
	case 4:
		fake_net_drop_all();
		break;
	default:
		turn();
		fake_clock_advance_us(fake_net_random(1000));
		(void)standby_outcome(&standby);
		break;
	}
	check();
}

static void simulate(bool with_tls, uint32_t failback_ms)
{
	uint64_t waited = 0;

	begin(with_tls, failback_ms);
	until_up(0);
	for (uint32_t i = 0; i < EVENTS; i++) {
		one_event();
		if (i % STORM != STORM - 1)
			continue;
		fake_net.server = FAKE_GOOD;
		fake_net.others[0] = fake_net.others[1] = FAKE_GOOD;
		fake_net.no_sockets = false;
		standby.plentiful = true;
		standby.leave = false;
		if (standby.asked)
			(void)until_ended();
		assert_true(comes(&rig_conn, CONN_UP, PATIENCE_NS));
		assert_true(comes(&standby.conn, CONN_READY, PATIENCE_NS));
		waited++;
	}
	assert_int_equal(waited, EVENTS / STORM);
	assert_true(drops > 1000);
	end();
}

static void by_chance(void **state)
{
	(void)state;
	simulate(false, 0);
	simulate(true, FAILBACK_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_the_place_at_once),
		cmocka_unit_test(none_while_memory_is_short),
		cmocka_unit_test(end_of_one_that_waits_is_noticed),
		cmocka_unit_test(other_export_does_not_wait),
		cmocka_unit_test(older_one_is_not_taken),
		cmocka_unit_test(back_only_if_wanted),
		cmocka_unit_test(back_when_it_has_been_there_for_long),
		cmocka_unit_test(silent_one_is_left_for_one_that_is_ready),
		cmocka_unit_test(command_goes_to_another),
		cmocka_unit_test(good_link_is_not_given_up_for_a_bad_one),
		cmocka_unit_test(command_renews_the_same),
		cmocka_unit_test(command_while_there_is_no_link),
		cmocka_unit_test(by_chance),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
