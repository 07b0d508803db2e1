// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Attach and detach as a table of steps: a worker's, after those of the
 * supervisor in device_hold.c. Control thread; the data thread's outermost
 * function is in device_serve.c with what runs while attached.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/log.h"
#include "nbd-client/device.h"
#include "nbd-client/device_front.h"
#include "nbd-client/device_kernel.h"
#include "nbd-client/device_serve.h"
#include "nbd-client/follow.h"
#include "nbd-client/handover.h"
#include "nbd-client/host.h"
#include "nbd-client/measure.h"
#include "nbd-client/sizing.h"
#include "nbd-client/swap.h"

/* ---- a worker's own protection ---- */

/* A fork has its parent's priority, but no locks on its memory. */
static int own_protect_up(struct device *d, struct err *err)
{
	(void)err;
	host_protect_process(d->rows);
	host_protect_thread("control", HOST_FIFO_CONTROL, d->rows);
	pin_populate(&d->held);
	return 0;
}

static int connect_queue(struct queue *q, struct err *err)
{
	struct err cause = { 0 };
	int ret;

	device_watch_link(q);
	ret = conn_open(&q->conn, &cause);
	if (ret < 0 && q->index == 0)
		*err = cause;
	else if (ret < 0)
		err_set(err, cause.exit_code, cause.error,
			"connection %u of %u: %s; --connections=%u asks for "
			"fewer", q->index + 1, q->device->queue_count,
			cause.text, q->index);
	return ret;
}

static int connect_up(struct device *d, struct err *err)
{
	const struct conn *first = &d->queues[0].conn;
	int ret = 0;

	EACH_QUEUE(q, d)
		if (!ret)
			ret = connect_queue(q, err);
	if (ret == 0 && first->ends->list[first->at].tls &&
	    !first->handshake.info.tls)
		log_say(LOG_LEVEL_WARNING,
			"%s: not encrypted: the server says that it has no TLS, and --tls=allow lets that pass",
			d->path);
	return ret;
}

/* The link is made anew by device_step_link(), once the device is ours. */
static int connect_again(struct device *d, struct err *err)
{
	(void)err;
	for (uint32_t i = 0; i < d->page->endpoint_count; i++)
		d->page->endpoints[i].link = STATS_LINK_DOWN;
	d->queues[0].conn.unfenced = d->page->unfenced;
	device_show_sockets(d);
	EACH_QUEUE(q, d) {
		device_watch_link(q);
		if (q->engine)
			conn_inherit(&q->conn);
		else
			device_kernel_inherit(q);
	}
	return 0;
}

/* ---- memory and thread ---- */

static int carve_queue(struct queue *q, struct err *err)
{
	struct device *d = q->device;
	int ret;

	q->engine = pin_carve(&d->pin, sizeof(*q->engine));
	q->front = d->kind->make_front(pin_carve(&d->pin, DEVICE_FRONT_BYTES));
	q->rx = pin_carve(&d->pin, engine_rx_bytes());
	if (d->config.record_bytes)
		q->records = pin_carve(&d->pin, d->config.record_bytes);
	ret = base_init(&q->base, d->config.slots - d->config.slots_reserve,
			d->config.slot_bytes);
	if (ret < 0)
		return err_set(err, X_FAILURE, -ret,
			       "cannot map memory for requests: %s",
			       strerror(-ret));
	if (measure_left_out(MEASURE_MLOCK) && q->base.memory)
		munlock(q->base.memory, engine_base_bytes(&d->config));
	q->mail_fd = eventfd(0, EFD_CLOEXEC);
	if (q->mail_fd < 0)
		return err_set(err, X_FAILURE, errno,
			       "cannot make an eventfd: %s", strerror(errno));
	return 0;
}

int device_pin(struct pin *pin, int (*init)(struct pin *pin, size_t bytes),
	       size_t bytes, struct err *err)
{
	int ret = init(pin, bytes);

	if (ret < 0)
		return err_set(err, ret == -EPERM ? X_PERMISSION : X_FAILURE,
			       -ret, "cannot lock %zu KiB of memory: %s; raise the limit on "
			       "locked memory or use a smaller --depth or --slot-size",
			       bytes / 1024, strerror(-ret));
	if (measure_left_out(MEASURE_MLOCK))
		munlock(pin->base, pin->bytes);
	return 0;
}

static int carve_up(struct device *d, struct err *err)
{
	size_t bytes = d->queue_count *
		       (sizing_pinned_bytes(&d->config) -
			pin_pages(engine_reserve_bytes(&d->config)));
	int ret = device_pin(&d->pin, pin_init, bytes, err);

	if (ret < 0)
		return ret;
	EACH_QUEUE(q, d) {
		ret = carve_queue(q, err);
		if (ret < 0)
			return ret;
	}
	pin_seal(&d->pin);
	d->news_fd = eventfd(0, EFD_CLOEXEC);
	if (d->news_fd < 0)
		return err_set(err, X_FAILURE, errno,
			       "cannot make an eventfd: %s", strerror(errno));
	return 0;
}

/* The counts go on, but no request of a dead worker's is left. */
static int queue_up(struct queue *q, struct err *err)
{
	struct device *d = q->device;
	size_t reserve_bytes = engine_reserve_bytes(&d->config);
	const struct engine_memory memory = {
		.base = q->base.memory,
		.reserve = d->reserve + q->index * reserve_bytes,
		.rx = q->rx,
	};

	memset(q->data->states, 0, sizeof(q->data->states));
	memset(q->data->groups, 0, sizeof(q->data->groups));
	q->strays_told = q->data->stray_mallocs;
	engine_init(q->engine, &d->config, &memory, q->data, q->mail_fd,
		    d->news_fd);
	base_bind(&q->base, &q->engine->pool);
	return device_thread_up(q, err);
}

static int engines_up(struct device *d, struct err *err)
{
	int ret = 0;

	d->page->pinned_bytes = sizing_request_bytes(&d->config);
	EACH_QUEUE(q, d)
		if (!ret)
			ret = queue_up(q, err);
	return ret;
}

static void carve_down(struct device *d)
{
	EACH_QUEUE(q, d) {
		if (q->mail_fd >= 0)
			close(q->mail_fd);
		q->mail_fd = -1;
		base_fini(&q->base);
	}
	if (d->news_fd >= 0)
		close(d->news_fd);
	d->news_fd = -1;
	pin_fini(&d->pin);
}

/* ---- the seal ---- */

static void note_faults(struct device *d)
{
	EACH_QUEUE(q, d)
		host_faults(q->data->tid, &q->minor_faults_at_seal,
			    &q->major_faults_at_seal);
}

static int seal_up(struct device *d, struct err *err)
{
	const struct stats_guarantee *worst;

	host_verify(d->rows);
	device_tick(d);
	note_faults(d);
	worst = host_worst(d->rows);
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

/* What is read back may have become worse, but nothing is refused any more. */
static int seal_again(struct device *d, struct err *err)
{
	struct stats_guarantee *rows = d->rows;

	(void)err;
	host_verify(rows);
	note_faults(d);
	d->rows = d->page->guarantees;
	for (size_t i = 0; i < STATS_GUARANTEES && rows[i].name[0]; i++)
		stats_guarantee_replace(d->rows, rows[i].name, rows[i].state,
					"%s", rows[i].detail);
	return 0;
}

static int link_up(struct device *d, struct err *err)
{
	(void)err;
	EACH_QUEUE(q, d)
		device_link_up(q);
	return 0;
}

/* From here on the pool's base follows what memory the host has. */
static int pressure_up(struct device *d, struct err *err)
{
	(void)err;
	device_pressure_up(d);
	return 0;
}

/* ---- swap ---- */

/* From the next step on there is no way back but by an administrator's swapoff. */
static int supervised_up(struct device *d, struct err *err)
{
	if (getppid() == d->page->pid)
		return 0;
	return err_set(err, X_FAILURE, ESRCH, "the supervisor has died");
}

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

static const struct device_row served[] = {
	/* A standby can do these beside another worker, */
	OWN("own protection", own_protect_up, own_protect_up, NULL),
	OF_FRONT(DEVICE_TOOLS),
	OF_ENGINE("pinned memory", carve_up, carve_up, carve_down),
#define PREPARED_COUNT 3u
	/* but not these. */
	OF_ENGINE("data threads", engines_up, engines_up, device_threads_down),
	OWN("connect", connect_up, connect_again, NULL),
	OWN("neighbours", follow_up, NULL, NULL),
	OF_FRONT(DEVICE_END),
	OF_ENGINE("link", link_up, NULL, NULL),
	OWN("seal", seal_up, NULL, NULL),
	OF_FRONT(DEVICE_APPEAR),
	OWN("seal again", NULL, seal_again, NULL),
	OWN("watch memory", pressure_up, pressure_up, NULL),
	OF_FRONT(DEVICE_TUNE),
	OWN("supervisor lives", supervised_up, NULL, NULL),
	OWN("swap", swap_up, NULL, NULL),
};

#define SERVED_COUNT (sizeof(served) / sizeof(served[0]))

static const struct device_step *step_at(const struct device *d, size_t i)
{
	static const struct device_step none = { .name = "none" };
	const struct device_row *row = i < device_held_count ?
					       &device_held[i] :
					       &served[i - device_held_count];

	if (row->of_engine && !d->kind->make_front)
		return &none;
	return row->own.name ? &row->own : &d->kind->steps[row->of_front];
}

static void undo(struct device *d, size_t until)
{
	while (d->steps_done > until) {
		const struct device_step *step = step_at(d, --d->steps_done);

		if (step->down)
			step->down(d);
	}
}

/* To `until`; on failure back to `from`. */
static int take_steps(struct device *d, size_t until, size_t from,
		      struct err *err)
{
	while (d->steps_done < until) {
		const struct device_step *step = step_at(d, d->steps_done++);
		int (*up)(struct device *, struct err *) =
			d->again ? step->again : step->up;
		int ret = up ? up(d, err) : 0;

		if (ret < 0) {
			undo(d, from);
			return ret;
		}
	}
	return 0;
}

/* It will hear of the end of this process, and look after the device. */
static void leave_to_worker(struct device *d)
{
	d->page->pid = d->options->handover->worker_pid;
	(void)host_process_start(d->page->pid, &d->page->pid_start);
	d->page->supervised = 0;
}

int device_hold(struct device *d, const struct attach_options *options,
		struct err *err)
{
	int ret;

	*d = (struct device){
		.options = options,
		.kind = options->front == FRONT_UBLK ? &device_ublk :
			options->kernel_path	     ? &device_kernel :
						       &device_nbd,
		.ublk.fd = -1,
		.lock_fd = -1,
		.report_fd = -1,
		.our_end = -1,
		.kernel_end = -1,
		.news_fd = -1,
		.pressure.trigger_fd = -1,
		.again = options->handover != NULL,
	};
	ret = take_steps(d, device_held_count, d->again ? device_held_count : 0,
			 err);
	if (!ret)
		memcpy(d->held_rows, d->rows, sizeof(d->held_rows));
	else if (d->again && d->page)
		leave_to_worker(d);
	return ret;
}

void device_release(struct device *d)
{
	undo(d, 0);
}

int device_prepare(struct device *d, bool again, struct err *err)
{
	device_unlock(d); /* this copy of it */
	d->again = again;
	if (again) {
		memcpy(d->own_rows, d->held_rows, sizeof(d->own_rows));
		d->rows = d->own_rows;
	}
	return take_steps(d, device_held_count + PREPARED_COUNT,
			  device_held_count, err);
}

/*
 * On failure a takeover undoes nothing: that would take the device away, and
 * whoever comes next can try again.
 */
int device_attach(struct device *d, struct err *err)
{
	size_t all = device_held_count + SERVED_COUNT;
	int ret;

	if (d->again)
		device_recall_server(d);
	ret = take_steps(d, all, d->again ? all : device_held_count, err);
	if (ret < 0)
		return ret;
	d->page->state = STATS_LIVE;
	d->shared->ready_pid = getpid();
	return 0;
}

bool device_is_orphaned(struct device *d)
{
	return d->kind->is_orphaned && d->kind->is_orphaned(d);
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
		device_post(d, MAIL_FAIL);
	undo(d, device_held_count);
	if (d->detach_asked) /* whoever waits for the end: this is it */
		ctl_reply(&d->ctl, d->detach_client, EXIT_OK, NULL);
}

void device_adopt(struct device *d)
{
	struct err err = { 0 };

	d->page->pid = getpid();
	(void)host_process_start(d->page->pid, &d->page->pid_start);
	d->page->supervised = 0;
	d->page->standby_pid = 0;
	/* The ledger's entry of a dead process would be taken back. */
	if (device_reserve_up(d, &err) < 0)
		log_say(LOG_LEVEL_WARNING, "%s", err.text);
	log_say(LOG_LEVEL_ERR,
		"%s: the supervisor has died; requests are served, but if this process "
		"dies too, nobody takes over", d->path);
}
