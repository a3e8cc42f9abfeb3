/* A worker's listeners as main publishes them. Shared by listeners.c (sends) and worker_listeners.c
 * (receives). */
#pragma once

#include "proxy/listener/listener.h"

struct worker;
struct worker_listeners;

enum publish_kind {
    PUBLISH_ADD,     /* `next` accepts */
    PUBLISH_REPLACE, /* `next` takes the place of `old`, whose connections are told to end */
    PUBLISH_REMOVE,  /* `old` accepts no more, its connections are told to end */
    PUBLISH_STOP,    /* `old` accepts no more */
    PUBLISH_DRAIN,   /* connections of `old` are told to end */
    PUBLISH_KILL,    /* connections of `old` are ended */
};

/* worker_listeners_publish tells one worker; takes its own references. Main. */
void worker_listeners_publish(struct worker *w, enum publish_kind kind, struct listener *old,
                              struct listener *next);
