// SPDX-License-Identifier: GPL-2.0-or-later
/* Tight at the first sign, plentiful after some calm; with files of our own. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/host.h"
#include "nbd-client/pressure.h"

#define TOTAL (1024u * 1024u) /* 1 GiB, in KiB: tight below 64 MiB */
#define TIGHT (TOTAL / 16)
#define PLENTY (2 * TIGHT)

static char dir[64];
static struct pressure p;
static uint64_t now_ns;

static void path_of(const char *file, char *path, size_t bytes)
{
	snprintf(path, bytes, "%s/%s", dir, file);
}

static void put(const char *file, const char *text)
{
	char path[128];
	FILE *f;

	path_of(file, path, sizeof(path));
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void put_meminfo(uint64_t total, uint64_t available)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "MemTotal:       %8llu kB\nMemFree:        %8llu kB\n"
		 "MemAvailable:   %8llu kB\nBuffers:            1024 kB\n",
		 (unsigned long long)total, 1ull, (unsigned long long)available);
	put("meminfo", text);
}

static int set_up(void **state)
{
	char path[128];

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test-pressure.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	path_of("pressure", path, sizeof(path));
	mkdir(path, 0700);
	host_paths.proc = dir;
	put("pressure/memory", "");
	put_meminfo(TOTAL, TOTAL / 2);
	now_ns = 1000 * NS_PER_S;
	return 0;
}

static int tear_down(void **state)
{
	static const char *const files[] = { "pressure/memory", "meminfo",
					     "pressure", "" };
	char path[128];

	(void)state;
	pressure_close(&p);
	for (size_t i = 0; i < 4; i++) {
		path_of(files[i], path, sizeof(path));
		remove(path);
	}
	return 0;
}

/* Seconds go by; a tick in each. */
static void ticks(uint32_t count, uint64_t available)
{
	put_meminfo(TOTAL, available);
	while (count--) {
		now_ns += NS_PER_S;
		pressure_tick(&p, now_ns);
		assert_int_equal(p.available_kbytes, available);
	}
}

static void trigger_as_the_kernel_wants_it(void **state)
{
	char path[128], text[64] = "";
	FILE *f;

	(void)state;
	pressure_open(&p, now_ns);
	assert_true(p.trigger_fd >= 0);
	path_of("pressure/memory", path, sizeof(path));
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fread(text, 1, sizeof(text), f), 20);
	fclose(f);
	assert_memory_equal(text, "some 100000 1000000", 20);
	assert_false(p.tight);
	assert_true(pressure_is_plentiful(&p));
}

/* To the kilobyte, and not plentiful again before twice as much is there. */
static void by_available_memory(void **state)
{
	(void)state;
	pressure_open(&p, now_ns);
	ticks(1, TIGHT);
	assert_false(p.tight);
	assert_false(pressure_is_plentiful(&p)); /* in between: no growing */
	ticks(1, TIGHT - 1);
	assert_true(p.tight);
	assert_int_equal(p.episodes, 1);
	assert_non_null(p.cause);
	ticks(60, PLENTY - 1);
	assert_true(p.tight);
	ticks(4, PLENTY);
	assert_true(p.tight);
	assert_false(pressure_is_plentiful(&p));
	ticks(1, PLENTY);
	assert_false(p.tight);
	assert_true(pressure_is_plentiful(&p));
	ticks(1, 0);
	assert_true(p.tight);
	assert_int_equal(p.episodes, 2);
}

static void by_the_trigger(void **state)
{
	(void)state;
	pressure_open(&p, now_ns);
	pressure_on_trigger(&p, POLLPRI, now_ns);
	assert_true(p.tight);
	for (int i = 0; i < 3; i++) { /* again and again: one episode */
		ticks(4, TOTAL / 2);
		assert_true(p.tight);
		pressure_on_trigger(&p, POLLPRI, now_ns);
	}
	assert_int_equal(p.episodes, 1);
	ticks(4, TOTAL / 2);
	assert_true(p.tight);
	ticks(1, TOTAL / 2);
	assert_false(p.tight);
}

static void trigger_goes_away(void **state)
{
	(void)state;
	pressure_open(&p, now_ns);
	pressure_on_trigger(&p, POLLPRI | POLLERR, now_ns);
	assert_int_equal(p.trigger_fd, -1);
	assert_false(p.tight);
	ticks(1, 0);
	assert_true(p.tight);
}

static void without_psi(void **state)
{
	char path[128];

	(void)state;
	path_of("pressure/memory", path, sizeof(path));
	remove(path);
	pressure_open(&p, now_ns);
	assert_int_equal(p.trigger_fd, -1);
	ticks(1, TIGHT - 1);
	assert_true(p.tight);
}

/* Then there is PSI alone, and memory is plentiful when it is silent. */
static void without_meminfo(void **state)
{
	char path[128];

	(void)state;
	path_of("meminfo", path, sizeof(path));
	remove(path);
	pressure_open(&p, now_ns);
	assert_true(pressure_is_plentiful(&p));
	pressure_on_trigger(&p, POLLPRI, now_ns);
	assert_true(p.tight);
	pressure_tick(&p, now_ns + 5 * NS_PER_S - 1);
	assert_true(p.tight);
	pressure_tick(&p, now_ns + 5 * NS_PER_S);
	assert_false(p.tight);
}

static void nonsense_is_no_sign(void **state)
{
	(void)state;
	pressure_open(&p, now_ns);
	put("meminfo", "MemTotal: many\nMemAvailable: none\n");
	pressure_tick(&p, now_ns + NS_PER_S);
	put("meminfo", "");
	pressure_tick(&p, now_ns + 2 * NS_PER_S);
	assert_false(p.tight);
}

/* A sixteenth of a large host would be too much to ask for. */
static void large_hosts(void **state)
{
	(void)state;
	put_meminfo(512ull << 20, 256u << 10);
	pressure_open(&p, now_ns);
	assert_int_equal(p.tight_below_kbytes, 256u << 10);
	assert_false(p.tight);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(trigger_as_the_kernel_wants_it),
		TEST(by_available_memory),
		TEST(by_the_trigger),
		TEST(trigger_goes_away),
		TEST(without_psi),
		TEST(without_meminfo),
		TEST(nonsense_is_no_sign),
		TEST(large_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
