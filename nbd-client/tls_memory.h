/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory for OpenSSL in a process that serves a device: locked, of a fixed
 * size, there before it is needed. The C library's heap is not used.
 *
 * Control thread: all handshakes run there. A data thread that would ask for
 * memory gets none (common/arena.h).
 */
#ifndef NBD_TLS_MEMORY_H
#define NBD_TLS_MEMORY_H

#include "common/arena.h"
#include "common/err.h"
#include "include/bounds.h"

/*
 * As measured with OpenSSL 3.0: 0.5 MiB hold what it keeps for itself, 1 MiB
 * more the 140 authorities of a system, and a handshake takes 0.15 MiB, until it
 * is over: each queue can be in one for its link and in another for a probe.
 * tests/test-link_tls.c measures it again.
 */
#define TLS_MEMORY_BYTES (4u * MIB)

/*
 * Once in a process, before anything else of OpenSSL, on the thread that will
 * use it. Again: nothing happens. 0 or -errno.
 */
int tls_memory_open(struct err *err);

/* How it is used; NULL before tls_memory_open(). */
const struct arena *tls_memory_arena(void);

#endif
