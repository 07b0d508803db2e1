// SPDX-License-Identifier: GPL-2.0-or-later
/* Slot numbers; the owner, and in the last part the keeper. */
#include "common/pool.h"
#include "common/check.h"

static bool is_base(const struct pool *pool, uint32_t index)
{
	return index < pool->base_count;
}

static void put_back(struct pool *pool, uint32_t index)
{
	if (!is_base(pool, index)) {
		pool->slots[index] = POOL_SLOT_FREE;
		pool->reserve_slots[pool->reserve_free++] = index;
		return;
	}
	if (index >= pool->base_allowed) {
		pool->slots[index] = POOL_SLOT_RETIRED;
		pool->retired++;
		return;
	}
	pool->slots[index] = POOL_SLOT_FREE;
	pool->base_slots[pool->base_free++] = index;
	if (pool->base_free >= (pool->base_count + 3) / 4)
		pool->low = false;
}

void pool_init(struct pool *pool, uint32_t count, uint32_t reserve_count)
{
	CHECK(count <= SLOTS_MAX && reserve_count <= count);
	*pool = (struct pool){ .count = count,
			       .base_count = count - reserve_count,
			       .answered = true };
	for (uint32_t i = count; i-- > pool->base_count;)
		put_back(pool, i);
	pool->free_min = count;
}

enum pool_part pool_take(struct pool *pool, uint32_t *ret_index)
{
	enum pool_part part = POOL_BASE;
	uint32_t index;

	if (pool->base_free) {
		index = pool->base_slots[--pool->base_free];
	} else if (pool->reserve_free && !pool->base_count) {
		part = POOL_RESERVE; /* all that there is, and not for want */
		index = pool->reserve_slots[--pool->reserve_free];
	} else if (pool->reserve_free &&
		   pool->base_allowed < pool->base_count) {
		part = POOL_RESERVE;
		index = pool->reserve_slots[--pool->reserve_free];
		if (!pool->low)
			pool->low_episodes++;
		pool->low = true;
	} else {
		return POOL_NONE;
	}
	if (pool->base_free + pool->reserve_free < pool->free_min)
		pool->free_min = pool->base_free + pool->reserve_free;
	CHECK(pool->slots[index] == POOL_SLOT_FREE);
	pool->slots[index] = POOL_SLOT_TAKEN;
	pool->taken++;
	*ret_index = index;
	return part;
}

void pool_take_slot(struct pool *pool, uint32_t index)
{
	uint32_t at = pool->reserve_free;

	CHECK(!is_base(pool, index) && index < pool->count &&
	      pool->slots[index] == POOL_SLOT_FREE);
	/* What was given last is asked for first: the search is short. */
	do {
		CHECK(at > 0);
	} while (pool->reserve_slots[--at] != index);
	pool->reserve_free--;
	for (; at < pool->reserve_free; at++)
		pool->reserve_slots[at] = pool->reserve_slots[at + 1];
	if (pool->base_free + pool->reserve_free < pool->free_min)
		pool->free_min = pool->base_free + pool->reserve_free;
	pool->slots[index] = POOL_SLOT_TAKEN;
	pool->taken++;
}

/* All that was asked for is in: say so, and forget those slots. */
static bool try_answer(struct pool *pool)
{
	if (pool->answered ||
	    pool->retired != pool->base_owned - pool->base_allowed)
		return false;
	for (uint32_t i = pool->base_allowed; i < pool->base_owned; i++)
		pool->slots[i] = POOL_SLOT_ABSENT;
	pool->retired = 0;
	pool->base_owned = pool->base_allowed;
	pool->answered = true;
	/* Release: what the owner did with these slots comes before. */
	atomic_store_explicit(&pool->answer,
			      (uint64_t)pool->question << 32 | pool->base_owned,
			      memory_order_release);
	return true;
}

void pool_give(struct pool *pool, uint32_t index)
{
	CHECK(index < pool->count && pool->slots[index] == POOL_SLOT_TAKEN);
	pool->taken--;
	put_back(pool, index);
}

static void take_in(struct pool *pool)
{
	uint32_t tail =
		atomic_load_explicit(&pool->home_tail, memory_order_relaxed);
	uint32_t head =
		atomic_load_explicit(&pool->home_head, memory_order_acquire);

	while (tail != head) {
		uint32_t index = pool->home_slots[tail++ % SLOTS_MAX];

		/* In order, and never while a question is open. */
		CHECK(pool->answered && index == pool->base_owned &&
		      index < pool->base_count);
		pool->base_owned++;
		pool->base_allowed++;
		put_back(pool, index);
		atomic_store_explicit(&pool->home_tail, tail,
				      memory_order_release);
	}
}

/* Keep [0, keep): sorts the free and the retired slots anew. */
static void allow(struct pool *pool, uint32_t keep)
{
	uint32_t kept = 0;

	pool->base_allowed = keep < pool->base_owned ? keep : pool->base_owned;
	pool->retired = 0;
	for (uint32_t i = 0; i < pool->base_free; i++) {
		uint32_t index = pool->base_slots[i];

		if (index < pool->base_allowed)
			pool->base_slots[kept++] = index;
		else
			pool->slots[index] = POOL_SLOT_RETIRED;
	}
	pool->base_free = kept;
	for (uint32_t i = 0; i < pool->base_owned; i++)
		if (pool->slots[i] == POOL_SLOT_RETIRED)
			put_back(pool, i);
}

bool pool_step(struct pool *pool)
{
	/* Acquire, before the ring: what came home earlier must be seen. */
	uint64_t asked =
		atomic_load_explicit(&pool->asked, memory_order_acquire);
	uint32_t number = (uint32_t)(asked >> 32);

	take_in(pool);
	if (number != pool->question) {
		pool->question = number;
		pool->answered = false;
		allow(pool, (uint32_t)asked);
	}
	return try_answer(pool);
}

/* ---- for the keeper ---- */

void pool_give_home(struct pool *pool, uint32_t index)
{
	uint32_t head =
		atomic_load_explicit(&pool->home_head, memory_order_relaxed);
	uint32_t tail =
		atomic_load_explicit(&pool->home_tail, memory_order_acquire);

	CHECK(head - tail < SLOTS_MAX && index < pool->base_count);
	pool->home_slots[head % SLOTS_MAX] = index;
	atomic_store_explicit(&pool->home_head, head + 1, memory_order_release);
}

void pool_ask(struct pool *pool, uint32_t keep)
{
	uint64_t asked =
		atomic_load_explicit(&pool->asked, memory_order_relaxed);

	atomic_store_explicit(&pool->asked, ((asked >> 32) + 1) << 32 | keep,
			      memory_order_release);
}

bool pool_answered(const struct pool *pool, uint32_t *ret_owned)
{
	uint64_t answer =
		atomic_load_explicit(&pool->answer, memory_order_acquire);

	if (answer >> 32 !=
	    atomic_load_explicit(&pool->asked, memory_order_relaxed) >> 32)
		return false;
	*ret_owned = (uint32_t)answer;
	return true;
}
