// SPDX-License-Identifier: GPL-2.0-or-later
/* What may be under way at once; the data thread. */
#include "nbd-client/throttle.h"
#include "common/check.h"
#include "include/nbd-wire.h"

/* A read's payload, and the longer of the two reply heads with its offset. */
#define RX_HEAD_BYTES                                                          \
	(sizeof(struct nbd_structured_reply) +                                 \
	 sizeof(struct nbd_chunk_offset_data))
#define TX_HEAD_BYTES sizeof(struct nbd_request)

_Static_assert(TX_HEAD_BYTES <= THROTTLE_HEAD_BYTES &&
		       RX_HEAD_BYTES <= THROTTLE_HEAD_BYTES,
	       "a slot and its head is the most that a request costs");

static uint64_t tx_cost(const struct request *r)
{
	return TX_HEAD_BYTES + (r->command == NBD_CMD_WRITE ? r->length : 0);
}

static uint64_t rx_cost(const struct request *r)
{
	return RX_HEAD_BYTES + (r->command == NBD_CMD_READ ? r->length : 0);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void throttle_init(struct throttle *t, const struct throttle_window *open,
		   const struct throttle_window *guaranteed,
		   uint32_t slot_bytes, uint32_t slots_guaranteed,
		   struct group groups[GROUPS])
{
	uint64_t least = slot_bytes + (uint64_t)THROTTLE_HEAD_BYTES;
	uint64_t slots = (uint64_t)slots_guaranteed * slot_bytes;
	uint64_t sum = slots + guaranteed->tx_bytes + guaranteed->rx_bytes;

	CHECK(guaranteed->tx_bytes >= least && guaranteed->rx_bytes >= least);
	CHECK(open->tx_bytes >= guaranteed->tx_bytes &&
	      open->rx_bytes >= guaranteed->rx_bytes);
	CHECK(slots_guaranteed > 0);
	*t = (struct throttle){ .open = *open,
				.guaranteed = *guaranteed,
				.max = *open,
				.slot_bytes = slot_bytes,
				.groups = groups };
	group_init(&groups[GROUP_HOST], "host", NULL, sum);
	group_init(&groups[GROUP_NET], "net", &groups[GROUP_HOST], sum);
	group_init(&groups[GROUP_DEVICE], "device", &groups[GROUP_NET], sum);
	group_init(&groups[GROUP_SLOTS], "slots", &groups[GROUP_DEVICE], slots);
	group_init(&groups[GROUP_TX], "tx", &groups[GROUP_DEVICE],
		   guaranteed->tx_bytes);
	group_init(&groups[GROUP_RX], "rx", &groups[GROUP_DEVICE],
		   guaranteed->rx_bytes);
}

static bool charge(struct throttle *t, struct request *r)
{
	struct group *g = t->groups;

	if (!group_charge(&g[GROUP_SLOTS], t->slot_bytes))
		return false;
	if (!group_charge(&g[GROUP_TX], tx_cost(r))) {
		group_uncharge(&g[GROUP_SLOTS], t->slot_bytes);
		return false;
	}
	if (!group_charge(&g[GROUP_RX], rx_cost(r))) {
		group_uncharge(&g[GROUP_SLOTS], t->slot_bytes);
		group_uncharge(&g[GROUP_TX], tx_cost(r));
		return false;
	}
	r->charged = true;
	return true;
}

static void uncharge(struct throttle *t, struct request *r)
{
	struct group *g = t->groups;

	group_uncharge(&g[GROUP_SLOTS], t->slot_bytes);
	group_uncharge(&g[GROUP_TX], tx_cost(r));
	group_uncharge(&g[GROUP_RX], rx_cost(r));
	r->charged = false;
}

bool throttle_admit(struct throttle *t, struct request *r)
{
	CHECK(!r->charged);
	if (t->used.tx_bytes + tx_cost(r) > t->max.tx_bytes ||
	    t->used.rx_bytes + rx_cost(r) > t->max.rx_bytes ||
	    (t->low && !charge(t, r))) {
		CHECK(t->admitted); /* or it would wait for ever */
		return false;
	}
	t->used.tx_bytes += tx_cost(r);
	t->used.rx_bytes += rx_cost(r);
	t->admitted++;
	CHECK(t->used.tx_bytes <= t->open.tx_bytes &&
	      t->used.rx_bytes <= t->open.rx_bytes);
	return true;
}

void throttle_release(struct throttle *t, struct request *r)
{
	CHECK(t->admitted && t->used.tx_bytes >= tx_cost(r) &&
	      t->used.rx_bytes >= rx_cost(r));
	t->used.tx_bytes -= tx_cost(r);
	t->used.rx_bytes -= rx_cost(r);
	t->admitted--;
	/* Perhaps after memory was low: what was charged is uncharged. */
	if (r->charged)
		uncharge(t, r);
}

void throttle_answered(struct throttle *t, struct request *r)
{
	throttle_release(t, r);
	if (t->low)
		return;
	t->max.tx_bytes =
		smaller(t->max.tx_bytes + tx_cost(r), t->open.tx_bytes);
	t->max.rx_bytes =
		smaller(t->max.rx_bytes + rx_cost(r), t->open.rx_bytes);
}

void throttle_close(struct throttle *t)
{
	CHECK(!t->low);
	t->low = true;
	t->max = t->guaranteed;
	t->closings++;
}

void throttle_adopt(struct throttle *t, struct request *r)
{
	CHECK(t->low);
	if (r->charged)
		return; /* since memory was low before */
	group_adopt(&t->groups[GROUP_SLOTS], t->slot_bytes);
	group_adopt(&t->groups[GROUP_TX], tx_cost(r));
	group_adopt(&t->groups[GROUP_RX], rx_cost(r));
	r->charged = true;
}

void throttle_reopen(struct throttle *t)
{
	CHECK(t->low);
	t->low = false;
}
