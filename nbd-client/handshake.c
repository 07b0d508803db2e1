/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The negotiation with a server: states, events, and the table of both.
 *
 * Owns the order in which things are agreed and the bytes that are half read.
 * The control thread runs it, nobody else calls it while it runs.  What happens
 * on an event is in handshake_act.c.  Section names are those of the protocol
 * text.
 */
#include "nbd-client/handshake.h"

#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "common/proto.h"
#include "nbd-client/handshake_act.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum event {
	EV_ITEM,	/* the fixed item of the state is complete */
	EV_SENT,	/* all output has left */
	EV_TLS_UP,	/* the caller has started TLS */
	EV_ACK,		/* option replies, complete with their data */
	EV_SERVER,
	EV_INFO,
	EV_STRANGE,	/* a type that is no error and that nobody knows */
	EV_UNSUP,
	EV_TLS_REQD,
	EV_SHUTDOWN,
	EV_REFUSED,	/* any other error */
	EV_EXTRA,	/* bytes where none are due */
	EV_CLOSED,
	EV_TIMEOUT,
	EV_COUNT,
};

static const struct {
	uint32_t item_bytes;	/* fixed item */
	bool replies;		/* or option replies; or neither */
	const char *waiting_for;
} states[ST_COUNT] = {
	[ST_MAGIC] = { 8, false, "the server's greeting" },
	[ST_STYLE] = { 8, false, "the server's greeting" },
	[ST_FLAGS] = { 2, false, "the server's greeting" },
	[ST_STARTTLS] = { 0, true, "the answer to STARTTLS" },
	[ST_TLS] = { 0, false, "the TLS handshake" },
	[ST_STRUCTURED] = { 0, true, "the answer to STRUCTURED_REPLY" },
	[ST_EXPORT] = { 0, true, "the answer about the export" },
	[ST_LIST] = { 0, true, "the list of exports" },
	[ST_NAME] = { sizeof(struct nbd_export_name_reply), false,
		      "the size of the export" },
	[ST_ZEROES] = { NBD_EXPORT_NAME_ZEROES, false,
			"the end of the negotiation" },
	[ST_ABORT] = { sizeof(struct nbd_option_reply), false,
		       "the answer to ABORT" },
	[ST_DISC] = { 0, false, "the disconnect message to leave" },
	[ST_DONE] = { 0, false, "nothing" },
	[ST_FAILED] = { 0, false, "nothing" },
};

static void expect_item(struct handshake *hs)
{
	hs->in_bytes = 0;
	hs->in_data = false;
	hs->in_want_bytes = states[hs->state].replies
				    ? (uint32_t)sizeof(struct nbd_option_reply)
				    : states[hs->state].item_bytes;
}

void handshake_enter(struct handshake *hs, enum handshake_state state)
{
	hs->state = state;
	expect_item(hs);
}

/* ---- The table ---- */

/*
 * A row names every event, so a cell that is forgotten does not compile.  In
 * this order:
 *	item, sent, tls_up,
 *	ack, server, info, strange,
 *	unsup, tls_reqd, shutdown, refused,
 *	extra, closed, timeout
 */
#define ROW(...) ROW_(__VA_ARGS__)
#define ROW_(a, b, c, d, e, f, g, h, i, j, k, l, m, n)                         \
	{                                                                      \
		[EV_ITEM] = (a), [EV_SENT] = (b), [EV_TLS_UP] = (c),           \
		[EV_ACK] = (d), [EV_SERVER] = (e), [EV_INFO] = (f),            \
		[EV_STRANGE] = (g), [EV_UNSUP] = (h), [EV_TLS_REQD] = (i),     \
		[EV_SHUTDOWN] = (j), [EV_REFUSED] = (k), [EV_EXTRA] = (l),     \
		[EV_CLOSED] = (m), [EV_TIMEOUT] = (n),                         \
	}

/* The eight option replies, in a state that reads none. */
#define NO_REPLIES                                                             \
	act_never, act_never, act_never, act_never, act_never, act_never,      \
		act_never, act_never

/* clang-format off */
static void (*const table[ST_COUNT][EV_COUNT])(struct handshake *hs) = {
	[ST_MAGIC] = ROW(
		act_magic, act_never, act_never,
		NO_REPLIES,
		act_extra, act_closed_early, act_timed_out),
	[ST_STYLE] = ROW(
		act_style, act_never, act_never,
		NO_REPLIES,
		act_extra, act_closed, act_timed_out),
	[ST_FLAGS] = ROW(
		act_flags, act_never, act_never,
		NO_REPLIES,
		act_extra, act_closed, act_timed_out),
	[ST_STARTTLS] = ROW(
		act_never, act_nop, act_never,
		act_tls_granted, act_strange, act_strange, act_strange,
		act_tls_denied, act_tls_denied, act_going_away, act_tls_denied,
		act_extra, act_closed, act_timed_out),
	[ST_TLS] = ROW(
		act_never, act_never, act_tls_up,
		NO_REPLIES,
		act_plaintext, act_closed, act_timed_out),
	[ST_STRUCTURED] = ROW(
		act_never, act_nop, act_never,
		act_structured_on, act_strange, act_strange, act_strange,
		act_ask_export, act_tls_required, act_going_away, act_ask_export,
		act_extra, act_closed, act_timed_out),
	[ST_EXPORT] = ROW(
		act_never, act_nop, act_never,
		act_export_done, act_strange, act_info, act_strange,
		act_ask_name, act_tls_required, act_going_away, act_refused,
		act_extra, act_closed, act_timed_out),
	[ST_LIST] = ROW(
		act_never, act_nop, act_never,
		act_leave, act_list_entry, act_strange, act_strange,
		act_refused, act_tls_required, act_going_away, act_refused,
		act_extra, act_closed, act_timed_out),
	[ST_NAME] = ROW(
		act_name_answer, act_nop, act_never,
		NO_REPLIES,
		act_extra, act_closed_name, act_timed_out),
	[ST_ZEROES] = ROW(
		act_name_done, act_never, act_never,
		NO_REPLIES,
		act_extra, act_closed, act_timed_out),
	/* It may answer, hang up, or do neither: we are leaving. */
	[ST_ABORT] = ROW(
		act_finish, act_nop, act_never,
		NO_REPLIES,
		act_finish, act_finish, act_finish),
	[ST_DISC] = ROW(
		act_never, act_finish, act_never,
		NO_REPLIES,
		act_nop, act_finish, act_finish),
	[ST_DONE] = ROW(
		act_never, act_never, act_never,
		NO_REPLIES,
		act_extra_after_end, act_closed_after_end, act_nop),
	[ST_FAILED] = ROW(
		act_never, act_never, act_never,
		NO_REPLIES,
		act_nop, act_nop, act_nop),
};
/* clang-format on */

static void dispatch(struct handshake *hs, enum event event)
{
	CHECK(hs->state < ST_COUNT);
	table[hs->state][event](hs);
}

/* ---- Reading ---- */

static enum event event_of(const struct proto_option_reply *r)
{
	static const struct {
		uint32_t type;
		enum event event;
	} events[] = {
		{ NBD_REP_ACK, EV_ACK },
		{ NBD_REP_SERVER, EV_SERVER },
		{ NBD_REP_INFO, EV_INFO },
		{ NBD_REP_ERR_UNSUP, EV_UNSUP },
		{ NBD_REP_ERR_TLS_REQD, EV_TLS_REQD },
		{ NBD_REP_ERR_SHUTDOWN, EV_SHUTDOWN },
	};

	for (size_t i = 0; i < COUNT(events); i++)
		if (events[i].type == r->type)
			return events[i].event;
	return r->type & NBD_REP_FLAG_ERROR ? EV_REFUSED : EV_STRANGE;
}

/* "Fixed newstyle negotiation": magic, option and length of every reply. */
static bool reply_head_is_good(struct handshake *hs)
{
	uint32_t max_bytes;

	if (proto_get_option_reply(&hs->reply, hs->in) < 0) {
		PROTEST(hs, "an option reply does not begin with its magic");
		return false;
	}
	if (hs->reply.option != hs->option) {
		PROTEST(hs, "it answers option %u (%s), asked was %s",
			hs->reply.option, proto_option_name(hs->reply.option),
			proto_option_name(hs->option));
		return false;
	}
	max_bytes = hs->reply.type == NBD_REP_ACK ? 0 : HANDSHAKE_REPLY_MAX;
	if (hs->reply.length_bytes > max_bytes) {
		PROTEST(hs, "reply %s to option %s is %u bytes long",
			proto_rep_name(hs->reply.type),
			proto_option_name(hs->option), hs->reply.length_bytes);
		return false;
	}
	return true;
}

static void item_complete(struct handshake *hs)
{
	enum handshake_state before = hs->state;
	unsigned int step = hs->step;

	if (!states[hs->state].replies) {
		dispatch(hs, EV_ITEM);
		return;
	}
	if (!hs->in_data) {
		if (!reply_head_is_good(hs))
			return;
		hs->in_data = true;
		hs->in_bytes = 0;
		hs->in_want_bytes = hs->reply.length_bytes;
		if (hs->in_want_bytes > 0)
			return;
	}
	dispatch(hs, event_of(&hs->reply));
	/* Not the last reply to this option: the next one follows. */
	if (hs->state == before && hs->step == step)
		expect_item(hs);
}

static bool is_reading(const struct handshake *hs)
{
	return hs->in_want_bytes > 0 && hs->out_bytes == hs->out_sent_bytes;
}

/* ---- Interface ---- */

int handshake_init(struct handshake *hs, const struct handshake_params *params,
		   struct err *err)
{
	const char *name = params->export_name ? params->export_name : "";
	size_t bytes = strlen(name);

	if (bytes > NBD_STRING_MAX)
		return err_set(err, X_USAGE, ENAMETOOLONG,
			       "the export name has %zu bytes, NBD allows %u",
			       bytes, NBD_STRING_MAX);
	memset(hs, 0, sizeof(*hs));
	hs->params = *params;
	hs->params.export_name = NULL;
	memcpy(hs->export_name, name, bytes + 1);
	act_forget_export(hs);
	handshake_enter(hs, ST_MAGIC);
	return 0;
}

enum handshake_status handshake_status(const struct handshake *hs)
{
	switch (hs->state) {
	case ST_TLS:
		return HANDSHAKE_WANTS_TLS;
	case ST_DONE:
		return HANDSHAKE_DONE;
	case ST_FAILED:
		return HANDSHAKE_FAILED;
	default:
		return HANDSHAKE_RUNNING;
	}
}

const uint8_t *handshake_output(const struct handshake *hs, size_t *ret_bytes)
{
	*ret_bytes = hs->out_bytes - hs->out_sent_bytes;
	return hs->out + hs->out_sent_bytes;
}

void handshake_sent(struct handshake *hs, size_t bytes)
{
	CHECK(bytes <= hs->out_bytes - hs->out_sent_bytes);
	hs->out_sent_bytes += (uint32_t)bytes;
	if (bytes > 0 && hs->out_sent_bytes == hs->out_bytes) {
		hs->out_bytes = hs->out_sent_bytes = 0;
		dispatch(hs, EV_SENT);
	}
}

void handshake_feed(struct handshake *hs, const void *src, size_t bytes)
{
	const uint8_t *s = src;

	while (bytes > 0) {
		size_t take = hs->in_want_bytes - hs->in_bytes;

		if (!is_reading(hs)) {
			dispatch(hs, EV_EXTRA);
			return;
		}
		if (take > bytes)
			take = bytes;
		/* What no message of ours can use is dropped, not stored. */
		if (hs->in_bytes < sizeof(hs->in)) {
			size_t room = sizeof(hs->in) - hs->in_bytes;

			memcpy(hs->in + hs->in_bytes, s,
			       take < room ? take : room);
		}
		hs->in_bytes += (uint32_t)take;
		s += take;
		bytes -= take;
		if (hs->in_bytes == hs->in_want_bytes)
			item_complete(hs);
	}
}

void handshake_closed(struct handshake *hs)
{
	dispatch(hs, EV_CLOSED);
}

void handshake_timed_out(struct handshake *hs, unsigned int timeout_ms)
{
	hs->timeout_ms = timeout_ms;
	dispatch(hs, EV_TIMEOUT);
}

void handshake_tls_started(struct handshake *hs)
{
	dispatch(hs, EV_TLS_UP);
}

unsigned int handshake_step(const struct handshake *hs)
{
	return hs->step;
}

const char *handshake_waiting_for(const struct handshake *hs)
{
	return states[hs->state].waiting_for;
}

bool handshake_leaving(const struct handshake *hs)
{
	return hs->state == ST_ABORT || hs->state == ST_DISC;
}
