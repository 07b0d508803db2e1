/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CHECK: an assertion that is always compiled in.
 *
 * It guards our own state only; nothing a peer sends may ever trip it. Wrong
 * data is worse than a dead device, so a broken invariant ends the process.
 * The report needs no memory: one write(2) of a text built at compile time.
 */
#ifndef NBD_CHECK_H
#define NBD_CHECK_H

#define CHECK_TEXT_(x) #x
#define CHECK_LINE_(x) CHECK_TEXT_(x)

#define CHECK(cond)                                                            \
	do {                                                                   \
		if (__builtin_expect(!(cond), 0))                              \
			check_failed(__FILE__ ":" CHECK_LINE_(__LINE__)        \
				     ": check failed: " #cond "\n");           \
	} while (0)

_Noreturn void check_failed(const char *text);

#endif
