/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connection's machine on the fake network. */
#ifndef CONN_RIG_H
#define CONN_RIG_H

#include "nbd-client/patience.h"
#include "tests/fake_clock.h"
#include "tests/fake_net.h"

#define RIG_HANDSHAKE_MS 1000u
#define RIG_REQUEST_MS 3000u

extern struct conn rig_conn;
extern struct patience rig_patience; /* with that */

/* prepared: with ready sockets, as a swap device has. */
void rig_open(bool tls, bool prepared);

/* As many more servers as fake_net has; they are good. */
void rig_add_others(void);

/* The same over UNIX sockets, of which none is ready. */
void rig_open_unix(bool tls);

/* Nothing may be left: no socket open, none used after its end. */
void rig_close(void);

/* Goes on in time until `state`, by the owner's rules; fails after 600 s. */
void rig_until(enum conn_state state);

/* A socket that is used by nobody yet, and the connection's for nobody. */
int rig_take(void);
void rig_give(void);

/* What must hold in every state. */
void rig_check(void);

#endif
