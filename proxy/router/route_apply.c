/* What a route does to requests and responses that pass. */
#include "proxy/router/route_private.h"

/* --- header changes --- */

/* The later one wins: by default the table's, with most_specific_header_mutations_wins the route's.
 * The weighted cluster's come first either way. */
static void apply_levels(const struct route_table *t, const struct headers_mutation *cluster,
                         const struct headers_mutation *route, const struct headers_mutation *vhost,
                         const struct headers_mutation *table, struct headers *h,
                         const struct stream_info *si)
{
    headers_mutation_apply(cluster, h, si);
    headers_mutation_apply(t->most_specific_wins ? table : route, h, si);
    headers_mutation_apply(vhost, h, si);
    headers_mutation_apply(t->most_specific_wins ? route : table, h, si);
}

void route_rewrite_response(const struct route_table *t, const struct route *r,
                            const struct weighted_cluster *w, struct headers *h,
                            const struct stream_info *si)
{
    if (r == &r->vhost->tls_redirect) /* of no level: Envoy's has none */
        return;
    apply_levels(t, w ? w->response : NULL, r->response, r->vhost->response, t->response, h, si);
}

void route_remove_internal(const struct route_table *t, struct headers *h)
{
    for (size_t i = 0; i < t->num_internal_only; i++)
        headers_remove(h, t->internal_only[i]);
}

/* --- paths --- */

size_t route_path_len(struct str target)
{
    ptrdiff_t query = str_chr(target, '?');
    size_t n = query < 0 ? target.len : (size_t)query;
    ptrdiff_t fragment = str_chr(str_n(target.p, n), '#');
    return fragment < 0 ? n : (size_t)fragment;
}

/* How much of the target a prefix rewrite replaces; false: nothing, because the match was by a form
 * of the path without its parameters. */
static bool matched_len(const struct route_entry *en, struct str path, size_t *out)
{
    switch (en->kind) {
    case PATH_PREFIX:
    case PATH_EXACT:
    case PATH_SEPARATED_PREFIX:
        *out = en->path.len;
        return en->ignore_case ? str_istarts(path, en->path) : str_starts(path, en->path);
    case PATH_REGEX:
    case PATH_TEMPLATE:
    case PATH_CONNECT:
        *out = path.len;
        return true;
    }
    return false;
}

static struct str with_rest(struct str made, struct str target, size_t from, struct arena *a)
{
    return made.len ? arena_printf(a, "%.*s%.*s", STR_ARG(made), (int)(target.len - from),
                                   target.p + from)
                    : STR_NULL;
}

struct str route_rewrite_path(const struct route_entry *en, const struct rewrite *w,
                              struct str target, const struct stream_info *si, struct arena *a)
{
    if (!w->prefix.len && !w->regex && !w->template && !w->format)
        return STR_NULL;
    size_t n = route_path_len(target), matched;
    struct str path = str_n(target.p, n);
    if (w->prefix.len)
        return matched_len(en, path, &matched) ? with_rest(w->prefix, target, matched, a)
                                               : STR_NULL;
    if (w->regex)
        return with_rest(regex_replace_all(w->regex, path, w->substitution, a), target, n, a);
    if (w->template)
        return with_rest(uri_rewrite_apply(w->template, path, a), target, n, a);
    /* What the format takes out of the request may be anything: only a path becomes one. */
    struct str made = format_str(w->format, si, a);
    return made.len && made.p[0] == '/' ? with_rest(made, target, n, a) : STR_NULL;
}

/* --- hosts --- */

static void set_host(struct headers *h, struct str host)
{
    struct header *f = headers_known(h, HDR_HOST);
    h->authority = host;
    if (f)
        f->value = host;
}

/* `tell`: what the host was is said in fields of their own. */
static void rewrite_host(const struct route_entry *en, struct headers *h, struct str host,
                         bool tell)
{
    struct str before;
    if (!host.len)
        return;
    if (en->append_x_forwarded_host) {
        bool had = headers_value(h, STR("x-forwarded-host"), h->arena, &before) && before.len;
        headers_set_known(
            h, HDR_X_FORWARDED_HOST,
            had ? arena_printf(h->arena, "%.*s,%.*s", STR_ARG(before), STR_ARG(h->authority))
                : h->authority);
    }
    if (tell)
        headers_set(h, STR("x-envoy-original-host"), h->authority);
    set_host(h, host);
}

static struct str new_host(const struct route_entry *en, const struct headers *h,
                           const struct stream_info *si)
{
    const struct header *f;
    switch (en->host_kind) {
    case HOST_KEEP:
    case HOST_AUTO:
        return STR_NULL;
    case HOST_LITERAL:
        return en->host_rewrite;
    case HOST_HEADER:
        f = headers_find(h, en->host_rewrite);
        return f ? f->value : STR_NULL;
    case HOST_PATH_REGEX:
        return regex_replace_all(en->host_regex, str_n(h->path.p, route_path_len(h->path)),
                                 en->host_rewrite, h->arena);
    case HOST_FORMAT:
        return format_str(en->host_format, si, h->arena);
    }
    return STR_NULL;
}

void route_rewrite_host_auto(const struct route *r, struct str hostname, bool tell,
                             struct headers *h)
{
    const struct route_entry *en = (const struct route_entry *)r;
    if (en->host_kind == HOST_AUTO)
        rewrite_host(en, h, hostname, tell);
}

void route_rewrite_request(const struct route_table *t, const struct route *r,
                           const struct weighted_cluster *w, bool tell, struct headers *h,
                           struct stream_info *si)
{
    const struct route_entry *en = (const struct route_entry *)r;
    apply_levels(t, w ? w->request : NULL, r->request, r->vhost->request, t->request, h, si);
    if (w && w->host_rewrite.len)
        set_host(h, w->host_rewrite);
    rewrite_host(en, h, new_host(en, h, si), tell);
    struct str path = route_rewrite_path(en, &en->rewrite, h->path, si, h->arena);
    if (!path.len)
        return;
    if (tell)
        headers_set_known(h, HDR_X_ENVOY_ORIGINAL_PATH, h->path);
    h->path = path;
}
