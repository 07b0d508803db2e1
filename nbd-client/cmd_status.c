// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbd-client status: everything that a status page says. It only reads the
 * page, so it works while the daemon is stuck, and says that it is.
 * Command line.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "include/nbd-wire.h"
#include "nbd-client/blockdev.h"
#include "nbd-client/cmd.h"
#include "nbd-client/health.h"
#include "nbd-client/stats.h"

/* A value of the page, shown in one of these ways. */
enum field_kind {
	STRING,
	NUMBER,
	SIZE,
	KBYTES,
	TIME,
	BOOL,
	CALL,
};

struct field {
	struct table_column column;
	enum field_kind kind;
	size_t offset, bytes;
	void (*put)(struct table *table, const struct stats_page *page);
};

#define FIELD(kind, member, key, heading)                                      \
	{ { key, heading, 0 }, kind, offsetof(struct stats_page, member),      \
	  sizeof(((struct stats_page *)0)->member), NULL }
#define FIELD_CALL(put, key, heading)                                          \
	{ { key, heading, 0 }, CALL, 0, 0, put }
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void put_daemon(struct table *table, const struct stats_page *page)
{
	table_string(table, stats_alive(page) ? "running" : "dead");
}

static struct check_host_result health(const struct stats_page *page)
{
	struct check_host_result ret = { 0 };

	/* "/dev/nbd0" */
	health_look(page->device + strlen("/dev/"), page, clock_now_ns(),
		    (uint64_t)time(NULL), &ret);
	return ret;
}

static void put_health(struct table *table, const struct stats_page *page)
{
	table_string(table, check_host_state_name(health(page).state));
}

/* The daemon may be writing it right now; nothing to say is none. */
static void put_text(struct table *table, const char *shared, size_t bytes)
{
	char text[URI_TEXT_BYTES];

	memcpy(text, shared, bytes);
	text[bytes - 1] = '\0';
	if (*text)
		table_string(table, text);
	else
		table_none(table);
}

static void put_trouble(struct table *table, const struct stats_page *page)
{
	struct check_host_result h = health(page);

	put_text(table, h.found, sizeof(h.found));
}

static void put_remedy(struct table *table, const struct stats_page *page)
{
	struct check_host_result h = health(page);

	put_text(table, h.remedy, sizeof(h.remedy));
}

static void put_worker(struct table *table, const struct stats_page *page)
{
	if (page->worker_pid > 0)
		table_number(table, (uint64_t)page->worker_pid);
	else
		table_none(table);
}

static void put_standby(struct table *table, const struct stats_page *page)
{
	table_string(table, page->standby_pid <= 0 ? "none" :
			    page->standby_pid == page->standby_ready ?
						     "ready" :
						     "starting");
}

static void put_state(struct table *table, const struct stats_page *page)
{
	table_string(table, stats_state_name(page->state));
}

static void put_link(struct table *table, const struct stats_page *page)
{
	table_string(table, stats_link_name(page->link));
}

static void put_flags(struct table *table, const struct stats_page *page)
{
	const char *names[CMD_FLAG_NAMES];

	cmd_flag_names(page->export_flags, names);
	table_list(table, names);
}

static void put_priority(struct table *table, const struct stats_page *page)
{
	if (page->swap_active && page->swap_priority >= 0)
		table_number(table, (uint64_t)page->swap_priority);
	else
		table_none(table);
}

/* "data thread silent for 12 s", or for how many milliseconds it was. */
static void put_heartbeat(struct table *table, const char *thread,
			  uint64_t heartbeat_ns)
{
	uint64_t silent = stats_silent_ns(heartbeat_ns, clock_now_ns());
	char text[64];

	if (!heartbeat_ns)
		snprintf(text, sizeof(text), "%s thread not started", thread);
	else if (silent > STATS_SILENT_NS)
		snprintf(text, sizeof(text),
			 "%s thread silent for %" PRIu64 " s", thread,
			 (uint64_t)(silent / NS_PER_S));
	else
		snprintf(text, sizeof(text), "%" PRIu64 " ms ago",
			 (uint64_t)(silent / NS_PER_MS));
	table_string(table, text);
}

static void put_data_heartbeat(struct table *table,
			       const struct stats_page *page)
{
	put_heartbeat(table, "data", page->data.heartbeat_ns);
}

static void put_control_heartbeat(struct table *table,
				  const struct stats_page *page)
{
	put_heartbeat(table, "control", page->control_heartbeat_ns);
}

/* For programs: the age itself. */
static void put_data_silent_ms(struct table *table,
			       const struct stats_page *page)
{
	table_number(table, stats_silent_ns(page->data.heartbeat_ns,
					    clock_now_ns()) / NS_PER_MS);
}

/* As "reconnect" takes it. */
static void put_endpoint(struct table *table, const struct stats_page *page)
{
	table_number(table, page->endpoint + 1);
}

static void put_records(struct table *table, const struct stats_page *page)
{
	table_string(table, stats_records_name(page->tls_records));
}

/* What is known only of an encrypted link. */
static void put_tls(struct table *table, const struct stats_page *page,
		    const char *text)
{
	if (page->tls_records == STATS_RECORDS_NONE)
		table_none(table);
	else
		table_string(table, text);
}

static void put_records_why(struct table *table, const struct stats_page *page)
{
	if (page->tls_records == STATS_RECORDS_USER)
		table_string(table, page->tls_records_why);
	else
		table_none(table);
}

static void put_tls_version(struct table *table, const struct stats_page *page)
{
	put_tls(table, page, page->tls_version);
}

static void put_tls_cipher(struct table *table, const struct stats_page *page)
{
	put_tls(table, page, page->tls_cipher);
}

static void put_tls_peer(struct table *table, const struct stats_page *page)
{
	put_tls(table, page, page->tls_peer);
}

static void put_memory(struct table *table, const struct stats_page *page)
{
	table_string(table, page->memory_tight ? "tight" : "plentiful");
}

static void put_window(struct table *table, const struct stats_page *page)
{
	table_string(table, page->data.low ? "guaranteed" :
			    page->data.window_tx_bytes < page->open_tx_bytes ||
				    page->data.window_rx_bytes <
					    page->open_rx_bytes ?
						 "opening" :
						 "open");
}

static void put_link_next(struct table *table, const struct stats_page *page)
{
	uint64_t now_ns = clock_now_ns();

	if (page->link != STATS_LINK_DOWN || !page->link_next_ns)
		table_none(table);
	else
		table_number(table, page->link_next_ns <= now_ns ? 0 :
				    (page->link_next_ns - now_ns) / NS_PER_MS);
}

static void put_link_error(struct table *table, const struct stats_page *page)
{
	put_text(table, page->link_error, sizeof(page->link_error));
}

/* How long the server has owed an answer without a sign. */
static void put_server_silent(struct table *table,
			      const struct stats_page *page)
{
	uint64_t since_ns = page->data.owed_since_ns;
	uint64_t now_ns = clock_now_ns();

	table_number(table, since_ns && since_ns < now_ns ?
				    (now_ns - since_ns) / NS_PER_MS : 0);
}

static void put_shed(struct table *table, const struct stats_page *page)
{
	table_string(table, stats_shed_name(page->shed));
}

static const struct field device_fields[] = {
	FIELD(STRING, device, "device", "Device"),
	FIELD_CALL(put_health, "health", "Health"),
	FIELD_CALL(put_trouble, "trouble", "Trouble"),
	FIELD_CALL(put_remedy, "remedy", "What helps"),
	FIELD_CALL(put_daemon, "daemon", "Daemon"),
	FIELD(NUMBER, pid, "pid", "Process"),
	FIELD_CALL(put_worker, "worker_pid", "Worker process"),
	FIELD_CALL(put_standby, "standby", "Standby"),
	FIELD(BOOL, supervised, "supervised", "Supervised"),
	FIELD(NUMBER, takeovers, "takeovers", "Takeovers"),
	FIELD(NUMBER, watchdog_kills, "watchdog_kills",
	      "Of these, by the watchdog"),
	FIELD(NUMBER, upgrades, "upgrades", "Upgrades"),
	FIELD(NUMBER, interruption_ms, "interruption_ms",
	      "Last interruption, ms"),
	FIELD(NUMBER, interruption_max_ms, "interruption_max_ms",
	      "Longest interruption, ms"),
	FIELD_CALL(put_state, "state", "State"),
	FIELD(STRING, uri, "uri", "URI"),
	FIELD(STRING, front, "front", "Front"),
	FIELD(TIME, attached_at, "attached_at", "Attached"),
	FIELD(SIZE, export_bytes, "size", "Size"),
	FIELD(SIZE, available_bytes, "size_available", "Size of the export"),
	FIELD(SIZE, block_bytes, "block_size", "Block size"),
	FIELD(BOOL, read_only, "read_only", "Read-only"),
	FIELD_CALL(put_flags, "flags", "Server offers"),
	FIELD(BOOL, structured, "structured_replies", "Structured replies"),
	FIELD(SIZE, server_block_min, "server_block_minimum",
	      "Server minimum block"),
	FIELD(SIZE, server_block_pref, "server_block_preferred",
	      "Server preferred block"),
	FIELD(SIZE, server_block_max, "server_payload_maximum",
	      "Server largest payload"),
	FIELD(BOOL, swap, "swap_guarantees", "Swap guarantees"),
	FIELD(BOOL, swap_active, "swap_active", "Activated as swap"),
	FIELD_CALL(put_priority, "swap_priority", "Swap priority"),
	FIELD(NUMBER, queues, "connections", "Connections"),
	FIELD(NUMBER, links_up, "connections_up", "Connections up"),
	FIELD_CALL(put_link, "link", "Link"),
	FIELD(TIME, link_since, "link_since", "Link since"),
	FIELD_CALL(put_link_error, "link_error", "Last link error"),
	FIELD_CALL(put_records, "tls_records", "TLS records"),
	FIELD_CALL(put_records_why, "tls_records_why", "Not the kernel's"),
	FIELD_CALL(put_tls_version, "tls_version", "TLS version"),
	FIELD_CALL(put_tls_cipher, "tls_cipher", "TLS cipher"),
	FIELD_CALL(put_tls_peer, "tls_peer", "TLS peer"),
	FIELD(TIME, tls_peer_expires, "tls_peer_expires", "TLS peer expires"),
	FIELD_CALL(put_endpoint, "endpoint", "Server in use"),
	FIELD(NUMBER, failovers, "failovers", "Changes of server"),
	FIELD(NUMBER, reconnects, "reconnects", "Reconnects"),
	FIELD(NUMBER, connect_attempts, "connect_attempts",
	      "Attempts since lost"),
	FIELD_CALL(put_link_next, "link_next_ms", "Next attempt in, ms"),
	FIELD(NUMBER, request_timeout_ms, "request_timeout_ms",
	      "Request time-out, ms"),
	FIELD(NUMBER, retry_ms, "retry_ms", "Errors retried for, ms"),
	FIELD_CALL(put_server_silent, "server_silent_ms", "Answer owed for, ms"),
	FIELD(NUMBER, probes, "probes", "Probes of a silent server"),
	FIELD(NUMBER, links_replaced, "links_replaced",
	      "Silent links replaced"),
	FIELD(NUMBER, unfenced, "unfenced", "Old links not seen to end"),
	FIELD(NUMBER, spare_sockets, "spare_sockets", "Spare sockets"),
	FIELD_CALL(put_shed, "shed", "Traffic shedding"),
	FIELD(TIME, shed_since, "shed_since", "Shedding so since"),
	FIELD(NUMBER, shed_packets, "shed_packets", "Packets shed"),
	FIELD(SIZE, shed_bytes, "shed_bytes", "Bytes shed"),
	FIELD_CALL(put_data_heartbeat, "data_heartbeat", "Data heartbeat"),
	FIELD_CALL(put_data_silent_ms, "data_silent_ms", "Data silent, ms"),
	FIELD_CALL(put_control_heartbeat, "control_heartbeat",
		   "Control heartbeat"),
};

static const struct field resource_fields[] = {
	FIELD(NUMBER, slots, "slots", "Slots"),
	FIELD(NUMBER, slots_reserve, "slots_reserve", "Reserve slots"),
	FIELD(NUMBER, data.base_slots, "base_slots", "Base slots there"),
	FIELD(SIZE, base_resident_bytes, "base_resident", "Memory of the base"),
	FIELD(NUMBER, base_shrinks, "base_shrinks", "Base given back"),
	FIELD(SIZE, slot_bytes, "slot_size", "Slot size"),
	FIELD(NUMBER, data.slots_free_min, "slots_free_min",
	      "Fewest slots free"),
	FIELD(NUMBER, data.in_flight_max, "in_flight_max", "Most in flight"),
	FIELD(NUMBER, data.states[REQUEST_FREE], "slots_free", "Slots free"),
	FIELD(NUMBER, data.states[REQUEST_NEW], "requests_new", "Requests new"),
	FIELD(NUMBER, data.states[REQUEST_PUT_OFF], "requests_put_off",
	      "Requests put off"),
	FIELD(NUMBER, data.states[REQUEST_PARKED], "requests_parked",
	      "Requests parked"),
	FIELD(NUMBER, data.states[REQUEST_SENDING], "requests_sending",
	      "Requests sending"),
	FIELD(NUMBER, data.states[REQUEST_WAITING], "requests_waiting",
	      "Requests waiting"),
	FIELD(NUMBER, data.states[REQUEST_RECEIVING], "requests_receiving",
	      "Requests receiving"),
	FIELD(NUMBER, data.states[REQUEST_DONE], "requests_done",
	      "Requests done"),
	FIELD(SIZE, pinned_bytes, "pinned", "Pinned region"),
	FIELD(KBYTES, locked_kbytes, "locked", "Locked memory"),
	FIELD(KBYTES, min_free_kbytes, "min_free", "vm.min_free_kbytes"),
	FIELD(NUMBER, data_minor_faults, "data_minor_faults", "Minor faults"),
	FIELD(NUMBER, data_major_faults, "data_major_faults", "Major faults"),
	FIELD(NUMBER, data.stray_mallocs, "stray_mallocs", "Stray allocations"),
	FIELD(SIZE, tls_memory_bytes, "tls_memory", "TLS memory"),
	FIELD(SIZE, tls_memory_used, "tls_memory_used", "TLS memory used"),
	FIELD(SIZE, tls_memory_peak, "tls_memory_peak", "TLS memory peak"),
	FIELD(NUMBER, tls_memory_denied, "tls_memory_denied",
	      "TLS memory denied"),
	FIELD(NUMBER, tls_memory_strays, "tls_memory_strays",
	      "TLS memory strays"),
	FIELD(NUMBER, data.low_episodes, "low_episodes", "Reserve opened"),
	FIELD(NUMBER, data.wakeups, "wakeups", "Wake-ups"),
	FIELD(NUMBER, data.parked_total, "parked", "Requests ever parked"),
	FIELD(NUMBER, data.replayed_total, "replayed", "Requests replayed"),
	FIELD(NUMBER, data.retried_total, "retried",
	      "Asked again after an error"),
	FIELD(NUMBER, data.retries_failed, "retries_failed",
	      "Of these, failed in the end"),
	FIELD(NUMBER, data.stale_replies, "stale_replies", "Stale replies"),
	FIELD(NUMBER, data.oversize, "oversize", "Requests too large"),
	FIELD(NUMBER, data.link_sends, "link_sends", "Sends to server"),
	FIELD(NUMBER, data.link_receives, "link_receives",
	      "Receives from server"),
	FIELD(NUMBER, data.front_sends, "front_sends", "Sends to kernel"),
	FIELD(NUMBER, data.front_receives, "front_receives",
	      "Receives from kernel"),
	FIELD(NUMBER, data.front_stalls, "front_stalls", "Waits for a slot"),
	FIELD(NUMBER, data.rx_exhausted, "rx_exhausted",
	      "Receives without buffer"),
};

static uint64_t number(const struct stats_page *page, const struct field *field)
{
	const void *at = (const char *)page + field->offset;

	return field->bytes == sizeof(uint64_t) ? *(const uint64_t *)at :
						  *(const uint32_t *)at;
}

static void put_field(struct table *table, const struct field *field,
		      const struct stats_page *page)
{
	switch (field->kind) {
	case STRING:
		table_string(table, (const char *)page + field->offset);
		break;
	case NUMBER:
		table_number(table, number(page, field));
		break;
	case SIZE:
		table_size(table, number(page, field));
		break;
	case KBYTES:
		table_size(table, number(page, field) * KIB);
		break;
	case TIME:
		table_time(table, number(page, field));
		break;
	case BOOL:
		table_bool(table, number(page, field) != 0);
		break;
	case CALL:
		field->put(table, page);
		break;
	}
}

static const struct field memory_fields[] = {
	FIELD_CALL(put_memory, "memory", "Memory"),
	FIELD(TIME, memory_since, "memory_since", "Memory since"),
	FIELD(NUMBER, tight_episodes, "tight_episodes", "Times tight"),
	FIELD(BOOL, psi, "psi", "Kernel tells pressure"),
	FIELD_CALL(put_window, "window", "Window"),
	FIELD(NUMBER, data.window_closings, "window_closings", "Times closed"),
	FIELD(SIZE, data.window_tx_bytes, "window_tx", "Send window"),
	FIELD(SIZE, guaranteed_tx_bytes, "window_tx_guaranteed",
	      "Send window, guaranteed"),
	FIELD(SIZE, open_tx_bytes, "window_tx_open", "Send window, open"),
	FIELD(SIZE, data.window_rx_bytes, "window_rx", "Receive window"),
	FIELD(SIZE, guaranteed_rx_bytes, "window_rx_guaranteed",
	      "Receive window, guaranteed"),
	FIELD(SIZE, open_rx_bytes, "window_rx_open", "Receive window, open"),
	FIELD(NUMBER, ordinary_deferred, "ordinary_deferred",
	      "Messages deferred"),
};

#define FIELDS_MAX 64
_Static_assert(COUNT(device_fields) <= FIELDS_MAX &&
		       COUNT(resource_fields) <= FIELDS_MAX &&
		       COUNT(memory_fields) <= FIELDS_MAX,
	       "room for columns");

static void print_fields(struct output *out, const char *key,
			 const struct field *fields, size_t count,
			 const struct stats_page *page)
{
	struct table_column columns[FIELDS_MAX] = { 0 };
	struct table *table;
	size_t i;

	for (i = 0; i < count; i++)
		columns[i] = fields[i].column;
	table = table_new(out, columns, count);
	for (i = 0; i < count; i++)
		put_field(table, &fields[i], page);
	table_print(table, key, TABLE_FIELDS);
}

static void print_guarantees(struct output *out, const struct stats_page *page)
{
	static const struct table_column columns[] = {
		{ "name", "GUARANTEE", false },
		{ "state", "STATE", false },
		{ "detail", "DETAIL", false },
	};
	struct table *table = table_new(out, columns, COUNT(columns));
	struct stats_guarantee row;
	size_t i;

	for (i = 0; i < STATS_GUARANTEES; i++) {
		row = page->guarantees[i];
		row.name[sizeof(row.name) - 1] = '\0';
		row.detail[sizeof(row.detail) - 1] = '\0';
		if (!row.name[0])
			break;
		table_string(table, row.name);
		table_string(table, stats_guarantee_name(row.state));
		table_string(table, row.detail);
	}
	table_print(table, "guarantees", TABLE_ROWS);
}

static void print_endpoints(struct output *out, const struct stats_page *page)
{
	static const struct table_column columns[] = {
		{ "number", "SERVER", true },
		{ "uri", "URI", false },
		{ "link", "LINK", false },
		{ "error", "LAST ERROR", false },
	};
	struct table *table = table_new(out, columns, COUNT(columns));

	for (uint32_t i = 0; i < page->endpoint_count && i < ENDPOINTS_MAX;
	     i++) {
		const struct stats_endpoint *e = &page->endpoints[i];

		table_number(table, i + 1);
		put_text(table, e->uri, sizeof(e->uri));
		table_string(table, stats_link_name(e->link));
		put_text(table, e->error, sizeof(e->error));
	}
	table_print(table, "endpoints", TABLE_ROWS);
}

/* What is charged while memory is low, and how far it went. */
static void print_groups(struct output *out, const struct stats_page *page)
{
	static const struct table_column columns[] = {
		{ "name", "GROUP", false },
		{ "parent", "PART OF", false },
		{ "limit", "LIMIT", true },
		{ "usage", "USAGE", true },
		{ "peak", "PEAK", true },
		{ "denied", "DENIED", true },
	};
	struct table *table = table_new(out, columns, COUNT(columns));

	for (uint32_t i = 0; i < STATS_GROUPS; i++) {
		struct group g = page->data.groups[i];
		char parent[GROUP_NAME_BYTES] = "";

		g.name[GROUP_NAME_BYTES - 1] = '\0';
		if (!g.name[0])
			break;
		if (g.parent_at && g.parent_at <= i)
			memcpy(parent, page->data.groups[i - g.parent_at].name,
			       sizeof(parent) - 1);
		table_string(table, g.name);
		table_string(table, parent);
		table_size(table, g.limit_bytes);
		table_size(table, g.usage_bytes);
		table_size(table, g.peak_bytes);
		table_number(table, g.denied);
	}
	table_print(table, "groups", TABLE_ROWS);
}

static void print_operations(struct output *out, const struct stats_page *page)
{
	static const struct table_column columns[] = {
		{ "operation", "OPERATION", false },
		{ "requests", "REQUESTS", true },
		{ "bytes", "BYTES", true },
		{ "errors", "ERRORS", true },
		{ "latency_p50_us", "P50 US", true },
		{ "latency_p99_us", "P99 US", true },
	};
	struct table *table = table_new(out, columns, COUNT(columns));
	const struct stats_data *data = &page->data;
	uint32_t op;

	for (op = 0; op < STATS_OPS; op++) {
		table_string(table, stats_op_name(op));
		table_number(table, data->requests[op]);
		table_size(table, data->bytes[op]);
		table_number(table, data->errors[op]);
		table_number(table, stats_percentile_us(data->latency[op],
							500));
		table_number(table, stats_percentile_us(data->latency[op],
							990));
	}
	table_print(table, "operations", TABLE_ROWS);
}

struct status_line {
	struct output_options output;
	uint32_t watch_ms; /* 0: once */
};

#define WATCH_S_MAX 3600

static int set_watch(void *target, const char *value, struct err *err)
{
	struct status_line *line = target;
	uint64_t seconds = 1;

	if (value && (options_parse_number(value, &seconds) || !seconds ||
		      seconds > WATCH_S_MAX))
		return err_set(err, X_USAGE, EINVAL,
			       "--watch takes 1 to %d seconds", WATCH_S_MAX);
	line->watch_ms = (uint32_t)seconds * 1000;
	return 0;
}

static const struct option_spec status_options[] = {
	CMD_OUTPUT_OPTIONS(offsetof(struct status_line, output)),
	{ .name = "watch",
	  .kind = OPTION_CALL,
	  .value = "[=SECONDS]",
	  .set = set_watch,
	  .help = "shows it every second, or every SECONDS, as it\n"
		  "changes; a line each if not to a terminal" },
	CMD_OPTIONS_END
};

static void print_page(struct output *out, const struct stats_page *page)
{
	print_fields(out, "device", device_fields, COUNT(device_fields), page);
	print_endpoints(out, page);
	print_guarantees(out, page);
	print_operations(out, page);
	print_fields(out, "resources", resource_fields, COUNT(resource_fields),
		     page);
	print_fields(out, "memory", memory_fields, COUNT(memory_fields), page);
	print_groups(out, page);
}

static int run(int argc, char **argv, struct err *err)
{
	struct status_line line = { 0 };
	static struct stats_page copy; /* large */
	const struct stats_page *page;
	struct blockdev device;
	struct words words;
	struct output out;
	int rc;

	rc = options_parse(&cmd_status, argc, argv, &line, 1, 1, &words, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	if (line.watch_ms && line.output.json)
		return err_set(err, X_USAGE, EINVAL,
			       "--watch prints no JSON; leave one of them out");
	rc = blockdev_parse(words.word[0], &device, err);
	if (rc)
		return rc;
	rc = stats_open(device.name, &page, err);
	if (rc)
		return rc;
	if (line.watch_ms) {
		rc = cmd_watch(page, line.watch_ms, &line.output, err);
		stats_close(page);
		return rc;
	}
	output_begin(&out, stdout, &line.output);
	stats_copy(page, &copy);
	print_page(&out, &copy);
	rc = output_end(&out, err);
	if (!rc && !stats_alive(page))
		rc = err_set(err, X_FAILURE, ESRCH,
			     "the daemon of %s has died; \"nbd-client detach "
			     "--force %s\" removes what is left", device.name,
			     device.name);
	else if (!rc && !page->supervised)
		rc = err_set(err, X_FAILURE, ESRCH,
			     "the supervisor of %s has died: requests are served, but if "
			     "process %d dies, too, they wait; \"nbd-client recover %s\" "
			     "makes a new pair", device.name, page->pid,
			     device.name);
	stats_close(page);
	return rc;
}

const struct command cmd_status = {
	.name = "status",
	.words = "DEV",
	.summary = "Shows guarantees, counters, health.",
	.examples = "  nbd-client status nbd0\n"
		    "  nbd-client status --watch nbd0",
	.options = status_options,
	.run = run,
};
