// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Integration: a server that answers nothing until so many requests are with it
 * as the window holds, and then all of them, last one first. One request less,
 * and it would wait for ever; one more, and the count shows it. With the buffers
 * and windows of a swap device, over TCP, for both windows.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/sizing.h"
#include "tests/kernel_end.h"
#include "tests/script_server.h"

#define LENGTH (32u * KIB)
#define ROUNDS 4u
#define COST (LENGTH + 28u) /* with the head, on either way */

static const struct attach_options swap_device = {
	.swap = SWAP_YES,
	.slots = SLOTS_DEFAULT,
	.slot_bytes = SLOT_BYTES_DEFAULT,
};
static struct kernel_end k;
static struct script_server server;
static uint8_t payload[LENGTH];

/* The mail has been read once memory is low. */
static void make_low(void)
{
	uint64_t end_ns = clock_now_ns() + 10 * NS_PER_S;

	engine_post(k.engine, MAIL_TIGHT);
	while (!engine_is_low(k.engine)) {
		assert_true(clock_now_ns() < end_ns);
		sched_yield();
	}
}

static void fill_window(uint16_t command, bool low, uint32_t count)
{
	struct socket_memory memory = sizing_socket_memory(&swap_device);
	const struct export_info any = { .block_max = NBD_MAX_PAYLOAD_DEFAULT };
	struct engine_config config = sizing_config(&swap_device, &any);
	struct err err = { 0 };
	char words[64];

	memory.reserve_bytes = 0; /* wants a memory cgroup */
	snprintf(words, sizeof(words), "reverse=%u", count);
	script_server_start(&server, words);
	if (kernel_end_open_sized(&k, server.uri, &config, &memory, &err) < 0) {
		script_server_stop(&server);
		if (err.error != EPERM)
			fail_msg("%s", err.text);
		print_message("%s\n", err.text);
		skip();
	}
	if (low)
		make_low();
	for (uint32_t i = 0; i < ROUNDS * count; i++) {
		memset(payload, (int)i, sizeof(payload));
		kernel_end_send(&k, command, 0, i, (uint64_t)i * LENGTH, LENGTH,
				payload);
	}
	for (uint32_t i = 0; i < ROUNDS * count; i++) {
		uint64_t cookie;

		assert_int_equal(kernel_end_reply(&k, &cookie), 0);
		assert_true(cookie < (uint64_t)ROUNDS * count);
		if (command == NBD_CMD_READ)
			kernel_end_payload(&k, payload, LENGTH);
	}
	assert_true(kernel_end_close(&k));
	script_server_stop(&server);
	assert_int_equal(k.stats.in_flight_max, count);
	for (uint32_t i = 0; i < GROUPS; i++) {
		const struct group *g = &k.stats.groups[i];

		assert_int_equal(g->usage_bytes, 0);
		assert_true(g->peak_bytes <= g->limit_bytes);
		assert_int_equal(g->peak_bytes > 0, low);
	}
}

static void reads_open(void **state)
{
	(void)state;
	/* Receive ring of 256 KiB, SO_RCVBUF of 512. */
	fill_window(NBD_CMD_READ, false, (256 + 512) * KIB / COST);
}

static void reads_guaranteed(void **state)
{
	(void)state;
	fill_window(NBD_CMD_READ, true, 256 * KIB / COST);
}

/* SO_SNDBUF of 160 KiB, which is the guaranteed window, too. */
static void writes_open(void **state)
{
	(void)state;
	fill_window(NBD_CMD_WRITE, false, 160 * KIB / COST);
}

static void writes_guaranteed(void **state)
{
	(void)state;
	fill_window(NBD_CMD_WRITE, true, 160 * KIB / COST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_open),
		cmocka_unit_test(reads_guaranteed),
		cmocka_unit_test(writes_open),
		cmocka_unit_test(writes_guaranteed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
