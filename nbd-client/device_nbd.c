// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The steps of attach and detach that are particular to /dev/nbdN: the device is
 * chosen, tuned before anybody can read from it, given one end of a socketpair
 * through netlink, and tuned again. Control thread.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "nbd-client/blockdev.h"
#include "nbd-client/device.h"
#include "nbd-client/device_front.h"
#include "nbd-client/device_kernel.h"
#include "nbd-client/device_serve.h"
#include "nbd-client/donor.h"
#include "nbd-client/front_nbd.h"
#include "nbd-client/handover.h"
#include "nbd-client/measure.h"
#include "nbd-client/nbd_sysfs.h"
#include "nbd-client/sizing.h"

#define READY_TIMEOUT_MS 10000u

/* Taking over. The kernel sees the end of a dead worker's socket in a kworker. */
#define RECONFIGURE_PAUSE_MS 20
#define DROPPED_POLL_MS 100
#define RECONFIGURE_TIMEOUT_MS 5000u

/* What the kernel's nbd driver understands of a server's flags. */
#define KERNEL_FLAGS                                                           \
	(NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_FLUSH |       \
	 NBD_FLAG_SEND_FUA | NBD_FLAG_ROTATIONAL | NBD_FLAG_SEND_TRIM |        \
	 NBD_FLAG_SEND_WRITE_ZEROES)

/* "For ever" in the seconds that the kernel multiplies by HZ. */
#define DEAD_CONN_FOREVER_S (10u * 365 * 24 * 3600)

static int choose_up(struct device *d, struct err *err)
{
	pid_t pid;
	int ret = blockdev_load("nbd", err);

	if (!ret)
		ret = genl_open(&d->genl, err);
	if (ret < 0)
		return ret;
	if (d->options->index >= 0)
		d->index = (uint32_t)d->options->index;
	else
		ret = nbd_sysfs_find_free(&d->index, err);
	if (!ret && !d->options->recover &&
	    nbd_sysfs_pid(d->index, &pid) == 0)
		ret = err_set(err, X_BUSY, EBUSY,
			      "/dev/nbd%u is in use by process %d; choose another device, "
			      "or detach it first", d->index, (int)pid);
	if (ret < 0)
		return ret;
	device_set_name(d, FRONT_NBD);
	return 0;
}

static void choose_down(struct device *d)
{
	genl_close(&d->genl);
}

/*
 * A device that does not exist yet is made by the driver at CONNECT, with
 * requests larger than our slots and udev waiting to read. So it is connected
 * once with a socket that leads nowhere and a size of 0, and can then be tuned.
 */
static int make_device(struct device *d, struct err *err)
{
	const struct socket_memory none = { 0 };
	struct stats_guarantee unused[STATS_GUARANTEES] = { 0 };
	struct sockets sockets;
	int reserved = 0, ret;

	sockets_init(&sockets, &none);
	ret = sockets_prepare(&sockets, AF_INET, 1, &reserved, err);
	if (!ret)
		donor_donate(&sockets, &d->genl, d->index, unused);
	sockets_fini(&sockets);
	if (!ret && !blockdev_exists(d->name))
		ret = err_set(err, X_KERNEL, ENODEV,
			      "the nbd driver does not make %s; load it with a larger nbds_max",
			      d->path);
	return ret;
}

static void donate(struct device *d)
{
	uint32_t index = d->index;

	/* The device itself is in use when it is recovered. */
	if (d->options->recover && nbd_sysfs_find_free(&index, NULL) < 0)
		stats_guarantee_set(d->rows, DONOR_ROW, GUARANTEE_DEGRADED,
				    "none: no other nbd device is free");
	else
		donor_donate(&d->queues[0].conn.ends->sockets, &d->genl, index,
			     d->rows);
}

static int tune_early_up(struct device *d, struct err *err)
{
	if (d->options->recover)
		return 0; /* as it was; what it was before is not known */
	if (!blockdev_exists(d->name)) {
		int ret = make_device(d, err);

		if (ret < 0)
			return ret;
	}
	blockdev_save(d->name, &d->queue);
	return blockdev_limit(d->name, d->config.slot_bytes, err);
}

static int tune_early_again(struct device *d, struct err *err)
{
	(void)err;
	d->queue = d->options->handover->queue;
	return 0;
}

static int set_buffer(int fd, int option, int bytes)
{
	return setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof(bytes));
}

static int pair_up(struct device *d, struct err *err)
{
	int pair[2];
	int bytes = (int)sizing_pair_bytes(d->options);

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(err, X_FAILURE, errno,
			       "cannot make a socket pair: %s", strerror(errno));
	d->our_end = pair[0];
	d->kernel_end = pair[1];
	if (measure_left_out(MEASURE_BUFFERS))
		return 0;
	/* What the kernel may queue for us, and we for it (both ends allocate). */
	if (set_buffer(d->our_end, SO_SNDBUFFORCE, bytes) < 0 ||
	    set_buffer(d->kernel_end, SO_SNDBUFFORCE, bytes) < 0)
		return err_set(err, X_PERMISSION, errno,
			       "cannot set socket buffers: %s; attach needs root",
			       strerror(errno));
	return 0;
}

static void pair_down(struct device *d)
{
	if (d->our_end >= 0)
		close(d->our_end);
	if (d->kernel_end >= 0)
		close(d->kernel_end);
	d->our_end = -1;
	d->kernel_end = -1;
}

const char *device_nbd_backend(const struct device *d)
{
	return genl_backend(d->uri);
}

/* Or its death would never show as an end of file. */
static void close_kernel_end(struct device *d)
{
	close(d->kernel_end);
	d->kernel_end = -1;
}

/*
 * One queue: with several sockets the driver ends one that is well, should an
 * answer take longer than the request timer, and sends the request through another
 * (nbd_xmit_timeout), past a connection that may still carry it out.
 */
static void front_up(struct device *d)
{
	struct engine *e = d->queues[0].engine;

	e->mail.front_fd = d->our_end;
	engine_post(e, MAIL_FRONT_UP);
}

/* fd: of a socketpair, or the link itself. */
static int connect_device(struct device *d, const int *fd, struct err *err)
{
	uint32_t dead_s = d->options->dead_timeout_s;
	struct nbd_connect params = {
		.index = (int32_t)d->index,
		.fds = fd,
		.fd_count = 1,
		.size_bytes = d->size_bytes,
		.block_bytes = d->block_bytes,
		.server_flags = d->config.export->flags & KERNEL_FLAGS,
		.timeout_s = 0,
		.dead_conn_timeout_s = dead_s ? dead_s : DEAD_CONN_FOREVER_S,
		.backend = device_nbd_backend(d),
	};
	int ret;

	if (d->options->read_only)
		params.server_flags |= NBD_FLAG_READ_ONLY;
	/* Whoever sees this process die right now must know. */
	d->shared->appeared = true;
	ret = nbd_sysfs_connect(&d->genl, &params, err);
	d->shared->appeared = ret == 0;
	if (ret < 0)
		return ret;
	d->appeared = true;
	return 0;
}

static int appear_up(struct device *d, struct err *err)
{
	int ret;

	/* We listen before the kernel can speak. */
	front_up(d);
	ret = connect_device(d, &d->kernel_end, err);
	if (!ret)
		close_kernel_end(d);
	return ret;
}

/*
 * The kernel replaces a socket only when it has seen the end of the old one, and
 * drops the new one without a word otherwise: then ours is at its end.
 */
static bool was_dropped(const struct device *d)
{
	struct pollfd fd = { .fd = d->our_end, .events = POLLRDHUP };

	return poll(&fd, 1, DROPPED_POLL_MS) == 1 &&
	       fd.revents & (POLLRDHUP | POLLHUP);
}

static int appear_again(struct device *d, struct err *err)
{
	uint64_t end_ns = clock_now_ns() + RECONFIGURE_TIMEOUT_MS * NS_PER_MS;
	pid_t pid;

	d->appeared = true; /* and a detach would make it disappear */
	genl_drain(&d->genl);
	for (;;) {
		int ret;

		poll(NULL, 0, RECONFIGURE_PAUSE_MS);
		if (d->kernel_end < 0) {
			pair_down(d);
			ret = pair_up(d, err);
			if (ret < 0)
				return ret;
		}
		ret = genl_nbd_reconfigure(&d->genl, d->index, &d->kernel_end,
					   1, device_nbd_backend(d), err);
		if (ret < 0)
			return nbd_sysfs_pid(d->index, &pid) == -ENOENT ?
				       -ENODEV : ret;
		close_kernel_end(d);
		if (!was_dropped(d))
			break;
		if (clock_now_ns() >= end_ns)
			return err_set(err, X_KERNEL, ETIMEDOUT,
				       "%s: the kernel takes no new socket; see dmesg",
				       d->path);
	}
	d->shared->appeared = true;
	front_up(d);
	return 0;
}

/* By others: its number may be somebody else's by now. */
static bool is_disconnected(const struct device *d)
{
	return d->kind->make_front ? d->queues[0].front->dismissed :
				     device_front_gone(d);
}

static void appear_down(struct device *d)
{
	struct err err = { 0 };

	if (!d->appeared)
		return;
	if (!is_disconnected(d) &&
	    genl_nbd_disconnect(&d->genl, d->index, &err) < 0)
		log_say(LOG_LEVEL_ERR, "%s", err.text);
	if (d->kind->make_front)
		device_wait(d, device_fronts_gone, GONE_TIMEOUT_MS);
	if (nbd_sysfs_wait_gone(d->index, GONE_TIMEOUT_MS, &err) < 0)
		log_say(LOG_LEVEL_WARNING, "%s", err.text);
	d->shared->appeared = false;
}

/*
 * The kernel device is gone again, or never came; unless a worker died that
 * cannot be replaced.
 */
static void tune_early_down(struct device *d)
{
	struct err err = { 0 };

	if (d->shared && d->shared->appeared &&
	    (genl_nbd_disconnect(&d->genl, d->index, &err) < 0 ||
	     nbd_sysfs_wait_gone(d->index, GONE_TIMEOUT_MS, &err) < 0))
		log_say(LOG_LEVEL_ERR, "%s", err.text);
	blockdev_restore(d->name, &d->queue);
}

static int tune_up(struct device *d, struct err *err)
{
	int ret = blockdev_wait_ready(d->name, d->size_bytes,
				       READY_TIMEOUT_MS, err);

	if (!ret)
		ret = blockdev_tune(d->name, d->config.slot_bytes, 0,
				    d->rows, err);
	return ret;
}

/*
 * The driver ends a socket that it cannot send on. It also ends one that is well,
 * when whoever received on the one before is late to say that it is dead (recv_work
 * marks what is in its place by then). In either case it waits for another one;
 * only who disconnects the device says goodbye (nbd_disconnect).
 */
static bool is_orphaned(struct device *d)
{
	pid_t pid;

	return !is_disconnected(d) && nbd_sysfs_pid(d->index, &pid) == 0;
}

static struct front *make_front(void *memory)
{
	struct front_nbd *f = memory;

	front_nbd_init(f);
	return &f->front;
}

const struct device_front device_nbd = {
	.name = "nbd",
	.make_front = make_front,
	.donate = donate,
	.is_orphaned = is_orphaned,
	.steps = {
		[DEVICE_CHOOSE] = { "choose the device", choose_up, choose_up,
				    choose_down },
		[DEVICE_PREPARE] = { "tune the device", tune_early_up,
				     tune_early_again, tune_early_down },
		[DEVICE_TOOLS] = { "socket pair", pair_up, pair_up, pair_down },
		[DEVICE_END] = { .name = "none" },
		[DEVICE_APPEAR] = { "device appears", appear_up, appear_again,
				    appear_down },
		[DEVICE_TUNE] = { "tune the queue", tune_up, NULL, NULL },
	},
};

/* ---- the kernel's own path: no socket pair, no front of ours ---- */

static void kernel_tell(struct device *d)
{
	stats_guarantee_set(d->rows, "request slots", GUARANTEE_DEGRADED,
			    "none: the kernel's own path takes what it needs of the kernel's reserve");
	stats_guarantee_set(d->rows, "windows", GUARANTEE_DEGRADED,
			    "none: the kernel's own path sends all that its queue holds");
}

static int kernel_prepare_up(struct device *d, struct err *err)
{
	kernel_tell(d);
	return tune_early_up(d, err);
}

static int kernel_prepare_again(struct device *d, struct err *err)
{
	kernel_tell(d);
	return tune_early_again(d, err);
}

static int kernel_appear_up(struct device *d, struct err *err)
{
	int ret = connect_device(d, &d->queues[0].conn.fd, err);

	if (!ret)
		device_kernel_taken(&d->queues[0]);
	return ret;
}

static int kernel_appear_again(struct device *d, struct err *err)
{
	(void)err;
	d->appeared = true; /* and never was away */
	d->shared->appeared = true;
	genl_drain(&d->genl);
	return 0;
}

const struct device_front device_kernel = {
	.name = "kernel",
	.donate = donate,
	.steps = {
		[DEVICE_CHOOSE] = { "choose the device", choose_up, choose_up,
				    choose_down },
		[DEVICE_PREPARE] = { "tune the device", kernel_prepare_up,
				     kernel_prepare_again, tune_early_down },
		[DEVICE_TOOLS] = { .name = "none" },
		[DEVICE_END] = { .name = "none" },
		[DEVICE_APPEAR] = { "device appears", kernel_appear_up,
				    kernel_appear_again, appear_down },
		[DEVICE_TUNE] = { "tune the queue", tune_up, NULL, NULL },
	},
};
