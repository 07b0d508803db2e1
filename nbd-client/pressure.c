// SPDX-License-Identifier: GPL-2.0-or-later
/* Signs of memory getting short; the control thread. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "include/bounds.h"
#include "nbd-client/host.h"
#include "nbd-client/pressure.h"
#include "nbd-client/procfile.h"

/*
 * Some task waited for memory for a tenth of a second within one
 * (Documentation/accounting/psi.rst). Ordinary page faults do not add up to it.
 */
#define TRIGGER "some 100000 1000000"

/* Without a sign for so long, memory is plentiful again. */
#define CALM_NS (5 * NS_PER_S)

/*
 * MemAvailable below a sixteenth of memory, but not more than 256 MiB, is tight;
 * twice as much is plenty.
 */
#define TIGHT_DIVISOR 16u
#define TIGHT_KBYTES_MAX (256u * KIB)

static int open_proc(const char *file, int flags)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", host_paths.proc, file);
	return open(path, flags | O_CLOEXEC);
}

static int open_trigger(void)
{
	int fd = open_proc("pressure/memory", O_RDWR | O_NONBLOCK);

	/* The kernel wants the NUL, too. */
	if (fd >= 0 && write(fd, TRIGGER, sizeof(TRIGGER)) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* False: not to be read. */
static bool read_meminfo(struct pressure *p, const char *key, uint64_t *ret)
{
	ssize_t n;

	if (p->meminfo_fd < 0)
		return false;
	n = pread(p->meminfo_fd, p->text, sizeof(p->text) - 1, 0);
	if (n <= 0)
		return false;
	p->text[n] = '\0';
	return procfile_find_number(p->text, key, ret) == 0;
}

static void on_sign(struct pressure *p, const char *cause, uint64_t now_ns)
{
	p->sign_ns = now_ns;
	if (p->tight)
		return;
	p->tight = true;
	p->cause = cause;
	p->episodes++;
}

void pressure_open(struct pressure *p, uint64_t now_ns)
{
	uint64_t total;

	*p = (struct pressure){ .watching = true,
				.trigger_fd = open_trigger(),
				.meminfo_fd = open_proc("meminfo", O_RDONLY) };
	if (read_meminfo(p, "MemTotal", &total)) {
		p->tight_below_kbytes = total / TIGHT_DIVISOR;
		if (p->tight_below_kbytes > TIGHT_KBYTES_MAX)
			p->tight_below_kbytes = TIGHT_KBYTES_MAX;
		p->plenty_from_kbytes = 2 * p->tight_below_kbytes;
	}
	pressure_tick(p, now_ns);
}

void pressure_restart(struct pressure *p, uint64_t now_ns)
{
	p->watching = true;
	p->tight = false;
	p->episodes = 0;
	pressure_tick(p, now_ns);
}

void pressure_close(struct pressure *p)
{
	if (p->trigger_fd >= 0)
		close(p->trigger_fd);
	if (p->meminfo_fd >= 0)
		close(p->meminfo_fd);
	*p = (struct pressure){ .trigger_fd = -1, .meminfo_fd = -1 };
}

void pressure_on_trigger(struct pressure *p, short events, uint64_t now_ns)
{
	if (events & POLLERR) {
		close(p->trigger_fd);
		p->trigger_fd = -1;
		return;
	}
	if (events & POLLPRI)
		on_sign(p, "tasks wait for memory", now_ns);
}

void pressure_tick(struct pressure *p, uint64_t now_ns)
{
	bool known = read_meminfo(p, "MemAvailable", &p->available_kbytes);

	if (known && p->available_kbytes < p->tight_below_kbytes)
		on_sign(p, "little memory is available", now_ns);
	else if (known && p->tight &&
		 p->available_kbytes < p->plenty_from_kbytes)
		p->sign_ns = now_ns;
	if (p->tight && now_ns - p->sign_ns >= CALM_NS)
		p->tight = false;
}
