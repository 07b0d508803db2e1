// SPDX-License-Identifier: GPL-2.0-or-later
/* An engine in a test; see engine_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/engine_rig.h"

struct rig rig;

/* All tests read what nobody has written. */
static void check_read(struct fake_front *f, struct request *r)
{
	(void)f;
	if (r->command != NBD_CMD_READ || r->error)
		return;
	for (uint32_t i = 0; i < r->length; i++)
		if (r->data[i] != rig_disk_byte(r->offset + i))
			fail_msg("request %llu: wrong byte at %u of %u",
				 (unsigned long long)r->front_tag, i, r->length);
}

void rig_open_pool(uint32_t base, uint32_t reserve, struct front *front)
{
	fake_ring_reset();
	memset(&rig, 0, sizeof(rig));
	rig.export = (struct export_info){
		.size_bytes = RIG_DISK_BYTES,
		.flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH |
			 NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |
			 NBD_FLAG_SEND_WRITE_ZEROES,
		.block_min = 1,
		.block_pref = 4096,
		.block_max = NBD_MAX_PAYLOAD_DEFAULT,
		.structured = true,
	};
	rig.structured = true;
	rig.base = base;
	rig.config = (struct engine_config){
		.slots = base + reserve,
		.slots_reserve = reserve,
		.slot_bytes = RIG_SLOT_BYTES,
		.open = { 1u << 30, 1u << 30 },
		.guaranteed = { RIG_REQUEST_BYTES, RIG_REQUEST_BYTES },
		.export = &rig.export,
	};
	rig.e = calloc(1, sizeof(*rig.e));
	rig.memory = (struct engine_memory){
		.base = calloc(1, engine_base_bytes(&rig.config)),
		.reserve = calloc(1, engine_reserve_bytes(&rig.config)),
		.rx = calloc(1, engine_rx_bytes()),
	};
	engine_init(rig.e, &rig.config, &rig.memory, &rig.stats,
		    eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK));
	fake_front_init(&rig.fake);
	rig.fake.on_complete = check_read;
	rig.front = front ? front : &rig.fake.front;
	assert_int_equal(engine_open(rig.e, rig.front), 0);
}

void rig_open(uint32_t slots, struct front *front)
{
	struct pool *pool;
	uint32_t index;

	rig_open_pool(slots ? slots : 8, 1, front);
	pool = &rig.e->pool;
	for (uint32_t i = 0; i < rig.base; i++)
		pool_give_home(pool, i);
	pool_step(pool);
	/* Tests want slot 0 first: that is the one that was given back last. */
	while (pool->base_free)
		pool_take(pool, &index);
	for (uint32_t i = rig.base; i-- > 0;)
		pool_give(pool, i);
	pool->free_min = rig.config.slots;
}

void rig_windows(uint64_t tx_bytes, uint64_t rx_bytes)
{
	const struct throttle_window open = { tx_bytes, rx_bytes };
	const struct throttle_window least = { RIG_REQUEST_BYTES,
					       RIG_REQUEST_BYTES };

	throttle_init(&rig.e->throttle, &open, &least, RIG_SLOT_BYTES,
		      rig.config.slots_reserve, rig.stats.groups);
}

uint32_t rig_unused(void)
{
	return rig.config.slots - rig.e->pool.taken;
}

static void check_slots(void)
{
	uint32_t counted[REQUEST_STATES] = { 0 };

	for (uint32_t i = 0; i < rig.config.slots; i++)
		counted[rig.e->requests[i].state]++;
	for (uint32_t i = 0; i < REQUEST_STATES; i++)
		if (counted[i] != rig.stats.states[i])
			fail_msg("state %u: %u slots, but %llu counted", i,
				 counted[i],
				 (unsigned long long)rig.stats.states[i]);
	assert_int_equal(counted[REQUEST_FREE], rig_unused());
}

static void free_all(void)
{
	close(rig.e->mail.event_fd);
	close(rig.e->news.event_fd);
	free(rig.e);
	free(rig.memory.base);
	free(rig.memory.reserve);
	free(rig.memory.rx);
	rig.e = NULL;
	fake_ring_reset();
}

void rig_close(void)
{
	check_slots();
	assert_int_equal(rig_unused(), rig.config.slots);
	assert_int_equal(rig.e->throttle.admitted, 0);
	assert_int_equal(rig.e->throttle.used.tx_bytes, 0);
	assert_int_equal(rig.e->throttle.used.rx_bytes, 0);
	for (uint32_t i = 0; i < GROUPS; i++)
		assert_int_equal(rig.stats.groups[i].usage_bytes, 0);
	/* A stream at rest holds no buffer. */
	assert_int_equal(fake_ring_buffers(), RX_BUFFERS);
	engine_close(rig.e);
	free_all();
}

int rig_set_up(void **state)
{
	(void)state;
	rig_open(0, NULL);
	return 0;
}

/* After a failed test only that one should be told of. */
int rig_tear_down(void **state)
{
	(void)state;
	if (!rig.e)
		return 0;
	if (rig.what || rig.at)
		print_error("ERROR: at: %s %zu\n", rig.what ? rig.what : "",
			    rig.at);
	free_all();
	return 0;
}

void rig_rounds(uint32_t count)
{
	while (count--) {
		assert_int_equal(engine_round(rig.e, 0), 0);
		rig.news |= engine_take_news(rig.e);
		check_slots();
	}
}

/* Grows with all that can happen in a round. */
static uint64_t activity(void)
{
	uint64_t sum = rig.news + rig.fake.done_count;

	for (int i = 0; i < RING_FILES; i++)
		sum += fake_ring.files[i].receives + fake_ring.files[i].sends;
	return sum;
}

void rig_settle(void)
{
	uint64_t before;
	uint32_t limit = 100000;

	do {
		before = activity();
		rig_rounds(2);
		if (!limit--)
			fail_msg("the engine does not come to rest");
	} while (activity() != before);
}

uint32_t rig_take_news(void)
{
	uint32_t news = rig.news;

	rig.news = 0;
	return news;
}

void rig_link_up(void)
{
	rig.e->mail.link_fd = 100;
	rig.e->mail.structured = rig.structured;
	engine_post(rig.e, MAIL_LINK_UP);
	rig_rounds(1);
	assert_int_equal(rig.e->link, ENGINE_LINK_UP);
}

void rig_link_idle(void)
{
	assert_true(rig.news & NEWS_LINK_LOST);
	fake_ring_shutdown(RING_LINK);
	rig_settle();
	assert_true(rig.news & NEWS_LINK_IDLE);
	assert_int_equal(rig.e->link, ENGINE_LINK_DOWN);
	assert_int_equal(fake_ring.files[RING_LINK].fd, -1);
	rig.news &= ~(uint32_t)(NEWS_LINK_LOST | NEWS_LINK_IDLE);
}

void rig_link_down(void)
{
	fake_ring.files[RING_LINK].ended = true;
	for (int i = 0; i < 100 && !(rig.news & NEWS_LINK_LOST); i++)
		rig_rounds(1);
	rig_link_idle();
}

bool rig_next(struct rig_request *ret)
{
	const uint8_t *from;
	size_t bytes = fake_ring_sent(RING_LINK, &from);
	size_t payload = 0;

	if (bytes < sizeof(struct nbd_request))
		return false;
	if (proto_get_request(&ret->head, from) < 0)
		fail_msg("what the server got is not a request");
	if (ret->head.command == NBD_CMD_WRITE)
		payload = ret->head.length_bytes;
	assert_true(payload <= sizeof(ret->payload));
	if (bytes < sizeof(struct nbd_request) + payload)
		return false;
	if (payload)
		memcpy(ret->payload, from + sizeof(struct nbd_request), payload);
	fake_ring_take(RING_LINK, sizeof(struct nbd_request) + payload);
	return true;
}

uint64_t rig_expect(uint16_t command, uint64_t offset, uint32_t length)
{
	static struct rig_request got;

	if (!rig_next(&got))
		fail_msg("no request has come, but %s at %llu was due",
			 proto_command_name(command),
			 (unsigned long long)offset);
	if (got.head.command != command || got.head.offset_bytes != offset ||
	    got.head.length_bytes != length)
		fail_msg("%s [%llu, +%u) has come, %s [%llu, +%u) was due",
			 proto_command_name(got.head.command),
			 (unsigned long long)got.head.offset_bytes,
			 got.head.length_bytes, proto_command_name(command),
			 (unsigned long long)offset, length);
	return got.head.cookie;
}

void rig_expect_nothing(void)
{
	const uint8_t *from;
	size_t bytes = fake_ring_sent(RING_LINK, &from);

	if (bytes)
		fail_msg("%zu bytes have come, but nothing was due", bytes);
}

void rig_answer(void)
{
	fake_ring_feed(RING_LINK, rig.reply.data, rig.reply.used);
	rig.reply.used = 0;
	rig_settle();
}

void rig_answer_simple(uint64_t cookie, uint32_t error)
{
	reply_simple(&rig.reply, cookie, error);
	rig_answer();
}

uint8_t rig_disk_byte(uint64_t offset)
{
	return (uint8_t)(offset * 13 + (offset >> 8) + 3);
}

void rig_answer_read(uint64_t cookie, uint64_t offset, uint32_t length)
{
	static uint8_t data[RIG_SLOT_BYTES];

	for (uint32_t i = 0; i < length; i++)
		data[i] = rig_disk_byte(offset + i);
	if (rig.e->link_rx.structured) {
		reply_data(&rig.reply, cookie, REPLY_DONE, offset, data, length);
		return;
	}
	reply_simple(&rig.reply, cookie, 0);
	reply_raw(&rig.reply, data, length);
}

void rig_answer_well(const struct rig_request *request)
{
	if (request->head.command == NBD_CMD_READ)
		rig_answer_read(request->head.cookie, request->head.offset_bytes,
				request->head.length_bytes);
	else if (request->head.command != NBD_CMD_DISC)
		reply_simple(&rig.reply, request->head.cookie, 0);
}

uint32_t rig_serve_all(void)
{
	static struct rig_request request;
	uint32_t count = 0;

	rig_settle();
	while (rig_next(&request)) {
		rig_answer_well(&request);
		rig_answer();
		count++;
	}
	return count;
}

struct request *rig_submit(uint16_t command, uint64_t offset, uint32_t length,
			   uint64_t tag)
{
	struct request *r = fake_front_submit(&rig.fake, command, 0, offset,
					      length, tag);

	assert_non_null(r);
	return r;
}

void rig_expect_done(uint32_t count, const struct fake_done *expected)
{
	for (uint32_t i = 0; i < count && i < rig.fake.done_count; i++)
		if (rig.fake.done[i].tag != expected[i].tag ||
		    rig.fake.done[i].error != expected[i].error)
			fail_msg("end %u: request %llu with errno %d, not %llu with %d",
				 i, (unsigned long long)rig.fake.done[i].tag,
				 rig.fake.done[i].error,
				 (unsigned long long)expected[i].tag,
				 expected[i].error);
	if (rig.fake.done_count != count)
		fail_msg("%u requests have ended, not %u", rig.fake.done_count,
			 count);
	rig.fake.done_count = 0;
}

void rig_expect_states(uint32_t new_count, uint32_t parked, uint32_t sending,
		       uint32_t waiting, uint32_t receiving, uint32_t done)
{
	const uint32_t expected[REQUEST_STATES] = {
		[REQUEST_FREE] = rig.config.slots - new_count - parked -
				 sending - waiting - receiving - done,
		[REQUEST_NEW] = new_count,
		[REQUEST_PARKED] = parked,
		[REQUEST_SENDING] = sending,
		[REQUEST_WAITING] = waiting,
		[REQUEST_RECEIVING] = receiving,
		[REQUEST_DONE] = done,
	};

	check_slots();
	for (uint32_t i = 0; i < REQUEST_STATES; i++)
		if (rig.stats.states[i] != expected[i])
			fail_msg("%llu requests in state %u, not %u",
				 (unsigned long long)rig.stats.states[i], i,
				 expected[i]);
}
