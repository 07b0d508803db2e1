/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of negotiating with the servers that people run: nbdkit, qemu-nbd and
 * nbd-server.  One that is not installed is skipped, and says so.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/addr.h"
#include "nbd-client/link_talk.h"
#include "nbd-client/link_tcp.h"
#include "tests/real_server.h"

#define PATIENT_MS 10000

static struct handshake hs;
static struct err err;

/* Connects, negotiates, closes; 0 or -errno, the rest in hs and err. */
static int negotiate(const char *uri, const struct handshake_params *params)
{
	struct handshake_params p = *params;
	struct link_addrs addrs;
	struct addr addr;
	int fd = -1;
	int r;

	assert_int_equal(addr_parse(&addr, uri, &err), 0);
	if (p.export_name == NULL)
		p.export_name = addr.export_name;
	assert_int_equal(link_resolve(&addr, &addrs, &err), 0);
	if (link_connect(&addrs, PATIENT_MS, &fd, &err) < 0)
		fail_msg("%s: %s", uri, err.text);
	assert_int_equal(handshake_init(&hs, &p, &err), 0);
	r = link_negotiate(fd, &hs, NULL, PATIENT_MS, &err);
	close(fd);
	return r;
}

static void set(const char *argv[16], const char *const words[])
{
	size_t n = 0;

	for (; n < 15 && words[n] != NULL; n++)
		argv[n] = words[n];
	argv[n] = NULL;
}

static void nbdkit_old_command(struct real_server *s, const char *argv[16])
{
	set(argv, (const char *const[]){ "nbdkit", "-f", "--mask-handshake=0",
					 "-U", s->socket, "file", s->disk,
					 NULL });
}

static void nbdkit_oldstyle_command(struct real_server *s,
				    const char *argv[16])
{
	set(argv, (const char *const[]){ "nbdkit", "-f", "-o", "-U", s->socket,
					 "file", s->disk, NULL });
}

static void nbdkit_blocks_command(struct real_server *s, const char *argv[16])
{
	set(argv, (const char *const[]){
		"nbdkit", "-f", "--filter=blocksize-policy", "-U", s->socket,
		"file", s->disk, "blocksize-minimum=4096",
		"blocksize-preferred=8192", "blocksize-maximum=1M", NULL });
}

static void nbdkit_tls_command(struct real_server *s, const char *argv[16])
{
	static char option[128];
	FILE *keys = fopen(s->config, "w");

	assert_non_null(keys);
	fprintf(keys, "user:0123456789abcdef0123456789abcdef\n");
	fclose(keys);
	snprintf(option, sizeof(option), "--tls-psk=%s", s->config);
	set(argv, (const char *const[]){ "nbdkit", "-f", "--tls=require",
					 option, "-U", s->socket, "file",
					 s->disk, NULL });
}

static const struct real_server_kind nbdkit_old = {
	.program = "nbdkit", .command = nbdkit_old_command, .export_name = "",
};
static const struct real_server_kind nbdkit_oldstyle = {
	.program = "nbdkit", .command = nbdkit_oldstyle_command,
	.export_name = "",
};
static const struct real_server_kind nbdkit_blocks = {
	.program = "nbdkit", .command = nbdkit_blocks_command,
	.export_name = "",
};
static const struct real_server_kind nbdkit_tls = {
	.program = "nbdkit", .command = nbdkit_tls_command, .export_name = "",
};

static void count_entry(void *arg, const struct handshake_entry *entry)
{
	(void)entry;
	++*(unsigned int *)arg;
}

/* Every goal, and a name that is not there. */
static void all_goals(const struct real_server_kind *kind, bool structured,
		      bool by_name, bool lists)
{
	const uint64_t size = 8 << 20;
	struct handshake_params params = { .goal = HANDSHAKE_GO };
	struct real_server server;
	unsigned int entries = 0;
	int r;

	if (!real_server_start(&server, kind, size))
		skip();
	for (int goal = HANDSHAKE_GO; goal <= HANDSHAKE_INFO; goal++) {
		params.goal = (enum handshake_goal)goal;
		r = negotiate(server.uri, &params);
		if (r < 0)
			fail_msg("%s: %s", server.uri, err.text);
		assert_true(hs.info.size_bytes == size);
		assert_true(hs.info.flags & NBD_FLAG_SEND_FLUSH);
		assert_int_equal(hs.info.structured, structured);
		assert_int_equal(hs.info.by_export_name, by_name);
	}
	params.goal = HANDSHAKE_LIST;
	params.on_entry = count_entry;
	params.arg = &entries;
	r = negotiate(server.uri, &params);
	if (lists) {
		assert_int_equal(r, 0);
		assert_int_equal(entries, 1);
	} else {
		assert_true(r < 0);
		assert_int_equal(err.exit_code, X_REFUSED);
	}
	if (kind->export_name[0] != '\0') {
		params.goal = HANDSHAKE_GO;
		params.export_name = "no such \033 export";
		r = negotiate(server.uri, &params);
		assert_int_equal(r, -ENOENT);
		assert_int_equal(err.exit_code, X_REFUSED);
		assert_null(strchr(err.text, '\033'));
	}
	real_server_stop(&server);
}

static void with_nbdkit(void **state)
{
	(void)state;
	all_goals(&real_server_nbdkit, true, false, true);
}

static void with_nbdkit_simple(void **state)
{
	(void)state;
	all_goals(&real_server_nbdkit_simple, false, false, true);
}

static void with_nbdkit_not_fixed(void **state)
{
	(void)state;
	all_goals(&nbdkit_old, false, true, false);
}

static void with_qemu_nbd(void **state)
{
	(void)state;
	all_goals(&real_server_qemu_nbd, true, false, true);
}

static void with_nbd_server(void **state)
{
	(void)state;
	all_goals(&real_server_nbd_server, false, false, true);
}

static void with_nbdkit_block_sizes(void **state)
{
	const struct handshake_params params = { .goal = HANDSHAKE_GO };
	struct real_server server;

	(void)state;
	if (!real_server_start(&server, &nbdkit_blocks, 8 << 20))
		skip();
	assert_int_equal(negotiate(server.uri, &params), 0);
	assert_true(hs.info.block_sizes_given);
	assert_int_equal(hs.info.block_min, 4096);
	assert_int_equal(hs.info.block_pref, 8192);
	assert_int_equal(hs.info.block_max, 1 << 20);
	real_server_stop(&server);
}

static void with_nbdkit_oldstyle(void **state)
{
	const struct handshake_params params = { .goal = HANDSHAKE_GO };
	struct real_server server;

	(void)state;
	if (!real_server_start(&server, &nbdkit_oldstyle, 8 << 20))
		skip();
	assert_int_equal(negotiate(server.uri, &params),
			 -EPROTONOSUPPORT);
	assert_int_equal(err.exit_code, X_REFUSED);
	real_server_stop(&server);
}

static void with_nbdkit_forced_tls(void **state)
{
	struct handshake_params params = { .goal = HANDSHAKE_GO };
	struct real_server server;

	(void)state;
	if (!real_server_start(&server, &nbdkit_tls, 8 << 20))
		skip();
	assert_int_equal(negotiate(server.uri, &params), -ENOKEY);
	assert_int_equal(err.exit_code, X_TLS);
	params.goal = HANDSHAKE_LIST;
	assert_int_equal(negotiate(server.uri, &params), -ENOKEY);
	/* granted, but this kind of link has no TLS: never in the clear */
	params.goal = HANDSHAKE_GO;
	params.tls = HANDSHAKE_TLS_REQUIRE;
	assert_int_equal(negotiate(server.uri, &params),
			 -EPROTONOSUPPORT);
	assert_int_equal(err.exit_code, X_TLS);
	assert_int_equal(handshake_status(&hs), HANDSHAKE_WANTS_TLS);
	real_server_stop(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_nbdkit),
		cmocka_unit_test(with_nbdkit_simple),
		cmocka_unit_test(with_nbdkit_not_fixed),
		cmocka_unit_test(with_qemu_nbd),
		cmocka_unit_test(with_nbd_server),
		cmocka_unit_test(with_nbdkit_block_sizes),
		cmocka_unit_test(with_nbdkit_oldstyle),
		cmocka_unit_test(with_nbdkit_forced_tls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
