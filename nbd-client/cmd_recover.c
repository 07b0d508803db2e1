// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbd-client recover: puts the host back after daemons have died: their part of
 * the kernel's reserve, sysctls, cgroups, files. A device that the kernel still
 * has keeps its files, because whoever takes it over or gives it up needs them.
 * Command line.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/clock.h"
#include "nbd-client/blockdev.h"
#include "nbd-client/cmd.h"
#include "nbd-client/ctl_socket.h"
#include "nbd-client/donor.h"
#include "nbd-client/host.h"
#include "nbd-client/nbd_sysfs.h"
#include "nbd-client/neighbours.h"
#include "nbd-client/notify.h"
#include "nbd-client/shed.h"
#include "nbd-client/stats.h"
#include "nbd-client/ublk_ctl.h"
#include "nbd-client/words.h"

#define TIGHT_POLL_MS 1000
/* What a manager is told to wait for the next word. */
#define TIGHT_EXTEND_S 60u

static const struct table_column columns[] = {
	{ "subject", "WHAT", false },
	{ "action", "DONE", false },
};

struct recovery {
	struct table *table;
	uint32_t lines;
};

static void on_line(void *arg, const char *subject, const char *text)
{
	struct recovery *r = arg;

	table_string(r->table, subject);
	table_string(r->table, text);
	r->lines++;
}

/* Whatever cannot be told counts as connected: nothing is lost then. */
static bool is_connected(const char *name)
{
	struct blockdev dev;
	pid_t pid;

	if (blockdev_parse(name, &dev, NULL) < 0)
		return true;
	return dev.front == FRONT_NBD ?
		       nbd_sysfs_pid(dev.index, &pid) != -ENOENT :
		       blockdev_exists(dev.name);
}

/* An attach that died early may have left a device that cannot be opened yet. */
static void drop_unstarted(const char *name)
{
	struct ublk_ctl ctl;
	struct blockdev dev;

	if (blockdev_parse(name, &dev, NULL) < 0 || dev.front != FRONT_UBLK ||
	    ublk_ctl_open(&ctl, NULL) < 0)
		return;
	if (ublk_ctl_find(&ctl, dev.index, NULL) == 0)
		(void)ublk_ctl_delete(&ctl, GONE_TIMEOUT_MS, NULL);
	ublk_ctl_close(&ctl);
}

static void on_page(const char *name, const struct stats_page *page, void *arg)
{
	char path[256];

	if (stats_alive(page))
		return;
	if (is_connected(name)) {
		on_line(arg, name,
			"left as it is: requests wait for its daemon, which has "
			"died; \"recover DEV\" makes a new one, \"detach "
			"--force\" gives them up");
		return;
	}
	drop_unstarted(name);
	snprintf(path, sizeof(path), "%s/%s.sock", ctl_run_dir, name);
	(void)unlink(path);
	words_drop(name);
	stats_remove(name, NULL);
	on_line(arg, name, "files of its daemon, which has died, removed");
}

/* What looks dead may be an attach that has just begun: not at the same time. */
static int lock_attach(int *ret_fd, struct err *err)
{
	int fd = open(RUN_DIR "/attach.lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	*ret_fd = fd;
	if (fd < 0 && errno == ENOENT)
		return 0; /* nothing was ever attached */
	if (fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB))
		return 0;
	if (fd >= 0)
		close(fd);
	return err_set(err, errno == EWOULDBLOCK ? X_BUSY : X_FAILURE, errno,
		       "cannot lock " RUN_DIR "/attach.lock: %s",
		       errno == EWOULDBLOCK ?
			       "an attach is under way; try again after it" :
			       strerror(errno));
}

static int recover(struct recovery *r, struct err *err)
{
	const struct host_tell tell = { .line = on_line, .arg = r };
	int fd, rc, unreadable;
	char device[DEVICE_NAME_BYTES];
	uint32_t spare;

	rc = lock_attach(&fd, err);
	if (rc)
		return rc;
	if (donor_drop_stale(&spare)) {
		snprintf(device, sizeof(device), "nbd%u", spare);
		on_line(r, device, "freed: an attach has died that had lent it");
	}
	rc = host_reserve_recover(&tell, err);
	stats_drop_unmade();
	unreadable = stats_each(on_page, r);
	host_cgroup_recover(&tell);
	/* Whoever never shed may lack what that needs. */
	(void)shed_drop_stale();
	(void)neighbours_drop_stale();
	if (fd >= 0)
		close(fd);
	if (!rc && unreadable)
		rc = err_set(err, X_FAILURE, EBADMSG,
			     "there are status files in %s that cannot be "
			     "read; \"detach --force\" removes them one by one",
			     stats_run_dir);
	return rc;
}

/*
 * From here on memory may be had only once the device is served: what can be
 * locked and claimed beforehand is, and the children inherit the priority.
 */
static void protect(void)
{
	static struct stats_guarantee unused[STATS_GUARANTEES];

	host_protect_process(unused);
	host_protect_thread("recover", HOST_FIFO_SUPERVISOR, unused);
}

/*
 * A worker that has outlived its supervisor ends, because nobody would notice its
 * death: a new pair takes its place.
 */
static int end_orphan(const char *name, struct err *err)
{
	uint64_t end_ns = clock_now_ns() + GONE_TIMEOUT_MS * NS_PER_MS;
	const struct stats_page *page;
	pid_t pid;
	int rc = stats_open(name, &page, err);

	if (rc == -ENOENT) { /* it is about the device, not about the page */
		err_clear(err);
		return 0;
	}
	if (rc)
		return rc;
	protect();
	pid = page->pid;
	if (stats_alive(page) && page->supervised)
		rc = err_set(err, X_BUSY, EBUSY,
			     "/dev/%s is well: process %d supervises it", name,
			     pid);
	else if (stats_alive(page) && kill(pid, SIGKILL) < 0)
		rc = err_explain(err, NULL, errno, "cannot end process %d", pid);
	while (!rc && stats_alive(page)) {
		if (clock_now_ns() > end_ns)
			rc = err_set(err, X_FAILURE, ETIMEDOUT,
				     "process %d does not end", pid);
		poll(NULL, 0, 5);
	}
	stats_close(page);
	return rc;
}

/* A worker that is left serves well: it is not the time to replace it. */
static bool is_better_left(const struct stats_page *page)
{
	return stats_alive(page) && !page->supervised && page->memory_tight &&
	       stats_silent_ns(stats_heartbeat_ns(page), clock_now_ns()) <
		       STATS_SILENT_NS;
}

int cmd_recover_left(const struct blockdev *device, struct err *err)
{
	const struct stats_page *page;
	int rc = stats_open(device->name, &page, err);
	bool left;

	if (rc == -ENOENT) {
		err_clear(err);
		return 0;
	}
	if (rc)
		return rc;
	while (is_better_left(page)) {
		notify_progress("memory is tight, so the process that serves is "
				"not replaced yet", TIGHT_EXTEND_S);
		poll(NULL, 0, TIGHT_POLL_MS);
	}
	left = is_connected(device->name) &&
	       (!stats_alive(page) || !page->supervised);
	stats_close(page);
	if (left)
		rc = end_orphan(device->name, err);
	return rc ? rc : left;
}

static int recover_device(const char *word, struct err *err)
{
	struct blockdev dev;
	int rc = blockdev_parse(word, &dev, err);

	if (!rc)
		rc = end_orphan(dev.name, err);
	if (!rc && !is_connected(dev.name))
		rc = err_set(err, X_NOT_FOUND, ENODEV,
			     "%s is gone; \"recover\" removes what is left of it",
			     dev.path);
	return rc ? rc : cmd_attach_again(&dev, false, err);
}

static int run(int argc, char **argv, struct err *err)
{
	struct output_options options = { 0 };
	struct recovery r = { 0 };
	struct words words;
	struct output out;
	int rc, output_rc;

	rc = options_parse(&cmd_recover, argc, argv, &options, 0, 1, &words,
			   err);
	if (rc)
		return rc > 0 ? 0 : rc;
	if (geteuid() != 0)
		return err_set(err, X_PERMISSION, EPERM,
			       "only root may recover; run as root");
	if (words.count)
		return recover_device(words.word[0], err);
	output_begin(&out, stdout, &options);
	r.table = table_new(&out, columns,
			    sizeof(columns) / sizeof(columns[0]));
	rc = recover(&r, err);
	if (r.lines || options.json)
		table_print(r.table, "recovered", TABLE_ROWS);
	else
		table_free(r.table);
	output_rc = output_end(&out, rc ? NULL : err);
	return rc ? rc : output_rc;
}

const struct command cmd_recover = {
	.name = "recover",
	.words = "[DEV]",
	.summary = "Puts the host back after daemons died.",
	.details = "Takes back what they had of the kernel's reserve, restores "
		   "sysctls with the\nlast one, removes their files and "
		   "cgroups. Living ones are left alone.\n"
		   "With DEV: serves a device again that the kernel still has, "
		   "as it was attached.",
	.examples = "  nbd-client recover\n"
		    "  nbd-client recover nbd0",
	.options = cmd_table_options,
	.run = run,
};
