/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections to a server over TCP or a Unix socket, up to the point where the
 * negotiation (link_talk.h): names to addresses, connecting.
 *
 * Owns nothing that lasts.  Control thread; each wait ends by a deadline on the
 * monotonic clock, apart from the name look-up, which the resolver bounds
 * (resolv.conf(5)).  Only link_resolve() may use memory or files: a reconnect
 * starts from its result.
 */
#ifndef NBD_LINK_TCP_H
#define NBD_LINK_TCP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/addr.h"
#include "common/err.h"

#define LINK_ADDRS_MAX 8
#define LINK_TIMEOUT_MS_DEFAULT 10000

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

/* Whether the host is an address and not the name of some. */
bool link_is_numeric(const struct addr *addr);

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
 * The same without waiting: one socket at a time, one address after another.
 *
 *	link_dial_start(&d, addrs, sockets, timeout_ms);
 *	while ((r = link_dial_step(&d, err)) == -EAGAIN)
 *		poll link_dial_fd(&d) for POLLOUT until link_dial_due_ns(&d);
 */
struct link_dial {
	struct link_addrs addrs;
	struct link_sockets sockets;
	unsigned int at; /* the address that is being tried */
	int fd;		 /* for it; -1: none */
	bool connecting; /* the kernel is at it */
	int error;	 /* of the address before, negative */
	uint64_t address_end_ns;
	uint64_t end_ns;   /* of all addresses */
	uint64_t retry_ns; /* when to try again; connecting: with a new SYN */
	unsigned int retries; /* of that kind */
};

/* sockets as above. */
void link_dial_start(struct link_dial *d, const struct link_addrs *addrs,
		     const struct link_sockets *sockets, int timeout_ms);

/*
 * 0: connected, d->fd is the caller's from now on; -EAGAIN; or the error of the
 * last address, and there is no socket any more.
 */
int link_dial_step(struct link_dial *d, struct err *err);

/* -1: only the time has to be waited for. */
int link_dial_fd(const struct link_dial *d);
uint64_t link_dial_due_ns(const struct link_dial *d);

/* Gives the socket back: it was to no purpose. */
void link_dial_end(struct link_dial *d);

#endif
