// SPDX-License-Identifier: GPL-2.0-or-later
/* Pieces of a region, best fit, with heads at their borders. One thread. */
#include <stdbool.h>
#include <string.h>

#include "common/arena.h"
#include "common/check.h"

/* Before each piece. The pieces follow one another without gaps. */
struct head {
	uint32_t bytes;        /* with the head */
	uint32_t before_bytes; /* of the piece before; 0: this is the first */
	uint32_t used;
	uint32_t mark; /* tells a head from anything else */
};
_Static_assert(sizeof(struct head) == ARENA_ALIGN, "keeps pieces aligned");

#define MARK 0x41524e41u

/* A free piece has room for its node: none is shorter than this. */
#define PIECE_MIN (sizeof(struct head) + sizeof(struct list))

/* Which arena's thread this is. */
static _Thread_local const struct arena *mine;

static bool stray(struct arena *a)
{
	if (mine == a)
		return false;
	a->strays++;
	return true;
}

static struct list *node_of(struct head *h)
{
	return (struct list *)(h + 1);
}

static struct head *head_of(struct list *node)
{
	return (struct head *)node - 1;
}

static struct head *after(const struct arena *a, struct head *h)
{
	uint8_t *at = (uint8_t *)h + h->bytes;

	return at == a->base + a->bytes ? NULL : (struct head *)at;
}

static struct head *before(struct head *h)
{
	return h->before_bytes ?
		       (struct head *)((uint8_t *)h - h->before_bytes) :
		       NULL;
}

/* Sets the length of a piece, and what the next one knows of it. */
static void set_bytes(const struct arena *a, struct head *h, uint32_t bytes)
{
	struct head *next;

	h->bytes = bytes;
	next = after(a, h);
	if (next)
		next->before_bytes = bytes;
}

static void set_free(struct arena *a, struct head *h)
{
	h->used = 0;
	list_push_front(&a->free, node_of(h));
}

/* The free piece `next`, right behind h, becomes part of it. */
static void absorb(struct arena *a, struct head *h, struct head *next)
{
	list_remove(node_of(next));
	next->mark = 0;
	set_bytes(a, h, h->bytes + next->bytes);
}

/* Whatever lies beyond `bytes` of a used piece becomes a free one. */
static void trim(struct arena *a, struct head *h, uint32_t bytes)
{
	uint32_t rest = h->bytes - bytes;
	struct head *next, *behind;

	if (rest < PIECE_MIN)
		return;
	next = (struct head *)((uint8_t *)h + bytes);
	*next = (struct head){ .before_bytes = bytes, .mark = MARK };
	h->bytes = bytes;
	set_bytes(a, next, rest);
	behind = after(a, next);
	if (behind && !behind->used)
		absorb(a, next, behind);
	set_free(a, next);
}

static struct head *best_fit(struct arena *a, uint32_t bytes)
{
	struct head *best = NULL;

	for (struct list *n = a->free.next; n != &a->free; n = n->next) {
		struct head *h = head_of(n);

		if (h->bytes >= bytes && (!best || h->bytes < best->bytes))
			best = h;
		if (best && best->bytes == bytes)
			break;
	}
	return best;
}

/* What a piece of `bytes` takes with its head; 0: more than there can be. */
static uint32_t gross(const struct arena *a, size_t bytes)
{
	size_t sum;

	if (bytes > a->bytes)
		return 0;
	sum = sizeof(struct head) +
	      (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
	return (uint32_t)(sum < PIECE_MIN ? PIECE_MIN : sum);
}

static void account(struct arena *a, uint32_t was_bytes, uint32_t is_bytes)
{
	a->used_bytes += is_bytes;
	a->used_bytes -= was_bytes;
	if (a->used_bytes > a->peak_bytes)
		a->peak_bytes = a->used_bytes;
}

void arena_init(struct arena *a, void *base, size_t bytes)
{
	struct head *all = base;

	CHECK(bytes >= PIECE_MIN && bytes <= UINT32_MAX);
	CHECK(bytes % ARENA_ALIGN == 0 && (uintptr_t)base % ARENA_ALIGN == 0);
	*a = (struct arena){ .base = base, .bytes = bytes };
	list_init(&a->free);
	*all = (struct head){ .bytes = (uint32_t)bytes, .mark = MARK };
	set_free(a, all);
	mine = a;
}

void *arena_take(struct arena *a, size_t bytes)
{
	uint32_t want = gross(a, bytes);
	struct head *h;

	if (stray(a) || !bytes)
		return NULL;
	h = want ? best_fit(a, want) : NULL;
	if (!h) {
		a->denied++;
		return NULL;
	}
	list_remove(node_of(h));
	h->used = 1;
	trim(a, h, want);
	account(a, 0, h->bytes);
	return h + 1;
}

static struct head *used_head(const struct arena *a, void *piece)
{
	struct head *h = (struct head *)piece - 1;

	CHECK((uint8_t *)h >= a->base && (uint8_t *)piece < a->base + a->bytes);
	CHECK(h->mark == MARK && h->used == 1);
	return h;
}

void *arena_resize(struct arena *a, void *piece, size_t bytes)
{
	uint32_t want = gross(a, bytes), was;
	struct head *h, *next;
	void *moved;

	if (!piece)
		return arena_take(a, bytes);
	if (stray(a))
		return NULL;
	h = used_head(a, piece);
	was = h->bytes;
	next = after(a, h);
	if (want && want > was && next && !next->used &&
	    was + next->bytes >= want)
		absorb(a, h, next);
	if (want && h->bytes >= want) {
		trim(a, h, want);
		account(a, was, h->bytes);
		return piece;
	}
	moved = arena_take(a, bytes);
	if (!moved)
		return NULL;
	memcpy(moved, piece, was - sizeof(*h));
	arena_give(a, piece);
	return moved;
}

void arena_give(struct arena *a, void *piece)
{
	struct head *h, *next, *previous;

	if (!piece || stray(a))
		return;
	h = used_head(a, piece);
	account(a, h->bytes, 0);
	h->used = 0;
	next = after(a, h);
	if (next && !next->used)
		absorb(a, h, next);
	previous = before(h);
	if (previous && !previous->used) {
		h->mark = 0;
		set_bytes(a, previous, previous->bytes + h->bytes);
		return;
	}
	set_free(a, h);
}
