// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The control socket: one request, one reply, hang up.
 *
 * Server side owned by the daemon's control thread: never blocks, allocates
 * nothing. Client side for the command line.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/check.h"
#include "nbd-client/ctl_socket.h"

const char *ctl_run_dir = RUN_DIR;

static int address(const char *name, struct sockaddr_un *ret_address)
{
	int n;

	memset(ret_address, 0, sizeof(*ret_address));
	ret_address->sun_family = AF_UNIX;
	n = snprintf(ret_address->sun_path, sizeof(ret_address->sun_path),
		     "%s/%s.sock", ctl_run_dir, name);
	return n < 0 || (size_t)n >= sizeof(ret_address->sun_path) ?
		       -ENAMETOOLONG :
		       0;
}

/* ---- Server ---- */

int ctl_listen(struct ctl_socket *ctl, const char *name, struct err *err)
{
	struct sockaddr_un addr;
	mode_t mask;
	size_t i;
	int rc;

	memset(ctl, 0, sizeof(*ctl));
	ordinary_init(&ctl->ordinary);
	for (i = 0; i < CTL_CLIENTS; i++)
		ctl->clients[i].fd = -1;
	ctl->listen_fd = socket(AF_UNIX,
				SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC,
				0);
	rc = ctl->listen_fd < 0 ? -errno : address(name, &addr);
	if (!rc && mkdir(ctl_run_dir, 0755) && errno != EEXIST)
		rc = -errno;
	if (rc)
		goto out;
	/* The caller holds the status page: whoever made this one is dead. */
	(void)unlink(addr.sun_path);
	mask = umask(0177);
	rc = bind(ctl->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) ?
		     -errno :
		     0;
	(void)umask(mask);
	if (rc)
		goto out;
	snprintf(ctl->path, sizeof(ctl->path), "%s", addr.sun_path);
	if (listen(ctl->listen_fd, CTL_CLIENTS))
		rc = -errno;
out:
	if (!rc)
		return 0;
	ctl_close(ctl);
	return err_explain(err, NULL, -rc,
			   "cannot make the control socket %s/%s.sock",
			   ctl_run_dir, name);
}

static void drop(struct ctl_client *client)
{
	close(client->fd);
	client->fd = -1;
	client->asked = false;
	client->deferred = false;
}

void ctl_close(struct ctl_socket *ctl)
{
	size_t i;

	for (i = 0; i < CTL_CLIENTS; i++) {
		if (ctl->clients[i].fd >= 0)
			drop(&ctl->clients[i]);
	}
	if (ctl->listen_fd >= 0)
		close(ctl->listen_fd);
	ctl->listen_fd = -1;
	if (ctl->path[0])
		(void)unlink(ctl->path);
	ctl->path[0] = '\0';
}

size_t ctl_pollfds(const struct ctl_socket *ctl,
		   struct pollfd ret_fds[CTL_POLLFDS])
{
	size_t i, count = 0;

	if (ctl->listen_fd < 0)
		return 0;
	ret_fds[count++] = (struct pollfd){ .fd = ctl->listen_fd,
					    .events = POLLIN };
	for (i = 0; i < CTL_CLIENTS && ordinary_ready(&ctl->ordinary); i++) {
		/* One that waits for its answer has nothing more to say. */
		if (ctl->clients[i].fd >= 0 && !ctl->clients[i].asked)
			ret_fds[count++] =
				(struct pollfd){ .fd = ctl->clients[i].fd,
						 .events = POLLIN };
	}
	return count;
}

/* A free place, or that of the oldest client that has not asked anything. */
static struct ctl_client *make_room(struct ctl_socket *ctl)
{
	struct ctl_client *oldest = NULL;
	size_t i;

	for (i = 0; i < CTL_CLIENTS; i++) {
		struct ctl_client *client = &ctl->clients[i];

		if (client->fd < 0)
			return client;
		if (!client->asked &&
		    (!oldest || client->order < oldest->order))
			oldest = client;
	}
	if (oldest)
		drop(oldest);
	return oldest;
}

static void accept_all(struct ctl_socket *ctl)
{
	struct ctl_client *client;
	uint32_t i;
	int fd;

	for (i = 0; i < CTL_CLIENTS; i++) {
		fd = accept4(ctl->listen_fd, NULL, NULL,
			     SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		client = make_room(ctl);
		if (!client) { /* all are waiting for answers */
			close(fd);
			continue;
		}
		client->fd = fd;
		client->asked = false;
		client->deferred = false;
		client->order = ctl->arrivals++;
	}
}

static bool valid(const struct ctl_request *request, size_t length)
{
	return length == sizeof(*request) && request->magic == CTL_MAGIC &&
	       request->command < CTL_COMMANDS;
}

/* No message may be received now: its bytes wait in the kernel. */
static void defer(struct ctl_socket *ctl, struct ctl_client *client)
{
	struct pollfd fd = { .fd = client->fd, .events = POLLIN };

	if (client->deferred || poll(&fd, 1, 0) != 1)
		return;
	client->deferred = true;
	ordinary_defer(&ctl->ordinary);
}

bool ctl_step(struct ctl_socket *ctl, struct ctl_request *ret_request,
	      uint32_t *ret_client)
{
	struct ctl_request *request;
	uint32_t i;
	ssize_t n;
	bool ok;

	_Static_assert(sizeof(*request) <= ORDINARY_BUFFER_BYTES, "it fits");
	if (ctl->listen_fd < 0)
		return false;
	accept_all(ctl);
	for (i = 0; i < CTL_CLIENTS; i++) {
		struct ctl_client *client = &ctl->clients[i];

		if (client->fd < 0 || client->asked)
			continue;
		request = ordinary_take(&ctl->ordinary);
		if (!request) {
			defer(ctl, client);
			continue;
		}
		n = recv(client->fd, request, sizeof(*request), MSG_TRUNC);
		ok = n > 0 && valid(request, (size_t)n);
		if (ok)
			*ret_request = *request;
		ordinary_give(&ctl->ordinary, n > 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0) {
			drop(client);
			continue;
		}
		client->asked = true;
		if (!ok) {
			ctl_reply(ctl, i, X_USAGE,
				  "the daemon does not understand this "
				  "request; is it of another version?");
			continue;
		}
		*ret_client = i;
		return true;
	}
	return false;
}

void ctl_reply(struct ctl_socket *ctl, uint32_t client, int exit_code,
	       const char *text)
{
	struct ctl_reply reply = { .magic = CTL_MAGIC,
				   .exit_code = exit_code };

	CHECK(client < CTL_CLIENTS);
	CHECK(ctl->clients[client].fd >= 0 && ctl->clients[client].asked);
	if (text)
		snprintf(reply.text, sizeof(reply.text), "%s", text);
	(void)send(ctl->clients[client].fd, &reply, sizeof(reply),
		   MSG_NOSIGNAL | MSG_DONTWAIT);
	drop(&ctl->clients[client]);
}

/* ---- Client ---- */

static const struct err_hint call_hints[] = {
	{ ENOENT, X_NOT_FOUND, "no daemon serves it" },
	{ ECONNREFUSED, X_NOT_FOUND, "no daemon serves it" },
	{ EACCES, X_PERMISSION, "run as root" },
	{ EPERM, X_PERMISSION, "run as root" },
	{ ETIMEDOUT, X_FAILURE, "\"nbd-client status\" shows what it does" },
	{ ECONNRESET, X_FAILURE, "it ended without an answer" },
	{ 0, X_FAILURE, NULL },
};

static int call_failed(const char *name, int error, struct err *err)
{
	return err_explain(err, call_hints, error,
			   "cannot talk to the daemon of %s", name);
}

static int exchange(int fd, const struct ctl_request *request,
		    struct ctl_reply *ret_reply)
{
	ssize_t n;

	if (send(fd, request, sizeof(*request), MSG_NOSIGNAL) < 0)
		return errno == EPIPE ? -ECONNRESET : -errno;
	/* A stopped and continued process is interrupted, too. */
	do
		n = recv(fd, ret_reply, sizeof(*ret_reply), 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ECONNRESET;
	if (n != sizeof(*ret_reply) || ret_reply->magic != CTL_MAGIC ||
	    !memchr(ret_reply->text, 0, sizeof(ret_reply->text)))
		return -EPROTO;
	return 0;
}

int ctl_call(const char *name, enum ctl_command command, uint32_t flags,
	     uint32_t timeout_ms, struct err *err)
{
	struct timeval timeout = { .tv_sec = timeout_ms / 1000,
				   .tv_usec = timeout_ms % 1000 * 1000 };
	struct ctl_request request = { .magic = CTL_MAGIC,
				       .command = command,
				       .flags = flags };
	struct ctl_reply reply;
	struct sockaddr_un addr;
	int fd, rc;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return call_failed(name, errno, err);
	rc = address(name, &addr);
	/* connect() waits for room in the backlog as long as a send() may. */
	if (!rc && (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout,
			       sizeof(timeout)) ||
		    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout,
			       sizeof(timeout)) ||
		    connect(fd, (struct sockaddr *)&addr, sizeof(addr))))
		rc = -errno;
	if (!rc)
		rc = exchange(fd, &request, &reply);
	close(fd);
	if (rc == -EAGAIN)
		rc = -ETIMEDOUT;
	if (rc)
		return call_failed(name, -rc, err);
	if (reply.exit_code)
		return err_set(err, reply.exit_code, EIO, "%s", reply.text);
	return 0;
}
