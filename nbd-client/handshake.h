/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The negotiation with a server, from its greeting to the first request, as a
 * machine that is fed bytes and yields bytes ("Handshake" in the protocol
 * text).
 *
 * Owns what is agreed on one connection.  Pure: no I/O, no clock, no memory
 * beyond struct handshake, and all of that bounded whatever a server sends.
 * The control thread runs it, through link_negotiate() or, inside TLS, through
 * whoever moves the records.
 *
 *	handshake_init(&hs, &params, err);
 *	while (!handshake_ended(&hs))
 *		if (handshake_output(&hs, &n) has bytes)
 *			send some, handshake_sent(&hs, sent);
 *		else if (handshake_status(&hs) == HANDSHAKE_WANTS_TLS)
 *			start TLS, handshake_tls_started(&hs);
 *		else
 *			receive some, handshake_feed(&hs, bytes, n);
 *
 * The export is hs.info once the status is HANDSHAKE_DONE, the reason is hs.err
 * when it is HANDSHAKE_FAILED.
 */
#ifndef NBD_HANDSHAKE_H
#define NBD_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/proto.h"
#include "include/export.h"
#include "include/nbd-wire.h"

/* A server that sends more informations than this about an export is ill. */
#define HANDSHAKE_INFOS_MAX 64u

/* Longest option reply that is read to its end; known ones are shorter. */
#define HANDSHAKE_REPLY_MAX 65536u

/* Exports that a list may have, unless the caller says otherwise. */
#define HANDSHAKE_LIST_MAX 10000u

enum handshake_goal {
	HANDSHAKE_GO,		/* ends in transmission: attach, reconnect */
	HANDSHAKE_INFO,		/* asks what the export is, then leaves */
	HANDSHAKE_LIST,		/* asks which exports there are, then leaves */
};

enum handshake_tls {
	HANDSHAKE_TLS_OFF,	/* never asked for */
	HANDSHAKE_TLS_TRY,	/* opportunistic; a man in the middle can stop it */
	HANDSHAKE_TLS_REQUIRE,	/* nothing is said to a server without it */
};

/*
 * One export of a list, in the order of the server.  Neither is terminated,
 * both may hold anything: text_escape() before printing.
 */
struct handshake_entry {
	const char *name;
	size_t name_bytes;
	const char *description;
	size_t description_bytes;
};

struct handshake_params {
	enum handshake_goal goal;
	enum handshake_tls tls;
	const char *export_name;	/* NULL is ""; not needed for LIST */
	bool no_structured;		/* do not ask for structured replies */
	bool no_go;			/* as the old tool's -no-optgo */
	uint32_t list_max;		/* 0: HANDSHAKE_LIST_MAX */

	/* LIST: called from handshake_feed() for each entry; may be NULL. */
	void (*on_entry)(void *arg, const struct handshake_entry *entry);
	void *arg;
};

enum handshake_status {
	HANDSHAKE_RUNNING,	/* send the output, else feed */
	HANDSHAKE_WANTS_TLS,	/* start TLS on the connection now */
	HANDSHAKE_DONE,		/* GO: requests may be sent; else: close it */
	HANDSHAKE_FAILED,	/* close the connection; the reason is hs.err */
};

/* States, events and the table of both are in handshake.c. */
#define HANDSHAKE_OUT_BYTES                                                    \
	(sizeof(struct nbd_client_flags) + sizeof(struct nbd_option) +         \
	 sizeof(uint32_t) + NBD_STRING_MAX + 8 * sizeof(uint16_t))
#define HANDSHAKE_IN_BYTES (sizeof(struct nbd_rep_server) + 2 * NBD_STRING_MAX)

struct handshake {
	struct handshake_params params;	/* export_name: copied below */
	char export_name[NBD_STRING_MAX + 1];

	struct export_info info;	/* valid when DONE */
	struct err err;			/* valid when FAILED */

	/* Private from here on. */
	unsigned int state;
	unsigned int step;		/* counts what we began to wait for */
	unsigned int timeout_ms;	/* that has just passed */
	uint32_t option;		/* the one in flight */
	bool fixed;			/* both sides speak fixed newstyle */
	bool no_zeroes;			/* both sides agreed on it */
	bool have_export;		/* NBD_INFO_EXPORT has come */
	uint32_t infos_count;
	uint32_t entries_count;

	/* The item that is being read: a fixed one, a reply's head or data. */
	bool in_data;			/* reply is valid, its data come now */
	struct proto_option_reply reply;
	uint32_t in_want_bytes;		/* of the item */
	uint32_t in_bytes;		/* seen; those beyond in[] are dropped */
	uint8_t in[HANDSHAKE_IN_BYTES];

	uint32_t out_bytes;		/* out_sent_bytes <= out_bytes */
	uint32_t out_sent_bytes;
	uint8_t out[HANDSHAKE_OUT_BYTES];
};

/*
 * Readies a machine for a new connection.  -ENAMETOOLONG: the export name
 * exceeds 4096 bytes.  Nothing of an earlier connection is kept.
 */
int handshake_init(struct handshake *hs, const struct handshake_params *params,
		   struct err *err);

enum handshake_status handshake_status(const struct handshake *hs);

static inline bool handshake_ended(const struct handshake *hs)
{
	return handshake_status(hs) >= HANDSHAKE_DONE;
}

/* What is to be sent now; *ret_bytes is 0 if nothing is. */
const uint8_t *handshake_output(const struct handshake *hs, size_t *ret_bytes);

/* `bytes` of the output have left. */
void handshake_sent(struct handshake *hs, size_t bytes);

/*
 * Bytes have come.  All of them are taken: those that a server must not send
 * (before it was asked, after the end, in plain text after the answer to
 * STARTTLS) make the negotiation fail.
 */
void handshake_feed(struct handshake *hs, const void *src, size_t bytes);

/* The peer closed the connection; what it means depends on the state. */
void handshake_closed(struct handshake *hs);

/* Nothing came for the time allowed to a step. */
void handshake_timed_out(struct handshake *hs, unsigned int timeout_ms);

/* After HANDSHAKE_WANTS_TLS: from now on the bytes go through TLS. */
void handshake_tls_started(struct handshake *hs);

/*
 * Changes whenever the machine begins to wait for something else; the caller
 * gives each step its own time limit, so slow bytes do not prolong one.
 */
unsigned int handshake_step(const struct handshake *hs);

/* What is being waited for, as in "waiting for the server's greeting". */
const char *handshake_waiting_for(const struct handshake *hs);

/* True while only a farewell is due, for which nobody should wait long. */
bool handshake_leaving(const struct handshake *hs);

#endif
