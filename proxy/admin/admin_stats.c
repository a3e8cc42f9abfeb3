/* /stats and /stats/prometheus. Text and JSON are made in slices, so that a million statistics do
 * not hold up the main thread. */
#include "base/regex.h"
#include "base/stats_prometheus.h"
#include "base/stats_text.h"
#include "base/stats_visit.h"
#include "proxy/admin/admin_handler.h"
#include "proxy/admin/admin_stats_json.h"

enum { SLICE = 4096 }; /* statistics looked at in one turn */

struct stats_job {
    enum stats_format { FORMAT_TEXT, FORMAT_HTML, FORMAT_JSON } format;
    enum admin_buckets buckets;
    unsigned kinds; /* STATS_SHOW_* */
    bool used_only, invert;
    struct regex *filter; /* NULL: all */
    unsigned phase;
    char *last; /* the name that was looked at last */
    size_t last_len, last_cap;
    unsigned left; /* of this slice */
    struct buffer *out;
    struct arena scratch;
    struct admin_stats_json json;
};

/* In the order in which they are printed. */
static const unsigned phases[] = {STATS_SHOW_TEXTS, STATS_SHOW_NUMBERS, STATS_SHOW_HISTOGRAMS};

static bool is_wanted(const struct stats_job *j, const struct stats_view *v)
{
    if (j->used_only && !v->used)
        return false;
    if (v->kind == STATS_COUNTER && !(j->kinds & ADMIN_COUNTERS))
        return false;
    if (v->kind == STATS_GAUGE && !(j->kinds & ADMIN_GAUGES))
        return false;
    return !j->filter || regex_search(j->filter, v->name, NULL, 0) != j->invert;
}

static void put_text(struct stats_job *j, struct str s)
{
    if (j->format == FORMAT_HTML)
        admin_put_html(j->out, s);
    else
        buffer_add_str(j->out, s);
}

static void put_histogram(struct stats_job *j, const struct stats_view *v)
{
    struct arena *a = &j->scratch;
    switch (v->histogram ? j->buckets : ADMIN_BUCKETS_SUMMARY) {
    case ADMIN_BUCKETS_SUMMARY:
        buffer_add_str(j->out, STR(": "));
        buffer_add_str(j->out, stats_text_quantiles(v->histogram, a));
        break;
    case ADMIN_BUCKETS_CUMULATIVE:
    case ADMIN_BUCKETS_DISJOINT:
        buffer_add_str(j->out, STR(": "));
        buffer_add_str(j->out, stats_text_buckets(v->histogram, v->name,
                                                  j->buckets == ADMIN_BUCKETS_DISJOINT, a));
        break;
    case ADMIN_BUCKETS_DETAILED:
        buffer_add_str(j->out, STR(":\n  totals="));
        buffer_add_str(j->out, stats_text_bins(v->histogram, false, a));
        buffer_add_str(j->out, STR("\n  intervals="));
        buffer_add_str(j->out, stats_text_bins(v->histogram, true, a));
        buffer_add_str(j->out, STR("\n  summary="));
        buffer_add_str(j->out, stats_text_quantiles(v->histogram, a));
        break;
    }
}

static void put_line(struct stats_job *j, const struct stats_view *v)
{
    put_text(j, v->name);
    switch (v->kind) {
    case STATS_COUNTER:
    case STATS_GAUGE:
        buffer_printf(j->out, ": %llu", (unsigned long long)v->value);
        break;
    case STATS_TEXT:
        /* As in Envoy escaped in the plain form too: the text comes from a control plane. */
        buffer_add_str(j->out, STR(": \""));
        admin_put_html(j->out, v->text);
        buffer_add_str(j->out, STR("\""));
        break;
    case STATS_HISTOGRAM:
        put_histogram(j, v);
        break;
    }
    buffer_add_str(j->out, STR("\n"));
}

static bool on_stat(void *arg, const struct stats_view *v)
{
    struct stats_job *j = arg;
    if (is_wanted(j, v)) {
        if (j->format == FORMAT_JSON)
            admin_stats_json_put(&j->json, v, j->buckets);
        else
            put_line(j, v);
        arena_reset(&j->scratch);
    }
    if (--j->left > 0)
        return true;
    j->last = mem_grow_array(j->last, &j->last_cap, v->name.len, 1);
    memcpy(j->last, v->name.p, v->name.len);
    j->last_len = v->name.len;
    return false;
}

/* Goes on where the last slice ended; false when all is printed. */
static bool run_slice(struct stats_job *j)
{
    j->left = SLICE;
    while (j->phase < ARRAY_LEN(phases)) {
        bool asked = (j->kinds & phases[j->phase]) != 0 ||
                     (phases[j->phase] == STATS_SHOW_NUMBERS &&
                      (j->kinds & (ADMIN_COUNTERS | ADMIN_GAUGES)));
        if (asked && !stats_visit_after(str_n(j->last, j->last_len), phases[j->phase], on_stat, j))
            return true;
        j->phase++;
        j->last_len = 0;
    }
    return false;
}

static bool more_stats(void *arg, struct buffer *out)
{
    struct stats_job *j = arg;
    j->out = out;
    bool more = run_slice(j);
    if (j->format == FORMAT_JSON) {
        if (!more)
            admin_stats_json_end(&j->json);
        admin_stats_json_take(&j->json, out);
    } else if (j->format == FORMAT_HTML && !more) {
        buffer_add_str(out, STR("</pre></body></html>\n"));
    }
    return more;
}

static void stats_done(void *arg)
{
    struct stats_job *j = arg;
    regex_free(&j->filter);
    mem_free(j->last);
    arena_cleanup(&j->scratch);
    admin_stats_json_cleanup(&j->json);
    mem_free(j);
}

/* --- parameters -------------------------------------------------------------------------- */

static bool read_buckets(const struct admin_request *rq, struct admin_response *rs,
                         enum admin_buckets *out)
{
    static const char *const names[] = {
        [ADMIN_BUCKETS_SUMMARY] = "summary",
        [ADMIN_BUCKETS_CUMULATIVE] = "cumulative",
        [ADMIN_BUCKETS_DISJOINT] = "disjoint",
        [ADMIN_BUCKETS_DETAILED] = "detailed",
    };
    struct str value;
    *out = ADMIN_BUCKETS_SUMMARY;
    if (!admin_query_get(&rq->query, "histogram_buckets", &value) || value.len == 0 ||
        str_eq(value, STR("none")))
        return true;
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        if (str_eq(value, str_of(names[i]))) {
            *out = (enum admin_buckets)i;
            return true;
        }
    }
    admin_error(rs, 400,
                "usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary)\n");
    return false;
}

static bool read_kinds(const struct admin_request *rq, struct admin_response *rs, unsigned *out)
{
    static const struct {
        const char *name;
        unsigned kinds;
    } types[] = {
        {"All", ADMIN_COUNTERS | ADMIN_GAUGES | STATS_SHOW_HISTOGRAMS | STATS_SHOW_TEXTS},
        {"Counters", ADMIN_COUNTERS},
        {"Gauges", ADMIN_GAUGES},
        {"Histograms", STATS_SHOW_HISTOGRAMS},
        {"TextReadouts", STATS_SHOW_TEXTS},
    };
    struct str value;
    *out = types[0].kinds;
    if (!admin_query_get(&rq->query, "type", &value) || value.len == 0)
        return true;
    for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
        if (str_eq(value, str_of(types[i].name))) {
            *out = types[i].kinds;
            return true;
        }
    }
    admin_error(rs, 400, "invalid &type= param");
    return false;
}

static bool read_format(const struct admin_request *rq, struct admin_response *rs,
                        enum stats_format *out)
{
    struct str value;
    *out = FORMAT_TEXT;
    if (!admin_query_get(&rq->query, "format", &value) || value.len == 0 ||
        str_eq(value, STR("text")))
        return true;
    if (str_eq(value, STR("json"))) {
        *out = FORMAT_JSON;
        return true;
    }
    if (str_eq(value, STR("html")) || str_eq(value, STR("active-html"))) {
        *out = FORMAT_HTML;
        return true;
    }
    admin_error(rs, 400, "usage: /stats?format=(html|active-html|json|prometheus|text)\n");
    return false;
}

void admin_stats(const struct admin_request *rq, struct admin_response *rs)
{
    struct stats_job want = {0};
    struct str value, err;
    if (admin_query_get(&rq->query, "format", &value) && str_eq(value, STR("prometheus"))) {
        admin_stats_prometheus(rq, rs);
        return;
    }
    want.used_only = admin_flag(rq, "usedonly");
    want.invert = admin_flag(rq, "invert_filter");
    if (!read_buckets(rq, rs, &want.buckets) || !read_kinds(rq, rs, &want.kinds) ||
        !read_format(rq, rs, &want.format))
        return;
    if (!admin_regex(rq, "filter", &want.filter, &err)) {
        admin_error(rs, 400, "Invalid re2 regex: %.*s", STR_ARG(err));
        return;
    }
    struct stats_job *j = NEW(struct stats_job);
    *j = want;
    arena_init(&j->scratch, 4096);
    admin_stats_json_init(&j->json);
    if (j->format == FORMAT_JSON)
        rs->content_type = ADMIN_JSON;
    if (j->format == FORMAT_HTML) {
        rs->content_type = ADMIN_HTML;
        buffer_add_str(&rs->body, STR("<!DOCTYPE html>\n<html lang=\"en\"><head><meta "
                                      "charset=\"utf-8\"><title>stats</title></head>\n<body><pre>"
                                      "\n"));
    }
    rs->more = more_stats;
    rs->done = stats_done;
    rs->arg = j;
}

/* --- Prometheus ---------------------------------------------------------------------------- */

struct scrape {
    struct regex *filter;
    bool invert;
    struct stats_prometheus_run *run;
    struct buffer *out;
};

static bool keep(void *arg, struct str name)
{
    const struct scrape *s = arg;
    return regex_search(s->filter, name, NULL, 0) != s->invert;
}

static void emit(void *arg, struct str text)
{
    buffer_add_str(((struct scrape *)arg)->out, text);
}

static bool more_metrics(void *arg, struct buffer *out)
{
    struct scrape *s = arg;
    s->out = out;
    return stats_prometheus_more(s->run, SLICE);
}

static void scrape_done(void *arg)
{
    struct scrape *s = arg;
    stats_prometheus_end(&s->run);
    regex_free(&s->filter);
    mem_free(s);
}

void admin_stats_prometheus(const struct admin_request *rq, struct admin_response *rs)
{
    struct str buckets, err;
    struct regex *filter;
    if (admin_query_get(&rq->query, "histogram_buckets", &buckets) && buckets.len &&
        !str_eq(buckets, STR("cumulative")) && !str_eq(buckets, STR("none"))) {
        admin_error(rs, 400, "unsupported prometheus histogram bucket mode");
        return;
    }
    if (!admin_regex(rq, "filter", &filter, &err)) {
        admin_error(rs, 400, "Invalid re2 regex: %.*s", STR_ARG(err));
        return;
    }
    struct scrape *s = NEW(struct scrape);
    *s = (struct scrape){.filter = filter, .invert = admin_flag(rq, "invert_filter")};
    s->run = stats_prometheus_begin(
        &(struct stats_prometheus){.used_only = admin_flag(rq, "usedonly"),
                                   .texts = admin_flag(rq, "text_readouts"),
                                   .keep = filter ? keep : NULL,
                                   .emit = emit,
                                   .arg = s});
    rs->more = more_metrics;
    rs->done = scrape_done;
    rs->arg = s;
}
