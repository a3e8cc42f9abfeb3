#include "xds/ingest.h"

#include "api-protos/message.h"
#include "base/utf8.h"
#include "xds/client.h"

/* Work of one slice: bytes compiled, and bytes only compared, which cost about a sixteenth. */
enum { SLICE_BYTES = 256 * 1024, COMPARE_SHIFT = 4, RESOURCE_COST = 512 };

/* Of all error text of one response; Envoy cuts at the same length. */
enum { ERROR_TEXT_MAX = 4096 };

void xds_ingest_init(struct xds_ingest *in)
{
    *in = (struct xds_ingest){0};
    arena_init(&in->arena, 0);
}

/* --- the text of the errors ------------------------------------------------------------------- */

static void add_line(struct xds_ingest *in, struct str line)
{
    in->num_errors++;
    if (in->text.len + line.len > ERROR_TEXT_MAX && in->text.len)
        return;
    in->num_lines++;
    in->text = arena_printf(&in->arena, "%.*s%s%.*s", STR_ARG(in->text), in->text.len ? "\n" : "",
                            STR_ARG(line));
}

/* Cuts the text to its length and makes it UTF-8: a server refuses a request that is not. */
static void seal_text(struct xds_ingest *in)
{
    size_t len = in->text.len < ERROR_TEXT_MAX ? in->text.len : ERROR_TEXT_MAX;
    char *p = arena_bytes(&in->arena, len + 1);
    while (len && len < in->text.len && ((uint8_t)in->text.p[len] & 0xc0) == 0x80)
        len--;
    bool is_utf8 = utf8_ok(str_n(in->text.p, len));
    for (size_t i = 0; i < len; i++)
        p[i] = is_utf8 || (uint8_t)in->text.p[i] < 0x80 ? in->text.p[i] : '?';
    in->text = str_n(p, len);
    if (in->num_errors > in->num_lines)
        in->text = arena_printf(&in->arena, "%.*s\n(and %zu more)", STR_ARG(in->text),
                                in->num_errors - in->num_lines);
}

/* The message's full name, as it stands in a type URL. */
static struct str type_name(const struct xds_feed *f)
{
    struct str url = str_of(f->type->ops->type_url);
    ptrdiff_t slash = str_chr(url, '/');
    return str_n(url.p + slash + 1, url.len - (size_t)slash - 1);
}

/* resource_text makes "envoy.config.cluster.v3.Cluster foo: path: text", a line for each error. */
static struct str resource_text(struct xds_ingest *in, struct str name, const struct errors *e)
{
    struct str all = STR_NULL;
    for (const struct error_item *it = e->first; it; it = it->next) {
        bool has_path = it->path.len > 0;
        all = arena_printf(&in->arena, "%.*s%s%.*s %.*s: %.*s%s%.*s", STR_ARG(all),
                           all.len ? "\n" : "", STR_ARG(type_name(in->feed)), STR_ARG(name),
                           STR_ARG(it->path), has_path ? ": " : "", STR_ARG(it->text));
    }
    return all;
}

static void reject(struct xds_ingest *in, struct xds_resource *r, struct str bytes,
                   const struct errors *e)
{
    struct str text = resource_text(in, r->name, e);
    add_line(in, text);
    xds_resource_reject(r, bytes, in->version, text);
}

/* --- one resource ----------------------------------------------------------------------------- */

static void log_warnings(const struct xds_feed *f, struct str name, const struct errors *e)
{
    for (const struct error_item *it = e->warn_first; it; it = it->next)
        xds_warn_once(f->type->x, type_name(f), it->path, name, it->text);
}

/* What the envelope of resources has and nothing here honours. */
static void warn_ignored(const struct xds_ingest *in, struct str message, struct str resource,
                         const char *field)
{
    if (field)
        xds_warn_once(in->feed->type->x, message, str_of(field), resource,
                      STR("not supported, ignored"));
}

/* take compiles and applies; true when it is in use. */
static bool take(struct xds_feed *f, struct xds_resource *r, struct str canonical, uint64_t hash,
                 struct str version, struct errors *e)
{
    const struct resource_ops *ops = f->type->ops;
    size_t before = e->num_errors;
    void *compiled = ops->compile(f->type->owner, r->name, canonical, e);
    if (!compiled) {
        if (e->num_errors == before)
            errors_add(e, NULL, "refused without a reason");
        return false;
    }
    log_warnings(f, r->name, e);
    if (ops->wildcard) {
        bool applied = ops->apply(f->type->owner, r->name, compiled, version, e);
        ops->unref(compiled);
        compiled = NULL;
        if (!applied)
            return false;
    }
    xds_resource_accept(r, canonical, hash, version, compiled);
    return true;
}

/* The name under which the resource is known; false after an error line. */
static bool find_name(struct xds_ingest *in, const struct discovery_resource *d, struct str *name)
{
    const struct resource_ops *ops = in->feed->type->ops;
    struct str inner = STR_NULL;
    size_t index = in->r.index - 1;
    if (d->has_body && !ops->name_of(d->bytes, &inner) && !d->name.len) {
        add_line(in, arena_printf(&in->arena, "%.*s resources[%zu]: malformed, or without a name",
                                  STR_ARG(type_name(in->feed)), index));
        return false;
    }
    *name = d->name.len ? d->name : inner;
    if (ops->wildcard && inner.len && !str_eq(inner, *name)) {
        add_line(in, arena_printf(&in->arena, "%.*s %.*s: is called %.*s in its wrapper",
                                  STR_ARG(type_name(in->feed)), STR_ARG(inner), STR_ARG(*name)));
        return false;
    }
    if (name->len)
        return true;
    add_line(in,
             arena_printf(&in->arena, "resources[%zu]: a Resource without name and body", index));
    return false;
}

static bool right_type(struct xds_ingest *in, const struct discovery_resource *d)
{
    struct str want = str_of(in->feed->type->ops->type_url);
    if (!d->has_body || str_eq(d->type_url, want))
        return true;
    add_line(in, arena_printf(&in->arena, "resources[%zu]: type_url is %.*s, expected %.*s",
                              in->r.index - 1, STR_ARG(d->type_url), STR_ARG(want)));
    return false;
}

/* Compare, compile, apply; returns the cost. */
static size_t ingest_named(struct xds_ingest *in, struct xds_resource *r, struct str bytes)
{
    struct xds_feed *f = in->feed;
    struct errors e;
    struct arena scratch;
    size_t cost;
    arena_init(&scratch, 0);
    bool identical = r->has_bytes && str_eq(bytes, r->bytes);
    struct str canonical = identical ? r->bytes
                                     : pb_canonical(f->type->descriptor, bytes, &scratch);
    uint64_t hash = identical ? r->hash : pb_hash(canonical);
    if (xds_resource_same(r, canonical, hash)) {
        xds_resource_unchanged(r, in->version);
        cost = bytes.len >> COMPARE_SHIFT;
    } else {
        errors_init(&e);
        if (take(f, r, canonical, hash, in->version, &e))
            in->changed = true;
        else
            reject(in, r, bytes, &e);
        errors_cleanup(&e);
        cost = bytes.len;
    }
    arena_cleanup(&scratch);
    return cost + RESOURCE_COST;
}

/* A Resource without a body says that the one which is here lives on. */
static bool is_heartbeat(const struct xds_ingest *in, const struct xds_resource *r,
                         const struct discovery_resource *d)
{
    return r && r->has_bytes && r->status != XDS_STATUS_DOES_NOT_EXIST &&
           (!in->r.delta || str_eq(d->version, r->version));
}

/* Returns what it cost. */
static size_t ingest_one(struct xds_ingest *in, const struct discovery_resource *d, const char *why)
{
    struct xds_feed *f = in->feed;
    struct str name;
    warn_ignored(in, STR("envoy.service.discovery.v3.Resource"), d->name, d->ignored);
    if (why) {
        add_line(in, arena_printf(&in->arena, "resources[%zu]: %s", in->r.index - 1, why));
        in->blind = true;
        return RESOURCE_COST;
    }
    if (!right_type(in, d) || !find_name(in, d, &name)) {
        in->blind = true;
        return RESOURCE_COST;
    }
    struct xds_resource *r = xds_feed_find(f, name);
    if (!r && !f->collects)
        return RESOURCE_COST; /* never asked for: no business of ours */
    in->version = in->r.delta ? d->version : in->r.version_info;
    if (!d->has_body && !is_heartbeat(in, r, d)) {
        add_line(in, arena_printf(&in->arena,
                                  "%.*s %.*s: a Resource without a body, of a version "
                                  "that is not here",
                                  STR_ARG(type_name(f)), STR_ARG(name)));
        return RESOURCE_COST;
    }
    if (f->collects && f->type->fixed && xds_feed_find(f->type->fixed, name)) {
        xds_warn_once(f->type->x, type_name(f), STR_NULL, name,
                      STR("the bootstrap has one of this name, which stays"));
        return RESOURCE_COST;
    }
    if (!r)
        r = xds_feed_add(f, name);
    if (r->seen == f->num_ingests) {
        add_line(in, arena_printf(&in->arena, "%.*s %.*s: duplicate name in one response",
                                  STR_ARG(type_name(f)), STR_ARG(name)));
        return RESOURCE_COST;
    }
    r->seen = f->num_ingests;
    size_t cost = d->has_body ? ingest_named(in, r, d->bytes) : RESOURCE_COST;
    if (r->has_bytes && !r->error.len)
        xds_resource_expire(r, d->ttl_ms);
    return cost;
}

/* --- what is no longer there ------------------------------------------------------------------ */

static void drop_resource(struct xds_ingest *in, struct xds_resource *r)
{
    in->changed |= r->has_bytes;
    xds_resource_remove(r);
}

/* In state of the world a list of a wildcard type is complete: what it does not name is gone. A
 * resource that was refused is named, and keeps what it had. */
static void remove_absent(struct xds_ingest *in)
{
    struct xds_feed *f = in->feed;
    struct str name;
    void *value;
    size_t it = 0;
    while (map_next(&f->resources, &it, &name, &value)) {
        struct xds_resource *r = value;
        if (r->seen != f->num_ingests)
            drop_resource(in, r);
    }
}

/* Incremental: the names that the response lists, where they are known and not in its other list
 * too: what that one brought stays. */
static void remove_listed(struct xds_ingest *in)
{
    struct str name;
    while (discovery_next_removed(&in->r, &name)) {
        struct xds_resource *r = xds_feed_find(in->feed, name);
        if (!r)
            continue;
        if (r->seen == in->feed->num_ingests || r->named == in->feed->num_ingests)
            add_line(in, arena_printf(&in->arena, "%.*s %.*s: both in resources and removed",
                                      STR_ARG(type_name(in->feed)), STR_ARG(name)));
        else
            drop_resource(in, r);
    }
}

/* mark_named marks what the response names; false if not all names can be read. */
static bool mark_named(const struct xds_ingest *in)
{
    const struct xds_feed *f = in->feed;
    struct discovery_response r = in->r;
    struct discovery_resource d;
    const char *why;
    bool all = true;
    while (discovery_next(&r, &d, &why)) {
        struct str name = d.name;
        if (why || (d.has_body && !str_eq(d.type_url, str_of(f->type->ops->type_url))) ||
            (!name.len && !(d.has_body && f->type->ops->name_of(d.bytes, &name)))) {
            all = false;
            continue;
        }
        struct xds_resource *had = xds_feed_find(f, name);
        if (had)
            had->named = f->num_ingests;
    }
    return all;
}

/* The same before anything is applied. Where not all names can be read nothing is removed, unless
 * it is listed. */
static void remove_early(struct xds_ingest *in)
{
    struct xds_feed *f = in->feed;
    struct str name;
    void *value;
    size_t it = 0;
    bool all = mark_named(in);
    if (in->r.delta)
        remove_listed(in);
    if (in->r.delta || !all)
        return;
    while (map_next(&f->resources, &it, &name, &value)) {
        struct xds_resource *had = value;
        if (had->named != f->num_ingests)
            drop_resource(in, had);
    }
}

/* --- the run ---------------------------------------------------------------------------------- */

static void finish(struct xds_ingest *in)
{
    struct xds_feed *f = in->feed;
    const struct resource_ops *ops = f->type->ops;
    if (in->r.delta)
        remove_listed(in);
    else if (f->collects && !in->blind)
        remove_absent(in);
    if (f->collects && ops->end)
        ops->end(f->type->owner);
    seal_text(in);
    xds_feed_updated(f, in->r.version_info, in->num_errors == 0, in->changed);
    f->is_taking = false;
    f->taking = STR_NULL;
    in->feed = NULL;
    in->done(in->arg);
}

static void on_slice(void *arg)
{
    struct xds_ingest *in = arg;
    struct discovery_resource d;
    const char *why;
    size_t cost = 0;
    while (discovery_next(&in->r, &d, &why)) {
        cost += ingest_one(in, &d, why);
        if (cost < SLICE_BYTES)
            continue;
        loop_post(in->feed->type->x->loop, &in->task);
        return;
    }
    finish(in);
}

void xds_ingest_start(struct xds_ingest *in, struct xds_feed *f, const struct discovery_response *r,
                      void (*done)(void *arg), void *arg)
{
    CHECK(!in->feed);
    arena_reset(&in->arena);
    in->text = STR_NULL;
    in->num_errors = in->num_lines = 0;
    in->blind = in->changed = false;
    in->feed = f;
    in->r = *r;
    in->done = done;
    in->arg = arg;
    f->num_ingests++;
    f->is_taking = true;
    f->taking = r->version_info;
    f->begun_us = loop_now_us(f->type->x->loop);
    warn_ignored(in,
                 r->delta ? STR("envoy.service.discovery.v3.DeltaDiscoveryResponse")
                          : STR("envoy.service.discovery.v3.DiscoveryResponse"),
                 type_name(f), r->ignored);
    task_init(&in->task, on_slice, in);
    if (f->collects && f->type->ops->begin)
        f->type->ops->begin(f->type->owner);
    if (f->collects && f->type->ops->remove_first)
        remove_early(in);
    on_slice(in);
}

void xds_ingest_cancel(struct xds_ingest *in)
{
    if (!in->feed)
        return;
    task_cancel(&in->task);
    if (in->feed->collects && in->feed->type->ops->end)
        in->feed->type->ops->end(in->feed->type->owner);
    in->feed->is_taking = false;
    in->feed->taking = STR_NULL;
    in->feed = NULL;
}

void xds_ingest_cleanup(struct xds_ingest *in)
{
    xds_ingest_cancel(in);
    arena_cleanup(&in->arena);
}

bool xds_ingest_fixed(struct xds_feed *f, struct str bytes, struct errors *e)
{
    const struct resource_ops *ops = f->type->ops;
    struct arena scratch;
    struct str name;
    if (!ops->name_of(bytes, &name)) {
        errors_add(e, NULL, "%.*s: malformed, or without a name", STR_ARG(type_name(f)));
        return false;
    }
    if (xds_feed_find(f, name)) {
        errors_add(e, NULL, "%.*s %.*s: duplicate name", STR_ARG(type_name(f)), STR_ARG(name));
        return false;
    }
    arena_init(&scratch, 0);
    struct xds_resource *r = xds_feed_add(f, name);
    struct str canonical = pb_canonical(f->type->descriptor, bytes, &scratch);
    r->is_static = true;
    if (ops->wildcard && ops->begin)
        ops->begin(f->type->owner);
    bool ok = take(f, r, canonical, pb_hash(canonical), STR_NULL, e);
    if (ops->wildcard && ops->end)
        ops->end(f->type->owner);
    if (!ok)
        xds_feed_drop(f, r);
    arena_cleanup(&scratch);
    return ok;
}
