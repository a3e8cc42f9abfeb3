/* envoy.filters.http.admission_control: requests are turned away with a probability that grows with
 * the share of failures in the sampling window, so that an upstream in trouble sees fewer. Each
 * worker decides by what it has seen itself. */
#include "api-protos/wkt.h"
#include "base/random.h"
#include "envoy/extensions/filters/http/admission_control/v3/admission_control.pb-c.h"
#include "proxy/filters/admission_window.h"
#include "proxy/filters/filter_stats.h"
#include "proxy/filters/filters.h"
#include "proxy/filters/grpc_calls.h"
#include "proxy/http/stream.h"
#include "proxy/network/network_filter.h"
#include "proxy/worker.h"
#include <math.h>

typedef Envoy__Extensions__Filters__Http__AdmissionControl__V3__AdmissionControl AdmissionControl;
typedef Envoy__Extensions__Filters__Http__AdmissionControl__V3__AdmissionControl__SuccessCriteria
    Criteria;

#define ADMISSION_STATS(X)                                                                         \
    X(ADMISSION_REJECTED, "rq_rejected", COUNTER)                                                  \
    X(ADMISSION_SUCCESS, "rq_success", COUNTER)                                                    \
    X(ADMISSION_FAILURE, "rq_failure", COUNTER)
enum { ADMISSION_STATS(STATS_ENUM) };
static const struct stats_def defs[] = {ADMISSION_STATS(STATS_DEF)};
static struct stats_table table = STATS_TABLE(defs);

enum { MAX_WINDOW_S = 86400, DEFAULT_WINDOW_S = 30, GRPC_CODES = 17 };

struct status_range {
    unsigned start, end; /* end is not of it */
};

struct admission_config {
    bool enabled;
    struct status_range *http;
    size_t num_http;
    uint32_t grpc; /* bit per status that is a success */
    double aggression, threshold, max_probability;
    uint32_t rps_threshold;
    struct admission_window *windows; /* one a thread; each thread changes its own only */
    size_t num_windows;
    struct stats_scope *stats;
};

struct admission_state {
    bool recording;   /* the outcome is still to come */
    bool in_trailers; /* it is there */
};

/* --- configuration --- */

static void compile_http(struct admission_config *c, const Criteria *m,
                         const struct http_filter_env *env, struct errors *e)
{
    size_t n = m->http_criteria ? m->http_criteria->n_http_success_status : 0;
    c->http = arena_zalloc(env->arena, (n + 1) * sizeof(*c->http));
    if (!m->http_criteria)
        c->http[c->num_http++] = (struct status_range){0, 500};
    size_t mark = errors_push(e, "http_criteria");
    for (size_t i = 0; i < n; i++) {
        const Envoy__Type__V3__Int32Range *r = m->http_criteria->http_success_status[i];
        size_t inner = errors_push_index(e, "http_success_status", i);
        if (r->start < 100 || r->end > 600 || r->start > r->end)
            errors_add(e, NULL, "must be within 100 and 600, and not end before it starts");
        errors_pop(e, inner);
        c->http[c->num_http++] = (struct status_range){(unsigned)r->start, (unsigned)r->end};
    }
    errors_pop(e, mark);
}

static void compile_grpc(struct admission_config *c, const Criteria *m, struct errors *e)
{
    /* OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION,
     * OUT_OF_RANGE, UNIMPLEMENTED, UNAUTHENTICATED */
    static const uint8_t usual[] = {0, 1, 2, 3, 5, 6, 9, 11, 12, 16};
    for (size_t i = 0; !m->grpc_criteria && i < ARRAY_LEN(usual); i++)
        c->grpc |= 1u << usual[i];
    for (size_t i = 0; m->grpc_criteria && i < m->grpc_criteria->n_grpc_success_status; i++) {
        uint32_t code = m->grpc_criteria->grpc_success_status[i];
        if (code >= GRPC_CODES)
            errors_add(e, "grpc_criteria.grpc_success_status", "%u is no status of gRPC", code);
        else
            c->grpc |= 1u << code;
    }
}

static double share(const Envoy__Config__Core__V3__RuntimePercent *p, double def)
{
    double percent = p && p->default_value ? p->default_value->value : def;
    return (percent > 100 ? 100 : percent) / 100;
}

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const AdmissionControl *m = msg;
    struct admission_config *c = ARENA_NEW(env->arena, struct admission_config);
    size_t before = e->num_errors;
    if (!m || !m->success_criteria) {
        errors_add(e, "success_criteria", "is required");
        return NULL;
    }
    size_t mark = errors_push(e, "success_criteria");
    compile_http(c, m->success_criteria, env, e);
    compile_grpc(c, m->success_criteria, e);
    errors_pop(e, mark);
    c->enabled = !m->enabled || wkt_bool(m->enabled->default_value, true);
    c->aggression = m->aggression && m->aggression->default_value > 1 ? m->aggression->default_value
                                                                      : 1;
    c->threshold = share(m->sr_threshold, 95);
    c->max_probability = share(m->max_rejection_probability, 80);
    c->rps_threshold = m->rps_threshold ? m->rps_threshold->default_value : 0;
    uint64_t ms = wkt_duration_ms(m->sampling_window, DEFAULT_WINDOW_S * 1000, e,
                                  "sampling_window");
    if (ms > MAX_WINDOW_S * 1000ull)
        errors_add(e, "sampling_window", "must be at most %d s", MAX_WINDOW_S);
    if (c->threshold < 0.01)
        errors_add(e, "sr_threshold", "must be at least 1 %%");
    if (e->num_errors > before || env->compile->validate)
        return c;
    c->num_windows = env->compile->num_threads;
    c->windows = mem_zalloc(c->num_windows * sizeof(*c->windows));
    for (size_t i = 0; i < c->num_windows; i++)
        admission_window_init(&c->windows[i], (uint32_t)(ms / 1000));
    c->stats = filter_stats_named(env, &table, STR("admission_control"));
    return c;
}

static void free_config(void *config)
{
    struct admission_config *c = config;
    for (size_t i = 0; i < c->num_windows; i++)
        admission_window_cleanup(&c->windows[i]);
    mem_free(c->windows);
    c->windows = NULL;
    stats_scope_free(&c->stats);
}

/* --- requests --- */

static struct admission_window *window_of(const struct http_filter *f)
{
    const struct admission_config *c = f->config;
    return &c->windows[filter_thread(f)];
}

static uint64_t now_s(const struct http_filter *f)
{
    return loop_now_ms(f->stream->worker->loop) / 1000;
}

static bool rejected(const struct admission_config *c, struct admission_window *w, uint64_t now)
{
    if (admission_window_rps(w, now) < c->rps_threshold)
        return false;
    double p = admission_probability(w->requests, w->successes, c->threshold, c->aggression);
    if (p > c->max_probability)
        p = c->max_probability;
    return p * 10000 > (double)(random_u64() % 10000);
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct admission_config *c = f->config;
    if (!c->enabled)
        return FILTER_CONTINUE;
    if (rejected(c, window_of(f), now_s(f))) {
        filter_stats_inc(f, c->stats, ADMISSION_REJECTED);
        http_filter_reply(f, 503, 0, STR("denied_by_admission_control"), STR_NULL, NULL, NULL);
        return FILTER_PAUSE;
    }
    struct admission_state *s = ARENA_NEW(h->arena, struct admission_state);
    s->recording = true;
    f->state = s;
    return FILTER_CONTINUE;
}

/* --- outcomes --- */

static void record(struct http_filter *f, bool success)
{
    const struct admission_config *c = f->config;
    struct admission_state *s = f->state;
    s->recording = false;
    admission_window_record(window_of(f), now_s(f), success);
    filter_stats_inc(f, c->stats, success ? ADMISSION_SUCCESS : ADMISSION_FAILURE);
}

static bool grpc_success(const struct admission_config *c, const struct header *status)
{
    uint64_t code;
    return status && str_to_u64(status->value, &code) && code < GRPC_CODES &&
           (c->grpc >> code & 1) != 0;
}

static bool http_success(const struct admission_config *c, unsigned status)
{
    for (size_t i = 0; i < c->num_http; i++) {
        if (status >= c->http[i].start && status < c->http[i].end)
            return true;
    }
    return false;
}

static enum filter_status on_response_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct admission_config *c = f->config;
    struct admission_state *s = f->state;
    if (!s || !s->recording)
        return FILTER_CONTINUE;
    const struct header *status = headers_known(h, HDR_GRPC_STATUS);
    if (!grpc_is_response(h, end))
        record(f, http_success(c, h->status));
    else if (status)
        record(f, grpc_success(c, status));
    else
        s->in_trailers = true;
    return FILTER_CONTINUE;
}

static enum filter_status on_response_trailers(struct http_filter *f, struct headers *h)
{
    struct admission_state *s = f->state;
    if (s && s->recording && s->in_trailers)
        record(f, grpc_success(f->config, headers_known(h, HDR_GRPC_STATUS)));
    return FILTER_CONTINUE;
}

/* Without an answer it is a failure, which Envoy does not count in the stats. */
static void on_complete(struct http_filter *f)
{
    const struct admission_state *s = f->state;
    if (s && s->recording)
        admission_window_record(window_of(f), now_s(f), false);
}

const struct http_filter_ops admission_control_filter = {
    .name = "envoy.filters.http.admission_control",
    .type_name = "envoy.extensions.filters.http.admission_control.v3.AdmissionControl",
    .upstream = true,
    .compile = compile,
    .free = free_config,
    .on_request_headers = on_request_headers,
    .on_response_headers = on_response_headers,
    .on_response_trailers = on_response_trailers,
    .on_complete = on_complete,
};
