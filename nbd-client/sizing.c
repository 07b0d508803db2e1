// SPDX-License-Identifier: GPL-2.0-or-later
/* The sums. No state. */
#include <stdarg.h>
#include <stdio.h>

#include "common/pin.h"
#include "nbd-client/measure.h"
#include "nbd-client/sizing.h"
#include "nbd-client/tls_memory.h"

/*
 * Swap: what may lie in the kernel comes out of its reserve, so it is small. The
 * receive buffer holds the replies to a full window of read-ahead.
 */
#define SWAP_RECEIVE_BYTES (512u * KIB)
#define SWAP_PAIR_BYTES (128u * KIB)

/* Besides one request of a whole slot: small ones, and the heads of all. */
#define SMALL_BYTES (32u * KIB)

/* A request as the kernel's swap read-ahead makes it: 8 pages (page-cluster 3). */
#define TYPICAL_BYTES (32u * KIB)

/* Enough that each window can be full of something else than one request. */
#define SLOTS_RESERVE_MIN 8u

/* A plain disk: throughput; the kernel tunes the link's buffers itself. */
#define DISK_PAIR_BYTES (512u * KIB)

static bool is_swap(const struct attach_options *o)
{
	return o->swap != SWAP_NO;
}

/*
 * Only ublk: with several sockets nbd.ko ends one that is well when an answer takes
 * longer than its request timer, and sends the request through another, past a
 * connection that may still carry it out (nbd_xmit_timeout). And only where a flush
 * on one connection covers what was written on the others, which of two servers
 * nobody can say.
 */
uint32_t sizing_queues(const struct attach_options *o, uint32_t export_flags)
{
	if (o->front != FRONT_UBLK || !o->connections || o->other_count ||
	    !(export_flags & NBD_FLAG_CAN_MULTI_CONN))
		return 1;
	return o->connections;
}

/* The user says how much may be locked: as many slots as fit beside the rest. */
static void fit_slots(struct engine_config *c, uint64_t locked_bytes)
{
	uint64_t rest, slots = SLOTS_MIN;

	c->slots = SLOTS_MIN;
	rest = sizing_request_bytes(c) -
	       c->queues * (engine_base_bytes(c) + engine_reserve_bytes(c));
	if (locked_bytes > rest)
		slots = (locked_bytes - rest) / c->slot_bytes / c->queues;
	if (slots > SLOTS_MAX)
		slots = SLOTS_MAX;
	if (slots > SLOTS_MIN)
		c->slots = (uint32_t)slots;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* One request of a whole slot, as either window counts it, and small ones. */
static uint64_t request_bytes(uint32_t slot_bytes)
{
	return (uint64_t)slot_bytes + SMALL_BYTES;
}

/*
 * The largest write must fit into the send buffer, or it could never be sent
 * without waiting for room.
 */
static uint32_t send_bytes(uint32_t slot_bytes)
{
	return (uint32_t)request_bytes(slot_bytes);
}

static uint32_t receive_bytes(uint32_t slot_bytes)
{
	return (uint32_t)larger(SWAP_RECEIVE_BYTES, request_bytes(slot_bytes));
}

/*
 * The reserve can fill both guaranteed windows with requests as they come; but
 * half of the slots at most, for what it holds is held for ever.
 */
static uint32_t slots_reserve(const struct engine_config *c)
{
	uint64_t wanted = (c->guaranteed.tx_bytes + c->guaranteed.rx_bytes) /
			  TYPICAL_BYTES;
	uint32_t most = c->slots / 2;

	wanted = larger(wanted, SLOTS_RESERVE_MIN);
	return wanted < most ? (uint32_t)wanted : most;
}

/* What our own receive ring has room for, without the kernel's help. */
static struct throttle_window guaranteed_window(uint32_t slot_bytes)
{
	return (struct throttle_window){
		.tx_bytes = request_bytes(slot_bytes),
		.rx_bytes = larger(RX_BUFFERS * RX_BUFFER_BYTES,
				   request_bytes(slot_bytes)),
	};
}

static void size_windows(struct engine_config *c, bool swap)
{
	const uint64_t ring_bytes = RX_BUFFERS * RX_BUFFER_BYTES;
	const uint64_t all = (uint64_t)c->slots *
			     (c->slot_bytes + THROTTLE_HEAD_BYTES);

	c->guaranteed = guaranteed_window(c->slot_bytes);
	if (swap) {
		c->open.tx_bytes = send_bytes(c->slot_bytes);
		c->open.rx_bytes = receive_bytes(c->slot_bytes) + ring_bytes;
		return;
	}
	/* A plain disk: every slot, the kernel's buffers follow. */
	c->open.tx_bytes = larger(all, c->guaranteed.tx_bytes);
	c->open.rx_bytes = larger(all, c->guaranteed.rx_bytes);
}

/* A record layer of ours, unless no TLS is wanted. */
static uint32_t record_bytes(const struct attach_options *o)
{
	enum handshake_tls mode;

	for (uint32_t i = 0; i <= o->other_count; i++)
		if (tls_decide(&o->tls, attach_addr(o, i), &mode, NULL) == 0 &&
		    mode != HANDSHAKE_TLS_OFF)
			return sizeof(struct records);
	return 0;
}

struct engine_config sizing_config(const struct attach_options *o,
				   const struct export_info *x)
{
	struct engine_config c = {
		.slots = o->slots,
		.slot_bytes = o->slot_bytes,
		.record_bytes = record_bytes(o),
		.queues = sizing_queues(o, x->flags),
		.retry_ms = o->retry_ms,
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
	/* The largest request then; but the kernel carries them. */
	if (o->kernel_path) {
		c.slots = 0;
		return c;
	}
	if (o->reserve_bytes)
		fit_slots(&c, o->reserve_bytes);
	size_windows(&c, is_swap(o));
	/* ublk: a tag has a slot of its own, whose memory cannot come and go. */
	c.slots_reserve = o->front == FRONT_UBLK ? c.slots : slots_reserve(&c);
	if (o->without >> MEASURE_WINDOWS & 1)
		c.guaranteed = c.open;
	return c;
}

size_t sizing_pinned_bytes(const struct engine_config *c)
{
	if (!c->slots)
		return 0;
	return pin_pages(sizeof(struct engine)) +
	       pin_pages(DEVICE_FRONT_BYTES) +
	       pin_pages(engine_rx_bytes()) + pin_pages(c->record_bytes) +
	       pin_pages(engine_reserve_bytes(c));
}

uint64_t sizing_request_bytes(const struct engine_config *c)
{
	return c->queues *
	       (uint64_t)(sizing_pinned_bytes(c) + engine_base_bytes(c));
}

/* What mlockall holds besides, as measured: VmLck less the pinned region. */
#define PROGRAM_BYTES (10u * MIB)

/*
 * What the supervisor and a standby hold of their own: heap, stacks, the data of
 * the libraries; their code and the slots are the worker's, too.
 */
#define PROCESS_BYTES (2u * MIB)

/* Of each further queue besides, in each process: its connection; its stack. */
#define QUEUE_BYTES (64u * KIB)
#define THREAD_BYTES (384u * KIB)

/* A standby has all that is pinned but for the slots. */
static uint64_t standby_bytes(const struct engine_config *c)
{
	return PROCESS_BYTES +
	       c->queues * (sizing_pinned_bytes(c) -
			    pin_pages(engine_reserve_bytes(c)));
}

static uint64_t queues_bytes(const struct engine_config *c)
{
	return (c->queues - 1) * (uint64_t)(3 * QUEUE_BYTES + THREAD_BYTES);
}

/* Worker, supervisor and standby lock a copy each. */
static uint64_t tls_bytes(const struct engine_config *c)
{
	return c->record_bytes ? 3ull * TLS_MEMORY_BYTES : 0;
}

uint64_t sizing_footprint_bytes(const struct engine_config *c)
{
	return sizing_request_bytes(c) + PROGRAM_BYTES + PROCESS_BYTES +
	       standby_bytes(c) + queues_bytes(c) + tls_bytes(c);
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

	if (!c->slots)
		return 0;
	add_line(ret_lines, &n, engine_reserve_bytes(c),
		 "payload, reserve: %u slots of %u KiB", c->slots_reserve,
		 c->slot_bytes / KIB);
	add_line(ret_lines, &n, engine_base_bytes(c),
		 "payload, base: %u slots, given back when memory is tight",
		 c->slots - c->slots_reserve);
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
	if (c->queues > 1)
		add_line(ret_lines, &n,
			 sizing_request_bytes(c) / c->queues * (c->queues - 1),
			 "the same for each of %u further queues",
			 c->queues - 1);
	return n;
}

size_t sizing_process_lines(const struct engine_config *c,
			    struct sizing_line ret_lines[SIZING_LINES_MAX])
{
	size_t n = sizing_pinned_lines(c, ret_lines);

	if (c->record_bytes)
		add_line(ret_lines, &n, tls_bytes(c),
			 "TLS: certificates, keys, handshakes, in 3 processes");
	add_line(ret_lines, &n, PROGRAM_BYTES,
		 "program, libraries, heap, stacks (measured)");
	add_line(ret_lines, &n, PROCESS_BYTES,
		 "supervisor: heap, stacks (measured)");
	add_line(ret_lines, &n, standby_bytes(c),
		 "standby: buffers but no slots, heap, stacks");
	if (c->queues > 1)
		add_line(ret_lines, &n, queues_bytes(c),
			 "further queues: threads, connections (measured)");
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

size_t sizing_kernel_lines(const struct attach_options *o, uint32_t queues,
			   const struct host_strangers *strangers,
			   struct sizing_line ret_lines[SIZING_LINES_MAX])
{
	struct host_needs needs = sizing_needs(o, queues);
	const char *s = queues > 1 ? "s" : "";
	size_t n = 0;

	add_line(ret_lines, &n, needs.link_send_bytes,
		 "to the server: SO_SNDBUF, %u connection%s", queues, s);
	add_line(ret_lines, &n, needs.link_receive_bytes,
		 "from the server: SO_RCVBUF, %u connection%s", queues, s);
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
	const struct throttle_window window = guaranteed_window(o->slot_bytes);
	struct socket_memory m = {
		.send_bytes = send_bytes(o->slot_bytes),
		.receive_bytes = receive_bytes(o->slot_bytes),
	};

	/*
	 * Of the kernel's global tcp_mem, for each socket: what may be under way
	 * while memory is short, doubled as the kernel counts buffers, so that
	 * strangers who fill tcp_mem cannot stop ours. Not more: with TLS a
	 * device has six of these sockets, and tcp_mem is others', too.
	 */
	m.reserve_bytes = (uint32_t)(2 * (window.tx_bytes + window.rx_bytes));
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

struct host_needs sizing_needs(const struct attach_options *o, uint32_t queues)
{
	/* ublk copies from page to slot: nothing of the kernel's in between. */
	uint64_t pair_bytes = o->front == FRONT_UBLK || o->kernel_path ?
				      0 : 2ull * sizing_pair_bytes(o);

	return (struct host_needs){
		/* the kernel doubles what setsockopt is given */
		.link_send_bytes = 2ull * queues * send_bytes(o->slot_bytes),
		.link_receive_bytes =
			2ull * queues * receive_bytes(o->slot_bytes),
		.front_send_bytes = pair_bytes,
		.front_receive_bytes = pair_bytes,
	};
}
