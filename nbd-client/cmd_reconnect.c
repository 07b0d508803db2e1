// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbd-client reconnect: makes the link of a device anew, to the same server or
 * to another one; and makes the device as large as its export has become.
 * Command line.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "nbd-client/blockdev.h"
#include "nbd-client/cmd.h"
#include "nbd-client/ctl_socket.h"
#include "nbd-client/genl.h"
#include "nbd-client/stats.h"
#include "nbd-client/ublk_ctl.h"

/* An old link to end, and a server that takes its time at each step. */
#define RECONNECT_TIMEOUT_MS 120000u
#define RESIZE_TIMEOUT_MS 60000u

struct reconnect_line {
	uint32_t endpoint; /* from 1; 0: the one in use */
};

static int set_endpoint(void *target, const char *value, struct err *err)
{
	struct reconnect_line *line = target;
	uint64_t number = 1;

	if (strcmp(value, "preferred") != 0 &&
	    (options_parse_number(value, &number) || !number ||
	     number > ENDPOINTS_MAX))
		return err_set(err, X_USAGE, EINVAL,
			       "--endpoint is the number of a server, as status "
			       "shows it, or preferred");
	line->endpoint = (uint32_t)number;
	return 0;
}

static const struct option_spec reconnect_options[] = {
	{ .name = "endpoint",
	  .kind = OPTION_CALL,
	  .value = "NUMBER|preferred",
	  .set = set_endpoint,
	  .help = "to this server, once it is ready to serve" },
	CMD_OPTIONS_END
};

/* ---- as large as the export ---- */

/*
 * Here and not in the daemon: the kernel waits for the requests under way, and
 * whoever serves these must not wait for the kernel.
 */
static int resize_nbd(const struct blockdev *dev, const struct stats_page *page,
		      uint64_t bytes, struct err *err)
{
	struct genl genl;
	int rc = genl_open(&genl, err);

	if (rc)
		return rc;
	rc = genl_nbd_resize(&genl, dev->index, bytes, genl_backend(page->uri),
			     err);
	genl_close(&genl);
	return rc;
}

static int resize_ublk(const struct blockdev *dev,
		       const struct stats_page *page, uint64_t bytes,
		       struct err *err)
{
	struct ublk_ctl ctl;
	int rc = ublk_ctl_open(&ctl, err);

	(void)page;
	if (rc)
		return rc;
	rc = ublk_ctl_resize(&ctl, dev->index, bytes, RESIZE_TIMEOUT_MS, err);
	ublk_ctl_close(&ctl);
	return rc;
}

static int grow(const struct blockdev *dev, const struct stats_page *page,
		struct err *err)
{
	uint64_t bytes = page->available_bytes;
	struct err cause = { 0 };
	int rc;

	if (bytes <= page->export_bytes)
		return 0;
	rc = dev->front == FRONT_UBLK ? resize_ublk(dev, page, bytes, &cause) :
					resize_nbd(dev, page, bytes, &cause);
	if (rc)
		return err_set(err, cause.exit_code, cause.error,
			       "%s is connected, but does not become larger: %s",
			       dev->path, cause.text);
	printf("%s has %" PRIu64 " bytes now\n", dev->path, bytes);
	return ctl_call(dev->name, CTL_RESIZED, 0, RESIZE_TIMEOUT_MS, err);
}

static int run(int argc, char **argv, struct err *err)
{
	struct reconnect_line line = { 0 };
	const struct stats_page *page;
	struct blockdev dev;
	struct words words;
	int rc;

	rc = options_parse(&cmd_reconnect, argc, argv, &line, 1, 1, &words,
			   err);
	if (rc)
		return rc > 0 ? 0 : rc;
	rc = blockdev_parse(words.word[0], &dev, err);
	if (!rc)
		rc = stats_open(dev.name, &page, err);
	if (rc)
		return rc;
	if (geteuid() != 0)
		rc = err_set(err, X_PERMISSION, EPERM,
			     "only root may reconnect %s; run as root",
			     dev.path);
	if (!rc)
		rc = ctl_call(dev.name, CTL_RECONNECT, line.endpoint,
			      RECONNECT_TIMEOUT_MS, err);
	if (!rc)
		rc = grow(&dev, page, err);
	stats_close(page);
	return rc;
}

const struct command cmd_reconnect = {
	.name = "reconnect",
	.words = "DEV",
	.summary = "Makes the link anew; grows the device.",
	.details = "Requests wait meanwhile, and none fails. Where the export "
		   "has grown the device\ngrows, too. A link that is good is "
		   "not given up for a server that is not.",
	.examples = "  nbd-client reconnect nbd0",
	.options = reconnect_options,
	.run = run,
};
