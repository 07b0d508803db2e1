/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * progress.h: what hog tells gauge, in one page of shared memory that gauge
 * makes and keeps locked.  hog alone writes it.
 */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdint.h>

enum phase {
	PHASE_IDLE,	/* hog has not begun */
	PHASE_FILL,	/* every page gets its first content */
	PHASE_MIX,	/* verify and write, here and there */
	PHASE_FINAL,	/* every page is verified a last time */
	PHASE_DONE,
};

struct progress {
	volatile uint64_t ops;		/* pages written or verified */
	volatile uint64_t written;
	volatile uint64_t verified;
	volatile uint64_t mismatches;
	volatile uint64_t phase;	/* enum phase */
};

#endif
