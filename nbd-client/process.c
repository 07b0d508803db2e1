// SPDX-License-Identifier: GPL-2.0-or-later
/* Child processes by descriptor. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nbd-client/process.h"

#define PROCESS_NONE ((struct process){ .fd = -1, .go_fd = -1 })

/* Ended, but not reaped; of this process, which has one thread that starts others. */
#define DEAD_MAX 8u
static pid_t dead[DEAD_MAX];
static uint32_t dead_count;

static int open_pid(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

int process_adopt(struct process *p, pid_t pid)
{
	int fd = open_pid(pid);

	*p = PROCESS_NONE;
	if (fd < 0)
		return fd;
	p->pid = pid;
	p->fd = fd;
	return 0;
}

int process_start(struct process *p, int (*main)(void *arg, int go_fd),
		  void *arg)
{
	int go_fd = eventfd(0, EFD_CLOEXEC);
	pid_t pid;
	int error;

	*p = PROCESS_NONE;
	if (go_fd < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		_exit(main(arg, go_fd));
	error = errno;
	if (pid < 0) {
		close(go_fd);
		return -error;
	}
	*p = (struct process){
		.pid = pid,
		.fd = open_pid(pid),
		.go_fd = go_fd,
	};
	if (p->fd >= 0)
		return 0;
	error = -p->fd;
	process_stop(p); /* what cannot be watched cannot be replaced */
	return -error;
}

void process_go(const struct process *p)
{
	uint64_t one = 1;
	ssize_t ignored = write(p->go_fd, &one, sizeof(one));

	(void)ignored;
}

void process_kill(const struct process *p)
{
	if (p->pid > 0)
		kill(p->pid, SIGKILL);
}

static void forget(struct process *p)
{
	if (p->fd >= 0)
		close(p->fd);
	if (p->go_fd >= 0)
		close(p->go_fd);
	*p = PROCESS_NONE;
}

void process_reap(void)
{
	const struct sched_param none = { 0 };
	int policy = sched_getscheduler(0);
	struct sched_param param = { 0 };

	if (!dead_count)
		return;
	(void)sched_getparam(0, &param);
	(void)sched_setscheduler(0, SCHED_OTHER, &none);
	while (dead_count) {
		if (waitpid(dead[dead_count - 1], NULL, 0) >= 0 ||
		    errno != EINTR)
			dead_count--;
	}
	(void)sched_setscheduler(0, policy, &param);
}

/* To be reaped, all of them at once if there are too many. */
static void add_dead(pid_t pid)
{
	dead[dead_count++] = pid;
	if (dead_count == DEAD_MAX)
		process_reap();
}

bool process_ended(struct process *p, int *ret_status)
{
	struct pollfd fd = { .fd = p->fd, .events = POLLIN };
	siginfo_t info = { 0 };

	if (p->pid <= 0 || poll(&fd, 1, 0) != 1 ||
	    waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) ||
	    info.si_pid != p->pid)
		return false;
	*ret_status = info.si_code == CLD_EXITED ?
			      info.si_status :
			      PROCESS_SIGNAL + info.si_status;
	add_dead(p->pid);
	forget(p);
	return true;
}

void process_stop(struct process *p)
{
	process_kill(p);
	if (p->pid > 0)
		add_dead(p->pid);
	forget(p);
	process_reap();
}
