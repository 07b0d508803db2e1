// SPDX-License-Identifier: GPL-2.0-or-later
/* Unit tests of command lines kept in files. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "nbd-client/stats.h"
#include "nbd-client/words.h"

static char dir[64], path[96];
static struct kept_words kept;
static struct err err;

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test-words.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/nbd0.attach", dir);
	stats_run_dir = dir;
	memset(&err, 0, sizeof(err));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	words_drop("nbd0");
	return rmdir(dir);
}

static void same_words_come_back(void **state)
{
	char *words[] = { (char *)"attach", (char *)"--swapon", (char *)"",
			  (char *)"nbd://h/a b\n", NULL };
	struct stat st;

	(void)state;
	for (int round = 0; round < 2; round++) {
		assert_int_equal(words_keep("nbd0", 4, words, &err), 0);
		assert_int_equal(words_load("nbd0", &kept, &err), 0);
		assert_int_equal(kept.count, 4);
		for (int i = 0; i < 4; i++)
			assert_string_equal(kept.word[i], words[i]);
		assert_null(kept.word[4]);
	}
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	words_drop("nbd0");
	assert_int_equal(words_load("nbd0", &kept, &err), -ENOENT);
	assert_int_equal(err.exit_code, X_NOT_FOUND);
}

static void write_raw(const char *text, size_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, text, bytes), (ssize_t)bytes);
	close(fd);
}

static void damage_is_refused(void **state)
{
	static char many[2 * WORDS_MAX]; /* as many empty words */
	static char large[WORDS_BYTES + 10];

	(void)state;
	write_raw("attach", 6);
	assert_int_equal(words_load("nbd0", &kept, &err), -EBADMSG);
	write_raw(many, sizeof(many));
	assert_int_equal(words_load("nbd0", &kept, &err), -EBADMSG);
	memset(large, 'x', sizeof(large) - 1);
	write_raw(large, sizeof(large));
	assert_int_equal(words_load("nbd0", &kept, &err), -EBADMSG);
	write_raw("", 0);
	assert_int_equal(words_load("nbd0", &kept, &err), 0);
	assert_int_equal(kept.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(same_words_come_back, setup,
						teardown),
		cmocka_unit_test_setup_teardown(damage_is_refused, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
