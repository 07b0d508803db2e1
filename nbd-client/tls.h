/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What TLS is to be done with: certificates, keys and names, read from their
 * files once, at attach, and then kept, so that a reconnect reads nothing.
 *
 * Owns an SSL_CTX. Control thread, and the command line.
 */
#ifndef NBD_TLS_H
#define NBD_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/err.h"
#include "nbd-client/handshake.h"

/* As given on the command line; NULL: not given. */
struct tls_options {
	const char *mode; /* "off", "allow" or "require"; NULL: by the URI */
	const char *ca;   /* trusted authorities; NULL: those of the system */
	const char *cert; /* our certificate and those between it and its CA */
	const char *key;  /* of our certificate */
	const char *hostname; /* that the server's certificate must be for */
	const char *psk_file; /* lines of USERNAME:HEXKEY */
	const char *user;     /* the line to use */
	const char *records;  /* "auto", "kernel" or "user"; NULL: auto */
	bool partly; /* it is right that one of several servers has no TLS */
};

/* Who is to make the records. */
enum tls_records {
	TLS_RECORDS_AUTO, /* the kernel where it can */
	TLS_RECORDS_KERNEL,
	TLS_RECORDS_USER,
};

#define TLS_IDENTITY_BYTES 256u
#define TLS_PSK_BYTES_MAX 256u

struct tls {
	enum handshake_tls mode;
	struct ssl_ctx_st *ctx; /* NULL if mode is HANDSHAKE_TLS_OFF */
	bool psk;
	enum tls_records records;
	bool verify; /* false: only by tls-verify-peer=0 in the URI */
	char hostname[ADDR_HOST_MAX + 1];
	char identity[TLS_IDENTITY_BYTES];
	uint32_t psk_bytes;
	uint8_t psk_key[TLS_PSK_BYTES_MAX];
};

/*
 * Whether options and address go together, and what they come to: without a
 * mode nbds:// requires TLS and nbd:// does not use it; nbds:// is never
 * weakened; "allow" goes on in the clear where the server says that it has
 * none, or somebody between makes it look so. Reads no files. 0 or -EINVAL.
 */
int tls_decide(const struct tls_options *options, const struct addr *addr,
	       enum handshake_tls *ret_mode, struct err *err);

/*
 * Reads the files. *tls is usable, and to be closed, whatever the result.
 * 0 or -errno: X_USAGE where a file does not hold what it should, X_PERMISSION
 * where a secret can be read by others.
 */
int tls_open(struct tls *tls, const struct tls_options *options,
	     const struct addr *addr, struct err *err);

/* The same for a second server, with the authorities of `first`, or NULL. */
int tls_open_beside(struct tls *tls, const struct tls *first,
		    const struct tls_options *options, const struct addr *addr,
		    struct err *err);
void tls_close(struct tls *tls);

/*
 * Which of AES-256-GCM and ChaCha20-Poly1305 is offered first, by how long either
 * takes for the same. UINT64_MAX: there is none. For tls_open() and tests.
 */
bool tls_prefers_chacha(uint64_t aes_ns, uint64_t chacha_ns);

/*
 * Finds the line of `user` in a file of USERNAME:HEXKEY lines; `user` empty:
 * the only one. For tls_open() and tests.
 */
int tls_find_psk(struct tls *tls, const char *text, const char *user,
		 const char *path, struct err *err);

#endif
