// SPDX-License-Identifier: GPL-2.0-or-later
/* Requests of ublk_drv in, results out; the data thread. */
#include <errno.h>
#include <inttypes.h>

#include "common/check.h"
#include "nbd-client/engine.h"
#include "nbd-client/front_ublk.h"

#define SECTOR_SHIFT 9

static struct front_ublk *of_front(struct front *f)
{
	return list_entry(f, struct front_ublk, front);
}

/*
 * By descriptor, not by registered file: a registered one would be held by the
 * ring until the kernel has torn the ring down, and as long as it is held nobody
 * can take over the device of a process that has died.
 */
static void command(struct front_ublk *f, uint32_t tag, uint32_t opcode,
		    int32_t result)
{
	struct engine *e = f->front.engine;
	const struct ublk_io_cmd c = {
		.q_id = f->queue,
		.tag = (uint16_t)tag,
		.result = result,
		.addr = (uintptr_t)e->requests[tag].data,
	};

	ring_command(&e->ring, &f->tags[tag].op, f->fd, opcode, &c, sizeof(c));
}

static uint16_t nbd_command(uint32_t op)
{
	switch (op) {
	case UBLK_IO_OP_READ:
		return NBD_CMD_READ;
	case UBLK_IO_OP_WRITE:
		return NBD_CMD_WRITE;
	case UBLK_IO_OP_FLUSH:
		return NBD_CMD_FLUSH;
	case UBLK_IO_OP_DISCARD:
		return NBD_CMD_TRIM;
	case UBLK_IO_OP_WRITE_ZEROES:
		return NBD_CMD_WRITE_ZEROES;
	default:
		return UINT16_MAX; /* which engine_check() refuses */
	}
}

static void describe(struct request *r, const struct ublk_io_desc *d)
{
	r->command = nbd_command(d->op_flags & 0xff);
	r->flags = 0;
	if (d->op_flags & UBLK_IO_F_FUA)
		r->flags |= NBD_CMD_FLAG_FUA;
	if (r->command == NBD_CMD_WRITE_ZEROES &&
	    d->op_flags & UBLK_IO_F_NOUNMAP)
		r->flags |= NBD_CMD_FLAG_NO_HOLE;
	r->front_tag = r->index;
	/* The kernel leaves the old place in the descriptor of a flush. */
	r->offset = 0;
	r->length = 0;
	if (r->command == NBD_CMD_FLUSH)
		return;
	r->offset = d->start_sector << SECTOR_SHIFT;
	/* Limited by max_discard_sectors and the like: fits into 32 bits. */
	r->length = d->nr_sectors << SECTOR_SHIFT;
}

static void on_command(struct ring_op *op, int res, uint32_t flags)
{
	struct front_ublk_tag *tag =
		list_entry(op, struct front_ublk_tag, op);
	struct front_ublk *f = tag->front;
	struct engine *e = f->front.engine;
	struct request *r;
	int error;

	(void)flags;
	if (res != UBLK_IO_RES_OK) {
		if (res != UBLK_IO_RES_ABORT && !f->front.gone)
			log_ring_put(&e->log, LOG_LEVEL_ERR,
				     "ublk: the command for tag %" PRIu64
				     " ended with errno %" PRIu64,
				     (uint64_t)(tag - f->tags), (uint64_t)-res);
		engine_front_gone(e);
		return;
	}
	e->stats->front_receives++;
	r = engine_take_slot(e, (uint32_t)(tag - f->tags));
	describe(r, &f->descs[r->index]);
	error = engine_check(e, r);
	if (error)
		engine_refuse(e, r, error);
	else
		engine_submit(e, r);
}

static void front_open(struct front *front)
{
	struct front_ublk *f = of_front(front);
	struct engine *e = front->engine;

	f->watch.on_done = ring_ignore;
	ring_watch(&e->ring, &f->watch, f->watch_fd);
	for (uint32_t i = 0; i < e->config.slots; i++) {
		f->tags[i].front = f;
		f->tags[i].op.on_done = on_command;
		command(f, i, UBLK_U_IO_FETCH_REQ, 0);
	}
}

/* A tag comes with its slot, so nothing ever waits for one. */
static void front_step(struct front *front)
{
	(void)front;
}

/* Answers are commands in the ring; the next round submits them together. */
static void front_flush(struct front *front)
{
	(void)front;
}

static void front_complete(struct front *front, struct request *r)
{
	struct front_ublk *f = of_front(front);
	uint32_t tag = r->index;
	int32_t result = 0;

	if (r->error)
		result = -r->error;
	else if (r->command == NBD_CMD_READ || r->command == NBD_CMD_WRITE)
		result = (int32_t)r->length;
	/*
	 * The kernel reads the slot when the command is submitted. Nobody else
	 * writes to it before: the slot is taken by this tag only, and the tag
	 * comes back only after that.
	 */
	engine_release(front->engine, r);
	if (front->gone)
		return;
	front->engine->stats->front_sends++;
	command(f, tag, UBLK_U_IO_COMMIT_AND_FETCH_REQ, result);
}

static const struct front_ops front_ublk_ops = {
	.name = "ublk",
	.open = front_open,
	.step = front_step,
	.flush = front_flush,
	.complete = front_complete,
};

void front_ublk_init(struct front_ublk *f)
{
	f->front = (struct front){ .ops = &front_ublk_ops };
}

void front_ublk_connect(struct front_ublk *f, uint32_t queue, int fd,
			int watch_fd, const struct ublk_io_desc *descs)
{
	f->queue = (uint16_t)queue;
	f->fd = fd;
	f->watch_fd = watch_fd;
	f->descs = descs;
}
