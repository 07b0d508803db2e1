/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The io_uring of a data thread, reduced to what the data path does. All
 * descriptors are registered files, named by a small number. One struct
 * ring_op stands for one operation in the kernel: its owner keeps it, and with
 * it the memory that the operation uses, until on_done has been called.
 *
 * Also here, because they are one mechanism in the kernel: the provided
 * buffers, a set of equal buffers of which a receive takes one when data is
 * there, not before.
 */
#ifndef NBD_RING_H
#define NBD_RING_H

#include <liburing.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "include/bounds.h"

/* Registered files of a data thread. */
enum ring_file {
	RING_FRONT,
	RING_LINK,
	RING_MAIL, /* eventfd: the control thread has a message */
	RING_NEWS, /* eventfd: so have we */
	RING_FILES,
};

/*
 * Operations to one system call: a command for each slot and some more, so that
 * these come to their driver together; a process that is killed has given it all
 * or none.
 */
#define RING_ENTRIES (2u * SLOTS_MAX)
#define RING_WARM_UP 32u /* requests that the kernel has made in advance */
#define RING_NOW_MAX (2u * RING_FILES)

struct ring_op {
	/* res as in the CQE; flags too. May start new operations. */
	void (*on_done)(struct ring_op *op, int res, uint32_t flags);
	bool pending;
	size_t now_bytes; /* of ring_send_now() */
};

/* An on_done for what needs no answer. */
static inline void ring_ignore(struct ring_op *op, int res, uint32_t flags)
{
	(void)op;
	(void)res;
	(void)flags;
}

struct ring {
	struct io_uring uring;
	uint32_t pending_count; /* operations in the kernel */
	struct ring_op *now[RING_NOW_MAX]; /* of ring_send_now(); or NULL */
	uint32_t now_count;
	uint64_t woke_ns;       /* the time, as of the last ring_wait() */
	struct __kernel_timespec tick;
	uint32_t tick_ms; /* ring_wait() returns so often anyway; 0: it does not */
};

/* Provided buffers; group number, size and count are fixed. */
struct rxring {
	struct io_uring_buf_ring *entries;
	uint8_t *memory;
	uint32_t buffer_bytes;
	uint32_t count; /* a power of two */
	uint16_t group;
};

/*
 * On the thread that will use it (the kernel takes submissions from no other).
 * 0 or -errno. fini ends what is pending without calling on_done.
 */
int ring_init(struct ring *ring);
void ring_fini(struct ring *ring);

/*
 * Makes the kernel build what it builds at first use: a worker of each kind
 * and the caches of requests. 0 or -errno.
 */
int ring_warm_up(struct ring *ring);

/* fd -1 empties the place. 0 or -errno. */
int ring_set_file(struct ring *ring, enum ring_file file, int fd);

/*
 * Starts an operation; op->on_done says how it ended. The kernel is entered in
 * ring_wait() only, so any number of operations costs one system call.
 */
void ring_receive(struct ring *ring, struct ring_op *op, enum ring_file file,
		  void *to, size_t bytes, int message_flags);
void ring_receive_provided(struct ring *ring, struct ring_op *op,
			   enum ring_file file, const struct rxring *rx,
			   size_t bytes_max);
/*
 * The same again and again, of as many bytes as come: on_done is called for each
 * receive, and op->pending stays until the last, which is an error, the end of
 * the file, -ENOBUFS, or -ECANCELED after ring_cancel(). Only for a file whose
 * bytes are taken as they come: while it lasts, nothing else receives from there.
 */
void ring_receive_many(struct ring *ring, struct ring_op *op,
		       enum ring_file file, const struct rxring *rx);
void ring_send(struct ring *ring, struct ring_op *op, enum ring_file file,
	       const struct msghdr *message);
/*
 * Sends what the socket's buffer has room for, and never waits for more: ends
 * with all of `bytes`, with less, or with -EAGAIN. Its end alone does not end
 * ring_wait(), unless it is not all: there is nothing to do about it.
 */
void ring_send_now(struct ring *ring, struct ring_op *op, enum ring_file file,
		   const struct msghdr *message, size_t bytes);
void ring_read(struct ring *ring, struct ring_op *op, enum ring_file file,
	       void *to, size_t bytes);
void ring_write(struct ring *ring, struct ring_op *op, enum ring_file file,
		const void *from, size_t bytes);

/* Asks for `other` to end, which it may have done; it says so itself. */
void ring_cancel(struct ring *ring, struct ring_op *op,
		 const struct ring_op *other);

/*
 * A command of a driver (IORING_OP_URING_CMD) with an argument of up to
 * RING_COMMAND_BYTES, which is copied. fd is not a registered file.
 */
#define RING_COMMAND_BYTES 16u
void ring_command(struct ring *ring, struct ring_op *op, int fd,
		  uint32_t opcode, const void *argument, size_t bytes);

/*
 * A poll that never ends by itself, on an io_uring of this process. The kernel
 * counts it among what an exiting thread must cancel by itself, and then looks
 * through all commands of the ring (io_uring/io_uring.c,
 * io_uring_cancel_generic); without it they are cancelled by a kernel worker,
 * which may be waiting for our very device.
 */
void ring_watch(struct ring *ring, struct ring_op *op, int uring_fd);

/*
 * Makes ring_wait() return every so often, where the kernel can (Linux 6.4): to
 * wait for as long needs no timer of its own, which is to be set and taken back
 * each time and costs as much as a small request's copy.
 */
void ring_start_ticks(struct ring *ring, uint32_t every_ms);

/*
 * Submits, waits until an operation has ended or timeout_ms has passed, notes
 * the time, and calls on_done for all that have. 0 or -errno; a time-out is 0.
 */
int ring_wait(struct ring *ring, uint32_t timeout_ms);

/* What rxring_open needs of the pinned region. */
size_t rxring_bytes(uint32_t count, uint32_t buffer_bytes);

/*
 * memory: rxring_bytes() at page alignment. All buffers are given to the
 * kernel. 0 or -errno.
 */
int rxring_open(struct rxring *rx, struct ring *ring, uint16_t group,
		uint32_t count, uint32_t buffer_bytes, void *memory);

/* Of the flags that on_done got: which buffer it is, if any. */
static inline bool rxring_has_buffer(uint32_t flags)
{
	return (flags & IORING_CQE_F_BUFFER) != 0;
}

static inline uint16_t rxring_buffer_id(uint32_t flags)
{
	return (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT);
}

uint8_t *rxring_buffer(const struct rxring *rx, uint16_t id);

/* Gives a buffer back to the kernel. */
void rxring_give(struct rxring *rx, uint16_t id);

#endif
