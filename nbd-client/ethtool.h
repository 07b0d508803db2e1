/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the driver of a network interface says about it. Control thread and
 * command line; owns nothing.
 */
#ifndef NBD_ETHTOOL_H
#define NBD_ETHTOOL_H

#include <stdint.h>

/*
 * Buffers in a receive ring of "eth0"; most drivers have one for each receive
 * queue. 0 or -errno; -EOPNOTSUPP is common.
 */
int ethtool_ring_buffers(const char *interface, uint32_t *ret_buffers);

#endif
