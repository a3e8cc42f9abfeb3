#include "cluster/cluster_bind.h"
#include "cluster/cluster_config.h"

#include "cluster/load_assignment.h"
#include "cluster/health_config.h"
#include "cluster/outlier.h"
#include "test/support/fake_xds.h"
#include "xds/discovery.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct arena arena;
static struct errors errs;
static bool is_static;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errs);
    is_static = true;
}

static void teardown(void)
{
    errors_cleanup(&errs);
    arena_cleanup(&arena);
}

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

static struct cluster_config *compile_bytes(struct str bytes)
{
    struct cluster_compile_env env = {.has_ads = true, .is_static = is_static};
    return cluster_config_compile(&env, bytes, &errs);
}

static struct cluster_config *compile(const char *members)
{
    struct str json = arena_printf(&arena, "{'name':'c'%s%s}", members[0] ? "," : "", members);
    return compile_bytes(json_to_pb("envoy.config.cluster.v3.Cluster", q(json.p), &arena));
}

static const char *text(void)
{
    return errors_text(&errs, &arena).p;
}

static struct cluster_config *good(const char *members)
{
    struct cluster_config *c = compile(members);
    ck_assert_msg(c != NULL, "%s: %s", members, text());
    return c;
}

/* warned says whether a warning at `path` was recorded. */
static bool warned(const char *path)
{
    for (struct error_item *w = errs.warn_first; w; w = w->next) {
        if (str_eq(w->path, str_of(path)))
            return true;
    }
    return false;
}

START_TEST(defaults)
{
    struct cluster_config *c = good("");
    ck_assert(str_eq(c->name, STR("c")) && str_eq(c->stat_name, STR("c")));
    ck_assert_int_eq(c->type, CLUSTER_STATIC);
    ck_assert_int_eq(c->lb_policy, LB_ROUND_ROBIN);
    ck_assert_uint_eq(c->connect_timeout_ms, 5000);
    ck_assert_uint_eq(c->idle_timeout_ms, 3600000);
    ck_assert_uint_eq(c->buffer_limit, 32768);
    ck_assert_uint_eq(c->healthy_panic_per_cent, 50);
    ck_assert_uint_eq(c->choice_count, 2);
    ck_assert_uint_eq(c->limits[0].max[CIRCUIT_CX], 1024);
    ck_assert(c->limits[1].has_retry_budget);
    ck_assert_ptr_null(c->outlier);
    ck_assert_int_eq(c->http, UPSTREAM_HTTP1);
    ck_assert(!c->bind && !c->keepalive && !c->locality_weighted);
    ck_assert_uint_eq(errs.num_warnings, 0);
    cluster_config_unref(c);
}
END_TEST

START_TEST(what_it_says)
{
    struct cluster_config *c = good(
        "'connect_timeout':'0.25s','alt_stat_name':'x;','lb_policy':'LEAST_REQUEST',"
        "'least_request_lb_config':{'choice_count':4},'per_connection_buffer_limit_bytes':1000,"
        "'close_connections_on_host_health_failure':true,"
        "'common_lb_config':{'healthy_panic_threshold':{'value':0},'locality_weighted_lb_config':{}"
        ","
        "'close_connections_on_host_set_change':true},"
        "'upstream_bind_config':{'source_address':{'address':'127.0.0.6','port_value':0}},"
        "'upstream_connection_options':{'tcp_keepalive':{'keepalive_time':300,"
        "'keepalive_probes':3}},'metadata':{'filter_metadata':{'istio':{'a':1}}},"
        "'typed_extension_protocol_options':{"
        "'envoy.extensions.upstreams.http.v3.HttpProtocolOptions':{'@type':'type.googleapis.com/"
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions','common_http_protocol_options':{"
        "'idle_timeout':'10s','max_connection_duration':'60s','max_requests_per_connection':7,"
        "'max_stream_duration':'5s','max_headers_count':50,'max_response_headers_kb':20},"
        "'explicit_http_config':{'http_protocol_options':{'enable_trailers':true}}}},"
        "'circuit_breakers':{'thresholds':[{'max_connections':1,'max_pending_requests':2,"
        "'max_requests':3,'max_retries':4,'track_remaining':true},{'priority':'HIGH',"
        "'retry_budget':{'budget_percent':{'value':50},'min_retry_concurrency':9}}],"
        "'per_host_thresholds':[{'max_connections':11}]}");
    ck_assert_uint_eq(c->connect_timeout_ms, 250);
    ck_assert(str_eq(c->stat_name, STR("x;")));
    ck_assert_int_eq(c->lb_policy, LB_LEAST_REQUEST);
    ck_assert_uint_eq(c->choice_count, 4);
    ck_assert_uint_eq(c->buffer_limit, 1000);
    ck_assert_uint_eq(c->healthy_panic_per_cent, 0);
    ck_assert(c->locality_weighted && c->close_on_host_set_change && c->close_on_health_failure);
    ck_assert(c->bind && c->bind->num_sources == 1);
    ck_assert(addr_is_loopback(&c->bind->sources[0].addr));
    ck_assert_uint_eq(addr_port(&c->bind->sources[0].addr), 0);
    ck_assert(c->keepalive);
    ck_assert_uint_eq(c->keepalive_time_s, 300);
    ck_assert_uint_eq(c->keepalive_interval_s, 0);
    ck_assert_uint_eq(c->keepalive_probes, 3);
    ck_assert_uint_gt(c->metadata.len, 0);
    ck_assert_uint_eq(c->idle_timeout_ms, 10000);
    ck_assert_uint_eq(c->max_connection_duration_ms, 60000);
    ck_assert_uint_eq(c->max_requests_per_connection, 7);
    ck_assert_uint_eq(c->max_stream_ms, 5000);
    ck_assert_uint_eq(c->max_headers_count, 50);
    ck_assert_uint_eq(c->max_headers_kb, 20);
    ck_assert(c->http1.trailers);
    for (unsigned k = 0; k <= CIRCUIT_RETRIES; k++)
        ck_assert_uint_eq(c->limits[0].max[k], k == CIRCUIT_RETRIES   ? 4
                                               : k == CIRCUIT_RQ      ? 3
                                               : k == CIRCUIT_PENDING ? 2
                                                                      : 1);
    ck_assert(!c->limits[0].has_retry_budget && c->limits[0].track_remaining);
    ck_assert(c->limits[1].has_retry_budget);
    ck_assert_uint_eq((unsigned)c->limits[1].budget_per_cent, 50);
    ck_assert_uint_eq(c->limits[1].budget_min, 9);
    ck_assert_uint_eq(c->limits[0].max_cx_per_host, 11);
    ck_assert_uint_eq(c->limits[1].max_cx_per_host, UINT32_MAX);
    cluster_config_unref(c);
}
END_TEST

START_TEST(eds)
{
    char path[] = "/tmp/attache-eds-XXXXXX.pb";
    struct cluster_config *c = good(
        "'type':'EDS','eds_cluster_config':{'service_name':'s','eds_config':{'ads':{},"
        "'initial_fetch_timeout':'0s'}}");
    ck_assert_int_eq(c->type, CLUSTER_EDS);
    ck_assert(str_eq(c->eds_name, STR("s")));
    ck_assert_int_eq(c->eds->kind, XDS_SOURCE_ADS);
    ck_assert_uint_eq(c->eds->initial_fetch_timeout_ms, 0);
    ck_assert(c->needs && c->needs->ads && !c->needs->next);
    cluster_config_unref(c);
    close(mkstemps(path, 3));
    c = good(arena_printf(&arena,
                          "'type':'EDS','eds_cluster_config':{'eds_config':{"
                          "'path_config_source':{'path':'%s'}}}",
                          path)
                 .p);
    unlink(path);
    ck_assert(str_eq(c->eds_name, STR("c")));
    ck_assert_int_eq(c->eds->kind, XDS_SOURCE_PATH);
    ck_assert_ptr_null(c->needs);
    cluster_config_unref(c);
}
END_TEST

START_TEST(original_dst)
{
    struct cluster_config *c = good(
        "'type':'ORIGINAL_DST','lb_policy':'CLUSTER_PROVIDED','cleanup_interval':"
        "'9223372036s','original_dst_lb_config':{'use_http_header':true,"
        "'http_header_name':'X-Dst','upstream_port_override':8080}");
    ck_assert_uint_eq(c->cleanup_interval_ms, 9223372036000u);
    ck_assert(c->use_http_header && str_eq(c->http_header_name, STR("x-dst")));
    ck_assert_uint_eq(c->upstream_port_override, 8080);
    cluster_config_unref(c);
}
END_TEST

#define CHECK_OF(more)                                                                             \
    "{'timeout':'1s','interval':'2s','unhealthy_threshold':3,'healthy_threshold':4," more "}"
#define HC(more) "'health_checks':[" CHECK_OF(more) "]"
#define HC2(more) "'health_checks':[" CHECK_OF(more) "," CHECK_OF(more) "]"

START_TEST(health)
{
    struct cluster_config *c = good(
        HC("'tcp_health_check':{'send':{'text':'504F'},'receive':[{'binary':'b2s='}]}"));
    const struct health_config *h = c->health;
    ck_assert(h->kind == HEALTH_TCP && h->reuse && !h->log_failures && !h->log_successes);
    ck_assert(str_eq(h->send, STR("PO")));
    ck_assert_uint_eq(h->receive.n, 1);
    ck_assert(str_eq(h->receive.v[0], STR("ok")));
    ck_assert_uint_eq(h->timeout_ms, 1000);
    ck_assert_uint_eq(h->unhealthy_ms, 2000); /* these as interval */
    ck_assert_uint_eq(h->unhealthy_edge_ms, 2000);
    ck_assert_uint_eq(h->healthy_edge_ms, 2000);
    ck_assert_uint_eq(h->no_traffic_ms, 60000);
    ck_assert_uint_eq(h->no_traffic_healthy_ms, 60000);
    ck_assert_uint_eq(h->unhealthy_threshold, 3);
    ck_assert_uint_eq(h->healthy_threshold, 4);
    uint64_t hash = h->hash;
    cluster_config_unref(c);
    c = good(HC("'tcp_health_check':{},'unhealthy_interval':'3s','no_traffic_interval':'4s',"
                "'interval_jitter_percent':7,'alt_port':8,'reuse_connection':false"));
    ck_assert_uint_eq(c->health->unhealthy_edge_ms, 3000);
    ck_assert_uint_eq(c->health->no_traffic_healthy_ms, 4000);
    ck_assert_uint_eq(c->health->interval_jitter_per_cent, 7);
    ck_assert_uint_eq(c->health->alt_port, 8);
    ck_assert(!c->health->reuse && c->health->hash != hash);
    cluster_config_unref(c);
    c = good("'type':'ORIGINAL_DST','lb_policy':'CLUSTER_PROVIDED'," HC("'tcp_health_check':{}"));
    ck_assert(warned("health_checks"));
    cluster_config_unref(c);
}
END_TEST

START_TEST(outlier)
{
    struct cluster_config *c = good(
        "'outlier_detection':{'consecutive_5xx':3,'interval':'1s','base_ejection_time':'400s',"
        "'max_ejection_percent':60,'consecutive_gateway_failure':2,"
        "'enforcing_consecutive_gateway_failure':80,'enforcing_success_rate':0,"
        "'split_external_local_origin_errors':true,'always_eject_one_host':true,"
        "'max_ejection_time_jitter':'2s'}");
    ck_assert_uint_eq(c->outlier->consecutive[OUTLIER_5XX], 3);
    ck_assert_uint_eq(c->outlier->consecutive[OUTLIER_GATEWAY], 2);
    ck_assert_uint_eq(c->outlier->consecutive[OUTLIER_LOCAL], 5);
    ck_assert_uint_eq(c->outlier->enforcing[OUTLIER_5XX], 100);
    ck_assert_uint_eq(c->outlier->enforcing[OUTLIER_GATEWAY], 80);
    ck_assert_uint_eq(c->outlier->interval_ms, 1000);
    ck_assert_uint_eq(c->outlier->max_ejection_ms, 400000); /* at least the base */
    ck_assert_uint_eq(c->outlier->jitter_ms, 2000);
    ck_assert(c->outlier->split_local && c->outlier->always_eject_one);
    ck_assert_uint_eq(errs.num_warnings, 0);
    cluster_config_unref(c);
    c = good("'outlier_detection':{'enforcing_success_rate':7,'success_rate_minimum_hosts':3,"
             "'success_rate_request_volume':4,'success_rate_stdev_factor':1500,"
             "'failure_percentage_threshold':60,'failure_percentage_minimum_hosts':2,"
             "'failure_percentage_request_volume':9,'enforcing_failure_percentage':11,"
             "'successful_active_health_check_uneject_host':false}");
    ck_assert_uint_eq(c->outlier->enforcing[OUTLIER_RATE], 7);
    ck_assert_uint_eq(c->outlier->enforcing[OUTLIER_PERCENTAGE], 11);
    ck_assert_uint_eq(c->outlier->rate_min_hosts, 3);
    ck_assert_uint_eq(c->outlier->rate_volume, 4);
    ck_assert_uint_eq(c->outlier->rate_factor, 1500);
    ck_assert_uint_eq(c->outlier->percentage, 60);
    ck_assert_uint_eq(c->outlier->percentage_min_hosts, 2);
    ck_assert_uint_eq(c->outlier->percentage_volume, 9);
    ck_assert(!c->outlier->uneject_on_check);
    cluster_config_unref(c);
}
END_TEST

START_TEST(matches)
{
    static const char raw[] =
        "'transport_socket':{'name':'envoy.transport_sockets.raw_buffer','typed_config':{'@type':"
        "'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer'}}";
    struct cluster_config *c = good(
        arena_printf(&arena,
                     "%s,'transport_socket_matches':[{'name':'a','match':{'tlsMode':'istio','n':1},"
                     "%s},{'name':'b','match':{},%s}]",
                     raw, raw, raw)
            .p);
    ck_assert_uint_eq(c->num_transports, 3);
    ck_assert_uint_eq(c->matches[0].labels->num, 2);
    ck_assert_ptr_null(c->matches[1].labels);
    ck_assert_ptr_null(c->transports[0]);
    cluster_config_unref(c);
}
END_TEST

START_TEST(connection_hash)
{
    static const char *const same[] = {"", "'connect_timeout':'1s'", "'lb_policy':'RANDOM'"};
    static const char *const other[] = {
        "'per_connection_buffer_limit_bytes':7",
        "'upstream_bind_config':{'source_address':{'address':'127.0.0.6','port_value':0}}",
        "'upstream_connection_options':{'tcp_keepalive':{}}",
        "'transport_socket':{'name':'x','typed_config':{'@type':'type.googleapis.com/"
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer'}}",
    };
    struct cluster_config *base = good("");
    for (unsigned i = 0; i < ARRAY_LEN(same); i++) {
        struct cluster_config *c = good(same[i]);
        ck_assert_uint_eq(c->connection_hash, base->connection_hash);
        cluster_config_unref(c);
    }
    for (unsigned i = 0; i < ARRAY_LEN(other); i++) {
        struct cluster_config *c = good(other[i]);
        ck_assert_uint_ne(c->connection_hash, base->connection_hash);
        cluster_config_unref(c);
    }
    cluster_config_unref(base);
}
END_TEST

#define TYPED(name, more)                                                                          \
    "{'typed_extension_config':{'name':'x','typed_config':{'@type':'type.googleapis.com/"          \
    "envoy.extensions.load_balancing_policies." name "'" more "}}}"
#define UNKNOWN                                                                                    \
    "{'typed_extension_config':{'name':'x','typed_config':{'@type':'type.googleapis.com/"          \
    "xds.type.v3.TypedStruct','type_url':'a/nobody.knows.This','value':{}}}}"
#define SUBSET(inner)                                                                              \
    TYPED("subset.v3.Subset", ",'subset_selectors':[{'keys':['k']}],'subset_lb_policy':"           \
                              "{'policies':[" inner "]}")
#define POLICIES(list) "'load_balancing_policy':{'policies':[" list "]}"

START_TEST(first_policy_that_is_known)
{
    struct cluster_config *c = good(POLICIES(UNKNOWN "," TYPED(
        "least_request.v3.LeastRequest",
        ",'choice_count':5,'active_request_bias':{'default_value':0.5,'runtime_key':'k'},"
        "'selection_method':'FULL_SCAN'") "," TYPED("random.v3.Random", "")));
    ck_assert_int_eq(c->lb_policy, LB_LEAST_REQUEST);
    ck_assert_uint_eq(c->choice_count, 5);
    ck_assert_double_eq(c->active_bias, 0.5);
    ck_assert(c->full_scan && !c->locality_weighted);
    cluster_config_unref(c);
    c = good(POLICIES(TYPED("wrr_locality.v3.WrrLocality",
                            ",'endpoint_picking_policy':{'policies':"
                            "[" TYPED("round_robin.v3.RoundRobin", "") "]}")));
    ck_assert_int_eq(c->lb_policy, LB_ROUND_ROBIN);
    ck_assert(c->locality_weighted);
    cluster_config_unref(c);
    c = good(POLICIES(TYPED("maglev.v3.Maglev",
                            ",'table_size':7,'consistent_hashing_lb_config':{"
                            "'hash_balance_factor':120,'use_hostname_for_hashing':true}")));
    ck_assert_int_eq(c->lb_policy, LB_MAGLEV);
    ck_assert_uint_eq(c->table->size, 7);
    ck_assert_uint_eq(c->balance_factor, 120);
    ck_assert(c->table->use_hostname);
    cluster_config_unref(c);
}
END_TEST

START_TEST(hash_policies)
{
    struct cluster_config *c = good("'lb_policy':'RING_HASH'");
    ck_assert_int_eq(c->lb_policy, LB_RING_HASH);
    ck_assert_uint_eq(c->table->min_size, 1024);
    ck_assert_uint_eq(c->table->max_size, 8 << 20);
    ck_assert(!c->table->murmur);
    cluster_config_unref(c);
    c = good("'lb_policy':'RING_HASH','ring_hash_lb_config':{'hash_function':'MURMUR_HASH_2'}");
    ck_assert(c->table->murmur);
    cluster_config_unref(c);
    c = good("'lb_policy':'MAGLEV'");
    ck_assert_uint_eq(c->table->size, 65537);
    cluster_config_unref(c);
}
END_TEST

static const struct {
    const char *members, *error;
} bad[] = {
    {"'type':'LOGICAL_DNS'", "load_assignment: is required for LOGICAL_DNS"},
    {"'lb_policy':'LOAD_BALANCING_POLICY_CONFIG'", "load_balancing_policy: is required"},
    {"'lb_policy':'RING_HASH','ring_hash_lb_config':{'minimum_ring_size':100,'maximum_ring_size':"
     "99}",
     "ring_hash_lb_config.minimum_ring_size: is greater than maximum_ring_size"},
    {"'lb_policy':'RING_HASH','ring_hash_lb_config':{'maximum_ring_size':8388609}",
     "ring_hash_lb_config.maximum_ring_size: "},
    {"'lb_policy':'MAGLEV','maglev_lb_config':{'table_size':65536}",
     "maglev_lb_config.table_size: must be a prime number"},
    {"'lb_policy':'MAGLEV','maglev_lb_config':{'table_size':1}", "must be a prime number"},
    {"'lb_policy':'MAGLEV','maglev_lb_config':{'table_size':5000077}",
     "maglev_lb_config.table_size: "},
    {"'lb_policy':'MAGLEV','common_lb_config':{'consistent_hashing_lb_config':{"
     "'use_hostname_for_hashing':true}}",
     "common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing: needs a type"},
    {"'lb_policy':'MAGLEV','common_lb_config':{'consistent_hashing_lb_config':{"
     "'hash_balance_factor':99}}",
     "common_lb_config.consistent_hashing_lb_config.hash_balance_factor: "},
    {"'load_balancing_policy':{}", "load_balancing_policy.policies: none of them is supported"},
    {POLICIES(UNKNOWN), "load_balancing_policy.policies: none of them is supported"},
    {POLICIES(UNKNOWN "," TYPED("maglev.v3.Maglev", ",'table_size':4")),
     "load_balancing_policy.policies[1].typed_extension_config.typed_config.table_size: must be"},
    {POLICIES(TYPED("wrr_locality.v3.WrrLocality", ",'endpoint_picking_policy':{}")),
     "typed_config.endpoint_picking_policy.policies: none of them is supported"},
    {POLICIES(SUBSET(SUBSET(TYPED("random.v3.Random", "")))),
     "typed_config.subset_lb_policy.policies[0].typed_extension_config.typed_config: subsets "
     "cannot"},
    {POLICIES(TYPED("cluster_provided.v3.ClusterProvided", "")), "needs type ORIGINAL_DST"},
    {POLICIES(TYPED("random.v3.Random", "")) ",'common_lb_config':{'locality_weighted_lb_config':"
                                             "{}}",
     "load_balancing_policy: cannot be combined with"},
    {"'lb_policy':'CLUSTER_PROVIDED'", "lb_policy: CLUSTER_PROVIDED needs type ORIGINAL_DST"},
    {"'type':'ORIGINAL_DST'", "lb_policy: type ORIGINAL_DST needs CLUSTER_PROVIDED"},
    {"'type':'ORIGINAL_DST','lb_policy':'CLUSTER_PROVIDED','load_assignment':{'cluster_name':'c'}",
     "load_assignment: type ORIGINAL_DST has no endpoints"},
    {"'type':'ORIGINAL_DST','lb_policy':'CLUSTER_PROVIDED','original_dst_lb_config':{"
     "'http_header_name':'x'}",
     "original_dst_lb_config.http_header_name: needs use_http_header"},
    {"'type':'ORIGINAL_DST','lb_policy':'CLUSTER_PROVIDED','original_dst_lb_config':{"
     "'upstream_port_override':70000}",
     "original_dst_lb_config.upstream_port_override: "},
    {"'cleanup_interval':'0s'", "cleanup_interval: "},
    {"'type':'EDS'", "eds_cluster_config.eds_config: is required"},
    {"'type':'EDS','eds_cluster_config':{'eds_config':{}}", "eds_cluster_config.eds_config"},
    {"'eds_cluster_config':{'eds_config':{'ads':{}}}", "eds_cluster_config: needs type EDS"},
    {"'connect_timeout':'0s'", "connect_timeout: "},
    {"'connect_timeout':'-1s'", "connect_timeout: "},
    {"'lb_policy':'LEAST_REQUEST','least_request_lb_config':{'choice_count':1}",
     "least_request_lb_config.choice_count: "},
    {"'transport_socket':{'name':'x'}", "transport_socket.typed_config: "},
    {"'transport_socket':{'name':'x','typed_config':{'@type':'type.googleapis.com/"
     "envoy.config.cluster.v3.Cluster','name':'x'}}",
     "transport_socket.typed_config: envoy.config.cluster.v3.Cluster cannot be used here"},
    {"'transport_socket_matches':[{'name':'a','match':{}}]",
     "transport_socket_matches[0].transport_socket: is required"},
    {"'upstream_bind_config':{'source_address':{'address':'nope','port_value':1}}",
     "upstream_bind_config.source_address.address: malformed IP address: nope"},
    {"'circuit_breakers':{'per_host_thresholds':[{},{'priority':'HIGH','max_retries':1}]}",
     "circuit_breakers.per_host_thresholds[1]: only max_connections"},
    {"'outlier_detection':{'base_ejection_time':'10s','max_ejection_time':'5s'}",
     "outlier_detection.max_ejection_time: must not be smaller"},
    {"'outlier_detection':{'interval':'0s'}", "outlier_detection.interval: "},
    {HC("'tcp_health_check':{'send':{'text':'0x'}}"),
     "health_checks[0].tcp_health_check.send.text: invalid hex string '0x'"},
    {HC("'tcp_health_check':{'receive':[{'text':'abc'}]}"),
     "health_checks[0].tcp_health_check.receive[0].text: invalid hex string 'abc'"},
    {HC("'tcp_health_check':{},'alt_port':70000"), "health_checks[0].alt_port: is not a port"},
    {HC("'http_health_check':{'path':'/'}"), "health_checks[0]: only tcp_health_check can be used"},
    {HC("'grpc_health_check':{}"), "grpc_health_check: the cluster must support HTTP/2"},
    {HC("'tcp_health_check':{},'unhealthy_interval':'0s'"),
     "health_checks[0].unhealthy_interval: "},
    {HC("'tcp_health_check':{},'event_logger':[{'name':'x'}]"),
     "health_checks[0].event_logger[0].typed_config: "},
    {HC2("'tcp_health_check':{}"), "health_checks: a cluster has one health check, not 2"},
    {"'health_checks':[{'tcp_health_check':{}}]", "health_checks[0].timeout: "},
    {"'outlier_detection':{'max_ejection_percent':101}",
     "outlier_detection.max_ejection_percent: "},
    {"'typed_extension_protocol_options':{'foo':{'@type':'type.googleapis.com/"
     "envoy.extensions.upstreams.http.v3.HttpProtocolOptions','explicit_http_config':{"
     "'http_protocol_options':{}}}}",
     "typed_extension_protocol_options[foo]: is not known"},
    {"'typed_extension_protocol_options':{'envoy.extensions.upstreams.http.v3.HttpProtocolOptions':"
     "{'@type':'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions'}}",
     "typed_extension_protocol_options[envoy.extensions.upstreams.http.v3.HttpProtocolOptions]"},
    {"'typed_extension_protocol_options':{'envoy.extensions.upstreams.http.v3.HttpProtocolOptions':"
     "{'@type':'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',"
     "'auto_config':{}}}",
     "auto_config needs a transport socket with ALPN"},
    {"'typed_extension_protocol_options':{'envoy.extensions.upstreams.http.v3.HttpProtocolOptions':"
     "{'@type':'type.googleapis.com/envoy.config.cluster.v3.Cluster','name':'x'}}",
     "is not envoy.extensions.upstreams.http.v3.HttpProtocolOptions"},
    {"'common_http_protocol_options':{'max_response_headers_kb':8193}",
     "common_http_protocol_options.max_response_headers_kb: "},
    {"'max_requests_per_connection':1,'common_http_protocol_options':{"
     "'max_requests_per_connection':2}",
     "common_http_protocol_options.max_requests_per_connection: is given by the cluster too"},
    {"'load_assignment':{'cluster_name':'c','endpoints':[{'lb_endpoints':[{}]}]}",
     "load_assignment.endpoints[0].lb_endpoints[0].endpoint: "},
};

START_TEST(refused)
{
    struct cluster_config *c = compile(bad[_i].members);
    ck_assert_msg(c == NULL, "accepted: %s", bad[_i].members);
    ck_assert_msg(strstr(text(), bad[_i].error) != NULL, "%s\nis not in\n%s", bad[_i].error,
                  text());
}
END_TEST

START_TEST(all_errors_at_once)
{
    ck_assert_ptr_null(
        compile("'type':'LOGICAL_DNS','lb_policy':'MAGLEV','maglev_lb_config':{'table_size':4},"
                "'eds_cluster_config':{},"
                "'transport_socket':{'name':'x'},'outlier_detection':{'base_ejection_time':'9s',"
                "'max_ejection_time':'5s'}"));
    ck_assert_uint_eq(errs.num_errors, 5);
    ck_assert_ptr_null(
        compile_bytes(json_to_pb("envoy.config.cluster.v3.Cluster", "{\"name\":\"\"}", &arena)));
    ck_assert_ptr_nonnull(strstr(text(), "name: "));
}
END_TEST

#define HTTP_OPTIONS(x)                                                                            \
    "'typed_extension_protocol_options':{'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'" \
    ":"                                                                                            \
    "{'@type':'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions'," x     \
    "}}"

START_TEST(http2_options)
{
    struct cluster_config *c = good(HTTP_OPTIONS(
        "'explicit_http_config':{'http2_protocol_options':{'max_concurrent_streams':7,"
        "'initial_stream_window_size':100000,'allow_connect':true,'connection_keepalive':{"
        "'interval':'2s','timeout':'1s'},'custom_settings_parameters':[{'identifier':9,'value':1},"
        "{'identifier':1,'value':0}]}}"));
    const struct http2_options *o = &c->http2_options;
    ck_assert_int_eq(c->http, UPSTREAM_HTTP2);
    ck_assert_uint_eq(o->max_concurrent_streams, 7);
    ck_assert_uint_eq(o->stream_window, 100000);
    ck_assert_uint_eq(o->connection_window, 1 << 20);
    ck_assert_uint_eq(o->ping_interval_ms, 2000);
    ck_assert_uint_eq(o->ping_timeout_ms, 1000);
    ck_assert(o->allow_connect && !o->reset_on_malformed);
    ck_assert_uint_eq(o->hpack_table, 0);
    ck_assert_uint_eq(o->num_settings, 1);
    ck_assert(o->settings[0].id == 9 && o->settings[0].value == 1);
    ck_assert_uint_eq(errs.num_warnings, 0);
    cluster_config_unref(c);
    c = good("'http2_protocol_options':{}");
    ck_assert_int_eq(c->http, UPSTREAM_HTTP2);
    ck_assert_uint_eq(c->http2_options.max_concurrent_streams, 1024);
    cluster_config_unref(c);
    c = good(HTTP_OPTIONS("'use_downstream_protocol_config':{'http_protocol_options':{},"
                          "'http2_protocol_options':{'max_concurrent_streams':3}}"));
    ck_assert_int_eq(c->http, UPSTREAM_DOWNSTREAM);
    ck_assert_uint_eq(c->http2_options.max_concurrent_streams, 3);
    cluster_config_unref(c);
}
END_TEST

static const struct {
    const char *options, *error;
} bad_http2[] = {
    {"'max_concurrent_streams':0", "max_concurrent_streams: value must be"},
    {"'initial_stream_window_size':65534", "initial_stream_window_size: value must be"},
    {"'initial_connection_window_size':2147483648",
     "initial_connection_window_size: value must be"},
    {"'max_outbound_frames':0", "max_outbound_frames: value must be"},
    {"'max_inbound_window_update_frames_per_data_frame_sent':0",
     "per_data_frame_sent: value must be"},
    {"'connection_keepalive':{'interval':'1s'}", "connection_keepalive.timeout: value is required"},
    {"'connection_keepalive':{'timeout':'0s'}", "timeout: value must be greater"},
    {"'connection_keepalive':{'timeout':'1s','interval_jitter':{'value':101}}",
     "interval_jitter.value: value must be"},
    {"'custom_settings_parameters':[{'identifier':65536,'value':0}]",
     "custom_settings_parameters[0].identifier: value must be"},
    {"'custom_settings_parameters':[{'identifier':5}]", "value: value is required"},
    {"'custom_settings_parameters':[{'identifier':2,'value':1}]", "server push is not supported"},
    {"'custom_settings_parameters':[{'identifier':8,'value':1}]", "is set by allow_connect"},
    {"'custom_settings_parameters':[{'identifier':9,'value':1},{'identifier':9,'value':2}]",
     "[1]: setting 0x9 is given twice"},
    {"'max_concurrent_streams':3,'custom_settings_parameters':[{'identifier':3,'value':2}]",
     "setting 0x3 is given by its own field too"},
};

START_TEST(http2_options_wrong)
{
    char text_of[1024];
    snprintf(text_of, sizeof(text_of), "'http2_protocol_options':{%s}", bad_http2[_i].options);
    ck_assert_ptr_null(compile(text_of));
    ck_assert_msg(strstr(text(), bad_http2[_i].error) != NULL, "%s\nis not in\n%s",
                  bad_http2[_i].error, text());
}
END_TEST

START_TEST(names)
{
    struct str name;
    ck_assert(cluster_name_of(json_to_pb("envoy.config.cluster.v3.Cluster",
                                         q("{'connect_timeout':'1s','name':'abc'}"), &arena),
                              &name));
    ck_assert(str_eq(name, STR("abc")));
    ck_assert(!cluster_name_of(STR_NULL, &name));
    ck_assert(!cluster_name_of(STR("\x0a\x7f"), &name));
    ck_assert(
        cluster_name_of_assignment(json_to_pb("envoy.config.endpoint.v3.ClusterLoadAssignment",
                                              q("{'cluster_name':'x'}"), &arena),
                                   &name));
    ck_assert(str_eq(name, STR("x")));
}
END_TEST

START_TEST(hostile_bytes)
{
    static const struct str inputs[] = {
        STR("\xff\xff\xff\xff"),
        STR("\x0a\x01"),
        STR("\x0b\x0c"),
        STR("\x0a\x03"
            "a\0b"),
        STR("\x0a\x02\xc0\x80"),
    };
    for (unsigned i = 0; i < ARRAY_LEN(inputs); i++)
        ck_assert_ptr_null(compile_bytes(inputs[i]));
    ck_assert_uint_ge(errs.num_errors, ARRAY_LEN(inputs));
}
END_TEST

/* --- what istiod sends
 * ---------------------------------------------------------------------------- */

static struct transport_factory *no_tls(void *arg, struct cluster_config *out,
                                        const struct pb_any *config,
                                        const struct cluster_compile_env *env, struct errors *e)
{
    static const struct transport_factory_ops ops = {
        .free = (void (*)(struct transport_factory *))mem_free};
    struct transport_factory *f = NEW(struct transport_factory);
    f->ops = &ops;
    refcount_init(&f->refs);
    return f;
}

static struct str read_shared(const char *path)
{
    const char *root = getenv("ATTACHE_SHARED");
    struct str file = arena_printf(&arena, "%s/%s", root ? root : "../shared", path);
    FILE *in = fopen(file.p, "rb");
    char *bytes = arena_bytes(&arena, 1 << 20);
    size_t n;

    if (!in) {
        ck_assert_msg(!getenv("ATTACHE_REQUIRE_SHARED"), "%s is not there", file.p);
        fprintf(stderr, "skipped: %s is not there\n", file.p);
        return STR_NULL;
    }
    n = fread(bytes, 1, 1 << 20, in);
    fclose(in);
    return str_n(bytes, n);
}

/* Everything that istiod sends compiles, but for what is left to later steps. */
START_TEST(istio)
{
    static const char *const files[] = {"istio/xds/default/Cluster.pb",
                                        "istio/xds/rich/Cluster.pb"};
    static const struct cluster_transport_ops tls = {.compile = no_tls};
    struct cluster_compile_env env = {.has_ads = true, .transport = &tls};
    struct str bytes = read_shared(files[_i]);
    struct discovery_response r;
    struct discovery_resource res;
    unsigned num_good = 0;
    const char *why;

    if (bytes.len == 0)
        return;
    ck_assert(discovery_response_parse(bytes, &r, &why));
    while (discovery_next(&r, &res, &why)) {
        struct errors e;
        struct cluster_config *c;
        errors_init(&e);
        c = cluster_config_compile(&env, res.bytes, &e);
        num_good += c != NULL;
        for (struct error_item *it = e.first; it; it = it->next)
            ck_assert_msg(str_find(it->text, STR("not supported")) >= 0, "%.*s: %.*s",
                          STR_ARG(it->path), STR_ARG(it->text));
        ck_assert(c || e.first);
        cluster_config_unref(c);
        errors_cleanup(&e);
    }
    ck_assert_uint_ge(num_good, 4);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster/cluster_config");
    TCase *t = tcase_create("compile");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, defaults);
    tcase_add_test(t, what_it_says);
    tcase_add_test(t, eds);
    tcase_add_test(t, original_dst);
    tcase_add_test(t, outlier);
    tcase_add_test(t, health);
    tcase_add_test(t, matches);
    tcase_add_test(t, connection_hash);
    tcase_add_loop_test(t, refused, 0, ARRAY_LEN(bad));
    tcase_add_test(t, all_errors_at_once);
    tcase_add_test(t, first_policy_that_is_known);
    tcase_add_test(t, hash_policies);
    tcase_add_test(t, http2_options);
    tcase_add_loop_test(t, http2_options_wrong, 0, ARRAY_LEN(bad_http2));
    tcase_add_test(t, names);
    tcase_add_test(t, hostile_bytes);
    tcase_add_loop_test(t, istio, 0, 2);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
