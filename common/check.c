// SPDX-License-Identifier: GPL-2.0-or-later
/* The end of the process after a broken invariant. Any thread. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"

void check_failed(const char *text)
{
	ssize_t ignored = write(STDERR_FILENO, text, strlen(text));

	(void)ignored;
	abort();
}
