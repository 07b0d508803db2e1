// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The status page of a device: made by its daemon, read by anybody.
 *
 * Owns the file RUN_DIR/nbd0.stats and its mapping. The control thread makes
 * and removes it; who writes which field stands in include/ctl.h. The reading
 * half belongs to the command line and may allocate.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "nbd-client/handover.h"
#include "nbd-client/host.h"
#include "nbd-client/stats.h"

#define SUFFIX ".stats"
#define UNMADE ".new" /* behind that, until it is whole */

const char *stats_run_dir = RUN_DIR;

static void page_path(const char *name, const char *suffix, char *path,
		      size_t path_bytes)
{
	snprintf(path, path_bytes, "%s/%s" SUFFIX "%s", stats_run_dir, name,
		 suffix);
}

/* ---- The daemon's side ---- */

static int create_failed(const char *path, int error, struct err *err)
{
	static const struct err_hint hints[] = {
		{ EACCES, X_PERMISSION, "run as root" },
		{ EPERM, X_PERMISSION, "run as root" },
		{ 0, X_FAILURE, "is the file system of /run full?" },
	};

	return err_explain(err, hints, error, "cannot make %s", path);
}

static int refuse_second(const char *name, struct err *err)
{
	const struct stats_page *page;
	int rc = 0;

	if (stats_open(name, &page, NULL))
		return 0;
	if (stats_alive(page) && page->state != STATS_GONE)
		rc = err_set(err, X_BUSY, EBUSY,
			     "/dev/%s is attached already, by process %d; "
			     "detach it first", name, page->pid);
	stats_close(page);
	return rc;
}

static void fill_in(struct stats_page *page, const char *name)
{
	memcpy(page->magic, STATS_MAGIC, sizeof(page->magic));
	page->version = STATS_VERSION;
	page->page_bytes = sizeof(*page);
	page->handover = HANDOVER_LAYOUT;
	page->pid = getpid();
	(void)host_process_start(page->pid, &page->pid_start);
	page->attached_at = (uint64_t)time(NULL);
	page->link_since = page->attached_at;
	snprintf(page->device, sizeof(page->device), "/dev/%s", name);
	page->state = STATS_ATTACHING;
}

/*
 * A file of full size: later nothing has to be allocated. The pages of tmpfs
 * can be swapped out; mlockall(MCL_FUTURE) in the daemon locks them.
 */
static int make_page(const char *path, struct stats_page **ret_page)
{
	struct stats_page *page = MAP_FAILED;
	int fd, rc;

	(void)unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	/* Whatever the umask: everybody may look. */
	rc = fchmod(fd, 0644) ? -errno : 0;
	if (!rc)
		rc = -posix_fallocate(fd, 0, sizeof(*page));
	if (!rc)
		page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE,
			    MAP_SHARED, fd, 0);
	if (!rc && page == MAP_FAILED)
		rc = -errno;
	close(fd);
	if (rc)
		(void)unlink(path);
	else
		*ret_page = page;
	return rc;
}

static int create(const char *name, const struct stats_page *before,
		  struct stats_page **ret_page, struct err *err)
{
	char path[256], temp[256];
	struct stats_page *page = NULL;
	int rc;

	if (mkdir(stats_run_dir, 0755) && errno != EEXIST)
		return create_failed(stats_run_dir, errno, err);
	rc = refuse_second(name, err);
	if (rc)
		return rc;
	page_path(name, "", path, sizeof(path));
	page_path(name, UNMADE, temp, sizeof(temp));
	rc = make_page(temp, &page);
	if (!page)
		return create_failed(temp, -rc, err);
	fill_in(page, name);
	page->upgrades = before->upgrades;
	page->upgrades_refused = before->upgrades_refused;
	if (rename(temp, path)) {
		rc = create_failed(path, errno, err);
		(void)unlink(temp);
		munmap(page, sizeof(*page));
		return rc;
	}
	*ret_page = page;
	return 0;
}

int stats_create(const char *name, struct stats_page **ret_page,
		 struct err *err)
{
	static const struct stats_page none;

	return create(name, &none, ret_page, err);
}

int stats_create_again(const char *name, struct stats_page **ret_page,
		       struct err *err)
{
	static struct stats_page head;
	const struct stats_page *old;
	struct stats_page *page;
	char path[256];
	int fd;

	if (stats_open(name, &old, NULL) < 0) {
		(void)stats_read_head(name, &head, NULL);
		return create(name, &head, ret_page, err);
	}
	stats_close(old);
	page_path(name, "", path, sizeof(path));
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_explain(err, NULL, errno, "cannot open %s", path);
	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    0);
	close(fd);
	if (page == MAP_FAILED)
		return err_explain(err, NULL, errno, "cannot map %s", path);
	*ret_page = page;
	return 0;
}

void stats_remove(const char *name, struct stats_page *page)
{
	char path[256];

	page_path(name, "", path, sizeof(path));
	(void)unlink(path);
	if (page)
		munmap(page, sizeof(*page));
}

/* ---- The reader's side ---- */

static int damaged(const char *name, struct err *err)
{
	return err_set(err, X_FAILURE, EBADMSG,
		       "the status file of %s is damaged; detach it with --force",
		       name);
}

static int check_page(const char *name, const struct stats_page *page,
		      struct err *err)
{
	/* Strings from another process: they must end. */
	if (!memchr(page->device, 0, sizeof(page->device)) ||
	    !memchr(page->front, 0, sizeof(page->front)) ||
	    !memchr(page->uri, 0, sizeof(page->uri)))
		return damaged(name, err);
	return 0;
}

static int open_file(const char *name, int *ret_fd, struct err *err)
{
	char path[256];
	int fd;

	page_path(name, "", path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return err_set(err, X_NOT_FOUND, ENOENT,
			       "%s is not attached; \"nbd-client list\" shows "
			       "what is", name);
	if (fd < 0)
		return err_explain(err, NULL, errno, "cannot read %s", path);
	*ret_fd = fd;
	return 0;
}

static int read_head(int fd, const char *name, struct stats_page *ret,
		     struct err *err)
{
	const size_t bytes = offsetof(struct stats_page, slots);

	memset(ret, 0, sizeof(*ret));
	if (pread(fd, ret, bytes, 0) != (ssize_t)bytes ||
	    memcmp(ret->magic, STATS_MAGIC, sizeof(ret->magic)) != 0)
		return damaged(name, err);
	return 0;
}

int stats_read_head(const char *name, struct stats_page *ret, struct err *err)
{
	int fd, rc = open_file(name, &fd, err);

	if (rc)
		return rc;
	rc = read_head(fd, name, ret, err);
	close(fd);
	return rc;
}

/* Shorter than a page: reading its mapping would be SIGBUS. */
static int check_file(int fd, const char *name, struct err *err)
{
	static struct stats_page head;
	struct stat st;
	int rc = read_head(fd, name, &head, err);

	if (rc)
		return rc;
	if (head.version != STATS_VERSION || head.page_bytes != sizeof(head))
		return err_set(err, X_FAILURE, EPROTONOSUPPORT,
			       "%s was attached by another version of nbd-client; use that one, or "
			       "have this one serve it: \"nbd-client upgrade %s\"",
			       name, name);
	if (fstat(fd, &st) || st.st_size != (off_t)sizeof(head))
		return damaged(name, err);
	return 0;
}

int stats_open(const char *name, const struct stats_page **ret_page,
	       struct err *err)
{
	const struct stats_page *page;
	int fd, rc = open_file(name, &fd, err);

	if (rc)
		return rc;
	rc = check_file(fd, name, err);
	if (rc) {
		close(fd);
		return rc;
	}
	page = mmap(NULL, sizeof(*page), PROT_READ, MAP_SHARED, fd, 0);
	rc = page == MAP_FAILED ? -errno : 0;
	close(fd);
	if (rc)
		return err_explain(err, NULL, -rc,
				   "cannot map the status file of %s", name);
	rc = check_page(name, page, err);
	if (rc) {
		stats_close(page);
		return rc;
	}
	*ret_page = page;
	return 0;
}

void stats_close(const struct stats_page *page)
{
	munmap((void *)(uintptr_t)page, sizeof(*page));
}

uint32_t stats_queues(const struct stats_page *page)
{
	uint32_t queues = page->queues;

	return queues > QUEUES_MAX ? QUEUES_MAX : queues ? queues : 1;
}

uint64_t stats_heartbeat_ns(const struct stats_page *page)
{
	uint64_t oldest_ns = page->data.heartbeat_ns;

	for (uint32_t i = 0; i < stats_queues(page) - 1; i++)
		if (page->more[i].heartbeat_ns < oldest_ns)
			oldest_ns = page->more[i].heartbeat_ns;
	return oldest_ns;
}

static void add_group(struct group *to, const struct group *from)
{
	to->limit_bytes += from->limit_bytes;
	to->usage_bytes += from->usage_bytes;
	to->peak_bytes += from->peak_bytes;
	to->denied += from->denied;
}

/* Of two times; 0 is none. */
static uint64_t earlier(uint64_t a, uint64_t b)
{
	return !a || (b && b < a) ? b : a;
}

#define COUNTERS (offsetof(struct stats_data, tid) / sizeof(uint64_t))

/* All that stands before tid is a number of 64 bits. */
static void add_data(struct stats_data *to, const struct stats_data *from)
{
	uint64_t *sums = (uint64_t *)to;
	const uint64_t *values = (const uint64_t *)from;
	uint64_t low = to->low | from->low;
	uint64_t owed_since_ns = earlier(to->owed_since_ns,
					 from->owed_since_ns);

	for (size_t i = 0; i < COUNTERS; i++)
		sums[i] += values[i];
	to->low = low;
	to->owed_since_ns = owed_since_ns;
	for (size_t i = 0; i < STATS_GROUPS; i++)
		add_group(&to->groups[i], &from->groups[i]);
}

void stats_copy(const struct stats_page *page, struct stats_page *ret_copy)
{
	memcpy(ret_copy, page, sizeof(*ret_copy));
	for (uint32_t i = 0; i < stats_queues(ret_copy) - 1; i++)
		add_data(&ret_copy->data, &ret_copy->more[i]);
	ret_copy->data.heartbeat_ns = stats_heartbeat_ns(page);
}

bool stats_alive(const struct stats_page *page)
{
	return host_process_alive(page->pid, page->pid_start);
}

uint64_t stats_silent_ns(uint64_t heartbeat_ns, uint64_t now_ns)
{
	/* It may have beaten after the reader looked at the clock. */
	if (!heartbeat_ns || heartbeat_ns > now_ns)
		return 0;
	return now_ns - heartbeat_ns;
}

static bool ends_in(const struct dirent *entry, const char *suffix)
{
	size_t length = strlen(entry->d_name), end = strlen(suffix);

	return length > end && length < DEVICE_NAME_BYTES &&
	       !strcmp(entry->d_name + length - end, suffix);
}

static int is_page(const struct dirent *entry)
{
	return ends_in(entry, SUFFIX);
}

static int is_unmade(const struct dirent *entry)
{
	return ends_in(entry, SUFFIX UNMADE);
}

int stats_lock(void)
{
	int fd = open(stats_run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX) < 0) {
		close(fd);
		return -errno;
	}
	return fd;
}

void stats_drop_unmade(void)
{
	struct dirent **entries;
	int count = scandir(stats_run_dir, &entries, is_unmade, NULL);
	char path[512];

	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/%s", stats_run_dir,
			 entries[i]->d_name);
		(void)unlink(path);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

int stats_each(void (*on_page)(const char *name, const struct stats_page *page,
			       void *arg),
	       void *arg)
{
	const struct stats_page *page;
	struct dirent **entries;
	int count, i, unreadable = 0;

	/* nbd2 before nbd10 */
	count = scandir(stats_run_dir, &entries, is_page, versionsort);
	if (count < 0) /* no directory: nothing was ever attached */
		return errno == ENOENT ? 0 : -errno;
	for (i = 0; i < count; i++) {
		char *name = entries[i]->d_name;

		name[strlen(name) - strlen(SUFFIX)] = '\0';
		if (stats_open(name, &page, NULL)) {
			unreadable++;
		} else {
			on_page(name, page, arg);
			stats_close(page);
		}
		free(entries[i]);
	}
	free(entries);
	return unreadable;
}

uint64_t stats_percentile_us(const uint64_t buckets[STATS_BUCKETS],
			     uint32_t per_mille)
{
	uint64_t total = 0, seen = 0, rank;
	uint32_t i;

	for (i = 0; i < STATS_BUCKETS; i++)
		total += buckets[i];
	if (!total)
		return 0;
	/* The rank-th request in order of latency, counted from 1. */
	rank = total / 1000 * per_mille + (total % 1000 * per_mille + 999) /
						  1000;
	if (!rank)
		rank = 1;
	for (i = 0; i < STATS_BUCKETS - 1; i++) {
		seen += buckets[i];
		if (seen >= rank)
			break;
	}
	return (uint64_t)1 << i;
}

/* ---- Rows of guarantees ---- */

struct stats_guarantee *
stats_guarantee_find(struct stats_guarantee rows[STATS_GUARANTEES],
		     const char *name)
{
	size_t i;

	for (i = 0; i < STATS_GUARANTEES && rows[i].name[0]; i++) {
		if (!strcmp(rows[i].name, name))
			return &rows[i];
	}
	return NULL;
}

static void row_set(struct stats_guarantee *rows, const char *name, bool worse,
		    enum guarantee_state state, const char *fmt, va_list ap)
{
	struct stats_guarantee *row = stats_guarantee_find(rows, name);
	size_t i;

	for (i = 0; !row && i < STATS_GUARANTEES; i++) {
		if (!rows[i].name[0]) {
			row = &rows[i];
			snprintf(row->name, sizeof(row->name), "%s", name);
			row->state = GUARANTEE_OFF;
		}
	}
	if (!row || (worse && state < row->state))
		return;
	/* The first reason stays: the next ones mostly follow from it. */
	if (worse && state == row->state && state > GUARANTEE_OK)
		return;
	row->state = state;
	vsnprintf(row->detail, sizeof(row->detail), fmt, ap);
}

void stats_guarantee_set(struct stats_guarantee rows[STATS_GUARANTEES],
			 const char *name, enum guarantee_state state,
			 const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	row_set(rows, name, true, state, fmt, ap);
	va_end(ap);
}

void stats_guarantee_replace(struct stats_guarantee rows[STATS_GUARANTEES],
			     const char *name, enum guarantee_state state,
			     const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	row_set(rows, name, false, state, fmt, ap);
	va_end(ap);
}

/* ---- Names as printed ---- */

#define NAME_OF(names, value)                                                  \
	((value) < sizeof(names) / sizeof((names)[0]) ? (names)[value] : "?")

const char *stats_state_name(uint32_t state)
{
	static const char *const names[] = {
		[STATS_ATTACHING] = "attaching", [STATS_LIVE] = "live",
		[STATS_DETACHING] = "detaching", [STATS_GONE] = "gone",
	};

	return NAME_OF(names, state);
}

const char *stats_link_name(uint32_t link)
{
	static const char *const names[] = {
		[STATS_LINK_DOWN] = "down",
		[STATS_LINK_CONNECTING] = "connecting",
		[STATS_LINK_NEGOTIATING] = "negotiating",
		[STATS_LINK_TLS] = "tls-handshake",
		[STATS_LINK_READY] = "ready",
		[STATS_LINK_UP] = "up",
		[STATS_LINK_LOST] = "lost",
		[STATS_LINK_FENCE] = "fencing",
	};

	return NAME_OF(names, link);
}

const char *stats_records_name(uint32_t records)
{
	static const char *const names[] = {
		[STATS_RECORDS_NONE] = "none",
		[STATS_RECORDS_USER] = "user",
		[STATS_RECORDS_KERNEL] = "kernel",
	};

	return NAME_OF(names, records);
}

const char *stats_guarantee_name(uint32_t state)
{
	static const char *const names[] = {
		[GUARANTEE_OFF] = "off", [GUARANTEE_OK] = "ok",
		[GUARANTEE_DEGRADED] = "degraded",
		[GUARANTEE_MISSING] = "missing",
	};

	return NAME_OF(names, state);
}

const char *stats_shed_name(uint32_t shed)
{
	static const char *const names[] = {
		[STATS_SHED_OFF] = "off",
		[STATS_SHED_ARMED] = "armed",
		[STATS_SHED_SHEDDING] = "shedding",
	};

	return NAME_OF(names, shed);
}

const char *stats_op_name(uint32_t op)
{
	static const char *const names[STATS_OPS] = {
		[STATS_READ] = "read", [STATS_WRITE] = "write",
		[STATS_FLUSH] = "flush", [STATS_TRIM] = "trim",
		[STATS_ZEROES] = "zeroes",
	};

	return NAME_OF(names, op);
}
