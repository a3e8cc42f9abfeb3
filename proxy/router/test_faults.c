#include "proxy/router/test_faults.h"

#ifdef ATTACHE_TEST_HOOKS
#include "proxy/router/router_private.h"
#include <sys/socket.h>

/* X(id, "name"): what goes wrong. */
#define FAULT_KINDS(X)                                                                             \
    X(CONNECT_FAILED, "connect-failed")                                                            \
    X(CONNECT_TIMEOUT, "connect-timeout")                                                          \
    X(OVERFLOW, "overflow")                                                                        \
    X(UPSTREAM_CLOSE, "upstream-close")                                                            \
    X(UPSTREAM_RESET, "upstream-reset")                                                            \
    X(CLIENT_CLOSE, "client-close")                                                                \
    X(CLIENT_RESET, "client-reset")                                                                \
    X(TIMEOUT, "timeout")                                                                          \
    X(PER_TRY, "per-try")                                                                          \
    X(PER_TRY_IDLE, "per-try-idle")                                                                \
    X(MAX_DURATION, "max-duration")                                                                \
    X(BACKOFF_OVER, "backoff-over")                                                                \
    X(IDLE, "idle")                                                                                \
    X(STREAM_DURATION, "stream-duration")                                                          \
    X(LOCAL_REPLY, "local-reply")                                                                  \
    X(ALL_TIMERS, "all-timers")                                                                    \
    X(ALL_TIMERS_BACKWARDS, "all-timers-backwards")

enum fault_kind {
#define X(id, name) KIND_##id,
    FAULT_KINDS(X)
#undef X
        NUM_KINDS
};

struct test_fault {
    struct router *router;
    struct upstream_request *u;
    struct task task;
    struct str text; /* "POINT:KIND" */
    enum test_fault_point point;
    enum fault_kind kind;
    uint64_t left; /* times until it happens; 0: it has happened */
};

static const char *const points[] = {
#define X(id, name) name,
    TEST_FAULT_POINTS(X)
#undef X
};

static const char *const kinds[] = {
#define X(id, name) name,
    FAULT_KINDS(X)
#undef X
};

static size_t find(const char *const *names, size_t n, struct str name)
{
    size_t i = 0;
    while (i < n && !str_eq(str_of(names[i]), name))
        i++;
    return i;
}

static bool still_there(const struct router *r, const struct upstream_request *u)
{
    for (const struct upstream_request *it = r->up; it; it = it->next) {
        if (it == u)
            return !u->over;
    }
    return false;
}

static bool fire(struct timer *t)
{
    if (!timer_armed(t))
        return false;
    timer_disarm(t);
    t->cb(t->arg);
    return true;
}

/* All that is armed, in one turn: each may end what the next one belongs to. */
static bool fire_all(struct router *r, bool backwards)
{
    struct stream *s = r->stream;
    bool any = false;
    for (size_t i = 0; i < 7; i++) {
        struct upstream_request *u = r->up;
        struct timer *timers[] = {&r->backoff,
                                  u ? &u->per_try : NULL,
                                  u ? &u->per_try_idle : NULL,
                                  u ? &u->max_duration : NULL,
                                  &r->timeout,
                                  &s->idle,
                                  &s->max_duration};
        struct timer *t = timers[backwards ? 6 - i : i];
        if (s->state == STREAM_DONE || !r->cluster)
            break;
        any |= t && fire(t);
    }
    return any;
}

static bool client_gone(struct stream *s, bool reset)
{
    if (!s->down)
        return false;
    if (reset)
        conn_close(&s->hc->down->conn, CONN_CLOSE_RESET, 0);
    else
        shutdown(s->hc->down->conn.fd, SHUT_RDWR);
    return true;
}

static bool upstream_gone(struct upstream_request *u, bool reset)
{
    if (!u || !u->pc)
        return false;
    if (reset)
        conn_close(&u->pc->conn, CONN_CLOSE_RESET, 0);
    else
        shutdown(u->pc->conn.fd, SHUT_RDWR);
    return true;
}

static bool pool_fails(struct upstream_request *u, enum pool_result result)
{
    if (!u || u->cs)
        return false;
    pool_slot_cb cb = u->slot.cb;
    pool_cancel(&u->slot);
    cb(u, NULL, result, STR("injected"));
    return true;
}

static bool happen(struct test_fault *f, struct upstream_request *u)
{
    struct router *r = f->router;
    struct stream *s = r->stream;
    switch (f->kind) {
    case KIND_CONNECT_FAILED:
        return pool_fails(u, POOL_CONNECT_FAILED);
    case KIND_CONNECT_TIMEOUT:
        return pool_fails(u, POOL_CONNECT_TIMEOUT);
    case KIND_OVERFLOW:
        return pool_fails(u, POOL_OVERFLOW);
    case KIND_UPSTREAM_CLOSE:
    case KIND_UPSTREAM_RESET:
        return upstream_gone(u, f->kind == KIND_UPSTREAM_RESET);
    case KIND_CLIENT_CLOSE:
    case KIND_CLIENT_RESET:
        return client_gone(s, f->kind == KIND_CLIENT_RESET);
    case KIND_TIMEOUT:
        return fire(&r->timeout);
    case KIND_PER_TRY:
        return u && fire(&u->per_try);
    case KIND_PER_TRY_IDLE:
        return u && fire(&u->per_try_idle);
    case KIND_MAX_DURATION:
        return u && fire(&u->max_duration);
    case KIND_BACKOFF_OVER:
        return fire(&r->backoff);
    case KIND_IDLE:
        return fire(&s->idle);
    case KIND_STREAM_DURATION:
        return fire(&s->max_duration);
    case KIND_LOCAL_REPLY:
        stream_local_reply(s, 500, 0, STR("injected"), STR("injected"));
        return true;
    case KIND_ALL_TIMERS:
    case KIND_ALL_TIMERS_BACKWARDS:
        return fire_all(r, f->kind == KIND_ALL_TIMERS_BACKWARDS);
    case NUM_KINDS:
        break;
    }
    return false;
}

static void run(void *arg)
{
    struct test_fault *f = arg;
    struct router *r = f->router;
    if (!r->cluster || r->stream->state == STREAM_DONE)
        return;
    struct stats_scope *scope = r->cluster->stats;
    unsigned thread = r->stream->worker->index;
    struct str text = f->text; /* in the stream's arena, which lasts for the turn */
    if (happen(f, still_there(r, f->u) ? f->u : NULL))
        stats_count_name(scope, thread, "test_fault.", text);
}

void test_fault_init(struct router *r)
{
    struct stream *s = r->stream;
    struct str name = STR("x-attache-test-fault"), rest, point, kind, times;
    struct header *h = headers_find(s->request, name);
    if (!h)
        return;
    rest = h->value;
    headers_remove(s->request, name);
    if (!str_next(&rest, ':', &point) || !str_next(&rest, ':', &kind) ||
        !str_next(&rest, ':', &times))
        return;
    struct test_fault *f = ARENA_NEW(s->arena, struct test_fault);
    size_t p = find(points, ARRAY_LEN(points), point), k = find(kinds, ARRAY_LEN(kinds), kind);
    if (p == ARRAY_LEN(points) || k == ARRAY_LEN(kinds) || !str_to_u64(times, &f->left))
        return;
    f->router = r;
    f->point = (enum test_fault_point)p;
    f->kind = (enum fault_kind)k;
    f->text = arena_printf(s->arena, "%.*s:%.*s", STR_ARG(point), STR_ARG(kind));
    task_init(&f->task, run, f);
    r->fault = f;
}

void test_fault_end(struct router *r)
{
    if (r->fault)
        task_cancel(&r->fault->task);
}

void test_fault(struct router *r, struct upstream_request *u, enum test_fault_point point)
{
    struct test_fault *f = r->fault;
    if (!f || f->point != point || !f->left || --f->left)
        return;
    f->u = u;
    loop_post(r->stream->worker->loop, &f->task);
}
#endif
