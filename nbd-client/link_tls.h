/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TLS on a connected socket: the handshake, the NBD negotiation inside it, and
 * then the keys, for whoever makes the records from there on (tls_record.h,
 * ktls.h).
 *
 * OpenSSL never sees the socket: it is fed one record at a time and what it
 * writes is sent here, so nothing waits, a peer's bytes are bounded and counted,
 * and nothing of the stream is left inside when the keys leave.
 * Control thread, and the command line.
 */
#ifndef NBD_LINK_TLS_H
#define NBD_LINK_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "common/tls_record.h"
#include "nbd-client/tls.h"

/*
 * A handshake with long certificate chains takes some 20 KiB; whoever sends
 * more than this until the end of the handshake wants to keep us busy.
 */
#define LINK_TLS_HANDSHAKE_BYTES_MAX (256u * 1024u)
#define LINK_TLS_HANDSHAKE_RECORDS_MAX 1024u

/* What the peer proved to be, for status. */
struct link_tls_peer {
	char version[12]; /* "TLSv1.3" */
	char cipher[48];
	char subject[128]; /* escaped; or "pre-shared key of NAME" */
	int64_t expires;   /* of its certificate, seconds since 1970; or 0 */
};

/* Large: 18 KiB. */
struct link_tls {
	struct tls *tls;
	struct ssl_st *ssl;
	int fd; /* -1: not begun */
	bool up;
	bool heard;          /* data have come */
	const char *refused; /* what the peer sent and must not */
	struct link_tls_peer peer;
	struct err err;

	/* Of the direction's present keys, in records. */
	uint64_t sent_sequence;
	uint64_t received_sequence;
	uint64_t received_bytes; /* until the handshake was over */
	uint64_t received_records;
	uint32_t tickets;
	size_t sent_bytes;    /* of what OpenSSL has written */
	size_t written_bytes; /* the caller's, in there and not yet sent */
	size_t record_bytes;  /* of the record that is coming */

	uint8_t client_secret[64]; /* TLS 1.3 */
	uint8_t server_secret[64];
	size_t secret_bytes;
	uint8_t record[TLS_HEAD_BYTES + TLS_CONTENT_MAX + 2048];
};

void link_tls_init(struct link_tls *l, struct tls *tls);

/*
 * The handshake on a connected socket, as far as it goes without waiting. 0;
 * -EAGAIN: again when link_tls_events() are there; or another -errno with *err
 * set, X_TLS mostly.
 */
int link_tls_step(struct link_tls *l, int fd, struct err *err);

/* What to wait for after -EAGAIN, for poll(2). */
short link_tls_events(const struct link_tls *l);

/*
 * As send(2) and recv(2): how many bytes, 0 from recv when the peer has closed,
 * -EAGAIN, -EPIPE, or -EPROTO with l->err. After -EAGAIN link_tls_send() is to
 * be called with the same bytes again.
 */
ssize_t link_tls_send(struct link_tls *l, const void *from, size_t bytes);
ssize_t link_tls_recv(struct link_tls *l, void *to, size_t bytes);

/* Whether data have come that were not received yet. */
bool link_tls_pending(const struct link_tls *l);

/* The keys as they are now, with their sequence numbers. 0 or -errno. */
int link_tls_keys(struct link_tls *l, struct tls_keys *ret_send,
		  struct tls_keys *ret_receive, struct err *err);

/* Forgets keys and frees all; the socket stays the caller's. */
void link_tls_end(struct link_tls *l);

#endif
