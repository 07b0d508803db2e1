/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The program that sheds, as the kernel runs it (BPF_PROG_TEST_RUN): crafted
 * packets against the deadline. Skipped where bpf(2) is not permitted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/shed_prog.h"

#define PASS TC_ACT_UNSPEC
#define DROP TC_ACT_SHOT

#define SERVER "192.0.2.7"
#define SERVER2 "192.0.2.8"
#define SERVER6 "2001:db8::7"
#define STRANGER "198.51.100.9"
#define STRANGER6 "2001:db8::9"
#define NBD 10809

static struct shed_values *values;
static int prog_fd = -1;

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static void add_server(struct shed_exempt *x, int family, const char *address,
		       uint16_t port)
{
	struct sockaddr_storage *sa = &x->servers[x->server_count++];
	struct sockaddr_in *in = (void *)sa;
	struct sockaddr_in6 *in6 = (void *)sa;

	sa->ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		in->sin_port = htons(port);
		inet_pton(family, address, &in->sin_addr);
	} else {
		in6->sin6_port = htons(port);
		inet_pton(family, address, &in6->sin6_addr);
	}
}

/* Loads it; the verifier's words on failure. -1: not permitted here. */
static int load(const struct shed_exempt *x, int map_fd)
{
	static struct shed_prog prog;
	static char words[65536];
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SCHED_CLS,
		.insns = (uintptr_t)prog.insn,
		.license = (uintptr_t) "GPL",
		.log_buf = (uintptr_t)words,
		.log_size = sizeof(words),
		.log_level = 1,
	};
	int fd;

	shed_prog_build(&prog, x, map_fd);
	attr.insn_cnt = prog.count;
	fd = bpf(BPF_PROG_LOAD, &attr);
	if (fd < 0 && errno != EPERM)
		print_message("%s\n%s", strerror(errno), words);
	return fd;
}

static int make_map(void)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY,
		.key_size = 4,
		.value_size = sizeof(*values),
		.max_entries = 1,
		.map_flags = BPF_F_MMAPABLE,
	};

	return bpf(BPF_MAP_CREATE, &attr);
}

/* ---- packets ---- */

struct packet {
	uint8_t byte[160];
	size_t bytes;
	uint16_t ether_type;
	uint8_t ihl;       /* words; 0: 5 */
	uint16_t fragment; /* as in the header; for IPv6 too */
	bool has_fragment_header;
};

static void put(struct packet *p, const void *data, size_t bytes)
{
	assert_true(p->bytes + bytes <= sizeof(p->byte));
	memcpy(p->byte + p->bytes, data, bytes);
	p->bytes += bytes;
}

static void put_16(struct packet *p, uint16_t value)
{
	value = htons(value);
	put(p, &value, 2);
}

static void put_ether(struct packet *p, uint16_t type)
{
	static const uint8_t addresses[12] = { 2, 0, 0, 0, 0, 1,
					       2, 0, 0, 0, 0, 2 };

	p->bytes = 0;
	put(p, addresses, sizeof(addresses));
	put_16(p, type);
}

static void put_ipv4(struct packet *p, const char *from, uint8_t protocol)
{
	uint8_t ihl = p->ihl ? p->ihl : 5;
	uint8_t head[60] = {
		[0] = (uint8_t)(0x40 | ihl), [8] = 64, [9] = protocol
	};

	head[6] = (uint8_t)(p->fragment >> 8);
	head[7] = (uint8_t)p->fragment;
	inet_pton(AF_INET, from, head + 12);
	inet_pton(AF_INET, "192.0.2.1", head + 16);
	put_ether(p, ETH_P_IP);
	put(p, head, ihl * 4u);
}

static void put_ipv6(struct packet *p, const char *from, uint8_t next)
{
	uint8_t head[40] = { [0] = 0x60, [6] = next, [7] = 64 };
	uint8_t fragment[8] = { next };

	if (p->has_fragment_header)
		head[6] = IPPROTO_FRAGMENT;
	fragment[2] = (uint8_t)(p->fragment >> 8);
	fragment[3] = (uint8_t)p->fragment;
	inet_pton(AF_INET6, from, head + 8);
	inet_pton(AF_INET6, "2001:db8::1", head + 24);
	put_ether(p, ETH_P_IPV6);
	put(p, head, sizeof(head));
	if (p->has_fragment_header)
		put(p, fragment, sizeof(fragment));
}

/* Ports, or whatever else begins with these numbers; then some payload. */
static void put_rest(struct packet *p, uint16_t first, uint16_t second)
{
	static const uint8_t payload[40];

	put_16(p, first);
	put_16(p, second);
	put(p, payload, sizeof(payload));
}

static int run_bytes(const struct packet *p)
{
	union bpf_attr attr = { 0 };

	attr.test.prog_fd = (uint32_t)prog_fd;
	attr.test.data_in = (uintptr_t)p->byte;
	attr.test.data_size_in = (uint32_t)p->bytes;
	assert_int_equal(bpf(BPF_PROG_TEST_RUN, &attr), 0);
	return (int)attr.test.retval;
}

/* The verdict while it sheds; at all other times every packet passes. */
static int run(const struct packet *p)
{
	uint64_t packets = values->packets, bytes = values->bytes;
	uint64_t now = clock_now_ns();
	int verdict;

	values->deadline_ns = 0;
	assert_int_equal(run_bytes(p), PASS);
	values->deadline_ns = now; /* which has passed */
	assert_int_equal(run_bytes(p), PASS);
	assert_int_equal(values->packets, packets);
	values->deadline_ns = now + 60 * NS_PER_S;
	verdict = run_bytes(p);
	assert_int_equal(values->packets - packets, verdict == DROP);
	assert_int_equal(values->bytes - bytes, verdict == DROP ? p->bytes : 0);
	return verdict;
}

static int v4(const char *from, uint8_t protocol, uint16_t first,
	      uint16_t second)
{
	struct packet p = { 0 };

	put_ipv4(&p, from, protocol);
	put_rest(&p, first, second);
	return run(&p);
}

static int v6(const char *from, uint8_t protocol, uint16_t first,
	      uint16_t second)
{
	struct packet p = { 0 };

	put_ipv6(&p, from, protocol);
	put_rest(&p, first, second);
	return run(&p);
}

static int fragment(const char *from, uint16_t field, uint8_t protocol,
		    uint16_t first)
{
	struct packet p = { .fragment = field, .has_fragment_header = true };

	if (strchr(from, ':'))
		put_ipv6(&p, from, protocol);
	else
		put_ipv4(&p, from, protocol);
	put_rest(&p, first, 40000);
	return run(&p);
}

/* ---- tests ---- */

static int setup(void **state)
{
	struct shed_exempt x = { .port_count = 2, .ports = { 8080, 51820 } };
	int map_fd = make_map();

	(void)state;
	if (map_fd < 0 && (errno == EPERM || errno == ENOSYS)) {
		print_message("bpf(2): %s: skipped\n", strerror(errno));
		_exit(77);
	}
	assert_true(map_fd >= 0);
	values = mmap(NULL, sizeof(*values), PROT_READ | PROT_WRITE, MAP_SHARED,
		      map_fd, 0);
	assert_true(values != MAP_FAILED);
	add_server(&x, AF_INET, SERVER, NBD);
	add_server(&x, AF_INET6, SERVER6, NBD);
	add_server(&x, AF_INET, SERVER2, 1234);
	prog_fd = load(&x, map_fd);
	assert_true(prog_fd >= 0);
	close(map_fd);
	return 0;
}

static void test_server(void **state)
{
	(void)state;
	assert_int_equal(v4(SERVER, IPPROTO_TCP, NBD, 40000), PASS);
	assert_int_equal(v4(SERVER2, IPPROTO_TCP, 1234, 40000), PASS);
	assert_int_equal(v6(SERVER6, IPPROTO_TCP, NBD, 40000), PASS);
	/* Not all that comes from that machine. */
	assert_int_equal(v4(SERVER, IPPROTO_TCP, 1234, 40000), DROP);
	assert_int_equal(v4(SERVER2, IPPROTO_TCP, NBD, 40000), DROP);
	assert_int_equal(v4(SERVER, IPPROTO_TCP, 40000, NBD), DROP);
	assert_int_equal(v6(SERVER6, IPPROTO_TCP, 40000, NBD), DROP);
	/* An address that differs in its last or first half only. */
	assert_int_equal(v6("2001:db8:1::7", IPPROTO_TCP, NBD, 40000), DROP);
	assert_int_equal(v6(STRANGER6, IPPROTO_TCP, NBD, 40000), DROP);
}

static void test_strangers(void **state)
{
	static const uint8_t protocols[] = { IPPROTO_TCP, IPPROTO_UDP,
					     IPPROTO_UDPLITE, IPPROTO_SCTP,
					     IPPROTO_DCCP };

	(void)state;
	for (size_t i = 0; i < sizeof(protocols); i++) {
		assert_int_equal(v4(STRANGER, protocols[i], 40000, 7777), DROP);
		assert_int_equal(v6(STRANGER6, protocols[i], 40000, 7777),
				 DROP);
	}
	assert_int_equal(v4(STRANGER, IPPROTO_TCP, 40000, NBD), DROP);
}

static void test_exempt_ports(void **state)
{
	static const uint16_t ports[] = { 22, 67, 68, 546, 547, 8080, 51820 };

	(void)state;
	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
		assert_int_equal(v4(STRANGER, IPPROTO_TCP, ports[i], 40000),
				 PASS);
		assert_int_equal(v4(STRANGER, IPPROTO_UDP, 40000, ports[i]),
				 PASS);
		assert_int_equal(v6(STRANGER6, IPPROTO_TCP, 40000, ports[i]),
				 PASS);
		assert_int_equal(v6(STRANGER6, IPPROTO_UDP, ports[i], 40000),
				 PASS);
	}
	/* 22 in the other byte order. */
	assert_int_equal(v4(STRANGER, IPPROTO_TCP, 22 << 8, 22 << 8), DROP);
}

static void test_not_ip(void **state)
{
	static const uint16_t types[] = { ETH_P_ARP, ETH_P_SLOW, ETH_P_PAE,
					  ETH_P_PPP_SES, ETH_P_LLDP };
	struct packet p;

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		memset(&p, 0, sizeof(p));
		put_ether(&p, types[i]);
		put_rest(&p, 40000, 7777);
		assert_int_equal(run(&p), PASS);
	}
}

static void test_icmp(void **state)
{
	(void)state;
	assert_int_equal(v4(STRANGER, IPPROTO_ICMP, 8 << 8, 0), DROP);
	assert_int_equal(v4(STRANGER, IPPROTO_ICMP, 0, 0), DROP);
	/* Fragmentation needed: for the path to the server. */
	assert_int_equal(v4(STRANGER, IPPROTO_ICMP, 3 << 8 | 4, 0), PASS);
	assert_int_equal(v6(STRANGER6, IPPROTO_ICMPV6, 128 << 8, 0), DROP);
	assert_int_equal(v6(STRANGER6, IPPROTO_ICMPV6, 129 << 8, 0), DROP);
	assert_int_equal(v6(STRANGER6, IPPROTO_ICMPV6, 2 << 8, 0), PASS);
	/* Router and neighbour discovery. */
	for (uint16_t type = 133; type <= 137; type++)
		assert_int_equal(
			v6(STRANGER6, IPPROTO_ICMPV6, (uint16_t)(type << 8), 0),
			PASS);
	/* An ICMP number of the other family is nothing that we know. */
	assert_int_equal(v6(STRANGER6, IPPROTO_ICMP, 8 << 8, 0), PASS);
}

static void test_other_protocols(void **state)
{
	(void)state;
	assert_int_equal(v4(STRANGER, IPPROTO_ESP, 40000, 7777), PASS);
	assert_int_equal(v4(STRANGER, IPPROTO_IGMP, 40000, 7777), PASS);
	assert_int_equal(v4(STRANGER, IPPROTO_GRE, 40000, 7777), PASS);
	/* Hop-by-hop options: as before MLD. */
	assert_int_equal(v6(STRANGER6, IPPROTO_HOPOPTS, 40000, 7777), PASS);
}

static void test_options(void **state)
{
	struct packet p = { .ihl = 15 };

	(void)state;
	put_ipv4(&p, STRANGER, IPPROTO_TCP);
	put_rest(&p, 40000, 22);
	assert_int_equal(run(&p), PASS);
	put_ipv4(&p, SERVER, IPPROTO_TCP);
	put_rest(&p, NBD, 40000);
	assert_int_equal(run(&p), PASS);
	put_ipv4(&p, STRANGER, IPPROTO_TCP);
	put_rest(&p, 40000, 7777);
	assert_int_equal(run(&p), DROP);
}

static void test_fragments(void **state)
{
	static const struct {
		const char *server, *stranger;
		uint16_t first, later; /* the field: more to come; offset 8 */
	} family[] = { { SERVER, STRANGER, 0x2000, 0x0001 },
		       { SERVER6, STRANGER6, 0x0001, 0x0008 } };

	(void)state;
	for (int i = 0; i < 2; i++) {
		const char *server = family[i].server;
		const char *stranger = family[i].stranger;
		uint16_t first = family[i].first, later = family[i].later;

		/* The first has ports. */
		assert_int_equal(fragment(server, first, IPPROTO_TCP, NBD),
				 PASS);
		assert_int_equal(fragment(server, first, IPPROTO_TCP, 1), DROP);
		assert_int_equal(fragment(stranger, first, IPPROTO_UDP, 22),
				 PASS);
		assert_int_equal(fragment(stranger, first, IPPROTO_UDP, 1),
				 DROP);
		/* In the later ones there is only payload. */
		assert_int_equal(fragment(server, later, IPPROTO_TCP, 1), PASS);
		assert_int_equal(fragment(stranger, later, IPPROTO_UDP, 22),
				 DROP);
		assert_int_equal(
			fragment(stranger, 0xfff8 & 0x1fff, IPPROTO_UDP, 22),
			DROP);
	}
	assert_int_equal(fragment(STRANGER, 1, IPPROTO_ICMP, 3 << 8), DROP);
	assert_int_equal(fragment(STRANGER, 1, IPPROTO_ESP, 1), PASS);
	/* "Don't fragment" is no fragment. */
	assert_int_equal(fragment(STRANGER, 0x4000, IPPROTO_TCP, 22), PASS);
}

/* What ends within a header is IP's to throw away; nothing may be read behind. */
static void test_short(void **state)
{
	struct packet p = { 0 };

	(void)state;
	put_ipv4(&p, STRANGER, IPPROTO_UDP);
	assert_int_equal(run(&p), PASS);
	put_rest(&p, 40000, 7777);
	p.byte[14] = 0x4f; /* options beyond the end */
	p.bytes = 14 + 40;
	assert_int_equal(run(&p), PASS);
	put_ipv6(&p, STRANGER6, IPPROTO_UDP);
	assert_int_equal(run(&p), PASS);
}

/* Any number of servers and ports up to the limits gives a valid program. */
static void test_bounds(void **state)
{
	struct shed_exempt x = { .port_count = SHED_PORTS_MAX };
	int map_fd = make_map(), fd;

	(void)state;
	memset(x.ports, 0xff, sizeof(x.ports));
	for (uint32_t i = 0; i <= SHED_SERVERS_MAX; i++) {
		fd = load(&x, map_fd);
		assert_true(fd >= 0);
		close(fd);
		if (i < SHED_SERVERS_MAX)
			add_server(&x, i % 4 ? AF_INET6 : AF_INET,
				   i % 4 ? SERVER6 : "255.255.255.255", 65535);
	}
	x.port_count = 0;
	x.server_count = 0; /* over a UNIX socket */
	fd = load(&x, map_fd);
	assert_true(fd >= 0);
	close(fd);
	close(map_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server),
		cmocka_unit_test(test_strangers),
		cmocka_unit_test(test_exempt_ports),
		cmocka_unit_test(test_not_ip),
		cmocka_unit_test(test_icmp),
		cmocka_unit_test(test_other_protocols),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_short),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
