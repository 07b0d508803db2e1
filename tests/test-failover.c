// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Integration: two real servers in front of one disk, one of them killed for
 * good amid writes. The kernel's end must not see any of it; what was written
 * must be on the disk. Then the way back, another export, one that has grown.
 */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/standby.h"
#include "tests/kernel_end.h"
#include "tests/real_server.h"
#include "tests/test_certs.h"

#define DISK_BYTES (4u * MIB)
#define BLOCK_BYTES (16u * KIB)
#define BLOCKS (DISK_BYTES / BLOCK_BYTES)
#define DEPTH 8u /* what the socketpair holds */
#define LONG_MS 20000u

static struct run {
	struct kernel_end k;
	struct standby standby;
	struct addr addr_b;
	struct real_server a, b;
	bool a_runs, b_runs;
	struct err err;
	uint8_t copy[2 * DISK_BYTES]; /* what the disk must hold */
	uint8_t scratch[BLOCK_BYTES];
	bool pending[2 * BLOCKS]; /* a write that is under way */
	uint32_t in_flight;
	uint64_t gap_ns;  /* longest time without an answer */
	uint32_t changes; /* links made after the first */
	uint32_t dials;	  /* attempts of the active connection at that */
} r;

/* ---- the control thread's part ---- */

static void on_news(void)
{
	struct conn *c = &r.k.conn;
	uint64_t count;
	uint32_t news;

	assert_int_equal(read(r.k.news_fd, &count, sizeof(count)), 8);
	news = engine_take_news(r.k.engine);
	assert_false(news & (NEWS_FAILED | NEWS_FRONT_GONE | NEWS_CLOSED));
	if (news & NEWS_LINK_LOST && c->state == CONN_UP)
		conn_shutdown(c, atomic_load(&r.k.engine->news.link_error));
	if (news & NEWS_LINK_IDLE && c->state == CONN_LOST)
		conn_close(c);
}

/* A reply was read: of a write, or of a read into scratch. */
static void on_reply(void)
{
	uint64_t cookie;
	uint32_t error = kernel_end_reply(&r.k, &cookie);

	if (error)
		fail_msg("error %u reached the kernel", error);
	if (cookie >= 2ull * BLOCKS) {
		uint64_t block = cookie - 2ull * BLOCKS;

		kernel_end_payload(&r.k, r.scratch, BLOCK_BYTES);
		if (memcmp(r.scratch, r.copy + block * BLOCK_BYTES,
			   BLOCK_BYTES) != 0)
			fail_msg("block %llu is not as it was written",
				 (unsigned long long)block);
	} else {
		r.pending[cookie] = false;
	}
	r.in_flight--;
}

static void on_change(struct conn *c, enum conn_state was)
{
	(void)was;
	r.dials += c->state == CONN_CONNECTING;
}

/* One turn of the loop, of at most so many milliseconds. */
static void turn(int most_ms)
{
	struct conn *c = &r.k.conn;
	struct pollfd fds[4] = {
		{ .fd = r.k.news_fd, .events = POLLIN },
		{ .fd = r.k.pair[0], .events = POLLIN },
	};
	int first_ms = conn_due_ms(c, clock_now_ns());
	int second_ms = standby_due_ms(&r.standby, clock_now_ns());

	conn_pollfd(c, &fds[2]);
	standby_pollfd(&r.standby, &fds[3]);
	if (first_ms >= 0 && first_ms < most_ms)
		most_ms = first_ms;
	if (second_ms >= 0 && second_ms < most_ms)
		most_ms = second_ms;
	poll(fds, 4, most_ms);
	if (fds[0].revents)
		on_news();
	if (fds[1].revents)
		on_reply();
	standby_step(&r.standby);
	if (c->state == CONN_READY) {
		kernel_end_give_link(&r.k);
		r.changes++;
	}
	if (standby_wants_drop(&r.standby, clock_now_ns()))
		engine_post(r.k.engine, MAIL_LINK_DROP);
}

/* Until no more than so many requests wait for an answer. */
static void drain(uint32_t until)
{
	uint64_t last_ns = clock_now_ns();
	uint32_t before = r.in_flight;

	while (r.in_flight > until) {
		uint64_t now_ns;

		turn(1000);
		now_ns = clock_now_ns();
		if (now_ns - last_ns > r.gap_ns)
			r.gap_ns = now_ns - last_ns;
		if (r.in_flight < before)
			last_ns = now_ns;
		before = r.in_flight;
		if (r.gap_ns > LONG_MS * NS_PER_MS)
			fail_msg("%u requests have no answer for %u ms",
				 r.in_flight, LONG_MS);
	}
}

static void until(struct conn *c, enum conn_state state, uint32_t at)
{
	uint64_t end_ns = clock_now_ns() + LONG_MS * NS_PER_MS;

	while (c->state != state || c->at != at) {
		turn(50);
		if (clock_now_ns() > end_ns)
			fail_msg("server %u in state %d instead of %u in %d: %s",
				 c->at, c->state, at, state, c->err.text);
	}
}

/* ---- the kernel's part ---- */

static void write_block(uint32_t block)
{
	uint8_t *at = r.copy + block * BLOCK_BYTES;

	drain(DEPTH - 1);
	assert_false(r.pending[block]);
	r.pending[block] = true;
	for (uint32_t i = 0; i < BLOCK_BYTES; i++)
		at[i] = (uint8_t)random();
	r.in_flight++;
	kernel_end_send(&r.k, NBD_CMD_WRITE, 0, block,
			(uint64_t)block * BLOCK_BYTES, BLOCK_BYTES, at);
}

static void write_some(uint32_t count)
{
	while (count--) {
		uint32_t block = (uint32_t)random() % BLOCKS;

		/* two at once to one place would end in any order */
		while (r.pending[block])
			block = (block + 1) % BLOCKS;
		write_block(block);
	}
}

static void write_all(void)
{
	drain(0);
	for (uint32_t i = 0; i < BLOCKS; i++)
		write_block(i);
}

/* Through the device, and what is on the disk. */
static void check_blocks(uint32_t count)
{
	int fd = open(r.a.disk, O_RDONLY);

	drain(0);
	for (uint32_t i = 0; i < count; i++) {
		r.in_flight++;
		kernel_end_send(&r.k, NBD_CMD_READ, 0, 2ull * BLOCKS + i,
				(uint64_t)i * BLOCK_BYTES, BLOCK_BYTES, NULL);
		drain(0);
		assert_int_equal(pread(fd, r.scratch, BLOCK_BYTES,
				       (off_t)i * BLOCK_BYTES), BLOCK_BYTES);
		assert_memory_equal(r.scratch, r.copy + i * BLOCK_BYTES,
				    BLOCK_BYTES);
	}
	close(fd);
}

/* ---- servers ---- */

static void kill_a(void)
{
	assert_int_equal(kill(r.a.pid, SIGKILL), 0);
	r.a_runs = false;
}

/* b: on the disk of a if it is the same store. */
static void start_b(const struct real_server_kind *kind, bool same,
		    uint64_t bytes)
{
	if (!real_server_start(&r.b, kind, bytes))
		skip();
	r.b_runs = true;
	if (!same)
		return;
	unlink(r.b.disk);
	memcpy(r.b.disk, r.a.disk, sizeof(r.b.disk));
	real_server_restart(&r.b);
}

static void open_run(const struct real_server_kind *kind, bool warm,
		     uint32_t failback_ms)
{
	struct tls_options tls = { .hostname = "localhost" };

	memset(&r, 0, sizeof(r));
	srandom(1);
	if (!real_server_start(&r.a, kind, DISK_BYTES))
		skip();
	r.a_runs = true;
	if (kind->scheme) /* an encrypted one */
		tls.ca = test_certs("ca-cert.pem");
	if (kernel_end_open_tls(&r.k, r.a.uri, tls.ca ? &tls : NULL, DEPTH,
				BLOCK_BYTES, &r.err) < 0)
		fail_msg("%s", r.err.text);
	r.k.conn.on_change = on_change;
	standby_init(&r.standby, &r.k.conn, failback_ms);
	r.standby.plentiful = warm;
}

static void add_b(void)
{
	assert_int_equal(addr_parse(&r.addr_b, r.b.uri, &r.err), 0);
	assert_int_equal(conn_add(&r.k.conn, &r.addr_b, &r.err), 0);
	r.k.conn.ends->list[1].tls = r.k.conn.ends->list[0].tls;
}

static void close_run(void)
{
	drain(0);
	standby_fini(&r.standby);
	assert_true(kernel_end_close(&r.k));
	assert_int_equal(r.k.stats.stray_mallocs, 0);
}

static int tear_down(void **state)
{
	(void)state;
	if (r.b_runs)
		real_server_stop(&r.b);
	if (r.a.dir[0])
		real_server_stop(&r.a);
	r.a.dir[0] = '\0';
	r.b_runs = false;
	return 0;
}

/* ---- tests ---- */

static void killed_for_good(const struct real_server_kind *kind, bool warm)
{
	open_run(kind, warm, 0);
	start_b(kind, true, DISK_BYTES);
	add_b();
	write_all();
	if (warm)
		until(&r.standby.conn, CONN_READY, 1);
	write_some(DEPTH);
	r.gap_ns = 0;
	kill_a();
	write_some(DEPTH);
	drain(0);
	assert_int_equal(r.k.conn.at, 1);
	assert_int_equal(r.changes, 1);
	/* The other one is asked; nobody, if it waits already. */
	assert_int_equal(r.dials, warm ? 0 : 1);
	print_message("%s, %s: %llu us without an answer\n", kind->program,
		      warm ? "warm" : "cold",
		      (unsigned long long)(r.gap_ns / 1000));
	write_some(4 * BLOCKS);
	check_blocks(BLOCKS);
	close_run();
}

static void other_takes_over(void **state)
{
	(void)state;
	killed_for_good(&real_server_nbdkit, false);
}

static void waiting_one_takes_over(void **state)
{
	(void)state;
	killed_for_good(&real_server_nbdkit, true);
}

static void waiting_qemu_takes_over(void **state)
{
	(void)state;
	killed_for_good(&real_server_qemu_nbd, true);
}

/* With the keys of the connection that has waited. */
static void waiting_one_takes_over_in_tls(void **state)
{
	(void)state;
	killed_for_good(&real_server_nbdkit_x509, true);
}

static void goes_back(void **state)
{
	(void)state;
	open_run(&real_server_nbdkit, true, 300);
	start_b(&real_server_nbdkit, true, DISK_BYTES);
	add_b();
	until(&r.standby.conn, CONN_READY, 1);
	for (int i = 0; i < 5; i++) {
		write_some(DEPTH);
		kill_a();
		until(&r.k.conn, CONN_UP, 1);
		write_some(2 * DEPTH);
		real_server_restart(&r.a);
		r.a_runs = true;
		while (r.k.conn.at != 0 || r.k.conn.state != CONN_UP)
			write_some(1);
		until(&r.standby.conn, CONN_READY, 1);
	}
	assert_int_equal(r.changes, 10);
	write_all();
	check_blocks(BLOCKS);
	close_run();
}

static enum standby_outcome ask(uint32_t at)
{
	uint64_t end_ns = clock_now_ns() + LONG_MS * NS_PER_MS;
	enum standby_outcome outcome;

	standby_ask(&r.standby, at);
	while ((outcome = standby_outcome(&r.standby)) == STANDBY_NONE) {
		if (r.in_flight == 0)
			write_some(DEPTH);
		turn(50);
		assert_true(clock_now_ns() < end_ns);
	}
	return outcome;
}

static void goes_where_it_is_told(void **state)
{
	(void)state;
	open_run(&real_server_nbdkit, false, 0);
	start_b(&real_server_nbdkit, true, DISK_BYTES);
	add_b();
	for (uint32_t i = 0; i < 20; i++) {
		/* there, the same again, and back */
		write_some(DEPTH);
		assert_int_equal(ask(i / 2 % 2), STANDBY_DONE);
		assert_int_equal(r.k.conn.at, i / 2 % 2);
		assert_int_equal(r.changes, i + 1);
	}
	kill(r.b.pid, SIGKILL);
	until(&r.k.conn, CONN_UP, 0);
	assert_int_equal(ask(1), STANDBY_FAILED);
	assert_int_equal(r.standby.err.exit_code, X_UNREACHABLE);
	assert_int_equal(r.k.conn.at, 0);
	write_all();
	check_blocks(BLOCKS);
	close_run();
}

static void other_export_is_refused(void **state)
{
	(void)state;
	open_run(&real_server_nbdkit, true, 0);
	start_b(&real_server_nbdkit, false, DISK_BYTES + MIB);
	add_b();
	write_all();
	drain(0);
	while (!r.standby.conn.failed)
		turn(50);
	assert_int_equal(r.standby.conn.err.exit_code, X_REFUSED);
	write_some(DEPTH);
	kill_a();
	while (r.k.conn.err.exit_code != X_REFUSED) {
		turn(50);
		assert_int_not_equal(r.k.conn.state, CONN_READY);
	}
	assert_int_equal(r.changes, 0);
	real_server_restart(&r.a);
	r.a_runs = true;
	until(&r.k.conn, CONN_UP, 0);
	check_blocks(BLOCKS);
	close_run();
}

static void described(struct real_server *s, const char *argv[16],
		      const char *text)
{
	size_t n = 0;

	real_server_qemu_nbd.command(s, argv);
	while (argv[n])
		n++;
	argv[n++] = "-D";
	argv[n++] = text;
	argv[n] = NULL;
}

static void volume_7(struct real_server *s, const char *argv[16])
{
	described(s, argv, "volume 7");
}

static void volume_8(struct real_server *s, const char *argv[16])
{
	described(s, argv, "volume 8");
}

/* Of the same size, but not the same. */
static void other_description_is_refused(void **state)
{
	static const struct real_server_kind kinds[] = {
		{ .program = "qemu-nbd", .command = volume_7,
		  .export_name = "disk" },
		{ .program = "qemu-nbd", .command = volume_8,
		  .export_name = "disk" },
	};

	(void)state;
	for (int same = 0; same < 2; same++) {
		open_run(&kinds[0], true, 0);
		r.k.conn.ends->described = true;
		start_b(&kinds[!same], same, DISK_BYTES);
		add_b();
		write_some(DEPTH);
		if (same) {
			until(&r.standby.conn, CONN_READY, 1);
		} else {
			while (!r.standby.conn.failed)
				turn(50);
			assert_non_null(strstr(r.standby.conn.err.text,
					       "description"));
		}
		close_run();
		tear_down(NULL);
	}
}

/* The server has a larger disk now: known after a reconnect, and usable. */
static void grows(const struct real_server_kind *kind)
{
	open_run(kind, true, 0);
	write_all();
	drain(0);
	assert_int_equal(truncate(r.a.disk, 2 * DISK_BYTES), 0);
	assert_int_equal(ask(0), STANDBY_DONE);
	assert_int_equal(r.k.conn.export.size_bytes, 2 * DISK_BYTES);
	drain(0);
	for (uint32_t i = BLOCKS; i < 2 * BLOCKS; i++)
		write_block(i);
	check_blocks(2 * BLOCKS);
	/* and never smaller: what is there would be cut off */
	assert_int_equal(truncate(r.a.disk, DISK_BYTES), 0);
	assert_int_equal(ask(0), STANDBY_FAILED);
	assert_int_equal(r.standby.err.exit_code, X_REFUSED);
	assert_int_equal(truncate(r.a.disk, 2 * DISK_BYTES), 0);
	until(&r.k.conn, CONN_UP, 0);
	close_run();
}

static void grows_with_nbdkit(void **state)
{
	(void)state;
	grows(&real_server_nbdkit);
}

static void grows_with_nbd_server(void **state)
{
	(void)state;
	grows(&real_server_nbd_server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(other_takes_over, tear_down),
		cmocka_unit_test_teardown(waiting_one_takes_over, tear_down),
		cmocka_unit_test_teardown(waiting_qemu_takes_over, tear_down),
		cmocka_unit_test_teardown(waiting_one_takes_over_in_tls,
					  tear_down),
		cmocka_unit_test_teardown(goes_back, tear_down),
		cmocka_unit_test_teardown(goes_where_it_is_told, tear_down),
		cmocka_unit_test_teardown(other_export_is_refused, tear_down),
		cmocka_unit_test_teardown(other_description_is_refused,
					  tear_down),
		cmocka_unit_test_teardown(grows_with_nbdkit, tear_down),
		cmocka_unit_test_teardown(grows_with_nbd_server, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
