// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The supervisor's steps of attach: what is held until the detach, and inherited
 * by each worker. The supervisor.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/proto.h"
#include "nbd-client/device.h"
#include "nbd-client/device_front.h"
#include "nbd-client/device_serve.h"
#include "nbd-client/donor.h"
#include "nbd-client/handover.h"
#include "nbd-client/host.h"
#include "nbd-client/host_strangers.h"
#include "nbd-client/measure.h"
#include "nbd-client/neighbours.h"
#include "nbd-client/sizing.h"
#include "nbd-client/spares.h"
#include "nbd-client/swap.h"
#include "nbd-client/words.h"

/* ---- what the server has ---- */

/* What is there already cannot shrink; an export that has grown is as it was. */
static int check_size(struct device *d, struct err *err)
{
	uint64_t bytes;

	if (!d->options->recover || blockdev_size(d->name, &bytes) < 0)
		return 0;
	if (bytes && bytes <= d->size_bytes) {
		d->size_bytes = bytes;
		return 0;
	}
	return err_set(err, X_REFUSED, ESTALE,
		       "%s has %llu bytes but the export %llu; is it the right one?",
		       d->path, (unsigned long long)bytes,
		       (unsigned long long)d->size_bytes);
}

static int choose_blocks(struct device *d, struct err *err)
{
	const struct export_info *x = d->config.export;
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
	d->size_bytes = device_usable_bytes(d);
	if (!d->size_bytes)
		return err_set(err, X_REFUSED, EINVAL,
			       "the export has %llu bytes, less than a block of %u; "
			       "nothing to attach",
			       (unsigned long long)x->size_bytes,
			       d->block_bytes);
	return 0;
}

static int make_queues(struct device *d, struct err *err)
{
	uint32_t most = sizing_queues(d->options, NBD_FLAG_CAN_MULTI_CONN);

	d->queues = calloc(most, sizeof(*d->queues));
	if (!d->queues)
		return err_set(err, X_FAILURE, ENOMEM, "no memory for queues");
	for (uint32_t i = 0; i < most; i++) {
		d->queues[i].device = d;
		d->queues[i].index = i;
		d->queues[i].mail_fd = -1;
	}
	d->queue_count = 1; /* the others are made after its likeness */
	return 0;
}

/* The first one's connection knows the export. */
static int size_queues(struct device *d, struct err *err)
{
	const struct attach_options *o = d->options;
	struct conn *first = &d->queues[0].conn;

	d->config = sizing_config(o, &first->export);
	if (o->recover && d->config.queues < o->connections)
		return err_set(err, X_REFUSED, ESTALE,
			       "the device has %u queues, but the server does not "
			       "take several connections any more (multi-conn); is "
			       "it the right one?", o->connections);
	while (d->queue_count < d->config.queues)
		conn_init_another(&d->queues[d->queue_count++].conn, first);
	EACH_QUEUE(q, d)
		patience_init(&q->patience, &q->conn, o->request_timeout_ms);
	return choose_blocks(d, err);
}

static int init_link(struct device *d, struct err *err)
{
	const struct attach_options *o = d->options;
	struct conn *conn = &d->queues[0].conn;
	int ret;

	addr_format(&o->addr, d->uri, sizeof(d->uri));
	conn->fence_ms = o->fence_ms;
	conn->request_timeout_ms = o->request_timeout_ms;
	conn->for_kernel = o->kernel_path;
	conn->ends->described = o->described;
	conn_choose_replies(conn, o->swap != SWAP_NO);
	ret = conn_init_tls(conn, d->tls, &o->tls, err);
	device_standby_up(d); /* in the likeness of the first */
	return ret;
}

static int probe_up(struct device *d, struct err *err)
{
	const struct attach_options *o = d->options;
	struct socket_memory memory;
	struct conn *conn;
	int ret;

	memory = sizing_socket_memory(o);
	ret = make_queues(d, err);
	if (ret < 0)
		return ret;
	conn = &d->queues[0].conn;
	ret = conn_init(conn, &o->addr, &memory, o->handshake_ms, err);
	for (uint32_t i = 0; i < o->other_count && !ret; i++)
		ret = conn_add(conn, &o->others[i], err);
	if (!ret)
		ret = init_link(d, err);
	if (!ret)
		ret = conn_probe(conn, err); /* opened once protected */
	if (ret < 0)
		return ret;
	if (o->swapon && (conn->export.flags & NBD_FLAG_READ_ONLY))
		return err_set(err, X_REFUSED, EROFS,
			       "the export is read-only and cannot be swapped to");
	return size_queues(d, err);
}

static int probe_again(struct device *d, struct err *err)
{
	const struct attach_options *o = d->options;
	const struct handover *h = o->handover;
	struct endpoints ends = h->ends;
	int ret;

	if (ends.count != 1 + o->other_count)
		return err_set(err, X_USAGE, EINVAL,
			       "there are %u servers now, %u when %s was attached",
			       1 + o->other_count, ends.count, h->device.path);
	for (uint32_t i = 0; i < ends.count; i++) {
		ends.list[i].addr = attach_addr(o, i);
		ends.list[i].tls = NULL;
	}
	ret = make_queues(d, err);
	if (ret < 0)
		return ret;
	conn_init_known(&d->queues[0].conn, &ends, &h->export, h->server,
			h->family, o->handshake_ms);
	ret = init_link(d, err);
	if (!ret)
		ret = size_queues(d, err);
	EACH_QUEUE(q, d)
		if (q->index)
			q->conn.own.sockets = h->more_sockets[q->index - 1];
	return ret;
}

static void probe_down(struct device *d)
{
	standby_fini(&d->standby);
	EACH_QUEUE(q, d)
		conn_fini(&q->conn);
	free(d->queues);
	d->queues = NULL;
	d->queue_count = 0;
	for (uint32_t i = 0; i < ENDPOINTS_MAX; i++)
		tls_close(&d->tls[i]);
}

/* ---- which device ---- */

/* For device_attached(): what is looked for, and the first that has it. */
struct wanted {
	const struct attach_options *o;
	char name[DEVICE_NAME_BYTES]; /* of the device, "" if any will do */
	char uri[URI_TEXT_BYTES];
	char path[DEVICE_NAME_BYTES]; /* "": none */
	struct err *err;
	int rc;
};

static void compare(const char *name, const struct stats_page *page, void *arg)
{
	struct wanted *w = arg;

	if (w->path[0] || page->state != STATS_LIVE || !stats_alive(page) ||
	    strcmp(w->name[0] ? w->name : page->uri,
		   w->name[0] ? name : w->uri) != 0)
		return;
	memcpy(w->path, page->device, sizeof(w->path));
	if (strcmp(page->uri, w->uri) != 0)
		w->rc = err_set(w->err, X_BUSY, EBUSY,
				"%s is attached, but to %.200s; detach it first",
				page->device, page->uri);
	else if (w->o->swap != SWAP_NO && !page->swap)
		w->rc = err_set(w->err, X_BUSY, EBUSY,
				"%s is attached, but not for swap; detach it first",
				page->device);
}

int device_attached(const struct attach_options *o,
		    char ret_path[DEVICE_NAME_BYTES], struct err *err)
{
	struct wanted w = { .o = o, .err = err };
	struct blockdev b;

	addr_format(&o->addr, w.uri, sizeof(w.uri));
	if (o->index >= 0) {
		blockdev_set(&b, o->front, (uint32_t)o->index);
		memcpy(w.name, b.name, sizeof(w.name));
	}
	(void)stats_each(compare, &w);
	if (w.rc || !w.path[0])
		return w.rc;
	memcpy(ret_path, w.path, sizeof(w.path));
	return 1;
}

static int take_lock(struct device *d, int how)
{
	if (!mkdir(RUN_DIR, 0755) || errno == EEXIST)
		d->lock_fd = open(RUN_DIR "/attach.lock",
				  O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
				  0600);
	return d->lock_fd < 0 ? -1 : flock(d->lock_fd, how);
}

int device_try_lock(struct device *d)
{
	return take_lock(d, LOCK_EX | LOCK_NB);
}

static int lock_up(struct device *d, struct err *err)
{
	char path[DEVICE_NAME_BYTES];
	int ret;

	if (take_lock(d, LOCK_EX) < 0)
		return err_set(err,
			       errno == EACCES ? X_PERMISSION : X_FAILURE,
			       errno, "cannot lock " RUN_DIR "/attach.lock: %s; "
			       "attach needs root", strerror(errno));
	/* Somebody else's attach may have ended meanwhile. */
	ret = d->options->idempotent ?
		      device_attached(d->options, path, err) : 0;
	return ret > 0 ? err_set(err, X_BUSY, EALREADY, "%s", path) : ret;
}

void device_unlock(struct device *d)
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

/* They are there; what they are worth is known. */
static int sockets_again(struct device *d, struct err *err)
{
	const struct stats_guarantee *rows[] = {
		&d->options->handover->donor,
		&d->options->handover->socket_memory,
	};

	(void)err;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i]->name[0])
			stats_guarantee_set(d->rows, rows[i]->name,
					    rows[i]->state, "%s",
					    rows[i]->detail);
	return 0;
}

/* The sockets that serve later, in the cgroup that we are in now. */
static int sockets_up(struct device *d, struct err *err)
{
	const struct conn *first = &d->queues[0].conn;
	struct stats_guarantee *rows = d->rows;
	const struct sockets *sockets = &first->ends->sockets;
	int reserved = 0, ret = 0;

	EACH_QUEUE(q, d)
		if (!ret)
			ret = endpoints_prepare(q->conn.ends, first->known_at,
						first->family, &reserved, err);
	if (ret < 0 || !sockets->count)
		return ret;
	if (d->options->swap == SWAP_NO)
		return spares_up(d, err);
	if (measure_left_out(MEASURE_SOCKET_MEMORY))
		; /* asked for none */
	else if (reserved == 0)
		stats_guarantee_set(rows, SOCKETS_ROW, GUARANTEE_OK,
				    "SO_RESERVE_MEM %u KiB on each of %u sockets",
				    sockets->memory.reserve_bytes / KIB,
				    d->queue_count * sockets->count);
	else
		stats_guarantee_set(rows, SOCKETS_ROW, GUARANTEE_DEGRADED,
				    "no SO_RESERVE_MEM: %s",
				    reserved == -EOPNOTSUPP ?
					    "the process is in no memory cgroup" :
					    strerror(-reserved));
	if (!measure_left_out(MEASURE_DONOR))
		d->kind->donate(d);
	return spares_up(d, err);
}

/* ---- the page that shows it ---- */

static void fill_page(struct device *d)
{
	struct stats_page *p = d->page;
	const struct export_info *x = d->config.export;
	const uint32_t queues = d->queue_count;

	snprintf(p->front, sizeof(p->front), "%s", d->kind->name);
	memcpy(p->uri, d->uri, sizeof(p->uri));
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
	p->request_timeout_ms = d->options->request_timeout_ms;
	p->retry_ms = d->options->retry_ms;
	p->queues = queues;
	p->slots = queues * d->config.slots;
	p->slot_bytes = d->config.slot_bytes;
	p->slots_reserve = queues * d->config.slots_reserve;
	p->open_tx_bytes = queues * d->config.open.tx_bytes;
	p->open_rx_bytes = queues * d->config.open.rx_bytes;
	p->guaranteed_tx_bytes = queues * d->config.guaranteed.tx_bytes;
	p->guaranteed_rx_bytes = queues * d->config.guaranteed.rx_bytes;
	device_fill_endpoints(d);
	EACH_QUEUE(q, d)
		q->data = stats_queue(d->page, q->index);
}

static void show_swap(struct device *d)
{
	bool active;

	if (d->options->recover && swap_is_active(d->path, &active) == 0)
		d->page->swap_active = active;
}

static int page_up(struct device *d, struct err *err)
{
	int ret = check_size(d, err);

	if (!ret)
		ret = stats_create(d->name, &d->page, err);
	if (ret < 0)
		return ret;
	show_swap(d);
	d->rows = d->page->guarantees;
	fill_page(d);
	return 0;
}

/* Its rows are a worker's to replace, once it has taken over. */
static int page_again(struct device *d, struct err *err)
{
	int ret = stats_create_again(d->name, &d->page, err);

	if (ret < 0)
		return ret;
	d->rows = d->own_rows;
	d->page->handover = HANDOVER_LAYOUT;
	fill_page(d);
	show_swap(d);
	d->page->state = STATS_LIVE;
	return 0;
}

static void page_down(struct device *d)
{
	if (!d->page)
		return;
	d->page->state = STATS_GONE;
	stats_remove(d->name, d->page);
	d->page = NULL;
}

/* How to make it all anew should all of us die. */
static int words_up(struct device *d, struct err *err)
{
	return words_keep(d->name, d->options->argc, d->options->argv, err);
}

static void words_down(struct device *d)
{
	/* A recovery that failed can be tried again. */
	if (!d->options->recover || d->page->state != STATS_ATTACHING)
		words_drop(d->name);
}

static int ctl_up(struct device *d, struct err *err)
{
	return ctl_listen(&d->ctl, d->name, err);
}

static void ctl_down(struct device *d)
{
	ctl_close(&d->ctl);
}

/* ---- protection ---- */

static void leave_out(struct device *d)
{
	char names[MEASURE_TEXT_BYTES];

	measure_leave_out(d->options->without, d->rows);
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
	host_protect_process(d->rows);
	if (d->options->swap != SWAP_NO && !measure_left_out(MEASURE_CGROUP))
		host_cgroup_enter(d->name, sizing_footprint_bytes(&d->config),
				  d->rows);
	host_protect_thread("supervisor", HOST_FIFO_SUPERVISOR, d->rows);
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

int device_reserve_up(struct device *d, struct err *err)
{
	struct host_needs needs = sizing_needs(d->options, d->queue_count);
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
	ret = host_reserve_raise(d->name, &ask, d->rows, err);
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

/* ---- memory that a worker uses after another ---- */

static int hold_up(struct device *d, struct err *err)
{
	size_t reserve_bytes =
		d->queue_count * engine_reserve_bytes(&d->config);
	size_t bytes = pin_pages(sizeof(*d->shared)) +
		       pin_pages(reserve_bytes);
	int ret = device_pin(&d->held, pin_init_shared, bytes, err);

	if (ret < 0)
		return ret;
	d->shared = pin_carve(&d->held, sizeof(*d->shared));
	d->reserve = pin_carve(&d->held, reserve_bytes);
	pin_seal(&d->held);
	/* Until it is taken over; a failure leaves it to another attempt. */
	d->shared->died_ns = clock_now_ns();
	d->shared->link_fd = -1;
	EACH_QUEUE(q, d)
		q->conn.ktls_ciphers = &d->shared->ktls_ciphers;
	d->standby.conn.ktls_ciphers = &d->shared->ktls_ciphers;
	return 0;
}

static void hold_down(struct device *d)
{
	d->shared = NULL;
	pin_fini(&d->held);
}

/* ---- strangers' packets ---- */

static int shed_up(struct device *d, struct err *err)
{
	const struct attach_options *o = d->options;
	int ret;

	if (!o->shed)
		return 0;
	ret = shed_open(&d->shed, d->name, d->queues[0].conn.ends,
			o->shed_ports, o->shed_port_count, d->rows, err);
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

/* ---- the way to the servers ---- */

static void neighbours_down(struct device *d)
{
	neighbours_release(d->page);
}

/* ---- memory pressure ---- */

static int pressure_up(struct device *d, struct err *err)
{
	(void)err;
	pressure_open(&d->pressure, clock_now_ns());
	d->pressure.watching = false; /* a worker does */
	return 0;
}

static void pressure_down(struct device *d)
{
	pressure_close(&d->pressure);
}

/* ---- from one program to the next ---- */

void device_hand_over(const struct device *d, struct handover *ret)
{
	const struct stats_guarantee *donor, *memory;

	memset(ret, 0, sizeof(*ret));
	ret->layout = HANDOVER_LAYOUT;
	ret->background = !d->options->foreground;
	blockdev_set(&ret->device, d->options->front, d->index);
	ret->queues = d->queue_count;
	ret->slots = d->config.slots;
	ret->slot_bytes = d->config.slot_bytes;
	ret->family = d->queues[0].conn.family;
	ret->server = d->queues[0].conn.known_at;
	ret->ends = *d->queues[0].conn.ends;
	ret->export = d->queues[0].conn.export;
	EACH_QUEUE(q, d)
		if (q->index)
			ret->more_sockets[q->index - 1] = q->conn.own.sockets;
	ret->queue = d->queue;
	donor = stats_guarantee_find(d->page->guarantees, DONOR_ROW);
	memory = stats_guarantee_find(d->page->guarantees, SOCKETS_ROW);
	if (donor)
		ret->donor = *donor;
	if (memory)
		ret->socket_memory = *memory;
}

/* ---- the table ---- */

/* Again: held by this process already, when it still ran another program. */
const struct device_row device_held[] = {
	OWN("ask the server", probe_up, probe_again, probe_down),
	OWN("take turns", lock_up, NULL, device_unlock),
	OF_FRONT(DEVICE_CHOOSE),
	OWN("status page", page_up, page_again, page_down),
	OWN("command line", words_up, NULL, words_down),
	OWN("control socket", ctl_up, ctl_up, ctl_down),
	OWN("protection", protect_up, protect_up, protect_down),
	OWN("service sockets", sockets_up, sockets_again, NULL),
	OWN("shared memory", hold_up, hold_up, hold_down),
	OF_FRONT(DEVICE_PREPARE),
	OWN("kernel reserve", device_reserve_up, device_reserve_up,
	    reserve_down),
	OWN("shedding", shed_up, shed_up, shed_down),
	OWN("neighbours", NULL, NULL, neighbours_down),
	OWN("memory pressure", pressure_up, pressure_up, pressure_down),
};
const size_t device_held_count = sizeof(device_held) / sizeof(device_held[0]);
