/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Network interfaces and the filters at their ingress, through rtnetlink.
 *
 * Owns no state but files RUN_DIR/clsact.IFINDEX: "this clsact qdisc was made
 * by us", for whoever takes the last filter off it. Control thread and command
 * line, one at a time on the host (stats_lock()). Everything may block.
 */
#ifndef NBD_SHED_TC_H
#define NBD_SHED_TC_H

#include <linux/if.h>
#include <stdbool.h>
#include <stddef.h>

/* Interfaces that are looked at. */
#define SHED_LINKS_MAX 256u

/* Filters of ours are called by this and the device's name. */
#define SHED_TC_PREFIX "nbd-client/"

struct shed_link {
	int index;
	char name[IFNAMSIZ];
	bool up;       /* and not a loopback */
	char kind[16]; /* "vlan"; empty: hardware */
};

/* 0 or -errno, as all of these. Those beyond SHED_LINKS_MAX are left out. */
int shed_tc_links(struct shed_link ret_links[SHED_LINKS_MAX],
		  size_t *ret_count);

/*
 * Puts a program at the ingress, in front of other filters where they leave
 * room, making the qdisc if there is none.
 */
int shed_tc_add(int index, const char *device, int prog_fd);

/*
 * Takes off each of our filters whose device drop() names, and qdiscs that we
 * have made and nobody uses any more, at all interfaces.
 */
int shed_tc_remove(bool (*drop)(const char *device, const void *arg),
		   const void *arg);

#endif
