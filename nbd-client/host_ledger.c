// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ledger as a file, under a lock on RUN_DIR/ledger.lock. Control thread and
 * command line; blocks, for a bounded time, while another process has the lock.
 *
 * The file is replaced as a whole, so a crash leaves the old or the new one:
 *
 *	nbd-client-ledger 2
 *	sysctl min_free_kbytes original=67584 set=83968 pending=83968
 *	device nbd0 pid=123 start=456 kbytes=2730 shared=16384 explicit=0 asks=3
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "nbd-client/host.h"
#include "nbd-client/host_ledger.h"
#include "nbd-client/procfile.h"

#define LEDGER_HEAD "nbd-client-ledger 2\n"
#define LEDGER_LINE_BYTES 208u
#define LEDGER_TEXT_BYTES ((LEDGER_DEVICES + LEDGER_SYSCTLS) * LEDGER_LINE_BYTES)

/* Who holds the lock writes a few small files. */
#define LOCK_TIMEOUT_MS 5000u
#define LOCK_POLL_MS 5

static const char *const sysctl_names[] = {
	[LEDGER_MIN_FREE] = "min_free_kbytes",
	[LEDGER_BOOST] = "watermark_boost_factor",
	[LEDGER_SCALE] = "watermark_scale_factor",
	[LEDGER_COMPACT] = "compact_unevictable_allowed",
};
_Static_assert(sizeof(sysctl_names) / sizeof(sysctl_names[0]) == LEDGER_SYSCTLS,
	       "a name for each sysctl");

const char *ledger_sysctl_name(enum ledger_sysctl_index i)
{
	return sysctl_names[i];
}

static void ledger_path(const char *suffix, char *path, size_t path_bytes)
{
	snprintf(path, path_bytes, "%s/ledger%s", host_paths.run_dir, suffix);
}

int ledger_failed(int rc, const char *what, struct err *err)
{
	char path[256];
	bool denied = rc == -EACCES || rc == -EPERM;

	ledger_path("", path, sizeof(path));
	return err_set(err, denied ? X_PERMISSION : X_FAILURE, -rc,
		       "cannot %s %s: %s%s", what, path, strerror(-rc),
		       denied ? "; run as root" : "");
}

int ledger_lock(struct ledger *ledger, struct err *err)
{
	uint64_t deadline = clock_now_ns() + LOCK_TIMEOUT_MS * NS_PER_MS;
	char path[256];

	if (mkdir(host_paths.run_dir, 0755) && errno != EEXIST)
		return ledger_failed(-errno, "lock", err);
	ledger_path(".lock", path, sizeof(path));
	ledger->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (ledger->lock_fd < 0)
		return ledger_failed(-errno, "lock", err);
	while (flock(ledger->lock_fd, LOCK_EX | LOCK_NB)) {
		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK || clock_now_ns() > deadline) {
			close(ledger->lock_fd);
			return err_set(err, X_BUSY, ETIMEDOUT,
				       "another nbd-client has held %s for %u "
				       "s; is it stopped?", path,
				       LOCK_TIMEOUT_MS / 1000);
		}
		poll(NULL, 0, LOCK_POLL_MS);
	}
	return 0;
}

void ledger_unlock(struct ledger *ledger)
{
	close(ledger->lock_fd);
}

static bool parse_sysctl(struct ledger *ledger, const char *line)
{
	struct ledger_sysctl s = { .known = true };
	char name[32];
	size_t i;

	if (sscanf(line, "sysctl %31s original=%" SCNu64 " set=%" SCNu64
			 " pending=%" SCNu64,
		   name, &s.original, &s.set, &s.pending) != 4)
		return false;
	for (i = 0; i < LEDGER_SYSCTLS; i++) {
		if (!strcmp(name, sysctl_names[i])) {
			ledger->sysctls[i] = s;
			return true;
		}
	}
	return false;
}

static bool parse_device(struct ledger *ledger, const char *line)
{
	struct ledger_device *d = &ledger->devices[ledger->device_count];

	if (ledger->device_count == LEDGER_DEVICES ||
	    sscanf(line, "device %31s pid=%d start=%" SCNu64 " kbytes=%" SCNu64
			 " shared=%" SCNu64 " explicit=%" SCNu64 " asks=%u",
		   d->name, &d->pid, &d->start, &d->kbytes, &d->shared_kbytes,
		   &d->explicit_kbytes, &d->asks) != 7)
		return false;
	ledger->device_count++;
	return true;
}

static bool is_there(const char *suffix)
{
	char path[256];

	ledger_path(suffix, path, sizeof(path));
	return access(path, F_OK) == 0 || errno != ENOENT;
}

bool ledger_exists(void)
{
	return is_there("") || is_there(".new");
}

int ledger_load(struct ledger *ledger, struct err *err)
{
	char text[LEDGER_TEXT_BYTES], path[256];
	char *line, *next;
	int rc;

	ledger->device_count = 0;
	memset(ledger->sysctls, 0, sizeof(ledger->sysctls));
	/* Of a process that has died amid ledger_save(). */
	ledger_path(".new", path, sizeof(path));
	(void)unlink(path);
	ledger_path("", path, sizeof(path));
	rc = procfile_read(path, text, sizeof(text));
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return ledger_failed(rc, "read", err);
	if (strncmp(text, LEDGER_HEAD, strlen(LEDGER_HEAD)))
		goto damaged;
	for (line = text + strlen(LEDGER_HEAD); line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (!parse_sysctl(ledger, line) &&
		    !parse_device(ledger, line))
			goto damaged;
	}
	return 0;
damaged:
	return err_set(err, X_FAILURE, EBADMSG,
		       "%s is damaged; set vm.min_free_kbytes to what you want "
		       "and remove the file", path);
}

/* Appends; false when it does not fit any more. */
static bool add(char *text, size_t text_bytes, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static bool add(char *text, size_t text_bytes, const char *fmt, ...)
{
	size_t used = strlen(text);
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text + used, text_bytes - used, fmt, ap);
	va_end(ap);
	return n >= 0 && (size_t)n < text_bytes - used;
}

static int save_file(const char *text, struct err *err)
{
	char path[256], temp[256];
	int fd, rc;

	ledger_path("", path, sizeof(path));
	ledger_path(".new", temp, sizeof(temp));
	fd = open(temp, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return ledger_failed(-errno, "write", err);
	close(fd);
	rc = procfile_write(temp, text);
	if (!rc && rename(temp, path))
		rc = -errno;
	if (rc) {
		(void)unlink(temp);
		return ledger_failed(rc, "write", err);
	}
	return 0;
}

static int drop_file(struct err *err)
{
	char path[256];

	ledger_path("", path, sizeof(path));
	if (unlink(path) && errno != ENOENT)
		return ledger_failed(-errno, "remove", err);
	return 0;
}

int ledger_save(const struct ledger *ledger, struct err *err)
{
	char text[LEDGER_TEXT_BYTES] = LEDGER_HEAD;
	bool fits = true, empty = !ledger->device_count;
	uint32_t i;

	for (i = 0; i < LEDGER_SYSCTLS; i++) {
		const struct ledger_sysctl *s = &ledger->sysctls[i];

		if (!s->known)
			continue;
		empty = false;
		fits &= add(text, sizeof(text),
			    "sysctl %s original=%" PRIu64 " set=%" PRIu64
			    " pending=%" PRIu64 "\n",
			    sysctl_names[i], s->original, s->set, s->pending);
	}
	for (i = 0; i < ledger->device_count; i++) {
		const struct ledger_device *d = &ledger->devices[i];

		fits &= add(text, sizeof(text),
			    "device %s pid=%d start=%" PRIu64 " kbytes=%" PRIu64
			    " shared=%" PRIu64 " explicit=%" PRIu64
			    " asks=%u\n",
			    d->name, d->pid, d->start, d->kbytes,
			    d->shared_kbytes, d->explicit_kbytes, d->asks);
	}
	if (empty)
		return drop_file(err);
	return fits ? save_file(text, err) : ledger_failed(-E2BIG, "write", err);
}

void ledger_remove(struct ledger *ledger, uint32_t i)
{
	ledger->devices[i] = ledger->devices[--ledger->device_count];
}

void ledger_remove_name(struct ledger *ledger, const char *name)
{
	uint32_t i = 0;

	while (i < ledger->device_count) {
		if (!strcmp(ledger->devices[i].name, name))
			ledger_remove(ledger, i);
		else
			i++;
	}
}
