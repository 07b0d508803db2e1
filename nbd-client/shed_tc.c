// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Filters through rtnetlink (rtnl.h); every question on a socket of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "include/bounds.h"
#include "nbd-client/rtnl.h"
#include "nbd-client/shed_tc.h"
#include "nbd-client/stats.h"

#define INGRESS TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
#define EGRESS TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)

/* A priority that another kind of filter has is passed over. */
#define PRIORITIES 16u

/* ---- interfaces ---- */

struct links {
	struct shed_link *link;
	size_t count;
};

static int on_link(struct nlmsghdr *nlh, void *arg)
{
	struct links *links = arg;
	struct shed_link *link = &links->link[links->count];
	const struct ifinfomsg *info = nlmsg_data(nlh);
	struct nlattr *attrs[IFLA_MAX + 1], *kind;

	if (links->count == SHED_LINKS_MAX || nlh->nlmsg_type != RTM_NEWLINK ||
	    nlmsg_parse(nlh, sizeof(*info), attrs, IFLA_MAX, NULL) < 0 ||
	    !attrs[IFLA_IFNAME])
		return 0;
	*link = (struct shed_link){
		.index = info->ifi_index,
		.up = (info->ifi_flags & IFF_UP) &&
		      !(info->ifi_flags & IFF_LOOPBACK),
	};
	nla_strlcpy(link->name, attrs[IFLA_IFNAME], sizeof(link->name));
	kind = attrs[IFLA_LINKINFO] ?
		       nla_find(nla_data(attrs[IFLA_LINKINFO]),
				nla_len(attrs[IFLA_LINKINFO]), IFLA_INFO_KIND) :
		       NULL;
	if (kind)
		nla_strlcpy(link->kind, kind, sizeof(link->kind));
	links->count++;
	return 0;
}

int shed_tc_links(struct shed_link ret_links[SHED_LINKS_MAX], size_t *ret_count)
{
	const struct ifinfomsg all = { .ifi_family = AF_UNSPEC };
	struct links links = { .link = ret_links };
	struct nl_msg *message =
		rtnl_message(RTM_GETLINK, NLM_F_DUMP, &all, sizeof(all));
	int ret = message ? rtnl_ask(message, on_link, &links) : -ENOMEM;

	*ret_count = links.count;
	return ret;
}

/* ---- filters ---- */

#define FILTERS_MAX 32u

struct filter {
	uint32_t priority;
	uint32_t handle;
	char device[DEVICE_NAME_BYTES];
};

struct filters {
	size_t count; /* of all, whosever */
	size_t own_count;
	struct filter own[FILTERS_MAX];
};

static int on_filter(struct nlmsghdr *nlh, void *arg)
{
	struct filters *filters = arg;
	const struct tcmsg *tcm = nlmsg_data(nlh);
	struct nlattr *attrs[TCA_MAX + 1], *name;
	struct filter *filter = &filters->own[filters->own_count];
	size_t prefix = strlen(SHED_TC_PREFIX);

	/* Each kind has a message of its own without handle; not a filter. */
	if (nlh->nlmsg_type != RTM_NEWTFILTER || !tcm->tcm_handle ||
	    nlmsg_parse(nlh, sizeof(*tcm), attrs, TCA_MAX, NULL) < 0)
		return 0;
	filters->count++;
	if (!attrs[TCA_KIND] || nla_strcmp(attrs[TCA_KIND], "bpf") ||
	    !attrs[TCA_OPTIONS] || filters->own_count == FILTERS_MAX)
		return 0;
	name = nla_find(nla_data(attrs[TCA_OPTIONS]),
			nla_len(attrs[TCA_OPTIONS]), TCA_BPF_NAME);
	if (!name || strncmp(nla_data(name), SHED_TC_PREFIX, prefix))
		return 0;
	filter->priority = TC_H_MAJ(tcm->tcm_info);
	filter->handle = tcm->tcm_handle;
	snprintf(filter->device, sizeof(filter->device), "%s",
		 (const char *)nla_data(name) + prefix);
	filters->own_count++;
	return 0;
}

static int list_filters(int index, uint32_t parent, struct filters *filters)
{
	const struct tcmsg tcm = { .tcm_family = AF_UNSPEC,
				   .tcm_ifindex = index,
				   .tcm_parent = parent };
	struct nl_msg *message =
		rtnl_message(RTM_GETTFILTER, NLM_F_DUMP, &tcm, sizeof(tcm));

	filters->count = 0;
	filters->own_count = 0;
	return message ? rtnl_ask(message, on_filter, filters) : -ENOMEM;
}

static int remove_filter(int index, const struct filter *filter)
{
	const struct tcmsg tcm = {
		.tcm_family = AF_UNSPEC,
		.tcm_ifindex = index,
		.tcm_parent = INGRESS,
		.tcm_handle = filter->handle,
		.tcm_info = filter->priority | htons(ETH_P_ALL),
	};
	struct nl_msg *message =
		rtnl_message(RTM_DELTFILTER, 0, &tcm, sizeof(tcm));

	if (!message)
		return -ENOMEM;
	nla_put_string(message, TCA_KIND, "bpf");
	return rtnl_ask(message, NULL, NULL);
}

static int add_filter(int index, uint32_t priority, const char *device,
		      int prog_fd)
{
	const struct tcmsg tcm = {
		.tcm_family = AF_UNSPEC,
		.tcm_ifindex = index,
		.tcm_parent = INGRESS,
		.tcm_info = TC_H_MAKE(priority << 16, htons(ETH_P_ALL)),
	};
	struct nl_msg *message = rtnl_message(
		RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &tcm, sizeof(tcm));
	char name[sizeof(SHED_TC_PREFIX) + DEVICE_NAME_BYTES];
	struct nlattr *options;

	if (!message)
		return -ENOMEM;
	snprintf(name, sizeof(name), SHED_TC_PREFIX "%s", device);
	nla_put_string(message, TCA_KIND, "bpf");
	options = nla_nest_start(message, TCA_OPTIONS);
	nla_put_u32(message, TCA_BPF_FD, (uint32_t)prog_fd);
	nla_put_string(message, TCA_BPF_NAME, name);
	nla_put_u32(message, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	nla_nest_end(message, options);
	return rtnl_ask(message, NULL, NULL);
}

/* ---- the qdisc that they hang on ---- */

static void mark_path(int index, char *path, size_t bytes)
{
	snprintf(path, bytes, "%s/clsact.%d", stats_run_dir, index);
}

static int change_qdisc(int index, int type, int flags)
{
	const struct tcmsg tcm = { .tcm_family = AF_UNSPEC,
				   .tcm_ifindex = index,
				   .tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0),
				   .tcm_parent = TC_H_CLSACT };
	struct nl_msg *message = rtnl_message(type, flags, &tcm, sizeof(tcm));

	if (!message)
		return -ENOMEM;
	nla_put_string(message, TCA_KIND, "clsact");
	return rtnl_ask(message, NULL, NULL);
}

static int make_qdisc(int index)
{
	char path[256];
	int fd, ret;

	ret = change_qdisc(index, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL);
	if (ret < 0) /* -EEXIST: whosever it is, a mark says so already */
		return ret;
	mark_path(index, path, sizeof(path));
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0)
		close(fd);
	return 0;
}

static void drop_qdisc(int index)
{
	struct filters filters;
	char path[256];

	mark_path(index, path, sizeof(path));
	if (access(path, F_OK) < 0 ||
	    list_filters(index, INGRESS, &filters) < 0 || filters.count ||
	    list_filters(index, EGRESS, &filters) < 0 || filters.count)
		return;
	(void)change_qdisc(index, RTM_DELQDISC, 0);
	unlink(path);
}

/* ---- what others call ---- */

int shed_tc_add(int index, const char *device, int prog_fd)
{
	int fd = stats_lock();
	int made, ret;

	if (fd < 0)
		return fd;
	made = make_qdisc(index);
	/* The first priority that no other kind of filter has. */
	for (uint32_t i = 1; i <= PRIORITIES; i++) {
		ret = add_filter(index, i, device, prog_fd);
		if (ret != -EINVAL && ret != -ENOSPC)
			break;
	}
	if (ret < 0)
		drop_qdisc(index);
	close(fd);
	return ret < 0 && made < 0 && made != -EEXIST ? made : ret;
}

static int remove_from(int index,
		       bool (*drop)(const char *device, const void *arg),
		       const void *arg)
{
	struct filters filters;
	int ret = list_filters(index, INGRESS, &filters);

	for (size_t i = 0; i < filters.own_count && !ret; i++) {
		if (drop(filters.own[i].device, arg))
			ret = remove_filter(index, &filters.own[i]);
	}
	drop_qdisc(index);
	return ret;
}

int shed_tc_remove(bool (*drop)(const char *device, const void *arg),
		   const void *arg)
{
	static struct shed_link links[SHED_LINKS_MAX];
	size_t count;
	int fd = stats_lock();
	int ret;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd; /* nothing was ever attached */
	ret = shed_tc_links(links, &count);
	for (size_t i = 0; i < count && !ret; i++) {
		ret = remove_from(links[i].index, drop, arg);
		if (ret == -ENODEV || ret == -ENOENT) /* gone meanwhile */
			ret = 0;
	}
	close(fd);
	return ret;
}
