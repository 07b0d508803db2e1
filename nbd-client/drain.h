/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What has to be done before a device can go: its swap is switched off, and what
 * the page cache holds for it is written. Both wait for the server, perhaps for
 * ever and without hearing signals, so a process of its own does them, and this
 * one watches: it tells how far they are, and can give up.
 *
 * Not in the daemon: swapoff needs memory, and whoever needs memory while none is
 * left gets killed. The daemon must live on to deliver the pages.
 */
#ifndef NBD_DRAIN_H
#define NBD_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "include/ctl.h"
#include "nbd-client/blockdev.h"

#define DRAIN_NEVER UINT32_MAX

struct drain {
	const struct blockdev *dev;
	const struct stats_page *page;
	bool flush;          /* else only swap */
	bool patient; /* tried again: for want of memory; in use, without a link */
	uint32_t give_up_ms; /* after the link has been down for so long */
};

/*
 * 0; 1: given up, requests still wait for the server; or -errno with *err set.
 * Progress goes to standard error, and to a service manager.
 */
int drain_run(const struct drain *d, struct err *err);

#endif
