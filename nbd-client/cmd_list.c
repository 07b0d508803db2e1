// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbd-client list, and nbd-client alone: the attached devices. Reads status
 * pages only, so it works whatever the daemons are doing. Command line.
 */
#include "common/clock.h"
#include "nbd-client/cmd.h"
#include "nbd-client/stats.h"
#include "nbd-client/swap.h"

static const struct table_column columns[] = {
	{ "device", "DEVICE", false },
	{ "size", "SIZE", true },
	{ "front", "FRONT", false },
	{ "state", "STATE", false },
	{ "link", "LINK", false },
	{ "link_since", "SINCE", false },
	{ "swap", "SWAP", false },
	{ "uri", "URI", false },
};

static const char *state_of(const struct stats_page *page)
{
	if (!stats_alive(page))
		return "dead";
	if (page->state == STATS_LIVE &&
	    stats_silent_ns(stats_heartbeat_ns(page), clock_now_ns()) >
		    STATS_SILENT_NS)
		return "stuck";
	return stats_state_name(page->state);
}

/* By whomever: swapon may have been run by hand. */
static bool swap_active(const char *device)
{
	bool active;

	return !swap_is_active(device, &active) && active;
}

static void on_page(const char *name, const struct stats_page *page, void *arg)
{
	struct table *table = arg;

	(void)name;
	table_string(table, page->device);
	table_size(table, page->export_bytes);
	table_string(table, page->front);
	table_string(table, state_of(page));
	table_string(table, stats_link_name(page->link));
	table_time(table, page->link_since);
	table_bool(table, swap_active(page->device));
	table_string(table, page->uri);
}

static int run(int argc, char **argv, struct err *err)
{
	struct output_options options = { 0 };
	struct words words;
	struct output out;
	struct table *table;
	int rc, unreadable;

	rc = options_parse(&cmd_list, argc, argv, &options, 0, 0, &words, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	output_begin(&out, stdout, &options);
	table = table_new(&out, columns, sizeof(columns) / sizeof(columns[0]));
	unreadable = stats_each(on_page, table);
	table_print(table, "devices", TABLE_ROWS);
	rc = output_end(&out, err);
	return rc ? rc : cmd_unreadable(unreadable, err);
}

const struct command cmd_list = {
	.name = "list",
	.words = "",
	.summary = "Lists the attached devices.",
	.examples = "  nbd-client list\n"
		    "  nbd-client list --json",
	.options = cmd_output_options,
	.run = run,
};
