// SPDX-License-Identifier: GPL-2.0-or-later
/* nbd-client's old command line. See legacy.h. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/addr.h"
#include "common/text.h"
#include "nbd-client/cmd.h"
#include "nbd-client/legacy.h"
#include "nbd-client/nbd_sysfs.h"
#include "nbd-client/stats.h"

#define TIMEOUT_S_MAX (365u * 86400u) /* of attach --dead-timeout */

struct legacy_option {
	const char *name;
	char letter;
	enum legacy_action action;
	const char *tab;   /* its name in nbdtab; NULL: none there */
	const char *value; /* what it is called in the help; NULL: a flag */
	size_t offset;     /* of a string or a bool */
	const char *help;
};

#define FIELD(member) .offset = offsetof(struct legacy, member)
#define TO(member, what) FIELD(member), .action = (what)
static const struct legacy_option options[] = {
	{ "cacertfile", 'A', .tab = "cacertfile", .value = "FILE", FIELD(ca),
	  .help = "attach --tls=require --tls-ca=FILE" },
	{ "block-size", 'b', .tab = "bs", .value = "BYTES", FIELD(block_size),
	  .help = "attach --block-size=BYTES" },
	{ "size", 'B', .value = "BYTES", FIELD(size),
	  .help = "attach --size=BYTES" },
	{ "check", 'c', .value = "DEV", TO(device, LEGACY_CHECK),
	  .help = "prints the process; 1 if not connected" },
	{ "connections", 'C', .tab = "conns", .value = "COUNT",
	  FIELD(connections), .help = "attach --connections=COUNT" },
	{ "disconnect", 'd', .value = "DEV", TO(device, LEGACY_DISCONNECT),
	  .help = "detach DEV" },
	{ "certfile", 'F', .tab = "certfile", .value = "FILE", FIELD(cert),
	  .help = "attach --tls=require --tls-cert=FILE" },
	{ "no-optgo", 'g', .tab = "no_optgo", FIELD(no_go),
	  .help = "GO first all the same, if refused without" },
	{ "help", 'h', .action = LEGACY_HELP, .help = "this text" },
	{ "tlshostname", 'H', .tab = "tlshostname", .value = "NAME",
	  FIELD(tls_hostname),
	  .help = "attach --tls=require --tls-hostname=NAME" },
	{ "identifier", 'i', .value = "TEXT", FIELD(identifier),
	  .help = "ignored" },
	{ "keyfile", 'K', .tab = "keyfile", .value = "FILE", FIELD(key),
	  .help = "attach --tls=require --tls-key=FILE" },
	{ "list", 'l', .action = LEGACY_LIST, .help = "exports HOST [PORT]" },
	{ "nonetlink", 'L', FIELD(nonetlink), .help = "netlink is used" },
	{ "systemd-mark", 'm', FIELD(mark),
	  .help = "systemd spares the process at shutdown" },
	{ "nofork", 'n', FIELD(nofork),
	  .help = "with -L: attach --foreground" },
	{ "name", 'N', .value = "EXPORT", FIELD(name),
	  .help = "attach --export=EXPORT" },
	{ "persist", 'p', .tab = "persist", FIELD(persist), .help = "always" },
	{ "preinit", 'P', .tab = "preinit", FIELD(preinit), .help = "refused" },
	{ "readonly", 'R', FIELD(read_only), .help = "attach --read-only" },
	{ "swap", 's', .tab = "swap", FIELD(swap),
	  .help = "attach --swap=best-effort" },
	{ "sdp", 'S', FIELD(sdp), .help = "TCP is used" },
	{ "timeout", 't', .tab = "timeout", .value = "SECONDS", FIELD(timeout),
	  .help = "attach --dead-timeout=SECONDS" },
	{ "dead-timeout", 'T', .tab = "dead-timeout", .value = "SECONDS",
	  FIELD(dead_timeout), .help = "the same, and wins" },
	{ "unix", 'u', .tab = "unix", FIELD(unix_socket),
	  .help = "HOST is the path of a socket" },
	{ "version", 'V', .action = LEGACY_HELP, .help = "this text" },
	{ "enable-tls", 'x', .tab = "tls", FIELD(tls),
	  .help = "attach --tls=require" },
	{ "priority", 'y', .tab = "priority", .value = "TEXT", FIELD(priority),
	  .help = "ignored" },
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

static void note(FILE *notes, const char *text)
{
	fprintf(notes, "nbd-client: %s\n", text);
}

static int usage(struct err *err, const char *cause)
{
	return err_set(err, X_USAGE, EINVAL,
		       "%s; see \"nbd-client --help\" for the commands, or "
		       "\"nbd-client -L -h\" for the old options",
		       cause);
}

/* ---- reading ---- */

static void set(struct legacy *l, const struct legacy_option *o,
		const char *value)
{
	void *field = (char *)l + o->offset;

	if (o->action != LEGACY_ATTACH)
		l->action = o->action;
	if (o->value)
		*(const char **)field = value;
	else if (o->action == LEGACY_ATTACH)
		*(bool *)field = true;
}

static const struct legacy_option *find(int letter)
{
	size_t i;

	for (i = 0; i < OPTIONS; i++) {
		if (options[i].letter == letter)
			return &options[i];
	}
	return NULL;
}

bool legacy_set_tab(struct legacy *l, const char *name, const char *value)
{
	size_t i;

	if (!strcmp(name, "port") && value) { /* a word, on a command line */
		l->port = value;
		return true;
	}
	for (i = 0; i < OPTIONS; i++) {
		if (options[i].tab && !strcmp(options[i].tab, name) &&
		    !options[i].value == !value) {
			set(l, &options[i], value);
			return true;
		}
	}
	return false;
}

/* "bs=1024" and "timeout=10", older than options are. */
static int take_ancient(struct legacy *l, char *word, FILE *notes,
			struct err *err)
{
	char *value = strchr(word, '=') + 1, shown[64], cause[128];
	size_t length = (size_t)(value - word);

	if (length == sizeof("bs=") - 1 && !strncmp(word, "bs=", length)) {
		l->block_size = value;
		note(notes, "bs= is deprecated: write -block-size");
	} else if (length == sizeof("timeout=") - 1 &&
		   !strncmp(word, "timeout=", length)) {
		l->timeout = value;
		note(notes, "timeout= is deprecated: write -timeout");
	} else {
		text_escape_str(shown, sizeof(shown), word);
		snprintf(cause, sizeof(cause), "there is no option \"%s\"",
			 shown);
		return usage(err, cause);
	}
	return 0;
}

/* HOST [PORT] [DEV]: the second word is a port if it begins as a number does. */
static int take_word(struct legacy *l, char *word, FILE *notes, struct err *err)
{
	char shown[64], cause[128];

	if (strstr(word, "://"))
		return usage(err, "a URI wants a command: attach URI");
	if (strchr(word, '='))
		return take_ancient(l, word, notes, err);
	if (!l->host) {
		l->host = word;
	} else if (!l->port && !l->device && strtol(word, NULL, 0)) {
		l->port = word;
	} else if (!l->device) {
		l->device = word;
	} else {
		text_escape_str(shown, sizeof(shown), word);
		snprintf(cause, sizeof(cause), "\"%s\" is one word too many",
			 shown);
		return usage(err, cause);
	}
	return 0;
}

static int bad_option(const char *word, int letter, struct err *err)
{
	char shown[64], cause[192];

	text_escape_str(shown, sizeof(shown), word);
	if (letter)
		snprintf(cause, sizeof(cause), "-%s wants a value",
			 find(letter)->name);
	else
		snprintf(cause, sizeof(cause),
			 "\"%s\" is no option, is short for more than one, "
			 "or takes no value",
			 shown);
	return usage(err, cause);
}

int legacy_parse(int argc, char **argv, FILE *notes, struct legacy *ret,
		 struct err *err)
{
	/* '-': words in their order, as 1; ':': a missing value is told apart. */
	char letters[2 + 2 * OPTIONS + 1] = "-:", *letter = letters + 2;
	struct option longs[OPTIONS + 1] = { { 0 } };
	struct legacy l = { 0 };
	int c, rc = 0;
	size_t i;

	for (i = 0; i < OPTIONS; i++) {
		*letter++ = options[i].letter;
		if (options[i].value)
			*letter++ = ':';
		longs[i] = (struct option){ .name = options[i].name,
					    .has_arg = !!options[i].value,
					    .val = options[i].letter };
	}
	opterr = 0;
	optind = 0; /* begin anew, whoever was here before */
	while (!rc &&
	       (c = getopt_long_only(argc, argv, letters, longs, NULL)) >= 0) {
		if (c == 1)
			rc = take_word(&l, optarg, notes, err);
		else if (c == '?' || c == ':')
			rc = bad_option(
				argv[optind - (argv[optind - 1][0] == '-')],
				c == ':' ? optopt : 0, err);
		else
			set(&l, find(c), optarg);
	}
	for (; !rc && optind < argc; optind++) /* behind "--" */
		rc = take_word(&l, argv[optind], notes, err);
	if (!rc && !l.host &&
	    (l.action == LEGACY_ATTACH || l.action == LEGACY_LIST))
		rc = usage(err, "no host, and no device");
	if (!rc)
		*ret = l;
	return rc;
}

/* ---- translating ---- */

/* As strtol(3) has it, 0x and all, but the whole of it a number. */
static int number(const char *name, const char *text, uint64_t *ret_value,
		  struct err *err)
{
	char shown[64], *end = NULL;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (*text < '0' || *text > '9' || *end || errno) {
		text_escape_str(shown, sizeof(shown), text);
		return err_set(err, X_USAGE, EINVAL,
			       "-%s: \"%s\" is not a number", name, shown);
	}
	*ret_value = value;
	return 0;
}

static int add_number(struct config *c, const char *name, const char *text,
		      const char *to, uint64_t max, struct err *err)
{
	uint64_t value;
	int rc;

	if (!text)
		return 0;
	rc = number(name, text, &value, err);
	if (rc)
		return rc;
	return config_add(c, 0, err, "--%s=%llu", to,
			  (unsigned long long)(value < max ? value : max));
}

static int add_string(struct config *c, const char *to, const char *text,
		      struct err *err)
{
	return text ? config_add(c, 0, err, "--%s=%s", to, text) : 0;
}

static int add_flag(struct config *c, const char *to, bool flag,
		    struct err *err)
{
	return flag ? config_add(c, 0, err, "--%s", to) : 0;
}

/* Any of these options means it; a key alone is certificate and key. */
static bool wants_tls(const struct legacy *l)
{
	return l->tls || l->ca || l->cert || l->key || l->tls_hostname;
}

static int add_tls(const struct legacy *l, struct config *c, struct err *err)
{
	int rc;

	if (!wants_tls(l))
		return 0;
	rc = config_add(c, 0, err, "--tls=require");
	if (!rc)
		rc = add_string(c, "tls-ca", l->ca, err);
	if (!rc)
		rc = add_string(c, "tls-cert", l->cert ? l->cert : l->key, err);
	if (!rc)
		rc = add_string(c, "tls-key", l->key, err);
	if (!rc)
		rc = add_string(c, "tls-hostname", l->tls_hostname, err);
	return rc;
}

static int add_attach(const struct legacy *l, struct config *c, struct err *err)
{
	const char *dead = l->dead_timeout ? l->dead_timeout : l->timeout;
	int rc;

	rc = add_number(c, "block-size", l->block_size, "block-size",
			UINT64_MAX, err);
	if (!rc)
		rc = add_number(c, "size", l->size, "size", UINT64_MAX, err);
	if (!rc)
		rc = add_number(c, l->dead_timeout ? "dead-timeout" : "timeout",
				dead, "dead-timeout", TIMEOUT_S_MAX, err);
	if (!rc)
		rc = add_number(c, "connections", l->connections,
				"connections", QUEUES_MAX, err);
	if (!rc)
		rc = add_string(c, "export", l->name, err);
	if (!rc)
		rc = add_flag(c, "read-only", l->read_only, err);
	if (!rc)
		rc = add_flag(c, "swap=best-effort", l->swap, err);
	/* Without -nonetlink it has not kept the process since 3.17. */
	if (!rc)
		rc = add_flag(c, "foreground", l->nofork && l->nonetlink, err);
	return rc;
}

/* A relative path leads nowhere once the daemon has changed its directory. */
static int set_socket(struct addr *addr, const char *path, struct err *err)
{
	char here[4096], whole[8192];

	if (*path == '/' || !*path || !getcwd(here, sizeof(here)))
		return addr_parse_unix(addr, path, err);
	snprintf(whole, sizeof(whole), "%s/%.4000s", here, path);
	return addr_parse_unix(addr, whole, err);
}

static int set_server(const struct legacy *l, struct config *c, struct err *err)
{
	static char uri[ADDR_TEXT_MAX]; /* large */
	static struct addr addr;
	int rc;

	rc = l->unix_socket ? set_socket(&addr, l->host, err) :
			      addr_parse_host(&addr, l->host, l->port, err);
	if (rc)
		return rc;
	addr.tls_no_verify = wants_tls(l) && !l->ca;
	addr_format(&addr, uri, sizeof(uri));
	return config_set_uri(c, 0, uri, err);
}

/* What is not as it was, but goes on. */
static void tell(const struct legacy *l, FILE *notes, struct err *err)
{
	uint64_t count = 1;

	if (wants_tls(l) && !l->ca && l->host)
		note(notes,
		     "without -cacertfile the server does not have to "
		     "prove who it is, as ever; give the certificate of its "
		     "authority");
	if (l->priority)
		note(notes, "-priority is for GnuTLS, and ignored: TLS 1.2 or "
			    "1.3, authenticated ciphers only");
	if (l->action == LEGACY_LIST)
		return;
	if (l->swap)
		note(notes,
		     "-swap goes on where a guarantee is missing, "
		     "\"nbd-client status\" says which; attach --swap does "
		     "not");
	if (l->connections && !(l->device && strstr(l->device, "ublk")) &&
	    !number("connections", l->connections, &count, err) && count > 1)
		note(notes, "-connections: an nbd device has one, for any "
			    "number of requests at a time; a ublk device can "
			    "have several");
	if (l->identifier)
		note(notes, "-identifier is ignored: the server is known by "
			    "its URI, see \"nbd-client list\"");
	if (l->nofork && !l->nonetlink)
		note(notes,
		     "-nofork without -nonetlink returns once the "
		     "device is there, as ever; attach --foreground stays");
	if (l->sdp)
		note(notes, "-sdp: Linux has no SDP any more, TCP is used");
}

int legacy_words(const struct legacy *l, FILE *notes, struct config *ret,
		 struct err *err)
{
	int rc;

	if (l->preinit)
		return err_set(err, X_USAGE, ENOTSUP,
			       "-preinit: the server must negotiate, as all "
			       "but special ones do; leave it out");
	rc = add_tls(l, ret, err);
	if (!rc && l->action == LEGACY_ATTACH)
		rc = add_attach(l, ret, err);
	if (!rc && l->host)
		rc = set_server(l, ret, err);
	if (!rc)
		tell(l, notes, err);
	return rc;
}

/* ---- running ---- */

static void help(void)
{
	char left[32];
	size_t i;

	printf("Usage: nbd-client [OPTION]... HOST [PORT] [DEV]\n"
	       "       nbd-client nbd0\n"
	       "       nbd-client -d DEV | -c DEV | -l HOST [PORT]\n"
	       "The old command line, and what its options are in the new one "
	       "(\"nbd-client --help\").\n\n");
	for (i = 0; i < OPTIONS; i++) {
		snprintf(left, sizeof(left), "-%s%s%s", options[i].name,
			 options[i].value ? " " : "",
			 options[i].value ? options[i].value : "");
		printf("  -%c, %-23s %s\n", options[i].letter, left,
		       options[i].help);
	}
}

/* 0: connected, and the process is printed. Quiet otherwise, as ever. */
static int check(const char *device, struct err *err)
{
	struct blockdev b;
	pid_t pid;
	int rc;

	rc = blockdev_parse(device, &b, err);
	if (rc)
		return rc;
	rc = b.front == FRONT_NBD ? nbd_sysfs_pid(b.index, &pid) : -ENOENT;
	if (rc == -ENOENT)
		return err_set(err, X_FAILURE, ENOENT, "%s", "");
	if (rc)
		return err_set(err, X_USAGE, -rc, "%s: %s", b.path,
			       strerror(-rc));
	printf("%d\n", (int)pid);
	return 0;
}

static int run_command(const struct command *command, const struct config *c,
		       const char *device, struct err *err)
{
	char *argv[CONFIG_OPTIONS_MAX + 5];
	uint32_t i;
	int argc = 0;

	argv[argc++] = (char *)command->name;
	for (i = 0; i < c->count; i++)
		argv[argc++] = (char *)c->options[i].word;
	argv[argc++] = (char *)"--";
	if (c->uri)
		argv[argc++] = (char *)c->uri;
	if (device)
		argv[argc++] = (char *)device;
	argv[argc] = NULL;
	return command->run(argc, argv, err);
}

/*
 * Devices of other programs, too, as ever: whoever replaces the old program
 * has some of its. A device that is free already is what was wanted.
 */
static int disconnect(const char *device, struct config *c, struct err *err)
{
	const struct stats_page *page;
	struct blockdev b;
	pid_t pid;
	int rc;

	rc = blockdev_parse(device, &b, err);
	if (rc)
		return rc;
	rc = stats_open(b.name, &page, NULL);
	if (!rc)
		stats_close(page);
	if (rc == -ENOENT && b.front == FRONT_NBD && blockdev_exists(b.name)) {
		rc = nbd_sysfs_pid(b.index, &pid);
		if (rc == -ENOENT) {
			note(stderr, "it is not connected");
			return 0;
		}
		rc = config_add(c, 0, err, "--force");
		if (rc)
			return rc;
	}
	return run_command(&cmd_detach, c, b.path, err);
}

int legacy_run(int argc, char **argv, struct err *err)
{
	static struct config c; /* large */
	struct blockdev b;
	struct legacy l;
	int rc;

	config_init(&c);
	rc = legacy_parse(argc, argv, stderr, &l, err);
	if (rc)
		return rc;
	switch (l.action) {
	case LEGACY_HELP:
		help();
		return 0;
	case LEGACY_CHECK:
		return check(l.device, err);
	case LEGACY_DISCONNECT:
		return disconnect(l.device, &c, err);
	case LEGACY_LIST:
		l.device = NULL;
		break;
	case LEGACY_ATTACH:
		/* The device's own host and export are in a file. */
		if (!l.device && !l.port && !blockdev_parse(l.host, &b, NULL)) {
			l.device = l.host;
			l.host = NULL;
		}
		/* It knew no other. */
		if (!l.device)
			l.device = "nbd";
		if (l.mark)
			argv[0][0] = '@';
		break;
	}
	rc = legacy_words(&l, stderr, &c, err);
	if (rc)
		return rc;
	return run_command(l.action == LEGACY_LIST ? &cmd_exports_old :
						     &cmd_attach_old,
			   &c, l.device, err);
}
