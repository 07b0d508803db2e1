/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Records made by the kernel: a TCP socket that takes and gives plain bytes
 * (Documentation/networking/tls.rst). Control thread.
 */
#ifndef NBD_KTLS_H
#define NBD_KTLS_H

#include "common/tls_record.h"

/*
 * 0; -EPROTO: one direction is encrypted now and the other is not, so that the
 * socket is of no use; or another -errno: the kernel cannot, the socket is as
 * good for records of ours as before. It can no longer be reset by
 * connect(AF_UNSPEC) in any case.
 */
int ktls_start(int fd, const struct tls_keys *send,
	       const struct tls_keys *receive);

#endif
