#include "xds/feed.h"

#include "api-protos/message.h"
#include "base/alloc.h"
#include "base/log.h"
#include "xds/client.h"
#include "xds/subscription.h"
#include <stdlib.h>

void xds_text_set(struct str *t, struct str value)
{
    char *copy = value.len ? mem_strndup(value.p, value.len) : NULL;
    mem_free((char *)t->p);
    *t = str_n(copy, value.len);
}

static void text_wipe(struct str *t)
{
    if (t->p)
        explicit_bzero((char *)t->p, t->len);
    xds_text_set(t, STR_NULL);
}

/* --- the table of resources --------------------------------------------------------------------
 */

struct xds_resource *xds_feed_find(const struct xds_feed *f, struct str name)
{
    return map_get(&f->resources, name);
}

struct xds_resource *xds_feed_add(struct xds_feed *f, struct str name)
{
    struct xds_resource *r = NEW(struct xds_resource);
    r->feed = f;
    list_init(&r->watchers);
    xds_text_set(&r->name, name);
    r->status = XDS_STATUS_REQUESTED;
    map_put(&f->resources, r->name, r);
    return r;
}

static void resource_free(void *value)
{
    struct xds_resource *r = value;
    const struct resource_ops *ops = r->feed->type->ops;
    CHECK(list_empty(&r->watchers));
    xds_resource_expire(r, 0);
    if (r->compiled)
        ops->unref(r->compiled);
    r->compiled = NULL;
    if (ops->sensitive) {
        text_wipe(&r->bytes);
        text_wipe(&r->error_bytes);
    }
    xds_text_set(&r->name, STR_NULL);
    xds_text_set(&r->bytes, STR_NULL);
    xds_text_set(&r->version, STR_NULL);
    xds_text_set(&r->error, STR_NULL);
    xds_text_set(&r->error_version, STR_NULL);
    xds_text_set(&r->error_bytes, STR_NULL);
    mem_free(r);
}

void xds_feed_drop(struct xds_feed *f, struct xds_resource *r)
{
    map_remove(&f->resources, r->name);
    resource_free(r);
}

/* next_resource steps through a feed; *it starts at 0. The current one may be dropped. */
static struct xds_resource *next_resource(const struct xds_feed *f, size_t *it)
{
    struct str name;
    void *value;
    return map_next(&f->resources, it, &name, &value) ? value : NULL;
}

void xds_feed_reap(struct xds_feed *f)
{
    struct xds_resource *r;
    size_t it = 0;
    if (f->collects || f->num_watched == map_count(&f->resources))
        return;
    while ((r = next_resource(f, &it)) != NULL) {
        if (list_empty(&r->watchers) && !r->is_static)
            xds_feed_drop(f, r);
    }
}

static int by_name(const void *a, const void *b)
{
    const struct xds_resource *const *x = a, *const *y = b;
    return str_cmp((*x)->name, (*y)->name);
}

struct xds_resource **xds_feed_sorted(const struct xds_feed *f, struct arena *a, size_t *num)
{
    struct xds_resource **all = arena_alloc(a, (map_count(&f->resources) + 1) * sizeof(*all)), *r;
    size_t n = 0, it = 0;
    while ((r = next_resource(f, &it)) != NULL)
        all[n++] = r;
    qsort(all, n, sizeof(*all), by_name);
    *num = n;
    return all;
}

/* --- the feed ----------------------------------------------------------------------------------
 */

static void on_settled(void *arg)
{
    struct xds_feed *f = arg;
    if (f->settled)
        f->settled(f->settled_arg);
}

static void on_fetch_timer(void *arg)
{
    struct xds_feed *f = arg;
    xds_counts_timeout(f->counts);
    xds_feed_settle(f);
}

struct xds_feed *xds_feed_new(struct xds_type *type)
{
    struct xds_feed *f = NEW(struct xds_feed);
    f->type = type;
    map_init(&f->resources, false);
    list_push_tail(&type->feeds, &f->link);
    task_init(&f->settled_task, on_settled, f);
    timer_init(&f->fetch_timer, type->x->loop, on_fetch_timer, f);
    return f;
}

void xds_feed_free(struct xds_feed *f)
{
    map_cleanup(&f->resources, resource_free);
    task_cancel(&f->settled_task);
    timer_disarm(&f->fetch_timer);
    xds_counts_put(&f->type->x->counts, &f->counts);
    xds_text_set(&f->version, STR_NULL);
    xds_text_set(&f->nonce, STR_NULL);
    xds_text_set(&f->nack, STR_NULL);
    list_remove(&f->stream_link);
    list_remove(&f->link);
    mem_free(f);
}

bool xds_feed_wanted(const struct xds_feed *f)
{
    return f->collects || f->num_watched;
}

void xds_feed_start_timers(struct xds_feed *f)
{
    struct xds_resource *r;
    size_t pos = 0;
    if (f->collects && !f->is_settled && f->fetch_timeout_ms && !timer_armed(&f->fetch_timer))
        timer_arm(&f->fetch_timer, f->fetch_timeout_ms);
    while ((r = next_resource(f, &pos)) != NULL) {
        LIST_FOREACH(it, &r->watchers)
            subscription_start_timer(CONTAINER_OF(it, struct subscription, link));
    }
}

void xds_feed_settle(struct xds_feed *f)
{
    if (!f->collects || f->is_settled)
        return;
    f->is_settled = true;
    timer_disarm(&f->fetch_timer);
    loop_post(f->type->x->loop, &f->settled_task);
}

void xds_feed_failed(struct xds_feed *f)
{
    struct xds_resource *r;
    size_t pos = 0;
    if (f->collects)
        xds_counts_failure(f->counts);
    while ((r = next_resource(f, &pos)) != NULL) {
        LIST_FOREACH(it, &r->watchers)
            xds_counts_failure(CONTAINER_OF(it, struct subscription, link)->counts);
    }
}

void xds_feed_updated(struct xds_feed *f, struct str version, bool accepted, bool changed)
{
    struct loop *loop = f->type->x->loop;
    if (!f->collects)
        return;
    if (accepted)
        xds_counts_success(f->counts, version, loop_wall_us(loop), loop_now_us(loop) - f->begun_us);
    else
        xds_counts_rejected(f->counts);
    if (accepted && changed)
        xds_counts_reload(f->counts, loop_wall_us(loop));
    xds_feed_settle(f);
}

/* --- one resource ------------------------------------------------------------------------------
 */

static uint64_t wall_us(const struct xds_resource *r)
{
    return loop_wall_us(r->feed->type->x->loop);
}

bool xds_resource_same(const struct xds_resource *r, struct str canonical, uint64_t hash)
{
    return r->has_bytes && r->hash == hash && str_eq(r->bytes, canonical);
}

static void forget_error(struct xds_resource *r)
{
    if (r->feed->type->ops->sensitive)
        text_wipe(&r->error_bytes);
    xds_text_set(&r->error, STR_NULL);
    xds_text_set(&r->error_version, STR_NULL);
    xds_text_set(&r->error_bytes, STR_NULL);
    r->status = XDS_STATUS_ACKED;
}

static void tell_watchers(struct xds_resource *r, enum subscription_news news)
{
    LIST_FOREACH(it, &r->watchers)
        subscription_tell(CONTAINER_OF(it, struct subscription, link), news);
}

void xds_resource_accept(struct xds_resource *r, struct str canonical, uint64_t hash,
                         struct str version, void *compiled)
{
    const struct resource_ops *ops = r->feed->type->ops;
    if (ops->sensitive)
        text_wipe(&r->bytes);
    xds_text_set(&r->bytes, canonical);
    xds_text_set(&r->version, version);
    r->hash = hash;
    r->has_bytes = true;
    r->updated_us = wall_us(r);
    if (r->compiled)
        ops->unref(r->compiled);
    r->compiled = compiled;
    forget_error(r);
    tell_watchers(r, NEWS_ACCEPTED);
}

void xds_resource_unchanged(struct xds_resource *r, struct str version)
{
    if (!str_eq(r->version, version))
        xds_text_set(&r->version, version);
    forget_error(r);
    tell_watchers(r, NEWS_ACCEPTED);
}

void xds_resource_reject(struct xds_resource *r, struct str bytes, struct str version,
                         struct str text)
{
    if (r->feed->type->ops->sensitive)
        text_wipe(&r->error_bytes);
    xds_text_set(&r->error, text);
    xds_text_set(&r->error_version, version);
    xds_text_set(&r->error_bytes, bytes);
    r->error_us = wall_us(r);
    r->status = XDS_STATUS_NACKED;
    tell_watchers(r, NEWS_REJECTED);
}

static void remove_collected(struct xds_resource *r)
{
    struct xds_feed *f = r->feed;
    if (r->has_bytes)
        f->type->ops->remove(f->type->owner, r->name);
    xds_feed_drop(f, r);
}

/* Endpoints, routes and secrets outlive their removal, as in Envoy: what is in use stays. */
static void remove_named(struct xds_resource *r)
{
    if (r->status == XDS_STATUS_DOES_NOT_EXIST)
        return;
    forget_error(r);
    r->status = XDS_STATUS_DOES_NOT_EXIST;
    tell_watchers(r, NEWS_REMOVED);
}

void xds_resource_remove(struct xds_resource *r)
{
    xds_resource_expire(r, 0);
    if (r->feed->collects)
        remove_collected(r);
    else
        remove_named(r);
}

/* --- time to live ------------------------------------------------------------------------------
 */

/* While a response is taken in its owner is inside begin and end: the next turn will do. */
static void on_expired(void *arg)
{
    struct xds_resource *r = arg;
    struct xds_feed *f = r->feed;
    const struct resource_ops *ops = f->type->ops;
    if (f->is_taking) {
        timer_arm(r->ttl, 1);
        return;
    }
    LOG_INFO(config, "%s: the time of %.*s is over", ops->label, STR_ARG(r->name));
    if (f->collects && ops->begin)
        ops->begin(f->type->owner);
    xds_resource_remove(r);
    if (f->collects && ops->end)
        ops->end(f->type->owner);
}

void xds_resource_expire(struct xds_resource *r, uint64_t ms)
{
    if (ms && !r->ttl) {
        r->ttl = NEW(struct timer);
        timer_init(r->ttl, r->feed->type->x->loop, on_expired, r);
    }
    if (ms) {
        timer_arm(r->ttl, ms);
    } else if (r->ttl) {
        timer_disarm(r->ttl);
        mem_free(r->ttl);
        r->ttl = NULL;
    }
}
