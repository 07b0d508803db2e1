// SPDX-License-Identifier: GPL-2.0-or-later
/* Messages: levels, prefixes, cut lines, a log that nobody reads, the ring. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/log.h"

/* Standard error of this process, while a test listens to it. */
static int heard_fd = -1;
static int stderr_fd = -1;
static char heard[65536];

/* As a service manager does that has connected standard error to the journal. */
static void announce_journal(void)
{
	char stream[48];
	struct stat status;

	assert_int_equal(fstat(STDERR_FILENO, &status), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)status.st_dev,
		 (uintmax_t)status.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
}

static void listen_to(int reader, int writer)
{
	fflush(stderr);
	stderr_fd = dup(STDERR_FILENO);
	assert_int_equal(dup2(writer, STDERR_FILENO), STDERR_FILENO);
	close(writer);
	heard_fd = reader;
	assert_int_equal(fcntl(reader, F_SETFL, O_NONBLOCK), 0);
	announce_journal();
}

static void listen_by_pipe(void)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	listen_to(fds[0], fds[1]);
}

/* All that has been said since. */
static const char *hear(void)
{
	size_t used = 0;
	ssize_t n;

	while ((n = read(heard_fd, heard + used, sizeof(heard) - 1 - used)) > 0)
		used += (size_t)n;
	heard[used] = '\0';
	return heard;
}

static int stop_listening(void **state)
{
	(void)state;
	if (heard_fd >= 0) {
		dup2(stderr_fd, STDERR_FILENO);
		close(stderr_fd);
		close(heard_fd);
	}
	heard_fd = -1;
	unsetenv("JOURNAL_STREAM");
	return 0;
}

static void levels_and_prefixes(void **state)
{
	(void)state;
	listen_by_pipe();
	log_open("test", LOG_TO_STDERR, LOG_LEVEL_NOTICE);
	log_say(LOG_LEVEL_ERR, "an error, %d", 5);
	log_say(LOG_LEVEL_NOTICE, "a notice");
	log_say(LOG_LEVEL_INFO, "nobody wants to know");
	log_say(LOG_LEVEL_DEBUG, "nor this");
	assert_string_equal(hear(), "<3>test: an error, 5\n<5>test: a notice\n");
	log_open("test", LOG_TO_STDERR, LOG_LEVEL_DEBUG);
	log_say(LOG_LEVEL_DEBUG, "all");
	assert_string_equal(hear(), "<7>test: all\n");
}

/* The journal's end of a service's standard error is a socket. */
static void to_a_socket(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	listen_to(pair[0], pair[1]);
	log_open("test", LOG_TO_STDERR, LOG_LEVEL_NOTICE);
	log_say(LOG_LEVEL_WARNING, "to a socket");
	assert_string_equal(hear(), "<4>test: to a socket\n");
}

/* The journal is announced, but standard error is not that any more. */
static void redirected(void **state)
{
	(void)state;
	listen_by_pipe();
	setenv("JOURNAL_STREAM", "8:1", 1);
	log_open("test", LOG_TO_STDERR, LOG_LEVEL_NOTICE);
	log_say(LOG_LEVEL_WARNING, "to a file");
	assert_string_equal(hear(), "test: to a file\n");
}

/* In a terminal there is no level before it. */
static void to_a_terminal(void **state)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	char name[64];
	int slave;

	(void)state;
	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
	    ptsname_r(master, name, sizeof(name)) != 0)
		skip();
	slave = open(name, O_RDWR | O_NOCTTY);
	if (slave < 0)
		skip();
	listen_to(master, slave);
	unsetenv("JOURNAL_STREAM");
	log_open("test", LOG_TO_STDERR, LOG_LEVEL_NOTICE);
	log_say(LOG_LEVEL_WARNING, "to a person");
	assert_string_equal(hear(), "test: to a person\r\n");
}

static void long_lines_are_cut(void **state)
{
	char text[2000];
	size_t n;

	(void)state;
	listen_by_pipe();
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_open("test", LOG_TO_STDERR, LOG_LEVEL_NOTICE);
	log_say(LOG_LEVEL_ERR, "%s", text);
	n = strlen(hear());
	assert_true(n > 500 && n < 700);
	assert_int_equal(heard[n - 1], '\n');
	assert_ptr_equal(strchr(heard, '\n'), heard + n - 1);

	log_open(text + sizeof(text) - 1 - 300, LOG_TO_STDERR, LOG_LEVEL_NOTICE);
	log_say(LOG_LEVEL_ERR, "%s", text);
	n = strlen(hear());
	assert_int_equal(heard[n - 1], '\n');
	assert_ptr_equal(strchr(heard, '\n'), heard + n - 1);
}

/* Nobody empties the pipe: say() comes back all the same, and loses lines. */
static void full_pipe_does_not_block(void **state)
{
	size_t lines = 0;

	(void)state;
	listen_by_pipe();
	log_open("test", LOG_TO_STDERR, LOG_LEVEL_NOTICE);
	for (int i = 0; i < 100000; i++)
		log_say(LOG_LEVEL_ERR, "line %d", i);
	for (const char *at = hear(); (at = strchr(at, '\n')); at++)
		lines++;
	assert_true(lines > 100 && lines < 100000);
	/* And goes on once there is room. */
	while (*hear())
		;
	log_say(LOG_LEVEL_ERR, "there you are");
	assert_string_equal(hear(), "<3>test: there you are\n");
}

/* ---- the data thread's ring ---- */

static struct log_ring ring;

static void ring_in_order(void **state)
{
	char expected[100];

	(void)state;
	memset(&ring, 0, sizeof(ring));
	listen_by_pipe();
	log_open("test", LOG_TO_STDERR, LOG_LEVEL_NOTICE);
	log_drain(&ring);
	assert_string_equal(hear(), "");
	for (uint64_t i = 0; i < 3 * LOG_RECORDS; i++) {
		log_ring_put(&ring, LOG_LEVEL_WARNING,
			     "%" PRIu64 " of %" PRIu64, i, UINT64_MAX);
		if (i % 7)
			continue;
		log_ring_put(&ring, LOG_LEVEL_DEBUG, "not wanted", 0, 0);
		hear();
		log_drain(&ring);
		snprintf(expected, sizeof(expected),
			 "<4>test: %" PRIu64 " of %" PRIu64 "\n", i, UINT64_MAX);
		assert_non_null(strstr(hear(), expected));
		assert_null(strstr(heard, "not wanted"));
	}
}

static void full_ring_counts_what_it_loses(void **state)
{
	size_t lines = 0;

	(void)state;
	memset(&ring, 0, sizeof(ring));
	/* Near the wrap of its counters. */
	atomic_store(&ring.head, UINT32_MAX - 5);
	atomic_store(&ring.tail, UINT32_MAX - 5);
	listen_by_pipe();
	log_open("test", LOG_TO_STDERR, LOG_LEVEL_NOTICE);
	for (uint64_t i = 0; i < LOG_RECORDS + 9; i++)
		log_ring_put(&ring, LOG_LEVEL_ERR, "record %" PRIu64, i, 0);
	log_drain(&ring);
	for (const char *at = hear(); (at = strchr(at, '\n')); at++)
		lines++;
	assert_int_equal(lines, LOG_RECORDS + 1);
	assert_non_null(strstr(heard, "<3>test: record 0\n"));
	assert_non_null(strstr(heard, "record 63\n"));
	assert_null(strstr(heard, "record 64\n"));
	assert_non_null(strstr(heard, "<4>test: 9 messages were lost\n"));
	log_drain(&ring);
	assert_string_equal(hear(), "");
}

/* ---- writer and reader at once ---- */

#define PUTS 200000u

static void *put_many(void *arg)
{
	(void)arg;
	for (uint64_t i = 0; i < PUTS; i++)
		log_ring_put(&ring, LOG_LEVEL_DEBUG, "%" PRIu64, i, ~i);
	return NULL;
}

/* No record is seen half written, none twice, and all are accounted for. */
static void one_writer_one_reader(void **state)
{
	uint64_t seen = 0, lost = 0, next = 0;
	bool ended = false;
	pthread_t thread;

	(void)state;
	memset(&ring, 0, sizeof(ring));
	assert_int_equal(pthread_create(&thread, NULL, put_many, NULL), 0);
	while (!ended || atomic_load(&ring.tail) != atomic_load(&ring.head)) {
		uint32_t tail = atomic_load(&ring.tail);
		uint32_t head = atomic_load(&ring.head);

		/* What log_drain() does, without the text. */
		for (; tail != head; tail++) {
			const struct log_record *r =
				&ring.records[tail % LOG_RECORDS];

			assert_true(r->a >= next);
			assert_int_equal(r->b, ~r->a);
			next = r->a + 1;
			seen++;
		}
		atomic_store(&ring.tail, tail);
		lost += atomic_exchange(&ring.lost, 0);
		if (!ended)
			ended = pthread_tryjoin_np(thread, NULL) == 0;
	}
	lost += atomic_exchange(&ring.lost, 0);
	assert_int_equal(seen + lost, PUTS);
}

#define TEST(name) cmocka_unit_test_teardown(name, stop_listening)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(levels_and_prefixes),
		TEST(to_a_socket),
		TEST(redirected),
		TEST(to_a_terminal),
		TEST(long_lines_are_cut),
		TEST(full_pipe_does_not_block),
		TEST(ring_in_order),
		TEST(full_ring_counts_what_it_loses),
		TEST(one_writer_one_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
