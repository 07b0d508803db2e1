// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * flood: strangers' traffic, sent from the host side to the guest.
 *
 *	flood udp ADDR PORT PACKETS_PER_S	to a socket that nobody reads
 *	flood tcp ADDR PORT CONNECTIONS		each full of what nobody reads
 *	flood syn ADDR PORT PACKETS_PER_S	from addresses that do not exist
 *	flood frag ADDR PORT PACKETS_PER_S	first fragments, never completed
 *
 * Runs until it is killed. The rates are bounded, because all the guests' time
 * is the host's time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 256
#define TICK_MS 10

static struct sockaddr_in target;
static uint8_t payload[1400];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint16_t checksum(const void *data, size_t bytes, uint32_t sum)
{
	const uint8_t *p = data;

	for (size_t i = 0; i + 1 < bytes; i += 2)
		sum += (uint32_t)(p[i] << 8 | p[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void send_udp(int fd, uint32_t number)
{
	(void)number;
	sendto(fd, payload, sizeof(payload), MSG_DONTWAIT,
	       (struct sockaddr *)&target, sizeof(target));
}

static struct ip ip_head(uint32_t number, uint8_t protocol, size_t bytes)
{
	return (struct ip){
		.ip_v = 4,
		.ip_hl = 5,
		.ip_len = htons((uint16_t)bytes),
		.ip_id = htons((uint16_t)number),
		.ip_ttl = 64,
		.ip_p = protocol,
		/* our own network, but nobody's address */
		.ip_src.s_addr = htonl(0x0a4d0080u | (number % 100)),
		.ip_dst = target.sin_addr,
	};
}

static void send_syn(int fd, uint32_t number)
{
	struct {
		struct ip ip;
		struct tcphdr tcp;
	} packet = { .ip = ip_head(number, IPPROTO_TCP, sizeof(packet)) };
	uint32_t sum = IPPROTO_TCP + sizeof(packet.tcp);
	const uint8_t *addresses = (const uint8_t *)&packet.ip.ip_src;

	packet.tcp.source = htons((uint16_t)(1024 + number % 60000));
	packet.tcp.dest = target.sin_port;
	packet.tcp.seq = htonl(number * 2654435761u);
	packet.tcp.doff = 5;
	packet.tcp.syn = 1;
	packet.tcp.window = htons(65535);
	for (int i = 0; i < 8; i += 2)
		sum += (uint32_t)(addresses[i] << 8 | addresses[i + 1]);
	packet.tcp.check = checksum(&packet.tcp, sizeof(packet.tcp), sum);
	sendto(fd, &packet, sizeof(packet), MSG_DONTWAIT,
	       (struct sockaddr *)&target, sizeof(target));
}

static void send_frag(int fd, uint32_t number)
{
	struct {
		struct ip ip;
		uint8_t data[1400];
	} packet = { .ip = ip_head(number, IPPROTO_UDP, sizeof(packet)) };

	packet.ip.ip_off = htons(IP_MF);
	sendto(fd, &packet, sizeof(packet), MSG_DONTWAIT,
	       (struct sockaddr *)&target, sizeof(target));
}

/* So many a second, in small bursts. */
static void pace(int fd, void (*one)(int, uint32_t), uint32_t per_s)
{
	const struct timespec tick = { .tv_nsec = TICK_MS * 1000000L };
	uint32_t number = 0;

	for (;;) {
		for (uint32_t i = 0; i < per_s * TICK_MS / 1000; i++)
			one(fd, number++);
		nanosleep(&tick, NULL);
	}
}

static void fill_connections(uint32_t count)
{
	struct pollfd fds[CONNECTIONS_MAX];

	if (count > CONNECTIONS_MAX)
		count = CONNECTIONS_MAX;
	for (uint32_t i = 0; i < count; i++) {
		fds[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		fds[i].events = POLLOUT;
		if (fds[i].fd < 0)
			die("flood: socket");
		if (connect(fds[i].fd, (struct sockaddr *)&target,
			    sizeof(target)) < 0 && errno != EINPROGRESS)
			die("flood: connect");
	}
	for (;;) {
		poll(fds, count, 1000);
		for (uint32_t i = 0; i < count; i++) {
			if (fds[i].revents & POLLOUT)
				send(fds[i].fd, payload, sizeof(payload),
				     MSG_NOSIGNAL | MSG_DONTWAIT);
			else if (fds[i].revents & (POLLERR | POLLHUP))
				fds[i].fd = -1;
		}
	}
}

static int raw_socket(void)
{
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

	if (fd < 0)
		die("flood: raw socket");
	return fd;
}

int main(int argc, char **argv)
{
	uint32_t amount;

	if (argc != 5)
		return 2;
	target.sin_family = AF_INET;
	if (inet_pton(AF_INET, argv[2], &target.sin_addr) != 1)
		return 2;
	target.sin_port = htons((uint16_t)atoi(argv[3]));
	amount = (uint32_t)atoi(argv[4]);
	memset(payload, 0x5a, sizeof(payload));
	if (!strcmp(argv[1], "udp"))
		pace(socket(AF_INET, SOCK_DGRAM, 0), send_udp, amount);
	else if (!strcmp(argv[1], "tcp"))
		fill_connections(amount);
	else if (!strcmp(argv[1], "syn"))
		pace(raw_socket(), send_syn, amount);
	else if (!strcmp(argv[1], "frag"))
		pace(raw_socket(), send_frag, amount);
	return 2;
}
