// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * hog: uses more memory than there is, and checks every byte of it.
 *
 *	hog MB SECONDS PROGRESS
 *
 * Writes pages of pseudo-random words, a different content per page and pass,
 * and reads back what it wrote: runs of neighbours and single random pages
 * mixed.  When the time is over one full pass verifies all pages, so "no
 * mismatch" always means that everything was read; SIGTERM ends the time early.
 * It is the victim: nothing protects it.  PROGRESS is a file that gauge made and
 * watches.
 *
 * Prints "KEY VALUE" lines; exit status 1 when a page was not as written.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "progress.h"

#define PAGE_BYTES 4096
#define PAGE_WORDS (PAGE_BYTES / 8)
#define RUN_PAGES_MAX 256

static uint64_t *memory;
static uint32_t *pass_of;	/* the pass that last wrote each page */
static uint64_t page_count;
static uint64_t seed;
static struct progress *progress;
static volatile sig_atomic_t ended;

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint64_t next_random(void)
{
	static uint64_t state;

	state += 0x9e3779b97f4a7c15u;
	return mix(seed ^ state);
}

/* The first word tells a page in the wrong place from a damaged one. */
static uint64_t first_word(uint64_t page, uint32_t pass)
{
	return page << 32 | pass;
}

static void write_page(uint64_t page, uint32_t pass)
{
	uint64_t *word = memory + page * PAGE_WORDS;
	uint64_t state = mix(seed ^ first_word(page, pass));

	pass_of[page] = pass;
	word[0] = first_word(page, pass);
	for (unsigned i = 1; i < PAGE_WORDS; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		word[i] = state;
	}
	progress->written++;
	progress->ops++;
}

static void verify_page(uint64_t page)
{
	const uint64_t *word = memory + page * PAGE_WORDS;
	uint32_t pass = pass_of[page];
	uint64_t state = mix(seed ^ first_word(page, pass));
	bool same = word[0] == first_word(page, pass);

	for (unsigned i = 1; i < PAGE_WORDS; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		same &= word[i] == state;
	}
	if (!same) {
		fprintf(stderr,
			"hog: page %llu pass %u is not as written: begins with page %llu pass %llu\n",
			(unsigned long long)page, pass,
			(unsigned long long)(word[0] >> 32),
			(unsigned long long)(word[0] & 0xffffffff));
		progress->mismatches++;
	}
	progress->verified++;
	progress->ops++;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* A run of neighbours or one page; half of them get new content. */
static void step(uint32_t pass)
{
	uint64_t r = next_random();
	uint64_t page = (r >> 16) % page_count;
	uint64_t count = r & 1 ? 1 : (r >> 2) % RUN_PAGES_MAX + 1;

	for (; count > 0 && page < page_count; count--, page++) {
		verify_page(page);
		if (r & 2)
			write_page(page, pass);
	}
}

static void *map(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		perror("hog: mmap");
		exit(2);
	}
	return p;
}

static void on_term(int signal_number)
{
	(void)signal_number;
	ended = 1;
}

int main(int argc, char **argv)
{
	double start = now(), seconds, used;
	uint64_t page;
	uint32_t pass = 1;
	int fd;

	if (argc != 4) {
		fprintf(stderr, "usage: hog MB SECONDS PROGRESS\n");
		return 2;
	}
	page_count = strtoull(argv[1], NULL, 10) * (1 << 20) / PAGE_BYTES;
	seconds = strtod(argv[2], NULL);
	fd = open(argv[3], O_RDWR | O_CLOEXEC);
	if (fd < 0 || page_count == 0) {
		perror("hog: progress file");
		return 2;
	}
	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE,
			MAP_SHARED, fd, 0);
	if (progress == MAP_FAILED) {
		perror("hog: progress file");
		return 2;
	}
	signal(SIGTERM, on_term);
	seed = mix((uint64_t)(start * 1e9));
	memory = map(page_count * PAGE_BYTES);
	pass_of = map(page_count * sizeof(*pass_of));
	/* Huge pages would be split before they are swapped: only noise. */
	madvise(memory, page_count * PAGE_BYTES, MADV_NOHUGEPAGE);

	progress->phase = PHASE_FILL;
	for (page = 0; page < page_count; page++)
		write_page(page, pass);
	progress->phase = PHASE_MIX;
	while (!ended && now() - start < seconds) {
		pass++;
		for (unsigned i = 0; i < 16; i++)
			step(pass);
	}
	progress->phase = PHASE_FINAL;
	for (page = 0; page < page_count; page++)
		verify_page(page);
	progress->phase = PHASE_DONE;

	used = now() - start;
	printf("hog_seconds %.1f\n", used);
	printf("hog_ops_per_s %.0f\n", (double)progress->ops / used);
	printf("hog_mb %llu\n",
	       (unsigned long long)(page_count * PAGE_BYTES >> 20));
	printf("pages_written %llu\n", (unsigned long long)progress->written);
	printf("pages_verified %llu\n", (unsigned long long)progress->verified);
	printf("mismatches %llu\n", (unsigned long long)progress->mismatches);
	return progress->mismatches ? 1 : 0;
}
