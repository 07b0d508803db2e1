/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections to a server over TCP or a Unix socket.
 *
 * Owns a socket only between its making and its being handed over.  Control
 * thread; nothing here is ever called by a data thread.
 */
#include "nbd-client/link_tcp.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/check.h"
#include "common/text.h"
#include "nbd-client/link_io.h"

/* ---- Resolving ---- */

static int resolve_unix(const struct addr *addr, struct link_addrs *out,
			struct err *err)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&out->addr[0].sa;
	const char *path = addr->socket_path;
	size_t bytes = addr->socket_path_bytes;
	char shown[128];

	text_escape(shown, sizeof(shown), path, bytes);
	snprintf(out->where, sizeof(out->where), "socket %s", shown);
	un->sun_family = AF_UNIX;
	if (path[0] != '\0' && path[0] != '/') {
		size_t dir_bytes;

		if (getcwd(un->sun_path, sizeof(un->sun_path)) == NULL)
			return err_set(err, X_USAGE, ENAMETOOLONG,
				       "the path of %s is too long in this directory; a symbolic link in /run helps",
				       out->where);
		dir_bytes = strlen(un->sun_path);
		if (dir_bytes + 1 + bytes >= sizeof(un->sun_path))
			return err_set(err, X_USAGE, ENAMETOOLONG,
				       "the path of %s is longer than %d bytes in this directory; a symbolic link in /run helps",
				       out->where, ADDR_SOCKET_MAX);
		un->sun_path[dir_bytes] = '/';
		memcpy(un->sun_path + dir_bytes + 1, path, bytes + 1);
		bytes += dir_bytes + 1;
	} else {
		memcpy(un->sun_path, path, bytes);
	}
	/* The name of an abstract socket is exactly as long as it is said. */
	if (un->sun_path[0] != '\0')
		bytes++;
	out->addr[0].sa_bytes =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
	out->count = 1;
	return 0;
}

static int resolve_tcp(const struct addr *addr, struct link_addrs *out,
		       struct err *err)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG,
	};
	struct addrinfo *list = NULL;
	char port[8];
	char shown[128];
	int r;

	text_escape_str(shown, sizeof(shown), addr->host);
	snprintf(port, sizeof(port), "%u", addr->port);
	snprintf(out->where, sizeof(out->where), "%s port %s", shown, port);
	r = getaddrinfo(addr->host, port, &hints, &list);
	if (r == EAI_SYSTEM)
		return err_set(err, X_UNREACHABLE, errno ? errno : EIO,
			       "cannot look up host '%s': %s", shown,
			       strerror(errno));
	if (r != 0)
		return err_set(err, X_UNREACHABLE, EHOSTUNREACH,
			       "cannot look up host '%s': %s; is the name right, and DNS reachable?",
			       shown, gai_strerror(r));
	for (struct addrinfo *ai = list;
	     ai != NULL && out->count < LINK_ADDRS_MAX; ai = ai->ai_next) {
		struct link_addr *to = &out->addr[out->count];

		if (ai->ai_addrlen > sizeof(to->sa))
			continue;
		memcpy(&to->sa, ai->ai_addr, ai->ai_addrlen);
		to->sa_bytes = ai->ai_addrlen;
		out->count++;
	}
	freeaddrinfo(list);
	if (out->count == 0)
		return err_set(err, X_UNREACHABLE, EHOSTUNREACH,
			       "host '%s' has no address that can be used",
			       shown);
	return 0;
}

bool link_is_numeric(const struct addr *addr)
{
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST };
	struct addrinfo *list;

	if (getaddrinfo(addr->host, NULL, &hints, &list) != 0)
		return false;
	freeaddrinfo(list);
	return true;
}

int link_resolve(const struct addr *addr, struct link_addrs *ret,
		 struct err *err)
{
	struct link_addrs out;
	int r;

	memset(&out, 0, sizeof(out));
	r = addr->kind == ADDR_UNIX ? resolve_unix(addr, &out, err)
				    : resolve_tcp(addr, &out, err);
	if (r == 0)
		*ret = out;
	return r;
}

/* ---- Connecting ---- */

static int socket_make(void *arg, int family)
{
	(void)arg;
	return link_socket(family);
}

static void socket_drop(void *arg, int fd)
{
	(void)arg;
	link_close(fd);
}

static const struct link_sockets made_when_needed = {
	.take = socket_make,
	.give = socket_drop,
};

/* A Unix socket whose queue is full does not tell when there is room. */
#define UNIX_RETRY_MS 20

/*
 * A SYN that is lost the kernel repeats after a second (TCP_TIMEOUT_INIT), and
 * requests wait. Three times it is given up for a new one sooner, the last of which
 * has all of the time, as a server far away may need it.
 */
#define SYN_RETRY_MS 200u
#define SYN_RETRIES 3u

/* What each failure to connect means, and what helps. */
static const struct err_hint connect_hints[] = {
	{ ECONNREFUSED, X_UNREACHABLE, "is the server running, on that port?" },
	{ ENOENT, X_UNREACHABLE, "is the server running, with that path?" },
	{ ETIMEDOUT, X_UNREACHABLE,
	  "is the host up, and does a firewall let NBD through?" },
	{ EHOSTUNREACH, X_UNREACHABLE, "is the host up, and the route right?" },
	{ ENETUNREACH, X_UNREACHABLE, "is the network up?" },
	{ EACCES, X_PERMISSION,
	  "the socket's mode, a firewall or a security module forbids it" },
	{ EPERM, X_PERMISSION, "a firewall or a security module forbids it" },
	{ EMFILE, X_FAILURE, "too many files are open in this process" },
	{ ENFILE, X_FAILURE, "too many files are open on this host" },
	{ EAFNOSUPPORT, X_KERNEL, "the kernel lacks this kind of address" },
	{ 0, X_UNREACHABLE, NULL },
};

void link_dial_start(struct link_dial *d, const struct link_addrs *addrs,
		     const struct link_sockets *sockets, int timeout_ms)
{
	CHECK(addrs->count <= LINK_ADDRS_MAX);
	*d = (struct link_dial){
		.addrs = *addrs,
		.sockets = sockets ? *sockets : made_when_needed,
		.fd = -1,
		.error = -EHOSTUNREACH,
		.end_ns = link_deadline(timeout_ms),
	};
}

void link_dial_end(struct link_dial *d)
{
	if (d->fd >= 0)
		d->sockets.give(d->sockets.arg, d->fd);
	d->fd = -1;
	d->connecting = false;
}

static const struct link_addr *address(const struct link_dial *d)
{
	return &d->addrs.addr[d->at];
}

/* A socket for the present address, and its equal part of the time. */
static int take_socket(struct link_dial *d)
{
	int left_ms = link_left_ms(d->end_ns);
	int fd = d->sockets.take(d->sockets.arg, address(d)->sa.ss_family);

	if (fd < 0)
		return fd;
	d->fd = fd;
	d->retries = 0;
	d->address_end_ns =
		link_deadline(left_ms / (int)(d->addrs.count - d->at));
	return 0;
}

static int begin(struct link_dial *d)
{
	const struct link_addr *to = address(d);
	int r = link_begin_connect(d->fd, &to->sa, to->sa_bytes);

	d->retry_ns = link_deadline(UNIX_RETRY_MS);
	if (r == -EINPROGRESS)
		d->retry_ns = d->retries < SYN_RETRIES ?
			link_deadline((int)(SYN_RETRY_MS << d->retries)) :
			d->address_end_ns;
	return r;
}

/* 0, -EINPROGRESS, or how it failed. */
static int go_on(struct link_dial *d)
{
	int r = link_connect_result(d->fd);

	if (r != -EINPROGRESS || d->retries == SYN_RETRIES ||
	    link_left_ms(d->retry_ns))
		return r;
	d->retries++;
	r = link_disconnect(d->fd);
	return r < 0 ? r : begin(d);
}

/* The present address. 0, -EAGAIN, or why it cannot be connected to. */
static int try_address(struct link_dial *d)
{
	int r = d->fd >= 0 ? 0 : take_socket(d);

	if (r == 0)
		r = d->connecting ? go_on(d) : begin(d);
	d->connecting = r == -EINPROGRESS;
	if (r == 0)
		return link_end_connect(d->fd);
	if (r == -EAGAIN && address(d)->sa.ss_family != AF_UNIX)
		return -EADDRNOTAVAIL; /* of TCP's local ports none is free */
	if (r == -EINPROGRESS || r == -EAGAIN)
		return link_left_ms(d->address_end_ns) ? -EAGAIN : -ETIMEDOUT;
	return r;
}

int link_dial_step(struct link_dial *d, struct err *err)
{
	for (; d->at < d->addrs.count; d->at++) {
		int r = try_address(d);

		if (r == 0 || r == -EAGAIN)
			return r;
		d->error = r;
		link_dial_end(d);
	}
	return err_explain(err, connect_hints, -d->error,
			   "cannot connect to %s", d->addrs.where);
}

int link_dial_fd(const struct link_dial *d)
{
	return d->connecting ? d->fd : -1;
}

uint64_t link_dial_due_ns(const struct link_dial *d)
{
	return d->address_end_ns < d->retry_ns ? d->address_end_ns :
						 d->retry_ns;
}

int link_connect_from(const struct link_addrs *addrs,
		      const struct link_sockets *sockets, int timeout_ms,
		      int *ret_fd, struct err *err)
{
	struct link_dial d;
	int r;

	link_dial_start(&d, addrs, sockets, timeout_ms);
	while ((r = link_dial_step(&d, err)) == -EAGAIN)
		(void)link_wait(link_dial_fd(&d), POLLOUT,
				link_dial_due_ns(&d));
	if (r == 0)
		*ret_fd = d.fd;
	return r;
}

int link_connect(const struct link_addrs *addrs, int timeout_ms, int *ret_fd,
		 struct err *err)
{
	return link_connect_from(addrs, NULL, timeout_ms, ret_fd, err);
}
