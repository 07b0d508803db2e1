// SPDX-License-Identifier: GPL-2.0-or-later
/* io_uring for one data thread; the thread that made it. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/ring.h"
#include "include/bounds.h"

/* include/uapi/linux/io_uring.h of 6.4; older headers lack it. */
#ifndef IORING_TIMEOUT_MULTISHOT
#define IORING_TIMEOUT_MULTISHOT (1u << 6)
#endif

int ring_init(struct ring *ring)
{
	/*
	 * SINGLE_ISSUER and DEFER_TASKRUN: completions run in our own
	 * io_uring_enter and nowhere else. SUBMIT_ALL: a refused entry does not
	 * hold back those behind it. The completion queue can hold everything
	 * that can be in flight, so it never overflows into allocated memory.
	 */
	struct io_uring_params p = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
			 IORING_SETUP_CQSIZE,
		.cq_entries = 2 * RING_ENTRIES,
	};
	int none[RING_FILES];
	int ret;

	*ring = (struct ring){ 0 };
	ret = io_uring_queue_init_params(RING_ENTRIES, &ring->uring, &p);
	if (ret < 0)
		return ret;
	memset(none, 0xff, sizeof(none));
	ret = io_uring_register_files(&ring->uring, none, RING_FILES);
	if (ret < 0)
		io_uring_queue_exit(&ring->uring);
	return ret < 0 ? ret : 0;
}

void ring_fini(struct ring *ring)
{
	io_uring_queue_exit(&ring->uring);
}

int ring_set_file(struct ring *ring, enum ring_file file, int fd)
{
	int ret = io_uring_register_files_update(&ring->uring, file, &fd, 1);

	return ret < 0 ? ret : 0;
}

static struct __kernel_timespec timespec_ms(uint32_t ms)
{
	return (struct __kernel_timespec){
		.tv_sec = ms / 1000,
		.tv_nsec = (long long)(ms % 1000) * 1000000,
	};
}

static struct io_uring_sqe *take_sqe(struct ring *ring, struct ring_op *op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	if (!sqe) { /* full: hand over what there is */
		io_uring_submit(&ring->uring);
		sqe = io_uring_get_sqe(&ring->uring);
	}
	CHECK(sqe);
	CHECK(!op->pending);
	op->pending = true;
	ring->pending_count++;
	return sqe;
}

/* After the prep function, which overwrites both fields. */
static void finish_sqe(struct io_uring_sqe *sqe, struct ring_op *op)
{
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, op);
}

void ring_receive(struct ring *ring, struct ring_op *op, enum ring_file file,
		  void *to, size_t bytes, int message_flags)
{
	struct io_uring_sqe *sqe = take_sqe(ring, op);

	io_uring_prep_recv(sqe, (int)file, to, bytes, message_flags);
	finish_sqe(sqe, op);
}

void ring_receive_provided(struct ring *ring, struct ring_op *op,
			   enum ring_file file, const struct rxring *rx,
			   size_t bytes_max)
{
	struct io_uring_sqe *sqe = take_sqe(ring, op);

	CHECK(bytes_max && bytes_max <= rx->buffer_bytes);
	io_uring_prep_recv(sqe, (int)file, NULL, bytes_max, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = rx->group;
	finish_sqe(sqe, op);
}

void ring_receive_many(struct ring *ring, struct ring_op *op,
		       enum ring_file file, const struct rxring *rx)
{
	struct io_uring_sqe *sqe = take_sqe(ring, op);

	io_uring_prep_recv_multishot(sqe, (int)file, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = rx->group;
	finish_sqe(sqe, op);
}

/* Of a single part: the kernel need not copy a message and its vector. */
static void prep_send(struct io_uring_sqe *sqe, enum ring_file file,
		      const struct msghdr *message, int flags)
{
	const struct iovec *parts = message->msg_iov;

	if (message->msg_iovlen == 1)
		io_uring_prep_send(sqe, (int)file, parts->iov_base,
				   parts->iov_len, flags);
	else
		io_uring_prep_sendmsg(sqe, (int)file, message,
				      (unsigned int)flags);
}

void ring_send(struct ring *ring, struct ring_op *op, enum ring_file file,
	       const struct msghdr *message)
{
	struct io_uring_sqe *sqe = take_sqe(ring, op);

	prep_send(sqe, file, message, MSG_NOSIGNAL);
	finish_sqe(sqe, op);
}

void ring_send_now(struct ring *ring, struct ring_op *op, enum ring_file file,
		   const struct msghdr *message, size_t bytes)
{
	struct io_uring_sqe *sqe = take_sqe(ring, op);

	CHECK(ring->now_count < RING_NOW_MAX);
	/*
	 * MSG_DONTWAIT: it is over once it is submitted. MSG_WAITALL: less than
	 * all of it counts as a failure, and only of those there is word.
	 */
	prep_send(sqe, file, message,
		  MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL);
	finish_sqe(sqe, op);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	op->now_bytes = bytes;
	ring->now[ring->now_count++] = op;
}

void ring_read(struct ring *ring, struct ring_op *op, enum ring_file file,
	       void *to, size_t bytes)
{
	struct io_uring_sqe *sqe = take_sqe(ring, op);

	io_uring_prep_read(sqe, (int)file, to, (unsigned int)bytes, 0);
	finish_sqe(sqe, op);
}

void ring_write(struct ring *ring, struct ring_op *op, enum ring_file file,
		const void *from, size_t bytes)
{
	struct io_uring_sqe *sqe = take_sqe(ring, op);

	io_uring_prep_write(sqe, (int)file, from, (unsigned int)bytes, 0);
	finish_sqe(sqe, op);
}

void ring_cancel(struct ring *ring, struct ring_op *op,
		 const struct ring_op *other)
{
	struct io_uring_sqe *sqe = take_sqe(ring, op);

	io_uring_prep_cancel64(sqe, (uintptr_t)other, 0);
	io_uring_sqe_set_data(sqe, op);
}

void ring_command(struct ring *ring, struct ring_op *op, int fd,
		  uint32_t opcode, const void *argument, size_t bytes)
{
	struct io_uring_sqe *sqe = take_sqe(ring, op);

	CHECK(bytes <= RING_COMMAND_BYTES);
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
	sqe->cmd_op = opcode;
	memcpy(sqe->cmd, argument, bytes);
	io_uring_sqe_set_data(sqe, op);
}

void ring_watch(struct ring *ring, struct ring_op *op, int uring_fd)
{
	struct io_uring_sqe *sqe = take_sqe(ring, op);

	/* No io_uring is ever ready for this. */
	io_uring_prep_poll_add(sqe, uring_fd, POLLPRI);
	io_uring_sqe_set_data(sqe, op);
}

void ring_start_ticks(struct ring *ring, uint32_t every_ms)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	CHECK(sqe);
	ring->tick = timespec_ms(every_ms);
	ring->tick_ms = every_ms;
	io_uring_prep_timeout(sqe, &ring->tick, 0, IORING_TIMEOUT_MULTISHOT);
	io_uring_sqe_set_data(sqe, NULL);
}

static void end(struct ring *ring, struct ring_op *op, int res, uint32_t flags)
{
	CHECK(op->pending);
	if (flags & IORING_CQE_F_MORE) {
		op->on_done(op, res, flags);
		return;
	}
	op->pending = false;
	ring->pending_count--;
	for (uint32_t i = 0; i < ring->now_count; i++)
		if (ring->now[i] == op)
			ring->now[i] = NULL;
	op->on_done(op, res, flags);
}

/* Of the first `count` sends there is no word: all of them has left. */
static void end_now(struct ring *ring, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (ring->now[i])
			end(ring, ring->now[i], (int)ring->now[i]->now_bytes, 0);
	ring->now_count -= count;
	memmove(ring->now, ring->now + count,
		ring->now_count * sizeof(struct ring_op *));
}

int ring_wait(struct ring *ring, uint32_t timeout_ms)
{
	struct __kernel_timespec limit = timespec_ms(timeout_ms);
	struct io_uring_cqe *cqe;
	uint32_t head, now_count;
	int ret;

	if (ring->tick_ms && timeout_ms >= ring->tick_ms)
		ret = io_uring_submit_and_wait(&ring->uring, 1);
	else
		ret = io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1,
						       &limit, NULL);
	if (ret < 0 && ret != -ETIME && ret != -EINTR && ret != -EAGAIN &&
	    ret != -EBUSY)
		return ret;
	ring->woke_ns = clock_now_ns();
	/* What the kernel has not taken (no memory for it) comes next time. */
	now_count = io_uring_sq_ready(&ring->uring) ? 0 : ring->now_count;
	io_uring_for_each_cqe(&ring->uring, head, cqe) {
		struct ring_op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;
		uint32_t flags = cqe->flags;

		/* Before the call: it may start the same operation anew. */
		io_uring_cq_advance(&ring->uring, 1);
		if (op)
			end(ring, op, res, flags);
		else if (!(flags & IORING_CQE_F_MORE))
			ring->tick_ms = 0; /* the kernel has no ticks */
	}
	end_now(ring, now_count);
	return 0;
}

static int wait_warm(struct ring *ring)
{
	int ret = 0;

	while (ring->pending_count && !ret)
		ret = ring_wait(ring, 1000);
	return ret;
}

/*
 * What the kernel makes for an operation on a socket it keeps for the next one:
 * the message's vector, and what waits until the socket is ready (io_uring/net.c,
 * io_netmsg_recycle; io_uring/poll.c, io_req_alloc_apoll). So operations with
 * vectors as long as ours get, all of them waiting at once. Linux 6.1 keeps no
 * vectors.
 */
static int warm_messages(struct ring *ring)
{
	struct ring_op ops[RING_FILES];
	struct iovec iovecs[TX_IOVECS];
	struct msghdr message = { .msg_iov = iovecs, .msg_iovlen = TX_IOVECS };
	uint8_t byte;
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	for (size_t i = 0; i < TX_IOVECS; i++)
		iovecs[i] = (struct iovec){ .iov_base = &byte, .iov_len = 1 };
	ret = ring_set_file(ring, RING_LINK, pair[0]);
	for (size_t i = 0; i < RING_FILES && !ret; i++) {
		struct io_uring_sqe *sqe;

		ops[i] = (struct ring_op){ .on_done = ring_ignore };
		sqe = take_sqe(ring, &ops[i]);
		io_uring_prep_recvmsg(sqe, RING_LINK, &message, 0);
		finish_sqe(sqe, &ops[i]);
	}
	if (!ret)
		ret = ring_wait(ring, 0); /* submits; none can end yet */
	shutdown(pair[1], SHUT_RDWR);
	if (!ret)
		ret = wait_warm(ring);
	ring_set_file(ring, RING_LINK, -1);
	close(pair[0]);
	close(pair[1]);
	return ret;
}

int ring_warm_up(struct ring *ring)
{
	struct ring_op ops[RING_WARM_UP];
	int ret;

	/*
	 * A whole batch of requests at once fills the request cache. One in the
	 * background makes the bounded worker, which then stays (io_uring/io-wq.c,
	 * io_wq_worker).
	 * Our socket operations are all pollable, so no other worker is needed.
	 */
	for (size_t i = 0; i < RING_WARM_UP; i++) {
		struct io_uring_sqe *sqe;

		ops[i] = (struct ring_op){ .on_done = ring_ignore };
		sqe = take_sqe(ring, &ops[i]);
		io_uring_prep_nop(sqe);
		if (i == 0)
			sqe->flags |= IOSQE_ASYNC;
		io_uring_sqe_set_data(sqe, &ops[i]);
	}
	ret = wait_warm(ring);
	return ret ? ret : warm_messages(ring);
}

size_t rxring_bytes(uint32_t count, uint32_t buffer_bytes)
{
	/* The entries take a page of their own: they must be page aligned. */
	return 4096 + (size_t)count * buffer_bytes;
}

int rxring_open(struct rxring *rx, struct ring *ring, uint16_t group,
		uint32_t count, uint32_t buffer_bytes, void *memory)
{
	struct io_uring_buf_reg reg = {
		.ring_addr = (uintptr_t)memory,
		.ring_entries = count,
		.bgid = group,
	};
	int ret;

	CHECK(count && (count & (count - 1)) == 0);
	CHECK(count * sizeof(struct io_uring_buf) <= 4096);
	ret = io_uring_register_buf_ring(&ring->uring, &reg, 0);
	if (ret < 0)
		return ret;
	*rx = (struct rxring){
		.entries = memory,
		.memory = (uint8_t *)memory + 4096,
		.buffer_bytes = buffer_bytes,
		.count = count,
		.group = group,
	};
	io_uring_buf_ring_init(rx->entries);
	for (uint32_t i = 0; i < count; i++)
		rxring_give(rx, (uint16_t)i);
	return 0;
}

uint8_t *rxring_buffer(const struct rxring *rx, uint16_t id)
{
	CHECK(id < rx->count);
	return rx->memory + (size_t)id * rx->buffer_bytes;
}

void rxring_give(struct rxring *rx, uint16_t id)
{
	io_uring_buf_ring_add(rx->entries, rxring_buffer(rx, id),
			      rx->buffer_bytes, id,
			      io_uring_buf_ring_mask(rx->count), 0);
	io_uring_buf_ring_advance(rx->entries, 1);
}
