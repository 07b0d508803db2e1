// SPDX-License-Identifier: GPL-2.0-or-later
/* Keys to the kernel. Control thread. */
#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bytes.h"
#include "nbd-client/ktls.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

union info {
	struct tls_crypto_info head;
	struct tls12_crypto_info_aes_gcm_128 gcm128;
	struct tls12_crypto_info_aes_gcm_256 gcm256;
	struct tls12_crypto_info_chacha20_poly1305 chacha;
};

/*
 * Of GCM's nonce the kernel wants the salt and the rest apart; in TLS 1.2 the
 * rest is its counter of records, which goes into each record.
 */
#define FILL_GCM(to, k, type)                                                  \
	do {                                                                   \
		(to).info.cipher_type = (type);                                \
		memcpy((to).key, (k)->key, sizeof((to).key));                  \
		memcpy((to).salt, (k)->iv, sizeof((to).salt));                 \
		if ((k)->tls13)                                                \
			memcpy((to).iv, (k)->iv + sizeof((to).salt),           \
			       sizeof((to).iv));                               \
		else                                                           \
			put_be64((to).iv, (k)->sequence);                      \
		put_be64((to).rec_seq, (k)->sequence);                         \
	} while (0)

/* How many bytes of it the kernel is to be given. */
static socklen_t fill(union info *i, const struct tls_keys *k)
{
	memset(i, 0, sizeof(*i));
	i->head.version = k->tls13 ? TLS_1_3_VERSION : TLS_1_2_VERSION;
	switch (k->cipher) {
	case TLS_AES_128_GCM:
		FILL_GCM(i->gcm128, k, TLS_CIPHER_AES_GCM_128);
		return sizeof(i->gcm128);
	case TLS_AES_256_GCM:
		FILL_GCM(i->gcm256, k, TLS_CIPHER_AES_GCM_256);
		return sizeof(i->gcm256);
	default:
		i->head.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
		memcpy(i->chacha.key, k->key, sizeof(i->chacha.key));
		memcpy(i->chacha.iv, k->iv, sizeof(i->chacha.iv));
		put_be64(i->chacha.rec_seq, k->sequence);
		return sizeof(i->chacha);
	}
}

static int set(int fd, int direction, const struct tls_keys *k)
{
	union info info;
	socklen_t bytes = fill(&info, k);
	int r = setsockopt(fd, SOL_TLS, direction, &info, bytes) < 0 ? -errno :
								       0;

	OPENSSL_cleanse(&info, sizeof(info));
	return r;
}

int ktls_probe(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error = 0;

	if (fd < 0)
		return -errno;
	/* It wants a connection, but only once it is there. */
	if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) < 0 &&
	    errno != ENOTCONN)
		error = errno;
	close(fd);
	return -error;
}

int ktls_start(int fd, const struct tls_keys *send,
	       const struct tls_keys *receive)
{
	int r;

	if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) < 0)
		return -errno;
	r = set(fd, TLS_TX, send);
	if (r < 0)
		return r == -EPROTO ? -EINVAL : r;
	return set(fd, TLS_RX, receive) < 0 ? -EPROTO : 0;
}

bool ktls_has_ended(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) == 1 && p.revents & POLLRDHUP;
}

/* Also takes what is no data, at which recv(2) would fail again and again. */
static ssize_t take_record(int fd, void *to, size_t bytes, uint8_t *ret_type)
{
	union {
		struct cmsghdr head;
		uint8_t room[CMSG_SPACE(sizeof(uint8_t))];
	} control;
	struct iovec part = { .iov_base = to, .iov_len = bytes };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	const struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(fd, &message, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&message);
	*ret_type = c && c->cmsg_level == SOL_TLS &&
				    c->cmsg_type == TLS_GET_RECORD_TYPE ?
			    *CMSG_DATA(c) :
			    TLS_DATA;
	return n;
}

const char *ktls_why(int fd, int error)
{
	uint8_t content[64], type = TLS_DATA;
	ssize_t n;

	if (error == EBADMSG || error == EMSGSIZE || error == EINVAL)
		return "a TLS record that was damaged or forged";
	if (error != EIO)
		return NULL;
	n = take_record(fd, content, sizeof(content), &type);
	return n < 0 ? "a TLS record that is no data" :
		       tls_no_data(type, content, (size_t)n);
}
