#include "deploy/init/rules.h"

#include <stdio.h>

/* Jumps into our chains are known by their target. A rule of ours in a chain of the kernel's that
 * jumps nowhere carries this comment, so that it can be found again. */
#define TAG "attache-init"
#define COMMENT " -m comment --comment " TAG

enum table { TABLE_MANGLE, TABLE_NAT, NUM_TABLES };

static const char *const table_names[NUM_TABLES] = {"mangle", "nat"};

static const struct {
    const char *name;
    enum table table;
} chains[] = {
    {"ISTIO_DROP", TABLE_MANGLE},     {"ISTIO_INBOUND", TABLE_NAT}, {"ISTIO_REDIRECT", TABLE_NAT},
    {"ISTIO_IN_REDIRECT", TABLE_NAT}, {"ISTIO_OUTPUT", TABLE_NAT},
};

/* Lines of one table, in order. */
struct lines {
    struct str *items;
    size_t num_items, cap;
};

struct program {
    struct arena *arena;
    const struct options *o;
    enum rules_family family;
    struct lines removed[NUM_TABLES]; /* -D of what is there */
    struct lines added[NUM_TABLES];
    bool present[ARRAY_LEN(chains)]; /* the chain is there now */
    bool wanted[ARRAY_LEN(chains)];
};

static void push(struct program *p, struct lines *l, struct str line)
{
    if (l->num_items == l->cap) {
        struct str *old = l->items;
        l->cap = l->cap ? 2 * l->cap : 16;
        l->items = arena_alloc(p->arena, l->cap * sizeof(*l->items));
        if (l->num_items > 0)
            memcpy(l->items, old, l->num_items * sizeof(*l->items));
    }
    l->items[l->num_items++] = line;
}

PRINTF_LIKE(2, 3) static void nat(struct program *p, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    push(p, &p->added[TABLE_NAT], arena_vprintf(p->arena, fmt, ap));
    va_end(ap);
}

/* --- what is there ------------------------------------------------------------------------- */

static int find_chain(enum table table, struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
        if (chains[i].table == table && str_eq(name, str_of(chains[i].name)))
            return (int)i;
    }
    return -1;
}

/* The word behind the first " -j ", empty if there is none. */
static struct str target_of(struct str line)
{
    ptrdiff_t at = str_find(line, STR(" -j "));
    struct str rest, word = STR_NULL;

    if (at < 0)
        return word;
    rest = str_n(line.p + at + 4, line.len - (size_t)at - 4);
    if (!str_next(&rest, ' ', &word))
        return STR_NULL;
    return word;
}

static bool is_tagged(struct str line)
{
    return str_find(line, STR("--comment " TAG " ")) >= 0 ||
           str_find(line, STR("--comment \"" TAG "\"")) >= 0;
}

/* A rule in a chain that is not ours, but made by us: `-A CHAIN ... -j OURS`, or tagged. */
static void scan_rule(struct program *p, enum table table, struct str line)
{
    struct str rest = str_n(line.p + 3, line.len - 3), chain;

    if (!str_next(&rest, ' ', &chain) || find_chain(table, chain) >= 0)
        return;
    if (find_chain(table, target_of(line)) < 0 && !is_tagged(line))
        return;
    push(p, &p->removed[table], arena_printf(p->arena, "-D %.*s", (int)(line.len - 3), line.p + 3));
}

static void scan_saved(struct program *p, struct str saved)
{
    enum table table = NUM_TABLES;
    struct str line;

    while (str_next(&saved, '\n', &line)) {
        if (str_starts(line, STR("*"))) {
            for (table = 0; table < NUM_TABLES; table++) {
                if (str_eq(str_n(line.p + 1, line.len - 1), str_of(table_names[table])))
                    break;
            }
        }
        if (table == NUM_TABLES)
            continue;
        if (str_starts(line, STR("-A ")))
            scan_rule(p, table, line);
        if (str_starts(line, STR(":"))) {
            struct str rest = str_n(line.p + 1, line.len - 1), name;
            int chain = str_next(&rest, ' ', &name) ? find_chain(table, name) : -1;
            if (chain >= 0)
                p->present[chain] = true;
        }
    }
}

/* --- what is wanted -------------------------------------------------------------------------- */

/* The network that names this host. */
static struct str loopback(const struct program *p)
{
    return p->family == RULES_IPV4 ? p->o->loopback.text : STR("::1/128");
}

static void compose_interfaces(struct program *p)
{
    const struct option_list *excluded = &p->o->exclude_interfaces;
    const struct option_list *virtual = &p->o->virtual_interfaces;

    for (size_t i = 0; i < excluded->num_items; i++) {
        nat(p, "-A PREROUTING -i %.*s" COMMENT " -j RETURN", STR_ARG(excluded->items[i]));
        nat(p, "-A OUTPUT -o %.*s" COMMENT " -j RETURN", STR_ARG(excluded->items[i]));
    }
    for (size_t i = 0; i < virtual->num_items; i++)
        nat(p, "-I PREROUTING 1 -i %.*s" COMMENT " -j RETURN", STR_ARG(virtual->items[i]));
}

static void compose_inbound(struct program *p)
{
    const struct option_list *ports = &p->o->inbound_ports;
    const struct option_list *excluded = &p->o->inbound_ports_exclude;

    nat(p, "-A ISTIO_INBOUND -p tcp --dport %u -j RETURN", p->o->tunnel_port);
    nat(p, "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports %u", p->o->proxy_port);
    nat(p, "-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports %u", p->o->inbound_port);
    if (!ports->all && ports->num_items == 0)
        return;
    nat(p, "-A PREROUTING -p tcp -j ISTIO_INBOUND");
    for (size_t i = 0; ports->all && i < excluded->num_items; i++)
        nat(p, "-A ISTIO_INBOUND -p tcp --dport %.*s -j RETURN", STR_ARG(excluded->items[i]));
    if (ports->all)
        nat(p, "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT");
    for (size_t i = 0; i < ports->num_items; i++)
        nat(p, "-A ISTIO_INBOUND -p tcp --dport %.*s -j ISTIO_IN_REDIRECT",
            STR_ARG(ports->items[i]));
}

/* The proxy's own connections: to another of the pod's addresses they are calls of the application
 * to itself by its service and count as inbound; all others leave as they are. What the application
 * sends to itself stays out of it, unless a loopback network was asked for. */
static void compose_owner(struct program *p, const char *match, struct str id)
{
    const struct option_cidrs *outbound = &p->o->outbound;
    struct str host = loopback(p);
    bool capture_loopback = false;

    for (size_t i = 0; i < outbound->num_items; i++)
        capture_loopback |= outbound->items[i].loopback;
    nat(p,
        "-A ISTIO_OUTPUT -o lo ! -d %.*s -p tcp ! --dport %u -m owner --%s-owner %.*s"
        " -j ISTIO_IN_REDIRECT",
        STR_ARG(host), p->o->tunnel_port, match, STR_ARG(id));
    if (!capture_loopback)
        nat(p, "-A ISTIO_OUTPUT -o lo -m owner ! --%s-owner %.*s -j RETURN", match, STR_ARG(id));
    nat(p, "-A ISTIO_OUTPUT -m owner --%s-owner %.*s -j RETURN", match, STR_ARG(id));
}

static void compose_owner_groups(struct program *p)
{
    const struct option_list *groups = &p->o->owner_groups;
    const struct option_list *excluded = &p->o->owner_groups_exclude;
    struct str matches = STR("");

    for (size_t i = 0; i < excluded->num_items; i++)
        nat(p, "-A ISTIO_OUTPUT -m owner --gid-owner %.*s -j RETURN", STR_ARG(excluded->items[i]));
    if (groups->all)
        return;
    for (size_t i = 0; i < groups->num_items; i++)
        matches = arena_printf(p->arena, "%.*s -m owner ! --gid-owner %.*s", STR_ARG(matches),
                               STR_ARG(groups->items[i]));
    nat(p, "-A ISTIO_OUTPUT%.*s -j RETURN", STR_ARG(matches));
}

static void compose_outbound_networks(struct program *p)
{
    const struct option_cidrs *outbound = &p->o->outbound;
    const struct option_list *virtual = &p->o->virtual_interfaces;
    bool ipv6 = p->family == RULES_IPV6;

    if (outbound->all)
        nat(p, "-A ISTIO_OUTPUT -j ISTIO_REDIRECT");
    for (size_t v = 0; outbound->all && v < virtual->num_items; v++)
        nat(p, "-I PREROUTING 1 -i %.*s -j ISTIO_REDIRECT", STR_ARG(virtual->items[v]));
    for (size_t i = 0; i < outbound->num_items; i++) {
        struct str cidr = outbound->items[i].text;
        if (outbound->items[i].ipv6 != ipv6)
            continue;
        for (size_t v = 0; v < virtual->num_items; v++)
            nat(p, "-I PREROUTING 1 -i %.*s -d %.*s -j ISTIO_REDIRECT", STR_ARG(virtual->items[v]),
                STR_ARG(cidr));
        nat(p, "-A ISTIO_OUTPUT -d %.*s -j ISTIO_REDIRECT", STR_ARG(cidr));
    }
}

static void compose_outbound(struct program *p)
{
    const struct options *o = p->o;

    nat(p, "-A OUTPUT -j ISTIO_OUTPUT");
    for (size_t i = 0; i < o->outbound_ports_exclude.num_items; i++) {
        struct str port = o->outbound_ports_exclude.items[i];
        nat(p, "-A ISTIO_OUTPUT -p tcp --dport %.*s -j RETURN", STR_ARG(port));
        nat(p, "-A ISTIO_OUTPUT -p udp --dport %.*s -j RETURN", STR_ARG(port));
    }
    /* The proxy speaks to the application from this address. */
    nat(p, "-A ISTIO_OUTPUT -o lo -s %s -j RETURN",
        p->family == RULES_IPV4 ? "127.0.0.6/32" : "::6/128");
    for (size_t i = 0; i < o->proxy_uids.num_items; i++)
        compose_owner(p, "uid", o->proxy_uids.items[i]);
    for (size_t i = 0; i < o->proxy_gids.num_items; i++)
        compose_owner(p, "gid", o->proxy_gids.items[i]);
    compose_owner_groups(p);
    nat(p, "-A ISTIO_OUTPUT -d %.*s -j RETURN", STR_ARG(loopback(p)));
    for (size_t i = 0; i < o->outbound_exclude.num_items; i++) {
        if (o->outbound_exclude.items[i].ipv6 == (p->family == RULES_IPV6))
            nat(p, "-A ISTIO_OUTPUT -d %.*s -j RETURN", STR_ARG(o->outbound_exclude.items[i].text));
    }
    for (size_t i = 0; i < o->outbound_ports.num_items; i++)
        nat(p, "-A ISTIO_OUTPUT -p tcp --dport %.*s -j ISTIO_REDIRECT",
            STR_ARG(o->outbound_ports.items[i]));
    compose_outbound_networks(p);
}

static void compose(struct program *p)
{
    for (size_t i = 0; i < ARRAY_LEN(chains); i++)
        p->wanted[i] = chains[i].table == TABLE_NAT || p->o->drop_invalid;
    if (p->o->drop_invalid) {
        struct lines *mangle = &p->added[TABLE_MANGLE];
        push(p, mangle, STR("-A PREROUTING -m conntrack --ctstate INVALID -j ISTIO_DROP"));
        push(p, mangle, STR("-A ISTIO_DROP -j DROP"));
    }
    compose_interfaces(p);
    compose_inbound(p);
    compose_outbound(p);
}

/* --- as text -----------------------------------------------------------------------------------
 */

/* Appends "text\n" to a growing NUL-terminated buffer whose size was reckoned before. */
struct text {
    char *p;
    size_t len, cap;
};

static void put(struct text *t, struct str line)
{
    CHECK(line.len + 2 <= t->cap - t->len);
    if (line.len > 0)
        memcpy(t->p + t->len, line.p, line.len);
    t->len += line.len;
    t->p[t->len++] = '\n';
    t->p[t->len] = 0;
}

static size_t lines_size(const struct lines *l)
{
    size_t size = 0;

    for (size_t i = 0; i < l->num_items; i++)
        size += l->items[i].len + 1;
    return size;
}

/* `:NAME -` makes a chain or empties it. A chain can be deleted only when nothing jumps to it, so
 * all of a table's chains are emptied before the first is deleted. */
static void put_table(struct program *p, struct text *t, enum table table)
{
    bool used = p->added[table].num_items > 0 || p->removed[table].num_items > 0;

    for (size_t i = 0; i < ARRAY_LEN(chains); i++)
        used |= chains[i].table == table && (p->present[i] || p->wanted[i]);
    if (!used)
        return;
    put(t, arena_printf(p->arena, "*%s", table_names[table]));
    for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
        if (chains[i].table == table && (p->present[i] || p->wanted[i]))
            put(t, arena_printf(p->arena, ":%s - [0:0]", chains[i].name));
    }
    for (size_t i = 0; i < p->removed[table].num_items; i++)
        put(t, p->removed[table].items[i]);
    for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
        if (chains[i].table == table && p->present[i] && !p->wanted[i])
            put(t, arena_printf(p->arena, "-X %s", chains[i].name));
    }
    for (size_t i = 0; i < p->added[table].num_items; i++)
        put(t, p->added[table].items[i]);
    put(t, STR("COMMIT"));
}

static struct str program_text(struct program *p)
{
    enum { PER_CHAIN = 64, PER_TABLE = 64 };
    struct text t = {.cap = ARRAY_LEN(chains) * 2 * PER_CHAIN + NUM_TABLES * PER_TABLE};

    for (enum table i = 0; i < NUM_TABLES; i++)
        t.cap += lines_size(&p->added[i]) + lines_size(&p->removed[i]);
    t.p = arena_bytes(p->arena, t.cap);
    t.p[0] = 0;
    for (enum table i = 0; i < NUM_TABLES; i++)
        put_table(p, &t, i);
    return str_n(t.p, t.len);
}

struct str rules_compose(const struct options *o, struct arena *a, enum rules_family family,
                         struct str saved)
{
    struct program p = {.arena = a, .o = o, .family = family};

    scan_saved(&p, saved);
    compose(&p);
    return program_text(&p);
}

struct str rules_cleanup(struct arena *a, struct str saved)
{
    struct program p = {.arena = a};

    scan_saved(&p, saved);
    return program_text(&p);
}
