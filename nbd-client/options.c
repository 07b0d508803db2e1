// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Command lines by table. Owns nothing. Command line only.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/text.h"
#include "nbd-client/options.h"

#define HELP_COLUMN 30 /* where the explanations begin */
#define NAME_BYTES 32u /* longer names are not compared */

/* Understood by every command, besides its own. */
static const struct option_spec help_option = {
	.name = "help", .letter = 'h', .kind = OPTION_FLAG, .help = "this text",
};

uint32_t options_distance(const char *a, const char *b)
{
	uint32_t row[NAME_BYTES + 1], diagonal, above, best;
	size_t i, j, length = strlen(b);

	if (length > NAME_BYTES)
		return UINT32_MAX;
	for (j = 0; j <= length; j++)
		row[j] = (uint32_t)j;
	for (i = 1; a[i - 1]; i++) {
		diagonal = row[0];
		row[0] = (uint32_t)i;
		for (j = 1; j <= length; j++) {
			above = row[j];
			best = diagonal + (a[i - 1] != b[j - 1]);
			if (above + 1 < best)
				best = above + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
			diagonal = above;
		}
	}
	return row[length];
}

int options_parse_number(const char *text, uint64_t *ret_value)
{
	unsigned long long value;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *end)
		return -EINVAL;
	*ret_value = value;
	return 0;
}

int options_parse_size(const char *text, uint64_t *ret_bytes)
{
	static const char units[] = "KMG";
	unsigned long long value;
	const char *unit;
	uint32_t shift = 0;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return -EINVAL;
	if (*end) {
		unit = strchr(units, *end >= 'a' ? *end - 'a' + 'A' : *end);
		if (!unit || end[1])
			return -EINVAL;
		shift = 10 * (uint32_t)(unit - units + 1);
	}
	if (value > UINT64_MAX >> shift)
		return -EINVAL;
	*ret_bytes = (uint64_t)value << shift;
	return 0;
}

static bool value_optional(const struct option_spec *option)
{
	return option->value && option->value[0] == '[';
}

/* ---- --help ---- */

static void help_line(FILE *file, const struct option_spec *option)
{
	const char *line = option->help, *newline;
	char left[64];
	int n;

	n = snprintf(left, sizeof(left), "  %c%c%c --%s%s%s",
		     option->letter ? '-' : ' ',
		     option->letter ? option->letter : ' ',
		     option->letter ? ',' : ' ', option->name,
		     option->value && !value_optional(option) ? "=" : "",
		     option->value ? option->value : "");
	if (n >= HELP_COLUMN)
		fprintf(file, "%s\n%*s", left, HELP_COLUMN, "");
	else
		fprintf(file, "%-*s", HELP_COLUMN, left);
	while ((newline = strchr(line, '\n'))) {
		fprintf(file, "%.*s\n%*s", (int)(newline - line), line,
			HELP_COLUMN, "");
		line = newline + 1;
	}
	fprintf(file, "%s\n", line);
}

void options_help(const struct command *command, FILE *file)
{
	const struct option_spec *option;

	fprintf(file, "Usage: nbd-client %s [OPTION]...%s%s\n%s\n",
		command->name, *command->words ? " " : "", command->words,
		command->summary);
	if (command->details)
		fprintf(file, "\n%s\n", command->details);
	fprintf(file, "\n");
	for (option = command->options; option->name; option++)
		help_line(file, option);
	help_line(file, &help_option);
	if (command->examples)
		fprintf(file, "\nExamples:\n%s\n", command->examples);
}

/* ---- Parsing ---- */

static int usage(const struct command *command, struct err *err,
		 const char *cause)
{
	return err_set(err, X_USAGE, EINVAL,
		       "%s; see \"nbd-client %s --help\"", cause,
		       command->name);
}

/* The name of an option as the user wrote it, up to its value. */
static int unknown(const struct command *command, const char *argument,
		   struct err *err)
{
	const struct option_spec *option, *near = NULL;
	char name[NAME_BYTES], shown[64], cause[160];
	uint32_t distance, nearest = OPTIONS_NEAR + 1;

	snprintf(name, sizeof(name), "%.*s",
		 (int)strcspn(argument, "="), argument);
	for (option = command->options;
	     option->name && !strncmp(name, "--", 2); option++) {
		distance = options_distance(name + 2, option->name);
		if (distance < nearest) {
			nearest = distance;
			near = option;
		}
	}
	text_escape_str(shown, sizeof(shown), name);
	if (near)
		snprintf(cause, sizeof(cause),
			 "there is no option \"%s\" (did you mean --%s?)", shown,
			 near->name);
	else
		snprintf(cause, sizeof(cause), "there is no option \"%s\"",
			 shown);
	return usage(command, err, cause);
}

static int bad_value(const struct command *command,
		     const struct option_spec *option, const char *value,
		     struct err *err)
{
	char shown[64], cause[200];

	text_escape_str(shown, sizeof(shown), value);
	snprintf(cause, sizeof(cause),
		 "--%s must be from %" PRIu64 " to %" PRIu64 ", not \"%s\"",
		 option->name, option->min, option->max, shown);
	return usage(command, err, cause);
}

static int store(const struct command *command,
		 const struct option_spec *option, const char *value,
		 void *target, struct err *err)
{
	void *field = (char *)target + option->offset;
	uint64_t number = 0;
	int rc = 0;

	/* Only a call may do without: a table that says otherwise is wrong. */
	CHECK(value || option->kind == OPTION_FLAG ||
	      option->kind == OPTION_CALL);
	switch (option->kind) {
	case OPTION_FLAG:
		*(bool *)field = true;
		return 0;
	case OPTION_STRING:
		*(const char **)field = value;
		return 0;
	case OPTION_CALL:
		return option->set(target, value, err);
	case OPTION_SIZE32:
		rc = options_parse_size(value, &number);
		break;
	case OPTION_U32:
	case OPTION_U64:
		rc = options_parse_number(value, &number);
		break;
	}
	if (rc || number < option->min || number > option->max)
		return bad_value(command, option, value, err);
	number *= option->scale ? option->scale : 1;
	if (option->kind == OPTION_U64)
		*(uint64_t *)field = number;
	else
		*(uint32_t *)field = (uint32_t)number;
	return 0;
}

/* "--name", "--name=value" or "-n"; NULL if it is none of the command's. */
static const struct option_spec *find(const struct command *command,
				      const char *argument,
				      const char **ret_value)
{
	const struct option_spec *option = command->options;
	size_t length;

	*ret_value = NULL;
	if (argument[1] != '-') {
		for (; option->name; option++) {
			if (option->letter && option->letter == argument[1] &&
			    !argument[2])
				return option;
		}
		return argument[1] == help_option.letter && !argument[2] ?
			       &help_option :
			       NULL;
	}
	length = strcspn(argument, "=");
	if (argument[length])
		*ret_value = argument + length + 1;
	for (; option->name; option++) {
		if (strlen(option->name) == length - 2 &&
		    !strncmp(option->name, argument + 2, length - 2))
			return option;
	}
	return strcmp(argument, "--help") ? NULL : &help_option;
}

/* Takes argv[*at], and its value if that is a word of its own. */
static int take_option(const struct command *command, int argc, char **argv,
		       int *at, void *target, struct err *err)
{
	const struct option_spec *option;
	const char *value;
	char cause[128];

	option = find(command, argv[*at], &value);
	if (!option)
		return unknown(command, argv[*at], err);
	if (option == &help_option) {
		options_help(command, stdout);
		return 1;
	}
	if (!option->value && value) {
		snprintf(cause, sizeof(cause), "--%s takes no value",
			 option->name);
		return usage(command, err, cause);
	}
	if (option->value && !value && !value_optional(option)) {
		if (*at + 1 == argc) {
			snprintf(cause, sizeof(cause), "--%s wants a value: "
				 "--%s=%s", option->name, option->name,
				 option->value);
			return usage(command, err, cause);
		}
		value = argv[++*at];
	}
	return store(command, option, value, target, err);
}

static int take_word(const struct command *command, const char *word,
		     uint32_t words_max, struct words *words, struct err *err)
{
	char shown[64], cause[128];

	if (words->count < words_max) {
		words->word[words->count++] = word;
		return 0;
	}
	text_escape_str(shown, sizeof(shown), word);
	snprintf(cause, sizeof(cause), "\"%s\" is one word too many", shown);
	return usage(command, err, cause);
}

int options_parse(const struct command *command, int argc, char **argv,
		  void *target, uint32_t words_min, uint32_t words_max,
		  struct words *ret_words, struct err *err)
{
	struct words words = { 0 };
	bool options = true;
	char cause[160];
	int i, rc = 0;

	for (i = 1; i < argc && !rc; i++) {
		if (options && !strcmp(argv[i], "--"))
			options = false;
		else if (options && argv[i][0] == '-' && argv[i][1])
			rc = take_option(command, argc, argv, &i, target, err);
		else
			rc = take_word(command, argv[i], words_max, &words,
				       err);
	}
	if (rc)
		return rc;
	if (words.count < words_min) {
		snprintf(cause, sizeof(cause), "%s wants %s", command->name,
			 command->words);
		return usage(command, err, cause);
	}
	*ret_words = words;
	return 0;
}
