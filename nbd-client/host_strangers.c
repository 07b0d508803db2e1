// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The holders, and why these. The kernel takes memory for packets that arrive
 * with GFP_ATOMIC, which goes down to 3/8 of min_free_kbytes (mm/page_alloc.c,
 * __zone_watermark_ok); below that nothing arrives any more, for us neither. So
 * what may be taken that way and not come back for long is counted, and 8/5 of
 * it added to the reserve:
 *
 *   receive rings       a ringful is handed to the stack and replaced at once
 *   fragments           of packets that are never completed: kept for 30 s, up
 *                       to net.ipv4.ipfrag_high_thresh and its twin of IPv6
 *
 * Not counted is what waits in strangers' sockets. That is bounded too, by
 * tcp_mem and udp_mem, but at a multiple of any reserve, and it does not
 * accumulate in the reserve: each page taken below `low` is what kswapd puts back,
 * through our device, which goes on below where GFP_ATOMIC stops
 * (SOCK_MEMALLOC). It is memory as a whole that has to bear it; "check" looks
 * whether it does. Nor do full sockets of strangers get ours dropped for want of
 * accounting: that has been reserved (SO_RESERVE_MEM).
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "include/bounds.h"
#include "nbd-client/ethtool.h"
#include "nbd-client/host.h"
#include "nbd-client/host_strangers.h"
#include "nbd-client/procfile.h"

#define PATH_BYTES 512u

/* Of drivers that do not tell: large for a default, but it occurs. */
#define RING_BUFFERS_DEFAULT 1024u

/* Beside the packet: headroom, link header, struct skb_shared_info. */
#define BUFFER_EXTRA_BYTES 512u

/*
 * They refill an empty receive ring with GFP_KERNEL, receiving nothing meanwhile:
 * that may wait for our swap. They only do so when GFP_ATOMIC has failed, and
 * measured, a guest survives with HOST_SHARED_KBYTES and not with less
 * (drivers/net/virtio_net.c, refill_work).
 */
static const char *const waiting_drivers[] = { "virtio_net" };

bool host_nic_waits(const struct host_nic *nic)
{
	size_t i;

	for (i = 0; i < sizeof(waiting_drivers) / sizeof(waiting_drivers[0]);
	     i++) {
		if (!strcmp(nic->driver, waiting_drivers[i]))
			return true;
	}
	return false;
}

static void card_path(char path[PATH_BYTES], const char *sys, const char *card,
		      const char *file)
{
	snprintf(path, PATH_BYTES, "%s/class/net/%s/%s", sys, card, file);
}

static bool find_driver(const char *sys, struct host_nic *nic)
{
	char path[PATH_BYTES], target[PATH_BYTES], *base;
	ssize_t n;

	card_path(path, sys, nic->name, "device/driver");
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	base = strrchr(target, '/');
	snprintf(nic->driver, sizeof(nic->driver), "%.31s",
		 base ? base + 1 : target);
	return true;
}

static uint32_t count_rx_queues(const char *sys, const char *card)
{
	struct dirent *entry;
	char path[PATH_BYTES];
	uint32_t count = 0;
	DIR *dir;

	card_path(path, sys, card, "queues");
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		count += !strncmp(entry->d_name, "rx-", 3);
	if (dir)
		closedir(dir);
	return count ? count : 1;
}

/* Whole pages, a power of two of them: how drivers without a better idea do it. */
static uint32_t buffer_bytes(const char *sys, const char *card)
{
	uint64_t mtu = 0, bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	char path[PATH_BYTES];

	card_path(path, sys, card, "mtu");
	if (procfile_read_number(path, &mtu) || mtu > 64 * KIB)
		mtu = 0;
	while (bytes < mtu + BUFFER_EXTRA_BYTES)
		bytes *= 2;
	return (uint32_t)bytes;
}

static bool is_up(const char *sys, const char *card)
{
	char path[PATH_BYTES], text[32];

	card_path(path, sys, card, "flags");
	/* What cannot be known counts. */
	return procfile_read(path, text, sizeof(text)) < 0 ||
	       strtoul(text, NULL, 16) & IFF_UP;
}

static void add_card(struct host_strangers *s, const char *sys,
		     const char *name)
{
	struct host_nic nic = { .buffers = RING_BUFFERS_DEFAULT };

	if (strlen(name) >= sizeof(nic.name))
		return;
	memcpy(nic.name, name, strlen(name));
	if (!find_driver(sys, &nic))
		return;
	nic.up = is_up(sys, name);
	nic.ring_known = !ethtool_ring_buffers(name, &nic.buffers);
	nic.queues = count_rx_queues(sys, name);
	nic.buffer_bytes = buffer_bytes(sys, name);
	if (nic.up) {
		s->ring_bytes +=
			(uint64_t)nic.queues * nic.buffers * nic.buffer_bytes;
		s->refill_waits |= host_nic_waits(&nic);
	}
	if (s->nic_count < HOST_NICS_MAX)
		s->nics[s->nic_count] = nic;
	s->nic_count++;
}

static uint64_t threshold(const char *proc, const char *file)
{
	char path[PATH_BYTES];
	uint64_t bytes = 0;

	snprintf(path, sizeof(path), "%s/sys/net/%s", proc, file);
	(void)procfile_read_number(path, &bytes);
	return bytes;
}

int host_strangers_look(const char *proc, const char *sys,
			struct host_strangers *ret)
{
	struct host_strangers s = { .nic_count = 0 };
	struct dirent *entry;
	char path[PATH_BYTES];
	DIR *dir;
	int rc = 0;

	/* A kernel without IPv6 has no twin. */
	s.ipv4_fragment_bytes = threshold(proc, "ipv4/ipfrag_high_thresh");
	s.ipv6_fragment_bytes = threshold(proc, "ipv6/ip6frag_high_thresh");
	snprintf(path, sizeof(path), "%s/class/net", sys);
	dir = opendir(path);
	if (!dir) {
		rc = -errno;
		s.ring_bytes = RING_BUFFERS_DEFAULT * 4 * KIB;
		s.refill_waits = true;
	}
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] != '.')
			add_card(&s, sys, entry->d_name);
	}
	if (dir)
		closedir(dir);
	*ret = s;
	return rc;
}

uint64_t host_strangers_kbytes(const struct host_strangers *s)
{
	uint64_t kbytes = ((s->ring_bytes + s->ipv4_fragment_bytes +
			    s->ipv6_fragment_bytes) *
				   8 / 5 +
			   KIB - 1) /
			  KIB;

	return s->refill_waits && kbytes < HOST_SHARED_KBYTES ?
		       HOST_SHARED_KBYTES :
		       kbytes;
}
