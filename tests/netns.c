// SPDX-License-Identifier: GPL-2.0-or-later
/* A network name space of a test's own. See netns.h. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/netns.h"

char netns_dir[64];

int netns_run(const char *command)
{
	char line[512];
	int status;

	snprintf(line, sizeof(line),
		 "PATH=$PATH:/usr/sbin:/sbin; { %s; } >%s/out 2>&1", command,
		 netns_dir);
	status = system(line);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void netns_must(const char *command)
{
	char line[300];

	if (netns_run(command) == 0)
		return;
	snprintf(line, sizeof(line), "cat %s/out", netns_dir);
	print_message("%s\n", command);
	(void)!system(line);
	fail();
}

void netns_skip(const char *why)
{
	print_message("skipped: %s\n", why);
	(void)netns_teardown();
	_exit(77);
}

void netns_setup(void)
{
	snprintf(netns_dir, sizeof(netns_dir), "/tmp/nbd-test-netns.XXXXXX");
	assert_non_null(mkdtemp(netns_dir));
	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
		netns_skip("cannot make a network namespace");
	if (netns_run("ip link set lo up && ip link add near type veth peer name far"))
		netns_skip("no ip(8), or no veth");
}

int netns_teardown(void)
{
	char line[128];

	snprintf(line, sizeof(line), "rm -r %s", netns_dir);
	return system(line);
}
