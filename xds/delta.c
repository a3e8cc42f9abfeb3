/* Incremental: requests say which names come and go, responses what changed. Each response has an
 * answer of its own, which carries its nonce and nothing else; changes of what is wanted leave as
 * requests without a nonce, as servers that compare nonces expect. Wildcard types stay wildcards
 * for ever: their first request names nothing. */
#include "base/log.h"
#include "xds/client.h"
#include "xds/discovery.h"
#include "xds/stream.h"

static struct xds_feed *feed_at(struct list *it)
{
    return CONTAINER_OF(it, struct xds_feed, stream_link);
}

static struct xds_resource *next_resource(const struct xds_feed *f, size_t *it)
{
    struct str name;
    void *value;
    return map_next(&f->resources, it, &name, &value) ? value : NULL;
}

/* The server of a new stream knows nothing: nonces are void, and every name is to be said again. */
static void delta_opened(struct xds_stream *st)
{
    LIST_FOREACH(it, &st->feeds) {
        struct xds_feed *f = feed_at(it);
        struct xds_resource *r;
        size_t pos = 0;
        while ((r = next_resource(f, &pos)) != NULL)
            r->on_wire = false;
        xds_text_set(&f->nonce, STR_NULL);
        xds_text_set(&f->nack, STR_NULL);
        f->nack_due = f->answer_due = f->asked = false;
        f->dirty = true;
    }
}

/* --- what is to be said ----------------------------------------------------------------------- */

static bool comes(const struct xds_resource *r)
{
    return !r->on_wire && !list_empty(&r->watchers);
}

static bool goes(const struct xds_resource *r)
{
    return r->on_wire && list_empty(&r->watchers);
}

/* differs says whether the names that are wanted are not those that the server knows of. A first
 * request is due even where it has no names: that is a wildcard. */
static bool differs(const struct xds_feed *f)
{
    struct xds_resource *r;
    size_t pos = 0;
    if (!f->asked)
        return xds_feed_wanted(f);
    if (f->collects)
        return false;
    while ((r = next_resource(f, &pos)) != NULL) {
        if (comes(r) || goes(r))
            return true;
    }
    return false;
}

static struct xds_feed *answer_of(const struct xds_stream *st)
{
    LIST_FOREACH(it, &st->feeds) {
        if (feed_at(it)->answer_due)
            return feed_at(it);
    }
    return NULL;
}

static bool delta_answer_due(const struct xds_stream *st)
{
    return answer_of(st) != NULL;
}

static struct xds_feed *next_changed(struct xds_stream *st)
{
    LIST_FOREACH(it, &st->feeds) {
        struct xds_feed *f = feed_at(it);
        if (!f->dirty || f->type->paused)
            continue;
        if (differs(f))
            return f;
        xds_feed_reap(f); /* came and went before it was said */
        f->dirty = false;
    }
    return NULL;
}

/* --- requests --------------------------------------------------------------------------------- */

static struct str node_of(const struct xds_stream *st)
{
    return st->node_sent && st->server.node_on_first_only ? STR_NULL : st->x->node;
}

static void answer(struct xds_stream *st, struct xds_feed *f, struct arena *a, struct str *out)
{
    struct discovery_delta_request req = {
        .node = node_of(st),
        .type_url = str_of(f->type->ops->type_url),
        .response_nonce = f->nonce,
        .nack = f->nack_due,
        .error = f->nack,
    };
    *out = discovery_delta_request_encode(&req, a);
    LOG_DEBUG(config, "%s: %s of nonce %.*s", f->type->ops->label, f->nack_due ? "NACK" : "ACK",
              STR_ARG(f->nonce));
    f->answer_due = f->nack_due = false;
    xds_text_set(&f->nack, STR_NULL);
}

/* What the server may leave out because we have it; only where nothing was said yet. */
static void fill_initial(struct discovery_delta_request *req, struct xds_resource *const *all,
                         size_t num, struct arena *a)
{
    struct discovery_version *initial = arena_alloc(a, (num + 1) * sizeof(*initial));
    for (size_t i = 0; i < num; i++) {
        if (all[i]->has_bytes && all[i]->status != XDS_STATUS_DOES_NOT_EXIST)
            initial[req->num_initial++] = (struct discovery_version){all[i]->name, all[i]->version};
    }
    req->initial = initial;
}

static void fill_names(struct discovery_delta_request *req, struct xds_resource *const *all,
                       size_t num, struct arena *a)
{
    struct str *in = arena_alloc(a, (num + 1) * sizeof(*in));
    struct str *out = arena_alloc(a, (num + 1) * sizeof(*out));
    for (size_t i = 0; i < num; i++) {
        if (comes(all[i]))
            in[req->num_subscribe++] = all[i]->name;
        if (goes(all[i]))
            out[req->num_unsubscribe++] = all[i]->name;
        all[i]->on_wire = !list_empty(&all[i]->watchers);
    }
    req->subscribe = in;
    req->unsubscribe = out;
}

static void ask(struct xds_stream *st, struct xds_feed *f, struct arena *a, struct str *out)
{
    size_t num;
    if (!f->asked)
        xds_feed_reap(f);
    struct xds_resource **all = xds_feed_sorted(f, a, &num);
    struct discovery_delta_request req = {
        .node = node_of(st),
        .type_url = str_of(f->type->ops->type_url),
    };
    if (!f->asked)
        fill_initial(&req, all, num, a);
    if (!f->collects)
        fill_names(&req, all, num, a);
    *out = discovery_delta_request_encode(&req, a);
    LOG_DEBUG(config, "%s: %s, %zu names more, %zu less, %zu known", f->type->ops->label,
              f->asked ? "request" : "first request", req.num_subscribe, req.num_unsubscribe,
              req.num_initial);
    xds_feed_reap(f);
    f->dirty = false;
    f->asked = true;
}

static bool delta_next(struct xds_stream *st, struct arena *a, struct str *out)
{
    struct xds_feed *f = answer_of(st);
    if (f && a)
        answer(st, f, a, out);
    if (f)
        return true;
    f = next_changed(st);
    if (f && a)
        ask(st, f, a, out);
    return f != NULL;
}

/* --- responses -------------------------------------------------------------------------------- */

/* On a stream of its own there is one type, which need not be said. */
static struct xds_feed *find_feed(const struct xds_stream *st, struct str type_url)
{
    LIST_FOREACH(it, &st->feeds) {
        struct xds_feed *f = feed_at(it);
        bool is_it = str_eq(str_of(f->type->ops->type_url), type_url) ||
                     (!type_url.len && st != st->x->ads);
        if (f->asked && is_it)
            return f;
    }
    return NULL;
}

static void on_applied(void *arg)
{
    struct xds_stream *st = arg;
    struct xds_feed *f = st->applying_feed;
    st->applying_feed = NULL;
    if (st->ingest.num_errors) {
        LOG_WARN(config, "%s: version %.*s refused: %.*s", f->type->ops->label,
                 STR_ARG(st->version), STR_ARG(st->ingest.text));
        xds_text_set(&f->nack, st->ingest.text);
        f->nack_due = true;
    } else {
        xds_text_set(&f->version, st->version);
    }
    f->answer_due = true;
    xds_stream_applied(st);
}

static bool delta_message(struct xds_stream *st, struct str bytes, const char **why)
{
    struct discovery_response r;
    if (!discovery_delta_parse(bytes, &r, why))
        return false;
    xds_stream_identified(st, r.control_plane);
    struct xds_feed *f = find_feed(st, r.type_url);
    if (!f) {
        LOG_WARN(config, "a response of a type nobody asked for is left aside: %.*s",
                 STR_ARG(r.type_url));
        xds_stream_applied(st);
        return true;
    }
    xds_text_set(&f->nonce, r.nonce);
    st->version = r.version_info;
    st->applying_feed = f;
    xds_ingest_start(&st->ingest, f, &r, on_applied, st);
    return true;
}

const struct xds_variant xds_delta = {
    .name = "delta",
    .opened = delta_opened,
    .next = delta_next,
    .answer_due = delta_answer_due,
    .message = delta_message,
};
