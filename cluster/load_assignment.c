#include "cluster/load_assignment.h"

#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "base/map.h"
#include "cluster/address.h"
#include "cluster/host.h"
#include "envoy/config/endpoint/v3/endpoint.pb-c.h"
#include <stdlib.h>

static const struct str match_key = STR("envoy.transport_socket_match");
static const struct str lb_key = STR("envoy.lb");

/* read_labels finds the labels in metadata; equal to `last`, as is usual, they are shared. */
static const struct labels *read_labels(const Envoy__Config__Core__V3__Metadata *m, struct str key,
                                        const struct labels *last, struct arena *a)
{
    const struct labels *l = NULL;
    for (size_t i = 0; m && i < m->n_filter_metadata; i++) {
        if (str_eq(str_of(m->filter_metadata[i]->key), key))
            l = labels_of(m->filter_metadata[i]->value, a);
    }
    return l && labels_equal(l, last) ? last : l;
}

enum { ADDITIONAL_MAX = 7 }; /* with the address itself: CONN_RACE_MAX */

/* --- compiling ------------------------------------------------------------------------------ */

struct compiling {
    struct load_assignment *la;
    struct errors *e;
    struct map seen; /* addresses and places, in the scratch arena */
    struct arena scratch;
    const struct labels *last, *last_lb; /* labels of the endpoint before */
    bool names;                          /* an address may be one */
};

static bool seen_before(struct compiling *c, const struct addr *addr)
{
    struct str key = arena_str(&c->scratch, addr_key(addr));
    return map_put(&c->seen, key, c) != NULL;
}

static void
compile_health_check(struct compiling *c,
                     const Envoy__Config__Endpoint__V3__Endpoint__HealthCheckConfig *msg,
                     struct assigned_endpoint *out)
{
    size_t mark = errors_push(c->e, "endpoint.health_check_config");
    out->hc_addr = out->addr;
    out->hc_hostname = arena_str(&c->la->arena, str_of(msg->hostname));
    out->hc_disabled = msg->disable_active_health_check;
    if (msg->address) {
        size_t inner = errors_push(c->e, "address");
        (void)!address_compile(msg->address, &out->hc_addr, c->e);
        errors_pop(c->e, inner);
    }
    if (msg->port_value > UINT16_MAX)
        errors_add(c->e, "port_value", "is not a port");
    else if (msg->port_value)
        out->hc_port = (uint16_t)msg->port_value;
    if (out->hc_port)
        addr_set_port(&out->hc_addr, out->hc_port);
    errors_pop(c->e, mark);
}

static void compile_more(struct compiling *c, const Envoy__Config__Endpoint__V3__Endpoint *msg,
                         struct assigned_endpoint *out)
{
    struct addr *more = arena_alloc(&c->la->arena, msg->n_additional_addresses * sizeof(*more));
    for (size_t i = 0; i < msg->n_additional_addresses; i++) {
        size_t mark = errors_push_index(c->e, "endpoint.additional_addresses", i);
        size_t inner = errors_push(c->e, "address");
        if (address_compile(msg->additional_addresses[i]->address, &more[i], c->e) &&
            !addr_is_ip(&more[i]))
            errors_add(c->e, NULL, "must be an IP address");
        errors_pop(c->e, inner);
        errors_pop(c->e, mark);
    }
    out->more = more;
    out->num_more = (uint32_t)msg->n_additional_addresses;
    if (out->num_more > ADDITIONAL_MAX) {
        errors_warn(c->e, "endpoint.additional_addresses", "%u addresses, %d are tried",
                    out->num_more, ADDITIONAL_MAX);
        out->num_more = ADDITIONAL_MAX;
    }
}

/* False: not an endpoint, after an error or because it was listed before. */
static bool compile_endpoint(struct compiling *c,
                             const Envoy__Config__Endpoint__V3__LbEndpoint *msg,
                             struct assigned_endpoint *out)
{
    struct arena *a = &c->la->arena;
    size_t mark;
    bool ok;

    if (msg->host_identifier_case !=
        ENVOY__CONFIG__ENDPOINT__V3__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT) {
        errors_add(c->e, "endpoint", "an endpoint is required");
        return false;
    }
    mark = errors_push(c->e, "endpoint.address");
    ok = c->names ? address_compile_named(msg->endpoint->address, &out->addr, &out->dns_name,
                                          &out->dns_port, c->e)
                  : address_compile(msg->endpoint->address, &out->addr, c->e);
    errors_pop(c->e, mark);
    if (!ok)
        return false;
    out->dns_name = arena_str(a, out->dns_name);
    if (out->dns_name.len == 0 && seen_before(c, &out->addr)) {
        errors_warn(c->e, "endpoint.address", "listed before; the first one counts");
        return false;
    }
    if (msg->health_status > ENVOY__CONFIG__CORE__V3__HEALTH_STATUS__DEGRADED) {
        errors_add(c->e, "health_status", "%d is not a health status", (int)msg->health_status);
        return false;
    }
    if (msg->endpoint->health_check_config)
        compile_health_check(c, msg->endpoint->health_check_config, out);
    out->health = (uint32_t)msg->health_status;
    out->hostname = arena_str(a, str_of(msg->endpoint->hostname));
    if (c->names && out->hostname.len == 0 &&
        msg->endpoint->address->address_case ==
            ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS)
        out->hostname = arena_str(a, str_of(msg->endpoint->address->socket_address->address));
    if (msg->endpoint->n_additional_addresses)
        compile_more(c, msg->endpoint, out);
    out->weight = wkt_u32(msg->load_balancing_weight, 1);
    out->labels = c->last = read_labels(msg->metadata, match_key, c->last, a);
    out->lb = c->last_lb = read_labels(msg->metadata, lb_key, c->last_lb, a);
    return true;
}

static void compile_locality(struct compiling *c,
                             const Envoy__Config__Endpoint__V3__LocalityLbEndpoints *msg,
                             struct assigned_locality *out)
{
    struct arena *a = &c->la->arena;
    struct assigned_endpoint *v = arena_zalloc(a, msg->n_lb_endpoints * sizeof(*v));
    uint64_t sum = 0;

    if (msg->locality) {
        out->region = arena_str(a, str_of(msg->locality->region));
        out->zone = arena_str(a, str_of(msg->locality->zone));
        out->sub_zone = arena_str(a, str_of(msg->locality->sub_zone));
    }
    out->priority = msg->priority;
    out->weight = wkt_u32(msg->load_balancing_weight, 0);
    out->labels = read_labels(msg->metadata, match_key, NULL, a);
    out->endpoints = v;
    if (out->priority > HOST_PRIORITY_MAX)
        errors_add(c->e, "priority", "must be at most %d", HOST_PRIORITY_MAX);
    for (size_t i = 0; i < msg->n_lb_endpoints; i++) {
        size_t mark = errors_push_index(c->e, "lb_endpoints", i);
        if (compile_endpoint(c, msg->lb_endpoints[i], &v[out->num_endpoints]))
            sum += v[out->num_endpoints++].weight;
        errors_pop(c->e, mark);
    }
    if (sum > UINT32_MAX)
        errors_add(c->e, "lb_endpoints", "the weights of the endpoints sum up to more than %u",
                   UINT32_MAX);
}

static int by_priority(const void *pa, const void *pb)
{
    const struct assigned_locality *a = pa, *b = pb;
    if (a->priority != b->priority)
        return a->priority < b->priority ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order; /* qsort is not stable */
}

static bool place_seen(struct compiling *c, const struct assigned_locality *l)
{
    struct str key = arena_printf(&c->scratch, "%u %zu.%.*s %zu.%.*s %.*s", l->priority,
                                  l->region.len, STR_ARG(l->region), l->zone.len, STR_ARG(l->zone),
                                  STR_ARG(l->sub_zone));
    return map_put(&c->seen, key, c) != NULL;
}

/* check_localities holds each priority's localities against each other. A locality that is listed
 * twice is accepted, as in Envoy: its endpoints count together, in two groups of one weight. */
static void check_localities(struct compiling *c)
{
    const struct assigned_locality *v = c->la->localities;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->la->num_localities; i++) {
        if (i > 0 && v[i].priority != v[i - 1].priority)
            sum = 0;
        sum += v[i].weight;
        if (sum > UINT32_MAX) {
            errors_add(c->e, "endpoints",
                       "the weights of the localities of priority %u sum up to more than %u",
                       v[i].priority, UINT32_MAX);
            return;
        }
        if (place_seen(c, &v[i]))
            errors_warn(c->e, "endpoints", "locality %.*s/%.*s/%.*s is listed twice",
                        STR_ARG(v[i].region), STR_ARG(v[i].zone), STR_ARG(v[i].sub_zone));
    }
}

static void compile_policy(struct compiling *c,
                           const Envoy__Config__Endpoint__V3__ClusterLoadAssignment__Policy *msg)
{
    struct load_assignment *la = c->la;
    size_t mark = errors_push(c->e, "policy");

    la->overprovisioning = wkt_u32(msg->overprovisioning_factor, HOST_OVERPROVISIONING);
    la->weighted_health = msg->weighted_priority_health;
    la->stale_after_ms = wkt_duration_ms(msg->endpoint_stale_after, 0, c->e,
                                         "endpoint_stale_after");
    if (msg->n_drop_overloads > 1)
        errors_add(c->e, "drop_overloads", "%zu categories, only one is supported",
                   msg->n_drop_overloads);
    else if (msg->n_drop_overloads == 1)
        la->drop_ppm = wkt_fraction_ppm(msg->drop_overloads[0]->drop_percentage, 0);
    errors_pop(c->e, mark);
}

static void load_assignment_free(struct load_assignment *la)
{
    load_assignment_unref(la->over);
    arena_cleanup(&la->arena);
    mem_free(la);
}

static struct load_assignment *
compile_all(const Envoy__Config__Endpoint__V3__ClusterLoadAssignment *msg, bool names,
            struct errors *e)
{
    struct compiling c = {.la = NEW(struct load_assignment), .e = e, .names = names};
    struct load_assignment *la = c.la;
    size_t errors_before = e->num_errors;
    struct assigned_locality *v;

    refcount_init(&la->ref);
    arena_init(&la->arena, 512);
    arena_init(&c.scratch, 0);
    map_init(&c.seen, false);
    la->name = arena_str(&la->arena, str_of(msg->cluster_name));
    la->overprovisioning = HOST_OVERPROVISIONING;
    la->num_localities = (uint32_t)msg->n_endpoints;
    la->localities = v = arena_zalloc(&la->arena, msg->n_endpoints * sizeof(*v));
    for (size_t i = 0; i < msg->n_endpoints; i++) {
        size_t mark = errors_push_index(e, "endpoints", i);
        v[i].order = (uint32_t)i;
        compile_locality(&c, msg->endpoints[i], &v[i]);
        errors_pop(e, mark);
    }
    if (msg->policy)
        compile_policy(&c, msg->policy);
    if (la->num_localities > 1)
        qsort(v, la->num_localities, sizeof(*v), by_priority);
    check_localities(&c);
    map_cleanup(&c.seen, NULL);
    arena_cleanup(&c.scratch);
    if (e->num_errors == errors_before)
        return la;
    load_assignment_free(la);
    return NULL;
}

struct load_assignment *load_assignment_from(const void *message, struct errors *e)
{
    return compile_all(message, false, e);
}

struct load_assignment *load_assignment_from_names(const void *message, struct errors *e)
{
    return compile_all(message, true, e);
}

struct load_assignment *load_assignment_over(struct load_assignment *base)
{
    struct load_assignment *la = NEW(struct load_assignment);
    *la = *base;
    la->over = load_assignment_ref(base);
    la->stale_after_ms = 0; /* of what a control plane sends, and this is not from one */
    refcount_init(&la->ref);
    arena_init(&la->arena, 512);
    return la;
}

struct load_assignment *load_assignment_compile(struct str bytes, struct errors *e,
                                                const struct pb_opts *opts)
{
    struct load_assignment *la = NULL;
    struct arena scratch;
    const void *msg;

    arena_init(&scratch, 0);
    msg = PB_UNPACK(Envoy__Config__Endpoint__V3__ClusterLoadAssignment,
                    envoy__config__endpoint__v3__cluster_load_assignment, bytes, &scratch, e, opts);
    if (msg)
        la = load_assignment_from(msg, e);
    arena_cleanup(&scratch);
    return la;
}

struct load_assignment *load_assignment_ref(struct load_assignment *la)
{
    if (la)
        refcount_inc(&la->ref);
    return la;
}

void load_assignment_unref(struct load_assignment *la)
{
    if (la && refcount_dec(&la->ref))
        load_assignment_free(la);
}
