// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * TLS against a server that misbehaves: each way of it ends with an error that
 * says what is wrong, in bounded time, and leaves no memory taken.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/conn.h"
#include "nbd-client/tls_memory.h"
#include "tests/script_server.h"
#include "tests/test_certs.h"

/*
 * For a step of the handshake: what suffices on a busy machine, or in a guest; and
 * where it is waited for to the end, which must not take much longer.
 */
#define STEP_MS 30000u
#define STEP_SLOW_MS 4000u

static struct conn conn; /* large */
static struct records records;
static struct script_server server;
static struct tls tls;
static struct addr addr;
static struct err err;

struct attempt {
	const char *behaviour;
	const char *cert; /* the server's; NULL: a good one */
	const char *ca;	  /* ours; NULL: the one that signed; "": none */
	const char *client_cert;
	const char *psk_file;
	const char *user;
	const char *hostname; /* NULL: 127.0.0.1, as the URI says */
	const char *mode;
	bool server_wants_cert;
	bool no_cert; /* the server has none */
	int exit_code; /* EXIT_OK: it works */
	const char *says; /* part of the message */
	uint32_t step_ms; /* 0: STEP_MS */
};

static uint32_t step_ms(const struct attempt *a)
{
	return a->step_ms ? a->step_ms : STEP_MS;
}

static void start(const struct attempt *a)
{
	char arguments[256], uri[64];
	int n = 0;

	if (!a->no_cert)
		n = snprintf(arguments, sizeof(arguments), "-C %s -K %s ",
			     test_certs(a->cert ? a->cert :
						  "server/server-cert.pem"),
			     test_certs("server/server-key.pem"));
	if (a->server_wants_cert)
		n += snprintf(arguments + n, sizeof(arguments) - (size_t)n,
			      "-A %s ", test_certs("ca-cert.pem"));
	snprintf(arguments + n, sizeof(arguments) - (size_t)n, "%s",
		 a->behaviour);
	script_server_start(&server, arguments);
	snprintf(uri, sizeof(uri), "%s://127.0.0.1:%u/",
		 a->mode ? "nbd" : "nbds", server.port);
	assert_int_equal(addr_parse(&addr, uri, &err), 0);
}

/* Records of ours, even where the kernel has its own. */
static bool with_kernel;

static int connect_to(const struct attempt *a)
{
	const struct socket_memory memory = { 0 };
	struct tls_options options = { .mode = a->mode, .user = a->user,
				       .hostname = a->hostname };

	if (a->psk_file)
		options.psk_file = test_certs(a->psk_file);
	else if (!a->ca || *a->ca)
		options.ca = test_certs(a->ca ? a->ca : "ca-cert.pem");
	if (a->client_cert) {
		options.cert = test_certs(a->client_cert);
		options.key = test_certs("client-key.pem");
	}
	err_clear(&err);
	if (tls_open(&tls, &options, &addr, &err) < 0)
		fail_msg("%s", err.text);
	memset(&conn, 0, sizeof(conn));
	assert_int_equal(conn_init(&conn, &addr, &memory, step_ms(a), &err), 0);
	if (with_kernel)
		conn.fence_ms = STEP_MS;
	conn_set_tls(&conn, &tls);
	conn.no_ktls = with_kernel ? NULL : "as asked for";
	return conn_open(&conn, &err);
}

static void disconnect(void)
{
	conn_fini(&conn);
	tls_close(&tls);
	script_server_stop(&server);
}

static size_t used(void)
{
	return tls_memory_arena()->used_bytes;
}

static void check(const struct attempt *a)
{
	size_t before = used();
	uint64_t start_ns;
	int ret;

	start(a);
	start_ns = clock_now_ns();
	ret = connect_to(a);
	if (a->exit_code == EXIT_OK && ret < 0)
		fail_msg("%s: %s", a->behaviour, err.text);
	if (a->exit_code != EXIT_OK && ret == 0)
		fail_msg("%s: is accepted", a->behaviour);
	if (a->exit_code != err.exit_code ||
	    (a->says && !strstr(err.text, a->says)))
		fail_msg("%s: exit code %d, \"%s\"", a->behaviour,
			 err.exit_code, err.text);
	/* the greeting, STARTTLS, TLS, or an option: a step each */
	assert_true(clock_now_ns() - start_ns <
		    2ull * step_ms(a) * NS_PER_MS + NS_PER_S);
	disconnect();
	/* Rows of caches that OpenSSL keeps for itself may come, but few. */
	if (used() > before + 16384)
		fail_msg("%s: %zu bytes are left", a->behaviour,
			 used() - before);
	assert_int_equal(tls_memory_arena()->denied, 0);
}

static void check_all(const struct attempt *a)
{
	for (; a->behaviour; a++)
		check(a);
}

static void good_ones(void **state)
{
	static const struct attempt all[] = {
		{ .behaviour = "tls" },
		{ .behaviour = "tls-version=12 tls" },
		{ .behaviour = "tls", .hostname = "localhost" },
		{ .behaviour = "tls", .client_cert = "client-cert.pem",
		  .server_wants_cert = true },
		{ .behaviour = "tls-psk tls", .psk_file = "psk/keys.psk" },
		{ .behaviour = "tls-psk tls", .psk_file = "psk-two",
		  .user = "alice", .no_cert = true },
		{ .behaviour = "tls-version=12 tls-psk tls", .no_cert = true,
		  .psk_file = "psk/keys.psk" },
		{ .behaviour = "tls", .mode = "require" },
		{ .behaviour = "tls", .mode = "allow" },
		{ .behaviour = "tls-tickets-early=20 tls" },
		{ 0 },
	};

	(void)state;
	check_all(all);
}

static void certificates(void **state)
{
	static const struct attempt all[] = {
		{ .behaviour = "tls", .exit_code = X_TLS,
		  .hostname = "other.example",
		  .says = "is not for 'other.example'" },
		{ .behaviour = "tls", .exit_code = X_TLS,
		  .hostname = "127.0.0.2", .says = "is not for '127.0.0.2'" },
		{ .behaviour = "tls", .exit_code = X_TLS,
		  .cert = "expired.pem", .says = "has expired" },
		{ .behaviour = "tls", .exit_code = X_TLS, .cert = "early.pem",
		  .says = "is not valid yet" },
		{ .behaviour = "tls", .exit_code = X_TLS, .cert = "self.pem",
		  .says = "--tls-ca=FILE" },
		{ .behaviour = "tls", .exit_code = X_TLS, .ca = "other-ca.pem",
		  .says = "--tls-ca=FILE" },
		{ .behaviour = "tls", .exit_code = X_TLS,
		  .server_wants_cert = true, .says = "--tls-cert" },
		{ .behaviour = "tls-version=12 tls", .exit_code = X_TLS,
		  .server_wants_cert = true, .says = "--tls-cert" },
		{ .behaviour = "tls", .exit_code = X_TLS, .mode = "allow",
		  .cert = "expired.pem", .says = "has expired" },
		{ 0 },
	};

	(void)state;
	check_all(all);
}

static void pre_shared_keys(void **state)
{
	static const struct attempt all[] = {
		{ .behaviour = "tls-psk tls", .exit_code = X_TLS,
		  .psk_file = "psk-wrong", .no_cert = true,
		  .says = "same on both sides" },
		{ .behaviour = "tls-version=12 tls-psk tls", .no_cert = true,
		  .exit_code = X_TLS, .psk_file = "psk-wrong",
		  .says = "same on both sides" },
		{ .behaviour = "tls-psk tls", .exit_code = X_TLS,
		  .psk_file = "psk-two", .user = "bob",
		  .says = "instead of the pre-shared key" },
		{ .behaviour = "tls-version=12 tls-psk tls", .no_cert = true,
		  .exit_code = X_TLS, .psk_file = "psk-two", .user = "bob",
		  .says = "does not know this user" },
		{ .behaviour = "tls", .exit_code = X_TLS,
		  .psk_file = "psk/keys.psk",
		  .says = "instead of the pre-shared key" },
		{ .behaviour = "tls-psk tls", .exit_code = X_TLS,
		  .no_cert = true, .says = "--tls-psk-file" },
		{ 0 },
	};

	(void)state;
	check_all(all);
}

static void no_tls(void **state)
{
	static const struct attempt all[] = {
		{ .behaviour = "tls-refused", .exit_code = X_TLS,
		  .says = "does not offer TLS" },
		/* without any behaviour for it: an unknown option */
		{ .behaviour = "-s 65536", .exit_code = X_TLS,
		  .says = "does not offer TLS" },
		{ .behaviour = "tls-refused", .mode = "allow" },
		{ .behaviour = "tls-injected", .exit_code = X_TLS,
		  .says = "plain text follows" },
		{ .behaviour = "tls-injected", .mode = "allow",
		  .exit_code = X_TLS, .says = "plain text follows" },
		{ .behaviour = "tls-not", .exit_code = X_TLS,
		  .says = "is not TLS" },
		{ .behaviour = "tls-version=11 tls", .exit_code = X_TLS,
		  .says = "no version of TLS that is still safe" },
		{ 0 },
	};

	(void)state;
	check_all(all);
}

/* --tls=allow lets nobody take away what has been there. */
static void not_less_than_before(void **state)
{
	const struct attempt with = { .behaviour = "tls", .mode = "allow" };
	char behaviour[32];
	const struct attempt again = { .behaviour = behaviour,
				       .mode = "allow" };

	(void)state;
	start(&with);
	if (connect_to(&with) < 0)
		fail_msg("%s", err.text);
	assert_true(conn.export.tls);
	assert_string_equal(conn.peer.version, "TLSv1.3");
	assert_string_equal(conn.peer.cipher, "TLS_AES_128_GCM_SHA256");
	assert_string_equal(conn.peer.subject, "/O=nbd test/CN=server.example");
	/* made for 30 days, some seconds ago */
	assert_true(conn.peer.expires <= time(NULL) + 30 * 86400 &&
		    conn.peer.expires > time(NULL) + 29 * 86400);
	script_server_stop(&server);
	conn_shutdown(&conn, 0);
	conn_close(&conn);
	while (conn.state != CONN_DOWN) { /* the server's end is gone already */
		usleep(1000);
		conn_step(&conn);
	}
	snprintf(behaviour, sizeof(behaviour), "-p %u tls-refused",
		 addr.port);
	start(&again);
	assert_true(conn_open(&conn, &err) < 0);
	assert_int_equal(err.exit_code, X_TLS);
	assert_non_null(strstr(err.text, "was encrypted before"));
	disconnect();
}

static void slow_and_endless(void **state)
{
	static const struct attempt all[] = {
		{ .behaviour = "tls-silent", .exit_code = X_UNREACHABLE,
		  .step_ms = STEP_SLOW_MS,
		  .says = "waiting for the TLS handshake" },
		{ .behaviour = "tls-drip=100", .exit_code = X_UNREACHABLE,
		  .step_ms = STEP_SLOW_MS,
		  .says = "waiting for the TLS handshake" },
		{ .behaviour = "tls-endless", .exit_code = X_TLS },
		{ .behaviour = "tls-huge", .exit_code = X_TLS },
		{ .behaviour = "tls-tickets-early=200 tls", .exit_code = X_TLS,
		  .says = "tickets without end" },
		{ 0 },
	};

	(void)state;
	check_all(all);
}

static void cut_short(void **state)
{
	static const struct attempt all[] = {
		{ .behaviour = "tls-truncated=0", .exit_code = X_TLS,
		  .says = "in the middle of the handshake" },
		{ .behaviour = "tls-truncated=3", .exit_code = X_TLS,
		  .says = "in the middle of the handshake" },
		{ .behaviour = "tls-truncated=200", .exit_code = X_TLS,
		  .says = "in the middle of the handshake" },
		{ .behaviour = "tls-close-early tls", .exit_code = X_TLS,
		  .says = "closed the connection" },
		{ .behaviour = "tls-half-close-early tls", .exit_code = X_TLS,
		  .says = "closed the connection" },
		{ .behaviour = "tls-half-record-early tls", .exit_code = X_TLS,
		  .says = "closed the connection" },
		{ 0 },
	};

	(void)state;
	check_all(all);
}

static void hostile_in_negotiation(void **state)
{
	static const struct attempt all[] = {
		{ .behaviour = "tls-rekey-early tls", .exit_code = X_TLS,
		  .says = "change of keys" },
		{ .behaviour = "tls-rekey-early=10000 tls",
		  .exit_code = X_TLS, .says = "change of keys" },
		{ .behaviour = "tls-version=12 tls-renegotiate-early tls",
		  .exit_code = X_TLS },
		{ .behaviour = "tls-oversized-early tls", .exit_code = X_TLS,
		  .says = "longer than TLS allows" },
		{ .behaviour = "tls-forged-early tls", .exit_code = X_TLS },
		{ .behaviour = "tls-plain-early tls", .exit_code = X_TLS,
		  .says = "is not TLS" },
		{ 0 },
	};

	(void)state;
	check_all(all);
}

/* ---- requests ---- */

static void send_read(void)
{
	const struct proto_request p = { .command = NBD_CMD_READ,
					 .cookie = 1,
					 .length_bytes = 512 };
	uint8_t head[sizeof(struct nbd_request)];
	struct iovec part = { .iov_base = head, .iov_len = sizeof(head) };
	struct iovec out;

	proto_put_request(head, &p);
	assert_int_equal(records_fill(&records, &part, 1), 0);
	out = records_out(&records);
	assert_int_equal(send(conn.fd, out.iov_base, out.iov_len, 0),
			 out.iov_len);
	assert_int_equal(records_sent(&records, out.iov_len), sizeof(head));
}

/*
 * Plain bytes of the answer, or -1 with a reason; bit by bit, as the network may
 * deliver them.
 */
static ssize_t receive(const char **ret_why)
{
	const struct timeval patience = { .tv_sec = 5 };
	uint8_t in[70000];
	size_t sum = 0;

	setsockopt(conn.fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
		   sizeof(patience));
	while (sum < sizeof(struct nbd_structured_reply) + 8 + 512) {
		ssize_t n = recv(conn.fd, in, sizeof(in), 0);
		size_t at = 0, step = 0;

		*ret_why = n < 0 ? "silence" : "end of file";
		if (n <= 0)
			return -1;
		while (at < (size_t)n) {
			size_t plain, some = step++ % 7 + 1;
			ssize_t taken;

			if (some > (size_t)n - at)
				some = (size_t)n - at;
			taken = tls_open_take(&records.open, in + at, some,
					      &plain);
			*ret_why = records.open.failure;
			if (taken < 0)
				return -1;
			at += (size_t)taken;
			sum += plain;
		}
	}
	return (ssize_t)sum;
}

static void request(const char *behaviour, const char *says)
{
	const struct attempt a = { .behaviour = behaviour };
	const char *why = NULL;
	ssize_t n;

	start(&a);
	if (connect_to(&a) < 0)
		fail_msg("%s: %s", behaviour, err.text);
	assert_ptr_equal(conn_start_records(&conn, &records), &records);
	send_read();
	n = receive(&why);
	if (!says && n < 0)
		fail_msg("%s: %s", behaviour, why);
	if (says && (n >= 0 || !strstr(why, says)))
		fail_msg("%s: %s", behaviour, n < 0 ? why : "is accepted");
	disconnect();
	assert_int_equal(tls_memory_arena()->denied, 0);
}

static void hostile_in_transmission(void **state)
{
	static const struct {
		const char *behaviour;
		const char *says;
	} all[] = {
		{ "tls", NULL },
		{ "tls-version=12 tls", NULL },
		{ "tls-tickets=3 tls", NULL },
		{ "tls-tickets=100 tls", "tickets without end" },
		{ "tls-rekey tls", "changes its TLS keys" },
		{ "tls-version=12 tls-renegotiate tls", "anew" },
		{ "tls-oversized tls", "too long" },
		{ "tls-version=12 tls-oversized tls", "too long" },
		{ "tls-forged tls", "damaged or forged" },
		{ "tls-version=12 tls-forged tls", "damaged or forged" },
		{ "tls-half-record tls", "end of file" },
		{ "tls-close tls", "closed the connection" },
		{ "tls-version=12 tls-close tls", "closed the connection" },
		{ "tls-half-close tls", "end of file" },
		{ "tls-plain tls", "is not a TLS record" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		request(all[i].behaviour, all[i].says);
}

/* ---- records of the kernel ---- */

static ssize_t plain_request(void)
{
	const struct timeval patience = { .tv_sec = 5 };
	const struct proto_request p = { .command = NBD_CMD_READ,
					 .cookie = 1,
					 .length_bytes = 512 };
	uint8_t head[sizeof(struct nbd_request)];
	uint8_t reply[sizeof(struct nbd_structured_reply) + 8 + 512];
	ssize_t n;

	setsockopt(conn.fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
		   sizeof(patience));
	proto_put_request(head, &p);
	assert_int_equal(send(conn.fd, head, sizeof(head), MSG_NOSIGNAL),
			 sizeof(head));
	n = recv(conn.fd, reply, sizeof(reply), MSG_WAITALL);
	return n < 0 ? -errno : n;
}

static void until_down(void)
{
	conn_close(&conn);
	while (conn.state != CONN_DOWN) {
		usleep(1000);
		conn_step(&conn);
	}
}

/* says: why there is no answer; NULL: there is one. */
static void kernel_request(const char *behaviour, const char *says)
{
	const struct attempt a = { .behaviour = behaviour };
	const char *why;
	ssize_t n;

	start(&a);
	if (connect_to(&a) < 0)
		fail_msg("%s: %s", behaviour, err.text);
	if (conn.records != STATS_RECORDS_KERNEL) {
		disconnect();
		with_kernel = false;
		print_message("this kernel has no TLS\n");
		skip();
	}
	assert_null(conn_start_records(&conn, NULL));
	n = plain_request();
	why = conn_shutdown(&conn, n < 0 ? (int)-n : 0);
	if (!says ? n != sizeof(struct nbd_structured_reply) + 8 + 512 :
		    n > 0 || !why || !strstr(why, says))
		fail_msg("%s: %zd, %s", behaviour, n, why ? why : "no reason");
	until_down();
	/* Its end is seen even behind a record that is no data. */
	if (conn.unfenced)
		fail_msg("%s: its end was not seen", behaviour);
	disconnect();
}

static void kernel_makes_records(void **state)
{
	(void)state;
	with_kernel = true;
	kernel_request("tls", NULL);
	kernel_request("tls-version=12 tls", NULL);
	kernel_request("tls-tickets-early=5 tls", NULL);
	kernel_request("tls-tickets tls", "after the handshake");
	kernel_request("tls-rekey tls", "changes its TLS keys");
	kernel_request("tls-version=12 tls-renegotiate tls",
		       "after the handshake");
	kernel_request("tls-close tls", "closed the connection");
	kernel_request("tls-forged tls", "damaged or forged");
	kernel_request("tls-oversized tls", "damaged or forged");
	kernel_request("tls-plain tls", "damaged or forged");
	with_kernel = false;
}

/* Failures without end, each of them told, and none of them leaves anything. */
static void closed_again_and_again(void **state)
{
	const struct attempt a = { .behaviour = "tls-close-early tls" };
	size_t before = 0;

	(void)state;
	start(&a);
	assert_true(connect_to(&a) < 0);
	for (int i = 0; i < 60; i++) {
		assert_true(conn_open(&conn, &err) < 0);
		assert_int_equal(err.exit_code, X_TLS);
		assert_non_null(strstr(err.text, "closed the connection"));
		/* Whoever does not wait as told would be at it all the time. */
		assert_true(conn_due_ms(&conn, clock_now_ns()) >=
			    (int)CONN_BACKOFF_MIN_MS);
		if (i == 20)
			before = used();
	}
	assert_true(used() <= before + 1600);
	assert_int_equal(tls_memory_arena()->denied, 0);
	disconnect();
}

/* Hundreds of connections leave no more behind than a few. */
static void reconnects_leak_nothing(void **state)
{
	const struct attempt a = { .behaviour = "tls" };
	size_t before = 0;

	(void)state;
	start(&a);
	for (int i = 0; i < 120; i++) {
		if (connect_to(&a) < 0)
			fail_msg("%s", err.text);
		conn_fini(&conn);
		tls_close(&tls);
		if (i == 20)
			before = used();
	}
	script_server_stop(&server);
	/*
	 * The least piece has 32 bytes, so one a connection would be 3200. That
	 * a piece got 16 bytes more than last time is no leak.
	 */
	if (used() > before + 1600)
		fail_msg("%zu bytes are left", used() - before);
}

static void system_authorities_fit(void **state)
{
	const struct attempt a = { .behaviour = "tls", .ca = "",
				   .exit_code = X_TLS,
				   .says = "--tls-ca=FILE" };
	const struct arena *arena = tls_memory_arena();

	(void)state;
	if (access("/etc/ssl/certs/ca-certificates.crt", R_OK) < 0)
		skip();
	check(&a);
	print_message("OpenSSL's memory: %zu KiB peak of %zu KiB\n",
		      arena->peak_bytes / 1024, arena->bytes / 1024);
	assert_true(arena->peak_bytes < arena->bytes * 3 / 4);
}

/* What OpenSSL keeps from its first connection on is no leak. */
static int set_up(void **state)
{
	const struct attempt a = { .behaviour = "tls" };

	(void)state;
	if (tls_memory_open(&err) < 0)
		return -1;
	start(&a);
	if (connect_to(&a) < 0)
		fail_msg("%s", err.text);
	disconnect();
	return 0;
}

/* With a word: only the tests of that name. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_ones),
		cmocka_unit_test(certificates),
		cmocka_unit_test(pre_shared_keys),
		cmocka_unit_test(no_tls),
		cmocka_unit_test(not_less_than_before),
		cmocka_unit_test(slow_and_endless),
		cmocka_unit_test(cut_short),
		cmocka_unit_test(hostile_in_negotiation),
		cmocka_unit_test(hostile_in_transmission),
		cmocka_unit_test(kernel_makes_records),
		cmocka_unit_test(closed_again_and_again),
		cmocka_unit_test(reconnects_leak_nothing),
		cmocka_unit_test(system_authorities_fit),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, set_up, NULL);
}
