// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the spare sockets: when a process is started to make some, what
 * becomes of one that hangs, and what it puts in. Processes, the nbd driver and
 * the attach lock are what the test says; stores and sockets are real.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/donor.h"
#include "nbd-client/nbd_sysfs.h"
#include "nbd-client/spares.h"

#define STEP_NS (500 * NS_PER_MS)

static struct queue queues[2];
static struct stats_page page;
static struct device d;
static struct endpoint *end; /* the server of both */
static struct addr addr;
static struct tls tls;

/* ---- in place of others ---- */

static int started;     /* processes */
static int maker_status; /* -1: it runs */
static bool hangs;      /* and cannot even be killed */
static uint64_t now_ns;

int process_start(struct process *p, int (*main)(void *arg, int go_fd),
		  void *arg)
{
	assert_ptr_equal(main, spares_make);
	assert_ptr_equal(arg, &d);
	assert_int_equal(p->pid, 0);
	p->pid = ++started;
	maker_status = -1;
	return 0;
}

void process_kill(const struct process *p)
{
	assert_int_equal(p->pid, started);
	if (!hangs)
		maker_status = PROCESS_SIGNAL + 9;
}

bool process_ended(struct process *p, int *ret_status)
{
	if (p->pid <= 0 || maker_status < 0)
		return false;
	*ret_status = maker_status;
	p->pid = 0;
	return true;
}

static bool locked;     /* by somebody else */
static int donations;
static int donations_max; /* then the driver has enough */
static int tight_after;	  /* so many of them */
static int stale;	  /* devices of one that died */

int device_try_lock(struct device *device)
{
	assert_ptr_equal(device, &d);
	return locked ? -1 : 0;
}

void device_unlock(struct device *device)
{
	assert_ptr_equal(device, &d);
}

bool donor_drop_stale(uint32_t *ret_index)
{
	*ret_index = 0;
	return stale > 0 && stale--;
}

int donor_donate_one(int fd, struct genl *genl, uint32_t index, struct err *err)
{
	int type = 0;
	socklen_t bytes = sizeof(type);

	(void)genl;
	assert_int_equal(index, 5);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes), 0);
	assert_int_equal(type, SOCK_STREAM);
	if (donations == donations_max)
		return err_set(err, X_FAILURE, EBUSY, "enough");
	if (++donations == tight_after)
		page.memory_tight = 1;
	return 0;
}

int genl_open(struct genl *ret, struct err *err)
{
	(void)ret;
	(void)err;
	return 0;
}

void genl_close(struct genl *genl)
{
	(void)genl;
}

int nbd_sysfs_find_free(uint32_t *ret_index, struct err *err)
{
	(void)err;
	*ret_index = 5;
	return 0;
}

/* ---- a device ---- */

static uint32_t left(uint32_t queue)
{
	return sockets_left(&queues[queue].conn.own.sockets);
}

static void prepare(struct queue *q)
{
	const struct socket_memory none = { 0 };
	struct conn *c = &q->conn;
	struct err err;
	int reserved;

	c->ends = &c->own;
	c->family = AF_INET;
	c->own.count = 1;
	c->own.list[0] = (struct endpoint){ .addr = &addr, .tls = &tls };
	sockets_init(&c->own.sockets, &none);
	assert_int_equal(sockets_prepare(&c->own.sockets, AF_INET,
					 SOCKETS_COUNT, &reserved, &err), 0);
}

static int set_up(void **state)
{
	(void)state;
	memset(queues, 0, sizeof(queues));
	memset(&page, 0, sizeof(page));
	page.state = STATS_LIVE;
	d = (struct device){ .page = &page,
			     .rows = page.guarantees,
			     .queues = queues,
			     .queue_count = 1,
			     .path = "/dev/nbd0" };
	stats_guarantee_set(page.guarantees, DONOR_ROW, GUARANTEE_OK, "all");
	prepare(&queues[0]);
	prepare(&queues[1]);
	end = &queues[0].conn.own.list[0];
	started = donations = tight_after = stale = 0;
	donations_max = 100;
	locked = hangs = false;
	now_ns = 100 * NS_PER_S;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	sockets_fini(&queues[0].conn.own.sockets);
	sockets_fini(&queues[1].conn.own.sockets);
	return 0;
}

/* One is used up, by a connection. */
static void use_one(uint32_t queue)
{
	struct link_sockets source =
		sockets_source_once(&queues[queue].conn.own.sockets);

	assert_true(source.take(source.arg, AF_INET) >= 0);
}

/* ---- at attach ---- */

static void filled_at_attach(void **state)
{
	struct err err;

	(void)state;
	assert_int_equal(spares_up(&d, &err), 0);
	assert_int_equal(left(0), SOCKETS_SPARES);
	assert_int_equal(donations, SOCKETS_SPARES);
}

static void without_a_use(void **state)
{
	struct err err;

	(void)state;
	queues[0].conn.no_ktls = "as asked for";
	assert_int_equal(spares_up(&d, &err), 0);
	queues[0].conn.no_ktls = NULL;
	queues[0].conn.for_kernel = true;
	assert_int_equal(spares_up(&d, &err), 0);
	queues[0].conn.for_kernel = false;
	end->tls = NULL;
	assert_int_equal(spares_up(&d, &err), 0);
	assert_false(sockets_have_store(&queues[0].conn.own.sockets));
	assert_int_equal(donations, 0);
}

/* Then they need not lie ready either. */
static void others_not_donated(void **state)
{
	struct err err;

	(void)state;
	stats_guarantee_replace(page.guarantees, DONOR_ROW, GUARANTEE_DEGRADED,
				"no driver");
	assert_int_equal(spares_up(&d, &err), 0);
	assert_int_equal(donations + (int)left(0), 0);
	for (int i = 0; i < 3; i++)
		use_one(0);
	assert_true(queues[0].conn.own.sockets.ready[SOCKETS_COUNT + 2].once);
}

/* Fewer are no reason not to attach, and no queue has all of them. */
static void fewer_than_wanted(void **state)
{
	struct err err;

	(void)state;
	d.queue_count = 2;
	donations_max = 2;
	assert_int_equal(spares_up(&d, &err), 0);
	assert_int_equal(left(0), 1);
	assert_int_equal(left(1), 1);
}

/* ---- later ---- */

static void up(void)
{
	struct err err;

	assert_int_equal(spares_up(&d, &err), 0);
	donations = 0;
}

static void makes_what_lacks(void **state)
{
	(void)state;
	up();
	use_one(0);
	use_one(0);
	stale = 1;
	assert_int_equal(spares_make(&d, -1), 0);
	assert_int_equal(donations, 2);
	assert_int_equal(left(0), SOCKETS_SPARES);
	assert_int_equal(stale, 0);
}

/* What was not donated is not put in. */
static void makes_what_it_can(void **state)
{
	(void)state;
	up();
	for (int i = 0; i < 3; i++)
		use_one(0);
	donations_max = 1;
	assert_int_equal(spares_make(&d, -1), 1);
	assert_int_equal(left(0), SOCKETS_SPARES - 2);
	locked = true;
	donations_max = 100;
	assert_int_equal(spares_make(&d, -1), 1);
	assert_int_equal(left(0), SOCKETS_SPARES - 2);
	locked = false;
	tight_after = donations + 1;
	assert_int_equal(spares_make(&d, -1), 0);
	assert_int_equal(left(0), SOCKETS_SPARES - 1);
}

static bool is_started(struct errand *s)
{
	int before = started;

	now_ns += STEP_NS;
	spares_step(s, &d, now_ns);
	return started > before;
}

static void started_while_plentiful(void **state)
{
	struct errand s = ERRAND_NONE;
	uint64_t failed_ns;

	(void)state;
	up();
	assert_false(is_started(&s)); /* none lacks */
	use_one(0);
	page.memory_tight = 1;
	assert_false(is_started(&s));
	page.memory_tight = 0;
	page.state = STATS_DETACHING;
	assert_false(is_started(&s));
	page.state = STATS_LIVE;
	assert_true(is_started(&s));
	assert_false(is_started(&s)); /* one at a time */
	maker_status = 0;
	assert_true(is_started(&s)); /* it came too late for that one */
	maker_status = 1;
	assert_false(is_started(&s));
	failed_ns = now_ns;
	while (!is_started(&s))
		assert_true(now_ns < failed_ns + 60 * NS_PER_S);
	assert_true(now_ns - failed_ns >= SPARES_RETRY_MS * NS_PER_MS);
}

/* It may wait for memory that only the device can free. */
static void one_that_hangs(void **state)
{
	struct errand s = ERRAND_NONE;

	(void)state;
	up();
	use_one(0);
	assert_true(is_started(&s));
	hangs = true;
	for (int i = 0; i < 1000; i++)
		assert_false(is_started(&s));
	assert_int_equal(s.process.pid, 1);
	/* It goes when it can; then there is another. */
	hangs = false;
	assert_false(is_started(&s));
	assert_int_equal(maker_status, PROCESS_SIGNAL + 9);
	while (!is_started(&s))
		assert_true(now_ns < 1000 * NS_PER_S);
}

/* A supervisor that ends leaves no nbd device behind that one was at. */
static void given_up_at_the_end(void **state)
{
	struct errand s = ERRAND_NONE;

	(void)state;
	up();
	use_one(0);
	stale = 1;
	spares_end(&s, &d);
	assert_int_equal(stale, 1);
	assert_true(is_started(&s));
	spares_end(&s, &d);
	assert_int_equal(stale, 0);
	assert_int_equal(s.process.pid, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(filled_at_attach),
		TEST(without_a_use),
		TEST(others_not_donated),
		TEST(fewer_than_wanted),
		TEST(makes_what_lacks),
		TEST(makes_what_it_can),
		TEST(started_while_plentiful),
		TEST(one_that_hangs),
		TEST(given_up_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
