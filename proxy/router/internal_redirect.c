#include "proxy/http/path.h"
#include "proxy/router/router_private.h"

/* What a request has been through. In the stream's arena. */
struct redirect_history {
    uint32_t count;
    struct redirect_step {
        const struct route *from;
        struct str to; /* the name of a route that was tried from there */
        struct redirect_step *next;
    } * steps;
};

struct target {
    struct str scheme, host, path;
    bool https;
};

static bool plain(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= 0x20 || c >= 0x7f)
            return false;
    }
    return true;
}

/* An absolute URL; nothing is resolved against the request. What could not stand in a request line
 * or name a host is refused. */
static bool parse_location(struct str url, struct arena *a, struct target *out)
{
    if (str_istarts(url, STR("http://"))) {
        out->scheme = STR("http");
    } else if (str_istarts(url, STR("https://"))) {
        out->scheme = STR("https");
        out->https = true;
    } else {
        return false;
    }
    struct str rest = str_n(url.p + out->scheme.len + 3, url.len - out->scheme.len - 3);
    size_t n = 0;
    while (n < rest.len && rest.p[n] != '/' && rest.p[n] != '?' && rest.p[n] != '#')
        n++;
    out->host = str_n(rest.p, n);
    struct str path = str_n(rest.p + n, rest.len - n);
    ptrdiff_t fragment = str_chr(path, '#');
    if (fragment >= 0)
        path.len = (size_t)fragment;
    if (!path.len || path.p[0] == '?')
        path = arena_printf(a, "/%.*s", STR_ARG(path));
    out->path = path;
    return out->host.len && str_chr(out->host, '@') < 0 && plain(out->host) && plain(path);
}

static bool listed(const struct redirect_check *c, struct str name)
{
    for (size_t i = 0; i < c->num_routes; i++) {
        if (str_eq(c->routes[i], name))
            return true;
    }
    return false;
}

/* The first time that this route leads to that one. */
static bool first_time(struct router *r, struct str to)
{
    struct stream *s = r->stream;
    for (const struct redirect_step *t = r->history->steps; t; t = t->next) {
        if (t->from == s->route && str_eq(t->to, to))
            return false;
    }
    struct redirect_step *t = ARENA_NEW(s->arena, struct redirect_step);
    *t = (struct redirect_step){s->route, to, r->history->steps};
    r->history->steps = t;
    return true;
}

static bool allowed(struct router *r, const struct route *to, bool from_https, bool to_https)
{
    const struct internal_redirects *p = r->stream->route->redirects;
    for (size_t i = 0; i < p->num_checks; i++) {
        const struct redirect_check *c = &p->checks[i];
        bool ok = false;
        switch (c->kind) {
        case REDIRECT_ALLOW_LISTED_ROUTES:
            ok = listed(c, to->name);
            break;
        case REDIRECT_PREVIOUS_ROUTES:
            ok = first_time(r, to->name);
            break;
        case REDIRECT_SAFE_CROSS_SCHEME:
            ok = from_https || !to_https;
            break;
        }
        if (!ok)
            return false;
    }
    return true;
}

static void copy_fields(const struct internal_redirects *p, const struct headers *from,
                        struct headers *to)
{
    for (size_t i = 0; i < p->num_copy; i++) {
        headers_remove(to, p->copy[i]);
        for (const struct header *f = headers_find(from, p->copy[i]); f; f = headers_next(from, f))
            headers_add(to, p->copy[i], f->value);
    }
}

static void point_to(struct headers *h, const struct target *t)
{
    struct header *host = headers_known(h, HDR_HOST);
    h->scheme = t->scheme;
    h->authority = t->host;
    h->path = t->path;
    if (host)
        host->value = t->host;
}

/* 303: what was asked for is fetched, not sent again (RFC 9110 section 15.4.4). */
static bool becomes_get(const struct headers *request, unsigned status)
{
    return status == 303 && !str_eq(request->method, STR("GET")) &&
           !str_eq(request->method, STR("HEAD"));
}

/* Makes the next request of the present one; false, counted: the response is passed on. */
static bool make_next(struct router *r, const struct headers *response, struct headers *next)
{
    struct stream *s = r->stream;
    const struct internal_redirects *p = s->route->redirects;
    const struct header *location = headers_known(response, HDR_LOCATION);
    struct target t = {0};
    bool from_https = str_ieq(s->request->scheme, STR("https"));
    bool ok = location && parse_location(location->value, s->arena, &t);
    if (ok && s->hc->config->normalize_path)
        ok = path_normalize(s->arena, &t.path) != PATH_REJECTED;
    if (!ok) {
        if (location)
            hcm_count(s->hc, HCM_REDIRECT_BAD_LOCATION);
        return false;
    }
    if (!p->cross_scheme && from_https != t.https) {
        hcm_count(s->hc, HCM_REDIRECT_UNSAFE_SCHEME);
        return false;
    }
    if (!r->history)
        r->history = ARENA_NEW(s->arena, struct redirect_history);
    if (r->history->count >= p->max) {
        hcm_count(s->hc, HCM_REDIRECT_TOO_MANY);
        return false;
    }
    headers_copy(next, s->request, s->arena);
    copy_fields(p, response, next);
    point_to(next, &t);
    struct route_match_input in = s->match;
    in.headers = next;
    const struct route *to = route_match(s->table, &in, s->arena);
    if (!to) {
        hcm_count(s->hc, HCM_REDIRECT_NO_ROUTE);
        return false;
    }
    if (!allowed(r, to, from_https, t.https)) {
        hcm_count(s->hc, HCM_REDIRECT_PREDICATE);
        return false;
    }
    headers_set(next, STR("x-envoy-original-url"),
                arena_printf(s->arena, "%s://%.*s%.*s", from_https ? "https" : "http",
                             STR_ARG(s->request->authority), STR_ARG(s->request->path)));
    return true;
}

bool internal_redirect(struct router *r, struct headers *response)
{
    struct stream *s = r->stream;
    const struct internal_redirects *p = s->route->redirects;
    struct headers next;
    if (response->status < 300 || response->status > 308 || !p->codes[response->status - 300])
        return false;
    if (!s->request_end || !r->keep || !make_next(r, response, &next)) {
        router_count(r, CLUSTER_INTERNAL_REDIRECT_FAILED);
        return false;
    }
    router_count(r, CLUSTER_INTERNAL_REDIRECT_SUCCEEDED);
    bool get = becomes_get(s->request, response->status);
    struct redirect_history *history = r->history;
    struct test_fault *fault = r->fault;
    struct buffer body;
    buffer_init(&body);
    buffer_move(&body, &r->replay, r->replay.len);
    if (get) {
        buffer_cleanup(&body);
        next.method = STR("GET");
        headers_remove_known(&next, HDR_CONTENT_LENGTH);
        headers_remove_known(&next, HDR_TRANSFER_ENCODING);
        s->request_trailers = NULL;
    }
    history->count++;
    router_cleanup(r);
    *r = (struct router){.history = history, .fault = fault};
    *s->request = next;
    stream_recreate(s, response, &body);
    buffer_cleanup(&body);
    return true;
}
