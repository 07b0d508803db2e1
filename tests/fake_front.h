/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A front that a test plays by hand: it submits what the test says, and notes
 * how each request ended. Slots are given back at once, or when the test says.
 */
#ifndef FAKE_FRONT_H
#define FAKE_FRONT_H

#include <stdbool.h>
#include <stdint.h>

#include "include/front.h"

#define FAKE_FRONT_DONE_MAX 256u

struct fake_done {
	uint64_t tag;
	int error;
};

struct fake_front {
	struct front front;
	uint32_t opens;
	uint32_t steps;
	uint32_t flushes;
	bool keep; /* completed slots stay until fake_front_release() */
	struct request *kept[SLOTS_MAX];
	uint32_t kept_count;
	struct fake_done done[FAKE_FRONT_DONE_MAX]; /* in order */
	uint32_t done_count;
	/* Called before a slot is given back; NULL: nothing. */
	void (*on_complete)(struct fake_front *f, struct request *r);
};

void fake_front_init(struct fake_front *f);

/*
 * As a front does it: takes a slot, checks, fills a write's payload with
 * fake_front_byte(), submits or refuses. NULL if there is no slot.
 */
struct request *fake_front_submit(struct fake_front *f, uint16_t command,
				  uint16_t flags, uint64_t offset,
				  uint32_t length, uint64_t tag);

/* The byte at `offset` of what the request `tag` writes. */
uint8_t fake_front_byte(uint64_t tag, uint64_t offset);

/* Gives the oldest kept slot back. */
void fake_front_release(struct fake_front *f);

#endif
