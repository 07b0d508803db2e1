/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The protective measures by name, so that "attach --without=NAME" can leave one
 * out: to measure what it brings. Whoever takes a measure asks
 * measure_left_out() first, and leaves its guarantee alone.
 *
 * A process serves one device, so this is known once for the process: set by the
 * control thread before there are others, constant afterwards.
 */
#ifndef NBD_MEASURE_H
#define NBD_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "include/ctl.h"

enum measure {
	MEASURE_RESERVE,       /* vm.min_free_kbytes */
	MEASURE_DONOR,         /* SOCK_MEMALLOC */
	MEASURE_SOCKET_MEMORY, /* SO_RESERVE_MEM */
	MEASURE_CGROUP,        /* a memory cgroup */
	MEASURE_MLOCK,         /* mlockall, mlock */
	MEASURE_FLUSHER,       /* PR_SET_IO_FLUSHER */
	MEASURE_FIFO,          /* SCHED_FIFO */
	MEASURE_OOM,           /* oom_score_adj */
	MEASURE_TUNE,          /* of the device's queue */
	MEASURE_WINDOWS,       /* closing the open window under pressure */
	MEASURE_ELASTIC,       /* giving slots back under pressure */
	MEASURE_BUFFERS,       /* socket buffers of our size, by force */
	MEASURE_SYSCTLS,       /* boost, scale, compaction */
	MEASURES,
};

/* "fifo,mlock" to bits, 1 << MEASURE_...; 0, or -EINVAL with X_USAGE. */
int measure_parse(const char *list, uint32_t *ret_bits, struct err *err);

/* The names of bits, with commas. text_bytes >= MEASURE_TEXT_BYTES. */
#define MEASURE_TEXT_BYTES 128u
void measure_format(uint32_t bits, char *ret_text, size_t text_bytes);

/*
 * Leaves these out from now on. Each guarantee that rests on one is off, and one
 * more, which is degraded, names them all.
 */
#define MEASURE_ROW "protection"
void measure_leave_out(uint32_t bits,
		       struct stats_guarantee rows[STATS_GUARANTEES]);

bool measure_left_out(enum measure measure);

#endif
