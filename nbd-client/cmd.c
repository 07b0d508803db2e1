// SPDX-License-Identifier: GPL-2.0-or-later
/* What several subcommands need. Command line only. */
#include <errno.h>

#include "include/nbd-wire.h"
#include "nbd-client/cmd.h"
#include "nbd-client/stats.h"

const struct option_spec cmd_table_options[] = {
	CMD_TABLE_OPTIONS(0),
	CMD_OPTIONS_END
};

const struct option_spec cmd_output_options[] = {
	CMD_OUTPUT_OPTIONS(0),
	CMD_OPTIONS_END
};

int cmd_unreadable(int unreadable, struct err *err)
{
	if (!unreadable)
		return 0;
	if (unreadable < 0)
		return err_explain(err, NULL, -unreadable, "cannot read %s",
				   stats_run_dir);
	return err_set(err, X_FAILURE, EBADMSG,
		       "%d status files in %s are damaged or of another "
		       "version of nbd-client", unreadable, stats_run_dir);
}

void cmd_flag_names(uint32_t flags, const char *ret_names[CMD_FLAG_NAMES])
{
	/* HAS_FLAGS is always set and READ_ONLY has a line of its own. */
	static const struct {
		uint32_t flag;
		const char *name;
	} names[] = {
		{ NBD_FLAG_SEND_FLUSH, "flush" },
		{ NBD_FLAG_SEND_FUA, "fua" },
		{ NBD_FLAG_ROTATIONAL, "rotational" },
		{ NBD_FLAG_SEND_TRIM, "trim" },
		{ NBD_FLAG_SEND_WRITE_ZEROES, "write-zeroes" },
		{ NBD_FLAG_SEND_DF, "df" },
		{ NBD_FLAG_CAN_MULTI_CONN, "multi-conn" },
		{ NBD_FLAG_SEND_RESIZE, "resize" },
		{ NBD_FLAG_SEND_CACHE, "cache" },
		{ NBD_FLAG_SEND_FAST_ZERO, "fast-zero" },
		{ NBD_FLAG_BLOCK_STATUS_PAYLOAD, "block-status-payload" },
	};
	size_t i, count = 0;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (flags & names[i].flag)
			ret_names[count++] = names[i].name;
	}
	ret_names[count] = NULL;
}
