// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The process that becomes a device's supervisor: going to the background,
 * telling the caller how it went, signals.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "nbd-client/device.h"
#include "nbd-client/handover.h"
#include "nbd-client/host.h"
#include "nbd-client/notify.h"
#include "nbd-client/supervisor.h"

/* What a daemon tells the process that started it. */
struct daemon_report {
	char device[DEVICE_NAME_BYTES];
	struct err err; /* exit_code 0: the device is usable */
};

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, handover_signal());
	/* Threads made later inherit the mask: signals come to us alone. */
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* ---- one device ---- */

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

static int run(const struct attach_options *o, int report_fd,
	       void (*on_ready)(const char *device, void *arg), void *arg,
	       struct err *err)
{
	/* Some 40 KiB; not on a stack of known size. */
	static struct device device;
	struct supervisor supervisor = {
		.device = &device,
		.on_ready = on_ready,
		.arg = arg,
	};
	int signal_fd = open_signals();
	int ret;

	host_watch_root();
	if (signal_fd < 0)
		return err_set(err, X_FAILURE, errno, "cannot make a signalfd: %s",
			       strerror(errno));
	ret = device_hold(&device, o, err);
	if (ret < 0) {
		if (o->handover)
			log_say(LOG_LEVEL_ERR, "%s: %s", o->handover->device.path,
				err->text);
		close(signal_fd);
		return ret;
	}
	device.report_fd = report_fd;
	if (report_fd >= 0)
		leave_terminal();
	ret = supervisor_run(&supervisor, signal_fd, err);
	notify_stopping();
	close(signal_fd);
	if (ret < 0 && supervisor.ready)
		log_say(LOG_LEVEL_ERR, "%s", err->text);
	device_release(&device);
	if (supervisor.ready)
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

static void report_ready(const char *device, void *arg)
{
	int *fd = arg;
	struct daemon_report report = { 0 };

	strncpy(report.device, device, sizeof(report.device) - 1);
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
	ret = run(o, fd, report_ready, &fd, &report.err);
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

	notify_ready();
	on_ready(device);
}

int daemon_attach(const struct attach_options *options,
		  void (*on_ready)(const char *device),
		  char ret_device[DEVICE_NAME_BYTES], struct err *err)
{
	if (!options->foreground && options->handover) {
		log_open("nbd-client", LOG_TO_SYSLOG, LOG_LEVEL_INFO);
		return run(options, -1, NULL, NULL, err);
	}
	if (!options->foreground)
		return start_daemon(options, ret_device, err);
	log_open("nbd-client", LOG_TO_STDERR, LOG_LEVEL_INFO);
	notify_open();
	return run(options, -1, ready_in_foreground, &on_ready, err);
}
