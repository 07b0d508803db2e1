/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NBD messages made and read.
 *
 * Owns the rules that one message must keep, as tables.  Pure; any thread; the
 * data threads call it for each request and reply.
 */
#include "common/proto.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Where a field is, so that no offset is written down twice. */
#define AT(base, type, field) ((base) + offsetof(type, field))

/* ---- Requests ---- */

/*
 * "Request types" and "Command flags", one row for each command.  Block status
 * and resize follow: without a metadata context they are never valid.
 */
static const struct command {
	uint16_t offered_by;	/* transmission flag; HAS_FLAGS: always */
	uint16_t flags;		/* documented for it */
	bool ranged;		/* has offset and length, else both are 0 */
	bool payload;		/* its length is limited by the max payload */
	bool writes;
} commands[] = {
	[NBD_CMD_READ] = {
		.offered_by = NBD_FLAG_HAS_FLAGS, .ranged = true,
		.payload = true, .flags = NBD_CMD_FLAG_DF,
	},
	[NBD_CMD_WRITE] = {
		.offered_by = NBD_FLAG_HAS_FLAGS, .ranged = true,
		.payload = true, .writes = true, .flags = NBD_CMD_FLAG_FUA,
	},
	[NBD_CMD_DISC] = { .offered_by = NBD_FLAG_HAS_FLAGS },
	[NBD_CMD_FLUSH] = { .offered_by = NBD_FLAG_SEND_FLUSH },
	[NBD_CMD_TRIM] = {
		.offered_by = NBD_FLAG_SEND_TRIM, .ranged = true,
		.writes = true, .flags = NBD_CMD_FLAG_FUA,
	},
	[NBD_CMD_CACHE] = { .offered_by = NBD_FLAG_SEND_CACHE, .ranged = true },
	[NBD_CMD_WRITE_ZEROES] = {
		.offered_by = NBD_FLAG_SEND_WRITE_ZEROES, .ranged = true,
		.writes = true,
		.flags = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE |
			 NBD_CMD_FLAG_FAST_ZERO,
	},
};

/* A command flag that is valid only with a transmission flag. */
static const struct {
	uint16_t flag;
	uint16_t offered_by;
	bool structured;	/* and only with structured replies */
} flag_rules[] = {
	{ NBD_CMD_FLAG_FUA, NBD_FLAG_SEND_FUA, false },
	{ NBD_CMD_FLAG_DF, NBD_FLAG_SEND_DF, true },
	{ NBD_CMD_FLAG_FAST_ZERO, NBD_FLAG_SEND_FAST_ZERO, false },
};

void proto_put_request(uint8_t dst[static sizeof(struct nbd_request)],
		       const struct proto_request *r)
{
	put_be32(AT(dst, struct nbd_request, magic), NBD_REQUEST_MAGIC);
	put_be16(AT(dst, struct nbd_request, flags), r->flags);
	put_be16(AT(dst, struct nbd_request, type), r->command);
	put_be64(AT(dst, struct nbd_request, cookie), r->cookie);
	put_be64(AT(dst, struct nbd_request, offset_bytes), r->offset_bytes);
	put_be32(AT(dst, struct nbd_request, length_bytes), r->length_bytes);
}

int proto_get_request(struct proto_request *ret,
		      const uint8_t src[static sizeof(struct nbd_request)])
{
	if (get_be32(AT(src, struct nbd_request, magic)) != NBD_REQUEST_MAGIC)
		return -EPROTO;
	ret->flags = get_be16(AT(src, struct nbd_request, flags));
	ret->command = get_be16(AT(src, struct nbd_request, type));
	ret->cookie = get_be64(AT(src, struct nbd_request, cookie));
	ret->offset_bytes = get_be64(AT(src, struct nbd_request, offset_bytes));
	ret->length_bytes = get_be32(AT(src, struct nbd_request, length_bytes));
	return 0;
}

uint16_t proto_allowed_flags(uint16_t command, const struct export_info *x)
{
	uint16_t allowed;

	if (command >= COUNT(commands))
		return 0;
	allowed = commands[command].flags;
	for (size_t i = 0; i < COUNT(flag_rules); i++)
		if (!(x->flags & flag_rules[i].offered_by) ||
		    (flag_rules[i].structured && !x->structured))
			allowed &= (uint16_t)~flag_rules[i].flag;
	return allowed;
}

int proto_check_request(const struct proto_request *r,
			const struct export_info *x)
{
	const struct command *c;
	uint64_t end;

	if (r->command >= COUNT(commands))
		return -EOPNOTSUPP;
	c = &commands[r->command];
	if (!(x->flags & c->offered_by))
		return -EOPNOTSUPP;
	if (r->flags & ~proto_allowed_flags(r->command, x))
		return -EINVAL;
	if (!c->ranged)
		return r->offset_bytes || r->length_bytes ? -EINVAL : 0;
	if (c->writes && (x->flags & NBD_FLAG_READ_ONLY))
		return -EPERM;
	if (r->length_bytes == 0)
		return -EINVAL;
	if ((r->offset_bytes | r->length_bytes) & (x->block_min - 1))
		return -EINVAL;
	if (__builtin_add_overflow(r->offset_bytes, r->length_bytes, &end) ||
	    end > x->size_bytes)
		return c->writes ? -ENOSPC : -EINVAL;
	if (c->payload && r->length_bytes > x->block_max)
		return -EOVERFLOW;
	return 0;
}

/* ---- Replies ---- */

static const struct {
	uint32_t magic;
	size_t head_bytes;
} reply_kinds[] = {
	{ NBD_SIMPLE_REPLY_MAGIC, sizeof(struct nbd_simple_reply) },
	{ NBD_STRUCTURED_REPLY_MAGIC, sizeof(struct nbd_structured_reply) },
};

/* "Structured reply types": what the length of each may be. */
static const struct chunk_rule {
	uint16_t type;
	bool done;		/* only as the last of a reply */
	bool payload;		/* the limit is the max payload on top of it */
	uint32_t min_bytes;
	uint32_t max_bytes;
} chunk_rules[] = {
	{ NBD_REPLY_TYPE_NONE, true, false, 0, 0 },
	{ NBD_REPLY_TYPE_OFFSET_DATA, false, true,
	  NBD_CHUNK_OFFSET_DATA_MIN_LENGTH,
	  sizeof(struct nbd_chunk_offset_data) },
	{ NBD_REPLY_TYPE_OFFSET_HOLE, false, false,
	  NBD_CHUNK_OFFSET_HOLE_LENGTH, NBD_CHUNK_OFFSET_HOLE_LENGTH },
	{ NBD_REPLY_TYPE_ERROR, false, false, NBD_CHUNK_ERROR_MIN_LENGTH,
	  PROTO_ERROR_CHUNK_MAX },
	{ NBD_REPLY_TYPE_ERROR_OFFSET, false, false,
	  NBD_CHUNK_ERROR_OFFSET_MIN_LENGTH, PROTO_ERROR_CHUNK_MAX },
};

/* All error types begin alike, so one that we do not know can be read. */
static const struct chunk_rule unknown_error = {
	0, false, false, NBD_CHUNK_ERROR_MIN_LENGTH, PROTO_ERROR_CHUNK_MAX,
};

int proto_get_reply(struct proto_reply *ret, const void *src, size_t len)
{
	uint8_t magic[sizeof(uint32_t)];
	size_t seen = len < sizeof(magic) ? len : sizeof(magic);
	const uint8_t *s = src;

	for (size_t i = 0; i < COUNT(reply_kinds); i++) {
		put_be32(magic, reply_kinds[i].magic);
		if (seen > 0 && memcmp(magic, s, seen) != 0)
			continue;
		if (len < reply_kinds[i].head_bytes)
			return 0;
		memset(ret, 0, sizeof(*ret));
		if (reply_kinds[i].magic == NBD_SIMPLE_REPLY_MAGIC) {
			ret->error = get_be32(
				AT(s, struct nbd_simple_reply, error));
			ret->cookie = get_be64(
				AT(s, struct nbd_simple_reply, cookie));
		} else {
			ret->structured = true;
			ret->flags = get_be16(
				AT(s, struct nbd_structured_reply, flags));
			ret->type = get_be16(
				AT(s, struct nbd_structured_reply, type));
			ret->cookie = get_be64(
				AT(s, struct nbd_structured_reply, cookie));
			ret->length_bytes = get_be32(AT(
				s, struct nbd_structured_reply, length_bytes));
		}
		return (int)reply_kinds[i].head_bytes;
	}
	return -EPROTO;
}

void proto_put_simple_reply(
	uint8_t dst[static sizeof(struct nbd_simple_reply)], uint32_t error,
	uint64_t cookie)
{
	put_be32(AT(dst, struct nbd_simple_reply, magic),
		 NBD_SIMPLE_REPLY_MAGIC);
	put_be32(AT(dst, struct nbd_simple_reply, error), error);
	put_be64(AT(dst, struct nbd_simple_reply, cookie), cookie);
}

void proto_put_chunk(uint8_t dst[static sizeof(struct nbd_structured_reply)],
		     const struct proto_reply *r)
{
	put_be32(AT(dst, struct nbd_structured_reply, magic),
		 NBD_STRUCTURED_REPLY_MAGIC);
	put_be16(AT(dst, struct nbd_structured_reply, flags), r->flags);
	put_be16(AT(dst, struct nbd_structured_reply, type), r->type);
	put_be64(AT(dst, struct nbd_structured_reply, cookie), r->cookie);
	put_be32(AT(dst, struct nbd_structured_reply, length_bytes),
		 r->length_bytes);
}

static const struct chunk_rule *chunk_rule(uint16_t type)
{
	for (size_t i = 0; i < COUNT(chunk_rules); i++)
		if (chunk_rules[i].type == type)
			return &chunk_rules[i];
	return proto_chunk_is_error(type) ? &unknown_error : NULL;
}

int proto_check_chunk(const struct proto_reply *r, uint32_t max_payload_bytes)
{
	const struct chunk_rule *rule = chunk_rule(r->type);
	uint64_t max_bytes;

	/* Unknown content, and BLOCK_STATUS, which we never ask for. */
	if (rule == NULL)
		return -EPROTO;
	if (rule->done && !(r->flags & NBD_REPLY_FLAG_DONE))
		return -EPROTO;
	max_bytes = rule->max_bytes;
	if (rule->payload)
		max_bytes += max_payload_bytes;
	if (r->length_bytes < rule->min_bytes || r->length_bytes > max_bytes)
		return -EPROTO;
	return 0;
}

uint64_t proto_get_chunk_data(
	const uint8_t src[static sizeof(struct nbd_chunk_offset_data)])
{
	return get_be64(AT(src, struct nbd_chunk_offset_data, offset_bytes));
}

int proto_get_chunk_hole(
	uint64_t *ret_offset_bytes, uint32_t *ret_hole_bytes,
	const uint8_t src[static sizeof(struct nbd_chunk_offset_hole)])
{
	uint32_t hole_bytes =
		get_be32(AT(src, struct nbd_chunk_offset_hole, hole_bytes));

	if (hole_bytes == 0)
		return -EPROTO;
	*ret_offset_bytes =
		get_be64(AT(src, struct nbd_chunk_offset_hole, offset_bytes));
	*ret_hole_bytes = hole_bytes;
	return 0;
}

int proto_get_chunk_error(
	uint32_t *ret_error, uint16_t *ret_message_bytes,
	const uint8_t src[static sizeof(struct nbd_chunk_error)],
	uint16_t type, uint32_t length_bytes)
{
	uint32_t error = get_be32(AT(src, struct nbd_chunk_error, error));
	uint16_t message_bytes =
		get_be16(AT(src, struct nbd_chunk_error, message_bytes));
	const struct chunk_rule *rule = chunk_rule(type);

	CHECK(proto_chunk_is_error(type));
	if (error == NBD_SUCCESS || message_bytes > NBD_STRING_MAX ||
	    length_bytes < rule->min_bytes ||
	    message_bytes > length_bytes - rule->min_bytes)
		return -EPROTO;
	*ret_error = error;
	*ret_message_bytes = message_bytes;
	return 0;
}

/* ---- Handshake ---- */

void proto_put_option(uint8_t dst[static sizeof(struct nbd_option)],
		      uint32_t option, uint32_t length_bytes)
{
	put_be64(AT(dst, struct nbd_option, magic), NBD_OPTS_MAGIC);
	put_be32(AT(dst, struct nbd_option, option), option);
	put_be32(AT(dst, struct nbd_option, length_bytes), length_bytes);
}

int proto_put_go(uint8_t *dst, size_t n, const char *name, size_t name_bytes,
		 const uint16_t *infos, uint16_t info_count)
{
	size_t total;

	CHECK(name_bytes <= NBD_STRING_MAX);
	total = sizeof(uint32_t) + name_bytes +
		sizeof(uint16_t) * (1 + (size_t)info_count);
	if (total > n)
		return -ENOBUFS;
	put_be32(dst, (uint32_t)name_bytes);
	dst += sizeof(uint32_t);
	memcpy(dst, name, name_bytes);
	dst += name_bytes;
	put_be16(dst, info_count);
	dst += sizeof(uint16_t);
	for (uint16_t i = 0; i < info_count; i++, dst += sizeof(uint16_t))
		put_be16(dst, infos[i]);
	return (int)total;
}

int proto_get_option_reply(
	struct proto_option_reply *ret,
	const uint8_t src[static sizeof(struct nbd_option_reply)])
{
	if (get_be64(AT(src, struct nbd_option_reply, magic)) != NBD_REP_MAGIC)
		return -EPROTO;
	ret->option = get_be32(AT(src, struct nbd_option_reply, option));
	ret->type = get_be32(AT(src, struct nbd_option_reply, type));
	ret->length_bytes =
		get_be32(AT(src, struct nbd_option_reply, length_bytes));
	return 0;
}

void proto_put_option_reply(
	uint8_t dst[static sizeof(struct nbd_option_reply)],
	const struct proto_option_reply *r)
{
	put_be64(AT(dst, struct nbd_option_reply, magic), NBD_REP_MAGIC);
	put_be32(AT(dst, struct nbd_option_reply, option), r->option);
	put_be32(AT(dst, struct nbd_option_reply, type), r->type);
	put_be32(AT(dst, struct nbd_option_reply, length_bytes),
		 r->length_bytes);
}

int proto_get_info_export(uint64_t *ret_size_bytes, uint16_t *ret_flags,
			  const uint8_t *src, size_t len)
{
	if (len != NBD_INFO_EXPORT_LENGTH)
		return -EPROTO;
	*ret_size_bytes = get_be64(AT(src, struct nbd_info_export, size_bytes));
	*ret_flags = get_be16(AT(src, struct nbd_info_export, flags));
	return 0;
}

int proto_get_info_block_size(uint32_t *ret_min, uint32_t *ret_pref,
			      uint32_t *ret_max, const uint8_t *src, size_t len)
{
	if (len != NBD_INFO_BLOCK_SIZE_LENGTH)
		return -EPROTO;
	*ret_min = get_be32(AT(src, struct nbd_info_block_size, min_bytes));
	*ret_pref = get_be32(AT(src, struct nbd_info_block_size, pref_bytes));
	*ret_max = get_be32(
		AT(src, struct nbd_info_block_size, max_payload_bytes));
	return 0;
}

int proto_get_rep_server(uint32_t *ret_name_bytes, const uint8_t *src,
			 size_t len)
{
	const size_t head_bytes = sizeof(struct nbd_rep_server);
	uint32_t name_bytes;

	if (len < head_bytes)
		return -EPROTO;
	name_bytes = get_be32(AT(src, struct nbd_rep_server, name_bytes));
	if (name_bytes > len - head_bytes || name_bytes > NBD_STRING_MAX ||
	    len - head_bytes - name_bytes > NBD_STRING_MAX)
		return -EPROTO;
	*ret_name_bytes = name_bytes;
	return 0;
}

static bool is_power_of_two(uint32_t v)
{
	return v != 0 && (v & (v - 1)) == 0;
}

int proto_check_block_sizes(uint32_t min, uint32_t pref, uint32_t max)
{
	if (!is_power_of_two(min) || min > NBD_MIN_BLOCK_LIMIT)
		return -EPROTO;
	if (!is_power_of_two(pref) || pref < NBD_PREF_BLOCK_FLOOR || pref < min)
		return -EPROTO;
	return max < pref ? -EPROTO : 0;
}

int proto_check_flags(uint16_t *ret_flags, uint16_t flags, bool structured)
{
	/* Not the experimental ones, which were not negotiated. */
	const uint16_t known =
		NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_FLUSH |
		NBD_FLAG_SEND_FUA | NBD_FLAG_ROTATIONAL | NBD_FLAG_SEND_TRIM |
		NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_DF |
		NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE |
		NBD_FLAG_SEND_FAST_ZERO;

	if (!(flags & NBD_FLAG_HAS_FLAGS))
		return -EPROTO;
	flags &= known;
	if (!structured)
		flags &= (uint16_t)~NBD_FLAG_SEND_DF;
	if (!(flags & NBD_FLAG_SEND_WRITE_ZEROES))
		flags &= (uint16_t)~NBD_FLAG_SEND_FAST_ZERO;
	*ret_flags = flags;
	return 0;
}

/* ---- Errors ---- */

/* "Error values".  The first row of an error is the one that it is read as. */
static const struct {
	uint32_t error;
	int errnum;
} errors[] = {
	{ NBD_SUCCESS, 0 },
	{ NBD_EPERM, EPERM },
	{ NBD_EIO, EIO },
	{ NBD_ENOMEM, ENOMEM },
	{ NBD_EINVAL, EINVAL },
	{ NBD_ENOSPC, ENOSPC },
	{ NBD_EOVERFLOW, EOVERFLOW },
	{ NBD_ENOTSUP, EOPNOTSUPP },
	{ NBD_ESHUTDOWN, ESHUTDOWN },
	/* Only made, never read: what the text maps, and what means the same */
	{ NBD_ENOSPC, EDQUOT },
	{ NBD_ENOSPC, EFBIG },
	{ NBD_EPERM, EROFS },
	{ NBD_EPERM, EACCES },
	{ NBD_EIO, ETIMEDOUT },
	{ NBD_EIO, ECONNRESET },
	{ NBD_EIO, ENOTCONN },
	{ NBD_EIO, EPIPE },
	{ NBD_EIO, EPROTO },
	{ NBD_EIO, ENOLINK },
};

int proto_error_to_errno(uint32_t error)
{
	for (size_t i = 0; i < COUNT(errors); i++)
		if (errors[i].error == error)
			return errors[i].errnum;
	return EINVAL;
}

uint32_t proto_errno_to_error(int error)
{
	CHECK(error >= 0);
	for (size_t i = 0; i < COUNT(errors); i++)
		if (errors[i].errnum == error)
			return errors[i].error;
	return NBD_EINVAL;
}

/* ---- Names ---- */

struct name {
	uint32_t number;
	const char *text;
};

static const struct name option_names[] = {
	{ NBD_OPT_EXPORT_NAME, "EXPORT_NAME" },
	{ NBD_OPT_ABORT, "ABORT" },
	{ NBD_OPT_LIST, "LIST" },
	{ NBD_OPT_PEEK_EXPORT, "PEEK_EXPORT" },
	{ NBD_OPT_STARTTLS, "STARTTLS" },
	{ NBD_OPT_INFO, "INFO" },
	{ NBD_OPT_GO, "GO" },
	{ NBD_OPT_STRUCTURED_REPLY, "STRUCTURED_REPLY" },
	{ NBD_OPT_LIST_META_CONTEXT, "LIST_META_CONTEXT" },
	{ NBD_OPT_SET_META_CONTEXT, "SET_META_CONTEXT" },
	{ NBD_OPT_EXTENDED_HEADERS, "EXTENDED_HEADERS" },
};

static const struct name rep_names[] = {
	{ NBD_REP_ACK, "ACK" },
	{ NBD_REP_SERVER, "SERVER" },
	{ NBD_REP_INFO, "INFO" },
	{ NBD_REP_META_CONTEXT, "META_CONTEXT" },
	{ NBD_REP_ERR_UNSUP, "ERR_UNSUP" },
	{ NBD_REP_ERR_POLICY, "ERR_POLICY" },
	{ NBD_REP_ERR_INVALID, "ERR_INVALID" },
	{ NBD_REP_ERR_PLATFORM, "ERR_PLATFORM" },
	{ NBD_REP_ERR_TLS_REQD, "ERR_TLS_REQD" },
	{ NBD_REP_ERR_UNKNOWN, "ERR_UNKNOWN" },
	{ NBD_REP_ERR_SHUTDOWN, "ERR_SHUTDOWN" },
	{ NBD_REP_ERR_BLOCK_SIZE_REQD, "ERR_BLOCK_SIZE_REQD" },
	{ NBD_REP_ERR_TOO_BIG, "ERR_TOO_BIG" },
	{ NBD_REP_ERR_EXT_HEADER_REQD, "ERR_EXT_HEADER_REQD" },
};

static const char *name_of(const struct name *names, size_t count,
			   uint32_t number)
{
	for (size_t i = 0; i < count; i++)
		if (names[i].number == number)
			return names[i].text;
	return "unknown";
}

const char *proto_option_name(uint32_t option)
{
	return name_of(option_names, COUNT(option_names), option);
}

const char *proto_rep_name(uint32_t type)
{
	return name_of(rep_names, COUNT(rep_names), type);
}
