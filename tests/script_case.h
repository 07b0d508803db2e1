/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each of test-handshake*.c begins with: one script, one client, short
 * words for them.  Included once, by the test itself.
 */
#ifndef NBD_TEST_SCRIPT_CASE_H
#define NBD_TEST_SCRIPT_CASE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "tests/script.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define SIZE 1048576u
#define FLAGS (NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_DF)
#define FIXED (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)

static struct script s;
static struct handshake hs;
static struct said said;

static const struct handshake_params go = { .goal = HANDSHAKE_GO,
					    .export_name = "disk" };
static const struct handshake_params info = { .goal = HANDSHAKE_INFO,
					      .export_name = "disk" };
static const struct handshake_params list = { .goal = HANDSHAKE_LIST };

static inline void play(const struct handshake_params *params)
{
	script_play(&s, params, &hs, &said);
}

static inline void assert_done(void)
{
	script_assert_done(&hs);
}

static inline void assert_failed(int exit_code, int error, const char *mentions)
{
	script_assert_failed(&hs, exit_code, error, mentions);
}

static inline void start(uint32_t structured_answer)
{
	script_hello_structured(&s, structured_answer);
}

static inline void answer(uint32_t option, uint32_t type)
{
	script_answer(&s, option, type);
}

#define SAID(...) SCRIPT_SAID(&said, __VA_ARGS__)

#endif
