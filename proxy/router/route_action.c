/* RouteAction compiled: where a request goes and what is done to it on the way. */
#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/config/core/v3/proxy_protocol.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite.pb-c.h"
#include "envoy/extensions/router/cluster_specifiers/matcher/v3/matcher.pb-c.h"
#include "proxy/router/match_tree.h"
#include "proxy/router/route_private.h"

typedef Envoy__Config__Route__V3__RouteAction RouteAction;
typedef Envoy__Config__Route__V3__WeightedCluster WeightedCluster;
typedef Envoy__Config__Route__V3__WeightedCluster__ClusterWeight ClusterWeight;
typedef Envoy__Config__Route__V3__ClusterSpecifierPlugin Plugin;
typedef Envoy__Config__Route__V3__RouteAction__HashPolicy HashPolicy;
typedef Envoy__Extensions__Router__ClusterSpecifiers__Matcher__V3__MatcherClusterSpecifier
    MatcherClusterSpecifier;
#define ACTION(x) ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__##x

/* --- clusters --- */

/* The route's metadata with the entry's own keys over it; NULL: neither has any. */
static const struct metadata *merge_metadata(struct route_compiler *c, const struct metadata *under,
                                             const Envoy__Config__Core__V3__Metadata *m)
{
    if (!m)
        return under;
    struct metadata *own = ARENA_NEW(c->a, struct metadata);
    metadata_from_message(own, c->a, m);
    if (!under)
        return own;
    struct metadata *both = ARENA_NEW(c->a, struct metadata);
    for (const struct metadata_namespace *n = under->first; n; n = n->next) {
        for (const struct json *j = n->object->first; j; j = j->next)
            metadata_set(both, c->a, n->name, j->key, metadata_copy(c->a, j));
    }
    for (const struct metadata_namespace *n = own->first; n; n = n->next) {
        for (const struct json *j = n->object->first; j; j = j->next)
            metadata_set(both, c->a, n->name, j->key, metadata_copy(c->a, j));
    }
    return both;
}

static void compile_weight(struct route_compiler *c, struct route *r, struct weighted_cluster *w,
                           const ClusterWeight *m)
{
    w->name = arena_str(c->a, str_of(m->name));
    w->cluster_header = lower_str(c->a, str_of(m->cluster_header));
    if (w->name.len && w->cluster_header.len)
        errors_add(c->e, NULL, "only one of name and cluster_header can be set");
    else if (!w->name.len && !w->cluster_header.len)
        errors_add(c->e, NULL, "a name or cluster_header is required");
    if (!m->weight)
        errors_add(c->e, "weight", "is required");
    w->weight = wkt_u32(m->weight, 0);
    w->request = REQUEST_MUTATION(c->a, m, c->e);
    w->response = RESPONSE_MUTATION(c->a, m, c->e);
    w->host_rewrite = arena_str(c->a, str_of(m->host_rewrite_literal));
    w->metadata_match = merge_metadata(c, r->metadata_match, m->metadata_match);
    w->filters = route_overrides_compile(c, (void *const *)m->typed_per_filter_config,
                                         m->n_typed_per_filter_config);
}

static void compile_weighted(struct route_compiler *c, struct route *r, const WeightedCluster *m)
{
    struct weighted_cluster *v = arena_zalloc(c->a, (m->n_clusters + 1) * sizeof(*v));
    size_t outer = errors_push(c->e, "weighted_clusters");
    for (size_t i = 0; i < m->n_clusters; i++) {
        size_t mark = errors_push_index(c->e, "clusters", i);
        compile_weight(c, r, &v[i], m->clusters[i]);
        r->total_weight += v[i].weight;
        errors_pop(c->e, mark);
    }
    if (!r->total_weight)
        errors_add(c->e, NULL, "the sum of the weights must be greater than 0");
    if (r->total_weight > UINT32_MAX)
        errors_add(c->e, NULL, "the sum of the weights exceeds 4294967295");
    if (m->random_value_specifier_case ==
        ENVOY__CONFIG__ROUTE__V3__WEIGHTED_CLUSTER__RANDOM_VALUE_SPECIFIER_HEADER_NAME)
        r->weight_header = lower_str(c->a, str_of(m->header_name));
    else if (m->random_value_specifier_case ==
             ENVOY__CONFIG__ROUTE__V3__WEIGHTED_CLUSTER__RANDOM_VALUE_SPECIFIER_USE_HASH_POLICY)
        r->weight_by_hash = wkt_bool(m->use_hash_policy, false);
    if (m->runtime_key_prefix[0])
        errors_warn(c->e, "runtime_key_prefix",
                    "there is no runtime; the weights are as configured");
    errors_pop(c->e, outer);
    r->weighted = v;
    r->num_weighted = m->n_clusters;
}

static void *compile_cluster_action(void *arg, struct str type_name, const void *action)
{
    struct route_compiler *c = arg;
    const Envoy__Extensions__Router__ClusterSpecifiers__Matcher__V3__ClusterAction *m = action;
    if (!str_eq(type_name,
                STR("envoy.extensions.router.cluster_specifiers.matcher.v3.ClusterAction"))) {
        errors_add(c->e, NULL, "the action '%.*s' is not supported", STR_ARG(type_name));
        return NULL;
    }
    struct str *name = ARENA_NEW(c->a, struct str);
    *name = arena_str(c->a, str_of(m->cluster));
    return name;
}

static void compile_plugin(struct route_compiler *c, struct route *r, const Plugin *m)
{
    size_t mark = errors_push(c->e, "extension.typed_config"), inner;
    struct pb_any any;
    enum pb_any_status got = pb_any_unpack(m->extension ? m->extension->typed_config : NULL, c->a,
                                           c->e, NULL, &any);
    if (got == PB_ANY_OK &&
        str_eq(
            any.type_name,
            STR("envoy.extensions.router.cluster_specifiers.matcher.v3.MatcherClusterSpecifier"))) {
        const MatcherClusterSpecifier *s = (const void *)any.message;
        inner = errors_push(c->e, "cluster_matcher");
        if (s->cluster_matcher)
            r->cluster_tree = match_tree_compile(c->regexes, c->a, s->cluster_matcher,
                                                 compile_cluster_action, c, c->e);
        else
            errors_add(c->e, NULL, "is required");
        errors_pop(c->e, inner);
    } else if (got != PB_ANY_INVALID) {
        errors_add(c->e, NULL, "'%.*s' is not supported", STR_ARG(any.type_name));
    }
    errors_pop(c->e, mark);
}

static void compile_named_plugin(struct route_compiler *c, struct route *r, const char *name)
{
    for (size_t i = 0; i < c->num_plugins; i++) {
        const Plugin *p = c->plugins[i];
        if (!p->extension || strcmp(p->extension->name, name) != 0)
            continue;
        size_t mark = errors_push(c->e, "cluster_specifier_plugin");
        compile_plugin(c, r, p);
        errors_pop(c->e, mark);
        return;
    }
    errors_add(c->e, "cluster_specifier_plugin", "the table has no plugin '%s'", name);
}

static void compile_cluster(struct route_compiler *c, struct route *r, const RouteAction *m)
{
    static const unsigned not_found[] = {503, 404, 500};
    size_t mark;
    r->cluster_not_found_code = not_found[m->cluster_not_found_response_code];
    switch (m->cluster_specifier_case) {
    case ACTION(CLUSTER_SPECIFIER_CLUSTER):
        r->cluster = arena_str(c->a, str_of(m->cluster));
        return;
    case ACTION(CLUSTER_SPECIFIER_CLUSTER_HEADER):
        r->cluster_header = lower_str(c->a, str_of(m->cluster_header));
        return;
    case ACTION(CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS):
        compile_weighted(c, r, m->weighted_clusters);
        return;
    case ACTION(CLUSTER_SPECIFIER_CLUSTER_SPECIFIER_PLUGIN):
        compile_named_plugin(c, r, m->cluster_specifier_plugin);
        return;
    case ACTION(CLUSTER_SPECIFIER_INLINE_CLUSTER_SPECIFIER_PLUGIN):
        mark = errors_push(c->e, "inline_cluster_specifier_plugin");
        compile_plugin(c, r, m->inline_cluster_specifier_plugin);
        errors_pop(c->e, mark);
        return;
    default:
        errors_add(c->e, NULL, "a cluster specifier is required");
    }
}

/* --- rewrites --- */

void route_regex_rewrite_compile(struct route_compiler *c, const void *msg, const char *field,
                                 const struct regex **out_regex, struct str *out_substitution)
{
    const Envoy__Type__Matcher__V3__RegexMatchAndSubstitute *m = msg;
    size_t mark = errors_push(c->e, field);
    struct str why;
    if (m->pattern)
        *out_regex = regex_list_add(c->regexes, c->a, m->pattern, c->e);
    else
        errors_add(c->e, "pattern", "is required");
    *out_substitution = arena_str(c->a, str_of(m->substitution));
    if (*out_regex && !regex_check_rewrite(*out_regex, *out_substitution, c->a, &why))
        errors_add(c->e, "substitution", "%.*s", STR_ARG(why));
    errors_pop(c->e, mark);
}

static void compile_template_rewrite(struct route_compiler *c, struct route_entry *en,
                                     const Envoy__Config__Core__V3__TypedExtensionConfig *m)
{
    size_t mark = errors_push(c->e, "path_rewrite_policy.typed_config"), inner;
    struct pb_any any;
    enum pb_any_status got = pb_any_unpack(m->typed_config, c->a, c->e, NULL, &any);
    if (got == PB_ANY_OK &&
        any.type ==
            &envoy__extensions__path__rewrite__uri_template__v3__uri_template_rewrite_config__descriptor) {
        const Envoy__Extensions__Path__Rewrite__UriTemplate__V3__UriTemplateRewriteConfig *w =
            (const void *)any.message;
        inner = errors_push(c->e, "path_template_rewrite");
        en->rewrite.template = uri_rewrite_compile(c->a, str_of(w->path_template_rewrite),
                                                   en->template, c->e);
        errors_pop(c->e, inner);
    } else if (got != PB_ANY_INVALID) {
        errors_add(c->e, NULL, "'%.*s' is not supported", STR_ARG(any.type_name));
    }
    errors_pop(c->e, mark);
}

static struct format *compile_format(struct route_compiler *c, const char *field, const char *text,
                                     bool omit_empty)
{
    size_t mark = errors_push(c->e, field);
    struct format *f = format_compile(c->a, str_of(text), omit_empty, c->e);
    errors_pop(c->e, mark);
    return f;
}

static void compile_path_rewrite(struct route_compiler *c, struct route_entry *en,
                                 const RouteAction *m)
{
    struct rewrite *w = &en->rewrite;
    unsigned given = (m->prefix_rewrite[0] != 0) + (m->regex_rewrite != NULL) +
                     (m->path_rewrite_policy != NULL) + (m->path_rewrite[0] != 0);
    if (given > 1)
        errors_add(c->e, NULL,
                   "only one of prefix_rewrite, regex_rewrite, path_rewrite_policy and "
                   "path_rewrite can be set");
    if (m->prefix_rewrite[0]) {
        w->prefix = arena_str(c->a, str_of(m->prefix_rewrite));
        if (en->kind == PATH_TEMPLATE)
            errors_add(c->e, "prefix_rewrite", "cannot be used with path_match_policy");
    }
    if (m->regex_rewrite)
        route_regex_rewrite_compile(c, m->regex_rewrite, "regex_rewrite", &w->regex,
                                    &w->substitution);
    if (m->path_rewrite_policy)
        compile_template_rewrite(c, en, m->path_rewrite_policy);
    if (m->path_rewrite[0])
        w->format = compile_format(c, "path_rewrite", m->path_rewrite, true);
}

static void compile_host_rewrite(struct route_compiler *c, struct route_entry *en,
                                 const RouteAction *m)
{
    en->append_x_forwarded_host = m->append_x_forwarded_host;
    switch (m->host_rewrite_specifier_case) {
    case ACTION(HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL):
        en->host_kind = HOST_LITERAL;
        en->host_rewrite = arena_str(c->a, str_of(m->host_rewrite_literal));
        return;
    case ACTION(HOST_REWRITE_SPECIFIER_AUTO_HOST_REWRITE):
        if (wkt_bool(m->auto_host_rewrite, false))
            en->host_kind = HOST_AUTO;
        en->route.auto_host_rewrite = en->host_kind == HOST_AUTO;
        return;
    case ACTION(HOST_REWRITE_SPECIFIER_HOST_REWRITE_HEADER):
        en->host_kind = HOST_HEADER;
        en->host_rewrite = lower_str(c->a, str_of(m->host_rewrite_header));
        return;
    case ACTION(HOST_REWRITE_SPECIFIER_HOST_REWRITE_PATH_REGEX):
        en->host_kind = HOST_PATH_REGEX;
        route_regex_rewrite_compile(c, m->host_rewrite_path_regex, "host_rewrite_path_regex",
                                    &en->host_regex, &en->host_rewrite);
        return;
    case ACTION(HOST_REWRITE_SPECIFIER_HOST_REWRITE):
        en->host_kind = HOST_FORMAT;
        en->host_format = compile_format(c, "host_rewrite", m->host_rewrite, false);
        return;
    default:
        return;
    }
}

/* --- timeouts --- */

static void compile_timeouts(struct route_compiler *c, struct route *r, const RouteAction *m)
{
    struct errors *e = c->e;
    r->has_timeout = m->timeout != NULL;
    r->timeout_ms = wkt_duration_ms(m->timeout, 15000, e, "timeout");
    r->has_idle_timeout = m->idle_timeout != NULL;
    r->idle_timeout_ms = wkt_duration_ms(m->idle_timeout, 0, e, "idle_timeout");
    r->has_max_grpc_timeout = m->max_grpc_timeout != NULL;
    r->max_grpc_timeout_ms = wkt_duration_ms(m->max_grpc_timeout, 0, e, "max_grpc_timeout");
    r->old_grpc_timeout_offset_ms = wkt_duration_ms(m->grpc_timeout_offset, 0, e,
                                                    "grpc_timeout_offset");
    if (!m->max_stream_duration)
        return;
    const Envoy__Config__Route__V3__RouteAction__MaxStreamDuration *d = m->max_stream_duration;
    size_t mark = errors_push(e, "max_stream_duration");
    r->own_durations = true;
    r->has_max_stream_duration = d->max_stream_duration != NULL;
    r->max_stream_duration_ms = wkt_duration_ms(d->max_stream_duration, 0, e,
                                                "max_stream_duration");
    r->has_grpc_timeout_max = d->grpc_timeout_header_max != NULL;
    r->grpc_timeout_max_ms = wkt_duration_ms(d->grpc_timeout_header_max, 0, e,
                                             "grpc_timeout_header_max");
    r->grpc_timeout_offset_ms = wkt_duration_ms(d->grpc_timeout_header_offset, 0, e,
                                                "grpc_timeout_header_offset");
    errors_pop(e, mark);
}

/* --- hash policies --- */

/* What stands behind the value of a cookie that is made: "; SameSite=None; Secure". */
static struct str
cookie_attributes(struct route_compiler *c,
                  const Envoy__Config__Route__V3__RouteAction__HashPolicy__Cookie *m)
{
    struct str out = STR("");
    for (size_t i = 0; i < m->n_attributes; i++) {
        const char *value = m->attributes[i]->value;
        out = arena_printf(c->a, "%.*s; %s%s%s", STR_ARG(out), m->attributes[i]->name,
                           value[0] ? "=" : "", value);
    }
    return out;
}

static bool compile_hash(struct route_compiler *c, struct hash_policy *out, const HashPolicy *m)
{
    struct arena *a = c->a;
    out->terminal = m->terminal;
    switch (m->policy_specifier_case) {
    case ACTION(HASH_POLICY__POLICY_SPECIFIER_HEADER):
        out->kind = HASH_HEADER;
        out->name = lower_str(a, str_of(m->header->header_name));
        if (m->header->regex_rewrite) {
            size_t mark = errors_push(c->e, "header");
            route_regex_rewrite_compile(c, m->header->regex_rewrite, "regex_rewrite", &out->regex,
                                        &out->substitution);
            errors_pop(c->e, mark);
        }
        return true;
    case ACTION(HASH_POLICY__POLICY_SPECIFIER_COOKIE):
        out->kind = HASH_COOKIE;
        out->name = arena_str(a, str_of(m->cookie->name));
        out->has_ttl = m->cookie->ttl != NULL;
        out->ttl_s = wkt_duration_ms(m->cookie->ttl, 0, c->e, "cookie.ttl") / 1000;
        out->path = arena_str(a, str_of(m->cookie->path));
        out->attributes = cookie_attributes(c, m->cookie);
        return true;
    case ACTION(HASH_POLICY__POLICY_SPECIFIER_CONNECTION_PROPERTIES):
        out->kind = HASH_SOURCE_IP;
        return m->connection_properties->source_ip; /* else it is a policy of nothing */
    case ACTION(HASH_POLICY__POLICY_SPECIFIER_QUERY_PARAMETER):
        out->kind = HASH_QUERY;
        out->name = arena_str(a, str_of(m->query_parameter->name));
        return true;
    case ACTION(HASH_POLICY__POLICY_SPECIFIER_FILTER_STATE):
        out->kind = HASH_FILTER_STATE;
        out->name = arena_str(a, str_of(m->filter_state->key));
        return true;
    default:
        errors_add(c->e, NULL, "what to hash is required");
        return false;
    }
}

static void compile_hashes(struct route_compiler *c, struct route *r, const RouteAction *m)
{
    struct hash_policy *v = arena_zalloc(c->a, (m->n_hash_policy + 1) * sizeof(*v));
    for (size_t i = 0; i < m->n_hash_policy; i++) {
        size_t mark = errors_push_index(c->e, "hash_policy", i);
        if (compile_hash(c, &v[r->num_hash], m->hash_policy[i]))
            r->num_hash++;
        errors_pop(c->e, mark);
    }
    r->hash = v;
}

/* --- upgrades --- */

static void
compile_connect(struct route_compiler *c, struct route_upgrade *u,
                const Envoy__Config__Route__V3__RouteAction__UpgradeConfig__ConnectConfig *m)
{
    u->has_connect = true;
    u->allow_post = m->allow_post;
    if (m->proxy_protocol_config)
        u->proxy_protocol = m->proxy_protocol_config->version ==
                                    ENVOY__CONFIG__CORE__V3__PROXY_PROTOCOL_CONFIG__VERSION__V1
                                ? 1
                                : 2;
    if (!str_eq(u->type, STR("connect")) && !str_eq(u->type, STR("connect-udp")))
        errors_add(c->e, "connect_config", "belongs to the upgrade type CONNECT only");
}

static void compile_upgrades(struct route_compiler *c, struct route *r, const RouteAction *m)
{
    struct route_upgrade *v = arena_zalloc(c->a, (m->n_upgrade_configs + 1) * sizeof(*v));
    r->upgrades = v;
    r->num_upgrades = m->n_upgrade_configs;
    for (size_t i = 0; i < m->n_upgrade_configs; i++) {
        size_t mark = errors_push_index(c->e, "upgrade_configs", i);
        v[i].type = lower_str(c->a, str_of(m->upgrade_configs[i]->upgrade_type));
        v[i].enabled = wkt_bool(m->upgrade_configs[i]->enabled, true);
        if (m->upgrade_configs[i]->connect_config)
            compile_connect(c, &v[i], m->upgrade_configs[i]->connect_config);
        for (size_t k = 0; k < i; k++) {
            if (str_eq(v[k].type, v[i].type))
                errors_add(c->e, "upgrade_type", "'%.*s' was there before", STR_ARG(v[i].type));
        }
        errors_pop(c->e, mark);
    }
}

void route_action_compile(struct route_compiler *c, struct route_entry *en, const void *action)
{
    const RouteAction *m = action;
    struct route *r = &en->route;
    r->priority = m->priority == ENVOY__CONFIG__CORE__V3__ROUTING_PRIORITY__HIGH ? PRIORITY_HIGH
                                                                                 : PRIORITY_DEFAULT;
    r->metadata_match = merge_metadata(c, NULL, m->metadata_match);
    compile_cluster(c, r, m);
    compile_timeouts(c, r, m);
    compile_path_rewrite(c, en, m);
    compile_host_rewrite(c, en, m);
    compile_hashes(c, r, m);
    compile_upgrades(c, r, m);
}
