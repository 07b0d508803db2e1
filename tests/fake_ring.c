// SPDX-License-Identifier: GPL-2.0-or-later
/* io_uring as a test wants it; see fake_ring.h. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/clock.h"
#include "tests/fake_ring.h"

#define OPS_MAX 192u
#define BUFFERS_MAX 64u

enum kind {
	KIND_NONE, /* no operation in this place */
	KIND_RECEIVE,
	KIND_PROVIDED,
	KIND_MANY,
	KIND_SEND,
	KIND_READ,
	KIND_WRITE,
	KIND_COMMAND, /* these are on no registered file */
	KIND_WATCH,
	KIND_CANCEL,
};

struct fake_op {
	enum kind kind;
	uint64_t sequence;
	struct ring_op *op;
	enum ring_file file;
	uint8_t *to;
	size_t bytes;
	int flags;
	const struct msghdr *message;
	const struct rxring *rx;
	const struct ring_op *other; /* to be cancelled */
	bool submitted; /* a command that the kernel has seen, */
	bool taken;     /* and the test, */
	bool ended;     /* and that ends with this result */
	int result;
	struct fake_command command;
};

struct fake_ring fake_ring;
static struct fake_op ops[OPS_MAX];
static uint64_t sequence;
static struct ring *the_ring;
/* Group 0, in the order in which the buffers were given. */
static uint16_t given[BUFFERS_MAX], stolen[BUFFERS_MAX];
static uint32_t given_count, stolen_count;

/* ---- for the test ---- */

void fake_ring_reset(void)
{
	for (int i = 0; i < RING_FILES; i++) {
		free(fake_ring.files[i].in.data);
		free(fake_ring.files[i].out.data);
	}
	memset(&fake_ring, 0, sizeof(fake_ring));
	memset(ops, 0, sizeof(ops));
	the_ring = NULL;
	for (int i = 0; i < RING_FILES; i++)
		fake_ring.files[i].fd = -1;
	given_count = 0;
	stolen_count = 0;
}

static void append(struct fake_bytes *b, const void *from, size_t bytes)
{
	if (!bytes)
		return;
	if (b->start == b->end) {
		b->start = 0;
		b->end = 0;
	}
	if (b->start && b->room - b->end < bytes) {
		memmove(b->data, b->data + b->start, b->end - b->start);
		b->end -= b->start;
		b->start = 0;
	}
	if (b->room - b->end < bytes) {
		b->room = (b->end + bytes) * 2;
		b->data = realloc(b->data, b->room);
		assert_non_null(b->data);
	}
	memcpy(b->data + b->end, from, bytes);
	b->end += bytes;
}

void fake_ring_feed(enum ring_file file, const void *from, size_t bytes)
{
	append(&fake_ring.files[file].in, from, bytes);
}

size_t fake_ring_sent(enum ring_file file, const uint8_t **ret_from)
{
	const struct fake_bytes *out = &fake_ring.files[file].out;

	*ret_from = out->data ? out->data + out->start : NULL;
	return out->end - out->start;
}

void fake_ring_take(enum ring_file file, size_t bytes)
{
	struct fake_bytes *out = &fake_ring.files[file].out;

	assert_true(bytes <= out->end - out->start);
	out->start += bytes;
}

void fake_ring_shutdown(enum ring_file file)
{
	struct fake_file *f = &fake_ring.files[file];

	f->in.start = f->in.end;
	f->ended = true;
	f->end_error = 0;
	f->receive_held = false;
	f->send_held = false;
	f->receive_error = 0;
	f->send_error = -EPIPE;
}

static bool pending(enum ring_file file, bool send)
{
	for (uint32_t i = 0; i < OPS_MAX; i++)
		if (ops[i].kind && ops[i].kind < KIND_COMMAND &&
		    ops[i].file == file &&
		    (ops[i].kind == KIND_SEND) == send)
			return true;
	return false;
}

bool fake_ring_receiving(enum ring_file file)
{
	return pending(file, false);
}

bool fake_ring_sending(enum ring_file file)
{
	return pending(file, true);
}

uint32_t fake_ring_buffers(void)
{
	return given_count;
}

static uint16_t take_buffer(void)
{
	uint16_t id = given[0];

	given_count--;
	memmove(given, given + 1, given_count * sizeof(given[0]));
	return id;
}

void fake_ring_steal_buffers(uint32_t count)
{
	while (count-- && given_count)
		stolen[stolen_count++] = take_buffer();
}

void fake_ring_return_buffers(void)
{
	while (stolen_count)
		given[given_count++] = stolen[--stolen_count];
}

uint32_t fake_ring_roll(uint32_t limit)
{
	uint64_t x = fake_ring.dice;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	fake_ring.dice = x;
	return (uint32_t)((x >> 16) % limit);
}

/* ---- in place of common/ring.c ---- */

int ring_init(struct ring *ring)
{
	if (fake_ring.init_error)
		return fake_ring.init_error;
	assert_null(the_ring); /* one was not closed */
	memset(ring, 0, sizeof(*ring));
	the_ring = ring;
	return 0;
}

void ring_fini(struct ring *ring)
{
	assert_ptr_equal(ring, the_ring);
	the_ring = NULL;
	memset(ops, 0, sizeof(ops));
}

int ring_warm_up(struct ring *ring)
{
	assert_ptr_equal(ring, the_ring);
	return fake_ring.warm_up_error;
}

int ring_set_file(struct ring *ring, enum ring_file file, int fd)
{
	struct fake_file *f = &fake_ring.files[file];

	assert_ptr_equal(ring, the_ring);
	assert_false(pending(file, false) || pending(file, true));
	if (fd >= 0 && fake_ring.set_file_error[file])
		return fake_ring.set_file_error[file];
	f->fd = fd;
	if (fd < 0)
		return 0;
	f->connections++;
	f->in.start = f->in.end;
	f->out.start = f->out.end;
	f->ended = false;
	f->end_error = 0;
	f->receive_error = 0;
	f->send_error = 0;
	return 0;
}

static void submit(struct ring *ring, struct fake_op op)
{
	assert_ptr_equal(ring, the_ring);
	assert_false(op.op->pending);
	assert_true(op.kind >= KIND_COMMAND ||
		    fake_ring.files[op.file].fd >= 0);
	for (uint32_t i = 0; i < OPS_MAX; i++) {
		if (ops[i].kind)
			continue;
		op.sequence = ++sequence;
		ops[i] = op;
		op.op->pending = true;
		ring->pending_count++;
		fake_ring.pending++;
		return;
	}
	fail_msg("more than %u operations", OPS_MAX);
}

void ring_receive(struct ring *ring, struct ring_op *op, enum ring_file file,
		  void *to, size_t bytes, int message_flags)
{
	assert_true(bytes > 0);
	submit(ring, (struct fake_op){ .kind = KIND_RECEIVE, .op = op,
				       .file = file, .to = to, .bytes = bytes,
				       .flags = message_flags });
}

void ring_receive_provided(struct ring *ring, struct ring_op *op,
			   enum ring_file file, const struct rxring *rx,
			   size_t bytes_max)
{
	assert_true(bytes_max && bytes_max <= rx->buffer_bytes);
	submit(ring, (struct fake_op){ .kind = KIND_PROVIDED, .op = op,
				       .file = file, .rx = rx,
				       .bytes = bytes_max });
}

void ring_receive_many(struct ring *ring, struct ring_op *op,
		       enum ring_file file, const struct rxring *rx)
{
	submit(ring, (struct fake_op){ .kind = KIND_MANY, .op = op,
				       .file = file, .rx = rx,
				       .bytes = rx->buffer_bytes });
}

void ring_cancel(struct ring *ring, struct ring_op *op,
		 const struct ring_op *other)
{
	submit(ring, (struct fake_op){ .kind = KIND_CANCEL, .op = op,
				       .other = other });
}

void ring_send(struct ring *ring, struct ring_op *op, enum ring_file file,
	       const struct msghdr *message)
{
	assert_true(message->msg_iovlen > 0);
	submit(ring, (struct fake_op){ .kind = KIND_SEND, .op = op,
				       .file = file, .message = message });
}

void ring_send_now(struct ring *ring, struct ring_op *op, enum ring_file file,
		   const struct msghdr *message, size_t bytes)
{
	size_t sum = 0;

	for (size_t i = 0; i < message->msg_iovlen; i++)
		sum += message->msg_iov[i].iov_len;
	assert_int_equal(sum, bytes);
	submit(ring, (struct fake_op){ .kind = KIND_SEND, .op = op,
				       .file = file, .message = message,
				       .flags = MSG_DONTWAIT | MSG_WAITALL });
}

void ring_read(struct ring *ring, struct ring_op *op, enum ring_file file,
	       void *to, size_t bytes)
{
	submit(ring, (struct fake_op){ .kind = KIND_READ, .op = op,
				       .file = file, .to = to, .bytes = bytes });
}

void ring_write(struct ring *ring, struct ring_op *op, enum ring_file file,
		const void *from, size_t bytes)
{
	submit(ring, (struct fake_op){ .kind = KIND_WRITE, .op = op,
				       .file = file, .bytes = bytes,
				       .to = (uint8_t *)(uintptr_t)from });
}

void ring_command(struct ring *ring, struct ring_op *op, int fd,
		  uint32_t opcode, const void *argument, size_t bytes)
{
	struct fake_op f = { .kind = KIND_COMMAND, .op = op,
			     .command = { op, fd, opcode, { 0 } } };

	assert_true(fd >= 0 && bytes <= RING_COMMAND_BYTES);
	memcpy(f.command.argument, argument, bytes);
	submit(ring, f);
}

void ring_watch(struct ring *ring, struct ring_op *op, int uring_fd)
{
	assert_true(uring_fd >= 0);
	submit(ring, (struct fake_op){ .kind = KIND_WATCH, .op = op });
}

bool fake_ring_next_command(struct fake_command *ret)
{
	struct fake_op *oldest = NULL;

	for (uint32_t i = 0; i < OPS_MAX; i++)
		if (ops[i].kind == KIND_COMMAND && ops[i].submitted &&
		    !ops[i].taken &&
		    (!oldest || ops[i].sequence < oldest->sequence))
			oldest = &ops[i];
	if (!oldest)
		return false;
	oldest->taken = true;
	*ret = oldest->command;
	return true;
}

void fake_ring_end_command(struct ring_op *op, int res)
{
	for (uint32_t i = 0; i < OPS_MAX; i++) {
		if (ops[i].kind != KIND_COMMAND || ops[i].op != op)
			continue;
		assert_true(ops[i].submitted && !ops[i].ended);
		ops[i].ended = true;
		ops[i].result = res;
		ops[i].sequence = ++sequence;
		return;
	}
	fail_msg("the kernel has no such command");
}

uint32_t fake_ring_watches(void)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < OPS_MAX; i++)
		count += ops[i].kind == KIND_WATCH;
	return count;
}

static void end(const struct fake_op *at, int res, uint32_t flags)
{
	struct ring_op *op = at->op;

	assert_true(op->pending);
	op->pending = false;
	the_ring->pending_count--;
	fake_ring.pending--;
	ops[at - ops].kind = KIND_NONE;
	op->on_done(op, res, flags);
}

/* As many as limits and dice allow of n > 0; at least 1. */
static size_t cut(size_t n, size_t max)
{
	if (max && n > max)
		n = max;
	if (fake_ring.dice && fake_ring_roll(2))
		n = 1 + fake_ring_roll((uint32_t)n);
	return n;
}

/* Whether it was one of many, and the next of them may end, too. */
static bool end_receive(struct fake_op *at)
{
	struct fake_file *f = &fake_ring.files[at->file];
	size_t there = f->in.end - f->in.start;
	size_t n = there < at->bytes ? there : at->bytes;
	bool provided = at->kind != KIND_RECEIVE;
	int error = f->receive_error;
	uint32_t flags = 0;

	if (f->receive_held || (!error && !there && !f->ended))
		return false;
	if (!provided && at->flags & MSG_WAITALL && n < at->bytes && !error &&
	    !f->ended && !f->receive_max && !fake_ring.dice)
		return false;
	f->receives++;
	f->receive_error = 0;
	if (provided && there && !error && !given_count)
		error = -ENOBUFS;
	if (error) {
		end(at, error, 0);
		return false;
	}
	if (provided && (there || f->end_takes_buffer)) {
		uint16_t id = take_buffer();

		at->to = rxring_buffer(at->rx, id);
		flags = IORING_CQE_F_BUFFER |
			(uint32_t)id << IORING_CQE_BUFFER_SHIFT;
	}
	if (!there) {
		end(at, f->end_error, flags);
		return false;
	}
	n = cut(n, f->receive_max);
	memcpy(at->to, f->in.data + f->in.start, n);
	f->in.start += n;
	if (at->kind == KIND_MANY) {
		at->op->on_done(at->op, (int)n, flags | IORING_CQE_F_MORE);
		return !fake_ring.dice || fake_ring_roll(2);
	}
	end(at, (int)n, flags);
	return false;
}

static void end_send(struct fake_op *at)
{
	struct fake_file *f = &fake_ring.files[at->file];
	const struct msghdr *m = at->message;
	int error = f->send_error;
	size_t n = 0, left;

	if (f->send_held && !(at->flags & MSG_DONTWAIT))
		return;
	f->sends++;
	if (f->send_held) {
		end(at, -EAGAIN, 0);
		return;
	}
	if (!f->ended)
		f->send_error = 0;
	if (f->no_waitall && (at->flags & MSG_WAITALL))
		error = -EOPNOTSUPP;
	if (error) {
		end(at, error, 0);
		return;
	}
	for (size_t i = 0; i < m->msg_iovlen; i++) {
		assert_true(m->msg_iov[i].iov_len > 0);
		n += m->msg_iov[i].iov_len;
	}
	n = cut(n, f->send_max);
	left = n;
	for (size_t i = 0; left; i++) {
		size_t part = m->msg_iov[i].iov_len;

		if (part > left)
			part = left;
		append(&f->out, m->msg_iov[i].iov_base, part);
		left -= part;
	}
	end(at, (int)n, 0);
}

static void end_event(struct fake_op *at)
{
	struct fake_file *f = &fake_ring.files[at->file];
	struct pollfd ready = { .fd = f->fd, .events = POLLIN };
	ssize_t n;

	if (f->send_held)
		return;
	if (at->kind == KIND_WRITE)
		n = write(f->fd, at->to, at->bytes);
	else if (poll(&ready, 1, 0) != 1)
		return;
	else
		n = read(f->fd, at->to, at->bytes);
	end(at, n < 0 ? -errno : (int)n, 0);
}

static void end_cancel(struct fake_op *at)
{
	int res = -ENOENT;

	for (uint32_t i = 0; i < OPS_MAX; i++)
		if (ops[i].kind && ops[i].op == at->other) {
			end(&ops[i], -ECANCELED, 0);
			res = 0;
		}
	end(at, res, 0);
}

static void try_to_end(struct fake_op *at)
{
	if (at->kind == KIND_CANCEL) {
		end_cancel(at);
		return;
	}
	if (at->kind >= KIND_COMMAND) {
		at->submitted = true;
		if (at->ended)
			end(at, at->result, 0);
		return;
	}
	/* What a signal or a moment's lack of room does. */
	if (fake_ring.dice && at->kind < KIND_READ && fake_ring_roll(16) == 0 &&
	    !fake_ring.files[at->file].ended) {
		bool provided = at->kind != KIND_RECEIVE &&
				at->kind != KIND_SEND;

		end(at, fake_ring_roll(2) ? -EINTR :
			provided	  ? -ENOBUFS : -EAGAIN, 0);
		return;
	}
	if (at->kind == KIND_SEND)
		end_send(at);
	else if (at->kind < KIND_SEND)
		while (end_receive(at))
			;
	else
		end_event(at);
}

/* The operations there are, in the order in which they get their chance. */
static uint32_t line_up(struct fake_op *line[OPS_MAX])
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < OPS_MAX; i++) {
		uint32_t at;

		if (!ops[i].kind)
			continue;
		at = count++;
		if (fake_ring.dice) {
			uint32_t other = fake_ring_roll(count);

			line[at] = line[other];
			line[other] = &ops[i];
			continue;
		}
		for (; at && line[at - 1]->sequence > ops[i].sequence; at--)
			line[at] = line[at - 1];
		line[at] = &ops[i];
	}
	return count;
}

void ring_start_ticks(struct ring *ring, uint32_t every_ms)
{
	assert_ptr_equal(ring, the_ring);
	ring->tick_ms = every_ms;
}

int ring_wait(struct ring *ring, uint32_t timeout_ms)
{
	struct fake_op *line[OPS_MAX];
	uint64_t newest = sequence; /* later ones wait for the next round */
	uint32_t count;

	assert_ptr_equal(ring, the_ring);
	fake_ring.waits++;
	fake_ring.last_timeout_ms = timeout_ms;
	if (fake_ring.on_wait)
		fake_ring.on_wait(fake_ring.on_wait_arg);
	if (fake_ring.wait_error)
		return fake_ring.wait_error;
	ring->woke_ns = clock_now_ns();
	count = line_up(line);
	for (uint32_t i = 0; i < count; i++)
		if (line[i]->kind && line[i]->sequence <= newest)
			try_to_end(line[i]);
	return 0;
}

size_t rxring_bytes(uint32_t count, uint32_t buffer_bytes)
{
	return (size_t)count * buffer_bytes;
}

int rxring_open(struct rxring *rx, struct ring *ring, uint16_t group,
		uint32_t count, uint32_t buffer_bytes, void *memory)
{
	assert_ptr_equal(ring, the_ring);
	assert_int_equal(group, 0);
	assert_true(count <= BUFFERS_MAX);
	if (fake_ring.rxring_error)
		return fake_ring.rxring_error;
	*rx = (struct rxring){ .memory = memory,
			       .buffer_bytes = buffer_bytes,
			       .count = count };
	given_count = 0;
	for (uint16_t i = 0; i < count; i++)
		rxring_give(rx, i);
	return 0;
}

uint8_t *rxring_buffer(const struct rxring *rx, uint16_t id)
{
	assert_true(id < rx->count);
	return rx->memory + (size_t)id * rx->buffer_bytes;
}

void rxring_give(struct rxring *rx, uint16_t id)
{
	assert_true(id < rx->count);
	for (uint32_t i = 0; i < given_count; i++)
		if (given[i] == id)
			fail_msg("buffer %u was given back twice", id);
	/* What lies in a buffer that is given back is nobody's any more. */
	memset(rxring_buffer(rx, id), 0xdb, 64);
	given[given_count++] = id;
}
