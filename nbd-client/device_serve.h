/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between device.c (attach and detach) and device_serve.c (the time between). */
#ifndef NBD_DEVICE_SERVE_H
#define NBD_DEVICE_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "nbd-client/device.h"

/* With a stack that is locked, and therefore small. 0 or -errno. */
int device_start_thread(pthread_t *ret_thread, void *(*main)(void *),
			void *arg);

/* One data thread; down: all of them. */
int device_thread_up(struct queue *q, struct err *err);
void device_threads_down(struct device *d);

/* To all engines. */
void device_post(struct device *d, uint32_t mail_bits);

/* ---- device_endpoint.c ---- */

/* What the device can have of the export, in whole blocks. */
uint64_t device_usable_bytes(const struct device *d);

void device_fill_endpoints(struct device *d);

/* To status; true if this server fails in a new way. */
bool device_show_endpoint(struct device *d, const struct conn *c);

/* The link is up: what the next worker must know. */
void device_keep_server(struct device *d);

/* Before the engines: what the last one knew. */
void device_recall_server(struct device *d);

void device_standby_up(struct device *d);

/* Memory; whether a link is to be given up; what came of a command. */
void device_step_standby(struct device *d);

/* ---- device_serve.c ---- */

/* Ends a link that is up; mail: besides. */
void device_give_up(struct queue *q, const char *why, uint32_t mail);

/* Hands the negotiated connection to the engine. */
void device_link_up(struct queue *q);

/* How many spare sockets are left; whether a new link may load things. */
void device_show_sockets(struct device *d);

/* What status says of the encryption. */
void device_show_tls(struct stats_page *p, const struct conn *c);

/*
 * UP to LOST. error: what it was lost by, 0 if the server ended it; reason: in
 * words, or NULL.
 */
void device_link_lost(struct queue *q, const char *reason, int error);

/* Why there is no link, for status. True if it is something new. */
bool device_show_error(struct device *d, const char *text);

/* Now and then: looks whether the server of an engine owes an answer, probes it. */
void device_watch_silence(struct queue *q);

/* Goes on with such a probe. */
void device_step_probe(struct queue *q);

/* Now and then: I/O fails only where the user has said after how long. */
void device_check_dead(struct queue *q, uint64_t now_ns);

/* From now on status shows what becomes of the connection. */
void device_watch_link(struct queue *q);

/*
 * Watches the host's memory, and fills the base of the pool at once if there is
 * plenty; device_tick() and device_on_pressure() go on with it.
 */
void device_pressure_up(struct device *d);

/* Acts on news until it is over; false when that took longer than timeout_ms. */
bool device_wait(struct device *d, bool (*is_over)(const struct device *d),
		 uint32_t timeout_ms);

/* Nothing of the kernel's is at any engine any more. */
bool device_fronts_gone(const struct device *d);

#endif
