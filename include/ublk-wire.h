/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What travels between a ublk server and the kernel: commands to
 * /dev/ublk-control and /dev/ublkcN, and the descriptors of requests.
 *
 * Owns: numbers and shapes only. After Linux 6.12's
 * include/uapi/linux/ublk_cmd.h, because the header that comes with Linux 6.1
 * lacks the opcodes encoded as ioctl numbers, without which newer kernels do not
 * listen. Everything is in host byte order. Of what came after 6.12 only
 * UPDATE_SIZE (6.16) is used; other feature bits are here to be shown.
 */
#ifndef UBLK_WIRE_H
#define UBLK_WIRE_H

#include <assert.h>
#include <errno.h>
#include <linux/ioctl.h>
#include <stddef.h>
#include <stdint.h>

/* ---- to /dev/ublk-control, in the second half of a 128-byte entry ---- */

struct ublk_ctrl_cmd {
	uint32_t dev_id;
	uint16_t queue_id; /* UINT16_MAX: of no queue */
	uint16_t len;      /* of the buffer at addr, in or out */
	uint64_t addr;
	/* START_DEV: the server's process; UPDATE_SIZE: sectors; a queue's number */
	uint64_t data;
	uint16_t dev_path_len;
	uint16_t pad;
	uint32_t reserved;
};
static_assert(sizeof(struct ublk_ctrl_cmd) == 32, "as in Linux");

#define UBLK_U_CMD_GET_QUEUE_AFFINITY _IOR('u', 0x01, struct ublk_ctrl_cmd)
#define UBLK_U_CMD_GET_DEV_INFO _IOR('u', 0x02, struct ublk_ctrl_cmd)
#define UBLK_U_CMD_ADD_DEV      _IOWR('u', 0x04, struct ublk_ctrl_cmd)
#define UBLK_U_CMD_DEL_DEV      _IOWR('u', 0x05, struct ublk_ctrl_cmd)
#define UBLK_U_CMD_START_DEV    _IOWR('u', 0x06, struct ublk_ctrl_cmd)
#define UBLK_U_CMD_STOP_DEV     _IOWR('u', 0x07, struct ublk_ctrl_cmd)
#define UBLK_U_CMD_SET_PARAMS   _IOWR('u', 0x08, struct ublk_ctrl_cmd)
#define UBLK_U_CMD_START_USER_RECOVERY _IOWR('u', 0x10, struct ublk_ctrl_cmd)
#define UBLK_U_CMD_END_USER_RECOVERY _IOWR('u', 0x11, struct ublk_ctrl_cmd)
#define UBLK_U_CMD_UPDATE_SIZE  _IOWR('u', 0x15, struct ublk_ctrl_cmd)
#define UBLK_U_CMD_GET_FEATURES _IOR('u', 0x13, struct ublk_ctrl_cmd)

#define UBLK_F_SUPPORT_ZERO_COPY     (1ull << 0)
#define UBLK_F_USER_RECOVERY         (1ull << 3)
#define UBLK_F_USER_RECOVERY_REISSUE (1ull << 4)
#define UBLK_F_CMD_IOCTL_ENCODE      (1ull << 6)
#define UBLK_F_USER_COPY             (1ull << 7)
#define UBLK_F_UPDATE_SIZE           (1ull << 10)
#define UBLK_F_AUTO_BUF_REG          (1ull << 11)
#define UBLK_F_QUIESCE               (1ull << 12)

/* Of struct ublk_dev_info. */
#define UBLK_S_DEV_DEAD     0u /* not started yet, or stopped */
#define UBLK_S_DEV_QUIESCED 2u /* its server is gone; another may come */

struct ublk_dev_info {
	uint16_t nr_hw_queues;
	uint16_t queue_depth;
	uint16_t state;
	uint16_t pad0;
	uint32_t max_io_buf_bytes;
	uint32_t dev_id; /* UINT32_MAX: any */
	int32_t ublksrv_pid;
	uint32_t pad1;
	uint64_t flags; /* UBLK_F_* */
	uint64_t ublksrv_flags;
	uint32_t owner_uid;
	uint32_t owner_gid;
	uint64_t reserved[2];
};
static_assert(sizeof(struct ublk_dev_info) == 64, "as in Linux");

#define UBLK_ATTR_READ_ONLY      (1u << 0)
#define UBLK_ATTR_ROTATIONAL     (1u << 1)
#define UBLK_ATTR_VOLATILE_CACHE (1u << 2)
#define UBLK_ATTR_FUA            (1u << 3)

struct ublk_param_basic {
	uint32_t attrs;
	uint8_t logical_bs_shift;
	uint8_t physical_bs_shift;
	uint8_t io_opt_shift;
	uint8_t io_min_shift;
	uint32_t max_sectors; /* sectors are of 512 bytes throughout */
	uint32_t chunk_sectors;
	uint64_t dev_sectors;
	uint64_t virt_boundary_mask;
};
static_assert(sizeof(struct ublk_param_basic) == 32, "as in Linux");

struct ublk_param_discard {
	uint32_t discard_alignment;
	uint32_t discard_granularity;
	uint32_t max_discard_sectors;
	uint32_t max_write_zeroes_sectors;
	uint16_t max_discard_segments;
	uint16_t reserved0;
};
static_assert(sizeof(struct ublk_param_discard) == 20, "as in Linux");

#define UBLK_PARAM_TYPE_BASIC   (1u << 0)
#define UBLK_PARAM_TYPE_DISCARD (1u << 1)

/* The head of it; the kernel goes by len. */
struct ublk_params {
	uint32_t len;
	uint32_t types;
	struct ublk_param_basic basic;
	struct ublk_param_discard discard;
};
static_assert(offsetof(struct ublk_params, discard) == 40, "as in Linux");

/* ---- to /dev/ublkcN, in an ordinary entry ---- */

struct ublk_io_cmd {
	uint16_t q_id;
	uint16_t tag;
	int32_t result; /* of a commit: bytes, or -errno */
	uint64_t addr;  /* the tag's buffer */
};
static_assert(sizeof(struct ublk_io_cmd) == 16, "as in Linux");

#define UBLK_U_IO_FETCH_REQ            _IOWR('u', 0x20, struct ublk_io_cmd)
#define UBLK_U_IO_COMMIT_AND_FETCH_REQ _IOWR('u', 0x21, struct ublk_io_cmd)

/* How such a command ends; anything else is an error. */
#define UBLK_IO_RES_OK    0
#define UBLK_IO_RES_ABORT (-ENODEV)

/*
 * ---- descriptors, mapped from /dev/ublkcN: for each queue an array, by tag ----
 */

/* From one queue's to the next one's, in the file: the deepest queue's bytes. */
#define UBLK_DESCS_STRIDE (4096u * sizeof(struct ublk_io_desc))

struct ublk_io_desc {
	uint32_t op_flags; /* operation in the lowest 8 bits */
	uint32_t nr_sectors;
	uint64_t start_sector;
	uint64_t addr;
};
static_assert(sizeof(struct ublk_io_desc) == 24, "as in Linux");

#define UBLK_IO_OP_READ         0u
#define UBLK_IO_OP_WRITE        1u
#define UBLK_IO_OP_FLUSH        2u
#define UBLK_IO_OP_DISCARD      3u
#define UBLK_IO_OP_WRITE_ZEROES 5u

#define UBLK_IO_F_FUA     (1u << 13)
#define UBLK_IO_F_NOUNMAP (1u << 15)

#endif
