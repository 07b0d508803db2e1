// SPDX-License-Identifier: GPL-2.0-or-later
/* See conn_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "common/clock.h"
#include "tests/conn_rig.h"

/* What an owner may have to wait for, at the very most. */
#define PATIENCE_NS (600 * NS_PER_S)

struct conn rig_conn;
struct patience rig_patience;
static struct addr addr;
static struct addr others[FAKE_OTHERS];
static struct tls tls;

void rig_open_unix(bool with_tls)
{
	rig_open(with_tls, false);
	for (uint32_t i = 0; i < rig_conn.own.list[0].addrs.count; i++)
		rig_conn.own.list[0].addrs.addr[i].sa.ss_family = AF_UNIX;
}

void rig_open(bool with_tls, bool prepared)
{
	const struct socket_memory memory = { 0 };
	struct err err = { 0 };
	int reserved = 0;

	fake_net_reset();
	assert_int_equal(addr_parse(&addr, "nbd://127.0.0.1/x", &err), 0);
	assert_int_equal(conn_init(&rig_conn, &addr, &memory,
				   RIG_HANDSHAKE_MS, &err), 0);
	/* Two addresses: the time of one is half of that for all. */
	rig_conn.own.list[0].addrs.addr[1] = rig_conn.own.list[0].addrs.addr[0];
	rig_conn.own.list[0].addrs.count = 2;
	rig_conn.no_ktls = "as asked for";
	tls = (struct tls){ .mode = HANDSHAKE_TLS_REQUIRE };
	rig_conn.request_timeout_ms = RIG_REQUEST_MS;
	conn_set_tls(&rig_conn, with_tls ? &tls : NULL);
	patience_init(&rig_patience, &rig_conn, RIG_REQUEST_MS);
	if (prepared)
		assert_int_equal(sockets_prepare(&rig_conn.own.sockets,
						 AF_INET, SOCKETS_COUNT,
						 &reserved, &err), 0);
}

void rig_add_others(void)
{
	struct err err = { 0 };

	for (uint32_t i = 0; i < FAKE_OTHERS; i++) {
		others[i] = addr;
		others[i].port = (uint16_t)(addr.port + 1 + i);
		assert_int_equal(conn_add(&rig_conn, &others[i], &err), 0);
	}
}

void rig_close(void)
{
	patience_end(&rig_patience);
	conn_fini(&rig_conn);
	assert_int_equal(fake_net.open, 0);
	assert_int_equal(fake_net.faults, 0);
}

int rig_take(void)
{
	struct link_sockets source = sockets_source(&rig_conn.own.sockets);

	return source.take(source.arg, AF_INET);
}

void rig_give(void)
{
	sockets_give(&rig_conn.own.sockets, rig_conn.fd);
	rig_conn.fd = -1;
}

void rig_check(void)
{
	const struct conn *c = &rig_conn;
	uint32_t taken = 0, ready = 0, probing;
	int due_ms = conn_due_ms(c, clock_now_ns());
	struct pollfd fd;

	assert_true(c->state < CONN_STATES);
	assert_int_equal(fake_net.faults, 0);
	for (uint32_t i = 0; i < c->own.sockets.count; i++) {
		taken += c->own.sockets.ready[i].taken;
		ready += c->own.sockets.ready[i].fd >= 0;
	}
	probing = rig_patience.probe.fd >= 0 || rig_patience.probe.dial.fd >= 0;
	assert_true(!probing || rig_patience.probe.stage != PROBE_REST);
	/* A socket more than the ready ones only while it is used. */
	if (c->state == CONN_DOWN) {
		assert_int_equal(c->fd, -1);
		assert_true(taken <= probing);
		assert_true(fake_net.open <= ready + probing);
	} else if (c->state == CONN_CONNECTING) {
		assert_int_equal(c->fd, -1);
	} else if (c->state != CONN_FENCE) { /* may be of another process */
		assert_true(c->fd >= 0);
	}
	assert_true(taken <= 1 + probing);
	assert_true(fake_net.open <= ready + 1 + probing);
	/* Whoever waits for nobody has a time to wait until. */
	if (c->state == CONN_READY || c->state == CONN_UP ||
	    (c->state == CONN_LOST && c->cut))
		assert_int_equal(due_ms, -1);
	else
		assert_true(due_ms >= 0 && due_ms < 60000);
	conn_pollfd(c, &fd);
	assert_true(fd.fd < 0 || fd.events);
}

/* As the control thread does: when it is time, or its socket is ready. */
static void step_when_due(void)
{
	struct pollfd fd;

	conn_pollfd(&rig_conn, &fd);
	if (conn_due_ms(&rig_conn, clock_now_ns()) == 0 ||
	    (fd.fd >= 0 && fake_net_ready(fd.fd, fd.events)))
		conn_step(&rig_conn);
}

void rig_until(enum conn_state state)
{
	uint64_t end_ns = clock_now_ns() + PATIENCE_NS;
	int at_once = 0;

	while (rig_conn.state != state) {
		int due_ms = conn_due_ms(&rig_conn, clock_now_ns());

		if (clock_now_ns() > end_ns)
			fail_msg("stuck in state %d on the way to %d",
				 rig_conn.state, state);
		if (due_ms > 0) {
			fake_clock_advance_us(1000u * (uint32_t)(
				1 + fake_net_random((uint32_t)due_ms)));
			at_once = 0;
		} else if (++at_once > 1000) {
			fail_msg("busy in state %d", rig_conn.state);
		}
		fake_net_progress();
		if (rig_conn.state == CONN_READY)
			conn_take(&rig_conn);
		else if (rig_conn.state == CONN_LOST &&
			 (rig_conn.cut || fake_net_random(8) == 0))
			conn_close(&rig_conn);
		else
			step_when_due();
		rig_check();
	}
}
