// SPDX-License-Identifier: GPL-2.0-or-later
/* Descriptors in the messages of a socket pair. See fd_queue.h. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "nbd-client/fd_queue.h"

union control {
	struct cmsghdr head;
	char room[CMSG_SPACE(sizeof(int))];
};

int fd_queue_open(int ret_ends[2])
{
	return socketpair(AF_UNIX,
			  SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
			  ret_ends) < 0 ? -errno : 0;
}

/* A message is one byte, so that bytes are messages where they are counted. */
static struct msghdr message(struct iovec *part, union control *control)
{
	static char byte;

	*part = (struct iovec){ .iov_base = &byte, .iov_len = 1 };
	memset(control, 0, sizeof(*control));
	return (struct msghdr){
		.msg_iov = part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(*control),
	};
}

int fd_queue_put(int end, int fd)
{
	union control control;
	struct iovec part;
	struct msghdr m = message(&part, &control);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(end, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int receive(int end, int flags)
{
	union control control;
	struct iovec part;
	struct msghdr m = message(&part, &control);
	const struct cmsghdr *c;
	int fd;

	if (recvmsg(end, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | flags) <= 0)
		return errno ? -errno : -EPIPE;
	c = CMSG_FIRSTHDR(&m);
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return -EMFILE; /* no number was free for it */
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

int fd_queue_take(int end)
{
	return receive(end, 0);
}

int fd_queue_peek(int end, uint32_t at)
{
	const int offset = (int)at, none = -1;
	int fd;

	if (setsockopt(end, SOL_SOCKET, SO_PEEK_OFF, &offset,
		       sizeof(offset)) < 0)
		return -errno;
	fd = receive(end, MSG_PEEK);
	(void)setsockopt(end, SOL_SOCKET, SO_PEEK_OFF, &none, sizeof(none));
	return fd;
}

uint32_t fd_queue_count(int end)
{
	int bytes = 0;

	return ioctl(end, FIONREAD, &bytes) < 0 ? 0 : (uint32_t)bytes;
}
