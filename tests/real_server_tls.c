// SPDX-License-Identifier: GPL-2.0-or-later
/* Real servers that insist on TLS. See real_server.h and test_certs.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/real_server.h"
#include "tests/test_certs.h"

static char option[512];

static void put(const char *argv[16], const char *const words[])
{
	size_t n = 0;

	for (; words[n]; n++)
		argv[n] = words[n];
	argv[n] = NULL;
}

static void nbdkit(struct real_server *s, const char *argv[16],
		   const char *kind, const char *file)
{
	snprintf(option, sizeof(option), "--tls-%s=%s", kind,
		 test_certs(file));
	put(argv, (const char *const[]){ "nbdkit", "-f", "--tls=require",
					 option, "-t", "16", "-U", s->socket,
					 "file", s->disk, NULL });
}

static void nbdkit_x509_command(struct real_server *s, const char *argv[16])
{
	nbdkit(s, argv, "certificates", "server");
}

static void nbdkit_psk_command(struct real_server *s, const char *argv[16])
{
	nbdkit(s, argv, "psk", "psk/keys.psk");
}

static void qemu_nbd(struct real_server *s, const char *argv[16],
		     const char *kind, const char *file, const char *priority)
{
	snprintf(option, sizeof(option),
		 "tls-creds-%s,id=tls0,endpoint=server,dir=%s%s%s", kind,
		 test_certs(file), *priority ? ",priority=" : "", priority);
	put(argv, (const char *const[]){ "qemu-nbd", "-t", "-f", "raw", "-k",
					 s->socket, "-e", "4", "-x", "disk",
					 "--object", option, "--tls-creds",
					 "tls0", s->disk, NULL });
}

static void qemu_nbd_x509_command(struct real_server *s, const char *argv[16])
{
	qemu_nbd(s, argv, "x509", "server", "");
}

static void qemu_nbd_psk_command(struct real_server *s, const char *argv[16])
{
	qemu_nbd(s, argv, "psk", "psk", "");
}

static void qemu_nbd_tls12_command(struct real_server *s,
				   const char *argv[16])
{
	qemu_nbd(s, argv, "x509", "server",
		 "NORMAL:-VERS-ALL:+VERS-TLS1.2");
}

static void qemu_nbd_tls12_chacha_command(struct real_server *s,
					  const char *argv[16])
{
	qemu_nbd(s, argv, "x509", "server",
		 "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+CHACHA20-POLY1305");
}

static void nbd_server_command(struct real_server *s, const char *argv[16])
{
	FILE *config = fopen(s->config, "w");

	assert_non_null(config);
	fprintf(config,
		"[generic]\n\tunixsock = %s\n\tallowlist = true\n"
		"\tforce_tls = true\n\tcertfile = %s\n",
		s->socket, test_certs("server/server-cert.pem"));
	fprintf(config, "\tkeyfile = %s\n",
		test_certs("server/server-key.pem"));
	fprintf(config,
		"\tcacertfile = %s\n"
		"[disk]\n\texportname = %s\n\tflush = true\n\tfua = true\n",
		test_certs("server/ca-cert.pem"), s->disk);
	fclose(config);
	put(argv, (const char *const[]){ "nbd-server", "-C", s->config, "-p",
					 s->pid_file, NULL });
}

#define KIND(name_, program_, export_, forks_)                                 \
	const struct real_server_kind real_server_##name_ = {                  \
		.program = program_,                                           \
		.command = name_##_command,                                    \
		.export_name = export_,                                        \
		.scheme = "nbds+unix",                                         \
		.forks = forks_,                                               \
	}
#define nbd_server_x509_command nbd_server_command
KIND(nbdkit_x509, "nbdkit", "", false);
KIND(nbdkit_psk, "nbdkit", "", false);
KIND(qemu_nbd_x509, "qemu-nbd", "disk", false);
KIND(qemu_nbd_psk, "qemu-nbd", "disk", false);
KIND(qemu_nbd_tls12, "qemu-nbd", "disk", false);
KIND(qemu_nbd_tls12_chacha, "qemu-nbd", "disk", false);
KIND(nbd_server_x509, "nbd-server", "disk", true);
