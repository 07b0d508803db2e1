// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbd-client attach: makes an export a block device. Command line; with
 * --foreground this process becomes the daemon.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "common/addr.h"
#include "nbd-client/attach_set.h"
#include "nbd-client/blockdev.h"
#include "nbd-client/cmd.h"
#include "nbd-client/config.h"
#include "nbd-client/daemon.h"
#include "nbd-client/device.h"
#include "nbd-client/dry_run.h"
#include "nbd-client/handover.h"
#include "nbd-client/notify.h"
#include "nbd-client/supervisor.h"
#include "nbd-client/words.h"

#define FIELD(member) .offset = offsetof(struct attach_line, member)
static const struct option_spec attach_options[] = {
	{ .name = "swap", .kind = OPTION_CALL, .value = "[=best-effort]",
	  .set = attach_set_swap,
	  .help = "as swap: refuse if a guarantee is missing;\n"
		  "best-effort: go on, and status says which" },
	{ .name = "swapon", .kind = OPTION_CALL, .value = "[=PRIORITY]",
	  .set = attach_set_swapon,
	  .help = "implies --swap; write a swap signature if the\n"
		  "export is empty, and activate it" },
	{ .name = "force", .kind = OPTION_FLAG, FIELD(options.force),
	  .help = "with --swapon: overwrite other content" },
	{ .name = "foreground", .kind = OPTION_FLAG, FIELD(options.foreground),
	  .help = "serve in this process until detached" },
	{ .name = "idempotent", .kind = OPTION_FLAG,
	  FIELD(options.idempotent),
	  .help = "a device that has the export already will do" },
	{ .name = "recover", .kind = OPTION_FLAG, FIELD(recover),
	  .help = "a device that a dead client has left is served\n"
		  "again, as it was attached (see recover)" },
	{ .name = "dry-run", .kind = OPTION_FLAG, FIELD(options.dry_run),
	  .help = "attach nothing; print the memory it would take" },
	{ .name = "json", .letter = 'J', .kind = OPTION_FLAG,
	  FIELD(output.json), .help = "with --dry-run: print JSON" },
	{ .name = "read-only", .kind = OPTION_FLAG, FIELD(options.read_only),
	  .help = "the device cannot be written" },
	{ .name = "kernel-path", .kind = OPTION_FLAG,
	  FIELD(options.kernel_path),
	  .help = "with nbd: the kernel's driver talks to the server\n"
		  "itself; only the link is looked after" },
	{ .name = "size", .kind = OPTION_CALL, .value = "BYTES",
	  .set = attach_set_size, .help = "use only the beginning of the export" },
	{ .name = "export", .kind = OPTION_STRING, .value = "NAME",
	  FIELD(export_name),
	  .help = "name of the export, if it is not in the URI" },
	{ .name = "endpoint", .kind = OPTION_CALL, .value = "URI",
	  .set = attach_set_endpoint,
	  .help = "another server of the same, for when those before\n"
		  "it cannot be reached" },
	{ .name = "failback", .kind = OPTION_CALL, .value = "[=SECONDS]",
	  .set = attach_set_failback,
	  .help = "back to the first server when it has been there\n"
		  "for so long again (30); else by reconnect only" },
	{ .name = "identity", .kind = OPTION_CALL, .value = "description",
	  .set = attach_set_identity,
	  .help = "serve only what the server describes in the same\n"
		  "words as before" },
	{ .name = "handshake-timeout", .kind = OPTION_U32, .value = "SECONDS",
	  FIELD(options.handshake_ms), .min = 1, .max = CMD_HANDSHAKE_S_MAX,
	  .scale = 1000,
	  .help = "for each step of the handshake (default 10)" },
	{ .name = "request-timeout", .kind = OPTION_U32, .value = "SECONDS",
	  FIELD(options.request_timeout_ms), .min = 0, .max = 3600,
	  .scale = 1000,
	  .help = "when an answer takes so long, see whether another\n"
		  "connection has one (default 10; 0: never)" },
	{ .name = "on-eio", .kind = OPTION_CALL,
	  .value = "fail|retry[:SECONDS]", .set = attach_set_on_eio,
	  .help = "what the server fails with EIO, ENOSPC or ENOMEM\n"
		  "fails, or is asked again for so long (60); the\n"
		  "default is fail, with --swap retry" },
	{ .name = "dead-timeout", .kind = OPTION_U32, .value = "SECONDS",
	  FIELD(options.dead_timeout_s), .min = 0, .max = 365 * 86400,
	  .help = "fail I/O when the link is lost for so long\n"
		  "(default 0: never)" },
	{ .name = "watchdog", .kind = OPTION_U32, .value = "SECONDS",
	  FIELD(options.watchdog_s), .min = 0, .max = 3600,
	  .help = "replace a worker process that has been stuck for\n"
		  "so long (default 10; 0: never)" },
	{ .name = "fence-timeout", .kind = OPTION_U32, .value = "SECONDS",
	  FIELD(options.fence_ms), .min = 0, .max = 3600, .scale = 1000,
	  .help = "wait so long until the server is seen to have\n"
		  "done with a lost connection (default 2)" },
	{ .name = "block-size", .kind = OPTION_SIZE32, .value = "BYTES",
	  FIELD(options.block_bytes), .min = 512, .max = 4096,
	  .help = "of the device (default 512, or what the server\n"
		  "needs at least)" },
	{ .name = "connections", .kind = OPTION_U32, .value = "COUNT",
	  FIELD(options.connections), .min = 1, .max = QUEUES_MAX,
	  .help = "of a ublk device, at most; each has a thread and\n"
		  "slots of its own (default: one per CPU up to 4;\n"
		  "with --swap on hosts below 1 GB: 1)" },
	{ .name = "depth", .kind = OPTION_U32, .value = "COUNT",
	  FIELD(options.slots), .min = SLOTS_MIN, .max = SLOTS_MAX,
	  .help = "requests under way at a time, for each\n"
		  "connection (default 64)" },
	{ .name = "slot-size", .kind = OPTION_SIZE32, .value = "BYTES",
	  FIELD(options.slot_bytes), .min = SLOT_BYTES_MIN,
	  .max = SLOT_BYTES_MAX, .help = "largest request (default 128K)" },
	{ .name = "reserve", .kind = OPTION_CALL, .value = "BYTES",
	  .set = attach_set_reserve,
	  .help = "pin so much for requests instead of what --depth\n"
		  "takes, with as many slots as fit into it" },
	{ .name = "min-free", .kind = OPTION_U64, .value = "KBYTES",
	  FIELD(options.min_free_kbytes), .min = 1024, .max = INT32_MAX,
	  .help = "raise vm.min_free_kbytes to this instead of what\n"
		  "the device needs" },
	{ .name = "without", .kind = OPTION_CALL, .value = "MEASURE,...",
	  .set = attach_set_without,
	  .help = "leave protective measures out, to see what each\n"
		  "brings; never for real swap: reserve, donor,\n"
		  "socket-memory, cgroup, mlock, flusher, fifo, oom,\n"
		  "tune, windows, elastic, buffers, sysctls" },
	{ .name = "shed", .kind = OPTION_FLAG, FIELD(options.shed),
	  .help = "while memory is low, drop incoming packets that\n"
		  "have nothing to do with the device; not ssh" },
	{ .name = "shed-exempt", .kind = OPTION_CALL, .value = "PORT[,PORT...]",
	  .set = attach_set_shed_exempt,
	  .help = "with --shed: neither those of these ports" },
	{ .name = "pin-neighbours", .kind = OPTION_FLAG,
	  FIELD(options.pin_neighbours),
	  .help = "while the link is up, keep the entries of the\n"
		  "servers, or of the gateway to them, permanent" },
	CMD_TLS_OPTIONS(struct attach_line, options.tls),
	CMD_TLS_RECORDS(struct attach_line, options.tls),
	CMD_OPTIONS_END
};
_Static_assert(SLOTS_DEFAULT == 64 && SLOT_BYTES_DEFAULT == 128 * KIB &&
		       CMD_HANDSHAKE_S_DEFAULT == 10 &&
		       REQUEST_TIMEOUT_S_DEFAULT == 10 && RETRY_S_DEFAULT == 60,
	       "as the help says");

/* HOST may be followed by a port, a URI says it itself. */
static bool is_port(const char *word)
{
	uint64_t value;

	return !options_parse_number(word, &value);
}

static int take_device(const char *word, struct attach_options *options,
		       struct err *err)
{
	struct blockdev device;
	int rc;

	options->front_auto = !strcmp(word, "auto");
	if (options->front_auto)
		return 0;
	if (!strcmp(word, "nbd")) {
		options->front = FRONT_NBD;
	} else if (!strcmp(word, "ublk")) {
		options->front = FRONT_UBLK;
	} else {
		rc = blockdev_parse(word, &device, err);
		if (rc)
			return rc;
		options->front = device.front;
		options->index = (int32_t)device.index;
	}
	return 0;
}

/* URI[,URI...]: the first, and those behind it. */
static int take_uris(const char *list, struct attach_options *options,
		     struct err *err)
{
	static char uri[ADDR_TEXT_MAX];
	struct addr *addr = &options->addr;

	for (;;) {
		size_t bytes = addr_first_bytes(list);
		int rc;

		snprintf(uri, sizeof(uri), "%.*s", (int)bytes, list);
		rc = addr_parse(addr, uri, err);
		list += bytes;
		if (rc || !*list++)
			return rc;
		if (options->other_count == ENDPOINTS_MAX - 1)
			return attach_too_many(err);
		addr = &options->others[options->other_count++];
	}
}

/* URI [DEV] | HOST [PORT] [DEV] */
static int take_words(const struct words *words, struct attach_options *options,
		      struct err *err)
{
	bool uri = strstr(words->word[0], "://") != NULL;
	const char *port = NULL;
	uint32_t next = 1;
	int rc;

	if (!uri && next < words->count && is_port(words->word[next]))
		port = words->word[next++];
	rc = port ? addr_parse_host(&options->addr, words->word[0], port, err) :
		    take_uris(words->word[0], options, err);
	if (rc)
		return rc;
	if (next == words->count)
		return 0;
	if (next + 1 < words->count)
		return err_set(err, X_USAGE, EINVAL,
			       "too many words after the %s; see \"nbd-client "
			       "attach --help\"", uri ? "URI" : "host");
	return take_device(words->word[next], options, err);
}

/* More than CPUs the driver does not take; and each costs memory. */
static void choose_connections(struct attach_options *o)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint32_t most = o->connections ? o->connections : CONNECTIONS_DEFAULT;
	struct sysinfo host;
	bool small = o->swap != SWAP_NO && !sysinfo(&host) &&
		     (uint64_t)host.totalram * host.mem_unit < 1000000000;

	if (!o->connections && (small || o->reserve_bytes))
		most = 1;
	o->connections = cpus > 0 && cpus < most ? (uint32_t)cpus : most;
}

/* What is given for TLS is right if one of the servers speaks it. */
static int check_tls(struct attach_options *options, struct err *err)
{
	struct tls_options *tls = &options->tls;
	enum handshake_tls mode;
	bool used = false;
	int rc = 0;

	tls->partly = true;
	for (uint32_t i = 0; i <= options->other_count && !rc; i++) {
		rc = tls_decide(tls, attach_addr(options, i), &mode, err);
		used |= !rc && mode != HANDSHAKE_TLS_OFF;
	}
	tls->partly = used;
	return rc ? rc : tls_decide(tls, &options->addr, &mode, err);
}

/* What a single option's range cannot say. */
static int check(struct attach_options *options, bool recover, struct err *err)
{
	if (options->block_bytes & (options->block_bytes - 1))
		return err_set(err, X_USAGE, EINVAL,
			       "--block-size must be 512, 1024, 2048 or 4096");
	if (options->slot_bytes % SLOT_BYTES_MIN)
		return err_set(err, X_USAGE, EINVAL,
			       "--slot-size must be a multiple of 4K");
	if (options->swapon && options->read_only)
		return err_set(err, X_USAGE, EINVAL,
			       "--swapon needs a device that can be written; "
			       "leave out --read-only");
	if (options->force && !options->swapon)
		return err_set(err, X_USAGE, EINVAL,
			       "--force says that --swapon may overwrite the "
			       "export; leave it out or add --swapon");
	if (options->failback_s && !options->other_count)
		return err_set(err, X_USAGE, EINVAL,
			       "--failback is about several servers; leave it "
			       "out or add --endpoint");
	if (options->shed_port_count && !options->shed)
		return err_set(err, X_USAGE, EINVAL,
			       "--shed-exempt says what --shed may not drop; "
			       "leave it out or add --shed");
	if (recover && options->index < 0)
		return err_set(err, X_USAGE, EINVAL,
			       "--recover needs to know the device; give its name");
	if (options->swapon && options->swap == SWAP_NO)
		options->swap = SWAP_YES;
	if (!options->on_eio && options->swap != SWAP_NO &&
	    !options->kernel_path)
		options->retry_ms = RETRY_S_DEFAULT * 1000;
	if (options->reserve_bytes && options->slots)
		return err_set(err, X_USAGE, EINVAL,
			       "--reserve and --depth both say how many "
			       "requests there can be; leave one of them out");
	if (options->kernel_path && options->front == FRONT_UBLK)
		return err_set(err, X_USAGE, EINVAL,
			       "--kernel-path is a way of the nbd driver's; use "
			       "an nbd device or leave it out");
	if (options->kernel_path && (options->slots || options->reserve_bytes))
		return err_set(err, X_USAGE, EINVAL,
			       "with --kernel-path there are no slots of ours; "
			       "leave out --depth and --reserve");
	if (options->kernel_path && options->retry_ms)
		return err_set(err, X_USAGE, EINVAL,
			       "with --kernel-path errors go to the kernel; "
			       "leave out --on-eio");
	if (options->kernel_path && options->tls.records &&
	    !strcmp(options->tls.records, "user"))
		return err_set(err, X_USAGE, EINVAL,
			       "with --kernel-path the kernel makes the TLS "
			       "records; leave out --tls-records");
	if (!options->slots)
		options->slots = SLOTS_DEFAULT;
	choose_connections(options);
	return check_tls(options, err);
}

/* Without stdio: in the foreground the memory is sealed by now. */
static void print(const char *text)
{
	size_t length = strlen(text);
	ssize_t n;

	do {
		n = write(STDOUT_FILENO, text, length);
	} while (n < 0 && errno == EINTR);
}

static void print_device(const char *device)
{
	char line[DEVICE_NAME_BYTES + 1];

	snprintf(line, sizeof(line), "%s\n", device);
	print(line);
}

/* As the old program did, where it chose the device itself. */
static void print_device_old(const char *device)
{
	print("Connected ");
	print_device(device);
}

static const struct attach_line defaults = {
	.options = {
		.front_auto = true,
		.index = -1,
		.swapon_priority = -1,
		.handshake_ms = CMD_HANDSHAKE_S_DEFAULT * 1000,
		.slot_bytes = SLOT_BYTES_DEFAULT,
		.fence_ms = CONN_FENCE_MS,
		.request_timeout_ms = REQUEST_TIMEOUT_S_DEFAULT * 1000,
		.watchdog_s = SUPERVISOR_WATCHDOG_S,
	},
};

/* An error says where the option is from. */
static int apply(const struct config *c, struct attach_line *line,
		 struct err *err)
{
	struct err cause = { 0 };
	struct words none;
	uint32_t i;

	for (i = 0; i < c->count; i++) {
		char *argv[] = { (char *)cmd_attach.name,
				 (char *)c->options[i].word, NULL };

		if (options_parse(&cmd_attach, 2, argv, line, 0, 0, &none,
				  &cause))
			return err_set(err, cause.exit_code, cause.error,
				       "%s:%u: %s", c->path,
				       c->options[i].line, cause.text);
	}
	return 0;
}

/*
 * The command line; where it has a device alone, what a file says about that
 * comes before it, so that the command line has the last word.
 */
static int read_words(int argc, char **argv, struct attach_line *line,
		      struct words *words, struct err *err)
{
	static struct config config; /* large; line points into it */
	struct blockdev device;
	int rc;

	*line = defaults;
	rc = options_parse(&cmd_attach, argc, argv, line, 1, 3, words, err);
	if (rc || words->count > 1 ||
	    blockdev_parse(words->word[0], &device, NULL))
		return rc;
	rc = config_find(&config, &device, stderr, err);
	*line = defaults;
	if (!rc)
		rc = apply(&config, line, err);
	if (!rc)
		rc = options_parse(&cmd_attach, argc, argv, line, 1, 3, words,
				   err);
	words->word[words->count++] = words->word[0];
	words->word[0] = config.uri;
	return rc;
}

/* What stands beside the words. */
static int add_endpoints(struct attach_line *line, struct err *err)
{
	struct attach_options *o = &line->options;
	int rc = 0;

	for (uint32_t i = 0; i < line->endpoint_count && !rc; i++) {
		if (o->other_count == ENDPOINTS_MAX - 1)
			return attach_too_many(err);
		rc = addr_parse(&o->others[o->other_count++],
				line->endpoints[i], err);
	}
	if (rc || !line->export_name)
		return rc;
	rc = addr_set_export(&o->addr, line->export_name, err);
	for (uint32_t i = 0; i < o->other_count && !rc; i++)
		rc = addr_set_export(&o->others[i], line->export_name, err);
	return rc;
}

static int parse(int argc, char **argv, struct attach_line *ret_line,
		 struct err *err)
{
	struct attach_line line;
	struct words words;
	int rc;

	rc = read_words(argc, argv, &line, &words, err);
	if (rc)
		return rc;
	line.options.argc = argc;
	line.options.argv = argv;
	rc = take_words(&words, &line.options, err);
	if (!rc)
		rc = add_endpoints(&line, err);
	if (!rc)
		rc = check(&line.options, line.recover, err);
	if (!rc)
		rc = dry_run_check_reserve(&line.options, err);
	*ret_line = line;
	return rc;
}

/* This process is the supervisor of an attached device already. */
static void resume(const struct handover *h, struct attach_options *o)
{
	o->handover = h;
	o->recover = true;
	o->idempotent = false;
	o->foreground = !h->background;
	o->front = h->device.front;
	o->index = (int32_t)h->device.index;
	o->reserve_bytes = 0; /* said what the device has now */
	o->connections = h->queues;
	o->slots = h->slots;
	o->slot_bytes = h->slot_bytes;
}

static int parse_again(const struct blockdev *device, struct attach_line *line,
		       struct err *err)
{
	static struct kept_words kept; /* large; the line points into it */
	int rc = words_load(device->name, &kept, err);

	return rc ? rc : parse(kept.count, kept.word, line, err);
}

int cmd_attach_check(const struct blockdev *device, struct err *err)
{
	struct attach_line line;
	struct tls tls = { 0 };
	int rc = parse_again(device, &line, err);

	if (!rc)
		rc = tls_open(&tls, &line.options.tls, &line.options.addr, err);
	tls_close(&tls);
	return rc;
}

int cmd_attach_again(const struct blockdev *device, bool foreground,
		     struct err *err)
{
	char name[DEVICE_NAME_BYTES];
	struct attach_line line;
	int rc = parse_again(device, &line, err);

	if (rc)
		return rc;
	line.options.front = device->front;
	line.options.index = (int32_t)device->index;
	line.options.foreground = foreground;
	line.options.idempotent = false;
	line.options.recover = true;
	/* As it is; what the default was then does not matter. */
	line.options.connections = blockdev_queues(device->name);
	return daemon_attach(&line.options, print_device, name, err);
}

/* 1: there is nothing to attach any more. */
static int look_first(const struct attach_line *line,
		      void (*ready)(const char *device), struct err *err)
{
	const struct attach_options *o = &line->options;
	char path[DEVICE_NAME_BYTES];
	struct blockdev b;
	int rc = 0;

	if (o->idempotent)
		rc = device_attached(o, path, err);
	if (rc > 0)
		ready(path);
	if (rc || !line->recover)
		return rc;
	blockdev_set(&b, o->front, (uint32_t)o->index);
	if (o->foreground)
		notify_open();
	rc = cmd_recover_left(&b, err);
	if (rc > 0)
		rc = cmd_attach_again(&b, o->foreground, err) ? -err->error : 1;
	return rc;
}

static int attach(int argc, char **argv, void (*ready)(const char *device),
		  struct err *err)
{
	static struct handover handover; /* large */
	char device[DEVICE_NAME_BYTES];
	struct attach_line line;
	int resumed = handover_take(&handover, err);
	int rc = resumed < 0 ? resumed : parse(argc, argv, &line, err);

	if (rc > 0)
		return 0;
	if (!rc && resumed) {
		resume(&handover, &line.options);
		return daemon_attach(&line.options, ready, device, err);
	}
	if (!rc && line.options.front_auto && !line.options.kernel_path)
		line.options.front = device_prefer_ublk();
	if (!rc && line.options.dry_run)
		return dry_run(&line.options, &line.output, err);
	if (!rc)
		rc = look_first(&line, ready, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	rc = daemon_attach(&line.options, ready, device, err);
	if (rc == -EALREADY && line.options.idempotent) { /* since then */
		ready(err->text);
		err_clear(err);
		return 0;
	}
	if (!rc && !line.options.foreground)
		ready(device);
	return rc;
}

static int run(int argc, char **argv, struct err *err)
{
	return attach(argc, argv, print_device, err);
}

static int run_old(int argc, char **argv, struct err *err)
{
	return attach(argc, argv, print_device_old, err);
}

const struct command cmd_attach_old = {
	.name = "attach",
	.run = run_old,
};

const struct command cmd_attach = {
	.name = "attach",
	.words = "URI|HOST [PORT] [DEV|nbd|ublk|auto] | DEV",
	.summary = "Makes an export a block device.",
	.details = "Prints the name of the device once it can be used.\n"
		   "URI is nbd://HOST[:PORT]/EXPORT or "
		   "nbd+unix:///EXPORT?socket=PATH.\n"
		   "DEV is /dev/nbdN or /dev/ublkbN; nbd and ublk take the "
		   "first free one.\nauto is ublk where the kernel has what "
		   "it takes, else nbd; so too without any.\n"
		   "DEV alone: /etc/nbd-client.d/nbdN.conf says what is to be "
		   "on it, or else a line\nin /etc/nbdtab.",
	.examples = "  nbd-client attach --swapon=10 nbd://server/swap1\n"
		    "  nbd-client attach nbd://server/disk nbd3\n"
		    "  nbd-client attach --dry-run --swap nbd://server/swap1",
	.options = attach_options,
	.run = run,
};
