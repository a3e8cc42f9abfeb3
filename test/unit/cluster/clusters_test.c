#include "cluster/clusters.h"

#include "base/stats_visit.h"
#include "cluster/worker_clusters.h"
#include "test/support/fake_xds.h"
#include <check.h>
#include <stdio.h>

#define CLUSTER "cluster.v3.Cluster"
#define CLA "endpoint.v3.ClusterLoadAssignment"

static struct loop *loop;
static struct mailbox box, worker_box;
static struct fake_xds fake;
static struct clusters *clusters;
static struct worker_clusters *worker;
static struct errors errs;
static struct arena arena;
static int initialized;

static void on_initialized(void *arg)
{
    initialized++;
}

/* --- a transport that becomes ready when the test says so ---------------------------------------
 */

struct gate {
    struct transport_factory base;
    bool open, started;
    void (*settled)(void *);
    void *arg;
};

static struct gate *gates[16];
static unsigned num_gates;

static bool gate_ready(struct transport_factory *f)
{
    return CONTAINER_OF(f, struct gate, base)->open;
}

static void gate_free(struct transport_factory *f)
{
    struct gate *g = CONTAINER_OF(f, struct gate, base);
    for (unsigned i = 0; i < num_gates; i++) {
        if (gates[i] == g)
            gates[i] = NULL;
    }
    mem_free(g);
}

static const struct transport_factory_ops gate_ops = {.ready = gate_ready, .free = gate_free};

static struct transport_factory *gate_compile(void *arg, struct cluster_config *out,
                                              const struct pb_any *config,
                                              const struct cluster_compile_env *env,
                                              struct errors *e)
{
    struct gate *g = NEW(struct gate);
    struct xds_source ads = {.kind = XDS_SOURCE_ADS};
    g->base.ops = &gate_ops;
    refcount_init(&g->base.refs);
    ck_assert_uint_lt(num_gates, ARRAY_LEN(gates));
    gates[num_gates++] = g;
    cluster_config_need(out, &ads);
    return &g->base;
}

static void gate_start(void *arg, struct transport_factory *f, struct cluster_state *state,
                       void (*settled)(void *), void *settled_arg)
{
    struct gate *g = CONTAINER_OF(f, struct gate, base);
    g->started = true;
    g->settled = settled;
    g->arg = settled_arg;
}

static void gate_stop(struct transport_factory *f)
{
    CONTAINER_OF(f, struct gate, base)->settled = NULL;
}

static const struct cluster_transport_ops gate_transport = {gate_compile, gate_start, gate_stop};

static void open_gate(struct gate *g)
{
    g->open = true;
    ck_assert_ptr_nonnull(g->settled);
    g->settled(g->arg);
}

/* --- fixture
 * -------------------------------------------------------------------------------------- */

static void turn(void)
{
    for (int i = 0; i < 20; i++)
        loop_run_once(loop, false);
}

static void setup(void)
{
    stats_init(1);
    loop = loop_new(true);
    mailbox_init(&box, loop);
    mailbox_init(&worker_box, loop);
    fake_xds_start(&fake, loop);
    errors_init(&errs);
    arena_init(&arena, 0);
    initialized = 0;
    num_gates = 0;
    clusters = clusters_new(&(struct clusters_options){
        .loop = loop, .box = &box, .xds = fake.x, .transport = &gate_transport});
    worker = worker_clusters_new(loop, &worker_box);
    clusters_attach(clusters, worker);
}

static void teardown(void)
{
    clusters_detach(clusters, worker);
    worker_clusters_free(&worker);
    mailbox_cleanup(&worker_box);
    clusters_free(&clusters);
    fake_xds_stop(&fake);
    mailbox_cleanup(&box);
    errors_cleanup(&errs);
    arena_cleanup(&arena);
    loop_free(&loop);
    buffer_free_list_trim();
    stats_cleanup();
}

static uint64_t stat(const char *name)
{
    uint64_t n = UINT64_MAX;
    ck_assert_msg(stats_find(str_of(name), &n), "%s", name);
    return n;
}

static bool add_static(const char *json)
{
    return clusters_add_static(clusters,
                               json_to_pb("envoy.config.cluster.v3.Cluster", json, &arena), &errs);
}

static const char xds_json[] =
    "{'name':'xds','type':'STATIC','load_assignment':{'cluster_name':'xds','endpoints':[{"
    "'lb_endpoints':[{'endpoint':{'address':{'socket_address':{'address':'127.0.0.1',"
    "'port_value':7}}}}]}]}}";

/* JSON with ' for ", to be readable here. */
static const char *q(const char *json)
{
    char *copy = arena_strdup(&arena, json);
    for (char *p = copy; *p; p++) {
        if (*p == '\'')
            *p = '"';
    }
    return copy;
}

static const char *eds_cluster(const char *name, const char *more)
{
    struct str s = arena_printf(
        &arena,
        "{'name':'%s','type':'EDS','eds_cluster_config':{'eds_config':{'ads':{},"
        "'resource_api_version':'V3'}}%s}",
        name, more);
    return q(s.p);
}

static const char *cla(const char *name, const char *ports)
{
    struct str s = arena_printf(&arena, "{'cluster_name':'%s','endpoints':[{'lb_endpoints':[",
                                name);
    unsigned port;
    int used, first = 1;
    while (sscanf(ports, " %u%n", &port, &used) == 1) {
        s = arena_printf(&arena,
                         "%.*s%s{'endpoint':{'address':{'socket_address':{'address':'127.0.0.1',"
                         "'port_value':%u}}}}",
                         STR_ARG(s), first ? "" : ",", port);
        ports += used;
        first = 0;
    }
    return q(arena_printf(&arena, "%.*s]}]}", STR_ARG(s)).p);
}

/* start brings everything up to the subscription to clusters. */
static void start(void)
{
    struct xds_source ads = {.kind = XDS_SOURCE_ADS};
    ck_assert(add_static(q(xds_json)));
    clusters_start(clusters, &ads, on_initialized, NULL);
    fake_xds_expect(&fake, "Cluster v= n= names=");
    ck_assert_int_eq(initialized, 0);
}

/* ready starts with no clusters and lets initialization end. */
static void ready(void)
{
    start();
    fake_xds_say(&fake, CLUSTER, "0", NULL);
    fake_xds_expect(&fake, "Cluster v=0 n=n0 names=");
    ck_assert_int_eq(initialized, 1);
}

static struct cluster *use(const char *name)
{
    turn();
    return worker_clusters_find(worker, str_of(name));
}

/* touch uses a cluster: its statistics appear with that. */
static void touch(const char *name)
{
    struct cluster *c = use(name);
    ck_assert_msg(c != NULL, "%s is not there", name);
    stats_inc(c->stats, c->thread, CLUSTER_UPSTREAM_RQ_TOTAL);
}

static unsigned num_hosts(const char *name)
{
    struct cluster *c = use(name);
    ck_assert_msg(c != NULL, "%s is not there", name);
    return c->hosts->num_hosts;
}

/* --- tests
 * ------------------------------------------------------------------------------------------ */

START_TEST(static_cluster_is_there_at_once)
{
    ck_assert(add_static(q(xds_json)));
    clusters_start(clusters, NULL, on_initialized, NULL);
    turn();
    ck_assert_int_eq(initialized, 1);
    ck_assert_uint_eq(num_hosts("xds"), 1);
    ck_assert_ptr_null(use("nope"));
    ck_assert_uint_eq(stat("cluster_manager.active_clusters"), 1);
    ck_assert_uint_eq(stat("cluster_manager.cluster_added"), 1);
    ck_assert_uint_eq(stat("cluster.xds.membership_total"), 1);
    ck_assert_uint_eq(stat("cluster.xds.membership_healthy"), 1);
    ck_assert_uint_eq(stat("cluster.xds.membership_change"), 1);
}
END_TEST

START_TEST(eds_cluster_warms)
{
    start();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ""), NULL);
    fake_xds_expect(&fake, "Cluster v=1 n=n1 names=");
    fake_xds_expect(&fake, "ClusterLoadAssignment v= n= names=a");
    ck_assert_ptr_null(use("a"));
    ck_assert_int_eq(initialized, 0);
    ck_assert_uint_eq(stat("cluster_manager.warming_clusters"), 1);
    fake_xds_say(&fake, CLA, "1", cla("a", "1 2 3"), NULL);
    fake_xds_expect(&fake, "ClusterLoadAssignment v=1 n=n1 names=a");
    ck_assert_int_eq(initialized, 1);
    ck_assert_uint_eq(num_hosts("a"), 3);
    ck_assert_uint_eq(stat("cluster_manager.warming_clusters"), 0);
    ck_assert_uint_eq(stat("cluster_manager.active_clusters"), 2);
    ck_assert_uint_eq(stat("cluster.a.update_success"), 1);
}
END_TEST

START_TEST(no_endpoints_is_an_answer)
{
    start();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ""), NULL);
    fake_xds_say(&fake, CLA, "1", q("{'cluster_name':'a'}"), NULL);
    ck_assert_uint_eq(num_hosts("a"), 0);
    ck_assert_int_eq(initialized, 1);
}
END_TEST

START_TEST(fetch_timeout_ends_warming)
{
    start();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ""), NULL);
    loop_advance(loop, XDS_FETCH_TIMEOUT_MS + 1);
    ck_assert_uint_eq(num_hosts("a"), 0);
    ck_assert_int_eq(initialized, 1);
    fake_xds_say(&fake, CLA, "1", cla("a", "1"), NULL); /* it may still come */
    ck_assert_uint_eq(num_hosts("a"), 1);
}
END_TEST

START_TEST(hosts_keep_their_state)
{
    struct host *h;
    ready();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ""), NULL);
    fake_xds_say(&fake, CLA, "1", cla("a", "1 2"), NULL);
    h = host_ref(use("a")->hosts->hosts[1]);
    h->rq_total = 5;
    fake_xds_say(&fake, CLA, "2", cla("a", "3 2"), NULL);
    ck_assert_uint_eq(num_hosts("a"), 2);
    ck_assert_ptr_eq(use("a")->hosts->hosts[1], h);
    ck_assert(!h->removed);
    fake_xds_say(&fake, CLA, "3", cla("a", "3"), NULL);
    ck_assert_uint_eq(num_hosts("a"), 1);
    ck_assert(h->removed);
    host_unref(h);
    fake_xds_say(&fake, CLA, "4", q("{'cluster_name':'a','endpoints':[]}"), NULL);
    ck_assert_uint_eq(num_hosts("a"), 0);
    touch("a");
    ck_assert_uint_eq(stat("cluster.a.membership_change"), 4);
}
END_TEST

START_TEST(bad_endpoints_disturb_nothing)
{
    ready();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ""), NULL);
    fake_xds_say(&fake, CLA, "1", cla("a", "1 2"), NULL);
    fake.next_line = fake.num_lines;
    fake_xds_say(&fake, CLA, "2",
                 q("{'cluster_name':'a','endpoints':[{'lb_endpoints':[{'endpoint':{'address':{"
                   "'socket_address':{'address':'nope','port_value':1}}}}]}]}"),
                 NULL);
    turn();
    ck_assert_ptr_nonnull(strstr(fake.lines[fake.num_lines - 1],
                                 "endpoints[0].lb_endpoints[0].endpoint.address.socket_address"
                                 ".address: malformed IP address: nope"));
    ck_assert_uint_eq(num_hosts("a"), 2);
}
END_TEST

START_TEST(bad_cluster_is_refused_with_its_path)
{
    ready();
    fake.next_line = fake.num_lines;
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("good", ""),
                 eds_cluster("bad", ",'lb_policy':'CLUSTER_PROVIDED','circuit_breakers':{"
                                    "'per_host_thresholds':[{'max_requests':1}]}"),
                 NULL);
    fake_xds_say(&fake, CLA, "1", cla("good", "1"), NULL);
    ck_assert_uint_eq(num_hosts("good"), 1);
    ck_assert_ptr_null(use("bad"));
    for (size_t i = fake.next_line; i < fake.num_lines; i++) {
        if (strstr(fake.lines[i], "Cluster v=0 n=n1 names= err=")) {
            ck_assert_ptr_nonnull(strstr(fake.lines[i], "lb_policy: CLUSTER_PROVIDED"));
            ck_assert_ptr_nonnull(strstr(
                fake.lines[i], "circuit_breakers.per_host_thresholds[0]: only max_connections"));
            return;
        }
    }
    ck_abort_msg("no NACK");
}
END_TEST

START_TEST(old_serves_until_new_is_warm)
{
    struct cluster *c;
    ready();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ""), NULL);
    fake_xds_say(&fake, CLA, "1", cla("a", "1"), NULL);
    c = use("a");
    fake.next_line = fake.num_lines;
    /* another name for its endpoints: has to be asked for */
    fake_xds_say(&fake, CLUSTER, "2",
                 q("{'name':'a','type':'EDS','connect_timeout':'9s','eds_cluster_config':{"
                   "'service_name':'other','eds_config':{'ads':{}}}}"),
                 NULL);
    ck_assert_uint_eq(num_hosts("a"), 1);
    ck_assert_uint_eq(c->config->connect_timeout_ms, 5000);
    ck_assert_uint_eq(stat("cluster_manager.warming_clusters"), 1);
    /* endpoints of the one that serves still arrive */
    fake_xds_say(&fake, CLA, "2", cla("a", "1 2"), NULL);
    ck_assert_uint_eq(num_hosts("a"), 2);
    fake_xds_say(&fake, CLA, "3", cla("other", "5 6 7"), NULL);
    ck_assert_uint_eq(num_hosts("a"), 3);
    ck_assert_ptr_eq(use("a"), c);
    ck_assert_uint_eq(c->config->connect_timeout_ms, 9000);
    ck_assert_uint_eq(stat("cluster_manager.cluster_modified"), 1);
}
END_TEST

START_TEST(resent_cluster_warms_from_the_cache)
{
    struct host *h;
    ready();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ""), NULL);
    fake_xds_say(&fake, CLA, "1", cla("a", "1 2"), NULL);
    h = use("a")->hosts->hosts[0];
    fake_xds_say(&fake, CLUSTER, "2", eds_cluster("a", ",'connect_timeout':'2s'"), NULL);
    ck_assert_uint_eq(use("a")->config->connect_timeout_ms, 2000); /* without a word about EDS */
    ck_assert_ptr_eq(use("a")->hosts->hosts[0], h);
    ck_assert_uint_eq(stat("cluster_manager.warming_clusters"), 0);
}
END_TEST

START_TEST(identical_resend_does_nothing)
{
    const struct cluster_config *config;
    ready();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ""), NULL);
    fake_xds_say(&fake, CLA, "1", cla("a", "1 2"), NULL);
    config = use("a")->config;
    fake_xds_say(&fake, CLUSTER, "2", eds_cluster("a", ""), NULL);
    ck_assert_ptr_eq(use("a")->config, config);
    ck_assert_uint_eq(stat("cluster_manager.cluster_modified"), 0);
    fake.next_line = fake.num_lines - 1;
    fake_xds_expect(&fake, "Cluster v=2 n=n2 names=");
}
END_TEST

START_TEST(update_while_warming_replaces)
{
    ready();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ""), NULL);
    fake_xds_say(&fake, CLUSTER, "2", eds_cluster("a", ",'connect_timeout':'3s'"), NULL);
    ck_assert_uint_eq(stat("cluster_manager.warming_clusters"), 1);
    ck_assert_ptr_null(use("a"));
    fake_xds_say(&fake, CLA, "1", cla("a", "1"), NULL);
    ck_assert_uint_eq(use("a")->config->connect_timeout_ms, 3000);
    ck_assert_uint_eq(stat("cluster_manager.warming_clusters"), 0);
    ck_assert_uint_eq(stat("cluster_manager.cluster_added"), 2); /* with xds */
}
END_TEST

START_TEST(ack_does_not_wait_for_warming)
{
    ready();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ""), NULL);
    fake_xds_expect(&fake, "Cluster v=1 n=n1 names=");
    fake_xds_expect(&fake, "ClusterLoadAssignment v= n= names=a");
    fake_xds_expect(&fake, NULL);
    ck_assert_ptr_null(use("a"));
}
END_TEST

START_TEST(removal)
{
    struct cluster *c;
    ready();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ""), eds_cluster("b", ""), NULL);
    fake_xds_say(&fake, CLA, "1", cla("a", "1"), cla("b", "2"), NULL);
    c = use("a");
    cluster_hold(c);
    fake_xds_say(&fake, CLUSTER, "2", eds_cluster("b", ""), NULL);
    ck_assert_ptr_null(use("a"));
    ck_assert(c->removed);
    ck_assert_ptr_nonnull(use("b"));
    ck_assert_ptr_nonnull(use("xds")); /* of the bootstrap: stays */
    ck_assert_uint_eq(stat("cluster_manager.cluster_removed"), 1);
    ck_assert_uint_eq(stat("cluster_manager.active_clusters"), 2);
    ck_assert(!clusters_known(clusters, STR("a")));
    ck_assert_uint_eq(c->config->connect_timeout_ms, 5000); /* alive as long as it is held */
    cluster_release(c);
    turn();
    fake_xds_say(&fake, CLUSTER, "3", eds_cluster("a", ""), eds_cluster("b", ""), NULL);
    fake_xds_say(&fake, CLA, "2", cla("a", "1 2"), NULL);
    ck_assert_uint_eq(num_hosts("a"), 2);
}
END_TEST

START_TEST(removed_while_warming)
{
    ready();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ""), NULL);
    fake_xds_say(&fake, CLUSTER, "2", NULL);
    ck_assert_uint_eq(stat("cluster_manager.warming_clusters"), 0);
    ck_assert_ptr_null(use("a"));
    ck_assert(!clusters_known(clusters, STR("a")));
}
END_TEST

static const char *gated(const char *name, const char *more)
{
    return eds_cluster(
        name, arena_printf(&arena,
                           ",'transport_socket':{'name':'tls','typed_config':{'@type':"
                           "'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
                           "UpstreamTlsContext'}}%s",
                           more)
                  .p);
}

START_TEST(secrets_hold_back)
{
    ready();
    fake_xds_say(&fake, CLUSTER, "1", gated("a", ""), NULL);
    fake_xds_say(&fake, CLA, "1", cla("a", "1"), NULL);
    ck_assert_uint_eq(num_gates, 1);
    ck_assert(gates[0]->started);
    ck_assert_ptr_null(use("a"));
    open_gate(gates[0]);
    ck_assert_uint_eq(num_hosts("a"), 1);
    /* A new version brings its own factory; the old one goes with the old version. */
    fake_xds_say(&fake, CLUSTER, "2", gated("a", ",'connect_timeout':'2s'"), NULL);
    ck_assert_uint_eq(num_gates, 2);
    ck_assert_uint_eq(use("a")->config->connect_timeout_ms, 5000);
    open_gate(gates[1]);
    ck_assert_uint_eq(use("a")->config->connect_timeout_ms, 2000);
    ck_assert_ptr_null(gates[0]);
}
END_TEST

START_TEST(primary_with_secret_comes_first)
{
    struct xds_source ads = {.kind = XDS_SOURCE_ADS};
    const char *json = arena_printf(&arena,
                                    "%.*s,'transport_socket':{'name':'t','typed_config':{"
                                    "'@type':'type.googleapis.com/envoy.extensions."
                                    "transport_sockets.tls.v3.UpstreamTlsContext'}}}",
                                    (int)sizeof(xds_json) - 2, xds_json)
                           .p;
    ck_assert(add_static(q(json)));
    ck_assert(add_static(eds_cluster("second", "")));
    clusters_start(clusters, &ads, on_initialized, NULL);
    fake_xds_expect(&fake, NULL); /* nothing is asked for before the way is open */
    open_gate(gates[0]);
    fake_xds_expect(&fake, "Cluster v= n= names=");
    fake_xds_expect(&fake, "ClusterLoadAssignment v= n= names=second");
    fake_xds_say(&fake, CLUSTER, "1", NULL);
    ck_assert_int_eq(initialized, 0); /* second */
    fake_xds_say(&fake, CLA, "1", cla("second", "1"), NULL);
    ck_assert_int_eq(initialized, 1);
}
END_TEST

START_TEST(streams_that_wait_for_themselves)
{
    const struct str others[] = {STR("nope")};
    ck_assert(add_static(q(xds_json)));
    ck_assert(clusters_check_streams(clusters, STR("xds"), NULL, 0, &errs));
    ck_assert(!clusters_check_streams(clusters, STR("xds"), others, 1, &errs));
    ck_assert_ptr_nonnull(strstr(errors_text(&errs, &arena).p, "'nope' is not among"));
    ck_assert(add_static(eds_cluster("loop", "")));
    ck_assert(clusters_check_streams(clusters, STR("xds"), NULL, 0, &errs));
    ck_assert(!clusters_check_streams(clusters, STR("loop"), NULL, 0, &errs));
    ck_assert_ptr_nonnull(
        strstr(errors_text(&errs, &arena).p, "'loop' waits for endpoints or secrets of a stream"));
    /* in a circle of two */
    ck_assert(add_static(q("{'name':'p','type':'EDS','eds_cluster_config':{'eds_config':{"
                           "'api_config_source':{'api_type':'GRPC','transport_api_version':'V3',"
                           "'grpc_services':[{'envoy_grpc':{'cluster_name':'loop'}}]}}}}")));
    ck_assert(!clusters_check_streams(clusters, STR("p"), NULL, 0, &errs));
    ck_assert_ptr_nonnull(strstr(errors_text(&errs, &arena).p, "by way of loop"));
}
END_TEST

START_TEST(stale_endpoints_are_dropped)
{
    ready();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ""), NULL);
    fake_xds_say(
        &fake, CLA, "1",
        q("{'cluster_name':'a','policy':{'endpoint_stale_after':'5s'},'endpoints':[{"
          "'lb_endpoints':[{'endpoint':{'address':{'socket_address':{'address':'127.0.0.1',"
          "'port_value':1}}}}]}]}"),
        NULL);
    ck_assert_uint_eq(num_hosts("a"), 1);
    loop_advance(loop, 5001);
    ck_assert_uint_eq(num_hosts("a"), 0);
    touch("a");
    ck_assert_uint_eq(stat("cluster.a.assignment_stale"), 1);
}
END_TEST

START_TEST(ejection_is_published)
{
    struct cluster *c;
    struct host *h;
    ready();
    fake_xds_say(&fake, CLUSTER, "1",
                 eds_cluster("a", ",'outlier_detection':{'consecutive_5xx':3,'interval':'1s',"
                                  "'base_ejection_time':'10s','max_ejection_percent':50}"),
                 NULL);
    fake_xds_say(&fake, CLA, "1", cla("a", "1 2"), NULL);
    c = use("a");
    touch("a");
    h = c->hosts->hosts[0];
    for (int i = 0; i < 3; i++)
        cluster_count_outcome(c, h, OUTCOME_STATUS, 503);
    turn();
    ck_assert(!host_healthy(h));
    ck_assert_uint_eq(c->hosts->num_healthy, 1);
    ck_assert_uint_eq(stat("cluster.a.membership_healthy"), 1);
    ck_assert_uint_eq(stat("cluster.a.outlier_detection.ejections_active"), 1);
    for (int i = 0; i < 20; i++) {
        struct host *picked = cluster_pick(c, &(struct lb_request){0});
        ck_assert_ptr_ne(picked, h);
        host_unref(picked);
    }
    /* endpoints that come again leave it ejected */
    fake_xds_say(&fake, CLA, "2", cla("a", "1 2 3"), NULL);
    ck_assert_uint_eq(use("a")->hosts->num_healthy, 2);
    loop_advance(loop, 11000);
    turn();
    ck_assert_uint_eq(use("a")->hosts->num_healthy, 3);
    ck_assert_uint_eq(stat("cluster.a.outlier_detection.ejections_active"), 0);
    /* without detection nobody is out */
    for (int i = 0; i < 3; i++)
        cluster_count_outcome(c, h, OUTCOME_STATUS, 503);
    turn();
    ck_assert_uint_eq(use("a")->hosts->num_healthy, 2);
    fake_xds_say(&fake, CLUSTER, "2", eds_cluster("a", ""), NULL);
    ck_assert_uint_eq(use("a")->hosts->num_healthy, 3);
}
END_TEST

static int views, warming_views;

static void on_view(void *arg, const struct cluster_view *v)
{
    views++;
    warming_views += v->warming && !v->active;
    ck_assert(v->active ? v->hosts && v->circuit : !v->hosts);
    ck_assert_ptr_nonnull(v->config);
}

START_TEST(visit_and_dial)
{
    struct clusters_dial d;
    char why[64];
    ready();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ""), NULL);
    views = warming_views = 0;
    clusters_visit(clusters, on_view, NULL);
    ck_assert_int_eq(views, 2);
    ck_assert_int_eq(warming_views, 1);
    ck_assert(clusters_dial_target(clusters, STR("xds"), &d, why, sizeof(why)));
    ck_assert_uint_eq(addr_port(d.how.peer), 7);
    clusters_dial_release(&d);
    ck_assert(!clusters_dial_target(clusters, STR("a"), &d, why, sizeof(why)));
    ck_assert_str_eq(why, "cluster a is not warm yet");
    ck_assert(!clusters_dial_target(clusters, STR("zz"), &d, why, sizeof(why)));
    ck_assert_str_eq(why, "cluster zz is unknown");
    fake_xds_say(&fake, CLA, "1", q("{'cluster_name':'a'}"), NULL);
    ck_assert(!clusters_dial_target(clusters, STR("a"), &d, why, sizeof(why)));
    ck_assert_str_eq(why, "cluster a has no healthy host");
}
END_TEST

START_TEST(own_listeners_reach_the_worker)
{
    struct addr own[1];
    ck_assert(addr_parse_ip_port(STR("0.0.0.0:15001"), &own[0]));
    ready();
    clusters_set_own_listeners(clusters, own, 1);
    turn();
    ck_assert_ptr_nonnull(worker->table->own);
    ck_assert_uint_eq(worker->table->own->num, 1);
}
END_TEST

START_TEST(stat_name_and_late_worker)
{
    struct mailbox late_box;
    struct worker_clusters *late;
    uint64_t ignored;
    ready();
    fake_xds_say(&fake, CLUSTER, "1", eds_cluster("a", ",'alt_stat_name':'x;'"), NULL);
    fake_xds_say(&fake, CLA, "1", cla("a", "1"), NULL);
    ck_assert(!stats_find(STR("cluster.x;.membership_total"), &ignored)); /* not used yet */
    touch("a");
    ck_assert_uint_eq(stat("cluster.x;.membership_total"), 1);
    mailbox_init(&late_box, loop);
    late = worker_clusters_new(loop, &late_box);
    clusters_attach(clusters, late);
    turn();
    ck_assert_ptr_nonnull(worker_clusters_find(late, STR("a")));
    clusters_detach(clusters, late);
    worker_clusters_free(&late);
    mailbox_cleanup(&late_box);
}
END_TEST

/* --- health checks --- */

/* Nobody listens at port 1 of loopback, so that a check of it fails at once. */
static const char *checked_cluster(const char *name, const char *interval)
{
    return eds_cluster(name, arena_printf(&arena,
                                          ",'health_checks':[{'timeout':'1s','interval':'%s',"
                                          "'unhealthy_threshold':1,'healthy_threshold':1,"
                                          "'tcp_health_check':{}}]",
                                          interval)
                                 .p);
}

static void check_once(void)
{
    loop_advance(loop, 1);
    turn();
}

static const struct host_set *hosts_of(const char *name)
{
    return worker_clusters_find(worker, str_of(name))->hosts;
}

START_TEST(first_version_waits_for_checks)
{
    start();
    fake_xds_say(&fake, CLUSTER, "1", checked_cluster("a", "5s"), NULL);
    fake_xds_say(&fake, CLA, "1", cla("a", "1 2"), NULL);
    turn();
    ck_assert_uint_eq(stat("cluster_manager.warming_clusters"), 1);
    ck_assert_ptr_null(worker_clusters_find(worker, STR("a")));
    fake_xds_say(&fake, CLA, "2", cla("a", "1"), NULL); /* one is gone before it was asked */
    check_once();
    ck_assert_uint_eq(stat("cluster_manager.warming_clusters"), 0);
    ck_assert_ptr_nonnull(worker_clusters_find(worker, STR("a")));
    ck_assert_uint_eq(hosts_of("a")->num_hosts, 1);
    ck_assert_uint_eq(hosts_of("a")->num_healthy, 0);
    ck_assert_uint_eq(stat("cluster.a.health_check.failure"), 1);
    /* the next version serves at once, with what is known */
    fake_xds_say(&fake, CLUSTER, "2", checked_cluster("a", "7s"), NULL);
    turn();
    ck_assert_uint_eq(stat("cluster_manager.warming_clusters"), 0);
    ck_assert_uint_eq(hosts_of("a")->num_healthy, 0);
    /* without checks the host counts as healthy */
    fake_xds_say(&fake, CLUSTER, "3", eds_cluster("a", ""), NULL);
    turn();
    ck_assert_uint_eq(hosts_of("a")->num_healthy, 1);
}
END_TEST

START_TEST(removed_while_it_is_checked)
{
    start();
    fake_xds_say(&fake, CLUSTER, "1", checked_cluster("a", "5s"), NULL);
    fake_xds_say(&fake, CLA, "1", cla("a", "1 2"), NULL);
    turn();
    fake_xds_say(&fake, CLUSTER, "2", NULL);
    check_once();
    ck_assert_uint_eq(stat("cluster_manager.warming_clusters"), 0);
    ck_assert_ptr_null(worker_clusters_find(worker, STR("a")));
    /* replaced while it is checked */
    fake_xds_say(&fake, CLUSTER, "3", checked_cluster("a", "5s"), NULL);
    fake_xds_say(&fake, CLA, "3", cla("a", "1"), NULL);
    fake_xds_say(&fake, CLUSTER, "4", checked_cluster("a", "6s"), NULL);
    turn();
    check_once();
    ck_assert_ptr_nonnull(worker_clusters_find(worker, STR("a")));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster/clusters");
    TCase *t = tcase_create("warming");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, static_cluster_is_there_at_once);
    tcase_add_test(t, eds_cluster_warms);
    tcase_add_test(t, no_endpoints_is_an_answer);
    tcase_add_test(t, fetch_timeout_ends_warming);
    tcase_add_test(t, hosts_keep_their_state);
    tcase_add_test(t, bad_endpoints_disturb_nothing);
    tcase_add_test(t, bad_cluster_is_refused_with_its_path);
    tcase_add_test(t, old_serves_until_new_is_warm);
    tcase_add_test(t, resent_cluster_warms_from_the_cache);
    tcase_add_test(t, identical_resend_does_nothing);
    tcase_add_test(t, update_while_warming_replaces);
    tcase_add_test(t, ack_does_not_wait_for_warming);
    tcase_add_test(t, removal);
    tcase_add_test(t, removed_while_warming);
    tcase_add_test(t, secrets_hold_back);
    tcase_add_test(t, primary_with_secret_comes_first);
    tcase_add_test(t, streams_that_wait_for_themselves);
    tcase_add_test(t, stale_endpoints_are_dropped);
    tcase_add_test(t, ejection_is_published);
    tcase_add_test(t, visit_and_dial);
    tcase_add_test(t, own_listeners_reach_the_worker);
    tcase_add_test(t, stat_name_and_late_worker);
    tcase_add_test(t, first_version_waits_for_checks);
    tcase_add_test(t, removed_while_it_is_checked);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
