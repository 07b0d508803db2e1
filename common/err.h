/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why something could not be done, as one line for a person.
 *
 * Owns: struct err and the exit codes of the program.  Used by the control
 * thread and the command line; data threads never write one.
 */
#ifndef NBD_ERR_H
#define NBD_ERR_H

/* Exit codes of every subcommand; scripts rely on them. */
enum {
	EXIT_OK = 0,
	X_FAILURE = 1,		/* anything that has no code of its own */
	X_USAGE = 2,		/* command line, URI or configuration is wrong */
	X_NOT_FOUND = 3,	/* no such device, not attached */
	X_PERMISSION = 4,	/* this user may not do that */
	X_BUSY = 5,		/* device in use, or exists already */
	X_UNREACHABLE = 6,	/* no connection, no answer, not in time */
	X_REFUSED = 7,		/* the server said no, or is not one we can use */
	X_TLS = 8,		/* encryption or authentication */
	X_KERNEL = 9,		/* this kernel lacks a feature */
};

#define ERR_TEXT_BYTES 512u

struct err {
	int exit_code;		/* X_FAILURE …; 0 while nothing has failed */
	int error;		/* errno value, never negative */
	char text[ERR_TEXT_BYTES];		/* one line: cause and remedy, no newline */
};

/*
 * Says what failed.  A text that is too long is cut.  What a server or file
 * supplied goes through text_escape() first (common/text.h).
 * `err` may be NULL for callers that need only the number.
 * Returns -error.
 */
int err_set(struct err *err, int exit_code, int error, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* What is known about an errno value; the last row of a table has error 0. */
struct err_hint {
	int error;
	int exit_code;
	const char *remedy;	/* NULL: none is known */
};

/*
 * The same for a system call that failed: adds to the text what the error is
 * called and the remedy of its row, or of the last one, which is for all others.
 * hints may be NULL, where all that is known is that root may do it.
 */
int err_explain(struct err *err, const struct err_hint *hints, int error,
		const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Back to "nothing has failed". */
void err_clear(struct err *err);

#endif
