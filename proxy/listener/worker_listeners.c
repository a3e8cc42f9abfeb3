#include "proxy/listener/worker_listeners.h"

#include "base/log.h"
#include "base/obj.h"
#include "proxy/listener/accept.h"
#include "proxy/listener/addr_index.h"
#include "proxy/listener/listeners.h"
#include "proxy/server.h"
#include "proxy/worker.h"
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ACCEPTOR_MAGIC = 0x41434350, NO_FDS_PAUSE_MS = 100 };

struct acceptor;

struct accept_socket { /* one address of it */
    uint32_t magic;
    struct acceptor *acceptor;
    struct io_watch watch;
};

struct acceptor { /* one listener on one worker */
    struct list link;
    struct worker_listeners *owner;
    struct listener *listener;      /* referenced */
    struct listen_sockets *sockets; /* referenced; NULL: it is only handed connections */
    struct accept_socket *watched;  /* by address; NULL: another worker accepts, or none */
    bool draining;                  /* what comes now is told to end with its first answer */
};

struct worker_listeners {
    struct worker *worker;
    struct list acceptors;
    struct addr_index by_addr; /* to struct acceptor */
    struct timer resume;       /* after running out of descriptors */
    bool paused;
    bool stopped; /* nothing accepts any more */
};

/* --- accept --- */

static void each_watch(struct worker_listeners *wl, void (*fn)(struct io_watch *w))
{
    LIST_FOREACH(e, &wl->acceptors) {
        struct acceptor *a = CONTAINER_OF(e, struct acceptor, link);
        for (size_t i = 0; a->watched && i < a->sockets->num; i++)
            fn(&a->watched[i].watch);
    }
}

static void pause_all(struct worker_listeners *wl)
{
    if (wl->paused)
        return;
    wl->paused = true;
    each_watch(wl, io_watch_pause);
    timer_arm(&wl->resume, NO_FDS_PAUSE_MS);
}

static void on_resume(void *arg)
{
    struct worker_listeners *wl = arg;
    wl->paused = false;
    each_watch(wl, io_watch_resume);
}

/* A connection that another worker serves (exact_balance). */
struct given {
    struct message msg;
    struct worker *worker;
    struct listener *listener; /* referenced */
    int fd;
    struct addr peer;
    bool draining;
};

static struct acceptor *find(struct worker_listeners *wl, const struct listener *l)
{
    LIST_FOREACH(e, &wl->acceptors) {
        struct acceptor *a = CONTAINER_OF(e, struct acceptor, link);
        if (a->listener == l)
            return a;
    }
    return NULL;
}

/* The listener may have gone meanwhile: then it is one of those that are told to end. */
static void deliver_given(void *arg)
{
    struct given *g = arg;
    struct worker_listeners *wl = g->worker->listeners;
    if (wl)
        downstream_accepted(g->worker, g->listener, g->fd, &g->peer,
                            g->draining || !find(wl, g->listener));
    else
        close(g->fd);
    listener_unref(g->listener);
    mem_free(g);
}

/* The worker with the fewest connections of this listener, where it is counted from now on; `w` if
 * there is nothing to choose. */
static struct worker *least_loaded(struct worker *w, struct listener *l)
{
    if (!l->loads)
        return w;
    unsigned best = w->index - 1, n = w->server->num_workers;
    uint32_t least = atomic_load_explicit(&l->loads[best], memory_order_relaxed);
    for (unsigned i = 0; i < n; i++) {
        uint32_t load = atomic_load_explicit(&l->loads[i], memory_order_relaxed);
        if (load < least) {
            least = load;
            best = i;
        }
    }
    listener_load_inc(l, best + 1);
    return &w->server->workers[best];
}

static void accepted(const struct acceptor *a, int fd, const struct addr *peer)
{
    struct worker *w = a->owner->worker;
    struct worker *to = least_loaded(w, a->listener);
    if (to == w) {
        downstream_accepted(w, a->listener, fd, peer, a->draining);
        return;
    }
    struct given *g = NEW(struct given);
    *g = (struct given){.msg = {.deliver = deliver_given, .arg = g},
                        .worker = to,
                        .listener = listener_ref(a->listener),
                        .fd = fd,
                        .peer = *peer,
                        .draining = a->draining};
    mailbox_send(&to->box, &g->msg);
}

enum accept_result { ACCEPT_ONE, ACCEPT_NONE, ACCEPT_AGAIN, ACCEPT_NO_FDS };

static enum accept_result accept_one(const struct acceptor *a, int listening)
{
    struct sockaddr_storage ss;
    struct addr peer;
    socklen_t len = sizeof(ss);
    int fd = accept4(listening, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            return ACCEPT_NO_FDS;
        bool again = errno == ECONNABORTED || errno == EINTR || errno == EPROTO || errno == EPERM;
        return again ? ACCEPT_AGAIN : ACCEPT_NONE;
    }
    if (!addr_from_sockaddr(&peer, (struct sockaddr *)&ss, len))
        peer = (struct addr){0};
    addr_unmap(&peer);
    accepted(a, fd, &peer);
    return ACCEPT_ONE;
}

static void on_acceptable(void *arg, unsigned events)
{
    struct accept_socket *s = OBJ_CAST(arg, struct accept_socket, ACCEPTOR_MAGIC);
    struct acceptor *a = s->acceptor;
    struct worker *w = a->owner->worker;
    uint32_t taken = 0;
    for (uint32_t i = 0; i < a->listener->accepts_per_event; i++) {
        enum accept_result r = accept_one(a, s->watch.fd);
        taken += r == ACCEPT_ONE;
        if (r == ACCEPT_NO_FDS) {
            LOG_EVERY(5000, connection, LOG_LEVEL_ERROR,
                      "listener %.*s: cannot accept: %m; pausing for %d ms",
                      STR_ARG(a->listener->name), NO_FDS_PAUSE_MS);
            stats_inc(a->listener->stats, w->index, LISTENER_CX_OVERFLOW);
            pause_all(a->owner);
        }
        if (r == ACCEPT_NONE || r == ACCEPT_NO_FDS)
            break;
    }
    if (taken)
        stats_record(a->listener->stats, w->index, LISTENER_ACCEPTS, taken);
}

static void accept_start(struct acceptor *a)
{
    unsigned index = a->owner->worker->index;
    if (!a->sockets || a->owner->stopped ||
        (a->listener->loads && a->listener->accept_worker != index))
        return;
    a->watched = mem_zalloc(a->sockets->num * sizeof(*a->watched));
    for (size_t i = 0; i < a->sockets->num; i++) {
        struct accept_socket *s = &a->watched[i];
        s->magic = ACCEPTOR_MAGIC;
        s->acceptor = a;
        io_watch_init_level(&s->watch, a->owner->worker->loop, a->sockets->v[i].fds[index - 1],
                            on_acceptable, s);
        if (a->owner->paused)
            io_watch_pause(&s->watch);
    }
}

static void accept_stop(struct acceptor *a)
{
    for (size_t i = 0; a->watched && i < a->sockets->num; i++) {
        io_watch_cleanup(&a->watched[i].watch);
        a->watched[i].magic = 0;
    }
    mem_free(a->watched);
    a->watched = NULL;
}

/* --- the list --- */

static void add(struct worker_listeners *wl, struct listener *l, struct listen_sockets *sockets)
{
    struct acceptor *a = NEW(struct acceptor);
    a->owner = wl;
    a->listener = listener_ref(l);
    a->sockets = listen_sockets_ref(sockets);
    list_push_tail(&wl->acceptors, &a->link);
    for (size_t i = 0; i < l->num_addresses; i++)
        (void)addr_index_put(&wl->by_addr, &l->addresses[i].addr, a);
    accept_start(a);
}

static void drop(struct worker_listeners *wl, struct listener *l)
{
    struct acceptor *a = find(wl, l);
    if (!a)
        return;
    accept_stop(a);
    for (size_t i = 0; i < l->num_addresses; i++)
        addr_index_remove(&wl->by_addr, &l->addresses[i].addr, a);
    list_remove(&a->link);
    listen_sockets_unref(a->sockets);
    listener_unref(a->listener);
    mem_free(a);
}

static void drain(struct worker_listeners *wl, const struct listener *l)
{
    struct acceptor *a = find(wl, l);
    if (a)
        a->draining = true;
}

static void each_downstream(struct worker *w, const struct listener *l,
                            void (*fn)(struct downstream *d))
{
    LIST_FOREACH_SAFE(e, &w->downstreams) {
        struct downstream *d = CONTAINER_OF(e, struct downstream, link);
        if (d->listener == l)
            fn(d);
    }
}

struct listener *worker_listeners_hand_over(struct worker_listeners *wl, const struct addr *dst)
{
    struct acceptor *a = addr_index_cover(&wl->by_addr, dst);
    return a ? a->listener : NULL;
}

/* --- messages --- */

struct publish {
    struct message msg;
    struct worker *worker;
    enum publish_kind kind;
    struct listener *old, *next;
    struct listen_sockets *sockets; /* of next */
};

static void deliver(void *arg)
{
    struct publish *p = arg;
    struct worker *w = p->worker;
    struct worker_listeners *wl = w->listeners;
    switch (p->kind) {
    case PUBLISH_ADD:
        add(wl, p->next, p->sockets);
        break;
    case PUBLISH_REPLACE:
        add(wl, p->next, p->sockets);
        drop(wl, p->old);
        each_downstream(w, p->old, downstream_drain);
        break;
    case PUBLISH_REMOVE:
        drop(wl, p->old);
        each_downstream(w, p->old, downstream_drain);
        break;
    case PUBLISH_STOP:
        drop(wl, p->old);
        break;
    case PUBLISH_DRAIN:
        drain(wl, p->old);
        each_downstream(w, p->old, downstream_drain);
        break;
    case PUBLISH_KILL:
        each_downstream(w, p->old, downstream_kill);
        break;
    }
    listener_unref(p->old);
    listener_unref(p->next);
    listen_sockets_unref(p->sockets);
    mem_free(p);
}

void worker_listeners_publish(struct worker *w, enum publish_kind kind, struct listener *old,
                              struct listener *next)
{
    struct publish *p = NEW(struct publish);
    p->worker = w;
    p->kind = kind;
    p->old = listener_ref(old);
    p->next = listener_ref(next);
    p->sockets = next ? listen_sockets_ref(next->sockets) : NULL;
    p->msg = (struct message){.deliver = deliver, .arg = p};
    mailbox_send(&w->box, &p->msg);
}

struct worker_listeners *worker_listeners_new(struct worker *w)
{
    struct worker_listeners *wl = NEW(struct worker_listeners);
    wl->worker = w;
    list_init(&wl->acceptors);
    addr_index_init(&wl->by_addr);
    timer_init(&wl->resume, w->loop, on_resume, wl);
    return wl;
}

void worker_listeners_stop(struct worker_listeners *wl)
{
    LIST_FOREACH(e, &wl->acceptors)
        accept_stop(CONTAINER_OF(e, struct acceptor, link));
    wl->stopped = true;
}

void worker_listeners_free(struct worker_listeners **wlp)
{
    struct worker_listeners *wl = *wlp;
    if (!wl)
        return;
    *wlp = NULL;
    timer_disarm(&wl->resume);
    while (!list_empty(&wl->acceptors))
        drop(wl, CONTAINER_OF(wl->acceptors.next, struct acceptor, link)->listener);
    /* Connections that are left end here. */
    LIST_FOREACH_SAFE(e, &wl->worker->downstreams) {
        struct downstream *d = CONTAINER_OF(e, struct downstream, link);
        if (d->filter)
            conn_close(&d->conn, CONN_CLOSE_NOW, 0);
        else
            downstream_kill(d);
    }
    for (int i = 0; i < 100 && !list_empty(&wl->worker->downstreams); i++)
        loop_run_once(wl->worker->loop, false);
    addr_index_cleanup(&wl->by_addr);
    mem_free(wl);
}
