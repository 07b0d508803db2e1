// SPDX-License-Identifier: GPL-2.0-or-later
/* The data thread's side of the log: apart from log.c to be free of stdio. */
#include "common/log.h"

void log_ring_put(struct log_ring *ring, enum log_level level,
		  const char *text, uint64_t a, uint64_t b)
{
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

	if (head - tail == LOG_RECORDS) {
		atomic_fetch_add(&ring->lost, 1);
		return;
	}
	ring->records[head % LOG_RECORDS] = (struct log_record){
		.text = text, .a = a, .b = b, .level = level,
	};
	atomic_store_explicit(&ring->head, head + 1, memory_order_release);
}
