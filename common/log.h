/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages for the administrator.
 *
 * The control thread and the command line say what they have to say with
 * log_say(), which never waits: a message that the journal cannot take at once
 * is counted and lost, because the journal may be waiting for our swap.
 *
 * A data thread only leaves a record in its log_ring; the control thread picks
 * it up with log_drain(). One writer, one reader, no lock, no memory.
 */
#ifndef NBD_LOG_H
#define NBD_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { /* as syslog(3) and the <N> prefix of sd-daemon(3) */
	LOG_LEVEL_ERR = 3,     /* data is at risk */
	LOG_LEVEL_WARNING = 4, /* link lost, protection missing */
	LOG_LEVEL_NOTICE = 5,  /* attach, detach, reconnect */
	LOG_LEVEL_INFO = 6,    /* what was negotiated */
	LOG_LEVEL_DEBUG = 7,
};

enum log_target {
	LOG_TO_STDERR, /* with <N> before each line if that is the journal */
	LOG_TO_SYSLOG, /* /dev/log, for a daemon in the background */
};

#define LOG_RECORDS 64u /* a power of two */

struct log_record {
	const char *text; /* a literal; may hold up to two PRIu64 formats */
	uint64_t a;
	uint64_t b;
	enum log_level level;
};

struct log_ring {
	struct log_record records[LOG_RECORDS];
	_Atomic uint32_t head; /* next to write; the data thread's */
	_Atomic uint32_t tail; /* next to read; the control thread's */
	_Atomic uint32_t lost; /* records that found the ring full */
};

/* Before any thread starts. name: the prefix of messages, a literal. */
void log_open(const char *name, enum log_target target, enum log_level most);

void log_say(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Any data thread, its own ring. Never waits; text must be a literal. */
void log_ring_put(struct log_ring *ring, enum log_level level,
		  const char *text, uint64_t a, uint64_t b);

/* The control thread. */
void log_drain(struct log_ring *ring);

#endif
