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

static void arm(struct stream *s)
{
	uint8_t *to = NULL;
	size_t bytes = s->ops->place(s, &to);

	s->placed = to && bytes >= RX_DIRECT_BYTES_MIN;
	if (s->placed)
		ring_receive(s->ring, &s->op, s->file, to, bytes, MSG_WAITALL);
	else
		ring_receive_provided(s->ring, &s->op, s->file, s->rx,
				      to || !bytes ? s->rx->buffer_bytes :
						     bytes);
	++*s->receives;
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
	if (res == -ENOBUFS)
		++*s->exhausted;
	if (res == -ENOBUFS || res == -EINTR || res == -EAGAIN)
		return; /* stream_step() arms again */
	if (res <= 0) {
		if (rxring_has_buffer(flags))
			rxring_give(s->rx, rxring_buffer_id(flags));
		end(s, res);
		return;
	}
	if (s->placed) {
		s->ops->on_placed(s, (size_t)res);
	} else {
		CHECK(rxring_has_buffer(flags));
		s->held = true;
		s->held_id = rxring_buffer_id(flags);
		s->held_start = 0;
		s->held_end = (uint32_t)res;
		feed(s);
	}
	if (s->open && !s->held)
		arm(s);
}

void stream_init(struct stream *s, const struct stream_ops *ops,
		 struct ring *ring, struct rxring *rx, enum ring_file file,
		 uint64_t *receives, uint64_t *exhausted)
{
	*s = (struct stream){
		.ops = ops,
		.ring = ring,
		.rx = rx,
		.file = file,
		.op.on_done = on_received,
		.receives = receives,
		.exhausted = exhausted,
	};
}

void stream_open(struct stream *s)
{
	CHECK(!s->open && !stream_busy(s));
	s->open = true;
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
