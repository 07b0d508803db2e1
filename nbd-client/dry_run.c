// SPDX-License-Identifier: GPL-2.0-or-later
/* The sums of a device, printed. See dry_run.h. */
#include <errno.h>
#include <stdio.h>

#include "nbd-client/conn.h"
#include "nbd-client/dry_run.h"
#include "nbd-client/host.h"
#include "nbd-client/host_strangers.h"
#include "nbd-client/sizing.h"

static void print_lines(struct output *out, const char *key,
			const struct sizing_line *lines, size_t count)
{
	const struct table_column columns[] = {
		{ .key = "holder", .heading = key },
		{ .key = "bytes", .heading = "BYTES", .right = true },
	};
	struct table *table = table_new(out, columns, 2);
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		table_string(table, lines[i].holder);
		table_number(table, lines[i].bytes);
		sum += lines[i].bytes;
	}
	table_string(table, "sum");
	table_number(table, sum);
	table_print(table, key, TABLE_ROWS);
}

/* Too little is refused with the sum that says why, on standard error. */
int dry_run_check_reserve(const struct attach_options *o, struct err *err)
{
	/* A server that takes less than a slot in a request needs less still. */
	static const struct export_info any = {
		.block_max = SLOT_BYTES_MAX,
		.flags = NBD_FLAG_CAN_MULTI_CONN,
	};
	struct attach_options least = *o;
	struct sizing_line lines[SIZING_LINES_MAX];
	struct engine_config config;
	struct output out;
	uint64_t bytes;

	least.reserve_bytes = 1;
	config = sizing_config(&least, &any);
	bytes = sizing_request_bytes(&config);
	if (!o->reserve_bytes || o->reserve_bytes >= bytes)
		return 0;
	output_begin(&out, stderr, &(struct output_options){ .json = false });
	print_lines(&out, "least", lines, sizing_pinned_lines(&config, lines));
	(void)output_end(&out, NULL);
	return err_set(err, X_USAGE, EINVAL,
		       "--reserve must be at least %llu bytes with slots of %u "
		       "KiB, see the sum; a smaller --slot-size needs less",
		       (unsigned long long)bytes, config.slot_bytes / KIB);
}

/* What may be under way at once: when memory is low, and else. */
static void print_windows(struct output *out, const struct engine_config *c)
{
	static const struct table_column columns[] = {
		{ .key = "window", .heading = "windows" },
		{ .key = "send", .heading = "SEND", .right = true },
		{ .key = "receive", .heading = "RECEIVE", .right = true },
	};
	struct table *table = table_new(out, columns, 3);

	table_string(table, "guaranteed");
	table_number(table, c->queues * c->guaranteed.tx_bytes);
	table_number(table, c->queues * c->guaranteed.rx_bytes);
	table_string(table, "open");
	table_number(table, c->queues * c->open.tx_bytes);
	table_number(table, c->queues * c->open.rx_bytes);
	table_print(table, "windows", TABLE_ROWS);
}

/* Asks the server, because its limits are among the summands. */
int dry_run(const struct attach_options *o, const struct output_options *options,
	    struct err *err)
{
	const struct socket_memory plain = { 0 };
	static struct conn conn; /* large */
	struct tls tls = { 0 };
	struct sizing_line lines[SIZING_LINES_MAX];
	struct host_strangers strangers;
	struct engine_config config;
	struct output out;
	int rc;

	rc = conn_init(&conn, &o->addr, &plain, o->handshake_ms, err);
	if (!rc)
		rc = tls_open(&tls, &o->tls, &o->addr, err);
	conn_set_tls(&conn, &tls);
	if (!rc)
		rc = conn_probe(&conn, err);
	tls_close(&tls);
	if (rc)
		return rc;
	config = sizing_config(o, &conn.export);
	conn_fini(&conn);
	output_begin(&out, stdout, options);
	print_lines(&out, "process", lines,
		    sizing_process_lines(&config, lines));
	if (o->swap != SWAP_NO) {
		(void)host_strangers_look(host_paths.proc, host_paths.sys,
					  &strangers);
		print_lines(&out, "kernel", lines,
			    sizing_kernel_lines(o, config.queues, &strangers,
						lines));
	}
	print_windows(&out, &config);
	return output_end(&out, err);
}
