/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file RUN_DIR/ledger: which device of which process asked for how much of
 * the kernel's reserve, and what the sysctls were before.
 *
 * Only for host_reserve.c, which decides; here it is read and written.
 */
#ifndef NBD_HOST_LEDGER_H
#define NBD_HOST_LEDGER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "include/bounds.h"

#define LEDGER_DEVICES 64u

/* Files below PROC/sys/vm. */
enum ledger_sysctl_index {
	LEDGER_MIN_FREE,
	LEDGER_BOOST,
	LEDGER_SCALE,
	LEDGER_COMPACT,
	LEDGER_SYSCTLS,
};

/* What a device asks for. */
#define LEDGER_ASKS_RESERVE 1u /* vm.min_free_kbytes */
#define LEDGER_ASKS_SYSCTLS 2u /* the others */

struct ledger_device {
	char name[DEVICE_NAME_BYTES];
	pid_t pid;
	uint64_t start; /* of the process, host_process_start() */
	uint64_t kbytes;
	uint64_t shared_kbytes;   /* once per host: the largest counts */
	uint64_t explicit_kbytes; /* 0: none; else neither of these counts */
	uint32_t asks;
};

/*
 * `pending` is what we are about to write, `set` what is known to be written:
 * whichever of the two the kernel shows is ours, anything else is not.
 */
struct ledger_sysctl {
	uint64_t original;
	uint64_t set;
	uint64_t pending;
	bool known; /* the rest is valid; only while there are devices */
};

struct ledger {
	int lock_fd;
	uint32_t device_count;
	struct ledger_device devices[LEDGER_DEVICES];
	struct ledger_sysctl sysctls[LEDGER_SYSCTLS];
};

const char *ledger_sysctl_name(enum ledger_sysctl_index i);

/*
 * Takes the lock that all processes of this program share, for some seconds at
 * most, and gives it back. 0, or -errno with *err set.
 */
int ledger_lock(struct ledger *ledger, struct err *err);
void ledger_unlock(struct ledger *ledger);

bool ledger_exists(void);

/* Between lock and unlock. An empty ledger is no file. */
int ledger_load(struct ledger *ledger, struct err *err);
int ledger_save(const struct ledger *ledger, struct err *err);

/* Sets *err: "cannot WHAT FILE: ..."; returns rc, which is -errno. */
int ledger_failed(int rc, const char *what, struct err *err);

/* Takes out an entry; the last one takes its place. */
void ledger_remove(struct ledger *ledger, uint32_t i);
void ledger_remove_name(struct ledger *ledger, const char *name);

#endif
