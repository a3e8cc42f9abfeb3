#include "proxy/server_start.h"

#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "base/log.h"
#include "base/random.h"
#include "cluster/dns_config.h"
#include "cluster/cluster_tls.h"
#include "cluster/clusters.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/config_source.pb-c.h"
#include "proxy/admin/admin.h"
#include "proxy/bootstrap.h"
#include "proxy/health/event_files.h"
#include "proxy/health/exchange.h"
#include "proxy/listener/listener.h"
#include "proxy/listener/listeners.h"
#include "proxy/observe/access_log.h"
#include "proxy/router/route_slots.h"
#include "proxy/router/upstream_filters.h"
#include "proxy/server.h"
#include "proxy/server_stats.h"
#include "proxy/xds_stream.h"
#include "tls/tls_config.h"
#include "tls/tls_secret.h"
#include "xds/source.h"
#include "xds/xds.h"
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_STATS_FLUSH_MS = 5000, MAX_WORKERS = 256, LOG_WAIT_MS = 2000 };

typedef Envoy__Config__Bootstrap__V3__Bootstrap Bootstrap;

/* --- what is wrong --- */

static void print_items(const char *what, const char *file, const struct error_item *i)
{
    for (; i; i = i->next)
        fprintf(stderr, "attache: %s: %s%s%.*s%s%.*s\n", what, file ? file : "", file ? ": " : "",
                STR_ARG(i->path), i->path.len ? ": " : "", STR_ARG(i->text));
}

static void print_errors(const struct options *o, const struct errors *e)
{
    const char *file = o->config_path ? o->config_path : "--config-yaml";
    print_items("error", file, e->first);
    if (e->num_errors > ERRORS_MAX)
        fprintf(stderr, "attache: error: and %zu more\n", e->num_errors - ERRORS_MAX);
}

static void print_warnings(const struct options *o, const struct errors *e)
{
    const char *file = o->config_path ? o->config_path : "--config-yaml";
    for (const struct error_item *i = e->warn_first; i; i = i->next) {
        if (str_starts(i->path, STR("static_resources.")))
            continue; /* said with the resource */
        LOG_WARN(config, "%s: %.*s: %.*s", file, STR_ARG(i->path), STR_ARG(i->text));
    }
}

/* --- log --- */

static bool start_log(const struct options *o)
{
    enum log_level level = LOG_LEVEL_INFO;
    const char *why;
    struct str bad;
    if (o->log_level && !log_parse_level(str_of(o->log_level), &level))
        return false; /* options_parse has checked it */
    log_set_escaped(o->log_format_escaped);
    if (!log_init(level, o->log_format, o->log_path, &why)) {
        fprintf(stderr, "attache: log: %s\n", why);
        return false;
    }
    if (o->component_levels && !log_set_components(str_of(o->component_levels), &bad)) {
        fprintf(stderr, "attache: --component-log-level: %.*s\n", STR_ARG(bad));
        return false;
    }
    return true;
}

static void apply_log_format(const Bootstrap *m, const struct options *o, struct errors *e)
{
    const Envoy__Config__Bootstrap__V3__Bootstrap__ApplicationLogConfig *c =
        m->application_log_config;
    const char *why;
    if (!c || !c->log_format || o->log_format)
        return;
    if (c->log_format->log_format_case !=
        ENVOY__CONFIG__BOOTSTRAP__V3__BOOTSTRAP__APPLICATION_LOG_CONFIG__LOG_FORMAT__LOG_FORMAT_TEXT_FORMAT) {
        errors_warn(e, "application_log_config.log_format.json_format",
                    "is not supported; the text format is used");
        return;
    }
    if (!log_set_format(c->log_format->text_format, &why))
        errors_add(e, "application_log_config.log_format.text_format", "%s", why);
}

/* --- parts --- */

static unsigned count_workers(const struct options *o)
{
    cpu_set_t set;
    if (o->concurrency)
        return o->concurrency < MAX_WORKERS ? o->concurrency : MAX_WORKERS;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > MAX_WORKERS ? MAX_WORKERS : (unsigned)n;
}

static void warn_runtime(const Bootstrap *m, struct errors *e)
{
    for (size_t i = 0; m->layered_runtime && i < m->layered_runtime->n_layers; i++) {
        const Envoy__Config__Bootstrap__V3__RuntimeLayer *l = m->layered_runtime->layers[i];
        if (l->layer_specifier_case ==
                ENVOY__CONFIG__BOOTSTRAP__V3__RUNTIME_LAYER__LAYER_SPECIFIER_STATIC_LAYER &&
            l->static_layer->n_fields)
            errors_warn(e, "layered_runtime", "runtime keys are not honoured yet");
    }
}

static bool make_xds(struct server *s, struct str *out_ads_cluster, struct errors *e)
{
    const Bootstrap *m = s->bootstrap->msg;
    struct xds_options opts = {.node = s->bootstrap->node};
    struct xds_server ads;
    struct arena a;
    bool ok = true;
    *out_ads_cluster = STR_NULL;
    s->xds = xds_new(s->loop, &opts);
    xds_set_dial(s->xds, xds_stream_dial, s);
    if (!m->dynamic_resources || !m->dynamic_resources->ads_config)
        return true;
    arena_init(&a, 0);
    size_t mark = errors_push(e, "dynamic_resources.ads_config");
    ok = xds_server_decode(m->dynamic_resources->ads_config, &a, e, &ads);
    errors_pop(e, mark);
    if (ok) {
        xds_set_ads(s->xds, &ads);
        *out_ads_cluster = arena_str(&s->bootstrap->arena, ads.cluster);
    }
    arena_cleanup(&a);
    return ok;
}

static bool add_secrets(struct server *s, struct errors *e)
{
    const Bootstrap *m = s->bootstrap->msg;
    for (size_t i = 0; m->static_resources && i < m->static_resources->n_secrets; i++) {
        size_t mark = errors_push_index(e, "static_resources.secrets", i);
        struct str bytes = pb_pack(&m->static_resources->secrets[i]->base, &s->bootstrap->arena);
        (void)!tls_secrets_add_static(s->tls, bytes, e);
        errors_pop(e, mark);
    }
    return errors_ok(e);
}

/* A resource is easier found by its name than by its number. */
static size_t push_named(struct errors *e, const char *list, size_t i, const char *name)
{
    size_t mark = errors_push_index(e, list, i);
    if (name[0])
        (void)errors_push_key(e, "", str_of(name));
    return mark;
}

static bool add_clusters(struct server *s, struct str ads_cluster, struct errors *e)
{
    const Bootstrap *m = s->bootstrap->msg;
    for (size_t i = 0; m->static_resources && i < m->static_resources->n_clusters; i++) {
        const Envoy__Config__Cluster__V3__Cluster *c = m->static_resources->clusters[i];
        size_t mark = push_named(e, "static_resources.clusters", i, c->name);
        struct str bytes = pb_pack(&m->static_resources->clusters[i]->base, &s->bootstrap->arena);
        (void)!clusters_add_static(s->clusters, bytes, e);
        errors_pop(e, mark);
    }
    return errors_ok(e) && clusters_check_streams(s->clusters, ads_cluster, NULL, 0, e);
}

typedef Envoy__Config__Listener__V3__Listener Listener;

typedef Envoy__Config__Core__V3__Address Address;

/* Its n-th address, NULL behind the last. */
static const Address *address_at(const Listener *l, size_t n)
{
    if (n == 0)
        return l->address;
    return n <= l->n_additional_addresses ? l->additional_addresses[n - 1]->address : NULL;
}

/* Whether both ask for the same one; port 0 is another one each time. */
static bool same_address(const Address *a, const Address *b)
{
    if (!a || !b || a->address_case != b->address_case)
        return false;
    if (a->address_case == ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE)
        return strcmp(a->pipe->path, b->pipe->path) == 0;
    return a->address_case == ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS &&
           a->socket_address->port_value &&
           a->socket_address->port_value == b->socket_address->port_value &&
           strcmp(a->socket_address->address, b->socket_address->address) == 0;
}

static bool share_address(const Listener *l, const Listener *other)
{
    for (size_t i = 0; i <= l->n_additional_addresses; i++) {
        for (size_t k = 0; k <= other->n_additional_addresses; k++) {
            if (same_address(address_at(l, i), address_at(other, k)))
                return true;
        }
    }
    return false;
}

/* SO_REUSEPORT would let both have it, and connections would go to either. */
static void check_address(const Bootstrap *m, size_t i, struct errors *e)
{
    const Listener *l = m->static_resources->listeners[i];
    for (size_t k = 0; k < i; k++) {
        if (share_address(l, m->static_resources->listeners[k]))
            errors_add(e, "address", "has duplicate address as existing listener '%s'",
                       m->static_resources->listeners[k]->name);
    }
}

static bool add_listeners(struct server *s, struct errors *e)
{
    const Bootstrap *m = s->bootstrap->msg;
    for (size_t i = 0; m->static_resources && i < m->static_resources->n_listeners; i++) {
        Listener *l = m->static_resources->listeners[i];
        if (!l->name[0]) { /* as in Envoy, one without a name is given a random one */
            char *name = arena_zalloc(&s->bootstrap->arena, UUID_LEN + 1);
            random_uuid(name);
            l->name = name;
        }
        size_t mark = push_named(e, "static_resources.listeners", i, l->name);
        struct str bytes = pb_pack(&l->base, &s->bootstrap->arena);
        check_address(m, i, e);
        if (s->env->validate)
            listener_unref(listener_compile(s, s->env, l, e));
        else
            (void)!xds_static(s->xds, &listener_resource, bytes, e);
        errors_pop(e, mark);
    }
    return errors_ok(e);
}

/* Every source of the bootstrap must decode, in --mode validate too. */
static bool check_sources(struct server *s, struct errors *e)
{
    const Envoy__Config__Bootstrap__V3__Bootstrap__DynamicResources *d =
        s->bootstrap->msg->dynamic_resources;
    struct xds_source src;
    struct arena a;
    if (!d)
        return true;
    arena_init(&a, 0);
    const struct {
        const char *field;
        const Envoy__Config__Core__V3__ConfigSource *msg;
    } sources[] = {{"dynamic_resources.cds_config", d->cds_config},
                   {"dynamic_resources.lds_config", d->lds_config}};
    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        size_t mark = errors_push(e, sources[i].field);
        if (sources[i].msg)
            (void)!xds_source_decode(sources[i].msg, NULL, xds_has_ads(s->xds), &a, e, &src);
        errors_pop(e, mark);
    }
    arena_cleanup(&a);
    return errors_ok(e);
}

/* --- the admin port --- */

static bool admin_address_of(const Envoy__Config__Core__V3__Address *m, struct addr *out,
                             struct errors *e)
{
    bool ok = false;
    size_t mark = errors_push(e, "admin.address");
    if (m->address_case == ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE)
        ok = addr_parse_pipe(str_of(m->pipe->path), out);
    else if (m->address_case == ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS &&
             m->socket_address->port_value <= 65535)
        ok = addr_parse_ip(str_of(m->socket_address->address),
                           (uint16_t)m->socket_address->port_value, out);
    if (!ok)
        errors_add(e, NULL, "must be an IP address and port, or a pipe");
    errors_pop(e, mark);
    return ok;
}

static void write_admin_address(const struct server *s, struct errors *e)
{
    char text[ADDR_TEXT_MAX];
    const char *path = s->options->admin_address_path;
    if (!path)
        return;
    struct str where = addr_format(admin_address(s->admin), text);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, where.p, where.len) != (ssize_t)where.len)
        errors_add(e, NULL, "--admin-address-path %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

static bool open_admin(struct server *s, struct errors *e)
{
    const Bootstrap *m = s->bootstrap->msg;
    struct addr where;
    if (!m->admin || !m->admin->address)
        return true;
    if (!admin_address_of(m->admin->address, &where, e))
        return false;
    if (s->env->validate)
        return true;
    s->admin = admin_new(s, &where, e);
    if (s->admin)
        write_admin_address(s, e);
    return s->admin && errors_ok(e);
}

/* --- all together --- */

static void on_routes_change(void *arg)
{
    struct server *s = arg;
    listeners_recheck(s->listeners);
}

/* Who we are, for configuration that says it to others. */
static void read_node(struct server *s)
{
    struct errors e;
    errors_init(&e);
    const Envoy__Config__Core__V3__Node *node = PB_UNPACK(
        Envoy__Config__Core__V3__Node, envoy__config__core__v3__node, s->bootstrap->node,
        &s->bootstrap->arena, &e, NULL);
    s->env->node_id = node ? str_of(node->id) : STR("");
    s->env->node_cluster = node ? str_of(node->cluster) : STR("");
    errors_cleanup(&e);
}

static void read_dns(struct server *s, struct errors *e)
{
    struct bootstrap *b = s->bootstrap;
    struct resolver_options *o;
    size_t mark;

    o = ARENA_NEW(&b->arena, struct resolver_options);
    if (!b->msg->typed_dns_resolver_config) {
        dns_config_resolver_old(b->msg->dns_resolution_config, b->msg->use_tcp_for_dns_lookups, o,
                                &b->arena, e);
        s->dns = o;
        return;
    }
    mark = errors_push(e, "typed_dns_resolver_config");
    if (dns_config_resolver(b->msg->typed_dns_resolver_config, o, &b->arena, e, NULL))
        s->dns = o;
    errors_pop(e, mark);
}

static void make_owners(struct server *s, bool validate)
{
    struct pb_opts *dynamic = NEW(struct pb_opts);
    struct pb_opts *fixed = NEW(struct pb_opts);
    s->dynamic_counts = NEW(struct pb_counts);
    *dynamic = (struct pb_opts){.reject_unknown = s->options->reject_unknown_dynamic,
                                .strict = s->options->strict_fields,
                                .counts = s->dynamic_counts};
    *fixed = (struct pb_opts){.reject_unknown = !s->options->allow_unknown_static,
                              .strict = s->options->strict_fields};
    s->pb_dynamic = dynamic;
    s->pb_static = fixed;
    s->tls = tls_secrets_new(s->loop, s->xds);
    s->tls->pb = dynamic;
    s->env = NEW(struct compile_env); /* filled in below: clusters refer to it */
    struct clusters_options opts = {
        .loop = s->loop,
        .box = &s->box,
        .xds = s->xds,
        .pb_static = fixed,
        .pb_dynamic = dynamic,
        .transport = &cluster_tls_transport,
        .transport_arg = s->tls,
        .filters = &upstream_filters_of_clusters,
        .filters_arg = s->env,
        .probes = &health_probes,
        .sink = validate ? NULL : &s->event_sink,
        .outlier_log = &s->outlier_log,
        .validate = validate,
        .dns = s->dns,
    };
    s->clusters = clusters_new(&opts);
    s->routes = route_slots_new(s, s->xds, dynamic, on_routes_change, s);
    *s->env = (struct compile_env){
        .xds = s->xds,
        .tls = s->tls,
        .clusters = s->clusters,
        .files = s->files,
        .routes = s->routes,
        .num_threads = s->num_workers + 1,
        .validate = validate,
        .pb = dynamic,
    };
    read_node(s);
    s->listeners = listeners_new(s, s->env);
}

/* The first address of the wanted family that is not loopback. */
static void find_local_ip(struct server *s)
{
    struct ifaddrs *all;
    sa_family_t family = s->options->local_v6 ? AF_INET6 : AF_INET;
    socklen_t len = s->options->local_v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getifaddrs(&all) != 0)
        return;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        struct addr a;
        if (i->ifa_addr && i->ifa_addr->sa_family == family &&
            addr_from_sockaddr(&a, i->ifa_addr, len) && !addr_is_loopback(&a)) {
            s->local_ip = a;
            break;
        }
    }
    freeifaddrs(all);
}

static void make_loop(struct server *s)
{
    find_local_ip(s);
    s->loop = loop_new(false);
    s->start_wall_us = loop_wall_us(s->loop);
    s->start_ms = loop_now_ms(s->loop);
    mailbox_init(&s->box, s->loop);
    stats_init(s->num_workers + 1);
    tls_set_main(&s->box);
}

static void make_workers(struct server *s)
{
    s->workers = mem_zalloc(s->num_workers * sizeof(*s->workers));
    for (unsigned i = 0; i < s->num_workers; i++)
        worker_init(&s->workers[i], s, i + 1);
}

static void open_outlier_log(struct server *s, struct errors *e)
{
    const Envoy__Config__Bootstrap__V3__ClusterManager *m = s->bootstrap->msg->cluster_manager;
    size_t mark = errors_push(e, "cluster_manager.outlier_detection.event_log_path");
    if (m && m->outlier_detection && s->files)
        event_log_open(&s->outlier_log, &s->event_sink,
                       str_of(m->outlier_detection->event_log_path), e);
    errors_pop(e, mark);
}

/* The order matters: what is first is needed by what follows. */
static bool build(struct server *s, bool validate, struct errors *e)
{
    struct str ads_cluster;
    s->bootstrap = bootstrap_load(s->options, e);
    if (!s->bootstrap)
        return false;
    s->num_workers = validate ? 0 : count_workers(s->options);
    s->flush_ms = wkt_duration_ms(s->bootstrap->msg->stats_flush_interval, DEFAULT_STATS_FLUSH_MS,
                                  e, "stats_flush_interval");
    apply_log_format(s->bootstrap->msg, s->options, e);
    warn_runtime(s->bootstrap->msg, e);
    make_loop(s);
    if (!validate) {
        make_workers(s);
        s->files = log_files_new(s->options->file_flush_interval_ms,
                                 s->options->file_flush_min_kb * 1024);
        s->event_sink = event_files_sink(s->files);
    }
    if (!bootstrap_stats(s->bootstrap, e) || !make_xds(s, &ads_cluster, e))
        return false;
    read_dns(s, e);
    make_owners(s, validate);
    open_outlier_log(s, e);
    server_stats_init(s);
    return check_sources(s, e) && add_secrets(s, e) && add_clusters(s, ads_cluster, e) &&
           add_listeners(s, e) && open_admin(s, e) && errors_ok(e);
}

void server_free(struct server *s)
{
    if (s->listeners)
        listeners_free(&s->listeners);
    if (s->loop) {
        for (int i = 0; i < 100 && loop_run_once(s->loop, false); i++)
            continue; /* what the workers have sent to be freed here; the listeners themselves */
    }
    if (s->routes)
        route_slots_free(&s->routes);
    xds_stream_close_all();
    if (s->clusters)
        clusters_free(&s->clusters);
    if (s->loop) {
        for (int i = 0; i < 100 && loop_run_once(s->loop, false); i++)
            continue;
    }
    if (s->tls)
        tls_secrets_free(&s->tls);
    if (s->xds)
        xds_free(&s->xds);
    if (s->loop) {
        for (int i = 0; i < 100 && loop_run_once(s->loop, false); i++)
            continue;
        tls_set_main(NULL);
        mailbox_cleanup(&s->box);
        if (s->stats)
            server_stats_free(s);
        loop_free(&s->loop);
    }
    event_log_close(&s->outlier_log);
    if (s->files)
        log_files_free(&s->files, LOG_WAIT_MS);
    bootstrap_free(&s->bootstrap);
    mem_free(s->env);
    mem_free(s->workers);
    mem_free(s->dynamic_counts);
    mem_free((void *)(uintptr_t)s->pb_dynamic);
    mem_free((void *)(uintptr_t)s->pb_static);
    log_close();
}

static void undo(struct server *s)
{
    if (s->admin)
        admin_free(&s->admin);
    for (unsigned i = 0; s->workers && i < s->num_workers; i++)
        worker_cleanup(&s->workers[i]);
    server_free(s);
}

bool server_prepare(struct server *s)
{
    struct errors e;
    bool ok = start_log(s->options);
    if (!ok)
        return false;
    errors_init(&e);
    ok = build(s, false, &e);
    print_warnings(s->options, &e);
    if (!ok) {
        print_errors(s->options, &e);
        undo(s);
    }
    errors_cleanup(&e);
    return ok;
}

int server_validate(const struct options *o)
{
    struct server *s = NEW(struct server);
    struct errors e;
    s->options = o;
    if (!start_log(o))
        return 1;
    errors_init(&e);
    bool ok = build(s, true, &e);
    print_items("warning", o->config_path, e.warn_first);
    if (ok)
        printf("configuration '%s' OK\n", o->config_path ? o->config_path : "--config-yaml");
    else
        print_errors(o, &e);
    errors_cleanup(&e);
    undo(s);
    mem_free(s);
    return ok ? 0 : 1;
}

/* --- dynamic resources --- */

static const Envoy__Config__Core__V3__ConfigSource *source_of(const struct server *s, bool lds)
{
    const Envoy__Config__Bootstrap__V3__Bootstrap__DynamicResources *d =
        s->bootstrap->msg->dynamic_resources;
    if (!d)
        return NULL;
    return lds ? d->lds_config : d->cds_config;
}

static bool decode_source(struct server *s, bool lds, struct xds_source *out)
{
    struct errors e;
    errors_init(&e);
    bool ok = xds_source_decode(source_of(s, lds), NULL, xds_has_ads(s->xds), &s->bootstrap->arena,
                                &e, out);
    errors_cleanup(&e);
    return ok;
}

bool server_start_clusters(struct server *s, void (*ready)(void *s))
{
    struct xds_source src;
    bool dynamic = source_of(s, false) != NULL;
    if (dynamic && !decode_source(s, false, &src))
        return false;
    clusters_start(s->clusters, dynamic ? &src : NULL, ready, s);
    return true;
}

bool server_start_lds(struct server *s, void (*settled)(void *s))
{
    static const struct stats_part parts[] = {{.text = {"listener_manager", 16}},
                                              {.text = {"lds", 3}}};
    static const struct xds_stats_prefix prefix = {parts, 2};
    struct xds_source src;
    if (!source_of(s, true) || !decode_source(s, true, &src))
        return false;
    xds_collect(s->xds, &src, &listener_resource, &prefix, settled, s);
    return true;
}
