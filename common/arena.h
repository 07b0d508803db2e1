/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory of a fixed size for a library that wants to allocate: pieces of any
 * length are taken from one region and given back to it, neighbours grow
 * together again, and when it is used up the answer is no. What it holds never
 * exceeds the region, whatever the library does.
 *
 * One thread: the one that called arena_init(). To all others it answers no,
 * and counts that, which needs no lock and can be seen.
 */
#ifndef NBD_ARENA_H
#define NBD_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "common/list.h"

#define ARENA_ALIGN 16u

struct arena {
	uint8_t *base;
	size_t bytes;
	struct list free;  /* of free pieces, in no order */
	size_t used_bytes; /* heads of pieces included; <= bytes */
	size_t peak_bytes;
	uint64_t denied;         /* takes for which no room was left */
	_Atomic uint64_t strays; /* calls by other threads */
};

/* The region: aligned to ARENA_ALIGN, bytes a multiple of it, below 4 GiB. */
void arena_init(struct arena *a, void *base, size_t bytes);

/* NULL if there is no room, or if bytes is 0. */
void *arena_take(struct arena *a, size_t bytes);

/* As realloc(3): the old piece stays as it is when the answer is NULL. */
void *arena_resize(struct arena *a, void *piece, size_t bytes);

/* NULL is allowed. */
void arena_give(struct arena *a, void *piece);

#endif
