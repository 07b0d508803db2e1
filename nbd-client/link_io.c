// SPDX-License-Identifier: GPL-2.0-or-later
/* Deadlines, and system calls on sockets. Control thread. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/clock.h"
#include "nbd-client/link_io.h"

uint64_t link_deadline(int timeout_ms)
{
	return clock_now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
}

int link_left_ms(uint64_t deadline_ns)
{
	uint64_t now_ns = clock_now_ns();

	if (now_ns >= deadline_ns)
		return 0;
	return (int)((deadline_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
}

int link_wait(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = fd, .events = events };
	int r;

	do
		r = poll(&p, 1, link_left_ms(deadline_ns));
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return r == 0 ? -ETIMEDOUT : 0;
}

bool link_is_gone(int error)
{
	return error == ECONNRESET || error == EPIPE || error == ECONNABORTED;
}

int link_socket(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

void link_close(int fd)
{
	close(fd);
}

static int set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int link_begin_connect(int fd, const struct sockaddr_storage *sa,
		       socklen_t bytes)
{
	int r = set_blocking(fd, false);

	if (r < 0)
		return r;
	if (connect(fd, (const struct sockaddr *)sa, bytes) == 0)
		return 0;
	return errno == EINTR ? -EINPROGRESS : -errno;
}

int link_connect_result(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t bytes = sizeof(int);
	int error = 0;

	if (poll(&p, 1, 0) <= 0)
		return -EINPROGRESS;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) < 0)
		return -errno;
	return -error;
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

int link_end_connect(int fd)
{
	const int on = 1;

	if (is_connected_to_itself(fd))
		return -ECONNREFUSED;
	if (link_family(fd) != AF_UNIX &&
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		return -errno;
	return set_blocking(fd, true);
}

#define KEEPALIVE_PROBES 3
#define KEEPALIVE_DEFAULT_S 10

/*
 * The kernel gives up a connection, too, whose peer says that it lives but has
 * no room (tcp_probe_timer): a server with a slow store, of which nobody knows
 * then whether it still writes. So that has to last.
 */
#define UNACKNOWLEDGED_TIMEOUTS 6u

static void set_tcp(int fd, int option, int value)
{
	/* Without it the connection is as good, only its end is seen later. */
	(void)setsockopt(fd, IPPROTO_TCP, option, &value, sizeof(value));
}

void link_set_patience(int fd, uint32_t timeout_ms)
{
	const int on = 1;
	int pause_s = timeout_ms ? (int)(timeout_ms / 1000 /
					 (KEEPALIVE_PROBES + 1)) :
				   KEEPALIVE_DEFAULT_S;

	if (link_family(fd) == AF_UNIX)
		return;
	if (pause_s < 1)
		pause_s = 1;
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	set_tcp(fd, TCP_KEEPIDLE, pause_s);
	set_tcp(fd, TCP_KEEPINTVL, pause_s);
	set_tcp(fd, TCP_KEEPCNT, KEEPALIVE_PROBES);
	set_tcp(fd, TCP_USER_TIMEOUT,
		(int)(timeout_ms * UNACKNOWLEDGED_TIMEOUTS));
}

int link_disconnect(int fd)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	return connect(fd, &none, sizeof(none)) < 0 ? -errno : 0;
}

ssize_t link_send(int fd, const void *from, size_t bytes)
{
	ssize_t n;

	do
		n = send(fd, from, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t receive(int fd, void *to, size_t bytes, int flags)
{
	ssize_t n;

	do
		n = recv(fd, to, bytes, flags | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t link_receive(int fd, void *to, size_t bytes)
{
	return receive(fd, to, bytes, 0);
}

ssize_t link_peek(int fd, void *to, size_t bytes)
{
	return receive(fd, to, bytes, MSG_PEEK);
}

void link_shutdown(int fd, int how)
{
	shutdown(fd, how);
}

int link_queued(int fd)
{
	int bytes = 0;

	(void)ioctl(fd, SIOCOUTQ, &bytes);
	return bytes;
}

/* Once may be bad luck, and a host that has no room is sent probes, too. */
#define REPEATS 2

bool link_is_unreachable(int fd, uint32_t ms)
{
	struct tcp_info info;
	socklen_t bytes = sizeof(info);

	memset(&info, 0, sizeof(info));
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) < 0)
		return false; /* a UNIX socket */
	return (info.tcpi_retransmits >= REPEATS ||
		info.tcpi_probes >= REPEATS) &&
	       info.tcpi_last_ack_recv >= ms;
}

int link_family(int fd)
{
	int family = AF_UNSPEC;
	socklen_t bytes = sizeof(family);

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &bytes);
	return family;
}
