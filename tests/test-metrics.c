/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the metrics: what is printed is taken apart again, by the rules of
 * OpenMetrics 1.0, and any breach fails.
 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "nbd-client/cmd.h"
#include "nbd-client/host.h"
#include "nbd-client/metrics.h"
#include "nbd-client/stats.h"
#include "tests/fake_page.h"
#include "tests/tree.h"

#define NOW (100 * NS_PER_S)

static struct metrics_device devices[2];
static const struct metrics_host host = {
	.min_free_known = true,
	.drops_known = true,
	.min_free_bytes = 65536 * KIB,
	.pfmemalloc_drops = 7,
};

static int setup(void **state)
{
	static const char *const names[] = { "nbd0", "nbd7" };

	(void)state;
	memset(devices, 0, sizeof(devices));
	for (size_t i = 0; i < 2; i++) {
		snprintf(devices[i].name, sizeof(devices[i].name), "%s",
			 names[i]);
		devices[i].alive = true;
		fake_page_fill(&devices[i].page, NOW - NS_PER_S / 2);
	}
	return 0;
}

static char *print(enum metrics_format format, size_t count)
{
	char *text = NULL;
	size_t bytes;
	FILE *file = open_memstream(&text, &bytes);

	assert_non_null(file);
	metrics_print(file, format, devices, count, &host, NOW);
	assert_int_equal(fclose(file), 0);
	return text;
}

/* ---- a strict reader ---- */

#define NAME_BYTES 100

struct reader {
	bool textfile;
	char name[NAME_BYTES], type[16], unit[16]; /* of the family */
	bool helped;
	char seen[128][NAME_BYTES]; /* families */
	uint32_t families, samples;
	/* of the histogram whose buckets are being read */
	double bound;
	double in_bucket, infinite;
};

static bool ends(const char *text, const char *end)
{
	size_t a = strlen(text), b = strlen(end);

	return a >= b && !strcmp(text + a - b, end);
}

static void check_name(const char *name)
{
	assert_true(isalpha((unsigned char)*name));
	for (; *name; name++)
		assert_true(isalnum((unsigned char)*name) || *name == '_');
}

static void begin_family(struct reader *r, const char *name, const char *type)
{
	static const char *const reserved[] = { "_total", "_info", "_bucket",
						"_count", "_sum", "_created" };

	/* Each family once, with all of its samples together. */
	for (uint32_t i = 0; i < r->families; i++)
		assert_string_not_equal(r->seen[i], name);
	assert_true(r->families < 128);
	check_name(name);
	assert_true(strlen(name) < NAME_BYTES);
	for (size_t i = 0; !r->textfile && i < 6; i++)
		assert_false(ends(name, reserved[i]));
	snprintf(r->seen[r->families++], NAME_BYTES, "%s", name);
	snprintf(r->name, sizeof(r->name), "%s", name);
	snprintf(r->type, sizeof(r->type), "%.15s", type);
	r->unit[0] = '\0';
	r->helped = false;
	assert_true(!strcmp(type, "counter") || !strcmp(type, "gauge") ||
		    !strcmp(type, "histogram") ||
		    (!r->textfile && !strcmp(type, "info")));
	if (r->textfile && !strcmp(type, "counter"))
		assert_true(ends(name, "_total"));
}

/* "# TYPE name type", "# UNIT name unit", "# HELP name text" */
static void read_comment(struct reader *r, const char *line)
{
	char word[8], name[NAME_BYTES], rest[200], ending[20];

	assert_int_equal(sscanf(line, "# %7s %99s %199[^\n]", word, name, rest),
			 3);
	if (!strcmp(word, "TYPE")) {
		begin_family(r, name, rest);
		return;
	}
	assert_string_equal(name, r->name);
	if (!strcmp(word, "UNIT")) {
		assert_false(r->textfile);
		assert_string_equal(r->unit, "");
		snprintf(r->unit, sizeof(r->unit), "%.15s", rest);
		snprintf(ending, sizeof(ending), "_%s", r->unit);
		assert_true(ends(name, ending));
		return;
	}
	assert_string_equal(word, "HELP");
	assert_false(r->helped);
	assert_null(strchr(rest, '\\'));
	r->helped = true;
}

/* {a="b",c="d"}: what is behind; le and whether there is a device. */
static const char *read_labels(const char *at, char le[32], bool *ret_device)
{
	le[0] = '\0';
	*ret_device = false;
	do {
		char name[32], value[2000];
		size_t n = 0;
		int used = 0;

		assert_int_equal(sscanf(at + 1, "%31[a-z_]%n", name, &used), 1);
		at += 1 + used;
		assert_memory_equal(at, "=\"", 2);
		for (at += 2; *at != '"'; at++) {
			assert_true((unsigned char)*at >= ' ');
			if (*at == '\\') {
				at++;
				assert_true(strchr("\\\"n", *at) != NULL);
			}
			value[n++] = *at;
			assert_true(n < sizeof(value));
		}
		value[n] = '\0';
		at++;
		if (!strcmp(name, "le"))
			snprintf(le, 32, "%.31s", value);
		*ret_device |= !strcmp(name, "device");
	} while (*at == ',');
	assert_int_equal(*at, '}');
	return at + 1;
}

static void read_bucket(struct reader *r, const char *suffix, const char *le,
			double value)
{
	double bound;

	if (strcmp(suffix, "_bucket") != 0) {
		/* After the last bucket, which counts all. */
		assert_true(isinf(r->bound));
		if (!strcmp(suffix, "_count"))
			assert_true(value == r->infinite);
		else
			assert_string_equal(suffix, "_sum");
		return;
	}
	assert_true(*le);
	bound = strtod(le, NULL);
	if (isinf(r->bound)) /* the first of a new histogram */
		r->bound = r->in_bucket = -1;
	assert_true(bound > r->bound);
	assert_true(value >= r->in_bucket);
	r->bound = bound;
	r->in_bucket = value;
	if (isinf(bound))
		r->infinite = value;
}

static void read_sample(struct reader *r, const char *line)
{
	char name[NAME_BYTES], le[32] = "", *end;
	const char *suffix, *at = line;
	size_t length = strcspn(line, "{ ");
	bool device = false;
	double value;

	assert_true(length < sizeof(name));
	snprintf(name, sizeof(name), "%.*s", (int)length, line);
	assert_true(r->helped);
	assert_memory_equal(name, r->name, strlen(r->name));
	suffix = name + strlen(r->name);
	at += length;
	if (*at == '{')
		at = read_labels(at, le, &device);
	assert_true(device || !strncmp(name, "nbd_client_host_", 16));
	assert_int_equal(*at, ' ');
	value = strtod(at + 1, &end);
	assert_ptr_not_equal(end, at + 1);
	assert_int_equal(*end, '\n');
	assert_true(value >= 0);
	if (!strcmp(r->type, "histogram"))
		read_bucket(r, suffix, le, value);
	else if (r->textfile || !strcmp(r->type, "gauge"))
		assert_string_equal(suffix, "");
	else
		assert_string_equal(suffix, !strcmp(r->type, "info") ?
						    "_info" :
						    "_total");
	r->samples++;
}

/* All of it; returns the number of samples. */
static uint32_t read_all(const char *text, bool textfile)
{
	static struct reader r;
	const char *line = text;

	memset(&r, 0, sizeof(r));
	r.textfile = textfile;
	r.bound = INFINITY;
	while (*line && strcmp(line, "# EOF\n") != 0) {
		if (*line == '#')
			read_comment(&r, line);
		else
			read_sample(&r, line);
		line = strchr(line, '\n');
		assert_non_null(line);
		line++;
	}
	/* The end is told in the one format, unknown in the other. */
	assert_int_equal(*line != '\0', !textfile);
	return r.samples;
}

static void assert_has(const char *text, const char *line)
{
	if (!strstr(text, line))
		fail_msg("no line\n%s", line);
}

/* ---- tests ---- */

static void both_formats_can_be_read(void **state)
{
	char *text = print(METRICS_OPENMETRICS, 2);
	char *textfile = print(METRICS_TEXTFILE, 2);
	uint32_t samples = read_all(text, false);

	(void)state;
	/* two devices with five histograms, and the rest */
	assert_true(samples > 2 * 5 * (STATS_BUCKETS + 2) + 2 * 50);
	assert_int_equal(read_all(textfile, true), samples);
	free(text);
	free(textfile);
}

static void values_are_those_of_the_page(void **state)
{
	static const char *const lines[] = {
		"nbd_client_host_min_free_bytes 67108864\n",
		"nbd_client_host_pfmemalloc_drops_total 7\n",
		"nbd_client_up{device=\"nbd7\"} 1\n",
		"nbd_client_requests_total{device=\"nbd0\","
		"operation=\"read\"} 1010\n",
		"nbd_client_transferred_bytes_total{device=\"nbd0\","
		"operation=\"write\"} 2048000\n",
		"nbd_client_request_errors_total{device=\"nbd0\","
		"operation=\"write\"} 1\n",
		"nbd_client_requests_in_flight{device=\"nbd0\"} 5\n",
		"nbd_client_takeovers_total{device=\"nbd0\"} 3\n",
		"nbd_client_watchdog_kills_total{device=\"nbd0\"} 1\n",
		"nbd_client_supervised{device=\"nbd0\"} 1\n",
		"nbd_client_takeover_max_seconds{device=\"nbd0\"} 1.250000000\n",
		"nbd_client_locked_bytes{device=\"nbd0\"} 12641280\n",
		"nbd_client_slots_free_min{device=\"nbd0\"} 4\n",
		"nbd_client_group_peak_bytes{device=\"nbd0\","
		"group=\"slots\"} 524288\n",
		"nbd_client_group_denied_total{device=\"nbd0\","
		"group=\"slots\"} 1\n",
		"nbd_client_guarantees{device=\"nbd0\",state=\"ok\"} 2\n",
		"nbd_client_heartbeat_age_seconds{device=\"nbd0\","
		"thread=\"data\"} 0.500000000\n",
		"# TYPE nbd_client_request_duration_seconds histogram\n"
		"# UNIT nbd_client_request_duration_seconds seconds\n",
		/* 1000 of 120 us, 10 of 5 ms */
		"nbd_client_request_duration_seconds_bucket{device=\"nbd0\","
		"operation=\"read\",le=\"1e-06\"} 0\n",
		"operation=\"read\",le=\"6.4e-05\"} 0\n",
		"operation=\"read\",le=\"0.000128\"} 1000\n",
		"operation=\"read\",le=\"0.004096\"} 1000\n",
		"operation=\"read\",le=\"0.008192\"} 1010\n",
		"operation=\"read\",le=\"1073.741824\"} 1010\n",
		"operation=\"read\",le=\"+Inf\"} 1010\n",
		"nbd_client_request_duration_seconds_sum{device=\"nbd0\","
		"operation=\"read\"} 0.170000000\n",
	};
	char *text = print(METRICS_OPENMETRICS, 2);

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_has(text, lines[i]);
	free(text);
}

static void of_the_dead_only_that(void **state)
{
	char *text;

	(void)state;
	devices[1].alive = false;
	text = print(METRICS_OPENMETRICS, 2);
	read_all(text, false);
	assert_has(text, "nbd_client_up{device=\"nbd0\"} 1\n"
			 "nbd_client_up{device=\"nbd7\"} 0\n");
	assert_has(text, "nbd_client_device_info{device=\"nbd7\"");
	assert_has(text, "nbd_client_link_up{device=\"nbd0\"} 1\n");
	assert_null(strstr(text, "nbd_client_link_up{device=\"nbd7\"}"));
	free(text);
}

static void labels_are_escaped(void **state)
{
	char *text;

	(void)state;
	snprintf(devices[0].page.uri, sizeof(devices[0].page.uri),
		 "a\"b\\c\n\xff");
	text = print(METRICS_OPENMETRICS, 1);
	read_all(text, false);
	assert_has(text, "uri=\"a\\\"b\\\\x5cc\\\\x0a\\\\xff\"");
	free(text);
}

static void without_a_device(void **state)
{
	char *text = print(METRICS_OPENMETRICS, 0);

	(void)state;
	assert_int_equal(read_all(text, false), 2);
	free(text);
}

static void netstat_is_found_by_name(void **state)
{
	static const char text[] =
		"TcpExt: SyncookiesSent PFMemallocDrop TCPMinTTLDrop\n"
		"TcpExt: 0 42 7\n"
		"IpExt: InNoRoutes PFMemallocDropX InTruncatedPkts\n"
		"IpExt: 1 2 3\n";
	uint64_t value = 99;

	(void)state;
	assert_int_equal(metrics_netstat(text, "PFMemallocDrop", &value), 0);
	assert_int_equal(value, 42);
	assert_int_equal(metrics_netstat(text, "InTruncatedPkts", &value), 0);
	assert_int_equal(value, 3);
	assert_int_equal(metrics_netstat(text, "TCPMinTTL", &value), -ENOENT);
	assert_int_equal(metrics_netstat("", "x", &value), -ENOENT);
	assert_int_equal(metrics_netstat("a b\n", "b", &value), -ENOENT);
	assert_int_equal(value, 3);
}

/* The command: a page in a directory of ours, a file for the collector. */
static void a_textfile_is_replaced(void **state)
{
	char tree[TREE_BYTES], file[TREE_BYTES + 16], text[256 * KIB];
	char option[TREE_BYTES + 32], *argv[] = { "metrics", option, NULL };
	char pid[16], proc[32];
	struct host_paths paths = host_paths;
	struct stats_page *page;
	struct err err = { 0 };
	struct stat st;
	FILE *stream;
	size_t n;

	(void)state;
	tree_make(tree);
	stats_run_dir = tree;
	host_paths.proc = tree;
	snprintf(pid, sizeof(pid), "%d", getpid());
	snprintf(proc, sizeof(proc), "/proc/%d", getpid());
	tree_link(tree, pid, proc);
	tree_put(tree, "net/netstat",
		 "TcpExt: PFMemallocDrop\nTcpExt: 5\n");
	tree_put(tree, "nbd.prom", "old");
	snprintf(file, sizeof(file), "%s/nbd.prom", tree);
	snprintf(option, sizeof(option), "--textfile=%s", file);
	assert_int_equal(stats_create("nbd3", &page, NULL), 0);
	fake_page_fill(page, clock_now_ns());

	assert_int_equal(cmd_metrics.run(2, argv, &err), 0);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	stream = fopen(file, "r");
	assert_non_null(stream);
	n = fread(text, 1, sizeof(text) - 1, stream);
	text[n] = '\0';
	fclose(stream);
	read_all(text, true);
	assert_has(text, "nbd_client_up{device=\"nbd3\"} 1\n");
	assert_has(text, "nbd_client_host_pfmemalloc_drops_total 5\n");

	/* One page that cannot be read is no reason to keep the others back. */
	tree_put(tree, "nbd4.stats", "short");
	unlink(file);
	assert_int_equal(cmd_metrics.run(2, argv, &err), -EBADMSG);
	assert_int_equal(access(file, R_OK), 0);

	snprintf(option, sizeof(option), "--textfile=%s/no/file", tree);
	assert_int_equal(cmd_metrics.run(2, argv, &err), -ENOENT);
	snprintf(option, sizeof(option), "nbd9");
	assert_int_equal(cmd_metrics.run(2, argv, &err), -ENOENT);
	assert_int_equal(err.exit_code, X_NOT_FOUND);

	stats_remove("nbd3", page);
	stats_run_dir = RUN_DIR;
	host_paths = paths;
	assert_int_equal(tree_remove(tree), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(both_formats_can_be_read, setup),
		cmocka_unit_test_setup(values_are_those_of_the_page, setup),
		cmocka_unit_test_setup(of_the_dead_only_that, setup),
		cmocka_unit_test_setup(labels_are_escaped, setup),
		cmocka_unit_test_setup(without_a_device, setup),
		cmocka_unit_test(netstat_is_found_by_name),
		cmocka_unit_test(a_textfile_is_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
