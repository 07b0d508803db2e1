// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Attach and detach as a table of steps. Control thread; the data thread's
 * outermost function is in device_serve.c with what runs while attached.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/proto.h"
#include "nbd-client/device.h"
#include "nbd-client/device_serve.h"
#include "nbd-client/donor.h"
#include "nbd-client/host.h"
#include "nbd-client/nbd_sysfs.h"
#include "nbd-client/sizing.h"
#include "nbd-client/swap.h"
#include "nbd-client/tls_memory.h"

#define READY_TIMEOUT_MS 10000u
#define GONE_TIMEOUT_MS 10000u

/* What the kernel's nbd driver understands of a server's flags. */
#define KERNEL_FLAGS                                                           \
	(NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_FLUSH |       \
	 NBD_FLAG_SEND_FUA | NBD_FLAG_ROTATIONAL | NBD_FLAG_SEND_TRIM |        \
	 NBD_FLAG_SEND_WRITE_ZEROES)

/* "For ever" in the seconds that the kernel multiplies by HZ. */
#define DEAD_CONN_FOREVER_S (10u * 365 * 24 * 3600)

/* ---- what the server has ---- */

static int choose_blocks(struct device *d, struct err *err)
{
	const struct export_info *x = &d->conn.export;
	uint32_t asked = d->options->block_bytes;
	uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);

	d->block_bytes = asked ? asked : x->block_min > 512 ? x->block_min : 512;
	if (d->block_bytes < x->block_min)
		return err_set(err, X_USAGE, EINVAL,
			       "the server takes no blocks smaller than %u bytes; "
			       "leave --block-size out or use that",
			       x->block_min);
	if (d->block_bytes > page)
		return err_set(err, X_KERNEL, ENOTSUP,
			       "the server needs blocks of %u bytes, this kernel's nbd driver "
			       "has at most %u; set a smaller minimum block size at the server",
			       d->block_bytes, page);
	if (x->block_max < SLOT_BYTES_MIN)
		return err_set(err, X_REFUSED, ENOTSUP,
			       "the server takes at most %u bytes in a request, which is "
			       "less than a page; raise its maximum block size",
			       x->block_max);
	d->size_bytes = proto_usable_bytes(x->size_bytes, d->block_bytes);
	if (!d->size_bytes)
		return err_set(err, X_REFUSED, EINVAL,
			       "the export has %llu bytes, less than a block of %u; "
			       "nothing to attach",
			       (unsigned long long)x->size_bytes,
			       d->block_bytes);
	return 0;
}

/* All files are read here, all of OpenSSL's memory is got here. */
static int tls_up(struct device *d, struct err *err)
{
	const struct attach_options *o = d->options;
	enum handshake_tls mode;
	int ret = tls_decide(&o->tls, &o->addr, &mode, err);

	if (ret < 0 || mode == HANDSHAKE_TLS_OFF)
		return ret;
	ret = tls_memory_open(err);
	if (!ret)
		ret = tls_open(&d->tls, &o->tls, &o->addr, err);
	if (!ret)
		conn_set_tls(&d->conn, &d->tls);
	return ret;
}

static int probe_up(struct device *d, struct err *err)
{
	const struct attach_options *o = d->options;
	struct socket_memory memory;
	int ret;

	addr_format(&o->addr, d->uri, sizeof(d->uri));
	memory = sizing_socket_memory(o);
	ret = conn_init(&d->conn, &o->addr, &memory, o->handshake_ms, err);
	if (!ret)
		ret = tls_up(d, err);
	if (!ret)
		ret = conn_probe(&d->conn, err); /* opened once protected */
	if (ret < 0)
		return ret;
	if (o->swapon && (d->conn.export.flags & NBD_FLAG_READ_ONLY))
		return err_set(err, X_REFUSED, EROFS,
			       "the export is read-only and cannot be swapped to");
	d->config = sizing_config(o, &d->conn.export);
	if (d->conn.tls)
		d->config.record_bytes = sizeof(struct records);
	return choose_blocks(d, err);
}

static void probe_down(struct device *d)
{
	conn_fini(&d->conn);
	tls_close(&d->tls);
}

/* ---- which device ---- */

static int lock_up(struct device *d, struct err *err)
{
	mkdir(RUN_DIR, 0755);
	d->lock_fd = open(RUN_DIR "/attach.lock",
			  O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (d->lock_fd < 0 || flock(d->lock_fd, LOCK_EX) < 0)
		return err_set(err,
			       errno == EACCES ? X_PERMISSION : X_FAILURE,
			       errno, "cannot lock " RUN_DIR "/attach.lock: %s; "
			       "attach needs root", strerror(errno));
	return 0;
}

static void lock_down(struct device *d)
{
	if (d->lock_fd >= 0)
		close(d->lock_fd);
	d->lock_fd = -1;
}

static int choose_up(struct device *d, struct err *err)
{
	pid_t pid;
	int ret = nbd_sysfs_load(err);

	if (!ret)
		ret = genl_open(&d->genl, err);
	if (ret < 0)
		return ret;
	if (d->options->device[0])
		ret = nbd_sysfs_parse(d->options->device, &d->index, err);
	else
		ret = nbd_sysfs_find_free(&d->index, err);
	if (!ret && nbd_sysfs_pid(d->index, &pid) == 0)
		ret = err_set(err, X_BUSY, EBUSY,
			      "/dev/nbd%u is in use by process %d; choose another device, "
			      "or detach it first", d->index, (int)pid);
	if (ret < 0)
		return ret;
	nbd_sysfs_name(d->index, d->name);
	nbd_sysfs_device(d->index, d->path);
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
	int reserved, ret;

	sockets_init(&sockets, &none);
	ret = sockets_prepare(&sockets, AF_INET, &reserved, err);
	if (!ret)
		donor_donate(&sockets, &d->genl, d->index, unused);
	sockets_fini(&sockets);
	if (!ret && !nbd_sysfs_exists(d->index))
		ret = err_set(err, X_KERNEL, ENODEV,
			      "the nbd driver does not make %s; load it with a larger nbds_max",
			      d->path);
	return ret;
}

/* The sockets that serve later, in the cgroup that we are in now. */
static int sockets_up(struct device *d, struct err *err)
{
	struct stats_guarantee *rows = d->page->guarantees;
	int family = d->conn.family;
	int reserved, ret;

	if (d->options->swap == SWAP_NO ||
	    (family != AF_INET && family != AF_INET6))
		return 0;
	ret = sockets_prepare(&d->conn.sockets, family, &reserved, err);
	if (ret < 0)
		return ret;
	if (reserved == 0)
		stats_guarantee_set(rows, "socket memory", GUARANTEE_OK,
				    "SO_RESERVE_MEM %u KiB on each of %u sockets",
				    d->conn.sockets.memory.reserve_bytes / KIB,
				    SOCKETS_COUNT);
	else
		stats_guarantee_set(rows, "socket memory", GUARANTEE_DEGRADED,
				    "no SO_RESERVE_MEM: %s",
				    reserved == -EOPNOTSUPP ?
					    "the process is in no memory cgroup" :
					    strerror(-reserved));
	donor_donate(&d->conn.sockets, &d->genl, d->index, rows);
	return 0;
}

static int tune_early_up(struct device *d, struct err *err)
{
	if (!nbd_sysfs_exists(d->index)) {
		int ret = make_device(d, err);

		if (ret < 0)
			return ret;
	}
	nbd_sysfs_save(d->index, &d->queue);
	return nbd_sysfs_tune_early(d->index, d->config.slot_bytes, err);
}

/* ---- the page that shows it ---- */

static void fill_page(struct device *d)
{
	struct stats_page *p = d->page;
	const struct export_info *x = &d->conn.export;

	memcpy(p->front, "nbd", sizeof("nbd"));
	memcpy(p->uri, d->uri, sizeof(p->uri));
	p->attached_at = (uint64_t)time(NULL);
	p->link_since = p->attached_at;
	p->export_bytes = d->size_bytes;
	p->export_flags = x->flags;
	p->block_bytes = d->block_bytes;
	p->server_block_min = x->block_min;
	p->server_block_pref = x->block_pref;
	p->server_block_max = x->block_max;
	p->structured = x->structured;
	p->read_only = d->options->read_only ||
		       (x->flags & NBD_FLAG_READ_ONLY) != 0;
	p->swap = d->options->swap != SWAP_NO;
	p->swap_priority = d->options->swapon_priority;
	p->slots = d->config.slots;
	p->slot_bytes = d->config.slot_bytes;
}

static int page_up(struct device *d, struct err *err)
{
	int ret = stats_create(d->name, &d->page, err);

	if (!ret)
		fill_page(d);
	return ret;
}

static void page_down(struct device *d)
{
	if (!d->page)
		return;
	d->page->state = STATS_GONE;
	stats_remove(d->name, d->page);
	d->page = NULL;
}

static int ctl_up(struct device *d, struct err *err)
{
	return ctl_listen(&d->ctl, d->name, err);
}

static void ctl_down(struct device *d)
{
	if (d->detach_asked) /* whoever waits for the end: this is it */
		ctl_reply(&d->ctl, d->detach_client, EXIT_OK, NULL);
	ctl_close(&d->ctl);
}

/* ---- protection ---- */

static int protect_up(struct device *d, struct err *err)
{
	char note[HOST_NOTE_BYTES];

	if (host_drop_stale(note, err) == 0 && note[0])
		log_say(LOG_LEVEL_NOTICE, "%s", note);
	err_clear(err);
	host_protect_process(d->page->guarantees);
	if (d->options->swap != SWAP_NO)
		host_cgroup_enter(d->name, sizing_footprint_bytes(&d->config),
				  d->page->guarantees);
	host_protect_thread("control", HOST_FIFO_CONTROL, d->page->guarantees);
	return 0;
}

static void protect_down(struct device *d)
{
	(void)d;
	host_cgroup_leave();
}

/*
 * Only a swap device has a claim on the kernel's reserve, or who asks for it:
 * a plain disk does not change the host's memory management.
 */
static bool wants_reserve(const struct device *d)
{
	return d->options->swap != SWAP_NO || d->options->min_free_kbytes;
}

static int reserve_up(struct device *d, struct err *err)
{
	struct host_needs needs = sizing_needs(d->options);
	int ret;

	if (!wants_reserve(d))
		return 0;
	ret = host_reserve_raise(d->name, host_needs_kbytes(&needs),
				 d->options->min_free_kbytes,
				 d->page->guarantees, err);
	return d->options->swap == SWAP_YES ? ret : 0;
}

static void reserve_down(struct device *d)
{
	char note[HOST_NOTE_BYTES];
	struct err err = { 0 };

	if (!wants_reserve(d))
		return;
	if (host_reserve_release(d->name, note, &err) < 0)
		log_say(LOG_LEVEL_WARNING, "%s", err.text);
	else if (note[0])
		log_say(LOG_LEVEL_WARNING, "%s", note);
}

static int connect_up(struct device *d, struct err *err)
{
	int ret = conn_open(&d->conn, err);

	if (ret == 0 && d->conn.tls && !d->conn.handshake.info.tls)
		log_say(LOG_LEVEL_WARNING,
			"%s: not encrypted: the server says that it has no TLS, and --tls=allow lets that pass",
			d->path);
	return ret;
}

/* ---- memory and thread ---- */

static int carve_up(struct device *d, struct err *err)
{
	size_t bytes = sizing_pinned_bytes(&d->config);
	void *slots, *rx;
	int ret = pin_init(&d->pin, bytes);

	if (ret < 0)
		return err_set(err, ret == -EPERM ? X_PERMISSION : X_FAILURE,
			       -ret, "cannot lock %zu KiB of memory: %s; raise the limit on "
			       "locked memory or use a smaller --depth or --slot-size",
			       bytes / 1024, strerror(-ret));
	d->engine = pin_carve(&d->pin, sizeof(*d->engine));
	d->front = pin_carve(&d->pin, sizeof(*d->front));
	rx = pin_carve(&d->pin, engine_rx_bytes());
	slots = pin_carve(&d->pin, engine_slot_bytes(&d->config));
	if (d->config.record_bytes)
		d->records = pin_carve(&d->pin, d->config.record_bytes);
	d->page->pinned_bytes = d->pin.bytes;
	front_nbd_init(d->front);
	d->mail_fd = eventfd(0, EFD_CLOEXEC);
	d->news_fd = eventfd(0, EFD_CLOEXEC);
	if (d->mail_fd < 0 || d->news_fd < 0)
		return err_set(err, X_FAILURE, errno,
			       "cannot make an eventfd: %s", strerror(errno));
	engine_init(d->engine, &d->config, slots, rx, &d->page->data,
		    d->mail_fd, d->news_fd);
	return 0;
}

static void carve_down(struct device *d)
{
	if (d->mail_fd >= 0)
		close(d->mail_fd);
	if (d->news_fd >= 0)
		close(d->news_fd);
	d->mail_fd = -1;
	d->news_fd = -1;
	pin_fini(&d->pin);
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

/* ---- the seal ---- */

static int seal_up(struct device *d, struct err *err)
{
	const struct stats_guarantee *worst;
	pid_t tid = d->page->data.tid;

	pin_seal(&d->pin);
	device_link_up(d);
	host_verify(d->page->guarantees);
	device_tick(d);
	host_faults(tid, &d->minor_faults_at_seal, &d->major_faults_at_seal);
	worst = host_worst(d->page->guarantees);
	if (!worst)
		return 0;
	log_say(LOG_LEVEL_WARNING, "%s: %s: %s", d->path, worst->name,
		worst->detail);
	if (d->options->swap != SWAP_YES ||
	    worst->state != GUARANTEE_MISSING)
		return 0;
	return err_set(err, X_PERMISSION, EPERM,
		       "%s: %s; use --swap=best-effort to go on without",
		       worst->name, worst->detail);
}

/* ---- the device appears ---- */

static int appear_up(struct device *d, struct err *err)
{
	uint32_t dead_s = d->options->dead_timeout_s;
	struct nbd_connect params = {
		.index = (int32_t)d->index,
		.fds = &d->kernel_end,
		.fd_count = 1,
		.size_bytes = d->size_bytes,
		.block_bytes = d->block_bytes,
		.server_flags = d->conn.export.flags & KERNEL_FLAGS,
		.timeout_s = 0,
		.dead_conn_timeout_s = dead_s ? dead_s : DEAD_CONN_FOREVER_S,
		.backend = d->uri[GENL_BACKEND_BYTES - 1] ? NULL : d->uri,
	};
	uint32_t index;
	int ret;

	if (d->options->read_only)
		params.server_flags |= NBD_FLAG_READ_ONLY;
	/* We listen before the kernel can speak. */
	d->engine->mail.front_fd = d->our_end;
	engine_post(d->engine, MAIL_FRONT_UP);
	ret = genl_nbd_connect(&d->genl, &params, &index, err);
	if (ret < 0)
		return ret;
	d->appeared = true;
	close(d->kernel_end); /* or its death would never show as an EOF */
	d->kernel_end = -1;
	return 0;
}

static void appear_down(struct device *d)
{
	struct err err = { 0 };

	if (!d->appeared)
		return;
	if (!d->front_gone &&
	    genl_nbd_disconnect(&d->genl, d->index, &err) < 0)
		log_say(LOG_LEVEL_ERR, "%s", err.text);
	device_wait_news(d, &d->front_gone, GONE_TIMEOUT_MS);
	if (nbd_sysfs_wait_gone(d->index, GONE_TIMEOUT_MS, &err) < 0)
		log_say(LOG_LEVEL_WARNING, "%s", err.text);
}

/* The kernel device is gone again, or never came. */
static void tune_early_down(struct device *d)
{
	nbd_sysfs_restore(d->index, &d->queue);
}

static int tune_up(struct device *d, struct err *err)
{
	int ret = nbd_sysfs_wait_ready(d->index, d->size_bytes,
				       READY_TIMEOUT_MS, err);

	if (!ret)
		ret = nbd_sysfs_tune(d->index, d->config.slot_bytes,
				     d->page->guarantees, err);
	return ret;
}

/* ---- swap ---- */

static int swap_up(struct device *d, struct err *err)
{
	char type[SWAP_TYPE_BYTES] = "";
	enum swap_content content;
	int ret;

	if (!d->options->swapon)
		return 0;
	ret = swap_inspect(d->path, &content, type, err);
	if (ret < 0)
		return ret;
	if (content == SWAP_OTHER && !d->options->force)
		return err_set(err, X_BUSY, EEXIST,
			       "the export holds %s, which a swap signature would destroy; "
			       "use --force if that is meant", type);
	if (content != SWAP_SIGNATURE)
		ret = swap_format(d->path, d->size_bytes, d->options->force,
				  err);
	if (!ret)
		ret = swap_activate(d->path, d->options->swapon_priority, err);
	if (!ret)
		d->page->swap_active = 1;
	return ret;
}

/* ---- the table ---- */

struct step {
	const char *name;
	int (*up)(struct device *d, struct err *err);
	/* Undoes all that up did, or the part that it did before it failed. */
	void (*down)(struct device *d);
};

static const struct step steps[] = {
	{ "ask the server", probe_up, probe_down },
	{ "take turns", lock_up, lock_down },
	{ "choose the device", choose_up, choose_down },
	{ "status page", page_up, page_down },
	{ "control socket", ctl_up, ctl_down },
	{ "protection", protect_up, protect_down },
	{ "service sockets", sockets_up, NULL },
	{ "tune the device", tune_early_up, tune_early_down },
	{ "kernel reserve", reserve_up, reserve_down },
	{ "connect", connect_up, NULL },
	{ "pinned memory", carve_up, carve_down },
	{ "socket pair", pair_up, pair_down },
	{ "data thread", device_thread_up, device_thread_down },
	{ "seal", seal_up, NULL },
	{ "device appears", appear_up, appear_down },
	{ "tune the queue", tune_up, NULL },
	{ "swap", swap_up, NULL },
};

#define STEPS (sizeof(steps) / sizeof(steps[0]))

static void undo(struct device *d)
{
	while (d->steps_done) {
		const struct step *step = &steps[--d->steps_done];

		if (step->down)
			step->down(d);
	}
}

int device_attach(struct device *d, const struct attach_options *options,
		  struct err *err)
{
	*d = (struct device){
		.options = options,
		.lock_fd = -1,
		.conn.fd = -1,
		.our_end = -1,
		.kernel_end = -1,
		.mail_fd = -1,
		.news_fd = -1,
	};
	while (d->steps_done < STEPS) {
		int ret = steps[d->steps_done++].up(d, err);

		if (ret < 0) {
			undo(d);
			return ret;
		}
	}
	lock_down(d); /* the next attach may choose now */
	d->page->state = STATS_LIVE;
	return 0;
}

int device_check_idle(const struct device *d, struct err *err)
{
	bool active;
	int fd;

	if (swap_is_active(d->path, &active) == 0 && active)
		return err_set(err, X_BUSY, EBUSY,
			       "%s is active swap; run swapoff first", d->path);
	fd = open(d->path, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (fd < 0 && errno == EBUSY)
		return err_set(err, X_BUSY, EBUSY,
			       "%s is mounted or otherwise in use; "
			       "unmount it, or use --force and lose what is not written",
			       d->path);
	if (fd >= 0)
		close(fd);
	return 0;
}

void device_detach(struct device *d, bool force)
{
	d->page->state = STATS_DETACHING;
	if (force)
		engine_post(d->engine, MAIL_FAIL);
	undo(d);
}
