/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections to a server over TCP or a Unix socket, up to the point where the
 * data thread takes over: names to addresses, connecting, negotiating.
 *
 * Owns nothing that lasts.  The control thread runs it, because it waits; each
 * wait ends by a deadline on the monotonic clock, apart from the name look-up,
 * which the resolver bounds (resolv.conf(5)).  Only link_resolve() may use
 * memory or files: a reconnect starts from its result.
 */
#ifndef NBD_LINK_TCP_H
#define NBD_LINK_TCP_H

#include <sys/socket.h>

#include "common/addr.h"
#include "common/err.h"
#include "nbd-client/handshake.h"
#include "nbd-client/link_tls.h"

#define LINK_ADDRS_MAX 8
#define LINK_TIMEOUT_MS_DEFAULT 10000

/* How long a server may take to answer a farewell that nobody needs. */
#define LINK_LEAVE_TIMEOUT_MS 1000

struct link_addr {
	struct sockaddr_storage sa;
	socklen_t sa_bytes;
};

/* All that a connection needs to know, looked up once. */
struct link_addrs {
	unsigned int count;	/* 1 … LINK_ADDRS_MAX, in the order to try */
	struct link_addr addr[LINK_ADDRS_MAX];
	char where[160];	/* "server.example port 10809", escaped */
};

/*
 * Where sockets come from, for callers that have some ready (sockets.h).
 * A socket must be of SOCK_STREAM and not connected; buffers and the like are
 * set by whoever made it.
 */
struct link_sockets {
	/* A socket for this family, or -errno. */
	int (*take)(void *arg, int family);
	/* It could not be connected and goes back; it may not be usable. */
	void (*give)(void *arg, int fd);
	void *arg;
};

/*
 * Looks up the addresses of a server.  A relative socket path is made absolute,
 * so that a daemon may change its directory.  Returns 0; -EHOSTUNREACH: no such
 * name; -ENAMETOOLONG: the absolute path of the socket is too long.
 */
int link_resolve(const struct addr *addr, struct link_addrs *ret,
		 struct err *err);

/*
 * Connects to the first address that answers.  timeout_ms is for all of them
 * together; each gets an equal part of what is left.  On success *ret_fd is a
 * connected, blocking, close-on-exec socket, without Nagle's delay if it is
 * TCP.  Otherwise the error of the last address is returned: -ECONNREFUSED,
 * -ETIMEDOUT, -EACCES …
 */
int link_connect(const struct link_addrs *addrs, int timeout_ms, int *ret_fd,
		 struct err *err);

/* The same with sockets of the caller; NULL: made when needed. */
int link_connect_from(const struct link_addrs *addrs,
		      const struct link_sockets *sockets, int timeout_ms,
		      int *ret_fd, struct err *err);

/*
 * Runs a negotiation to its end over a connected socket; timeout_ms is for each
 * step of it.  Returns 0 when hs is HANDSHAKE_DONE and the server has sent
 * nothing beyond; otherwise what hs->err says.  The socket stays the caller's
 * in either case.  A negotiation that wants TLS fails here.
 */
int link_negotiate(int fd, struct handshake *hs, int timeout_ms,
		   struct err *err);

/*
 * The same; if the negotiation wants TLS, it goes on inside tls, initialised,
 * whose keys are for the caller to take and to end.  NULL: as above.
 */
int link_negotiate_tls(int fd, struct handshake *hs, struct link_tls *tls,
		       int timeout_ms, struct err *err);

#endif
