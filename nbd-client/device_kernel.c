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
#include "nbd-client/link_io.h"
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
static void look_whether_used(struct queue *q)
{
	if (tcp_info(q->conn.fd).tcpi_bytes_sent > q->kernel.offered_bytes)
		q->kernel.used = true;
}

static void begin_watch(struct queue *q)
{
	q->kernel.ended = false;
	q->kernel.used = false;
	q->kernel.offered_bytes = tcp_info(q->conn.fd).tcpi_bytes_sent;
}

/* TLS stays on a socket, so that each of those can serve one link only. */
static void tell_spares(struct queue *q)
{
	if (!endpoints_ready(q->conn.ends, q->conn.at) ||
	    sockets_is_ready(&q->conn.ends->sockets, q->conn.fd))
		return;
	stats_guarantee_replace(q->device->rows, DONOR_ROW, GUARANTEE_DEGRADED,
				"used up by earlier links; since then only after the handshake");
}

void device_kernel_taken(struct queue *q)
{
	bool kept = sockets_is_ready(&q->conn.ends->sockets, q->conn.fd);

	device_show_tls(q->device->page, &q->conn);
	begin_watch(q);
	q->device->shared->link_fd = kept ? q->conn.fd : -1;
	if (q->device->options->swap != SWAP_NO)
		tell_spares(q);
	conn_take(&q->conn);
	device_keep_server(q->device);
}

static int offer(struct queue *q)
{
	struct device *d = q->device;
	struct err err = { 0 };
	pid_t pid;
	int ret = genl_nbd_reconfigure(&d->genl, d->index, &q->conn.fd, 1,
				       device_nbd_backend(d), &err);

	if (ret == 0)
		return 0;
	if (nbd_sysfs_pid(d->index, &pid) == -ENOENT)
		q->front_gone = true;
	else
		log_say(LOG_LEVEL_ERR, "%s: %s", d->path, err.text);
	return ret;
}

int device_kernel_link_up(struct queue *q)
{
	int ret = offer(q);

	if (ret < 0)
		conn_close(&q->conn);
	else
		device_kernel_taken(q);
	return ret;
}

void device_kernel_inherit(struct queue *q)
{
	if (q->device->shared->link_fd >= 0) {
		conn_adopt(&q->conn, q->device->shared->link_fd);
		begin_watch(q);
	} else if (endpoints_ready(q->conn.ends, q->conn.at)) {
		conn_inherit(&q->conn);
	}
	/*
	 * Else the driver has a socket that died with its worker for us alone. A
	 * new connection waits until it can take that one's place.
	 */
}

/* ---- from the driver ---- */

static void lost(struct queue *q)
{
	bool ended = q->kernel.ended;

	q->device->shared->link_fd = -1;
	device_link_lost(q, ended ? NULL : "the kernel has given it up, see dmesg",
			 ended ? 0 : EIO);
	conn_close(&q->conn);
}

/*
 * The server's end first, then the driver's, which still takes the replies that came
 * before: nobody but the driver may read until then.
 */
void device_kernel_pollfd(const struct queue *q, struct pollfd *ret)
{
	if (q->conn.state == CONN_UP)
		*ret = (struct pollfd){
			.fd = q->conn.fd,
			.events = q->kernel.ended ? 0 : POLLRDHUP,
		};
}

void device_kernel_on_link(struct queue *q, short events)
{
	if (q->conn.state != CONN_UP)
		return;
	q->kernel.ended |= server_has_ended(q->conn.fd, events);
	if (events & (POLLHUP | POLLERR))
		lost(q);
}

void device_kernel_drop(struct queue *q)
{
	link_shutdown(q->conn.fd, SHUT_WR);
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
static void count(struct queue *q)
{
	uint64_t now[DEVICE_KERNEL_COUNTS + 1] = { 0 };
	struct stats_data *data = q->data;
	struct device_shared *shared = q->device->shared;
	const uint64_t *was = shared->counts;
	char text[512], *at = text;

	if (blockdev_read(q->device->name, "stat", text, sizeof(text)) < 0)
		return;
	for (uint32_t i = 0; i < DEVICE_KERNEL_COUNTS; i++)
		now[i] = strtoull(at, &at, 10);
	for (uint32_t i = 0; shared->counting &&
			     i < sizeof(counted) / sizeof(counted[0]); i++) {
		uint8_t r = counted[i].requests, s = counted[i].sectors;

		data->requests[counted[i].op] += now[r] - was[r];
		data->bytes[counted[i].op] += (now[s] - was[s]) * SECTOR_BYTES;
	}
	shared->counting = true;
	memcpy(shared->counts, now, sizeof(shared->counts));
}

void device_kernel_tick(struct queue *q)
{
	count(q);
	if (q->conn.state != CONN_UP || q->kernel.used)
		return;
	look_whether_used(q);
	if (q->kernel.used)
		return;
	if (q->kernel.ended)
		lost(q); /* it never was the driver's, who would end it too */
	else
		(void)offer(q);
}
