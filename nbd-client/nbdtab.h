/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbdtab(5): a line for each device, "nbd0 host export options".
 *
 * Command line only.
 */
#ifndef NBD_NBDTAB_H
#define NBD_NBDTAB_H

#include <stddef.h>
#include <stdio.h>

#include "nbd-client/config.h"

/*
 * Finds the first line of the device, and what attach makes of it. The text is
 * changed; text[bytes] must be writable. Other lines cannot prevent it: what is
 * wrong with them is a warning in notes.
 *
 * 0; -ENOENT without *err: no line; -EINVAL, and the text begins with the number
 * of the line.
 */
int nbdtab_parse(struct config *c, char *text, size_t bytes,
		 const struct blockdev *device, FILE *notes, struct err *err);

#endif
