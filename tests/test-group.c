// SPDX-License-Identifier: GPL-2.0-or-later
/* The tree of reservation groups: all or nothing, and exact. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/group.h"

/* host -> net -> device -> { slots, tx, rx }, as a device has it. */
enum { HOST, NET, DEVICE, SLOTS, TX, RX, GROUPS };
static struct group g[GROUPS];

static void make(uint64_t host, uint64_t net, uint64_t device, uint64_t leaf)
{
	memset(g, 0xff, sizeof(g));
	group_init(&g[HOST], "host", NULL, host);
	group_init(&g[NET], "net", &g[HOST], net);
	group_init(&g[DEVICE], "device", &g[NET], device);
	for (int i = SLOTS; i < GROUPS; i++)
		group_init(&g[i], "leaf", &g[DEVICE], leaf);
}

static void expect(uint64_t host, uint64_t net, uint64_t device, uint64_t slots,
		   uint64_t tx)
{
	assert_int_equal(g[HOST].usage_bytes, host);
	assert_int_equal(g[NET].usage_bytes, net);
	assert_int_equal(g[DEVICE].usage_bytes, device);
	assert_int_equal(g[SLOTS].usage_bytes, slots);
	assert_int_equal(g[TX].usage_bytes, tx);
}

static void a_charge_counts_all_the_way_up(void **state)
{
	(void)state;
	make(100, 100, 100, 100);
	assert_true(group_charge(&g[SLOTS], 30));
	assert_true(group_charge(&g[TX], 12));
	assert_true(group_charge(&g[NET], 5));
	expect(47, 47, 42, 30, 12);
	group_uncharge(&g[SLOTS], 30);
	expect(17, 17, 12, 0, 12);
	group_uncharge(&g[TX], 12);
	group_uncharge(&g[NET], 5);
	expect(0, 0, 0, 0, 0);
	assert_int_equal(g[SLOTS].peak_bytes, 30);
	assert_int_equal(g[DEVICE].peak_bytes, 42);
	assert_int_equal(g[HOST].peak_bytes, 47);
}

/* Whichever level refuses, it alone says so, and none has been charged. */
static void all_or_nothing(void **state)
{
	static const struct {
		uint64_t host, net, device, leaf;
		int refuses;
	} rows[] = {
		{ 10, 100, 100, 100, HOST },
		{ 100, 10, 100, 100, NET },
		{ 100, 100, 10, 100, DEVICE },
		{ 100, 100, 100, 10, SLOTS },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		make(rows[i].host, rows[i].net, rows[i].device, rows[i].leaf);
		assert_true(group_charge(&g[SLOTS], 10)); /* to the byte */
		assert_false(group_charge(&g[SLOTS], 1));
		expect(10, 10, 10, 10, 0);
		for (int at = 0; at < GROUPS; at++)
			assert_int_equal(g[at].denied, at == rows[i].refuses);
		assert_false(group_charge(&g[SLOTS], UINT64_MAX));
		expect(10, 10, 10, 10, 0);
		group_uncharge(&g[SLOTS], 10);
		assert_true(group_charge(&g[SLOTS], 1));
	}
}

/* What is there when memory becomes low counts, whatever the limits. */
static void adopted_beyond_the_limit(void **state)
{
	(void)state;
	make(50, 50, 50, 20);
	group_adopt(&g[SLOTS], 30);
	group_adopt(&g[SLOTS], 30);
	expect(60, 60, 60, 60, 0);
	assert_int_equal(g[SLOTS].peak_bytes, 60);
	assert_false(group_charge(&g[SLOTS], 1));
	assert_int_equal(g[SLOTS].denied, 1);
	assert_false(group_charge(&g[TX], 1)); /* the parent is over it, too */
	assert_int_equal(g[DEVICE].denied, 1);
	group_uncharge(&g[SLOTS], 30);
	assert_true(group_charge(&g[TX], 20));
	assert_false(group_charge(&g[SLOTS], 1));
	expect(50, 50, 50, 30, 20);
}

static void names(void **state)
{
	(void)state;
	memset(g, 0xff, sizeof(g));
	group_init(&g[HOST], "fifteen-letters", NULL, 1);
	assert_string_equal(g[HOST].name, "fifteen-letters");
	group_init(&g[NET], "more-than-sixteen-letters", &g[HOST], 1);
	assert_string_equal(g[NET].name, "more-than-sixte");
}

/* By the dice: each group holds what its children and itself were charged. */
static void sums(void **state)
{
	uint64_t own[GROUPS] = { 0 };
	uint64_t denied = 0;

	(void)state;
	srandom(1);
	make(900, 800, 700, 400);
	for (int i = 0; i < 200000; i++) {
		int at = (int)(random() % GROUPS);
		uint64_t n = (uint64_t)random() % 200;
		uint64_t device;

		if (random() % 2) {
			if (group_charge(&g[at], n))
				own[at] += n;
			else
				denied++;
		} else {
			n = own[at] ? n % (own[at] + 1) : 0;
			group_uncharge(&g[at], n);
			own[at] -= n;
		}
		device = own[DEVICE] + own[SLOTS] + own[TX] + own[RX];
		expect(own[HOST] + own[NET] + device, own[NET] + device, device,
		       own[SLOTS], own[TX]);
		for (int k = 0; k < GROUPS; k++)
			assert_true(g[k].usage_bytes <= g[k].limit_bytes &&
				    g[k].usage_bytes <= g[k].peak_bytes);
	}
	assert_true(denied > 1000);
	for (int k = 0; k < GROUPS; k++)
		denied -= g[k].denied;
	assert_int_equal(denied, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_charge_counts_all_the_way_up),
		cmocka_unit_test(all_or_nothing),
		cmocka_unit_test(adopted_beyond_the_limit),
		cmocka_unit_test(names),
		cmocka_unit_test(sums),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
