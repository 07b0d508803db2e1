/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the old command line: what each option becomes, in the words of the
 * new one, and what running it does (the ends of attach and detach are replaced
 * here and keep what they were given).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "nbd-client/cmd.h"
#include "nbd-client/daemon.h"
#include "nbd-client/legacy.h"
#include "nbd-client/stats.h"
#include "tests/tree.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define ARGUMENTS 8

static const char *const actions[] = {
	[LEGACY_ATTACH] = "attach",
	[LEGACY_CHECK] = "check",
	[LEGACY_DISCONNECT] = "disconnect",
	[LEGACY_LIST] = "list",
	[LEGACY_HELP] = "help",
};

/* A command line: "nbd-client" and arguments, which getopt may not change. */
static int make_argv(const char *const *arguments, char *ret[ARGUMENTS + 2])
{
	int argc = 1;

	ret[0] = (char *)"nbd-client";
	while (argc <= ARGUMENTS && arguments[argc - 1]) {
		ret[argc] = (char *)arguments[argc - 1];
		argc++;
	}
	ret[argc] = NULL;
	return argc;
}

/* Everything about a command line as text: warnings, words, or the error. */
static void translate(const char *const *arguments, char *ret, size_t bytes)
{
	static struct config c;
	char *argv[ARGUMENTS + 2], *notes = NULL;
	size_t notes_bytes, used;
	FILE *file = open_memstream(&notes, &notes_bytes);
	struct err err = { 0 };
	struct legacy l;
	uint32_t i;
	int rc;

	config_init(&c);
	rc = legacy_parse(make_argv(arguments, argv), argv, file, &l, &err);
	if (!rc && (l.action == LEGACY_ATTACH || l.action == LEGACY_LIST))
		rc = legacy_words(&l, file, &c, &err);
	fclose(file);
	used = (size_t)snprintf(ret, bytes, "%s", notes);
	free(notes);
	if (rc) {
		assert_int_equal(err.exit_code, X_USAGE);
		snprintf(ret + used, bytes - used, "error: %s", err.text);
		return;
	}
	used += (size_t)snprintf(ret + used, bytes - used, "%s",
				 actions[l.action]);
	for (i = 0; i < c.count; i++)
		used += (size_t)snprintf(ret + used, bytes - used, " %s",
					 c.options[i].word);
	if (c.uri)
		used += (size_t)snprintf(ret + used, bytes - used, " %s",
					 c.uri);
	if (l.device)
		snprintf(ret + used, bytes - used, " %s", l.device);
}

struct golden {
	const char *arguments[ARGUMENTS + 1];
	const char *text;
};

static void compare(const struct golden *cases, size_t count)
{
	char text[1024];
	size_t i;

	for (i = 0; i < count; i++) {
		translate(cases[i].arguments, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
	}
}

#define SWAP_NOTE                                                               \
	"nbd-client: -swap goes on where a guarantee is missing, \"nbd-client " \
	"status\" says which; attach --swap does not\n"
#define CA_NOTE                                                                \
	"nbd-client: without -cacertfile the server does not have to prove "   \
	"who it is, as ever; give the certificate of its authority\n"
#define SEE                                                                    \
	"; see \"nbd-client --help\" for the commands, or \"nbd-client -L "    \
	"-h\" for the old options"

/* One for each option, by its letter, its name, and its name in full. */
static const struct golden options_golden[] = {
	{ { "h", "nbd0", "-A", "/ca", "-x" },
	  "attach --tls=require --tls-ca=/ca nbd://h/ nbd0" },
	{ { "h", "nbd0", "--cacertfile=/ca" },
	  "attach --tls=require --tls-ca=/ca nbd://h/ nbd0" },
	{ { "h", "nbd0", "-b", "4096" },
	  "attach --block-size=4096 nbd://h/ nbd0" },
	{ { "h", "nbd0", "-block-size", "0x400" },
	  "attach --block-size=1024 nbd://h/ nbd0" },
	{ { "h", "nbd0", "-B", "1048576" },
	  "attach --size=1048576 nbd://h/ nbd0" },
	{ { "h", "nbd0", "-size", "1048576" },
	  "attach --size=1048576 nbd://h/ nbd0" },
	{ { "-c", "/dev/nbd0" }, "check /dev/nbd0" },
	{ { "-check", "/dev/nbd0" }, "check /dev/nbd0" },
	{ { "h", "nbd0", "-C", "1" },
	  "attach --connections=1 nbd://h/ nbd0" },
	{ { "h", "nbd0", "-connections", "4" },
	  "nbd-client: -connections: an nbd device has one, for any number of "
	  "requests at a time; a ublk device can have several\n"
	  "attach --connections=4 nbd://h/ nbd0" },
	{ { "h", "ublkb0", "-C", "4000" },
	  "attach --connections=8 nbd://h/ ublkb0" },
	{ { "-d", "/dev/nbd0" }, "disconnect /dev/nbd0" },
	{ { "-disconnect", "nbd0" }, "disconnect nbd0" },
	{ { "h", "-F", "/c", "-K", "/k", "-A", "/ca" },
	  "attach --tls=require --tls-ca=/ca --tls-cert=/c "
	  "--tls-key=/k nbd://h/" },
	{ { "h", "-certfile", "/c", "-keyfile", "/k", "-cacertfile", "/ca" },
	  "attach --tls=require --tls-ca=/ca --tls-cert=/c "
	  "--tls-key=/k nbd://h/" },
	{ { "h", "-K", "/both", "-A", "/ca" },
	  "attach --tls=require --tls-ca=/ca --tls-cert=/both "
	  "--tls-key=/both nbd://h/" },
	{ { "h", "nbd0", "-g" }, "attach nbd://h/ nbd0" },
	{ { "h", "nbd0", "-no-optgo" }, "attach nbd://h/ nbd0" },
	{ { "-L", "-h" }, "help" },
	{ { "-help" }, "help" },
	{ { "h", "-H", "n", "-A", "/ca" },
	  "attach --tls=require --tls-ca=/ca --tls-hostname=n "
	  "nbd://h/" },
	{ { "h", "-tlshostname", "n", "-A", "/ca" },
	  "attach --tls=require --tls-ca=/ca --tls-hostname=n "
	  "nbd://h/" },
	{ { "h", "nbd0", "-i", "x" },
	  "nbd-client: -identifier is ignored: the server is known by "
	  "its URI, see \"nbd-client list\"\n"
	  "attach nbd://h/ nbd0" },
	{ { "-l", "h" }, "list nbd://h/" },
	{ { "-list", "h", "99" }, "list nbd://h:99/" },
	{ { "-l", "h", "-swap", "-A", "/ca" },
	  "list --tls=require --tls-ca=/ca nbd://h/" },
	{ { "h", "nbd0", "-L" }, "attach nbd://h/ nbd0" },
	{ { "h", "nbd0", "-nonetlink" }, "attach nbd://h/ nbd0" },
	{ { "h", "nbd0", "-m" }, "attach nbd://h/ nbd0" },
	{ { "h", "nbd0", "-systemd-mark" }, "attach nbd://h/ nbd0" },
	{ { "h", "nbd0", "-n" },
	  "nbd-client: -nofork without -nonetlink returns once the "
	  "device is there, as ever; attach --foreground stays\n"
	  "attach nbd://h/ nbd0" },
	{ { "h", "nbd0", "-nofork", "-L" },
	  "attach --foreground nbd://h/ nbd0" },
	{ { "-N", "e x", "h", "nbd0" }, "attach --export=e x nbd://h/ nbd0" },
	{ { "-name", "e", "h", "nbd0" }, "attach --export=e nbd://h/ nbd0" },
	{ { "h", "nbd0", "-p" }, "attach nbd://h/ nbd0" },
	{ { "h", "nbd0", "-persist" }, "attach nbd://h/ nbd0" },
	{ { "h", "nbd0", "-P", "-B", "512" },
	  "error: -preinit: the server must negotiate, as all but "
	  "special ones do; leave it out" },
	{ { "h", "nbd0", "-R" }, "attach --read-only nbd://h/ nbd0" },
	{ { "h", "nbd0", "-readonly" }, "attach --read-only nbd://h/ nbd0" },
	{ { "h", "nbd0", "-s" },
	  SWAP_NOTE "attach --swap=best-effort nbd://h/ nbd0" },
	{ { "h", "nbd0", "-swap" },
	  SWAP_NOTE "attach --swap=best-effort nbd://h/ nbd0" },
	{ { "h", "nbd0", "-S" },
	  "nbd-client: -sdp: Linux has no SDP any more, TCP is used\n"
	  "attach nbd://h/ nbd0" },
	{ { "h", "nbd0", "-t", "30" },
	  "attach --dead-timeout=30 nbd://h/ nbd0" },
	{ { "h", "nbd0", "-timeout", "0" },
	  "attach --dead-timeout=0 nbd://h/ nbd0" },
	{ { "h", "nbd0", "-T", "60", "-t", "30" },
	  "attach --dead-timeout=60 nbd://h/ nbd0" },
	{ { "h", "nbd0", "-dead-timeout", "999999999" },
	  "attach --dead-timeout=31536000 nbd://h/ nbd0" },
	{ { "-u", "/run/nbd.sock", "nbd0" },
	  "attach nbd+unix:///?socket=/run/nbd.sock nbd0" },
	{ { "-unix", "/run/nbd.sock", "nbd0", "-N", "e" },
	  "attach --export=e nbd+unix:///?socket=/run/nbd.sock nbd0" },
	{ { "h", "-V" }, "help" },
	{ { "h", "nbd0", "-x" },
	  CA_NOTE "attach --tls=require nbd://h/?tls-verify-peer=0 "
		  "nbd0" },
	{ { "h", "nbd0", "-enable-tls", "-A", "/ca" },
	  "attach --tls=require --tls-ca=/ca nbd://h/ nbd0" },
	{ { "h", "nbd0", "-y", "NORMAL" },
	  "nbd-client: -priority is for GnuTLS, and ignored: TLS 1.2 "
	  "or 1.3, authenticated ciphers only\n"
	  "attach nbd://h/ nbd0" },
};

static void options_become(void **state)
{
	(void)state;
	compare(options_golden, COUNT(options_golden));
}

/* As getopt_long_only(3) reads them, and words as they always were. */
static void spellings(void **state)
{
	static const struct golden cases[] = {
		{ { "-t10", "-b512", "h", "nbd0" },
		  "attach --block-size=512 --dead-timeout=10 nbd://h/ nbd0" },
		{ { "--timeout=10", "h", "nbd0" },
		  "attach --dead-timeout=10 nbd://h/ nbd0" },
		{ { "-timeout=10", "h", "nbd0" },
		  "attach --dead-timeout=10 nbd://h/ nbd0" },
		{ { "-ti", "10", "-per", "h", "nbd0", "-read" },
		  "attach --dead-timeout=10 --read-only nbd://h/ nbd0" },
		{ { "h", "nbd0", "--", "-t" },
		  "error: \"-t\" is one word too many" SEE },
		{ { "--", "h", "nbd0" }, "attach nbd://h/ nbd0" },
		{ { "-pR", "h", "nbd0" }, "attach --read-only nbd://h/ nbd0" },
		{ { "-d/dev/nbd1" }, "disconnect /dev/nbd1" },
		/* in the order of a script of any age */
		{ { "h", "2000", "/dev/nbd1", "-swap" },
		  SWAP_NOTE "attach --swap=best-effort nbd://h:2000/ "
			    "/dev/nbd1" },
		{ { "-p", "h", "-N", "e", "2000", "-b", "1024", "nbd1" },
		  "attach --block-size=1024 --export=e nbd://h:2000/ nbd1" },
		{ { "h", "bs=1024", "2000", "nbd1", "timeout=9" },
		  "nbd-client: bs= is deprecated: write -block-size\n"
		  "nbd-client: timeout= is deprecated: write -timeout\n"
		  "attach --block-size=1024 --dead-timeout=9 nbd://h:2000/ "
		  "nbd1" },
		/* of initramfs-tools */
		{ { "h", "-N", "p", "/dev/nbd0", "-swap", "-persist",
		    "-systemd-mark", "-b512" },
		  SWAP_NOTE "attach --block-size=512 --export=p "
			    "--swap=best-effort nbd://h/ /dev/nbd0" },
		{ { "h" }, "attach nbd://h/" },
		{ { "h", "0x2710", "nbd1" },
		  "error: port '0x2710' is not a number from 1 to 65535 "
		  "(NBD's own is 10809)" },
		{ { "2001:db8::1", "nbd0" },
		  "attach nbd://[2001:db8::1]/ nbd0" },
		{ { "h", "/dev/nbd0", "-N", "" },
		  "attach --export= nbd://h/ /dev/nbd0" },
	};

	(void)state;
	compare(cases, COUNT(cases));
}

static void errors(void **state)
{
	static const struct golden cases[] = {
		{ { "-L" }, "error: no host, and no device" SEE },
		{ { "-l" }, "error: no host, and no device" SEE },
		{ { "h", "nbd0", "-t" }, "error: -timeout wants a value" SEE },
		{ { "h", "nbd0", "-block-size" },
		  "error: -block-size wants a value" SEE },
		{ { "h", "nbd0", "-no" },
		  "error: \"-no\" is no option, is short for more than one, or "
		  "takes no value" SEE },
		{ { "h", "nbd0", "-zz" },
		  "error: \"-zz\" is no option, is short for more than one, or "
		  "takes no value" SEE },
		{ { "-szx", "h" },
		  "error: \"-szx\" is no option, is short for more than one, "
		  "or takes no value" SEE },
		{ { "h", "nbd0", "--\x1b[1m" },
		  "error: \"--\\x1b[1m\" is no option, is short for more than "
		  "one, or takes no value" SEE },
		{ { "h", "nbd0", "-swap=1" },
		  "error: \"-swap=1\" is no option, is short for more than "
		  "one, or takes no value" SEE },
		{ { "h", "nbd0", "foo=1" },
		  "error: there is no option \"foo=1\"" SEE },
		{ { "h", "99", "nbd0", "nbd1" },
		  "error: \"nbd1\" is one word too many" SEE },
		{ { "nbd://h/x", "nbd0" },
		  "error: a URI wants a command: attach URI" SEE },
		{ { "h", "nbd0", "-t", "soon" },
		  "error: -timeout: \"soon\" is not a number" },
		{ { "h", "nbd0", "-t", "-1" },
		  "error: -timeout: \"-1\" is not a number" },
		{ { "h", "nbd0", "-b", "4k" },
		  "error: -block-size: \"4k\" is not a number" },
		{ { "h", "99999", "nbd0" },
		  "error: port '99999' is not a number from 1 to 65535 (NBD's "
		  "own is 10809)" },
		{ { "-u", "", "nbd0" },
		  "error: the path of the socket is empty" },
	};

	(void)state;
	compare(cases, COUNT(cases));
}

/* ---- running it ---- */

static struct attach_options seen;
static char detached[128];

int daemon_attach(const struct attach_options *o,
		  void (*on_ready)(const char *device),
		  char ret_device[DEVICE_NAME_BYTES], struct err *err)
{
	(void)on_ready;
	(void)err;
	seen = *o;
	snprintf(ret_device, DEVICE_NAME_BYTES, "/dev/nbd%d",
		 o->index < 0 ? 5 : o->index);
	return 0;
}

static int run_detach(int argc, char **argv, struct err *err)
{
	int i;

	(void)err;
	*detached = '\0';
	for (i = 0; i < argc; i++) {
		size_t used = strlen(detached);

		snprintf(detached + used, sizeof(detached) - used, "%s%s",
			 i ? " " : "", argv[i]);
	}
	return 0;
}

const struct command cmd_detach = { .name = "detach", .run = run_detach };

/* Standard output in *ret_out; the name of the program is argv[0] afterwards. */
static char program[16];

static int run(struct err *err, char *ret_out, size_t out_bytes, const char *a,
	       const char *b, const char *c, const char *d)
{
	const char *const arguments[ARGUMENTS + 1] = { a, b, c, d };
	char *argv[ARGUMENTS + 2];
	int argc = make_argv(arguments, argv), pipes[2], rc;
	int saved = dup(STDOUT_FILENO);
	ssize_t n;

	snprintf(program, sizeof(program), "nbd-client");
	argv[0] = program;
	memset(err, 0, sizeof(*err));
	assert_int_equal(pipe(pipes), 0);
	fflush(stdout);
	dup2(pipes[1], STDOUT_FILENO);
	close(pipes[1]);
	rc = legacy_run(argc, argv, err);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	n = read(pipes[0], ret_out, out_bytes - 1);
	ret_out[n < 0 ? 0 : n] = '\0';
	close(pipes[0]);
	return rc;
}

static char tree[TREE_BYTES];

static int setup(void **state)
{
	(void)state;
	tree_make(tree);
	tree_put(tree, "block/nbd0/pid", "4711\n");
	tree_put(tree, "block/nbd1/size", "0\n");
	tree_put(tree, "run/empty", "");
	blockdev_sys_root = tree;
	config_dir = tree;
	config_nbdtab = "/nonexistent";
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return tree_remove(tree);
}

static void check_exits_as_ever(void **state)
{
	char out[64];
	struct err err;

	(void)state;
	assert_int_equal(
		run(&err, out, sizeof(out), "-c", "/dev/nbd0", NULL, NULL), 0);
	assert_string_equal(out, "4711\n");
	assert_int_equal(
		run(&err, out, sizeof(out), "-check", "nbd0", NULL, NULL), 0);
	assert_string_equal(out, "4711\n");
	/* there, but not connected; not even there */
	assert_int_not_equal(
		run(&err, out, sizeof(out), "-c", "nbd1", NULL, NULL), 0);
	assert_int_equal(err.exit_code, 1);
	assert_string_equal(err.text, "");
	assert_string_equal(out, "");
	assert_int_not_equal(
		run(&err, out, sizeof(out), "-c", "nbd9", NULL, NULL), 0);
	assert_int_equal(err.exit_code, 1);
	/* no device, so neither */
	assert_int_not_equal(
		run(&err, out, sizeof(out), "-c", "sda", NULL, NULL), 0);
	assert_int_equal(err.exit_code, 2);
	assert_string_equal(out, "");
}

static void disconnect_detaches(void **state)
{
	char out[64], run_dir[96];
	struct err err;

	(void)state;
	snprintf(run_dir, sizeof(run_dir), "%s/run", tree);
	stats_run_dir = run_dir;
	/* connected by another program */
	assert_int_equal(run(&err, out, sizeof(out), "-d", "nbd0", NULL, NULL),
			 0);
	assert_string_equal(detached, "detach --force -- /dev/nbd0");
	/* by ours: not by force, or requests under way would be lost */
	tree_put(tree, "run/nbd0.stats", "damaged, but there");
	assert_int_equal(
		run(&err, out, sizeof(out), "-d", "/dev/nbd0", NULL, NULL), 0);
	assert_string_equal(detached, "detach -- /dev/nbd0");
	tree_drop(tree, "run/nbd0.stats");
	/* by nobody */
	*detached = '\0';
	assert_int_equal(run(&err, out, sizeof(out), "-d", "nbd1", NULL, NULL),
			 0);
	assert_string_equal(detached, "");
	/* no such device, which is for detach to say */
	assert_int_equal(run(&err, out, sizeof(out), "-d", "nbd9", NULL, NULL),
			 0);
	assert_string_equal(detached, "detach -- /dev/nbd9");
	assert_int_not_equal(
		run(&err, out, sizeof(out), "-d", "sda", NULL, NULL), 0);
	assert_int_equal(err.exit_code, X_USAGE);
	assert_string_equal(out, "");
}

static void attach_prints_as_ever(void **state)
{
	char out[64];
	struct err err;

	(void)state;
	assert_int_equal(run(&err, out, sizeof(out), "h", "-N", "e", NULL), 0);
	assert_string_equal(out, "Connected /dev/nbd5\n");
	assert_int_equal(seen.front, FRONT_NBD);
	assert_false(seen.front_auto);
	assert_string_equal(seen.addr.host, "h");
	assert_string_equal(seen.addr.export_name, "e");
	assert_int_equal(seen.swap, SWAP_NO);
	assert_string_equal(program, "nbd-client");

	assert_int_equal(
		run(&err, out, sizeof(out), "h", "/dev/nbd3", "-s", "-m"), 0);
	assert_string_equal(out, "Connected /dev/nbd3\n");
	assert_int_equal(seen.swap, SWAP_BEST_EFFORT);
	assert_string_equal(program, "@bd-client");

	assert_int_equal(
		run(&err, out, sizeof(out), "h", "nbd3", "-B4096", "-xR"), 0);
	assert_true(seen.size_bytes == 4096);
	assert_true(seen.read_only);
	assert_string_equal(seen.tls.mode, "require");
	assert_true(seen.addr.tls_no_verify);

	/* what only attach knows to be wrong */
	assert_int_not_equal(
		run(&err, out, sizeof(out), "h", "nbd3", "-b8192", NULL), 0);
	assert_int_equal(err.exit_code, X_USAGE);
	assert_string_equal(out, "");
}

/* A socket by a relative path must be found after chdir("/"). */
static void sockets_are_absolute(void **state)
{
	char out[64], here[4096], whole[4200];
	struct err err;

	(void)state;
	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir(tree), 0);
	assert_int_equal(
		run(&err, out, sizeof(out), "-u", "s.sock", "nbd3", NULL), 0);
	assert_int_equal(chdir(here), 0);
	snprintf(whole, sizeof(whole), "%s/s.sock", tree);
	assert_string_equal(seen.addr.socket_path, whole);
	assert_int_equal(seen.addr.kind, ADDR_UNIX);
}

static void device_alone_is_configured(void **state)
{
	char out[64];
	struct err err;

	(void)state;
	assert_int_not_equal(
		run(&err, out, sizeof(out), "nbd7", NULL, NULL, NULL), 0);
	assert_int_equal(err.exit_code, X_NOT_FOUND);
	tree_put(tree, "nbd7.conf", "uri = nbd://configured/e\nswap\n");
	assert_int_equal(
		run(&err, out, sizeof(out), "/dev/nbd7", NULL, NULL, NULL), 0);
	assert_string_equal(out, "Connected /dev/nbd7\n");
	assert_string_equal(seen.addr.host, "configured");
	assert_int_equal(seen.swap, SWAP_YES);
	/* the command line has the last word */
	assert_int_equal(
		run(&err, out, sizeof(out), "nbd7", "-swap", "-N", "other"), 0);
	assert_int_equal(seen.swap, SWAP_BEST_EFFORT);
	assert_string_equal(seen.addr.export_name, "other");
}

static void help_has_every_option(void **state)
{
	static char out[8192];
	struct err err;

	(void)state;
	assert_int_equal(run(&err, out, sizeof(out), "-L", "-h", NULL, NULL),
			 0);
	assert_non_null(strstr(out, "  -A, -cacertfile FILE        attach "
				    "--tls=require --tls-ca=FILE\n"));
	assert_non_null(strstr(out, "  -y, -priority TEXT          ignored\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_become),
		cmocka_unit_test(spellings),
		cmocka_unit_test(errors),
		cmocka_unit_test(check_exits_as_ever),
		cmocka_unit_test(disconnect_detaches),
		cmocka_unit_test(attach_prints_as_ever),
		cmocka_unit_test(sockets_are_absolute),
		cmocka_unit_test(device_alone_is_configured),
		cmocka_unit_test(help_has_every_option),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
