/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Strings from elsewhere made safe to print.
 *
 * Owns nothing, keeps nothing; any thread, any caller.
 */
#include "common/text.h"

#include <stdint.h>
#include <string.h>

#define ESCAPED_BYTES 4		/* \xNN */

/* Valid characters that do not print, or that move others about. */
static const struct {
	uint32_t first;
	uint32_t last;
} hidden[] = {
	{ 0x00, 0x1f },		/* control characters, ESC among them */
	{ '\\', '\\' },		/* ours, as the mark of an escape */
	{ 0x7f, 0x9f },		/* DEL; C1, where 0x9b is a terminal's CSI */
	{ 0xad, 0xad },		/* soft hyphen */
	{ 0x61c, 0x61c },	/* Arabic letter mark */
	{ 0x200b, 0x200f },	/* zero width, direction marks */
	{ 0x2028, 0x202e },	/* separators, direction overrides */
	{ 0x2060, 0x206f },	/* invisible operators, direction isolates */
	{ 0xfeff, 0xfeff },	/* byte order mark */
	{ 0xfff0, 0xffff },	/* annotation, noncharacters */
	{ 0xe0000, 0xe0fff },	/* tags, selectors */
};

bool text_is_hidden(uint32_t c)
{
	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
		if (c >= hidden[i].first && c <= hidden[i].last)
			return true;
	return false;
}

size_t text_character(uint32_t *ret_c, const void *bytes, size_t len)
{
	const uint8_t *src = bytes;
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n;
	uint32_t c;

	if (src[0] < 0x80) {
		n = 1;
		c = src[0];
	} else if (src[0] >= 0xc2 && src[0] <= 0xdf) {
		n = 2;
		c = src[0] & 0x1f;
	} else if ((src[0] & 0xf0) == 0xe0) {
		n = 3;
		c = src[0] & 0x0f;
	} else if (src[0] >= 0xf0 && src[0] <= 0xf4) {
		n = 4;
		c = src[0] & 0x07;
	} else {
		return 0;
	}
	if (n > len)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((src[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (src[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*ret_c = c;
	return n;
}

static void put_escaped(char *dst, uint8_t byte)
{
	static const char digits[] = "0123456789abcdef";

	dst[0] = '\\';
	dst[1] = 'x';
	dst[2] = digits[byte >> 4];
	dst[3] = digits[byte & 0xf];
}

size_t text_escape(char *dst, size_t n, const void *src, size_t len)
{
	static const char mark[] = "...";
	const size_t mark_bytes = sizeof(mark) - 1;
	const uint8_t *s = src;
	char piece[4 * ESCAPED_BYTES];
	size_t used = 0;
	size_t cut = 0;		/* where the mark still fits */

	if (n == 0)
		return 0;
	while (len > 0) {
		uint32_t c = 0;
		size_t taken = text_character(&c, s, len);
		size_t piece_bytes;

		if (taken > 0 && !text_is_hidden(c)) {
			memcpy(piece, s, taken);
			piece_bytes = taken;
		} else {
			taken = taken > 0 ? taken : 1;
			for (size_t i = 0; i < taken; i++)
				put_escaped(piece + i * ESCAPED_BYTES, s[i]);
			piece_bytes = taken * ESCAPED_BYTES;
		}
		if (used + piece_bytes >= n) {
			size_t room = n - 1 - cut;

			used = cut + (room < mark_bytes ? room : mark_bytes);
			memcpy(dst + cut, mark, used - cut);
			break;
		}
		memcpy(dst + used, piece, piece_bytes);
		used += piece_bytes;
		if (used + mark_bytes < n)
			cut = used;
		s += taken;
		len -= taken;
	}
	dst[used] = '\0';
	return used;
}

size_t text_escape_str(char *dst, size_t n, const char *src)
{
	return text_escape(dst, n, src, strlen(src));
}

bool text_is_utf8(const void *src, size_t len)
{
	const uint8_t *s = src;

	while (len > 0) {
		uint32_t c = 0;
		size_t taken = text_character(&c, s, len);

		if (taken == 0 || c == 0)
			return false;
		s += taken;
		len -= taken;
	}
	return true;
}
