// SPDX-License-Identifier: GPL-2.0-or-later
/* The servers of a device: what may be served from which, and their sockets. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "nbd-client/endpoint.h"
#include "tests/fake_net.h"

static struct addr addrs[ENDPOINTS_MAX];
static struct endpoints ends;
static struct tls tls;

/* The n-th gets the n-th letter: 4 and 6 are families, u is a UNIX socket. */
static void add(const char *families)
{
	struct err err = { 0 };

	memset(&ends, 0, sizeof(ends));
	fake_net_reset();
	for (uint32_t i = 0; families[i]; i++) {
		const char *uri = families[i] == '4' ? "nbd://127.0.0.1/x" :
				  families[i] == '6' ? "nbd://[::1]/x" :
						       "/run/x";

		assert_int_equal(addr_parse(&addrs[i], uri, &err), 0);
		assert_int_equal(endpoints_add(&ends, &addrs[i], &err), 0);
	}
}

/* ---- is it the same? ---- */

static const struct export_info reference = {
	.size_bytes = 1u << 20,
	.flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH,
	.block_min = 512,
	.block_pref = 4096,
	.block_max = 32u << 20,
	.tls = true,
	.description = "volume 7",
};

/* What a server says instead, and whether that may be served. */
struct claim {
	const char *what;
	void (*change)(struct export_info *x);
	bool same_server; /* may be served where it was before */
	bool other_server;
	bool described; /* by another one, if descriptions are compared */
	const char *says;
};

static void nothing(struct export_info *x)
{
	(void)x;
}

static void larger(struct export_info *x)
{
	x->size_bytes += 4096;
}

static void smaller(struct export_info *x)
{
	x->size_bytes -= 1;
}

static void read_only(struct export_info *x)
{
	x->flags |= NBD_FLAG_READ_ONLY;
}

static void no_flush(struct export_info *x)
{
	x->flags &= (uint16_t)~NBD_FLAG_SEND_FLUSH;
}

static void larger_blocks(struct export_info *x)
{
	x->block_min = 4096;
}

static void smaller_payload(struct export_info *x)
{
	x->block_max = 1u << 20;
}

/* Only a hint. */
static void other_preference(struct export_info *x)
{
	x->block_pref = 65536;
}

static void other_words(struct export_info *x)
{
	x->description[7] = '8';
}

static void no_words(struct export_info *x)
{
	x->description[0] = '\0';
}

static void plain_text(struct export_info *x)
{
	x->tls = false;
}

static const struct claim claims[] = {
	{ "nothing", nothing, true, true, true, NULL },
	{ "size", larger, true, false, true, "size has changed from 1048576" },
	{ "size", smaller, false, false, false, "1048575 bytes" },
	{ "read-only", read_only, false, false, false, "flags" },
	{ "flush", no_flush, false, false, false, "flags" },
	{ "minimum", larger_blocks, false, false, false, "block sizes" },
	{ "maximum", smaller_payload, false, false, false, "block sizes" },
	{ "preference", other_preference, true, true, true, NULL },
	{ "words", other_words, true, true, false, "description" },
	{ "words", no_words, true, true, false, "description" },
	{ "tls", plain_text, false, false, false, "no TLS" },
};

static void expect(const struct claim *c, uint32_t at, bool allowed)
{
	struct export_info is = reference;
	struct err err = { 0 };
	int ret;

	c->change(&is);
	ret = endpoints_check(&ends, &reference, 0, &is, at, &err);
	if ((ret == 0) != allowed)
		fail_msg("another %s at server %u: %s", c->what, at,
			 ret ? err.text : "is served");
	if (allowed)
		return;
	assert_int_equal(err.exit_code, is.tls ? X_REFUSED : X_TLS);
	assert_non_null(strstr(err.text, c->says));
	/* Of several it says which. */
	if (is.tls)
		assert_non_null(strstr(err.text, "127.0.0.1"));
}

static void only_the_same_is_served(void **state)
{
	(void)state;
	add("44");
	ends.list[0].tls = ends.list[1].tls = &tls;
	for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
		ends.described = false;
		expect(&claims[i], 0, claims[i].same_server);
		expect(&claims[i], 1, claims[i].other_server);
		ends.described = true;
		expect(&claims[i], 1, claims[i].described);
	}
}

/* Who writes nbd:// for one of them has been asked. */
static void server_without_tls_by_wish(void **state)
{
	struct export_info is = reference;

	(void)state;
	add("44");
	ends.list[0].tls = &tls;
	is.tls = false;
	assert_int_equal(endpoints_check(&ends, &reference, 0, &is, 1, NULL),
			 0);
	assert_true(endpoints_check(&ends, &reference, 0, &is, 0, NULL) < 0);
}

static void mark_must_be_there(void **state)
{
	struct export_info is = reference;
	struct err err = { 0 };

	(void)state;
	add("4");
	is.description[0] = '\0';
	assert_int_equal(endpoints_check_mark(&ends, &is, &err), 0);
	ends.described = true;
	assert_int_equal(endpoints_check_mark(&ends, &reference, &err), 0);
	assert_true(endpoints_check_mark(&ends, &is, &err) < 0);
	assert_int_equal(err.exit_code, X_REFUSED);
	assert_non_null(strstr(err.text, "--identity=description"));
}

/* ---- sockets ---- */

static void sockets_of_each_family(void **state)
{
	static const struct {
		const char *families;
		uint32_t at;
		int family; /* by which it has answered */
		uint32_t v4, v6;
	} cases[] = {
		{ "4", 0, AF_INET, 2, 0 },	{ "u", 0, AF_UNIX, 0, 0 },
		{ "44", 0, AF_INET, 3, 0 },	{ "4444", 3, AF_INET, 3, 0 },
		{ "46", 0, AF_INET, 2, 2 },	{ "4646", 1, AF_INET6, 3, 3 },
		{ "u6", 0, AF_UNIX, 0, 2 },	{ "u44", 1, AF_INET, 3, 0 },
	};
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t v4 = 0, v6 = 0;
		int reserved = 0;

		add(cases[i].families);
		assert_int_equal(endpoints_prepare(&ends, cases[i].at,
						   cases[i].family, &reserved,
						   &err), 0);
		for (uint32_t s = 0; s < ends.sockets.count; s++) {
			v4 += ends.sockets.ready[s].family == AF_INET;
			v6 += ends.sockets.ready[s].family == AF_INET6;
		}
		assert_int_equal(v4, cases[i].v4);
		assert_int_equal(v6, cases[i].v6);
		assert_int_equal(fake_net.open, v4 + v6);
		sockets_fini(&ends.sockets);
		assert_int_equal(fake_net.open, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_same_is_served),
		cmocka_unit_test(server_without_tls_by_wish),
		cmocka_unit_test(mark_must_be_there),
		cmocka_unit_test(sockets_of_each_family),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
