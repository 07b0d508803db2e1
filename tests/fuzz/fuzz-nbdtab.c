/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: nbdtab_parse() and config_parse(). What they find is a URI that
 * can be read, and options; what they complain about is one line, with its
 * number in front.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/addr.h"
#include "common/check.h"
#include "common/text.h"
#include "nbd-client/nbdtab.h"
#include "tests/fuzz/fuzz.h"

#define SEED(text)                                                             \
	{                                                                      \
		text, sizeof(text) - 1                                         \
	}

const struct fuzz_seed fuzz_seeds[] = {
	SEED("nbd0 server export swap,persist,timeout=9,_netdev\n"),
	SEED("# comment\n/dev/nbd0\t2001:db8::1 e#x port=99,bs=4096\r\n"),
	SEED("nbd0 /run/s e unix,tls,cacertfile=/a,certfile=/c,keyfile=/k\n"),
	SEED("nbd1 a b\nnbd0 h e conns=4,priority=NORMAL,preinit\nnbd0 a b"),
	SEED("uri = nbds://h/e\n# x\nswap = best-effort\nread-only\n"),
	SEED("nbd0 h e tlshostname=n,dead-timeout=0x7,no_optgo"),
};
const size_t fuzz_seeds_count = sizeof(fuzz_seeds) / sizeof(fuzz_seeds[0]);

static struct config c;

static void check_config(const struct err *err, int rc)
{
	uint32_t i;

	if (rc) {
		CHECK(rc == -ENOENT || err->exit_code == X_USAGE);
		CHECK(rc == -ENOENT ||
		      (err->text[0] >= '1' && err->text[0] <= '9'));
		CHECK(text_is_utf8(err->text, strlen(err->text)));
		CHECK(strpbrk(err->text, "\n\r\033") == NULL);
		return;
	}
	CHECK(c.count <= CONFIG_OPTIONS_MAX && c.used <= sizeof(c.text));
	for (i = 0; i < c.count; i++) {
		CHECK(!strncmp(c.options[i].word, "--", 2));
		CHECK(c.options[i].line >= 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static char text[FUZZ_INPUT_MAX + 1];
	static struct addr addr;
	static FILE *notes;
	struct err err = { 0 };
	struct blockdev nbd0;
	int rc;

	if (bytes > FUZZ_INPUT_MAX)
		return 0;
	if (!notes)
		notes = fopen("/dev/null", "w");
	CHECK(notes != NULL);
	blockdev_set(&nbd0, FRONT_NBD, 0);
	memcpy(text, data, bytes);
	config_init(&c);
	rc = nbdtab_parse(&c, text, bytes, &nbd0, notes, &err);
	check_config(&err, rc);
	if (!rc)
		CHECK(c.uri != NULL && addr_parse(&addr, c.uri, &err) == 0);
	memcpy(text, data, bytes);
	config_init(&c);
	err_clear(&err);
	rc = config_parse(&c, text, bytes, &err);
	check_config(&err, rc);
	return 0;
}
