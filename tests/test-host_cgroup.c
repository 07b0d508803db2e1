/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cgroups that dead daemons have left, on directories of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "nbd-client/host.h"
#include "tests/tree.h"

static char tree[TREE_BYTES], told[512];

static void on_line(void *arg, const char *subject, const char *text)
{
	size_t used = strlen(told);

	(void)arg;
	(void)text;
	snprintf(told + used, sizeof(told) - used, "%s ",
		 strrchr(subject, '/') + 1);
}
static const struct host_tell tell = { .line = on_line };

static void make(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", tree, name);
	assert_int_equal(mkdir(path, 0755), 0);
}

static bool there(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", tree, name);
	return access(path, F_OK) == 0;
}

static int setup(void **state)
{
	(void)state;
	tree_make(tree);
	host_paths.cgroup = tree;
	*told = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	host_paths.cgroup = "/sys/fs/cgroup";
	return tree_remove(tree);
}

static void only_ours_and_only_empty_ones(void **state)
{
	(void)state;
	make("system.slice");
	make("nbd-client-nbd0");
	make("nbd-client-nbd1");
	make("xnbd-client-nbd2");
	/* rmdir() refuses it, as the kernel refuses one with processes in it */
	tree_put(tree, "nbd-client-nbd1/somebody", "");
	host_cgroup_recover(&tell);
	assert_string_equal(told, "nbd-client-nbd0 ");
	assert_false(there("nbd-client-nbd0"));
	assert_true(there("nbd-client-nbd1"));
	assert_true(there("system.slice"));
	assert_true(there("xnbd-client-nbd2"));
	host_cgroup_recover(&tell);
	assert_string_equal(told, "nbd-client-nbd0 ");
}

static void no_cgroups_at_all(void **state)
{
	(void)state;
	host_paths.cgroup = "/nonexistent";
	host_cgroup_recover(&tell);
	assert_string_equal(told, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(only_ours_and_only_empty_ones),
		TEST(no_cgroups_at_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
