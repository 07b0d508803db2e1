// SPDX-License-Identifier: GPL-2.0-or-later
/* What a device does about a server that is silent, or gone for too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/device_serve.h"
#include "tests/fake_clock.h"

#define DEAD_S 30u
#define REQUEST_MS 10000u

static struct device d; /* large */
static struct queue q;
static struct stats_page page;
static struct attach_options options;
static int pair[2];

static int set_up(void **state)
{
	const struct socket_memory memory = { 0 };
	static struct addr addr;

	(void)state;
	memset(&d, 0, sizeof(d));
	memset(&q, 0, sizeof(q));
	memset(&page, 0, sizeof(page));
	options = (struct attach_options){ .dead_timeout_s = DEAD_S,
					   .request_timeout_ms = REQUEST_MS };
	assert_int_equal(addr_parse(&addr, "nbd+unix:///?socket=/nonexistent",
				    NULL), 0);
	assert_int_equal(conn_init(&q.conn, &addr, &memory, 1000, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	q.conn.fd = pair[0];
	q.conn.state = CONN_UP;
	q.device = &d;
	q.engine = calloc(1, sizeof(*q.engine));
	q.engine->mail.event_fd = eventfd(0, EFD_NONBLOCK);
	d.queues = &q;
	d.queue_count = 1;
	d.options = &options;
	d.page = &page;
	patience_init(&q.patience, &q.conn, REQUEST_MS);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	patience_end(&q.patience);
	conn_fini(&q.conn);
	close(pair[1]);
	close(q.engine->mail.event_fd);
	free(q.engine);
	return 0;
}

static uint32_t mail(void)
{
	return atomic_exchange(&q.engine->mail.bits, 0);
}

static void owe_since(uint64_t since_ns)
{
	atomic_store(&q.engine->news.owed_since_ns, since_ns);
}

/* As once a second in life. */
static void pass(uint32_t seconds)
{
	while (seconds--) {
		fake_clock_advance_us(1000000);
		device_watch_silence(&q);
		device_check_dead(&q, clock_now_ns());
	}
}

static void silence_is_watched_and_probed(void **state)
{
	(void)state;
	owe_since(clock_now_ns());
	pass(REQUEST_MS / 1000 - 1);
	assert_int_equal(page.probes, 0);
	assert_int_equal(q.silent_since_ns, 0);
	pass(1);
	assert_int_equal(page.probes, 1);
	assert_true(q.silent_since_ns != 0);
	/* nobody is there: that is shown, and the link kept */
	device_step_probe(&q);
	assert_non_null(strstr(page.link_error, "/nonexistent"));
	assert_int_equal(mail(), 0);
	/* and when an answer comes it is over */
	owe_since(clock_now_ns());
	pass(1);
	assert_int_equal(q.silent_since_ns, 0);
	assert_int_equal(page.links_replaced, 0);
	assert_int_equal(mail(), 0);
}

static void proved_link_is_replaced_once(void **state)
{
	(void)state;
	owe_since(clock_now_ns());
	pass(REQUEST_MS / 1000);
	probe_end(&q.patience.probe);
	q.patience.proved_ns = clock_now_ns();
	pass(1);
	assert_int_equal(page.links_replaced, 1);
	assert_int_equal(mail(), MAIL_LINK_DROP);
	assert_non_null(q.giving_up);
	pass(1);
	assert_int_equal(mail(), 0);
}

/* A silence counts as a lost link, from its beginning; and only once. */
static void dead_timeout_counts_silence(void **state)
{
	(void)state;
	owe_since(clock_now_ns());
	pass(DEAD_S - 1);
	assert_int_equal(mail(), 0);
	pass(1);
	assert_int_equal(mail(), MAIL_LINK_DROP | MAIL_FAIL);
	assert_true(q.dead);
	assert_non_null(q.giving_up);
}

static void dead_timeout_counts_a_lost_link(void **state)
{
	(void)state;
	q.conn.state = CONN_DOWN;
	q.conn.down_since_ns = clock_now_ns();
	pass(DEAD_S - 1);
	assert_int_equal(mail(), 0);
	pass(1);
	assert_true(mail() & MAIL_FAIL);
	assert_null(q.giving_up); /* there is none to give up */
	pass(DEAD_S);
	assert_int_equal(mail(), 0);
	q.conn.state = CONN_UP;
	pass(1);
	assert_false(q.dead);
}

static void without_time_outs_all_is_waited_for(void **state)
{
	(void)state;
	options = (struct attach_options){ 0 };
	patience_init(&q.patience, &q.conn, 0);
	owe_since(clock_now_ns());
	pass(1000);
	q.conn.state = CONN_DOWN;
	q.conn.down_since_ns = clock_now_ns();
	pass(1000);
	assert_int_equal(mail(), 0);
	assert_int_equal(page.probes, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(silence_is_watched_and_probed),
		TEST(proved_link_is_replaced_once),
		TEST(dead_timeout_counts_silence),
		TEST(dead_timeout_counts_a_lost_link),
		TEST(without_time_outs_all_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
