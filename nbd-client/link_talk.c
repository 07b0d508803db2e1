// SPDX-License-Identifier: GPL-2.0-or-later
/* Moves the bytes of a negotiation and keeps its time. Control thread. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "common/check.h"
#include "nbd-client/link_io.h"
#include "nbd-client/link_talk.h"

/* More than any reply but a list's needs at once. */
#define RECEIVE_BYTES 4096

/* So often in one go; others want to be looked after, too. */
#define ROUNDS_MAX 64

static bool is_inside_tls(const struct link_talk *t)
{
	return t->tls && t->tls->up;
}

static ssize_t put(struct link_talk *t, const uint8_t *from, size_t bytes)
{
	return is_inside_tls(t) ? link_tls_send(t->tls, from, bytes) :
				  link_send(t->fd, from, bytes);
}

static ssize_t get(struct link_talk *t, uint8_t *to, size_t bytes)
{
	return is_inside_tls(t) ? link_tls_recv(t->tls, to, bytes) :
				  link_receive(t->fd, to, bytes);
}

/* One send or receive. 0, -EAGAIN, or another -errno. */
static int move(struct link_talk *t)
{
	uint8_t in[RECEIVE_BYTES];
	size_t bytes;
	const uint8_t *out = handshake_output(t->hs, &bytes);
	ssize_t n = bytes > 0 ? put(t, out, bytes) : get(t, in, sizeof(in));

	/* Inside TLS whoever hangs up may have said why before. */
	if (n == -EPIPE && is_inside_tls(t)) {
		n = get(t, in, sizeof(in));
		if (n > 0 || n == -EAGAIN)
			n = 0;
	}
	if (n < 0 && !link_is_gone((int)-n))
		return (int)n;
	if (bytes > 0 && n > 0)
		handshake_sent(t->hs, (size_t)n);
	else if (n > 0)
		handshake_feed(t->hs, in, (size_t)n);
	else
		handshake_closed(t->hs);
	return 0;
}

static int start_tls(struct link_talk *t, struct err *err)
{
	int r;

	if (!t->tls)
		return err_set(err, X_TLS, EPROTONOSUPPORT,
			       "TLS is not available on this kind of connection");
	r = link_tls_step(t->tls, t->fd, err);
	if (r == 0)
		handshake_tls_started(t->hs);
	return r;
}

static int go_on(struct link_talk *t, struct err *err)
{
	int r;

	if (handshake_status(t->hs) == HANDSHAKE_WANTS_TLS)
		return start_tls(t, err);
	r = move(t);
	if (r == -EPROTO && is_inside_tls(t)) {
		if (err)
			*err = t->tls->err;
		return r;
	}
	if (r == 0 || r == -EAGAIN)
		return r;
	return err_set(err, X_FAILURE, -r,
		       "cannot negotiate with the server: %s", strerror(-r));
}

static void watch_step(struct link_talk *t)
{
	int limit_ms = t->timeout_ms;

	if (handshake_step(t->hs) == t->step)
		return;
	t->step = handshake_step(t->hs);
	if (handshake_leaving(t->hs) && limit_ms > LINK_LEAVE_TIMEOUT_MS)
		limit_ms = LINK_LEAVE_TIMEOUT_MS;
	t->step_end_ns = link_deadline(limit_ms);
}

/*
 * What has come beyond the end is an error too, as is having been closed. Inside
 * TLS only what has been decrypted can be seen; the rest is left to whoever
 * takes over.
 */
static void check_silence(struct link_talk *t)
{
	uint8_t byte = 0;
	ssize_t n;

	if (t->hs->params.goal != HANDSHAKE_GO)
		return;
	if (is_inside_tls(t)) {
		if (link_tls_pending(t->tls))
			handshake_feed(t->hs, &byte, sizeof(byte));
		return;
	}
	n = link_peek(t->fd, &byte, sizeof(byte));
	if (n > 0)
		handshake_feed(t->hs, &byte, sizeof(byte));
	else if (n == 0 || link_is_gone((int)-n))
		handshake_closed(t->hs);
}

static int result(struct link_talk *t, struct err *err)
{
	if (handshake_status(t->hs) == HANDSHAKE_DONE)
		check_silence(t);
	if (handshake_status(t->hs) == HANDSHAKE_DONE)
		return 0;
	CHECK(t->hs->err.exit_code != EXIT_OK && t->hs->err.error > 0);
	if (err)
		*err = t->hs->err;
	return -t->hs->err.error;
}

void link_talk_start(struct link_talk *t, int fd, struct handshake *hs,
		     struct link_tls *tls, int timeout_ms)
{
	*t = (struct link_talk){
		.fd = fd,
		.hs = hs,
		.tls = tls,
		.timeout_ms = timeout_ms,
		.step = handshake_step(hs),
		.step_end_ns = link_deadline(timeout_ms),
		.end_ns = link_deadline(LINK_TALK_STEPS_MAX * timeout_ms),
	};
}

static uint64_t limit_ns(const struct link_talk *t)
{
	return t->step_end_ns < t->end_ns ? t->step_end_ns : t->end_ns;
}

int link_talk_step(struct link_talk *t, struct err *err)
{
	t->interrupted = false;
	for (int i = 0; i < ROUNDS_MAX && !handshake_ended(t->hs); i++) {
		int r;

		watch_step(t);
		/* Also for a peer that always has one more byte for us. */
		if (link_left_ms(limit_ns(t)) == 0) {
			handshake_timed_out(t->hs, (unsigned int)t->timeout_ms);
			continue;
		}
		r = go_on(t, err);
		if (r < 0)
			return r;
	}
	if (handshake_ended(t->hs))
		return result(t, err);
	/* Something may have come that poll(2) does not see, inside OpenSSL. */
	t->interrupted = true;
	return -EAGAIN;
}

short link_talk_events(const struct link_talk *t)
{
	size_t bytes;

	if (handshake_status(t->hs) == HANDSHAKE_WANTS_TLS || is_inside_tls(t))
		return t->tls ? link_tls_events(t->tls) : 0;
	handshake_output(t->hs, &bytes);
	return bytes > 0 ? POLLOUT : POLLIN;
}

uint64_t link_talk_due_ns(const struct link_talk *t)
{
	return t->interrupted ? 1 : limit_ns(t);
}

int link_negotiate(int fd, struct handshake *hs, struct link_tls *tls,
		   int timeout_ms, struct err *err)
{
	struct link_talk t;
	int r;

	link_talk_start(&t, fd, hs, tls, timeout_ms);
	while ((r = link_talk_step(&t, err)) == -EAGAIN)
		(void)link_wait(fd, link_talk_events(&t), link_talk_due_ns(&t));
	return r;
}
