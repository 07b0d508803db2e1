/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of what the program prints: tables for people, JSON for programs. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nbd-client/table.h"

static const struct table_column columns[] = {
	{ "name", "NAME", false },
	{ "size", "SIZE", true },
	{ "on", "ON", false },
};

static void fill(struct table *table, const char *name, uint64_t bytes, bool on)
{
	table_string(table, name);
	table_size(table, bytes);
	table_bool(table, on);
}

/* Two rows in the given layout and format; the caller frees the text. */
static char *print_two(const struct output_options *options)
{
	struct output out;
	struct table *table;
	char *text = NULL;
	size_t bytes;
	FILE *file = open_memstream(&text, &bytes);

	assert_non_null(file);
	output_begin(&out, file, options);
	table = table_new(&out, columns, 3);
	fill(table, "a", 512ull << 20, true);
	fill(table, "long\tname \xc3\xa9", 1536, false);
	table_print(table, "things", TABLE_ROWS);
	assert_int_equal(output_end(&out, NULL), 0);
	fclose(file);
	return text;
}

static void rows_are_aligned(void **state)
{
	struct output_options options = { 0 };
	char *text = print_two(&options);

	(void)state;
	assert_string_equal(text, "NAME            SIZE  ON\n"
				  "a               512M  yes\n"
				  "long\\x09name \xc3\xa9  1.5K  no\n");
	free(text);
}

static void headings_and_units_can_go(void **state)
{
	struct output_options options = { .no_headings = true, .bytes = true };
	char *text = print_two(&options);

	(void)state;
	assert_string_equal(text, "a               536870912  yes\n"
				  "long\\x09name \xc3\xa9       1536  no\n");
	free(text);
}

static void rows_in_json(void **state)
{
	struct output_options options = { .json = true };
	char *text = print_two(&options);

	(void)state;
	assert_string_equal(text, "{\n"
				  "  \"version\": 1,\n"
				  "  \"things\": [\n"
				  "    {\n"
				  "      \"name\": \"a\",\n"
				  "      \"size\": 536870912,\n"
				  "      \"on\": true\n"
				  "    },\n"
				  "    {\n"
				  "      \"name\": \"long\\u0009name \xc3\xa9\",\n"
				  "      \"size\": 1536,\n"
				  "      \"on\": false\n"
				  "    }\n"
				  "  ]\n"
				  "}\n");
	free(text);
}

static void fields_and_sections(void **state)
{
	static const struct table_column fields[] = {
		{ "flags", "Flags", false },
		{ "since", "Up since", false },
		{ "none", "None", false },
	};
	static const char *const flags[] = { "flush", "fua", NULL };
	static const char *const no_flags[] = { NULL };
	struct output_options options = { 0 };
	struct output out;
	struct table *table;
	char *text = NULL;
	size_t bytes;
	int json;

	(void)state;
	for (json = 0; json < 2; json++) {
		FILE *file = open_memstream(&text, &bytes);

		options.json = json;
		output_begin(&out, file, &options);
		table = table_new(&out, fields, 3);
		table_list(table, flags);
		table_time(table, 0);
		table_none(table);
		table_print(table, "first", TABLE_FIELDS);
		table = table_new(&out, fields, 1);
		table_list(table, no_flags);
		table_print(table, "second", TABLE_FIELDS);
		table = table_new(&out, fields, 3);
		table_print(table, "third", TABLE_ROWS);
		assert_int_equal(output_end(&out, NULL), 0);
		fclose(file);
		if (json)
			assert_string_equal(
				text, "{\n  \"version\": 1,\n"
				      "  \"first\": {\n"
				      "    \"flags\": [\"flush\", \"fua\"],\n"
				      "    \"since\": null,\n"
				      "    \"none\": null\n"
				      "  },\n"
				      "  \"second\": {\n"
				      "    \"flags\": []\n"
				      "  },\n"
				      "  \"third\": []\n}\n");
		else
			assert_string_equal(text, "Flags     flush fua\n"
						  "Up since  -\n"
						  "None      -\n"
						  "\n"
						  "Flags  -\n"
						  "\n"
						  "Flags  Up since  None\n");
		free(text);
	}
}

/* What a hostile server may call an export. */
static void json_strings(void **state)
{
	static const struct {
		const char *value;
		size_t length;
		const char *json;
	} cases[] = {
		{ "a\"b\\c", 5, "\"a\\\"b\\\\c\"" },
		{ "\x1b[31m", 5, "\"\\u001b[31m\"" },
		{ "\x7f\xc2\x9b", 3, "\"\\u007f\\u009b\"" },
		{ "\xe2\x80\xae", 3, "\"\\u202e\"" }, /* right to left */
		{ "\xf0\x9f\x98\x80", 4, "\"\xf0\x9f\x98\x80\"" },
		{ "a\0b", 3, "\"a\\\\x00b\"" }, /* no UTF-8 without NUL */
		{ "\xff", 1, "\"\\\\xff\"" },
		{ "", 0, "\"\"" },
	};
	const struct output_options options = { .json = true };
	size_t i, bytes;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *text = NULL, expected[128];
		FILE *file = open_memstream(&text, &bytes);
		struct output out;
		struct table *table;

		output_begin(&out, file, &options);
		table = table_new(&out, columns, 1);
		table_bytes_string(table, cases[i].value, cases[i].length);
		table_print(table, "x", TABLE_FIELDS);
		assert_int_equal(output_end(&out, NULL), 0);
		fclose(file);
		snprintf(expected, sizeof(expected),
			 "{\n  \"version\": 1,\n  \"x\": {\n"
			 "    \"name\": %s\n  }\n}\n",
			 cases[i].json);
		assert_string_equal(text, expected);
		free(text);
	}
}

static void sizes(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{ 0, "0B" },
		{ 1023, "1023B" },
		{ 1024, "1K" },
		{ 1025, "1K" },
		{ 1536, "1.5K" },
		{ 1024 * 1024 - 1, "1023.9K" },
		{ 5ull << 30, "5G" },
		{ 1ull << 60, "1E" },
		{ UINT64_MAX, "15.9E" },
		{ INT64_MAX, "7.9E" },
	};
	char text[16];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		table_format_size(cases[i].bytes, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
	}
}

static void a_full_disk_is_noticed(void **state)
{
	const struct output_options options = { .json = true };
	struct err err = { 0 };
	struct output out;
	FILE *file = fopen("/dev/full", "w");

	(void)state;
	if (!file)
		skip();
	output_begin(&out, file, &options);
	assert_int_equal(output_end(&out, &err), -ENOSPC);
	assert_int_equal(err.exit_code, X_FAILURE);
	fclose(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_aligned),
		cmocka_unit_test(headings_and_units_can_go),
		cmocka_unit_test(rows_in_json),
		cmocka_unit_test(fields_and_sections),
		cmocka_unit_test(json_strings),
		cmocka_unit_test(sizes),
		cmocka_unit_test(a_full_disk_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
