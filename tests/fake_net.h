/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network with a server in it, for the connection's machine: in place of
 * link_io.c and link_tls.c, with the time of fake_clock.c. What happens on it
 * happens in fake_net_progress(), one thing at a time, by chance.
 */
#ifndef FAKE_NET_H
#define FAKE_NET_H

#include <stdbool.h>
#include <stdint.h>

/* What becomes of a connection that begins now. */
enum fake_server {
	FAKE_GOOD,
	FAKE_UNREACHABLE, /* it never comes about */
	FAKE_REFUSED,
	FAKE_BUSY,	  /* its queue is full: EAGAIN */
	FAKE_SILENT,	  /* accepts, and says nothing */
	FAKE_HANGS_UP,	  /* in the midst of its words */
	FAKE_RESETS,
	FAKE_GARBAGE,
	FAKE_REFUSES,	  /* the export */
	FAKE_CHANGED,	  /* a smaller export */
	FAKE_NO_END,	  /* good, but never closes its end */
	FAKE_UNANSWERED,  /* negotiates, and answers no request */
	FAKE_SERVERS,
};

/* Ports after 10809 have servers of their own. */
#define FAKE_OTHERS 2u

struct fake_net {
	enum fake_server server;
	enum fake_server others[FAKE_OTHERS];
	uint64_t size_bytes; /* of the export, in the eyes of the good ones */
	bool tls_fails;
	bool no_sockets; /* EMFILE */
	uint32_t open;	 /* sockets */
	uint32_t open_max;
	uint64_t made;
	uint64_t faults; /* a closed socket was used */
	int queued;	 /* link_queued() */
	uint32_t unacknowledged_ms; /* link_is_unreachable() for so long */
	uint16_t asked;	 /* the last request: its command, and place */
	uint64_t asked_offset;
	uint32_t asked_bytes;
	uint32_t timeout_ms; /* the last link_set_patience() */
};

extern struct fake_net fake_net;

void fake_net_reset(void);

/* Random numbers of the test's seed. */
uint32_t fake_net_random(uint32_t below);

/* The network goes on: a connection comes about, bytes arrive, an end is seen. */
void fake_net_progress(void);

/* What poll(2) would say of it: whether one of these events, or an error, is there. */
bool fake_net_ready(int fd, short events);

/* The server ends or resets this connection, or all of them. */
void fake_net_drop(int fd);
void fake_net_drop_all(void);

#endif
