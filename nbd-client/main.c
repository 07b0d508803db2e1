// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbd-client: the table of subcommands, and the only place that ends the
 * process.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/text.h"
#include "nbd-client/cmd.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0.1"
#endif

static const struct command *const commands[] = {
	&cmd_attach, &cmd_detach,  &cmd_list,
	&cmd_status, &cmd_exports, &cmd_info, &cmd_check,
	&cmd_recover, &cmd_metrics,
	&cmd_bench,
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct command *find(const char *name)
{
	size_t i;

	for (i = 0; i < COMMANDS; i++) {
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	}
	return NULL;
}

static int help(void)
{
	size_t i;

	printf("Usage: nbd-client COMMAND [OPTION]... [WORD]...\n"
	       "Network block devices that survive memory exhaustion.\n\n");
	for (i = 0; i < COMMANDS; i++)
		printf("  %-9s %-28s %s\n", commands[i]->name,
		       commands[i]->words, commands[i]->summary);
	printf("\nWithout a command: list. \"nbd-client COMMAND --help\" "
	       "lists the options of a command.\n"
	       "Exit status: 0 done, 1 failure, 2 usage, 3 not attached, "
	       "4 permission, 5 busy,\n"
	       "6 unreachable, 7 refused by the server, 8 TLS, 9 the kernel "
	       "lacks a feature.\n");
	return 0;
}

static int unknown(const char *word, struct err *err)
{
	uint32_t distance, nearest = OPTIONS_NEAR + 1;
	const char *near = NULL;
	char shown[64];
	size_t i;

	for (i = 0; i < COMMANDS; i++) {
		distance = options_distance(word, commands[i]->name);
		if (distance < nearest) {
			nearest = distance;
			near = commands[i]->name;
		}
	}
	text_escape_str(shown, sizeof(shown), word);
	return err_set(err, X_USAGE, EINVAL,
		       "there is no command \"%s\"%s%s%s; see \"nbd-client "
		       "--help\"", shown, near ? " (did you mean " : "",
		       near ? near : "", near ? "?)" : "");
}

/*
 * The first word decides. What is no command is where the old program's command
 * line will be recognised: it begins with a host, a device or an option.
 */
static int dispatch(int argc, char **argv, struct err *err)
{
	static char *const list[] = { "list", NULL };
	const struct command *command;

	if (argc < 2)
		return cmd_list.run(1, (char **)list, err);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
	    !strcmp(argv[1], "help"))
		return help();
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("nbd-client (nbd-reserve) %s\n", PACKAGE_VERSION);
		return 0;
	}
	command = find(argv[1]);
	return command ? command->run(argc - 1, argv + 1, err) :
			 unknown(argv[1], err);
}

int main(int argc, char **argv)
{
	struct err err = { 0 };
	int rc;

	rc = dispatch(argc, argv, &err);
	if (!rc && (fflush(stdout) || ferror(stdout)))
		rc = err_set(&err, X_FAILURE, errno,
			     "cannot write the output: %s", strerror(errno));
	if (!rc)
		exit(EXIT_OK);
	fprintf(stderr, "nbd-client: %s\n",
		err.text[0] ? err.text : strerror(-rc));
	exit(err.exit_code ? err.exit_code : X_FAILURE);
}
