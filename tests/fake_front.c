// SPDX-License-Identifier: GPL-2.0-or-later
/* A front played by hand; see fake_front.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "common/list.h"
#include "include/nbd-wire.h"
#include "nbd-client/engine.h"
#include "tests/fake_front.h"

static struct fake_front *of_front(struct front *f)
{
	return list_entry(f, struct fake_front, front);
}

static void front_open(struct front *front)
{
	of_front(front)->opens++;
}

static void front_step(struct front *front)
{
	of_front(front)->steps++;
}

static void front_flush(struct front *front)
{
	of_front(front)->flushes++;
}

static void front_complete(struct front *front, struct request *r)
{
	struct fake_front *f = of_front(front);

	assert_int_equal(r->state, REQUEST_DONE);
	assert_true(f->done_count < FAKE_FRONT_DONE_MAX);
	f->done[f->done_count++] = (struct fake_done){ r->front_tag, r->error };
	if (f->on_complete)
		f->on_complete(f, r);
	if (f->keep)
		f->kept[f->kept_count++] = r;
	else
		engine_release(front->engine, r);
}

static const struct front_ops fake_front_ops = {
	.name = "fake",
	.open = front_open,
	.step = front_step,
	.flush = front_flush,
	.complete = front_complete,
};

void fake_front_init(struct fake_front *f)
{
	memset(f, 0, sizeof(*f));
	f->front.ops = &fake_front_ops;
}

uint8_t fake_front_byte(uint64_t tag, uint64_t offset)
{
	return (uint8_t)(tag * 131 + offset * 7 + (offset >> 8) + 1);
}

struct request *fake_front_submit(struct fake_front *f, uint16_t command,
				  uint16_t flags, uint64_t offset,
				  uint32_t length, uint64_t tag)
{
	struct engine *e = f->front.engine;
	struct request *r = engine_take(e);
	int error;

	if (!r)
		return NULL;
	r->command = command;
	r->flags = flags;
	r->offset = offset;
	r->length = length;
	r->front_tag = tag;
	error = engine_check(e, r);
	if (error) {
		engine_refuse(e, r, error);
		return r;
	}
	for (uint32_t i = 0; command == NBD_CMD_WRITE && i < length; i++)
		r->data[i] = fake_front_byte(tag, offset + i);
	engine_submit(e, r);
	return r;
}

void fake_front_release(struct fake_front *f)
{
	struct request *r;

	assert_true(f->kept_count > 0);
	r = f->kept[0];
	f->kept_count--;
	memmove(f->kept, f->kept + 1, f->kept_count * sizeof(f->kept[0]));
	engine_release(f->front.engine, r);
}
