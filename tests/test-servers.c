// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Integration: engine and nbd front against the servers that people run. Random
 * requests of all kinds, many in flight, compared with a copy in memory. A
 * server that is not installed is skipped, visibly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/clock.h"
#include "common/guard.h"
#include "nbd-client/tls_memory.h"
#include "tests/kernel_end.h"
#include "tests/real_server.h"
#include "tests/test_certs.h"

#define DISK_BYTES (8u * MIB)
#define SLOT_BYTES (64u * KIB)
#define DEPTH 16u
#define REQUESTS 6000u

/*
 * One thread both sends and receives here, so no more may be in flight than the
 * socketpair can hold; the kernel has a receiver of its own.
 */
#define IN_FLIGHT_BYTES (128u * KIB)

struct pending {
	bool used;
	uint16_t command;
	uint64_t offset;
	uint32_t length;
};

struct run {
	struct kernel_end k;
	uint8_t *copy; /* what the disk must hold */
	uint8_t *scratch;
	struct pending pending[DEPTH];
	uint32_t in_flight;
	uint32_t in_flight_bytes;
	uint64_t done;
};

/* Overlapping requests in flight have no defined outcome: avoid them. */
static bool overlaps(const struct run *r, uint64_t offset, uint32_t length)
{
	for (uint32_t i = 0; i < DEPTH; i++) {
		const struct pending *p = &r->pending[i];

		if (p->used && offset < p->offset + p->length &&
		    p->offset < offset + length)
			return true;
	}
	return false;
}

static uint16_t pick_command(const struct run *r)
{
	uint16_t flags = r->k.conn.export.flags;
	uint32_t dice = (uint32_t)random() % 100;

	if (dice < 45)
		return NBD_CMD_READ;
	if (dice < 90)
		return NBD_CMD_WRITE;
	if (dice < 93 && flags & NBD_FLAG_SEND_FLUSH)
		return NBD_CMD_FLUSH;
	if (dice < 97 && flags & NBD_FLAG_SEND_WRITE_ZEROES)
		return NBD_CMD_WRITE_ZEROES;
	return NBD_CMD_READ;
}

static void start(struct run *r, uint32_t at)
{
	struct pending *p = &r->pending[at];
	uint16_t flags = 0;

	p->command = pick_command(r);
	do {
		p->length = 512u * (1 + (uint32_t)random() %
						 (SLOT_BYTES / 512));
		if (random() % 2)
			p->length = 4096;
		p->offset = 512ull * ((uint64_t)random() %
				      ((DISK_BYTES - p->length) / 512));
	} while (overlaps(r, p->offset, p->length));
	if (p->command == NBD_CMD_FLUSH) {
		p->offset = 0;
		p->length = 0;
	}
	if (p->command == NBD_CMD_WRITE) {
		for (uint32_t i = 0; i < p->length; i++)
			r->copy[p->offset + i] = (uint8_t)random();
		if (r->k.conn.export.flags & NBD_FLAG_SEND_FUA && random() % 8 == 0)
			flags = NBD_CMD_FLAG_FUA;
	}
	if (p->command == NBD_CMD_WRITE_ZEROES)
		memset(r->copy + p->offset, 0, p->length);
	p->used = true;
	r->in_flight++;
	r->in_flight_bytes += p->length;
	kernel_end_send(&r->k, p->command, flags, 0x1234567800000000ull + at,
			p->offset, p->length, r->copy + p->offset);
}

static void finish_one(struct run *r)
{
	uint64_t cookie;
	uint32_t error = kernel_end_reply(&r->k, &cookie);
	uint32_t at = (uint32_t)cookie;
	struct pending *p = &r->pending[at];

	assert_int_equal(cookie >> 32, 0x12345678);
	assert_true(at < DEPTH && p->used);
	assert_int_equal(error, 0);
	if (p->command == NBD_CMD_READ) {
		kernel_end_payload(&r->k, r->scratch, p->length);
		assert_memory_equal(r->scratch, r->copy + p->offset, p->length);
	}
	p->used = false;
	r->in_flight--;
	r->in_flight_bytes -= p->length;
	r->done++;
}

static void check_whole_disk(struct run *r)
{
	for (uint64_t at = 0; at < DISK_BYTES; at += SLOT_BYTES) {
		uint64_t cookie;

		kernel_end_send(&r->k, NBD_CMD_READ, 0, 1, at, SLOT_BYTES, NULL);
		assert_int_equal(kernel_end_reply(&r->k, &cookie), 0);
		kernel_end_payload(&r->k, r->scratch, SLOT_BYTES);
		assert_memory_equal(r->scratch, r->copy + at, SLOT_BYTES);
	}
}

static void serve_random_tls(const struct real_server_kind *kind,
			     const struct tls_options *tls)
{
	struct real_server server;
	struct run *r = calloc(1, sizeof(*r));
	struct err err = { 0 };

	if (!real_server_start(&server, kind, DISK_BYTES)) {
		free(r);
		skip();
	}
	srandom(1);
	r->copy = calloc(1, DISK_BYTES);
	r->scratch = malloc(SLOT_BYTES);
	if (kernel_end_open_tls(&r->k, server.uri, tls, DEPTH - 4, SLOT_BYTES,
				&err) < 0)
		fail_msg("%s", err.text);
	if (tls)
		print_message("%s, %s, %s\n", r->k.conn.peer.version,
			      r->k.conn.peer.cipher, r->k.conn.peer.subject);
	assert_int_equal(r->k.conn.records,
			 tls ? STATS_RECORDS_USER : STATS_RECORDS_NONE);
	assert_int_equal(r->k.conn.export.size_bytes, DISK_BYTES);
	while (r->done < REQUESTS) {
		for (uint32_t i = 0; i < DEPTH; i++)
			if (!r->pending[i].used &&
			    r->in_flight_bytes + SLOT_BYTES <=
				    IN_FLIGHT_BYTES)
				start(r, i);
		finish_one(r);
	}
	while (r->in_flight)
		finish_one(r);
	check_whole_disk(r);
	assert_true(kernel_end_close(&r->k));
	if (guard_available())
		assert_int_equal(r->k.stats.stray_mallocs, 0);
	assert_int_equal(r->k.stats.states[REQUEST_FREE], DEPTH - 4);
	real_server_stop(&server);
	free(r->copy);
	free(r->scratch);
	free(r);
}

static void serve_random(const struct real_server_kind *kind)
{
	serve_random_tls(kind, NULL);
}

/*
 * More requests than slots: the next ones are taken as soon as answers have
 * left, not at the next heartbeat, which would be a wait for each slot.
 */
static void serve_with_few_slots(const struct real_server_kind *kind)
{
	const uint32_t requests = 256, bytes = 512;
	struct kernel_end k = { 0 };
	struct real_server server;
	uint8_t got[512];
	uint64_t cookie, start_ns;
	struct err err = { 0 };

	if (!real_server_start(&server, kind, DISK_BYTES))
		skip();
	if (kernel_end_open(&k, server.uri, SLOTS_MIN, SLOT_BYTES, &err) < 0)
		fail_msg("%s", err.text);
	start_ns = clock_now_ns();
	for (uint32_t i = 0; i < requests; i++)
		kernel_end_send(&k, NBD_CMD_READ, 0, i, i * bytes, bytes, NULL);
	for (uint32_t i = 0; i < requests; i++) {
		assert_int_equal(kernel_end_reply(&k, &cookie), 0);
		kernel_end_payload(&k, got, bytes);
	}
	assert_true(clock_now_ns() - start_ns <
		    requests / SLOTS_MIN / 4 * HEARTBEAT_MS * NS_PER_MS);
	assert_true(kernel_end_close(&k));
	real_server_stop(&server);
}

/* What OpenSSL took lies in its arena, and a data thread took nothing. */
static void check_memory(void)
{
	const struct arena *a = tls_memory_arena();

	assert_non_null(a);
	print_message("OpenSSL's memory: %zu KiB used, %zu KiB peak\n",
		      a->used_bytes / 1024, a->peak_bytes / 1024);
	assert_int_equal(a->denied, 0);
	assert_int_equal(a->strays, 0);
	assert_true(a->peak_bytes < a->bytes / 2);
}

static void serve_x509(const struct real_server_kind *kind)
{
	struct tls_options tls = { .hostname = "localhost" };

	tls.ca = test_certs("ca-cert.pem");
	tls.cert = test_certs("client-cert.pem"); /* qemu-nbd wants it */
	tls.key = test_certs("client-key.pem");
	serve_random_tls(kind, &tls);
	check_memory();
}

static void serve_psk(const struct real_server_kind *kind)
{
	struct tls_options tls = { .user = "alice" };

	tls.psk_file = test_certs("psk/keys.psk");
	serve_random_tls(kind, &tls);
	check_memory();
}

#define TLS_TEST(name, serve)                                                  \
	static void test_##name(void **state)                                  \
	{                                                                      \
		(void)state;                                                   \
		serve(&real_server_##name);                                    \
	}
TLS_TEST(nbdkit_x509, serve_x509)
TLS_TEST(nbdkit_psk, serve_psk)
TLS_TEST(qemu_nbd_x509, serve_x509)
TLS_TEST(qemu_nbd_psk, serve_psk)
TLS_TEST(qemu_nbd_tls12, serve_x509)
TLS_TEST(qemu_nbd_tls12_chacha, serve_x509)
TLS_TEST(nbd_server_x509, serve_x509)

static void few_slots(void **state)
{
	(void)state;
	serve_with_few_slots(&real_server_nbdkit);
}

static void test_nbdkit(void **state)
{
	(void)state;
	serve_random(&real_server_nbdkit);
}

static void test_nbdkit_simple(void **state)
{
	(void)state;
	serve_random(&real_server_nbdkit_simple);
}

static void test_qemu_nbd(void **state)
{
	(void)state;
	serve_random(&real_server_qemu_nbd);
}

static void test_nbd_server(void **state)
{
	(void)state;
	serve_random(&real_server_nbd_server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nbdkit),
		cmocka_unit_test(few_slots),
		cmocka_unit_test(test_nbdkit_simple),
		cmocka_unit_test(test_qemu_nbd),
		cmocka_unit_test(test_nbd_server),
		cmocka_unit_test(test_nbdkit_x509),
		cmocka_unit_test(test_nbdkit_psk),
		cmocka_unit_test(test_qemu_nbd_x509),
		cmocka_unit_test(test_qemu_nbd_psk),
		cmocka_unit_test(test_qemu_nbd_tls12),
		cmocka_unit_test(test_qemu_nbd_tls12_chacha),
		cmocka_unit_test(test_nbd_server_x509),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
