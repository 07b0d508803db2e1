// SPDX-License-Identifier: GPL-2.0-or-later
/* The pinned region: locked, resident, carved, sealed; misuse is caught. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <cmocka.h>

#include "common/pin.h"

#define PAGES 16u

/* ASan brings an mlock() of its own that does nothing. */
#ifdef __SANITIZE_ADDRESS__
#define CANNOT_LOCK true
#else
#define CANNOT_LOCK false
#endif

static uint64_t locked_kbytes(void)
{
	FILE *file = fopen("/proc/self/status", "r");
	unsigned long long kbytes = 0;
	char line[256];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "VmLck: %llu", &kbytes) == 1)
			break;
	fclose(file);
	return kbytes;
}

static void locked_and_resident(void **state)
{
	uint64_t before = locked_kbytes();
	unsigned char resident[PAGES];
	struct pin pin;

	(void)state;
	if (CANNOT_LOCK)
		skip();
	assert_int_equal(pin_init(&pin, PAGES * PIN_PAGE - 1), 0);
	assert_int_equal(pin.bytes, PAGES * PIN_PAGE);
	assert_int_equal(locked_kbytes() - before, PAGES * PIN_PAGE / 1024);
	assert_int_equal(mincore(pin.base, pin.bytes, resident), 0);
	for (uint32_t i = 0; i < PAGES; i++)
		assert_true(resident[i] & 1);
	pin_fini(&pin);
	assert_int_equal(locked_kbytes(), before);
	assert_int_equal(pin.phase, PIN_NONE);
	pin_fini(&pin); /* harmless */
}

static void carved_in_pages(void **state)
{
	struct pin pin;
	uint8_t *a, *b, *c;

	(void)state;
	assert_int_equal(pin_init(&pin, 4 * PIN_PAGE), 0);
	a = pin_carve(&pin, 1);
	b = pin_carve(&pin, PIN_PAGE + 1);
	c = pin_carve(&pin, PIN_PAGE);
	assert_ptr_equal(a, pin.base);
	assert_ptr_equal(b, a + PIN_PAGE);
	assert_ptr_equal(c, b + 2 * PIN_PAGE);
	assert_int_equal((uintptr_t)a % PIN_PAGE, 0);
	assert_int_equal(pin.used, pin.bytes);
	for (size_t i = 0; i < pin.bytes; i++)
		assert_int_equal(pin.base[i], 0);
	pin_seal(&pin);
	assert_int_equal(pin.phase, PIN_SEALED);
	memset(pin.base, 0xff, pin.bytes);
	pin_fini(&pin);
}

static void rounding(void **state)
{
	(void)state;
	assert_int_equal(pin_pages(0), 0);
	assert_int_equal(pin_pages(1), PIN_PAGE);
	assert_int_equal(pin_pages(PIN_PAGE), PIN_PAGE);
	assert_int_equal(pin_pages(PIN_PAGE + 1), 2 * PIN_PAGE);
}

/* ---- in a process of its own ---- */

/* Exit status of a child that runs `body`; -SIGNAL if one ended it. */
static int in_child(int (*body)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
		_exit(body());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Without the right to lock, and with a limit that is too low. */
static int over_the_limit(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct none[2] = { { 0 } };
	struct rlimit limit = { .rlim_cur = 65536, .rlim_max = 65536 };
	struct pin pin = { .phase = PIN_NONE };
	int ret;

	if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0 ||
	    syscall(SYS_capset, &head, none) < 0)
		return 77;
	ret = pin_init(&pin, 1024 * PIN_PAGE);
	if (pin.phase != PIN_NONE || locked_kbytes() != 0)
		return 1;
	return ret == -ENOMEM || ret == -EPERM ? 0 : 2;
}

static void limit_is_told(void **state)
{
	int ret;

	(void)state;
	if (CANNOT_LOCK)
		skip();
	ret = in_child(over_the_limit);
	if (ret == 77)
		skip();
	assert_int_equal(ret, 0);
}

static int too_large(void)
{
	struct pin pin;

	return pin_init(&pin, SIZE_MAX / 4) < 0 ? 0 : 1;
}

static int carve_too_much(void)
{
	struct pin pin;

	pin_init(&pin, PIN_PAGE);
	pin_carve(&pin, PIN_PAGE + 1);
	return 0;
}

static int carve_sealed(void)
{
	struct pin pin;

	pin_init(&pin, PIN_PAGE);
	pin_seal(&pin);
	pin_carve(&pin, 1);
	return 0;
}

static int seal_twice(void)
{
	struct pin pin;

	pin_init(&pin, PIN_PAGE);
	pin_seal(&pin);
	pin_seal(&pin);
	return 0;
}

static void misuse_is_caught(void **state)
{
	(void)state;
	assert_int_equal(in_child(too_large), 0);
	assert_int_equal(in_child(carve_too_much), -SIGABRT);
	assert_int_equal(in_child(carve_sealed), -SIGABRT);
	assert_int_equal(in_child(seal_twice), -SIGABRT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(locked_and_resident),
		cmocka_unit_test(carved_in_pages),
		cmocka_unit_test(rounding),
		cmocka_unit_test(limit_is_told),
		cmocka_unit_test(misuse_is_caught),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
