// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The malloc family in front of the C library's, for the whole program. The
 * counter's address is thread-local, so the cost elsewhere is one compare.
 */
#include <errno.h>
#include <stddef.h>

#include "common/guard.h"

static _Thread_local uint64_t *guard_counter;

void guard_arm(uint64_t *counter)
{
	guard_counter = counter;
}

void guard_disarm(void)
{
	guard_counter = NULL;
}

#ifdef NBD_NO_GUARD

bool guard_available(void)
{
	return false;
}

#else

/* glibc's own, exported for such wrappers. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);
void __libc_free(void *p);

void *malloc(size_t bytes);
void *calloc(size_t count, size_t bytes);
void *realloc(void *old, size_t bytes);
void *memalign(size_t align, size_t bytes);
void *aligned_alloc(size_t align, size_t bytes);
int posix_memalign(void **ret, size_t align, size_t bytes);
void free(void *p);

bool guard_available(void)
{
	return true;
}

static inline void watch(void)
{
	if (__builtin_expect(guard_counter != NULL, 0))
		++*guard_counter;
}

void *malloc(size_t bytes)
{
	watch();
	return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
	watch();
	return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
	watch();
	return __libc_realloc(old, bytes);
}

void *memalign(size_t align, size_t bytes)
{
	watch();
	return __libc_memalign(align, bytes);
}

void *aligned_alloc(size_t align, size_t bytes)
{
	watch();
	return __libc_memalign(align, bytes);
}

int posix_memalign(void **ret, size_t align, size_t bytes)
{
	void *p;

	watch();
	p = __libc_memalign(align, bytes);
	if (!p)
		return ENOMEM;
	*ret = p;
	return 0;
}

void free(void *p)
{
	watch();
	__libc_free(p);
}

#endif
