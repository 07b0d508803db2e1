/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One device, from attach to detach: the order in which things are checked,
 * locked, connected and let loose, and their undoing in reverse.
 */
#ifndef NBD_DAEMON_H
#define NBD_DAEMON_H

#include <stdbool.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/err.h"
#include "include/bounds.h"
#include "include/front.h"
#include "nbd-client/tls.h"

struct handover;

/* How serious the user is about the promise. */
enum swap_mode {
	SWAP_NO,          /* a plain disk: protect what we can, complain softly */
	SWAP_YES,         /* refuse to attach when a guarantee is missing */
	SWAP_BEST_EFFORT, /* go on without, and say so in status */
};

struct attach_options {
	int argc; /* the command line that says all this */
	char *const *argv;
	bool recover; /* the device is there, only its processes have died */
	const struct handover *handover; /* not even they; NULL: an attach */
	bool idempotent; /* a device that has the export already will do */
	struct addr addr; /* of the preferred server */
	struct addr others[ENDPOINTS_MAX - 1];
	uint32_t other_count;
	bool described; /* compare the export's description */
	uint32_t failback_s; /* back to the preferred server so late; 0: never */
	struct tls_options tls;
	bool front_auto; /* the better one of those that the kernel has; else: */
	enum front_kind front;
	int32_t index; /* 3: /dev/nbd3; -1: the first free */
	enum swap_mode swap;
	bool swapon;         /* activate as swap once attached; implies SWAP_YES */
	int swapon_priority; /* -1: the kernel chooses */
	bool force;          /* let a swap signature replace other content */
	bool foreground;
	bool dry_run; /* only say how much memory it would take */
	bool read_only;
	bool kernel_path; /* the nbd driver talks to the server itself */
	uint64_t size_bytes;   /* use only so much of the export; 0: all */
	uint32_t handshake_ms; /* for each step; default 10000 */
	uint32_t block_bytes;  /* 0: 512, or the server's minimum if larger */
	uint32_t connections;  /* at most, each with a queue; 0: one */
	uint32_t slots;        /* depth of a queue; default SLOTS_DEFAULT */
	uint32_t slot_bytes;   /* default SLOT_BYTES_DEFAULT */
	uint32_t fence_ms; /* wait so long for the end of an old connection */
	uint32_t watchdog_s; /* a worker silent for so long is killed; 0: never */
	uint32_t request_timeout_ms; /* for an answer, before it is probed; 0: none */
	bool on_eio; /* the user has said what becomes of errors: */
	uint32_t retry_ms; /* ask again for so long; 0: fail */
	uint32_t dead_timeout_s; /* fail I/O after a link lost for so long; 0: never */
	uint64_t reserve_bytes; /* 0: of slots; else of the pinned region, at most */
	uint64_t min_free_kbytes; /* 0: derived; else what to raise it to */
	uint32_t without; /* 1 << MEASURE_... of each that is left out */
	bool pin_neighbours; /* their entries are made permanent */
	bool shed; /* drop strangers' packets while memory is low */
	uint32_t shed_port_count; /* but not those of these ports */
	uint16_t shed_ports[SHED_PORTS_MAX];
};

/* The preferred server is number 0. */
static inline const struct addr *attach_addr(const struct attach_options *o,
					     uint32_t i)
{
	return i ? &o->others[i - 1] : &o->addr;
}

/*
 * 1: a living device has that export already, or the device of options->index
 * has it: ret_path says which. 0: none has. -EBUSY: it has another.
 */
int device_attached(const struct attach_options *options,
		    char ret_path[DEVICE_NAME_BYTES], struct err *err);

/*
 * Attaches, and returns in the caller's process once the device is usable, with
 * its name in ret_device; the daemon goes on in a process of its own. With
 * options->foreground it is the caller's process that serves: on_ready is
 * called when the device is usable and the function returns after the detach.
 * With options->handover it is this process anyway, and the device is usable.
 * 0, or -errno with *err set; on failure nothing is left behind. -EALREADY, with
 * options->idempotent: as device_attached(), the text is the path.
 */
int daemon_attach(const struct attach_options *options,
		  void (*on_ready)(const char *device),
		  char ret_device[DEVICE_NAME_BYTES], struct err *err);

#endif
