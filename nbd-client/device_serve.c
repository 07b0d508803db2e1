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
	if (d->conn.fd >= 0)
		conn_close(&d->conn);
}

/* ---- the link ---- */

static void show_link(struct device *d, enum stats_link link)
{
	d->page->link = link;
	d->page->link_since = (uint64_t)time(NULL);
}

void device_link_up(struct device *d)
{
	d->engine->mail.link_fd = d->conn.fd;
	d->engine->mail.structured = d->conn.handshake.info.structured;
	d->conn.state = CONN_UP;
	engine_post(d->engine, MAIL_LINK_UP);
	show_link(d, STATS_LINK_UP);
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

	if (!reason)
		reason = error ? strerror(error) :
				 "the server closed the connection";
	/* Ends the engine's operations; then comes NEWS_LINK_IDLE. */
	conn_shutdown(&d->conn, error);
	show_error(d, reason);
	d->page->connect_attempts = 0;
	show_link(d, STATS_LINK_DOWN);
	if (d->page->state == STATS_LIVE)
		log_say(LOG_LEVEL_WARNING,
			"%s: link to %s lost: %s; reconnecting", d->path,
			d->conn.addrs.where, reason);
}

static void reconnect(struct device *d)
{
	struct err err = { 0 };

	d->page->connect_attempts++;
	d->page->link = STATS_LINK_CONNECTING;
	if (conn_open(&d->conn, &err) < 0) {
		d->page->link = STATS_LINK_DOWN;
		if (show_error(d, err.text))
			log_say(LOG_LEVEL_WARNING, "%s: %s", d->path, err.text);
		return;
	}
	device_link_up(d);
	show_interruption(d);
	d->page->reconnects++;
	log_say(LOG_LEVEL_NOTICE, "%s: connected to %s again", d->path,
		d->conn.addrs.where);
}

void device_step_link(struct device *d)
{
	uint64_t was = d->conn.unfenced;

	conn_step(&d->conn, clock_now_ns());
	if (d->conn.unfenced != was) {
		d->page->unfenced++;
		log_say(LOG_LEVEL_WARNING,
			"%s: the old connection was not seen to end in %u ms; a server "
			"that still works on it could write late", d->path,
			d->conn.fence_ms);
	}
	if (d->conn.state == CONN_DOWN &&
	    conn_due_ms(&d->conn, clock_now_ns()) == 0)
		reconnect(d);
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

	if (measure_left_out(MEASURE_ELASTIC))
		wanted = d->base.count;
	else if (d->pressure.tight)
		wanted = 0;
	else if (pressure_is_plentiful(&d->pressure))
		wanted = d->base.count;
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
	struct pollfd fd = { .fd = d->news_fd, .events = POLLIN };

	while (!*flag && !d->failed) {
		uint64_t now_ns = clock_now_ns();

		if (now_ns >= end_ns)
			return false;
		if (poll(&fd, 1, (int)((end_ns - now_ns) / NS_PER_MS) + 1) == 1)
			device_on_news(d);
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
	device_step_link(d);
}
