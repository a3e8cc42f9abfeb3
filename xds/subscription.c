#include "xds/subscription.h"

#include "base/alloc.h"
#include "xds/client.h"
#include "xds/feed.h"
#include "xds/file_source.h"
#include "xds/stream.h"

static struct xds *client_of(const struct subscription *s)
{
    return s->resource->feed->type->x;
}

static bool update_due(const struct subscription *s)
{
    return s->resource->compiled && s->resource->compiled != s->delivered;
}

static void deliver_update(struct subscription *s)
{
    const struct resource_ops *ops = s->resource->feed->type->ops;
    void *old = s->delivered;
    s->delivered = s->resource->compiled;
    ops->ref(s->delivered);
    if (old)
        ops->unref(old);
    s->absent_due = false;
    s->ops->on_update(s->arg, s->delivered); /* may have freed s */
}

/* One callback a run, and that as the last thing done: it may end the subscription. */
static void on_task(void *arg)
{
    struct subscription *s = arg;
    bool update = update_due(s);
    if (update && s->error_due)
        loop_post(client_of(s)->loop, &s->task);
    if (update) {
        deliver_update(s);
        return;
    }
    if (s->error_due) {
        s->error_due = false;
        if (s->ops->on_error)
            s->ops->on_error(s->arg, s->resource->error);
        return;
    }
    if (s->absent_due) {
        s->absent_due = false;
        s->ops->on_absent(s->arg, s->absent_why);
    }
}

static void on_timer(void *arg)
{
    struct subscription *s = arg;
    s->answered = true;
    s->absent_due = true;
    s->absent_why = XDS_ABSENT_TIMEOUT;
    xds_counts_timeout(s->counts);
    if (s->resource->status == XDS_STATUS_REQUESTED)
        s->resource->status = XDS_STATUS_TIMEOUT;
    loop_post(client_of(s)->loop, &s->task);
}

static void count_success(const struct subscription *s)
{
    struct loop *loop = client_of(s)->loop;
    const struct xds_feed *f = s->resource->feed;
    xds_counts_success(s->counts, f->taking, loop_wall_us(loop), loop_now_us(loop) - f->begun_us);
}

void subscription_tell(struct subscription *s, enum subscription_news news)
{
    struct xds *x = client_of(s);
    s->answered = true;
    timer_disarm(&s->timer);
    switch (news) {
    case NEWS_ACCEPTED:
        s->error_due = false;
        count_success(s);
        if (update_due(s))
            xds_counts_reload(s->counts, loop_wall_us(x->loop));
        break;
    case NEWS_REJECTED:
        s->error_due = true;
        xds_counts_rejected(s->counts);
        break;
    case NEWS_REMOVED:
        s->error_due = false;
        s->absent_due = true;
        s->absent_why = XDS_ABSENT_REMOVED;
        count_success(s);
        break;
    }
    if (update_due(s) || s->error_due || s->absent_due)
        loop_post(x->loop, &s->task);
}

void subscription_start_timer(struct subscription *s)
{
    if (!s->answered && s->timeout_ms && !timer_armed(&s->timer))
        timer_arm(&s->timer, s->timeout_ms);
}

struct subscription *xds_subscribe(struct xds *x, const struct xds_source *src,
                                   const struct resource_ops *ops, struct str name,
                                   const struct xds_stats_prefix *prefix,
                                   const struct watcher_ops *w, void *arg)
{
    struct xds_type *type = xds_type_of(x, ops);
    CHECK(!ops->wildcard);
    struct xds_feed *f = xds_feed_for(x, type, src, name, prefix);
    struct xds_resource *r = xds_feed_find(f, name);
    struct subscription *s = NEW(struct subscription);
    if (!r)
        r = xds_feed_add(f, name);
    if (list_empty(&r->watchers)) {
        f->num_watched++;
        xds_feed_changed(f);
    }
    s->resource = r;
    s->ops = w;
    s->arg = arg;
    s->timeout_ms = src->initial_fetch_timeout_ms;
    task_init(&s->task, on_task, s);
    timer_init(&s->timer, x->loop, on_timer, s);
    s->counts = xds_counts_get(&x->counts, prefix, ops->reload_stats);
    if (!f->file) /* a file counts each reading, as in Envoy */
        xds_counts_attempt(s->counts);
    list_push_tail(&r->watchers, &s->link);
    s->error_due = !r->compiled && r->error.len;
    s->absent_due = !r->compiled && r->status == XDS_STATUS_DOES_NOT_EXIST;
    s->absent_why = XDS_ABSENT_REMOVED;
    if (r->compiled || s->error_due || s->absent_due) {
        s->answered = true;
        loop_post(x->loop, &s->task);
    } else if (xds_feed_tried(f)) {
        subscription_start_timer(s);
    }
    return s;
}

void xds_unsubscribe(struct subscription **sp)
{
    struct subscription *s = *sp;
    if (!s)
        return;
    *sp = NULL;
    struct xds_resource *r = s->resource;
    struct xds_feed *f = r->feed;
    task_cancel(&s->task);
    timer_disarm(&s->timer);
    list_remove(&s->link);
    if (s->delivered)
        f->type->ops->unref(s->delivered);
    s->delivered = NULL;
    xds_counts_put(&f->type->x->counts, &s->counts);
    mem_free(s);
    if (!list_empty(&r->watchers))
        return;
    f->num_watched--;
    xds_feed_changed(f);
}

void *xds_subscription_current(const struct subscription *s)
{
    return s->delivered;
}
