/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device as it changes: samples of its status page, and frames of text that
 * show them. Pure: samples in, text out, no memory but the caller's, so that it
 * works when there is none to be had. Command line only.
 */
#ifndef NBD_WATCH_H
#define NBD_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/ctl.h"
#include "nbd-client/frame.h"

/* Intervals that are remembered, and so the widest graph. */
#define WATCH_POINTS 240u

/* Of a screen, as far as it is used; a character takes up to four bytes. */
#define WATCH_ROWS_MAX 120u
#define WATCH_COLUMNS_MAX 260u
#define WATCH_FRAME_BYTES (WATCH_ROWS_MAX * (WATCH_COLUMNS_MAX * 4u + 64u))

enum watch_graph {
	WATCH_REQUESTS, /* a second */
	WATCH_BYTES,    /* a second */
	WATCH_IN_FLIGHT,
	WATCH_GRAPHS,
};

/* What was done in the last interval. */
struct watch_delta {
	uint64_t ns; /* its length; 0: there was none yet */
	uint64_t requests[STATS_OPS];
	uint64_t bytes[STATS_OPS];
	uint64_t latency[STATS_OPS][STATS_BUCKETS];
};

/* Large. */
struct watch {
	struct stats_page page; /* of the last sample */
	bool alive;
	bool locked; /* this process has all its memory; by the caller */
	uint64_t now_ns;
	uint64_t clock_s;     /* seconds since 1970 */
	char clock_text[16];  /* "10:42:07" */
	struct watch_delta delta;
	uint64_t points[WATCH_GRAPHS][WATCH_POINTS]; /* a ring */
	uint32_t point_count; /* ever */
};

/* The next sample. clock_text is the caller's. */
void watch_take(struct watch *w, const struct stats_page *page, bool alive,
		uint64_t now_ns, uint64_t clock_s);

/*
 * Both return the length of text, never more than text_bytes. A frame is no
 * taller and wider than the screen; a line is for logs, with a newline.
 */
size_t watch_frame(const struct watch *w, const struct frame_screen *screen,
		   char *text, size_t text_bytes);
size_t watch_line(const struct watch *w, bool bytes, char *text,
		  size_t text_bytes);

/* Above the lines. */
extern const char watch_heading[];

#endif
