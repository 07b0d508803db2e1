// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A block device as /sys and /dev show it, and its queue's settings.
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
#include "nbd-client/blockdev.h"
#include "nbd-client/measure.h"
#include "nbd-client/procfile.h"
#include "nbd-client/stats.h"

/* How often a condition is looked at that the kernel does not announce. */
#define POLL_MS 10

/* Long enough for a cold page cache; a hung modprobe must not hang an attach. */
#define MODPROBE_TIMEOUT_MS 30000u

const char *blockdev_sys_root = "/sys";
const char *blockdev_dev_root = "/dev";
const char *blockdev_modprobe = "/sbin/modprobe";

/* Lets a little time pass; false once the deadline is over. */
static bool wait_until(uint64_t deadline_ns)
{
	if (clock_now_ns() >= deadline_ns)
		return false;
	poll(NULL, 0, POLL_MS);
	return true;
}

static bool module_there(const char *module)
{
	char path[256];

	/* Is there also when the driver is built in (it has parameters). */
	snprintf(path, sizeof(path), "%s/module/%s", blockdev_sys_root,
		 module);
	return access(path, F_OK) == 0;
}

/* 0, or -errno; -EIO: modprobe ran and failed. */
static int run_modprobe(const char *module)
{
	/* No parameters of ours: they would override those in modprobe.d. */
	char *const argv[] = { "modprobe", "-q", (char *)(uintptr_t)module,
			       NULL };
	char *const envp[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	uint64_t deadline = clock_now_ns() + MODPROBE_TIMEOUT_MS * NS_PER_MS;
	posix_spawn_file_actions_t silent;
	pid_t pid, done;
	int status, rc;

	/* What it has to complain about is for us to say, in one line. */
	posix_spawn_file_actions_init(&silent);
	posix_spawn_file_actions_addopen(&silent, STDERR_FILENO, "/dev/null",
					 O_WRONLY, 0);
	rc = posix_spawn(&pid, blockdev_modprobe, &silent, NULL, argv, envp);
	posix_spawn_file_actions_destroy(&silent);
	if (rc)
		return -rc;
	while ((done = waitpid(pid, &status, WNOHANG)) != pid) {
		if (done < 0 && errno != EINTR)
			return -errno;
		if (!wait_until(deadline))
			return -ETIMEDOUT;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

int blockdev_load(const char *module, struct err *err)
{
	int rc;

	if (module_there(module))
		return 0;
	if (geteuid() != 0)
		return err_set(err, X_PERMISSION, EPERM,
			       "the driver %s is not loaded and only root may "
			       "load it; run \"modprobe %s\" as root",
			       module, module);
	rc = run_modprobe(module);
	if (module_there(module))
		return 0;
	if (rc == -ENOENT)
		return err_set(err, X_KERNEL, ENOENT,
			       "the driver %s is not loaded and there is no "
			       "%s; install the package kmod", module,
			       blockdev_modprobe);
	if (rc == -ETIMEDOUT)
		return err_set(err, X_KERNEL, ETIMEDOUT,
			       "\"modprobe %s\" does not finish; see dmesg",
			       module);
	return err_set(err, X_KERNEL, ENODEV,
		       "this kernel has no driver %s (modprobe failed); install "
		       "the full kernel image of your distribution, or leave "
		       "the container", module);
}

static const char *const prefixes[] = {
	[FRONT_NBD] = "nbd",
	[FRONT_UBLK] = "ublkb",
};

static const uint32_t index_max[] = {
	[FRONT_NBD] = NBD_INDEX_MAX,
	[FRONT_UBLK] = UBLK_INDEX_MAX,
};

void blockdev_set(struct blockdev *b, enum front_kind front, uint32_t index)
{
	b->front = front;
	b->index = index;
	snprintf(b->name, sizeof(b->name), "%s%u", prefixes[front], index);
	snprintf(b->path, sizeof(b->path), "/dev/%s%u", prefixes[front],
		 index);
}

/* Digits and nothing else: no sign, no blank, no leading zero. */
static bool parse_number(const char *text, enum front_kind front,
			 struct blockdev *ret)
{
	unsigned long value;
	char *end;

	if (*text < '0' || *text > '9' || (*text == '0' && text[1]))
		return false;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || *end || value > index_max[front])
		return false;
	blockdev_set(ret, front, (uint32_t)value);
	return true;
}

/* "nbd12" or "ublkb3" */
static bool parse_name(const char *text, struct blockdev *ret)
{
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t length = strlen(prefixes[i]);

		if (!strncmp(text, prefixes[i], length))
			return parse_number(text + length, (enum front_kind)i,
					    ret);
	}
	return false;
}

/* "/dev/nbd12" */
static bool parse_node(const char *path, struct blockdev *ret)
{
	size_t length = strlen(blockdev_dev_root);

	return !strncmp(path, blockdev_dev_root, length) &&
	       path[length] == '/' && parse_name(path + length + 1, ret);
}

int blockdev_parse(const char *text, struct blockdev *ret, struct err *err)
{
	char shown[128], path[4096];

	/* A number alone is an index, but /dev/3 is not a device. */
	if (!strchr(text, '/') &&
	    (parse_name(text, ret) || parse_number(text, FRONT_NBD, ret)))
		return 0;
	/* Or a link such as /dev/disk/by-id/…, or a spelling with dots in it. */
	if (strchr(text, '/') &&
	    (parse_node(text, ret) ||
	     (realpath(text, path) && parse_node(path, ret))))
		return 0;
	text_escape_str(shown, sizeof(shown), text);
	return err_set(err, X_USAGE, EINVAL,
		       "\"%s\" is not a device of ours; write nbd0 or "
		       "/dev/nbd0, ublkb0 or /dev/ublkb0", shown);
}

static void attribute_path(const char *name, const char *attribute, char *path,
			   size_t path_bytes)
{
	snprintf(path, path_bytes, "%s/block/%s%s%s", blockdev_sys_root, name,
		 *attribute ? "/" : "", attribute);
}

bool blockdev_exists(const char *name)
{
	char path[256];

	attribute_path(name, "", path, sizeof(path));
	return access(path, F_OK) == 0;
}

uint32_t blockdev_queues(const char *name)
{
	char path[256], attribute[16];
	uint32_t count = 0;

	for (;; count++) {
		snprintf(attribute, sizeof(attribute), "mq/%u", count);
		attribute_path(name, attribute, path, sizeof(path));
		if (access(path, F_OK) < 0)
			return count;
	}
}

int blockdev_read(const char *name, const char *attribute, char *ret_text,
		   size_t text_bytes)
{
	char path[256];

	attribute_path(name, attribute, path, sizeof(path));
	return procfile_read(path, ret_text, text_bytes);
}

int blockdev_read_number(const char *name, const char *attribute,
			  uint64_t *ret_value)
{
	char path[256];

	attribute_path(name, attribute, path, sizeof(path));
	return procfile_read_number(path, ret_value);
}

int blockdev_write(const char *name, const char *attribute, const char *text)
{
	char path[256];

	attribute_path(name, attribute, path, sizeof(path));
	return procfile_write(path, text);
}

int blockdev_size(const char *name, uint64_t *ret_bytes)
{
	uint64_t sectors;
	int rc;

	rc = blockdev_read_number(name, "size", &sectors);
	if (!rc)
		*ret_bytes = sectors * 512;
	return rc;
}

/* Writes max_sectors_kb; 0 if no request can now be larger than a slot. */
static int limit_requests(const char *name, uint32_t slot_bytes,
			  uint64_t *ret_kbytes)
{
	uint64_t got = 0;
	char text[32];
	int rc;

	snprintf(text, sizeof(text), "%u", slot_bytes / KIB);
	rc = blockdev_write(name, "queue/max_sectors_kb", text);
	if (blockdev_read_number(name, "queue/max_sectors_kb", &got))
		return rc ? rc : -EIO;
	*ret_kbytes = got;
	return got <= slot_bytes / KIB ? 0 : rc ? rc : -EIO;
}

static int limit_failed(const char *name, uint32_t slot_bytes, int rc,
			struct err *err)
{
	static const struct err_hint hints[] = {
		{ EACCES, X_PERMISSION, "run as root" },
		{ 0, X_FAILURE, "choose another --slot-size" },
	};

	return err_explain(err, hints, -rc,
			   "cannot set the largest request of /dev/%s to %u KiB",
			   name, slot_bytes / KIB);
}

int blockdev_limit(const char *name, uint32_t slot_bytes, struct err *err)
{
	uint64_t kbytes;
	int rc;

	if (!blockdev_exists(name))
		return -ENOENT;
	rc = limit_requests(name, slot_bytes, &kbytes);
	return rc ? limit_failed(name, slot_bytes, rc, err) : 0;
}

/*
 * Settings that make the device faster or recovery quicker; the device works
 * without them. A kernel without write-back throttling has nothing to switch
 * off, hence `optional`.
 */
static const struct setting {
	const char *attribute;
	const char *value;  /* NULL: nr_requests */
	const char *expect; /* as read back; NULL: the value itself */
	const char *label;
	bool optional;
} settings[] = {
	{ "queue/scheduler", "none", "[none]", "scheduler none", false },
	{ "queue/wbt_lat_usec", "0", NULL, "wbt off", true },
	{ "queue/io_timeout", "1000", NULL, "io_timeout 1 s", false },
	/* After the scheduler, whose change sets it back. */
	{ "queue/nr_requests", NULL, NULL, "nr_requests", false },
};
_Static_assert(BLOCKDEV_IO_TIMEOUT_MS == 1000, "as the table has it");

static bool apply(const char *name, const struct setting *s, char *got,
		  size_t got_bytes)
{
	const char *expect = s->expect ? s->expect : s->value;
	int rc;

	/* The value counts, not the write: it may have been right before. */
	(void)blockdev_write(name, s->attribute, s->value);
	rc = blockdev_read(name, s->attribute, got, got_bytes);
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

int blockdev_tune(const char *name, uint32_t slot_bytes, uint32_t nr_requests,
		  struct stats_guarantee rows[STATS_GUARANTEES],
		   struct err *err)
{
	char good[100] = "", got[128], number[16];
	uint64_t kbytes = 0;
	size_t i, used = 0;
	bool all = true;
	int rc;

	rc = limit_requests(name, slot_bytes, &kbytes);
	if (rc) {
		stats_guarantee_set(rows, BLOCKDEV_ROW, GUARANTEE_MISSING,
				    "max_sectors_kb is %llu, wanted %u: %s",
				    (unsigned long long)kbytes,
				    slot_bytes / KIB, strerror(-rc));
		return limit_failed(name, slot_bytes, rc, err);
	}
	if (measure_left_out(MEASURE_TUNE))
		return 0;
	for (i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		struct setting s = settings[i];

		snprintf(number, sizeof(number), "%u", nr_requests);
		if (!s.value && !nr_requests)
			continue;
		if (!s.value)
			s.value = number;
		if (!apply(name, &s, got, sizeof(got))) {
			all = false;
			stats_guarantee_set(rows, BLOCKDEV_ROW, GUARANTEE_DEGRADED,
					    "%s is %.40s, wanted %s",
					    s.attribute, got, s.value);
			continue;
		}
		used += (size_t)snprintf(good + used, sizeof(good) - used,
					 ", %s%s%s", s.label,
					 settings[i].value ? "" : " ",
					 settings[i].value ? "" : number);
	}
	if (all)
		stats_guarantee_set(rows, BLOCKDEV_ROW, GUARANTEE_OK,
				    "max_sectors_kb %llu%s",
				    (unsigned long long)kbytes, good);
	return 0;
}

static const char *const saved_attributes[BLOCKDEV_SAVED] = {
	"queue/max_sectors_kb",
	"queue/scheduler",
	"queue/wbt_lat_usec",
	"queue/io_timeout",
};

void blockdev_save(const char *name, struct blockdev_saved *ret_saved)
{
	char text[128];
	size_t i;

	*ret_saved = (struct blockdev_saved){ 0 };
	for (i = 0; i < BLOCKDEV_SAVED; i++) {
		char *from = text, *end;

		if (blockdev_read(name, saved_attributes[i], text,
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

void blockdev_restore(const char *name, const struct blockdev_saved *saved)
{
	size_t i;

	for (i = 0; i < BLOCKDEV_SAVED; i++) {
		if (saved->value[i][0])
			(void)blockdev_write(name, saved_attributes[i],
					      saved->value[i]);
	}
}

/* The node that udev or devtmpfs made, and of the right device. */
static bool node_ready(const char *name)
{
	char path[256], number[32], expected[32];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", blockdev_dev_root, name);
	if (stat(path, &st) || !S_ISBLK(st.st_mode) ||
	    blockdev_read(name, "dev", number, sizeof(number)) < 0)
		return false;
	snprintf(expected, sizeof(expected), "%u:%u", major(st.st_rdev),
		 minor(st.st_rdev));
	return !strcmp(number, expected);
}

int blockdev_wait_ready(const char *name, uint64_t size_bytes,
			 uint32_t timeout_ms, struct err *err)
{
	uint64_t deadline = clock_now_ns() + timeout_ms * NS_PER_MS;
	uint64_t size = 0;
	bool node;

	do {
		node = node_ready(name);
		/* The kernel cuts a size down to whole sectors. */
		if (node && !blockdev_size(name, &size) &&
		    size == size_bytes / 512 * 512)
			return 0;
	} while (wait_until(deadline));
	if (!node)
		return err_set(err, X_FAILURE, ETIMEDOUT,
			       "no %s/%s appeared; is udev or devtmpfs "
			       "there?", blockdev_dev_root, name);
	return err_set(err, X_FAILURE, ETIMEDOUT,
		       "/dev/%s has %llu bytes, expected %llu; see dmesg",
		       name, (unsigned long long)size,
		       (unsigned long long)size_bytes);
}

