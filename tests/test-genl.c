/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of what is said to the nbd driver and how its answers are understood.
 * The driver is a socket pair here: answers are put into it before a call, and
 * the request is looked at afterwards.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <netlink/attr.h>
#include <netlink/genl/genl.h>
#include <netlink/msg.h>

#include "nbd-client/genl.h"

#define FAMILY 0x23

struct fixture {
	struct genl genl;
	int kernel;
};

static int setup(void **state)
{
	static struct fixture f;
	const struct timeval soon = { .tv_usec = 50000 };
	int fds[2];

	memset(&f, 0, sizeof(f));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		return -1;
	f.genl.fd = fds[0];
	f.genl.family = FAMILY;
	f.genl.message = nlmsg_alloc_size(GENL_MESSAGE_BYTES);
	f.kernel = fds[1];
	setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->genl.fd);
	close(f->kernel);
	genl_close(&f->genl);
	return 0;
}

/* The answer to the next request, or to an earlier one. */
static void answer(struct fixture *f, struct nl_msg *message, int ago)
{
	struct nlmsghdr *nlh = nlmsg_hdr(message);

	nlh->nlmsg_seq = f->genl.sequence + 1 - (uint32_t)ago;
	assert_int_equal(send(f->kernel, nlh, nlh->nlmsg_len, 0),
			 nlh->nlmsg_len);
	nlmsg_free(message);
}

static void answer_error(struct fixture *f, int error, int ago)
{
	struct nl_msg *message = nlmsg_alloc_simple(NLMSG_ERROR, 0);
	struct nlmsgerr e = { .error = error };

	assert_int_equal(nlmsg_append(message, &e, sizeof(e), NLMSG_ALIGNTO),
			 0);
	answer(f, message, ago);
}

static struct nl_msg *start_answer(uint8_t command)
{
	struct nl_msg *message = nlmsg_alloc();

	assert_non_null(genlmsg_put(message, 0, 0, FAMILY, 0, 0, command,
				    NBD_GENL_VERSION));
	return message;
}

static void answer_index(struct fixture *f, uint32_t index)
{
	struct nl_msg *message = start_answer(NBD_CMD_CONNECT);

	assert_int_equal(nla_put_u32(message, NBD_ATTR_INDEX, index), 0);
	answer(f, message, 0);
}

/* The request as the driver gets it; attrs as it would parse them. */
static void take_request(struct fixture *f, uint8_t command,
			 struct nlattr *attrs[NBD_ATTR_MAX + 1])
{
	static union {
		struct nlmsghdr nlh;
		uint8_t bytes[8192];
	} request;
	const struct genlmsghdr *g;
	ssize_t n = recv(f->kernel, &request, sizeof(request), 0);

	assert_true(nlmsg_ok(&request.nlh, (int)n));
	assert_int_equal(request.nlh.nlmsg_len, n);
	assert_int_equal(request.nlh.nlmsg_type, FAMILY);
	assert_int_equal(request.nlh.nlmsg_flags, NLM_F_REQUEST | NLM_F_ACK);
	assert_int_equal(request.nlh.nlmsg_seq, f->genl.sequence);
	g = nlmsg_data(&request.nlh);
	assert_int_equal(g->cmd, command);
	assert_int_equal(g->version, 1);
	assert_int_equal(genlmsg_parse(&request.nlh, 0, attrs, NBD_ATTR_MAX,
				       NULL), 0);
}

static void check_u64(struct nlattr *attr, uint64_t value)
{
	assert_non_null(attr);
	assert_int_equal(nla_len(attr), 8);
	assert_true(nla_get_u64(attr) == value);
}

static void check_sockets(struct nlattr *list, const int *fds, int count)
{
	struct nlattr *item, *sock[NBD_SOCK_MAX + 1];
	int left, i = 0;

	assert_non_null(list);
	nla_for_each_nested(item, list, left) {
		assert_int_equal(nla_type(item), NBD_SOCK_ITEM);
		assert_int_equal(nla_parse_nested(sock, NBD_SOCK_MAX, item,
						  NULL), 0);
		assert_int_equal(nla_get_u32(sock[NBD_SOCK_FD]), fds[i]);
		i++;
	}
	assert_int_equal(i, count);
}

static const int fds[] = { 5, 6, 7 };

static struct nbd_connect params(int32_t index)
{
	return (struct nbd_connect){
		.index = index,
		.fds = fds,
		.fd_count = 3,
		.size_bytes = 1ull << 40,
		.block_bytes = 4096,
		.server_flags = 0x5d,
		.client_flags = GENL_DESTROY_ON_DISCONNECT,
		.timeout_s = 0,
		.dead_conn_timeout_s = 1u << 31,
		.backend = "nbd://h/x",
	};
}

static void connect_says_everything(void **state)
{
	struct fixture *f = *state;
	struct nlattr *attrs[NBD_ATTR_MAX + 1];
	struct nbd_connect p = params(3);
	struct err err = { 0 };
	uint32_t index = 99;

	answer_index(f, 3);
	answer_error(f, 0, 0);
	assert_int_equal(genl_nbd_connect(&f->genl, &p, &index, &err), 0);
	assert_int_equal(index, 3);
	take_request(f, NBD_CMD_CONNECT, attrs);
	assert_int_equal(nla_get_u32(attrs[NBD_ATTR_INDEX]), 3);
	check_u64(attrs[NBD_ATTR_SIZE_BYTES], p.size_bytes);
	check_u64(attrs[NBD_ATTR_BLOCK_SIZE_BYTES], 4096);
	/* zero as well: else the last user's time-out would hold */
	check_u64(attrs[NBD_ATTR_TIMEOUT], 0);
	check_u64(attrs[NBD_ATTR_DEAD_CONN_TIMEOUT], 1u << 31);
	check_u64(attrs[NBD_ATTR_SERVER_FLAGS], 0x5d);
	check_u64(attrs[NBD_ATTR_CLIENT_FLAGS], 1);
	check_sockets(attrs[NBD_ATTR_SOCKETS], fds, 3);
	assert_non_null(attrs[10]);
	assert_string_equal(nla_get_string(attrs[10]), "nbd://h/x");
}

static void the_kernel_may_choose(void **state)
{
	struct fixture *f = *state;
	struct nlattr *attrs[NBD_ATTR_MAX + 1];
	struct nbd_connect p = params(GENL_INDEX_ANY);
	uint32_t index = 99;

	p.backend = NULL;
	answer_index(f, 12);
	answer_error(f, 0, 0);
	assert_int_equal(genl_nbd_connect(&f->genl, &p, &index, NULL), 0);
	assert_int_equal(index, 12);
	take_request(f, NBD_CMD_CONNECT, attrs);
	assert_null(attrs[NBD_ATTR_INDEX]);
	assert_null(attrs[10]);
}

static void an_index_is_known_without_answer(void **state)
{
	struct fixture *f = *state;
	struct nbd_connect p = params(4);
	uint32_t index = 99;

	answer_error(f, 0, 0);
	assert_int_equal(genl_nbd_connect(&f->genl, &p, &index, NULL), 0);
	assert_int_equal(index, 4);

	p = params(GENL_INDEX_ANY);
	index = 99;
	answer_error(f, 0, 0);
	assert_int_equal(genl_nbd_connect(&f->genl, &p, &index, NULL),
			 -ENOMSG);
	assert_int_equal(index, 99);
}

static void errors_have_codes(void **state)
{
	static const struct {
		int error, exit_code;
	} cases[] = {
		{ EPERM, X_PERMISSION },   { EACCES, X_PERMISSION },
		{ EBUSY, X_BUSY },	   { ENOSPC, X_BUSY },
		{ ENOENT, X_KERNEL },	   { EOPNOTSUPP, X_KERNEL },
		{ EINVAL, X_FAILURE },	   { ENOMEM, X_FAILURE },
	};
	struct fixture *f = *state;
	struct nbd_connect p = params(3);
	struct nlattr *attrs[NBD_ATTR_MAX + 1];
	uint32_t index = 99;
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err err = { 0 };

		answer_error(f, -cases[i].error, 0);
		assert_int_equal(genl_nbd_connect(&f->genl, &p, &index, &err),
				 -cases[i].error);
		assert_int_equal(err.exit_code, cases[i].exit_code);
		assert_non_null(strstr(err.text, "/dev/nbd3"));
		assert_int_equal(index, 99);
		take_request(f, NBD_CMD_CONNECT, attrs);
	}
}

static void late_answers_are_passed_over(void **state)
{
	struct fixture *f = *state;
	struct nbd_connect p = params(3);
	uint32_t index = 99;

	answer_error(f, -EBUSY, 1);
	answer_index(f, 3);
	answer_error(f, 0, 0);
	assert_int_equal(genl_nbd_connect(&f->genl, &p, &index, NULL), 0);
}

static void silence_ends(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };

	assert_int_equal(genl_nbd_disconnect(&f->genl, 3, &err), -ETIMEDOUT);
	assert_int_equal(err.exit_code, X_FAILURE);
}

static void the_kernels_words_are_passed_on(void **state)
{
	static const char words[] = "no room at the inn";
	struct fixture *f = *state;
	struct nl_msg *message = nlmsg_alloc_simple(NLMSG_ERROR,
						    NLM_F_CAPPED |
							    NLM_F_ACK_TLVS);
	struct nlmsgerr e = { .error = -ERANGE, .msg.nlmsg_len = 400 };
	struct err err = { 0 };

	nlmsg_append(message, &e, sizeof(e), NLMSG_ALIGNTO);
	nla_put_string(message, NLMSGERR_ATTR_MSG, words);
	answer(f, message, 0);
	assert_int_equal(genl_nbd_disconnect(&f->genl, 3, &err), -ERANGE);
	assert_non_null(strstr(err.text, words));
}

static void reconfigure_sends_no_size(void **state)
{
	struct fixture *f = *state;
	struct nlattr *attrs[NBD_ATTR_MAX + 1];

	answer_error(f, 0, 0);
	assert_int_equal(genl_nbd_reconfigure(&f->genl, 2, fds, 1, "id", NULL),
			 0);
	take_request(f, NBD_CMD_RECONFIGURE, attrs);
	assert_int_equal(nla_get_u32(attrs[NBD_ATTR_INDEX]), 2);
	check_sockets(attrs[NBD_ATTR_SOCKETS], fds, 1);
	assert_string_equal(nla_get_string(attrs[10]), "id");
	assert_null(attrs[NBD_ATTR_SIZE_BYTES]);
	assert_null(attrs[NBD_ATTR_BLOCK_SIZE_BYTES]);
	assert_null(attrs[NBD_ATTR_TIMEOUT]);
}

static void resize_sends_only_the_size(void **state)
{
	struct fixture *f = *state;
	struct nlattr *attrs[NBD_ATTR_MAX + 1];
	struct err err = { 0 };

	answer_error(f, 0, 0);
	assert_int_equal(genl_nbd_resize(&f->genl, 3, 5ull << 40, "id", &err),
			 0);
	take_request(f, NBD_CMD_RECONFIGURE, attrs);
	assert_int_equal(nla_get_u32(attrs[NBD_ATTR_INDEX]), 3);
	assert_true(nla_get_u64(attrs[NBD_ATTR_SIZE_BYTES]) == 5ull << 40);
	assert_string_equal(nla_get_string(attrs[10]), "id");
	assert_null(attrs[NBD_ATTR_SOCKETS]);
	assert_null(attrs[NBD_ATTR_BLOCK_SIZE_BYTES]);
	answer_error(f, -EINVAL, 0);
	assert_int_equal(genl_nbd_resize(&f->genl, 3, 1, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.text, "resize /dev/nbd3"));
	take_request(f, NBD_CMD_RECONFIGURE, attrs);
	assert_null(attrs[10]);
}

static void disconnect_of_nothing(void **state)
{
	struct fixture *f = *state;
	struct nlattr *attrs[NBD_ATTR_MAX + 1];
	struct err err = { 0 };

	answer_error(f, 0, 0);
	assert_int_equal(genl_nbd_disconnect(&f->genl, 7, &err), 0);
	take_request(f, NBD_CMD_DISCONNECT, attrs);
	assert_int_equal(nla_get_u32(attrs[NBD_ATTR_INDEX]), 7);
	answer_error(f, -EINVAL, 0);
	assert_int_equal(genl_nbd_disconnect(&f->genl, 7, &err), -ENODEV);
	assert_int_equal(err.exit_code, X_NOT_FOUND);
}

static void add_device(struct nl_msg *message, uint32_t index, uint8_t up)
{
	struct nlattr *item = nla_nest_start(message, NBD_DEVICE_ITEM);

	nla_put_u32(message, NBD_DEVICE_INDEX, index);
	nla_put_u8(message, NBD_DEVICE_CONNECTED, up);
	nla_nest_end(message, item);
}

static void status_is_of_the_one_asked_for(void **state)
{
	struct fixture *f = *state;
	struct nlattr *attrs[NBD_ATTR_MAX + 1], *list;
	struct nl_msg *message;
	uint32_t asked;
	bool connected;

	for (asked = 1; asked < 4; asked++) {
		message = start_answer(NBD_CMD_STATUS);
		list = nla_nest_start(message, NBD_ATTR_DEVICE_LIST);
		add_device(message, 1, 0);
		add_device(message, 2, 1);
		nla_nest_end(message, list);
		answer(f, message, 0);
		answer_error(f, 0, 0);
		connected = asked != 2;
		assert_int_equal(genl_nbd_connected(&f->genl, asked, &connected,
						    NULL), 0);
		assert_int_equal(connected, asked == 2);
		take_request(f, NBD_CMD_STATUS, attrs);
		assert_int_equal(nla_get_u32(attrs[NBD_ATTR_INDEX]), asked);
	}
}

static void broken_answers_are_refused(void **state)
{
	struct fixture *f = *state;
	struct nl_msg *message = start_answer(NBD_CMD_STATUS);
	bool connected = true;

	/* no list */
	answer(f, message, 0);
	assert_int_equal(genl_nbd_connected(&f->genl, 1, &connected, NULL),
			 -EBADMSG);
	/* an error without a number */
	answer(f, nlmsg_alloc_simple(NLMSG_ERROR, 0), 0);
	assert_int_equal(genl_nbd_connected(&f->genl, 1, &connected, NULL),
			 -EBADMSG);
	/* not even a message */
	assert_int_equal(send(f->kernel, "xyz", 3, 0), 3);
	assert_int_equal(genl_nbd_connected(&f->genl, 1, &connected, NULL),
			 -ETIMEDOUT);
	assert_true(connected);
}

static void too_much_is_refused(void **state)
{
	struct fixture *f = *state;
	struct nbd_connect p = params(3);
	char backend[GENL_BACKEND_BYTES + 1];
	uint32_t index = 99;

	memset(backend, 'x', sizeof(backend));
	backend[sizeof(backend) - 1] = '\0';
	p.backend = backend;
	assert_int_equal(genl_nbd_connect(&f->genl, &p, &index, NULL),
			 -ENAMETOOLONG);
	p = params(3);
	p.fd_count = GENL_SOCKETS_MAX + 1;
	assert_int_equal(genl_nbd_connect(&f->genl, &p, &index, NULL),
			 -EINVAL);
	p.fd_count = 0;
	assert_int_equal(genl_nbd_connect(&f->genl, &p, &index, NULL),
			 -EINVAL);
	assert_int_equal(index, 99);
}

static void the_family_of_this_kernel(void **state)
{
	struct genl genl;
	struct err err = { 0 };
	int rc = genl_open(&genl, &err);

	(void)state;
	if (!rc) {
		assert_true(genl.family >= NLMSG_MIN_TYPE);
		genl_close(&genl);
		return;
	}
	assert_int_equal(err.exit_code, X_KERNEL);
	assert_null(genl.sock);
	assert_null(genl.message);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(connect_says_everything),
		TEST(the_kernel_may_choose),
		TEST(an_index_is_known_without_answer),
		TEST(errors_have_codes),
		TEST(late_answers_are_passed_over),
		TEST(silence_ends),
		TEST(the_kernels_words_are_passed_on),
		TEST(reconfigure_sends_no_size),
		TEST(resize_sends_only_the_size),
		TEST(disconnect_of_nothing),
		TEST(status_is_of_the_one_asked_for),
		TEST(broken_answers_are_refused),
		TEST(too_much_is_refused),
		cmocka_unit_test(the_family_of_this_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
