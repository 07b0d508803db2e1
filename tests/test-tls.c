// SPDX-License-Identifier: GPL-2.0-or-later
/* TLS options: what goes together, and what the files must hold. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "nbd-client/tls.h"
#include "tests/test_certs.h"

static struct addr addr;
static struct tls tls;
static struct err err;

static void set_uri(const char *uri)
{
	err_clear(&err);
	assert_int_equal(addr_parse(&addr, uri, &err), 0);
}

static void decides(const char *uri, const struct tls_options *o,
		    enum handshake_tls expected)
{
	enum handshake_tls mode = 99;

	set_uri(uri);
	if (tls_decide(o, &addr, &mode, &err) < 0)
		fail_msg("%s: %s", uri, err.text);
	assert_int_equal(mode, expected);
}

static void refuses(const char *uri, const struct tls_options *o,
		    const char *says)
{
	enum handshake_tls mode;

	set_uri(uri);
	assert_int_equal(tls_decide(o, &addr, &mode, &err), -EINVAL);
	assert_int_equal(err.exit_code, X_USAGE);
	if (!strstr(err.text, says))
		fail_msg("%s: %s", uri, err.text);
}

static void modes(void **state)
{
	const struct tls_options none = { 0 }, off = { .mode = "off" };
	const struct tls_options allow = { .mode = "allow" };
	const struct tls_options require = { .mode = "require" };
	const struct tls_options odd = { .mode = "on" };

	(void)state;
	decides("nbd://h", &none, HANDSHAKE_TLS_OFF);
	decides("nbd://h", &off, HANDSHAKE_TLS_OFF);
	decides("nbd://h", &allow, HANDSHAKE_TLS_TRY);
	decides("nbd://h", &require, HANDSHAKE_TLS_REQUIRE);
	decides("nbds://h", &none, HANDSHAKE_TLS_REQUIRE);
	decides("nbds://h", &require, HANDSHAKE_TLS_REQUIRE);
	refuses("nbds://h", &off, "nbds:// demands TLS");
	refuses("nbds://h", &allow, "nbds:// demands TLS");
	refuses("nbd://h", &odd, "off, allow or require");
}

static void contradictions(void **state)
{
	(void)state;
	refuses("nbd://h", &(struct tls_options){ .ca = "x" }, "TLS is off");
	refuses("nbd://h", &(struct tls_options){ .psk_file = "x" },
		"TLS is off");
	refuses("nbds://h", &(struct tls_options){ .cert = "x" },
		"belong together");
	refuses("nbds://h", &(struct tls_options){ .key = "x" },
		"belong together");
	refuses("nbds://h", &(struct tls_options){ .psk_file = "x", .ca = "y" },
		"replaces certificates");
	refuses("nbds://h?tls-type=anon", &(struct tls_options){ 0 },
		"nobody's identity");
	refuses("nbds://h?tls-type=psk", &(struct tls_options){ 0 },
		"--tls-psk-file");
	refuses("nbds://h?tls-type=x509",
		&(struct tls_options){ .psk_file = "x" }, "contradict");
	refuses("nbds://h", &(struct tls_options){ .records = "ours" },
		"auto, kernel or user");
	refuses("nbds+unix:///x?socket=/s&tls-hostname=n",
		&(struct tls_options){ .records = "kernel" }, "on TCP only");
}

/* Behind a UNIX socket there is no name to compare with. */
static void names(void **state)
{
	const char *uri = "nbds+unix:///x?socket=/s";

	(void)state;
	refuses(uri, &(struct tls_options){ 0 }, "--tls-hostname");
	decides(uri, &(struct tls_options){ .hostname = "n" },
		HANDSHAKE_TLS_REQUIRE);
	decides(uri, &(struct tls_options){ .psk_file = "f" },
		HANDSHAKE_TLS_REQUIRE);
	decides("nbds+unix:///x?socket=/s&tls-hostname=n",
		&(struct tls_options){ 0 }, HANDSHAKE_TLS_REQUIRE);
	decides("nbds+unix:///x?socket=/s&tls-verify-peer=0",
		&(struct tls_options){ 0 }, HANDSHAKE_TLS_REQUIRE);
}

static void finds(const char *text, const char *user, const char *identity,
		  uint32_t bytes, uint8_t first)
{
	memset(&tls, 0, sizeof(tls));
	if (tls_find_psk(&tls, text, user, "f", &err) < 0)
		fail_msg("%s: %s", text, err.text);
	assert_string_equal(tls.identity, identity);
	assert_int_equal(tls.psk_bytes, bytes);
	assert_int_equal(tls.psk_key[0], first);
}

static void misses(const char *text, const char *user, const char *says)
{
	memset(&tls, 0, sizeof(tls));
	assert_true(tls_find_psk(&tls, text, user, "f", &err) < 0);
	assert_int_equal(err.exit_code, X_USAGE);
	if (!strstr(err.text, says))
		fail_msg("%s: %s", text, err.text);
}

static void key_files(void **state)
{
	static char long_line[TLS_IDENTITY_BYTES + 2 * TLS_PSK_BYTES_MAX + 10];

	(void)state;
	finds("alice:0A1b", "", "alice", 2, 0x0a);
	finds("# mine\r\n\r\nalice:ff\r\n", "alice", "alice", 1, 0xff);
	finds("bob:00\nalice:1234\nalices:56", "alice", "alice", 2, 0x12);
	misses("", "", "has no key");
	misses("# alice:00\n", "", "has no key");
	misses("bob:00\n", "alice", "no key of user 'alice'");
	misses("bob:00\nalice:00\n", "", "several keys");
	misses("alice:0\n", "", "line 1 of f");
	misses("alice:0g\n", "", "line 1 of f");
	misses("\nalice:\n", "", "line 2 of f");
	misses("alice\n", "", "line 1 of f");
	misses(":00\n", "", "line 1 of f");
	memset(long_line, 'a', sizeof(long_line) - 1);
	long_line[TLS_IDENTITY_BYTES] = ':';
	misses(long_line, "", "line 1 of f");
	memset(long_line, 'a', sizeof(long_line) - 1);
	long_line[1] = ':';
	long_line[2 + 2 * TLS_PSK_BYTES_MAX + 2] = '\0';
	misses(long_line, "", "line 1 of f");
}

/* All files are good but the one that is tested. */
static void file_fails(struct tls_options o, int exit_code, const char *says)
{
	set_uri("nbds://localhost/");
	assert_true(tls_open(&tls, &o, &addr, &err) < 0);
	if (err.exit_code != exit_code || !strstr(err.text, says))
		fail_msg("%d: %s", err.exit_code, err.text);
	tls_close(&tls);
}

static void pem_files(void **state)
{
	const char *ca = test_certs("ca-cert.pem");
	const char *cert = test_certs("client-cert.pem");
	const char *key = test_certs("client-key.pem");
	const char *psk = test_certs("psk/keys.psk");
	const char *missing = test_certs("missing");

	(void)state;
	set_uri("nbds://localhost/");
	assert_int_equal(tls_open(&tls,
				  &(struct tls_options){ .ca = ca,
							 .cert = cert,
							 .key = key },
				  &addr, &err),
			 0);
	tls_close(&tls);
	file_fails((struct tls_options){ .ca = missing }, X_USAGE,
		   "No such file");
	file_fails((struct tls_options){ .ca = psk }, X_USAGE,
		   "in PEM form");
	file_fails((struct tls_options){ .ca = ca, .cert = missing,
					 .key = key }, X_USAGE, "No such file");
	file_fails((struct tls_options){ .ca = ca, .cert = cert,
					 .key = missing }, X_USAGE,
		   "No such file");
	file_fails((struct tls_options){ .ca = ca, .cert = cert, .key = psk },
		   X_USAGE, "in PEM form");
	file_fails((struct tls_options){ .ca = ca, .cert = cert,
					 .key = test_certs("locked.pem") },
		   X_USAGE, "passphrase");
	file_fails((struct tls_options){ .ca = ca, .cert = cert,
					 .key = test_certs("other-ca-key.pem") },
		   X_USAGE, "does not belong");
	file_fails((struct tls_options){ .psk_file = missing }, X_USAGE,
		   "No such file");
}

static void secrets_of_others(void **state)
{
	const char *key = test_certs("client-key.pem");
	const char *psk = test_certs("psk-two");

	(void)state;
	assert_int_equal(chmod(key, 0644), 0);
	assert_int_equal(chmod(psk, 0602), 0);
	file_fails((struct tls_options){ .ca = test_certs("ca-cert.pem"),
					 .cert = test_certs("client-cert.pem"),
					 .key = key },
		   X_PERMISSION, "chmod o=");
	file_fails((struct tls_options){ .psk_file = psk, .user = "bob" },
		   X_PERMISSION, "chmod o=");
	assert_int_equal(chmod(key, 0640), 0);
	assert_int_equal(chmod(psk, 0600), 0);
	set_uri("nbds://bob@localhost/");
	assert_int_equal(tls_open(&tls, &(struct tls_options){ .psk_file = psk },
				  &addr, &err), 0);
	assert_string_equal(tls.identity, "bob");
	tls_close(&tls);
}

/* Only the one that is clearly faster comes first, and AES in case of doubt. */
static void order_of_ciphers(void **state)
{
	(void)state;
	assert_false(tls_prefers_chacha(1000, 1000));
	assert_false(tls_prefers_chacha(1000, 700));
	assert_true(tls_prefers_chacha(1000, 600));
	assert_true(tls_prefers_chacha(UINT64_MAX, 1000));
	assert_false(tls_prefers_chacha(1000, UINT64_MAX));
	assert_false(tls_prefers_chacha(UINT64_MAX, UINT64_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(modes),
		cmocka_unit_test(contradictions),
		cmocka_unit_test(names),
		cmocka_unit_test(key_files),
		cmocka_unit_test(pem_files),
		cmocka_unit_test(secrets_of_others),
		cmocka_unit_test(order_of_ciphers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
