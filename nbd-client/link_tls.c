// SPDX-License-Identifier: GPL-2.0-or-later
/* OpenSSL fed record by record. See link_tls.h. Control thread. */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/text.h"
#include "nbd-client/link_io.h"
#include "nbd-client/link_tls.h"
#include "nbd-client/link_tls_inside.h"

/* ---- records between socket and OpenSSL ---- */

/* In TLS 1.2 this message is where new keys begin, at number 0. */
static void count(uint64_t *sequence, uint8_t type)
{
	*sequence = type == TLS_CHANGE_CIPHER_SPEC ? 0 : *sequence + 1;
}

/* The records of all that OpenSSL has written have left. */
static void count_sent(struct link_tls *l, const uint8_t *at, size_t left)
{
	while (left > TLS_HEAD_BYTES) {
		size_t bytes = TLS_HEAD_BYTES + get_be16(at + 3);

		count(&l->sent_sequence, at[0]);
		at += bytes;
		left -= bytes;
	}
}

/* What OpenSSL has written and the socket has not taken. */
static size_t unsent(const struct link_tls *l, uint8_t **ret_at)
{
	long all = BIO_get_mem_data(SSL_get_wbio(l->ssl), ret_at);

	return (size_t)all - l->sent_bytes;
}

/* Whole records, because the BIO takes all. 0, -EAGAIN, -EPIPE or -errno. */
static int flush(struct link_tls *l)
{
	uint8_t *at;
	size_t left;
	int ret = 0;

	while ((left = unsent(l, &at)) > 0) {
		ssize_t n = link_send(l->fd, at + l->sent_bytes, left);

		if (n == -EAGAIN)
			return -EAGAIN;
		if (n < 0) {
			ret = link_is_gone((int)-n) ? -EPIPE : (int)n;
			break;
		}
		l->sent_bytes += (size_t)n;
	}
	count_sent(l, at, l->sent_bytes);
	l->sent_bytes = 0;
	BIO_reset(SSL_get_wbio(l->ssl));
	return ret;
}

/* l->record up to so many bytes. 1; 0: the peer has closed; or -errno. */
static int receive(struct link_tls *l, size_t bytes)
{
	while (l->record_bytes < bytes) {
		ssize_t n = link_receive(l->fd, l->record + l->record_bytes,
					 bytes - l->record_bytes);

		if (n == 0 || (n < 0 && link_is_gone((int)-n)))
			return 0;
		if (n < 0)
			return (int)n;
		l->record_bytes += (size_t)n;
	}
	return 1;
}

static int refuse(struct link_tls *l, const char *what)
{
	err_set(&l->err, X_TLS, EPROTO, "TLS with the server failed: %s", what);
	return -EPROTO;
}

static int check_head(struct link_tls *l, size_t bytes)
{
	if (l->record[0] < TLS_CHANGE_CIPHER_SPEC || l->record[0] > TLS_DATA ||
	    l->record[1] != 3)
		return refuse(l, "what it sends is not TLS; somebody may be tampering with the connection");
	if (bytes > sizeof(l->record))
		return refuse(l, "a record that is longer than TLS allows");
	return 1;
}

static int count_received(struct link_tls *l)
{
	l->received_bytes += l->record_bytes - TLS_HEAD_BYTES;
	l->received_records++;
	if (!l->up && (l->received_bytes > LINK_TLS_HANDSHAKE_BYTES_MAX ||
		       l->received_records > LINK_TLS_HANDSHAKE_RECORDS_MAX))
		return refuse(l, "the handshake is without end");
	count(&l->received_sequence, l->record[0]);
	return 1;
}

/* A record from the socket to OpenSSL. 1; 0: closed; -EAGAIN or -errno. */
static int feed(struct link_tls *l)
{
	size_t bytes;
	int r = receive(l, TLS_HEAD_BYTES);

	if (r <= 0)
		return r;
	bytes = TLS_HEAD_BYTES + get_be16(l->record + 3);
	r = check_head(l, bytes);
	if (r > 0)
		r = receive(l, bytes);
	if (r > 0)
		r = count_received(l);
	if (r <= 0)
		return r;
	l->record_bytes = 0;
	if (BIO_write(SSL_get_rbio(l->ssl), l->record, (int)bytes) !=
	    (int)bytes)
		return refuse(l, "its memory is used up");
	return 1;
}

/*
 * After a call of OpenSSL that did not succeed: 1: call again; 0: the peer has
 * closed; -EAGAIN: and call again then; or another -errno.
 */
static int go_on(struct link_tls *l, int result)
{
	int error = SSL_get_error(l->ssl, result);
	int r;

	if (l->refused)
		return refuse(l, l->refused);
	/* An alert of ours may be in there, so that the server knows, too. */
	r = flush(l);
	if (error == SSL_ERROR_ZERO_RETURN)
		return 0;
	if (error != SSL_ERROR_WANT_READ) {
		link_tls_explain(l);
		return -EPROTO;
	}
	return r < 0 ? r : feed(l);
}

/* ---- what comes after the handshake and is no data ---- */

static void on_message(int writing, int version, int type, const void *message,
		       size_t bytes, SSL *ssl, void *arg)
{
	struct link_tls *l = arg;
	const uint8_t *m = message;

	(void)version;
	(void)ssl;
	if (writing || !l->up || type != SSL3_RT_HANDSHAKE || bytes == 0)
		return;
	if (m[0] != SSL3_MT_NEWSESSION_TICKET)
		l->refused = "a change of keys in the middle of the NBD negotiation";
	else if (++l->tickets > TLS_TICKETS_MAX)
		l->refused = "session tickets without end";
}

/* ---- handshake ---- */

static int set_name(struct link_tls *l)
{
	const char *name = l->tls->hostname;
	X509_VERIFY_PARAM *param = SSL_get0_param(l->ssl);
	uint8_t ip[16];

	if (l->tls->psk || !name[0])
		return 1;
	if (inet_pton(AF_INET, name, ip) == 1 ||
	    inet_pton(AF_INET6, name, ip) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(param, name);
	SSL_set_hostflags(l->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set1_host(l->ssl, name) == 1 &&
	       SSL_set_tlsext_host_name(l->ssl, name) == 1;
}

static int make(struct link_tls *l)
{
	BIO *in = BIO_new(BIO_s_mem());
	BIO *out = BIO_new(BIO_s_mem());

	l->ssl = SSL_new(l->tls->ctx);
	if (!in || !out || !l->ssl || set_name(l) != 1) {
		BIO_free(in);
		BIO_free(out);
		return -ENOMEM;
	}
	/* Empty means "later", not "closed". */
	BIO_set_mem_eof_return(in, -1);
	BIO_set_mem_eof_return(out, -1);
	SSL_set_bio(l->ssl, in, out);
	SSL_set_app_data(l->ssl, l);
	SSL_set_msg_callback(l->ssl, on_message);
	SSL_set_msg_callback_arg(l->ssl, l);
	SSL_CTX_set_keylog_callback(l->tls->ctx, link_tls_on_secret);
	SSL_set_connect_state(l->ssl);
	return 0;
}

/* A pre-shared key was offered: it must be what the server proved to know. */
static bool psk_was_used(const struct link_tls *l)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(l->ssl);

	if (SSL_version(l->ssl) >= TLS1_3_VERSION)
		return SSL_session_reused(l->ssl) == 1;
	return SSL_CIPHER_get_auth_nid(cipher) == NID_auth_psk;
}

/* timegm(3) would look up the time zone, in a file. */
static int64_t seconds_of(const ASN1_TIME *time)
{
	ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
	int days = 0, seconds = 0;

	if (epoch)
		ASN1_TIME_diff(&days, &seconds, epoch, time);
	ASN1_TIME_free(epoch);
	return (int64_t)days * 24 * 3600 + seconds;
}

static void describe_peer(struct link_tls *l)
{
	X509 *cert = SSL_get0_peer_certificate(l->ssl);
	struct link_tls_peer *p = &l->peer;
	char name[256] = "";

	*p = (struct link_tls_peer){ 0 };
	text_escape_str(p->version, sizeof(p->version),
			SSL_get_version(l->ssl));
	text_escape_str(p->cipher, sizeof(p->cipher),
			SSL_CIPHER_get_name(SSL_get_current_cipher(l->ssl)));
	if (l->tls->psk) {
		memcpy(p->subject, "pre-shared key of ", 18);
		text_escape_str(p->subject + 18, sizeof(p->subject) - 18,
				l->tls->identity);
	} else if (cert) {
		X509_NAME_oneline(X509_get_subject_name(cert), name,
				  sizeof(name));
		text_escape_str(p->subject, sizeof(p->subject), name);
		p->expires = seconds_of(X509_get0_notAfter(cert));
	}
}

/* GnuTLS servers mostly do not say why they do not like us. */
static int hung_up(struct link_tls *l)
{
	if (l->tls->psk)
		return refuse(l, "it closed the connection in the middle of the handshake; does it know this user, and is the pre-shared key the same on both sides?");
	return refuse(l, "it closed the connection in the middle of the handshake; does it want a certificate of ours (--tls-cert), or a pre-shared key (--tls-psk-file)? Its log should say");
}

static int shake(struct link_tls *l)
{
	int r;

	while ((r = SSL_do_handshake(l->ssl)) != 1) {
		r = go_on(l, r);
		if (r == 0)
			return hung_up(l);
		if (r < 0)
			return r;
	}
	r = flush(l);
	if (r < 0)
		return r;
	if (l->tls->psk && !psk_was_used(l))
		return refuse(l, "it does not use the pre-shared key");
	/* In TLS 1.3 the keys for data begin here, and with them the count. */
	if (SSL_version(l->ssl) >= TLS1_3_VERSION)
		l->sent_sequence = l->received_sequence = 0;
	l->up = true;
	describe_peer(l);
	return 0;
}

void link_tls_init(struct link_tls *l, struct tls *tls)
{
	memset(l, 0, sizeof(*l));
	l->tls = tls;
	l->fd = -1;
}

static int begin(struct link_tls *l, int fd)
{
	int r;

	link_tls_end(l);
	link_tls_init(l, l->tls);
	r = make(l);
	if (r < 0)
		err_set(&l->err, X_TLS, -r,
			"OpenSSL's memory is used up, see status");
	else
		l->fd = fd;
	return r;
}

int link_tls_step(struct link_tls *l, int fd, struct err *err)
{
	int r;

	ERR_clear_error();
	r = l->fd < 0 ? begin(l, fd) : 0;
	if (r == 0)
		r = shake(l);
	if (r == -EPIPE)
		r = hung_up(l);
	if (r == 0 || r == -EAGAIN)
		return r;
	if (l->err.exit_code == EXIT_OK)
		err_set(&l->err, X_UNREACHABLE, -r,
			"cannot talk TLS with the server: %s",
			strerror(-r));
	if (err)
		*err = l->err;
	return r;
}

short link_tls_events(const struct link_tls *l)
{
	uint8_t *at;

	return l->ssl && unsent(l, &at) > 0 ? POLLOUT : POLLIN;
}

/* ---- data ---- */

ssize_t link_tls_send(struct link_tls *l, const void *from, size_t bytes)
{
	size_t written;
	int r;

	CHECK(l->up);
	ERR_clear_error();
	if (!l->written_bytes &&
	    SSL_write_ex(l->ssl, from, bytes, &l->written_bytes) != 1) {
		link_tls_explain(l);
		return -EPROTO;
	}
	r = flush(l);
	if (r == -EAGAIN)
		return r;
	written = l->written_bytes;
	l->written_bytes = 0;
	return r < 0 ? r : (ssize_t)written;
}

ssize_t link_tls_recv(struct link_tls *l, void *to, size_t bytes)
{
	size_t got;
	int r;

	CHECK(l->up);
	for (;;) {
		ERR_clear_error();
		r = SSL_read_ex(l->ssl, to, bytes, &got);
		if (r == 1 && !l->refused) {
			l->heard = true;
			return (ssize_t)got;
		}
		r = go_on(l, r);
		if (r == 0 && !l->heard && !l->tls->psk)
			return refuse(l, "it closed the connection after the handshake; does it want a certificate of ours (--tls-cert, --tls-key)? Its log should say");
		if (r <= 0)
			return r;
	}
}

bool link_tls_pending(const struct link_tls *l)
{
	return l->ssl && SSL_pending(l->ssl) > 0;
}

void link_tls_end(struct link_tls *l)
{
	SSL_free(l->ssl);
	l->ssl = NULL;
	l->fd = -1;
	l->up = false;
	OPENSSL_cleanse(l->client_secret, sizeof(l->client_secret));
	OPENSSL_cleanse(l->server_secret, sizeof(l->server_secret));
	OPENSSL_cleanse(l->record, sizeof(l->record));
	/* What it left for this thread in OpenSSL's error queue. */
	ERR_clear_error();
}
