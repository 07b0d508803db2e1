// SPDX-License-Identifier: GPL-2.0-or-later
/* nbd.ko's part, played by a test. See kernel_end.h. */
#include <poll.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/clock.h"
#include "common/proto.h"
#include "tests/kernel_end.h"

static void *thread_main(void *arg)
{
	struct kernel_end *k = arg;

	k->opened = engine_open(k->engine, &k->front->front);
	if (k->opened == 0) {
		engine_run(k->engine);
		engine_close(k->engine);
	}
	return NULL;
}

static void carve(struct kernel_end *k)
{
	struct engine_memory memory;
	uint32_t base = k->config.slots - k->config.slots_reserve;

	assert_int_equal(pin_init(&k->pin, pin_pages(sizeof(*k->engine)) +
					   pin_pages(sizeof(*k->front)) +
					   pin_pages(engine_rx_bytes()) +
					   pin_pages(sizeof(*k->records)) +
					   pin_pages(engine_reserve_bytes(
						   &k->config))),
			 0);
	assert_int_equal(base_init(&k->base, base, k->config.slot_bytes), 0);
	k->engine = pin_carve(&k->pin, sizeof(*k->engine));
	k->front = pin_carve(&k->pin, sizeof(*k->front));
	memory.rx = pin_carve(&k->pin, engine_rx_bytes());
	k->records = pin_carve(&k->pin, sizeof(*k->records));
	memory.reserve = pin_carve(&k->pin, engine_reserve_bytes(&k->config));
	memory.base = k->base.memory;
	pin_seal(&k->pin);
	front_nbd_init(k->front);
	engine_init(k->engine, &k->config, &memory, &k->stats, k->mail_fd,
		    k->news_fd);
	base_bind(&k->base, &k->engine->pool);
	base_step(&k->base, base, base);
}

void kernel_end_give_link(struct kernel_end *k)
{
	k->engine->mail.records = conn_start_records(&k->conn, k->records);
	k->engine->mail.link_fd = k->conn.fd;
	k->engine->mail.structured = k->conn.handshake.info.structured;
	k->engine->mail.export_bytes = k->conn.export.size_bytes;
	conn_take(&k->conn);
	engine_post(k->engine, MAIL_LINK_UP);
}

static int open_all(struct kernel_end *k, const char *uri,
		    const struct tls_options *tls,
		    const struct engine_config *config,
		    const struct socket_memory *memory, struct err *err)
{
	memset(k, 0, sizeof(*k));
	if (addr_parse(&k->addr, uri, err) < 0 ||
	    conn_init(&k->conn, &k->addr, memory, 5000, err) < 0 ||
	    (tls && conn_init_tls(&k->conn, &k->tls, tls, err) < 0) ||
	    conn_open(&k->conn, err) < 0)
		return -1;
	k->config = *config;
	k->config.export = &k->conn.export;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, k->pair), 0);
	k->mail_fd = eventfd(0, 0);
	k->news_fd = eventfd(0, 0);
	carve(k);
	k->engine->mail.front_fd = k->pair[1];
	engine_post(k->engine, MAIL_FRONT_UP);
	kernel_end_give_link(k);
	assert_int_equal(pthread_create(&k->thread, NULL, thread_main, k), 0);
	return 0;
}

int kernel_end_open(struct kernel_end *k, const char *uri, uint32_t slots,
		    uint32_t slot_bytes, struct err *err)
{
	return kernel_end_open_tls(k, uri, NULL, slots, slot_bytes, err);
}

int kernel_end_open_tls(struct kernel_end *k, const char *uri,
			const struct tls_options *tls, uint32_t slots,
			uint32_t slot_bytes, struct err *err)
{
	const struct socket_memory memory = { 0 };
	const struct engine_config config = {
		.slots = slots,
		.slots_reserve = 1,
		.slot_bytes = slot_bytes,
		.open = { 1ull << 30, 1ull << 30 },
		.guaranteed = { slot_bytes + THROTTLE_HEAD_BYTES,
				slot_bytes + THROTTLE_HEAD_BYTES },
	};

	return open_all(k, uri, tls, &config, &memory, err);
}

int kernel_end_open_sized(struct kernel_end *k, const char *uri,
			  const struct engine_config *config,
			  const struct socket_memory *memory, struct err *err)
{
	return open_all(k, uri, NULL, config, memory, err);
}

void kernel_end_news(struct kernel_end *k, int timeout_ms)
{
	struct pollfd fd = { .fd = k->news_fd, .events = POLLIN };
	uint64_t count;
	uint32_t news;

	if (poll(&fd, 1, timeout_ms) != 1)
		return;
	assert_int_equal(read(k->news_fd, &count, sizeof(count)), 8);
	news = engine_take_news(k->engine);
	assert_false(news & NEWS_FAILED);
	if (news & NEWS_LINK_LOST)
		conn_shutdown(&k->conn,
			      atomic_load(&k->engine->news.link_error));
	if (news & NEWS_LINK_IDLE) {
		struct err err;

		conn_close(&k->conn);
		while (k->conn.state == CONN_FENCE) {
			poll(NULL, 0, CONN_FENCE_POLL_MS);
			conn_step(&k->conn);
		}
		while (conn_open(&k->conn, &err) < 0)
			poll(NULL, 0, conn_due_ms(&k->conn, 0) ? 20 : 0);
		kernel_end_give_link(k);
	}
	if (news & NEWS_CLOSED)
		k->conn.known = false; /* the end: see kernel_end_close() */
}

bool kernel_end_close(struct kernel_end *k)
{
	bool closed;

	kernel_end_send(k, NBD_CMD_DISC, 0, 0, 0, 0, NULL);
	shutdown(k->pair[0], SHUT_RDWR);
	engine_post(k->engine, MAIL_CLOSE);
	for (int i = 0; i < 100 && k->conn.known; i++)
		kernel_end_news(k, 100);
	closed = !k->conn.known;
	engine_post(k->engine, MAIL_STOP);
	pthread_join(k->thread, NULL);
	conn_fini(&k->conn);
	tls_close(&k->tls);
	close(k->pair[0]);
	close(k->pair[1]);
	close(k->mail_fd);
	close(k->news_fd);
	base_fini(&k->base);
	pin_fini(&k->pin);
	return closed;
}

static void write_all(int fd, const void *from, size_t bytes)
{
	while (bytes) {
		ssize_t n = write(fd, from, bytes);

		assert_true(n > 0);
		from = (const char *)from + n;
		bytes -= (size_t)n;
	}
}

static void read_all(int fd, void *to, size_t bytes)
{
	while (bytes) {
		ssize_t n = read(fd, to, bytes);

		assert_true(n > 0);
		to = (char *)to + n;
		bytes -= (size_t)n;
	}
}

void kernel_end_send(struct kernel_end *k, uint16_t command, uint16_t flags,
		     uint64_t cookie, uint64_t offset, uint32_t length,
		     const void *payload)
{
	struct proto_request p = {
		.command = command,
		.flags = flags,
		.cookie = cookie,
		.offset_bytes = offset,
		.length_bytes = length,
	};
	uint8_t head[sizeof(struct nbd_request)];

	proto_put_request(head, &p);
	write_all(k->pair[0], head, sizeof(head));
	if (command == NBD_CMD_WRITE)
		write_all(k->pair[0], payload, length);
}

uint32_t kernel_end_reply(struct kernel_end *k, uint64_t *ret_cookie)
{
	uint8_t head[sizeof(struct nbd_simple_reply)];
	struct proto_reply reply;

	read_all(k->pair[0], head, sizeof(head));
	assert_int_equal(proto_get_reply(&reply, head, sizeof(head)), 16);
	assert_false(reply.structured);
	*ret_cookie = reply.cookie;
	return reply.error;
}

void kernel_end_payload(struct kernel_end *k, void *to, uint32_t bytes)
{
	read_all(k->pair[0], to, bytes);
}
