/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel may hold for traffic that is none of ours, as far as it comes
 * out of the reserve: counted once per host, a sum of bounded holders.
 *
 * Control thread and command line; blocks, changes nothing.
 */
#ifndef NBD_HOST_STRANGERS_H
#define NBD_HOST_STRANGERS_H

#include <stdbool.h>
#include <stdint.h>

/* A network card; virtual interfaces have no ring of their own. */
struct host_nic {
	char name[16];
	char driver[32];
	bool up;
	bool ring_known;       /* else the ring's size is a guess */
	uint32_t queues;       /* for receiving */
	uint32_t buffers;      /* in the ring of each */
	uint32_t buffer_bytes; /* truesize */
};

/* Further ones count, but are not listed. */
#define HOST_NICS_MAX 16u

struct host_strangers {
	uint32_t nic_count;
	struct host_nic nics[HOST_NICS_MAX];
	uint64_t ring_bytes; /* of those that are up */
	uint64_t ipv4_fragment_bytes;
	uint64_t ipv6_fragment_bytes;
	bool refill_waits; /* a driver among them waits for memory */
};

/*
 * Below "/proc" and "/sys". 0, or -errno if there is no telling which cards there
 * are; then one with a ring of the usual size is assumed.
 */
int host_strangers_look(const char *proc, const char *sys,
			struct host_strangers *ret_strangers);

/* What these add to vm.min_free_kbytes. */
uint64_t host_strangers_kbytes(const struct host_strangers *strangers);

/*
 * Whether the driver, when a receive ring runs empty, waits for memory with
 * receiving switched off.
 */
bool host_nic_waits(const struct host_nic *nic);

#endif
