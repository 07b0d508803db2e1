// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Protection of this process and its threads: set, read back, reported.
 *
 * Owns nothing but the paths. Control thread while setting up, except
 * host_protect_thread(), which each thread calls for itself. host_faults(),
 * host_locked_kbytes() and host_process_*() neither allocate nor use stdio
 * streams and may be called later.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/log.h"
#include "nbd-client/host.h"
#include "nbd-client/measure.h"
#include "nbd-client/procfile.h"
#include "nbd-client/stats.h"

/* Linux 5.6, glibc's headers may be older. */
#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#define PR_GET_IO_FLUSHER 58
#endif

/* Linux pages are no smaller. */
#define PAGE_MIN_BYTES 4096u

struct host_paths host_paths = { .run_dir = RUN_DIR, .proc = "/proc", .sys = "/sys",
				 .cgroup = "/sys/fs/cgroup" };

/* ---- the root directory ---- */

/* Of /proc while a root is waited for; it stays good when that is moved. */
static int watch_fd = -1;

static bool same_file(int dir_fd, const char *a, const char *b)
{
	struct stat one, other;

	return !fstatat(dir_fd, a, &one, 0) && !fstatat(dir_fd, b, &other, 0) &&
	       one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

void host_watch_root(void)
{
	struct statfs fs;

	/* What an initramfs is unpacked to. */
	if (statfs("/", &fs) ||
	    (fs.f_type != RAMFS_MAGIC && fs.f_type != TMPFS_MAGIC))
		return;
	watch_fd = open(host_paths.proc, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* In a container or name space of our own there is nobody to follow. */
	if (same_file(watch_fd, "self/ns/mnt", "1/ns/mnt") &&
	    same_file(watch_fd, "/", "1/root/."))
		return;
	if (watch_fd >= 0)
		close(watch_fd);
	watch_fd = -1;
}

void host_follow_root(void)
{
	int fd;

	if (watch_fd < 0 || same_file(watch_fd, "/", "1/root/."))
		return;
	fd = openat(watch_fd, "1/root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return; /* it is on its way */
	if (fchdir(fd) || chroot("."))
		log_say(LOG_LEVEL_ERR, "cannot follow to the new root: %s",
			strerror(errno));
	close(fd);
	close(watch_fd);
	watch_fd = -1;
}

/* ---- the process ---- */

/* A file of this process: "status", "oom_score_adj", "task/12/stat". */
static void self_path(const char *file, char *path, size_t path_bytes)
{
	snprintf(path, path_bytes, "%s/self/%s", host_paths.proc, file);
}

static int status_number(const char *key, uint64_t *ret_value)
{
	char path[256], text[4096];
	int rc;

	self_path("status", path, sizeof(path));
	rc = procfile_read(path, text, sizeof(text));
	return rc < 0 ? rc : procfile_find_number(text, key, ret_value);
}

int host_locked_kbytes(uint64_t *ret_kbytes)
{
	return status_number("VmLck", ret_kbytes);
}

/* More than the control thread ever has at a time: some directories and files. */
#define HEAP_BYTES (1u * MIB)

/*
 * The heap is made large enough once, and neither grows nor shrinks later: one
 * arena, nothing by mmap, nothing given back. To grow is to wait for memory.
 */
static void grow_heap(void)
{
	volatile uint8_t *heap;
	size_t i;

	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 32 * (int)MIB); /* what glibc allows at most */
	mallopt(M_TRIM_THRESHOLD, -1);
	mallopt(M_TOP_PAD, 0); /* locked, so no more than that */
	heap = malloc(HEAP_BYTES);
	for (i = 0; heap && i < HEAP_BYTES; i += PAGE_MIN_BYTES)
		heap[i] = 0;
	free((void *)(uintptr_t)heap);
}

static void lock_memory(struct stats_guarantee *rows)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	uint64_t kbytes = 0;
	char limit_text[32] = "unlimited";

	if (measure_left_out(MEASURE_MLOCK))
		return;
	/* Root's CAP_IPC_LOCK is above the limit; a service may lack it. */
	(void)setrlimit(RLIMIT_MEMLOCK, &limit);
	if (!getrlimit(RLIMIT_MEMLOCK, &limit) &&
	    limit.rlim_cur != RLIM_INFINITY)
		snprintf(limit_text, sizeof(limit_text), "%llu KiB",
			 (unsigned long long)limit.rlim_cur / KIB);
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		stats_guarantee_set(rows, HOST_ROW_MEMORY, GUARANTEE_MISSING,
				    "mlockall: %s; RLIMIT_MEMLOCK is %s",
				    strerror(errno), limit_text);
	else if (host_locked_kbytes(&kbytes) || !kbytes)
		stats_guarantee_set(rows, HOST_ROW_MEMORY, GUARANTEE_MISSING,
				    "mlockall succeeded but VmLck is 0");
	else
		stats_guarantee_set(rows, HOST_ROW_MEMORY, GUARANTEE_OK,
				    "VmLck %llu KiB, RLIMIT_MEMLOCK %s",
				    (unsigned long long)kbytes, limit_text);
}

static void exempt_from_oom(struct stats_guarantee *rows, bool set)
{
	char path[256], got[16] = "unreadable";
	int rc = 0;

	if (measure_left_out(MEASURE_OOM))
		return;
	self_path("oom_score_adj", path, sizeof(path));
	if (set)
		rc = procfile_write(path, "-1000");
	(void)procfile_read(path, got, sizeof(got));
	if (!strcmp(got, "-1000"))
		stats_guarantee_set(rows, HOST_ROW_OOM, GUARANTEE_OK,
				    "oom_score_adj -1000");
	else
		stats_guarantee_set(rows, HOST_ROW_OOM, GUARANTEE_MISSING,
				    "oom_score_adj is %s%s%s; needs "
				    "CAP_SYS_RESOURCE", got, rc ? ": " : "",
				    rc ? strerror(-rc) : "");
}

/*
 * khugepaged would replace our pages by a huge one that it has to allocate
 * first, with the mapping locked meanwhile.
 */
static void avoid_huge_pages(struct stats_guarantee *rows)
{
	if (!prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) &&
	    prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1)
		stats_guarantee_set(rows, HOST_ROW_THP, GUARANTEE_OK,
				    "PR_SET_THP_DISABLE");
	else
		stats_guarantee_set(rows, HOST_ROW_THP, GUARANTEE_DEGRADED,
				    "PR_SET_THP_DISABLE: %s", strerror(errno));
}

void host_protect_process(struct stats_guarantee rows[STATS_GUARANTEES])
{
	exempt_from_oom(rows, true);
	avoid_huge_pages(rows);
	grow_heap();
	lock_memory(rows);
}

/* An ok row lists the threads it holds for; a worse one keeps its reason. */
static void add_ok(struct stats_guarantee *rows, const char *name,
		   const char *text)
{
	const struct stats_guarantee *row = stats_guarantee_find(rows, name);
	char old[sizeof(row->detail)] = "";

	if (row && row->state == GUARANTEE_OK)
		memcpy(old, row->detail, sizeof(old));
	if (strlen(old) + strlen(text) + 3 < sizeof(old))
		stats_guarantee_set(rows, name, GUARANTEE_OK, "%s%s%s", old,
				    *old ? ", " : "", text);
}

static void set_io_flusher(const char *name, struct stats_guarantee *rows)
{
	if (measure_left_out(MEASURE_FLUSHER))
		return;
	/*
	 * Arguments 3 to 5 must be zero, or the kernel says EINVAL; and a
	 * success is worth nothing unread.
	 */
	if (prctl(PR_SET_IO_FLUSHER, 1ul, 0ul, 0ul, 0ul))
		stats_guarantee_set(rows, HOST_ROW_FLUSHER, GUARANTEE_MISSING,
				    "%s thread: %s; needs Linux 5.6 and "
				    "CAP_SYS_RESOURCE", name, strerror(errno));
	else if (prctl(PR_GET_IO_FLUSHER, 0ul, 0ul, 0ul, 0ul) != 1)
		stats_guarantee_set(rows, HOST_ROW_FLUSHER, GUARANTEE_MISSING,
				    "%s thread: set, but not when read back",
				    name);
	else
		add_ok(rows, HOST_ROW_FLUSHER, name);
}

static void set_fifo(const char *name, int priority,
		     struct stats_guarantee *rows)
{
	struct sched_param param = { .sched_priority = priority };
	char text[48];

	if (measure_left_out(MEASURE_FIFO))
		return;
	/* Not RESET_ON_FORK: io_uring's workers must inherit it. */
	if (sched_setscheduler(0, SCHED_FIFO, &param)) {
		stats_guarantee_set(rows, HOST_ROW_FIFO, GUARANTEE_MISSING,
				    "%s thread: %s; needs CAP_SYS_NICE", name,
				    strerror(errno));
		return;
	}
	memset(&param, 0, sizeof(param));
	if (sched_getscheduler(0) != SCHED_FIFO || sched_getparam(0, &param) ||
	    param.sched_priority != priority) {
		stats_guarantee_set(rows, HOST_ROW_FIFO, GUARANTEE_MISSING,
				    "%s thread: set, but reads back policy %d, "
				    "priority %d", name, sched_getscheduler(0),
				    param.sched_priority);
		return;
	}
	snprintf(text, sizeof(text), "%s SCHED_FIFO %d", name, priority);
	add_ok(rows, HOST_ROW_FIFO, text);
}

void host_thread_urgent(pid_t tid, int fifo_priority)
{
	const struct sched_param param = { .sched_priority = fifo_priority };

	if (!measure_left_out(MEASURE_FIFO))
		(void)sched_setscheduler(tid, fifo_priority ? SCHED_FIFO :
							      SCHED_OTHER,
					 &param);
}

/* Number of pages of [start, end) that are not there; -1 if unknown. */
static long pages_absent(uintptr_t start, uintptr_t end)
{
	unsigned char there[HOST_STACK_BYTES / PAGE_MIN_BYTES + 1];
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages, i;
	long absent = 0;

	start = start / page * page;
	pages = (end - start) / page;
	if (pages > sizeof(there) ||
	    mincore((void *)start, pages * page, there))
		return -1;
	for (i = 0; i < pages; i++)
		absent += !(there[i] & 1);
	return absent;
}

/*
 * The stack of a first thread grows by page faults even when locked, so it is
 * made to grow now. Not inlined: the frame is to be gone again afterwards.
 */
static __attribute__((noinline)) void
touch_stack(const char *name, struct stats_guarantee *rows)
{
	volatile uint8_t stack[HOST_STACK_BYTES];
	size_t i;
	long absent;

	for (i = 0; i < sizeof(stack); i += PAGE_MIN_BYTES)
		stack[i] = 0;
	stack[sizeof(stack) - 1] = 0;
	absent = pages_absent((uintptr_t)stack, (uintptr_t)stack +
						sizeof(stack));
	if (absent)
		stats_guarantee_set(rows, HOST_ROW_STACK, GUARANTEE_DEGRADED,
				    "%s thread: %ld pages of its stack are not "
				    "in memory", name, absent);
	else
		add_ok(rows, HOST_ROW_STACK, name);
}

void host_protect_thread(const char *name, int fifo_priority,
			 struct stats_guarantee rows[STATS_GUARANTEES])
{
	(void)prctl(PR_SET_NAME, name);
	set_io_flusher(name, rows);
	set_fifo(name, fifo_priority, rows);
	touch_stack(name, rows);
}

/* ---- Looking again before the device appears ---- */

/* Lines of /proc/self/smaps, which is far larger than any buffer of ours. */
struct line_reader {
	int fd;
	size_t start, end; /* of what is in buffer */
	char buffer[4096];
};

/* The next line without its newline; NULL at the end. */
static char *next_line(struct line_reader *r)
{
	char *newline, *line;
	ssize_t n;

	for (;;) {
		line = r->buffer + r->start;
		newline = memchr(line, '\n', r->end - r->start);
		if (newline) {
			*newline = '\0';
			r->start = (size_t)(newline + 1 - r->buffer);
			return line;
		}
		memmove(r->buffer, line, r->end - r->start);
		r->end -= r->start;
		r->start = 0;
		/* A path of 4096 bytes does not matter: drop its beginning. */
		if (r->end == sizeof(r->buffer))
			r->end = 0;
		n = read(r->fd, r->buffer + r->end, sizeof(r->buffer) - r->end);
		if (n <= 0)
			return NULL;
		r->end += (size_t)n;
	}
}

/*
 * The kernel locks no mappings of device memory and the like (VM_SPECIAL), nor
 * huge TLB pages: these have no pages that could be taken away.
 */
static bool is_locked(const char *mapping, const char *flags)
{
	/* Flags are of two letters with blanks between: no false matches. */
	static const char *const good[] = { "lo", "io", "pf", "mm", "de",
					    "ht" };
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (strstr(flags, good[i]))
			return true;
	}
	/* A page of the kernel's, shown in every process. */
	return strstr(mapping, "[vsyscall]") != NULL;
}

/*
 * The number of mappings that are not locked, and the first of them. -1: this
 * kernel has no smaps.
 */
static int unlocked_mappings(char *ret_first, size_t first_bytes)
{
	struct line_reader reader = { .start = 0 };
	char path[256], mapping[128] = "", *line;
	int count = 0;

	self_path("smaps", path, sizeof(path));
	reader.fd = open(path, O_RDONLY | O_CLOEXEC);
	if (reader.fd < 0)
		return -1;
	while ((line = next_line(&reader))) {
		if (!strncmp(line, "VmFlags: ", 9)) {
			if (!is_locked(mapping, line + 9) && ++count == 1)
				snprintf(ret_first, first_bytes, "%s", mapping);
		} else if (*line && strchr("0123456789abcdef", *line)) {
			snprintf(mapping, sizeof(mapping), "%s", line);
		}
	}
	close(reader.fd);
	return count;
}

static void verify_memory(struct stats_guarantee *rows)
{
	uint64_t locked = 0, swapped = 0;
	char first[64] = "";
	int count;

	if (measure_left_out(MEASURE_MLOCK))
		return;
	(void)host_locked_kbytes(&locked);
	(void)status_number("VmSwap", &swapped);
	count = unlocked_mappings(first, sizeof(first));
	if (!locked || swapped || count > 0)
		stats_guarantee_set(rows, HOST_ROW_MEMORY, GUARANTEE_MISSING,
				    "VmLck %llu KiB, VmSwap %llu KiB, %d "
				    "mappings unlocked: %.50s",
				    (unsigned long long)locked,
				    (unsigned long long)swapped,
				    count > 0 ? count : 0, first);
	else
		stats_guarantee_set(rows, HOST_ROW_MEMORY, GUARANTEE_OK,
				    "VmLck %llu KiB%s",
				    (unsigned long long)locked,
				    count < 0 ? "" : ", no mapping unlocked");
}

static void verify_threads(struct stats_guarantee *rows)
{
	char path[256], name[32];
	struct dirent *entry;
	DIR *dir;
	int policy;
	pid_t tid;

	if (measure_left_out(MEASURE_FIFO))
		return;
	self_path("task", path, sizeof(path));
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		tid = (pid_t)atoi(entry->d_name);
		policy = tid > 0 ? sched_getscheduler(tid) : -1;
		/* -1 also for a thread that has just ended. */
		if (policy < 0 || policy == SCHED_FIFO)
			continue;
		snprintf(path, sizeof(path), "%s/self/task/%d/comm",
			 host_paths.proc, tid);
		if (procfile_read(path, name, sizeof(name)) < 0)
			snprintf(name, sizeof(name), "%d", tid);
		stats_guarantee_set(rows, HOST_ROW_FIFO, GUARANTEE_MISSING,
				    "thread %s is not SCHED_FIFO", name);
	}
	closedir(dir);
}

void host_verify(struct stats_guarantee rows[STATS_GUARANTEES])
{
	verify_memory(rows);
	exempt_from_oom(rows, false);
	verify_threads(rows);
}

const struct stats_guarantee *
host_worst(const struct stats_guarantee rows[STATS_GUARANTEES])
{
	const struct stats_guarantee *worst = NULL;
	size_t i;

	for (i = 0; i < STATS_GUARANTEES && rows[i].name[0]; i++) {
		if (rows[i].state >= GUARANTEE_DEGRADED &&
		    (!worst || rows[i].state > worst->state))
			worst = &rows[i];
	}
	return worst;
}

/* ---- /proc/PID/stat ---- */

/* Numbers of a stat file, which begins "PID (NAME) STATE PPID ...". */
static int stat_fields(const char *path, char *ret_state, uint64_t *ret_fields,
		       const int *wanted, size_t wanted_count)
{
	char text[1024], *at;
	size_t i = 0;
	int field, rc;

	rc = procfile_read(path, text, sizeof(text));
	if (rc < 0)
		return rc == -ESRCH ? -ENOENT : rc;
	/* The name may contain anything, blanks and brackets too. */
	at = strrchr(text, ')');
	if (!at || at[1] != ' ' || !at[2])
		return -EINVAL;
	*ret_state = at[2];
	for (field = 3, at += 2; at && i < wanted_count; field++) {
		if (field == wanted[i])
			ret_fields[i++] = strtoull(at, NULL, 10);
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	return i == wanted_count ? 0 : -EINVAL;
}

int host_faults(pid_t tid, uint64_t *ret_minor, uint64_t *ret_major)
{
	static const int wanted[] = { 10, 12 }; /* minflt, majflt */
	uint64_t faults[2];
	char path[256], state;
	int rc;

	snprintf(path, sizeof(path), "%s/self/task/%d/stat", host_paths.proc,
		 tid);
	rc = stat_fields(path, &state, faults, wanted, 2);
	if (rc)
		return rc;
	*ret_minor = faults[0];
	*ret_major = faults[1];
	return 0;
}

int host_process_start(pid_t pid, uint64_t *ret_start)
{
	static const int wanted[] = { 22 }; /* starttime */
	uint64_t start;
	char path[256], state;
	int rc;

	snprintf(path, sizeof(path), "%s/%d/stat", host_paths.proc, pid);
	rc = stat_fields(path, &state, &start, wanted, 1);
	if (rc)
		return rc;
	if (state == 'Z' || state == 'X')
		return -ENOENT;
	*ret_start = start;
	return 0;
}

bool host_process_alive(pid_t pid, uint64_t start)
{
	uint64_t now;
	int rc;

	if (pid <= 0)
		return false;
	rc = host_process_start(pid, &now);
	/* There is one that we may not look at (hidepid, proc(5)): not dead. */
	return rc ? rc != -ENOENT : now == start;
}
