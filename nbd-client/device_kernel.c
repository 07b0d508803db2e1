// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A device whose requests the kernel carries itself, between attach and detach.
 * Control thread.
 *
 * We keep a descriptor of the socket that the driver uses. What the driver gives
 * up, for whatever reason, it shuts down (nbd_mark_nsock_dead), and that is seen
 * on the descriptor at once. The message that it sends besides, NBD_CMD_LINK_DEAD,
 * is not waited for: it is made by a kworker that needs memory like anybody
 * (nbd_dead_link_work), and so comes late or never just when it matters.
 */
#include <errno.h>
#include <linux/bpf.h> /* netinet/tcp.h and linux/tcp.h exclude each other */
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/log.h"
#include "nbd-client/device_front.h"
#include "nbd-client/device_kernel.h"
#include "nbd-client/device_serve.h"
#include "nbd-client/donor.h"
#include "nbd-client/nbd_sysfs.h"

/* What TCP knows of it; all zero for another socket. */
static struct tcp_info tcp_info(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t bytes = sizeof(info);

	(void)getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes);
	return info;
}

/*
 * Whether the end that is seen is the server's, of whose work on earlier requests
 * it is the proof. The driver ends both directions, a server one; once both
 * are ended TCP still knows for a moment who did.
 */
static bool server_has_ended(int fd, short events)
{
	uint8_t state = tcp_info(fd).tcpi_state;

	return (events & (POLLRDHUP | POLLHUP)) == POLLRDHUP || state == BPF_TCP_CLOSE_WAIT ||
	       state == BPF_TCP_LAST_ACK || state == BPF_TCP_CLOSING;
}

/* ---- to the driver ---- */

/* It is offered again until this is seen. */
static void look_whether_used(struct device *d)
{
	if (tcp_info(d->conn.fd).tcpi_bytes_sent > d->kernel.offered_bytes)
		d->kernel.used = true;
}

static void begin_watch(struct device *d)
{
	d->kernel.ended = false;
	d->kernel.used = false;
	d->kernel.offered_bytes = tcp_info(d->conn.fd).tcpi_bytes_sent;
}

/* TLS stays on a socket, so that each of those can serve one link only. */
static void tell_spares(struct device *d)
{
	if (d->conn.sockets.family == AF_UNSPEC ||
	    sockets_is_ready(&d->conn.sockets, d->conn.fd))
		return;
	stats_guarantee_replace(d->rows, DONOR_ROW, GUARANTEE_DEGRADED,
				"used up by earlier links; since then only after the handshake");
}

void device_kernel_taken(struct device *d)
{
	bool kept = sockets_is_ready(&d->conn.sockets, d->conn.fd);

	device_show_tls(d);
	begin_watch(d);
	d->shared->link_fd = kept ? d->conn.fd : -1;
	if (d->options->swap != SWAP_NO)
		tell_spares(d);
	conn_take(&d->conn);
}

static int offer(struct device *d)
{
	struct err err = { 0 };
	pid_t pid;
	int ret = genl_nbd_reconfigure(&d->genl, d->index, &d->conn.fd, 1,
				       device_nbd_backend(d), &err);

	if (ret == 0)
		return 0;
	if (nbd_sysfs_pid(d->index, &pid) == -ENOENT)
		d->front_gone = true;
	else
		log_say(LOG_LEVEL_ERR, "%s: %s", d->path, err.text);
	return ret;
}

int device_kernel_link_up(struct device *d)
{
	int ret = offer(d);

	if (ret < 0)
		conn_close(&d->conn);
	else
		device_kernel_taken(d);
	return ret;
}

void device_kernel_inherit(struct device *d)
{
	if (d->shared->link_fd >= 0) {
		conn_adopt(&d->conn, d->shared->link_fd);
		begin_watch(d);
	} else if (d->conn.sockets.family != AF_UNSPEC) {
		conn_inherit(&d->conn);
	}
	/*
	 * Else the driver has a socket that died with its worker for us alone. A
	 * new connection waits until it can take that one's place.
	 */
}

/* ---- from the driver ---- */

static void lost(struct device *d)
{
	bool ended = d->kernel.ended;

	d->shared->link_fd = -1;
	device_link_lost(d, ended ? NULL : "the kernel has given it up, see dmesg",
			 ended ? 0 : EIO);
	conn_close(&d->conn);
}

/*
 * The server's end first, then the driver's, which still takes the replies that came
 * before: nobody but the driver may read until then.
 */
void device_kernel_pollfd(const struct device *d, struct pollfd *ret)
{
	if (d->conn.state == CONN_UP)
		*ret = (struct pollfd){
			.fd = d->conn.fd,
			.events = d->kernel.ended ? 0 : POLLRDHUP,
		};
}

void device_kernel_on_link(struct device *d, short events)
{
	d->kernel.ended |= server_has_ended(d->conn.fd, events);
	if (events & (POLLHUP | POLLERR))
		lost(d);
}

/* ---- now and then ---- */

#define SECTOR_BYTES 512u

/* Documentation/block/stat.rst: where requests and sectors are counted. */
static const struct {
	enum stats_op op;
	uint8_t requests, sectors;
} counted[] = {
	{ STATS_READ, 0, 2 },
	{ STATS_WRITE, 4, 6 },
	{ STATS_TRIM, 11, 13 },
	{ STATS_FLUSH, 15, DEVICE_KERNEL_COUNTS }, /* without sectors */
};

/* The kernel counts since it has the device, we since attach. */
static void count(struct device *d)
{
	uint64_t now[DEVICE_KERNEL_COUNTS + 1] = { 0 };
	struct stats_data *data = &d->page->data;
	const uint64_t *was = d->kernel.counts;
	char text[512], *at = text;

	if (blockdev_read(d->name, "stat", text, sizeof(text)) < 0)
		return;
	for (uint32_t i = 0; i < DEVICE_KERNEL_COUNTS; i++)
		now[i] = strtoull(at, &at, 10);
	for (uint32_t i = 0; d->kernel.counting &&
			     i < sizeof(counted) / sizeof(counted[0]); i++) {
		uint8_t r = counted[i].requests, s = counted[i].sectors;

		data->requests[counted[i].op] += now[r] - was[r];
		data->bytes[counted[i].op] += (now[s] - was[s]) * SECTOR_BYTES;
	}
	d->kernel.counting = true;
	memcpy(d->kernel.counts, now, sizeof(d->kernel.counts));
}

void device_kernel_tick(struct device *d)
{
	count(d);
	if (d->conn.state != CONN_UP || d->kernel.used)
		return;
	look_whether_used(d);
	if (d->kernel.used)
		return;
	if (d->kernel.ended)
		lost(d); /* it never was the driver's, who would end it too */
	else
		(void)offer(d);
}
