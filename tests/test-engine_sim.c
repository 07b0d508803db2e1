// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The engine against a model of a server, by the dice: requests of all kinds
 * come at random, the ring cuts and reorders, the server answers in any order
 * and in chunks, fails some requests, shuts down, and the link is lost at any
 * point; memory gets tight and plentiful, and the base of the pool comes and
 * goes. Each request must end exactly once, with the right data, a server must
 * never get a request that has ended, nobody may touch memory that was given
 * back, and after each step all sums must be exact and within their limits. The
 * same seed plays the same game. In every other one the engine asks again for
 * what was failed.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/engine_rig.h"
#include "tests/fake_clock.h"

/* A million steps; with a sanitizer a tenth, which takes as long. */
#define SEEDS 4u
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STEPS 25000u
#else
#define STEPS 250000u
#endif
#define BASE 11u
#define RESERVE 4u
#define SLOTS (BASE + RESERVE)
#define WINDOW_BYTES (96u * KIB)
#define ABSENT 0xdd /* the byte that absent memory is full of */
#define DISK_BYTES (192u * KIB)
/* Trims go beyond the disk's content: only their pieces are looked at. */
#define TRIM_START (1ull << 30)
#define SEGMENTS_MAX 4u
#define RETRY_MS 1500u

/* A request as the front knows it, by slot. */
struct expected {
	bool used;
	uint64_t tag;
	uint16_t command;
	uint64_t offset;
	uint32_t length;
	uint32_t trimmed; /* bytes that the server has done, from the start */
	int error;        /* that the server has told for it */
};

/* A request as the server knows it; executed, and being answered. */
struct served {
	struct proto_request head;
	uint32_t error;
	bool begun;
	uint32_t segments; /* of a read, still to be sent */
	uint32_t starts[SEGMENTS_MAX];
	uint32_t ends[SEGMENTS_MAX];
};

static struct sim {
	struct expected expected[SLOTS];
	struct served served[SLOTS];
	uint32_t served_count;
	uint8_t disk[DISK_BYTES];   /* the server's */
	uint8_t shadow[DISK_BYTES]; /* what must be there */
	uint64_t next_tag;
	uint64_t ended;
	bool failing; /* MAIL_FAIL was posted */
	bool calm;    /* no more requests, errors and losses */
	bool sick;    /* the server: it fails every other request */
	uint64_t losses, errors, shutdowns, failed;

	/* The pool's keeper. */
	uint32_t given;
	bool asking;
	bool tight;
	uint64_t shrinks, low_steps, charged_peak;
} sim;

static uint32_t roll(uint32_t limit)
{
	return fake_ring_roll(limit);
}

static bool one_in(uint32_t n)
{
	return roll(n) == 0;
}

/* ---- the kernel's side ---- */

static void on_complete(struct fake_front *f, struct request *r)
{
	struct expected *x = &sim.expected[r->index];

	(void)f;
	if (!x->used || x->tag != r->front_tag)
		fail_msg("request %llu has ended twice",
			 (unsigned long long)r->front_tag);
	if (r->error && r->error != x->error &&
	    !(sim.failing && r->error == EIO))
		fail_msg("request %llu ended with errno %d, the server said %d",
			 (unsigned long long)x->tag, r->error, x->error);
	assert_int_not_equal(r->error, ESHUTDOWN);
	if (x->offset < DISK_BYTES) {
		/* Nobody else touches this range meanwhile. */
		if (!r->error && x->command == NBD_CMD_READ)
			assert_memory_equal(r->data, sim.disk + x->offset,
					    x->length);
		if (!r->error && x->command == NBD_CMD_WRITE)
			assert_memory_equal(r->data, sim.disk + x->offset,
					    x->length);
		memcpy(sim.shadow + x->offset, sim.disk + x->offset, x->length);
	} else if (!r->error) {
		assert_int_equal(x->trimmed, x->length);
	}
	sim.failed += r->error != 0;
	x->used = false;
	sim.ended++;
}

static bool overlaps(uint64_t offset, uint32_t length)
{
	for (uint32_t i = 0; i < SLOTS; i++) {
		const struct expected *x = &sim.expected[i];

		if (x->used && offset < x->offset + x->length &&
		    x->offset < offset + length)
			return true;
	}
	return false;
}

static void submit(void)
{
	static const uint16_t commands[] = {
		NBD_CMD_READ, NBD_CMD_READ, NBD_CMD_READ, NBD_CMD_WRITE,
		NBD_CMD_WRITE, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES,
		NBD_CMD_FLUSH, NBD_CMD_TRIM,
	};
	struct expected x = {
		.used = true,
		.tag = sim.next_tag,
		.command = commands[roll(sizeof(commands) / 2)],
	};
	struct request *r;

	x.length = one_in(5) ? 1 + roll(RIG_SLOT_BYTES) : 1 + roll(600);
	x.offset = roll(DISK_BYTES - x.length + 1);
	if (x.command == NBD_CMD_TRIM) {
		x.offset = TRIM_START + roll(RIG_DISK_BYTES / 2);
		x.length = one_in(4) ? 1 + roll(3 * ZERO_PIECE_BYTES) : x.length;
	}
	if (x.command == NBD_CMD_FLUSH) {
		x.offset = 0;
		x.length = 0;
	}
	if (overlaps(x.offset, x.length))
		return;
	r = fake_front_submit(&rig.fake, x.command, 0, x.offset, x.length, x.tag);
	if (!r)
		return;
	assert_int_equal(r->state, REQUEST_PARKED);
	sim.expected[r->index] = x;
	sim.next_tag++;
}

/* ---- the server ---- */

static void execute(const struct rig_request *got)
{
	struct expected *x = &sim.expected[(uint32_t)got->head.cookie];
	uint64_t at = got->head.offset_bytes;
	uint32_t n = got->head.length_bytes;

	switch (got->head.command) {
	case NBD_CMD_WRITE:
		memcpy(sim.disk + at, got->payload, n);
		break;
	case NBD_CMD_WRITE_ZEROES:
		memset(sim.disk + at, 0, n);
		break;
	case NBD_CMD_TRIM:
		/* A piece may come again, but none may be left out. */
		assert_true(at - x->offset <= x->trimmed);
		if (at - x->offset + n > x->trimmed)
			x->trimmed = (uint32_t)(at - x->offset) + n;
		break;
	default:
		break;
	}
}

/* In which pieces and in which order a read will be answered. */
static void plan_segments(struct served *s)
{
	uint32_t length = s->head.length_bytes;
	uint32_t start = 0;

	while (start < length) {
		uint32_t left = length - start;
		uint32_t n = s->segments == SEGMENTS_MAX - 1 ? left :
							       1 + roll(left);
		uint32_t to = roll(++s->segments);

		s->starts[s->segments - 1] = s->starts[to];
		s->ends[s->segments - 1] = s->ends[to];
		s->starts[to] = start;
		s->ends[to] = start + n;
		start += n;
	}
}

static void receive(void)
{
	static struct rig_request got;
	struct expected *x;
	struct served *s;

	if (!rig_next(&got))
		return;
	assert_true(sim.served_count < SLOTS);
	assert_true((uint32_t)got.head.cookie < SLOTS);
	x = &sim.expected[(uint32_t)got.head.cookie];
	if (!x->used || x->command != got.head.command ||
	    got.head.offset_bytes < x->offset ||
	    got.head.offset_bytes + got.head.length_bytes >
		    x->offset + x->length)
		fail_msg("the server got a request that nobody waits for");
	if (got.head.command == NBD_CMD_WRITE)
		for (uint32_t i = 0; i < got.head.length_bytes; i++)
			assert_int_equal(got.payload[i],
					 fake_front_byte(x->tag, x->offset + i));
	s = &sim.served[sim.served_count++];
	*s = (struct served){ .head = got.head };
	if (!sim.calm && one_in(sim.sick ? 2 : 40)) {
		s->error = one_in(3) ? NBD_EPERM : NBD_ENOSPC;
		sim.errors++;
	}
	if (!sim.calm && one_in(1500)) {
		s->error = NBD_ESHUTDOWN;
		sim.shutdowns++;
	}
	/* A request that fails may have done its work all the same. */
	if (!s->error || one_in(2))
		execute(&got);
	if (got.head.command == NBD_CMD_READ && !s->error)
		plan_segments(s);
}

static void drop(struct served *s)
{
	*s = sim.served[--sim.served_count];
}

static void answer_error(struct served *s)
{
	uint64_t cookie = s->head.cookie;

	sim.expected[(uint32_t)cookie].error =
		proto_error_to_errno(s->error);
	if (!rig.e->link_rx.structured ||
	    (s->head.command != NBD_CMD_READ && one_in(2)))
		reply_simple(&rig.reply, cookie, s->error);
	else
		reply_error(&rig.reply, cookie, REPLY_DONE, s->error,
			    "by the dice");
	drop(s);
}

static void answer_chunk(struct served *s)
{
	uint64_t cookie = s->head.cookie;
	uint32_t start = s->starts[--s->segments];
	uint32_t n = s->ends[s->segments] - start;
	uint64_t at = s->head.offset_bytes + start;
	bool none = one_in(4); /* the end is told by a chunk of its own */
	uint16_t flags = s->segments || none ? 0 : REPLY_DONE;
	bool zero = true;

	for (uint32_t i = 0; i < n && zero; i++)
		zero = sim.disk[at + i] == 0;
	if (zero)
		reply_hole(&rig.reply, cookie, flags, at, n);
	else
		reply_data(&rig.reply, cookie, flags, at, sim.disk + at, n);
	if (!s->segments) {
		if (!flags)
			reply_none(&rig.reply, cookie);
		drop(s);
	}
}

/* One reply, or a chunk of one. */
static void answer(void)
{
	struct served *s;

	if (!sim.served_count)
		return;
	s = &sim.served[roll(sim.served_count)];
	rig.reply.used = 0;
	if (s->error) {
		answer_error(s);
	} else if (s->head.command != NBD_CMD_READ) {
		if (rig.e->link_rx.structured && one_in(2))
			reply_none(&rig.reply, s->head.cookie);
		else
			reply_simple(&rig.reply, s->head.cookie, 0);
		drop(s);
	} else if (rig.e->link_rx.structured) {
		answer_chunk(s);
	} else {
		reply_simple(&rig.reply, s->head.cookie, 0);
		reply_raw(&rig.reply, sim.disk + s->head.offset_bytes,
			  s->head.length_bytes);
		drop(s);
	}
	fake_ring_feed(RING_LINK, rig.reply.data, rig.reply.used);
	rig.reply.used = 0;
}

/* ---- the link ---- */

static void lose_link(void)
{
	struct fake_bytes *in = &fake_ring.files[RING_LINK].in;

	/* Some of what was on its way arrives. */
	in->end = in->start + roll((uint32_t)(in->end - in->start) + 1);
	fake_ring.files[RING_LINK].ended = true;
	if (one_in(2))
		fake_ring.files[RING_LINK].end_error = -ECONNRESET;
	sim.losses++;
}

/* The server keeps to the protocol, so the link may not be lost for a breach. */
static void check_reason(void)
{
	int error = atomic_load(&rig.e->news.link_error);
	const char *reason = atomic_load(&rig.e->news.link_reason);

	if (error && error != ECONNRESET && error != EPIPE)
		fail_msg("link lost: errno %d, %s", error,
			 reason ? reason : "no reason");
}

static void control(void)
{
	if (rig.e->link != ENGINE_LINK_UP)
		check_reason();
	switch (rig.e->link) {
	case ENGINE_LINK_UP:
		if (!sim.calm && !fake_ring.files[RING_LINK].ended &&
		    one_in(200))
			lose_link();
		/* A silent one is replaced. */
		if (!sim.calm && one_in(500))
			engine_post(rig.e, MAIL_LINK_DROP);
		break;
	case ENGINE_LINK_DRAINING:
		if (one_in(4))
			fake_ring_shutdown(RING_LINK);
		break;
	case ENGINE_LINK_DOWN:
		if (!sim.calm && one_in(100)) {
			engine_post(rig.e, MAIL_FAIL);
			sim.failing = true;
		}
		if (one_in(4)) {
			rig.e->mail.link_fd = 100;
			rig.e->mail.structured = one_in(2);
			sim.served_count = 0;
			fake_ring.files[RING_LINK].receive_max =
				one_in(2) ? 0 : 1 + roll(5000);
			fake_ring.files[RING_LINK].send_max =
				one_in(2) ? 0 : 1 + roll(5000);
			engine_post(rig.e, MAIL_LINK_UP);
			rig_rounds(1);
			sim.failing = false;
		}
		break;
	}
}

/* ---- memory ---- */

static uint8_t *base_memory(uint32_t index)
{
	return (uint8_t *)rig.memory.base + index * RIG_SLOT_BYTES;
}

/* Nobody has touched it. */
static void check_absent(uint32_t index)
{
	const uint8_t *at = base_memory(index);

	if (at[0] != ABSENT || memcmp(at, at + 1, RIG_SLOT_BYTES - 1) != 0)
		fail_msg("slot %u was written to while it was not there", index);
}

static void keep(void)
{
	uint32_t owned;

	if (sim.asking && pool_answered(&rig.e->pool, &owned)) {
		assert_true(owned <= sim.given);
		while (sim.given > owned)
			memset(base_memory(--sim.given), ABSENT, RIG_SLOT_BYTES);
		sim.asking = false;
		sim.shrinks++;
	} else if (one_in(400) && !sim.calm) {
		pool_ask(&rig.e->pool, roll(sim.given + 1));
		sim.asking = true;
	} else if (!sim.asking && sim.given < BASE && one_in(20)) {
		check_absent(sim.given);
		pool_give_home(&rig.e->pool, sim.given++);
	}
	if (one_in(500) || (sim.calm && sim.tight)) {
		sim.tight = !sim.tight;
		engine_post(rig.e, sim.tight ? MAIL_TIGHT : MAIL_PLENTY);
	}
}

/* What a request that is under way takes of each window; by the wire's shapes. */
static void add_cost(const struct request *r, struct throttle_window *sum)
{
	sum->tx_bytes += 28 + (r->command == NBD_CMD_WRITE ? r->length : 0);
	sum->rx_bytes += 28 + (r->command == NBD_CMD_READ ? r->length : 0);
}

static void check_groups(uint32_t slots, const struct throttle_window *sum)
{
	const struct group *g = rig.stats.groups;
	const uint64_t expected[] = {
		[GROUP_SLOTS] = slots * (uint64_t)RIG_SLOT_BYTES,
		[GROUP_TX] = sum->tx_bytes,
		[GROUP_RX] = sum->rx_bytes,
	};
	uint64_t all = 0;

	for (uint32_t i = GROUP_SLOTS; i <= GROUP_RX; i++) {
		assert_int_equal(g[i].usage_bytes, expected[i]);
		all += expected[i];
	}
	for (uint32_t i = GROUP_HOST; i <= GROUP_DEVICE; i++)
		assert_int_equal(g[i].usage_bytes, all);
	if (all > sim.charged_peak)
		sim.charged_peak = all;
	/* The peak may have been within the round. */
	assert_true(g[GROUP_HOST].peak_bytes >= sim.charged_peak);
}

/* Whoever owes is there; and nobody is owed anything from the future. */
static void check_owed(const struct engine *e)
{
	const struct engine_owed owed = engine_owed(e);

	assert_true(owed.since_ns <= fake_clock_ns);
	assert_int_equal(owed.since_ns != 0, e->link == ENGINE_LINK_UP &&
						     !list_empty(&e->in_flight));
}

/* All that must be true after each round. */
static void check_engine(void)
{
	const struct engine *e = rig.e;
	const struct throttle *t = &e->throttle;
	struct throttle_window sum = { 0 }, charged = { 0 };
	uint32_t admitted = 0, charged_count = 0, taken = 0;

	for (uint32_t i = 0; i < SLOTS; i++) {
		const struct request *r = &e->requests[i];

		taken += r->state != REQUEST_FREE;
		assert_true(r->state == REQUEST_FREE || i >= BASE ||
			    i < sim.given);
		if (r->state < REQUEST_SENDING || r->state > REQUEST_RECEIVING) {
			assert_false(r->charged);
			continue;
		}
		admitted++;
		add_cost(r, &sum);
		assert_true(r->charged || !t->low);
		if (!r->charged)
			continue;
		charged_count++;
		add_cost(r, &charged);
	}
	assert_int_equal(e->pool.taken, taken);
	assert_int_equal(t->admitted, admitted);
	assert_int_equal(t->used.tx_bytes, sum.tx_bytes);
	assert_int_equal(t->used.rx_bytes, sum.rx_bytes);
	assert_true(sum.tx_bytes <= WINDOW_BYTES && sum.rx_bytes <= WINDOW_BYTES);
	assert_true(t->max.tx_bytes <= WINDOW_BYTES &&
		    t->max.tx_bytes >= RIG_REQUEST_BYTES);
	if (t->low)
		assert_int_equal(t->max.rx_bytes, RIG_REQUEST_BYTES);
	check_groups(charged_count, &charged);
	check_owed(e);
	/* Whatever is held back, something is under way. */
	if (e->link == ENGINE_LINK_UP && !list_empty(&e->parked))
		assert_true(admitted > 0);
	sim.low_steps += t->low;
}

static void step(void)
{
	for (uint32_t n = roll(3); n && !sim.calm; n--)
		submit();
	if (one_in(sim.sick ? 1000 : 3000))
		sim.sick = !sim.sick;
	if (rig.e->link == ENGINE_LINK_UP && !fake_ring.files[RING_LINK].ended) {
		if (roll(4))
			receive();
		if (roll(4))
			answer();
	}
	control();
	keep();
	fake_clock_advance_us(roll(2000));
	rig_rounds(1);
	check_engine();
	rig.fake.done_count = 0;
	while (rig.fake.kept_count && roll(3))
		fake_front_release(&rig.fake);
}

static void play(uint64_t seed)
{
	rig_open_pool(BASE, RESERVE, NULL);
	memset(rig.memory.base, ABSENT, engine_base_bytes(&rig.config));
	memset(&sim, 0, sizeof(sim));
	rig.what = "seed";
	rig.at = seed;
	fake_ring.dice = seed * 0x9e3779b97f4a7c15;
	rig.fake.on_complete = on_complete;
	rig.fake.keep = true;
	rig.e->config.retry_ms = seed % 2 ? 0 : RETRY_MS;
	rig_windows(WINDOW_BYTES, WINDOW_BYTES);
	for (uint32_t i = 0; i < STEPS; i++)
		step();
	sim.calm = true;
	for (uint32_t i = 0; i < 20000 && (rig.e->pool.taken || sim.tight ||
					   sim.asking || sim.given < BASE);
	     i++)
		step();
	rig_rounds(1);
	/* Every slot is there, and free. */
	assert_int_equal(rig.e->pool.base_free, BASE);
	assert_int_equal(rig.e->pool.reserve_free, RESERVE);
	assert_false(rig.e->throttle.low);
	assert_int_equal(sim.ended, sim.next_tag);
	assert_memory_equal(sim.shadow, sim.disk, DISK_BYTES);
	/* The game was worth playing. */
	assert_true(sim.ended > STEPS / 10);
	assert_true(sim.losses > STEPS / 2000);
	assert_true(sim.errors > 100 && sim.shutdowns > 3 && sim.failed > 100);
	assert_true(rig.stats.replayed_total > 100);
	assert_int_equal(rig.stats.retried_total > STEPS / 250, seed % 2 == 0);
	assert_int_equal(rig.stats.retries_failed > STEPS / 2500, seed % 2 == 0);
	assert_true(rig.stats.front_stalls > 100);
	assert_true(sim.shrinks > STEPS / 1000);
	assert_true(rig.stats.window_closings > STEPS / 2000);
	assert_true(rig.stats.low_episodes > STEPS / 2000);
	assert_in_range(sim.low_steps, STEPS / 10, STEPS - STEPS / 10);
	/* A lost link may not have been mistaken for a mad server. */
	assert_int_equal(rig.stats.stale_replies, 0);
	rig_close();
}

static void random_game(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		play(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(random_game, rig_tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
