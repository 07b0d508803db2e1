// SPDX-License-Identifier: GPL-2.0-or-later
/* From one program to the next in the same process. Supervisor. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nbd-client/handover.h"

#define VARIABLE "NBD_CLIENT_HANDOVER"

extern char **environ;

/*
 * A service may have been left few capabilities; nobody can look into a process
 * that has others (cap_ptrace_access_check).
 */
static void drop_capabilities(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	const struct __user_cap_data_struct none[2] = { 0 };

	/* Where that is not allowed, there are hardly any. */
	(void)syscall(SYS_capset, &head, none);
}

/* With a word that nobody sends by chance: the asker's program is executed. */
int handover_ask(pid_t supervisor)
{
	union sigval value = { .sival_int = (int)HANDOVER_LAYOUT };

	drop_capabilities();
	return sigqueue(supervisor, handover_signal(), value) < 0 ? -errno : 0;
}

/* One that is queued, so that the word is not lost. */
int handover_signal(void)
{
	return SIGRTMAX;
}

bool handover_is_asked(const struct signalfd_siginfo *info)
{
	return (int)info->ssi_signo == handover_signal() &&
	       info->ssi_code == SI_QUEUE &&
	       info->ssi_int == (int)HANDOVER_LAYOUT;
}

static void keep_sockets(const struct sockets *s, bool keep)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (s->ready[i].fd >= 0)
			(void)fcntl(s->ready[i].fd, F_SETFD,
				    keep ? 0 : FD_CLOEXEC);
	for (int i = 0; i < 2 && sockets_have_store(s); i++)
		(void)fcntl(s->store[i], F_SETFD, keep ? 0 : FD_CLOEXEC);
}

static void keep_open(const struct handover *h, bool keep)
{
	for (uint32_t i = 0; i < h->queues; i++)
		keep_sockets(i ? &h->more_sockets[i - 1] : &h->ends.sockets,
			     keep);
}

/* A file with all of it; the descriptor outlives execve(2). Or -errno. */
static int write_down(const struct handover *h)
{
	int fd = memfd_create("nbd-client-handover", 0);

	if (fd >= 0 && write(fd, h, sizeof(*h)) == (ssize_t)sizeof(*h))
		return fd;
	if (fd >= 0)
		close(fd);
	return errno ? -errno : -EIO;
}

static int open_program(pid_t pid)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	fd = open(path, O_PATH | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int handover_exec(const struct handover *h, pid_t asker, int argc,
		  char *const *argv)
{
	char **words = calloc((size_t)argc + 2, sizeof(*words));
	int program_fd = open_program(asker);
	int state_fd = write_down(h);
	char number[16];
	int ret;

	ret = !words ? -ENOMEM : program_fd < 0 ? program_fd : state_fd;
	if (ret < 0)
		goto out;
	snprintf(number, sizeof(number), "%d", state_fd);
	words[0] = program_invocation_name; /* systemd looks at it */
	memcpy(words + 1, argv, (size_t)argc * sizeof(*words));
	keep_open(h, true);
	setenv(VARIABLE, number, 1);
	syscall(SYS_execveat, program_fd, "", words, environ, AT_EMPTY_PATH);
	ret = -errno;
	unsetenv(VARIABLE);
	keep_open(h, false);
out:
	if (program_fd >= 0)
		close(program_fd);
	if (state_fd >= 0)
		close(state_fd);
	free(words);
	return ret;
}

int handover_take(struct handover *ret, struct err *err)
{
	const char *number = getenv(VARIABLE);
	struct handover h;
	ssize_t n;
	int fd;

	if (!number)
		return 0;
	fd = atoi(number);
	unsetenv(VARIABLE);
	n = pread(fd, &h, sizeof(h), 0);
	close(fd);
	if (n != (ssize_t)sizeof(h) || h.layout != HANDOVER_LAYOUT ||
	    h.queues > QUEUES_MAX)
		return err_set(err, X_FAILURE, EPROTO,
			       "what another program has handed over is not "
			       "understood");
	keep_open(&h, false);
	*ret = h;
	return 1;
}
