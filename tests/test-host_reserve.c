/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the shared ledger and of the sysctls, on a /proc of our own.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/host.h"
#include "nbd-client/stats.h"
#include "tests/tree.h"

#define SHARED HOST_SHARED_KBYTES

static char dir[TREE_BYTES], run_dir[80], proc_dir[80];
static struct stats_guarantee rows[STATS_GUARANTEES];
static char note[HOST_NOTE_BYTES];

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

static void put_sysctl(const char *name, unsigned long value)
{
	char file[64], text[32];

	snprintf(file, sizeof(file), "sys/vm/%s", name);
	snprintf(text, sizeof(text), "%lu\n", value);
	tree_put(proc_dir, file, text);
}

static void put_min_free(unsigned long kbytes)
{
	put_sysctl("min_free_kbytes", kbytes);
}

/* "BOOST SCALE COMPACT", "-" for one that is not there. */
static const char *others(void)
{
	static const char *const names[] = { "watermark_boost_factor",
					     "watermark_scale_factor",
					     "compact_unevictable_allowed" };
	static char text[100];
	size_t i, used = 0;

	for (i = 0; i < 3; i++) {
		char path[160], value[32] = "-";
		FILE *file;

		snprintf(path, sizeof(path), "%s/sys/vm/%s", proc_dir,
			 names[i]);
		file = fopen(path, "r");
		if (file) {
			assert_int_equal(fscanf(file, "%31s", value), 1);
			fclose(file);
		}
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "%s%s", used ? " " : "", value);
	}
	return text;
}

static void put_others(unsigned long boost, unsigned long scale,
		       unsigned long compact)
{
	put_sysctl("watermark_boost_factor", boost);
	put_sysctl("watermark_scale_factor", scale);
	put_sysctl("compact_unevictable_allowed", compact);
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

/* As host_reserve_raise(), which takes more than most tests vary. */
static int raise_by(const char *name, uint64_t kbytes, uint64_t demanded,
		    struct err *err)
{
	const struct host_ask ask = {
		.reserve = true,
		.sysctls = true,
		.device_kbytes = kbytes,
		.shared_kbytes = SHARED,
		.explicit_kbytes = demanded,
	};

	return host_reserve_raise(name, &ask, rows, err);
}

/* A device that another process, 4242, has entered. */
static void put_other(uint64_t original, uint64_t set, uint64_t pending,
		      uint64_t kbytes)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "nbd-client-ledger 2\n"
		 "sysctl min_free_kbytes original=%lu set=%lu pending=%lu\n"
		 "device nbd9 pid=4242 start=99 kbytes=%lu shared=%u "
		 "explicit=0 asks=1\n",
		 original, set, pending, kbytes, SHARED);
	tree_put(run_dir, "ledger", text);
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
	tree_put(proc_dir, "meminfo", "MemTotal:        1048576 kB\n");
	put_min_free(4000);
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
/* ---- The ledger ---- */

static void one_device(void **state)
{
	(void)state;
	assert_int_equal(raise_by("nbd0", 1000, 0, NULL), 0);
	assert_int_equal(min_free(), SHARED + 1000);
	assert_int_equal(rows[0].state, GUARANTEE_OK);
	assert_string_equal(rows[0].name, HOST_ROW_RESERVE);
	/* the same name again: instead, not besides */
	assert_int_equal(raise_by("nbd0", 2000, 0, NULL), 0);
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
	assert_int_equal(raise_by("nbd0", 1000, 0, NULL), 0);
	assert_int_equal(raise_by("nbd1", 500, 0, NULL), 0);
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
	assert_int_equal(raise_by("nbd0", 1000, 0, NULL), 0);
	assert_int_equal(min_free(), 100000);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(min_free(), 100000);
}

static void the_user_may_insist(void **state)
{
	(void)state;
	/* an eighth of 1 GiB is the limit ... */
	assert_int_equal(raise_by("nbd0", 1 << 20, 0, NULL),
			 0);
	assert_int_equal(min_free(), 131072);
	assert_int_equal(rows[0].state, GUARANTEE_DEGRADED);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	/* ... unless the user says what he wants */
	assert_int_equal(raise_by("nbd0", 1 << 20, 200000, NULL), 0);
	assert_int_equal(min_free(), 200000);
	assert_int_equal(rows[0].state, GUARANTEE_OK);
	assert_int_equal(raise_by("nbd1", 1000, 0, NULL), 0);
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
	assert_int_equal(raise_by("nbd0", 50, 0, NULL), 0);
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
	assert_int_equal(raise_by("nbd0", 50, 0, NULL), 0);
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
	tree_put(run_dir, "ledger",
	    "nbd-client-ledger 2\n"
	    "sysctl min_free_kbytes original=4000 set=17000 pending=4000\n");
	put_min_free(17000);
	assert_int_equal(host_drop_stale(note, NULL), 0);
	assert_int_equal(min_free(), 4000);
	assert_false(ledger_there());
}

static void a_foreign_value_is_kept(void **state)
{
	(void)state;
	assert_int_equal(raise_by("nbd0", 1000, 0, NULL), 0);
	put_min_free(9999);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(min_free(), 9999);
	assert_non_null(strstr(note, "stays at 9999"));
	assert_false(ledger_there());

	/* with a second device there: neither lowered nor raised again */
	put_min_free(4000);
	assert_int_equal(raise_by("nbd0", 1000, 0, NULL), 0);
	assert_int_equal(raise_by("nbd1", 1000, 0, NULL), 0);
	put_min_free(9999);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(min_free(), 9999);
	assert_int_equal(host_reserve_release("nbd1", note, NULL), 0);
	assert_int_equal(min_free(), 9999);
	assert_false(ledger_there());

	/* a new device needs more: the foreign value is the original then */
	assert_int_equal(raise_by("nbd0", 1000, 0, NULL), 0);
	put_min_free(7777);
	assert_int_equal(raise_by("nbd1", 1000, 0, NULL), 0);
	assert_int_equal(min_free(), SHARED + 2000);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(host_reserve_release("nbd1", note, NULL), 0);
	assert_int_equal(min_free(), 7777);
}

/* Told things, one after another. */
static char told[1024];

static void on_line(void *arg, const char *subject, const char *text)
{
	size_t used = strlen(told);

	(void)arg;
	snprintf(told + used, sizeof(told) - used, "%s: %s\n", subject, text);
}
static const struct host_tell tell = { .line = on_line };

static const struct stats_guarantee *row(const char *name)
{
	const struct stats_guarantee *r = stats_guarantee_find(rows, name);

	assert_non_null(r);
	return r;
}

static void the_other_sysctls(void **state)
{
	(void)state;
	put_others(15000, 10, 1);
	assert_int_equal(raise_by("nbd0", 1000, 0, NULL), 0);
	/* half of 17384 kB, in 1/10000 of 1048576 kB */
	assert_string_equal(others(), "0 82 0");
	assert_int_equal(row(HOST_ROW_SYSCTLS)->state, GUARANTEE_OK);
	assert_string_equal(row(HOST_ROW_SYSCTLS)->detail,
			    "watermark_boost_factor 0, watermark_scale_factor "
			    "82, compact_unevictable_allowed 0");
	assert_int_equal(raise_by("nbd1", 2000, 0, NULL), 0);
	assert_string_equal(others(), "0 92 0");
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_string_equal(others(), "0 87 0");
	assert_int_equal(host_reserve_release("nbd1", note, NULL), 0);
	assert_string_equal(others(), "15000 10 1");
	assert_string_equal(note, "");
	assert_int_equal(min_free(), 4000);
	assert_false(ledger_there());
	/* not more than 1/32 of memory */
	tree_put(proc_dir, "meminfo", "MemTotal:        200000 kB\n");
	assert_int_equal(raise_by("nbd0", 1000, 0, NULL), 0);
	assert_string_equal(others(), "0 312 0");
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	/* nor less than it was */
	put_others(0, 500, 0);
	assert_int_equal(raise_by("nbd0", 1000, 0, NULL), 0);
	assert_string_equal(others(), "0 500 0");
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_string_equal(others(), "0 500 0");
}

static void a_kernel_without_some(void **state)
{
	char path[128];

	(void)state;
	put_sysctl("watermark_boost_factor", 15000);
	assert_int_equal(raise_by("nbd0", 1000, 0, NULL), 0);
	assert_string_equal(others(), "0 - -");
	assert_int_equal(row(HOST_ROW_SYSCTLS)->state, GUARANTEE_OK);
	/* one of them goes away, as after kexec with a kept /run */
	snprintf(path, sizeof(path), "%s/sys/vm/watermark_boost_factor",
		 proc_dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_false(ledger_there());
	assert_int_equal(raise_by("nbd0", 1000, 0, NULL), 0);
	assert_string_equal(row(HOST_ROW_SYSCTLS)->detail,
			    "this kernel has none of them");
}

/* A device is worse off with it, but not refused. */
static void another_sysctl_that_cannot_be_read(void **state)
{
	struct err err = { 0 };

	(void)state;
	put_others(15000, 10, 1);
	tree_put(proc_dir, "sys/vm/watermark_scale_factor", "rubbish\n");
	assert_int_equal(raise_by("nbd0", 1000, 0, &err), 0);
	assert_string_equal(others(), "0 rubbish 0");
	assert_int_equal(row(HOST_ROW_SYSCTLS)->state, GUARANTEE_DEGRADED);
	assert_non_null(strstr(row(HOST_ROW_SYSCTLS)->detail,
			       "watermark_scale_factor"));
	assert_int_equal(row(HOST_ROW_RESERVE)->state, GUARANTEE_OK);
	/* the rest is restored, and what failed is told */
	assert_int_equal(host_reserve_release("nbd0", note, &err), -EINVAL);
	assert_string_equal(others(), "15000 rubbish 1");
	assert_int_equal(min_free(), 4000);
}

static void foreign_values_are_kept_of_each(void **state)
{
	(void)state;
	put_others(15000, 10, 1);
	assert_int_equal(raise_by("nbd0", 1000, 0, NULL), 0);
	put_others(7, 200, 0);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	/* compact_unevictable_allowed is as we have left it: ours */
	assert_string_equal(others(), "7 200 1");
	assert_non_null(strstr(note, "watermark_boost_factor stays at 7"));
	assert_non_null(strstr(note, "watermark_scale_factor stays at 200"));
	assert_null(strstr(note, "compact"));
	assert_int_equal(min_free(), 4000);
}

/* Each device changes what it asks for, and nothing else. */
static void only_what_is_asked_for(void **state)
{
	struct host_ask ask = { .device_kbytes = 1000, .shared_kbytes = SHARED };

	(void)state;
	put_others(15000, 10, 1);
	ask.reserve = true;
	assert_int_equal(host_reserve_raise("nbd0", &ask, rows, NULL), 0);
	assert_int_equal(min_free(), SHARED + 1000);
	assert_string_equal(others(), "15000 10 1");
	assert_null(stats_guarantee_find(rows, HOST_ROW_SYSCTLS));
	/* changed by somebody else: not ours, so nothing to tell */
	put_others(8, 9, 1);
	ask.reserve = false;
	ask.sysctls = true;
	assert_int_equal(host_reserve_raise("nbd1", &ask, rows, NULL), 0);
	assert_int_equal(min_free(), SHARED + 1000);
	assert_string_equal(others(), "0 82 0");
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(min_free(), 4000);
	assert_string_equal(note, "");
	assert_int_equal(host_reserve_release("nbd1", note, NULL), 0);
	assert_string_equal(others(), "8 9 1");
	assert_string_equal(note, "");
}

static void a_second_device_adds_its_own_part(void **state)
{
	struct host_ask ask = { .reserve = true, .device_kbytes = 1000,
				.shared_kbytes = 20000 };

	(void)state;
	assert_int_equal(host_reserve_raise("nbd0", &ask, rows, NULL), 0);
	assert_int_equal(min_free(), 21000);
	ask.device_kbytes = 300;
	assert_int_equal(host_reserve_raise("nbd1", &ask, rows, NULL), 0);
	assert_int_equal(min_free(), 21300);
	/* a card has come up meanwhile: its difference, not all of it again */
	ask.device_kbytes = 20;
	ask.shared_kbytes = 24000;
	assert_int_equal(host_reserve_raise("nbd2", &ask, rows, NULL), 0);
	assert_int_equal(min_free(), 25320);
	assert_int_equal(host_reserve_release("nbd2", note, NULL), 0);
	assert_int_equal(min_free(), 21300);
	assert_int_equal(host_reserve_release("nbd0", note, NULL), 0);
	assert_int_equal(min_free(), 20300);
}

static void recovery_tells_what_it_does(void **state)
{
	(void)state;
	*told = '\0';
	assert_int_equal(host_reserve_recover(&tell, NULL), 0);
	assert_string_equal(told, "");
	assert_int_equal(access(run_dir, F_OK), -1);

	put_others(15000, 10, 1);
	assert_int_equal(raise_by("nbd0", 1000, 0, NULL), 0);
	put_sysctl("compact_unevictable_allowed", 5);
	/* we live: nothing to do */
	assert_int_equal(host_reserve_recover(&tell, NULL), 0);
	assert_string_equal(told, "");
	assert_int_equal(min_free(), SHARED + 1000);
	put_process(getpid(), "another", 'S', 56);
	assert_int_equal(host_reserve_recover(&tell, NULL), 0);
	assert_int_equal(min_free(), 4000);
	assert_string_equal(others(), "15000 10 5");
	assert_false(ledger_there());
	assert_non_null(strstr(told, "nbd0: process "));
	assert_non_null(strstr(told, "died: its 1000 KiB"));
	assert_non_null(strstr(told, "vm.min_free_kbytes: 4000, was 17384: as "
				     "before"));
	assert_non_null(strstr(told, "vm.watermark_boost_factor: 15000, was 0"));
	assert_non_null(strstr(told, "vm.compact_unevictable_allowed: stays at "
				     "5: somebody else"));
	*told = '\0';
	assert_int_equal(host_reserve_recover(&tell, NULL), 0);
	assert_string_equal(told, "");
}

/* It died amid writing the ledger, and may have been the first to do so. */
static void half_a_ledger_is_removed(void **state)
{
	char path[128];

	(void)state;
	tree_put(run_dir, "ledger.new", "nbd-client-led");
	snprintf(path, sizeof(path), "%s/ledger.new", run_dir);
	assert_int_equal(host_reserve_recover(&tell, NULL), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_false(ledger_there());
}

static void what_cannot_be_written(void **state)
{
	struct err err = { 0 };
	char path[128];

	(void)state;
	/* writes vanish: read back as something else */
	snprintf(path, sizeof(path), "%s/sys/vm/min_free_kbytes", proc_dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(raise_by("nbd0", 1000, 0, &err),
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
		"nbd-client-ledger 1\n",
		"nbd-client-ledger 2\nrubbish\n",
		("nbd-client-ledger 2\n"
		 "sysctl swappiness original=1 set=1 pending=1\n"),
		"nbd-client-ledger 2\ndevice nbd0 pid=1\n",
	};
	struct err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		tree_put(run_dir, "ledger", texts[i]);
		memset(&err, 0, sizeof(err));
		assert_int_equal(raise_by("nbd0", 1, 0, &err),
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
	assert_int_equal(raise_by("nbd0", 1000, 0, NULL), 0);
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
		rc = raise_by(name, 1, 0, NULL);
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
		TEST(the_other_sysctls),
		TEST(a_kernel_without_some),
		TEST(another_sysctl_that_cannot_be_read),
		TEST(foreign_values_are_kept_of_each),
		TEST(only_what_is_asked_for),
		TEST(a_second_device_adds_its_own_part),
		TEST(recovery_tells_what_it_does),
		TEST(half_a_ledger_is_removed),
		TEST(what_cannot_be_written),
		TEST(a_damaged_ledger_is_told),
		TEST(the_lock_is_waited_for),
		TEST(nothing_stale_makes_no_directory),
		TEST(full_ledgers_refuse),
		cmocka_unit_test(needs_are_sums),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
