// SPDX-License-Identifier: GPL-2.0-or-later
/* Configuration files of devices. See config.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "common/text.h"
#include "nbd-client/config.h"
#include "nbd-client/nbdtab.h"

#define BLANKS " \t\r"

const char *config_dir = "/etc/nbd-client.d";
const char *config_nbdtab = "/etc/nbdtab";

void config_init(struct config *c)
{
	c->uri = NULL;
	c->uri_line = 0;
	c->count = 0;
	c->used = 0;
	c->path[0] = '\0';
}

static int full(struct err *err)
{
	return err_set(err, X_USAGE, E2BIG, "too many or too long options");
}

/* What is added stays where it is: pointers lead there. */
static const char *keep(struct config *c, const char *format, va_list ap)
{
	char *at = c->text + c->used;
	size_t room = sizeof(c->text) - c->used;
	int n = vsnprintf(at, room, format, ap);

	if (n < 0 || (size_t)n >= room)
		return NULL;
	c->used += (size_t)n + 1;
	return at;
}

int config_add(struct config *c, uint32_t line, struct err *err,
	       const char *format, ...)
{
	const char *word;
	va_list ap;

	if (c->count == CONFIG_OPTIONS_MAX)
		return full(err);
	va_start(ap, format);
	word = keep(c, format, ap);
	va_end(ap);
	if (!word)
		return full(err);
	c->options[c->count].word = word;
	c->options[c->count++].line = line;
	return 0;
}

int config_set_uri(struct config *c, uint32_t line, const char *uri,
		   struct err *err)
{
	size_t bytes = strlen(uri) + 1;

	if (bytes > sizeof(c->text) - c->used)
		return full(err);
	c->uri = memcpy(c->text + c->used, uri, bytes);
	c->uri_line = line;
	c->used += bytes;
	return 0;
}

/* ---- text ---- */

static char *trim(char *text)
{
	size_t length;

	text += strspn(text, BLANKS);
	length = strlen(text);
	while (length && strchr(BLANKS, text[length - 1]))
		length--;
	text[length] = '\0';
	return text;
}

char *config_next(struct config_lines *lines)
{
	char *line = lines->at, *newline;

	if (line >= lines->end)
		return NULL;
	newline = memchr(line, '\n', (size_t)(lines->end - line));
	if (!newline)
		newline = lines->end;
	*newline = '\0';
	lines->at = newline + 1;
	lines->line++;
	return trim(line);
}

/* "key", "key=value", with blanks around either. */
static int take_setting(struct config *c, uint32_t line, char *setting,
			struct err *err)
{
	char *value = strchr(setting, '='), *key;

	if (value)
		*value++ = '\0';
	key = trim(setting);
	value = value ? trim(value) : NULL;
	if (!strcmp(key, "uri"))
		return value && *value ? config_set_uri(c, line, value, err) :
					 err_set(err, X_USAGE, EINVAL,
						 "uri needs a value");
	/* It would print, and it takes no part in the device. */
	if (!strcmp(key, "help"))
		return err_set(err, X_USAGE, EINVAL, "help is no setting");
	return value ? config_add(c, line, err, "--%s=%s", key, value) :
		       config_add(c, line, err, "--%s", key);
}

int config_parse(struct config *c, char *text, size_t bytes, struct err *err)
{
	struct config_lines lines = { text, text + bytes, 0 };
	struct err cause = { 0 };
	char *line;

	while ((line = config_next(&lines))) {
		if (!*line || *line == '#')
			continue;
		if (take_setting(c, lines.line, line, &cause))
			return err_set(err, cause.exit_code, cause.error,
				       "%u: %s", lines.line, cause.text);
	}
	return 0;
}

/* ---- files ---- */

/*
 * A whole file, of which at most so much; neither a pipe nor an endless device
 * is waited for. Returns how many bytes, or -errno; -ENOENT without *err.
 */
static int read_file(const char *path, char *text, size_t room, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t used = 0;
	ssize_t n = -1;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	while (fd >= 0 && used < room) {
		n = read(fd, text + used, room - used);
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	if (n < 0)
		(void)err_explain(err, NULL, errno, "cannot read %s", path);
	else if (used == room)
		n = err_set(err, X_USAGE, EFBIG, "%s: larger than %zu bytes",
			    path, room);
	else if (memchr(text, '\0', used))
		n = err_set(err, X_USAGE, EINVAL,
			    "%s: not a text, it holds a NUL byte", path);
	if (fd >= 0)
		close(fd);
	return n < 0 ? -EINVAL : (int)used;
}

int config_find(struct config *c, const struct blockdev *device, FILE *notes,
		struct err *err)
{
	static char text[CONFIG_FILE_BYTES_MAX + 1];
	struct err cause = { 0 };
	int n, rc;

	config_init(c);
	snprintf(c->path, sizeof(c->path), "%s/%s.conf", config_dir,
		 device->name);
	n = read_file(c->path, text, CONFIG_FILE_BYTES_MAX, err);
	if (n >= 0) {
		rc = config_parse(c, text, (size_t)n, &cause);
		if (!rc && !c->uri)
			rc = err_set(&cause, X_USAGE, EINVAL,
				     "1: no line says uri=...");
	} else if (n == -ENOENT) {
		snprintf(c->path, sizeof(c->path), "%s", config_nbdtab);
		n = read_file(c->path, text, CONFIG_FILE_BYTES_MAX, err);
		rc = n < 0 ? n :
			     nbdtab_parse(c, text, (size_t)n, device, notes,
					  &cause);
	} else {
		return n;
	}
	if (rc == -ENOENT)
		return err_set(err, X_NOT_FOUND, ENOENT,
			       "neither %s/%s.conf nor a line in %s says what "
			       "to attach as %s; give a URI, or write one of "
			       "these",
			       config_dir, device->name, config_nbdtab,
			       device->name);
	if (cause.exit_code)
		return err_set(err, cause.exit_code, cause.error, "%s:%s",
			       c->path, cause.text);
	return rc;
}
