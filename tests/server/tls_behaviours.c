/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbd-script-server: TLS, as it should be and as it should not.
 *
 * Owns one table. Those of the first part answer STARTTLS; those of the second
 * are added to one of these and misbehave inside TLS: "early", when the first
 * option comes, else when the first request does.
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/bytes.h"
#include "tests/server/server.h"

#define PSK_USER "alice"
static const uint8_t psk_key[] = { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab,
				   0xcd, 0xef, 0x01, 0x23, 0x45, 0x67,
				   0x89, 0xab, 0xcd, 0xef };

/* Set before STARTTLS is answered, by those that change the terms. */
static int version_max = TLS1_3_VERSION;
static const char *suites = "TLS_AES_128_GCM_SHA256";
static bool with_psk;

/* ---- bytes ---- */

void tls_send(struct conn *c, const void *src, size_t bytes)
{
	size_t n;

	if (SSL_write_ex(c->ssl, src, bytes, &n) != 1)
		conn_close(c);
}

void tls_receive(struct conn *c, void *dst, size_t bytes)
{
	uint8_t *d = dst;
	size_t n;

	for (; bytes > 0; bytes -= n, d += n)
		if (SSL_read_ex(c->ssl, d, bytes, &n) != 1)
			conn_close(c);
}

static void send_raw(struct conn *c, const void *src, size_t bytes)
{
	if (send(c->fd, src, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
		conn_close(c);
}

static void grant(struct conn *c)
{
	conn_reply(c, NBD_OPT_STARTTLS, NBD_REP_ACK, NULL, 0);
}

/* ---- answers to STARTTLS ---- */

static unsigned int know_psk(SSL *ssl, const char *identity,
			     unsigned char *key, unsigned int key_bytes)
{
	(void)ssl;
	if (strcmp(identity, PSK_USER) != 0 || key_bytes < sizeof(psk_key))
		return 0;
	memcpy(key, psk_key, sizeof(psk_key));
	return sizeof(psk_key);
}

static SSL *make(struct conn *c)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	SSL *ssl;

	/* Also what nobody should speak any more. */
	SSL_CTX_set_security_level(ctx, 0);
	SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(ctx, version_max);
	SSL_CTX_set_ciphersuites(ctx, suites);
	SSL_CTX_set_cipher_list(ctx, "ALL:@SECLEVEL=0");
	if (with_psk)
		SSL_CTX_set_psk_server_callback(ctx, know_psk);
	if (c->tls_cert)
		SSL_CTX_use_certificate_chain_file(ctx, c->tls_cert);
	if (c->tls_key)
		SSL_CTX_use_PrivateKey_file(ctx, c->tls_key, SSL_FILETYPE_PEM);
	if (c->tls_ca) {
		SSL_CTX_load_verify_file(ctx, c->tls_ca);
		SSL_CTX_set_verify(ctx,
				   SSL_VERIFY_PEER |
					   SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
				   NULL);
	}
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, c->fd);
	SSL_set_accept_state(ssl);
	return ssl;
}

static bool tls(struct conn *c, uint32_t option, const uint8_t *data,
		uint32_t bytes)
{
	SSL *ssl;

	(void)data;
	(void)bytes;
	if (option != NBD_OPT_STARTTLS || c->ssl)
		return false;
	grant(c);
	ssl = make(c);
	if (SSL_do_handshake(ssl) != 1) {
		/* the alert is on its way: let it arrive */
		shutdown(c->fd, SHUT_WR);
		conn_hang(c);
	}
	c->ssl = ssl;
	c->options_count = 0;
	return true;
}

static bool with_version(struct conn *c)
{
	version_max = c->number == 11 ? TLS1_1_VERSION :
		      c->number == 12 ? TLS1_2_VERSION :
					TLS1_3_VERSION;
	return false;
}

static bool psk(struct conn *c)
{
	(void)c;
	with_psk = true;
	return false;
}

static bool refused(struct conn *c, uint32_t option, const uint8_t *data,
		    uint32_t bytes)
{
	(void)data;
	(void)bytes;
	if (option != NBD_OPT_STARTTLS)
		return false;
	conn_reply(c, option, NBD_REP_ERR_POLICY, "no", 2);
	return true;
}

/* An answer to a question that has not been asked yet, in one piece. */
static bool injected(struct conn *c, uint32_t option, const uint8_t *data,
		     uint32_t bytes)
{
	const struct proto_option_reply r[2] = {
		{ NBD_OPT_STARTTLS, NBD_REP_ACK, 0 },
		{ NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, 0 },
	};
	uint8_t b[2 * sizeof(struct nbd_option_reply)];

	(void)data;
	(void)bytes;
	if (option != NBD_OPT_STARTTLS)
		return false;
	proto_put_option_reply(b, &r[0]);
	proto_put_option_reply(b + sizeof(b) / 2, &r[1]);
	send_raw(c, b, sizeof(b));
	conn_hang(c);
}

static bool silent(struct conn *c, uint32_t option, const uint8_t *data,
		   uint32_t bytes)
{
	(void)data;
	(void)bytes;
	if (option != NBD_OPT_STARTTLS)
		return false;
	grant(c);
	conn_hang(c);
}

static bool not_tls(struct conn *c, uint32_t option, const uint8_t *data,
		    uint32_t bytes)
{
	(void)data;
	(void)bytes;
	if (option != NBD_OPT_STARTTLS)
		return false;
	grant(c);
	conn_receive(c, (uint8_t[1]){ 0 }, 1); /* not with the ACK */
	send_raw(c, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
	conn_hang(c);
}

/* The bytes of a good handshake: `bytes` of them, then `pause_ms` for each. */
static void handshake_in_bits(struct conn *c, size_t bytes, uint64_t pause_ms)
{
	const struct timespec pause = {
		.tv_sec = (time_t)(pause_ms / 1000),
		.tv_nsec = (long)(pause_ms % 1000) * 1000000,
	};
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	SSL *ssl = make(c);
	uint8_t hello[4096];
	char *at;
	long left;

	/* A ClientHello comes in one piece. */
	left = recv(c->fd, hello, sizeof(hello), 0);
	BIO_write(in, hello, left > 0 ? (int)left : 0);
	BIO_set_mem_eof_return(in, -1);
	SSL_set_bio(ssl, in, out);
	SSL_do_handshake(ssl);
	left = BIO_get_mem_data(out, &at);
	for (; left > 0; left--, at++) {
		if (bytes == 0 && pause_ms == 0)
			return;
		if (bytes == 0)
			nanosleep(&pause, NULL);
		else
			bytes--;
		send_raw(c, at, 1);
	}
	conn_hang(c);
}

static bool drip(struct conn *c, uint32_t option, const uint8_t *data,
		 uint32_t bytes)
{
	(void)data;
	(void)bytes;
	if (option != NBD_OPT_STARTTLS)
		return false;
	grant(c);
	handshake_in_bits(c, 0, c->number ? c->number : 20);
	conn_close(c);
}

static bool truncated(struct conn *c, uint32_t option, const uint8_t *data,
		      uint32_t bytes)
{
	(void)data;
	(void)bytes;
	if (option != NBD_OPT_STARTTLS)
		return false;
	grant(c);
	handshake_in_bits(c, c->number, 0);
	conn_close(c);
}

/* Handshake messages of which each one looks good, for ever. */
static bool endless(struct conn *c, uint32_t option, const uint8_t *data,
		    uint32_t bytes)
{
	/* TLS 1.2 to outward appearance: a warning, which may be ignored. */
	static const uint8_t warning[] = { 21, 3, 3, 0, 2, 1, 90 };

	(void)data;
	(void)bytes;
	if (option != NBD_OPT_STARTTLS)
		return false;
	grant(c);
	for (;;)
		send_raw(c, warning, sizeof(warning));
}

/* A message of 16 MiB, as its head says; what fills it comes without end. */
static bool huge(struct conn *c, uint32_t option, const uint8_t *data,
		 uint32_t bytes)
{
	static const uint8_t first[] = { 22, 3, 3, 0, 4, 2, 0xff, 0xff, 0xff };
	static uint8_t more[5 + 16384] = { 22, 3, 3, 0x40, 0 };

	(void)data;
	(void)bytes;
	if (option != NBD_OPT_STARTTLS)
		return false;
	grant(c);
	send_raw(c, first, sizeof(first));
	for (;;)
		send_raw(c, more, sizeof(more));
}

/* ---- inside TLS ---- */

static void change_keys(struct conn *c)
{
	for (uint64_t i = 0; i < (c->number ? c->number : 1); i++) {
		SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
		if (SSL_do_handshake(c->ssl) != 1)
			conn_close(c);
	}
}

static void send_tickets(struct conn *c)
{
	for (uint64_t i = 0; i < (c->number ? c->number : 1); i++) {
		SSL_new_session_ticket(c->ssl);
		if (SSL_do_handshake(c->ssl) != 1)
			conn_close(c);
	}
}

static void renegotiate(struct conn *c)
{
	SSL_renegotiate(c->ssl);
	SSL_do_handshake(c->ssl);
}

static void send_oversized(struct conn *c)
{
	static uint8_t b[5 + 65535] = { 23, 3, 3, 0xff, 0xff };

	send_raw(c, b, sizeof(b));
	conn_hang(c);
}

static void send_forged(struct conn *c)
{
	static uint8_t b[5 + 64] = { 23, 3, 3, 0, 64 };

	send_raw(c, b, sizeof(b));
	conn_hang(c);
}

static void send_half_record(struct conn *c)
{
	static uint8_t b[5 + 3] = { 23, 3, 3, 0, 64 };

	send_raw(c, b, sizeof(b));
	conn_close(c);
}

static void say_close(struct conn *c)
{
	SSL_shutdown(c->ssl);
	conn_hang(c);
}

static void half_close(struct conn *c)
{
	shutdown(c->fd, SHUT_WR);
	conn_hang(c);
}

static void plain_text(struct conn *c)
{
	struct ssl_st *ssl = c->ssl;

	c->ssl = NULL;
	conn_reply(c, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
	c->ssl = ssl;
	conn_hang(c);
}

/* Each as two behaviours: at the first option inside, at the first request. */
#define INSIDE(name)                                                           \
	static bool name##_early(struct conn *c, uint32_t option,              \
				 const uint8_t *data, uint32_t bytes)          \
	{                                                                      \
		(void)option;                                                  \
		(void)data;                                                    \
		(void)bytes;                                                   \
		if (c->ssl && c->options_count == 1)                           \
			name(c);                                               \
		return false;                                                  \
	}                                                                      \
	static bool name##_late(struct conn *c, const struct proto_request *r) \
	{                                                                      \
		(void)r;                                                       \
		if (c->ssl && c->requests_count == 1)                          \
			name(c);                                               \
		return false;                                                  \
	}
INSIDE(change_keys)
INSIDE(send_tickets)
INSIDE(renegotiate)
INSIDE(send_oversized)
INSIDE(send_forged)
INSIDE(send_half_record)
INSIDE(say_close)
INSIDE(half_close)
INSIDE(plain_text)

#define ROWS(text, name, help)                                                 \
	{ "tls-" text "-early", help, NULL, name##_early, NULL },              \
	{ "tls-" text, help ", at a request", NULL, NULL, name##_late }

const struct behaviour tls_behaviours[] = {
	{ "tls-version", "11, 12 or 13 at most", with_version, NULL, NULL },
	{ "tls-psk", "knows alice's key", psk, NULL, NULL },
	{ "tls-refused", "STARTTLS is refused by policy", NULL, refused, NULL },
	{ "tls-injected", "plain text after the ACK", NULL, injected, NULL },
	{ "tls-silent", "nothing after the ACK", NULL, silent, NULL },
	{ "tls-not", "something else after the ACK", NULL, not_tls, NULL },
	{ "tls-drip", "handshake byte by byte, N ms each", NULL, drip, NULL },
	{ "tls-truncated", "N bytes of the handshake", NULL, truncated, NULL },
	{ "tls-huge", "a handshake message of 16 MiB", NULL, huge, NULL },
	{ "tls-endless", "warnings for ever", NULL, endless, NULL },
	ROWS("rekey", change_keys, "N KeyUpdates"),
	ROWS("tickets", send_tickets, "N session tickets"),
	ROWS("renegotiate", renegotiate, "wants to negotiate anew"),
	ROWS("oversized", send_oversized, "a record of 64 KiB"),
	ROWS("forged", send_forged, "a record that is not authentic"),
	ROWS("half-record", send_half_record, "closes within a record"),
	ROWS("close", say_close, "says close_notify"),
	ROWS("half-close", half_close, "closes its half without a word"),
	ROWS("plain", plain_text, "plain text inside TLS"),
	{ "tls", "speaks TLS when asked to", NULL, tls, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
