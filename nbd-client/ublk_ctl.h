/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /dev/ublk-control: what makes /dev/ublkbN come, serve and go. Commands run on
 * a worker of the kernel's, because several of them block; each is waited for
 * only so long here, and may go on in the kernel after that. The worker inherits
 * scheduling and IO_FLUSHER of the thread that asks first: protect that before.
 *
 * Control thread and command line.
 */
#ifndef NBD_UBLK_CTL_H
#define NBD_UBLK_CTL_H

#include <liburing.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "include/export.h"
#include "include/ublk-wire.h"

#define UBLK_CTL_DRIVER "ublk_drv"

struct ublk_ctl {
	bool is_open;
	int fd; /* /dev/ublk-control */
	struct io_uring ring;
	uint64_t sequence;      /* of the last command */
	uint64_t stop_sequence; /* of a STOP_DEV that has not ended; or 0 */
	uint32_t dev_id;

	/* Here, because the kernel may use them after we have given up. */
	uint64_t features; /* UBLK_F_* */
	struct ublk_dev_info info;
	struct ublk_params params;
	cpu_set_t cpus;
};

/* What the kernel should know about the disk. */
struct ublk_disk {
	uint64_t size_bytes; /* whole blocks */
	uint32_t block_bytes;
	uint32_t request_bytes_max; /* whole pages */
	uint32_t zero_bytes_max; /* of one discard or write-zeroes request */
	bool read_only;
	const struct export_info *export;
};

/* Pure. */
struct ublk_params ublk_ctl_params(const struct ublk_disk *disk);

/*
 * The driver must be loaded. X_KERNEL if it cannot do what we need, which is
 * that of Linux 6.12: commands encoded as ioctls, user recovery.
 */
int ublk_ctl_open(struct ublk_ctl *c, struct err *err);
/* Safe on zeroed memory, and twice. */
void ublk_ctl_close(struct ublk_ctl *c);

/* The features of the kernel, for people: "user copy, zero copy, ...". */
void ublk_ctl_describe(const struct ublk_ctl *c, char *ret_text,
		       size_t text_bytes);

/*
 * Makes /dev/ublkcN with so many queues of that depth, and sets what disk says.
 * X_BUSY if the number is taken.
 */
int ublk_ctl_add(struct ublk_ctl *c, uint32_t index, uint32_t queues,
		 uint32_t depth, const struct ublk_disk *disk, struct err *err);

/* The CPUs whose requests come to that queue of a device that was added or found. */
int ublk_ctl_affinity(struct ublk_ctl *c, uint32_t queue, cpu_set_t *ret_cpus);

/*
 * Makes /dev/ublkbN appear. Waits until every tag has been fetched, and for the
 * reads of the partition table, which the data thread must be serving.
 */
int ublk_ctl_start(struct ublk_ctl *c, uint32_t timeout_ms, struct err *err);

/*
 * Takes a device over whose server has died: begin, open and fetch as for a new
 * one, end. begin waits until the kernel has got everything back from the dead
 * one; -ENODEV: there is no such device, or it has been stopped and is only to be
 * deleted.
 */
int ublk_ctl_recover_begin(struct ublk_ctl *c, uint32_t index,
			   uint32_t timeout_ms, struct err *err);
int ublk_ctl_recover_end(struct ublk_ctl *c, uint32_t timeout_ms,
			 struct err *err);

/*
 * Makes /dev/ublkbN disappear. The kernel waits for requests under way; after
 * -ETIMEDOUT call again to go on waiting. -ENODEV is 0.
 */
int ublk_ctl_stop(struct ublk_ctl *c, uint32_t timeout_ms, struct err *err);

/* Makes /dev/ublkcN disappear once nobody has it open. -ENODEV is 0. */
int ublk_ctl_delete(struct ublk_ctl *c, uint32_t timeout_ms, struct err *err);

/* X_KERNEL: this one cannot; nothing is waited for in the kernel. */
int ublk_ctl_resize(struct ublk_ctl *c, uint32_t index, uint64_t size_bytes,
		    uint32_t timeout_ms, struct err *err);

/* Is there such a device? 0 and c->info, and c->dev_id set; or -ENODEV. */
int ublk_ctl_find(struct ublk_ctl *c, uint32_t index, struct err *err);

#endif
