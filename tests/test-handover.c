// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the handover: a process of ours becomes this very program once
 * more, by way of one that asks it to, and finds all that it knew and had open.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "nbd-client/handover.h"

#define RESUMED 42 /* exit status of a process that was handed over well */

static struct handover h;

static void fill(struct handover *to)
{
	memset(to, 0, sizeof(*to));
	to->layout = HANDOVER_LAYOUT;
	to->worker_pid = 4711;
	to->background = true;
	blockdev_set(&to->device, FRONT_UBLK, 7);
	to->slots = 32;
	to->ends.count = 1;
	to->ends.list[0].addrs.count = 1;
	snprintf(to->ends.list[0].addrs.where,
		 sizeof(to->ends.list[0].addrs.where), "there");
	to->export.size_bytes = 1ull << 40;
	to->ends.sockets.count = 1;
	to->ends.sockets.ready[0].fd = -1;
	to->queues = 2;
	to->more_sockets[0].count = 1;
}

/* In the program that was handed over to; argv as the first one gave it. */
static int resumed(int argc, char **argv)
{
	struct handover expected;
	struct err err = { 0 };
	int fd;

	if (handover_take(&h, &err) != 1 || argc != 3 ||
	    strcmp(argv[1], "attach") || strcmp(argv[2], "the words"))
		return 1;
	fd = h.more_sockets[0].ready[0].fd;
	fill(&expected);
	if (h.worker_pid != expected.worker_pid || !h.background ||
	    strcmp(h.device.path, expected.device.path) != 0 ||
	    h.slots != expected.slots ||
	    h.ends.count != expected.ends.count ||
	    strcmp(h.ends.list[0].addrs.where,
		   expected.ends.list[0].addrs.where) != 0 ||
	    h.export.size_bytes != expected.export.size_bytes)
		return 2;
	/* It stays open, but not for whom this program executes. */
	if (fcntl(fd, F_GETFD) != FD_CLOEXEC || write(fd, "!", 1) != 1)
		return 3;
	/* And what lies ready for both. */
	if (sockets_left(&h.ends.sockets) != 1 ||
	    fcntl(h.ends.sockets.store[0], F_GETFD) != FD_CLOEXEC ||
	    fcntl(h.ends.sockets.store[1], F_GETFD) != FD_CLOEXEC)
		return 7;
	if (getenv("NBD_CLIENT_HANDOVER") || handover_take(&h, &err) != 0)
		return 4;
	return RESUMED;
}

static int end_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static pid_t start_supervisor(int signal_fd, int pipe_fd)
{
	char *words[] = { (char *)"attach", (char *)"the words" };
	struct pollfd ready = { .fd = signal_fd, .events = POLLIN };
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	const struct __user_cap_data_struct none[2] = { 0 };
	struct signalfd_siginfo info;
	pid_t pid = fork();

	if (pid)
		return pid;
	/* As in a service with a bounding set. */
	(void)syscall(SYS_capset, &head, none);
	fill(&h);
	h.more_sockets[0].ready[0].fd = pipe_fd;
	if (sockets_open_store(&h.ends.sockets, AF_INET, 2) ||
	    sockets_store(&h.ends.sockets, pipe_fd))
		_exit(8);
	for (;;) {
		if (poll(&ready, 1, 10000) != 1 ||
		    read(signal_fd, &info, sizeof(info)) != sizeof(info))
			_exit(5);
		if (!handover_is_asked(&info))
			continue;
		handover_exec(&h, (pid_t)info.ssi_pid, 2, words);
		_exit(6);
	}
}

static void becomes_the_askers_program(void **state)
{
	sigset_t set;
	int signal_fd, fds[2];
	char byte = 0;
	pid_t pid;

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, handover_signal());
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = start_supervisor(signal_fd, fds[1]);
	/* A plain signal is not a request. */
	assert_int_equal(kill(pid, handover_signal()), 0);
	assert_int_equal(handover_ask(pid), 0);
	assert_int_equal(end_of(pid), RESUMED);
	assert_int_equal(read(fds[0], &byte, 1), 1);
	assert_int_equal(byte, '!');
	close(fds[0]);
	close(fds[1]);
	close(signal_fd);
}

static void cannot_and_goes_on(void **state)
{
	char *words[] = { (char *)"attach" };
	pid_t pid = fork();
	int fds[2];

	(void)state;
	if (pid == 0)
		_exit(0);
	assert_int_equal(end_of(pid), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	fill(&h);
	h.more_sockets[0].ready[0].fd = fds[1];
	/* Who asked is gone by now. */
	assert_int_equal(handover_exec(&h, pid, 1, words), -ENOENT);
	assert_int_equal(fcntl(fds[1], F_GETFD), FD_CLOEXEC);
	assert_null(getenv("NBD_CLIENT_HANDOVER"));
	close(fds[0]);
	close(fds[1]);
}

static void another_layout_is_not_understood(void **state)
{
	struct err err = { 0 };
	char number[16];
	int fd = memfd_create("test", 0);

	(void)state;
	fill(&h);
	h.layout++;
	assert_int_equal(write(fd, &h, sizeof(h)), sizeof(h));
	snprintf(number, sizeof(number), "%d", fd);
	setenv("NBD_CLIENT_HANDOVER", number, 1);
	assert_int_equal(handover_take(&h, &err), -EPROTO);
	assert_int_equal(err.exit_code, X_FAILURE);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(becomes_the_askers_program),
		cmocka_unit_test(cannot_and_goes_on),
		cmocka_unit_test(another_layout_is_not_understood),
	};

	if (getenv("NBD_CLIENT_HANDOVER"))
		return resumed(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
