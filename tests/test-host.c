/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of what is known of processes, on a /proc of our own, and of the
 * protection of a process, on the real one in a child.
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
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>

#include <cmocka.h>

#include "nbd-client/host.h"
#include "nbd-client/stats.h"
#include "tests/tree.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static char dir[TREE_BYTES], run_dir[80], proc_dir[80];
static struct stats_guarantee rows[STATS_GUARANTEES];

static void put_process(pid_t pid, const char *name, char state,
			unsigned long start)
{
	char file[64], text[256];

	snprintf(file, sizeof(file), "%d/stat", pid);
	snprintf(text, sizeof(text),
		 "%d (%s) %c 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 %lu "
		 "20 21\n", pid, name, state, start);
	tree_put(proc_dir, file, text);
}

static int setup(void **state)
{
	(void)state;
	memset(rows, 0, sizeof(rows));
	tree_make(dir);
	snprintf(run_dir, sizeof(run_dir), "%s/run", dir);
	snprintf(proc_dir, sizeof(proc_dir), "%s/proc", dir);
	host_paths.run_dir = run_dir;
	host_paths.proc = proc_dir;
	put_process(getpid(), "we) (x", 'S', 55);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	host_paths.run_dir = RUN_DIR;
	host_paths.proc = "/proc";
	return tree_remove(dir);
}
/* ---- /proc ---- */

static void processes_are_known(void **state)
{
	uint64_t start = 0;

	(void)state;
	assert_int_equal(host_process_start(getpid(), &start), 0);
	assert_int_equal(start, 55);
	assert_true(host_process_alive(getpid(), 55));
	assert_false(host_process_alive(getpid(), 56));
	assert_false(host_process_alive(0, 55));
	assert_int_equal(host_process_start(4242, &start), -ENOENT);
	assert_false(host_process_alive(4242, 55));
	tree_put(proc_dir, "4244/stat/no-file", "");
	assert_true(host_process_alive(4244, 55));
	tree_put(proc_dir, "4243/stat", "4243 (cut");
	assert_int_equal(host_process_start(4243, &start), -EINVAL);
	tree_put(proc_dir, "4243/stat", "4243 (cut) S 1 2 3");
	assert_int_equal(host_process_start(4243, &start), -EINVAL);
	assert_int_equal(start, 55);
}

static void faults_are_counted(void **state)
{
	uint64_t minor = 0, major = 0, later = 0;
	volatile uint8_t *page;

	(void)state;
	assert_int_equal(host_faults(gettid(), &minor, &major), 0);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(page != MAP_FAILED);
	*page = 1;
	assert_int_equal(host_faults(gettid(), &later, &major), 0);
	assert_true(later > minor);
	munmap((void *)(uintptr_t)page, 4096);
}

/* ---- Protection, in a child that is thrown away afterwards ---- */

static const struct stats_guarantee *row(const char *name)
{
	const struct stats_guarantee *r = stats_guarantee_find(rows, name);

	assert_non_null(r);
	return r;
}

/* The child's rows and exit status. */
static int in_child(void (*f)(void))
{
	struct stats_guarantee *shared =
		mmap(NULL, sizeof(rows), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = -1;
	pid_t pid;

	assert_true(shared != MAP_FAILED);
	pid = fork();
	if (pid == 0) {
		f();
		memcpy(shared, rows, sizeof(rows));
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	memcpy(rows, shared, sizeof(rows));
	munmap(shared, sizeof(rows));
	return status;
}

static void protect_all(void)
{
	memset(rows, 0, sizeof(rows));
	host_protect_process(rows);
	host_protect_thread("control", HOST_FIFO_CONTROL, rows);
	host_verify(rows);
}

/* Pages of address space: neither brk() nor mmap() leaves it as it is. */
static unsigned long address_space(void)
{
	unsigned long pages = 0;
	char text[128] = "";
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0 ||
	    sscanf(text, "%lu", &pages) != 1)
		_exit(2);
	close(fd);
	return pages;
}

/* More, and larger pieces, than the control thread has at a time. */
static void use_the_heap(void)
{
	unsigned long before;
	void *pieces[17];
	size_t i;

	host_protect_process(rows);
	before = address_space();
	for (i = 0; i < 17; i++) {
		pieces[i] = malloc(i ? 32 * KIB : 256 * KIB);
		if (!pieces[i] || address_space() != before)
			_exit(3);
	}
	for (i = 0; i < 17; i++)
		free(pieces[i]);
	if (address_space() != before)
		_exit(4);
	/* It can fail: this is more than there is. */
	pieces[0] = malloc(2 * MIB);
	if (!pieces[0] || address_space() == before)
		_exit(5);
}

static void the_heap_is_large_enough(void **state)
{
	(void)state;
	if (SANITIZED)
		skip();
	assert_int_equal(in_child(use_the_heap), 0);
}

/* Containers often lack some; then what needs them cannot be tested. */
static bool has_capability(unsigned int number)
{
	char line[128];
	uint64_t caps = 0;
	FILE *file = fopen("/proc/self/status", "r");

	while (file && fgets(line, sizeof(line), file))
		(void)sscanf(line, "CapEff: %lx", &caps);
	if (file)
		fclose(file);
	return caps >> number & 1;
}

static void everything_is_protected(void **state)
{
	static const struct {
		const char *name;
		unsigned int capability;
	} wanted[] = {
		{ HOST_ROW_MEMORY, CAP_IPC_LOCK },
		{ HOST_ROW_THP, CAP_IPC_LOCK },
		{ HOST_ROW_STACK, CAP_IPC_LOCK },
		{ HOST_ROW_FIFO, CAP_SYS_NICE },
		{ HOST_ROW_OOM, CAP_SYS_RESOURCE },
		{ HOST_ROW_FLUSHER, CAP_SYS_RESOURCE },
	};
	bool all = true;
	size_t i;

	(void)state;
	/* a sanitizer's shadow memory is too large to be locked */
	if (SANITIZED)
		skip();
	assert_int_equal(in_child(protect_all), 0);
	for (i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		const struct stats_guarantee *r = row(wanted[i].name);

		print_message("%s: %s\n", r->name, r->detail);
		if (has_capability(wanted[i].capability))
			assert_int_equal(r->state, GUARANTEE_OK);
		else
			all = false;
	}
	if (!all)
		skip();
	assert_null(host_worst(rows));
}

static void be_urgent_and_not(void)
{
	struct sched_param param;

	host_protect_thread("data", HOST_FIFO_DATA, rows);
	host_thread_urgent(gettid(), 0);
	if (sched_getscheduler(0) != SCHED_OTHER)
		_exit(3);
	host_thread_urgent(gettid(), HOST_FIFO_DATA);
	if (sched_getscheduler(0) != SCHED_FIFO || sched_getparam(0, &param) ||
	    param.sched_priority != HOST_FIFO_DATA)
		_exit(4);
}

static void urgency_comes_and_goes(void **state)
{
	(void)state;
	if (!has_capability(CAP_SYS_NICE))
		skip();
	assert_int_equal(in_child(be_urgent_and_not), 0);
}

static void undo_some(void)
{
	struct sched_param param = { 0 };

	memset(rows, 0, sizeof(rows));
	host_protect_process(rows);
	host_protect_thread("control", HOST_FIFO_CONTROL, rows);
	/* what a library might do behind our back */
	sched_setscheduler(0, SCHED_OTHER, &param);
	munlockall();
	host_verify(rows);
}

/* A check that cannot fail is none. */
static void the_seal_notices(void **state)
{
	(void)state;
	if (!has_capability(CAP_IPC_LOCK) || !has_capability(CAP_SYS_NICE) ||
	    SANITIZED)
		skip();
	assert_int_equal(in_child(undo_some), 0);
	assert_int_equal(row(HOST_ROW_MEMORY)->state, GUARANTEE_MISSING);
	assert_int_equal(row(HOST_ROW_FIFO)->state, GUARANTEE_MISSING);
	assert_non_null(host_worst(rows));
}

static void unlock_one(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memset(rows, 0, sizeof(rows));
	host_protect_process(rows);
	munlock(page, 4096);
	host_verify(rows);
}

static void one_unlocked_page_is_noticed(void **state)
{
	(void)state;
	if (!has_capability(CAP_IPC_LOCK) || SANITIZED)
		skip();
	assert_int_equal(in_child(unlock_one), 0);
	assert_int_equal(row(HOST_ROW_MEMORY)->state, GUARANTEE_MISSING);
	assert_non_null(strstr(row(HOST_ROW_MEMORY)->detail, "1 mappings"));
}

static void as_nobody(void)
{
	/* keeps no capability */
	if (setgid(65534) || setuid(65534))
		_exit(1);
	protect_all();
}

static void without_privilege_all_is_missing(void **state)
{
	(void)state;
	if (geteuid() != 0 || SANITIZED)
		skip();
	assert_int_equal(in_child(as_nobody), 0);
	assert_int_equal(row(HOST_ROW_OOM)->state, GUARANTEE_MISSING);
	assert_int_equal(row(HOST_ROW_FLUSHER)->state, GUARANTEE_MISSING);
	assert_int_equal(row(HOST_ROW_FIFO)->state, GUARANTEE_MISSING);
	assert_non_null(strstr(row(HOST_ROW_FIFO)->detail, "CAP_SYS_NICE"));
}

/*
 * Out of an initramfs: a tmpfs is the root, and process 1 of its /proc has the
 * same one, then another. Exit status 2: what has begun elsewhere stays there.
 */
static void follow_root(void)
{
	struct stat before, after;

	if (unshare(CLONE_NEWNS) || mount("", "/", "", MS_REC | MS_PRIVATE, "") ||
	    mount("tmpfs", dir, "tmpfs", 0, "") || chroot(dir) || chdir("/"))
		_exit(1);
	host_paths.proc = "/proc";
	tree_put("", "proc/self/ns/mnt", "");
	tree_put("", "system/there", "");
	tree_link("/proc", "1/ns/mnt", "/proc/self/ns/mnt");
	tree_link("/proc", "1/root", "/system");
	host_watch_root();
	host_follow_root();
	if (!access("/there", F_OK))
		_exit(2);
	tree_drop("/proc", "1/root");
	tree_link("/proc", "1/root", "/");
	host_watch_root();
	host_follow_root();
	if (!access("/there", F_OK))
		_exit(3);
	tree_drop("/proc", "1/root");
	tree_link("/proc", "1/root", "/system");
	/* And /proc goes along, so that it cannot be found by its name. */
	if (rename("/proc", "/system/proc"))
		_exit(4);
	host_follow_root();
	if (access("/there", F_OK) || stat(".", &before) || stat("/", &after) ||
	    before.st_ino != after.st_ino)
		_exit(5);
}

static void the_root_is_followed(void **state)
{
	(void)state;
	if (!has_capability(CAP_SYS_ADMIN) || !has_capability(CAP_SYS_CHROOT))
		skip();
	assert_int_equal(in_child(follow_root), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(processes_are_known),
		cmocka_unit_test(faults_are_counted),
		cmocka_unit_test(the_heap_is_large_enough),
		cmocka_unit_test(everything_is_protected),
		cmocka_unit_test(urgency_comes_and_goes),
		cmocka_unit_test(the_seal_notices),
		cmocka_unit_test(one_unlocked_page_is_noticed),
		cmocka_unit_test(without_privilege_all_is_missing),
		TEST(the_root_is_followed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
