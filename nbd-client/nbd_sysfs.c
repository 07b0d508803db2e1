// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * /dev/nbdN as /sys and /dev show it, and the queue settings made there.
 *
 * Owns nothing but the three paths. Control thread and command line; may block.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/text.h"
#include "nbd-client/nbd_sysfs.h"
#include "nbd-client/procfile.h"
#include "nbd-client/stats.h"

#define NBD_MAJOR 43

/* How often a condition is looked at that the kernel does not announce. */
#define POLL_MS 10

/* Long enough for a cold page cache; a hung modprobe must not hang an attach. */
#define MODPROBE_TIMEOUT_MS 30000u

#define ROW_QUEUE "device queue"

const char *nbd_sysfs_root = "/sys";
const char *nbd_sysfs_dev_root = "/dev";
const char *nbd_sysfs_modprobe = "/sbin/modprobe";

static void pause_ms(int ms)
{
	poll(NULL, 0, ms);
}

static bool passed(uint64_t deadline_ns)
{
	return clock_now_ns() >= deadline_ns;
}

static bool module_there(void)
{
	char path[256];

	/* Is there also when the driver is built in (it has parameters). */
	snprintf(path, sizeof(path), "%s/module/nbd", nbd_sysfs_root);
	return access(path, F_OK) == 0;
}

/* 0, or -errno; -EIO: modprobe ran and failed. */
static int run_modprobe(void)
{
	/* No parameters of ours: they would override those in modprobe.d. */
	char *const argv[] = { "modprobe", "-q", "nbd", NULL };
	char *const envp[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	uint64_t deadline = clock_now_ns() + MODPROBE_TIMEOUT_MS * NS_PER_MS;
	posix_spawn_file_actions_t silent;
	pid_t pid, done;
	int status, rc;

	/* What it has to complain about is for us to say, in one line. */
	posix_spawn_file_actions_init(&silent);
	posix_spawn_file_actions_addopen(&silent, STDERR_FILENO, "/dev/null",
					 O_WRONLY, 0);
	rc = posix_spawn(&pid, nbd_sysfs_modprobe, &silent, NULL, argv, envp);
	posix_spawn_file_actions_destroy(&silent);
	if (rc)
		return -rc;
	for (;;) {
		done = waitpid(pid, &status, WNOHANG);
		if (done == pid)
			break;
		if (done < 0 && errno != EINTR)
			return -errno;
		if (passed(deadline))
			return -ETIMEDOUT;
		pause_ms(POLL_MS);
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

int nbd_sysfs_load(struct err *err)
{
	int rc;

	if (module_there())
		return 0;
	if (geteuid() != 0)
		return err_set(err, X_PERMISSION, EPERM,
			       "the nbd driver is not loaded and only root may "
			       "load it; run \"modprobe nbd\" as root");
	rc = run_modprobe();
	if (module_there())
		return 0;
	if (rc == -ENOENT)
		return err_set(err, X_KERNEL, ENOENT,
			       "the nbd driver is not loaded and there is no "
			       "%s; install the package kmod",
			       nbd_sysfs_modprobe);
	if (rc == -ETIMEDOUT)
		return err_set(err, X_KERNEL, ETIMEDOUT,
			       "\"modprobe nbd\" does not finish; see dmesg");
	return err_set(err, X_KERNEL, ENODEV,
		       "this kernel has no nbd driver (\"modprobe nbd\" "
		       "failed); install the full kernel image of your "
		       "distribution, or leave the container");
}

/* "nbd12" or "12" and nothing else: no sign, no blank, no leading zero. */
static bool name_to_index(const char *text, uint32_t *ret_index)
{
	unsigned long value;
	char *end;

	if (!strncmp(text, "nbd", 3))
		text += 3;
	if (*text < '0' || *text > '9' || (*text == '0' && text[1]))
		return false;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || *end || value > NBD_INDEX_MAX)
		return false;
	*ret_index = (uint32_t)value;
	return true;
}

int nbd_sysfs_parse(const char *text, uint32_t *ret_index, struct err *err)
{
	char shown[128], path[4096];
	size_t length = strlen(nbd_sysfs_dev_root);
	const char *name = text;

	if (!strncmp(text, nbd_sysfs_dev_root, length) && text[length] == '/') {
		name = text + length + 1;
		/* A number alone is an index, but /dev/3 is not a device. */
		if (!strncmp(name, "nbd", 3) && name_to_index(name, ret_index))
			return 0;
	} else if (!strchr(text, '/') && name_to_index(text, ret_index)) {
		return 0;
	}
	/* A link such as /dev/disk/by-id/…, or a spelling with dots in it. */
	if (strchr(text, '/') && realpath(text, path) &&
	    !strncmp(path, nbd_sysfs_dev_root, length) &&
	    path[length] == '/' && !strncmp(path + length + 1, "nbd", 3) &&
	    name_to_index(path + length + 1, ret_index))
		return 0;
	text_escape_str(shown, sizeof(shown), text);
	return err_set(err, X_USAGE, EINVAL,
		       "\"%s\" is not an nbd device; write nbd0 or /dev/nbd0",
		       shown);
}

void nbd_sysfs_name(uint32_t index, char ret_name[DEVICE_NAME_BYTES])
{
	snprintf(ret_name, DEVICE_NAME_BYTES, "nbd%u", index);
}

void nbd_sysfs_device(uint32_t index, char ret_path[DEVICE_NAME_BYTES])
{
	snprintf(ret_path, DEVICE_NAME_BYTES, "/dev/nbd%u", index);
}

static void attribute_path(uint32_t index, const char *attribute, char *path,
			   size_t path_bytes)
{
	snprintf(path, path_bytes, "%s/block/nbd%u%s%s", nbd_sysfs_root, index,
		 *attribute ? "/" : "", attribute);
}

bool nbd_sysfs_exists(uint32_t index)
{
	char path[256];

	attribute_path(index, "", path, sizeof(path));
	return access(path, F_OK) == 0;
}

int nbd_sysfs_read(uint32_t index, const char *attribute, char *ret_text,
		   size_t text_bytes)
{
	char path[256];

	attribute_path(index, attribute, path, sizeof(path));
	return procfile_read(path, ret_text, text_bytes);
}

int nbd_sysfs_read_number(uint32_t index, const char *attribute,
			  uint64_t *ret_value)
{
	char path[256];

	attribute_path(index, attribute, path, sizeof(path));
	return procfile_read_number(path, ret_value);
}

int nbd_sysfs_write(uint32_t index, const char *attribute, const char *text)
{
	char path[256];

	attribute_path(index, attribute, path, sizeof(path));
	return procfile_write(path, text);
}

int nbd_sysfs_pid(uint32_t index, pid_t *ret_pid)
{
	uint64_t pid;
	int rc;

	rc = nbd_sysfs_read_number(index, "pid", &pid);
	if (!rc)
		*ret_pid = (pid_t)pid;
	return rc;
}

static bool in_use(uint32_t index)
{
	char path[256];

	attribute_path(index, "pid", path, sizeof(path));
	return access(path, F_OK) == 0;
}

int nbd_sysfs_find_free(uint32_t *ret_index, struct err *err)
{
	uint32_t index, absent = UINT32_MAX, gap = 0;

	/*
	 * The driver makes devices 0 … nbds_max - 1, then others as they are
	 * asked for; a long gap means that no more follow.
	 */
	for (index = 0; index <= NBD_INDEX_MAX && gap < 256; index++) {
		if (!nbd_sysfs_exists(index)) {
			if (absent == UINT32_MAX)
				absent = index;
			gap++;
			continue;
		}
		gap = 0;
		if (!in_use(index)) {
			*ret_index = index;
			return 0;
		}
	}
	if (absent == UINT32_MAX)
		return err_set(err, X_BUSY, EBUSY,
			       "all nbd devices are in use; detach one");
	*ret_index = absent;
	return 0;
}

int nbd_sysfs_backend(uint32_t index, char *ret_text, size_t text_bytes)
{
	int rc = nbd_sysfs_read(index, "backend", ret_text, text_bytes);

	return rc < 0 ? rc : 0;
}

int nbd_sysfs_size(uint32_t index, uint64_t *ret_bytes)
{
	uint64_t sectors;
	int rc;

	rc = nbd_sysfs_read_number(index, "size", &sectors);
	if (!rc)
		*ret_bytes = sectors * 512;
	return rc;
}

/* Writes max_sectors_kb; 0 if no request can now be larger than a slot. */
static int limit_requests(uint32_t index, uint32_t slot_bytes,
			  uint64_t *ret_kbytes)
{
	uint64_t got = 0;
	char text[32];
	int rc;

	snprintf(text, sizeof(text), "%u", slot_bytes / KIB);
	rc = nbd_sysfs_write(index, "queue/max_sectors_kb", text);
	if (nbd_sysfs_read_number(index, "queue/max_sectors_kb", &got))
		return rc ? rc : -EIO;
	*ret_kbytes = got;
	if (got > slot_bytes / KIB)
		return rc ? rc : -EIO;
	return 0;
}

static int limit_failed(uint32_t index, uint32_t slot_bytes, int rc,
			struct err *err)
{
	return err_set(err, rc == -EACCES ? X_PERMISSION : X_FAILURE, -rc,
		       "cannot set the largest request of /dev/nbd%u to %u "
		       "KiB: %s; choose another --slot-size",
		       index, slot_bytes / KIB, strerror(-rc));
}

int nbd_sysfs_tune_early(uint32_t index, uint32_t slot_bytes, struct err *err)
{
	uint64_t kbytes;
	int rc;

	if (!nbd_sysfs_exists(index))
		return -ENOENT;
	rc = limit_requests(index, slot_bytes, &kbytes);
	return rc ? limit_failed(index, slot_bytes, rc, err) : 0;
}

/*
 * Settings that make the device faster or recovery quicker; the device works
 * without them. A kernel without write-back throttling has nothing to switch
 * off, hence `optional`.
 */
static const struct setting {
	const char *attribute;
	const char *value;
	const char *expect; /* as read back; NULL: the value itself */
	const char *label;
	bool optional;
} settings[] = {
	{ "queue/scheduler", "none", "[none]", "scheduler none", false },
	{ "queue/wbt_lat_usec", "0", NULL, "wbt off", true },
	{ "queue/io_timeout", "2000", NULL, "io_timeout 2 s", false },
};
_Static_assert(NBD_IO_TIMEOUT_MS == 2000, "as the table has it");

static bool apply(uint32_t index, const struct setting *s, char *got,
		  size_t got_bytes)
{
	const char *expect = s->expect ? s->expect : s->value;
	int rc;

	/* The value counts, not the write: it may have been right before. */
	(void)nbd_sysfs_write(index, s->attribute, s->value);
	rc = nbd_sysfs_read(index, s->attribute, got, got_bytes);
	/* wbt_lat_usec: no such file, or none on this queue. */
	if (s->optional && (rc == -ENOENT || rc == -EINVAL))
		return true;
	if (rc < 0) {
		snprintf(got, got_bytes, "unreadable");
		return false;
	}
	/* The kernel with one scheduler shows it without brackets. */
	return s->expect ? strstr(got, expect) || !strcmp(got, s->value) :
			   !strcmp(got, expect);
}

int nbd_sysfs_tune(uint32_t index, uint32_t slot_bytes,
		   struct stats_guarantee rows[STATS_GUARANTEES],
		   struct err *err)
{
	char good[100] = "", got[128];
	uint64_t kbytes = 0;
	size_t i, used = 0;
	bool all = true;
	int rc;

	rc = limit_requests(index, slot_bytes, &kbytes);
	if (rc) {
		stats_guarantee_set(rows, ROW_QUEUE, GUARANTEE_MISSING,
				    "max_sectors_kb is %llu, wanted %u: %s",
				    (unsigned long long)kbytes,
				    slot_bytes / KIB, strerror(-rc));
		return limit_failed(index, slot_bytes, rc, err);
	}
	for (i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		const struct setting *s = &settings[i];

		if (!apply(index, s, got, sizeof(got))) {
			all = false;
			stats_guarantee_set(rows, ROW_QUEUE, GUARANTEE_DEGRADED,
					    "%s is %.40s, wanted %s",
					    s->attribute, got, s->value);
			continue;
		}
		used += (size_t)snprintf(good + used, sizeof(good) - used,
					 ", %s", s->label);
	}
	if (all)
		stats_guarantee_set(rows, ROW_QUEUE, GUARANTEE_OK,
				    "max_sectors_kb %llu%s",
				    (unsigned long long)kbytes, good);
	return 0;
}

static const char *const saved_attributes[NBD_SYSFS_SAVED] = {
	"queue/max_sectors_kb",
	"queue/scheduler",
	"queue/wbt_lat_usec",
	"queue/io_timeout",
};

void nbd_sysfs_save(uint32_t index, struct nbd_sysfs_saved *ret_saved)
{
	char text[128];
	size_t i;

	*ret_saved = (struct nbd_sysfs_saved){ 0 };
	for (i = 0; i < NBD_SYSFS_SAVED; i++) {
		char *from = text, *end;

		if (nbd_sysfs_read(index, saved_attributes[i], text,
				   sizeof(text)) < 0)
			continue;
		/* "[none] mq-deadline": the one in brackets is in force */
		if (strchr(text, '[') && (end = strchr(text, ']'))) {
			from = strchr(text, '[') + 1;
			*end = '\0';
		}
		snprintf(ret_saved->value[i], sizeof(ret_saved->value[i]),
			 "%.31s", from);
	}
}

void nbd_sysfs_restore(uint32_t index, const struct nbd_sysfs_saved *saved)
{
	size_t i;

	for (i = 0; i < NBD_SYSFS_SAVED; i++) {
		if (saved->value[i][0])
			(void)nbd_sysfs_write(index, saved_attributes[i],
					      saved->value[i]);
	}
}

/* The node that udev or devtmpfs made, and of the right device. */
static bool node_ready(uint32_t index)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/nbd%u", nbd_sysfs_dev_root, index);
	return stat(path, &st) == 0 && S_ISBLK(st.st_mode) &&
	       major(st.st_rdev) == NBD_MAJOR;
}

int nbd_sysfs_wait_ready(uint32_t index, uint64_t size_bytes,
			 uint32_t timeout_ms, struct err *err)
{
	uint64_t deadline = clock_now_ns() + timeout_ms * NS_PER_MS;
	uint64_t size = 0;
	bool node;

	for (;;) {
		node = node_ready(index);
		/* The kernel cuts a size down to whole sectors. */
		if (node && !nbd_sysfs_size(index, &size) &&
		    size == size_bytes / 512 * 512)
			return 0;
		if (passed(deadline))
			break;
		pause_ms(POLL_MS);
	}
	if (!node)
		return err_set(err, X_FAILURE, ETIMEDOUT,
			       "no %s/nbd%u appeared; is udev or devtmpfs "
			       "there?", nbd_sysfs_dev_root, index);
	return err_set(err, X_FAILURE, ETIMEDOUT,
		       "/dev/nbd%u has %llu bytes, expected %llu; see dmesg",
		       index, (unsigned long long)size,
		       (unsigned long long)size_bytes);
}

int nbd_sysfs_wait_gone(uint32_t index, uint32_t timeout_ms, struct err *err)
{
	uint64_t deadline = clock_now_ns() + timeout_ms * NS_PER_MS;

	while (in_use(index)) {
		if (passed(deadline))
			return err_set(err, X_BUSY, ETIMEDOUT,
				       "/dev/nbd%u is still in use; is it "
				       "mounted or active as swap?", index);
		pause_ms(POLL_MS);
	}
	return 0;
}
