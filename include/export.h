/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a server says about an export: the result of a negotiation.
 *
 * Owns: the shape only.  The control thread fills it (handshake.c); afterwards
 * it is read-only and any thread may look at it.
 */
#ifndef NBD_EXPORT_H
#define NBD_EXPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "include/nbd-wire.h"

struct export_info {
	uint64_t size_bytes;	/* 1 … 2^63-1 */
	uint16_t flags;		/* NBD_FLAG_HAS_FLAGS …; unknown bits cleared */

	/*
	 * Size constraints as the server gave them, already checked: powers of
	 * two, min ≤ 64 KiB, pref ≥ max(512, min), max ≥ pref.  Without
	 * block_sizes_given they are the protocol's defaults (512, 4096, 32
	 * MiB) and are our own restraint, not the server's rule.
	 */
	uint32_t block_min;
	uint32_t block_pref;
	uint32_t block_max;	/* largest payload, need not be a power of two */
	bool block_sizes_given;

	bool structured;	/* reads are answered with structured replies */
	bool by_export_name;	/* old server: NBD_OPT_EXPORT_NAME was needed */
	bool tls;		/* negotiated inside TLS */

	/*
	 * NUL-terminated, as the server sent them (no NUL inside): escape with
	 * text_escape() before printing.  Empty if not given.
	 */
	char name[NBD_STRING_MAX + 1];
	char description[NBD_STRING_MAX + 1];
};

#endif
