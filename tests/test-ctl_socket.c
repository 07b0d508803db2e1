/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the control socket: both sides, and clients that misbehave. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/ctl_socket.h"

static char dir[64];
static struct ctl_socket ctl;

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test-ctl.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	ctl_run_dir = dir;
	return ctl_listen(&ctl, "nbd0", NULL);
}

static int teardown(void **state)
{
	(void)state;
	ctl_close(&ctl);
	return rmdir(dir);
}

struct call {
	pthread_t thread;
	enum ctl_command command;
	uint32_t flags, timeout_ms;
	struct err err;
	int rc;
};

static void *call_thread(void *arg)
{
	struct call *c = arg;

	c->rc = ctl_call("nbd0", c->command, c->flags, c->timeout_ms, &c->err);
	return NULL;
}

static void call_start(struct call *c, enum ctl_command command, uint32_t flags,
		       uint32_t timeout_ms)
{
	memset(c, 0, sizeof(*c));
	c->command = command;
	c->flags = flags;
	c->timeout_ms = timeout_ms;
	assert_int_equal(pthread_create(&c->thread, NULL, call_thread, c), 0);
}

/* As the daemon's loop does, up to the next request. */
static uint32_t serve(struct ctl_request *request)
{
	struct pollfd fds[CTL_POLLFDS];
	uint32_t client = 99;
	int i;

	for (i = 0; i < 100; i++) {
		if (ctl_step(&ctl, request, &client))
			return client;
		assert_true(poll(fds, ctl_pollfds(&ctl, fds), 1000) > 0);
	}
	fail();
	return client;
}

static int raw_client(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/nbd0.sock", dir);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)),
			 0);
	return fd;
}

static void a_question_and_its_answer(void **state)
{
	struct ctl_request request;
	struct call c;
	struct stat st;
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/nbd0.sock", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);

	call_start(&c, CTL_DETACH, CTL_FLAG_FORCE, 5000);
	ctl_reply(&ctl, serve(&request), 0, NULL);
	pthread_join(c.thread, NULL);
	assert_int_equal(c.rc, 0);
	assert_int_equal(request.command, CTL_DETACH);
	assert_int_equal(request.flags, CTL_FLAG_FORCE);

	call_start(&c, CTL_PING, 0, 5000);
	ctl_reply(&ctl, serve(&request), X_BUSY, "it is mounted");
	pthread_join(c.thread, NULL);
	assert_int_not_equal(c.rc, 0);
	assert_int_equal(c.err.exit_code, X_BUSY);
	assert_string_equal(c.err.text, "it is mounted");
}

static void nobody_there(void **state)
{
	struct err err = { 0 };
	char path[128];

	(void)state;
	assert_int_equal(ctl_call("nbd9", CTL_PING, 0, 1000, &err), -ENOENT);
	assert_int_equal(err.exit_code, X_NOT_FOUND);
	/* a socket that a dead daemon left behind */
	snprintf(path, sizeof(path), "%s/nbd0.sock", dir);
	close(ctl.listen_fd);
	assert_int_equal(ctl_call("nbd0", CTL_PING, 0, 1000, &err),
			 -ECONNREFUSED);
	/* is replaced by the next one's */
	assert_int_equal(ctl_listen(&ctl, "nbd0", NULL), 0);
	assert_int_equal(access(path, F_OK), 0);
}

static void a_stuck_daemon(void **state)
{
	struct err err = { 0 };

	(void)state;
	assert_int_equal(ctl_call("nbd0", CTL_PING, 0, 50, &err), -ETIMEDOUT);
	assert_int_equal(err.exit_code, X_FAILURE);
}

static void a_daemon_that_ends(void **state)
{
	struct ctl_request request;
	struct call c;

	(void)state;
	call_start(&c, CTL_DETACH, 0, 5000);
	(void)serve(&request);
	ctl_close(&ctl);
	pthread_join(c.thread, NULL);
	assert_int_equal(c.rc, -ECONNRESET);
}

static void silent_clients_make_room(void **state)
{
	struct ctl_request request;
	uint32_t client;
	struct call c;
	int fds[CTL_CLIENTS];
	size_t i;
	char byte;

	(void)state;
	for (i = 0; i < CTL_CLIENTS; i++)
		fds[i] = raw_client();
	assert_false(ctl_step(&ctl, &request, &client));
	call_start(&c, CTL_PING, 0, 5000);
	ctl_reply(&ctl, serve(&request), 0, NULL);
	pthread_join(c.thread, NULL);
	assert_int_equal(c.rc, 0);
	/* the first has been hung up on, the second has not */
	assert_int_equal(recv(fds[0], &byte, 1, MSG_DONTWAIT), 0);
	assert_int_equal(recv(fds[1], &byte, 1, MSG_DONTWAIT), -1);
	for (i = 0; i < CTL_CLIENTS; i++)
		close(fds[i]);
	assert_false(ctl_step(&ctl, &request, &client));
}

/* Memory is low: what comes waits in the kernel, but one a second is heard. */
static void held_back_while_low(void **state)
{
	const struct ctl_request ping = { .magic = CTL_MAGIC,
					  .command = CTL_PING };
	struct ctl_request request;
	struct pollfd fds[CTL_POLLFDS];
	uint64_t now_ns = 7 * NS_PER_S;
	uint32_t client, served = 0;
	int raw[CTL_CLIENTS];

	(void)state;
	ordinary_update(&ctl.ordinary, true, now_ns);
	for (uint32_t i = 0; i < CTL_CLIENTS; i++) {
		raw[i] = raw_client();
		assert_int_equal(send(raw[i], &ping, sizeof(ping), 0),
				 sizeof(ping));
	}
	while (ctl_step(&ctl, &request, &client)) {
		ctl_reply(&ctl, client, 0, NULL);
		served++;
	}
	assert_int_equal(served, ORDINARY_BUFFERS);
	assert_int_equal(ctl.ordinary.deferred, CTL_CLIENTS - ORDINARY_BUFFERS);
	/* Nothing to poll for but newcomers, or the loop would spin. */
	assert_int_equal(ctl_pollfds(&ctl, fds), 1);
	for (uint32_t i = served; i < CTL_CLIENTS; i++) {
		ordinary_update(&ctl.ordinary, true, now_ns + NS_PER_S - 1);
		assert_false(ctl_step(&ctl, &request, &client));
		now_ns += NS_PER_S;
		ordinary_update(&ctl.ordinary, true, now_ns);
		assert_true(ctl_pollfds(&ctl, fds) > 1);
		assert_true(ctl_step(&ctl, &request, &client));
		ctl_reply(&ctl, client, 0, NULL);
		assert_false(ctl_step(&ctl, &request, &client));
	}
	/* Each is counted once, however often it was looked at. */
	assert_int_equal(ctl.ordinary.deferred, CTL_CLIENTS - ORDINARY_BUFFERS);
	for (uint32_t i = 0; i < CTL_CLIENTS; i++)
		close(raw[i]);
}

static void waiting_clients_are_kept(void **state)
{
	const struct ctl_request ping = { .magic = CTL_MAGIC,
					  .command = CTL_PING };
	struct ctl_request request;
	struct pollfd fds[CTL_POLLFDS];
	struct ctl_reply reply;
	uint32_t clients[CTL_CLIENTS], client;
	int raw[CTL_CLIENTS + 1];
	size_t i;

	(void)state;
	for (i = 0; i < CTL_CLIENTS; i++) {
		raw[i] = raw_client();
		assert_int_equal(send(raw[i], &ping, sizeof(ping), 0),
				 sizeof(ping));
		clients[i] = serve(&request);
	}
	/* none of them is polled for any more: no busy loop */
	assert_int_equal(ctl_pollfds(&ctl, fds), 1);
	raw[i] = raw_client();
	assert_false(ctl_step(&ctl, &request, &client));
	assert_int_equal(recv(raw[i], &reply, sizeof(reply), 0), 0);
	close(raw[i]);
	for (i = 0; i < CTL_CLIENTS; i++) {
		ctl_reply(&ctl, clients[i], 0, NULL);
		assert_int_equal(recv(raw[i], &reply, sizeof(reply), 0),
				 sizeof(reply));
		close(raw[i]);
	}
}

static void nonsense_is_answered(void **state)
{
	static const uint8_t bytes[600];
	const struct ctl_request wrong[] = {
		{ .magic = 1, .command = CTL_PING },
		{ .magic = CTL_MAGIC, .command = 1000 },
	};
	struct ctl_request request;
	struct ctl_reply reply;
	uint32_t client;
	size_t i;
	int fd;

	(void)state;
	for (i = 0; i < 4; i++) {
		fd = raw_client();
		assert_true((i < 2 ? send(fd, &wrong[i], sizeof(wrong[i]), 0) :
				     send(fd, bytes, i == 2 ? 3 : 600, 0)) > 0);
		assert_false(ctl_step(&ctl, &request, &client));
		assert_int_equal(recv(fd, &reply, sizeof(reply), 0),
				 sizeof(reply));
		assert_int_equal(reply.exit_code, X_USAGE);
		close(fd);
	}
}

/* Who goes before the answer comes does not hurt the daemon. */
static void a_client_that_leaves(void **state)
{
	const struct ctl_request ping = { .magic = CTL_MAGIC,
					  .command = CTL_PING };
	struct ctl_request request;
	uint32_t client;
	int fd = raw_client();

	(void)state;
	assert_int_equal(send(fd, &ping, sizeof(ping), 0), sizeof(ping));
	client = serve(&request);
	close(fd);
	ctl_reply(&ctl, client, 0, "too late");
	assert_false(ctl_step(&ctl, &request, &client));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_question_and_its_answer),
		TEST(nobody_there),
		TEST(a_stuck_daemon),
		TEST(a_daemon_that_ends),
		TEST(silent_clients_make_room),
		TEST(held_back_while_low),
		TEST(waiting_clients_are_kept),
		TEST(nonsense_is_answered),
		TEST(a_client_that_leaves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
