#include "cluster/cluster_config.h"

static void config_free(void *arg)
{
    struct cluster_config *c = arg;
    for (uint32_t i = 0; i < c->num_transports; i++)
        transport_factory_unref(c->transports[i]);
    arena_cleanup(&c->arena);
    mem_free(c);
}

struct cluster_config *cluster_config_new(const struct reclaim_home *home, struct str name)
{
    struct cluster_config *c = NEW(struct cluster_config);
    reclaim_init(&c->reclaim, home, config_free, c);
    arena_init(&c->arena, 256);
    c->name = c->stat_name = c->eds_name = arena_str(&c->arena, name);
    c->type = CLUSTER_STATIC;
    c->lb_policy = LB_ROUND_ROBIN;
    c->connect_timeout_ms = CLUSTER_CONNECT_TIMEOUT_MS;
    c->idle_timeout_ms = CLUSTER_IDLE_TIMEOUT_MS;
    c->buffer_limit = CLUSTER_BUFFER_LIMIT;
    c->cleanup_interval_ms = CLUSTER_CLEANUP_MS;
    c->healthy_panic_per_cent = CLUSTER_PANIC_PER_CENT;
    c->choice_count = CLUSTER_CHOICE_COUNT;
    circuit_limits_default(&c->limits[PRIORITY_DEFAULT]);
    circuit_limits_default(&c->limits[PRIORITY_HIGH]);
    return c;
}

struct cluster_config *cluster_config_ref(struct cluster_config *c)
{
    if (c)
        reclaim_ref(&c->reclaim);
    return c;
}

void cluster_config_unref(struct cluster_config *c)
{
    if (c)
        reclaim_unref(&c->reclaim);
}
