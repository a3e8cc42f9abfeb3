#include "cluster/cluster_stats.h"

static const struct stats_def cluster_defs[] = {CLUSTER_STATS(STATS_DEF)};
static const struct stats_def outlier_defs[] = {OUTLIER_STATS(STATS_DEF)};
static const struct stats_def ring_defs[] = {RING_STATS(STATS_DEF)};
static const struct stats_def maglev_defs[] = {MAGLEV_STATS(STATS_DEF)};
static const struct stats_def health_defs[] = {CLUSTER_HEALTH_STATS(STATS_DEF)};
static const struct stats_def clusters_defs[] = {CLUSTERS_STATS(STATS_DEF)};

struct stats_table cluster_stats_table = STATS_TABLE(cluster_defs);
struct stats_table outlier_stats_table = STATS_TABLE(outlier_defs);
struct stats_table ring_stats_table = STATS_TABLE(ring_defs);
struct stats_table maglev_stats_table = STATS_TABLE(maglev_defs);
struct stats_table health_stats_table = STATS_TABLE(health_defs);
struct stats_table clusters_stats_table = STATS_TABLE(clusters_defs);
