#include "base/mailbox.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct call {
    struct message msg;
    void (*cb)(void *arg);
    void *arg;
};

static void deliver_all(struct mailbox *m)
{
    struct message *newest = atomic_exchange_explicit(&m->head, NULL, memory_order_acquire);
    struct message *first = NULL;
    while (newest) { /* newest first: turn it round */
        struct message *next = newest->next;
        newest->next = first;
        first = newest;
        newest = next;
    }
    while (first) {
        struct message *msg = first;
        first = first->next;
        msg->next = NULL;
        msg->deliver(msg->arg); /* may free msg */
    }
}

static void on_wake(void *arg, unsigned events)
{
    struct mailbox *m = arg;
    uint64_t n;
    /* Read before taking the list: a message added after the exchange wakes us again. */
    ssize_t r = read(m->fd, &n, sizeof(n));
    (void)r;
    deliver_all(m);
}

void mailbox_init(struct mailbox *m, struct loop *l)
{
    *m = (struct mailbox){.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .open = true};
    CHECK(m->fd >= 0);
    atomic_init(&m->head, NULL);
    io_watch_init_level(&m->watch, l, m->fd, on_wake, m);
}

void mailbox_cleanup(struct mailbox *m)
{
    if (!m->open)
        return;
    deliver_all(m);
    m->open = false;
    io_watch_cleanup(&m->watch);
    close(m->fd);
    m->fd = -1;
}

void mailbox_send(struct mailbox *m, struct message *msg)
{
    struct message *old = atomic_load_explicit(&m->head, memory_order_relaxed);
    do {
        msg->next = old;
    } while (!atomic_compare_exchange_weak_explicit(&m->head, &old, msg, memory_order_release,
                                                    memory_order_relaxed));
    if (old)
        return; /* the receiver was woken for the one before and has not taken the list yet */
    uint64_t one = 1;
    ssize_t r = write(m->fd, &one, sizeof(one));
    (void)r;
}

static void deliver_call(void *arg)
{
    struct call *c = arg;
    void (*cb)(void *) = c->cb;
    void *cb_arg = c->arg;
    mem_free(c);
    cb(cb_arg);
}

void mailbox_call(struct mailbox *m, void (*cb)(void *arg), void *arg)
{
    struct call *c = NEW(struct call);
    c->cb = cb;
    c->arg = arg;
    c->msg = (struct message){.deliver = deliver_call, .arg = c};
    mailbox_send(m, &c->msg);
}
