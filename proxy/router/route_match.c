#include "proxy/router/route_private.h"

/* --- virtual host --- */

static struct str lower_host(struct str host, bool ignore_port, struct arena *a)
{
    if (ignore_port) {
        for (size_t i = host.len; i > 0 && host.p[i - 1] != ']'; i--) {
            if (host.p[i - 1] == ':') {
                host.len = i - 1;
                break;
            }
        }
    }
    for (size_t i = 0; i < host.len; i++) {
        if (host.p[i] < 'A' || host.p[i] > 'Z')
            continue;
        char *p = arena_bytes(a, host.len);
        for (size_t k = 0; k < host.len; k++)
            p[k] = host.p[k] >= 'A' && host.p[k] <= 'Z' ? (char)(host.p[k] | 0x20) : host.p[k];
        return str_n(p, host.len);
    }
    return host;
}

static const struct vhost *find_vhost(const struct route_table *t, struct str authority,
                                      struct arena *a)
{
    const struct vhost_index *ix = t->index;
    if (ix->any && !map_count(&ix->exact) && !map_count(&ix->suffixes) && !map_count(&ix->prefixes))
        return ix->any;
    struct str host = lower_host(authority, t->ignore_port, a);
    const struct vhost *v = map_get(&ix->exact, host);
    if (v)
        return v;
    for (size_t i = 0; i < ix->num_suffix_lens; i++) {
        size_t n = ix->suffix_lens[i];
        if (n < host.len && (v = map_get(&ix->suffixes, str_n(host.p + host.len - n, n))))
            return v;
    }
    for (size_t i = 0; i < ix->num_prefix_lens; i++) {
        size_t n = ix->prefix_lens[i];
        if (n < host.len && (v = map_get(&ix->prefixes, str_n(host.p, n))))
            return v;
    }
    return ix->any;
}

/* --- conditions --- */

static struct str path_only(struct str path)
{
    for (size_t i = 0; i < path.len; i++) {
        if (path.p[i] == '?' || path.p[i] == '#')
            return str_n(path.p, i);
    }
    return path;
}

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
    }
    return false;
}

/* The first parameter of that name; false if there is none. */
static bool query_value(struct str path, struct str name, struct str *out)
{
    ptrdiff_t q = str_chr(path, '?');
    if (q < 0)
        return false;
    struct str rest = str_n(path.p + q + 1, path.len - (size_t)q - 1);
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

static bool query_fits(const struct query_match *q, struct str path)
{
    struct str value;
    bool there = query_value(path, q->name, &value);
    if (q->has_string)
        return there && string_match(&q->string, value);
    return there == q->present;
}

static bool fits(const struct route_entry *r, const struct route_match_input *in, struct str path,
                 struct arena *a)
{
    if (!in->headers->path.p || !path_fits(r, path)) /* CONNECT has none */
        return false;
    if (r->fraction_ppm < 1000000 && in->random % 1000000 >= r->fraction_ppm)
        return false;
    for (size_t i = 0; i < r->num_headers; i++) {
        if (!header_match(&r->headers[i], in->headers, a))
            return false;
    }
    for (size_t i = 0; i < r->num_query; i++) {
        if (!query_fits(&r->query[i], in->headers->path))
            return false;
    }
    return !r->grpc_only || headers_is_grpc(in->headers);
}

const struct route *route_match(const struct route_table *t, const struct route_match_input *in,
                                struct arena *a)
{
    const struct headers *h = in->headers;
    const struct vhost *v = find_vhost(t, h->authority, a);
    if (!v)
        return NULL;
    if (v->require_tls && !in->tls && !str_eq(h->scheme, STR("https")))
        return &v->tls_redirect;
    struct str path = path_only(h->path);
    for (size_t i = 0; i < v->num_routes; i++) {
        if (fits(&v->routes[i], in, path, a))
            return &v->routes[i].route;
    }
    return NULL;
}

struct str route_cluster_name(const struct route *r, const struct route_match_input *in,
                              const struct weighted_cluster **out_weighted)
{
    *out_weighted = NULL;
    if (r->cluster.len)
        return r->cluster;
    if (r->cluster_header.len) {
        struct header *f = headers_find(in->headers, r->cluster_header);
        return f ? f->value : STR_NULL;
    }
    /* Other bits than the fraction's, so that the two choices are independent. */
    uint64_t at = (in->random >> 24) % r->total_weight;
    for (size_t i = 0; i < r->num_weighted; i++) {
        if (at < r->weighted[i].weight) {
            *out_weighted = &r->weighted[i];
            return r->weighted[i].name;
        }
        at -= r->weighted[i].weight;
    }
    return STR_NULL;
}
