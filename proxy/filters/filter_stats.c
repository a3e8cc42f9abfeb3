#include "proxy/filters/filter_stats.h"

#include "proxy/http/stream.h"
#include "proxy/network/network_filter.h"
#include "proxy/worker.h"

enum { MAX_PARTS = 8 };

struct stats_scope *filter_stats_new(const struct http_filter_env *env, struct stats_table *table,
                                     const struct str *parts, size_t num)
{
    struct stats_part all[MAX_PARTS + 2];
    struct str rest = env->stat_prefix, first;
    size_t n = 0;
    CHECK(num <= MAX_PARTS);
    if (rest.len == 0 || env->compile->validate)
        return NULL;
    /* "http" and a name, which may have dots of its own. */
    (void)str_next(&rest, '.', &first);
    all[n++] = (struct stats_part){first, NULL};
    if (rest.len)
        all[n++] = (struct stats_part){rest, str_eq(first, STR("http"))
                                                 ? "envoy_http_conn_manager_prefix"
                                                 : "envoy_cluster_name"};
    for (size_t i = 0; i < num; i++) {
        if (parts[i].len)
            all[n++] = (struct stats_part){parts[i], NULL};
    }
    return stats_scope_new(table, all, n);
}

struct stats_scope *filter_stats_named(const struct http_filter_env *env, struct stats_table *table,
                                       struct str name)
{
    return filter_stats_new(env, table, &name, 1);
}

unsigned filter_thread(const struct http_filter *f)
{
    return f->stream->worker->index;
}
