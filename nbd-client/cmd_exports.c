// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbd-client exports and nbd-client info: what a server offers. Command line;
 * needs no kernel driver and no privilege.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/addr.h"
#include "common/text.h"
#include "nbd-client/cmd.h"
#include "nbd-client/handshake.h"
#include "nbd-client/link_talk.h"
#include "nbd-client/link_tcp.h"

struct server_line {
	struct output_options output;
	const char *export_name; /* NULL: that of the URI */
	uint32_t handshake_ms;
	struct tls_options tls;
};

#define TIMEOUT_OPTION                                                         \
	{ .name = "handshake-timeout",                                         \
	  .kind = OPTION_U32,                                                  \
	  .value = "SECONDS",                                                  \
	  .offset = offsetof(struct server_line, handshake_ms),                \
	  .min = 1,                                                            \
	  .max = CMD_HANDSHAKE_S_MAX,                                          \
	  .scale = 1000,                                                       \
	  .help = "for each step of the handshake (default 10)" }

static const struct option_spec exports_options[] = {
	CMD_OUTPUT_OPTIONS(offsetof(struct server_line, output)),
	TIMEOUT_OPTION,
	CMD_TLS_OPTIONS(struct server_line, tls),
	CMD_OPTIONS_END
};

static const struct option_spec info_options[] = {
	CMD_OUTPUT_OPTIONS(offsetof(struct server_line, output)),
	{ .name = "export", .kind = OPTION_STRING, .value = "NAME",
	  .offset = offsetof(struct server_line, export_name),
	  .help = "name of the export, if it is not in the URI" },
	TIMEOUT_OPTION,
	CMD_TLS_OPTIONS(struct server_line, tls),
	CMD_OPTIONS_END
};

/* URI | HOST [PORT] */
static int parse_server(const struct words *words, struct addr *ret_addr,
			struct err *err)
{
	if (words->count == 1)
		return addr_parse(ret_addr, words->word[0], err);
	return addr_parse_host(ret_addr, words->word[0], words->word[1], err);
}

/* Asks and hangs up; the answer is in hs. */
static int ask(const struct addr *addr, struct handshake_params *params,
	       const struct server_line *line, struct handshake *hs,
	       struct err *err)
{
	static struct link_tls link_tls; /* large */
	const int timeout_ms = (int)line->handshake_ms;
	struct link_addrs addrs;
	struct tls tls;
	int fd, rc;

	rc = tls_open(&tls, &line->tls, addr, err);
	params->tls = tls.mode;
	params->export_name = addr->export_name;
	link_tls_init(&link_tls, &tls);
	if (!rc)
		rc = handshake_init(hs, params, err);
	if (!rc)
		rc = link_resolve(addr, &addrs, err);
	if (!rc)
		rc = link_connect(&addrs, timeout_ms, &fd, err);
	if (!rc) {
		rc = link_negotiate(fd, hs, &link_tls, timeout_ms, err);
		close(fd);
	}
	link_tls_end(&link_tls);
	tls_close(&tls);
	return rc;
}

static int parse_line(const struct command *command, int argc, char **argv,
		      struct server_line *line, struct addr *ret_addr,
		      struct err *err)
{
	struct words words;
	int rc;

	line->handshake_ms = CMD_HANDSHAKE_S_DEFAULT * 1000;
	rc = options_parse(command, argc, argv, line, 1, 2, &words, err);
	if (!rc)
		rc = parse_server(&words, ret_addr, err);
	if (!rc && line->export_name)
		rc = addr_set_export(ret_addr, line->export_name, err);
	return rc;
}

/* ---- exports ---- */

static const struct table_column export_columns[] = {
	{ "name", "NAME", false },
	{ "description", "DESCRIPTION", false },
};

static void on_entry(void *arg, const struct handshake_entry *entry)
{
	struct table *table = arg;

	table_bytes_string(table, entry->name, entry->name_bytes);
	table_bytes_string(table, entry->description,
			   entry->description_bytes);
}

static int run_exports(int argc, char **argv, struct err *err)
{
	struct handshake_params params = { .goal = HANDSHAKE_LIST,
					   .on_entry = on_entry };
	struct server_line line = { 0 };
	struct handshake hs;
	struct table *table;
	struct output out;
	struct addr addr;
	int rc;

	rc = parse_line(&cmd_exports, argc, argv, &line, &addr, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	output_begin(&out, stdout, &line.output);
	table = table_new(&out, export_columns, 2);
	params.arg = table;
	rc = ask(&addr, &params, &line, &hs, err);
	/* Entries came, but perhaps not all of them. */
	if (rc) {
		table_free(table);
		return rc;
	}
	table_print(table, "exports", TABLE_ROWS);
	return output_end(&out, err);
}

const struct command cmd_exports = {
	.name = "exports",
	.words = "URI|HOST [PORT]",
	.summary = "Lists what a server offers.",
	.examples = "  nbd-client exports nbd://server/",
	.options = exports_options,
	.run = run_exports,
};

/* ---- exports, of the old command line ---- */

static void on_old_entry(void *arg, const struct handshake_entry *entry)
{
	char text[512];

	(void)arg;
	text_escape(text, sizeof(text), entry->name, entry->name_bytes);
	printf("%s", text);
	text_escape(text, sizeof(text), entry->description,
		    entry->description_bytes);
	printf("%s%s\n", *text ? ": " : "", text);
}

static int run_exports_old(int argc, char **argv, struct err *err)
{
	struct handshake_params params = { .goal = HANDSHAKE_LIST,
					   .on_entry = on_old_entry };
	struct server_line line = { 0 };
	struct handshake hs;
	struct addr addr;
	int rc;

	rc = parse_line(&cmd_exports, argc, argv, &line, &addr, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	printf("Negotiation: ..\n");
	return ask(&addr, &params, &line, &hs, err);
}

const struct command cmd_exports_old = {
	.name = "exports",
	.run = run_exports_old,
};

/* ---- info ---- */

static const struct table_column info_columns[] = {
	{ "name", "Name", false },
	{ "description", "Description", false },
	{ "size", "Size", false },
	{ "read_only", "Read-only", false },
	{ "flags", "Flags", false },
	{ "block_size_minimum", "Minimum block size", false },
	{ "block_size_preferred", "Preferred block size", false },
	{ "payload_maximum", "Largest payload", false },
	{ "block_sizes_given", "Sizes given by server", false },
	{ "structured_replies", "Structured replies", false },
	{ "tls", "Encrypted", false },
};
#define INFO_COLUMNS (sizeof(info_columns) / sizeof(info_columns[0]))

static void print_info(struct output *out, const struct addr *addr,
		       const struct export_info *info)
{
	struct table *table = table_new(out, info_columns, INFO_COLUMNS);
	const char *flags[CMD_FLAG_NAMES];

	cmd_flag_names(info->flags, flags);
	table_string(table, *info->name ? info->name : addr->export_name);
	table_string(table, info->description);
	table_size(table, info->size_bytes);
	table_bool(table, info->flags & NBD_FLAG_READ_ONLY);
	table_list(table, flags);
	table_size(table, info->block_min);
	table_size(table, info->block_pref);
	table_size(table, info->block_max);
	table_bool(table, info->block_sizes_given);
	table_bool(table, info->structured);
	table_bool(table, info->tls);
	table_print(table, "export", TABLE_FIELDS);
}

static int run_info(int argc, char **argv, struct err *err)
{
	struct handshake_params params = { .goal = HANDSHAKE_INFO };
	struct server_line line = { 0 };
	struct handshake hs;
	struct output out;
	struct addr addr;
	int rc;

	rc = parse_line(&cmd_info, argc, argv, &line, &addr, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	rc = ask(&addr, &params, &line, &hs, err);
	if (rc)
		return rc;
	output_begin(&out, stdout, &line.output);
	print_info(&out, &addr, &hs.info);
	return output_end(&out, err);
}

const struct command cmd_info = {
	.name = "info",
	.words = "URI|HOST [PORT]",
	.summary = "Shows what an export is.",
	.examples = "  nbd-client info nbd://server/swap1",
	.options = info_options,
	.run = run_info,
};
