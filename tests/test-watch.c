/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of "status --watch": its frames against files in tests/golden, which
 * NBD_GOLDEN=write makes anew, and the command itself on a terminal of ours.
 */
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/guard.h"
#include "nbd-client/cmd.h"
#include "nbd-client/stats.h"
#include "nbd-client/watch.h"
#include "tests/fake_page.h"
#include "tests/tree.h"

#define CLOCK 1700012345u /* some hours after the page was made */

static struct watch w;
static struct stats_page page;
static uint64_t now_ns;
static char text[WATCH_FRAME_BYTES + 1];

static void take(void)
{
	now_ns += NS_PER_S;
	page.data.heartbeat_ns = page.control_heartbeat_ns = now_ns;
	watch_take(&w, &page, true, now_ns, CLOCK);
}

/* A minute of a load that comes in waves. */
static int setup(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	memset(&page, 0, sizeof(page));
	now_ns = 1000 * NS_PER_S;
	snprintf(page.device, sizeof(page.device), "/dev/nbd0");
	page.pid = 4711;
	fake_page_fill(&page, now_ns);
	w.locked = true;
	snprintf(w.clock_text, sizeof(w.clock_text), "10:42:07");
	take();
	for (uint32_t i = 0; i < 70; i++) {
		uint32_t wave = i % 30 < 15 ? i % 30 : 30 - i % 30;

		fake_page_reads(&page, 100 * wave, 90 + 20 * wave);
		fake_page_reads(&page, wave / 4, 5000);
		fake_page_writes(&page, 1000 - 50 * wave, 700);
		page.data.states[REQUEST_WAITING] = 3 + wave;
		page.data.states[REQUEST_FREE] = 58 - wave;
		take();
	}
	return 0;
}

/* ---- frames ---- */

static const char *frame(const struct frame_screen *screen)
{
	size_t length = watch_frame(&w, screen, text, sizeof(text) - 1);

	text[length] = '\0';
	return text;
}

static void assert_golden(const char *name, const char *shown)
{
	const char *srcdir = getenv("srcdir"), *how = getenv("NBD_GOLDEN");
	static char wanted[sizeof(text)];
	char path[256];
	FILE *file;
	size_t n;

	snprintf(path, sizeof(path), "%s/tests/golden/%s",
		 srcdir ? srcdir : ".", name);
	if (how && !strcmp(how, "write")) {
		file = fopen(path, "w");
		assert_non_null(file);
		fprintf(file, "%s\n", shown);
		assert_int_equal(fclose(file), 0);
		return;
	}
	file = fopen(path, "r");
	if (!file)
		fail_msg("no %s", path);
	n = fread(wanted, 1, sizeof(wanted) - 1, file);
	fclose(file);
	assert_true(n > 0);
	wanted[n - 1] = '\0'; /* the newline at the end of the file */
	assert_string_equal(shown, wanted);
}

static void golden(const char *name, uint32_t columns, uint32_t rows, bool utf8)
{
	const struct frame_screen screen = { .rows = rows, .columns = columns,
					     .utf8 = utf8 };

	assert_golden(name, frame(&screen));
}

static void a_busy_device(void **state)
{
	(void)state;
	golden("watch-80x24", 80, 24, true);
	golden("watch-80x24-ascii", 80, 24, false);
	golden("watch-132x50", 132, 50, true);
	golden("watch-40x10", 40, 10, true);
}

static void memory_is_low(void **state)
{
	(void)state;
	page.memory_tight = 1;
	page.memory_since = CLOCK - 75;
	page.data.low = 1;
	page.data.base_slots = 20;
	page.data.states[REQUEST_FREE] = 40;
	page.data.stray_mallocs = 1;
	page.link = STATS_LINK_CONNECTING;
	page.link_since = CLOCK - 12;
	page.connect_attempts = 3;
	page.shed = STATS_SHED_SHEDDING;
	stats_guarantee_set(page.guarantees, "kernel reserve",
			    GUARANTEE_MISSING, "vm.min_free_kbytes is 1000");
	w.locked = false;
	take();
	golden("watch-low", 100, 24, true);
}

static void a_daemon_that_is_no_more(void **state)
{
	const struct frame_screen color = { .rows = 24, .columns = 80,
					    .utf8 = true, .color = true };

	(void)state;
	watch_take(&w, &page, false, now_ns + 30 * NS_PER_S, CLOCK);
	golden("watch-dead", 80, 24, true);
	/* red from edge to edge */
	assert_non_null(strstr(frame(&color), "\033[1;37;41m          "));
	watch_take(&w, &page, true, now_ns + 90 * NS_PER_S, CLOCK);
	golden("watch-stuck", 80, 24, false);
	page.state = STATS_GONE;
	watch_take(&w, &page, false, now_ns + 91 * NS_PER_S, CLOCK);
	golden("watch-detached", 60, 12, true);
}

static void nothing_yet(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	memset(&page, 0, sizeof(page));
	watch_take(&w, &page, true, now_ns, CLOCK);
	golden("watch-nothing", 80, 24, false);
}

/* Every size: no line too long, none too many, and never beyond the buffer. */
static void any_screen(void **state)
{
	struct frame_screen screen = { .utf8 = true };

	(void)state;
	memset(page.uri, 'x', sizeof(page.uri) - 1);
	take();
	for (screen.rows = 1; screen.rows < 140; screen.rows += 3) {
		for (screen.columns = 1; screen.columns < 300;
		     screen.columns += 7) {
			const char *at = frame(&screen);
			uint32_t rows = 1, columns = 0;

			for (; *at; at++) {
				if (*at == '\n') {
					rows++;
					columns = 0;
					continue;
				}
				columns += ((unsigned char)*at & 0xc0) != 0x80;
				assert_true(columns <= screen.columns);
				assert_true(*at != '\033');
			}
			assert_true(rows <= screen.rows);
		}
	}
	screen = (struct frame_screen){ .rows = 1000, .columns = 1000,
					.utf8 = true, .color = true,
					.terminal = true };
	assert_true(strlen(frame(&screen)) < WATCH_FRAME_BYTES);
	assert_memory_equal(frame(&screen), "\033[H", 3);
}

static void what_has_been_counted(void **state)
{
	(void)state;
	assert_int_equal(w.delta.ns, NS_PER_S);
	fake_page_reads(&page, 300, 100);
	now_ns += NS_PER_S; /* two seconds, with that of take() */
	take();
	assert_int_equal(w.delta.requests[STATS_READ], 300);
	assert_int_equal(w.points[WATCH_REQUESTS][(w.point_count - 1) %
						  WATCH_POINTS], 150);
	/* Another daemon's page: nothing, rather than nonsense. */
	page.data.requests[STATS_READ] = 5;
	take();
	assert_int_equal(w.delta.requests[STATS_READ], 0);
	assert_int_equal(w.delta.bytes[STATS_READ], 0);
}

static void a_line_for_logs(void **state)
{
	char lines[400];
	size_t n;

	(void)state;
	n = (size_t)snprintf(lines, sizeof(lines), "%s", watch_heading);
	n += watch_line(&w, false, lines + n, sizeof(lines) - n);
	n += watch_line(&w, true, lines + n, sizeof(lines) - n);
	assert_true(n < sizeof(lines) - 1);
	assert_golden("watch-lines", lines);
}

static void a_frame_takes_no_memory(void **state)
{
	const struct frame_screen screen = { .rows = 50, .columns = 132,
					     .utf8 = true, .color = true,
					     .terminal = true };
	uint64_t strays = 0;

	(void)state;
	if (!guard_available())
		skip();
	guard_arm(&strays);
	take();
	frame(&screen);
	watch_line(&w, false, text, sizeof(text));
	guard_disarm();
	assert_int_equal(strays, 0);
}

/* ---- the command ---- */

static char tree[TREE_BYTES];
static struct stats_page *shared;
static char seen[1 << 20];
static size_t seen_bytes;
static pid_t pid; /* of the command; 0: it has ended */

static void forget(void)
{
	memset(seen, 0, seen_bytes);
	seen_bytes = 0;
}

static int setup_page(void **state)
{
	(void)state;
	tree_make(tree);
	stats_run_dir = tree;
	if (stats_create("nbd0", &shared, NULL))
		return -1;
	fake_page_fill(shared, UINT64_MAX); /* never silent */
	forget();
	return 0;
}

static int teardown_page(void **state)
{
	(void)state;
	if (pid) { /* of a test that has failed */
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		pid = 0;
	}
	stats_remove("nbd0", shared);
	stats_run_dir = RUN_DIR;
	return tree_remove(tree);
}

static void __attribute__((noreturn)) watch_nbd0(const char *option)
{
	char *argv[] = { "status", (char *)option, "nbd0", NULL };
	struct err err = { 0 };
	int rc;

	setenv("TERM", "xterm", 1);
	unsetenv("NO_COLOR");
	rc = cmd_status.run(3, argv, &err);
	_exit(rc ? err.exit_code : 0);
}

/* On a new terminal, of which ret_fd is the other end. */
static void start(int *ret_fd, struct termios *ret_termios)
{
	const struct winsize size = { .ws_row = 24, .ws_col = 80 };
	int other;

	assert_int_equal(openpty(ret_fd, &other, NULL, NULL, &size), 0);
	assert_int_equal(tcgetattr(*ret_fd, ret_termios), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		login_tty(other);
		watch_nbd0("--watch");
	}
	close(other);
}

/* Reads on until that has been shown so many times. */
static void read_until(int fd, const char *wanted, uint32_t times)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	uint64_t end_ns = clock_now_ns() + 30 * NS_PER_S;

	for (;;) {
		uint32_t found = 0;
		const char *at = seen;
		ssize_t n;

		while ((at = strstr(at, wanted))) {
			found++;
			at++;
		}
		if (found >= times)
			return;
		if (poll(&poll_fd, 1, 30000) != 1 || clock_now_ns() > end_ns)
			fail_msg("not shown: %s", wanted);
		n = read(fd, seen + seen_bytes, sizeof(seen) - 1 - seen_bytes);
		if (n <= 0)
			fail_msg("ended before: %s", wanted);
		seen_bytes += (size_t)n;
		seen[seen_bytes] = '\0';
	}
}

/* The screen is left and the terminal as it was; returns the wait status. */
static int finish(int fd, const struct termios *before)
{
	struct termios after;
	int status;

	read_until(fd, "\033[?25h\033[?1049l", 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	pid = 0;
	assert_int_equal(tcgetattr(fd, &after), 0);
	assert_int_equal(after.c_lflag, before->c_lflag);
	close(fd);
	return status;
}

static void on_a_terminal(void **state)
{
	const struct winsize larger = { .ws_row = 50, .ws_col = 132 };
	struct termios before;
	int fd, status;

	(void)state;
	start(&fd, &before);
	read_until(fd, "\033[?1049h\033[?25l\033[H", 1);
	read_until(fd, "requests/s        0", 1);
	/* More than a quiet second's worth. */
	fake_page_reads(shared, 123456789, 100);
	read_until(fd, "\033[H", 2);
	assert_null(strstr(seen, "  highest "));
	assert_int_equal(ioctl(fd, TIOCSWINSZ, &larger), 0);
	/* Graphs are higher there. */
	read_until(fd, "  highest ", 1);
	assert_int_equal(write(fd, "xq", 2), 2);
	status = finish(fd, &before);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void ends_by_signals(void **state)
{
	struct termios before;
	int fd, status;

	(void)state;
	start(&fd, &before);
	read_until(fd, "\033[H", 1);
	assert_int_equal(write(fd, "\003", 1), 1); /* ctrl-c */
	status = finish(fd, &before);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);

	forget();
	start(&fd, &before);
	read_until(fd, "\033[H", 1);
	kill(pid, SIGTERM);
	status = finish(fd, &before);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGTERM);
}

/* ctrl-z gives the screen back, and takes it again. */
static void stops_and_goes_on(void **state)
{
	struct termios before, now;
	int fd, status;

	(void)state;
	start(&fd, &before);
	read_until(fd, "\033[H", 1);
	assert_int_equal(write(fd, "\032", 1), 1);
	read_until(fd, "\033[?1049l", 1);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(tcgetattr(fd, &now), 0);
	assert_int_equal(now.c_lflag, before.c_lflag);
	kill(pid, SIGCONT);
	read_until(fd, "\033[?1049h", 2);
	forget();
	assert_int_equal(write(fd, "q", 1), 1);
	status = finish(fd, &before);
	assert_true(WIFEXITED(status));
}

static void into_a_pipe(void **state)
{
	int fds[2], status;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(fds[1], STDOUT_FILENO);
		/* It ends with its reader, whatever becomes of that. */
		close(fds[0]);
		close(fds[1]);
		watch_nbd0("--watch=1");
	}
	close(fds[1]);
	read_until(fds[0], " live\n", 2);
	shared->state = STATS_GONE;
	read_until(fds[0], " detached\n", 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	pid = 0;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_null(strchr(seen, '\033'));
	assert_memory_equal(seen, watch_heading, strlen(watch_heading));
	close(fds[0]);
}

static void what_it_refuses(void **state)
{
	char *zero[] = { "status", "--watch=0", "nbd0", NULL };
	char *json[] = { "status", "--watch", "--json", "nbd0", NULL };
	struct err err = { 0 };

	(void)state;
	assert_int_equal(cmd_status.run(3, zero, &err), -EINVAL);
	assert_int_equal(err.exit_code, X_USAGE);
	assert_int_equal(cmd_status.run(4, json, &err), -EINVAL);
	assert_int_equal(err.exit_code, X_USAGE);
}

#define ON_PAGE(test)                                                          \
	cmocka_unit_test_setup_teardown(test, setup_page, teardown_page)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_busy_device, setup),
		cmocka_unit_test_setup(memory_is_low, setup),
		cmocka_unit_test_setup(a_daemon_that_is_no_more, setup),
		cmocka_unit_test_setup(nothing_yet, setup),
		cmocka_unit_test_setup(any_screen, setup),
		cmocka_unit_test_setup(what_has_been_counted, setup),
		cmocka_unit_test_setup(a_line_for_logs, setup),
		cmocka_unit_test_setup(a_frame_takes_no_memory, setup),
		ON_PAGE(on_a_terminal),
		ON_PAGE(ends_by_signals),
		ON_PAGE(stops_and_goes_on),
		ON_PAGE(into_a_pipe),
		ON_PAGE(what_it_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
