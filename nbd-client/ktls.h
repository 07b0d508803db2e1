/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Records made by the kernel: a TCP socket that takes and gives plain bytes
 * (Documentation/networking/tls.rst). Control thread.
 */
#ifndef NBD_KTLS_H
#define NBD_KTLS_H

#include <stdbool.h>

#include "common/tls_record.h"

/*
 * Whether the kernel makes records at all; may load the module, once and for
 * all, for which memory must be plentiful. 0 or -errno.
 */
int ktls_probe(void);

/*
 * 0; -EPROTO: one direction is encrypted now and the other is not, so that the
 * socket is of no use; or another -errno: the kernel cannot, the socket is as
 * good for records of ours as before. It can no longer be reset by
 * connect(AF_UNSPEC) in any case.
 */
int ktls_start(int fd, const struct tls_keys *send,
	       const struct tls_keys *receive);

/*
 * Whether the peer has closed its end, where recv(2) does not get there, because a
 * record comes before that is no data, or cannot be decrypted.
 */
bool ktls_has_ended(int fd);

/*
 * What is wrong with the records from the peer when a receive has failed with
 * this errno, in words, a literal; NULL: nothing. Takes one off the socket.
 */
const char *ktls_why(int fd, int error);

#endif
