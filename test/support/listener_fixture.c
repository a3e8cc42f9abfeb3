#include "test/support/listener_fixture.h"

#include "cluster/cluster_tls.h"
#include "cluster/clusters.h"
#include "test/support/yaml_message.h"
#include "tls/tls_config.h"
#include "tls/tls_secret.h"
#include "xds/xds.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#define TCP_PROXY                                                                                  \
    "{name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network."      \
    "tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: none}}"

static struct options options;
static const struct pb_opts pb;

void listener_fixture_start(struct listener_fixture *f)
{
    struct xds_options xo = {.node = STR_NULL};
    struct server *s = &f->server;
    *f = (struct listener_fixture){0};
    arena_init(&f->arena, 0);
    errors_init(&f->errors);
    stats_init(1 + LISTENER_FIXTURE_WORKERS);
    s->options = &options;
    s->loop = loop_new(false);
    mailbox_init(&s->box, s->loop);
    tls_set_main(&s->box);
    s->xds = xds_new(s->loop, &xo);
    s->tls = tls_secrets_new(s->loop, s->xds);
    struct clusters_options co = {.loop = s->loop,
                                  .box = &s->box,
                                  .xds = s->xds,
                                  .pb_static = &pb,
                                  .pb_dynamic = &pb,
                                  .transport = &cluster_tls_transport,
                                  .transport_arg = s->tls};
    s->clusters = clusters_new(&co);
    s->workers = f->workers;
    s->num_workers = LISTENER_FIXTURE_WORKERS;
    f->env = (struct compile_env){.xds = s->xds,
                                  .tls = s->tls,
                                  .clusters = s->clusters,
                                  .num_threads = 1 + LISTENER_FIXTURE_WORKERS,
                                  .pb = &pb};
    for (unsigned i = 0; i < LISTENER_FIXTURE_WORKERS; i++)
        worker_init(&f->workers[i], s, i + 1);
}

/* A loop says whose thread this is. */
static void turn_of(struct loop *l, unsigned index)
{
    loop_set_thread_index(l, index);
    (void)loop_run_once(l, false);
}

void listener_fixture_turn(struct listener_fixture *f, int n)
{
    for (; n > 0; n--) {
        turn_of(f->server.loop, 0);
        for (unsigned i = 0; i < LISTENER_FIXTURE_WORKERS; i++) {
            if (f->workers[i].loop)
                turn_of(f->workers[i].loop, i + 1);
        }
    }
    loop_set_thread_index(f->server.loop, 0);
}

void listener_fixture_stop(struct listener_fixture *f)
{
    struct server *s = &f->server;
    listener_fixture_turn(f, 4);
    for (unsigned i = 0; i < LISTENER_FIXTURE_WORKERS; i++) {
        loop_set_thread_index(f->workers[i].loop, i + 1);
        worker_cleanup(&f->workers[i]);
    }
    listener_fixture_turn(f, 4);
    clusters_free(&s->clusters);
    listener_fixture_turn(f, 4);
    tls_secrets_free(&s->tls);
    xds_free(&s->xds);
    listener_fixture_turn(f, 4);
    tls_set_main(NULL);
    mailbox_cleanup(&s->box);
    loop_free(&s->loop);
    errors_cleanup(&f->errors);
    arena_cleanup(&f->arena);
}

struct listener *listener_fixture_compile(struct listener_fixture *f, unsigned port,
                                          const char *fields)
{
    struct str yaml = arena_printf(
        &f->arena,
        "{name: l%u, address: {socket_address: {address: 127.0.0.1, port_value: %u}}, "
        "filter_chains: [{filter_chain_match: %s, filters: [" TCP_PROXY "]}], %s}",
        port, port, f->chain_match ? f->chain_match : "{}", fields);
    const void *m = yaml_message("envoy.config.listener.v3.Listener", yaml.p, &f->arena);
    struct listener *l = listener_compile(&f->server, &f->env, m, &f->errors);
    if (!l)
        fprintf(stderr, "%.*s\n", STR_ARG(errors_text(&f->errors, &f->arena)));
    CHECK(l);
    return l;
}

unsigned listener_fixture_open(struct listener_fixture *f, struct listener *l)
{
    l->sockets = listen_sockets_open(l, LISTENER_FIXTURE_WORKERS, &f->errors);
    CHECK(l->sockets && listen_sockets_listen(l->sockets, l) == 0);
    for (unsigned i = 0; i < LISTENER_FIXTURE_WORKERS; i++)
        worker_listeners_publish(&f->workers[i], PUBLISH_ADD, NULL, l);
    listener_fixture_turn(f, 2);
    return addr_port(&l->sockets->v[0].addr);
}

int listener_fixture_connect(unsigned port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    return fd;
}

bool listener_fixture_until(struct listener_fixture *f, const struct listener *l, uint32_t stat,
                            uint64_t value)
{
    for (int i = 0; i < 10000; i++) {
        listener_fixture_turn(f, 1);
        if (stats_sum(l->stats, stat) >= value)
            return true;
        usleep(1000);
    }
    return false;
}

struct downstream *listener_fixture_newest(struct listener_fixture *f, unsigned i)
{
    struct list *all = &f->workers[i].downstreams;
    return list_empty(all) ? NULL : CONTAINER_OF(all->prev, struct downstream, link);
}
