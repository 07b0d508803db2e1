/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the command line and a running daemon say to each other.
 *
 * 1. The status page: RUN_DIR/nbd0.stats, mode 0644, one struct stats_page,
 *    mapped shared and locked by the daemon, mapped read-only by anyone. Every
 *    field has one writing thread, so plain stores suffice; a reader may see
 *    one field newer than another.
 * 2. The control socket: RUN_DIR/nbd0.sock, mode 0600, SOCK_SEQPACKET. A
 *    struct ctl_request is answered by one struct ctl_reply when the work is
 *    done.
 *
 * Both are used between processes of the same build on the same host, so they
 * are in host byte order; magic and version are checked all the same. Only
 * "upgrade" deals with another build, and reads the head of the page.
 */
#ifndef NBD_CTL_H
#define NBD_CTL_H

#include <stdint.h>

#include "include/bounds.h"
#include "include/request.h"

#define STATS_MAGIC "NBDSTAT"
#define STATS_VERSION 1u

/* What a request did, as counted: NBD commands without DISC. */
enum stats_op {
	STATS_READ,
	STATS_WRITE,
	STATS_FLUSH,
	STATS_TRIM,
	STATS_ZEROES,
	STATS_OPS,
};

/* Latency buckets: bucket n counts requests of less than 2^n microseconds. */
#define STATS_BUCKETS 32

/* The bucket that a latency belongs to. Any thread. */
static inline uint32_t stats_bucket(uint64_t latency_ns)
{
	uint64_t us = latency_ns / 1000;
	uint32_t bucket = us ? 64u - (uint32_t)__builtin_clzll(us) : 0;

	return bucket < STATS_BUCKETS ? bucket : STATS_BUCKETS - 1;
}

/* A reservation group (common/group.h). */
#define GROUP_NAME_BYTES 16u

struct group {
	char name[GROUP_NAME_BYTES];
	uint64_t limit_bytes;
	uint64_t usage_bytes; /* beyond the limit only by group_adopt() */
	uint64_t peak_bytes;
	uint64_t denied;    /* charges that this group has refused */
	uint32_t parent_at; /* so many places before this one; 0: the root */
	uint32_t reserved;
};

#define STATS_GROUPS 8

/* Counters of a data thread, written by it alone. */
struct stats_data {
	uint64_t heartbeat_ns; /* CLOCK_MONOTONIC at its last wake-up */
	uint64_t wakeups;
	uint64_t requests[STATS_OPS]; /* completed, with or without error */
	uint64_t bytes[STATS_OPS]; /* of those without error */
	uint64_t errors[STATS_OPS];
	uint64_t latency[STATS_OPS][STATS_BUCKETS];
	uint64_t latency_sum_ns[STATS_OPS]; /* of all in these buckets */
	uint64_t states[REQUEST_STATES]; /* slots in each state now */
	uint64_t in_flight_max;
	uint64_t parked_total;     /* requests that had to wait for the link */
	uint64_t replayed_total;   /* sent again after a lost link */
	uint64_t retried_total;    /* asked again after an error of the server's */
	uint64_t retries_failed;   /* whose time for that was over */
	uint64_t stale_replies;    /* a cookie of an earlier generation */
	uint64_t link_sends;       /* sendmsg to the server */
	uint64_t link_receives;    /* receives from the server */
	uint64_t front_sends;
	uint64_t front_receives;
	uint64_t front_stalls;     /* times the front had to wait for a slot */
	uint64_t rx_exhausted;     /* receive found no provided buffer */
	uint64_t low_episodes;     /* the pool had to open its reserve */
	uint64_t low;              /* memory is low: 0 or 1 */
	uint64_t window_closings;  /* times that it became low, for any reason */
	uint64_t window_tx_bytes;  /* the throttle's window now */
	uint64_t window_rx_bytes;
	uint64_t base_slots;       /* of the pool's base, there now */
	uint64_t slots_free_min;   /* low-water mark since attach */
	uint64_t owed_since_ns;    /* CLOCK_MONOTONIC: as in struct engine_owed */
	uint64_t oversize;         /* requests larger than a slot, refused */
	uint64_t stray_mallocs;    /* allocations by this thread since the seal */
	int32_t tid;
	int32_t reserved;
	struct group groups[STATS_GROUPS]; /* empty name: end */
};

enum stats_state {
	STATS_ATTACHING,
	STATS_LIVE,
	STATS_DETACHING,
	STATS_GONE, /* detached; the file is about to be removed */
};

/* The connection to the server. */
enum stats_link {
	STATS_LINK_DOWN,	/* none; an attempt is due some time */
	STATS_LINK_CONNECTING,	/* one address after another */
	STATS_LINK_NEGOTIATING, /* connected; the server is asked for the export */
	STATS_LINK_TLS,		/* in the midst of that: the TLS handshake */
	STATS_LINK_READY,	/* negotiated, not yet with the engine */
	STATS_LINK_UP,		/* the engine uses it */
	STATS_LINK_LOST,	/* we send no more; the engine is not done with it */
	STATS_LINK_FENCE,	/* unused; the server may still work on it */
	STATS_LINK_STATES,
};

/* Who makes the records of an encrypted link. */
enum stats_records {
	STATS_RECORDS_NONE, /* not encrypted */
	STATS_RECORDS_USER,
	STATS_RECORDS_KERNEL,
};

/* How far a promise is kept; printed as off, ok, degraded, missing. */
enum guarantee_state {
	GUARANTEE_OFF, /* not asked for */
	GUARANTEE_OK,  /* asked for, and read back */
	GUARANTEE_DEGRADED,
	GUARANTEE_MISSING,
};

enum stats_shed {
	STATS_SHED_OFF, /* not asked for */
	STATS_SHED_ARMED,
	STATS_SHED_SHEDDING,
};

/* One of the servers of a device. */
struct stats_endpoint {
	char uri[URI_TEXT_BYTES];
	char error[160]; /* why it could not be used, last; escaped */
	uint32_t link;	 /* enum stats_link, of the connection there */
	uint32_t reserved;
};

#define STATS_GUARANTEES 24

struct stats_guarantee {
	char name[24];    /* "memory locked", "IO_FLUSHER" ...; empty: end */
	char detail[100]; /* what was read back, or what is missing and why */
	uint32_t state;   /* enum guarantee_state */
};

/* A neighbour entry of the kernel's that is held fixed for this device. */
struct stats_neighbour {
	int32_t index;   /* of the interface; 0: end */
	uint32_t family; /* AF_INET, AF_INET6 */
	uint8_t address[16];
};

#define STATS_NEIGHBOURS 8

struct stats_page {
	char magic[8];
	uint32_t version;
	uint32_t page_bytes; /* sizeof(struct stats_page) */

	/* By the supervisor, like those at the end; or as said there. */
	int32_t pid;
	uint32_t handover;   /* HANDOVER_LAYOUT of its program */
	uint64_t pid_start;  /* field 22 of /proc/PID/stat: tells a reused pid */
	int32_t supervised;  /* 0 if the supervisor has died; by the worker */
	uint32_t state;	     /* enum stats_state; by the control thread */
	uint32_t upgrades;   /* times that another program took over */
	uint32_t upgrades_refused; /* and could not */
	/* Up to here the same in all versions. */

	/* Written before the device is there, then constant. */
	uint32_t slots;
	uint64_t attached_at; /* CLOCK_REALTIME, seconds */
	char device[DEVICE_NAME_BYTES]; /* "/dev/nbd0" */
	char front[16];                 /* "nbd" */
	char uri[URI_TEXT_BYTES];
	uint64_t export_bytes; /* of the device */
	uint32_t export_flags; /* NBD_FLAG_* as the server gave them */
	uint32_t block_bytes;  /* logical block size of the device */
	uint32_t server_block_min;
	uint32_t server_block_pref;
	uint32_t server_block_max;
	uint32_t slot_bytes;
	uint32_t structured; /* structured replies negotiated */
	uint32_t read_only;
	uint32_t swap;       /* the guarantees were asked for */
	uint32_t swap_active; /* swapon was done by us */
	int32_t swap_priority;
	uint64_t pinned_bytes; /* slots and buffers, a whole base included */
	uint64_t open_tx_bytes; /* the throttle's two windows */
	uint64_t open_rx_bytes;
	uint64_t guaranteed_tx_bytes;
	uint64_t guaranteed_rx_bytes;
	uint32_t slots_reserve;
	uint32_t queues; /* 1 … QUEUES_MAX; the above is of all together */
	uint32_t psi; /* the kernel tells of memory pressure */
	struct stats_guarantee guarantees[STATS_GUARANTEES];

	/* Written by the control thread. */
	uint32_t link;  /* enum stats_link */
	uint32_t links_up; /* of the queues; link is that of one that is not */
	uint64_t link_since; /* all up, or not; CLOCK_REALTIME, seconds */
	uint64_t link_next_ns; /* CLOCK_MONOTONIC of the next attempt, or 0 */
	uint64_t reconnects;
	uint64_t connect_attempts; /* since the link was lost */
	char link_error[160]; /* why it was lost, or not made, last; escaped */
	uint64_t request_timeout_ms; /* as asked for; 0: none */
	uint64_t retry_ms; /* for so long; 0: errors go to the kernel */
	uint64_t probes;	     /* of a server that owed an answer for so long */
	uint64_t links_replaced;     /* because a probe was answered */
	uint64_t unfenced; /* old connections whose end was not seen */
	uint64_t spare_sockets; /* for connections with the kernel's records */
	uint32_t endpoint; /* the server in use, or used last; from 0 */
	uint32_t endpoint_count; /* constant, as are their URIs */
	struct stats_endpoint endpoints[ENDPOINTS_MAX];
	uint64_t failovers;	  /* times that another server came into use */
	uint64_t available_bytes; /* what the device could have of the export */
	uint64_t server_bytes;	  /* the export, as the server said last */
	uint32_t tls_records; /* enum stats_records; of this or the last link: */
	char tls_records_why[96]; /* not the kernel's; "": they are */
	char tls_version[12];
	char tls_cipher[48];
	char tls_peer[128];	   /* subject, or owner of the key; escaped */
	uint64_t tls_peer_expires; /* seconds since 1970; 0: never */
	uint64_t tls_memory_bytes; /* OpenSSL's; 0 without TLS */
	uint64_t tls_memory_used;
	uint64_t tls_memory_peak;
	uint64_t tls_memory_denied; /* times that it did not suffice */
	uint64_t tls_memory_strays; /* times a data thread asked for some */
	uint64_t control_heartbeat_ns;
	uint64_t locked_kbytes;    /* VmLck */
	uint64_t min_free_kbytes;  /* vm.min_free_kbytes as last read */
	uint64_t data_minor_faults; /* of the data thread since the seal */
	uint64_t data_major_faults;
	uint32_t shed; /* enum stats_shed */
	uint64_t shed_since;   /* CLOCK_REALTIME, seconds */
	uint64_t shed_packets; /* dropped since attach */
	uint64_t shed_bytes;
	uint64_t memory_tight;       /* 0 or 1 */
	uint64_t memory_since;       /* CLOCK_REALTIME, seconds */
	uint64_t tight_episodes;
	uint64_t base_resident_bytes; /* memory of the pool's base now */
	uint64_t base_shrinks;
	uint64_t ordinary_deferred;  /* control messages held back while low */
	uint64_t interruption_ms; /* of the last takeover: dead until served */
	uint64_t interruption_max_ms;

	/* Written by the supervisor. */
	uint64_t takeovers;    /* a worker died, another took over */
	uint64_t watchdog_kills;
	int32_t worker_pid;    /* the process that serves; 0: none does now */
	int32_t standby_pid;   /* the next one; 0: none is there */
	int32_t standby_ready; /* by the standby: its pid, once it is prepared */
	/* By processes of its: */
	struct stats_neighbour neighbours[STATS_NEIGHBOURS];

	/* Of the first queue; of all together in what stats_copy() makes. */
	struct stats_data data __attribute__((aligned(64)));
	struct stats_data more[QUEUES_MAX - 1];
};

/* Queue i's part of a page. */
static inline struct stats_data *stats_queue(struct stats_page *page, uint32_t i)
{
	return i ? &page->more[i - 1] : &page->data;
}

#define CTL_MAGIC 0x4e424443u /* "NBDC" */

enum ctl_command {
	CTL_PING,
	CTL_DETACH,
	CTL_RECONNECT, /* flags: the number of the server, from 1; 0: the same */
	CTL_RESIZED,   /* the kernel's device has another size */
	CTL_COMMANDS,
};

#define CTL_FLAG_FORCE 1u

struct ctl_request {
	uint32_t magic;
	uint32_t command; /* enum ctl_command */
	uint32_t flags;
	uint32_t reserved;
};

struct ctl_reply {
	uint32_t magic;
	int32_t exit_code; /* an exit code of common/err.h */
	char text[504];    /* one line when exit_code is not 0 */
};

#endif
