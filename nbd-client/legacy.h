/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line that nbd-client had before it had subcommands:
 *
 *	nbd-client [-N export] HOST [PORT] [DEV] [-swap] ...
 *	nbd-client nbd0 | -d DEV | -c DEV | -l HOST [PORT]
 *
 * Its words are translated to those of attach, detach and exports, and nothing
 * else is done here; -c alone has no counterpart. Options that cannot have the
 * effect that they had are told of, or refused.
 *
 * Command line only.
 */
#ifndef NBD_LEGACY_H
#define NBD_LEGACY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/err.h"
#include "nbd-client/config.h"

enum legacy_action {
	LEGACY_ATTACH,
	LEGACY_CHECK,
	LEGACY_DISCONNECT,
	LEGACY_LIST,
	LEGACY_HELP,
};

/* As written; NULL or false where nothing was. */
struct legacy {
	enum legacy_action action;
	const char *host, *port, *device;
	const char *name;
	const char *block_size, *size, *timeout, *dead_timeout, *connections;
	const char *ca, *cert, *key, *tls_hostname, *priority;
	const char *identifier;
	bool tls, swap, read_only, unix_socket;
	bool nofork, nonetlink, mark, persist, no_go, preinit, sdp;
};

/*
 * Reads a command line as getopt_long_only(3) does: one dash or two, beginnings
 * of names, values in the same word. The words of argv stay where they are.
 * Warnings go to notes. 0, or -EINVAL with X_USAGE.
 */
int legacy_parse(int argc, char **argv, FILE *notes, struct legacy *ret,
		 struct err *err);

/* An option of nbdtab; value NULL: it has none. False: there is no such. */
bool legacy_set_tab(struct legacy *l, const char *name, const char *value);

/*
 * What attach or exports needs to be told for the same effect: options, and the
 * URI if there is a host. 0 or -errno with X_USAGE.
 */
int legacy_words(const struct legacy *l, FILE *notes, struct config *ret,
		 struct err *err);

/* All of it. For -c the exit code is in *err, and the text may be empty. */
int legacy_run(int argc, char **argv, struct err *err);

#endif
