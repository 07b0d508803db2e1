// SPDX-License-Identifier: GPL-2.0-or-later
/* Load of our own making; the data thread. */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "common/check.h"
#include "common/clock.h"
#include "include/nbd-wire.h"
#include "nbd-client/engine.h"
#include "nbd-client/front_bench.h"

static struct front_bench *of_front(struct front *f)
{
	return list_entry(f, struct front_bench, front);
}

/* ---- numbers ---- */

/* Sebastiano Vigna's splitmix64: each state gives one number, in any order. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* What VERIFY writes at offset: no two places of a disk have the same. */
static void put_pattern(const struct front_bench *f, uint8_t *to,
			uint64_t offset, uint32_t bytes)
{
	for (uint32_t at = 0; at < bytes; at += 8) {
		uint64_t word = mix(f->load.seed ^ mix(offset + at));

		memcpy(to + at, &word, 8);
	}
}

static bool has_pattern(const struct front_bench *f, const uint8_t *from,
			uint64_t offset, uint32_t bytes)
{
	for (uint32_t at = 0; at < bytes; at += 8) {
		uint64_t word = mix(f->load.seed ^ mix(offset + at));

		if (memcmp(from + at, &word, 8))
			return false;
	}
	return true;
}

static uint64_t cpu_ns(int who)
{
	struct rusage use = { 0 };

	getrusage(who, &use);
	return (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) *
		       NS_PER_S +
	       (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1000;
}

uint32_t bench_bucket(uint64_t latency_ns)
{
	uint32_t power;

	if (latency_ns < BENCH_STEPS)
		return (uint32_t)latency_ns;
	power = 63u - (uint32_t)__builtin_clzll(latency_ns); /* >= 4 */
	return (power - 3) * BENCH_STEPS +
	       (uint32_t)(latency_ns >> (power - 4)) % BENCH_STEPS;
}

/* The largest latency of a bucket. */
static uint64_t bucket_end_ns(uint32_t bucket)
{
	uint32_t power = bucket / BENCH_STEPS;

	if (!power)
		return bucket;
	return ((uint64_t)(BENCH_STEPS + bucket % BENCH_STEPS + 1)
		<< (power - 1)) -
	       1;
}

uint64_t bench_percentile_ns(const struct bench_result *result,
			     uint32_t per_mille)
{
	uint64_t total = 0, seen = 0, rank;

	for (uint32_t i = 0; i < BENCH_BUCKETS; i++)
		total += result->latency[i];
	/* The rank-th request in order of latency, counted from 1. */
	rank = total / 1000 * per_mille +
	       (total % 1000 * per_mille + 999) / 1000;
	for (uint32_t i = 0; i < BENCH_BUCKETS; i++) {
		uint64_t end_ns = bucket_end_ns(i);

		seen += result->latency[i];
		if (total && seen >= rank)
			return end_ns < result->latency_max_ns ?
				       end_ns :
				       result->latency_max_ns;
	}
	return 0;
}

/* ---- the load ---- */

/* The number-th request of the load. */
static void fill_in(struct front_bench *f, struct request *r, uint64_t number)
{
	const struct bench_load *l = &f->load;
	uint64_t block = number % l->blocks;
	bool write = bench_writes(l->operation);

	if (l->operation == BENCH_RANDREAD || l->operation == BENCH_RANDWRITE)
		block = (uint64_t)(((unsigned __int128)mix(l->seed + number) *
				    l->blocks) >>
				   64);
	if (l->operation == BENCH_VERIFY)
		write = number < l->blocks;
	r->command = write ? NBD_CMD_WRITE : NBD_CMD_READ;
	r->flags = 0;
	r->offset = block * l->block_bytes;
	r->length = l->block_bytes;
	if (l->operation == BENCH_VERIFY && write)
		put_pattern(f, r->data, r->offset, r->length);
}

static uint64_t requests_max(const struct front_bench *f)
{
	if (f->load.operation == BENCH_VERIFY)
		return 2 * f->load.blocks;
	return f->load.requests_max;
}

/* Whether another request may be started now. */
static bool may_start(const struct front_bench *f, uint64_t now_ns)
{
	const struct bench_load *l = &f->load;
	uint64_t max = requests_max(f);

	if (f->in_flight == l->depth || f->result.errors ||
	    (max && f->requests_started == max) ||
	    (l->duration_ns && now_ns - f->started_ns >= l->duration_ns))
		return false;
	/* VERIFY reads no block before all have been written. */
	return l->operation != BENCH_VERIFY || !f->in_flight ||
	       f->requests_started != l->blocks;
}

static void start_requests(struct front_bench *f, uint64_t now_ns)
{
	struct engine *e = f->front.engine;

	while (may_start(f, now_ns)) {
		struct request *r = engine_take(e);
		int error;

		if (!r)
			return;
		f->in_flight++;
		fill_in(f, r, f->requests_started++);
		error = engine_check(e, r);
		if (error)
			engine_refuse(e, r, error);
		else
			engine_submit(e, r);
	}
}

static void account(struct front_bench *f, const struct request *r,
		    uint64_t now_ns)
{
	struct bench_result *result = &f->result;
	uint64_t latency_ns = now_ns - r->born_ns;

	result->requests++;
	result->latency[bench_bucket(latency_ns)]++;
	if (latency_ns > result->latency_max_ns)
		result->latency_max_ns = latency_ns;
	if (r->error) {
		if (!result->errors++)
			result->error = r->error;
		return;
	}
	if (f->load.operation == BENCH_VERIFY && r->command == NBD_CMD_READ &&
	    !has_pattern(f, r->data, r->offset, r->length) &&
	    !result->mismatches++)
		result->mismatch_offset = r->offset;
}

static void end(struct front_bench *f, uint64_t now_ns)
{
	f->running = false;
	f->result.elapsed_ns = now_ns - f->started_ns;
	f->result.thread_cpu_ns =
		cpu_ns(RUSAGE_THREAD) - f->result.thread_cpu_ns;
	f->result.process_cpu_ns =
		cpu_ns(RUSAGE_SELF) - f->result.process_cpu_ns;
	engine_front_gone(f->front.engine);
}

/* ---- the front ---- */

static void front_open(struct front *front)
{
	struct front_bench *f = of_front(front);
	struct engine *e = front->engine;
	size_t bytes = engine_reserve_bytes(&e->config);

	/* What is written, unless VERIFY: nothing that a server could shorten. */
	for (size_t at = 0; at < bytes; at += 8) {
		uint64_t word = mix(f->load.seed + at);

		memcpy((uint8_t *)e->memory.reserve + at, &word, 8);
	}
	f->running = true;
}

static uint64_t start(struct front_bench *f)
{
	f->started_ns = clock_now_ns();
	f->result.thread_cpu_ns = cpu_ns(RUSAGE_THREAD);
	f->result.process_cpu_ns = cpu_ns(RUSAGE_SELF);
	return f->started_ns;
}

static void front_step(struct front *front)
{
	struct front_bench *f = of_front(front);
	/* One look at the clock for all answers of a round. */
	uint64_t now_ns = front->engine->stats->heartbeat_ns;

	if (!f->running)
		return;
	if (!f->started_ns)
		now_ns = start(f); /* open() took its time */
	while (!list_empty(&f->answered)) {
		struct request *r = list_entry(list_first(&f->answered),
					       struct request, node);

		list_remove(&r->node);
		account(f, r, now_ns);
		f->in_flight--;
		engine_release(front->engine, r);
	}
	start_requests(f, now_ns);
	if (!f->in_flight)
		end(f, now_ns);
}

static void front_flush(struct front *front)
{
	(void)front;
}

static void front_complete(struct front *front, struct request *r)
{
	list_push_back(&of_front(front)->answered, &r->node);
}

static const struct front_ops front_bench_ops = {
	.name = "bench",
	.open = front_open,
	.step = front_step,
	.flush = front_flush,
	.complete = front_complete,
};

void front_bench_init(struct front_bench *f, const struct bench_load *load)
{
	CHECK(load->blocks && load->depth && load->block_bytes);
	f->front = (struct front){ .ops = &front_bench_ops };
	f->load = *load;
	list_init(&f->answered);
}
