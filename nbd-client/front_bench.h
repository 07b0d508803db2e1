/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A front without a kernel: it makes requests up itself, keeps a number of them
 * in flight, and measures. A request that has been answered makes room for the
 * next one in the same round. The first error ends the load.
 *
 * Data thread; the results are for anybody once the engine has told
 * NEWS_FRONT_GONE, which here says that the load has ended.
 */
#ifndef NBD_FRONT_BENCH_H
#define NBD_FRONT_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "include/front.h"

enum bench_operation {
	BENCH_READ, /* one block after the other, from the start again at the end */
	BENCH_WRITE,
	BENCH_RANDREAD,
	BENCH_RANDWRITE,
	BENCH_VERIFY, /* writes each block once, then reads and compares each */
};

static inline bool bench_writes(enum bench_operation o)
{
	return o != BENCH_READ && o != BENCH_RANDREAD;
}

struct bench_load {
	enum bench_operation operation;
	uint32_t block_bytes;  /* <= slot size; VERIFY: a multiple of 8 */
	uint32_t depth;        /* <= slots */
	uint64_t blocks;       /* [0, blocks) of the export are used; not 0 */
	uint64_t requests_max; /* 0: no limit; VERIFY makes 2 * blocks */
	uint64_t duration_ns;  /* 0: no limit */
	uint64_t seed;
};

/*
 * Latencies in steps of a sixteenth: 16 buckets to each power of two of
 * nanoseconds, so that a percentile is at most 1/16 too high.
 */
#define BENCH_STEPS 16u
#define BENCH_BUCKETS (BENCH_STEPS * (64u - 3u))

uint32_t bench_bucket(uint64_t latency_ns);

struct bench_result {
	uint64_t requests; /* answered, with or without error */
	uint64_t errors;
	int error;           /* errno of the first */
	uint64_t mismatches; /* VERIFY: blocks that read other than written */
	uint64_t mismatch_offset; /* of the first */
	uint64_t elapsed_ns;
	uint64_t thread_cpu_ns;  /* user and system, of the data thread */
	uint64_t process_cpu_ns; /* of the process; both while under load */
	uint64_t latency_max_ns;
	uint64_t latency[BENCH_BUCKETS];
};

/* Upper bound in nanoseconds of the fastest per_mille/1000; 0 if none. */
uint64_t bench_percentile_ns(const struct bench_result *result,
			     uint32_t per_mille);

struct front_bench {
	struct front front;
	struct bench_load load;
	struct bench_result result;
	bool running;
	uint64_t started_ns;
	uint64_t requests_started;
	uint32_t in_flight;
	struct list answered; /* requests of this round, by their node */
};

/* In zeroed memory; then give &f->front to engine_open(). */
void front_bench_init(struct front_bench *f, const struct bench_load *load);

#endif
