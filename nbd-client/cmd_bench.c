// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbd-client bench: load on a server through the data path, without a kernel
 * device. Connection, engine and a front that makes requests up are composed in
 * this process, which needs no privilege; its main thread is the control
 * thread.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/addr.h"
#include "common/clock.h"
#include "common/pin.h"
#include "nbd-client/cmd.h"
#include "nbd-client/conn.h"
#include "nbd-client/engine.h"
#include "nbd-client/front_bench.h"
#include "nbd-client/sizing.h"

#define SECONDS_DEFAULT 5u

struct bench_line {
	struct output_options output;
	enum bench_operation operation;
	uint32_t block_bytes;
	uint32_t depth;
	uint64_t seconds_ms;
	uint64_t requests;
	uint64_t size_bytes;
	uint64_t seed;
	uint32_t handshake_ms;
	const char *export_name; /* NULL: that of the URI */
	struct tls_options tls;
	bool swap;
	bool destroy;
};

struct bench {
	const struct bench_line *line;
	struct addr addr;
	struct tls tls;
	struct conn conn;
	struct attach_options options; /* for the sums */
	struct engine_config config;
	struct bench_load load;
	struct pin pin;
	struct engine *engine;
	struct front_bench *front;
	struct records *records; /* NULL without TLS */
	struct stats_data stats;
	int mail_fd;
	int news_fd;
	int opened; /* 0 or -errno of engine_open() */
	bool ended; /* the load */
	bool lost;
};

/* ---- the command line ---- */

static const char *const operations[] = {
	[BENCH_READ] = "read",         [BENCH_WRITE] = "write",
	[BENCH_RANDREAD] = "randread", [BENCH_RANDWRITE] = "randwrite",
	[BENCH_VERIFY] = "verify",
};

static int set_operation(void *target, const char *value, struct err *err)
{
	struct bench_line *line = target;

	for (size_t i = 0; i < sizeof(operations) / sizeof(*operations); i++) {
		if (!strcmp(value, operations[i])) {
			line->operation = (enum bench_operation)i;
			return 0;
		}
	}
	return err_set(err, X_USAGE, EINVAL,
		       "--rw must be read, write, randread, randwrite or "
		       "verify");
}

static int set_size(void *target, const char *value, struct err *err)
{
	struct bench_line *line = target;

	if (options_parse_size(value, &line->size_bytes) || !line->size_bytes)
		return err_set(
			err, X_USAGE, EINVAL,
			"--size must be a number of bytes, which may end in K, M or G");
	return 0;
}

#define FIELD(member) .offset = offsetof(struct bench_line, member)
static const struct option_spec bench_options[] = {
	{ .name = "rw",
	  .kind = OPTION_CALL,
	  .value = "OPERATION",
	  .set = set_operation,
	  .help = "read, write, randread, randwrite, or verify: write\n"
		  "each block, then read and compare (default randread)" },
	{ .name = "destroy",
	  .kind = OPTION_FLAG,
	  FIELD(destroy),
	  .help = "needed for write, randwrite and verify: what the\n"
		  "export holds is overwritten" },
	{ .name = "bs",
	  .kind = OPTION_SIZE32,
	  .value = "BYTES",
	  FIELD(block_bytes),
	  .min = 512,
	  .max = SLOT_BYTES_MAX,
	  .help = "of a request (default 4K)" },
	{ .name = "depth",
	  .kind = OPTION_U32,
	  .value = "COUNT",
	  FIELD(depth),
	  .min = 1,
	  .max = SLOTS_MAX,
	  .help = "requests under way at a time (default 32)" },
	{ .name = "seconds",
	  .kind = OPTION_U64,
	  .value = "SECONDS",
	  FIELD(seconds_ms),
	  .min = 1,
	  .max = 86400,
	  .scale = 1000,
	  .help = "how long (default 5, unless --requests is given)" },
	{ .name = "requests",
	  .kind = OPTION_U64,
	  .value = "COUNT",
	  FIELD(requests),
	  .min = 1,
	  .max = UINT64_MAX,
	  .help = "end after so many" },
	{ .name = "size",
	  .kind = OPTION_CALL,
	  .value = "BYTES",
	  .set = set_size,
	  .help = "use only the beginning of the export" },
	{ .name = "seed",
	  .kind = OPTION_U64,
	  .value = "NUMBER",
	  FIELD(seed),
	  .min = 0,
	  .max = UINT64_MAX,
	  .help = "of random offsets and contents (default 0)" },
	{ .name = "swap",
	  .kind = OPTION_FLAG,
	  FIELD(swap),
	  .help = "with the buffers and windows of attach --swap" },
	{ .name = "export",
	  .kind = OPTION_STRING,
	  .value = "NAME",
	  FIELD(export_name),
	  .help = "name of the export, if it is not in the URI" },
	{ .name = "handshake-timeout",
	  .kind = OPTION_U32,
	  .value = "SECONDS",
	  FIELD(handshake_ms),
	  .min = 1,
	  .max = CMD_HANDSHAKE_S_MAX,
	  .scale = 1000,
	  .help = "for each step of the handshake (default 10)" },
	CMD_OUTPUT_OPTIONS(offsetof(struct bench_line, output)),
	CMD_TLS_OPTIONS(struct bench_line, tls),
	CMD_TLS_RECORDS(struct bench_line, tls),
	CMD_OPTIONS_END
};

static int check_line(struct bench_line *line, struct err *err)
{
	if (line->block_bytes % 512)
		return err_set(err, X_USAGE, EINVAL,
			       "--bs must be a multiple of 512");
	if (bench_writes(line->operation) && !line->destroy)
		return err_set(
			err, X_USAGE, EINVAL,
			"--rw=%s overwrites what the export holds; add --destroy "
			"if that is meant",
			operations[line->operation]);
	if (line->operation != BENCH_VERIFY) {
		if (!line->seconds_ms && !line->requests)
			line->seconds_ms = SECONDS_DEFAULT * 1000;
		return 0;
	}
	if (line->seconds_ms || line->requests)
		return err_set(
			err, X_USAGE, EINVAL,
			"--rw=verify ends when each block has been compared; "
			"use --size instead of --%s",
			line->requests ? "requests" : "seconds");
	return 0;
}

/* ---- composing ---- */

static int check_export(struct bench *b, struct err *err)
{
	const struct export_info *x = &b->conn.export;
	const struct bench_line *line = b->line;
	uint64_t bytes = x->size_bytes;

	if (bench_writes(line->operation) && (x->flags & NBD_FLAG_READ_ONLY))
		return err_set(
			err, X_REFUSED, EROFS,
			"the export is read-only; only read and randread are possible");
	if (line->block_bytes % x->block_min ||
	    line->block_bytes > x->block_max)
		return err_set(
			err, X_REFUSED, EINVAL,
			"the server takes requests that are multiples of %u bytes, "
			"up to %u; --bs=%u is not",
			x->block_min, x->block_max, line->block_bytes);
	if (line->size_bytes > bytes)
		return err_set(err, X_USAGE, EINVAL,
			       "the export has %llu bytes, less than --size",
			       (unsigned long long)bytes);
	if (line->size_bytes)
		bytes = line->size_bytes;
	b->load = (struct bench_load){
		.operation = line->operation,
		.block_bytes = line->block_bytes,
		.depth = line->depth,
		.blocks = bytes / line->block_bytes,
		.requests_max = line->requests,
		.duration_ns = line->seconds_ms * NS_PER_MS,
		.seed = line->seed,
	};
	if (!b->load.blocks)
		return err_set(
			err, X_USAGE, EINVAL,
			"%llu bytes are less than one request of --bs=%u",
			(unsigned long long)bytes, line->block_bytes);
	return 0;
}

static int connect_server(struct bench *b, struct err *err)
{
	struct attach_options *o = &b->options;
	struct socket_memory memory;
	int ret;

	o->addr = b->addr;
	o->tls = b->line->tls;
	o->swap = b->line->swap ? SWAP_YES : SWAP_NO;
	o->slots = b->line->depth > SLOTS_MIN ? b->line->depth : SLOTS_MIN;
	o->slot_bytes = (uint32_t)pin_pages(b->line->block_bytes);
	memory = sizing_socket_memory(o);
	ret = conn_init(&b->conn, &b->addr, &memory, b->line->handshake_ms,
			err);
	conn_choose_replies(&b->conn, b->line->swap);
	if (!ret)
		ret = conn_init_tls(&b->conn, &b->tls, &o->tls, err);
	if (!ret)
		ret = conn_open(&b->conn, err);
	if (!ret)
		ret = check_export(b, err);
	return ret;
}

static int carve(struct bench *b, struct err *err)
{
	struct engine_memory memory = { .base = NULL };
	size_t bytes;
	int ret;

	b->config = sizing_config(&b->options, &b->conn.export);
	b->config.slots_reserve = b->config.slots; /* none comes and goes */
	bytes = pin_pages(sizeof(*b->engine)) + pin_pages(sizeof(*b->front)) +
		pin_pages(engine_rx_bytes()) +
		pin_pages(b->config.record_bytes) +
		pin_pages(engine_reserve_bytes(&b->config));
	ret = pin_init(&b->pin, bytes);
	if (ret < 0)
		return err_set(
			err, ret == -EPERM ? X_PERMISSION : X_FAILURE, -ret,
			"cannot lock %zu KiB of memory: %s; raise the limit on "
			"locked memory or use a smaller --depth or --bs",
			bytes / 1024, strerror(-ret));
	b->engine = pin_carve(&b->pin, sizeof(*b->engine));
	b->front = pin_carve(&b->pin, sizeof(*b->front));
	memory.rx = pin_carve(&b->pin, engine_rx_bytes());
	if (b->config.record_bytes)
		b->records = pin_carve(&b->pin, b->config.record_bytes);
	memory.reserve = pin_carve(&b->pin, engine_reserve_bytes(&b->config));
	pin_seal(&b->pin);
	b->mail_fd = eventfd(0, EFD_CLOEXEC);
	b->news_fd = eventfd(0, EFD_CLOEXEC);
	if (b->mail_fd < 0 || b->news_fd < 0)
		return err_set(err, X_FAILURE, errno,
			       "cannot make an eventfd: %s", strerror(errno));
	front_bench_init(b->front, &b->load);
	engine_init(b->engine, &b->config, &memory, &b->stats, b->mail_fd,
		    b->news_fd);
	return 0;
}

static void *thread_main(void *arg)
{
	struct bench *b = arg;
	uint64_t one = 1;
	ssize_t ignored;

	b->opened = engine_open(b->engine, &b->front->front);
	if (b->opened == 0) {
		engine_run(b->engine);
		engine_close(b->engine);
		return NULL;
	}
	atomic_fetch_or(&b->engine->news.bits, NEWS_FAILED);
	ignored = write(b->news_fd, &one, sizeof(one));
	(void)ignored;
	return NULL;
}

/* ---- running ---- */

static void fail(struct err *err, int error, const char *reason)
{
	if (!err->text[0])
		err_set(err, X_UNREACHABLE, error, "the link was lost: %s",
			reason);
}

/* A lost link is not made anew: what is measured would be something else. */
static void link_lost(struct bench *b, struct err *err)
{
	const char *reason = atomic_load(&b->engine->news.link_reason);
	int error = atomic_load(&b->engine->news.link_error);

	conn_shutdown(&b->conn, error);
	shutdown(b->conn.fd, SHUT_RDWR); /* without waiting for its end */
	if (b->ended)
		return;
	if (!reason)
		reason = error ? strerror(error) :
				 "the server closed the connection";
	fail(err, error ? error : ECONNRESET, reason);
	engine_post(b->engine, MAIL_FAIL);
}

/* True when there is nothing more to wait for. */
static bool on_news(struct bench *b, struct err *err)
{
	uint64_t count;
	uint32_t news;

	if (read(b->news_fd, &count, sizeof(count)) < 0)
		return false;
	news = engine_take_news(b->engine);
	if (news & NEWS_FRONT_GONE) {
		b->ended = true;
		engine_post(b->engine, MAIL_CLOSE);
	}
	if (news & NEWS_LINK_LOST && b->conn.state == CONN_UP)
		link_lost(b, err);
	return news & (NEWS_CLOSED | NEWS_FAILED);
}

/* How long the load and the last answers may take; -1: as long as it takes. */
static int patience_ms(const struct bench *b)
{
	if (!b->line->seconds_ms)
		return -1;
	return (int)(b->line->seconds_ms + b->line->handshake_ms);
}

static void wait_for_end(struct bench *b, struct err *err)
{
	struct pollfd fd = { .fd = b->news_fd, .events = POLLIN };

	for (;;) {
		int n = poll(&fd, 1, patience_ms(b));

		if (n == 1 && on_news(b, err))
			return;
		if (n == 0) {
			fail(err, ETIMEDOUT, "the server does not answer");
			engine_post(b->engine, MAIL_LINK_DROP);
		}
	}
}

static int run_load(struct bench *b, struct err *err)
{
	pthread_t thread;
	int ret;

	b->engine->mail.front_fd = -1;
	b->engine->mail.records = conn_start_records(&b->conn, b->records);
	b->engine->mail.link_fd = b->conn.fd;
	b->engine->mail.structured = b->conn.handshake.info.structured;
	conn_take(&b->conn);
	engine_post(b->engine, MAIL_FRONT_UP | MAIL_LINK_UP);
	ret = -pthread_create(&thread, NULL, thread_main, b);
	if (!ret) {
		wait_for_end(b, err);
		engine_post(b->engine, MAIL_STOP);
		pthread_join(thread, NULL);
		ret = b->opened;
	}
	if (ret < 0)
		return err_set(
			err,
			ret == -ENOSYS || ret == -EINVAL ? X_KERNEL : X_FAILURE,
			-ret,
			"cannot start the data thread: %s; it needs io_uring of Linux "
			"6.1 or later (see also kernel.io_uring_disabled)",
			strerror(-ret));
	if (!b->ended && !err->text[0])
		return err_set(err, X_FAILURE, EIO,
			       "the data thread has failed");
	return err->text[0] ? -err->error : 0;
}

static void bench_fini(struct bench *b)
{
	if (b->conn.ends)
		conn_fini(&b->conn);
	tls_close(&b->tls);
	if (b->mail_fd >= 0)
		close(b->mail_fd);
	if (b->news_fd >= 0)
		close(b->news_fd);
	pin_fini(&b->pin);
}

/* ---- what came of it ---- */

static const struct table_column columns[] = {
	{ "operation", "Operation", false },
	{ "block_bytes", "Block size", false },
	{ "depth", "Depth", false },
	{ "requests", "Requests", false },
	{ "errors", "Errors", false },
	{ "mismatches", "Blocks not as written", false },
	{ "milliseconds", "Milliseconds", false },
	{ "requests_per_second", "Requests per second", false },
	{ "bytes_per_second", "Bytes per second", false },
	{ "latency_p50_us", "Latency p50, us", false },
	{ "latency_p99_us", "Latency p99, us", false },
	{ "latency_max_us", "Latency max, us", false },
	{ "thread_cpu_ns_per_request", "CPU of data thread per request, ns",
	  false },
	{ "cpu_ns_per_request", "CPU of process per request, ns", false },
	{ "rounds", "Rounds of data thread", false },
	{ "sends", "Sends", false },
	{ "receives", "Receives", false },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static uint64_t per_second(uint64_t count, uint64_t elapsed_ns)
{
	return elapsed_ns ? (uint64_t)((unsigned __int128)count * NS_PER_S /
				       elapsed_ns) :
			    0;
}

static int print(const struct bench *b, struct err *err)
{
	const struct bench_result *r = &b->front->result;
	uint64_t count = r->requests ? r->requests : 1;
	struct table *table;
	struct output out;

	output_begin(&out, stdout, &b->line->output);
	table = table_new(&out, columns, COLUMNS);
	table_string(table, operations[b->load.operation]);
	table_size(table, b->load.block_bytes);
	table_number(table, b->load.depth);
	table_number(table, r->requests);
	table_number(table, r->errors);
	table_number(table, r->mismatches);
	table_number(table, r->elapsed_ns / NS_PER_MS);
	table_number(table, per_second(r->requests, r->elapsed_ns));
	table_size(table,
		   per_second((r->requests - r->errors) * b->load.block_bytes,
			      r->elapsed_ns));
	table_number(table, bench_percentile_ns(r, 500) / 1000);
	table_number(table, bench_percentile_ns(r, 990) / 1000);
	table_number(table, r->latency_max_ns / 1000);
	table_number(table, r->thread_cpu_ns / count);
	table_number(table, r->process_cpu_ns / count);
	table_number(table, b->stats.wakeups);
	table_number(table, b->stats.link_sends);
	table_number(table, b->stats.link_receives);
	table_print(table, "bench", TABLE_FIELDS);
	return output_end(&out, err);
}

static int judge(const struct bench *b, struct err *err)
{
	const struct bench_result *r = &b->front->result;

	if (r->errors)
		return err_set(err, X_FAILURE, r->error,
			       "%llu requests have failed, the first with: %s",
			       (unsigned long long)r->errors,
			       strerror(r->error));
	if (r->mismatches)
		return err_set(
			err, X_FAILURE, EIO,
			"%llu blocks were read other than written, the first at offset %llu",
			(unsigned long long)r->mismatches,
			(unsigned long long)r->mismatch_offset);
	return 0;
}

static int run(int argc, char **argv, struct err *err)
{
	static struct bench b = { .mail_fd = -1, .news_fd = -1 }; /* large */
	struct bench_line line = {
		.operation = BENCH_RANDREAD,
		.block_bytes = 4 * KIB,
		.depth = 32,
		.handshake_ms = CMD_HANDSHAKE_S_DEFAULT * 1000,
	};
	struct words words;
	int rc;

	rc = options_parse(&cmd_bench, argc, argv, &line, 1, 2, &words, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	rc = check_line(&line, err);
	if (!rc)
		rc = words.count == 1 ?
			     addr_parse(&b.addr, words.word[0], err) :
			     addr_parse_host(&b.addr, words.word[0],
					     words.word[1], err);
	if (!rc && line.export_name)
		rc = addr_set_export(&b.addr, line.export_name, err);
	b.line = &line;
	if (!rc)
		rc = connect_server(&b, err);
	if (!rc)
		rc = carve(&b, err);
	if (!rc)
		rc = run_load(&b, err);
	if (!rc)
		rc = print(&b, err);
	if (!rc)
		rc = judge(&b, err);
	bench_fini(&b);
	return rc;
}

const struct command cmd_bench = {
	.name = "bench",
	.words = "URI|HOST [PORT]",
	.summary = "Measures a server, without a device.",
	.details =
		"Makes requests, and prints how many were answered, how fast, "
		"and what that\ncost this process.",
	.examples = "  nbd-client bench nbd://server/swap1\n"
		    "  nbd-client bench --rw=randwrite --destroy --swap nbd://server/scratch",
	.options = bench_options,
	.run = run,
};
