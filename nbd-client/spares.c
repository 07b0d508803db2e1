// SPDX-License-Identifier: GPL-2.0-or-later
/* Sockets for a single use. Attach, and a process of its own. */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/pin.h"
#include "nbd-client/donor.h"
#include "nbd-client/link_io.h"
#include "nbd-client/nbd_sysfs.h"
#include "nbd-client/spares.h"
#include "nbd-client/stats.h"

static bool lacks(const struct sockets *s)
{
	return sockets_left(s) < s->spares;
}

static bool are_wanted(const struct device *d)
{
	EACH_QUEUE(q, d)
		if (lacks(&q->conn.ends->sockets))
			return true;
	return false;
}

static int add(const struct sockets *s, struct genl *genl, uint32_t index,
	       struct err *err)
{
	int fd = sockets_make_spare(s);
	int ret = fd;

	if (fd >= 0) {
		ret = donor_donate_one(fd, genl, index, err);
		if (!ret)
			ret = sockets_store(s, fd);
		link_close(fd);
	}
	/* From SO_RESERVE_MEM. */
	if (ret == -ENOMEM && !err->text[0])
		return err_set(err, X_FAILURE, ENOMEM,
			       "net.ipv4.tcp_mem has no room for them; raise its "
			       "three numbers by %zu pages",
			       s->spares * (pin_pages(s->memory.reserve_bytes) /
					   PIN_PAGE));
	if (ret < 0 && !err->text[0])
		err_set(err, X_FAILURE, -ret, "%s", strerror(-ret));
	return ret;
}

/* Each queue's in turn, so that none gets all; until memory is tight. */
static int fill(struct device *d, struct err *err)
{
	struct genl genl;
	uint32_t index;
	int ret = genl_open(&genl, err);

	if (ret < 0)
		return ret;
	ret = nbd_sysfs_find_free(&index, err);
	while (!ret && are_wanted(d) && !d->page->memory_tight)
		EACH_QUEUE(q, d)
			if (!ret && lacks(&q->conn.ends->sockets))
				ret = add(&q->conn.ends->sockets, &genl, index,
					  err);
	genl_close(&genl);
	return ret;
}

/* ---- at attach ---- */

/* What goes back was donated, so what does not is to be, too. */
static bool are_donated(const struct device *d)
{
	const struct stats_guarantee *row =
		stats_guarantee_find(d->rows, DONOR_ROW);

	return row && row->state == GUARANTEE_OK;
}

int spares_up(struct device *d, struct err *err)
{
	const struct conn *first = &d->queues[0].conn;
	uint32_t each = SOCKETS_SPARES / d->queue_count;
	struct err why = { 0 };
	int ret = 0;

	if (!conn_end(first)->tls || first->no_ktls || first->for_kernel ||
	    !first->ends->sockets.count)
		return 0;
	if (!are_donated(d))
		each = 0;
	else if (each < 2)
		each = 2;
	EACH_QUEUE(q, d)
		if (!ret)
			ret = sockets_open_store(&q->conn.ends->sockets,
						 first->family, each);
	if (ret < 0)
		return err_set(err, X_FAILURE, -ret,
			       "cannot make a socket pair: %s", strerror(-ret));
	/* With some, or none, there is a way, too; status says which. */
	if (each && fill(d, &why) < 0)
		log_say(LOG_LEVEL_WARNING, "%s: no more spare sockets: %s",
			d->path, why.text);
	return 0;
}

/* ---- later: that process ---- */

/* Frees the nbd device that one may have been at that was given up. */
static void clean(struct device *d)
{
	uint32_t index;

	/* Not while somebody is at it who lives. */
	if (device_try_lock(d) == 0)
		(void)donor_drop_stale(&index);
	device_unlock(d);
}

int spares_make(void *device, int go_fd)
{
	struct device *d = device;
	struct err err = { 0 };
	int ret;

	(void)go_fd;
	errand_be_patient();
	clean(d);
	/* Somebody's attach may be choosing the device that is free. */
	if (device_try_lock(d) < 0)
		return 1;
	ret = fill(d, &err);
	if (ret < 0)
		log_say(LOG_LEVEL_DEBUG, "%s: no more spare sockets: %s",
			d->path, err.text);
	return ret < 0;
}

/* ---- later: the supervisor ---- */

void spares_step(struct errand *e, struct device *d, uint64_t now_ns)
{
	if (errand_is_due(e, SPARES_RETRY_MS, now_ns) &&
	    d->page->state == STATS_LIVE && !d->page->memory_tight &&
	    are_wanted(d))
		errand_start(e, spares_make, d, SPARES_LIMIT_MS, now_ns);
}

void spares_end(struct errand *e, struct device *d)
{
	if (errand_end(e))
		clean(d);
}
