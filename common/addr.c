/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a server is and which export is meant.
 *
 * Owns the grammar of NBD URIs.  Pure; the command line calls it, a reconnect
 * never does.
 */
#include "common/addr.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>

#include "common/check.h"
#include "common/text.h"

_Static_assert(ADDR_SOCKET_MAX + 1 == sizeof(((struct sockaddr_un *)0)->sun_path),
	       "the longest path with its NUL is what the kernel takes");

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* A piece of the text that is being read. */
struct span {
	const char *at;
	size_t len;
};

/* What of a user's text goes into a message. */
struct shown {
	char text[80];
};

static const char *show(struct shown *s, struct span span)
{
	text_escape(s->text, sizeof(s->text), span.at, span.len);
	return s->text;
}

static bool span_is(struct span s, const char *word)
{
	return s.len == strlen(word) && memcmp(s.at, word, s.len) == 0;
}

/* Schemes are compared without case (RFC 3986, 3.1). */
static bool span_is_nocase(struct span s, const char *word)
{
	if (s.len != strlen(word))
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.at[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (c != word[i])
			return false;
	}
	return true;
}

/* Cuts `s` at the first `c`: *ret_rest is what follows it. */
static bool span_cut(struct span *s, char c, struct span *ret_rest)
{
	const char *p = s->len > 0 ? memchr(s->at, c, s->len) : NULL;

	if (p == NULL)
		return false;
	ret_rest->at = p + 1;
	ret_rest->len = s->len - (size_t)(p + 1 - s->at);
	s->len = (size_t)(p - s->at);
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* How one component is decoded: its name for messages, room, and rules. */
struct component {
	const char *name;
	size_t max_bytes;
	bool leading_nul;	/* abstract socket */
};

static const struct component as_host = { "host", ADDR_HOST_MAX, false };
static const struct component as_user = { "user name", ADDR_USER_MAX, false };
static const struct component as_export = { "export name", NBD_STRING_MAX,
					    false };
static const struct component as_socket = { "socket path", ADDR_SOCKET_MAX,
					    true };
static const struct component as_tls_host = { "tls-hostname", ADDR_HOST_MAX,
					      false };

/* Percent-decoding (RFC 3986, 2.1) into a NUL-terminated string. */
static int decode(char *dst, size_t *ret_bytes, struct span s,
		  const struct component *as, struct err *err)
{
	struct shown shown;
	size_t used = 0;

	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.at[i];

		if (c == '%') {
			int high = s.len - i > 2 ? hex_digit(s.at[i + 1]) : -1;
			int low = s.len - i > 2 ? hex_digit(s.at[i + 2]) : -1;

			if (high < 0 || low < 0)
				return err_set(err, X_USAGE, EINVAL,
					       "%s '%s': a %% must be followed by two hexadecimal digits; a plain %% is written %%25",
					       as->name, show(&shown, s));
			c = (unsigned char)(high << 4 | low);
			i += 2;
		}
		if (c == '\0' && !(as->leading_nul && used == 0))
			return err_set(err, X_USAGE, EINVAL,
				       "%s '%s': a NUL (%%00) cannot be part of it",
				       as->name, show(&shown, s));
		if (used == as->max_bytes)
			return err_set(err, X_USAGE, ENAMETOOLONG,
				       "%s '%s' is longer than %zu bytes",
				       as->name, show(&shown, s),
				       as->max_bytes);
		dst[used++] = (char)c;
	}
	dst[used] = '\0';
	*ret_bytes = used;
	return 0;
}

/* Characters that a URI cannot hold as they are (RFC 3986, appendix A). */
static int check_characters(struct span s, struct err *err)
{
	struct shown shown;

	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.at[i];

		/* Beyond ASCII: not URI either, but clear, and often typed. */
		if (c <= ' ' || c == 0x7f)
			return err_set(err, X_USAGE, EINVAL,
				       "URI '%s': spaces and control characters are written %%NN (a space is %%20)",
				       show(&shown, s));
		if (c == '#')
			return err_set(err, X_USAGE, EINVAL,
				       "URI '%s': a URI of a disk has no fragment; a # in a name is written %%23",
				       show(&shown, s));
	}
	return 0;
}

static int parse_port(uint16_t *ret, struct span s, struct err *err)
{
	struct shown shown;
	uint32_t port = 0;

	for (size_t i = 0; i < s.len; i++) {
		if (s.at[i] < '0' || s.at[i] > '9' || port > UINT16_MAX) {
			port = 0;
			break;
		}
		port = port * 10 + (uint32_t)(s.at[i] - '0');
	}
	if (port == 0 || port > UINT16_MAX)
		return err_set(err, X_USAGE, EINVAL,
			       "port '%s' is not a number from 1 to 65535 (NBD's own is %d)",
			       show(&shown, s), NBD_PORT);
	*ret = (uint16_t)port;
	return 0;
}

/* What may stand between brackets: hexadecimal groups, dots, and a zone. */
static bool looks_like_ipv6(const char *host)
{
	size_t len = strcspn(host, "%");
	const char *colon = memchr(host, ':', len);

	/* The shortest is "::", and none has fewer than two colons. */
	if (colon == NULL ||
	    memchr(colon + 1, ':', len - (size_t)(colon + 1 - host)) == NULL ||
	    strspn(host, "0123456789abcdefABCDEF:.") != len)
		return false;
	return host[len] == '\0' || host[len + 1] != '\0';
}

/* Not what DNS would say, only what cannot be meant, or be printed as a URI. */
static bool looks_like_host(const char *host)
{
	if (strchr(host, ':') != NULL)
		return looks_like_ipv6(host);
	for (const char *p = host; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || strchr("/[]@?#", *p) != NULL)
			return false;
	return true;
}

/* HOST, HOST:PORT, [IPV6], [IPV6]:PORT; an empty port is the default one. */
static int parse_host_port(struct addr *a, struct span s, struct err *err)
{
	struct span whole = s;
	struct span port = { s.at, 0 };
	struct shown shown;
	bool bracketed = s.len > 0 && s.at[0] == '[';
	size_t host_bytes;
	int r;

	if (bracketed) {
		s.at++;
		s.len--;
		if (!span_cut(&s, ']', &port) ||
		    (port.len > 0 && port.at[0] != ':'))
			return err_set(err, X_USAGE, EINVAL,
				       "'%s': an IPv6 address is written [ADDRESS] or [ADDRESS]:PORT",
				       show(&shown, whole));
		if (port.len > 0) {
			port.at++;
			port.len--;
		}
	} else {
		span_cut(&s, ':', &port);
		if (port.len > 0 && memchr(port.at, ':', port.len) != NULL)
			return err_set(err, X_USAGE, EINVAL,
				       "'%s' has more than one colon; an IPv6 address is written in brackets, [::1]",
				       show(&shown, whole));
	}
	r = decode(a->host, &host_bytes, s, &as_host, err);
	if (r < 0)
		return r;
	if (bracketed ? !looks_like_ipv6(a->host) :
			(!looks_like_host(a->host) || strchr(a->host, ':')))
		return err_set(err, X_USAGE, EINVAL,
			       "'%s' is not the name or address of a host",
			       show(&shown, whole));
	a->port = NBD_PORT;
	return port.len > 0 ? parse_port(&a->port, port, err) : 0;
}

/* [USER@]HOST[:PORT] */
static int parse_authority(struct addr *a, struct span s, struct err *err)
{
	struct span host;
	struct span password;
	struct shown shown;
	size_t user_bytes;
	int r;

	if (a->kind == ADDR_UNIX && s.len > 0)
		return err_set(err, X_USAGE, EINVAL,
			       "'%s' where a Unix socket needs nothing: three slashes, as in nbd+unix:///EXPORT?socket=PATH",
			       show(&shown, s));
	if (span_cut(&s, '@', &host)) {
		if (span_cut(&s, ':', &password))
			return err_set(err, X_USAGE, EINVAL,
				       "a URI takes no password: it would be visible to everybody on this host; leave out what follows '%s:'",
				       show(&shown, s));
		r = decode(a->user, &user_bytes, s, &as_user, err);
		if (r < 0)
			return r;
		s = host;
	}
	if (a->kind == ADDR_UNIX)
		return 0;
	r = parse_host_port(a, s, err);
	/* The standard leaves an absent host to us: others take this one. */
	if (r == 0 && a->host[0] == '\0')
		memcpy(a->host, "localhost", sizeof("localhost"));
	return r;
}

/* ---- Query parameters ---- */

static int take_socket(struct addr *a, struct span value, struct err *err)
{
	size_t bytes;
	int r;

	if (a->kind != ADDR_UNIX)
		return err_set(err, X_USAGE, EINVAL,
			       "socket= needs the scheme nbd+unix:// (or nbds+unix://)");
	r = decode(a->socket_path, &bytes, value, &as_socket, err);
	if (r == 0)
		a->socket_path_bytes = bytes;
	return r;
}

static int take_tls_hostname(struct addr *a, struct span value, struct err *err)
{
	size_t bytes;

	return decode(a->tls_hostname, &bytes, value, &as_tls_host, err);
}

static const char *const tls_types[] = {
	[ADDR_TLS_ANY] = NULL,
	[ADDR_TLS_ANON] = "anon",
	[ADDR_TLS_X509] = "x509",
	[ADDR_TLS_PSK] = "psk",
};

static int take_tls_type(struct addr *a, struct span value, struct err *err)
{
	struct shown shown;

	for (size_t i = ADDR_TLS_ANY + 1; i < COUNT(tls_types); i++)
		if (span_is(value, tls_types[i])) {
			a->tls_type = (enum addr_tls_type)i;
			return 0;
		}
	return err_set(err, X_USAGE, EINVAL,
		       "tls-type '%s' is none of anon, x509 and psk",
		       show(&shown, value));
}

static int take_tls_verify_peer(struct addr *a, struct span value,
				struct err *err)
{
	struct shown shown;

	if (!span_is(value, "0") && !span_is(value, "1"))
		return err_set(err, X_USAGE, EINVAL,
			       "tls-verify-peer '%s' is neither 0 nor 1",
			       show(&shown, value));
	a->tls_no_verify = value.at[0] == '0';
	return 0;
}

static const struct parameter {
	const char *name;
	int (*take)(struct addr *a, struct span value, struct err *err);
} parameters[] = {
	{ "socket", take_socket },
	{ "tls-hostname", take_tls_hostname },
	{ "tls-type", take_tls_type },
	{ "tls-verify-peer", take_tls_verify_peer },
};

static int parse_query(struct addr *a, struct span query, struct err *err)
{
	bool seen[COUNT(parameters)] = { false };
	struct span rest = { query.at, 0 };
	struct shown shown;

	for (; query.len > 0; query = rest) {
		struct span value = { query.at, 0 };
		size_t i;
		int r;

		rest.len = 0;
		span_cut(&query, '&', &rest);
		span_cut(&query, '=', &value);
		for (i = 0; i < COUNT(parameters); i++)
			if (span_is(query, parameters[i].name))
				break;
		if (i == COUNT(parameters))
			return err_set(err, X_USAGE, EINVAL,
				       "unknown parameter '%s' in the URI; known are socket, tls-type, tls-hostname and tls-verify-peer",
				       show(&shown, query));
		if (seen[i])
			return err_set(err, X_USAGE, EINVAL,
				       "parameter '%s' occurs twice in the URI",
				       parameters[i].name);
		seen[i] = true;
		r = parameters[i].take(a, value, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- Schemes ---- */

static const struct scheme {
	const char *name;
	bool supported;
	bool tls;
	enum addr_kind kind;
	const char *remedy;	/* where it is not supported */
} schemes[] = {
	{ "nbd", true, false, ADDR_TCP, NULL },
	{ "nbds", true, true, ADDR_TCP, NULL },
	{ "nbd+unix", true, false, ADDR_UNIX, NULL },
	{ "nbds+unix", true, true, ADDR_UNIX, NULL },
	{ "nbd+vsock", false, false, ADDR_TCP,
	  "vsock is not supported: the kernel's reserves for sockets that serve swap cover TCP and Unix sockets only; use nbd://" },
	{ "nbds+vsock", false, true, ADDR_TCP,
	  "vsock is not supported: the kernel's reserves for sockets that serve swap cover TCP and Unix sockets only; use nbds://" },
	{ "nbd+ssh", false, false, ADDR_TCP,
	  "ssh is not supported: forward the port with ssh -L and use nbd://localhost:PORT" },
	{ "nbds+ssh", false, true, ADDR_TCP,
	  "ssh is not supported: forward the port with ssh -L and use nbds://localhost:PORT" },
};

static const struct scheme *scheme_find(struct span name)
{
	for (size_t i = 0; i < COUNT(schemes); i++)
		if (span_is_nocase(name, schemes[i].name))
			return &schemes[i];
	return NULL;
}

static int parse_uri(struct addr *a, struct span scheme_name, struct span rest,
		     struct err *err)
{
	const struct scheme *scheme = scheme_find(scheme_name);
	struct span query = { rest.at, 0 };
	struct span path = { rest.at, 0 };
	struct shown shown;
	size_t name_bytes;
	int r;

	if (scheme == NULL)
		return err_set(err, X_USAGE, EPROTONOSUPPORT,
			       "scheme '%s' is none of nbd, nbds, nbd+unix and nbds+unix",
			       show(&shown, scheme_name));
	if (!scheme->supported)
		return err_set(err, X_USAGE, EPROTONOSUPPORT, "%s",
			       scheme->remedy);
	r = check_characters(rest, err);
	if (r < 0)
		return r;
	a->kind = scheme->kind;
	a->tls = scheme->tls;
	span_cut(&rest, '?', &query);
	span_cut(&rest, '/', &path);
	r = parse_authority(a, rest, err);
	if (r == 0)
		r = decode(a->export_name, &name_bytes, path, &as_export, err);
	if (r == 0)
		r = parse_query(a, query, err);
	if (r == 0 && a->kind == ADDR_UNIX && a->socket_path_bytes == 0)
		r = err_set(err, X_USAGE, EINVAL,
			    "the URI does not say which socket: nbd+unix:///EXPORT?socket=PATH");
	return r;
}

/* ---- Entry points ---- */

int addr_parse(struct addr *ret, const char *uri, struct err *err)
{
	const char *colon = strstr(uri, "://");
	size_t first_colon = strcspn(uri, ":");
	struct span whole = { uri, strlen(uri) };
	struct span rest;
	struct addr a;
	int r;

	if (uri[0] == '/')
		return addr_parse_unix(ret, uri, err);
	/* "://" somewhere inside a path or query is not a scheme. */
	if (colon != NULL && (size_t)(colon - uri) == first_colon) {
		struct span scheme = { uri, first_colon };

		memset(&a, 0, sizeof(a));
		rest.at = colon + 3;
		rest.len = strlen(rest.at);
		r = parse_uri(&a, scheme, rest, err);
		if (r == 0)
			*ret = a;
		return r;
	}
	/* Two colons and no brackets: an IPv6 address by itself. */
	if (uri[0] != '[' && uri[first_colon] == ':' &&
	    strchr(uri + first_colon + 1, ':') != NULL)
		return addr_parse_host(ret, uri, NULL, err);
	memset(&a, 0, sizeof(a));
	a.kind = ADDR_TCP;
	r = parse_host_port(&a, whole, err);
	if (r == 0 && a.host[0] == '\0')
		r = err_set(err, X_USAGE, EINVAL, "the name of the host is empty");
	if (r == 0)
		*ret = a;
	return r;
}

int addr_parse_host(struct addr *ret, const char *host, const char *port,
		    struct err *err)
{
	size_t len = strlen(host);
	struct span whole = { host, len };
	struct shown shown;
	struct addr a;
	int r = 0;

	if (len > 1 && host[0] == '[' && host[len - 1] == ']') {
		host++;
		len -= 2;
	}
	if (len == 0)
		return err_set(err, X_USAGE, EINVAL,
			       "the name of the host is empty");
	if (len > ADDR_HOST_MAX)
		return err_set(err, X_USAGE, ENAMETOOLONG,
			       "host '%s' is longer than %d bytes",
			       show(&shown, whole), ADDR_HOST_MAX);
	memset(&a, 0, sizeof(a));
	a.kind = ADDR_TCP;
	a.port = NBD_PORT;
	memcpy(a.host, host, len);
	if (!looks_like_host(a.host))
		return err_set(err, X_USAGE, EINVAL,
			       "'%s' is not the name or address of a host",
			       show(&shown, whole));
	if (port != NULL) {
		struct span s = { port, strlen(port) };

		r = parse_port(&a.port, s, err);
	}
	if (r == 0)
		*ret = a;
	return r;
}

int addr_parse_unix(struct addr *ret, const char *path, struct err *err)
{
	struct span whole = { path, strlen(path) };
	struct shown shown;

	if (whole.len == 0)
		return err_set(err, X_USAGE, EINVAL,
			       "the path of the socket is empty");
	if (whole.len > ADDR_SOCKET_MAX)
		return err_set(err, X_USAGE, ENAMETOOLONG,
			       "socket path '%s' is longer than %d bytes; a symbolic link to its directory helps",
			       show(&shown, whole), ADDR_SOCKET_MAX);
	memset(ret, 0, sizeof(*ret));
	ret->kind = ADDR_UNIX;
	memcpy(ret->socket_path, path, whole.len);
	ret->socket_path_bytes = whole.len;
	return 0;
}

int addr_set_export(struct addr *addr, const char *name, struct err *err)
{
	struct span whole = { name, strlen(name) };
	struct shown shown;

	if (whole.len > NBD_STRING_MAX)
		return err_set(err, X_USAGE, ENAMETOOLONG,
			       "export name '%s' is longer than %u bytes",
			       show(&shown, whole), NBD_STRING_MAX);
	memcpy(addr->export_name, name, whole.len + 1);
	return 0;
}

/* ---- Printing ---- */

/* Text that is cut where it ends, and still knows how long it would be. */
struct out {
	char *dst;
	size_t n;
	size_t len;
};

static void out_char(struct out *o, char c)
{
	if (o->len + 1 < o->n)
		o->dst[o->len] = c;
	o->len++;
}

static void out_text(struct out *o, const char *text)
{
	while (*text != '\0')
		out_char(o, *text++);
}

/* Unreserved characters (RFC 3986, 2.3) and those in `also` stay. */
static void out_encoded(struct out *o, const char *src, size_t len,
			const char *also)
{
	static const char digits[] = "0123456789ABCDEF";

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)src[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    (c >= '0' && c <= '9') ||
		    (c != '\0' && (strchr("-._~", c) != NULL ||
				   strchr(also, c) != NULL))) {
			out_char(o, (char)c);
		} else {
			out_char(o, '%');
			out_char(o, digits[c >> 4]);
			out_char(o, digits[c & 0xf]);
		}
	}
}

static void out_number(struct out *o, unsigned int v)
{
	char digits[12];
	size_t i = sizeof(digits) - 1;

	digits[i] = '\0';
	do {
		digits[--i] = (char)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	out_text(o, digits + i);
}

static void out_parameter(struct out *o, char *separator, const char *name,
			  const char *value, size_t len)
{
	out_char(o, *separator);
	*separator = '&';
	out_text(o, name);
	out_char(o, '=');
	out_encoded(o, value, len, "/:");
}

static void out_authority(struct out *o, const struct addr *a)
{
	bool brackets = strchr(a->host, ':') != NULL;

	if (a->user[0] != '\0') {
		out_encoded(o, a->user, strlen(a->user), "");
		out_char(o, '@');
	}
	if (brackets)
		out_char(o, '[');
	out_encoded(o, a->host, strlen(a->host), brackets ? ":" : "");
	if (brackets)
		out_char(o, ']');
	if (a->port != NBD_PORT) {
		out_char(o, ':');
		out_number(o, a->port);
	}
}

size_t addr_format(const struct addr *addr, char *dst, size_t n)
{
	struct out o = { dst, n, 0 };
	char separator = '?';

	out_text(&o, addr->tls ? "nbds" : "nbd");
	out_text(&o, addr->kind == ADDR_UNIX ? "+unix://" : "://");
	if (addr->kind == ADDR_TCP)
		out_authority(&o, addr);
	out_char(&o, '/');
	out_encoded(&o, addr->export_name, strlen(addr->export_name), "/:@");
	if (addr->kind == ADDR_UNIX)
		out_parameter(&o, &separator, "socket", addr->socket_path,
			      addr->socket_path_bytes);
	if (addr->tls_type != ADDR_TLS_ANY)
		out_parameter(&o, &separator, "tls-type",
			      tls_types[addr->tls_type],
			      strlen(tls_types[addr->tls_type]));
	if (addr->tls_hostname[0] != '\0')
		out_parameter(&o, &separator, "tls-hostname",
			      addr->tls_hostname, strlen(addr->tls_hostname));
	if (addr->tls_no_verify)
		out_parameter(&o, &separator, "tls-verify-peer", "0", 1);
	if (n > 0)
		dst[o.len < n ? o.len : n - 1] = '\0';
	return o.len;
}
