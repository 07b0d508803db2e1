// SPDX-License-Identifier: GPL-2.0-or-later
/* The sums: whatever user and server ask for, the engine can be made of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/pin.h"
#include "nbd-client/front_nbd.h"
#include "nbd-client/sizing.h"
#include "nbd-client/tls_memory.h"

static struct export_info export = { .block_max = NBD_MAX_PAYLOAD_DEFAULT };

static struct engine_config config(enum swap_mode swap, uint32_t slots,
				   uint32_t slot_bytes)
{
	const struct attach_options o = { .swap = swap, .slots = slots,
					  .slot_bytes = slot_bytes };

	return sizing_config(&o, &export);
}

/* By hand, for the defaults. */
static void defaults(void **state)
{
	struct engine_config c = config(SWAP_NO, SLOTS_DEFAULT,
					SLOT_BYTES_DEFAULT);

	(void)state;
	assert_int_equal(c.slots, 64);
	/* (160 + 256) KiB in requests of 32 KiB. */
	assert_int_equal(c.slots_reserve, 13);
	assert_int_equal(c.slot_bytes, 131072);
	assert_ptr_equal(c.export, &export);
	/* Engine and front, four receive buffers of 64 KiB, 13 slots. */
	assert_in_range(sizing_pinned_bytes(&c), 13 * 131072 + 4 * 65536,
			13 * 131072 + 4 * 65536 + 256 * 1024);
	/* With the base and the program, locked. */
	assert_true(sizing_footprint_bytes(&c) <= 24 * MIB);
}

/* Each pair of an allowed slot size with a limit of the server. */
static void slot_fits_what_the_server_takes(void **state)
{
	static const uint32_t limits[] = {
		4096, 4097, 5000, 8191, 8192, 12288, 65536, 100000, 131072,
		1u << 20, (1u << 20) + 1, NBD_MAX_PAYLOAD_DEFAULT, UINT32_MAX,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		export.block_max = limits[i];
		for (uint32_t asked = SLOT_BYTES_MIN; asked <= SLOT_BYTES_MAX;
		     asked += SLOT_BYTES_MIN) {
			uint32_t got = config(SWAP_NO, 8, asked).slot_bytes;
			uint32_t most = limits[i] - limits[i] % 4096;

			if (got != (asked < most ? asked : most))
				fail_msg("slots of %u for %u asked and %u allowed",
					 got, asked, limits[i]);
		}
	}
	/* Refused at attach, but never a slot that the engine cannot have. */
	export.block_max = 512;
	assert_int_equal(config(SWAP_NO, 8, 131072).slot_bytes, SLOT_BYTES_MIN);
	export.block_max = NBD_MAX_PAYLOAD_DEFAULT;
}

/* Half at most, and one at least; enough where there are enough. */
static void reserve_is_part_of_the_slots(void **state)
{
	(void)state;
	for (uint32_t slots = SLOTS_MIN; slots <= SLOTS_MAX; slots++) {
		struct engine_config c = config(SWAP_YES, slots,
						SLOT_BYTES_DEFAULT);

		assert_int_equal(c.slots, slots);
		assert_in_range(c.slots_reserve, 1, slots / 2);
		if (slots >= 16)
			assert_true(c.slots_reserve >= 8);
	}
}

/* ublk: a slot for each tag, and nothing of the kernel's between it and us. */
static void ublk_takes_less(void **state)
{
	struct attach_options o = { .swap = SWAP_YES, .slots = 64,
				    .slot_bytes = SLOT_BYTES_DEFAULT };
	const struct host_strangers strangers = { .ring_bytes = MIB };
	struct sizing_line lines[SIZING_LINES_MAX];
	uint64_t nbd_kbytes, sum = 0;
	struct host_needs needs;
	size_t count;

	(void)state;
	needs = sizing_needs(&o, 1);
	nbd_kbytes = host_needs_kbytes(&needs);
	o.front = FRONT_UBLK;
	needs = sizing_needs(&o, 1);
	assert_true(needs.front_send_bytes + needs.front_receive_bytes == 0);
	assert_true(host_needs_kbytes(&needs) < nbd_kbytes);
	assert_int_equal(sizing_config(&o, &export).slots_reserve, o.slots);
	count = sizing_kernel_lines(&o, 1, &strangers, lines);
	for (size_t i = 0; i < count; i++)
		sum += lines[i].bytes;
	assert_true(sum == (host_needs_kbytes(&needs) +
			    host_strangers_kbytes(&strangers)) * KIB);
}

/* Any slots, any size: the engine can be made with it, the invariants hold. */
static void windows(void **state)
{
	static const enum swap_mode modes[] = { SWAP_NO, SWAP_YES,
						SWAP_BEST_EFFORT };
	static struct group groups[GROUPS];
	struct throttle t;

	(void)state;
	for (uint32_t m = 0; m < 3; m++)
		for (uint32_t slots = SLOTS_MIN; slots <= SLOTS_MAX; slots++)
			for (uint32_t size = SLOT_BYTES_MIN;
			     size <= SLOT_BYTES_MAX; size += SLOT_BYTES_MIN) {
				struct engine_config c = config(modes[m], slots,
								size);

				/* Checks that a largest request fits. */
				throttle_init(&t, &c.open, &c.guaranteed,
					      c.slot_bytes, c.slots_reserve,
					      groups);
			}
}

/* What is under way fits into the buffers that attach asks the kernel for. */
static void swap_windows_fit_the_buffers(void **state)
{
	(void)state;
	for (uint32_t size = SLOT_BYTES_MIN; size <= SLOT_BYTES_MAX;
	     size += SLOT_BYTES_MIN) {
		const struct attach_options o = { .swap = SWAP_YES, .slots = 64,
						  .slot_bytes = size };
		struct engine_config c = sizing_config(&o, &export);
		struct socket_memory m = sizing_socket_memory(&o);
		struct host_needs needs = sizing_needs(&o, 1);

		assert_int_equal(c.open.tx_bytes, m.send_bytes);
		assert_int_equal(c.open.rx_bytes,
				 m.receive_bytes + RX_BUFFERS * RX_BUFFER_BYTES);
		/* The kernel doubles; the reserve is for what it may hold. */
		assert_int_equal(needs.link_send_bytes, 2 * m.send_bytes);
		assert_int_equal(needs.link_receive_bytes, 2 * m.receive_bytes);
		/* Of tcp_mem the guaranteed window, as the kernel counts. */
		assert_int_equal(m.reserve_bytes,
				 2 * (c.guaranteed.tx_bytes +
				      c.guaranteed.rx_bytes));
	}
	/* Whatever depth the user asks for. */
	assert_int_equal(config(SWAP_YES, SLOTS_MAX, 131072).open.rx_bytes,
			 config(SWAP_YES, SLOTS_MIN, 131072).open.rx_bytes);
	assert_int_equal(config(SWAP_YES, 64, 131072).open.tx_bytes, 160 * 1024);
}

/* Without swap the open window admits all slots, full of reads or of writes. */
static void disk_windows_admit_all_slots(void **state)
{
	static struct request r[SLOTS_MAX];
	static struct group groups[GROUPS];

	(void)state;
	for (uint32_t slots = SLOTS_MIN; slots <= SLOTS_MAX; slots *= 2) {
		struct engine_config c = config(SWAP_NO, slots,
						SLOT_BYTES_MAX);
		struct throttle t;

		for (int kind = 0; kind < 2; kind++) {
			throttle_init(&t, &c.open, &c.guaranteed, c.slot_bytes,
				      c.slots_reserve, groups);
			for (uint32_t i = 0; i < slots; i++) {
				r[i] = (struct request){
					.command = kind ? NBD_CMD_READ :
							  NBD_CMD_WRITE,
					.length = c.slot_bytes,
				};
				assert_true(throttle_admit(&t, &r[i]));
			}
		}
	}
}

/* The pinned region holds exactly what is carved from it at attach. */
static void pinned_is_what_is_carved(void **state)
{
	(void)state;
	for (uint32_t slots = SLOTS_MIN; slots <= 32; slots += 5) {
		struct engine_config c = config(SWAP_NO, slots, 20480);
		struct pin pin = {
			.base = NULL,
			.bytes = sizing_pinned_bytes(&c),
			.phase = PIN_CARVE,
		};

		pin_carve(&pin, sizeof(struct engine));
		pin_carve(&pin, DEVICE_FRONT_BYTES);
		pin_carve(&pin, engine_rx_bytes());
		pin_carve(&pin, engine_reserve_bytes(&c));
		assert_int_equal(pin.used, pin.bytes);
	}
}

/* Whatever may be pinned, it is used up to the last slot, and never exceeded. */
static void reserve_decides_the_slots(void **state)
{
	struct attach_options o = { .swap = SWAP_YES, .slots = SLOTS_DEFAULT,
				    .slot_bytes = SLOT_BYTES_DEFAULT };
	struct engine_config c = sizing_config(&o, &export);
	size_t whole = sizing_request_bytes(&c), least, bytes;

	(void)state;
	/* What the default takes gives the default back, a byte less one slot. */
	o.reserve_bytes = whole;
	c = sizing_config(&o, &export);
	assert_int_equal(c.slots, SLOTS_DEFAULT);
	assert_in_range(c.slots_reserve, 1, SLOTS_DEFAULT / 2);
	o.reserve_bytes = whole - 1;
	assert_int_equal(sizing_config(&o, &export).slots, SLOTS_DEFAULT - 1);
	o.reserve_bytes = 1;
	c = sizing_config(&o, &export);
	assert_int_equal(c.slots, SLOTS_MIN);
	assert_int_equal(c.slots_reserve, 1);
	least = sizing_request_bytes(&c);
	for (o.reserve_bytes = least; o.reserve_bytes < 2 * whole;
	     o.reserve_bytes += 12345) {
		c = sizing_config(&o, &export);
		bytes = sizing_request_bytes(&c);
		assert_true(bytes <= o.reserve_bytes);
		assert_true(c.slots == SLOTS_MAX ||
			    bytes + c.slot_bytes > o.reserve_bytes);
		assert_in_range(c.slots_reserve, 1, c.slots - 1);
	}
	o.reserve_bytes = UINT64_MAX;
	assert_int_equal(sizing_config(&o, &export).slots, SLOTS_MAX);
	/* A server that takes little at a time: smaller slots, more of them. */
	o.reserve_bytes = least;
	export.block_max = 65536;
	assert_int_equal(sizing_config(&o, &export).slots, 2 * SLOTS_MIN);
	export.block_max = NBD_MAX_PAYLOAD_DEFAULT;
}

static void add_up(const struct engine_config *c)
{
	struct sizing_line lines[SIZING_LINES_MAX];
	uint64_t sum = 0;
	size_t i, count;

	count = sizing_pinned_lines(c, lines);
	for (i = 0; i < count; i++)
		sum += lines[i].bytes;
	assert_int_equal(sum, sizing_request_bytes(c));
	count = sizing_process_lines(c, lines);
	assert_in_range(count, i + 1, SIZING_LINES_MAX);
	for (; i < count; i++)
		sum += lines[i].bytes;
	assert_int_equal(sum, sizing_footprint_bytes(c));
}

static void lines_are_the_sums(void **state)
{
	struct attach_options o = { .swap = SWAP_YES, .slots = 7,
				    .slot_bytes = 20480,
				    .addr = { .kind = ADDR_TCP } };
	struct engine_config plain = sizing_config(&o, &export), encrypted;
	uint64_t more;

	(void)state;
	o.addr.tls = true;
	encrypted = sizing_config(&o, &export);
	add_up(&plain);
	add_up(&encrypted);
	/* Three processes have OpenSSL's memory, two of them records. */
	more = sizing_footprint_bytes(&encrypted) -
	       sizing_footprint_bytes(&plain);
	assert_int_equal(more, 3 * TLS_MEMORY_BYTES +
				       2 * pin_pages(sizeof(struct records)));
	plain.queues = encrypted.queues = 3;
	add_up(&plain);
	add_up(&encrypted);
}

/* Each queue has slots and a connection of its own. */
static void queues_are_multiples(void **state)
{
	struct attach_options o = { .front = FRONT_UBLK, .swap = SWAP_YES,
				    .slots = 64,
				    .slot_bytes = SLOT_BYTES_DEFAULT };
	struct engine_config one = sizing_config(&o, &export), c;
	struct host_needs needs = sizing_needs(&o, 4);

	(void)state;
	/* What is promised for one queue of the default depth. */
	assert_true(sizing_footprint_bytes(&one) <= 24 * MIB);
	assert_int_equal(needs.link_send_bytes,
			 4 * sizing_needs(&o, 1).link_send_bytes);
	assert_int_equal(needs.link_receive_bytes,
			 4 * sizing_needs(&o, 1).link_receive_bytes);
	o.connections = 4;
	assert_int_equal(sizing_config(&o, &export).queues, 1);
	export.flags = NBD_FLAG_CAN_MULTI_CONN;
	c = sizing_config(&o, &export);
	assert_int_equal(c.queues, 4);
	assert_int_equal(c.slots, 64);
	assert_int_equal(sizing_request_bytes(&c),
			 4 * sizing_request_bytes(&one));
	/* All of them together keep to what may be pinned. */
	o.reserve_bytes = sizing_request_bytes(&c);
	assert_int_equal(sizing_config(&o, &export).slots, 64);
	o.reserve_bytes -= 1;
	c = sizing_config(&o, &export);
	assert_int_equal(c.slots, 63);
	assert_true(sizing_request_bytes(&c) <= o.reserve_bytes);
	/* Two servers do not share a cache. */
	o.other_count = 1;
	assert_int_equal(sizing_config(&o, &export).queues, 1);
	o.other_count = 0;
	/* nbd.ko would send past a connection that is only slow. */
	o.front = FRONT_NBD;
	assert_int_equal(sizing_config(&o, &export).queues, 1);
	export.flags = 0;
}

/* Without an engine there is nothing to pin, and nothing between it and kernel. */
static void kernel_path(void **state)
{
	const struct attach_options o = {
		.swap = SWAP_YES,
		.slots = SLOTS_DEFAULT,
		.slot_bytes = SLOT_BYTES_DEFAULT,
		.kernel_path = true,
	};
	struct engine_config c = sizing_config(&o, &export);
	struct host_needs needs = sizing_needs(&o, 1);
	struct sizing_line lines[SIZING_LINES_MAX];
	uint64_t sum = 0;
	size_t count = sizing_process_lines(&c, lines);

	(void)state;
	assert_int_equal(c.slot_bytes, SLOT_BYTES_DEFAULT);
	assert_int_equal(sizing_request_bytes(&c), 0);
	for (size_t i = 0; i < count; i++)
		sum += lines[i].bytes;
	assert_int_equal(sum, sizing_footprint_bytes(&c));
	assert_int_equal(needs.front_send_bytes + needs.front_receive_bytes, 0);
	assert_true(needs.link_send_bytes && needs.link_receive_bytes);
}

static void pair_buffers(void **state)
{
	const struct attach_options disk = { .swap = SWAP_NO };
	const struct attach_options swap = { .swap = SWAP_YES };

	(void)state;
	/* Less may lie in the kernel when memory is to be saved. */
	assert_true(sizing_pair_bytes(&swap) < sizing_pair_bytes(&disk));
	/* A request of one page and its head must fit. */
	assert_true(sizing_pair_bytes(&swap) >= 8192);
	assert_true(sizing_needs(&swap, 1).front_send_bytes >=
		    sizing_pair_bytes(&swap));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(slot_fits_what_the_server_takes),
		cmocka_unit_test(reserve_is_part_of_the_slots),
		cmocka_unit_test(ublk_takes_less),
		cmocka_unit_test(windows),
		cmocka_unit_test(swap_windows_fit_the_buffers),
		cmocka_unit_test(disk_windows_admit_all_slots),
		cmocka_unit_test(pinned_is_what_is_carved),
		cmocka_unit_test(reserve_decides_the_slots),
		cmocka_unit_test(lines_are_the_sums),
		cmocka_unit_test(queues_are_multiples),
		cmocka_unit_test(kernel_path),
		cmocka_unit_test(pair_buffers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
