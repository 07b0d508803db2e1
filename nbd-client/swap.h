/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A block device as swap: what is on it, writing the signature, switching it on
 * and off.
 *
 * Owns no state. May block and allocate (libblkid): the command line, and the
 * control thread before the seal; swap_activate() and swap_is_active() do not
 * allocate.
 */
#ifndef NBD_SWAP_H
#define NBD_SWAP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

/* The kernel refuses smaller ones (mm/swapfile.c); so does mkswap. */
#define SWAP_PAGES_MIN 10u

#define SWAP_PRIORITY_MAX 32767

enum swap_content {
	SWAP_EMPTY,     /* nothing known, and the beginning is all zeroes */
	SWAP_SIGNATURE, /* swap area that this kernel can use as it is */
	SWAP_OTHER,     /* anything else */
};

#define SWAP_TYPE_BYTES 48u

/* ret_type: what it is ("ext4", "unknown data" …), for SWAP_OTHER only. */
int swap_inspect(const char *device, enum swap_content *ret_content,
		 char ret_type[SWAP_TYPE_BYTES], struct err *err);

/*
 * Writes a swap signature for size_bytes and flushes it to the server. Other
 * content is refused with X_BUSY unless force, which also wipes its magic
 * numbers. An existing swap signature is content too: check first.
 */
int swap_format(const char *device, uint64_t size_bytes, bool force,
		struct err *err);

/* priority 0 … SWAP_PRIORITY_MAX, or -1: the kernel chooses. Never discards. */
int swap_activate(const char *device, int priority, struct err *err);

/*
 * Brings every page back, which takes long and as much memory as is swapped
 * out: -ENOMEM when that is not there, -EINTR on a signal. Success when it is
 * not active.
 */
int swap_deactivate(const char *device, struct err *err);

/*
 * By device number, not by name: /proc/swaps may use another name. used: how much
 * is swapped out to it.
 */
int swap_look(const char *device, bool *ret_active, uint64_t *ret_used_bytes);
int swap_is_active(const char *device, bool *ret_active);

/* "/proc/swaps"; unit tests point it elsewhere. */
extern const char *swap_table_path;

#endif
