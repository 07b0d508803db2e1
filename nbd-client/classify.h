/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Classes of sockets: who may receive while memory is low.
 *
 * Critical: the connection to the server and the front's socket. They live on
 * the data thread, receive into the provided buffers of its ring and may draw
 * on the reserve. A connection becomes critical by MAIL_LINK_UP, which is sent
 * when its handshake has succeeded and it serves the export that was attached;
 * whatever else may connect or answer never gets there.
 *
 * Ordinary: all other sockets that bytes of others come from, which are the
 * clients of the control socket. They live on the control thread and receive
 * into the buffers here, one a message. While memory is low a buffer that was
 * used is not refilled: what comes waits in the kernel, within the send buffer
 * of its sender (as AF_UNIX counts it), and is counted as deferred. One
 * buffer a second comes back all the same, so that an administrator is heard.
 *
 * (Of netlink we receive only answers to our own questions.)
 *
 * Control thread.
 */
#ifndef NBD_CLASSIFY_H
#define NBD_CLASSIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ORDINARY_BUFFERS 4u
#define ORDINARY_BUFFER_BYTES 256u

struct ordinary {
	uint8_t buffers[ORDINARY_BUFFERS][ORDINARY_BUFFER_BYTES];
	uint32_t ready;  /* buffers [0, ready) may be received into */
	bool low;
	uint64_t refill_ns; /* while low: when the next one comes back */
	uint64_t deferred;  /* messages that had to wait */
};

void ordinary_init(struct ordinary *o);

/* Whether memory is low now; call it at least once a second. */
void ordinary_update(struct ordinary *o, bool low, uint64_t now_ns);

static inline bool ordinary_ready(const struct ordinary *o)
{
	return o->ready > 0;
}

/* A buffer for one message, of ORDINARY_BUFFER_BYTES; NULL: not now. */
void *ordinary_take(struct ordinary *o);

/* The message has been dealt with, or there was none after all. */
void ordinary_give(struct ordinary *o, bool used);

/* A message was seen to wait; once for each. */
void ordinary_defer(struct ordinary *o);

#endif
