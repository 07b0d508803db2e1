// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A memory cgroup for this process. A socket can only reserve its accounting
 * memory (SO_RESERVE_MEM) if it was made in one that is not the root, and
 * memory.min there keeps global reclaim from shrinking our receive windows
 * (net/core/sock.c, sock_reserve_memory). A service manager gives us one; else we make our own.
 *
 * Control thread.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nbd-client/host.h"
#include "nbd-client/procfile.h"
#include "nbd-client/stats.h"

/* What ours are called, right below the root. */
#define CGROUP_PREFIX "/nbd-client-"
#define PATH_BYTES 512u

/* The root did not hand the memory controller down before we asked it to. */
static bool cgroup_enabled;

static int cgroup_path(char *path, const char *cgroup, const char *file)
{
	int n = snprintf(path, PATH_BYTES, "%s%s/%s", host_paths.cgroup,
			 cgroup, file);

	return n < (int)PATH_BYTES ? 0 : -ENAMETOOLONG;
}

static int write_file(const char *cgroup, const char *file, const char *text)
{
	char path[PATH_BYTES];
	int ret = cgroup_path(path, cgroup, file);

	return ret ? ret : procfile_write(path, text);
}

static bool has_file(const char *cgroup, const char *file)
{
	char path[PATH_BYTES];

	return cgroup_path(path, cgroup, file) == 0 && access(path, F_OK) == 0;
}

/* "/system.slice/x.service", of the unified hierarchy; "" for the root. */
static int own_cgroup(char ret_cgroup[PATH_BYTES])
{
	char path[PATH_BYTES], text[2048], *line;
	int ret;

	snprintf(path, sizeof(path), "%s/self/cgroup", host_paths.proc);
	ret = procfile_read(path, text, sizeof(text));
	if (ret < 0)
		return ret;
	line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	if (!line)
		return -ENOENT;
	line = strstr(line, "0::") + 3;
	line[strcspn(line, "\n")] = '\0';
	snprintf(ret_cgroup, PATH_BYTES, "%.500s",
		 strcmp(line, "/") == 0 ? "" : line);
	return 0;
}

/* Moves into a cgroup of our own below the root. */
static int make_own(const char *name, char ret_cgroup[PATH_BYTES])
{
	char path[PATH_BYTES], text[1024];
	int ret = cgroup_path(path, "", "cgroup.controllers");

	if (!ret)
		ret = procfile_read(path, text, sizeof(text));
	if (ret < 0)
		return ret;
	if (!strstr(text, "memory"))
		return -ENOTSUP;
	ret = cgroup_path(path, "", "cgroup.subtree_control");
	if (!ret)
		ret = procfile_read(path, text, sizeof(text));
	if (ret >= 0 && !strstr(text, "memory")) {
		ret = procfile_write(path, "+memory");
		cgroup_enabled = ret == 0;
	}
	if (ret < 0)
		return ret;
	snprintf(ret_cgroup, PATH_BYTES, CGROUP_PREFIX "%s", name);
	ret = cgroup_path(path, ret_cgroup, "");
	if (!ret && mkdir(path, 0755) < 0 && errno != EEXIST)
		ret = -errno;
	if (!ret)
		ret = write_file(ret_cgroup, "cgroup.procs", "0");
	return ret;
}

void host_cgroup_enter(const char *name, uint64_t min_bytes,
		       struct stats_guarantee rows[STATS_GUARANTEES])
{
	char cgroup[PATH_BYTES], text[32];
	int ret = own_cgroup(cgroup);

	if (!ret && (!cgroup[0] || !has_file(cgroup, "memory.min")))
		ret = make_own(name, cgroup);
	if (ret < 0) {
		stats_guarantee_set(rows, HOST_ROW_CGROUP, GUARANTEE_DEGRADED,
				    "in no memory cgroup: %s",
				    ret == -ENOENT || ret == -ENOTSUP ?
					    "no cgroup v2 with the memory controller" :
					    strerror(-ret));
		return;
	}
	if (strncmp(cgroup, CGROUP_PREFIX, strlen(CGROUP_PREFIX)) == 0) {
		/* Another's limits are the administrator's business. */
		snprintf(text, sizeof(text), "%llu",
			 (unsigned long long)min_bytes);
		(void)write_file(cgroup, "memory.min", text);
		(void)write_file(cgroup, "memory.swap.max", "0");
	}
	stats_guarantee_set(rows, HOST_ROW_CGROUP, GUARANTEE_OK, "in %.90s",
			    cgroup);
}

static bool has_children(void)
{
	DIR *root = opendir(host_paths.cgroup);
	struct dirent *entry;
	bool found = false;

	while (root && !found && (entry = readdir(root)))
		found = entry->d_type == DT_DIR && entry->d_name[0] != '.';
	if (root)
		closedir(root);
	return found;
}

void host_cgroup_leave(void)
{
	char cgroup[PATH_BYTES], path[PATH_BYTES];

	if (own_cgroup(cgroup) < 0 ||
	    strncmp(cgroup, CGROUP_PREFIX, strlen(CGROUP_PREFIX)) != 0)
		return;
	if (write_file("", "cgroup.procs", "0") < 0 ||
	    cgroup_path(path, cgroup, "") < 0)
		return;
	/* Not empty: a detach that a signal has started; it comes by, too. */
	(void)rmdir(path);
	if (cgroup_enabled && !has_children())
		(void)write_file("", "cgroup.subtree_control", "-memory");
}

/* The kernel removes only what nobody is in: no living process loses its own. */
void host_cgroup_recover(const struct host_tell *tell)
{
	DIR *root = opendir(host_paths.cgroup);
	const char *prefix = &CGROUP_PREFIX[1];
	struct dirent *entry;
	char path[PATH_BYTES];
	int n;

	while (root && (entry = readdir(root))) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
			continue;
		n = snprintf(path, sizeof(path), "%s/%s", host_paths.cgroup,
			     entry->d_name);
		if (n < (int)sizeof(path) && rmdir(path) == 0)
			tell->line(tell->arg, path,
				   "cgroup of a daemon that has died, removed");
	}
	if (root)
		closedir(root);
}
