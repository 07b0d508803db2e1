// SPDX-License-Identifier: GPL-2.0-or-later
/* The ethtool ioctl. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>

#include "nbd-client/ethtool.h"

int ethtool_ring_buffers(const char *interface, uint32_t *ret_buffers)
{
	struct ethtool_ringparam ring = { .cmd = ETHTOOL_GRINGPARAM };
	struct ifreq request = { .ifr_data = (char *)&ring };
	size_t length = strlen(interface);
	int fd, rc = 0;

	if (length >= sizeof(request.ifr_name))
		return -EINVAL;
	memcpy(request.ifr_name, interface, length + 1);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, SIOCETHTOOL, &request) < 0)
		rc = -errno;
	else if (!ring.rx_pending)
		rc = -ENODATA;
	close(fd);
	if (!rc)
		*ret_buffers = ring.rx_pending;
	return rc;
}
