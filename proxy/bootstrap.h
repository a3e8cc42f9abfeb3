/* Bootstrap: the configuration file and --config-yaml read, merged and unpacked. Main thread. */
#pragma once

#include "api-protos/message.h"
#include "base/arena.h"
#include "base/errors.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "proxy/options.h"

struct bootstrap {
    struct arena arena;
    const Envoy__Config__Bootstrap__V3__Bootstrap *msg;
    struct str bytes;        /* serialized, for config_dump */
    struct str node;         /* serialized Node with what we add to it */
    struct str node_cluster; /* what `node` says its cluster is */
    struct pb_counts counts;
    uint64_t loaded_us; /* wall clock */
};

/* bootstrap_load reads what the options name; NULL after errors in e, whose paths begin with the
 * file's fields. The text of a file that cannot be read or parsed is an error at the root.
 * bootstrap_free sets *b to NULL. */
struct bootstrap *bootstrap_load(const struct options *o, struct errors *e);
void bootstrap_free(struct bootstrap **b);

/* bootstrap_stats applies stats_config. False after errors. */
bool bootstrap_stats(const struct bootstrap *b, struct errors *e);
