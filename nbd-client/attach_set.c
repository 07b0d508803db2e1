// SPDX-License-Identifier: GPL-2.0-or-later
/* Options of "attach" whose value is more than a number. Command line. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "nbd-client/attach_set.h"
#include "nbd-client/measure.h"
#include "nbd-client/standby.h"
#include "nbd-client/swap.h"

int attach_set_swap(void *target, const char *value, struct err *err)
{
	struct attach_line *line = target;

	if (value && strcmp(value, "best-effort"))
		return err_set(err, X_USAGE, EINVAL,
			       "--swap takes no value but best-effort; see "
			       "\"nbd-client attach --help\"");
	line->options.swap = value ? SWAP_BEST_EFFORT : SWAP_YES;
	return 0;
}

int attach_set_swapon(void *target, const char *value, struct err *err)
{
	struct attach_line *line = target;
	uint64_t priority;

	line->options.swapon = true;
	if (!value)
		return 0;
	if (options_parse_number(value, &priority) ||
	    priority > SWAP_PRIORITY_MAX)
		return err_set(err, X_USAGE, EINVAL,
			       "--swapon: the priority must be from 0 to %d",
			       SWAP_PRIORITY_MAX);
	line->options.swapon_priority = (int)priority;
	return 0;
}

int attach_set_reserve(void *target, const char *value, struct err *err)
{
	struct attach_line *line = target;

	if (options_parse_size(value, &line->options.reserve_bytes) ||
	    !line->options.reserve_bytes)
		return err_set(err, X_USAGE, EINVAL,
			       "--reserve must be a number of bytes, K, M or G "
			       "may follow");
	return 0;
}

int attach_set_on_eio(void *target, const char *value, struct err *err)
{
	struct attach_line *line = target;
	uint64_t seconds = RETRY_S_DEFAULT;
	bool fail = !strcmp(value, "fail"), retry = !strcmp(value, "retry");

	if (!strncmp(value, "retry:", 6))
		retry = !options_parse_number(value + 6, &seconds) &&
			seconds >= 1 && seconds <= RETRY_S_MAX;
	if (!fail && !retry)
		return err_set(err, X_USAGE, EINVAL,
			       "--on-eio must be fail, retry, or retry:SECONDS "
			       "with 1 to %u", RETRY_S_MAX);
	line->options.on_eio = true;
	line->options.retry_ms = fail ? 0 : (uint32_t)seconds * 1000;
	return 0;
}

int attach_set_size(void *target, const char *value, struct err *err)
{
	struct attach_line *line = target;

	if (options_parse_size(value, &line->options.size_bytes) ||
	    !line->options.size_bytes)
		return err_set(err, X_USAGE, EINVAL,
			       "--size must be a number of bytes, K, M or G "
			       "may follow");
	return 0;
}

int attach_set_without(void *target, const char *value, struct err *err)
{
	struct attach_line *line = target;
	uint32_t bits = 0;
	int rc = measure_parse(value, &bits, err);

	line->options.without |= bits;
	return rc;
}

/* PORT[,PORT...]; given again, it adds. */
int attach_set_shed_exempt(void *target, const char *value, struct err *err)
{
	struct attach_options *o = &((struct attach_line *)target)->options;
	char word[8];
	uint64_t port;

	for (;;) {
		size_t length = strcspn(value, ",");

		snprintf(word, sizeof(word), "%.*s", (int)length, value);
		if (options_parse_number(word, &port) || !port ||
		    port > UINT16_MAX)
			return err_set(err, X_USAGE, EINVAL,
				       "--shed-exempt takes ports from 1 to 65535 with "
				       "commas between them");
		if (o->shed_port_count == SHED_PORTS_MAX)
			return err_set(err, X_USAGE, E2BIG,
				       "--shed-exempt takes at most %u ports",
				       SHED_PORTS_MAX);
		o->shed_ports[o->shed_port_count++] = (uint16_t)port;
		if (!value[length])
			return 0;
		value += length + 1;
	}
}

#define FAILBACK_S_MAX 86400u

int attach_too_many(struct err *err)
{
	return err_set(err, X_USAGE, E2BIG, "a device has at most %u servers",
		       ENDPOINTS_MAX);
}

/* Given again, it adds. */
int attach_set_endpoint(void *target, const char *value, struct err *err)
{
	struct attach_line *line = target;

	if (line->endpoint_count == ENDPOINTS_MAX)
		return attach_too_many(err);
	line->endpoints[line->endpoint_count++] = value;
	return 0;
}

int attach_set_failback(void *target, const char *value, struct err *err)
{
	struct attach_line *line = target;
	uint64_t seconds = STANDBY_FAILBACK_S_DEFAULT;

	if (value && (options_parse_number(value, &seconds) || !seconds ||
		      seconds > FAILBACK_S_MAX))
		return err_set(err, X_USAGE, EINVAL,
			       "--failback takes 1 to %u seconds",
			       FAILBACK_S_MAX);
	line->options.failback_s = (uint32_t)seconds;
	return 0;
}

int attach_set_identity(void *target, const char *value, struct err *err)
{
	struct attach_line *line = target;

	line->options.described = true;
	return strcmp(value, "description") == 0 ?
		       0 :
		       err_set(err, X_USAGE, EINVAL,
			       "--identity can only be description");
}
