/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fixed slots, handed out by number. Slots [0, base_count) are the base: their
 * memory comes while there is plenty and is given back when others need it. The
 * last ones are the reserve, whose memory is always there: taken when the base
 * is exhausted while it is not whole. Having had to open the reserve, the pool
 * is low, and stays low until a quarter of the base is free again, so that it
 * does not flap. A whole base that is merely busy is no lack of memory: whoever
 * wants a slot waits.
 *
 * The pool belongs to one thread, the owner. Another one (the keeper, see
 * base.h) brings slots home, when their memory has come, and asks for them back:
 * of the base the owner has always the first so many slots. No locks: what comes
 * home goes through a ring, a question and its answer are a word each.
 */
#ifndef NBD_POOL_H
#define NBD_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "include/bounds.h"

enum pool_part {
	POOL_NONE, /* nothing left */
	POOL_BASE,
	POOL_RESERVE,
};

enum pool_slot {
	POOL_SLOT_ABSENT,  /* the keeper's: there may be no memory */
	POOL_SLOT_FREE,
	POOL_SLOT_TAKEN,
	POOL_SLOT_RETIRED, /* asked for and in, while others are still out */
};

struct pool {
	/* The owner's. */
	uint32_t count;
	uint32_t base_count;
	uint32_t base_owned;   /* slots [0, base_owned) are not the keeper's */
	uint32_t base_allowed; /* <= base_owned: from here on they are asked for */
	uint32_t base_free;
	uint32_t reserve_free;
	uint32_t retired;
	uint32_t taken;
	uint32_t base_slots[SLOTS_MAX];    /* stacks of free slot numbers: */
	uint32_t reserve_slots[SLOTS_MAX]; /* the warmest is taken first */
	uint8_t slots[SLOTS_MAX];          /* enum pool_slot */
	bool low;
	uint64_t low_episodes;
	uint32_t free_min; /* fewest free slots after a take */
	uint32_t question; /* number of the last question that was read */
	bool answered;

	/* From the keeper: each slot comes home at most once until asked back. */
	uint32_t home_slots[SLOTS_MAX];
	_Atomic uint32_t home_head; /* written by the keeper */
	_Atomic uint32_t home_tail; /* written by the owner */

	/* Question or answer: number<<32 | base slots that the owner keeps. */
	_Atomic uint64_t asked;
	_Atomic uint64_t answer;
};

/*
 * reserve_count <= count <= SLOTS_MAX. The base is empty: all its slots are the
 * keeper's. A pool without a base is its reserve, and never low.
 */
void pool_init(struct pool *pool, uint32_t count, uint32_t reserve_count);

/* *ret_index is untouched on POOL_NONE. */
enum pool_part pool_take(struct pool *pool, uint32_t *ret_index);
/*
 * That slot of the reserve, which must be free: for a front whose requests come
 * with a slot each.
 */
void pool_take_slot(struct pool *pool, uint32_t index);
void pool_give(struct pool *pool, uint32_t index);

/*
 * Takes in what has come home and acts on a new question. True when one has
 * been answered. Cheap when there is nothing to do.
 */
bool pool_step(struct pool *pool);

/* ---- for the keeper ---- */

/* The memory of base slot `index` is there: it is the owner's now. */
void pool_give_home(struct pool *pool, uint32_t index);

/*
 * The owner shall keep only the base slots [0, keep). May be asked again with
 * another number, more or less, before the answer is there.
 */
void pool_ask(struct pool *pool, uint32_t keep);

/*
 * Whether the last question is answered: the owner has [0, *ret_owned) and will
 * not touch the others. Usually what was asked for; after a question was taken
 * back it may be less, if the former one had been answered already.
 */
bool pool_answered(const struct pool *pool, uint32_t *ret_owned);

#endif
