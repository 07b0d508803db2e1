/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tree of reservation groups: who may hold how much of the reserve while
 * memory is low. A charge counts in the group and in all that it is part of, or
 * nowhere. While memory is not low nobody charges, so it costs nothing.
 *
 * The groups of a process lie in one array, parents first, and name their parent
 * by its distance: so they can be in the status page, where others read them.
 * One thread writes.
 */
#ifndef NBD_GROUP_H
#define NBD_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "include/ctl.h" /* struct group */

/* parent: earlier in the same array, or NULL. The name is cut if need be. */
void group_init(struct group *g, const char *name, struct group *parent,
		uint64_t limit_bytes);

/* The group and all above it, or none and false: the caller waits. */
bool group_charge(struct group *g, uint64_t bytes);

/*
 * Charges what is held already when memory becomes low, whatever the limits:
 * then nothing new is admitted until enough of it has been given back.
 */
void group_adopt(struct group *g, uint64_t bytes);

/* Exactly what was charged or adopted. */
void group_uncharge(struct group *g, uint64_t bytes);

#endif
