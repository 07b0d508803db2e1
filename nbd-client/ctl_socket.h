/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket RUN_DIR/nbd0.sock: messages of include/ctl.h.
 *
 * Server side: owned by the daemon's control thread, never blocks, allocates
 * nothing. The daemon calls ctl_step() until it returns false, takes
 * ctl_pollfds() anew, and polls.
 * Client side: ctl_call(), blocking, for the command line.
 */
#ifndef NBD_CTL_SOCKET_H
#define NBD_CTL_SOCKET_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "include/ctl.h"
#include "nbd-client/classify.h"

/* RUN_DIR; unit tests point it elsewhere. */
extern const char *ctl_run_dir;

/*
 * Clients at a time. The socket is for root alone, so a crowd is a mistake, not
 * an attack: the client that has said nothing for the longest makes room.
 */
#define CTL_CLIENTS 8u
#define CTL_POLLFDS (CTL_CLIENTS + 1u)

struct ctl_client {
	int fd; /* -1: none */
	bool asked;      /* its request is with the daemon, a reply is owed */
	bool deferred;   /* its request waits in the kernel, and is counted */
	uint64_t order;  /* of arrival */
};

struct ctl_socket {
	int listen_fd;
	struct ctl_client clients[CTL_CLIENTS];
	uint64_t arrivals;
	struct ordinary ordinary; /* what its requests are received into */
	char path[108];
};

/* Makes the socket of "nbd0", replacing what a dead daemon left behind. */
int ctl_listen(struct ctl_socket *ctl, const char *name, struct err *err);

/* Hangs up on everybody and removes the socket. Safe after a failed listen. */
void ctl_close(struct ctl_socket *ctl);

/*
 * Fills in what to poll for; returns how many, at most CTL_POLLFDS. Not for
 * clients while no message may be received; ordinary_update() changes that.
 */
size_t ctl_pollfds(const struct ctl_socket *ctl,
		   struct pollfd ret_fds[CTL_POLLFDS]);

/*
 * Accepts and reads whatever is there. True when a valid request was read:
 * *ret_request, and *ret_client for ctl_reply(). Call it until it returns
 * false. Invalid requests are answered here.
 */
bool ctl_step(struct ctl_socket *ctl, struct ctl_request *ret_request,
	      uint32_t *ret_client);

/*
 * Answers and hangs up. text may be NULL. A client that has gone, or does not
 * take its answer, is dropped.
 */
void ctl_reply(struct ctl_socket *ctl, uint32_t client, int exit_code,
	       const char *text);

/*
 * Sends one request to the daemon of "nbd0" and waits for the answer, which
 * becomes *err unless it is 0. X_NOT_FOUND: no daemon; X_FAILURE with
 * ETIMEDOUT: no answer in time.
 */
int ctl_call(const char *name, enum ctl_command command, uint32_t flags,
	     uint32_t timeout_ms, struct err *err);

#endif
