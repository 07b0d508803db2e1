/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The nbd driver's generic netlink family: connect, reconfigure, disconnect and
 * status of /dev/nbdN. libnl is known here and in shed_tc only.
 *
 * Owns one netlink socket and all memory that its calls need: after genl_open()
 * nothing here calls malloc. Calls block, so they are for the control thread
 * and the command line; one thread at a time per struct genl.
 */
#ifndef NBD_GENL_H
#define NBD_GENL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "include/bounds.h"

struct nl_msg;
struct nl_sock;

#define GENL_INDEX_ANY (-1)

/* More than one socket changes the driver's time-outs (nbd_xmit_timeout). */
#define GENL_SOCKETS_MAX 16u

/* The name under which a device's back end is kept by the kernel. */
#define GENL_BACKEND_BYTES 256u

/*
 * NBD_CFLAG_* of <linux/nbd.h>, which cannot be included beside nbd-wire.h.
 * DISCONNECT_ON_CLOSE is left out: a swap device must outlive its last close.
 */
#define GENL_DESTROY_ON_DISCONNECT (1u << 0)

/* Room for a request or answer: the largest has 16 sockets and a back end. */
#define GENL_MESSAGE_BYTES 4096u

struct genl {
	struct nl_sock *sock;
	struct nl_msg *message; /* the request being built; used again and again */
	int fd;                 /* of sock */
	int family;
	uint32_t sequence;      /* of the request last sent */
	uint8_t answer[2 * GENL_MESSAGE_BYTES];
};

/*
 * For a process that goes on with the socket of one that has died: throws away
 * the answers that nobody has read.
 */
void genl_drain(struct genl *genl);

struct nbd_connect {
	int32_t index; /* of /dev/nbdN, or GENL_INDEX_ANY */
	const int *fds;
	uint32_t fd_count; /* 1 … GENL_SOCKETS_MAX */
	uint64_t size_bytes;
	uint64_t block_bytes;  /* 512 … page size, power of two */
	uint64_t server_flags; /* NBD_FLAG_* of the export */
	uint64_t client_flags; /* GENL_DESTROY_ON_DISCONNECT or 0 */
	uint64_t timeout_s;    /* sent also when 0: else the last user's holds */
	uint64_t dead_conn_timeout_s;
	const char *backend;   /* NULL: none. RECONFIGURE must repeat it */
};

/*
 * X_KERNEL: no nbd family (module not loaded); X_PERMISSION.
 * 0 or -errno; nothing to close after a failure.
 */
int genl_open(struct genl *genl, struct err *err);
void genl_close(struct genl *genl);

/*
 * X_BUSY: the device is in use. X_PERMISSION. The kernel takes references of
 * its own to the sockets: the caller closes the kernel's ends afterwards.
 */
int genl_nbd_connect(struct genl *genl, const struct nbd_connect *params,
		     uint32_t *ret_index, struct err *err);

/*
 * Gives the device new sockets for dead ones. Sends socket and back end only:
 * a size would freeze the queue (nbd_genl_reconfigure). 0 does not mean that a socket
 * was taken: when none was dead the kernel drops the new one, and our end reads
 * an end of file.
 */
int genl_nbd_reconfigure(struct genl *genl, uint32_t index, const int *fds,
			 uint32_t fd_count, const char *backend,
			 struct err *err);

/*
 * Changes the size. Blocks while requests under way are answered, so not for who
 * answers them; the driver's lock is held for as long.
 */
int genl_nbd_resize(struct genl *genl, uint32_t index, uint64_t size_bytes,
		    const char *backend, struct err *err);

/* The back end's name for this URI; NULL: too long for the kernel to keep. */
static inline const char *genl_backend(const char uri[URI_TEXT_BYTES])
{
	return uri[GENL_BACKEND_BYTES - 1] ? NULL : uri;
}

/*
 * I/O in flight fails with EIO. Returns 0 also for a device that is not
 * connected; X_NOT_FOUND if there is no such device.
 */
int genl_nbd_disconnect(struct genl *genl, uint32_t index, struct err *err);

/*
 * Whether the device has a configuration, be its sockets alive or dead. A
 * device that does not exist is not connected.
 */
int genl_nbd_connected(struct genl *genl, uint32_t index, bool *ret_connected,
		       struct err *err);

#endif
