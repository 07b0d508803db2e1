// SPDX-License-Identifier: GPL-2.0-or-later
/* Slot numbers; the thread that owns the pool. */
#include "common/check.h"
#include "common/pool.h"

static uint32_t reserve_free(const struct pool *pool)
{
	return pool->free_count - pool->base_free;
}

static void put_back(struct pool *pool, uint32_t index)
{
	if (index < pool->base_count)
		pool->base_slots[pool->base_free++] = index;
	else
		pool->reserve_slots[reserve_free(pool)] = index;
	pool->free_count++;
}

void pool_init(struct pool *pool, uint32_t count, uint32_t reserve_count)
{
	CHECK(count <= SLOTS_MAX && reserve_count < count);
	*pool = (struct pool){ .count = count,
			       .base_count = count - reserve_count };
	for (uint32_t i = count; i-- > 0;)
		put_back(pool, i);
	pool->free_min = count;
}

enum pool_part pool_take(struct pool *pool, uint32_t *ret_index)
{
	enum pool_part part = POOL_BASE;
	uint32_t index;

	if (!pool->free_count)
		return POOL_NONE;
	if (pool->base_free) {
		index = pool->base_slots[--pool->base_free];
	} else {
		part = POOL_RESERVE;
		index = pool->reserve_slots[reserve_free(pool) - 1];
		if (!pool->low)
			pool->low_episodes++;
		pool->low = true;
	}
	pool->free_count--;
	if (pool->free_count < pool->free_min)
		pool->free_min = pool->free_count;
	CHECK(!pool->taken[index]);
	pool->taken[index] = true;
	*ret_index = index;
	return part;
}

void pool_take_slot(struct pool *pool, uint32_t index)
{
	bool base = index < pool->base_count;
	uint32_t *stack = base ? pool->base_slots : pool->reserve_slots;
	uint32_t used = base ? pool->base_free : reserve_free(pool);
	uint32_t at = used;

	CHECK(index < pool->count && !pool->taken[index]);
	/* What was given last is asked for first: the search is short. */
	do {
		CHECK(at > 0);
	} while (stack[--at] != index);
	for (; at + 1 < used; at++)
		stack[at] = stack[at + 1];
	if (base)
		pool->base_free--;
	pool->free_count--;
	if (pool->free_count < pool->free_min)
		pool->free_min = pool->free_count;
	pool->taken[index] = true;
}

void pool_give(struct pool *pool, uint32_t index)
{
	CHECK(index < pool->count && pool->taken[index]);
	pool->taken[index] = false;
	put_back(pool, index);
	if (pool->base_free >= (pool->base_count + 3) / 4)
		pool->low = false;
}
