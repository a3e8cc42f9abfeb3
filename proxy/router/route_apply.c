#include "proxy/router/route_private.h"

/* --- header changes --- */

/* Every value is made of the message as it was; what replaces goes before what adds. */
void headers_mutation_apply(const struct headers_mutation *m, struct headers *h,
                            const struct stream_info *si)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->num_remove; i++)
        headers_remove(h, m->remove[i]);
    struct str *values = arena_alloc(h->arena, (m->num_add + 1) * sizeof(*values));
    for (size_t i = 0; i < m->num_add; i++) {
        const struct header_add *a = &m->add[i];
        bool there = (a->action == ADD_IF_ABSENT || a->action == ADD_OVERWRITE_IF_EXISTS) &&
                     headers_find(h, a->name);
        values[i] = format_str(a->value, si, h->arena);
        bool wanted = values[i].len || a->keep_empty;
        if (!wanted || (a->action == ADD_IF_ABSENT && there) ||
            (a->action == ADD_OVERWRITE_IF_EXISTS && !there))
            values[i] = STR_NULL;
        else if (!values[i].p)
            values[i] = STR("");
    }
    for (size_t i = 0; i < m->num_add; i++) {
        const struct header_add *a = &m->add[i];
        if (values[i].p && (a->action == ADD_OVERWRITE || a->action == ADD_OVERWRITE_IF_EXISTS))
            headers_set(h, a->name, values[i]);
    }
    for (size_t i = 0; i < m->num_add; i++) {
        const struct header_add *a = &m->add[i];
        if (values[i].p && (a->action == ADD_APPEND || a->action == ADD_IF_ABSENT))
            headers_add(h, a->name, values[i]);
    }
}

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

/* --- paths --- */

static size_t path_len(struct str path)
{
    for (size_t i = 0; i < path.len; i++) {
        if (path.p[i] == '?' || path.p[i] == '#')
            return i;
    }
    return path.len;
}

static struct str rewrite_path(const struct route_entry *en, const struct rewrite *w,
                               struct str path, struct arena *a)
{
    size_t n = path_len(path);
    if (w->prefix.len) {
        size_t matched = en->kind == PATH_REGEX ? n : en->path.len;
        return arena_printf(a, "%.*s%.*s", STR_ARG(w->prefix), (int)(path.len - matched),
                            path.p + matched);
    }
    if (!w->regex)
        return STR_NULL;
    struct str made = regex_replace_all(w->regex, str_n(path.p, n), w->substitution, a);
    if (!made.len)
        return STR_NULL;
    return arena_printf(a, "%.*s%.*s", STR_ARG(made), (int)(path.len - n), path.p + n);
}

static void rewrite_host(struct headers *h, struct str host, bool tell)
{
    struct header *f = headers_known(h, HDR_HOST);
    if (tell)
        headers_set(h, STR("x-envoy-original-host"), h->authority);
    h->authority = host;
    if (f)
        f->value = host;
}

void route_rewrite_request(const struct route_table *t, const struct route *r,
                           const struct weighted_cluster *w, bool tell, struct headers *h,
                           struct stream_info *si)
{
    const struct route_entry *en = (const struct route_entry *)r;
    apply_levels(t, w ? w->request : NULL, r->request, r->vhost->request, t->request, h, si);
    struct str path = rewrite_path(en, &en->rewrite, h->path, h->arena);
    if (path.len) {
        if (tell)
            headers_set_known(h, HDR_X_ENVOY_ORIGINAL_PATH, h->path);
        h->path = path;
    }
    if (w && w->host_rewrite.len)
        rewrite_host(h, w->host_rewrite, false);
    if (en->host_rewrite.len)
        rewrite_host(h, en->host_rewrite, tell);
}

void route_rewrite_response(const struct route_table *t, const struct route *r,
                            const struct weighted_cluster *w, struct headers *h,
                            const struct stream_info *si)
{
    apply_levels(t, w ? w->response : NULL, r->response, r->vhost->response, t->response, h, si);
}

/* --- redirect --- */

static struct str without_port(struct str host)
{
    for (size_t i = host.len; i > 0 && host.p[i - 1] != ']'; i--) {
        if (host.p[i - 1] == ':')
            return str_n(host.p, i - 1);
    }
    return host;
}

/* The host with its port: a default port of the former scheme goes when the scheme changes. */
static struct str redirect_host(const struct redirect *d, struct str from, struct str to,
                                struct str host, struct arena *a)
{
    if (d->host.len && !d->port)
        return d->host;
    if (d->host.len)
        host = d->host;
    if (d->port)
        return arena_printf(a, "%.*s:%u", STR_ARG(without_port(host)), d->port);
    struct str bare = without_port(host);
    struct str port = str_n(bare.p + bare.len, host.len - bare.len);
    bool old_default = (str_eq(from, STR("http")) && str_eq(port, STR(":80"))) ||
                       (str_eq(from, STR("https")) && str_eq(port, STR(":443")));
    return !str_eq(from, to) && old_default ? bare : host;
}

struct str route_redirect_location(const struct route *r, const struct headers *h, bool tls,
                                   struct arena *a, unsigned *out_status)
{
    const struct route_entry *en = (const struct route_entry *)r;
    const struct redirect *d = r->redirect;
    bool own = r == &r->vhost->tls_redirect; /* not part of a route_entry */
    struct str from = h->scheme.len ? h->scheme : tls ? STR("https") : STR("http");
    struct str to = d->https ? STR("https") : d->scheme.len ? d->scheme : from;
    struct str host = redirect_host(d, from, to, h->authority, a);
    struct str path = h->path;
    *out_status = d->status;
    size_t query_at = path_len(path);
    struct str query = str_n(path.p + query_at, path.len - query_at);
    if (d->path.len) {
        bool has_query = str_chr(d->path, '?') >= 0;
        path = has_query || d->strip_query
                   ? d->path
                   : arena_printf(a, "%.*s%.*s", STR_ARG(d->path), STR_ARG(query));
    } else if (!own) {
        struct str made = rewrite_path(en, &d->rewrite, path, a);
        path = made.len ? made : path;
    }
    if (d->strip_query && !d->path.len)
        path.len = path_len(path);
    return arena_printf(a, "%.*s://%.*s%.*s", STR_ARG(to), STR_ARG(host), STR_ARG(path));
}
