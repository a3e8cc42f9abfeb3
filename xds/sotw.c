/* State of the world: each request names everything wanted of its type, each response of a wildcard
 * type everything there is. */
#include "base/log.h"
#include "xds/client.h"
#include "xds/discovery.h"
#include "xds/stream.h"

static struct xds_feed *feed_at(struct list *it)
{
    return CONTAINER_OF(it, struct xds_feed, stream_link);
}

/* A nonce never survives its stream; the version accepted last does, so that the server can tell
 * what we have. */
static void sotw_opened(struct xds_stream *st)
{
    LIST_FOREACH(it, &st->feeds) {
        struct xds_feed *f = feed_at(it);
        xds_text_set(&f->nonce, STR_NULL);
        xds_text_set(&f->nack, STR_NULL);
        f->nack_due = f->answer_due = f->asked = false;
        f->dirty = true;
    }
}

/* due says whether a request of this type is to be sent. The first one on a stream with no names
 * would ask for everything: a named type that nobody wants stays silent. */
static bool due(const struct xds_feed *f)
{
    return f->dirty && !f->type->paused && (f->asked || xds_feed_wanted(f));
}

static struct xds_feed *next_due(const struct xds_stream *st)
{
    LIST_FOREACH(it, &st->feeds) {
        if (due(feed_at(it)))
            return feed_at(it);
    }
    return NULL;
}

static bool sotw_answer_due(const struct xds_stream *st)
{
    LIST_FOREACH(it, &st->feeds) {
        if (feed_at(it)->answer_due && due(feed_at(it)))
            return true;
    }
    return false;
}

/* Names in one order, so that equal requests are equal bytes. A collection has none: it is a
 * wildcard for ever. */
static void fill_names(struct discovery_request *req, struct xds_feed *f, struct arena *a)
{
    if (f->collects)
        return;
    xds_feed_reap(f);
    struct xds_resource **all = xds_feed_sorted(f, a, &req->num_names);
    struct str *names = arena_alloc(a, (req->num_names + 1) * sizeof(*names));
    for (size_t i = 0; i < req->num_names; i++)
        names[i] = all[i]->name;
    req->names = names;
}

static bool sotw_next(struct xds_stream *st, struct arena *a, struct str *out)
{
    struct xds_feed *f = next_due(st);
    if (!f || !a)
        return f != NULL;
    struct discovery_request req = {
        .version_info = f->version,
        .type_url = str_of(f->type->ops->type_url),
        .response_nonce = f->nonce,
        .nack = f->nack_due,
        .error = f->nack,
    };
    if (!st->node_sent || !st->server.node_on_first_only)
        req.node = st->x->node;
    fill_names(&req, f, a);
    *out = discovery_request_encode(&req, a);
    LOG_DEBUG(config, "%s: %s with %zu names, version %.*s, nonce %.*s", f->type->ops->label,
              f->nack_due    ? "NACK"
              : f->nonce.len ? "request"
                             : "first request",
              req.num_names, STR_ARG(req.version_info), STR_ARG(req.response_nonce));
    f->dirty = f->answer_due = f->nack_due = false;
    f->asked = true;
    xds_text_set(&f->nack, STR_NULL);
    return true;
}

static struct xds_feed *find_feed(const struct xds_stream *st, struct str type_url)
{
    LIST_FOREACH(it, &st->feeds) {
        struct xds_feed *f = feed_at(it);
        if (f->asked && str_eq(str_of(f->type->ops->type_url), type_url))
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
    f->dirty = f->answer_due = true;
    xds_stream_applied(st);
}

static bool sotw_message(struct xds_stream *st, struct str bytes, const char **why)
{
    struct discovery_response r;
    if (!discovery_response_parse(bytes, &r, why))
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

const struct xds_variant xds_sotw = {
    .name = "sotw",
    .opened = sotw_opened,
    .next = sotw_next,
    .answer_due = sotw_answer_due,
    .message = sotw_message,
};
