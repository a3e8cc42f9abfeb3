/* envoy.filters.http.header_mutation: changes heads, trailers and query parameters, in the order
 * they are listed; each sees what the one before it made. The filter's own come first, then those
 * of the route's levels. */
#include "envoy/config/common/mutation_rules/v3/mutation_rules.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/extensions/filters/http/header_mutation/v3/header_mutation.pb-c.h"
#include "proxy/filters/filter_common.h"
#include "proxy/filters/filters.h"
#include "proxy/filters/query_edit.h"
#include "proxy/http/stream.h"
#include "proxy/observe/format.h"
#include "proxy/router/matchers.h"

typedef Envoy__Extensions__Filters__Http__HeaderMutation__V3__Mutations Mutations;
typedef Envoy__Extensions__Filters__Http__HeaderMutation__V3__HeaderMutation Config;
typedef Envoy__Extensions__Filters__Http__HeaderMutation__V3__HeaderMutationPerRoute PerRoute;
typedef Envoy__Config__Common__MutationRules__V3__HeaderMutation Mutation;
typedef Envoy__Config__Core__V3__HeaderValueOption HeaderOption;
typedef Envoy__Config__Core__V3__KeyValueMutation QueryMutation;
#define MUTATION(x) ENVOY__CONFIG__COMMON__MUTATION_RULES__V3__HEADER_MUTATION__ACTION_##x

/* As HeaderAppendAction and KeyValueAppendAction number them. */
enum edit_action { EDIT_APPEND, EDIT_IF_ABSENT, EDIT_OVERWRITE, EDIT_OVERWRITE_IF_EXISTS };

enum edit_kind { EDIT_VALUE, EDIT_REMOVE, EDIT_REMOVE_MATCHING };

struct edit {
    enum edit_kind kind;
    enum edit_action action;
    bool keep_empty;
    struct str name; /* lower case; of a query parameter as it is */
    struct format *value;
    struct string_match match;
};

struct edits {
    struct edit *v;
    size_t n;
};

struct mutations {
    struct regex_list regexes;
    struct edits request, query, response, request_trailers, response_trailers;
};

struct header_mutation_config {
    struct mutations *own;
    bool most_specific_wins;
};

/* --- configuration --- */

static void compile_value(struct edit *out, const struct http_filter_env *env,
                          const HeaderOption *m, struct errors *e)
{
    if (!m->header || !m->header->key[0]) {
        errors_add(e, "header.key", "must not be empty");
        return;
    }
    out->name = filter_lower(env->arena, str_of(m->header->key));
    if (out->name.p[0] == ':' || str_eq(out->name, STR("host")))
        errors_add(e, "header.key", ":-prefixed or host headers may not be modified");
    size_t mark = errors_push(e, "header.value");
    out->value = format_compile(env->arena, str_of(m->header->value), true, e);
    errors_pop(e, mark);
    out->action = (enum edit_action)m->append_action;
    if (m->append && m->append_action)
        errors_add(e, "append_action", "and append cannot both be set");
    else if (m->append)
        out->action = m->append->value ? EDIT_APPEND : EDIT_OVERWRITE;
    out->keep_empty = m->keep_empty_value;
}

static void compile_edit(struct edit *out, struct regex_list *l, const struct http_filter_env *env,
                         const Mutation *m, struct errors *e)
{
    size_t mark;
    switch (m->action_case) {
    case MUTATION(REMOVE):
        out->kind = EDIT_REMOVE;
        out->name = filter_lower(env->arena, str_of(m->remove));
        return;
    case MUTATION(APPEND):
        mark = errors_push(e, "append");
        compile_value(out, env, m->append, e);
        errors_pop(e, mark);
        return;
    case MUTATION(REMOVE_ON_MATCH):
        mark = errors_push(e, "remove_on_match.key_matcher");
        out->kind = EDIT_REMOVE_MATCHING;
        if (m->remove_on_match->key_matcher)
            (void)string_match_compile(&out->match, l, env->arena, m->remove_on_match->key_matcher,
                                       e);
        else
            errors_add(e, NULL, "is required");
        errors_pop(e, mark);
        return;
    default:
        errors_add(e, NULL, "remove, append or remove_on_match is required");
    }
}

static void compile_edits(struct edits *out, struct regex_list *l,
                          const struct http_filter_env *env, Mutation *const *msgs, size_t n,
                          const char *field, struct errors *e)
{
    out->v = arena_zalloc(env->arena, (n + 1) * sizeof(*out->v));
    out->n = n;
    for (size_t i = 0; i < n; i++) {
        size_t mark = errors_push_index(e, field, i);
        compile_edit(&out->v[i], l, env, msgs[i], e);
        errors_pop(e, mark);
    }
}

static void compile_query(struct edit *out, const struct http_filter_env *env,
                          const QueryMutation *m, struct errors *e)
{
    if (!m->append == !m->remove[0]) {
        errors_add(e, NULL, "one of append and remove is required");
        return;
    }
    if (!m->append) {
        out->kind = EDIT_REMOVE;
        out->name = arena_str(env->arena, str_of(m->remove));
        return;
    }
    const Envoy__Config__Core__V3__KeyValuePair *r = m->append->record;
    size_t mark = errors_push(e, "append.record");
    if (!r)
        errors_add(e, NULL, "is required");
    else if (!r->key[0])
        errors_add(e, "key", "must not be empty");
    else if (!r->value || r->value->kind_case != GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE)
        errors_add(e, "value", "must be a string");
    else {
        out->name = arena_str(env->arena, str_of(r->key));
        size_t inner = errors_push(e, "value");
        out->value = format_compile(env->arena, str_of(r->value->string_value), true, e);
        errors_pop(e, inner);
    }
    errors_pop(e, mark);
    out->action = (enum edit_action)m->append->action;
}

static struct mutations *mutations_compile(const struct http_filter_env *env, const Mutations *m,
                                           struct errors *e)
{
    struct mutations *out = ARENA_NEW(env->arena, struct mutations);
    if (!m)
        return out;
    size_t outer = errors_push(e, "mutations");
    compile_edits(&out->request, &out->regexes, env, m->request_mutations, m->n_request_mutations,
                  "request_mutations", e);
    compile_edits(&out->response, &out->regexes, env, m->response_mutations,
                  m->n_response_mutations, "response_mutations", e);
    compile_edits(&out->request_trailers, &out->regexes, env, m->request_trailers_mutations,
                  m->n_request_trailers_mutations, "request_trailers_mutations", e);
    compile_edits(&out->response_trailers, &out->regexes, env, m->response_trailers_mutations,
                  m->n_response_trailers_mutations, "response_trailers_mutations", e);
    out->query.n = m->n_query_parameter_mutations;
    out->query.v = arena_zalloc(env->arena, (out->query.n + 1) * sizeof(*out->query.v));
    for (size_t i = 0; i < out->query.n; i++) {
        size_t mark = errors_push_index(e, "query_parameter_mutations", i);
        compile_query(&out->query.v[i], env, m->query_parameter_mutations[i], e);
        errors_pop(e, mark);
    }
    errors_pop(e, outer);
    return out;
}

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const Config *m = msg;
    struct header_mutation_config *c = ARENA_NEW(env->arena, struct header_mutation_config);
    c->own = mutations_compile(env, m ? m->mutations : NULL, e);
    c->most_specific_wins = m && m->most_specific_header_mutations_wins;
    return c;
}

static void *compile_route(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const PerRoute *m = msg;
    return mutations_compile(env, m->mutations, e);
}

static void free_route(void *config)
{
    struct mutations *m = config;
    regex_list_free(&m->regexes);
}

static void free_config(void *config)
{
    struct header_mutation_config *c = config;
    free_route(c->own);
}

/* --- heads and trailers --- */

static void set_value(const struct edit *d, struct headers *h, const struct stream_info *si)
{
    bool there = d->action != EDIT_APPEND && headers_find(h, d->name);
    if ((d->action == EDIT_IF_ABSENT && there) || (d->action == EDIT_OVERWRITE_IF_EXISTS && !there))
        return;
    struct str value = format_str(d->value, si, h->arena);
    if (!value.len && !d->keep_empty)
        return;
    if (!value.p)
        value = STR("");
    if (there)
        headers_set(h, d->name, value);
    else
        headers_add(h, d->name, value);
}

/* The pseudo-headers can be removed too; a request without them does not go on. */
static struct str *pseudo(struct headers *h, size_t i, struct str *name)
{
    static const struct str names[] = {
        {":method", 7}, {":path", 5}, {":authority", 10}, {":scheme", 7}};
    struct str *const values[] = {&h->method, &h->path, &h->authority, &h->scheme};
    if (i >= ARRAY_LEN(names))
        return NULL;
    *name = names[i];
    return values[i];
}

static void remove_named(struct headers *h, struct str name)
{
    struct str own, *value;
    if (str_eq(name, STR("host")))
        name = STR(":authority");
    if (!str_starts(name, STR(":"))) {
        headers_remove(h, name);
        return;
    }
    for (size_t i = 0; (value = pseudo(h, i, &own)); i++) {
        if (str_eq(name, own))
            *value = STR_NULL;
    }
}

static void remove_matching(struct headers *h, const struct string_match *m)
{
    struct str own, *value;
    for (size_t i = 0; (value = pseudo(h, i, &own)); i++) {
        if (value->p && string_match(m, own))
            *value = STR_NULL;
    }
    HEADERS_FOREACH(f, h) {
        if (f->id != HDR_HOST && string_match(m, f->name))
            headers_remove_at(h, f);
    }
}

static void apply(const struct edits *edits, struct headers *h, const struct stream_info *si)
{
    for (size_t i = 0; i < edits->n; i++) {
        const struct edit *d = &edits->v[i];
        switch (d->kind) {
        case EDIT_VALUE:
            set_value(d, h, si);
            break;
        case EDIT_REMOVE:
            remove_named(h, d->name);
            break;
        case EDIT_REMOVE_MATCHING:
            remove_matching(h, &d->match);
            break;
        }
    }
}

static void apply_query(const struct edits *edits, struct headers *h, const struct stream_info *si)
{
    if (!edits->n || !h->path.p)
        return;
    struct query_edit q;
    query_edit_begin(&q, h->arena, h->path);
    for (size_t i = 0; i < edits->n; i++) {
        const struct edit *d = &edits->v[i];
        bool there = query_edit_has(&q, d->name);
        if (d->kind == EDIT_REMOVE) {
            query_edit_remove(&q, d->name);
            continue;
        }
        if ((d->action == EDIT_IF_ABSENT && there) ||
            (d->action == EDIT_OVERWRITE_IF_EXISTS && !there))
            continue;
        if (d->action == EDIT_OVERWRITE || d->action == EDIT_OVERWRITE_IF_EXISTS)
            query_edit_remove(&q, d->name);
        query_edit_add(&q, d->name, format_str(d->value, si, h->arena));
    }
    h->path = query_edit_end(&q);
}

/* What changes this stream, in the order it does: at most the filter's own and the levels. */
static size_t all_of(const struct http_filter *f, const struct mutations *out[])
{
    const struct header_mutation_config *c = f->config;
    const void *levels[HTTP_FILTER_LEVELS];
    size_t n = http_filter_route_configs(f, levels), at = 0;
    out[at++] = c->own;
    for (size_t i = 0; i < n; i++)
        out[at++] = levels[c->most_specific_wins ? i : n - 1 - i];
    return at;
}

/* --- the filter --- */

static struct str missing(const struct headers *h)
{
    if (!h->method.p)
        return STR(":method");
    if (!h->path.p && !str_eq(h->method, STR("CONNECT")))
        return STR(":path");
    return h->authority.p ? STR_NULL : STR(":authority");
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct mutations *all[HTTP_FILTER_LEVELS + 1];
    bool had_authority = h->authority.p != NULL;
    size_t n = all_of(f, all);
    for (size_t i = 0; i < n; i++) {
        apply(&all[i]->request, h, &f->stream->info);
        apply_query(&all[i]->query, h, &f->stream->info);
    }
    struct str name = missing(h);
    if (!name.len || (!had_authority && h->method.p && h->path.p))
        return FILTER_CONTINUE;
    http_filter_reply(
        f, 503, 0,
        arena_printf(h->arena,
                     "filter_removed_required_request_headers{missing_required_header:_%.*s}",
                     STR_ARG(name)),
        arena_printf(h->arena, "missing required header: %.*s", STR_ARG(name)), NULL, NULL);
    return FILTER_PAUSE;
}

static enum filter_status on_response_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct mutations *all[HTTP_FILTER_LEVELS + 1];
    size_t n = all_of(f, all);
    for (size_t i = 0; i < n; i++)
        apply(&all[i]->response, h, &f->stream->info);
    return FILTER_CONTINUE;
}

static enum filter_status on_request_trailers(struct http_filter *f, struct headers *h)
{
    const struct mutations *all[HTTP_FILTER_LEVELS + 1];
    size_t n = all_of(f, all);
    for (size_t i = 0; i < n; i++)
        apply(&all[i]->request_trailers, h, &f->stream->info);
    return FILTER_CONTINUE;
}

static enum filter_status on_response_trailers(struct http_filter *f, struct headers *h)
{
    const struct mutations *all[HTTP_FILTER_LEVELS + 1];
    size_t n = all_of(f, all);
    f->stream->info.response_trailers = h; /* for %TRAILER()% */
    for (size_t i = 0; i < n; i++)
        apply(&all[i]->response_trailers, h, &f->stream->info);
    return FILTER_CONTINUE;
}

const struct http_filter_ops header_mutation_filter = {
    .name = "envoy.filters.http.header_mutation",
    .type_name = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    .route_type_name = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
    .upstream = true,
    .compile = compile,
    .compile_route = compile_route,
    .free = free_config,
    .free_route = free_route,
    .on_request_headers = on_request_headers,
    .on_request_trailers = on_request_trailers,
    .on_response_headers = on_response_headers,
    .on_response_trailers = on_response_trailers,
};
