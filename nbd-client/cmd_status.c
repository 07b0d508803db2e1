// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbd-client status: everything that a status page says. It only reads the
 * page, so it works while the daemon is stuck, and says that it is.
 * Command line.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "include/nbd-wire.h"
#include "nbd-client/blockdev.h"
#include "nbd-client/cmd.h"
#include "nbd-client/stats.h"

struct status_line {
	struct output_options output;
};

static const struct option_spec status_options[] = {
	CMD_OUTPUT_OPTIONS(struct status_line, output),
	CMD_OPTIONS_END
};

/* A value of the page, read in one of these ways. */
enum field_kind {
	FIELD_STRING,
	FIELD_U32,
	FIELD_U64,
	FIELD_SIZE32,
	FIELD_SIZE64,
	FIELD_KBYTES64,
	FIELD_TIME,
	FIELD_BOOL,
	FIELD_CALL,
};

struct field {
	struct table_column column;
	enum field_kind kind;
	size_t offset;
	void (*put)(struct table *table, const struct stats_page *page);
};

#define AT(member) offsetof(struct stats_page, member)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void put_daemon(struct table *table, const struct stats_page *page)
{
	table_string(table, stats_alive(page) ? "running" : "dead");
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

static void put_link_error(struct table *table, const struct stats_page *page)
{
	char text[sizeof(page->link_error)];

	/* The daemon may be writing it right now. */
	memcpy(text, page->link_error, sizeof(text));
	text[sizeof(text) - 1] = '\0';
	if (*text)
		table_string(table, text);
	else
		table_none(table);
}

static void put_shed(struct table *table, const struct stats_page *page)
{
	table_string(table, stats_shed_name(page->shed));
}

static const struct field device_fields[] = {
	{ { "device", "Device", 0 }, FIELD_STRING, AT(device), NULL },
	{ { "daemon", "Daemon", 0 }, FIELD_CALL, 0, put_daemon },
	{ { "pid", "Process", 0 }, FIELD_U32, AT(pid), NULL },
	{ { "worker_pid", "Worker process", 0 }, FIELD_CALL, 0, put_worker },
	{ { "standby", "Standby", 0 }, FIELD_CALL, 0, put_standby },
	{ { "supervised", "Supervised", 0 }, FIELD_BOOL, AT(supervised), NULL },
	{ { "takeovers", "Takeovers", 0 }, FIELD_U64, AT(takeovers), NULL },
	{ { "watchdog_kills", "Of these, by the watchdog", 0 }, FIELD_U64,
	  AT(watchdog_kills), NULL },
	{ { "interruption_ms", "Last interruption, ms", 0 }, FIELD_U64,
	  AT(interruption_ms), NULL },
	{ { "interruption_max_ms", "Longest interruption, ms", 0 }, FIELD_U64,
	  AT(interruption_max_ms), NULL },
	{ { "state", "State", 0 }, FIELD_CALL, 0, put_state },
	{ { "uri", "URI", 0 }, FIELD_STRING, AT(uri), NULL },
	{ { "front", "Front", 0 }, FIELD_STRING, AT(front), NULL },
	{ { "attached_at", "Attached", 0 }, FIELD_TIME, AT(attached_at), NULL },
	{ { "size", "Size", 0 }, FIELD_SIZE64, AT(export_bytes), NULL },
	{ { "block_size", "Block size", 0 }, FIELD_SIZE32, AT(block_bytes),
	  NULL },
	{ { "read_only", "Read-only", 0 }, FIELD_BOOL, AT(read_only), NULL },
	{ { "flags", "Server offers", 0 }, FIELD_CALL, 0, put_flags },
	{ { "structured_replies", "Structured replies", 0 }, FIELD_BOOL,
	  AT(structured), NULL },
	{ { "server_block_minimum", "Server minimum block", 0 }, FIELD_SIZE32,
	  AT(server_block_min), NULL },
	{ { "server_block_preferred", "Server preferred block", 0 },
	  FIELD_SIZE32, AT(server_block_pref), NULL },
	{ { "server_payload_maximum", "Server largest payload", 0 },
	  FIELD_SIZE32, AT(server_block_max), NULL },
	{ { "swap_guarantees", "Swap guarantees", 0 }, FIELD_BOOL, AT(swap),
	  NULL },
	{ { "swap_active", "Activated as swap", 0 }, FIELD_BOOL,
	  AT(swap_active), NULL },
	{ { "swap_priority", "Swap priority", 0 }, FIELD_CALL, 0,
	  put_priority },
	{ { "link", "Link", 0 }, FIELD_CALL, 0, put_link },
	{ { "link_since", "Link since", 0 }, FIELD_TIME, AT(link_since), NULL },
	{ { "link_error", "Last link error", 0 }, FIELD_CALL, 0,
	  put_link_error },
	{ { "reconnects", "Reconnects", 0 }, FIELD_U64, AT(reconnects), NULL },
	{ { "connect_attempts", "Attempts since lost", 0 }, FIELD_U64,
	  AT(connect_attempts), NULL },
	{ { "unfenced", "Old links not seen to end", 0 }, FIELD_U64,
	  AT(unfenced), NULL },
	{ { "shed", "Traffic shedding", 0 }, FIELD_CALL, 0, put_shed },
	{ { "shed_since", "Shedding so since", 0 }, FIELD_TIME, AT(shed_since),
	  NULL },
	{ { "shed_packets", "Packets shed", 0 }, FIELD_U64, AT(shed_packets),
	  NULL },
	{ { "shed_bytes", "Bytes shed", 0 }, FIELD_SIZE64, AT(shed_bytes),
	  NULL },
	{ { "data_heartbeat", "Data heartbeat", 0 }, FIELD_CALL, 0,
	  put_data_heartbeat },
	{ { "data_silent_ms", "Data silent, ms", 0 }, FIELD_CALL, 0,
	  put_data_silent_ms },
	{ { "control_heartbeat", "Control heartbeat", 0 }, FIELD_CALL, 0,
	  put_control_heartbeat },
};

#define STATE(s) AT(data.states) + (s) * sizeof(uint64_t)
static const struct field resource_fields[] = {
	{ { "slots", "Slots", 0 }, FIELD_U32, AT(slots), NULL },
	{ { "slots_reserve", "Reserve slots", 0 }, FIELD_U32, AT(slots_reserve),
	  NULL },
	{ { "base_slots", "Base slots there", 0 }, FIELD_U64,
	  AT(data.base_slots), NULL },
	{ { "base_resident", "Memory of the base", 0 }, FIELD_SIZE64,
	  AT(base_resident_bytes), NULL },
	{ { "base_shrinks", "Base given back", 0 }, FIELD_U64, AT(base_shrinks),
	  NULL },
	{ { "slot_size", "Slot size", 0 }, FIELD_SIZE32, AT(slot_bytes), NULL },
	{ { "slots_free_min", "Fewest slots free", 0 }, FIELD_U64,
	  AT(data.slots_free_min), NULL },
	{ { "in_flight_max", "Most in flight", 0 }, FIELD_U64,
	  AT(data.in_flight_max), NULL },
	{ { "slots_free", "Slots free", 0 }, FIELD_U64, STATE(REQUEST_FREE),
	  NULL },
	{ { "requests_new", "Requests new", 0 }, FIELD_U64, STATE(REQUEST_NEW),
	  NULL },
	{ { "requests_parked", "Requests parked", 0 }, FIELD_U64,
	  STATE(REQUEST_PARKED), NULL },
	{ { "requests_sending", "Requests sending", 0 }, FIELD_U64,
	  STATE(REQUEST_SENDING), NULL },
	{ { "requests_waiting", "Requests waiting", 0 }, FIELD_U64,
	  STATE(REQUEST_WAITING), NULL },
	{ { "requests_receiving", "Requests receiving", 0 }, FIELD_U64,
	  STATE(REQUEST_RECEIVING), NULL },
	{ { "requests_done", "Requests done", 0 }, FIELD_U64,
	  STATE(REQUEST_DONE), NULL },
	{ { "pinned", "Pinned region", 0 }, FIELD_SIZE64, AT(pinned_bytes),
	  NULL },
	{ { "locked", "Locked memory", 0 }, FIELD_KBYTES64, AT(locked_kbytes),
	  NULL },
	{ { "min_free", "vm.min_free_kbytes", 0 }, FIELD_KBYTES64,
	  AT(min_free_kbytes), NULL },
	{ { "data_minor_faults", "Minor faults", 0 }, FIELD_U64,
	  AT(data_minor_faults), NULL },
	{ { "data_major_faults", "Major faults", 0 }, FIELD_U64,
	  AT(data_major_faults), NULL },
	{ { "stray_mallocs", "Stray allocations", 0 }, FIELD_U64,
	  AT(data.stray_mallocs), NULL },
	{ { "low_episodes", "Reserve opened", 0 }, FIELD_U64,
	  AT(data.low_episodes), NULL },
	{ { "wakeups", "Wake-ups", 0 }, FIELD_U64, AT(data.wakeups), NULL },
	{ { "parked", "Requests ever parked", 0 }, FIELD_U64,
	  AT(data.parked_total), NULL },
	{ { "replayed", "Requests replayed", 0 }, FIELD_U64,
	  AT(data.replayed_total), NULL },
	{ { "stale_replies", "Stale replies", 0 }, FIELD_U64,
	  AT(data.stale_replies), NULL },
	{ { "oversize", "Requests too large", 0 }, FIELD_U64, AT(data.oversize),
	  NULL },
	{ { "link_sends", "Sends to server", 0 }, FIELD_U64,
	  AT(data.link_sends), NULL },
	{ { "link_receives", "Receives from server", 0 }, FIELD_U64,
	  AT(data.link_receives), NULL },
	{ { "front_sends", "Sends to kernel", 0 }, FIELD_U64,
	  AT(data.front_sends), NULL },
	{ { "front_receives", "Receives from kernel", 0 }, FIELD_U64,
	  AT(data.front_receives), NULL },
	{ { "front_stalls", "Waits for a slot", 0 }, FIELD_U64,
	  AT(data.front_stalls), NULL },
	{ { "rx_exhausted", "Receives without buffer", 0 }, FIELD_U64,
	  AT(data.rx_exhausted), NULL },
};

static void put_field(struct table *table, const struct field *field,
		      const struct stats_page *page)
{
	const void *at = (const char *)page + field->offset;

	switch (field->kind) {
	case FIELD_STRING:
		table_string(table, at);
		break;
	case FIELD_U32:
		table_number(table, *(const uint32_t *)at);
		break;
	case FIELD_U64:
		table_number(table, *(const uint64_t *)at);
		break;
	case FIELD_SIZE32:
		table_size(table, *(const uint32_t *)at);
		break;
	case FIELD_SIZE64:
		table_size(table, *(const uint64_t *)at);
		break;
	case FIELD_KBYTES64:
		table_size(table, *(const uint64_t *)at * KIB);
		break;
	case FIELD_TIME:
		table_time(table, *(const uint64_t *)at);
		break;
	case FIELD_BOOL:
		table_bool(table, *(const uint32_t *)at != 0);
		break;
	case FIELD_CALL:
		field->put(table, page);
		break;
	}
}

static const struct field memory_fields[] = {
	{ { "memory", "Memory", 0 }, FIELD_CALL, 0, put_memory },
	{ { "memory_since", "Memory since", 0 }, FIELD_TIME, AT(memory_since),
	  NULL },
	{ { "tight_episodes", "Times tight", 0 }, FIELD_U64, AT(tight_episodes),
	  NULL },
	{ { "psi", "Kernel tells pressure", 0 }, FIELD_BOOL, AT(psi), NULL },
	{ { "window", "Window", 0 }, FIELD_CALL, 0, put_window },
	{ { "window_closings", "Times closed", 0 }, FIELD_U64,
	  AT(data.window_closings), NULL },
	{ { "window_tx", "Send window", 0 }, FIELD_SIZE64,
	  AT(data.window_tx_bytes), NULL },
	{ { "window_tx_guaranteed", "Send window, guaranteed", 0 },
	  FIELD_SIZE64, AT(guaranteed_tx_bytes), NULL },
	{ { "window_tx_open", "Send window, open", 0 }, FIELD_SIZE64,
	  AT(open_tx_bytes), NULL },
	{ { "window_rx", "Receive window", 0 }, FIELD_SIZE64,
	  AT(data.window_rx_bytes), NULL },
	{ { "window_rx_guaranteed", "Receive window, guaranteed", 0 },
	  FIELD_SIZE64, AT(guaranteed_rx_bytes), NULL },
	{ { "window_rx_open", "Receive window, open", 0 }, FIELD_SIZE64,
	  AT(open_rx_bytes), NULL },
	{ { "ordinary_deferred", "Messages deferred", 0 }, FIELD_U64,
	  AT(ordinary_deferred), NULL },
};

#define FIELDS_MAX 40
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

static int run(int argc, char **argv, struct err *err)
{
	struct status_line line = { 0 };
	const struct stats_page *page;
	struct blockdev device;
	struct words words;
	struct output out;
	int rc;

	rc = options_parse(&cmd_status, argc, argv, &line, 1, 1, &words, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	rc = blockdev_parse(words.word[0], &device, err);
	if (rc)
		return rc;
	rc = stats_open(device.name, &page, err);
	if (rc)
		return rc;
	output_begin(&out, stdout, &line.output);
	print_fields(&out, "device", device_fields, COUNT(device_fields), page);
	print_guarantees(&out, page);
	print_operations(&out, page);
	print_fields(&out, "resources", resource_fields,
		     COUNT(resource_fields), page);
	print_fields(&out, "memory", memory_fields, COUNT(memory_fields), page);
	print_groups(&out, page);
	rc = output_end(&out, err);
	if (!rc && !stats_alive(page))
		rc = err_set(err, X_FAILURE, ESRCH,
			     "the daemon of %s has died; \"nbd-client detach "
			     "--force %s\" removes what is left", device.name,
			     device.name);
	stats_close(page);
	return rc;
}

const struct command cmd_status = {
	.name = "status",
	.words = "DEV",
	.summary = "Shows guarantees, counters, health.",
	.options = status_options,
	.run = run,
};
