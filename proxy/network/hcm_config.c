#include "proxy/network/hcm_config.h"

#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "cluster/clusters.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "proxy/http/early_mutation.h"
#include "proxy/http/h2_stats.h"
#include "proxy/http/local_reply.h"
#include "proxy/network/hcm_options.h"
#include "proxy/observe/access_log.h"
#include "proxy/router/router_config.h"
#include "xds/source.h"

typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpConnectionManager Hcm;
#define HCM(x) ENVOY__EXTENSIONS__FILTERS__NETWORK__HTTP_CONNECTION_MANAGER__V3__##x

/* Our safe defaults where the field is unset (docs/differences.md). */
enum {
    DEFAULT_HEADERS_TIMEOUT_MS = 10000,
    DEFAULT_IDLE_MS = 3600000,
    DEFAULT_STREAM_IDLE_MS = 300000,
    DEFAULT_DELAYED_CLOSE_MS = 1000,
    DEFAULT_DRAIN_MS = 5000,
    DEFAULT_MAX_HEADERS_KB = 60,
    DEFAULT_MAX_HEADERS = 100,
};

/* --- statistics --- */

static const struct stats_def stat_defs[] = {HCM_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

/* --- parts --- */

static void compile_http1(struct hcm_config *c,
                          const Envoy__Config__Core__V3__Http1ProtocolOptions *m, struct errors *e)
{
    size_t mark = errors_push(e, "http_protocol_options");
    struct string_match *v = arena_zalloc(c->arena, (m->n_ignore_http_11_upgrade + 1) * sizeof(*v));
    http1_options_compile(&c->limits.http1, m, e);
    for (size_t i = 0; i < m->n_ignore_http_11_upgrade; i++) {
        size_t inner = errors_push_index(e, "ignore_http_11_upgrade", i);
        (void)string_match_compile(&v[i], &c->regexes, c->arena, m->ignore_http_11_upgrade[i], e);
        errors_pop(e, inner);
    }
    c->limits.ignore_upgrade = v;
    c->limits.num_ignore_upgrade = m->n_ignore_http_11_upgrade;
    if (m->send_fully_qualified_url)
        errors_warn(e, "send_fully_qualified_url", "has an effect on upstreams only");
    errors_pop(e, mark);
}

static void compile_limits(struct hcm_config *c, const Hcm *m, struct errors *e)
{
    const Envoy__Config__Core__V3__HttpProtocolOptions *common = m->common_http_protocol_options;
    const Envoy__Config__Core__V3__Http1ProtocolOptions *h1 = m->http_protocol_options;
    struct http_limits *l = &c->limits;
    l->max_headers_bytes = wkt_u32(m->max_request_headers_kb, DEFAULT_MAX_HEADERS_KB) * 1024;
    l->max_headers_count = DEFAULT_MAX_HEADERS;
    l->headers_timeout_ms = wkt_duration_ms(m->request_headers_timeout, DEFAULT_HEADERS_TIMEOUT_MS,
                                            e, "request_headers_timeout");
    l->delayed_close_ms = wkt_duration_ms(m->delayed_close_timeout, DEFAULT_DELAYED_CLOSE_MS, e,
                                          "delayed_close_timeout");
    l->idle_timeout_ms = DEFAULT_IDLE_MS;
    l->proxy_100_continue = m->proxy_100_continue;
    c->stream_idle_ms = wkt_duration_ms(m->stream_idle_timeout, DEFAULT_STREAM_IDLE_MS, e,
                                        "stream_idle_timeout");
    c->request_ms = wkt_duration_ms(m->request_timeout, 0, e, "request_timeout");
    l->request_ms = c->request_ms;
    l->stream_idle_ms = c->stream_idle_ms;
    c->drain_ms = wkt_duration_ms(m->drain_timeout, DEFAULT_DRAIN_MS, e, "drain_timeout");
    c->http1_safe_duration = m->http1_safe_max_connection_duration;
    if (common) {
        size_t mark = errors_push(e, "common_http_protocol_options");
        l->idle_timeout_ms = wkt_duration_ms(common->idle_timeout, DEFAULT_IDLE_MS, e,
                                             "idle_timeout");
        c->max_connection_ms = wkt_duration_ms(common->max_connection_duration, 0, e,
                                               "max_connection_duration");
        l->max_headers_count = wkt_u32(common->max_headers_count, DEFAULT_MAX_HEADERS);
        c->max_stream_ms = wkt_duration_ms(common->max_stream_duration, 0, e,
                                           "max_stream_duration");
        l->max_requests = wkt_u32(common->max_requests_per_connection, 0);
        c->underscores = (enum underscores)common->headers_with_underscores_action;
        errors_pop(e, mark);
    }
    if (h1) {
        l->accept_http_10 = h1->accept_http_10;
        compile_http1(c, h1, e);
        c->trailers = l->http1.trailers;
        l->default_host = arena_str(c->arena, str_of(h1->default_host_for_http_10));
    }
}

static void compile_http2(struct hcm_config *c, const Hcm *m, struct errors *e)
{
    struct http_limits *l = &c->limits;
    size_t mark = errors_push(e, "http2_protocol_options");
    http2_options_compile(m->http2_protocol_options, &c->h2, c->arena, e);
    errors_pop(e, mark);
    c->codec = (enum codec_type)m->codec_type;
    if (c->codec > CODEC_HTTP2)
        errors_add(e, "codec_type", "only AUTO, HTTP1 and HTTP2 are supported");
    l->h2 = &c->h2;
    l->drain_ms = c->drain_ms;
    l->flush_ms = wkt_duration_ms(m->stream_flush_timeout, c->stream_idle_ms, e,
                                  "stream_flush_timeout");
}

static void compile_client_cert(struct hcm_config *c, const Hcm *m)
{
    c->forward_cert = (enum forward_cert)m->forward_client_cert_details;
    if (!m->set_current_client_cert_details)
        return;
    c->cert_subject = wkt_bool(m->set_current_client_cert_details->subject, false);
    c->cert_cert = m->set_current_client_cert_details->cert;
    c->cert_chain = m->set_current_client_cert_details->chain;
    c->cert_dns = m->set_current_client_cert_details->dns;
    c->cert_uri = m->set_current_client_cert_details->uri;
}

static void compile_path(struct hcm_config *c, const Hcm *m)
{
    c->normalize_path = wkt_bool(m->normalize_path, true);
    c->merge_slashes = m->merge_slashes;
    switch (m->path_with_escaped_slashes_action) {
    case HCM(HTTP_CONNECTION_MANAGER__PATH_WITH_ESCAPED_SLASHES_ACTION__REJECT_REQUEST):
        c->escaped_slashes = SLASHES_REJECT;
        break;
    case HCM(HTTP_CONNECTION_MANAGER__PATH_WITH_ESCAPED_SLASHES_ACTION__UNESCAPE_AND_REDIRECT):
        c->escaped_slashes = SLASHES_REDIRECT;
        break;
    case HCM(HTTP_CONNECTION_MANAGER__PATH_WITH_ESCAPED_SLASHES_ACTION__UNESCAPE_AND_FORWARD):
        c->escaped_slashes = SLASHES_UNESCAPE;
        break;
    default: /* what is documented for unset: unchanged */
        c->escaped_slashes = SLASHES_KEEP;
        break;
    }
}

static void compile_identity(struct hcm_config *c, const Hcm *m, struct errors *e)
{
    c->server_name = m->server_name[0] ? arena_str(c->arena, str_of(m->server_name)) : STR("envoy");
    c->server_header = (enum server_header)m->server_header_transformation;
    c->via = arena_str(c->arena, str_of(m->via));
    c->use_remote_address = wkt_bool(m->use_remote_address, false);
    c->skip_xff_append = m->skip_xff_append;
    c->xff_hops = m->xff_num_trusted_hops;
    c->append_x_forwarded_port = m->append_x_forwarded_port;
    c->generate_request_id = wkt_bool(m->generate_request_id, true);
    c->preserve_request_id = m->preserve_external_request_id;
    c->request_id_in_response = m->always_set_request_id_in_response;
    c->strip_any_port = m->strip_port_mode_case ==
                            HCM(HTTP_CONNECTION_MANAGER__STRIP_PORT_MODE_STRIP_ANY_HOST_PORT) &&
                        m->strip_any_host_port;
    c->strip_matching_port = m->strip_matching_host_port;
    if (c->strip_any_port && c->strip_matching_port)
        errors_add(e, "strip_matching_host_port", "and strip_any_host_port cannot both be set");
    c->strip_trailing_dot = m->strip_trailing_host_dot;
}

static void compile_internal(struct hcm_config *c, const Hcm *m, struct errors *e)
{
    const Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpConnectionManager__InternalAddressConfig
        *in = m->internal_address_config;
    if (!in)
        return;
    size_t outer = errors_push(e, "internal_address_config");
    c->internal_pipes = in->unix_sockets;
    c->num_internal = in->n_cidr_ranges;
    c->internal = arena_zalloc(c->arena, (in->n_cidr_ranges + 1) * sizeof(*c->internal));
    for (size_t i = 0; i < in->n_cidr_ranges; i++) {
        const Envoy__Config__Core__V3__CidrRange *r = in->cidr_ranges[i];
        uint32_t len = wkt_u32(r->prefix_len, 0);
        size_t mark = errors_push_index(e, "cidr_ranges", i);
        if (!cidr_make(str_of(r->address_prefix), len, &c->internal[i]))
            errors_add(e, NULL, "malformed IP address range: %s/%u", r->address_prefix, len);
        errors_pop(e, mark);
    }
    errors_pop(e, outer);
}

static void compile_logs(struct hcm_config *c, const struct compile_env *env, const Hcm *m,
                         struct errors *e)
{
    c->logs = arena_zalloc(c->arena, (m->n_access_log + 1) * sizeof(*c->logs));
    for (size_t i = 0; i < m->n_access_log; i++) {
        size_t mark = errors_push_index(e, "access_log", i);
        struct access_log *l = access_log_compile(c->arena, m->access_log[i], env->files, env->pb,
                                                  e);
        if (l)
            c->logs[c->num_logs++] = l;
        errors_pop(e, mark);
    }
}

static void compile_local_reply(struct hcm_config *c, const struct compile_env *env, const Hcm *m,
                                struct errors *e)
{
    if (!m->local_reply_config)
        return;
    size_t mark = errors_push(e, "local_reply_config");
    c->local_reply = local_reply_compile(c->arena, m->local_reply_config, env->pb, e);
    errors_pop(e, mark);
}

static void compile_filters(struct hcm_config *c, const struct compile_env *env, const Hcm *m,
                            struct errors *e)
{
    const struct http_filter_env fenv = {
        .compile = env,
        .arena = c->arena,
        .stat_prefix = arena_printf(c->arena, "http.%.*s", STR_ARG(c->stat_prefix)),
    };
    http_filter_list_compile(&fenv, (void *const *)m->http_filters, m->n_http_filters,
                             "http_filters", &c->filters, e);
    if (!c->filters.terminated && errors_ok(e))
        errors_add(e, "http_filters", "the last filter must be envoy.filters.http.router");
    c->dynamic_stats = true;
    if (c->filters.terminal) {
        const struct router_config *r = c->filters.terminal;
        c->suppress_envoy_headers = r->suppress_envoy_headers;
        c->dynamic_stats = r->dynamic_stats;
        c->respect_expected_timeout = r->respect_expected_timeout;
        c->suppress_grpc_codes = r->suppress_grpc_codes;
        c->strict_headers = r->strict_headers;
        c->num_strict = r->num_strict;
        c->upstream_logs = r->upstream_logs;
        c->num_upstream_logs = r->num_upstream_logs;
    }
    hcm_upgrades_compile(c, &fenv, m, e);
}

static void compile_rds(struct hcm_config *c, const struct compile_env *env, const Hcm *m,
                        struct errors *e)
{
    struct xds_source src;
    size_t mark = errors_push(e, "rds");
    size_t inner = errors_push(e, "config_source");
    bool has_ads = env->xds && xds_has_ads(env->xds);
    bool ok = xds_source_decode(m->rds->config_source, NULL, has_ads || env->validate, c->arena, e,
                                &src);
    errors_pop(e, inner);
    if (!m->rds->route_config_name[0])
        errors_add(e, "route_config_name", "must not be empty");
    errors_pop(e, mark);
    if (ok && errors_ok(e) && !env->validate)
        c->routes = route_slot_rds(env->routes, &src, str_of(m->rds->route_config_name),
                                   c->stat_prefix);
}

static bool cluster_known(void *clusters, struct str name)
{
    return clusters_known(clusters, name);
}

static void compile_routes(struct hcm_config *c, const struct compile_env *env, const Hcm *m,
                           struct errors *e)
{
    switch (m->route_specifier_case) {
    case HCM(HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_RDS):
        compile_rds(c, env, m, e);
        return;
    case HCM(HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_ROUTE_CONFIG): {
        size_t mark = errors_push(e, "route_config");
        const struct route_compile_options opts = {.cluster_known = cluster_known,
                                                   .arg = env->clusters,
                                                   .validate_clusters = true,
                                                   .env = env};
        struct route_table *t = route_table_compile(m->route_config, &opts, e);
        errors_pop(e, mark);
        if (t && !env->validate)
            c->routes = route_slot_static(env->routes, t);
        else
            route_table_unref(t);
        return;
    }
    default:
        errors_add(e, NULL, "rds or route_config is required");
        return;
    }
}

/* --- the whole --- */

void hcm_config_free(void *config)
{
    struct hcm_config *c = config;
    if (!c)
        return;
    for (size_t i = 0; i < c->num_logs; i++)
        access_log_release(c->logs[i]);
    for (size_t i = 0; i < c->num_upstream_logs; i++)
        access_log_release(c->upstream_logs[i]);
    http_filter_list_free(&c->filters);
    for (size_t i = 0; i < c->num_upgrades; i++)
        http_filter_list_free(&c->upgrades[i].filters);
    local_reply_cleanup(c->local_reply);
    early_mutation_cleanup(c->early_mutation);
    route_slot_unref(c->routes);
    stats_scope_free(&c->stats);
    regex_list_free(&c->regexes);
    stats_scope_free(&c->limits.h2_stats);
    struct arena *a = c->arena;
    arena_free(&a);
}

bool hcm_config_ready(void *config)
{
    struct hcm_config *c = config;
    return route_slot_ready(c->routes);
}

void *hcm_config_compile(const struct compile_env *env, const void *msg, struct errors *e)
{
    const Hcm *m = msg;
    size_t before = e->num_errors;
    struct arena *a = arena_new(4096);
    struct hcm_config *c = ARENA_NEW(a, struct hcm_config);
    c->arena = a;
    c->stat_prefix = arena_str(a, str_of(m->stat_prefix));
    compile_limits(c, m, e);
    compile_http2(c, m, e);
    compile_client_cert(c, m);
    compile_path(c, m);
    compile_identity(c, m, e);
    compile_internal(c, m, e);
    hcm_options_compile(c, env, m, e);
    compile_logs(c, env, m, e);
    compile_local_reply(c, env, m, e);
    compile_filters(c, env, m, e);
    compile_routes(c, env, m, e);
    if (e->num_errors > before) {
        hcm_config_free(c);
        return NULL;
    }
    struct stats_part parts[] = {{STR("http"), NULL},
                                 {c->stat_prefix, "envoy_http_conn_manager_prefix"}};
    if (!env->validate) {
        c->stats = stats_scope_new(&stat_table, parts, ARRAY_LEN(parts));
        c->limits.h2_stats = h2_stats_scope();
    }
    return c;
}
