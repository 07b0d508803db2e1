// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Items about memory: the kernel's reserve, what is free, how hard it is to
 * get, the memory cgroup, and other swap.
 *
 * Owns nothing. Command line only: blocks, and changes nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "nbd-client/check_look.h"
#include "nbd-client/host.h"

/* Tasks waited for memory in so much of the last ten seconds. */
#define PRESSURE_PERCENT 10u

/* ---- The reserve and what is free ---- */

void check_host_reserve(const struct check_host_paths *paths,
			struct check_host_result *ret)
{
	struct look_reserve r;
	int rc;

	rc = look_reserve(paths, &r);
	if (rc) {
		look_unreadable(ret, CHECK_HOST_FAIL, "vm.min_free_kbytes", rc);
	} else if (r.error) {
		look_say(ret, CHECK_HOST_FAIL,
			 "vm.min_free_kbytes is %" PRIu64 ", needed %" PRIu64
			 ", cannot be raised: %s",
			 r.now, r.needed, strerror(-r.error));
		look_remedy(ret, "run as root, outside any container");
	} else if (r.then < r.needed) {
		look_say(ret, CHECK_HOST_WARN,
			 "vm.min_free_kbytes is %" PRIu64 ", needed %" PRIu64
			 ", but attach stops at 1/%u of memory: %" PRIu64,
			 r.now, r.needed, HOST_MEMORY_DIVISOR, r.then);
		look_remedy(ret, "attach --swap --min-free=%" PRIu64, r.needed);
	} else if (r.then > r.now) {
		look_say(ret, CHECK_HOST_OK,
			 "vm.min_free_kbytes is %" PRIu64
			 ", attach --swap raises it to %" PRIu64,
			 r.now, r.then);
	} else {
		look_say(ret, CHECK_HOST_OK,
			 "vm.min_free_kbytes is %" PRIu64 ", needed %" PRIu64,
			 r.now, r.needed);
	}
}

void check_host_memory(const struct check_host_paths *paths,
		       struct check_host_result *ret)
{
	uint64_t locked = look_footprint_kbytes(), more;
	uint64_t available, swappable = 0;
	struct look_reserve r;
	int rc;

	rc = look_reserve(paths, &r);
	if (!rc)
		rc = look_meminfo(paths, "MemAvailable", &available);
	if (rc) {
		look_unreadable(ret, CHECK_HOST_FAIL, "MemAvailable", rc);
		return;
	}
	(void)look_meminfo(paths, "SwapFree", &swappable);
	more = r.then - r.now;
	look_say(ret, CHECK_HOST_OK,
		 "MemAvailable is %" PRIu64 " KiB; a swap device "
		 "locks %" PRIu64 " and adds %" PRIu64 " to the reserve",
		 available, locked, more);
	if (available >= locked + more)
		return;
	ret->state = available + swappable >= locked + more ? CHECK_HOST_WARN :
							      CHECK_HOST_FAIL;
	look_remedy(ret, "attach earlier, before memory is used up, or with a "
			 "smaller --depth");
}

/* A sysctl that attach --swap switches off, if it may. */
static void look_off(const struct check_host_paths *paths, const char *name,
		     const char *effect, struct check_host_result *ret)
{
	char path[LOOK_PATH_BYTES];
	uint64_t value;

	look_path(path, "sys/vm/%s", name);
	if (look_number(paths->proc, path, &value)) {
		look_say(ret, CHECK_HOST_OK, "this kernel has no vm.%s", name);
		return;
	}
	look_path(path, "%s/sys/vm/%s", paths->proc, name);
	if (!value) {
		look_say(ret, CHECK_HOST_OK, "vm.%s is 0", name);
	} else if (!faccessat(AT_FDCWD, path, W_OK, AT_EACCESS)) {
		look_say(ret, CHECK_HOST_OK,
			 "vm.%s is %" PRIu64 ", attach --swap sets it to 0",
			 name, value);
	} else {
		look_say(ret, CHECK_HOST_WARN,
			 "vm.%s is %" PRIu64 " and cannot be set: %s", name,
			 value, effect);
		look_remedy(ret, "sysctl vm.%s=0, outside any container", name);
	}
}

void check_host_compaction(const struct check_host_paths *paths,
			   struct check_host_result *ret)
{
	look_off(paths, "compact_unevictable_allowed",
		 "locked pages may be moved", ret);
}

void check_host_boost(const struct check_host_paths *paths,
		      struct check_host_result *ret)
{
	look_off(paths, "watermark_boost_factor",
		 "fragmentation makes others stop earlier", ret);
}

void check_host_pressure(const struct check_host_paths *paths,
			 struct check_host_result *ret)
{
	unsigned int whole, hundredths;
	char text[256];

	/* Exists but cannot be read when it is switched off. */
	if (look_text(paths->proc, "pressure/memory", text, sizeof(text)) < 0 ||
	    sscanf(text, "some avg10=%u.%u", &whole, &hundredths) != 2) {
		look_say(ret, CHECK_HOST_OK,
			 "not measured (psi=1 on the kernel's "
			 "command line does)");
		return;
	}
	look_say(ret, CHECK_HOST_OK,
		 "tasks waited for memory %u.%02u %% of the last 10 s",
		 whole, hundredths);
	if (whole * 100 + hundredths <= PRESSURE_PERCENT * 100)
		return;
	ret->state = CHECK_HOST_WARN;
	look_remedy(ret, "attach before memory is used up; stop what takes it");
}

/* ---- Memory cgroup ---- */

/*
 * "/system.slice/x.service" of the unified hierarchy, "" for the root. Where
 * that has no memory controller attach makes a cgroup right below the root, so
 * it is the root then.
 */
static int own_cgroup(const struct check_host_paths *paths,
		      char ret_cgroup[LOOK_PATH_BYTES])
{
	char path[LOOK_PATH_BYTES], text[2048], *line;
	int rc;

	rc = look_text(paths->proc, "self/cgroup", text, sizeof(text));
	if (rc < 0)
		return rc;
	line = strncmp(text, "0::", 3) ? strstr(text, "\n0::") : text;
	if (!line || !look_exists(paths->sys, "fs/cgroup/cgroup.controllers"))
		return -ENOENT;
	line = strchr(line, '/');
	if (!line)
		return -EINVAL;
	line[strcspn(line, "\n")] = '\0';
	look_path(ret_cgroup, "%s", strcmp(line, "/") ? line : "");
	look_path(path, "fs/cgroup%.500s/memory.min", ret_cgroup);
	if (!look_exists(paths->sys, path))
		*ret_cgroup = '\0';
	return 0;
}

static bool root_has_memory(const struct check_host_paths *paths)
{
	char text[512], *word, *rest = text;

	if (look_text(paths->sys, "fs/cgroup/cgroup.controllers", text,
		      sizeof(text)) < 0)
		return false;
	while ((word = strsep(&rest, " \n"))) {
		if (!strcmp(word, "memory"))
			return true;
	}
	return false;
}

void check_host_cgroup(const struct check_host_paths *paths,
		       struct check_host_result *ret)
{
	char cgroup[LOOK_PATH_BYTES];
	int rc = own_cgroup(paths, cgroup);

	if (!rc && *cgroup) {
		look_say(ret, CHECK_HOST_OK, "in %.200s", cgroup);
	} else if (!rc && root_has_memory(paths)) {
		look_say(ret, CHECK_HOST_OK, "attach makes one");
	} else {
		look_say(ret, CHECK_HOST_WARN,
			 "no cgroup v2 with the memory "
			 "controller: no SO_RESERVE_MEM");
		look_remedy(ret, "boot with systemd.unified_cgroup_hierarchy=1 "
				 "cgroup_enable=memory");
	}
}

/* The lower one of a limit so far and that of a cgroup, if it has any. */
static void lower(const struct check_host_paths *paths, const char *cgroup,
		  const char *file, uint64_t *limit, const char **limit_file,
		  char limit_cgroup[LOOK_PATH_BYTES])
{
	char path[LOOK_PATH_BYTES];
	uint64_t value;

	look_path(path, "fs/cgroup%.500s/%s", cgroup, file);
	/* "max" is no number. */
	if (look_number(paths->sys, path, &value) || value >= *limit)
		return;
	*limit = value;
	*limit_file = file;
	look_path(limit_cgroup, "%s", *cgroup ? cgroup : "/");
}

/* The limits of the ancestors of a cgroup count as well. */
void check_host_limits(const struct check_host_paths *paths,
		       struct check_host_result *ret)
{
	char cgroup[LOOK_PATH_BYTES], where[LOOK_PATH_BYTES] = "", *slash;
	uint64_t limit = UINT64_MAX, locked = look_footprint_kbytes();
	const char *file = NULL;

	if (own_cgroup(paths, cgroup)) {
		look_say(ret, CHECK_HOST_OK, "in no cgroup v2");
		return;
	}
	do {
		lower(paths, cgroup, "memory.max", &limit, &file, where);
		lower(paths, cgroup, "memory.high", &limit, &file, where);
		slash = strrchr(cgroup, '/');
		if (slash)
			*slash = '\0';
	} while (slash);
	if (!file) {
		look_say(ret, CHECK_HOST_OK, "none");
		return;
	}
	look_say(ret, limit / KIB < locked ? CHECK_HOST_FAIL : CHECK_HOST_WARN,
		 "%s of %.120s is %" PRIu64
		 " KiB, a swap device locks %" PRIu64,
		 file, where, limit / KIB, locked);
	look_remedy(ret,
		    "attach from outside this cgroup, or set %s there to max",
		    file);
}

/* ---- Swap ---- */

void check_host_swap(const struct check_host_paths *paths,
		     struct check_host_result *ret)
{
	char text[4096], name[128], *line;
	struct look_list areas = { .count = 0 };
	int priority, rc;

	rc = look_text(paths->proc, "swaps", text, sizeof(text));
	if (rc < 0) {
		look_say(ret, CHECK_HOST_FAIL,
			 "this kernel cannot swap: no /proc/swaps");
		look_remedy(ret, "install a kernel with CONFIG_SWAP");
		return;
	}
	/* The first line is a heading. */
	for (line = strchr(text, '\n'); line; line = strchr(line, '\n')) {
		line++;
		if (sscanf(line, "%127s %*s %*s %*s %d", name, &priority) == 2)
			look_list_add(&areas, "%s (priority %d)", name,
				      priority);
	}
	look_say(ret, CHECK_HOST_OK, "%s",
		 areas.count ? look_list_text(&areas) : "none");
}
