// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The steps of attach and detach that are particular to /dev/ublkbN: the device
 * is added to the driver; its character device is opened and mapped
 * for the data thread; it is started once that thread fetches, because the kernel
 * reads the partition table then. Control thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "nbd-client/device.h"
#include "nbd-client/device_front.h"
#include "nbd-client/device_serve.h"
#include "nbd-client/donor.h"
#include "nbd-client/front_ublk.h"
#include "nbd-client/nbd_sysfs.h"

#define NODE_TIMEOUT_MS 5000u
#define START_TIMEOUT_MS 15000u
#define READY_TIMEOUT_MS 10000u
/* Three times at most, which "detach --force" waits for. */
#define STOP_TIMEOUT_MS 3000u
#define GONE_TIMEOUT_MS 10000u
#define RECOVER_TIMEOUT_MS 5000u

/*
 * One discard or write-zeroes request. The engine sends it in pieces; less than
 * 4 GiB, because a request's length has 32 bits.
 */
#define ZERO_REQUEST_BYTES (8u * ZERO_PIECE_BYTES)
_Static_assert(ZERO_REQUEST_BYTES == 1u << 30, "1 GiB, and no overflow");

static struct front_ublk *front_of(struct queue *q)
{
	return (struct front_ublk *)q->front;
}

/*
 * In a child, for the sake of what it leaves behind: commands to the driver run
 * on a kernel worker of the calling thread's, which has the protection that the
 * thread had when it was made, and stays as long as the thread.
 */
enum front_kind device_prefer_ublk(void)
{
	struct ublk_ctl ctl;
	int status = 1;
	pid_t pid;

	if (blockdev_load(UBLK_CTL_DRIVER, NULL) < 0)
		return FRONT_NBD;
	pid = fork();
	if (pid == 0)
		_exit(ublk_ctl_open(&ctl, NULL) < 0);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status == 0 ? FRONT_UBLK : FRONT_NBD;
}

static bool is_taken(uint32_t index)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/class/ublk-char/ublkc%u",
		 blockdev_sys_root, index);
	return access(path, F_OK) == 0;
}

/* No command to the driver yet, see above. */
static int choose_up(struct device *d, struct err *err)
{
	int ret = blockdev_load(UBLK_CTL_DRIVER, err);

	if (ret == -ENODEV)
		return err_set(err, X_KERNEL, ENODEV,
			       "this kernel has no driver ublk_drv (modprobe "
			       "failed); use an nbd device, or Linux 6.12 or later "
			       "with CONFIG_BLK_DEV_UBLK");
	if (ret < 0)
		return ret;
	if (d->options->index >= 0)
		d->index = (uint32_t)d->options->index;
	else
		while (is_taken(d->index))
			d->index++;
	device_set_name(d, FRONT_UBLK);
	if (!d->options->recover && is_taken(d->index))
		return err_set(err, X_BUSY, EBUSY,
			       "%s is in use; choose another device, or detach it "
			       "first", d->path);
	return 0;
}

/* One that is there has as many tags of the size that it was made with. */
static int check_added(struct device *d, struct err *err)
{
	const struct ublk_dev_info *info = &d->ublk.ctl.info;
	int ret = ublk_ctl_find(&d->ublk.ctl, d->index, err);

	if (ret == -ENODEV)
		return err_set(err, X_NOT_FOUND, ENODEV, "there is no %s",
			       d->path);
	if (!ret && (info->nr_hw_queues != d->queue_count ||
		     info->queue_depth != d->config.slots ||
		     info->max_io_buf_bytes != d->config.slot_bytes))
		ret = err_set(err, X_REFUSED, ESTALE,
			      "%s has %u queues with %u slots of %u bytes; has the "
			      "server's limit changed?", d->path,
			      info->nr_hw_queues, info->queue_depth,
			      info->max_io_buf_bytes);
	return ret;
}

/*
 * Each thread where its requests come from, if that can be learned: it is a matter
 * of speed. One thread alone where it likes.
 */
static void choose_cpus(struct device *d)
{
	EACH_QUEUE(q, d)
		if (d->queue_count > 1)
			(void)ublk_ctl_affinity(&d->ublk.ctl, q->index,
						&q->cpus);
}

static int add_up(struct device *d, struct err *err)
{
	const struct ublk_disk disk = {
		.size_bytes = d->size_bytes,
		.block_bytes = d->block_bytes,
		.request_bytes_max = d->config.slot_bytes,
		.zero_bytes_max = ZERO_REQUEST_BYTES,
		.read_only = d->options->read_only ||
			     (d->config.export->flags & NBD_FLAG_READ_ONLY),
		.export = d->config.export,
	};
	char also[64];
	int ret = ublk_ctl_open(&d->ublk.ctl, err);

	if (!ret && d->options->recover)
		ret = check_added(d, err);
	else if (!ret)
		ret = ublk_ctl_add(&d->ublk.ctl, d->index, d->queue_count,
				   d->config.slots, &disk, err);
	if (ret < 0)
		return ret;
	d->ublk.added = !d->options->recover; /* else not ours to delete, yet */
	/* For all we know, unless a worker is there that serves. */
	d->shared->fetching = d->options->recover && !d->options->handover;
	choose_cpus(d);
	ublk_ctl_describe(&d->ublk.ctl, also, sizeof(also));
	stats_guarantee_set(d->rows, "ublk", GUARANTEE_OK,
			    "user recovery, reissue; not used: %s",
			    also[0] ? also : "nothing");
	ublk_ctl_close(&d->ublk.ctl); /* a worker makes its own */
	return 0;
}

/* The last one who had ublkcN open is gone: its number becomes free. */
static void add_down(struct device *d)
{
	struct err err = { 0 };

	ublk_ctl_close(&d->ublk.ctl); /* of an attempt to add it that failed */
	if (!d->ublk.added && !(d->shared && d->shared->appeared))
		return;
	if (ublk_ctl_open(&d->ublk.ctl, &err) == 0) {
		d->ublk.ctl.dev_id = d->index;
		(void)ublk_ctl_delete(&d->ublk.ctl, GONE_TIMEOUT_MS, &err);
	}
	if (err.exit_code)
		log_say(LOG_LEVEL_WARNING, "%s", err.text);
	ublk_ctl_close(&d->ublk.ctl);
}

/* Only nbd.ko makes a socket SOCK_MEMALLOC: through a device it can spare. */
static void donate(struct device *d)
{
	struct stats_guarantee *rows = d->rows;
	struct genl genl;
	struct err err = { 0 };
	uint32_t spare;
	int ret = blockdev_load("nbd", &err);

	if (!ret)
		ret = genl_open(&genl, &err);
	if (ret < 0) {
		stats_guarantee_set(rows, DONOR_ROW, GUARANTEE_DEGRADED,
				    "none: %.90s", err.text);
		return;
	}
	if (nbd_sysfs_find_free(&spare, &err) == 0)
		EACH_QUEUE(q, d)
			donor_donate(&q->conn.ends->sockets, &genl, spare,
				     rows);
	else
		stats_guarantee_set(rows, DONOR_ROW, GUARANTEE_DEGRADED,
				    "none: %.90s", err.text);
	genl_close(&genl);
}

static struct front *make_front(void *memory)
{
	struct front_ublk *f = memory;

	front_ublk_init(f);
	return &f->front;
}

/* udev may take a moment to make the node. */
static int open_node(const struct device *d)
{
	uint64_t end_ns = clock_now_ns() + NODE_TIMEOUT_MS * NS_PER_MS;
	char path[DEVICE_NAME_BYTES];
	int fd;

	snprintf(path, sizeof(path), "/dev/ublkc%u", d->index);
	while ((fd = open(path, O_RDWR | O_CLOEXEC)) < 0 &&
	       (errno == ENOENT || errno == EBUSY) && clock_now_ns() < end_ns)
		poll(NULL, 0, 10);
	return fd;
}

static size_t descs_bytes(const struct device *d)
{
	return pin_pages(d->config.slots * sizeof(struct ublk_io_desc));
}

static int map_queue(struct queue *q, struct err *err)
{
	struct device *d = q->device;
	void *descs = mmap(NULL, descs_bytes(d), PROT_READ,
			   MAP_SHARED | MAP_POPULATE, d->ublk.fd,
			   (off_t)(q->index * UBLK_DESCS_STRIDE));

	if (descs == MAP_FAILED)
		return err_set(err, X_KERNEL, errno,
			       "cannot map /dev/ublkc%u: %s", d->index,
			       strerror(errno));
	q->ublk_descs = descs;
	front_ublk_connect(front_of(q), q->index, d->ublk.fd,
			   d->ublk.ctl.ring.ring_fd, descs);
	return 0;
}

static int end_up(struct device *d, struct err *err)
{
	int ret = 0;

	d->ublk.fd = open_node(d);
	if (d->ublk.fd < 0)
		return err_set(err, X_FAILURE, errno,
			       "cannot open /dev/ublkc%u: %s; is udev or "
			       "devtmpfs there?", d->index, strerror(errno));
	EACH_QUEUE(q, d)
		if (!ret)
			ret = map_queue(q, err);
	return ret;
}

static int tools_up(struct device *d, struct err *err)
{
	int ret = ublk_ctl_open(&d->ublk.ctl, err);

	d->ublk.ctl.dev_id = d->index;
	return ret;
}

static void fetch_queue(const struct queue *q, struct io_uring *ring, int fd)
{
	for (uint32_t tag = 0; tag < q->device->config.slots; tag++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
		const struct ublk_io_cmd command = {
			.q_id = (uint16_t)q->index,
			.tag = (uint16_t)tag,
			.addr = (uintptr_t)q->device->reserve, /* not used */
		};

		io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
		sqe->cmd_op = UBLK_U_IO_FETCH_REQ;
		memcpy(sqe->cmd, &command, sizeof(command));
	}
	io_uring_submit(ring);
	io_uring_cq_advance(ring, io_uring_cq_ready(ring));
}

static void *fetch_rest(void *arg)
{
	const struct device *d = arg;
	int fd = open_node(d);
	struct io_uring ring;

	if (fd < 0)
		return NULL;
	if (io_uring_queue_init(SLOTS_MAX, &ring, IORING_SETUP_SUBMIT_ALL) ==
	    0) {
		EACH_QUEUE(q, d)
			fetch_queue(q, &ring, fd);
		io_uring_queue_exit(&ring);
	}
	close(fd);
	return NULL;
}

/*
 * Linux 6.12 begins a recovery with the belief that somebody has had every queue,
 * and falls over one that nobody has (ublk_queue_reinit: put_task_struct). A
 * worker that died when some of its threads had fetched and others had not has left
 * such queues. So these are fetched by a thread that ends at once; the driver
 * refuses it the others.
 */
static int complete_fetching(struct device *d, struct err *err)
{
	pthread_t thread;
	int ret;

	if (!d->shared->fetching)
		return 0;
	ret = device_start_thread(&thread, fetch_rest, d);
	if (ret < 0)
		return err_set(err, X_FAILURE, -ret,
			       "cannot start a thread: %s", strerror(-ret));
	pthread_join(thread, NULL);
	return 0;
}

static int end_again(struct device *d, struct err *err)
{
	int ret = complete_fetching(d, err);

	if (!ret)
		ret = ublk_ctl_recover_begin(&d->ublk.ctl, d->index,
					     RECOVER_TIMEOUT_MS, err);
	return ret ? ret : end_up(d, err);
}

/* After the data thread has ended. */
static void tools_down(struct device *d)
{
	EACH_QUEUE(q, d) {
		if (q->ublk_descs)
			munmap(q->ublk_descs, descs_bytes(d));
		q->ublk_descs = NULL;
	}
	if (d->ublk.fd >= 0)
		close(d->ublk.fd);
	d->ublk.fd = -1;
	ublk_ctl_close(&d->ublk.ctl);
}

/* No registered file: the fronts use the descriptor itself. */
static void fronts_up(struct device *d)
{
	EACH_QUEUE(q, d)
		q->engine->mail.front_fd = -1;
	d->shared->fetching = true;
	device_post(d, MAIL_FRONT_UP);
	d->appeared = true;
}

static int appear_up(struct device *d, struct err *err)
{
	int ret;

	fronts_up(d);
	ret = ublk_ctl_start(&d->ublk.ctl, START_TIMEOUT_MS, err);
	d->shared->fetching = ret < 0;
	return ret;
}

static int appear_again(struct device *d, struct err *err)
{
	int ret;

	fronts_up(d);
	d->shared->appeared = true;
	ret = ublk_ctl_recover_end(&d->ublk.ctl, RECOVER_TIMEOUT_MS, err);
	d->shared->fetching = ret < 0;
	return ret;
}

static void appear_down(struct device *d)
{
	struct err err = { 0 };
	int ret;

	if (!d->appeared)
		return;
	ret = ublk_ctl_stop(&d->ublk.ctl, STOP_TIMEOUT_MS, &err);
	if (ret == -ETIMEDOUT) {
		/* The kernel waits for requests that wait for the server. */
		log_say(LOG_LEVEL_WARNING,
			"%s: requests are left unanswered", d->path);
		device_post(d, MAIL_FAIL | MAIL_LINK_DROP);
		device_wait(d, device_fronts_gone, STOP_TIMEOUT_MS);
		ret = ublk_ctl_stop(&d->ublk.ctl, STOP_TIMEOUT_MS, &err);
	}
	if (ret < 0)
		log_say(LOG_LEVEL_ERR, "%s", err.text);
	else
		device_wait(d, device_fronts_gone, STOP_TIMEOUT_MS);
}

static int tune_up(struct device *d, struct err *err)
{
	int ret = blockdev_wait_ready(d->name, d->size_bytes, READY_TIMEOUT_MS,
				      err);

	/*
	 * One tag is never used, so that there is always a command that the
	 * kernel can cancel when this process dies (ublk_uring_cmd_cancel_fn);
	 * with all tags in flight only the request timer would notice.
	 */
	if (!ret)
		ret = blockdev_tune(d->name, d->config.slot_bytes,
				    d->config.slots - 1, d->rows,
				    err);
	return ret;
}

/*
 * Linux 6.12 looks after a dead server once for each queue that has noticed the
 * death (ublk_quiesce_work_fn); should the last look come late, it takes the device
 * from the one that has come instead.
 */
static bool is_orphaned(struct device *d)
{
	return ublk_ctl_find(&d->ublk.ctl, d->index, NULL) == 0 &&
	       d->ublk.ctl.info.state == UBLK_S_DEV_QUIESCED;
}

const struct device_front device_ublk = {
	.name = "ublk",
	.make_front = make_front,
	.donate = donate,
	.is_orphaned = is_orphaned,
	.steps = {
		[DEVICE_CHOOSE] = { "choose the device", choose_up, choose_up,
				    NULL },
		[DEVICE_PREPARE] = { "add the device", add_up, add_up,
				     add_down },
		[DEVICE_TOOLS] = { "command ring", tools_up, tools_up,
				   tools_down },
		[DEVICE_END] = { "character device", end_up, end_again, NULL },
		[DEVICE_APPEAR] = { "device appears", appear_up, appear_again,
				    appear_down },
		[DEVICE_TUNE] = { "tune the queue", tune_up, NULL, NULL },
	},
};
