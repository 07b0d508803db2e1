// SPDX-License-Identifier: GPL-2.0-or-later
/* The process that serves: its steps, and the control thread's loop. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "nbd-client/device.h"
#include "nbd-client/device_serve.h"
#include "nbd-client/host.h"
#include "nbd-client/probe.h"
#include "nbd-client/worker.h"

#define TICK_MS 1000

/* True: the device is to be detached, and this client waits for it. */
static bool on_request(struct device *d, const struct ctl_request *request,
		       uint32_t client)
{
	struct err err = { 0 };

	if (request->command == CTL_RECONNECT) {
		device_reconnect(d, request->flags, client);
		return false;
	}
	if (request->command == CTL_RESIZED)
		device_on_resize(d);
	if (request->command != CTL_DETACH) {
		ctl_reply(&d->ctl, client, EXIT_OK, NULL);
		return false;
	}
	if (!(request->flags & CTL_FLAG_FORCE)) {
		if (device_check_idle(d, &err) < 0) {
			ctl_reply(&d->ctl, client, err.exit_code, err.text);
			return false;
		}
	}
	d->detach_asked = true;
	d->detach_client = client;
	return true;
}

/* Until somebody detaches the device, or it goes away by itself. */
static int serve(struct device *d, int parent_fd, bool *ret_force)
{
	struct pollfd fds[3 + DEVICE_LINKS_MAX + CTL_POLLFDS];
	const uint32_t links = d->queue_count + 1;
	struct ctl_request request;
	uint32_t client;
	uint64_t tick_ns = 0;

	for (;;) {
		int due_ms = device_poll_links(d, fds + 3);
		size_t n;

		fds[0] = (struct pollfd){ .fd = d->news_fd, .events = POLLIN };
		fds[1] = (struct pollfd){ .fd = parent_fd, .events = POLLIN };
		fds[2] = (struct pollfd){ .fd = d->pressure.trigger_fd,
					  .events = POLLPRI };
		ordinary_update(&d->ctl.ordinary, device_is_low(d),
				clock_now_ns());
		n = 3 + links + ctl_pollfds(&d->ctl, fds + 3 + links);
		poll(fds, n,
		     due_ms >= 0 && due_ms < TICK_MS ? due_ms : TICK_MS);
		if (fds[0].revents)
			device_on_news(d);
		if (fds[1].revents) {
			parent_fd = -1; /* told once */
			device_adopt(d);
		}
		if (fds[2].revents)
			device_on_pressure(d, fds[2].revents);
		while (ctl_step(&d->ctl, &request, &client)) {
			if (!on_request(d, &request, client))
				continue;
			*ret_force = request.flags & CTL_FLAG_FORCE;
			return 0;
		}
		if (device_failed(d))
			return -EIO;
		if (device_front_gone(d))
			return device_is_orphaned(d) ? -EOWNERDEAD : -ENODEV;
		if (clock_now_ns() - tick_ns >= NS_PER_S) {
			tick_ns = clock_now_ns();
			device_tick(d);
		}
		device_step_links(d, fds + 3);
	}
}

/* ---- the process ---- */

/* Readable once the supervisor has died; -1: it has already. */
static int watch_parent(const struct device *d)
{
	int fd = (int)syscall(SYS_pidfd_open, d->page->pid, 0);

	/* Or somebody else has its number by now. */
	if (getppid() == d->page->pid)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* What it held is then up to us. */
static bool is_orphan(int parent_fd)
{
	struct pollfd fd = { .fd = parent_fd, .events = POLLIN };

	return parent_fd < 0 || poll(&fd, 1, 0) == 1;
}

/* The device is gone. What the supervisor holds is its to release, if it lives. */
static int end(struct device *d, int parent_fd)
{
	if (is_orphan(parent_fd)) {
		device_release(d);
		log_say(LOG_LEVEL_NOTICE, "%s: detached", d->path);
	}
	return WORKER_DETACHED;
}

static int run(struct device *d, int parent_fd, bool detach)
{
	bool force = false;
	int ret = 0;

	if (!detach)
		ret = serve(d, parent_fd, &force);
	if (ret == -EIO) {
		log_say(LOG_LEVEL_ERR, "%s: the io_uring of a data thread failed",
			d->path);
		return WORKER_FAILED;
	}
	if (ret == -EOWNERDEAD) {
		log_say(LOG_LEVEL_WARNING,
			"%s: the kernel has taken the device back; once more",
			d->path);
		return WORKER_FAILED;
	}
	if (ret == -ENODEV)
		log_say(LOG_LEVEL_WARNING,
			"%s: somebody else has disconnected the device",
			d->path);
	device_detach(d, force);
	return end(d, parent_fd);
}

static void begin(const struct device *d)
{
	/* Many clients of one server must not come back in step. */
	srandom((unsigned int)getpid() ^ (unsigned int)clock_now_ns());
	if (d->report_fd >= 0)
		close(d->report_fd);
}

int worker_attach(void *device, int go_fd)
{
	struct device *d = device;
	int parent_fd = watch_parent(d);
	struct err err = { 0 };
	int ret;

	(void)go_fd;
	begin(d);
	ret = device_prepare(d, false, &err);
	if (!ret)
		ret = device_attach(d, &err);
	if (ret < 0) {
		d->shared->err = err;
		if (is_orphan(parent_fd))
			device_release(d);
		return WORKER_FAILED;
	}
	return run(d, parent_fd, false);
}

/* False: the supervisor has died; then nobody will ever say "go". */
static bool wait_for_go(int go_fd, int parent_fd)
{
	struct pollfd fds[] = {
		{ .fd = go_fd, .events = POLLIN },
		{ .fd = parent_fd, .events = POLLIN },
	};

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	return fds[0].revents & POLLIN;
}

int worker_take_over(void *device, int go_fd)
{
	struct device *d = device;
	int parent_fd = watch_parent(d);
	struct err err = { 0 };
	bool detaching = false;
	int ret;

	begin(d);
	ret = parent_fd < 0 ? -ESRCH : device_prepare(d, true, &err);
	if (!ret) {
		d->page->standby_ready = getpid();
		if (!wait_for_go(go_fd, parent_fd))
			return WORKER_FAILED;
		host_follow_root();
		/* The dead one may have been asked to detach. */
		detaching = d->page->state == STATS_DETACHING;
		ret = device_attach(d, &err);
	}
	/* The dead one had got so far that there is nothing to take over. */
	if (ret == -ENODEV && detaching)
		return end(d, parent_fd);
	if (ret < 0) {
		d->shared->err = err;
		log_say(LOG_LEVEL_ERR, "%s: cannot take over: %s", d->path,
			err.text);
		return ret == -ENODEV ? WORKER_GIVES_UP : WORKER_FAILED;
	}
	return run(d, parent_fd, detaching);
}

/* Locked: what swapped it out may be the device that does not move. */
int worker_probe(void *device, int go_fd)
{
	struct device *d = device;
	struct err err = { 0 };

	(void)go_fd;
	memset(d->own_rows, 0, sizeof(d->own_rows));
	host_protect_process(d->own_rows);
	host_protect_thread("probe", HOST_FIFO_CONTROL, d->own_rows);
	device_recall_server(d);
	if (probe_server(&d->queues[0].conn, &err) == 0)
		return WORKER_ANSWERED;
	/* That a link is down has been told. */
	if (d->page->link == STATS_LINK_UP)
		log_say(LOG_LEVEL_WARNING,
			"%s: no request is completed, and the server does not "
			"answer another process either: %s",
			d->path, err.text);
	return WORKER_FAILED;
}
