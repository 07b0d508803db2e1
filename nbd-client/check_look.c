// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How the items of check look at a host, and say what they found.
 *
 * Owns nothing. Command line only: blocks, and changes nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "nbd-client/check_look.h"
#include "nbd-client/host.h"
#include "nbd-client/procfile.h"
#include "nbd-client/sizing.h"

const struct attach_options look_swap_device = {
	.swap = SWAP_YES,
	.slots = SLOTS_DEFAULT,
	.slot_bytes = SLOT_BYTES_DEFAULT,
};

uint64_t look_footprint_kbytes(void)
{
	static const struct export_info any = {
		.block_max = NBD_MAX_PAYLOAD_DEFAULT,
	};
	struct engine_config config = sizing_config(&look_swap_device, &any);

	return (sizing_footprint_bytes(&config) + KIB - 1) / KIB;
}

/* ---- Results ---- */

void look_say(struct check_host_result *r, enum check_host_state state,
	      const char *format, ...)
{
	va_list args;

	r->state = state;
	va_start(args, format);
	vsnprintf(r->found, sizeof(r->found), format, args);
	va_end(args);
}

void look_remedy(struct check_host_result *r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(r->remedy, sizeof(r->remedy), format, args);
	va_end(args);
}

void look_unreadable(struct check_host_result *r, enum check_host_state state,
		     const char *what, int rc)
{
	look_say(r, state, "cannot read %s: %s", what, strerror(-rc));
	look_remedy(r, "run as root, outside any container");
}

void look_list_add(struct look_list *list, const char *format, ...)
{
	size_t used = strlen(list->text);
	va_list args;
	char one[160];

	va_start(args, format);
	vsnprintf(one, sizeof(one), format, args);
	va_end(args);
	list->count++;
	if (used + strlen(one) + 2 < LOOK_LIST_BYTES)
		snprintf(list->text + used, sizeof(list->text) - used, "%s%s",
			 used ? ", " : "", one);
	else
		list->left_out++;
}

const char *look_list_text(struct look_list *list)
{
	size_t used = strlen(list->text);

	if (list->left_out)
		snprintf(list->text + used, sizeof(list->text) - used,
			 " and %u more", list->left_out);
	list->left_out = 0;
	return list->text;
}

/* ---- Files ---- */

void look_path(char path[LOOK_PATH_BYTES], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(path, LOOK_PATH_BYTES, format, args);
	va_end(args);
}

int look_text(const char *root, const char *file, char *text, size_t text_bytes)
{
	char path[LOOK_PATH_BYTES];

	look_path(path, "%s/%s", root, file);
	return procfile_read(path, text, text_bytes);
}

int look_number(const char *root, const char *file, uint64_t *ret_value)
{
	char path[LOOK_PATH_BYTES];

	look_path(path, "%s/%s", root, file);
	return procfile_read_number(path, ret_value);
}

bool look_exists(const char *root, const char *file)
{
	char path[LOOK_PATH_BYTES];

	look_path(path, "%s/%s", root, file);
	return access(path, F_OK) == 0;
}

int look_capabilities(const struct check_host_paths *paths, uint64_t *ret_set)
{
	char text[4096];
	const char *line;
	int rc;

	rc = look_text(paths->proc, "self/status", text, sizeof(text));
	if (rc < 0)
		return rc;
	line = strstr(text, "\nCapEff:");
	return line && sscanf(line, " CapEff: %" SCNx64, ret_set) == 1 ?
		       0 :
		       -EINVAL;
}

bool look_capable(const struct check_host_paths *paths, unsigned int cap)
{
	uint64_t set;

	return !look_capabilities(paths, &set) && set >> cap & 1;
}

/* ---- The reserve ---- */

int look_meminfo(const struct check_host_paths *paths, const char *key,
		 uint64_t *ret_kbytes)
{
	char text[4096];
	int rc = look_text(paths->proc, "meminfo", text, sizeof(text));

	return rc < 0 ? rc : procfile_find_number(text, key, ret_kbytes);
}

int look_reserve(const struct check_host_paths *paths, struct look_reserve *ret)
{
	struct host_needs needs = sizing_needs(&look_swap_device, 1);
	struct look_reserve r = { .needed = host_needs_kbytes(&needs) };
	struct host_strangers strangers;
	char path[LOOK_PATH_BYTES];
	uint64_t total;
	int rc;

	(void)host_strangers_look(paths->proc, paths->sys, &strangers);
	r.needed += host_strangers_kbytes(&strangers);
	rc = look_number(paths->proc, "sys/vm/min_free_kbytes", &r.now);
	if (!rc)
		rc = look_meminfo(paths, "MemTotal", &total);
	if (rc)
		return rc;
	r.then = r.needed;
	if (r.then > total / HOST_MEMORY_DIVISOR)
		r.then = total / HOST_MEMORY_DIVISOR;
	look_path(path, "%s/sys/vm/min_free_kbytes", paths->proc);
	if (r.then > r.now && faccessat(AT_FDCWD, path, W_OK, AT_EACCESS))
		r.error = -errno;
	if (r.then < r.now || r.error)
		r.then = r.now;
	*ret = r;
	return 0;
}
