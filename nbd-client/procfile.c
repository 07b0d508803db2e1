// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One-line files of the kernel, with plain system calls. Owns nothing; blocks;
 * any thread that may block.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nbd-client/procfile.h"

int procfile_read(const char *path, char *ret_text, size_t text_bytes)
{
	size_t used = 0;
	ssize_t n;
	int fd, rc = 0;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (used < text_bytes - 1) {
		n = read(fd, ret_text + used, text_bytes - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = -errno;
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	close(fd);
	if (rc)
		return rc;
	if (used && ret_text[used - 1] == '\n')
		used--;
	ret_text[used] = '\0';
	return (int)used;
}

static int to_number(const char *text, char **ret_end, uint64_t *ret_value)
{
	uint64_t value;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoull(text, ret_end, 10);
	if (errno)
		return -errno;
	*ret_value = value;
	return 0;
}

int procfile_read_number(const char *path, uint64_t *ret_value)
{
	uint64_t value;
	char text[32], *end;
	int rc;

	rc = procfile_read(path, text, sizeof(text));
	if (rc < 0)
		return rc;
	rc = to_number(text, &end, &value);
	if (!rc && *end)
		rc = -EINVAL;
	if (!rc)
		*ret_value = value;
	return rc;
}

int procfile_write(const char *path, const char *text)
{
	size_t length = strlen(text);
	ssize_t n;
	int fd, rc = 0;

	fd = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC);
	if (fd < 0)
		return -errno;
	do {
		n = write(fd, text, length);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		rc = -errno;
	else if ((size_t)n != length)
		rc = -EIO;
	close(fd);
	return rc;
}

int procfile_find_number(const char *text, const char *key,
			 uint64_t *ret_value)
{
	size_t length = strlen(key);
	const char *line = text;
	char *end;

	while (line && *line) {
		if (!strncmp(line, key, length)) {
			line += length;
			line += strspn(line, " \t:");
			return to_number(line, &end, ret_value);
		}
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	return -ENOENT;
}
