/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every limit of the program in one place, with the reason for its value, and
 * the relations between them checked by the compiler.
 */
#ifndef NBD_BOUNDS_H
#define NBD_BOUNDS_H

#include <stdint.h>

#define KIB 1024u
#define MIB (1024u * 1024u)

/*
 * Slots of a queue. 128 is what nbd.ko keeps in flight on a socket
 * (drivers/block/nbd.c, nbd_dev_add: queue_depth); more could never be used.
 */
#define SLOTS_MAX 128u
#define SLOTS_MIN 2u
#define SLOTS_DEFAULT 64u

/*
 * Queues of a device: each is a thread, a connection and slots of its own. More
 * than four gain little (a server has as many disks and cores to share out), and
 * each costs locked memory.
 */
#define QUEUES_MAX 8u
#define CONNECTIONS_DEFAULT 4u /* or fewer, see attach --help */

/*
 * Payload of a slot, and so the largest request that we let the kernel send
 * (queue/max_sectors_kb). 128 KiB is one swap read-ahead window of 32 pages
 * (mm/swap_state.c) and more than what is gained by fewer, larger requests.
 */
#define SLOT_BYTES_MAX (1u * MIB)
#define SLOT_BYTES_MIN (4u * KIB)
#define SLOT_BYTES_DEFAULT (128u * KIB)

/*
 * Provided buffers of a class: one is being parsed, one may be filled by the
 * kernel meanwhile, for each of the two streams (front and link).
 */
#define RX_BUFFERS 4u
#define RX_BUFFER_BYTES (64u * KIB)

/* Below this much missing payload a copy is cheaper than a receive of its own. */
#define RX_DIRECT_BYTES_MIN (16u * KIB)

/*
 * Before a payload of so much, its head is received alone, so that all of the
 * payload can be received in place: one copy less.
 */
#define RX_HEAD_ALONE_BYTES_MIN (64u * KIB)

/*
 * After so many receives without a large payload those to come are armed all at
 * once (IORING_RECV_MULTISHOT); to end that again takes an operation.
 */
#define RX_SMALL_BEFORE_MANY 32u

/*
 * Requests to one sendmsg: a header and a payload each. UIO_MAXIOV is 1024, but
 * beyond some 32 requests a longer batch only adds latency.
 */
#define TX_BATCH_REQUESTS 32u
#define TX_IOVECS (2u * TX_BATCH_REQUESTS)

/*
 * Pieces of a read that have arrived with gaps between them (structured
 * replies may come in any order). Enough for the largest slot in pieces of a
 * page each, every second one missing, and one more.
 */
#define COVERAGE_EXTENTS (SLOT_BYTES_MAX / (8u * KIB) + 1u)

/*
 * TRIM and WRITE_ZEROES reach us with up to 4 GiB - 512 (nbd.ko sets no limit); a server
 * is asked for this much at a time, so that no single request keeps it busy
 * beyond a request time-out.
 */
#define ZERO_PIECE_BYTES (128u * MIB)

/*
 * How long a server may owe an answer before it is asked on another connection.
 * Longer than a disk takes to spin up and a switch to find its ports; shorter
 * than whoever waits for a page is ready to believe in a crash.
 */
#define REQUEST_TIMEOUT_S_DEFAULT 10u

/*
 * Pauses before a request that the server has failed is asked again, the first
 * and the longest; and for how long, with swap: what a store needs to fail over,
 * and less than the two minutes after which the kernel reports a hung task.
 */
#define RETRY_PAUSE_MIN_MS 100u
#define RETRY_PAUSE_MAX_MS 2000u
#define RETRY_S_DEFAULT 60u
#define RETRY_S_MAX 86400u

/* Errors in the chunks of one reply before the server is called mad. */
#define ERROR_CHUNKS_MAX 64u

/* The data thread wakes at least this often to show that it is alive. */
#define HEARTBEAT_MS 500u

/* From a disconnect, or a daemon's last answer, until the device is free. */
#define GONE_TIMEOUT_MS 10000u

/*
 * Servers of one device: gateways to the same store. Of each its address and a
 * URI of 5 KiB are kept.
 */
#define ENDPOINTS_MAX 4u

/* Ports that the user exempts from shedding: two comparisons each, a packet. */
#define SHED_PORTS_MAX 16u

#define DEVICE_NAME_BYTES 32u
#define URI_TEXT_BYTES 512u
#define RUN_DIR "/run/nbd-client"

_Static_assert(RX_BUFFER_BYTES >= 4096, "a receive buffer holds many headers");
_Static_assert(SLOT_BYTES_DEFAULT <= SLOT_BYTES_MAX, "slot size in its bounds");
_Static_assert(SLOTS_DEFAULT <= SLOTS_MAX && SLOTS_DEFAULT >= SLOTS_MIN,
	       "slot count in its bounds");
_Static_assert(TX_IOVECS <= 1024, "UIO_MAXIOV");
_Static_assert(ZERO_PIECE_BYTES % (64u * KIB) == 0,
	       "a piece keeps the largest minimum block size (64 KiB) aligned");

#endif
