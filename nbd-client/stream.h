/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The receiving side of a byte stream, the server's or the kernel's. One
 * receive is always armed: into a provided buffer where many small messages may
 * come in one piece, or straight to its place when the reader knows that a
 * large payload comes next. Bytes are handed to the reader where they lie, and
 * the buffer goes back at once; only a reader that cannot go on (no free slot)
 * keeps one, and then nothing more is received. A stream whose reader never stops
 * is armed once for many receives while nothing large comes.
 *
 * Data thread.
 */
#ifndef NBD_STREAM_H
#define NBD_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ring.h"

struct stream;

struct stream_ops {
	/*
	 * Takes what it can of `bytes` and returns how much: all, or less to
	 * be called again with the rest after stream_resume(); -1 when the peer
	 * has broken the protocol, which ends the stream.
	 */
	ssize_t (*on_bytes)(struct stream *s, const uint8_t *from,
			    size_t bytes);
	/*
	 * How many of the next bytes have a place of their own, and where.
	 * *ret_to left alone: they have none; then, if not 0, no more than so
	 * many are to be received at once, because what follows will have one.
	 */
	size_t (*place)(struct stream *s, uint8_t **ret_to);
	/* `bytes` have arrived there. */
	void (*on_placed)(struct stream *s, size_t bytes);
	/* No more will come: 0 end of file, -errno, -EPROTO after on_bytes. */
	void (*on_end)(struct stream *s, int error);
};

struct stream {
	const struct stream_ops *ops;
	struct ring *ring;
	struct rxring *rx;
	enum ring_file file;
	struct ring_op op;
	bool open;   /* a receive is armed, or will be by stream_step() */
	bool placed; /* the armed receive is one to its place */
	bool many;   /* it is one of many receives */
	bool fresh;  /* nothing has come since it was armed */
	uint32_t small_count;  /* receives since something large came */
	struct ring_op cancel; /* of the many, for something large comes */
	bool takes_all; /* what the reader is given, always */
	bool held;   /* the reader stopped within the buffer: */
	uint16_t held_id;
	uint32_t held_start;
	uint32_t held_end;
	uint64_t *receives;  /* counters in the status page */
	uint64_t *exhausted;
};

void stream_init(struct stream *s, const struct stream_ops *ops,
		 struct ring *ring, struct rxring *rx, enum ring_file file,
		 bool takes_all, uint64_t *receives, uint64_t *exhausted);

/* The file is connected: begin to receive. */
void stream_open(struct stream *s);

/* The reader can go on; or: a receive must be armed again. Cheap if not. */
void stream_step(struct stream *s);

/*
 * Forget what is held and arm nothing more. The receive that is armed ends when
 * the file is shut down; until then stream_busy().
 */
void stream_close(struct stream *s);

static inline bool stream_busy(const struct stream *s)
{
	return s->op.pending || s->cancel.pending;
}

#endif
