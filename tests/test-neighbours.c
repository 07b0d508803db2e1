// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Neighbour entries that are to stay: real ones, of a pair of veth in a network
 * namespace of this process's own. Skipped where that or ip(8) cannot be had.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "nbd-client/neighbours.h"
#include "nbd-client/stats.h"
#include "tests/netns.h"

static struct endpoints ends;
static struct stats_page *page;
static struct err err;

/* ---- tools ---- */

/* What ip(8) says of this address, and no more. */
static bool shows(const char *address, const char *words)
{
	char line[256];

	snprintf(line, sizeof(line),
		 "ip neigh show %s | grep -q '%s'", address, words);
	return netns_run(line) == 0;
}

#define OURS "PERMANENT.*proto 78\\|proto 78.*PERMANENT"

static bool is_pinned(const char *address)
{
	return shows(address, OURS);
}

static void server(uint32_t i, const char *address)
{
	struct link_addr *to = &ends.list[i].addrs.addr[0];
	struct sockaddr_in *in = (void *)&to->sa;
	struct sockaddr_in6 *in6 = (void *)&to->sa;

	memset(to, 0, sizeof(*to));
	if (strchr(address, ':')) {
		to->sa.ss_family = AF_INET6;
		inet_pton(AF_INET6, address, &in6->sin6_addr);
	} else {
		to->sa.ss_family = AF_INET;
		inet_pton(AF_INET, address, &in->sin_addr);
	}
	ends.list[i].addrs.count = 1;
	ends.count = i + 1;
}

static const struct stats_guarantee *pin(struct stats_page *of)
{
	neighbours_pin(&ends, 0, of, of->guarantees);
	return stats_guarantee_find(of->guarantees, NEIGHBOURS_ROW);
}

static int setup(void **state)
{
	(void)state;
	netns_setup();
	stats_run_dir = netns_dir;
	netns_must("ip addr add 192.0.2.1/24 dev near; ip -6 addr add fd00::1/64 dev near nodad;"
	     "ip link set near up; ip link set far up;"
	     "ip route add 198.51.100.0/24 via 192.0.2.254 dev near");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return netns_teardown();
}

/* A living nbd0, and a server that was just talked to. */
static int begin(void **state)
{
	(void)state;
	netns_must("ip neigh flush dev near nud all");
	netns_must("ip neigh add 192.0.2.7 lladdr 02:00:00:00:00:07 dev near nud reachable");
	assert_int_equal(stats_create("nbd0", &page, &err), 0);
	server(0, "192.0.2.7");
	return 0;
}

static int end(void **state)
{
	(void)state;
	stats_remove("nbd0", page);
	assert_int_equal(neighbours_drop_stale(), 0);
	assert_false(shows("", "proto 78"));
	return 0;
}

/* ---- tests ---- */

static void made_permanent(void **state)
{
	const struct stats_guarantee *row = pin(page);

	(void)state;
	assert_int_equal(row->state, GUARANTEE_OK);
	assert_string_equal(row->detail, "permanent: 192.0.2.7 at near");
	assert_true(is_pinned("192.0.2.7"));
	assert_true(shows("192.0.2.7", "02:00:00:00:00:07"));
	/* Once more changes nothing. */
	row = pin(page);
	assert_string_equal(row->detail, "permanent: 192.0.2.7 at near");
	assert_int_equal(page->neighbours[1].index, 0);
	neighbours_release(page);
	assert_int_equal(page->neighbours[0].index, 0);
	assert_false(shows("192.0.2.7", "PERMANENT"));
}

static void of_ipv6(void **state)
{
	(void)state;
	netns_must("ip neigh add fd00::7 lladdr 02:00:00:00:00:08 dev near nud reachable");
	server(0, "fd00::7");
	assert_string_equal(pin(page)->detail, "permanent: fd00::7 at near");
	assert_true(is_pinned("fd00::7"));
}

/* Two servers behind it, and it is one entry. */
static void of_the_gateway(void **state)
{
	(void)state;
	netns_must("ip neigh add 192.0.2.254 lladdr 02:00:00:00:00:09 dev near nud stale");
	server(0, "198.51.100.5");
	server(1, "198.51.100.6");
	assert_string_equal(pin(page)->detail, "permanent: 192.0.2.254 at near");
	assert_true(is_pinned("192.0.2.254"));
}

/* What is stale may be wrong, unless it carries our traffic. */
static void of_another_server(void **state)
{
	(void)state;
	netns_must("ip neigh add 192.0.2.8 lladdr 02:00:00:00:00:08 dev near nud stale");
	netns_must("ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev near nud reachable");
	server(1, "192.0.2.8");
	server(2, "192.0.2.9");
	assert_string_equal(pin(page)->detail,
			    "permanent: 192.0.2.7 at near, 192.0.2.9 at near");
	assert_false(is_pinned("192.0.2.8"));
}

static void of_an_administrator(void **state)
{
	(void)state;
	netns_must("ip neigh replace 192.0.2.7 lladdr 02:00:00:00:00:01 dev near nud permanent");
	assert_int_equal(pin(page)->state, GUARANTEE_OK);
	assert_int_equal(page->neighbours[0].index, 0);
	neighbours_release(page);
	assert_int_equal(neighbours_drop_stale(), 0);
	assert_true(shows("192.0.2.7", "02:00:00:00:00:01.*PERMANENT"));
}

static void not_known(void **state)
{
	(void)state;
	server(0, "192.0.2.77");
	assert_int_equal(pin(page)->state, GUARANTEE_DEGRADED);
	assert_false(shows("", "PERMANENT"));
}

static void not_needed(void **state)
{
	(void)state;
	server(0, "127.0.0.1");
	assert_int_equal(pin(page)->state, GUARANTEE_OK);
	assert_string_equal(pin(page)->detail, "none is needed");
	ends.list[0].addrs.addr[0].sa.ss_family = AF_UNIX;
	assert_string_equal(pin(page)->detail, "none is needed");
}

/* Each device wants it; it goes with the last one. */
static void of_two_devices(void **state)
{
	struct stats_page *other;

	(void)state;
	assert_int_equal(stats_create("nbd1", &other, &err), 0);
	pin(page);
	pin(other);
	neighbours_release(page);
	assert_true(is_pinned("192.0.2.7"));
	neighbours_release(other);
	assert_false(is_pinned("192.0.2.7"));
	stats_remove("nbd1", other);
}

static void of_a_dead_device(void **state)
{
	(void)state;
	pin(page);
	assert_int_equal(neighbours_drop_stale(), 0);
	assert_true(is_pinned("192.0.2.7"));
	page->pid_start++; /* of another process of that number */
	assert_int_equal(neighbours_drop_stale(), 0);
	assert_false(is_pinned("192.0.2.7"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(made_permanent),
		TEST(of_ipv6),
		TEST(of_the_gateway),
		TEST(of_another_server),
		TEST(of_an_administrator),
		TEST(not_known),
		TEST(not_needed),
		TEST(of_two_devices),
		TEST(of_a_dead_device),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
