// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The record layer against itself: every cipher and version, cut at every byte,
 * changed in every byte; and tx on top of it, with short sends. That it is TLS
 * what it speaks show the tests against real servers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "nbd-client/records.h"
#include "nbd-client/tx.h"
#include "tests/fake_ring.h"

#define LONG_BYTES 300000u

static struct tls_half seal, half;
static struct tls_open opened;
static struct records records;
static uint8_t text[LONG_BYTES], sealed[LONG_BYTES + 4096], got[LONG_BYTES];

static void start(bool tls13, enum tls_cipher cipher)
{
	struct tls_keys keys = { .tls13 = tls13, .cipher = cipher };

	for (size_t i = 0; i < sizeof(keys.key); i++)
		keys.key[i] = (uint8_t)(i * 7 + cipher);
	for (size_t i = 0; i < sizeof(keys.iv); i++)
		keys.iv[i] = (uint8_t)(i * 11 + tls13);
	keys.sequence = 0xfffffffful; /* carries into the next word */
	assert_int_equal(tls_half_init(&seal, &keys, true), 0);
	assert_int_equal(tls_half_init(&half, &keys, false), 0);
	tls_open_start(&opened, &half);
}

static int set_up(void **state)
{
	(void)state;
	srandom(3);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)random();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	tls_half_fini(&seal);
	tls_half_fini(&half);
	return 0;
}

static size_t seal_one(size_t bytes, size_t parts)
{
	struct iovec iov[8];
	size_t at = 0;
	ssize_t n;

	for (size_t i = 0; i < parts; i++) {
		size_t some = i + 1 < parts ? (bytes - at) / 3 : bytes - at;

		iov[i] = (struct iovec){ text + at, some };
		at += some;
	}
	n = tls_seal(&seal, iov, parts, sealed);
	assert_true(n > 0 && (size_t)n <= bytes + TLS_OVERHEAD_MAX);
	return (size_t)n;
}

/* Gives `bytes` of sealed in steps; returns how much plain text came of it. */
static size_t open_in_steps(size_t bytes, size_t step)
{
	size_t sum = 0;

	for (size_t at = 0; at < bytes; ) {
		size_t some = step < bytes - at ? step : bytes - at, plain;
		ssize_t n = tls_open_take(&opened, sealed + at, some, &plain);

		if (n < 0)
			fail_msg("at %zu: %s", at, opened.failure);
		assert_true(n > 0 && (size_t)n <= some);
		memcpy(got + sum, opened.plain, plain);
		sum += plain;
		at += (size_t)n;
	}
	return sum;
}

static const struct {
	bool tls13;
	enum tls_cipher cipher;
} kinds[] = {
	{ true, TLS_AES_128_GCM },	 { true, TLS_AES_256_GCM },
	{ true, TLS_CHACHA20_POLY1305 }, { false, TLS_AES_128_GCM },
	{ false, TLS_AES_256_GCM },	 { false, TLS_CHACHA20_POLY1305 },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void there_and_back(void **state)
{
	static const size_t sizes[] = { 1, 2, 15, 16, 17, 28, 4124, 16383,
					TLS_CONTENT_MAX };

	(void)state;
	for (size_t k = 0; k < KINDS; k++) {
		start(kinds[k].tls13, kinds[k].cipher);
		for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
			for (size_t parts = 1; parts <= 3; parts++) {
				size_t n = seal_one(sizes[i], parts);

				assert_int_equal(open_in_steps(n, 1 + i * 700),
						 sizes[i]);
				assert_memory_equal(got, text, sizes[i]);
			}
	}
}

static void cut_at_every_byte(void **state)
{
	(void)state;
	for (size_t k = 0; k < KINDS; k++)
		for (size_t step = 1; step < 80; step++) {
			size_t n;

			start(kinds[k].tls13, kinds[k].cipher);
			n = seal_one(50, 2);
			assert_int_equal(open_in_steps(n, step), 50);
			assert_memory_equal(got, text, 50);
		}
}

/* One bit changed anywhere: nothing of it comes out, then or later. */
static void changed_in_every_byte(void **state)
{
	(void)state;
	for (size_t k = 0; k < KINDS; k++)
		for (size_t at = 0, n = 1; at < n; at++) {
			size_t plain = 0, taken = 0;
			ssize_t r = 0;

			start(kinds[k].tls13, kinds[k].cipher);
			n = seal_one(40, 1);
			sealed[at] ^= 0x10;
			while (taken < n && r >= 0) {
				r = tls_open_take(&opened, sealed + taken,
						  n - taken, &plain);
				assert_int_equal(plain, 0);
				taken += r < 0 ? 0 : (size_t)r;
			}
			/* a length that grew waits for more instead */
			if (r >= 0)
				assert_true(at == 3 || at == 4);
			else
				assert_non_null(opened.failure);
			if (r < 0)
				assert_int_equal(tls_open_take(&opened, sealed,
							       n, &plain),
						 -1);
		}
}

static void replayed_or_reordered(void **state)
{
	size_t n, plain;

	(void)state;
	for (size_t k = 0; k < KINDS; k++) {
		start(kinds[k].tls13, kinds[k].cipher);
		n = seal_one(40, 1);
		assert_int_equal(open_in_steps(n, n), 40);
		assert_int_equal(tls_open_take(&opened, sealed, n, &plain), -1);
		start(kinds[k].tls13, kinds[k].cipher);
		seal_one(40, 1);
		n = seal_one(40, 1); /* the second one comes first */
		assert_int_equal(tls_open_take(&opened, sealed, n, &plain), -1);
	}
}

/* ---- tx on top of it ---- */

static struct ring ring;
static struct tx tx;
static uint64_t sends;
static uint32_t sent_count;
static struct tx_item items[12];

static void on_sent(struct tx *t, struct tx_item *item)
{
	(void)t;
	assert_ptr_equal(item, &items[sent_count]);
	sent_count++;
}

static void on_error(struct tx *t, int error)
{
	(void)t;
	fail_msg("error %d", error);
}

/* What the peer has got so far, opened, must be the first bytes of text. */
static size_t open_sent(size_t opened_before)
{
	const uint8_t *from;
	size_t bytes = fake_ring_sent(RING_LINK, &from), at = 0, plain;
	size_t sum = opened_before;

	while (at < bytes) {
		ssize_t n = tls_open_take(&opened, from + at, bytes - at,
					  &plain);

		if (n < 0)
			fail_msg("%s", opened.failure);
		at += (size_t)n;
		assert_memory_equal(opened.plain, text + sum, plain);
		sum += plain;
	}
	fake_ring_take(RING_LINK, bytes);
	return sum;
}

/*
 * Items of all sizes, header and payload in one run of text, through a kernel
 * that takes as little as it likes. An item is not reported as sent before the
 * peer could read all of it.
 */
static void tx_seals(size_t send_max)
{
	size_t at = 0, end[12], sum = 0;
	uint32_t waits = 0;

	fake_ring_reset();
	fake_ring.files[RING_LINK].send_max = send_max;
	ring_init(&ring);
	ring_set_file(&ring, RING_LINK, 100);
	start(true, TLS_AES_128_GCM);
	records_start(&records, &seal, &half);
	tx_init(&tx, &ring, RING_LINK, on_sent, on_error, &sends);
	tx_open(&tx, &records);
	sent_count = 0;
	for (uint32_t i = 0; i < 12; i++) {
		list_init(&items[i].node);
		items[i].header_bytes = 28;
		memcpy(items[i].header, text + at, 28);
		items[i].payload = text + at + 28;
		items[i].payload_bytes = i % 3 ? (i * 131u * i) % 40000u : 0;
		if (i == 7)
			items[i].payload_bytes = 128 * 1024;
		at += 28u + items[i].payload_bytes;
		end[i] = at;
		tx_push(&tx, &items[i]);
	}
	assert_true(at > RECORDS_OUT_BYTES && at < sizeof(text));
	while (sent_count < 12) {
		assert_true(++waits < 100000);
		tx_step(&tx);
		assert_int_equal(ring_wait(&ring, 0), 0);
		sum = open_sent(sum);
		if (sent_count)
			assert_true(end[sent_count - 1] <= sum);
	}
	assert_int_equal(sum, at);
	assert_true(records_empty(&records));
	tx_close(&tx);
	tx_reset(&tx);
}

static void tx_seals_whole_and_short(void **state)
{
	(void)state;
	tx_seals(0);
	tx_seals(1000);
	tx_seals(16390);
	tx_seals(7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(there_and_back, tear_down),
		cmocka_unit_test_teardown(cut_at_every_byte, tear_down),
		cmocka_unit_test_teardown(changed_in_every_byte, tear_down),
		cmocka_unit_test_teardown(replayed_or_reordered, tear_down),
		cmocka_unit_test_teardown(tx_seals_whole_and_short, tear_down),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
