// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tables for people and JSON for programs, from the same cells.
 *
 * Owns tables until they are printed. Command line only.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/check.h"
#include "common/text.h"
#include "nbd-client/table.h"

#define GAP 2 /* blanks between columns */

struct table {
	struct output *out;
	const struct table_column *columns;
	size_t column_count;
	size_t cell_count;
	size_t cell_room;
	char **cells; /* each as it is printed: text, or JSON */
};

static void fail(struct output *out, int error)
{
	if (!out->error)
		out->error = error;
}

/* ---- Cells ---- */

struct table *table_new(struct output *out, const struct table_column *columns,
			size_t column_count)
{
	struct table *table = calloc(1, sizeof(*table));

	if (!table) {
		fail(out, ENOMEM);
		return NULL;
	}
	table->out = out;
	table->columns = columns;
	table->column_count = column_count;
	return table;
}

static bool is_json(const struct table *table)
{
	return table && table->out->options.json;
}

/* Takes the string, which may be NULL for want of memory. */
static void add(struct table *table, char *cell)
{
	char **cells;
	size_t room;

	if (!table || !cell)
		goto drop;
	if (table->cell_count == table->cell_room) {
		room = table->cell_room ? 2 * table->cell_room : 64;
		cells = realloc(table->cells, room * sizeof(*cells));
		if (!cells)
			goto drop;
		table->cells = cells;
		table->cell_room = room;
	}
	table->cells[table->cell_count++] = cell;
	return;
drop:
	if (table)
		fail(table->out, ENOMEM);
	free(cell);
}

/* A JSON string with its quotes; value is valid UTF-8 without NUL. */
static char *json_quote(const char *value, size_t length)
{
	char *json = malloc(6 * length + 3), *to = json;
	uint32_t c;
	size_t n;

	if (!json)
		return NULL;
	*to++ = '"';
	for (; length; value += n, length -= n) {
		n = text_character(&c, value, length);
		if (c == '"' || c == '\\') {
			*to++ = '\\';
			*to++ = (char)c;
		} else if (text_is_hidden(c) && c <= 0xffff) {
			to += snprintf(to, 7, "\\u%04x", c);
		} else {
			memcpy(to, value, n);
			to += n;
		}
	}
	*to++ = '"';
	*to = '\0';
	return json;
}

/* Each byte may become \xNN. */
static char *escape(const char *value, size_t length)
{
	char *text = malloc(4 * length + 1);

	if (text)
		text_escape(text, 4 * length + 1, value, length);
	return text;
}

void table_bytes_string(struct table *table, const char *value, size_t length)
{
	char *text, *json = NULL;

	if (is_json(table) && text_is_utf8(value, length)) {
		add(table, json_quote(value, length));
		return;
	}
	text = escape(value, length);
	if (!is_json(table)) {
		add(table, text);
		return;
	}
	/* JSON has no bytes: what is no UTF-8 is given as people see it. */
	if (text)
		json = json_quote(text, strlen(text));
	free(text);
	add(table, json);
}

void table_string(struct table *table, const char *value)
{
	table_bytes_string(table, value, strlen(value));
}

static void add_plain(struct table *table, const char *text, const char *json)
{
	add(table, strdup(is_json(table) ? json : text));
}

void table_number(struct table *table, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	add_plain(table, text, text);
}

void table_format_size(uint64_t bytes, char *ret_text, size_t text_bytes)
{
	static const char units[] = "BKMGTPE";
	uint64_t tenths, unit = 1;
	size_t i = 0;

	while (bytes / unit >= 1024 && i < sizeof(units) - 2) {
		unit *= 1024;
		i++;
	}
	/* Rounded down: never more than is there. */
	tenths = bytes % unit * 10 / unit;
	if (unit > UINT64_MAX / 10) /* exabytes: avoid the overflow */
		tenths = bytes % unit / (unit / 10);
	if (tenths)
		snprintf(ret_text, text_bytes, "%" PRIu64 ".%" PRIu64 "%c",
			 bytes / unit, tenths, units[i]);
	else
		snprintf(ret_text, text_bytes, "%" PRIu64 "%c", bytes / unit,
			 units[i]);
}

void table_size(struct table *table, uint64_t bytes)
{
	char text[24];

	if (is_json(table) || (table && table->out->options.bytes)) {
		table_number(table, bytes);
		return;
	}
	table_format_size(bytes, text, sizeof(text));
	add_plain(table, text, text);
}

void table_bool(struct table *table, bool value)
{
	add_plain(table, value ? "yes" : "no", value ? "true" : "false");
}

void table_time(struct table *table, uint64_t seconds)
{
	time_t t = (time_t)seconds;
	char text[32];
	struct tm tm;

	if (!seconds || !localtime_r(&t, &tm)) {
		table_none(table);
	} else if (is_json(table)) {
		table_number(table, seconds);
	} else {
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
		add_plain(table, text, text);
	}
}

void table_list(struct table *table, const char *const *values)
{
	bool json = is_json(table);
	char *all = NULL, *one;
	size_t bytes, i;
	FILE *file = open_memstream(&all, &bytes);

	if (!file) {
		add(table, NULL);
		return;
	}
	fputs(json ? "[" : "", file);
	for (i = 0; values[i]; i++) {
		one = json ? json_quote(values[i], strlen(values[i])) :
			     strdup(values[i]);
		fprintf(file, "%s%s", i == 0 ? "" : json ? ", " : " ",
			one ? one : "");
		if (!one && table)
			fail(table->out, ENOMEM);
		free(one);
	}
	fputs(json ? "]" : "", file);
	if (fclose(file)) {
		free(all);
		all = NULL;
	}
	add(table, all);
}

void table_none(struct table *table)
{
	add_plain(table, "-", "null");
}

/* ---- Printing ---- */

void output_begin(struct output *out, FILE *file,
		  const struct output_options *options)
{
	*out = (struct output){ .file = file, .options = *options };
}

/* Not before there is something: a command that fails prints nothing. */
static void json_head(struct output *out)
{
	if (!out->sections)
		fprintf(out->file, "{\n  \"version\": %d",
			OUTPUT_JSON_VERSION);
}

int output_end(struct output *out, struct err *err)
{
	if (out->options.json) {
		json_head(out);
		fprintf(out->file, "\n}\n");
	}
	if (fflush(out->file) || ferror(out->file))
		fail(out, errno ? errno : EIO);
	if (!out->error)
		return 0;
	return err_explain(err, NULL, out->error, "cannot write the output");
}

/* Columns on a terminal; combining and wide characters are not known here. */
static size_t width(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static void pad(FILE *file, size_t n)
{
	fprintf(file, "%*s", (int)n, "");
}

static size_t column_width(const struct table *table, size_t column)
{
	size_t i, w, widest = 0;

	if (!table->out->options.no_headings)
		widest = width(table->columns[column].heading);
	for (i = column; i < table->cell_count; i += table->column_count) {
		w = width(table->cells[i]);
		if (w > widest)
			widest = w;
	}
	return widest;
}

/* One cell; nothing is padded at the end of a line. */
static void print_cell(const struct table *table, size_t column,
		       size_t column_bytes, const char *text)
{
	FILE *file = table->out->file;
	bool last = column + 1 == table->column_count;

	if (table->columns[column].right)
		pad(file, column_bytes - width(text));
	fputs(*text ? text : "-", file);
	if (last)
		fputc('\n', file);
	else
		pad(file, GAP + (table->columns[column].right ?
					 0 :
					 column_bytes -
						 (*text ? width(text) : 1)));
}

static void print_rows(const struct table *table)
{
	size_t *widths = calloc(table->column_count, sizeof(*widths));
	size_t i, column;

	if (!widths) {
		fail(table->out, ENOMEM);
		return;
	}
	for (column = 0; column < table->column_count; column++) {
		widths[column] = column_width(table, column);
		if (!widths[column]) /* room for the "-" of an empty cell */
			widths[column] = 1;
	}
	for (column = 0; !table->out->options.no_headings &&
			 column < table->column_count;
	     column++)
		print_cell(table, column, widths[column],
			   table->columns[column].heading);
	for (i = 0; i < table->cell_count; i++) {
		column = i % table->column_count;
		print_cell(table, column, widths[column],
			   table->cells[i]);
	}
	free(widths);
}

static void print_fields(const struct table *table)
{
	size_t i, w, widest = 0;

	for (i = 0; i < table->column_count; i++) {
		w = width(table->columns[i].heading);
		if (w > widest)
			widest = w;
	}
	for (i = 0; i < table->cell_count; i++) {
		fputs(table->columns[i].heading, table->out->file);
		pad(table->out->file,
		    widest + GAP - width(table->columns[i].heading));
		fprintf(table->out->file, "%s\n",
			*table->cells[i] ? table->cells[i] : "-");
	}
}

static void print_object(const struct table *table, size_t first,
			 const char *indent)
{
	size_t i;

	fprintf(table->out->file, "{");
	for (i = 0; i < table->column_count; i++)
		fprintf(table->out->file, "%s\n%s  \"%s\": %s", i ? "," : "",
			indent, table->columns[i].key,
			table->cells[first + i]);
	fprintf(table->out->file, "\n%s}", indent);
}

static void print_json(const struct table *table, const char *key,
		       enum table_layout layout)
{
	FILE *file = table->out->file;
	size_t i;

	fprintf(file, ",\n  \"%s\": ", key);
	if (layout == TABLE_FIELDS) {
		print_object(table, 0, "  ");
		return;
	}
	fprintf(file, "[");
	for (i = 0; i < table->cell_count; i += table->column_count) {
		fprintf(file, "%s\n    ", i ? "," : "");
		print_object(table, i, "    ");
	}
	fprintf(file, "%s]", table->cell_count ? "\n  " : "");
}

void table_print(struct table *table, const char *key,
		 enum table_layout layout)
{
	if (!table)
		return;
	/* A cell that got lost would shift all that follow. */
	if (table->out->error) {
		table_free(table);
		return;
	}
	CHECK(table->cell_count % table->column_count == 0);
	CHECK(layout == TABLE_ROWS ||
	      table->cell_count == table->column_count);
	if (table->out->options.json)
		json_head(table->out);
	else if (table->out->sections)
		fputc('\n', table->out->file);
	table->out->sections++;
	if (table->out->options.json)
		print_json(table, key, layout);
	else if (layout == TABLE_FIELDS)
		print_fields(table);
	else
		print_rows(table);
	table_free(table);
}

void table_free(struct table *table)
{
	size_t i;

	if (!table)
		return;
	for (i = 0; i < table->cell_count; i++)
		free(table->cells[i]);
	free(table->cells);
	free(table);
}
