// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Integration: the connection's machine on real sockets, driven by poll(2) as
 * the control thread drives it, against servers that take their time. No call
 * may take any, and whoever gives up gets out at once.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/conn.h"
#include "tests/script_server.h"

#define STEP_MS 1000u
#define AT_ONCE_MS 500u /* on a busy machine, but nowhere near STEP_MS */

static struct conn conn; /* large */
static struct script_server server;
static struct addr addr;
static struct err err;

static void begin(const char *behaviour)
{
	const struct socket_memory memory = { 0 };
	char uri[64];

	script_server_start(&server, behaviour);
	snprintf(uri, sizeof(uri), "nbd://127.0.0.1:%u/", server.port);
	assert_int_equal(addr_parse(&addr, uri, &err), 0);
	assert_int_equal(conn_init(&conn, &addr, &memory, STEP_MS, &err), 0);
	conn_hurry(&conn);
}

static void end(void)
{
	conn_fini(&conn);
	script_server_stop(&server);
}

/* One turn of the loop; no call of ours may take long. */
static void turn(int most_ms)
{
	int due_ms = conn_due_ms(&conn, clock_now_ns());
	struct pollfd fd;
	uint64_t start_ns;

	conn_pollfd(&conn, &fd);
	poll(&fd, 1, due_ms >= 0 && due_ms < most_ms ? due_ms : most_ms);
	start_ns = clock_now_ns();
	conn_step(&conn);
	assert_true(clock_now_ns() - start_ns < AT_ONCE_MS * NS_PER_MS);
}

static void good_server_is_reached(void **state)
{
	(void)state;
	begin("");
	while (conn.state != CONN_READY) {
		turn(1000);
		if (conn.failed)
			fail_msg("%s", conn.err.text);
	}
	end();
}

static void slow_ones_are_given_up_in_time(void **state)
{
	static const char *const slow[] = {
		"silent", "half-greeting=17", "drip=200", "silent-option=7",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(slow) / sizeof(slow[0]); i++) {
		uint64_t start_ns = clock_now_ns();

		begin(slow[i]);
		while (!conn.failed) {
			turn(1000);
			assert_true(conn.state != CONN_READY);
		}
		assert_int_equal(conn.state, CONN_DOWN);
		assert_int_equal(conn.err.exit_code, X_UNREACHABLE);
		assert_true(clock_now_ns() - start_ns <
			    (3ull * STEP_MS + 500) * NS_PER_MS);
		end();
	}
}

static int tcp_option(int option)
{
	socklen_t bytes = sizeof(int);
	int value = -1;

	assert_int_equal(getsockopt(conn.fd, IPPROTO_TCP, option, &value,
				    &bytes), 0);
	return value;
}

static void until(enum conn_state state)
{
	while (conn.state != state) {
		turn(1000);
		if (conn.failed)
			fail_msg("%s", conn.err.text);
	}
}

static void structured_replies_where_they_pay(void **state)
{
	static const struct {
		enum addr_kind kind;
		bool swap, for_kernel, structured;
	} cases[] = {
		{ ADDR_TCP, false, false, true },
		{ ADDR_TCP, true, false, false },
		{ ADDR_TCP, false, true, false },
		{ ADDR_UNIX, false, false, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin("");
		addr.kind = cases[i].kind; /* the server does not know it */
		conn.for_kernel = cases[i].for_kernel;
		conn_choose_replies(&conn, cases[i].swap);
		until(CONN_READY);
		assert_int_equal(conn.handshake.info.structured,
				 cases[i].structured);
		end();
	}
}

/* Also a socket that has been used before, and by others. */
static void silence_is_noticed_by_the_kernel(void **state)
{
	const int others = 7;
	int reserved, on = 0;
	socklen_t bytes = sizeof(on);

	(void)state;
	begin("");
	conn_close(&conn);
	assert_int_equal(sockets_prepare(&conn.own.sockets, AF_INET, 2, &reserved,
					 &err), 0);
	conn.request_timeout_ms = 12000;
	for (int i = 0; i < 4; i++) {
		conn_hurry(&conn);
		until(CONN_READY);
		assert_true(sockets_is_ready(&conn.own.sockets, conn.fd));
		assert_int_equal(getsockopt(conn.fd, SOL_SOCKET, SO_KEEPALIVE,
					    &on, &bytes), 0);
		assert_int_equal(on, 1);
		assert_int_equal(tcp_option(TCP_KEEPIDLE), 3);
		assert_int_equal(tcp_option(TCP_KEEPINTVL), 3);
		assert_int_equal(tcp_option(TCP_USER_TIMEOUT), 72000);
		setsockopt(conn.fd, IPPROTO_TCP, TCP_KEEPIDLE, &others,
			   sizeof(others));
		setsockopt(conn.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &others,
			   sizeof(others));
		conn_close(&conn);
		until(CONN_DOWN);
	}
	end();
}

/* As in a detach in the midst of a handshake. */
static void slow_handshake_is_left_at_once(void **state)
{
	uint64_t start_ns;

	(void)state;
	begin("silent");
	while (conn.state != CONN_NEGOTIATING)
		turn(100);
	turn(50);
	assert_int_equal(conn.state, CONN_NEGOTIATING);
	start_ns = clock_now_ns();
	conn_close(&conn);
	assert_int_equal(conn.state, CONN_DOWN);
	conn_fini(&conn);
	assert_true(clock_now_ns() - start_ns < AT_ONCE_MS * NS_PER_MS);
	script_server_stop(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_server_is_reached),
		cmocka_unit_test(slow_ones_are_given_up_in_time),
		cmocka_unit_test(slow_handshake_is_left_at_once),
		cmocka_unit_test(structured_replies_where_they_pay),
		cmocka_unit_test(silence_is_noticed_by_the_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
