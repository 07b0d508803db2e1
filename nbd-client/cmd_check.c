// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbd-client check: is this host ready for attach --swap? Runs the table of
 * check_host.c and prints a line for each item. Command line.
 */
#include <errno.h>

#include "nbd-client/check_host.h"
#include "nbd-client/cmd.h"

static const struct table_column columns[] = {
	{ "name", "CHECK", false },
	{ "state", "STATE", false },
	{ "found", "FOUND", false },
	{ "remedy", "REMEDY", false },
};

static int run(int argc, char **argv, struct err *err)
{
	const struct check_host_item *item;
	uint32_t count = 0, failed = 0;
	struct output_options options = { 0 };
	struct words words;
	struct table *table;
	struct output out;
	int rc;

	rc = options_parse(&cmd_check, argc, argv, &options, 0, 0, &words, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	output_begin(&out, stdout, &options);
	table = table_new(&out, columns, sizeof(columns) / sizeof(columns[0]));
	for (item = check_host_items; item->name; item++) {
		struct check_host_result result = { 0 };

		item->look(&check_host_paths, &result);
		table_string(table, item->name);
		table_string(table, check_host_state_name(result.state));
		table_string(table, result.found);
		table_string(table, result.remedy);
		failed += result.state == CHECK_HOST_FAIL;
		count++;
	}
	table_print(table, "checks", TABLE_ROWS);
	rc = output_end(&out, err);
	if (rc || !failed)
		return rc;
	return err_set(err, X_FAILURE, ENOTSUP,
		       "this host is not ready for swap: %u of %u checks fail; "
		       "each says what helps",
		       failed, count);
}

const struct command cmd_check = {
	.name = "check",
	.words = "",
	.summary = "Tells whether this host is ready for swap.",
	.details =
		"The exit status is 1 if a check fails; warnings do not count.",
	.examples = "  nbd-client check\n"
		    "  nbd-client check --json",
	.options = cmd_table_options,
	.run = run,
};
