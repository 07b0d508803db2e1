// SPDX-License-Identifier: GPL-2.0-or-later
/* OpenSSL fed record by record. See link_tls.h. Control thread. */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/text.h"
#include "nbd-client/link_io.h"
#include "nbd-client/link_tls.h"
#include "nbd-client/link_tls_inside.h"

/* ---- bytes on the socket ---- */

/* All of it, by the deadline. 0, -ETIMEDOUT, -EPIPE or another -errno. */
static int send_all(struct link_tls *l, const uint8_t *from, size_t bytes,
		    uint64_t deadline_ns)
{
	while (bytes) {
		ssize_t n = send(l->fd, from, bytes,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		int r = n < 0 ? errno : 0;

		if (r == EAGAIN) {
			r = link_wait(l->fd, POLLOUT, deadline_ns);
			if (r < 0)
				return r;
			continue;
		}
		if (r == EINTR)
			continue;
		if (r)
			return link_is_gone(r) ? -EPIPE : -r;
		from += n;
		bytes -= (size_t)n;
	}
	return 0;
}

/* Exactly so many. 1; 0: the peer has closed; -ETIMEDOUT or another -errno. */
static int receive_all(struct link_tls *l, uint8_t *to, size_t bytes,
		       uint64_t deadline_ns)
{
	while (bytes) {
		ssize_t n;
		int r;

		/* Also for a peer that always has one more byte for us. */
		if (link_left_ms(deadline_ns) == 0)
			return -ETIMEDOUT;
		n = recv(l->fd, to, bytes, MSG_DONTWAIT);
		r = n < 0 ? errno : 0;
		if (r == EAGAIN) {
			r = link_wait(l->fd, POLLIN, deadline_ns);
			if (r < 0)
				return r;
			continue;
		}
		if (r == EINTR)
			continue;
		if (n == 0 || link_is_gone(r))
			return 0;
		if (r)
			return -r;
		to += n;
		bytes -= (size_t)n;
	}
	return 1;
}

/* ---- records between socket and OpenSSL ---- */

/* In TLS 1.2 this message is where new keys begin, at number 0. */
static void count(uint64_t *sequence, uint8_t type)
{
	*sequence = type == TLS_CHANGE_CIPHER_SPEC ? 0 : *sequence + 1;
}

/* Sends what OpenSSL has written: whole records, because the BIO takes all. */
static int flush(struct link_tls *l, uint64_t deadline_ns)
{
	BIO *bio = SSL_get_wbio(l->ssl);
	uint8_t *at;
	long left = BIO_get_mem_data(bio, &at);
	int ret = left > 0 ? send_all(l, at, (size_t)left, deadline_ns) : 0;

	while (left > (long)TLS_HEAD_BYTES) {
		long bytes = (long)TLS_HEAD_BYTES + get_be16(at + 3);

		count(&l->sent_sequence, at[0]);
		at += bytes;
		left -= bytes;
	}
	BIO_reset(bio);
	return ret;
}

static int refuse(struct link_tls *l, const char *what)
{
	err_set(&l->err, X_TLS, EPROTO, "TLS with the server failed: %s", what);
	return -EPROTO;
}

/* A record from the socket to OpenSSL. 1; 0: closed; or -errno. */
static int feed(struct link_tls *l, uint64_t deadline_ns)
{
	size_t bytes;
	int r = receive_all(l, l->record, TLS_HEAD_BYTES, deadline_ns);

	if (r <= 0)
		return r;
	if (l->record[0] < TLS_CHANGE_CIPHER_SPEC || l->record[0] > TLS_DATA ||
	    l->record[1] != 3)
		return refuse(l, "what it sends is not TLS; somebody may be tampering with the connection");
	bytes = get_be16(l->record + 3);
	if (TLS_HEAD_BYTES + bytes > sizeof(l->record))
		return refuse(l, "a record that is longer than TLS allows");
	l->received_bytes += bytes;
	l->received_records++;
	if (!l->up && (l->received_bytes > LINK_TLS_HANDSHAKE_BYTES_MAX ||
		       l->received_records > LINK_TLS_HANDSHAKE_RECORDS_MAX))
		return refuse(l, "the handshake is without end");
	r = receive_all(l, l->record + TLS_HEAD_BYTES, bytes, deadline_ns);
	if (r <= 0)
		return r;
	count(&l->received_sequence, l->record[0]);
	bytes += TLS_HEAD_BYTES;
	if (BIO_write(SSL_get_rbio(l->ssl), l->record, (int)bytes) !=
	    (int)bytes)
		return refuse(l, "its memory is used up");
	return 1;
}

/*
 * After a call of OpenSSL that did not succeed: 1: call again; 0: the peer has
 * closed; or -errno.
 */
static int go_on(struct link_tls *l, int result, uint64_t deadline_ns)
{
	int error = SSL_get_error(l->ssl, result);
	int r;

	if (l->refused)
		return refuse(l, l->refused);
	/* An alert of ours may be in there, so that the server knows, too. */
	r = flush(l, error == SSL_ERROR_WANT_READ ? deadline_ns :
						    link_deadline(0));
	if (error == SSL_ERROR_ZERO_RETURN)
		return 0;
	if (error != SSL_ERROR_WANT_READ) {
		link_tls_explain(l);
		return -EPROTO;
	}
	return r < 0 ? r : feed(l, deadline_ns);
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

static int shake(struct link_tls *l, uint64_t deadline_ns)
{
	int r;

	while ((r = SSL_do_handshake(l->ssl)) != 1) {
		r = go_on(l, r, deadline_ns);
		if (r == 0)
			return hung_up(l);
		if (r < 0)
			return r;
	}
	r = flush(l, deadline_ns);
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

int link_tls_start(struct link_tls *l, int fd, uint64_t deadline_ns,
		   struct err *err)
{
	int r;

	link_tls_end(l);
	link_tls_init(l, l->tls);
	l->fd = fd;
	ERR_clear_error();
	r = make(l);
	if (r == 0)
		r = shake(l, deadline_ns);
	else
		err_set(&l->err, X_TLS, -r,
			"OpenSSL's memory is used up, see status");
	if (r == -EPIPE)
		r = hung_up(l);
	if (r < 0 && r != -ETIMEDOUT && l->err.exit_code == EXIT_OK)
		err_set(&l->err, X_UNREACHABLE, -r,
			"cannot talk TLS with the server: %s",
			strerror(-r));
	if (r < 0 && r != -ETIMEDOUT && err)
		*err = l->err;
	return r;
}

/* ---- data ---- */

ssize_t link_tls_send(struct link_tls *l, const void *from, size_t bytes,
		      uint64_t deadline_ns)
{
	size_t written;
	int r;

	CHECK(l->up);
	ERR_clear_error();
	if (SSL_write_ex(l->ssl, from, bytes, &written) != 1) {
		link_tls_explain(l);
		return -EPROTO;
	}
	r = flush(l, deadline_ns);
	return r < 0 ? r : (ssize_t)written;
}

ssize_t link_tls_recv(struct link_tls *l, void *to, size_t bytes,
		      uint64_t deadline_ns)
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
		r = go_on(l, r, deadline_ns);
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
	l->up = false;
	OPENSSL_cleanse(l->client_secret, sizeof(l->client_secret));
	OPENSSL_cleanse(l->server_secret, sizeof(l->server_secret));
	OPENSSL_cleanse(l->record, sizeof(l->record));
	/* What it left for this thread in OpenSSL's error queue. */
	ERR_clear_error();
}
