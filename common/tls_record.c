// SPDX-License-Identifier: GPL-2.0-or-later
/* Records of TLS 1.2 and 1.3 with AEAD ciphers. See tls_record.h. */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/tls_record.h"

#define LEGACY_VERSION 0x0303u /* both versions say 1.2 in a record's head */
#define NEW_SESSION_TICKET 4u
#define KEY_UPDATE 24u
#define CLOSE_NOTIFY 0u

/* RFC 5246 6.2.3.3: sequence number, type, version, length. */
#define AAD12_BYTES 13u

static const struct {
	const EVP_CIPHER *(*evp)(void);
	size_t key_bytes;
	bool gcm;
} ciphers[TLS_CIPHERS] = {
	[TLS_AES_128_GCM] = { EVP_aes_128_gcm, 16, true },
	[TLS_AES_256_GCM] = { EVP_aes_256_gcm, 32, true },
	[TLS_CHACHA20_POLY1305] = { EVP_chacha20_poly1305, 32, false },
};

size_t tls_key_bytes(enum tls_cipher cipher)
{
	return ciphers[cipher].key_bytes;
}

/* ---- what both directions share ---- */

int tls_half_init(struct tls_half *h, const struct tls_keys *k, bool seal)
{
	if (!h->aead)
		h->aead = EVP_CIPHER_CTX_new();
	if (!h->aead)
		return -ENOMEM;
	h->tls13 = k->tls13;
	h->explicit_nonce = !k->tls13 && ciphers[k->cipher].gcm;
	h->sequence = k->sequence;
	memcpy(h->iv, k->iv, sizeof(h->iv));
	EVP_CIPHER_CTX_reset(h->aead);
	/* The nonce's length is 12 without asking, for all of them. */
	if (EVP_CipherInit_ex(h->aead, ciphers[k->cipher].evp(), NULL, k->key,
			      NULL, seal) != 1)
		return -ENOMEM;
	return 0;
}

void tls_half_fini(struct tls_half *half)
{
	EVP_CIPHER_CTX_free(half->aead);
	OPENSSL_cleanse(half, sizeof(*half));
}

/* RFC 8446 5.3, RFC 7905 2: the iv with the sequence number in its tail. */
static void nonce_of(const struct tls_half *h, const uint8_t *explicit_part,
		     uint8_t nonce[TLS_IV_BYTES])
{
	uint8_t sequence[8];

	memcpy(nonce, h->iv, TLS_IV_BYTES);
	if (h->explicit_nonce) {
		memcpy(nonce + 4, explicit_part, TLS_EXPLICIT_BYTES);
		return;
	}
	put_be64(sequence, h->sequence);
	for (size_t i = 0; i < sizeof(sequence); i++)
		nonce[4 + i] ^= sequence[i];
}

static bool feed_aad(struct tls_half *h, const uint8_t *head, size_t content)
{
	uint8_t aad[AAD12_BYTES];
	int n;

	if (h->tls13)
		return EVP_CipherUpdate(h->aead, NULL, &n, head,
					TLS_HEAD_BYTES) == 1;
	put_be64(aad, h->sequence);
	memcpy(aad + 8, head, 3);
	put_be16(aad + 11, (uint16_t)content);
	return EVP_CipherUpdate(h->aead, NULL, &n, aad, sizeof(aad)) == 1;
}

static bool begin(struct tls_half *h, const uint8_t *head,
		  const uint8_t *explicit_part, size_t content)
{
	uint8_t nonce[TLS_IV_BYTES];

	/* RFC 8446 5.3: it must never wrap. At 2^64 records it never will. */
	CHECK(h->sequence != UINT64_MAX);
	nonce_of(h, explicit_part, nonce);
	return EVP_CipherInit_ex(h->aead, NULL, NULL, NULL, nonce, -1) == 1 &&
	       feed_aad(h, head, content);
}

/* ---- to the peer ---- */

ssize_t tls_seal(struct tls_half *half, const struct iovec *parts,
		 size_t part_count, uint8_t *to)
{
	size_t skip = half->explicit_nonce ? TLS_EXPLICIT_BYTES : 0;
	uint8_t *at = to + TLS_HEAD_BYTES + skip;
	const uint8_t data = TLS_DATA;
	size_t content = 0, body;
	int n;

	for (size_t i = 0; i < part_count; i++)
		content += parts[i].iov_len;
	CHECK(content > 0 && content <= TLS_CONTENT_MAX);
	body = skip + content + half->tls13 + TLS_TAG_BYTES;
	to[0] = TLS_DATA;
	put_be16(to + 1, LEGACY_VERSION);
	put_be16(to + 3, (uint16_t)body);
	put_be64(to + TLS_HEAD_BYTES, half->sequence); /* or overwritten */
	if (!begin(half, to, to + TLS_HEAD_BYTES, content))
		return -1;
	for (size_t i = 0; i < part_count; i++) {
		if (EVP_CipherUpdate(half->aead, at, &n, parts[i].iov_base,
				     (int)parts[i].iov_len) != 1)
			return -1;
		at += n;
	}
	if (half->tls13) { /* the real type goes last, encrypted */
		if (EVP_CipherUpdate(half->aead, at, &n, &data, 1) != 1)
			return -1;
		at += n;
	}
	if (EVP_CipherFinal_ex(half->aead, at, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(half->aead, EVP_CTRL_AEAD_GET_TAG,
				TLS_TAG_BYTES, at) != 1)
		return -1;
	half->sequence++;
	return (ssize_t)(TLS_HEAD_BYTES + body);
}

/* ---- from the peer ---- */

void tls_open_start(struct tls_open *open, const struct tls_half *half)
{
	open->half = *half;
	open->failure = NULL;
	open->tickets = 0;
	open->gathered = 0;
}

static bool broken(struct tls_open *o, const char *why)
{
	o->failure = why;
	return false;
}

/* Decrypts a record to o->plain; *ret_content is still with its padding. */
static bool decrypt(struct tls_open *o, const uint8_t *record,
		    size_t *ret_content)
{
	struct tls_half *h = &o->half;
	size_t skip = h->explicit_nonce ? TLS_EXPLICIT_BYTES : 0;
	const uint8_t *from = record + TLS_HEAD_BYTES + skip;
	size_t body = get_be16(record + 3), content;
	uint8_t tag[TLS_TAG_BYTES];
	int n;

	if (body < skip + TLS_TAG_BYTES + h->tls13)
		return broken(o, "a TLS record that is too short");
	content = body - skip - TLS_TAG_BYTES;
	memcpy(tag, from + content, sizeof(tag));
	if (!begin(h, record, record + TLS_HEAD_BYTES, content) ||
	    EVP_CipherUpdate(h->aead, o->plain, &n, from, (int)content) != 1 ||
	    EVP_CIPHER_CTX_ctrl(h->aead, EVP_CTRL_AEAD_SET_TAG, TLS_TAG_BYTES,
				tag) != 1 ||
	    EVP_CipherFinal_ex(h->aead, o->plain + n, &n) != 1)
		return broken(o, "a TLS record that was damaged or forged");
	h->sequence++;
	*ret_content = content;
	return true;
}

/* RFC 8446 5.4: zeroes at the end are padding, before them stands the type. */
static bool unpad(struct tls_open *o, size_t *content, uint8_t *type)
{
	size_t n = *content;

	while (n && !o->plain[n - 1])
		n--;
	if (!n)
		return broken(o, "a TLS record of nothing but padding");
	*type = o->plain[n - 1];
	*content = n - 1;
	return true;
}

const char *tls_no_data(uint8_t type, const uint8_t *content, size_t bytes)
{
	switch (type) {
	case TLS_ALERT:
		return bytes == 2 && content[1] == CLOSE_NOTIFY ?
			       "the server closed the connection" :
			       "the server gave up the connection with a TLS alert";
	case TLS_HANDSHAKE:
		return bytes && content[0] == KEY_UPDATE ?
			       "the server changes its TLS keys, which takes a new connection" :
			       "a TLS handshake message after the handshake";
	default:
		return "a TLS record of an unknown type";
	}
}

/*
 * Tickets for later sessions are passed over: there are none. Anything else
 * would change the keys, which is left to a new connection.
 */
static bool on_handshake(struct tls_open *o, size_t content)
{
	size_t at = 0;

	if (!o->half.tls13)
		return broken(o, "the server wants to negotiate TLS anew");
	while (at < content && o->plain[at] == NEW_SESSION_TICKET &&
	       content - at >= 4) {
		at += 4u + ((size_t)o->plain[at + 1] << 16) +
		      get_be16(o->plain + at + 2);
		if (++o->tickets > TLS_TICKETS_MAX)
			return broken(o, "TLS session tickets without end");
	}
	if (content && at == content)
		return true;
	if (at > content)
		at = content;
	return broken(o, tls_no_data(TLS_HANDSHAKE, o->plain + at,
				     content - at));
}

static bool on_record(struct tls_open *o, const uint8_t *record,
		      size_t *ret_plain)
{
	uint8_t type = record[0];
	size_t content;

	if (!decrypt(o, record, &content))
		return false;
	if (o->half.tls13 && !unpad(o, &content, &type))
		return false;
	if (content > TLS_CONTENT_MAX)
		return broken(o, "a TLS record with too much content");
	switch (type) {
	case TLS_DATA:
		*ret_plain = content;
		return true;
	case TLS_HANDSHAKE:
		return on_handshake(o, content);
	default:
		return broken(o, tls_no_data(type, o->plain, content));
	}
}

static bool head_is_good(struct tls_open *o, const uint8_t *head)
{
	/* In TLS 1.3 everything looks like data from outside. */
	if (get_be16(head + 1) != LEGACY_VERSION ||
	    (o->half.tls13 ? head[0] != TLS_DATA :
			     head[0] < TLS_ALERT || head[0] > TLS_DATA))
		return broken(o, "what came is not a TLS record");
	if (get_be16(head + 3) > TLS_BODY_MAX)
		return broken(o, "a TLS record that is too long");
	return true;
}

/* More of the record in o->record, up to `want` bytes of it. */
static size_t gather(struct tls_open *o, const uint8_t *from, size_t bytes,
		     size_t want)
{
	size_t n = want - o->gathered < bytes ? want - o->gathered : bytes;

	memcpy(o->record + o->gathered, from, n);
	o->gathered += (uint32_t)n;
	return n;
}

ssize_t tls_open_take(struct tls_open *o, const uint8_t *from, size_t bytes,
		      size_t *ret_plain_bytes)
{
	const uint8_t *record = o->record;
	size_t taken = 0, want;

	*ret_plain_bytes = 0;
	if (o->failure)
		return -1;
	if (!o->gathered && bytes >= TLS_HEAD_BYTES)
		record = from; /* perhaps all of it is there */
	else if (o->gathered < TLS_HEAD_BYTES)
		taken = gather(o, from, bytes, TLS_HEAD_BYTES);
	if (record == o->record && o->gathered < TLS_HEAD_BYTES)
		return (ssize_t)taken;
	if (!head_is_good(o, record))
		return -1;
	want = TLS_HEAD_BYTES + get_be16(record + 3);
	if (record == from && bytes >= want) {
		taken = want;
	} else {
		record = o->record;
		taken += gather(o, from + taken, bytes - taken, want);
		if (o->gathered < want)
			return (ssize_t)taken;
		o->gathered = 0;
	}
	return on_record(o, record, ret_plain_bytes) ? (ssize_t)taken : -1;
}
