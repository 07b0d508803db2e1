/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A supervisor becomes another program, a newer one mostly, without letting go of
 * what it cannot have again. execve(2) keeps the process: its number, which the
 * ledger, the worker and a service manager know; its children; its cgroup and
 * protection; and the descriptors that are to stay. What is worth knowing goes
 * along in a memfd.
 *
 *	upgrade DEV ---signal---> supervisor ---exec---> supervisor of the program
 *	                                                 that "upgrade" runs
 *
 * The worker serves meanwhile. Should the new program not come up, it goes on
 * alone, as if its supervisor had died.
 */
#ifndef NBD_HANDOVER_H
#define NBD_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/signalfd.h>
#include <sys/types.h>

#include "common/err.h"
#include "include/ctl.h"
#include "include/export.h"
#include "nbd-client/blockdev.h"
#include "nbd-client/endpoint.h"

/* To be raised with each change of meaning below that keeps the size. */
#define HANDOVER_VERSION 1u

/* What a program hands over and understands: it must be the same for both. */
#define HANDOVER_LAYOUT                                                        \
	(HANDOVER_VERSION << 24 | (uint32_t)sizeof(struct handover))

struct handover {
	uint32_t layout;
	int32_t worker_pid; /* it serves, and is a child of this process */
	bool background;    /* logs go to the system's log */
	struct blockdev device;
	uint32_t slots; /* the kernel's device has them */
	uint32_t slot_bytes;
	int32_t family; /* of the server's address that answered last */
	uint32_t server; /* which one that was */
	struct endpoints ends; /* the descriptors of their sockets stay open */
	struct export_info export;
	uint32_t queues;
	struct sockets more_sockets[QUEUES_MAX - 1]; /* likewise, of the others */
	struct blockdev_saved queue;
	struct stats_guarantee donor; /* what became of the sockets */
	struct stats_guarantee socket_memory;
};

/*
 * For the command line: asks a supervisor to become this very program, which goes
 * on running until that has happened, and from here on without capabilities.
 */
int handover_ask(pid_t supervisor);

/* For the supervisor. */
int handover_signal(void);
bool handover_is_asked(const struct signalfd_siginfo *info);

/*
 * Becomes the program that `asker` runs, with these words on its command line.
 * Returns only if it cannot: -errno.
 */
int handover_exec(const struct handover *h, pid_t asker, int argc,
		  char *const *argv);

/* In the new program: 1 and *ret, once; 0: nothing was handed over; -errno. */
int handover_take(struct handover *ret, struct err *err);

#endif
