/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: the negotiation.  The first byte says what we want, the second
 * one into which pieces the rest is cut, which is what a server sends.  What is
 * accepted must be usable, what is not must have a reason, and no state may be
 * without an answer to silence, closing or more bytes.
 */
#include <string.h>

#include "common/check.h"
#include "common/text.h"
#include "nbd-client/handshake.h"
#include "tests/fuzz/fuzz.h"

#define GREETING "NBDMAGICIHAVEOPT\0\3"
#define REPLY "\0\3\350\211\4\125\145\251"
#define SR_ACK REPLY "\0\0\0\10\0\0\0\1\0\0\0\0"
#define GO_ACK REPLY "\0\0\0\7\0\0\0\1\0\0\0\0"
#define GO_EXPORT                                                              \
	REPLY "\0\0\0\7\0\0\0\3\0\0\0\14\0\0\0\0\0\0\0\20\0\0\0\15"
#define GO_SIZES                                                               \
	REPLY "\0\0\0\7\0\0\0\3\0\0\0\16\0\3\0\0\2\0\0\0\20\0\0\20\0\0"
#define GO_NAME REPLY "\0\0\0\7\0\0\0\3\0\0\0\6\0\1disk"
#define LIST_ENTRY REPLY "\0\0\0\3\0\0\0\2\0\0\0\12\0\0\0\4diskhd"
#define LIST_ACK REPLY "\0\0\0\3\0\0\0\1\0\0\0\0"
#define SEED(text) { text, sizeof(text) - 1 }

const struct fuzz_seed fuzz_seeds[] = {
	SEED("\0\0" GREETING SR_ACK GO_EXPORT GO_SIZES GO_NAME GO_ACK),
	SEED("\0\7" GREETING SR_ACK REPLY "\0\0\0\7\200\0\0\1\0\0\0\0"
	     "\0\0\0\0\0\20\0\0\0\1"),
	SEED("\1\3" GREETING REPLY "\0\0\0\10\200\0\0\1\0\0\0\0" REPLY
	     "\0\0\0\6\200\0\0\6\0\0\0\4nope"),
	SEED("\2\5" GREETING LIST_ENTRY LIST_ENTRY LIST_ACK),
	SEED("\4\1" GREETING REPLY "\0\0\0\5\0\0\0\1\0\0\0\0" SR_ACK GO_EXPORT
	     GO_ACK),
	SEED("\0\2NBDMAGICIHAVEOPT\0\0\0\0\0\0\0\20\0\0\0\1"),
	SEED("\0\2NBDMAGIC\0\0\102\2\201\206\22\123"),
	SEED("\40\2" GREETING GO_EXPORT GO_ACK),
};
const size_t fuzz_seeds_count = sizeof(fuzz_seeds) / sizeof(fuzz_seeds[0]);

static void on_entry(void *arg, const struct handshake_entry *e)
{
	size_t *sum = arg;

	CHECK(e->name_bytes <= NBD_STRING_MAX);
	CHECK(e->description_bytes <= NBD_STRING_MAX);
	/* Touch every byte, for the address sanitizer. */
	for (size_t i = 0; i < e->name_bytes; i++)
		*sum += (uint8_t)e->name[i];
	for (size_t i = 0; i < e->description_bytes; i++)
		*sum += (uint8_t)e->description[i];
}

static void check_end(const struct handshake *hs)
{
	const struct export_info *x = &hs->info;

	if (handshake_status(hs) == HANDSHAKE_FAILED) {
		CHECK(hs->err.exit_code != EXIT_OK && hs->err.error > 0);
		CHECK(hs->err.text[0] != '\0');
		CHECK(text_is_utf8(hs->err.text, strlen(hs->err.text)));
		CHECK(strpbrk(hs->err.text, "\n\r\033") == NULL);
	}
	if (handshake_status(hs) != HANDSHAKE_DONE ||
	    hs->params.goal != HANDSHAKE_GO)
		return;
	CHECK(hs->err.exit_code == EXIT_OK);
	CHECK(x->size_bytes > 0 && x->size_bytes <= INT64_MAX);
	CHECK(x->flags & NBD_FLAG_HAS_FLAGS);
	CHECK(x->block_min > 0 && (x->block_min & (x->block_min - 1)) == 0);
	CHECK(x->block_pref >= x->block_min && x->block_max >= x->block_pref);
	CHECK(memchr(x->name, '\0', sizeof(x->name)) != NULL);
	CHECK(memchr(x->description, '\0', sizeof(x->description)) != NULL);
}

/* Everything we have to say leaves at once; TLS succeeds. */
static void drain(struct handshake *hs)
{
	size_t bytes;

	for (;;) {
		handshake_output(hs, &bytes);
		if (bytes > 0)
			handshake_sent(hs, bytes);
		else if (handshake_status(hs) == HANDSHAKE_WANTS_TLS)
			handshake_tls_started(hs);
		else
			return;
	}
}

static void play(struct handshake *hs, uint8_t wish, size_t piece,
		 const uint8_t *data, size_t bytes)
{
	size_t sum = 0;
	const struct handshake_params params = {
		.goal = (enum handshake_goal)((wish & 3) % 3),
		.tls = (enum handshake_tls)((wish >> 2 & 3) % 3),
		.no_go = wish & 0x10,
		.no_structured = wish & 0x20,
		.list_max = wish & 0x40 ? 2 : 0,
		.export_name = wish & 0x80 ? "" : "disk",
		.on_entry = on_entry,
		.arg = &sum,
	};

	CHECK(handshake_init(hs, &params, NULL) == 0);
	/*
	 * A byte at a time lets us speak wherever it is our turn; larger
	 * pieces may come too early, and must not do more harm than that.
	 */
	for (size_t at = 0; at < bytes && !handshake_ended(hs); at += piece) {
		drain(hs);
		handshake_feed(hs, data + at,
			       bytes - at < piece ? bytes - at : piece);
	}
	drain(hs);
	check_end(hs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct handshake hs, ended;

	if (bytes < 2 || bytes > FUZZ_INPUT_MAX)
		return 0;
	play(&hs, data[0], 1, data + 2, bytes - 2);
	play(&hs, data[0], (size_t)data[1] + 1, data + 2, bytes - 2);
	/* Whatever the state is, it answers the rest of the world too. */
	ended = hs;
	handshake_closed(&ended);
	drain(&ended);
	check_end(&ended);
	handshake_timed_out(&hs, 1000);
	drain(&hs);
	check_end(&hs);
	handshake_feed(&hs, data, bytes);
	drain(&hs);
	handshake_closed(&hs);
	handshake_timed_out(&hs, 1000);
	check_end(&hs);
	CHECK(handshake_ended(&hs) && handshake_ended(&ended));
	return 0;
}
