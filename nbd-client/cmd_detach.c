// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbd-client detach: the way back from attach, also when the daemon has died.
 * Command line.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "nbd-client/blockdev.h"
#include "nbd-client/cmd.h"
#include "nbd-client/ctl_socket.h"
#include "nbd-client/drain.h"
#include "nbd-client/genl.h"
#include "nbd-client/host.h"
#include "nbd-client/nbd_sysfs.h"
#include "nbd-client/neighbours.h"
#include "nbd-client/notify.h"
#include "nbd-client/shed.h"
#include "nbd-client/stats.h"
#include "nbd-client/swap.h"
#include "nbd-client/ublk_ctl.h"
#include "nbd-client/words.h"

/* Draining waits for the server; the last bytes of a slow one take a while. */
#define DETACH_TIMEOUT_MS 120000u
/* Nothing is waited for: what is under way fails. */
#define FORCE_TIMEOUT_MS 15000u
#define GONE_POLL_MS 20

/* At shutdown; a server or switch that only starts again is back by then. */
#define SHUTDOWN_S 30u

struct detach_line {
	bool all;
	bool force;
	uint32_t shutdown_s; /* 0: it is none */
};

static int set_shutdown(void *target, const char *value, struct err *err)
{
	struct detach_line *line = target;
	uint64_t seconds = SHUTDOWN_S;

	if (value && (options_parse_number(value, &seconds) || !seconds ||
		      seconds > 86400))
		return err_set(err, X_USAGE, EINVAL,
			       "--shutdown takes 1 to 86400 seconds");
	line->shutdown_s = (uint32_t)seconds;
	return 0;
}

static const struct option_spec detach_options[] = {
	{ .name = "all", .kind = OPTION_FLAG,
	  .offset = offsetof(struct detach_line, all),
	  .help = "all devices that are attached" },
	{ .name = "force", .kind = OPTION_FLAG,
	  .offset = offsetof(struct detach_line, force),
	  .help = "do not wait for requests under way: they fail;\n"
		  "also gives up a device whose daemon has died" },
	{ .name = "shutdown", .kind = OPTION_CALL, .value = "[=SECONDS]",
	  .set = set_shutdown,
	  .help = "the system goes down: try again if memory lacks;\n"
		  "--force when the link has been down so long (30)" },
	CMD_OPTIONS_END
};
_Static_assert(SHUTDOWN_S == 30, "as the help says");

struct detach {
	struct blockdev dev;
	bool force;
	uint32_t shutdown_s;
};

static void warn(const char *text, const char *device)
{
	fprintf(stderr, "nbd-client: %s: %s\n", device, text);
}

/* Swap off, and what is not written yet; or forced from here on. */
static int drain(struct detach *d, const struct stats_page *page,
		 struct err *err)
{
	struct drain drain = {
		.dev = &d->dev,
		.page = page,
		.flush = !d->force,
		.patient = d->shutdown_s != 0,
		.give_up_ms = d->force	      ? 0 :
			      d->shutdown_s ? d->shutdown_s * 1000 :
					      DRAIN_NEVER,
	};
	bool active = false;
	int rc;

	(void)swap_is_active(d->dev.path, &active);
	if (d->force && !active)
		return 0;
	rc = drain_run(&drain, err);
	if (rc <= 0)
		return rc;
	d->force = true;
	warn(active ? "the link is down, so its swap is given up; programs "
		      "whose pages are there will fail" :
		      "the link is down, so what was not written is given up",
	     d->dev.path);
	return 0;
}

/* The daemon is the last to know that it is done. */
static int wait_for_end(const struct detach *d, pid_t pid, uint64_t start,
			struct err *err)
{
	uint64_t deadline = clock_now_ns() + GONE_TIMEOUT_MS * NS_PER_MS;
	const struct stats_page *page;
	bool file;

	for (;;) {
		file = !stats_open(d->dev.name, &page, NULL);
		if (file)
			stats_close(page);
		if (!file && !host_process_alive(pid, start))
			return 0;
		if (clock_now_ns() >= deadline)
			return err_set(err, X_FAILURE, ETIMEDOUT,
				       "the daemon of %s (process %d) does "
				       "not end; see \"nbd-client status %s\"",
				       d->dev.path, pid, d->dev.name);
		poll(NULL, 0, GONE_POLL_MS);
	}
}

static int detach_living(struct detach *d, const struct stats_page *page,
			 struct err *err)
{
	pid_t pid = page->pid;
	uint64_t start = page->pid_start;
	int rc = drain(d, page, err);

	if (rc)
		return rc;
	rc = ctl_call(d->dev.name, CTL_DETACH, d->force ? CTL_FLAG_FORCE : 0,
		      d->force ? FORCE_TIMEOUT_MS : DETACH_TIMEOUT_MS, err);
	/* It was about to end anyway, for whatever reason. */
	if ((rc == -ENOENT || rc == -ECONNREFUSED || rc == -ECONNRESET) &&
	    page->state >= STATS_DETACHING)
		rc = 0;
	return rc ? rc : wait_for_end(d, pid, start, err);
}

static int nbd_owner(const struct detach *d, pid_t *ret_pid, struct err *err)
{
	(void)err;
	return nbd_sysfs_pid(d->dev.index, ret_pid);
}

static int nbd_disconnect(const struct detach *d, struct err *err)
{
	struct genl genl;
	int rc;

	rc = genl_open(&genl, err);
	if (rc)
		return rc;
	rc = genl_nbd_disconnect(&genl, d->dev.index, err);
	genl_close(&genl);
	return rc ? rc : nbd_sysfs_wait_gone(d->dev.index, GONE_TIMEOUT_MS, err);
}

static int ublk_owner(const struct detach *d, pid_t *ret_pid, struct err *err)
{
	struct ublk_ctl ctl;
	int rc;

	if (!blockdev_exists(d->dev.name) &&
	    access("/dev/ublk-control", F_OK))
		return -ENOENT; /* not even a driver */
	rc = ublk_ctl_open(&ctl, err);
	if (rc)
		return rc;
	rc = ublk_ctl_find(&ctl, d->dev.index, err);
	*ret_pid = ctl.info.ublksrv_pid;
	ublk_ctl_close(&ctl);
	return rc == -ENODEV ? -ENOENT : rc;
}

static int ublk_disconnect(const struct detach *d, struct err *err)
{
	struct ublk_ctl ctl;
	int rc;

	rc = ublk_ctl_open(&ctl, err);
	if (rc)
		return rc;
	ctl.dev_id = d->dev.index;
	rc = ublk_ctl_stop(&ctl, GONE_TIMEOUT_MS, err);
	if (!rc)
		rc = ublk_ctl_delete(&ctl, GONE_TIMEOUT_MS, err);
	ublk_ctl_close(&ctl);
	return rc;
}

/* How to deal with a device whose daemon cannot. */
static const struct {
	/* The process that serves or served it; -ENOENT: the device is free. */
	int (*owner)(const struct detach *d, pid_t *ret_pid, struct err *err);
	int (*disconnect)(const struct detach *d, struct err *err);
} fronts[] = {
	[FRONT_NBD] = { nbd_owner, nbd_disconnect },
	[FRONT_UBLK] = { ublk_owner, ublk_disconnect },
};

static void not_told(void *arg, const char *subject, const char *text)
{
	(void)arg;
	(void)subject;
	(void)text;
}

static void remove_traces(const struct detach *d)
{
	const struct host_tell tell = { .line = not_told };
	char note[HOST_NOTE_BYTES] = "", path[256];
	struct err err = { 0 };

	if (host_drop_stale(note, &err))
		warn(err.text, d->dev.path);
	else if (*note)
		warn(note, d->dev.path);
	host_cgroup_recover(&tell);
	/* Harmless by now. Whoever never shed may lack what that needs. */
	(void)shed_drop_stale();
	(void)neighbours_drop_stale();
	snprintf(path, sizeof(path), "%s/%s.sock", ctl_run_dir, d->dev.name);
	(void)unlink(path);
	words_drop(d->dev.name);
	stats_remove(d->dev.name, NULL);
}

/* Its daemon died, perhaps leaving the device behind. */
static int detach_dead(const struct detach *d, struct err *err)
{
	pid_t pid;
	int rc;

	rc = fronts[d->dev.front].owner(d, &pid, err);
	if (rc && rc != -ENOENT)
		return rc;
	if (!rc) {
		if (!d->force)
			return err_set(err, X_BUSY, ESRCH,
				       "the daemon of %s has died and requests "
				       "wait for it; --force gives them up: "
				       "they fail, and what was not written "
				       "is lost", d->dev.path);
		rc = fronts[d->dev.front].disconnect(d, err);
		if (rc)
			return rc;
	}
	remove_traces(d);
	warn("its daemon had died; what it left behind is removed", d->dev.path);
	return 0;
}

/* Connected by another program, or by one of us without page. */
static int detach_unknown(const struct detach *d, struct err *err)
{
	pid_t pid;
	int rc;

	rc = fronts[d->dev.front].owner(d, &pid, err);
	if (rc && rc != -ENOENT)
		return rc;
	if (rc)
		return err_set(err, X_NOT_FOUND, ENOENT, "%s is not attached; "
			       "\"nbd-client list\" shows what is", d->dev.path);
	if (!d->force)
		return err_set(err, X_NOT_FOUND, ENOENT,
			       "%s was not attached by this program but by "
			       "process %d; use what attached it, or --force",
			       d->dev.path, pid);
	return fronts[d->dev.front].disconnect(d, err);
}

static int detach_one(struct detach *d, struct err *err)
{
	const struct stats_page *page;
	int rc = stats_open(d->dev.name, &page, err);

	if (rc == -ENOENT)
		return detach_unknown(d, err);
	if (rc) {
		/* Unreadable: only by force, and only if nobody serves it. */
		if (d->force && ctl_call(d->dev.name, CTL_PING, 0, 1000, NULL) ==
					-ECONNREFUSED)
			return detach_dead(d, err);
		return rc;
	}
	if (geteuid() != 0)
		rc = err_set(err, X_PERMISSION, EPERM,
			     "only root may detach %s; run as root", d->dev.path);
	else if (stats_alive(page))
		rc = detach_living(d, page, err);
	else
		rc = detach_dead(d, err);
	stats_close(page);
	return rc;
}

struct all {
	struct detach how; /* the same for each */
	struct err *err;   /* of the first that failed; others are told at once */
	int rc;
};

static void detach_next(const char *name, const struct stats_page *page,
			void *arg)
{
	struct all *all = arg;
	struct detach d = all->how;
	struct err err = { 0 };
	int rc;

	(void)page;
	rc = blockdev_parse(name, &d.dev, &err);
	if (!rc)
		rc = detach_one(&d, &err);
	if (!rc)
		return;
	if (all->rc) {
		fprintf(stderr, "nbd-client: %s\n", err.text);
		return;
	}
	all->rc = rc;
	*all->err = err;
}

static int detach_all(const struct detach *how, struct err *err)
{
	struct all all = { .how = *how, .err = err };
	int unreadable = stats_each(detach_next, &all);

	return all.rc ? all.rc : cmd_unreadable(unreadable, err);
}

static int run(int argc, char **argv, struct err *err)
{
	struct detach_line line = { 0 };
	struct detach d = { 0 };
	struct words words;
	int rc;

	rc = options_parse(&cmd_detach, argc, argv, &line, 0, 1, &words, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	if (line.all == (words.count != 0))
		return err_set(err, X_USAGE, EINVAL,
			       "detach takes a device or --all; see "
			       "\"nbd-client detach --help\"");
	d.force = line.force;
	d.shutdown_s = line.shutdown_s;
	notify_open();
	host_cgroup_leave(); /* if the daemon started us: it will remove it */
	if (line.all)
		return detach_all(&d, err);
	rc = blockdev_parse(words.word[0], &d.dev, err);
	return rc ? rc : detach_one(&d, err);
}

const struct command cmd_detach = {
	.name = "detach",
	.words = "DEV|--all",
	.summary = "Removes a device.",
	.details = "Switches its swap off first, then finishes what is under "
		   "way.",
	.examples = "  nbd-client detach nbd0\n"
		    "  nbd-client detach --all",
	.options = detach_options,
	.run = run,
};
