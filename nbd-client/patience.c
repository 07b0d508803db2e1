// SPDX-License-Identifier: GPL-2.0-or-later
/* When patience ends. Control thread. */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "nbd-client/link_io.h"
#include "nbd-client/patience.h"

/* Not replaced for so many times the limit, it has the first one again. */
#define FORGET_LIMITS 8u

/* The connection has so long to answer after the probe was. */
#define GRACE_NS (NS_PER_S / 2)

void patience_init(struct patience *p, struct conn *conn, uint32_t timeout_ms)
{
	*p = (struct patience){ .limit_ns = timeout_ms * NS_PER_MS,
				.factor = 1 };
	probe_init(&p->probe, conn);
}

void patience_end(struct patience *p)
{
	probe_end(&p->probe);
	p->proved_ns = 0;
}

int patience_step(struct patience *p)
{
	int ret = probe_step(&p->probe);

	if (ret == -EAGAIN)
		return ret;
	if (ret == 0)
		p->proved_ns = clock_now_ns();
	p->next_ns = clock_now_ns() + p->limit_ns;
	return ret ? ret : -EAGAIN;
}

/* A link that is only slow moves: the peer's host takes what was sent. */
static uint64_t sign_ns(struct patience *p, const struct engine_owed *owed,
			uint64_t now_ns)
{
	int queued = link_queued(p->probe.conn->fd);

	if (queued < p->queued_bytes)
		p->moved_ns = now_ns;
	p->queued_bytes = queued;
	return owed->overtaken || p->moved_ns < owed->since_ns ?
		       owed->since_ns : p->moved_ns;
}

/* The link was not to blame if the next one is no better: so more for that. */
static enum patience_verdict replace(struct patience *p, uint64_t now_ns)
{
	patience_end(p);
	p->replaced++;
	p->replaced_ns = now_ns;
	if (p->factor < PATIENCE_FACTOR_MAX)
		p->factor *= 2;
	return PATIENCE_REPLACE;
}

enum patience_verdict patience_look(struct patience *p,
				    const struct engine_owed *owed)
{
	uint64_t now_ns = clock_now_ns();

	if (now_ns - p->replaced_ns > FORGET_LIMITS * p->factor * p->limit_ns)
		p->factor = 1;
	if (!p->limit_ns || !owed->since_ns ||
	    now_ns - sign_ns(p, owed, now_ns) < p->factor * p->limit_ns) {
		patience_end(p);
		return PATIENCE_KEPT;
	}
	if (link_is_unreachable(p->probe.conn->fd,
				(uint32_t)(p->limit_ns / NS_PER_MS))) {
		patience_end(p);
		return PATIENCE_GONE;
	}
	/* One that was stopped and goes on may answer the probe first. */
	if (p->proved_ns && now_ns - p->proved_ns >= GRACE_NS)
		return replace(p, now_ns);
	if (!p->proved_ns && p->probe.stage == PROBE_REST &&
	    now_ns >= p->next_ns) {
		probe_start(&p->probe, owed->read, owed->offset,
			    (uint32_t)(p->limit_ns / NS_PER_MS));
		p->probes++;
	}
	return PATIENCE_LOST;
}
