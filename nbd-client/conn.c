// SPDX-License-Identifier: GPL-2.0-or-later
/* The connection to the server; the control thread. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "nbd-client/conn.h"
#include "nbd-client/ktls.h"
#include "nbd-client/tls_memory.h"

int conn_init(struct conn *c, const struct addr *addr,
	      const struct socket_memory *memory, uint32_t handshake_ms,
	      struct err *err)
{
	c->state = CONN_DOWN;
	c->fd = -1;
	c->addr = addr;
	sockets_init(&c->sockets, memory);
	c->handshake_ms = handshake_ms;
	c->backoff_ms = CONN_BACKOFF_MIN_MS;
	c->tls = NULL;
	c->records = STATS_RECORDS_NONE;
	c->seal = c->open = (struct tls_half){ 0 };
	c->no_ktls = false;
	c->fence_ms = CONN_FENCE_MS;
	return link_resolve(addr, &c->addrs, err);
}

void conn_fini(struct conn *c)
{
	if (c->fd >= 0)
		sockets_give(&c->sockets, c->fd);
	sockets_fini(&c->sockets);
	tls_half_fini(&c->seal);
	tls_half_fini(&c->open);
	c->fd = -1;
	c->state = CONN_DOWN;
}

void conn_set_tls(struct conn *c, struct tls *tls)
{
	c->tls = tls && tls->mode != HANDSHAKE_TLS_OFF ? tls : NULL;
	link_tls_init(&c->link_tls, tls);
}

int conn_init_tls(struct conn *c, struct tls *tls,
		  const struct tls_options *options, struct err *err)
{
	enum handshake_tls mode;
	int ret = tls_decide(options, c->addr, &mode, err);

	if (ret < 0 || mode == HANDSHAKE_TLS_OFF)
		return ret;
	ret = tls_memory_open(err);
	if (!ret)
		ret = tls_open(tls, options, c->addr, err);
	if (!ret)
		conn_set_tls(c, tls);
	return ret;
}

/* What a device rests on must not change under it. */
static int check_same(const struct export_info *was,
		      const struct export_info *is, struct err *err)
{
	if (was->size_bytes != is->size_bytes)
		return err_set(err, X_REFUSED, ESTALE,
			       "the export's size has changed from %llu to %llu bytes; "
			       "detach and attach again if that was meant",
			       (unsigned long long)was->size_bytes,
			       (unsigned long long)is->size_bytes);
	if (was->flags != is->flags)
		return err_set(err, X_REFUSED, ESTALE,
			       "the export's flags have changed from 0x%x to 0x%x; "
			       "is it still the same server and export?",
			       was->flags, is->flags);
	if (was->block_min != is->block_min || was->block_max != is->block_max)
		return err_set(err, X_REFUSED, ESTALE,
			       "the export's block sizes have changed; "
			       "is it still the same server and export?");
	/* With --tls=allow whoever breaks a connection could choose. */
	if (was->tls && !is->tls)
		return err_set(err, X_TLS, EPROTO,
			       "the connection was encrypted before, and now the server has no TLS, "
			       "or somebody makes it look so; detach and attach again if that was meant");
	return 0;
}

static int negotiate(struct conn *c, int fd, enum handshake_goal goal,
		     struct err *err)
{
	struct handshake_params params = {
		.goal = goal,
		.tls = c->tls ? c->tls->mode : HANDSHAKE_TLS_OFF,
		.export_name = c->addr->export_name,
	};
	int ret = handshake_init(&c->handshake, &params, err);

	if (!ret)
		ret = link_negotiate_tls(fd, &c->handshake,
					 c->tls ? &c->link_tls : NULL,
					 (int)c->handshake_ms, err);
	if (!ret && c->known)
		ret = check_same(&c->export, &c->handshake.info, err);
	return ret;
}

static void schedule(struct conn *c)
{
	uint64_t pause_ms = c->backoff_ms;

	/* Many clients of one server must not come back in step. */
	pause_ms += (uint64_t)random() % (pause_ms / 2);
	c->next_attempt_ns = clock_now_ns() + pause_ms * NS_PER_MS;
	c->backoff_ms *= 2;
	if (c->backoff_ms > CONN_BACKOFF_MAX_MS)
		c->backoff_ms = CONN_BACKOFF_MAX_MS;
}

static int family_of(int fd)
{
	int family = AF_UNSPEC;
	socklen_t bytes = sizeof(family);

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &bytes);
	return family;
}

/*
 * The kernel makes the records where it can. It cannot on a UNIX socket; and a
 * socket that is to be used again must not get its TLS, which stays for good.
 */
static int try_ktls(struct conn *c, int fd, const struct tls_keys *send,
		    const struct tls_keys *receive)
{
	if (c->no_ktls || family_of(fd) == AF_UNIX ||
	    sockets_is_ready(&c->sockets, fd))
		return -EOPNOTSUPP;
	return ktls_start(fd, send, receive);
}

/* Negotiated inside TLS: from here on there are only records. */
static int take_keys(struct conn *c, int fd, struct err *err)
{
	struct tls_keys send, receive;
	int ret = link_tls_keys(&c->link_tls, &send, &receive, err);

	if (ret < 0)
		return ret;
	c->peer = c->link_tls.peer;
	ret = try_ktls(c, fd, &send, &receive);
	if (ret == 0) {
		c->records = STATS_RECORDS_KERNEL;
	} else if (ret == -EPROTO) {
		c->no_ktls = true;
		err_set(err, X_KERNEL, EPROTO,
			"the kernel's TLS takes no keys for receiving; the next attempt does without it");
	} else {
		c->records = STATS_RECORDS_OURS;
		ret = tls_half_init(&c->seal, &send, true);
		if (!ret)
			ret = tls_half_init(&c->open, &receive, false);
		if (ret < 0)
			err_set(err, X_TLS, -ret,
				"OpenSSL's memory is used up, see status");
	}
	OPENSSL_cleanse(&send, sizeof(send));
	OPENSSL_cleanse(&receive, sizeof(receive));
	return ret;
}

/* A connection on which the goal has been reached. */
static int reach(struct conn *c, enum handshake_goal goal, int *ret_fd,
		 struct err *err)
{
	struct link_sockets source = sockets_source(&c->sockets);
	int fd, ret;

	CHECK(c->state == CONN_DOWN);
	ret = link_connect_from(&c->addrs, &source, (int)c->handshake_ms, &fd,
				err);
	if (ret < 0)
		return ret;
	c->records = STATS_RECORDS_NONE;
	ret = negotiate(c, fd, goal, err);
	if (ret == 0 && goal == HANDSHAKE_GO && c->handshake.info.tls)
		ret = take_keys(c, fd, err);
	if (c->tls)
		link_tls_end(&c->link_tls);
	if (ret < 0) {
		sockets_give(&c->sockets, fd);
		return ret;
	}
	if (!c->known)
		c->export = c->handshake.info;
	c->known = true;
	c->family = family_of(fd);
	*ret_fd = fd;
	return 0;
}

int conn_probe(struct conn *c, struct err *err)
{
	int fd;
	int ret = reach(c, HANDSHAKE_INFO, &fd, err);

	if (ret == 0)
		sockets_give(&c->sockets, fd);
	return ret;
}

int conn_open(struct conn *c, struct err *err)
{
	int ret = reach(c, HANDSHAKE_GO, &c->fd, err);

	if (ret < 0) {
		schedule(c);
		return ret;
	}
	c->state = CONN_READY;
	c->up_since_ns = clock_now_ns();
	return 0;
}

struct records *conn_start_records(struct conn *c, struct records *r)
{
	CHECK(c->state == CONN_READY);
	if (c->records != STATS_RECORDS_OURS)
		return NULL;
	CHECK(r);
	records_start(r, &c->seal, &c->open);
	return r;
}

/* ---- the end of a connection ---- */

/* Also one that was reset: the server's end of it is closed. */
static bool is_end(int error)
{
	return error == 0 || error == ECONNRESET || error == EPIPE;
}

/*
 * True when the server has closed its end. What it still sends is thrown away,
 * so that it does not have to wait with that.
 */
static bool has_ended(int fd)
{
	char bytes[4096];
	ssize_t n;

	do
		n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	while (n > 0 || (n < 0 && errno == EINTR));
	return n == 0 || errno == ECONNRESET || errno == ENOTCONN;
}

static void begin_fence(struct conn *c)
{
	c->fence_blind = false;
	c->fence_end_ns = clock_now_ns() + c->fence_ms * NS_PER_MS;
}

void conn_shutdown(struct conn *c, int error)
{
	CHECK(c->state == CONN_READY || c->state == CONN_UP);
	shutdown(c->fd, SHUT_WR);
	c->state = CONN_LOST;
	c->down_since_ns = clock_now_ns();
	begin_fence(c);
	/* One that was given up by our kernel reads as ended, too. */
	c->fence_blind = !is_end(error) && error != EPROTO;
}

static void become_down(struct conn *c)
{
	c->state = CONN_DOWN;
	if (clock_now_ns() - c->up_since_ns < CONN_GOOD_MS * NS_PER_MS) {
		schedule(c);
		return;
	}
	c->backoff_ms = CONN_BACKOFF_MIN_MS;
	c->next_attempt_ns = 0;
}

/* All sockets that may be connected: true if none is any more. */
static bool fence_ended(struct conn *c)
{
	if (c->fence_blind)
		return false;
	if (c->fd >= 0)
		return has_ended(c->fd);
	return sockets_each(&c->sockets, has_ended);
}

static void fence_step(struct conn *c, uint64_t now_ns)
{
	bool ended = fence_ended(c);

	if (!ended && now_ns < c->fence_end_ns)
		return;
	if (!ended)
		c->unfenced++;
	if (c->fd >= 0)
		sockets_give(&c->sockets, c->fd);
	else
		sockets_reset(&c->sockets);
	c->fd = -1;
	become_down(c);
}

void conn_close(struct conn *c)
{
	CHECK(c->fd >= 0);
	if (c->state != CONN_LOST) {
		shutdown(c->fd, SHUT_WR);
		begin_fence(c);
	}
	c->state = CONN_FENCE;
	fence_step(c, clock_now_ns());
}

static bool stop_sending(int fd)
{
	shutdown(fd, SHUT_WR);
	return true;
}

void conn_inherit(struct conn *c)
{
	CHECK(c->state == CONN_DOWN && c->fd < 0);
	c->state = CONN_FENCE;
	c->down_since_ns = clock_now_ns();
	begin_fence(c);
	/* Other sockets than these have ended with their process, unseen. */
	c->fence_blind = c->sockets.family == AF_UNSPEC;
	sockets_each(&c->sockets, stop_sending);
}

void conn_step(struct conn *c, uint64_t now_ns)
{
	if (c->state == CONN_FENCE)
		fence_step(c, now_ns);
	else if (c->state == CONN_LOST && now_ns >= c->fence_end_ns)
		shutdown(c->fd, SHUT_RDWR); /* ends the engine's operations */
}

static int ms_until(uint64_t then_ns, uint64_t now_ns)
{
	if (now_ns >= then_ns)
		return 0;
	return (int)((then_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
}

int conn_due_ms(const struct conn *c, uint64_t now_ns)
{
	switch (c->state) {
	case CONN_DOWN:
		return ms_until(c->next_attempt_ns, now_ns);
	case CONN_LOST:
		/* Once is enough, then it is the engine's turn. */
		return now_ns < c->fence_end_ns + NS_PER_S ?
			       ms_until(c->fence_end_ns, now_ns) : -1;
	case CONN_FENCE:
		return (int)CONN_FENCE_POLL_MS;
	default:
		return -1;
	}
}
