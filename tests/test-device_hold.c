// SPDX-License-Identifier: GPL-2.0-or-later
/* Tests of what counts as attached already, on status pages of our own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "nbd-client/daemon.h"
#include "nbd-client/stats.h"
#include "tests/tree.h"

static char dir[TREE_BYTES], path[DEVICE_NAME_BYTES];
static struct stats_page *nbd0, *nbd1;
static struct attach_options options;
static struct err err;

static struct stats_page *attached(const char *name, const char *uri)
{
	struct stats_page *page;

	assert_int_equal(stats_create(name, &page, &err), 0);
	page->state = STATS_LIVE;
	snprintf(page->uri, sizeof(page->uri), "%s", uri);
	return page;
}

static int setup(void **state)
{
	(void)state;
	tree_make(dir);
	stats_run_dir = dir;
	nbd0 = attached("nbd0", "nbd://server/zero");
	nbd1 = attached("nbd1", "nbd://server/one");
	memset(path, 0, sizeof(path));
	memset(&err, 0, sizeof(err));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	stats_remove("nbd0", nbd0);
	stats_remove("nbd1", nbd1);
	return tree_remove(dir);
}

/* index -1: any device will do. */
static int look(const char *uri, int32_t index)
{
	options = (struct attach_options){ .index = index,
					   .front = FRONT_NBD };
	assert_int_equal(addr_parse(&options.addr, uri, &err), 0);
	return device_attached(&options, path, &err);
}

static void found_by_what_it_has(void **state)
{
	(void)state;
	assert_int_equal(look("nbd://server/one", -1), 1);
	assert_string_equal(path, "/dev/nbd1");
	assert_int_equal(look("nbd://server:10809/zero", -1), 1);
	assert_string_equal(path, "/dev/nbd0");
	assert_int_equal(look("nbd://server/two", -1), 0);
	assert_int_equal(look("nbds://server/one", -1), 0);
}

static void a_device_that_is_named(void **state)
{
	(void)state;
	assert_int_equal(look("nbd://server/one", 1), 1);
	assert_string_equal(path, "/dev/nbd1");
	assert_int_equal(look("nbd://server/one", 2), 0);
	assert_int_equal(look("nbd://server/one", 0), -EBUSY);
	assert_int_equal(err.exit_code, X_BUSY);
	assert_string_equal(err.text, "/dev/nbd0 is attached, but to "
				      "nbd://server/zero; detach it first");
}

/* Swap without what makes it safe is not what was asked for. */
static void not_for_swap(void **state)
{
	(void)state;
	assert_int_equal(look("nbd://server/one", -1), 1);
	options.swap = SWAP_YES;
	assert_int_equal(device_attached(&options, path, &err), -EBUSY);
	assert_string_equal(err.text, "/dev/nbd1 is attached, but not for swap; "
				      "detach it first");
	nbd1->swap = 1;
	assert_int_equal(device_attached(&options, path, &err), 1);
}

static void what_is_going_or_dead_is_not_attached(void **state)
{
	(void)state;
	nbd1->state = STATS_DETACHING;
	assert_int_equal(look("nbd://server/one", -1), 0);
	nbd1->state = STATS_LIVE;
	nbd1->pid_start++; /* the number belongs to another process now */
	assert_int_equal(look("nbd://server/one", -1), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(found_by_what_it_has),
		TEST(a_device_that_is_named),
		TEST(not_for_swap),
		TEST(what_is_going_or_dead_is_not_attached),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
