// SPDX-License-Identifier: GPL-2.0-or-later
/* What may be under way at once; the data thread. */
#include "common/check.h"
#include "include/nbd-wire.h"
#include "nbd-client/throttle.h"

static uint64_t tx_cost(const struct request *r)
{
	return sizeof(struct nbd_request) +
	       (r->command == NBD_CMD_WRITE ? r->length : 0);
}

/* A read's payload, and the longer of the two reply heads with its offset. */
static uint64_t rx_cost(const struct request *r)
{
	return sizeof(struct nbd_structured_reply) +
	       sizeof(struct nbd_chunk_offset_data) +
	       (r->command == NBD_CMD_READ ? r->length : 0);
}

void throttle_init(struct throttle *t, uint64_t tx_bytes_max,
		   uint64_t rx_bytes_max)
{
	*t = (struct throttle){ .tx_bytes_max = tx_bytes_max,
				.rx_bytes_max = rx_bytes_max };
}

bool throttle_admit(struct throttle *t, const struct request *r)
{
	if (t->admitted && (t->tx_bytes + tx_cost(r) > t->tx_bytes_max ||
			    t->rx_bytes + rx_cost(r) > t->rx_bytes_max))
		return false;
	t->tx_bytes += tx_cost(r);
	t->rx_bytes += rx_cost(r);
	t->admitted++;
	return true;
}

void throttle_release(struct throttle *t, const struct request *r)
{
	CHECK(t->admitted && t->tx_bytes >= tx_cost(r) &&
	      t->rx_bytes >= rx_cost(r));
	t->tx_bytes -= tx_cost(r);
	t->rx_bytes -= rx_cost(r);
	t->admitted--;
}
