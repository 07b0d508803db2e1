// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Items about the network: the cards and their drivers, memory for sockets.
 *
 * Owns nothing. Command line only: blocks, and changes nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nbd-client/check_look.h"
#include "nbd-client/host.h"
#include "nbd-client/sizing.h"

/*
 * Drivers that refill an empty receive ring with GFP_KERNEL while they receive
 * nothing: that may wait for our swap. They only do so when GFP_ATOMIC has
 * failed, which HOST_SHARED_KBYTES prevents (virtio_net.c, refill_work).
 */
static const char *const waiting_drivers[] = { "virtio_net" };

static bool driver_waits(const char *driver)
{
	size_t i;

	for (i = 0; i < sizeof(waiting_drivers) / sizeof(waiting_drivers[0]);
	     i++) {
		if (!strcmp(driver, waiting_drivers[i]))
			return true;
	}
	return false;
}

/* Of a physical interface; virtual ones have no device and no driver. */
static bool find_driver(const struct check_host_paths *paths, const char *card,
			char *ret_driver, size_t driver_bytes)
{
	char path[LOOK_PATH_BYTES], target[LOOK_PATH_BYTES], *base;
	ssize_t n;

	look_path(path, "%s/class/net/%s/device/driver", paths->sys, card);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	base = strrchr(target, '/');
	snprintf(ret_driver, driver_bytes, "%.60s", base ? base + 1 : target);
	return true;
}

static uint32_t count_rx_queues(const struct check_host_paths *paths,
				const char *card)
{
	struct dirent *entry;
	char path[LOOK_PATH_BYTES];
	uint32_t count = 0;
	DIR *dir;

	look_path(path, "%s/class/net/%s/queues", paths->sys, card);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		count += !strncmp(entry->d_name, "rx-", 3);
	if (dir)
		closedir(dir);
	return count;
}

/* What is to be known of each; true if one of them has a driver that waits. */
static bool list_cards(const struct check_host_paths *paths, DIR *dir,
		       struct look_list *cards)
{
	struct dirent *entry;
	bool waits = false;
	char driver[64];
	uint32_t queues;

	while ((entry = readdir(dir))) {
		if (*entry->d_name == '.' ||
		    !find_driver(paths, entry->d_name, driver, sizeof(driver)))
			continue;
		queues = count_rx_queues(paths, entry->d_name);
		look_list_add(cards, "%s %s (%u receive queue%s)",
			      entry->d_name, driver, queues,
			      queues == 1 ? "" : "s");
		waits |= driver_waits(driver);
	}
	return waits;
}

void check_host_cards(const struct check_host_paths *paths,
		      struct check_host_result *ret)
{
	struct look_list cards = { .count = 0 };
	struct look_reserve r = { .now = 0 };
	char path[LOOK_PATH_BYTES];
	const char *text;
	bool waits;
	DIR *dir;

	look_path(path, "%s/class/net", paths->sys);
	dir = opendir(path);
	if (!dir) {
		look_unreadable(ret, CHECK_HOST_WARN, "/sys/class/net", -errno);
		return;
	}
	waits = list_cards(paths, dir, &cards);
	closedir(dir);
	text = look_list_text(&cards);
	(void)look_reserve(paths, &r);
	if (!cards.count) {
		look_say(ret, CHECK_HOST_OK, "only virtual ones");
	} else if (!waits) {
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

/* SO_RESERVE_MEM is refused above the middle value (net/core/sock.c). */
void check_host_tcp(const struct check_host_paths *paths,
		    struct check_host_result *ret)
{
	struct socket_memory memory = sizing_socket_memory(&look_swap_device);
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t needed =
		(memory.reserve_bytes + page - 1) / page * SOCKETS_COUNT;
	uint64_t low, pressure, high, used = 0;
	char text[1024];
	const char *mem;
	int rc;

	rc = look_text(paths->proc, "sys/net/ipv4/tcp_mem", text, sizeof(text));
	if (rc >= 0 && sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &low,
			      &pressure, &high) != 3)
		rc = -EINVAL;
	if (rc < 0) {
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
		 pressure, used, needed);
	if (used + needed <= pressure)
		return;
	ret->state = CHECK_HOST_WARN;
	look_remedy(ret,
		    "sysctl net.ipv4.tcp_mem=\"%" PRIu64 " %" PRIu64 " %" PRIu64
		    "\"",
		    low + used + needed, pressure + used + needed,
		    high + used + needed);
}
