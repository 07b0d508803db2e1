// SPDX-License-Identifier: GPL-2.0-or-later
/* Batched sends; the data thread. */
#include <errno.h>

#include "common/check.h"
#include "nbd-client/tx.h"

static size_t item_bytes(const struct tx_item *item)
{
	return (size_t)item->header_bytes + item->payload_bytes;
}

/* One more part of an item, less what has left already. */
static void add_part(struct tx *tx, const uint8_t *part, size_t bytes,
		     size_t *skip)
{
	size_t skipped = *skip < bytes ? *skip : bytes;

	*skip -= skipped;
	if (skipped == bytes)
		return;
	tx->iovecs[tx->message.msg_iovlen++] = (struct iovec){
		/* sendmsg does not write to it */
		.iov_base = (void *)(uintptr_t)(part + skipped),
		.iov_len = bytes - skipped,
	};
}

/* The queue as it lies; whether that is all of it. */
static bool add_items(struct tx *tx)
{
	size_t skip = tx->first_sent;
	struct list *node;

	tx->message.msg_iovlen = 0;
	for (node = tx->queue.next; node != &tx->queue; node = node->next) {
		struct tx_item *item = list_entry(node, struct tx_item, node);

		if (tx->message.msg_iovlen + 2 > TX_IOVECS)
			break;
		add_part(tx, item->header, item->header_bytes, &skip);
		add_part(tx, item->payload, item->payload_bytes, &skip);
	}
	return node == &tx->queue;
}

/* The queue as a sealed copy; or what is left of the last one. */
static int add_sealed(struct tx *tx)
{
	if (records_empty(tx->records)) {
		(void)add_items(tx);
		if (records_fill(tx->records, tx->iovecs,
				 tx->message.msg_iovlen) < 0)
			return -EPROTO;
	}
	tx->iovecs[0] = records_out(tx->records);
	tx->message.msg_iovlen = 1;
	return 0;
}

static void start(struct tx *tx)
{
	bool all = false;

	if (!tx->records) {
		all = add_items(tx);
	} else if (add_sealed(tx) < 0) {
		tx_close(tx);
		tx->on_error(tx, -EPROTO);
		return;
	}
	tx->started = 0;
	for (size_t i = 0; i < tx->message.msg_iovlen; i++)
		tx->started += tx->iovecs[i].iov_len;
	/* Without word of its end only if nothing waits for that. */
	if (tx->full || !all || tx->no_waitall)
		ring_send(tx->ring, &tx->op, tx->file, &tx->message);
	else
		ring_send_now(tx->ring, &tx->op, tx->file, &tx->message,
			      tx->started);
	++*tx->sends;
}

static void on_sendmsg(struct ring_op *op, int res, uint32_t flags)
{
	struct tx *tx = list_entry(op, struct tx, op);
	size_t sent;

	(void)flags;
	tx->full = !tx->full && res != (int)tx->started;
	if (res == -EOPNOTSUPP && !tx->no_waitall) {
		tx->no_waitall = true;
		res = -EAGAIN;
	}
	if (!tx->open || res == -EAGAIN || res == -EINTR)
		return; /* tx_step() tries again if open */
	if (res < 0) {
		tx_close(tx);
		tx->on_error(tx, res);
		return;
	}
	sent = tx->records ? records_sent(tx->records, (size_t)res) :
			     (size_t)res;
	if (!sent)
		return; /* of a sealed copy there is more to send */
	sent += tx->first_sent;
	while (!list_empty(&tx->queue)) {
		struct tx_item *item = list_entry(list_first(&tx->queue),
						  struct tx_item, node);

		if (sent < item_bytes(item))
			break;
		sent -= item_bytes(item);
		list_remove(&item->node);
		tx->on_sent(tx, item);
	}
	tx->first_sent = sent;
}

void tx_init(struct tx *tx, struct ring *ring, enum ring_file file,
	     void (*on_sent)(struct tx *, struct tx_item *),
	     void (*on_error)(struct tx *, int), uint64_t *sends)
{
	*tx = (struct tx){
		.ring = ring,
		.file = file,
		.op.on_done = on_sendmsg,
		.on_sent = on_sent,
		.on_error = on_error,
		.sends = sends,
	};
	tx->message.msg_iov = tx->iovecs;
	list_init(&tx->queue);
}

void tx_open(struct tx *tx, struct records *records)
{
	CHECK(!tx->open && !tx_busy(tx));
	tx->open = true;
	tx->records = records;
	tx->first_sent = 0;
	tx->full = false;
	tx->no_waitall = false;
}

void tx_close(struct tx *tx)
{
	tx->open = false;
}

void tx_push(struct tx *tx, struct tx_item *item)
{
	CHECK(item_bytes(item) > 0);
	list_push_back(&tx->queue, &item->node);
}

void tx_step(struct tx *tx)
{
	if (tx->open && !tx_busy(tx) && !list_empty(&tx->queue))
		start(tx);
}

void tx_reset(struct tx *tx)
{
	CHECK(!tx->open && !tx_busy(tx));
	while (!list_empty(&tx->queue))
		list_remove(list_first(&tx->queue));
	tx->first_sent = 0;
}
