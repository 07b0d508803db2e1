/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Drives a fuzz target without libFuzzer: its seeds, then mutations of them by
 * a fixed random sequence, so that a failure comes back each time.
 *
 *	fuzz-X [ROUNDS]		100000 take about a second
 *	fuzz-X FILE…		these inputs only, such as one that crashed
 *
 * A crash prints the input, in hexadecimal, that it came from.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define ROUNDS_DEFAULT 100000

static uint8_t input[FUZZ_INPUT_MAX];
static size_t input_bytes;
static uint64_t random_state = 0x9e3779b97f4a7c15;

/* xorshift64*: the same everywhere, unlike random(3). */
static uint32_t next_random(uint32_t below)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)(random_state * 0x2545f4914f6cdd1d >> 32) % below;
}

/* Only write(2) here: the process may be broken. */
static void on_crash(int number)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < input_bytes; i++) {
		const char hex[2] = { digits[input[i] >> 4],
				      digits[input[i] & 15] };

		if (write(STDERR_FILENO, hex, sizeof(hex)) < 0)
			break;
	}
	if (write(STDERR_FILENO, "\n", 1) < 0)
		_exit(2);
	signal(number, SIG_DFL);
	raise(number);
}

static void insert(size_t at, const void *src, size_t bytes)
{
	if (bytes > sizeof(input) - input_bytes)
		return;
	memmove(input + at + bytes, input + at, input_bytes - at);
	memcpy(input + at, src, bytes);
	input_bytes += bytes;
}

static void mutate(void)
{
	static const uint32_t numbers[] = { 0, 1, 2, 12, 14, 4096, 0x7fffffff,
					    0x80000000, 0xffffffff };
	const struct fuzz_seed *other =
		&fuzz_seeds[next_random((uint32_t)fuzz_seeds_count)];
	size_t at = next_random((uint32_t)input_bytes + 1);
	size_t bytes = next_random(16) + 1;
	uint32_t number = __builtin_bswap32(numbers[next_random(9)]);

	switch (next_random(7)) {
	case 0:		/* a bit */
		if (at < input_bytes)
			input[at] ^= (uint8_t)(1 << next_random(8));
		break;
	case 1:		/* a byte */
		if (at < input_bytes)
			input[at] = (uint8_t)next_random(256);
		break;
	case 2:		/* a number that matters */
		if (at + 4 <= input_bytes)
			memcpy(input + at, &number, 4);
		break;
	case 3:		/* some are missing */
		if (at + bytes <= input_bytes) {
			memmove(input + at, input + at + bytes,
				input_bytes - at - bytes);
			input_bytes -= bytes;
		}
		break;
	case 4:		/* some are there twice */
		if (at + bytes <= input_bytes) {
			uint8_t copy[16];

			memcpy(copy, input + at, bytes);
			insert(at, copy, bytes);
		}
		break;
	case 5:		/* the end is missing */
		input_bytes = at;
		break;
	default: {	/* a piece of another seed */
		size_t from = next_random((uint32_t)other->bytes);

		insert(at, (const uint8_t *)other->data + from,
		       other->bytes - from);
	}
	}
}

static void run_rounds(unsigned long rounds)
{
	for (unsigned long round = 0; round < rounds; round++) {
		const struct fuzz_seed *seed =
			&fuzz_seeds[round % fuzz_seeds_count];

		memcpy(input, seed->data, seed->bytes);
		input_bytes = seed->bytes;
		if (round >= fuzz_seeds_count)
			for (uint32_t n = next_random(8) + 1; n > 0; n--)
				mutate();
		LLVMFuzzerTestOneInput(input, input_bytes);
	}
	printf("%lu inputs\n", rounds);
}

int main(int argc, char **argv)
{
	static const int crashes[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE,
				       SIGILL };
	unsigned long rounds = ROUNDS_DEFAULT;
	char *end = NULL;

	for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		signal(crashes[i], on_crash);
	if (argc > 1)
		rounds = strtoul(argv[1], &end, 10);
	if (argc <= 1 || *end == '\0') {
		run_rounds(rounds);
		return 0;
	}
	for (int i = 1; i < argc; i++) {
		FILE *file = fopen(argv[i], "rb");

		if (file == NULL) {
			perror(argv[i]);
			return 2;
		}
		input_bytes = fread(input, 1, sizeof(input), file);
		fclose(file);
		LLVMFuzzerTestOneInput(input, input_bytes);
	}
	return 0;
}
