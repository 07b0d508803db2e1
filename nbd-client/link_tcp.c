/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections to a server over TCP or a Unix socket, up to the first request.
 *
 * Owns a socket only between its making and its being handed over.  Control
 * thread; nothing here is ever called by a data thread.
 */
#include "nbd-client/link_tcp.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/check.h"
#include "common/text.h"
#include "nbd-client/link_io.h"
#include "nbd-client/link_tls.h"

/* More than any reply but a list's needs at once. */
#define RECEIVE_BYTES 4096

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
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)arg;
	return fd < 0 ? -errno : fd;
}

static void socket_drop(void *arg, int fd)
{
	(void)arg;
	close(fd);
}

static const struct link_sockets made_when_needed = {
	.take = socket_make,
	.give = socket_drop,
};

static int set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

/*
 * A port of the ephemeral range on this host, where nobody listens, can be
 * given to our own end: TCP then connects the socket to itself.
 */
static bool is_connected_to_itself(int fd)
{
	struct sockaddr_storage ours, theirs;
	socklen_t ours_bytes = sizeof(ours), theirs_bytes = sizeof(theirs);

	memset(&ours, 0, sizeof(ours));
	memset(&theirs, 0, sizeof(theirs));
	if (getsockname(fd, (struct sockaddr *)&ours, &ours_bytes) < 0 ||
	    getpeername(fd, (struct sockaddr *)&theirs, &theirs_bytes) < 0)
		return false;
	return ours.ss_family != AF_UNIX && ours_bytes == theirs_bytes &&
	       memcmp(&ours, &theirs, ours_bytes) == 0;
}

static int wait_connected(int fd, uint64_t deadline_ns)
{
	socklen_t bytes = sizeof(int);
	int error = 0;
	int r = link_wait(fd, POLLOUT, deadline_ns);

	if (r < 0)
		return r;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) < 0)
		return -errno;
	return -error;
}

/*
 * A Unix socket whose queue of connections is full says EAGAIN at once instead
 * of waiting as TCP does; so wait here.
 */
static int connect_retrying(int fd, const struct link_addr *to,
			    uint64_t deadline_ns)
{
	for (;;) {
		if (connect(fd, (const struct sockaddr *)&to->sa,
			    to->sa_bytes) == 0)
			return 0;
		if (errno == EINPROGRESS || errno == EINTR)
			return wait_connected(fd, deadline_ns);
		if (errno != EAGAIN || to->sa.ss_family != AF_UNIX)
			return -errno;
		if (link_left_ms(deadline_ns) == 0)
			return -ETIMEDOUT;
		poll(NULL, 0, 20);
	}
}

static int connect_one(int fd, const struct link_addr *to, uint64_t deadline_ns)
{
	const int on = 1;
	int r = set_blocking(fd, false);

	if (r == 0)
		r = connect_retrying(fd, to, deadline_ns);
	if (r == 0 && is_connected_to_itself(fd))
		r = -ECONNREFUSED;
	if (r == 0 && to->sa.ss_family != AF_UNIX &&
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		r = -errno;
	/* io_uring does not wait on a socket that says it must not block. */
	if (r == 0)
		r = set_blocking(fd, true);
	return r;
}

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

int link_connect_from(const struct link_addrs *addrs,
		      const struct link_sockets *sockets, int timeout_ms,
		      int *ret_fd, struct err *err)
{
	uint64_t deadline_ns = link_deadline(timeout_ms);
	int r = -EHOSTUNREACH;

	CHECK(addrs->count <= LINK_ADDRS_MAX);
	if (sockets == NULL)
		sockets = &made_when_needed;
	for (unsigned int i = 0; i < addrs->count; i++) {
		int share_ms = link_left_ms(deadline_ns) / (int)(addrs->count - i);
		int fd = sockets->take(sockets->arg,
				       addrs->addr[i].sa.ss_family);

		if (fd < 0) {
			r = fd;
			continue;
		}
		r = connect_one(fd, &addrs->addr[i], link_deadline(share_ms));
		if (r == 0) {
			*ret_fd = fd;
			return 0;
		}
		sockets->give(sockets->arg, fd);
	}
	return err_explain(err, connect_hints, -r, "cannot connect to %s",
			   addrs->where);
}

int link_connect(const struct link_addrs *addrs, int timeout_ms, int *ret_fd,
		 struct err *err)
{
	return link_connect_from(addrs, NULL, timeout_ms, ret_fd, err);
}

/* ---- Negotiating ---- */

/* One send or receive.  0, -EAGAIN when it has to wait, or another -errno. */
static int negotiate_io(int fd, struct handshake *hs)
{
	uint8_t in[RECEIVE_BYTES];
	size_t bytes;
	const uint8_t *out = handshake_output(hs, &bytes);
	ssize_t n;

	if (bytes > 0)
		n = send(fd, out, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		n = recv(fd, in, sizeof(in), MSG_DONTWAIT);
	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0 && !link_is_gone(errno))
		return -errno;
	if (bytes > 0 && n > 0)
		handshake_sent(hs, (size_t)n);
	else if (bytes == 0 && n > 0)
		handshake_feed(hs, in, (size_t)n);
	else
		handshake_closed(hs);
	return 0;
}

/* The same inside TLS, which waits by itself. */
static int negotiate_tls(struct link_tls *tls, struct handshake *hs,
			 uint64_t deadline_ns)
{
	uint8_t in[RECEIVE_BYTES];
	size_t bytes;
	const uint8_t *out = handshake_output(hs, &bytes);
	ssize_t n;

	if (bytes > 0)
		n = link_tls_send(tls, out, bytes, deadline_ns);
	else
		n = link_tls_recv(tls, in, sizeof(in), deadline_ns);
	/* Whoever hangs up may have said why before. */
	if (n == -EPIPE) {
		n = link_tls_recv(tls, in, sizeof(in), deadline_ns);
		if (n > 0)
			n = 0;
	}
	if (n < 0 && n != -EPIPE)
		return (int)n;
	if (bytes > 0 && n > 0)
		handshake_sent(hs, (size_t)n);
	else if (bytes == 0 && n > 0)
		handshake_feed(hs, in, (size_t)n);
	else
		handshake_closed(hs);
	return 0;
}

/* The step that can wait no longer than its deadline. */
static int negotiate_step(int fd, struct handshake *hs, struct link_tls *tls,
			  uint64_t deadline_ns, struct err *err)
{
	size_t bytes;
	int r;

	if (handshake_status(hs) == HANDSHAKE_WANTS_TLS) {
		if (tls == NULL)
			return err_set(err, X_TLS, EPROTONOSUPPORT,
				       "TLS is not available on this kind of connection");
		r = link_tls_start(tls, fd, deadline_ns, err);
		if (r == 0)
			handshake_tls_started(hs);
		return r;
	}
	if (tls != NULL && tls->up) {
		r = negotiate_tls(tls, hs, deadline_ns);
		if (r == -EPROTO && err != NULL)
			*err = tls->err;
		if (r == -EPROTO)
			return r;
	} else {
		r = negotiate_io(fd, hs);
		if (r == -EAGAIN) {
			handshake_output(hs, &bytes);
			r = link_wait(fd, bytes > 0 ? POLLOUT : POLLIN,
				      deadline_ns);
		}
	}
	if (r < 0 && r != -ETIMEDOUT)
		return err_set(err, X_FAILURE, -r,
			       "cannot negotiate with the server: %s",
			       strerror(-r));
	return r;
}

static int step_limit_ms(const struct handshake *hs, int timeout_ms)
{
	if (handshake_leaving(hs) && timeout_ms > LINK_LEAVE_TIMEOUT_MS)
		return LINK_LEAVE_TIMEOUT_MS;
	return timeout_ms;
}

/*
 * What has come beyond the end is an error too, as is having been closed. Inside
 * TLS only what has been decrypted can be seen; the rest is left to whoever
 * takes over.
 */
static void check_silence(int fd, struct handshake *hs, struct link_tls *tls)
{
	uint8_t byte = 0;
	ssize_t n;

	if (hs->params.goal != HANDSHAKE_GO)
		return;
	if (tls != NULL && tls->up) {
		if (link_tls_pending(tls))
			handshake_feed(hs, &byte, sizeof(byte));
		return;
	}
	n = recv(fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT);
	if (n > 0)
		handshake_feed(hs, &byte, sizeof(byte));
	else if (n == 0 || link_is_gone(errno))
		handshake_closed(hs);
}

int link_negotiate_tls(int fd, struct handshake *hs, struct link_tls *tls,
		       int timeout_ms, struct err *err)
{
	unsigned int step = handshake_step(hs);
	uint64_t deadline_ns = link_deadline(timeout_ms);

	while (!handshake_ended(hs)) {
		int r;

		if (handshake_step(hs) != step) {
			step = handshake_step(hs);
			deadline_ns =
				link_deadline(step_limit_ms(hs, timeout_ms));
		}
		/* Also for a peer that always has one more byte for us. */
		if (link_left_ms(deadline_ns) == 0) {
			handshake_timed_out(hs, (unsigned int)timeout_ms);
			continue;
		}
		r = negotiate_step(fd, hs, tls, deadline_ns, err);
		if (r < 0 && r != -ETIMEDOUT)
			return r;
	}
	if (handshake_status(hs) == HANDSHAKE_DONE)
		check_silence(fd, hs, tls);
	if (handshake_status(hs) == HANDSHAKE_DONE)
		return 0;
	CHECK(hs->err.exit_code != EXIT_OK && hs->err.error > 0);
	if (err != NULL)
		*err = hs->err;
	return -hs->err.error;
}

int link_negotiate(int fd, struct handshake *hs, int timeout_ms,
		   struct err *err)
{
	return link_negotiate_tls(fd, hs, NULL, timeout_ms, err);
}
