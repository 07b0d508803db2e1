/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of nbd-script-server: one connection, and the tables of behaviours
 * that bend it.
 */
#ifndef NBD_TEST_SERVER_H
#define NBD_TEST_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/proto.h"

#define BEHAVIOURS_MAX 8
#define HELD_MAX 128

struct behaviour;

/* One of the command line: NAME or NAME=NUMBER. */
struct chosen {
	const struct behaviour *behaviour;
	uint64_t number;
};

struct conn {
	int fd;
	struct ssl_st *ssl;		/* NULL: plain text */
	const char *tls_cert;		/* files; also what may sign clients' */
	const char *tls_key;
	const char *tls_ca;
	const struct chosen *chosen;	/* the one whose hook runs */
	uint64_t number;		/* of that one */

	/* What the export is; hooks of the greeting may change it. */
	uint8_t *disk;
	uint64_t disk_bytes;
	uint64_t said_bytes;		/* the size that clients are told */
	const char *export_name;
	uint16_t handshake_flags;
	uint16_t flags;
	uint32_t block_min;
	uint32_t block_pref;
	uint32_t block_max;

	uint32_t client_flags;
	bool structured;
	unsigned int options_count;
	unsigned int requests_count;
	struct proto_request held[HELD_MAX];
	unsigned int held_count;
};

/*
 * A way to behave.  Each hook may do what it likes, and returns true when it
 * has dealt with the thing, false when the usual answer shall follow.
 */
struct behaviour {
	const char *name;
	const char *help;
	bool (*on_connect)(struct conn *c);
	bool (*on_option)(struct conn *c, uint32_t option, const uint8_t *data,
			  uint32_t bytes);
	/* The payload of a write is on the disk already. */
	bool (*on_request)(struct conn *c, const struct proto_request *r);
};

extern const struct behaviour handshake_behaviours[];
extern const struct behaviour reply_behaviours[];
extern const struct behaviour tls_behaviours[];

/* As send(2) and recv(2), but all or the end of the process; c->ssl is set. */
void tls_send(struct conn *c, const void *src, size_t bytes);
void tls_receive(struct conn *c, void *dst, size_t bytes);

/* Bytes in and out; the process ends when the peer is gone. */
void conn_send(struct conn *c, const void *src, size_t bytes);
void conn_receive(struct conn *c, void *dst, size_t bytes);
void conn_close(struct conn *c) __attribute__((noreturn));
/* Says nothing until the peer goes. */
void conn_hang(struct conn *c) __attribute__((noreturn));

/* Usual messages. */
void conn_greet(struct conn *c);
void conn_reply(struct conn *c, uint32_t option, uint32_t type,
		const void *data, uint32_t bytes);
void conn_reply_head(struct conn *c, uint32_t option, uint32_t type,
		     uint32_t bytes);
void conn_info_export(struct conn *c, uint32_t option);
void conn_info_block_size(struct conn *c, uint32_t option);
void conn_simple(struct conn *c, uint32_t error, uint64_t cookie);
void conn_chunk(struct conn *c, uint16_t flags, uint16_t type, uint64_t cookie,
		uint32_t bytes);
/* A chunk of data of the disk, or of a hole. */
void conn_data(struct conn *c, uint16_t flags, uint64_t cookie,
	       uint64_t offset, uint32_t bytes);
void conn_hole(struct conn *c, uint16_t flags, uint64_t cookie,
	       uint64_t offset, uint32_t bytes);
void conn_error_chunk(struct conn *c, uint16_t flags, uint64_t cookie,
		      uint32_t error, const void *text, uint16_t bytes);
/* The answer to a request, as a good server gives it. */
void conn_answer(struct conn *c, const struct proto_request *r);
void conn_fail(struct conn *c, const struct proto_request *r, uint32_t error);

#endif
