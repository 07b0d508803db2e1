/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a front adds to a device: its rows of the table of steps in device.c.
 * device_nbd.c and device_ublk.c have one each.
 *
 * Control thread.
 */
#ifndef NBD_DEVICE_FRONT_H
#define NBD_DEVICE_FRONT_H

#include "nbd-client/device.h"
#include "nbd-client/sizing.h"

/* In this order, with steps of device.c between them. */
enum device_front_step {
	DEVICE_CHOOSE,  /* there is a device, and it has a name */
	DEVICE_PREPARE, /* before memory is pinned */
	DEVICE_TOOLS,   /* what the worker needs to make it appear */
	DEVICE_END,     /* our end of the way to the kernel */
	DEVICE_APPEAR,  /* programs can open the device */
	DEVICE_TUNE,
	DEVICE_FRONT_STEPS,
};

struct device_step {
	const char *name;
	int (*up)(struct device *d, struct err *err); /* NULL: nothing to do */
	/* Instead, where the device is taken over from a worker that died. */
	int (*again)(struct device *d, struct err *err);
	/* Undoes all that up did, or the part that it did before it failed. */
	void (*down)(struct device *d);
};

/* A row of the tables in device_hold.c (supervisor) and device.c (workers). */
struct device_row {
	struct device_step own;
	enum device_front_step of_front; /* where own is empty */
	bool of_engine; /* nothing to do where there is none */
};

#define OWN(name, up, again, down) { .own = { name, up, again, down } }
#define OF_ENGINE(name, up, again, down)                                       \
	{ .own = { name, up, again, down }, .of_engine = true }
#define OF_FRONT(step) { .of_front = step }

extern const struct device_row device_held[];
extern const size_t device_held_count;

struct device_front {
	const char *name; /* as status shows it */
	/*
	 * Of each queue, in zeroed pinned memory of DEVICE_FRONT_BYTES. NULL: there
	 * is neither front nor engine; the kernel talks to the server itself.
	 */
	struct front *(*make_front)(void *memory);
	/* SOCK_MEMALLOC for the service sockets, or a row that says why not. */
	void (*donate)(struct device *d);
	/* The queues are gone, but the kernel waits for somebody to take over. */
	bool (*is_orphaned)(struct device *d); /* NULL: never */
	struct device_step steps[DEVICE_FRONT_STEPS];
};

extern const struct device_front device_nbd;
extern const struct device_front device_ublk;
extern const struct device_front device_kernel;

/* What RECONFIGURE must repeat; NULL: too long for the kernel to keep. */
const char *device_nbd_backend(const struct device *d);

/* Locked memory by one of pin_init and pin_init_shared; 0, or -errno. */
int device_pin(struct pin *pin, int (*init)(struct pin *pin, size_t bytes),
	       size_t bytes, struct err *err);

/* Its part of the kernel's reserve, for the process that calls. */
int device_reserve_up(struct device *d, struct err *err);

/* Names the device after d->index. */
void device_set_name(struct device *d, enum front_kind front);

#endif
