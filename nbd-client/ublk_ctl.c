// SPDX-License-Identifier: GPL-2.0-or-later
/* Commands to ublk_drv; the control thread and the command line. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "include/bounds.h"
#include "nbd-client/ublk_ctl.h"

#define CONTROL_PATH "/dev/ublk-control"

/* For commands that wait for nobody. */
#define COMMAND_TIMEOUT_MS 5000u

/* A dead server's memory and descriptors take the kernel some 50 ms. */
#define RECOVER_POLL_MS 5

#define SECTOR_BYTES 512u

#define FEATURES_NEEDED                                                        \
	(UBLK_F_CMD_IOCTL_ENCODE | UBLK_F_USER_RECOVERY |                      \
	 UBLK_F_USER_RECOVERY_REISSUE)

/* ---- one command ---- */

static void submit(struct ublk_ctl *c, uint32_t opcode, void *buffer,
		   size_t bytes, uint64_t data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&c->ring);
	const struct ublk_ctrl_cmd command = {
		.dev_id = c->dev_id,
		.queue_id = UINT16_MAX,
		.len = (uint16_t)bytes,
		.addr = (uintptr_t)buffer,
		.data = data,
	};

	/* Entries are of 128 bytes, and each is submitted at once. */
	memset(sqe, 0, 128);
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, c->fd, NULL, 0, 0);
	sqe->cmd_op = opcode;
	memcpy(sqe->cmd, &command, sizeof(command));
	sqe->user_data = ++c->sequence;
	io_uring_submit(&c->ring);
}

/* How that command ended; -ETIMEDOUT: it has not. Older ones are dropped. */
static int wait_for(struct ublk_ctl *c, uint64_t sequence, uint32_t timeout_ms)
{
	uint64_t end_ns = clock_now_ns() + timeout_ms * NS_PER_MS;

	for (;;) {
		uint64_t now_ns = clock_now_ns();
		uint64_t left_ns = now_ns < end_ns ? end_ns - now_ns : 0;
		struct __kernel_timespec left = {
			.tv_sec = (long long)(left_ns / NS_PER_S),
			.tv_nsec = (long long)(left_ns % NS_PER_S),
		};
		struct io_uring_cqe *cqe;
		uint64_t ended;
		int ret = io_uring_wait_cqe_timeout(&c->ring, &cqe, &left);

		if (ret == -ETIME)
			return -ETIMEDOUT;
		if (ret == -EINTR)
			continue;
		if (ret < 0)
			return ret;
		ended = cqe->user_data;
		ret = cqe->res;
		io_uring_cqe_seen(&c->ring, cqe);
		if (ended == sequence)
			return ret;
	}
}

static int run(struct ublk_ctl *c, uint32_t opcode, void *buffer, size_t bytes,
	       uint64_t data, uint32_t timeout_ms)
{
	submit(c, opcode, buffer, bytes, data);
	return wait_for(c, c->sequence, timeout_ms);
}

static int failed(const struct ublk_ctl *c, const char *what, int error,
		  struct err *err)
{
	if (error == -ETIMEDOUT)
		return err_set(err, X_KERNEL, ETIMEDOUT,
			       "ublk%u: the kernel does not end the command to %s "
			       "the device; see dmesg", c->dev_id, what);
	return err_set(err, error == -EPERM || error == -EACCES ?
				    X_PERMISSION : X_KERNEL, -error,
		       "ublk%u: cannot %s the device: %s; see dmesg",
		       c->dev_id, what, strerror(-error));
}

/* ---- open ---- */

static int open_failed(int error, struct err *err)
{
	if (error == EACCES || error == EPERM)
		return err_set(err, X_PERMISSION, error,
			       "cannot open " CONTROL_PATH ": %s; run as root",
			       strerror(error));
	if (error == ENOENT)
		return err_set(err, X_KERNEL, error,
			       "there is no " CONTROL_PATH " although the driver "
			       "is loaded; is udev or devtmpfs there?");
	return err_set(err, X_KERNEL, error, "cannot open " CONTROL_PATH ": %s",
		       strerror(error));
}

/* Older drivers do not know the question, or not the way it is asked. */
static int ask_features(struct ublk_ctl *c, struct err *err)
{
	int ret = run(c, UBLK_U_CMD_GET_FEATURES, &c->features,
		      sizeof(c->features), 0, COMMAND_TIMEOUT_MS);

	if (ret == -ETIMEDOUT)
		return err_set(err, X_KERNEL, ETIMEDOUT,
			       CONTROL_PATH " does not answer; see dmesg, or "
			       "use an nbd device instead");
	if (ret < 0 || (c->features & FEATURES_NEEDED) != FEATURES_NEEDED)
		return err_set(err, X_KERNEL, ENOTSUP,
			       "this kernel's ublk driver is too old: it lacks user "
			       "recovery or says nothing of its features; use Linux "
			       "6.12 or later, or an nbd device");
	return 0;
}

int ublk_ctl_open(struct ublk_ctl *c, struct err *err)
{
	struct io_uring_params p = { .flags = IORING_SETUP_SQE128 };
	int ret;

	*c = (struct ublk_ctl){ .fd = open(CONTROL_PATH, O_RDWR | O_CLOEXEC) };
	if (c->fd < 0)
		return open_failed(errno, err);
	ret = io_uring_queue_init_params(8, &c->ring, &p);
	if (ret < 0) {
		close(c->fd);
		return err_set(err, X_KERNEL, -ret,
			       "cannot make an io_uring: %s; see "
			       "kernel.io_uring_disabled", strerror(-ret));
	}
	c->is_open = true;
	ret = ask_features(c, err);
	if (ret < 0)
		ublk_ctl_close(c);
	return ret;
}

void ublk_ctl_close(struct ublk_ctl *c)
{
	if (!c->is_open)
		return;
	io_uring_queue_exit(&c->ring);
	close(c->fd);
	c->is_open = false;
}

void ublk_ctl_describe(const struct ublk_ctl *c, char *ret_text,
		       size_t text_bytes)
{
	static const struct {
		uint64_t bit;
		const char *name;
	} names[] = {
		{ UBLK_F_USER_COPY, "user copy" },
		{ UBLK_F_SUPPORT_ZERO_COPY, "zero copy" },
		{ UBLK_F_AUTO_BUF_REG, "buffer registration" },
		{ UBLK_F_QUIESCE, "quiesce" },
	};
	size_t used = 0;

	ret_text[0] = '\0';
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!(c->features & names[i].bit) || used >= text_bytes)
			continue;
		used += (size_t)snprintf(ret_text + used, text_bytes - used,
					 "%s%s", used ? ", " : "",
					 names[i].name);
	}
}

/* ---- the disk ---- */

static uint8_t shift_of(uint32_t power_of_two)
{
	return (uint8_t)__builtin_ctz(power_of_two);
}

struct ublk_params ublk_ctl_params(const struct ublk_disk *disk)
{
	const struct export_info *x = disk->export;
	uint32_t zero_sectors = disk->zero_bytes_max / SECTOR_BYTES;
	uint32_t physical = x->block_pref;
	struct ublk_params p = { .len = sizeof(p),
				 .types = UBLK_PARAM_TYPE_BASIC };

	/* More than a page would only make programs align more than they must. */
	if (physical > 4 * KIB)
		physical = 4 * KIB;
	if (physical < disk->block_bytes)
		physical = disk->block_bytes;
	p.basic = (struct ublk_param_basic){
		.logical_bs_shift = shift_of(disk->block_bytes),
		.physical_bs_shift = shift_of(physical),
		.io_min_shift = shift_of(physical),
		.io_opt_shift = shift_of(physical),
		.max_sectors = disk->request_bytes_max / SECTOR_BYTES,
		.dev_sectors = disk->size_bytes / SECTOR_BYTES,
	};
	if (disk->read_only)
		p.basic.attrs |= UBLK_ATTR_READ_ONLY;
	if (x->flags & NBD_FLAG_ROTATIONAL)
		p.basic.attrs |= UBLK_ATTR_ROTATIONAL;
	if (x->flags & NBD_FLAG_SEND_FLUSH)
		p.basic.attrs |= UBLK_ATTR_VOLATILE_CACHE;
	if (x->flags & NBD_FLAG_SEND_FUA)
		p.basic.attrs |= UBLK_ATTR_FUA;
	if (disk->read_only ||
	    !(x->flags & (NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES)))
		return p;
	p.types |= UBLK_PARAM_TYPE_DISCARD;
	p.discard.discard_granularity = disk->block_bytes;
	if (x->flags & NBD_FLAG_SEND_TRIM) {
		p.discard.max_discard_sectors = zero_sectors;
		p.discard.max_discard_segments = 1;
	}
	if (x->flags & NBD_FLAG_SEND_WRITE_ZEROES)
		p.discard.max_write_zeroes_sectors = zero_sectors;
	return p;
}

/* ---- life of a device ---- */

int ublk_ctl_add(struct ublk_ctl *c, uint32_t index, uint32_t queues,
		 uint32_t depth, const struct ublk_disk *disk, struct err *err)
{
	int ret;

	c->dev_id = index;
	c->info = (struct ublk_dev_info){
		.nr_hw_queues = (uint16_t)queues,
		.queue_depth = (uint16_t)depth,
		.max_io_buf_bytes = disk->request_bytes_max,
		.dev_id = c->dev_id,
		.ublksrv_pid = -1,
		.flags = FEATURES_NEEDED,
	};
	ret = run(c, UBLK_U_CMD_ADD_DEV, &c->info, sizeof(c->info), 0,
		  COMMAND_TIMEOUT_MS);
	if (ret == -EEXIST)
		return err_set(err, X_BUSY, EEXIST,
			       "/dev/ublkb%u has just been taken; try again, or "
			       "choose another device", index);
	if (ret < 0)
		return failed(c, "add", ret, err);
	if (c->info.nr_hw_queues != queues) {
		ublk_ctl_delete(c, COMMAND_TIMEOUT_MS, NULL);
		return err_set(err, X_KERNEL, ENOTSUP,
			       "ublk%u: the kernel allows only %u queues; use "
			       "--connections=%u", index, c->info.nr_hw_queues,
			       c->info.nr_hw_queues);
	}
	c->params = ublk_ctl_params(disk);
	ret = run(c, UBLK_U_CMD_SET_PARAMS, &c->params, sizeof(c->params), 0,
		  COMMAND_TIMEOUT_MS);
	if (ret < 0) {
		ublk_ctl_delete(c, COMMAND_TIMEOUT_MS, NULL);
		return failed(c, "describe", ret, err);
	}
	return 0;
}

int ublk_ctl_affinity(struct ublk_ctl *c, uint32_t queue, cpu_set_t *ret_cpus)
{
	int ret = run(c, UBLK_U_CMD_GET_QUEUE_AFFINITY, &c->cpus,
		      sizeof(c->cpus), queue, COMMAND_TIMEOUT_MS);

	if (ret >= 0)
		*ret_cpus = c->cpus;
	return ret;
}

int ublk_ctl_start(struct ublk_ctl *c, uint32_t timeout_ms, struct err *err)
{
	int ret = run(c, UBLK_U_CMD_START_DEV, NULL, 0, (uint64_t)getpid(),
		      timeout_ms);

	return ret < 0 ? failed(c, "start", ret, err) : 0;
}

/* As STOP_DEV leaves it: of its disk nothing is left (ublk_stop_dev). */
static bool is_stopped(struct ublk_ctl *c)
{
	return ublk_ctl_find(c, c->dev_id, NULL) == 0 &&
	       c->info.state == UBLK_S_DEV_DEAD;
}

int ublk_ctl_recover_begin(struct ublk_ctl *c, uint32_t index,
			   uint32_t timeout_ms, struct err *err)
{
	uint64_t end_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
	int ret;

	c->dev_id = index;
	for (;;) {
		ret = run(c, UBLK_U_CMD_START_USER_RECOVERY, NULL, 0, 0,
			  COMMAND_TIMEOUT_MS);
		if (ret != -EBUSY || clock_now_ns() >= end_ns)
			break;
		if (is_stopped(c))
			return err_set(err, X_NOT_FOUND, ENODEV,
				       "/dev/ublkb%u has been stopped", index);
		poll(NULL, 0, RECOVER_POLL_MS);
	}
	/* One who died before he had fetched anything has begun already. */
	if (ret == -EINVAL)
		ret = 0;
	return ret < 0 ? failed(c, "take over", ret, err) : 0;
}

int ublk_ctl_recover_end(struct ublk_ctl *c, uint32_t timeout_ms,
			 struct err *err)
{
	int ret = run(c, UBLK_U_CMD_END_USER_RECOVERY, NULL, 0,
		      (uint64_t)getpid(), timeout_ms);

	return ret < 0 ? failed(c, "take over", ret, err) : 0;
}

int ublk_ctl_stop(struct ublk_ctl *c, uint32_t timeout_ms, struct err *err)
{
	int ret;

	if (!c->stop_sequence) {
		submit(c, UBLK_U_CMD_STOP_DEV, NULL, 0, 0);
		c->stop_sequence = c->sequence;
	}
	ret = wait_for(c, c->stop_sequence, timeout_ms);
	if (ret != -ETIMEDOUT)
		c->stop_sequence = 0;
	return ret < 0 && ret != -ENODEV ? failed(c, "stop", ret, err) : 0;
}

int ublk_ctl_delete(struct ublk_ctl *c, uint32_t timeout_ms, struct err *err)
{
	int ret = run(c, UBLK_U_CMD_DEL_DEV, NULL, 0, 0, timeout_ms);

	return ret < 0 && ret != -ENODEV ? failed(c, "delete", ret, err) : 0;
}

int ublk_ctl_resize(struct ublk_ctl *c, uint32_t index, uint64_t size_bytes,
		    uint32_t timeout_ms, struct err *err)
{
	int ret;

	c->dev_id = index;
	if (!(c->features & UBLK_F_UPDATE_SIZE))
		return err_set(err, X_KERNEL, ENOTSUP,
			       "this kernel's ublk driver cannot change the size "
			       "of a device, that of Linux 6.16 can; detach and "
			       "attach it again, or use an nbd device");
	ret = run(c, UBLK_U_CMD_UPDATE_SIZE, NULL, 0, size_bytes / SECTOR_BYTES,
		  timeout_ms);
	return ret < 0 ? failed(c, "resize", ret, err) : 0;
}

int ublk_ctl_find(struct ublk_ctl *c, uint32_t index, struct err *err)
{
	int ret;

	c->dev_id = index;
	ret = run(c, UBLK_U_CMD_GET_DEV_INFO, &c->info, sizeof(c->info), 0,
		  COMMAND_TIMEOUT_MS);
	if (ret == -ENODEV)
		return ret;
	return ret < 0 ? failed(c, "look at", ret, err) : 0;
}
