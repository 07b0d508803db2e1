// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Why a TLS connection could not be made, in words: cause and remedy. Control
 * thread.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include "common/text.h"
#include "nbd-client/link_tls_inside.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct remedy {
	int code;
	const char *text;
};

#define UNTRUSTED                                                              \
	"the server's certificate is signed by nobody who is trusted here; --tls-ca=FILE names the authority that signed it"

/* Of the server's certificate. */
static const struct remedy verdicts[] = {
	{ X509_V_ERR_CERT_HAS_EXPIRED,
	  "the server's certificate has expired; its administrator must renew it, unless the clock of this host is wrong" },
	{ X509_V_ERR_CERT_NOT_YET_VALID,
	  "the server's certificate is not valid yet; is the clock of this host right?" },
	{ X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, UNTRUSTED },
	{ X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, UNTRUSTED },
	{ X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, UNTRUSTED },
	{ X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, UNTRUSTED },
	{ X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, UNTRUSTED },
	{ X509_V_ERR_CERT_REVOKED,
	  "the server's certificate has been revoked; do not use this server" },
	{ X509_V_ERR_INVALID_PURPOSE,
	  "the server's certificate is not meant for servers; its administrator must make another" },
	{ X509_V_ERR_EE_KEY_TOO_SMALL,
	  "the key in the server's certificate is too short to be safe; its administrator must make another" },
};

/* Alerts of the server, RFC 8446 6.2. */
static const struct remedy alerts[] = {
	{ SSL_AD_HANDSHAKE_FAILURE,
	  "the server finds no common way (handshake_failure); does it want a certificate of ours (--tls-cert), a pre-shared key (--tls-psk-file), or has it other ciphers?" },
	{ SSL_AD_BAD_CERTIFICATE,
	  "the server does not accept our certificate (--tls-cert)" },
	{ SSL_AD_UNSUPPORTED_CERTIFICATE,
	  "the server does not accept our kind of certificate (--tls-cert)" },
	{ SSL_AD_CERTIFICATE_REVOKED,
	  "our certificate (--tls-cert) has been revoked; get another" },
	{ SSL_AD_CERTIFICATE_EXPIRED,
	  "our certificate (--tls-cert) has expired; get another" },
	{ SSL_AD_CERTIFICATE_UNKNOWN,
	  "the server does not accept our certificate (--tls-cert); its log should say why" },
	{ SSL_AD_ILLEGAL_PARAMETER,
	  "the server finds our side of the handshake impossible; is the pre-shared key (--tls-psk-file), if one is used, the same on both sides?" },
	{ SSL_AD_UNKNOWN_CA,
	  "the server does not trust whoever signed our certificate (--tls-cert)" },
	{ SSL_AD_ACCESS_DENIED,
	  "the server does not admit the owner of our certificate" },
	{ SSL_AD_DECRYPT_ERROR,
	  "the server finds our proof wrong; is the pre-shared key (--tls-psk-file) the same on both sides?" },
	{ SSL_AD_BAD_RECORD_MAC,
	  "the server cannot decrypt what we send; is the pre-shared key (--tls-psk-file) the same on both sides?" },
	{ SSL_AD_PROTOCOL_VERSION,
	  "the server speaks no version of TLS that is still safe; it needs 1.2 or 1.3" },
	{ SSL_AD_INSUFFICIENT_SECURITY,
	  "the server finds our ciphers too weak" },
	{ SSL_AD_UNRECOGNIZED_NAME,
	  "the server does not know the name that it was asked for; use the one in its certificate, or --tls-hostname=NAME" },
	{ SSL_AD_UNKNOWN_PSK_IDENTITY,
	  "the server does not know this user; does its file of pre-shared keys have the line that --tls-user or the URI names?" },
	{ SSL_AD_CERTIFICATE_REQUIRED,
	  "the server wants a certificate of ours: --tls-cert=FILE --tls-key=FILE" },
};

/* Reasons of our own OpenSSL. */
static const struct remedy reasons[] = {
	{ SSL_R_UNSUPPORTED_PROTOCOL,
	  "the server speaks no version of TLS that is still safe; it needs 1.2 or 1.3" },
	{ SSL_R_WRONG_VERSION_NUMBER,
	  "what the server sends is not TLS; somebody may be tampering with the connection" },
	{ SSL_R_DH_KEY_TOO_SMALL,
	  "the server's Diffie-Hellman parameters are too short to be safe" },
	{ SSL_R_NO_RENEGOTIATION,
	  "the server wants to negotiate anew, which is refused" },
	{ ERR_R_MALLOC_FAILURE, "OpenSSL's memory is used up, see status" },
};

static const char *find(const struct remedy *rows, size_t count, int code)
{
	for (size_t i = 0; i < count; i++)
		if (rows[i].code == code)
			return rows[i].text;
	return NULL;
}

static int fail(struct link_tls *l, const char *text)
{
	return err_set(&l->err, X_TLS, EPROTO, "%s", text);
}

static void explain_verdict(struct link_tls *l, long verdict)
{
	const char *text = find(verdicts, COUNT(verdicts), (int)verdict);
	char name[128];

	text_escape_str(name, sizeof(name), l->tls->hostname);
	if (l->tls->psk)
		fail(l,
		     "the server answers with a certificate instead of the pre-shared key; does it know about --tls-psk-file's user?");
	else if (verdict == X509_V_ERR_HOSTNAME_MISMATCH ||
		 verdict == X509_V_ERR_IP_ADDRESS_MISMATCH)
		err_set(&l->err, X_TLS, EPROTO,
			"the server's certificate is not for '%s'; use the name that it is for, or give that with --tls-hostname",
			name);
	else if (text)
		fail(l, text);
	else
		err_set(&l->err, X_TLS, EPROTO,
			"the server's certificate cannot be trusted: %s",
			X509_verify_cert_error_string(verdict));
}

void link_tls_explain(struct link_tls *l)
{
	unsigned long code = ERR_peek_error();
	int reason = ERR_GET_REASON(code);
	long verdict = SSL_get_verify_result(l->ssl);
	const char *text = NULL, *words;
	bool alert = ERR_GET_LIB(code) == ERR_LIB_SSL &&
		     reason > SSL_AD_REASON_OFFSET;

	if (l->tls->verify && verdict != X509_V_OK && !alert) {
		explain_verdict(l, verdict);
		return;
	}
	if (alert)
		text = find(alerts, COUNT(alerts),
			    reason - SSL_AD_REASON_OFFSET);
	else
		text = find(reasons, COUNT(reasons), reason);
	if (text) {
		fail(l, text);
		return;
	}
	words = code ? ERR_reason_error_string(code) : NULL;
	err_set(&l->err, X_TLS, EPROTO,
		"TLS with the server failed: %s; its log should say more",
		words ? words : "OpenSSL does not say why");
}
