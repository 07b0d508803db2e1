/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a service manager is told (sd_notify(3)): that the device is there, how
 * its link is, that it is served. Nothing without NOTIFY_SOCKET. The service's
 * main process, its control thread; never waits: a message that cannot be sent
 * at once is sent again at the next step.
 */
#ifndef NBD_NOTIFY_H
#define NBD_NOTIFY_H

#include <stdint.h>

#include "include/ctl.h"

/* Before there are other threads: reads the environment, makes the socket. */
void notify_open(void);
void notify_close(void);

/* The device is usable. */
void notify_ready(void);

/* It is going to be detached: this may take as long as it takes. Told once. */
void notify_stopping(void);

/*
 * From a command that the manager has started: what it is doing, and, if not 0,
 * how many seconds it may take until the next word.
 */
void notify_progress(const char *text, uint32_t extend_s);

/*
 * Once a second or so. Sends what has changed, and the watchdog's sign of life,
 * but only if the data thread has given one.
 */
void notify_step(const struct stats_page *page, uint64_t now_ns);

#endif
