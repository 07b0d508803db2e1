// SPDX-License-Identifier: GPL-2.0-or-later
/* Files for tests that are pointed at other places than the real ones. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/tree.h"

void tree_make(char ret_tree[TREE_BYTES])
{
	snprintf(ret_tree, TREE_BYTES, "/tmp/nbd-test.XXXXXX");
	assert_non_null(mkdtemp(ret_tree));
	/* Some tests look as somebody else. */
	assert_int_equal(chmod(ret_tree, 0755), 0);
}

int tree_remove(const char *tree)
{
	char *const argv[] = { (char *)"rm", (char *)"-rf", (char *)tree,
			       NULL };
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execvp("rm", argv);
		_exit(1);
	}
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static void make_way(char *path)
{
	char *slash;

	for (slash = strchr(path + 1, '/'); slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path, 0755))
			assert_int_equal(errno, EEXIST);
		*slash = '/';
	}
}

void tree_put(const char *root, const char *name, const char *text)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	make_way(path);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

void tree_link(const char *root, const char *name, const char *target)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	make_way(path);
	assert_int_equal(symlink(target, path), 0);
}

void tree_drop(const char *root, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	assert_int_equal(unlink(path), 0);
}
