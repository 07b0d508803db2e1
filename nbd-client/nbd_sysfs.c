// SPDX-License-Identifier: GPL-2.0-or-later
/* Which /dev/nbdN is in use. Control thread and command line; may block. */
#include <errno.h>
#include <poll.h>

#include "common/clock.h"
#include "nbd-client/blockdev.h"
#include "nbd-client/nbd_sysfs.h"

/* How often a condition is looked at that the kernel does not announce. */
#define POLL_MS 10

/* udev looks at what a device holds, and may have much to do at boot. */
#define OPEN_TIMEOUT_MS 10000u

int nbd_sysfs_pid(uint32_t index, pid_t *ret_pid)
{
	struct blockdev b;
	uint64_t pid;
	int rc;

	blockdev_set(&b, FRONT_NBD, index);
	rc = blockdev_read_number(b.name, "pid", &pid);
	if (!rc)
		*ret_pid = (pid_t)pid;
	return rc;
}

static bool in_use(uint32_t index)
{
	pid_t pid;

	return nbd_sysfs_pid(index, &pid) != -ENOENT;
}

int nbd_sysfs_find_free(uint32_t *ret_index, struct err *err)
{
	uint32_t index, absent = UINT32_MAX, gap = 0;
	struct blockdev b;

	/*
	 * The driver makes devices 0 … nbds_max - 1, then others as they are
	 * asked for; a long gap means that no more follow.
	 */
	for (index = 0; index <= NBD_INDEX_MAX && gap < 256; index++) {
		blockdev_set(&b, FRONT_NBD, index);
		if (!blockdev_exists(b.name)) {
			if (absent == UINT32_MAX)
				absent = index;
			gap++;
			continue;
		}
		gap = 0;
		if (!in_use(index)) {
			*ret_index = index;
			return 0;
		}
	}
	if (absent == UINT32_MAX)
		return err_set(err, X_BUSY, EBUSY,
			       "all nbd devices are in use; detach one");
	*ret_index = absent;
	return 0;
}

int nbd_sysfs_backend(uint32_t index, char *ret_text, size_t text_bytes)
{
	struct blockdev b;
	int rc;

	blockdev_set(&b, FRONT_NBD, index);
	rc = blockdev_read(b.name, "backend", ret_text, text_bytes);
	return rc < 0 ? rc : 0;
}

int nbd_sysfs_connect(struct genl *genl, const struct nbd_connect *params,
		      struct err *err)
{
	uint64_t deadline = clock_now_ns() + OPEN_TIMEOUT_MS * NS_PER_MS;
	uint32_t index = (uint32_t)params->index;
	int ret;

	while ((ret = genl_nbd_connect(genl, params, &index, err)) == -EBUSY &&
	       !in_use(index) && clock_now_ns() < deadline) {
		err_clear(err);
		poll(NULL, 0, POLL_MS);
	}
	return ret;
}

int nbd_sysfs_wait_gone(uint32_t index, uint32_t timeout_ms, struct err *err)
{
	uint64_t deadline = clock_now_ns() + timeout_ms * NS_PER_MS;

	while (in_use(index)) {
		if (clock_now_ns() >= deadline)
			return err_set(err, X_BUSY, ETIMEDOUT,
				       "/dev/nbd%u is still in use; is it "
				       "mounted or active as swap?",
				       index);
		poll(NULL, 0, POLL_MS);
	}
	return 0;
}
