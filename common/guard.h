/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The malloc watch. Once a data thread has armed it, each call of the malloc
 * family on that thread is counted, but for free(NULL): the proof that the data
 * path takes no memory after attach. Builds for tests (configure
 * --enable-guard-abort) end the process instead, with a message. Other threads are
 * not counted.
 */
#ifndef NBD_GUARD_H
#define NBD_GUARD_H

#include <stdbool.h>
#include <stdint.h>

/* On the data thread; *counter is increased by that thread for each call. */
void guard_arm(uint64_t *counter);
void guard_disarm(void);

/* Whether this build can watch (sanitizers bring their own malloc). */
bool guard_available(void);

/* Whether a call ends the process. */
bool guard_aborts(void);

#endif
