// SPDX-License-Identifier: GPL-2.0-or-later
/* A device whose server is silent, or has been gone for too long. Control thread. */
#include <errno.h>

#include "common/clock.h"
#include "common/log.h"
#include "nbd-client/device_kernel.h"
#include "nbd-client/device_serve.h"

void device_give_up(struct queue *q, const char *why, uint32_t mail)
{
	if (q->conn.state == CONN_UP)
		q->giving_up = why;
	if (q->engine)
		engine_post(q->engine, MAIL_LINK_DROP | mail);
	else if (q->conn.state == CONN_UP)
		device_kernel_drop(q);
}

void device_watch_silence(struct queue *q)
{
	const struct engine_owed owed = engine_owed(q->engine);
	struct device *d = q->device;
	uint64_t probes = q->patience.probes;
	bool up = q->conn.state == CONN_UP;
	enum patience_verdict verdict =
		up ? patience_look(&q->patience, &owed) : PATIENCE_KEPT;
	bool silent = verdict != PATIENCE_KEPT;

	d->page->probes += q->patience.probes - probes;
	if (verdict == PATIENCE_LOST && !q->silent_since_ns)
		log_say(LOG_LEVEL_WARNING,
			"%s: %s has owed an answer for %u s; asking on another connection",
			d->path, conn_where(&q->conn),
			d->options->request_timeout_ms / 1000);
	if (up && !silent && q->silent_since_ns)
		log_say(LOG_LEVEL_NOTICE, "%s: %s answers again", d->path,
			conn_where(&q->conn));
	q->silent_since_ns = silent ? owed.since_ns : 0;
	d->standby.leave &= silent;
	if (verdict == PATIENCE_REPLACE) {
		d->page->links_replaced++;
		device_give_up(q, "the server answers on another one, not on this", 0);
	} else if (verdict == PATIENCE_GONE) {
		q->unreachable = true;
		device_give_up(q, "the server's host acknowledges nothing", 0);
	}
}

void device_step_probe(struct queue *q)
{
	struct device *d = q->device;

	if (patience_step(&q->patience) == -EAGAIN)
		return;
	d->standby.leave = true;
	if (device_show_error(d, q->patience.probe.err.text))
		log_say(LOG_LEVEL_WARNING,
			"%s: no answer on another connection, either: %s; waiting",
			d->path, q->patience.probe.err.text);
}

void device_check_dead(struct queue *q, uint64_t now_ns)
{
	struct device *d = q->device;
	uint64_t limit_ns = d->options->dead_timeout_s * NS_PER_S;
	uint64_t since_ns = q->conn.state == CONN_UP ? q->silent_since_ns :
						       q->conn.down_since_ns;

	if (q->conn.state == CONN_UP)
		q->dead = false;
	if (!limit_ns || !since_ns || q->dead || now_ns - since_ns < limit_ns)
		return;
	q->dead = true;
	log_say(LOG_LEVEL_ERR,
		"%s: no link for %u s: requests fail until it is back",
		d->path, d->options->dead_timeout_s);
	device_give_up(q, "the server has been silent for too long", MAIL_FAIL);
}
