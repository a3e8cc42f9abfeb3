#include "cluster/cluster_proxy.h"

#include "envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.pb-c.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb-c.h"
#include "tls/proxy_transport.h"

typedef Envoy__Extensions__TransportSockets__ProxyProtocol__V3__ProxyProtocolUpstreamTransport
    ProxyTransport;
typedef Envoy__Config__Core__V3__ProxyProtocolConfig ProxyConfig;
#define VERSION(x) ENVOY__CONFIG__CORE__V3__PROXY_PROTOCOL_CONFIG__VERSION__##x
#define PASS_ALL                                                                                   \
    ENVOY__CONFIG__CORE__V3__PROXY_PROTOCOL_PASS_THROUGH_TLVS__PASS_TLVS_MATCH_TYPE__INCLUDE_ALL

bool cluster_proxy_is(const struct pb_any *config)
{
    return config->type ==
           &envoy__extensions__transport_sockets__proxy_protocol__v3__proxy_protocol_upstream_transport__descriptor;
}

static void compile_passed(struct proxy_transport_config *c, const ProxyConfig *m, struct errors *e)
{
    if (!m->pass_through_tlvs)
        return;
    c->pass_all = m->pass_through_tlvs->match_type == PASS_ALL;
    for (size_t i = 0; i < m->pass_through_tlvs->n_tlv_type; i++) {
        uint32_t type = m->pass_through_tlvs->tlv_type[i];
        if (type > UINT8_MAX)
            errors_add(e, "pass_through_tlvs.tlv_type", "%u is not a type: less than 256", type);
        c->pass[type & UINT8_MAX] = true;
    }
}

static void compile_added(struct proxy_transport_config *c, const ProxyConfig *m, struct arena *a,
                          struct errors *e)
{
    struct proxy_tlv *first = NULL, **at = &first;
    for (size_t i = 0; i < m->n_added_tlvs; i++) {
        const Envoy__Config__Core__V3__TlvEntry *t = m->added_tlvs[i];
        size_t mark = errors_push_index(e, "added_tlvs", i);
        if (t->type > UINT8_MAX)
            errors_add(e, "type", "must be less than 256");
        if (t->format_string)
            errors_add(e, "format_string", "is not supported here; tcp_proxy's TLVs have it");
        else if (t->value.len == 0)
            errors_add(e, "value", "is required");
        errors_pop(e, mark);
        *at = ARENA_NEW(a, struct proxy_tlv);
        **at = (struct proxy_tlv){NULL, (uint8_t)t->type,
                                  str_n((const char *)t->value.data, t->value.len)};
        at = &(*at)->next;
    }
    c->added = first;
}

static void compile_config(struct proxy_transport_config *c, const ProxyConfig *m, struct arena *a,
                           struct errors *e)
{
    size_t mark = errors_push(e, "config");
    c->version = 1;
    if (m && m->version == VERSION(V2))
        c->version = 2;
    else if (m && m->version != VERSION(V1))
        errors_add(e, "version", "%d is not a version", (int)m->version);
    if (m) {
        compile_passed(c, m, e);
        compile_added(c, m, a, e);
    }
    errors_pop(e, mark);
}

/* The socket below; false after an error. *out NULL: raw_buffer. */
static bool compile_inner(cluster_transport_compile inner, void *arg, struct cluster_config *out,
                          const Envoy__Config__Core__V3__TransportSocket *m, struct arena *a,
                          const struct cluster_compile_env *env, struct errors *e,
                          struct transport_factory **out_factory)
{
    struct pb_any any;
    size_t before = e->num_errors, mark;
    *out_factory = NULL;
    if (!m) {
        errors_add(e, "transport_socket", "is required");
        return false;
    }
    mark = errors_push(e, "transport_socket.typed_config");
    enum pb_any_status s = pb_any_unpack(m->typed_config, a, e, env->pb, &any);
    bool raw = any.type ==
               &envoy__extensions__transport_sockets__raw_buffer__v3__raw_buffer__descriptor;
    if (s == PB_ANY_EMPTY)
        errors_add(e, NULL, "is required");
    else if (s == PB_ANY_UNKNOWN || (s == PB_ANY_OK && cluster_proxy_is(&any)))
        errors_add(e, NULL, "%.*s cannot be used here", STR_ARG(any.type_name));
    else if (s == PB_ANY_OK && !raw)
        *out_factory = inner(arg, out, &any, env, e);
    errors_pop(e, mark);
    return e->num_errors == before;
}

struct transport_factory *cluster_proxy_compile(cluster_transport_compile inner, void *arg,
                                                struct cluster_config *out,
                                                const struct pb_any *config,
                                                const struct cluster_compile_env *env,
                                                struct errors *e)
{
    const ProxyTransport *m = (const void *)config->message;
    struct proxy_transport_config c = {0};
    struct transport_factory *below, *f = NULL;
    size_t before = e->num_errors;
    struct arena scratch;

    arena_init(&scratch, 0);
    compile_config(&c, m->config, &scratch, e);
    bool ok = compile_inner(inner, arg, out, m->transport_socket, &scratch, env, e, &below);
    if (ok && e->num_errors == before)
        f = proxy_transport_factory(below, &c);
    else
        transport_factory_unref(below);
    out->proxy_header = true;
    out->proxy_tlv_key |= m->tlv_as_pool_key;
    arena_cleanup(&scratch);
    return f;
}
