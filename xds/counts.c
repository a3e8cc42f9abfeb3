#include "xds/counts.h"

#include "base/arena.h"
#include "base/hash.h"

enum { MAIN_THREAD = 0 };

#define SUBSCRIPTION_STATS(X)                                                                      \
    X(COUNT_ATTEMPT, "update_attempt", COUNTER)                                                    \
    X(COUNT_SUCCESS, "update_success", COUNTER)                                                    \
    X(COUNT_FAILURE, "update_failure", COUNTER)                                                    \
    X(COUNT_REJECTED, "update_rejected", COUNTER)                                                  \
    X(COUNT_TIMEOUT, "init_fetch_timeout", COUNTER)                                                \
    X(COUNT_TIME, "update_time", GAUGE)                                                            \
    X(COUNT_VERSION, "version", GAUGE)                                                             \
    X(COUNT_VERSION_TEXT, "version_text", TEXT)                                                    \
    X(COUNT_DURATION, "update_duration", HISTOGRAM)

#define RELOAD_STATS(X)                                                                            \
    X(COUNT_RELOAD, "config_reload", COUNTER)                                                      \
    X(COUNT_RELOAD_TIME, "config_reload_time_ms", GAUGE)

#define STREAM_STATS(X)                                                                            \
    X(COUNT_CONNECTED, "connected_state", GAUGE)                                                   \
    X(COUNT_PENDING, "pending_requests", GAUGE)                                                    \
    X(COUNT_LIMITED, "rate_limit_enforced", COUNTER)                                               \
    X(COUNT_IDENTIFIER, "identifier", TEXT)

enum { SUBSCRIPTION_STATS(STATS_ENUM) };
enum { RELOAD_STATS(STATS_ENUM) };
enum { STREAM_STATS(STATS_ENUM) };

static const struct stats_def defs[] = {SUBSCRIPTION_STATS(STATS_DEF)};
static const struct stats_def reload_defs[] = {RELOAD_STATS(STATS_DEF)};
static const struct stats_def stream_defs[] = {STREAM_STATS(STATS_DEF)};
static struct stats_table table = STATS_TABLE(defs);
static struct stats_table reload_table = STATS_TABLE(reload_defs);
static struct stats_table stream_table = STATS_TABLE(stream_defs);

struct xds_counts {
    struct stats_scope *scope;
    struct stats_scope *reloads; /* NULL: not counted */
    struct str key;              /* in the map; owned */
    size_t refs;
};

struct xds_stream_counts {
    struct stats_scope *scope;
};

static struct str joined(const struct xds_stats_prefix *prefix, struct arena *a)
{
    struct str key = STR_NULL;
    for (size_t i = 0; i < prefix->num_parts; i++)
        key = arena_printf(a, "%.*s%.*s.", STR_ARG(key), STR_ARG(prefix->parts[i].text));
    return key;
}

struct xds_counts *xds_counts_get(struct map *all, const struct xds_stats_prefix *prefix,
                                  bool reloads)
{
    struct arena a;
    if (!prefix)
        return NULL;
    arena_init(&a, 0);
    struct str key = joined(prefix, &a);
    struct xds_counts *c = map_get(all, key);
    if (!c) {
        c = NEW(struct xds_counts);
        c->key = str_n(mem_strndup(key.p, key.len), key.len);
        c->scope = stats_scope_new(&table, prefix->parts, prefix->num_parts);
        if (reloads)
            c->reloads = stats_scope_new(&reload_table, prefix->parts, prefix->num_parts);
        map_put(all, c->key, c);
    }
    c->refs++;
    arena_cleanup(&a);
    return c;
}

void xds_counts_put(struct map *all, struct xds_counts **cp)
{
    struct xds_counts *c = *cp;
    *cp = NULL;
    if (!c || --c->refs)
        return;
    map_remove(all, c->key);
    stats_scope_free(&c->scope);
    if (c->reloads)
        stats_scope_free(&c->reloads);
    mem_free((char *)c->key.p);
    mem_free(c);
}

static void count(struct xds_counts *c, uint32_t idx)
{
    if (c)
        stats_inc(c->scope, MAIN_THREAD, idx);
}

void xds_counts_attempt(struct xds_counts *c)
{
    count(c, COUNT_ATTEMPT);
}

void xds_counts_success(struct xds_counts *c, struct str version, uint64_t wall_us, uint64_t us)
{
    if (!c)
        return;
    count(c, COUNT_SUCCESS);
    count(c, COUNT_ATTEMPT);
    stats_gauge_set(c->scope, MAIN_THREAD, COUNT_TIME, wall_us / 1000);
    stats_gauge_set(c->scope, MAIN_THREAD, COUNT_VERSION, hash_xxh64(version.p, version.len, 0));
    stats_text_set(c->scope, COUNT_VERSION_TEXT, version);
    stats_record(c->scope, MAIN_THREAD, COUNT_DURATION, us / 1000);
}

void xds_counts_rejected(struct xds_counts *c)
{
    count(c, COUNT_REJECTED);
    count(c, COUNT_ATTEMPT);
}

void xds_counts_failure(struct xds_counts *c)
{
    count(c, COUNT_FAILURE);
    count(c, COUNT_ATTEMPT);
}

void xds_counts_timeout(struct xds_counts *c)
{
    count(c, COUNT_TIMEOUT);
    count(c, COUNT_ATTEMPT);
}

void xds_counts_reload(struct xds_counts *c, uint64_t wall_us)
{
    if (!c || !c->reloads)
        return;
    stats_inc(c->reloads, MAIN_THREAD, COUNT_RELOAD);
    stats_gauge_set(c->reloads, MAIN_THREAD, COUNT_RELOAD_TIME, wall_us / 1000);
}

struct xds_stream_counts *xds_stream_counts_new(const struct xds_stats_prefix *prefix)
{
    struct xds_stream_counts *c = NEW(struct xds_stream_counts);
    size_t n = prefix ? prefix->num_parts : 0;
    struct stats_part *parts = mem_alloc((n + 1) * sizeof(*parts));
    for (size_t i = 0; i < n; i++)
        parts[i] = prefix->parts[i];
    parts[n] = (struct stats_part){STR("control_plane"), NULL};
    c->scope = stats_scope_new(&stream_table, parts, n + 1);
    mem_free(parts);
    return c;
}

void xds_stream_counts_free(struct xds_stream_counts **c)
{
    if (!*c)
        return;
    stats_scope_free(&(*c)->scope);
    mem_free(*c);
    *c = NULL;
}

void xds_stream_counts_connected(struct xds_stream_counts *c, bool up)
{
    stats_gauge_set(c->scope, MAIN_THREAD, COUNT_CONNECTED, up);
}

void xds_stream_counts_pending(struct xds_stream_counts *c, size_t num)
{
    stats_gauge_set(c->scope, MAIN_THREAD, COUNT_PENDING, num);
}

void xds_stream_counts_limited(struct xds_stream_counts *c)
{
    stats_inc(c->scope, MAIN_THREAD, COUNT_LIMITED);
}

void xds_stream_counts_identifier(struct xds_stream_counts *c, struct str id)
{
    stats_text_set(c->scope, COUNT_IDENTIFIER, id);
}
