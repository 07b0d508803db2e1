// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * sink: the stranger's end of a flood: sockets that nobody reads.
 *
 *	sink PORT RCVBUF_KB
 *
 * A UDP socket and a TCP listener on PORT, both with a large receive buffer.
 * Connections are accepted and never read, so what is sent to them stays in the
 * kernel. Prints "ready", then stays until it is killed.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static int bound(int type, int port, int buffer_bytes)
{
	struct sockaddr_in any = { .sin_family = AF_INET,
				   .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, type, 0);

	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes,
		       sizeof(buffer_bytes)) < 0 ||
	    bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0) {
		perror("sink");
		exit(1);
	}
	return fd;
}

int main(int argc, char **argv)
{
	int port, buffer_bytes, listener;

	if (argc != 3)
		return 2;
	port = atoi(argv[1]);
	buffer_bytes = atoi(argv[2]) * 1024;
	bound(SOCK_DGRAM, port, buffer_bytes);
	listener = bound(SOCK_STREAM, port, buffer_bytes);
	/* It must accept while memory is gone; what it holds is the kernel's. */
	mlockall(MCL_CURRENT | MCL_FUTURE);
	if (listen(listener, 128) < 0) {
		perror("sink: listen");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;)
		accept(listener, NULL, NULL);
}
