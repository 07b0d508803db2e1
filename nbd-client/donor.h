/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SOCK_MEMALLOC for sockets of a process: no option sets it, but the nbd driver
 * does so for every socket that it is given, and never takes it back
 * (drivers/block/nbd.c, nbd_start_device). So a socket that was
 * never connected passes through a free device once, and is ours again.
 *
 * Undocumented behaviour: seen to work or reported, never relied upon alone.
 */
#ifndef NBD_DONOR_H
#define NBD_DONOR_H

#include <stdbool.h>
#include <stdint.h>

#include "include/ctl.h"
#include "nbd-client/genl.h"
#include "nbd-client/sockets.h"

#define DONOR_ROW "SOCK_MEMALLOC"

/* What such a device says that it is connected to. */
#define DONOR_BACKEND "nbd-client passes a socket"

/*
 * Donates the ready sockets through /dev/nbd<index>, which must be free, is
 * made by the driver if it does not exist, and is free again afterwards. A
 * failure leaves the sockets usable and the row degraded.
 */
void donor_donate(const struct sockets *s, struct genl *genl, uint32_t index,
		  struct stats_guarantee rows[STATS_GUARANTEES]);

/* Likewise one socket. 0, or -errno with *err set, but for what was not seen. */
int donor_donate_one(int fd, struct genl *genl, uint32_t index,
		     struct err *err);

/*
 * Frees the device that a process was at when it died. Under the attach lock: no
 * other one is at it. True if there was one, and its index.
 */
bool donor_drop_stale(uint32_t *ret_index);

#endif
