/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbd-script-server: odd and hostile behaviour before transmission.
 *
 * Owns one table.  A hook is a few lines; the number is that of NAME=NUMBER.
 */
#include <string.h>
#include <time.h>

#include "common/bytes.h"
#include "tests/server/server.h"

static bool is_export_option(uint32_t option)
{
	return option == NBD_OPT_GO || option == NBD_OPT_INFO;
}

static void sleep_ms(uint64_t ms)
{
	struct timespec t = { .tv_sec = (time_t)(ms / 1000),
			      .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

/* ---- The greeting ---- */

static bool silent(struct conn *c)
{
	conn_hang(c);
}

static bool half_greeting(struct conn *c)
{
	uint8_t b[sizeof(struct nbd_greeting)];

	put_be64(b, NBD_MAGIC);
	put_be64(b + 8, NBD_OPTS_MAGIC);
	put_be16(b + 16, c->handshake_flags);
	conn_send(c, b, c->number < sizeof(b) ? c->number : sizeof(b));
	conn_hang(c);
}

static bool drip(struct conn *c)
{
	uint8_t b[sizeof(struct nbd_greeting)];

	put_be64(b, NBD_MAGIC);
	put_be64(b + 8, NBD_OPTS_MAGIC);
	put_be16(b + 16, c->handshake_flags);
	for (size_t i = 0; i < sizeof(b); i++) {
		conn_send(c, b + i, 1);
		sleep_ms(c->number ? c->number : 1000);
	}
	return true;
}

static bool close_at_once(struct conn *c)
{
	conn_close(c);
}

static bool not_nbd(struct conn *c)
{
	static const char banner[] = "SSH-2.0-OpenSSH_9.2p1\r\n";

	conn_send(c, banner, sizeof(banner) - 1);
	conn_hang(c);
}

static bool bad_style(struct conn *c)
{
	uint8_t b[sizeof(struct nbd_greeting)] = { 0 };

	put_be64(b, NBD_MAGIC);
	conn_send(c, b, sizeof(b));
	conn_hang(c);
}

static bool oldstyle(struct conn *c)
{
	uint8_t b[sizeof(struct nbd_oldstyle_greeting)] = { 0 };

	put_be64(b, NBD_MAGIC);
	put_be64(b + 8, NBD_OLDSTYLE_MAGIC);
	put_be64(b + 16, c->disk_bytes);
	put_be32(b + 24, c->flags);
	conn_send(c, b, sizeof(b));
	conn_hang(c);
}

static bool eager(struct conn *c)
{
	const struct proto_option_reply r = { NBD_OPT_STRUCTURED_REPLY,
					      NBD_REP_ACK, 0 };
	uint8_t b[sizeof(struct nbd_greeting) +
		  sizeof(struct nbd_option_reply)];

	put_be64(b, NBD_MAGIC);
	put_be64(b + 8, NBD_OPTS_MAGIC);
	put_be16(b + 16, c->handshake_flags);
	proto_put_option_reply(b + sizeof(struct nbd_greeting), &r);
	conn_send(c, b, sizeof(b));
	return true;
}

static bool not_fixed(struct conn *c)
{
	c->handshake_flags &= (uint16_t)~NBD_FLAG_FIXED_NEWSTYLE;
	return false;
}

static bool zeroes(struct conn *c)
{
	c->handshake_flags &= (uint16_t)~NBD_FLAG_NO_ZEROES;
	return false;
}

static bool unknown_flags(struct conn *c)
{
	c->handshake_flags |= 0x8004;
	c->flags |= 0xf000;
	return false;
}

/* ---- What the export claims to be ---- */

static bool size(struct conn *c)
{
	c->said_bytes = c->number;
	return false;
}

static bool flags(struct conn *c)
{
	c->flags = (uint16_t)c->number;
	return false;
}

static bool block_min(struct conn *c)
{
	c->block_min = (uint32_t)c->number;
	return false;
}

static bool block_pref(struct conn *c)
{
	c->block_pref = (uint32_t)c->number;
	return false;
}

static bool block_max(struct conn *c)
{
	c->block_max = (uint32_t)c->number;
	return false;
}

/* ---- Options ---- */

static bool silent_option(struct conn *c, uint32_t option, const uint8_t *data,
			  uint32_t bytes)
{
	(void)data, (void)bytes;
	if (option == c->number)
		conn_hang(c);
	return false;
}

static bool close_option(struct conn *c, uint32_t option, const uint8_t *data,
			 uint32_t bytes)
{
	(void)data, (void)bytes;
	if (option == c->number)
		conn_close(c);
	return false;
}

static bool no_structured(struct conn *c, uint32_t option, const uint8_t *data,
			  uint32_t bytes)
{
	(void)data, (void)bytes;
	if (option != NBD_OPT_STRUCTURED_REPLY)
		return false;
	conn_reply(c, option, NBD_REP_ERR_UNSUP, NULL, 0);
	return true;
}

static bool export_name_only(struct conn *c, uint32_t option,
			     const uint8_t *data, uint32_t bytes)
{
	(void)data, (void)bytes;
	if (option == NBD_OPT_EXPORT_NAME || option == NBD_OPT_ABORT)
		return false;
	conn_reply(c, option, NBD_REP_ERR_UNSUP, NULL, 0);
	return true;
}

static bool bad_reply_magic(struct conn *c, uint32_t option,
			    const uint8_t *data, uint32_t bytes)
{
	uint8_t b[sizeof(struct nbd_option_reply)] = { 0 };

	(void)option, (void)data, (void)bytes;
	conn_send(c, b, sizeof(b));
	return true;
}

static bool wrong_echo(struct conn *c, uint32_t option, const uint8_t *data,
		       uint32_t bytes)
{
	(void)data, (void)bytes;
	conn_reply(c, option + 1, NBD_REP_ACK, NULL, 0);
	return true;
}

static bool reply_type(struct conn *c, uint32_t option, const uint8_t *data,
		       uint32_t bytes)
{
	(void)data, (void)bytes;
	if (!is_export_option(option) && option != NBD_OPT_LIST)
		return false;
	conn_reply(c, option, (uint32_t)c->number, "go away", 7);
	return true;
}

static bool ack_length(struct conn *c, uint32_t option, const uint8_t *data,
		       uint32_t bytes)
{
	(void)data, (void)bytes;
	conn_reply_head(c, option, NBD_REP_ACK, (uint32_t)c->number);
	return true;
}

static bool info_length(struct conn *c, uint32_t option, const uint8_t *data,
			uint32_t bytes)
{
	uint8_t b[NBD_INFO_EXPORT_LENGTH] = { 0 };

	(void)data, (void)bytes;
	if (!is_export_option(option))
		return false;
	conn_reply_head(c, option, NBD_REP_INFO, (uint32_t)c->number);
	conn_send(c, b, c->number < sizeof(b) ? c->number : sizeof(b));
	conn_hang(c);
}

static bool error_length(struct conn *c, uint32_t option, const uint8_t *data,
			 uint32_t bytes)
{
	(void)data, (void)bytes;
	if (!is_export_option(option))
		return false;
	conn_reply_head(c, option, NBD_REP_ERR_POLICY, (uint32_t)c->number);
	for (uint64_t i = 0; i < c->number; i++)
		conn_send(c, "\033", 1);
	return true;
}

static bool endless_infos(struct conn *c, uint32_t option, const uint8_t *data,
			  uint32_t bytes)
{
	(void)data, (void)bytes;
	if (!is_export_option(option))
		return false;
	for (;;)
		conn_info_export(c, option);
}

static bool no_export_info(struct conn *c, uint32_t option,
			   const uint8_t *data, uint32_t bytes)
{
	(void)data, (void)bytes;
	if (!is_export_option(option))
		return false;
	conn_reply(c, option, NBD_REP_ACK, NULL, 0);
	return true;
}

static bool unknown_infos(struct conn *c, uint32_t option, const uint8_t *data,
			  uint32_t bytes)
{
	static uint8_t b[HELD_MAX * 100];

	(void)data, (void)bytes;
	if (!is_export_option(option))
		return false;
	put_be16(b, 0x7777);
	conn_reply(c, option, NBD_REP_INFO, b, 2);
	conn_reply(c, option, NBD_REP_INFO, b, sizeof(b));
	return false;
}

static bool extra_after_go(struct conn *c, uint32_t option,
			   const uint8_t *data, uint32_t bytes)
{
	const struct proto_option_reply ack = { NBD_OPT_GO, NBD_REP_ACK, 0 };
	uint8_t b[sizeof(struct nbd_option_reply) +
		  sizeof(struct nbd_simple_reply)];

	(void)data, (void)bytes;
	if (option != NBD_OPT_GO)
		return false;
	conn_info_export(c, option);
	/* In one segment, or the client might be through before it comes. */
	proto_put_option_reply(b, &ack);
	proto_put_simple_reply(b + sizeof(struct nbd_option_reply),
			       NBD_SUCCESS, 0);
	conn_send(c, b, sizeof(b));
	conn_hang(c);
}

static bool tls_required(struct conn *c, uint32_t option, const uint8_t *data,
			 uint32_t bytes)
{
	(void)data, (void)bytes;
	if (option == NBD_OPT_ABORT)
		return false;
	conn_reply(c, option, NBD_REP_ERR_TLS_REQD, NULL, 0);
	return true;
}

static bool tls_plaintext(struct conn *c, uint32_t option, const uint8_t *data,
			  uint32_t bytes)
{
	const struct proto_option_reply replies[] = {
		{ NBD_OPT_STARTTLS, NBD_REP_ACK, 0 },
		{ NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, 0 },
	};
	uint8_t b[2 * sizeof(struct nbd_option_reply)];

	(void)data, (void)bytes;
	if (option != NBD_OPT_STARTTLS)
		return false;
	/* In one segment, as one who injects it would try. */
	proto_put_option_reply(b, &replies[0]);
	proto_put_option_reply(b + sizeof(b) / 2, &replies[1]);
	conn_send(c, b, sizeof(b));
	return true;
}

static bool endless_list(struct conn *c, uint32_t option, const uint8_t *data,
			 uint32_t bytes)
{
	static const uint8_t entry[] = { 0, 0, 0, 1, 'x' };

	(void)data, (void)bytes;
	if (option != NBD_OPT_LIST)
		return false;
	for (;;)
		conn_reply(c, option, NBD_REP_SERVER, entry, sizeof(entry));
}

static bool slow_list(struct conn *c, uint32_t option, const uint8_t *data,
		      uint32_t bytes)
{
	static const uint8_t entry[] = { 0, 0, 0, 1, 'x' };

	(void)data, (void)bytes;
	if (option != NBD_OPT_LIST)
		return false;
	for (;;) {
		conn_reply(c, option, NBD_REP_SERVER, entry, sizeof(entry));
		sleep_ms(c->number ? c->number : 100);
	}
}

static bool list_name_length(struct conn *c, uint32_t option,
			     const uint8_t *data, uint32_t bytes)
{
	uint8_t b[8] = { 0 };

	(void)data, (void)bytes;
	if (option != NBD_OPT_LIST)
		return false;
	put_be32(b, (uint32_t)c->number);
	conn_reply(c, option, NBD_REP_SERVER, b, sizeof(b));
	return true;
}

const struct behaviour handshake_behaviours[] = {
	{ "silent", "accepts and says nothing", silent, NULL, NULL },
	{ "half-greeting", "=N bytes of it, then nothing", half_greeting, NULL,
	  NULL },
	{ "drip", "the greeting, a byte every N ms (1000)", drip, NULL, NULL },
	{ "close-at-once", "accepts and closes", close_at_once, NULL, NULL },
	{ "not-nbd", "greets as an SSH server", not_nbd, NULL, NULL },
	{ "bad-style", "NBDMAGIC, then zeroes", bad_style, NULL, NULL },
	{ "oldstyle", "oldstyle negotiation", oldstyle, NULL, NULL },
	{ "eager", "answers an option before it is sent", eager, NULL, NULL },
	{ "not-fixed", "newstyle, but not fixed", not_fixed, NULL, NULL },
	{ "zeroes", "does not offer NO_ZEROES", zeroes, NULL, NULL },
	{ "unknown-flags", "sets flags that nobody knows", unknown_flags, NULL,
	  NULL },
	{ "size", "=N is what the export claims to be", size, NULL, NULL },
	{ "flags", "=N are the transmission flags", flags, NULL, NULL },
	{ "block-min", "=N, 0: no sizes are given", block_min, NULL, NULL },
	{ "block-pref", "=N", block_pref, NULL, NULL },
	{ "block-max", "=N", block_max, NULL, NULL },
	{ "silent-option", "=N never gets an answer", NULL, silent_option,
	  NULL },
	{ "close-option", "=N makes it close", NULL, close_option, NULL },
	{ "no-structured", "no structured replies", NULL, no_structured, NULL },
	{ "export-name-only", "knows no other option", NULL, export_name_only,
	  NULL },
	{ "bad-reply-magic", "option replies without magic", NULL,
	  bad_reply_magic, NULL },
	{ "wrong-echo", "answers another option", NULL, wrong_echo, NULL },
	{ "reply-type", "=N as the reply to INFO, GO and LIST", NULL,
	  reply_type, NULL },
	{ "ack-length", "=N bytes announced in each ACK", NULL, ack_length,
	  NULL },
	{ "info-length", "=N bytes announced for INFO_EXPORT", NULL,
	  info_length, NULL },
	{ "error-length", "=N bytes of escapes as text of an error", NULL,
	  error_length, NULL },
	{ "endless-infos", "INFO_EXPORT for ever", NULL, endless_infos, NULL },
	{ "no-export-info", "ACK without INFO_EXPORT", NULL, no_export_info,
	  NULL },
	{ "unknown-infos", "also informations nobody knows", NULL,
	  unknown_infos, NULL },
	{ "extra-after-go", "a reply that nobody asked for", NULL,
	  extra_after_go, NULL },
	{ "tls-required", "ERR_TLS_REQD to everything", NULL, tls_required,
	  NULL },
	{ "tls-plaintext", "plain text after the ACK to STARTTLS", NULL,
	  tls_plaintext, NULL },
	{ "endless-list", "lists exports for ever", NULL, endless_list, NULL },
	{ "slow-list", "an export every N ms (100) for ever", NULL, slow_list,
	  NULL },
	{ "list-name-length", "=N, in 8 bytes of entry", NULL,
	  list_name_length, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
