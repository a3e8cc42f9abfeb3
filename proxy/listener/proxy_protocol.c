/* envoy.filters.listener.proxy_protocol: the addresses that a load balancer in front says, and its
 * TLVs. */
#include "base/stats.h"
#include "base/utf8.h"
#include "envoy/config/core/v3/proxy_protocol.pb-c.h"
#include "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.pb-c.h"
#include "proxy/listener/downstream.h"
#include "proxy/listener/listener_filter.h"
#include "proxy/listener/proxy_header.h"
#include "proxy/worker.h"

typedef Envoy__Extensions__Filters__Listener__ProxyProtocol__V3__ProxyProtocol ProxyProtocol;
typedef Envoy__Extensions__Filters__Listener__ProxyProtocol__V3__ProxyProtocol__KeyValuePair
    KeyValuePair;
#define PASS_ALL                                                                                   \
    ENVOY__CONFIG__CORE__V3__PROXY_PROTOCOL_PASS_THROUGH_TLVS__PASS_TLVS_MATCH_TYPE__INCLUDE_ALL
#define DEFAULT_NAMESPACE STR("envoy.filters.listener.proxy_protocol")

#define PROXY_STATS(X)                                                                             \
    X(NOT_FOUND_ALLOWED, "not_found_allowed", COUNTER)                                             \
    X(NOT_FOUND_DISALLOWED, "not_found_disallowed", COUNTER)                                       \
    X(V1_FOUND, "versions.v1.found", COUNTER)                                                      \
    X(V1_DISALLOWED, "versions.v1.disallowed", COUNTER)                                            \
    X(V1_ERROR, "versions.v1.error", COUNTER)                                                      \
    X(V2_FOUND, "versions.v2.found", COUNTER)                                                      \
    X(V2_DISALLOWED, "versions.v2.disallowed", COUNTER)                                            \
    X(V2_ERROR, "versions.v2.error", COUNTER)

enum { PROXY_STATS(STATS_ENUM) NUM_STATS };
static const struct stats_def stat_defs[] = {PROXY_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

/* Envoy's older name of all failures together. */
static const struct stats_def legacy_defs[] = {{"downstream_cx_proxy_proto_error", STATS_COUNTER}};
static struct stats_table legacy_table = STATS_TABLE(legacy_defs);

enum { FIRST = 256 };

struct tlv_rule {
    uint8_t type;
    struct str ns, key;
};

struct config {
    struct stats_scope *stats, *legacy;
    struct tlv_rule *rules;
    size_t num_rules;
    bool optional;      /* allow_requests_without_proxy_protocol */
    bool disallowed[3]; /* by version */
    bool pass_all;
    bool pass[256]; /* by TLV type */
};

static void compile_rules(struct config *c, struct arena *a, const ProxyProtocol *m)
{
    c->rules = arena_zalloc(a, (m->n_rules + 1) * sizeof(*c->rules));
    for (size_t i = 0; i < m->n_rules; i++) {
        const KeyValuePair *to = m->rules[i]->on_tlv_present;
        struct tlv_rule *r = &c->rules[c->num_rules];
        if (!to)
            continue; /* it says to do nothing */
        c->num_rules++;
        r->type = (uint8_t)m->rules[i]->tlv_type;
        r->ns = to->metadata_namespace[0] ? arena_str(a, str_of(to->metadata_namespace))
                                          : DEFAULT_NAMESPACE;
        r->key = arena_str(a, str_of(to->key));
    }
}

static void compile_message(struct config *c, struct arena *a, const ProxyProtocol *m,
                            struct errors *e)
{
    c->optional = m->allow_requests_without_proxy_protocol;
    for (size_t i = 0; i < m->n_disallowed_versions; i++) {
        unsigned version = (unsigned)m->disallowed_versions[i] + 1; /* V1 is 0 */
        if (version < ARRAY_LEN(c->disallowed))
            c->disallowed[version] = true;
    }
    if (c->disallowed[1] && c->disallowed[2])
        errors_add(e, "disallowed_versions", "all versions are disallowed");
    if (m->pass_through_tlvs) {
        c->pass_all = m->pass_through_tlvs->match_type == PASS_ALL;
        for (size_t i = 0; i < m->pass_through_tlvs->n_tlv_type; i++)
            c->pass[m->pass_through_tlvs->tlv_type[i] & 255] = true;
    }
    compile_rules(c, a, m);
}

static void *compile(const struct compile_env *env, struct arena *a, const void *msg,
                     struct errors *e)
{
    const ProxyProtocol *m = msg;
    struct config *c = ARENA_NEW(a, struct config);
    if (m)
        compile_message(c, a, m, e);
    if (env->validate)
        return c;
    struct stats_part parts[] = {
        {STR("proxy_proto"), NULL},
        {m ? str_of(m->stat_prefix) : STR_NULL, "envoy_proxy_protocol_prefix"}};
    c->stats = stats_scope_new(&stat_table, parts, parts[1].text.len ? 2 : 1);
    c->legacy = stats_scope_new(&legacy_table, NULL, 0);
    return c;
}

static void release(void *config)
{
    struct config *c = config;
    stats_scope_free(&c->stats);
    stats_scope_free(&c->legacy);
}

static size_t first(const void *config)
{
    return FIRST;
}

/* --- TLVs --- */

/* Metadata is text, a TLV is bytes: what is no UTF-8 becomes '!', as in Envoy. (Bytes that some
 * reader refuses would make a policy fail that reads them: CVE-2024-23324.) */
static struct str sanitized(struct arena *a, struct str value)
{
    struct str text = arena_str(a, value);
    char *p = (char *)(uintptr_t)text.p;
    for (size_t i = 0; i < text.len;) {
        size_t n = utf8_len(text.p + i, text.len - i);
        if (!n)
            p[i] = '!';
        i += n ? n : 1;
    }
    return text;
}

static void keep_tlv(const struct config *c, struct downstream *d, uint8_t type, struct str value)
{
    for (size_t i = 0; i < c->num_rules; i++) {
        const struct tlv_rule *r = &c->rules[i];
        if (r->type == type)
            metadata_set(&d->info.metadata, d->arena, r->ns, r->key,
                         metadata_string(d->arena, sanitized(d->arena, value)));
    }
    if (!c->pass_all && !c->pass[type])
        return;
    struct proxy_tlv *t = ARENA_NEW(d->arena, struct proxy_tlv);
    *t = (struct proxy_tlv){.type = type, .value = arena_str(d->arena, value)};
    struct proxy_tlv **at = &d->info.tlvs;
    while (*at)
        at = &(*at)->next;
    *at = t;
}

/* --- the header --- */

static void apply(const struct config *c, struct downstream *d, const struct proxy_header *h)
{
    uint8_t type;
    struct str rest = h->tlvs, value;
    while (proxy_tlv_next(&rest, &type, &value))
        keep_tlv(c, d, type, value);
    if (h->local)
        return;
    d->restored |= !addr_eq(&d->info.local, &h->destination);
    d->info.remote = h->source;
    d->info.local = h->destination;
}

static enum listener_filter_result failed(const struct config *c, struct downstream *d,
                                          uint32_t stat)
{
    stats_inc(c->stats, d->worker->index, stat);
    stats_inc(c->legacy, d->worker->index, 0);
    return LISTENER_FILTER_CLOSE;
}

static enum listener_filter_result none(const struct config *c, struct downstream *d)
{
    if (!c->optional)
        return failed(c, d, NOT_FOUND_DISALLOWED);
    stats_inc(c->stats, d->worker->index, NOT_FOUND_ALLOWED);
    return LISTENER_FILTER_NEXT;
}

static enum listener_filter_result look(void *config, struct downstream *d,
                                        struct listener_filter_look *l)
{
    const struct config *c = config;
    struct proxy_header h;
    enum proxy_header_status st = proxy_header_parse(l->bytes, &h);
    bool v1 = h.version == 1;
    /* A version that is not to be understood is payload like any other. */
    if (h.version && c->disallowed[h.version])
        return c->optional ? none(c, d) : failed(c, d, v1 ? V1_DISALLOWED : V2_DISALLOWED);
    switch (st) {
    case PROXY_HEADER_NONE:
        return none(c, d);
    case PROXY_HEADER_MORE:
        l->need = h.need;
        return LISTENER_FILTER_MORE;
    case PROXY_HEADER_ERROR:
        return failed(c, d, v1 ? V1_ERROR : V2_ERROR);
    case PROXY_HEADER_OK:
        break;
    }
    stats_inc(c->stats, d->worker->index, v1 ? V1_FOUND : V2_FOUND);
    apply(c, d, &h);
    l->take = h.len;
    return LISTENER_FILTER_NEXT;
}

const struct listener_filter_ops proxy_protocol_filter = {
    .name = "envoy.filters.listener.proxy_protocol",
    .type_name = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    .compile = compile,
    .release = release,
    .look = look,
    .first = first,
};
