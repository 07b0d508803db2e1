// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The keys of a TLS connection, taken out of OpenSSL for those who make the
 * records afterwards. Control thread.
 */
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/ssl.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "nbd-client/link_tls_inside.h"

/* ---- secrets of TLS 1.3, as they come up ---- */

static size_t take_hex(const char *text, uint8_t *to, size_t room)
{
	size_t n = 0;

	for (; n < room && text[0] && text[1]; text += 2) {
		uint8_t byte = 0;

		for (int i = 0; i < 2; i++) {
			char c = text[i];

			byte = (uint8_t)(byte << 4 |
					 (c <= '9' ? c - '0' :
						     (c | 0x20) - 'a' + 10));
		}
		to[n++] = byte;
	}
	return n;
}

void link_tls_on_secret(const SSL *ssl, const char *line)
{
	static const char client[] = "CLIENT_TRAFFIC_SECRET_0 ";
	static const char server[] = "SERVER_TRAFFIC_SECRET_0 ";
	struct link_tls *l = SSL_get_app_data(ssl);
	const char *secret = strrchr(line, ' ');

	if (!secret)
		return;
	if (!strncmp(line, client, sizeof(client) - 1))
		l->secret_bytes = take_hex(secret + 1, l->client_secret,
					   sizeof(l->client_secret));
	else if (!strncmp(line, server, sizeof(server) - 1))
		take_hex(secret + 1, l->server_secret,
			 sizeof(l->server_secret));
}

/* ---- derivation ---- */

/*
 * HKDF-Expand-Label (RFC 8446 7.1) with an empty context, for outputs that are
 * no longer than the hash: of HKDF-Expand (RFC 5869 2.3) the first block.
 */
static bool expand(const EVP_MD *md, const uint8_t *secret, size_t secret_bytes,
		   const char *label, uint8_t *to, size_t bytes)
{
	uint8_t info[2 + 1 + 32 + 1 + 1], block[EVP_MAX_MD_SIZE];
	size_t label_bytes = 6 + strlen(label), at = 0;
	unsigned int n = 0;

	CHECK(label_bytes <= 32 && bytes <= (size_t)EVP_MD_get_size(md));
	put_be16(info, (uint16_t)bytes);
	info[2] = (uint8_t)label_bytes;
	memcpy(info + 3, "tls13 ", 6);
	memcpy(info + 9, label, strlen(label));
	at = 3 + label_bytes;
	info[at++] = 0; /* no context */
	info[at++] = 1; /* the block's number */
	if (!HMAC(md, secret, (int)secret_bytes, info, at, block, &n) ||
	    n < bytes)
		return false;
	memcpy(to, block, bytes);
	OPENSSL_cleanse(block, sizeof(block));
	return true;
}

static bool derive13(struct link_tls *l, const EVP_MD *md,
		     const uint8_t *secret, struct tls_keys *k)
{
	return l->secret_bytes == (size_t)EVP_MD_get_size(md) &&
	       expand(md, secret, l->secret_bytes, "key", k->key,
		      tls_key_bytes(k->cipher)) &&
	       expand(md, secret, l->secret_bytes, "iv", k->iv, TLS_IV_BYTES);
}

/* RFC 5246 6.3: the key block; AEAD ciphers need no MAC keys. */
static bool derive12(struct link_tls *l, const EVP_MD *md,
		     struct tls_keys *send, struct tls_keys *receive)
{
	static const char label[] = "key expansion";
	uint8_t master[SSL_MAX_MASTER_KEY_LENGTH];
	uint8_t block[2 * (TLS_KEY_BYTES_MAX + TLS_IV_BYTES)] = { 0 };
	uint8_t seed[sizeof(label) - 1 + 2 * SSL3_RANDOM_SIZE];
	size_t master_bytes = SSL_SESSION_get_master_key(
		SSL_get_session(l->ssl), master, sizeof(master));
	size_t key = tls_key_bytes(send->cipher);
	size_t iv = send->cipher == TLS_CHACHA20_POLY1305 ? TLS_IV_BYTES : 4;
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_PRF, NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	char *name = (char *)(uintptr_t)EVP_MD_get0_name(md);
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, name,
						 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master,
						  master_bytes),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed,
						  sizeof(seed)),
		OSSL_PARAM_construct_end(),
	};
	bool ok;

	memcpy(seed, label, sizeof(label) - 1);
	SSL_get_server_random(l->ssl, seed + sizeof(label) - 1,
			      SSL3_RANDOM_SIZE);
	SSL_get_client_random(l->ssl,
			      seed + sizeof(label) - 1 + SSL3_RANDOM_SIZE,
			      SSL3_RANDOM_SIZE);
	ok = ctx && EVP_KDF_derive(ctx, block, 2 * (key + iv), params) == 1;
	memcpy(send->key, block, key);
	memcpy(receive->key, block + key, key);
	memcpy(send->iv, block + 2 * key, iv);
	memcpy(receive->iv, block + 2 * key + iv, iv);
	OPENSSL_cleanse(master, sizeof(master));
	OPENSSL_cleanse(block, sizeof(block));
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return ok;
}

static bool find_cipher(const SSL_CIPHER *cipher, enum tls_cipher *ret)
{
	switch (SSL_CIPHER_get_cipher_nid(cipher)) {
	case NID_aes_128_gcm:
		*ret = TLS_AES_128_GCM;
		return true;
	case NID_aes_256_gcm:
		*ret = TLS_AES_256_GCM;
		return true;
	case NID_chacha20_poly1305:
		*ret = TLS_CHACHA20_POLY1305;
		return true;
	default:
		return false;
	}
}

int link_tls_keys(struct link_tls *l, struct tls_keys *ret_send,
		  struct tls_keys *ret_receive, struct err *err)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(l->ssl);
	const EVP_MD *md = SSL_CIPHER_get_handshake_digest(cipher);
	bool tls13 = SSL_version(l->ssl) >= TLS1_3_VERSION;
	struct tls_keys send = { .tls13 = tls13, .sequence = l->sent_sequence };
	struct tls_keys receive = { .tls13 = tls13,
				    .sequence = l->received_sequence };
	bool ok = md && find_cipher(cipher, &send.cipher);

	CHECK(l->up && !link_tls_pending(l));
	receive.cipher = send.cipher;
	if (ok && tls13)
		ok = derive13(l, md, l->client_secret, &send) &&
		     derive13(l, md, l->server_secret, &receive);
	else if (ok)
		ok = derive12(l, md, &send, &receive);
	if (ok) {
		*ret_send = send;
		*ret_receive = receive;
	}
	OPENSSL_cleanse(&send, sizeof(send));
	OPENSSL_cleanse(&receive, sizeof(receive));
	if (!ok)
		return err_set(err, X_TLS, ENOTSUP,
			       "the keys of cipher %s cannot be derived",
			       SSL_CIPHER_get_name(cipher));
	return 0;
}
