// SPDX-License-Identifier: GPL-2.0-or-later
/* What a service manager hears, and when: its end of the socket is here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/notify.h"
#include "nbd-client/stats.h"

#define START_NS (1000 * NS_PER_S)

static struct stats_page page;
static char path[108];
static int manager_fd = -1;

/* The manager's socket: a path, or with '@' an abstract name. */
static void listen_at(const char *name)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				      strlen(name));

	memcpy(at.sun_path, name, strlen(name));
	if (name[0] == '@')
		at.sun_path[0] = '\0';
	manager_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(manager_fd, (struct sockaddr *)&at, bytes), 0);
	setenv("NOTIFY_SOCKET", name, 1);
}

/* The next message; "" if there is none. */
static const char *hear(void)
{
	static char text[1024];
	ssize_t n = recv(manager_fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static int setup(void **state)
{
	(void)state;
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	memset(&page, 0, sizeof(page));
	page.state = STATS_LIVE;
	page.link = STATS_LINK_UP;
	page.data.heartbeat_ns = START_NS;
	snprintf(page.uri, sizeof(page.uri), "nbd://server/swap");
	snprintf(path, sizeof(path), "/tmp/test-notify.%d", (int)getpid());
	listen_at(path);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	notify_close();
	close(manager_fd);
	unlink(path);
	return 0;
}

static void nobody_to_tell(void **state)
{
	static const char *const bad[] = { "", "relative", "/", "@" };
	char too_long[200] = "/";

	(void)state;
	memset(too_long + 1, 'x', sizeof(too_long) - 2);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv("NOTIFY_SOCKET", bad[i], 1);
		notify_open();
		notify_ready();
		notify_step(&page, START_NS);
		notify_stopping();
	}
	setenv("NOTIFY_SOCKET", too_long, 1);
	notify_open();
	notify_ready();
	unsetenv("NOTIFY_SOCKET");
	notify_open();
	notify_ready();
	notify_step(&page, START_NS);
	assert_string_equal(hear(), "");
}

static void from_ready_to_stopping(void **state)
{
	(void)state;
	notify_open();
	page.state = STATS_ATTACHING;
	notify_step(&page, START_NS);
	assert_string_equal(hear(), "");
	page.state = STATS_LIVE;
	notify_ready();
	assert_string_equal(hear(), "READY=1");
	notify_step(&page, START_NS);
	assert_string_equal(hear(), "STATUS=serving nbd://server/swap");
	notify_stopping();
	assert_string_equal(hear(), "STOPPING=1\nSTATUS=detaching");
	/* Swap is switched off while the device is as it was. */
	page.link = STATS_LINK_DOWN;
	notify_step(&page, START_NS + NS_PER_S);
	notify_stopping();
	page.state = STATS_DETACHING;
	notify_step(&page, START_NS + 2 * NS_PER_S);
	assert_string_equal(hear(), "");
}

static void progress_of_a_command(void **state)
{
	(void)state;
	notify_progress("too early", 1);
	notify_open();
	notify_progress("half of it", 90);
	assert_string_equal(hear(), "EXTEND_TIMEOUT_USEC=90000000\n"
				    "STATUS=half of it");
	notify_progress("half of it", 0);
	assert_string_equal(hear(), "STATUS=half of it");
}

static void abstract_name(void **state)
{
	char name[64];

	(void)state;
	close(manager_fd);
	snprintf(name, sizeof(name), "@test-notify.%d", (int)getpid());
	listen_at(name);
	notify_open();
	notify_ready();
	assert_string_equal(hear(), "READY=1");
}

static void status_only_when_new(void **state)
{
	(void)state;
	notify_open();
	notify_step(&page, START_NS);
	assert_string_equal(hear(), "STATUS=serving nbd://server/swap");
	notify_step(&page, START_NS + NS_PER_S);
	assert_string_equal(hear(), "");
	page.link = STATS_LINK_DOWN;
	snprintf(page.link_error, sizeof(page.link_error), "it\nMAINPID=1");
	notify_step(&page, START_NS + 2 * NS_PER_S);
	assert_string_equal(hear(),
			    "STATUS=link lost: it?MAINPID=1; reconnecting");
	page.link = STATS_LINK_CONNECTING;
	notify_step(&page, START_NS + 3 * NS_PER_S);
	assert_string_equal(hear(), "");
	page.connect_attempts = 2;
	notify_step(&page, START_NS + 3 * NS_PER_S);
	assert_string_equal(hear(), "STATUS=link lost: it?MAINPID=1; "
				    "reconnecting, attempt 2");
	page.link = STATS_LINK_UP;
	page.memory_tight = 1;
	page.data.states[REQUEST_PUT_OFF] = 1;
	notify_step(&page, START_NS + 4 * NS_PER_S);
	assert_string_equal(hear(), "STATUS=serving nbd://server/swap; "
				    "the server fails requests; "
				    "memory is tight");
	page.data.states[REQUEST_PUT_OFF] = 0;
	page.memory_tight = 0;
	page.request_timeout_ms = 2000;
	page.data.owed_since_ns = START_NS + 3 * NS_PER_S;
	notify_step(&page, START_NS + 5 * NS_PER_S - 1);
	assert_string_equal(hear(), "STATUS=serving nbd://server/swap");
	notify_step(&page, START_NS + 5 * NS_PER_S);
	assert_string_equal(hear(), "STATUS=serving nbd://server/swap; "
				    "the server does not answer");
	page.request_timeout_ms = 0;
	page.endpoint = 1;
	snprintf(page.endpoints[1].uri, sizeof(page.endpoints[1].uri),
		 "nbd://other/swap");
	notify_step(&page, START_NS + 6 * NS_PER_S);
	assert_string_equal(hear(), "STATUS=serving nbd://other/swap");
	page.endpoint = 0;
}

/* A manager that does not listen misses nothing that still holds. */
static void told_again(void **state)
{
	(void)state;
	notify_open();
	close(manager_fd);
	unlink(path);
	notify_ready();
	notify_step(&page, START_NS);
	listen_at(path);
	notify_step(&page, START_NS + NS_PER_S);
	assert_string_equal(hear(), "READY=1");
	assert_string_equal(hear(), "STATUS=serving nbd://server/swap");
	assert_string_equal(hear(), "");
}

/* The second of each time at which a sign of life was sent, as bits. */
static uint64_t signs_of_life(uint32_t seconds, uint32_t beats_until)
{
	uint64_t bits = 0;

	for (uint32_t s = 0; s < seconds; s++) {
		if (s <= beats_until)
			page.data.heartbeat_ns = START_NS + s * NS_PER_S;
		notify_step(&page, START_NS + s * NS_PER_S);
		for (const char *text = hear(); *text; text = hear())
			if (!strcmp(text, "WATCHDOG=1"))
				bits |= 1ull << s;
	}
	return bits;
}

static void watchdog_while_the_data_thread_lives(void **state)
{
	char pid[16];

	(void)state;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("WATCHDOG_USEC", "20000000", 1);
	setenv("WATCHDOG_PID", pid, 1);
	notify_open();
	assert_int_equal(signs_of_life(16, 16), 0x8421); /* each 5 s */
	notify_open();
	/* The last beat at 3 s: silent from 8 s on. */
	assert_int_equal(signs_of_life(30, 3), 0x21);
}

static void no_watchdog(void **state)
{
	(void)state;
	notify_open();
	assert_int_equal(signs_of_life(60, 60), 0);
	setenv("WATCHDOG_USEC", "20000000", 1);
	setenv("WATCHDOG_PID", "1", 1); /* somebody else's */
	notify_open();
	assert_int_equal(signs_of_life(60, 60), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nobody_to_tell),
		TEST(from_ready_to_stopping),
		TEST(progress_of_a_command),
		TEST(abstract_name),
		TEST(status_only_when_new),
		TEST(told_again),
		TEST(watchdog_while_the_data_thread_lives),
		TEST(no_watchdog),
	};

	return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
