#include "cluster/resolver.h"

#include "base/arena.h"
#include "base/log.h"
#include "base/map.h"
#include <ares.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>

static const struct stats_def resolver_defs[] = {RESOLVER_STATS(STATS_DEF)};
static struct stats_table resolver_stats_table = STATS_TABLE(resolver_defs);

enum {
    REINIT_MS = 1000, /* after the last one */
    POLL_ROUNDS = 8,
    SOCKS_MAX = 64,
};

struct resolver;

enum name_state {
    NAME_IDLE,
    NAME_QUEUED, /* too many are in flight */
    NAME_ASKING,
    NAME_ARRIVED, /* an answer of the library waits for the run queue */
    NAME_READY,   /* its answer is to be told */
};

/* Equal options: one cache, and the sockets of the present generation. */
struct channel {
    struct resolver *owner;
    struct str key; /* owned */
    struct resolver_options opts;
    struct map names;       /* struct resolver_name, by family and name */
    struct list idle;       /* names that nobody waits for, the longest unused first */
    struct list queue;      /* NAME_QUEUED */
    struct list retired;    /* generations that still have questions */
    struct generation *gen; /* NULL: none */
    uint32_t in_flight;
    bool dirty; /* the servers did not answer: read the system's configuration again */
};

/* One c-ares channel. Another one takes its place for new questions; it ends with its last. */
struct generation {
    struct list link; /* channel->retired */
    struct channel *owner;
    ares_channel ares;
    struct list socks;
    struct task task;
    struct timer timer;
    uint64_t born_ms;
    uint32_t in_flight, asked;
    bool retired;
};

struct sock {
    struct list link;
    struct generation *owner;
    struct io_watch watch;
    bool writable; /* wanted */
};

struct resolver_name {
    struct list link; /* idle, queue or ready */
    struct channel *owner;
    struct str key; /* owned: family and text */
    const char *text;
    enum dns_family family;
    enum name_state state;
    struct generation *gen; /* NAME_ASKING */
    struct list waiting;    /* struct resolver_query */
    bool second;            /* asks for the second family now */
    bool answered;          /* `answer` is one */
    struct dns_answer answer;
    struct addr *addrs;  /* owned: the last good ones */
    enum dns_status got; /* NAME_ARRIVED */
    struct addr *got_addrs;
    uint32_t num_got;
    uint64_t got_ttl_ms;
};

struct resolver {
    struct loop *loop;
    struct map channels; /* struct channel, by options */
    struct list ready;   /* names in NAME_ARRIVED or NAME_READY */
    struct task task;
    struct stats_scope *stats;
    struct channel nowhere;      /* of `nobody` */
    struct resolver_name nobody; /* what cannot be asked for: its answer is DNS_FAILED */
};

static void count(struct resolver *r, uint32_t stat)
{
    stats_inc(r->stats, loop_thread_index(r->loop), stat);
}

/* --- names ------------------------------------------------------------------------------------ */

bool resolver_name_valid(struct str name)
{
    size_t label = 0;

    if (name.len > 0 && name.p[name.len - 1] == '.')
        name.len--;
    if (name.len == 0 || name.len > RESOLVER_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        if (name.p[i] <= ' ' || name.p[i] > '~')
            return false;
        if (name.p[i] != '.') {
            if (++label > RESOLVER_LABEL_MAX)
                return false;
            continue;
        }
        if (label == 0)
            return false;
        label = 0;
    }
    return label > 0;
}

static void name_free(struct resolver_name *n)
{
    struct list *it;
    while ((it = list_pop_head(&n->waiting)))
        CONTAINER_OF(it, struct resolver_query, link)->name = NULL;
    list_remove(&n->link);
    mem_free((void *)(uintptr_t)n->key.p);
    mem_free(n->addrs);
    mem_free(n->got_addrs);
    mem_free(n);
}

static void make_room(struct channel *c)
{
    struct list *it;
    if (map_count(&c->names) < RESOLVER_NAMES_MAX || !(it = list_pop_head(&c->idle)))
        return;
    struct resolver_name *n = CONTAINER_OF(it, struct resolver_name, link);
    (void)map_remove(&c->names, n->key);
    name_free(n);
}

static struct resolver_name *name_find(struct channel *c, struct str text, enum dns_family family)
{
    char key[RESOLVER_NAME_MAX + 3];
    int len = snprintf(key, sizeof(key), "%c%.*s", 'a' + (int)family, STR_ARG(text));
    struct resolver_name *n;

    for (int i = 1; i < len; i++) /* names are compared without case: RFC 4343 */
        key[i] = key[i] >= 'A' && key[i] <= 'Z' ? (char)(key[i] + 32) : key[i];
    n = map_get(&c->names, str_n(key, (size_t)len));
    if (n)
        return n;
    make_room(c);
    if (map_count(&c->names) >= RESOLVER_NAMES_MAX)
        return NULL;
    n = NEW(struct resolver_name);
    n->owner = c;
    n->key = str_n(mem_strndup(key, (size_t)len), (size_t)len);
    n->text = n->key.p + 1;
    n->family = family;
    list_init(&n->waiting);
    (void)map_put(&c->names, n->key, n);
    return n;
}

static void make_ready(struct resolver_name *n, enum name_state state)
{
    struct resolver *r = n->owner->owner;
    n->state = state;
    list_remove(&n->link);
    list_push_tail(&r->ready, &n->link);
    loop_post(r->loop, &r->task);
}

/* --- sockets ---------------------------------------------------------------------------------- */

static void generation_free(struct generation *g)
{
    task_cancel(&g->task);
    timer_disarm(&g->timer);
    list_remove(&g->link);
    ares_destroy(g->ares);
    mem_free(g);
}

static void on_io(void *arg, unsigned events)
{
    struct sock *s = arg;
    loop_post(s->owner->owner->owner->loop, &s->owner->task);
}

/* The library says what it wants of a descriptor: nothing means that it closes it. */
static void on_sock_state(void *arg, int fd, int readable, int writable)
{
    struct generation *g = arg;
    struct loop *l = g->owner->owner->loop;
    struct sock *s = NULL;

    LIST_FOREACH(it, &g->socks) {
        if (CONTAINER_OF(it, struct sock, link)->watch.fd == fd)
            s = CONTAINER_OF(it, struct sock, link);
    }
    if (!readable && !writable) {
        if (!s)
            return;
        io_watch_cleanup(&s->watch);
        list_remove(&s->link);
        mem_free(s);
        return;
    }
    if (!s) {
        s = NEW(struct sock);
        s->owner = g;
        io_watch_init(&s->watch, l, fd, on_io, s);
        list_push_tail(&g->socks, &s->link);
    }
    s->writable = writable;
    loop_post(l, &g->task); /* it may be so already, and no edge comes */
}

static void rearm(struct generation *g)
{
    struct timeval most = {3600, 0}, left;
    struct timeval *tv;

    if (g->in_flight == 0) {
        timer_disarm(&g->timer);
        return;
    }
    tv = ares_timeout(g->ares, &most, &left);
    timer_arm(&g->timer, (uint64_t)tv->tv_sec * 1000 + (uint64_t)tv->tv_usec / 1000 + 1);
}

static void settle(struct generation *g)
{
    if (g->retired && g->in_flight == 0) {
        generation_free(g);
        return;
    }
    rearm(g);
}

static nfds_t collect(const struct generation *g, struct pollfd *fds)
{
    nfds_t n = 0;
    LIST_FOREACH(it, &g->socks) {
        const struct sock *s = CONTAINER_OF(it, struct sock, link);
        if (n < SOCKS_MAX)
            fds[n++] = (struct pollfd){.fd = s->watch.fd,
                                       .events = (short)(POLLIN | (s->writable ? POLLOUT : 0))};
    }
    return n;
}

/* The library reads at most once a call from TCP, and says which descriptors it wants to write to
 * at any time; so what is ready is asked of the kernel, not remembered from edges. */
static void pump(void *arg)
{
    struct generation *g = arg;
    struct pollfd fds[SOCKS_MAX];
    unsigned round = 0;

    for (; round < POLL_ROUNDS; round++) {
        nfds_t n = collect(g, fds);
        if (poll(fds, n, 0) <= 0)
            break;
        for (nfds_t i = 0; i < n; i++) {
            bool in = fds[i].revents & (POLLIN | POLLERR | POLLHUP);
            bool out = fds[i].revents & POLLOUT;
            if (in || out)
                ares_process_fd(g->ares, in ? fds[i].fd : ARES_SOCKET_BAD,
                                out ? fds[i].fd : ARES_SOCKET_BAD);
        }
    }
    if (round == POLL_ROUNDS)
        loop_post(g->owner->owner->loop, &g->task);
    settle(g);
}

static void on_timer(void *arg)
{
    struct generation *g = arg;
    ares_process_fd(g->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    settle(g);
}

/* Where the system names no server, the library takes the one at 127.0.0.1. */
static bool system_has_servers(ares_channel a)
{
    struct ares_addr_port_node *servers = NULL;
    bool only_default;

    if (ares_get_servers_ports(a, &servers) != ARES_SUCCESS)
        return false;
    only_default = !servers || (!servers->next && servers->family == AF_INET &&
                                servers->addr.addr4.s_addr == htonl(INADDR_LOOPBACK));
    ares_free_data(servers);
    return !only_default;
}

static bool set_servers(struct generation *g, const struct resolver_options *o)
{
    char *text;
    int status;

    if (o->servers.len == 0 || (o->servers_as_fallback && system_has_servers(g->ares)))
        return true;
    text = mem_strndup(o->servers.p, o->servers.len);
    status = ares_set_servers_ports_csv(g->ares, text);
    mem_free(text);
    return status == ARES_SUCCESS;
}

static struct generation *generation_new(struct channel *c)
{
    const struct resolver_options *o = &c->opts;
    struct generation *g = NEW(struct generation);
    struct ares_options ao = {
        .flags = (o->use_tcp ? ARES_FLAG_USEVC : 0) | (o->no_search ? ARES_FLAG_NOSEARCH : 0) |
                 (o->edns_size ? ARES_FLAG_EDNS : 0),
        .timeout = (int)(o->timeout_ms ? o->timeout_ms : RESOLVER_TIMEOUT_MS),
        .tries = (int)(o->tries ? o->tries : RESOLVER_TRIES),
        .ednspsz = (int)o->edns_size,
        .sock_state_cb = on_sock_state,
        .sock_state_cb_data = g,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB |
               (o->no_search ? ARES_OPT_DOMAINS : 0) | /* none: the flag alone is not looked at */
               (o->edns_size ? ARES_OPT_EDNSPSZ : 0) |
               (o->rotate ? ARES_OPT_ROTATE : ARES_OPT_NOROTATE);

    g->owner = c;
    list_init(&g->socks);
    if (ares_init_options(&g->ares, &ao, mask) != ARES_SUCCESS) {
        mem_free(g);
        return NULL;
    }
    if (!set_servers(g, o)) {
        ares_destroy(g->ares);
        mem_free(g);
        return NULL;
    }
    g->born_ms = loop_now_ms(c->owner->loop);
    task_init(&g->task, pump, g);
    timer_init(&g->timer, c->owner->loop, on_timer, g);
    return g;
}

static bool worn_out(const struct channel *c)
{
    const struct generation *g = c->gen;
    uint64_t age = loop_now_ms(c->owner->loop) - g->born_ms;
    return (c->dirty && age >= REINIT_MS) ||
           (c->opts.udp_max_queries && g->asked >= c->opts.udp_max_queries) ||
           (c->opts.max_channel_ms && age >= c->opts.max_channel_ms);
}

static struct generation *current(struct channel *c)
{
    struct generation *g = c->gen;

    if (g && worn_out(c)) {
        c->gen = NULL;
        c->dirty = false;
        count(c->owner, RESOLVER_REINITS);
        g->retired = true;
        list_push_tail(&c->retired, &g->link);
        loop_post(c->owner->loop, &g->task); /* to end it if nothing is in flight */
    }
    if (!c->gen)
        c->gen = generation_new(c);
    return c->gen;
}

/* --- asking --- */

/* Whether an interface other than loopback has an address of that family; true if nobody knows. */
static bool routable(int family)
{
    struct ifaddrs *all;
    bool found = false;

    if (getifaddrs(&all) != 0)
        return true;
    for (const struct ifaddrs *i = all; i && !found; i = i->ifa_next)
        found = i->ifa_addr && i->ifa_addr->sa_family == family && !(i->ifa_flags & IFF_LOOPBACK);
    freeifaddrs(all);
    return found;
}

static int family_of(const struct resolver_name *n)
{
    switch (n->family) {
    case DNS_AUTO:
        return n->second ? AF_INET : AF_INET6;
    case DNS_V4_PREFERRED:
        return n->second ? AF_INET6 : AF_INET;
    case DNS_V4_ONLY:
        return AF_INET;
    case DNS_V6_ONLY:
        return AF_INET6;
    case DNS_ALL:
        break;
    }
    return AF_UNSPEC;
}

static void arrived(struct resolver_name *n, enum dns_status status)
{
    n->got = status;
    make_ready(n, NAME_ARRIVED);
}

static enum dns_status status_of(struct channel *c, int status)
{
    switch (status) {
    case ARES_SUCCESS:
        return DNS_OK;
    case ARES_ENODATA:
    case ARES_ENOTFOUND:
        count(c->owner, RESOLVER_NOT_FOUND);
        return DNS_NO_RECORDS;
    case ARES_ECONNREFUSED:
        c->dirty = true;
        break;
    case ARES_ETIMEOUT:
        c->dirty = c->dirty || c->opts.reinit_on_timeout;
        break;
    default: /* a library's number */
        break;
    }
    count(c->owner, RESOLVER_GET_ADDR_FAILURE);
    return DNS_FAILED;
}

static void least(uint64_t *ttl_ms, bool *first, int ttl)
{
    uint64_t ms = ttl > 0 ? (uint64_t)ttl * 1000 : 0; /* the highest bit: RFC 2181, section 8 */
    *ttl_ms = *first || ms < *ttl_ms ? ms : *ttl_ms;
    *first = false;
}

static void take_addrs(struct resolver_name *n, const struct ares_addrinfo *ai)
{
    struct resolver *r = n->owner->owner;
    uint32_t num = 0;
    bool first = true;

    n->got_ttl_ms = 0;
    for (const struct ares_addrinfo_node *a = ai->nodes; a; a = a->ai_next)
        num++;
    if (num > RESOLVER_ADDRS_MAX) {
        stats_add(r->stats, loop_thread_index(r->loop), RESOLVER_ADDRS_DROPPED,
                  num - RESOLVER_ADDRS_MAX);
        num = RESOLVER_ADDRS_MAX;
    }
    mem_free(n->got_addrs);
    n->got_addrs = mem_alloc(num * sizeof(*n->got_addrs));
    n->num_got = 0;
    for (const struct ares_addrinfo_node *a = ai->nodes; a && n->num_got < num; a = a->ai_next) {
        struct addr *out = &n->got_addrs[n->num_got];
        if (!addr_from_sockaddr(out, a->ai_addr, a->ai_addrlen))
            continue;
        addr_set_port(out, 0);
        least(&n->got_ttl_ms, &first, a->ai_ttl);
        n->num_got++;
    }
    for (const struct ares_addrinfo_cname *c = ai->cnames; c; c = c->next) {
        if (c->ttl > 0) /* 0 where the library did not read it */
            least(&n->got_ttl_ms, &first, c->ttl);
    }
}

/* May run inside of ares_getaddrinfo: it only moves the answer. */
static void on_result(void *arg, int status, int timeouts, struct ares_addrinfo *ai)
{
    struct resolver_name *n = arg;
    struct channel *c = n->owner;
    enum dns_status got;

    n->gen->in_flight--;
    n->gen = NULL;
    c->in_flight--;
    if (status == ARES_EDESTRUCTION) {
        if (ai)
            ares_freeaddrinfo(ai);
        n->state = NAME_IDLE;
        return;
    }
    if (timeouts > 0)
        stats_add(c->owner->stats, loop_thread_index(c->owner->loop), RESOLVER_TIMEOUTS,
                  (uint64_t)timeouts);
    got = status_of(c, status);
    if (got == DNS_FAILED)
        LOG_DEBUG(upstream, "DNS: %s: %s", n->text, ares_strerror(status));
    n->num_got = 0;
    if (got == DNS_OK && ai)
        take_addrs(n, ai);
    if (got == DNS_OK && n->num_got == 0)
        got = DNS_NO_RECORDS;
    if (ai)
        ares_freeaddrinfo(ai);
    arrived(n, got);
}

static void ask(struct resolver_name *n)
{
    struct channel *c = n->owner;
    int family = family_of(n);
    struct ares_addrinfo_hints hints = {
        .ai_flags = ARES_AI_NOSORT, .ai_family = family, .ai_socktype = SOCK_STREAM};
    struct generation *g;

    count(c->owner, RESOLVER_TOTAL);
    n->num_got = 0;
    if (c->opts.filter_unroutable && family == AF_UNSPEC) {
        bool v4 = routable(AF_INET), v6 = routable(AF_INET6);
        hints.ai_family = v4 == v6 ? AF_UNSPEC : v4 ? AF_INET : AF_INET6;
    } else if (c->opts.filter_unroutable && !routable(family)) {
        arrived(n, DNS_NO_RECORDS);
        return;
    }
    g = current(c);
    if (!g) {
        count(c->owner, RESOLVER_GET_ADDR_FAILURE);
        arrived(n, DNS_FAILED);
        return;
    }
    n->state = NAME_ASKING;
    list_remove(&n->link);
    n->gen = g;
    g->in_flight++;
    g->asked += family == AF_UNSPEC ? 2 : 1;
    c->in_flight++;
    ares_getaddrinfo(g->ares, n->text, NULL, &hints, on_result, n);
    rearm(g);
}

static void begin(struct resolver_name *n)
{
    struct channel *c = n->owner;
    n->second = false;
    list_remove(&n->link);
    stats_gauge_inc(c->owner->stats, loop_thread_index(c->owner->loop), RESOLVER_PENDING);
    if (c->in_flight < RESOLVER_IN_FLIGHT) {
        ask(n);
        return;
    }
    n->state = NAME_QUEUED;
    list_push_tail(&c->queue, &n->link);
}

/* --- answers --- */

static void go_idle(struct resolver_name *n)
{
    n->state = NAME_IDLE;
    list_remove(&n->link);
    list_push_tail(&n->owner->idle, &n->link);
}

static void tell(struct resolver_name *n)
{
    struct list waiting = LIST_INIT(waiting);
    struct list *it;

    list_move_all(&waiting, &n->waiting);
    list_remove(&n->link);
    n->state = NAME_IDLE; /* and linked nowhere: it is not thrown out meanwhile */
    while ((it = list_pop_head(&waiting))) {
        struct resolver_query *q = CONTAINER_OF(it, struct resolver_query, link);
        q->name = NULL;
        q->on_answer(q->arg, &n->answer);
    }
    if (n->state == NAME_IDLE && n != &n->owner->owner->nobody)
        go_idle(n);
}

static void keep(struct resolver_name *n)
{
    n->answered = true;
    n->answer.status = n->got;
    n->answer.at_ms = loop_now_ms(n->owner->owner->loop);
    n->answer.ttl_ms = 0;
    if (n->got == DNS_FAILED)
        return;
    mem_free(n->addrs);
    n->addrs = n->got_addrs;
    n->got_addrs = NULL;
    n->answer.ttl_ms = n->num_got ? n->got_ttl_ms : 0;
    n->answer.addrs = n->addrs;
    n->answer.num_addrs = n->num_got;
}

static bool has_second(const struct resolver_name *n)
{
    return !n->second && n->num_got == 0 &&
           (n->family == DNS_AUTO || n->family == DNS_V4_PREFERRED);
}

static void step(struct resolver_name *n)
{
    struct channel *c = n->owner;
    struct list *it;

    if (n->state == NAME_ARRIVED) {
        if (has_second(n)) {
            n->second = true;
            ask(n);
            return;
        }
        stats_gauge_dec(c->owner->stats, loop_thread_index(c->owner->loop), RESOLVER_PENDING);
        keep(n);
    }
    tell(n);
    while (c->in_flight < RESOLVER_IN_FLIGHT && (it = list_pop_head(&c->queue)))
        ask(CONTAINER_OF(it, struct resolver_name, link));
}

static void run_ready(void *arg)
{
    struct resolver *r = arg;
    struct list now = LIST_INIT(now);
    struct list *it;

    list_move_all(&now, &r->ready);
    while ((it = list_pop_head(&now)))
        step(CONTAINER_OF(it, struct resolver_name, link));
}

/* --- the public part --- */

static void channel_init(struct channel *c, struct resolver *r)
{
    c->owner = r;
    map_init(&c->names, false);
    list_init(&c->idle);
    list_init(&c->queue);
    list_init(&c->retired);
}

static void free_name(void *arg)
{
    name_free(arg);
}

static void channel_free(struct channel *c)
{
    struct list *it;
    while ((it = list_pop_head(&c->retired)))
        generation_free(CONTAINER_OF(it, struct generation, link));
    if (c->gen)
        generation_free(c->gen);
    map_cleanup(&c->names, free_name);
    mem_free((void *)(uintptr_t)c->key.p);
    mem_free(c);
}

static bool all_idle(const struct channel *c)
{
    size_t idle = 0;
    LIST_FOREACH(it, &c->idle)
        idle++;
    return idle == map_count(&c->names);
}

/* Options come and go with the configurations. False: all of them are in use. */
static bool room_for_channel(struct resolver *r)
{
    struct str key;
    void *value;

    if (map_count(&r->channels) < RESOLVER_CHANNELS_MAX)
        return true;
    for (size_t it = 0; map_next(&r->channels, &it, &key, &value);) {
        if (!all_idle(value))
            continue;
        (void)map_remove(&r->channels, key);
        channel_free(value);
        return true;
    }
    count(r, RESOLVER_OVERFLOW);
    return false;
}

static struct str options_key(const struct resolver_options *o, struct arena *a)
{
    return arena_printf(a, "%.*s %d%d%d%d%d%d %u %u %u %llu %llu", STR_ARG(o->servers),
                        o->servers_as_fallback, o->use_tcp, o->no_search, o->filter_unroutable,
                        o->rotate, o->reinit_on_timeout, o->udp_max_queries, o->edns_size, o->tries,
                        (unsigned long long)o->timeout_ms, (unsigned long long)o->max_channel_ms);
}

static struct channel *channel_of(struct resolver *r, const struct resolver_options *o)
{
    struct channel *c;
    struct arena a;
    struct str key;

    arena_init(&a, 0);
    key = options_key(o, &a);
    c = map_get(&r->channels, key);
    if (!c && room_for_channel(r)) {
        c = NEW(struct channel);
        channel_init(c, r);
        c->key = str_n(mem_strndup(key.p, key.len), key.len);
        c->opts = *o;
        c->opts.servers = str_n(c->key.p, o->servers.len);
        (void)map_put(&r->channels, c->key, c);
    }
    arena_cleanup(&a);
    return c;
}

static bool fresh(const struct resolver_name *n, uint64_t max_age_ms, bool use_ttl)
{
    uint64_t age = loop_now_ms(n->owner->owner->loop) - n->answer.at_ms;
    if (!n->answered)
        return false;
    if (n->answer.status == DNS_FAILED)
        return age < (max_age_ms < RESOLVER_NEGATIVE_MS ? max_age_ms : RESOLVER_NEGATIVE_MS);
    return age < (use_ttl && n->answer.ttl_ms ? n->answer.ttl_ms : max_age_ms);
}

void resolver_ask(struct resolver *r, const struct resolver_options *o, struct str name,
                  enum dns_family family, uint64_t max_age_ms, bool use_ttl,
                  struct resolver_query *q)
{
    struct resolver_name *n = NULL;
    struct channel *c;

    if (!resolver_name_valid(name))
        count(r, RESOLVER_BAD_NAME);
    else if ((c = channel_of(r, o)) && (n = name_find(c, name, family)) == NULL)
        count(r, RESOLVER_OVERFLOW);
    if (!n) {
        n = &r->nobody;
        n->answer.at_ms = loop_now_ms(r->loop);
    }
    q->name = n;
    list_push_tail(&n->waiting, &q->link);
    switch (n->state) {
    case NAME_IDLE:
        if (n == &r->nobody || fresh(n, max_age_ms, use_ttl)) {
            count(r, RESOLVER_CACHE_HIT);
            make_ready(n, NAME_READY);
        } else {
            begin(n);
        }
        return;
    case NAME_QUEUED:
    case NAME_ASKING:
    case NAME_ARRIVED:
    case NAME_READY:
        count(r, RESOLVER_SHARED);
        return;
    }
}

void resolver_cancel(struct resolver_query *q)
{
    list_remove(&q->link);
    q->name = NULL;
}

struct resolver *resolver_new(struct loop *l)
{
    const struct stats_part parts[] = {{STR("dns"), NULL}, {STR("cares"), NULL}};
    struct resolver *r = NEW(struct resolver);

    CHECK(ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS);
    r->loop = l;
    map_init(&r->channels, false);
    list_init(&r->ready);
    channel_init(&r->nowhere, r);
    r->nobody.owner = &r->nowhere;
    r->nobody.answer.status = DNS_FAILED;
    list_init(&r->nobody.waiting);
    task_init(&r->task, run_ready, r);
    r->stats = stats_scope_new(&resolver_stats_table, parts, ARRAY_LEN(parts));
    return r;
}

static void free_channel(void *arg)
{
    channel_free(arg);
}

void resolver_free(struct resolver **rp)
{
    struct resolver *r = *rp;
    if (!r)
        return;
    *rp = NULL;
    task_cancel(&r->task);
    map_cleanup(&r->channels, free_channel);
    stats_scope_free(&r->stats);
    ares_library_cleanup();
    mem_free(r);
}
