/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One device composed: its queues, each with server connection, engine and front;
 * pinned region; kernel device. Attach is a table of steps, each with its undoing,
 * taken in order and undone in reverse, so that a failure at any point and a detach
 * are the same thing.
 *
 * The first steps are the supervisor's: what they make is held until the detach
 * and inherited by each worker, which is forked with a copy of all of this. The
 * others are a worker's, done anew by each, in another way by one that takes the
 * device over from one that has died.
 *
 * The supervisor, and a worker's control thread.
 */
#ifndef NBD_DEVICE_H
#define NBD_DEVICE_H

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base.h"
#include "common/pin.h"
#include "nbd-client/blockdev.h"
#include "nbd-client/conn.h"
#include "nbd-client/ctl_socket.h"
#include "nbd-client/daemon.h"
#include "nbd-client/engine.h"
#include "nbd-client/genl.h"
#include "nbd-client/patience.h"
#include "nbd-client/pressure.h"
#include "nbd-client/shed.h"
#include "nbd-client/standby.h"
#include "nbd-client/stats.h"
#include "nbd-client/ublk_ctl.h"

struct device_front;
struct handover;

/* What /sys counts of a device's requests. */
#define DEVICE_KERNEL_COUNTS 17u

/* Other addresses of a server, as follow.h has found them. */
struct follow_found {
	uint32_t version; /* 0: none yet; odd: they are being written */
	struct link_addrs addrs;
};

/* In memory that the supervisor and all workers share. */
struct device_shared {
	struct err err;    /* why the first worker could not attach */
	bool appeared;     /* the kernel has the device */
	bool fetching;     /* ublk: a worker has begun, but not completed, to */
	uint64_t died_ns;  /* when the last worker was seen to have died */
	int32_t ready_pid; /* the worker that has attached, or taken over */
	uint32_t ktls_ciphers; /* see struct conn */
	/* Where the nbd driver talks to the server itself: */
	int link_fd; /* on this one of the ready sockets; -1: on none of these */
	struct follow_found found[ENDPOINTS_MAX]; /* of each server */
	bool counting; /* these were read before: */
	uint64_t counts[DEVICE_KERNEL_COUNTS + 1]; /* the last is 0 */
};

struct device;

/*
 * A data thread and all that it serves with. Queues share nothing that a request
 * needs; the control thread looks after all of them.
 */
struct queue {
	struct device *device;
	uint32_t index;
	struct conn conn;
	struct patience patience; /* with a server that is silent on it */
	uint64_t silent_since_ns; /* if for longer than that lasts; else 0 */
	const char *giving_up; /* why we end the link; or NULL */
	bool unreachable;      /* that is why */
	struct stats_data *data; /* its part of the page */
	struct engine *engine; /* NULL: the kernel's own path; no front then */
	struct front *front;
	void *rx; /* memory of the receive buffers */
	struct records *records; /* NULL without TLS */
	struct base base; /* slots of the engine's pool that come and go */
	int mail_fd;
	void *ublk_descs; /* of requests, mapped */
	cpu_set_t cpus;   /* to run on; none: on any */

	pthread_t thread;
	pthread_mutex_t open_lock; /* guards open_result while it starts */
	pthread_cond_t open_done;
	int open_result; /* 1: not yet; 0 or -errno of engine_open() */
	uint64_t minor_faults_at_seal;
	uint64_t major_faults_at_seal;
	uint64_t strays_told; /* of stray_mallocs, in the log */

	struct {
		bool ended; /* the server's end of the link was seen */
		bool used;  /* the driver was seen to use it, */
		uint64_t offered_bytes; /* to send more than this on it */
	} kernel;

	bool thread_started;
	bool front_gone; /* heard from the engine: */
	bool closed;
	bool failed;
	bool dead; /* the dead time-out has passed; until the link is up */
	bool renewing; /* its link, by command */
};

#define EACH_QUEUE(q, d)                                                       \
	for (struct queue *q = (d)->queues;                                    \
	     q < (d)->queues + (d)->queue_count; q++)

struct device {
	const struct attach_options *options;
	const struct device_front *kind;
	size_t steps_done; /* of the table in device.c */
	bool again;        /* this worker takes over */
	struct pin held;   /* shared: */
	struct device_shared *shared;
	uint8_t *reserve;  /* memory of the reserve's slots, a part per queue */
	/* page->guarantees, or own_rows until a takeover has been verified. */
	struct stats_guarantee *rows;
	struct stats_guarantee own_rows[STATS_GUARANTEES];
	/* As the supervisor left them: what a takeover's rows begin with. */
	struct stats_guarantee held_rows[STATS_GUARANTEES];
	uint32_t index;    /* of /dev/nbdN or /dev/ublkbN */
	char name[DEVICE_NAME_BYTES]; /* "nbd0" */
	char path[DEVICE_NAME_BYTES]; /* "/dev/nbd0" */
	char uri[URI_TEXT_BYTES];
	uint64_t size_bytes;  /* whole blocks of the export */
	struct blockdev_saved queue; /* settings of the device before us */
	uint32_t block_bytes; /* logical block size */
	int lock_fd;          /* attaches take turns choosing a device */
	int report_fd;        /* to who waits for the attach; not a worker's */

	struct tls tls[ENDPOINTS_MAX];
	struct queue *queues;
	uint32_t queue_count;
	struct standby standby; /* for the connection of the first queue */
	uint32_t reconnect_client; /* waits for the outcome */
	bool renewing; /* the links of the other queues, after that */
	struct genl genl;
	struct ctl_socket ctl;
	struct stats_page *page;
	struct shed shed;
	uint32_t follow_taken[ENDPOINTS_MAX]; /* versions of shared->found */

	struct pin pin;
	struct pressure pressure;
	struct engine_config config; /* of each queue */
	int kernel_end; /* of the socketpair, until the kernel has its own */
	int our_end;
	struct {
		struct ublk_ctl ctl;
		bool added; /* /dev/ublkcN is there */
		int fd;     /* of it */
	} ublk;
	int news_fd; /* of all engines */
	bool appeared; /* the kernel has the device */

	bool detach_asked; /* this client of ctl waits for the end */
	uint32_t detach_client;
};

/* ublk where the kernel has what it takes, else nbd. Loads the driver. */
enum front_kind device_prefer_ublk(void);

/*
 * The supervisor's part. All of it, or nothing with *err set; where it was handed
 * over, what is there stays there, with the worker.
 */
int device_hold(struct device *d, const struct attach_options *options,
		struct err *err);

/* What another program needs to hold it in this process's place. */
void device_hand_over(const struct device *d, struct handover *ret);

/* The other attaches may choose a device now; also a worker's first deed. */
void device_unlock(struct device *d);

/* The same turn, if it is nobody's, for this process. 0, or -1 with errno. */
int device_try_lock(struct device *d);

/* What is held is let go, once no worker is there any more. */
void device_release(struct device *d);

/*
 * A worker's part up to where a standby has to wait, because from there on only
 * one at a time can do it. All, or nothing with *err set. again: for a takeover.
 */
int device_prepare(struct device *d, bool again, struct err *err);

/* And the rest of it. */
int device_attach(struct device *d, struct err *err);

/* Whether a detach would take something away from somebody. 0, or X_BUSY. */
int device_check_idle(const struct device *d, struct err *err);

/*
 * Undoes the worker's part. force: requests that wait for the server fail.
 */
void device_detach(struct device *d, bool force);

/* What the engines have said: */
bool device_failed(const struct device *d);     /* one of the rings is broken */
bool device_front_gone(const struct device *d); /* the kernel has ended a queue */
bool device_is_orphaned(struct device *d); /* so it has; let another take over */
bool device_is_low(const struct device *d);     /* memory; in one of the queues */

/* The engines' event descriptor is readable: act on their news. */
void device_on_news(struct device *d);

/* poll(2) has seen these events on the trigger of d->pressure. */
void device_on_pressure(struct device *d, short events);

/* Once a second: time-outs; refreshes the slow numbers of the page. */
void device_tick(struct device *d);

/* Goes to the server of that number, from 1; 0: anew to the same. */
void device_reconnect(struct device *d, uint32_t number, uint32_t client);

/* Somebody has changed the kernel's size of the device. */
void device_on_resize(struct device *d);

/* A link of each queue, and one that waits. */
#define DEVICE_LINKS_MAX (QUEUES_MAX + 1u)

/*
 * What the links wait for: fills in queue_count + 1 of ret_fds. Returns milliseconds
 * until device_step_links() is due in any case; -1: not without an event.
 */
int device_poll_links(const struct device *d, struct pollfd *ret_fds);

/* After poll(2): goes on with old links, makes new ones. */
void device_step_links(struct device *d, const struct pollfd *fds);

/*
 * The supervisor has died: what was its own is this worker's now, and status and
 * the ledger are told so.
 */
void device_adopt(struct device *d);

#endif
