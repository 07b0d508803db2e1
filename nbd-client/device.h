/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One device composed: server connection, pinned region, engine, front, kernel
 * device. device_attach() is a table of steps, each with its undoing, taken in
 * order and undone in reverse, so that a failure at any point and a detach are
 * the same thing.
 *
 * Control thread.
 */
#ifndef NBD_DEVICE_H
#define NBD_DEVICE_H

#include <pthread.h>
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
#include "nbd-client/pressure.h"
#include "nbd-client/shed.h"
#include "nbd-client/stats.h"
#include "nbd-client/ublk_ctl.h"

struct device_front;

struct device {
	const struct attach_options *options;
	const struct device_front *kind;
	size_t steps_done; /* of the table in device.c */
	uint32_t index;    /* of /dev/nbdN or /dev/ublkbN */
	char name[DEVICE_NAME_BYTES]; /* "nbd0" */
	char path[DEVICE_NAME_BYTES]; /* "/dev/nbd0" */
	char uri[URI_TEXT_BYTES];
	uint64_t size_bytes;  /* whole blocks of the export */
	struct blockdev_saved queue; /* settings of the device before us */
	uint32_t block_bytes; /* logical block size */
	int lock_fd;          /* attaches take turns choosing a device */

	struct tls tls;
	struct conn conn;
	struct genl genl;
	struct ctl_socket ctl;
	struct stats_page *page;
	struct shed shed;

	struct pin pin;
	struct base base; /* slots of the engine's pool that come and go */
	struct pressure pressure;
	struct engine_config config;
	struct engine *engine;
	struct front *front;
	struct records *records; /* NULL without TLS */
	int kernel_end; /* of the socketpair, until the kernel has its own */
	int our_end;
	struct {
		struct ublk_ctl ctl;
		bool added; /* /dev/ublkcN is there */
		int fd;     /* of it */
		void *descs;
		size_t descs_bytes;
	} ublk;
	int mail_fd;
	int news_fd;

	pthread_t thread;
	pthread_mutex_t open_lock; /* guards open_result while it starts */
	pthread_cond_t open_done;
	int open_result; /* 1: not yet; 0 or -errno of engine_open() */
	uint64_t minor_faults_at_seal;
	uint64_t major_faults_at_seal;
	uint64_t strays_told; /* of stray_mallocs, in the log */

	bool thread_started;
	bool appeared;   /* the kernel has the device */
	bool front_gone; /* heard from the engine: */
	bool closed;
	bool failed;
	bool dead; /* the dead time-out has passed; until the link is up */

	bool detach_asked; /* this client of ctl waits for the end */
	uint32_t detach_client;
};

/* ublk where the kernel has what it takes, else nbd. Loads the driver. */
enum front_kind device_prefer_ublk(void);

/* All of it, or nothing with *err set. */
int device_attach(struct device *d, const struct attach_options *options,
		  struct err *err);

/* Whether a detach would take something away from somebody. 0, or X_BUSY. */
int device_check_idle(const struct device *d, struct err *err);

/* Undoes everything. force: requests that wait for the server fail. */
void device_detach(struct device *d, bool force);

/* The engine's event descriptor is readable: act on its news. */
void device_on_news(struct device *d);

/* poll(2) has seen these events on the trigger of d->pressure. */
void device_on_pressure(struct device *d, short events);

/* The connection's socket is ready, or conn_due_ms() is over. */
void device_step_link(struct device *d);

/* Once a second: time-outs; refreshes the slow numbers of the page. */
void device_tick(struct device *d);

#endif
