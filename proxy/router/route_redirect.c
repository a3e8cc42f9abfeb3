/* Routes that answer: redirects and direct responses. */
#include "api-protos/wkt.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "proxy/observe/format_string.h"
#include "proxy/router/route_private.h"
#include "tls/data_source.h"

typedef Envoy__Config__Route__V3__RedirectAction Redirect;
typedef Envoy__Config__Route__V3__DirectResponseAction Direct;
#define REDIRECT(x) ENVOY__CONFIG__ROUTE__V3__REDIRECT_ACTION__##x

/* --- compiling --- */

void route_redirect_compile(struct route_compiler *c, struct route_entry *en, const void *redirect)
{
    static const unsigned codes[] = {301, 302, 303, 307, 308};
    const Redirect *m = redirect;
    struct redirect *d = ARENA_NEW(c->a, struct redirect);
    en->route.redirect = d;
    d->https = m->scheme_rewrite_specifier_case ==
                   REDIRECT(SCHEME_REWRITE_SPECIFIER_HTTPS_REDIRECT) &&
               m->https_redirect;
    if (m->scheme_rewrite_specifier_case == REDIRECT(SCHEME_REWRITE_SPECIFIER_SCHEME_REDIRECT))
        d->scheme = arena_str(c->a, str_of(m->scheme_redirect));
    d->host = arena_str(c->a, str_of(m->host_redirect));
    d->port = m->port_redirect;
    d->status = codes[m->response_code];
    d->strip_query = m->strip_query;
    switch (m->path_rewrite_specifier_case) {
    case REDIRECT(PATH_REWRITE_SPECIFIER_PATH_REDIRECT):
        d->path = arena_str(c->a, str_of(m->path_redirect));
        break;
    case REDIRECT(PATH_REWRITE_SPECIFIER_PREFIX_REWRITE):
        d->rewrite.prefix = arena_str(c->a, str_of(m->prefix_rewrite));
        break;
    case REDIRECT(PATH_REWRITE_SPECIFIER_REGEX_REWRITE):
        route_regex_rewrite_compile(c, m->regex_rewrite, "regex_rewrite", &d->rewrite.regex,
                                    &d->rewrite.substitution);
        break;
    default:
        break;
    }
}

/* An empty text in place is a body of nothing. */
static bool is_empty(const Envoy__Config__Core__V3__DataSource *ds)
{
    return ds->specifier_case == ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_STRING &&
           !ds->inline_string[0];
}

void route_direct_compile(struct route_compiler *c, struct route *r, const void *direct)
{
    const Direct *m = direct;
    struct data_source body;
    size_t mark;
    r->direct_status = m->status;
    if (m->body && !is_empty(m->body) && data_source_read(m->body, c->a, c->e, "body", &body)) {
        r->direct_body = body.bytes;
        if (body.bytes.len > c->max_body)
            errors_add(c->e, "body", "has %zu bytes, more than the limit of %zu", body.bytes.len,
                       c->max_body);
    }
    if (!m->body_format)
        return;
    mark = errors_push(c->e, "body_format");
    r->direct_format = ARENA_NEW(c->a, struct format_string);
    (void)format_string_compile(r->direct_format, c->a, m->body_format, NULL, c->e);
    errors_pop(c->e, mark);
}

/* --- answering --- */

struct str route_direct_body(const struct route *r, const struct stream_info *si, struct arena *a,
                             struct str *out_type)
{
    *out_type = STR_NULL;
    if (!r->direct_format)
        return r->direct_body;
    struct stream_info with_body = *si;
    struct buffer b;
    with_body.local_reply_body = r->direct_body;
    buffer_init(&b);
    format_string_append(r->direct_format, &with_body, &b);
    char *p = arena_bytes(a, b.len + 1);
    struct str body = str_n(p, buffer_copy_out(&b, 0, p, b.len));
    buffer_cleanup(&b);
    *out_type = r->direct_format->content_type;
    if (!out_type->len)
        *out_type = r->direct_format->json ? STR("application/json") : STR("text/plain");
    return body;
}

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

void route_redirect_rewrite(const struct route *r, bool tell, struct headers *h)
{
    if (r == &r->vhost->tls_redirect)
        return;
    struct str path = route_rewrite_path((const struct route_entry *)r, &r->redirect->rewrite,
                                         h->path, NULL, h->arena);
    if (!path.len)
        return;
    if (tell)
        headers_set_known(h, HDR_X_ENVOY_ORIGINAL_PATH, h->path);
    h->path = path;
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
    size_t query_at = route_path_len(path);
    struct str query = str_n(path.p + query_at, path.len - query_at);
    if (d->path.len) {
        bool has_query = str_chr(d->path, '?') >= 0;
        path = has_query || d->strip_query
                   ? d->path
                   : arena_printf(a, "%.*s%.*s", STR_ARG(d->path), STR_ARG(query));
    } else if (!own) {
        struct str made = route_rewrite_path(en, &d->rewrite, path, NULL, a);
        path = made.len ? made : path;
    }
    if (d->strip_query && !d->path.len)
        path.len = route_path_len(path);
    return arena_printf(a, "%.*s://%.*s%.*s", STR_ARG(to), STR_ARG(host), STR_ARG(path));
}
