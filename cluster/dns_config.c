#include "cluster/dns_config.h"

#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/extensions/clusters/dns/v3/dns_cluster.pb-c.h"
#include "envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver.pb-c.h"

typedef Envoy__Config__Cluster__V3__Cluster cluster_message;
typedef Envoy__Extensions__Clusters__Dns__V3__DnsCluster dns_message;
typedef Envoy__Extensions__Network__DnsResolver__Cares__V3__CaresDnsResolverConfig cares_message;

enum { FAILURE_MAX_FACTOR = 10, EDNS_MIN = 512, EDNS_MAX = 4096 };

/* --- servers ---------------------------------------------------------------------------------- */

static bool compile_server(const Envoy__Config__Core__V3__Address *msg, struct addr *out,
                           struct errors *e)
{
    const Envoy__Config__Core__V3__SocketAddress *sa;

    if (msg->address_case != ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS) {
        errors_add(e, NULL, "a DNS server needs a socket_address");
        return false;
    }
    sa = msg->socket_address;
    if (sa->port_value > UINT16_MAX) {
        errors_add(e, "socket_address.port_value", "%u is not a port", sa->port_value);
        return false;
    }
    if (!addr_parse_ip(str_of(sa->address), (uint16_t)(sa->port_value ? sa->port_value : 53),
                       out)) {
        errors_add(e, "socket_address.address", "malformed IP address: %s", sa->address);
        return false;
    }
    return true;
}

static struct str compile_servers(Envoy__Config__Core__V3__Address *const *servers, size_t num,
                                  const char *field, struct arena *a, struct errors *e)
{
    struct str csv = STR_NULL;
    char text[ADDR_TEXT_MAX];
    struct addr addr;

    for (size_t i = 0; i < num; i++) {
        size_t mark = errors_push_index(e, field, i);
        if (compile_server(servers[i], &addr, e)) {
            struct str one = addr_format(&addr, text);
            csv = arena_printf(a, "%.*s%s%.*s", STR_ARG(csv), csv.len ? "," : "", STR_ARG(one));
        }
        errors_pop(e, mark);
    }
    return csv;
}

static void compile_options(const Envoy__Config__Core__V3__DnsResolverOptions *msg,
                            struct resolver_options *out)
{
    if (!msg)
        return;
    out->use_tcp = msg->use_tcp_for_dns_lookups;
    out->no_search = msg->no_default_search_domain;
}

static void compile_cares(const cares_message *msg, struct resolver_options *out, struct arena *a,
                          struct errors *e)
{
    uint64_t timeout_s = wkt_u64(msg->query_timeout_seconds, RESOLVER_TIMEOUT_MS / 1000);
    uint32_t edns = wkt_u32(msg->edns0_max_payload_size, 0);

    *out = (struct resolver_options){
        .servers = compile_servers(msg->resolvers, msg->n_resolvers, "resolvers", a, e),
        .servers_as_fallback = msg->use_resolvers_as_fallback,
        .filter_unroutable = msg->filter_unroutable_families,
        .rotate = msg->rotate_nameservers,
        .reinit_on_timeout = msg->reinit_channel_on_timeout,
        .udp_max_queries = wkt_u32(msg->udp_max_queries, 0),
        .edns_size = edns,
        .tries = wkt_u32(msg->query_tries, RESOLVER_TRIES),
        .timeout_ms = timeout_s * 1000,
        .max_channel_ms = wkt_duration_ms(msg->max_udp_channel_duration, 0, e,
                                          "max_udp_channel_duration"),
    };
    compile_options(msg->dns_resolver_options, out);
    if (timeout_s == 0 || timeout_s > RESOLVER_TIMEOUT_MAX_S)
        errors_add(e, "query_timeout_seconds", "must be between 1 and %d", RESOLVER_TIMEOUT_MAX_S);
    if (out->tries == 0 || out->tries > RESOLVER_TRIES_MAX)
        errors_add(e, "query_tries", "must be between 1 and %d", RESOLVER_TRIES_MAX);
    if (edns && (edns < EDNS_MIN || edns > EDNS_MAX))
        errors_add(e, "edns0_max_payload_size", "must be between %d and %d", EDNS_MIN, EDNS_MAX);
}

bool dns_config_resolver(const Envoy__Config__Core__V3__TypedExtensionConfig *msg,
                         struct resolver_options *out, struct arena *a, struct errors *e,
                         const struct pb_opts *pb)
{
    size_t mark = errors_push(e, "typed_config"), errors_before = e->num_errors;
    struct arena scratch;
    struct pb_any any;

    arena_init(&scratch, 0);
    switch (pb_any_unpack(msg->typed_config, &scratch, e, pb, &any)) {
    case PB_ANY_OK:
        if (any.type ==
            &envoy__extensions__network__dns_resolver__cares__v3__cares_dns_resolver_config__descriptor)
            compile_cares((const cares_message *)any.message, out, a, e);
        else
            errors_add(e, NULL, "%.*s is no DNS resolver", STR_ARG(any.type_name));
        break;
    case PB_ANY_EMPTY:
        errors_add(e, NULL, "is required");
        break;
    case PB_ANY_UNKNOWN:
        errors_add(e, NULL, "DNS resolver %.*s is not supported", STR_ARG(any.type_name));
        break;
    case PB_ANY_INVALID:
        break;
    }
    arena_cleanup(&scratch);
    errors_pop(e, mark);
    return e->num_errors == errors_before;
}

static void compile_resolver(const Envoy__Config__Core__V3__TypedExtensionConfig *msg,
                             struct resolver_options *out, struct arena *a, struct errors *e,
                             const struct pb_opts *pb)
{
    size_t mark = errors_push(e, "typed_dns_resolver_config");
    (void)!dns_config_resolver(msg, out, a, e, pb);
    errors_pop(e, mark);
}

void dns_config_resolver_old(const Envoy__Config__Core__V3__DnsResolutionConfig *msg, bool use_tcp,
                             struct resolver_options *out, struct arena *a, struct errors *e)
{
    size_t mark;

    *out = (struct resolver_options){.use_tcp = use_tcp};
    if (!msg)
        return;
    mark = errors_push(e, "dns_resolution_config");
    out->servers = compile_servers(msg->resolvers, msg->n_resolvers, "resolvers", a, e);
    compile_options(msg->dns_resolver_options, out);
    errors_pop(e, mark);
}

/* The older forms, which the typed one replaces. */
static void compile_old_resolver(const cluster_message *msg, struct resolver_options *out,
                                 struct arena *a, struct errors *e)
{
    if (msg->dns_resolution_config) {
        dns_config_resolver_old(msg->dns_resolution_config, false, out, a, e);
    } else if (msg->n_dns_resolvers || msg->use_tcp_for_dns_lookups) {
        dns_config_resolver_old(NULL, msg->use_tcp_for_dns_lookups, out, a, e);
        out->servers = compile_servers(msg->dns_resolvers, msg->n_dns_resolvers, "dns_resolvers", a,
                                       e);
    }
}

/* --- when and what ---------------------------------------------------------------------------- */

struct times {
    const Google__Protobuf__Duration *refresh, *jitter, *failure_base, *failure_max;
    bool has_failure;
};

static void compile_times(const struct times *t, struct dns_config *out, struct errors *e)
{
    out->refresh_ms = wkt_duration_ms(t->refresh, DNS_REFRESH_MS, e, "dns_refresh_rate");
    if (out->refresh_ms == 0)
        errors_add(e, "dns_refresh_rate", "must be at least 1 ms");
    out->jitter_ms = wkt_duration_ms(t->jitter, 0, e, "dns_jitter");
    if (!t->has_failure)
        return;
    out->failure_base_ms = wkt_duration_ms(t->failure_base, 0, e,
                                           "dns_failure_refresh_rate.base_interval");
    out->failure_max_ms = wkt_duration_ms(t->failure_max, out->failure_base_ms * FAILURE_MAX_FACTOR,
                                          e, "dns_failure_refresh_rate.max_interval");
    if (out->failure_base_ms == 0)
        errors_add(e, "dns_failure_refresh_rate.base_interval", "must be at least 1 ms");
    if (out->failure_max_ms < out->failure_base_ms)
        errors_add(e, "dns_failure_refresh_rate.max_interval", "is below base_interval");
}

static void compile_family(int value, struct dns_config *out, struct errors *e)
{
    switch (value) {
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DNS_LOOKUP_FAMILY__AUTO:
        out->family = DNS_AUTO;
        return;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DNS_LOOKUP_FAMILY__V4_ONLY:
        out->family = DNS_V4_ONLY;
        return;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DNS_LOOKUP_FAMILY__V6_ONLY:
        out->family = DNS_V6_ONLY;
        return;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DNS_LOOKUP_FAMILY__V4_PREFERRED:
        out->family = DNS_V4_PREFERRED;
        return;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DNS_LOOKUP_FAMILY__ALL:
        out->family = DNS_ALL;
        return;
    default:
        errors_add(e, "dns_lookup_family", "%d is not a family", value);
        return;
    }
}

static void compile_old(const cluster_message *msg, struct dns_config *out, struct arena *a,
                        struct errors *e, const struct pb_opts *pb)
{
    const Envoy__Config__Cluster__V3__Cluster__RefreshRate *failure = msg->dns_failure_refresh_rate;
    struct times t = {msg->dns_refresh_rate, msg->dns_jitter,
                      failure ? failure->base_interval : NULL,
                      failure ? failure->max_interval : NULL, failure != NULL};

    out->logical = msg->type == ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__LOGICAL_DNS;
    out->respect_ttl = msg->respect_dns_ttl;
    compile_times(&t, out, e);
    compile_family((int)msg->dns_lookup_family, out, e);
    if (msg->typed_dns_resolver_config)
        compile_resolver(msg->typed_dns_resolver_config, &out->resolver, a, e, pb);
    else
        compile_old_resolver(msg, &out->resolver, a, e);
}

static void compile_new(const dns_message *msg, struct dns_config *out, struct arena *a,
                        struct errors *e, const struct pb_opts *pb)
{
    const Envoy__Extensions__Clusters__Dns__V3__DnsCluster__RefreshRate *failure =
        msg->dns_failure_refresh_rate;
    struct times t = {msg->dns_refresh_rate, msg->dns_jitter,
                      failure ? failure->base_interval : NULL,
                      failure ? failure->max_interval : NULL, failure != NULL};

    out->logical = msg->all_addresses_in_single_endpoint;
    out->respect_ttl = msg->respect_dns_ttl;
    compile_times(&t, out, e);
    /* the same families, after UNSPECIFIED, which means AUTO */
    compile_family(msg->dns_lookup_family ? (int)msg->dns_lookup_family - 1 : 0, out, e);
    if (msg->typed_dns_resolver_config)
        compile_resolver(msg->typed_dns_resolver_config, &out->resolver, a, e, pb);
}

static void unused(struct errors *e, bool set, const char *field, const char *why)
{
    if (set)
        errors_warn(e, field, "has no effect with this %s", why);
}

static void warn_old(const cluster_message *msg, struct errors *e, const char *why)
{
    unused(e, msg->dns_refresh_rate != NULL, "dns_refresh_rate", why);
    unused(e, msg->dns_jitter != NULL, "dns_jitter", why);
    unused(e, msg->dns_failure_refresh_rate != NULL, "dns_failure_refresh_rate", why);
    unused(e, msg->respect_dns_ttl, "respect_dns_ttl", why);
    unused(e, msg->dns_lookup_family != 0, "dns_lookup_family", why);
    unused(e, msg->n_dns_resolvers > 0, "dns_resolvers", why);
    unused(e, msg->use_tcp_for_dns_lookups, "use_tcp_for_dns_lookups", why);
    unused(e, msg->dns_resolution_config != NULL, "dns_resolution_config", why);
    unused(e, msg->typed_dns_resolver_config != NULL, "typed_dns_resolver_config", why);
}

void dns_config_unused(const cluster_message *msg, struct errors *e)
{
    warn_old(msg, e, "type");
    unused(e, msg->wait_for_warm_on_init != NULL, "wait_for_warm_on_init", "type");
}

static void compile_extension(const cluster_message *msg, struct dns_config *out, struct arena *a,
                              struct errors *e, const struct pb_opts *pb)
{
    size_t mark = errors_push(e, "cluster_type.typed_config");
    struct arena scratch;
    struct pb_any any;

    arena_init(&scratch, 0);
    switch (pb_any_unpack(msg->cluster_type->typed_config, &scratch, e, pb, &any)) {
    case PB_ANY_OK:
        if (any.type == &envoy__extensions__clusters__dns__v3__dns_cluster__descriptor)
            compile_new((const dns_message *)any.message, out, a, e, pb);
        else
            errors_add(e, NULL, "%.*s is no type of clusters", STR_ARG(any.type_name));
        break;
    case PB_ANY_EMPTY:
        errors_add(e, NULL, "cluster type '%s' needs a typed_config", msg->cluster_type->name);
        break;
    case PB_ANY_UNKNOWN:
        errors_add(e, NULL, "cluster type %.*s is not supported", STR_ARG(any.type_name));
        break;
    case PB_ANY_INVALID:
        break;
    }
    arena_cleanup(&scratch);
    errors_pop(e, mark);
    warn_old(msg, e, "cluster_type");
}

struct dns_config *dns_config_compile(const cluster_message *msg,
                                      const struct resolver_options *def, struct arena *a,
                                      struct errors *e, const struct pb_opts *pb)
{
    struct dns_config *out = ARENA_NEW(a, struct dns_config);
    size_t errors_before = e->num_errors;

    if (def) {
        out->resolver = *def;
        out->resolver.servers = arena_str(a, def->servers);
    }
    out->wait_for_warm = wkt_bool(msg->wait_for_warm_on_init, true);
    if (msg->cluster_discovery_type_case ==
        ENVOY__CONFIG__CLUSTER__V3__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE)
        compile_extension(msg, out, a, e, pb);
    else
        compile_old(msg, out, a, e, pb);
    return e->num_errors == errors_before ? out : NULL;
}
