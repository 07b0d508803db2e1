// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The life of requests. Every change of state is here; the data thread's loop
 * and its mail with the control thread are in engine_loop.c.
 */
#include <errno.h>
#include <inttypes.h>

#include "common/check.h"
#include "common/clock.h"
#include "nbd-client/engine.h"
#include "nbd-client/engine_link.h"

/* The one place where a state changes. */
static void set_state(struct engine *e, struct request *r,
		      enum request_state state)
{
	e->stats->states[r->state]--;
	e->stats->states[state]++;
	r->state = state;
}

static enum stats_op stats_op(const struct request *r)
{
	switch (r->command) {
	case NBD_CMD_READ:
		return STATS_READ;
	case NBD_CMD_WRITE:
		return STATS_WRITE;
	case NBD_CMD_FLUSH:
		return STATS_FLUSH;
	case NBD_CMD_TRIM:
		return STATS_TRIM;
	default:
		return STATS_ZEROES;
	}
}

static void count(struct engine *e, const struct request *r)
{
	enum stats_op op = stats_op(r);
	uint64_t latency_ns = e->ring.woke_ns - r->born_ns;

	e->stats->requests[op]++;
	e->stats->latency[op][stats_bucket(latency_ns)]++;
	e->stats->latency_sum_ns[op] += latency_ns;
	if (r->error)
		e->stats->errors[op]++;
	else
		e->stats->bytes[op] += r->length;
}

static void complete(struct engine *e, struct request *r)
{
	set_state(e, r, REQUEST_DONE);
	count(e, r);
	e->front->ops->complete(e->front, r);
}

/* ---- from the front ---- */

static struct request *begin(struct engine *e, uint32_t index)
{
	struct request *r = &e->requests[index];

	engine_update_low(e);
	e->stats->slots_free_min = e->pool.free_min;
	e->stats->low_episodes = e->pool.low_episodes;
	CHECK(r->state == REQUEST_FREE);
	set_state(e, r, REQUEST_NEW);
	r->error = 0;
	r->failed_ns = 0;
	r->piece_start = 0;
	r->replied = false;
	r->born_ns = e->ring.woke_ns;
	return r;
}

struct request *engine_take(struct engine *e)
{
	uint32_t index;

	if (pool_take(&e->pool, &index) == POOL_NONE) {
		if (!e->stalled)
			e->stats->front_stalls++;
		e->stalled = true;
		return NULL;
	}
	e->stalled = false;
	return begin(e, index);
}

struct request *engine_take_slot(struct engine *e, uint32_t index)
{
	pool_take_slot(&e->pool, index);
	return begin(e, index);
}

int engine_check(struct engine *e, const struct request *r)
{
	struct proto_request p = {
		.command = r->command,
		.flags = r->flags,
		.offset_bytes = r->offset,
		.length_bytes = r->length,
	};

	if ((r->command == NBD_CMD_READ || r->command == NBD_CMD_WRITE) &&
	    r->length > e->config.slot_bytes) {
		e->stats->oversize++;
		return EINVAL;
	}
	return -proto_check_request(&p, &e->export);
}

void engine_submit(struct engine *e, struct request *r)
{
	CHECK(r->state == REQUEST_NEW);
	set_state(e, r, REQUEST_PARKED);
	list_push_back(&e->parked, &r->node);
}

void engine_refuse(struct engine *e, struct request *r, int error)
{
	CHECK(r->state == REQUEST_NEW && error > 0);
	log_ring_put(&e->log, LOG_LEVEL_WARNING,
		     "the kernel's request for command %" PRIu64
		     " was refused here with errno %" PRIu64,
		     r->command, (uint64_t)error);
	r->error = error;
	complete(e, r);
}

void engine_release(struct engine *e, struct request *r)
{
	CHECK(r->state == REQUEST_DONE || r->state == REQUEST_NEW);
	set_state(e, r, REQUEST_FREE);
	pool_give(&e->pool, r->index);
}

/* ---- memory ---- */

void engine_update_low(struct engine *e)
{
	bool low = e->tight || e->pool.low;

	if (low == e->throttle.low)
		return;
	atomic_store(&e->news.low, low);
	if (!low) {
		throttle_reopen(&e->throttle);
		return;
	}
	throttle_close(&e->throttle);
	for (struct list *at = e->in_flight.next; at != &e->in_flight;
	     at = at->next)
		throttle_adopt(&e->throttle,
			       list_entry(at, struct request, node));
}

/* ---- to the link ---- */

/* TRIM and WRITE_ZEROES carry no payload, so only they are cut into pieces. */
static uint32_t piece_bytes(const struct request *r)
{
	uint32_t left = r->length - r->piece_start;

	if (r->command != NBD_CMD_TRIM && r->command != NBD_CMD_WRITE_ZEROES)
		return left;
	return left < ZERO_PIECE_BYTES ? left : ZERO_PIECE_BYTES;
}

static void send_request(struct engine *e, struct request *r)
{
	struct proto_request p;

	/* Zero would let a forgotten request match the cookie of a fresh one. */
	if (++r->generation == 0)
		r->generation = 1;
	r->piece_bytes = piece_bytes(r);
	r->sent_ns = e->ring.woke_ns;
	r->overtaken_ns = 0;
	r->replied = false;
	r->error = 0;
	r->extents_used = 0;
	r->error_chunks = 0;
	p = (struct proto_request){
		.command = r->command,
		.flags = r->flags,
		.cookie = request_cookie(r),
		.offset_bytes = r->offset + r->piece_start,
		.length_bytes = r->piece_bytes,
	};
	proto_put_request(r->out.header, &p);
	r->out.header_bytes = sizeof(struct nbd_request);
	r->out.payload = r->data;
	r->out.payload_bytes = r->command == NBD_CMD_WRITE ? r->length : 0;
	set_state(e, r, REQUEST_SENDING);
	list_push_back(&e->in_flight, &r->node);
	tx_push(&e->link_tx, &r->out);
}

/* False if the throttle has no room for it. */
static bool try_send(struct engine *e, struct request *r)
{
	if (!throttle_admit(&e->throttle, r))
		return false;
	list_remove(&r->node);
	send_request(e, r);
	if (e->throttle.admitted > e->stats->in_flight_max)
		e->stats->in_flight_max = e->throttle.admitted;
	return true;
}

/*
 * Reads do not wait behind a write that finds no room: on a slow link the writes
 * of a whole queue are seconds ahead, and somebody waits for the page. What must
 * be in order the kernel orders itself, by waiting for the answer. The oldest is
 * asked first each time and a read takes next to nothing of what a write waits
 * for, so no write is starved.
 */
static void send_reads(struct engine *e)
{
	struct list *at = e->parked.next;

	while (at != &e->parked) {
		struct request *r = list_entry(at, struct request, node);

		at = at->next;
		if (r->command == NBD_CMD_READ && !try_send(e, r))
			return;
	}
}

void engine_dispatch(struct engine *e)
{
	while (!list_empty(&e->parked)) {
		struct request *r = list_entry(list_first(&e->parked),
					       struct request, node);

		if (e->link == ENGINE_LINK_UP) {
			if (try_send(e, r))
				continue;
			send_reads(e);
			return;
		}
		if (!e->failing || e->link != ENGINE_LINK_DOWN)
			return;
		list_remove(&r->node);
		r->error = EIO;
		complete(e, r);
	}
}

/* ---- errors of the server ---- */

/* Not more often than this in the log, however much fails. */
#define RETRY_TOLD_NS (10 * NS_PER_S)

/*
 * What a server may get over. But not what makes data durable: one that has
 * failed at that may have dropped them, and say success the second time, as
 * fsync(2) does.
 */
static bool may_pass(const struct request *r)
{
	if (r->command == NBD_CMD_FLUSH || r->flags & NBD_CMD_FLAG_FUA)
		return false;
	return r->error == EIO || r->error == ENOSPC || r->error == ENOMEM;
}

/*
 * Writes may wait in half of the slots that are there: where all of them fail, as on a full
 * disk, there must be slots for reads, which the server may well be able to do.
 */
static bool has_room(const struct engine *e, const struct request *r)
{
	uint32_t there = e->pool.base_allowed + e->config.slots_reserve;
	uint32_t writes = 0;

	for (const struct list *at = e->put_off.next; at != &e->put_off;
	     at = at->next)
		writes += list_entry(at, const struct request, node)->command !=
			  NBD_CMD_READ;
	return r->command == NBD_CMD_READ || writes < there / 2;
}

static void tell_failed(struct engine *e, const struct request *r,
			const char *text)
{
	uint64_t now_ns = e->ring.woke_ns;

	if (e->retry_told_ns && now_ns - e->retry_told_ns < RETRY_TOLD_NS)
		return;
	e->retry_told_ns = now_ns;
	log_ring_put(&e->log, LOG_LEVEL_WARNING, text, r->command,
		     (uint64_t)r->error);
}

/* False if it has to fail. */
static bool put_off(struct engine *e, struct request *r)
{
	uint64_t now_ns = e->ring.woke_ns;
	uint32_t pause_ms = r->failed_ns ? 2 * r->pause_ms : RETRY_PAUSE_MIN_MS;

	if (!e->config.retry_ms || e->failing || !may_pass(r))
		return false;
	r->pause_ms = pause_ms < RETRY_PAUSE_MAX_MS ? pause_ms :
						      RETRY_PAUSE_MAX_MS;
	r->retry_ns = now_ns + r->pause_ms * NS_PER_MS;
	if (!r->failed_ns)
		r->failed_ns = now_ns;
	if (r->retry_ns - r->failed_ns > e->config.retry_ms * NS_PER_MS ||
	    !has_room(e, r)) {
		e->stats->retries_failed++;
		tell_failed(e, r,
			    "requests that the server fails now fail here, the first for "
			    "command %" PRIu64 " with errno %" PRIu64);
		return false;
	}
	tell_failed(e, r,
		    "the server fails requests, the first for command %" PRIu64
		    " with errno %" PRIu64 "; they are asked again");
	if (!e->retry_ns || r->retry_ns < e->retry_ns)
		e->retry_ns = r->retry_ns;
	e->stats->retried_total++;
	set_state(e, r, REQUEST_PUT_OFF);
	list_push_back(&e->put_off, &r->node);
	return true;
}

/* In no queue any more. */
static void fail(struct engine *e, struct request *r)
{
	if (!put_off(e, r))
		complete(e, r);
}

void engine_retry(struct engine *e)
{
	bool vain = e->failing || e->front->gone;
	struct list *at = e->put_off.next;

	if (!vain && (!e->retry_ns || e->ring.woke_ns < e->retry_ns))
		return;
	e->retry_ns = 0;
	while (at != &e->put_off) {
		struct request *r = list_entry(at, struct request, node);

		at = at->next;
		if (!vain && r->retry_ns > e->ring.woke_ns) {
			if (!e->retry_ns || r->retry_ns < e->retry_ns)
				e->retry_ns = r->retry_ns;
			continue;
		}
		list_remove(&r->node);
		if (vain) {
			complete(e, r);
			continue;
		}
		set_state(e, r, REQUEST_PARKED);
		list_push_back(&e->parked, &r->node);
	}
}

/* ---- answers ---- */

/* What was sent before r has come to the server, too: it has had it since. */
static void note_overtaken(struct engine *e, const struct request *r)
{
	struct request *oldest = list_entry(list_first(&e->in_flight),
					    struct request, node);

	if (oldest != r && !oldest->overtaken_ns)
		oldest->overtaken_ns = e->ring.woke_ns;
}

/* Sent in full and answered in full. */
static void finish(struct engine *e, struct request *r)
{
	if (r->error == ESHUTDOWN) {
		/* Not an answer: the server is going away. Kept for replay. */
		engine_link_lost(e, 0, "the server is shutting down");
		return;
	}
	note_overtaken(e, r);
	list_remove(&r->node);
	throttle_answered(&e->throttle, r);
	if (r->error) {
		fail(e, r);
		return;
	}
	r->failed_ns = 0;
	r->piece_start += r->piece_bytes;
	if (r->piece_start >= r->length) {
		complete(e, r);
		return;
	}
	set_state(e, r, REQUEST_PARKED); /* the next piece, before newer ones */
	list_push_front(&e->parked, &r->node);
}

void engine_on_sent(struct tx *tx, struct tx_item *item)
{
	struct engine *e = list_entry(tx, struct engine, link_tx);
	struct request *r;

	if (item == &e->disc)
		return;
	r = list_entry(item, struct request, out);
	if (r->replied)
		finish(e, r);
	else if (r->state == REQUEST_SENDING)
		set_state(e, r, REQUEST_WAITING);
}

struct request *engine_find(struct rx *rx, uint64_t cookie)
{
	struct engine *e = list_entry(rx, struct engine, link_rx);
	uint32_t index = (uint32_t)cookie;
	struct request *r;

	if (index >= e->config.slots)
		return NULL;
	r = &e->requests[index];
	if (cookie != request_cookie(r)) {
		e->stats->stale_replies++;
		return NULL;
	}
	if (r->replied || r->state < REQUEST_SENDING ||
	    r->state > REQUEST_RECEIVING)
		return NULL;
	return r;
}

void engine_on_progress(struct rx *rx, struct request *r)
{
	struct engine *e = list_entry(rx, struct engine, link_rx);

	set_state(e, r, REQUEST_RECEIVING);
	r->overtaken_ns = 0; /* its turn has come */
}

void engine_on_reply(struct rx *rx, struct request *r)
{
	struct engine *e = list_entry(rx, struct engine, link_rx);

	r->replied = true;
	/* A server may refuse a write of which we still send the payload. */
	if (list_empty(&r->out.node))
		finish(e, r);
}

/*
 * The old link holds nothing of ours any more: what it left unanswered goes
 * back to the head of the queue, oldest first.
 */
void engine_take_back(struct engine *e)
{
	while (!list_empty(&e->in_flight)) {
		struct request *r = list_entry(e->in_flight.prev,
					       struct request, node);

		list_remove(&r->node);
		throttle_release(&e->throttle, r);
		/*
		 * Answered while we still sent: an error is an answer, but a
		 * success may be told of a payload that never arrived. To send
		 * it again does no harm, the kernel has not been answered yet.
		 */
		if (r->replied && r->error && r->error != ESHUTDOWN) {
			fail(e, r);
			continue;
		}
		set_state(e, r, REQUEST_PARKED);
		list_push_front(&e->parked, &r->node);
		e->stats->replayed_total++;
	}
}

/* ---- set-up ---- */

_Static_assert(GROUPS <= STATS_GROUPS, "status shows every group");

size_t engine_base_bytes(const struct engine_config *c)
{
	return (size_t)(c->slots - c->slots_reserve) * c->slot_bytes;
}

size_t engine_reserve_bytes(const struct engine_config *c)
{
	return (size_t)c->slots_reserve * c->slot_bytes;
}

size_t engine_rx_bytes(void)
{
	return rxring_bytes(RX_BUFFERS, RX_BUFFER_BYTES);
}

void engine_init(struct engine *e, const struct engine_config *config,
		 const struct engine_memory *memory, struct stats_data *stats,
		 int mail_fd, int news_fd)
{
	uint32_t base_count = config->slots - config->slots_reserve;

	CHECK(config->slots >= SLOTS_MIN && config->slots <= SLOTS_MAX);
	CHECK(config->slot_bytes >= SLOT_BYTES_MIN &&
	      config->slot_bytes <= SLOT_BYTES_MAX);
	e->config = *config;
	e->export = *config->export;
	e->memory = *memory;
	e->stats = stats;
	e->mail.event_fd = mail_fd;
	e->news.event_fd = news_fd;
	pool_init(&e->pool, config->slots, config->slots_reserve);
	throttle_init(&e->throttle, &config->open, &config->guaranteed,
		      config->slot_bytes, config->slots_reserve,
		      stats->groups);
	list_init(&e->parked);
	list_init(&e->in_flight);
	list_init(&e->put_off);
	for (uint32_t i = 0; i < config->slots; i++) {
		struct request *r = &e->requests[i];

		r->index = i;
		r->data = i < base_count ?
				  (uint8_t *)memory->base +
					  (size_t)i * config->slot_bytes :
				  (uint8_t *)memory->reserve +
					  (size_t)(i - base_count) *
						  config->slot_bytes;
		list_init(&r->node);
		list_init(&r->out.node);
		list_init(&r->back.node);
	}
	stats->states[REQUEST_FREE] = config->slots;
	stats->slots_free_min = config->slots;
}
