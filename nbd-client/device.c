// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Attach and detach as a table of steps. Control thread; the data thread's
 * outermost function is in device_serve.c with what runs while attached.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/proto.h"
#include "nbd-client/device.h"
#include "nbd-client/device_front.h"
#include "nbd-client/device_serve.h"
#include "nbd-client/host.h"
#include "nbd-client/host_strangers.h"
#include "nbd-client/measure.h"
#include "nbd-client/sizing.h"
#include "nbd-client/swap.h"

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
	if (d->options->size_bytes > x->size_bytes)
		return err_set(err, X_USAGE, EINVAL,
			       "the export has %llu bytes; --size can only be less",
			       (unsigned long long)x->size_bytes);
	d->size_bytes = proto_usable_bytes(d->options->size_bytes ?
						   d->options->size_bytes :
						   x->size_bytes,
					   d->block_bytes);
	if (!d->size_bytes)
		return err_set(err, X_REFUSED, EINVAL,
			       "the export has %llu bytes, less than a block of %u; "
			       "nothing to attach",
			       (unsigned long long)x->size_bytes,
			       d->block_bytes);
	return 0;
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
		ret = conn_init_tls(&d->conn, &d->tls, &o->tls, err);
	if (!ret)
		ret = conn_probe(&d->conn, err); /* opened once protected */
	if (ret < 0)
		return ret;
	if (o->swapon && (d->conn.export.flags & NBD_FLAG_READ_ONLY))
		return err_set(err, X_REFUSED, EROFS,
			       "the export is read-only and cannot be swapped to");
	d->config = sizing_config(o, &d->conn.export);
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

void device_set_name(struct device *d, enum front_kind front)
{
	struct blockdev b;

	blockdev_set(&b, front, d->index);
	memcpy(d->name, b.name, sizeof(d->name));
	memcpy(d->path, b.path, sizeof(d->path));
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
	if (measure_left_out(MEASURE_SOCKET_MEMORY))
		; /* asked for none */
	else if (reserved == 0)
		stats_guarantee_set(rows, SOCKETS_ROW, GUARANTEE_OK,
				    "SO_RESERVE_MEM %u KiB on each of %u sockets",
				    d->conn.sockets.memory.reserve_bytes / KIB,
				    SOCKETS_COUNT);
	else
		stats_guarantee_set(rows, SOCKETS_ROW, GUARANTEE_DEGRADED,
				    "no SO_RESERVE_MEM: %s",
				    reserved == -EOPNOTSUPP ?
					    "the process is in no memory cgroup" :
					    strerror(-reserved));
	if (!measure_left_out(MEASURE_DONOR))
		d->kind->donate(d);
	return 0;
}

/* ---- the page that shows it ---- */

static void fill_page(struct device *d)
{
	struct stats_page *p = d->page;
	const struct export_info *x = &d->conn.export;

	snprintf(p->front, sizeof(p->front), "%s", d->kind->name);
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
	p->slots_reserve = d->config.slots_reserve;
	p->open_tx_bytes = d->config.open.tx_bytes;
	p->open_rx_bytes = d->config.open.rx_bytes;
	p->guaranteed_tx_bytes = d->config.guaranteed.tx_bytes;
	p->guaranteed_rx_bytes = d->config.guaranteed.rx_bytes;
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

static void leave_out(struct device *d)
{
	char names[MEASURE_TEXT_BYTES];

	measure_leave_out(d->options->without, d->page->guarantees);
	if (!d->options->without)
		return;
	measure_format(d->options->without, names, sizeof(names));
	log_say(LOG_LEVEL_WARNING,
		"%s: NOT protected by %s: left out by --without, which is for measuring",
		d->path, names);
}

static int protect_up(struct device *d, struct err *err)
{
	char note[HOST_NOTE_BYTES];

	leave_out(d);
	if (host_drop_stale(note, err) == 0 && note[0])
		log_say(LOG_LEVEL_NOTICE, "%s", note);
	err_clear(err);
	host_protect_process(d->page->guarantees);
	if (d->options->swap != SWAP_NO && !measure_left_out(MEASURE_CGROUP))
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
	struct host_ask ask = {
		.reserve = !measure_left_out(MEASURE_RESERVE),
		.sysctls = d->options->swap != SWAP_NO &&
			   !measure_left_out(MEASURE_SYSCTLS),
		.device_kbytes = host_needs_kbytes(&needs),
		.explicit_kbytes = d->options->min_free_kbytes,
	};
	struct host_strangers strangers;
	int ret;

	if (!wants_reserve(d))
		return 0;
	(void)host_strangers_look(host_paths.proc, host_paths.sys, &strangers);
	ask.shared_kbytes = host_strangers_kbytes(&strangers);
	ret = host_reserve_raise(d->name, &ask, d->page->guarantees, err);
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

/* ---- strangers' packets ---- */

static int shed_up(struct device *d, struct err *err)
{
	const struct attach_options *o = d->options;
	int ret;

	if (!o->shed)
		return 0;
	ret = shed_open(&d->shed, d->name, &d->conn.addrs, o->shed_ports,
			o->shed_port_count, d->page->guarantees, err);
	if (ret < 0 && o->swap == SWAP_BEST_EFFORT) {
		err_clear(err); /* the row tells */
		return 0;
	}
	return ret;
}

static void shed_down(struct device *d)
{
	shed_close(&d->shed, d->name);
}

/* ---- memory and thread ---- */

static int carve_up(struct device *d, struct err *err)
{
	size_t bytes = sizing_pinned_bytes(&d->config);
	struct engine_memory memory;
	int ret = pin_init(&d->pin, bytes);

	if (ret < 0)
		return err_set(err, ret == -EPERM ? X_PERMISSION : X_FAILURE,
			       -ret, "cannot lock %zu KiB of memory: %s; raise the limit on "
			       "locked memory or use a smaller --depth or --slot-size",
			       bytes / 1024, strerror(-ret));
	if (measure_left_out(MEASURE_MLOCK))
		munlock(d->pin.base, d->pin.bytes);
	d->engine = pin_carve(&d->pin, sizeof(*d->engine));
	d->front = d->kind->make_front(pin_carve(&d->pin, DEVICE_FRONT_BYTES));
	memory.rx = pin_carve(&d->pin, engine_rx_bytes());
	if (d->config.record_bytes)
		d->records = pin_carve(&d->pin, d->config.record_bytes);
	memory.reserve = pin_carve(&d->pin, engine_reserve_bytes(&d->config));
	ret = base_init(&d->base, d->config.slots - d->config.slots_reserve,
			d->config.slot_bytes);
	if (ret < 0)
		return err_set(err, X_FAILURE, -ret,
			       "cannot map memory for requests: %s",
			       strerror(-ret));
	memory.base = d->base.memory;
	d->page->pinned_bytes = d->pin.bytes + engine_base_bytes(&d->config);
	d->mail_fd = eventfd(0, EFD_CLOEXEC);
	d->news_fd = eventfd(0, EFD_CLOEXEC);
	if (d->mail_fd < 0 || d->news_fd < 0)
		return err_set(err, X_FAILURE, errno,
			       "cannot make an eventfd: %s", strerror(errno));
	engine_init(d->engine, &d->config, &memory, &d->page->data, d->mail_fd,
		    d->news_fd);
	base_bind(&d->base, &d->engine->pool);
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
	base_fini(&d->base);
	pin_fini(&d->pin);
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

/* From here on the pool's base follows what memory the host has. */
static int pressure_up(struct device *d, struct err *err)
{
	(void)err;
	device_pressure_up(d);
	return 0;
}

static void pressure_down(struct device *d)
{
	pressure_close(&d->pressure);
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

#define OWN(name, up, down) { .own = { name, up, down } }
#define OF_FRONT(step) { .of_front = step }

static const struct {
	struct device_step own;
	enum device_front_step of_front; /* where own is empty */
} steps[] = {
	OWN("ask the server", probe_up, probe_down),
	OWN("take turns", lock_up, lock_down),
	OF_FRONT(DEVICE_CHOOSE),
	OWN("status page", page_up, page_down),
	OWN("control socket", ctl_up, ctl_down),
	OWN("protection", protect_up, protect_down),
	OWN("service sockets", sockets_up, NULL),
	OF_FRONT(DEVICE_PREPARE),
	OWN("kernel reserve", reserve_up, reserve_down),
	OWN("connect", connect_up, NULL),
	OWN("shedding", shed_up, shed_down),
	OWN("pinned memory", carve_up, carve_down),
	OF_FRONT(DEVICE_END),
	OWN("data thread", device_thread_up, device_thread_down),
	OWN("seal", seal_up, NULL),
	OWN("watch memory", pressure_up, pressure_down),
	OF_FRONT(DEVICE_APPEAR),
	OF_FRONT(DEVICE_TUNE),
	OWN("swap", swap_up, NULL),
};

#define STEPS (sizeof(steps) / sizeof(steps[0]))

static const struct device_step *step_at(const struct device *d, size_t i)
{
	return steps[i].own.name ? &steps[i].own :
				   &d->kind->steps[steps[i].of_front];
}

static void undo(struct device *d)
{
	while (d->steps_done) {
		const struct device_step *step = step_at(d, --d->steps_done);

		if (step->down)
			step->down(d);
	}
}

int device_attach(struct device *d, const struct attach_options *options,
		  struct err *err)
{
	*d = (struct device){
		.options = options,
		.kind = options->front == FRONT_UBLK ? &device_ublk :
						       &device_nbd,
		.ublk.fd = -1,
		.lock_fd = -1,
		.conn.fd = -1,
		.our_end = -1,
		.kernel_end = -1,
		.mail_fd = -1,
		.news_fd = -1,
		.pressure.trigger_fd = -1,
	};
	while (d->steps_done < STEPS) {
		const struct device_step *step = step_at(d, d->steps_done++);
		int ret = step->up ? step->up(d, err) : 0;

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
