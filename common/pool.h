/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fixed slots, handed out by number. A pool belongs to one thread. Its last
 * slots are the reserve: taken only when nothing else is left, and as long as
 * the pool has had to open it, the pool is low. It stays low until a quarter of
 * the ordinary slots are back, so that it does not flap.
 */
#ifndef NBD_POOL_H
#define NBD_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "include/bounds.h"

enum pool_part {
	POOL_NONE, /* nothing left */
	POOL_BASE,
	POOL_RESERVE,
};

struct pool {
	uint32_t count;
	uint32_t base_count; /* slots [0, base_count) are ordinary */
	uint32_t free_count; /* base_free + reserve_free */
	uint32_t base_free;
	uint32_t base_slots[SLOTS_MAX];    /* stacks of free slot numbers: */
	uint32_t reserve_slots[SLOTS_MAX]; /* the warmest is taken first */
	bool taken[SLOTS_MAX];
	bool low;
	uint64_t low_episodes;
	uint32_t free_min; /* low-water mark of free_count */
};

/* reserve_count < count <= SLOTS_MAX */
void pool_init(struct pool *pool, uint32_t count, uint32_t reserve_count);

/* *ret_index is untouched on POOL_NONE. */
enum pool_part pool_take(struct pool *pool, uint32_t *ret_index);
/*
 * That slot, which must be free: for a front whose requests come with a slot
 * each. The reserve has no meaning then, and the pool is never low.
 */
void pool_take_slot(struct pool *pool, uint32_t index);
void pool_give(struct pool *pool, uint32_t index);

#endif
