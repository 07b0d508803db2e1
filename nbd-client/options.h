/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Subcommands and their options as tables: what is parsed, what --help prints
 * and what is suggested after a slip all come from the same rows.
 *
 * Pure, apart from --help, which prints. Command line only.
 */
#ifndef NBD_OPTIONS_H
#define NBD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/err.h"

enum option_kind {
	OPTION_FLAG,   /* bool */
	OPTION_U32,    /* a decimal number, min … max, stored times scale */
	OPTION_U64,
	OPTION_SIZE32, /* bytes, with K, M or G; uint32_t */
	OPTION_STRING, /* const char *, points into argv */
	OPTION_CALL,   /* set(target, value); value NULL if left out */
};

struct option_spec {
	const char *name; /* "json": --json. NULL ends the list */
	char letter;      /* 'J': -J; flags only */
	enum option_kind kind;
	const char *value; /* "SECONDS"; "[=PRIORITY]": may be left out */
	size_t offset;     /* of the field in the target */
	uint64_t min, max;
	uint32_t scale; /* 0 means 1 */
	int (*set)(void *target, const char *value, struct err *err);
	const char *help; /* what follows in --help; '\n' breaks the line */
};

struct command {
	const char *name;
	const char *words;   /* "DEV"; "" if there are none */
	const char *summary; /* one line */
	const char *details; /* more lines for --help, or NULL */
	const char *examples; /* command lines, likewise */
	const struct option_spec *options;
	int (*run)(int argc, char **argv, struct err *err);
};

#define OPTION_WORDS_MAX 8u

/* What is left of a command line: in order, options may stand between. */
struct words {
	uint32_t count;
	const char *word[OPTION_WORDS_MAX];
};

/*
 * argv[0] is the command's name. Stores options in target and words in
 * *ret_words, between words_min and words_max of them. 1: --help was asked for
 * and printed to stdout; 0; or -EINVAL with X_USAGE.
 */
int options_parse(const struct command *command, int argc, char **argv,
		  void *target, uint32_t words_min, uint32_t words_max,
		  struct words *ret_words, struct err *err);

void options_help(const struct command *command, FILE *file);

/* A number of bytes, with K, M or G behind it. 0 or -EINVAL. */
int options_parse_size(const char *text, uint64_t *ret_bytes);
int options_parse_number(const char *text, uint64_t *ret_value);

/*
 * How many letters must be changed, added or taken away to make one word of
 * the other; for suggestions.
 */
uint32_t options_distance(const char *a, const char *b);

/* No suggestion beyond this distance. */
#define OPTIONS_NEAR 2u

#endif
