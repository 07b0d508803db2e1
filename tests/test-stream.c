// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Armed receives: bytes reach the reader once, in order, wherever they were
 * received; buffers go back; a reader that stops is asked again; every end is
 * told once.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "include/bounds.h"
#include "nbd-client/stream.h"
#include "tests/fake_ring.h"

#define BUFFERS 4u
#define BUFFER_BYTES 1024u

static struct ring ring;
static struct rxring rx;
static uint8_t *memory;
static struct stream s;
static uint64_t receives, exhausted;
static bool takes_all;

/* The reader. */
static struct {
	uint8_t got[100000];
	size_t used;
	size_t most;     /* of what is offered, it takes so much; 0: all */
	bool refuses;    /* to take any, till told otherwise */
	bool breaks;     /* says that the peer broke the protocol */
	bool closes;     /* the stream, after it has read */
	uint8_t *place;  /* for the next placed_left bytes */
	size_t placed_left;
	size_t head;     /* without a place: this at most */
	uint32_t calls, ends;
	int end;
} reader;

static ssize_t on_bytes(struct stream *at, const uint8_t *from, size_t bytes)
{
	assert_ptr_equal(at, &s);
	assert_true(bytes > 0);
	reader.calls++;
	if (reader.breaks)
		return -1;
	if (reader.refuses)
		return 0;
	if (reader.most && bytes > reader.most)
		bytes = reader.most;
	if (reader.closes) {
		stream_close(at);
		/* The buffer is still ours: see below. */
		assert_int_equal(fake_ring_buffers(), BUFFERS - 1);
	}
	memcpy(reader.got + reader.used, from, bytes);
	reader.used += bytes;
	return (ssize_t)bytes;
}

static size_t place(struct stream *at, uint8_t **ret_to)
{
	assert_ptr_equal(at, &s);
	if (!reader.placed_left)
		return reader.head;
	*ret_to = reader.place;
	return reader.placed_left;
}

static void on_placed(struct stream *at, size_t bytes)
{
	assert_ptr_equal(at, &s);
	assert_true(bytes <= reader.placed_left);
	memcpy(reader.got + reader.used, reader.place, bytes);
	reader.used += bytes;
	reader.place += bytes;
	reader.placed_left -= bytes;
}

static void on_end(struct stream *at, int error)
{
	assert_ptr_equal(at, &s);
	assert_false(at->open);
	reader.ends++;
	reader.end = error;
}

static const struct stream_ops ops = {
	.on_bytes = on_bytes, .place = place, .on_placed = on_placed,
	.on_end = on_end,
};

static int set_up(void **state)
{
	(void)state;
	fake_ring_reset();
	memset(&reader, 0, sizeof(reader));
	receives = 0;
	exhausted = 0;
	free(memory);
	memory = malloc(BUFFERS * BUFFER_BYTES);
	ring_init(&ring);
	rxring_open(&rx, &ring, 0, BUFFERS, BUFFER_BYTES, memory);
	ring_set_file(&ring, RING_LINK, 100);
	stream_init(&s, &ops, &ring, &rx, RING_LINK, takes_all, &receives,
		    &exhausted);
	stream_open(&s);
	return 0;
}

static uint8_t byte(size_t at)
{
	return (uint8_t)(at * 11 + (at >> 8));
}

static void feed(size_t from, size_t n)
{
	uint8_t bytes[8192];

	assert_true(n <= sizeof(bytes));
	for (size_t i = 0; i < n; i++)
		bytes[i] = byte(from + i);
	fake_ring_feed(RING_LINK, bytes, n);
}

static void rounds(uint32_t count)
{
	while (count--) {
		ring_wait(&ring, 0);
		stream_step(&s);
	}
}

static void expect(size_t bytes)
{
	assert_int_equal(reader.used, bytes);
	for (size_t i = 0; i < bytes; i++)
		if (reader.got[i] != byte(i))
			fail_msg("wrong byte at %zu", i);
}

static void bytes_in_order(void **state)
{
	(void)state;
	assert_true(stream_busy(&s));
	for (size_t at = 0; at < 8000; at += 800) {
		feed(at, 800);
		rounds(1);
		expect(at + 800);
	}
	feed(8000, 3000); /* more than a buffer */
	rounds(3);
	expect(11000);
	assert_int_equal(fake_ring_buffers(), BUFFERS);
	assert_int_equal(receives, 14); /* the last one waits */
	assert_int_equal(reader.ends, 0);
}

/* A reader that takes little at a time; nothing new is received meanwhile. */
static void reader_stops(void **state)
{
	(void)state;
	reader.most = 100;
	feed(0, 350);
	feed(350, 1000);
	rounds(1);
	/* as received, and once more by stream_step() */
	expect(200);
	assert_false(stream_busy(&s));
	assert_int_equal(fake_ring_buffers(), BUFFERS - 1);
	reader.refuses = true;
	rounds(5);
	expect(200);
	assert_int_equal(receives, 1);
	reader.refuses = false;
	rounds(30);
	expect(1350);
	assert_int_equal(fake_ring_buffers(), BUFFERS);
	assert_true(stream_busy(&s));
}

/* Long payloads go straight to their place, short ones are copied. */
static void straight_to_the_place(void **state)
{
	static uint8_t slot[RX_DIRECT_BYTES_MIN + 1];

	for (size_t n = RX_DIRECT_BYTES_MIN - 1; n <= sizeof(slot); n++) {
		set_up(state);
		reader.place = slot;
		reader.placed_left = n;
		feed(0, 1);
		rounds(1); /* received as armed before: by a buffer */
		expect(1);
		assert_int_equal(s.placed, n >= RX_DIRECT_BYTES_MIN);
		if (n < RX_DIRECT_BYTES_MIN)
			continue;
		for (size_t at = 1; at < 1 + n;) {
			size_t part = 1 + n - at < 8192 ? 1 + n - at : 8192;

			feed(at, part);
			at += part;
		}
		feed(1 + n, 10);
		rounds(1);
		assert_int_equal(reader.placed_left, 0);
		expect(1 + n);
		rounds(1);
		expect(1 + n + 10);
	}
}

/* Less than a buffer is received when what follows has a place. */
static void no_more_than_the_head(void **state)
{
	(void)state;
	reader.head = 28;
	feed(0, 10);
	rounds(1); /* armed before */
	expect(10);
	feed(10, 100);
	rounds(1);
	expect(10 + 28);
	rounds(1);
	expect(10 + 28 + 28);
	reader.head = 0;
	rounds(1);
	expect(10 + 28 + 28 + 28);
	rounds(1);
	expect(110);
	assert_int_equal(fake_ring_buffers(), BUFFERS);
}

/* A receive in place may end early; it goes on where it stopped. */
static void short_in_place(void **state)
{
	static uint8_t slot[3 * RX_DIRECT_BYTES_MIN];

	(void)state;
	reader.place = slot;
	reader.placed_left = sizeof(slot);
	feed(0, 1);
	rounds(1);
	fake_ring.files[RING_LINK].receive_max = 5000;
	for (size_t at = 1; at < 1 + sizeof(slot); at += 8192)
		feed(at, 8192);
	rounds(60);
	expect(1 + sizeof(slot));
	assert_int_equal(fake_ring_buffers(), BUFFERS);
}

static void armed_again(void **state)
{
	static const int errors[] = { -ENOBUFS, -EINTR, -EAGAIN };

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		fake_ring.files[RING_LINK].receive_error = errors[i];
		rounds(1);
		assert_true(stream_busy(&s));
		feed(i * 10, 10);
		rounds(1);
		expect(10 * i + 10);
	}
	assert_int_equal(exhausted, 1);
	assert_int_equal(reader.ends, 0);
}

static void no_buffer_left(void **state)
{
	(void)state;
	fake_ring_steal_buffers(BUFFERS);
	feed(0, 100);
	rounds(4);
	expect(0);
	assert_int_equal(exhausted, 4);
	fake_ring_return_buffers();
	rounds(1);
	expect(100);
}

static void ends(void **state)
{
	static const int errors[] = { 0, -ECONNRESET };

	for (int i = 0; i < 4; i++) {
		set_up(state);
		feed(0, 10);
		fake_ring.files[RING_LINK].ended = true;
		fake_ring.files[RING_LINK].end_error = errors[i % 2];
		fake_ring.files[RING_LINK].end_takes_buffer = i >= 2;
		rounds(5);
		expect(10);
		assert_int_equal(reader.ends, 1);
		assert_int_equal(reader.end, errors[i % 2]);
		assert_false(stream_busy(&s));
		assert_int_equal(fake_ring_buffers(), BUFFERS);
	}
}

static void end_in_place(void **state)
{
	static uint8_t slot[RX_DIRECT_BYTES_MIN];

	(void)state;
	reader.place = slot;
	reader.placed_left = sizeof(slot);
	feed(0, 1);
	rounds(1);
	assert_true(s.placed);
	feed(1, 100);
	fake_ring.files[RING_LINK].ended = true;
	rounds(3);
	expect(101);
	assert_int_equal(reader.ends, 1);
}

static void broken_protocol(void **state)
{
	(void)state;
	reader.breaks = true;
	feed(0, 2000);
	rounds(3);
	assert_int_equal(reader.calls, 1);
	assert_int_equal(reader.ends, 1);
	assert_int_equal(reader.end, -EPROTO);
	assert_false(stream_busy(&s));
	assert_int_equal(fake_ring_buffers(), BUFFERS);
	/* Likewise from what was held. */
	set_up(state);
	reader.refuses = true;
	feed(0, 10);
	rounds(2);
	reader.breaks = true;
	rounds(2);
	assert_int_equal(reader.ends, 1);
	assert_int_equal(fake_ring_buffers(), BUFFERS);
}

static void closed_while_armed(void **state)
{
	for (int late_bytes = 0; late_bytes < 3; late_bytes++) {
		set_up(state);
		stream_close(&s);
		assert_true(stream_busy(&s));
		if (late_bytes == 1)
			feed(0, 10);
		if (late_bytes == 2)
			fake_ring.files[RING_LINK].end_takes_buffer = true;
		fake_ring.files[RING_LINK].ended = true;
		rounds(3);
		assert_false(stream_busy(&s));
		assert_int_equal(reader.calls, 0);
		assert_int_equal(reader.ends, 0);
		assert_int_equal(fake_ring_buffers(), BUFFERS);
		assert_int_equal(receives, 1);
	}
}

static void closed_while_held(void **state)
{
	(void)state;
	reader.refuses = true;
	feed(0, 10);
	rounds(2);
	assert_int_equal(fake_ring_buffers(), BUFFERS - 1);
	stream_close(&s);
	assert_int_equal(fake_ring_buffers(), BUFFERS);
	rounds(2);
	assert_int_equal(reader.ends, 0);
	/* And open again, for the next connection. */
	reader.refuses = false;
	stream_open(&s);
	feed(0, 10);
	rounds(1);
	expect(10);
}

/*
 * The reader closes the stream from within: the buffer that it reads in may go
 * back only after that, for the other stream could get it.
 */
static void closed_by_the_reader(void **state)
{
	for (int partly = 0; partly < 2; partly++) {
		set_up(state);
		reader.closes = true;
		reader.most = partly ? 4 : 0;
		feed(0, 10);
		rounds(2);
		expect(partly ? 4 : 10);
		assert_int_equal(reader.calls, 1);
		assert_false(stream_busy(&s));
		assert_int_equal(fake_ring_buffers(), BUFFERS);
		assert_int_equal(reader.ends, 0);
	}
}

/* ---- a reader that takes all ---- */

/* Armed once; more at once than there are buffers, too. */
static void many_in_order(void **state)
{
	(void)state;
	for (size_t at = 0; at < 8000; at += 100) {
		feed(at, 100);
		rounds(1);
		expect(at + 100);
	}
	assert_int_equal(receives, 81);
	assert_int_equal(fake_ring.files[RING_LINK].receives, 80);
	feed(8000, 6 * BUFFER_BYTES);
	rounds(3);
	expect(8000 + 6 * BUFFER_BYTES);
	assert_int_equal(exhausted, 0);
	assert_int_equal(fake_ring_buffers(), BUFFERS);
	assert_true(s.many);
}

/* It goes to its place as soon as the many have ended; later they come back. */
static void large_among_many(void **state)
{
	static uint8_t slot[2 * RX_DIRECT_BYTES_MIN];
	size_t at = 10;

	(void)state;
	feed(0, 10);
	reader.place = slot;
	reader.placed_left = sizeof(slot);
	rounds(1);
	assert_true(s.many && stream_busy(&s));
	rounds(1);
	assert_true(s.placed && !s.many);
	for (; at < 10 + sizeof(slot); at += 8192)
		feed(at, 8192);
	rounds(1);
	assert_int_equal(reader.placed_left, 0);
	for (uint32_t i = 0; i < RX_SMALL_BEFORE_MANY; i++) {
		assert_false(s.many);
		feed(at++, 1);
		rounds(1);
	}
	assert_true(s.many);
	expect(at);
	assert_int_equal(fake_ring_buffers(), BUFFERS);
}

static void closed_while_cancelled(void **state)
{
	(void)state;
	feed(0, 10);
	reader.head = 28;
	rounds(1);
	expect(10);
	stream_close(&s);
	feed(10, 10);
	fake_ring_shutdown(RING_LINK);
	rounds(1);
	assert_false(stream_busy(&s));
	assert_int_equal(reader.ends, 0);
	assert_int_equal(fake_ring_buffers(), BUFFERS);
	reader.head = 0;
	ring_set_file(&ring, RING_LINK, -1);
	ring_set_file(&ring, RING_LINK, 101);
	stream_open(&s);
	assert_true(s.many);
	feed(10, 10);
	rounds(1);
	expect(20);
}

/* What the kernel has received meanwhile goes back unread. */
static void broken_by_many(void **state)
{
	(void)state;
	reader.breaks = true;
	feed(0, 3 * BUFFER_BYTES);
	rounds(1);
	assert_int_equal(reader.calls, 1);
	assert_int_equal(reader.ends, 1);
	assert_int_equal(reader.end, -EPROTO);
	assert_int_equal(fake_ring_buffers(), BUFFERS);
	assert_true(stream_busy(&s));
	fake_ring_shutdown(RING_LINK);
	rounds(1);
	assert_false(stream_busy(&s));
}

int main(void)
{
	const struct CMUnitTest many_tests[] = {
		cmocka_unit_test_setup(many_in_order, set_up),
		cmocka_unit_test_setup(large_among_many, set_up),
		cmocka_unit_test_setup(closed_while_cancelled, set_up),
		cmocka_unit_test_setup(armed_again, set_up),
		cmocka_unit_test_setup(no_buffer_left, set_up),
		cmocka_unit_test_setup(ends, set_up),
		cmocka_unit_test_setup(broken_by_many, set_up),
		cmocka_unit_test_setup(closed_while_armed, set_up),
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(bytes_in_order, set_up),
		cmocka_unit_test_setup(reader_stops, set_up),
		cmocka_unit_test_setup(straight_to_the_place, set_up),
		cmocka_unit_test_setup(no_more_than_the_head, set_up),
		cmocka_unit_test_setup(short_in_place, set_up),
		cmocka_unit_test_setup(armed_again, set_up),
		cmocka_unit_test_setup(no_buffer_left, set_up),
		cmocka_unit_test_setup(ends, set_up),
		cmocka_unit_test_setup(end_in_place, set_up),
		cmocka_unit_test_setup(broken_protocol, set_up),
		cmocka_unit_test_setup(closed_while_armed, set_up),
		cmocka_unit_test_setup(closed_while_held, set_up),
		cmocka_unit_test_setup(closed_by_the_reader, set_up),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	takes_all = true;
	failed += cmocka_run_group_tests(many_tests, NULL, NULL);
	fake_ring_reset();
	free(memory);
	return failed;
}
