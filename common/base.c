// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory that comes and goes; the control thread. */
#include <errno.h>
#include <sys/mman.h>

#include "common/base.h"
#include "common/check.h"
#include "common/pin.h"

/* Linux 5.14 and 5.18; glibc's headers may be older. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

int base_init(struct base *b, uint32_t count, size_t slot_bytes)
{
	size_t bytes = count * slot_bytes;
	void *memory;

	CHECK(slot_bytes % PIN_PAGE == 0);
	*b = (struct base){ .slot_bytes = slot_bytes };
	if (!count)
		return 0;
	/* Without access, or MCL_FUTURE would make it all resident now. */
	memory = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	if (memory == MAP_FAILED)
		return -errno;
	madvise(memory, bytes, MADV_DONTDUMP);
	if (mlock2(memory, bytes, MLOCK_ONFAULT) < 0 ||
	    mprotect(memory, bytes, PROT_READ | PROT_WRITE) < 0) {
		int error = errno;

		munmap(memory, bytes);
		return -error;
	}
	b->memory = memory;
	b->count = count;
	return 0;
}

void base_bind(struct base *b, struct pool *pool)
{
	CHECK(pool->base_count == b->count && !pool->base_owned);
	b->pool = pool;
}

static bool make_resident(struct base *b)
{
	if (madvise(b->memory + b->resident * b->slot_bytes, b->slot_bytes,
		    MADV_POPULATE_WRITE) < 0)
		return false; /* memory is short after all; later */
	b->resident++;
	return true;
}

static void free_from(struct base *b, uint32_t keep)
{
	CHECK(keep >= b->given);
	/* Cannot fail on a mapping of ours; if it does, the memory stays. */
	if (madvise(b->memory + keep * b->slot_bytes,
		    (b->resident - keep) * b->slot_bytes,
		    MADV_DONTNEED_LOCKED) < 0)
		return;
	b->resident = keep;
	b->shrinks++;
}

static bool ask(struct base *b, uint32_t keep)
{
	pool_ask(b->pool, keep);
	b->asking = true;
	b->asked = keep;
	return true;
}

bool base_step(struct base *b, uint32_t wanted, uint32_t step_max)
{
	bool gave = false;

	CHECK(wanted <= b->count);
	if (b->asking) {
		uint32_t keep = wanted < b->given ? wanted : b->given;

		if (!pool_answered(b->pool, &b->given))
			return keep != b->asked && ask(b, keep);
		b->asking = false;
	}
	if (wanted < b->given)
		return ask(b, wanted);
	if (wanted < b->resident)
		free_from(b, wanted);
	while (b->given < wanted && (b->given < b->resident || step_max)) {
		if (b->given == b->resident) {
			if (!make_resident(b))
				break;
			step_max--;
		}
		pool_give_home(b->pool, b->given++);
		gave = true;
	}
	return gave;
}

void base_fini(struct base *b)
{
	if (b->memory)
		munmap(b->memory, b->count * b->slot_bytes);
	*b = (struct base){ 0 };
}
