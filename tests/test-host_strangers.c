/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sum of what strangers may hold, on a /proc and /sys of our own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "nbd-client/ethtool.h"
#include "nbd-client/host.h"
#include "nbd-client/host_strangers.h"
#include "nbd-client/sizing.h"
#include "tests/tree.h"

static char tree[TREE_BYTES], proc[80], sys[80];
static struct host_strangers strangers;

/* In place of the ioctl: "eth256" has 256; a driver that does not tell is "eth". */
int ethtool_ring_buffers(const char *interface, uint32_t *ret_buffers)
{
	unsigned int buffers;

	if (sscanf(interface, "eth%u", &buffers) != 1)
		return -EOPNOTSUPP;
	*ret_buffers = buffers;
	return 0;
}

static void put_card(const char *name, const char *driver, int queues,
		     const char *mtu, const char *flags)
{
	char path[200], target[100];
	int i;

	snprintf(path, sizeof(path), "class/net/%s/mtu", name);
	tree_put(sys, path, mtu);
	snprintf(path, sizeof(path), "class/net/%s/flags", name);
	tree_put(sys, path, flags);
	for (i = 0; i < queues; i++) {
		snprintf(path, sizeof(path), "class/net/%s/queues/rx-%d/x",
			 name, i);
		tree_put(sys, path, "");
		snprintf(path, sizeof(path), "class/net/%s/queues/tx-%d/x",
			 name, i);
		tree_put(sys, path, "");
	}
	if (!driver)
		return;
	snprintf(path, sizeof(path), "class/net/%s/device/driver", name);
	snprintf(target, sizeof(target), "../../../bus/x/drivers/%s", driver);
	tree_link(sys, path, target);
}

static int setup(void **state)
{
	(void)state;
	tree_make(tree);
	snprintf(proc, sizeof(proc), "%s/proc", tree);
	snprintf(sys, sizeof(sys), "%s/sys", tree);
	tree_put(proc, "sys/net/ipv4/ipfrag_high_thresh", "4194304\n");
	tree_put(proc, "sys/net/ipv6/ip6frag_high_thresh", "2097152\n");
	put_card("lo", NULL, 1, "65536\n", "0x9\n");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return tree_remove(tree);
}

/* Looks; the sum in KiB. */
static uint64_t look(void)
{
	assert_int_equal(host_strangers_look(proc, sys, &strangers), 0);
	return host_strangers_kbytes(&strangers);
}

static void fragments_alone(void **state)
{
	(void)state;
	/* 6 MiB, of which the kernel may take 5/8 of the reserve */
	assert_int_equal(look(), 6144 * 8 / 5 + 1);
	assert_int_equal(strangers.nic_count, 0);
	/* a kernel without IPv6 */
	tree_put(proc, "sys/net/ipv6/ip6frag_high_thresh", "");
	assert_int_equal(look(), 4096 * 8 / 5 + 1);
}

static void rings_of_cards_that_are_up(void **state)
{
	(void)state;
	put_card("eth256", "e1000e", 1, "1500\n", "0x1003\n");
	assert_int_equal(look(), (6144 + 256 * 4) * 8 / 5 + 1);
	assert_int_equal(strangers.nic_count, 1);
	assert_true(strangers.nics[0].up && strangers.nics[0].ring_known);
	assert_string_equal(strangers.nics[0].driver, "e1000e");
	/* down: shown, not counted */
	put_card("eth4096", "ice", 16, "1500\n", "0x1002\n");
	assert_int_equal(look(), (6144 + 256 * 4) * 8 / 5 + 1);
	assert_int_equal(strangers.nic_count, 2);
	/* up: each queue has a ring, and 9000 bytes need four pages */
	tree_put(sys, "class/net/eth4096/flags", "0x1003\n");
	tree_put(sys, "class/net/eth4096/mtu", "9000\n");
	assert_int_equal(look(), (6144 + 256 * 4 + 16 * 4096 * 16) * 8 / 5 + 1);
}

static void a_driver_that_does_not_tell(void **state)
{
	(void)state;
	put_card("ens3", "strange", 2, "1500\n", "0x1003\n");
	assert_int_equal(look(), (6144 + 2 * 1024 * 4) * 8 / 5 + 1);
	assert_false(strangers.nics[0].ring_known);
}

/* Never less than what has been measured to be enough. */
static void a_driver_that_waits(void **state)
{
	(void)state;
	put_card("eth256", "virtio_net", 1, "1500\n", "0x1003\n");
	assert_int_equal(look(), HOST_SHARED_KBYTES);
	assert_true(strangers.refill_waits);
	tree_put(sys, "class/net/eth256/flags", "0x1002\n");
	assert_int_equal(look(), 6144 * 8 / 5 + 1);
	assert_false(strangers.refill_waits);
	put_card("eth1024", "virtio_net", 4, "1500\n", "0x1003\n");
	assert_int_equal(look(), (6144 + 4 * 1024 * 4) * 8 / 5 + 1);
}

static void more_cards_than_are_listed(void **state)
{
	char name[16];
	int i;

	(void)state;
	for (i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "eth%d", 100 + i);
		put_card(name, "iavf", 1, "1500\n", "0x1003\n");
	}
	/* 100 + 101 + ... + 119 buffers */
	assert_int_equal(look(), (6144 + 2190 * 4) * 8 / 5 + 1);
	assert_int_equal(strangers.nic_count, 20);
}

static void no_telling(void **state)
{
	(void)state;
	assert_int_equal(host_strangers_look("/nonexistent", "/nonexistent",
					     &strangers), -ENOENT);
	assert_int_equal(host_strangers_kbytes(&strangers),
			 HOST_SHARED_KBYTES);
}

/* What is printed adds up to what attach raises the reserve to. */
static void the_lines_are_the_sum(void **state)
{
	static const char *const cards[] = { NULL, "e1000e", "virtio_net" };
	const struct attach_options o = { .swap = SWAP_YES, .slots = 64,
					  .slot_bytes = 131072 };
	struct sizing_line lines[SIZING_LINES_MAX];
	struct host_needs needs = sizing_needs(&o, 1);
	size_t i, k, count;
	char name[16];

	(void)state;
	for (i = 0; i < 3; i++) {
		uint64_t sum = 0;

		snprintf(name, sizeof(name), "eth%zu", 77 + i);
		put_card(name, cards[i], 1, "1500\n", "0x1003\n");
		look();
		count = sizing_kernel_lines(&o, 1, &strangers, lines);
		assert_in_range(count, 1, SIZING_LINES_MAX);
		for (k = 0; k < count; k++)
			sum += lines[k].bytes;
		assert_int_equal(sum, (host_needs_kbytes(&needs) +
				       host_strangers_kbytes(&strangers)) *
					      KIB);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(fragments_alone),
		TEST(rings_of_cards_that_are_up),
		TEST(a_driver_that_does_not_tell),
		TEST(a_driver_that_waits),
		TEST(more_cards_than_are_listed),
		TEST(no_telling),
		TEST(the_lines_are_the_sum),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
