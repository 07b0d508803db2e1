/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the negotiation with servers that refuse, and of TLS: every error is
 * told with what helps, and left as the protocol wants it.  Every script is
 * split at every byte.
 */
#include "tests/script_case.h"

/* ---- Errors of the server: each is told, and left politely ---- */

static void refusals(void **state)
{
	static const struct {
		uint32_t type;
		int exit_code;
		int error;
		const char *mentions;
	} cases[] = {
		{ NBD_REP_ERR_POLICY, X_REFUSED, EACCES, "forbids" },
		{ NBD_REP_ERR_INVALID, X_REFUSED, EINVAL, "invalid" },
		{ NBD_REP_ERR_PLATFORM, X_REFUSED, EOPNOTSUPP, "built" },
		{ NBD_REP_ERR_TLS_REQD, X_TLS, ENOKEY, "nbds://" },
		{ NBD_REP_ERR_UNKNOWN, X_REFUSED, ENOENT, "no such export" },
		{ NBD_REP_ERR_SHUTDOWN, X_UNREACHABLE, ESHUTDOWN,
		  "shutting down" },
		{ NBD_REP_ERR_BLOCK_SIZE_REQD, X_REFUSED, EPROTO,
		  "block sizes" },
		{ NBD_REP_ERR_TOO_BIG, X_REFUSED, EMSGSIZE, "too large" },
		{ NBD_REP_ERR_EXT_HEADER_REQD, X_REFUSED, EOPNOTSUPP,
		  "extended headers" },
		{ NBD_REP_ERR(99), X_REFUSED, EPROTO, "not in the protocol" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		start(NBD_REP_ACK);
		answer(NBD_OPT_GO, cases[i].type);
		answer(NBD_OPT_ABORT, NBD_REP_ACK);
		play(&go);
		assert_failed(cases[i].exit_code, cases[i].error,
			      cases[i].mentions);
		SAID(NBD_OPT_STRUCTURED_REPLY, NBD_OPT_GO, NBD_OPT_ABORT);

		script_hello(&s);
		answer(NBD_OPT_LIST, cases[i].type);
		s.then = SCRIPT_THEN_CLOSE;
		play(&list);
		assert_int_equal(hs.err.exit_code, cases[i].exit_code);
		SAID(NBD_OPT_LIST, NBD_OPT_ABORT);
	}
	script_hello(&s);
	answer(NBD_OPT_LIST, NBD_REP_ERR_UNSUP);
	answer(NBD_OPT_ABORT, NBD_REP_ACK);
	play(&list);
	assert_failed(X_REFUSED, EOPNOTSUPP, "does not list");

	/* also to STRUCTURED_REPLY, which comes first */
	start(NBD_REP_ERR_TLS_REQD);
	answer(NBD_OPT_ABORT, NBD_REP_ACK);
	play(&go);
	assert_failed(X_TLS, ENOKEY, "nbds://");
	start(NBD_REP_ERR_SHUTDOWN);
	answer(NBD_OPT_ABORT, NBD_REP_ACK);
	play(&go);
	assert_failed(X_UNREACHABLE, ESHUTDOWN, "shutting down");
}

static void text_of_a_refusal_is_shown(void **state)
{
	(void)state;
	start(NBD_REP_ACK);
	script_reply(&s, NBD_OPT_GO, NBD_REP_ERR_POLICY, "ask Bob", 7);
	script_turn(&s);
	answer(NBD_OPT_ABORT, NBD_REP_ACK);
	play(&go);
	assert_failed(X_REFUSED, EACCES, "(\"ask Bob\")");
	assert_non_null(strstr(hs.err.text, "'disk'"));
}

/* ---- STARTTLS: the seam, and the rules around it ---- */

static const struct handshake_params tls_go = {
	.goal = HANDSHAKE_GO, .tls = HANDSHAKE_TLS_REQUIRE,
	.export_name = "disk",
};
static const struct handshake_params tls_try = {
	.goal = HANDSHAKE_GO, .tls = HANDSHAKE_TLS_TRY, .export_name = "disk",
};

/* First of all, and before anything that has an effect. */
static void tls_comes_first(void **state)
{
	(void)state;
	script_hello(&s);
	answer(NBD_OPT_STARTTLS, NBD_REP_ACK);
	script_play_whole(&s, &tls_go, &hs, &said);
	assert_int_equal(handshake_status(&hs), HANDSHAKE_WANTS_TLS);
	SAID(NBD_OPT_STARTTLS);
	assert_int_equal(said.options[0].bytes, 0);

	answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
	script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
	answer(NBD_OPT_GO, NBD_REP_ACK);
	play(&tls_go);
	assert_done();
	assert_true(hs.info.tls);
	SAID(NBD_OPT_STARTTLS, NBD_OPT_STRUCTURED_REPLY, NBD_OPT_GO);
}

static void tls_denied(void **state)
{
	static const uint32_t errors[] = {
		NBD_REP_ERR_UNSUP, NBD_REP_ERR_POLICY, NBD_REP_ERR_TLS_REQD,
		NBD_REP_ERR(99),
	};

	(void)state;
	for (size_t i = 0; i < COUNT(errors); i++) {
		script_hello(&s);
		answer(NBD_OPT_STARTTLS, errors[i]);
		answer(NBD_OPT_ABORT, NBD_REP_ACK);
		play(&tls_go);
		assert_failed(X_TLS, EPROTONOSUPPORT, "does not offer TLS");
		SAID(NBD_OPT_STARTTLS, NBD_OPT_ABORT);

		/* opportunistic: go on without, and say so */
		s.turns--;
		s.used = s.turn_end[s.turns - 1];
		answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
		script_info_export(&s, NBD_OPT_GO, SIZE, FLAGS);
		answer(NBD_OPT_GO, NBD_REP_ACK);
		play(&tls_try);
		assert_done();
		assert_false(hs.info.tls);
	}
	script_hello(&s);
	answer(NBD_OPT_STARTTLS, NBD_REP_ERR_SHUTDOWN);
	answer(NBD_OPT_ABORT, NBD_REP_ACK);
	play(&tls_try);
	assert_failed(X_UNREACHABLE, ESHUTDOWN, "shutting down");
}

/* Only after fixed newstyle; nothing is said to a server without it. */
static void tls_needs_fixed_newstyle(void **state)
{
	(void)state;
	script_start(&s);
	script_greeting(&s, NBD_FLAG_NO_ZEROES);
	play(&tls_go);
	assert_failed(X_TLS, EPROTONOSUPPORT, "too old for TLS");
	assert_false(said.greeted);

	script_export_name(&s, SIZE, FLAGS, 0);
	play(&tls_try);
	assert_done();
	SAID(NBD_OPT_EXPORT_NAME);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refusals),
		cmocka_unit_test(text_of_a_refusal_is_shown),
		cmocka_unit_test(tls_comes_first),
		cmocka_unit_test(tls_denied),
		cmocka_unit_test(tls_needs_fixed_newstyle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
