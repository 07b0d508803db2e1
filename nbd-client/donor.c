// SPDX-License-Identifier: GPL-2.0-or-later
/* The donor trick; the control thread, before the device appears. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "nbd-client/blockdev.h"
#include "nbd-client/donor.h"
#include "nbd-client/link_io.h"
#include "nbd-client/nbd_sysfs.h"
#include "nbd-client/stats.h"

/*
 * The driver gives a socket its time-out in the statement after the one that
 * makes it SOCK_MEMALLOC, which itself cannot be read back. So an odd time-out
 * that is seen afterwards proves that the driver has been there.
 */
#define DONOR_TIMEOUT_S 77

/* The lowest one that is free is taken. */
#define DONOR_INDEX_MAX 255u

/* Of a device that was just made (block/blk-mq.c, blk_mq_init_queue: 30 * HZ). */
#define BLOCK_TIMEOUT_MS "30000"

/* Whether the driver has touched it; takes the mark off again. */
static bool is_marked(int fd)
{
	struct timeval t = { 0 };
	socklen_t bytes = sizeof(t);
	const struct timeval never = { 0 };

	if (getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, &bytes) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &never, sizeof(never)) < 0)
		return false;
	return t.tv_sec == DONOR_TIMEOUT_S;
}

static int pass(int fd, struct genl *genl, uint32_t index, struct err *err)
{
	struct nbd_connect params = {
		.index = (int32_t)index,
		.fds = &fd,
		.fd_count = 1,
		.timeout_s = DONOR_TIMEOUT_S,
		.backend = DONOR_BACKEND,
	};
	int ret = nbd_sysfs_connect(genl, &params, err);

	if (ret < 0)
		return ret;
	ret = genl_nbd_disconnect(genl, index, err);
	if (!ret)
		ret = nbd_sysfs_wait_gone(index, GONE_TIMEOUT_MS, err);
	if (!ret)
		ret = link_disconnect(fd);
	return ret ? ret : is_marked(fd) ? 0 : -ENOTSUP;
}

int donor_donate_one(int fd, struct genl *genl, uint32_t index, struct err *err)
{
	char timeout[32] = BLOCK_TIMEOUT_MS;
	struct blockdev b;
	int ret;

	blockdev_set(&b, FRONT_NBD, index);
	(void)blockdev_read(b.name, "queue/io_timeout", timeout,
			    sizeof(timeout));
	ret = pass(fd, genl, index, err);
	/* Ours was a mark, not a wish: the device keeps what it had. */
	(void)blockdev_write(b.name, "queue/io_timeout", timeout);
	return ret;
}

void donor_donate(const struct sockets *s, struct genl *genl, uint32_t index,
		  struct stats_guarantee rows[STATS_GUARANTEES])
{
	struct err err = { 0 };
	int ret = 0;

	for (uint32_t i = 0; i < s->count && !ret; i++)
		ret = donor_donate_one(s->ready[i].fd, genl, index, &err);
	if (ret == 0)
		stats_guarantee_set(rows, DONOR_ROW, GUARANTEE_OK,
				    "each socket was seen to pass the nbd driver");
	else
		stats_guarantee_set(rows, DONOR_ROW, GUARANTEE_DEGRADED,
				    "none: %.80s",
				    err.text[0] ? err.text : strerror(-ret));
}

bool donor_drop_stale(uint32_t *ret_index)
{
	char backend[2 * sizeof(DONOR_BACKEND)]; /* not to match its beginning */
	struct genl genl;
	uint32_t index;
	bool dropped;

	for (index = 0; index <= DONOR_INDEX_MAX; index++)
		if (nbd_sysfs_backend(index, backend, sizeof(backend)) == 0 &&
		    !strcmp(backend, DONOR_BACKEND))
			break;
	if (index > DONOR_INDEX_MAX || genl_open(&genl, NULL) < 0)
		return false;
	dropped = genl_nbd_disconnect(&genl, index, NULL) == 0;
	genl_close(&genl);
	*ret_index = index;
	return dropped;
}
