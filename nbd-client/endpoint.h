/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The servers that have a device's export, the preferred one first, and the
 * sockets for them: what all connections of a device have in common. The
 * addresses are looked up at attach, and later while memory is plentiful
 * (follow.h).
 *
 * Control thread.
 */
#ifndef NBD_ENDPOINT_H
#define NBD_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/err.h"
#include "include/bounds.h"
#include "include/export.h"
#include "nbd-client/link_tcp.h"
#include "nbd-client/sockets.h"
#include "nbd-client/tls.h"

struct endpoint {
	const struct addr *addr;
	struct link_addrs addrs;
	bool named; /* they can change: addr has a name for them */
	struct tls *tls; /* NULL: none is spoken */
};

struct endpoints {
	uint32_t count; /* 1 … ENDPOINTS_MAX */
	bool described; /* the export's description is its mark */
	struct endpoint list[ENDPOINTS_MAX];
	struct sockets sockets;
};

/* Resolves one more address, which must stay. 0 or -errno. */
int endpoints_add(struct endpoints *e, const struct addr *addr,
		  struct err *err);

/*
 * Makes ready sockets for them; at, family: the one that has answered already,
 * and by which of its addresses. As sockets_prepare().
 */
int endpoints_prepare(struct endpoints *e, uint32_t at, int family,
		      int *ret_reserved, struct err *err);

/* Whether the sockets to this server are ready ones. */
static inline bool endpoints_ready(const struct endpoints *e, uint32_t at)
{
	return e->sockets.count && e->list[at].addr->kind == ADDR_TCP;
}

/*
 * Other addresses of the same server: of `found`, those that there are ready
 * sockets for. False: there are none, or those in use are good still, which is
 * so if they are the same ones; with only_lost, if none of them is lost.
 */
bool endpoints_differ(const struct endpoints *e, uint32_t at, bool only_lost,
		      struct link_addrs *found);

/* One that comes next. */
static inline uint32_t endpoints_next(const struct endpoints *e, uint32_t at)
{
	return (at + 1) % e->count;
}

/*
 * What a device rests on must not change under it: may endpoint `at` serve `is`
 * where endpoint `was_at` had `was`? A larger one may take the place of the
 * same server's, or of any if its description proves that it is the same. 0,
 * X_REFUSED or X_TLS.
 */
int endpoints_check(const struct endpoints *e, const struct export_info *was,
		    uint32_t was_at, const struct export_info *is, uint32_t at,
		    struct err *err);

/* Whether an export has the mark that is to be compared. 0 or X_REFUSED. */
int endpoints_check_mark(const struct endpoints *e,
			 const struct export_info *is, struct err *err);

#endif
