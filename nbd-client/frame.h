/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text for a screen: lines that are cut at its edge, bars and gauges, colours
 * where there are some. Pure, into the caller's memory. Command line only.
 */
#ifndef NBD_FRAME_H
#define NBD_FRAME_H

#include <stdbool.h>
#include <stdint.h>

struct frame_screen {
	uint32_t rows, columns;
	bool utf8;
	bool color;
	bool terminal; /* with the codes that draw over the last frame */
};

struct frame {
	char *at, *end;
	const struct frame_screen *screen;
	uint32_t column; /* of the line that is being written */
	uint32_t lines;
};

enum frame_style {
	FRAME_PLAIN,
	FRAME_BOLD,
	FRAME_GOOD,
	FRAME_WARNING,
	FRAME_BAD,
	FRAME_BANNER,
};

void frame_begin(struct frame *f);

/* Printable UTF-8; what is beyond the edge is cut. */
void frame_put(struct frame *f, const char *text);
void frame_putf(struct frame *f, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void frame_pad_to(struct frame *f, uint32_t column);
void frame_end_line(struct frame *f);
/* Nothing follows: what an earlier frame has left below is wiped. */
void frame_end(struct frame *f);

void frame_style(struct frame *f, enum frame_style to);
void frame_put_styled(struct frame *f, enum frame_style to, const char *text);

/* "12s", "5m03s", "3h12m", "2d04h" */
void frame_duration(struct frame *f, uint64_t seconds);

/* A character filled to so many eighths. */
const char *frame_block(const struct frame *f, uint64_t eighths);

/* value of max in cells of `full`; whatever is not 0 can be seen. */
uint64_t frame_scale(uint64_t value, uint64_t max, uint64_t full);

/* value of max in so many columns, with a mark where it once was. */
void frame_gauge(struct frame *f, uint32_t columns, uint64_t value,
		 uint64_t mark, uint64_t max, enum frame_style to);

#endif
