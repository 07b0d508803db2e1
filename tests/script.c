/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scripts of a server in a negotiation.  Single-threaded test code. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "common/proto.h"
#include "tests/script.h"

#define TALK_BYTES 65536

/* ---- Writing a script ---- */

void script_start(struct script *s)
{
	s->used = 0;
	s->turns = 0;
	s->then = SCRIPT_THEN_NOTHING;
}

void script_put(struct script *s, const void *src, size_t bytes)
{
	assert_true(bytes <= sizeof(s->bytes) - s->used);
	if (bytes > 0)
		memcpy(s->bytes + s->used, src, bytes);
	s->used += bytes;
}

void script_turn(struct script *s)
{
	assert_true(s->turns < SCRIPT_TURNS);
	s->turn_end[s->turns++] = s->used;
}

void script_greeting(struct script *s, uint16_t flags)
{
	uint8_t b[18];

	put_be64(b, NBD_MAGIC);
	put_be64(b + 8, NBD_OPTS_MAGIC);
	put_be16(b + 16, flags);
	script_put(s, b, sizeof(b));
	script_turn(s);
}

void script_reply_head(struct script *s, uint32_t option, uint32_t type,
		       uint32_t bytes)
{
	const struct proto_option_reply r = { option, type, bytes };
	uint8_t b[sizeof(struct nbd_option_reply)];

	proto_put_option_reply(b, &r);
	script_put(s, b, sizeof(b));
}

void script_reply(struct script *s, uint32_t option, uint32_t type,
		  const void *data, uint32_t bytes)
{
	script_reply_head(s, option, type, bytes);
	script_put(s, data, bytes);
}

void script_info_export(struct script *s, uint32_t option, uint64_t size,
			uint16_t flags)
{
	uint8_t b[12];

	put_be16(b, NBD_INFO_EXPORT);
	put_be64(b + 2, size);
	put_be16(b + 10, flags);
	script_reply(s, option, NBD_REP_INFO, b, sizeof(b));
}

void script_info_sizes(struct script *s, uint32_t option, uint32_t min,
		       uint32_t pref, uint32_t max)
{
	uint8_t b[14];

	put_be16(b, NBD_INFO_BLOCK_SIZE);
	put_be32(b + 2, min);
	put_be32(b + 6, pref);
	put_be32(b + 10, max);
	script_reply(s, option, NBD_REP_INFO, b, sizeof(b));
}

void script_info_string(struct script *s, uint32_t option, uint16_t info,
			const char *text, uint32_t bytes)
{
	uint8_t b[2];

	put_be16(b, info);
	script_reply_head(s, option, NBD_REP_INFO, 2 + bytes);
	script_put(s, b, sizeof(b));
	script_put(s, text, bytes);
}

void script_entry(struct script *s, const char *name, const char *description)
{
	uint32_t bytes = (uint32_t)strlen(name);
	uint8_t b[4];

	put_be32(b, bytes);
	script_reply_head(s, NBD_OPT_LIST, NBD_REP_SERVER,
			  4 + bytes + (uint32_t)strlen(description));
	script_put(s, b, sizeof(b));
	script_put(s, name, bytes);
	script_put(s, description, strlen(description));
}

void script_export_name(struct script *s, uint64_t size, uint16_t flags,
			size_t zeroes)
{
	uint8_t b[10 + 124] = { 0 };

	put_be64(b, size);
	put_be16(b + 8, flags);
	assert_true(zeroes <= 124);
	script_put(s, b, 10 + zeroes);
	script_turn(s);
}

void script_answer(struct script *s, uint32_t option, uint32_t type)
{
	script_reply(s, option, type, NULL, 0);
	script_turn(s);
}

void script_hello(struct script *s)
{
	script_start(s);
	script_greeting(s, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

void script_hello_structured(struct script *s, uint32_t answer)
{
	script_hello(s);
	script_answer(s, NBD_OPT_STRUCTURED_REPLY, answer);
}

/* ---- Playing it ---- */

/* Every byte that the client has sent. */
struct talk {
	size_t used;
	uint8_t bytes[TALK_BYTES];
};

/* Sends a byte, then the rest: the output resumes too. */
static void drain(struct handshake *hs, struct talk *talk)
{
	for (size_t round = 0;; round++) {
		size_t bytes;
		const uint8_t *out = handshake_output(hs, &bytes);

		if (bytes == 0)
			return;
		if (round == 0)
			bytes = 1;
		assert_true(bytes <= sizeof(talk->bytes) - talk->used);
		memcpy(talk->bytes + talk->used, out, bytes);
		talk->used += bytes;
		handshake_sent(hs, bytes);
	}
}

/* Bytes in pieces of at most `piece`, and never across `split`. */
static void play_split(const struct script *s,
		       const struct handshake_params *params, size_t split,
		       size_t piece, struct handshake *hs, struct talk *talk)
{
	size_t at = 0;

	talk->used = 0;
	assert_int_equal(handshake_init(hs, params, NULL), 0);
	for (size_t turn = 0; turn < s->turns; turn++) {
		drain(hs, talk);
		if (handshake_status(hs) == HANDSHAKE_WANTS_TLS)
			handshake_tls_started(hs);
		drain(hs, talk);
		while (at < s->turn_end[turn]) {
			size_t n = s->turn_end[turn] - at;

			if (at < split && at + n > split)
				n = split - at;
			if (n > piece)
				n = piece;
			handshake_feed(hs, s->bytes + at, n);
			at += n;
		}
	}
	drain(hs, talk);
	if (s->then == SCRIPT_THEN_CLOSE)
		handshake_closed(hs);
	else if (s->then == SCRIPT_THEN_TIMEOUT)
		handshake_timed_out(hs, 10000);
	drain(hs, talk);
}

static void take_apart(const struct talk *talk, struct said *said)
{
	const uint8_t *at = talk->bytes;
	const uint8_t *end = at + talk->used;

	memset(said, 0, sizeof(*said));
	if (at == end)
		return;
	assert_true(end - at >= 4);
	said->client_flags = get_be32(at);
	said->greeted = true;
	at += 4;
	while (at < end) {
		struct proto_request r;
		uint32_t bytes;

		if (end - at == sizeof(struct nbd_request) &&
		    proto_get_request(&r, at) == 0) {
			assert_int_equal(r.command, NBD_CMD_DISC);
			assert_int_equal(r.flags, 0);
			assert_int_equal(r.offset_bytes, 0);
			assert_int_equal(r.length_bytes, 0);
			said->disc = true;
			return;
		}
		assert_true(end - at >= 16);
		assert_true(get_be64(at) == NBD_OPTS_MAGIC);
		assert_true(said->count < SAID_OPTIONS);
		bytes = get_be32(at + 12);
		assert_true(bytes <= sizeof(said->options[0].data));
		assert_true((size_t)(end - at) >= 16 + (size_t)bytes);
		said->options[said->count].option = get_be32(at + 8);
		said->options[said->count].bytes = bytes;
		memcpy(said->options[said->count++].data, at + 16, bytes);
		at += 16 + bytes;
	}
}

static void assert_same_end(const struct handshake *a,
			    const struct handshake *b)
{
	assert_int_equal(handshake_status(a), handshake_status(b));
	assert_int_equal(a->err.exit_code, b->err.exit_code);
	assert_string_equal(a->err.text, b->err.text);
	assert_true(a->info.size_bytes == b->info.size_bytes);
	assert_int_equal(a->info.flags, b->info.flags);
	assert_int_equal(a->info.block_min, b->info.block_min);
	assert_int_equal(a->info.block_max, b->info.block_max);
	assert_int_equal(a->info.structured, b->info.structured);
	assert_string_equal(a->info.name, b->info.name);
	assert_string_equal(a->info.description, b->info.description);
}

void script_play_whole(const struct script *s,
		       const struct handshake_params *params,
		       struct handshake *hs, struct said *ret_said)
{
	static struct talk talk;

	play_split(s, params, 0, SIZE_MAX, hs, &talk);
	take_apart(&talk, ret_said);
}

void script_play(const struct script *s, const struct handshake_params *params,
		 struct handshake *hs, struct said *ret_said)
{
	static struct handshake other;
	static struct talk talk, other_talk;

	play_split(s, params, 0, SIZE_MAX, hs, &talk);
	for (size_t split = 1; split <= s->used; split++) {
		bool all = split == s->used;

		/* The last round: every byte by itself. */
		play_split(s, params, split, all ? 1 : SIZE_MAX, &other,
			   &other_talk);
		assert_same_end(hs, &other);
		assert_int_equal(talk.used, other_talk.used);
		assert_memory_equal(talk.bytes, other_talk.bytes, talk.used);
	}
	take_apart(&talk, ret_said);
}

/* ---- Judging it ---- */

void script_assert_done(const struct handshake *hs)
{
	if (handshake_status(hs) != HANDSHAKE_DONE)
		fail_msg("status %d: %s", handshake_status(hs), hs->err.text);
}

void script_assert_failed(const struct handshake *hs, int exit_code, int error,
			  const char *mentions)
{
	if (handshake_status(hs) != HANDSHAKE_FAILED ||
	    hs->err.exit_code != exit_code || hs->err.error != error ||
	    strstr(hs->err.text, mentions) == NULL)
		fail_msg("status %d, exit %d, errno %d: %s",
			 handshake_status(hs), hs->err.exit_code,
			 hs->err.error, hs->err.text);
}

void script_assert_said(const struct said *said, size_t count,
			const uint32_t *options)
{
	assert_int_equal(said->count, count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(said->options[i].option, options[i]);
}
