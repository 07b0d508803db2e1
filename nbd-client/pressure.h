/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the host's memory is plentiful or tight. Two sources: a trigger on
 * the kernel's pressure stall information, which tells at once that tasks wait
 * for memory, and MemAvailable, which tells before. Tight at the first sign of
 * either; plentiful again only after some seconds without any.
 *
 * Control thread. Everything is opened at the start; later calls neither
 * allocate nor wait.
 */
#ifndef NBD_PRESSURE_H
#define NBD_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

struct pressure {
	int trigger_fd; /* -1: the kernel has no PSI */
	int meminfo_fd; /* -1: nor MemAvailable */
	bool watching;
	bool tight;
	uint64_t tight_below_kbytes;     /* of MemAvailable */
	uint64_t plenty_from_kbytes;     /* > tight_below_kbytes */
	uint64_t available_kbytes;       /* as last read */
	uint64_t sign_ns;  /* when the last sign of tightness came */
	uint64_t episodes; /* how often it became tight */
	const char *cause; /* of the last one; a literal */
	char text[256];    /* the beginning of meminfo */
};

/* Of paths in host_paths.proc. What is missing is done without. */
void pressure_open(struct pressure *p, uint64_t now_ns);
void pressure_close(struct pressure *p);

/*
 * With what is open from before, as a fork finds it: to open a trigger the kernel
 * may have to make a thread, which has to wait for memory that nobody frees while
 * a device is being taken over.
 */
void pressure_restart(struct pressure *p, uint64_t now_ns);

/* poll(2) said POLLPRI on trigger_fd; POLLERR: there is no trigger any more. */
void pressure_on_trigger(struct pressure *p, short events, uint64_t now_ns);

/* About once a second: reads MemAvailable, decides. */
void pressure_tick(struct pressure *p, uint64_t now_ns);

/* Whether memory may be taken that is not needed at once. */
static inline bool pressure_is_plentiful(const struct pressure *p)
{
	return !p->tight && p->available_kbytes >= p->plenty_from_kbytes;
}

#endif
