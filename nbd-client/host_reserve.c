// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The kernel's reserve and what else of its memory management is shared by all
 * daemons of the host: a ledger says which device asked for how much and what
 * the sysctls were before, so that the last one out restores them and a dead
 * daemon's part is given back.
 *
 * Owns the sysctls. Control thread and command line; blocks, for a bounded
 * time, while another process has the ledger's lock.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "nbd-client/host.h"
#include "nbd-client/host_ledger.h"
#include "nbd-client/procfile.h"
#include "nbd-client/stats.h"

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
 * What strangers may hold counts once, however many devices there are: the
 * largest of what each of them has found. Then the sum of what the devices need.
 */
static uint64_t min_free_wanted(const struct ledger *ledger, uint64_t original,
				bool *ret_limited)
{
	uint64_t sum = 0, shared = 0, explicit_max = 0, wanted = original;
	uint64_t limit = memory_kbytes() / HOST_MEMORY_DIVISOR;
	uint32_t i;

	for (i = 0; i < ledger->device_count; i++) {
		const struct ledger_device *d = &ledger->devices[i];

		if (!(d->asks & LEDGER_ASKS_RESERVE))
			continue;
		if (d->explicit_kbytes > explicit_max)
			explicit_max = d->explicit_kbytes;
		if (d->explicit_kbytes)
			continue;
		sum += d->kbytes;
		if (d->shared_kbytes > shared)
			shared = d->shared_kbytes;
	}
	sum += shared;
	*ret_limited = sum > limit && limit > explicit_max;
	if (sum > limit)
		sum = limit;
	if (sum > wanted)
		wanted = sum;
	if (explicit_max > wanted)
		wanted = explicit_max;
	return wanted;
}

static bool sysctls_asked(const struct ledger *ledger)
{
	uint32_t i;

	for (i = 0; i < ledger->device_count; i++) {
		if (ledger->devices[i].asks & LEDGER_ASKS_SYSCTLS)
			return true;
	}
	return false;
}

/* Also for compact_unevictable_allowed: either is to be off. */
static uint64_t off_wanted(const struct ledger *ledger, uint64_t original,
			   bool *ret_limited)
{
	(void)ret_limited;
	return sysctls_asked(ledger) ? 0 : original;
}

/* The kernel's unit: 1/10000 of memory; and its limit. */
#define SCALE_UNIT 10000u
#define SCALE_MAX 1000u

/*
 * kswapd begins when less than `low` is free, ordinary tasks reclaim by
 * themselves below `min`. Between the two the kernel leaves a quarter of min, or
 * this part of memory if that is more (mm/page_alloc.c,
 * __setup_per_zone_wmarks). kswapd's first pages have to cross the network before
 * any becomes free, so it gets half of min instead, up to 1/32 of memory. From
 * some 5 GB on the kernel's default of 1/1000 is more than a quarter already.
 */
static uint64_t scale_wanted(const struct ledger *ledger, uint64_t original,
			     bool *ret_limited)
{
	uint64_t memory = memory_kbytes(), lead, scale;
	bool unused;

	(void)ret_limited;
	if (!sysctls_asked(ledger))
		return original;
	lead = min_free_wanted(ledger,
			       ledger->sysctls[LEDGER_MIN_FREE].original,
			       &unused) / 2;
	if (lead > memory / 32)
		lead = memory / 32;
	scale = lead * SCALE_UNIT / (memory ? memory : 1);
	if (scale > SCALE_MAX)
		scale = SCALE_MAX;
	return scale > original ? scale : original;
}

/*
 * What we change and why: min_free_kbytes is the reserve itself. The boost lifts
 * the watermarks after fragmentation by as much again, which makes everybody but
 * us wait for memory that is there. Compaction moves locked pages, and the data
 * thread that touches one meanwhile waits in a page fault. A kernel without one of
 * the latter has nothing to be changed.
 */
static uint64_t (*const wanted_of[LEDGER_SYSCTLS])(const struct ledger *ledger,
						   uint64_t original,
						   bool *ret_limited) = {
	[LEDGER_MIN_FREE] = min_free_wanted,
	[LEDGER_BOOST] = off_wanted,
	[LEDGER_SCALE] = scale_wanted,
	[LEDGER_COMPACT] = off_wanted,
};

/* ---- Changes ---- */

/* What a change of the host is told to; either may be missing. */
struct listener {
	char *note; /* HOST_NOTE_BYTES; only what others have changed */
	const struct host_tell *tell; /* everything */
};

static void tell(const struct listener *to, const char *subject,
		 const char *format, ...) __attribute__((format(printf, 3, 4)));
static void tell(const struct listener *to, const char *subject,
		 const char *format, ...)
{
	char text[HOST_NOTE_BYTES];
	va_list args;

	if (!to->tell)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	to->tell->line(to->tell->arg, subject, text);
}

static void remove_dead(struct ledger *ledger, const struct listener *to)
{
	uint32_t i = 0;

	while (i < ledger->device_count) {
		const struct ledger_device *d = &ledger->devices[i];
		uint64_t kbytes = 0;

		if (host_process_alive(d->pid, d->start)) {
			i++;
			continue;
		}
		if (d->asks & LEDGER_ASKS_RESERVE)
			kbytes = d->explicit_kbytes ? d->explicit_kbytes :
						      d->kbytes;
		tell(to, d->name,
		     "process %d has died: its %" PRIu64
		     " KiB of the kernel's reserve are taken back",
		     d->pid, kbytes);
		ledger_remove(ledger, i);
	}
}

static void sysctl_path(size_t i, char *path, size_t path_bytes)
{
	snprintf(path, path_bytes, "%s/sys/vm/%s", host_paths.proc,
		 ledger_sysctl_name(i));
}

static int sysctl_failed(int rc, size_t i, const char *what, struct err *err)
{
	bool denied = rc == -EACCES || rc == -EPERM || rc == -EROFS;

	return err_set(err, denied ? X_PERMISSION : X_FAILURE, -rc,
		       "cannot %s vm.%s: %s%s", what, ledger_sysctl_name(i),
		       strerror(-rc),
		       denied ? "; run as root, outside any container" : "");
}

/* Writes a sysctl between two savings of the ledger, and reads it back. */
static int change(struct ledger *ledger, size_t i, uint64_t value,
		  struct err *err)
{
	struct ledger_sysctl *s = &ledger->sysctls[i];
	char path[256], text[32];
	uint64_t got;
	int rc;

	s->known = true;
	s->pending = value;
	rc = ledger_save(ledger, err);
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
		s->known = s->set != s->original;
		(void)ledger_save(ledger, NULL);
		return sysctl_failed(rc, i, "write", err);
	}
	s->set = value;
	s->known = value != s->original;
	return 0;
}

static void tell_foreign(const struct listener *to, size_t i, uint64_t value,
			 uint64_t ours)
{
	size_t used = to->note ? strlen(to->note) : 0;
	char subject[64];

	if (to->note)
		snprintf(to->note + used, HOST_NOTE_BYTES - used,
			 "%svm.%s stays at %" PRIu64
			 ": somebody else changed it from our %" PRIu64,
			 used ? "; " : "", ledger_sysctl_name(i), value, ours);
	snprintf(subject, sizeof(subject), "vm.%s", ledger_sysctl_name(i));
	tell(to, subject,
	     "stays at %" PRIu64 ": somebody else changed it from our %" PRIu64,
	     value, ours);
}

/*
 * Brings one sysctl to what the devices in the ledger need. What somebody else
 * has set counts as the original from now on. `back`: a device has left, which
 * is no reason to touch such a value, nor ever to move one away from what it was
 * before us.
 */
static int adjust(struct ledger *ledger, size_t i, bool back,
		  const struct listener *to, bool *ret_limited, struct err *err)
{
	struct ledger_sysctl *s = &ledger->sysctls[i];
	uint64_t current, wanted;
	char path[256], subject[64];
	int rc;

	sysctl_path(i, path, sizeof(path));
	rc = procfile_read_number(path, &current);
	if (rc == -ENOENT && i != LEDGER_MIN_FREE) {
		s->known = false;
		return 0;
	}
	if (rc)
		return sysctl_failed(rc, i, "read", err);
	if (s->known && current != s->set && current != s->pending) {
		if (back)
			tell_foreign(to, i, current, s->set);
		s->known = false;
	}
	if (!s->known)
		s->original = current;
	s->set = s->pending = current;
	if (back && !s->known)
		return 0;
	wanted = wanted_of[i](ledger, s->original, ret_limited);
	if (wanted == current) {
		s->known = current != s->original;
		return 0;
	}
	if (back && (wanted > current) != (s->original > current))
		return 0;
	rc = change(ledger, i, wanted, err);
	if (!rc) {
		snprintf(subject, sizeof(subject), "vm.%s",
			 ledger_sysctl_name(i));
		tell(to, subject, "%" PRIu64 ", was %" PRIu64 "%s", wanted,
		     current, s->known ? "" : ": as before the first device");
	}
	return rc;
}

/*
 * The first failure counts, and that of min_free_kbytes ends it when raising.
 * Without the others a device is worse off, not lost: ret_other, then.
 */
static int adjust_all(struct ledger *ledger, bool back,
		      const struct listener *to, bool *ret_limited,
		      struct err *ret_other, struct err *err)
{
	bool unused;
	size_t i;
	int rc, one;

	rc = adjust(ledger, LEDGER_MIN_FREE, back, to, ret_limited, err);
	for (i = LEDGER_MIN_FREE + 1; i < LEDGER_SYSCTLS && (back || !rc);
	     i++)
		(void)adjust(ledger, i, back, to, &unused,
			     ret_other->text[0] ? NULL : ret_other);
	/* A value that could not be restored stays in the ledger. */
	one = ledger_save(ledger, rc ? NULL : err);
	return rc ? rc : one;
}

static void report_reserve(const struct ledger *ledger, bool limited, int rc,
			   const struct err *err, struct stats_guarantee *rows)
{
	const struct ledger_sysctl *s = &ledger->sysctls[LEDGER_MIN_FREE];

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

static void report_sysctls(const struct err *err, struct stats_guarantee *rows)
{
	char text[sizeof(rows->detail)] = "", path[256];
	uint64_t value;
	size_t i, used;

	if (err->text[0]) {
		stats_guarantee_replace(rows, HOST_ROW_SYSCTLS,
					GUARANTEE_DEGRADED, "%.90s", err->text);
		return;
	}
	for (i = LEDGER_MIN_FREE + 1; i < LEDGER_SYSCTLS; i++) {
		sysctl_path(i, path, sizeof(path));
		if (procfile_read_number(path, &value))
			continue;
		used = strlen(text);
		snprintf(text + used, sizeof(text) - used, "%s%s %" PRIu64,
			 used ? ", " : "", ledger_sysctl_name(i), value);
	}
	stats_guarantee_replace(rows, HOST_ROW_SYSCTLS, GUARANTEE_OK, "%s",
				*text ? text : "this kernel has none of them");
}

/* ---- Devices come and go ---- */

static int enter(struct ledger *ledger, const char *name,
		 const struct ledger_device *entry, bool *ret_limited,
		 struct err *ret_other, struct err *err)
{
	const struct listener nobody = { .note = NULL };
	struct ledger_device *d;
	int rc;

	remove_dead(ledger, &nobody);
	ledger_remove_name(ledger, name);
	if (ledger->device_count == LEDGER_DEVICES)
		return ledger_failed(-E2BIG, "enter a device into", err);
	d = &ledger->devices[ledger->device_count++];
	*d = *entry;
	snprintf(d->name, sizeof(d->name), "%s", name);
	rc = adjust_all(ledger, false, &nobody, ret_limited, ret_other, err);
	if (rc) {
		ledger_remove_name(ledger, name);
		(void)ledger_save(ledger, NULL);
	}
	return rc;
}

int host_reserve_raise(const char *name, const struct host_ask *ask,
		       struct stats_guarantee rows[STATS_GUARANTEES],
		       struct err *err)
{
	struct ledger_device entry = {
		.pid = getpid(),
		.kbytes = ask->device_kbytes,
		.shared_kbytes = ask->shared_kbytes,
		.explicit_kbytes = ask->explicit_kbytes,
		.asks = (ask->reserve ? LEDGER_ASKS_RESERVE : 0) |
			(ask->sysctls ? LEDGER_ASKS_SYSCTLS : 0),
	};
	struct ledger ledger = { .device_count = 0 };
	struct err failure = { 0 }, other = { 0 };
	bool limited = false;
	int rc;

	rc = host_process_start(entry.pid, &entry.start);
	if (rc)
		rc = ledger_failed(rc, "enter this process into", &failure);
	else
		rc = ledger_lock(&ledger, &failure);
	if (!rc) {
		rc = ledger_load(&ledger, &failure);
		if (!rc)
			rc = enter(&ledger, name, &entry, &limited, &other,
				   &failure);
		ledger_unlock(&ledger);
	}
	if (ask->reserve)
		report_reserve(&ledger, limited, rc, &failure, rows);
	if (ask->sysctls)
		report_sysctls(rc ? &failure : &other, rows);
	if (rc && err)
		*err = failure;
	return rc;
}

/* name NULL: only the dead. */
static int give_back(const char *name, const struct listener *to,
		     struct err *err)
{
	struct ledger ledger = { .device_count = 0 };
	struct err other = { 0 };
	bool limited;
	uint32_t before;
	int rc;

	if (to->note)
		*to->note = '\0';
	rc = ledger_lock(&ledger, err);
	if (rc)
		return rc;
	rc = ledger_load(&ledger, err);
	if (!rc) {
		before = ledger.device_count;
		remove_dead(&ledger, to);
		if (name)
			ledger_remove_name(&ledger, name);
		if (ledger.device_count != before || !ledger.device_count)
			rc = adjust_all(&ledger, true, to, &limited, &other,
					err);
	}
	ledger_unlock(&ledger);
	if (!rc && other.text[0]) {
		rc = -other.error;
		if (err)
			*err = other;
	}
	return rc;
}

int host_reserve_release(const char *name, char ret_note[HOST_NOTE_BYTES],
			 struct err *err)
{
	const struct listener to = { .note = ret_note };

	return give_back(name, &to, err);
}

int host_drop_stale(char ret_note[HOST_NOTE_BYTES], struct err *err)
{
	const struct listener to = { .note = ret_note };

	/* Nothing was ever raised: do not make a directory to find that out. */
	if (!ledger_exists()) {
		if (ret_note)
			*ret_note = '\0';
		return 0;
	}
	return give_back(NULL, &to, err);
}

int host_reserve_recover(const struct host_tell *to_tell, struct err *err)
{
	const struct listener to = { .tell = to_tell };

	return ledger_exists() ? give_back(NULL, &to, err) : 0;
}

int host_min_free_kbytes(uint64_t *ret_kbytes)
{
	char path[256];

	sysctl_path(LEDGER_MIN_FREE, path, sizeof(path));
	return procfile_read_number(path, ret_kbytes);
}
