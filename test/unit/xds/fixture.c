/* Included by the tests of xds. A client on a fake clock, with a scripted server in the place of
 * gRPC: what is sent is kept as lines of text ("Cluster v=1 n=a names=x,y node=... err=..."), what
 * the server says is called in. Resource types with an owner that keeps a log of what it was told.
 */
#pragma GCC diagnostic ignored "-Wunused-function" /* no test needs all of it */

#include "api-protos/wire.h"
#include "base/arena.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/random.h"
#include "base/stats.h"
#include "base/utf8.h"
#include "xds/client.h"
#include "xds/discovery.h"
#include "xds/stream.h"
#include "xds/xds.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CDS_URL "type.googleapis.com/envoy.config.cluster.v3.Cluster"
#define EDS_URL "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
#define SDS_URL "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
#define LDS_URL "type.googleapis.com/envoy.config.listener.v3.Listener"

enum { BAD = 666, BAD_APPLY = 667, MAX_CALLS = 64 };

struct fixture;

struct xds_call {
    struct fixture *f;
    const struct xds_call_events *ev;
    void *arg;
    char method[128], authority[64];
    bool receiving, closed, sending;
    struct task sent;
};

struct fixture {
    struct loop *loop;
    struct xds *x;
    struct arena arena;
    struct xds_call *calls[MAX_CALLS];
    size_t num_calls, num_dials;
    bool dial_fails;
    char *lines[1024]; /* requests sent */
    size_t num_lines, next_line;
    char log[8192]; /* what owners and watchers were told */
    size_t num_compiles, num_live;
};

static struct fixture *the_fixture; /* for the transport, which is not told */

/* --- the object that types compile to --------------------------------------------------------- */

struct compiled {
    int refs, value;
    struct fixture *f;
};

static void say(struct fixture *f, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(struct fixture *f, const char *fmt, ...)
{
    size_t len = strlen(f->log);
    va_list ap;
    va_start(ap, fmt);
    if (len && len < sizeof(f->log) - 2)
        f->log[len++] = ' ';
    vsnprintf(f->log + len, sizeof(f->log) - len, fmt, ap);
    va_end(ap);
}

/* The value is the first number in the second field, however deep: seconds of connect_timeout of a
 * Cluster, priority of the endpoints of a ClusterLoadAssignment. */
static int value_of(struct str bytes)
{
    struct wire w;
    struct wire_field fld;
    const char *why;
    int value = 0;
    wire_init(&w, bytes);
    while (wire_next(&w, &fld, &why) == WIRE_FIELD) {
        if (fld.type == WIRE_VARINT)
            value = (int)fld.value;
        else if (fld.number != 1 && fld.type == WIRE_LEN)
            value = value_of(fld.bytes);
    }
    return value;
}

static bool res_name_of(struct str bytes, struct str *out)
{
    return discovery_name_of(bytes, 1, out);
}

static void *res_compile(void *owner, struct str name, struct str bytes, struct errors *e)
{
    struct fixture *f = owner;
    int value = value_of(bytes);
    f->num_compiles++;
    if (value == BAD) {
        size_t mark = errors_push_index(e, "endpoints", 0);
        errors_add(e, "priority", "is the number of the beast");
        errors_pop(e, mark);
        errors_add(e, "policy", "is cursed");
        return NULL;
    }
    struct compiled *c = NEW(struct compiled);
    c->refs = 1;
    c->value = value;
    c->f = f;
    f->num_live++;
    return c;
}

static void res_ref(void *p)
{
    ((struct compiled *)p)->refs++;
}

static void res_unref(void *p)
{
    struct compiled *c = p;
    ck_assert_int_gt(c->refs, 0);
    if (--c->refs)
        return;
    c->f->num_live--;
    mem_free(c);
}

static void res_begin(void *owner)
{
    say(owner, "(");
}

static void res_end(void *owner)
{
    say(owner, ")");
}

static bool res_apply(void *owner, struct str name, void *compiled, struct str version,
                      struct errors *e)
{
    const struct compiled *c = compiled;
    if (c->value == BAD_APPLY) {
        errors_add(e, "address", "is in use");
        return false;
    }
    say(owner, "%.*s=%d@%.*s", STR_ARG(name), c->value, STR_ARG(version));
    return true;
}

static void res_remove(void *owner, struct str name)
{
    say(owner, "-%.*s", STR_ARG(name));
}

#define NAMED_OPS(url, text)                                                                       \
    {                                                                                              \
        .type_url = url, .label = text, .name_of = res_name_of, .compile = res_compile,            \
        .ref = res_ref, .unref = res_unref                                                         \
    }
#define WILD_OPS(url, text)                                                                        \
    {                                                                                              \
        .type_url = url, .label = text, .wildcard = true, .reload_stats = true,                    \
        .name_of = res_name_of, .compile = res_compile, .ref = res_ref, .unref = res_unref,        \
        .begin = res_begin, .end = res_end, .apply = res_apply, .remove = res_remove               \
    }

static const struct resource_ops cds_ops = WILD_OPS(CDS_URL, "cds");
static const struct resource_ops lds_ops = WILD_OPS(LDS_URL, "lds");
static const struct resource_ops eds_ops = NAMED_OPS(EDS_URL, "eds");
static const struct resource_ops sds_ops = NAMED_OPS(SDS_URL, "sds");

/* --- watchers --------------------------------------------------------------------------------- */

struct watcher {
    struct fixture *f;
    const char *id;
    struct subscription *sub;
    bool leave; /* unsubscribes inside the next callback */
};

static void maybe_leave(struct watcher *w)
{
    if (w->leave)
        xds_unsubscribe(&w->sub);
}

static void on_watch_update(void *arg, void *compiled)
{
    struct watcher *w = arg;
    say(w->f, "%s:%d", w->id, ((struct compiled *)compiled)->value);
    maybe_leave(w);
}

static void on_watch_absent(void *arg, enum xds_absent why)
{
    struct watcher *w = arg;
    say(w->f, "%s:absent%d", w->id, (int)why);
    maybe_leave(w);
}

static void on_watch_error(void *arg, struct str text)
{
    struct watcher *w = arg;
    say(w->f, "%s:error{%.*s}", w->id, STR_ARG(text));
    maybe_leave(w);
}

static const struct watcher_ops watch_ops = {on_watch_update, on_watch_absent, on_watch_error};

static void watch(struct watcher *w, struct fixture *f, const char *id,
                  const struct xds_source *src, const struct resource_ops *ops, const char *name)
{
    *w = (struct watcher){.f = f, .id = id};
    struct stats_part parts[] = {{STR("cluster"), NULL}, {str_of(name), "envoy_cluster_name"}};
    struct xds_stats_prefix prefix = {parts, 2};
    w->sub = xds_subscribe(f->x, src, ops, str_of(name), &prefix, &watch_ops, w);
}

static const struct xds_source from_ads = {XDS_SOURCE_ADS, XDS_FETCH_TIMEOUT_MS};

static void on_settled(void *arg)
{
    say(arg, "settled");
}

static void collect(struct fixture *f, const struct resource_ops *ops)
{
    struct stats_part part = {str_of(ops == &cds_ops ? "cluster_manager.cds" : "lds"), NULL};
    struct xds_stats_prefix prefix = {&part, 1};
    xds_collect(f->x, &from_ads, ops, &prefix, on_settled, f);
}

/* --- the transport ---------------------------------------------------------------------------- */

static void *fake_start(struct loop *main, size_t max_message)
{
    return the_fixture;
}

static void fake_stop(void *transport)
{
}

static void on_fake_sent(void *arg)
{
    struct xds_call *c = arg;
    c->sending = false;
    c->ev->on_sent(c->arg);
}

static struct xds_call *fake_open(void *transport, int fd, const struct xds_call_options *o,
                                  const struct xds_call_events *ev, void *arg)
{
    struct fixture *f = transport;
    struct xds_call *c = NEW(struct xds_call);
    c->f = f;
    c->ev = ev;
    c->arg = arg;
    snprintf(c->method, sizeof(c->method), "%s", o->method);
    snprintf(c->authority, sizeof(c->authority), "%.*s", STR_ARG(o->authority));
    task_init(&c->sent, on_fake_sent, c);
    ck_assert_uint_lt(f->num_calls, MAX_CALLS);
    f->calls[f->num_calls++] = c;
    return c;
}

static const char *short_type(struct str url, int *len)
{
    size_t dot = url.len;
    while (dot && url.p[dot - 1] != '.')
        dot--;
    *len = (int)(url.len - dot);
    return url.p + dot;
}

/* DiscoveryRequest as a line. */
static char *request_line(struct fixture *f, struct str bytes)
{
    struct str version = STR_NULL, url = STR_NULL, nonce = STR_NULL, names = STR_NULL;
    struct str error = STR_NULL, node = STR_NULL;
    bool nack = false;
    struct wire w;
    struct wire_field fld, in;
    const char *why;
    wire_init(&w, bytes);
    while (wire_next(&w, &fld, &why) == WIRE_FIELD) {
        switch (fld.number) {
        case 1:
            version = fld.bytes;
            break;
        case 2:
            node = arena_printf(&f->arena, " node=%.*s", STR_ARG(fld.bytes));
            break;
        case 3:
            names = arena_printf(&f->arena, "%.*s%s%.*s", STR_ARG(names), names.len ? "," : "",
                                 STR_ARG(fld.bytes));
            break;
        case 4:
            url = fld.bytes;
            break;
        case 5:
            nonce = fld.bytes;
            break;
        case 6:
            nack = true;
            wire_init(&w, fld.bytes);
            while (wire_next(&w, &in, &why) == WIRE_FIELD) {
                if (in.number == 1)
                    ck_assert_uint_eq(in.value, 13);
                if (in.number == 2)
                    error = in.bytes;
            }
            break;
        }
    }
    int len;
    const char *type = short_type(url, &len);
    struct str line = arena_printf(&f->arena, "%.*s v=%.*s n=%.*s names=%.*s%.*s%s%.*s", len, type,
                                   STR_ARG(version), STR_ARG(nonce), STR_ARG(names), STR_ARG(node),
                                   nack ? " err=" : "", STR_ARG(error));
    return (char *)line.p;
}

static struct str joined(struct fixture *f, struct str list, const char *first, struct str item)
{
    return arena_printf(&f->arena, "%.*s%s%.*s", STR_ARG(list), list.len ? "," : first,
                        STR_ARG(item));
}

/* DeltaDiscoveryRequest as a line: "Cluster n=nonce +new,names -old,names init=name:version". */
static char *delta_line(struct fixture *f, struct str bytes)
{
    struct str url = STR_NULL, nonce = STR_NULL, more = STR_NULL, less = STR_NULL, init = STR_NULL;
    struct str error = STR_NULL, node = STR_NULL;
    struct wire w, inner;
    struct wire_field fld, in;
    const char *why;
    int len;
    wire_init(&w, bytes);
    while (wire_next(&w, &fld, &why) == WIRE_FIELD) {
        struct str part[3] = {STR_NULL, STR_NULL, STR_NULL};
        wire_init(&inner, fld.number == 5 || fld.number == 7 ? fld.bytes : STR_NULL);
        while (wire_next(&inner, &in, &why) == WIRE_FIELD)
            part[in.number] = in.bytes;
        switch (fld.number) {
        case 1:
            node = arena_printf(&f->arena, " node=%.*s", STR_ARG(fld.bytes));
            break;
        case 2:
            url = fld.bytes;
            break;
        case 3:
            more = joined(f, more, " +", fld.bytes);
            break;
        case 4:
            less = joined(f, less, " -", fld.bytes);
            break;
        case 5:
            init = joined(f, init, " init=",
                          arena_printf(&f->arena, "%.*s:%.*s", STR_ARG(part[1]), STR_ARG(part[2])));
            break;
        case 6:
            nonce = fld.bytes;
            break;
        case 7:
            error = arena_printf(&f->arena, " err=%.*s", STR_ARG(part[2]));
            break;
        }
    }
    const char *type = short_type(url, &len);
    struct str line = arena_printf(&f->arena, "%.*s n=%.*s%.*s%.*s%.*s%.*s%.*s", len, type,
                                   STR_ARG(nonce), STR_ARG(more), STR_ARG(less), STR_ARG(init),
                                   STR_ARG(node), STR_ARG(error));
    return (char *)line.p;
}

static void fake_send(struct xds_call *c, struct str bytes)
{
    struct fixture *f = c->f;
    ck_assert(!c->sending);
    ck_assert_uint_lt(f->num_lines, ARRAY_LEN(f->lines));
    c->sending = true;
    f->lines[f->num_lines++] = strstr(c->method, "/Delta") ? delta_line(f, bytes)
                                                           : request_line(f, bytes);
    loop_post(f->loop, &c->sent);
}

static void fake_receive(struct xds_call *c)
{
    ck_assert(!c->receiving);
    c->receiving = true;
}

static void fake_close(struct xds_call *c)
{
    ck_assert(!c->closed);
    c->closed = true;
    task_cancel(&c->sent);
}

static const struct xds_transport_ops fake_transport = {
    .start = fake_start,
    .stop = fake_stop,
    .open = fake_open,
    .send = fake_send,
    .receive = fake_receive,
    .close = fake_close,
};

static int fake_dial(void *arg, struct str cluster, char *why, size_t why_len)
{
    struct fixture *f = arg;
    f->num_dials++;
    snprintf(why, why_len, "no cluster");
    return f->dial_fails ? -1 : 1000;
}

/* --- the test's own steps --------------------------------------------------------------------- */

static void run(struct fixture *f)
{
    while (loop_run_once(f->loop, false))
        ;
}

static void advance(struct fixture *f, uint64_t ms)
{
    loop_advance(f->loop, ms);
    run(f);
}

static void put_varint(struct str *s, struct arena *a, uint64_t v)
{
    for (; v > 127; v >>= 7)
        *s = arena_printf(a, "%.*s%c", STR_ARG(*s), (char)(v & 127) | (char)128);
    char *p = arena_bytes(a, s->len + 1);
    memcpy(p, s->p, s->len);
    p[s->len] = (char)v;
    *s = str_n(p, s->len + 1);
}

/* pb_cat appends a length-delimited field to a serialized message. Binary safe. */
static struct str pb_cat(struct arena *a, struct str s, unsigned field, struct str bytes)
{
    struct str head = STR("");
    put_varint(&head, a, field << 3 | 2);
    put_varint(&head, a, bytes.len);
    char *p = arena_bytes(a, s.len + head.len + bytes.len + 1);
    if (s.len)
        memcpy(p, s.p, s.len);
    memcpy(p + s.len, head.p, head.len);
    if (bytes.len)
        memcpy(p + s.len + head.len, bytes.p, bytes.len);
    return str_n(p, s.len + head.len + bytes.len);
}

/* A resource: the name, and `value` where value_of finds it. Works for the types above. */
static struct str resource(struct fixture *f, const char *url, const char *name, int value)
{
    struct str s = pb_cat(&f->arena, STR_NULL, 1, str_of(name));
    bool is_cds = strcmp(url, CDS_URL) == 0;
    struct str n = str_n(is_cds ? "\x08" : "\x28", 1);
    put_varint(&n, &f->arena, (uint64_t)value);
    if (value)
        s = pb_cat(&f->arena, s, is_cds ? 4 : 2, n);
    return s;
}

static struct str any_of(struct fixture *f, const char *url, struct str bytes)
{
    return pb_cat(&f->arena, pb_cat(&f->arena, STR_NULL, 1, str_of(url)), 2, bytes);
}

struct reply {
    struct fixture *f;
    const char *url;
    struct str bytes;
};

static struct reply reply_new(struct fixture *f, const char *url, const char *version,
                              const char *nonce)
{
    struct reply r = {f, url, STR_NULL};
    r.bytes = pb_cat(&f->arena, r.bytes, 1, str_of(version));
    r.bytes = pb_cat(&f->arena, r.bytes, 4, str_of(url));
    r.bytes = pb_cat(&f->arena, r.bytes, 5, str_of(nonce));
    return r;
}

static void reply_any(struct reply *r, struct str any)
{
    r->bytes = pb_cat(&r->f->arena, r->bytes, 2, any);
}

static void reply_add(struct reply *r, const char *name, int value)
{
    reply_any(r, any_of(r->f, r->url, resource(r->f, r->url, name, value)));
}

static struct xds_call *last_call(struct fixture *f)
{
    ck_assert_uint_gt(f->num_calls, 0);
    return f->calls[f->num_calls - 1];
}

/* The server says it on a stream that waits for it; `run` comes after. */
static void serve_on(struct xds_call *c, struct str bytes)
{
    ck_assert(c->receiving && !c->closed);
    c->receiving = false;
    c->ev->on_message(c->arg, bytes);
    run(c->f);
}

static void serve(struct reply *r)
{
    serve_on(last_call(r->f), r->bytes);
}

/* Pairs of name and value, ended by NULL. */
static void serve_list(struct fixture *f, const char *url, const char *version, const char *nonce,
                       const char *name, ...)
{
    struct reply r = reply_new(f, url, version, nonce);
    va_list ap;
    va_start(ap, name);
    for (; name; name = va_arg(ap, const char *))
        reply_add(&r, name, va_arg(ap, int));
    va_end(ap);
    serve(&r);
}

static void hang_up(struct fixture *f)
{
    struct xds_call *c = last_call(f);
    c->ev->on_close(c->arg, 14, STR("bye"));
    run(f);
}

/* expect_line: the next request sent is this one. expect_silence: none is. */
static void expect_line(struct fixture *f, const char *line)
{
    ck_assert_msg(f->next_line < f->num_lines, "no request, expected: %s", line);
    ck_assert_str_eq(f->lines[f->next_line], line);
    f->next_line++;
}

static void expect_silence(struct fixture *f)
{
    ck_assert_msg(f->next_line == f->num_lines, "unexpected: %s", f->lines[f->next_line]);
}

/* expect_told: since the last time, owners and watchers were told this. */
static void expect_told(struct fixture *f, const char *log)
{
    ck_assert_str_eq(f->log, log);
    f->log[0] = 0;
}

static const struct xds_server ads_server = {.cluster = {"cp", 2}, .node_on_first_only = true};

static void fixture_init_with(struct fixture *f, const struct xds_server *server)
{
    *f = (struct fixture){0};
    the_fixture = f;
    random_seed_for_test(1);
    log_set_all(getenv("XDS_TEST_LOG") ? LOG_LEVEL_TRACE : LOG_LEVEL_OFF);
    stats_init(1);
    f->loop = loop_new(true);
    arena_init(&f->arena, 65536);
    struct xds_options opts = {.node = STR("\n\x02me"), .transport = &fake_transport};
    f->x = xds_new(f->loop, &opts);
    xds_set_dial(f->x, fake_dial, f);
    if (server)
        xds_set_ads(f->x, server);
    xds_register(f->x, &lds_ops, f);
    xds_register(f->x, &eds_ops, f);
    xds_register(f->x, &sds_ops, f);
    xds_register(f->x, &cds_ops, f);
}

static void fixture_init(struct fixture *f)
{
    fixture_init_with(f, &ads_server);
}

static void fixture_cleanup(struct fixture *f)
{
    xds_free(&f->x);
    ck_assert_uint_eq(f->num_live, 0);
    for (size_t i = 0; i < f->num_calls; i++) {
        ck_assert(f->calls[i]->closed);
        mem_free(f->calls[i]);
    }
    loop_free(&f->loop);
    arena_cleanup(&f->arena);
    stats_cleanup();
}

/* test_main runs one suite. */
static int test_main(const char *name, void (*add)(TCase *))
{
    Suite *s = suite_create(name);
    TCase *t = tcase_create(name);
    SRunner *r = srunner_create(s);
    add(t);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
