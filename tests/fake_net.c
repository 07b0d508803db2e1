// SPDX-License-Identifier: GPL-2.0-or-later
/* See fake_net.h. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "common/proto.h"
#include "include/nbd-wire.h"
#include "nbd-client/link_io.h"
#include "nbd-client/link_tls.h"
#include "tests/fake_clock.h"
#include "tests/fake_net.h"

#define SOCKETS 64
#define FD_FIRST 1000
#define BUFFER_BYTES 1024
#define GREETING_BYTES 18u
#define OPTION_BYTES 16u

enum stage { CLOSED, NEW, CONNECTING, FAILED, CONNECTED };

static struct end {
	enum stage stage;
	int family;
	enum fake_server server;
	bool greeted;
	bool flagged;	/* the client's flags have come */
	bool agreed;	/* GO was granted */
	bool we_ended;	/* shutdown(SHUT_WR) by the client */
	bool cut;	/* shutdown(SHUT_RDWR) */
	bool they_ended;
	bool reset;
	uint8_t in[BUFFER_BYTES]; /* of the server */
	size_t in_bytes;
	uint8_t out[BUFFER_BYTES];
	size_t out_bytes;
} ends[SOCKETS];

struct fake_net fake_net;
static uint64_t seed = 1;

uint32_t fake_net_random(uint32_t below)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33) % below;
}

void fake_net_reset(void)
{
	memset(ends, 0, sizeof(ends));
	fake_net = (struct fake_net){ .server = FAKE_GOOD,
				      .size_bytes = 1u << 20 };
	seed = 1;
}

static struct end *end_of(int fd)
{
	static struct end nowhere;
	int at = fd - FD_FIRST;

	if (at >= 0 && at < SOCKETS && ends[at].stage != CLOSED)
		return &ends[at];
	fake_net.faults++;
	nowhere = (struct end){ .stage = NEW };
	return &nowhere;
}

/* ---- the server ---- */

static void say(struct end *e, const void *from, size_t bytes)
{
	if (!bytes || e->out_bytes + bytes > BUFFER_BYTES)
		return;
	memcpy(e->out + e->out_bytes, from, bytes);
	e->out_bytes += bytes;
}

static void reply(struct end *e, uint32_t option, uint32_t type,
		  const void *data, uint32_t bytes)
{
	uint8_t head[20];

	put_be64(head, NBD_REP_MAGIC);
	put_be32(head + 8, option);
	put_be32(head + 12, type);
	put_be32(head + 16, bytes);
	say(e, head, sizeof(head));
	say(e, data, bytes);
}

static void greet(struct end *e)
{
	uint8_t b[GREETING_BYTES];

	put_be64(b, NBD_MAGIC);
	put_be64(b + 8, NBD_OPTS_MAGIC);
	put_be16(b + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	if (e->server == FAKE_GARBAGE)
		b[fake_net_random(16)] ^= 0x55;
	say(e, b, sizeof(b));
	e->greeted = true;
}

static void offer(struct end *e, uint32_t option)
{
	uint8_t b[12];

	put_be16(b, NBD_INFO_EXPORT);
	put_be64(b + 2, e->server == FAKE_CHANGED ? 1u << 19 :
						    fake_net.size_bytes);
	put_be16(b + 10, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH);
	if (e->server == FAKE_REFUSES) {
		reply(e, option, NBD_REP_ERR_UNKNOWN, NULL, 0);
		return;
	}
	reply(e, option, NBD_REP_INFO, b, sizeof(b));
	reply(e, option, NBD_REP_ACK, NULL, 0);
	e->agreed = option == NBD_OPT_GO;
}

static void answer(struct end *e, uint32_t option)
{
	switch (option) {
	case NBD_OPT_GO:
	case NBD_OPT_INFO:
		offer(e, option);
		break;
	case NBD_OPT_ABORT:
		reply(e, option, NBD_REP_ACK, NULL, 0);
		e->they_ended = true;
		break;
	default: /* STARTTLS, STRUCTURED_REPLY */
		reply(e, option, NBD_REP_ACK, NULL, 0);
		break;
	}
}

static void drop_in(struct end *e, size_t bytes)
{
	memmove(e->in, e->in + bytes, e->in_bytes - bytes);
	e->in_bytes -= bytes;
}

/* True if there was something to answer. */
static bool read_option(struct end *e)
{
	size_t bytes;

	if (!e->flagged) {
		if (e->in_bytes < 4)
			return false;
		drop_in(e, 4);
		e->flagged = true;
	}
	if (e->in_bytes < OPTION_BYTES)
		return false;
	bytes = OPTION_BYTES + get_be32(e->in + 12);
	if (e->in_bytes < bytes)
		return false;
	answer(e, get_be32(e->in + 8));
	drop_in(e, bytes);
	return true;
}

/* Reads get no data: nobody looks at them. */
static void answer_requests(struct end *e)
{
	struct proto_request r;
	uint8_t head[sizeof(struct nbd_simple_reply)];

	for (; e->in_bytes >= sizeof(struct nbd_request);
	     drop_in(e, sizeof(struct nbd_request))) {
		if (proto_get_request(&r, e->in) < 0) {
			fake_net.faults++;
			continue;
		}
		if (r.command == NBD_CMD_DISC) {
			e->they_ended = true;
			continue;
		}
		fake_net.asked = r.command;
		fake_net.asked_offset = r.offset_bytes;
		fake_net.asked_bytes = r.length_bytes;
		proto_put_simple_reply(head, NBD_SUCCESS, r.cookie);
		if (e->server != FAKE_UNANSWERED)
			say(e, head, sizeof(head));
	}
}

static void serve(struct end *e)
{
	if (e->server == FAKE_SILENT || e->reset)
		return;
	if (!e->greeted) {
		greet(e);
		return;
	}
	if ((e->server == FAKE_HANGS_UP || e->server == FAKE_RESETS) &&
	    fake_net_random(3) == 0) {
		e->they_ended = true;
		e->reset = e->server == FAKE_RESETS;
		return;
	}
	if (e->agreed)
		answer_requests(e);
	else
		while (read_option(e))
			;
	if (e->we_ended && e->server != FAKE_NO_END)
		e->they_ended = true;
}

static void go_on(struct end *e)
{
	if (e->stage == CONNECTING && e->server != FAKE_UNREACHABLE)
		e->stage = e->server == FAKE_REFUSED ? FAILED : CONNECTED;
	else if (e->stage == CONNECTED)
		serve(e);
}

void fake_net_progress(void)
{
	for (int i = 0; i < SOCKETS; i++)
		if (ends[i].stage != CLOSED && fake_net_random(2))
			go_on(&ends[i]);
}

void fake_net_drop(int fd)
{
	end_of(fd)->they_ended = true;
	end_of(fd)->reset = fake_net_random(2);
}

void fake_net_drop_all(void)
{
	for (int i = 0; i < SOCKETS; i++) {
		ends[i].they_ended = true;
		ends[i].reset = fake_net_random(2);
	}
}

bool fake_net_ready(int fd, short events)
{
	const struct end *e = end_of(fd);
	bool in = e->out_bytes || e->they_ended || e->reset || e->cut;
	bool out = e->in_bytes < BUFFER_BYTES || e->we_ended || e->reset;

	if (e->stage != CONNECTED)
		return e->stage == FAILED;
	return (events & POLLIN && in) || (events & POLLOUT && out);
}

/* ---- link_io.h ---- */

uint64_t link_deadline(int timeout_ms)
{
	return clock_now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
}

int link_left_ms(uint64_t deadline_ns)
{
	uint64_t now_ns = clock_now_ns();

	return now_ns >= deadline_ns ?
		       0 : (int)((deadline_ns - now_ns + NS_PER_MS - 1) /
				 NS_PER_MS);
}

int link_wait(int fd, short events, uint64_t deadline_ns)
{
	(void)fd;
	(void)events;
	fake_net_progress();
	if (clock_now_ns() < deadline_ns)
		fake_clock_advance_us(1000);
	return 0;
}

bool link_is_gone(int error)
{
	return error == ECONNRESET || error == EPIPE;
}

int link_socket(int family)
{
	if (fake_net.no_sockets)
		return -EMFILE;
	for (int i = 0; i < SOCKETS; i++) {
		if (ends[i].stage != CLOSED)
			continue;
		ends[i] = (struct end){ .stage = NEW, .family = family };
		fake_net.made++;
		if (++fake_net.open > fake_net.open_max)
			fake_net.open_max = fake_net.open;
		return FD_FIRST + i;
	}
	return -EMFILE;
}

void link_close(int fd)
{
	struct end *e = end_of(fd);

	if (e->stage != CLOSED)
		fake_net.open--;
	e->stage = CLOSED;
}

static enum fake_server server_at(const struct sockaddr_storage *sa)
{
	uint32_t at = ntohs(((const struct sockaddr_in *)sa)->sin_port) -
		      (uint32_t)NBD_PORT;

	return at ? fake_net.others[(at - 1) % FAKE_OTHERS] : fake_net.server;
}

int link_begin_connect(int fd, const struct sockaddr_storage *sa,
		       socklen_t bytes)
{
	struct end *e = end_of(fd);

	(void)bytes;
	if (e->stage != NEW)
		return -EISCONN;
	if (server_at(sa) == FAKE_BUSY)
		return -EAGAIN;
	*e = (struct end){ .stage = CONNECTING,
			   .family = e->family,
			   .server = server_at(sa) };
	return -EINPROGRESS;
}

int link_connect_result(int fd)
{
	switch (end_of(fd)->stage) {
	case CONNECTED:
		return 0;
	case FAILED:
		return -ECONNREFUSED;
	default:
		return -EINPROGRESS;
	}
}

int link_end_connect(int fd)
{
	end_of(fd);
	return 0;
}

void link_set_patience(int fd, uint32_t timeout_ms)
{
	fake_net.timeout_ms = timeout_ms;
	end_of(fd);
}

int link_disconnect(int fd)
{
	struct end *e = end_of(fd);

	*e = (struct end){ .stage = NEW, .family = e->family };
	return 0;
}

ssize_t link_send(int fd, const void *from, size_t bytes)
{
	struct end *e = end_of(fd);
	size_t room = BUFFER_BYTES - e->in_bytes;

	if (e->stage != CONNECTED || e->we_ended || e->reset)
		return -EPIPE;
	if (fake_net_random(4) == 0 || room == 0)
		return -EAGAIN;
	bytes = 1 + fake_net_random((uint32_t)(bytes < room ? bytes : room));
	memcpy(e->in + e->in_bytes, from, bytes);
	e->in_bytes += bytes;
	return (ssize_t)bytes;
}

ssize_t link_peek(int fd, void *to, size_t bytes)
{
	struct end *e = end_of(fd);

	if (e->stage != CONNECTED)
		return -ENOTCONN;
	if (e->cut)
		return 0;
	if (e->reset)
		return -ECONNRESET;
	if (e->out_bytes == 0)
		return e->they_ended ? 0 : -EAGAIN;
	if (bytes > e->out_bytes)
		bytes = e->out_bytes;
	bytes = 1 + fake_net_random((uint32_t)bytes);
	memcpy(to, e->out, bytes);
	return (ssize_t)bytes;
}

ssize_t link_receive(int fd, void *to, size_t bytes)
{
	struct end *e = end_of(fd);
	ssize_t n = link_peek(fd, to, bytes);

	if (n > 0) {
		memmove(e->out, e->out + n, e->out_bytes - (size_t)n);
		e->out_bytes -= (size_t)n;
	}
	return n;
}

void link_shutdown(int fd, int how)
{
	struct end *e = end_of(fd);

	e->we_ended = true;
	e->cut |= how == SHUT_RDWR;
}

int link_queued(int fd)
{
	end_of(fd);
	return fake_net.queued;
}

bool link_is_unreachable(int fd, uint32_t ms)
{
	end_of(fd);
	return fake_net.unacknowledged_ms >= ms;
}

int link_family(int fd)
{
	return end_of(fd)->family;
}

/* ---- link_tls.h: nothing is encrypted, but there is a handshake ---- */

void link_tls_init(struct link_tls *l, struct tls *tls)
{
	memset(l, 0, sizeof(*l));
	l->tls = tls;
	l->fd = -1;
}

int link_tls_step(struct link_tls *l, int fd, struct err *err)
{
	if (l->up)
		fake_net.faults++;
	l->fd = fd;
	end_of(fd);
	if (fake_net.tls_fails)
		return err_set(err, X_TLS, EPROTO, "it does not please");
	if (fake_net_random(3))
		return -EAGAIN;
	l->up = true;
	return 0;
}

short link_tls_events(const struct link_tls *l)
{
	(void)l;
	return POLLIN | POLLOUT;
}

ssize_t link_tls_send(struct link_tls *l, const void *from, size_t bytes)
{
	return link_send(l->fd, from, bytes);
}

ssize_t link_tls_recv(struct link_tls *l, void *to, size_t bytes)
{
	ssize_t n = link_receive(l->fd, to, bytes);

	return n == -ECONNRESET ? 0 : n;
}

bool link_tls_pending(const struct link_tls *l)
{
	(void)l;
	return false;
}

int link_tls_keys(struct link_tls *l, struct tls_keys *ret_send,
		  struct tls_keys *ret_receive, struct err *err)
{
	(void)l;
	(void)err;
	*ret_send = (struct tls_keys){ .tls13 = true };
	*ret_receive = *ret_send;
	return 0;
}

void link_tls_end(struct link_tls *l)
{
	l->up = false;
	l->fd = -1;
}
