#include "proxy/network/tcp_config.h"

#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"
#include "proxy/observe/access_log.h"
#include "proxy/router/headers_mutation.h"
#include "proxy/router/lb_match.h"

typedef Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy TcpProxy;
typedef Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy__TunnelingConfig Tunneling;
#define TCP_PROXY(x) ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__TCP_PROXY__##x
#define CONNECT_MODE(x)                                                                            \
    ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__UPSTREAM_CONNECT_MODE__##x
#define HASH_POLICY(x) ENVOY__TYPE__V3__HASH_POLICY__POLICY_SPECIFIER_##x

enum {
    DEFAULT_IDLE_MS = 3600000,
    DEFAULT_HALF_CLOSE_MS = 300000,
    BACKOFF_FACTOR = 10, /* max_interval, unset, is so many times base_interval */
};

static const struct stats_def stat_defs[] = {TCP_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

void tcp_config_free(void *config)
{
    struct tcp_config *c = config;
    for (size_t i = 0; i < c->num_logs; i++)
        access_log_release(c->logs[i]);
    stats_scope_free(&c->stats);
    struct arena *a = c->arena;
    arena_free(&a);
}

/* --- where to --- */

/* The filter's criteria with an entry's own keys over them; NULL: neither has any. */
static const struct lb_match *merged(struct arena *a, const Envoy__Config__Core__V3__Metadata *base,
                                     const Envoy__Config__Core__V3__Metadata *own)
{
    struct metadata *m, over = {0};
    if (!base && !own)
        return NULL;
    m = ARENA_NEW(a, struct metadata);
    metadata_from_message(m, a, base);
    metadata_from_message(&over, a, own);
    for (const struct metadata_namespace *n = over.first; n; n = n->next) {
        for (struct json *j = n->object->first, *next; j; j = next) {
            next = j->next;
            metadata_set(m, a, n->name, j->key, metadata_copy(a, j));
        }
    }
    return lb_match_of(m, a);
}

static void compile_targets(struct tcp_config *c, const TcpProxy *m, struct errors *e)
{
    if (m->cluster_specifier_case == TCP_PROXY(CLUSTER_SPECIFIER_CLUSTER)) {
        c->targets = ARENA_NEW(c->arena, struct tcp_target);
        c->targets[0] = (struct tcp_target){arena_str(c->arena, str_of(m->cluster)), 1,
                                            merged(c->arena, m->metadata_match, NULL)};
        c->num_targets = 1;
        c->total_weight = 1;
        return;
    }
    if (m->cluster_specifier_case != TCP_PROXY(CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS)) {
        errors_add(e, NULL, "cluster or weighted_clusters is required");
        return;
    }
    size_t n = m->weighted_clusters->n_clusters;
    c->targets = arena_zalloc(c->arena, (n + 1) * sizeof(*c->targets));
    c->num_targets = n;
    for (size_t i = 0; i < n; i++) {
        struct tcp_target *t = &c->targets[i];
        t->cluster = arena_str(c->arena, str_of(m->weighted_clusters->clusters[i]->name));
        t->weight = m->weighted_clusters->clusters[i]->weight;
        t->match = merged(c->arena, m->metadata_match,
                          m->weighted_clusters->clusters[i]->metadata_match);
        c->total_weight += t->weight;
    }
}

static void compile_hash(struct tcp_config *c, const TcpProxy *m)
{
    if (m->n_hash_policy == 0)
        return;
    if (m->hash_policy[0]->policy_specifier_case == HASH_POLICY(SOURCE_IP)) {
        c->hash = TCP_HASH_SOURCE_IP;
        return;
    }
    c->hash = TCP_HASH_FILTER_STATE;
    c->hash_key = arena_str(c->arena, str_of(m->hash_policy[0]->filter_state->key));
}

/* --- when, and for how long --- */

static void compile_times(struct tcp_config *c, const TcpProxy *m, struct errors *e)
{
    c->idle_ms = wkt_duration_ms(m->idle_timeout, DEFAULT_IDLE_MS, e, "idle_timeout");
    c->half_close_ms = m->idle_timeout ? c->idle_ms : DEFAULT_HALF_CLOSE_MS;
    c->flush_ms = c->half_close_ms ? c->half_close_ms : DEFAULT_IDLE_MS;
    c->max_ms = wkt_duration_ms(m->max_downstream_connection_duration, 0, e,
                                "max_downstream_connection_duration");
    if (m->max_downstream_connection_duration_jitter_percentage)
        c->max_jitter = m->max_downstream_connection_duration_jitter_percentage->value / 100;
}

static void compile_attempts(struct tcp_config *c, const TcpProxy *m, struct errors *e)
{
    c->connect_attempts = wkt_u32(m->max_connect_attempts, 1);
    if (!m->backoff_options)
        return;
    size_t mark = errors_push(e, "backoff_options");
    c->backoff_base_ms = wkt_duration_ms(m->backoff_options->base_interval, 0, e, "base_interval");
    c->backoff_max_ms = wkt_duration_ms(m->backoff_options->max_interval,
                                        c->backoff_base_ms * BACKOFF_FACTOR, e, "max_interval");
    if (c->backoff_max_ms < c->backoff_base_ms)
        errors_add(e, "max_interval", "must not be less than base_interval");
    errors_pop(e, mark);
}

static void compile_mode(struct tcp_config *c, const TcpProxy *m, struct errors *e)
{
    c->limits_early = m->max_early_data_bytes != NULL;
    c->max_early = wkt_u32(m->max_early_data_bytes, 0);
    switch (m->upstream_connect_mode) {
    case CONNECT_MODE(IMMEDIATE):
        return;
    case CONNECT_MODE(ON_DOWNSTREAM_DATA):
        c->connect_mode = TCP_CONNECT_ON_DATA;
        break;
    case CONNECT_MODE(ON_DOWNSTREAM_TLS_HANDSHAKE):
        break;
    default:
        errors_add(e, "upstream_connect_mode", "%d is not a mode", (int)m->upstream_connect_mode);
        return;
    }
    if (!c->limits_early)
        errors_add(e, "max_early_data_bytes", "is required where upstream_connect_mode is set");
}

/* --- tunnels and TLVs --- */

static void compile_request_id(struct tcp_config *c, struct tcp_tunnel_config *t,
                               const Tunneling *m, const struct compile_env *env, struct errors *e)
{
    struct pb_any any;
    t->request_id_header = STR("x-request-id");
    t->request_id_key = STR("tunnel_request_id");
    if (!m->request_id_extension)
        return;
    size_t mark = errors_push(e, "request_id_extension.typed_config");
    t->request_id = true;
    enum pb_any_status s = pb_any_unpack(m->request_id_extension->typed_config, c->arena, e,
                                         env->pb, &any);
    if (s != PB_ANY_INVALID &&
        !str_eq(any.type_name, STR("envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig")))
        errors_add(e, NULL, "only the UUID extension is supported");
    errors_pop(e, mark);
    if (m->request_id_metadata_key[0])
        t->request_id_key = arena_str(c->arena, str_of(m->request_id_metadata_key));
    struct str name = str_of(m->request_id_header);
    if (name.len == 0)
        return;
    char *lower = arena_bytes(c->arena, name.len);
    for (size_t i = 0; i < name.len; i++)
        lower[i] = name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] | 0x20) : name.p[i];
    t->request_id_header = str_n(lower, name.len);
}

static void check_added(const Tunneling *m, struct errors *e)
{
    for (size_t i = 0; i < m->n_headers_to_add; i++) {
        struct str key = m->headers_to_add[i]->header ? str_of(m->headers_to_add[i]->header->key)
                                                      : STR_NULL;
        if (!str_starts(key, STR(":")) && !str_ieq(key, STR("host")))
            continue;
        size_t mark = errors_push_index(e, "headers_to_add", i);
        errors_add(e, "header.key", "pseudo-headers and host cannot be set");
        errors_pop(e, mark);
    }
}

static void compile_tunnel(struct tcp_config *c, const Tunneling *m, const struct compile_env *env,
                           struct errors *e)
{
    if (!m)
        return;
    struct tcp_tunnel_config *t = ARENA_NEW(c->arena, struct tcp_tunnel_config);
    size_t mark = errors_push(e, "tunneling_config");
    size_t inner = errors_push(e, "hostname");
    t->hostname = format_compile(c->arena, str_of(m->hostname), true, e);
    errors_pop(e, inner);
    check_added(m, e);
    t->headers = headers_mutation_compile(c->arena, (void *const *)m->headers_to_add,
                                          m->n_headers_to_add, NULL, 0, "headers_to_add", "", e);
    t->post = m->use_post;
    t->post_path = m->post_path[0] ? arena_str(c->arena, str_of(m->post_path)) : STR("/");
    if (m->post_path[0] && !t->post)
        errors_add(e, "post_path", "needs use_post");
    t->keep_headers = m->propagate_response_headers;
    t->keep_trailers = m->propagate_response_trailers;
    compile_request_id(c, t, m, env, e);
    errors_pop(e, mark);
    c->tunnel = t;
}

static void compile_tlv(struct tcp_config *c, struct tcp_tlv *t,
                        const Envoy__Config__Core__V3__TlvEntry *m, const struct compile_env *env,
                        struct errors *e)
{
    t->type = (uint8_t)m->type;
    if (m->type > UINT8_MAX)
        errors_add(e, "type", "must be less than 256");
    if (m->value.len && m->format_string)
        errors_add(e, NULL, "value or format_string, not both");
    if (!m->value.len && !m->format_string)
        errors_add(e, NULL, "value or format_string is required");
    t->value = arena_str(c->arena, str_n((const char *)m->value.data, m->value.len));
    if (!m->format_string)
        return;
    size_t mark = errors_push(e, "format_string");
    t->format = ARENA_NEW(c->arena, struct format_string);
    (void)format_string_compile(t->format, c->arena, m->format_string, env->pb, e);
    errors_pop(e, mark);
}

static void compile_tlvs(struct tcp_config *c, const TcpProxy *m, const struct compile_env *env,
                         struct errors *e)
{
    struct tcp_tlv *v = arena_zalloc(c->arena, (m->n_proxy_protocol_tlvs + 1) * sizeof(*v));
    for (size_t i = 0; i < m->n_proxy_protocol_tlvs; i++) {
        size_t mark = errors_push_index(e, "proxy_protocol_tlvs", i);
        compile_tlv(c, &v[i], m->proxy_protocol_tlvs[i], env, e);
        errors_pop(e, mark);
    }
    c->tlvs = v;
    c->num_tlvs = m->n_proxy_protocol_tlvs;
}

/* --- access logs --- */

static void compile_logs(struct tcp_config *c, const TcpProxy *m, const struct compile_env *env,
                         struct errors *e)
{
    const Google__Protobuf__Duration *interval = m->access_log_flush_interval;
    const char *field = "access_log_flush_interval";
    size_t mark;

    c->logs = arena_zalloc(c->arena, (m->n_access_log + 1) * sizeof(*c->logs));
    for (size_t i = 0; i < m->n_access_log; i++) {
        mark = errors_push_index(e, "access_log", i);
        struct access_log *l = access_log_compile(c->arena, m->access_log[i], env->files, env->pb,
                                                  e);
        if (l)
            c->logs[c->num_logs++] = l;
        errors_pop(e, mark);
    }
    c->log_connected = m->flush_access_log_on_connected;
    if (m->access_log_options) { /* which counts where both are given */
        c->log_connected = m->access_log_options->flush_access_log_on_connected;
        interval = m->access_log_options->access_log_flush_interval;
        field = "access_log_options.access_log_flush_interval";
    }
    c->log_interval_ms = wkt_duration_ms(interval, 0, e, field);
}

/* What a field alone may be was checked when the message was unpacked. */
void *tcp_config_compile(const struct compile_env *env, const void *msg, struct errors *e)
{
    const TcpProxy *m = msg;
    size_t before = e->num_errors;
    struct arena *a = arena_new(1024);
    struct tcp_config *c = ARENA_NEW(a, struct tcp_config);
    c->arena = a;
    compile_targets(c, m, e);
    compile_hash(c, m);
    compile_times(c, m, e);
    compile_attempts(c, m, e);
    compile_mode(c, m, e);
    compile_tunnel(c, m->tunneling_config, env, e);
    compile_tlvs(c, m, env, e);
    compile_logs(c, m, env, e);
    if (e->num_errors > before) {
        tcp_config_free(c);
        return NULL;
    }
    struct stats_part parts[] = {{STR("tcp"), NULL}, {str_of(m->stat_prefix), "envoy_tcp_prefix"}};
    if (!env->validate)
        c->stats = stats_scope_new(&stat_table, parts, ARRAY_LEN(parts));
    return c;
}
