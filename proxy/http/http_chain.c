#include "proxy/http/http_chain.h"

#include "base/arena.h"

static int first(const struct http_chain *c, enum http_way way)
{
    return way == HTTP_REQUEST ? 0 : c->num - 1;
}

static int after(enum http_way way, int i)
{
    return way == HTTP_REQUEST ? i + 1 : i - 1;
}

static bool inside(const struct http_chain *c, int i)
{
    return i >= 0 && i < c->num;
}

static void pass_headers(struct http_chain *c, enum http_way way, int i, struct headers *h,
                         bool end);
static void pass_data(struct http_chain *c, enum http_way way, int i, struct buffer *b, bool end);
static void pass_trailers(struct http_chain *c, enum http_way way, int i, struct headers *h);

/* --- what is held --- */

static void hold(struct http_chain *c, enum http_way way, struct http_gate *g, struct buffer *b,
                 bool end)
{
    if (b != &g->held)
        buffer_move(&g->held, b, b->len);
    g->end |= end;
    if (g->held.len > g->limit && !g->source_paused) {
        g->source_paused = true;
        c->ends->pause[way](c->user);
    }
}

/* True: with `more` bytes it is more than may be collected. */
static bool too_large(struct http_chain *c, enum http_way way, struct http_gate *g, size_t more)
{
    if (g->held.len + more <= g->limit)
        return false;
    buffer_cleanup(&g->held);
    c->stopped[way] = true;
    c->ends->too_large[way](c->user);
    return true;
}

static void unpause_source(struct http_chain *c, enum http_way way, struct http_gate *g)
{
    if (!g->source_paused)
        return;
    g->source_paused = false;
    c->ends->resume[way](c->user);
    http_chain_writable(c, way);
}

/* Gives what gate i holds to the next filter. */
static void release(struct http_chain *c, enum http_way way, int i)
{
    struct http_gate *g = &c->gates[way][i];
    struct headers *h = g->headers, *t = g->trailers;
    struct buffer b = g->held;
    bool end = g->end && !t;
    g->state = GATE_OPEN;
    g->headers = NULL;
    g->trailers = NULL;
    g->end = false;
    buffer_init(&g->held);
    if (h)
        pass_headers(c, way, after(way, i), h, end && b.len == 0);
    if (!c->stopped[way] && (b.len || (end && !h)))
        pass_data(c, way, after(way, i), &b, end);
    buffer_cleanup(&b);
    if (!c->stopped[way] && t)
        pass_trailers(c, way, after(way, i), t);
    if (!c->stopped[way])
        unpause_source(c, way, g);
}

/* --- passing --- */

static void pass_headers(struct http_chain *c, enum http_way way, int i, struct headers *h,
                         bool end)
{
    for (; inside(c, i); i = after(way, i)) {
        struct http_filter *f = &c->filters[i];
        struct http_gate *g = &c->gates[way][i];
        enum filter_status (*cb)(struct http_filter *, struct headers *, bool) =
            way == HTTP_REQUEST ? f->ops->on_request_headers : f->ops->on_response_headers;
        enum filter_status st = cb ? cb(f, h, end) : FILTER_CONTINUE;
        if (c->stopped[way])
            return;
        if (st == FILTER_CONTINUE || (st == FILTER_COLLECT && end))
            continue;
        g->headers = h;
        g->end = end;
        g->state = st == FILTER_COLLECT ? GATE_COLLECTING : GATE_PAUSED;
        return;
    }
    c->ends->headers[way](c->user, h, end);
}

/* Body at one open or collecting gate. True: *b goes on to the next filter. */
static bool through(struct http_chain *c, enum http_way way, int i, struct buffer **b, bool end)
{
    struct http_filter *f = &c->filters[i];
    struct http_gate *g = &c->gates[way][i];
    enum filter_status (*cb)(struct http_filter *, struct buffer *, bool) =
        way == HTTP_REQUEST ? f->ops->on_request_data : f->ops->on_response_data;
    if (g->state == GATE_COLLECTING && too_large(c, way, g, (*b)->len))
        return false;
    enum filter_status st = cb ? cb(f, *b, end) : FILTER_CONTINUE;
    if (c->stopped[way])
        return false;
    if (st == FILTER_CONTINUE) {
        struct headers *h = g->headers;
        g->state = GATE_OPEN;
        g->headers = NULL;
        if (g->held.len) {
            buffer_move(&g->held, *b, (*b)->len);
            *b = &g->held;
        }
        if (!h)
            return true;
        bool alone = end && (*b)->len == 0 && !g->added;
        pass_headers(c, way, after(way, i), h, alone);
        return !alone && !c->stopped[way];
    }
    if (st == FILTER_CONSUMED) {
        buffer_drain(*b, (*b)->len);
        return false;
    }
    g->state = st == FILTER_COLLECT && !end ? GATE_COLLECTING : GATE_PAUSED;
    if (st == FILTER_COLLECT) {
        if (too_large(c, way, g, (*b)->len))
            return false;
        buffer_move(&g->held, *b, (*b)->len);
        g->end |= end;
    } else {
        hold(c, way, g, *b, end);
    }
    return false;
}

static void pass_data(struct http_chain *c, enum http_way way, int i, struct buffer *b, bool end)
{
    struct headers *added = NULL;
    int from = i;
    bool on = true;
    for (; inside(c, i) && on; i = after(way, i)) {
        struct http_gate *g = &c->gates[way][i];
        if (g->state == GATE_PAUSED) {
            hold(c, way, g, b, end);
            on = false;
            break;
        }
        on = through(c, way, i, &b, end);
        if (c->stopped[way])
            return;
        if (g->added) { /* they follow what is under way; its end is not the end any more */
            added = g->added;
            g->added = NULL;
            from = after(way, i);
            if (!on) {
                g->trailers = added;
                return;
            }
            end = false;
        }
    }
    if (on)
        c->ends->data[way](c->user, b, end);
    /* What a filter collected has now been given on; the user has drained what it takes. */
    for (int k = 0; k < c->num; k++) {
        if (b == &c->gates[way][k].held && c->gates[way][k].state == GATE_OPEN)
            buffer_drain(b, b->len);
    }
    if (added && !c->stopped[way])
        pass_trailers(c, way, from, added);
}

static void pass_trailers(struct http_chain *c, enum http_way way, int i, struct headers *h)
{
    for (; inside(c, i); i = after(way, i)) {
        struct http_filter *f = &c->filters[i];
        struct http_gate *g = &c->gates[way][i];
        if (g->state == GATE_PAUSED) {
            g->trailers = h;
            return;
        }
        enum filter_status (*cb)(struct http_filter *, struct headers *) =
            way == HTTP_REQUEST ? f->ops->on_request_trailers : f->ops->on_response_trailers;
        enum filter_status st = cb ? cb(f, h) : FILTER_CONTINUE;
        if (c->stopped[way] || st == FILTER_CONSUMED)
            return;
        if (st != FILTER_CONTINUE) {
            g->state = GATE_PAUSED;
            g->trailers = h;
            return;
        }
        if (g->state == GATE_COLLECTING) { /* the body ends here: what was collected goes first */
            g->trailers = h;
            release(c, way, i);
            return;
        }
    }
    c->ends->trailers[way](c->user, h);
}

/* --- the user --- */

void http_chain_init(struct http_chain *c, const struct http_filter_config *configs, size_t num,
                     bool (*wanted)(void *user, const struct http_filter_config *config),
                     const struct http_chain_ends *ends, void *user, struct stream *s,
                     struct arena *a, size_t limit)
{
    c->ends = ends;
    c->user = user;
    if (!num)
        return;
    c->filters = arena_zalloc(a, num * sizeof(*c->filters));
    for (size_t i = 0; i < num; i++) {
        const struct http_filter_config *config = &configs[i];
        if (wanted ? !wanted(user, config) : config->disabled)
            continue;
        c->filters[c->num] = (struct http_filter){
            .ops = config->ops,
            .config = config->config,
            .name = config->name,
            .chain = c,
            .stream = s,
            .index = (uint32_t)c->num,
        };
        c->num++;
    }
    for (int way = 0; way < 2 && c->num; way++) {
        c->gates[way] = arena_zalloc(a, (size_t)c->num * sizeof(**c->gates));
        for (int i = 0; i < c->num; i++) {
            buffer_init(&c->gates[way][i].held);
            c->gates[way][i].limit = limit;
        }
    }
    for (int i = 0; i < c->num; i++) {
        if (c->filters[i].ops->init)
            c->filters[i].ops->init(&c->filters[i]);
    }
}

void http_chain_headers(struct http_chain *c, enum http_way way, struct headers *h, bool end)
{
    c->heads[way] = h;
    if (!c->stopped[way])
        pass_headers(c, way, first(c, way), h, end);
}

void http_chain_data(struct http_chain *c, enum http_way way, struct buffer *b, bool end)
{
    if (!c->stopped[way])
        pass_data(c, way, first(c, way), b, end);
}

void http_chain_trailers(struct http_chain *c, enum http_way way, struct headers *h)
{
    if (!c->stopped[way])
        pass_trailers(c, way, first(c, way), h);
}

void http_chain_writable(struct http_chain *c, enum http_way way)
{
    for (int i = 0; i < c->num && !c->stopped[way]; i++) {
        struct http_filter *f = &c->filters[i];
        void (*cb)(struct http_filter *) = way == HTTP_REQUEST ? f->ops->on_request_writable
                                                               : f->ops->on_response_writable;
        if (cb)
            cb(f);
    }
}

void http_chain_stop(struct http_chain *c, enum http_way way)
{
    c->stopped[way] = true;
    for (int i = 0; i < c->num; i++)
        buffer_cleanup(&c->gates[way][i].held);
}

void http_chain_complete(struct http_chain *c)
{
    int num = c->num;
    http_chain_stop(c, HTTP_REQUEST);
    http_chain_stop(c, HTTP_RESPONSE);
    c->num = 0;
    for (int i = 0; i < num; i++) {
        if (c->filters[i].ops->on_complete)
            c->filters[i].ops->on_complete(&c->filters[i]);
    }
}

/* --- the filters --- */

static void go_on(struct http_filter *f, enum http_way way)
{
    struct http_chain *c = f->chain;
    if (!c->stopped[way] && c->gates[way][f->index].state != GATE_OPEN)
        release(c, way, (int)f->index);
}

void http_filter_continue_request(struct http_filter *f)
{
    go_on(f, HTTP_REQUEST);
}

void http_filter_continue_response(struct http_filter *f)
{
    go_on(f, HTTP_RESPONSE);
}

void http_filter_reply(struct http_filter *f, unsigned status, uint64_t flags, struct str details,
                       struct str body, void (*add)(void *arg, struct headers *h), void *arg)
{
    struct http_chain *c = f->chain;
    http_chain_stop(c, HTTP_REQUEST);
    c->ends->reply(c->user, status, flags, details, body, add, arg);
}

static void inject(struct http_filter *f, enum http_way way, struct buffer *b, bool end)
{
    struct http_chain *c = f->chain;
    struct headers *added = c->stopped[way] ? NULL : c->gates[way][f->index].added;
    if (!c->stopped[way] && (b->len || (end && !added)))
        pass_data(c, way, after(way, (int)f->index), b, end && !added);
    buffer_drain(b, b->len);
    if (!end || !added || c->stopped[way])
        return;
    c->gates[way][f->index].added = NULL;
    pass_trailers(c, way, after(way, (int)f->index), added);
}

/* Full behind the chain, or in one of the filters before its end. */
static bool blocked(const struct http_filter *f, enum http_way way)
{
    const struct http_chain *c = f->chain;
    for (int i = after(way, (int)f->index); inside(c, i); i = after(way, i)) {
        if (c->gates[way][i].source_paused)
            return true;
    }
    return c->ends->blocked[way] && c->ends->blocked[way](c->user);
}

bool http_filter_request_blocked(const struct http_filter *f)
{
    return blocked(f, HTTP_REQUEST);
}

bool http_filter_response_blocked(const struct http_filter *f)
{
    return blocked(f, HTTP_RESPONSE);
}

void http_filter_inject_request(struct http_filter *f, struct buffer *b, bool end)
{
    inject(f, HTTP_REQUEST, b, end);
}

void http_filter_inject_response(struct http_filter *f, struct buffer *b, bool end)
{
    inject(f, HTTP_RESPONSE, b, end);
}

static struct headers *add_trailers(struct http_filter *f, enum http_way way)
{
    struct http_gate *g = &f->chain->gates[way][f->index];
    struct arena *a = f->chain->heads[way]->arena;
    if (!g->added) {
        g->added = ARENA_NEW(a, struct headers);
        headers_init(g->added, a);
    }
    return g->added;
}

struct headers *http_filter_add_request_trailers(struct http_filter *f)
{
    return add_trailers(f, HTTP_REQUEST);
}

struct headers *http_filter_add_response_trailers(struct http_filter *f)
{
    return add_trailers(f, HTTP_RESPONSE);
}

struct headers *http_filter_request(const struct http_filter *f)
{
    return f->chain->heads[HTTP_REQUEST];
}

struct headers *http_filter_response(const struct http_filter *f)
{
    return f->chain->heads[HTTP_RESPONSE];
}

void http_filter_set_request_limit(struct http_filter *f, size_t bytes)
{
    f->chain->gates[HTTP_REQUEST][f->index].limit = bytes;
}

void http_filter_set_response_limit(struct http_filter *f, size_t bytes)
{
    f->chain->gates[HTTP_RESPONSE][f->index].limit = bytes;
}

void http_filter_pause_request_source(struct http_filter *f)
{
    f->chain->ends->pause[HTTP_REQUEST](f->chain->user);
}

void http_filter_resume_request_source(struct http_filter *f)
{
    f->chain->ends->resume[HTTP_REQUEST](f->chain->user);
}

void http_filter_pause_response_source(struct http_filter *f)
{
    f->chain->ends->pause[HTTP_RESPONSE](f->chain->user);
}

void http_filter_resume_response_source(struct http_filter *f)
{
    f->chain->ends->resume[HTTP_RESPONSE](f->chain->user);
}

void http_filter_clear_route(struct http_filter *f)
{
    if (f->chain->ends->clear_route)
        f->chain->ends->clear_route(f->chain->user);
}
