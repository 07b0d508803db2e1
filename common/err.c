/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why something could not be done, as one line for a person.
 *
 * Owns nothing; the control thread and the command line call it.  The only
 * formatting in the program that a handshake can reach: vsnprintf() with %s, %u
 * and the like does not allocate.
 */
#include "common/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"

/* A character that was cut in two would be garbage in a terminal. */
static void drop_partial_character(char *text, size_t len)
{
	size_t i = len;

	while (i > 0 && ((unsigned char)text[i - 1] & 0xc0) == 0x80)
		i--;
	if (i > 0 && (unsigned char)text[i - 1] >= 0xc0)
		text[i - 1] = '\0';
}

int err_set(struct err *err, int exit_code, int error, const char *fmt, ...)
{
	va_list ap;
	int len;

	CHECK(exit_code > EXIT_OK && error > 0);
	if (err == NULL)
		return -error;
	err->exit_code = exit_code;
	err->error = error;
	va_start(ap, fmt);
	len = vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	if (len < 0)
		err->text[0] = '\0';
	else if ((size_t)len >= sizeof(err->text))
		drop_partial_character(err->text, sizeof(err->text) - 1);
	for (char *p = err->text; *p != '\0'; p++)
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	return -error;
}

void err_clear(struct err *err)
{
	memset(err, 0, sizeof(*err));
}
