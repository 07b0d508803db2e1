// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The kernel's reserve, shared by all daemons of the host: a ledger says which
 * device asked for how much and what the sysctls were before, so that the last
 * one out restores them and a dead daemon's part is given back.
 *
 * Owns RUN_DIR/ledger, under a lock on RUN_DIR/ledger.lock. Control thread and
 * command line; blocks, for a bounded time, while another process has the lock.
 *
 * The file is replaced as a whole, so a crash leaves the old or the new one:
 *
 *	nbd-client-ledger 1
 *	sysctl min_free_kbytes original=67584 set=83968 pending=83968
 *	device nbd0 pid=123 start=456 kbytes=2730 explicit=0
 *
 * `pending` is what we are about to write, `set` what is known to be written:
 * whichever of the two the kernel shows is ours, anything else is not.
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
#include "nbd-client/procfile.h"
#include "nbd-client/stats.h"

#define LEDGER_HEAD "nbd-client-ledger 1\n"
#define LEDGER_DEVICES 64u
#define LEDGER_LINE_BYTES 160u

/* Who holds the lock writes a few small files. */
#define LOCK_TIMEOUT_MS 5000u
#define LOCK_POLL_MS 5

struct device_entry {
	char name[DEVICE_NAME_BYTES];
	pid_t pid;
	uint64_t start;
	uint64_t kbytes;
	uint64_t explicit_kbytes; /* 0: none; else kbytes does not count */
};

/* Valid only while there are devices. */
struct sysctl_entry {
	uint64_t original;
	uint64_t set;
	uint64_t pending;
};

struct ledger {
	int lock_fd;
	uint32_t device_count;
	struct device_entry devices[LEDGER_DEVICES];
	struct sysctl_entry sysctls[1];
	bool loaded[1];
};

/*
 * The sysctls that we change: for each what it ought to be, given who is there
 * and what it was before. Another row is all that another sysctl needs.
 */
static uint64_t min_free_wanted(const struct ledger *ledger, uint64_t original,
				bool *ret_limited);

static const struct ledger_sysctl {
	const char *name; /* below PROC/sys/vm */
	uint64_t (*wanted)(const struct ledger *ledger, uint64_t original,
			   bool *ret_limited);
} sysctls[] = {
	{ "min_free_kbytes", min_free_wanted },
};
#define SYSCTL_COUNT (sizeof(sysctls) / sizeof(sysctls[0]))
_Static_assert(SYSCTL_COUNT == sizeof(((struct ledger *)0)->sysctls) /
				       sizeof(struct sysctl_entry),
	       "an entry for each sysctl");

/* ---- Sums ---- */

/*
 * What the kernel may hold on our behalf has to fit into the part of the
 * reserve that only SOCK_MEMALLOC and PF_MEMALLOC reach, which is 3/8 of
 * min_free_kbytes (mm/page_alloc.c, __zone_watermark_ok): hence 8/3 of the sum.
 * Socket buffer sizes as read back are limits of truesize already, the kernel
 * doubles what is asked.
 *
 *   to the server       SO_SNDBUF: what is sent and not acknowledged
 *   from the server     SO_RCVBUF: what has come and not been read
 *   kernel to us        SO_SNDBUF of the kernel's end: requests not yet read
 *   us to the kernel    SO_SNDBUF of our end: answers not yet read
 */
uint64_t host_needs_kbytes(const struct host_needs *needs)
{
	uint64_t bytes = needs->link_send_bytes + needs->link_receive_bytes +
			 needs->front_send_bytes + needs->front_receive_bytes;

	return (bytes * 8 / 3 + KIB - 1) / KIB;
}

static uint64_t memory_kbytes(void)
{
	char path[256], text[256];
	uint64_t kbytes;

	snprintf(path, sizeof(path), "%s/meminfo", host_paths.proc);
	/* MemTotal is the first line. */
	if (procfile_read(path, text, sizeof(text)) < 0 ||
	    procfile_find_number(text, "MemTotal", &kbytes))
		return UINT64_MAX;
	return kbytes;
}

/*
 * HOST_SHARED_KBYTES once: receive rings of the network cards are refilled with
 * GFP_ATOMIC, which reaches 5/8 of the reserve. 16 MiB · 5/8 = 10 MiB, that is
 * a ring of 1024 descriptors with a page of 4 KiB each (4 MiB), the same once
 * more while the packets are on their way through TCP (4 MiB), and what is
 * answered to ARP and with ACKs. Measured, a guest with virtio-net survives
 * with 16 MiB and not with less.
 * Then the sum of what the devices need.
 */
static uint64_t min_free_wanted(const struct ledger *ledger, uint64_t original,
				bool *ret_limited)
{
	uint64_t sum = 0, explicit_max = 0, wanted = original, limit;
	uint32_t i, derived = 0;

	for (i = 0; i < ledger->device_count; i++) {
		const struct device_entry *d = &ledger->devices[i];

		if (d->explicit_kbytes > explicit_max)
			explicit_max = d->explicit_kbytes;
		if (d->explicit_kbytes)
			continue;
		sum += d->kbytes;
		derived++;
	}
	if (derived)
		sum += HOST_SHARED_KBYTES;
	limit = memory_kbytes() / HOST_MEMORY_DIVISOR;
	*ret_limited = sum > limit && limit > explicit_max;
	if (sum > limit)
		sum = limit;
	if (sum > wanted)
		wanted = sum;
	if (explicit_max > wanted)
		wanted = explicit_max;
	return wanted;
}

/* ---- The file ---- */

static void ledger_path(const char *suffix, char *path, size_t path_bytes)
{
	snprintf(path, path_bytes, "%s/ledger%s", host_paths.run_dir, suffix);
}

static int ledger_failed(int rc, const char *what, struct err *err)
{
	char path[256];
	bool denied = rc == -EACCES || rc == -EPERM;

	ledger_path("", path, sizeof(path));
	return err_set(err, denied ? X_PERMISSION : X_FAILURE, -rc,
		       "cannot %s %s: %s%s", what, path, strerror(-rc),
		       denied ? "; run as root" : "");
}

static int lock(struct ledger *ledger, struct err *err)
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

static void unlock(struct ledger *ledger)
{
	close(ledger->lock_fd);
}

static bool parse_line(struct ledger *ledger, const char *line)
{
	struct device_entry *d;
	struct sysctl_entry s;
	char name[32];
	size_t i;

	if (sscanf(line, "sysctl %31s original=%" SCNu64 " set=%" SCNu64
			 " pending=%" SCNu64,
		   name, &s.original, &s.set, &s.pending) == 4) {
		for (i = 0; i < SYSCTL_COUNT; i++) {
			if (!strcmp(name, sysctls[i].name)) {
				ledger->sysctls[i] = s;
				ledger->loaded[i] = true;
				return true;
			}
		}
		return false;
	}
	if (ledger->device_count == LEDGER_DEVICES)
		return false;
	d = &ledger->devices[ledger->device_count];
	if (sscanf(line, "device %31s pid=%d start=%" SCNu64 " kbytes=%" SCNu64
			 " explicit=%" SCNu64,
		   d->name, &d->pid, &d->start, &d->kbytes,
		   &d->explicit_kbytes) != 5)
		return false;
	ledger->device_count++;
	return true;
}

/* No file: an empty ledger. */
static int load(struct ledger *ledger, struct err *err)
{
	char text[LEDGER_DEVICES * LEDGER_LINE_BYTES], path[256];
	char *line, *next;
	int rc;

	ledger->device_count = 0;
	memset(ledger->loaded, 0, sizeof(ledger->loaded));
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
		if (!parse_line(ledger, line))
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

static int save(const struct ledger *ledger, struct err *err)
{
	char text[LEDGER_DEVICES * LEDGER_LINE_BYTES] = LEDGER_HEAD;
	bool fits = true;
	uint32_t i;

	for (i = 0; i < SYSCTL_COUNT; i++) {
		const struct sysctl_entry *s = &ledger->sysctls[i];

		fits &= add(text, sizeof(text),
			    "sysctl %s original=%" PRIu64 " set=%" PRIu64
			    " pending=%" PRIu64 "\n",
			    sysctls[i].name, s->original, s->set, s->pending);
	}
	for (i = 0; i < ledger->device_count; i++) {
		const struct device_entry *d = &ledger->devices[i];

		fits &= add(text, sizeof(text),
			    "device %s pid=%d start=%" PRIu64 " kbytes=%" PRIu64
			    " explicit=%" PRIu64 "\n",
			    d->name, d->pid, d->start, d->kbytes,
			    d->explicit_kbytes);
	}
	return fits ? save_file(text, err) : ledger_failed(-E2BIG, "write", err);
}

static int drop(struct err *err)
{
	char path[256];

	ledger_path("", path, sizeof(path));
	if (unlink(path) && errno != ENOENT)
		return ledger_failed(-errno, "remove", err);
	return 0;
}

/* ---- Changes ---- */

static void remove_entry(struct ledger *ledger, uint32_t i)
{
	ledger->devices[i] = ledger->devices[--ledger->device_count];
}

static void remove_name(struct ledger *ledger, const char *name)
{
	uint32_t i = 0;

	while (i < ledger->device_count) {
		if (!strcmp(ledger->devices[i].name, name))
			remove_entry(ledger, i);
		else
			i++;
	}
}

static void remove_dead(struct ledger *ledger)
{
	uint32_t i = 0;

	while (i < ledger->device_count) {
		const struct device_entry *d = &ledger->devices[i];

		if (host_process_alive(d->pid, d->start))
			i++;
		else
			remove_entry(ledger, i);
	}
}

static void sysctl_path(size_t i, char *path, size_t path_bytes)
{
	snprintf(path, path_bytes, "%s/sys/vm/%s", host_paths.proc,
		 sysctls[i].name);
}

static int sysctl_failed(int rc, size_t i, const char *what, struct err *err)
{
	bool denied = rc == -EACCES || rc == -EPERM || rc == -EROFS;

	return err_set(err, denied ? X_PERMISSION : X_FAILURE, -rc,
		       "cannot %s vm.%s: %s%s", what, sysctls[i].name,
		       strerror(-rc),
		       denied ? "; run as root, outside any container" : "");
}

/* Writes a sysctl between two savings of the ledger, and reads it back. */
static int change(struct ledger *ledger, size_t i, uint64_t value,
		  struct err *err)
{
	struct sysctl_entry *s = &ledger->sysctls[i];
	char path[256], text[32];
	uint64_t got;
	int rc;

	s->pending = value;
	rc = save(ledger, err);
	if (rc)
		return rc;
	sysctl_path(i, path, sizeof(path));
	snprintf(text, sizeof(text), "%" PRIu64, value);
	rc = procfile_write(path, text);
	if (!rc)
		rc = procfile_read_number(path, &got);
	if (!rc && got != value)
		rc = -EIO;
	if (rc) {
		s->pending = s->set;
		(void)save(ledger, NULL);
		return sysctl_failed(rc, i, "write", err);
	}
	s->set = value;
	return 0;
}

static void note_foreign(char *note, size_t i, uint64_t value, uint64_t ours)
{
	if (note)
		snprintf(note, HOST_NOTE_BYTES,
			 "vm.%s stays at %" PRIu64 ": somebody else changed it "
			 "from our %" PRIu64, sysctls[i].name, value, ours);
}

/*
 * Brings one sysctl to what the devices in the ledger need. What somebody else
 * has set counts as the original from now on. `lower`: a device has left, which
 * is no reason to touch such a value, nor ever to raise one.
 */
static int adjust(struct ledger *ledger, size_t i, bool lower, char *note,
		  bool *ret_limited, struct err *err)
{
	struct sysctl_entry *s = &ledger->sysctls[i];
	uint64_t current, wanted;
	char path[256];
	int rc;

	sysctl_path(i, path, sizeof(path));
	rc = procfile_read_number(path, &current);
	if (rc)
		return sysctl_failed(rc, i, "read", err);
	if (!ledger->loaded[i]) {
		*s = (struct sysctl_entry){ current, current, current };
		ledger->loaded[i] = true;
	} else if (current != s->set && current != s->pending) {
		if (lower)
			note_foreign(note, i, current, s->set);
		*s = (struct sysctl_entry){ current, current, current };
		if (lower)
			return 0;
	} else {
		s->set = s->pending = current;
	}
	wanted = sysctls[i].wanted(ledger, s->original, ret_limited);
	if (wanted == current || (lower && wanted > current))
		return 0;
	return change(ledger, i, wanted, err);
}

static int adjust_all(struct ledger *ledger, bool lower, char *note,
		      bool *ret_limited, struct err *err)
{
	size_t i;
	int rc = 0, one;

	for (i = 0; i < SYSCTL_COUNT; i++) {
		one = adjust(ledger, i, lower, note, ret_limited,
			     rc ? NULL : err);
		if (!rc)
			rc = one;
	}
	/* A value that could not be restored stays in the ledger. */
	if (!rc && !ledger->device_count)
		return drop(err);
	one = save(ledger, rc ? NULL : err);
	return rc ? rc : one;
}

static void report(const struct ledger *ledger, bool limited, int rc,
		   const struct err *err, struct stats_guarantee *rows)
{
	const struct sysctl_entry *s = &ledger->sysctls[0];

	if (rc)
		stats_guarantee_replace(rows, HOST_ROW_RESERVE,
					GUARANTEE_MISSING, "%.90s", err->text);
	else if (limited)
		stats_guarantee_replace(rows, HOST_ROW_RESERVE,
					GUARANTEE_DEGRADED,
					"min_free_kbytes %" PRIu64 ": cut to "
					"1/%u of memory; --min-free overrides",
					s->set, HOST_MEMORY_DIVISOR);
	else
		stats_guarantee_replace(rows, HOST_ROW_RESERVE, GUARANTEE_OK,
					"min_free_kbytes %" PRIu64 ", before "
					"%" PRIu64 ", shared by %u",
					s->set, s->original,
					ledger->device_count);
}

int host_reserve_raise(const char *name, uint64_t device_kbytes,
		       uint64_t explicit_kbytes,
		       struct stats_guarantee rows[STATS_GUARANTEES],
		       struct err *err)
{
	struct device_entry entry = { .pid = getpid(),
				      .kbytes = device_kbytes,
				      .explicit_kbytes = explicit_kbytes };
	struct ledger ledger = { .device_count = 0 };
	struct err failure = { 0 };
	bool limited = false;
	int rc;

	rc = host_process_start(entry.pid, &entry.start);
	if (rc)
		rc = ledger_failed(rc, "enter this process into", &failure);
	else
		rc = lock(&ledger, &failure);
	if (rc)
		goto out;
	rc = load(&ledger, &failure);
	if (!rc) {
		remove_dead(&ledger);
		remove_name(&ledger, name);
	}
	if (!rc && ledger.device_count == LEDGER_DEVICES)
		rc = ledger_failed(-E2BIG, "enter a device into", &failure);
	if (!rc) {
		snprintf(entry.name, sizeof(entry.name), "%s", name);
		ledger.devices[ledger.device_count++] = entry;
		rc = adjust_all(&ledger, false, NULL, &limited, &failure);
		if (rc) {
			remove_name(&ledger, name);
			(void)save(&ledger, NULL);
		}
	}
	unlock(&ledger);
out:
	report(&ledger, limited, rc, &failure, rows);
	if (rc && err)
		*err = failure;
	return rc;
}

/* name NULL: only the dead. */
static int give_back(const char *name, char *note, struct err *err)
{
	struct ledger ledger = { .device_count = 0 };
	bool limited;
	uint32_t before;
	int rc;

	if (note)
		*note = '\0';
	rc = lock(&ledger, err);
	if (rc)
		return rc;
	rc = load(&ledger, err);
	if (!rc) {
		before = ledger.device_count;
		remove_dead(&ledger);
		if (name)
			remove_name(&ledger, name);
		if (ledger.device_count != before || !ledger.device_count)
			rc = adjust_all(&ledger, true, note, &limited, err);
	}
	unlock(&ledger);
	return rc;
}

int host_reserve_release(const char *name, char ret_note[HOST_NOTE_BYTES],
			 struct err *err)
{
	return give_back(name, ret_note, err);
}

int host_drop_stale(char ret_note[HOST_NOTE_BYTES], struct err *err)
{
	char path[256];

	/* Nothing was ever raised: do not make a directory to find that out. */
	ledger_path("", path, sizeof(path));
	if (access(path, F_OK) && errno == ENOENT) {
		if (ret_note)
			*ret_note = '\0';
		return 0;
	}
	return give_back(NULL, ret_note, err);
}

int host_min_free_kbytes(uint64_t *ret_kbytes)
{
	char path[256];

	sysctl_path(0, path, sizeof(path));
	return procfile_read_number(path, ret_kbytes);
}
