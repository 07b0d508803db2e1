/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is to be attached as a device, from files: /etc/nbd-client.d/nbd0.conf
 * (nbd-client.conf(5)), or else its line in /etc/nbdtab (nbdtab(5)). Either
 * becomes words of attach's command line, so that there is one place only that
 * knows what an option means.
 *
 * Command line only.
 */
#ifndef NBD_CONFIG_H
#define NBD_CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/err.h"
#include "nbd-client/blockdev.h"

/* "/etc/nbd-client.d", "/etc/nbdtab"; unit tests point them elsewhere. */
extern const char *config_dir;
extern const char *config_nbdtab;

/* Far more than anybody writes by hand. */
#define CONFIG_FILE_BYTES_MAX 262144u
#define CONFIG_OPTIONS_MAX 64u
#define CONFIG_TEXT_BYTES 65536u

struct config {
	const char *uri; /* or host, or socket; in text. NULL: none */
	uint32_t uri_line;
	uint32_t count;
	struct {
		const char *word; /* "--swap=best-effort", in text */
		uint32_t line;    /* of the file; 0: of none */
	} options[CONFIG_OPTIONS_MAX];
	char path[256]; /* of the file */
	size_t used;
	char text[CONFIG_TEXT_BYTES];
};

/* Empties it. */
void config_init(struct config *c);

/* Adds an option. -E2BIG with X_USAGE: there is no room. */
int config_add(struct config *c, uint32_t line, struct err *err,
	       const char *format, ...) __attribute__((format(printf, 4, 5)));
int config_set_uri(struct config *c, uint32_t line, const char *uri,
		   struct err *err);

/*
 * Reads DEVICE.conf, or else nbdtab, whichever is the first to know the device.
 * Warnings go to notes. -ENOENT with X_NOT_FOUND: neither does.
 */
int config_find(struct config *c, const struct blockdev *device, FILE *notes,
		struct err *err);

/*
 * The text of a DEVICE.conf; it is changed, and text[bytes] must be writable.
 * Errors begin with the number of the line.
 */
int config_parse(struct config *c, char *text, size_t bytes, struct err *err);

/* Lines of a text, cut in place; '\r' and blanks at either end are left out. */
struct config_lines {
	char *at, *end;
	uint32_t line; /* of the one returned last, from 1 */
};

/* NULL at the end. */
char *config_next(struct config_lines *lines);

#endif
