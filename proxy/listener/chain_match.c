#include "proxy/listener/chain_match.h"

#include "api-protos/wkt.h"
#include "base/cidr.h"
#include "base/map.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/listener/v3/listener_components.pb-c.h"

typedef Envoy__Config__Listener__V3__FilterChainMatch Match;

/* The levels in their order; each node of the tree decides one. */
enum level {
    LEVEL_PORT,
    LEVEL_DESTINATION,
    LEVEL_SERVER,
    LEVEL_TRANSPORT,
    LEVEL_ALPN,
    LEVEL_DIRECT_SOURCE,
    LEVEL_SOURCE_TYPE,
    LEVEL_SOURCE,
    LEVEL_SOURCE_PORT,
    NUM_LEVELS
};

/* The values that a chain names at a level: texts (a port as its two bytes) or ranges; none: any.
 */
struct values {
    struct str *texts;
    struct cidr *ranges;
    size_t num;
};

struct rule {
    struct values v[NUM_LEVELS];
};

struct node {
    struct node *any;  /* of chains that name nothing here */
    struct map *texts; /* to struct node */
    struct cidr_map *ranges;
    size_t chain; /* below the last level: 1 + index */
};

/* A chain with many values at many levels has as many leaves as there are combinations. */
enum { MAX_NODES = 2 << 20 };

struct chain_match {
    struct arena *arena;
    struct node root;
    size_t num_nodes;
};

#define LOCAL STR("l") /* source types */
#define EXTERNAL STR("e")

/* --- the values of a chain --- */

static struct values texts_of(struct arena *a, char **texts, size_t n)
{
    struct values v = {.texts = arena_zalloc(a, (n + 1) * sizeof(*v.texts)), .num = n};
    for (size_t i = 0; i < n; i++)
        v.texts[i] = arena_str(a, str_of(texts[i]));
    return v;
}

static struct values text_of(struct arena *a, struct str s)
{
    struct values v = {.texts = ARENA_NEW(a, struct str), .num = 1};
    v.texts[0] = arena_str(a, s);
    return v;
}

static struct str port_key(const uint16_t *port)
{
    return str_n((const char *)port, sizeof(*port));
}

static struct values ports_of(struct arena *a, const uint32_t *ports, size_t n)
{
    struct values v = {.texts = arena_zalloc(a, (n + 1) * sizeof(*v.texts)), .num = n};
    for (size_t i = 0; i < n; i++) {
        uint16_t port = (uint16_t)ports[i];
        v.texts[i] = arena_str(a, port_key(&port));
    }
    return v;
}

static struct values ranges_of(struct arena *a, Envoy__Config__Core__V3__CidrRange **msgs, size_t n,
                               const char *field, struct errors *e)
{
    struct values v = {.ranges = arena_zalloc(a, (n + 1) * sizeof(*v.ranges)), .num = n};
    for (size_t i = 0; i < n; i++) {
        uint32_t len = wkt_u32(msgs[i]->prefix_len, 0);
        size_t mark = errors_push_index(e, field, i);
        if (!cidr_make(str_of(msgs[i]->address_prefix), len, &v.ranges[i]))
            errors_add(e, NULL, "malformed IP address range: %s/%u", msgs[i]->address_prefix, len);
        errors_pop(e, mark);
    }
    return v;
}

/* Lower case; "*.a.com" as ".a.com", which no name is. */
static struct values servers_of(struct arena *a, char **names, size_t n, struct errors *e)
{
    struct values v = texts_of(a, names, n);
    for (size_t i = 0; i < n; i++) {
        struct str s = v.texts[i];
        for (size_t k = 0; k < s.len; k++) {
            if (s.p[k] >= 'A' && s.p[k] <= 'Z')
                ((char *)(uintptr_t)s.p)[k] |= 0x20;
        }
        size_t mark = errors_push_index(e, "server_names", i);
        if (str_starts(s, STR("*.")))
            s = str_n(s.p + 1, s.len - 1);
        else if (str_chr(s, '*') >= 0)
            errors_add(e, NULL, "partial wildcards are not supported in server names");
        errors_pop(e, mark);
        v.texts[i] = s;
    }
    return v;
}

static void compile_rule(struct arena *a, const Match *m, struct rule *r, struct errors *e)
{
    struct values *v = r->v;
    uint32_t port = wkt_u32(m->destination_port, 0);
    if (port)
        v[LEVEL_PORT] = ports_of(a, &port, 1);
    v[LEVEL_DESTINATION] = ranges_of(a, m->prefix_ranges, m->n_prefix_ranges, "prefix_ranges", e);
    v[LEVEL_SERVER] = servers_of(a, m->server_names, m->n_server_names, e);
    if (m->transport_protocol[0])
        v[LEVEL_TRANSPORT] = text_of(a, str_of(m->transport_protocol));
    v[LEVEL_ALPN] = texts_of(a, m->application_protocols, m->n_application_protocols);
    v[LEVEL_DIRECT_SOURCE] = ranges_of(a, m->direct_source_prefix_ranges,
                                       m->n_direct_source_prefix_ranges,
                                       "direct_source_prefix_ranges", e);
    if (m->source_type)
        v[LEVEL_SOURCE_TYPE] = text_of(
            a,
            m->source_type ==
                    ENVOY__CONFIG__LISTENER__V3__FILTER_CHAIN_MATCH__CONNECTION_SOURCE_TYPE__EXTERNAL
                ? EXTERNAL
                : LOCAL);
    v[LEVEL_SOURCE] = ranges_of(a, m->source_prefix_ranges, m->n_source_prefix_ranges,
                                "source_prefix_ranges", e);
    v[LEVEL_SOURCE_PORT] = ports_of(a, m->source_ports, m->n_source_ports);
}

/* --- the tree --- */

struct build {
    struct chain_match *cm;
    const struct rule *rule;
    size_t chain;   /* 1 + index */
    size_t overlap; /* a chain that has a leaf of this one: 1 + index; 0 none */
};

static struct node *node_new(struct build *b)
{
    b->cm->num_nodes++;
    return ARENA_NEW(b->cm->arena, struct node);
}

static struct node *by_text(struct build *b, struct node *n, struct str text)
{
    if (!n->texts) {
        n->texts = NEW(struct map);
        map_init(n->texts, false);
    }
    struct node *child = map_get(n->texts, text);
    if (!child) {
        child = node_new(b);
        (void)map_put(n->texts, text, child);
    }
    return child;
}

static struct node *by_range(struct build *b, struct node *n, const struct cidr *range)
{
    if (!n->ranges) {
        n->ranges = NEW(struct cidr_map);
        cidr_map_init(n->ranges);
    }
    void **slot = cidr_map_slot(n->ranges, range);
    if (!*slot)
        *slot = node_new(b);
    return *slot;
}

static void insert(struct build *b, struct node *n, unsigned level)
{
    if (b->cm->num_nodes > MAX_NODES)
        return;
    if (level == NUM_LEVELS) {
        if (n->chain && !b->overlap)
            b->overlap = n->chain;
        n->chain = b->chain;
        return;
    }
    const struct values *v = &b->rule->v[level];
    for (size_t i = 0; i < v->num; i++)
        insert(b, v->texts ? by_text(b, n, v->texts[i]) : by_range(b, n, &v->ranges[i]), level + 1);
    if (v->num)
        return;
    if (!n->any)
        n->any = node_new(b);
    insert(b, n->any, level + 1);
}

/* Makes the ranges of a tree ready to be searched, or frees what is not in the arena. */
static void each_node(struct node *n, void (*fn)(struct node *n))
{
    struct str key;
    void *child;
    for (size_t it = 0; n->texts && map_next(n->texts, &it, &key, &child);)
        each_node(child, fn);
    for (size_t f = 0; n->ranges && f < ARRAY_LEN(n->ranges->num); f++) {
        for (size_t i = 0; i < n->ranges->num[f]; i++)
            each_node(n->ranges->entries[f][i].value, fn);
    }
    if (n->any)
        each_node(n->any, fn);
    fn(n);
}

static void seal(struct node *n)
{
    if (n->ranges)
        cidr_map_seal(n->ranges);
}

static void release(struct node *n)
{
    if (n->texts)
        map_cleanup(n->texts, NULL);
    if (n->ranges)
        cidr_map_cleanup(n->ranges, NULL);
    mem_free(n->texts);
    mem_free(n->ranges);
    n->texts = NULL;
    n->ranges = NULL;
}

void chain_match_release(struct chain_match *cm)
{
    if (cm)
        each_node(&cm->root, release);
}

struct chain_match *chain_match_compile(struct arena *a, const void *const *msgs, size_t n,
                                        struct errors *e)
{
    struct chain_match *cm = ARENA_NEW(a, struct chain_match);
    cm->arena = a;
    for (size_t i = 0; i < n; i++) {
        struct rule rule = {0};
        struct build b = {.cm = cm, .rule = &rule, .chain = i + 1};
        size_t before = e->num_errors;
        size_t mark = errors_push_index(e, "filter_chains", i);
        size_t inner = errors_push(e, "filter_chain_match");
        if (msgs[i])
            compile_rule(a, msgs[i], &rule, e);
        if (e->num_errors == before)
            insert(&b, &cm->root, 0);
        if (b.overlap == i + 1)
            errors_add(e, NULL, "overlapping matching rules: a value is there twice");
        else if (b.overlap)
            errors_add(e, NULL, "overlapping matching rules: filter_chains[%zu] has them too",
                       b.overlap - 1);
        if (cm->num_nodes > MAX_NODES)
            errors_add(e, NULL, "too many combinations of values, with those of the chains before");
        errors_pop(e, inner);
        errors_pop(e, mark);
    }
    each_node(&cm->root, seal);
    return cm;
}

/* --- search --- */

static const struct node *text_child(const struct node *n, struct str key)
{
    return n->texts ? map_get(n->texts, key) : NULL;
}

static const struct node *port_child(const struct node *n, const struct addr *a)
{
    uint16_t port = addr_port(a);
    return text_child(n, port_key(&port));
}

static const struct node *range_child(const struct node *n, const struct addr *a)
{
    return n->ranges ? cidr_map_find(n->ranges, a) : NULL;
}

/* The name itself, else the longest suffix of it that is a wildcard. */
static const struct node *server_child(const struct node *n, struct str sni)
{
    if (!n->texts || !sni.len)
        return NULL;
    const struct node *found = text_child(n, sni);
    for (size_t i = 1; !found && i + 1 < sni.len; i++) {
        if (sni.p[i] == '.')
            found = text_child(n, str_n(sni.p + i, sni.len - i));
    }
    return found;
}

/* The connection's protocols in their order: the first that some chain knows decides. */
static const struct node *alpn_child(const struct node *n, const struct chain_match_input *in)
{
    const struct node *found = NULL;
    for (size_t i = 0; n->texts && !found && i < in->num_alpn; i++)
        found = text_child(n, in->alpn[i]);
    return found;
}

static const struct node *source_type_child(const struct node *n,
                                            const struct chain_match_input *in)
{
    if (!n->texts)
        return NULL;
    bool local = addr_family(in->remote) == ADDR_PIPE || addr_is_loopback(in->remote) ||
                 addr_eq_ip(in->remote, in->local);
    return text_child(n, local ? LOCAL : EXTERNAL);
}

static const struct node *child_of(const struct node *n, enum level level,
                                   const struct chain_match_input *in)
{
    switch (level) {
    case LEVEL_PORT:
        return port_child(n, in->local);
    case LEVEL_DESTINATION:
        return range_child(n, in->local);
    case LEVEL_SERVER:
        return server_child(n, in->sni);
    case LEVEL_TRANSPORT:
        return text_child(n, in->transport_protocol);
    case LEVEL_ALPN:
        return alpn_child(n, in);
    case LEVEL_DIRECT_SOURCE:
        return range_child(n, in->direct_remote);
    case LEVEL_SOURCE_TYPE:
        return source_type_child(n, in);
    case LEVEL_SOURCE:
        return range_child(n, in->remote);
    case LEVEL_SOURCE_PORT:
        return port_child(n, in->remote);
    case NUM_LEVELS:
        break;
    }
    return NULL;
}

/* What is chosen at a level stays chosen, whatever the levels below then say. */
int chain_match_find(const struct chain_match *m, const struct chain_match_input *in)
{
    const struct node *n = &m->root;
    for (enum level l = LEVEL_PORT; l < NUM_LEVELS; l++) {
        const struct node *child = child_of(n, l, in);
        n = child ? child : n->any;
        if (!n)
            return -1;
    }
    return (int)n->chain - 1;
}
