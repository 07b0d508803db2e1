// SPDX-License-Identifier: GPL-2.0-or-later
/* Datagrams to a service manager, as sd_notify(3) describes them. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "nbd-client/notify.h"
#include "nbd-client/stats.h"

static struct {
	int fd; /* -1: nobody wants to know */
	socklen_t to_bytes;
	struct sockaddr_un to;
	bool ready_due; /* the device is there, and that is not told */
	bool stopping;  /* that is told */
	uint64_t
		watchdog_ns; /* 0: none; a sign of life is due four times in it */
	uint64_t alive_ns;   /* of the last one */
	char status[256];    /* as sent last */
} notify = { .fd = -1 };

static uint64_t watchdog_ns(void)
{
	const char *usec = getenv("WATCHDOG_USEC");
	const char *pid = getenv("WATCHDOG_PID");

	if (!usec || (pid && strtol(pid, NULL, 10) != getpid()))
		return 0;
	return strtoull(usec, NULL, 10) * 1000;
}

void notify_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t length = path ? strlen(path) : 0;

	notify_close();
	if (length < 2 || length >= sizeof(notify.to.sun_path) ||
	    (path[0] != '/' && path[0] != '@'))
		return;
	notify.to.sun_family = AF_UNIX;
	memcpy(notify.to.sun_path, path, length + 1);
	if (path[0] == '@') /* in the abstract name space */
		notify.to.sun_path[0] = '\0';
	notify.to_bytes =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	notify.watchdog_ns = watchdog_ns();
	notify.alive_ns = 0;
	notify.ready_due = false;
	notify.stopping = false;
	notify.status[0] = '\0';
	notify.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

void notify_close(void)
{
	if (notify.fd >= 0)
		close(notify.fd);
	notify.fd = -1;
}

static bool tell(const char *text)
{
	return sendto(notify.fd, text, strlen(text),
		      MSG_DONTWAIT | MSG_NOSIGNAL,
		      (struct sockaddr *)&notify.to, notify.to_bytes) >= 0;
}

void notify_ready(void)
{
	notify.ready_due = notify.fd >= 0 && !tell("READY=1");
}

void notify_stopping(void)
{
	if (notify.fd >= 0 && !notify.stopping)
		notify.stopping = tell("STOPPING=1\nSTATUS=detaching");
}

void notify_progress(const char *text, uint32_t extend_s)
{
	char message[256];

	if (notify.fd < 0)
		return;
	if (extend_s)
		snprintf(message, sizeof(message),
			 "EXTEND_TIMEOUT_USEC=%u000000\nSTATUS=%.180s",
			 extend_s, text);
	else
		snprintf(message, sizeof(message), "STATUS=%.180s", text);
	(void)tell(message);
}

static bool is_silent(const struct stats_page *page, uint64_t now_ns)
{
	uint64_t since_ns = page->data.owed_since_ns;

	return page->request_timeout_ms && since_ns && since_ns < now_ns &&
	       now_ns - since_ns >= page->request_timeout_ms * NS_PER_MS;
}

static void tell_status(const struct stats_page *page, uint64_t now_ns)
{
	char status[sizeof(notify.status)], attempts[40] = "";
	const char *low = page->memory_tight ? "; memory is tight" : "";
	const char *uri = page->endpoint ? page->endpoints[page->endpoint].uri :
					   page->uri;
	const char *errors = page->data.states[REQUEST_PUT_OFF] ?
				     "; the server fails requests" :
			     is_silent(page, now_ns) ?
				     "; the server does not answer" : "";

	if (page->connect_attempts)
		snprintf(attempts, sizeof(attempts), ", attempt %" PRIu64,
			 page->connect_attempts);
	if (page->link == STATS_LINK_UP)
		snprintf(status, sizeof(status), "STATUS=serving %.160s%s%s",
			 uri, errors, low);
	else
		snprintf(status, sizeof(status),
			 "STATUS=link lost: %.160s; reconnecting%s%s",
			 page->link_error, attempts, low);
	/* A line is a message of its own, and a server has had a say here. */
	for (char *c = status; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = '?';
	if (strcmp(status, notify.status) != 0 && tell(status))
		memcpy(notify.status, status, sizeof(status));
}

void notify_step(const struct stats_page *page, uint64_t now_ns)
{
	if (notify.fd < 0 || page->state != STATS_LIVE)
		return;
	if (notify.ready_due)
		notify_ready();
	if (!notify.stopping)
		tell_status(page, now_ns);
	/* A quarter: what the manager cannot take now, it gets in time. */
	if (notify.watchdog_ns &&
	    now_ns - notify.alive_ns >= notify.watchdog_ns / 4 &&
	    stats_silent_ns(page->data.heartbeat_ns, now_ns) <
		    STATS_SILENT_NS &&
	    tell("WATCHDOG=1"))
		notify.alive_ns = now_ns;
}
