/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The record layer of an encrypted link, between its stream and rx and between
 * tx and the ring, with buffers of its own: plain text never lies where the
 * kernel sends from, and what has not been verified never reaches a slot.
 *
 * Data thread, from MAIL_LINK_UP to NEWS_LINK_IDLE; the control thread readies
 * it in between.
 */
#ifndef NBD_RECORDS_H
#define NBD_RECORDS_H

#include <stddef.h>
#include <stdint.h>

#include "common/tls_record.h"

/*
 * To one send. Few, so that the server has something to do while the next ones
 * are sealed.
 */
#define RECORDS_OUT_COUNT 3u
#define RECORDS_OUT_BYTES                                                      \
	(RECORDS_OUT_COUNT * (TLS_CONTENT_MAX + TLS_OVERHEAD_MAX))

/* Large: in the pinned region. */
struct records {
	struct tls_half seal;
	struct tls_open open;
	uint32_t out_start; /* out_start <= out_end */
	uint32_t out_end;
	uint32_t out_plain; /* what is in out, before it was sealed */
	uint8_t out[RECORDS_OUT_BYTES];
};

/* Control thread; the halves have been set up for this connection. */
void records_start(struct records *r, const struct tls_half *seal,
		   const struct tls_half *open);

/*
 * Out is empty: seals as much of the parts as it holds. They are changed.
 * 0, or -1 if the cipher fails.
 */
int records_fill(struct records *r, struct iovec *parts, size_t count);

static inline bool records_empty(const struct records *r)
{
	return r->out_start == r->out_end;
}

/* What is to be sent. */
static inline struct iovec records_out(struct records *r)
{
	return (struct iovec){ .iov_base = r->out + r->out_start,
			       .iov_len = r->out_end - r->out_start };
}

/* So much of it has left: how many plain bytes are through with it; or 0. */
size_t records_sent(struct records *r, size_t bytes);

#endif
