/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the shared ledger, on a /proc of our own, and of the protection of a
 * process, on the real one in a child.
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
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>

#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/host.h"
#include "nbd-client/stats.h"

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

#define SHARED HOST_SHARED_KBYTES

static char dir[64], run_dir[80], proc_dir[80];
static struct stats_guarantee rows[STATS_GUARANTEES];
static char note[HOST_NOTE_BYTES];

static void put(const char *root, const char *name, const char *text)
{
	char path[256], *slash;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	for (slash = strchr(path + strlen(root), '/'); slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void put_process(pid_t pid, const char *name, char state,
			unsigned long start)
{
	char file[64], text[256];

	snprintf(file, sizeof(file), "%d/stat", pid);
	snprintf(text, sizeof(text),
		 "%d (%s) %c 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 %lu "
		 "20 21\n", pid, name, state, start);
	put(proc_dir, file, text);
}

static void put_min_free(unsigned long kbytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu\n", kbytes);
	put(proc_dir, "sys/vm/min_free_kbytes", text);
}

static uint64_t min_free(void)
{
	uint64_t kbytes = 0;

	assert_int_equal(host_min_free_kbytes(&kbytes), 0);
	return kbytes;
}

static bool ledger_there(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/ledger", run_dir);
	return access(path, F_OK) == 0;
}

/* A device that another process, 4242, has entered. */
static void put_other(uint64_t original, uint64_t set, uint64_t pending,
		      uint64_t kbytes)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "nbd-client-ledger 1\n"
		 "sysctl min_free_kbytes original=%lu set=%lu pending=%lu\n"
		 "device nbd9 pid=4242 start=99 kbytes=%lu explicit=0\n",
		 original, set, pending, kbytes);
	put(run_dir, "ledger", text);
}

static int setup(void **state)
{
	(void)state;
	memset(rows, 0, sizeof(rows));
	snprintf(dir, sizeof(dir), "/tmp/test-host.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(run_dir, sizeof(run_dir), "%s/run", dir);
	snprintf(proc_dir, sizeof(proc_dir), "%s/proc", dir);
	host_paths.run_dir = run_dir;
	host_paths.proc = proc_dir;
	put(proc_dir, "meminfo", "MemTotal:        1048576 kB\n");
	put_min_free(4000);
	put_process(getpid(), "we) (x", 'S', 55);
	return 0;
}

static int teardown(void **state)
{
	char *const argv[] = { "rm", "-rf", dir, NULL };
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0) {
		execvp("rm", argv);
		_exit(1);
	}
	host_paths.run_dir = RUN_DIR;
	host_paths.proc = "/proc";
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

/* ---- The ledger ---- */

static void one_device(void **state)
{
	(void)state;
	assert_int_equal(host_reserve_raise("nbd0", 1000, 0, rows, NULL), 0);
	assert_int_equal(min_free(), SHARED + 1000);
	assert_int_equal(rows[0].state, GUARANTEE_OK);
	assert_string_equal(rows[0].name, HOST_ROW_RESERVE);
	/* the same name again: instead, not besides */
	assert_int_equal(host_reserve_raise("nbd0", 2000, 0, rows, NULL), 0);
	assert_int_equal(min_free(), SHARED + 2000);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_string_equal(note, "");
	assert_int_equal(min_free(), 4000);
	assert_false(ledger_there());
	/* twice does no harm */
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(min_free(), 4000);
}

static void two_devices_share_the_network(void **state)
{
	(void)state;
	assert_int_equal(host_reserve_raise("nbd0", 1000, 0, rows, NULL), 0);
	assert_int_equal(host_reserve_raise("nbd1", 500, 0, rows, NULL), 0);
	assert_int_equal(min_free(), SHARED + 1500);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(min_free(), SHARED + 500);
	assert_int_equal(host_reserve_release("nbd1", note, NULL), 0);
	assert_int_equal(min_free(), 4000);
	assert_string_equal(note, "");
}

static void what_is_large_enough_stays(void **state)
{
	(void)state;
	put_min_free(100000);
	assert_int_equal(host_reserve_raise("nbd0", 1000, 0, rows, NULL), 0);
	assert_int_equal(min_free(), 100000);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(min_free(), 100000);
}

static void the_user_may_insist(void **state)
{
	(void)state;
	/* an eighth of 1 GiB is the limit ... */
	assert_int_equal(host_reserve_raise("nbd0", 1 << 20, 0, rows, NULL),
			 0);
	assert_int_equal(min_free(), 131072);
	assert_int_equal(rows[0].state, GUARANTEE_DEGRADED);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	/* ... unless the user says what he wants */
	assert_int_equal(host_reserve_raise("nbd0", 1 << 20, 200000, rows,
					    NULL), 0);
	assert_int_equal(min_free(), 200000);
	assert_int_equal(rows[0].state, GUARANTEE_OK);
	assert_int_equal(host_reserve_raise("nbd1", 1000, 0, rows, NULL), 0);
	assert_int_equal(min_free(), 200000);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(min_free(), SHARED + 1000);
	assert_int_equal(host_reserve_release("nbd1", note, NULL), 0);
	assert_int_equal(min_free(), 4000);
}

static void the_dead_are_taken_out(void **state)
{
	(void)state;
	/* alone: all is restored */
	put_other(4000, SHARED + 700, SHARED + 700, 700);
	put_min_free(SHARED + 700);
	assert_int_equal(host_drop_stale(note, NULL), 0);
	assert_int_equal(min_free(), 4000);
	assert_false(ledger_there());
	assert_string_equal(note, "");

	/* while it lives it stays */
	put_process(4242, "x", 'S', 99);
	put_other(4000, SHARED + 700, SHARED + 700, 700);
	put_min_free(SHARED + 700);
	assert_int_equal(host_drop_stale(note, NULL), 0);
	assert_int_equal(min_free(), SHARED + 700);
	assert_int_equal(host_reserve_raise("nbd0", 50, 0, rows, NULL), 0);
	assert_int_equal(min_free(), SHARED + 750);

	/* its number now belongs to another process */
	put_process(4242, "x", 'S', 100);
	assert_int_equal(host_drop_stale(note, NULL), 0);
	assert_int_equal(min_free(), SHARED + 50);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(min_free(), 4000);

	/* a zombie is dead, and any operation takes it out */
	put_other(4000, SHARED + 700, SHARED + 700, 700);
	put_min_free(SHARED + 700);
	put_process(4242, "x", 'Z', 99);
	assert_int_equal(host_reserve_raise("nbd0", 50, 0, rows, NULL), 0);
	assert_int_equal(min_free(), SHARED + 50);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(min_free(), 4000);
}

/* Killed between the two savings: either value is known to be ours. */
static void a_crash_loses_nothing(void **state)
{
	(void)state;
	put_other(4000, 4000, SHARED + 700, 700);
	assert_int_equal(host_drop_stale(note, NULL), 0);
	assert_int_equal(min_free(), 4000);
	assert_string_equal(note, "");

	put_other(4000, 4000, SHARED + 700, 700);
	put_min_free(SHARED + 700);
	assert_int_equal(host_drop_stale(note, NULL), 0);
	assert_int_equal(min_free(), 4000);
	assert_string_equal(note, "");

	/* the last one died after taking itself out, before restoring */
	put(run_dir, "ledger",
	    "nbd-client-ledger 1\n"
	    "sysctl min_free_kbytes original=4000 set=17000 pending=4000\n");
	put_min_free(17000);
	assert_int_equal(host_drop_stale(note, NULL), 0);
	assert_int_equal(min_free(), 4000);
	assert_false(ledger_there());
}

static void a_foreign_value_is_kept(void **state)
{
	(void)state;
	assert_int_equal(host_reserve_raise("nbd0", 1000, 0, rows, NULL), 0);
	put_min_free(9999);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(min_free(), 9999);
	assert_non_null(strstr(note, "stays at 9999"));
	assert_false(ledger_there());

	/* with a second device there: neither lowered nor raised again */
	put_min_free(4000);
	assert_int_equal(host_reserve_raise("nbd0", 1000, 0, rows, NULL), 0);
	assert_int_equal(host_reserve_raise("nbd1", 1000, 0, rows, NULL), 0);
	put_min_free(9999);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(min_free(), 9999);
	assert_int_equal(host_reserve_release("nbd1", note, NULL), 0);
	assert_int_equal(min_free(), 9999);
	assert_false(ledger_there());

	/* a new device needs more: the foreign value is the original then */
	assert_int_equal(host_reserve_raise("nbd0", 1000, 0, rows, NULL), 0);
	put_min_free(7777);
	assert_int_equal(host_reserve_raise("nbd1", 1000, 0, rows, NULL), 0);
	assert_int_equal(min_free(), SHARED + 2000);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(host_reserve_release("nbd1", note, NULL), 0);
	assert_int_equal(min_free(), 7777);
}

static void what_cannot_be_written(void **state)
{
	struct err err = { 0 };
	char path[128];

	(void)state;
	/* writes vanish: read back as something else */
	snprintf(path, sizeof(path), "%s/sys/vm/min_free_kbytes", proc_dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(host_reserve_raise("nbd0", 1000, 0, rows, &err),
			 -ENOENT);
	assert_int_equal(rows[0].state, GUARANTEE_MISSING);
	assert_int_equal(err.exit_code, X_FAILURE);
	/* the device is not in the ledger: nothing to give back */
	put_min_free(4000);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(min_free(), 4000);
}

static void a_damaged_ledger_is_told(void **state)
{
	static const char *const texts[] = {
		"",
		"nbd-client-ledger 2\n",
		"nbd-client-ledger 1\nrubbish\n",
		("nbd-client-ledger 1\n"
		 "sysctl swappiness original=1 set=1 pending=1\n"),
		"nbd-client-ledger 1\ndevice nbd0 pid=1\n",
	};
	struct err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		put(run_dir, "ledger", texts[i]);
		memset(&err, 0, sizeof(err));
		assert_int_equal(host_reserve_raise("nbd0", 1, 0, rows, &err),
				 -EBADMSG);
		assert_non_null(strstr(err.text, "damaged"));
		assert_int_equal(min_free(), 4000);
	}
}

static void the_lock_is_waited_for(void **state)
{
	char path[128], byte;
	uint64_t start_ns;
	int pipes[2], fd;
	pid_t pid;

	(void)state;
	mkdir(run_dir, 0755);
	snprintf(path, sizeof(path), "%s/ledger.lock", run_dir);
	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	if (pid == 0) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		flock(fd, LOCK_EX);
		_exit(write(pipes[1], "x", 1) != 1 || usleep(100000));
	}
	assert_int_equal(read(pipes[0], &byte, 1), 1);
	start_ns = clock_now_ns();
	assert_int_equal(host_reserve_raise("nbd0", 1000, 0, rows, NULL), 0);
	assert_true(clock_now_ns() - start_ns > 50 * NS_PER_MS);
	waitpid(pid, NULL, 0);
	assert_int_equal(min_free(), SHARED + 1000);
	close(pipes[0]);
	close(pipes[1]);
}

static void nothing_stale_makes_no_directory(void **state)
{
	(void)state;
	assert_int_equal(host_drop_stale(note, NULL), 0);
	assert_int_equal(access(run_dir, F_OK), -1);
}

static void full_ledgers_refuse(void **state)
{
	char name[16];
	int i, rc = 0;

	(void)state;
	for (i = 0; !rc && i < 100; i++) {
		snprintf(name, sizeof(name), "nbd%d", i);
		rc = host_reserve_raise(name, 1, 0, rows, NULL);
	}
	assert_int_equal(rc, -E2BIG);
	assert_int_equal(i, 65);
	assert_int_equal(min_free(), SHARED + 64);
}

static void needs_are_sums(void **state)
{
	const struct host_needs needs = {
		.link_send_bytes = 3 * KIB,
		.link_receive_bytes = 30 * KIB,
		.front_send_bytes = 300 * KIB,
		.front_receive_bytes = 3000 * KIB,
	};
	const struct host_needs one = { .link_send_bytes = 1 };

	(void)state;
	assert_int_equal(host_needs_kbytes(&needs), 3333 * 8 / 3);
	assert_int_equal(host_needs_kbytes(&one), 1);
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
	put(proc_dir, "4243/stat", "4243 (cut");
	assert_int_equal(host_process_start(4243, &start), -EINVAL);
	put(proc_dir, "4243/stat", "4243 (cut) S 1 2 3");
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_device),
		TEST(two_devices_share_the_network),
		TEST(what_is_large_enough_stays),
		TEST(the_user_may_insist),
		TEST(the_dead_are_taken_out),
		TEST(a_crash_loses_nothing),
		TEST(a_foreign_value_is_kept),
		TEST(what_cannot_be_written),
		TEST(a_damaged_ledger_is_told),
		TEST(the_lock_is_waited_for),
		TEST(nothing_stale_makes_no_directory),
		TEST(full_ledgers_refuse),
		cmocka_unit_test(needs_are_sums),
		TEST(processes_are_known),
		cmocka_unit_test(faults_are_counted),
		cmocka_unit_test(everything_is_protected),
		cmocka_unit_test(the_seal_notices),
		cmocka_unit_test(one_unlocked_page_is_noticed),
		cmocka_unit_test(without_privilege_all_is_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
