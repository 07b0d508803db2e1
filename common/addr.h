/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a server is and which export is meant: the NBD URI (doc/uri.md of the
 * NetworkBlockDevice project, RFC 3986) and the old `HOST [PORT]`.
 *
 * Pure: no look-ups, no memory of its own.  Any thread.
 */
#ifndef NBD_ADDR_H
#define NBD_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "include/nbd-wire.h"

#define ADDR_HOST_MAX 255	/* longest DNS name, zone of IPv6 included */
#define ADDR_USER_MAX 255
#define ADDR_SOCKET_MAX 107	/* sun_path with its NUL */

/* Long enough for addr_format() of any struct addr. */
#define ADDR_TEXT_MAX                                                          \
	(64 + 3 * (ADDR_USER_MAX + 2 * ADDR_HOST_MAX + ADDR_SOCKET_MAX +       \
		   (int)NBD_STRING_MAX))

enum addr_kind {
	ADDR_TCP,
	ADDR_UNIX,
};

/* tls-type of the URI */
enum addr_tls_type {
	ADDR_TLS_ANY,
	ADDR_TLS_ANON,
	ADDR_TLS_X509,
	ADDR_TLS_PSK,
};

struct addr {
	enum addr_kind kind;
	bool tls;		/* nbds: must fail if it is not encrypted */

	/* TCP: host is a name or address without brackets, never empty. */
	char host[ADDR_HOST_MAX + 1];
	uint16_t port;

	/*
	 * UNIX: the path, never empty, NUL-terminated; one that begins with
	 * NUL is in the abstract name space.  May be relative.
	 */
	char socket_path[ADDR_SOCKET_MAX + 1];
	size_t socket_path_bytes;

	/* Unescaped UTF-8 or whatever the user wrote; "" is the default. */
	char export_name[NBD_STRING_MAX + 1];

	/* For TLS; "" and ADDR_TLS_ANY where the URI says nothing. */
	char user[ADDR_USER_MAX + 1];
	char tls_hostname[ADDR_HOST_MAX + 1];
	enum addr_tls_type tls_type;
	bool tls_no_verify;	/* tls-verify-peer=0 */
};

/*
 * Reads a URI (nbd://, nbds://, nbd+unix://, nbds+unix://); or, if there is no
 * "://", HOST, HOST:PORT, [IPV6]:PORT, an IPv6 address, or the absolute path of
 * a socket.  Returns 0, -EINVAL (malformed), -ENAMETOOLONG or
 * -EPROTONOSUPPORT (a scheme that we do not speak), err says what and where.
 * *ret is untouched on failure.
 */
int addr_parse(struct addr *ret, const char *uri, struct err *err);

/*
 * Of a list "URI,URI": the length of the first. A comma belongs to a URI unless
 * another one begins behind it.
 */
size_t addr_first_bytes(const char *list);

/* HOST and PORT as separate words; port may be NULL: 10809. */
int addr_parse_host(struct addr *ret, const char *host, const char *port,
		    struct err *err);

/* The path of a socket, taken as it is. */
int addr_parse_unix(struct addr *ret, const char *path, struct err *err);

/* Replaces the export name; no percent-decoding. */
int addr_set_export(struct addr *addr, const char *name, struct err *err);

/*
 * Writes the URI that means the same: printable ASCII without spaces, so it
 * needs no more escaping anywhere.  A text that is too long is cut.  Returns
 * the length it needs, as snprintf() does.
 */
size_t addr_format(const struct addr *addr, char *dst, size_t n);

#endif
