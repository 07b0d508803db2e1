/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What /sys and /dev say about a block device of ours, /dev/nbdN or
 * /dev/ublkbN: its name, its queue's settings, the driver behind it. What only
 * nbd has is in nbd_sysfs.
 *
 * Owns no state. Everything may block, and reads files with plain system calls
 * only (no stdio, no malloc): control thread and command line.
 */
#ifndef NBD_BLOCKDEV_H
#define NBD_BLOCKDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "include/bounds.h"
#include "include/ctl.h"
#include "include/front.h"

/* 2^20 minors, 32 for each device when partitions are on (max_part=31). */
#define NBD_INDEX_MAX 32767u
/* UBLK_MAX_UBLKS - 1 */
#define UBLK_INDEX_MAX 1048575u

/*
 * Requests of an nbd device that got lost are asked for again after so long
 * (nbd_xmit_timeout: with one socket and TIMEOUT=0 the driver only re-arms, so a
 * short period is harmless); the block layer rounds the end of it up to a whole
 * second (blk_add_timer). An ublk device notices after so long that its
 * server has died, if nothing else tells (ublk_timeout).
 */
#define BLOCKDEV_IO_TIMEOUT_MS 1000u

/* "/sys", "/dev"; unit tests point them at a tree of their own. */
extern const char *blockdev_sys_root;
extern const char *blockdev_dev_root;
/* "/sbin/modprobe" */
extern const char *blockdev_modprobe;

/*
 * Makes sure that a driver is there, loading the module if need be.
 * 0 or -errno with X_KERNEL or X_PERMISSION.
 */
int blockdev_load(const char *module, struct err *err);

struct blockdev {
	enum front_kind front;
	uint32_t index;
	char name[DEVICE_NAME_BYTES]; /* "nbd0", "ublkb0" */
	char path[DEVICE_NAME_BYTES]; /* "/dev/nbd0" */
};

void blockdev_set(struct blockdev *b, enum front_kind front, uint32_t index);

/*
 * Understands every spelling of a device: nbd0, /dev/nbd0, 0 (which is nbd0),
 * ublkb0, /dev/ublkb0, and links in /dev that lead to one. X_USAGE otherwise.
 */
int blockdev_parse(const char *text, struct blockdev *ret, struct err *err);

bool blockdev_exists(const char *name);

/* How many queues it has to the driver; 0 if it does not exist. */
uint32_t blockdev_queues(const char *name);

/*
 * An attribute below /sys/block/NAME, such as "queue/scheduler": one line,
 * without its newline. The answer for scheduler is the whole list.
 */
int blockdev_read(const char *name, const char *attribute, char *ret_text,
		  size_t text_bytes);
int blockdev_read_number(const char *name, const char *attribute,
			 uint64_t *ret_value);
int blockdev_write(const char *name, const char *attribute, const char *text);
int blockdev_size(const char *name, uint64_t *ret_bytes);

/* The queue settings that are changed here, as they were before. */
#define BLOCKDEV_SAVED 4u
struct blockdev_saved {
	char value[BLOCKDEV_SAVED][32]; /* empty: not there, or not read */
};

/*
 * Before the first change, and after the device is free again: the nbd driver
 * keeps these settings for the next user of the device.
 */
void blockdev_save(const char *name, struct blockdev_saved *ret_saved);
void blockdev_restore(const char *name, const struct blockdev_saved *saved);

/*
 * On a device that exists and is not used yet: the largest request, so that not
 * even udev's first reads exceed a slot. -ENOENT when it does not exist.
 */
int blockdev_limit(const char *name, uint32_t slot_bytes, struct err *err);

#define BLOCKDEV_ROW "device queue"

/*
 * On a device in use: scheduler, write-back throttling, largest request,
 * request timer and, if not 0, nr_requests. Each is read back; "device queue"
 * in rows tells the outcome. Returns 0, or -errno if requests larger than a slot
 * could arrive, which is the only one of these that must be right, and the only one
 * that MEASURE_TUNE keeps.
 */
int blockdev_tune(const char *name, uint32_t slot_bytes, uint32_t nr_requests,
		  struct stats_guarantee rows[STATS_GUARANTEES],
		  struct err *err);

/*
 * Waits until the device node is there and the kernel shows the size.
 * -ETIMEDOUT with X_FAILURE.
 */
int blockdev_wait_ready(const char *name, uint64_t size_bytes,
			uint32_t timeout_ms, struct err *err);

#endif
