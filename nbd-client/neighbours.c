// SPDX-License-Identifier: GPL-2.0-or-later
/* Neighbour entries that are to stay. See neighbours.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "nbd-client/neighbours.h"
#include "nbd-client/rtnl.h"
#include "nbd-client/stats.h"

/* Longer than any hardware address (MAX_ADDR_LEN). */
#define LLADDR_BYTES 32

/* As much as a permanent one needs to be made of. */
#define KNOWN (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE)

/* ---- one entry ---- */

struct entry {
	struct stats_neighbour neighbour;
	uint16_t state; /* NUD_*; 0: there is none */
	uint8_t protocol;
	int lladdr_bytes;
	uint8_t lladdr[LLADDR_BYTES];
};

static bool is_same(const struct stats_neighbour *a,
		    const struct stats_neighbour *b)
{
	return a->index == b->index && a->family == b->family &&
	       !memcmp(a->address, b->address, sizeof(a->address));
}

static bool is_ours(const struct entry *e)
{
	return (e->state & NUD_PERMANENT) && e->protocol == NEIGHBOURS_PROTOCOL;
}

static bool read_entry(struct nlmsghdr *nlh, struct entry *ret)
{
	const struct ndmsg *header = nlmsg_data(nlh);
	struct nlattr *attrs[NDA_MAX + 1];

	if (nlh->nlmsg_type != RTM_NEWNEIGH ||
	    nlmsg_parse(nlh, sizeof(*header), attrs, NDA_MAX, NULL) < 0 ||
	    !attrs[NDA_DST])
		return false;
	*ret = (struct entry){
		.neighbour.index = header->ndm_ifindex,
		.neighbour.family = header->ndm_family,
		.state = header->ndm_state,
	};
	nla_memcpy(ret->neighbour.address, attrs[NDA_DST],
		   sizeof(ret->neighbour.address));
	if (attrs[NDA_PROTOCOL])
		ret->protocol = nla_get_u8(attrs[NDA_PROTOCOL]);
	if (attrs[NDA_LLADDR])
		ret->lladdr_bytes = nla_memcpy(ret->lladdr, attrs[NDA_LLADDR],
					       sizeof(ret->lladdr));
	return true;
}

/* About one entry; NULL without memory. */
static struct nl_msg *message_of(const struct stats_neighbour *n, int type,
				 int flags, uint16_t state)
{
	const struct ndmsg header = {
		.ndm_family = (uint8_t)n->family,
		.ndm_ifindex = n->index,
		.ndm_state = state,
	};
	struct nl_msg *message =
		rtnl_message(type, flags, &header, sizeof(header));

	if (message)
		nla_put(message, NDA_DST, n->family == AF_INET ? 4 : 16,
			n->address);
	return message;
}

static int on_looked_at(struct nlmsghdr *nlh, void *arg)
{
	(void)read_entry(nlh, arg);
	return 0;
}

/* e->neighbour says which one. */
static int look_at(struct entry *e)
{
	struct nl_msg *message =
		message_of(&e->neighbour, RTM_GETNEIGH, 0, NUD_NONE);
	int ret = message ? rtnl_ask(message, on_looked_at, e) : -ENOMEM;

	return ret == -ENOENT ? 0 : ret; /* then it has no state */
}

static int make_permanent(const struct entry *e)
{
	struct nl_msg *message =
		message_of(&e->neighbour, RTM_NEWNEIGH,
			   NLM_F_CREATE | NLM_F_REPLACE, NUD_PERMANENT);

	if (!message)
		return -ENOMEM;
	nla_put(message, NDA_LLADDR, e->lladdr_bytes, e->lladdr);
	nla_put_u8(message, NDA_PROTOCOL, NEIGHBOURS_PROTOCOL);
	return rtnl_ask(message, NULL, NULL);
}

static int drop(const struct stats_neighbour *n)
{
	struct nl_msg *message =
		message_of(n, RTM_DELNEIGH, 0, NUD_PERMANENT);

	return message ? rtnl_ask(message, NULL, NULL) : -ENOMEM;
}

/* ---- who wants which ---- */

/* False: there is no room. */
static bool note(struct stats_page *page, const struct stats_neighbour *n)
{
	for (uint32_t i = 0; i < STATS_NEIGHBOURS; i++) {
		if (is_same(&page->neighbours[i], n))
			return true;
		if (!page->neighbours[i].index) {
			page->neighbours[i] = *n;
			return true;
		}
	}
	return false;
}

struct search {
	const struct stats_neighbour *of;
	bool found;
};

static void look_at_page(const char *name, const struct stats_page *page,
			 void *arg)
{
	struct search *s = arg;

	(void)name;
	for (uint32_t i = 0; i < STATS_NEIGHBOURS && !s->found; i++)
		s->found = page->neighbours[i].index &&
			   is_same(&page->neighbours[i], s->of) &&
			   stats_alive(page);
}

/* More than there are sensibly; the rest goes next time. */
#define UNWANTED_MAX 64u

struct unwanted {
	uint32_t count;
	struct entry list[UNWANTED_MAX];
};

static int on_swept(struct nlmsghdr *nlh, void *arg)
{
	struct unwanted *u = arg;
	struct entry *e = &u->list[u->count];

	if (u->count < UNWANTED_MAX && read_entry(nlh, e) && is_ours(e))
		u->count++;
	return 0;
}

static int sweep(void)
{
	const struct ndmsg all = { .ndm_family = AF_UNSPEC };
	struct nl_msg *message =
		rtnl_message(RTM_GETNEIGH, NLM_F_DUMP, &all, sizeof(all));
	struct unwanted u = { .count = 0 };
	int ret = message ? rtnl_ask(message, on_swept, &u) : -ENOMEM;

	for (uint32_t i = 0; i < u.count && !ret; i++) {
		struct search s = { .of = &u.list[i].neighbour };

		(void)stats_each(look_at_page, &s);
		if (!s.found)
			ret = drop(&u.list[i].neighbour);
		if (ret == -ENOENT || ret == -ENODEV) /* gone meanwhile */
			ret = 0;
	}
	return ret;
}

/* ---- what others call ---- */

/* How far pinning has come; in the row's words. */
struct pinned {
	uint32_t count;
	uint32_t unknown;
	int error;
	uint32_t seen_count; /* several addresses may have one gateway: */
	struct stats_neighbour seen[LINK_ADDRS_MAX * ENDPOINTS_MAX];
	size_t used;
	char text[80];
};

static bool is_first(struct pinned *p, const struct stats_neighbour *n)
{
	for (uint32_t i = 0; i < p->seen_count; i++)
		if (is_same(&p->seen[i], n))
			return false;
	p->seen[p->seen_count++] = *n;
	return true;
}

static void tell(struct pinned *p, const struct stats_neighbour *n)
{
	char address[INET6_ADDRSTRLEN] = "", name[IF_NAMESIZE] = "";

	inet_ntop((int)n->family, n->address, address, sizeof(address));
	if_indextoname((unsigned int)n->index, name);
	p->count++;
	if (p->used < sizeof(p->text))
		p->used += (size_t)snprintf(p->text + p->used,
					    sizeof(p->text) - p->used,
					    "%s%s at %s", p->used ? ", " : "",
					    address, name);
}

static void pin_entry(struct entry *e, uint16_t states, struct stats_page *page,
		      struct pinned *p)
{
	int ret = look_at(e);

	if (!ret && (e->state & NUD_NOARP))
		return;
	if (!ret && !(e->state & (states | NUD_PERMANENT))) {
		p->unknown++;
		return;
	}
	/* Noted first: what is made and not noted would be nobody's. */
	if (!ret && (!(e->state & NUD_PERMANENT) || is_ours(e)) &&
	    !note(page, &e->neighbour))
		ret = -ENOSPC;
	if (!ret && !(e->state & NUD_PERMANENT))
		ret = make_permanent(e);
	if (!ret)
		ret = look_at(e); /* as read back */
	if (!ret && !(e->state & NUD_PERMANENT))
		ret = -EIO;
	if (!ret)
		tell(p, &e->neighbour);
	else
		p->error = ret;
}

static void pin_address(const struct sockaddr_storage *sa, uint16_t states,
			struct stats_page *page, struct pinned *p)
{
	struct entry e = { 0 };
	struct rtnl_route route;
	const void *address;
	int bytes;

	if ((sa->ss_family != AF_INET && sa->ss_family != AF_INET6) ||
	    rtnl_find_route(sa, &route) < 0 || route.type != RTN_UNICAST)
		return;
	address = rtnl_address(&route.next, &bytes);
	e.neighbour.index = route.index;
	e.neighbour.family = route.next.ss_family;
	memcpy(e.neighbour.address, address, (size_t)bytes);
	if (is_first(p, &e.neighbour))
		pin_entry(&e, states, page, p);
}

void neighbours_pin(const struct endpoints *ends, uint32_t at,
		    struct stats_page *page, struct stats_guarantee *rows)
{
	struct pinned p = { 0 };
	int fd = stats_lock();

	for (uint32_t i = 0; i < ends->count && fd >= 0; i++) {
		const struct link_addrs *addrs = &ends->list[i].addrs;

		for (uint32_t j = 0; j < addrs->count; j++)
			pin_address(&addrs->addr[j].sa,
				    i == at ? KNOWN : NUD_REACHABLE, page, &p);
	}
	if (fd >= 0)
		close(fd);
	else
		p.error = fd;
	if (p.error)
		stats_guarantee_replace(rows, NEIGHBOURS_ROW,
					GUARANTEE_DEGRADED,
					"cannot be made permanent: %s",
					strerror(-p.error));
	else if (p.count)
		stats_guarantee_replace(rows, NEIGHBOURS_ROW, GUARANTEE_OK,
					"permanent: %s", p.text);
	else if (p.unknown)
		stats_guarantee_replace(rows, NEIGHBOURS_ROW,
					GUARANTEE_DEGRADED,
					"the kernel knows none yet");
	else
		stats_guarantee_replace(rows, NEIGHBOURS_ROW, GUARANTEE_OK,
					"none is needed");
}

void neighbours_release(struct stats_page *page)
{
	int fd;

	if (!page->neighbours[0].index)
		return;
	fd = stats_lock();
	memset(page->neighbours, 0, sizeof(page->neighbours));
	(void)sweep();
	if (fd >= 0)
		close(fd);
}

int neighbours_drop_stale(void)
{
	int fd = stats_lock();
	int ret;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd; /* nothing was ever attached */
	ret = sweep();
	close(fd);
	return ret;
}
