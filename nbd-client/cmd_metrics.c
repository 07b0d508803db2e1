// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbd-client metrics: status pages for monitoring, on standard output or in a
 * file for node_exporter. Reads only pages, so it costs the daemons nothing.
 * Command line.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "nbd-client/blockdev.h"
#include "nbd-client/cmd.h"
#include "nbd-client/host.h"
#include "nbd-client/metrics.h"
#include "nbd-client/procfile.h"
#include "nbd-client/stats.h"

struct metrics_line {
	const char *textfile;
};

static const struct option_spec metrics_options[] = {
	{ .name = "textfile",
	  .kind = OPTION_STRING,
	  .value = "FILE",
	  .offset = offsetof(struct metrics_line, textfile),
	  .help = "replaces FILE, for node_exporter's textfile\n"
		  "collector: a name that ends in .prom" },
	CMD_OPTIONS_END
};

struct collected {
	struct metrics_device *devices;
	size_t count;
	int error;
};

static void on_page(const char *name, const struct stats_page *page, void *arg)
{
	struct collected *c = arg;
	struct metrics_device *devices, *d;

	devices = realloc(c->devices, (c->count + 1) * sizeof(*devices));
	if (!devices) {
		c->error = ENOMEM;
		return;
	}
	c->devices = devices;
	d = &devices[c->count++];
	snprintf(d->name, sizeof(d->name), "%s", name);
	d->alive = stats_alive(page);
	stats_copy(page, &d->page);
}

/* The devices named, or all; *ret_unreadable as of stats_each(). */
static int collect(const struct words *words, struct collected *c,
		   int *ret_unreadable, struct err *err)
{
	const struct stats_page *page;
	struct blockdev device;
	int rc = 0;

	*ret_unreadable = 0;
	if (!words->count)
		*ret_unreadable = stats_each(on_page, c);
	for (uint32_t i = 0; i < words->count && !rc; i++) {
		rc = blockdev_parse(words->word[i], &device, err);
		if (!rc)
			rc = stats_open(device.name, &page, err);
		if (!rc) {
			on_page(device.name, page, c);
			stats_close(page);
		}
	}
	if (!rc && c->error)
		rc = err_explain(err, NULL, c->error, "cannot copy a page");
	return rc;
}

static void look_at_host(struct metrics_host *host)
{
	char netstat[16 * KIB], path[256];
	uint64_t kbytes;

	host->min_free_known = !host_min_free_kbytes(&kbytes);
	if (host->min_free_known)
		host->min_free_bytes = kbytes * KIB;
	snprintf(path, sizeof(path), "%s/net/netstat", host_paths.proc);
	host->drops_known =
		procfile_read(path, netstat, sizeof(netstat)) >= 0 &&
		!metrics_netstat(netstat, "PFMemallocDrop",
				 &host->pfmemalloc_drops);
}

static int print(FILE *file, enum metrics_format format,
		 const struct collected *c)
{
	struct metrics_host host = { 0 };

	look_at_host(&host);
	metrics_print(file, format, c->devices, c->count, &host,
		      clock_now_ns());
	if (!fflush(file) && !ferror(file))
		return 0;
	return errno ? -errno : -EIO;
}

/* Whoever reads the file sees the old one or the new one. */
static int replace(const char *path, const struct collected *c, struct err *err)
{
	char temp[4096];
	FILE *file;
	int fd, rc;

	rc = snprintf(temp, sizeof(temp), "%s.XXXXXX", path);
	if (rc >= (int)sizeof(temp))
		return err_set(err, X_USAGE, ENAMETOOLONG,
			       "the name of the file is too long");
	fd = mkstemp(temp);
	if (fd < 0)
		return err_explain(err, NULL, errno, "cannot make %s", temp);
	rc = fchmod(fd, 0644) ? -errno : 0; /* the collector is not root */
	file = fdopen(fd, "w");
	if (!file) {
		rc = -errno;
		close(fd);
	} else {
		if (!rc)
			rc = print(file, METRICS_TEXTFILE, c);
		if (fclose(file) && !rc)
			rc = -errno;
	}
	if (!rc && rename(temp, path))
		rc = -errno;
	if (!rc)
		return 0;
	(void)unlink(temp);
	return err_explain(err, NULL, -rc, "cannot write %s", path);
}

static int run(int argc, char **argv, struct err *err)
{
	struct metrics_line line = { 0 };
	struct collected c = { 0 };
	int rc, unreadable = 0;
	struct words words;

	rc = options_parse(&cmd_metrics, argc, argv, &line, 0, OPTION_WORDS_MAX,
			   &words, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	rc = collect(&words, &c, &unreadable, err);
	if (!rc && line.textfile)
		rc = replace(line.textfile, &c, err);
	else if (!rc && (rc = print(stdout, METRICS_OPENMETRICS, &c)))
		err_explain(err, NULL, -rc, "cannot write the output");
	free(c.devices);
	return rc ? rc : cmd_unreadable(unreadable, err);
}

const struct command cmd_metrics = {
	.name = "metrics",
	.words = "[DEV]...",
	.summary = "Prints metrics in the format of OpenMetrics.",
	.details = "Of all devices, if none is named.",
	.examples = "  nbd-client metrics\n"
		    "  nbd-client metrics --textfile=/var/lib/prometheus/node-exporter/nbd.prom",
	.options = metrics_options,
	.run = run,
};
