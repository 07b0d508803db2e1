/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the NBD URI (doc/uri.md) and of HOST [PORT]. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/addr.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void tcp_uris(void **state)
{
	static const struct {
		const char *uri;
		bool tls;
		const char *host;
		uint16_t port;
		const char *export_name;
	} cases[] = {
		/* the examples of the specification */
		{ "nbd://example.com:10809/export", false, "example.com", 10809,
		  "export" },
		{ "nbd://example.com/disk", false, "example.com", 10809,
		  "disk" },
		{ "nbd://example.com/", false, "example.com", 10809, "" },
		{ "nbd://example.com", false, "example.com", 10809, "" },
		{ "nbd://example.com//disk", false, "example.com", 10809,
		  "/disk" },
		{ "nbd://example.com/hello%20world", false, "example.com",
		  10809, "hello world" },
		/* and more */
		{ "nbds://h/x", true, "h", 10809, "x" },
		{ "NBD://h/x", false, "h", 10809, "x" },
		{ "NbdS://H/X", true, "H", 10809, "X" },
		{ "nbd://h:1/x", false, "h", 1, "x" },
		{ "nbd://h:65535/x", false, "h", 65535, "x" },
		{ "nbd://h:/x", false, "h", 10809, "x" },
		{ "nbd://h:00080/x", false, "h", 80, "x" },
		{ "nbd:///x", false, "localhost", 10809, "x" },
		{ "nbd://", false, "localhost", 10809, "" },
		{ "nbd://:99", false, "localhost", 99, "" },
		{ "nbd://[::1]/x", false, "::1", 10809, "x" },
		{ "nbd://[::1]:99/x", false, "::1", 99, "x" },
		{ "nbd://[::ffff:1.2.3.4]:99", false, "::ffff:1.2.3.4", 99,
		  "" },
		{ "nbd://[fe80::1%25eth0]/x", false, "fe80::1%eth0", 10809,
		  "x" },
		{ "nbd://1.2.3.4/a/b/c", false, "1.2.3.4", 10809, "a/b/c" },
		{ "nbd://h/%2F%25%3f%23", false, "h", 10809, "/%?#" },
		{ "nbd://h/%c3%B6", false, "h", 10809, "\xc3\xb6" },
		{ "nbd://h/\xc3\xb6", false, "h", 10809, "\xc3\xb6" },
		{ "nbd://h/x?", false, "h", 10809, "x" },
		{ "nbd://h?tls-type=psk", false, "h", 10809, "" },
		{ "nbd://h/nbd://x", false, "h", 10809, "nbd://x" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct addr a;
		struct err err;

		err_clear(&err);
		if (addr_parse(&a, cases[i].uri, &err) != 0)
			fail_msg("%s: %s", cases[i].uri, err.text);
		assert_int_equal(a.kind, ADDR_TCP);
		assert_int_equal(a.tls, cases[i].tls);
		assert_string_equal(a.host, cases[i].host);
		assert_int_equal(a.port, cases[i].port);
		assert_string_equal(a.export_name, cases[i].export_name);
	}
}

static void unix_uris(void **state)
{
	static const struct {
		const char *uri;
		bool tls;
		const char *path;
		size_t path_bytes;
		const char *export_name;
	} cases[] = {
		{ "nbd+unix:///export?socket=nbd.sock", false, "nbd.sock", 8,
		  "export" },
		{ "nbd+unix:///disk?socket=sock", false, "sock", 4, "disk" },
		{ "nbd+unix:///?socket=/tmp/a%20b", false, "/tmp/a b", 8, "" },
		{ "nbd+unix://?socket=/s", false, "/s", 2, "" },
		{ "nbds+unix:///x?socket=/s", true, "/s", 2, "x" },
		{ "nbd+unix:///?socket=%00/abstract", false, "\0/abstract", 10,
		  "" },
		{ "nbd+unix:////x?socket=/s", false, "/s", 2, "/x" },
		{ "/run/nbd.sock", false, "/run/nbd.sock", 13, "" },
		{ "/run/a://b", false, "/run/a://b", 10, "" },
		{ "/run/a%20b", false, "/run/a%20b", 10, "" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct addr a;
		struct err err;

		err_clear(&err);
		if (addr_parse(&a, cases[i].uri, &err) != 0)
			fail_msg("%s: %s", cases[i].uri, err.text);
		assert_int_equal(a.kind, ADDR_UNIX);
		assert_int_equal(a.tls, cases[i].tls);
		assert_int_equal(a.socket_path_bytes, cases[i].path_bytes);
		assert_memory_equal(a.socket_path, cases[i].path,
				    cases[i].path_bytes + 1);
		assert_string_equal(a.export_name, cases[i].export_name);
	}
}

static void plain_hosts(void **state)
{
	static const struct {
		const char *text;
		const char *host;
		uint16_t port;
	} cases[] = {
		{ "server", "server", 10809 },
		{ "server:99", "server", 99 },
		{ "1.2.3.4", "1.2.3.4", 10809 },
		{ "::1", "::1", 10809 },
		{ "fe80::1%eth0", "fe80::1%eth0", 10809 },
		{ "[::1]", "::1", 10809 },
		{ "[::1]:99", "::1", 99 },
	};
	struct addr a;
	struct err err;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(addr_parse(&a, cases[i].text, &err), 0);
		assert_int_equal(a.kind, ADDR_TCP);
		assert_string_equal(a.host, cases[i].host);
		assert_int_equal(a.port, cases[i].port);
		assert_string_equal(a.export_name, "");
	}
	assert_int_equal(addr_parse_host(&a, "server", NULL, &err), 0);
	assert_int_equal(a.port, NBD_PORT);
	assert_int_equal(addr_parse_host(&a, "::1", "99", &err), 0);
	assert_string_equal(a.host, "::1");
	assert_int_equal(a.port, 99);
	assert_int_equal(addr_parse_host(&a, "[::1]", "99", &err), 0);
	assert_string_equal(a.host, "::1");
	assert_int_equal(addr_parse_host(&a, "", NULL, &err), -EINVAL);
	assert_int_equal(addr_parse_host(&a, "[]", NULL, &err), -EINVAL);
	assert_int_equal(addr_parse_host(&a, "a b", NULL, &err), -EINVAL);
	assert_int_equal(addr_parse_host(&a, "a:b", NULL, &err), -EINVAL);
	assert_int_equal(addr_parse_host(&a, "h", "ssh", &err), -EINVAL);
	assert_int_equal(addr_parse_host(&a, "h", "", &err), -EINVAL);
}

static void tls_parameters(void **state)
{
	struct addr a;
	struct err err;

	(void)state;
	assert_int_equal(addr_parse(&a,
		"nbds://alice%40x@h/x?tls-type=psk&tls-hostname=real.name&tls-verify-peer=0",
		&err), 0);
	assert_string_equal(a.user, "alice@x");
	assert_int_equal(a.tls_type, ADDR_TLS_PSK);
	assert_string_equal(a.tls_hostname, "real.name");
	assert_true(a.tls_no_verify);
	assert_int_equal(addr_parse(&a, "nbds://h?tls-type=x509", &err), 0);
	assert_int_equal(a.tls_type, ADDR_TLS_X509);
	assert_false(a.tls_no_verify);
	assert_int_equal(addr_parse(&a, "nbds://h?tls-type=anon&tls-verify-peer=1",
				    &err), 0);
	assert_int_equal(a.tls_type, ADDR_TLS_ANON);
	assert_false(a.tls_no_verify);
	assert_int_equal(addr_parse(&a,
		"nbds+unix:///x?tls-hostname=n&socket=/s", &err), 0);
	assert_string_equal(a.tls_hostname, "n");
	assert_string_equal(a.socket_path, "/s");
}

/* Wrong input: which error, and what its text must mention. */
static const struct {
	const char *uri;
	int error;
	const char *mentions;
} wrong[] = {
	{ "", EINVAL, "empty" },
	{ ":99", EINVAL, "empty" },
	{ "a b", EINVAL, "host" },
	{ "host:ssh", EINVAL, "port" },
	{ "http://h/x", EPROTONOSUPPORT, "http" },
	{ "://h", EPROTONOSUPPORT, "scheme" },
	{ "nbd+vsock://2/x", EPROTONOSUPPORT, "vsock" },
	{ "nbds+vsock://2/x", EPROTONOSUPPORT, "vsock" },
	{ "nbd+ssh://h/x", EPROTONOSUPPORT, "ssh -L" },
	{ "nbds+ssh://h/x", EPROTONOSUPPORT, "ssh -L" },
	{ "nbd://h:0/x", EINVAL, "port" },
	{ "nbd://h:65536/x", EINVAL, "port" },
	{ "nbd://h:99999999999999999999/x", EINVAL, "port" },
	{ "nbd://h:-1/x", EINVAL, "port" },
	{ "nbd://h:1x/x", EINVAL, "port" },
	{ "nbd://::1/x", EINVAL, "brackets" },
	{ "nbd://[::1/x", EINVAL, "IPv6" },
	{ "nbd://[::1]99/x", EINVAL, "IPv6" },
	{ "nbd://[example]/x", EINVAL, "address" },
	{ "nbd://[]/x", EINVAL, "address" },
	{ "nbd://[::1%25]/x", EINVAL, "address" },
	{ "nbd://a%3ab/x", EINVAL, "address" },
	{ "nbd://a%2Fb/x", EINVAL, "address" },
	{ "nbd://a%20b/x", EINVAL, "address" },
	{ "nbd://a%00b/x", EINVAL, "NUL" },
	{ "nbd://a%3ab@h/x", 0, NULL },
	{ "nbd://bob:secret@h/x", EINVAL, "password" },
	{ "nbd://h/%", EINVAL, "%25" },
	{ "nbd://h/%4", EINVAL, "%25" },
	{ "nbd://h/%4g", EINVAL, "%25" },
	{ "nbd://h/%g4", EINVAL, "%25" },
	{ "nbd://h/a%00b", EINVAL, "NUL" },
	{ "nbd://h/%00", EINVAL, "NUL" },
	{ "nbd://h/a b", EINVAL, "%20" },
	{ "nbd://h/a\nb", EINVAL, "control" },
	{ "nbd://h/a\x7f", EINVAL, "control" },
	{ "nbd://h/a#b", EINVAL, "%23" },
	{ "nbd://h/x?socket=/s", EINVAL, "nbd+unix" },
	{ "nbd://h/x?colour=red", EINVAL, "colour" },
	{ "nbd://h/x?tls-type", EINVAL, "tls-type" },
	{ "nbd://h/x?tls-type=ssl", EINVAL, "x509" },
	{ "nbd://h/x?tls-verify-peer=2", EINVAL, "tls-verify-peer" },
	{ "nbd://h/x?tls-verify-peer=", EINVAL, "tls-verify-peer" },
	{ "nbd://h/x?tls-type=psk&tls-type=psk", EINVAL, "twice" },
	{ "nbd://h/x?&", EINVAL, "unknown parameter" },
	{ "nbd://h/x?tls-hostname=%zz", EINVAL, "tls-hostname" },
	{ "nbd+unix:///x", EINVAL, "socket" },
	{ "nbd+unix:///x?socket=", EINVAL, "socket" },
	{ "nbd+unix:///x?socket=a%00b", EINVAL, "NUL" },
	{ "nbd+unix:///x?socket=%00%00", EINVAL, "NUL" },
	{ "nbd+unix://h/x?socket=/s", EINVAL, "three slashes" },
	{ "nbd+unix:///x?socket=/a&socket=/b", EINVAL, "twice" },
};

/* Each says what is wrong, and leaves *ret alone. */
static void wrong_uris(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct addr a, before;
		struct err err;
		int r;

		err_clear(&err);
		memset(&a, 0x55, sizeof(a));
		before = a;
		r = addr_parse(&a, wrong[i].uri, &err);
		if (r != -wrong[i].error)
			fail_msg("%s: %d, %s", wrong[i].uri, r, err.text);
		if (r == 0)
			continue;
		assert_int_equal(err.exit_code, X_USAGE);
		assert_int_equal(err.error, wrong[i].error);
		if (strstr(err.text, wrong[i].mentions) == NULL)
			fail_msg("%s: %s", wrong[i].uri, err.text);
		assert_memory_equal(&a, &before, sizeof(a));
	}
}

/* Each component at its longest, and one byte beyond. */
static void lengths(void **state)
{
	static const struct {
		const char *head;
		const char *tail;
		size_t max_bytes;
	} cases[] = {
		{ "nbd://", "/x", ADDR_HOST_MAX },
		{ "nbd://", "@h/x", ADDR_USER_MAX },
		{ "nbd://h/", "", NBD_STRING_MAX },
		{ "nbd+unix:///?socket=", "", ADDR_SOCKET_MAX },
		{ "nbd://h?tls-hostname=", "", ADDR_HOST_MAX },
		{ "/", "", ADDR_SOCKET_MAX - 1 },
	};
	static char uri[3 * NBD_STRING_MAX + 100];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		size_t head = strlen(cases[i].head);

		for (size_t more = 0; more < 2; more++) {
			size_t n = cases[i].max_bytes + more;
			struct addr a;
			struct err err;

			memcpy(uri, cases[i].head, head);
			memset(uri + head, 'a', n);
			memcpy(uri + head + n, cases[i].tail,
			       strlen(cases[i].tail) + 1);
			assert_int_equal(addr_parse(&a, uri, &err),
					 more ? -ENAMETOOLONG : 0);
		}
	}
	memset(uri, 'a', 300);
	uri[300] = '\0';
	{
		struct addr a;
		struct err err;

		assert_int_equal(addr_parse_host(&a, uri, NULL, &err),
				 -ENAMETOOLONG);
		assert_int_equal(addr_parse_unix(&a, uri, &err),
				 -ENAMETOOLONG);
		assert_int_equal(addr_parse_unix(&a, "", &err), -EINVAL);
		assert_int_equal(addr_parse(&a, "h", &err), 0);
		assert_int_equal(addr_set_export(&a, uri, &err), 0);
		assert_string_equal(a.export_name, uri);
		memset(uri, 'a', NBD_STRING_MAX + 1);
		uri[NBD_STRING_MAX + 1] = '\0';
		assert_int_equal(addr_set_export(&a, uri, &err),
				 -ENAMETOOLONG);
		/* not decoded */
		assert_int_equal(addr_set_export(&a, "a%20b", &err), 0);
		assert_string_equal(a.export_name, "a%20b");
	}
}

static void formatting(void **state)
{
	static const struct {
		const char *uri;
		const char *want;
	} cases[] = {
		{ "nbd://h", "nbd://h/" },
		{ "h", "nbd://h/" },
		{ "h:99", "nbd://h:99/" },
		{ "NBDS://h:10809/x", "nbds://h/x" },
		{ "::1", "nbd://[::1]/" },
		{ "nbd://[fe80::1%25eth0]/x", "nbd://[fe80::1%25eth0]/x" },
		{ "nbd://h//a/b%20c%1b%22", "nbd://h//a/b%20c%1B%22" },
		{ "nbd://h/%c3%b6", "nbd://h/%C3%B6" },
		{ "nbd+unix:///x?socket=%00a", "nbd+unix:///x?socket=%00a" },
		{ "/run/a b&c", "nbd+unix:///?socket=/run/a%20b%26c" },
		{ "nbds://u%40v@h/?tls-verify-peer=0&tls-type=psk&tls-hostname=n",
		  "nbds://u%40v@h/?tls-type=psk&tls-hostname=n&tls-verify-peer=0" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct addr a, again;
		struct err err;
		char text[200];
		size_t len;

		assert_int_equal(addr_parse(&a, cases[i].uri, &err), 0);
		len = addr_format(&a, text, sizeof(text));
		assert_string_equal(text, cases[i].want);
		assert_int_equal(len, strlen(text));
		/* What is written reads as the same. */
		assert_int_equal(addr_parse(&again, text, &err), 0);
		assert_memory_equal(&a, &again, sizeof(a));
		/* Cut anywhere, it stays within its bounds. */
		for (size_t n = 0; n <= len + 1; n++) {
			char cut[201];

			memset(cut, 0x55, sizeof(cut));
			assert_int_equal(addr_format(&a, cut, n), len);
			assert_int_equal(cut[n], 0x55);
			if (n > 0)
				assert_int_equal(strlen(cut),
						 n <= len ? n - 1 : len);
		}
	}
}

/* Every byte value in every component survives writing and reading. */
static void round_trip(void **state)
{
	static char text[ADDR_TEXT_MAX];
	struct addr a, again;
	struct err err;

	(void)state;
	assert_int_equal(addr_parse(&a, "nbd+unix:///?socket=/s", &err), 0);
	for (int i = 1; i < 256; i++)
		a.export_name[i - 1] = (char)i;
	addr_format(&a, text, sizeof(text));
	assert_int_equal(addr_parse(&again, text, &err), 0);
	assert_memory_equal(&a, &again, sizeof(a));
	/* The longest of all fits. */
	memset(a.export_name, '%', NBD_STRING_MAX);
	memset(a.socket_path, '%', ADDR_SOCKET_MAX);
	a.socket_path_bytes = ADDR_SOCKET_MAX;
	memset(a.tls_hostname, '%', ADDR_HOST_MAX);
	assert_true(addr_format(&a, text, sizeof(text)) < sizeof(text));
	assert_int_equal(addr_parse(&again, text, &err), 0);
	assert_memory_equal(&a, &again, sizeof(a));
}

static void lists(void **state)
{
	static const struct {
		const char *list;
		size_t first_bytes;
	} cases[] = {
		{ "", 0 },
		{ "nbd://a/x", 9 },
		{ "nbd://a/x,nbd://b/x", 9 },
		{ "nbd://a/x,NBDS://b/x,nbd://c", 9 },
		{ "nbd://a/x,y,nbd+unix:///x?socket=/s", 11 },
		{ "nbd+unix:///x?socket=/s,nbds+unix:///x?socket=/t", 23 },
		/* commas of a name */
		{ "nbd://a/x,y", 11 },
		{ "nbd://a/x,nbd", 13 },
		{ "nbd://a/x,nbd/://", 17 },
		{ "nbd://a/x,,nbd://b", 10 },
		{ "nbd://a/x,", 10 },
		/* and of who knows what */
		{ "nbd://a/x,nbdnbd://b/x", 9 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		if (addr_first_bytes(cases[i].list) != cases[i].first_bytes)
			fail_msg("'%s': %zu", cases[i].list,
				 addr_first_bytes(cases[i].list));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tcp_uris),
		cmocka_unit_test(unix_uris),
		cmocka_unit_test(plain_hosts),
		cmocka_unit_test(tls_parameters),
		cmocka_unit_test(wrong_uris),
		cmocka_unit_test(lengths),
		cmocka_unit_test(formatting),
		cmocka_unit_test(round_trip),
		cmocka_unit_test(lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
