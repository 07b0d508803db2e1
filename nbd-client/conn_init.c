// SPDX-License-Identifier: GPL-2.0-or-later
/* A connection before its first attempt: its servers, and TLS for them. */
#include <string.h>

#include "common/check.h"
#include "nbd-client/conn.h"
#include "nbd-client/ktls.h"
#include "nbd-client/tls_memory.h"

static void init(struct conn *c, struct endpoints *ends, uint32_t handshake_ms)
{
	memset(c, 0, sizeof(*c));
	c->state = CONN_DOWN;
	c->fd = -1;
	c->dial.fd = -1;
	c->ends = ends;
	c->handshake_ms = handshake_ms;
	c->backoff_ms = CONN_BACKOFF_MIN_MS;
	c->fence_ms = CONN_FENCE_MS;
	c->records = STATS_RECORDS_NONE;
	c->may_load = true;
	link_tls_init(&c->link_tls, NULL);
}

int conn_init(struct conn *c, const struct addr *addr,
	      const struct socket_memory *memory, uint32_t handshake_ms,
	      struct err *err)
{
	init(c, &c->own, handshake_ms);
	sockets_init(&c->own.sockets, memory);
	return conn_add(c, addr, err);
}

int conn_add(struct conn *c, const struct addr *addr, struct err *err)
{
	int ret = endpoints_add(c->ends, addr, err);

	c->round = c->left = c->ends->count;
	return ret;
}

void conn_init_known(struct conn *c, const struct endpoints *ends,
		     const struct export_info *export, uint32_t at, int family,
		     uint32_t handshake_ms)
{
	init(c, &c->own, handshake_ms);
	c->own = *ends;
	c->round = c->left = ends->count;
	c->export = *export;
	c->known = true;
	c->at = c->known_at = at;
	c->family = family;
}

/* One attempt, then a pause: nobody waits for it. */
void conn_init_beside(struct conn *c, struct conn *first)
{
	init(c, first->ends, first->handshake_ms);
	c->round = c->left = 1;
	c->request_timeout_ms = first->request_timeout_ms;
	c->for_kernel = first->for_kernel;
	c->no_ktls = first->no_ktls;
	c->simple_replies = first->simple_replies;
}

void conn_choose_replies(struct conn *c, bool swap)
{
	c->simple_replies = swap || c->for_kernel ||
			    c->ends->list[0].addr->kind == ADDR_UNIX;
}

void conn_init_another(struct conn *c, struct conn *first)
{
	struct link_addrs *addrs = &first->own.list[0].addrs;

	CHECK(first->ends == &first->own && first->own.count == 1);
	CHECK(first->state == CONN_DOWN && first->known);
	if (addrs->count > 1)
		addrs->addr[0] = addrs->addr[first->dial.at];
	addrs->count = 1;
	conn_init_known(c, &first->own, &first->export, first->known_at,
			first->family, first->handshake_ms);
	sockets_init(&c->own.sockets, &first->own.sockets.memory);
	c->fence_ms = first->fence_ms;
	c->request_timeout_ms = first->request_timeout_ms;
	c->no_ktls = first->no_ktls;
	c->simple_replies = first->simple_replies;
}

void conn_set_tls(struct conn *c, struct tls *tls)
{
	c->ends->list[0].tls =
		tls && tls->mode != HANDSHAKE_TLS_OFF ? tls : NULL;
}

/* What "auto" comes to, or whether "kernel" is possible. */
static int choose_records(struct conn *c, enum tls_records records,
			  struct err *err)
{
	int ret = records == TLS_RECORDS_USER ? 0 : ktls_probe();

	if (records == TLS_RECORDS_USER)
		c->no_ktls = "as asked for";
	else if (ret < 0)
		c->no_ktls = "this kernel has no module tls";
	if (ret == 0 || records == TLS_RECORDS_AUTO)
		return 0;
	return err_set(err, X_KERNEL, -ret,
		       "this kernel makes no TLS records: %s; load its module, tls, or leave out --tls-records=kernel",
		       strerror(-ret));
}

int conn_init_tls(struct conn *c, struct tls tls[],
		  const struct tls_options *options, struct err *err)
{
	const struct tls *first = NULL;
	int ret = 0;

	for (uint32_t i = 0; i < c->ends->count && !ret; i++) {
		struct endpoint *end = &c->ends->list[i];
		enum handshake_tls mode;

		ret = tls_decide(options, end->addr, &mode, err);
		if (ret < 0 || mode == HANDSHAKE_TLS_OFF)
			continue;
		ret = tls_memory_open(err);
		if (!ret)
			ret = tls_open_beside(&tls[i], first, options,
					      end->addr, err);
		end->tls = &tls[i];
		first = end->tls;
	}
	if (ret == 0 && first)
		ret = choose_records(c, first->records, err);
	return ret;
}
