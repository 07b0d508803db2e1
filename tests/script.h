/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a server says in a negotiation, written down piece by piece, and a
 * client machine that it is played to: whole, byte by byte, and split at every
 * byte, always with the same result.  For test-handshake*.c.
 */
#ifndef NBD_TEST_SCRIPT_H
#define NBD_TEST_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd-client/handshake.h"

#define SCRIPT_BYTES 300000
#define SCRIPT_TURNS 16
#define SAID_OPTIONS 16

/* Bytes of the server, in turns: each follows what the client has to say. */
struct script {
	uint8_t bytes[SCRIPT_BYTES];
	size_t used;
	size_t turn_end[SCRIPT_TURNS];
	size_t turns;
	enum {
		SCRIPT_THEN_NOTHING,
		SCRIPT_THEN_CLOSE,
		SCRIPT_THEN_TIMEOUT,
	} then;
};

/* What the client has said, taken apart. */
struct said {
	uint32_t client_flags;
	bool greeted;			/* client flags were sent */
	size_t count;
	struct {
		uint32_t option;
		uint32_t bytes;
		uint8_t data[NBD_STRING_MAX + 100];
	} options[SAID_OPTIONS];
	bool disc;			/* NBD_CMD_DISC, and nothing after */
};

void script_start(struct script *s);
void script_put(struct script *s, const void *src, size_t bytes);
/* The server waits for the client here. */
void script_turn(struct script *s);

void script_greeting(struct script *s, uint16_t flags);
void script_reply(struct script *s, uint32_t option, uint32_t type,
		  const void *data, uint32_t bytes);
/* A head that announces any length, and nothing else. */
void script_reply_head(struct script *s, uint32_t option, uint32_t type,
		       uint32_t bytes);
void script_info_export(struct script *s, uint32_t option, uint64_t size,
			uint16_t flags);
void script_info_sizes(struct script *s, uint32_t option, uint32_t min,
		       uint32_t pref, uint32_t max);
void script_info_string(struct script *s, uint32_t option, uint16_t info,
			const char *text, uint32_t bytes);
void script_entry(struct script *s, const char *name, const char *description);
/* Reply to NBD_OPT_EXPORT_NAME. */
void script_export_name(struct script *s, uint64_t size, uint16_t flags,
			size_t zeroes);

/* An option reply without data that ends a turn. */
void script_answer(struct script *s, uint32_t option, uint32_t type);
/* A new script: the greeting of a fixed newstyle server. */
void script_hello(struct script *s);
/* The same, with an answer to STRUCTURED_REPLY. */
void script_hello_structured(struct script *s, uint32_t answer);

/*
 * Plays all of it in every way; the last result is in *hs, and what the client
 * said in *ret_said.
 */
void script_play(const struct script *s, const struct handshake_params *params,
		 struct handshake *hs, struct said *ret_said);
/* Once, in one piece for each turn. */
void script_play_whole(const struct script *s,
		       const struct handshake_params *params,
		       struct handshake *hs, struct said *ret_said);

/* How it must have ended. */
void script_assert_done(const struct handshake *hs);
void script_assert_failed(const struct handshake *hs, int exit_code, int error,
			  const char *mentions);
void script_assert_said(const struct said *said, size_t count,
			const uint32_t *options);
#define SCRIPT_SAID(said, ...)                                                 \
	script_assert_said(said,                                               \
			   sizeof((const uint32_t[]){ __VA_ARGS__ }) /         \
				   sizeof(uint32_t),                           \
			   (const uint32_t[]){ __VA_ARGS__ })

#endif
