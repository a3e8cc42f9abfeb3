#include "cluster/health_config.h"

#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "base/hash.h"
#include "cluster/cluster_config.h"
#include "cluster/health_probe.h"
#include "cluster/load_assignment.h"
#include "cluster/membership.h"
#include "envoy/config/core/v3/health_check.pb-c.h"
#include "envoy/extensions/health_check/event_sinks/file/v3/file.pb-c.h"

typedef Envoy__Config__Core__V3__HealthCheck health_message;
typedef Envoy__Config__Core__V3__HealthCheck__Payload payload_message;
typedef Envoy__Extensions__HealthCheck__EventSinks__File__V3__HealthCheckEventFileSink file_sink;

enum { NO_TRAFFIC_MS = 60000 };

/* --- payloads --- */

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static struct str unhex(struct str text, struct arena *a, struct errors *e)
{
    char *out = arena_bytes(a, text.len / 2 + 1);
    bool good = text.len % 2 == 0;
    for (size_t i = 0; good && i < text.len; i += 2) {
        int high = digit(text.p[i]), low = digit(text.p[i + 1]);
        good = high >= 0 && low >= 0;
        if (good)
            out[i / 2] = (char)(high << 4 | low);
    }
    if (good)
        return str_n(out, text.len / 2);
    errors_add(e, "text", "invalid hex string '%.*s'", STR_ARG(text));
    return STR_NULL;
}

struct str health_payload_compile(const void *message, struct arena *a, struct errors *e)
{
    const payload_message *msg = message;
    switch (msg->payload_case) {
    case ENVOY__CONFIG__CORE__V3__HEALTH_CHECK__PAYLOAD__PAYLOAD_TEXT:
        return unhex(str_of(msg->text), a, e);
    case ENVOY__CONFIG__CORE__V3__HEALTH_CHECK__PAYLOAD__PAYLOAD_BINARY:
        return arena_str(a, str_n((const char *)msg->binary.data, msg->binary.len));
    default:
        errors_add(e, "payload", "is required");
        return STR_NULL;
    }
}

struct health_payloads health_payloads_compile(void *const *msgs, size_t n, const char *field,
                                               struct arena *a, struct errors *e)
{
    struct str *v = arena_zalloc(a, n * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        size_t mark = errors_push_index(e, field, i);
        v[i] = health_payload_compile(msgs[i], a, e);
        errors_pop(e, mark);
    }
    return (struct health_payloads){v, n};
}

bool health_payloads_match(const struct health_payloads *p, struct str text)
{
    for (size_t i = 0; i < p->n; i++) {
        const char *at;
        size_t used;
        if (p->v[i].len == 0)
            continue;
        at = text.len ? memmem(text.p, text.len, p->v[i].p, p->v[i].len) : NULL;
        if (!at)
            return false;
        used = (size_t)(at - text.p) + p->v[i].len;
        text = str_n(text.p + used, text.len - used);
    }
    return true;
}

/* --- the message --- */

static uint64_t positive(const Google__Protobuf__Duration *d, uint64_t def, struct errors *e,
                         const char *field)
{
    uint64_t ms = wkt_duration_ms(d, def, e, field);
    if (ms > 0)
        return ms;
    errors_add(e, field, "must be at least 1 ms");
    return 1;
}

static void compile_times(const health_message *m, struct health_config *out, struct errors *e)
{
    out->timeout_ms = positive(m->timeout, 0, e, "timeout");
    out->interval_ms = positive(m->interval, 0, e, "interval");
    out->initial_jitter_ms = wkt_duration_ms(m->initial_jitter, 0, e, "initial_jitter");
    out->interval_jitter_ms = wkt_duration_ms(m->interval_jitter, 0, e, "interval_jitter");
    out->interval_jitter_per_cent = m->interval_jitter_percent;
    out->no_traffic_ms = positive(m->no_traffic_interval, NO_TRAFFIC_MS, e, "no_traffic_interval");
    out->no_traffic_healthy_ms = positive(m->no_traffic_healthy_interval, out->no_traffic_ms, e,
                                          "no_traffic_healthy_interval");
    out->unhealthy_ms = positive(m->unhealthy_interval, out->interval_ms, e, "unhealthy_interval");
    out->unhealthy_edge_ms = positive(m->unhealthy_edge_interval, out->unhealthy_ms, e,
                                      "unhealthy_edge_interval");
    out->healthy_edge_ms = positive(m->healthy_edge_interval, out->interval_ms, e,
                                    "healthy_edge_interval");
}

static struct str sink_path(const health_message *m, const struct cluster_compile_env *env,
                            struct arena *scratch, struct errors *e)
{
    struct str path = str_of(m->event_log_path);
    for (size_t i = 0; i < m->n_event_logger; i++) {
        size_t mark = errors_push_index(e, "event_logger", i);
        struct pb_any any;
        enum pb_any_status got = pb_any_unpack(m->event_logger[i]->typed_config, scratch, e,
                                               env->pb, &any);
        if (got == PB_ANY_OK &&
            any.type ==
                &envoy__extensions__health_check__event_sinks__file__v3__health_check_event_file_sink__descriptor) {
            if (path.len)
                errors_add(e, NULL, "a health check has one event log");
            path = str_of(((const file_sink *)(const void *)any.message)->event_log_path);
        } else if (got != PB_ANY_INVALID) {
            errors_add(e, "typed_config", "only HealthCheckEventFileSink is supported");
        }
        errors_pop(e, mark);
    }
    return path;
}

static void compile_tcp(const Envoy__Config__Core__V3__HealthCheck__TcpHealthCheck *m,
                        struct health_config *out, struct arena *a, struct errors *e)
{
    size_t mark = errors_push(e, "tcp_health_check");
    if (m->send) {
        size_t inner = errors_push(e, "send");
        out->send = health_payload_compile(m->send, a, e);
        errors_pop(e, inner);
    }
    out->receive = health_payloads_compile((void *const *)m->receive, m->n_receive, "receive", a,
                                           e);
    errors_pop(e, mark);
}

static void compile_kind(const health_message *m, const struct cluster_compile_env *env,
                         struct cluster_config *cluster, struct health_config *out,
                         struct arena *scratch, struct errors *e)
{
    const struct health_probe_kinds *kinds = env->probes;
    switch (m->health_checker_case) {
    case ENVOY__CONFIG__CORE__V3__HEALTH_CHECK__HEALTH_CHECKER_TCP_HEALTH_CHECK:
        out->kind = HEALTH_TCP;
        out->probe = &health_tcp_probe;
        compile_tcp(m->tcp_health_check, out, &cluster->arena, e);
        return;
    case ENVOY__CONFIG__CORE__V3__HEALTH_CHECK__HEALTH_CHECKER_HTTP_HEALTH_CHECK:
        out->kind = HEALTH_HTTP;
        out->probe = kinds ? kinds->http : NULL;
        break;
    case ENVOY__CONFIG__CORE__V3__HEALTH_CHECK__HEALTH_CHECKER_GRPC_HEALTH_CHECK:
        out->kind = HEALTH_GRPC;
        out->probe = kinds ? kinds->grpc : NULL;
        if (cluster->http == UPSTREAM_HTTP1)
            errors_add(e, "grpc_health_check", "the cluster must support HTTP/2");
        break;
    default:
        errors_add(e, NULL,
                   "one of http_health_check, tcp_health_check and grpc_health_check is "
                   "required");
        return;
    }
    out->kinds = kinds;
    if (kinds)
        out->special = kinds->compile(m, cluster, scratch, e);
    else
        errors_add(e, NULL, "only tcp_health_check can be used here");
}

static void compile_transport(const health_message *m, struct cluster_config *cluster,
                              struct health_config *out)
{
    struct arena *a = &cluster->arena;
    if (m->tls_options) {
        struct str *v = arena_zalloc(a, m->tls_options->n_alpn_protocols * sizeof(*v));
        for (size_t i = 0; i < m->tls_options->n_alpn_protocols; i++)
            v[i] = arena_str(a, str_of(m->tls_options->alpn_protocols[i]));
        out->alpn = v;
        out->num_alpn = m->tls_options->n_alpn_protocols;
    }
    if (!m->transport_socket_match_criteria)
        return;
    out->has_transport = true;
    out->transport = transport_index_of(cluster, labels_of(m->transport_socket_match_criteria, a),
                                        NULL);
}

static void compile_one(const health_message *m, const struct cluster_compile_env *env,
                        struct cluster_config *cluster, struct health_config *out,
                        struct arena *scratch, struct errors *e)
{
    size_t before = e->num_errors;
    struct str packed = pb_pack(&m->base, scratch);
    out->hash = pb_hash(pb_canonical(m->base.descriptor, packed, scratch));
    compile_times(m, out, e);
    out->unhealthy_threshold = wkt_u32(m->unhealthy_threshold, 0);
    out->healthy_threshold = wkt_u32(m->healthy_threshold, 0);
    if (!m->unhealthy_threshold)
        errors_add(e, "unhealthy_threshold", "is required");
    if (!m->healthy_threshold)
        errors_add(e, "healthy_threshold", "is required");
    out->alt_port = wkt_u32(m->alt_port, 0);
    if (out->alt_port > UINT16_MAX)
        errors_add(e, "alt_port", "is not a port");
    out->reuse = wkt_bool(m->reuse_connection, true);
    out->log_failures = m->always_log_health_check_failures;
    out->log_successes = m->always_log_health_check_success;
    compile_kind(m, env, cluster, out, scratch, e);
    compile_transport(m, cluster, out);
    struct str path = sink_path(m, env, scratch, e);
    if (e->num_errors == before)
        event_log_open(&out->log, env->sink, path, e);
}

struct health_config *health_config_compile(void *const *msgs, size_t n,
                                            const struct cluster_compile_env *env,
                                            struct cluster_config *out, struct arena *scratch,
                                            struct errors *e)
{
    struct health_config *c;
    size_t mark;

    if (n == 0)
        return NULL;
    if (n > 1)
        errors_add(e, "health_checks", "a cluster has one health check, not %zu", n);
    c = ARENA_NEW(&out->arena, struct health_config);
    mark = errors_push_index(e, "health_checks", 0);
    compile_one((const health_message *)msgs[0], env, out, c, scratch, e);
    errors_pop(e, mark);
    if (out->type == CLUSTER_ORIGINAL_DST)
        errors_warn(e, "health_checks", "has no effect with type ORIGINAL_DST");
    return c;
}

void health_config_release(struct health_config *c)
{
    if (!c)
        return;
    event_log_close(&c->log);
    if (c->special && c->kinds)
        c->kinds->release(c->special);
    c->special = NULL;
}
