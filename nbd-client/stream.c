// SPDX-License-Identifier: GPL-2.0-or-later
/* Armed receives; the data thread. */
#include <errno.h>
#include <sys/socket.h>

#include "common/check.h"
#include "common/list.h"
#include "include/bounds.h"
#include "nbd-client/stream.h"

static void end(struct stream *s, int error)
{
	stream_close(s);
	s->ops->on_end(s, error);
}

/* Whether what comes next is not to go through a buffer, or not all of it. */
static bool large_next(struct stream *s, uint8_t **ret_to, size_t *ret_bytes)
{
	*ret_to = NULL;
	*ret_bytes = s->ops->place(s, ret_to);
	return *ret_to ? *ret_bytes >= RX_DIRECT_BYTES_MIN : *ret_bytes != 0;
}

static void arm(struct stream *s)
{
	uint8_t *to;
	size_t bytes;
	bool large = large_next(s, &to, &bytes);

	if (large)
		s->small_count = 0;
	s->placed = large && to;
	s->many = s->takes_all && s->small_count >= RX_SMALL_BEFORE_MANY;
	if (s->many)
		ring_receive_many(s->ring, &s->op, s->file, s->rx);
	else if (s->placed)
		ring_receive(s->ring, &s->op, s->file, to, bytes, MSG_WAITALL);
	else
		ring_receive_provided(s->ring, &s->op, s->file, s->rx,
				      large ? bytes : s->rx->buffer_bytes);
	s->fresh = true;
	++*s->receives;
}

/* One of many receives has ended and the next one is armed. */
static void go_on(struct stream *s)
{
	uint8_t *to;
	size_t bytes;

	++*s->receives;
	if (s->cancel.pending || !large_next(s, &to, &bytes))
		return;
	s->small_count = 0;
	ring_cancel(s->ring, &s->cancel, &s->op);
}

/* Lets the reader have what is held; gives the buffer back once empty. */
static void feed(struct stream *s)
{
	uint16_t id = s->held_id;
	uint32_t bytes = s->held_end - s->held_start;
	ssize_t taken;

	/* Not to be given back by the reader's closing while it reads there. */
	s->held = false;
	taken = s->ops->on_bytes(s, rxring_buffer(s->rx, id) + s->held_start,
				 bytes);
	CHECK(taken < 0 || (size_t)taken <= bytes);
	CHECK(taken < 0 || (size_t)taken == bytes || !s->takes_all);
	if (s->open && taken >= 0 && (size_t)taken < bytes) {
		s->held = true;
		s->held_start += (uint32_t)taken;
		return;
	}
	rxring_give(s->rx, id);
	if (taken < 0)
		end(s, -EPROTO);
}

static void on_received(struct ring_op *op, int res, uint32_t flags)
{
	struct stream *s = list_entry(op, struct stream, op);

	if (!s->open) {
		if (rxring_has_buffer(flags))
			rxring_give(s->rx, rxring_buffer_id(flags));
		return;
	}
	/* Many use up the buffers when more comes at once: that is no lack. */
	if (res == -ENOBUFS && s->fresh)
		++*s->exhausted;
	if (res == -ENOBUFS || res == -EINTR || res == -EAGAIN ||
	    (res == -ECANCELED && s->many))
		return; /* stream_step() arms again */
	if (res <= 0) {
		if (rxring_has_buffer(flags))
			rxring_give(s->rx, rxring_buffer_id(flags));
		end(s, res);
		return;
	}
	s->fresh = false;
	if (s->placed) {
		s->ops->on_placed(s, (size_t)res);
	} else {
		CHECK(rxring_has_buffer(flags));
		s->held = true;
		s->held_id = rxring_buffer_id(flags);
		s->held_start = 0;
		s->held_end = (uint32_t)res;
		s->small_count++;
		feed(s);
	}
	if (s->open && (flags & IORING_CQE_F_MORE))
		go_on(s);
	else if (s->open && !s->held && !s->cancel.pending)
		arm(s);
}

void stream_init(struct stream *s, const struct stream_ops *ops,
		 struct ring *ring, struct rxring *rx, enum ring_file file,
		 bool takes_all, uint64_t *receives, uint64_t *exhausted)
{
	*s = (struct stream){
		.ops = ops,
		.ring = ring,
		.rx = rx,
		.file = file,
		.op.on_done = on_received,
		.cancel.on_done = ring_ignore,
		.takes_all = takes_all,
		.receives = receives,
		.exhausted = exhausted,
	};
}

void stream_open(struct stream *s)
{
	CHECK(!s->open && !stream_busy(s));
	s->open = true;
	s->small_count = RX_SMALL_BEFORE_MANY;
	arm(s);
}

void stream_step(struct stream *s)
{
	if (!s->open)
		return;
	if (s->held)
		feed(s);
	if (s->open && !s->held && !stream_busy(s))
		arm(s);
}

void stream_close(struct stream *s)
{
	s->open = false;
	if (s->held) {
		s->held = false;
		rxring_give(s->rx, s->held_id);
	}
}
