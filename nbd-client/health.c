// SPDX-License-Identifier: GPL-2.0-or-later
/* What is the matter with a device: a table, the worst first. See health.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "nbd-client/check_look.h"
#include "nbd-client/health.h"
#include "nbd-client/host.h"
#include "nbd-client/stats.h"

struct look {
	const char *name;
	const struct stats_page *page;
	uint64_t now_ns;
	uint64_t now_s;
};

/* Each: true, and *ret filled in, if that is the matter. */

static bool is_dead(const struct look *l, struct check_host_result *ret)
{
	if (stats_alive(l->page))
		return false;
	look_say(ret, CHECK_HOST_FAIL,
		 "its processes have died, and requests wait");
	look_remedy(ret,
		    "nbd-client recover %s; detach --force would give them up",
		    l->name);
	return true;
}

static bool is_stuck(const struct look *l, struct check_host_result *ret)
{
	uint64_t ns = stats_silent_ns(l->page->data.heartbeat_ns, l->now_ns);

	if (ns <= STATS_SILENT_NS)
		return false;
	look_say(ret, CHECK_HOST_FAIL,
		 "its data thread has shown no sign of life for %" PRIu64 " s",
		 (uint64_t)(ns / NS_PER_S));
	look_remedy(ret,
		    "wait for the watchdog to replace it; see the system's log");
	return true;
}

static bool has_no_link(const struct look *l, struct check_host_result *ret)
{
	const struct stats_page *p = l->page;
	uint64_t since = p->link_since;

	if (p->link == STATS_LINK_UP)
		return false;
	look_say(ret, CHECK_HOST_FAIL,
		 "no link to %.80s for %" PRIu64 " s, and requests wait: %.110s",
		 p->uri, l->now_s > since ? l->now_s - since : 0,
		 p->link_error);
	look_remedy(ret,
		    "bring the server back, or the way to it; nothing is lost "
		    "meanwhile, see nbd-swap(7)");
	return true;
}

static bool is_owed(const struct look *l, struct check_host_result *ret)
{
	uint64_t since = l->page->data.owed_since_ns;

	if (!since || l->now_ns < since + HEALTH_SILENT_S * NS_PER_S)
		return false;
	look_say(ret, CHECK_HOST_WARN,
		 "the server has owed an answer for %" PRIu64 " s",
		 (uint64_t)((l->now_ns - since) / NS_PER_S));
	look_remedy(ret, "look at the server: its storage, its load, its network");
	return true;
}

static bool is_alone(const struct look *l, struct check_host_result *ret)
{
	if (l->page->supervised)
		return false;
	look_say(ret, CHECK_HOST_WARN,
		 "its supervisor has died: nobody would take over");
	look_remedy(ret, "nbd-client recover %s", l->name);
	return true;
}

/* A plain disk promises nothing. */
static bool is_unprotected(const struct look *l, struct check_host_result *ret)
{
	const struct stats_guarantee *worst = host_worst(l->page->guarantees);

	if (!worst || !l->page->swap)
		return false;
	look_say(ret, CHECK_HOST_WARN, "%.*s is %s: %.*s",
		 (int)sizeof(worst->name) - 1, worst->name,
		 stats_guarantee_name(worst->state),
		 (int)sizeof(worst->detail) - 1, worst->detail);
	look_remedy(ret, "see nbd-client(8), WHAT IS GUARANTEED; detach, and attach again");
	return true;
}

void health_look(const char *name, const struct stats_page *page,
		 uint64_t now_ns, uint64_t now_s,
		 struct check_host_result *ret)
{
	static bool (*const looks[])(const struct look *l,
				     struct check_host_result *ret) = {
		is_stuck, has_no_link, is_owed, is_alone, is_unprotected,
	};
	const struct look l = { name, page, now_ns, now_s };

	/* On its way, it may be without any of that. */
	if (is_dead(&l, ret) || page->state != STATS_LIVE)
		return;
	for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++)
		if (looks[i](&l, ret))
			return;
}

/* ---- all of them, for check ---- */

struct devices {
	struct check_host_result worst;
	uint32_t count, ailing;
};

static void on_page(const char *name, const struct stats_page *page, void *arg)
{
	struct check_host_result one = { 0 };
	struct devices *d = arg;

	d->count++;
	health_look(name, page, clock_now_ns(), (uint64_t)time(NULL), &one);
	if (!one.found[0])
		return;
	d->ailing++;
	if (d->worst.found[0] && one.state <= d->worst.state)
		return;
	d->worst.state = one.state;
	look_say(&d->worst, one.state, "%s: %.220s", name, one.found);
	memcpy(d->worst.remedy, one.remedy, sizeof(one.remedy));
}

void check_host_devices(const struct check_host_paths *paths,
			struct check_host_result *ret)
{
	struct devices d = { .count = 0 };
	int unreadable = stats_each(on_page, &d);
	size_t used;

	(void)paths;
	*ret = d.worst;
	used = strlen(ret->found);
	if (d.ailing > 1)
		snprintf(ret->found + used, sizeof(ret->found) - used,
			 "; and %u more", d.ailing - 1);
	if (d.ailing)
		return;
	if (unreadable) {
		look_say(ret, CHECK_HOST_WARN,
			 "there are status files in %s that cannot be read",
			 stats_run_dir);
		look_remedy(ret, "\"detach --force\" removes them one by one");
	} else {
		look_say(ret, CHECK_HOST_OK,
			 d.count ? "%u, and all is well" : "none", d.count);
	}
}
