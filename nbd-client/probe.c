// SPDX-License-Identifier: GPL-2.0-or-later
/* One read on a connection of its own. Control thread. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "common/proto.h"
#include "nbd-client/link_io.h"
#include "nbd-client/probe.h"

static struct tls_open opened; /* large */

static int send_read(struct conn *c)
{
	const struct proto_request p = {
		.command = NBD_CMD_READ,
		.length_bytes = c->export.block_min > 512 ?
					c->export.block_min : 512,
	};
	uint8_t head[sizeof(struct nbd_request)];
	uint8_t record[sizeof(head) + TLS_OVERHEAD_MAX];
	struct iovec part = { .iov_base = head, .iov_len = sizeof(head) };
	const uint8_t *from = head;
	ssize_t bytes = sizeof(head);
	ssize_t sent;

	proto_put_request(head, &p);
	if (c->records == STATS_RECORDS_OURS) {
		from = record;
		bytes = tls_seal(&c->seal, &part, 1, record);
		if (bytes < 0)
			return -EPROTO;
	}
	sent = link_send(c->fd, from, (size_t)bytes);
	if (sent < 0)
		return (int)sent;
	return sent < bytes ? -EIO : 0;
}

/* Records may come that are none of the answer. */
static bool has_data(const uint8_t *from, size_t bytes, int *ret)
{
	size_t taken = 0, plain = 0;

	while (taken < bytes && !plain) {
		ssize_t n = tls_open_take(&opened, from + taken, bytes - taken,
					  &plain);

		if (n < 0) {
			*ret = -EPROTO;
			return false;
		}
		taken += (size_t)n;
	}
	return plain;
}

/* Whatever it says: an error, too, is the answer of one that works. */
static int wait_reply(const struct conn *c)
{
	uint64_t deadline_ns = link_deadline((int)c->handshake_ms);
	uint8_t bytes[4096];
	int ret = 0;

	do {
		ssize_t n;

		ret = link_wait(c->fd, POLLIN, deadline_ns);
		if (ret < 0)
			break;
		n = link_receive(c->fd, bytes, sizeof(bytes));
		if (n <= 0)
			ret = n < 0 ? (int)n : -ECONNRESET;
		else if (c->records != STATS_RECORDS_OURS ||
			 has_data(bytes, (size_t)n, &ret))
			break;
	} while (ret == 0 || ret == -EAGAIN);
	return ret;
}

int probe_server(struct conn *c, struct err *err)
{
	struct socket_memory memory = c->sockets.memory;
	int ret;

	sockets_init(&c->sockets, &memory);
	ret = conn_open(c, err);
	if (ret < 0)
		return ret;
	if (c->records == STATS_RECORDS_OURS)
		tls_open_start(&opened, &c->open);
	ret = send_read(c);
	if (!ret)
		ret = wait_reply(c);
	if (ret < 0)
		err_set(err, X_UNREACHABLE, -ret,
			"%s negotiates, but does not answer a read: %s",
			c->addrs.where, strerror(-ret));
	conn_fini(c);
	return ret;
}
