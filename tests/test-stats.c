/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the status page: made, found, mistrusted, removed. */
#include <errno.h>
#include <fcntl.h>
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

#include "nbd-client/host.h"
#include "nbd-client/stats.h"

static char dir[64], run_dir[80];

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test-stats.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	/* not there yet: stats_create() makes it */
	snprintf(run_dir, sizeof(run_dir), "%s/run", dir);
	stats_run_dir = run_dir;
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = { "nbd0", "nbd2", "nbd10", "bad" };
	char path[128];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		stats_remove(names[i], NULL);
	snprintf(path, sizeof(path), "%s/other", run_dir);
	unlink(path);
	rmdir(run_dir);
	return rmdir(dir);
}

static void a_page_is_made_and_found(void **state)
{
	const struct stats_page *seen;
	struct stats_page *page;
	struct stat st;
	char path[128];
	mode_t mask = umask(077);

	(void)state;
	assert_int_equal(stats_create("nbd0", &page, NULL), 0);
	umask(mask);
	snprintf(path, sizeof(path), "%s/nbd0.stats", run_dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(st.st_size, sizeof(*page));

	assert_int_equal(stats_open("nbd0", &seen, NULL), 0);
	assert_int_equal(seen->pid, getpid());
	assert_string_equal(seen->device, "/dev/nbd0");
	assert_int_equal(seen->state, STATS_ATTACHING);
	assert_true(stats_alive(seen));
	/* shared, not a copy */
	page->data.wakeups = 77;
	assert_int_equal(seen->data.wakeups, 77);
	/* another start time: another process */
	page->pid_start++;
	assert_false(stats_alive(seen));
	stats_close(seen);

	stats_remove("nbd0", page);
	assert_int_equal(stats_open("nbd0", &seen, NULL), -ENOENT);
}

static void a_copy_is_of_all_queues(void **state)
{
	static struct stats_page page, copy;

	(void)state;
	page.queues = 3;
	page.data.heartbeat_ns = 50;
	page.more[0].heartbeat_ns = 40;
	page.more[1].heartbeat_ns = 60;
	page.more[2].heartbeat_ns = 1; /* there is no fourth */
	page.data.requests[STATS_READ] = 1;
	page.more[0].requests[STATS_READ] = 2;
	page.more[1].requests[STATS_READ] = 4;
	page.more[2].requests[STATS_READ] = 8;
	page.more[0].latency[STATS_OPS - 1][STATS_BUCKETS - 1] = 3;
	page.more[0].low = page.more[1].low = 1;
	page.more[1].stray_mallocs = 5; /* the last of the counters */
	page.more[0].owed_since_ns = 30;
	page.more[1].owed_since_ns = 20;
	page.data.groups[0].limit_bytes = 10;
	page.more[1].groups[0].limit_bytes = 20;
	assert_int_equal(stats_heartbeat_ns(&page), 40);
	stats_copy(&page, &copy);
	assert_int_equal(copy.data.heartbeat_ns, 40);
	assert_int_equal(copy.data.requests[STATS_READ], 7);
	assert_int_equal(copy.data.latency[STATS_OPS - 1][STATS_BUCKETS - 1],
			 3);
	assert_int_equal(copy.data.low, 1);
	assert_int_equal(copy.data.owed_since_ns, 20);
	assert_int_equal(copy.data.stray_mallocs, 5);
	assert_int_equal(copy.data.groups[0].limit_bytes, 30);
	assert_int_equal(page.data.requests[STATS_READ], 1);
	/* Whatever another process says. */
	page.queues = UINT32_MAX;
	stats_copy(&page, &copy);
	assert_int_equal(copy.data.requests[STATS_READ], 15);
	page.queues = 0;
	stats_copy(&page, &copy);
	assert_int_equal(copy.data.requests[STATS_READ], 1);
}

static void a_living_page_is_not_replaced(void **state)
{
	struct stats_page *page, *second = NULL;
	struct err err = { 0 };

	(void)state;
	assert_int_equal(stats_create("nbd0", &page, NULL), 0);
	assert_int_equal(stats_create("nbd0", &second, &err), -EBUSY);
	assert_int_equal(err.exit_code, X_BUSY);
	assert_null(second);
	/* one of a process that has died is */
	page->pid_start++;
	assert_int_equal(stats_create("nbd0", &second, &err), 0);
	stats_remove("nbd0", page);
	stats_remove("nbd0", second);
}

static void write_file(const char *name, const void *bytes, size_t length)
{
	char path[128];
	FILE *file;

	mkdir(run_dir, 0755);
	snprintf(path, sizeof(path), "%s/%s", run_dir, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	fclose(file);
}

static void other_files_are_refused(void **state)
{
	static struct stats_page page;
	const struct stats_page *seen = NULL;
	struct err err = { 0 };

	(void)state;
	assert_int_equal(stats_open("nbd0", &seen, &err), -ENOENT);
	assert_int_equal(err.exit_code, X_NOT_FOUND);

	/* too short: would be SIGBUS */
	write_file("bad.stats", "x", 1);
	assert_true(stats_open("bad", &seen, &err) < 0);
	assert_int_equal(err.exit_code, X_FAILURE);

	memcpy(page.magic, STATS_MAGIC, sizeof(page.magic));
	page.version = STATS_VERSION + 1;
	page.page_bytes = sizeof(page);
	write_file("bad.stats", &page, sizeof(page));
	assert_int_equal(stats_open("bad", &seen, &err), -EPROTONOSUPPORT);

	page.version = STATS_VERSION;
	memset(page.uri, 'x', sizeof(page.uri));
	write_file("bad.stats", &page, sizeof(page));
	assert_int_equal(stats_open("bad", &seen, &err), -EBADMSG);

	page.magic[0] = 'X';
	write_file("bad.stats", &page, sizeof(page));
	assert_int_equal(stats_open("bad", &seen, &err), -EBADMSG);
	assert_null(seen);
}

/* Another program of the same process: of this version, and of one before. */
static void made_again(void **state)
{
	struct stats_page *first, *again, head;
	const struct stats_page *seen;
	struct err err = { 0 };

	(void)state;
	assert_int_equal(stats_create("nbd0", &first, NULL), 0);
	first->takeovers = 7;
	first->upgrades = 2;
	assert_int_equal(stats_create_again("nbd0", &again, &err), 0);
	assert_ptr_not_equal(again, first);
	assert_int_equal(again->takeovers, 7);
	again->reconnects = 5;
	assert_int_equal(first->reconnects, 5);
	stats_close(again);

	first->version++;
	assert_int_equal(stats_open("nbd0", &seen, &err), -EPROTONOSUPPORT);
	assert_non_null(strstr(err.text, "nbd-client upgrade nbd0"));
	assert_int_equal(stats_read_head("nbd0", &head, &err), 0);
	assert_int_equal(head.pid, getpid());
	assert_int_equal(head.upgrades, 2);
	assert_int_equal(head.takeovers, 0); /* it may lie elsewhere there */
	assert_int_equal(stats_create_again("nbd0", &again, &err), 0);
	assert_int_equal(stats_open("nbd0", &seen, &err), 0);
	assert_int_equal(seen->takeovers, 0);
	assert_int_equal(seen->upgrades, 2);
	stats_close(seen);
	stats_close(again);
	stats_remove("nbd0", first);
	assert_int_equal(stats_read_head("nbd0", &head, &err), -ENOENT);
}

static void collect(const char *name, const struct stats_page *page, void *arg)
{
	char *names = arg;

	(void)page;
	snprintf(names + strlen(names), 64 - strlen(names), "%s ", name);
}

static void each_in_order(void **state)
{
	struct stats_page *pages[3];
	char names[64] = "", path[128];

	(void)state;
	assert_int_equal(stats_each(collect, names), 0);
	assert_string_equal(names, "");
	assert_int_equal(stats_create("nbd10", &pages[0], NULL), 0);
	assert_int_equal(stats_create("nbd0", &pages[1], NULL), 0);
	assert_int_equal(stats_create("nbd2", &pages[2], NULL), 0);
	write_file("bad.stats", "x", 1);
	write_file("other", "x", 1);
	write_file("nbd3.stats.new", "x", 1);
	assert_int_equal(stats_each(collect, names), 1);
	assert_string_equal(names, "nbd0 nbd2 nbd10 ");
	stats_drop_unmade();
	snprintf(path, sizeof(path), "%s/nbd3.stats.new", run_dir);
	assert_int_equal(access(path, F_OK), -1);
	names[0] = '\0';
	assert_int_equal(stats_each(collect, names), 1);
	assert_string_equal(names, "nbd0 nbd2 nbd10 ");
	stats_remove("nbd10", pages[0]);
	stats_remove("nbd0", pages[1]);
	stats_remove("nbd2", pages[2]);
}

static void buckets(void **state)
{
	(void)state;
	assert_int_equal(stats_bucket(0), 0);
	assert_int_equal(stats_bucket(999), 0);
	assert_int_equal(stats_bucket(1000), 1);   /* 1 us < 2^1 */
	assert_int_equal(stats_bucket(2000), 2);   /* 2 us < 2^2 */
	assert_int_equal(stats_bucket(3999), 2);
	assert_int_equal(stats_bucket(4000), 3);
	assert_int_equal(stats_bucket(UINT64_MAX), STATS_BUCKETS - 1);
}

static void percentiles(void **state)
{
	uint64_t counts[STATS_BUCKETS] = { 0 };

	(void)state;
	assert_int_equal(stats_percentile_us(counts, 500), 0);
	counts[3] = 1;
	assert_int_equal(stats_percentile_us(counts, 0), 8);
	assert_int_equal(stats_percentile_us(counts, 500), 8);
	assert_int_equal(stats_percentile_us(counts, 1000), 8);
	counts[3] = 99;
	counts[10] = 1;
	assert_int_equal(stats_percentile_us(counts, 990), 8);
	assert_int_equal(stats_percentile_us(counts, 991), 1024);
	counts[3] = 50;
	counts[10] = 50;
	assert_int_equal(stats_percentile_us(counts, 500), 8);
	assert_int_equal(stats_percentile_us(counts, 501), 1024);
	/* large counts do not overflow */
	counts[3] = UINT64_MAX / 4;
	counts[10] = UINT64_MAX / 4;
	assert_int_equal(stats_percentile_us(counts, 990), 1024);
}

static void silence(void **state)
{
	(void)state;
	assert_int_equal(stats_silent_ns(0, 100), 0);
	assert_int_equal(stats_silent_ns(40, 100), 60);
	assert_int_equal(stats_silent_ns(101, 100), 0);
}

static void rows_only_get_worse(void **state)
{
	struct stats_guarantee rows[STATS_GUARANTEES] = { 0 };
	char name[16];
	int i;

	(void)state;
	assert_null(stats_guarantee_find(rows, "a"));
	stats_guarantee_set(rows, "a", GUARANTEE_OK, "fine");
	stats_guarantee_set(rows, "b", GUARANTEE_MISSING, "first %d", 1);
	stats_guarantee_set(rows, "b", GUARANTEE_MISSING, "second");
	stats_guarantee_set(rows, "b", GUARANTEE_OK, "fine");
	assert_int_equal(rows[0].state, GUARANTEE_OK);
	assert_int_equal(rows[1].state, GUARANTEE_MISSING);
	assert_string_equal(rows[1].detail, "first 1");
	assert_ptr_equal(host_worst(rows), &rows[1]);
	stats_guarantee_set(rows, "a", GUARANTEE_DEGRADED, "less");
	assert_ptr_equal(host_worst(rows), &rows[1]);
	stats_guarantee_replace(rows, "b", GUARANTEE_OK, "mended");
	assert_string_equal(rows[1].detail, "mended");
	assert_ptr_equal(host_worst(rows), &rows[0]);
	/* more than there is room for */
	for (i = 0; i < 2 * STATS_GUARANTEES; i++) {
		snprintf(name, sizeof(name), "row %d", i);
		stats_guarantee_set(rows, name, GUARANTEE_OK, "x");
	}
	snprintf(name, sizeof(name), "row %u", STATS_GUARANTEES - 3);
	assert_non_null(stats_guarantee_find(rows, name));
	snprintf(name, sizeof(name), "row %u", STATS_GUARANTEES - 2);
	assert_null(stats_guarantee_find(rows, name));
}

static void names_for_everything(void **state)
{
	(void)state;
	assert_string_equal(stats_state_name(STATS_LIVE), "live");
	assert_string_equal(stats_link_name(STATS_LINK_UP), "up");
	for (uint32_t link = 0; link < STATS_LINK_STATES; link++)
		assert_string_not_equal(stats_link_name(link), "?");
	assert_string_equal(stats_guarantee_name(GUARANTEE_DEGRADED),
			    "degraded");
	assert_string_equal(stats_op_name(STATS_ZEROES), "zeroes");
	assert_string_equal(stats_state_name(1000), "?");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_page_is_made_and_found),
		TEST(a_copy_is_of_all_queues),
		TEST(a_living_page_is_not_replaced),
		TEST(other_files_are_refused),
		TEST(made_again),
		TEST(each_in_order),
		cmocka_unit_test(buckets),
		cmocka_unit_test(percentiles),
		cmocka_unit_test(silence),
		cmocka_unit_test(rows_only_get_worse),
		cmocka_unit_test(names_for_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
