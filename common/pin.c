// SPDX-License-Identifier: GPL-2.0-or-later
/* Locked memory with phases. Control thread only. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "common/check.h"
#include "common/pin.h"

/* Linux 5.14; glibc's headers may be older. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static int init(struct pin *pin, size_t bytes, int sharing)
{
	void *base;

	bytes = pin_pages(bytes);
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		    sharing | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		return -errno;
	/* A core file of a swap device would hold other processes' memory. */
	madvise(base, bytes, MADV_DONTDUMP);
	if (mlock(base, bytes) < 0) {
		int error = errno;

		munmap(base, bytes);
		return -error;
	}
	memset(base, 0, bytes);
	*pin = (struct pin){ .base = base, .bytes = bytes, .phase = PIN_CARVE };
	return 0;
}

int pin_init(struct pin *pin, size_t bytes)
{
	return init(pin, bytes, MAP_PRIVATE);
}

int pin_init_shared(struct pin *pin, size_t bytes)
{
	return init(pin, bytes, MAP_SHARED);
}

void pin_populate(const struct pin *pin)
{
	/* If it cannot be had now, then at the first use. */
	(void)madvise(pin->base, pin->bytes, MADV_POPULATE_WRITE);
}

void pin_fini(struct pin *pin)
{
	if (pin->phase == PIN_NONE)
		return;
	munmap(pin->base, pin->bytes);
	*pin = (struct pin){ .phase = PIN_NONE };
}

void *pin_carve(struct pin *pin, size_t bytes)
{
	void *piece = pin->base + pin->used;

	CHECK(pin->phase == PIN_CARVE);
	bytes = pin_pages(bytes);
	CHECK(bytes <= pin->bytes - pin->used);
	pin->used += bytes;
	return piece;
}

void pin_seal(struct pin *pin)
{
	CHECK(pin->phase == PIN_CARVE);
	pin->phase = PIN_SEALED;
}
