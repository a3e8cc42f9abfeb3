#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"
#include "proxy/listener/chain_match.h"
#include "proxy/listener/listener.h"
#include "proxy/listener/listener_filter.h"
#include "proxy/listener/listeners.h"
#include "proxy/observe/access_log.h"
#include "proxy/server.h"
#include "tls/tls_factory.h"
#include "tls/tls_stats.h"

typedef Envoy__Config__Listener__V3__Listener Listener;
typedef Envoy__Config__Listener__V3__FilterChain FilterChain;

#define RAW_BUFFER envoy__extensions__transport_sockets__raw_buffer__v3__raw_buffer__descriptor
#define DOWNSTREAM_TLS                                                                             \
    envoy__extensions__transport_sockets__tls__v3__downstream_tls_context__descriptor

enum {
    DEFAULT_BUFFER_LIMIT = 32768,       /* docs/differences.md */
    DEFAULT_FILTERS_TIMEOUT_MS = 10000, /* docs/differences.md */
    DEFAULT_HANDSHAKE_MS = 10000,       /* docs/differences.md */
    DEFAULT_BACKLOG = 4096,
    DEFAULT_ACCEPTS = 16,
};

static const struct stats_def stat_defs[] = {LISTENER_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);
static const struct stats_def worker_defs[] = {LISTENER_WORKER_STATS(STATS_DEF)};
static struct stats_table worker_table = STATS_TABLE(worker_defs);

/* --- addresses --- */

static void compile_pipe(const Envoy__Config__Core__V3__Pipe *m, struct listen_address *out,
                         struct errors *e)
{
    if (!addr_parse_pipe(str_of(m->path), &out->addr))
        errors_add(e, "pipe.path", "must be 1 to %d bytes", ADDR_PIPE_MAX);
    if (m->mode && m->path[0] == '@')
        errors_add(e, "pipe.mode", "cannot be set for a socket of the abstract namespace");
    out->mode = m->mode;
}

static void compile_address(const Envoy__Config__Core__V3__Address *a, struct listen_address *out,
                            struct errors *e)
{
    size_t mark = errors_push(e, "address");
    if (a && a->address_case == ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS) {
        const Envoy__Config__Core__V3__SocketAddress *s = a->socket_address;
        if (s->protocol != ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PROTOCOL__TCP)
            errors_add(e, "socket_address.protocol", "UDP listeners are not supported");
        if (s->port_value > 65535)
            errors_add(e, "socket_address.port_value", "must be at most 65535");
        else if (!addr_parse_ip(str_of(s->address), (uint16_t)s->port_value, &out->addr))
            errors_add(e, "socket_address.address", "malformed IP address: %s", s->address);
    } else if (a && a->address_case == ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE) {
        compile_pipe(a->pipe, out, e);
    } else {
        errors_add(e, NULL, "a socket address or a pipe is required");
    }
    errors_pop(e, mark);
}

static void compile_addresses(struct listener *l, const Listener *m, struct errors *e)
{
    struct socket_options common = socket_options_compile(l->arena, m->socket_options,
                                                          m->n_socket_options, "socket_options", e);
    l->num_addresses = 1 + m->n_additional_addresses;
    l->addresses = arena_zalloc(l->arena, l->num_addresses * sizeof(*l->addresses));
    compile_address(m->address, &l->addresses[0], e);
    l->addresses[0].options = common;
    l->addr = l->addresses[0].addr;
    for (size_t i = 0; i < m->n_additional_addresses; i++) {
        const Envoy__Config__Listener__V3__AdditionalAddress *more = m->additional_addresses[i];
        const Envoy__Config__Core__V3__SocketOptionsOverride *own = more->socket_options;
        struct listen_address *out = &l->addresses[i + 1];
        size_t mark = errors_push_index(e, "additional_addresses", i);
        compile_address(more->address, out, e);
        out->options = own ? socket_options_compile(l->arena, own->socket_options,
                                                    own->n_socket_options,
                                                    "socket_options.socket_options", e)
                           : common;
        errors_pop(e, mark);
    }
    for (size_t i = 0; l->mptcp && i < l->num_addresses; i++) {
        if (addr_family(&l->addresses[i].addr) == ADDR_PIPE)
            errors_add(e, "enable_mptcp", "can be used with IP addresses only");
    }
}

/* --- listener filters --- */

static void compile_listener_filters(struct listener *l, const struct compile_env *env,
                                     const Listener *m, struct errors *e)
{
    l->filters = arena_zalloc(l->arena, (m->n_listener_filters + 1) * sizeof(*l->filters));
    l->num_filters = m->n_listener_filters;
    for (size_t i = 0; i < m->n_listener_filters; i++) {
        size_t mark = errors_push_index(e, "listener_filters", i);
        listener_filter_compile(&l->filters[i], env, l->arena, m->listener_filters[i], e);
        errors_pop(e, mark);
    }
    if (l->use_original_dst)
        listener_filter_original_dst(&l->filters[l->num_filters++], env, l->arena);
}

/* One worker accepts, so that two never choose at the same time; another one for each listener. */
static void compile_balance(struct listener *l, const struct server *s, const Listener *m,
                            struct errors *e)
{
    if (!m->connection_balance_config)
        return;
    if (!m->connection_balance_config->exact_balance) {
        errors_add(e, "connection_balance_config", "exact_balance is required");
        return;
    }
    unsigned n = s->num_workers ? s->num_workers : 1;
    l->loads = arena_zalloc(l->arena, n * sizeof(*l->loads));
    l->accept_worker = 1 + (unsigned)(addr_hash(&l->addr) % n);
}

/* --- filter chains --- */

static void compile_filter(struct listener *l, const struct compile_env *env, const FilterChain *m,
                           struct filter_chain *c, struct errors *e)
{
    if (m->n_filters != 1) {
        errors_add(e, "filters",
                   "exactly one network filter is supported, a terminal one; there are %zu",
                   m->n_filters);
        return;
    }
    const Envoy__Config__Listener__V3__Filter *f = m->filters[0];
    size_t mark = errors_push_index(e, "filters", 0);
    size_t inner = errors_push(e, "typed_config");
    struct pb_any any;
    enum pb_any_status st = pb_any_unpack(f->typed_config, l->arena, e, env->pb, &any);
    const struct network_filter_ops *ops = NULL;
    if (st == PB_ANY_OK)
        ops = network_filter_find(any.type_name);
    if (!ops && st != PB_ANY_INVALID)
        errors_add(e, NULL, "network filter '%s' (%.*s) is not supported", f->name,
                   STR_ARG(any.type_name));
    c->filter = ops;
    if (ops)
        c->filter_config = ops->compile(env, any.message, e);
    errors_pop(e, inner);
    errors_pop(e, mark);
}

static struct transport_factory *
compile_transport(struct listener *l, const struct compile_env *env,
                  const Envoy__Config__Core__V3__TransportSocket *m, struct errors *e)
{
    struct transport_factory *f = NULL;
    struct pb_any any;
    if (!m)
        return NULL;
    size_t mark = errors_push(e, "transport_socket");
    size_t inner = errors_push(e, "typed_config");
    enum pb_any_status st = pb_any_unpack(m->typed_config, l->arena, e, env->pb, &any);
    if (st == PB_ANY_OK && any.type == &RAW_BUFFER)
        f = NULL;
    else if (st == PB_ANY_OK && any.type == &DOWNSTREAM_TLS)
        f = tls_factory_downstream((const void *)any.message, env->tls, NULL, e);
    else if (st == PB_ANY_EMPTY && strcmp(m->name, "envoy.transport_sockets.raw_buffer") != 0)
        errors_add(e, NULL, "transport socket '%s' needs a typed_config", m->name);
    else if (st == PB_ANY_OK || st == PB_ANY_UNKNOWN)
        errors_add(e, NULL, "transport socket '%s' (%.*s) is not supported", m->name,
                   STR_ARG(any.type_name));
    errors_pop(e, inner);
    errors_pop(e, mark);
    return f;
}

static void compile_chain(struct listener *l, const struct compile_env *env, const FilterChain *m,
                          struct filter_chain *c, struct errors *e)
{
    c->listener = l;
    c->name = arena_str(l->arena, str_of(m->name));
    c->handshake_ms = wkt_duration_ms(m->transport_socket_connect_timeout, DEFAULT_HANDSHAKE_MS, e,
                                      "transport_socket_connect_timeout");
    c->transport = compile_transport(l, env, m->transport_socket, e);
    compile_filter(l, env, m, c, e);
}

static void compile_chains(struct listener *l, const struct compile_env *env, const Listener *m,
                           struct errors *e)
{
    l->num_chains = m->n_filter_chains;
    l->chains = arena_zalloc(l->arena, (m->n_filter_chains + 1) * sizeof(*l->chains));
    const void **matches = arena_zalloc(l->arena, (m->n_filter_chains + 1) * sizeof(*matches));
    for (size_t i = 0; i < m->n_filter_chains; i++) {
        size_t mark = errors_push_index(e, "filter_chains", i);
        compile_chain(l, env, m->filter_chains[i], &l->chains[i], e);
        matches[i] = m->filter_chains[i]->filter_chain_match;
        errors_pop(e, mark);
    }
    l->match = chain_match_compile(l->arena, matches, m->n_filter_chains, e);
    if (m->default_filter_chain) {
        size_t mark = errors_push(e, "default_filter_chain");
        l->default_chain = ARENA_NEW(l->arena, struct filter_chain);
        compile_chain(l, env, m->default_filter_chain, l->default_chain, e);
        errors_pop(e, mark);
    }
    if (!m->n_filter_chains && !m->default_filter_chain)
        errors_add(e, "filter_chains", "no filter chains specified");
}

/* --- the whole --- */

static void make_stats(struct listener *l, const struct compile_env *env, const Listener *m)
{
    char text[ADDR_TEXT_MAX];
    struct str label = m->stat_prefix[0] ? str_of(m->stat_prefix) : addr_format(&l->addr, text);
    struct stats_part parts[] = {{STR("listener"), NULL},
                                 {label, "envoy_listener_address"},
                                 {STR_NULL, "envoy_worker_id", "worker"}};
    if (env->validate)
        return;
    l->stats = stats_scope_new(&stat_table, parts, 2);
    l->tls_stats = tls_stats_new(parts, 2, true);
    l->num_workers = l->server->num_workers;
    l->worker_stats = arena_zalloc(l->arena, (l->num_workers + 1) * sizeof(*l->worker_stats));
    for (unsigned i = 0; i < l->num_workers; i++) {
        parts[2].text = arena_printf(l->arena, "%u", i);
        l->worker_stats[i] = stats_scope_new(&worker_table, parts, ARRAY_LEN(parts));
    }
}

static void compile_scalars(struct listener *l, const Listener *m, struct errors *e)
{
    l->bind_to_port = wkt_bool(m->bind_to_port, true);
    l->use_original_dst = wkt_bool(m->use_original_dst, false);
    l->inbound = m->traffic_direction == ENVOY__CONFIG__CORE__V3__TRAFFIC_DIRECTION__INBOUND;
    l->outbound = m->traffic_direction == ENVOY__CONFIG__CORE__V3__TRAFFIC_DIRECTION__OUTBOUND;
    l->transparent = wkt_bool(m->transparent, false);
    l->reuse_port = wkt_bool(m->enable_reuse_port, true);
    l->continue_on_timeout = m->continue_on_listener_filters_timeout;
    l->filters_timeout_ms = wkt_duration_ms(m->listener_filters_timeout, DEFAULT_FILTERS_TIMEOUT_MS,
                                            e, "listener_filters_timeout");
    l->buffer_limit = wkt_u32(m->per_connection_buffer_limit_bytes, DEFAULT_BUFFER_LIMIT);
    l->freebind = wkt_bool(m->freebind, false);
    l->mptcp = m->enable_mptcp;
    l->set_fast_open = m->tcp_fast_open_queue_length != NULL;
    l->fast_open = wkt_u32(m->tcp_fast_open_queue_length, 0) & INT32_MAX;
    l->no_global_limit = m->ignore_global_conn_limit;
    l->no_overload = m->bypass_overload_manager;
    l->backlog = (int)(wkt_u32(m->tcp_backlog_size, DEFAULT_BACKLOG) & INT32_MAX);
    l->accepts_per_event = wkt_u32(m->max_connections_to_accept_per_socket_event, DEFAULT_ACCEPTS);
}

static void compile_logs(struct listener *l, const struct compile_env *env, const Listener *m,
                         struct errors *e)
{
    l->logs = arena_zalloc(l->arena, (m->n_access_log + 1) * sizeof(*l->logs));
    for (size_t i = 0; i < m->n_access_log; i++) {
        size_t mark = errors_push_index(e, "access_log", i);
        struct access_log *log = access_log_compile(l->arena, m->access_log[i], env->files, env->pb,
                                                    e);
        if (log)
            l->logs[l->num_logs++] = log;
        errors_pop(e, mark);
    }
}

static void chain_free(struct filter_chain *c)
{
    if (c->filter_config)
        c->filter->free(c->filter_config);
    if (c->transport)
        tls_factory_stop(c->transport);
    transport_factory_unref(c->transport);
}

static void run_free(void *arg)
{
    struct listener *l = arg;
    for (size_t i = 0; i < l->num_chains; i++)
        chain_free(&l->chains[i]);
    if (l->default_chain)
        chain_free(l->default_chain);
    chain_match_release(l->match);
    for (size_t i = 0; i < l->num_filters; i++)
        listener_filter_release(&l->filters[i]);
    for (size_t i = 0; i < l->num_logs; i++)
        access_log_release(l->logs[i]);
    listen_sockets_unref(l->sockets);
    stats_scope_free(&l->stats);
    stats_scope_free(&l->tls_stats);
    for (unsigned i = 0; i < l->num_workers; i++)
        stats_scope_free(&l->worker_stats[i]);
    struct arena *a = l->arena;
    arena_free(&a);
}

struct listener *listener_ref(struct listener *l)
{
    if (l)
        refcount_inc(&l->ref);
    return l;
}

void listener_unref(struct listener *l)
{
    if (!l || !refcount_dec(&l->ref))
        return;
    l->free_msg = (struct message){.deliver = run_free, .arg = l};
    mailbox_send(&l->server->box, &l->free_msg);
}

struct listener *listener_compile(struct server *s, const struct compile_env *env, const void *msg,
                                  struct errors *e)
{
    const Listener *m = msg;
    size_t before = e->num_errors;
    struct arena *a = arena_new(4096);
    struct listener *l = ARENA_NEW(a, struct listener);
    struct compile_env own = *env;
    refcount_init(&l->ref);
    l->arena = a;
    l->server = s;
    l->name = arena_str(a, str_of(m->name));
    compile_scalars(l, m, e);
    compile_addresses(l, m, e);
    compile_balance(l, s, m, e);
    make_stats(l, env, m);
    own.listener_name = l->name;
    own.inbound = l->inbound;
    own.outbound = l->outbound;
    compile_listener_filters(l, &own, m, e);
    compile_logs(l, &own, m, e);
    compile_chains(l, &own, m, e);
    if (e->num_errors > before) {
        run_free(l);
        return NULL;
    }
    return l;
}

static void on_settled(void *arg)
{
    struct filter_chain *c = arg;
    c->settled = true;
    listeners_recheck(c->listener->server->listeners);
}

static void chain_start(struct filter_chain *c)
{
    struct tls_factory_start how = {
        .stats = c->listener->tls_stats, .settled = on_settled, .arg = c};
    if (c->transport)
        tls_factory_start(c->transport, &how);
}

void listener_start(struct listener *l)
{
    for (size_t i = 0; i < l->num_chains; i++)
        chain_start(&l->chains[i]);
    if (l->default_chain)
        chain_start(l->default_chain);
}

/* A secret that will not come for now does not hold the listener back: its connections are closed.
 */
static bool chain_ready(const struct filter_chain *c)
{
    if (c->transport && !c->settled && !c->transport->ops->ready(c->transport))
        return false;
    return !c->filter->ready || c->filter->ready(c->filter_config);
}

bool listener_ready(const struct listener *l)
{
    for (size_t i = 0; i < l->num_chains; i++) {
        if (!chain_ready(&l->chains[i]))
            return false;
    }
    return !l->default_chain || chain_ready(l->default_chain);
}
