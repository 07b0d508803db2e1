// SPDX-License-Identifier: GPL-2.0-or-later
/* Buffers around TLS records. See records.h. Data thread. */
#include "nbd-client/records.h"
#include "common/check.h"

void records_start(struct records *r, const struct tls_half *seal,
		   const struct tls_half *open)
{
	r->seal = *seal;
	tls_open_start(&r->open, open);
	r->out_start = r->out_end = r->out_plain = 0;
}

/* The first parts that fit into a record, the last one perhaps in part. */
static int seal_some(struct records *r, struct iovec **parts, size_t *count)
{
	struct iovec *p = *parts, rest = { 0 };
	size_t bytes = 0, n = 0;
	ssize_t sealed;

	while (n < *count && bytes < TLS_CONTENT_MAX) {
		size_t room = TLS_CONTENT_MAX - bytes;

		if (p[n].iov_len > room) {
			rest.iov_base = (uint8_t *)p[n].iov_base + room;
			rest.iov_len = p[n].iov_len - room;
			p[n].iov_len = room;
		}
		bytes += p[n++].iov_len;
	}
	sealed = tls_seal(&r->seal, p, n, r->out + r->out_end);
	if (sealed < 0)
		return -1;
	r->out_end += (uint32_t)sealed;
	r->out_plain += (uint32_t)bytes;
	if (rest.iov_len)
		p[--n] = rest;
	*parts += n;
	*count -= n;
	return 0;
}

int records_fill(struct records *r, struct iovec *parts, size_t count)
{
	CHECK(records_empty(r));
	r->out_start = r->out_end = r->out_plain = 0;
	while (count && RECORDS_OUT_BYTES - r->out_end >=
				TLS_CONTENT_MAX + TLS_OVERHEAD_MAX)
		if (seal_some(r, &parts, &count) < 0)
			return -1;
	return 0;
}

size_t records_sent(struct records *r, size_t bytes)
{
	CHECK(bytes <= r->out_end - r->out_start);
	r->out_start += (uint32_t)bytes;
	return records_empty(r) ? r->out_plain : 0;
}
