/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why something could not be done, as one line for a person.
 *
 * Owns nothing; the control thread and the command line call it.  The only
 * formatting in the program that a handshake can reach: vsnprintf() with %s, %u
 * and the like does not allocate.
 */
#include "common/err.h"

#include <errno.h>
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

/* One line, cut where it does not fit. */
static void format(char *text, size_t n, const char *fmt, va_list ap)
{
	int len = vsnprintf(text, n, fmt, ap);

	if (len < 0)
		text[0] = '\0';
	else if ((size_t)len >= n)
		drop_partial_character(text, n - 1);
	for (char *p = text; *p != '\0'; p++)
		if (*p == '\n' || *p == '\r')
			*p = ' ';
}

int err_set(struct err *err, int exit_code, int error, const char *fmt, ...)
{
	va_list ap;

	CHECK(exit_code > EXIT_OK && error > 0);
	if (err == NULL)
		return -error;
	err->exit_code = exit_code;
	err->error = error;
	va_start(ap, fmt);
	format(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return -error;
}

int err_explain(struct err *err, const struct err_hint *hints, int error,
		const char *fmt, ...)
{
	static const struct err_hint usual[] = {
		{ EACCES, X_PERMISSION, "run as root" },
		{ EPERM, X_PERMISSION, "run as root" },
		{ 0, X_FAILURE, NULL },
	};
	/* Unlike strerror(3) it needs no memory and no translation. */
	const char *reason = strerrordesc_np(error);
	char what[ERR_TEXT_BYTES];
	va_list ap;

	if (hints == NULL)
		hints = usual;
	while (hints->error != 0 && hints->error != error)
		hints++;
	va_start(ap, fmt);
	format(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_set(err, hints->exit_code, error, "%s: %s%s%s", what,
		       reason != NULL ? reason : "unknown error",
		       hints->remedy != NULL ? "; " : "",
		       hints->remedy != NULL ? hints->remedy : "");
}

void err_clear(struct err *err)
{
	memset(err, 0, sizeof(*err));
}
