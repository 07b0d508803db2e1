/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a server is and which export is meant.
 *
 * Owns the grammar of NBD URIs.  Pure; the command line calls it, a reconnect
 * never does.
 */
#include "common/addr.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
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

/* What of a user's text goes into a message; lives as long as the block. */
#define SHOWN_BYTES 80
#define SHOW(span) show((char[SHOWN_BYTES]){ "" }, span)

static const char *show(char text[SHOWN_BYTES], struct span span)
{
	text_escape(text, SHOWN_BYTES, span.at, span.len);
	return text;
}

static struct span span_of(const char *text)
{
	return (struct span){ text, strlen(text) };
}

static bool span_is(struct span s, const char *word)
{
	return s.len == strlen(word) && memcmp(s.at, word, s.len) == 0;
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
	static const char digits[] = "0123456789abcdef";
	const char *at = c != '\0' ? strchr(digits, tolower((unsigned char)c)) :
				     NULL;

	return at != NULL ? (int)(at - digits) : -1;
}

/* How one component is decoded: its name for messages, room, and rules. */
struct component {
	const char *name;
	size_t max_bytes;
	bool leading_nul;	/* abstract socket */
	const char *remedy;	/* if it is too long */
};

static const struct component as_host = { "host", ADDR_HOST_MAX, false, "" };
static const struct component as_user = { "user name", ADDR_USER_MAX, false,
					  "" };
static const struct component as_export = { "export name", NBD_STRING_MAX,
					    false, "" };
static const struct component as_socket = {
	"socket path", ADDR_SOCKET_MAX, true,
	"; a symbolic link to its directory helps",
};
static const struct component as_tls_host = { "tls-hostname", ADDR_HOST_MAX,
					      false, "" };

static int too_long(struct span s, const struct component *as, struct err *err)
{
	return err_set(err, X_USAGE, ENAMETOOLONG,
		       "%s '%s' is longer than %zu bytes%s", as->name, SHOW(s),
		       as->max_bytes, as->remedy);
}

/* Taken as it is, into a string of max_bytes and a NUL. */
static int copy(char *dst, struct span s, const struct component *as,
		struct err *err)
{
	if (s.len > as->max_bytes)
		return too_long(s, as, err);
	memcpy(dst, s.at, s.len);
	dst[s.len] = '\0';
	return 0;
}

/* Percent-decoding (RFC 3986, 2.1).  ret_bytes may be NULL. */
static int decode(char *dst, size_t *ret_bytes, struct span s,
		  const struct component *as, struct err *err)
{
	size_t used = 0;

	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.at[i];

		if (c == '%') {
			int high = s.len - i > 2 ? hex_digit(s.at[i + 1]) : -1;
			int low = s.len - i > 2 ? hex_digit(s.at[i + 2]) : -1;

			if (high < 0 || low < 0)
				return err_set(err, X_USAGE, EINVAL,
					       "%s '%s': a %% must be followed by two hexadecimal digits; a plain %% is written %%25",
					       as->name, SHOW(s));
			c = (unsigned char)(high << 4 | low);
			i += 2;
		}
		if (c == '\0' && !(as->leading_nul && used == 0))
			return err_set(err, X_USAGE, EINVAL,
				       "%s '%s': a NUL (%%00) cannot be part of it",
				       as->name, SHOW(s));
		if (used == as->max_bytes)
			return too_long(s, as, err);
		dst[used++] = (char)c;
	}
	dst[used] = '\0';
	if (ret_bytes != NULL)
		*ret_bytes = used;
	return 0;
}

/* Characters that a URI cannot hold as they are (RFC 3986, appendix A). */
static int check_characters(struct span s, struct err *err)
{

	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.at[i];

		/* Beyond ASCII: not URI either, but clear, and often typed. */
		if (c <= ' ' || c == 0x7f)
			return err_set(err, X_USAGE, EINVAL,
				       "URI '%s': spaces and control characters are written %%NN (a space is %%20)",
				       SHOW(s));
		if (c == '#')
			return err_set(err, X_USAGE, EINVAL,
				       "URI '%s': a URI of a disk has no fragment; a # in a name is written %%23",
				       SHOW(s));
	}
	return 0;
}

static int parse_port(uint16_t *ret, struct span s, struct err *err)
{
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
			       SHOW(s), NBD_PORT);
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
	bool bracketed = s.len > 0 && s.at[0] == '[';
	int r;

	if (bracketed) {
		s.at++;
		s.len--;
		if (!span_cut(&s, ']', &port) ||
		    (port.len > 0 && port.at[0] != ':'))
			return err_set(err, X_USAGE, EINVAL,
				       "'%s': an IPv6 address is written [ADDRESS] or [ADDRESS]:PORT",
				       SHOW(whole));
		if (port.len > 0) {
			port.at++;
			port.len--;
		}
	} else {
		span_cut(&s, ':', &port);
		if (port.len > 0 && memchr(port.at, ':', port.len) != NULL)
			return err_set(err, X_USAGE, EINVAL,
				       "'%s' has more than one colon; an IPv6 address is written in brackets, [::1]",
				       SHOW(whole));
	}
	r = decode(a->host, NULL, s, &as_host, err);
	if (r < 0)
		return r;
	if (bracketed ? !looks_like_ipv6(a->host) :
			(!looks_like_host(a->host) || strchr(a->host, ':')))
		return err_set(err, X_USAGE, EINVAL,
			       "'%s' is not the name or address of a host",
			       SHOW(whole));
	a->port = NBD_PORT;
	return port.len > 0 ? parse_port(&a->port, port, err) : 0;
}

/* [USER@]HOST[:PORT] */
static int parse_authority(struct addr *a, struct span s, struct err *err)
{
	struct span host;
	struct span password;
	int r;

	if (a->kind == ADDR_UNIX && s.len > 0)
		return err_set(err, X_USAGE, EINVAL,
			       "'%s' where a Unix socket needs nothing: three slashes, as in nbd+unix:///EXPORT?socket=PATH",
			       SHOW(s));
	if (span_cut(&s, '@', &host)) {
		if (span_cut(&s, ':', &password))
			return err_set(err, X_USAGE, EINVAL,
				       "a URI takes no password: it would be visible to everybody on this host; leave out what follows '%s:'",
				       SHOW(s));
		r = decode(a->user, NULL, s, &as_user, err);
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
	if (a->kind != ADDR_UNIX)
		return err_set(err, X_USAGE, EINVAL,
			       "socket= needs the scheme nbd+unix:// (or nbds+unix://)");
	return decode(a->socket_path, &a->socket_path_bytes, value, &as_socket,
		      err);
}

static int take_tls_hostname(struct addr *a, struct span value, struct err *err)
{
	return decode(a->tls_hostname, NULL, value, &as_tls_host, err);
}

static const char *const tls_types[] = {
	[ADDR_TLS_ANY] = NULL,
	[ADDR_TLS_ANON] = "anon",
	[ADDR_TLS_X509] = "x509",
	[ADDR_TLS_PSK] = "psk",
};

static int take_tls_type(struct addr *a, struct span value, struct err *err)
{

	for (size_t i = ADDR_TLS_ANY + 1; i < COUNT(tls_types); i++)
		if (span_is(value, tls_types[i])) {
			a->tls_type = (enum addr_tls_type)i;
			return 0;
		}
	return err_set(err, X_USAGE, EINVAL,
		       "tls-type '%s' is none of anon, x509 and psk",
		       SHOW(value));
}

static int take_tls_verify_peer(struct addr *a, struct span value,
				struct err *err)
{

	if (!span_is(value, "0") && !span_is(value, "1"))
		return err_set(err, X_USAGE, EINVAL,
			       "tls-verify-peer '%s' is neither 0 nor 1",
			       SHOW(value));
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
				       SHOW(query));
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

/* What follows "nbd" or "nbds", without case (RFC 3986, 3.1). */
static const struct transport {
	const char *name;
	enum addr_kind kind;
	const char *remedy;	/* where it is not supported … */
	const char *instead;	/* … and what to write behind nbd or nbds */
} transports[] = {
	{ "", ADDR_TCP, NULL, NULL },
	{ "+unix", ADDR_UNIX, NULL, NULL },
	{ "+vsock", ADDR_TCP,
	  "the kernel's reserves for sockets that serve swap cover TCP and Unix sockets only",
	  "://" },
	{ "+ssh", ADDR_TCP, "forward the port with ssh -L",
	  "://localhost:PORT" },
};

static const struct transport *transport_find(struct span name, bool *ret_tls)
{
	size_t prefix = 3;

	if (name.len < prefix || strncasecmp(name.at, "nbd", prefix) != 0)
		return NULL;
	*ret_tls = name.len > prefix && (name.at[prefix] | 0x20) == 's';
	prefix += *ret_tls;
	for (size_t i = 0; i < COUNT(transports); i++)
		if (strlen(transports[i].name) == name.len - prefix &&
		    strncasecmp(name.at + prefix, transports[i].name,
				name.len - prefix) == 0)
			return &transports[i];
	return NULL;
}

static int parse_uri(struct addr *a, struct span scheme, struct span rest,
		     struct err *err)
{
	const struct transport *transport = transport_find(scheme, &a->tls);
	struct span query = { rest.at, 0 };
	struct span path = { rest.at, 0 };
	int r;

	if (transport == NULL)
		return err_set(err, X_USAGE, EPROTONOSUPPORT,
			       "scheme '%s' is none of nbd, nbds, nbd+unix and nbds+unix",
			       SHOW(scheme));
	if (transport->remedy != NULL)
		return err_set(err, X_USAGE, EPROTONOSUPPORT,
			       "%s is not supported: %s; use nbd%s%s",
			       transport->name + 1, transport->remedy,
			       a->tls ? "s" : "", transport->instead);
	r = check_characters(rest, err);
	if (r < 0)
		return r;
	a->kind = transport->kind;
	span_cut(&rest, '?', &query);
	span_cut(&rest, '/', &path);
	r = parse_authority(a, rest, err);
	if (r == 0)
		r = decode(a->export_name, NULL, path, &as_export, err);
	if (r == 0)
		r = parse_query(a, query, err);
	if (r == 0 && a->kind == ADDR_UNIX && a->socket_path_bytes == 0)
		r = err_set(err, X_USAGE, EINVAL,
			    "the URI does not say which socket: nbd+unix:///EXPORT?socket=PATH");
	return r;
}

/* ---- Entry points ---- */

size_t addr_first_bytes(const char *list)
{
	const char *comma = list;

	while ((comma = strchr(comma, ',')) != NULL) {
		const char *scheme = ++comma;

		if (strncasecmp(scheme, "nbd", 3) == 0 &&
		    strncmp(scheme + strcspn(scheme, ":/,?"), "://", 3) == 0)
			return (size_t)(comma - 1 - list);
	}
	return strlen(list);
}

int addr_parse(struct addr *ret, const char *uri, struct err *err)
{
	const char *colon = strstr(uri, "://");
	struct span scheme = { uri, strcspn(uri, ":") };
	const char *rest = uri + scheme.len;
	struct addr a = { .kind = ADDR_TCP };
	int r;

	if (uri[0] == '/')
		return addr_parse_unix(ret, uri, err);
	/* Two colons and no brackets: an IPv6 address by itself. */
	if (colon != rest && uri[0] != '[' && rest[0] == ':' &&
	    strchr(rest + 1, ':') != NULL)
		return addr_parse_host(ret, uri, NULL, err);
	/* "://" somewhere inside a path or query is not a scheme. */
	if (colon == rest) {
		r = parse_uri(&a, scheme, span_of(rest + strlen("://")), err);
	} else {
		r = parse_host_port(&a, span_of(uri), err);
		if (r == 0 && a.host[0] == '\0')
			r = err_set(err, X_USAGE, EINVAL,
				    "the name of the host is empty");
	}
	if (r == 0)
		*ret = a;
	return r;
}

int addr_parse_host(struct addr *ret, const char *host, const char *port,
		    struct err *err)
{
	struct span name = span_of(host);
	struct addr a = { .kind = ADDR_TCP, .port = NBD_PORT };
	int r;

	if (name.len > 1 && host[0] == '[' && host[name.len - 1] == ']') {
		name.at++;
		name.len -= 2;
	}
	if (name.len == 0)
		return err_set(err, X_USAGE, EINVAL,
			       "the name of the host is empty");
	r = copy(a.host, name, &as_host, err);
	if (r == 0 && !looks_like_host(a.host))
		r = err_set(err, X_USAGE, EINVAL,
			    "'%s' is not the name or address of a host",
			    SHOW(span_of(host)));
	if (r == 0 && port != NULL)
		r = parse_port(&a.port, span_of(port), err);
	if (r == 0)
		*ret = a;
	return r;
}

int addr_parse_unix(struct addr *ret, const char *path, struct err *err)
{
	struct span whole = span_of(path);

	if (whole.len == 0)
		return err_set(err, X_USAGE, EINVAL,
			       "the path of the socket is empty");
	if (whole.len > ADDR_SOCKET_MAX)
		return too_long(whole, &as_socket, err);
	memset(ret, 0, sizeof(*ret));
	ret->kind = ADDR_UNIX;
	ret->socket_path_bytes = whole.len;
	return copy(ret->socket_path, whole, &as_socket, err);
}

int addr_set_export(struct addr *addr, const char *name, struct err *err)
{
	return copy(addr->export_name, span_of(name), &as_export, err);
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
