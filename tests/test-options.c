/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of command lines: options by table, and what attach makes of its own
 * (daemon_attach() is replaced here and keeps what it was given).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "nbd-client/blockdev.h"
#include "nbd-client/cmd.h"
#include "nbd-client/daemon.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- The parser ---- */

struct target {
	bool flag;
	uint32_t number;
	uint64_t large;
	uint32_t size;
	const char *string;
	char call[32];
};

static int set_call(void *target, const char *value, struct err *err)
{
	struct target *t = target;

	if (value && !strcmp(value, "bad"))
		return err_set(err, X_USAGE, EINVAL, "bad indeed");
	snprintf(t->call, sizeof(t->call), "%s", value ? value : "(none)");
	return 0;
}

#define FIELD(member) .offset = offsetof(struct target, member)
static const struct option_spec options[] = {
	{ .name = "flag", .letter = 'f', .kind = OPTION_FLAG, FIELD(flag),
	  .help = "a flag" },
	{ .name = "number", .kind = OPTION_U32, .value = "N", FIELD(number),
	  .min = 2, .max = 10, .scale = 1000, .help = "a number\nof two lines" },
	{ .name = "large", .kind = OPTION_U64, .value = "N", FIELD(large),
	  .max = UINT64_MAX, .help = "a large one" },
	{ .name = "size", .kind = OPTION_SIZE32, .value = "BYTES", FIELD(size),
	  .min = 4096, .max = 1 << 20, .help = "a size" },
	{ .name = "string", .kind = OPTION_STRING, .value = "TEXT",
	  FIELD(string), .help = "a string" },
	{ .name = "a-rather-long-name-of-one", .kind = OPTION_CALL,
	  .value = "[=VALUE]", .set = set_call, .help = "a call" },
	CMD_OPTIONS_END
};

static const struct command command = {
	.name = "do",
	.words = "ONE [TWO]",
	.summary = "Does it.",
	.details = "More of it.",
	.options = options,
};

/* Up to five arguments. */
static int parse(struct target *t, struct words *words, struct err *err,
		 const char *a, const char *b, const char *c, const char *d)
{
	const char *argv[] = { "do", a, b, c, d, NULL };
	int argc = 0;

	while (argv[argc])
		argc++;
	memset(t, 0, sizeof(*t));
	memset(words, 0, sizeof(*words));
	memset(err, 0, sizeof(*err));
	return options_parse(&command, argc, (char **)argv, t, 1, 2, words,
			     err);
}

static void values_land_where_they_belong(void **state)
{
	struct target t;
	struct words words;
	struct err err;

	(void)state;
	assert_int_equal(parse(&t, &words, &err, "-f", "one", "--number=3",
			       "two"), 0);
	assert_true(t.flag);
	assert_int_equal(t.number, 3000);
	assert_int_equal(words.count, 2);
	assert_string_equal(words.word[0], "one");
	assert_string_equal(words.word[1], "two");

	assert_int_equal(parse(&t, &words, &err, "--number", "10", "x",
			       "--size=64k"), 0);
	assert_int_equal(t.number, 10000);
	assert_int_equal(t.size, 65536);

	assert_int_equal(parse(&t, &words, &err, "x", "--string=", "--large",
			       "18446744073709551615"), 0);
	assert_string_equal(t.string, "");
	assert_true(t.large == UINT64_MAX);

	/* an optional value never is the next word */
	assert_int_equal(parse(&t, &words, &err, "--a-rather-long-name-of-one",
			       "x", NULL, NULL), 0);
	assert_string_equal(t.call, "(none)");
	assert_int_equal(parse(&t, &words, &err,
			       "--a-rather-long-name-of-one=v", "x", NULL,
			       NULL), 0);
	assert_string_equal(t.call, "v");

	/* after -- everything is a word, and so is - */
	assert_int_equal(parse(&t, &words, &err, "-", "--", "--flag", NULL),
			 0);
	assert_string_equal(words.word[0], "-");
	assert_string_equal(words.word[1], "--flag");
}

static void slips_are_explained(void **state)
{
	static const struct {
		const char *argument;
		const char *text;
	} cases[] = {
		{ "--flagg", "there is no option \"--flagg\" (did you mean "
			     "--flag?); see \"nbd-client do --help\"" },
		{ "--nothing-like-it=3", "there is no option "
					 "\"--nothing-like-it\"; see "
					 "\"nbd-client do --help\"" },
		{ "-q", "there is no option \"-q\"; see \"nbd-client do "
			"--help\"" },
		{ "--\x1b[1m", "there is no option \"--\\x1b[1m\"; see "
			       "\"nbd-client do --help\"" },
		{ "--flag=1", "--flag takes no value; see \"nbd-client do "
			      "--help\"" },
		{ "--number=1", "--number must be from 2 to 10, not \"1\"; see "
				"\"nbd-client do --help\"" },
		{ "--number=11", "--number must be from 2 to 10, not \"11\"; "
				 "see \"nbd-client do --help\"" },
		{ "--number=", "--number must be from 2 to 10, not \"\"; see "
			       "\"nbd-client do --help\"" },
		{ "--number=-3", "--number must be from 2 to 10, not \"-3\"; "
				 "see \"nbd-client do --help\"" },
		{ "--number=3x", "--number must be from 2 to 10, not \"3x\"; "
				 "see \"nbd-client do --help\"" },
		{ "--size=2M", "--size must be from 4096 to 1048576, not "
			       "\"2M\"; see \"nbd-client do --help\"" },
		{ "--size", "--size wants a value: --size=BYTES; see "
			    "\"nbd-client do --help\"" },
		{ "--a-rather-long-name-of-one=bad", "bad indeed" },
	};
	struct target t;
	struct words words;
	struct err err;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		assert_int_equal(parse(&t, &words, &err, "one",
				       cases[i].argument, NULL, NULL),
				 -EINVAL);
		assert_int_equal(err.exit_code, X_USAGE);
		assert_string_equal(err.text, cases[i].text);
	}
	assert_int_equal(parse(&t, &words, &err, NULL, NULL, NULL, NULL),
			 -EINVAL);
	assert_string_equal(err.text, "do wants ONE [TWO]; see \"nbd-client do "
				      "--help\"");
	assert_int_equal(parse(&t, &words, &err, "1", "2", "3", NULL),
			 -EINVAL);
	assert_string_equal(err.text, "\"3\" is one word too many; see "
				      "\"nbd-client do --help\"");
}

static void help_is_golden(void **state)
{
	char *text = NULL;
	size_t bytes;
	FILE *file = open_memstream(&text, &bytes);

	(void)state;
	options_help(&command, file);
	fclose(file);
	assert_string_equal(
		text,
		"Usage: nbd-client do [OPTION]... ONE [TWO]\n"
		"Does it.\n"
		"\n"
		"More of it.\n"
		"\n"
		"  -f, --flag                  a flag\n"
		"      --number=N              a number\n"
		"                              of two lines\n"
		"      --large=N               a large one\n"
		"      --size=BYTES            a size\n"
		"      --string=TEXT           a string\n"
		"      --a-rather-long-name-of-one[=VALUE]\n"
		"                              a call\n"
		"  -h, --help                  this text\n");
	free(text);
}

static void numbers_and_sizes(void **state)
{
	static const struct {
		const char *text;
		int rc;
		uint64_t bytes;
	} cases[] = {
		{ "0", 0, 0 },
		{ "512", 0, 512 },
		{ "4K", 0, 4096 },
		{ "4k", 0, 4096 },
		{ "1M", 0, 1 << 20 },
		{ "3g", 0, 3ull << 30 },
		{ "17179869183G", 0, 17179869183ull << 30 },
		{ "17179869184G", -EINVAL, 0 },
		{ "18446744073709551616", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ "K", -EINVAL, 0 },
		{ "4KB", -EINVAL, 0 },
		{ "4 K", -EINVAL, 0 },
		{ " 4", -EINVAL, 0 },
		{ "+4", -EINVAL, 0 },
		{ "-4", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "1.5M", -EINVAL, 0 },
	};
	uint64_t bytes;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		bytes = 77;
		assert_int_equal(options_parse_size(cases[i].text, &bytes),
				 cases[i].rc);
		assert_true(bytes == (cases[i].rc ? 77 : cases[i].bytes));
	}
}

static void distances(void **state)
{
	(void)state;
	assert_int_equal(options_distance("", ""), 0);
	assert_int_equal(options_distance("list", "list"), 0);
	assert_int_equal(options_distance("lst", "list"), 1);
	assert_int_equal(options_distance("lists", "list"), 1);
	assert_int_equal(options_distance("status", "stauts"), 2);
	assert_int_equal(options_distance("", "abc"), 3);
	assert_int_equal(options_distance("kitten", "sitting"), 3);
}

/* ---- attach ---- */

static struct attach_options seen;
static uint32_t attaches;

/* "/dev/nbd3"; empty: any of nbd's; "ublk": any of ublk's. */
static void device_of(const struct attach_options *o,
		      char ret[DEVICE_NAME_BYTES])
{
	struct blockdev b = { .path = "" };

	if (o->front == FRONT_UBLK)
		snprintf(b.path, sizeof(b.path), "ublk");
	if (o->index >= 0)
		blockdev_set(&b, o->front, (uint32_t)o->index);
	memcpy(ret, b.path, sizeof(b.path));
}

int daemon_attach(const struct attach_options *o,
		  void (*on_ready)(const char *device),
		  char ret_device[DEVICE_NAME_BYTES], struct err *err)
{
	(void)on_ready;
	(void)err;
	seen = *o;
	attaches++;
	device_of(o, ret_device);
	if (!*ret_device)
		snprintf(ret_device, DEVICE_NAME_BYTES, "/dev/nbd5");
	return 0;
}

/* Runs attach with its standard output in *ret_out. */
static int attach(struct err *err, char *ret_out, size_t out_bytes,
		  const char *const *arguments)
{
	const char *argv[16] = { "attach" };
	int argc = 1, pipes[2], saved = dup(STDOUT_FILENO), rc;
	ssize_t n;

	while (arguments[argc - 1]) {
		argv[argc] = arguments[argc - 1];
		argc++;
	}
	assert_int_equal(pipe(pipes), 0);
	fflush(stdout);
	dup2(pipes[1], STDOUT_FILENO);
	close(pipes[1]);
	memset(err, 0, sizeof(*err));
	rc = cmd_attach.run(argc, (char **)argv, err);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	n = read(pipes[0], ret_out, out_bytes - 1);
	ret_out[n < 0 ? 0 : n] = '\0';
	close(pipes[0]);
	return rc;
}

static void attach_understands(void **state)
{
	static const struct {
		const char *arguments[8];
		const char *device, *host;
		uint16_t port;
		const char *export_name;
		enum swap_mode swap;
		int swapon, priority;
	} cases[] = {
		{ { "nbd://h/x" }, "", "h", 10809, "x", SWAP_NO, 0, -1 },
		{ { "nbd://h/x", "auto" }, "", "h", 10809, "x", SWAP_NO, 0,
		  -1 },
		{ { "nbd://h:9/x", "nbd3", "--swap" }, "/dev/nbd3", "h", 9, "x",
		  SWAP_YES, 0, -1 },
		{ { "--swap=best-effort", "nbd://h/", "/dev/nbd3" },
		  "/dev/nbd3", "h", 10809, "", SWAP_BEST_EFFORT, 0, -1 },
		{ { "nbd://h/", "4", "--swapon" }, "/dev/nbd4", "h", 10809, "",
		  SWAP_YES, 1, -1 },
		{ { "nbd://h/", "--swapon=7", "--swap=best-effort" }, "", "h",
		  10809, "", SWAP_BEST_EFFORT, 1, 7 },
		{ { "h", "9000", "nbd0" }, "/dev/nbd0", "h", 9000, "", SWAP_NO,
		  0, -1 },
		{ { "h", "9000" }, "", "h", 9000, "", SWAP_NO, 0, -1 },
		{ { "nbd://h/", "nbd" }, "", "h", 10809, "", SWAP_NO, 0, -1 },
		{ { "nbd://h/", "ublk" }, "ublk", "h", 10809, "", SWAP_NO, 0,
		  -1 },
		{ { "h", "9", "ublkb2" }, "/dev/ublkb2", "h", 9, "", SWAP_NO, 0,
		  -1 },
		{ { "h", "nbd0", "--export", "a b" }, "/dev/nbd0", "h", 10809,
		  "a b", SWAP_NO, 0, -1 },
	};
	char out[64], expected[64], device[DEVICE_NAME_BYTES];
	struct err err;
	size_t i;

	(void)state;
	/* "auto" looks for the ublk driver: there is none. */
	blockdev_sys_root = "/nonexistent";
	blockdev_modprobe = "/nonexistent";
	for (i = 0; i < COUNT(cases); i++) {
		assert_int_equal(attach(&err, out, sizeof(out),
					cases[i].arguments), 0);
		device_of(&seen, device);
		assert_string_equal(device, cases[i].device);
		assert_string_equal(seen.addr.host, cases[i].host);
		assert_int_equal(seen.addr.port, cases[i].port);
		assert_string_equal(seen.addr.export_name,
				    cases[i].export_name);
		assert_int_equal(seen.swap, cases[i].swap);
		assert_int_equal(seen.swapon, cases[i].swapon);
		assert_int_equal(seen.swapon_priority, cases[i].priority);
		assert_int_equal(seen.handshake_ms, 10000);
		assert_int_equal(seen.slots, SLOTS_DEFAULT);
		assert_int_equal(seen.slot_bytes, SLOT_BYTES_DEFAULT);
		snprintf(expected, sizeof(expected), "%s\n",
			 *cases[i].device ? cases[i].device : "/dev/nbd5");
		assert_string_equal(out, expected);
	}
}

static void attach_takes_several_servers(void **state)
{
	static const struct {
		const char *arguments[8];
		const char *hosts[ENDPOINTS_MAX];
		const char *export_name;
		bool partly; /* not all speak TLS, some do */
	} cases[] = {
		{ { "nbd://a/x" }, { "a" }, "x", false },
		{ { "nbd://a/x,nbd://b:9/x" }, { "a", "b" }, "x", false },
		/* options come before the words in a file, not in the list */
		{ { "--endpoint=nbd://c/x", "nbd://a/x,nbd://b/x",
		    "--endpoint=d" },
		  { "a", "b", "c", "d" }, "x", false },
		{ { "a", "9", "nbd0", "--endpoint", "b:9", "--export=y" },
		  { "a", "b" }, "y", false },
		{ { "nbd://a/x", "--endpoint=nbds://b/x", "--tls-ca=f" },
		  { "a", "b" }, "x", true },
	};
	static const char *const all[] = { "nbd://a/,nbd://b/", "--failback",
					   "--identity=description", NULL };
	char out[64];
	struct err err;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		uint32_t count = 1;

		assert_int_equal(attach(&err, out, sizeof(out),
					cases[i].arguments), 0);
		while (count < ENDPOINTS_MAX && cases[i].hosts[count])
			count++;
		assert_int_equal(seen.other_count + 1, count);
		for (uint32_t n = 0; n < count; n++)
			assert_string_equal(attach_addr(&seen, n)->host,
					    cases[i].hosts[n]);
		assert_string_equal(seen.addr.export_name,
				    cases[i].export_name);
		if (*cases[i].export_name == 'y')
			assert_string_equal(seen.others[0].export_name, "y");
		assert_int_equal(seen.tls.partly, cases[i].partly);
		assert_false(seen.described);
		assert_int_equal(seen.failback_s, 0);
	}
	assert_int_equal(attach(&err, out, sizeof(out), all), 0);
	assert_int_equal(seen.failback_s, 30);
	assert_true(seen.described);
}

static void attach_refuses(void **state)
{
	static const char *const cases[][8] = {
		{ NULL },
		{ "nbd://h/", "sda" },
		{ "nbd://h/", "/dev/nbd" },
		{ "nbd://h/", "nbd0", "nbd1" },
		{ "h", "99999" },
		{ "http://h/" },
		{ "nbd://h/", "--swap=maybe" },
		{ "nbd://h/", "--swapon=32768" },
		{ "nbd://h/", "--swapon=" },
		{ "nbd://h/", "--swapon", "--read-only" },
		{ "nbd://h/", "--force" },
		{ "nbd://h/", "--block-size=1000" },
		{ "nbd://h/", "--block-size=8192" },
		{ "nbd://h/", "--slot-size=5000" },
		{ "nbd://h/", "--size=0" },
		{ "nbd://h/", "--size=all" },
		{ "nbd://h/", "--depth=1" },
		{ "nbd://h/", "--depth=129" },
		{ "nbd://h/", "--handshake-timeout=0" },
		{ "nbd://a/,nbd://b/,nbd://c/,nbd://d/,nbd://e/" },
		{ "nbd://a/,nbd://b/,nbd://c/,nbd://d/", "--endpoint=e" },
		{ "nbd://a/,nbd:///b?x=y" },
		{ "nbd://a/", "--endpoint=ftp://b/" },
		{ "nbd://a/", "--endpoint=b", "--tls-ca=f" },
		{ "nbd://a/", "--identity" },
		{ "nbd://a/", "--identity=size" },
		{ "nbd://a/", "--failback" },
		{ "nbd://a/,nbd://b/", "--failback=0" },
	};
	char out[64];
	struct err err;
	size_t i;

	(void)state;
	attaches = 0;
	for (i = 0; i < COUNT(cases); i++) {
		assert_int_not_equal(attach(&err, out, sizeof(out), cases[i]),
				     0);
		assert_int_equal(err.exit_code, X_USAGE);
		assert_true(err.text[0]);
		assert_string_equal(out, "");
	}
	assert_int_equal(attaches, 0);
}

static void attach_passes_the_rest(void **state)
{
	static const char *const arguments[] = {
		"nbd://h/", "--swapon", "--force", "--foreground",
		"--block-size=4k", "--depth=2", "--slot-size=1M",
		"--handshake-timeout=3", "--dead-timeout=60",
		"--request-timeout=7", "--on-eio=retry:5",
		"--min-free=65536", "--size=1G", NULL
	};
	char out[64];
	struct err err;

	(void)state;
	assert_int_equal(attach(&err, out, sizeof(out), arguments), 0);
	assert_true(seen.force);
	assert_true(seen.foreground);
	assert_int_equal(seen.block_bytes, 4096);
	assert_int_equal(seen.slots, 2);
	assert_int_equal(seen.slot_bytes, 1 << 20);
	assert_int_equal(seen.handshake_ms, 3000);
	assert_int_equal(seen.dead_timeout_s, 60);
	assert_int_equal(seen.request_timeout_ms, 7000);
	assert_int_equal(seen.retry_ms, 5000);
	assert_true(seen.size_bytes == 1u << 30);
	assert_int_equal(seen.min_free_kbytes, 65536);
	/* the daemon prints it itself, when it is ready */
	assert_string_equal(out, "");
}

/* No help line wider than a terminal, in any command. */
static void every_help_fits(void **state)
{
	const struct command *const all[] = { &cmd_attach, &cmd_detach,
					      &cmd_list,   &cmd_status,
					      &cmd_exports, &cmd_info };
	size_t i, bytes;

	(void)state;
	for (i = 0; i < COUNT(all); i++) {
		char *text = NULL, *line, *next;
		FILE *file = open_memstream(&text, &bytes);

		options_help(all[i], file);
		fclose(file);
		for (line = text; line && *line; line = next) {
			next = strchr(line, '\n');
			assert_non_null(next);
			*next++ = '\0';
			assert_true(strlen(line) < 80);
		}
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_land_where_they_belong),
		cmocka_unit_test(slips_are_explained),
		cmocka_unit_test(help_is_golden),
		cmocka_unit_test(numbers_and_sizes),
		cmocka_unit_test(distances),
		cmocka_unit_test(attach_understands),
		cmocka_unit_test(attach_takes_several_servers),
		cmocka_unit_test(attach_refuses),
		cmocka_unit_test(attach_passes_the_rest),
		cmocka_unit_test(every_help_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
