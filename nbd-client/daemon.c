// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The process around a device: going to the background, telling the caller how
 * it went, signals, and the control thread's loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "nbd-client/device.h"

#define TICK_MS 1000

extern char **environ;

/* What a daemon tells the process that started it. */
struct daemon_report {
	char device[DEVICE_NAME_BYTES];
	struct err err; /* exit_code 0: the device is usable */
};

/* ---- the control thread's loop ---- */

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	/* Threads made later inherit the mask: signals come to us alone. */
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/*
 * Asked to end: do what an administrator would, in a process of its own,
 * because swapoff can take minutes in which the link must be looked after.
 */
static void spawn_detach(struct device *d)
{
	char *argv[] = { (char *)"nbd-client", (char *)"detach", d->path,
			 NULL };
	posix_spawnattr_t attr;
	sigset_t none;
	pid_t pid;
	int ret;

	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	ret = posix_spawn(&pid, "/proc/self/exe", NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	if (ret)
		log_say(LOG_LEVEL_ERR, "%s: cannot start detach: %s", d->path,
			strerror(ret));
}

static void on_signal(struct device *d, int signal_fd)
{
	struct signalfd_siginfo info;

	while (read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			continue;
		log_say(LOG_LEVEL_NOTICE, "%s: signal %u: detaching", d->path,
			info.ssi_signo);
		spawn_detach(d);
	}
}

/* True: the device is to be detached, and this client waits for it. */
static bool on_request(struct device *d, const struct ctl_request *request,
		       uint32_t client)
{
	struct err err = { 0 };

	if (request->command != CTL_DETACH) {
		ctl_reply(&d->ctl, client,
			  request->command == CTL_PING ? EXIT_OK : X_USAGE,
			  request->command == CTL_PING ? NULL : "unknown request");
		return false;
	}
	if (!(request->flags & CTL_FLAG_FORCE)) {
		if (device_check_idle(d, &err) < 0) {
			ctl_reply(&d->ctl, client, err.exit_code, err.text);
			return false;
		}
	}
	d->detach_asked = true;
	d->detach_client = client;
	return true;
}

/* Until somebody detaches the device, or it goes away by itself. */
static int serve(struct device *d, int signal_fd, bool *ret_force)
{
	struct pollfd fds[CTL_POLLFDS + 4];
	struct ctl_request request;
	uint32_t client;
	uint64_t tick_ns = 0;

	for (;;) {
		int due_ms = conn_due_ms(&d->conn, clock_now_ns());
		size_t n;

		fds[0] = (struct pollfd){ .fd = d->news_fd, .events = POLLIN };
		fds[1] = (struct pollfd){ .fd = signal_fd, .events = POLLIN };
		fds[2] = (struct pollfd){ .fd = d->pressure.trigger_fd,
					  .events = POLLPRI };
		conn_pollfd(&d->conn, &fds[3]);
		ordinary_update(&d->ctl.ordinary, engine_is_low(d->engine),
				clock_now_ns());
		n = 4 + ctl_pollfds(&d->ctl, fds + 4);
		poll(fds, n, due_ms >= 0 && due_ms < TICK_MS ? due_ms : TICK_MS);
		if (fds[0].revents)
			device_on_news(d);
		if (fds[1].revents)
			on_signal(d, signal_fd);
		if (fds[2].revents)
			device_on_pressure(d, fds[2].revents);
		while (ctl_step(&d->ctl, &request, &client)) {
			if (!on_request(d, &request, client))
				continue;
			*ret_force = request.flags & CTL_FLAG_FORCE;
			return 0;
		}
		if (d->failed)
			return -EIO;
		if (d->front_gone)
			return -ENODEV;
		if (fds[3].revents || conn_due_ms(&d->conn, clock_now_ns()) == 0)
			device_step_link(d);
		if (clock_now_ns() - tick_ns >= NS_PER_S) {
			tick_ns = clock_now_ns();
			device_tick(d);
		}
	}
}

static int run(const struct attach_options *o,
	       void (*on_ready)(const char *device, void *arg), void *arg,
	       struct err *err)
{
	/* Some 40 KiB; not on a stack of known size. */
	static struct device device;
	bool force = false;
	int signal_fd = open_signals();
	int ret;

	if (signal_fd < 0)
		return err_set(err, X_FAILURE, errno, "cannot make a signalfd: %s",
			       strerror(errno));
	srandom((unsigned int)getpid() ^ (unsigned int)clock_now_ns());
	ret = device_attach(&device, o, err);
	if (ret < 0) {
		close(signal_fd);
		return ret;
	}
	log_say(LOG_LEVEL_NOTICE, "%s: attached to %s", device.path,
		device.uri);
	on_ready(device.path, arg);
	/* Children are reaped by the kernel; nobody here waits for one. */
	signal(SIGCHLD, SIG_IGN);
	ret = serve(&device, signal_fd, &force);
	close(signal_fd);
	if (ret == -EIO)
		err_set(err, X_FAILURE, EIO,
			"the data thread's io_uring failed; requests cannot be served any more");
	if (ret == -ENODEV) {
		log_say(LOG_LEVEL_WARNING,
			"%s: somebody else has disconnected the device",
			device.path);
		ret = 0;
	}
	device_detach(&device, force);
	log_say(LOG_LEVEL_NOTICE, "%s: detached", device.path);
	return ret;
}

/* ---- to the background ---- */

/* Write all of it or nobody is there to read. */
static void send_report(int fd, const struct daemon_report *report)
{
	const char *from = (const char *)report;
	size_t left = sizeof(*report);

	while (left) {
		ssize_t n = write(fd, from, left);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		from += n;
		left -= (size_t)n;
	}
}

static bool read_report(int fd, struct daemon_report *report)
{
	char *to = (char *)report;
	size_t left = sizeof(*report);

	while (left) {
		ssize_t n = read(fd, to, left);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		to += n;
		left -= (size_t)n;
	}
	return true;
}

/* Nothing of the terminal or the working directory is kept. */
static void leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		if (null > STDERR_FILENO)
			close(null);
	}
}

static void report_ready(const char *device, void *arg)
{
	int *fd = arg;
	struct daemon_report report = { 0 };

	strncpy(report.device, device, sizeof(report.device) - 1);
	leave_terminal();
	send_report(*fd, &report);
	close(*fd);
	*fd = -1;
}

_Noreturn static void daemon_main(const struct attach_options *o, int fd)
{
	struct daemon_report report = { 0 };
	int ret;

	setsid();
	if (chdir("/") < 0)
		report.err.error = errno; /* then it keeps a mount busy */
	log_open("nbd-client", LOG_TO_SYSLOG, LOG_LEVEL_INFO);
	ret = run(o, report_ready, &fd, &report.err);
	if (ret < 0 && fd >= 0)
		send_report(fd, &report);
	_exit(ret < 0 ? report.err.exit_code : EXIT_OK);
}

static int start_daemon(const struct attach_options *o,
			char ret_device[DEVICE_NAME_BYTES], struct err *err)
{
	struct daemon_report report;
	int fds[2];
	pid_t pid;
	int ret = 0;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(err, X_FAILURE, errno, "cannot make a pipe: %s",
			       strerror(errno));
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		daemon_main(o, fds[1]);
	}
	close(fds[1]);
	if (pid < 0)
		ret = err_set(err, X_FAILURE, errno, "cannot fork: %s",
			      strerror(errno));
	else if (!read_report(fds[0], &report))
		ret = err_set(err, X_FAILURE, ECHILD,
			      "the daemon ended before the device was there; "
			      "see the system's log");
	else if (report.err.exit_code) {
		*err = report.err;
		ret = -report.err.error;
		waitpid(pid, NULL, 0);
	} else {
		memcpy(ret_device, report.device, DEVICE_NAME_BYTES);
	}
	close(fds[0]);
	return ret;
}

static void ready_in_foreground(const char *device, void *arg)
{
	void (*on_ready)(const char *) = *(void (**)(const char *))arg;

	on_ready(device);
}

int daemon_attach(const struct attach_options *options,
		  void (*on_ready)(const char *device),
		  char ret_device[DEVICE_NAME_BYTES], struct err *err)
{
	if (!options->foreground)
		return start_daemon(options, ret_device, err);
	log_open("nbd-client", LOG_TO_STDERR, LOG_LEVEL_INFO);
	return run(options, ready_in_foreground, &on_ready, err);
}
