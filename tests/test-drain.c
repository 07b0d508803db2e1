// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of switching off and writing back as somebody watches it. The swap is
 * a number that all processes see, its server a flag; the manager is here, too.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "nbd-client/drain.h"
#include "nbd-client/notify.h"
#include "nbd-client/swap.h"

#define PIECE (8u * 1024 * 1024)

/* In shared memory: it is another process that switches off. */
static struct world {
	uint64_t used_bytes;
	uint32_t active;
	uint32_t pieces_max; /* come back, then the server is gone */
	uint32_t failures;   /* so many attempts fail for want of memory */
	uint32_t killed;     /* so many are killed for it */
	uint32_t busy;	     /* all fail, for somebody uses it */
	uint32_t elsewhere;  /* so many fail, for somebody else does it */
	uint32_t calls;
	uint32_t link; /* after the pieces */
} *world;
static struct stats_page *page; /* likewise */
static char path[sizeof(((struct blockdev *)0)->path)];
static struct blockdev dev;
static struct err err;
_Static_assert(sizeof(path) > 23, "a file in /tmp");

int swap_look(const char *device, bool *ret_active, uint64_t *ret_used_bytes)
{
	assert_string_equal(device, path);
	*ret_active = world->active;
	*ret_used_bytes = world->used_bytes;
	return 0;
}

int swap_is_active(const char *device, bool *ret_active)
{
	uint64_t used;

	return swap_look(device, ret_active, &used);
}

/* A piece each third of a second; it does not hear signals while it waits. */
int swap_deactivate(const char *device, struct err *e)
{
	uint32_t pieces = 0;

	(void)device;
	world->calls++;
	if (world->killed && world->killed--)
		raise(SIGKILL);
	if (world->failures && world->failures--)
		return err_set(e, X_FAILURE, ENOMEM, "cannot: memory");
	if (world->elsewhere && world->elsewhere--)
		return err_set(e, X_FAILURE, EINVAL, "cannot: by another");
	if (world->busy)
		return err_set(e, X_BUSY, EBUSY, "cannot: in use");
	while (world->used_bytes) {
		if (pieces++ == world->pieces_max) {
			page->link = world->link;
			for (;;)
				pause();
		}
		world->used_bytes -= PIECE;
		poll(NULL, 0, 300);
	}
	world->active = 0;
	return 0;
}

static char progress[256];
static uint32_t extended, progresses;

void notify_progress(const char *text, uint32_t extend_s)
{
	snprintf(progress, sizeof(progress), "%s", text);
	progresses++;
	extended += extend_s != 0;
}

static int setup(void **state)
{
	int fd;

	(void)state;
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(world != MAP_FAILED && page != MAP_FAILED);
	world->pieces_max = UINT32_MAX;
	world->link = page->link = STATS_LINK_UP;
	memcpy(path, "/tmp/test-drain.XXXXXX", 23);
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	dev = (struct blockdev){ .front = FRONT_NBD };
	memcpy(dev.path, path, sizeof(path));
	memset(&err, 0, sizeof(err));
	progress[0] = '\0';
	extended = progresses = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	munmap(world, sizeof(*world));
	munmap(page, sizeof(*page));
	return unlink(path);
}

static struct drain drain(void)
{
	return (struct drain){ .dev = &dev,
			       .page = page,
			       .flush = true,
			       .give_up_ms = DRAIN_NEVER };
}

static void use(uint32_t pieces)
{
	world->active = 1;
	world->used_bytes = (uint64_t)pieces * PIECE;
}

static void nothing_to_switch_off(void **state)
{
	struct drain d = drain();

	(void)state;
	assert_int_equal(drain_run(&d, &err), 0);
	assert_int_equal(world->calls, 0);
	assert_int_equal(progresses, 0);
}

static void progress_is_told(void **state)
{
	struct drain d = drain();
	unsigned int left, seconds;
	double rate;

	(void)state;
	use(10);
	assert_int_equal(drain_run(&d, &err), 0);
	assert_false(world->active);
	/* Three seconds, or longer on a busy machine, and each something has come back. */
	assert_in_range(progresses, 2, 60);
	assert_int_equal(extended, progresses);
	assert_int_equal(sscanf(progress,
				"%*s switching swap off: %u%*c to bring back, %lfM/s, about %u s",
				&left, &rate, &seconds), 3);
	assert_in_range(left, 0, 40);
	assert_true(rate > 0 && rate < 60);
}

static void memory_that_lacks(void **state)
{
	struct drain d = drain();

	(void)state;
	use(1);
	world->failures = 1;
	assert_int_equal(drain_run(&d, &err), -ENOMEM);
	assert_string_equal(err.text, "cannot: memory");
	world->killed = 1;
	assert_int_equal(drain_run(&d, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "swapoff was killed"));
	assert_int_equal(world->calls, 2);
	/* At shutdown others end, and then there is more. */
	world->failures = world->killed = 1;
	d.patient = true;
	err_clear(&err);
	assert_int_equal(drain_run(&d, &err), 0);
	assert_int_equal(world->calls, 5);
	assert_int_equal(err.exit_code, 0);
}

static void a_link_that_is_down_from_the_beginning(void **state)
{
	struct drain d = drain();

	(void)state;
	use(1);
	page->link = STATS_LINK_DOWN;
	d.give_up_ms = 0;
	assert_int_equal(drain_run(&d, &err), 1);
	assert_int_equal(world->calls, 0);
}

/* Stuck, and deaf: it is this process that gives up. */
static void a_link_that_goes_down(void **state)
{
	struct drain d = drain();

	(void)state;
	use(9);
	world->pieces_max = 3;
	world->link = STATS_LINK_CONNECTING;
	d.give_up_ms = 1500;
	assert_int_equal(drain_run(&d, &err), 1);
	assert_int_equal(world->used_bytes, 6 * PIECE);
	/* Where nothing comes back, no time is asked for. */
	assert_in_range(extended, 1, progresses - 1);
}

/* At shutdown whoever uses it may be stuck for want of the link. */
static void in_use(void **state)
{
	struct drain d = drain();

	(void)state;
	use(1);
	world->busy = 1;
	d.patient = true;
	assert_int_equal(drain_run(&d, &err), -EBUSY);
	assert_int_equal(world->calls, 1);
	page->link = STATS_LINK_DOWN;
	d.give_up_ms = 2500;
	assert_int_equal(drain_run(&d, &err), 1);
	assert_in_range(world->calls, 2, 4);
}

/* A service manager may be at it at the same time. */
static void by_another_process(void **state)
{
	struct drain d = drain();

	(void)state;
	use(1);
	world->elsewhere = 1;
	assert_int_equal(drain_run(&d, &err), 0);
	assert_int_equal(world->calls, 2);
	assert_int_equal(err.exit_code, 0);
}

/* A file in the place of the device; what cannot be written there is told. */
static void what_cannot_be_flushed(void **state)
{
	struct drain d = drain();

	(void)state;
	snprintf(dev.path, sizeof(dev.path), "/tmp");
	snprintf(path, sizeof(path), "/tmp");
	assert_int_equal(drain_run(&d, &err), -EISDIR);
	d.flush = false;
	err_clear(&err);
	assert_int_equal(drain_run(&d, &err), 0);
	setup(state); /* teardown wants a file */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_to_switch_off),
		TEST(progress_is_told),
		TEST(memory_that_lacks),
		TEST(a_link_that_is_down_from_the_beginning),
		TEST(a_link_that_goes_down),
		TEST(in_use),
		TEST(by_another_process),
		TEST(what_cannot_be_flushed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
