// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A block device as swap: looking, writing the signature, switching on and off.
 *
 * Owns nothing. The command line, and the control thread before the seal.
 */
#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#include "nbd-client/procfile.h"
#include "nbd-client/swap.h"

/*
 * Beginning of an area of which nothing must be lost unasked: what no magic
 * number tells is still somebody's data if it is not zero.
 */
#define LOOK_BYTES 65536u

#define SIGNATURE "SWAPSPACE2"
#define SIGNATURE_BYTES 10u

/*
 * The header of an area, version 1, in the second KiB of its first page: union
 * swap_header in the kernel's include/linux/swap.h. In host byte order. The
 * first KiB is left to boot sectors; the signature ends the page.
 */
#define HEADER_OFFSET 1024u
struct swap_header {
	uint32_t version;
	uint32_t last_page;
	uint32_t bad_page_count;
	uint8_t uuid[16];
	char volume[16];
	uint32_t padding[117];
	uint32_t bad_pages[1];
};
_Static_assert(offsetof(struct swap_header, bad_pages) == 512, "as the kernel");

const char *swap_table_path = "/proc/swaps";

static size_t page_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static const struct err_hint open_hints[] = {
	{ EACCES, X_PERMISSION, "run as root, and not on a read-only export" },
	{ EPERM, X_PERMISSION, "run as root, and not on a read-only export" },
	{ EBUSY, X_BUSY, "it is in use" },
	{ EROFS, X_FAILURE, "a read-only export cannot be swap" },
	{ ENOENT, X_NOT_FOUND, NULL },
	{ ENXIO, X_NOT_FOUND, NULL },
	{ ENODEV, X_NOT_FOUND, NULL },
	{ 0, X_FAILURE, NULL },
};

static int open_failed(const char *device, int error, struct err *err)
{
	return err_explain(err, open_hints, error, "cannot open %s", device);
}

/* ---- What is on it ---- */

/* A swap area of this kernel: its page size and the current version. */
static bool usable_signature(blkid_probe probe)
{
	const char *version, *offset;

	return !blkid_probe_lookup_value(probe, "VERSION", &version, NULL) &&
	       !strcmp(version, "1") &&
	       !blkid_probe_lookup_value(probe, "SBMAGIC_OFFSET", &offset,
					 NULL) &&
	       strtoull(offset, NULL, 10) == page_bytes() - SIGNATURE_BYTES;
}

static int zero_beginning(int fd, bool *ret_zero)
{
	uint8_t data[4096];
	bool zero = true;
	off_t offset = 0;
	ssize_t n, i;

	while (offset < (off_t)LOOK_BYTES) {
		n = pread(fd, data, sizeof(data), offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		for (i = 0; i < n; i++)
			zero &= !data[i];
		offset += n;
	}
	*ret_zero = zero;
	return 0;
}

static void set_type(char *ret_type, const char *type)
{
	snprintf(ret_type, SWAP_TYPE_BYTES, "%s", type);
}

/* Probes an open device; the caller frees *ret_probe also on failure. */
static int probe_fd(int fd, blkid_probe *ret_probe,
		    enum swap_content *ret_content, char *ret_type)
{
	enum swap_content content = SWAP_OTHER;
	const char *type = "several kinds of content";
	blkid_probe probe;
	bool zero = false;
	int rc;

	probe = *ret_probe = blkid_new_probe();
	if (!probe)
		return -ENOMEM;
	if (blkid_probe_set_device(probe, fd, 0, 0) ||
	    blkid_probe_enable_superblocks(probe, 1) ||
	    blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE |
							     BLKID_SUBLKS_VERSION |
							     BLKID_SUBLKS_MAGIC) ||
	    blkid_probe_enable_partitions(probe, 1) ||
	    blkid_probe_set_partitions_flags(probe, BLKID_PARTS_MAGIC))
		return -EIO;
	rc = blkid_do_safeprobe(probe); /* 1: nothing, -2: contradictions */
	if (rc == -1)
		return -EIO;
	if (rc == 1) {
		rc = zero_beginning(fd, &zero);
		if (rc)
			return rc;
		content = zero ? SWAP_EMPTY : SWAP_OTHER;
		type = "unknown data";
	} else if (rc == 0 &&
		   !blkid_probe_lookup_value(probe, "TYPE", &type, NULL)) {
		if (!strcmp(type, "swap") && usable_signature(probe))
			content = SWAP_SIGNATURE;
		else if (!strcmp(type, "swap"))
			type = "swap of another kind of machine";
	} else if (rc == 0 &&
		   blkid_probe_lookup_value(probe, "PTTYPE", &type, NULL)) {
		type = "unknown data";
	}
	*ret_content = content;
	if (content == SWAP_OTHER)
		set_type(ret_type, type);
	return 0;
}

static int probe_failed(const char *device, int rc, struct err *err)
{
	return err_explain(err, NULL, -rc, "cannot read %s", device);
}

int swap_inspect(const char *device, enum swap_content *ret_content,
		 char ret_type[SWAP_TYPE_BYTES], struct err *err)
{
	blkid_probe probe = NULL;
	int fd, rc;

	fd = open(device, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return open_failed(device, errno, err);
	rc = probe_fd(fd, &probe, ret_content, ret_type);
	if (probe)
		blkid_free_probe(probe);
	close(fd);
	return rc ? probe_failed(device, rc, err) : 0;
}

/* ---- Writing ---- */

/*
 * Every magic number that libblkid knows, so that nothing takes the area for
 * what it was before.
 */
static int wipe(int fd)
{
	blkid_probe probe = blkid_new_probe();
	int rc;

	if (!probe)
		return -ENOMEM;
	rc = blkid_probe_set_device(probe, fd, 0, 0);
	if (!rc) {
		blkid_probe_enable_superblocks(probe, 1);
		blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_MAGIC);
		blkid_probe_enable_partitions(probe, 1);
		blkid_probe_set_partitions_flags(probe, BLKID_PARTS_MAGIC);
	}
	while (!rc && (rc = blkid_do_probe(probe)) == 0)
		rc = blkid_do_wipe(probe, 0);
	blkid_free_probe(probe);
	return rc == 1 ? 0 : -EIO;
}

static int write_header(int fd, uint64_t size_bytes)
{
	size_t page = page_bytes();
	uint64_t last = size_bytes / page - 1;
	struct swap_header header = { .version = 1 };
	uint8_t *first;
	int rc = 0;

	/* The kernel's page offsets in an area are of 32 bits here. */
	header.last_page = last > UINT32_MAX ? UINT32_MAX : (uint32_t)last;
	if (getrandom(header.uuid, sizeof(header.uuid), 0) !=
	    sizeof(header.uuid))
		return -EIO;
	header.uuid[6] = (header.uuid[6] & 0x0f) | 0x40; /* RFC 4122: random */
	header.uuid[8] = (header.uuid[8] & 0x3f) | 0x80;
	first = calloc(1, page);
	if (!first)
		return -ENOMEM;
	memcpy(first + HEADER_OFFSET, &header, sizeof(header));
	memcpy(first + page - SIGNATURE_BYTES, SIGNATURE, SIGNATURE_BYTES);
	if (pwrite(fd, first, page, 0) != (ssize_t)page)
		rc = errno ? -errno : -EIO;
	else if (fsync(fd))
		rc = -errno;
	free(first);
	return rc;
}

static int check_content(int fd, const char *device, struct err *err)
{
	enum swap_content content = SWAP_OTHER;
	char type[SWAP_TYPE_BYTES] = "swap";
	blkid_probe probe = NULL;
	int rc;

	rc = probe_fd(fd, &probe, &content, type);
	if (probe)
		blkid_free_probe(probe);
	if (rc)
		return probe_failed(device, rc, err);
	if (content == SWAP_EMPTY)
		return 0;
	return err_set(err, X_BUSY, EEXIST,
		       "%s holds %s, which swap would destroy; --force "
		       "overwrites it", device, type);
}

int swap_format(const char *device, uint64_t size_bytes, bool force,
		struct err *err)
{
	struct stat st;
	int fd, rc = 0;

	if (size_bytes / page_bytes() < SWAP_PAGES_MIN)
		return err_set(err, X_FAILURE, EINVAL,
			       "%s is too small for swap: %llu bytes, and at "
			       "least %zu are needed; use a larger export",
			       device, (unsigned long long)size_bytes,
			       SWAP_PAGES_MIN * page_bytes());
	fd = open(device, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return open_failed(device, errno, err);
	/* A block device that is mounted or swap already refuses this. */
	if (!fstat(fd, &st) && S_ISBLK(st.st_mode)) {
		close(fd);
		fd = open(device, O_RDWR | O_CLOEXEC | O_EXCL);
		if (fd < 0)
			return open_failed(device, errno, err);
	}
	if (!force)
		rc = check_content(fd, device, err);
	if (rc)
		goto out;
	if (force)
		rc = wipe(fd);
	if (!rc)
		rc = write_header(fd, size_bytes);
	if (rc)
		rc = err_explain(err, NULL, -rc,
				 "cannot write a swap signature to %s", device);
out:
	close(fd);
	return rc;
}

/* ---- On and off ---- */

static const struct err_hint swapon_hints[] = {
	/* Also when there are too many areas, says swapon(2). */
	{ EPERM, X_PERMISSION,
	  "run as root (or too many swap areas are active)" },
	{ EBUSY, X_BUSY, "it is in use already, as swap or otherwise" },
	{ EINVAL, X_FAILURE,
	  "the kernel does not accept the swap signature (has the export shrunk?); --force writes a new one" },
	{ 0, X_FAILURE, NULL },
};

int swap_activate(const char *device, int priority, struct err *err)
{
	int flags = 0;

	if (priority >= 0)
		flags = SWAP_FLAG_PREFER |
			((priority << SWAP_FLAG_PRIO_SHIFT) &
			 SWAP_FLAG_PRIO_MASK);
	if (!swapon(device, flags))
		return 0;
	return err_explain(err, swapon_hints, errno,
			   "cannot activate %s as swap", device);
}

static const struct err_hint swapoff_hints[] = {
	{ EINVAL, X_FAILURE,
	  "another process is switching it off, or it is active under another name; see /proc/swaps" },
	{ EINTR, X_FAILURE, "it is still active" },
	{ ENOMEM, X_FAILURE,
	  "not enough to bring back what is swapped out; end programs or add other swap, then try again" },
	{ EPERM, X_PERMISSION, "run as root" },
	{ 0, X_FAILURE, NULL },
};

int swap_deactivate(const char *device, struct err *err)
{
	bool active;
	int error;

	if (!swapoff(device))
		return 0;
	error = errno;
	/* Not active under this name; perhaps under another. */
	if (error == EINVAL && !swap_is_active(device, &active) && !active)
		return 0;
	return err_explain(err, swapoff_hints, error,
			   "cannot deactivate the swap on %s", device);
}

/* Undoes \ooo, by which the kernel writes blanks and the like; in place. */
static void unescape(char *text)
{
	char *to = text;

	for (; *text; text++) {
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' &&
		    text[2] >= '0' && text[2] <= '7' && text[3] >= '0' &&
		    text[3] <= '7') {
			*to++ = (char)((text[1] - '0') << 6 |
				       (text[2] - '0') << 3 | (text[3] - '0'));
			text += 3;
		} else {
			*to++ = *text;
		}
	}
	*to = '\0';
}

static bool same_area(const struct stat *a, const struct stat *b)
{
	if (S_ISBLK(a->st_mode) || S_ISBLK(b->st_mode))
		return S_ISBLK(a->st_mode) && S_ISBLK(b->st_mode) &&
		       a->st_rdev == b->st_rdev;
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/*
 * Switched on in a mount name space that is gone by now, as that of a service that
 * was started again is, it is listed as "/nbd0", which is no file.
 */
static bool same_block_name(const char *device, const char *line)
{
	const char *name = strrchr(device, '/');

	return name && line[0] == '/' && strcmp(name, line) == 0;
}

/* The rest of a line, behind the name: type, size and used, in KiB. */
static uint64_t used_bytes(const char *rest)
{
	unsigned long long used = 0;

	if (sscanf(rest, "%*s %*u %llu", &used) != 1)
		return 0;
	return used * 1024;
}

int swap_look(const char *device, bool *ret_active, uint64_t *ret_used_bytes)
{
	struct stat wanted, st;
	char table[8192], *line, *next, *rest;
	int rc;

	if (stat(device, &wanted))
		return -errno;
	rc = procfile_read(swap_table_path, table, sizeof(table));
	if (rc < 0 && rc != -ENOENT) /* -ENOENT: a kernel without swap */
		return rc;
	*ret_active = false;
	*ret_used_bytes = 0;
	/* The first line is a heading; a name ends at the first blank. */
	line = rc > 0 ? strchr(table, '\n') : NULL;
	for (line = line ? line + 1 : NULL; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		rest = line + strcspn(line, " \t");
		if (*rest)
			*rest++ = '\0';
		unescape(line);
		if (stat(line, &st) ? !S_ISBLK(wanted.st_mode) ||
					      !same_block_name(device, line) :
				      !same_area(&wanted, &st))
			continue;
		*ret_active = true;
		*ret_used_bytes = used_bytes(rest);
	}
	return 0;
}

int swap_is_active(const char *device, bool *ret_active)
{
	uint64_t used;

	return swap_look(device, ret_active, &used);
}
