// covers: proxy/listener/listener_config.c
// covers: proxy/listener/chain_match.c
// covers: proxy/network/hcm_config.c
/* A Listener as a control plane sends it: unpacked, compiled with its filter chains and filters as
 * --mode validate does it, and a connection given to its filter chain match. The first bytes say
 * what the connection looks like, the rest is the message. */
#include "api-protos/message.h"
#include "base/utf8.h"
#include "cluster/cluster_tls.h"
#include "cluster/clusters.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "proxy/listener/chain_match.h"
#include "proxy/listener/listener.h"
#include "proxy/options.h"
#include "proxy/server.h"
#include "tls/tls_config.h"
#include "tls/tls_secret.h"
#include "xds/xds.h"
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { CONNECTION_BYTES = 16 };

static struct server server;
static struct compile_env env;
static struct pb_opts opts;

static void init(void)
{
    static struct options options;
    struct xds_options xo = {.node = STR_NULL};
    server.options = &options;
    server.loop = loop_new(true);
    mailbox_init(&server.box, server.loop);
    stats_init(1);
    tls_set_main(&server.box);
    server.xds = xds_new(server.loop, &xo);
    server.tls = tls_secrets_new(server.loop, server.xds);
    struct clusters_options co = {.loop = server.loop,
                                  .box = &server.box,
                                  .xds = server.xds,
                                  .pb_static = &opts,
                                  .pb_dynamic = &opts,
                                  .transport = &cluster_tls_transport,
                                  .transport_arg = server.tls,
                                  .validate = true};
    server.clusters = clusters_new(&co);
    env = (struct compile_env){.xds = server.xds,
                               .tls = server.tls,
                               .clusters = server.clusters,
                               .num_threads = 1,
                               .validate = true,
                               .pb = &opts};
}

/* An address of few values, so that ranges and ports of a corpus are met. */
static void make_addr(struct addr *a, uint8_t kind, uint8_t ip, uint8_t port)
{
    char text[32];
    if (kind % 4 == 3) {
        CHECK(addr_parse_pipe(STR("/tmp/pipe"), a));
        return;
    }
    snprintf(text, sizeof(text),
             kind % 4 == 2 ? "2001:db8::%x"
             : kind % 4    ? "127.0.0.%u"
                           : "10.%u.0.1",
             ip % 8);
    CHECK(addr_parse_ip(str_of(text), port % 8 ? 8000 + port % 8 : 80, a));
}

static void match(const struct listener *l, const uint8_t *c)
{
    const struct str names[] = {STR("a.example.com"), STR("b.a.example.com"), STR("example.com"),
                                STR("")};
    const struct str protocols[] = {STR("h2"), STR("istio"), STR("http/1.1"), STR("x")};
    struct addr local, remote, direct;
    make_addr(&local, c[0], c[1], c[2]);
    make_addr(&remote, c[3], c[4], c[5]);
    make_addr(&direct, c[6], c[7], c[8]);
    struct str alpn[] = {protocols[c[9] % 4], protocols[c[10] % 4]};
    struct chain_match_input in = {.local = &local,
                                   .remote = &remote,
                                   .direct_remote = &direct,
                                   .sni = names[c[11] % 4],
                                   .transport_protocol = c[12] % 2 ? STR("tls") : STR("raw_buffer"),
                                   .alpn = alpn,
                                   .num_alpn = c[13] % 3};
    int i = chain_match_find(l->match, &in);
    CHECK(i >= -1 && i < (int)l->num_chains);
}

static void check(const struct listener *l)
{
    CHECK(l->num_chains || l->default_chain);
    for (size_t i = 0; i < l->num_chains; i++)
        CHECK(l->chains[i].filter && l->chains[i].filter_config && l->chains[i].listener == l);
    CHECK(addr_family(&l->addr) != ADDR_NONE && l->accepts_per_event > 0 && l->backlog >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (!server.loop)
        init();
    if (len < CONNECTION_BYTES)
        return 0;
    struct arena a;
    struct errors e;
    arena_init(&a, 0);
    errors_init(&e);
    opts.reject_unknown = data[14] & 1;
    opts.strict = data[14] & 2;
    const void *m = PB_UNPACK(
        Envoy__Config__Listener__V3__Listener, envoy__config__listener__v3__listener,
        str_n((const char *)data + CONNECTION_BYTES, len - CONNECTION_BYTES), &a, &e, &opts);
    struct listener *l = m ? listener_compile(&server, &env, m, &e) : NULL;
    CHECK((l != NULL) == errors_ok(&e));
    for (struct error_item *it = e.first; it; it = it->next)
        CHECK(utf8_ok(it->path) && it->text.len);
    errors_cleanup(&e);
    arena_cleanup(&a); /* nothing of the message is kept */
    if (l) {
        check(l);
        match(l, data);
        listener_unref(listener_ref(l));
        listener_unref(l);
    }
    while (loop_run_once(server.loop, false))
        continue;
    return 0;
}
