/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The subcommands, one file each, and what several of them need. Each runs in
 * the process of the command line: blocking is fine, exit() is main.c's.
 */
#ifndef NBD_CMD_H
#define NBD_CMD_H

#include "include/ctl.h"
#include "nbd-client/options.h"
#include "nbd-client/table.h"

struct blockdev;

extern const struct command cmd_attach;
/* Serves a device whose processes have died, as it was attached. */
int cmd_attach_again(const struct blockdev *device, bool foreground,
		     struct err *err);
/* Whether this program could: the words, and the files that they name. */
int cmd_attach_check(const struct blockdev *device, struct err *err);
/*
 * 1: the kernel has the device, but its processes have died; or only the worker
 * is left, which is ended once memory is not tight. 0: it has not, or all is well.
 * Or -errno.
 */
int cmd_recover_left(const struct blockdev *device, struct err *err);
extern const struct command cmd_bench;
extern const struct command cmd_check;
extern const struct command cmd_detach;
extern const struct command cmd_list;
extern const struct command cmd_metrics;
extern const struct command cmd_reconnect;
extern const struct command cmd_recover;
extern const struct command cmd_status;
extern const struct command cmd_exports;
extern const struct command cmd_info;
extern const struct command cmd_upgrade;

/*
 * status --watch: shows the page every interval until told to stop, or, where
 * there is no terminal, prints a line for each until the device is detached.
 */
int cmd_watch(const struct stats_page *page, uint32_t interval_ms,
	      const struct output_options *options, struct err *err);

/* What stats_each() returned: 0, or -errno with *err set. */
int cmd_unreadable(int unreadable, struct err *err);

/*
 * attach and exports as the old command line has them: they print what that
 * always did, and scripts read.
 */
extern const struct command cmd_attach_old;
extern const struct command cmd_exports_old;

/* NBD_FLAG_* by name, up to a NULL. */
#define CMD_FLAG_NAMES 17u
void cmd_flag_names(uint32_t flags, const char *ret_names[CMD_FLAG_NAMES]);

/* Rows of an option table; `at`: where its struct has output_options. */
#define CMD_TABLE_OPTIONS(at)                                                  \
	{ .name = "json",                                                      \
	  .letter = 'J',                                                       \
	  .kind = OPTION_FLAG,                                                 \
	  .offset = (at) + offsetof(struct output_options, json),              \
	  .help = "output for programs" },                                     \
	{ .name = "no-headings",                                               \
	  .letter = 'n',                                                       \
	  .kind = OPTION_FLAG,                                                 \
	  .offset = (at) + offsetof(struct output_options, no_headings),       \
	  .help = "no headings above columns" }
#define CMD_OUTPUT_OPTIONS(at)                                                 \
	CMD_TABLE_OPTIONS(at),                                                 \
	{ .name = "bytes",                                                     \
	  .letter = 'b',                                                       \
	  .kind = OPTION_FLAG,                                                 \
	  .offset = (at) + offsetof(struct output_options, bytes),             \
	  .help = "sizes as numbers of bytes" }

/* For a command whose line is a struct output_options and no more. */
extern const struct option_spec cmd_table_options[];
extern const struct option_spec cmd_output_options[]; /* of one with sizes */

/* For a command that connects; member is a struct tls_options. */
#define CMD_TLS_STRING(type, member, field, text, what)                        \
	{ .name = "tls" field,                                                 \
	  .kind = OPTION_STRING,                                               \
	  .value = text,                                                       \
	  .offset = offsetof(type, member),                                    \
	  .help = what }
#define CMD_TLS_OPTIONS(type, tls)                                             \
	CMD_TLS_STRING(type, tls.mode, "", "MODE",                             \
		       "off, require, or allow: without it if the server\n"    \
		       "has none, which an attacker can feign"),               \
	CMD_TLS_STRING(type, tls.ca, "-ca", "FILE",                            \
		       "trusted authorities (default: the system's)"),         \
	CMD_TLS_STRING(type, tls.cert, "-cert", "FILE",                        \
		       "our certificate, for servers that want one"),          \
	CMD_TLS_STRING(type, tls.key, "-key", "FILE", "its private key"),      \
	CMD_TLS_STRING(type, tls.hostname, "-hostname", "NAME",                \
		       "that the server's certificate must be for"),           \
	CMD_TLS_STRING(type, tls.psk_file, "-psk-file", "FILE",                \
		       "lines of USERNAME:HEXKEY, instead of certificates"),   \
	CMD_TLS_STRING(type, tls.user, "-user", "NAME",                        \
		       "whose key to use, if not in the URI")
/* For one that reads and writes, too. */
#define CMD_TLS_RECORDS(type, tls)                                             \
	CMD_TLS_STRING(type, tls.records, "-records", "WHO",                   \
		       "kernel, user or auto: who makes the records\n"         \
		       "(default: auto)")

#define CMD_OPTIONS_END { .name = NULL }

/* How long a server may take for a step of the handshake, in seconds. */
#define CMD_HANDSHAKE_S_DEFAULT 10
#define CMD_HANDSHAKE_S_MAX 3600

#endif
