/* Which route a request gets, and which cluster. */
#include "proxy/router/match_tree.h"
#include "proxy/router/route_private.h"
#include <ctype.h>

/* --- the route --- */

/* Each segment without what follows a ';' in it (ignore_path_parameters_in_path_matching). */
static struct str without_parameters(struct str path, struct arena *a)
{
    if (str_chr(path, ';') < 0)
        return path;
    char *p = arena_bytes(a, path.len);
    size_t n = 0;
    bool skip = false;
    for (size_t i = 0; i < path.len; i++) {
        skip = path.p[i] == ';' || (skip && path.p[i] != '/');
        if (!skip)
            p[n++] = path.p[i];
    }
    return str_n(p, n);
}

static const struct vhost *find_vhost(const struct route_table *t, const struct headers *h,
                                      struct arena *a)
{
    struct str name = h->authority;
    if (t->vhost_header.len) {
        const struct header *f = headers_find(h, t->vhost_header);
        if (!f)
            return vhost_index_only(&t->inside->vhosts);
        name = f->value;
    }
    return vhost_index_find(&t->inside->vhosts, name, t->ignore_port, a);
}

static bool needs_tls(const struct vhost *v, const struct route_match_input *in)
{
    if (v->require_tls == TLS_NOT_REQUIRED || in->tls || str_eq(in->headers->scheme, STR("https")))
        return false;
    return v->require_tls == TLS_ALL || !headers_known(in->headers, HDR_X_ENVOY_INTERNAL);
}

const struct route *route_match(const struct route_table *t, const struct route_match_input *in,
                                struct arena *a)
{
    const struct headers *h = in->headers;
    const struct vhost *v = find_vhost(t, h, a);
    if (!v)
        return NULL;
    if (needs_tls(v, in))
        return &v->tls_redirect;
    struct route_matching m = {.in = in, .scratch = a};
    m.path = str_n(h->path.p, route_path_len(h->path));
    if (t->ignore_path_parameters)
        m.path = without_parameters(m.path, a);
    const struct route_list *l = v->matcher ? match_tree_find(v->matcher, h, a) : &v->routes;
    return l ? route_list_find(l, &m) : NULL;
}

/* --- what belongs to it --- */

size_t route_filter_overrides(const struct route_table *t, const struct route *r,
                              const struct weighted_cluster *w,
                              const struct http_filter_overrides *out[4])
{
    size_t n = 0;
    if (t && t->filters)
        out[n++] = t->filters;
    if (r->vhost && r->vhost->filters)
        out[n++] = r->vhost->filters;
    if (r->filters)
        out[n++] = r->filters;
    if (w && w->filters)
        out[n++] = w->filters;
    return n;
}

const struct route_upgrade *route_upgrade_find(const struct route *r, struct str type)
{
    for (size_t i = 0; i < r->num_upgrades; i++) {
        if (str_ieq(r->upgrades[i].type, type))
            return &r->upgrades[i];
    }
    return NULL;
}

/* --- the cluster --- */

static bool only(const struct headers *h, struct str name, struct str *out)
{
    const struct header *f = headers_find(h, name);
    if (!f || headers_next(h, f))
        return false;
    *out = f->value;
    return true;
}

static uint64_t weight_at(const struct route *r, const struct route_match_input *in,
                          struct arena *a)
{
    struct str text;
    uint64_t n;
    if (r->weight_header.len && only(in->headers, r->weight_header, &text) &&
        str_to_u64(without_plus(text), &n))
        return n % r->total_weight;
    if (r->weight_by_hash && route_hash(r, in, a, NULL, &n))
        return n % r->total_weight;
    /* Other bits than the fraction's, so that the two choices are independent. */
    return (in->random >> 24) % r->total_weight;
}

static struct str named_by(const struct headers *h, struct str header, struct arena *a)
{
    struct str value;
    const struct header *f = headers_find(h, header);
    if (f)
        return f->value;
    return headers_value(h, header, a, &value) ? value : STR_NULL; /* a pseudo-header */
}

struct str route_cluster_name(const struct route *r, const struct route_match_input *in,
                              const struct weighted_cluster **out_weighted)
{
    struct arena *a = in->headers->arena;
    *out_weighted = NULL;
    if (r->cluster.len)
        return r->cluster;
    if (r->cluster_header.len)
        return named_by(in->headers, r->cluster_header, a);
    if (r->cluster_tree) {
        const struct str *name = match_tree_find(r->cluster_tree, in->headers, a);
        return name ? *name : STR_NULL;
    }
    if (!r->num_weighted)
        return STR_NULL;
    uint64_t at = weight_at(r, in, a);
    for (size_t i = 0; i < r->num_weighted; i++) {
        const struct weighted_cluster *w = &r->weighted[i];
        if (at < w->weight) {
            *out_weighted = w;
            return w->name.len ? w->name : named_by(in->headers, w->cluster_header, a);
        }
        at -= w->weight;
    }
    return STR_NULL;
}

/* --- how long it may take --- */

/* grpc-timeout: up to eight digits and a unit; what is less than a millisecond is one. */
static bool grpc_timeout(const struct headers *h, uint64_t *out_ms)
{
    static const struct {
        char unit;
        uint64_t times, per; /* milliseconds = n * times / per */
    } units[] = {{'H', 3600000, 1}, {'M', 60000, 1}, {'S', 1000, 1},
                 {'m', 1, 1},       {'u', 1, 1000},  {'n', 1, 1000000}};
    const struct header *f = headers_known(h, HDR_GRPC_TIMEOUT);
    uint64_t n;
    if (!f || f->value.len < 2 || f->value.len > 9 || !isdigit((unsigned char)f->value.p[0]) ||
        !str_to_u64(str_n(f->value.p, f->value.len - 1), &n))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (units[i].unit != f->value.p[f->value.len - 1])
            continue;
        *out_ms = (n * units[i].times + units[i].per - 1) / units[i].per;
        return true;
    }
    return false;
}

uint64_t route_timeout_ms(const struct route *r, const struct headers *h)
{
    if (r->own_durations)
        return 0;
    if (!r->has_max_grpc_timeout || !headers_is_grpc(h))
        return r->has_timeout ? r->timeout_ms : 15000;
    uint64_t ms = 0, offset = r->old_grpc_timeout_offset_ms, max = r->max_grpc_timeout_ms;
    if (!grpc_timeout(h, &ms))
        ms = 0;
    if (ms > offset)
        ms -= offset;
    return max && (!ms || ms > max) ? max : ms;
}

bool route_stream_duration_ms(const struct route *r, const struct headers *h, uint64_t def,
                              uint64_t *out_ms)
{
    uint64_t ms;
    if (!r->has_grpc_timeout_max || !grpc_timeout(h, &ms)) {
        *out_ms = r->has_max_stream_duration ? r->max_stream_duration_ms : def;
        return *out_ms != 0;
    }
    if (r->grpc_timeout_max_ms && ms > r->grpc_timeout_max_ms)
        ms = r->grpc_timeout_max_ms;
    *out_ms = ms > r->grpc_timeout_offset_ms ? ms - r->grpc_timeout_offset_ms : 0;
    return true;
}
