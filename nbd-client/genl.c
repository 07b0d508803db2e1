// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The nbd driver's generic netlink family. Of libnl only what finds the family
 * and lays out messages is used: libnl's receive functions allocate for every
 * answer, ours does not.
 *
 * Owns struct genl's socket and memory. Control thread and command line; blocks
 * until the kernel has done what it was asked.
 */
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <netlink/attr.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "nbd-client/genl.h"

/*
 * Headers before 5.14 do not have it, the drivers of all kernels that we serve
 * do. Its number is part of the kernel's interface.
 */
#define GENL_ATTR_BACKEND 10
_Static_assert(NBD_ATTR_DEAD_CONN_TIMEOUT == 8 && NBD_ATTR_DEVICE_LIST == 9,
	       "the attribute after these is the back end");

/*
 * CONNECT, RECONFIGURE and DISCONNECT are done when sendmsg returns; the answer
 * is only read. One that takes longer was lost.
 */
#define ANSWER_TIMEOUT_S 10

/* An answer other than the acknowledgement. False: not what was expected. */
typedef bool (*answer_fn)(struct nlattr **attrs, void *arg);

static int open_failed(int nl_error, struct err *err)
{
	if (nl_error == -NLE_OBJ_NOTFOUND)
		return err_set(err, X_KERNEL, ENOENT,
			       "the kernel has no nbd netlink interface; "
			       "run \"modprobe nbd\"");
	if (nl_error == -NLE_NOMEM)
		return err_set(err, X_FAILURE, ENOMEM,
			       "no memory for a netlink socket");
	return err_set(err, X_KERNEL, EPROTONOSUPPORT,
		       "cannot use generic netlink: %s; this kernel may lack it",
		       nl_geterror(nl_error));
}

int genl_open(struct genl *genl, struct err *err)
{
	const struct timeval timeout = { .tv_sec = ANSWER_TIMEOUT_S };
	const int on = 1;
	int rc;

	memset(genl, 0, sizeof(*genl));
	genl->fd = -1;
	genl->sock = nl_socket_alloc();
	genl->message = nlmsg_alloc_size(GENL_MESSAGE_BYTES);
	if (!genl->sock || !genl->message) {
		rc = open_failed(-NLE_NOMEM, err);
		goto out;
	}
	rc = genl_connect(genl->sock);
	if (rc) {
		rc = open_failed(rc, err);
		goto out;
	}
	genl->fd = nl_socket_get_fd(genl->sock);
	genl->family = genl_ctrl_resolve(genl->sock, NBD_GENL_FAMILY_NAME);
	if (genl->family < 0) {
		rc = open_failed(genl->family, err);
		goto out;
	}
	/* The kernel's own words for an error; not having them is no loss. */
	(void)setsockopt(genl->fd, SOL_NETLINK, NETLINK_EXT_ACK, &on,
			 sizeof(on));
	(void)setsockopt(genl->fd, SOL_NETLINK, NETLINK_CAP_ACK, &on,
			 sizeof(on));
	if (setsockopt(genl->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout,
		       sizeof(timeout)))
		rc = err_explain(err, NULL, errno,
				 "cannot set up the netlink socket");
out:
	if (rc)
		genl_close(genl);
	return rc;
}

void genl_close(struct genl *genl)
{
	if (genl->message)
		nlmsg_free(genl->message);
	if (genl->sock)
		nl_socket_free(genl->sock); /* closes fd */
	genl->message = NULL;
	genl->sock = NULL;
	genl->fd = -1;
}

void genl_drain(struct genl *genl)
{
	while (recv(genl->fd, genl->answer, sizeof(genl->answer),
		    MSG_DONTWAIT) > 0)
		;
}

/* Starts a request in the one message that there is. */
static int begin(struct genl *genl, uint8_t command, int32_t index)
{
	nlmsg_hdr(genl->message)->nlmsg_len = NLMSG_HDRLEN;
	if (!genlmsg_put(genl->message, NL_AUTO_PORT, ++genl->sequence,
			 genl->family, 0, NLM_F_REQUEST | NLM_F_ACK, command,
			 NBD_GENL_VERSION))
		return -EMSGSIZE;
	if (index != GENL_INDEX_ANY &&
	    nla_put_u32(genl->message, NBD_ATTR_INDEX, (uint32_t)index))
		return -EMSGSIZE;
	return 0;
}

/* What the kernel adds to an error number, if anything. */
static const char *error_words(struct nlmsghdr *nlh)
{
	const struct nlmsgerr *e = nlmsg_data(nlh);
	int length = nlmsg_datalen(nlh), skip = sizeof(*e);
	struct nlattr *attr;

	if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS))
		return NULL;
	if (!(nlh->nlmsg_flags & NLM_F_CAPPED) &&
	    e->msg.nlmsg_len > sizeof(e->msg))
		skip += NLMSG_ALIGN(e->msg.nlmsg_len - sizeof(e->msg));
	if (skip > length)
		return NULL;
	attr = nla_find((struct nlattr *)((char *)nlmsg_data(nlh) + skip),
			length - skip, NLMSGERR_ATTR_MSG);
	if (!attr || nla_len(attr) < 1 ||
	    ((char *)nla_data(attr))[nla_len(attr) - 1])
		return NULL;
	return nla_data(attr);
}

/*
 * One datagram from the kernel. 1: go on reading; else the outcome of the
 * request. An error's words stay in genl->answer until the next request.
 */
static int take_answer(struct genl *genl, int length, answer_fn on_answer,
		       void *arg, const char **ret_words)
{
	struct nlattr *attrs[NBD_ATTR_MAX + 1];
	struct nlmsghdr *nlh = (struct nlmsghdr *)(void *)genl->answer;

	for (; nlmsg_ok(nlh, length); nlh = nlmsg_next(nlh, &length)) {
		/* An answer to an earlier request that was given up. */
		if (nlh->nlmsg_seq != genl->sequence)
			continue;
		if (nlh->nlmsg_type == NLMSG_ERROR) {
			const struct nlmsgerr *e = nlmsg_data(nlh);

			if (nlmsg_datalen(nlh) < (int)sizeof(*e))
				return -EBADMSG;
			*ret_words = error_words(nlh);
			return e->error;
		}
		if (nlh->nlmsg_type != genl->family || !on_answer)
			continue;
		if (!genlmsg_valid_hdr(nlh, 0) ||
		    genlmsg_parse(nlh, 0, attrs, NBD_ATTR_MAX, NULL) ||
		    !on_answer(attrs, arg))
			return -EBADMSG;
	}
	return 1;
}

/* Sends the message and reads until it is acknowledged. */
static int transact(struct genl *genl, answer_fn on_answer, void *arg,
		    const char **ret_words)
{
	const struct nlmsghdr *nlh = nlmsg_hdr(genl->message);
	ssize_t n;
	int rc;

	*ret_words = NULL;
	do {
		n = send(genl->fd, nlh, nlh->nlmsg_len, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	do {
		n = recv(genl->fd, genl->answer, sizeof(genl->answer), 0);
		if (n < 0 && errno == EINTR) {
			rc = 1;
			continue;
		}
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (n == 0)
			return -EPIPE;
		rc = take_answer(genl, (int)n, on_answer, arg, ret_words);
	} while (rc > 0);
	return rc;
}

static const struct err_hint hints[] = {
	{ EPERM, X_PERMISSION,
	  "run as root, outside any container (CAP_SYS_ADMIN is needed)" },
	{ EACCES, X_PERMISSION,
	  "run as root, outside any container (CAP_SYS_ADMIN is needed)" },
	{ EBUSY, X_BUSY, "it is in use; detach it first or choose another" },
	{ ENOSPC, X_BUSY, "the kernel has no more of them; detach one" },
	{ ENOENT, X_KERNEL,
	  "the kernel's nbd driver is gone or too old; run \"modprobe nbd\"" },
	{ EOPNOTSUPP, X_KERNEL,
	  "the kernel's nbd driver is gone or too old; run \"modprobe nbd\"" },
	{ 0, X_FAILURE, "see dmesg" },
};

/* `what` is an infinitive, words those of the kernel. */
static int failed(int rc, const char *what, int32_t index, const char *words,
		  struct err *err)
{
	char device[32] = "a free nbd device";

	if (index != GENL_INDEX_ANY)
		snprintf(device, sizeof(device), "/dev/nbd%d", index);
	return err_explain(err, hints, -rc, "cannot %s %s%s%s", what, device,
			   words ? ": " : "", words ? words : "");
}

/* Sends what was begun, unless rc says that it could not be laid out. */
static int finish(struct genl *genl, int rc, const char *what, int32_t index,
		  answer_fn on_answer, void *arg, struct err *err)
{
	const char *words = NULL;

	if (!rc)
		rc = transact(genl, on_answer, arg, &words);
	return rc ? failed(rc, what, index, words, err) : 0;
}

/* The name that the kernel keeps. */
static int put_backend(struct nl_msg *message, const char *backend)
{
	if (!backend)
		return 0;
	if (strlen(backend) >= GENL_BACKEND_BYTES)
		return -ENAMETOOLONG;
	return nla_put_string(message, GENL_ATTR_BACKEND, backend) ? -EMSGSIZE :
								     0;
}

/* What serves a device. */
static int put_server(struct nl_msg *message, const int *fds,
		      uint32_t fd_count, const char *backend)
{
	struct nlattr *list, *item;
	uint32_t i;

	if (!fd_count || fd_count > GENL_SOCKETS_MAX)
		return -EINVAL;
	list = nla_nest_start(message, NBD_ATTR_SOCKETS);
	if (!list)
		return -EMSGSIZE;
	for (i = 0; i < fd_count; i++) {
		item = nla_nest_start(message, NBD_SOCK_ITEM);
		if (!item ||
		    nla_put_u32(message, NBD_SOCK_FD, (uint32_t)fds[i]))
			return -EMSGSIZE;
		nla_nest_end(message, item);
	}
	nla_nest_end(message, list);
	return put_backend(message, backend);
}

static int put_numbers(struct nl_msg *message, const struct nbd_connect *p)
{
	const struct {
		int attribute;
		uint64_t value;
	} numbers[] = {
		{ NBD_ATTR_SIZE_BYTES, p->size_bytes },
		{ NBD_ATTR_BLOCK_SIZE_BYTES, p->block_bytes },
		{ NBD_ATTR_TIMEOUT, p->timeout_s },
		{ NBD_ATTR_DEAD_CONN_TIMEOUT, p->dead_conn_timeout_s },
		{ NBD_ATTR_SERVER_FLAGS, p->server_flags },
		{ NBD_ATTR_CLIENT_FLAGS, p->client_flags },
	};
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (nla_put_u64(message, numbers[i].attribute,
				numbers[i].value))
			return -EMSGSIZE;
	}
	return 0;
}

static bool on_index(struct nlattr **attrs, void *arg)
{
	int64_t *index = arg;

	if (!attrs[NBD_ATTR_INDEX] ||
	    nla_len(attrs[NBD_ATTR_INDEX]) < (int)sizeof(uint32_t))
		return false;
	*index = nla_get_u32(attrs[NBD_ATTR_INDEX]);
	return true;
}

int genl_nbd_connect(struct genl *genl, const struct nbd_connect *params,
		     uint32_t *ret_index, struct err *err)
{
	int64_t index = params->index;
	int rc;

	rc = begin(genl, NBD_CMD_CONNECT, params->index);
	if (!rc)
		rc = put_numbers(genl->message, params);
	if (!rc)
		rc = put_server(genl->message, params->fds, params->fd_count,
				params->backend);
	rc = finish(genl, rc, "connect", params->index, on_index, &index, err);
	if (rc)
		return rc;
	/*
	 * The index comes in a message of its own, for which the kernel may have
	 * had no memory. The device is connected all the same; without its
	 * number nobody could use or detach it.
	 */
	if (index < 0)
		return failed(-ENOMSG, "connect", params->index, NULL, err);
	*ret_index = (uint32_t)index;
	return 0;
}

int genl_nbd_reconfigure(struct genl *genl, uint32_t index, const int *fds,
			 uint32_t fd_count, const char *backend,
			 struct err *err)
{
	int rc = begin(genl, NBD_CMD_RECONFIGURE, (int32_t)index);

	if (!rc)
		rc = put_server(genl->message, fds, fd_count, backend);
	return finish(genl, rc, "reconfigure", (int32_t)index, NULL, NULL, err);
}

int genl_nbd_resize(struct genl *genl, uint32_t index, uint64_t size_bytes,
		    const char *backend, struct err *err)
{
	int rc = begin(genl, NBD_CMD_RECONFIGURE, (int32_t)index);

	if (!rc && nla_put_u64(genl->message, NBD_ATTR_SIZE_BYTES, size_bytes))
		rc = -EMSGSIZE;
	if (!rc)
		rc = put_backend(genl->message, backend);
	return finish(genl, rc, "resize", (int32_t)index, NULL, NULL, err);
}

int genl_nbd_disconnect(struct genl *genl, uint32_t index, struct err *err)
{
	int rc = begin(genl, NBD_CMD_DISCONNECT, (int32_t)index);

	rc = finish(genl, rc, "disconnect", (int32_t)index, NULL, NULL, err);
	/* nbd_genl_disconnect: the only EINVAL is an index without a device. */
	if (rc == -EINVAL)
		return err_set(err, X_NOT_FOUND, ENODEV,
			       "there is no /dev/nbd%u", index);
	return rc;
}

struct wanted_status {
	uint32_t index;
	bool connected;
};

static bool on_status(struct nlattr **attrs, void *arg)
{
	struct wanted_status *wanted = arg;
	struct nlattr *device[NBD_DEVICE_ATTR_MAX + 1];
	struct nlattr *item;
	int left;

	if (!attrs[NBD_ATTR_DEVICE_LIST])
		return false;
	nla_for_each_nested(item, attrs[NBD_ATTR_DEVICE_LIST], left) {
		if (nla_type(item) != NBD_DEVICE_ITEM)
			continue;
		if (nla_parse_nested(device, NBD_DEVICE_ATTR_MAX, item, NULL) ||
		    !device[NBD_DEVICE_INDEX] ||
		    nla_len(device[NBD_DEVICE_INDEX]) < 4 ||
		    !device[NBD_DEVICE_CONNECTED] ||
		    nla_len(device[NBD_DEVICE_CONNECTED]) < 1)
			return false;
		if (nla_get_u32(device[NBD_DEVICE_INDEX]) == wanted->index)
			wanted->connected =
				nla_get_u8(device[NBD_DEVICE_CONNECTED]);
	}
	return true;
}

int genl_nbd_connected(struct genl *genl, uint32_t index, bool *ret_connected,
		       struct err *err)
{
	struct wanted_status wanted = { .index = index };
	int rc = begin(genl, NBD_CMD_STATUS, (int32_t)index);

	rc = finish(genl, rc, "ask for", (int32_t)index, on_status, &wanted,
		    err);
	if (!rc)
		*ret_connected = wanted.connected;
	return rc;
}
