// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * floor URI read|write BYTES DEPTH SECONDS: what a request costs at least. A
 * batch of DEPTH requests leaves in one send, its replies are received in as
 * large pieces as come, and counted by their bytes: nothing is parsed, copied
 * or checked, so it is good for nothing but to be compared with. Prints a JSON
 * object.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "common/proto.h"
#include "nbd-client/conn.h"

#define RECEIVE_BYTES (1u << 20)

static struct addr addr;
static struct conn conn;
static uint8_t *received;

static int fail(const char *what)
{
	fprintf(stderr, "floor: %s\n", what);
	return 1;
}

static uint64_t cpu_ns(void)
{
	struct rusage use;

	getrusage(RUSAGE_SELF, &use);
	return (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * NS_PER_S +
	       (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1000;
}

static int send_all(const uint8_t *from, size_t bytes)
{
	while (bytes) {
		ssize_t n = send(conn.fd, from, bytes, MSG_NOSIGNAL);

		if (n <= 0)
			return -1;
		from += n;
		bytes -= (size_t)n;
	}
	return 0;
}

/* Whatever the replies hold, so many bytes of it. */
static int receive_all(size_t bytes)
{
	while (bytes) {
		ssize_t n = recv(conn.fd, received,
				 bytes < RECEIVE_BYTES ? bytes : RECEIVE_BYTES,
				 0);

		if (n <= 0)
			return -1;
		bytes -= (size_t)n;
	}
	return 0;
}

/* The requests of the next batch as they leave. Returns their bytes. */
static size_t put_batch(uint8_t *to, bool write, uint32_t block, uint32_t depth)
{
	static uint64_t offset;
	uint8_t *at = to;

	for (uint32_t i = 0; i < depth; i++) {
		struct proto_request p = {
			.command = write ? NBD_CMD_WRITE : NBD_CMD_READ,
			.cookie = i,
			.offset_bytes = offset,
			.length_bytes = block,
		};

		proto_put_request(at, &p);
		at += sizeof(struct nbd_request) + (write ? block : 0);
		offset += block;
		if (offset + block > conn.export.size_bytes)
			offset = 0;
	}
	return (size_t)(at - to);
}

/* A reply of the usual kind: a read's in one chunk, anything else's simple. */
static size_t reply_bytes(bool write, uint32_t block)
{
	if (write)
		return sizeof(struct nbd_simple_reply);
	if (!conn.handshake.info.structured)
		return sizeof(struct nbd_simple_reply) + block;
	return sizeof(struct nbd_structured_reply) +
	       sizeof(struct nbd_chunk_offset_data) + block;
}

static int run(bool write, uint32_t block, uint32_t depth, uint32_t seconds)
{
	uint8_t *batch = calloc(depth, block + 64);
	size_t reply = depth * reply_bytes(write, block);
	uint64_t requests = 0, start_ns, end_ns, cpu;

	received = malloc(RECEIVE_BYTES);
	if (!batch || !received)
		return fail("no memory");
	cpu = cpu_ns();
	start_ns = clock_now_ns();
	do {
		size_t bytes = put_batch(batch, write, block, depth);

		if (send_all(batch, bytes) < 0 || receive_all(reply) < 0)
			return fail("the link was lost");
		requests += depth;
		end_ns = clock_now_ns();
	} while (end_ns - start_ns < seconds * NS_PER_S);
	cpu = cpu_ns() - cpu;
	/* Had replies been other than expected, more would be there, or less. */
	if (recv(conn.fd, received, 1, MSG_DONTWAIT) != -1 || errno != EAGAIN)
		return fail("the server's replies are of another size");
	printf("{\"requests_per_second\": %llu, \"cpu_ns_per_request\": %llu}\n",
	       (unsigned long long)(requests * NS_PER_S / (end_ns - start_ns)),
	       (unsigned long long)(cpu / requests));
	return 0;
}

int main(int argc, char **argv)
{
	const struct socket_memory memory = { 0 };
	struct err err = { 0 };

	if (argc != 6)
		return fail("usage: floor URI read|write BYTES DEPTH SECONDS");
	if (addr_parse(&addr, argv[1], &err) < 0 ||
	    conn_init(&conn, &addr, &memory, 10000, &err) < 0)
		return fail(err.text);
	conn_choose_replies(&conn, false);
	if (conn_open(&conn, &err) < 0)
		return fail(err.text);
	return run(!strcmp(argv[2], "write"), (uint32_t)atoi(argv[3]),
		   (uint32_t)atoi(argv[4]), (uint32_t)atoi(argv[5]));
}
