// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbd-client upgrade: has this very program serve a device that another one
 * attached, a version before it mostly, while the device is in use. All that can
 * be seen to be missing is seen here, before anybody is asked: a supervisor that
 * has become another program cannot go back. Command line.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "nbd-client/blockdev.h"
#include "nbd-client/cmd.h"
#include "nbd-client/handover.h"
#include "nbd-client/stats.h"

#define UPGRADE_TIMEOUT_MS 30000u
#define UPGRADE_POLL_MS 20

static int check_page(const struct stats_page *page, const struct blockdev *dev,
		      struct err *err)
{
	if (!stats_alive(page) || !page->supervised)
		return err_set(err, X_FAILURE, ESRCH,
			       "the supervisor of %s has died; \"nbd-client recover %s\" makes "
			       "a new one, of this program", dev->path, dev->name);
	if (page->state != STATS_LIVE)
		return err_set(err, X_BUSY, EBUSY,
			       "%s is being attached or detached", dev->path);
	if (page->handover != HANDOVER_LAYOUT)
		return err_set(err, X_FAILURE, ENOTSUP,
			       "%s is served by a program that hands over in another way "
			       "(layout %#x, here %#x); nothing was changed; detach it with "
			       "that program and attach it anew, when it can be spared",
			       dev->path, page->handover,
			       (unsigned int)HANDOVER_LAYOUT);
	return 0;
}

/* As the supervisor will see relative paths. */
static int check_words(const struct blockdev *dev, pid_t pid, struct err *err)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/cwd", pid);
	if (chdir(path) < 0)
		return err_explain(err, NULL, errno, "cannot enter %s", path);
	return cmd_attach_check(dev, err);
}

/* 1: not yet. */
static int look(const struct blockdev *dev, const struct stats_page *before,
		struct err *err)
{
	struct stats_page now;
	int rc = stats_read_head(dev->name, &now, err);

	if (rc)
		return rc;
	if (now.upgrades != before->upgrades)
		return 0;
	if (now.upgrades_refused != before->upgrades_refused)
		return err_set(err, X_FAILURE, EAGAIN,
			       "process %d, which supervises %s, could not become this "
			       "program, and goes on as it was; see the system's log",
			       before->pid, dev->path);
	if (!stats_alive(before) || !now.supervised)
		return err_set(err, X_FAILURE, ESRCH,
			       "process %d, which supervised %s, has ended; see the system's "
			       "log; the device is served, and \"nbd-client recover %s\" gives it "
			       "a supervisor again", before->pid, dev->path, dev->name);
	return 1;
}

static int wait_for_it(const struct blockdev *dev,
		       const struct stats_page *before, struct err *err)
{
	uint64_t end_ns = clock_now_ns() + UPGRADE_TIMEOUT_MS * NS_PER_MS;
	int rc;

	while ((rc = look(dev, before, err)) == 1) {
		if (clock_now_ns() > end_ns)
			return err_set(err, X_FAILURE, ETIMEDOUT,
				       "%s is still served by a process of the program before, "
				       "after %u s; see \"nbd-client status %s\" and the system's log",
				       dev->path, UPGRADE_TIMEOUT_MS / 1000,
				       dev->name);
		poll(NULL, 0, UPGRADE_POLL_MS);
	}
	return rc;
}

static const struct option_spec no_options[] = { CMD_OPTIONS_END };

static int run(int argc, char **argv, struct err *err)
{
	static struct stats_page page; /* large */
	struct blockdev dev;
	struct words words;
	int rc;

	rc = options_parse(&cmd_upgrade, argc, argv, NULL, 1, 1, &words, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	rc = blockdev_parse(words.word[0], &dev, err);
	if (!rc)
		rc = stats_read_head(dev.name, &page, err);
	if (!rc && geteuid() != 0)
		rc = err_set(err, X_PERMISSION, EPERM,
			     "only root may upgrade; run as root");
	if (!rc)
		rc = check_page(&page, &dev, err);
	if (!rc)
		rc = check_words(&dev, page.pid, err);
	if (rc)
		return rc;
	rc = handover_ask(page.pid);
	if (rc < 0)
		return err_explain(err, NULL, -rc, "cannot signal process %d",
				   page.pid);
	return wait_for_it(&dev, &page, err);
}

const struct command cmd_upgrade = {
	.name = "upgrade",
	.words = "DEV",
	.summary = "Has this program serve a device in use.",
	.details = "For after an update: the processes that serve DEV run the "
		   "program that attached\nit until this one takes over, as if "
		   "they had died. Nothing is detached, and no\nrequest fails.",
	.examples = "  nbd-client upgrade nbd0",
	.options = no_options,
	.run = run,
};
