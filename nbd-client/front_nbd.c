// SPDX-License-Identifier: GPL-2.0-or-later
/* Requests of nbd.ko in, simple replies out; the data thread. */
#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "common/proto.h"
#include "nbd-client/engine.h"
#include "nbd-client/front_nbd.h"

static struct front_nbd *of_front(struct front *f)
{
	return list_entry(f, struct front_nbd, front);
}

static struct front_nbd *of_stream(struct stream *s)
{
	return list_entry(s, struct front_nbd, stream);
}

static void gone(struct front_nbd *f)
{
	stream_close(&f->stream);
	tx_close(&f->tx);
	engine_front_gone(f->front.engine);
}

/* All of the request has come. */
static void submit(struct front_nbd *f)
{
	struct request *r = f->request;

	f->request = NULL;
	f->head_bytes = 0;
	if (f->refused)
		engine_refuse(f->front.engine, r, f->refused);
	else
		engine_submit(f->front.engine, r);
}

static uint32_t payload_left(const struct front_nbd *f)
{
	return f->request->command == NBD_CMD_WRITE ?
		       f->request->length - f->payload_bytes : 0;
}

/* 0; -1: not a request, or the last one. */
static int on_head(struct front_nbd *f)
{
	struct proto_request p;
	struct request *r = f->request;

	if (proto_get_request(&p, f->head) < 0)
		return -1;
	if (p.command == NBD_CMD_DISC) {
		f->front.dismissed = true;
		return -1;
	}
	r->command = p.command;
	r->flags = p.flags;
	r->offset = p.offset_bytes;
	r->length = p.length_bytes;
	r->front_tag = p.cookie;
	f->payload_bytes = 0;
	f->refused = engine_check(f->front.engine, r);
	if (!payload_left(f))
		submit(f);
	return 0;
}

static ssize_t take_head(struct front_nbd *f, const uint8_t *from, size_t bytes)
{
	size_t n = sizeof(f->head) - f->head_bytes;

	/* Before the first byte, so that a stall leaves nothing half done. */
	if (!f->request)
		f->request = engine_take(f->front.engine);
	if (!f->request)
		return 0;
	if (n > bytes)
		n = bytes;
	memcpy(f->head + f->head_bytes, from, n);
	f->head_bytes += (uint32_t)n;
	if (f->head_bytes == sizeof(f->head) && on_head(f) < 0)
		return -1;
	return (ssize_t)n;
}

static size_t take_payload(struct front_nbd *f, const uint8_t *from,
			   size_t bytes)
{
	size_t n = payload_left(f);

	if (n > bytes)
		n = bytes;
	if (!f->refused)
		memcpy(f->request->data + f->payload_bytes, from, n);
	f->payload_bytes += (uint32_t)n;
	if (!payload_left(f))
		submit(f);
	return n;
}

static bool in_payload(const struct front_nbd *f)
{
	return f->request && f->head_bytes == sizeof(f->head);
}

static ssize_t front_bytes(struct stream *s, const uint8_t *from, size_t bytes)
{
	struct front_nbd *f = of_stream(s);
	size_t taken = 0;

	while (taken < bytes) {
		ssize_t n;

		if (in_payload(f))
			n = (ssize_t)take_payload(f, from + taken,
						  bytes - taken);
		else
			n = take_head(f, from + taken, bytes - taken);
		if (n < 0)
			return -1;
		if (n == 0)
			break; /* no slot: the rest waits where it is */
		taken += (size_t)n;
	}
	return (ssize_t)taken;
}

static size_t front_place(struct stream *s, uint8_t **ret_to)
{
	struct front_nbd *f = of_stream(s);

	if (!in_payload(f) || f->refused)
		return 0;
	*ret_to = f->request->data + f->payload_bytes;
	return payload_left(f);
}

static void front_placed(struct stream *s, size_t bytes)
{
	struct front_nbd *f = of_stream(s);

	CHECK(in_payload(f) && bytes <= payload_left(f));
	f->payload_bytes += (uint32_t)bytes;
	if (!payload_left(f))
		submit(f);
}

static void front_end(struct stream *s, int error)
{
	(void)error;
	gone(of_stream(s));
}

static const struct stream_ops front_stream_ops = {
	.on_bytes = front_bytes,
	.place = front_place,
	.on_placed = front_placed,
	.on_end = front_end,
};

static void on_sent(struct tx *tx, struct tx_item *item)
{
	struct front_nbd *f = list_entry(tx, struct front_nbd, tx);

	engine_release(f->front.engine,
		       list_entry(item, struct request, back));
}

static void on_tx_error(struct tx *tx, int error)
{
	(void)error;
	gone(list_entry(tx, struct front_nbd, tx));
}

static void front_open(struct front *front)
{
	struct front_nbd *f = of_front(front);
	struct engine *e = front->engine;

	tx_init(&f->tx, &e->ring, RING_FRONT, on_sent, on_tx_error,
		&e->stats->front_sends);
	stream_init(&f->stream, &front_stream_ops, &e->ring, &e->rx_critical,
		    RING_FRONT, false, &e->stats->front_receives,
		    &e->stats->rx_exhausted);
	tx_open(&f->tx, NULL);
	stream_open(&f->stream);
}

/*
 * Nobody waits any more, neither for the answers that are queued nor for the
 * request that was still arriving. A slot is free once no operation uses it.
 */
static void drop_all(struct front_nbd *f)
{
	if (f->request && !stream_busy(&f->stream)) {
		engine_release(f->front.engine, f->request);
		f->request = NULL;
	}
	if (tx_busy(&f->tx))
		return;
	while (!list_empty(&f->tx.queue)) {
		struct tx_item *item = list_entry(list_first(&f->tx.queue),
						  struct tx_item, node);

		list_remove(&item->node);
		on_sent(&f->tx, item);
	}
}

static void front_step(struct front *front)
{
	struct front_nbd *f = of_front(front);

	if (!f->stream.ops)
		return; /* not opened yet */
	if (front->gone)
		drop_all(f);
	stream_step(&f->stream);
}

static void front_flush(struct front *front)
{
	struct front_nbd *f = of_front(front);

	if (f->stream.ops)
		tx_step(&f->tx);
}

static void front_complete(struct front *front, struct request *r)
{
	struct front_nbd *f = of_front(front);

	proto_put_simple_reply(r->back.header, proto_errno_to_error(r->error),
			       r->front_tag);
	r->back.header_bytes = sizeof(struct nbd_simple_reply);
	r->back.payload = r->data;
	r->back.payload_bytes =
		r->command == NBD_CMD_READ && !r->error ? r->length : 0;
	tx_push(&f->tx, &r->back);
}

static const struct front_ops front_nbd_ops = {
	.name = "nbd",
	.open = front_open,
	.step = front_step,
	.flush = front_flush,
	.complete = front_complete,
};

void front_nbd_init(struct front_nbd *f)
{
	f->front = (struct front){ .ops = &front_nbd_ops };
}
