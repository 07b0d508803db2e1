// SPDX-License-Identifier: GPL-2.0-or-later
/* The sums of the reserve's holders; the thread that owns the groups. */
#include <string.h>

#include "common/check.h"
#include "common/group.h"

static struct group *parent_of(struct group *g)
{
	return g->parent_at ? g - g->parent_at : NULL;
}

void group_init(struct group *g, const char *name, struct group *parent,
		uint64_t limit_bytes)
{
	CHECK(!parent || parent < g);
	*g = (struct group){ .limit_bytes = limit_bytes };
	memcpy(g->name, name, strnlen(name, GROUP_NAME_BYTES - 1));
	g->parent_at = parent ? (uint32_t)(g - parent) : 0;
}

bool group_charge(struct group *g, uint64_t bytes)
{
	for (struct group *at = g; at; at = parent_of(at)) {
		if (at->usage_bytes <= at->limit_bytes &&
		    bytes <= at->limit_bytes - at->usage_bytes)
			continue;
		at->denied++;
		return false;
	}
	group_adopt(g, bytes);
	return true;
}

void group_adopt(struct group *g, uint64_t bytes)
{
	for (; g; g = parent_of(g)) {
		g->usage_bytes += bytes;
		if (g->usage_bytes > g->peak_bytes)
			g->peak_bytes = g->usage_bytes;
	}
}

void group_uncharge(struct group *g, uint64_t bytes)
{
	for (; g; g = parent_of(g)) {
		CHECK(g->usage_bytes >= bytes);
		g->usage_bytes -= bytes;
	}
}
