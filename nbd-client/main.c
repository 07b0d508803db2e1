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
#include "nbd-client/legacy.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0.1"
#endif

static const struct command *const commands[] = {
	&cmd_attach, &cmd_detach,  &cmd_list,
	&cmd_status, &cmd_exports, &cmd_info, &cmd_check,
	&cmd_reconnect, &cmd_recover, &cmd_upgrade, &cmd_metrics,
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
	       "lists the options of a command,\n"
	       "\"nbd-client -L -h\" those of the old command line, which "
	       "works as ever.\n"
	       "Exit status: 0 done, 1 failure, 2 usage, 3 not attached, "
	       "4 permission, 5 busy,\n"
	       "6 unreachable, 7 refused by the server, 8 TLS, 9 the kernel "
	       "lacks a feature.\n");
	return 0;
}

/* The command that a slip may have meant, or NULL. */
static const char *near(const char *word)
{
	uint32_t distance, nearest = OPTIONS_NEAR + 1;
	const char *name = NULL;
	size_t i;

	for (i = 0; i < COMMANDS; i++) {
		distance = options_distance(word, commands[i]->name);
		if (distance < nearest) {
			nearest = distance;
			name = commands[i]->name;
		}
	}
	return name;
}

/*
 * A word that is nearly a command, and fails as a host, was meant as one; alone
 * it is not even tried: nobody knows what would be attached.
 */
static int run_old(int argc, char **argv, struct err *err)
{
	const char *meant = *argv[1] == '-' ? NULL : near(argv[1]);
	struct err cause = { 0 };
	char shown[64];
	int rc;

	text_escape_str(shown, sizeof(shown), argv[1]);
	if (meant && argc == 2)
		return err_set(err, X_USAGE, EINVAL,
			       "there is no command \"%s\" (did you mean %s?); "
			       "see \"nbd-client --help\"", shown, meant);
	rc = legacy_run(argc, argv, &cause);
	if (rc >= 0 || !meant) {
		*err = cause;
		return rc;
	}
	return err_set(err, cause.exit_code, cause.error,
		       "\"%s\" is taken as a host (did you mean the command %s?): %s",
		       shown, meant, cause.text);
}

/*
 * The first word decides: a command, or else the old program's command line,
 * which begins with a host, a device or an option.
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
			 run_old(argc, argv, err);
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
	/* An exit code without a text says it all. */
	if (err.text[0] || !err.exit_code)
		fprintf(stderr, "nbd-client: %s\n",
			err.text[0] ? err.text : strerror(-rc));
	exit(err.exit_code ? err.exit_code : X_FAILURE);
}
