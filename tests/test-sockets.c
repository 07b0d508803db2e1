// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the sockets that a connection uses up: who gets which, what is
 * taken when there are none, and that whoever comes after a dead process sees
 * all that were in use. The queue is a real one; what is in it are descriptors of
 * pipes, and which of them has had the kernel's TLS is what the test says.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "nbd-client/fd_queue.h"
#include "nbd-client/link_io.h"
#include "nbd-client/sockets.h"

/* ---- sockets that are none ---- */

static ino_t spent[256]; /* what they are, whatever number they have */
static uint32_t spent_count;

static ino_t what(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

int link_socket(int family)
{
	int pair[2];

	(void)family;
	assert_int_equal(pipe(pair), 0);
	close(pair[1]);
	return pair[0];
}

void link_close(int fd)
{
	assert_int_equal(close(fd), 0);
}

int link_disconnect(int fd)
{
	for (uint32_t i = 0; i < spent_count; i++)
		if (spent[i] == what(fd))
			return -EBUSY;
	return 0;
}

void link_shutdown(int fd, int how)
{
	assert_int_equal(how, SHUT_RDWR);
	(void)what(fd);
}

/* ---- a device's ---- */

#define SPARES 3u

static struct sockets s;

static void store(uint32_t count)
{
	while (count--) {
		int fd = sockets_make_spare(&s);

		assert_true(fd >= 0);
		assert_int_equal(sockets_store(&s, fd), 0);
		link_close(fd);
	}
}

static int set_up(void **state)
{
	const struct socket_memory none = { 0 };
	struct err err;
	int reserved;

	(void)state;
	spent_count = 0;
	sockets_init(&s, &none);
	assert_int_equal(sockets_prepare(&s, AF_INET, SOCKETS_COUNT, &reserved,
					 &err), 0);
	assert_int_equal(sockets_open_store(&s, AF_INET, SPARES), 0);
	store(SPARES);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	sockets_fini(&s);
	return 0;
}

static int take(bool once)
{
	struct link_sockets source = once ? sockets_source_once(&s) :
					    sockets_source(&s);
	int fd = source.take(source.arg, AF_INET);

	assert_true(fd >= 0);
	return fd;
}

/* It was given the kernel's TLS. */
static void spend(int fd)
{
	assert_true(spent_count < sizeof(spent) / sizeof(spent[0]));
	spent[spent_count++] = what(fd);
}

static bool is_ready_again(int fd)
{
	return sockets_is_ready(&s, fd) && !sockets_is_once(&s, fd);
}

/* ---- tests ---- */

static void each_is_used_once(void **state)
{
	ino_t seen[SPARES];

	(void)state;
	for (uint32_t i = 0; i < SPARES; i++) {
		int fd = take(true);

		assert_true(sockets_is_once(&s, fd));
		assert_int_equal(sockets_left(&s), SPARES - 1 - i);
		seen[i] = what(fd);
		for (uint32_t j = 0; j < i; j++)
			assert_true(seen[i] != seen[j]);
		spend(fd);
		sockets_give(&s, fd);
		assert_false(sockets_is_ready(&s, fd));
	}
}

/* An attempt that came to nothing costs nothing. */
static void unspent_goes_on(void **state)
{
	int fd = take(true);
	ino_t was = what(fd);

	(void)state;
	for (int i = 0; i < 100; i++) {
		sockets_give(&s, fd);
		fd = take(true);
		assert_true(what(fd) == was);
	}
	assert_int_equal(sockets_left(&s), SPARES - 1);
	assert_int_equal(fd_queue_count(s.store[1]), 1);
}

/* Those that go back are none of the store's, and the other way round. */
static void kinds_are_apart(void **state)
{
	int once = take(true), again = take(false);

	(void)state;
	assert_true(is_ready_again(again));
	assert_int_equal(sockets_left(&s), SPARES - 1);
	sockets_give(&s, once);
	sockets_give(&s, again);
	for (uint32_t i = 0; i < SOCKETS_COUNT; i++)
		assert_true(is_ready_again(take(false)));
	assert_false(sockets_is_ready(&s, take(false)));
}

static void run_out(void **state)
{
	int fd;

	(void)state;
	for (uint32_t i = 0; i < SPARES; i++) {
		fd = take(true);
		spend(fd);
		sockets_give(&s, fd);
	}
	fd = take(true);
	assert_true(is_ready_again(fd));
	sockets_give(&s, fd);
	/* Until there is one again. */
	store(1);
	assert_true(sockets_is_once(&s, take(true)));
}

static void another_family(void **state)
{
	struct link_sockets source = sockets_source_once(&s);
	int fd = source.take(source.arg, AF_INET6);

	(void)state;
	assert_false(sockets_is_ready(&s, fd));
	assert_int_equal(sockets_left(&s), SPARES);
	sockets_give(&s, fd);
}

/* Nothing need be donated: then there are always more. */
static void made_when_taken(void **state)
{
	(void)state;
	s.spares = 0;
	for (int i = 0; i < 100; i++) {
		int fd = take(true);

		assert_true(sockets_is_once(&s, fd));
		spend(fd);
		sockets_give(&s, fd);
	}
	assert_int_equal(sockets_left(&s), SPARES);
}

/* More at a time than a device ever needs. */
static void no_place_left(void **state)
{
	(void)state;
	s.spares = 0;
	for (uint32_t i = 0; i < SOCKETS_ONCE_MAX +
				 SOCKETS_MAX - SOCKETS_COUNT; i++)
		assert_true(sockets_is_once(&s, take(true)));
	assert_true(is_ready_again(take(true)));
}

/* What another process with the same store sees when this one has died. */
static bool heir_sees(ino_t wanted)
{
	struct sockets heir = { .store = { s.store[0], s.store[1] },
				.store_family = AF_INET,
				.spares = SPARES };
	bool seen = false;

	assert_true(sockets_inherit(&heir));
	for (uint32_t i = 0; i < heir.count; i++) {
		assert_true(heir.ready[i].once && !heir.ready[i].taken);
		seen |= what(heir.ready[i].fd) == wanted;
		close(heir.ready[i].fd);
	}
	return seen;
}

static void heir_sees_what_is_used(void **state)
{
	int first = take(true), second = take(true);

	(void)state;
	assert_true(heir_sees(what(first)));
	assert_true(heir_sees(what(second)));
	assert_true(heir_sees(what(first))); /* and so does his */
}

static int descriptors(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* One stays in use, another changes: no note of it is ever missing, or too old. */
static void notes_stay_few(void **state)
{
	int stays = take(true), open = 0;

	(void)state;
	spend(stays);
	s.spares = 0;
	for (int i = 0; i < 100; i++) {
		int fd = take(true);

		assert_true(heir_sees(what(stays)));
		assert_true(heir_sees(what(fd)));
		spend(fd);
		sockets_give(&s, fd);
		assert_true(fd_queue_count(s.store[1]) <= 6);
		if (i == 0)
			open = descriptors();
		assert_int_equal(descriptors(), open);
	}
}

/* He has them all, lets the spent ones go, and uses the others. */
static void heir_goes_on(void **state)
{
	int used = take(true), idle = take(true);
	ino_t is = what(idle);

	(void)state;
	spend(used);
	/* As if this process had only what its parent has. */
	s.count = SOCKETS_COUNT;
	assert_true(sockets_inherit(&s));
	assert_int_equal(s.count, SOCKETS_COUNT + 2);
	sockets_reset(&s);
	assert_true(what(take(true)) == is);
	assert_true(sockets_is_once(&s, take(true)));
	assert_int_equal(sockets_left(&s), SPARES - 3);
	close(used);
	close(idle);
}

static void taken_by_another_process(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0)
		_exit(!sockets_is_once(&s, take(true)));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(sockets_left(&s), SPARES - 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_is_used_once),
		TEST(unspent_goes_on),
		TEST(kinds_are_apart),
		TEST(run_out),
		TEST(another_family),
		TEST(made_when_taken),
		TEST(no_place_left),
		TEST(heir_sees_what_is_used),
		TEST(notes_stay_few),
		TEST(heir_goes_on),
		TEST(taken_by_another_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
