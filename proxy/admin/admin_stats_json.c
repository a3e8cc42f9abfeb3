#include "proxy/admin/admin_stats_json.h"

#include "base/stats_prometheus.h"
#include <math.h>

void admin_stats_json_init(struct admin_stats_json *j)
{
    *j = (struct admin_stats_json){.begun = false};
    json_writer_init(&j->w, false);
}

void admin_stats_json_cleanup(struct admin_stats_json *j)
{
    json_writer_cleanup(&j->w);
}

static void begin(struct admin_stats_json *j)
{
    if (j->begun)
        return;
    j->begun = true;
    json_open(&j->w, '{');
    json_key(&j->w, STR("stats"));
    json_open(&j->w, '[');
}

static void put_name(struct json_writer *w, struct str name)
{
    json_key(w, STR("name"));
    json_put_str(w, name);
}

static void put_number(struct json_writer *w, const char *key, double v)
{
    json_key(w, str_of(key));
    if (isnan(v))
        json_put_null(w);
    else
        json_put_double(w, v);
}

static void put_quantiles(struct json_writer *w, const struct stats_merged *m)
{
    json_open(w, '[');
    for (int i = 0; i < HISTOGRAM_QUANTILES; i++) {
        double q = histogram_quantile_list[i];
        json_open(w, '{');
        put_number(w, "cumulative", m ? histogram_quantile(&m->cumulative, q) : NAN);
        put_number(w, "interval", m ? histogram_quantile(&m->interval, q) : NAN);
        json_close(w, '}');
    }
    json_close(w, ']');
}

static void put_buckets(struct json_writer *w, const struct stats_view *v, bool disjoint)
{
    size_t num;
    const struct stats_merged *m = v->histogram;
    const double *bounds = stats_bounds(v->name, &num);
    uint64_t before_interval = 0, before_cumulative = 0;
    json_open(w, '[');
    for (size_t i = 0; i < num; i++) {
        uint64_t interval = m ? histogram_below(&m->interval, bounds[i]) : 0;
        uint64_t cumulative = m ? histogram_below(&m->cumulative, bounds[i]) : 0;
        json_open(w, '{');
        put_number(w, "upper_bound", bounds[i]);
        json_key(w, STR("interval"));
        json_put_u64(w, interval - before_interval);
        json_key(w, STR("cumulative"));
        json_put_u64(w, cumulative - before_cumulative);
        json_close(w, '}');
        if (disjoint) {
            before_interval = interval;
            before_cumulative = cumulative;
        }
    }
    json_close(w, ']');
}

static void put_bins(struct json_writer *w, const char *key, const struct histogram_counts *c)
{
    double left, width;
    uint64_t count;
    json_key(w, str_of(key));
    json_open(w, '[');
    for (unsigned it = 0; c && histogram_next_bin(c, &it, &left, &width, &count);) {
        json_open(w, '{');
        put_number(w, "lower_bound", left);
        put_number(w, "width", width);
        json_key(w, STR("count"));
        json_put_u64(w, count);
        json_close(w, '}');
    }
    json_close(w, ']');
}

/* What stands once before all histograms. */
static void begin_histograms(struct admin_stats_json *j)
{
    struct json_writer *w = &j->w;
    bool detailed = j->buckets == ADMIN_BUCKETS_DETAILED;
    j->histograms = true;
    json_open(w, '{');
    json_key(w, STR("histograms"));
    if (detailed || j->buckets == ADMIN_BUCKETS_SUMMARY) {
        json_open(w, '{');
        json_key(w, detailed ? STR("supported_percentiles") : STR("supported_quantiles"));
        json_open(w, '[');
        for (int i = 0; i < HISTOGRAM_QUANTILES; i++)
            json_put_double(w, histogram_quantile_list[i] * 100);
        json_close(w, ']');
        json_key(w, detailed ? STR("details") : STR("computed_quantiles"));
    }
    json_open(w, '[');
}

static void end_histograms(struct admin_stats_json *j)
{
    json_close(&j->w, ']');
    if (j->buckets == ADMIN_BUCKETS_DETAILED || j->buckets == ADMIN_BUCKETS_SUMMARY)
        json_close(&j->w, '}');
    json_close(&j->w, '}');
}

static void put_histogram(struct admin_stats_json *j, const struct stats_view *v)
{
    struct json_writer *w = &j->w;
    const struct stats_merged *m = v->histogram;
    if (!j->histograms)
        begin_histograms(j);
    json_open(w, '{');
    put_name(w, v->name);
    switch (j->buckets) {
    case ADMIN_BUCKETS_SUMMARY:
        json_key(w, STR("values"));
        put_quantiles(w, m);
        break;
    case ADMIN_BUCKETS_CUMULATIVE:
    case ADMIN_BUCKETS_DISJOINT:
        json_key(w, STR("buckets"));
        put_buckets(w, v, j->buckets == ADMIN_BUCKETS_DISJOINT);
        break;
    case ADMIN_BUCKETS_DETAILED:
        put_bins(w, "totals", m ? &m->cumulative : NULL);
        put_bins(w, "intervals", m ? &m->interval : NULL);
        json_key(w, STR("percentiles"));
        put_quantiles(w, m);
        break;
    }
    json_close(w, '}');
}

void admin_stats_json_put(struct admin_stats_json *j, const struct stats_view *v,
                          enum admin_buckets buckets)
{
    struct json_writer *w = &j->w;
    begin(j);
    j->buckets = buckets;
    if (v->kind == STATS_HISTOGRAM) {
        put_histogram(j, v);
        return;
    }
    json_open(w, '{');
    put_name(w, v->name);
    json_key(w, STR("value"));
    if (v->kind == STATS_TEXT)
        json_put_str(w, v->text);
    else
        json_put_u64(w, v->value);
    json_close(w, '}');
}

void admin_stats_json_end(struct admin_stats_json *j)
{
    begin(j);
    if (j->histograms)
        end_histograms(j);
    json_close(&j->w, ']');
    json_close(&j->w, '}');
}

void admin_stats_json_take(struct admin_stats_json *j, struct buffer *out)
{
    buffer_add_str(out, json_writer_text(&j->w));
    j->w.len = 0;
}
