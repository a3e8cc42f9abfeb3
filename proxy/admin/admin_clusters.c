#include "base/regex.h"
#include "cluster/clusters.h"
#include "cluster/outlier.h"
#include "proxy/admin/admin_address.h"
#include "proxy/admin/admin_handler.h"
#include "proxy/server.h"
#include <stdio.h>

enum { SLICE = 256 }; /* clusters looked at in one turn */

struct clusters_job {
    struct clusters *clusters; /* NULL: not there yet */
    struct regex *filter;      /* NULL: all */
    bool json;
    struct json_writer w;
    struct buffer *text;
    size_t next; /* index of the first cluster of this slice, */
    size_t at;   /* and of the one on offer */
};

/* The counts of a host, in the order in which Envoy lists them: sorted by name in the text, the
 * counters first in JSON. */
struct host_count {
    const char *name;
    bool gauge;
    uint64_t value;
};

enum { NUM_HOST_COUNTS = 9 };

#define READ(h, field) atomic_load_explicit(&(h)->field, memory_order_relaxed)

static void read_counts(const struct host *h, struct host_count out[NUM_HOST_COUNTS])
{
    const struct host_count counts[NUM_HOST_COUNTS] = {
        {"cx_active", true, READ(h, cx_active)},
        {"cx_connect_fail", false, READ(h, cx_connect_fail)},
        {"cx_total", false, READ(h, cx_total)},
        {"rq_active", true, READ(h, rq_active)},
        {"rq_error", false, READ(h, rq_error)},
        {"rq_pending_active", true, READ(h, rq_pending_active)},
        {"rq_success", false, READ(h, rq_success)},
        {"rq_timeout", false, READ(h, rq_timeout)},
        {"rq_total", false, READ(h, rq_total)},
    };
    memcpy(out, counts, sizeof(counts));
}

static bool is_wanted(struct clusters_job *j, const struct cluster_view *v)
{
    size_t index = j->at++;
    if (index < j->next || index >= j->next + SLICE)
        return false;
    return v->active && (!j->filter || regex_search(j->filter, v->name, NULL, 0));
}

/* --- text ------------------------------------------------------------------------------------ */

static void put_limits_text(struct buffer *b, const struct cluster_view *v, enum priority p)
{
    static const char *const names[] = {
        [CIRCUIT_CX] = "max_connections",
        [CIRCUIT_PENDING] = "max_pending_requests",
        [CIRCUIT_RQ] = "max_requests",
        [CIRCUIT_RETRIES] = "max_retries",
    };
    for (unsigned k = 0; k < ARRAY_LEN(names); k++)
        buffer_printf(b, "%.*s::%s_priority::%s::%llu\n", STR_ARG(v->name),
                      p == PRIORITY_HIGH ? "high" : "default", names[k],
                      (unsigned long long)circuit_max(v->circuit, p, (enum circuit_kind)k));
}

static void put_health_text(struct buffer *b, const struct host *h)
{
    static const struct {
        uint32_t bit;
        const char *text;
    } flags[] = {{HOST_FAILED_ACTIVE_HC, "/failed_active_hc"},
                 {HOST_FAILED_OUTLIER, "/failed_outlier_check"},
                 {HOST_FAILED_EDS, "/failed_eds_health"},
                 {HOST_DEGRADED_ACTIVE_HC, "/degraded_active_hc"},
                 {HOST_DEGRADED_EDS, "/degraded_eds_health"},
                 {HOST_PENDING_REMOVAL, "/pending_dynamic_removal"},
                 {HOST_PENDING_ACTIVE_HC, "/pending_active_hc"},
                 {HOST_EXCLUDED, "/excluded_via_immediate_hc_fail"},
                 {HOST_HC_TIMEOUT, "/active_hc_timeout"},
                 {HOST_DRAINING_EDS, "/eds_status_draining"}};
    uint32_t health = READ(h, health);
    if (health == 0)
        buffer_add_str(b, STR("healthy"));
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        if (health & flags[i].bit)
            buffer_add_str(b, str_of(flags[i].text));
    }
}

static void put_host_text(struct buffer *b, struct str cluster, const struct host *h)
{
    struct host_count counts[NUM_HOST_COUNTS];
    struct arena a;
    arena_init(&a, 0);
    struct str at = arena_printf(&a, "%.*s::%.*s", STR_ARG(cluster), STR_ARG(h->address_text));
    read_counts(h, counts);
    for (size_t i = 0; i < NUM_HOST_COUNTS; i++)
        buffer_printf(b, "%.*s::%s::%llu\n", STR_ARG(at), counts[i].name,
                      (unsigned long long)counts[i].value);
    buffer_printf(b, "%.*s::hostname::%.*s\n", STR_ARG(at), STR_ARG(h->hostname));
    buffer_printf(b, "%.*s::health_flags::", STR_ARG(at));
    put_health_text(b, h);
    buffer_printf(b, "\n%.*s::weight::%u\n", STR_ARG(at), h->weight);
    buffer_printf(b, "%.*s::region::%.*s\n", STR_ARG(at), STR_ARG(h->region));
    buffer_printf(b, "%.*s::zone::%.*s\n", STR_ARG(at), STR_ARG(h->zone));
    buffer_printf(b, "%.*s::sub_zone::%.*s\n", STR_ARG(at), STR_ARG(h->sub_zone));
    buffer_printf(b, "%.*s::canary::false\n", STR_ARG(at));
    buffer_printf(b, "%.*s::priority::%u\n", STR_ARG(at), h->priority);
    buffer_printf(b, "%.*s::success_rate::%g\n", STR_ARG(at), h->success_rate[0]);
    buffer_printf(b, "%.*s::local_origin_success_rate::%g\n", STR_ARG(at), h->success_rate[1]);
    arena_cleanup(&a);
}

static void put_outlier_text(struct buffer *b, const struct cluster_view *v)
{
    if (!v->outlier)
        return;
    for (unsigned local = 0; local < 2; local++) {
        const struct outlier_rates *r = outlier_rates(v->outlier, local);
        const char *prefix = local ? "local_origin_" : "";
        buffer_printf(b, "%.*s::outlier::%ssuccess_rate_average::%g\n", STR_ARG(v->name), prefix,
                      r->average);
        buffer_printf(b, "%.*s::outlier::%ssuccess_rate_ejection_threshold::%g\n", STR_ARG(v->name),
                      prefix, r->threshold);
    }
}

static void put_cluster_text(void *arg, const struct cluster_view *v)
{
    struct clusters_job *j = arg;
    struct buffer *b = j->text;
    if (!is_wanted(j, v))
        return;
    buffer_printf(b, "%.*s::observability_name::%.*s\n", STR_ARG(v->name),
                  STR_ARG(v->config->stat_name));
    put_outlier_text(b, v);
    put_limits_text(b, v, PRIORITY_DEFAULT);
    put_limits_text(b, v, PRIORITY_HIGH);
    buffer_printf(b, "%.*s::added_via_api::%s\n", STR_ARG(v->name),
                  v->is_static ? "false" : "true");
    if (v->config->type == CLUSTER_EDS)
        buffer_printf(b, "%.*s::eds_service_name::%.*s\n", STR_ARG(v->name),
                      STR_ARG(v->config->eds_name));
    for (uint32_t i = 0; v->hosts && i < v->hosts->num_hosts; i++)
        put_host_text(b, v->name, v->hosts->hosts[i]);
}

/* --- JSON: envoy.admin.v3.Clusters --------------------------------------------------------------
 */

static void put_str(struct json_writer *w, const char *key, struct str value)
{
    if (value.len == 0)
        return;
    json_key(w, str_of(key));
    json_put_str(w, value);
}

static void put_true(struct json_writer *w, const char *key, bool value)
{
    if (!value)
        return;
    json_key(w, str_of(key));
    json_put_bool(w, true);
}

static void put_count(struct json_writer *w, const struct host_count *c)
{
    char text[24];
    json_open(w, '{');
    if (c->gauge) {
        json_key(w, STR("type"));
        json_put_str(w, STR("GAUGE"));
    }
    if (c->value) {
        int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)c->value);
        json_key(w, STR("value"));
        json_put_str(w, str_n(text, (size_t)n));
    }
    json_key(w, STR("name"));
    json_put_str(w, str_of(c->name));
    json_close(w, '}');
}

static void put_counts(struct json_writer *w, const struct host *h)
{
    struct host_count counts[NUM_HOST_COUNTS];
    read_counts(h, counts);
    json_key(w, STR("stats"));
    json_open(w, '[');
    for (int gauge = 0; gauge < 2; gauge++) {
        for (size_t i = 0; i < NUM_HOST_COUNTS; i++) {
            if (counts[i].gauge == (gauge == 1))
                put_count(w, &counts[i]);
        }
    }
    json_close(w, ']');
}

static void put_health(struct json_writer *w, const struct host *h)
{
    uint32_t health = READ(h, health);
    const char *eds = health & HOST_FAILED_EDS     ? "UNHEALTHY"
                      : health & HOST_DRAINING_EDS ? "DRAINING"
                      : health & HOST_DEGRADED_EDS ? "DEGRADED"
                                                   : "HEALTHY";
    json_key(w, STR("health_status"));
    json_open(w, '{');
    put_true(w, "failed_active_health_check", health & HOST_FAILED_ACTIVE_HC);
    put_true(w, "failed_outlier_check", health & HOST_FAILED_OUTLIER);
    put_str(w, "eds_health_status", str_of(eds));
    put_true(w, "failed_active_degraded_check", health & HOST_DEGRADED_ACTIVE_HC);
    put_true(w, "pending_dynamic_removal", health & HOST_PENDING_REMOVAL);
    put_true(w, "pending_active_hc", health & HOST_PENDING_ACTIVE_HC);
    put_true(w, "excluded_via_immediate_hc_fail", health & HOST_EXCLUDED);
    put_true(w, "active_hc_timeout", health & HOST_HC_TIMEOUT);
    json_close(w, '}');
}

static void put_host(struct json_writer *w, const struct host *h)
{
    json_open(w, '{');
    json_key(w, STR("address"));
    admin_put_address(w, &h->addr);
    put_counts(w, h);
    put_health(w, h);
    json_key(w, STR("weight"));
    json_put_u64(w, h->weight);
    put_str(w, "hostname", h->hostname);
    if (h->priority) {
        json_key(w, STR("priority"));
        json_put_u64(w, h->priority);
    }
    json_key(w, STR("locality"));
    json_open(w, '{');
    put_str(w, "region", h->region);
    put_str(w, "zone", h->zone);
    put_str(w, "sub_zone", h->sub_zone);
    json_close(w, '}');
    json_close(w, '}');
}

static void put_limits(struct json_writer *w, const struct cluster_view *v, enum priority p)
{
    static const char *const names[] = {
        [CIRCUIT_CX] = "max_connections",
        [CIRCUIT_PENDING] = "max_pending_requests",
        [CIRCUIT_RQ] = "max_requests",
        [CIRCUIT_RETRIES] = "max_retries",
    };
    json_open(w, '{');
    if (p == PRIORITY_HIGH) {
        json_key(w, STR("priority"));
        json_put_str(w, STR("HIGH"));
    }
    for (unsigned k = 0; k < ARRAY_LEN(names); k++) {
        json_key(w, str_of(names[k]));
        json_put_u64(w, circuit_max(v->circuit, p, (enum circuit_kind)k));
    }
    json_close(w, '}');
}

static void put_cluster(void *arg, const struct cluster_view *v)
{
    struct clusters_job *j = arg;
    struct json_writer *w = &j->w;
    if (!is_wanted(j, v))
        return;
    json_open(w, '{');
    put_str(w, "name", v->name);
    put_true(w, "added_via_api", !v->is_static);
    if (v->hosts && v->hosts->num_hosts) {
        json_key(w, STR("host_statuses"));
        json_open(w, '[');
        for (uint32_t i = 0; i < v->hosts->num_hosts; i++)
            put_host(w, v->hosts->hosts[i]);
        json_close(w, ']');
    }
    json_key(w, STR("circuit_breakers"));
    json_open(w, '{');
    json_key(w, STR("thresholds"));
    json_open(w, '[');
    put_limits(w, v, PRIORITY_DEFAULT);
    put_limits(w, v, PRIORITY_HIGH);
    json_close(w, ']');
    json_close(w, '}');
    put_str(w, "observability_name", v->config->stat_name);
    if (v->config->type == CLUSTER_EDS)
        put_str(w, "eds_service_name", v->config->eds_name);
    json_close(w, '}');
}

/* --- the page ------------------------------------------------------------------------------------
 */

static bool more_clusters(void *arg, struct buffer *out)
{
    struct clusters_job *j = arg;
    j->text = out;
    j->at = 0;
    if (j->clusters)
        clusters_visit(j->clusters, j->json ? put_cluster : put_cluster_text, j);
    j->next += SLICE;
    bool more = j->at > j->next;
    if (!j->json)
        return more;
    if (!more) {
        json_close(&j->w, ']');
        json_close(&j->w, '}');
    }
    buffer_add_str(out, json_writer_text(&j->w));
    j->w.len = 0;
    if (!more)
        buffer_add_str(out, STR("\n"));
    return more;
}

static void clusters_done(void *arg)
{
    struct clusters_job *j = arg;
    regex_free(&j->filter);
    json_writer_cleanup(&j->w);
    mem_free(j);
}

void admin_clusters(const struct admin_request *rq, struct admin_response *rs)
{
    struct str format = STR_NULL, err;
    struct regex *filter;
    if (!admin_regex(rq, "filter", &filter, &err)) {
        admin_error(rs, 400, "Invalid re2 regex: %.*s", STR_ARG(err));
        return;
    }
    (void)admin_query_get(&rq->query, "format", &format);
    struct clusters_job *j = NEW(struct clusters_job);
    *j = (struct clusters_job){
        .clusters = rq->server->clusters, .filter = filter, .json = str_eq(format, STR("json"))};
    json_writer_init(&j->w, true);
    if (j->json) {
        rs->content_type = ADMIN_JSON;
        json_open(&j->w, '{');
        json_key(&j->w, STR("cluster_statuses"));
        json_open(&j->w, '[');
    }
    rs->more = more_clusters;
    rs->done = clusters_done;
    rs->arg = j;
}
