/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory of a pool's base slots, and its keeper: makes it resident and
 * brings the slots home while memory is plentiful, asks for them back and frees
 * it when others need it. What is resident is always the beginning of one
 * mapping, which is locked as a whole: so to free some of it splits nothing and
 * needs no memory itself.
 *
 * Control thread; the pool's owner is met in pool_*() alone.
 */
#ifndef NBD_BASE_H
#define NBD_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/pool.h"

struct base {
	struct pool *pool;
	uint8_t *memory;
	size_t slot_bytes; /* a multiple of the page size */
	uint32_t count;    /* slots */
	uint32_t resident; /* slots [0, resident) have their memory */
	uint32_t given;    /* <= resident: [0, given) are the owner's */
	bool asking;       /* the owner has been asked to keep no more than: */
	uint32_t asked;
	uint64_t shrinks;  /* times that memory was given back */
};

/*
 * Address space for `count` slots, with no memory yet; locked where it becomes
 * resident, also under mlockall(MCL_FUTURE). 0 or -errno.
 */
int base_init(struct base *b, uint32_t count, size_t slot_bytes);

/* The slots' owner, once it is there; it has none of them yet. */
void base_bind(struct base *b, struct pool *pool);

/*
 * One step towards `wanted` resident slots, of which at most `step_max` are made
 * in one call. True if the owner has something to look at (pool_step()). Call it
 * again when it has answered, and from time to time.
 */
bool base_step(struct base *b, uint32_t wanted, uint32_t step_max);

/* The owner is gone. */
void base_fini(struct base *b);

#endif
