// SPDX-License-Identifier: GPL-2.0-or-later
/* Command lines kept in files: words with a NUL after each. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "include/bounds.h"
#include "nbd-client/stats.h"
#include "nbd-client/words.h"

static void words_path(const char *name, char *path, size_t path_bytes)
{
	snprintf(path, path_bytes, "%s/%s.attach", stats_run_dir, name);
}

int words_keep(const char *name, int argc, char *const *argv, struct err *err)
{
	char path[256];
	int fd, rc = 0;

	words_path(name, path, sizeof(path));
	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_explain(err, NULL, errno, "cannot make %s", path);
	for (int i = 0; i < argc && !rc; i++) {
		size_t bytes = strlen(argv[i]) + 1;
		ssize_t n = write(fd, argv[i], bytes);

		if (n != (ssize_t)bytes)
			rc = n < 0 ? -errno : -ENOSPC;
	}
	close(fd);
	return rc ? err_explain(err, NULL, -rc, "cannot write %s", path) : 0;
}

int words_load(const char *name, struct kept_words *ret, struct err *err)
{
	char path[256];
	ssize_t bytes;
	int fd;

	words_path(name, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return err_set(
			err, X_NOT_FOUND, ENOENT,
			"it is not known how %s was attached: there is no %s",
			name, path);
	if (fd < 0)
		return err_explain(err, NULL, errno, "cannot read %s", path);
	bytes = read(fd, ret->text, sizeof(ret->text));
	close(fd);
	ret->count = 0;
	for (char *at = ret->text; bytes > 0 && at < ret->text + bytes;
	     at += strlen(at) + 1) {
		if (ret->text[bytes - 1] || ret->count == WORDS_MAX)
			return err_set(err, X_FAILURE, EBADMSG, "%s is damaged",
				       path);
		ret->word[ret->count++] = at;
	}
	ret->word[ret->count] = NULL;
	return 0;
}

void words_drop(const char *name)
{
	char path[256];

	words_path(name, path, sizeof(path));
	(void)unlink(path);
}
