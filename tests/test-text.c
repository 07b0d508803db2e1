/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of text_escape() and of err_set(): nothing hostile reaches a terminal. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/err.h"
#include "common/text.h"

static void plain_text_stays(void **state)
{
	static const char *const same[] = {
		"", "disk", "a b c", "Gr\xc3\xb6\xc3\x9f",
		"\xe2\x82\xac", "\xf0\x9f\x92\xbe", "~!\"'",
	};
	char dst[64];

	(void)state;
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		assert_int_equal(text_escape_str(dst, sizeof(dst), same[i]),
				 strlen(same[i]));
		assert_string_equal(dst, same[i]);
	}
}

static void everything_else_is_escaped(void **state)
{
	static const struct {
		const char *src;
		size_t len;
		const char *want;
	} cases[] = {
		{ "a\0b", 3, "a\\x00b" },
		{ "\033[2J", 4, "\\x1b[2J" },
		{ "\n\r\t\b\a", 5, "\\x0a\\x0d\\x09\\x08\\x07" },
		{ "\x7f", 1, "\\x7f" },
		{ "\xc2\x9b" "2J", 4, "\\xc2\\x9b2J" },	/* C1: CSI */
		{ "\\x41", 4, "\\x5cx41" },
		{ "\xff\xfe", 2, "\\xff\\xfe" },
		{ "\xc3", 1, "\\xc3" },			/* cut off */
		{ "\xc3(", 2, "\\xc3(" },
		{ "\xc0\xaf", 2, "\\xc0\\xaf" },	/* overlong '/' */
		{ "\xe0\x80\xaf", 3, "\\xe0\\x80\\xaf" },
		{ "\xf0\x80\x80\xaf", 4, "\\xf0\\x80\\x80\\xaf" },
		{ "\xed\xa0\x80", 3, "\\xed\\xa0\\x80" },	/* surrogate */
		{ "\xf4\x90\x80\x80", 4, "\\xf4\\x90\\x80\\x80" },
		{ "\xf5\x80\x80\x80", 4, "\\xf5\\x80\\x80\\x80" },
		{ "\xe2\x80\xae" "exe", 6, "\\xe2\\x80\\xaeexe" }, /* RLO */
		{ "\xe2\x80\xa8", 3, "\\xe2\\x80\\xa8" },
		{ "\xef\xbb\xbf", 3, "\\xef\\xbb\\xbf" },
		{ "\xf3\xa0\x80\x81", 4, "\\xf3\\xa0\\x80\\x81" },
	};
	char dst[64];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		text_escape(dst, sizeof(dst), cases[i].src, cases[i].len);
		assert_string_equal(dst, cases[i].want);
	}
}

/* Whatever comes in: printable ASCII or valid UTF-8 goes out, and it fits. */
static void no_room_is_too_small(void **state)
{
	uint8_t src[40];
	char dst[64];

	(void)state;
	srandom(1);
	for (int round = 0; round < 20000; round++) {
		size_t len = (size_t)random() % sizeof(src);
		size_t n = (size_t)random() % sizeof(dst);
		size_t used;

		for (size_t i = 0; i < len; i++)
			src[i] = (uint8_t)random();
		memset(dst, 0x55, sizeof(dst));
		used = text_escape(dst, n, src, len);
		if (n == 0) {
			assert_int_equal(used, 0);
			assert_int_equal(dst[0], 0x55);
			continue;
		}
		assert_true(used < n);
		assert_int_equal(strlen(dst), used);
		assert_true(text_is_utf8(dst, used));
		for (size_t i = 0; i < used; i++)
			assert_true((uint8_t)dst[i] >= ' ' && dst[i] != 0x7f);
		for (size_t i = n; i < sizeof(dst); i++)
			assert_int_equal(dst[i], 0x55);
	}
}

static void cut_text_is_marked(void **state)
{
	char dst[8];

	(void)state;
	assert_int_equal(text_escape_str(dst, sizeof(dst), "abcdefg"), 7);
	assert_string_equal(dst, "abcdefg");
	assert_int_equal(text_escape_str(dst, sizeof(dst), "abcdefgh"), 7);
	assert_string_equal(dst, "abcd...");
	/* Never within an escape or a character. */
	text_escape_str(dst, sizeof(dst), "abc\033\033");
	assert_string_equal(dst, "abc...");
	text_escape_str(dst, sizeof(dst), "abc\xe2\x82\xac\xe2\x82\xac");
	assert_string_equal(dst, "abc...");
	text_escape_str(dst, 3, "abcdef");
	assert_string_equal(dst, "..");
	text_escape_str(dst, 1, "abcdef");
	assert_string_equal(dst, "");
}

static void utf8_is_told_from_the_rest(void **state)
{
	(void)state;
	assert_true(text_is_utf8("", 0));
	assert_true(text_is_utf8("\xe2\x82\xac\n", 4));
	assert_false(text_is_utf8("\xe2\x82", 2));
	assert_false(text_is_utf8("a\0", 2));
	assert_false(text_is_utf8("\x80", 1));
}

static void err_keeps_cause_and_code(void **state)
{
	struct err err;

	(void)state;
	err_clear(&err);
	assert_int_equal(err.exit_code, EXIT_OK);
	assert_int_equal(err_set(&err, X_BUSY, EBUSY, "%s is %d", "x", 7),
			 -EBUSY);
	assert_int_equal(err.exit_code, X_BUSY);
	assert_int_equal(err.error, EBUSY);
	assert_string_equal(err.text, "x is 7");
	assert_int_equal(err_set(NULL, X_BUSY, EIO, "nobody asks"), -EIO);
}

static void err_explains_by_the_row_of_the_error(void **state)
{
	static const struct err_hint hints[] = {
		{ EBUSY, X_BUSY, "detach it" },
		{ ENOENT, X_NOT_FOUND, NULL },
		{ 0, X_TLS, "ask" },
	};
	struct err err;

	(void)state;
	assert_int_equal(err_explain(&err, hints, EBUSY, "no %d", 7), -EBUSY);
	assert_int_equal(err.exit_code, X_BUSY);
	assert_string_equal(err.text,
			    "no 7: Device or resource busy; detach it");
	err_explain(&err, hints, ENOENT, "no");
	assert_int_equal(err.exit_code, X_NOT_FOUND);
	assert_string_equal(err.text, "no: No such file or directory");
	err_explain(&err, hints, 4095, "no");
	assert_int_equal(err.exit_code, X_TLS);
	assert_string_equal(err.text, "no: unknown error; ask");
	err_explain(&err, NULL, EPERM, "no");
	assert_int_equal(err.exit_code, X_PERMISSION);
	err_explain(&err, NULL, EIO, "no");
	assert_int_equal(err.exit_code, X_FAILURE);
	assert_string_equal(err.text, "no: Input/output error");
}

static void err_is_one_line(void **state)
{
	struct err err;

	(void)state;
	err_set(&err, X_FAILURE, EIO, "a\nb\r\nc");
	assert_string_equal(err.text, "a b  c");
}

/* Cut at each place of a character of each length: never half of one. */
static void err_is_cut_at_a_character(void **state)
{
	static const char *const last[] = { "x", "\xc3\xb6", "\xe2\x82\xac",
					    "\xf0\x9f\x92\xbe" };
	struct err err;
	char long_text[600];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		for (size_t lead = 505; lead < 515; lead++) {
			size_t bytes = strlen(last[i]);

			memset(long_text, 'a', lead);
			memcpy(long_text + lead, last[i], bytes);
			memset(long_text + lead + bytes, 'b', 50);
			long_text[lead + bytes + 50] = '\0';
			err_set(&err, X_FAILURE, EIO, "%s", long_text);
			assert_true(text_is_utf8(err.text, strlen(err.text)));
			assert_true(strlen(err.text) >= 505);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_text_stays),
		cmocka_unit_test(everything_else_is_escaped),
		cmocka_unit_test(no_room_is_too_small),
		cmocka_unit_test(cut_text_is_marked),
		cmocka_unit_test(utf8_is_told_from_the_rest),
		cmocka_unit_test(err_keeps_cause_and_code),
		cmocka_unit_test(err_explains_by_the_row_of_the_error),
		cmocka_unit_test(err_is_one_line),
		cmocka_unit_test(err_is_cut_at_a_character),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
