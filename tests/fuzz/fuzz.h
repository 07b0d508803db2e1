/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a fuzz target gives: the entry point of libFuzzer, and seeds, so that
 * fuzz-run.c can drive it where there is no libFuzzer.
 *
 *	clang -fsanitize=fuzzer,address fuzz-addr.c …	explores for ever
 *	cc fuzz-addr.c fuzz-run.c …			always the same, seconds
 */
#ifndef NBD_FUZZ_H
#define NBD_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#define FUZZ_INPUT_MAX 4096

struct fuzz_seed {
	const void *data;
	size_t bytes;
};

extern const struct fuzz_seed fuzz_seeds[];
extern const size_t fuzz_seeds_count;

/* Ends the process when something is wrong. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#endif
