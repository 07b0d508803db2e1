/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts one of the servers that people run, on a Unix socket in a directory of
 * its own, serving one zero-filled disk; stops exactly that process again.
 */
#ifndef REAL_SERVER_H
#define REAL_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct real_server {
	pid_t pid;
	const struct real_server_kind *kind;
	char dir[64];
	char disk[96];
	char socket[96];
	char config[96];
	char pid_file[96];
	char uri[160];
};

struct real_server_kind {
	const char *program;
	/* Fills in argv; the last one is NULL. */
	void (*command)(struct real_server *s, const char *argv[16]);
	const char *export_name;
	const char *scheme; /* NULL: "nbd+unix" */
	bool forks; /* goes to the background by itself */
};

extern const struct real_server_kind real_server_nbdkit;
extern const struct real_server_kind real_server_nbdkit_simple;
extern const struct real_server_kind real_server_nbdkit_single; /* no multi-conn */
extern const struct real_server_kind real_server_nbdkit_failing; /* with EIO */
extern const struct real_server_kind real_server_qemu_nbd;
extern const struct real_server_kind real_server_nbd_server;

/* With test_certs(); none of them talks to clients without TLS. */
extern const struct real_server_kind real_server_nbdkit_x509;
extern const struct real_server_kind real_server_nbdkit_psk;
extern const struct real_server_kind real_server_qemu_nbd_x509;
extern const struct real_server_kind real_server_qemu_nbd_psk;
extern const struct real_server_kind real_server_qemu_nbd_tls12;
extern const struct real_server_kind real_server_qemu_nbd_tls12_chacha;
extern const struct real_server_kind real_server_nbd_server_x509;

/* False if the program is not installed; fails the test if it does not start. */
bool real_server_start(struct real_server *s,
		       const struct real_server_kind *kind,
		       uint64_t disk_bytes);

/* SIGKILL and start again on the same disk and socket. */
void real_server_restart(struct real_server *s);

void real_server_stop(struct real_server *s);

#endif
