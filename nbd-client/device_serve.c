// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A device between attach and detach: its data threads, the news from them, and
 * the connections that are kept up. Control thread, but for thread_main().
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "nbd-client/device.h"
#include "nbd-client/device_front.h"
#include "nbd-client/device_kernel.h"
#include "nbd-client/device_serve.h"
#include "nbd-client/follow.h"
#include "nbd-client/host.h"
#include "nbd-client/measure.h"
#include "nbd-client/tls_memory.h"

#define OPEN_TIMEOUT_S 10
#define CLOSE_TIMEOUT_MS 5000u

/* ---- the data threads ---- */

static void report_open(struct queue *q, int result)
{
	pthread_mutex_lock(&q->open_lock);
	q->open_result = result;
	pthread_cond_signal(&q->open_done);
	pthread_mutex_unlock(&q->open_lock);
}

static void *thread_main(void *arg)
{
	struct queue *q = arg;
	char name[16];
	int ret;

	q->data->tid = gettid();
	snprintf(name, sizeof(name), "data%u", q->index);
	/*
	 * As well as it goes: a matter of speed. On a single CPU it would wait
	 * for whoever makes its requests there.
	 */
	if (CPU_COUNT(&q->cpus) > 1)
		(void)sched_setaffinity(0, sizeof(q->cpus), &q->cpus);
	/* First of all: what the ring makes inherits it. */
	host_protect_thread(name, HOST_FIFO_DATA, q->device->rows);
	ret = engine_open(q->engine, q->front);
	report_open(q, ret);
	if (ret == 0) {
		engine_run(q->engine);
		engine_close(q->engine);
	}
	return NULL;
}

/* The control thread sleeps here while the data thread writes to the rows. */
static int wait_open(struct queue *q)
{
	struct timespec limit;
	int ret = 0;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += OPEN_TIMEOUT_S;
	pthread_mutex_lock(&q->open_lock);
	while (q->open_result == 1 && ret == 0)
		ret = pthread_cond_timedwait(&q->open_done, &q->open_lock,
					     &limit);
	ret = q->open_result == 1 ? -ETIMEDOUT : q->open_result;
	pthread_mutex_unlock(&q->open_lock);
	return ret;
}

int device_start_thread(pthread_t *ret_thread, void *(*main)(void *), void *arg)
{
	pthread_attr_t attr;
	int ret;

	pthread_attr_init(&attr);
	/* All of it is locked and resident, so not the usual 8 MiB. */
	pthread_attr_setstacksize(&attr, 2 * HOST_STACK_BYTES);
	ret = -pthread_create(ret_thread, &attr, main, arg);
	pthread_attr_destroy(&attr);
	return ret;
}

int device_thread_up(struct queue *q, struct err *err)
{
	int ret;

	pthread_mutex_init(&q->open_lock, NULL);
	pthread_cond_init(&q->open_done, NULL);
	q->open_result = 1;
	ret = device_start_thread(&q->thread, thread_main, q);
	if (ret == 0) {
		q->thread_started = true;
		ret = wait_open(q);
	}
	if (ret < 0)
		return err_set(err, ret == -ENOSYS || ret == -EINVAL ?
				       X_KERNEL : X_FAILURE, -ret,
			       "cannot start a data thread: %s; it needs io_uring of Linux "
			       "6.1 or later (see also kernel.io_uring_disabled)",
			       strerror(-ret));
	return 0;
}

static bool is_open(const struct queue *q)
{
	return q->thread_started && q->open_result == 0;
}

static bool all_closed(const struct device *d)
{
	EACH_QUEUE(q, d)
		if (is_open(q) && !q->closed)
			return false;
	return true;
}

void device_post(struct device *d, uint32_t mail_bits)
{
	EACH_QUEUE(q, d)
		if (q->thread_started)
			engine_post(q->engine, mail_bits);
}

/* All requests answered, the server told, the threads ended. */
void device_threads_down(struct device *d)
{
	device_post(d, MAIL_CLOSE);
	if (!device_failed(d) && !device_wait(d, all_closed, CLOSE_TIMEOUT_MS)) {
		log_say(LOG_LEVEL_WARNING, "%s: requests are left unanswered",
			d->path);
		device_post(d, MAIL_FAIL);
	}
	/* Also to one that opens only after we stopped waiting for it. */
	device_post(d, MAIL_STOP);
	EACH_QUEUE(q, d) {
		if (!q->thread_started)
			continue;
		pthread_join(q->thread, NULL);
		q->thread_started = false;
		log_drain(&q->engine->log);
		patience_end(&q->patience);
		conn_close(&q->conn);
	}
}

/* ---- the link ---- */

void device_show_tls(struct stats_page *p, const struct conn *c)
{
	const struct link_tls_peer *peer = &c->peer;

	if (p->tls_records == STATS_RECORDS_KERNEL &&
	    c->records == STATS_RECORDS_USER)
		log_say(LOG_LEVEL_NOTICE,
			"%s: TLS records are the client's own now: %s",
			p->device, c->why_user);
	p->tls_records = c->records;
	memcpy(p->tls_records_why, c->why_user, sizeof(p->tls_records_why));
	if (c->records == STATS_RECORDS_NONE)
		return;
	memcpy(p->tls_version, peer->version, sizeof(p->tls_version));
	memcpy(p->tls_cipher, peer->cipher, sizeof(p->tls_cipher));
	memcpy(p->tls_peer, peer->subject, sizeof(p->tls_peer));
	p->tls_peer_expires = (uint64_t)peer->expires;
}

static void show_tls_memory(struct device *d)
{
	const struct arena *a = tls_memory_arena();

	if (!a)
		return;
	d->page->tls_memory_bytes = a->bytes;
	d->page->tls_memory_used = a->used_bytes;
	d->page->tls_memory_peak = a->peak_bytes;
	d->page->tls_memory_denied = a->denied;
	d->page->tls_memory_strays = a->strays;
}

void device_link_up(struct queue *q)
{
	struct conn *c = &q->conn;

	q->engine->mail.records = conn_start_records(c, q->records);
	device_show_tls(q->device->page, c);
	q->engine->mail.link_fd = c->fd;
	q->engine->mail.structured = c->handshake.info.structured;
	q->engine->mail.export_bytes = c->export.size_bytes;
	conn_take(c);
	engine_post(q->engine, MAIL_LINK_UP);
	device_keep_server(q->device);
}

/* The device is as well as the first of its links that is not up. */
static const struct conn *worst_link(const struct device *d)
{
	EACH_QUEUE(q, d)
		if (q->conn.state != CONN_UP)
			return &q->conn;
	return &d->queues[0].conn;
}

/* All links are up after a takeover: requests are answered again. */
static void show_interruption(struct device *d)
{
	struct stats_page *p = d->page;

	if (!d->again || worst_link(d)->state != CONN_UP)
		return;
	d->again = false;
	p->interruption_ms = (clock_now_ns() - d->shared->died_ns) / NS_PER_MS;
	if (p->interruption_ms > p->interruption_max_ms)
		p->interruption_max_ms = p->interruption_ms;
	log_say(LOG_LEVEL_NOTICE, "%s: taken over after %llu ms", d->path,
		(unsigned long long)p->interruption_ms);
}

bool device_show_error(struct device *d, const char *text)
{
	char *shown = d->page->link_error;
	size_t room = sizeof(d->page->link_error);
	bool is_new = strncmp(shown, text, room - 1) != 0;

	snprintf(shown, room, "%.*s", (int)room - 1, text);
	return is_new;
}

void device_link_lost(struct queue *q, const char *reason, int error)
{
	struct device *d = q->device;
	const char *why;

	if (q->giving_up)
		reason = q->giving_up;
	q->giving_up = NULL;
	d->standby.leave = false;
	if (q->engine) {
		patience_end(&q->patience);
		q->conn.mute = atomic_load(&q->engine->news.link_mute);
		q->conn.answered = atomic_load(&q->engine->news.link_answered);
	}
	/* As with one that breaks the protocol: others come first, and we end it. */
	if (q->unreachable)
		error = EPROTO;
	q->unreachable = false;
	/* The server ends an engine's operations; then comes NEWS_LINK_IDLE. */
	why = conn_shutdown(&q->conn, error);
	if (!reason)
		reason = why ? why : error ? strerror(error) :
				     "the server closed the connection";
	(void)device_show_error(d, reason);
	if (d->page->state == STATS_LIVE)
		log_say(LOG_LEVEL_WARNING,
			"%s: link to %s lost: %s; requests wait, reconnecting", d->path,
			conn_where(&q->conn), reason);
}

static void show_link(struct device *d)
{
	struct stats_page *p = d->page;
	const struct conn *c = worst_link(d);
	bool was_up = p->link == STATS_LINK_UP;
	uint32_t links_up = 0;

	EACH_QUEUE(q, d)
		links_up += q->conn.state == CONN_UP;
	p->links_up = links_up;
	p->link = c->state;
	p->connect_attempts = c->attempts;
	p->link_next_ns = c->state == CONN_DOWN ? c->next_attempt_ns : 0;
	if ((c->state == CONN_UP) != was_up)
		p->link_since = (uint64_t)time(NULL);
}

static void show_unfenced(struct device *d, const struct conn *c)
{
	uint64_t unfenced = 0;

	EACH_QUEUE(q, d)
		unfenced += q->conn.unfenced;
	if (unfenced == d->page->unfenced)
		return;
	d->page->unfenced = unfenced;
	log_say(LOG_LEVEL_WARNING,
		"%s: the old connection was not seen to end in %u ms; a server "
		"that still works on it could write late",
		d->path, c->fence_ms);
}

static void on_link_change(struct conn *c, enum conn_state was)
{
	struct device *d = list_entry(c, struct queue, conn)->device;
	bool is_new = device_show_endpoint(d, c);

	show_link(d);
	/* Of an outage that lasts, the 1st, 2nd, 4th, 8th ... attempt. */
	log_say(c->attempts & (c->attempts - 1) ? LOG_LEVEL_DEBUG :
						  LOG_LEVEL_INFO,
		"%s: link: %s, was %s; attempt %llu", d->path,
		stats_link_name(c->state), stats_link_name(was),
		(unsigned long long)c->attempts);
	if (c->state != CONN_DOWN)
		return;
	if (c->failed)
		(void)device_show_error(d, c->err.text);
	if (is_new)
		log_say(LOG_LEVEL_WARNING, "%s: %s", d->path, c->err.text);
	show_unfenced(d, c);
}

void device_watch_link(struct queue *q)
{
	q->conn.on_change = on_link_change;
	on_link_change(&q->conn, q->conn.state);
}

static void step_link(struct queue *q)
{
	struct device *d = q->device;

	if (q->index == 0)
		standby_step(&d->standby);
	else
		conn_step(&q->conn);
	if (q->conn.state != CONN_READY)
		return;
	if (!q->engine) {
		if (device_kernel_link_up(q) < 0)
			return;
	} else {
		device_link_up(q);
		show_interruption(d);
	}
	q->renewing = false;
	d->page->reconnects++;
	log_say(LOG_LEVEL_NOTICE, "%s: connected to %s again", d->path,
		conn_where(&q->conn));
}

/* ---- waiting for links ---- */

static int due_ms(const struct queue *q, uint64_t now_ns)
{
	return q->conn.state == CONN_UP ?
		       probe_due_ms(&q->patience.probe, now_ns) :
		       conn_due_ms(&q->conn, now_ns);
}

int device_poll_links(const struct device *d, struct pollfd *ret_fds)
{
	uint64_t now_ns = clock_now_ns();
	int first_ms = standby_due_ms(&d->standby, now_ns);

	standby_pollfd(&d->standby, &ret_fds[d->queue_count]);
	EACH_QUEUE(q, d) {
		int own_ms = due_ms(q, now_ns);

		if (q->conn.state != CONN_UP)
			conn_pollfd(&q->conn, &ret_fds[q->index]);
		else if (q->engine)
			probe_pollfd(&q->patience.probe, &ret_fds[q->index]);
		else
			device_kernel_pollfd(q, &ret_fds[q->index]);
		if (own_ms >= 0 && (first_ms < 0 || own_ms < first_ms))
			first_ms = own_ms;
	}
	return first_ms;
}

void device_step_links(struct device *d, const struct pollfd *fds)
{
	EACH_QUEUE(q, d) {
		short events = fds[q->index].revents;

		if (!q->engine && events)
			device_kernel_on_link(q, events);
		if (!events && due_ms(q, clock_now_ns()) != 0)
			continue;
		if (q->conn.state != CONN_UP)
			step_link(q);
		else if (q->engine)
			device_step_probe(q);
	}
	if (fds[d->queue_count].revents ||
	    standby_due_ms(&d->standby, clock_now_ns()) == 0)
		step_link(&d->queues[0]);
	device_step_standby(d);
}

/* ---- strangers' packets ---- */

bool device_is_low(const struct device *d)
{
	EACH_QUEUE(q, d)
		if (q->engine && engine_is_low(q->engine))
			return true;
	return false;
}

static void shed_step(struct device *d, bool low, uint64_t now_ns)
{
	struct stats_page *p = d->page;
	enum stats_shed was = p->shed;

	if (!d->shed.values)
		return;
	if (low)
		shed_hold(&d->shed, now_ns);
	else
		shed_release(&d->shed);
	p->shed = d->shed.holding ? STATS_SHED_SHEDDING : STATS_SHED_ARMED;
	p->shed_packets = d->shed.values->packets;
	p->shed_bytes = d->shed.values->bytes;
	if (p->shed != was)
		p->shed_since = (uint64_t)time(NULL);
}

/* ---- memory ---- */

/* Parts of the base that come back in one tick: eight of them. */
#define GROW_TICKS 8u

/* Towards what the host's memory allows; in between it stays as it is. */
static void queue_follow(struct queue *q, uint32_t step_max)
{
	const struct pressure *p = &q->device->pressure;
	uint32_t wanted = q->base.given;

	if (measure_left_out(MEASURE_ELASTIC) ||
	    (!p->tight && pressure_is_plentiful(p)))
		wanted = q->base.count;
	else if (p->tight)
		wanted = 0;
	if (base_step(&q->base, wanted, step_max))
		engine_post(q->engine, MAIL_POOL);
}

static void base_follow(struct device *d, uint32_t step_max)
{
	uint64_t resident_bytes = 0, shrinks = 0;

	EACH_QUEUE(q, d) {
		queue_follow(q, step_max);
		resident_bytes +=
			q->base.resident * (uint64_t)q->base.slot_bytes;
		shrinks += q->base.shrinks;
	}
	d->page->base_resident_bytes = resident_bytes;
	d->page->base_shrinks = shrinks;
}

/* All of a queue's base. */
static uint32_t base_count(const struct device *d)
{
	return d->config.slots - d->config.slots_reserve;
}

static void show_pressure(struct device *d)
{
	d->page->memory_tight = d->pressure.tight;
	d->page->memory_since = (uint64_t)time(NULL);
	d->page->tight_episodes = d->pressure.episodes;
}

/*
 * A real-time thread interrupts those who make its work at the first request and
 * at the first reply, and does them one by one: other devices than swap have their
 * requests done together as long as memory is plentiful. Swap takes no chance.
 */
static void follow_urgency(struct device *d)
{
	if (d->page->swap)
		return;
	EACH_QUEUE(q, d)
		if (q->thread_started)
			host_thread_urgent(q->data->tid, d->pressure.tight ?
						HOST_FIFO_DATA : 0);
}

static void on_pressure_change(struct device *d, bool was_tight)
{
	const struct pressure *p = &d->pressure;

	if (p->tight == was_tight)
		return;
	follow_urgency(d);
	show_pressure(d);
	/* The engines first: what it no longer uses can be given back. */
	device_post(d, p->tight ? MAIL_TIGHT : MAIL_PLENTY);
	if (p->tight)
		log_say(LOG_LEVEL_NOTICE,
			"%s: memory is tight: %s%s", d->path, p->cause,
			d->kind->make_front ?
				"; requests are held to the guaranteed window" :
				"");
	else
		log_say(LOG_LEVEL_NOTICE, "%s: memory is plentiful again",
			d->path);
}

static void pressure_step(struct device *d, uint64_t now_ns)
{
	bool was_tight = d->pressure.tight;

	pressure_tick(&d->pressure, now_ns);
	on_pressure_change(d, was_tight);
	base_follow(d, (base_count(d) + GROW_TICKS - 1) / GROW_TICKS);
}

void device_pressure_up(struct device *d)
{
	pressure_restart(&d->pressure, clock_now_ns());
	d->page->psi = d->pressure.trigger_fd >= 0;
	follow_urgency(d);
	show_pressure(d);
	on_pressure_change(d, false);
	/* Requests wait for a takeover to end, so there it is not filled now. */
	base_follow(d, d->again ? 0 : base_count(d));
}

void device_on_pressure(struct device *d, short events)
{
	bool was_tight = d->pressure.tight;

	pressure_on_trigger(&d->pressure, events, clock_now_ns());
	on_pressure_change(d, was_tight);
	base_follow(d, 0);
}

/* ---- news and time ---- */

static void queue_news(struct queue *q)
{
	uint32_t news = engine_take_news(q->engine);

	log_drain(&q->engine->log);
	if (news & NEWS_LINK_LOST && q->conn.state == CONN_UP)
		device_link_lost(q, atomic_load(&q->engine->news.link_reason),
				 atomic_load(&q->engine->news.link_error));
	if (news & NEWS_LINK_IDLE && q->conn.state == CONN_LOST)
		conn_close(&q->conn);
	if (news & NEWS_POOL)
		base_follow(q->device, 0);
	if (news & NEWS_FRONT_GONE)
		q->front_gone = true;
	if (news & NEWS_CLOSED)
		q->closed = true;
	if (news & NEWS_FAILED)
		q->failed = true;
}

void device_on_news(struct device *d)
{
	uint64_t count;

	if (read(d->news_fd, &count, sizeof(count)) < 0)
		return;
	EACH_QUEUE(q, d)
		queue_news(q);
}

bool device_failed(const struct device *d)
{
	EACH_QUEUE(q, d)
		if (q->failed)
			return true;
	return false;
}

bool device_front_gone(const struct device *d)
{
	EACH_QUEUE(q, d)
		if (q->front_gone)
			return true;
	return false;
}

bool device_fronts_gone(const struct device *d)
{
	EACH_QUEUE(q, d)
		if (!q->front_gone)
			return false;
	return true;
}

bool device_wait(struct device *d, bool (*is_over)(const struct device *d),
		 uint32_t timeout_ms)
{
	uint64_t end_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
	struct pollfd fds[1 + DEVICE_LINKS_MAX] = {
		{ .fd = d->news_fd, .events = POLLIN },
	};

	while (!is_over(d) && !device_failed(d)) {
		uint64_t now_ns = clock_now_ns();
		int due_ms = device_poll_links(d, fds + 1);
		int left_ms = (int)((end_ns - now_ns) / NS_PER_MS) + 1;

		if (now_ns >= end_ns)
			return false;
		if (due_ms >= 0 && due_ms < left_ms)
			left_ms = due_ms;
		if (poll(fds, 2 + d->queue_count, left_ms) > 0 &&
		    fds[0].revents)
			device_on_news(d);
		device_step_links(d, fds + 1);
	}
	return is_over(d);
}

static void show_faults(struct device *d)
{
	uint64_t minor = 0, major = 0;

	EACH_QUEUE(q, d) {
		uint64_t own_minor, own_major;

		if (host_faults(q->data->tid, &own_minor, &own_major) < 0)
			return;
		minor += own_minor - q->minor_faults_at_seal;
		major += own_major - q->major_faults_at_seal;
	}
	d->page->data_minor_faults = minor;
	d->page->data_major_faults = major;
}

static void check_strays(struct queue *q)
{
	if (q->data->stray_mallocs == q->strays_told)
		return;
	q->strays_told = q->data->stray_mallocs;
	log_say(LOG_LEVEL_ERR,
		"%s: a data thread has allocated memory, %llu times in all: "
		"a bug, and the device may stall when memory is short",
		q->device->path, (unsigned long long)q->strays_told);
}

void device_show_sockets(struct device *d)
{
	bool plentiful = !d->page->memory_tight;
	uint64_t left = 0;

	d->standby.conn.may_load = plentiful;
	EACH_QUEUE(q, d) {
		q->conn.may_load = plentiful;
		left += sockets_left(&q->conn.ends->sockets);
	}
	d->page->spare_sockets = left;
}

void device_tick(struct device *d)
{
	uint64_t now_ns = clock_now_ns();

	host_follow_root();
	follow_take(d);
	d->page->control_heartbeat_ns = now_ns;
	host_locked_kbytes(&d->page->locked_kbytes);
	host_min_free_kbytes(&d->page->min_free_kbytes);
	show_faults(d);
	show_tls_memory(d);
	EACH_QUEUE(q, d) {
		check_strays(q);
		if (q->engine)
			log_drain(&q->engine->log);
		else
			device_kernel_tick(q);
	}
	device_show_sockets(d);
	d->page->ordinary_deferred = d->ctl.ordinary.deferred;
	if (d->pressure.watching)
		pressure_step(d, now_ns);
	shed_step(d, d->pressure.tight || device_is_low(d), now_ns);
	EACH_QUEUE(q, d) {
		if (q->engine)
			device_watch_silence(q);
		device_check_dead(q, now_ns);
	}
}
