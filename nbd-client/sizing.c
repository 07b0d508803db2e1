// SPDX-License-Identifier: GPL-2.0-or-later
/* The sums. No state. */
#include <stdarg.h>
#include <stdio.h>

#include "common/pin.h"
#include "nbd-client/measure.h"
#include "nbd-client/sizing.h"
#include "nbd-client/tls_memory.h"

/*
 * Swap: what may lie in the kernel must be far below the reserve, and 64 KiB of
 * send buffer suffice for swap, as measured. The receive buffer holds the
 * replies to a full window of read-ahead.
 */
#define SWAP_SEND_BYTES (64u * KIB)
#define SWAP_RECEIVE_BYTES (512u * KIB)
#define SWAP_PAIR_BYTES (128u * KIB)

/*
 * Of the kernel's global tcp_mem, for each socket: both buffers as doubled by
 * the kernel, so that strangers who fill tcp_mem cannot stop ours.
 */
#define SWAP_SOCKET_BYTES (2u * (SWAP_SEND_BYTES + SWAP_RECEIVE_BYTES))

/* A plain disk: throughput; the kernel tunes the link's buffers itself. */
#define DISK_PAIR_BYTES (512u * KIB)

static bool is_swap(const struct attach_options *o)
{
	return o->swap != SWAP_NO;
}

static void set_slots(struct engine_config *c, uint64_t slots)
{
	if (slots > SLOTS_MAX)
		slots = SLOTS_MAX;
	if (slots < SLOTS_MIN)
		slots = SLOTS_MIN;
	c->slots = (uint32_t)slots;
	c->slots_reserve = c->slots / 8 ? c->slots / 8 : 1;
}

/* The user says how much may be pinned: as many slots as fit beside the rest. */
static void fit_slots(struct engine_config *c, uint64_t pinned_bytes)
{
	uint64_t rest;

	set_slots(c, SLOTS_MIN);
	rest = sizing_pinned_bytes(c) - pin_pages(engine_slot_bytes(c));
	if (pinned_bytes > rest)
		set_slots(c, (pinned_bytes - rest) / c->slot_bytes);
}

/* A record layer of ours, unless no TLS is wanted. */
static uint32_t record_bytes(const struct attach_options *o)
{
	enum handshake_tls mode;

	if (tls_decide(&o->tls, &o->addr, &mode, NULL) < 0 ||
	    mode == HANDSHAKE_TLS_OFF)
		return 0;
	return sizeof(struct records);
}

struct engine_config sizing_config(const struct attach_options *o,
				   const struct export_info *x)
{
	struct engine_config c = {
		.slots = o->slots,
		.slots_reserve = o->slots / 8 ? o->slots / 8 : 1,
		.slot_bytes = o->slot_bytes,
		.record_bytes = record_bytes(o),
		.export = x,
	};

	/* Each tag of the kernel's has its slot: none can be set aside. */
	if (o->front == FRONT_UBLK)
		c.slots_reserve = 0;
	/* The server's limit on a payload is a limit on ours; in whole pages. */
	if (c.slot_bytes > x->block_max)
		c.slot_bytes = x->block_max - x->block_max % SLOT_BYTES_MIN;
	if (c.slot_bytes < SLOT_BYTES_MIN)
		c.slot_bytes = SLOT_BYTES_MIN;
	if (o->reserve_bytes)
		fit_slots(&c, o->reserve_bytes);
	/*
	 * Admitted at most: every slot. For swap the replies owed fit into the
	 * receive buffer and our own; writes are held back by their slots.
	 */
	c.tx_window_bytes = (uint64_t)c.slots * (c.slot_bytes + 64);
	c.rx_window_bytes = c.tx_window_bytes;
	if (is_swap(o))
		c.rx_window_bytes = SWAP_RECEIVE_BYTES +
				    RX_BUFFERS * RX_BUFFER_BYTES;
	return c;
}

size_t sizing_pinned_bytes(const struct engine_config *c)
{
	return pin_pages(sizeof(struct engine)) +
	       pin_pages(DEVICE_FRONT_BYTES) +
	       pin_pages(engine_rx_bytes()) + pin_pages(c->record_bytes) +
	       pin_pages(engine_slot_bytes(c));
}

/* What mlockall holds besides, as measured: VmLck less the pinned region. */
#define PROGRAM_BYTES (4u * MIB)

uint64_t sizing_footprint_bytes(const struct engine_config *c)
{
	return sizing_pinned_bytes(c) + PROGRAM_BYTES +
	       (c->record_bytes ? TLS_MEMORY_BYTES : 0);
}

static void add_line(struct sizing_line *lines, size_t *count, uint64_t bytes,
		     const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void add_line(struct sizing_line *lines, size_t *count, uint64_t bytes,
		     const char *format, ...)
{
	struct sizing_line *line = &lines[(*count)++];
	va_list args;

	va_start(args, format);
	vsnprintf(line->holder, sizeof(line->holder), format, args);
	va_end(args);
	line->bytes = bytes;
}

size_t sizing_pinned_lines(const struct engine_config *c,
			   struct sizing_line ret_lines[SIZING_LINES_MAX])
{
	size_t n = 0;

	add_line(ret_lines, &n, pin_pages(engine_slot_bytes(c)),
		 "payload: %u slots of %u KiB", c->slots, c->slot_bytes / KIB);
	add_line(ret_lines, &n, pin_pages(engine_rx_bytes()),
		 "receive: %u buffers of %u KiB, and their ring", RX_BUFFERS,
		 RX_BUFFER_BYTES / KIB);
	add_line(ret_lines, &n, pin_pages(sizeof(struct engine)),
		 "engine: requests, queues, log");
	add_line(ret_lines, &n, pin_pages(DEVICE_FRONT_BYTES),
		 "front end");
	if (c->record_bytes)
		add_line(ret_lines, &n, pin_pages(c->record_bytes),
			 "TLS: records to and from the server");
	return n;
}

size_t sizing_process_lines(const struct engine_config *c,
			    struct sizing_line ret_lines[SIZING_LINES_MAX])
{
	size_t n = sizing_pinned_lines(c, ret_lines);

	if (c->record_bytes)
		add_line(ret_lines, &n, TLS_MEMORY_BYTES,
			 "TLS: certificates, keys, handshakes (measured)");
	add_line(ret_lines, &n, PROGRAM_BYTES,
		 "program, libraries, heap, stacks (measured)");
	return n;
}

/* Once per host: see host_strangers.c. */
static void stranger_lines(const struct host_strangers *s,
			   struct sizing_line *lines, size_t *count)
{
	uint64_t held = s->ring_bytes + s->ipv4_fragment_bytes +
			s->ipv6_fragment_bytes;
	uint64_t total = host_strangers_kbytes(s) * KIB;
	uint64_t derived = (held * 8 / 5 + KIB - 1) / KIB * KIB;

	add_line(lines, count, s->ring_bytes,
		 "once per host: a ringful of each network card");
	add_line(lines, count, s->ipv4_fragment_bytes,
		 "once per host: fragments, ipfrag_high_thresh");
	add_line(lines, count, s->ipv6_fragment_bytes,
		 "once per host: fragments, ip6frag_high_thresh");
	add_line(lines, count, derived - held,
		 "once per host: out of GFP_ATOMIC's reach, 3/5 of these");
	if (total > derived)
		add_line(lines, count, total - derived,
			 "once per host: for a refill that waits, up to %u MiB",
			 HOST_SHARED_KBYTES / 1024);
}

size_t sizing_kernel_lines(const struct attach_options *o,
			   const struct host_strangers *strangers,
			   struct sizing_line ret_lines[SIZING_LINES_MAX])
{
	struct host_needs needs = sizing_needs(o);
	size_t n = 0;

	add_line(ret_lines, &n, needs.link_send_bytes,
		 "to the server: SO_SNDBUF");
	add_line(ret_lines, &n, needs.link_receive_bytes,
		 "from the server: SO_RCVBUF");
	if (needs.front_send_bytes) {
		add_line(ret_lines, &n, needs.front_send_bytes,
			 "kernel to us: SO_SNDBUF of its end");
		add_line(ret_lines, &n, needs.front_receive_bytes,
			 "us to the kernel: SO_SNDBUF of our end");
	}
	add_line(ret_lines, &n,
		 host_needs_kbytes(&needs) * KIB - needs.link_send_bytes -
			 needs.link_receive_bytes - needs.front_send_bytes -
			 needs.front_receive_bytes,
		 "beyond the reach of ordinary tasks: 5/3 of these");
	stranger_lines(strangers, ret_lines, &n);
	return n;
}

struct socket_memory sizing_socket_memory(const struct attach_options *o)
{
	struct socket_memory m = { .send_bytes = SWAP_SEND_BYTES,
				   .receive_bytes = SWAP_RECEIVE_BYTES,
				   .reserve_bytes = SWAP_SOCKET_BYTES };

	if (!is_swap(o))
		return (struct socket_memory){ 0 };
	if (o->without >> MEASURE_BUFFERS & 1)
		m.send_bytes = m.receive_bytes = 0;
	if (o->without >> MEASURE_SOCKET_MEMORY & 1)
		m.reserve_bytes = 0;
	return m;
}

uint32_t sizing_pair_bytes(const struct attach_options *o)
{
	return is_swap(o) ? SWAP_PAIR_BYTES : DISK_PAIR_BYTES;
}

struct host_needs sizing_needs(const struct attach_options *o)
{
	/* ublk copies from page to slot: nothing of the kernel's in between. */
	uint64_t pair_bytes =
		o->front == FRONT_UBLK ? 0 : 2ull * sizing_pair_bytes(o);

	return (struct host_needs){
		/* the kernel doubles what setsockopt is given */
		.link_send_bytes = 2ull * SWAP_SEND_BYTES,
		.link_receive_bytes = 2ull * SWAP_RECEIVE_BYTES,
		.front_send_bytes = pair_bytes,
		.front_receive_bytes = pair_bytes,
	};
}
