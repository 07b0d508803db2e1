// SPDX-License-Identifier: GPL-2.0-or-later
/* Batched sends: order, vectors, short ones, errors, and letting go. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/check.h"
#include "common/list.h"
#include "nbd-client/tx.h"
#include "tests/fake_ring.h"

#define ITEMS 100u

static struct ring ring;
static struct tx tx;
static struct tx_item items[ITEMS];
static uint8_t payloads[ITEMS][64];
static uint64_t sends;
static uint32_t sent_count; /* items that on_sent got, in order */
static int error_told;

static void on_sent(struct tx *at, struct tx_item *item)
{
	assert_ptr_equal(at, &tx);
	assert_ptr_equal(item, &items[sent_count]);
	/* The caller's again: it may push it at once. */
	assert_true(list_empty(&item->node));
	sent_count++;
}

static void on_error(struct tx *at, int error)
{
	assert_ptr_equal(at, &tx);
	assert_false(at->open);
	error_told = error;
}

static int set_up(void **state)
{
	(void)state;
	fake_ring_reset();
	sends = 0;
	sent_count = 0;
	error_told = 0;
	ring_init(&ring);
	ring_set_file(&ring, RING_LINK, 100);
	tx_init(&tx, &ring, RING_LINK, on_sent, on_error, &sends);
	tx_open(&tx, NULL);
	for (uint32_t i = 0; i < ITEMS; i++) {
		list_init(&items[i].node);
		items[i].header_bytes = 1 + i % 32;
		items[i].payload_bytes = i % 3 ? 1 + i % 64 : 0;
		items[i].payload = payloads[i];
		memset(items[i].header, (int)i, sizeof(items[i].header));
		memset(payloads[i], (int)~i, sizeof(payloads[i]));
	}
	return 0;
}

static void push(uint32_t first, uint32_t count)
{
	for (uint32_t i = first; i < first + count; i++)
		tx_push(&tx, &items[i]);
}

static void round_trip(void)
{
	tx_step(&tx);
	assert_int_equal(ring_wait(&ring, 0), 0);
}

/* All the bytes of the first `count` items, nothing else, have been sent. */
static void expect_sent(uint32_t count)
{
	const uint8_t *from;
	size_t bytes = fake_ring_sent(RING_LINK, &from);
	size_t at = 0;

	assert_int_equal(sent_count, count);
	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t k = 0; k < items[i].header_bytes; k++)
			assert_int_equal(from[at++], (uint8_t)i);
		for (uint32_t k = 0; k < items[i].payload_bytes; k++)
			assert_int_equal(from[at++], (uint8_t)~i);
	}
	assert_int_equal(at, bytes);
}

static void nothing_to_send(void **state)
{
	(void)state;
	round_trip();
	assert_int_equal(sends, 0);
	assert_false(tx_busy(&tx));
}

static void one_message_for_many(void **state)
{
	(void)state;
	push(0, 10);
	tx_step(&tx);
	assert_true(tx_busy(&tx));
	/* No empty vector, so 10 headers and the payloads that there are. */
	assert_int_equal(tx.message.msg_iovlen, 10 + 6);
	tx_step(&tx); /* one at a time in the kernel */
	push(10, 5);
	tx_step(&tx);
	assert_int_equal(sends, 1);
	ring_wait(&ring, 0);
	expect_sent(10);
	round_trip();
	expect_sent(15);
	assert_int_equal(sends, 2);
}

static void batch_limit(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < ITEMS; i++)
		items[i].payload_bytes = 1;
	push(0, ITEMS);
	for (uint32_t done = 0; done < ITEMS;) {
		tx_step(&tx);
		assert_true(tx.message.msg_iovlen <= TX_IOVECS);
		ring_wait(&ring, 0);
		done += TX_BATCH_REQUESTS;
		expect_sent(done < ITEMS ? done : ITEMS);
	}
}

/* At every byte, and the rest in further pieces of that size. */
static void short_sends(void **state)
{
	size_t all = 0;

	for (uint32_t i = 0; i < 7; i++)
		all += items[i].header_bytes + items[i].payload_bytes;
	for (size_t n = 1; n <= all; n++) {
		set_up(state);
		fake_ring.files[RING_LINK].send_max = n;
		push(0, 7);
		for (size_t i = 0; i < (all + n - 1) / n; i++) {
			assert_true(sent_count < 7);
			round_trip();
		}
		expect_sent(7);
		assert_int_equal(sends, (all + n - 1) / n);
	}
}

static void tried_again(void **state)
{
	static const int errors[] = { -EAGAIN, -EINTR };

	(void)state;
	push(0, 3);
	for (int i = 0; i < 2; i++) {
		fake_ring.files[RING_LINK].send_error = errors[i];
		round_trip();
		expect_sent(0);
		assert_true(tx.open);
	}
	round_trip();
	expect_sent(3);
	assert_int_equal(error_told, 0);
}

/* The kernel's TLS refuses one kind of send, and is asked for it only once. */
static void socket_without_waitall(void **state)
{
	(void)state;
	fake_ring.files[RING_LINK].no_waitall = true;
	push(0, 3);
	round_trip();
	expect_sent(0);
	assert_true(tx.open);
	round_trip();
	expect_sent(3);
	for (uint32_t i = 3; i < 6; i++) {
		push(i, 1);
		round_trip();
		expect_sent(i + 1);
	}
	assert_int_equal(sends, 5);
	/* Any other reason for that error is one. */
	fake_ring.files[RING_LINK].send_error = -EOPNOTSUPP;
	push(6, 1);
	round_trip();
	assert_int_equal(error_told, -EOPNOTSUPP);
}

static void error_keeps_the_queue(void **state)
{
	(void)state;
	fake_ring.files[RING_LINK].send_max = items[0].header_bytes +
					      items[1].header_bytes;
	push(0, 5);
	round_trip();
	assert_int_equal(sent_count, 1);
	fake_ring.files[RING_LINK].send_error = -ECONNRESET;
	round_trip();
	assert_int_equal(error_told, -ECONNRESET);
	assert_false(tx.open);
	round_trip();
	assert_int_equal(sends, 2);
	assert_ptr_equal(list_first(&tx.queue), &items[1].node);
	tx_reset(&tx);
	assert_true(list_empty(&tx.queue));
	for (uint32_t i = 1; i < 5; i++)
		assert_true(list_empty(&items[i].node));
	assert_int_equal(sent_count, 1);
	/* A new connection begins with a whole item. */
	ring_set_file(&ring, RING_LINK, -1);
	ring_set_file(&ring, RING_LINK, 101);
	fake_ring.files[RING_LINK].send_max = 0;
	sent_count = 0;
	tx_open(&tx, NULL);
	push(0, 5);
	round_trip();
	expect_sent(5);
}

/* Closed with a send in the kernel: how it ends does not matter any more. */
static void closed_while_busy(void **state)
{
	static const int ends[] = { 0, -EPIPE };

	for (int i = 0; i < 2; i++) {
		set_up(state);
		push(0, 2);
		tx_step(&tx);
		tx_close(&tx);
		fake_ring.files[RING_LINK].send_error = ends[i];
		assert_true(tx_busy(&tx));
		ring_wait(&ring, 0);
		assert_false(tx_busy(&tx));
		assert_int_equal(sent_count, 0);
		assert_int_equal(error_told, 0);
		tx_reset(&tx);
		assert_true(list_empty(&items[0].node));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(nothing_to_send, set_up),
		cmocka_unit_test_setup(one_message_for_many, set_up),
		cmocka_unit_test_setup(batch_limit, set_up),
		cmocka_unit_test_setup(short_sends, set_up),
		cmocka_unit_test_setup(tried_again, set_up),
		cmocka_unit_test_setup(socket_without_waitall, set_up),
		cmocka_unit_test_setup(error_keeps_the_queue, set_up),
		cmocka_unit_test_setup(closed_while_busy, set_up),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	fake_ring_reset();
	return failed;
}
