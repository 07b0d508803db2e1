// SPDX-License-Identifier: GPL-2.0-or-later
/* Real servers for tests. See real_server.h. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/real_server.h"

#define START_TRIES 500 /* of 20 ms */

static void put(const char *argv[16], const char *const words[])
{
	size_t n = 0;

	for (; words[n]; n++)
		argv[n] = words[n];
	argv[n] = NULL;
}

static void nbdkit_command(struct real_server *s, const char *argv[16])
{
	put(argv, (const char *const[]){ "nbdkit", "-f", "-t", "16", "-U",
					 s->socket, "file", s->disk, NULL });
}

static void nbdkit_simple_command(struct real_server *s, const char *argv[16])
{
	put(argv, (const char *const[]){ "nbdkit", "-f", "--no-sr", "-t", "16",
					 "-U", s->socket, "file", s->disk,
					 NULL });
}

static void nbdkit_single_command(struct real_server *s, const char *argv[16])
{
	put(argv, (const char *const[]){ "nbdkit", "-f", "-t", "16", "-U",
					 s->socket, "--filter=multi-conn",
					 "file", s->disk,
					 "multi-conn-mode=disable", NULL });
}

/* Fails every tenth request but flushes, with EIO. */
static void nbdkit_failing_command(struct real_server *s, const char *argv[16])
{
	put(argv, (const char *const[]){ "nbdkit", "-f", "-t", "16", "-U",
					 s->socket, "--filter=error", "file",
					 s->disk, "error=EIO",
					 "error-pread-rate=10%",
					 "error-pwrite-rate=10%",
					 "error-zero-rate=10%", NULL });
}

static void qemu_nbd_command(struct real_server *s, const char *argv[16])
{
	put(argv, (const char *const[]){ "qemu-nbd", "-t", "-f", "raw", "-k",
					 s->socket, "-e", "4", "-x", "disk",
					 "--discard=unmap", s->disk, NULL });
}

static void nbd_server_command(struct real_server *s, const char *argv[16])
{
	FILE *config = fopen(s->config, "w");

	assert_non_null(config);
	fprintf(config,
		"[generic]\n\tunixsock = %s\n\tallowlist = true\n"
		"[disk]\n\texportname = %s\n\tflush = true\n\tfua = true\n"
		"\ttrim = true\n",
		s->socket, s->disk);
	fclose(config);
	put(argv, (const char *const[]){ "nbd-server", "-C", s->config,
					 "-p", s->pid_file, NULL });
}

const struct real_server_kind real_server_nbdkit = {
	.program = "nbdkit", .command = nbdkit_command, .export_name = "",
};
const struct real_server_kind real_server_nbdkit_simple = {
	.program = "nbdkit", .command = nbdkit_simple_command, .export_name = "",
};
const struct real_server_kind real_server_nbdkit_single = {
	.program = "nbdkit", .command = nbdkit_single_command, .export_name = "",
};
const struct real_server_kind real_server_nbdkit_failing = {
	.program = "nbdkit", .command = nbdkit_failing_command,
	.export_name = "",
};
const struct real_server_kind real_server_qemu_nbd = {
	.program = "qemu-nbd", .command = qemu_nbd_command,
	.export_name = "disk",
};
const struct real_server_kind real_server_nbd_server = {
	.program = "nbd-server", .command = nbd_server_command,
	.export_name = "disk", .forks = true,
};

/* As execvp() would find it. */
static bool installed(const char *program)
{
	const char *dirs = getenv("PATH");
	char path[512];

	while (dirs && *dirs) {
		int length = (int)strcspn(dirs, ":");

		snprintf(path, sizeof(path), "%.*s/%s", length, dirs, program);
		if (access(path, X_OK) == 0)
			return true;
		dirs += length;
		dirs += *dirs == ':';
	}
	return false;
}

static bool answers(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ret;

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	ret = connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0;
	close(fd);
	return ret;
}

/* A server that goes to the background says in a file what it has become. */
static bool find_pid(struct real_server *s)
{
	FILE *file;
	int pid = 0;

	if (!s->kind->forks)
		return true;
	file = fopen(s->pid_file, "r");
	if (!file)
		return false;
	if (fscanf(file, "%d", &pid) == 1 && pid > 0) {
		waitpid(s->pid, NULL, 0);
		s->pid = pid;
	}
	fclose(file);
	return pid > 0;
}

static void launch(struct real_server *s)
{
	const struct timespec pause = { .tv_nsec = 20000000 };
	const char *argv[16];

	unlink(s->socket);
	unlink(s->pid_file);
	s->kind->command(s, argv);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	for (int i = 0; i < START_TRIES; i++) {
		if (answers(s->socket) && find_pid(s))
			return;
		if (!s->kind->forks && waitpid(s->pid, NULL, WNOHANG) == s->pid)
			fail_msg("%s ended at once", argv[0]);
		nanosleep(&pause, NULL);
	}
	fail_msg("%s does not answer", argv[0]);
}

bool real_server_start(struct real_server *s,
		       const struct real_server_kind *kind,
		       uint64_t disk_bytes)
{
	int fd;

	if (!installed(kind->program)) {
		print_message("%s is not installed\n", kind->program);
		return false;
	}
	*s = (struct real_server){ .kind = kind };
	snprintf(s->dir, sizeof(s->dir), "/tmp/nbd-test-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	/* nbd-server gives up root for a user of its own. */
	chmod(s->dir, 0777);
	snprintf(s->disk, sizeof(s->disk), "%s/disk", s->dir);
	snprintf(s->socket, sizeof(s->socket), "%s/sock", s->dir);
	snprintf(s->config, sizeof(s->config), "%s/config", s->dir);
	snprintf(s->pid_file, sizeof(s->pid_file), "%s/pid", s->dir);
	snprintf(s->uri, sizeof(s->uri), "%s:///%s?socket=%s",
		 kind->scheme ? kind->scheme : "nbd+unix", kind->export_name,
		 s->socket);
	fd = open(s->disk, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)disk_bytes), 0);
	close(fd);
	chmod(s->disk, 0666);
	launch(s);
	return true;
}

static void end(struct real_server *s)
{
	kill(s->pid, SIGKILL);
	if (!s->kind->forks)
		waitpid(s->pid, NULL, 0);
}

void real_server_restart(struct real_server *s)
{
	end(s);
	launch(s);
}

void real_server_stop(struct real_server *s)
{
	end(s);
	unlink(s->socket);
	unlink(s->disk);
	unlink(s->config);
	unlink(s->pid_file);
	rmdir(s->dir);
}
