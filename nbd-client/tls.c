// SPDX-License-Identifier: GPL-2.0-or-later
/* TLS configuration, once per device. See tls.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/text.h"
#include "nbd-client/tls.h"

/* Keys and key files are far smaller. */
#define FILE_BYTES_MAX 65536u

/*
 * Only AEAD ciphers with keys that are thrown away after the connection; the
 * record layers, the kernel's and ours, know these three. A server that leaves
 * the choice to us takes the first.
 */
static const struct suites {
	const char *tls13;
	const char *tls12;
	const char *tls12_psk;
} aes_first = {
	"TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:"
	"TLS_CHACHA20_POLY1305_SHA256",
	"ECDHE+AESGCM:ECDHE+CHACHA20",
	"ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:"
	"DHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES128-GCM-SHA256",
}, chacha_first = {
	"TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384:"
	"TLS_AES_128_GCM_SHA256",
	"ECDHE+CHACHA20:ECDHE+AESGCM",
	"ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-CHACHA20-POLY1305:"
	"DHE-PSK-AES256-GCM-SHA384:DHE-PSK-AES128-GCM-SHA256",
};

/* What the two are tried on: some milliseconds, if it is emulated. */
#define SAMPLE_BYTES 4096
#define SAMPLES 5

/* Where distributions keep all authorities in one file. */
static const char *const system_stores[] = {
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
	NULL,
};

/* ---- what is wanted ---- */

static const char *const modes[] = {
	[HANDSHAKE_TLS_OFF] = "off",
	[HANDSHAKE_TLS_TRY] = "allow",
	[HANDSHAKE_TLS_REQUIRE] = "require",
};

static int usage(struct err *err, const char *text)
{
	return err_set(err, X_USAGE, EINVAL, "%s", text);
}

/* Of a certificate, the name in it must be known, or it proves nothing. */
static int check_name(const struct tls_options *o, const struct addr *a,
		      struct err *err)
{
	if (a->kind == ADDR_TCP || o->hostname || a->tls_hostname[0] ||
	    o->psk_file || a->tls_no_verify)
		return 0;
	return usage(err, "a UNIX socket does not say which name the server's certificate is for; use --tls-hostname=NAME");
}

static int find_mode(const struct tls_options *o, const struct addr *a,
		     enum handshake_tls *ret_mode, struct err *err)
{
	int i = a->tls ? HANDSHAKE_TLS_REQUIRE : HANDSHAKE_TLS_OFF;

	if (o->mode)
		for (i = 0; i <= HANDSHAKE_TLS_REQUIRE; i++)
			if (!strcmp(o->mode, modes[i]))
				break;
	if (i > HANDSHAKE_TLS_REQUIRE)
		return usage(err, "--tls must be off, allow or require");
	if (a->tls && i != HANDSHAKE_TLS_REQUIRE)
		return usage(err, "nbds:// demands TLS; use nbd:// with --tls=off or --tls=allow");
	*ret_mode = (enum handshake_tls)i;
	return 0;
}

static int find_records(const struct tls_options *o, const struct addr *a,
			enum tls_records *ret, struct err *err)
{
	static const char *const names[] = {
		[TLS_RECORDS_AUTO] = "auto",
		[TLS_RECORDS_KERNEL] = "kernel",
		[TLS_RECORDS_USER] = "user",
	};
	int i = TLS_RECORDS_AUTO;

	if (o->records)
		for (; i <= TLS_RECORDS_USER; i++)
			if (!strcmp(o->records, names[i]))
				break;
	if (i > TLS_RECORDS_USER)
		return usage(err, "--tls-records must be auto, kernel or user");
	if (i == TLS_RECORDS_KERNEL && a->kind != ADDR_TCP)
		return usage(err, "the kernel makes TLS records on TCP only; leave out --tls-records=kernel");
	*ret = (enum tls_records)i;
	return 0;
}

int tls_decide(const struct tls_options *o, const struct addr *a,
	       enum handshake_tls *ret_mode, struct err *err)
{
	bool files = o->ca || o->cert || o->key || o->psk_file;
	enum tls_records records;

	if (find_mode(o, a, ret_mode, err) < 0 ||
	    find_records(o, a, &records, err) < 0)
		return -EINVAL;
	if (*ret_mode == HANDSHAKE_TLS_OFF) {
		if (files && !o->partly)
			return usage(err, "certificates or keys are given, but TLS is off; use nbds:// or --tls=require");
		return 0;
	}
	if (!o->cert != !o->key)
		return usage(err, "--tls-cert and --tls-key belong together");
	if (o->psk_file && (o->cert || o->ca))
		return usage(err, "a pre-shared key replaces certificates: either --tls-psk-file, or --tls-ca and the like");
	if (a->tls_type == ADDR_TLS_ANON)
		return usage(err, "tls-type=anon proves nobody's identity and is not supported; use certificates or a pre-shared key");
	if (a->tls_type == ADDR_TLS_PSK && !o->psk_file)
		return usage(err, "tls-type=psk needs --tls-psk-file=FILE");
	if (a->tls_type == ADDR_TLS_X509 && o->psk_file)
		return usage(err, "tls-type=x509 and --tls-psk-file contradict each other");
	return check_name(o, a, err);
}

/* ---- files ---- */

/* Why OpenSSL refused; the oldest entry of its queue is the cause. */
static const char *reason(void)
{
	unsigned long code = ERR_peek_error();
	const char *text = code ? ERR_reason_error_string(code) : NULL;

	return text ? text : "not what it should be";
}

static int bad_file(struct err *err, const char *what, const char *path)
{
	char shown[200];
	int error = errno;

	text_escape_str(shown, sizeof(shown), path);
	if (ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_SYS ||
	    access(path, R_OK) < 0)
		return err_set(err, error == EACCES ? X_PERMISSION : X_USAGE,
			       error ? error : EIO,
			       "cannot read the %s, %s: %s", what, shown,
			       strerror(error));
	return err_set(err, X_USAGE, EINVAL,
		       "%s does not hold a %s in PEM form: %s", shown, what,
		       reason());
}

/*
 * All of a file that holds a secret, NUL-terminated, in OpenSSL's memory; the
 * caller wipes it by OPENSSL_clear_free(..., FILE_BYTES_MAX).
 */
static int read_secret(const char *path, const char *what, char **ret_text,
		       struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char *text, shown[200];
	size_t used = 0;
	struct stat st;
	ssize_t n = -1;

	text_escape_str(shown, sizeof(shown), path);
	if (fd < 0 || fstat(fd, &st) < 0) {
		bad_file(err, what, path);
		goto out;
	}
	if (st.st_mode & (S_IRWXO)) {
		err_set(err, X_PERMISSION, EPERM,
			"the %s, %s, can be read or written by everybody on this host; chmod o= %s",
			what, shown, shown);
		goto out;
	}
	text = OPENSSL_malloc(FILE_BYTES_MAX);
	while (text && used < FILE_BYTES_MAX &&
	       (n = read(fd, text + used, FILE_BYTES_MAX - used)) > 0)
		used += (size_t)n;
	if (n == 0) { /* its end, and room for the NUL */
		text[used] = '\0';
		*ret_text = text;
	} else {
		OPENSSL_clear_free(text, FILE_BYTES_MAX);
		err_set(err, X_USAGE, n < 0 ? EIO : EFBIG,
			"cannot read the %s, %s: %s", what, shown,
			n < 0 ? "error" : "it is too long");
		n = -1;
	}
out:
	if (fd >= 0)
		close(fd);
	return n == 0 ? 0 : -err->error;
}

/* Nobody is there to ask for a passphrase, least of all at a reconnect. */
static int no_passphrase(char *buffer, int bytes, int writing, void *arg)
{
	(void)buffer;
	(void)bytes;
	(void)writing;
	*(bool *)arg = true;
	return -1;
}

static int load_key(SSL_CTX *ctx, const char *path, struct err *err)
{
	bool encrypted = false;
	EVP_PKEY *key = NULL;
	char *text;
	BIO *bio;
	int ret = read_secret(path, "private key", &text, err);

	if (ret < 0)
		return ret;
	bio = BIO_new_mem_buf(text, -1);
	if (bio)
		key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase,
					      &encrypted);
	if (encrypted)
		ret = usage(err, "the private key is locked by a passphrase, and there is nobody to ask; openssl pkey writes one without");
	else if (!key)
		ret = bad_file(err, "private key", path);
	else if (SSL_CTX_use_PrivateKey(ctx, key) != 1 ||
		 SSL_CTX_check_private_key(ctx) != 1)
		ret = usage(err, "the private key does not belong to the certificate");
	EVP_PKEY_free(key);
	BIO_free(bio);
	OPENSSL_clear_free(text, FILE_BYTES_MAX);
	return ret;
}

static int load_system_store(X509_STORE *store, struct err *err)
{
	const char *named = getenv("SSL_CERT_FILE");

	if (named && X509_STORE_load_file(store, named) == 1)
		return 0;
	for (size_t i = 0; !named && system_stores[i]; i++)
		if (access(system_stores[i], R_OK) == 0 &&
		    X509_STORE_load_file(store, system_stores[i]) == 1)
			return 0;
	return err_set(err, X_TLS, ENOENT,
		       "this system has no trusted authorities; install ca-certificates, or name the one that signed the server's certificate: --tls-ca=FILE");
}

static int load_x509(struct tls *tls, const struct tls *first,
		     const struct tls_options *o, struct err *err)
{
	X509_STORE *store = SSL_CTX_get_cert_store(tls->ctx);
	int ret = 0;

	SSL_CTX_set_verify(tls->ctx,
			   tls->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE,
			   NULL);
	if (first && first->verify)
		SSL_CTX_set1_cert_store(tls->ctx,
					SSL_CTX_get_cert_store(first->ctx));
	else if (o->ca && X509_STORE_load_file(store, o->ca) != 1)
		return bad_file(err, "certificate of an authority", o->ca);
	else if (!o->ca && tls->verify)
		ret = load_system_store(store, err);
	if (ret < 0 || !o->cert)
		return ret;
	if (SSL_CTX_use_certificate_chain_file(tls->ctx, o->cert) != 1)
		return bad_file(err, "certificate", o->cert);
	return load_key(tls->ctx, o->key, err);
}

/* ---- pre-shared keys ---- */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_hex(struct tls *tls, const char *text, size_t bytes)
{
	if (!bytes || bytes % 2 || bytes / 2 > sizeof(tls->psk_key))
		return false;
	for (size_t i = 0; i < bytes; i += 2) {
		int high = hex_value(text[i]), low = hex_value(text[i + 1]);

		if (high < 0 || low < 0)
			return false;
		tls->psk_key[i / 2] = (uint8_t)(high << 4 | low);
	}
	tls->psk_bytes = (uint32_t)bytes / 2;
	return true;
}

int tls_find_psk(struct tls *tls, const char *text, const char *user,
		 const char *path, struct err *err)
{
	uint32_t line_number = 0, found = 0;
	char shown[200];

	text_escape_str(shown, sizeof(shown), path);
	for (const char *line = text; *line; ) {
		size_t bytes = strcspn(line, "\r\n");
		const char *colon = memchr(line, ':', bytes);
		size_t name = colon ? (size_t)(colon - line) : 0;

		line_number++;
		if (bytes && *line != '#' &&
		    (!*user || (name == strlen(user) &&
				!memcmp(line, user, name)))) {
			if (!name || name >= sizeof(tls->identity) ||
			    !take_hex(tls, colon + 1, bytes - name - 1))
				return err_set(err, X_USAGE, EINVAL,
					       "line %u of %s is not USERNAME:HEXKEY",
					       line_number, shown);
			memcpy(tls->identity, line, name);
			tls->identity[name] = '\0';
			found++;
		}
		line += bytes;
		line += *line == '\r';
		line += *line == '\n';
	}
	if (found == 1)
		return 0;
	if (found)
		return err_set(err, X_USAGE, EINVAL,
			       "%s has several keys; say whose to use: --tls-user=NAME or nbds://NAME@host",
			       shown);
	return err_set(err, X_USAGE, ENOENT, "%s has no key%s%s%s", shown,
		       *user ? " of user '" : "", user, *user ? "'" : "");
}

static unsigned int give_psk(SSL *ssl, const char *hint, char *ret_identity,
			     unsigned int identity_bytes, unsigned char *ret_key,
			     unsigned int key_bytes)
{
	const struct tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	size_t bytes = strlen(tls->identity);

	(void)hint;
	if (bytes >= identity_bytes || tls->psk_bytes > key_bytes)
		return 0;
	memcpy(ret_identity, tls->identity, bytes + 1);
	memcpy(ret_key, tls->psk_key, tls->psk_bytes);
	return tls->psk_bytes;
}

static int load_psk(struct tls *tls, const struct tls_options *o,
		    const struct addr *a, struct err *err)
{
	const char *user = o->user ? o->user : a->user;
	char *text;
	int ret = read_secret(o->psk_file, "pre-shared key", &text, err);

	if (ret < 0)
		return ret;
	ret = tls_find_psk(tls, text, user, o->psk_file, err);
	OPENSSL_clear_free(text, FILE_BYTES_MAX);
	if (ret < 0)
		return ret;
	/* A server that answers with a certificate instead is not trusted. */
	SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_psk_client_callback(tls->ctx, give_psk);
	return 0;
}

/* ---- which cipher ---- */

/* The best of a few; UINT64_MAX: there is none. */
static uint64_t sample_ns(const EVP_CIPHER *cipher)
{
	static const uint8_t key[EVP_MAX_KEY_LENGTH], iv[EVP_MAX_IV_LENGTH];
	static uint8_t text[SAMPLE_BYTES];
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint64_t best = UINT64_MAX;

	for (int i = 0; ctx && i < SAMPLES; i++) {
		uint64_t start_ns = clock_now_ns(), ns;
		int bytes;

		if (EVP_EncryptInit_ex(ctx, cipher, NULL, key, iv) != 1 ||
		    EVP_EncryptUpdate(ctx, text, &bytes, text,
				      SAMPLE_BYTES) != 1)
			break;
		ns = clock_now_ns() - start_ns;
		if (ns < best)
			best = ns;
	}
	EVP_CIPHER_CTX_free(ctx);
	return best;
}

bool tls_prefers_chacha(uint64_t aes_ns, uint64_t chacha_ns)
{
	return chacha_ns < aes_ns / 3 * 2;
}

/*
 * Tried, because what a processor says of itself does not tell: small ones lack
 * instructions for AES, and emulators that have them are worst at those. Clearly
 * the better one, so that the order does not change from attach to attach.
 */
static const struct suites *choose_suites(void)
{
	return tls_prefers_chacha(sample_ns(EVP_aes_256_gcm()),
				  sample_ns(EVP_chacha20_poly1305())) ?
		       &chacha_first : &aes_first;
}

/* ---- the whole ---- */

static int make_context(struct tls *tls, struct err *err)
{
	const struct suites *suites = choose_suites();
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (!ctx)
		return err_set(err, X_TLS, ENOMEM,
			       "OpenSSL cannot be used: %s", reason());
	tls->ctx = ctx;
	SSL_CTX_set_app_data(ctx, tls);
	/* No session is resumed: each connection has keys of its own. */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
					 SSL_OP_NO_RENEGOTIATION);
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(ctx, suites->tls13) != 1 ||
	    SSL_CTX_set_cipher_list(ctx, tls->psk ? suites->tls12_psk :
						    suites->tls12) != 1)
		return err_set(err, X_TLS, ENOTSUP,
			       "OpenSSL lacks the ciphers: %s", reason());
	return 0;
}

int tls_open_beside(struct tls *tls, const struct tls *first,
		    const struct tls_options *o, const struct addr *addr,
		    struct err *err)
{
	const char *name = o->hostname		 ? o->hostname :
			   addr->tls_hostname[0] ? addr->tls_hostname :
			   addr->kind == ADDR_TCP ? addr->host : "";
	int ret;

	*tls = (struct tls){ .verify = !addr->tls_no_verify,
			     .psk = o->psk_file != NULL };
	ret = tls_decide(o, addr, &tls->mode, err);
	if (ret < 0 || tls->mode == HANDSHAKE_TLS_OFF)
		return ret;
	(void)find_records(o, addr, &tls->records, err); /* tls_decide() has */
	if (strlen(name) >= sizeof(tls->hostname))
		return usage(err, "the name in --tls-hostname is too long");
	memcpy(tls->hostname, name, strlen(name) + 1);
	ERR_clear_error();
	ret = make_context(tls, err);
	if (!ret)
		ret = o->psk_file ? load_psk(tls, o, addr, err) :
				    load_x509(tls, first, o, err);
	ERR_clear_error();
	return ret;
}

int tls_open(struct tls *tls, const struct tls_options *o,
	     const struct addr *addr, struct err *err)
{
	return tls_open_beside(tls, NULL, o, addr, err);
}

void tls_close(struct tls *tls)
{
	SSL_CTX_free(tls->ctx);
	OPENSSL_cleanse(tls, sizeof(*tls));
}
