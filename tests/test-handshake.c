/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the negotiation with servers that keep the protocol: each MUST and
 * SHOULD for a client, and all goals.  Every script is split at every byte.
 * Servers that refuse, and TLS, are in test-handshake-refused.c; ill ones in
 * test-handshake-hostile.c.
 */
#include "tests/script_case.h"

/* ---- NBD_OPT_GO ---- */

static void go_with_everything(void **state)
{
	static const uint8_t data[] = {
		0, 0, 0, 4, 'd', 'i', 's', 'k', 0, 3, 0, 3, 0, 1, 0, 2,
	};

	(void)state;
	start(NBD_REP_ACK);
	script_info_string(&s, NBD_OPT_GO, NBD_INFO_NAME, "canon", 5);
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	script_info_sizes(&s, NBD_OPT_GO, 4096, 8192, 65536);
	script_info_string(&s, NBD_OPT_GO, NBD_INFO_DESCRIPTION, "a disk", 6);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	play(&go);
	assert_done();
	assert_int_equal(hs.info.size_bytes, SIZE);
	assert_int_equal(hs.info.flags, FLAGS);
	assert_true(hs.info.structured);
	assert_true(hs.info.block_sizes_given);
	assert_int_equal(hs.info.block_min, 4096);
	assert_int_equal(hs.info.block_pref, 8192);
	assert_int_equal(hs.info.block_max, 65536);
	assert_string_equal(hs.info.name, "canon");
	assert_string_equal(hs.info.description, "a disk");
	assert_false(hs.info.by_export_name);
	assert_false(hs.info.tls);
	assert_false(said.disc);
	SAID(NBD_OPT_STRUCTURED_REPLY, NBD_OPT_GO);
	/* STRUCTURED_REPLY: the client must not send data with it. */
	assert_int_equal(said.options[0].bytes, 0);
	/* GO: block sizes are asked for, and nothing twice. */
	assert_int_equal(said.options[1].bytes, sizeof(data));
	assert_memory_equal(said.options[1].data, data, sizeof(data));
}

static void go_with_the_minimum(void **state)
{
	(void)state;
	start(NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	play(&go);
	assert_done();
	/* Unadvertised: 512, 4096, 32 MiB. */
	assert_false(hs.info.block_sizes_given);
	assert_int_equal(hs.info.block_min, 512);
	assert_int_equal(hs.info.block_pref, 4096);
	assert_int_equal(hs.info.block_max, 33554432);
	assert_string_equal(hs.info.name, "");
	assert_string_equal(hs.info.description, "");
}

/* "MUST ignore information types that it does not recognize", in any order. */
static void unknown_infos_are_ignored(void **state)
{
	static char big[20000];

	(void)state;
	start(NBD_REP_ACK);
	script_info_string(&s, NBD_OPT_GO, 0x7777, "", 0);
	script_info_string(&s, NBD_OPT_GO, 0x7777, "surprise", 8);
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	script_info_string(&s, NBD_OPT_GO, 0xffff, "surprise", 8);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	play(&go);
	assert_done();
	assert_int_equal(hs.info.size_bytes, SIZE);

	/* One that is larger than any that we know. */
	start(NBD_REP_ACK);
	script_info_string(&s, NBD_OPT_GO, 4, big, sizeof(big));
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	script_play_whole(&s, &go, &hs, &said);
	assert_done();
}

static void repeated_infos_may_agree(void **state)
{
	(void)state;
	start(NBD_REP_ACK);
	for (int i = 0; i < 2; i++) {
		script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
		script_info_sizes(&s, NBD_OPT_GO, 1, 4096, 65536);
	}
	answer(NBD_OPT_GO, NBD_REP_ACK);
	play(&go);
	assert_done();
}

/* "Clients SHOULD ignore unknown flags", of both kinds. */
static void unknown_flags_are_ignored(void **state)
{
	(void)state;
	script_start(&s);
	script_greeting(&s, 0xffff);
	script_reply(&s, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_UNSUP, NULL, 0);
	script_turn(&s);
	script_info_export(&s, NBD_OPT_GO, SIZE, 0xffff);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	play(&go);
	assert_done();
	/* "Clients MUST NOT set any other flags" */
	assert_int_equal(said.client_flags, NBD_FLAG_C_FIXED_NEWSTYLE |
					    NBD_FLAG_C_NO_ZEROES);
	/* known ones without DF, which needs structured replies */
	assert_int_equal(hs.info.flags, 0x0d7f);
	assert_false(hs.info.structured);
}

/* NO_ZEROES "MUST NOT be set if the server did not set" its own. */
static void client_flags_answer_the_offer(void **state)
{
	(void)state;
	for (uint16_t offer = 0; offer < 4; offer++) {
		script_start(&s);
		script_greeting(&s, offer);
		play(&go);
		assert_true(said.greeted);
		assert_int_equal(said.client_flags, offer);
	}
}

/* An error to STRUCTURED_REPLY is no reason to stop. */
static void structured_replies_are_optional(void **state)
{
	static const uint32_t errors[] = {
		NBD_REP_ERR_UNSUP, NBD_REP_ERR_POLICY, NBD_REP_ERR_INVALID,
		NBD_REP_ERR_PLATFORM, NBD_REP_ERR(99),
	};
	const struct handshake_params without = {
		.goal = HANDSHAKE_GO, .no_structured = true,
	};

	(void)state;
	for (size_t i = 0; i < COUNT(errors); i++) {
		start(errors[i]);
		script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
		answer(NBD_OPT_GO, NBD_REP_ACK);
		play(&go);
		assert_done();
		assert_false(hs.info.structured);
	}
	script_start(&s);
	script_greeting(&s, FIXED);
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	play(&without);
	assert_done();
	SAID(NBD_OPT_GO);
	/* the default export: an empty name */
	assert_memory_equal(said.options[0].data, "\0\0\0\0\0\3", 6);
}

/* ---- NBD_OPT_EXPORT_NAME ---- */

static void fallback_when_go_is_unknown(void **state)
{
	(void)state;
	start(NBD_REP_ERR_UNSUP);
	answer(NBD_OPT_GO, NBD_REP_ERR_UNSUP);
	script_export_name(&s, SIZE, FLAGS, 0);
	play(&go);
	assert_done();
	SAID(NBD_OPT_STRUCTURED_REPLY, NBD_OPT_GO, NBD_OPT_EXPORT_NAME);
	assert_int_equal(said.options[2].bytes, 4);
	assert_memory_equal(said.options[2].data, "disk", 4);
	assert_int_equal(hs.info.size_bytes, SIZE);
	assert_int_equal(hs.info.flags, FLAGS & ~NBD_FLAG_SEND_DF);
	assert_true(hs.info.by_export_name);
}

/* What an error ended is forgotten; structured replies stay negotiated. */
static void fallback_forgets_the_infos(void **state)
{
	(void)state;
	start(NBD_REP_ACK);
	script_info_sizes(&s, NBD_OPT_GO, 4096, 8192, 65536);
	script_info_string(&s, NBD_OPT_GO, NBD_INFO_NAME, "canon", 5);
	answer(NBD_OPT_GO, NBD_REP_ERR_UNSUP);
	script_export_name(&s, SIZE, FLAGS, 0);
	play(&go);
	assert_done();
	assert_true(hs.info.structured);
	assert_false(hs.info.block_sizes_given);
	assert_int_equal(hs.info.block_min, 512);
	assert_string_equal(hs.info.name, "");
}

/* The 124 bytes come unless both sides have said NO_ZEROES. */
static void zeroes_are_read_where_due(void **state)
{
	(void)state;
	for (int fixed = 0; fixed < 2; fixed++) {
		script_start(&s);
		script_greeting(&s, fixed ? NBD_FLAG_FIXED_NEWSTYLE : 0);
		if (fixed) {
			answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_UNSUP);
			answer(NBD_OPT_GO, NBD_REP_ERR_UNSUP);
		}
		script_export_name(&s, SIZE, FLAGS, 124);
		play(&go);
		assert_done();
		assert_int_equal(hs.info.size_bytes, SIZE);
		/* one less, and it is not over */
		s.turn_end[s.turns - 1]--;
		s.used--;
		play(&go);
		assert_int_equal(handshake_status(&hs), HANDSHAKE_RUNNING);
	}
}

/* Non-fixed newstyle: EXPORT_NAME is the only option, NO_ZEROES may hold. */
static void not_fixed_newstyle(void **state)
{
	(void)state;
	script_start(&s);
	script_greeting(&s, NBD_FLAG_NO_ZEROES);
	script_export_name(&s, SIZE, FLAGS, 0);
	play(&go);
	assert_done();
	SAID(NBD_OPT_EXPORT_NAME);
	assert_int_equal(said.client_flags, NBD_FLAG_C_NO_ZEROES);

	script_start(&s);
	script_greeting(&s, NBD_FLAG_NO_ZEROES);
	play(&list);
	assert_failed(X_REFUSED, EOPNOTSUPP, "too old");
	/* nothing but EXPORT_NAME may be said, so nothing is */
	assert_int_equal(said.count, 0);
}

static void no_go_when_told_so(void **state)
{
	const struct handshake_params params = {
		.goal = HANDSHAKE_GO, .no_go = true, .export_name = "disk",
	};

	(void)state;
	script_start(&s);
	script_greeting(&s, FIXED);
	script_export_name(&s, SIZE, FLAGS, 0);
	play(&params);
	assert_done();
	SAID(NBD_OPT_EXPORT_NAME);
}

/* EXPORT_NAME has no error: a server that is unwilling closes. */
static void export_name_refused(void **state)
{
	(void)state;
	script_start(&s);
	script_greeting(&s, 0);
	s.then = SCRIPT_THEN_CLOSE;
	play(&go);
	assert_failed(X_REFUSED, ENOENT, "'disk'");
}

/* ---- NBD_OPT_INFO and NBD_OPT_LIST: leave politely ---- */

static void info_leaves_with_abort(void **state)
{
	(void)state;
	start(NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_INFO, SIZE, FLAGS);
	answer(NBD_OPT_INFO, NBD_REP_ACK);
	for (int way = 0; way < 4; way++) {
		/* answered, closed, nothing; or more than an answer */
		if (way == 0)
			answer(NBD_OPT_ABORT, NBD_REP_ACK);
		else if (way == 3)
			script_reply(&s, NBD_OPT_ABORT, NBD_REP_ACK, "more", 4);
		s.then = way == 1 ? SCRIPT_THEN_CLOSE
			 : way == 2 ? SCRIPT_THEN_TIMEOUT
				    : SCRIPT_THEN_NOTHING;
		if (way == 3)
			script_turn(&s);
		play(&info);
		assert_done();
		assert_int_equal(hs.info.size_bytes, SIZE);
		SAID(NBD_OPT_STRUCTURED_REPLY, NBD_OPT_INFO, NBD_OPT_ABORT);
		assert_int_equal(said.options[2].bytes, 0);
		if (way == 0) {
			s.turns--;
			s.used = s.turn_end[s.turns - 1];
		}
	}
}

/* An old server can be asked too: EXPORT_NAME, then a soft disconnect. */
static void info_from_an_old_server(void **state)
{
	(void)state;
	start(NBD_REP_ERR_UNSUP);
	answer(NBD_OPT_INFO, NBD_REP_ERR_UNSUP);
	script_export_name(&s, SIZE, FLAGS, 0);
	play(&info);
	assert_done();
	SAID(NBD_OPT_STRUCTURED_REPLY, NBD_OPT_INFO, NBD_OPT_EXPORT_NAME);
	assert_true(said.disc);
	assert_int_equal(hs.info.size_bytes, SIZE);
}

/* Some know the size only when asked with GO; then the way out is DISC. */
static void info_that_says_no_size(void **state)
{
	(void)state;
	start(NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_INFO, 0, FLAGS);
	answer(NBD_OPT_INFO, NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	play(&info);
	assert_done();
	SAID(NBD_OPT_STRUCTURED_REPLY, NBD_OPT_INFO, NBD_OPT_GO);
	assert_true(said.disc);
	assert_int_equal(hs.info.size_bytes, SIZE);
}

/* An export of no size is worth knowing about, but cannot be attached. */
static void empty_exports(void **state)
{
	(void)state;
	start(NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_INFO, 0, FLAGS);
	answer(NBD_OPT_INFO, NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_GO, 0, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	play(&info);
	assert_done();
	assert_true(said.disc);
	assert_int_equal(hs.info.size_bytes, 0);

	start(NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_GO, 0, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	play(&go);
	assert_failed(X_REFUSED, ENOSPC, "0 bytes");
	/* transmission has begun, so the way out is NBD_CMD_DISC */
	assert_true(said.disc);

	/* smaller than a block */
	start(NBD_REP_ACK);
	script_info_sizes(&s, NBD_OPT_GO, 4096, 4096, 65536);
	script_info_export(&s, NBD_OPT_GO, 4095, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	play(&go);
	assert_failed(X_REFUSED, ENOSPC, "less than a block of 4096");
	assert_true(said.disc);

	/* a last block that is not whole is usable up to there */
	start(NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_GO, 1000, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	play(&go);
	assert_done();
	assert_int_equal(hs.info.size_bytes, 1000);
}

struct entries {
	unsigned int count;
	char text[8][40];
};

static void on_entry(void *arg, const struct handshake_entry *entry)
{
	struct entries *e = arg;
	char *to = e->text[e->count++ % 8];

	assert_true(entry->name_bytes + entry->description_bytes < 38);
	memcpy(to, entry->name, entry->name_bytes);
	to += entry->name_bytes;
	*to++ = '|';
	memcpy(to, entry->description, entry->description_bytes);
	to[entry->description_bytes] = '\0';
}

static void list_of_exports(void **state)
{
	struct entries entries = { 0 };
	const struct handshake_params params = {
		.goal = HANDSHAKE_LIST, .on_entry = on_entry, .arg = &entries,
	};

	(void)state;
	script_start(&s);
	script_greeting(&s, FIXED);
	script_entry(&s, "one", "");
	script_entry(&s, "", "the default");
	script_entry(&s, "two", "2nd");
	answer(NBD_OPT_LIST, NBD_REP_ACK);
	answer(NBD_OPT_ABORT, NBD_REP_ACK);
	script_play_whole(&s, &params, &hs, &said);
	assert_done();
	assert_int_equal(entries.count, 3);
	assert_string_equal(entries.text[0], "one|");
	assert_string_equal(entries.text[1], "|the default");
	assert_string_equal(entries.text[2], "two|2nd");
	/* LIST: "the client MUST NOT send any additional data" */
	SAID(NBD_OPT_LIST, NBD_OPT_ABORT);
	assert_int_equal(said.options[0].bytes, 0);
	play(&params);
	assert_done();
	play(&list);
	assert_done();

	script_start(&s);
	script_greeting(&s, FIXED);
	answer(NBD_OPT_LIST, NBD_REP_ACK);
	s.then = SCRIPT_THEN_CLOSE;
	play(&list);
	assert_done();
}

/* ---- The machine itself ---- */

static void nothing_is_kept_between_connections(void **state)
{
	(void)state;
	start(NBD_REP_ACK);
	script_info_sizes(&s, NBD_OPT_GO, 4096, 8192, 65536);
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	play(&go);
	assert_done();
	start(NBD_REP_ERR_UNSUP);
	script_info_export(&s, NBD_OPT_GO, SIZE / 2, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	play(&go);
	assert_done();
	assert_false(hs.info.structured);
	assert_false(hs.info.block_sizes_given);
	assert_int_equal(hs.info.size_bytes, SIZE / 2);
}

static void longest_name(void **state)
{
	static char name[NBD_STRING_MAX + 2];
	struct handshake_params params = { .goal = HANDSHAKE_GO,
					   .export_name = name };
	struct err err;

	(void)state;
	memset(name, 'n', NBD_STRING_MAX);
	start(NBD_REP_ERR_UNSUP);
	answer(NBD_OPT_GO, NBD_REP_ERR_UNSUP);
	script_export_name(&s, SIZE, FLAGS, 0);
	script_play_whole(&s, &params, &hs, &said);
	assert_done();
	assert_int_equal(get_be32(said.options[1].data), NBD_STRING_MAX);
	assert_int_equal(said.options[2].bytes, NBD_STRING_MAX);
	name[NBD_STRING_MAX] = 'n';
	assert_int_equal(handshake_init(&hs, &params, &err), -ENAMETOOLONG);
	assert_int_equal(err.exit_code, X_USAGE);
}

/* Each option is a step of its own; a reply in pieces is not. */
static void steps(void **state)
{
	unsigned int step;

	(void)state;
	assert_int_equal(handshake_init(&hs, &info, NULL), 0);
	step = handshake_step(&hs);
	start(NBD_REP_ACK);
	handshake_feed(&hs, s.bytes, 17);
	assert_int_equal(handshake_step(&hs), step);
	assert_string_equal(handshake_waiting_for(&hs),
			    "the server's greeting");
	handshake_feed(&hs, s.bytes + 17, 1);
	assert_int_not_equal(handshake_step(&hs), step);
	assert_string_equal(handshake_waiting_for(&hs),
			    "the answer to STRUCTURED_REPLY");
	assert_false(handshake_leaving(&hs));
	step = handshake_step(&hs);
	handshake_sent(&hs, 4 + 16);
	handshake_feed(&hs, s.bytes + 18, 19);
	assert_int_equal(handshake_step(&hs), step);
	handshake_feed(&hs, s.bytes + 37, 1);
	assert_int_not_equal(handshake_step(&hs), step);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(go_with_everything),
		cmocka_unit_test(go_with_the_minimum),
		cmocka_unit_test(unknown_infos_are_ignored),
		cmocka_unit_test(repeated_infos_may_agree),
		cmocka_unit_test(unknown_flags_are_ignored),
		cmocka_unit_test(client_flags_answer_the_offer),
		cmocka_unit_test(structured_replies_are_optional),
		cmocka_unit_test(fallback_when_go_is_unknown),
		cmocka_unit_test(fallback_forgets_the_infos),
		cmocka_unit_test(zeroes_are_read_where_due),
		cmocka_unit_test(not_fixed_newstyle),
		cmocka_unit_test(no_go_when_told_so),
		cmocka_unit_test(export_name_refused),
		cmocka_unit_test(info_leaves_with_abort),
		cmocka_unit_test(info_from_an_old_server),
		cmocka_unit_test(info_that_says_no_size),
		cmocka_unit_test(empty_exports),
		cmocka_unit_test(list_of_exports),
		cmocka_unit_test(nothing_is_kept_between_connections),
		cmocka_unit_test(longest_name),
		cmocka_unit_test(steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
