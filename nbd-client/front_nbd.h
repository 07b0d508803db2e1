/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The nbd front: we are the server that nbd.ko talks to, over one end of a
 * socketpair. Requests come as NBD requests and are answered with simple
 * replies (drivers/block/nbd.c, nbd_send_cmd and nbd_read_reply). Errors all
 * become EIO there.
 *
 * Data thread.
 */
#ifndef NBD_FRONT_NBD_H
#define NBD_FRONT_NBD_H

#include <stdint.h>

#include "include/front.h"
#include "include/nbd-wire.h"
#include "nbd-client/stream.h"
#include "nbd-client/tx.h"

struct front_nbd {
	struct front front;
	struct stream stream;
	struct tx tx;
	uint8_t head[sizeof(struct nbd_request)];
	uint32_t head_bytes;
	struct request *request; /* being received; NULL between two */
	uint32_t payload_bytes;  /* of it, that have come */
	int refused; /* errno for it; its payload is thrown away */
};

/* In zeroed memory; then give &f->front to engine_open(). */
void front_nbd_init(struct front_nbd *f);

#endif
