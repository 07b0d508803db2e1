/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A status page as a daemon that has served for a while would leave it. */
#ifndef FAKE_PAGE_H
#define FAKE_PAGE_H

#include "include/ctl.h"

/* All but what stats_create() fills in; heartbeats of now_ns. */
void fake_page_fill(struct stats_page *page, uint64_t now_ns);

/* So many more reads, each of 4 KiB and of that latency. */
void fake_page_reads(struct stats_page *page, uint64_t count,
		     uint64_t latency_us);
void fake_page_writes(struct stats_page *page, uint64_t count,
		      uint64_t latency_us);

#endif
