// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where the servers are: when that is looked for, and what becomes of an address
 * that was found. Processes are what the test says; the resolver is the host's,
 * which knows "localhost".
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/follow.h"
#include "nbd-client/neighbours.h"

#define STEP_MS 500u

static struct queue queues[2];
static struct stats_page page;
static struct attach_options options;
static struct device_shared shared;
static struct device d;
static struct addr addr;
static struct follow f;
static uint64_t now_ns;

/* ---- in place of others ---- */

static int started;
static bool running;
static int pinned, released;

int process_start(struct process *p, int (*main)(void *arg, int go_fd),
		  void *arg)
{
	assert_ptr_equal(main, follow_look);
	assert_ptr_equal(arg, &d);
	p->pid = ++started;
	return 0;
}

void process_kill(const struct process *p)
{
	(void)p;
	running = false;
}

bool process_ended(struct process *p, int *ret_status)
{
	if (p->pid <= 0 || running)
		return false;
	*ret_status = 0;
	p->pid = 0;
	return true;
}

void neighbours_pin(const struct endpoints *ends, uint32_t at,
		    struct stats_page *p, struct stats_guarantee *rows)
{
	(void)ends;
	(void)rows;
	assert_int_equal(at, p->endpoint);
	pinned++;
	p->neighbours[0].index = 1;
}

void neighbours_release(struct stats_page *p)
{
	released++;
	p->neighbours[0].index = 0;
}

/* ---- a device ---- */

static struct link_addrs *known(uint32_t queue)
{
	return &queues[queue].conn.own.list[0].addrs;
}

static void set_known(uint32_t queue, const char *address)
{
	struct link_addrs *addrs = known(queue);
	struct sockaddr_in *in = (void *)&addrs->addr[addrs->count].sa;

	in->sin_family = AF_INET;
	in->sin_port = htons(10809);
	inet_pton(AF_INET, address, &in->sin_addr);
	addrs->addr[addrs->count++].sa_bytes = sizeof(*in);
}

static bool is_known(uint32_t queue, const char *address)
{
	const struct link_addrs *addrs = known(queue);
	char text[INET_ADDRSTRLEN];

	inet_ntop(AF_INET,
		  &((const struct sockaddr_in *)(const void *)&addrs->addr[0].sa)
			   ->sin_addr,
		  text, sizeof(text));
	return addrs->count == 1 && addrs->addr[0].sa.ss_family == AF_INET &&
	       !strcmp(text, address);
}

static int set_up(void **state)
{
	const struct socket_memory none = { 0 };
	struct err err;
	int reserved;

	(void)state;
	memset(queues, 0, sizeof(queues));
	memset(&page, 0, sizeof(page));
	memset(&shared, 0, sizeof(shared));
	memset(&options, 0, sizeof(options));
	assert_int_equal(addr_parse(&addr, "nbd://localhost/x", &err), 0);
	for (int i = 0; i < 2; i++) {
		struct conn *c = &queues[i].conn;

		c->ends = &c->own;
		c->own.count = 1;
		c->own.list[0] = (struct endpoint){ .addr = &addr,
						    .named = true };
		sockets_init(&c->own.sockets, &none);
		assert_int_equal(sockets_prepare(&c->own.sockets, AF_INET,
						 SOCKETS_COUNT, &reserved,
						 &err), 0);
		set_known(i, "127.0.0.1");
	}
	page.state = STATS_LIVE;
	page.link = STATS_LINK_UP;
	d = (struct device){ .page = &page,
			     .options = &options,
			     .shared = &shared,
			     .queues = queues,
			     .queue_count = 1,
			     .path = "/dev/nbd0" };
	f = (struct follow){ .errand = ERRAND_NONE };
	started = pinned = released = 0;
	running = false;
	now_ns = 1000 * NS_PER_S;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	sockets_fini(&queues[0].conn.own.sockets);
	sockets_fini(&queues[1].conn.own.sockets);
	return 0;
}

/* How often it is looked in so much time. */
static int looks(uint32_t ms)
{
	int before = started;

	for (uint32_t i = 0; i < ms; i += STEP_MS) {
		follow_step(&f, &d, now_ns);
		now_ns += STEP_MS * NS_PER_MS;
	}
	return started - before;
}

static void look(void)
{
	assert_int_equal(follow_look(&d, -1), 0);
	follow_take(&d);
}

/* ---- when ---- */

static void from_time_to_time(void **state)
{
	(void)state;
	assert_int_equal(looks(10 * FOLLOW_UP_MS), 10);
	/* The link is lost: not at once, for mostly it is back at once. */
	page.link = STATS_LINK_DOWN;
	assert_int_equal(looks(FOLLOW_DOWN_MS - STEP_MS), 0);
	assert_int_equal(looks(10 * FOLLOW_DOWN_MS), 10);
	page.link = STATS_LINK_UP;
	assert_int_equal(looks(STEP_MS), 1);
	assert_int_equal(looks(FOLLOW_UP_MS - STEP_MS), 0);
}

static void only_while_plentiful(void **state)
{
	(void)state;
	page.memory_tight = 1;
	assert_int_equal(looks(10 * FOLLOW_UP_MS), 0);
	page.memory_tight = 0;
	page.state = STATS_DETACHING;
	assert_int_equal(looks(10 * FOLLOW_UP_MS), 0);
}

static void only_if_it_can_change(void **state)
{
	(void)state;
	queues[0].conn.own.list[0].named = false;
	assert_int_equal(looks(10 * FOLLOW_UP_MS), 0);
	options.pin_neighbours = true;
	assert_int_equal(looks(10 * FOLLOW_UP_MS), 10);
}

static void one_at_a_time(void **state)
{
	(void)state;
	running = true;
	assert_int_equal(looks(FOLLOW_LIMIT_MS), 1);
	/* It is given up then. */
	assert_int_equal(looks(FOLLOW_UP_MS), 1);
}

/* ---- what is found ---- */

static void the_same_address(void **state)
{
	(void)state;
	look();
	assert_int_equal(shared.found[0].version, 0);
	assert_true(is_known(0, "127.0.0.1"));
}

static void another_address(void **state)
{
	(void)state;
	known(0)->count = 0;
	set_known(0, "127.0.0.9");
	look();
	assert_true(is_known(0, "127.0.0.1"));
	assert_int_equal(shared.found[0].version, 2);
	look();
	assert_int_equal(shared.found[0].version, 2);
}

/* A name of several addresses, of which each connection uses the same one. */
static void several_queues(void **state)
{
	(void)state;
	d.queue_count = 2;
	look();
	assert_int_equal(shared.found[0].version, 0);
	for (uint32_t i = 0; i < 2; i++) {
		known(i)->count = 0;
		set_known(i, "127.0.0.9");
	}
	look();
	assert_true(is_known(0, "127.0.0.1"));
	assert_true(is_known(1, "127.0.0.1"));
}

static void a_name_that_is_gone(void **state)
{
	struct err err;

	(void)state;
	assert_int_equal(addr_parse(&addr, "nbd://nowhere.invalid/x", &err), 0);
	look();
	assert_true(is_known(0, "127.0.0.1"));
}

/* Only IPv6's, for which there are no sockets. */
static void of_no_use(void **state)
{
	struct err err;

	(void)state;
	assert_int_equal(addr_parse(&addr, "nbd://[::1]/x", &err), 0);
	look();
	assert_true(is_known(0, "127.0.0.1"));
}

static void half_written(void **state)
{
	(void)state;
	shared.found[0].version = 5;
	follow_take(&d);
	assert_true(is_known(0, "127.0.0.1"));
	/* Its writer has died; the next one writes all of it. */
	known(0)->count = 0;
	set_known(0, "127.0.0.9");
	look();
	assert_int_equal(shared.found[0].version, 6);
	assert_true(is_known(0, "127.0.0.1"));
}

/* It would drop what the server sends from there. */
static void shedding_ends(void **state)
{
	struct shed_values values = { 0 };

	(void)state;
	d.shed.values = &values;
	shed_hold(&d.shed, now_ns);
	assert_int_not_equal(values.deadline_ns, 0);
	known(0)->count = 0;
	set_known(0, "127.0.0.9");
	look();
	assert_int_equal(values.deadline_ns, 0);
	shed_hold(&d.shed, now_ns);
	assert_int_equal(values.deadline_ns, 0);
	assert_int_equal(stats_guarantee_find(page.guarantees, SHED_ROW)->state,
			 GUARANTEE_DEGRADED);
}

/* ---- neighbours ---- */

static void neighbours_with_the_link(void **state)
{
	(void)state;
	look();
	assert_int_equal(pinned, 0);
	options.pin_neighbours = true;
	look();
	assert_int_equal(pinned, 1);
	page.link = STATS_LINK_DOWN;
	look();
	look();
	assert_int_equal(released, 1);
	assert_int_equal(stats_guarantee_find(page.guarantees,
					      NEIGHBOURS_ROW)->state,
			 GUARANTEE_DEGRADED);
	page.link = STATS_LINK_UP;
	look();
	assert_int_equal(pinned, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(from_time_to_time),
		TEST(only_while_plentiful),
		TEST(only_if_it_can_change),
		TEST(one_at_a_time),
		TEST(the_same_address),
		TEST(another_address),
		TEST(several_queues),
		TEST(a_name_that_is_gone),
		TEST(of_no_use),
		TEST(half_written),
		TEST(shedding_ends),
		TEST(neighbours_with_the_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
