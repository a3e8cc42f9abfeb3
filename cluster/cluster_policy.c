#include "cluster/cluster_policy.h"

#include "cluster/subset_config.h"

#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/extensions/load_balancing_policies/cluster_provided/v3/cluster_provided.pb-c.h"
#include "envoy/extensions/load_balancing_policies/least_request/v3/least_request.pb-c.h"
#include "envoy/extensions/load_balancing_policies/maglev/v3/maglev.pb-c.h"
#include "envoy/extensions/load_balancing_policies/random/v3/random.pb-c.h"
#include "envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash.pb-c.h"
#include "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.pb-c.h"
#include "envoy/extensions/load_balancing_policies/subset/v3/subset.pb-c.h"
#include "envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality.pb-c.h"

typedef Envoy__Config__Cluster__V3__Cluster cluster_message;
typedef Envoy__Config__Cluster__V3__LoadBalancingPolicy policy_list;
typedef Envoy__Extensions__LoadBalancingPolicies__Common__V3__ConsistentHashingLbConfig
    hashing_message;
typedef Envoy__Extensions__LoadBalancingPolicies__Common__V3__LocalityLbConfig locality_message;

enum {
    RING_MIN = 1024,
    RING_MAX = 8 * 1024 * 1024,
    MAGLEV_SIZE = 65537,
    POLICY_DEPTH = 16, /* policies in policies */
};

struct policy {
    struct cluster_config *out;
    struct arena *scratch;
    struct errors *e;
    const struct pb_opts *pb;
    struct lb_table_config *table;
    bool subset; /* within a subset policy */
};

/* --- the policies --- */

static struct lb_table_config *new_table(struct policy *c, enum lb_table_kind kind)
{
    c->table = ARENA_NEW(&c->out->arena, struct lb_table_config);
    *c->table = (struct lb_table_config){
        .kind = kind, .min_size = RING_MIN, .max_size = RING_MAX, .size = MAGLEV_SIZE};
    c->out->table = c->table;
    return c->table;
}

static void set_ring(struct policy *c, const Google__Protobuf__UInt64Value *min,
                     const Google__Protobuf__UInt64Value *max, bool murmur)
{
    struct lb_table_config *t = new_table(c, LB_TABLE_RING);
    c->out->lb_policy = LB_RING_HASH;
    t->min_size = min ? min->value : RING_MIN;
    t->max_size = max ? max->value : RING_MAX;
    t->murmur = murmur;
    if (t->min_size > RING_MAX)
        errors_add(c->e, "minimum_ring_size", "must be at most %d", RING_MAX);
    if (t->max_size > RING_MAX)
        errors_add(c->e, "maximum_ring_size", "must be at most %d", RING_MAX);
    if (t->min_size > t->max_size)
        errors_add(c->e, "minimum_ring_size", "is greater than maximum_ring_size");
}

static bool is_prime(uint64_t n)
{
    for (uint64_t i = 2; i * i <= n; i++) {
        if (n % i == 0)
            return false;
    }
    return n > 1;
}

static void set_maglev(struct policy *c, const Google__Protobuf__UInt64Value *size)
{
    enum { MAGLEV_MAX = 5000011 };
    struct lb_table_config *t = new_table(c, LB_TABLE_MAGLEV);
    c->out->lb_policy = LB_MAGLEV;
    t->size = size ? size->value : MAGLEV_SIZE;
    if (t->size > MAGLEV_MAX)
        errors_add(c->e, "table_size", "must be at most %d", MAGLEV_MAX);
    else if (!is_prime(t->size))
        errors_add(c->e, "table_size", "must be a prime number");
}

static void set_hashing(struct policy *c, bool use_hostname,
                        const Google__Protobuf__UInt32Value *factor)
{
    c->out->balance_factor = wkt_u32(factor, 0);
    if (factor && factor->value < 100)
        errors_add(c->e, "hash_balance_factor", "must be at least 100");
    if (c->table)
        c->table->use_hostname = use_hostname;
}

static void set_least_request(struct policy *c, const Google__Protobuf__UInt32Value *choices,
                              const Envoy__Config__Core__V3__RuntimeDouble *bias)
{
    struct cluster_config *out = c->out;
    out->lb_policy = LB_LEAST_REQUEST;
    out->choice_count = wkt_u32(choices, CLUSTER_CHOICE_COUNT);
    if (out->choice_count < 2)
        errors_add(c->e, "choice_count", "must be at least 2");
    out->active_bias = bias ? bias->default_value : 1;
    if (!(out->active_bias >= 0)) {
        errors_warn(c->e, "active_request_bias", "is less than 0; 1 is used");
        out->active_bias = 1;
    }
}

/* min_weight_percent: 10 by default. */
static void set_slow_start(struct policy *c, const Google__Protobuf__Duration *window,
                           const Envoy__Config__Core__V3__RuntimeDouble *aggression,
                           const Envoy__Type__V3__Percent *least)
{
    struct slow_start *s;
    uint64_t window_ms = wkt_duration_ms(window, 0, c->e, "slow_start_window");
    if (window_ms == 0)
        return;
    s = ARENA_NEW(&c->out->arena, struct slow_start);
    s->window_ms = window_ms;
    s->aggression = aggression ? aggression->default_value : 1;
    s->least = (least ? least->value : 10) / 100;
    if (!(s->aggression > 0)) {
        errors_warn(c->e, "aggression", "is not greater than 0; 1 is used");
        s->aggression = 1;
    }
    c->out->slow_start = s;
}

static void set_provided(struct policy *c, const char *field)
{
    c->out->lb_policy = LB_CLUSTER_PROVIDED;
    if (c->out->type != CLUSTER_ORIGINAL_DST)
        errors_add(c->e, field, "CLUSTER_PROVIDED needs type ORIGINAL_DST");
}

/* --- load_balancing_policy --- */

static void take_locality(struct policy *c, const locality_message *m)
{
    if (m &&
        m->locality_config_specifier_case ==
            ENVOY__EXTENSIONS__LOAD_BALANCING_POLICIES__COMMON__V3__LOCALITY_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG)
        c->out->locality_weighted = true;
}

static void take_hashing(struct policy *c, const hashing_message *m)
{
    size_t mark = errors_push(c->e, "consistent_hashing_lb_config");
    if (m)
        set_hashing(c, m->use_hostname_for_hashing, m->hash_balance_factor);
    errors_pop(c->e, mark);
}

static void
take_slow_start(struct policy *c,
                const Envoy__Extensions__LoadBalancingPolicies__Common__V3__SlowStartConfig *m)
{
    size_t mark = errors_push(c->e, "slow_start_config");
    if (m)
        set_slow_start(c, m->slow_start_window, m->aggression, m->min_weight_percent);
    errors_pop(c->e, mark);
}

static void take_round_robin(struct policy *c, const void *message, unsigned depth)
{
    const Envoy__Extensions__LoadBalancingPolicies__RoundRobin__V3__RoundRobin *m = message;
    c->out->lb_policy = LB_ROUND_ROBIN;
    take_slow_start(c, m->slow_start_config);
    take_locality(c, m->locality_lb_config);
}

static void take_least_request(struct policy *c, const void *message, unsigned depth)
{
    const Envoy__Extensions__LoadBalancingPolicies__LeastRequest__V3__LeastRequest *m = message;
    set_least_request(c, m->choice_count, m->active_request_bias);
    take_slow_start(c, m->slow_start_config);
    c->out->full_scan =
        (m->enable_full_scan && m->enable_full_scan->value) ||
        m->selection_method ==
            ENVOY__EXTENSIONS__LOAD_BALANCING_POLICIES__LEAST_REQUEST__V3__LEAST_REQUEST__SELECTION_METHOD__FULL_SCAN;
    take_locality(c, m->locality_lb_config);
}

static void take_random(struct policy *c, const void *message, unsigned depth)
{
    const Envoy__Extensions__LoadBalancingPolicies__Random__V3__Random *m = message;
    c->out->lb_policy = LB_RANDOM;
    take_locality(c, m->locality_lb_config);
}

static void take_ring_hash(struct policy *c, const void *message, unsigned depth)
{
    const Envoy__Extensions__LoadBalancingPolicies__RingHash__V3__RingHash *m = message;
    set_ring(
        c, m->minimum_ring_size, m->maximum_ring_size,
        m->hash_function ==
            ENVOY__EXTENSIONS__LOAD_BALANCING_POLICIES__RING_HASH__V3__RING_HASH__HASH_FUNCTION__MURMUR_HASH_2);
    set_hashing(c, m->use_hostname_for_hashing, m->hash_balance_factor);
    take_hashing(c, m->consistent_hashing_lb_config);
    c->out->locality_weighted = c->out->locality_weighted || m->locality_weighted_lb_config;
}

static void take_maglev(struct policy *c, const void *message, unsigned depth)
{
    const Envoy__Extensions__LoadBalancingPolicies__Maglev__V3__Maglev *m = message;
    set_maglev(c, m->table_size);
    take_hashing(c, m->consistent_hashing_lb_config);
    c->out->locality_weighted = c->out->locality_weighted || m->locality_weighted_lb_config;
}

static void take_provided(struct policy *c, const void *message, unsigned depth)
{
    set_provided(c, NULL);
}

static void compile_list(struct policy *c, const policy_list *list, unsigned depth);

static void take_subset(struct policy *c, const void *message, unsigned depth)
{
    const Envoy__Extensions__LoadBalancingPolicies__Subset__V3__Subset *m = message;
    size_t mark;
    if (c->subset) {
        errors_add(c->e, NULL, "subsets cannot be divided into subsets");
        return;
    }
    c->subset = true;
    c->out->subsets = subset_config_of(m, &c->out->arena, c->e);
    mark = errors_push(c->e, "subset_lb_policy");
    compile_list(c, m->subset_lb_policy, depth + 1);
    errors_pop(c->e, mark);
    if (c->out->lb_policy == LB_CLUSTER_PROVIDED)
        errors_add(c->e, NULL, "CLUSTER_PROVIDED cannot be divided into subsets");
}

/* Locality weights, and what is below chooses within the locality. */
static void take_wrr_locality(struct policy *c, const void *message, unsigned depth)
{
    const Envoy__Extensions__LoadBalancingPolicies__WrrLocality__V3__WrrLocality *m = message;
    size_t mark = errors_push(c->e, "endpoint_picking_policy");
    c->out->locality_weighted = true;
    compile_list(c, m->endpoint_picking_policy, depth + 1);
    errors_pop(c->e, mark);
}

#define POLICY(name) &envoy__extensions__load_balancing_policies__##name##__descriptor

static const struct known_policy {
    const ProtobufCMessageDescriptor *type;
    void (*take)(struct policy *c, const void *message, unsigned depth);
} known[] = {
    {POLICY(round_robin__v3__round_robin), take_round_robin},
    {POLICY(least_request__v3__least_request), take_least_request},
    {POLICY(random__v3__random), take_random},
    {POLICY(ring_hash__v3__ring_hash), take_ring_hash},
    {POLICY(maglev__v3__maglev), take_maglev},
    {POLICY(cluster_provided__v3__cluster_provided), take_provided},
    {POLICY(wrr_locality__v3__wrr_locality), take_wrr_locality},
    {POLICY(subset__v3__subset), take_subset},
};

/* True: this is the one, for better or worse. */
static bool try_policy(struct policy *c, const Envoy__Config__Core__V3__TypedExtensionConfig *ext,
                       unsigned depth)
{
    struct pb_any any;
    size_t mark = errors_push(c->e, "typed_extension_config.typed_config");
    enum pb_any_status status = pb_any_unpack(ext ? ext->typed_config : NULL, c->scratch, c->e,
                                              c->pb, &any);
    bool found = status == PB_ANY_INVALID;
    for (size_t i = 0; status == PB_ANY_OK && i < ARRAY_LEN(known) && !found; i++) {
        if (known[i].type != any.type)
            continue;
        known[i].take(c, any.message, depth);
        found = true;
    }
    errors_pop(c->e, mark);
    return found;
}

/* The first policy of the list that is known counts. */
static void compile_list(struct policy *c, const policy_list *list, unsigned depth)
{
    if (depth > POLICY_DEPTH) {
        errors_add(c->e, NULL, "more than %d policies in each other", POLICY_DEPTH);
        return;
    }
    for (size_t i = 0; list && i < list->n_policies; i++) {
        size_t mark = errors_push_index(c->e, "policies", i);
        bool found = try_policy(c, list->policies[i]->typed_extension_config, depth);
        errors_pop(c->e, mark);
        if (found)
            return;
    }
    errors_add(c->e, "policies", "none of them is supported");
}

static void compile_policies(struct policy *c, const cluster_message *msg)
{
    const Envoy__Config__Cluster__V3__Cluster__CommonLbConfig *common = msg->common_lb_config;
    size_t mark = errors_push(c->e, "load_balancing_policy");
    if (common && (common->locality_config_specifier_case || common->consistent_hashing_lb_config))
        errors_add(c->e, NULL,
                   "cannot be combined with zone_aware_lb_config, locality_weighted_lb_config or "
                   "consistent_hashing_lb_config of common_lb_config");
    if (msg->lb_subset_config)
        errors_add(c->e, NULL, "cannot be combined with lb_subset_config");
    compile_list(c, msg->load_balancing_policy, 1);
    errors_pop(c->e, mark);
}

/* --- lb_policy --- */

static void compile_slow_start(struct policy *c,
                               const Envoy__Config__Cluster__V3__Cluster__SlowStartConfig *m)
{
    size_t mark = errors_push(c->e, "slow_start_config");
    if (m)
        set_slow_start(c, m->slow_start_window, m->aggression, m->min_weight_percent);
    errors_pop(c->e, mark);
}

static void compile_least_request(struct policy *c, const cluster_message *msg)
{
    const Envoy__Config__Cluster__V3__Cluster__LeastRequestLbConfig *m =
        msg->lb_config_case ==
                ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_LEAST_REQUEST_LB_CONFIG
            ? msg->least_request_lb_config
            : NULL;
    size_t mark = errors_push(c->e, "least_request_lb_config");
    set_least_request(c, m ? m->choice_count : NULL, m ? m->active_request_bias : NULL);
    compile_slow_start(c, m ? m->slow_start_config : NULL);
    errors_pop(c->e, mark);
}

static void compile_round_robin(struct policy *c, const cluster_message *msg)
{
    size_t mark = errors_push(c->e, "round_robin_lb_config");
    c->out->lb_policy = LB_ROUND_ROBIN;
    if (msg->lb_config_case == ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_ROUND_ROBIN_LB_CONFIG)
        compile_slow_start(c, msg->round_robin_lb_config->slow_start_config);
    errors_pop(c->e, mark);
}

static void compile_ring(struct policy *c, const cluster_message *msg)
{
    const Envoy__Config__Cluster__V3__Cluster__RingHashLbConfig *m =
        msg->lb_config_case == ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_RING_HASH_LB_CONFIG
            ? msg->ring_hash_lb_config
            : NULL;
    size_t mark = errors_push(c->e, "ring_hash_lb_config");
    set_ring(
        c, m ? m->minimum_ring_size : NULL, m ? m->maximum_ring_size : NULL,
        m &&
            m->hash_function ==
                ENVOY__CONFIG__CLUSTER__V3__CLUSTER__RING_HASH_LB_CONFIG__HASH_FUNCTION__MURMUR_HASH_2);
    errors_pop(c->e, mark);
}

static void compile_maglev(struct policy *c, const cluster_message *msg)
{
    size_t mark = errors_push(c->e, "maglev_lb_config");
    set_maglev(c, msg->lb_config_case ==
                          ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_MAGLEV_LB_CONFIG
                      ? msg->maglev_lb_config->table_size
                      : NULL);
    errors_pop(c->e, mark);
}

static void compile_policy(struct policy *c, const cluster_message *msg)
{
    switch (msg->lb_policy) {
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__ROUND_ROBIN:
        compile_round_robin(c, msg);
        return;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__LEAST_REQUEST:
        compile_least_request(c, msg);
        return;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__RANDOM:
        c->out->lb_policy = LB_RANDOM;
        return;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__CLUSTER_PROVIDED:
        set_provided(c, "lb_policy");
        return;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__RING_HASH:
        compile_ring(c, msg);
        return;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__MAGLEV:
        compile_maglev(c, msg);
        return;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__LOAD_BALANCING_POLICY_CONFIG:
        errors_add(c->e, "load_balancing_policy", "is required for this lb_policy");
        return;
    default:
        errors_add(c->e, "lb_policy", "%d is not supported", (int)msg->lb_policy);
    }
}

static void
compile_original_dst(struct policy *c,
                     const Envoy__Config__Cluster__V3__Cluster__OriginalDstLbConfig *msg)
{
    size_t mark = errors_push(c->e, "original_dst_lb_config");
    struct cluster_config *out = c->out;
    struct str name = str_of(msg->http_header_name);
    char *lower;

    out->use_http_header = msg->use_http_header;
    if (name.len && !msg->use_http_header)
        errors_add(c->e, "http_header_name", "needs use_http_header");
    if (name.len == 0)
        name = STR("x-envoy-original-dst-host");
    lower = arena_bytes(&out->arena, name.len);
    for (size_t i = 0; i < name.len; i++)
        lower[i] = name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] + 32) : name.p[i];
    out->http_header_name = str_n(lower, name.len);
    out->upstream_port_override = wkt_u32(msg->upstream_port_override, 0);
    if (out->upstream_port_override > UINT16_MAX)
        errors_add(c->e, "upstream_port_override", "is not a port");
    errors_pop(c->e, mark);
}

static void compile_legacy(struct policy *c, const cluster_message *msg)
{
    size_t mark;
    compile_policy(c, msg);
    if (!msg->lb_subset_config)
        return;
    mark = errors_push(c->e, "lb_subset_config");
    c->out->subsets = subset_config_of_cluster(msg->lb_subset_config, &c->out->arena, c->e);
    if (c->out->lb_policy == LB_CLUSTER_PROVIDED)
        errors_add(c->e, NULL, "CLUSTER_PROVIDED cannot be divided into subsets");
    errors_pop(c->e, mark);
}

/* What is set for another policy than the one in force. */
static void compile_lb_config(struct policy *c, const cluster_message *msg)
{
    static const char none[] = "has no effect with this lb_policy";
    enum lb_policy policy = c->out->lb_policy;
    switch (msg->lb_config_case) {
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_LEAST_REQUEST_LB_CONFIG:
        if (policy != LB_LEAST_REQUEST)
            errors_warn(c->e, "least_request_lb_config", "%s", none);
        return;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_RING_HASH_LB_CONFIG:
        if (policy != LB_RING_HASH)
            errors_warn(c->e, "ring_hash_lb_config", "%s", none);
        return;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_MAGLEV_LB_CONFIG:
        if (policy != LB_MAGLEV)
            errors_warn(c->e, "maglev_lb_config", "%s", none);
        return;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_ORIGINAL_DST_LB_CONFIG:
        compile_original_dst(c, msg->original_dst_lb_config);
        if (c->out->type != CLUSTER_ORIGINAL_DST)
            errors_warn(c->e, "original_dst_lb_config", "has no effect with this type");
        return;
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_ROUND_ROBIN_LB_CONFIG:
        if (policy != LB_ROUND_ROBIN)
            errors_warn(c->e, "round_robin_lb_config", "%s", none);
        return;
    default:
        return;
    }
}

static void compile_common(struct policy *c,
                           const Envoy__Config__Cluster__V3__Cluster__CommonLbConfig *msg)
{
    const Envoy__Config__Cluster__V3__Cluster__CommonLbConfig__ConsistentHashingLbConfig *hashing;
    size_t mark = errors_push(c->e, "common_lb_config.consistent_hashing_lb_config");
    hashing = msg ? msg->consistent_hashing_lb_config : NULL;
    if (hashing && hashing->use_hostname_for_hashing &&
        (c->out->type == CLUSTER_STATIC || c->out->type == CLUSTER_EDS))
        errors_add(c->e, "use_hostname_for_hashing", "needs a type that resolves hostnames");
    if (hashing)
        set_hashing(c, hashing->use_hostname_for_hashing, hashing->hash_balance_factor);
    errors_pop(c->e, mark);
    if (!msg)
        return;
    if (msg->healthy_panic_threshold)
        c->out->healthy_panic_per_cent = (uint32_t)msg->healthy_panic_threshold->value;
    if (msg->locality_config_specifier_case ==
        ENVOY__CONFIG__CLUSTER__V3__CLUSTER__COMMON_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG)
        c->out->locality_weighted = true;
    c->out->exclude_unchecked = msg->ignore_new_hosts_until_first_hc;
    c->out->close_on_host_set_change = msg->close_connections_on_host_set_change;
}

void cluster_compile_policy(const void *message, struct cluster_config *out, struct arena *scratch,
                            struct errors *e, const struct pb_opts *pb)
{
    const cluster_message *msg = message;
    struct policy c = {.out = out, .scratch = scratch, .e = e, .pb = pb};
    size_t errors_before = e->num_errors;
    if (msg->load_balancing_policy)
        compile_policies(&c, msg);
    else
        compile_legacy(&c, msg);
    if (e->num_errors == errors_before && out->type == CLUSTER_ORIGINAL_DST &&
        out->lb_policy != LB_CLUSTER_PROVIDED)
        errors_add(e, "lb_policy", "type ORIGINAL_DST needs CLUSTER_PROVIDED");
    compile_lb_config(&c, msg);
    compile_common(&c, msg->common_lb_config);
}
