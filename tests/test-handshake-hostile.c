/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the negotiation with servers that break the protocol or mean harm:
 * each is left with a message, in bounded memory, and never trips a check.
 */
#include "tests/script_case.h"

static void fails(const struct handshake_params *params, int exit_code,
		  int error, const char *mentions)
{
	play(params);
	assert_failed(exit_code, error, mentions);
}

/* A rule was broken: a hard disconnect, without NBD_OPT_ABORT. */
static void breaks(const struct handshake_params *params, const char *mentions)
{
	fails(params, X_REFUSED, EPROTO, mentions);
	for (size_t i = 0; i < said.count; i++)
		assert_int_not_equal(said.options[i].option, NBD_OPT_ABORT);
	assert_false(said.disc);
}

static void start_list(void)
{
	script_hello(&s);
}

static void end(void)
{
	script_turn(&s);
}

/* ---- The greeting ---- */

static void not_an_nbd_server(void **state)
{
	(void)state;
	script_start(&s);
	script_put(&s, "SSH-2.0-\033[2J\r\n", 14);
	end();
	fails(&go, X_REFUSED, EPROTO, "begins with 'SSH-2.0-'");
	assert_false(said.greeted);
}

static void greetings_that_are_not_newstyle(void **state)
{
	uint8_t b[152] = { 0 };

	(void)state;
	put_be64(b, NBD_MAGIC);
	script_start(&s);
	script_put(&s, b, 18);
	end();
	breaks(&go, "neither newstyle nor oldstyle");

	put_be64(b + 8, NBD_OLDSTYLE_MAGIC);
	put_be64(b + 16, SIZE);
	script_start(&s);
	script_put(&s, b, sizeof(b));
	end();
	fails(&go, X_REFUSED, EPROTONOSUPPORT, "oldstyle");
	assert_false(said.greeted);
}

/* ---- Option replies ---- */

static void wrong_reply_magic(void **state)
{
	(void)state;
	for (size_t i = 0; i < 8; i++) {
		start(NBD_REP_ACK);
		s.bytes[s.used - 20 + i] ^= 0x40;
		breaks(&go, "magic");
	}
}

static void wrong_option_echo(void **state)
{
	(void)state;
	start(NBD_REP_ACK);
	answer(NBD_OPT_LIST, NBD_REP_ACK);
	breaks(&go, "answers option 3 (LIST), asked was GO");

	script_start(&s);
	script_greeting(&s, FIXED);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	breaks(&go, "asked was STRUCTURED_REPLY");
}

/* Types that are no errors and do not belong to the option. */
static void strange_reply_types(void **state)
{
	static const struct {
		const struct handshake_params *params;
		uint32_t option;
		uint32_t type;
	} cases[] = {
		{ &go, NBD_OPT_GO, 0 },
		{ &go, NBD_OPT_GO, NBD_REP_SERVER },
		{ &go, NBD_OPT_GO, NBD_REP_META_CONTEXT },
		{ &go, NBD_OPT_GO, 5 },
		{ &go, NBD_OPT_GO, 0x7fffffff },
		{ &info, NBD_OPT_INFO, 77 },
	};
	static const uint32_t not_for_structured[] = { NBD_REP_INFO, 77 };

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		start(NBD_REP_ACK);
		answer(cases[i].option, cases[i].type);
		breaks(cases[i].params, "reply type");
	}
	start_list();
	answer(NBD_OPT_LIST, NBD_REP_INFO);
	breaks(&list, "reply type 3 (INFO) to option LIST");
	start_list();
	answer(NBD_OPT_LIST, 77);
	breaks(&list, "reply type 77");
	for (size_t i = 0; i < 2; i++) {
		script_start(&s);
		script_greeting(&s, FIXED);
		answer(NBD_OPT_STRUCTURED_REPLY, not_for_structured[i]);
		breaks(&go, "reply type");
	}
}

static void lengths_without_bounds(void **state)
{
	static const uint32_t lengths[] = {
		HANDSHAKE_REPLY_MAX + 1, 0x7fffffff, 0x80000000, UINT32_MAX,
	};
	static const uint32_t types[] = {
		NBD_REP_INFO, NBD_REP_ERR_POLICY, NBD_REP_ERR_UNSUP,
		NBD_REP_META_CONTEXT, 77,
	};

	(void)state;
	for (size_t i = 0; i < COUNT(lengths); i++) {
		for (size_t t = 0; t < COUNT(types); t++) {
			start(NBD_REP_ACK);
			script_reply_head(&s, NBD_OPT_GO, types[t], lengths[i]);
			end();
			breaks(&go, "bytes long");
		}
		start_list();
		script_reply_head(&s, NBD_OPT_LIST, NBD_REP_SERVER,
				  lengths[i]);
		end();
		breaks(&list, "bytes long");
	}
	/* ACK carries no data, to any option */
	start(NBD_REP_ACK);
	script_reply(&s, NBD_OPT_GO, NBD_REP_ACK, "x", 1);
	end();
	breaks(&go, "1 bytes long");
	script_start(&s);
	script_greeting(&s, FIXED);
	script_reply_head(&s, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, UINT32_MAX);
	end();
	breaks(&go, "4294967295 bytes long");
}

/* Too much text is cut, and what is shown does no harm. */
static void hostile_text_of_errors(void **state)
{
	static const char text[] = "\033[2J\0\n\xff\xe2\x80\xae%s%n";
	static char long_text[HANDSHAKE_REPLY_MAX];

	(void)state;
	start(NBD_REP_ACK);
	script_reply(&s, NBD_OPT_GO, NBD_REP_ERR_POLICY, text, sizeof(text));
	end();
	answer(NBD_OPT_ABORT, NBD_REP_ACK);
	fails(&go, X_REFUSED, EACCES,
	      "\\x1b[2J\\x00\\x0a\\xff\\xe2\\x80\\xae%s%n");
	memset(long_text, '\033', sizeof(long_text));
	start(NBD_REP_ACK);
	script_reply(&s, NBD_OPT_GO, NBD_REP_ERR_POLICY, long_text,
		     sizeof(long_text));
	end();
	answer(NBD_OPT_ABORT, NBD_REP_ACK);
	script_play_whole(&s, &go, &hs, &said);
	assert_failed(X_REFUSED, EACCES, "...");
	assert_null(strchr(hs.err.text, '\033'));
	assert_non_null(strstr(hs.err.text, "administrator can allow"));
}

/* ---- Informations ---- */

static void infos_of_wrong_lengths(void **state)
{
	static const uint8_t zeroes[32];

	(void)state;
	for (uint32_t len = 0; len <= 16; len++) {
		static const uint16_t types[] = { NBD_INFO_EXPORT,
						  NBD_INFO_BLOCK_SIZE };

		for (size_t t = 0; t < COUNT(types); t++) {
			uint8_t b[32];

			if (len == 12 || len == 14)
				continue;
			memcpy(b, zeroes, sizeof(b));
			b[1] = (uint8_t)types[t];
			start(NBD_REP_ACK);
			script_reply(&s, NBD_OPT_GO, NBD_REP_INFO, b, len);
			end();
			breaks(&go, len < 2 ? "without a type"
					    : "wrong length");
		}
	}
}

static void infos_without_end(void **state)
{
	(void)state;
	start(NBD_REP_ACK);
	for (unsigned int i = 0; i < HANDSHAKE_INFOS_MAX; i++)
		script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	script_turn(&s);
	script_play_whole(&s, &go, &hs, &said);
	assert_int_equal(handshake_status(&hs), HANDSHAKE_RUNNING);
	s.turns--;
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	end();
	script_play_whole(&s, &go, &hs, &said);
	assert_failed(X_REFUSED, EPROTO, "without end");
}

static void ack_without_export(void **state)
{
	(void)state;
	start(NBD_REP_ACK);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	breaks(&go, "without saying how large");
	start(NBD_REP_ACK);
	script_info_sizes(&s, NBD_OPT_INFO, 1, 4096, 65536);
	answer(NBD_OPT_INFO, NBD_REP_ACK);
	breaks(&info, "without saying how large");
}

static void infos_that_contradict(void **state)
{
	(void)state;
	start(NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	script_info_export(&s, NBD_OPT_GO, SIZE + 512, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	breaks(&go, "contradict");
	start(NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS | NBD_FLAG_READ_ONLY);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	breaks(&go, "contradict");
	start(NBD_REP_ACK);
	script_info_sizes(&s, NBD_OPT_GO, 1, 4096, 65536);
	script_info_sizes(&s, NBD_OPT_GO, 512, 4096, 65536);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	breaks(&go, "contradict");
}

/* Sizes that a signed offset cannot hold: no crash, a soft disconnect. */
static void impossible_sizes(void **state)
{
	static const uint64_t sizes[] = { UINT64_C(1) << 63, UINT64_MAX };

	(void)state;
	for (size_t i = 0; i < COUNT(sizes); i++) {
		start(NBD_REP_ACK);
		script_info_export(&s, NBD_OPT_GO, sizes[i], FLAGS);
		answer(NBD_OPT_GO, NBD_REP_ACK);
		fails(&go, X_REFUSED, EOVERFLOW, "more than any file");
		assert_true(said.disc);

		start(NBD_REP_ACK);
		script_info_export(&s, NBD_OPT_INFO, sizes[i], FLAGS);
		answer(NBD_OPT_INFO, NBD_REP_ACK);
		answer(NBD_OPT_ABORT, NBD_REP_ACK);
		fails(&info, X_REFUSED, EOVERFLOW, "more than any file");
		assert_false(said.disc);

		script_start(&s);
		script_greeting(&s, NBD_FLAG_NO_ZEROES);
		script_export_name(&s, sizes[i], FLAGS, 0);
		fails(&go, X_REFUSED, EOVERFLOW, "more than any file");
		assert_true(said.disc);
	}
	start(NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_GO, INT64_MAX, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	script_play(&s, &go, &hs, &said);
	assert_int_equal(handshake_status(&hs), HANDSHAKE_DONE);
}

static void impossible_block_sizes(void **state)
{
	static const uint32_t sizes[][3] = {
		{ 0, 4096, 65536 }, { 3, 4096, 65536 },
		{ 131072, 131072, 262144 }, { 1, 0, 65536 },
		{ 1, 256, 65536 }, { 1, 5000, 65536 }, { 8192, 4096, 65536 },
		{ 1, 4096, 2048 }, { 1, 4096, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(sizes); i++) {
		start(NBD_REP_ACK);
		script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
		script_info_sizes(&s, NBD_OPT_GO, sizes[i][0], sizes[i][1],
				  sizes[i][2]);
		answer(NBD_OPT_GO, NBD_REP_ACK);
		breaks(&go, "impossible block sizes");
	}
}

/* HAS_FLAGS "MUST always be 1". */
static void flags_without_has_flags(void **state)
{
	(void)state;
	start(NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_GO, SIZE, 0);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	breaks(&go, "HAS_FLAGS");
	script_start(&s);
	script_greeting(&s, NBD_FLAG_NO_ZEROES);
	script_export_name(&s, SIZE, NBD_FLAG_READ_ONLY, 0);
	breaks(&go, "HAS_FLAGS");
}

static void strings_that_are_none(void **state)
{
	static char text[NBD_STRING_MAX + 1];
	static const uint16_t types[] = { NBD_INFO_NAME,
					  NBD_INFO_DESCRIPTION };

	(void)state;
	memset(text, 'x', sizeof(text));
	for (size_t t = 0; t < 2; t++) {
		start(NBD_REP_ACK);
		script_info_string(&s, NBD_OPT_GO, types[t], "a\0b", 3);
		end();
		breaks(&go, "NUL");
		start(NBD_REP_ACK);
		script_info_string(&s, NBD_OPT_GO, types[t], text,
				   NBD_STRING_MAX + 1);
		end();
		script_play_whole(&s, &go, &hs, &said);
		assert_failed(X_REFUSED, EPROTO, "too long");
		/* the longest is kept whole */
		start(NBD_REP_ACK);
		script_info_string(&s, NBD_OPT_GO, types[t], text,
				   NBD_STRING_MAX);
		script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
		answer(NBD_OPT_GO, NBD_REP_ACK);
		script_play_whole(&s, &go, &hs, &said);
		assert_int_equal(handshake_status(&hs), HANDSHAKE_DONE);
		assert_int_equal(strlen(t ? hs.info.description
					  : hs.info.name), NBD_STRING_MAX);
	}
}

/* ---- Lists ---- */

static void entries_of_wrong_lengths(void **state)
{
	static const struct {
		uint32_t name;
		uint32_t len;
	} cases[] = {
		{ 0, 0 }, { 0, 3 }, { 1, 4 }, { 97, 100 }, { UINT32_MAX, 100 },
		{ 0x80000000, 100 }, { 4097, 4101 }, { 0, 4101 },
		{ 4096, 8197 }, { 4096, 10000 },
	};
	static uint8_t b[10000];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		put_be32(b, cases[i].name);
		start_list();
		script_reply(&s, NBD_OPT_LIST, NBD_REP_SERVER, b, cases[i].len);
		end();
		script_play_whole(&s, &list, &hs, &said);
		assert_failed(X_REFUSED, EPROTO, "wrong length");
	}
	put_be32(b, 4096);
	start_list();
	script_reply(&s, NBD_OPT_LIST, NBD_REP_SERVER, b, 4 + 8192);
	end();
	script_play_whole(&s, &list, &hs, &said);
	assert_int_equal(handshake_status(&hs), HANDSHAKE_RUNNING);
}

static void lists_without_end(void **state)
{
	struct handshake_params few = { .goal = HANDSHAKE_LIST,
					.list_max = 3 };
	static struct script one;
	size_t bytes;

	(void)state;
	start_list();
	for (int i = 0; i < 4; i++)
		script_entry(&s, "x", "");
	end();
	fails(&few, X_REFUSED, E2BIG, "more than 3");

	/* the default limit, fed for ever */
	script_start(&one);
	script_entry(&one, "x", "");
	handshake_init(&hs, &list, NULL);
	handshake_feed(&hs, s.bytes, 18);
	handshake_output(&hs, &bytes);
	handshake_sent(&hs, bytes);
	for (unsigned int i = 0; i < HANDSHAKE_LIST_MAX; i++) {
		assert_false(handshake_ended(&hs));
		handshake_feed(&hs, one.bytes, one.used);
	}
	assert_false(handshake_ended(&hs));
	handshake_feed(&hs, one.bytes, one.used);
	assert_failed(X_REFUSED, E2BIG, "more than 10000");
}

/* ---- Too early, too late, in the clear ---- */

static void answers_before_questions(void **state)
{
	(void)state;
	script_start(&s);
	script_greeting(&s, FIXED);
	s.turns--;
	answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
	script_play_whole(&s, &go, &hs, &said);
	assert_failed(X_REFUSED, EPROTO, "while it has to wait");
}

/* "The server MUST NOT send any zero padding bytes" after GO, nor anything. */
static void bytes_after_the_end(void **state)
{
	static const uint8_t zeroes[124];

	(void)state;
	start(NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	script_reply(&s, NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
	script_put(&s, zeroes, sizeof(zeroes));
	end();
	breaks(&go, "data follow the end");

	script_start(&s);
	script_greeting(&s, NBD_FLAG_NO_ZEROES);
	script_export_name(&s, SIZE, FLAGS, 124);
	breaks(&go, "data follow the end");

	/* in a segment of its own */
	start(NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	script_play_whole(&s, &go, &hs, &said);
	assert_int_equal(handshake_status(&hs), HANDSHAKE_DONE);
	handshake_timed_out(&hs, 1);
	assert_int_equal(handshake_status(&hs), HANDSHAKE_DONE);
	handshake_feed(&hs, "x", 1);
	assert_failed(X_REFUSED, EPROTO, "data follow the end");
}

static void closed_after_the_end(void **state)
{
	(void)state;
	start(NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	s.then = SCRIPT_THEN_CLOSE;
	fails(&go, X_UNREACHABLE, ECONNRESET, "right after");
}

/* Injected before TLS, to be taken for what came inside it. */
static void plaintext_after_starttls(void **state)
{
	const struct handshake_params params = {
		.goal = HANDSHAKE_GO, .tls = HANDSHAKE_TLS_REQUIRE,
	};
	size_t bytes;

	(void)state;
	script_start(&s);
	script_greeting(&s, FIXED);
	script_reply(&s, NBD_OPT_STARTTLS, NBD_REP_ACK, NULL, 0);
	script_reply(&s, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
	end();
	/* Not by script_play: split, it would start TLS in between. */
	script_play_whole(&s, &params, &hs, &said);
	assert_failed(X_TLS, EPROTO, "plain text");

	handshake_init(&hs, &params, NULL);
	handshake_feed(&hs, s.bytes, 18);
	handshake_output(&hs, &bytes);
	handshake_sent(&hs, bytes);
	handshake_feed(&hs, s.bytes + 18, 20);
	assert_int_equal(handshake_status(&hs), HANDSHAKE_WANTS_TLS);
	handshake_feed(&hs, s.bytes + 38, 1);
	assert_failed(X_TLS, EPROTO, "plain text");
}

/* "The server MUST NOT send NBD_REP_ERR_TLS_REQD … if TLS has been initiated" */
static void tls_required_inside_tls(void **state)
{
	const struct handshake_params params = {
		.goal = HANDSHAKE_GO, .tls = HANDSHAKE_TLS_REQUIRE,
	};

	(void)state;
	script_start(&s);
	script_greeting(&s, FIXED);
	answer(NBD_OPT_STARTTLS, NBD_REP_ACK);
	answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_TLS_REQD);
	fails(&params, X_TLS, EPROTO, "inside TLS");
	script_start(&s);
	script_greeting(&s, FIXED);
	answer(NBD_OPT_STARTTLS, NBD_REP_INFO);
	breaks(&params, "reply type 3");
}

/* ---- Silence and closing, at every step ---- */

static void at_every_turn(int then, int error)
{
	const struct handshake_params tls = {
		.goal = HANDSHAKE_GO, .tls = HANDSHAKE_TLS_REQUIRE,
	};
	static struct script whole;

	script_start(&whole);
	script_greeting(&whole, FIXED);
	script_reply(&whole, NBD_OPT_STARTTLS, NBD_REP_ACK, NULL, 0);
	script_turn(&whole);
	script_reply(&whole, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
	script_turn(&whole);
	script_info_export(&whole, NBD_OPT_GO, SIZE, FLAGS);
	/* Cut after every byte, then silence or the end. */
	for (size_t cut = 0; cut <= whole.used; cut++) {
		s = whole;
		s.used = cut;
		while (s.turns > 0 && s.turn_end[s.turns - 1] >= cut)
			s.turns--;
		script_turn(&s);
		s.then = then;
		script_play_whole(&s, &tls, &hs, &said);
		assert_failed(X_UNREACHABLE, error, "");
	}
}

static void silence_at_every_byte(void **state)
{
	(void)state;
	at_every_turn(SCRIPT_THEN_TIMEOUT, ETIMEDOUT);
	assert_non_null(strstr(hs.err.text, "10.000 s"));
}

static void closed_at_every_byte(void **state)
{
	(void)state;
	at_every_turn(SCRIPT_THEN_CLOSE, ECONNRESET);
}

/* The padding of EXPORT_NAME, and an entry of a list, may stay away too. */
static void silence_elsewhere(void **state)
{
	(void)state;
	for (int then = SCRIPT_THEN_CLOSE; then <= SCRIPT_THEN_TIMEOUT;
	     then++) {
		int error = then == SCRIPT_THEN_CLOSE ? ECONNRESET : ETIMEDOUT;

		script_start(&s);
		script_greeting(&s, 0);
		script_export_name(&s, SIZE, FLAGS, 100);
		s.then = then;
		fails(&go, X_UNREACHABLE, error, "");
		start_list();
		script_entry(&s, "x", "");
		end();
		s.then = then;
		fails(&list, X_UNREACHABLE, error, "list of exports");
	}
	script_start(&s);
	script_greeting(&s, 0);
	s.then = SCRIPT_THEN_TIMEOUT;
	fails(&go, X_UNREACHABLE, ETIMEDOUT, "size of the export");
}

/* The server goes, or talks, while our farewell is on its way. */
static void leaving_cannot_fail(void **state)
{
	(void)state;
	for (int way = 0; way < 3; way++) {
		start(NBD_REP_ACK);
		script_info_export(&s, NBD_OPT_GO, 0, FLAGS);
		answer(NBD_OPT_GO, NBD_REP_ACK);
		handshake_init(&hs, &go, NULL);
		for (size_t at = 0, turn = 0; turn < s.turns; turn++) {
			size_t bytes;

			handshake_feed(&hs, s.bytes + at,
				       s.turn_end[turn] - at);
			at = s.turn_end[turn];
			handshake_output(&hs, &bytes);
			if (turn + 1 < s.turns)
				handshake_sent(&hs, bytes);
		}
		assert_true(handshake_leaving(&hs));
		if (way == 0)
			handshake_feed(&hs, "x", 1);
		else if (way == 1)
			handshake_closed(&hs);
		else
			handshake_timed_out(&hs, 1000);
		if (way == 0)
			handshake_sent(&hs, 28);
		assert_failed(X_REFUSED, ENOSPC, "0 bytes");
		/* and nothing brings it back */
		handshake_feed(&hs, "x", 1);
		handshake_closed(&hs);
		handshake_timed_out(&hs, 1000);
		assert_failed(X_REFUSED, ENOSPC, "0 bytes");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(not_an_nbd_server),
		cmocka_unit_test(greetings_that_are_not_newstyle),
		cmocka_unit_test(wrong_reply_magic),
		cmocka_unit_test(wrong_option_echo),
		cmocka_unit_test(strange_reply_types),
		cmocka_unit_test(lengths_without_bounds),
		cmocka_unit_test(hostile_text_of_errors),
		cmocka_unit_test(infos_of_wrong_lengths),
		cmocka_unit_test(infos_without_end),
		cmocka_unit_test(ack_without_export),
		cmocka_unit_test(infos_that_contradict),
		cmocka_unit_test(impossible_sizes),
		cmocka_unit_test(impossible_block_sizes),
		cmocka_unit_test(flags_without_has_flags),
		cmocka_unit_test(strings_that_are_none),
		cmocka_unit_test(entries_of_wrong_lengths),
		cmocka_unit_test(lists_without_end),
		cmocka_unit_test(answers_before_questions),
		cmocka_unit_test(bytes_after_the_end),
		cmocka_unit_test(closed_after_the_end),
		cmocka_unit_test(plaintext_after_starttls),
		cmocka_unit_test(tls_required_inside_tls),
		cmocka_unit_test(silence_at_every_byte),
		cmocka_unit_test(closed_at_every_byte),
		cmocka_unit_test(silence_elsewhere),
		cmocka_unit_test(leaving_cannot_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
