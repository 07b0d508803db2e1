/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between link_tls.c and its parts. For them only. */
#ifndef NBD_LINK_TLS_INSIDE_H
#define NBD_LINK_TLS_INSIDE_H

#include <openssl/ssl.h>

#include "nbd-client/link_tls.h"

/* Says in l->err why OpenSSL gave up, and what helps. */
void link_tls_explain(struct link_tls *l);

/* OpenSSL tells the secrets of TLS 1.3, a line each. */
void link_tls_on_secret(const SSL *ssl, const char *line);

#endif
