/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Admission: before a request is sent, room is set aside for all that it will
 * move, its transmit bytes and the reply that we are owed. What is not admitted
 * stays parked in its slot, and with the slots full the rest stays in the
 * kernel's block queue. One request is always admitted, so there is always
 * progress.
 *
 * Data thread.
 */
#ifndef NBD_THROTTLE_H
#define NBD_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

#include "include/request.h"

struct throttle {
	uint64_t tx_bytes_max; /* of requests admitted and not yet answered */
	uint64_t rx_bytes_max; /* of replies owed to us */
	uint64_t tx_bytes;     /* <= tx_bytes_max, or admitted == 1 */
	uint64_t rx_bytes;     /* <= rx_bytes_max, or admitted == 1 */
	uint32_t admitted;
};

void throttle_init(struct throttle *t, uint64_t tx_bytes_max,
		   uint64_t rx_bytes_max);

/* Charges the request and says true, or charges nothing and says false. */
bool throttle_admit(struct throttle *t, const struct request *r);

/* Answered, or taken back after a lost link. */
void throttle_release(struct throttle *t, const struct request *r);

#endif
