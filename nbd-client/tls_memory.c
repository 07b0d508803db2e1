// SPDX-License-Identifier: GPL-2.0-or-later
/* OpenSSL's memory functions on an arena. Control thread. */
#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

#include "common/pin.h"
#include "nbd-client/tls_memory.h"

/* For the whole process, as OpenSSL's functions are; never given back. */
static struct pin pin;
static struct arena arena;

static void *take(size_t bytes, const char *file, int line)
{
	(void)file;
	(void)line;
	return arena_take(&arena, bytes);
}

static void *resize(void *piece, size_t bytes, const char *file, int line)
{
	(void)file;
	(void)line;
	return arena_resize(&arena, piece, bytes);
}

static void give(void *piece, const char *file, int line)
{
	(void)file;
	(void)line;
	arena_give(&arena, piece);
}

int tls_memory_open(struct err *err)
{
	int ret;

	if (pin.phase != PIN_NONE)
		return 0;
	ret = pin_init(&pin, TLS_MEMORY_BYTES);
	if (ret < 0)
		return err_set(
			err, ret == -EPERM ? X_PERMISSION : X_FAILURE, -ret,
			"cannot lock %u KiB of memory for TLS: %s; raise the limit on locked memory",
			TLS_MEMORY_BYTES / KIB, strerror(-ret));
	arena_init(&arena, pin_carve(&pin, TLS_MEMORY_BYTES), TLS_MEMORY_BYTES);
	if (CRYPTO_set_mem_functions(take, resize, give) != 1) {
		pin_fini(&pin);
		return err_set(
			err, X_FAILURE, EBUSY,
			"OpenSSL has memory already, and cannot be given any");
	}
	pin_seal(&pin);
	return 0;
}

const struct arena *tls_memory_arena(void)
{
	return pin.phase == PIN_NONE ? NULL : &arena;
}
