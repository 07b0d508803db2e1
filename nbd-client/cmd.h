/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The subcommands, one file each, and what several of them need. Each runs in
 * the process of the command line: blocking is fine, exit() is main.c's.
 */
#ifndef NBD_CMD_H
#define NBD_CMD_H

#include "nbd-client/options.h"
#include "nbd-client/table.h"

struct blockdev;

extern const struct command cmd_attach;
/* Serves a device whose processes have died, as it was attached. */
int cmd_attach_again(const struct blockdev *device, struct err *err);
extern const struct command cmd_bench;
extern const struct command cmd_check;
extern const struct command cmd_detach;
extern const struct command cmd_list;
extern const struct command cmd_recover;
extern const struct command cmd_status;
extern const struct command cmd_exports;
extern const struct command cmd_info;

/* NBD_FLAG_* by name, up to a NULL. */
#define CMD_FLAG_NAMES 17u
void cmd_flag_names(uint32_t flags, const char *ret_names[CMD_FLAG_NAMES]);

/* Rows of an option table for a command that prints one. */
#define CMD_OUTPUT_OPTIONS(type, member)                                       \
	{ .name = "json",                                                      \
	  .letter = 'J',                                                       \
	  .kind = OPTION_FLAG,                                                 \
	  .offset = offsetof(type, member.json),                               \
	  .help = "output for programs" },                                     \
	{ .name = "no-headings",                                               \
	  .letter = 'n',                                                       \
	  .kind = OPTION_FLAG,                                                 \
	  .offset = offsetof(type, member.no_headings),                        \
	  .help = "no headings above columns" },                               \
	{ .name = "bytes",                                                     \
	  .letter = 'b',                                                       \
	  .kind = OPTION_FLAG,                                                 \
	  .offset = offsetof(type, member.bytes),                              \
	  .help = "sizes as numbers of bytes" }

#define CMD_OPTIONS_END { .name = NULL }

/* How long a server may take for a step of the handshake, in seconds. */
#define CMD_HANDSHAKE_S_DEFAULT 10
#define CMD_HANDSHAKE_S_MAX 3600

#endif
