/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one region of locked, resident memory that a device runs on. It is made
 * at attach with the size that the sum of its users gives, carved up, sealed,
 * and given back whole at detach. Carving after the seal is a bug.
 */
#ifndef NBD_PIN_H
#define NBD_PIN_H

#include <stddef.h>
#include <stdint.h>

enum pin_phase {
	PIN_NONE, /* no memory */
	PIN_CARVE,
	PIN_SEALED,
};

struct pin {
	uint8_t *base;
	size_t bytes; /* a multiple of the page size */
	size_t used;  /* used <= bytes */
	enum pin_phase phase;
};

#define PIN_PAGE 4096u

/* What carving `bytes` at page alignment uses up. */
static inline size_t pin_pages(size_t bytes)
{
	return (bytes + PIN_PAGE - 1) / PIN_PAGE * PIN_PAGE;
}

/*
 * Control thread. 0 or -errno: -ENOMEM, or -EPERM where the limit on locked
 * memory does not allow it. The pages are written to, so none faults later.
 */
int pin_init(struct pin *pin, size_t bytes);
void pin_fini(struct pin *pin);

/* The same, of memory that the processes forked later share with this one. */
int pin_init_shared(struct pin *pin, size_t bytes);

/* In such a process: maps it, content untouched, so that none faults later. */
void pin_populate(const struct pin *pin);

/* A zeroed, page-aligned piece; never NULL: the sum was made before. */
void *pin_carve(struct pin *pin, size_t bytes);

void pin_seal(struct pin *pin);

#endif
