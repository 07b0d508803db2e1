/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbd-script-server: an NBD server that serves memory and misbehaves as told.
 *
 * Owns the listening socket, the memory, and a good server's behaviour; each
 * connection is a child process.  The tables of the other files bend it.
 *
 *	nbd-script-server [-s BYTES] [-e EXPORT] [-c COUNT] [-p PORT | -u PATH]
 *			  [-C CERTIFICATE -K KEY [-A AUTHORITY]]
 *			  [BEHAVIOUR[=NUMBER]]…
 *
 * Prints "port N" or "socket PATH" when clients can connect.  With -c only the
 * first COUNT connections see the behaviours, later ones a good server.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/bytes.h"
#include "tests/server/server.h"

#define OPTION_BYTES_MAX 65536u
#define DISK_BYTES_DEFAULT (16u << 20)

static uint8_t option_data[OPTION_BYTES_MAX];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* ---- Bytes ---- */

void conn_close(struct conn *c)
{
	close(c->fd);
	_exit(0);
}

void conn_send(struct conn *c, const void *src, size_t bytes)
{
	const uint8_t *s = src;

	if (c->ssl != NULL && bytes > 0) {
		tls_send(c, src, bytes);
		return;
	}
	while (bytes > 0) {
		ssize_t n = send(c->fd, s, bytes, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			conn_close(c);
		s += n;
		bytes -= (size_t)n;
	}
}

void conn_receive(struct conn *c, void *dst, size_t bytes)
{
	uint8_t *d = dst;

	if (c->ssl != NULL && bytes > 0) {
		tls_receive(c, dst, bytes);
		return;
	}
	while (bytes > 0) {
		ssize_t n = recv(c->fd, d, bytes, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			conn_close(c);
		d += n;
		bytes -= (size_t)n;
	}
}

void conn_hang(struct conn *c)
{
	uint8_t byte;

	for (;;)
		conn_receive(c, &byte, sizeof(byte));
}

/* ---- Handshake ---- */

void conn_greet(struct conn *c)
{
	uint8_t b[sizeof(struct nbd_greeting)];

	put_be64(b, NBD_MAGIC);
	put_be64(b + 8, NBD_OPTS_MAGIC);
	put_be16(b + 16, c->handshake_flags);
	conn_send(c, b, sizeof(b));
}

void conn_reply_head(struct conn *c, uint32_t option, uint32_t type,
		     uint32_t bytes)
{
	const struct proto_option_reply r = { option, type, bytes };
	uint8_t b[sizeof(struct nbd_option_reply)];

	proto_put_option_reply(b, &r);
	conn_send(c, b, sizeof(b));
}

void conn_reply(struct conn *c, uint32_t option, uint32_t type,
		const void *data, uint32_t bytes)
{
	conn_reply_head(c, option, type, bytes);
	conn_send(c, data, bytes);
}

void conn_info_export(struct conn *c, uint32_t option)
{
	uint8_t b[NBD_INFO_EXPORT_LENGTH];

	put_be16(b, NBD_INFO_EXPORT);
	put_be64(b + 2, c->said_bytes);
	put_be16(b + 10, c->flags);
	conn_reply(c, option, NBD_REP_INFO, b, sizeof(b));
}

void conn_info_block_size(struct conn *c, uint32_t option)
{
	uint8_t b[NBD_INFO_BLOCK_SIZE_LENGTH];

	put_be16(b, NBD_INFO_BLOCK_SIZE);
	put_be32(b + 2, c->block_min);
	put_be32(b + 6, c->block_pref);
	put_be32(b + 10, c->block_max);
	conn_reply(c, option, NBD_REP_INFO, b, sizeof(b));
}

static bool is_our_export(const struct conn *c, const uint8_t *name,
			  size_t bytes)
{
	return bytes == strlen(c->export_name) &&
	       memcmp(name, c->export_name, bytes) == 0;
}

/* True when transmission begins. */
static bool answer_go(struct conn *c, uint32_t option, const uint8_t *data,
		      uint32_t bytes)
{
	uint32_t name_bytes = bytes >= 6 ? get_be32(data) : UINT32_MAX;

	if (name_bytes > bytes - 6) {
		conn_reply(c, option, NBD_REP_ERR_INVALID, NULL, 0);
		return false;
	}
	if (!is_our_export(c, data + 4, name_bytes)) {
		conn_reply(c, option, NBD_REP_ERR_UNKNOWN, "not here", 8);
		return false;
	}
	conn_info_export(c, option);
	if (c->block_min > 0)
		conn_info_block_size(c, option);
	conn_reply(c, option, NBD_REP_ACK, NULL, 0);
	return option == NBD_OPT_GO;
}

static bool answer_export_name(struct conn *c, const uint8_t *data,
			       uint32_t bytes)
{
	uint8_t b[sizeof(struct nbd_export_name_reply) +
		  NBD_EXPORT_NAME_ZEROES] = { 0 };

	if (!is_our_export(c, data, bytes))
		conn_close(c);
	put_be64(b, c->said_bytes);
	put_be16(b + 8, c->flags);
	conn_send(c, b,
		  c->client_flags & NBD_FLAG_C_NO_ZEROES
			  ? sizeof(struct nbd_export_name_reply)
			  : sizeof(b));
	return true;
}

static void answer_list(struct conn *c)
{
	uint8_t b[sizeof(uint32_t) + NBD_STRING_MAX];
	uint32_t bytes = (uint32_t)strlen(c->export_name);

	put_be32(b, bytes);
	memcpy(b + 4, c->export_name, bytes);
	conn_reply(c, NBD_OPT_LIST, NBD_REP_SERVER, b, 4 + bytes);
	conn_reply(c, NBD_OPT_LIST, NBD_REP_ACK, NULL, 0);
}

static bool answer_option(struct conn *c, uint32_t option, const uint8_t *data,
			  uint32_t bytes)
{
	switch (option) {
	case NBD_OPT_EXPORT_NAME:
		return answer_export_name(c, data, bytes);
	case NBD_OPT_ABORT:
		conn_reply(c, option, NBD_REP_ACK, NULL, 0);
		conn_close(c);
	case NBD_OPT_LIST:
		answer_list(c);
		return false;
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return answer_go(c, option, data, bytes);
	case NBD_OPT_STRUCTURED_REPLY:
		c->structured = true;
		conn_reply(c, option, NBD_REP_ACK, NULL, 0);
		return false;
	default:
		conn_reply(c, option, NBD_REP_ERR_UNSUP, NULL, 0);
		return false;
	}
}

/* ---- Transmission ---- */

void conn_simple(struct conn *c, uint32_t error, uint64_t cookie)
{
	uint8_t b[sizeof(struct nbd_simple_reply)];

	proto_put_simple_reply(b, error, cookie);
	conn_send(c, b, sizeof(b));
}

void conn_chunk(struct conn *c, uint16_t flags, uint16_t type, uint64_t cookie,
		uint32_t bytes)
{
	const struct proto_reply r = {
		.flags = flags,
		.type = type,
		.cookie = cookie,
		.length_bytes = bytes,
	};
	uint8_t b[sizeof(struct nbd_structured_reply)];

	proto_put_chunk(b, &r);
	conn_send(c, b, sizeof(b));
}

void conn_data(struct conn *c, uint16_t flags, uint64_t cookie,
	       uint64_t offset, uint32_t bytes)
{
	uint8_t b[8];

	conn_chunk(c, flags, NBD_REPLY_TYPE_OFFSET_DATA, cookie, 8 + bytes);
	put_be64(b, offset);
	conn_send(c, b, sizeof(b));
	conn_send(c, c->disk + offset, bytes);
}

void conn_hole(struct conn *c, uint16_t flags, uint64_t cookie,
	       uint64_t offset, uint32_t bytes)
{
	uint8_t b[NBD_CHUNK_OFFSET_HOLE_LENGTH];

	conn_chunk(c, flags, NBD_REPLY_TYPE_OFFSET_HOLE, cookie, sizeof(b));
	put_be64(b, offset);
	put_be32(b + 8, bytes);
	conn_send(c, b, sizeof(b));
}

void conn_error_chunk(struct conn *c, uint16_t flags, uint64_t cookie,
		      uint32_t error, const void *text, uint16_t bytes)
{
	uint8_t b[sizeof(struct nbd_chunk_error)];

	conn_chunk(c, flags, NBD_REPLY_TYPE_ERROR, cookie,
		   (uint32_t)sizeof(b) + bytes);
	put_be32(b, error);
	put_be16(b + 4, bytes);
	conn_send(c, b, sizeof(b));
	conn_send(c, text, bytes);
}

static bool is_inside(const struct conn *c, const struct proto_request *r)
{
	return r->offset_bytes <= c->disk_bytes &&
	       r->length_bytes <= c->disk_bytes - r->offset_bytes;
}

void conn_fail(struct conn *c, const struct proto_request *r, uint32_t error)
{
	if (c->structured && r->command == NBD_CMD_READ)
		conn_error_chunk(c, NBD_REPLY_FLAG_DONE, r->cookie, error, NULL,
				 0);
	else
		conn_simple(c, error, r->cookie);
}

void conn_answer(struct conn *c, const struct proto_request *r)
{
	switch (r->command) {
	case NBD_CMD_READ:
		if (!is_inside(c, r)) {
			conn_fail(c, r, NBD_EINVAL);
		} else if (c->structured) {
			conn_data(c, NBD_REPLY_FLAG_DONE, r->cookie,
				  r->offset_bytes, r->length_bytes);
		} else {
			conn_simple(c, NBD_SUCCESS, r->cookie);
			conn_send(c, c->disk + r->offset_bytes,
				  r->length_bytes);
		}
		break;
	case NBD_CMD_WRITE:
	case NBD_CMD_TRIM:
	case NBD_CMD_WRITE_ZEROES:
		if (!is_inside(c, r)) {
			conn_fail(c, r, NBD_ENOSPC);
			break;
		}
		if (r->command == NBD_CMD_WRITE_ZEROES)
			memset(c->disk + r->offset_bytes, 0, r->length_bytes);
		conn_simple(c, NBD_SUCCESS, r->cookie);
		break;
	case NBD_CMD_FLUSH:
		conn_simple(c, NBD_SUCCESS, r->cookie);
		break;
	default:
		conn_fail(c, r, NBD_EINVAL);
	}
}

static void take_payload(struct conn *c, const struct proto_request *r)
{
	uint8_t sink[4096];
	uint32_t left = r->length_bytes;

	if (r->command != NBD_CMD_WRITE)
		return;
	if (is_inside(c, r)) {
		conn_receive(c, c->disk + r->offset_bytes, left);
		return;
	}
	while (left > 0) {
		uint32_t n = left < sizeof(sink) ? left : sizeof(sink);

		conn_receive(c, sink, n);
		left -= n;
	}
}

/* ---- One connection ---- */

static struct chosen chosen[BEHAVIOURS_MAX + 1];

/* Runs `call` with each behaviour until one has dealt with it. */
#define BENT(c, hook, ...)                                                     \
	({                                                                     \
		bool done_ = false;                                            \
		for ((c)->chosen = chosen;                                     \
		     !done_ && (c)->chosen->behaviour; (c)->chosen++) {        \
			(c)->number = (c)->chosen->number;                     \
			if ((c)->chosen->behaviour->hook)                      \
				done_ = (c)->chosen->behaviour->hook(          \
					__VA_ARGS__);                          \
		}                                                              \
		done_;                                                         \
	})

static void negotiate(struct conn *c)
{
	uint8_t b[sizeof(struct nbd_option)];

	if (!BENT(c, on_connect, c))
		conn_greet(c);
	conn_receive(c, b, sizeof(uint32_t));
	c->client_flags = get_be32(b);
	for (;;) {
		uint32_t option, bytes;

		conn_receive(c, b, sizeof(b));
		option = get_be32(b + 8);
		bytes = get_be32(b + 12);
		if (get_be64(b) != NBD_OPTS_MAGIC || bytes > OPTION_BYTES_MAX)
			conn_close(c);
		conn_receive(c, option_data, bytes);
		c->options_count++;
		if (!BENT(c, on_option, c, option, option_data, bytes) &&
		    answer_option(c, option, option_data, bytes))
			return;
	}
}

static void serve(struct conn *c)
{
	uint8_t b[sizeof(struct nbd_request)];
	struct proto_request r;

	negotiate(c);
	for (;;) {
		conn_receive(c, b, sizeof(b));
		if (proto_get_request(&r, b) < 0 || r.command == NBD_CMD_DISC)
			conn_close(c);
		take_payload(c, &r);
		c->requests_count++;
		if (!BENT(c, on_request, c, &r))
			conn_answer(c, &r);
	}
}

/* ---- Command line ---- */

static const struct behaviour *behaviour_find(const char *name, size_t bytes)
{
	const struct behaviour *tables[] = { handshake_behaviours,
					     reply_behaviours, tls_behaviours };

	for (size_t i = 0; i < 3; i++)
		for (const struct behaviour *b = tables[i]; b->name; b++)
			if (strlen(b->name) == bytes &&
			    memcmp(b->name, name, bytes) == 0)
				return b;
	return NULL;
}

static void usage(void)
{
	const struct behaviour *tables[] = { handshake_behaviours,
					     reply_behaviours };

	fprintf(stderr,
		"usage: nbd-script-server [-s BYTES] [-e EXPORT] [-c COUNT] [-p PORT | -u PATH] [-C CERT -K KEY [-A CA]] [BEHAVIOUR[=NUMBER]]...\n");
	for (size_t i = 0; i < 2; i++)
		for (const struct behaviour *b = tables[i]; b->name; b++)
			fprintf(stderr, "  %-22s %s\n", b->name, b->help);
	exit(2);
}

static void choose(struct chosen *to, const char *word)
{
	size_t bytes = strcspn(word, "=");
	char *end;

	to->behaviour = behaviour_find(word, bytes);
	if (to->behaviour == NULL)
		usage();
	if (word[bytes] == '\0')
		return;
	to->number = strtoull(word + bytes + 1, &end, 0);
	if (*end != '\0')
		usage();
}

static int listen_tcp(uint16_t port)
{
	struct sockaddr_in in = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t bytes = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&in, bytes) < 0 || listen(fd, 16) < 0 ||
	    getsockname(fd, (struct sockaddr *)&in, &bytes) < 0)
		die("listen");
	printf("port %u\n", ntohs(in.sin_port));
	return fd;
}

static int listen_unix(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(un.sun_path))
		usage();
	memcpy(un.sun_path, path, strlen(path) + 1);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 ||
	    listen(fd, 16) < 0)
		die("listen");
	printf("socket %s\n", path);
	return fd;
}

static void accept_for_ever(int listener, struct conn *template,
			    uint64_t bent_count)
{
	const int on = 1;
	pid_t parent = getpid();

	signal(SIGCHLD, SIG_IGN);
	for (uint64_t count = 0;; count++) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			continue;
		if (count >= bent_count)
			chosen[0].behaviour = NULL;
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(0);
			close(listener);
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
				   sizeof(on));
			template->fd = fd;
			serve(template);
		}
		close(fd);
	}
}

int main(int argc, char **argv)
{
	static struct conn c = {
		.disk_bytes = DISK_BYTES_DEFAULT,
		.export_name = "",
		.handshake_flags = NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES,
		.flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH |
			 NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |
			 NBD_FLAG_SEND_WRITE_ZEROES,
		.block_min = 1,
		.block_pref = NBD_PREF_BLOCK_DEFAULT,
		.block_max = NBD_MAX_PAYLOAD_DEFAULT,
	};
	uint64_t bent_count = UINT64_MAX;
	const char *path = NULL;
	uint16_t port = 0;
	int option;

	while ((option = getopt(argc, argv, "s:e:c:p:u:C:K:A:")) != -1) {
		switch (option) {
		case 's':
			c.disk_bytes = strtoull(optarg, NULL, 0);
			break;
		case 'e':
			c.export_name = optarg;
			break;
		case 'c':
			bent_count = strtoull(optarg, NULL, 0);
			break;
		case 'p':
			port = (uint16_t)strtoul(optarg, NULL, 0);
			break;
		case 'u':
			path = optarg;
			break;
		case 'C':
			c.tls_cert = optarg;
			break;
		case 'K':
			c.tls_key = optarg;
			break;
		case 'A':
			c.tls_ca = optarg;
			break;
		default:
			usage();
		}
	}
	if (argc - optind > BEHAVIOURS_MAX ||
	    strlen(c.export_name) > NBD_STRING_MAX || c.disk_bytes == 0)
		usage();
	for (int i = optind; i < argc; i++)
		choose(&chosen[i - optind], argv[i]);
	c.said_bytes = c.disk_bytes;
	c.disk = mmap(NULL, c.disk_bytes, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c.disk == MAP_FAILED)
		die("mmap");
	option = path != NULL ? listen_unix(path) : listen_tcp(port);
	fflush(stdout);
	accept_for_ever(option, &c, bent_count);
}
