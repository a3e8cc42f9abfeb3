/* envoy.filters.http.set_metadata: leaves configured dynamic metadata with every request. */
#include "envoy/extensions/filters/http/set_metadata/v3/set_metadata.pb-c.h"
#include "proxy/filters/filter_stats.h"
#include "proxy/filters/filters.h"
#include "proxy/http/stream.h"

typedef Envoy__Extensions__Filters__Http__SetMetadata__V3__Config Config;
typedef Envoy__Extensions__Filters__Http__SetMetadata__V3__Metadata Metadata;

#define SET_METADATA_STATS(X) X(SET_METADATA_DENIED, "overwrite_denied", COUNTER)
enum { SET_METADATA_STATS(STATS_ENUM) SET_METADATA_NUM_STATS };
static const struct stats_def stat_defs[] = {SET_METADATA_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

struct entry {
    struct str ns;
    struct json *value;
    bool overwrite; /* also where there is something of the namespace */
};

struct set_metadata_config {
    struct stats_scope *stats;
    struct entry *v;
    size_t n;
};

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const Config *m = msg;
    struct arena *a = env->arena;
    struct set_metadata_config *c = ARENA_NEW(a, struct set_metadata_config);
    c->stats = filter_stats_named(env, &stat_table, STR("set_metadata"));
    if (!m)
        return c;
    c->v = arena_zalloc(a, (m->n_metadata + 1) * sizeof(*c->v));
    if (m->metadata_namespace[0] && m->value) /* the older form */
        c->v[c->n++] = (struct entry){arena_str(a, str_of(m->metadata_namespace)),
                                      metadata_from_struct(a, m->value), true};
    for (size_t i = 0; i < m->n_metadata; i++) {
        const Metadata *x = m->metadata[i];
        size_t mark = errors_push_index(e, "metadata", i);
        if (!x->metadata_namespace[0])
            errors_add(e, "metadata_namespace", "must not be empty");
        else if (x->value)
            c->v[c->n++] = (struct entry){arena_str(a, str_of(x->metadata_namespace)),
                                          metadata_from_struct(a, x->value), x->allow_overwrite};
        errors_pop(e, mark);
    }
    return c;
}

static void free_config(void *config)
{
    struct set_metadata_config *c = config;
    stats_scope_free(&c->stats);
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct set_metadata_config *c = f->config;
    struct metadata *m = &f->stream->info.metadata;
    for (size_t i = 0; i < c->n; i++) {
        if (!c->v[i].overwrite && metadata_object(m, c->v[i].ns))
            filter_stats_inc(f, c->stats, SET_METADATA_DENIED);
        else
            metadata_merge(m, h->arena, c->v[i].ns, c->v[i].value);
    }
    return FILTER_CONTINUE;
}

const struct http_filter_ops set_metadata_filter = {
    .name = "envoy.filters.http.set_metadata",
    .type_name = "envoy.extensions.filters.http.set_metadata.v3.Config",
    .compile = compile,
    .free = free_config,
    .on_request_headers = on_request_headers,
};
