/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the negotiation does on each event: the cells of handshake.c's table.
 *
 * Owns the messages that we send and the judgement on those that come.  Called
 * by the dispatcher of handshake.c alone, on the control thread.  Section names
 * are those of the protocol text.
 *
 * Two ways of leaving, as "Termination of the session during option haggling"
 * demands: act_leave() says NBD_OPT_ABORT (after the end of the haggling,
 * depart() says NBD_CMD_DISC) where the server has done nothing wrong;
 * act_fail() just ends where it broke a rule, or where nothing can be said.
 */
#include "nbd-client/handshake_act.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/proto.h"
#include "common/text.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define SHOWN_NAME_BYTES 100	/* of an export name, in a message */
#define SHOWN_TEXT_BYTES 200	/* of what the server says about an error */

/* ---- Ends ---- */

void act_fail(struct handshake *hs)
{
	CHECK(hs->err.exit_code != EXIT_OK);
	hs->out_bytes = hs->out_sent_bytes = 0;
	handshake_enter(hs, ST_FAILED);
}

void act_finish(struct handshake *hs)
{
	hs->out_bytes = hs->out_sent_bytes = 0;
	handshake_enter(hs, hs->err.exit_code == EXIT_OK ? ST_DONE : ST_FAILED);
}

/* ---- Output ---- */

static uint8_t *out_take(struct handshake *hs, size_t bytes)
{
	uint8_t *at = hs->out + hs->out_bytes;

	CHECK(bytes <= sizeof(hs->out) - hs->out_bytes);
	hs->out_bytes += (uint32_t)bytes;
	return at;
}

/* One option is in flight at a time: each is answered before the next. */
static void put_option(struct handshake *hs, uint32_t option,
		       size_t length_bytes)
{
	hs->option = option;
	hs->step++;
	proto_put_option(out_take(hs, sizeof(struct nbd_option)), option,
			 (uint32_t)length_bytes);
}

/* An option without data. */
static void ask(struct handshake *hs, uint32_t option,
		enum handshake_state state)
{
	put_option(hs, option, 0);
	handshake_enter(hs, state);
}

/* Soft disconnect while haggling; keeps the error, if there is one. */
void act_leave(struct handshake *hs)
{
	ask(hs, NBD_OPT_ABORT, ST_ABORT);
}

/* Soft disconnect once transmission has begun: nothing may follow it. */
static void depart(struct handshake *hs)
{
	const struct proto_request r = { .command = NBD_CMD_DISC };

	hs->step++;
	proto_put_request(out_take(hs, sizeof(struct nbd_request)), &r);
	handshake_enter(hs, ST_DISC);
}

void act_forget_export(struct handshake *hs)
{
	hs->have_export = false;
	hs->infos_count = 0;
	hs->info.size_bytes = 0;
	hs->info.flags = 0;
	hs->info.block_min = NBD_MIN_BLOCK_DEFAULT;
	hs->info.block_pref = NBD_PREF_BLOCK_DEFAULT;
	hs->info.block_max = NBD_MAX_PAYLOAD_DEFAULT;
	hs->info.block_sizes_given = false;
	hs->info.name[0] = '\0';
	hs->info.description[0] = '\0';
}

/* NBD_OPT_INFO and NBD_OPT_GO: each information is asked for once. */
static void ask_export_by(struct handshake *hs, uint32_t option)
{
	static const uint16_t infos[] = {
		NBD_INFO_BLOCK_SIZE, NBD_INFO_NAME, NBD_INFO_DESCRIPTION,
	};
	uint8_t data[HANDSHAKE_OUT_BYTES];
	int bytes = proto_put_go(data, sizeof(data), hs->export_name,
				 strlen(hs->export_name), infos, COUNT(infos));

	CHECK(bytes > 0);
	act_forget_export(hs);
	put_option(hs, option, (size_t)bytes);
	memcpy(out_take(hs, (size_t)bytes), data, (size_t)bytes);
	handshake_enter(hs, ST_EXPORT);
}

void act_ask_export(struct handshake *hs)
{
	ask_export_by(hs, hs->params.goal == HANDSHAKE_GO ? NBD_OPT_GO
							  : NBD_OPT_INFO);
}

/* NBD_OPT_EXPORT_NAME, where there is nothing better. */
void act_ask_name(struct handshake *hs)
{
	size_t bytes = strlen(hs->export_name);

	act_forget_export(hs);
	hs->info.by_export_name = true;
	put_option(hs, NBD_OPT_EXPORT_NAME, bytes);
	memcpy(out_take(hs, bytes), hs->export_name, bytes);
	handshake_enter(hs, ST_NAME);
}

/* The first option that may have an effect; after TLS, if there is any. */
static void ask_what_we_came_for(struct handshake *hs)
{
	if (hs->params.goal == HANDSHAKE_LIST)
		ask(hs, NBD_OPT_LIST, ST_LIST);
	else if (hs->params.no_go)
		act_ask_name(hs);
	else if (hs->params.no_structured)
		act_ask_export(hs);
	else
		ask(hs, NBD_OPT_STRUCTURED_REPLY, ST_STRUCTURED);
}

/* ---- Actions: what any state may do ---- */

void act_nop(struct handshake *hs)
{
	(void)hs;
}

/* A cell that no peer can reach, only a mistake of ours. */
void act_never(struct handshake *hs)
{
	(void)hs;
	CHECK(!"this event cannot happen in this state");
}

void act_strange(struct handshake *hs)
{
	PROTEST(hs, "reply type %u (%s) to option %s",
		hs->reply.type, proto_rep_name(hs->reply.type),
		proto_option_name(hs->option));
}

void act_extra(struct handshake *hs)
{
	PROTEST(hs, "it sends data while it has to wait for us");
}

/* Whatever was injected before TLS must not be taken for what came in it. */
void act_plaintext(struct handshake *hs)
{
	FAIL(hs, X_TLS, EPROTO,
	     "plain text follows the answer to STARTTLS: somebody may be tampering with the connection");
}

void act_extra_after_end(struct handshake *hs)
{
	if (hs->params.goal != HANDSHAKE_GO)
		return;
	PROTEST(hs,
		"data follow the end of the negotiation, before any request");
}

void act_closed(struct handshake *hs)
{
	FAIL(hs, X_UNREACHABLE, ECONNRESET,
	     "the server closed the connection instead of sending %s; its log should say why",
	     handshake_waiting_for(hs));
}

void act_closed_early(struct handshake *hs)
{
	FAIL(hs, X_UNREACHABLE, ECONNRESET,
	     "the server closed the connection without a greeting; it may not admit this host, or have too many clients");
}

void act_closed_after_end(struct handshake *hs)
{
	if (hs->params.goal != HANDSHAKE_GO)
		return;
	FAIL(hs, X_UNREACHABLE, ECONNRESET,
	     "the server closed the connection right after it had accepted it; its log should say why");
}

void act_timed_out(struct handshake *hs)
{
	FAIL(hs, X_UNREACHABLE, ETIMEDOUT,
	     "the server has not answered within %u.%03u s; waiting for %s; is it hung, or no NBD server?",
	     hs->timeout_ms / 1000, hs->timeout_ms % 1000,
	     handshake_waiting_for(hs));
}

/* NBD_REP_ERR_SHUTDOWN: a soft disconnect is mandatory. */
void act_going_away(struct handshake *hs)
{
	err_set(&hs->err, X_UNREACHABLE, ESHUTDOWN,
		"the server is shutting down; try again when it is back");
	act_leave(hs);
}

void act_tls_required(struct handshake *hs)
{
	if (hs->info.tls) {
		FAIL(hs, X_TLS, EPROTO,
		     "the server breaks the protocol: it demands TLS inside TLS");
		return;
	}
	err_set(&hs->err, X_TLS, ENOKEY,
		"the server insists on TLS, or has no such export; use nbds:// (or nbds+unix://) with its certificate or key");
	act_leave(hs);
}

/* What each error says, and what helps. */
static const struct refusal {
	uint32_t type;
	int error;
	const char *reason;
	const char *remedy;
} refusals[] = {
	{ NBD_REP_ERR_UNSUP, EOPNOTSUPP, "it does not know how",
	  "a newer server may" },
	{ NBD_REP_ERR_POLICY, EACCES, "its configuration forbids it",
	  "its administrator can allow it" },
	{ NBD_REP_ERR_INVALID, EINVAL, "it finds the request invalid",
	  "its log should say why" },
	{ NBD_REP_ERR_PLATFORM, EOPNOTSUPP, "it was built without it",
	  "another server may have it" },
	{ NBD_REP_ERR_UNKNOWN, ENOENT, "it has no such export",
	  "see which ones it has with: nbd-client exports" },
	{ NBD_REP_ERR_BLOCK_SIZE_REQD, EPROTO,
	  "it demands a request for block sizes that it has got",
	  "this is a mistake in the server" },
	{ NBD_REP_ERR_TOO_BIG, EMSGSIZE, "the request is too large for it",
	  "a shorter export name may help" },
	{ NBD_REP_ERR_EXT_HEADER_REQD, EOPNOTSUPP,
	  "it insists on extended headers",
	  "its administrator can allow clients without" },
};

static const struct refusal unknown_refusal = {
	0, EPROTO, "it gives a reason that is not in the protocol",
	"its log should say more",
};

void act_refused(struct handshake *hs)
{
	const struct refusal *why = &unknown_refusal;
	uint32_t text_bytes = hs->reply.length_bytes;
	char name[SHOWN_NAME_BYTES];
	char text[SHOWN_TEXT_BYTES];
	char what[SHOWN_NAME_BYTES + 32];

	for (size_t i = 0; i < COUNT(refusals); i++)
		if (refusals[i].type == hs->reply.type)
			why = &refusals[i];
	if (text_bytes > NBD_STRING_MAX)
		text_bytes = NBD_STRING_MAX;
	text_escape(text, sizeof(text), hs->in, text_bytes);
	text_escape_str(name, sizeof(name), hs->export_name);
	if (hs->params.goal == HANDSHAKE_LIST)
		snprintf(what, sizeof(what), "does not list its exports");
	else
		snprintf(what, sizeof(what), "refuses export '%s'", name);
	err_set(&hs->err, X_REFUSED, why->error, "the server %s: %s%s%s%s; %s",
		what, why->reason, text_bytes > 0 ? " (\"" : "", text,
		text_bytes > 0 ? "\")" : "", why->remedy);
	act_leave(hs);
}

/* ---- Actions: greeting ("Newstyle negotiation") ---- */

void act_magic(struct handshake *hs)
{
	char text[SHOWN_NAME_BYTES];

	if (get_be64(hs->in) == NBD_MAGIC) {
		handshake_enter(hs, ST_STYLE);
		return;
	}
	text_escape(text, sizeof(text), hs->in, hs->in_bytes);
	FAIL(hs, X_REFUSED, EPROTO,
	     "this is not an NBD server: it begins with '%s'; is the port right?",
	     text);
}

void act_style(struct handshake *hs)
{
	uint64_t style_magic = get_be64(hs->in);

	if (style_magic == NBD_OPTS_MAGIC)
		handshake_enter(hs, ST_FLAGS);
	else if (style_magic == NBD_OLDSTYLE_MAGIC)
		FAIL(hs, X_REFUSED, EPROTONOSUPPORT,
		     "the server speaks only oldstyle NBD, of before 2011; upgrade it, or let it serve newstyle (nbdkit: without -o)");
	else
		PROTEST(hs, "it greets neither newstyle nor oldstyle");
}

/* "Handshake flags": unknown ones are ignored, ours answer what is offered. */
void act_flags(struct handshake *hs)
{
	uint16_t offered = get_be16(hs->in);
	uint32_t ours = 0;

	hs->fixed = (offered & NBD_FLAG_FIXED_NEWSTYLE) != 0;
	hs->no_zeroes = (offered & NBD_FLAG_NO_ZEROES) != 0;
	if (hs->fixed)
		ours |= NBD_FLAG_C_FIXED_NEWSTYLE;
	if (hs->no_zeroes)
		ours |= NBD_FLAG_C_NO_ZEROES;
	put_be32(out_take(hs, sizeof(struct nbd_client_flags)), ours);

	if (hs->fixed && hs->params.tls != HANDSHAKE_TLS_OFF) {
		ask(hs, NBD_OPT_STARTTLS, ST_STARTTLS);
	} else if (hs->fixed) {
		ask_what_we_came_for(hs);
	} else if (hs->params.tls == HANDSHAKE_TLS_REQUIRE) {
		FAIL(hs, X_TLS, EPROTONOSUPPORT,
		     "the server is too old for TLS, or somebody makes it look so; without TLS: nbd://");
	} else if (hs->params.goal == HANDSHAKE_LIST) {
		FAIL(hs, X_REFUSED, EOPNOTSUPP,
		     "the server is too old to list its exports; ask its administrator for their names");
	} else {
		act_ask_name(hs);
	}
}

/* ---- Actions: STARTTLS ("Client-side requirements") ---- */

void act_tls_granted(struct handshake *hs)
{
	hs->step++;
	handshake_enter(hs, ST_TLS);
}

void act_tls_up(struct handshake *hs)
{
	hs->info.tls = true;
	ask_what_we_came_for(hs);
}

void act_tls_denied(struct handshake *hs)
{
	if (hs->params.tls != HANDSHAKE_TLS_REQUIRE) {
		ask_what_we_came_for(hs);
		return;
	}
	err_set(&hs->err, X_TLS, EPROTONOSUPPORT,
		"the server does not offer TLS (%s), or somebody makes it look so; configure it there, or use nbd:// without",
		proto_rep_name(hs->reply.type));
	act_leave(hs);
}

/* ---- Actions: NBD_OPT_STRUCTURED_REPLY ---- */

void act_structured_on(struct handshake *hs)
{
	hs->info.structured = true;
	act_ask_export(hs);
}

/* ---- Actions: NBD_OPT_INFO and NBD_OPT_GO ---- */

static void info_export(struct handshake *hs)
{
	struct export_info *x = &hs->info;
	uint64_t size_bytes;
	uint16_t tx_flags;

	if (proto_get_info_export(&size_bytes, &tx_flags, hs->in,
				  hs->reply.length_bytes) < 0) {
		PROTEST(hs, "INFO_EXPORT of a wrong length");
	} else if (hs->have_export && (size_bytes != x->size_bytes ||
				       tx_flags != x->flags)) {
		PROTEST(hs, "two INFO_EXPORT that contradict each other");
	} else {
		hs->have_export = true;
		x->size_bytes = size_bytes;
		x->flags = tx_flags;
	}
}

static void info_block_size(struct handshake *hs)
{
	struct export_info *x = &hs->info;
	uint32_t min, pref, max;

	if (proto_get_info_block_size(&min, &pref, &max, hs->in,
				      hs->reply.length_bytes) < 0) {
		PROTEST(hs, "INFO_BLOCK_SIZE of a wrong length");
	} else if (proto_check_block_sizes(min, pref, max) < 0) {
		PROTEST(hs,
			"impossible block sizes (minimum %u, preferred %u, largest payload %u)",
			min, pref, max);
	} else if (x->block_sizes_given &&
		   (min != x->block_min || pref != x->block_pref ||
		    max != x->block_max)) {
		PROTEST(hs, "two INFO_BLOCK_SIZE that contradict each other");
	} else {
		x->block_sizes_given = true;
		x->block_min = min;
		x->block_pref = pref;
		x->block_max = max;
	}
}

static void info_string(struct handshake *hs, char dst[NBD_STRING_MAX + 1],
			const char *what)
{
	size_t bytes = hs->reply.length_bytes - NBD_INFO_STRING_MIN_LENGTH;
	const uint8_t *src = hs->in + NBD_INFO_STRING_MIN_LENGTH;

	if (bytes > NBD_STRING_MAX || memchr(src, '\0', bytes) != NULL) {
		PROTEST(hs, "%s that is too long or has a NUL", what);
		return;
	}
	memcpy(dst, src, bytes);
	dst[bytes] = '\0';
}

static void info_name(struct handshake *hs)
{
	info_string(hs, hs->info.name, "INFO_NAME");
}

static void info_description(struct handshake *hs)
{
	info_string(hs, hs->info.description, "INFO_DESCRIPTION");
}

/* Any order; types that are not here are ignored. */
static const struct {
	uint16_t type;
	void (*take)(struct handshake *hs);
} info_types[] = {
	{ NBD_INFO_EXPORT, info_export },
	{ NBD_INFO_NAME, info_name },
	{ NBD_INFO_DESCRIPTION, info_description },
	{ NBD_INFO_BLOCK_SIZE, info_block_size },
};

void act_info(struct handshake *hs)
{
	uint16_t type;

	if (hs->reply.length_bytes < NBD_INFO_STRING_MIN_LENGTH) {
		PROTEST(hs, "an information without a type");
		return;
	}
	if (++hs->infos_count > HANDSHAKE_INFOS_MAX) {
		PROTEST(hs, "informations without end");
		return;
	}
	type = get_be16(hs->in);
	for (size_t i = 0; i < COUNT(info_types); i++)
		if (info_types[i].type == type)
			info_types[i].take(hs);
}

/*
 * The export is known: can it be used?  False: err says why not, and nothing
 * is wrong with the protocol, so that a soft disconnect is due.
 */
static bool export_is_usable(struct handshake *hs)
{
	struct export_info *x = &hs->info;

	if (x->size_bytes > INT64_MAX) {
		err_set(&hs->err, X_REFUSED, EOVERFLOW,
			"the export claims %llu bytes, more than any file can have; this is a mistake in the server",
			(unsigned long long)x->size_bytes);
		return false;
	}
	if (hs->params.goal != HANDSHAKE_GO)
		return true;
	if (x->size_bytes < x->block_min) {
		err_set(&hs->err, X_REFUSED, ENOSPC,
			"the export has %llu bytes, less than a block of %u; it cannot be a disk",
			(unsigned long long)x->size_bytes, x->block_min);
		return false;
	}
	return true;
}

static bool flags_are_good(struct handshake *hs)
{
	if (proto_check_flags(&hs->info.flags, hs->info.flags,
			      hs->info.structured) == 0)
		return true;
	PROTEST(hs, "transmission flags without HAS_FLAGS");
	return false;
}

/* The haggling is over: stay, or leave as is due from now on. */
static void transmission_begins(struct handshake *hs)
{
	if (export_is_usable(hs) && hs->params.goal == HANDSHAKE_GO)
		act_finish(hs);
	else
		depart(hs);
}

void act_export_done(struct handshake *hs)
{
	if (!hs->have_export) {
		PROTEST(hs, "it accepts the export without saying how large it is");
		return;
	}
	if (!flags_are_good(hs))
		return;
	/*
	 * nbd-server 3.24 opens the export only for GO, and until then says
	 * that it has no bytes.
	 */
	if (hs->option == NBD_OPT_INFO && hs->info.size_bytes == 0) {
		ask_export_by(hs, NBD_OPT_GO);
	} else if (hs->option == NBD_OPT_GO) {
		transmission_begins(hs);
	} else {
		export_is_usable(hs);
		act_leave(hs);
	}
}

/* ---- Actions: NBD_OPT_EXPORT_NAME ---- */

void act_name_done(struct handshake *hs)
{
	transmission_begins(hs);
}

void act_name_answer(struct handshake *hs)
{
	const uint8_t *in = hs->in;

	hs->info.size_bytes = get_be64(
		in + offsetof(struct nbd_export_name_reply, size_bytes));
	hs->info.flags =
		get_be16(in + offsetof(struct nbd_export_name_reply, flags));
	if (!flags_are_good(hs))
		return;
	if (hs->no_zeroes)
		act_name_done(hs);
	else
		handshake_enter(hs, ST_ZEROES);
}

/* This option has no error reply: a server that is unwilling just goes. */
void act_closed_name(struct handshake *hs)
{
	char name[SHOWN_NAME_BYTES];

	text_escape_str(name, sizeof(name), hs->export_name);
	FAIL(hs, X_REFUSED, ENOENT,
	     "the server closed the connection when asked for export '%s'; it may not have it, insist on TLS (nbds://), or not admit this host",
	     name);
}

/* ---- Actions: NBD_OPT_LIST ---- */

void act_list_entry(struct handshake *hs)
{
	uint32_t max = hs->params.list_max > 0 ? hs->params.list_max
					       : HANDSHAKE_LIST_MAX;
	const char *name = (const char *)hs->in + sizeof(struct nbd_rep_server);
	uint32_t name_bytes;

	if (hs->reply.length_bytes > sizeof(hs->in) ||
	    proto_get_rep_server(&name_bytes, hs->in,
				 hs->reply.length_bytes) < 0) {
		PROTEST(hs, "an entry of its list has a wrong length");
		return;
	}
	/* It is in the middle of an answer: there is no polite way out. */
	if (++hs->entries_count > max) {
		FAIL(hs, X_REFUSED, E2BIG,
		     "the server lists more than %u exports, and no end is in sight",
		     max);
		return;
	}
	if (hs->params.on_entry != NULL)
		hs->params.on_entry(hs->params.arg, &(struct handshake_entry){
			.name = name,
			.name_bytes = name_bytes,
			.description = name + name_bytes,
			.description_bytes = hs->reply.length_bytes -
					     sizeof(struct nbd_rep_server) -
					     name_bytes,
		});
}
