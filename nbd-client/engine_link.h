/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between engine.c (requests) and engine_loop.c (the link, the loop). */
#ifndef NBD_ENGINE_LINK_H
#define NBD_ENGINE_LINK_H

#include "nbd-client/engine.h"

/* Sends or fails parked requests as far as link and throttle allow. */
void engine_dispatch(struct engine *e);

/* Parks what was put off and is due; ends what nobody waits for any more. */
void engine_retry(struct engine *e);

/* Memory has become low, or is no longer: pool and mail say so. */
void engine_update_low(struct engine *e);

/*
 * Once: stop using the link and tell the control thread. error: errno or 0;
 * reason: a literal, or NULL if errno says it all.
 */
void engine_link_lost(struct engine *e, int error, const char *reason);

/* The link is idle: unanswered requests are parked again. */
void engine_take_back(struct engine *e);

void engine_on_sent(struct tx *tx, struct tx_item *item);
struct request *engine_find(struct rx *rx, uint64_t cookie);
void engine_on_progress(struct rx *rx, struct request *r);
void engine_on_reply(struct rx *rx, struct request *r);

#endif
