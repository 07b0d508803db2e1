/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The status page of a device (include/ctl.h): making it, finding it, reading
 * it. Reading costs the daemon nothing and works while it is stuck.
 *
 * The daemon owns the page it made (control thread makes and removes it); the
 * command line maps others read-only. stats_guarantee_set() is for whoever sets
 * up the daemon, before the seal.
 */
#ifndef NBD_STATS_H
#define NBD_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "include/ctl.h"

/* RUN_DIR; unit tests point it elsewhere. */
extern const char *stats_run_dir;

/* No heartbeat for so long and the thread is called silent. */
#define STATS_SILENT_NS (5ull * 1000 * 1000 * 1000)

/*
 * Makes the page of "nbd0", state STATS_ATTACHING, with magic, version, pid,
 * start time and device filled in; it appears whole or not at all. X_BUSY if
 * the page of a living daemon is there. Makes RUN_DIR if need be.
 */
int stats_create(const char *name, struct stats_page **ret_page,
		 struct err *err);

/*
 * The same for a process that made one when it still ran another program: maps
 * that, as it is. If it is of another version, makes one.
 */
int stats_create_again(const char *name, struct stats_page **ret_page,
		       struct err *err);

/* Removes the file and, if page is not NULL, unmaps it. */
void stats_remove(const char *name, struct stats_page *page);

/*
 * Maps a page read-only. X_NOT_FOUND when nothing of that name is attached;
 * X_FAILURE when it is not a page of this version.
 */
int stats_open(const char *name, const struct stats_page **ret_page,
	       struct err *err);
void stats_close(const struct stats_page *page);

/*
 * A page as it is now, with the data of all queues in `data`: sums; of times the
 * oldest one.
 */
void stats_copy(const struct stats_page *page, struct stats_page *ret_copy);

/* How many queues the page is of: 1 … QUEUES_MAX, whatever it says. */
uint32_t stats_queues(const struct stats_page *page);

/* The oldest heartbeat of a data thread; 0: one has not beaten yet. */
uint64_t stats_heartbeat_ns(const struct stats_page *page);

/* Its head, up to `slots`, of whatever version it is; the rest is zero. */
int stats_read_head(const char *name, struct stats_page *ret, struct err *err);

/*
 * Attach and detach of several devices must not meet between look and act: the
 * turn of one of them, until the descriptor is closed; or -errno, -ENOENT if
 * nothing was ever attached.
 */
int stats_lock(void);

/* Removes what was being made when its process died. Under the attach lock. */
void stats_drop_unmade(void);

/* Whether the daemon that made the page still runs. */
bool stats_alive(const struct stats_page *page);

/* How long the thread of this heartbeat has been silent; 0 if it never beat. */
uint64_t stats_silent_ns(uint64_t heartbeat_ns, uint64_t now_ns);

/*
 * Calls on_page for each page of RUN_DIR, by device number. A page that cannot
 * be read is passed over, and counted in the result.
 */
int stats_each(void (*on_page)(const char *name, const struct stats_page *page,
			       void *arg),
	       void *arg);

/*
 * Upper bound in microseconds of the requests' fastest per_mille/1000; 0 when
 * nothing was counted. 500 is the median.
 */
uint64_t stats_percentile_us(const uint64_t buckets[STATS_BUCKETS],
			     uint32_t per_mille);

/*
 * Sets the row of that name, making it if need be. A row only ever gets worse:
 * ok after missing changes nothing. stats_guarantee_replace() overrules that.
 */
void stats_guarantee_set(struct stats_guarantee rows[STATS_GUARANTEES],
			 const char *name, enum guarantee_state state,
			 const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void stats_guarantee_replace(struct stats_guarantee rows[STATS_GUARANTEES],
			     const char *name, enum guarantee_state state,
			     const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* The row of that name, or NULL. */
struct stats_guarantee *
stats_guarantee_find(struct stats_guarantee rows[STATS_GUARANTEES],
		     const char *name);

const char *stats_state_name(uint32_t state);
const char *stats_link_name(uint32_t link);
const char *stats_records_name(uint32_t records);
const char *stats_guarantee_name(uint32_t state);
const char *stats_shed_name(uint32_t shed);
const char *stats_op_name(uint32_t op);

#endif
