/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The program that sheds: BPF for the ingress of a network interface, composed
 * here instruction by instruction, so that no compiler and no loader is needed.
 *
 * Pure; owns nothing.
 */
#ifndef NBD_SHED_PROG_H
#define NBD_SHED_PROG_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "include/bounds.h"

#define SHED_SERVERS_MAX 32u

/* Shared with the program: the one element of its map. */
struct shed_values {
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; sheds before it. 0: never */
	uint64_t packets;     /* dropped, by all interfaces */
	uint64_t bytes;
};

/* What is never dropped, besides what the program always lets pass. */
struct shed_exempt {
	uint32_t server_count;
	struct sockaddr_storage servers[SHED_SERVERS_MAX];
	uint32_t port_count;
	uint16_t ports[SHED_PORTS_MAX]; /* of this host or the other one */
};

#define SHED_INSNS_MAX 1024u
#define SHED_LABELS_MAX 64u

struct shed_prog {
	uint32_t count;
	struct bpf_insn insn[SHED_INSNS_MAX];
	uint32_t label_count;
	uint32_t label_at[SHED_LABELS_MAX];
};

/*
 * map_fd: an array of one struct shed_values. The program is complete for any
 * struct shed_exempt within its bounds.
 */
void shed_prog_build(struct shed_prog *p, const struct shed_exempt *exempt,
		     int map_fd);

#endif
