// SPDX-License-Identifier: GPL-2.0-or-later
/* The connection to the server: states, events, and the table of both. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/check.h"
#include "common/clock.h"
#include "nbd-client/conn.h"
#include "nbd-client/ktls.h"
#include "nbd-client/link_io.h"

/* An end that sends without end is not waited for. */
#define FENCE_READS_MAX 64

const char *conn_where(const struct conn *c)
{
	return conn_end(c)->addrs.where;
}

/* ---- when to try, and where ---- */

/* The next attempt: a pause after since_ns. */
static void schedule(struct conn *c, uint64_t since_ns)
{
	uint64_t pause_ms = c->backoff_ms;

	/* Many clients of one server must not come back in step. */
	pause_ms += (uint64_t)random() % (pause_ms / 2);
	c->next_attempt_ns = since_ns + pause_ms * NS_PER_MS;
	c->backoff_ms *= 2;
	if (c->backoff_ms > CONN_BACKOFF_MAX_MS)
		c->backoff_ms = CONN_BACKOFF_MAX_MS;
}

/* The next server at once, but not round and round. */
static void move_on(struct conn *c)
{
	c->at = endpoints_next(c->ends, c->at);
	c->next_attempt_ns = 0;
	if (--c->left)
		return;
	c->left = c->round;
	schedule(c, c->attempt_ns);
}

/*
 * A socket that is to be used again must not get the kernel's TLS, which stays for
 * good, unless there is no other way; and when memory is short, nothing is asked
 * for that would have to be loaded.
 */
static const char *why_no_ktls(const struct conn *c, enum tls_cipher cipher)
{
	const struct sockets *s = &c->ends->sockets;

	if (c->no_ktls)
		return c->no_ktls;
	if (link_family(c->fd) == AF_UNIX)
		return "a UNIX socket";
	if (sockets_is_ready(s, c->fd) && !sockets_is_once(s, c->fd) &&
	    !c->for_kernel)
		return "no spare socket was left";
	if (!c->may_load &&
	    !(c->ktls_ciphers && *c->ktls_ciphers >> cipher & 1))
		return "another cipher than before, while memory was short";
	return NULL;
}

static int try_ktls(struct conn *c, const struct tls_keys *send,
		    const struct tls_keys *receive)
{
	const char *why = why_no_ktls(c, send->cipher);
	int ret = why ? -EOPNOTSUPP : ktls_start(c->fd, send, receive);

	c->why_user[0] = '\0';
	if (ret < 0)
		snprintf(c->why_user, sizeof(c->why_user), "%s%s",
			 why ? why : "the kernel does not take the keys: ",
			 why ? "" : strerror(-ret));
	else if (c->ktls_ciphers)
		*c->ktls_ciphers |= 1u << send->cipher;
	return ret;
}

/* Negotiated inside TLS: from here on there are only records. */
static int take_keys(struct conn *c)
{
	struct tls_keys send, receive;
	int ret = link_tls_keys(&c->link_tls, &send, &receive, &c->err);

	if (ret < 0)
		return ret;
	c->peer = c->link_tls.peer;
	ret = try_ktls(c, &send, &receive);
	if (ret == 0) {
		c->records = STATS_RECORDS_KERNEL;
	} else if (c->for_kernel) {
		err_set(&c->err, X_KERNEL, -ret,
			"the kernel does not take over the encryption of this link: %s; --kernel-path needs TCP and the module tls for that",
			strerror(-ret));
	} else if (ret == -EPROTO) {
		c->no_ktls = "the kernel's TLS takes no keys for receiving";
		err_set(&c->err, X_KERNEL, EPROTO,
			"the kernel's TLS takes no keys for receiving; the next attempt does without it");
	} else {
		c->records = STATS_RECORDS_USER;
		ret = tls_half_init(&c->seal, &send, true);
		if (!ret)
			ret = tls_half_init(&c->open, &receive, false);
		if (ret < 0)
			err_set(&c->err, X_TLS, -ret,
				"OpenSSL's memory is used up, see status");
	}
	OPENSSL_cleanse(&send, sizeof(send));
	OPENSSL_cleanse(&receive, sizeof(receive));
	return ret;
}

/* ---- what happens on an event: the next event, or none ---- */

static enum conn_event act_nop(struct conn *c)
{
	(void)c;
	return CONN_EV_NONE;
}

static enum conn_event fail(struct conn *c, int error)
{
	c->failed = error;
	return CONN_EV_FAILED;
}

static enum conn_event act_wait(struct conn *c)
{
	return clock_now_ns() < c->next_attempt_ns ? CONN_EV_NONE :
						     CONN_EV_START;
}

static enum conn_event act_dial(struct conn *c)
{
	struct sockets *sockets = &c->ends->sockets;
	bool once = conn_end(c)->tls && !c->no_ktls && !c->for_kernel;
	struct link_sockets source = once ? sockets_source_once(sockets) :
					    sockets_source(sockets);
	uint32_t dial_ms = c->handshake_ms;

	if (c->known && dial_ms > CONN_DIAL_MS)
		dial_ms = CONN_DIAL_MS;
	c->attempts++;
	c->attempt_ns = clock_now_ns();
	c->tried = c->at;
	c->failed = 0;
	err_clear(&c->err);
	link_dial_start(&c->dial, &conn_end(c)->addrs, &source, (int)dial_ms);
	return CONN_EV_STEP;
}

static enum conn_event act_dial_on(struct conn *c)
{
	int ret = link_dial_step(&c->dial, &c->err);

	if (ret == -EAGAIN)
		return CONN_EV_NONE;
	if (ret < 0)
		return fail(c, ret);
	c->fd = c->dial.fd;
	c->dial.fd = -1;
	link_set_patience(c->fd, c->request_timeout_ms);
	return CONN_EV_CONNECTED;
}

static enum conn_event act_talk(struct conn *c)
{
	const struct endpoint *end = conn_end(c);
	struct handshake_params params = {
		.goal = c->goal,
		.tls = end->tls ? end->tls->mode : HANDSHAKE_TLS_OFF,
		.export_name = end->addr->export_name,
		.no_structured = c->simple_replies,
	};
	int ret = handshake_init(&c->handshake, &params, &c->err);

	if (ret < 0)
		return fail(c, ret);
	c->records = STATS_RECORDS_NONE;
	c->link_tls.tls = end->tls;
	link_talk_start(&c->talk, c->fd, &c->handshake,
			end->tls ? &c->link_tls : NULL, (int)c->handshake_ms);
	return CONN_EV_STEP;
}

/* Is it what it was before? Then it is known how large it is now. */
static int check_export(struct conn *c, const struct export_info *is,
			struct err *err)
{
	int ret = endpoints_check_mark(c->ends, is, err);

	if (ret == 0 && c->known)
		ret = endpoints_check(c->ends, &c->export, c->known_at, is,
				      c->at, err);
	if (ret < 0)
		return ret;
	if (!c->known)
		c->export = *is;
	c->export.size_bytes = is->size_bytes;
	c->export.tls |= is->tls;
	c->known = true;
	c->known_at = c->at;
	return 0;
}

/* Negotiated. */
static enum conn_event agree(struct conn *c)
{
	int ret = check_export(c, &c->handshake.info, &c->err);

	if (ret == 0 && c->goal == HANDSHAKE_GO && c->handshake.info.tls)
		ret = take_keys(c);
	if (ret < 0)
		return fail(c, ret);
	c->family = link_family(c->fd);
	return c->goal == HANDSHAKE_GO ? CONN_EV_AGREED : CONN_EV_PROBED;
}

static enum conn_event act_talk_on(struct conn *c)
{
	int ret = link_talk_step(&c->talk, &c->err);
	bool tls;

	if (ret == 0)
		return agree(c);
	if (ret != -EAGAIN)
		return fail(c, ret);
	tls = handshake_status(&c->handshake) == HANDSHAKE_WANTS_TLS;
	if (tls == (c->state == CONN_TLS))
		return CONN_EV_NONE;
	return tls ? CONN_EV_TLS_ASKED : CONN_EV_TLS_DONE;
}

static void end_tls(struct conn *c)
{
	if (c->link_tls.tls)
		link_tls_end(&c->link_tls);
}

static enum conn_event act_agreed(struct conn *c)
{
	end_tls(c);
	c->attempts = 0;
	c->left = c->round;
	c->mute = false;
	c->answered = false;
	c->up_since_ns = clock_now_ns();
	return CONN_EV_NONE;
}

/* The attempt is over, one way or another. */
static enum conn_event act_give_up(struct conn *c)
{
	link_dial_end(&c->dial);
	end_tls(c);
	if (c->fd >= 0)
		sockets_give(&c->ends->sockets, c->fd);
	c->fd = -1;
	return CONN_EV_NONE;
}

static enum conn_event act_failed(struct conn *c)
{
	move_on(c);
	return act_give_up(c);
}

/* ---- the end of a connection ---- */

/*
 * True when the server has closed its end. What it still sends is thrown away,
 * so that it does not have to wait with that.
 */
static bool has_ended(int fd)
{
	char bytes[4096];
	ssize_t n = 1;

	for (int i = 0; i < FENCE_READS_MAX && n > 0; i++)
		n = link_receive(fd, bytes, sizeof(bytes));
	return n == 0 || n == -ECONNRESET || n == -ENOTCONN ||
	       (n < 0 && n != -EAGAIN && ktls_has_ended(fd));
}

static bool stop_sending(int fd)
{
	link_shutdown(fd, SHUT_WR);
	return true;
}

static void begin_fence(struct conn *c)
{
	c->fence_blind = false;
	c->cut = false;
	c->down_since_ns = clock_now_ns();
	c->fence_end_ns = c->down_since_ns + c->fence_ms * NS_PER_MS;
}

static enum conn_event act_lost(struct conn *c)
{
	stop_sending(c->fd);
	begin_fence(c);
	return CONN_EV_NONE;
}

/* Ends the engine's operations, after which nobody sees the end any more. */
static enum conn_event act_cut(struct conn *c)
{
	if (c->cut || clock_now_ns() < c->fence_end_ns)
		return CONN_EV_NONE;
	if (!has_ended(c->fd))
		c->fence_blind = true;
	c->cut = true;
	link_shutdown(c->fd, SHUT_RDWR);
	return CONN_EV_NONE;
}

static enum conn_event act_fence(struct conn *c)
{
	act_lost(c);
	return CONN_EV_STEP;
}

/* Other sockets than the ready ones have ended with their process, unseen. */
static enum conn_event act_inherit(struct conn *c)
{
	bool all = sockets_inherit(&c->ends->sockets);

	sockets_each(&c->ends->sockets, stop_sending);
	begin_fence(c);
	c->fence_blind = !all || !endpoints_ready(c->ends, c->at);
	return CONN_EV_STEP;
}

/* All sockets that may be connected: true if none is any more. */
static bool fence_ended(struct conn *c)
{
	if (c->fence_blind)
		return false;
	if (c->fd >= 0)
		return has_ended(c->fd);
	return sockets_each(&c->ends->sockets, has_ended);
}

static enum conn_event act_fence_on(struct conn *c)
{
	uint64_t now_ns = clock_now_ns();

	if (fence_ended(c))
		return CONN_EV_ENDED;
	c->fence_poll_ns = now_ns + CONN_FENCE_POLL_MS * NS_PER_MS;
	if (now_ns < c->fence_end_ns)
		return CONN_EV_NONE;
	c->unfenced++;
	return CONN_EV_ENDED;
}

static enum conn_event act_ended(struct conn *c)
{
	bool good = !c->mute && clock_now_ns() - c->up_since_ns >=
					CONN_GOOD_MS * NS_PER_MS;

	if (c->fd >= 0)
		sockets_give(&c->ends->sockets, c->fd);
	else
		sockets_reset(&c->ends->sockets);
	c->fd = -1;
	if (c->move_on || !good)
		c->at = endpoints_next(c->ends, c->at);
	c->move_on = false;
	c->next_attempt_ns = 0;
	if (good || c->answered)
		c->backoff_ms = CONN_BACKOFF_MIN_MS;
	if (!good)
		schedule(c, clock_now_ns());
	return CONN_EV_NONE;
}

/* An idle one: nothing may come, or it is of no use any more. */
static enum conn_event act_watch(struct conn *c)
{
	char byte;

	return link_peek(c->fd, &byte, sizeof(byte)) == -EAGAIN ?
		       CONN_EV_NONE : CONN_EV_CLOSE;
}

/* ---- the table ---- */

struct cell {
	enum conn_state next;
	enum conn_event (*act)(struct conn *c); /* in the next state */
};

/*
 * A row names every event, so a cell that is forgotten does not compile. In
 * this order:
 *	start, step, connected, tls_asked, tls_done, probed, agreed, failed,
 *	taken, lost, close, inherit, ended, moved
 * What a state does not know it stays in.
 */
#define ROW(a, b, c, d, e, f, g, h, i, j, k, l, m, n)                          \
	{                                                                      \
		[CONN_EV_START] = a, [CONN_EV_STEP] = b,                       \
		[CONN_EV_CONNECTED] = c, [CONN_EV_TLS_ASKED] = d,              \
		[CONN_EV_TLS_DONE] = e, [CONN_EV_PROBED] = f,                  \
		[CONN_EV_AGREED] = g, [CONN_EV_FAILED] = h,                    \
		[CONN_EV_TAKEN] = i, [CONN_EV_LOST] = j,                       \
		[CONN_EV_CLOSE] = k, [CONN_EV_INHERIT] = l,                    \
		[CONN_EV_ENDED] = m, [CONN_EV_MOVED] = n,                      \
	}
#define GO(state, act) { CONN_##state, act }

/*
 * The way up is that of "Handshake" in the protocol text, TLS being begun in
 * the midst of it; the way down that of "Terminating the transmission phase",
 * with a wait for the server's end of it.
 */
/* clang-format off */
#define NOP(state) GO(state, act_nop)
static const struct cell table[CONN_STATES][CONN_EVENTS] = {
	[CONN_DOWN] = ROW(
		GO(CONNECTING, act_dial), GO(DOWN, act_wait), NOP(DOWN),
		NOP(DOWN), NOP(DOWN), NOP(DOWN), NOP(DOWN), NOP(DOWN),
		NOP(UP), NOP(DOWN), NOP(DOWN), GO(FENCE, act_inherit),
		NOP(DOWN), GO(READY, act_agreed)),
	[CONN_CONNECTING] = ROW(
		NOP(CONNECTING), GO(CONNECTING, act_dial_on),
		GO(NEGOTIATING, act_talk),
		NOP(CONNECTING), NOP(CONNECTING), NOP(CONNECTING),
		NOP(CONNECTING), GO(DOWN, act_failed),
		NOP(CONNECTING), NOP(CONNECTING), GO(DOWN, act_give_up),
		NOP(CONNECTING), NOP(CONNECTING), NOP(CONNECTING)),
	[CONN_NEGOTIATING] = ROW(
		NOP(NEGOTIATING), GO(NEGOTIATING, act_talk_on),
		NOP(NEGOTIATING),
		NOP(TLS), NOP(NEGOTIATING), GO(DOWN, act_give_up),
		GO(READY, act_agreed), GO(DOWN, act_failed),
		NOP(NEGOTIATING), NOP(NEGOTIATING), GO(DOWN, act_give_up),
		NOP(NEGOTIATING), NOP(NEGOTIATING), NOP(NEGOTIATING)),
	[CONN_TLS] = ROW(
		NOP(TLS), GO(TLS, act_talk_on),
		NOP(TLS),
		NOP(TLS), NOP(NEGOTIATING), GO(DOWN, act_give_up),
		GO(READY, act_agreed), GO(DOWN, act_failed),
		NOP(TLS), NOP(TLS), GO(DOWN, act_give_up),
		NOP(TLS), NOP(TLS), NOP(TLS)),
	[CONN_READY] = ROW(
		NOP(READY), GO(READY, act_watch), NOP(READY),
		NOP(READY), NOP(READY), NOP(READY), NOP(READY), NOP(READY),
		NOP(UP), GO(LOST, act_lost), GO(FENCE, act_fence),
		NOP(READY), NOP(READY), NOP(DOWN)),
	[CONN_UP] = ROW(
		NOP(UP), NOP(UP), NOP(UP),
		NOP(UP), NOP(UP), NOP(UP), NOP(UP), NOP(UP),
		NOP(UP), GO(LOST, act_lost), GO(FENCE, act_fence),
		NOP(UP), NOP(UP), NOP(UP)),
	[CONN_LOST] = ROW(
		NOP(LOST), GO(LOST, act_cut), NOP(LOST),
		NOP(LOST), NOP(LOST), NOP(LOST), NOP(LOST), NOP(LOST),
		NOP(LOST), NOP(LOST), GO(FENCE, act_fence_on),
		NOP(LOST), NOP(LOST), NOP(LOST)),
	[CONN_FENCE] = ROW(
		NOP(FENCE), GO(FENCE, act_fence_on), NOP(FENCE),
		NOP(FENCE), NOP(FENCE), NOP(FENCE), NOP(FENCE), NOP(FENCE),
		NOP(FENCE), NOP(FENCE), NOP(FENCE),
		NOP(FENCE), GO(DOWN, act_ended), NOP(FENCE)),
};
/* clang-format on */

void conn_dispatch(struct conn *c, enum conn_event event)
{
	while (event != CONN_EV_NONE) {
		enum conn_state was = c->state;
		const struct cell *cell = &table[was][event];

		c->state = cell->next;
		event = cell->act(c);
		if (c->state != was && c->on_change)
			c->on_change(c, was);
	}
}

/* ---- for the owner ---- */

static bool is_trying(const struct conn *c)
{
	return c->state == CONN_CONNECTING || c->state == CONN_NEGOTIATING ||
	       c->state == CONN_TLS;
}

/* 0: an event of somebody else is needed first. */
static uint64_t due_ns(const struct conn *c)
{
	switch (c->state) {
	case CONN_DOWN:
		return c->next_attempt_ns ? c->next_attempt_ns : 1;
	case CONN_CONNECTING:
		return link_dial_due_ns(&c->dial);
	case CONN_NEGOTIATING:
	case CONN_TLS:
		return link_talk_due_ns(&c->talk);
	case CONN_LOST:
		return c->cut ? 0 : c->fence_end_ns;
	case CONN_FENCE:
		return c->fence_poll_ns;
	default:
		return 0;
	}
}

int conn_due_ms(const struct conn *c, uint64_t now_ns)
{
	uint64_t then_ns = due_ns(c);

	if (!then_ns)
		return -1;
	if (now_ns >= then_ns)
		return 0;
	return (int)((then_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
}

void conn_pollfd(const struct conn *c, struct pollfd *ret)
{
	*ret = (struct pollfd){ .fd = -1 };
	if (c->state == CONN_CONNECTING) {
		ret->fd = link_dial_fd(&c->dial);
		ret->events = POLLOUT;
	} else if (is_trying(c)) {
		ret->fd = c->fd;
		ret->events = link_talk_events(&c->talk);
	} else if (c->state == CONN_READY) {
		ret->fd = c->fd;
		ret->events = POLLIN | POLLRDHUP;
	}
}

void conn_step(struct conn *c)
{
	conn_dispatch(c, CONN_EV_STEP);
}

void conn_hurry(struct conn *c)
{
	conn_dispatch(c, CONN_EV_START);
}

bool conn_move(struct conn *c, struct conn *from)
{
	struct tls_half seal = c->seal, open = c->open;

	CHECK(c->state == CONN_DOWN && from->state == CONN_READY &&
	      c->ends == from->ends);
	c->tried = c->at = from->at;
	c->failed = check_export(c, &from->handshake.info, &c->err);
	if (c->failed) {
		conn_close(from);
		return false;
	}
	c->fd = from->fd;
	c->family = from->family;
	c->records = from->records;
	c->peer = from->peer;
	memcpy(c->why_user, from->why_user, sizeof(c->why_user));
	c->handshake.info = from->handshake.info;
	c->seal = from->seal;
	c->open = from->open;
	from->seal = seal;
	from->open = open;
	from->fd = -1;
	conn_dispatch(from, CONN_EV_MOVED);
	conn_dispatch(c, CONN_EV_MOVED);
	return true;
}

static int attempt(struct conn *c, enum handshake_goal goal, struct err *err)
{
	CHECK(c->state == CONN_DOWN);
	c->goal = goal;
	conn_dispatch(c, CONN_EV_START);
	while (is_trying(c)) {
		struct pollfd fd;

		conn_pollfd(c, &fd);
		(void)link_wait(fd.fd, fd.events, due_ns(c));
		conn_dispatch(c, CONN_EV_STEP);
	}
	c->goal = HANDSHAKE_GO;
	if (c->failed && err)
		*err = c->err;
	return c->failed;
}

/* Each server once; what the preferred one has said says most. */
static int attempt_each(struct conn *c, enum handshake_goal goal,
			struct err *err)
{
	int ret = attempt(c, goal, err);

	for (uint32_t i = 1; i < c->ends->count && ret < 0; i++)
		if (attempt(c, goal, NULL) == 0)
			return 0;
	return ret;
}

int conn_probe(struct conn *c, struct err *err)
{
	return attempt_each(c, HANDSHAKE_INFO, err);
}

int conn_open(struct conn *c, struct err *err)
{
	return attempt_each(c, HANDSHAKE_GO, err);
}

struct records *conn_start_records(struct conn *c, struct records *r)
{
	CHECK(c->state == CONN_READY);
	if (c->records != STATS_RECORDS_USER)
		return NULL;
	CHECK(r);
	records_start(r, &c->seal, &c->open);
	return r;
}

void conn_take(struct conn *c)
{
	CHECK(c->state == CONN_READY);
	conn_dispatch(c, CONN_EV_TAKEN);
}

/* Also one that was reset: the server's end of it is closed. */
static bool is_end(int error)
{
	return error == 0 || error == ECONNRESET || error == EPIPE;
}

const char *conn_shutdown(struct conn *c, int error)
{
	const char *why = NULL;

	CHECK(c->state == CONN_READY || c->state == CONN_UP);
	if (c->records == STATS_RECORDS_KERNEL && !c->for_kernel)
		why = ktls_why(c->fd, error);
	conn_dispatch(c, CONN_EV_LOST);
	/* One that was given up by our kernel reads as ended, too. */
	c->fence_blind = !is_end(error) && error != EPROTO && !why;
	c->move_on = !is_end(error); /* a server that ends may be back soon */
	return why;
}

void conn_close(struct conn *c)
{
	conn_dispatch(c, CONN_EV_CLOSE);
}

void conn_inherit(struct conn *c)
{
	CHECK(c->state == CONN_DOWN && c->fd < 0);
	conn_dispatch(c, CONN_EV_INHERIT);
}

void conn_adopt(struct conn *c, int fd)
{
	CHECK(c->state == CONN_DOWN && c->fd < 0);
	c->fd = fd;
	c->up_since_ns = clock_now_ns();
	conn_dispatch(c, CONN_EV_TAKEN);
}

void conn_fini(struct conn *c)
{
	act_give_up(c);
	if (c->ends == &c->own)
		sockets_fini(&c->own.sockets);
	tls_half_fini(&c->seal);
	tls_half_fini(&c->open);
	c->state = CONN_DOWN;
}
