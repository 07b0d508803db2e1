// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The metrics, a table: a family of samples each, which OpenMetrics wants
 * together whatever device they are of. Owns nothing. Command line only.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/text.h"
#include "nbd-client/metrics.h"
#include "nbd-client/stats.h"

#define PREFIX "nbd_client_"
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum family_type {
	COUNTER,
	GAUGE,
	HISTOGRAM,
	INFO,
};

struct printer {
	FILE *file;
	enum metrics_format format;
	uint64_t now_ns;
	const struct family *family;
	const char *device;
};

struct family {
	enum family_type type;
	const char *name; /* with its unit, without PREFIX and _total */
	const char *unit; /* NULL: none */
	const char *help;
	size_t offset, bytes; /* of a number in the page, unless there is put */
	void (*put)(struct printer *p, const struct metrics_device *d);
	bool of_dead; /* also told of a device whose daemon has died */
};

/* ---- Samples ---- */

/* In double quotes; the device's and the server's strings may be anything. */
static void label(struct printer *p, const char *separator, const char *name,
		  const char *value)
{
	char shown[2 * URI_TEXT_BYTES];
	const char *c;

	text_escape_str(shown, sizeof(shown), value);
	fprintf(p->file, "%s%s=\"", separator, name);
	for (c = shown; *c; c++)
		fprintf(p->file, *c == '\\' || *c == '"' ? "\\%c" : "%c", *c);
	fputc('"', p->file);
}

/* Name and labels, but for the brace that ends them. */
static void begin(struct printer *p, const char *suffix)
{
	fprintf(p->file, PREFIX "%s%s", p->family->name, suffix);
	label(p, "{", "device", p->device);
}

static const char *own_suffix(const struct family *f)
{
	return f->type == COUNTER ? "_total" : f->type == INFO ? "_info" : "";
}

/* name NULL: without a label besides the device. */
static void sample(struct printer *p, const char *name, const char *value_of,
		   uint64_t value)
{
	begin(p, own_suffix(p->family));
	if (name)
		label(p, ",", name, value_of);
	fprintf(p->file, "} %" PRIu64 "\n", value);
}

static void put_seconds(struct printer *p, uint64_t ns)
{
	fprintf(p->file, "} %" PRIu64 ".%09" PRIu64 "\n",
		(uint64_t)(ns / NS_PER_S), (uint64_t)(ns % NS_PER_S));
}

static void put_up(struct printer *p, const struct metrics_device *d)
{
	sample(p, NULL, NULL, d->alive);
}

static void put_info(struct printer *p, const struct metrics_device *d)
{
	begin(p, own_suffix(p->family));
	label(p, ",", "front", d->page.front);
	label(p, ",", "uri", d->page.uri);
	label(p, ",", "tls_records", stats_records_name(d->page.tls_records));
	fputs("} 1\n", p->file);
}

static void per_operation(struct printer *p, const uint64_t values[STATS_OPS])
{
	for (uint32_t op = 0; op < STATS_OPS; op++)
		sample(p, "operation", stats_op_name(op), values[op]);
}

static void put_requests(struct printer *p, const struct metrics_device *d)
{
	per_operation(p, d->page.data.requests);
}

static void put_bytes(struct printer *p, const struct metrics_device *d)
{
	per_operation(p, d->page.data.bytes);
}

static void put_errors(struct printer *p, const struct metrics_device *d)
{
	per_operation(p, d->page.data.errors);
}

static void histogram_begin(struct printer *p, const char *suffix, uint32_t op)
{
	begin(p, suffix);
	label(p, ",", "operation", stats_op_name(op));
}

/*
 * The counts add up, here as well: the total is that of the buckets, whatever
 * the daemon was just changing. A latency that is exactly a bound is in the next
 * bucket, a nanosecond too high.
 */
static void put_latency(struct printer *p, const struct metrics_device *d)
{
	for (uint32_t op = 0; op < STATS_OPS; op++) {
		const uint64_t *buckets = d->page.data.latency[op];
		uint64_t total = 0;
		char le[32];

		for (uint32_t i = 0; i < STATS_BUCKETS; i++) {
			total += buckets[i];
			snprintf(le, sizeof(le), "%.10g",
				 (double)(1ull << i) / 1e6);
			histogram_begin(p, "_bucket", op);
			label(p, ",", "le",
			      i + 1 < STATS_BUCKETS ? le : "+Inf");
			fprintf(p->file, "} %" PRIu64 "\n", total);
		}
		histogram_begin(p, "_count", op);
		fprintf(p->file, "} %" PRIu64 "\n", total);
		histogram_begin(p, "_sum", op);
		put_seconds(p, d->page.data.latency_sum_ns[op]);
	}
}

static void put_in_flight(struct printer *p, const struct metrics_device *d)
{
	const uint64_t *states = d->page.data.states;

	sample(p, NULL, NULL,
	       states[REQUEST_SENDING] + states[REQUEST_WAITING] +
		       states[REQUEST_RECEIVING]);
}

static void put_link_up(struct printer *p, const struct metrics_device *d)
{
	sample(p, NULL, NULL, d->page.link == STATS_LINK_UP);
}

static void put_endpoint(struct printer *p, const struct metrics_device *d)
{
	sample(p, NULL, NULL, d->page.endpoint + 1);
}

/* In use, or waiting to be. */
static void put_endpoints(struct printer *p, const struct metrics_device *d)
{
	uint32_t count = d->page.endpoint_count;

	for (uint32_t i = 0; i < count && i < ENDPOINTS_MAX; i++) {
		uint32_t link = d->page.endpoints[i].link;
		char number[12];

		snprintf(number, sizeof(number), "%u", i + 1);
		sample(p, "endpoint", number,
		       link == STATS_LINK_UP || link == STATS_LINK_READY);
	}
}

static void put_supervised(struct printer *p, const struct metrics_device *d)
{
	sample(p, NULL, NULL, d->page.supervised != 0);
}

static void put_interruption(struct printer *p, const struct metrics_device *d)
{
	begin(p, "");
	put_seconds(p, d->page.interruption_max_ms * NS_PER_MS);
}

static void put_locked(struct printer *p, const struct metrics_device *d)
{
	sample(p, NULL, NULL, d->page.locked_kbytes * KIB);
}

static void put_window(struct printer *p, const struct metrics_device *d)
{
	sample(p, "direction", "send", d->page.data.window_tx_bytes);
	sample(p, "direction", "receive", d->page.data.window_rx_bytes);
}

static void put_faults(struct printer *p, const struct metrics_device *d)
{
	sample(p, "kind", "minor", d->page.data_minor_faults);
	sample(p, "kind", "major", d->page.data_major_faults);
}

static void put_shedding(struct printer *p, const struct metrics_device *d)
{
	sample(p, NULL, NULL, d->page.shed == STATS_SHED_SHEDDING);
}

static void put_guarantees(struct printer *p, const struct metrics_device *d)
{
	uint64_t counts[GUARANTEE_MISSING + 1] = { 0 };
	const struct stats_guarantee *row = d->page.guarantees;
	uint32_t i;

	for (i = 0; i < STATS_GUARANTEES && row[i].name[0]; i++)
		counts[row[i].state % COUNT(counts)]++;
	for (i = 0; i < COUNT(counts); i++)
		sample(p, "state", stats_guarantee_name(i), counts[i]);
}

/* A thread that has not begun has no age. */
static void put_heartbeats(struct printer *p, const struct metrics_device *d)
{
	const struct {
		const char *thread;
		uint64_t ns;
	} heartbeats[] = {
		{ "data", d->page.data.heartbeat_ns },
		{ "control", d->page.control_heartbeat_ns },
	};

	for (size_t i = 0; i < COUNT(heartbeats); i++) {
		if (!heartbeats[i].ns)
			continue;
		begin(p, "");
		label(p, ",", "thread", heartbeats[i].thread);
		put_seconds(p, stats_silent_ns(heartbeats[i].ns, p->now_ns));
	}
}

enum group_value {
	GROUP_LIMIT,
	GROUP_USAGE,
	GROUP_PEAK,
	GROUP_DENIED,
};

static void per_group(struct printer *p, const struct metrics_device *d,
		      enum group_value which)
{
	for (uint32_t i = 0; i < STATS_GROUPS; i++) {
		const struct group *g = &d->page.data.groups[i];
		const uint64_t values[] = {
			[GROUP_LIMIT] = g->limit_bytes,
			[GROUP_USAGE] = g->usage_bytes,
			[GROUP_PEAK] = g->peak_bytes,
			[GROUP_DENIED] = g->denied,
		};
		char name[GROUP_NAME_BYTES + 1] = "";

		memcpy(name, g->name, GROUP_NAME_BYTES);
		if (!name[0])
			return;
		sample(p, "group", name, values[which]);
	}
}

static void put_group_limit(struct printer *p, const struct metrics_device *d)
{
	per_group(p, d, GROUP_LIMIT);
}

static void put_group_usage(struct printer *p, const struct metrics_device *d)
{
	per_group(p, d, GROUP_USAGE);
}

static void put_group_peak(struct printer *p, const struct metrics_device *d)
{
	per_group(p, d, GROUP_PEAK);
}

static void put_group_denied(struct printer *p, const struct metrics_device *d)
{
	per_group(p, d, GROUP_DENIED);
}

/* ---- The table ---- */

#define FROM(type, member, name, unit, help)                                   \
	{ type, name, unit, help, offsetof(struct stats_page, member),         \
	  sizeof(((struct stats_page *)0)->member), NULL, false }
#define CALL(type, put, name, unit, help)                                      \
	{ type, name, unit, help, 0, 0, put, false }
#define CALL_DEAD(type, put, name, unit, help)                                 \
	{ type, name, unit, help, 0, 0, put, true }

static const struct family families[] = {
	CALL_DEAD(GAUGE, put_up, "up", NULL,
		  "Whether the process that serves the device is alive."),
	CALL_DEAD(INFO, put_info, "device", NULL, "What the device is."),
	FROM(GAUGE, export_bytes, "size_bytes", "bytes",
	     "Size of the device."),
	FROM(GAUGE, available_bytes, "size_available_bytes", "bytes",
	     "Size that the device could have."),
	FROM(GAUGE, attached_at, "attached_timestamp_seconds", "seconds",
	     "When the device was attached."),

	CALL(COUNTER, put_requests, "requests", NULL,
	     "Requests completed, with or without an error."),
	CALL(COUNTER, put_bytes, "transferred_bytes", "bytes",
	     "Bytes of the requests without an error."),
	CALL(COUNTER, put_errors, "request_errors", NULL,
	     "Requests completed with an error."),
	CALL(HISTOGRAM, put_latency, "request_duration_seconds", "seconds",
	     "From the kernel's request to its answer."),
	CALL(GAUGE, put_in_flight, "requests_in_flight", NULL,
	     "Requests on their way to the server and back."),
	FROM(GAUGE, data.states[REQUEST_PARKED], "requests_parked", NULL,
	     "Requests that wait to be sent."),
	FROM(GAUGE, data.states[REQUEST_PUT_OFF], "requests_put_off", NULL,
	     "Requests that the server failed and that will be asked again."),
	FROM(COUNTER, data.parked_total, "requests_waited", NULL,
	     "Requests that ever had to wait to be sent."),
	FROM(COUNTER, data.replayed_total, "requests_replayed", NULL,
	     "Requests sent again after a lost link."),
	FROM(COUNTER, data.retried_total, "requests_retried", NULL,
	     "Requests asked again after an error of the server."),
	FROM(COUNTER, data.retries_failed, "retries_failed", NULL,
	     "Of these, requests that failed in the end."),

	CALL(GAUGE, put_link_up, "link_up", NULL,
	     "Whether all connections to the server are up."),
	FROM(GAUGE, queues, "connections", NULL, "Connections to the server."),
	FROM(GAUGE, links_up, "connections_up", NULL,
	     "Of these, those that are up."),
	FROM(GAUGE, link_since, "link_changed_timestamp_seconds", "seconds",
	     "When the link became what it is."),
	FROM(COUNTER, reconnects, "reconnects", NULL,
	     "Times that a lost link was made anew."),
	CALL(GAUGE, put_endpoint, "endpoint", NULL,
	     "Number of the server in use, from 1."),
	CALL(GAUGE, put_endpoints, "endpoint_ready", NULL,
	     "Whether there is a link to this server, in use or waiting."),
	FROM(COUNTER, failovers, "failovers", NULL,
	     "Times that another server came into use."),
	FROM(GAUGE, connect_attempts, "connect_attempts", NULL,
	     "Attempts since the link was lost."),
	FROM(COUNTER, unfenced, "unfenced_links", NULL,
	     "Old links that were not seen to end before a new one was used."),

	CALL(GAUGE, put_supervised, "supervised", NULL,
	     "Whether somebody would take over if the process died."),
	FROM(COUNTER, takeovers, "takeovers", NULL,
	     "Times that a process died and another took over."),
	FROM(COUNTER, watchdog_kills, "watchdog_kills", NULL,
	     "Of these, processes that were stuck and were killed."),
	FROM(COUNTER, upgrades, "upgrades", NULL,
	     "Of these, because it ran another program."),
	CALL(GAUGE, put_interruption, "takeover_max_seconds", "seconds",
	     "The longest that nobody served, from death to takeover."),

	FROM(COUNTER, probes, "probes", NULL,
	     "Times that a silent server was asked on another connection."),
	FROM(COUNTER, links_replaced, "links_replaced", NULL,
	     "Links replaced because the server answered there."),

	FROM(GAUGE, slots, "slots", NULL, "Places for requests."),
	FROM(GAUGE, slots_reserve, "slots_reserve", NULL,
	     "Of these, those whose memory is always there."),
	FROM(GAUGE, data.base_slots, "slots_base", NULL,
	     "Of the others, those whose memory is there now."),
	FROM(GAUGE, data.states[REQUEST_FREE], "slots_free", NULL,
	     "Places without a request."),
	FROM(GAUGE, data.slots_free_min, "slots_free_min", NULL,
	     "The fewest of them since the device was attached."),
	FROM(COUNTER, data.front_stalls, "slot_waits", NULL,
	     "Times that the kernel's requests had to wait for a slot."),
	FROM(GAUGE, pinned_bytes, "pinned_bytes", "bytes",
	     "The region for requests, all of its memory there."),
	FROM(GAUGE, base_resident_bytes, "base_resident_bytes", "bytes",
	     "Memory of slots that comes and goes, there now."),
	FROM(COUNTER, base_shrinks, "base_shrinks", NULL,
	     "Times that such memory was given back."),
	CALL(GAUGE, put_locked, "locked_bytes", "bytes",
	     "Memory that the process has locked."),

	FROM(GAUGE, data.low, "memory_low", NULL,
	     "Whether requests are held to what the reserve can carry."),
	FROM(COUNTER, data.low_episodes, "reserve_openings", NULL,
	     "Times that the reserve of slots was opened."),
	FROM(COUNTER, data.window_closings, "window_closings", NULL,
	     "Times that requests were held back, for whatever reason."),
	CALL(GAUGE, put_window, "window_bytes", "bytes",
	     "What may be under way in that direction."),
	FROM(GAUGE, memory_tight, "memory_tight", NULL,
	     "Whether the host is short of memory."),
	FROM(COUNTER, tight_episodes, "memory_tight_episodes", NULL,
	     "Times that the host became short of memory."),
	FROM(COUNTER, ordinary_deferred, "control_messages_deferred", NULL,
	     "Control messages held back while memory was low."),
	CALL(GAUGE, put_group_limit, "group_limit_bytes", "bytes",
	     "What a reservation group may hold while memory is low."),
	CALL(GAUGE, put_group_usage, "group_usage_bytes", "bytes",
	     "What a reservation group holds; 0 while memory is not low."),
	CALL(GAUGE, put_group_peak, "group_peak_bytes", "bytes",
	     "The most that a reservation group has held."),
	CALL(COUNTER, put_group_denied, "group_denied", NULL,
	     "Charges that a reservation group has refused."),

	FROM(COUNTER, data.stray_mallocs, "stray_allocations", NULL,
	     "Allocations by a data thread, of which there must be none."),
	CALL(COUNTER, put_faults, "page_faults", NULL,
	     "Page faults of the data thread."),
	FROM(COUNTER, data.rx_exhausted, "receives_without_buffer", NULL,
	     "Receives that found no buffer."),
	FROM(COUNTER, data.stale_replies, "stale_replies", NULL,
	     "Replies to requests that were sent anew."),
	FROM(GAUGE, spare_sockets, "spare_sockets", NULL,
	     "Sockets ready for connections with the kernel's TLS records."),
	CALL(GAUGE, put_shedding, "shedding", NULL,
	     "Whether strangers' packets are dropped."),
	FROM(COUNTER, shed_packets, "shed_packets", NULL,
	     "Strangers' packets dropped."),
	FROM(COUNTER, shed_bytes, "shed_bytes", "bytes",
	     "Bytes of the strangers' packets dropped."),
	FROM(GAUGE, tls_memory_bytes, "tls_memory_bytes", "bytes",
	     "Memory set aside for OpenSSL; 0 without encryption."),
	FROM(GAUGE, tls_memory_used, "tls_memory_used_bytes", "bytes",
	     "Of that, what is used."),
	FROM(GAUGE, tls_memory_peak, "tls_memory_peak_bytes", "bytes",
	     "Of that, the most that was used."),
	FROM(COUNTER, tls_memory_denied, "tls_memory_denied", NULL,
	     "Times that it did not suffice."),
	FROM(COUNTER, tls_memory_strays, "tls_memory_strays", NULL,
	     "Times that a data thread asked for some."),
	CALL(GAUGE, put_guarantees, "guarantees", NULL,
	     "Guarantees in that state."),
	CALL(GAUGE, put_heartbeats, "heartbeat_age_seconds", "seconds",
	     "How long a thread has been silent."),
};

static uint64_t number(const struct stats_page *page, const struct family *f)
{
	const void *at = (const char *)page + f->offset;

	return f->bytes == sizeof(uint64_t) ? *(const uint64_t *)at :
					      *(const uint32_t *)at;
}

/* TYPE, UNIT and HELP. */
static void describe(struct printer *p, const struct family *f)
{
	static const char *const types[] = {
		[COUNTER] = "counter", [GAUGE] = "gauge",
		[HISTOGRAM] = "histogram", [INFO] = "info",
	};
	bool textfile = p->format == METRICS_TEXTFILE;
	const char *suffix = textfile ? own_suffix(f) : "";
	enum family_type type = textfile && f->type == INFO ? GAUGE : f->type;

	fprintf(p->file, "# TYPE " PREFIX "%s%s %s\n", f->name, suffix,
		types[type]);
	if (f->unit && !textfile)
		fprintf(p->file, "# UNIT " PREFIX "%s %s\n", f->name, f->unit);
	fprintf(p->file, "# HELP " PREFIX "%s%s %s\n", f->name, suffix,
		f->help);
}

static void print_family(struct printer *p, const struct family *f,
			 const struct metrics_device *devices, size_t count)
{
	p->family = f;
	describe(p, f);
	for (size_t i = 0; i < count; i++) {
		const struct metrics_device *d = &devices[i];

		p->device = d->name;
		if (!d->alive && !f->of_dead)
			continue;
		if (f->put)
			f->put(p, d);
		else
			sample(p, NULL, NULL, number(&d->page, f));
	}
}

static void print_host(struct printer *p, enum family_type type,
		       const char *name, const char *unit, const char *help,
		       uint64_t value)
{
	const struct family f = { .type = type, .name = name, .unit = unit,
				  .help = help };

	describe(p, &f);
	fprintf(p->file, PREFIX "%s%s %" PRIu64 "\n", name, own_suffix(&f),
		value);
}

void metrics_print(FILE *file, enum metrics_format format,
		   const struct metrics_device *devices, size_t count,
		   const struct metrics_host *host, uint64_t now_ns)
{
	struct printer p = { .file = file, .format = format, .now_ns = now_ns };

	if (host->min_free_known)
		print_host(&p, GAUGE, "host_min_free_bytes", "bytes",
			   "Memory that the kernel keeps free: "
			   "vm.min_free_kbytes.",
			   host->min_free_bytes);
	if (host->drops_known)
		print_host(&p, COUNTER, "host_pfmemalloc_drops", NULL,
			   "Packets in memory of the kernel's reserve, dropped "
			   "since their socket may not use that.",
			   host->pfmemalloc_drops);
	for (size_t i = 0; count && i < COUNT(families); i++)
		print_family(&p, &families[i], devices, count);
	if (format == METRICS_OPENMETRICS)
		fputs("# EOF\n", file);
}

int metrics_netstat(const char *text, const char *name, uint64_t *ret_value)
{
	size_t length = strlen(name), names, values;
	const char *value;

	/* "TcpExt: NAME NAME\n" "TcpExt: VALUE VALUE\n", and so on */
	while ((value = strchr(text, '\n'))) {
		value++;
		while (*text != '\n' && *value && *value != '\n') {
			names = strcspn(text, " \n");
			values = strcspn(value, " \n");
			if (names == length && !memcmp(text, name, length)) {
				*ret_value = strtoull(value, NULL, 10);
				return 0;
			}
			text += names + (text[names] == ' ');
			value += values + (value[values] == ' ');
		}
		text = strchr(value, '\n');
		if (!text)
			break;
		text++;
	}
	return -ENOENT;
}
