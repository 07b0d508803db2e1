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
 * As measured: some 2.1 MiB hold OpenSSL itself and 140 authorities of the
 * system, and a handshake takes 0.3 MiB more; the rest is margin for longer
 * lists and chains. See tests/test-link_tls.c, which measures it again.
 */
#define TLS_MEMORY_BYTES (6u * MIB)

/*
 * Once in a process, before anything else of OpenSSL, on the thread that will
 * use it. Again: nothing happens. 0 or -errno.
 */
int tls_memory_open(struct err *err);

/* How it is used; NULL before tls_memory_open(). */
const struct arena *tls_memory_arena(void);

#endif
