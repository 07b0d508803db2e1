// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Frames: sections from top to bottom, which get their rows by importance.
 * Owns nothing. Command line only; calls nothing that allocates.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/text.h"
#include "nbd-client/frame.h"
#include "nbd-client/host.h"
#include "nbd-client/stats.h"
#include "nbd-client/table.h"
#include "nbd-client/watch.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LABEL_COLUMNS 9u  /* before gauges and words */
#define GRAPH_COLUMNS 20u /* before graphs */
#define GAUGE_COLUMNS 37u /* after gauges */
#define GRAPH_ROWS_MAX 6u

/* ---- Samples ---- */

static uint64_t grown(uint64_t now, uint64_t before)
{
	return now > before ? now - before : 0;
}

static uint64_t per_second(uint64_t count, uint64_t ns)
{
	return ns ? (uint64_t)((unsigned __int128)count * NS_PER_S / ns) : 0;
}

static uint64_t in_flight(const struct stats_data *data)
{
	return data->states[REQUEST_SENDING] + data->states[REQUEST_WAITING] +
	       data->states[REQUEST_RECEIVING];
}

static uint64_t sum(const uint64_t values[STATS_OPS])
{
	uint64_t total = 0;

	for (uint32_t op = 0; op < STATS_OPS; op++)
		total += values[op];
	return total;
}

static void add_point(struct watch *w)
{
	uint32_t at = w->point_count++ % WATCH_POINTS;

	w->points[WATCH_REQUESTS][at] =
		per_second(sum(w->delta.requests), w->delta.ns);
	w->points[WATCH_BYTES][at] =
		per_second(sum(w->delta.bytes), w->delta.ns);
	w->points[WATCH_IN_FLIGHT][at] = in_flight(&w->page.data);
}

void watch_take(struct watch *w, const struct stats_page *page, bool alive,
		uint64_t now_ns, uint64_t clock_s)
{
	const struct stats_data *now = &page->data, *was = &w->page.data;
	struct watch_delta *d = &w->delta;
	uint32_t op, i;

	d->ns = w->now_ns ? grown(now_ns, w->now_ns) : 0;
	for (op = 0; op < STATS_OPS; op++) {
		d->requests[op] = grown(now->requests[op], was->requests[op]);
		d->bytes[op] = grown(now->bytes[op], was->bytes[op]);
		for (i = 0; i < STATS_BUCKETS; i++)
			d->latency[op][i] =
				grown(now->latency[op][i], was->latency[op][i]);
	}
	w->page = *page;
	/* Strings that another process is writing: they end. */
	w->page.link_error[sizeof(w->page.link_error) - 1] = '\0';
	w->page.tls_version[sizeof(w->page.tls_version) - 1] = '\0';
	w->alive = alive;
	w->now_ns = now_ns;
	w->clock_s = clock_s;
	if (d->ns)
		add_point(w);
}

static uint64_t silent_ns(const struct watch *w)
{
	uint64_t data = stats_silent_ns(w->page.data.heartbeat_ns, w->now_ns);
	uint64_t control =
		stats_silent_ns(w->page.control_heartbeat_ns, w->now_ns);

	return data > control ? data : control;
}

static bool is_stuck(const struct watch *w)
{
	return w->page.state == STATS_LIVE && silent_ns(w) > STATS_SILENT_NS;
}

static const char *state_word(const struct watch *w)
{
	if (w->page.state == STATS_GONE)
		return "detached";
	if (!w->alive)
		return "dead";
	return is_stuck(w) ? "stuck" : stats_state_name(w->page.state);
}

/* ---- Words ---- */

static void begin_line(struct frame *f, const char *label)
{
	frame_put(f, label);
	frame_pad_to(f, LABEL_COLUMNS);
}

static void put_since(struct frame *f, const struct watch *w, uint64_t since_s)
{
	if (!since_s)
		return;
	frame_put(f, " for ");
	frame_duration(f, grown(w->clock_s, since_s));
}

static const char *plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

/* Between a label and what stands behind it. */
static void put_gauge(struct frame *f, uint64_t value, uint64_t mark,
		      uint64_t max, enum frame_style to)
{
	const uint32_t others = LABEL_COLUMNS + GAUGE_COLUMNS;
	uint32_t columns = f->screen->columns > others + 5 ?
				   f->screen->columns - others :
				   5;

	frame_gauge(f, columns, value, mark, max, to);
	frame_put(f, " ");
}

/* An upper bound, as the buckets have it. */
static void latency_text(uint64_t us, char *text, size_t text_bytes)
{
	if (!us)
		snprintf(text, text_bytes, "-");
	else if (us < 1000)
		snprintf(text, text_bytes, "%" PRIu64 "us", us);
	else if (us < 10000)
		snprintf(text, text_bytes, "%" PRIu64 ".%" PRIu64 "ms",
			 us / 1000, us % 1000 / 100);
	else if (us < 1000000)
		snprintf(text, text_bytes, "%" PRIu64 "ms", us / 1000);
	else
		snprintf(text, text_bytes, "%" PRIu64 ".%" PRIu64 "s",
			 us / 1000000, us % 1000000 / 100000);
}

/* ---- Sections ---- */

static void draw_title(struct frame *f, const struct watch *w, uint32_t rows)
{
	char uri[160], right[64];
	uint32_t length;
	bool well = w->alive && !is_stuck(w) && w->page.state == STATS_LIVE;

	(void)rows;
	text_escape_str(uri, sizeof(uri), w->page.uri);
	length = (uint32_t)snprintf(right, sizeof(right), "  %s %s  q quits",
				    state_word(w), w->clock_text);
	frame_put_styled(f, FRAME_BOLD, w->page.device);
	if (f->screen->columns > f->column + length + 8) {
		const struct frame_screen *screen = f->screen;
		struct frame_screen left = *screen;

		left.columns -= length;
		f->screen = &left;
		frame_putf(f, "  %s", uri);
		frame_pad_to(f, left.columns);
		f->screen = screen;
	}
	frame_put_styled(f, well ? FRAME_GOOD : FRAME_BAD, right);
	frame_end_line(f);
}

static uint32_t banner_rows(const struct watch *w)
{
	return !w->alive || w->page.state == STATS_GONE || is_stuck(w) ? 3 : 0;
}

static void banner_fill(struct frame *f, uint32_t to)
{
	while (f->column < to && f->column < f->screen->columns)
		frame_put(f, f->screen->color ? " " : frame_block(f, 8));
}

static void draw_banner(struct frame *f, const struct watch *w, uint32_t rows)
{
	char text[128];
	uint32_t length, columns = f->screen->columns;

	if (w->page.state == STATS_GONE)
		snprintf(text, sizeof(text), "  DETACHED  ");
	else if (!w->alive)
		snprintf(text, sizeof(text),
			 "  DEAD: process %d is gone; requests wait  ",
			 w->page.pid);
	else
		snprintf(text, sizeof(text),
			 "  STUCK: no sign of life for %" PRIu64 " s  ",
			 (uint64_t)(silent_ns(w) / NS_PER_S));
	length = (uint32_t)strlen(text);
	for (uint32_t row = 0; row < rows; row++) {
		frame_style(f, FRAME_BANNER);
		if (row == rows / 2) {
			banner_fill(f, columns > length ?
					       (columns - length) / 2 :
					       0);
			frame_put(f, text);
		}
		banner_fill(f, columns);
		frame_style(f, FRAME_PLAIN);
		frame_end_line(f);
	}
}

static void draw_link(struct frame *f, const struct watch *w, uint32_t rows)
{
	const struct stats_page *p = &w->page;
	bool up = p->link == STATS_LINK_UP;

	(void)rows;
	begin_line(f, "link");
	frame_put_styled(f, up ? FRAME_GOOD : FRAME_BAD,
			 stats_link_name(p->link));
	put_since(f, w, p->link_since);
	if (p->queues > 1)
		frame_putf(f, ", %u of %u connections", p->links_up, p->queues);
	if (p->tls_records != STATS_RECORDS_NONE)
		frame_putf(f, ", %s", p->tls_version);
	if (p->reconnects)
		frame_putf(f, ", %" PRIu64 " reconnect%s", p->reconnects,
			   plural(p->reconnects));
	if (!up)
		frame_putf(f, ", %" PRIu64 " attempt%s%s%s",
			   p->connect_attempts, plural(p->connect_attempts),
			   *p->link_error ? ": " : "", p->link_error);
	frame_end_line(f);
}

static void draw_memory(struct frame *f, const struct watch *w, uint32_t rows)
{
	const struct stats_page *p = &w->page;

	(void)rows;
	begin_line(f, "memory");
	frame_put_styled(f, p->memory_tight ? FRAME_BAD : FRAME_GOOD,
			 p->memory_tight ? "tight" : "plentiful");
	put_since(f, w, p->memory_since);
	frame_putf(f, ", %" PRIu64 " time%s tight; ", p->tight_episodes,
		   plural(p->tight_episodes));
	if (p->data.low)
		frame_put_styled(f, FRAME_BAD, "LOW, ");
	frame_putf(f, "reserve opened %" PRIu64 " time%s", p->data.low_episodes,
		   plural(p->data.low_episodes));
	if (p->shed == STATS_SHED_SHEDDING)
		frame_put_styled(f, FRAME_WARNING, ", shedding");
	frame_end_line(f);
}

static void draw_promise(struct frame *f, const struct watch *w, uint32_t rows)
{
	const struct stats_page *p = &w->page;
	const struct stats_guarantee *worst = host_worst(p->guarantees);
	char text[sizeof(worst->name) + sizeof(worst->detail) + 32];

	(void)rows;
	begin_line(f, "promise");
	if (worst) {
		snprintf(text, sizeof(text), "%.*s %s: %.*s",
			 (int)sizeof(worst->name) - 1, worst->name,
			 stats_guarantee_name(worst->state),
			 (int)sizeof(worst->detail) - 1, worst->detail);
		frame_put_styled(f,
				 worst->state == GUARANTEE_MISSING ?
					 FRAME_BAD :
					 FRAME_WARNING,
				 text);
	} else {
		frame_put(f, p->swap ? "all guarantees of swap hold" :
				       "a plain disk, without those of swap");
	}
	if (p->data.stray_mallocs || p->data_major_faults) {
		snprintf(text, sizeof(text),
			 "; %" PRIu64 " stray allocation%s, %" PRIu64
			 " major fault%s",
			 p->data.stray_mallocs, plural(p->data.stray_mallocs),
			 p->data_major_faults, plural(p->data_major_faults));
		frame_put_styled(f, FRAME_BAD, text);
	}
	if (!w->locked)
		frame_put(f, " (this watcher is not locked)");
	frame_end_line(f);
}

static void draw_blank(struct frame *f, const struct watch *w, uint32_t rows)
{
	(void)w;
	while (rows--)
		frame_end_line(f);
}

/* How many points, and from which on. */
static uint32_t visible(const struct frame *f, const struct watch *w,
			uint32_t *ret_first)
{
	uint32_t room = f->screen->columns > GRAPH_COLUMNS ?
				f->screen->columns - GRAPH_COLUMNS :
				0;
	uint32_t count = w->point_count < WATCH_POINTS ? w->point_count :
							 WATCH_POINTS;

	if (count > room)
		count = room;
	*ret_first = w->point_count - count;
	return count;
}

/* Each as high as its highest point. */
static void draw_graph(struct frame *f, const struct watch *w,
		       enum watch_graph graph, uint32_t rows)
{
	static const char *const labels[] = {
		[WATCH_REQUESTS] = "requests/s",
		[WATCH_BYTES] = "bytes/s",
		[WATCH_IN_FLIGHT] = "in flight",
	};
	const uint64_t *points = w->points[graph];
	uint32_t first, count = visible(f, w, &first);
	uint64_t max = 0, last = 0;
	char value[24];

	for (uint32_t i = first; i < first + count; i++) {
		last = points[i % WATCH_POINTS];
		if (last > max)
			max = last;
	}
	for (uint32_t row = 0; row < rows; row++) {
		uint64_t shown = row ? max : last;

		if (graph == WATCH_BYTES)
			table_format_size(shown, value, sizeof(value));
		else
			snprintf(value, sizeof(value), "%" PRIu64, shown);
		if (row < 2)
			frame_putf(f, "%-10s %8s ",
				   row ? "  highest" : labels[graph], value);
		frame_pad_to(f, GRAPH_COLUMNS);
		for (uint32_t i = first; i < first + count; i++) {
			uint64_t below = 8ull * (rows - 1 - row);
			uint64_t level = frame_scale(points[i % WATCH_POINTS],
						     max, 8 * rows);

			frame_put(f, frame_block(f, grown(level, below)));
		}
		frame_end_line(f);
	}
}

static uint32_t graph_rows(const struct watch *w)
{
	(void)w;
	return WATCH_GRAPHS;
}

static void draw_graphs(struct frame *f, const struct watch *w, uint32_t rows)
{
	uint32_t each = rows < WATCH_GRAPHS ? 1 : rows / WATCH_GRAPHS;

	for (uint32_t i = 0; i < WATCH_GRAPHS && i * each < rows; i++)
		draw_graph(f, w, (enum watch_graph)i, each);
}

/* Buckets below and above those that are shown count in the outermost. */
#define BUCKET_FIRST 3u
#define BUCKETS_SHOWN 28u
_Static_assert(BUCKET_FIRST + BUCKETS_SHOWN < STATS_BUCKETS, "all are there");

static void put_histogram(struct frame *f,
			  const uint64_t buckets[STATS_BUCKETS])
{
	uint64_t shown[BUCKETS_SHOWN] = { 0 }, max = 0;
	uint32_t i, at;

	for (i = 0; i < STATS_BUCKETS; i++) {
		at = i < BUCKET_FIRST ? 0 : i - BUCKET_FIRST;
		if (at >= BUCKETS_SHOWN)
			at = BUCKETS_SHOWN - 1;
		shown[at] += buckets[i];
	}
	for (i = 0; i < BUCKETS_SHOWN; i++) {
		if (shown[i] > max)
			max = shown[i];
	}
	for (i = 0; i < BUCKETS_SHOWN; i++)
		frame_put(f, frame_block(f, frame_scale(shown[i], max, 8)));
}

static uint32_t operation_rows(const struct watch *w)
{
	(void)w;
	return 1 + STATS_OPS;
}

static void draw_operations(struct frame *f, const struct watch *w,
			    uint32_t rows)
{
	const struct watch_delta *d = &w->delta;

	frame_style(f, FRAME_BOLD);
	/* Each over the bucket that ends there. */
	frame_putf(f, "%-9s%8s %8s %7s %7s %7s  %s", "", "REQ/S", "BYTES/S",
		   "ERRORS", "P50", "P99", "8us    1ms       1s    1min");
	frame_style(f, FRAME_PLAIN);
	frame_end_line(f);
	for (uint32_t op = 0; op < STATS_OPS && op + 1 < rows; op++) {
		char bytes[24], p50[24], p99[24];

		table_format_size(per_second(d->bytes[op], d->ns), bytes,
				  sizeof(bytes));
		latency_text(stats_percentile_us(d->latency[op], 500), p50,
			     sizeof(p50));
		latency_text(stats_percentile_us(d->latency[op], 990), p99,
			     sizeof(p99));
		frame_putf(f, "%-9s%8" PRIu64 " %8s ", stats_op_name(op),
			   per_second(d->requests[op], d->ns), bytes);
		if (w->page.data.errors[op])
			frame_style(f, FRAME_BAD);
		frame_putf(f, "%7" PRIu64, w->page.data.errors[op]);
		frame_style(f, FRAME_PLAIN);
		frame_putf(f, " %7s %7s  ", p50, p99);
		put_histogram(f, d->latency[op]);
		frame_end_line(f);
	}
}

static uint32_t gauge_rows(const struct watch *w)
{
	(void)w;
	return 2;
}

/*
 * Free slots; the mark is where the fewest were. Requests take the reserve only
 * when all of the base that is there is taken.
 */
static void draw_gauges(struct frame *f, const struct watch *w, uint32_t rows)
{
	const struct stats_page *p = &w->page;
	const struct stats_data *data = &p->data;
	uint64_t used = grown(p->slots, data->states[REQUEST_FREE]);
	uint64_t there = data->base_slots + p->slots_reserve;
	uint64_t reserve =
		grown(p->slots_reserve, grown(used, data->base_slots));
	uint64_t lowest = data->slots_free_min < p->slots_reserve ?
				  data->slots_free_min :
				  p->slots_reserve;

	begin_line(f, "free");
	put_gauge(f, grown(there, used), data->slots_free_min, p->slots,
		  FRAME_PLAIN);
	frame_putf(f, "%" PRIu64 " of %u slots, lowest %" PRIu64,
		   grown(there, used), p->slots, data->slots_free_min);
	if (there < p->slots)
		frame_putf(f, ", %" PRIu64 " away", p->slots - there);
	frame_end_line(f);
	if (rows < 2)
		return;
	begin_line(f, "reserve");
	put_gauge(f, reserve, lowest, p->slots_reserve,
		  reserve < p->slots_reserve ? FRAME_WARNING : FRAME_GOOD);
	frame_putf(f, "%" PRIu64 " of %u free, lowest %" PRIu64, reserve,
		   p->slots_reserve, lowest);
	frame_end_line(f);
}

static uint32_t group_rows(const struct watch *w)
{
	uint32_t rows = 0;

	while (rows < STATS_GROUPS && w->page.data.groups[rows].name[0])
		rows++;
	return rows;
}

static void draw_groups(struct frame *f, const struct watch *w, uint32_t rows)
{
	for (uint32_t i = 0; i < rows; i++) {
		const struct group *g = &w->page.data.groups[i];
		char usage[24], limit[24], peak[24];

		table_format_size(g->usage_bytes, usage, sizeof(usage));
		table_format_size(g->limit_bytes, limit, sizeof(limit));
		table_format_size(g->peak_bytes, peak, sizeof(peak));
		frame_putf(f, "%.*s", (int)LABEL_COLUMNS - 1, g->name);
		frame_pad_to(f, LABEL_COLUMNS);
		put_gauge(f, g->usage_bytes, g->peak_bytes, g->limit_bytes,
			  g->usage_bytes ? FRAME_WARNING : FRAME_PLAIN);
		frame_putf(f, "%s of %s, highest %s", usage, limit, peak);
		if (g->denied)
			frame_putf(f, ", denied %" PRIu64, g->denied);
		frame_end_line(f);
	}
}

static uint32_t one_row(const struct watch *w)
{
	(void)w;
	return 1;
}

/* From top to bottom; rank 0 gets its rows first. */
static const struct section {
	uint32_t rank;
	uint32_t (*rows)(const struct watch *w);
	void (*draw)(struct frame *f, const struct watch *w, uint32_t rows);
} sections[] = {
	{ 0, one_row, draw_title },
	{ 1, banner_rows, draw_banner },
	{ 3, one_row, draw_link },
	{ 4, one_row, draw_memory },
	{ 7, one_row, draw_promise },
	{ 9, one_row, draw_blank },
	{ 5, graph_rows, draw_graphs },
	{ 9, one_row, draw_blank },
	{ 6, operation_rows, draw_operations },
	{ 9, one_row, draw_blank },
	{ 2, gauge_rows, draw_gauges },
	{ 8, group_rows, draw_groups },
};
#define RANKS 10u

static void share_rows(const struct watch *w, uint32_t left,
		       uint32_t ret_rows[COUNT(sections)])
{
	uint32_t i, rank, graphs, extra;

	memset(ret_rows, 0, COUNT(sections) * sizeof(*ret_rows));
	for (rank = 0; rank < RANKS; rank++) {
		for (i = 0; i < COUNT(sections); i++) {
			if (sections[i].rank != rank)
				continue;
			ret_rows[i] = sections[i].rows(w);
			if (ret_rows[i] > left)
				ret_rows[i] = left;
			left -= ret_rows[i];
		}
	}
	/* What is left makes the graphs higher. */
	for (graphs = 0; sections[graphs].draw != draw_graphs;)
		graphs++;
	extra = left / WATCH_GRAPHS;
	if (extra > GRAPH_ROWS_MAX - 1)
		extra = GRAPH_ROWS_MAX - 1;
	ret_rows[graphs] += extra * WATCH_GRAPHS;
}

size_t watch_frame(const struct watch *w, const struct frame_screen *screen,
		   char *text, size_t text_bytes)
{
	struct frame_screen used = *screen;
	struct frame f = { .at = text,
			   .end = text + text_bytes,
			   .screen = &used };
	uint32_t rows[COUNT(sections)];

	if (used.rows > WATCH_ROWS_MAX)
		used.rows = WATCH_ROWS_MAX;
	if (used.columns > WATCH_COLUMNS_MAX)
		used.columns = WATCH_COLUMNS_MAX;
	frame_begin(&f);
	share_rows(w, used.rows, rows);
	for (size_t i = 0; i < COUNT(sections); i++) {
		if (rows[i])
			sections[i].draw(&f, w, rows[i]);
	}
	frame_end(&f);
	return (size_t)(f.at - text);
}

/* ---- Lines ---- */

const char watch_heading[] =
	"TIME       READ/S  WRITE/S   BYTES/S FLIGHT PARKED  FREE LOWEST"
	"   R-P99   W-P99 MEMORY    LINK       STATE\n";

size_t watch_line(const struct watch *w, bool bytes, char *text,
		  size_t text_bytes)
{
	const struct watch_delta *d = &w->delta;
	const struct stats_data *data = &w->page.data;
	uint64_t moved = per_second(sum(d->bytes), d->ns);
	char amount[24], read[24], write[24];
	int n;

	if (bytes)
		snprintf(amount, sizeof(amount), "%" PRIu64, moved);
	else
		table_format_size(moved, amount, sizeof(amount));
	latency_text(stats_percentile_us(d->latency[STATS_READ], 990), read,
		     sizeof(read));
	latency_text(stats_percentile_us(d->latency[STATS_WRITE], 990), write,
		     sizeof(write));
	n = snprintf(text, text_bytes,
		     "%-8s %8" PRIu64 " %8" PRIu64 " %9s %6" PRIu64 " %6" PRIu64
		     " %5" PRIu64 " %6" PRIu64 " %7s %7s %-9s %-10s %s\n",
		     w->clock_text, per_second(d->requests[STATS_READ], d->ns),
		     per_second(d->requests[STATS_WRITE], d->ns), amount,
		     in_flight(data), data->states[REQUEST_PARKED],
		     data->states[REQUEST_FREE], data->slots_free_min, read,
		     write,
		     data->low            ? "low" :
		     w->page.memory_tight ? "tight" :
					    "plentiful",
		     stats_link_name(w->page.link), state_word(w));
	return n < 0 ? 0 : (size_t)n < text_bytes ? (size_t)n : text_bytes - 1;
}
