// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/group.h"
#include "include/nbd-wire.h"
#include "nbd-client/stats.h"
#include "tests/fake_page.h"

#define ATTACHED 1700000000u

static void requests(struct stats_data *data, enum stats_op op, uint64_t count,
		     uint64_t latency_us)
{
	data->requests[op] += count;
	data->bytes[op] += count * 4 * KIB;
	data->latency[op][stats_bucket(latency_us * 1000)] += count;
	data->latency_sum_ns[op] += count * latency_us * 1000;
}

void fake_page_reads(struct stats_page *page, uint64_t count,
		     uint64_t latency_us)
{
	requests(&page->data, STATS_READ, count, latency_us);
}

void fake_page_writes(struct stats_page *page, uint64_t count,
		      uint64_t latency_us)
{
	requests(&page->data, STATS_WRITE, count, latency_us);
}

static void fill_device(struct stats_page *page)
{
	page->attached_at = ATTACHED;
	snprintf(page->front, sizeof(page->front), "nbd");
	snprintf(page->uri, sizeof(page->uri), "nbds://alice@server/swap1");
	page->export_bytes = 4ull << 30;
	page->available_bytes = 5ull << 30;
	page->endpoint_count = 2;
	page->endpoint = 1;
	page->endpoints[0].link = STATS_LINK_DOWN;
	page->endpoints[1].link = STATS_LINK_UP;
	snprintf(page->endpoints[0].uri, sizeof(page->endpoints[0].uri),
		 "nbds://alice@server/swap1");
	snprintf(page->endpoints[1].uri, sizeof(page->endpoints[1].uri),
		 "nbds://alice@other/swap1");
	snprintf(page->endpoints[0].error, sizeof(page->endpoints[0].error),
		 "cannot connect to server port 10809: Connection refused");
	page->export_flags = NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA;
	page->block_bytes = 512;
	page->slots = 64;
	page->slot_bytes = SLOT_BYTES_DEFAULT;
	page->slots_reserve = 8;
	page->structured = 1;
	page->swap = 1;
	page->swap_active = 1;
	page->swap_priority = 10;
	page->pinned_bytes = 9ull << 20;
	page->psi = 1;
	stats_guarantee_set(page->guarantees, "memory locked", GUARANTEE_OK,
			    "mlockall, 12 MiB");
	stats_guarantee_set(page->guarantees, "kernel reserve", GUARANTEE_OK,
			    "vm.min_free_kbytes 65536");
	stats_guarantee_set(page->guarantees, "traffic shedding",
			    GUARANTEE_OFF, "not asked for");
}

static void fill_state(struct stats_page *page, uint64_t now_ns)
{
	page->state = STATS_LIVE;
	page->link = STATS_LINK_UP;
	page->link_since = ATTACHED + 60;
	page->reconnects = 2;
	page->failovers = 1;
	snprintf(page->link_error, sizeof(page->link_error),
		 "the server closed the connection");
	page->supervised = 1;
	page->takeovers = 3;
	page->watchdog_kills = 1;
	page->interruption_max_ms = 1250;
	page->tls_records = STATS_RECORDS_KERNEL;
	snprintf(page->tls_version, sizeof(page->tls_version), "TLSv1.3");
	snprintf(page->tls_cipher, sizeof(page->tls_cipher),
		 "TLS_AES_128_GCM_SHA256");
	snprintf(page->tls_peer, sizeof(page->tls_peer), "alice");
	page->tls_memory_bytes = 4ull << 20;
	page->tls_memory_used = 300000;
	page->tls_memory_peak = 500000;
	page->control_heartbeat_ns = now_ns;
	page->locked_kbytes = 12345;
	page->min_free_kbytes = 65536;
	page->shed_packets = 17;
	page->shed_bytes = 2000;
	page->memory_since = ATTACHED + 30;
	page->tight_episodes = 3;
	page->base_resident_bytes = 7ull << 20;
	page->base_shrinks = 1;
}

void fake_page_fill(struct stats_page *page, uint64_t now_ns)
{
	struct stats_data *data = &page->data;
	struct group *g = data->groups;

	fill_device(page);
	fill_state(page, now_ns);
	data->heartbeat_ns = now_ns;
	data->wakeups = 40000;
	fake_page_reads(page, 1000, 120);
	fake_page_reads(page, 10, 5000);
	fake_page_writes(page, 500, 700);
	requests(data, STATS_FLUSH, 1, 3000);
	data->bytes[STATS_FLUSH] = 0;
	data->errors[STATS_WRITE] = 1;
	data->states[REQUEST_FREE] = 58;
	data->states[REQUEST_PARKED] = 1;
	data->states[REQUEST_SENDING] = 1;
	data->states[REQUEST_WAITING] = 3;
	data->states[REQUEST_RECEIVING] = 1;
	data->in_flight_max = 40;
	data->low_episodes = 5;
	data->window_closings = 6;
	data->window_tx_bytes = page->open_tx_bytes = 4ull << 20;
	data->window_rx_bytes = page->open_rx_bytes = 4ull << 20;
	page->guaranteed_tx_bytes = page->guaranteed_rx_bytes = 256 * KIB;
	data->base_slots = 56;
	data->slots_free_min = 4;
	group_init(&g[0], "host", NULL, 64ull << 20);
	group_init(&g[1], "net", &g[0], 16ull << 20);
	group_init(&g[2], "nbd0", &g[0], 16ull << 20);
	group_init(&g[3], "slots", &g[2], 1ull << 20);
	(void)group_charge(&g[3], 512ull * KIB);
	group_uncharge(&g[3], 256ull * KIB);
	(void)group_charge(&g[3], 2ull << 20);
}
