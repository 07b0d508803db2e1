/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a server answers, put together piece by piece as bytes. For tests. */
#ifndef REPLY_BYTES_H
#define REPLY_BYTES_H

#include <stddef.h>
#include <stdint.h>

#include "include/nbd-wire.h"

#define REPLY_BYTES_MAX 300000u
#define REPLY_DONE NBD_REPLY_FLAG_DONE

struct reply_bytes {
	uint8_t data[REPLY_BYTES_MAX];
	size_t used;
};

void reply_raw(struct reply_bytes *b, const void *from, size_t bytes);

/* The head of a simple reply; a read's payload follows with reply_raw(). */
void reply_simple(struct reply_bytes *b, uint64_t cookie, uint32_t error);

/* The head of a chunk, with any length. */
void reply_chunk(struct reply_bytes *b, uint64_t cookie, uint16_t flags,
		 uint16_t type, uint32_t length);

/* Whole chunks. */
void reply_none(struct reply_bytes *b, uint64_t cookie);
void reply_data(struct reply_bytes *b, uint64_t cookie, uint16_t flags,
		uint64_t offset, const void *from, uint32_t bytes);
void reply_hole(struct reply_bytes *b, uint64_t cookie, uint16_t flags,
		uint64_t offset, uint32_t bytes);
/* NBD_REPLY_TYPE_ERROR with a text, which may be NULL. */
void reply_error(struct reply_bytes *b, uint64_t cookie, uint16_t flags,
		 uint32_t error, const char *text);
/* Any error type; message_bytes is what is claimed, the rest what is there. */
void reply_error_raw(struct reply_bytes *b, uint64_t cookie, uint16_t flags,
		     uint16_t type, uint32_t error, uint16_t message_bytes,
		     const void *rest, uint32_t rest_bytes);

#endif
