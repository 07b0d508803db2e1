// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ublk front on the fake ring; the test is the kernel's driver: it writes
 * descriptors and payloads, ends commands, and looks at the next ones.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "nbd-client/front_ublk.h"
#include "tests/engine_rig.h"

#define SLOTS 8u
#define QUEUE 3u
#define CHAR_FD 50
#define URING_FD 51

static struct front_ublk front;
static struct ublk_io_desc descs[SLOTS];
static struct ring_op *ops[SLOTS]; /* of the command that the kernel has */

/* The next command must be this one. */
static void expect_command(uint32_t opcode, uint32_t tag, int32_t result)
{
	struct fake_command c;
	struct ublk_io_cmd io;

	rig_settle();
	if (!fake_ring_next_command(&c))
		fail_msg("no command for tag %u", tag);
	memcpy(&io, c.argument, sizeof(io));
	assert_int_equal(c.fd, CHAR_FD);
	assert_int_equal(c.opcode, opcode);
	assert_int_equal(io.q_id, QUEUE);
	assert_int_equal(io.tag, tag);
	assert_int_equal(io.result, result);
	assert_true(io.addr == (uintptr_t)rig.e->requests[tag].data);
	ops[tag] = c.op;
}

static void expect_no_command(void)
{
	struct fake_command c;

	rig_settle();
	assert_false(fake_ring_next_command(&c));
}

static void expect_commit(uint32_t tag, int32_t result)
{
	expect_command(UBLK_U_IO_COMMIT_AND_FETCH_REQ, tag, result);
}

static int set_up(void **state)
{
	(void)state;
	memset(&front, 0, sizeof(front));
	memset(descs, 0, sizeof(descs));
	front_ublk_init(&front);
	front_ublk_connect(&front, QUEUE, CHAR_FD, URING_FD, descs);
	rig_open_pool(0, SLOTS, &front.front);
	rig.e->mail.front_fd = -1;
	engine_post(rig.e, MAIL_FRONT_UP);
	for (uint32_t i = 0; i < SLOTS; i++)
		expect_command(UBLK_U_IO_FETCH_REQ, i, 0);
	expect_no_command();
	rig_link_up();
	return 0;
}

/* The driver has a request for a tag. */
static void ask(uint32_t tag, uint32_t op, uint32_t flags, uint64_t sector,
		uint32_t sectors)
{
	descs[tag] = (struct ublk_io_desc){
		.op_flags = op | flags,
		.nr_sectors = sectors,
		.start_sector = sector,
		.addr = (uintptr_t)rig.e->requests[tag].data,
	};
	fake_ring_end_command(ops[tag], UBLK_IO_RES_OK);
}

static void one_watch_and_no_registered_file(void **state)
{
	(void)state;
	assert_int_equal(fake_ring_watches(), 1);
	assert_int_equal(fake_ring.files[RING_FRONT].fd, -1);
	rig_close();
}

static void reads_lie_in_the_tags_slot(void **state)
{
	uint64_t cookie;

	(void)state;
	ask(3, UBLK_IO_OP_READ, 0, 16, 8);
	rig_settle();
	cookie = rig_expect(NBD_CMD_READ, 8192, 4096);
	assert_int_equal((uint32_t)cookie, 3);
	expect_no_command();
	rig_answer_read(cookie, 8192, 4096);
	rig_answer();
	expect_commit(3, 4096);
	for (uint32_t i = 0; i < 4096; i++)
		assert_int_equal(rig.e->requests[3].data[i],
				 rig_disk_byte(8192 + i));
	assert_int_equal(rig.stats.bytes[STATS_READ], 4096);
	rig_close();
}

static void writes_leave_from_the_tags_slot(void **state)
{
	static struct rig_request got;

	(void)state;
	memset(rig.e->requests[7].data, 0x77, 8192);
	ask(7, UBLK_IO_OP_WRITE, UBLK_IO_F_FUA, 0, 16);
	rig_settle();
	assert_true(rig_next(&got));
	assert_int_equal(got.head.command, NBD_CMD_WRITE);
	assert_int_equal(got.head.flags, NBD_CMD_FLAG_FUA);
	assert_int_equal(got.head.length_bytes, 8192);
	for (uint32_t i = 0; i < 8192; i++)
		assert_int_equal(got.payload[i], 0x77);
	rig_answer_simple(got.head.cookie, 0);
	expect_commit(7, 8192);
	rig_close();
}

/* Flags that only some commands know, and places that a flush does not have. */
static void the_others(void **state)
{
	static struct rig_request got;

	(void)state;
	ask(0, UBLK_IO_OP_FLUSH, 0, 999, 5);
	rig_settle();
	rig_answer_simple(rig_expect(NBD_CMD_FLUSH, 0, 0), 0);
	expect_commit(0, 0);
	ask(0, UBLK_IO_OP_DISCARD, UBLK_IO_F_NOUNMAP, 8, 8);
	rig_settle();
	assert_true(rig_next(&got));
	assert_int_equal(got.head.command, NBD_CMD_TRIM);
	assert_int_equal(got.head.flags, 0);
	rig_answer_simple(got.head.cookie, 0);
	expect_commit(0, 0);
	ask(0, UBLK_IO_OP_WRITE_ZEROES, UBLK_IO_F_NOUNMAP, 8, 8);
	rig_settle();
	assert_true(rig_next(&got));
	assert_int_equal(got.head.command, NBD_CMD_WRITE_ZEROES);
	assert_int_equal(got.head.flags, NBD_CMD_FLAG_NO_HOLE);
	rig_answer_simple(got.head.cookie, 0);
	expect_commit(0, 0);
	/* more than the engine sends at a time */
	ask(0, UBLK_IO_OP_DISCARD, 0, 0, 2 * ZERO_PIECE_BYTES / 512);
	rig_settle();
	rig_answer_simple(rig_expect(NBD_CMD_TRIM, 0, ZERO_PIECE_BYTES), 0);
	rig_answer_simple(rig_expect(NBD_CMD_TRIM, ZERO_PIECE_BYTES,
				     ZERO_PIECE_BYTES), 0);
	expect_commit(0, 0);
	rig_close();
}

static void errors_reach_the_kernel(void **state)
{
	(void)state;
	ask(1, UBLK_IO_OP_WRITE, 0, 0, 8);
	rig_settle();
	rig_answer_simple(rig_expect(NBD_CMD_WRITE, 0, 4096), NBD_ENOSPC);
	expect_commit(1, -ENOSPC);
	/* refused here: too large for a slot, past the end, unknown */
	ask(1, UBLK_IO_OP_READ, 0, 0, RIG_SLOT_BYTES / 512 + 1);
	expect_commit(1, -EINVAL);
	assert_int_equal(rig.stats.oversize, 1);
	ask(1, UBLK_IO_OP_WRITE, 0, RIG_DISK_BYTES / 512, 8);
	expect_commit(1, -ENOSPC);
	ask(1, 15, 0, 0, 8);
	expect_commit(1, -EOPNOTSUPP);
	rig_expect_nothing();
	/* and the tag goes on working */
	ask(1, UBLK_IO_OP_WRITE, 0, 0, 8);
	rig_settle();
	rig_answer_simple(rig_expect(NBD_CMD_WRITE, 0, 4096), 0);
	expect_commit(1, 4096);
	rig_close();
}

/* All tags in flight, answered backwards; commits in the order of answers. */
static void all_tags_at_once(void **state)
{
	uint64_t cookies[SLOTS];

	(void)state;
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < SLOTS; i++)
			ask((i * 3) % SLOTS, UBLK_IO_OP_WRITE, 0, i * 8, 8);
		rig_settle();
		assert_int_equal(rig.e->pool.taken, SLOTS);
		for (uint32_t i = 0; i < SLOTS; i++)
			cookies[i] = rig_expect(NBD_CMD_WRITE, i * 4096, 4096);
		expect_no_command();
		for (uint32_t i = SLOTS; i-- > 0;)
			reply_simple(&rig.reply, cookies[i], 0);
		rig_answer();
		for (uint32_t i = SLOTS; i-- > 0;)
			expect_commit((i * 3) % SLOTS, 4096);
		expect_no_command();
	}
	assert_int_equal(rig.stats.front_stalls, 0);
	assert_false(rig.e->pool.low);
	assert_int_equal(rig.stats.front_receives, 3 * SLOTS);
	assert_int_equal(rig.stats.front_sends, 3 * SLOTS);
	rig_close();
}

/* What was not answered is sent again, from the slot where it still lies. */
static void a_lost_link_is_not_noticed(void **state)
{
	static struct rig_request got;

	(void)state;
	memset(rig.e->requests[2].data, 0x22, 4096);
	ask(2, UBLK_IO_OP_WRITE, 0, 0, 8);
	rig_settle();
	rig_expect(NBD_CMD_WRITE, 0, 4096);
	rig_link_down();
	expect_no_command();
	rig_link_up();
	rig_settle();
	assert_true(rig_next(&got));
	assert_int_equal(got.payload[4095], 0x22);
	rig_answer_simple(got.head.cookie, 0);
	expect_commit(2, 4096);
	rig_close();
}

/* STOP_DEV: requests are answered first, then all commands are cancelled. */
static void the_kernel_stops_the_device(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < SLOTS; i++)
		fake_ring_end_command(ops[i], UBLK_IO_RES_ABORT);
	rig_settle();
	assert_true(rig_take_news() & NEWS_FRONT_GONE);
	expect_no_command();
	engine_post(rig.e, MAIL_CLOSE);
	rig_settle();
	rig_expect(NBD_CMD_DISC, 0, 0);
	assert_true(rig_take_news() & NEWS_CLOSED);
	rig_close();
}

/* The driver refuses a command: the front is told gone, once. */
static void a_command_that_is_refused(void **state)
{
	(void)state;
	ask(4, UBLK_IO_OP_WRITE, 0, 0, 8);
	fake_ring_end_command(ops[5], -EINVAL);
	rig_settle();
	assert_int_equal(rig_take_news(), NEWS_FRONT_GONE);
	/* nobody waits for this answer any more, but the slot comes back */
	rig_answer_simple(rig_expect(NBD_CMD_WRITE, 0, 4096), 0);
	expect_no_command();
	fake_ring_end_command(ops[6], -EINVAL);
	rig_settle();
	assert_int_equal(rig_take_news(), 0);
	assert_int_equal(rig.e->pool.taken, 0);
	rig_close();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_watch_and_no_registered_file),
		TEST(reads_lie_in_the_tags_slot),
		TEST(writes_leave_from_the_tags_slot),
		TEST(the_others),
		TEST(errors_reach_the_kernel),
		TEST(all_tags_at_once),
		TEST(a_lost_link_is_not_noticed),
		TEST(the_kernel_stops_the_device),
		TEST(a_command_that_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
