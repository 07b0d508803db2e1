/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the words of "attach" set, and the options whose value is more than a
 * number: for options.h. Command line.
 */
#ifndef NBD_ATTACH_SET_H
#define NBD_ATTACH_SET_H

#include "nbd-client/cmd.h"
#include "nbd-client/daemon.h"

struct attach_line {
	struct attach_options options;
	const char *export_name; /* NULL: that of the URI */
	uint32_t endpoint_count;
	const char *endpoints[ENDPOINTS_MAX]; /* to be added to those of the URI */
	bool recover;
	struct output_options output; /* of --dry-run */
};

int attach_set_swap(void *target, const char *value, struct err *err);
int attach_set_swapon(void *target, const char *value, struct err *err);
int attach_set_reserve(void *target, const char *value, struct err *err);
int attach_set_on_eio(void *target, const char *value, struct err *err);
int attach_set_size(void *target, const char *value, struct err *err);
int attach_set_without(void *target, const char *value, struct err *err);
int attach_set_shed_exempt(void *target, const char *value, struct err *err);
int attach_set_endpoint(void *target, const char *value, struct err *err);
int attach_set_failback(void *target, const char *value, struct err *err);
int attach_set_identity(void *target, const char *value, struct err *err);

/* X_USAGE: a device cannot have so many servers. */
int attach_too_many(struct err *err);

#endif
