// SPDX-License-Identifier: GPL-2.0-or-later
/* The second connection, and who becomes the first. See standby.h. */
#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "nbd-client/standby.h"

void standby_init(struct standby *s, struct conn *active, uint32_t failback_ms)
{
	memset(s, 0, sizeof(*s));
	s->active = active;
	s->failback_ms = failback_ms;
	conn_init_beside(&s->conn, active);
}

void standby_fini(struct standby *s)
{
	if (s->active)
		conn_fini(&s->conn);
}

/* ---- the second connection ---- */

static bool is_trying(const struct conn *c)
{
	return c->state == CONN_CONNECTING || c->state == CONN_NEGOTIATING ||
	       c->state == CONN_TLS;
}

static bool is_wanted_elsewhere(const struct standby *s)
{
	return s->asked && s->wanted != s->active->at;
}

/* The server to wait at: the next one, unless there is one to go to. */
static uint32_t aim(const struct standby *s)
{
	if (is_wanted_elsewhere(s))
		return s->wanted;
	if (s->failback_ms && s->active->at != 0)
		return 0;
	if (s->conn.at != s->active->at)
		return s->conn.at;
	return endpoints_next(s->active->ends, s->conn.at);
}

static void dial(struct standby *s)
{
	struct conn *c = &s->conn;

	c->at = aim(s);
	/* What it must be, as far as that is known by now. */
	c->export = s->active->export;
	c->known = true;
	c->known_at = s->active->known_at;
	conn_hurry(c);
}

/* Milliseconds until it may dial; -1: that depends on something else. */
static int dial_due_ms(const struct standby *s, uint64_t now_ns)
{
	if (s->active->state != CONN_UP)
		return -1;
	if (is_wanted_elsewhere(s))
		return 0;
	return (s->plentiful || s->leave) && s->active->ends->count > 1 ?
		       conn_due_ms(&s->conn, now_ns) : -1;
}

static void step_second(struct standby *s)
{
	struct conn *c = &s->conn;
	bool astray = s->active->state == CONN_UP && c->at != aim(s);

	if (c->state == CONN_DOWN) {
		if (dial_due_ms(s, clock_now_ns()) == 0)
			dial(s);
		return;
	}
	/* An attempt takes what the active connection may need now. */
	if ((is_trying(c) && s->active->state != CONN_UP) ||
	    ((is_trying(c) || c->state == CONN_READY) && astray))
		conn_close(c);
	else
		conn_step(c);
}

/* ---- the active one ---- */

/* It goes to who waits, or to who is wanted, or its own way. */
static void step_active(struct standby *s)
{
	struct conn *a = s->active;

	if (a->state != CONN_DOWN) {
		if (a->state != CONN_READY)
			conn_step(a);
		return;
	}
	if (s->conn.state == CONN_READY &&
	    (!s->asked || s->conn.at == s->wanted) && conn_move(a, &s->conn))
		return;
	if (s->asked && !s->dialled) {
		s->dialled = true;
		a->at = s->wanted;
		conn_hurry(a);
		return;
	}
	conn_step(a);
}

void standby_step(struct standby *s)
{
	step_second(s);
	step_active(s);
	if (s->active->state != CONN_UP)
		s->dropping = false;
}

void standby_pollfd(const struct standby *s, struct pollfd *ret)
{
	conn_pollfd(&s->conn, ret);
}

int standby_due_ms(const struct standby *s, uint64_t now_ns)
{
	const struct conn *a = s->active;

	if (a->state == CONN_DOWN &&
	    (s->conn.state == CONN_READY || (s->asked && !s->dialled)))
		return 0;
	if (s->conn.state == CONN_DOWN)
		return dial_due_ms(s, now_ns);
	return conn_due_ms(&s->conn, now_ns);
}

/* ---- giving a good link up ---- */

static const char *why_other(const struct standby *s, uint64_t now_ns)
{
	const struct conn *c = &s->conn;

	if (c->state != CONN_READY)
		return NULL;
	if (s->asked)
		return c->at == s->wanted ? "another server is wanted" : NULL;
	if (s->leave)
		return "the server does not answer, and another is ready";
	if (s->failback_ms && c->at == 0 && s->active->at != 0 &&
	    now_ns - c->up_since_ns >= s->failback_ms * NS_PER_MS)
		return "the preferred server is back";
	return NULL;
}

const char *standby_wants_drop(struct standby *s, uint64_t now_ns)
{
	const struct conn *a = s->active;
	const char *why = why_other(s, now_ns);

	if (a->state != CONN_UP || s->dropping)
		return NULL;
	if (s->asked && s->wanted == a->at && a->up_since_ns < s->asked_ns)
		why = "it is to be made anew";
	s->dropping = why != NULL;
	return why;
}

/* ---- commands ---- */

void standby_ask(struct standby *s, uint32_t at)
{
	CHECK(!s->asked && at < s->active->ends->count);
	s->asked = true;
	s->wanted = at;
	s->dialled = false;
	s->asked_ns = clock_now_ns();
	s->conn.failed = 0;
	if (is_trying(s->active))
		conn_close(s->active);
}

static enum standby_outcome end(struct standby *s, const struct conn *failed)
{
	s->asked = false;
	if (!failed)
		return STANDBY_DONE;
	s->err = failed->err;
	return STANDBY_FAILED;
}

enum standby_outcome standby_outcome(struct standby *s)
{
	const struct conn *a = s->active;

	if (!s->asked)
		return STANDBY_NONE;
	if (a->state == CONN_UP && a->at == s->wanted &&
	    a->up_since_ns >= s->asked_ns)
		return end(s, NULL);
	if (s->dialled && a->state == CONN_DOWN && a->failed)
		return end(s, a);
	if (s->conn.failed && is_wanted_elsewhere(s) &&
	    s->conn.tried == s->wanted)
		return end(s, &s->conn);
	return STANDBY_NONE;
}
