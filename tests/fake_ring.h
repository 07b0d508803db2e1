/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An io_uring without a kernel: links in place of common/ring.c. Each file has
 * bytes that its peer has sent and bytes that the peer has got; an operation
 * ends within fake ring_wait() when it can, in the order of submission, unless
 * the test holds it, cuts it short, lets it fail or shakes the dice.
 *
 * It is harsher than the kernel where our code must not care: memory is read
 * and written when the operation ends, not when it begins, and so are the
 * message and its vectors. It fails the test where the kernel would corrupt: a
 * buffer given twice, a file let go under an operation, an operation restarted.
 *
 * Reads and writes (the event descriptors) are real and do not block. One ring
 * at a time, one thread; only the test's own control thread may write to the
 * event descriptors.
 */
#ifndef FAKE_RING_H
#define FAKE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ring.h"

/* Bytes on their way; start moves as they are taken. */
struct fake_bytes {
	uint8_t *data;
	size_t start;
	size_t end;
	size_t room;
};

struct fake_file {
	int fd; /* as registered; -1: none */
	uint32_t connections; /* how often one was registered */
	uint32_t receives;    /* ended, however */
	uint32_t sends;

	struct fake_bytes in;  /* from the peer, not yet received */
	struct fake_bytes out; /* sent, not yet taken by the test */

	/* After the bytes of `in`: nothing, end of file or an error. */
	bool ended;
	int end_error; /* 0 or -errno */

	/* How operations end; all for ever, but the errors, which are for one. */
	bool receive_held;
	bool send_held;
	bool no_waitall; /* as net/tls/tls_sw.c: refuses sends that want it */
	size_t receive_max; /* bytes at once; 0: no limit */
	size_t send_max;
	int receive_error; /* -errno for the next receive */
	int send_error;
	bool end_takes_buffer; /* an end of file comes with a provided buffer */
};

struct fake_ring {
	struct fake_file files[RING_FILES];
	uint32_t waits;
	uint32_t last_timeout_ms;
	uint32_t pending; /* operations */
	uint64_t dice;    /* not 0: ends in random order, short, interrupted */

	/* Errors to come, -errno; those of set_file by file, for fd >= 0. */
	int init_error;
	int warm_up_error;
	int rxring_error;
	int wait_error;
	int set_file_error[RING_FILES];

	/* Called at each wait before anything ends; NULL: nothing. */
	void (*on_wait)(void *arg);
	void *on_wait_arg;
};

extern struct fake_ring fake_ring;

/* Between tests: nothing pending, no bytes, no errors. */
void fake_ring_reset(void);

/* The peer sends. */
void fake_ring_feed(enum ring_file file, const void *from, size_t bytes);

/* What the peer has got and the test has not taken yet. */
size_t fake_ring_sent(enum ring_file file, const uint8_t **ret_from);
void fake_ring_take(enum ring_file file, size_t bytes);

/* shutdown(2) on our side: pending and later operations end. */
void fake_ring_shutdown(enum ring_file file);

/* Whether an operation on the file is pending, of either direction. */
bool fake_ring_receiving(enum ring_file file);
bool fake_ring_sending(enum ring_file file);

/*
 * Commands as the kernel has got them, oldest first; false: no more. They stay
 * in the kernel until the test says how they end: in the next wait, in the order
 * of fake_ring_end_command(). Watches never end.
 */
struct fake_command {
	struct ring_op *op;
	int fd;
	uint32_t opcode;
	uint8_t argument[RING_COMMAND_BYTES];
};
bool fake_ring_next_command(struct fake_command *ret);
void fake_ring_end_command(struct ring_op *op, int res);
uint32_t fake_ring_watches(void);

/* Provided buffers of group 0 that the kernel has; the test may take some. */
uint32_t fake_ring_buffers(void);
void fake_ring_steal_buffers(uint32_t count);
void fake_ring_return_buffers(void);

/* A number from the dice, below limit; the seed is in fake_ring.dice. */
uint32_t fake_ring_roll(uint32_t limit);

#endif
