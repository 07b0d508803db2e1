/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a server still carries out requests: asked on a connection of its own,
 * by a process that has time to wait. A server that negotiates may have a disk
 * that hangs; so its first block is read.
 *
 * Control thread.
 */
#ifndef NBD_PROBE_H
#define NBD_PROBE_H

#include "nbd-client/conn.h"

/*
 * c: DOWN; its ready sockets are not used, they may be another process's. Waits
 * for conn_open() and then once more for c->handshake_ms. 0: it has answered;
 * or -errno, and the connection is down again.
 */
int probe_server(struct conn *c, struct err *err);

#endif
