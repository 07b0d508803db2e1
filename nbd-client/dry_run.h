/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * attach --dry-run: what memory a device would take, as sums with a line for each
 * holder. Command line only.
 */
#ifndef NBD_DRY_RUN_H
#define NBD_DRY_RUN_H

#include "nbd-client/daemon.h"
#include "nbd-client/table.h"

/* Asks the preferred server, because its limits are among the summands. */
int dry_run(const struct attach_options *o, const struct output_options *options,
	    struct err *err);

/* Too little is refused with the sum that says why, on standard error. */
int dry_run_check_reserve(const struct attach_options *o, struct err *err);

#endif
