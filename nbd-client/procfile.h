/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One-line files through which the kernel is asked and told: /proc, /sys. Any
 * thread may call these, but all of them block. No stdio and no malloc, so they
 * also serve while memory is short.
 */
#ifndef NBD_PROCFILE_H
#define NBD_PROCFILE_H

#include <stddef.h>
#include <stdint.h>

/*
 * The beginning of a file, up to text_bytes - 1 bytes, NUL-terminated, without
 * a newline at the end. Returns the length or -errno.
 */
int procfile_read(const char *path, char *ret_text, size_t text_bytes);

/* The whole file is one decimal number. -EINVAL: it is not. */
int procfile_read_number(const char *path, uint64_t *ret_value);

/* One write(2), as these files want it. */
int procfile_write(const char *path, const char *text);

/* The number after "KEY" and blanks at the beginning of a line; -ENOENT. */
int procfile_find_number(const char *text, const char *key,
			 uint64_t *ret_value);

#endif
