/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the program prints: tables, aligned for people or as JSON for programs.
 * A command names its columns once and gives each value once.
 *
 * Owns the memory of a table until it is printed. Command line only: allocates,
 * and remembers a failure until output_end().
 */
#ifndef NBD_TABLE_H
#define NBD_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/err.h"

/*
 * Of the JSON output: a key may be added within a version, but neither removed
 * nor given another meaning.
 */
#define OUTPUT_JSON_VERSION 1

struct output_options {
	bool json;
	bool no_headings;
	bool bytes; /* sizes as plain numbers */
};

struct output {
	FILE *file;
	struct output_options options;
	uint32_t sections; /* printed so far */
	int error;         /* errno of the first failure */
};

/*
 * Everything printed goes between these two, one JSON object altogether. Until
 * the first section is printed, nothing is: a command that fails just returns.
 */
void output_begin(struct output *out, FILE *file,
		  const struct output_options *options);
/* 0, or -errno if anything was not written. */
int output_end(struct output *out, struct err *err);

struct table_column {
	const char *key;     /* in JSON: lower case, underscores */
	const char *heading; /* for people */
	bool right;          /* numbers, aligned at their end */
};

enum table_layout {
	TABLE_ROWS,   /* a line per row under headings; JSON: array of objects */
	TABLE_FIELDS, /* of its only row a line per column; JSON: one object */
};

struct table;

/* NULL, remembered in out, when memory is short; all below accept NULL. */
struct table *table_new(struct output *out, const struct table_column *columns,
			size_t column_count);

/*
 * The next cell of the row; a row ends when each column has its cell. Strings
 * may be anything, they are made safe for terminal and JSON alike.
 */
void table_string(struct table *table, const char *value);
void table_bytes_string(struct table *table, const char *value, size_t length);
void table_number(struct table *table, uint64_t value);
void table_size(struct table *table, uint64_t bytes);
void table_bool(struct table *table, bool value);
/* Seconds since 1970; 0: never. JSON has the number. */
void table_time(struct table *table, uint64_t seconds);
/* Strings up to a NULL; people see them with blanks between. */
void table_list(struct table *table, const char *const *values);
/* Nothing to say: "-", in JSON null. */
void table_none(struct table *table);

/* Prints and frees. key: of the section in JSON. */
void table_print(struct table *table, const char *key,
		 enum table_layout layout);

/* Without printing. */
void table_free(struct table *table);

/* "256M", "1.5G"; text_bytes >= 16. */
void table_format_size(uint64_t bytes, char *ret_text, size_t text_bytes);

#endif
