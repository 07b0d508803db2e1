// SPDX-License-Identifier: GPL-2.0-or-later
/* The connection's machine: every state with every event, then whole stories. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/clock.h"
#include "tests/conn_rig.h"
#include "tests/fake_clock.h"

/* Each state, as it is reached in life. */
static void bring_to(enum conn_state state)
{
	static const enum fake_server servers[CONN_STATES] = {
		[CONN_CONNECTING] = FAKE_UNREACHABLE,
		[CONN_NEGOTIATING] = FAKE_SILENT,
		[CONN_LOST] = FAKE_NO_END,
		[CONN_FENCE] = FAKE_NO_END,
	};

	rig_open(state == CONN_TLS, true);
	fake_net.server = servers[state];
	if (state == CONN_DOWN)
		return;
	conn_hurry(&rig_conn);
	while (rig_conn.state != state) {
		rig_check();
		if (rig_conn.state == CONN_READY && state > CONN_UP)
			conn_shutdown(&rig_conn, 0);
		else if (rig_conn.state == CONN_READY)
			conn_take(&rig_conn);
		else if (rig_conn.state == CONN_LOST)
			conn_close(&rig_conn);
		else
			conn_step(&rig_conn);
		fake_net_progress();
	}
}

#define IN(state) (1u << CONN_##state)

/* Where each event may lead to; 0: stays. What a step does is chance. */
static const uint32_t leads_to[CONN_STATES][CONN_EVENTS] = {
	[CONN_DOWN] = {
		[CONN_EV_TAKEN] = IN(UP),
		[CONN_EV_START] = IN(CONNECTING),
		[CONN_EV_STEP] = IN(CONNECTING),
		[CONN_EV_INHERIT] = IN(FENCE) | IN(DOWN),
		[CONN_EV_MOVED] = IN(READY),
	},
	[CONN_CONNECTING] = {
		[CONN_EV_STEP] = IN(CONNECTING),
		[CONN_EV_CONNECTED] = IN(NEGOTIATING) | IN(DOWN),
		[CONN_EV_FAILED] = IN(DOWN),
		[CONN_EV_CLOSE] = IN(DOWN),
	},
	[CONN_NEGOTIATING] = {
		[CONN_EV_STEP] = IN(NEGOTIATING),
		[CONN_EV_TLS_ASKED] = IN(TLS),
		[CONN_EV_PROBED] = IN(DOWN),
		[CONN_EV_AGREED] = IN(READY),
		[CONN_EV_FAILED] = IN(DOWN),
		[CONN_EV_CLOSE] = IN(DOWN),
	},
	[CONN_TLS] = {
		[CONN_EV_STEP] = IN(TLS) | IN(NEGOTIATING) | IN(READY),
		[CONN_EV_TLS_DONE] = IN(NEGOTIATING),
		[CONN_EV_PROBED] = IN(DOWN),
		[CONN_EV_AGREED] = IN(READY),
		[CONN_EV_FAILED] = IN(DOWN),
		[CONN_EV_CLOSE] = IN(DOWN),
	},
	[CONN_READY] = {
		[CONN_EV_STEP] = IN(READY) | IN(FENCE) | IN(DOWN),
		[CONN_EV_MOVED] = IN(DOWN),
		[CONN_EV_TAKEN] = IN(UP),
		[CONN_EV_LOST] = IN(LOST),
		[CONN_EV_CLOSE] = IN(FENCE) | IN(DOWN),
	},
	[CONN_UP] = {
		[CONN_EV_LOST] = IN(LOST),
		[CONN_EV_CLOSE] = IN(FENCE) | IN(DOWN),
	},
	[CONN_LOST] = {
		[CONN_EV_CLOSE] = IN(FENCE) | IN(DOWN),
	},
	[CONN_FENCE] = {
		[CONN_EV_ENDED] = IN(DOWN),
	},
};

static void every_state_answers_every_event(void **state)
{
	(void)state;
	for (enum conn_state s = 0; s < CONN_STATES; s++) {
		for (enum conn_event e = 0; e < CONN_EVENTS; e++) {
			uint32_t may = leads_to[s][e];

			bring_to(s);
			/* Whoever says so has the socket, though it is not. */
			if (s == CONN_CONNECTING && e == CONN_EV_CONNECTED) {
				rig_conn.fd = rig_conn.dial.fd;
				rig_conn.dial.fd = -1;
			} else if (s == CONN_DOWN && e == CONN_EV_TAKEN) {
				rig_conn.fd = rig_conn.own.sockets.ready[0].fd;
			}
			/* Nor does one come from nowhere, or go there. */
			if (s == CONN_DOWN && e == CONN_EV_MOVED)
				rig_conn.fd = rig_take();
			if (s == CONN_READY && e == CONN_EV_MOVED)
				rig_give();
			conn_dispatch(&rig_conn, e);
			if (may ? !(may & 1u << rig_conn.state) :
				  rig_conn.state != s)
				fail_msg("state %d, event %d: state %d", s, e,
					 rig_conn.state);
			rig_check();
			/* And whatever it was, there is a way on. */
			fake_net.server = FAKE_GOOD;
			fake_net_drop_all();
			if (rig_conn.state == CONN_UP)
				conn_shutdown(&rig_conn, 0);
			if (rig_conn.state != CONN_UP)
				rig_until(CONN_UP);
			rig_close();
		}
	}
}

/* Each way to fail ends DOWN, with words, in time, and is tried again. */
static void every_failure_has_an_end(void **state)
{
	static const struct {
		enum fake_server server;
		int exit_code;
	} ways[] = {
		{ FAKE_UNREACHABLE, X_UNREACHABLE },
		{ FAKE_REFUSED, X_UNREACHABLE },
		{ FAKE_SILENT, X_UNREACHABLE },
		{ FAKE_GARBAGE, X_REFUSED },
		{ FAKE_REFUSES, X_REFUSED },
		{ FAKE_CHANGED, X_REFUSED },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		uint64_t start_ns, took_ns;
		struct err err = { 0 };

		rig_open(false, true);
		assert_int_equal(conn_probe(&rig_conn, &err), 0);
		assert_int_equal(rig_conn.state, CONN_DOWN);
		fake_net.server = ways[i].server;
		start_ns = clock_now_ns();
		assert_true(conn_open(&rig_conn, &err) < 0);
		assert_int_equal(err.exit_code, ways[i].exit_code);
		took_ns = clock_now_ns() - start_ns;
		assert_true(took_ns <= 5ull * RIG_HANDSHAKE_MS * NS_PER_MS);
		rig_check();
		assert_true(conn_due_ms(&rig_conn, clock_now_ns()) > 0 ||
			    took_ns >= CONN_BACKOFF_MIN_MS * NS_PER_MS);
		fake_net.server = FAKE_GOOD;
		rig_until(CONN_UP);
		assert_int_equal(rig_conn.failed, 0);
		rig_close();
	}
}

static void pauses_grow_and_are_forgotten(void **state)
{
	uint64_t longest_ms = 0;
	struct err err;

	(void)state;
	rig_open(false, true);
	fake_net.server = FAKE_REFUSED;
	for (int i = 0; i < 20; i++) {
		assert_true(conn_open(&rig_conn, &err) < 0);
		assert_int_equal(rig_conn.attempts, i + 1);
		longest_ms = (uint64_t)conn_due_ms(&rig_conn, clock_now_ns());
	}
	assert_true(longest_ms >= CONN_BACKOFF_MAX_MS &&
		    longest_ms <= CONN_BACKOFF_MAX_MS * 3 / 2);
	fake_net.server = FAKE_GOOD;
	rig_until(CONN_UP);
	/* one that lasted: at once */
	fake_clock_advance_us(1000u * CONN_GOOD_MS);
	conn_shutdown(&rig_conn, 0);
	rig_until(CONN_DOWN);
	assert_int_equal(conn_due_ms(&rig_conn, clock_now_ns()), 0);
	/* one that did not: not at once */
	rig_until(CONN_UP);
	conn_shutdown(&rig_conn, 0);
	rig_until(CONN_DOWN);
	assert_true(conn_due_ms(&rig_conn, clock_now_ns()) > 0);
	/* one that lasted and has answered nothing: not at once, either */
	rig_until(CONN_UP);
	fake_clock_advance_us(1000u * CONN_GOOD_MS);
	rig_conn.mute = true;
	conn_shutdown(&rig_conn, 0);
	rig_until(CONN_DOWN);
	assert_true(conn_due_ms(&rig_conn, clock_now_ns()) > 0);
	/* one that answered, however short: the pause does not grow */
	for (int i = 0; i < 10; i++) {
		rig_until(CONN_UP);
		rig_conn.answered = true;
		conn_shutdown(&rig_conn, 0);
		rig_until(CONN_DOWN);
		assert_in_range(conn_due_ms(&rig_conn, clock_now_ns()), 1,
				CONN_BACKOFF_MIN_MS * 3 / 2);
	}
	/* unless somebody wants it */
	conn_hurry(&rig_conn);
	assert_int_equal(rig_conn.state, CONN_CONNECTING);
	rig_close();
}

/* Tries for a minute. Milliseconds from the end of an attempt to the next. */
static uint64_t pause_at_last_ms(enum fake_server server)
{
	uint64_t end_ns = clock_now_ns() + 60 * NS_PER_S;
	struct err err = { 0 };

	assert_int_equal(conn_probe(&rig_conn, &err), 0);
	fake_net.server = server;
	while (clock_now_ns() < end_ns) {
		assert_true(conn_open(&rig_conn, &err) < 0);
		fake_clock_advance_us(1000u * (uint32_t)conn_due_ms(
			&rig_conn, clock_now_ns()));
	}
	assert_true(conn_open(&rig_conn, &err) < 0);
	return (uint64_t)conn_due_ms(&rig_conn, clock_now_ns());
}

/* However long it was away, a server that is back does not wait long for us. */
static void back_is_noticed_soon(void **state)
{
	(void)state;
	rig_open(false, true);
	rig_conn.handshake_ms = 10000;
	assert_true(pause_at_last_ms(FAKE_REFUSED) <= 1500);
	rig_close();
	/* An attempt that took long was the pause. */
	rig_open(false, true);
	rig_conn.handshake_ms = 10000;
	assert_int_equal(pause_at_last_ms(FAKE_UNREACHABLE), 0);
	rig_close();
}

/*
 * A connection request that was lost is repeated by the kernel after 1, 2, 4, 8
 * seconds and so on; a new attempt makes a new one.
 */
static void connecting_is_begun_anew(void **state)
{
	uint64_t start_ns;
	struct err err = { 0 };

	(void)state;
	rig_open(false, true);
	rig_conn.handshake_ms = 60000;
	assert_int_equal(conn_probe(&rig_conn, &err), 0);
	fake_net.server = FAKE_UNREACHABLE;
	start_ns = clock_now_ns();
	assert_true(conn_open(&rig_conn, &err) < 0);
	assert_true(clock_now_ns() - start_ns <= 6 * NS_PER_S);
	rig_close();
}

static void lost_syn_is_repeated_soon(void **state)
{
	struct err err = { 0 };

	(void)state;
	rig_open(false, true);
	assert_int_equal(conn_probe(&rig_conn, &err), 0);
	fake_net.server = FAKE_UNREACHABLE;
	conn_hurry(&rig_conn);
	assert_int_equal(rig_conn.state, CONN_CONNECTING);
	fake_net.server = FAKE_GOOD;
	rig_until(CONN_NEGOTIATING);
	assert_int_equal(rig_conn.dial.at, 0); /* before the next address's turn */
	conn_close(&rig_conn);
	rig_until(CONN_DOWN);
	rig_close();
}

/* Whether the old link has ended is seen, or said not to have been. */
static void old_link_is_fenced(void **state)
{
	static const struct {
		enum fake_server server;
		int error;	/* the link was lost by */
		bool seen;
	} ways[] = {
		{ FAKE_GOOD, 0, true },
		{ FAKE_GOOD, ECONNRESET, true },
		{ FAKE_GOOD, ETIMEDOUT, false },
		{ FAKE_NO_END, 0, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		uint64_t start_ns;

		rig_open(false, false);
		fake_net.server = ways[i].server;
		rig_until(CONN_UP);
		start_ns = clock_now_ns();
		conn_shutdown(&rig_conn, ways[i].error);
		rig_until(CONN_DOWN);
		assert_int_equal(rig_conn.unfenced, ways[i].seen ? 0 : 1);
		if (!ways[i].seen)
			assert_true(clock_now_ns() - start_ns >=
				    CONN_FENCE_MS * NS_PER_MS);
		rig_close();
	}
}

/* A server that neither answers nor ends must not keep the engine's operations. */
static void operations_are_ended_in_time(void **state)
{
	uint64_t start_ns;

	(void)state;
	rig_open(false, true);
	fake_net.server = FAKE_NO_END;
	rig_until(CONN_UP);
	conn_shutdown(&rig_conn, 0);
	start_ns = clock_now_ns();
	while (!rig_conn.cut) {
		int due_ms = conn_due_ms(&rig_conn, clock_now_ns());

		assert_true(due_ms >= 0);
		fake_clock_advance_us(1000u * (uint32_t)due_ms);
		conn_step(&rig_conn);
		assert_int_equal(rig_conn.state, CONN_LOST);
		assert_true(clock_now_ns() - start_ns <=
			    CONN_FENCE_MS * NS_PER_MS);
	}
	rig_close();
}

static void dead_process_is_fenced(void **state)
{
	(void)state;
	/* its sockets are ours: they are seen to end, none being connected */
	rig_open(false, true);
	conn_inherit(&rig_conn);
	rig_until(CONN_DOWN);
	assert_int_equal(rig_conn.unfenced, 0);
	rig_close();
	/* it had its own: nobody knows */
	rig_open(false, false);
	conn_inherit(&rig_conn);
	assert_int_equal(rig_conn.state, CONN_FENCE);
	/* whoever steps only when it is due gets there, too */
	assert_in_range(conn_due_ms(&rig_conn, clock_now_ns()), 1,
			CONN_FENCE_POLL_MS);
	fake_clock_advance_us(CONN_FENCE_POLL_MS * 1000u);
	assert_int_equal(conn_due_ms(&rig_conn, clock_now_ns()), 0);
	rig_until(CONN_DOWN);
	assert_int_equal(rig_conn.unfenced, 1);
	rig_close();
}

/* The driver of the kernel goes on with it; its end is that of any other. */
static void living_link_is_adopted(void **state)
{
	int fd;

	(void)state;
	rig_open(false, true);
	rig_until(CONN_UP);
	fd = rig_conn.fd;
	rig_conn.state = CONN_DOWN; /* in a new process */
	rig_conn.fd = -1;
	conn_adopt(&rig_conn, fd);
	assert_int_equal(rig_conn.state, CONN_UP);
	assert_int_equal(rig_conn.fd, fd);
	rig_check();
	conn_shutdown(&rig_conn, 0);
	rig_until(CONN_DOWN);
	rig_until(CONN_UP);
	rig_close();
}

/* The kernel's nbd driver has no record layer but that of the kernel. */
static void driver_needs_the_kernels_tls(void **state)
{
	struct err err = { 0 };

	(void)state;
	rig_open(true, true);
	rig_conn.for_kernel = true;
	assert_true(conn_open(&rig_conn, &err) < 0);
	assert_int_equal(err.exit_code, X_KERNEL);
	assert_non_null(strstr(err.text, "--kernel-path"));
	rig_check();
	rig_close();
}

static uint32_t changes;

static void on_change(struct conn *c, enum conn_state was)
{
	assert_ptr_equal(c, &rig_conn);
	assert_true(c->state != was);
	changes++;
}

static void changes_are_told(void **state)
{
	(void)state;
	rig_open(false, true);
	rig_conn.on_change = on_change;
	changes = 0;
	rig_until(CONN_UP);
	/* connecting, negotiating, ready, up */
	assert_int_equal(changes, 4);
	rig_close();
}

/* A second connection, while the first is up. */
static void another_goes_where_the_first_has_been(void **state)
{
	static struct conn other;
	struct link_addrs *addrs = &rig_conn.own.list[0].addrs;
	struct err err = { 0 };
	int reserved = 0;

	(void)state;
	rig_open(false, true);
	assert_int_equal(conn_probe(&rig_conn, &err), 0);
	addrs->addr[1].sa_bytes++; /* to tell it */
	rig_conn.dial.at = 1;	   /* that one has answered */
	conn_init_another(&other, &rig_conn);
	assert_int_equal(addrs->count, 1);
	assert_int_equal(addrs->addr[0].sa_bytes, addrs->addr[1].sa_bytes);
	assert_int_equal(other.own.list[0].addrs.count, 1);
	assert_int_equal(other.own.list[0].addrs.addr[0].sa_bytes,
			 addrs->addr[0].sa_bytes);
	/* Its sockets are not those of the first. */
	assert_int_equal(other.own.sockets.count, 0);
	rig_until(CONN_UP);
	assert_int_equal(sockets_prepare(&other.own.sockets, AF_INET,
					 SOCKETS_COUNT, &reserved, &err), 0);
	fake_net.server = FAKE_CHANGED;
	assert_true(conn_open(&other, &err) < 0);
	assert_int_equal(err.exit_code, X_REFUSED);
	fake_net.server = FAKE_GOOD;
	assert_int_equal(conn_open(&other, &err), 0);
	assert_true(other.fd != rig_conn.fd);
	assert_int_equal(rig_conn.state, CONN_UP);
	conn_fini(&other);
	rig_close();
}

static void no_socket_can_be_had(void **state)
{
	struct err err = { 0 };

	(void)state;
	rig_open(true, false);
	fake_net.no_sockets = true;
	assert_true(conn_open(&rig_conn, &err) < 0);
	assert_int_equal(err.error, EMFILE);
	rig_check();
	fake_net.no_sockets = false;
	fake_net.tls_fails = true;
	assert_true(conn_open(&rig_conn, &err) < 0);
	assert_int_equal(err.exit_code, X_TLS);
	rig_check();
	rig_close();
}

/* A UNIX socket does not tell when there is room in the server's queue. */
static void full_queue_is_tried_again(void **state)
{
	struct pollfd fd;

	(void)state;
	rig_open_unix(false);
	fake_net.server = FAKE_BUSY;
	conn_hurry(&rig_conn);
	for (int i = 0; i < 3; i++) {
		int due_ms = conn_due_ms(&rig_conn, clock_now_ns());

		assert_int_equal(rig_conn.state, CONN_CONNECTING);
		assert_in_range(due_ms, 1, RIG_HANDSHAKE_MS / 10);
		fake_clock_advance_us(1000u * (uint32_t)due_ms);
		assert_int_equal(conn_due_ms(&rig_conn, clock_now_ns()), 0);
		conn_step(&rig_conn);
	}
	conn_pollfd(&rig_conn, &fd);
	assert_int_equal(fd.fd, -1);
	fake_net.server = FAKE_GOOD;
	rig_until(CONN_UP);
	assert_int_equal(rig_conn.attempts, 0);
	rig_close();
}

/* ---- several servers ---- */

/* The server that is up after what is wrong with the first ones. */
static uint32_t server_up(enum fake_server first, enum fake_server second)
{
	fake_net.server = first;
	fake_net.others[0] = second;
	rig_until(CONN_UP);
	return rig_conn.at;
}

static void servers_are_tried_in_order(void **state)
{
	(void)state;
	rig_open(false, true);
	rig_add_others();
	assert_int_equal(server_up(FAKE_GOOD, FAKE_GOOD), 0);
	conn_shutdown(&rig_conn, 0);
	assert_int_equal(server_up(FAKE_REFUSED, FAKE_GOOD), 1);
	conn_shutdown(&rig_conn, 0);
	/* the first one is back, but nobody asked for it */
	assert_int_equal(server_up(FAKE_GOOD, FAKE_GOOD), 2);
	rig_close();
}

/* No pause on the way to the last one, and one when it has failed, too. */
static void pause_comes_after_the_last(void **state)
{
	(void)state;
	rig_open(false, true);
	rig_add_others();
	fake_net.server = FAKE_REFUSED;
	fake_net.others[0] = FAKE_REFUSED;
	fake_net.others[1] = FAKE_REFUSED;
	for (uint32_t i = 1; i <= 9; i++) {
		conn_hurry(&rig_conn);
		rig_until(CONN_DOWN);
		assert_int_equal(rig_conn.attempts, i);
		assert_int_equal(rig_conn.tried, (i - 1) % 3);
		assert_int_equal(rig_conn.at, i % 3);
		/* it may be over, if the attempt took long */
		assert_int_equal(rig_conn.next_attempt_ns > 0, i % 3 == 0);
	}
	rig_close();
}

/* Which server comes next depends on how the link was lost. */
static void lost_link_decides_where_to(void **state)
{
	static const struct {
		int error;
		bool lasted;
		uint32_t next;
	} ways[] = {
		{ 0, true, 0 },		 { ECONNRESET, true, 0 },
		{ ETIMEDOUT, true, 1 },	 { EPROTO, true, 1 },
		{ 0, false, 1 },	 { ECONNRESET, false, 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		rig_open(false, true);
		rig_add_others();
		rig_until(CONN_UP);
		if (ways[i].lasted)
			fake_clock_advance_us(1000u * CONN_GOOD_MS);
		conn_shutdown(&rig_conn, ways[i].error);
		rig_until(CONN_DOWN);
		assert_int_equal(rig_conn.at, ways[i].next);
		rig_until(CONN_UP);
		assert_int_equal(rig_conn.at, ways[i].next);
		rig_close();
	}
}

static void other_export_is_never_served(void **state)
{
	(void)state;
	rig_open(false, true);
	rig_add_others();
	rig_until(CONN_UP);
	fake_clock_advance_us(1000u * CONN_GOOD_MS);
	conn_shutdown(&rig_conn, 0);
	rig_until(CONN_DOWN);
	fake_net.server = FAKE_REFUSED;
	fake_net.others[0] = FAKE_CHANGED;
	rig_until(CONN_CONNECTING);
	rig_until(CONN_DOWN);
	rig_until(CONN_CONNECTING);
	rig_until(CONN_DOWN);
	assert_int_equal(rig_conn.tried, 1);
	assert_int_equal(rig_conn.err.exit_code, X_REFUSED);
	assert_non_null(strstr(rig_conn.err.text, "127.0.0.1 port 10810"));
	rig_until(CONN_UP);
	assert_int_equal(rig_conn.at, 2);
	rig_close();
}

static void growth_is_known_and_shrinking_refused(void **state)
{
	struct err err = { 0 };

	(void)state;
	rig_open(false, true);
	rig_until(CONN_UP);
	conn_shutdown(&rig_conn, 0);
	fake_net.size_bytes = 3u << 20;
	rig_until(CONN_UP);
	assert_int_equal(rig_conn.export.size_bytes, 3u << 20);
	conn_shutdown(&rig_conn, 0);
	rig_until(CONN_DOWN);
	fake_net.size_bytes = 2u << 20;
	assert_true(conn_open(&rig_conn, &err) < 0);
	assert_int_equal(err.exit_code, X_REFUSED);
	assert_int_equal(rig_conn.export.size_bytes, 3u << 20);
	rig_close();
}

/* At attach: the first that answers; what is wrong with the preferred one. */
static void probe_asks_each_server(void **state)
{
	struct err err = { 0 };

	(void)state;
	rig_open(false, true);
	rig_add_others();
	fake_net.server = FAKE_REFUSES;
	fake_net.others[0] = FAKE_REFUSED;
	assert_int_equal(conn_probe(&rig_conn, &err), 0);
	assert_int_equal(rig_conn.known_at, 2);
	assert_int_equal(conn_open(&rig_conn, &err), 0);
	assert_int_equal(rig_conn.at, 2);
	conn_close(&rig_conn);
	rig_until(CONN_DOWN);
	fake_net.others[1] = FAKE_SILENT;
	rig_conn.at = 0;
	assert_true(conn_open(&rig_conn, &err) < 0);
	assert_int_equal(err.exit_code, X_REFUSED);
	rig_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_state_answers_every_event),
		cmocka_unit_test(every_failure_has_an_end),
		cmocka_unit_test(pauses_grow_and_are_forgotten),
		cmocka_unit_test(back_is_noticed_soon),
		cmocka_unit_test(connecting_is_begun_anew),
		cmocka_unit_test(lost_syn_is_repeated_soon),
		cmocka_unit_test(old_link_is_fenced),
		cmocka_unit_test(operations_are_ended_in_time),
		cmocka_unit_test(dead_process_is_fenced),
		cmocka_unit_test(living_link_is_adopted),
		cmocka_unit_test(driver_needs_the_kernels_tls),
		cmocka_unit_test(changes_are_told),
		cmocka_unit_test(another_goes_where_the_first_has_been),
		cmocka_unit_test(no_socket_can_be_had),
		cmocka_unit_test(full_queue_is_tried_again),
		cmocka_unit_test(servers_are_tried_in_order),
		cmocka_unit_test(pause_comes_after_the_last),
		cmocka_unit_test(lost_link_decides_where_to),
		cmocka_unit_test(other_export_is_never_served),
		cmocka_unit_test(growth_is_known_and_shrinking_refused),
		cmocka_unit_test(probe_asks_each_server),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
