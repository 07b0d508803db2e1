// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Integration: two queues of a device, each with engine and connection, at one
 * server. What one has written the other reads; a flush on one is enough; the loss
 * of one connection is no matter of the other; and a server that no longer is what
 * it was gets no further connection.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "nbd-client/sizing.h"
#include "tests/kernel_end.h"
#include "tests/real_server.h"

#define DISK_BYTES (1u * MIB)
#define BLOCK_BYTES 4096u

static struct real_server server;
static struct kernel_end ends[2];
static struct err err;

static void start(const struct real_server_kind *kind)
{
	if (!real_server_start(&server, kind, DISK_BYTES))
		skip();
}

static void request(struct kernel_end *k, uint16_t command, uint64_t cookie,
		    void *payload)
{
	uint32_t bytes = command == NBD_CMD_FLUSH ? 0 : BLOCK_BYTES;
	uint64_t answered;

	kernel_end_send(k, command, 0, cookie, 0, bytes, payload);
	assert_int_equal(kernel_end_reply(k, &answered), 0);
	assert_int_equal(answered, cookie);
	if (command == NBD_CMD_READ)
		kernel_end_payload(k, payload, BLOCK_BYTES);
}

static void expect(struct kernel_end *k, uint8_t byte)
{
	uint8_t block[BLOCK_BYTES];

	request(k, NBD_CMD_READ, 7, block);
	for (size_t i = 0; i < sizeof(block); i++)
		assert_int_equal(block[i], byte);
}

static void server_is_shared(const struct real_server_kind *kind)
{
	uint8_t block[BLOCK_BYTES];

	start(kind);
	for (int i = 0; i < 2; i++)
		if (kernel_end_open(&ends[i], server.uri, 4, BLOCK_BYTES,
				    &err) < 0)
			fail_msg("%s", err.text);
	assert_true(ends[0].conn.export.flags & NBD_FLAG_CAN_MULTI_CONN);
	for (uint8_t round = 1; round <= 20; round++) {
		struct kernel_end *one = &ends[round % 2];
		struct kernel_end *other = &ends[(round + 1) % 2];

		memset(block, round, sizeof(block));
		request(one, NBD_CMD_WRITE, round, block);
		request(other, NBD_CMD_FLUSH, 100, NULL);
		expect(other, round);
		/* Away with it; the other does not even notice. */
		engine_post(one->engine, MAIL_LINK_DROP);
		expect(other, round);
		memset(block, round + 100, sizeof(block));
		kernel_end_send(one, NBD_CMD_WRITE, 0, 5, 0, BLOCK_BYTES,
				block);
		while (one->conn.state == CONN_UP)
			kernel_end_news(one, 100);
		while (one->conn.state != CONN_UP)
			kernel_end_news(one, 100);
		assert_int_equal(kernel_end_reply(one, &(uint64_t){ 0 }), 0);
		expect(other, round + 100);
	}
	for (int i = 0; i < 2; i++)
		assert_true(kernel_end_close(&ends[i]));
	real_server_stop(&server);
}

static void nbdkit_is_shared(void **state)
{
	(void)state;
	server_is_shared(&real_server_nbdkit);
}

static void qemu_nbd_is_shared(void **state)
{
	(void)state;
	server_is_shared(&real_server_qemu_nbd);
}

static void nbd_server_is_shared(void **state)
{
	(void)state;
	server_is_shared(&real_server_nbd_server);
}

/* The connections that a device would have. */
static struct conn conns[2];
static struct addr addr;

static void open_first(const struct real_server_kind *kind)
{
	const struct socket_memory memory = { 0 };

	start(kind);
	assert_int_equal(addr_parse(&addr, server.uri, &err), 0);
	assert_int_equal(conn_init(&conns[0], &addr, &memory, 5000, &err), 0);
	assert_int_equal(conn_probe(&conns[0], &err), 0);
}

static void one_where_the_server_takes_no_more(void **state)
{
	struct attach_options o = { .front = FRONT_UBLK, .connections = 4 };

	(void)state;
	open_first(&real_server_nbdkit_single);
	assert_int_equal(sizing_queues(&o, conns[0].export.flags), 1);
	conn_fini(&conns[0]);
	real_server_stop(&server);
	open_first(&real_server_nbdkit);
	assert_int_equal(sizing_queues(&o, conns[0].export.flags), 4);
	o.front = FRONT_NBD;
	assert_int_equal(sizing_queues(&o, conns[0].export.flags), 1);
	conn_fini(&conns[0]);
	real_server_stop(&server);
}

/* Withdrawn while there are several: those that are lost are not made anew. */
static void no_more_where_the_server_has_changed(void **state)
{
	(void)state;
	open_first(&real_server_nbdkit);
	conn_init_another(&conns[1], &conns[0]);
	for (int i = 0; i < 2; i++)
		assert_int_equal(conn_open(&conns[i], &err), 0);
	assert_true(conns[0].fd != conns[1].fd);
	conn_take(&conns[0]);
	conn_close(&conns[1]);
	while (conns[1].state == CONN_FENCE)
		conn_step(&conns[1]);
	server.kind = &real_server_nbdkit_single;
	real_server_restart(&server);
	assert_true(conn_open(&conns[1], &err) < 0);
	assert_int_equal(err.exit_code, X_REFUSED);
	assert_non_null(strstr(err.text, "flags have changed"));
	/* It comes to its senses. */
	server.kind = &real_server_nbdkit;
	real_server_restart(&server);
	assert_int_equal(conn_open(&conns[1], &err), 0);
	for (int i = 0; i < 2; i++)
		conn_fini(&conns[i]);
	real_server_stop(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nbdkit_is_shared),
		cmocka_unit_test(qemu_nbd_is_shared),
		cmocka_unit_test(nbd_server_is_shared),
		cmocka_unit_test(one_where_the_server_takes_no_more),
		cmocka_unit_test(no_more_where_the_server_has_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
