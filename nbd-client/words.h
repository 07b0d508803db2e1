/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line that a device was attached with, kept in RUN_DIR/nbd0.attach
 * for the day when all its processes have died: "recover nbd0" goes by it.
 *
 * The supervisor writes and removes it; the command line reads it.
 */
#ifndef NBD_WORDS_H
#define NBD_WORDS_H

#include "common/err.h"

#define WORDS_BYTES 8192u
#define WORDS_MAX 128

struct kept_words {
	int count;
	char *word[WORDS_MAX + 1]; /* into text; the last one is NULL */
	char text[WORDS_BYTES];
};

/* 0 or -errno with *err set. */
int words_keep(const char *name, int argc, char *const *argv, struct err *err);

/* X_NOT_FOUND: none are kept for "nbd0". */
int words_load(const char *name, struct kept_words *ret, struct err *err);

void words_drop(const char *name);

#endif
