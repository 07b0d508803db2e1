/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Questions to rtnetlink, rtnetlink(7). Of libnl only what lays out messages is
 * used; each question has a socket of its own, which may block.
 *
 * Owns nothing. Control thread and command line.
 */
#ifndef NBD_RTNL_H
#define NBD_RTNL_H

#include <netinet/in.h>
#include <netlink/msg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* A message of a dump, or the one answer. 0, or -errno to give up. */
typedef int (*rtnl_answer_fn)(struct nlmsghdr *nlh, void *arg);

/* A message with its fixed header; NULL without memory. */
struct nl_msg *rtnl_message(int type, int flags, const void *header,
			    size_t header_bytes);

/*
 * Asks, hands over the answers, frees the message. 0, or -errno, whether the
 * kernel's or on_answer's (which may be NULL).
 */
int rtnl_ask(struct nl_msg *message, rtnl_answer_fn on_answer, void *arg);

/* The bytes of an Internet address; *ret_bytes: how many, 4 or 16. */
const void *rtnl_address(const struct sockaddr_storage *sa, int *ret_bytes);

/* How packets to an address leave. */
struct rtnl_route {
	int index; /* of the interface */
	int type;  /* RTN_UNICAST, RTN_LOCAL ... */
	struct sockaddr_storage next; /* the gateway, or the address itself */
};

/* 0 or -errno; -ENETUNREACH: there is no way. */
int rtnl_find_route(const struct sockaddr_storage *to, struct rtnl_route *ret);

#endif
