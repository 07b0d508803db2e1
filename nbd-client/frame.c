// SPDX-License-Identifier: GPL-2.0-or-later
/* Text for a screen. Owns nothing, allocates nothing. Command line only. */
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "nbd-client/frame.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void raw(struct frame *f, const char *bytes, size_t length)
{
	if (length > (size_t)(f->end - f->at))
		return;
	memcpy(f->at, bytes, length);
	f->at += length;
}

static void raw_text(struct frame *f, const char *text)
{
	raw(f, text, strlen(text));
}

void frame_begin(struct frame *f)
{
	if (f->screen->terminal)
		raw_text(f, "\033[H");
}

void frame_end(struct frame *f)
{
	if (f->screen->terminal && f->lines < f->screen->rows)
		raw_text(f, "\033[J");
}

void frame_style(struct frame *f, enum frame_style to)
{
	static const char *const codes[] = {
		[FRAME_PLAIN] = "\033[0m",
		[FRAME_BOLD] = "\033[1m",
		[FRAME_GOOD] = "\033[32m",
		[FRAME_WARNING] = "\033[1;33m",
		[FRAME_BAD] = "\033[1;31m",
		[FRAME_BANNER] = "\033[1;37;41m",
	};

	if (f->screen->color)
		raw_text(f, codes[to]);
}

void frame_put(struct frame *f, const char *text)
{
	size_t n;

	for (; *text && f->column < f->screen->columns; text += n) {
		n = 1;
		while (((unsigned char)text[n] & 0xc0) == 0x80)
			n++;
		if (n > 1 && !f->screen->utf8)
			raw_text(f, "?");
		else
			raw(f, text, n);
		f->column++;
	}
}

void frame_putf(struct frame *f, const char *fmt, ...)
{
	char text[320];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	frame_put(f, text);
}

void frame_put_styled(struct frame *f, enum frame_style to, const char *text)
{
	frame_style(f, to);
	frame_put(f, text);
	frame_style(f, FRAME_PLAIN);
}

void frame_pad_to(struct frame *f, uint32_t column)
{
	while (f->column < column && f->column < f->screen->columns)
		frame_put(f, " ");
}

void frame_end_line(struct frame *f)
{
	bool full = f->column >= f->screen->columns;

	f->lines++;
	f->column = 0;
	/* At the edge the cursor still stands on the last character. */
	if (f->screen->terminal && !full)
		raw_text(f, "\033[K");
	/* One after the last line would scroll. */
	if (f->lines < f->screen->rows)
		raw_text(f, "\n");
}

void frame_duration(struct frame *f, uint64_t seconds)
{
	static const struct {
		uint32_t seconds, smaller;
		char unit, smaller_unit;
	} units[] = {
		{ 86400, 3600, 'd', 'h' },
		{ 3600, 60, 'h', 'm' },
		{ 60, 1, 'm', 's' },
	};

	for (size_t i = 0; i < COUNT(units); i++) {
		if (seconds < units[i].seconds)
			continue;
		frame_putf(f, "%" PRIu64 "%c%02" PRIu64 "%c",
			   seconds / units[i].seconds, units[i].unit,
			   seconds % units[i].seconds / units[i].smaller,
			   units[i].smaller_unit);
		return;
	}
	frame_putf(f, "%" PRIu64 "s", seconds);
}

/* ---- Bars ---- */

uint64_t frame_scale(uint64_t value, uint64_t max, uint64_t full)
{
	if (!value || !max)
		return 0;
	if (value >= max)
		return full;
	return (uint64_t)(((unsigned __int128)value * full + max - 1) / max);
}

const char *frame_block(const struct frame *f, uint64_t eighths)
{
	static const char *const blocks[] = { " ", "▁", "▂", "▃", "▄",
					      "▅", "▆", "▇", "█" };
	static const char *const ascii[] = { " ", ".", ":", "-", "=",
					     "+", "*", "%", "#" };

	return (f->screen->utf8 ? blocks : ascii)[eighths > 8 ? 8 : eighths];
}

void frame_gauge(struct frame *f, uint32_t columns, uint64_t value,
		 uint64_t mark, uint64_t max, enum frame_style to)
{
	const bool utf8 = f->screen->utf8;
	uint64_t filled = frame_scale(value, max, columns);
	uint64_t mark_at = frame_scale(mark, max, columns);

	frame_style(f, to);
	for (uint32_t i = 0; i < columns; i++) {
		if (i + 1 == mark_at || (!mark_at && !i))
			frame_put(f, utf8 ? "┃" : "|");
		else if (i < filled)
			frame_put(f, utf8 ? "█" : "#");
		else
			frame_put(f, utf8 ? "░" : ".");
	}
	frame_style(f, FRAME_PLAIN);
}
