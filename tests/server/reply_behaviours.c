/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbd-script-server: odd and hostile behaviour in transmission.
 *
 * Owns one table.  A hook is a few lines; the number is that of NAME=NUMBER.
 * Those about chunks answer READ only, and only where structured replies have
 * been negotiated; everything else gets its usual answer.
 */
#include <string.h>
#include <time.h>

#include "common/bytes.h"
#include "tests/server/server.h"

#define DONE NBD_REPLY_FLAG_DONE
#define STALE_COOKIE UINT64_C(0xdeadbeefdeadbeef)

static bool is_chunked_read(const struct conn *c, const struct proto_request *r)
{
	return c->structured && r->command == NBD_CMD_READ &&
	       r->length_bytes > 1 && r->offset_bytes <= c->disk_bytes &&
	       r->length_bytes <= c->disk_bytes - r->offset_bytes;
}

static void sleep_ms(uint64_t ms)
{
	struct timespec t = { .tv_sec = (time_t)(ms / 1000),
			      .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

/* ---- Time and connections ---- */

static bool never_answer(struct conn *c, const struct proto_request *r)
{
	(void)r;
	return c->requests_count > c->number;
}

static bool late(struct conn *c, const struct proto_request *r)
{
	(void)r;
	sleep_ms(c->number ? c->number : 1000);
	return false;
}

static bool close_after(struct conn *c, const struct proto_request *r)
{
	(void)r;
	if (c->requests_count > c->number)
		conn_close(c);
	return false;
}

static bool half_reply(struct conn *c, const struct proto_request *r)
{
	uint8_t b[sizeof(struct nbd_simple_reply)];

	if (c->requests_count <= c->number)
		return false;
	proto_put_simple_reply(b, NBD_SUCCESS, r->cookie);
	conn_send(c, b, sizeof(b) / 2);
	conn_hang(c);
}

static bool half_data(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	conn_chunk(c, DONE, NBD_REPLY_TYPE_OFFSET_DATA, r->cookie,
		   8 + r->length_bytes);
	conn_close(c);
}

/* Answers N at a time, the last one first; a flush sends what is held. */
static bool reverse(struct conn *c, const struct proto_request *r)
{
	unsigned int group = c->number > 0 && c->number <= HELD_MAX
				     ? (unsigned int)c->number : 4;

	c->held[c->held_count++] = *r;
	if (c->held_count < group && r->command != NBD_CMD_FLUSH)
		return true;
	while (c->held_count > 0)
		conn_answer(c, &c->held[--c->held_count]);
	return true;
}

/* ---- Errors ---- */

static bool error(struct conn *c, const struct proto_request *r)
{
	conn_fail(c, r, (uint32_t)c->number);
	return true;
}

static bool eshutdown(struct conn *c, const struct proto_request *r)
{
	if (c->requests_count <= c->number)
		return false;
	conn_fail(c, r, NBD_ESHUTDOWN);
	return true;
}

static bool error_text(struct conn *c, const struct proto_request *r)
{
	static const char text[] =
		"\033]0;owned\007\033[2J disk\0on fire \xff\xfe \xe2\x80\xae!\n";

	if (!is_chunked_read(c, r))
		return false;
	conn_error_chunk(c, DONE, r->cookie, NBD_EIO, text, sizeof(text) - 1);
	return true;
}

static bool error_text_long(struct conn *c, const struct proto_request *r)
{
	static uint8_t text[UINT16_MAX];

	if (!is_chunked_read(c, r))
		return false;
	memset(text, '\033', sizeof(text));
	conn_error_chunk(c, DONE, r->cookie, NBD_EIO, text, sizeof(text));
	return true;
}

/* A message that is longer than its chunk. */
static bool error_text_overrun(struct conn *c, const struct proto_request *r)
{
	uint8_t b[sizeof(struct nbd_chunk_error)];

	if (!is_chunked_read(c, r))
		return false;
	conn_chunk(c, DONE, NBD_REPLY_TYPE_ERROR, r->cookie, sizeof(b));
	put_be32(b, NBD_EIO);
	put_be16(b + 4, 100);
	conn_send(c, b, sizeof(b));
	return true;
}

static bool error_offset(struct conn *c, const struct proto_request *r)
{
	uint8_t b[NBD_CHUNK_ERROR_OFFSET_MIN_LENGTH];

	if (!is_chunked_read(c, r))
		return false;
	conn_data(c, 0, r->cookie, r->offset_bytes, r->length_bytes);
	conn_chunk(c, DONE, NBD_REPLY_TYPE_ERROR_OFFSET, r->cookie, sizeof(b));
	put_be32(b, NBD_EIO);
	put_be16(b + 4, 0);
	put_be64(b + 6, r->offset_bytes + r->length_bytes / 2);
	conn_send(c, b, sizeof(b));
	return true;
}

static bool error_with_payload(struct conn *c, const struct proto_request *r)
{
	if (r->command != NBD_CMD_READ || c->structured)
		return false;
	conn_simple(c, NBD_EIO, r->cookie);
	conn_send(c, c->disk, r->length_bytes < 4096 ? r->length_bytes : 4096);
	return true;
}

static bool unknown_error_chunk(struct conn *c, const struct proto_request *r)
{
	uint8_t b[sizeof(struct nbd_chunk_error) + 5] = { 0 };

	if (!is_chunked_read(c, r))
		return false;
	conn_chunk(c, DONE, NBD_REPLY_TYPE_ERR(99), r->cookie, sizeof(b));
	put_be32(b, NBD_EIO);
	conn_send(c, b, sizeof(b));
	return true;
}

/* ---- Cookies ---- */

static bool unknown_cookie(struct conn *c, const struct proto_request *r)
{
	if (c->requests_count <= c->number)
		return false;
	(void)r;
	conn_simple(c, NBD_SUCCESS, STALE_COOKIE);
	return true;
}

static bool duplicate(struct conn *c, const struct proto_request *r)
{
	conn_answer(c, r);
	conn_answer(c, r);
	return true;
}

static bool bad_magic(struct conn *c, const struct proto_request *r)
{
	uint8_t b[sizeof(struct nbd_structured_reply)] = { 0 };

	if (c->requests_count <= c->number)
		return false;
	(void)r;
	conn_send(c, b, sizeof(b));
	return true;
}

/* ---- Chunks ---- */

static bool chunks(struct conn *c, const struct proto_request *r)
{
	uint32_t piece = c->number > 0 ? (uint32_t)c->number : 512;
	uint32_t left = r->length_bytes;

	if (!is_chunked_read(c, r))
		return false;
	/* From the end to the start: a client has to put them together. */
	while (left > 0) {
		uint32_t bytes = left % piece ? left % piece : piece;
		const uint8_t *at = c->disk + r->offset_bytes + left - bytes;
		uint64_t offset = r->offset_bytes + left - bytes;

		if (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0)
			conn_hole(c, 0, r->cookie, offset, bytes);
		else
			conn_data(c, 0, r->cookie, offset, bytes);
		left -= bytes;
	}
	conn_chunk(c, DONE, NBD_REPLY_TYPE_NONE, r->cookie, 0);
	return true;
}

static bool tiny_chunks(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	for (uint32_t i = 0; i < r->length_bytes; i++)
		conn_data(c, 0, r->cookie, r->offset_bytes + i, 1);
	conn_chunk(c, DONE, NBD_REPLY_TYPE_NONE, r->cookie, 0);
	return true;
}

/* Every second byte: as many pieces as possible until the other half comes. */
static bool comb(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	for (uint32_t start = 0; start < 2; start++)
		for (uint32_t i = start; i < r->length_bytes; i += 2)
			conn_data(c, 0, r->cookie, r->offset_bytes + i, 1);
	conn_chunk(c, DONE, NBD_REPLY_TYPE_NONE, r->cookie, 0);
	return true;
}

static bool overlap(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	conn_data(c, 0, r->cookie, r->offset_bytes, r->length_bytes - 1);
	conn_data(c, DONE, r->cookie,
		  r->offset_bytes + r->length_bytes - 2, 2);
	return true;
}

static bool gap(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	conn_data(c, DONE, r->cookie, r->offset_bytes, r->length_bytes - 1);
	return true;
}

static bool out_of_range(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	conn_hole(c, DONE, r->cookie, r->offset_bytes + 1, r->length_bytes);
	return true;
}

static bool wrap(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	conn_hole(c, DONE, r->cookie, UINT64_MAX - 1, r->length_bytes);
	return true;
}

static bool zero_hole(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	conn_hole(c, 0, r->cookie, r->offset_bytes, 0);
	conn_data(c, DONE, r->cookie, r->offset_bytes, r->length_bytes);
	return true;
}

static bool no_done(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	conn_data(c, 0, r->cookie, r->offset_bytes, r->length_bytes);
	return true;
}

static bool none_without_done(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	conn_data(c, 0, r->cookie, r->offset_bytes, r->length_bytes);
	conn_chunk(c, 0, NBD_REPLY_TYPE_NONE, r->cookie, 0);
	return true;
}

static bool chunk_after_done(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	conn_answer(c, r);
	conn_chunk(c, DONE, NBD_REPLY_TYPE_NONE, r->cookie, 0);
	return true;
}

static bool simple_read(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	conn_simple(c, NBD_SUCCESS, r->cookie);
	conn_send(c, c->disk + r->offset_bytes, r->length_bytes);
	return true;
}

/* Needs no-structured to be what it says. */
static bool uninvited_chunks(struct conn *c, const struct proto_request *r)
{
	conn_chunk(c, DONE, NBD_REPLY_TYPE_NONE, r->cookie, 0);
	return true;
}

static bool unknown_chunk(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	conn_chunk(c, DONE, 77, r->cookie, 0);
	return true;
}

static bool unknown_reply_flags(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	conn_data(c, DONE | 0x8ffe, r->cookie, r->offset_bytes,
		  r->length_bytes);
	return true;
}

static bool chunk_length(struct conn *c, const struct proto_request *r)
{
	if (!is_chunked_read(c, r))
		return false;
	conn_chunk(c, DONE, NBD_REPLY_TYPE_OFFSET_DATA, r->cookie,
		   (uint32_t)c->number);
	conn_hang(c);
}

static bool data_for_flush(struct conn *c, const struct proto_request *r)
{
	if (!c->structured || r->command == NBD_CMD_READ)
		return false;
	conn_data(c, DONE, r->cookie, 0, 512);
	return true;
}

static bool structured_always(struct conn *c, const struct proto_request *r)
{
	if (!c->structured || r->command == NBD_CMD_READ)
		return false;
	if (r->command == NBD_CMD_WRITE_ZEROES)
		memset(c->disk + r->offset_bytes, 0, r->length_bytes);
	conn_chunk(c, DONE, NBD_REPLY_TYPE_NONE, r->cookie, 0);
	return true;
}

#define B(name, help, hook) { name, help, NULL, NULL, hook }

const struct behaviour reply_behaviours[] = {
	B("never-answer", "after the first N requests", never_answer),
	B("late", "each answer N ms (1000) late", late),
	B("close-after", "N requests", close_after),
	B("half-reply", "after N requests, then nothing", half_reply),
	B("half-data", "closes where the data of a chunk begin", half_data),
	B("reverse", "answers N (4) at a time, last first", reverse),
	B("error", "=N to every request", error),
	B("eshutdown", "after N requests", eshutdown),
	B("error-text", "an error with escapes, NUL and no UTF-8", error_text),
	B("error-text-long", "an error with 64 KiB of text", error_text_long),
	B("error-text-overrun", "text that exceeds its chunk",
	  error_text_overrun),
	B("error-offset", "data, then an error inside them", error_offset),
	B("error-with-payload", "simple error followed by data",
	  error_with_payload),
	B("unknown-error-chunk", "an error type nobody knows",
	  unknown_error_chunk),
	B("unknown-cookie", "after N requests", unknown_cookie),
	B("duplicate", "each answer twice", duplicate),
	B("bad-magic", "zeroes as a reply, after N requests", bad_magic),
	B("chunks", "pieces of N (512), last first, with holes", chunks),
	B("tiny-chunks", "a chunk for each byte", tiny_chunks),
	B("comb", "even bytes first, then odd ones", comb),
	B("overlap", "two chunks overlap by a byte", overlap),
	B("gap", "the last byte is missing", gap),
	B("out-of-range", "a hole beyond the request", out_of_range),
	B("wrap", "a hole at the end of 64 bits", wrap),
	B("zero-hole", "a hole of no bytes", zero_hole),
	B("no-done", "all data, no DONE", no_done),
	B("none-without-done", "NONE that is not the last", none_without_done),
	B("chunk-after-done", "one more after the last", chunk_after_done),
	B("simple-read", "simple reply to a read", simple_read),
	B("uninvited-chunks", "NONE chunks to everything", uninvited_chunks),
	B("unknown-chunk", "a content type nobody knows", unknown_chunk),
	B("unknown-reply-flags", "flags that must be ignored",
	  unknown_reply_flags),
	B("chunk-length", "=N announced for a chunk of data", chunk_length),
	B("data-for-flush", "data to what has none", data_for_flush),
	B("structured-always", "chunks also to writes and flushes",
	  structured_always),
	{ NULL, NULL, NULL, NULL, NULL },
};
