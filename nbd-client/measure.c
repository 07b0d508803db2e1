// SPDX-License-Identifier: GPL-2.0-or-later
/* The table of measures, and which of them this process leaves out. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "nbd-client/donor.h"
#include "nbd-client/host.h"
#include "nbd-client/measure.h"
#include "nbd-client/blockdev.h"
#include "nbd-client/sockets.h"
#include "nbd-client/stats.h"

static const struct {
	const char *name;
	const char
		*row; /* the guarantee that rests on it; NULL: none by itself */
} measures[MEASURES] = {
	[MEASURE_RESERVE] = { "reserve", HOST_ROW_RESERVE },
	[MEASURE_DONOR] = { "donor", DONOR_ROW },
	[MEASURE_SOCKET_MEMORY] = { "socket-memory", SOCKETS_ROW },
	[MEASURE_CGROUP] = { "cgroup", HOST_ROW_CGROUP },
	[MEASURE_MLOCK] = { "mlock", HOST_ROW_MEMORY },
	[MEASURE_FLUSHER] = { "flusher", HOST_ROW_FLUSHER },
	[MEASURE_FIFO] = { "fifo", HOST_ROW_FIFO },
	[MEASURE_OOM] = { "oom", HOST_ROW_OOM },
	[MEASURE_TUNE] = { "tune", BLOCKDEV_ROW },
	[MEASURE_WINDOWS] = { "windows", NULL },
	[MEASURE_ELASTIC] = { "elastic", NULL },
	[MEASURE_BUFFERS] = { "buffers", NULL },
	[MEASURE_SYSCTLS] = { "sysctls", HOST_ROW_SYSCTLS },
};

static uint32_t left_out;

static int unknown(const char *word, size_t length, struct err *err)
{
	char all[MEASURE_TEXT_BYTES], shown[48], given[32];

	snprintf(given, sizeof(given), "%.*s",
		 (int)(length < sizeof(given) ? length : sizeof(given) - 1),
		 word);
	text_escape_str(shown, sizeof(shown), given);
	measure_format((1u << MEASURES) - 1, all, sizeof(all));
	return err_set(err, X_USAGE, EINVAL,
		       "--without knows no measure \"%s\", only: %s", shown,
		       all);
}

int measure_parse(const char *list, uint32_t *ret_bits, struct err *err)
{
	uint32_t bits = 0, i;
	size_t length;

	for (;;) {
		length = strcspn(list, ",");
		for (i = 0; i < MEASURES; i++) {
			if (strlen(measures[i].name) == length &&
			    !strncmp(list, measures[i].name, length))
				break;
		}
		if (i == MEASURES)
			return unknown(list, length, err);
		bits |= 1u << i;
		if (!list[length])
			break;
		list += length + 1;
	}
	*ret_bits = bits;
	return 0;
}

void measure_format(uint32_t bits, char *ret_text, size_t text_bytes)
{
	size_t used = 0;
	uint32_t i;

	ret_text[0] = '\0';
	for (i = 0; i < MEASURES && used < text_bytes; i++) {
		if (bits >> i & 1)
			used += (size_t)snprintf(
				ret_text + used, text_bytes - used, "%s%s",
				used ? "," : "", measures[i].name);
	}
}

void measure_leave_out(uint32_t bits,
		       struct stats_guarantee rows[STATS_GUARANTEES])
{
	char names[MEASURE_TEXT_BYTES];
	uint32_t i;

	left_out = bits;
	if (!bits)
		return;
	measure_format(bits, names, sizeof(names));
	stats_guarantee_set(rows, MEASURE_ROW, GUARANTEE_DEGRADED,
			    "--without=%.80s", names);
	for (i = 0; i < MEASURES; i++) {
		if (measure_left_out((enum measure)i) && measures[i].row)
			stats_guarantee_set(rows, measures[i].row,
					    GUARANTEE_OFF,
					    "left out by --without");
	}
}

bool measure_left_out(enum measure measure)
{
	return left_out >> measure & 1;
}
