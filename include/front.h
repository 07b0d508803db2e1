/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a front end is to the engine: where requests come from and answers go.
 * All of it runs on the data thread.
 */
#ifndef NBD_FRONT_H
#define NBD_FRONT_H

#include <stdbool.h>

#include "include/request.h"

struct engine;
struct front;

/* By the driver at the kernel's side. */
enum front_kind {
	FRONT_NBD,
	FRONT_UBLK,
};

struct front_ops {
	const char *name;
	/* The kernel's end is there: begin to take requests. */
	void (*open)(struct front *f);
	/* Once a round: slots may have become free, go on receiving. */
	void (*step)(struct front *f);
	/* At the end of a round: send the answers that have gathered. */
	void (*flush)(struct front *f);
	/*
	 * The request is DONE; r->error says how. The front answers and calls
	 * engine_release() once it does not need the slot any more.
	 */
	void (*complete)(struct front *f, struct request *r);
};

struct front {
	const struct front_ops *ops;
	struct engine *engine;
	bool gone;      /* the kernel has closed its end; answers go nowhere */
	bool dismissed; /* it said so first: the device is disconnected */
};

#endif
