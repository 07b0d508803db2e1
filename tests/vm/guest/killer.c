// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * killer: kills the process that serves a device, or its link, again and again, and
 * measures how long nothing was served.
 *
 *	killer STATUS_PAGE EVERY_SECONDS COUNT WHAT
 *	killer STATUS_PAGE EVERY_REQUESTS COUNT @ACTION [SECONDS]
 *
 * It knows whom from the status page, and when service is back from the same:
 * a request that is counted as completed after the death of one was completed by
 * another.  WHAT is one of
 *	worker
 *	worker+standby	both at the same time
 *	stop		the first time it is stopped and not killed
 *	freeze		all of the client is stopped for some seconds, and goes on when
 *			the worker has been killed
 *	full		the server is stopped until all tags are in flight
 *	outage		the server is killed before, and back two seconds later; it is
 *			counted from then on
 *	socket		of nbd: nobody is killed, but the socket pair is shut down, as
 *			the driver does when it cannot send
 *	/PROGRAM	is called with "upgrade DEVICE", and nobody is killed
 * With an action the host is asked for that, on descriptor 3, and it is the link that
 * has to be lost and back; it ends early SECONDS after the first time.  Prints a line
 * "=KEY VALUE" for each result; exit status 1: service did not come back.
 *
 * Locked, FIFO, never chosen by the OOM killer: it must go on when nothing else
 * does.  Below the client's priorities, so that it takes nothing from it.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "include/ctl.h"

#define POLL_NS 1000000
#define BACK_TIMEOUT_MS 60000
#define FREEZE_SECONDS 6
#define OUTAGE_SECONDS 2
#define FULL_MS 500
#define PORT_FD 3
#define FDS_MAX 256

static const volatile struct stats_page *page;

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void nap(void)
{
	const struct timespec t = { .tv_nsec = POLL_NS };

	nanosleep(&t, NULL);
}

static uint64_t completed(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < STATS_OPS; i++) {
		sum += page->data.requests[i];
		for (uint32_t q = 0; q < QUEUES_MAX - 1; q++)
			sum += page->more[q].requests[i];
	}
	return sum;
}

static void protect(void)
{
	struct sched_param fifo = { .sched_priority = 5 };
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "-1000", 5) != 5 ||
	    sched_setscheduler(0, SCHED_FIFO, &fifo) ||
	    mlockall(MCL_CURRENT | MCL_FUTURE))
		perror("killer: protection");
}

/* True when the process has no longer any thread that could serve. */
static bool is_gone(pid_t pid)
{
	return kill(pid, 0) < 0 || page->worker_pid != pid;
}

/* Requests pile up, and with them what waits for memory. */
static void freeze(pid_t worker)
{
	const pid_t all[] = { page->pid, worker, page->standby_pid };

	for (int i = 0; i < 3; i++)
		if (all[i] > 0)
			kill(all[i], SIGSTOP);
	sleep(FREEZE_SECONDS);
	kill(worker, SIGKILL);
	for (int i = 0; i < 3; i++)
		if (all[i] > 0)
			kill(all[i], SIGCONT);
}

static uint64_t under_way(void)
{
	return page->slots - page->data.states[REQUEST_FREE];
}

static uint64_t under_way_max;

/* The server says nothing any more: until no more requests come. */
static void fill(void)
{
	uint64_t most = 0, since = now_ms();

	dprintf(PORT_FD, "@server_mute disk\n");
	for (; now_ms() - since < FULL_MS; nap()) {
		if (under_way() <= most)
			continue;
		most = under_way();
		since = now_ms();
	}
	if (most > under_way_max)
		under_way_max = most;
}

/* The only one of its kind: connected, and a stream of UNIX. */
static void shut_pair(pid_t worker)
{
	int pid_fd = (int)syscall(SYS_pidfd_open, worker, 0);

	for (int i = 0; i < FDS_MAX; i++) {
		int fd = (int)syscall(SYS_pidfd_getfd, pid_fd, i, 0);
		int domain = 0, type = 0, listens = 0;
		socklen_t bytes = sizeof(int);

		if (fd < 0)
			continue;
		(void)getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes);
		(void)getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes);
		(void)getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens,
				 &bytes);
		if (domain == AF_UNIX && type == SOCK_STREAM && !listens)
			shutdown(fd, SHUT_RDWR);
		close(fd);
	}
	close(pid_fd);
}

/* Returns when the worker is another one. */
static bool upgrade(const char *program, pid_t worker)
{
	char device[sizeof(page->device)];
	uint64_t begin = now_ms();
	pid_t pid;

	memcpy(device, (const char *)page->device, sizeof(device));
	signal(SIGCHLD, SIG_IGN);
	pid = fork();
	if (pid == 0) {
		execl(program, program, "upgrade", device, NULL);
		_exit(127);
	}
	while (page->worker_pid == worker && kill(worker, 0) == 0) {
		nap();
		if (now_ms() - begin > BACK_TIMEOUT_MS)
			return false;
	}
	return true;
}

/* False when there was none in time. */
static bool wait_request(uint64_t since_ms)
{
	for (uint64_t last = completed(); completed() == last; nap())
		if (now_ms() - since_ms > BACK_TIMEOUT_MS)
			return false;
	return true;
}

/* Milliseconds until requests are completed again, or -1. */
static int64_t strike(const char *what, bool stop)
{
	uint64_t begin, last;
	pid_t pid;

	while ((pid = page->worker_pid) <= 0)
		nap();
	/* Amid requests, so that there is something to lose. */
	for (last = completed(), begin = now_ms();
	     completed() == last && now_ms() - begin < 1000;)
		nap();
	if (!strcmp(what, "freeze"))
		freeze(pid);
	if (!strcmp(what, "full"))
		fill();
	if (!strcmp(what, "outage"))
		dprintf(PORT_FD, "@server_stop disk\n");
	if (what[0] == '/' && !upgrade(what, pid))
		return -1;
	begin = now_ms();
	if (!strcmp(what, "worker+standby") && page->standby_pid > 0)
		kill(page->standby_pid, SIGKILL);
	if (!strcmp(what, "socket"))
		shut_pair(pid);
	else if (what[0] != '/')
		kill(pid, stop ? SIGSTOP : SIGKILL);
	if (!strcmp(what, "full"))
		dprintf(PORT_FD, "@server_unmute disk\n");
	if (!strcmp(what, "outage")) {
		sleep(OUTAGE_SECONDS);
		dprintf(PORT_FD, "@server_start disk 10809 1\n");
		begin = now_ms();
	}
	while (!is_gone(pid)) {
		nap();
		if (now_ms() - begin > BACK_TIMEOUT_MS)
			return -1;
	}
	return wait_request(begin) ? (int64_t)(now_ms() - begin) : -1;
}

/* The same for the link: from when it is seen to be lost. */
static int64_t cut(const char *action, uint64_t every)
{
	uint64_t links, begin, last = completed();

	for (begin = now_ms(); completed() - last < every; nap())
		if (now_ms() - begin > BACK_TIMEOUT_MS)
			return -1;
	links = page->reconnects;
	dprintf(PORT_FD, "%s\n", action);
	for (begin = now_ms();
	     page->link == STATS_LINK_UP && page->reconnects == links; nap())
		if (now_ms() - begin > BACK_TIMEOUT_MS)
			return -1;
	for (begin = now_ms(); page->reconnects == links; nap())
		if (now_ms() - begin > BACK_TIMEOUT_MS)
			return -1;
	return wait_request(begin) ? (int64_t)(now_ms() - begin) : -1;
}

static int compare(const void *a, const void *b)
{
	return (*(const int64_t *)a > *(const int64_t *)b) -
	       (*(const int64_t *)a < *(const int64_t *)b);
}

#define STRIKES_MAX 10000
#define STRIKES_LISTED 100

static void print_times(int64_t *times, size_t count)
{
	printf("=interruptions %zu\n", count);
	if (count <= STRIKES_LISTED) {
		printf("=interruptions_ms [");
		for (size_t i = 0; i < count; i++)
			printf("%s%" PRId64, i ? "," : "", times[i]);
		printf("]\n");
	}
	if (!count)
		return;
	qsort(times, count, sizeof(times[0]), compare);
	printf("=interruption_median_ms %" PRId64
	       "\n=interruption_p99_ms %" PRId64
	       "\n=interruption_max_ms %" PRId64 "\n",
	       times[count / 2], times[(count * 99 + 99) / 100 - 1],
	       times[count - 1]);
}

int main(int argc, char **argv)
{
	static int64_t times[STRIKES_MAX];
	uint64_t end_ms = UINT64_MAX;
	const char *what;
	bool stop;
	int count, every, fd, done;

	if (argc != 5 && argc != 6)
		return 2;
	every = atoi(argv[2]);
	count = atoi(argv[3]);
	what = argv[4];
	stop = !strcmp(what, "stop");
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	page = mmap(NULL, sizeof(*page), PROT_READ, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED || count > STRIKES_MAX) {
		perror("killer");
		return 2;
	}
	protect();
	for (done = 0; done < count && now_ms() < end_ms; done++) {
		if (what[0] == '@') {
			times[done] = cut(what, (uint64_t)every);
		} else {
			sleep((unsigned int)every);
			times[done] = strike(what, stop && done == 0);
		}
		if (times[done] < 0)
			break;
		if (done == 0 && argc == 6)
			end_ms = now_ms() + (uint64_t)atoi(argv[5]) * 1000;
	}
	print_times(times, (size_t)done);
	printf("=under_way_max %" PRIu64 "\n", under_way_max);
	return done < count && now_ms() < end_ms;
}
