/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of /sys and /dev as they show our devices, on a tree of our own. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "nbd-client/blockdev.h"
#include "nbd-client/nbd_sysfs.h"
#include "nbd-client/stats.h"

static char tree[64], sys_root[80], dev_root[80], modprobe[96];

static void make_dir(const char *path)
{
	if (mkdir(path, 0755))
		assert_int_equal(errno, EEXIST);
}

/* A file below sys, with the directories on the way to it. */
static void put(const char *name, const char *text)
{
	char path[256], *slash;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", sys_root, name);
	for (slash = strchr(path + strlen(sys_root) + 1, '/'); slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		make_dir(path);
		*slash = '/';
	}
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void get(const char *name, char text[64])
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", sys_root, name);
	file = fopen(path, "r");
	assert_non_null(file);
	text[fread(text, 1, 63, file)] = '\0';
	fclose(file);
}

static void drop(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", sys_root, name);
	assert_int_equal(unlink(path), 0);
}

static int setup(void **state)
{
	(void)state;
	snprintf(tree, sizeof(tree), "/tmp/test-sysfs.XXXXXX");
	if (!mkdtemp(tree))
		return -1;
	snprintf(sys_root, sizeof(sys_root), "%s/sys", tree);
	snprintf(dev_root, sizeof(dev_root), "%s/dev", tree);
	snprintf(modprobe, sizeof(modprobe), "%s/modprobe", tree);
	make_dir(sys_root);
	make_dir(dev_root);
	blockdev_sys_root = sys_root;
	blockdev_dev_root = dev_root;
	blockdev_modprobe = modprobe;
	return 0;
}

static int remove_tree(const char *path)
{
	char *const argv[] = { "rm", "-rf", (char *)path, NULL };
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execvp("rm", argv);
		_exit(1);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static int teardown(void **state)
{
	(void)state;
	return remove_tree(tree);
}

static void every_spelling(void **state)
{
	static const struct {
		const char *text;
		const char *name; /* NULL: none */
	} cases[] = {
		{ "nbd0", "nbd0" },	    { "nbd15", "nbd15" },
		{ "3", "nbd3" },	    { "nbd32767", "nbd32767" },
		{ "nbd32768", NULL },	    { "", NULL },
		{ "nbd", NULL },	    { "nbd01", NULL },
		{ "nbd-1", NULL },	    { "nbd1p1", NULL },
		{ "sda", NULL },	    { "nbd 1", NULL },
		{ "nbd0\n", NULL },	    { "NBD0", NULL },
		{ "/nbd0", NULL },	    { "4294967296", NULL },
		{ "ublkb0", "ublkb0" },	    { "ublkb1048575", "ublkb1048575" },
		{ "ublkb1048576", NULL },   { "ublkb", NULL },
		{ "ublkc0", NULL },	    { "ublkb00", NULL },
	};
	char path[256], link[256];
	struct blockdev b = { .index = 77 };
	struct err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(&err, 0, sizeof(err));
		b.index = 77;
		if (!cases[i].name) {
			assert_int_equal(blockdev_parse(cases[i].text, &b,
							&err), -EINVAL);
			assert_int_equal(err.exit_code, X_USAGE);
			assert_int_equal(b.index, 77);
			continue;
		}
		assert_int_equal(blockdev_parse(cases[i].text, &b, NULL), 0);
		assert_string_equal(b.name, cases[i].name);
	}
	/* the device need not exist */
	snprintf(path, sizeof(path), "%s/nbd7", dev_root);
	assert_int_equal(blockdev_parse(path, &b, NULL), 0);
	assert_int_equal(b.index, 7);
	snprintf(path, sizeof(path), "%s/ublkb8", dev_root);
	assert_int_equal(blockdev_parse(path, &b, NULL), 0);
	assert_int_equal(b.front, FRONT_UBLK);
	assert_int_equal(b.index, 8);
	assert_string_equal(b.path, "/dev/ublkb8");
	snprintf(path, sizeof(path), "%s/7", dev_root);
	assert_int_equal(blockdev_parse(path, &b, NULL), -EINVAL);
	/* a link to one, and a detour */
	snprintf(path, sizeof(path), "%s/nbd9", dev_root);
	assert_true(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) ==
		    0);
	snprintf(link, sizeof(link), "%s/link", dev_root);
	assert_int_equal(symlink("nbd9", link), 0);
	assert_int_equal(blockdev_parse(link, &b, NULL), 0);
	assert_string_equal(b.path, "/dev/nbd9");
	snprintf(path, sizeof(path), "%s/../dev/./nbd9", dev_root);
	assert_int_equal(blockdev_parse(path, &b, NULL), 0);
	assert_int_equal(b.index, 9);
}

static void the_driver_is_loaded(void **state)
{
	char script[256];
	struct err err = { 0 };
	FILE *file;

	(void)state;
	if (geteuid() != 0) {
		assert_int_equal(blockdev_load("nbd", &err), -EPERM);
		assert_int_equal(err.exit_code, X_PERMISSION);
		skip();
	}
	/* no modprobe */
	assert_int_equal(blockdev_load("nbd", &err), -ENOENT);
	assert_int_equal(err.exit_code, X_KERNEL);
	/* one that fails */
	file = fopen(modprobe, "w");
	fputs("#!/bin/sh\nexit 1\n", file);
	fclose(file);
	chmod(modprobe, 0755);
	assert_int_equal(blockdev_load("nbd", &err), -ENODEV);
	assert_int_equal(err.exit_code, X_KERNEL);
	/* one that works */
	snprintf(script, sizeof(script),
		 "#!/bin/sh\n[ \"$*\" = '-q nbd' ] && mkdir -p "
		 "%s/module/nbd\n", sys_root);
	file = fopen(modprobe, "w");
	fputs(script, file);
	fclose(file);
	assert_int_equal(blockdev_load("nbd", &err), 0);
	/* and is not asked again */
	unlink(modprobe);
	assert_int_equal(blockdev_load("nbd", &err), 0);
}

static void free_ones_are_found(void **state)
{
	uint32_t index = 77;
	pid_t pid = 0;

	(void)state;
	/* none at all: the kernel will make the first */
	assert_int_equal(nbd_sysfs_find_free(&index, NULL), 0);
	assert_int_equal(index, 0);
	put("block/nbd0/pid", "123\n");
	put("block/nbd1/pid", "124\n");
	put("block/nbd3/size", "0\n");
	assert_int_equal(nbd_sysfs_find_free(&index, NULL), 0);
	assert_int_equal(index, 3);
	assert_false(blockdev_exists("nbd2"));
	assert_true(blockdev_exists("nbd3"));
	assert_int_equal(blockdev_queues("nbd3"), 0);
	put("block/nbd3/mq/0/cpu_list", "0, 2\n");
	put("block/nbd3/mq/1/cpu_list", "1, 3\n");
	assert_int_equal(blockdev_queues("nbd3"), 2);
	put("block/nbd3/pid", "9\n");
	assert_int_equal(nbd_sysfs_find_free(&index, NULL), 0);
	assert_int_equal(index, 2);
	assert_int_equal(nbd_sysfs_pid(1, &pid), 0);
	assert_int_equal(pid, 124);
	assert_int_equal(nbd_sysfs_pid(2, &pid), -ENOENT);
	assert_int_equal(pid, 124);
}

static void make_queue(const char *scheduler, const char *max_sectors)
{
	put("block/nbd0/queue/scheduler", scheduler);
	put("block/nbd0/queue/wbt_lat_usec", "2000\n");
	put("block/nbd0/queue/io_timeout", "30000\n");
	put("block/nbd0/queue/max_sectors_kb", max_sectors);
	put("block/nbd0/queue/nr_requests", "64\n");
}

static void tuning_is_read_back(void **state)
{
	struct stats_guarantee rows[STATS_GUARANTEES] = { 0 };
	char text[64];

	(void)state;
	make_queue("none [mq-deadline]\n", "1280\n");
	assert_int_equal(blockdev_limit("nbd0", 128 * KIB, NULL), 0);
	get("block/nbd0/queue/max_sectors_kb", text);
	assert_string_equal(text, "128");
	/* our tree answers "none" where the kernel says "[none] ..." */
	assert_int_equal(blockdev_tune("nbd0", 64 * KIB, 0, rows, NULL), 0);
	get("block/nbd0/queue/max_sectors_kb", text);
	assert_string_equal(text, "64");
	get("block/nbd0/queue/scheduler", text);
	assert_string_equal(text, "none");
	get("block/nbd0/queue/wbt_lat_usec", text);
	assert_string_equal(text, "0");
	get("block/nbd0/queue/io_timeout", text);
	assert_string_equal(text, "1000");
	assert_int_equal(rows[0].state, GUARANTEE_OK);
	assert_string_equal(rows[0].detail, "max_sectors_kb 64, scheduler "
					    "none, wbt off, io_timeout 1 s");
	get("block/nbd0/queue/nr_requests", text);
	assert_string_equal(text, "64\n");
	memset(rows, 0, sizeof(rows));
	assert_int_equal(blockdev_tune("nbd0", 64 * KIB, 63, rows, NULL), 0);
	get("block/nbd0/queue/nr_requests", text);
	assert_string_equal(text, "63");
	assert_int_equal(rows[0].state, GUARANTEE_OK);
	assert_non_null(strstr(rows[0].detail, "1 s, nr_requests 63"));
}

static void what_cannot_be_tuned_is_told(void **state)
{
	struct stats_guarantee rows[STATS_GUARANTEES] = { 0 };
	struct err err = { 0 };
	char path[256];

	(void)state;
	assert_int_equal(blockdev_limit("nbd0", 128 * KIB, &err), -ENOENT);
	/* no write-back throttling in this kernel: fine */
	make_queue("[none]\n", "1280\n");
	drop("block/nbd0/queue/wbt_lat_usec");
	assert_int_equal(blockdev_tune("nbd0", 128 * KIB, 0, rows, NULL), 0);
	assert_int_equal(rows[0].state, GUARANTEE_OK);
	/* no request timer: lost requests are found late */
	memset(rows, 0, sizeof(rows));
	drop("block/nbd0/queue/io_timeout");
	assert_int_equal(blockdev_tune("nbd0", 128 * KIB, 0, rows, NULL), 0);
	assert_int_equal(rows[0].state, GUARANTEE_DEGRADED);
	assert_non_null(strstr(rows[0].detail, "queue/io_timeout"));
	/* requests could exceed a slot: no */
	memset(rows, 0, sizeof(rows));
	drop("block/nbd0/queue/max_sectors_kb");
	snprintf(path, sizeof(path), "%s/block/nbd0/queue/max_sectors_kb",
		 sys_root);
	make_dir(path);
	assert_true(blockdev_tune("nbd0", 128 * KIB, 0, rows, &err) < 0);
	assert_int_equal(rows[0].state, GUARANTEE_MISSING);
	assert_int_equal(err.exit_code, X_FAILURE);
}

/* A value that the kernel silently keeps. */
static void a_limit_that_does_not_stick(void **state)
{
	struct stats_guarantee rows[STATS_GUARANTEES] = { 0 };
	char path[256];

	(void)state;
	make_queue("[none]\n", "1280\n");
	snprintf(path, sizeof(path), "%s/block/nbd0/queue/max_sectors_kb",
		 sys_root);
	drop("block/nbd0/queue/max_sectors_kb");
	/* writes vanish, reads yield nothing */
	assert_int_equal(symlink("/dev/null", path), 0);
	assert_true(blockdev_tune("nbd0", 128 * KIB, 0, rows, NULL) < 0);
	assert_int_equal(rows[0].state, GUARANTEE_MISSING);
}

static void sizes_and_back_ends(void **state)
{
	char text[64];
	uint64_t bytes;

	(void)state;
	put("block/nbd0/size", "2097152\n");
	assert_int_equal(blockdev_size("nbd0", &bytes), 0);
	assert_true(bytes == 1ull << 30);
	assert_int_equal(nbd_sysfs_backend(0, text, sizeof(text)), -ENOENT);
	put("block/nbd0/backend", "nbd://h/x\n");
	assert_int_equal(nbd_sysfs_backend(0, text, sizeof(text)), 0);
	assert_string_equal(text, "nbd://h/x");
	put("block/nbd0/size", "junk\n");
	assert_int_equal(blockdev_size("nbd0", &bytes), -EINVAL);
}

static void *appear(void *arg)
{
	char path[256];

	(void)arg;
	usleep(30000);
	put("block/nbd0/size", "2049\n");
	snprintf(path, sizeof(path), "%s/nbd0", dev_root);
	mknod(path, S_IFBLK | 0600, makedev(43, 0));
	drop("block/nbd0/pid");
	return NULL;
}

static void waiting_has_an_end(void **state)
{
	struct err err = { 0 };
	char path[256];
	pthread_t thread;

	(void)state;
	snprintf(path, sizeof(path), "%s/probe", dev_root);
	if (mknod(path, S_IFBLK | 0600, makedev(43, 0)))
		skip(); /* not root */
	put("block/nbd0/size", "0\n");
	put("block/nbd0/dev", "43:0\n");
	put("block/nbd0/pid", "1\n");
	assert_int_equal(blockdev_wait_ready("nbd0", 512, 30, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "udev"));
	assert_int_equal(nbd_sysfs_wait_gone(0, 30, &err), -ETIMEDOUT);
	assert_int_equal(err.exit_code, X_BUSY);
	assert_int_equal(pthread_create(&thread, NULL, appear, NULL), 0);
	/* 2049 sectors and 100 bytes that no sector holds */
	assert_int_equal(blockdev_wait_ready("nbd0", 2049 * 512 + 100, 5000, NULL),
			 0);
	assert_int_equal(nbd_sysfs_wait_gone(0, 5000, NULL), 0);
	pthread_join(thread, NULL);
	assert_int_equal(blockdev_wait_ready("nbd0", 4096, 30, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "expected 4096"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_spelling),
		TEST(the_driver_is_loaded),
		TEST(free_ones_are_found),
		TEST(tuning_is_read_back),
		TEST(what_cannot_be_tuned_is_told),
		TEST(a_limit_that_does_not_stick),
		TEST(sizes_and_back_ends),
		TEST(waiting_has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
