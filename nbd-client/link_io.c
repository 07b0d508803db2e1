// SPDX-License-Identifier: GPL-2.0-or-later
/* Deadlines and what a socket's errors mean. Control thread. */
#include <errno.h>
#include <poll.h>

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
