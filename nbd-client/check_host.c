// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a host must have to carry swap, as a table of items at the end; here
 * also the items about drivers and privilege.
 *
 * Owns nothing. Command line only: blocks, allocates, and changes nothing.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/capability.h>

#include "nbd-client/check_look.h"
#include "nbd-client/host.h"
#include "nbd-client/procfile.h"

/* SINGLE_ISSUER and DEFER_TASKRUN; from 6.6 on there is io_uring_disabled. */
#define KERNEL(major, minor) ((major) << 16 | (minor))
#define KERNEL_MIN KERNEL(6u, 1u)
#define KERNEL_IO_URING_DISABLED KERNEL(6u, 6u)

const struct check_host_paths check_host_paths = {
	.proc = "/proc",
	.sys = "/sys",
	.modules = "/lib/modules",
};

/* ---- Drivers and system calls ---- */

enum module {
	MODULE_ABSENT,
	MODULE_LOADABLE,
	MODULE_THERE, /* loaded or built in */
};

/* modules.dep: "kernel/drivers/block/nbd.ko.xz: other.ko.xz ..." */
static bool is_loadable(const struct check_host_paths *paths, const char *name)
{
	char path[LOOK_PATH_BYTES], release[128], *line = NULL, *base;
	size_t room = 0, length = strlen(name);
	bool found = false;
	FILE *file;

	if (look_text(paths->proc, "sys/kernel/osrelease", release,
		      sizeof(release)) < 0)
		return false;
	look_path(path, "%s/%s/modules.dep", paths->modules, release);
	file = fopen(path, "re");
	while (file && !found && getline(&line, &room, file) > 0) {
		line[strcspn(line, ":\n")] = '\0';
		base = strrchr(line, '/');
		base = base ? base + 1 : line;
		found = !strncmp(base, name, length) &&
			!strncmp(base + length, ".ko", 3);
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

static enum module find_module(const struct check_host_paths *paths,
			       const char *name)
{
	char path[LOOK_PATH_BYTES];

	look_path(path, "module/%s", name);
	if (look_exists(paths->sys, path))
		return MODULE_THERE;
	return is_loadable(paths, name) ? MODULE_LOADABLE : MODULE_ABSENT;
}

static void check_nbd(const struct check_host_paths *paths,
		      struct check_host_result *ret)
{
	enum module module = find_module(paths, "nbd");
	uint64_t disabled = 0;

	(void)look_number(paths->proc, "sys/kernel/modules_disabled",
			  &disabled);
	if (module == MODULE_THERE) {
		look_say(ret, CHECK_HOST_OK, "loaded");
	} else if (module == MODULE_ABSENT) {
		look_say(ret, CHECK_HOST_FAIL, "this kernel has none");
		look_remedy(ret,
			    "install the distribution's full kernel image, or "
			    "leave the container");
	} else if (disabled) {
		look_say(ret, CHECK_HOST_FAIL,
			 "not loaded, and kernel.modules_disabled is set");
		look_remedy(ret, "reboot, and load nbd before that is set");
	} else if (!look_capable(paths, CAP_SYS_MODULE)) {
		look_say(ret, CHECK_HOST_WARN,
			 "not loaded, and CAP_SYS_MODULE is missing");
		look_remedy(ret, "run \"modprobe nbd\" as root");
	} else {
		look_say(ret, CHECK_HOST_OK, "loadable; attach loads it");
	}
}

static void check_ublk(const struct check_host_paths *paths,
		       struct check_host_result *ret)
{
	static const char *const words[] = {
		[MODULE_ABSENT] = "absent; attach takes nbd",
		[MODULE_LOADABLE] = "loadable; attach ublk loads it",
		[MODULE_THERE] = "loaded",
	};

	look_say(ret, CHECK_HOST_OK, "%s",
		 words[find_module(paths, "ublk_drv")]);
}

static int kernel_version(const struct check_host_paths *paths,
			  unsigned int *ret_version)
{
	unsigned int major, minor;
	char text[128];
	int rc;

	rc = look_text(paths->proc, "sys/kernel/osrelease", text, sizeof(text));
	if (rc < 0)
		return rc;
	if (sscanf(text, "%u.%u", &major, &minor) != 2)
		return -EINVAL;
	*ret_version = KERNEL(major, minor);
	return 0;
}

static void check_io_uring(const struct check_host_paths *paths,
			   struct check_host_result *ret)
{
	unsigned int version;
	uint64_t disabled;
	int rc;

	rc = kernel_version(paths, &version);
	if (rc) {
		look_unreadable(ret, CHECK_HOST_FAIL, "kernel.osrelease", rc);
		return;
	}
	rc = look_number(paths->proc, "sys/kernel/io_uring_disabled",
			 &disabled);
	if (version < KERNEL_MIN) {
		look_say(ret, CHECK_HOST_FAIL, "Linux %u.%u is too old",
			 version >> 16, version & 0xffff);
		look_remedy(ret, "install Linux 6.1 or newer");
	} else if (rc && version >= KERNEL_IO_URING_DISABLED) {
		look_say(ret, CHECK_HOST_FAIL, "this kernel has none");
		look_remedy(ret, "install a kernel with CONFIG_IO_URING");
	} else if (!rc && disabled &&
		   (disabled != 1 || !look_capable(paths, CAP_SYS_ADMIN))) {
		look_say(ret, CHECK_HOST_FAIL,
			 "kernel.io_uring_disabled is %" PRIu64, disabled);
		look_remedy(ret,
			    "sysctl kernel.io_uring_disabled=0 (1 will do for "
			    "root)");
	} else {
		look_say(ret, CHECK_HOST_OK, "Linux %u.%u%s", version >> 16,
			 version & 0xffff,
			 rc || !disabled ? ", enabled" : ", enabled for root");
	}
}

/* ---- Privilege ---- */

static const struct {
	const char *name;
	unsigned int number;
} needed_caps[] = {
	{ "CAP_SYS_ADMIN", CAP_SYS_ADMIN },       /* the nbd driver's netlink */
	{ "CAP_SYS_RESOURCE", CAP_SYS_RESOURCE }, /* IO_FLUSHER, OOM score */
	{ "CAP_SYS_NICE", CAP_SYS_NICE },         /* SCHED_FIFO */
	{ "CAP_IPC_LOCK", CAP_IPC_LOCK },         /* mlockall */
	{ "CAP_NET_ADMIN", CAP_NET_ADMIN },       /* socket buffers by force */
};

/* In another than the first user namespace capabilities reach too little. */
static bool in_user_namespace(const struct check_host_paths *paths)
{
	unsigned long inside, outside, count;
	char text[256];

	if (look_text(paths->proc, "self/uid_map", text, sizeof(text)) < 0 ||
	    sscanf(text, "%lu %lu %lu", &inside, &outside, &count) != 3)
		return false;
	return inside || outside || count < UINT32_MAX;
}

static void check_privilege(const struct check_host_paths *paths,
			    struct check_host_result *ret)
{
	struct look_list missing = { .count = 0 };
	uint64_t set;
	size_t i;
	int rc;

	rc = look_capabilities(paths, &set);
	if (rc) {
		look_unreadable(ret, CHECK_HOST_FAIL, "CapEff", rc);
		return;
	}
	for (i = 0; i < sizeof(needed_caps) / sizeof(needed_caps[0]); i++) {
		if (!(set >> needed_caps[i].number & 1))
			look_list_add(&missing, "%s", needed_caps[i].name);
	}
	if (missing.count) {
		look_say(ret, CHECK_HOST_FAIL, "missing: %s",
			 look_list_text(&missing));
		look_remedy(ret, "run as root, or give the service these "
				 "capabilities");
	} else if (in_user_namespace(paths)) {
		look_say(ret, CHECK_HOST_FAIL, "root of a user namespace only");
		look_remedy(ret,
			    "run as root of the host, outside any container");
	} else {
		look_say(ret, CHECK_HOST_OK, "all %zu capabilities", i);
	}
}

static void check_memlock(const struct check_host_paths *paths,
			  struct check_host_result *ret)
{
	uint64_t needed = look_footprint_kbytes(), limit;
	char text[4096];
	int rc;

	if (look_capable(paths, CAP_IPC_LOCK) ||
	    look_capable(paths, CAP_SYS_RESOURCE)) {
		look_say(ret, CHECK_HOST_OK, "no limit for the privileged");
		return;
	}
	rc = look_text(paths->proc, "self/limits", text, sizeof(text));
	/* The first number is the soft limit, which is what counts. */
	if (rc >= 0)
		rc = procfile_find_number(text, "Max locked memory", &limit);
	if (rc == -EINVAL) {
		look_say(ret, CHECK_HOST_OK, "RLIMIT_MEMLOCK is unlimited");
	} else if (rc) {
		look_unreadable(ret, CHECK_HOST_FAIL, "RLIMIT_MEMLOCK", rc);
	} else if (limit / KIB < needed) {
		look_say(ret, CHECK_HOST_FAIL,
			 "RLIMIT_MEMLOCK is %" PRIu64 " KiB, a "
			 "swap device locks %" PRIu64,
			 limit / KIB, needed);
		look_remedy(ret,
			    "LimitMEMLOCK=infinity in the unit, or \"ulimit -l "
			    "unlimited\"");
	} else {
		look_say(ret, CHECK_HOST_OK,
			 "RLIMIT_MEMLOCK is %" PRIu64 " KiB, a "
			 "swap device locks %" PRIu64,
			 limit / KIB, needed);
	}
}

/* Kernels default to 950000 of a period of 1000000; -1: no limit at all. */
static void check_rt(const struct check_host_paths *paths,
		     struct check_host_result *ret)
{
	uint64_t period = 1000000;
	long long runtime;
	char text[32], *end;
	int rc;

	rc = look_text(paths->proc, "sys/kernel/sched_rt_runtime_us", text,
		       sizeof(text));
	runtime = rc < 0 ? 0 : strtoll(text, &end, 10);
	if (rc >= 0 && (end == text || *end))
		rc = -EINVAL;
	if (rc < 0) {
		look_unreadable(ret, CHECK_HOST_WARN,
				"kernel.sched_rt_runtime_us", rc);
		return;
	}
	(void)look_number(paths->proc, "sys/kernel/sched_rt_period_us",
			  &period);
	if (runtime == 0) {
		look_say(ret, CHECK_HOST_FAIL,
			 "kernel.sched_rt_runtime_us is 0: "
			 "real-time threads cannot run");
		look_remedy(ret, "sysctl kernel.sched_rt_runtime_us=950000");
	} else if (runtime > 0 && (uint64_t)runtime < period / 100 * 95) {
		look_say(ret, CHECK_HOST_WARN,
			 "kernel.sched_rt_runtime_us is %lld "
			 "of %" PRIu64 ": may be held back under load",
			 runtime, period);
		look_remedy(ret, "sysctl kernel.sched_rt_runtime_us=%" PRIu64,
			    period / 100 * 95);
	} else {
		look_say(ret, CHECK_HOST_OK,
			 "kernel.sched_rt_runtime_us is %lld", runtime);
	}
}

/* ---- The table ---- */

const struct check_host_item check_host_items[] = {
	{ "attached devices", check_host_devices },
	{ "nbd driver", check_nbd },
	{ "ublk driver", check_ublk },
	{ "io_uring", check_io_uring },
	{ "privilege", check_privilege },
	{ "memory locking", check_memlock },
	{ "real-time threads", check_rt },
	{ HOST_ROW_RESERVE, check_host_reserve },
	{ "free memory", check_host_memory },
	{ "memory pressure", check_host_pressure },
	{ "compaction", check_host_compaction },
	{ "watermark boost", check_host_boost },
	{ HOST_ROW_CGROUP, check_host_cgroup },
	{ "cgroup limits", check_host_limits },
	{ "network cards", check_host_cards },
	{ "TCP memory", check_host_tcp },
	{ "others' sockets", check_host_sockets },
	{ "existing swap", check_host_swap },
	{ NULL, NULL },
};

const char *check_host_state_name(enum check_host_state state)
{
	static const char *const names[] = {
		[CHECK_HOST_OK] = "ok",
		[CHECK_HOST_WARN] = "warn",
		[CHECK_HOST_FAIL] = "fail",
	};

	return names[state];
}
