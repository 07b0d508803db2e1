// SPDX-License-Identifier: GPL-2.0-or-later
/* One request on a connection of its own. Control thread. */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/proto.h"
#include "nbd-client/link_io.h"
#include "nbd-client/probe.h"

#define COOKIE UINT64_C(0x70726f6265)

/* A server that names no minimum may have one of this. */
#define READ_BYTES_MIN 512u

void probe_init(struct probe *p, struct conn *c)
{
	memset(p, 0, sizeof(*p));
	p->conn = c;
	p->fd = -1;
	p->dial.fd = -1;
	link_tls_init(&p->link_tls, NULL);
}

void probe_start(struct probe *p, bool read, uint64_t offset,
		 uint32_t timeout_ms)
{
	const struct export_info *x = &p->conn->export;
	bool flush = !read && x->flags & NBD_FLAG_SEND_FLUSH;
	const struct proto_request ask = {
		.command = flush ? NBD_CMD_FLUSH : NBD_CMD_READ,
		.cookie = COOKIE,
		.offset_bytes = flush ? 0 : offset,
		.length_bytes = flush ? 0 : x->block_min > READ_BYTES_MIN ?
					x->block_min : READ_BYTES_MIN,
	};
	struct link_sockets source = sockets_source(&p->conn->ends->sockets);

	proto_put_request(p->out, &ask);
	p->out_bytes = 0;
	p->in_bytes = 0;
	err_clear(&p->err);
	p->timeout_ms = timeout_ms;
	p->end_ns = link_deadline((int)timeout_ms);
	link_dial_start(&p->dial, &conn_end(p->conn)->addrs, &source,
			(int)timeout_ms);
	p->stage = PROBE_DIAL;
}

void probe_end(struct probe *p)
{
	link_dial_end(&p->dial);
	if (p->link_tls.tls)
		link_tls_end(&p->link_tls);
	if (p->fd >= 0)
		sockets_give(&p->conn->ends->sockets, p->fd);
	p->fd = -1;
	p->stage = PROBE_REST;
}

static int dial_on(struct probe *p)
{
	const struct endpoint *end = conn_end(p->conn);
	const struct handshake_params params = {
		.goal = HANDSHAKE_GO,
		.tls = end->tls ? end->tls->mode : HANDSHAKE_TLS_OFF,
		.export_name = end->addr->export_name,
	};
	int ret = link_dial_step(&p->dial, &p->err);

	if (ret < 0)
		return ret;
	p->fd = p->dial.fd;
	p->dial.fd = -1;
	ret = handshake_init(&p->handshake, &params, &p->err);
	if (ret < 0)
		return ret;
	p->link_tls.tls = end->tls;
	link_talk_start(&p->talk, p->fd, &p->handshake,
			end->tls ? &p->link_tls : NULL,
			(int)p->timeout_ms);
	p->stage = PROBE_TALK;
	return 0;
}

static int talk_on(struct probe *p)
{
	int ret = link_talk_step(&p->talk, &p->err);

	if (ret == 0)
		p->stage = PROBE_ASK;
	return ret;
}

static bool is_inside_tls(const struct probe *p)
{
	return p->link_tls.tls && p->link_tls.up;
}

static ssize_t put(struct probe *p, const uint8_t *from, size_t bytes)
{
	return is_inside_tls(p) ? link_tls_send(&p->link_tls, from, bytes) :
				  link_send(p->fd, from, bytes);
}

static ssize_t get(struct probe *p, uint8_t *to, size_t bytes)
{
	return is_inside_tls(p) ? link_tls_recv(&p->link_tls, to, bytes) :
				  link_receive(p->fd, to, bytes);
}

static bool is_asked(const struct probe *p)
{
	return p->out_bytes == sizeof(p->out);
}

/* One send or receive: 0 or -errno. */
static int move(struct probe *p)
{
	size_t *have = is_asked(p) ? &p->in_bytes : &p->out_bytes;
	ssize_t n = is_asked(p) ?
			    get(p, p->in + *have, sizeof(p->in) - *have) :
			    put(p, p->out + *have, sizeof(p->out) - *have);

	if (n <= 0)
		return n < 0 ? (int)n : -ECONNRESET;
	*have += (size_t)n;
	return 0;
}

/* Not before the answer: there are servers that would drop it. */
static void say_goodbye(struct probe *p)
{
	const struct proto_request bye = { .command = NBD_CMD_DISC };

	proto_put_request(p->out, &bye);
	(void)put(p, p->out, sizeof(p->out));
}

/* Any answer will do, an error, too. */
static int ask_on(struct probe *p)
{
	struct proto_reply reply;
	int ret;

	do {
		ret = move(p);
		if (ret < 0)
			break;
		ret = proto_get_reply(&reply, p->in, p->in_bytes);
	} while (ret == 0);
	if (ret > 0 && reply.cookie == COOKIE) {
		say_goodbye(p);
		return 0;
	}
	if (ret == -EAGAIN)
		return ret;
	return err_set(&p->err, X_REFUSED, ret > 0 ? EPROTO : -ret,
		       "what came was no answer: %s",
		       strerror(ret > 0 ? EPROTO : -ret));
}

int probe_step(struct probe *p)
{
	int ret = -EAGAIN;

	if (p->stage == PROBE_DIAL)
		ret = dial_on(p);
	if (p->stage == PROBE_TALK)
		ret = talk_on(p);
	if (p->stage == PROBE_ASK)
		ret = ask_on(p);
	if (p->stage != PROBE_REST && ret == -EAGAIN &&
	    clock_now_ns() >= p->end_ns)
		ret = err_set(&p->err, X_UNREACHABLE, ETIMEDOUT,
			      p->stage == PROBE_ASK ?
				      "%s takes a request, but does not answer it" :
				      "%s is not ready to take a request in time",
			      conn_where(p->conn));
	if (ret != -EAGAIN)
		probe_end(p);
	return ret;
}

void probe_pollfd(const struct probe *p, struct pollfd *ret)
{
	*ret = (struct pollfd){ .fd = p->fd };
	if (p->stage == PROBE_DIAL) {
		ret->fd = link_dial_fd(&p->dial);
		ret->events = POLLOUT;
	} else if (p->stage == PROBE_TALK) {
		ret->events = link_talk_events(&p->talk);
	} else if (p->stage == PROBE_ASK) {
		ret->events = is_inside_tls(p) ? link_tls_events(&p->link_tls) :
			      is_asked(p)      ? POLLIN :
						 POLLOUT;
	}
}

int probe_due_ms(const struct probe *p, uint64_t now_ns)
{
	uint64_t then_ns = p->end_ns;

	if (p->stage == PROBE_REST)
		return -1;
	if (p->stage == PROBE_DIAL && link_dial_due_ns(&p->dial) < then_ns)
		then_ns = link_dial_due_ns(&p->dial);
	if (p->stage == PROBE_TALK && link_talk_due_ns(&p->talk) < then_ns)
		then_ns = link_talk_due_ns(&p->talk);
	if (now_ns >= then_ns)
		return 0;
	return (int)((then_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
}

int probe_server(struct conn *c, struct err *err)
{
	static struct probe p; /* large */
	struct socket_memory memory = c->ends->sockets.memory;
	int ret;

	sockets_init(&c->ends->sockets, &memory);
	probe_init(&p, c);
	probe_start(&p, true, 0, 2 * c->handshake_ms);
	while ((ret = probe_step(&p)) == -EAGAIN) {
		struct pollfd fd;

		probe_pollfd(&p, &fd);
		(void)poll(&fd, 1, probe_due_ms(&p, clock_now_ns()));
	}
	if (ret < 0)
		*err = p.err;
	return ret;
}
