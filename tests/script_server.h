/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts nbd-script-server (tests/server/) with a list of behaviours on a port
 * of its own choice on the loopback interface; stops exactly that process
 * again.  $NBD_SCRIPT_SERVER names the program, else it is looked for in
 * server/ beside the test.
 */
#ifndef NBD_TEST_SCRIPT_SERVER_H
#define NBD_TEST_SCRIPT_SERVER_H

#include <stdint.h>
#include <sys/types.h>

struct script_server {
	pid_t pid;
	uint16_t port;
	char uri[64];
};

/*
 * `arguments` are words separated by spaces, options and behaviours:
 * "-s 65536 no-structured close-after=5".  Fails the test if it cannot start.
 */
void script_server_start(struct script_server *s, const char *arguments);
void script_server_stop(struct script_server *s);

#endif
