// SPDX-License-Identifier: GPL-2.0-or-later
/* The servers of a device. See endpoint.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/text.h"
#include "nbd-client/endpoint.h"

int endpoints_add(struct endpoints *e, const struct addr *addr, struct err *err)
{
	struct endpoint *end = &e->list[e->count];
	int ret;

	CHECK(e->count < ENDPOINTS_MAX);
	ret = link_resolve(addr, &end->addrs, err);
	if (ret < 0)
		return ret;
	end->addr = addr;
	end->named = addr->kind == ADDR_TCP && !link_is_numeric(addr);
	e->count++;
	return 0;
}

/* ---- sockets ---- */

static bool has_family(const struct link_addrs *addrs, int family)
{
	for (uint32_t i = 0; i < addrs->count; i++)
		if (addrs->addr[i].sa.ss_family == family)
			return true;
	return false;
}

/* Of each family as many as two connections of it need, and a spare one. */
int endpoints_prepare(struct endpoints *e, uint32_t at, int family,
		      int *ret_reserved, struct err *err)
{
	static const int families[] = { AF_INET, AF_INET6 };
	int ret = 0;

	for (uint32_t f = 0; f < 2 && !ret; f++) {
		uint32_t wanting = 0;

		for (uint32_t i = 0; i < e->count; i++)
			wanting += i == at ? family == families[f] :
					     has_family(&e->list[i].addrs,
							families[f]);
		if (wanting)
			ret = sockets_prepare(&e->sockets, families[f],
					      SOCKETS_COUNT + (wanting > 1),
					      ret_reserved, err);
	}
	return ret;
}

/* ---- other addresses ---- */

static bool has_socket(const struct sockets *s, int family)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (s->ready[i].family == family)
			return true;
	return !s->count;
}

/* Whether all of a are among b's. */
static bool are_among(const struct link_addrs *a, const struct link_addrs *b)
{
	for (uint32_t i = 0; i < a->count; i++) {
		bool found = false;

		for (uint32_t j = 0; j < b->count && !found; j++)
			found = a->addr[i].sa_bytes == b->addr[j].sa_bytes &&
				!memcmp(&a->addr[i].sa, &b->addr[j].sa,
					a->addr[i].sa_bytes);
		if (!found)
			return false;
	}
	return true;
}

bool endpoints_differ(const struct endpoints *e, uint32_t at, bool only_lost,
		      struct link_addrs *found)
{
	const struct link_addrs *is = &e->list[at].addrs;
	uint32_t count = 0;

	for (uint32_t i = 0; i < found->count; i++)
		if (has_socket(&e->sockets, found->addr[i].sa.ss_family))
			found->addr[count++] = found->addr[i];
	found->count = count;
	return count && !(are_among(is, found) &&
			  (only_lost || are_among(found, is)));
}

/* ---- is it the same? ---- */

static int refuse(const struct endpoints *e, uint32_t at, struct err *err,
		  const char *what)
{
	return err_set(err, X_REFUSED, ESTALE, "%s%s%s; is it still the same "
		       "server and export?",
		       e->count > 1 ? e->list[at].addrs.where : "",
		       e->count > 1 ? ": " : "", what);
}

int endpoints_check_mark(const struct endpoints *e,
			 const struct export_info *is, struct err *err)
{
	if (!e->described || is->description[0])
		return 0;
	return err_set(err, X_REFUSED, ENODATA,
		       "the server gives its export no description, which "
		       "--identity=description compares; give it one "
		       "(qemu-nbd -D TEXT), or leave that option out");
}

static int check_size(const struct endpoints *e, const struct export_info *was,
		      uint32_t was_at, const struct export_info *is,
		      uint32_t at, struct err *err)
{
	char what[128];

	if (is->size_bytes == was->size_bytes ||
	    (is->size_bytes > was->size_bytes &&
	     (at == was_at || e->described)))
		return 0;
	snprintf(what, sizeof(what),
		 "the export's size has changed from %llu to %llu bytes%s",
		 (unsigned long long)was->size_bytes,
		 (unsigned long long)is->size_bytes,
		 at == was_at || e->described ? ", and a device cannot shrink" :
						"");
	return refuse(e, at, err, what);
}

int endpoints_check(const struct endpoints *e, const struct export_info *was,
		    uint32_t was_at, const struct export_info *is, uint32_t at,
		    struct err *err)
{
	char what[128];
	int ret = check_size(e, was, was_at, is, at, err);

	if (ret < 0)
		return ret;
	if (was->flags != is->flags) {
		snprintf(what, sizeof(what),
			 "the export's flags have changed from 0x%x to 0x%x",
			 was->flags, is->flags);
		return refuse(e, at, err, what);
	}
	if (was->block_min != is->block_min || was->block_max != is->block_max)
		return refuse(e, at, err, "the export's block sizes have changed");
	if (e->described && strcmp(was->description, is->description) != 0)
		return refuse(e, at, err,
			      "the export's description has changed");
	/* With --tls=allow whoever breaks a connection could choose. */
	if (was->tls && !is->tls && e->list[at].tls)
		return err_set(err, X_TLS, EPROTO,
			       "the connection was encrypted before, and now the server has no TLS, "
			       "or somebody makes it look so; detach and attach again if that was meant");
	return 0;
}
