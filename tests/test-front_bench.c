// SPDX-License-Identifier: GPL-2.0-or-later
/* The load generator on an engine, on the fake ring; the test is the server. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "nbd-client/front_bench.h"
#include "tests/engine_rig.h"
#include "tests/fake_clock.h"

#define BLOCK 512u
#define BLOCKS 16u

static struct front_bench bench;
static uint8_t disk[BLOCKS * BLOCK];
static struct rig_request got;

static void start(const struct bench_load *load)
{
	memset(&bench, 0, sizeof(bench));
	memset(disk, 0, sizeof(disk));
	front_bench_init(&bench, load);
	rig_open(0, &bench.front);
	rig_link_up();
	rig_expect_nothing(); /* not opened yet */
	rig.e->mail.front_fd = -1;
	engine_post(rig.e, MAIL_FRONT_UP);
	rig_settle();
}

static void end(void)
{
	assert_true(rig.news & NEWS_FRONT_GONE);
	rig_expect_nothing();
	rig_close();
}

/* As a disk does; false if no request has come. */
static bool serve(void)
{
	const struct proto_request *p = &got.head;

	if (!rig_next(&got))
		return false;
	assert_true(p->offset_bytes + p->length_bytes <= sizeof(disk));
	if (p->command == NBD_CMD_WRITE) {
		memcpy(disk + p->offset_bytes, got.payload, p->length_bytes);
		reply_simple(&rig.reply, p->cookie, 0);
	} else {
		assert_int_equal(p->command, NBD_CMD_READ);
		reply_data(&rig.reply, p->cookie, REPLY_DONE, p->offset_bytes,
			   disk + p->offset_bytes, p->length_bytes);
	}
	rig_answer();
	return true;
}

static uint32_t serve_all(void)
{
	uint32_t count = 0;

	while (serve())
		count++;
	return count;
}

/* ---- latencies ---- */

static void a_percentile_is_close(void **state)
{
	static struct bench_result result;
	uint32_t last = 0;

	(void)state;
	assert_int_equal(bench_percentile_ns(&result, 500), 0);
	assert_true(bench_bucket(UINT64_MAX) == BENCH_BUCKETS - 1);
	for (uint64_t ns = 0; ns < 1ull << 40; ns += 1 + ns / 7) {
		uint32_t bucket = bench_bucket(ns);
		uint64_t told;

		assert_true(bucket >= last && bucket < BENCH_BUCKETS);
		last = bucket;
		memset(&result, 0, sizeof(result));
		result.latency_max_ns = UINT64_MAX;
		result.latency[bucket] = 1;
		told = bench_percentile_ns(&result, 990);
		assert_true(told >= ns && told - ns <= ns / 16);
		assert_int_equal(bench_bucket(told), bucket);
		assert_int_equal(bench_bucket(told + 1), bucket + 1);
	}
}

static void percentiles_count_requests(void **state)
{
	static struct bench_result result = { .latency_max_ns = 14 };

	(void)state;
	result.latency[3] = 98;
	result.latency[7] = 1;
	result.latency[15] = 1;
	assert_int_equal(bench_percentile_ns(&result, 500), 3);
	assert_int_equal(bench_percentile_ns(&result, 980), 3);
	assert_int_equal(bench_percentile_ns(&result, 990), 7);
	assert_int_equal(bench_percentile_ns(&result, 999), 14);
}

/* ---- the load ---- */

static void keeps_its_depth(void **state)
{
	const struct bench_load load = { .operation = BENCH_READ,
					 .block_bytes = BLOCK,
					 .depth = 3,
					 .blocks = BLOCKS,
					 .requests_max = BLOCKS + 2 };

	(void)state;
	start(&load);
	rig_expect_states(0, 0, 0, 3, 0, 0);
	for (uint32_t i = 0; i < BLOCKS + 2; i++) {
		assert_false(rig.news & NEWS_FRONT_GONE);
		assert_true(serve());
		/* In order, and from the start again. */
		assert_int_equal(got.head.offset_bytes, i % BLOCKS * BLOCK);
		if (i + 3 < BLOCKS + 2)
			rig_expect_states(0, 0, 0, 3, 0, 0);
	}
	assert_int_equal(bench.result.requests, BLOCKS + 2);
	assert_int_equal(bench.result.errors, 0);
	end();
}

static void ends_when_time_is_over(void **state)
{
	const struct bench_load load = { .operation = BENCH_RANDWRITE,
					 .block_bytes = BLOCK,
					 .depth = 2,
					 .blocks = BLOCKS,
					 .duration_ns = 1000000 };

	(void)state;
	start(&load);
	fake_clock_advance_us(600);
	assert_true(serve());
	rig_expect_states(0, 0, 0, 2, 0, 0);
	fake_clock_advance_us(400);
	/* What is under way is waited for. */
	assert_true(serve());
	assert_false(rig.news & NEWS_FRONT_GONE);
	fake_clock_advance_us(300);
	assert_int_equal(serve_all(), 1);
	assert_int_equal(bench.result.requests, 3);
	assert_int_equal(bench.result.elapsed_ns, 1300000);
	assert_int_equal(bench.result.latency_max_ns, 1000000);
	assert_int_equal(bench.result.latency[bench_bucket(600000)], 1);
	assert_int_equal(bench.result.latency[bench_bucket(700000)], 1);
	end();
}

static void random_offsets_follow_from_the_seed(void **state)
{
	struct bench_load load = { .operation = BENCH_RANDREAD,
				   .block_bytes = BLOCK,
				   .depth = 1,
				   .blocks = BLOCKS,
				   .requests_max = 400 };
	uint64_t sums[3] = { 0 };

	(void)state;
	for (uint32_t run = 0; run < 3; run++) {
		uint32_t hits[BLOCKS] = { 0 };

		load.seed = run / 2;
		start(&load);
		for (uint32_t i = 0; i < 400; i++) {
			assert_true(serve());
			assert_int_equal(got.head.offset_bytes % BLOCK, 0);
			hits[got.head.offset_bytes / BLOCK]++;
			sums[run] = sums[run] * 31 + got.head.offset_bytes;
		}
		for (uint32_t i = 0; i < BLOCKS; i++)
			assert_true(hits[i] > 5 && hits[i] < 50);
		end();
	}
	assert_true(sums[0] == sums[1] && sums[1] != sums[2]);
}

static void the_first_error_ends_it(void **state)
{
	const struct bench_load load = { .operation = BENCH_WRITE,
					 .block_bytes = BLOCK,
					 .depth = 2,
					 .blocks = BLOCKS };

	(void)state;
	start(&load);
	assert_true(serve());
	assert_true(rig_next(&got));
	rig_answer_simple(got.head.cookie, NBD_ENOSPC);
	assert_int_equal(serve_all(), 1);
	assert_int_equal(bench.result.requests, 3);
	assert_int_equal(bench.result.errors, 1);
	assert_int_equal(bench.result.error, ENOSPC);
	end();
}

static void a_lost_link_ends_it(void **state)
{
	const struct bench_load load = { .operation = BENCH_READ,
					 .block_bytes = BLOCK,
					 .depth = 4,
					 .blocks = BLOCKS };

	(void)state;
	start(&load);
	assert_true(serve());
	while (rig_next(&got))
		;
	rig_link_down();
	engine_post(rig.e, MAIL_FAIL);
	rig_settle();
	assert_int_equal(bench.result.requests, 5);
	assert_int_equal(bench.result.errors, 4);
	assert_int_equal(bench.result.error, EIO);
	end();
}

/* ---- verify ---- */

static const struct bench_load verify = { .operation = BENCH_VERIFY,
					  .block_bytes = BLOCK,
					  .depth = 3,
					  .blocks = BLOCKS };

static void verify_reads_what_it_wrote(void **state)
{
	(void)state;
	start(&verify);
	for (uint32_t i = 0; i < BLOCKS; i++) {
		/* Nothing is read while something is still written. */
		assert_true(bench.in_flight <= BLOCKS - i);
		assert_true(serve());
		assert_int_equal(got.head.command, NBD_CMD_WRITE);
	}
	for (uint32_t i = 0; i < BLOCKS; i++)
		for (uint32_t j = 0; j < i; j++)
			assert_memory_not_equal(disk + i * BLOCK,
						disk + j * BLOCK, BLOCK);
	assert_int_equal(serve_all(), BLOCKS);
	assert_int_equal(bench.result.requests, 2 * BLOCKS);
	assert_int_equal(bench.result.mismatches, 0);
	end();
}

static void verify_finds_a_wrong_byte(void **state)
{
	(void)state;
	start(&verify);
	for (uint32_t i = 0; i < BLOCKS; i++)
		assert_true(serve());
	disk[5 * BLOCK + BLOCK - 1] ^= 1; /* the last byte of one block */
	memcpy(disk + 8 * BLOCK, disk + 7 * BLOCK, BLOCK); /* another place's */
	serve_all();
	assert_int_equal(bench.result.mismatches, 2);
	assert_int_equal(bench.result.mismatch_offset, 5 * BLOCK);
	end();
}

#define TEST(name) cmocka_unit_test_teardown(name, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_percentile_is_close),
		cmocka_unit_test(percentiles_count_requests),
		TEST(keeps_its_depth),
		TEST(ends_when_time_is_over),
		TEST(random_offsets_follow_from_the_seed),
		TEST(the_first_error_ends_it),
		TEST(a_lost_link_ends_it),
		TEST(verify_reads_what_it_wrote),
		TEST(verify_finds_a_wrong_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
