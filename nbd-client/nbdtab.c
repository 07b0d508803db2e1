// SPDX-License-Identifier: GPL-2.0-or-later
/* The table of devices. See nbdtab.h. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "common/text.h"
#include "nbd-client/legacy.h"
#include "nbd-client/nbdtab.h"

#define BLANKS " \t"

enum { DEVICE, HOST, EXPORT, OPTIONS, FIELDS };

static void note(FILE *notes, uint32_t line, const char *text)
{
	fprintf(notes, "nbd-client: %s:%u: %s\n", config_nbdtab, line, text);
}

/*
 * Cuts a line into its fields; a comment begins where a field could. -EINVAL if
 * there are too few or too many.
 */
static int split(char *line, char *fields[FIELDS], struct err *err)
{
	uint32_t count = 0;

	for (line += strspn(line, BLANKS); *line && *line != '#';
	     line += strspn(line, BLANKS)) {
		if (count == FIELDS)
			return err_set(err, X_USAGE, EINVAL,
				       "more than four fields; options have "
				       "commas between them, and no blanks");
		fields[count++] = line;
		line += strcspn(line, BLANKS);
		if (*line)
			*line++ = '\0';
	}
	if (count > DEVICE && count <= EXPORT)
		return err_set(err, X_USAGE, EINVAL,
			       "fewer than three fields: device, host, export");
	return 0;
}

/* Unknown ones are told of, unless "_" says that they are somebody else's. */
static int take_options(struct legacy *l, char *options, uint32_t line,
			FILE *notes, struct err *err)
{
	char *option, *value, shown[64], text[128];

	while (options) {
		option = options;
		options = strchr(option, ',');
		if (options)
			*options++ = '\0';
		value = strchr(option, '=');
		if (value)
			*value++ = '\0';
		if (!*option)
			return err_set(err, X_USAGE, EINVAL,
				       "a comma or an equals sign without an "
				       "option");
		if (legacy_set_tab(l, option, value) || *option == '_')
			continue;
		text_escape_str(shown, sizeof(shown), option);
		snprintf(text, sizeof(text),
			 "there is no option \"%s\"%s; ignored", shown,
			 value ? " with a value" : " without a value");
		note(notes, line, text);
	}
	return 0;
}

static int take_line(struct config *c, char *const fields[FIELDS],
		     uint32_t line, FILE *notes, struct err *err)
{
	struct legacy l = { .host = fields[HOST], .name = fields[EXPORT] };
	struct err cause = { 0 };
	uint32_t i;
	int rc;

	rc = take_options(&l, fields[OPTIONS], line, notes, &cause);
	if (!rc)
		rc = legacy_words(&l, notes, c, &cause);
	if (rc)
		return err_set(err, cause.exit_code, cause.error, "%u: %s",
			       line, cause.text);
	c->uri_line = line;
	for (i = 0; i < c->count; i++)
		c->options[i].line = line;
	return 0;
}

int nbdtab_parse(struct config *c, char *text, size_t bytes,
		 const struct blockdev *device, FILE *notes, struct err *err)
{
	struct config_lines lines = { text, text + bytes, 0 };
	bool found = false;
	int rc = -ENOENT;
	char *line;

	while ((line = config_next(&lines)) && (!rc || rc == -ENOENT)) {
		char *fields[FIELDS] = { NULL };
		struct err cause = { 0 };
		struct blockdev dev;
		bool known;
		int bad;

		bad = split(line, fields, &cause);
		if (!fields[DEVICE])
			continue;
		known = !blockdev_parse(fields[DEVICE], &dev,
					bad ? NULL : &cause);
		if (!known || strcmp(dev.name, device->name)) {
			if (bad || !known)
				note(notes, lines.line, cause.text);
			continue;
		}
		if (found) {
			note(notes, lines.line,
			     "ignored: a line above is for the same device");
			continue;
		}
		found = true;
		rc = bad ? err_set(err, cause.exit_code, cause.error, "%u: %s",
				   lines.line, cause.text) :
			   take_line(c, fields, lines.line, notes, err);
	}
	return rc;
}
