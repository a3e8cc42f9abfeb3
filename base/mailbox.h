/* Mailbox: the only way for threads to meet. A lock-free list of messages that the senders embed in
 * their own objects, and an eventfd that wakes the receiver. Messages of one sender arrive in
 * order. */
#pragma once

#include "base/loop.h"
#include <stdatomic.h>

struct message {
    struct message *next;
    void (*deliver)(void *arg); /* runs on the receiver's thread */
    void *arg;
};

struct mailbox {
    _Atomic(struct message *) head;
    struct io_watch watch;
    int fd;
    bool open;
};

/* mailbox_init opens a mailbox read by `l`. Aborts if no eventfd can be had (start-up only). */
void mailbox_init(struct mailbox *m, struct loop *l);

/* mailbox_cleanup delivers what is still in it and closes. Receiver's thread. */
void mailbox_cleanup(struct mailbox *m);

/* mailbox_send hands `msg` to the receiver, which calls deliver(arg) once. The message is borrowed
 * until then. Any thread; never blocks. */
void mailbox_send(struct mailbox *m, struct message *msg);

/* mailbox_call sends a heap message that frees itself after cb(arg) ran. Any thread. */
void mailbox_call(struct mailbox *m, void (*cb)(void *arg), void *arg);
