/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the items of check have in common: reading below the roots they are
 * given, saying what was found, and the sums of the device that a host is
 * checked for.
 *
 * Only for the files check_host*.c. Command line; blocks, and changes nothing.
 */
#ifndef NBD_CHECK_LOOK_H
#define NBD_CHECK_LOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "nbd-client/check_host.h"
#include "nbd-client/daemon.h"

/* ---- Results ---- */

void look_say(struct check_host_result *ret, enum check_host_state state,
	      const char *format, ...) __attribute__((format(printf, 3, 4)));
void look_remedy(struct check_host_result *ret, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* What cannot be known is not ok. rc: -errno. */
void look_unreadable(struct check_host_result *ret, enum check_host_state state,
		     const char *what, int rc);

/* Names one after another, and in the end how many did not fit. */
#define LOOK_LIST_BYTES 160u
struct look_list {
	char text[LOOK_LIST_BYTES + 24];
	uint32_t count, left_out;
};
void look_list_add(struct look_list *list, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
const char *look_list_text(struct look_list *list);

/* ---- Files ---- */

#define LOOK_PATH_BYTES 768u
void look_path(char ret_path[LOOK_PATH_BYTES], const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* As those of procfile.h, of ROOT/FILE. */
int look_text(const char *root, const char *file, char *ret_text,
	      size_t text_bytes);
int look_number(const char *root, const char *file, uint64_t *ret_value);
bool look_exists(const char *root, const char *file);

/* Kilobytes by their names in /proc/meminfo. 0 or -errno. */
int look_meminfo(const struct check_host_paths *paths, const char *key,
		 uint64_t *ret_kbytes);

/* The effective ones of this process. 0 or -errno. */
int look_capabilities(const struct check_host_paths *paths, uint64_t *ret_set);
bool look_capable(const struct check_host_paths *paths, unsigned int cap);

/* ---- Sums ---- */

/* The device that a host is checked for: swap, and all else by default. */
extern const struct attach_options look_swap_device;

/* What its process locks. */
uint64_t look_footprint_kbytes(void);

/* vm.min_free_kbytes, and what attach makes of it for a first swap device. */
struct look_reserve {
	uint64_t now;
	uint64_t needed;
	uint64_t then; /* below what is needed if memory is small */
	int error;     /* -errno if it is to be raised and cannot be; else 0 */
};

/* 0 or -errno. */
int look_reserve(const struct check_host_paths *paths,
		 struct look_reserve *ret_reserve);

/* ---- The items that are not in check_host.c ---- */

#define CHECK_HOST_LOOK(name)                                                  \
	void name(const struct check_host_paths *paths,                        \
		  struct check_host_result *ret)

/* check_host_memory.c */
CHECK_HOST_LOOK(check_host_reserve);
CHECK_HOST_LOOK(check_host_memory);
CHECK_HOST_LOOK(check_host_pressure);
CHECK_HOST_LOOK(check_host_compaction);
CHECK_HOST_LOOK(check_host_boost);
CHECK_HOST_LOOK(check_host_cgroup);
CHECK_HOST_LOOK(check_host_limits);
CHECK_HOST_LOOK(check_host_swap);

/* check_host_net.c */
CHECK_HOST_LOOK(check_host_cards);
CHECK_HOST_LOOK(check_host_sockets);
CHECK_HOST_LOOK(check_host_tcp);

/* health.c */
CHECK_HOST_LOOK(check_host_devices);

#endif
