// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * half: takes over a ublk device that nobody serves, and dies on the way.
 *
 *	half NUMBER DEPTH
 *
 * Begins the recovery of /dev/ublkb<NUMBER>, fetches all DEPTH requests of its first
 * queue and none of others; then it is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "include/ublk-wire.h"

static struct io_uring ring;
static uint8_t buffer[4096];

/* The old server's end takes the kernel a while. */
static int begin_recovery(uint32_t number)
{
	const struct ublk_ctrl_cmd command = { .dev_id = number,
					       .queue_id = UINT16_MAX };
	int fd = open("/dev/ublk-control", O_RDWR);
	struct io_uring_cqe *cqe;
	int ret = -EBUSY;

	if (fd < 0 || io_uring_queue_init(8, &ring, IORING_SETUP_SQE128) < 0)
		return -ENODEV;
	for (int tries = 0; tries < 2000 && ret == -EBUSY; tries++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
		sqe->cmd_op = UBLK_U_CMD_START_USER_RECOVERY;
		memcpy(sqe->cmd, &command, sizeof(command));
		io_uring_submit(&ring);
		io_uring_wait_cqe(&ring, &cqe);
		ret = cqe->res;
		io_uring_cqe_seen(&ring, cqe);
		usleep(5000);
	}
	io_uring_queue_exit(&ring);
	return ret;
}

static void fetch(int fd, uint32_t depth)
{
	for (uint32_t tag = 0; tag < depth; tag++) {
		const struct ublk_io_cmd command = {
			.tag = (uint16_t)tag,
			.addr = (uintptr_t)buffer,
		};
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
		sqe->cmd_op = UBLK_U_IO_FETCH_REQ;
		memcpy(sqe->cmd, &command, sizeof(command));
	}
	io_uring_submit(&ring);
}

int main(int argc, char **argv)
{
	uint32_t number, depth;
	char path[32];
	int fd, ret;

	if (argc != 3)
		return 2;
	number = (uint32_t)atoi(argv[1]);
	depth = (uint32_t)atoi(argv[2]);
	ret = begin_recovery(number);
	if (ret < 0) {
		fprintf(stderr, "half: recovery: %s\n", strerror(-ret));
		return 1;
	}
	snprintf(path, sizeof(path), "/dev/ublkc%u", number);
	fd = open(path, O_RDWR);
	if (fd < 0 || io_uring_queue_init(256, &ring, 0) < 0) {
		perror(path);
		return 1;
	}
	fetch(fd, depth);
	/* Fetched are those that have not been refused. */
	if (io_uring_cq_ready(&ring)) {
		fprintf(stderr, "half: %u refused\n", io_uring_cq_ready(&ring));
		return 1;
	}
	return 0;
}
