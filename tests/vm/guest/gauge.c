// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * gauge: watches a machine that runs out of memory.
 *
 *	gauge PROGRESS OUTPUT DISK STALL_SECONDS [sysrq]
 *
 * Makes the file PROGRESS for hog, then every 100 ms looks whether hog's
 * counter, the kernel's swap counters, which count what is begun, or those of
 * DISK, which count what is done, have moved, and remembers the longest time in
 * which none did, and in which hog's did not, from its begin to its end.
 * Prints a line "#gauge KEY=VALUE ..." each second to OUTPUT (a serial port in a
 * guest), a line "@swapping" when memory is used up, and at its end, on SIGTERM,
 * "=KEY VALUE" lines, and both times in milliseconds on standard output.  After
 * STALL_SECONDS without progress it says so; with "sysrq" it then also has the
 * kernel print what every task waits for and resets the machine, which could not
 * end by itself.
 *
 * It must go on when nothing else does: locked, FIFO, IO_FLUSHER, never chosen
 * by the OOM killer, all its files open from the start.  Reading /proc can wait
 * for memory even so (/proc/vmstat asks for some each time); that is done by a
 * thread of its own, the disk is looked at by another, which needs none, and the
 * clock stays with the main thread.  How late that was at most is told, too: by
 * so much nobody can have run on this machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "progress.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

#define TICK_NS 100000000
#define TICKS_PER_LINE 10
#define USED_UP_PAGES 4096 /* that were swapped out */
#define TEXT_BYTES 32768
#define DISK_TEXT_BYTES 512

/* Everything that is sampled; written by the reader thread alone. */
enum value {
	PSWPIN, PSWPOUT, OOM_KILL, ALLOCSTALL,
	MEM_TOTAL, MEM_FREE, SWAP_TOTAL, SWAP_FREE,
	PFMEMALLOC_DROP, TCP_TIMEOUTS, TCP_RCVQ_DROP, PRUNE_CALLED,
	MIN_FREE, READS, WRITES, COMPLETED,
	VALUE_COUNT
};

static volatile uint64_t values[VALUE_COUNT];
static volatile uint64_t samples_count;
static uint64_t base[VALUE_COUNT];
static struct progress *progress;
static int out = -1;
static volatile sig_atomic_t ended;

static int vmstat_fd, meminfo_fd, netstat_fd, minfree_fd, inflight_fd, disk_fd;

/* A line "NAME VALUE" of /proc/vmstat or "NAME: VALUE kB" of /proc/meminfo. */
struct name {
	const char *name;
	enum value value;
};

static const struct name vmstat_names[] = {
	{ "pswpin", PSWPIN }, { "pswpout", PSWPOUT }, { "oom_kill", OOM_KILL },
	{ "allocstall_dma", ALLOCSTALL }, { "allocstall_dma32", ALLOCSTALL },
	{ "allocstall_normal", ALLOCSTALL },
	{ "allocstall_movable", ALLOCSTALL }, { NULL, 0 }
};

static const struct name meminfo_names[] = {
	{ "MemTotal:", MEM_TOTAL }, { "MemFree:", MEM_FREE },
	{ "SwapTotal:", SWAP_TOTAL }, { "SwapFree:", SWAP_FREE },
	{ NULL, 0 }
};

static const struct name netstat_names[] = {
	{ "PFMemallocDrop", PFMEMALLOC_DROP }, { "TCPTimeouts", TCP_TIMEOUTS },
	{ "TCPRcvQDrop", TCP_RCVQ_DROP }, { "PruneCalled", PRUNE_CALLED },
	{ NULL, 0 }
};

/* The whole file into text; false when it cannot be read. */
static bool load(int fd, char *text, size_t text_bytes)
{
	size_t used = 0;
	ssize_t n = 0;

	while (fd >= 0 && used < text_bytes - 1 &&
	       (n = pread(fd, text + used, text_bytes - 1 - used,
			  (off_t)used)) > 0)
		used += (size_t)n;
	text[used] = '\0';
	return used > 0 && n >= 0;
}

static void add(uint64_t *sum, const struct name *names, const char *word,
		uint64_t value)
{
	for (; names->name; names++)
		if (!strcmp(names->name, word))
			sum[names->value] += value;
}

static void parse_lines(char *text, const struct name *names, uint64_t *sum)
{
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *rest = strchr(line, ' ');

		if (!rest)
			continue;
		*rest++ = '\0';
		add(sum, names, line, strtoull(rest, NULL, 10));
	}
}

/* /proc/net/netstat: a line of names, then a line of values. */
static void parse_table(char *text, const struct name *names, uint64_t *sum)
{
	char *heads = text;
	char *numbers = strchr(text, '\n');
	char *save_head = NULL, *save_number = NULL;

	if (!numbers)
		return;
	*numbers++ = '\0';
	numbers[strcspn(numbers, "\n")] = '\0';
	for (;;) {
		char *head = strtok_r(heads, " ", &save_head);
		char *number = strtok_r(numbers, " ", &save_number);

		heads = numbers = NULL;
		if (!head || !number)
			return;
		add(sum, names, head, strtoull(number, NULL, 10));
	}
}

/* A disk's stat: the first field are reads completed, the fifth writes. */
static uint64_t completed(char *text)
{
	uint64_t sum = 0;
	char *at = text;

	for (unsigned i = 1; i <= 5; i++) {
		uint64_t number = strtoull(at, &at, 10);

		if (i == 1 || i == 5)
			sum += number;
	}
	return sum;
}

static void sample(char *text)
{
	uint64_t sum[VALUE_COUNT] = { 0 };
	char *end;

	if (load(vmstat_fd, text, TEXT_BYTES))
		parse_lines(text, vmstat_names, sum);
	if (load(meminfo_fd, text, TEXT_BYTES))
		parse_lines(text, meminfo_names, sum);
	if (load(netstat_fd, text, TEXT_BYTES))
		parse_table(text, netstat_names, sum);
	if (load(minfree_fd, text, TEXT_BYTES))
		sum[MIN_FREE] = strtoull(text, NULL, 10);
	if (load(inflight_fd, text, TEXT_BYTES)) {
		sum[READS] = strtoull(text, &end, 10);
		sum[WRITES] = strtoull(end, NULL, 10);
	}
	for (unsigned i = 0; i < VALUE_COUNT; i++)
		if (i != COMPLETED)
			values[i] = sum[i];
	samples_count++;
}

static void *reader(void *arg)
{
	const struct timespec tick = { .tv_nsec = TICK_NS };

	while (!ended) {
		sample(arg);
		nanosleep(&tick, NULL);
	}
	return NULL;
}

static void *disk_reader(void *arg)
{
	const struct timespec tick = { .tv_nsec = TICK_NS };

	while (!ended) {
		if (load(disk_fd, arg, DISK_TEXT_BYTES))
			values[COMPLETED] = completed(arg);
		nanosleep(&tick, NULL);
	}
	return NULL;
}

/* One write for one line, so that lines of others do not get into it. */
static void print(const char *line, int length)
{
	if (write(out, line, (size_t)length) < 0)
		return;
}

#define PRINT(...) do { \
	char line_[512]; \
	print(line_, snprintf(line_, sizeof(line_), __VA_ARGS__)); \
} while (0)

static long long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static unsigned long long since(enum value value)
{
	return values[value] - base[value];
}

static void print_line(long long ms)
{
	static uint64_t ops, pin, pout;
	static long long last_ms;
	uint64_t span = (uint64_t)(ms > last_ms ? ms - last_ms : 1);

	PRINT("#gauge t=%lld phase=%llu ops_s=%llu verified=%llu mismatches=%llu in_s=%llu out_s=%llu memtotal_kb=%llu memfree_kb=%llu swaptotal_kb=%llu swapfree_kb=%llu minfree_kb=%llu reads=%llu writes=%llu\n",
	      ms / 1000, (unsigned long long)progress->phase,
	      (unsigned long long)((progress->ops - ops) * 1000 / span),
	      (unsigned long long)progress->verified,
	      (unsigned long long)progress->mismatches,
	      (unsigned long long)((values[PSWPIN] - pin) * 1000 / span),
	      (unsigned long long)((values[PSWPOUT] - pout) * 1000 / span),
	      (unsigned long long)values[MEM_TOTAL],
	      (unsigned long long)values[MEM_FREE],
	      (unsigned long long)values[SWAP_TOTAL],
	      (unsigned long long)values[SWAP_FREE],
	      (unsigned long long)values[MIN_FREE],
	      (unsigned long long)values[READS],
	      (unsigned long long)values[WRITES]);
	ops = progress->ops;
	pin = values[PSWPIN];
	pout = values[PSWPOUT];
	last_ms = ms;
}

/* How long something stood still. */
struct still {
	uint64_t last;
	long long moved_ms;
	long long longest_ms;
};

static struct still all, hog; /* all: hog's counter and the kernel's */
static long long latest_ms; /* by which a tick of the main thread was late */

static void follow(struct still *s, uint64_t counter, long long ms, bool idle)
{
	if (idle)
		s->moved_ms = ms;
	if (ms - s->moved_ms > s->longest_ms)
		s->longest_ms = ms - s->moved_ms;
	if (counter != s->last)
		s->moved_ms = ms;
	s->last = counter;
}

static void print_totals(void)
{
	PRINT("=longest_gap_ms %lld\n=hog_gap_ms %lld\n=gauge_late_ms %lld\n=pswpin %llu\n=pswpout %llu\n",
	      all.longest_ms, hog.longest_ms, latest_ms, since(PSWPIN), since(PSWPOUT));
	PRINT("=counters {\"oom_kill\":%llu,\"allocstall\":%llu,\"PFMemallocDrop\":%llu,\"TCPTimeouts\":%llu,\"TCPRcvQDrop\":%llu,\"PruneCalled\":%llu,\"samples\":%llu}\n",
	      since(OOM_KILL), since(ALLOCSTALL), since(PFMEMALLOC_DROP),
	      since(TCP_TIMEOUTS), since(TCP_RCVQ_DROP), since(PRUNE_CALLED),
	      (unsigned long long)samples_count);
}

/* Tell what every task waits for, then give the machine back. */
static void stall(int sysrq_fd)
{
	static const char keys[] = "8wmt";
	const struct timespec pause = { .tv_sec = 2 };

	PRINT("=result stall\n=reason no progress for %lld ms\n=hog_phase %llu\n=pages_verified %llu\n=mismatches %llu\n",
	      all.longest_ms, (unsigned long long)progress->phase,
	      (unsigned long long)progress->verified,
	      (unsigned long long)progress->mismatches);
	print_totals();
	if (sysrq_fd < 0)
		exit(1);
	for (unsigned i = 0; keys[i]; i++)
		if (write(sysrq_fd, keys + i, 1) < 0)
			break;
	/* The port still has to be emptied; it has no memory of its own. */
	nanosleep(&pause, NULL);
	if (write(sysrq_fd, "b", 1) < 0)
		exit(1);
}

static void watch(long long stall_ms, int sysrq_fd)
{
	const struct timespec tick = { .tv_nsec = TICK_NS };
	long long start_ms = now_ms();
	long long last_ms = start_ms;
	bool used_up = false;

	all.moved_ms = hog.moved_ms = start_ms;
	for (unsigned tick_count = 1; !ended; tick_count++) {
		uint64_t phase = progress->phase, ops = progress->ops;
		bool idle = phase == PHASE_IDLE || phase == PHASE_DONE;
		long long ms = now_ms();

		if (ms - last_ms - TICK_NS / 1000000 > latest_ms)
			latest_ms = ms - last_ms - TICK_NS / 1000000;
		last_ms = ms;
		follow(&all,
		       ops + values[PSWPIN] + values[PSWPOUT] +
			       values[COMPLETED],
		       ms, idle);
		follow(&hog, ops, ms, idle);
		if (ms - all.moved_ms > stall_ms)
			stall(sysrq_fd);
		if (!used_up && since(PSWPOUT) > USED_UP_PAGES) {
			used_up = true;
			PRINT("@swapping\n");
		}
		if (tick_count % TICKS_PER_LINE == 0)
			print_line(ms - start_ms);
		nanosleep(&tick, NULL);
	}
	print_totals();
	printf("%lld %lld\n", all.longest_ms, hog.longest_ms);
}

static void on_term(int signal_number)
{
	(void)signal_number;
	ended = 1;
}

static int open_read(const char *path)
{
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Each protection that is missing is told: the numbers would mislead. */
static void protect(void)
{
	const struct sched_param fifo = { .sched_priority = 90 };
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "-1000", 5) != 5)
		perror("gauge: oom_score_adj");
	if (fd >= 0)
		close(fd);
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
		perror("gauge: PR_SET_IO_FLUSHER");
	if (sched_setscheduler(0, SCHED_FIFO, &fifo))
		perror("gauge: SCHED_FIFO");
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		perror("gauge: mlockall");
}

static void make_progress_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, sizeof(*progress))) {
		perror("gauge: progress file");
		exit(2);
	}
	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE,
			MAP_SHARED, fd, 0);
	if (progress == MAP_FAILED) {
		perror("gauge: progress file");
		exit(2);
	}
	memset(progress, 0, sizeof(*progress));
	close(fd);
}

int main(int argc, char **argv)
{
	static char text[TEXT_BYTES], disk_text[DISK_TEXT_BYTES];
	char path[128];
	pthread_attr_t attr;
	pthread_t thread, disk_thread;
	int sysrq_fd = -1;

	if (argc < 5 || argc > 6) {
		fprintf(stderr,
			"usage: gauge PROGRESS OUTPUT DISK STALL_SECONDS [sysrq]\n");
		return 2;
	}
	out = open(argv[2], O_WRONLY | O_APPEND | O_NOCTTY | O_CLOEXEC);
	if (out < 0) {
		perror("gauge: output");
		return 2;
	}
	snprintf(path, sizeof(path), "/sys/block/%.64s/inflight", argv[3]);
	inflight_fd = open_read(path);
	snprintf(path, sizeof(path), "/sys/block/%.64s/stat", argv[3]);
	disk_fd = open_read(path);
	vmstat_fd = open_read("/proc/vmstat");
	meminfo_fd = open_read("/proc/meminfo");
	netstat_fd = open_read("/proc/net/netstat");
	minfree_fd = open_read("/proc/sys/vm/min_free_kbytes");
	if (argc == 6)
		sysrq_fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);

	protect();
	sample(text);
	if (load(disk_fd, disk_text, DISK_TEXT_BYTES))
		values[COMPLETED] = completed(disk_text);
	for (unsigned i = 0; i < VALUE_COUNT; i++)
		base[i] = values[i];
	signal(SIGTERM, on_term);
	/* A small stack: what is locked here the hog does not get. */
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	if (pthread_create(&thread, &attr, reader, text) ||
	    pthread_create(&disk_thread, &attr, disk_reader, disk_text)) {
		fprintf(stderr, "gauge: no thread\n");
		return 2;
	}
	/* Last, because the file says that all is ready. */
	make_progress_file(argv[1]);
	watch(atoll(argv[4]) * 1000, sysrq_fd);
	pthread_join(thread, NULL);
	pthread_join(disk_thread, NULL);
	return 0;
}
