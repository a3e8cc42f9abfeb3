#include "proxy/http/h2_stats.h"

#include "cluster/cluster_stats.h"

static const struct stats_def defs[] = {H2_STATS(STATS_DEF)};
static struct stats_table table = STATS_TABLE(defs);

struct stats_scope *h2_stats_scope(void)
{
    return stats_scope_named(&table, STR("http2"));
}

void h2_count_n(const struct h2_stats *st, uint32_t id, uint64_t n)
{
    if (!st->scope)
        return;
    if (!st->of_cluster) {
        stats_add(st->scope, st->thread, id, n);
        return;
    }
    for (uint64_t i = 0; i < n; i++)
        stats_count_name(st->scope, st->thread, "http2.", str_of(defs[id].name));
}

void h2_gauge(const struct h2_stats *st, uint32_t id, int64_t n)
{
    if (!st->scope || n == 0)
        return;
    if (st->of_cluster)
        id = id == H2_STREAMS_ACTIVE ? CLUSTER_HTTP2_STREAMS_ACTIVE
                                     : CLUSTER_HTTP2_PENDING_SEND_BYTES;
    stats_gauge_add(st->scope, st->thread, id, n);
}
