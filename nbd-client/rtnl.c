// SPDX-License-Identifier: GPL-2.0-or-later
/* Questions to rtnetlink. See rtnl.h. */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <stdbool.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "include/bounds.h"
#include "nbd-client/rtnl.h"

/* Loading a module may be part of the answer. */
#define ANSWER_TIMEOUT_S 30

/* The kernel's messages of a dump are up to so long (NLMSG_GOODSIZE and more). */
#define ANSWER_BYTES (32u * KIB)

/* ---- one question ---- */

static int rtnl_open(void)
{
	const struct timeval timeout = { .tv_sec = ANSWER_TIMEOUT_S };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout,
			 sizeof(timeout));
	return fd;
}

/* 1: more is to come. */
static int take(struct nlmsghdr *nlh, int length, rtnl_answer_fn on_answer,
		void *arg)
{
	for (; nlmsg_ok(nlh, length); nlh = nlmsg_next(nlh, &length)) {
		int ret = 0;

		if (nlh->nlmsg_type == NLMSG_DONE)
			return 0;
		if (nlh->nlmsg_type == NLMSG_ERROR)
			return ((struct nlmsgerr *)nlmsg_data(nlh))->error;
		if (on_answer)
			ret = on_answer(nlh, arg);
		if (ret < 0)
			return ret;
	}
	return 1;
}

int rtnl_ask(struct nl_msg *message, rtnl_answer_fn on_answer, void *arg)
{
	static uint8_t answer[ANSWER_BYTES] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = nlmsg_hdr(message);
	int fd = rtnl_open();
	int ret = fd < 0 ? fd : 1;

	nlh->nlmsg_flags |= NLM_F_REQUEST;
	if ((nlh->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP)
		nlh->nlmsg_flags |= NLM_F_ACK;
	if (fd >= 0 && send(fd, nlh, nlh->nlmsg_len, 0) < 0)
		ret = -errno;
	while (ret == 1) {
		ssize_t n = recv(fd, answer, sizeof(answer), 0);

		if (n < 0 && errno == EINTR)
			continue;
		ret = n < 0 ? -errno :
			      take((struct nlmsghdr *)(void *)answer, (int)n,
				   on_answer, arg);
	}
	if (fd >= 0)
		close(fd);
	nlmsg_free(message);
	return ret;
}

struct nl_msg *rtnl_message(int type, int flags, const void *header,
			    size_t header_bytes)
{
	struct nl_msg *message = nlmsg_alloc_simple(type, flags);

	if (message && nlmsg_append(message, (void *)(uintptr_t)header,
				    header_bytes, NLMSG_ALIGNTO) < 0) {
		nlmsg_free(message);
		message = NULL;
	}
	return message;
}

/* ---- routes ---- */

const void *rtnl_address(const struct sockaddr_storage *sa, int *ret_bytes)
{
	const struct sockaddr_in *in = (const void *)sa;
	const struct sockaddr_in6 *in6 = (const void *)sa;
	bool v4 = sa->ss_family == AF_INET;

	*ret_bytes = v4 ? sizeof(in->sin_addr) : sizeof(in6->sin6_addr);
	return v4 ? (const void *)&in->sin_addr : (const void *)&in6->sin6_addr;
}

static void set_address(struct sockaddr_storage *sa, int family,
			const void *from, int from_bytes)
{
	const void *to;
	int bytes;

	sa->ss_family = (sa_family_t)family;
	to = rtnl_address(sa, &bytes);
	if (from_bytes >= bytes)
		memcpy((void *)(uintptr_t)to, from, (size_t)bytes);
}

static int on_route(struct nlmsghdr *nlh, void *arg)
{
	struct nlattr *attrs[RTA_MAX + 1];
	struct rtnl_route *route = arg;
	const struct rtmsg *header = nlmsg_data(nlh);
	const struct rtvia *via;

	if (nlh->nlmsg_type != RTM_NEWROUTE ||
	    nlmsg_parse(nlh, sizeof(*header), attrs, RTA_MAX, NULL) < 0 ||
	    !attrs[RTA_OIF])
		return 0;
	route->index = (int)nla_get_u32(attrs[RTA_OIF]);
	route->type = header->rtm_type;
	if (attrs[RTA_GATEWAY])
		set_address(&route->next, header->rtm_family,
			    nla_data(attrs[RTA_GATEWAY]),
			    nla_len(attrs[RTA_GATEWAY]));
	/* A gateway of the other family: the address follows that word. */
	via = attrs[RTA_VIA] ? nla_data(attrs[RTA_VIA]) : NULL;
	if (via && via->rtvia_family == AF_INET6)
		set_address(&route->next, AF_INET6, via->rtvia_addr,
			    nla_len(attrs[RTA_VIA]) - (int)sizeof(*via));
	return 0;
}

int rtnl_find_route(const struct sockaddr_storage *to, struct rtnl_route *ret)
{
	const struct sockaddr_in6 *in6 = (const void *)to;
	struct nl_msg *message;
	int rc, bytes;
	const void *address = rtnl_address(to, &bytes);
	const struct rtmsg route = {
		.rtm_family = (unsigned char)to->ss_family,
		.rtm_dst_len = (unsigned char)(bytes * 8),
	};

	*ret = (struct rtnl_route){ .next = *to };
	message = rtnl_message(RTM_GETROUTE, 0, &route, sizeof(route));
	if (!message)
		return -ENOMEM;
	nla_put(message, RTA_DST, bytes, address);
	if (to->ss_family == AF_INET6 && in6->sin6_scope_id)
		nla_put_u32(message, RTA_OIF, in6->sin6_scope_id);
	rc = rtnl_ask(message, on_route, ret);
	return rc ? rc : ret->index ? 0 : -ENETUNREACH;
}
