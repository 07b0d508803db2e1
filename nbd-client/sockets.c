// SPDX-License-Identifier: GPL-2.0-or-later
/* Sockets ahead of need; the control thread. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "nbd-client/link_io.h"
#include "nbd-client/sockets.h"

#ifndef SO_RESERVE_MEM /* Linux 5.16; glibc's headers may be older */
#define SO_RESERVE_MEM 73
#endif

static int set_option(int fd, int option, uint32_t value)
{
	int v = (int)value;

	if (!value)
		return 0;
	return setsockopt(fd, SOL_SOCKET, option, &v, sizeof(v)) < 0 ? -errno
								     : 0;
}

static int set_buffers(int fd, const struct socket_memory *m)
{
	int ret = set_option(fd, SO_SNDBUFFORCE, m->send_bytes);

	return ret ? ret : set_option(fd, SO_RCVBUFFORCE, m->receive_bytes);
}

static int make(struct sockets *s, int family)
{
	int fd = link_socket(family);
	int ret;

	if (fd < 0)
		return fd;
	ret = set_buffers(fd, &s->memory);
	if (ret < 0) {
		link_close(fd);
		return ret;
	}
	return fd;
}

void sockets_init(struct sockets *s, const struct socket_memory *memory)
{
	*s = (struct sockets){ .memory = *memory };
}

int sockets_prepare(struct sockets *s, int family, uint32_t count,
		    int *ret_reserved, struct err *err)
{
	if (family != AF_INET && family != AF_INET6)
		return 0;
	for (; count && s->count < SOCKETS_MAX; count--) {
		int fd = make(s, family);
		int ret;

		if (fd < 0)
			return err_set(err, fd == -EPERM ? X_PERMISSION :
							   X_FAILURE, -fd,
				       "cannot make a socket with buffers of %u and %u KiB: %s",
				       s->memory.send_bytes / 1024,
				       s->memory.receive_bytes / 1024,
				       strerror(-fd));
		s->ready[s->count].fd = fd;
		s->ready[s->count++].family = family;
		/* Accounting, not pages: strangers cannot use up our part of tcp_mem. */
		ret = set_option(fd, SO_RESERVE_MEM, s->memory.reserve_bytes);
		if (ret < 0)
			*ret_reserved = ret;
	}
	return 0;
}

bool sockets_is_ready(const struct sockets *s, int fd)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (s->ready[i].fd == fd)
			return true;
	return false;
}

static int take(void *arg, int family)
{
	struct sockets *s = arg;

	for (uint32_t i = 0; i < s->count; i++) {
		if (s->ready[i].taken || s->ready[i].fd < 0 ||
		    s->ready[i].family != family)
			continue;
		s->ready[i].taken = true;
		return s->ready[i].fd;
	}
	return make(s, family);
}

void sockets_give(struct sockets *s, int fd)
{
	for (uint32_t i = 0; i < s->count; i++) {
		if (s->ready[i].fd != fd)
			continue;
		s->ready[i].taken = false;
		if (link_disconnect(fd) < 0) {
			link_close(fd);
			s->ready[i].fd = -1;
		}
		return;
	}
	link_close(fd);
}

bool sockets_each(const struct sockets *s, bool (*f)(int fd))
{
	bool all = true;

	for (uint32_t i = 0; i < s->count; i++)
		all &= s->ready[i].fd < 0 || f(s->ready[i].fd);
	return all;
}

void sockets_reset(struct sockets *s)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (s->ready[i].fd >= 0)
			sockets_give(s, s->ready[i].fd);
}

static void give(void *arg, int fd)
{
	sockets_give(arg, fd);
}

struct link_sockets sockets_source(struct sockets *s)
{
	return (struct link_sockets){ .take = take, .give = give, .arg = s };
}

void sockets_fini(struct sockets *s)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (s->ready[i].fd >= 0)
			link_close(s->ready[i].fd);
	s->count = 0;
}
