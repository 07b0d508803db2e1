/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of nbdtab and of the configuration files of devices: what a text is for
 * attach, and what is said about one that is wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nbd-client/cmd.h"
#include "nbd-client/daemon.h"
#include "nbd-client/nbdtab.h"
#include "tests/tree.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

typedef int parser(struct config *c, char *text, size_t bytes,
		   const struct blockdev *device, FILE *notes, struct err *err);

static int parse_conf(struct config *c, char *text, size_t bytes,
		      const struct blockdev *device, FILE *notes,
		      struct err *err)
{
	(void)device;
	(void)notes;
	return config_parse(c, text, bytes, err);
}

/* Warnings, then "uri@line option@line ...", or the error, or "none". */
static void translate(parser *parse, const char *input, char *ret, size_t bytes)
{
	static struct config c;
	struct blockdev nbd0;
	char *notes = NULL, text[1024];
	size_t notes_bytes, used;
	FILE *file = open_memstream(&notes, &notes_bytes);
	struct err err = { 0 };
	uint32_t i;
	int rc;

	config_init(&c);
	blockdev_set(&nbd0, FRONT_NBD, 0);
	snprintf(text, sizeof(text), "%s", input);
	rc = parse(&c, text, strlen(text), &nbd0, file, &err);
	fclose(file);
	used = (size_t)snprintf(ret, bytes, "%s", notes);
	free(notes);
	if (rc) {
		assert_int_equal(err.exit_code, err.text[0] ? X_USAGE : 0);
		snprintf(ret + used, bytes - used, "%s",
			 err.text[0] ? err.text : "none");
		return;
	}
	used += (size_t)snprintf(ret + used, bytes - used, "%s@%u",
				 c.uri ? c.uri : "", c.uri_line);
	for (i = 0; i < c.count; i++)
		used += (size_t)snprintf(ret + used, bytes - used, " %s@%u",
					 c.options[i].word, c.options[i].line);
}

struct golden {
	const char *input, *text;
};

static void compare(parser *parse, const struct golden *cases, size_t count)
{
	char text[1024];
	size_t i;

	for (i = 0; i < count; i++) {
		translate(parse, cases[i].input, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
	}
}

#define SWAP_NOTE                                                               \
	"nbd-client: -swap goes on where a guarantee is missing, \"nbd-client " \
	"status\" says which; attach --swap does not\n"

static void lines_of_nbdtab(void **state)
{
	static const struct golden cases[] = {
		{ "", "none" },
		{ "# nothing\n\n  \n", "none" },
		{ "nbd0 h e\n", "nbd://h/@1 --export=e@1" },
		{ "nbd0 h e", "nbd://h/@1 --export=e@1" },
		{ "/dev/nbd0\th \t e\t\r\n", "nbd://h/@1 --export=e@1" },
		{ "nbd1 a b\n# c\n nbd0 h e # d\n", "nbd://h/@3 --export=e@3" },
		{ "nbd0 2001:db8::2 e#1 port=99\n",
		  "nbd://[2001:db8::2]:99/@1 --export=e#1@1" },
		{ "nbd0 192.168.1.1 test bs=1024,no_optgo\n",
		  "nbd://192.168.1.1/@1 --block-size=1024@1 --export=test@1" },
		{ "nbd0 h e swap,persist,timeout=9,_netdev,_x=y\n",
		  SWAP_NOTE "nbd://h/@1 --dead-timeout=9@1 --export=e@1 "
			    "--swap=best-effort@1" },
		{ "nbd0 /run/s e unix\n",
		  "nbd+unix:///?socket=/run/s@1 --export=e@1" },
		{ "nbd0 h e certfile=/c,keyfile=/k,cacertfile=/a,"
		  "tlshostname=n,dead-timeout=3,timeout=4,conns=1\n",
		  "nbd://h/@1 --tls=require@1 --tls-ca=/a@1 --tls-cert=/c@1 "
		  "--tls-key=/k@1 --tls-hostname=n@1 --dead-timeout=3@1 "
		  "--connections=1@1 --export=e@1" },
		{ "nbd0 h e tls,cacertfile=/a\n",
		  "nbd://h/@1 --tls=require@1 --tls-ca=/a@1 --export=e@1" },
		{ "nbd0 h e bs=512,bs=4096\n",
		  "nbd://h/@1 --block-size=4096@1 --export=e@1" },
		/* the first one counts */
		{ "nbd0 h e\n/dev/nbd0 i f\n",
		  "nbd-client: /etc/nbdtab:2: ignored: a line above is for the "
		  "same device\n"
		  "nbd://h/@1 --export=e@1" },
	};

	(void)state;
	compare(nbdtab_parse, cases, COUNT(cases));
}

static void slips_in_nbdtab(void **state)
{
	static const struct golden cases[] = {
		{ "nbd0 h\n",
		  "1: fewer than three fields: device, host, export" },
		{ "\nnbd0 h e swap, persist\n",
		  "2: more than four fields; options have commas between them, "
		  "and no blanks" },
		{ "nbd0 h e swap,,persist\n",
		  "1: a comma or an equals sign without an option" },
		{ "nbd0 h e =3\n",
		  "1: a comma or an equals sign without an option" },
		{ "nbd0 h e swap,\n",
		  "1: a comma or an equals sign without an option" },
		{ "nbd0 h e port=x\n",
		  "1: port 'x' is not a number from 1 to 65535 (NBD's own is "
		  "10809)" },
		{ "nbd0 h/ e\n",
		  "1: 'h/' is not the name or address of a host" },
		{ "nbd0 h e timeout=x\n",
		  "1: -timeout: \"x\" is not a number" },
		{ "nbd0 h e preinit\n",
		  "1: -preinit: the server must negotiate, as all but special "
		  "ones do; leave it out" },
		/* options that are none, or not like that */
		{ "nbd0 h e a\x1b,bs,swap=1,name=x\n",
		  "nbd-client: /etc/nbdtab:1: there is no option \"a\\x1b\" "
		  "without a value; ignored\n"
		  "nbd-client: /etc/nbdtab:1: there is no option \"bs\" "
		  "without a value; ignored\n"
		  "nbd-client: /etc/nbdtab:1: there is no option \"swap\" "
		  "with a value; ignored\n"
		  "nbd-client: /etc/nbdtab:1: there is no option \"name\" "
		  "with a value; ignored\n"
		  "nbd://h/@1 --export=e@1" },
		/* lines of others are none of its business */
		{ "sda\nnbd1 h\nvda h e\nnbd0 h e\n",
		  "nbd-client: /etc/nbdtab:1: fewer than three fields: device, "
		  "host, export\n"
		  "nbd-client: /etc/nbdtab:2: fewer than three fields: device, "
		  "host, export\n"
		  "nbd-client: /etc/nbdtab:3: \"vda\" is not a device of ours; "
		  "write nbd0 or /dev/nbd0, ublkb0 or /dev/ublkb0\n"
		  "nbd://h/@4 --export=e@4" },
		{ "nbd1 h e port=x,quux\n", "none" },
		{ "nbd0 h\nnbd0 h e\n",
		  "1: fewer than three fields: device, host, export" },
	};

	(void)state;
	compare(nbdtab_parse, cases, COUNT(cases));
}

static void settings_of_a_device(void **state)
{
	static const struct golden cases[] = {
		{ "", "@0" },
		{ "uri=nbd://h/e", "nbd://h/e@1" },
		{ "# c\n\n uri = nbd://h/e \r\n\tswap = best-effort\nread-only",
		  "nbd://h/e@3 --swap=best-effort@4 --read-only@5" },
		{ "uri=a\nuri=b\ndepth=2\ndepth=3\n",
		  "b@2 --depth=2@3 --depth=3@4" },
		{ "uri=nbd+unix:///e?socket=/s\n",
		  "nbd+unix:///e?socket=/s@1" },
		{ "export = a b#c\n", "@0 --export=a b#c@1" },
		{ "export=\n", "@0 --export=@1" },
		{ "uri\n", "1: uri needs a value" },
		{ "swap\nuri=\n", "2: uri needs a value" },
		{ "help\n", "1: help is no setting" },
	};

	(void)state;
	compare(parse_conf, cases, COUNT(cases));
}

static void texts_are_bounded(void **state)
{
	static struct config c;
	static char text[CONFIG_TEXT_BYTES + 64];
	struct err err = { 0 };
	size_t i;

	(void)state;
	config_init(&c);
	for (i = 0; i < CONFIG_OPTIONS_MAX + 1; i++)
		memcpy(text + 5 * i, "swap\n", 5);
	assert_int_not_equal(config_parse(&c, text, 5 * i, &err), 0);
	assert_string_equal(err.text, "65: too many or too long options");

	config_init(&c);
	memset(text, 'x', sizeof(text));
	assert_int_not_equal(config_parse(&c, text, sizeof(text) - 1, &err), 0);
	assert_string_equal(err.text, "1: too many or too long options");
	config_init(&c);
	memcpy(text, "uri=", 4);
	memset(text + 4, 'x', sizeof(text) - 4);
	assert_int_not_equal(config_parse(&c, text, sizeof(text) - 1, &err), 0);
	assert_string_equal(err.text, "1: too many or too long options");
}

/* ---- files, through attach ---- */

static struct attach_options seen;

int daemon_attach(const struct attach_options *o,
		  void (*on_ready)(const char *device),
		  char ret_device[DEVICE_NAME_BYTES], struct err *err)
{
	(void)on_ready;
	(void)err;
	seen = *o;
	snprintf(ret_device, DEVICE_NAME_BYTES, "/dev/nbd%d", o->index);
	return 0;
}

static char tree[TREE_BYTES], tab[TREE_BYTES + 16];

static int setup(void **state)
{
	(void)state;
	tree_make(tree);
	snprintf(tab, sizeof(tab), "%s/nbdtab", tree);
	config_dir = tree;
	config_nbdtab = tab;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return tree_remove(tree);
}

static int attach(struct err *err, const char *a, const char *b)
{
	const char *argv[] = { "attach", a, b, NULL };

	memset(err, 0, sizeof(*err));
	memset(&seen, 0, sizeof(seen));
	return cmd_attach.run(b ? 3 : 2, (char **)argv, err);
}

/* The error without the directory that the files are in. */
static void assert_error(const struct err *err, int exit_code,
			 const char *expected)
{
	const char *text = err->text;

	assert_int_equal(err->exit_code, exit_code);
	assert_int_equal(strncmp(text, tree, strlen(tree)), 0);
	assert_string_equal(text + strlen(tree), expected);
}

static void a_file_says_what_to_attach(void **state)
{
	struct err err;

	(void)state;
	assert_int_not_equal(attach(&err, "nbd0", NULL), 0);
	assert_int_equal(err.exit_code, X_NOT_FOUND);

	tree_put(tree, "nbdtab", "nbd0 tab e timeout=7\nnbd1 one e\n");
	assert_int_equal(attach(&err, "/dev/nbd0", NULL), 0);
	assert_string_equal(seen.addr.host, "tab");
	assert_string_equal(seen.addr.export_name, "e");
	assert_int_equal(seen.dead_timeout_s, 7);
	assert_int_equal(seen.index, 0);
	assert_int_equal(seen.slots, SLOTS_DEFAULT);
	assert_int_not_equal(attach(&err, "nbd2", NULL), 0);
	assert_int_equal(err.exit_code, X_NOT_FOUND);

	/* its own file replaces the line; the command line has the last word */
	tree_put(tree, "nbd0.conf", "uri=nbd://conf/f\nswap\ndepth=9\n");
	assert_int_equal(attach(&err, "nbd0", NULL), 0);
	assert_string_equal(seen.addr.host, "conf");
	assert_int_equal(seen.swap, SWAP_YES);
	assert_int_equal(seen.slots, 9);
	assert_int_equal(seen.dead_timeout_s, 0);
	assert_int_equal(attach(&err, "nbd0", "--depth=5"), 0);
	assert_int_equal(seen.slots, 5);
	assert_int_equal(attach(&err, "--swap=best-effort", "nbd0"), 0);
	assert_int_equal(seen.swap, SWAP_BEST_EFFORT);
	assert_int_equal(attach(&err, "nbd1", NULL), 0);
	assert_string_equal(seen.addr.host, "one");
	assert_int_equal(seen.index, 1);

	/* a URI says it all: nothing is read */
	tree_put(tree, "nbd0.conf", "nonsense");
	assert_int_equal(attach(&err, "nbd://cmd/x", "nbd0"), 0);
	assert_string_equal(seen.addr.host, "cmd");
}

static void errors_say_where(void **state)
{
	struct err err;

	(void)state;
	tree_put(tree, "nbd0.conf", "uri=nbd://h/\n\ndepht=9\n");
	assert_int_not_equal(attach(&err, "nbd0", NULL), 0);
	assert_error(&err, X_USAGE,
		     "/nbd0.conf:3: there is no option \"--depht\" (did you "
		     "mean --depth?); see \"nbd-client attach --help\"");
	tree_put(tree, "nbd0.conf", "swap=maybe");
	assert_int_not_equal(attach(&err, "nbd0", NULL), 0);
	assert_error(&err, X_USAGE, "/nbd0.conf:1: no line says uri=...");
	tree_put(tree, "nbd0.conf", "uri=nbd://h/\nread-only=yes");
	assert_int_not_equal(attach(&err, "nbd0", NULL), 0);
	assert_error(&err, X_USAGE,
		     "/nbd0.conf:2: --read-only takes no value; see "
		     "\"nbd-client attach --help\"");
	tree_put(tree, "nbdtab", "\nnbd1 h e bs=7");
	assert_int_not_equal(attach(&err, "nbd1", NULL), 0);
	assert_error(&err, X_USAGE,
		     "/nbdtab:2: --block-size must be from 512 to 4096, not "
		     "\"7\"; see \"nbd-client attach --help\"");
	tree_put(tree, "nbdtab", "nbd1 h");
	assert_int_not_equal(attach(&err, "nbd1", NULL), 0);
	assert_error(&err, X_USAGE,
		     "/nbdtab:1: fewer than three fields: device, host, "
		     "export");
}

static void odd_files_are_refused(void **state)
{
	struct err err;

	(void)state;
	tree_link(tree, "nbd5.conf", "/dev/zero");
	assert_int_not_equal(attach(&err, "nbd5", NULL), 0);
	assert_error(&err, X_USAGE, "/nbd5.conf: larger than 262144 bytes");
	tree_link(tree, "nbd6.conf", ".");
	assert_int_not_equal(attach(&err, "nbd6", NULL), 0);
	assert_int_equal(err.exit_code, X_FAILURE);
	tree_link(tree, "nbd7.conf", "/proc/self/cmdline");
	assert_int_not_equal(attach(&err, "nbd7", NULL), 0);
	assert_error(&err, X_USAGE,
		     "/nbd7.conf: not a text, it holds a NUL byte");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_of_nbdtab),
		cmocka_unit_test(slips_in_nbdtab),
		cmocka_unit_test(settings_of_a_device),
		cmocka_unit_test(texts_are_bounded),
		cmocka_unit_test_setup_teardown(a_file_says_what_to_attach,
						setup, teardown),
		cmocka_unit_test_setup_teardown(errors_say_where, setup,
						teardown),
		cmocka_unit_test_setup_teardown(odd_files_are_refused, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
