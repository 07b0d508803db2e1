/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the items of check, each alone, on a /proc and /sys of our own. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "nbd-client/check_look.h"
#include "nbd-client/ethtool.h"
#include "nbd-client/host.h"
#include "tests/tree.h"

#define RELEASE "6.12.0-test"
#define CAPS_ALL "000001ffffffffff"
#define CAPS_NONE "0000000000000000"

static char tree[TREE_BYTES], proc[80], sys[80], modules[80];
static struct check_host_paths paths = { proc, sys, modules };
static struct check_host_result result;

/* In place of the ioctl: cards of ours have the names of real ones. */
int ethtool_ring_buffers(const char *interface, uint32_t *ret_buffers)
{
	if (strncmp(interface, "eth", 3))
		return -EOPNOTSUPP;
	*ret_buffers = 256;
	return 0;
}

static void put_caps(const char *hex)
{
	char text[128];

	snprintf(text, sizeof(text),
		 "Name:\tx\nCapPrm:\t%s\nCapEff:\t%s\nCapBnd:\t" CAPS_ALL "\n",
		 CAPS_ALL, hex);
	tree_put(proc, "self/status", text);
}

static void put_meminfo(uint64_t total, uint64_t available, uint64_t swap)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "MemTotal:       %8" PRIu64 " kB\nMemFree:  1 kB\n"
		 "MemAvailable:   %8" PRIu64 " kB\nSwapFree: %8" PRIu64 " kB\n",
		 total, available, swap);
	tree_put(proc, "meminfo", text);
}

static void put_min_free(uint64_t kbytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64 "\n", kbytes);
	tree_put(proc, "sys/vm/min_free_kbytes", text);
}

/* driver NULL: a virtual interface. */
static void put_card(const char *name, const char *driver, int queues)
{
	char path[200], target[100];
	int i;

	snprintf(path, sizeof(path), "class/net/%s/type", name);
	tree_put(sys, path, "1\n");
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

/* A host that is ready in every respect. */
static int setup(void **state)
{
	(void)state;
	tree_make(tree);
	snprintf(proc, sizeof(proc), "%s/proc", tree);
	snprintf(sys, sizeof(sys), "%s/sys", tree);
	snprintf(modules, sizeof(modules), "%s/modules", tree);
	tree_put(proc, "sys/kernel/osrelease", RELEASE "\n");
	tree_put(proc, "sys/kernel/io_uring_disabled", "0\n");
	tree_put(proc, "sys/kernel/modules_disabled", "0\n");
	tree_put(proc, "sys/kernel/sched_rt_runtime_us", "950000\n");
	tree_put(proc, "sys/kernel/sched_rt_period_us", "1000000\n");
	tree_put(proc, "sys/vm/compact_unevictable_allowed", "0\n");
	tree_put(proc, "sys/vm/watermark_boost_factor", "0\n");
	tree_put(proc, "sys/net/ipv4/tcp_mem", "10000\t20000\t30000\n");
	tree_put(proc, "sys/net/ipv4/udp_mem", "20000\t30000\t40000\n");
	tree_put(proc, "sys/net/ipv4/ipfrag_high_thresh", "4194304\n");
	tree_put(proc, "sys/net/ipv6/ip6frag_high_thresh", "4194304\n");
	tree_put(proc, "net/sockstat",
	    "sockets: used 10\n"
	    "TCP: inuse 1 orphan 0 tw 0 alloc 3 mem 205\n"
	    "UDP: inuse 0 mem 70000\n");
	tree_put(proc, "pressure/memory",
	    "some avg10=0.00 avg60=99.00 avg300=99.00 total=1\n"
	    "full avg10=0.00 avg60=99.00 avg300=99.00 total=1\n");
	tree_put(proc, "self/uid_map", "         0          0 4294967295\n");
	tree_put(proc, "self/cgroup", "0::/user.slice/user-0.slice/x.scope\n");
	tree_put(proc, "swaps", "Filename\tType\tSize\tUsed\tPriority\n");
	put_caps(CAPS_ALL);
	put_meminfo(1048576, 900000, 0);
	put_min_free(67584);
	tree_put(sys, "module/nbd/parameters/nbds_max", "16\n");
	tree_put(sys, "fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
	tree_put(sys, "fs/cgroup/user.slice/memory.max", "max\n");
	tree_put(sys, "fs/cgroup/user.slice/user-0.slice/x.scope/memory.min", "0\n");
	tree_put(sys, "fs/cgroup/user.slice/user-0.slice/x.scope/memory.high",
	    "max\n");
	put_card("lo", NULL, 1);
	put_card("eth0", "e1000e", 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	/* A test may have failed as somebody else. */
	if (seteuid(getuid()))
		return -1;
	return tree_remove(tree);
}

/* Asks one item: its state, and a word of what it says. */
static void expect(const char *name, enum check_host_state state,
		   const char *found)
{
	const struct check_host_item *item = check_host_items;

	while (item->name && strcmp(item->name, name))
		item++;
	assert_non_null(item->name);
	memset(&result, 0, sizeof(result));
	item->look(&paths, &result);
	if (result.state != state || !strstr(result.found, found))
		fail_msg("%s: %s, \"%s\" instead of %s, \"%s\"", name,
			 check_host_state_name(result.state), result.found,
			 check_host_state_name(state), found);
	/* A line each, and something to do about whatever is not ok. */
	assert_null(strchr(result.found, '\n'));
	assert_null(strchr(result.remedy, '\n'));
	assert_true(*result.found);
	assert_int_equal(*result.remedy != '\0', state != CHECK_HOST_OK);
}

#define OK(name, found) expect(name, CHECK_HOST_OK, found)
#define WARN(name, found) expect(name, CHECK_HOST_WARN, found)
#define FAIL(name, found) expect(name, CHECK_HOST_FAIL, found)

static void assert_remedy(const char *text)
{
	if (!strstr(result.remedy, text))
		fail_msg("remedy \"%s\" without \"%s\"", result.remedy, text);
}

static void a_host_that_is_ready(void **state)
{
	const struct check_host_item *item, *other;

	(void)state;
	for (item = check_host_items; item->name; item++) {
		OK(item->name, "");
		for (other = check_host_items; other != item; other++)
			assert_string_not_equal(item->name, other->name);
	}
}

/* Nothing is there: every item says something, and none crashes. */
static void a_host_without_proc(void **state)
{
	struct check_host_paths none = { "/nonexistent", "/nonexistent",
					 "/nonexistent" };
	const struct check_host_item *item;

	(void)state;
	for (item = check_host_items; item->name; item++) {
		memset(&result, 0, sizeof(result));
		item->look(&none, &result);
		assert_true(*result.found);
		assert_int_equal(*result.remedy != '\0',
				 result.state != CHECK_HOST_OK);
	}
}

/* Files that hold anything else than they should. */
static void a_host_that_talks_nonsense(void **state)
{
	static const char *const files[] = {
		"sys/kernel/osrelease", "sys/kernel/io_uring_disabled",
		"sys/kernel/sched_rt_period_us", "sys/vm/min_free_kbytes",
		"sys/net/ipv4/tcp_mem", "sys/net/ipv4/udp_mem", "net/sockstat", "pressure/memory",
		"self/uid_map", "self/cgroup", "self/limits", "self/status",
		"swaps", "meminfo",
	};
	static const char *const texts[] = {
		"", "\n", "x", "0::", "TCP: mem", "CapEff:", "-1",
		"99999999999999999999999999", "a\nb c d e f\n\n",
	};
	const struct check_host_item *item;
	size_t i, k;

	(void)state;
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		for (k = 0; k < sizeof(files) / sizeof(files[0]); k++)
			tree_put(proc, files[k], texts[i]);
		for (item = check_host_items; item->name; item++) {
			memset(&result, 0, sizeof(result));
			item->look(&paths, &result);
			assert_true(*result.found);
		}
	}
}

/* ---- Drivers and system calls ---- */

static void nbd_driver(void **state)
{
	(void)state;
	OK("nbd driver", "loaded");
	tree_drop(sys, "module/nbd/parameters/nbds_max");
	snprintf(sys, sizeof(sys), "%s/sys2", tree);
	FAIL("nbd driver", "none");
	assert_remedy("kernel image");
	tree_put(modules, RELEASE "/modules.dep",
	    "kernel/drivers/block/xnbd.ko.xz:\nkernel/x/nbdx.ko:\n"
	    "kernel/y/y.ko: kernel/drivers/block/nbd.ko\n");
	FAIL("nbd driver", "none");
	tree_put(modules, RELEASE "/modules.dep",
	    "kernel/x/x.ko: kernel/y/y.ko\nkernel/drivers/block/nbd.ko.xz:\n");
	OK("nbd driver", "loadable");
	tree_put(proc, "sys/kernel/modules_disabled", "1\n");
	FAIL("nbd driver", "modules_disabled");
	tree_put(proc, "sys/kernel/modules_disabled", "0\n");
	put_caps(CAPS_NONE);
	WARN("nbd driver", "CAP_SYS_MODULE");
	assert_remedy("modprobe nbd");
}

/* Whatever it is, it is only to be known. */
static void ublk_driver(void **state)
{
	(void)state;
	OK("ublk driver", "absent");
	tree_put(modules, RELEASE "/modules.dep",
	    "kernel/drivers/block/ublk_drv.ko:\n");
	OK("ublk driver", "loadable");
	tree_put(sys, "module/ublk_drv/parameters/ublks_max", "64\n");
	OK("ublk driver", "loaded");
}

static void io_uring(void **state)
{
	(void)state;
	OK("io_uring", "Linux 6.12, enabled");
	tree_put(proc, "sys/kernel/io_uring_disabled", "2\n");
	FAIL("io_uring", "io_uring_disabled is 2");
	assert_remedy("io_uring_disabled=0");
	tree_put(proc, "sys/kernel/io_uring_disabled", "1\n");
	OK("io_uring", "for root");
	put_caps(CAPS_NONE);
	FAIL("io_uring", "io_uring_disabled is 1");
	/* 6.6 and later have the sysctl if they have io_uring */
	tree_drop(proc, "sys/kernel/io_uring_disabled");
	FAIL("io_uring", "none");
	tree_put(proc, "sys/kernel/osrelease", "6.1.0-9-amd64\n");
	OK("io_uring", "Linux 6.1, enabled");
	tree_put(proc, "sys/kernel/osrelease", "5.19.1\n");
	FAIL("io_uring", "5.19 is too old");
	tree_put(proc, "sys/kernel/osrelease", "6.0.1\n");
	FAIL("io_uring", "6.0 is too old");
	tree_put(proc, "sys/kernel/osrelease", "10.0\n");
	FAIL("io_uring", "none");
	tree_drop(proc, "sys/kernel/osrelease");
	FAIL("io_uring", "cannot read");
}

/* ---- Privilege ---- */

static void privilege(void **state)
{
	(void)state;
	OK("privilege", "all 5");
	put_caps(CAPS_NONE);
	FAIL("privilege", "CAP_SYS_ADMIN, CAP_SYS_RESOURCE, CAP_SYS_NICE, "
			  "CAP_IPC_LOCK, CAP_NET_ADMIN");
	/* 14: CAP_IPC_LOCK, 12: CAP_NET_ADMIN */
	put_caps("000001ffffffafff");
	FAIL("privilege", "missing: CAP_IPC_LOCK, CAP_NET_ADMIN");
	put_caps("000001ffff7fffff");
	FAIL("privilege", "missing: CAP_SYS_NICE");
	put_caps(CAPS_ALL);
	tree_put(proc, "self/uid_map", "         0     100000      65536\n");
	FAIL("privilege", "user namespace");
	tree_drop(proc, "self/uid_map");
	OK("privilege", "all 5");
	tree_drop(proc, "self/status");
	FAIL("privilege", "cannot read");
}

static void put_limit(const char *soft)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "Limit                     Soft Limit  Hard Limit  Units\n"
		 "Max processes             10          20          processes\n"
		 "Max locked memory         %-12sunlimited   bytes\n", soft);
	tree_put(proc, "self/limits", text);
}

static void memory_locking(void **state)
{
	char bytes[32];

	(void)state;
	put_limit("65536");
	OK("memory locking", "privileged");
	put_caps("0000000001000000"); /* CAP_SYS_RESOURCE: attach raises it */
	OK("memory locking", "privileged");
	put_caps(CAPS_NONE);
	FAIL("memory locking", "RLIMIT_MEMLOCK is 64 KiB");
	assert_remedy("LimitMEMLOCK=infinity");
	put_limit("unlimited");
	OK("memory locking", "unlimited");
	snprintf(bytes, sizeof(bytes), "%" PRIu64,
		 look_footprint_kbytes() * KIB);
	put_limit(bytes);
	OK("memory locking", "a swap device locks");
	snprintf(bytes, sizeof(bytes), "%" PRIu64,
		 look_footprint_kbytes() * KIB - 1);
	put_limit(bytes);
	FAIL("memory locking", "a swap device locks");
	tree_drop(proc, "self/limits");
	FAIL("memory locking", "cannot read");
}

static void real_time_threads(void **state)
{
	static const char file[] = "sys/kernel/sched_rt_runtime_us";

	(void)state;
	OK("real-time threads", "is 950000");
	tree_put(proc, file, "-1\n");
	OK("real-time threads", "is -1");
	tree_put(proc, file, "1000000\n");
	OK("real-time threads", "is 1000000");
	tree_put(proc, file, "0\n");
	FAIL("real-time threads", "cannot run");
	assert_remedy("=950000");
	tree_put(proc, file, "100000\n");
	WARN("real-time threads", "100000 of 1000000");
	tree_put(proc, "sys/kernel/sched_rt_period_us", "100000\n");
	OK("real-time threads", "is 100000");
	tree_put(proc, file, "much\n");
	WARN("real-time threads", "cannot read");
	tree_drop(proc, file);
	WARN("real-time threads", "cannot read");
}

/* ---- Memory ---- */

static uint64_t reserve_needed(void)
{
	struct look_reserve r;

	assert_int_equal(look_reserve(&paths, &r), 0);
	assert_true(r.needed > HOST_SHARED_KBYTES);
	return r.needed;
}

static void kernel_reserve(void **state)
{
	uint64_t needed = reserve_needed();
	char text[64];

	(void)state;
	OK("kernel reserve", "67584, needed");
	put_min_free(needed);
	OK("kernel reserve", "needed");
	put_min_free(needed - 1);
	snprintf(text, sizeof(text), "attach --swap raises it to %" PRIu64,
		 needed);
	OK("kernel reserve", text);
	/* an eighth of all memory is the limit */
	put_meminfo(needed * 8, 100000, 0);
	OK("kernel reserve", text);
	put_meminfo(needed * 8 - 1, 100000, 0);
	put_min_free(1024);
	WARN("kernel reserve", "stops at 1/8 of memory");
	assert_remedy("--min-free=");
	put_min_free(needed);
	OK("kernel reserve", "needed");
	tree_drop(proc, "sys/vm/min_free_kbytes");
	FAIL("kernel reserve", "cannot read");
}

/* As in a container, and for whoever is not root. */
static void a_reserve_that_cannot_be_raised(void **state)
{
	uid_t uid = geteuid();
	char path[128];

	(void)state;
	put_min_free(1024);
	put_card("eth1", "virtio_net", 1);
	snprintf(path, sizeof(path), "%s/sys/vm/min_free_kbytes", proc);
	assert_int_equal(chmod(path, 0444), 0);
	if (!uid)
		assert_int_equal(seteuid(65534), 0);
	FAIL("kernel reserve", "cannot be raised");
	WARN("network cards", "may wait");
	if (!uid)
		assert_int_equal(seteuid(0), 0);
}

static void free_memory(void **state)
{
	uint64_t needed = look_footprint_kbytes();

	(void)state;
	put_meminfo(1048576, needed, 0);
	OK("free memory", "adds 0 to the reserve");
	put_meminfo(1048576, needed - 1, 0);
	FAIL("free memory", "MemAvailable is");
	put_meminfo(1048576, needed - 1, 1);
	WARN("free memory", "MemAvailable is");
	/* what the reserve grows by is not free any more */
	put_min_free(reserve_needed() - 500);
	put_meminfo(1048576, needed + 499, 0);
	FAIL("free memory", "adds 500 to the reserve");
	put_meminfo(1048576, needed + 500, 0);
	OK("free memory", "adds 500 to the reserve");
	tree_drop(proc, "meminfo");
	FAIL("free memory", "cannot read");
}

static void memory_pressure(void **state)
{
	(void)state;
	OK("memory pressure", "0.00 %");
	tree_put(proc, "pressure/memory", "some avg10=10.00 avg60=0.00\n");
	OK("memory pressure", "10.00 %");
	tree_put(proc, "pressure/memory", "some avg10=10.01 avg60=0.00\n");
	WARN("memory pressure", "10.01 %");
	tree_put(proc, "pressure/memory", "some avg10=100.00 avg60=0.00\n");
	WARN("memory pressure", "100.00 %");
	tree_drop(proc, "pressure/memory");
	OK("memory pressure", "not measured");
}

/* Each is switched off by attach, unless it may not. */
static void expect_off(const char *item, const char *name)
{
	uid_t uid = geteuid();
	char path[160], file[64], text[128];

	snprintf(file, sizeof(file), "sys/vm/%s", name);
	snprintf(path, sizeof(path), "%s/%s", proc, file);
	OK(item, "is 0");
	tree_put(proc, file, "150\n");
	snprintf(text, sizeof(text), "vm.%s is 150, attach --swap sets it to 0",
		 name);
	OK(item, text);
	assert_int_equal(chmod(path, 0444), 0);
	if (!uid)
		assert_int_equal(seteuid(65534), 0);
	WARN(item, "cannot be set");
	assert_remedy(name);
	if (!uid)
		assert_int_equal(seteuid(0), 0);
	tree_drop(proc, file);
	OK(item, "this kernel has no");
}

static void compaction(void **state)
{
	(void)state;
	expect_off("compaction", "compact_unevictable_allowed");
}

static void watermark_boost(void **state)
{
	(void)state;
	expect_off("watermark boost", "watermark_boost_factor");
}

/* ---- Memory cgroup ---- */

#define SCOPE "fs/cgroup/user.slice/user-0.slice/x.scope/"

static void memory_cgroup(void **state)
{
	(void)state;
	OK("memory cgroup", "in /user.slice/user-0.slice/x.scope");
	/* version 1 beside it */
	tree_put(proc, "self/cgroup", "4:memory:/a\n0::/user.slice/user-0.slice/"
				 "x.scope\n");
	OK("memory cgroup", "in /user.slice/user-0.slice/x.scope");
	tree_put(proc, "self/cgroup", "0::/\n");
	OK("memory cgroup", "attach makes one");
	tree_put(proc, "self/cgroup", "0::/without/controller\n");
	OK("memory cgroup", "attach makes one");
	tree_put(sys, "fs/cgroup/cgroup.controllers", "cpu memoryless\n");
	WARN("memory cgroup", "SO_RESERVE_MEM");
	tree_put(proc, "self/cgroup", "4:memory:/a\n");
	WARN("memory cgroup", "no cgroup v2");
	tree_drop(sys, "fs/cgroup/cgroup.controllers");
	tree_put(proc, "self/cgroup", "4:memory:/a\n0::/\n");
	WARN("memory cgroup", "no cgroup v2");
}

static void cgroup_limits(void **state)
{
	(void)state;
	OK("cgroup limits", "none");
	tree_put(sys, SCOPE "memory.high", "104857600\n");
	WARN("cgroup limits",
	     "memory.high of /user.slice/user-0.slice/x.scope is 102400 KiB");
	assert_remedy("memory.high");
	/* that of an ancestor is lower */
	tree_put(sys, "fs/cgroup/user.slice/memory.max", "52428800\n");
	WARN("cgroup limits", "memory.max of /user.slice is 51200 KiB");
	/* the root of a container has files that the real root has not */
	tree_put(sys, "fs/cgroup/memory.max", "4096\n");
	FAIL("cgroup limits", "memory.max of / is 4 KiB");
	tree_drop(sys, "fs/cgroup/memory.max");
	/* attach leaves it for one below the root */
	tree_drop(sys, SCOPE "memory.min");
	OK("cgroup limits", "none");
	tree_drop(sys, "fs/cgroup/cgroup.controllers");
	OK("cgroup limits", "in no cgroup v2");
}

/* ---- Network ---- */

static void network_cards(void **state)
{
	(void)state;
	OK("network cards", "eth0 e1000e (1 receive queue of 256)");
	assert_null(strstr(result.found, "lo "));
	OK("network cards", "eth0 e1000e (1 receive queue of 256)");
	put_card("ens4", "strange", 1);
	OK("network cards", "ens4 strange (1 receive queue of perhaps 1024)");
	put_card("eth1", "virtio_net", 2);
	OK("network cards", "eth1 virtio_net (2 receive queues of 256)");
	OK("network cards", "the reserve prevents it");
	put_min_free(HOST_SHARED_KBYTES - 1);
	OK("network cards", "the reserve of attach --swap prevents it");
	/* 1/8 of 128 MB less what the kernel keeps for itself */
	put_meminfo(120000, 80000, 0);
	put_min_free(1024);
	WARN("network cards", "refill may wait");
	assert_remedy("--min-free=16384");
}

static void many_cards(void **state)
{
	char name[16];
	int i;

	(void)state;
	for (i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "enp1s0f0v%d", i);
		put_card(name, i == 7 ? "virtio_net" : "iavf", 4);
	}
	put_meminfo(120000, 80000, 0);
	put_min_free(1024);
	WARN("network cards", " more: refill may wait");
}

static void virtual_cards_only(void **state)
{
	(void)state;
	tree_drop(sys, "class/net/eth0/device/driver");
	OK("network cards", "only virtual ones");
	snprintf(sys, sizeof(sys), "%s/sys2", tree);
	WARN("network cards", "cannot read");
}

static void tcp_memory(void **state)
{
	(void)state;
	OK("TCP memory", "allows 20000 pages, in use 205");
	tree_put(proc, "net/sockstat", "TCP: inuse 1 alloc 3 mem 19999\n");
	WARN("TCP memory", "in use 19999");
	assert_remedy("net.ipv4.tcp_mem=\"");
	tree_drop(proc, "net/sockstat");
	OK("TCP memory", "in use 0");
	tree_put(proc, "sys/net/ipv4/tcp_mem", "100\t200\t300\n");
	WARN("TCP memory", "allows 200 pages");
	tree_drop(proc, "sys/net/ipv4/tcp_mem");
	WARN("TCP memory", "cannot read");
}

static void others_sockets(void **state)
{
	static const char item[] = "others' sockets";

	(void)state;
	/* 30000 and 40000 pages of 4 KiB */
	OK(item, "hold 280000 KiB of 1048576");
	put_meminfo(600000, 300000, 0);
	WARN(item, "hold 280000 KiB of 600000");
	assert_remedy("udp_mem=\"4687 6250 9375\"");
	put_meminfo(1048576, 900000, 0);
	tree_put(proc, "sys/net/ipv4/udp_mem",
	    "1\t2\t18446744073709551615\n");
	WARN(item, "net.ipv4.tcp_mem");
	tree_drop(proc, "sys/net/ipv4/udp_mem");
	WARN(item, "cannot read");
}

static void existing_swap(void **state)
{
	(void)state;
	OK("existing swap", "none");
	tree_put(proc, "swaps",
	    "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	    "/dev/sda2                               partition\t1000\t0\t-2\n"
	    "/swap\\040file                           file\t1000\t0\t5\n");
	OK("existing swap", "/dev/sda2 (priority -2), /swap");
	OK("existing swap", "(priority 5)");
	tree_drop(proc, "swaps");
	FAIL("existing swap", "cannot swap");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_host_that_is_ready),
		TEST(a_host_without_proc),
		TEST(a_host_that_talks_nonsense),
		TEST(nbd_driver),
		TEST(ublk_driver),
		TEST(io_uring),
		TEST(privilege),
		TEST(memory_locking),
		TEST(real_time_threads),
		TEST(kernel_reserve),
		TEST(a_reserve_that_cannot_be_raised),
		TEST(free_memory),
		TEST(memory_pressure),
		TEST(compaction),
		TEST(watermark_boost),
		TEST(memory_cgroup),
		TEST(cgroup_limits),
		TEST(network_cards),
		TEST(many_cards),
		TEST(virtual_cards_only),
		TEST(tcp_memory),
		TEST(others_sockets),
		TEST(existing_swap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
