// SPDX-License-Identifier: GPL-2.0-or-later
/* The data thread's loop, its link, and its mail with the control thread. */
#include <errno.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/guard.h"
#include "nbd-client/engine.h"
#include "nbd-client/engine_link.h"

/* ---- mail ---- */

static void tell(struct engine *e, uint32_t news)
{
	e->news_pending |= news;
}

static void post_news(struct engine *e)
{
	if (!e->news_pending || e->news_op.pending)
		return;
	atomic_fetch_or(&e->news.bits, e->news_pending);
	e->news_pending = 0;
	e->news_word = 1;
	ring_write(&e->ring, &e->news_op, RING_NEWS, &e->news_word,
		   sizeof(e->news_word));
}

void engine_post(struct engine *e, uint32_t mail_bits)
{
	uint64_t one = 1;
	ssize_t ignored;

	/* The newer of the two counts, even if the older one is still unread. */
	if (mail_bits & MAIL_PLENTY)
		atomic_fetch_and(&e->mail.bits, ~(uint32_t)MAIL_TIGHT);
	atomic_fetch_or(&e->mail.bits, mail_bits);
	/* Cannot fail: the counter would have to reach 2^64 - 1. */
	ignored = write(e->mail.event_fd, &one, sizeof(one));
	(void)ignored;
}

uint32_t engine_take_news(struct engine *e)
{
	return atomic_exchange(&e->news.bits, 0);
}

/* ---- the link ---- */

/* Through the record layer; plain text goes to rx as it is verified. */
static ssize_t open_bytes(struct engine *e, const uint8_t *from, size_t bytes)
{
	struct tls_open *open = &e->records->open;
	size_t taken = 0, plain;

	while (taken < bytes) {
		ssize_t n = tls_open_take(open, from + taken, bytes - taken,
					  &plain);

		if (n < 0 || rx_take(&e->link_rx, open->plain, plain) < 0)
			return -1;
		taken += (size_t)n;
	}
	return (ssize_t)taken;
}

static ssize_t link_bytes(struct stream *s, const uint8_t *from, size_t bytes)
{
	struct engine *e = list_entry(s, struct engine, link_stream);

	e->heard_ns = e->ring.woke_ns;
	if (e->records)
		return open_bytes(e, from, bytes);
	return rx_take(&e->link_rx, from, bytes) < 0 ? -1 : (ssize_t)bytes;
}

static size_t link_place(struct stream *s, uint8_t **ret_to)
{
	struct engine *e = list_entry(s, struct engine, link_stream);

	size_t bytes = e->records ? 0 : rx_place(&e->link_rx, ret_to);

	if (e->records)
		return 0;
	/* A guess: replies mostly come in the order of the requests. */
	if (!list_empty(&e->in_flight)) {
		const struct request *oldest = list_entry(
			list_first(&e->in_flight), struct request, node);

		e->long_reply = oldest->command == NBD_CMD_READ &&
				oldest->length >= RX_HEAD_ALONE_BYTES_MIN;
	}
	if (bytes || !e->long_reply)
		return bytes;
	return e->link_rx.structured ? sizeof(struct nbd_structured_reply) +
					       sizeof(struct nbd_chunk_offset_data) :
				       sizeof(struct nbd_simple_reply);
}

static void link_placed(struct stream *s, size_t bytes)
{
	struct engine *e = list_entry(s, struct engine, link_stream);

	e->heard_ns = e->ring.woke_ns;
	if (rx_placed(&e->link_rx, bytes) < 0)
		engine_link_lost(e, EPROTO, e->link_rx.failure);
}

static void link_end(struct stream *s, int error)
{
	struct engine *e = list_entry(s, struct engine, link_stream);
	const char *reason = e->link_rx.failure;

	if (!reason && e->records)
		reason = e->records->open.failure;
	engine_link_lost(e, -error, reason);
}

static const struct stream_ops link_stream_ops = {
	.on_bytes = link_bytes,
	.place = link_place,
	.on_placed = link_placed,
	.on_end = link_end,
};

static const struct rx_ops link_rx_ops = {
	.find = engine_find,
	.on_progress = engine_on_progress,
	.on_reply = engine_on_reply,
};

static void link_tx_error(struct tx *tx, int error)
{
	struct engine *e = list_entry(tx, struct engine, link_tx);

	engine_link_lost(e, -error, NULL);
}

static void link_up(struct engine *e)
{
	CHECK(e->link == ENGINE_LINK_DOWN);
	if (ring_set_file(&e->ring, RING_LINK, e->mail.link_fd) < 0) {
		engine_link_lost(e, EBADF, "the socket cannot be registered");
		return;
	}
	e->link = ENGINE_LINK_UP;
	e->failing = false;
	if (e->mail.export_bytes > e->export.size_bytes)
		e->export.size_bytes = e->mail.export_bytes;
	e->heard_ns = 0;
	rx_reset(&e->link_rx, e->mail.structured, e->config.slot_bytes);
	e->records = e->mail.records;
	tx_open(&e->link_tx, e->records);
	stream_open(&e->link_stream);
}

void engine_link_lost(struct engine *e, int error, const char *reason)
{
	if (e->link == ENGINE_LINK_DRAINING)
		return;
	e->link = ENGINE_LINK_DRAINING;
	tx_close(&e->link_tx);
	stream_close(&e->link_stream);
	atomic_store(&e->news.link_error, error);
	atomic_store(&e->news.link_reason, reason);
	atomic_store(&e->news.link_mute,
		     !e->heard_ns && !list_empty(&e->in_flight));
	atomic_store(&e->news.link_answered, e->heard_ns != 0);
	tell(e, NEWS_LINK_LOST);
}

/* After the control thread's shutdown of the socket all operations end. */
static void link_step(struct engine *e)
{
	if (e->link == ENGINE_LINK_UP) {
		stream_step(&e->link_stream);
		return;
	}
	if (e->link != ENGINE_LINK_DRAINING || tx_busy(&e->link_tx) ||
	    stream_busy(&e->link_stream))
		return;
	tx_reset(&e->link_tx);
	/* Lets go of the file: only then is the connection really closed. */
	ring_set_file(&e->ring, RING_LINK, -1);
	e->link = ENGINE_LINK_DOWN;
	engine_take_back(e);
	tell(e, NEWS_LINK_IDLE);
}

/* ---- the front ---- */

void engine_front_gone(struct engine *e)
{
	if (e->front->gone)
		return;
	e->front->gone = true;
	tell(e, NEWS_FRONT_GONE);
}

static void front_up(struct engine *e)
{
	if (ring_set_file(&e->ring, RING_FRONT, e->mail.front_fd) < 0) {
		engine_front_gone(e);
		return;
	}
	e->front->ops->open(e->front);
}

/* ---- the end ---- */

/* Nothing is left to answer: say goodbye, once. */
static void close_step(struct engine *e)
{
	struct proto_request p = { .command = NBD_CMD_DISC };

	if (!e->closing || e->pool.taken)
		return;
	if (e->link == ENGINE_LINK_UP) {
		if (!e->disc.header_bytes) {
			proto_put_request(e->disc.header, &p);
			e->disc.header_bytes = sizeof(struct nbd_request);
			tx_push(&e->link_tx, &e->disc);
			return;
		}
		if (!list_empty(&e->disc.node))
			return; /* still on its way */
	}
	e->closing = false;
	tell(e, NEWS_CLOSED);
}

static void read_mail(struct engine *e)
{
	uint32_t mail = atomic_exchange(&e->mail.bits, 0);

	/* Before the link: a link that comes up at the same time counts. */
	if (mail & MAIL_FAIL)
		e->failing = true;
	if (mail & MAIL_LINK_UP)
		link_up(e);
	if (mail & MAIL_LINK_DROP && e->link == ENGINE_LINK_UP)
		engine_link_lost(e, 0, "given up by command");
	if (mail & MAIL_FRONT_UP)
		front_up(e);
	if (mail & MAIL_PLENTY)
		e->tight = false;
	if (mail & MAIL_TIGHT)
		e->tight = true;
	if (mail & MAIL_CLOSE)
		e->closing = true;
	if (mail & MAIL_STOP)
		e->stopping = true;
}

static void memory_step(struct engine *e)
{
	if (pool_step(&e->pool))
		tell(e, NEWS_POOL);
	engine_update_low(e);
}

/* What status shows of it. */
static void show_memory(const struct engine *e)
{
	struct stats_data *s = e->stats;

	s->low = e->throttle.low;
	s->window_closings = e->throttle.closings;
	s->window_tx_bytes = e->throttle.max.tx_bytes;
	s->window_rx_bytes = e->throttle.max.rx_bytes;
	s->base_slots = e->pool.base_allowed;
}

static uint64_t owed_since_ns(const struct engine *e, const struct request *r)
{
	if (r->overtaken_ns)
		return r->overtaken_ns;
	return e->heard_ns > r->sent_ns ? e->heard_ns : r->sent_ns;
}

/* The parts need not agree (engine_owed()), so no order is asked for. */
#define show(to, value) atomic_store_explicit(to, value, memory_order_relaxed)

static void show_owed(struct engine *e)
{
	uint64_t since_ns = 0;

	if (e->link == ENGINE_LINK_UP && !list_empty(&e->in_flight)) {
		const struct request *r = list_entry(e->in_flight.next,
						     struct request, node);

		since_ns = owed_since_ns(e, r);
		show(&e->news.owed_offset, r->offset + r->piece_start);
		show(&e->news.owed_read, r->command == NBD_CMD_READ);
		show(&e->news.owed_overtaken, r->overtaken_ns != 0);
	}
	show(&e->news.owed_since_ns, since_ns);
	e->stats->owed_since_ns = since_ns;
}

/* Not longer than until a request is to be asked again. */
static uint32_t until_retry(const struct engine *e, uint32_t timeout_ms)
{
	uint64_t now_ns, left_ms;

	if (!e->retry_ns || !timeout_ms)
		return timeout_ms;
	now_ns = clock_now_ns();
	if (now_ns >= e->retry_ns)
		return 0;
	left_ms = (e->retry_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS;
	return left_ms < timeout_ms ? (uint32_t)left_ms : timeout_ms;
}

int engine_round(struct engine *e, uint32_t timeout_ms)
{
	int ret;

	if (!e->mail_op.pending)
		ring_read(&e->ring, &e->mail_op, RING_MAIL, &e->mail_word,
			  sizeof(e->mail_word));
	/* Whoever waits for a slot waits for sends of whose end there is no word. */
	if ((e->stalled || e->closing) && e->ring.now_count)
		timeout_ms = 0;
	timeout_ms = until_retry(e, timeout_ms);
	ret = ring_wait(&e->ring, timeout_ms);
	if (ret < 0)
		return ret;
	e->stats->heartbeat_ns = e->ring.woke_ns;
	e->stats->wakeups++;
	read_mail(e);
	memory_step(e);
	link_step(e);
	e->front->ops->step(e->front);
	engine_update_low(e);
	engine_retry(e);
	engine_dispatch(e);
	close_step(e);
	tx_step(&e->link_tx);
	e->front->ops->flush(e->front);
	show_memory(e);
	show_owed(e);
	post_news(e);
	return 0;
}

int engine_open(struct engine *e, struct front *front)
{
	int ret = ring_init(&e->ring);

	if (ret < 0)
		return ret;
	ret = rxring_open(&e->rx_critical, &e->ring, 0, RX_BUFFERS,
			  RX_BUFFER_BYTES, e->memory.rx);
	if (!ret)
		ret = ring_set_file(&e->ring, RING_MAIL, e->mail.event_fd);
	if (!ret)
		ret = ring_set_file(&e->ring, RING_NEWS, e->news.event_fd);
	if (!ret)
		ret = ring_warm_up(&e->ring);
	if (ret < 0) {
		ring_fini(&e->ring);
		return ret;
	}
	ring_start_ticks(&e->ring, HEARTBEAT_MS);
	e->front = front;
	front->engine = e;
	e->mail_op.on_done = ring_ignore;
	e->news_op.on_done = ring_ignore;
	list_init(&e->disc.node);
	tx_init(&e->link_tx, &e->ring, RING_LINK, engine_on_sent,
		link_tx_error, &e->stats->link_sends);
	rx_init(&e->link_rx, &link_rx_ops);
	stream_init(&e->link_stream, &link_stream_ops, &e->ring,
		    &e->rx_critical, RING_LINK, true, &e->stats->link_receives,
		    &e->stats->rx_exhausted);
	return 0;
}

void engine_run(struct engine *e)
{
	guard_arm(&e->stats->stray_mallocs);
	while (!e->stopping) {
		if (engine_round(e, HEARTBEAT_MS) < 0) {
			uint64_t one = 1;
			ssize_t ignored;

			/* The ring is of no use any more: tell without it. */
			atomic_fetch_or(&e->news.bits, NEWS_FAILED);
			ignored = write(e->news.event_fd, &one, sizeof(one));
			(void)ignored;
			break;
		}
	}
	guard_disarm();
}

void engine_close(struct engine *e)
{
	ring_fini(&e->ring);
}
