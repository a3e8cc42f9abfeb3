/* What a route asks of a request: RouteMatch compiled, and looked at. */
#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "envoy/extensions/path/match/uri_template/v3/uri_template_match.pb-c.h"
#include "proxy/router/route_private.h"
#include "tls/transport.h"

typedef Envoy__Config__Route__V3__RouteMatch RouteMatch;
#define ROUTE(x) ENVOY__CONFIG__ROUTE__V3__##x
#define PATH(x) ROUTE(ROUTE_MATCH__PATH_SPECIFIER_##x)

/* --- compiling --- */

static void compile_template(struct route_compiler *c, struct route_entry *r,
                             const Envoy__Config__Core__V3__TypedExtensionConfig *m)
{
    size_t outer = errors_push(c->e, "path_match_policy"), mark;
    size_t inner = errors_push(c->e, "typed_config");
    struct pb_any any;
    enum pb_any_status got = pb_any_unpack(m->typed_config, c->a, c->e, NULL, &any);
    r->kind = PATH_TEMPLATE;
    if (got == PB_ANY_OK &&
        any.type ==
            &envoy__extensions__path__match__uri_template__v3__uri_template_match_config__descriptor) {
        const Envoy__Extensions__Path__Match__UriTemplate__V3__UriTemplateMatchConfig *t =
            (const void *)any.message;
        mark = errors_push(c->e, "path_template");
        r->template = uri_template_compile(c->regexes, c->a, str_of(t->path_template), c->e);
        errors_pop(c->e, mark);
    } else if (got != PB_ANY_INVALID) {
        errors_add(c->e, NULL, "'%.*s' is not supported", STR_ARG(any.type_name));
    }
    errors_pop(c->e, inner);
    errors_pop(c->e, outer);
}

static void compile_path(struct route_compiler *c, struct route_entry *r, const RouteMatch *m)
{
    const char *path = NULL;
    size_t mark;
    r->ignore_case = !wkt_bool(m->case_sensitive, true);
    switch (m->path_specifier_case) {
    case PATH(PREFIX):
        r->kind = PATH_PREFIX;
        path = m->prefix;
        break;
    case PATH(PATH):
        r->kind = PATH_EXACT;
        path = m->path;
        break;
    case PATH(PATH_SEPARATED_PREFIX):
        r->kind = PATH_SEPARATED_PREFIX;
        path = m->path_separated_prefix;
        break;
    case PATH(SAFE_REGEX):
        mark = errors_push(c->e, "safe_regex");
        r->kind = PATH_REGEX;
        r->regex = regex_list_add(c->regexes, c->a, m->safe_regex, c->e);
        errors_pop(c->e, mark);
        return;
    case ROUTE(ROUTE_MATCH__PATH_SPECIFIER_CONNECT_MATCHER):
        r->kind = PATH_CONNECT;
        return;
    case PATH(PATH_MATCH_POLICY):
        compile_template(c, r, m->path_match_policy);
        return;
    default:
        errors_add(c->e, NULL, "a path specifier is required");
        return;
    }
    r->path = r->ignore_case ? lower_str(c->a, str_of(path)) : arena_str(c->a, str_of(path));
}

static void compile_query(struct route_compiler *c, struct route_entry *r, const RouteMatch *m)
{
    r->num_query = m->n_query_parameters;
    r->query = arena_zalloc(c->a, (r->num_query + 1) * sizeof(*r->query));
    for (size_t i = 0; i < r->num_query; i++) {
        const Envoy__Config__Route__V3__QueryParameterMatcher *q = m->query_parameters[i];
        struct query_match *out = &r->query[i];
        size_t mark = errors_push_index(c->e, "query_parameters", i);
        out->name = arena_str(c->a, str_of(q->name));
        out->present = true;
        if (q->query_parameter_match_specifier_case ==
            ROUTE(QUERY_PARAMETER_MATCHER__QUERY_PARAMETER_MATCH_SPECIFIER_STRING_MATCH)) {
            size_t inner = errors_push(c->e, "string_match");
            out->has_string = string_match_compile(&out->string, c->regexes, c->a, q->string_match,
                                                   c->e);
            errors_pop(c->e, inner);
        } else if (q->query_parameter_match_specifier_case ==
                   ROUTE(QUERY_PARAMETER_MATCHER__QUERY_PARAMETER_MATCH_SPECIFIER_PRESENT_MATCH)) {
            out->present = q->present_match;
        }
        errors_pop(c->e, mark);
    }
}

static void compile_cookies(struct route_compiler *c, struct route_entry *r, const RouteMatch *m)
{
    r->num_cookies = m->n_cookies;
    r->cookies = arena_zalloc(c->a, (r->num_cookies + 1) * sizeof(*r->cookies));
    for (size_t i = 0; i < r->num_cookies; i++) {
        const Envoy__Config__Route__V3__CookieMatcher *k = m->cookies[i];
        size_t mark = errors_push_index(c->e, "cookies", i), inner;
        r->cookies[i].name = arena_str(c->a, str_of(k->name));
        r->cookies[i].invert = k->invert_match;
        inner = errors_push(c->e, "string_match");
        if (k->string_match)
            (void)string_match_compile(&r->cookies[i].string, c->regexes, c->a, k->string_match,
                                       c->e);
        else
            errors_add(c->e, NULL, "is required");
        errors_pop(c->e, inner);
        errors_pop(c->e, mark);
    }
}

static enum tls_condition tls_condition(const Google__Protobuf__BoolValue *v)
{
    if (!v)
        return TLS_ANY;
    return v->value ? TLS_YES : TLS_NO;
}

void route_conditions_compile(struct route_compiler *c, struct route_entry *r, const void *match)
{
    const RouteMatch *m = match;
    size_t mark = errors_push(c->e, "match");
    r->fraction_ppm = 1000000;
    if (!m) {
        errors_add(c->e, NULL, "is required");
        errors_pop(c->e, mark);
        return;
    }
    compile_path(c, r, m);
    compile_query(c, r, m);
    compile_cookies(c, r, m);
    r->num_headers = m->n_headers;
    r->headers = header_matches_compile(c->regexes, c->a, (void *const *)m->headers, m->n_headers,
                                        "headers", c->e);
    r->num_metadata = m->n_dynamic_metadata;
    r->metadata = metadata_matches_compile(c->regexes, c->a, (void *const *)m->dynamic_metadata,
                                           m->n_dynamic_metadata, "dynamic_metadata", c->e);
    r->num_filter_state = m->n_filter_state;
    r->filter_state = filter_state_matches_compile(c->regexes, c->a, (void *const *)m->filter_state,
                                                   m->n_filter_state, "filter_state", c->e);
    r->grpc_only = m->grpc != NULL;
    if (m->tls_context) {
        r->presented = tls_condition(m->tls_context->presented);
        r->validated = tls_condition(m->tls_context->validated);
    }
    if (m->runtime_fraction)
        r->fraction_ppm = wkt_fraction_ppm(m->runtime_fraction->default_value, 1000000);
    r->conditional = r->num_headers || r->num_cookies || r->num_query || r->num_metadata ||
                     r->num_filter_state || r->grpc_only || r->presented || r->validated ||
                     r->fraction_ppm < 1000000;
    errors_pop(c->e, mark);
}

/* --- matching --- */

static bool path_fits(const struct route_entry *r, struct str path)
{
    switch (r->kind) {
    case PATH_PREFIX:
        return r->ignore_case ? str_istarts(path, r->path) : str_starts(path, r->path);
    case PATH_EXACT:
        return r->ignore_case ? str_ieq(path, r->path) : str_eq(path, r->path);
    case PATH_REGEX:
        return regex_full(r->regex, path);
    case PATH_SEPARATED_PREFIX:
        if (!(r->ignore_case ? str_istarts(path, r->path) : str_starts(path, r->path)))
            return false;
        return path.len == r->path.len || path.p[r->path.len] == '/';
    case PATH_TEMPLATE:
        return uri_template_match(r->template, path);
    case PATH_CONNECT:
        return true;
    }
    return false;
}

bool route_query_value(struct str target, struct str name, struct str *out)
{
    ptrdiff_t q = str_chr(target, '?');
    if (q < 0)
        return false;
    struct str rest = str_n(target.p + q + 1, target.len - (size_t)q - 1);
    struct str pair;
    while (str_next(&rest, '&', &pair)) {
        ptrdiff_t eq = str_chr(pair, '=');
        size_t key_len = eq < 0 ? pair.len : (size_t)eq;
        if (!str_eq(str_n(pair.p, key_len), name))
            continue;
        *out = eq < 0 ? STR("") : str_n(pair.p + eq + 1, pair.len - (size_t)eq - 1);
        return true;
    }
    return false;
}

/* Without quotes (RFC 6265 section 4.1.1). */
bool route_cookie_value(const struct headers *h, struct str name, struct str *out)
{
    for (const struct header *f = headers_known(h, HDR_COOKIE); f; f = headers_next(h, f)) {
        struct str rest = f->value, pair;
        while (str_next(&rest, ';', &pair)) {
            pair = str_trim(pair);
            ptrdiff_t eq = str_chr(pair, '=');
            if (eq < 0 || !str_eq(str_n(pair.p, (size_t)eq), name))
                continue;
            *out = str_n(pair.p + eq + 1, pair.len - (size_t)eq - 1);
            if (out->len >= 2 && out->p[0] == '"' && out->p[out->len - 1] == '"')
                *out = str_n(out->p + 1, out->len - 2);
            return true;
        }
    }
    return false;
}

static bool cookie_fits(const struct cookie_match *c, const struct headers *h)
{
    struct str value;
    bool fits = route_cookie_value(h, c->name, &value) && string_match(&c->string, value);
    return fits != c->invert;
}

static bool query_fits(const struct query_match *q, struct str target)
{
    struct str value;
    bool there = route_query_value(target, q->name, &value);
    if (q->has_string)
        return there && string_match(&q->string, value);
    return there == q->present;
}

static bool tls_fits(const struct route_entry *r, const struct tls_peer *peer)
{
    bool presented = peer && peer->fingerprint_sha256.len, validated = peer && peer->verified;
    if (r->presented != TLS_ANY && presented != (r->presented == TLS_YES))
        return false;
    return r->validated == TLS_ANY || validated == (r->validated == TLS_YES);
}

static bool conditions_fit(const struct route_entry *r, const struct route_match_input *in,
                           struct arena *scratch)
{
    if (r->fraction_ppm < 1000000 && in->random % 1000000 >= r->fraction_ppm)
        return false;
    if ((r->presented || r->validated) && !tls_fits(r, in->peer))
        return false;
    for (size_t i = 0; i < r->num_headers; i++) {
        if (!header_match(&r->headers[i], in->headers, scratch))
            return false;
    }
    for (size_t i = 0; i < r->num_query; i++) {
        if (!query_fits(&r->query[i], in->headers->path))
            return false;
    }
    for (size_t i = 0; i < r->num_cookies; i++) {
        if (!cookie_fits(&r->cookies[i], in->headers))
            return false;
    }
    for (size_t i = 0; i < r->num_metadata; i++) {
        if (!metadata_match(&r->metadata[i], in->metadata))
            return false;
    }
    for (size_t i = 0; i < r->num_filter_state; i++) {
        if (!filter_state_match(&r->filter_state[i], in->filter_state))
            return false;
    }
    return !r->grpc_only || headers_is_grpc(in->headers);
}

bool route_conditions_fit(const struct route_entry *r, const struct route_matching *m)
{
    /* CONNECT has no path, only an authority. */
    if (r->kind == PATH_CONNECT ? !str_eq(m->in->headers->method, STR("CONNECT"))
                                : !m->in->headers->path.p)
        return false;
    if (!path_fits(r, m->path))
        return false;
    return !r->conditional || conditions_fit(r, m->in, m->scratch);
}
