// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Integration: whether a server is found to work, or not, on real sockets, with
 * and without TLS.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "nbd-client/probe.h"
#include "tests/real_server.h"
#include "tests/script_server.h"
#include "tests/test_certs.h"

static struct conn conn; /* large */
static struct addr addr;
static struct err err;

/* The server is known from an attach, and then asked. */
static int probe(const char *uri, struct tls *tls, uint32_t step_ms)
{
	const struct socket_memory memory = { 0 };
	int ret;

	assert_int_equal(addr_parse(&addr, uri, &err), 0);
	assert_int_equal(conn_init(&conn, &addr, &memory, step_ms, &err), 0);
	conn_set_tls(&conn, tls);
	if (conn_probe(&conn, &err) < 0)
		fail_msg("%s", err.text);
	err_clear(&err);
	ret = probe_server(&conn, &err);
	conn_fini(&conn);
	return ret;
}

static int probe_script(const char *behaviour, uint32_t step_ms)
{
	struct script_server server;
	int ret;

	script_server_start(&server, behaviour);
	ret = probe(server.uri, NULL, step_ms);
	script_server_stop(&server);
	return ret;
}

static void one_that_answers(void **state)
{
	(void)state;
	assert_int_equal(probe_script("", 10000), 0);
	assert_int_equal(probe_script("error=5", 10000), 0);
	assert_int_equal(probe_script("block-min=4096", 10000), 0);
}

static void one_that_does_not(void **state)
{
	(void)state;
	assert_int_equal(probe_script("never-answer", 1000), -ETIMEDOUT);
	assert_int_equal(err.exit_code, X_UNREACHABLE);
	assert_non_null(strstr(err.text, "does not answer it"));
	assert_int_equal(probe_script("close-after=0", 1000), -ECONNRESET);
}

static void one_with_tls(void **state)
{
	struct tls_options options = { .hostname = "localhost",
				       .ca = test_certs("ca-cert.pem") };
	struct real_server server;
	struct tls tls = { 0 };

	(void)state;
	if (!real_server_start(&server, &real_server_nbdkit_x509, 1 << 20))
		skip();
	assert_int_equal(addr_parse(&addr, server.uri, &err), 0);
	assert_int_equal(tls_open(&tls, &options, &addr, &err), 0);
	if (probe(server.uri, &tls, 10000) < 0)
		fail_msg("%s", err.text);
	tls_close(&tls);
	real_server_stop(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_answers),
		cmocka_unit_test(one_that_does_not),
		cmocka_unit_test(one_with_tls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
