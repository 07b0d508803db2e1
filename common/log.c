// SPDX-License-Identifier: GPL-2.0-or-later
/* Where messages leave the process. Control thread and command line only. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"

#define LOG_DAEMON_FACILITY (3 << 3) /* syslog(3), LOG_DAEMON */

static const char *log_name = "nbd-client";
static enum log_level log_most = LOG_LEVEL_NOTICE;
static enum log_target log_target = LOG_TO_STDERR;
static int log_socket = -1;
static bool log_prefixed;
static uint64_t log_dropped;

static int open_syslog(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX,
				  .sun_path = "/dev/log" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* systemd.exec(5), JOURNAL_STREAM; it may have been redirected since. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat status;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       fstat(STDERR_FILENO, &status) == 0 &&
	       status.st_dev == device && status.st_ino == inode;
}

void log_open(const char *name, enum log_target target, enum log_level most)
{
	log_name = name;
	log_most = most;
	log_prefixed = stderr_is_journal();
	log_target = target;
}

/* The log may come after us, and be restarted while we run. */
static void send_syslog(const char *line, size_t bytes)
{
	for (int tries = 0; tries < 2; tries++) {
		if (log_socket < 0)
			log_socket = open_syslog();
		if (log_socket < 0)
			break;
		if (send(log_socket, line, bytes, MSG_NOSIGNAL) >= 0)
			return;
		if (errno == EAGAIN || errno == ENOBUFS)
			break;
		close(log_socket);
		log_socket = -1;
	}
	log_dropped++;
}

/* Standard error may be the journal's socket or a pipe that nobody empties. */
static void write_stderr(const char *line, size_t bytes)
{
	struct pollfd ready = { .fd = STDERR_FILENO, .events = POLLOUT };

	if (send(STDERR_FILENO, line, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return;
	if (errno != ENOTSOCK || poll(&ready, 1, 0) != 1 ||
	    write(STDERR_FILENO, line, bytes) < 0)
		log_dropped++;
}

static void deliver(enum log_level level, const char *text)
{
	char line[700];
	int n;

	if (log_target == LOG_TO_SYSLOG) {
		n = snprintf(line, sizeof(line), "<%d>%s[%d]: %s",
			     LOG_DAEMON_FACILITY | (int)level, log_name,
			     (int)getpid(), text);
		if (n >= (int)sizeof(line))
			n = sizeof(line) - 1;
		send_syslog(line, (size_t)n);
		return;
	}
	if (log_prefixed)
		n = snprintf(line, sizeof(line), "<%d>%s: %s\n", (int)level,
			     log_name, text);
	else
		n = snprintf(line, sizeof(line), "%s: %s\n", log_name, text);
	if (n >= (int)sizeof(line)) {
		n = sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	write_stderr(line, (size_t)n);
}

void log_say(enum log_level level, const char *format, ...)
{
	char text[600];
	va_list args;

	if (level > log_most)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	deliver(level, text);
}

void log_drain(struct log_ring *ring)
{
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	uint32_t lost = atomic_exchange(&ring->lost, 0);

	for (; tail != head; tail++) {
		const struct log_record *r =
			&ring->records[tail % LOG_RECORDS];
		char text[300];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(text, sizeof(text), r->text, r->a, r->b);
#pragma GCC diagnostic pop
		if (r->level <= log_most)
			deliver(r->level, text);
	}
	atomic_store_explicit(&ring->tail, tail, memory_order_release);
	if (lost)
		log_say(LOG_LEVEL_WARNING, "%u messages were lost", lost);
}
