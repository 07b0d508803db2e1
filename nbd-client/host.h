/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Protection of this process, and the kernel's reserve for its network traffic.
 *
 * A measure counts only once read back, so every function here sets something,
 * reads it back, and leaves the result as a row of struct stats_guarantee.
 *
 * Owns the ledger RUN_DIR/ledger, which all daemons of the host share. Control
 * thread, except host_protect_thread(), which each thread calls for itself
 * before the seal, while nobody else writes to the rows.
 */
#ifndef NBD_HOST_H
#define NBD_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "include/bounds.h"
#include "include/ctl.h"

/* Where things are; unit tests point them at a tree of their own. */
struct host_paths {
	const char *run_dir; /* RUN_DIR */
	const char *proc;    /* "/proc" */
	const char *sys;     /* "/sys" */
	const char *cgroup;  /* "/sys/fs/cgroup" */
};
extern struct host_paths host_paths;

/*
 * Real-time priorities. Data above control: a busy control thread must not
 * delay a page. Both low in the range: interrupt threads (50) stay above us,
 * since they are what brings our packets.
 */
#define HOST_FIFO_DATA 20
#define HOST_FIFO_CONTROL 10
/* Above them: it acts when one of them has died, or does not let go. */
#define HOST_FIFO_SUPERVISOR 25

/* Stack that a thread of ours may need; touched in advance. */
#define HOST_STACK_BYTES (128u * KIB)

/* Names of the rows. */
#define HOST_ROW_MEMORY "memory locked"
#define HOST_ROW_OOM "OOM killer exempt"
#define HOST_ROW_THP "huge pages off"
#define HOST_ROW_FLUSHER "IO_FLUSHER"
#define HOST_ROW_FIFO "real-time priority"
#define HOST_ROW_STACK "stacks touched"
#define HOST_ROW_RESERVE "kernel reserve"
#define HOST_ROW_SYSCTLS "watermarks, compaction"
#define HOST_ROW_CGROUP "memory cgroup"

/*
 * A process that was started from an initramfs has its root directory there, and
 * finds no /proc, /sys, /dev and /run any more once the system has moved to its
 * own root and taken these along. Called before, the first function sees to it
 * that the second one follows, as soon as process 1 has another root than we; in
 * each process, from time to time. It waits for nothing but the kernel's memory.
 */
void host_watch_root(void);
void host_follow_root(void);

/*
 * Grows the heap to what it will ever need, locks present and future memory,
 * exempts the process from the OOM killer, keeps huge pages out of it. Call
 * before the pinned region and the threads are made, so that they are locked
 * from the start.
 */
void host_protect_process(struct stats_guarantee rows[STATS_GUARANTEES]);

/*
 * Names the calling thread, sets IO_FLUSHER and SCHED_FIFO, touches its stack.
 * Rows collect all threads: the worst result of any thread stays.
 */
void host_protect_thread(const char *name, int fifo_priority,
			 struct stats_guarantee rows[STATS_GUARANTEES]);

/*
 * A protected thread of this process at SCHED_FIFO again, or with priority 0 one
 * like others. Allocates nothing.
 */
void host_thread_urgent(pid_t tid, int fifo_priority);

/*
 * Makes sure that the process is in a memory cgroup (v2), making one for the
 * device "nbd0" if need be, with memory.min as given. Before the sockets are
 * made. leave goes back to the root and removes a cgroup that was made so.
 */
void host_cgroup_enter(const char *name, uint64_t min_bytes,
		       struct stats_guarantee rows[STATS_GUARANTEES]);
void host_cgroup_leave(void);

/* What was done, to what: "vm.min_free_kbytes", "4000, was 17384". */
struct host_tell {
	void (*line)(void *arg, const char *subject, const char *text);
	void *arg;
};

/* Removes the cgroups that were made so by processes that have died. */
void host_cgroup_recover(const struct host_tell *tell);

/* VmLck of this process. */
int host_locked_kbytes(uint64_t *ret_kbytes);

/*
 * For the seal: looks at the whole process again once everything is there: no
 * mapping left unlocked, nothing swapped out, oom_score_adj, every thread
 * SCHED_FIFO (those that io_uring made included). Allocates; updates the rows.
 */
void host_verify(struct stats_guarantee rows[STATS_GUARANTEES]);

/* The first row that is missing or degraded, or NULL. */
const struct stats_guarantee *
host_worst(const struct stats_guarantee rows[STATS_GUARANTEES]);

/* minflt and majflt of a thread of this process. */
int host_faults(pid_t tid, uint64_t *ret_minor, uint64_t *ret_major);

/*
 * Field 22 of /proc/PID/stat: with the pid it identifies a process for good.
 * -ENOENT when there is no such process (or only its zombie).
 */
int host_process_start(pid_t pid, uint64_t *ret_start);
bool host_process_alive(pid_t pid, uint64_t start);

/* ---- The kernel's reserve ---- */

/* Enough for what strangers hold, where that cannot be known better. */
#define HOST_SHARED_KBYTES (16u * 1024u)

/* The reserve takes no more than this part of all memory, unless the user insists. */
#define HOST_MEMORY_DIVISOR 8u

/* What the kernel may hold for one device at the worst moment, in truesize. */
struct host_needs {
	uint64_t link_send_bytes;     /* SO_SNDBUF to the server, as read back */
	uint64_t link_receive_bytes;  /* SO_RCVBUF from the server, as read back */
	uint64_t front_send_bytes;    /* socketpair, kernel's end: requests */
	uint64_t front_receive_bytes; /* socketpair, our end: answers */
};

/* What a device adds to vm.min_free_kbytes. */
uint64_t host_needs_kbytes(const struct host_needs *needs);

/* What a device asks of the host. */
struct host_ask {
	bool reserve; /* vm.min_free_kbytes; else the next three do not count */
	bool sysctls; /* the others, see host_reserve.c */
	uint64_t device_kbytes;   /* of host_needs_kbytes() */
	uint64_t shared_kbytes;   /* once per host: of host_strangers_kbytes() */
	uint64_t explicit_kbytes; /* not 0: the user demands this value */
};

/*
 * Enters a device ("nbd0") of the calling process, which must be the one that
 * stays, into the ledger and raises the sysctls; unless the user demands a value,
 * up to the limit of an eighth of all memory. A name entered again is replaced.
 * 0 or -errno; the rows "kernel reserve" and "watermarks, compaction" are set
 * either way, if asked for.
 */
int host_reserve_raise(const char *name, const struct host_ask *ask,
		       struct stats_guarantee rows[STATS_GUARANTEES],
		       struct err *err);

/*
 * Takes the device out; moves the sysctls back, all the way with the last
 * device. A value that somebody else has changed meanwhile is left alone; then
 * ret_note says so (empty otherwise; may be NULL).
 */
#define HOST_NOTE_BYTES 256u
int host_reserve_release(const char *name, char ret_note[HOST_NOTE_BYTES],
			 struct err *err);

/* Takes out entries of processes that died. Called when an attach begins. */
int host_drop_stale(char ret_note[HOST_NOTE_BYTES], struct err *err);

/* The same, telling each thing that is done. */
int host_reserve_recover(const struct host_tell *tell, struct err *err);

/* vm.min_free_kbytes now. */
int host_min_free_kbytes(uint64_t *ret_kbytes);

#endif
