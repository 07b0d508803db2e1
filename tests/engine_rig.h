/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An engine on the fake ring, with a fake front, and the test as its control
 * thread and server. Everything lies in memory of exactly the size that the
 * engine asks for, so that ASan sees a byte too many.
 */
#ifndef ENGINE_RIG_H
#define ENGINE_RIG_H

#include "nbd-client/engine.h"
#include "tests/fake_front.h"
#include "tests/fake_ring.h"
#include "tests/reply_bytes.h"

#define RIG_SLOT_BYTES (64u * KIB)
#define RIG_REQUEST_BYTES (RIG_SLOT_BYTES + THROTTLE_HEAD_BYTES)
#define RIG_DISK_BYTES (1ull << 32)

/* A request as the server has got it. */
struct rig_request {
	struct proto_request head;
	uint8_t payload[RIG_SLOT_BYTES];
};

struct rig {
	struct engine *e;
	struct front *front;
	struct fake_front fake;
	struct engine_config config;
	struct export_info export;
	struct stats_data stats;
	struct engine_memory memory;
	uint32_t base; /* slots of the pool's base; the rest is the reserve */
	uint32_t news; /* all that has been told since rig_take_news() */
	bool structured; /* of the link that comes up next */
	struct reply_bytes reply; /* for tests to build in */
	const char *what; /* if not NULL, told when the test fails; as is `at` */
	size_t at;
};

extern struct rig rig;

/*
 * slots: those of the base, all of which are there; 0: 8 of them. One more is the
 * reserve. The fake front, unless front is given. Link still down.
 */
void rig_open(uint32_t slots, struct front *front);
/* Likewise, with so many slots of the reserve, and an empty base. */
void rig_open_pool(uint32_t base, uint32_t reserve, struct front *front);
/* Other windows than the very large ones of rig_open(); nothing under way. */
void rig_windows(uint64_t tx_bytes, uint64_t rx_bytes);
/* Slots that are not in use, whether their memory is there or not. */
uint32_t rig_unused(void);
/* Slots all free, nothing pending but receives; frees all. */
void rig_close(void);
/* For setup and teardown of a test: rig_open(0, NULL) and rig_close(). */
int rig_set_up(void **state);
int rig_tear_down(void **state);

/* Rounds of the engine, news taken after each. */
void rig_rounds(uint32_t count);
/* Until a round changes nothing any more. */
void rig_settle(void);
uint32_t rig_take_news(void);

/* MAIL_LINK_UP and a round. */
void rig_link_up(void);
/* The server closes; until the engine has let go of the link. */
void rig_link_down(void);
/* As the control thread does after NEWS_LINK_LOST; until NEWS_LINK_IDLE. */
void rig_link_idle(void);

/* False if no whole request has reached the server. */
bool rig_next(struct rig_request *ret);
/* Fails the test unless the next request is this one; returns its cookie. */
uint64_t rig_expect(uint16_t command, uint64_t offset, uint32_t length);
void rig_expect_nothing(void);

/* The server sends rig.reply, which is empty then; and the engine settles. */
void rig_answer(void);
/* A simple reply with success, or error, to cookie; likewise. */
void rig_answer_simple(uint64_t cookie, uint32_t error);

/*
 * What the disk holds at offset, where nobody has written. rig_answer_read()
 * adds to rig.reply a good answer to a read, in the style of the link.
 */
uint8_t rig_disk_byte(uint64_t offset);
void rig_answer_read(uint64_t cookie, uint64_t offset, uint32_t length);
/* Adds a good answer to any request. */
void rig_answer_well(const struct rig_request *request);
/* Answers all requests, also those that follow from it; how many there were. */
uint32_t rig_serve_all(void);

/* Through the fake front, which must have a slot. */
struct request *rig_submit(uint16_t command, uint64_t offset, uint32_t length,
			   uint64_t tag);

/* Fails unless the front got these ends, in order, since the last call. */
void rig_expect_done(uint32_t count, const struct fake_done *expected);
#define RIG_EXPECT_DONE(...)                                                   \
	do {                                                                   \
		const struct fake_done expected_[] = { __VA_ARGS__ };          \
		rig_expect_done(sizeof(expected_) / sizeof(expected_[0]),      \
				expected_);                                    \
	} while (0)

/* Fails unless the counters of states are these and agree with the slots. */
void rig_expect_states(uint32_t new_count, uint32_t parked, uint32_t sending,
		       uint32_t waiting, uint32_t receiving, uint32_t done);

#endif
