// SPDX-License-Identifier: GPL-2.0-or-later
/* Where the servers are now. See follow.h. */
#include "common/clock.h"
#include "common/log.h"
#include "nbd-client/follow.h"
#include "nbd-client/neighbours.h"
#include "nbd-client/stats.h"

/* ---- what that process does ---- */

/* Readers see all of it or none; one that died while writing is written over. */
static void put(struct follow_found *f, const struct link_addrs *addrs)
{
	uint32_t version = f->version | 1;

	/* Nothing of the addresses is written before, */
	(void)__atomic_exchange_n(&f->version, version, __ATOMIC_ACQUIRE);
	f->addrs = *addrs;
	__atomic_store_n(&f->version, version + 1, __ATOMIC_RELEASE);
}

static void look_up(struct device *d, uint32_t at)
{
	const struct endpoints *ends = d->queues[0].conn.ends;
	struct link_addrs found;
	struct err err = { 0 };

	if (!ends->list[at].named ||
	    link_resolve(ends->list[at].addr, &found, &err) < 0 ||
	    !endpoints_differ(ends, at, d->queue_count > 1, &found))
		return;
	/* All connections must go to one. */
	if (d->queue_count > 1)
		found.count = 1;
	log_say(LOG_LEVEL_NOTICE, "%s: %s has another address now", d->path,
		found.where);
	put(&d->shared->found[at], &found);
}

static bool is_up(const struct device *d)
{
	return d->page->link == STATS_LINK_UP;
}

int follow_look(void *device, int go_fd)
{
	struct device *d = device;

	(void)go_fd;
	errand_be_patient();
	if (d->options->pin_neighbours && is_up(d)) {
		neighbours_pin(d->queues[0].conn.ends, d->page->endpoint,
			       d->page, d->page->guarantees);
	} else if (d->page->neighbours[0].index) {
		neighbours_release(d->page);
		stats_guarantee_replace(d->page->guarantees, NEIGHBOURS_ROW,
					GUARANTEE_DEGRADED,
					"let go of until the link is back");
	}
	for (uint32_t i = 0; i < d->queues[0].conn.ends->count; i++)
		look_up(d, i);
	return 0;
}

/* ---- who has it done ---- */

int follow_up(struct device *d, struct err *err)
{
	(void)err; /* the row tells */
	if (d->options->pin_neighbours)
		neighbours_pin(d->queues[0].conn.ends, d->queues[0].conn.at,
			       d->page, d->rows);
	return 0;
}

static bool is_wanted(const struct device *d)
{
	const struct endpoints *ends = d->queues[0].conn.ends;

	for (uint32_t i = 0; i < ends->count; i++)
		if (ends->list[i].named)
			return true;
	return d->options->pin_neighbours;
}

void follow_step(struct follow *f, struct device *d, uint64_t now_ns)
{
	bool up = is_up(d);

	follow_take(d);
	if (!errand_is_due(&f->errand, FOLLOW_DOWN_MS, now_ns) ||
	    d->page->state != STATS_LIVE || d->page->memory_tight ||
	    !is_wanted(d))
		return;
	/* Each outage begins as a short one, of which others need not know. */
	if (!up && f->was_up)
		f->next_ns = now_ns + FOLLOW_DOWN_MS * NS_PER_MS;
	if (up && !f->was_up)
		f->next_ns = now_ns;
	f->was_up = up;
	if (now_ns < f->next_ns)
		return;
	f->next_ns = now_ns + (up ? FOLLOW_UP_MS : FOLLOW_DOWN_MS) * NS_PER_MS;
	errand_start(&f->errand, follow_look, d, FOLLOW_LIMIT_MS, now_ns);
}

/* ---- what becomes of it ---- */

static void use(struct device *d, uint32_t at, const struct link_addrs *addrs)
{
	EACH_QUEUE(q, d)
		q->conn.ends->list[at].addrs = *addrs;
	if (!d->shed.values || d->shed.outdated)
		return;
	shed_outdate(&d->shed);
	stats_guarantee_replace(d->page->guarantees, SHED_ROW,
				GUARANTEE_DEGRADED,
				"off: a server has another address; \"upgrade\" lets that pass");
}

void follow_take(struct device *d)
{
	for (uint32_t i = 0; i < d->queues[0].conn.ends->count; i++) {
		struct follow_found *f = &d->shared->found[i];
		uint32_t version = __atomic_load_n(&f->version, __ATOMIC_ACQUIRE);
		struct link_addrs addrs;

		if (version & 1 || version == d->follow_taken[i])
			continue;
		addrs = f->addrs;
		/* and nothing of them is read after this. */
		if (__atomic_fetch_add(&f->version, 0, __ATOMIC_RELEASE) !=
		    version)
			continue;
		d->follow_taken[i] = version;
		use(d, i, &addrs);
	}
}
