// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * common/ring.c on the kernel's io_uring: what the fake ring of other tests
 * pretends must be true here. Exits 77 where io_uring is not allowed.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/clock.h"
#include "common/list.h"
#include "common/ring.h"

#define BUFFERS 4u
#define BUFFER_BYTES 4096u
#define LONG_MS 10000u /* far more than anything here takes */

static struct ring ring;
static struct rxring rx;
static void *rx_memory;
static int pair[2]; /* ours is RING_LINK; the peer's */

/* An operation, and how it ended. */
struct op {
	struct ring_op op;
	uint32_t ends;
	int res;
	uint32_t flags;
};

static void on_done(struct ring_op *op, int res, uint32_t flags)
{
	struct op *o = list_entry(op, struct op, op);

	assert_int_equal(op->pending, (flags & IORING_CQE_F_MORE) != 0);
	o->ends++;
	o->res = res;
	o->flags = flags;
}

static struct op new_op(void)
{
	return (struct op){ .op.on_done = on_done };
}

/* Waits for the operation's end, which is due. */
static int end_of(struct op *o)
{
	for (int i = 0; i < 1000 && o->op.pending; i++)
		assert_int_equal(ring_wait(&ring, LONG_MS), 0);
	assert_int_equal(o->ends, 1);
	return o->res;
}

/* Waits until it has told `ends` times of itself. */
static void wait_for(struct op *o, uint32_t ends)
{
	for (int i = 0; i < 1000 && o->ends < ends; i++)
		assert_int_equal(ring_wait(&ring, LONG_MS), 0);
	assert_int_equal(o->ends, ends);
}

/* Once around: whatever has ended is told. */
static void poll_ring(void)
{
	assert_int_equal(ring_wait(&ring, 1), 0);
}

static int set_up(void **state)
{
	(void)state;
	assert_int_equal(ring_init(&ring), 0);
	assert_int_equal(posix_memalign(&rx_memory, 4096,
					rxring_bytes(BUFFERS, BUFFER_BYTES)), 0);
	memset(rx_memory, 0, rxring_bytes(BUFFERS, BUFFER_BYTES));
	assert_int_equal(rxring_open(&rx, &ring, 0, BUFFERS, BUFFER_BYTES,
				     rx_memory), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(ring_set_file(&ring, RING_LINK, pair[0]), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	ring_fini(&ring);
	close(pair[0]);
	close(pair[1]);
	free(rx_memory);
	return 0;
}

static void warm_up_leaves_nothing(void **state)
{
	(void)state;
	assert_int_equal(ring_warm_up(&ring), 0);
	assert_int_equal(ring.pending_count, 0);
	assert_int_equal(ring_warm_up(&ring), 0);
	assert_int_equal(ring.pending_count, 0);
}

static void time_out_is_no_error(void **state)
{
	(void)state;
	assert_int_equal(ring_wait(&ring, 0), 0);
	assert_int_equal(ring_wait(&ring, 1), 0);
	assert_int_equal(ring_wait(&ring, 20), 0);
}

/* The ring's own ticks end a wait that has no timer; as timers do without them. */
static void ticks_end_a_wait(void **state)
{
	uint64_t start_ns = clock_now_ns();

	(void)state;
	ring_start_ticks(&ring, 20);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ring_wait(&ring, 20), 0);
	assert_in_range(clock_now_ns() - start_ns, 40 * NS_PER_MS,
			5000 * NS_PER_MS);
	assert_int_equal(ring.pending_count, 0);
	/* A shorter wait still has its own. */
	start_ns = clock_now_ns();
	assert_int_equal(ring_wait(&ring, 1), 0);
	assert_in_range(clock_now_ns() - start_ns, 0, 5000 * NS_PER_MS);
}

/* An eventfd in blocking mode: the read waits in the kernel. */
static void event_read_and_write(void **state)
{
	int fd = eventfd(0, 0);
	uint64_t got = 0, put = 5;
	struct op read_op = new_op(), write_op = new_op();

	(void)state;
	assert_int_equal(ring_set_file(&ring, RING_MAIL, fd), 0);
	assert_int_equal(ring_set_file(&ring, RING_NEWS, fd), 0);
	ring_read(&ring, &read_op.op, RING_MAIL, &got, sizeof(got));
	assert_true(read_op.op.pending);
	assert_int_equal(ring.pending_count, 1);
	poll_ring();
	assert_int_equal(read_op.ends, 0);
	ring_write(&ring, &write_op.op, RING_NEWS, &put, sizeof(put));
	assert_int_equal(end_of(&write_op), 8);
	assert_int_equal(end_of(&read_op), 8);
	assert_int_equal(got, 5);
	assert_int_equal(ring.pending_count, 0);
	/* From outside, as the control thread does it. */
	read_op.ends = 0;
	ring_read(&ring, &read_op.op, RING_MAIL, &got, sizeof(got));
	poll_ring();
	put = 7;
	assert_int_equal(write(fd, &put, 8), 8);
	assert_int_equal(end_of(&read_op), 8);
	assert_int_equal(got, 7);
	close(fd);
}

/* More at once than the submission queue holds. */
#define RING_MANY (RING_ENTRIES + RING_ENTRIES / 2)

/* ---- commands ---- */

/* /dev/null knows commands and does nothing (drivers/char/mem.c). */
static void commands_of_drivers(void **state)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	int event = eventfd(0, EFD_CLOEXEC);
	uint8_t argument[RING_COMMAND_BYTES] = { 1 };
	struct op many[RING_MANY], refused = new_op();

	(void)state;
	for (size_t i = 0; i < RING_MANY; i++) {
		many[i] = new_op();
		ring_command(&ring, &many[i].op, fd, 0, argument,
			     sizeof(argument));
	}
	for (size_t i = 0; i < RING_MANY; i++)
		assert_int_equal(end_of(&many[i]), 0);
	ring_command(&ring, &refused.op, event, 0, argument, sizeof(argument));
	assert_int_equal(end_of(&refused), -EOPNOTSUPP);
	close(event);
	close(fd);
}

/* Whatever happens on the watched ring. */
static void a_watch_never_ends(void **state)
{
	struct io_uring other;
	struct io_uring_cqe *cqe;
	struct op watch = new_op();

	(void)state;
	assert_int_equal(io_uring_queue_init(4, &other, 0), 0);
	ring_watch(&ring, &watch.op, other.ring_fd);
	poll_ring();
	io_uring_prep_nop(io_uring_get_sqe(&other));
	assert_int_equal(io_uring_submit(&other), 1);
	poll_ring();
	assert_int_equal(io_uring_wait_cqe(&other, &cqe), 0);
	poll_ring();
	assert_true(watch.op.pending);
	assert_int_equal(watch.ends, 0);
	io_uring_queue_exit(&other);
	poll_ring();
	assert_int_equal(watch.ends, 0);
}

/* ---- receiving ---- */

static void provided_buffers(void **state)
{
	struct op op = new_op();

	(void)state;
	/* More often than there are buffers: each comes back. */
	for (int i = 0; i < 20; i++) {
		char text[32];
		uint16_t id;

		snprintf(text, sizeof(text), "number %d", i);
		op.ends = 0;
		ring_receive_provided(&ring, &op.op, RING_LINK, &rx,
			      BUFFER_BYTES);
		poll_ring();
		assert_int_equal(op.ends, 0);
		assert_int_equal(write(pair[1], text, sizeof(text)),
				 sizeof(text));
		assert_int_equal(end_of(&op), sizeof(text));
		assert_true(rxring_has_buffer(op.flags));
		id = rxring_buffer_id(op.flags);
		assert_true(id < BUFFERS);
		assert_string_equal((char *)rxring_buffer(&rx, id), text);
		rxring_give(&rx, id);
	}
}

/* Never more than a buffer at once. */
static void more_than_a_buffer(void **state)
{
	uint8_t bytes[BUFFER_BYTES + 100];
	struct op op = new_op();

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 256);
	assert_int_equal(write(pair[1], bytes, sizeof(bytes)), sizeof(bytes));
	for (size_t at = 0; at < sizeof(bytes);) {
		op.ends = 0;
		ring_receive_provided(&ring, &op.op, RING_LINK, &rx,
			      BUFFER_BYTES);
		assert_true(end_of(&op) > 0);
		assert_memory_equal(rxring_buffer(&rx,
						  rxring_buffer_id(op.flags)),
				    bytes + at, (size_t)op.res);
		at += (size_t)op.res;
		rxring_give(&rx, rxring_buffer_id(op.flags));
	}
}

static void no_buffers_left(void **state)
{
	struct op op = new_op();
	uint16_t ids[BUFFERS];
	bool seen[BUFFERS] = { false };

	(void)state;
	for (uint32_t i = 0; i < BUFFERS; i++) {
		op.ends = 0;
		assert_int_equal(write(pair[1], "x", 1), 1);
		ring_receive_provided(&ring, &op.op, RING_LINK, &rx,
			      BUFFER_BYTES);
		assert_int_equal(end_of(&op), 1);
		ids[i] = rxring_buffer_id(op.flags);
		assert_false(seen[ids[i]]);
		seen[ids[i]] = true;
	}
	assert_int_equal(write(pair[1], "y", 1), 1);
	op.ends = 0;
	ring_receive_provided(&ring, &op.op, RING_LINK, &rx,
			      BUFFER_BYTES);
	assert_int_equal(end_of(&op), -ENOBUFS);
	assert_false(rxring_has_buffer(op.flags));
	/* The bytes have waited in the socket. */
	rxring_give(&rx, ids[2]);
	op.ends = 0;
	ring_receive_provided(&ring, &op.op, RING_LINK, &rx,
			      BUFFER_BYTES);
	assert_int_equal(end_of(&op), 1);
	assert_int_equal(rxring_buffer_id(op.flags), ids[2]);
	assert_int_equal(*rxring_buffer(&rx, ids[2]), 'y');
}

/* One operation, a receive after the other, until it is cancelled. */
static void many_receives(void **state)
{
	struct op op = new_op(), cancel = new_op();

	(void)state;
	ring_receive_many(&ring, &op.op, RING_LINK, &rx);
	for (uint32_t i = 1; i <= 3 * BUFFERS; i++) {
		assert_int_equal(write(pair[1], "abc", i % 3 + 1), i % 3 + 1);
		wait_for(&op, i);
		assert_int_equal(op.res, i % 3 + 1);
		assert_true(op.op.pending);
		assert_true(rxring_has_buffer(op.flags));
		rxring_give(&rx, rxring_buffer_id(op.flags));
	}
	ring_cancel(&ring, &cancel.op, &op.op);
	assert_int_equal(end_of(&cancel), 0);
	wait_for(&op, 3 * BUFFERS + 1);
	assert_int_equal(op.res, -ECANCELED);
	assert_int_equal(ring.pending_count, 0);
	/* There is none any more. */
	cancel.ends = 0;
	ring_cancel(&ring, &cancel.op, &op.op);
	assert_int_equal(end_of(&cancel), -ENOENT);
	/* Bytes that nobody has received are still there; and so is the end. */
	assert_int_equal(write(pair[1], "d", 1), 1);
	op.ends = 0;
	ring_receive_many(&ring, &op.op, RING_LINK, &rx);
	shutdown(pair[1], SHUT_WR);
	wait_for(&op, 2);
	assert_int_equal(op.res, 0);
	assert_false(op.op.pending);
}

static void receive_in_place(void **state)
{
	static uint8_t to[20000], from[20000];
	struct op op = new_op();

	(void)state;
	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i * 3 + i / 256);
	ring_receive(&ring, &op.op, RING_LINK, to, sizeof(to), MSG_WAITALL);
	for (size_t at = 0; at < sizeof(from); at += 5000) {
		poll_ring();
		assert_int_equal(op.ends, 0);
		assert_int_equal(write(pair[1], from + at, 5000), 5000);
	}
	assert_int_equal(end_of(&op), sizeof(to));
	assert_memory_equal(to, from, sizeof(to));
	/* What has come before the end counts, then the end. */
	op.ends = 0;
	ring_receive(&ring, &op.op, RING_LINK, to, sizeof(to), MSG_WAITALL);
	assert_int_equal(write(pair[1], from, 100), 100);
	poll_ring();
	shutdown(pair[1], SHUT_WR);
	assert_int_equal(end_of(&op), 100);
	op.ends = 0;
	ring_receive(&ring, &op.op, RING_LINK, to, sizeof(to), MSG_WAITALL);
	assert_int_equal(end_of(&op), 0);
}

/* An end of file costs no buffer, or says which one. */
static void end_of_file(void **state)
{
	struct op op = new_op();

	(void)state;
	for (uint32_t i = 0; i < 2 * BUFFERS; i++) {
		if (i == 1)
			shutdown(pair[1], SHUT_WR);
		if (i == 0) /* once while it waits */
			ring_receive_provided(&ring, &op.op, RING_LINK, &rx,
			      BUFFER_BYTES);
		poll_ring();
		if (i == 0)
			continue;
		if (i > 1) {
			op.ends = 0;
			ring_receive_provided(&ring, &op.op, RING_LINK, &rx,
			      BUFFER_BYTES);
		}
		assert_int_equal(end_of(&op), 0);
		if (rxring_has_buffer(op.flags))
			rxring_give(&rx, rxring_buffer_id(op.flags));
	}
}

/* What ends the engine's operations when a link is lost. */
static void shutdown_ends_what_is_pending(void **state)
{
	static uint8_t much[1u << 20];
	struct iovec iov = { .iov_base = much, .iov_len = sizeof(much) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct op receive = new_op(), send_op = new_op(), again = new_op();

	(void)state;
	ring_receive_provided(&ring, &receive.op, RING_LINK, &rx,
			      BUFFER_BYTES);
	/* Fill the socket until a send waits. */
	do {
		send_op.ends = 0;
		ring_send(&ring, &send_op.op, RING_LINK, &message);
		for (int i = 0; i < 50 && send_op.op.pending; i++)
			poll_ring();
	} while (send_op.ends);
	shutdown(pair[0], SHUT_RDWR);
	assert_int_equal(end_of(&receive), 0);
	end_of(&send_op);
	assert_true(send_op.res == -EPIPE || send_op.res > 0);
	/* No signal, just an error. */
	ring_send(&ring, &again.op, RING_LINK, &message);
	assert_int_equal(end_of(&again), -EPIPE);
}

/* ---- sending ---- */

static void gathered_send(void **state)
{
	char first[] = "one ", second[] = "two ", third[] = "three";
	struct iovec iov[] = {
		{ first, 4 }, { second, 4 }, { third, 5 },
	};
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 3 };
	struct op op = new_op();
	char got[32] = "";

	(void)state;
	ring_send(&ring, &op.op, RING_LINK, &message);
	assert_int_equal(end_of(&op), 13);
	assert_int_equal(read(pair[1], got, sizeof(got)), 13);
	assert_string_equal(got, "one two three");
}

/*
 * Sends that do not wait: the one that leaves whole wakes nobody, and has ended
 * all the same; what finds too little room wakes at once.
 */
static void send_now(void **state)
{
	static uint8_t much[1u << 20];
	struct iovec iov = { .iov_base = much, .iov_len = 10 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct op op = new_op(), other = new_op(), receive = new_op();
	uint64_t start_ns;

	(void)state;
	assert_int_equal(ring_set_file(&ring, RING_FRONT, pair[0]), 0);
	ring_send_now(&ring, &op.op, RING_LINK, &message, 10);
	ring_send_now(&ring, &other.op, RING_FRONT, &message, 10);
	start_ns = clock_now_ns();
	assert_int_equal(ring_wait(&ring, 100), 0);
	assert_true(clock_now_ns() - start_ns >= 100 * NS_PER_MS);
	assert_int_equal(op.ends + other.ends, 2);
	assert_int_equal(op.res + other.res, 20);
	/* Something else happens. */
	ring_receive_provided(&ring, &receive.op, RING_LINK, &rx,
			      BUFFER_BYTES);
	op = new_op();
	ring_send_now(&ring, &op.op, RING_LINK, &message, 10);
	assert_int_equal(write(pair[1], "x", 1), 1);
	assert_int_equal(ring_wait(&ring, LONG_MS), 0);
	assert_int_equal(receive.ends + op.ends, 2);
	assert_int_equal(receive.res, 1);
	/* Some of it, then nothing; neither waits. */
	iov.iov_len = sizeof(much);
	start_ns = clock_now_ns();
	op = new_op();
	ring_send_now(&ring, &op.op, RING_LINK, &message, sizeof(much));
	assert_true(end_of(&op) > 0 && op.res < (int)sizeof(much));
	op = new_op();
	ring_send_now(&ring, &op.op, RING_LINK, &message, sizeof(much));
	assert_int_equal(end_of(&op), -EAGAIN);
	shutdown(pair[0], SHUT_RDWR);
	op = new_op();
	ring_send_now(&ring, &op.op, RING_LINK, &message, sizeof(much));
	assert_int_equal(end_of(&op), -EPIPE);
	assert_true(clock_now_ns() - start_ns < LONG_MS * NS_PER_MS / 2);
	assert_int_equal(op.ends, 1);
}

/* A send that finds some room ends short, or takes its time; all arrives. */
static void long_send(void **state)
{
	static uint8_t from[1u << 20], to[1u << 20];
	struct iovec iov = { .iov_base = from, .iov_len = sizeof(from) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct op op = new_op();
	size_t sent = 0, got = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i * 3 + i / 256);
	while (got < sizeof(to)) {
		ssize_t n;

		if (!op.op.pending && sent < sizeof(from)) {
			iov.iov_base = from + sent;
			iov.iov_len = sizeof(from) - sent;
			op.ends = 0;
			ring_send(&ring, &op.op, RING_LINK, &message);
		}
		poll_ring();
		if (op.ends) {
			assert_true(op.res > 0);
			sent += (size_t)op.res;
			op.ends = 0;
		}
		n = recv(pair[1], to + got, sizeof(to) - got, MSG_DONTWAIT);
		if (n > 0)
			got += (size_t)n;
	}
	assert_memory_equal(to, from, sizeof(to));
	poll_ring();
	assert_false(op.op.pending);
}

/* ---- files ---- */

/* Emptying the place lets the socket go: the peer sees the end. */
static void file_is_let_go(void **state)
{
	struct op op = new_op();
	char byte;

	(void)state;
	close(pair[0]);
	pair[0] = -1;
	assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(ring_set_file(&ring, RING_LINK, -1), 0);
	/* The kernel lets go with its next task work. */
	for (int i = 0; i < 2000 && recv(pair[1], &byte, 1, MSG_DONTWAIT); i++)
		poll_ring();
	assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), 0);
	/* An operation on an empty place ends with an error. */
	ring_receive_provided(&ring, &op.op, RING_LINK, &rx,
			      BUFFER_BYTES);
	assert_int_equal(end_of(&op), -EBADF);
	assert_int_equal(ring_set_file(&ring, RING_LINK, 12345), -EBADF);
}

/* ---- many ---- */

static struct op many[RING_MANY];
static uint64_t words[RING_MANY];

/* More at once than the submission queue holds. */
static void more_than_the_queue_holds(void **state)
{
	const uint32_t count = RING_MANY;
	int fd = eventfd(0, 0);

	(void)state;
	assert_int_equal(ring_set_file(&ring, RING_NEWS, fd), 0);
	for (uint32_t i = 0; i < count; i++) {
		many[i] = new_op();
		words[i] = 1;
		ring_write(&ring, &many[i].op, RING_NEWS, &words[i], 8);
	}
	assert_int_equal(ring.pending_count, count);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(end_of(&many[i]), 8);
	assert_int_equal(ring.pending_count, 0);
	assert_int_equal(read(fd, &words[0], 8), 8);
	assert_int_equal(words[0], count);
	close(fd);
}

/* An operation may be started anew from within its own end. */
static uint32_t left;

static void once_more(struct ring_op *op, int res, uint32_t flags)
{
	(void)flags;
	assert_int_equal(res, 8);
	if (--left)
		ring_write(&ring, op, RING_NEWS, &words[0], 8);
}

static void started_anew_within_its_end(void **state)
{
	struct ring_op op = { .on_done = once_more };
	int fd = eventfd(0, 0);

	(void)state;
	left = 100;
	words[0] = 1;
	assert_int_equal(ring_set_file(&ring, RING_NEWS, fd), 0);
	ring_write(&ring, &op, RING_NEWS, &words[0], 8);
	for (int i = 0; i < 1000 && left; i++)
		assert_int_equal(ring_wait(&ring, LONG_MS), 0);
	assert_int_equal(left, 0);
	assert_int_equal(read(fd, &words[0], 8), 8);
	assert_int_equal(words[0], 100);
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(warm_up_leaves_nothing),
		TEST(time_out_is_no_error),
		TEST(ticks_end_a_wait),
		TEST(event_read_and_write),
		TEST(commands_of_drivers),
		TEST(a_watch_never_ends),
		TEST(provided_buffers),
		TEST(more_than_a_buffer),
		TEST(no_buffers_left),
		TEST(many_receives),
		TEST(receive_in_place),
		TEST(end_of_file),
		TEST(shutdown_ends_what_is_pending),
		TEST(gathered_send),
		TEST(send_now),
		TEST(long_send),
		TEST(file_is_let_go),
		TEST(more_than_the_queue_holds),
		TEST(started_anew_within_its_end),
	};
	int ret = ring_init(&ring);

	if (ret < 0) {
		print_message("io_uring cannot be used here: %s\n",
			      strerror(-ret));
		return 77;
	}
	ring_fini(&ring);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
