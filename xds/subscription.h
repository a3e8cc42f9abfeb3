/* Subscription: one watcher's interest in one resource. The public functions are in xds.h; here is
 * what the cache uses. Main thread, internal to xds. */
#pragma once

#include "base/list.h"
#include "base/loop.h"
#include "xds/counts.h"
#include "xds/xds.h"

struct xds_resource;

struct subscription {
    struct list link; /* xds_resource.watchers */
    struct xds_resource *resource;
    const struct watcher_ops *ops;
    void *arg;
    void *delivered; /* the object handed over last, with a reference */
    struct task task;
    struct timer timer; /* initial fetch */
    uint64_t timeout_ms;
    bool answered; /* the wait of the start is over: something was told */
    bool error_due, absent_due;
    enum xds_absent absent_why;
    struct xds_counts *counts;
};

enum subscription_news { NEWS_ACCEPTED, NEWS_REJECTED, NEWS_REMOVED };

/* subscription_tell counts the news and posts the watcher's callback. */
void subscription_tell(struct subscription *s, enum subscription_news news);

/* subscription_start_timer starts the initial fetch timer unless it runs, has no length or
 * something was told already. */
void subscription_start_timer(struct subscription *s);
