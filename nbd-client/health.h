/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is the matter with an attached device, the worst of it, and what helps.
 * Pure but for asking whether its processes live. Command line.
 */
#ifndef NBD_HEALTH_H
#define NBD_HEALTH_H

#include <stdint.h>

#include "include/ctl.h"
#include "nbd-client/check_host.h"

/* A server that owes an answer for so long is looked at. */
#define HEALTH_SILENT_S 10u

/*
 * Of the page of NAME ("nbd0"); now_s: seconds since 1970. found has no name in it,
 * and is empty when all is well; *ret is all zeroes before.
 */
void health_look(const char *name, const struct stats_page *page,
		 uint64_t now_ns, uint64_t now_s,
		 struct check_host_result *ret);

#endif
