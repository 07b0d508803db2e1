/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What /sys says about /dev/nbdN alone: who has it, and which one is free.
 *
 * Owns no state. May block: control thread and command line.
 */
#ifndef NBD_NBD_SYSFS_H
#define NBD_NBD_SYSFS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "nbd-client/genl.h"

/*
 * The process that connected the device. -ENOENT: not in use. The kernel keeps
 * the attribute until the last opener of a disconnected device has gone, so
 * absence means really free.
 */
int nbd_sysfs_pid(uint32_t index, pid_t *ret_pid);

/*
 * The lowest existing device that is free; if all are in use, the lowest index
 * that does not exist, which CONNECT will create (then there is nothing yet to
 * tune). X_BUSY if every index is taken.
 */
int nbd_sysfs_find_free(uint32_t *ret_index, struct err *err);

/* The identifier given at CONNECT; -ENOENT: none, or not connected. */
int nbd_sysfs_backend(uint32_t index, char *ret_text, size_t text_bytes);

/*
 * genl_nbd_connect(), again while the driver calls the device in use, but nobody
 * has connected it: it is so as long as somebody has it open (nbd_open() in
 * drivers/block/nbd.c), and udev does for a moment after each change.
 */
int nbd_sysfs_connect(struct genl *genl, const struct nbd_connect *params,
		      struct err *err);

/* Until nobody uses the device any more. -ETIMEDOUT with X_BUSY. */
int nbd_sysfs_wait_gone(uint32_t index, uint32_t timeout_ms, struct err *err);

#endif
