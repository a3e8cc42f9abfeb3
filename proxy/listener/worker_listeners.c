#include "proxy/listener/worker_listeners.h"

#include "base/log.h"
#include "base/obj.h"
#include "proxy/listener/accept.h"
#include "proxy/listener/listeners.h"
#include "proxy/worker.h"
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ACCEPTOR_MAGIC = 0x41434350, NO_FDS_PAUSE_MS = 100 };

struct acceptor { /* one listener on one worker */
    uint32_t magic;
    struct list link;
    struct worker_listeners *owner;
    struct listener *listener;      /* referenced */
    struct listen_sockets *sockets; /* referenced; NULL: it is only handed connections */
    struct io_watch watch;
    bool draining; /* what comes now is told to end with its first answer */
};

struct worker_listeners {
    struct worker *worker;
    struct list acceptors;
    struct timer resume; /* after running out of descriptors */
    bool paused;
};

/* --- accept --- */

static void pause_all(struct worker_listeners *wl)
{
    if (wl->paused)
        return;
    wl->paused = true;
    LIST_FOREACH(e, &wl->acceptors)
        io_watch_pause(&CONTAINER_OF(e, struct acceptor, link)->watch);
    timer_arm(&wl->resume, NO_FDS_PAUSE_MS);
}

static void on_resume(void *arg)
{
    struct worker_listeners *wl = arg;
    wl->paused = false;
    LIST_FOREACH(e, &wl->acceptors)
        io_watch_resume(&CONTAINER_OF(e, struct acceptor, link)->watch);
}

static void on_acceptable(void *arg, unsigned events)
{
    struct acceptor *a = OBJ_CAST(arg, struct acceptor, ACCEPTOR_MAGIC);
    struct worker *w = a->owner->worker;
    for (uint32_t i = 0; i < a->listener->accepts_per_event; i++) {
        struct sockaddr_storage ss;
        socklen_t len = sizeof(ss);
        int fd = accept4(a->watch.fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                LOG_EVERY(5000, connection, LOG_LEVEL_ERROR,
                          "listener %.*s: cannot accept: %m; pausing for %d ms",
                          STR_ARG(a->listener->name), NO_FDS_PAUSE_MS);
                stats_inc(a->listener->stats, w->index, LISTENER_CX_OVERFLOW);
                pause_all(a->owner);
                return;
            }
            if (errno == ECONNABORTED || errno == EINTR || errno == EPROTO || errno == EPERM)
                continue;
            return;
        }
        struct addr peer;
        if (!addr_from_sockaddr(&peer, (struct sockaddr *)&ss, len))
            peer = (struct addr){0};
        addr_unmap(&peer);
        downstream_accepted(w, a->listener, fd, &peer, a->draining);
    }
}

static void accept_start(struct acceptor *a)
{
    if (!a->sockets)
        return;
    unsigned i = a->owner->worker->index - 1;
    io_watch_init_level(&a->watch, a->owner->worker->loop, a->sockets->fds[i], on_acceptable, a);
    if (a->owner->paused)
        io_watch_pause(&a->watch);
}

/* --- the list --- */

static struct acceptor *find(struct worker_listeners *wl, const struct listener *l)
{
    LIST_FOREACH(e, &wl->acceptors) {
        struct acceptor *a = CONTAINER_OF(e, struct acceptor, link);
        if (a->listener == l)
            return a;
    }
    return NULL;
}

static void add(struct worker_listeners *wl, struct listener *l, struct listen_sockets *sockets)
{
    struct acceptor *a = NEW(struct acceptor);
    a->magic = ACCEPTOR_MAGIC;
    a->owner = wl;
    a->listener = listener_ref(l);
    a->sockets = listen_sockets_ref(sockets);
    list_push_tail(&wl->acceptors, &a->link);
    accept_start(a);
}

static void drop(struct worker_listeners *wl, struct listener *l)
{
    struct acceptor *a = find(wl, l);
    if (!a)
        return;
    io_watch_cleanup(&a->watch);
    list_remove(&a->link);
    listen_sockets_unref(a->sockets);
    listener_unref(a->listener);
    a->magic = 0;
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

static bool is_wildcard_for(const struct listener *l, const struct addr *dst)
{
    if (!addr_is_any(&l->addr) || addr_port(&l->addr) != addr_port(dst))
        return false;
    return addr_family(&l->addr) == addr_family(dst) || addr_family(&l->addr) == ADDR_IPV6;
}

struct listener *worker_listeners_hand_over(struct worker_listeners *wl, const struct addr *dst)
{
    struct listener *wildcard = NULL;
    LIST_FOREACH(e, &wl->acceptors) {
        struct listener *l = CONTAINER_OF(e, struct acceptor, link)->listener;
        if (addr_eq(&l->addr, dst))
            return l;
        if (!wildcard && is_wildcard_for(l, dst))
            wildcard = l;
    }
    return wildcard;
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
    timer_init(&wl->resume, w->loop, on_resume, wl);
    return wl;
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
    mem_free(wl);
}
