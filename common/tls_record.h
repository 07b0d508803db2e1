/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TLS records to and from bytes, once a handshake has agreed on keys: RFC 8446
 * section 5 and RFC 5246 section 6.2.3.3, with the AEAD ciphers of RFC 5288,
 * 7905 and 8446. This is what the kernel's TLS does, for where it cannot.
 *
 * Pure: no I/O and, between tls_half_init() and the end of the connection, no
 * memory: libcrypto's cipher contexts are made beforehand. What libcrypto does
 * here is one cipher on given bytes, no protocol.
 *
 * Set up by the control thread, then used by the data thread alone, until the
 * link is idle.
 */
#ifndef NBD_TLS_RECORD_H
#define NBD_TLS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define TLS_KEY_BYTES_MAX 32u
#define TLS_IV_BYTES 12u
#define TLS_TAG_BYTES 16u
#define TLS_HEAD_BYTES 5u
#define TLS_EXPLICIT_BYTES 8u /* TLS 1.2 with GCM: nonce in the record */

/* Content of a record at most; RFC 8446 5.1. */
#define TLS_CONTENT_MAX 16384u

/* What is sent adds at most this: head, nonce or type, tag. */
#define TLS_OVERHEAD_MAX (TLS_HEAD_BYTES + TLS_EXPLICIT_BYTES + TLS_TAG_BYTES)

/*
 * What may come: RFC 8446 5.2 allows 256 bytes beyond the content. TLS 1.2
 * allowed 2048, which no AEAD cipher needs.
 */
#define TLS_BODY_MAX (TLS_CONTENT_MAX + 256u)

/* Without end, tickets would be a way to keep us busy. */
#define TLS_TICKETS_MAX 64u

enum tls_content {
	TLS_CHANGE_CIPHER_SPEC = 20,
	TLS_ALERT = 21,
	TLS_HANDSHAKE = 22,
	TLS_DATA = 23,
};

enum tls_cipher {
	TLS_AES_128_GCM,
	TLS_AES_256_GCM,
	TLS_CHACHA20_POLY1305,
	TLS_CIPHERS,
};

/* One direction of a connection. A secret: wipe it after use. */
struct tls_keys {
	bool tls13;
	enum tls_cipher cipher;
	uint8_t key[TLS_KEY_BYTES_MAX];
	uint8_t iv[TLS_IV_BYTES]; /* TLS 1.2 with GCM: 4 bytes of salt */
	uint64_t sequence;        /* of the next record */
};

size_t tls_key_bytes(enum tls_cipher cipher);

/* One direction, at work. */
struct tls_half {
	struct evp_cipher_ctx_st *aead;
	bool tls13;
	bool explicit_nonce;
	uint8_t iv[TLS_IV_BYTES];
	uint64_t sequence;
};

/*
 * 0, or -ENOMEM. Zeroed before first use; again for each connection, with a
 * context that stays. seal: for what is sent. Control thread.
 */
int tls_half_init(struct tls_half *half, const struct tls_keys *keys,
		  bool seal);

/* Wipes keys, lets go of the context. Control thread. */
void tls_half_fini(struct tls_half *half);

/* ---- to the peer ---- */

/*
 * One record with `bytes` (1 ... TLS_CONTENT_MAX) gathered from `parts` as they
 * lie, to `to`, which has room for bytes + TLS_OVERHEAD_MAX. Returns its
 * length, or -1 if the cipher fails.
 */
ssize_t tls_seal(struct tls_half *half, const struct iovec *parts,
		 size_t part_count, uint8_t *to);

/* ---- from the peer ---- */

struct tls_open {
	struct tls_half half;
	const char *failure; /* why the link must go; a literal */
	uint32_t tickets;
	uint32_t gathered; /* bytes of the record that is not whole yet */
	uint8_t record[TLS_HEAD_BYTES + TLS_BODY_MAX];
	uint8_t plain[TLS_BODY_MAX];
};

/* A new connection. half, which is copied, keeps its context. */
void tls_open_start(struct tls_open *open, const struct tls_half *half);

/*
 * Takes bytes off the connection, up to the end of a record at most. Returns
 * how many; when *ret_plain_bytes is not 0, that much data are in open->plain.
 * -1: open->failure says why nothing more can come.
 */
ssize_t tls_open_take(struct tls_open *open, const uint8_t *from, size_t bytes,
		      size_t *ret_plain_bytes);

/* Why a record of this type, which is not TLS_DATA, ends the connection. */
const char *tls_no_data(uint8_t type, const uint8_t *content, size_t bytes);

#endif
