// SPDX-License-Identifier: GPL-2.0-or-later
/* Tests of what is the matter with a device, on pages of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/check_look.h"
#include "nbd-client/health.h"
#include "nbd-client/stats.h"
#include "tests/tree.h"

static char dir[TREE_BYTES];
static struct stats_page *page;
static uint64_t now_ns, now_s;
static struct check_host_result result;

static struct stats_page *well(const char *name)
{
	struct stats_page *p;

	assert_int_equal(stats_create(name, &p, NULL), 0);
	p->state = STATS_LIVE;
	p->link = STATS_LINK_UP;
	p->supervised = 1;
	p->swap = 1;
	p->data.heartbeat_ns = now_ns;
	snprintf(p->uri, sizeof(p->uri), "nbd://server/swap1");
	return p;
}

static int setup(void **state)
{
	(void)state;
	tree_make(dir);
	stats_run_dir = dir;
	now_ns = clock_now_ns();
	now_s = (uint64_t)time(NULL);
	page = well("nbd0");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	stats_remove("nbd0", page);
	return tree_remove(dir);
}

static void expect(enum check_host_state state, const char *found,
		   const char *remedy)
{
	memset(&result, 0, sizeof(result));
	health_look("nbd0", page, now_ns, now_s, &result);
	assert_string_equal(result.found, found);
	assert_int_equal(result.state, state);
	assert_non_null(strstr(result.remedy, remedy));
	assert_int_equal(!*remedy, !*result.remedy);
}

static void make_worse(void)
{
	stats_guarantee_set(page->guarantees, "memory locked", GUARANTEE_OK,
			    "12 MiB");
	stats_guarantee_set(page->guarantees, "SOCK_MEMALLOC",
			    GUARANTEE_DEGRADED, "no free device");
	expect(CHECK_HOST_WARN, "SOCK_MEMALLOC is degraded: no free device",
	       "WHAT IS GUARANTEED");
	page->supervised = 0;
	expect(CHECK_HOST_WARN, "its supervisor has died: nobody would take over",
	       "recover nbd0");
	page->data.owed_since_ns = now_ns - 11 * NS_PER_S;
	expect(CHECK_HOST_WARN, "the server has owed an answer for 11 s",
	       "look at the server");
	page->link = STATS_LINK_CONNECTING;
	page->link_since = now_s - 125;
	snprintf(page->link_error, sizeof(page->link_error),
		 "Connection refused");
	expect(CHECK_HOST_FAIL,
	       "no link to nbd://server/swap1 for 125 s, and requests wait: "
	       "Connection refused", "bring the server back");
	page->data.heartbeat_ns = now_ns - 70 * NS_PER_S;
	expect(CHECK_HOST_FAIL,
	       "its data thread has shown no sign of life for 70 s",
	       "watchdog");
	page->pid_start++; /* the number is somebody else's by now */
	expect(CHECK_HOST_FAIL, "its processes have died, and requests wait",
	       "nbd-client recover nbd0");
}

/* Each hides those before it. */
static void the_worst_is_told(void **state)
{
	(void)state;
	expect(CHECK_HOST_OK, "", "");
	make_worse();
}

static void what_is_no_trouble(void **state)
{
	(void)state;
	page->data.owed_since_ns = now_ns - 9 * NS_PER_S;
	page->swap = 0; /* a disk has promised nothing */
	stats_guarantee_set(page->guarantees, "memory locked",
			    GUARANTEE_MISSING, "no");
	expect(CHECK_HOST_OK, "", "");
	page->state = STATS_ATTACHING;
	page->link = STATS_LINK_DOWN;
	page->supervised = 0;
	expect(CHECK_HOST_OK, "", "");
}

static void look_at_all(enum check_host_state state, const char *found)
{
	memset(&result, 0, sizeof(result));
	check_host_devices(&check_host_paths, &result);
	assert_string_equal(result.found, found);
	assert_int_equal(result.state, state);
}

static void check_tells_of_all(void **state)
{
	struct stats_page *other;

	(void)state;
	look_at_all(CHECK_HOST_OK, "1, and all is well");
	other = well("nbd1");
	page->supervised = 0;
	look_at_all(CHECK_HOST_WARN,
		    "nbd0: its supervisor has died: nobody would take over");
	other->pid_start++;
	look_at_all(CHECK_HOST_FAIL,
		    "nbd1: its processes have died, and requests wait; and 1 more");
	stats_remove("nbd1", other);
	page->supervised = 1;
	tree_put(dir, "nbd2.stats", "no page");
	memset(&result, 0, sizeof(result));
	check_host_devices(&check_host_paths, &result);
	assert_int_equal(result.state, CHECK_HOST_WARN);
	assert_non_null(strstr(result.found, "cannot be read"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_worst_is_told),
		TEST(what_is_no_trouble),
		TEST(check_tells_of_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
