/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between device.c (attach and detach) and device_serve.c (the time between). */
#ifndef NBD_DEVICE_SERVE_H
#define NBD_DEVICE_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "nbd-client/device.h"

int device_thread_up(struct device *d, struct err *err);
void device_thread_down(struct device *d);

/* For the engine, where there is one. */
void device_post(struct device *d, uint32_t mail);

/* Hands the negotiated connection to the engine. */
void device_link_up(struct device *d);

/* What status says of the encryption. */
void device_show_tls(struct device *d);

/*
 * UP to LOST. error: what it was lost by, 0 if the server ended it; reason: in
 * words, or NULL.
 */
void device_link_lost(struct device *d, const char *reason, int error);

/* From now on status shows what becomes of the connection. */
void device_watch_link(struct device *d);

/*
 * Watches the host's memory, and fills the base of the pool at once if there is
 * plenty; device_tick() and device_on_pressure() go on with it.
 */
void device_pressure_up(struct device *d);

/*
 * Acts on news until *flag is set by one of them; false when that took longer
 * than timeout_ms.
 */
bool device_wait_news(struct device *d, const bool *flag, uint32_t timeout_ms);

#endif
