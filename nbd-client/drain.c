// SPDX-License-Identifier: GPL-2.0-or-later
/* Swap off and caches written, in a process that is watched. Command line. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "nbd-client/drain.h"
#include "nbd-client/notify.h"
#include "nbd-client/swap.h"
#include "nbd-client/table.h"

#define LOOK_MS 1000
/* A line so often where it would stay: not on a terminal. */
#define LINE_NS (10 * NS_PER_S)
#define AGAIN_MS 2000
/* What a manager is told to wait for the next sign of progress. */
#define EXTEND_S 120u

/* ---- the process that may be stuck ---- */

/*
 * What the page cache still has for the device goes to the server, and the
 * server is told to keep it.
 */
static int flush(const struct blockdev *dev, struct err *err)
{
	int fd = open(dev->path, O_RDWR | O_EXCL | O_CLOEXEC);
	int rc = 0;

	if (fd < 0 && (errno == EROFS || (errno == EACCES && !geteuid())))
		return 0; /* a read-only device has nothing to write */
	if (fd < 0)
		return err_set(err, errno == EBUSY ? X_BUSY : X_FAILURE, errno,
			       "%s: %s", dev->path,
			       errno == EBUSY ?
				       "mounted or otherwise in use; unmount it first, "
				       "or lose what is not written with --force" :
				       strerror(errno));
	if (fsync(fd) < 0)
		rc = err_set(err, X_FAILURE, errno,
			     "%s: not all of it could be written: %s; "
			     "--force detaches all the same", dev->path,
			     strerror(errno));
	close(fd);
	return rc;
}

_Noreturn static void work(const struct drain *d, int report_fd)
{
	struct err err = { 0 };
	bool active;
	int rc = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody would want it any more */
	if (swap_is_active(d->dev->path, &active) == 0 && active)
		rc = swap_deactivate(d->dev->path, &err);
	if (!rc && d->flush)
		(void)flush(d->dev, &err);
	(void)!write(report_fd, &err, sizeof(err));
	_exit(0);
}

/* ---- the one that watches ---- */

struct watch {
	const struct drain *d;
	pid_t pid;
	int fd; /* readable: it has come to an end, one way or another */
	uint64_t begin_ns;
	uint64_t begin_bytes;
	uint64_t least_bytes; /* progress is what goes below */
	uint64_t told_ns;
	uint64_t down_ns; /* since then the link is seen down; 0: it is up */
	uint32_t tries;	  /* that have failed */
	bool shown;	  /* there is a line on the terminal that is not ended */
};

static int start(struct watch *w, struct err *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(err, X_FAILURE, errno, "cannot make a pipe: %s",
			       strerror(errno));
	w->pid = fork();
	if (w->pid == 0)
		work(w->d, fds[1]);
	close(fds[1]);
	w->fd = fds[0];
	if (w->pid > 0)
		return 0;
	close(fds[0]);
	return err_set(err, X_FAILURE, errno, "cannot fork: %s",
		       strerror(errno));
}

/* text names the device. */
static void say(struct watch *w, const char *text)
{
	fprintf(stderr, "%snbd-client: %s\n", w->shown ? "\n" : "", text);
	w->shown = false;
}

static void show_progress(struct watch *w, uint64_t used, uint64_t now_ns)
{
	uint64_t ms = (now_ns - w->begin_ns) / NS_PER_MS + 1;
	uint64_t rate = (w->begin_bytes - used) * 1000 / ms;
	char left[16], speed[16], time[32] = "", text[160];

	table_format_size(used, left, sizeof(left));
	table_format_size(rate, speed, sizeof(speed));
	if (rate)
		snprintf(time, sizeof(time), ", about %" PRIu64 " s",
			 used / rate + 1);
	snprintf(text, sizeof(text), "%s: switching swap off: %s to bring back, %s/s%s",
		 w->d->dev->path, left, speed, time);
	notify_progress(text, used < w->least_bytes ? EXTEND_S : 0);
	if (isatty(STDERR_FILENO)) {
		fprintf(stderr, "\rnbd-client: %s\033[K", text);
		w->shown = true;
	} else if (!w->told_ns || now_ns - w->told_ns >= LINE_NS) {
		say(w, text);
		w->told_ns = now_ns;
	}
}

/* True: nobody will answer any more. */
static bool link_is_given_up(struct watch *w, uint64_t now_ns)
{
	char text[320];

	if (w->d->page->link == STATS_LINK_UP) {
		w->down_ns = 0;
		return false;
	}
	if (!w->down_ns) {
		w->down_ns = now_ns;
		if (w->d->give_up_ms) {
			snprintf(text, sizeof(text),
				 "%s: the link to the server is down, and waited for: %.159s; "
				 "--force gives up what is there",
				 w->d->dev->path, w->d->page->link_error);
			say(w, text);
		}
	}
	return w->d->give_up_ms != DRAIN_NEVER &&
	       now_ns - w->down_ns >= w->d->give_up_ms * NS_PER_MS;
}

/* Once a second, as long as it lasts. */
static void look(struct watch *w, uint64_t now_ns)
{
	uint64_t used;
	bool active;

	if (swap_look(w->d->dev->path, &active, &used) < 0 || !active)
		return;
	/* Some more may have been swapped out before it began in earnest. */
	if (used > w->begin_bytes)
		w->begin_bytes = used;
	show_progress(w, used, now_ns);
	if (used < w->least_bytes)
		w->least_bytes = used;
}

/* 0: not yet; 1: done; or -errno with *err set. */
static int ended(struct watch *w, struct err *err)
{
	struct pollfd fd = { .fd = w->fd, .events = POLLIN };
	struct err cause = { 0 };
	int status = 0;
	ssize_t n;

	if (poll(&fd, 1, LOOK_MS) != 1)
		return 0;
	n = read(w->fd, &cause, sizeof(cause));
	close(w->fd);
	waitpid(w->pid, &status, 0);
	if (n != (ssize_t)sizeof(cause))
		return err_set(err, X_FAILURE, ENOMEM,
			       "%s: swapoff was killed, most likely for want of memory; "
			       "end programs or add other swap, then try again",
			       w->d->dev->path);
	if (!cause.exit_code)
		return 1;
	*err = cause;
	return -cause.error;
}

/* True: it is on, and is being switched off by another process. */
static bool is_going_off(const struct watch *w, int rc)
{
	bool active;

	return rc == -EINVAL && !swap_is_active(w->d->dev->path, &active) &&
	       active;
}

/* Others end meanwhile, or are stuck as long as the link is not given up. */
static bool may_come_right(const struct watch *w, int rc)
{
	if (is_going_off(w, rc))
		return true;
	return w->d->patient && (rc == -ENOMEM || (rc == -EBUSY && w->down_ns));
}

int drain_run(const struct drain *d, struct err *err)
{
	struct watch w = { .d = d, .begin_ns = clock_now_ns() };
	bool active;
	int rc;

	(void)swap_look(d->dev->path, &active, &w.begin_bytes);
	w.least_bytes = w.begin_bytes;
	/* It may be down from the beginning, and then nothing is begun. */
	if (link_is_given_up(&w, w.begin_ns))
		return 1;
	rc = start(&w, err);
	while (!rc) {
		rc = ended(&w, err);
		if (may_come_right(&w, rc)) {
			if (!w.tries++)
				say(&w, err->text);
			err_clear(err);
			poll(NULL, 0, AGAIN_MS);
			rc = start(&w, err);
		}
		if (rc)
			break;
		if (link_is_given_up(&w, clock_now_ns())) {
			/* When its requests have failed it hears of this. */
			kill(w.pid, SIGKILL);
			close(w.fd);
			break;
		}
		look(&w, clock_now_ns());
	}
	if (w.shown)
		fputc('\n', stderr);
	return rc < 0 ? rc : !rc;
}
