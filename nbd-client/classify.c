// SPDX-License-Identifier: GPL-2.0-or-later
/* The buffers of the ordinary class; the control thread. */
#include "common/check.h"
#include "common/clock.h"
#include "nbd-client/classify.h"

#define REFILL_NS NS_PER_S

void ordinary_init(struct ordinary *o)
{
	*o = (struct ordinary){ .ready = ORDINARY_BUFFERS };
}

void ordinary_update(struct ordinary *o, bool low, uint64_t now_ns)
{
	if (!low)
		o->ready = ORDINARY_BUFFERS;
	else if (!o->low)
		o->refill_ns = now_ns + REFILL_NS;
	else if (now_ns >= o->refill_ns) {
		o->refill_ns = now_ns + REFILL_NS;
		if (!o->ready)
			o->ready = 1;
	}
	o->low = low;
}

void *ordinary_take(struct ordinary *o)
{
	return o->ready ? o->buffers[--o->ready] : NULL;
}

void ordinary_give(struct ordinary *o, bool used)
{
	CHECK(o->ready < ORDINARY_BUFFERS);
	if (!used || !o->low)
		o->ready++;
}

void ordinary_defer(struct ordinary *o)
{
	o->deferred++;
}
