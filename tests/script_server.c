/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nbd-script-server as a child process.  Single-threaded test code. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/script_server.h"

#define WORDS_MAX 16

static const char *program(void)
{
	static char path[4096];
	const char *told = getenv("NBD_SCRIPT_SERVER");
	ssize_t n;
	char *slash;

	if (told != NULL)
		return told;
	n = readlink("/proc/self/exe", path, sizeof(path) - 64);
	assert_true(n > 0);
	path[n] = '\0';
	slash = strrchr(path, '/');
	/* libtool keeps the real program one directory further down */
	if (slash >= path + 6 && memcmp(slash - 6, "/.libs", 6) == 0)
		slash -= 6;
	memcpy(slash, "/server/nbd-script-server",
	       sizeof("/server/nbd-script-server"));
	return path;
}

void script_server_start(struct script_server *s, const char *arguments)
{
	char words[256];
	char *argv[WORDS_MAX] = { (char *)(uintptr_t)program() };
	char line[64] = "";
	size_t count = 1;
	int out[2];
	FILE *from;

	assert_true(strlen(arguments) < sizeof(words));
	memcpy(words, arguments, strlen(arguments) + 1);
	for (char *at = words; *at != '\0' && count < WORDS_MAX - 1;) {
		argv[count++] = at;
		at += strcspn(at, " ");
		if (*at == ' ')
			*at++ = '\0';
	}
	assert_int_equal(pipe(out), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], STDOUT_FILENO);
		close(out[0]);
		close(out[1]);
		execv(argv[0], argv);
		_exit(127);
	}
	close(out[1]);
	from = fdopen(out[0], "r");
	assert_non_null(from);
	if (fgets(line, sizeof(line), from) == NULL ||
	    sscanf(line, "port %hu", &s->port) != 1)
		fail_msg("%s %s does not start", argv[0], arguments);
	fclose(from);
	snprintf(s->uri, sizeof(s->uri), "nbd://127.0.0.1:%u/", s->port);
}

void script_server_stop(struct script_server *s)
{
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
	}
	s->pid = 0;
}
