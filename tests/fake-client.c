/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fake-client DIR COMMAND [ARG...]: a command of nbd-client that reads status
 * pages, on a page in DIR as if nbd0 had been attached there and were busy.
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/clock.h"
#include "nbd-client/cmd.h"
#include "nbd-client/stats.h"
#include "tests/fake_page.h"

/* A load that swells and ebbs, until the parent is gone. */
static void serve(struct stats_page *page)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint32_t i = 0;; i++) {
		uint64_t many = (uint64_t)(60 + 50 * sin(i / 40.0));

		fake_page_reads(page, many, 90 + i % 7 * 60);
		fake_page_reads(page, many / 20, 4000);
		fake_page_writes(page, many / 3, 700 + i % 3 * 900);
		page->data.states[REQUEST_WAITING] = many / 4;
		page->data.states[REQUEST_FREE] =
			page->slots - page->data.states[REQUEST_PARKED] -
			page->data.states[REQUEST_SENDING] -
			page->data.states[REQUEST_WAITING] -
			page->data.states[REQUEST_RECEIVING];
		page->data.heartbeat_ns = page->control_heartbeat_ns =
			clock_now_ns();
		usleep(50000);
	}
}

int main(int argc, char **argv)
{
	static const struct command *const commands[] = {
		&cmd_list, &cmd_metrics, &cmd_status,
	};
	struct err err = { 0 };
	struct stats_page *page;
	int rc = -1;
	pid_t pid;

	if (argc < 3) {
		fprintf(stderr, "usage: fake-client DIR COMMAND [ARG...]\n");
		return X_USAGE;
	}
	stats_run_dir = argv[1];
	if (stats_create("nbd0", &page, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	fake_page_fill(page, clock_now_ns());
	pid = fork();
	if (!pid)
		serve(page);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (!strcmp(argv[2], commands[i]->name))
			rc = commands[i]->run(argc - 2, argv + 2, &err);
	}
	kill(pid, SIGKILL);
	stats_remove("nbd0", page);
	if (rc)
		fprintf(stderr, "%s\n", err.text);
	return rc ? err.exit_code : 0;
}
