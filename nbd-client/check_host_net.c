// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Items about the network: the cards and their drivers, memory for sockets.
 *
 * Owns nothing. Command line only: blocks, and changes nothing.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nbd-client/check_look.h"
#include "nbd-client/host.h"
#include "nbd-client/host_strangers.h"
#include "nbd-client/sizing.h"

/* What is to be known of each. */
static void list_cards(const struct host_strangers *s, struct look_list *cards)
{
	uint32_t i, listed = s->nic_count < HOST_NICS_MAX ? s->nic_count :
							    HOST_NICS_MAX;

	for (i = 0; i < listed; i++) {
		const struct host_nic *nic = &s->nics[i];

		look_list_add(cards, "%s %s (%s%u receive queue%s of %s%u)",
			      nic->name, nic->driver, nic->up ? "" : "down, ",
			      nic->queues, nic->queues == 1 ? "" : "s",
			      nic->ring_known ? "" : "perhaps ", nic->buffers);
	}
	cards->left_out += s->nic_count - listed;
}

void check_host_cards(const struct check_host_paths *paths,
		      struct check_host_result *ret)
{
	struct look_list cards = { .count = 0 };
	struct look_reserve r = { .now = 0 };
	struct host_strangers strangers;
	const char *text;
	int rc;

	rc = host_strangers_look(paths->proc, paths->sys, &strangers);
	if (rc) {
		look_unreadable(ret, CHECK_HOST_WARN, "/sys/class/net", rc);
		return;
	}
	list_cards(&strangers, &cards);
	text = look_list_text(&cards);
	(void)look_reserve(paths, &r);
	if (!cards.count) {
		look_say(ret, CHECK_HOST_OK, "only virtual ones");
	} else if (!strangers.refill_waits) {
		look_say(ret, CHECK_HOST_OK, "%s", text);
	} else if (r.then >= HOST_SHARED_KBYTES) {
		look_say(ret, CHECK_HOST_OK,
			 "%s: refill may wait, but the reserve %s it", text,
			 r.then > r.now ? "of attach --swap prevents" :
					  "prevents");
	} else {
		look_say(ret, CHECK_HOST_WARN,
			 "%s: refill may wait for the swap", text);
		look_remedy(ret, "attach --swap --min-free=%u",
			    HOST_SHARED_KBYTES);
	}
}

/* The three numbers of tcp_mem or udp_mem, in pages. 0 or -errno. */
static int look_mem(const struct check_host_paths *paths, const char *file,
		    uint64_t ret_pages[3])
{
	char text[128];
	int rc = look_text(paths->proc, file, text, sizeof(text));

	if (rc < 0)
		return rc;
	return sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &ret_pages[0],
		      &ret_pages[1], &ret_pages[2]) == 3 ?
		       0 :
		       -EINVAL;
}

/*
 * What all sockets may hold cannot be reclaimed. With what is locked and reserved
 * for us it should leave half of memory to those who work with it.
 */
void check_host_sockets(const struct check_host_paths *paths,
			struct check_host_result *ret)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE) / KIB;
	uint64_t tcp[3], udp[3], total, held, ours;
	struct look_reserve r;
	int rc;

	rc = look_mem(paths, "sys/net/ipv4/tcp_mem", tcp);
	if (!rc)
		rc = look_mem(paths, "sys/net/ipv4/udp_mem", udp);
	if (!rc)
		rc = look_meminfo(paths, "MemTotal", &total);
	if (!rc)
		rc = look_reserve(paths, &r);
	if (rc) {
		look_unreadable(ret, CHECK_HOST_WARN,
				"net.ipv4.tcp_mem and udp_mem", rc);
		return;
	}
	/* A number that large cannot be meant: no limit. */
	held = tcp[2] > total || udp[2] > total ? UINT64_MAX :
						  (tcp[2] + udp[2]) * page;
	ours = look_footprint_kbytes() + r.then;
	look_say(ret, CHECK_HOST_OK,
		 "net.ipv4.tcp_mem and udp_mem let sockets hold %" PRIu64
		 " KiB of %" PRIu64,
		 held, total);
	if (held <= total && held + ours <= total / 2)
		return;
	ret->state = CHECK_HOST_WARN;
	look_remedy(ret,
		    "sysctl net.ipv4.udp_mem=\"%" PRIu64 " %" PRIu64 " %" PRIu64
		    "\", the last of tcp_mem no more",
		    total / page / 32, total / page / 24, total / page / 16);
}

/* SO_RESERVE_MEM is refused above the middle value (net/core/sock.c). */
void check_host_tcp(const struct check_host_paths *paths,
		    struct check_host_result *ret)
{
	struct socket_memory memory = sizing_socket_memory(&look_swap_device);
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t needed =
		(memory.reserve_bytes + page - 1) / page * SOCKETS_COUNT;
	uint64_t allowed[3], used = 0;
	char text[1024];
	const char *mem;
	int rc;

	rc = look_mem(paths, "sys/net/ipv4/tcp_mem", allowed);
	if (rc) {
		look_unreadable(ret, CHECK_HOST_WARN, "net.ipv4.tcp_mem", rc);
		return;
	}
	if (look_text(paths->proc, "net/sockstat", text, sizeof(text)) >= 0) {
		mem = strstr(text, "TCP: ");
		mem = mem ? strstr(mem, " mem ") : NULL;
		if (mem)
			used = strtoull(mem + 5, NULL, 10);
	}
	look_say(ret, CHECK_HOST_OK,
		 "net.ipv4.tcp_mem allows %" PRIu64 " pages, in "
		 "use %" PRIu64 ", a swap device reserves %" PRIu64,
		 allowed[1], used, needed);
	if (used + needed <= allowed[1])
		return;
	ret->state = CHECK_HOST_WARN;
	look_remedy(ret,
		    "sysctl net.ipv4.tcp_mem=\"%" PRIu64 " %" PRIu64 " %" PRIu64
		    "\"",
		    allowed[0] + used + needed, allowed[1] + used + needed,
		    allowed[2] + used + needed);
}
