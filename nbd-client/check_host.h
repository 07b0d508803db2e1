/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is this host ready for a swap device? One item for each thing that attach
 * --swap needs or that its guarantees rest on: what was found, and what helps.
 *
 * Nothing is changed: whatever attach would change itself is told. Command
 * line; blocks and allocates.
 */
#ifndef NBD_CHECK_HOST_H
#define NBD_CHECK_HOST_H

#include <stddef.h>

/* Where things are; unit tests point them at a tree of their own. */
struct check_host_paths {
	const char *proc;    /* "/proc" */
	const char *sys;     /* "/sys" */
	const char *modules; /* "/lib/modules" */
};
extern const struct check_host_paths check_host_paths;

enum check_host_state {
	CHECK_HOST_OK,   /* as it should be, or attach makes it so */
	CHECK_HOST_WARN, /* attach --swap works, with less than it promises */
	CHECK_HOST_FAIL, /* attach --swap would refuse, or run into trouble */
};

/* A line each; what was found may contain names from outside, unescaped. */
struct check_host_result {
	enum check_host_state state;
	char found[256];
	char remedy[160]; /* empty when ok */
};

/*
 * An item reads below paths, and fills in *ret, which is all zeroes before.
 * Items know nothing of each other, any of them may be asked alone.
 */
struct check_host_item {
	const char *name;
	void (*look)(const struct check_host_paths *paths,
		     struct check_host_result *ret);
};

/* All of them, up to a name of NULL. */
extern const struct check_host_item check_host_items[];

/* "ok", "warn", "fail". */
const char *check_host_state_name(enum check_host_state state);

#endif
