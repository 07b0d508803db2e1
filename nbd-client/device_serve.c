// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A device between attach and detach: its data thread, the news from it, and
 * the connection that is kept up. Control thread, but for thread_main().
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
#include "nbd-client/device_serve.h"
#include "nbd-client/host.h"
#include "nbd-client/measure.h"
#include "nbd-client/tls_memory.h"

#define OPEN_TIMEOUT_S 10
#define CLOSE_TIMEOUT_MS 5000u

/* ---- the data thread ---- */

static void report_open(struct device *d, int result)
{
	pthread_mutex_lock(&d->open_lock);
	d->open_result = result;
	pthread_cond_signal(&d->open_done);
	pthread_mutex_unlock(&d->open_lock);
}

static void *thread_main(void *arg)
{
	struct device *d = arg;
	int ret;

	d->page->data.tid = gettid();
	/* First of all: what the ring makes inherits it. */
	host_protect_thread("data0", HOST_FIFO_DATA, d->rows);
	ret = engine_open(d->engine, d->front);
	report_open(d, ret);
	if (ret == 0) {
		engine_run(d->engine);
		engine_close(d->engine);
	}
	return NULL;
}

/* The control thread sleeps here while the data thread writes to the rows. */
static int wait_open(struct device *d)
{
	struct timespec limit;
	int ret = 0;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += OPEN_TIMEOUT_S;
	pthread_mutex_lock(&d->open_lock);
	while (d->open_result == 1 && ret == 0)
		ret = pthread_cond_timedwait(&d->open_done, &d->open_lock,
					     &limit);
	ret = d->open_result == 1 ? -ETIMEDOUT : d->open_result;
	pthread_mutex_unlock(&d->open_lock);
	return ret;
}

int device_thread_up(struct device *d, struct err *err)
{
	pthread_attr_t attr;
	int ret;

	pthread_mutex_init(&d->open_lock, NULL);
	pthread_cond_init(&d->open_done, NULL);
	d->open_result = 1;
	pthread_attr_init(&attr);
	/* All of it is locked and resident, so not the usual 8 MiB. */
	pthread_attr_setstacksize(&attr, 2 * HOST_STACK_BYTES);
	ret = -pthread_create(&d->thread, &attr, thread_main, d);
	pthread_attr_destroy(&attr);
	if (ret == 0) {
		d->thread_started = true;
		ret = wait_open(d);
	}
	if (ret < 0)
		return err_set(err, ret == -ENOSYS || ret == -EINVAL ?
				       X_KERNEL : X_FAILURE, -ret,
			       "cannot start the data thread: %s; it needs io_uring of Linux "
			       "6.1 or later (see also kernel.io_uring_disabled)",
			       strerror(-ret));
	return 0;
}

/* All requests answered, the server told, the thread ended. */
void device_thread_down(struct device *d)
{
	if (!d->thread_started)
		return;
	if (d->open_result == 0 && !d->failed) {
		engine_post(d->engine, MAIL_CLOSE);
		if (!device_wait_news(d, &d->closed, CLOSE_TIMEOUT_MS)) {
			log_say(LOG_LEVEL_WARNING,
				"%s: requests are left unanswered", d->path);
			engine_post(d->engine, MAIL_FAIL);
		}
	}
	/* Also to one that opens only after we stopped waiting for it. */
	engine_post(d->engine, MAIL_STOP);
	pthread_join(d->thread, NULL);
	d->thread_started = false;
	log_drain(&d->engine->log);
	conn_close(&d->conn);
}

/* ---- the link ---- */

/* What status says of the encryption. */
static void show_tls(struct device *d)
{
	struct stats_page *p = d->page;
	const struct link_tls_peer *peer = &d->conn.peer;

	p->tls_records = d->conn.records;
	if (d->conn.records == STATS_RECORDS_NONE)
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

void device_link_up(struct device *d)
{
	d->engine->mail.records = conn_start_records(&d->conn, d->records);
	show_tls(d);
	d->engine->mail.link_fd = d->conn.fd;
	d->engine->mail.structured = d->conn.handshake.info.structured;
	conn_take(&d->conn);
	engine_post(d->engine, MAIL_LINK_UP);
}

/* The first link after a takeover: from now on requests are answered again. */
static void show_interruption(struct device *d)
{
	struct stats_page *p = d->page;

	if (!d->again)
		return;
	d->again = false;
	p->interruption_ms = (clock_now_ns() - d->shared->died_ns) / NS_PER_MS;
	if (p->interruption_ms > p->interruption_max_ms)
		p->interruption_max_ms = p->interruption_ms;
	log_say(LOG_LEVEL_NOTICE, "%s: taken over after %llu ms", d->path,
		(unsigned long long)p->interruption_ms);
}

/* True if it says something new. */
static bool show_error(struct device *d, const char *text)
{
	char *shown = d->page->link_error;
	size_t room = sizeof(d->page->link_error);
	bool is_new = strncmp(shown, text, room - 1) != 0;

	snprintf(shown, room, "%.*s", (int)room - 1, text);
	return is_new;
}

static void link_lost(struct device *d)
{
	const char *reason = atomic_load(&d->engine->news.link_reason);
	int error = atomic_load(&d->engine->news.link_error);

	if (!reason && d->conn.records == STATS_RECORDS_KERNEL &&
	    (error == EIO || error == EBADMSG || error == EINVAL))
		reason = "a TLS record that is no data, or was damaged or forged";
	if (!reason)
		reason = error ? strerror(error) :
				 "the server closed the connection";
	/* The server ends the engine's operations; then comes NEWS_LINK_IDLE. */
	conn_shutdown(&d->conn, error);
	show_error(d, reason);
	if (d->page->state == STATS_LIVE)
		log_say(LOG_LEVEL_WARNING,
			"%s: link to %s lost: %s; reconnecting", d->path,
			conn_where(&d->conn), reason);
}

static void on_link_change(struct conn *c, enum conn_state was)
{
	struct device *d = list_entry(c, struct device, conn);
	struct stats_page *p = d->page;

	p->link = c->state;
	p->connect_attempts = c->attempts;
	p->link_next_ns = c->state == CONN_DOWN ? c->next_attempt_ns : 0;
	if (c->state == CONN_UP || was == CONN_UP)
		p->link_since = (uint64_t)time(NULL);
	log_say(LOG_LEVEL_DEBUG, "%s: link: %s, was %s", d->path,
		stats_link_name(c->state), stats_link_name(was));
	if (c->state != CONN_DOWN)
		return;
	if (c->failed && show_error(d, c->err.text))
		log_say(LOG_LEVEL_WARNING, "%s: %s", d->path, c->err.text);
	if (c->unfenced == p->unfenced)
		return;
	p->unfenced = c->unfenced;
	log_say(LOG_LEVEL_WARNING,
		"%s: the old connection was not seen to end in %u ms; a server "
		"that still works on it could write late",
		d->path, c->fence_ms);
}

void device_watch_link(struct device *d)
{
	d->conn.on_change = on_link_change;
	on_link_change(&d->conn, d->conn.state);
}

void device_step_link(struct device *d)
{
	conn_step(&d->conn);
	if (d->conn.state != CONN_READY)
		return;
	device_link_up(d);
	show_interruption(d);
	d->page->reconnects++;
	log_say(LOG_LEVEL_NOTICE, "%s: connected to %s again", d->path,
		conn_where(&d->conn));
}

/* I/O fails only where the user has said after how long. */
static void check_dead(struct device *d, uint64_t now_ns)
{
	uint64_t limit_ns = d->options->dead_timeout_s * NS_PER_S;

	if (!limit_ns || d->conn.state == CONN_UP || d->dead ||
	    now_ns - d->conn.down_since_ns < limit_ns)
		return;
	d->dead = true;
	log_say(LOG_LEVEL_ERR,
		"%s: no link for %u s: requests fail until it is back",
		d->path, d->options->dead_timeout_s);
	engine_post(d->engine, MAIL_FAIL);
}

/* ---- strangers' packets ---- */

/* The pool has opened its reserve, or the host's memory is tight. */
static bool memory_is_low(const struct device *d)
{
	return d->pressure.tight || atomic_load(&d->engine->news.low);
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
	p->shed = low ? STATS_SHED_SHEDDING : STATS_SHED_ARMED;
	p->shed_packets = d->shed.values->packets;
	p->shed_bytes = d->shed.values->bytes;
	if (p->shed != was)
		p->shed_since = (uint64_t)time(NULL);
}

/* ---- memory ---- */

/* Parts of the base that come back in one tick: eight of them. */
#define GROW_TICKS 8u

/* Towards what the host's memory allows; in between it stays as it is. */
static void base_follow(struct device *d, uint32_t step_max)
{
	uint32_t wanted = d->base.given;

	if (measure_left_out(MEASURE_ELASTIC) ||
	    (!d->pressure.tight && pressure_is_plentiful(&d->pressure)))
		wanted = d->base.count;
	else if (d->pressure.tight)
		wanted = 0;
	if (base_step(&d->base, wanted, step_max))
		engine_post(d->engine, MAIL_POOL);
	d->page->base_resident_bytes =
		d->base.resident * (uint64_t)d->base.slot_bytes;
	d->page->base_shrinks = d->base.shrinks;
}

static void show_pressure(struct device *d)
{
	d->page->memory_tight = d->pressure.tight;
	d->page->memory_since = (uint64_t)time(NULL);
	d->page->tight_episodes = d->pressure.episodes;
}

static void on_pressure_change(struct device *d, bool was_tight)
{
	const struct pressure *p = &d->pressure;

	if (p->tight == was_tight)
		return;
	show_pressure(d);
	/* The engine first: what it no longer uses can be given back. */
	engine_post(d->engine, p->tight ? MAIL_TIGHT : MAIL_PLENTY);
	if (p->tight)
		log_say(LOG_LEVEL_NOTICE,
			"%s: memory is tight: %s; requests are held to the guaranteed window",
			d->path, p->cause);
	else
		log_say(LOG_LEVEL_NOTICE, "%s: memory is plentiful again",
			d->path);
}

static void pressure_step(struct device *d, uint64_t now_ns)
{
	bool was_tight = d->pressure.tight;

	pressure_tick(&d->pressure, now_ns);
	on_pressure_change(d, was_tight);
	base_follow(d, (d->base.count + GROW_TICKS - 1) / GROW_TICKS);
}

void device_pressure_up(struct device *d)
{
	pressure_restart(&d->pressure, clock_now_ns());
	d->page->psi = d->pressure.trigger_fd >= 0;
	show_pressure(d);
	on_pressure_change(d, false);
	/* Requests wait for a takeover to end, so there it is not filled now. */
	base_follow(d, d->again ? 0 : d->base.count);
}

void device_on_pressure(struct device *d, short events)
{
	bool was_tight = d->pressure.tight;

	pressure_on_trigger(&d->pressure, events, clock_now_ns());
	on_pressure_change(d, was_tight);
	base_follow(d, 0);
}

/* ---- news and time ---- */

void device_on_news(struct device *d)
{
	uint64_t count;
	uint32_t news;

	if (read(d->news_fd, &count, sizeof(count)) < 0)
		return;
	news = engine_take_news(d->engine);
	log_drain(&d->engine->log);
	if (news & NEWS_LINK_LOST && d->conn.state == CONN_UP)
		link_lost(d);
	if (news & NEWS_LINK_IDLE && d->conn.state == CONN_LOST)
		conn_close(&d->conn);
	if (news & NEWS_POOL)
		base_follow(d, 0);
	if (news & NEWS_FRONT_GONE)
		d->front_gone = true;
	if (news & NEWS_CLOSED)
		d->closed = true;
	if (news & NEWS_FAILED)
		d->failed = true;
}

bool device_wait_news(struct device *d, const bool *flag, uint32_t timeout_ms)
{
	uint64_t end_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
	struct pollfd fds[2] = { { .fd = d->news_fd, .events = POLLIN } };

	while (!*flag && !d->failed) {
		uint64_t now_ns = clock_now_ns();
		int due_ms = conn_due_ms(&d->conn, now_ns);
		int left_ms = (int)((end_ns - now_ns) / NS_PER_MS) + 1;

		if (now_ns >= end_ns)
			return false;
		conn_pollfd(&d->conn, &fds[1]);
		if (due_ms >= 0 && due_ms < left_ms)
			left_ms = due_ms;
		if (poll(fds, 2, left_ms) > 0 && fds[0].revents)
			device_on_news(d);
		if (fds[1].revents || conn_due_ms(&d->conn, clock_now_ns()) == 0)
			device_step_link(d);
	}
	return *flag;
}

void device_tick(struct device *d)
{
	uint64_t now_ns = clock_now_ns();
	uint64_t minor, major;

	d->page->control_heartbeat_ns = now_ns;
	host_locked_kbytes(&d->page->locked_kbytes);
	host_min_free_kbytes(&d->page->min_free_kbytes);
	if (host_faults(d->page->data.tid, &minor, &major) == 0) {
		d->page->data_minor_faults = minor - d->minor_faults_at_seal;
		d->page->data_major_faults = major - d->major_faults_at_seal;
	}
	show_tls_memory(d);
	if (d->page->data.stray_mallocs != d->strays_told) {
		d->strays_told = d->page->data.stray_mallocs;
		log_say(LOG_LEVEL_ERR,
			"%s: the data thread has allocated memory, %llu times in all: "
			"a bug, and the device may stall when memory is short",
			d->path, (unsigned long long)d->strays_told);
	}
	log_drain(&d->engine->log);
	d->page->ordinary_deferred = d->ctl.ordinary.deferred;
	if (d->pressure.watching)
		pressure_step(d, now_ns);
	shed_step(d, memory_is_low(d), now_ns);
	if (d->conn.state == CONN_UP)
		d->dead = false;
	check_dead(d, now_ns);
}
