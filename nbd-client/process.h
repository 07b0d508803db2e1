/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A child process by its descriptor: started, told to go, killed, seen to have
 * ended. That a pidfd is readable means that all threads of the process are gone,
 * and with them what they had mapped: nothing writes to shared memory any more.
 *
 * Control thread. Nothing here allocates.
 */
#ifndef NBD_PROCESS_H
#define NBD_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

struct process {
	pid_t pid; /* 0: none */
	int fd;    /* of it; -1: none */
	int go_fd; /* eventfd, which the child waits for; -1: none */
};

/* How a process ended, in the manner of a shell's $?: 128 + signal. */
#define PROCESS_SIGNAL 128

/*
 * Forks; the child calls main(arg, go_fd) and ends with what it returns.
 * 0 or -errno.
 */
int process_start(struct process *p, int (*main)(void *arg, int go_fd),
		  void *arg);

/*
 * A child that was started before this process ran this program: -errno if it
 * cannot be watched. It is not to be told to go.
 */
int process_adopt(struct process *p, pid_t pid);

void process_go(const struct process *p);
void process_kill(const struct process *p);

/* True, once, when it has ended; then *p is none again, and the rest is to be reaped. */
bool process_ended(struct process *p, int *ret_status);

/*
 * What is left of those that have ended. The kernel asks in a loop until nobody else
 * is in their part of /proc (d_invalidate() in fs/dcache.c), so that a thread of
 * real-time priority would keep whom it waits for from running: it is none meanwhile.
 */
void process_reap(void);

/* Kills it, waits for its end, and reaps. Also of none. */
void process_stop(struct process *p);

#endif
