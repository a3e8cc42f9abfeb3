/* envoy.filters.http.stateful_session: a session stays with the host it began with. A cookie or a
 * header of the request names the host, and the response tells the client which one it was. With
 * `strict` a request whose host is not to be had is answered with 503. */
#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "base/base64.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/extensions/filters/http/stateful_session/v3/stateful_session.pb-c.h"
#include "envoy/extensions/http/stateful_session/cookie/v3/cookie.pb-c.h"
#include "envoy/extensions/http/stateful_session/header/v3/header.pb-c.h"
#include "envoy/type/http/v3/cookie.pb-c.h"
#include "proxy/filters/filter_common.h"
#include "proxy/filters/filter_stats.h"
#include "proxy/filters/filters.h"
#include "proxy/filters/session_cookie.h"
#include "proxy/http/stream.h"
#include "proxy/network/network_filter.h"
#include "proxy/worker.h"

typedef Envoy__Extensions__Filters__Http__StatefulSession__V3__StatefulSession Session;
typedef Envoy__Extensions__Filters__Http__StatefulSession__V3__StatefulSessionPerRoute PerRoute;
typedef Envoy__Extensions__Http__StatefulSession__Cookie__V3__CookieBasedSessionState CookieState;
typedef Envoy__Extensions__Http__StatefulSession__Header__V3__HeaderBasedSessionState HeaderState;
#define ROUTE(x) ENVOY__EXTENSIONS__FILTERS__HTTP__STATEFUL_SESSION__V3__STATEFUL_SESSION_##x

#define SESSION_STATS(X)                                                                           \
    X(SESSION_FAILED_CLOSED, "failed_closed", COUNTER)                                             \
    X(SESSION_FAILED_OPEN, "failed_open", COUNTER)                                                 \
    X(SESSION_NONE, "no_session", COUNTER)                                                         \
    X(SESSION_ROUTED, "routed", COUNTER)
enum { SESSION_STATS(STATS_ENUM) SESSION_NUM_STATS };
static const struct stats_def stat_defs[] = {SESSION_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

enum session_kind { SESSION_OFF, SESSION_COOKIE, SESSION_HEADER };

struct session_config {
    struct stats_scope *stats; /* NULL without stat_prefix, and per route */
    enum session_kind kind;
    struct str name;   /* of the cookie, or of the header (lower case) */
    struct str path;   /* of the cookie; empty: any */
    struct str suffix; /* what follows the value in Set-Cookie */
    uint64_t ttl_s;    /* 0: until the browser ends */
    bool strict;
};

struct session_state {
    const struct session_config *c;
    struct str host; /* asked for; empty: none */
    bool told;
};

/* --- configuration --- */

static void compile_cookie(struct session_config *c, struct arena *a, const CookieState *m,
                           struct errors *e)
{
    const Envoy__Type__Http__V3__Cookie *k = m->cookie;
    if (!k || !k->name[0]) {
        errors_add(e, k ? "cookie.name" : "cookie", k ? "must not be empty" : "is required");
        return;
    }
    c->kind = SESSION_COOKIE;
    c->name = arena_str(a, str_of(k->name));
    c->path = arena_str(a, str_of(k->path));
    c->ttl_s = wkt_duration_ms(k->ttl, 0, e, "cookie.ttl") / 1000;
    c->suffix = STR("");
    if (c->ttl_s)
        c->suffix = arena_printf(a, "; Max-Age=%llu", (unsigned long long)c->ttl_s);
    if (c->path.len)
        c->suffix = arena_printf(a, "%.*s; Path=%.*s", STR_ARG(c->suffix), STR_ARG(c->path));
    for (size_t i = 0; i < k->n_attributes; i++) {
        const Envoy__Type__Http__V3__CookieAttribute *x = k->attributes[i];
        c->suffix = arena_printf(a, "%.*s; %s%s%s", STR_ARG(c->suffix), x->name,
                                 x->value[0] ? "=" : "", x->value);
    }
    c->suffix = arena_printf(a, "%.*s; HttpOnly", STR_ARG(c->suffix));
}

static void compile_state(struct session_config *c, const struct http_filter_env *env,
                          const Envoy__Config__Core__V3__TypedExtensionConfig *m, struct errors *e)
{
    struct arena scratch;
    struct pb_any any;
    arena_init(&scratch, 0);
    size_t mark = errors_push(e, "session_state.typed_config");
    enum pb_any_status st = pb_any_unpack(m->typed_config, &scratch, e, env->compile->pb, &any);
    const void *msg = any.message;
    if (st == PB_ANY_OK && str_ends(any.type_name, STR(".CookieBasedSessionState"))) {
        compile_cookie(c, env->arena, msg, e);
    } else if (st == PB_ANY_OK && str_ends(any.type_name, STR(".HeaderBasedSessionState"))) {
        c->kind = SESSION_HEADER;
        c->name = filter_lower(env->arena, str_of(((const HeaderState *)msg)->name));
        if (!c->name.len)
            errors_add(e, "name", "must not be empty");
    } else if (st != PB_ANY_INVALID) {
        errors_add(e, NULL, "session state %.*s is not supported", STR_ARG(any.type_name));
    }
    errors_pop(e, mark);
    arena_cleanup(&scratch);
}

static struct session_config *config_of(const struct http_filter_env *env, const Session *m,
                                        struct errors *e)
{
    struct session_config *c = ARENA_NEW(env->arena, struct session_config);
    if (!m)
        return c;
    if (m->session_state)
        compile_state(c, env, m->session_state, e);
    c->strict = m->strict;
    return c;
}

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const Session *m = msg;
    struct session_config *c = config_of(env, m, e);
    if (m && m->stat_prefix[0])
        c->stats = filter_stats_named(
            env, &stat_table, arena_printf(env->arena, "stateful_session.%s", m->stat_prefix));
    return c;
}

static void *compile_route(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const PerRoute *m = msg;
    struct session_config *c;
    size_t mark;
    switch (m->override_case) {
    case ROUTE(PER_ROUTE__OVERRIDE_DISABLED):
        if (!m->disabled)
            errors_add(e, "disabled", "must be true");
        return ARENA_NEW(env->arena, struct session_config);
    case ROUTE(PER_ROUTE__OVERRIDE_STATEFUL_SESSION):
        mark = errors_push(e, "stateful_session");
        c = config_of(env, m->stateful_session, e);
        errors_pop(e, mark);
        return c;
    default:
        errors_add(e, NULL, "disabled or stateful_session is required");
        return NULL;
    }
}

static void free_config(void *config)
{
    struct session_config *c = config;
    stats_scope_free(&c->stats);
}

/* --- the request --- */

/* RFC 6265 section 5.1.4. */
static bool path_fits(struct str cookie, struct str path)
{
    size_t n = 0;
    while (n < path.len && path.p[n] != '?' && path.p[n] != '#')
        n++;
    if (!cookie.len)
        return true;
    if (n < cookie.len || !str_starts(path, cookie))
        return false;
    return n == cookie.len || cookie.p[cookie.len - 1] == '/' || path.p[cookie.len] == '/';
}

static struct str host_of(const struct session_config *c, struct http_filter *f,
                          const struct headers *h)
{
    struct str value = STR_NULL, host = STR_NULL;
    uint64_t now = loop_wall_us(f->stream->worker->loop) / 1000000;
    if (c->kind == SESSION_COOKIE)
        return filter_cookie(h, c->name, &value) ? session_cookie_read(h->arena, value, now) : host;
    const struct header *own = headers_find(h, c->name);
    return own && base64_decode(h->arena, own->value, &host) ? host : STR_NULL;
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct session_config *config = f->config, *own = http_filter_route_config(f);
    const struct session_config *c = own ? own : config;
    struct stream *s = f->stream;
    if (c->kind == SESSION_OFF)
        return FILTER_CONTINUE;
    if (!path_fits(c->path, h->path)) {
        filter_stats_inc(f, config->stats, SESSION_NONE);
        return FILTER_CONTINUE;
    }
    struct session_state *st = ARENA_NEW(h->arena, struct session_state);
    f->state = st;
    st->c = c;
    st->host = host_of(c, f, h);
    if (st->host.len) { /* what is no address is no host of ours either */
        s->override_host = ARENA_NEW(h->arena, struct addr);
        s->override_strict = c->strict;
        if (!addr_parse_ip_port(st->host, s->override_host))
            (void)!addr_parse_pipe(st->host, s->override_host);
    }
    return FILTER_CONTINUE;
}

/* --- the response --- */

static void tell(const struct session_state *st, const struct http_filter *f, struct headers *h,
                 struct str host)
{
    const struct session_config *c = st->c;
    if (c->kind == SESSION_HEADER) {
        headers_set(h, c->name, base64_encode(h->arena, host));
        return;
    }
    uint64_t now = loop_wall_us(f->stream->worker->loop) / 1000000;
    struct str value = session_cookie_write(h->arena, host, c->ttl_s ? now + c->ttl_s : 0);
    headers_add(h, STR("set-cookie"),
                arena_printf(h->arena, "%.*s=\"%.*s\"%.*s", STR_ARG(c->name), STR_ARG(value),
                             STR_ARG(c->suffix)));
}

static enum filter_status on_response_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct session_config *config = f->config;
    struct session_state *st = f->state;
    struct str host = f->stream->info.upstream_host;
    if (!st || st->told)
        return FILTER_CONTINUE;
    st->told = true;
    bool kept = host.len && str_eq(host, st->host);
    if (host.len && !kept)
        tell(st, f, h, host);
    filter_stats_inc(f, config->stats,
                     kept            ? SESSION_ROUTED
                     : st->c->strict ? SESSION_FAILED_CLOSED
                                     : SESSION_FAILED_OPEN);
    return FILTER_CONTINUE;
}

const struct http_filter_ops stateful_session_filter = {
    .name = "envoy.filters.http.stateful_session",
    .type_name = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
    .route_type_name = "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute",
    .compile = compile,
    .compile_route = compile_route,
    .free = free_config,
    .on_request_headers = on_request_headers,
    .on_response_headers = on_response_headers,
};
