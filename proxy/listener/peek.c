#include "proxy/listener/accept.h"

#include "base/obj.h"
#include "proxy/listener/listener_filter.h"
#include "proxy/worker.h"
#include <errno.h>
#include <sys/socket.h>

enum { PEEK_MAGIC = 0x5045454b };

struct peek {
    uint32_t magic;
    struct downstream *d;
    struct io_watch watch;
    struct timer timer;
    size_t at; /* the filter whose turn it is */
    char *bytes;
    size_t cap;
    size_t seen;
    size_t need; /* it must see so many; 0: any */
    bool begun;  /* it has looked already */
    bool waiting;
    void (*done)(struct downstream *d, enum peek_result r);
};

void peek_stop(struct downstream *d)
{
    struct peek *p = d->peek;
    if (!p)
        return;
    d->peek = NULL;
    p->magic = 0;
    if (p->waiting) {
        timer_disarm(&p->timer);
        io_watch_cleanup(&p->watch);
    }
    mem_free(p->bytes);
    p->bytes = NULL;
}

/* --- bytes --- */

static void make_room(struct peek *p, size_t want)
{
    if (want > PEEK_MAX)
        want = PEEK_MAX;
    if (want <= p->cap)
        return;
    p->bytes = mem_realloc(p->bytes, want);
    p->cap = want;
}

/* PEEK_DONE: there are more bytes than before. */
static enum peek_result fill(struct peek *p)
{
    ssize_t n;
    do
        n = recv(p->d->accepted_fd, p->bytes, p->cap, MSG_PEEK | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? PEEK_WAITING : PEEK_ERROR;
    if (n == 0)
        return PEEK_CLOSED;
    if ((size_t)n <= p->seen)
        return PEEK_WAITING;
    p->seen = (size_t)n;
    return PEEK_DONE;
}

/* What a filter has used up; it was seen, so it is there. */
static enum peek_result take(struct peek *p, size_t len)
{
    while (len) {
        ssize_t n = recv(p->d->accepted_fd, p->bytes, len < p->cap ? len : p->cap, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return PEEK_ERROR;
        len -= (size_t)n;
    }
    p->seen = 0;
    return PEEK_DONE;
}

/* --- filters --- */

/* One look of the filter; PEEK_DONE: it has finished. */
static enum peek_result run_one(struct peek *p, const struct listener_filter *f)
{
    for (;;) {
        struct listener_filter_look l = {.bytes = str_n(p->bytes, p->seen)};
        bool enough = !f->ops->first || (p->seen && p->seen >= p->need);
        enum listener_filter_result r = enough ? f->ops->look(f->config, p->d, &l)
                                               : LISTENER_FILTER_MORE;
        if (r == LISTENER_FILTER_CLOSE)
            return PEEK_REFUSED;
        if (r == LISTENER_FILTER_NEXT)
            return l.take ? take(p, l.take) : PEEK_DONE;
        if (enough)
            p->need = l.need;
        /* Twice as much each time: what comes a byte at a time is not copied anew each time. */
        make_room(p, p->need > p->seen ? p->need : 0);
        if (p->seen == p->cap)
            make_room(p, 2 * p->cap);
        if (p->seen == p->cap)
            return PEEK_REFUSED;
        enum peek_result got = fill(p);
        if (got != PEEK_DONE)
            return got;
    }
}

static enum peek_result run(struct peek *p)
{
    const struct listener *l = p->d->listener;
    for (; p->at < l->num_filters; p->at++) {
        const struct listener_filter *f = &l->filters[p->at];
        /* A filter that has begun is not asked again: its own doing may have changed the address.
         */
        if (!p->begun && listener_filter_disabled(f, &p->d->info.local))
            continue;
        p->begun = true;
        if (f->ops->first)
            make_room(p, f->ops->first(f->config));
        enum peek_result r = run_one(p, f);
        if (r != PEEK_DONE)
            return r;
        p->need = 0;
        p->begun = false;
    }
    return PEEK_DONE;
}

/* --- waiting --- */

static void finish(struct peek *p, enum peek_result r)
{
    struct downstream *d = p->d;
    void (*done)(struct downstream *, enum peek_result) = p->done;
    peek_stop(d);
    done(d, r);
}

static void on_io(void *arg, unsigned events)
{
    struct peek *p = OBJ_CAST(arg, struct peek, PEEK_MAGIC);
    enum peek_result r = events & (IO_READ | IO_CLOSED) ? run(p) : PEEK_WAITING;
    if (r == PEEK_WAITING && (events & IO_CLOSED))
        r = PEEK_CLOSED; /* nothing more will come */
    if (r != PEEK_WAITING)
        finish(p, r);
}

static void on_timer(void *arg)
{
    finish(OBJ_CAST(arg, struct peek, PEEK_MAGIC), PEEK_TIMEOUT);
}

static void wait_for_more(struct peek *p)
{
    struct loop *l = p->d->worker->loop;
    uint64_t ms = p->d->listener->filters_timeout_ms;
    p->waiting = true;
    timer_init(&p->timer, l, on_timer, p);
    if (ms)
        timer_arm(&p->timer, ms);
    io_watch_init(&p->watch, l, p->d->accepted_fd, on_io, p);
}

enum peek_result peek_start(struct downstream *d,
                            void (*done)(struct downstream *d, enum peek_result r))
{
    if (!d->listener->num_filters)
        return PEEK_DONE;
    struct peek *p = ARENA_NEW(d->arena, struct peek);
    p->magic = PEEK_MAGIC;
    p->d = d;
    p->done = done;
    d->peek = p;
    enum peek_result r = run(p);
    if (r == PEEK_WAITING)
        wait_for_more(p);
    else
        peek_stop(d);
    return r;
}
