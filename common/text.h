/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Strings from elsewhere made safe to print.
 *
 * Pure; any thread.
 */
#ifndef NBD_TEXT_H
#define NBD_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Copies `len` bytes to `dst` so that a terminal, a log and a line-oriented
 * script survive them: valid UTF-8 stays, everything else (control characters
 * of both ranges, NUL, DEL, broken or overlong sequences, direction overrides,
 * line and paragraph separators) becomes \xNN byte by byte, a backslash too,
 * so that the result is unambiguous.  What does not fit into `n` bytes is cut
 * at a character and marked with "...".  `dst` is always NUL-terminated if
 * n > 0.
 * Returns strlen(dst).
 */
size_t text_escape(char *dst, size_t n, const void *src, size_t len);

/* The same for a NUL-terminated string. */
size_t text_escape_str(char *dst, size_t n, const char *src);

/*
 * The character at the beginning of `len` > 0 bytes, as RFC 3629 allows it:
 * shortest form, no surrogates, up to U+10FFFF.  Returns its length in bytes, 0
 * if there is none.
 */
size_t text_character(uint32_t *ret_c, const void *bytes, size_t len);

/* Control characters, and others that do not print or move others about. */
bool text_is_hidden(uint32_t c);

/* True if `len` bytes are a string as NBD wants it: UTF-8 without NUL. */
bool text_is_utf8(const void *src, size_t len);

#endif
