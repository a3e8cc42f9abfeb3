#include "cluster/cluster_config.h"

#include "api-protos/message.h"
#include "api-protos/wire.h"
#include "api-protos/wkt.h"
#include "base/hash.h"
#include "cluster/address.h"
#include "cluster/cluster_bind.h"
#include "cluster/cluster_limits.h"
#include "cluster/cluster_policy.h"
#include "cluster/dns_config.h"
#include "cluster/health_config.h"
#include "cluster/load_assignment.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb-c.h"
#include "xds/source.h"

typedef Envoy__Config__Cluster__V3__Cluster cluster_message;

/* --- life ------------------------------------------------------------------------------------- */

static void config_free(void *arg)
{
    struct cluster_config *c = arg;
    for (uint32_t i = 0; i < c->num_transports; i++)
        transport_factory_unref(c->transports[i]);
    load_assignment_unref(c->assignment);
    if (c->http_filters)
        c->filter_ops->free(c->http_filters);
    health_config_release(c->health);
    arena_cleanup(&c->arena);
    mem_free(c);
}

struct cluster_config *cluster_config_new(const struct reclaim_home *home, struct str name)
{
    struct cluster_config *c = NEW(struct cluster_config);
    reclaim_init(&c->reclaim, home, config_free, c);
    arena_init(&c->arena, 256);
    c->name = c->stat_name = c->eds_name = arena_str(&c->arena, name);
    c->type = CLUSTER_STATIC;
    c->lb_policy = LB_ROUND_ROBIN;
    c->connect_timeout_ms = CLUSTER_CONNECT_TIMEOUT_MS;
    c->idle_timeout_ms = CLUSTER_IDLE_TIMEOUT_MS;
    c->buffer_limit = CLUSTER_BUFFER_LIMIT;
    c->cleanup_interval_ms = CLUSTER_CLEANUP_MS;
    c->healthy_panic_per_cent = CLUSTER_PANIC_PER_CENT;
    c->choice_count = CLUSTER_CHOICE_COUNT;
    c->active_bias = 1;
    circuit_limits_default(&c->limits[PRIORITY_DEFAULT]);
    circuit_limits_default(&c->limits[PRIORITY_HIGH]);
    return c;
}

struct cluster_config *cluster_config_ref(struct cluster_config *c)
{
    if (c)
        reclaim_ref(&c->reclaim);
    return c;
}

void cluster_config_unref(struct cluster_config *c)
{
    if (c)
        reclaim_unref(&c->reclaim);
}

void cluster_config_need(struct cluster_config *c, const struct xds_source *src)
{
    struct cluster_need *need;
    if (src->kind == XDS_SOURCE_PATH)
        return;
    need = ARENA_NEW(&c->arena, struct cluster_need);
    need->ads = src->kind == XDS_SOURCE_ADS;
    need->cluster = arena_str(&c->arena, src->server.cluster);
    need->next = c->needs;
    c->needs = need;
}

/* --- names without unpacking --------------------------------------------------------------------
 */

static bool find_string(struct str bytes, uint32_t number, struct str *out)
{
    struct wire_field f;
    struct wire w;
    const char *why;
    bool found = false;

    wire_init(&w, bytes);
    for (;;) {
        switch (wire_next(&w, &f, &why)) {
        case WIRE_BAD:
            return false;
        case WIRE_END:
            return found;
        case WIRE_FIELD:
            if (f.number == number && f.type == WIRE_LEN) {
                *out = f.bytes;
                found = f.bytes.len > 0;
            }
        }
    }
}

bool cluster_name_of(struct str bytes, struct str *out_name)
{
    enum { CLUSTER_NAME = 1 };
    return find_string(bytes, CLUSTER_NAME, out_name);
}

bool cluster_name_of_assignment(struct str bytes, struct str *out_name)
{
    enum { ASSIGNMENT_CLUSTER_NAME = 1 };
    return find_string(bytes, ASSIGNMENT_CLUSTER_NAME, out_name);
}

/* --- compiling --- */

struct compiling {
    const struct cluster_compile_env *env;
    struct cluster_config *out;
    struct errors *e;
    struct arena scratch;
};

static bool compile_dns(struct compiling *c, const cluster_message *msg)
{
    c->out->dns = dns_config_compile(msg, c->env->dns, &c->out->arena, c->e, c->env->pb);
    if (!c->out->dns)
        return false;
    c->out->type = c->out->dns->logical ? CLUSTER_LOGICAL_DNS : CLUSTER_STRICT_DNS;
    return true;
}

/* False: a type that cannot be used; what only it explains is not looked at then. */
static bool compile_type(struct compiling *c, const cluster_message *msg)
{
    if (msg->cluster_discovery_type_case ==
        ENVOY__CONFIG__CLUSTER__V3__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE)
        return compile_dns(c, msg);
    switch (msg->cluster_discovery_type_case ==
                    ENVOY__CONFIG__CLUSTER__V3__CLUSTER__CLUSTER_DISCOVERY_TYPE_TYPE
                ? msg->type
                : ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__STATIC) {
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__STATIC:
        c->out->type = CLUSTER_STATIC;
        return true;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__EDS:
        c->out->type = CLUSTER_EDS;
        return true;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST:
        c->out->type = CLUSTER_ORIGINAL_DST;
        return true;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__STRICT_DNS:
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__LOGICAL_DNS:
        return compile_dns(c, msg);
    default:
        errors_add(c->e, "type", "%d is not a discovery type", (int)msg->type);
        return false;
    }
}

/* --- where endpoints come from --- */

static void compile_eds(struct compiling *c,
                        const Envoy__Config__Cluster__V3__Cluster__EdsClusterConfig *msg)
{
    struct xds_source *src;
    size_t mark;

    if (c->out->type != CLUSTER_EDS) {
        if (msg)
            errors_add(c->e, "eds_cluster_config", "needs type EDS");
        return;
    }
    if (!msg || !msg->eds_config) {
        errors_add(c->e, "eds_cluster_config.eds_config", "is required for type EDS");
        return;
    }
    src = ARENA_NEW(&c->out->arena, struct xds_source);
    mark = errors_push(c->e, "eds_cluster_config.eds_config");
    if (xds_source_decode(msg->eds_config, c->env->parent, c->env->has_ads, &c->out->arena, c->e,
                          src))
        c->out->eds = src;
    if (c->out->eds)
        cluster_config_need(c->out, src);
    errors_pop(c->e, mark);
    if (msg->service_name[0])
        c->out->eds_name = arena_str(&c->out->arena, str_of(msg->service_name));
}

static void compile_assignment(struct compiling *c, const cluster_message *msg)
{
    size_t mark;

    if (!msg->load_assignment) {
        if (c->out->type == CLUSTER_LOGICAL_DNS)
            errors_add(c->e, "load_assignment", "is required for LOGICAL_DNS");
        return;
    }
    if (c->out->type == CLUSTER_ORIGINAL_DST) {
        errors_add(c->e, "load_assignment", "type ORIGINAL_DST has no endpoints of its own");
        return;
    }
    if (c->out->type == CLUSTER_EDS) {
        errors_warn(c->e, "load_assignment", "has no effect with type EDS");
        return;
    }
    mark = errors_push(c->e, "load_assignment");
    c->out->assignment = c->out->dns ? load_assignment_from_names(msg->load_assignment, c->e)
                                     : load_assignment_from(msg->load_assignment, c->e);
    if (c->out->type == CLUSTER_LOGICAL_DNS && c->out->assignment &&
        (c->out->assignment->num_localities != 1 ||
         c->out->assignment->localities[0].num_endpoints != 1))
        errors_add(c->e, "endpoints", "LOGICAL_DNS needs one locality with one endpoint");
    errors_pop(c->e, mark);
}

/* --- what connections are made with --- */

static uint64_t hash_message(struct compiling *c, uint64_t seed, const ProtobufCMessage *msg)
{
    struct str packed = msg ? pb_pack(msg, &c->scratch) : STR_NULL;
    if (msg)
        packed = pb_canonical(msg->descriptor, packed, &c->scratch);
    return hash_combine(seed, pb_hash(packed));
}

static struct transport_factory *
compile_transport(struct compiling *c, const Envoy__Config__Core__V3__TransportSocket *msg)
{
    struct transport_factory *f = NULL;
    size_t mark, errors_before = c->e->num_errors;
    struct pb_any any;

    if (!msg)
        return NULL;
    mark = errors_push(c->e, "typed_config");
    switch (pb_any_unpack(msg->typed_config, &c->scratch, c->e, c->env->pb, &any)) {
    case PB_ANY_OK:
        if (any.type ==
            &envoy__extensions__transport_sockets__raw_buffer__v3__raw_buffer__descriptor)
            break;
        if (c->env->transport)
            f = c->env->transport->compile(c->env->transport_arg, c->out, &any, c->env, c->e);
        if (!f && c->e->num_errors == errors_before)
            errors_add(c->e, NULL, "%.*s cannot be used here", STR_ARG(any.type_name));
        break;
    case PB_ANY_EMPTY:
        errors_add(c->e, NULL, "transport socket '%s' needs a typed_config", msg->name);
        break;
    case PB_ANY_UNKNOWN:
        errors_add(c->e, NULL, "unknown transport socket %.*s", STR_ARG(any.type_name));
        break;
    case PB_ANY_INVALID:
        break;
    }
    errors_pop(c->e, mark);
    return f;
}

static void compile_transports(struct compiling *c, const cluster_message *msg)
{
    struct cluster_config *out = c->out;
    size_t n = msg->n_transport_socket_matches, mark;
    struct transport_match *matches = arena_zalloc(&out->arena, n * sizeof(*matches));

    out->transports = arena_zalloc(&out->arena, (n + 1) * sizeof(struct transport_factory *));
    out->num_transports = (uint32_t)n + 1;
    out->matches = matches;
    mark = errors_push(c->e, "transport_socket");
    out->transports[0] = compile_transport(c, msg->transport_socket);
    errors_pop(c->e, mark);
    for (size_t i = 0; i < n; i++) {
        const Envoy__Config__Cluster__V3__Cluster__TransportSocketMatch *m =
            msg->transport_socket_matches[i];
        size_t inner;
        mark = errors_push_index(c->e, "transport_socket_matches", i);
        matches[i].name = arena_str(&out->arena, str_of(m->name));
        matches[i].labels = labels_of(m->match, &out->arena);
        inner = errors_push(c->e, "transport_socket");
        if (!m->transport_socket)
            errors_add(c->e, NULL, "is required");
        out->transports[i + 1] = compile_transport(c, m->transport_socket);
        errors_pop(c->e, inner);
        errors_pop(c->e, mark);
    }
}

#define FIRST_FAMILY(x)                                                                            \
    ENVOY__CONFIG__CLUSTER__V3__UPSTREAM_CONNECTION_OPTIONS__FIRST_ADDRESS_FAMILY_VERSION__##x

static void compile_happy_eyeballs(
    struct compiling *c,
    const Envoy__Config__Cluster__V3__UpstreamConnectionOptions__HappyEyeballsConfig *m)
{
    if (m->first_address_family_version == FIRST_FAMILY(V4))
        c->out->first_family = AF_INET;
    else if (m->first_address_family_version == FIRST_FAMILY(V6))
        c->out->first_family = AF_INET6;
    c->out->first_count = wkt_u32(m->first_address_family_count, 1);
}

static void compile_sockets(struct compiling *c, const cluster_message *msg)
{
    const Envoy__Config__Cluster__V3__UpstreamConnectionOptions *uco =
        msg->upstream_connection_options;
    struct cluster_config *out = c->out;

    size_t mark = errors_push(c->e, "upstream_bind_config");
    out->bind = cluster_bind_compile(msg->upstream_bind_config, &out->arena, c->e, c->env->pb);
    errors_pop(c->e, mark);
    if (uco && uco->tcp_keepalive) {
        out->keepalive = true;
        out->keepalive_time_s = wkt_u32(uco->tcp_keepalive->keepalive_time, 0);
        out->keepalive_interval_s = wkt_u32(uco->tcp_keepalive->keepalive_interval, 0);
        out->keepalive_probes = wkt_u32(uco->tcp_keepalive->keepalive_probes, 0);
    }
    out->first_count = 1;
    if (uco && uco->happy_eyeballs_config)
        compile_happy_eyeballs(c, uco->happy_eyeballs_config);
    out->buffer_limit = wkt_u32(msg->per_connection_buffer_limit_bytes, CLUSTER_BUFFER_LIMIT);
    out->connect_timeout_ms = wkt_duration_ms(msg->connect_timeout, CLUSTER_CONNECT_TIMEOUT_MS,
                                              c->e, "connect_timeout");
    if (out->connect_timeout_ms == 0)
        errors_add(c->e, "connect_timeout", "must be greater than 0");
}

static void hash_connection(struct compiling *c, const cluster_message *msg)
{
    uint64_t h = c->out->buffer_limit;
    h = hash_message(c, h, msg->transport_socket ? &msg->transport_socket->base : NULL);
    for (size_t i = 0; i < msg->n_transport_socket_matches; i++)
        h = hash_message(c, h, &msg->transport_socket_matches[i]->base);
    h = hash_message(c, h, msg->upstream_bind_config ? &msg->upstream_bind_config->base : NULL);
    h = hash_message(
        c, h, msg->upstream_connection_options ? &msg->upstream_connection_options->base : NULL);
    for (size_t i = 0; i < msg->n_typed_extension_protocol_options; i++)
        if (msg->typed_extension_protocol_options[i]->value)
            h = hash_message(c, h, &msg->typed_extension_protocol_options[i]->value->base);
    h = hash_message(c, h, msg->http2_protocol_options ? &msg->http2_protocol_options->base : NULL);
    c->out->connection_hash = hash_combine(h, c->out->http);
}

static void compile_rest(struct compiling *c, const cluster_message *msg)
{
    struct cluster_config *out = c->out;
    size_t mark;

    if (msg->alt_stat_name[0])
        out->stat_name = arena_str(&out->arena, str_of(msg->alt_stat_name));
    if (msg->metadata)
        out->metadata = pb_pack(&msg->metadata->base, &out->arena);
    out->remove_despite_health = msg->ignore_health_on_host_removal;
    out->preconnect_ratio = 1;
    if (msg->preconnect_policy)
        out->preconnect_ratio = wkt_double(msg->preconnect_policy->per_upstream_preconnect_ratio,
                                           1);
    if (!(out->preconnect_ratio >= 1 && out->preconnect_ratio <= 3))
        errors_add(c->e, "preconnect_policy.per_upstream_preconnect_ratio", "must be from 1 to 3");
    out->close_on_health_failure = msg->close_connections_on_host_health_failure;
    out->max_requests_per_connection = wkt_u32(msg->max_requests_per_connection, 0);
    out->cleanup_interval_ms = wkt_duration_ms(msg->cleanup_interval, CLUSTER_CLEANUP_MS, c->e,
                                               "cleanup_interval");
    if (out->cleanup_interval_ms == 0)
        errors_add(c->e, "cleanup_interval", "must be greater than 0");
    cluster_compile_http(msg, out, &c->scratch, c->e, c->env);
    mark = errors_push(c->e, "circuit_breakers");
    cluster_compile_circuit(msg->circuit_breakers, out->limits, c->e);
    errors_pop(c->e, mark);
    if (!msg->outlier_detection)
        return;
    mark = errors_push(c->e, "outlier_detection");
    out->outlier = ARENA_NEW(&out->arena, struct outlier_config);
    cluster_compile_outlier(msg->outlier_detection, out->outlier, c->e);
    if (out->type == CLUSTER_ORIGINAL_DST)
        errors_warn(c->e, NULL, "has no effect with type ORIGINAL_DST");
    errors_pop(c->e, mark);
}

struct cluster_config *cluster_config_compile(const struct cluster_compile_env *env,
                                              struct str bytes, struct errors *e)
{
    struct compiling c = {.env = env, .e = e};
    size_t errors_before = e->num_errors;
    const cluster_message *msg;

    arena_init(&c.scratch, 0);
    msg = PB_UNPACK(cluster_message, envoy__config__cluster__v3__cluster, bytes, &c.scratch, e,
                    env->pb);
    if (!msg) {
        arena_cleanup(&c.scratch);
        return NULL;
    }
    if (!msg->name[0])
        errors_add(e, "name", "is required");
    c.out = cluster_config_new(env->home, str_of(msg->name));
    c.out->http_header_name = STR("x-envoy-original-dst-host");
    if (compile_type(&c, msg))
        compile_assignment(&c, msg);
    if (!c.out->dns)
        dns_config_unused(msg, e);
    cluster_compile_policy(msg, c.out, &c.scratch, e, env->pb);
    compile_eds(&c, msg->eds_cluster_config);
    compile_rest(&c, msg);
    compile_sockets(&c, msg);
    compile_transports(&c, msg);
    if (c.out->http == UPSTREAM_AUTO && !(c.out->num_transports && c.out->transports[0]))
        errors_add(e, "typed_extension_protocol_options",
                   "auto_config needs a transport socket with ALPN");
    c.out->health = health_config_compile((void *const *)msg->health_checks, msg->n_health_checks,
                                          env, c.out, &c.scratch, e);
    hash_connection(&c, msg);
    arena_cleanup(&c.scratch);
    if (e->num_errors == errors_before)
        return c.out;
    cluster_config_unref(c.out);
    return NULL;
}
