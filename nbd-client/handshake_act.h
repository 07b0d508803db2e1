/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of the negotiation: its states, and the actions that its table calls.
 * For handshake.c and handshake_act.c only.
 */
#ifndef NBD_HANDSHAKE_ACT_H
#define NBD_HANDSHAKE_ACT_H

#include "nbd-client/handshake.h"

enum handshake_state {
	ST_MAGIC,	/* nothing has been said */
	ST_STYLE,	/* it is an NBD server; which of the old ways? */
	ST_FLAGS,	/* newstyle; what can it do? */
	ST_STARTTLS,	/* asked for TLS */
	ST_TLS,		/* TLS is being started by the caller */
	ST_STRUCTURED,	/* asked for structured replies */
	ST_EXPORT,	/* asked for the export, with GO or INFO */
	ST_LIST,	/* asked for the list of exports */
	ST_NAME,	/* asked for the export with EXPORT_NAME */
	ST_ZEROES,	/* got it, its padding follows */
	ST_ABORT,	/* said NBD_OPT_ABORT */
	ST_DISC,	/* NBD_CMD_DISC is on its way */
	ST_DONE,
	ST_FAILED,
	ST_COUNT,
};

/* Changes the state and expects its input from the start: the one setter. */
void handshake_enter(struct handshake *hs, enum handshake_state state);

/* Says why, and ends; PROTEST() where the server broke a rule. */
#define FAIL(hs, exit_code, error, ...)                                        \
	(err_set(&(hs)->err, exit_code, error, __VA_ARGS__), act_fail(hs))
#define PROTEST(hs, ...)                                                       \
	FAIL(hs, X_REFUSED, EPROTO,                                            \
	     "the server breaks the protocol: " __VA_ARGS__)

/* Any state */
void act_nop(struct handshake *hs);
void act_never(struct handshake *hs);
void act_extra(struct handshake *hs);
void act_strange(struct handshake *hs);
void act_closed(struct handshake *hs);
void act_timed_out(struct handshake *hs);
void act_going_away(struct handshake *hs);
void act_tls_required(struct handshake *hs);
void act_refused(struct handshake *hs);

/* Ends */
void act_fail(struct handshake *hs);
void act_finish(struct handshake *hs);
void act_leave(struct handshake *hs);

/* Greeting */
void act_magic(struct handshake *hs);
void act_style(struct handshake *hs);
void act_flags(struct handshake *hs);
void act_closed_early(struct handshake *hs);

/* STARTTLS */
void act_tls_granted(struct handshake *hs);
void act_tls_denied(struct handshake *hs);
void act_tls_up(struct handshake *hs);
void act_plaintext(struct handshake *hs);

/* Structured replies and the export */
void act_structured_on(struct handshake *hs);
void act_forget_export(struct handshake *hs);
void act_ask_export(struct handshake *hs);
void act_info(struct handshake *hs);
void act_export_done(struct handshake *hs);
void act_extra_after_end(struct handshake *hs);
void act_closed_after_end(struct handshake *hs);

/* EXPORT_NAME */
void act_ask_name(struct handshake *hs);
void act_name_answer(struct handshake *hs);
void act_name_done(struct handshake *hs);
void act_closed_name(struct handshake *hs);

/* LIST */
void act_list_entry(struct handshake *hs);

#endif
