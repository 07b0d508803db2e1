// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A device and its servers: which one is in use, as status shows it and as the
 * next worker must know it; going to another by command; how large the export
 * is. Control thread.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/proto.h"
#include "nbd-client/blockdev.h"
#include "nbd-client/device.h"
#include "nbd-client/device_serve.h"

static struct conn *first_conn(struct device *d)
{
	return &d->queues[0].conn;
}

/* ---- how large ---- */

uint64_t device_usable_bytes(const struct device *d)
{
	uint64_t bytes = d->options->size_bytes;

	return proto_usable_bytes(bytes ? bytes : d->config.export->size_bytes,
				  d->block_bytes);
}

static void show_size(struct device *d)
{
	struct stats_page *p = d->page;
	uint64_t bytes = device_usable_bytes(d);

	if (bytes == p->available_bytes)
		return;
	p->available_bytes = bytes;
	log_say(LOG_LEVEL_NOTICE,
		"%s: the export has grown; with \"nbd-client reconnect %s\" the "
		"device will have %llu bytes instead of %llu",
		d->path, d->name, (unsigned long long)bytes,
		(unsigned long long)p->export_bytes);
}

void device_on_resize(struct device *d)
{
	uint64_t bytes;

	if (blockdev_size(d->name, &bytes) < 0 ||
	    bytes == d->page->export_bytes)
		return;
	log_say(LOG_LEVEL_NOTICE, "%s: %llu bytes now, %llu before", d->path,
		(unsigned long long)bytes,
		(unsigned long long)d->page->export_bytes);
	d->page->export_bytes = bytes;
}

/* ---- which server ---- */

void device_fill_endpoints(struct device *d)
{
	struct stats_page *p = d->page;
	const struct conn *c = first_conn(d);

	p->server_bytes = c->export.size_bytes;
	p->endpoint_count = c->ends->count;
	p->endpoint = c->known_at;
	for (uint32_t i = 0; i < p->endpoint_count; i++)
		addr_format(c->ends->list[i].addr, p->endpoints[i].uri,
			    sizeof(p->endpoints[i].uri));
	p->available_bytes = device_usable_bytes(d);
}

bool device_show_endpoint(struct device *d, const struct conn *c)
{
	struct stats_endpoint *e = &d->page->endpoints[c->tried];
	bool failed = c->state == CONN_DOWN && c->failed;
	const char *text = failed ? c->err.text : "";
	bool is_new = strncmp(e->error, text, sizeof(e->error) - 1) != 0;

	e->link = c->state;
	if (failed || c->state == CONN_READY)
		snprintf(e->error, sizeof(e->error), "%.*s",
			 (int)sizeof(e->error) - 1, text);
	return failed && is_new;
}

void device_keep_server(struct device *d)
{
	const struct conn *c = first_conn(d);
	struct stats_page *p = d->page;

	p->server_bytes = c->export.size_bytes;
	show_size(d);
	if (p->endpoint == c->at)
		return;
	p->endpoint = c->at;
	p->failovers++;
	log_say(LOG_LEVEL_NOTICE, "%s: served by %s now", d->path,
		p->endpoints[c->at].uri);
}

void device_recall_server(struct device *d)
{
	struct conn *c = first_conn(d);

	c->export.size_bytes = d->page->server_bytes;
	c->at = c->tried = c->known_at = d->page->endpoint;
}

/* ---- the second connection ---- */

static void on_standby_change(struct conn *c, enum conn_state was)
{
	struct device *d = list_entry(c, struct device, standby.conn);

	(void)was;
	if (device_show_endpoint(d, c))
		log_say(LOG_LEVEL_WARNING, "%s: would not do instead: %s",
			d->path, c->err.text);
}

void device_standby_up(struct device *d)
{
	standby_init(&d->standby, first_conn(d),
		     d->options->failback_s * 1000);
	d->standby.conn.on_change = on_standby_change;
}

/* The kernel's TLS stays on a socket: waiting must not use up the ready ones. */
static bool may_wait(const struct device *d)
{
	return !d->options->kernel_path || !conn_end(&d->queues[0].conn)->tls;
}

/* ---- by command ---- */

void device_reconnect(struct device *d, uint32_t number, uint32_t client)
{
	char text[80];

	if (number > d->page->endpoint_count) {
		snprintf(text, sizeof(text),
			 "there is no server number %u; status shows them all",
			 number);
		ctl_reply(&d->ctl, client, X_USAGE, text);
	} else if (d->standby.asked) {
		ctl_reply(&d->ctl, client, X_BUSY,
			  "another reconnect is under way");
	} else {
		d->reconnect_client = client;
		standby_ask(&d->standby,
			    number ? number - 1 : first_conn(d)->at);
	}
}

void device_step_standby(struct device *d)
{
	const struct err *err = &d->standby.err;
	const char *why = standby_wants_drop(&d->standby, clock_now_ns());

	d->standby.plentiful = d->page->state == STATS_LIVE &&
			       d->pressure.watching && may_wait(d) &&
			       pressure_is_plentiful(&d->pressure);
	if (why)
		device_give_up(&d->queues[0], why, 0);
	switch (standby_outcome(&d->standby)) {
	case STANDBY_DONE:
		ctl_reply(&d->ctl, d->reconnect_client, EXIT_OK, NULL);
		break;
	case STANDBY_FAILED:
		ctl_reply(&d->ctl, d->reconnect_client, err->exit_code,
			  err->text);
		break;
	case STANDBY_NONE:
		break;
	}
}
