/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device without a kernel: engine and nbd front on a data thread of their
 * own, connected to a real server, while the test plays nbd.ko on the other end
 * of the socketpair. What drivers/block/nbd.c does is done here with plain
 * blocking calls: requests out, replies matched by cookie.
 */
#ifndef KERNEL_END_H
#define KERNEL_END_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/base.h"
#include "common/pin.h"
#include "include/nbd-wire.h"
#include "nbd-client/conn.h"
#include "nbd-client/engine.h"
#include "nbd-client/front_nbd.h"

struct kernel_end {
	struct conn conn;
	struct addr addr;
	struct tls tls;
	struct engine_config config;
	struct pin pin;
	struct base base;
	struct engine *engine;
	struct front_nbd *front;
	struct records *records;
	struct stats_data stats;
	pthread_t thread;
	int pair[2]; /* ours as the kernel; the front's */
	int mail_fd;
	int news_fd;
	int opened; /* engine_open() */
	bool malloc_watched;
};

/* Connects to uri with `slots` of slot_bytes. 0, or -1 with *err. */
int kernel_end_open(struct kernel_end *k, const char *uri, uint32_t slots,
		    uint32_t slot_bytes, struct err *err);

/* Likewise with all of the configuration but the export, and such buffers. */
int kernel_end_open_sized(struct kernel_end *k, const char *uri,
			  const struct engine_config *config,
			  const struct socket_memory *memory, struct err *err);
/* The same; tls: as on the command line, or NULL. */
int kernel_end_open_tls(struct kernel_end *k, const char *uri,
			const struct tls_options *tls, uint32_t slots,
			uint32_t slot_bytes, struct err *err);

/* Disconnects as the kernel does; true if the engine drained and said DISC. */
bool kernel_end_close(struct kernel_end *k);

/* Writes a request, and its payload if it is a write. */
void kernel_end_send(struct kernel_end *k, uint16_t command, uint16_t flags,
		     uint64_t cookie, uint64_t offset, uint32_t length,
		     const void *payload);

/* Reads the head of a reply: its NBD error; the cookie in *ret_cookie. */
uint32_t kernel_end_reply(struct kernel_end *k, uint64_t *ret_cookie);

/* Reads the payload that follows the head of a good read. */
void kernel_end_payload(struct kernel_end *k, void *to, uint32_t bytes);

/* The connection is READY: the engine gets it. */
void kernel_end_give_link(struct kernel_end *k);

/* Acts on the engine's news as a control thread would. */
void kernel_end_news(struct kernel_end *k, int timeout_ms);

#endif
