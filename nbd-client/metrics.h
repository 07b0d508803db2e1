/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Status pages as metrics, in the text formats of OpenMetrics 1.0 and of
 * node_exporter's textfile collector. Command line only; pure, but for printing.
 */
#ifndef NBD_METRICS_H
#define NBD_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "include/ctl.h"

enum metrics_format {
	METRICS_OPENMETRICS,
	/*
	 * Prometheus' older format: counters are described by the name of their
	 * samples, there are no units, and info is a gauge.
	 */
	METRICS_TEXTFILE,
};

struct metrics_device {
	char name[DEVICE_NAME_BYTES]; /* "nbd0" */
	bool alive;                   /* if not, only that is told */
	struct stats_page page;       /* a copy: all of it of the same moment */
};

/* What belongs to no device. */
struct metrics_host {
	bool min_free_known, drops_known;
	uint64_t min_free_bytes;   /* vm.min_free_kbytes */
	uint64_t pfmemalloc_drops; /* PFMemallocDrop of /proc/net/netstat */
};

/* now_ns: of clock_now_ns(). Failures to write are the stream's to remember. */
void metrics_print(FILE *file, enum metrics_format format,
		   const struct metrics_device *devices, size_t count,
		   const struct metrics_host *host, uint64_t now_ns);

/*
 * A counter of /proc/net/netstat, where each line of values follows one of
 * names. 0 or -ENOENT.
 */
int metrics_netstat(const char *text, const char *name, uint64_t *ret_value);

#endif
