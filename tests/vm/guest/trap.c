// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * trap: runs a program and kills it, or one of the processes that it has to do
 * with, right before a given system call.
 *
 *	trap CALL one|all PIDS PROGRAM [ARGUMENT]...
 *
 * Counts the system calls of the program, of all that it starts, and of the
 * processes PIDS (numbers with commas; "-" for none), all threads together; but
 * not those that serve a ring, whose number is a matter of time.  Before number
 * CALL it kills the process that is about to make it, or all, and leaves the others
 * alone from there on.  CALL 0 kills nobody.  Waits for the program's end; prints a
 * line "CALLS NAME" on standard error, the name being that of the victim, and has
 * the program's exit status, or 128 and its signal.
 */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/ptrace.h>
#include <unistd.h>

#define OPTIONS                                                                \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |    \
	 PTRACE_O_TRACECLONE)
#define PROCESSES_MAX 64

static pid_t processes[PROCESSES_MAX]; /* thread groups that were seen */
static size_t process_count;
static unsigned long calls;
static bool struck;
static char victim[64] = "none";

static pid_t group_of(pid_t thread)
{
	char path[64], line[128];
	int group = thread;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", thread);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Tgid: %d", &group) == 1)
			break;
	if (file)
		fclose(file);
	return group;
}

static void remember(pid_t thread)
{
	pid_t group = group_of(thread);

	for (size_t i = 0; i < process_count; i++)
		if (processes[i] == group)
			return;
	if (process_count < PROCESSES_MAX)
		processes[process_count++] = group;
}

/* All threads of a process that runs. */
static void seize(pid_t pid)
{
	char path[64];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		pid_t thread = atoi(entry->d_name);

		/* Those of the kernel's, in our name, cannot be. */
		if (thread <= 0 ||
		    ptrace(PTRACE_SEIZE, thread, 0, OPTIONS) < 0)
			continue;
		remember(thread);
		/* So that it makes its next call with us looking. */
		ptrace(PTRACE_INTERRUPT, thread, 0, 0);
	}
	if (dir)
		closedir(dir);
}

static void name_victim(pid_t thread, long call)
{
	char path[64], name[32] = "?";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", thread);
	file = fopen(path, "r");
	if (file && fgets(name, sizeof(name), file))
		name[strcspn(name, "\n")] = '\0';
	if (file)
		fclose(file);
	snprintf(victim, sizeof(victim), "%s before system call %ld", name, call);
}

static void on_call(pid_t thread, unsigned long at, bool all)
{
	struct ptrace_syscall_info info;

	if (struck ||
	    ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof(info), &info) < 0 ||
	    info.op != PTRACE_SYSCALL_INFO_ENTRY ||
	    info.entry.nr == SYS_io_uring_enter)
		return;
	if (++calls != at)
		return;
	struck = true;
	name_victim(thread, (long)info.entry.nr);
	if (!all)
		kill(group_of(thread), SIGKILL);
	for (size_t i = 0; all && i < process_count; i++)
		kill(processes[i], SIGKILL);
}

static void on_stop(pid_t thread, int status, unsigned long at, bool all)
{
	int signal = WSTOPSIG(status), event = status >> 16, deliver = 0;

	remember(thread);
	if (signal == (SIGTRAP | 0x80))
		on_call(thread, at, all);
	else if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) {
		ptrace(PTRACE_LISTEN, thread, 0, 0); /* stopped by a signal */
		return;
	} else if (!event)
		deliver = signal;
	ptrace(struck ? PTRACE_DETACH : PTRACE_SYSCALL, thread, 0, deliver);
}

int main(int argc, char **argv)
{
	unsigned long at;
	pid_t child, pid;
	int status, go[2];
	bool all;
	char byte;

	if (argc < 5 || pipe(go) < 0)
		return 2;
	at = strtoul(argv[1], NULL, 10);
	all = !strcmp(argv[2], "all");
	child = fork();
	if (child == 0) {
		close(go[1]);
		/* The end of this: somebody looks. */
		while (read(go[0], &byte, 1) < 0 && errno == EINTR)
			;
		close(go[0]);
		execvp(argv[4], argv + 4);
		_exit(127);
	}
	close(go[0]);
	seize(child);
	for (char *p = argv[3]; *p && *p != '-'; p += strspn(p, ",")) {
		seize((pid_t)strtol(p, &p, 10));
	}
	close(go[1]);
	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (pid <= 0)
			continue;
		if (WIFSTOPPED(status))
			on_stop(pid, status, at, all);
		else if (pid == child)
			break;
	}
	fprintf(stderr, "%lu %s\n", calls, victim);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) :
				     WEXITSTATUS(status);
}
