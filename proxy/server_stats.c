#include "proxy/server_stats.h"

#include "api-protos/message.h"
#include "proxy/bootstrap.h"
#include "proxy/server.h"
#include <malloc.h>

#define SERVER_STATS(X)                                                                            \
    X(SERVER_CONCURRENCY, "concurrency", GAUGE)                                                    \
    X(SERVER_DYNAMIC_UNKNOWN, "dynamic_unknown_fields", COUNTER)                                   \
    X(SERVER_HOT_RESTART_EPOCH, "hot_restart_epoch", GAUGE)                                        \
    X(SERVER_LIVE_GAUGE, "live", GAUGE)                                                            \
    X(SERVER_MEMORY_ALLOCATED, "memory_allocated", GAUGE)                                          \
    X(SERVER_MEMORY_HEAP, "memory_heap_size", GAUGE)                                               \
    X(SERVER_STATE, "state", GAUGE)                                                                \
    X(SERVER_STATIC_UNKNOWN, "static_unknown_fields", COUNTER)                                     \
    X(SERVER_TOTAL_CONNECTIONS, "total_connections", GAUGE)                                        \
    X(SERVER_UNSUPPORTED, "unsupported_fields", COUNTER)                                           \
    X(SERVER_UPTIME, "uptime", GAUGE)

enum { SERVER_STATS(STATS_ENUM) SERVER_NUM_STATS };
static const struct stats_def stat_defs[] = {SERVER_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

static uint64_t connections(const struct server *s)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < s->num_workers; i++)
        n += atomic_load_explicit(&s->workers[i].num_downstreams, memory_order_relaxed);
    return n;
}

static bool read_stat(void *arg, uint32_t idx, uint64_t *out)
{
    const struct server *s = arg;
    struct mallinfo2 mi;
    switch (idx) {
    case SERVER_CONCURRENCY:
        *out = s->num_workers;
        return true;
    case SERVER_DYNAMIC_UNKNOWN:
        *out = s->dynamic_counts->unknown_fields;
        return true;
    case SERVER_STATIC_UNKNOWN:
        *out = s->bootstrap->counts.unknown_fields;
        return true;
    case SERVER_UNSUPPORTED:
        *out = s->bootstrap->counts.unsupported_fields + s->dynamic_counts->unsupported_fields;
        return true;
    case SERVER_HOT_RESTART_EPOCH:
        *out = 0;
        return true;
    case SERVER_LIVE_GAUGE:
        *out = s->state == SERVER_LIVE && !s->health_failed;
        return true;
    case SERVER_STATE:
        *out = s->state == SERVER_LIVE && s->health_failed ? SERVER_DRAINING : s->state;
        return true;
    case SERVER_MEMORY_ALLOCATED:
        mi = mallinfo2();
        *out = mi.uordblks + mi.hblkhd;
        return true;
    case SERVER_MEMORY_HEAP:
        mi = mallinfo2();
        *out = mi.arena + mi.hblkhd;
        return true;
    case SERVER_TOTAL_CONNECTIONS:
        *out = connections(s);
        return true;
    case SERVER_UPTIME:
        *out = (loop_now_ms(s->loop) - s->start_ms) / 1000;
        return true;
    default:
        return false;
    }
}

void server_stats_init(struct server *s)
{
    s->stats = stats_scope_named(&stat_table, STR("server"));
    stats_scope_set_reader(s->stats, read_stat, s);
    /* Shown also while they are 0: readiness asks for used statistics only. */
    for (uint32_t i = 0; i < SERVER_NUM_STATS; i++) {
        if (stat_defs[i].kind == STATS_GAUGE)
            stats_gauge_set(s->stats, 0, i, 0);
    }
}

void server_stats_free(struct server *s)
{
    stats_scope_free(&s->stats);
}
