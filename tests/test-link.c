/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of connecting and negotiating over real sockets: against a server that
 * misbehaves as told, where each case must end with the right exit code within
 * its time.  Servers that people run are in test-link-servers.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/addr.h"
#include "common/clock.h"
#include "nbd-client/link_io.h"
#include "nbd-client/link_talk.h"
#include "nbd-client/link_tcp.h"
#include "tests/script_server.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define STEP_MS 200
#define LATE_MS 10000 /* on a busy machine */
#define PATIENT_MS 10000

static struct handshake hs;
static struct err err;
static int fds_before;

/* ---- Helpers ---- */

static int count_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static uint64_t ms_since(uint64_t start_ns)
{
	return (clock_now_ns() - start_ns) / NS_PER_MS;
}

static int connect_to(const char *uri, int timeout_ms, int *ret_fd)
{
	struct link_addrs addrs;
	struct addr addr;
	int r;

	err_clear(&err);
	if (addr_parse(&addr, uri, &err) < 0)
		fail_msg("%s", err.text);
	r = link_resolve(&addr, &addrs, &err);
	return r < 0 ? r : link_connect(&addrs, timeout_ms, ret_fd, &err);
}

/* Connects, negotiates, closes; 0 or -errno, the rest in hs and err. */
static int negotiate(const char *uri, const struct handshake_params *params,
		     int timeout_ms)
{
	struct handshake_params p = *params;
	struct addr addr;
	int fd = -1;
	int r;

	assert_int_equal(addr_parse(&addr, uri, &err), 0);
	if (p.export_name == NULL)
		p.export_name = addr.export_name;
	r = connect_to(uri, PATIENT_MS, &fd);
	if (r < 0)
		fail_msg("%s: %s", uri, err.text);
	assert_int_equal(handshake_init(&hs, &p, &err), 0);
	r = link_negotiate(fd, &hs, NULL, timeout_ms, &err);
	close(fd);
	return r;
}

static int listen_on_loopback(uint16_t *ret_port, int backlog)
{
	struct sockaddr_in in = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t bytes = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&in, bytes), 0);
	if (backlog >= 0)
		assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &bytes), 0);
	*ret_port = ntohs(in.sin_port);
	return fd;
}

static void add_addr(struct link_addrs *addrs, uint16_t port)
{
	struct link_addr *to = &addrs->addr[addrs->count++];
	struct sockaddr_in *in = (struct sockaddr_in *)&to->sa;

	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	to->sa_bytes = sizeof(*in);
}

static int remember_fds(void **state)
{
	(void)state;
	fds_before = count_fds();
	return 0;
}

/* Every test must leave as many files open as it found. */
static int compare_fds(void **state)
{
	(void)state;
	return count_fds() == fds_before ? 0 : -1;
}

/* ---- Resolving ---- */

static void resolve_hosts(void **state)
{
	struct link_addrs addrs, before;
	struct addr addr;

	(void)state;
	assert_int_equal(addr_parse(&addr, "nbd://127.0.0.1:99/x", &err), 0);
	assert_int_equal(link_resolve(&addr, &addrs, &err), 0);
	assert_int_equal(addrs.count, 1);
	assert_int_equal(addrs.addr[0].sa.ss_family, AF_INET);
	assert_string_equal(addrs.where, "127.0.0.1 port 99");
	assert_int_equal(addr_parse(&addr, "localhost", &err), 0);
	assert_int_equal(link_resolve(&addr, &addrs, &err), 0);
	assert_true(addrs.count >= 1 && addrs.count <= LINK_ADDRS_MAX);
	/* no name that DNS could ever have */
	before = addrs;
	assert_int_equal(addr_parse(&addr, "a..b", &err), 0);
	assert_int_equal(link_resolve(&addr, &addrs, &err), -EHOSTUNREACH);
	assert_int_equal(err.exit_code, X_UNREACHABLE);
	assert_non_null(strstr(err.text, "'a..b'"));
	assert_memory_equal(&addrs, &before, sizeof(addrs));
}

static void resolve_sockets(void **state)
{
	char cwd[4096], long_dir[] = "/tmp/nbd-test-XXXXXX";
	char deep[200];
	struct link_addrs addrs = { .count = 0 };
	struct addr addr;
	struct sockaddr_un *un = (struct sockaddr_un *)&addrs.addr[0].sa;

	(void)state;
	assert_int_equal(addr_parse(&addr, "/run/x", &err), 0);
	assert_int_equal(link_resolve(&addr, &addrs, &err), 0);
	assert_string_equal(un->sun_path, "/run/x");
	assert_string_equal(addrs.where, "socket /run/x");

	assert_int_equal(addr_parse(&addr, "nbd+unix:///?socket=%00ab", &err),
			 0);
	assert_int_equal(link_resolve(&addr, &addrs, &err), 0);
	assert_memory_equal(un->sun_path, "\0ab", 3);
	assert_int_equal(addrs.addr[0].sa_bytes, 2 + 3);

	/* relative: as seen from here, wherever a daemon goes later */
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	assert_non_null(mkdtemp(long_dir));
	assert_int_equal(chdir(long_dir), 0);
	assert_int_equal(addr_parse(&addr, "nbd+unix:///?socket=s", &err), 0);
	assert_int_equal(link_resolve(&addr, &addrs, &err), 0);
	snprintf(deep, sizeof(deep), "%s/s", long_dir);
	assert_string_equal(un->sun_path, deep);

	/* where the directory makes it too long, with and without the name */
	for (size_t bytes = 85; bytes <= 120; bytes += 35) {
		char name[128];

		memset(name, 'd', bytes);
		name[bytes] = '\0';
		assert_int_equal(mkdir(name, 0700), 0);
		assert_int_equal(chdir(name), 0);
		assert_int_equal(link_resolve(&addr, &addrs, &err),
				 -ENAMETOOLONG);
		assert_int_equal(err.exit_code, X_USAGE);
		assert_int_equal(chdir(long_dir), 0);
		assert_int_equal(rmdir(name), 0);
	}
	assert_int_equal(chdir(cwd), 0);
	assert_int_equal(rmdir(long_dir), 0);
}

/* ---- Connecting ---- */

static void connect_failures(void **state)
{
	struct link_addrs addrs = { .where = "nowhere" };
	uint16_t port;
	char uri[64];
	int fd = -7;
	int bound;

	(void)state;
	bound = listen_on_loopback(&port, -1);
	snprintf(uri, sizeof(uri), "nbd://127.0.0.1:%u", port);
	assert_int_equal(connect_to(uri, PATIENT_MS, &fd), -ECONNREFUSED);
	assert_int_equal(err.exit_code, X_UNREACHABLE);
	assert_non_null(strstr(err.text, "is the server running"));
	close(bound);
	assert_int_equal(connect_to("/tmp/nbd-test-no-such-socket", PATIENT_MS,
				    &fd), -ENOENT);
	assert_int_equal(err.exit_code, X_UNREACHABLE);
	assert_int_equal(connect_to("/etc/passwd", PATIENT_MS, &fd),
			 -ECONNREFUSED);
	/* a family that no kernel has, and no address at all */
	add_addr(&addrs, 1);
	addrs.addr[0].sa.ss_family = 200;
	assert_int_equal(link_connect(&addrs, PATIENT_MS, &fd, &err),
			 -EAFNOSUPPORT);
	assert_int_equal(err.exit_code, X_KERNEL);
	addrs.count = 0;
	assert_int_equal(link_connect(&addrs, PATIENT_MS, &fd, &err),
			 -EHOSTUNREACH);
	assert_int_equal(fd, -7);
}

/* A listener that does not accept: TCP drops, a Unix socket says EAGAIN. */
static void connect_times_out(void **state)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct link_addrs addrs;
	struct addr addr;
	int unix_fd, tcp_fd, fd = -1;
	int held[2][64];
	char uri[64];
	uint16_t port;

	(void)state;
	memset(held, 0xff, sizeof(held));
	tcp_fd = listen_on_loopback(&port, 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "/tmp/nbd-test-full-%d",
		 (int)getpid());
	unlink(un.sun_path);
	unix_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(unix_fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(unix_fd, 0), 0);
	for (int way = 0; way < 2; way++) {
		uint64_t start_ns = clock_now_ns();
		int r = 0;

		snprintf(uri, sizeof(uri), "nbd://127.0.0.1:%u", port);
		assert_int_equal(addr_parse(&addr, way ? un.sun_path : uri,
					    &err), 0);
		assert_int_equal(link_resolve(&addr, &addrs, &err), 0);
		/* fill its queue, then wait in front of it */
		for (int i = 0; i < 64 && r == 0; i++) {
			start_ns = clock_now_ns();
			r = link_connect(&addrs, STEP_MS, &held[way][i], &err);
		}
		assert_int_equal(r, -ETIMEDOUT);
		assert_int_equal(err.exit_code, X_UNREACHABLE);
		assert_true(ms_since(start_ns) >= STEP_MS);
		assert_true(ms_since(start_ns) < STEP_MS + LATE_MS);
		/* two such addresses share the time */
		start_ns = clock_now_ns();
		addrs.addr[1] = addrs.addr[0];
		addrs.count = 2;
		assert_int_equal(link_connect(&addrs, STEP_MS, &fd, &err),
				 -ETIMEDOUT);
		assert_true(ms_since(start_ns) < STEP_MS + LATE_MS);
		for (int i = 0; i < 64; i++)
			if (held[way][i] >= 0)
				close(held[way][i]);
	}
	close(tcp_fd);
	close(unix_fd);
	unlink(un.sun_path);
}

/* All addresses, in order; the socket is blocking and without delay. */
static void connect_tries_all(void **state)
{
	struct link_addrs addrs = { .where = "two ports" };
	socklen_t bytes = sizeof(int);
	int bound, listening, fd = -1, on = 0;
	uint16_t port;

	(void)state;
	bound = listen_on_loopback(&port, -1);
	add_addr(&addrs, port);
	listening = listen_on_loopback(&port, 4);
	add_addr(&addrs, port);
	assert_int_equal(link_connect(&addrs, PATIENT_MS, &fd, &err), 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &bytes),
			 0);
	assert_int_not_equal(on, 0);
	close(fd);
	close(bound);
	close(listening);
}

/* Sockets that the caller has: used one by one, given back when they fail. */
struct stock {
	int fds[2];
	unsigned int taken;
	unsigned int given;
};

static int stock_take(void *arg, int family)
{
	struct stock *stock = arg;

	assert_int_equal(family, AF_INET);
	return stock->taken < 2 ? stock->fds[stock->taken++] : -EMFILE;
}

static void stock_give(void *arg, int fd)
{
	struct stock *stock = arg;

	stock->given++;
	close(fd);
}

static void connect_with_given_sockets(void **state)
{
	struct link_addrs addrs = { .where = "ports" };
	struct stock stock = { .taken = 0 };
	const struct link_sockets sockets = { stock_take, stock_give, &stock };
	int bound, listening, fd = -1;
	uint16_t port;

	(void)state;
	for (int i = 0; i < 2; i++)
		stock.fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bound = listen_on_loopback(&port, -1);
	add_addr(&addrs, port);
	listening = listen_on_loopback(&port, 4);
	add_addr(&addrs, port);
	assert_int_equal(link_connect_from(&addrs, &sockets, PATIENT_MS, &fd,
					   &err), 0);
	assert_int_equal(fd, stock.fds[1]);
	assert_int_equal(stock.given, 1);
	close(fd);
	fd = -1;
	/* none left */
	assert_int_equal(link_connect_from(&addrs, &sockets, PATIENT_MS, &fd,
					   &err), -EMFILE);
	assert_int_equal(err.exit_code, X_FAILURE);
	assert_int_equal(fd, -1);
	close(bound);
	close(listening);
}

/* TCP can connect a socket to itself where nobody listens. */
static void connect_to_itself_is_refused(void **state)
{
	struct link_addrs addrs = { .where = "ourselves" };
	struct stock stock = { .taken = 1 };
	const struct link_sockets sockets = { stock_take, stock_give, &stock };
	uint16_t port;
	int fd = -1;

	(void)state;
	stock.fds[1] = listen_on_loopback(&port, -1);
	add_addr(&addrs, port);
	assert_int_equal(link_connect_from(&addrs, &sockets, PATIENT_MS, &fd,
					   &err), -ECONNREFUSED);
	assert_int_equal(stock.given, 1);
}

/* ---- A host that is gone ---- */

#define GONE_MS 1000u

/* Nothing comes to a socket any more, and its kernel acknowledges nothing. */
static void pull_cable(int fd)
{
	struct sock_filter none = { BPF_RET | BPF_K, 0, 0, 0 };
	const struct sock_fprog drop = { 1, &none };

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &drop,
				    sizeof(drop)), 0);
}

/* A server that reads nothing, full or not, until its host is gone, too. */
static void check_unreachable(bool full)
{
	static const char bytes[65536];
	struct link_addrs addrs = { .where = "a silent server" };
	uint64_t start_ns;
	uint16_t port;
	int listener = listen_on_loopback(&port, 1);
	int fd = -1, server;

	add_addr(&addrs, port);
	assert_int_equal(link_connect(&addrs, PATIENT_MS, &fd, &err), 0);
	server = accept(listener, NULL, NULL);
	while (link_send(fd, bytes, sizeof(bytes)) > 0 && full)
		;
	for (start_ns = clock_now_ns(); ms_since(start_ns) < 2 * GONE_MS;) {
		assert_false(link_is_unreachable(fd, GONE_MS / 2));
		usleep(10000);
	}
	pull_cable(server);
	start_ns = clock_now_ns();
	link_send(fd, bytes, 1);
	while (!link_is_unreachable(fd, GONE_MS)) {
		assert_true(ms_since(start_ns) < PATIENT_MS);
		usleep(10000);
	}
	close(fd);
	close(server);
	close(listener);
}

static void host_that_is_gone(void **state)
{
	int pair[2];

	(void)state;
	check_unreachable(false);
	check_unreachable(true);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_false(link_is_unreachable(pair[0], 0));
	close(pair[0]);
	close(pair[1]);
}

/* ---- A server that misbehaves ---- */

static const struct hostile {
	const char *arguments;
	enum handshake_goal goal;
	enum handshake_tls tls;
	int exit_code;		/* 0: it is to work */
	int error;
	unsigned int steps;	/* time-outs that may pass */
} hostile[] = {
	/* silence, or one byte now and then, at each step */
	{ "silent", HANDSHAKE_GO, 0, X_UNREACHABLE, ETIMEDOUT, 1 },
	{ "half-greeting=1", HANDSHAKE_GO, 0, X_UNREACHABLE, ETIMEDOUT, 1 },
	{ "half-greeting=8", HANDSHAKE_GO, 0, X_UNREACHABLE, ETIMEDOUT, 1 },
	{ "half-greeting=17", HANDSHAKE_GO, 0, X_UNREACHABLE, ETIMEDOUT, 1 },
	{ "drip=50", HANDSHAKE_GO, 0, X_UNREACHABLE, ETIMEDOUT, 1 },
	{ "silent-option=8", HANDSHAKE_GO, 0, X_UNREACHABLE, ETIMEDOUT, 1 },
	{ "silent-option=7", HANDSHAKE_GO, 0, X_UNREACHABLE, ETIMEDOUT, 1 },
	{ "silent-option=6", HANDSHAKE_INFO, 0, X_UNREACHABLE, ETIMEDOUT, 1 },
	{ "silent-option=3", HANDSHAKE_LIST, 0, X_UNREACHABLE, ETIMEDOUT, 1 },
	{ "silent-option=5", HANDSHAKE_GO, HANDSHAKE_TLS_REQUIRE,
	  X_UNREACHABLE, ETIMEDOUT, 1 },
	{ "export-name-only silent-option=1", HANDSHAKE_GO, 0, X_UNREACHABLE,
	  ETIMEDOUT, 1 },
	{ "silent-option=2", HANDSHAKE_INFO, 0, 0, 0, 1 },
	{ "silent-option=2", HANDSHAKE_LIST, 0, 0, 0, 1 },
	{ "slow-list=20", HANDSHAKE_LIST, 0, X_UNREACHABLE, ETIMEDOUT, 1 },
	/* closing */
	{ "close-at-once", HANDSHAKE_GO, 0, X_UNREACHABLE, ECONNRESET, 0 },
	{ "close-option=8", HANDSHAKE_GO, 0, X_UNREACHABLE, ECONNRESET, 0 },
	{ "close-option=7", HANDSHAKE_GO, 0, X_UNREACHABLE, ECONNRESET, 0 },
	{ "close-option=2", HANDSHAKE_INFO, 0, 0, 0, 0 },
	{ "not-fixed close-option=1", HANDSHAKE_GO, 0, X_REFUSED, ENOENT, 0 },
	/* not what we speak */
	{ "not-nbd", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "bad-style", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "oldstyle", HANDSHAKE_GO, 0, X_REFUSED, EPROTONOSUPPORT, 0 },
	{ "eager", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	/* replies that break the rules */
	{ "bad-reply-magic", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "wrong-echo", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "reply-type=77", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "reply-type=2", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "reply-type=77", HANDSHAKE_LIST, 0, X_REFUSED, EPROTO, 0 },
	{ "ack-length=1", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "ack-length=0xffffffff", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "info-length=0", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "info-length=11", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "info-length=4096", HANDSHAKE_GO, 0, X_UNREACHABLE, ETIMEDOUT, 1 },
	{ "info-length=0x80000000", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "info-length=0xffffffff", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "endless-infos", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "no-export-info", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "extra-after-go", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "endless-list", HANDSHAKE_LIST, 0, X_REFUSED, E2BIG, 1 },
	{ "list-name-length=0xffffffff", HANDSHAKE_LIST, 0, X_REFUSED, EPROTO,
	  0 },
	{ "error-length=5000", HANDSHAKE_GO, 0, X_REFUSED, EACCES, 0 },
	{ "tls-plaintext", HANDSHAKE_GO, HANDSHAKE_TLS_REQUIRE, X_TLS, EPROTO,
	  0 },
	/* exports that are none */
	{ "size=0", HANDSHAKE_GO, 0, X_REFUSED, ENOSPC, 0 },
	{ "size=511 block-min=512", HANDSHAKE_GO, 0, X_REFUSED, ENOSPC, 0 },
	{ "size=0x8000000000000000", HANDSHAKE_GO, 0, X_REFUSED, EOVERFLOW,
	  0 },
	{ "not-fixed size=0", HANDSHAKE_GO, 0, X_REFUSED, ENOSPC, 0 },
	{ "flags=0", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "block-min=3", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "block-min=8192", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "block-pref=1000", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "block-max=4095", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	/* refusals */
	{ "tls-required", HANDSHAKE_GO, 0, X_TLS, ENOKEY, 0 },
	{ "tls-required", HANDSHAKE_LIST, 0, X_TLS, ENOKEY, 0 },
	{ "reply-type=0x80000002", HANDSHAKE_GO, 0, X_REFUSED, EACCES, 0 },
	{ "reply-type=0x80000006", HANDSHAKE_GO, 0, X_REFUSED, ENOENT, 0 },
	{ "reply-type=0x80000007", HANDSHAKE_GO, 0, X_UNREACHABLE, ESHUTDOWN,
	  0 },
	{ "reply-type=0x80000002", HANDSHAKE_LIST, 0, X_REFUSED, EACCES, 0 },
	{ "reply-type=0x80000099", HANDSHAKE_GO, 0, X_REFUSED, EPROTO, 0 },
	{ "-e other", HANDSHAKE_GO, 0, X_REFUSED, ENOENT, 0 },
	{ "", HANDSHAKE_GO, HANDSHAKE_TLS_REQUIRE, X_TLS, EPROTONOSUPPORT, 0 },
	{ "not-fixed", HANDSHAKE_GO, HANDSHAKE_TLS_REQUIRE, X_TLS,
	  EPROTONOSUPPORT, 0 },
	/* what has to work */
	{ "", HANDSHAKE_GO, 0, 0, 0, 0 },
	{ "", HANDSHAKE_INFO, 0, 0, 0, 0 },
	{ "", HANDSHAKE_LIST, 0, 0, 0, 0 },
	{ "", HANDSHAKE_GO, HANDSHAKE_TLS_TRY, 0, 0, 0 },
	{ "drip=5", HANDSHAKE_GO, 0, 0, 0, 0 },
	{ "unknown-flags unknown-infos", HANDSHAKE_GO, 0, 0, 0, 0 },
	{ "no-structured", HANDSHAKE_GO, 0, 0, 0, 0 },
	{ "export-name-only", HANDSHAKE_GO, 0, 0, 0, 0 },
	{ "export-name-only", HANDSHAKE_INFO, 0, 0, 0, 0 },
	{ "export-name-only zeroes", HANDSHAKE_GO, 0, 0, 0, 0 },
	{ "not-fixed", HANDSHAKE_GO, 0, 0, 0, 0 },
	{ "not-fixed zeroes", HANDSHAKE_GO, 0, 0, 0, 0 },
	{ "not-fixed zeroes", HANDSHAKE_INFO, 0, 0, 0, 0 },
	{ "size=1000 block-min=0", HANDSHAKE_GO, 0, 0, 0, 0 },
};

static void servers_that_misbehave(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(hostile); i++) {
		const struct hostile *h = &hostile[i];
		const struct handshake_params params = { .goal = h->goal,
							 .tls = h->tls };
		/* short where it is waited for, else with room for a busy host */
		int timeout_ms = h->error == ETIMEDOUT ||
				 strncmp(h->arguments, "silent", 6) == 0
					 ? STEP_MS : PATIENT_MS;
		struct script_server server;
		uint64_t start_ns;
		int r;

		script_server_start(&server, h->arguments);
		start_ns = clock_now_ns();
		r = negotiate(server.uri, &params, timeout_ms);
		script_server_stop(&server);
		if (r != -h->error ||
		    (r < 0 && err.exit_code != h->exit_code) ||
		    ms_since(start_ns) >
			    (uint64_t)timeout_ms * h->steps + 10000)
			fail_msg("'%s': %d in %u ms, exit %d: %s",
				 h->arguments, r,
				 (unsigned int)ms_since(start_ns),
				 err.exit_code, err.text);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, remember_fds, compare_fds)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(resolve_hosts),
		T(resolve_sockets),
		T(connect_failures),
		T(connect_times_out),
		T(connect_tries_all),
		T(connect_with_given_sockets),
		T(connect_to_itself_is_refused),
		T(host_that_is_gone),
		T(servers_that_misbehave),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
