/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the encoding and of the rules for single messages.  Bytes are
 * written out, so that a mistake made in both directions shows.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "common/proto.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define ALL_FLAGS 0x0dff	/* every transmission flag but experiments */

static const uint8_t request_bytes[] = {
	0x25, 0x60, 0x95, 0x13, 0x00, 0x12, 0x00, 0x06,
	0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
	0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
	0x21, 0x22, 0x23, 0x24,
};
static const uint8_t simple_bytes[] = {
	0x67, 0x44, 0x66, 0x98, 0x00, 0x00, 0x00, 0x1c,
	0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
};
static const uint8_t chunk_bytes[] = {
	0x66, 0x8e, 0x33, 0xef, 0x80, 0x01, 0x80, 0x02,
	0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
	0x21, 0x22, 0x23, 0x24,
};

static void request_both_ways(void **state)
{
	const struct proto_request r = {
		.command = NBD_CMD_WRITE_ZEROES,
		.flags = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
		.cookie = 0x0102030405060708,
		.offset_bytes = 0x1112131415161718,
		.length_bytes = 0x21222324,
	};
	struct proto_request back, before;
	uint8_t b[sizeof(struct nbd_request)];

	(void)state;
	proto_put_request(b, &r);
	assert_memory_equal(b, request_bytes, sizeof(b));
	memset(&back, 0, sizeof(back));
	assert_int_equal(proto_get_request(&back, b), 0);
	assert_int_equal(back.command, r.command);
	assert_int_equal(back.flags, r.flags);
	assert_true(back.cookie == r.cookie);
	assert_true(back.offset_bytes == r.offset_bytes);
	assert_int_equal(back.length_bytes, r.length_bytes);
	for (size_t i = 0; i < 4; i++) {
		b[i] ^= 1;
		before = back;
		assert_int_equal(proto_get_request(&back, b), -EPROTO);
		assert_memory_equal(&back, &before, sizeof(back));
		b[i] ^= 1;
	}
}

/* The head of a reply is recognised at the byte that completes it. */
static void reply_heads_split_at_every_byte(void **state)
{
	struct proto_reply r;
	uint8_t b[sizeof(chunk_bytes)];

	(void)state;
	for (size_t len = 0; len <= sizeof(simple_bytes) + 5; len++) {
		uint8_t longer[sizeof(simple_bytes) + 5] = { 0 };

		memcpy(longer, simple_bytes, sizeof(simple_bytes));
		assert_int_equal(proto_get_reply(&r, longer, len),
				 len < sizeof(simple_bytes) ? 0 : 16);
	}
	assert_false(r.structured);
	assert_int_equal(r.error, NBD_ENOSPC);
	assert_true(r.cookie == 0x0102030405060708);
	assert_int_equal(r.length_bytes, 0);

	for (size_t len = 0; len <= sizeof(chunk_bytes); len++)
		assert_int_equal(proto_get_reply(&r, chunk_bytes, len),
				 len < sizeof(chunk_bytes) ? 0 : 20);
	assert_true(r.structured);
	assert_int_equal(r.flags, 0x8001);
	assert_int_equal(r.type, NBD_REPLY_TYPE_ERROR_OFFSET);
	assert_true(r.cookie == 0x0102030405060708);
	assert_int_equal(r.length_bytes, 0x21222324);

	proto_put_simple_reply(b, NBD_ENOSPC, 0x0102030405060708);
	assert_memory_equal(b, simple_bytes, sizeof(simple_bytes));
	proto_put_chunk(b, &r);
	assert_memory_equal(b, chunk_bytes, sizeof(chunk_bytes));
}

static void wrong_magic_is_known_at_its_first_byte(void **state)
{
	struct proto_reply r;

	(void)state;
	for (size_t bad = 0; bad < 4; bad++) {
		for (size_t len = 1; len <= sizeof(chunk_bytes); len++) {
			uint8_t b[sizeof(chunk_bytes)];

			memcpy(b, chunk_bytes, sizeof(b));
			b[bad] ^= 0x80;
			assert_int_equal(proto_get_reply(&r, b, len),
					 len > bad ? -EPROTO
					 : len < sizeof(b) ? 0 : 20);
		}
	}
	assert_int_equal(proto_get_reply(&r, request_bytes, 28), -EPROTO);
	/* 0x96744668, used until Linux 2.1.116pre2 */
	assert_int_equal(proto_get_reply(&r, "\x96\x74\x46\x68", 4), -EPROTO);
}

/* "Structured reply types": every length that the text allows or forbids. */
static void chunk_lengths(void **state)
{
	static const struct {
		uint16_t type;
		uint32_t length;
		int want;
	} cases[] = {
		{ NBD_REPLY_TYPE_NONE, 0, 0 },
		{ NBD_REPLY_TYPE_NONE, 1, -EPROTO },
		{ NBD_REPLY_TYPE_NONE, UINT32_MAX, -EPROTO },
		{ NBD_REPLY_TYPE_OFFSET_DATA, 0, -EPROTO },
		{ NBD_REPLY_TYPE_OFFSET_DATA, 8, -EPROTO },
		{ NBD_REPLY_TYPE_OFFSET_DATA, 9, 0 },
		/* the head may come on top of the maximum payload */
		{ NBD_REPLY_TYPE_OFFSET_DATA, 4096 + 8, 0 },
		{ NBD_REPLY_TYPE_OFFSET_DATA, 4096 + 9, -EPROTO },
		{ NBD_REPLY_TYPE_OFFSET_DATA, 0x80000000, -EPROTO },
		{ NBD_REPLY_TYPE_OFFSET_DATA, UINT32_MAX, -EPROTO },
		{ NBD_REPLY_TYPE_OFFSET_HOLE, 11, -EPROTO },
		{ NBD_REPLY_TYPE_OFFSET_HOLE, 12, 0 },
		{ NBD_REPLY_TYPE_OFFSET_HOLE, 13, -EPROTO },
		{ NBD_REPLY_TYPE_ERROR, 5, -EPROTO },
		{ NBD_REPLY_TYPE_ERROR, 6, 0 },
		{ NBD_REPLY_TYPE_ERROR, 6 + 4096, 0 },
		{ NBD_REPLY_TYPE_ERROR, PROTO_ERROR_CHUNK_MAX, 0 },
		{ NBD_REPLY_TYPE_ERROR, PROTO_ERROR_CHUNK_MAX + 1, -EPROTO },
		{ NBD_REPLY_TYPE_ERROR_OFFSET, 13, -EPROTO },
		{ NBD_REPLY_TYPE_ERROR_OFFSET, 14, 0 },
		{ NBD_REPLY_TYPE_ERROR_OFFSET, UINT32_MAX, -EPROTO },
		/* an error type that we do not know: errored, not fatal */
		{ NBD_REPLY_TYPE_ERR(99), 6, 0 },
		{ NBD_REPLY_TYPE_ERR(99), 5, -EPROTO },
		{ 0xffff, UINT32_MAX, -EPROTO },
		/* unknown content, or content that we never ask for: fatal */
		{ NBD_REPLY_TYPE_BLOCK_STATUS, 12, -EPROTO },
		{ NBD_REPLY_TYPE_BLOCK_STATUS_EXT, 24, -EPROTO },
		{ 3, 0, -EPROTO },
		{ 0x7fff, 12, -EPROTO },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct proto_reply r = {
			.structured = true,
			.flags = NBD_REPLY_FLAG_DONE,
			.type = cases[i].type,
			.length_bytes = cases[i].length,
		};

		assert_int_equal(proto_check_chunk(&r, 4096), cases[i].want);
		/* unknown flags must be ignored */
		r.flags |= 0xfffe;
		assert_int_equal(proto_check_chunk(&r, 4096), cases[i].want);
		/* NONE must be the last, others need not */
		r.flags = 0xfffe;
		assert_int_equal(proto_check_chunk(&r, 4096),
				 r.type == NBD_REPLY_TYPE_NONE
					 ? -EPROTO : cases[i].want);
	}
	{
		/* No overflow with a server that has no limit. */
		const struct proto_reply r = {
			.type = NBD_REPLY_TYPE_OFFSET_DATA,
			.length_bytes = UINT32_MAX,
		};

		assert_int_equal(proto_check_chunk(&r, UINT32_MAX), 0);
	}
}

static void chunk_payload_heads(void **state)
{
	static const uint8_t hole[] = {
		0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
		0x00, 0x00, 0x02, 0x00,
	};
	static const uint8_t empty_hole[12] = { 0 };
	uint64_t offset = 7;
	uint32_t bytes = 7;

	(void)state;
	assert_true(proto_get_chunk_data(hole) == 0x1112131415161718);
	assert_int_equal(proto_get_chunk_hole(&offset, &bytes, empty_hole),
			 -EPROTO);
	assert_int_equal(offset, 7);
	assert_int_equal(bytes, 7);
	assert_int_equal(proto_get_chunk_hole(&offset, &bytes, hole), 0);
	assert_true(offset == 0x1112131415161718);
	assert_int_equal(bytes, 512);
}

static void error_chunks(void **state)
{
	static const struct {
		uint16_t type;
		uint32_t error;
		uint16_t message;
		uint32_t length;
		int want;
	} cases[] = {
		{ NBD_REPLY_TYPE_ERROR, NBD_EIO, 0, 6, 0 },
		{ NBD_REPLY_TYPE_ERROR, NBD_EIO, 10, 16, 0 },
		{ NBD_REPLY_TYPE_ERROR, NBD_EIO, 10, 20, 0 },
		{ NBD_REPLY_TYPE_ERROR, NBD_EIO, 10, 15, -EPROTO },
		{ NBD_REPLY_TYPE_ERROR, NBD_EIO, 1, 6, -EPROTO },
		{ NBD_REPLY_TYPE_ERROR, NBD_EIO, 4096, 6 + 4096, 0 },
		{ NBD_REPLY_TYPE_ERROR, NBD_EIO, 4097, 6 + 4097, -EPROTO },
		{ NBD_REPLY_TYPE_ERROR, NBD_EIO, 65535, 65536, -EPROTO },
		{ NBD_REPLY_TYPE_ERROR, 0, 0, 6, -EPROTO },	/* success? */
		{ NBD_REPLY_TYPE_ERROR, NBD_EIO, 0, 5, -EPROTO },
		{ NBD_REPLY_TYPE_ERROR_OFFSET, NBD_EIO, 0, 14, 0 },
		{ NBD_REPLY_TYPE_ERROR_OFFSET, NBD_EIO, 1, 14, -EPROTO },
		{ NBD_REPLY_TYPE_ERROR_OFFSET, NBD_EIO, 1, 15, 0 },
		{ NBD_REPLY_TYPE_ERR(99), 12345, 3, 9, 0 },
		{ NBD_REPLY_TYPE_ERR(99), 12345, 4, 9, -EPROTO },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		uint8_t b[sizeof(struct nbd_chunk_error)];
		uint32_t error = 77;
		uint16_t message = 77;

		put_be32(b, cases[i].error);
		put_be16(b + 4, cases[i].message);
		assert_int_equal(proto_get_chunk_error(&error, &message, b,
						       cases[i].type,
						       cases[i].length),
				 cases[i].want);
		assert_int_equal(error, cases[i].want ? 77 : cases[i].error);
		assert_int_equal(message,
				 cases[i].want ? 77 : cases[i].message);
	}
}

/* ---- What may be sent ---- */

static struct export_info disk(uint16_t flags, bool structured)
{
	const struct export_info x = {
		.size_bytes = 1 << 20,
		.flags = NBD_FLAG_HAS_FLAGS | flags,
		.block_min = 512,
		.block_pref = 4096,
		.block_max = 65536,
		.structured = structured,
	};

	return x;
}

static int check(const struct export_info *x, uint16_t command, uint16_t flags,
		 uint64_t offset, uint32_t length)
{
	const struct proto_request r = {
		.command = command,
		.flags = flags,
		.offset_bytes = offset,
		.length_bytes = length,
	};

	return proto_check_request(&r, x);
}

/* "The client MUST NOT use a feature … unless that flag was set." */
static void only_what_is_offered(void **state)
{
	static const struct {
		uint16_t command;
		uint16_t flag;
		uint32_t length;
	} cases[] = {
		{ NBD_CMD_FLUSH, NBD_FLAG_SEND_FLUSH, 0 },
		{ NBD_CMD_TRIM, NBD_FLAG_SEND_TRIM, 512 },
		{ NBD_CMD_CACHE, NBD_FLAG_SEND_CACHE, 512 },
		{ NBD_CMD_WRITE_ZEROES, NBD_FLAG_SEND_WRITE_ZEROES, 512 },
	};
	struct export_info none = disk(0, true);
	struct export_info all = disk(ALL_FLAGS & ~NBD_FLAG_READ_ONLY, true);

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct export_info x = disk(cases[i].flag, true);

		assert_int_equal(check(&none, cases[i].command, 0, 0,
				       cases[i].length), -EOPNOTSUPP);
		assert_int_equal(check(&x, cases[i].command, 0, 0,
				       cases[i].length), 0);
	}
	assert_int_equal(check(&none, NBD_CMD_READ, 0, 0, 512), 0);
	assert_int_equal(check(&none, NBD_CMD_WRITE, 0, 0, 512), 0);
	assert_int_equal(check(&none, NBD_CMD_DISC, 0, 0, 0), 0);
	/* no metadata context is ever selected; RESIZE is an experiment */
	assert_int_equal(check(&all, NBD_CMD_BLOCK_STATUS, 0, 0, 512),
			 -EOPNOTSUPP);
	assert_int_equal(check(&all, NBD_CMD_RESIZE, 0, 0, 512), -EOPNOTSUPP);
	for (uint32_t c = NBD_CMD_COUNT; c <= UINT16_MAX; c++)
		assert_int_equal(check(&all, (uint16_t)c, 0, 0, 512),
				 -EOPNOTSUPP);
}

/* "Command flags": each flag with each command, offered and not. */
static void only_documented_flags(void **state)
{
	static const struct {
		uint16_t flag;
		uint16_t offered_by;
		uint32_t commands;
	} rules[] = {
		{ NBD_CMD_FLAG_FUA, NBD_FLAG_SEND_FUA,
		  1 << NBD_CMD_WRITE | 1 << NBD_CMD_TRIM |
		  1 << NBD_CMD_WRITE_ZEROES },
		{ NBD_CMD_FLAG_NO_HOLE, NBD_FLAG_SEND_WRITE_ZEROES,
		  1 << NBD_CMD_WRITE_ZEROES },
		{ NBD_CMD_FLAG_DF, NBD_FLAG_SEND_DF, 1 << NBD_CMD_READ },
		{ NBD_CMD_FLAG_FAST_ZERO, NBD_FLAG_SEND_FAST_ZERO,
		  1 << NBD_CMD_WRITE_ZEROES },
		{ NBD_CMD_FLAG_REQ_ONE, 0, 0 },
		{ NBD_CMD_FLAG_PAYLOAD_LEN, 0, 0 },
		{ 1 << 15, 0, 0 },
	};
	static const uint16_t commands[] = {
		NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_DISC, NBD_CMD_FLUSH,
		NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES,
	};
	const uint16_t offers = ALL_FLAGS & ~NBD_FLAG_READ_ONLY;

	(void)state;
	for (size_t f = 0; f < COUNT(rules); f++) {
		for (size_t c = 0; c < COUNT(commands); c++) {
			uint16_t command = commands[c];
			uint32_t length = command == NBD_CMD_DISC ||
					  command == NBD_CMD_FLUSH ? 0 : 512;
			struct export_info x = disk(offers, true);
			bool good = rules[f].commands >> command & 1;

			assert_int_equal(check(&x, command, rules[f].flag, 0,
					       length), good ? 0 : -EINVAL);
			assert_int_equal(proto_allowed_flags(command, &x) &
					 rules[f].flag,
					 good ? rules[f].flag : 0);
			if (!good || rules[f].flag == NBD_CMD_FLAG_NO_HOLE)
				continue;
			x = disk(offers & ~rules[f].offered_by, true);
			assert_int_equal(check(&x, command, rules[f].flag, 0,
					       length), -EINVAL);
		}
	}
	{
		/* DF only where replies are structured */
		struct export_info x = disk(offers, false);

		assert_int_equal(check(&x, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0,
				       512), -EINVAL);
		assert_int_equal(proto_allowed_flags(1000, &x), 0);
	}
}

/* "Size constraints" and the fields of each request type. */
static void ranges(void **state)
{
	const uint32_t size = 1 << 20;
	static const uint16_t writers[] = { NBD_CMD_WRITE, NBD_CMD_TRIM,
					    NBD_CMD_WRITE_ZEROES };
	struct export_info x = disk(ALL_FLAGS & ~NBD_FLAG_READ_ONLY, true);
	struct export_info ro = disk(ALL_FLAGS, true);

	(void)state;
	assert_int_equal(check(&x, NBD_CMD_READ, 0, size - 512, 512), 0);
	assert_int_equal(check(&x, NBD_CMD_READ, 0, size, 512), -EINVAL);
	assert_int_equal(check(&x, NBD_CMD_READ, 0, size - 512, 1024),
			 -EINVAL);
	assert_int_equal(check(&x, NBD_CMD_READ, 0, UINT64_MAX - 511, 1024),
			 -EINVAL);
	assert_int_equal(check(&x, NBD_CMD_READ, 0, 0, 0), -EINVAL);
	assert_int_equal(check(&x, NBD_CMD_READ, 0, 1, 512), -EINVAL);
	assert_int_equal(check(&x, NBD_CMD_READ, 0, 0, 513), -EINVAL);
	assert_int_equal(check(&x, NBD_CMD_READ, 0, 0, 65536), 0);
	assert_int_equal(check(&x, NBD_CMD_READ, 0, 0, 65536 + 512),
			 -EOVERFLOW);
	assert_int_equal(check(&x, NBD_CMD_WRITE, 0, 0, 65536 + 512),
			 -EOVERFLOW);
	/* without payload there is no such limit */
	assert_int_equal(check(&x, NBD_CMD_TRIM, 0, 0, size), 0);
	assert_int_equal(check(&x, NBD_CMD_WRITE_ZEROES, 0, 0, size), 0);
	for (size_t i = 0; i < COUNT(writers); i++) {
		assert_int_equal(check(&x, writers[i], 0, size, 512), -ENOSPC);
		assert_int_equal(check(&x, writers[i], 0, 0, 0), -EINVAL);
		assert_int_equal(check(&ro, writers[i], 0, 0, 512), -EPERM);
	}
	assert_int_equal(check(&ro, NBD_CMD_READ, 0, 0, 512), 0);
	/* offset and length of FLUSH and DISC must be zero */
	assert_int_equal(check(&x, NBD_CMD_FLUSH, 0, 0, 0), 0);
	assert_int_equal(check(&x, NBD_CMD_FLUSH, 0, 512, 0), -EINVAL);
	assert_int_equal(check(&x, NBD_CMD_FLUSH, 0, 0, 512), -EINVAL);
	assert_int_equal(check(&x, NBD_CMD_DISC, 0, 512, 0), -EINVAL);
	assert_int_equal(check(&x, NBD_CMD_DISC, 0, 0, 512), -EINVAL);
	assert_int_equal(proto_usable_bytes(1000, 512), 512);
	assert_int_equal(proto_usable_bytes(1024, 512), 1024);
	assert_int_equal(proto_usable_bytes(1000, 1), 1000);
}

/* ---- Handshake ---- */

static void options(void **state)
{
	static const uint8_t want[] = {
		'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T',
		0, 0, 0, 7, 0, 0, 0, 16,
		0, 0, 0, 4, 'd', 'i', 's', 'k', 0, 3, 0, 3, 0, 1, 0, 2,
	};
	static const uint16_t infos[] = { 3, 1, 2 };
	uint8_t b[sizeof(want)];

	(void)state;
	proto_put_option(b, NBD_OPT_GO, 16);
	for (size_t n = 0; n < 16; n++)
		assert_int_equal(proto_put_go(b + 16, n, "disk", 4, infos, 3),
				 -ENOBUFS);
	assert_int_equal(proto_put_go(b + 16, 16, "disk", 4, infos, 3), 16);
	assert_memory_equal(b, want, sizeof(want));
	assert_int_equal(proto_put_go(b, sizeof(b), "", 0, infos, 0), 6);
	assert_memory_equal(b, "\0\0\0\0\0\0", 6);
}

static void option_replies(void **state)
{
	static const uint8_t want[] = {
		0x00, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9,
		0, 0, 0, 7, 0x80, 0, 0, 6, 0xff, 0xff, 0xff, 0xfe,
	};
	struct proto_option_reply r = { 0, 0, 0 };
	uint8_t b[sizeof(want)];

	(void)state;
	assert_int_equal(proto_get_option_reply(&r, want), 0);
	assert_int_equal(r.option, NBD_OPT_GO);
	assert_int_equal(r.type, NBD_REP_ERR_UNKNOWN);
	assert_int_equal(r.length_bytes, 0xfffffffe);
	proto_put_option_reply(b, &r);
	assert_memory_equal(b, want, sizeof(want));
	for (size_t i = 0; i < 8; i++) {
		b[i] ^= 1;
		assert_int_equal(proto_get_option_reply(&r, b), -EPROTO);
		b[i] ^= 1;
	}
}

static void infos(void **state)
{
	static const uint8_t src[20] = {
		0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0x0d, 0xff, 0xff, 0xff,
	};
	uint64_t size = 7;
	uint32_t min = 7, pref = 7, max = 7;
	uint16_t flags = 7;

	(void)state;
	for (size_t len = 0; len < sizeof(src); len++) {
		assert_int_equal(proto_get_info_export(&size, &flags, src, len),
				 len == 12 ? 0 : -EPROTO);
		assert_int_equal(proto_get_info_block_size(&min, &pref, &max,
							   src, len),
				 len == 14 ? 0 : -EPROTO);
		if (len < 12)
			assert_true(size == 7 && flags == 7);
		if (len < 14)
			assert_true(min == 7 && pref == 7 && max == 7);
	}
	assert_true(size == 0x100000200);
	assert_int_equal(flags, 0x0dff);
	assert_int_equal(min, 1);
	assert_int_equal(pref, 0x200);
	assert_int_equal(max, 0x0dffffff);
}

static void list_entries(void **state)
{
	static uint8_t b[4 + 2 * (NBD_STRING_MAX + 1)];
	const struct {
		uint32_t name;
		size_t len;
		int want;
	} cases[] = {
		{ 0, 0, -EPROTO }, { 0, 3, -EPROTO }, { 0, 4, 0 },
		{ 1, 4, -EPROTO }, { 1, 5, 0 }, { 1, 100, 0 },
		{ UINT32_MAX, 100, -EPROTO }, { 0x80000000, 100, -EPROTO },
		{ UINT32_MAX - 3, 4, -EPROTO },
		{ 4096, 4 + 4096, 0 }, { 4097, 4 + 4097, -EPROTO },
		{ 4096, 4 + 8192, 0 }, { 4096, 4 + 8193, -EPROTO },
		{ 0, 4 + 4097, -EPROTO },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		uint32_t name = 77;

		put_be32(b, cases[i].name);
		assert_int_equal(proto_get_rep_server(&name, b, cases[i].len),
				 cases[i].want);
		assert_int_equal(name, cases[i].want ? 77 : cases[i].name);
	}
}

static void block_sizes(void **state)
{
	static const struct {
		uint32_t min;
		uint32_t pref;
		uint32_t max;
		int want;
	} cases[] = {
		{ 1, 4096, 33554432, 0 },
		{ 1, 512, 512, 0 },
		{ 512, 512, 513, 0 },		/* max is any number */
		{ 65536, 65536, 65536, 0 },
		{ 1, 0x80000000, UINT32_MAX, 0 },
		{ 0, 4096, 33554432, -EPROTO },
		{ 3, 4096, 33554432, -EPROTO },
		{ 131072, 131072, 33554432, -EPROTO },
		{ 1, 256, 33554432, -EPROTO },	/* pref >= 512 */
		{ 1, 0, 33554432, -EPROTO },
		{ 1, 4097, 33554432, -EPROTO },
		{ 4096, 512, 33554432, -EPROTO },
		{ 1, 4096, 4095, -EPROTO },
		{ 1, 4096, 0, -EPROTO },
		{ UINT32_MAX, UINT32_MAX, UINT32_MAX, -EPROTO },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_int_equal(proto_check_block_sizes(cases[i].min,
							 cases[i].pref,
							 cases[i].max),
				 cases[i].want);
}

static void transmission_flags(void **state)
{
	uint16_t flags = 0x77;

	(void)state;
	assert_int_equal(proto_check_flags(&flags, 0, true), -EPROTO);
	assert_int_equal(proto_check_flags(&flags, 0xfffe, true), -EPROTO);
	assert_int_equal(flags, 0x77);
	assert_int_equal(proto_check_flags(&flags, 0xffff, true), 0);
	assert_int_equal(flags, ALL_FLAGS);
	/* DF needs structured replies, FAST_ZERO needs WRITE_ZEROES */
	assert_int_equal(proto_check_flags(&flags, 0xffff, false), 0);
	assert_int_equal(flags, ALL_FLAGS & ~NBD_FLAG_SEND_DF);
	assert_int_equal(proto_check_flags(&flags, 0xffbf, true), 0);
	assert_int_equal(flags, ALL_FLAGS & ~NBD_FLAG_SEND_WRITE_ZEROES &
			 ~NBD_FLAG_SEND_FAST_ZERO);
}

/* ---- Errors and names ---- */

static void errors(void **state)
{
	static const struct {
		uint32_t error;
		int errnum;
	} both[] = {
		{ 0, 0 }, { 1, EPERM }, { 5, EIO }, { 12, ENOMEM },
		{ 22, EINVAL }, { 28, ENOSPC }, { 75, EOVERFLOW },
		{ 95, EOPNOTSUPP }, { 108, ESHUTDOWN },
	};
	static const struct {
		int errnum;
		uint32_t error;
	} made[] = {
		{ EDQUOT, NBD_ENOSPC }, { EFBIG, NBD_ENOSPC },
		{ EROFS, NBD_EPERM }, { EACCES, NBD_EPERM },
		{ ETIMEDOUT, NBD_EIO }, { ECONNRESET, NBD_EIO },
		{ ENOTSUP, NBD_ENOTSUP }, { ENOTTY, NBD_EINVAL },
		{ 4095, NBD_EINVAL },
	};
	unsigned int known = 0;

	(void)state;
	for (size_t i = 0; i < COUNT(both); i++) {
		assert_int_equal(proto_error_to_errno(both[i].error),
				 both[i].errnum);
		assert_int_equal(proto_errno_to_error(both[i].errnum),
				 both[i].error);
	}
	for (size_t i = 0; i < COUNT(made); i++)
		assert_int_equal(proto_errno_to_error(made[i].errnum),
				 made[i].error);
	/* Whatever else a server says is EINVAL, and no reason to leave. */
	for (uint32_t e = 0; e < 70000; e++)
		known += proto_error_to_errno(e) != EINVAL;
	assert_int_equal(known, COUNT(both) - 1);
	assert_int_equal(proto_error_to_errno(UINT32_MAX), EINVAL);
}

static void names(void **state)
{
	(void)state;
	assert_string_equal(proto_option_name(NBD_OPT_GO), "GO");
	for (uint32_t o = 1; o <= NBD_OPT_EXTENDED_HEADERS; o++)
		assert_string_not_equal(proto_option_name(o), "unknown");
	assert_string_equal(proto_option_name(0), "unknown");
	assert_string_equal(proto_rep_name(NBD_REP_ERR_POLICY), "ERR_POLICY");
	assert_string_equal(proto_rep_name(5), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_both_ways),
		cmocka_unit_test(reply_heads_split_at_every_byte),
		cmocka_unit_test(wrong_magic_is_known_at_its_first_byte),
		cmocka_unit_test(chunk_lengths),
		cmocka_unit_test(chunk_payload_heads),
		cmocka_unit_test(error_chunks),
		cmocka_unit_test(only_what_is_offered),
		cmocka_unit_test(only_documented_flags),
		cmocka_unit_test(ranges),
		cmocka_unit_test(options),
		cmocka_unit_test(option_replies),
		cmocka_unit_test(infos),
		cmocka_unit_test(list_entries),
		cmocka_unit_test(block_sizes),
		cmocka_unit_test(transmission_flags),
		cmocka_unit_test(errors),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
