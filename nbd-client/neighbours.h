/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's neighbour entries (arp(7)) that packets to a device's servers leave
 * by, made permanent while the device is attached: a reconnect then needs neither
 * memory for a question nor the answer to it.
 *
 * Entries of ours carry NEIGHBOURS_PROTOCOL ("ip neigh show proto 78"); which device
 * wants which is in the status pages, so that one that several want goes with the
 * last of them, and those of dead devices are found. What an administrator has made
 * permanent is left alone.
 *
 * The control thread at attach, processes of the supervisor's, the command line:
 * one at a time on the host. Everything may block.
 */
#ifndef NBD_NEIGHBOURS_H
#define NBD_NEIGHBOURS_H

#include <stdbool.h>

#include "common/err.h"
#include "include/ctl.h"
#include "nbd-client/endpoint.h"

/* The guarantee that they are. */
#define NEIGHBOURS_ROW "neighbour entries"

/* As in rtnetlink's rtm_protocol: who has made an entry. */
#define NEIGHBOURS_PROTOCOL 78u

/*
 * Those of the server in use, number `at`, as far as the kernel knows them, and of
 * the others where it has just heard of them; notes them in page->neighbours. The
 * row says which they are.
 */
void neighbours_pin(const struct endpoints *ends, uint32_t at,
		    struct stats_page *page, struct stats_guarantee *rows);

/* Lets go of what is noted there. The kernel asks anew when it needs to. */
void neighbours_release(struct stats_page *page);

/* Removes those that no living device wants. 0 or -errno. */
int neighbours_drop_stale(void);

#endif
