/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ublk front: requests of ublk_drv come as the ends of io_uring commands,
 * one command per tag (drivers/block/ublk_drv.c, __ublk_ch_uring_cmd). When a
 * command ends, the tag's descriptor says what is asked, and a write's payload
 * lies in the tag's buffer already; the next command answers and asks for more.
 *
 * Tag and slot are the same number: the kernel is given the slot's memory with
 * each command, so a page travels between the block layer and a locked slot with
 * one copy, and there are never more tags than slots. All the slots' memory must
 * therefore stay in place as long as the device is there.
 *
 * Data thread, but for front_ublk_connect().
 */
#ifndef NBD_FRONT_UBLK_H
#define NBD_FRONT_UBLK_H

#include "common/ring.h"
#include "include/bounds.h"
#include "include/front.h"
#include "include/ublk-wire.h"

struct front_ublk;

struct front_ublk_tag {
	struct ring_op op; /* pending: the kernel has the tag */
	struct front_ublk *front;
};

struct front_ublk {
	struct front front;
	uint16_t queue;
	int fd;       /* /dev/ublkcN; never a registered file, see .c */
	int watch_fd; /* an io_uring of this process */
	const struct ublk_io_desc *descs; /* mapped, one per tag */
	struct ring_op watch;
	struct front_ublk_tag tags[SLOTS_MAX];
};

/* In zeroed memory; then give &f->front to engine_open(). */
void front_ublk_init(struct front_ublk *f);

/* Control thread, before the data thread starts. The last three outlive it. */
void front_ublk_connect(struct front_ublk *f, uint32_t queue, int fd,
			int watch_fd, const struct ublk_io_desc *descs);

#endif
