#include "proxy/listener/chain_match.h"

#include "api-protos/wkt.h"
#include "base/cidr.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/listener/v3/listener_components.pb-c.h"

typedef Envoy__Config__Listener__V3__FilterChainMatch Match;

enum source_type { SOURCE_ANY, SOURCE_LOCAL, SOURCE_EXTERNAL };

struct ranges {
    struct cidr *v;
    size_t n;
};

struct names {
    struct str *v;
    size_t n;
};

struct rule {
    uint32_t port; /* 0: any */
    struct ranges destination, direct_source, source;
    struct names servers; /* lower case; "*.a.com" as ".a.com" */
    struct str transport;
    struct names alpn;
    enum source_type source_type;
    uint32_t *source_ports;
    size_t num_source_ports;
};

struct chain_match {
    struct rule *rules;
    size_t n;
};

/* --- compile --- */

static struct ranges compile_ranges(struct arena *a, Envoy__Config__Core__V3__CidrRange **msgs,
                                    size_t n, const char *field, struct errors *e)
{
    struct ranges r = {arena_zalloc(a, (n + 1) * sizeof(*r.v)), n};
    for (size_t i = 0; i < n; i++) {
        uint32_t len = wkt_u32(msgs[i]->prefix_len, 0);
        size_t mark = errors_push_index(e, field, i);
        if (!cidr_make(str_of(msgs[i]->address_prefix), len, &r.v[i]))
            errors_add(e, NULL, "malformed IP address range: %s/%u", msgs[i]->address_prefix, len);
        errors_pop(e, mark);
    }
    return r;
}

static struct names compile_servers(struct arena *a, char **names, size_t n, struct errors *e)
{
    struct names out = {arena_zalloc(a, (n + 1) * sizeof(*out.v)), n};
    for (size_t i = 0; i < n; i++) {
        struct str s = arena_str(a, str_of(names[i]));
        for (size_t k = 0; k < s.len; k++) {
            if (s.p[k] >= 'A' && s.p[k] <= 'Z')
                ((char *)(uintptr_t)s.p)[k] |= 0x20;
        }
        if (str_starts(s, STR("*.")))
            s = str_n(s.p + 1, s.len - 1);
        size_t mark = errors_push_index(e, "server_names", i);
        if (str_chr(s, '*') >= 0)
            errors_add(e, NULL, "partial wildcards are not supported in server names");
        errors_pop(e, mark);
        out.v[i] = s;
    }
    return out;
}

static void compile_rule(struct arena *a, const Match *m, struct rule *r, struct errors *e)
{
    r->port = wkt_u32(m->destination_port, 0);
    r->destination = compile_ranges(a, m->prefix_ranges, m->n_prefix_ranges, "prefix_ranges", e);
    r->direct_source = compile_ranges(a, m->direct_source_prefix_ranges,
                                      m->n_direct_source_prefix_ranges,
                                      "direct_source_prefix_ranges", e);
    r->source = compile_ranges(a, m->source_prefix_ranges, m->n_source_prefix_ranges,
                               "source_prefix_ranges", e);
    r->servers = compile_servers(a, m->server_names, m->n_server_names, e);
    r->transport = arena_str(a, str_of(m->transport_protocol));
    r->alpn = (struct names){arena_zalloc(a, (m->n_application_protocols + 1) * sizeof(struct str)),
                             m->n_application_protocols};
    for (size_t i = 0; i < r->alpn.n; i++)
        r->alpn.v[i] = arena_str(a, str_of(m->application_protocols[i]));
    r->source_type = (enum source_type)m->source_type;
    r->source_ports = arena_zalloc(a, (m->n_source_ports + 1) * sizeof(uint32_t));
    r->num_source_ports = m->n_source_ports;
    for (size_t i = 0; i < m->n_source_ports; i++)
        r->source_ports[i] = m->source_ports[i];
}

static bool share_range(const struct ranges *a, const struct ranges *b)
{
    for (size_t i = 0; i < a->n; i++) {
        for (size_t k = 0; k < b->n; k++) {
            if (cidr_eq(&a->v[i], &b->v[k]))
                return true;
        }
    }
    return !a->n && !b->n;
}

static bool share_name(const struct names *a, const struct names *b)
{
    for (size_t i = 0; i < a->n; i++) {
        for (size_t k = 0; k < b->n; k++) {
            if (str_eq(a->v[i], b->v[k]))
                return true;
        }
    }
    return !a->n && !b->n;
}

static bool share_port(const struct rule *a, const struct rule *b)
{
    for (size_t i = 0; i < a->num_source_ports; i++) {
        for (size_t k = 0; k < b->num_source_ports; k++) {
            if (a->source_ports[i] == b->source_ports[k])
                return true;
        }
    }
    return !a->num_source_ports && !b->num_source_ports;
}

/* Whether one value of every criterion is both's: a connection with these would not know where to
 * go. Ranges that contain each other are apart: the narrower one wins. */
static bool overlap(const struct rule *a, const struct rule *b)
{
    return a->port == b->port && a->source_type == b->source_type &&
           str_eq(a->transport, b->transport) && share_name(&a->servers, &b->servers) &&
           share_name(&a->alpn, &b->alpn) && share_range(&a->destination, &b->destination) &&
           share_range(&a->direct_source, &b->direct_source) &&
           share_range(&a->source, &b->source) && share_port(a, b);
}

struct chain_match *chain_match_compile(struct arena *a, const void *const *msgs, size_t n,
                                        struct errors *e)
{
    struct chain_match *cm = ARENA_NEW(a, struct chain_match);
    cm->rules = arena_zalloc(a, (n + 1) * sizeof(*cm->rules));
    cm->n = n;
    for (size_t i = 0; i < n; i++) {
        size_t mark = errors_push_index(e, "filter_chains", i);
        size_t inner = errors_push(e, "filter_chain_match");
        if (msgs[i])
            compile_rule(a, msgs[i], &cm->rules[i], e);
        for (size_t k = 0; k < i; k++) {
            if (overlap(&cm->rules[i], &cm->rules[k])) {
                errors_add(e, NULL, "overlapping matching rules: filter_chains[%zu] has them too",
                           k);
                break;
            }
        }
        errors_pop(e, inner);
        errors_pop(e, mark);
    }
    return cm;
}

/* --- search --- */

/* How well a rule fits at one level: -1 not at all, 0 says nothing, else the higher the more
 * specific. Only the chains with the best score go on to the next level, whatever the levels below
 * then say. That is the same as to take the greatest list of scores, and to find no chain if a
 * level of that one does not fit. */
typedef int (*score_fn)(const struct rule *r, const struct chain_match_input *in);

static int best_range(const struct ranges *r, const struct addr *a)
{
    int best = -1;
    for (size_t i = 0; i < r->n; i++) {
        if (cidr_contains(&r->v[i], a) && (int)r->v[i].bits + 1 > best)
            best = (int)r->v[i].bits + 1;
    }
    return r->n ? best : 0;
}

static int score_port(const struct rule *r, const struct chain_match_input *in)
{
    if (!r->port)
        return 0;
    return r->port == addr_port(in->local) ? 1 : -1;
}

static int score_destination(const struct rule *r, const struct chain_match_input *in)
{
    return best_range(&r->destination, in->local);
}

static int score_server(const struct rule *r, const struct chain_match_input *in)
{
    int best = -1;
    for (size_t i = 0; i < r->servers.n; i++) {
        struct str s = r->servers.v[i];
        int score = -1;
        if (s.len && s.p[0] == '.') /* the longer the suffix, the more specific */
            score = in->sni.len > s.len && str_ends(in->sni, s) ? (int)s.len : -1;
        else if (str_eq(s, in->sni) && s.len)
            score = INT32_MAX;
        if (score > best)
            best = score;
    }
    return r->servers.n ? best : 0;
}

static int score_transport(const struct rule *r, const struct chain_match_input *in)
{
    if (!r->transport.len)
        return 0;
    return str_eq(r->transport, in->transport_protocol) ? 1 : -1;
}

/* The connection's protocols in their order: the first that some chain knows decides. */
static int score_alpn(const struct rule *r, const struct chain_match_input *in)
{
    if (!r->alpn.n)
        return 0;
    for (size_t i = 0; i < in->num_alpn; i++) {
        for (size_t k = 0; k < r->alpn.n; k++) {
            if (str_eq(r->alpn.v[k], in->alpn[i]))
                return (int)(in->num_alpn - i);
        }
    }
    return -1;
}

static int score_direct_source(const struct rule *r, const struct chain_match_input *in)
{
    return best_range(&r->direct_source, in->direct_remote);
}

static int score_source_type(const struct rule *r, const struct chain_match_input *in)
{
    bool local = addr_family(in->remote) == ADDR_PIPE || addr_is_loopback(in->remote) ||
                 addr_eq_ip(in->remote, in->local);
    switch (r->source_type) {
    case SOURCE_ANY:
        return 0;
    case SOURCE_LOCAL:
        return local ? 1 : -1;
    case SOURCE_EXTERNAL:
        return local ? -1 : 1;
    }
    return -1;
}

static int score_source(const struct rule *r, const struct chain_match_input *in)
{
    return best_range(&r->source, in->remote);
}

static int score_source_port(const struct rule *r, const struct chain_match_input *in)
{
    for (size_t i = 0; i < r->num_source_ports; i++) {
        if (r->source_ports[i] == addr_port(in->remote))
            return 1;
    }
    return r->num_source_ports ? -1 : 0;
}

static const score_fn levels[] = {
    score_port,          score_destination, score_server, score_transport,   score_alpn,
    score_direct_source, score_source_type, score_source, score_source_port,
};

int chain_match_find(const struct chain_match *m, const struct chain_match_input *in)
{
    int best[ARRAY_LEN(levels)];
    int found = -1;
    for (size_t i = 0; i < m->n; i++) {
        bool ahead = found < 0;
        for (size_t l = 0; l < ARRAY_LEN(levels); l++) {
            int score = levels[l](&m->rules[i], in);
            if (!ahead && score < best[l])
                break;
            ahead |= score > best[l];
            if (ahead)
                best[l] = score;
        }
        if (ahead)
            found = (int)i;
    }
    for (size_t l = 0; found >= 0 && l < ARRAY_LEN(levels); l++) {
        if (best[l] < 0)
            return -1;
    }
    return found;
}
