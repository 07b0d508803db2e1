// SPDX-License-Identifier: GPL-2.0-or-later
/* When to probe, and the probe. Control thread. */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "nbd-client/link_io.h"
#include "nbd-client/patience.h"

#define COOKIE UINT64_C(0x70726f6265)

/* Not replaced for so many times the limit, it has the first one again. */
#define FORGET_LIMITS 8u

void patience_init(struct patience *p, struct conn *conn, uint32_t timeout_ms)
{
	memset(p, 0, sizeof(*p));
	p->conn = conn;
	p->limit_ns = timeout_ms * NS_PER_MS;
	p->factor = 1;
	p->fd = -1;
	p->dial.fd = -1;
	link_tls_init(&p->link_tls, conn->tls);
}

/* ---- the probe ---- */

static void start(struct patience *p, const struct engine_owed *owed)
{
	const struct export_info *x = &p->conn->export;
	bool flush = !owed->read && x->flags & NBD_FLAG_SEND_FLUSH;
	const struct proto_request ask = {
		.command = flush ? NBD_CMD_FLUSH : NBD_CMD_READ,
		.cookie = COOKIE,
		.offset_bytes = flush ? 0 : owed->offset,
		.length_bytes = flush ? 0 : x->block_min,
	};
	const struct proto_request bye = { .command = NBD_CMD_DISC };
	struct link_sockets source = sockets_source(&p->conn->sockets);

	proto_put_request(p->out, &ask);
	proto_put_request(p->out + sizeof(struct nbd_request), &bye);
	p->out_bytes = 0;
	p->in_bytes = 0;
	err_clear(&p->err);
	p->end_ns = clock_now_ns() + p->limit_ns;
	link_dial_start(&p->dial, &p->conn->addrs, &source,
			(int)(p->limit_ns / NS_PER_MS));
	p->stage = PATIENCE_DIAL;
	p->probes++;
}

void patience_end(struct patience *p)
{
	link_dial_end(&p->dial);
	if (p->conn->tls)
		link_tls_end(&p->link_tls);
	if (p->fd >= 0)
		sockets_give(&p->conn->sockets, p->fd);
	p->fd = -1;
	p->stage = PATIENCE_REST;
}

static int dial_on(struct patience *p)
{
	const struct conn *c = p->conn;
	const struct handshake_params params = {
		.goal = HANDSHAKE_GO,
		.tls = c->tls ? c->tls->mode : HANDSHAKE_TLS_OFF,
		.export_name = c->addr->export_name,
	};
	int ret = link_dial_step(&p->dial, &p->err);

	if (ret < 0)
		return ret;
	p->fd = p->dial.fd;
	p->dial.fd = -1;
	ret = handshake_init(&p->handshake, &params, &p->err);
	if (ret < 0)
		return ret;
	link_talk_start(&p->talk, p->fd, &p->handshake,
			c->tls ? &p->link_tls : NULL,
			(int)(p->limit_ns / NS_PER_MS));
	p->stage = PATIENCE_TALK;
	return 0;
}

static int talk_on(struct patience *p)
{
	int ret = link_talk_step(&p->talk, &p->err);

	if (ret == 0)
		p->stage = PATIENCE_ASK;
	return ret;
}

static bool is_inside_tls(const struct patience *p)
{
	return p->conn->tls && p->link_tls.up;
}

static bool is_asked(const struct patience *p)
{
	return p->out_bytes == sizeof(p->out);
}

/* One send or receive: 0 or -errno. */
static int move(struct patience *p)
{
	bool tls = is_inside_tls(p), out = !is_asked(p);
	uint8_t *at = out ? p->out + p->out_bytes : p->in + p->in_bytes;
	size_t room = out ? sizeof(p->out) - p->out_bytes :
			    sizeof(p->in) - p->in_bytes;
	ssize_t n;

	if (out)
		n = tls ? link_tls_send(&p->link_tls, at, room) :
			  link_send(p->fd, at, room);
	else
		n = tls ? link_tls_recv(&p->link_tls, at, room) :
			  link_receive(p->fd, at, room);
	if (n <= 0)
		return n < 0 ? (int)n : -ECONNRESET;
	if (out)
		p->out_bytes += (size_t)n;
	else
		p->in_bytes += (size_t)n;
	return 0;
}

/* Any answer will do, an error, too. */
static int ask_on(struct patience *p)
{
	struct proto_reply reply;
	int ret;

	do {
		ret = move(p);
		if (ret < 0)
			break;
		ret = proto_get_reply(&reply, p->in, p->in_bytes);
	} while (ret == 0);
	if (ret > 0 && reply.cookie == COOKIE)
		return 0;
	if (ret == -EAGAIN)
		return ret;
	return err_set(&p->err, X_REFUSED, ret > 0 ? EPROTO : -ret,
		       "what came was no answer: %s",
		       strerror(ret > 0 ? EPROTO : -ret));
}

/* The link was not to blame if the next one is no better: so more for that. */
static void note_replaced(struct patience *p)
{
	p->replaced++;
	p->replaced_ns = clock_now_ns();
	if (p->factor < PATIENCE_FACTOR_MAX)
		p->factor *= 2;
}

int patience_step(struct patience *p)
{
	int ret = -EAGAIN;

	if (p->stage == PATIENCE_DIAL)
		ret = dial_on(p);
	if (p->stage == PATIENCE_TALK)
		ret = talk_on(p);
	if (p->stage == PATIENCE_ASK)
		ret = ask_on(p);
	if (p->stage != PATIENCE_REST && ret == -EAGAIN &&
	    clock_now_ns() >= p->end_ns)
		ret = err_set(&p->err, X_UNREACHABLE, ETIMEDOUT,
			      p->stage == PATIENCE_ASK ?
				      "it takes requests, and does not answer" :
				      "it accepts connections, and says nothing");
	if (ret == -EAGAIN)
		return ret;
	if (ret == 0)
		note_replaced(p);
	patience_end(p);
	p->next_ns = clock_now_ns() + p->limit_ns;
	return ret;
}

void patience_pollfd(const struct patience *p, struct pollfd *ret)
{
	*ret = (struct pollfd){ .fd = p->fd };
	if (p->stage == PATIENCE_DIAL) {
		ret->fd = link_dial_fd(&p->dial);
		ret->events = POLLOUT;
	} else if (p->stage == PATIENCE_TALK) {
		ret->events = link_talk_events(&p->talk);
	} else if (p->stage == PATIENCE_ASK) {
		ret->events = is_inside_tls(p) ? link_tls_events(&p->link_tls) :
			      is_asked(p)      ? POLLIN :
						 POLLOUT;
	}
}

int patience_due_ms(const struct patience *p, uint64_t now_ns)
{
	uint64_t then_ns = p->end_ns;

	if (p->stage == PATIENCE_REST)
		return -1;
	if (p->stage == PATIENCE_DIAL && link_dial_due_ns(&p->dial) < then_ns)
		then_ns = link_dial_due_ns(&p->dial);
	if (p->stage == PATIENCE_TALK && link_talk_due_ns(&p->talk) < then_ns)
		then_ns = link_talk_due_ns(&p->talk);
	if (now_ns >= then_ns)
		return 0;
	return (int)((then_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
}

/* ---- when ---- */

/* A link that is only slow moves: the peer's host takes what was sent. */
static uint64_t sign_ns(struct patience *p, const struct engine_owed *owed,
			uint64_t now_ns)
{
	int queued = link_queued(p->conn->fd);

	if (queued < p->queued_bytes)
		p->moved_ns = now_ns;
	p->queued_bytes = queued;
	return owed->overtaken || p->moved_ns < owed->since_ns ?
		       owed->since_ns : p->moved_ns;
}

bool patience_look(struct patience *p, const struct engine_owed *owed)
{
	uint64_t now_ns = clock_now_ns();

	if (now_ns - p->replaced_ns > FORGET_LIMITS * p->factor * p->limit_ns)
		p->factor = 1;
	if (!p->limit_ns || !owed->since_ns ||
	    now_ns - sign_ns(p, owed, now_ns) < p->factor * p->limit_ns) {
		patience_end(p);
		return false;
	}
	if (p->stage == PATIENCE_REST && now_ns >= p->next_ns)
		start(p, owed);
	return true;
}
