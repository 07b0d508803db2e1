/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shedding at a real interface: a pair of veth in a network namespace of this
 * process's own. Packets are sent as frames by the one end, and arrive, or do
 * not, at the other. Skipped where such a namespace, the tool ip(8) or the
 * kernel's clsact cannot be had.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/shed.h"
#include "nbd-client/shed_tc.h"
#include "nbd-client/stats.h"
#include "tests/netns.h"

#define HERE "192.0.2.1"
#define STRANGER "192.0.2.9"
#define NBD 10809
#define PORT 7777

static int sender = -1, receiver = -1;
static uint8_t mac[6]; /* of the end that receives */
static struct endpoints ends = { .count = 1 };
static struct stats_page *page;
static struct shed shed;
static struct err err;

/* ---- tools ---- */

static bool has_qdisc(const char *link)
{
	char line[128];

	snprintf(line, sizeof(line), "tc qdisc show dev %s | grep clsact",
		 link);
	return netns_run(line) == 0;
}

static bool seen(const char *device, const void *arg)
{
	int *count = (int *)(uintptr_t)arg;

	(void)device;
	++*count;
	return false;
}

static int filters(void)
{
	int count = 0;

	assert_int_equal(shed_tc_remove(seen, &count), 0);
	return count;
}

static bool any(const char *device, const void *arg)
{
	(void)device;
	(void)arg;
	return true;
}

static int open_shed(struct shed *s, const char *device)
{
	err_clear(&err);
	return shed_open(s, device, &ends, NULL, 0, page->guarantees, &err);
}

/* A UDP packet of a stranger as it comes in. */
static void send_packet(uint16_t source_port)
{
	uint8_t frame[14 + 20 + 8 + 22] = { 0 };
	uint16_t word[] = { htons(source_port), htons(PORT), htons(30), 0 };
	uint32_t sum = 0;

	memcpy(frame, mac, 6);
	frame[6] = 2;
	frame[12] = ETH_P_IP >> 8;
	frame[14] = 0x45;
	frame[17] = 50;
	frame[22] = 64;
	frame[23] = IPPROTO_UDP;
	inet_pton(AF_INET, STRANGER, frame + 26);
	inet_pton(AF_INET, HERE, frame + 30);
	for (int i = 14; i < 34; i += 2)
		sum += (uint32_t)(frame[i] << 8 | frame[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16));
	frame[24] = (uint8_t)(sum >> 8);
	frame[25] = (uint8_t)sum;
	memcpy(frame + 34, word, sizeof(word));
	assert_int_equal(send(sender, frame, sizeof(frame), 0), sizeof(frame));
}

static bool arrives(uint16_t source_port)
{
	struct pollfd fd = { .fd = receiver, .events = POLLIN };
	char byte[64];

	send_packet(source_port);
	/* veth delivers before send() returns, or in the next soft interrupt. */
	if (poll(&fd, 1, 300) != 1)
		return false;
	assert_int_equal(recv(receiver, byte, sizeof(byte), 0), 22);
	return true;
}

/* ---- the place ---- */

static void make_sockets(void)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_ALL),
				  .sll_ifindex = (int)if_nametoindex("far") };
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(PORT) };
	struct ifreq request = { .ifr_name = "near" };

	sender = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	receiver = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(sender >= 0 && receiver >= 0);
	ll.sll_protocol = 0; /* sends only */
	assert_int_equal(bind(sender, (void *)&ll, sizeof(ll)), 0);
	assert_int_equal(bind(receiver, (void *)&in, sizeof(in)), 0);
	assert_int_equal(ioctl(receiver, SIOCGIFHWADDR, &request), 0);
	memcpy(mac, request.ifr_hwaddr.sa_data, 6);
}

static int setup(void **state)
{
	struct sockaddr_in *server = (void *)&ends.list[0].addrs.addr[0].sa;

	(void)state;
	netns_setup();
	stats_run_dir = netns_dir;
	netns_must("ip addr add " HERE "/24 dev near; ip link set near up;"
	     "ip link set far up");
	if (netns_run("tc qdisc add dev far clsact && tc qdisc del dev far clsact"))
		netns_skip("no tc(8), or no clsact in this kernel");
	make_sockets();
	ends.list[0].addrs.count = 1;
	server->sin_family = AF_INET;
	server->sin_port = htons(NBD);
	inet_pton(AF_INET, "192.0.2.7", &server->sin_addr);
	assert_int_equal(stats_create("nbd0", &page, &err), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	stats_remove("nbd0", page);
	return netns_teardown();
}

/* Each test begins with nothing, and a living nbd0. */
static int nothing(void **state)
{
	(void)state;
	assert_int_equal(shed_tc_remove(any, NULL), 0);
	assert_false(has_qdisc("near"));
	memset(page->guarantees, 0, sizeof(page->guarantees));
	assert_true(arrives(1));
	return 0;
}

/* ---- tests ---- */

static void test_drops_while_held(void **state)
{
	const struct stats_guarantee *row;

	(void)state;
	assert_int_equal(open_shed(&shed, "nbd0"), 0);
	row = stats_guarantee_find(page->guarantees, SHED_ROW);
	assert_non_null(row);
	assert_int_equal(row->state, GUARANTEE_OK);
	assert_non_null(strstr(row->detail, "near"));
	assert_null(strstr(row->detail, "lo"));
	assert_int_equal(filters(), 1);
	assert_true(arrives(1));
	assert_int_equal(shed.values->packets, 0);

	shed_hold(&shed, clock_now_ns());
	assert_true(shed.holding);
	assert_false(arrives(1));
	assert_int_equal(shed.values->packets, 1);
	assert_int_equal(shed.values->bytes, 14 + 20 + 8 + 22);
	assert_true(arrives(22));
	shed_release(&shed);
	assert_false(shed.holding);
	assert_true(arrives(1));

	/* A tick of long ago. */
	shed_hold(&shed, clock_now_ns() - SHED_HOLD_NS);
	assert_true(arrives(1));
	assert_int_equal(shed.values->packets, 1);
	shed_close(&shed, "nbd0");
	assert_null(shed.values);
	assert_int_equal(filters(), 0);
	assert_false(has_qdisc("near"));
}

static void test_ports_of_the_user(void **state)
{
	const uint16_t ports[] = { 1, 2 };

	(void)state;
	assert_int_equal(shed_open(&shed, "nbd0", &ends, ports, 2,
				   page->guarantees, &err),
			 0);
	shed_hold(&shed, clock_now_ns());
	assert_true(arrives(2));
	assert_false(arrives(3));
	shed_close(&shed, "nbd0");
}

static void test_without(void **state)
{
	struct shed none = { 0 };

	(void)state;
	shed_hold(&none, clock_now_ns());
	shed_release(&none);
	shed_close(&none, "nbd0");
	assert_false(none.holding);
}

/* Whoever made the qdisc: the last of us takes it away. */
static void test_two_devices(void **state)
{
	struct stats_page *second;
	struct shed other;

	(void)state;
	assert_int_equal(stats_create("nbd1", &second, &err), 0);
	assert_int_equal(open_shed(&shed, "nbd0"), 0);
	assert_int_equal(open_shed(&other, "nbd1"), 0);
	assert_int_equal(filters(), 2);
	shed_close(&shed, "nbd0");
	assert_int_equal(filters(), 1);
	shed_hold(&other, clock_now_ns());
	assert_false(arrives(1));
	shed_close(&other, "nbd1");
	assert_int_equal(filters(), 0);
	assert_false(has_qdisc("near"));
	stats_remove("nbd1", second);
}

static void test_qdisc_of_others(void **state)
{
	(void)state;
	netns_must("tc qdisc add dev near clsact");
	assert_int_equal(open_shed(&shed, "nbd0"), 0);
	shed_close(&shed, "nbd0");
	assert_int_equal(filters(), 0);
	assert_true(has_qdisc("near"));
	netns_must("tc qdisc del dev near clsact");
}

/* Ours, but somebody has put a filter on it meanwhile: at either side. */
static void test_filters_of_others(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		const char *add =
			i ? "tc filter add dev near egress protocol ip "
			    "prio 1 u32 match u32 0 0 flowid 1:1" :
			    "tc filter add dev near ingress protocol ip "
			    "prio 9 u32 match u32 0 0 flowid 1:1";
		const char *look =
			i ? "tc filter show dev near egress | grep u32" :
			    "tc filter show dev near ingress | grep u32";

		assert_int_equal(open_shed(&shed, "nbd0"), 0);
		netns_must(add);
		shed_close(&shed, "nbd0");
		assert_int_equal(filters(), 0);
		netns_must(look);
		netns_must("tc qdisc del dev near clsact");
	}
}

/* The first priority has another kind of filter, which nobody may replace. */
static void test_priority_taken(void **state)
{
	(void)state;
	netns_must("tc qdisc add dev near clsact");
	netns_must("tc filter add dev near ingress protocol ip prio 1 u32 "
	     "match ip dport 9 0xffff flowid 1:1");
	assert_int_equal(open_shed(&shed, "nbd0"), 0);
	shed_hold(&shed, clock_now_ns());
	assert_false(arrives(1));
	shed_close(&shed, "nbd0");
	netns_must("tc filter show dev near ingress | grep u32");
	netns_must("tc qdisc del dev near clsact");
}

/* A daemon that is killed while it sheds. */
static void die_shedding(const char *device)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct stats_page *mine;
		struct shed s;

		if (stats_create(device, &mine, &err) < 0 ||
		    open_shed(&s, device) < 0)
			_exit(1);
		shed_hold(&s, clock_now_ns());
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_killed(void **state)
{
	uint64_t end_ns = clock_now_ns() + 2 * SHED_HOLD_NS;

	(void)state;
	die_shedding("nbd5");
	assert_int_equal(filters(), 1);
	assert_false(arrives(1));
	while (!arrives(1))
		assert_true(clock_now_ns() < end_ns);
	/* It stays, harmless, until somebody cleans up. */
	assert_int_equal(filters(), 1);
	assert_int_equal(open_shed(&shed, "nbd0"), 0);
	assert_int_equal(filters(), 1);
	shed_close(&shed, "nbd0");
	assert_false(has_qdisc("near"));
	stats_remove("nbd5", NULL);
}

static void test_drop_stale(void **state)
{
	(void)state;
	assert_int_equal(open_shed(&shed, "nbd0"), 0);
	die_shedding("nbd5");
	die_shedding("nbd6");
	stats_remove("nbd6", NULL);
	assert_int_equal(shed_drop_stale(), 0);
	/* That of the living stays. */
	assert_int_equal(filters(), 1);
	shed_hold(&shed, clock_now_ns());
	assert_false(arrives(1));
	shed_close(&shed, "nbd0");
	stats_remove("nbd5", NULL);
}

/* Behind a tunnel: there, and nowhere else. */
static void test_tunnel(void **state)
{
	const struct stats_guarantee *row;
	struct sockaddr_in *server = (void *)&ends.list[0].addrs.addr[1].sa;

	(void)state;
	if (netns_run("ip tuntap add tun7 mode tun")) {
		print_message("no tun device here\n");
		skip();
	}
	netns_must("ip addr add 203.0.113.1/24 dev tun7; ip link set tun7 up");
	*server = *(struct sockaddr_in *)(void *)&ends.list[0].addrs.addr[0].sa;
	inet_pton(AF_INET, "203.0.113.7", &server->sin_addr);
	ends.list[0].addrs.addr[0].sa.ss_family = AF_UNIX; /* nothing to look up */
	ends.list[0].addrs.count = 2;
	assert_int_equal(open_shed(&shed, "nbd0"), 0);
	ends.list[0].addrs.addr[0].sa.ss_family = AF_INET;
	ends.list[0].addrs.count = 1;
	row = stats_guarantee_find(page->guarantees, SHED_ROW);
	assert_string_equal(row->detail, "in place at tun7");
	shed_close(&shed, "nbd0");
	netns_must("ip link del tun7");
}

/* Nothing half done, and it says why. */
static void test_not_permitted(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0) {
		const struct stats_guarantee *row;
		int ret;

		chmod(netns_dir, 0755);
		if (setuid(65534) < 0)
			_exit(1);
		ret = open_shed(&shed, "nbd0");
		row = stats_guarantee_find(page->guarantees, SHED_ROW);
		_exit(ret == -EPERM && err.exit_code == X_PERMISSION &&
				      !shed.values && row &&
				      row->state == GUARANTEE_DEGRADED ?
			      0 :
			      2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(filters(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_drops_while_held, nothing),
		cmocka_unit_test_setup(test_ports_of_the_user, nothing),
		cmocka_unit_test_setup(test_without, nothing),
		cmocka_unit_test_setup(test_two_devices, nothing),
		cmocka_unit_test_setup(test_qdisc_of_others, nothing),
		cmocka_unit_test_setup(test_filters_of_others, nothing),
		cmocka_unit_test_setup(test_priority_taken, nothing),
		cmocka_unit_test_setup(test_killed, nothing),
		cmocka_unit_test_setup(test_drop_stale, nothing),
		cmocka_unit_test_setup(test_tunnel, nothing),
		cmocka_unit_test_setup(test_not_permitted, nothing),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
