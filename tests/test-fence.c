// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Integration: no write of a process that has died lands after one of the process
 * that takes over. The server takes a second for each write, which is long enough
 * to overtake it, and the old process is killed with its write under way.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/proto.h"
#include "nbd-client/conn.h"

#define DISK_BYTES (1u << 20)
#define BLOCK_BYTES 4096u
#define WRITE_MS 1000u
#define LONG_MS 10000

static struct rig {
	pid_t server;
	pid_t dead; /* the process that is killed */
	struct addr addr;
	struct conn conn;
	struct err err;
	char dir[64], disk[80];
	uint16_t port;
	uint8_t block[BLOCK_BYTES];
	volatile int *sent; /* shared: the dead one's write has left */
} r;

/* ---- the server ---- */

/* A port that nobody has; nbdkit takes it a moment later. */
static uint16_t free_port(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t bytes = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, bytes), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &bytes), 0);
	close(fd);
	return ntohs(in.sin_port);
}

static void start_server(void)
{
	char port[8];
	int fd;

	snprintf(r.dir, sizeof(r.dir), "/tmp/nbd-test-XXXXXX");
	assert_non_null(mkdtemp(r.dir));
	snprintf(r.disk, sizeof(r.disk), "%s/disk", r.dir);
	fd = open(r.disk, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	close(fd);
	r.port = free_port();
	snprintf(port, sizeof(port), "%u", r.port);
	r.server = fork();
	if (r.server == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, STDIN_FILENO);
		dup2(null, STDERR_FILENO);
		/*
		 * Not the delay filter: that gives a request up when its client
		 * has gone.
		 */
		setenv("DISK", r.disk, 1);
		execlp("nbdkit", "nbdkit", "-f", "-t", "16", "-i", "127.0.0.1",
		       "-p", port, "eval", "thread_model=echo parallel",
		       "get_size=echo 1048576", "can_write=exit 0",
		       "pread=dd if=$DISK skip=$4 count=$3 iflag=count_bytes,skip_bytes",
		       "pwrite=sleep 1; dd of=$DISK seek=$4 conv=notrunc oflag=seek_bytes",
		       NULL);
		_exit(127);
	}
}

static bool have_nbdkit(void)
{
	return system("nbdkit eval --dump-plugin >/dev/null 2>&1") == 0;
}

/* ---- connections ---- */

static int set_up(void **state)
{
	const struct socket_memory none = { 0 };
	uint64_t end_ns = clock_now_ns() + LONG_MS * NS_PER_MS;
	char uri[64];
	int reserved = 0;

	(void)state;
	memset(&r, 0, sizeof(r));
	r.conn.fd = -1;
	if (!have_nbdkit())
		return 0;
	r.sent = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	start_server();
	snprintf(uri, sizeof(uri), "nbd://127.0.0.1:%u/", r.port);
	assert_int_equal(addr_parse(&r.addr, uri, &r.err), 0);
	assert_int_equal(conn_init(&r.conn, &r.addr, &none, LONG_MS, &r.err),
			 0);
	while (conn_probe(&r.conn, &r.err) < 0) {
		assert_true(clock_now_ns() < end_ns);
		poll(NULL, 0, 20);
	}
	/* As a supervisor does: from here on all processes have them. */
	assert_int_equal(sockets_prepare(&r.conn.own.sockets, r.conn.family, SOCKETS_COUNT,
					 &reserved, &r.err),
			 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (!r.server)
		return 0;
	conn_fini(&r.conn);
	kill(r.server, SIGKILL);
	waitpid(r.server, NULL, 0);
	unlink(r.disk);
	rmdir(r.dir);
	return 0;
}

static void transfer(uint16_t command, uint8_t fill)
{
	const struct proto_request p = {
		.command = command,
		.cookie = 7,
		.length_bytes = BLOCK_BYTES,
	};
	uint8_t head[sizeof(struct nbd_request)];

	memset(r.block, fill, BLOCK_BYTES);
	proto_put_request(head, &p);
	assert_int_equal(send(r.conn.fd, head, sizeof(head), MSG_NOSIGNAL),
			 sizeof(head));
	if (command == NBD_CMD_WRITE)
		assert_int_equal(
			send(r.conn.fd, r.block, BLOCK_BYTES, MSG_NOSIGNAL),
			BLOCK_BYTES);
}

/* Until the server has answered it. */
static void finish_write(void)
{
	uint8_t head[64];

	assert_true(recv(r.conn.fd, head, sizeof(head), 0) >= 16);
}

/* Connects, sends a write of `fill` to the first block, and is killed. */
static void die_writing(uint8_t fill)
{
	r.dead = fork();
	if (r.dead == 0) {
		if (conn_open(&r.conn, &r.err) < 0)
			_exit(1);
		transfer(NBD_CMD_WRITE, fill);
		*r.sent = 1;
		pause();
		_exit(0);
	}
	while (!*r.sent)
		poll(NULL, 0, 1);
	assert_int_equal(kill(r.dead, SIGKILL), 0);
	assert_int_equal(waitpid(r.dead, NULL, 0), r.dead);
}

/* Milliseconds that it took. */
static uint64_t fence(void)
{
	uint64_t begin_ns = clock_now_ns();

	conn_inherit(&r.conn);
	while (r.conn.state == CONN_FENCE) {
		int due_ms = conn_due_ms(&r.conn, clock_now_ns());

		assert_true(due_ms >= 0);
		poll(NULL, 0, due_ms);
		conn_step(&r.conn);
	}
	assert_int_equal(r.conn.state, CONN_DOWN);
	return (clock_now_ns() - begin_ns) / NS_PER_MS;
}

static uint8_t on_disk(void)
{
	int fd = open(r.disk, O_RDONLY | O_CLOEXEC);
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, 0), 1);
	close(fd);
	return byte;
}

/* ---- tests ---- */

static void late_write_comes_first(void **state)
{
	uint64_t took_ms;

	(void)state;
	if (!r.server)
		skip();
	r.conn.fence_ms = LONG_MS; /* a busy machine's server is slow to end */
	die_writing('o');
	assert_int_equal(on_disk(), 0);
	took_ms = fence();
	assert_int_equal(r.conn.unfenced, 0);
	/* The proof is one: what was in the server's hands is on its disk. */
	assert_int_equal(on_disk(), 'o');
	assert_in_range(took_ms, WRITE_MS / 2, LONG_MS);
	assert_int_equal(conn_open(&r.conn, &r.err), 0);
	transfer(NBD_CMD_WRITE, 'n');
	finish_write();
	poll(NULL, 0, WRITE_MS + WRITE_MS / 2);
	assert_int_equal(on_disk(), 'n');
}

/* Without waiting the old write would win: that is what the test can see. */
static void bound_is_kept_and_told(void **state)
{
	uint64_t took_ms;

	(void)state;
	if (!r.server)
		skip();
	r.conn.fence_ms = 100;
	die_writing('o');
	took_ms = fence();
	assert_in_range(took_ms, 100, WRITE_MS / 2);
	assert_int_equal(r.conn.unfenced, 1);
	assert_int_equal(on_disk(), 0);
	poll(NULL, 0, WRITE_MS + WRITE_MS / 2);
	assert_int_equal(on_disk(), 'o');
}

static void idle_connection_ends_at_once(void **state)
{
	(void)state;
	if (!r.server)
		skip();
	assert_true(fence() < CONN_FENCE_MS / 2); /* none was there at all */
	assert_int_equal(conn_open(&r.conn, &r.err), 0);
	conn_shutdown(&r.conn, 0);
	conn_close(&r.conn);
	while (r.conn.state == CONN_FENCE) {
		poll(NULL, 0, CONN_FENCE_POLL_MS);
		conn_step(&r.conn);
	}
	assert_int_equal(r.conn.unfenced, 0);
}

/* The same when only the connection was lost, as the client thinks. */
static void own_lost_link_is_fenced(void **state)
{
	(void)state;
	if (!r.server)
		skip();
	r.conn.fence_ms = LONG_MS;
	assert_int_equal(conn_open(&r.conn, &r.err), 0);
	transfer(NBD_CMD_WRITE, 'o');
	conn_shutdown(&r.conn, EPROTO);
	conn_close(&r.conn);
	assert_int_equal(r.conn.state, CONN_FENCE);
	while (r.conn.state == CONN_FENCE) {
		poll(NULL, 0, CONN_FENCE_POLL_MS);
		conn_step(&r.conn);
	}
	assert_int_equal(r.conn.unfenced, 0);
	assert_int_equal(on_disk(), 'o');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(late_write_comes_first, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(bound_is_kept_and_told, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(idle_connection_ends_at_once,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(own_lost_link_is_fenced, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
