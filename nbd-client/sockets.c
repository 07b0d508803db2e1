// SPDX-License-Identifier: GPL-2.0-or-later
/* Sockets ahead of need; the control thread. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nbd-client/fd_queue.h"
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

static int make(const struct sockets *s, int family)
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
		    s->ready[i].once || s->ready[i].family != family)
			continue;
		s->ready[i].taken = true;
		return s->ready[i].fd;
	}
	return make(s, family);
}

/* ---- those for a single use ---- */

/* Notes that may have become superfluous, before they are looked through. */
#define NOTES_MAX 4u

int sockets_open_store(struct sockets *s, int family, uint32_t spares)
{
	int ret = fd_queue_open(s->store);

	if (ret < 0)
		return ret;
	s->store_family = family;
	s->spares = spares;
	return 0;
}

bool sockets_have_store(const struct sockets *s)
{
	return s->store_family != AF_UNSPEC;
}

uint32_t sockets_left(const struct sockets *s)
{
	return sockets_have_store(s) ? fd_queue_count(s->store[0]) : 0;
}

int sockets_make_spare(const struct sockets *s)
{
	int fd = make(s, s->store_family);
	int ret = fd < 0 ? 0 : set_option(fd, SO_RESERVE_MEM,
					  s->memory.reserve_bytes);

	if (ret != -ENOMEM)
		return fd;
	link_close(fd);
	return ret;
}

int sockets_store(const struct sockets *s, int fd)
{
	return fd_queue_put(s->store[1], fd);
}

bool sockets_is_once(const struct sockets *s, int fd)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (s->ready[i].fd == fd)
			return s->ready[i].once;
	return false;
}

/* A place for one more, of which there is none yet. */
static bool find_place(struct sockets *s, uint32_t *ret)
{
	const uint32_t all = sizeof(s->ready) / sizeof(s->ready[0]);

	for (*ret = 0; *ret < s->count; ++*ret)
		if (s->ready[*ret].once && s->ready[*ret].fd < 0)
			return true;
	return *ret < all;
}

static void add_once(struct sockets *s, uint32_t at, int fd, bool taken)
{
	s->ready[at].fd = fd;
	s->ready[at].family = s->store_family;
	s->ready[at].taken = taken;
	s->ready[at].once = true;
	if (at == s->count)
		s->count++;
}

/*
 * First a note of it, then it is used. Notes of what is spent go before there are
 * many, but never before the others are there once more.
 */
static int note(struct sockets *s, int fd)
{
	uint32_t old = fd_queue_count(s->store[1]);
	int ret = 0;

	if (old < NOTES_MAX)
		return fd_queue_put(s->store[0], fd);
	for (uint32_t i = 0; i < s->count && !ret; i++)
		if (s->ready[i].once && s->ready[i].fd >= 0)
			ret = fd_queue_put(s->store[0], s->ready[i].fd);
	if (!ret)
		ret = fd_queue_put(s->store[0], fd);
	while (!ret && old--)
		link_close(fd_queue_take(s->store[1]));
	return ret;
}

static int take_once(void *arg, int family)
{
	struct sockets *s = arg;
	uint32_t at;
	int fd;

	for (uint32_t i = 0; i < s->count; i++)
		if (s->ready[i].once && !s->ready[i].taken &&
		    s->ready[i].fd >= 0 && s->ready[i].family == family) {
			s->ready[i].taken = true;
			return s->ready[i].fd;
		}
	if (!sockets_have_store(s) || family != s->store_family ||
	    !find_place(s, &at))
		return take(s, family);
	fd = s->spares ? fd_queue_take(s->store[0]) : sockets_make_spare(s);
	if (fd < 0)
		return take(s, family);
	if (note(s, fd) < 0) {
		link_close(fd);
		return take(s, family);
	}
	add_once(s, at, fd, true);
	return fd;
}

bool sockets_inherit(struct sockets *s)
{
	uint32_t at, count;

	if (!sockets_have_store(s))
		return true;
	count = fd_queue_count(s->store[1]);
	for (uint32_t i = 0; i < count; i++) {
		int fd = find_place(s, &at) ? fd_queue_peek(s->store[1], i) :
					      -1;

		if (fd < 0)
			return false;
		add_once(s, at, fd, false);
	}
	return true;
}

/* ---- back ---- */

void sockets_give(struct sockets *s, int fd)
{
	for (uint32_t i = 0; i < s->count; i++) {
		if (s->ready[i].fd != fd)
			continue;
		s->ready[i].taken = false;
		if (link_disconnect(fd) < 0) {
			/* A note of it may be left, and another process. */
			link_shutdown(fd, SHUT_RDWR);
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

struct link_sockets sockets_source_once(struct sockets *s)
{
	return (struct link_sockets){ .take = take_once,
				      .give = give,
				      .arg = s };
}

void sockets_fini(struct sockets *s)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (s->ready[i].fd >= 0)
			link_close(s->ready[i].fd);
	s->count = 0;
	for (int i = 0; i < 2 && sockets_have_store(s); i++)
		close(s->store[i]);
	s->store_family = AF_UNSPEC;
}
