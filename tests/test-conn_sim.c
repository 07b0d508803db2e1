// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Millions of events on the connection's machine, by chance but the same each
 * time: servers of all kinds, time that jumps, an owner that takes, loses and
 * closes when it likes, and that loses its patience. It must keep its rules at
 * each step, come up whenever the server is good for a while, and lose no socket.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "common/clock.h"
#include "tests/conn_rig.h"

#define EVENTS 2000000u /* in each run */
#define STORM 400u     /* of them between two times of peace */

static uint64_t visits[CONN_STATES];
static struct engine_owed owed;
static uint64_t unanswered; /* probes */

static void lose(int error)
{
	patience_end(&rig_patience);
	conn_shutdown(&rig_conn, error);
}

/* The server owes an answer, or not, or has given a sign of it. */
static void owner_waits(void)
{
	if (rig_conn.state != CONN_UP)
		return;
	if (fake_net_random(200) == 0)
		owed.since_ns = 0;
	if (!owed.since_ns && fake_net_random(4) == 0)
		owed = (struct engine_owed){
			.since_ns = clock_now_ns(),
			.read = fake_net_random(2),
			.overtaken = fake_net_random(2),
		};
	if (rig_patience.proved_ns)
		fake_clock_advance_us(fake_net_random(1000000));
	for (int i = 0; i < 4; i++) {
		fake_net_progress();
		unanswered += patience_step(&rig_patience) != -EAGAIN;
	}
	if (patience_look(&rig_patience, &owed) == PATIENCE_REPLACE)
		lose(0);
}

static void owner_acts(void)
{
	static const int errors[] = { 0, ECONNRESET, EPIPE, ETIMEDOUT, EPROTO };
	struct conn *c = &rig_conn;

	switch (fake_net_random(6)) {
	case 0:
		conn_hurry(c);
		break;
	case 1:
		if (c->state == CONN_READY)
			conn_take(c);
		break;
	case 2:
		if (c->state == CONN_READY || c->state == CONN_UP)
			lose(errors[fake_net_random(5)]);
		break;
	case 3:
		/* The engine lets go once its operations have ended. */
		if (c->state == CONN_LOST || fake_net_random(20) == 0) {
			patience_end(&rig_patience);
			conn_close(c);
		}
		break;
	case 4:
		if (c->state == CONN_DOWN && fake_net_random(20) == 0)
			conn_inherit(c);
		break;
	default:
		fake_net_drop_all();
		break;
	}
}

static void one_event(void)
{
	int due_ms = conn_due_ms(&rig_conn, clock_now_ns());

	switch (fake_net_random(10)) {
	case 0:
		owner_acts();
		break;
	case 1:
		fake_clock_advance_us(fake_net_random(20000));
		break;
	case 2:
		if (due_ms > 0)
			fake_clock_advance_us(1000u * (uint32_t)due_ms);
		break;
	case 3:
		fake_net.server = fake_net_random(FAKE_SERVERS);
		fake_net.others[0] = fake_net_random(FAKE_SERVERS);
		fake_net.others[1] = fake_net_random(FAKE_SERVERS);
		fake_net.tls_fails = fake_net_random(8) == 0;
		fake_net.no_sockets = fake_net_random(16) == 0;
		break;
	case 4:
	case 5:
		fake_net_progress();
		break;
	case 6:
	case 7:
		owner_waits();
		break;
	default:
		conn_step(&rig_conn);
		break;
	}
	visits[rig_conn.state]++;
	rig_check();
}

static void peace(void)
{
	fake_net.server = FAKE_GOOD;
	fake_net.others[0] = FAKE_GOOD;
	fake_net.others[1] = FAKE_GOOD;
	fake_net.tls_fails = false;
	fake_net.no_sockets = false;
	if (rig_conn.state == CONN_UP)
		return;
	rig_until(CONN_UP);
}

/* With TLS the server has a UNIX socket, whose queue can be full. */
static void simulate(bool tls)
{
	uint64_t up = 0;

	if (tls) {
		rig_open_unix(true);
	} else {
		rig_open(false, true);
		rig_add_others();
	}
	memset(visits, 0, sizeof(visits));
	unanswered = 0;
	peace(); /* now it is known what the export is */
	for (uint32_t i = 0; i < EVENTS; i++) {
		one_event();
		if (i % STORM == STORM - 1) {
			peace();
			up++;
		}
	}
	assert_int_equal(up, EVENTS / STORM);
	/* It was everywhere, or it has proved nothing. */
	for (int s = 0; s < CONN_STATES; s++)
		if (visits[s] < 100 && (tls || s != CONN_TLS))
			fail_msg("only %llu times in state %d",
				 (unsigned long long)visits[s], s);
	assert_true(rig_conn.unfenced > 0);
	assert_true(rig_patience.replaced > 50 && unanswered > 100);
	assert_true(fake_net.open_max <= SOCKETS_COUNT);
	rig_close();
}

static void plain(void **state)
{
	(void)state;
	simulate(false);
}

static void encrypted(void **state)
{
	(void)state;
	simulate(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(encrypted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
