/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What travels between an NBD client and server: constants and message heads.
 *
 * Owns: numbers and shapes only. No code, no thread; anybody may include it.
 *
 * Names are those of the protocol text (doc/proto.md of the NetworkBlockDevice
 * project); each group says the section it comes from.  Every integer is
 * big-endian on the wire, therefore the fields are __beN and are to be read
 * and written with get_beN()/put_beN() or through proto.h, never directly.
 *
 * <linux/nbd.h> uses some of the same names with other shapes, so a file can
 * include only one of the two.  The little that the kernel's file has beyond
 * this one (ioctl numbers, NBD_CFLAG_*) belongs to the nbd front alone;
 * <linux/nbd-netlink.h> does not clash.
 */
#ifndef NBD_WIRE_H
#define NBD_WIRE_H

#include <assert.h>
#include <linux/types.h>
#include <stdint.h>

#if defined(LINUX_NBD_H) || defined(_UAPILINUX_NBD_H)
#error "nbd-wire.h and <linux/nbd.h> define the same names: include one of them"
#endif

/* ---- Conventions; limits that the text gives ---- */

#define NBD_PORT		10809	/* assigned by IANA; doc/uri.md */
#define NBD_STRING_MAX		4096u	/* longest string that may be sent */
#define NBD_STRING_GOOD		256u	/* what a string should not exceed */

/* Size constraints: what holds when the server says nothing. */
#define NBD_MIN_BLOCK_DEFAULT	512u
#define NBD_PREF_BLOCK_DEFAULT	4096u
#define NBD_MAX_PAYLOAD_DEFAULT	33554432u	/* 2^25 */
#define NBD_MIN_BLOCK_LIMIT	65536u		/* a minimum may not exceed this */
#define NBD_PREF_BLOCK_FLOOR	512u		/* a preferred size is at least this */
#define NBD_DF_LENGTH		65536u		/* DF reads this long must work */

/* ---- Handshake: magic numbers ---- */

#define NBD_MAGIC		UINT64_C(0x4e42444d41474943)	/* "NBDMAGIC" */
#define NBD_OPTS_MAGIC		UINT64_C(0x49484156454f5054)	/* "IHAVEOPT" */
#define NBD_OLDSTYLE_MAGIC	UINT64_C(0x0000420281861253)	/* cliserv_magic */
#define NBD_REP_MAGIC		UINT64_C(0x0003e889045565a9)	/* option replies */

/* ---- Handshake phase: handshake flags (16 bits) and client flags (32) ---- */

#define NBD_FLAG_FIXED_NEWSTYLE		(1u << 0)
#define NBD_FLAG_NO_ZEROES		(1u << 1)

#define NBD_FLAG_C_FIXED_NEWSTYLE	(1u << 0)
#define NBD_FLAG_C_NO_ZEROES		(1u << 1)

/* Padding after the reply to NBD_OPT_EXPORT_NAME without C_NO_ZEROES. */
#define NBD_EXPORT_NAME_ZEROES		124u

/* ---- Handshake phase: transmission flags (16 bits) ---- */

#define NBD_FLAG_HAS_FLAGS		(1u << 0)	/* must be set */
#define NBD_FLAG_READ_ONLY		(1u << 1)
#define NBD_FLAG_SEND_FLUSH		(1u << 2)
#define NBD_FLAG_SEND_FUA		(1u << 3)
#define NBD_FLAG_ROTATIONAL		(1u << 4)
#define NBD_FLAG_SEND_TRIM		(1u << 5)
#define NBD_FLAG_SEND_WRITE_ZEROES	(1u << 6)
#define NBD_FLAG_SEND_DF		(1u << 7)
#define NBD_FLAG_CAN_MULTI_CONN		(1u << 8)
#define NBD_FLAG_SEND_RESIZE		(1u << 9)	/* experimental */
#define NBD_FLAG_SEND_CACHE		(1u << 10)
#define NBD_FLAG_SEND_FAST_ZERO		(1u << 11)
#define NBD_FLAG_BLOCK_STATUS_PAYLOAD	(1u << 12)	/* experimental */

/* ---- Handshake phase: option types ---- */

#define NBD_OPT_EXPORT_NAME		1u
#define NBD_OPT_ABORT			2u
#define NBD_OPT_LIST			3u
#define NBD_OPT_PEEK_EXPORT		4u	/* withdrawn */
#define NBD_OPT_STARTTLS		5u
#define NBD_OPT_INFO			6u
#define NBD_OPT_GO			7u
#define NBD_OPT_STRUCTURED_REPLY	8u
#define NBD_OPT_LIST_META_CONTEXT	9u
#define NBD_OPT_SET_META_CONTEXT	10u
#define NBD_OPT_EXTENDED_HEADERS	11u	/* experimental */

/* ---- Handshake phase: option reply types ---- */

#define NBD_REP_ACK			1u
#define NBD_REP_SERVER			2u
#define NBD_REP_INFO			3u
#define NBD_REP_META_CONTEXT		4u

#define NBD_REP_FLAG_ERROR		(UINT32_C(1) << 31)
#define NBD_REP_ERR(n)			(NBD_REP_FLAG_ERROR | UINT32_C(n))
#define NBD_REP_ERR_UNSUP		NBD_REP_ERR(1)
#define NBD_REP_ERR_POLICY		NBD_REP_ERR(2)
#define NBD_REP_ERR_INVALID		NBD_REP_ERR(3)
#define NBD_REP_ERR_PLATFORM		NBD_REP_ERR(4)
#define NBD_REP_ERR_TLS_REQD		NBD_REP_ERR(5)
#define NBD_REP_ERR_UNKNOWN		NBD_REP_ERR(6)
#define NBD_REP_ERR_SHUTDOWN		NBD_REP_ERR(7)
#define NBD_REP_ERR_BLOCK_SIZE_REQD	NBD_REP_ERR(8)
#define NBD_REP_ERR_TOO_BIG		NBD_REP_ERR(9)
#define NBD_REP_ERR_EXT_HEADER_REQD	NBD_REP_ERR(10)

/* ---- Handshake phase: information types (NBD_REP_INFO) ---- */

#define NBD_INFO_EXPORT			0u
#define NBD_INFO_NAME			1u
#define NBD_INFO_DESCRIPTION		2u
#define NBD_INFO_BLOCK_SIZE		3u

/* Lengths of NBD_REP_INFO payloads, the 2 bytes of the type included. */
#define NBD_INFO_EXPORT_LENGTH		12u
#define NBD_INFO_BLOCK_SIZE_LENGTH	14u
#define NBD_INFO_STRING_MIN_LENGTH	2u

/* ---- Transmission phase: magic numbers ---- */

#define NBD_REQUEST_MAGIC		UINT32_C(0x25609513)
#define NBD_SIMPLE_REPLY_MAGIC		UINT32_C(0x67446698)
#define NBD_STRUCTURED_REPLY_MAGIC	UINT32_C(0x668e33ef)
#define NBD_EXTENDED_REQUEST_MAGIC	UINT32_C(0x21e41c71)	/* experimental */
#define NBD_EXTENDED_REPLY_MAGIC	UINT32_C(0x6e8a278c)	/* experimental */

/* ---- Transmission phase: request types ---- */

#define NBD_CMD_READ			0u
#define NBD_CMD_WRITE			1u
#define NBD_CMD_DISC			2u
#define NBD_CMD_FLUSH			3u
#define NBD_CMD_TRIM			4u
#define NBD_CMD_CACHE			5u
#define NBD_CMD_WRITE_ZEROES		6u
#define NBD_CMD_BLOCK_STATUS		7u
#define NBD_CMD_RESIZE			8u	/* experimental */
#define NBD_CMD_COUNT			9u	/* ours: one past the last */

/* ---- Transmission phase: command flags (16 bits) ---- */

#define NBD_CMD_FLAG_FUA		(1u << 0)
#define NBD_CMD_FLAG_NO_HOLE		(1u << 1)
#define NBD_CMD_FLAG_DF			(1u << 2)
#define NBD_CMD_FLAG_REQ_ONE		(1u << 3)
#define NBD_CMD_FLAG_FAST_ZERO		(1u << 4)
#define NBD_CMD_FLAG_PAYLOAD_LEN	(1u << 5)	/* experimental */

/* ---- Transmission phase: structured reply flags and types (16 bits) ---- */

#define NBD_REPLY_FLAG_DONE		(1u << 0)

#define NBD_REPLY_TYPE_NONE		0u
#define NBD_REPLY_TYPE_OFFSET_DATA	1u
#define NBD_REPLY_TYPE_OFFSET_HOLE	2u
#define NBD_REPLY_TYPE_BLOCK_STATUS	5u
#define NBD_REPLY_TYPE_BLOCK_STATUS_EXT	6u	/* experimental */

#define NBD_REPLY_TYPE_FLAG_ERROR	(1u << 15)
#define NBD_REPLY_TYPE_ERR(n)		(NBD_REPLY_TYPE_FLAG_ERROR | (n))
#define NBD_REPLY_TYPE_ERROR		NBD_REPLY_TYPE_ERR(1u)
#define NBD_REPLY_TYPE_ERROR_OFFSET	NBD_REPLY_TYPE_ERR(2u)

/* ---- Error values ---- */

#define NBD_SUCCESS			0u	/* ours: the zero in the error field */
#define NBD_EPERM			1u
#define NBD_EIO				5u
#define NBD_ENOMEM			12u
#define NBD_EINVAL			22u
#define NBD_ENOSPC			28u
#define NBD_EOVERFLOW			75u
#define NBD_ENOTSUP			95u
#define NBD_ESHUTDOWN			108u

/* ---- base:allocation metadata context: extent flags ---- */

#define NBD_STATE_HOLE			(1u << 0)
#define NBD_STATE_ZERO			(1u << 1)

/* ---- Shapes: handshake ---- */

/* Newstyle negotiation: the server's greeting, then the client's flags. */
struct nbd_greeting {
	__be64 magic;		/* NBD_MAGIC */
	__be64 style;		/* NBD_OPTS_MAGIC, or NBD_OLDSTYLE_MAGIC */
	__be16 flags;		/* NBD_FLAG_FIXED_NEWSTYLE … */
} __attribute__((packed));

struct nbd_client_flags {
	__be32 flags;		/* NBD_FLAG_C_FIXED_NEWSTYLE … */
} __attribute__((packed));

/* Oldstyle negotiation: recognised to be refused. */
struct nbd_oldstyle_greeting {
	__be64 magic;		/* NBD_MAGIC */
	__be64 style;		/* NBD_OLDSTYLE_MAGIC */
	__be64 size_bytes;
	__be32 flags;
	uint8_t zeroes[124];
} __attribute__((packed));

/* Newstyle negotiation: head of each option. */
struct nbd_option {
	__be64 magic;		/* NBD_OPTS_MAGIC */
	__be32 option;		/* NBD_OPT_GO … */
	__be32 length_bytes;	/* of the data that follow */
} __attribute__((packed));

/* Fixed newstyle negotiation: head of each option reply. */
struct nbd_option_reply {
	__be64 magic;		/* NBD_REP_MAGIC */
	__be32 option;		/* the option that is answered */
	__be32 type;		/* NBD_REP_ACK … */
	__be32 length_bytes;	/* of the data that follow */
} __attribute__((packed));

/* Newstyle negotiation: reply to NBD_OPT_EXPORT_NAME, before its zeroes. */
struct nbd_export_name_reply {
	__be64 size_bytes;
	__be16 flags;		/* NBD_FLAG_HAS_FLAGS … */
} __attribute__((packed));

/* NBD_REP_INFO: NBD_INFO_EXPORT. */
struct nbd_info_export {
	__be16 info;
	__be64 size_bytes;
	__be16 flags;
} __attribute__((packed));

/* NBD_REP_INFO: NBD_INFO_BLOCK_SIZE. */
struct nbd_info_block_size {
	__be16 info;
	__be32 min_bytes;
	__be32 pref_bytes;
	__be32 max_payload_bytes;
} __attribute__((packed));

/* NBD_REP_SERVER: head; the name follows, then a description. */
struct nbd_rep_server {
	__be32 name_bytes;
} __attribute__((packed));

/* NBD_REP_META_CONTEXT: head; the name of the context follows. */
struct nbd_rep_meta_context {
	__be32 id;
} __attribute__((packed));

/* ---- Shapes: transmission ---- */

/* Request message. */
struct nbd_request {
	__be32 magic;		/* NBD_REQUEST_MAGIC */
	__be16 flags;		/* NBD_CMD_FLAG_FUA … */
	__be16 type;		/* NBD_CMD_READ … */
	__be64 cookie;
	__be64 offset_bytes;
	__be32 length_bytes;
} __attribute__((packed));

/* Simple reply message. */
struct nbd_simple_reply {
	__be32 magic;		/* NBD_SIMPLE_REPLY_MAGIC */
	__be32 error;		/* NBD_EIO …, 0 for success */
	__be64 cookie;
} __attribute__((packed));

/* Structured reply chunk message: head. */
struct nbd_structured_reply {
	__be32 magic;		/* NBD_STRUCTURED_REPLY_MAGIC */
	__be16 flags;		/* NBD_REPLY_FLAG_DONE */
	__be16 type;		/* NBD_REPLY_TYPE_NONE … */
	__be64 cookie;
	__be32 length_bytes;	/* of the payload that follows */
} __attribute__((packed));

/* Structured reply types: heads of the payloads. */
struct nbd_chunk_offset_data {
	__be64 offset_bytes;	/* data follow, at least one byte */
} __attribute__((packed));

struct nbd_chunk_offset_hole {
	__be64 offset_bytes;
	__be32 hole_bytes;	/* must not be zero */
} __attribute__((packed));

struct nbd_chunk_error {
	__be32 error;		/* must not be zero */
	__be16 message_bytes;	/* the message follows */
} __attribute__((packed));

/* NBD_REPLY_TYPE_ERROR_OFFSET: this follows the message. */
struct nbd_chunk_error_offset_tail {
	__be64 offset_bytes;
} __attribute__((packed));

struct nbd_chunk_block_status {
	__be32 context_id;	/* struct nbd_extent follow, at least one */
} __attribute__((packed));

struct nbd_extent {
	__be32 length_bytes;	/* must not be zero */
	__be32 flags;		/* NBD_STATE_HOLE … for base:allocation */
} __attribute__((packed));

/* Payload sizes that follow from the shapes. */
#define NBD_CHUNK_ERROR_MIN_LENGTH	  6u
#define NBD_CHUNK_ERROR_OFFSET_MIN_LENGTH 14u
#define NBD_CHUNK_OFFSET_DATA_MIN_LENGTH  9u	/* offset and one byte */
#define NBD_CHUNK_OFFSET_HOLE_LENGTH	  12u
#define NBD_CHUNK_EXTENTS_MAX		  (1u << 20)

static_assert(sizeof(struct nbd_greeting) == 18, "greeting");
static_assert(sizeof(struct nbd_client_flags) == 4, "client flags");
static_assert(sizeof(struct nbd_oldstyle_greeting) == 152, "oldstyle greeting");
static_assert(sizeof(struct nbd_option) == 16, "option");
static_assert(sizeof(struct nbd_option_reply) == 20, "option reply");
static_assert(sizeof(struct nbd_export_name_reply) == 10, "export name reply");
static_assert(sizeof(struct nbd_info_export) == NBD_INFO_EXPORT_LENGTH, "info");
static_assert(sizeof(struct nbd_info_block_size) == NBD_INFO_BLOCK_SIZE_LENGTH,
	      "block size info");
static_assert(sizeof(struct nbd_rep_server) == 4, "server reply");
static_assert(sizeof(struct nbd_rep_meta_context) == 4, "context reply");
static_assert(sizeof(struct nbd_request) == 28, "request");
static_assert(sizeof(struct nbd_simple_reply) == 16, "simple reply");
static_assert(sizeof(struct nbd_structured_reply) == 20, "structured reply");
static_assert(sizeof(struct nbd_chunk_offset_data) == 8, "data chunk");
static_assert(sizeof(struct nbd_chunk_offset_hole) == 12, "hole chunk");
static_assert(sizeof(struct nbd_chunk_error) == 6, "error chunk");
static_assert(sizeof(struct nbd_chunk_error_offset_tail) == 8, "error offset");
static_assert(sizeof(struct nbd_chunk_block_status) == 4, "status chunk");
static_assert(sizeof(struct nbd_extent) == 8, "extent");

#endif
