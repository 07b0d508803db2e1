// SPDX-License-Identifier: GPL-2.0-or-later
/* Replies as bytes; see reply_bytes.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "common/bytes.h"
#include "common/proto.h"
#include "tests/reply_bytes.h"

void reply_raw(struct reply_bytes *b, const void *from, size_t bytes)
{
	assert_true(bytes <= sizeof(b->data) - b->used);
	if (bytes)
		memcpy(b->data + b->used, from, bytes);
	b->used += bytes;
}

void reply_simple(struct reply_bytes *b, uint64_t cookie, uint32_t error)
{
	uint8_t head[sizeof(struct nbd_simple_reply)];

	proto_put_simple_reply(head, error, cookie);
	reply_raw(b, head, sizeof(head));
}

void reply_chunk(struct reply_bytes *b, uint64_t cookie, uint16_t flags,
		 uint16_t type, uint32_t length)
{
	uint8_t head[sizeof(struct nbd_structured_reply)];

	proto_put_chunk(head, &(struct proto_reply){ .structured = true,
						     .cookie = cookie,
						     .flags = flags,
						     .type = type,
						     .length_bytes = length });
	reply_raw(b, head, sizeof(head));
}

void reply_none(struct reply_bytes *b, uint64_t cookie)
{
	reply_chunk(b, cookie, REPLY_DONE, NBD_REPLY_TYPE_NONE, 0);
}

static void put64(struct reply_bytes *b, uint64_t v)
{
	uint8_t bytes[8];

	put_be64(bytes, v);
	reply_raw(b, bytes, sizeof(bytes));
}

static void put32(struct reply_bytes *b, uint32_t v)
{
	uint8_t bytes[4];

	put_be32(bytes, v);
	reply_raw(b, bytes, sizeof(bytes));
}

void reply_data(struct reply_bytes *b, uint64_t cookie, uint16_t flags,
		uint64_t offset, const void *from, uint32_t bytes)
{
	reply_chunk(b, cookie, flags, NBD_REPLY_TYPE_OFFSET_DATA, 8 + bytes);
	put64(b, offset);
	reply_raw(b, from, bytes);
}

void reply_hole(struct reply_bytes *b, uint64_t cookie, uint16_t flags,
		uint64_t offset, uint32_t bytes)
{
	reply_chunk(b, cookie, flags, NBD_REPLY_TYPE_OFFSET_HOLE, 12);
	put64(b, offset);
	put32(b, bytes);
}

void reply_error_raw(struct reply_bytes *b, uint64_t cookie, uint16_t flags,
		     uint16_t type, uint32_t error, uint16_t message_bytes,
		     const void *rest, uint32_t rest_bytes)
{
	uint8_t claimed[2];

	reply_chunk(b, cookie, flags, type, 6 + rest_bytes);
	put32(b, error);
	put_be16(claimed, message_bytes);
	reply_raw(b, claimed, sizeof(claimed));
	reply_raw(b, rest, rest_bytes);
}

void reply_error(struct reply_bytes *b, uint64_t cookie, uint16_t flags,
		 uint32_t error, const char *text)
{
	uint32_t n = text ? (uint32_t)strlen(text) : 0;

	reply_error_raw(b, cookie, flags, NBD_REPLY_TYPE_ERROR, error,
			(uint16_t)n, text, n);
}
