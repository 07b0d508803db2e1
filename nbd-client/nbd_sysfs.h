/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What /sys and /dev say about /dev/nbdN, and the queue settings made there.
 *
 * Owns no state. Everything may block, and reads files with plain system calls
 * only (no stdio, no malloc): control thread and command line.
 */
#ifndef NBD_NBD_SYSFS_H
#define NBD_NBD_SYSFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "include/bounds.h"
#include "include/ctl.h"

/* 2^20 minors, 32 for each device when partitions are on (max_part=31). */
#define NBD_INDEX_MAX 32767u

/*
 * Lost requests are asked for again after so long (nbd_xmit_timeout: with one
 * socket and TIMEOUT=0 the driver only re-arms, so a short period is harmless).
 */
#define NBD_IO_TIMEOUT_MS 2000u

/* "/sys", "/dev"; unit tests point them at a tree of their own. */
extern const char *nbd_sysfs_root;
extern const char *nbd_sysfs_dev_root;
/* "/sbin/modprobe" */
extern const char *nbd_sysfs_modprobe;

/*
 * Makes sure that the driver is there, loading it if need be.
 * 0 or -errno with X_KERNEL or X_PERMISSION.
 */
int nbd_sysfs_load(struct err *err);

/*
 * Understands every spelling of a device: nbd0, /dev/nbd0, 0, and links in
 * /dev that lead to one. X_USAGE otherwise.
 */
int nbd_sysfs_parse(const char *text, uint32_t *ret_index, struct err *err);

/* "/dev/nbd3" and "nbd3". */
void nbd_sysfs_device(uint32_t index, char ret_path[DEVICE_NAME_BYTES]);
void nbd_sysfs_name(uint32_t index, char ret_name[DEVICE_NAME_BYTES]);

bool nbd_sysfs_exists(uint32_t index);

/*
 * The process that connected the device. -ENOENT: not in use. The kernel keeps
 * the attribute until the last opener of a disconnected device has gone, so
 * absence means really free.
 */
int nbd_sysfs_pid(uint32_t index, pid_t *ret_pid);

/*
 * The lowest existing device that is free; if all are in use, the lowest index
 * that does not exist, which CONNECT will create (then nbd_sysfs_tune_early()
 * has nothing to act on). X_BUSY if every index is taken.
 */
int nbd_sysfs_find_free(uint32_t *ret_index, struct err *err);

/*
 * An attribute below /sys/block/nbdN, such as "queue/scheduler": one line,
 * without its newline. The answer for scheduler is the whole list.
 */
int nbd_sysfs_read(uint32_t index, const char *attribute, char *ret_text,
		   size_t text_bytes);
int nbd_sysfs_read_number(uint32_t index, const char *attribute,
			  uint64_t *ret_value);
int nbd_sysfs_write(uint32_t index, const char *attribute, const char *text);

/* The identifier given at CONNECT; -ENOENT: none, or not connected. */
int nbd_sysfs_backend(uint32_t index, char *ret_text, size_t text_bytes);
int nbd_sysfs_size(uint32_t index, uint64_t *ret_bytes);

/* The queue settings that are changed here, as they were before. */
#define NBD_SYSFS_SAVED 4u
struct nbd_sysfs_saved {
	char value[NBD_SYSFS_SAVED][32]; /* empty: not there, or not read */
};

/*
 * Before the first change, and after the device is free again: the driver keeps
 * these settings for the next user of the device.
 */
void nbd_sysfs_save(uint32_t index, struct nbd_sysfs_saved *ret_saved);
void nbd_sysfs_restore(uint32_t index, const struct nbd_sysfs_saved *saved);

/*
 * Before CONNECT, on an existing index: the largest request, so that not even
 * udev's first reads exceed a slot. -ENOENT when the index does not exist.
 */
int nbd_sysfs_tune_early(uint32_t index, uint32_t slot_bytes, struct err *err);

/*
 * After CONNECT: scheduler, write-back throttling, largest request and request
 * timer. Each is read back; "device queue" in rows tells the outcome. Returns
 * 0, or -errno if requests larger than a slot could arrive, which is the only
 * one of these that must be right.
 */
int nbd_sysfs_tune(uint32_t index, uint32_t slot_bytes,
		   struct stats_guarantee rows[STATS_GUARANTEES],
		   struct err *err);

/*
 * Wait until the device node is there and the kernel shows the size, or until
 * nobody uses the device any more. -ETIMEDOUT with X_FAILURE (X_BUSY for gone).
 */
int nbd_sysfs_wait_ready(uint32_t index, uint64_t size_bytes,
			 uint32_t timeout_ms, struct err *err);
int nbd_sysfs_wait_gone(uint32_t index, uint32_t timeout_ms, struct err *err);

#endif
