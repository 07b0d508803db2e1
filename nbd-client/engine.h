/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A data thread's engine: takes requests from its front, admits them to the
 * link, matches replies, and keeps every unanswered request for the day when
 * the link is back. Everything it needs is in one struct, carved from the
 * pinned region; after engine_open() it takes memory from nowhere.
 *
 * All functions run on the data thread, but for the mail: engine_post() and
 * engine_news(), which the control thread calls.
 */
#ifndef NBD_ENGINE_H
#define NBD_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "common/log.h"
#include "common/pool.h"
#include "common/ring.h"
#include "include/ctl.h"
#include "include/export.h"
#include "include/front.h"
#include "include/request.h"
#include "nbd-client/records.h"
#include "nbd-client/rx.h"
#include "nbd-client/stream.h"
#include "nbd-client/throttle.h"
#include "nbd-client/tx.h"

/* From the control thread to the engine; several may be posted together. */
enum engine_mail {
	MAIL_FRONT_UP = 1u << 0, /* mail.front_fd is the kernel's socket */
	MAIL_LINK_UP = 1u << 1,  /* mail.link_fd has been negotiated */
	MAIL_LINK_DROP = 1u << 2, /* give the link up, as if it were lost */
	MAIL_FAIL = 1u << 3,     /* no more waiting for the link: fail with EIO */
	MAIL_CLOSE = 1u << 4,    /* once the front is gone: drain, DISC */
	MAIL_STOP = 1u << 5,     /* leave engine_run() */
	MAIL_TIGHT = 1u << 6,    /* the host is short of memory: hold back */
	MAIL_PLENTY = 1u << 7,   /* not any more */
	MAIL_POOL = 1u << 8,     /* base slots have come home, or are asked for */
};

/* From the engine to the control thread. */
enum engine_news {
	NEWS_LINK_LOST = 1u << 0, /* shut the socket down; news.link_error */
	NEWS_LINK_IDLE = 1u << 1, /* nothing of ours uses the old socket */
	NEWS_FRONT_GONE = 1u << 2,
	NEWS_CLOSED = 1u << 3, /* drained; the server has been told */
	NEWS_FAILED = 1u << 4, /* the ring is broken; the thread has ended */
	NEWS_POOL = 1u << 5,   /* base slots that were asked for are in */
};

enum engine_link {
	ENGINE_LINK_DOWN,
	ENGINE_LINK_UP,
	ENGINE_LINK_DRAINING, /* lost; the kernel still holds operations */
};

/* The answer that the server owes longest. */
struct engine_owed {
	uint64_t since_ns; /* the last sign of it, or the request; 0: none is owed */
	uint64_t offset;   /* what the request is about */
	bool read;
	bool overtaken; /* later ones have been answered; since then it is owed */
};

struct engine_config {
	uint32_t slots;
	uint32_t slots_reserve; /* the last ones of them */
	uint32_t slot_bytes;
	struct throttle_window open;
	struct throttle_window guaranteed; /* when memory is low */
	uint32_t retry_ms; /* what the server fails is asked again for so long; 0: not */
	uint32_t record_bytes; /* of the record layer, beside us; 0: no TLS */
	const struct export_info *export; /* constant while attached */
};

/* Page-aligned; the sizes are those of engine_*_bytes(). */
struct engine_memory {
	void *base;    /* of the base slots: not there until they come home */
	void *reserve; /* of the reserve's slots, pinned */
	void *rx;      /* of the receive buffers, pinned */
};

struct engine {
	/* What never changes after engine_open(). */
	struct engine_config config;
	struct export_info export;
	struct stats_data *stats;
	struct front *front;
	struct engine_memory memory;

	struct ring ring;
	struct rxring rx_critical; /* receive buffers of the front and link */
	struct pool pool;
	struct throttle throttle;
	struct request requests[SLOTS_MAX];
	struct list parked;    /* oldest first */
	struct list in_flight; /* in the order of sending */
	struct list put_off;   /* in the order of failing */
	uint64_t retry_ns;     /* when the first of these is due; 0: none is */
	uint64_t retry_told_ns; /* in the log, which is not for each of them */

	enum engine_link link;
	struct stream link_stream;
	struct tx link_tx;
	struct rx link_rx;
	struct records *records; /* of the link; NULL: bytes are as they come */
	uint64_t heard_ns; /* when something came on this link; 0: nothing has */
	bool long_reply; /* is likely to come next; as it was, when idle */
	bool failing; /* MAIL_FAIL: parked requests fail, until the link is up */
	bool closing; /* MAIL_CLOSE */
	bool tight;   /* MAIL_TIGHT */
	bool stopping;
	bool stalled; /* the front waits for a slot */
	struct tx_item disc;

	struct ring_op mail_op;
	struct ring_op news_op;
	uint64_t mail_word;
	uint64_t news_word;
	uint32_t news_pending; /* for the control thread, not yet written */

	/* Shared with the control thread. */
	struct {
		_Atomic uint32_t bits; /* enum engine_mail */
		int event_fd;
		int front_fd; /* valid before MAIL_FRONT_UP is posted */
		int link_fd;  /* valid before MAIL_LINK_UP is posted */
		bool structured; /* of that link */
		uint64_t export_bytes; /* there; 0, or larger than before */
		struct records *records; /* started for that link; or NULL */
	} mail;
	struct {
		_Atomic uint32_t bits; /* enum engine_news */
		int event_fd;
		_Atomic int link_error; /* errno; 0: end of file */
		const char *_Atomic link_reason; /* literal, or NULL */
		_Atomic bool link_mute; /* asked, it has not said a word */
		_Atomic bool link_answered;
		_Atomic bool low; /* at the last look */
		_Atomic uint64_t owed_since_ns; /* of struct engine_owed */
		_Atomic uint64_t owed_offset;
		_Atomic bool owed_read;
		_Atomic bool owed_overtaken;
	} news;
	struct log_ring log;
};

/* Bytes of each part of struct engine_memory. */
size_t engine_base_bytes(const struct engine_config *c);
size_t engine_reserve_bytes(const struct engine_config *c);
size_t engine_rx_bytes(void);

/*
 * Before the thread starts: the engine lies in zeroed pinned memory. The base of
 * its pool is empty; base.h fills it. The event descriptors and all sockets given
 * later are in blocking mode: io_uring then waits for them by itself.
 */
void engine_init(struct engine *e, const struct engine_config *config,
		 const struct engine_memory *memory, struct stats_data *stats,
		 int mail_fd, int news_fd);

/* On the data thread: the ring and all that it warms up. 0 or -errno. */
int engine_open(struct engine *e, struct front *front);

/* Serves until MAIL_STOP. */
void engine_run(struct engine *e);

/* One round: wait up to timeout_ms, then do all there is to do. 0 or -errno. */
int engine_round(struct engine *e, uint32_t timeout_ms);

void engine_close(struct engine *e);

/* ---- for fronts ---- */

/* A slot for a request that begins to arrive; NULL: stop, step() will come. */
struct request *engine_take(struct engine *e);

/* The slot of that index, which is free: for fronts with a slot per tag. */
struct request *engine_take_slot(struct engine *e, uint32_t index);

/*
 * May the request be served? 0, or the errno it must fail with; then its
 * payload is not wanted either. Call once command, flags, offset and length are
 * known and before payload is put into r->data.
 */
int engine_check(struct engine *e, const struct request *r);

/* Complete with its payload: park it, send it as soon as admitted. */
void engine_submit(struct engine *e, struct request *r);

/* Fails a request that engine_check() refused. */
void engine_refuse(struct engine *e, struct request *r, int error);

/* The answer has left: the slot is free. */
void engine_release(struct engine *e, struct request *r);

/* The kernel's end is gone. */
void engine_front_gone(struct engine *e);

/* ---- for the control thread ---- */

void engine_post(struct engine *e, uint32_t mail_bits);

/* What has happened since the last call: enum engine_news bits. */
uint32_t engine_take_news(struct engine *e);

/* At the last look; parts of it may be a round older than others. */
static inline struct engine_owed engine_owed(const struct engine *e)
{
	return (struct engine_owed){
		.since_ns = atomic_load(&e->news.owed_since_ns),
		.offset = atomic_load(&e->news.owed_offset),
		.read = atomic_load(&e->news.owed_read),
		.overtaken = atomic_load(&e->news.owed_overtaken),
	};
}

/* Whether memory is low, so that only the guaranteed window is open. */
static inline bool engine_is_low(const struct engine *e)
{
	return atomic_load(&e->news.low);
}

#endif
