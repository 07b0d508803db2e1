/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of swap signatures, on plain files, and of activation on a loop device
 * where root may make one.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "nbd-client/swap.h"

#define AREA_BYTES (1u << 20)

static char dir[64], area[80];

static int setup(void **state)
{
	int fd;

	(void)state;
	/* not /tmp, which may be tmpfs: loop devices need a real file there */
	snprintf(dir, sizeof(dir), "/var/tmp/test-swap.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(area, sizeof(area), "%s/area", dir);
	fd = open(area, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || posix_fallocate(fd, 0, AREA_BYTES))
		return -1;
	return close(fd);
}

static int teardown(void **state)
{
	char path[96];

	(void)state;
	snprintf(path, sizeof(path), "%s/swaps", dir);
	unlink(path);
	unlink(area);
	return rmdir(dir);
}

/* Exit status; -1: could not be run. Its output is thrown away. */
static int run(const char *a, const char *b, const char *c, const char *d)
{
	char *const argv[] = { (char *)a, (char *)b, (char *)c, (char *)d,
			       NULL };
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1);
		execvp(a, argv);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
	    WEXITSTATUS(status) == 127)
		return -1;
	return WEXITSTATUS(status);
}

static void write_at(off_t offset, const void *bytes, size_t length)
{
	int fd = open(area, O_WRONLY | O_CLOEXEC);

	assert_int_equal(pwrite(fd, bytes, length, offset), length);
	close(fd);
}

static void expect(enum swap_content expected, const char *expected_type)
{
	enum swap_content content = SWAP_OTHER;
	char type[SWAP_TYPE_BYTES] = "untouched";

	assert_int_equal(swap_inspect(area, &content, type, NULL), 0);
	assert_int_equal(content, expected);
	assert_string_equal(type, expected_type);
}

static void a_signature_is_written_and_known(void **state)
{
	uint8_t page[65536], uuid[16] = { 0 };
	uint32_t last;
	size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
	int fd;

	(void)state;
	expect(SWAP_EMPTY, "untouched");
	assert_int_equal(swap_format(area, AREA_BYTES, false, NULL), 0);
	expect(SWAP_SIGNATURE, "untouched");

	fd = open(area, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, page, bytes), bytes);
	close(fd);
	assert_memory_equal(page + bytes - 10, "SWAPSPACE2", 10);
	assert_int_equal(page[1024], 1); /* version, little-endian here */
	memcpy(&last, page + 1028, 4);
	assert_int_equal(last, AREA_BYTES / bytes - 1);
	assert_memory_not_equal(page + 1036, uuid, 16);
}

static void mkswaps_are_known(void **state)
{
	(void)state;
	if (run("mkswap", area, NULL, NULL) != 0)
		skip();
	expect(SWAP_SIGNATURE, "untouched");
}

static void other_content_is_kept(void **state)
{
	struct err err = { 0 };

	(void)state;
	if (run("mke2fs", "-qFt", "ext4", area) != 0)
		skip();
	expect(SWAP_OTHER, "ext4");
	assert_int_equal(swap_format(area, AREA_BYTES, false, &err), -EEXIST);
	assert_int_equal(err.exit_code, X_BUSY);
	assert_non_null(strstr(err.text, "ext4"));
	expect(SWAP_OTHER, "ext4");
	/* with force nothing of it is left */
	assert_int_equal(swap_format(area, AREA_BYTES, true, NULL), 0);
	expect(SWAP_SIGNATURE, "untouched");
}

static void partitions_are_content(void **state)
{
	/* an MBR with one Linux partition of 1024 sectors at sector 63 */
	static const uint8_t entry[16] = { 0, 1, 1, 0, 0x83, 1, 1,    1,
					   63, 0, 0, 0, 0,    4, 0, 0 };
	static const uint8_t magic[2] = { 0x55, 0xaa };

	(void)state;
	write_at(446, entry, sizeof(entry));
	write_at(510, magic, sizeof(magic));
	expect(SWAP_OTHER, "dos");
	assert_int_equal(swap_format(area, AREA_BYTES, false, NULL), -EEXIST);
	assert_int_equal(swap_format(area, AREA_BYTES, true, NULL), 0);
	expect(SWAP_SIGNATURE, "untouched");
}

static void data_of_no_kind_is_content(void **state)
{
	(void)state;
	write_at(40000, "somebody's", 10);
	expect(SWAP_OTHER, "unknown data");
	assert_int_equal(swap_format(area, AREA_BYTES, false, NULL), -EEXIST);
}

/* Hibernated, of another page size: not to be overwritten, nor activated. */
static void other_swap_is_no_signature(void **state)
{
	size_t bytes = (size_t)sysconf(_SC_PAGESIZE);

	(void)state;
	assert_int_equal(swap_format(area, AREA_BYTES, false, NULL), 0);
	write_at((off_t)bytes - 10, "S1SUSPEND\0", 10);
	expect(SWAP_OTHER, "swsuspend");
	if (bytes != 4096)
		skip();
	write_at(4086, "\0\0\0\0\0\0\0\0\0\0", 10);
	write_at(16384 - 10, "SWAPSPACE2", 10);
	expect(SWAP_OTHER, "swap of another kind of machine");
}

static void a_signature_is_not_rewritten(void **state)
{
	struct err err = { 0 };

	(void)state;
	assert_int_equal(swap_format(area, AREA_BYTES, false, NULL), 0);
	assert_int_equal(swap_format(area, AREA_BYTES, false, &err), -EEXIST);
}

static void small_ones_are_refused(void **state)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct err err = { 0 };

	(void)state;
	assert_int_equal(swap_format(area, 10 * page - 1, true, &err), -EINVAL);
	assert_int_equal(err.exit_code, X_FAILURE);
	expect(SWAP_EMPTY, "untouched");
	assert_int_equal(swap_format(area, 10 * page, true, NULL), 0);
}

static void what_is_missing(void **state)
{
	enum swap_content content;
	char type[SWAP_TYPE_BYTES];
	struct err err = { 0 };
	bool active;

	(void)state;
	assert_int_equal(swap_inspect("/nowhere", &content, type, &err),
			 -ENOENT);
	assert_int_equal(err.exit_code, X_NOT_FOUND);
	assert_int_equal(swap_format("/nowhere", AREA_BYTES, false, &err),
			 -ENOENT);
	assert_int_equal(swap_is_active("/nowhere", &active), -ENOENT);
	assert_true(swap_activate("/nowhere", -1, &err) < 0);
}

static void the_table_is_read_by_identity(void **state)
{
	char path[96], other[96], strange[96], escaped[128];
	bool active = true;
	FILE *file;

	(void)state;
	snprintf(path, sizeof(path), "%s/swaps", dir);
	swap_table_path = path;
	/* no swap in this kernel */
	assert_int_equal(swap_is_active(area, &active), 0);
	assert_false(active);

	file = fopen(path, "w");
	fputs("Filename\tType\tSize\tUsed\tPriority\n", file);
	fprintf(file, "/nowhere partition 10 0 -2\n");
	fclose(file);
	active = true;
	assert_int_equal(swap_is_active(area, &active), 0);
	assert_false(active);

	/* under another name, with a blank in it */
	snprintf(strange, sizeof(strange), "%s/the area", dir);
	snprintf(escaped, sizeof(escaped), "%s/the\\040area", dir);
	assert_int_equal(link(area, strange), 0);
	file = fopen(path, "a");
	fprintf(file, "%s file 10 0 -3\n", escaped);
	fclose(file);
	assert_int_equal(swap_is_active(area, &active), 0);
	assert_true(active);
	snprintf(other, sizeof(other), "%s", dir);
	assert_int_equal(swap_is_active(other, &active), 0);
	assert_false(active);
	unlink(strange);
	swap_table_path = "/proc/swaps";
}

/* A loop device over the area; empty if there can be none. */
static void make_loop(char device[64])
{
	char script[256], path[96];
	FILE *file;

	*device = '\0';
	snprintf(path, sizeof(path), "%s/loop", dir);
	snprintf(script, sizeof(script), "losetup -f --show %s >%s", area,
		 path);
	if (run("sh", "-c", script, NULL) == 0) {
		file = fopen(path, "r");
		if (file && fgets(device, 64, file))
			device[strcspn(device, "\n")] = '\0';
		if (file)
			fclose(file);
	}
	unlink(path);
}

/* By somebody whose mount name space ends with him. */
static void switch_on_elsewhere(const char *device)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(unshare(CLONE_NEWNS) ||
		      swap_activate(device, -1, NULL));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void on_and_off(void **state)
{
	struct err err = { 0 };
	char device[64];
	bool active;
	int rc;

	(void)state;
	if (geteuid() != 0)
		skip();
	make_loop(device);
	if (!*device)
		skip();
	assert_int_equal(swap_activate(device, -1, &err), -EINVAL);
	assert_int_equal(swap_format(device, AREA_BYTES, false, NULL), 0);
	rc = swap_activate(device, 5, &err);
	if (rc == -EPERM || rc == -ENOSYS) {
		run("losetup", "-d", device, NULL);
		skip();
	}
	assert_int_equal(rc, 0);
	assert_int_equal(swap_is_active(device, &active), 0);
	assert_true(active);
	/* in use: neither twice nor formatted */
	assert_int_equal(swap_activate(device, -1, &err), -EBUSY);
	assert_int_equal(err.exit_code, X_BUSY);
	assert_int_equal(swap_format(device, AREA_BYTES, true, &err), -EBUSY);
	assert_int_equal(swap_deactivate(device, NULL), 0);
	assert_int_equal(swap_is_active(device, &active), 0);
	assert_false(active);
	/* nothing to do is no failure */
	assert_int_equal(swap_deactivate(device, NULL), 0);
	switch_on_elsewhere(device);
	assert_int_equal(swap_is_active(device, &active), 0);
	assert_true(active);
	assert_int_equal(swap_deactivate(device, NULL), 0);
	assert_int_equal(run("losetup", "-d", device, NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_signature_is_written_and_known),
		TEST(mkswaps_are_known),
		TEST(other_content_is_kept),
		TEST(partitions_are_content),
		TEST(data_of_no_kind_is_content),
		TEST(other_swap_is_no_signature),
		TEST(a_signature_is_not_rewritten),
		TEST(small_ones_are_refused),
		TEST(what_is_missing),
		TEST(the_table_is_read_by_identity),
		TEST(on_and_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
