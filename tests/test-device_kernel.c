// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The kernel's own path: what is seen of links, and what the nbd driver is
 * offered when. The driver is the test, which has a duplicate of the socket and
 * does with it what drivers/block/nbd.c does; the server, too.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/device_front.h"
#include "nbd-client/device_kernel.h"
#include "nbd-client/device_serve.h"
#include "tests/tree.h"

#define FENCE_MS 40u
#define LONG_MS 10000 /* no test waits so long unless something is broken */

/* ---- netlink that is none ---- */

static int offers, offered_fd, offer_error;

int genl_nbd_reconfigure(struct genl *genl, uint32_t index, const int *fds,
			 uint32_t fd_count, const char *backend,
			 struct err *err)
{
	(void)genl;
	assert_int_equal(index, 3);
	assert_int_equal(fd_count, 1);
	assert_string_equal(backend, "nbd://127.0.0.1/x");
	offers++;
	offered_fd = fds[0];
	return offer_error ? err_set(err, X_FAILURE, -offer_error, "no") : 0;
}

int genl_open(struct genl *genl, struct err *err)
{
	(void)genl;
	return err_set(err, X_KERNEL, ENOENT, "none");
}

void genl_close(struct genl *genl)
{
	(void)genl;
}

void genl_drain(struct genl *genl)
{
	(void)genl;
}

int genl_nbd_connect(struct genl *genl, const struct nbd_connect *params,
		     uint32_t *ret_index, struct err *err)
{
	(void)params;
	(void)ret_index;
	return genl_open(genl, err);
}

int genl_nbd_disconnect(struct genl *genl, uint32_t index, struct err *err)
{
	(void)index;
	return genl_open(genl, err);
}

/* ---- a device whose link is up ---- */

static struct device d;
static struct queue q;
static struct device_shared shared;
static struct stats_page page;
static const struct attach_options options = { .kernel_path = true };
static char tree[TREE_BYTES];
static int listener = -1, server = -1, driver = -1;

static void listen_somewhere(int family)
{
	const struct sockaddr_in in = { .sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct sockaddr local = { .sa_family = (sa_family_t)family };

	listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(listener >= 0);
	/* AF_UNIX with an empty path: the kernel chooses an abstract name */
	assert_int_equal(bind(listener,
			      family == AF_INET ? (const void *)&in : &local,
			      family == AF_INET ? sizeof(in) :
						  sizeof(local.sa_family)), 0);
	assert_int_equal(listen(listener, 4), 0);
}

static void connect_to_it(int fd)
{
	struct sockaddr_storage name;
	socklen_t bytes = sizeof(name);

	assert_int_equal(getsockname(listener, (void *)&name, &bytes), 0);
	assert_int_equal(connect(fd, (void *)&name, bytes), 0);
	server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(server >= 0);
}

static void open_family(int family)
{
	static const struct socket_memory memory = { 0 };
	static struct addr addr;
	int reserved;

	memset(&d, 0, sizeof(d));
	memset(&q, 0, sizeof(q));
	memset(&page, 0, sizeof(page));
	offers = offer_error = 0;
	assert_int_equal(addr_parse(&addr, "nbd://127.0.0.1/x", NULL), 0);
	assert_int_equal(conn_init(&q.conn, &addr, &memory, 1000, NULL), 0);
	q.device = &d;
	q.data = &page.data;
	d.queues = &q;
	d.queue_count = 1;
	d.options = &options;
	d.kind = &device_kernel;
	d.shared = &shared;
	d.page = &page;
	d.rows = page.guarantees;
	d.index = 3;
	snprintf(d.name, sizeof(d.name), "nbd3");
	snprintf(d.uri, sizeof(d.uri), "nbd://127.0.0.1/x");
	q.conn.fence_ms = FENCE_MS;
	d.config.export = &q.conn.export;
	d.block_bytes = 512;
	page.state = STATS_LIVE;
	page.link = CONN_DOWN;
	shared = (struct device_shared){ .link_fd = -1 };
	device_standby_up(&d);
	device_watch_link(&q);
	listen_somewhere(family);
	assert_int_equal(sockets_prepare(&q.conn.own.sockets, family, 2, &reserved,
					 NULL), 0);
}

/* The driver has the link, as after attach. */
static void link_up(int fd)
{
	connect_to_it(fd);
	driver = dup(fd);
	assert_true(driver >= 0);
	q.conn.fd = fd;
	q.conn.state = CONN_READY;
	device_kernel_taken(&q);
	assert_int_equal(q.conn.state, CONN_UP);
}

static int setup(void **state)
{
	(void)state;
	open_family(AF_INET);
	link_up(q.conn.own.sockets.ready[0].fd);
	assert_int_equal(shared.link_fd, q.conn.own.sockets.ready[0].fd);
	return 0;
}

static void close_one(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int teardown(void **state)
{
	(void)state;
	conn_fini(&q.conn);
	close_one(&listener);
	close_one(&server);
	close_one(&driver);
	return 0;
}

/* As the worker's loop does; false when nothing came. */
static bool wait_link(int timeout_ms)
{
	struct pollfd fd = { .fd = -1 };

	device_kernel_pollfd(&q, &fd);
	assert_int_equal(fd.fd, q.conn.fd);
	if (poll(&fd, 1, timeout_ms) != 1)
		return false;
	device_kernel_on_link(&q, fd.revents);
	return true;
}

/* The driver sends a request, and the server has it. */
static void use_link(void)
{
	char byte = 'r';

	assert_int_equal(send(driver, &byte, 1, MSG_NOSIGNAL), 1);
	assert_int_equal(recv(server, &byte, 1, 0), 1);
}

static void until_down(void)
{
	uint64_t end_ns = clock_now_ns() + LONG_MS * NS_PER_MS;

	while (q.conn.state != CONN_DOWN) {
		assert_int_equal(q.conn.state, CONN_FENCE);
		assert_true(clock_now_ns() < end_ns);
		poll(NULL, 0, conn_due_ms(&q.conn, clock_now_ns()));
		conn_step(&q.conn);
	}
}

/* ---- tests ---- */

/* What the driver has dropped without a word must not stay forgotten. */
static void offered_until_it_is_used(void **state)
{
	(void)state;
	for (int i = 1; i <= 3; i++) {
		device_kernel_tick(&q);
		assert_int_equal(offers, i);
		assert_int_equal(offered_fd, q.conn.fd);
	}
	use_link();
	device_kernel_tick(&q);
	device_kernel_tick(&q);
	assert_int_equal(offers, 3);
	assert_int_equal(q.conn.state, CONN_UP);
}

/* The server's end is the proof; but replies before it are the driver's to read. */
static void end_of_the_server(void **state)
{
	char byte = 'a';

	(void)state;
	use_link();
	assert_int_equal(send(server, &byte, 1, 0), 1);
	assert_false(wait_link(0));
	close_one(&server);
	assert_true(wait_link(LONG_MS));
	assert_int_equal(q.conn.state, CONN_UP);
	assert_false(wait_link(0)); /* not again and again */
	device_kernel_tick(&q);
	assert_int_equal(q.conn.state, CONN_UP);
	assert_int_equal(recv(driver, &byte, 1, 0), 1);
	assert_int_equal(byte, 'a');
	assert_int_equal(recv(driver, &byte, 1, 0), 0);
	assert_int_equal(shutdown(driver, SHUT_RDWR), 0);
	assert_true(wait_link(LONG_MS));
	until_down();
	assert_int_equal(q.conn.unfenced, 0);
	assert_int_equal(shared.link_fd, -1);
	assert_string_equal(page.link_error, "the server closed the connection");
}

/* The driver may do so for reasons of its own: what becomes of requests? */
static void given_up_by_the_driver(void **state)
{
	uint64_t start_ns = clock_now_ns();

	(void)state;
	use_link();
	assert_int_equal(shutdown(driver, SHUT_RDWR), 0);
	assert_true(wait_link(LONG_MS));
	assert_int_equal(q.conn.state, CONN_FENCE);
	until_down();
	assert_true(clock_now_ns() - start_ns >= FENCE_MS * NS_PER_MS);
	assert_int_equal(q.conn.unfenced, 1);
	assert_int_equal(page.unfenced, 1);
}

/* One that the driver never had, and so never ends. */
static void spare_ends(void **state)
{
	(void)state;
	close_one(&server);
	assert_true(wait_link(LONG_MS));
	assert_int_equal(q.conn.state, CONN_UP);
	device_kernel_tick(&q);
	until_down();
	assert_int_equal(offers, 0);
	assert_int_equal(q.conn.unfenced, 0);
}

static void another_link(void **state)
{
	int fd = q.conn.own.sockets.ready[1].fd;

	(void)state;
	use_link();
	close_one(&server);
	assert_true(wait_link(LONG_MS));
	assert_int_equal(shutdown(driver, SHUT_RDWR), 0);
	assert_true(wait_link(LONG_MS));
	until_down();
	close_one(&driver);
	/* refused, and the device is there: once more */
	connect_to_it(fd);
	q.conn.fd = fd;
	q.conn.state = CONN_READY;
	tree_put(tree, "block/nbd3/pid", "77\n");
	offer_error = -EINVAL;
	assert_int_equal(device_kernel_link_up(&q), -EINVAL);
	assert_false(q.front_gone);
	close_one(&server);
	until_down();
	/* taken */
	connect_to_it(fd);
	q.conn.fd = fd;
	q.conn.state = CONN_READY;
	offer_error = 0;
	assert_int_equal(device_kernel_link_up(&q), 0);
	assert_int_equal(offered_fd, fd);
	assert_int_equal(q.conn.state, CONN_UP);
	assert_int_equal(shared.link_fd, fd);
	/* somebody has disconnected the device */
	tree_drop(tree, "block/nbd3/pid");
	offer_error = -EINVAL;
	device_kernel_tick(&q);
	assert_true(q.front_gone);
}

/* The worker has died, the link has not: neither server nor driver notice. */
static void taken_over(void **state)
{
	int fd = q.conn.fd;

	(void)state;
	use_link();
	q.conn.fd = -1;
	q.conn.state = CONN_DOWN;
	device_kernel_inherit(&q);
	assert_int_equal(q.conn.state, CONN_UP);
	assert_int_equal(q.conn.fd, fd);
	assert_false(wait_link(0));
	use_link();
	device_kernel_tick(&q);
	assert_int_equal(offers, 0);
	assert_int_equal(recv(server, &(char){ 0 }, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

/* It has died amid an attempt: that socket is fenced and free again. */
static void taken_over_without_link(void **state)
{
	(void)state;
	q.conn.fd = -1;
	q.conn.state = CONN_DOWN;
	shared.link_fd = -1;
	device_kernel_inherit(&q);
	assert_int_equal(recv(server, &(char){ 0 }, 1, 0), 0);
	close_one(&server);
	until_down();
	assert_int_equal(q.conn.unfenced, 0);
}

/* A socket that only the dead worker had: a new one stands by for its end. */
static void taken_over_from_afar(void **state)
{
	int fd;

	(void)state;
	teardown(NULL);
	open_family(AF_UNIX);
	device_kernel_inherit(&q);
	assert_int_equal(q.conn.state, CONN_DOWN);
	assert_int_equal(conn_due_ms(&q.conn, clock_now_ns()), 0);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	link_up(fd);
	assert_int_equal(shared.link_fd, -1);
	use_link();
	for (int i = 1; i <= 3; i++) { /* not seen to be used, here */
		device_kernel_tick(&q);
		assert_int_equal(offers, i);
	}
	close_one(&server);
	assert_true(wait_link(LONG_MS));
	until_down();
}

static void requests_are_counted(void **state)
{
	(void)state;
	tree_put(tree, "block/nbd3/stat",
		 "  1 0 8 5  2 0 16 6  0 7 8  3 0 24 9  4 10\n");
	device_kernel_tick(&q);
	assert_int_equal(page.data.requests[STATS_READ], 0); /* before us */
	tree_put(tree, "block/nbd3/stat",
		 "  2 0 16 5  12 0 96 6  0 7 8  6 0 2048 9  8 10\n");
	device_kernel_tick(&q);
	assert_int_equal(page.data.requests[STATS_READ], 1);
	assert_int_equal(page.data.bytes[STATS_READ], 4096);
	assert_int_equal(page.data.requests[STATS_WRITE], 10);
	assert_int_equal(page.data.bytes[STATS_WRITE], 40960);
	assert_int_equal(page.data.requests[STATS_TRIM], 3);
	assert_int_equal(page.data.bytes[STATS_TRIM], 2024 * 512);
	assert_int_equal(page.data.requests[STATS_FLUSH], 4);
	assert_int_equal(page.data.bytes[STATS_FLUSH], 0);
	/* The next worker goes on where this one has died. */
	memset(&q.kernel, 0, sizeof(q.kernel));
	tree_put(tree, "block/nbd3/stat",
		 "  5 0 40 5  12 0 96 6  0 7 8  6 0 2048 9  8 10\n");
	device_kernel_tick(&q);
	assert_int_equal(page.data.requests[STATS_READ], 4);
	tree_drop(tree, "block/nbd3/stat");
	device_kernel_tick(&q);
	assert_int_equal(page.data.requests[STATS_READ], 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(offered_until_it_is_used, setup,
						teardown),
		cmocka_unit_test_setup_teardown(end_of_the_server, setup,
						teardown),
		cmocka_unit_test_setup_teardown(given_up_by_the_driver, setup,
						teardown),
		cmocka_unit_test_setup_teardown(spare_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(another_link, setup, teardown),
		cmocka_unit_test_setup_teardown(taken_over, setup, teardown),
		cmocka_unit_test_setup_teardown(taken_over_without_link, setup,
						teardown),
		cmocka_unit_test_setup_teardown(taken_over_from_afar, setup,
						teardown),
		cmocka_unit_test_setup_teardown(requests_are_counted, setup,
						teardown),
	};
	int failed;

	tree_make(tree);
	blockdev_sys_root = tree;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	return tree_remove(tree) || failed;
}
