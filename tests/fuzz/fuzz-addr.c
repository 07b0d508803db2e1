/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: addr_parse().  What it accepts must be within its bounds, must
 * read the same again after addr_format(), and formats to plain ASCII.
 */
#include <string.h>

#include "common/addr.h"
#include "common/check.h"
#include "common/text.h"
#include "tests/fuzz/fuzz.h"

#define SEED(text) { text, sizeof(text) - 1 }

const struct fuzz_seed fuzz_seeds[] = {
	SEED("nbd://example.com:10809/export"),
	SEED("nbds://user@[fe80::1%25eth0]:99//a%20b?tls-type=psk"),
	SEED("nbd+unix:///x?socket=%00/abstract&tls-hostname=n"),
	SEED("nbds+unix:///?tls-verify-peer=0&socket=/run/s"),
	SEED("nbd+vsock://2:10809/x"),
	SEED("server:10809"),
	SEED("[::1]:99"),
	SEED("2001:db8::1"),
	SEED("/run/nbd.sock"),
};
const size_t fuzz_seeds_count = sizeof(fuzz_seeds) / sizeof(fuzz_seeds[0]);

static void check_addr(const struct addr *a)
{
	CHECK(memchr(a->host, '\0', sizeof(a->host)) != NULL);
	CHECK(memchr(a->user, '\0', sizeof(a->user)) != NULL);
	CHECK(memchr(a->export_name, '\0', sizeof(a->export_name)) != NULL);
	CHECK(memchr(a->tls_hostname, '\0', sizeof(a->tls_hostname)) != NULL);
	CHECK(a->socket_path_bytes <= ADDR_SOCKET_MAX);
	CHECK(a->socket_path[a->socket_path_bytes] == '\0');
	if (a->kind == ADDR_TCP)
		CHECK(a->host[0] != '\0' && a->port != 0);
	else
		CHECK(a->socket_path_bytes > 0 && a->host[0] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static char text[FUZZ_INPUT_MAX + 1], again_text[ADDR_TEXT_MAX];
	static char formatted[ADDR_TEXT_MAX];
	static struct addr a, again;
	struct err err = { 0 };

	if (bytes > FUZZ_INPUT_MAX)
		return 0;
	memcpy(text, data, bytes);
	text[bytes] = '\0';
	if (addr_parse(&a, text, &err) < 0) {
		CHECK(err.exit_code == X_USAGE && err.error > 0);
		CHECK(text_is_utf8(err.text, strlen(err.text)));
		CHECK(strpbrk(err.text, "\n\r\033") == NULL);
		return 0;
	}
	check_addr(&a);
	CHECK(addr_format(&a, formatted, sizeof(formatted)) <
	      sizeof(formatted));
	for (const char *p = formatted; *p != '\0'; p++)
		CHECK(*p > ' ' && *p < 0x7f);
	CHECK(addr_parse(&again, formatted, &err) == 0);
	CHECK(memcmp(&a, &again, sizeof(a)) == 0);
	addr_format(&again, again_text, sizeof(again_text));
	CHECK(strcmp(formatted, again_text) == 0);
	return 0;
}
