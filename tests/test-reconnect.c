// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Integration: the server is killed and started again, over and over, in the
 * middle of random I/O. The kernel's end must not see any of it: no error, no
 * wrong byte, no answer missing. Only when the user has given the link up do
 * errors come, and then at once, until the link is back.
 */
#include <malloc.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/clock.h"
#include "common/guard.h"
#include "nbd-client/patience.h"
#include "nbd-client/tls_memory.h"
#include "tests/kernel_end.h"
#include "tests/real_server.h"
#include "tests/script_server.h"
#include "tests/test_certs.h"

#define DISK_BYTES (4u * MIB)
#define SLOT_BYTES (64u * KIB)
#define SLOTS 12u
#define DEPTH 16u
#define COOKIE 0x1234567800000000ull
#define LONG_MS 10000 /* no test waits so long unless something is broken */

/* What the socketpair can hold: one thread both sends and receives here. */
#define IN_FLIGHT_BYTES (128u * KIB)

struct pending {
	bool used;
	uint16_t command;
	uint64_t offset;
	uint32_t length;
};

static struct run {
	struct kernel_end k;
	struct real_server server;
	bool serving; /* the server is there */
	struct err err;
	uint8_t copy[DISK_BYTES]; /* what the disk must hold */
	uint8_t scratch[SLOT_BYTES];
	struct pending pending[DEPTH];
	uint32_t in_flight;
	uint32_t in_flight_bytes;
	uint32_t done;
	uint32_t reconnects;
	struct patience patience;
	struct script_server odd;
	bool counting; /* calls of malloc in the control thread's part: */
	uint64_t mallocs;
} r;

/* ---- the control thread's part, which never blocks here ---- */

static void take_news(void)
{
	uint64_t count;
	uint32_t news;

	assert_int_equal(read(r.k.news_fd, &count, sizeof(count)), 8);
	news = engine_take_news(r.k.engine);
	assert_false(news & (NEWS_FAILED | NEWS_FRONT_GONE | NEWS_CLOSED));
	if (news & NEWS_LINK_LOST)
		conn_shutdown(&r.k.conn,
			      atomic_load(&r.k.engine->news.link_error));
	if (news & NEWS_LINK_IDLE)
		conn_close(&r.k.conn);
	while (r.k.conn.state == CONN_FENCE) {
		poll(NULL, 0, CONN_FENCE_POLL_MS);
		conn_step(&r.k.conn);
	}
}

static void connect_again(void)
{
	if (!r.serving || r.k.conn.state != CONN_DOWN)
		return;
	if (conn_open(&r.k.conn, &r.err) < 0)
		return;
	kernel_end_give_link(&r.k);
	r.reconnects++;
}

static void control(void (*part)(void))
{
	if (r.counting)
		guard_arm(&r.mallocs);
	part();
	guard_disarm();
}

static void on_news(void)
{
	control(take_news);
}

static void reconnect(void)
{
	control(connect_again);
}

/* News and links, until `state`; fails if it does not come. */
static void until(enum conn_state state)
{
	struct pollfd fd = { .fd = r.k.news_fd, .events = POLLIN };

	while (r.k.conn.state != state) {
		reconnect();
		if (r.k.conn.state == state)
			return;
		if (r.serving && r.k.conn.state == CONN_DOWN)
			fail_msg("no way back: %s", r.err.text);
		if (poll(&fd, 1, LONG_MS) != 1)
			fail_msg("no news in %d ms, the link is %d", LONG_MS,
				 r.k.conn.state);
		on_news();
	}
}

/* The wait for the news and for the kernel ends often enough for this. */
static void be_patient(void)
{
	const struct engine_owed owed = engine_owed(r.k.engine);

	if (!r.patience.limit_ns || r.k.conn.state != CONN_UP)
		return;
	(void)patience_step(&r.patience);
	if (patience_look(&r.patience, &owed) == PATIENCE_REPLACE)
		engine_post(r.k.engine, MAIL_LINK_DROP);
}

static void kill_server(void)
{
	assert_int_equal(kill(r.server.pid, SIGKILL), 0);
	r.serving = false;
}

static void start_server(void)
{
	real_server_restart(&r.server);
	r.serving = true;
}

/* ---- the kernel's part ---- */

static bool overlaps(uint64_t offset, uint32_t length)
{
	for (uint32_t i = 0; i < DEPTH; i++) {
		const struct pending *p = &r.pending[i];

		if (p->used && offset < p->offset + p->length &&
		    p->offset < offset + length)
			return true;
	}
	return false;
}

static void start_one(uint32_t at)
{
	static const uint16_t commands[] = {
		NBD_CMD_READ, NBD_CMD_READ, NBD_CMD_READ, NBD_CMD_WRITE,
		NBD_CMD_WRITE, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES,
		NBD_CMD_FLUSH,
	};
	struct pending *p = &r.pending[at];

	p->command = commands[random() % 8];
	do {
		p->length = 512u * (1 + (uint32_t)random() %
						(SLOT_BYTES / 512));
		if (random() % 2)
			p->length = 4096;
		p->offset = 512ull * ((uint64_t)random() %
				      ((DISK_BYTES - p->length) / 512));
	} while (overlaps(p->offset, p->length));
	if (p->command == NBD_CMD_FLUSH) {
		p->offset = 0;
		p->length = 0;
	}
	if (p->command == NBD_CMD_WRITE)
		for (uint32_t i = 0; i < p->length; i++)
			r.copy[p->offset + i] = (uint8_t)random();
	if (p->command == NBD_CMD_WRITE_ZEROES)
		memset(r.copy + p->offset, 0, p->length);
	p->used = true;
	r.in_flight++;
	r.in_flight_bytes += p->length;
	kernel_end_send(&r.k, p->command, 0, COOKIE + at, p->offset, p->length,
			r.copy + p->offset);
}

static void start_some(void)
{
	for (uint32_t i = 0; i < DEPTH; i++)
		if (!r.pending[i].used &&
		    r.in_flight_bytes + SLOT_BYTES <= IN_FLIGHT_BYTES)
			start_one(i);
}

static void finish_one(void)
{
	uint64_t cookie;
	uint32_t error = kernel_end_reply(&r.k, &cookie);
	uint32_t at = (uint32_t)cookie;
	struct pending *p = &r.pending[at];

	assert_int_equal(cookie >> 32, COOKIE >> 32);
	assert_true(at < DEPTH && p->used);
	if (error)
		fail_msg("error %u reached the kernel for command %u", error,
			 p->command);
	if (p->command == NBD_CMD_READ) {
		kernel_end_payload(&r.k, r.scratch, p->length);
		if (memcmp(r.scratch, r.copy + p->offset, p->length) != 0)
			fail_msg("wrong data in [%llu, +%u) after %u reconnects",
				 (unsigned long long)p->offset, p->length,
				 r.reconnects);
	}
	p->used = false;
	r.in_flight--;
	r.in_flight_bytes -= p->length;
	r.done++;
}

/* Until `count` more requests have ended. */
static void run(uint32_t count, bool more)
{
	uint32_t goal = r.done + count;
	uint64_t last_ns = clock_now_ns();

	while (r.done < goal && (more || r.in_flight)) {
		struct pollfd fds[] = {
			{ .fd = r.k.news_fd, .events = POLLIN },
			{ .fd = r.k.pair[0], .events = POLLIN },
		};

		if (more)
			start_some();
		reconnect();
		be_patient();
		if (poll(fds, 2, r.patience.limit_ns ? 10 : LONG_MS) > 0)
			last_ns = clock_now_ns();
		if (clock_now_ns() - last_ns > LONG_MS * NS_PER_MS)
			fail_msg("%u requests have no answer for %d ms",
				 r.in_flight, LONG_MS);
		if (fds[0].revents)
			on_news();
		if (fds[1].revents)
			finish_one();
	}
}

static void check_whole_disk(void)
{
	for (uint64_t at = 0; at < DISK_BYTES; at += SLOT_BYTES) {
		uint64_t cookie;

		kernel_end_send(&r.k, NBD_CMD_READ, 0, 1, at, SLOT_BYTES, NULL);
		assert_int_equal(kernel_end_reply(&r.k, &cookie), 0);
		kernel_end_payload(&r.k, r.scratch, SLOT_BYTES);
		assert_memory_equal(r.scratch, r.copy + at, SLOT_BYTES);
	}
}

static void open_run(const struct real_server_kind *kind)
{
	struct tls_options tls = { .hostname = "localhost" };

	memset(&r, 0, sizeof(r));
	srandom(1);
	if (!real_server_start(&r.server, kind, DISK_BYTES))
		skip();
	r.serving = true;
	if (kind->scheme) /* an encrypted one */
		tls.ca = test_certs("ca-cert.pem");
	if (kernel_end_open_tls(&r.k, r.server.uri, tls.ca ? &tls : NULL,
				SLOTS, SLOT_BYTES, &r.err) < 0)
		fail_msg("%s", r.err.text);
}

static void close_run(void)
{
	if (r.patience.limit_ns)
		patience_end(&r.patience);
	assert_true(kernel_end_close(&r.k));
	assert_int_equal(r.k.stats.states[REQUEST_FREE], r.k.config.slots);
	assert_int_equal(r.k.stats.stray_mallocs, 0);
	if (r.server.pid)
		real_server_stop(&r.server);
	r.server.pid = 0;
}

/* After a failed test too the server must go. */
static int tear_down(void **state)
{
	(void)state;
	if (r.server.pid)
		real_server_stop(&r.server);
	script_server_stop(&r.odd);
	return 0;
}

/* ---- tests ---- */

static void killed_again_and_again(const struct real_server_kind *kind,
				   uint32_t kills)
{
	open_run(kind);
	for (uint32_t i = 0; i < kills; i++) {
		run(50 + (uint32_t)random() % 50, true);
		start_some();
		kill_server();
		/* Every other time the loss is noticed before the return. */
		if (i % 2)
			until(CONN_DOWN);
		start_server();
		/* And every fourth time it dies before it has answered much. */
		if (i % 4 == 3) {
			until(CONN_UP);
			run((uint32_t)random() % 4, false);
			kill_server();
			start_server();
		}
	}
	run(200, true);
	run(DEPTH, false);
	assert_int_equal(r.in_flight, 0);
	assert_true(r.reconnects >= kills);
	check_whole_disk();
	close_run();
	assert_true(r.k.stats.replayed_total > 0);
}

static void killed_amid_io(void **state)
{
	(void)state;
	killed_again_and_again(&real_server_nbdkit, 16);
}

static void killed_amid_io_simple_replies(void **state)
{
	(void)state;
	killed_again_and_again(&real_server_nbdkit_simple, 4);
}

static void killed_amid_io_in_tls(void **state)
{
	(void)state;
	killed_again_and_again(&real_server_nbdkit_x509, 8);
	assert_int_equal(tls_memory_arena()->denied, 0);
	assert_int_equal(tls_memory_arena()->strays, 0);
}

/*
 * A hundred handshakes under load: the heap has as much in it as before, nobody
 * has asked it for more meanwhile, and OpenSSL's own memory is far from used up.
 */
static void links_take_no_memory(void **state)
{
	struct mallinfo2 before = { 0 }, after;
	const struct arena *arena;

	(void)state;
	open_run(&real_server_nbdkit_x509);
	arena = tls_memory_arena();
	for (int i = 0; i < 110; i++) {
		run(20, true);
		if (i == 10) { /* what is made once has been made */
			before = mallinfo2();
			r.counting = true;
		}
		engine_post(r.k.engine, MAIL_LINK_DROP);
		until(CONN_DOWN);
		until(CONN_UP);
	}
	after = mallinfo2();
	assert_int_equal(r.reconnects, 110);
	assert_int_equal(r.mallocs, 0);
	assert_int_equal(after.arena, before.arena);
	assert_int_equal(after.hblkhd, before.hblkhd);
	assert_int_equal(after.uordblks, before.uordblks);
	assert_int_equal(arena->denied, 0);
	assert_int_equal(arena->strays, 0);
	assert_true(arena->peak_bytes < arena->bytes / 2);
	print_message("OpenSSL's memory: %zu KiB used, %zu KiB peak\n",
		      arena->used_bytes / 1024, arena->peak_bytes / 1024);
	run(DEPTH, false);
	check_whole_disk();
	close_run();
}

static void idle_link_is_lost(void **state)
{
	(void)state;
	open_run(&real_server_nbdkit);
	run(20, true);
	run(DEPTH, false);
	for (int i = 0; i < 2; i++) {
		kill_server();
		until(CONN_DOWN); /* noticed without a request */
		start_server();
		until(CONN_UP);
	}
	run(20, true);
	run(DEPTH, false);
	check_whole_disk();
	close_run();
	assert_int_equal(r.k.stats.replayed_total, 0);
}

static void expect_failed(uint64_t cookie)
{
	struct pollfd fd = { .fd = r.k.pair[0], .events = POLLIN };
	uint64_t got;

	if (poll(&fd, 1, LONG_MS) != 1)
		fail_msg("no answer though the link was given up");
	assert_int_equal(kernel_end_reply(&r.k, &got), NBD_EIO);
	assert_int_equal(got, cookie);
}

static void given_up_and_back(void **state)
{
	(void)state;
	open_run(&real_server_nbdkit);
	run(20, true);
	run(DEPTH, false);
	kill_server();
	until(CONN_DOWN);
	kernel_end_send(&r.k, NBD_CMD_READ, 0, 1, 0, 4096, NULL);
	kernel_end_send(&r.k, NBD_CMD_FLUSH, 0, 2, 0, 0, NULL);
	engine_post(r.k.engine, MAIL_FAIL);
	expect_failed(1);
	expect_failed(2);
	/* From now on at once. */
	for (uint64_t i = 3; i < 40; i++) {
		kernel_end_send(&r.k, NBD_CMD_WRITE, 0, i, 0, 512, r.copy);
		expect_failed(i);
	}
	start_server();
	until(CONN_UP);
	run(100, true);
	run(DEPTH, false);
	check_whole_disk();
	/* And patient again. */
	start_some();
	kill_server();
	start_server();
	run(100, true);
	run(DEPTH, false);
	check_whole_disk();
	close_run();
}

/* A server that fails every tenth request, and is restarted, too. */
static void errors_are_got_over(void **state)
{
	const struct socket_memory memory = { 0 };
	const uint64_t most_bytes = SLOT_BYTES + THROTTLE_HEAD_BYTES;
	const struct engine_config config = {
		.slots = 2 * DEPTH + 2, /* room to put all of them off */
		.slots_reserve = 1,
		.slot_bytes = SLOT_BYTES,
		.retry_ms = LONG_MS,
		.open = { 1ull << 30, 1ull << 30 },
		.guaranteed = { most_bytes, most_bytes },
	};

	(void)state;
	memset(&r, 0, sizeof(r));
	if (!real_server_start(&r.server, &real_server_nbdkit_failing,
			       DISK_BYTES))
		skip();
	r.serving = true;
	if (kernel_end_open_sized(&r.k, r.server.uri, &config, &memory,
				  &r.err) < 0)
		fail_msg("%s", r.err.text);
	for (int i = 0; i < 3; i++) {
		run(100, true);
		start_some();
		kill_server();
		start_server();
	}
	run(100, true);
	run(DEPTH, false);
	check_whole_disk();
	close_run();
	assert_true(r.k.stats.retried_total > 10);
	assert_int_equal(r.k.stats.retries_failed, 0);
}

/* Three connections fall silent in the midst of it all; probes are answered. */
static void silent_link_is_replaced(void **state)
{
	const uint32_t silent = 3, requests = 40;
	char behaviour[64];

	(void)state;
	memset(&r, 0, sizeof(r));
	snprintf(behaviour, sizeof(behaviour), "-s %u -c %u never-answer=%u",
		 DISK_BYTES, 2 * silent - 1, requests);
	script_server_start(&r.odd, behaviour);
	r.serving = true;
	if (kernel_end_open(&r.k, r.odd.uri, SLOTS, SLOT_BYTES, &r.err) < 0)
		fail_msg("%s", r.err.text);
	patience_init(&r.patience, &r.k.conn, 100);
	run(silent * requests + 1, true);
	/* A probe that comes too late on a busy machine uses one up, too. */
	assert_in_range(r.patience.replaced, 1, silent);
	assert_int_equal(r.reconnects, r.patience.replaced);
	run(200, true);
	run(DEPTH, false);
	check_whole_disk();
	close_run();
	assert_true(r.k.stats.replayed_total > 0);
}

/* A server that is only stopped gets no request twice. */
static void stopped_server_is_waited_for(void **state)
{
	uint64_t end_ns;

	(void)state;
	open_run(&real_server_nbdkit);
	patience_init(&r.patience, &r.k.conn, 100);
	run(50, true);
	kill(r.server.pid, SIGSTOP);
	end_ns = clock_now_ns() + LONG_MS * NS_PER_MS;
	while (r.patience.probes < 3) {
		struct pollfd fd = { .fd = r.k.pair[0], .events = POLLIN };

		assert_true(clock_now_ns() < end_ns);
		start_some();
		be_patient();
		if (poll(&fd, 1, 10) == 1)
			finish_one();
	}
	kill(r.server.pid, SIGCONT);
	run(200, true);
	run(DEPTH, false);
	assert_int_equal(r.patience.replaced, 0);
	assert_int_equal(r.reconnects, 0);
	check_whole_disk();
	close_run();
	assert_int_equal(r.k.stats.replayed_total, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(killed_amid_io, tear_down),
		cmocka_unit_test_teardown(killed_amid_io_simple_replies,
					  tear_down),
		cmocka_unit_test_teardown(killed_amid_io_in_tls, tear_down),
		cmocka_unit_test_teardown(links_take_no_memory, tear_down),
		cmocka_unit_test_teardown(idle_link_is_lost, tear_down),
		cmocka_unit_test_teardown(given_up_and_back, tear_down),
		cmocka_unit_test_teardown(errors_are_got_over, tear_down),
		cmocka_unit_test_teardown(silent_link_is_replaced, tear_down),
		cmocka_unit_test_teardown(stopped_server_is_waited_for,
					  tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
