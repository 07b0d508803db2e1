/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NBD messages made and read: bytes to structs in host order and back, and the
 * rules that a single message must keep.
 *
 * Pure: no I/O, no memory of its own, no state.  Any thread may call it, and
 * both directions are here, because the nbd front is a server to the kernel.
 * Section names are those of the protocol text (doc/proto.md).
 */
#ifndef NBD_PROTO_H
#define NBD_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/export.h"
#include "include/nbd-wire.h"

/* ---- Transmission: requests ("Request message") ---- */

struct proto_request {
	uint16_t command;	/* NBD_CMD_READ … */
	uint16_t flags;		/* NBD_CMD_FLAG_FUA … */
	uint64_t cookie;
	uint64_t offset_bytes;
	uint32_t length_bytes;
};

void proto_put_request(uint8_t dst[static sizeof(struct nbd_request)],
		       const struct proto_request *r);

/* -EPROTO: not the magic of a request; *ret is untouched then. */
int proto_get_request(struct proto_request *ret,
		      const uint8_t src[static sizeof(struct nbd_request)]);

/*
 * May we send this to that export?  ("Request types", "Command flags", "Size
 * constraints".)  0, or the error that the requester should see:
 * -EOPNOTSUPP  the server did not offer the command
 * -EPERM       it would write to a read-only export
 * -EINVAL      a flag that is not documented for the command or not offered;
 *              no length where there must be one; not aligned to block_min;
 *              reads beyond the end
 * -ENOSPC      it would write beyond the end
 * -EOVERFLOW   more payload than block_max
 */
int proto_check_request(const struct proto_request *r,
			const struct export_info *x);

/* The command flags that this export allows with this command. */
uint16_t proto_allowed_flags(uint16_t command, const struct export_info *x);

/* ---- Transmission: replies ("Simple reply", "Structured reply chunk") ---- */

/* The longer of the two heads. */
#define PROTO_REPLY_HEAD_MAX sizeof(struct nbd_structured_reply)

struct proto_reply {
	bool structured;
	uint64_t cookie;
	uint32_t error;		/* simple only: NBD_EIO …, 0 for success */
	uint16_t flags;		/* structured only: NBD_REPLY_FLAG_DONE */
	uint16_t type;		/* structured only: NBD_REPLY_TYPE_NONE … */
	uint32_t length_bytes;	/* structured only: payload that follows */
};

/*
 * Reads a head from the first bytes of a stream.  Returns the length of the
 * head (16 or 20), 0 if `len` bytes are not enough yet, -EPROTO if this cannot
 * become a reply (known from the first wrong byte of the magic).
 */
int proto_get_reply(struct proto_reply *ret, const void *src, size_t len);

void proto_put_simple_reply(
	uint8_t dst[static sizeof(struct nbd_simple_reply)], uint32_t error,
	uint64_t cookie);

void proto_put_chunk(uint8_t dst[static sizeof(struct nbd_structured_reply)],
		     const struct proto_reply *r);

/*
 * Rules for the head of a chunk, apart from the request that it answers
 * ("Structured reply types"): length fits the type, NONE is DONE, and the type
 * is known or an error.  Unknown flags are ignored.  -EPROTO means that the
 * client must drop the connection.  max_payload_bytes: block_max.
 */
int proto_check_chunk(const struct proto_reply *r, uint32_t max_payload_bytes);

/* More than any error chunk can need; a longer one is an attack. */
#define PROTO_ERROR_CHUNK_MAX 65536u

static inline bool proto_chunk_is_error(uint16_t type)
{
	return (type & NBD_REPLY_TYPE_FLAG_ERROR) != 0;
}

/*
 * Payload heads.  The hole: -EPROTO if it is empty.  The error: -EPROTO if it
 * is zero, or if its message exceeds 4096 bytes or does not fit into the
 * chunk of `type` with length_bytes of payload.
 */
uint64_t proto_get_chunk_data(
	const uint8_t src[static sizeof(struct nbd_chunk_offset_data)]);
int proto_get_chunk_hole(
	uint64_t *ret_offset_bytes, uint32_t *ret_hole_bytes,
	const uint8_t src[static sizeof(struct nbd_chunk_offset_hole)]);
int proto_get_chunk_error(
	uint32_t *ret_error, uint16_t *ret_message_bytes,
	const uint8_t src[static sizeof(struct nbd_chunk_error)],
	uint16_t type, uint32_t length_bytes);

/* ---- Handshake ---- */

void proto_put_option(uint8_t dst[static sizeof(struct nbd_option)],
		      uint32_t option, uint32_t length_bytes);

/*
 * Data of NBD_OPT_INFO and NBD_OPT_GO: the name and the list of informations
 * that are asked for.  Returns the length, -ENOBUFS if n is too small.
 */
int proto_put_go(uint8_t *dst, size_t n, const char *name, size_t name_bytes,
		 const uint16_t *infos, uint16_t info_count);

struct proto_option_reply {
	uint32_t option;
	uint32_t type;		/* NBD_REP_ACK … */
	uint32_t length_bytes;	/* unchecked: whatever the server says */
};

/* -EPROTO: not the magic of an option reply. */
int proto_get_option_reply(
	struct proto_option_reply *ret,
	const uint8_t src[static sizeof(struct nbd_option_reply)]);
void proto_put_option_reply(
	uint8_t dst[static sizeof(struct nbd_option_reply)],
	const struct proto_option_reply *r);

/*
 * Payload of NBD_REP_INFO, `len` bytes with the type in the first two.
 * -EPROTO: the length is not what the text demands for that type.
 */
int proto_get_info_export(uint64_t *ret_size_bytes, uint16_t *ret_flags,
			  const uint8_t *src, size_t len);
int proto_get_info_block_size(uint32_t *ret_min, uint32_t *ret_pref,
			      uint32_t *ret_max, const uint8_t *src,
			      size_t len);

/*
 * Payload of NBD_REP_SERVER: *ret_name_bytes of name start at src + 4, the
 * rest is a description.  -EPROTO: the name does not fit, or one of the two
 * exceeds 4096 bytes.
 */
int proto_get_rep_server(uint32_t *ret_name_bytes, const uint8_t *src,
			 size_t len);

/*
 * "Size constraints": min is a power of two up to 64 KiB, pref a power of two
 * and at least max(512, min), max at least pref.  -EPROTO otherwise.
 */
int proto_check_block_sizes(uint32_t min, uint32_t pref, uint32_t max);

/*
 * "Transmission flags": what of them we may rely on.  Clears those that are
 * unknown or not valid without another.  -EPROTO without HAS_FLAGS.
 */
int proto_check_flags(uint16_t *ret_flags, uint16_t flags, bool structured);

/* Bytes of an export that whole blocks can reach; block is a power of two. */
static inline uint64_t proto_usable_bytes(uint64_t size_bytes, uint32_t block)
{
	return size_bytes & ~((uint64_t)block - 1);
}

/* ---- Errors ("Error values"): the one place where they are mapped ---- */

/* A positive errno, 0 for success; what the text does not know is EINVAL. */
int proto_error_to_errno(uint32_t error);

/* `error` is a positive errno; what NBD cannot say becomes NBD_EINVAL. */
uint32_t proto_errno_to_error(int error);

/* ---- Names for messages; "unknown" for numbers that have none ---- */

const char *proto_option_name(uint32_t option);		/* "GO" */
const char *proto_rep_name(uint32_t type);		/* "ERR_POLICY" */

#endif
