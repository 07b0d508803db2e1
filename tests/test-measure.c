/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The measures' names, and what leaving one out does to guarantees. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "nbd-client/host.h"
#include "nbd-client/measure.h"
#include "nbd-client/sizing.h"
#include "nbd-client/stats.h"

#define ALL ((1u << MEASURES) - 1)

static struct stats_guarantee rows[STATS_GUARANTEES];

static int setup(void **state)
{
	(void)state;
	memset(rows, 0, sizeof(rows));
	measure_leave_out(0, rows);
	return 0;
}

static void names_and_bits(void **state)
{
	char text[MEASURE_TEXT_BYTES];
	uint32_t bits = 0;

	(void)state;
	assert_int_equal(measure_parse("fifo", &bits, NULL), 0);
	assert_int_equal(bits, 1u << MEASURE_FIFO);
	assert_int_equal(measure_parse("sysctls,socket-memory", &bits, NULL),
			 0);
	assert_int_equal(bits, 1u << MEASURE_SYSCTLS |
				       1u << MEASURE_SOCKET_MEMORY);
	/* all of them, there and back; nothing is cut */
	measure_format(ALL, text, sizeof(text));
	assert_true(strlen(text) < sizeof(text) - 1);
	assert_int_equal(measure_parse(text, &bits, NULL), 0);
	assert_int_equal(bits, ALL);
	measure_format(0, text, sizeof(text));
	assert_string_equal(text, "");
}

static void what_is_no_measure(void **state)
{
	static const char *const texts[] = { "", ",", "fif", "fifos", "fifo,",
					     ",fifo", "fifo,,oom", "FIFO",
					     "fifo oom", "\033[1m" };
	struct err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		uint32_t bits = 77;

		memset(&err, 0, sizeof(err));
		assert_int_equal(measure_parse(texts[i], &bits, &err), -EINVAL);
		assert_int_equal(bits, 77);
		assert_int_equal(err.exit_code, X_USAGE);
		assert_non_null(strstr(err.text, "socket-memory"));
		assert_null(strchr(err.text, '\033'));
	}
}

static void rows_of_what_is_left_out(void **state)
{
	const struct stats_guarantee *row;

	(void)state;
	measure_leave_out(1u << MEASURE_OOM | 1u << MEASURE_WINDOWS, rows);
	row = stats_guarantee_find(rows, HOST_ROW_OOM);
	assert_non_null(row);
	assert_int_equal(row->state, GUARANTEE_OFF);
	assert_non_null(strstr(row->detail, "--without"));
	row = stats_guarantee_find(rows, MEASURE_ROW);
	assert_int_equal(row->state, GUARANTEE_DEGRADED);
	assert_string_equal(row->detail, "--without=oom,windows");
	assert_true(measure_left_out(MEASURE_WINDOWS));
	assert_false(measure_left_out(MEASURE_FIFO));
	/* degraded, so that it is seen; not missing, so that --swap goes on */
	assert_ptr_equal(host_worst(rows), row);
}

/* Every row there is has room, whatever is left out. */
static void all_at_once(void **state)
{
	(void)state;
	measure_leave_out(ALL, rows);
	assert_null(stats_guarantee_find(rows, "another"));
	stats_guarantee_set(rows, "another", GUARANTEE_OK, "fits");
	assert_non_null(stats_guarantee_find(rows, "another"));
}

/* What is left out is not done, and nobody says that it was. */
static void a_thread_without_fifo_and_flusher(void **state)
{
	(void)state;
	measure_leave_out(1u << MEASURE_FIFO | 1u << MEASURE_FLUSHER |
				  1u << MEASURE_MLOCK | 1u << MEASURE_OOM,
			  rows);
	host_protect_process(rows);
	host_protect_thread("test", HOST_FIFO_CONTROL, rows);
	host_verify(rows);
	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
	assert_int_equal(stats_guarantee_find(rows, HOST_ROW_FIFO)->state,
			 GUARANTEE_OFF);
	assert_int_equal(stats_guarantee_find(rows, HOST_ROW_FLUSHER)->state,
			 GUARANTEE_OFF);
	assert_int_equal(stats_guarantee_find(rows, HOST_ROW_MEMORY)->state,
			 GUARANTEE_OFF);
	assert_int_equal(stats_guarantee_find(rows, HOST_ROW_OOM)->state,
			 GUARANTEE_OFF);
}

static void sockets_without(void **state)
{
	struct attach_options o = { .swap = SWAP_YES };
	struct socket_memory all = sizing_socket_memory(&o), some;

	(void)state;
	assert_true(all.send_bytes && all.receive_bytes && all.reserve_bytes);
	o.without = 1u << MEASURE_BUFFERS;
	some = sizing_socket_memory(&o);
	assert_int_equal(some.send_bytes + some.receive_bytes, 0);
	assert_int_equal(some.reserve_bytes, all.reserve_bytes);
	o.without = 1u << MEASURE_SOCKET_MEMORY;
	some = sizing_socket_memory(&o);
	assert_int_equal(some.send_bytes, all.send_bytes);
	assert_int_equal(some.reserve_bytes, 0);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(names_and_bits),
		TEST(what_is_no_measure),
		TEST(rows_of_what_is_left_out),
		TEST(all_at_once),
		TEST(a_thread_without_fifo_and_flusher),
		TEST(sockets_without),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
