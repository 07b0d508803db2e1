// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbd-client status --watch: the screen, the keys and the clock around watch.c.
 * People look at it when memory is gone, so all that it will need is there and
 * locked before the first frame; then it allocates nothing, opens nothing as
 * long as the daemon lives, and writes each frame with one call. Command line.
 */
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/guard.h"
#include "nbd-client/cmd.h"
#include "nbd-client/stats.h"
#include "nbd-client/watch.h"

#define STACK_BYTES (64u * KIB)

/* The alternate screen without a cursor, and back. */
#define SCREEN_ENTER "\033[?1049h\033[?25l"
#define SCREEN_LEAVE "\033[?25h\033[?1049l"

struct watcher {
	const struct stats_page *page;
	uint64_t interval_ns, next_ns;
	struct output_options options;
	struct stats_page copy;
	struct watch watch;
	struct frame_screen screen;
	struct termios termios; /* as they were */
	bool raw;
	bool keys; /* standard input has some */
	int signal_fd;
	sigset_t signals, former;
	int signal; /* that has ended it; or 0 */
	uint64_t strays;
	char text[WATCH_FRAME_BYTES];
};

static int write_all(const char *text, size_t length)
{
	while (length) {
		ssize_t n = write(STDOUT_FILENO, text, length);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd fd = { .fd = STDOUT_FILENO,
					     .events = POLLOUT };

			(void)poll(&fd, 1, -1);
		} else if (n < 0 && errno != EINTR) {
			return -errno;
		} else if (n > 0) {
			text += n;
			length -= (size_t)n;
		}
	}
	return 0;
}

/* ---- The terminal ---- */

static void measure(struct frame_screen *screen)
{
	struct winsize size;

	screen->rows = 24;
	screen->columns = 80;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_row ||
	    !size.ws_col)
		return;
	screen->rows = size.ws_row;
	screen->columns = size.ws_col;
}

static int enter(struct watcher *w)
{
	struct termios raw = w->termios;

	if (!w->screen.terminal)
		return 0;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	w->raw = !tcsetattr(STDOUT_FILENO, TCSADRAIN, &raw);
	measure(&w->screen);
	return write_all(SCREEN_ENTER, strlen(SCREEN_ENTER));
}

static void leave(struct watcher *w)
{
	if (!w->screen.terminal)
		return;
	(void)write_all(SCREEN_LEAVE, strlen(SCREEN_LEAVE));
	if (w->raw)
		(void)tcsetattr(STDOUT_FILENO, TCSAFLUSH, &w->termios);
	w->raw = false;
}

/* ---- Before the first frame ---- */

static bool is_set(const char *variable)
{
	const char *value = getenv(variable);

	return value && *value;
}

static void look_at_output(struct watcher *w)
{
	const char *term = getenv("TERM");

	setlocale(LC_CTYPE, "");
	w->screen.utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
	w->screen.terminal = isatty(STDOUT_FILENO) && term && *term &&
			     strcmp(term, "dumb") != 0 &&
			     !tcgetattr(STDOUT_FILENO, &w->termios);
	w->screen.color = w->screen.terminal && !is_set("NO_COLOR");
	w->keys = w->screen.terminal && isatty(STDIN_FILENO);
}

static int take_signals(struct watcher *w, struct err *err)
{
	static const int taken[] = { SIGINT,  SIGTERM, SIGHUP,
				     SIGQUIT, SIGTSTP, SIGWINCH };

	w->signal_fd = -1;
	if (!w->screen.terminal)
		return 0;
	sigemptyset(&w->signals);
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		sigaddset(&w->signals, taken[i]);
	w->signal_fd = signalfd(-1, &w->signals, SFD_CLOEXEC);
	if (w->signal_fd < 0)
		return err_explain(err, NULL, errno, "cannot take signals");
	sigprocmask(SIG_BLOCK, &w->signals, &w->former);
	return 0;
}

static __attribute__((noinline)) void touch_stack(void)
{
	volatile char stack[STACK_BYTES];

	for (size_t i = 0; i < sizeof(stack); i += 1024)
		stack[i] = 0;
}

static void read_clock(struct watch *watch)
{
	time_t now = time(NULL);
	struct tm tm;

	if (!localtime_r(&now, &tm) ||
	    !strftime(watch->clock_text, sizeof(watch->clock_text), "%H:%M:%S",
		      &tm))
		watch->clock_text[0] = '\0';
}

/*
 * A thread that has just beaten is alive. Only of others /proc is asked, since
 * opening a file takes memory, of the kernel's.
 */
static bool is_alive(const struct stats_page *page, uint64_t now_ns)
{
	uint64_t beat = page->data.heartbeat_ns;

	return (beat && stats_silent_ns(beat, now_ns) <
				2 * HEARTBEAT_MS * NS_PER_MS) ||
	       stats_alive(page);
}

static void sample(struct watcher *w)
{
	uint64_t now_ns = clock_now_ns();

	read_clock(&w->watch);
	stats_copy(w->page, &w->copy);
	watch_take(&w->watch, &w->copy, is_alive(&w->copy, now_ns), now_ns,
		   (uint64_t)time(NULL));
}

/* ---- Frame by frame ---- */

static int show(struct watcher *w)
{
	size_t length;

	length = w->screen.terminal ?
			 watch_frame(&w->watch, &w->screen, w->text,
				     sizeof(w->text)) :
			 watch_line(&w->watch, w->options.bytes, w->text,
				    sizeof(w->text));
	return write_all(w->text, length);
}

static int stop_and_go_on(struct watcher *w)
{
	leave(w);
	raise(SIGSTOP);
	return enter(w);
}

/* 1: it is time to end; 0; or -errno. */
static int on_signal(struct watcher *w)
{
	struct signalfd_siginfo info;

	if (read(w->signal_fd, &info, sizeof(info)) != sizeof(info))
		return 0;
	switch (info.ssi_signo) {
	case SIGWINCH:
		measure(&w->screen);
		return show(w);
	case SIGTSTP:
		return stop_and_go_on(w);
	default:
		w->signal = (int)info.ssi_signo;
		return 1;
	}
}

static int on_key(struct watcher *w)
{
	char key;
	ssize_t n = read(STDIN_FILENO, &key, 1);

	if (n == 0 || (n < 0 && errno != EINTR))
		w->keys = false;
	return n == 1 && (key == 'q' || key == 'Q');
}

/* Until the next sample is due, or the end. As above. */
static int wait_for_next(struct watcher *w)
{
	int rc = 0;

	while (!rc) {
		struct pollfd fds[] = {
			{ .fd = w->signal_fd, .events = POLLIN },
			{ .fd = w->keys ? STDIN_FILENO : -1, .events = POLLIN },
		};
		uint64_t now = clock_now_ns();

		if (now >= w->next_ns)
			return 0;
		/* Rounded up: not once more for the last part of one. */
		if (poll(fds, 2, (int)((w->next_ns - now) / NS_PER_MS + 1)) < 0)
			continue;
		if (fds[0].revents)
			rc = on_signal(w);
		if (!rc && fds[1].revents)
			rc = on_key(w);
	}
	return rc;
}

static int loop(struct watcher *w)
{
	int rc;

	do {
		w->next_ns = clock_now_ns() + w->interval_ns;
		sample(w);
		rc = show(w);
		if (!rc && !w->screen.terminal &&
		    w->watch.page.state == STATS_GONE)
			return 0;
		if (!rc)
			rc = wait_for_next(w);
	} while (!rc);
	return rc > 0 ? 0 : rc;
}

int cmd_watch(const struct stats_page *page, uint32_t interval_ms,
	      const struct output_options *options, struct err *err)
{
	static struct watcher w; /* large */
	int rc;

	memset(&w, 0, sizeof(w));
	w.page = page;
	w.interval_ns = interval_ms * NS_PER_MS;
	w.options = *options;
	look_at_output(&w);
	rc = take_signals(&w, err);
	if (rc)
		return rc;
	read_clock(&w.watch); /* the time zone is read once */
	touch_stack();
	w.watch.locked = !mlockall(MCL_CURRENT | MCL_FUTURE);
	guard_arm(&w.strays);
	rc = enter(&w);
	if (!rc && !w.screen.terminal && !options->no_headings)
		rc = write_all(watch_heading, strlen(watch_heading));
	if (!rc)
		rc = loop(&w);
	leave(&w);
	guard_disarm();
	if (w.signal_fd >= 0) {
		close(w.signal_fd);
		sigprocmask(SIG_SETMASK, &w.former, NULL);
	}
	/* ctrl-c is the usual end, others are to be seen by whoever sent them. */
	if (w.signal && w.signal != SIGINT)
		raise(w.signal);
	if (rc)
		return err_explain(err, NULL, -rc, "cannot write the output");
	if (w.strays)
		return err_set(err, X_FAILURE, ENOMEM,
			       "memory was allocated %llu times while watching, "
			       "which is an error of this program",
			       (unsigned long long)w.strays);
	return 0;
}
