/* /config_dump over a control plane that the test speaks for: clusters and secrets. */
#include "proxy/admin/admin_dump.h"

#include "api-protos/field_path.h"
#include "cluster/clusters.h"
#include "proxy/admin/admin_handler.h"
#include "proxy/server.h"
#include "test/support/fake_xds.h"
#include "test/support/test_certs.h"
#include "tls/tls_secret.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define CLUSTER "cluster.v3.Cluster"
#define CLUSTER_NAME "envoy.config.cluster.v3.Cluster"
#define SECRET_NAME "envoy.extensions.transport_sockets.tls.v3.Secret"

static struct server server;
static struct options options;
static struct mailbox box;
static struct fake_xds fake;
static struct arena arena;
static struct errors errs;
static struct admin_response response;
static char *body;
static unsigned slices;

static void setup(void)
{
    stats_init(1);
    server = (struct server){.options = &options, .state = SERVER_LIVE};
    server.loop = loop_new(true);
    mailbox_init(&box, server.loop);
    fake_xds_start(&fake, server.loop);
    server.xds = fake.x;
    errors_init(&errs);
    arena_init(&arena, 0);
    server.tls = tls_secrets_new(server.loop, fake.x);
    server.clusters = clusters_new(
        &(struct clusters_options){.loop = server.loop, .box = &box, .xds = fake.x});
}

static void forget(void)
{
    admin_response_cleanup(&response);
    response = (struct admin_response){0};
    mem_free(body);
    body = NULL;
}

static void teardown(void)
{
    forget();
    clusters_free(&server.clusters);
    tls_secrets_free(&server.tls);
    fake_xds_stop(&fake);
    mailbox_cleanup(&box);
    errors_cleanup(&errs);
    arena_cleanup(&arena);
    loop_free(&server.loop);
    buffer_free_list_trim();
    stats_cleanup();
}

static const char *get(const char *query)
{
    struct admin_request rq = {
        .server = &server, .arena = &arena, .method = STR("GET"), .path = STR("/config_dump")};
    forget();
    ck_assert(admin_query_parse(&rq.query, str_of(query), false, &arena));
    admin_respond(&rq, &response);
    for (slices = 1; response.more; slices++) {
        if (!response.more(response.arg, &response.body))
            break;
    }
    body = mem_alloc(response.body.len + 1);
    body[buffer_copy_out(&response.body, 0, body, response.body.len)] = '\0';
    return body;
}

static const struct json *get_json(const char *query)
{
    struct json_error err;
    const struct json *j = json_parse(str_of(get(query)), 0, &arena, &err);
    ck_assert_uint_eq(response.status, 200);
    ck_assert_str_eq(response.content_type, ADMIN_JSON);
    ck_assert_msg(j, "%s at %u: %s", err.text, err.line, body);
    return json_get(j, "configs");
}

static void expect(const char *query, unsigned status, const char *want)
{
    ck_assert_str_eq(get(query), want);
    ck_assert_uint_eq(response.status, status);
}

/* The section of a message name, or NULL. */
static const struct json *section(const struct json *configs, const char *name)
{
    for (const struct json *c = configs ? configs->first : NULL; c; c = c->next) {
        if (str_ends(json_str(json_get(c, "@type")), str_of(name)))
            return c;
    }
    return NULL;
}

static void add_static(const char *json)
{
    ck_assert_msg(
        clusters_add_static(server.clusters, json_to_pb(CLUSTER_NAME, json, &arena), &errs), "%.*s",
        STR_ARG(errors_text(&errs, &arena)));
}

static void start(void)
{
    struct xds_source ads = {.kind = XDS_SOURCE_ADS};
    clusters_start(server.clusters, &ads, NULL, NULL);
    for (int i = 0; i < 20; i++)
        loop_run_once(server.loop, false);
    fake_xds_expect(&fake, "Cluster v= n= names=");
}

#define UP                                                                                         \
    "{'name': 'up', 'type': 'STATIC', 'load_assignment': {'cluster_name': 'up', 'endpoints': "     \
    "[{'locality': {'zone': 'z'}, 'lb_endpoints': [{'endpoint': {'address': {'socket_address': "   \
    "{'address': '10.0.0.1', 'port_value': 80}}}}]}]}}"

/* JSON is easier to read here with single quotes. */
static const char *q(const char *text)
{
    struct str s = arena_str(&arena, str_of(text));
    for (char *p = (char *)(uintptr_t)s.p; *p; p++) {
        if (*p == '\'')
            *p = '"';
    }
    return s.p;
}

START_TEST(test_sections_in_order)
{
    static const char *const names[] = {"BootstrapConfigDump", "ClustersConfigDump",
                                        "ListenersConfigDump", "ScopedRoutesConfigDump",
                                        "RoutesConfigDump",    "SecretsConfigDump"};
    size_t i = 0;
    const struct json *configs = get_json("");
    ck_assert_uint_eq(configs->count, ARRAY_LEN(names));
    for (const struct json *c = configs->first; c; c = c->next)
        ck_assert(str_ends(json_str(json_get(c, "@type")), str_of(names[i++])));
    ck_assert_uint_eq(get_json("include_eds")->count, ARRAY_LEN(names) + 1);
}
END_TEST

START_TEST(test_static_and_dynamic_clusters)
{
    add_static(q(UP));
    start();
    fake_xds_say(&fake, CLUSTER, "v7", q("{'name': 'b', 'connect_timeout': '2s'}"),
                 q("{'name': 'a', 'connect_timeout': '1s'}"), NULL);
    const struct json *c = section(get_json(""), "ClustersConfigDump");
    ck_assert(str_eq(json_str(json_get(c, "version_info")), STR("v7")));
    ck_assert_uint_eq(json_get(c, "static_clusters")->count, 1);
    const struct json *list = json_get(c, "dynamic_active_clusters");
    ck_assert_uint_eq(list->count, 2);
    ck_assert_ptr_null(json_get(c, "dynamic_warming_clusters"));
    ck_assert(str_eq(json_str(json_get(list->first, "version_info")), STR("v7")));
    const struct json *a = json_get(list->first, "cluster");
    ck_assert(str_eq(json_str(json_get(a, "@type")), STR("type.googleapis.com/" CLUSTER_NAME)));
    ck_assert(str_eq(json_str(json_get(a, "name")), STR("a")));
    ck_assert(str_eq(json_str(json_get(a, "connect_timeout")), STR("1s")));
    ck_assert(json_get(list->first, "last_updated"));
    ck_assert_ptr_null(json_get(list->first, "error_state"));
}
END_TEST

START_TEST(test_refused_versions_are_shown)
{
    start();
    fake_xds_say(&fake, CLUSTER, "v1", q("{'name': 'good', 'connect_timeout': '1s'}"), NULL);
    fake_xds_say(&fake, CLUSTER, "v2", q("{'name': 'good', 'connect_timeout': '-1s'}"),
                 q("{'name': 'never', 'connect_timeout': '-1s'}"), NULL);
    const struct json *c = section(get_json(""), "ClustersConfigDump");
    const struct json *good = json_get(c, "dynamic_active_clusters")->first;
    ck_assert(str_eq(json_str(json_get(good, "version_info")), STR("v1")));
    ck_assert(str_eq(json_str(json_get(json_get(good, "cluster"), "connect_timeout")), STR("1s")));
    const struct json *error = json_get(good, "error_state");
    ck_assert(str_eq(json_str(json_get(error, "version_info")), STR("v2")));
    ck_assert(str_find(json_str(json_get(error, "details")), STR("connect_timeout")) >= 0);
    const struct json *failed = json_get(error, "failed_configuration");
    ck_assert(str_eq(json_str(json_get(failed, "connect_timeout")), STR("-1s")));
    ck_assert(json_get(error, "last_update_attempt"));
    const struct json *never = json_get(c, "dynamic_warming_clusters")->first;
    ck_assert(str_eq(json_str(json_get(json_get(never, "cluster"), "name")), STR("never")));
    ck_assert(json_get(never, "error_state"));
}
END_TEST

START_TEST(test_warming_cluster)
{
    start();
    fake_xds_say(&fake, CLUSTER, "v1",
                 q("{'name': 'e', 'type': 'EDS', 'eds_cluster_config': {'eds_config': {'ads': {}, "
                   "'resource_api_version': 'V3'}}}"),
                 NULL);
    const struct json *c = section(get_json(""), "ClustersConfigDump");
    ck_assert_ptr_null(json_get(c, "dynamic_active_clusters"));
    ck_assert_uint_eq(json_get(c, "dynamic_warming_clusters")->count, 1);
    ck_assert_str_eq(get("resource=dynamic_active_clusters"), "{}\n");
    forget();
    struct admin_request rq = {
        .server = &server, .arena = &arena, .method = STR("GET"), .path = STR("/init_dump")};
    admin_respond(&rq, &response);
    char text[256];
    text[buffer_copy_out(&response.body, 0, text, sizeof(text) - 1)] = '\0';
    ck_assert_str_eq(text, "{\n \"unready_targets_dumps\": [\n  {\n   \"name\": \"clusters\",\n   "
                           "\"target_names\": [\n    \"e\"\n   ]\n  }\n ]\n}\n");
}
END_TEST

START_TEST(test_endpoints)
{
    add_static(q(UP));
    start();
    expect("include_eds&resource=static_endpoint_configs&mask=endpoint_config.cluster_name,"
           "endpoint_config.endpoints",
           200,
           q("{\n 'configs': [\n  {\n   '@type': "
             "'type.googleapis.com/envoy.admin.v3.EndpointsConfigDump.StaticEndpointConfig',\n   "
             "'endpoint_config': {\n    '@type': "
             "'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment',\n    "
             "'cluster_name': 'up',\n    'endpoints': [\n     {\n      'locality': {\n       "
             "'zone': 'z'\n      },\n      'lb_endpoints': [\n       {\n        'endpoint': {\n    "
             "     'address': {\n          'socket_address': {\n           'address': "
             "'10.0.0.1',\n           'port_value': 80\n          }\n         },\n         "
             "'health_check_config': {}\n        },\n        'health_status': 'HEALTHY',\n        "
             "'load_balancing_weight': 1\n       }\n      ],\n      'load_balancing_weight': 0\n   "
             "  }\n    ]\n   }\n  }\n ]\n}\n"));
    expect("resource=static_endpoint_configs", 404,
           "static_endpoint_configs not found in config dump\n");
}
END_TEST

static struct str secret_bytes(const struct test_cert *cert)
{
    struct json_writer w;
    json_writer_init(&w, false);
    json_open(&w, '{');
    json_key(&w, STR("name"));
    json_put_str(&w, STR("mine"));
    json_key(&w, STR("tls_certificate"));
    json_open(&w, '{');
    json_key(&w, STR("certificate_chain"));
    json_open(&w, '{');
    json_key(&w, STR("inline_string"));
    json_put_str(&w, str_of(cert->pem));
    json_close(&w, '}');
    json_key(&w, STR("private_key"));
    json_open(&w, '{');
    json_key(&w, STR("inline_string"));
    json_put_str(&w, str_of(cert->key_pem));
    json_close(&w, '}');
    json_close(&w, '}');
    json_close(&w, '}');
    struct str text = arena_str(&arena, json_writer_text(&w));
    json_writer_cleanup(&w);
    return json_to_pb(SECRET_NAME, text.p, &arena);
}

START_TEST(test_private_keys_stay_secret)
{
    struct test_cert *cert = test_cert_new(&(struct test_cert_options){.cn = "x"});
    ck_assert(tls_secrets_add_static(server.tls, secret_bytes(cert), &errs));
    const struct json *configs = get_json("");
    ck_assert(!strstr(body, "PRIVATE KEY"));
    const struct json *list = json_get(section(configs, "SecretsConfigDump"), "static_secrets");
    ck_assert(strstr(body, "BEGIN CERTIFICATE"));
    const struct json *key = json_get(json_get(json_get(list->first, "secret"), "tls_certificate"),
                                      "private_key");
    ck_assert(str_eq(json_str(json_get(key, "inline_string")), STR("[redacted]")));
    test_cert_free(&cert);
}
END_TEST

START_TEST(test_masks)
{
    add_static(q(UP));
    start();
    expect("resource=static_clusters&mask=cluster.name", 200,
           q("{\n 'configs': [\n  {\n   '@type': "
             "'type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster',\n   "
             "'cluster': {\n    '@type': 'type.googleapis.com/envoy.config.cluster.v3.Cluster',\n  "
             "  'name': 'up'\n   }\n  }\n ]\n}\n"));
    ck_assert_uint_eq(get_json("resource=static_clusters&mask=cluster")->count, 1);
    ck_assert(strstr(body, "load_assignment"));
    ck_assert(!strstr(body, "last_updated"));
    ck_assert_uint_eq(get_json("mask=static_clusters")->count, 1);
    ck_assert(strstr(body, "load_assignment"));
    ck_assert_uint_eq(get_json("mask=version_info")->count, 2); /* of clusters and of listeners */
    ck_assert(!strstr(body, "load_assignment"));
}
END_TEST

START_TEST(test_masks_that_fit_nowhere)
{
    static const char *const queries[] = {
        "mask=clusters",
        "mask=static_clusters.cluster",
        "mask=version_info,bootstrap",
        "mask=.",
        "mask=version_info.",
        "resource=static_clusters&mask=nofield",
        "resource=static_clusters&mask=cluster.nofield",
        "resource=static_clusters&mask=cluster.load_assignment.endpoints.priority",
        "resource=static_clusters&mask=cluster.name,nofield",
        "resource=static_clusters&mask=."};
    for (size_t i = 0; i < ARRAY_LEN(queries); i++) {
        ck_assert_msg(strstr(get(queries[i]), "FieldMask ") == body, "%s: %s", queries[i], body);
        ck_assert_uint_eq(response.status, 400);
    }
}
END_TEST

START_TEST(test_resources_there_are_not)
{
    expect("resource=nope", 404, "nope not found in config dump\n");
    expect("resource=static_clusters.cluster", 404,
           "static_clusters.cluster not found in config dump\n");
    expect("resource=bootstrap", 400,
           "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field\n");
    expect("resource=static_clusters", 200, "{}\n");
}
END_TEST

START_TEST(test_name_regex)
{
    start();
    fake_xds_say(&fake, CLUSTER, "v1", q("{'name': 'one'}"), q("{'name': 'onetwo'}"), NULL);
    ck_assert_uint_eq(get_json("resource=dynamic_active_clusters&name_regex=one")->count, 1);
    ck_assert_uint_eq(get_json("resource=dynamic_active_clusters&name_regex=one.*")->count, 2);
    expect("resource=dynamic_active_clusters&name_regex=two", 200, "{}\n");
    expect("name_regex=(", 400, "Error while parsing name_regex from (: missing ): (\n");
}
END_TEST

START_TEST(test_many_resources_come_in_slices)
{
    enum { MANY = 1000 };
    char json[256], name[32];
    unsigned i = 0;
    for (int n = 0; n < MANY; n++) {
        (void)snprintf(json, sizeof(json), "{\"name\": \"c%04d\", \"connect_timeout\": \"1s\"}", n);
        add_static(json);
    }
    const struct json *c = section(get_json("include_eds"), "ClustersConfigDump");
    ck_assert_uint_gt(slices, 2 * MANY / 256);
    ck_assert_uint_eq(json_get(c, "static_clusters")->count, MANY);
    for (const struct json *e = json_get(c, "static_clusters")->first; e; e = e->next, i++) {
        (void)snprintf(name, sizeof(name), "c%04u", i);
        ck_assert(str_eq(json_str(json_get(json_get(e, "cluster"), "name")), str_of(name)));
    }
    c = section(get_json("include_eds"), "EndpointsConfigDump");
    ck_assert_uint_eq(json_get(c, "static_endpoint_configs")->count, MANY);
    ck_assert_uint_eq(get_json("resource=static_clusters&name_regex=c.*7")->count, MANY / 10);
}
END_TEST

START_TEST(test_field_paths)
{
    static const struct {
        const char *path;
        enum field_path want;
    } cases[] = {{"name", FIELD_PATH_SINGULAR},
                 {"load_assignment.endpoints", FIELD_PATH_REPEATED},
                 {"load_assignment.policy.drop_overloads", FIELD_PATH_REPEATED},
                 {"load_assignment.endpoints.priority", FIELD_PATH_UNKNOWN},
                 {"name.x", FIELD_PATH_UNKNOWN},
                 {"nope", FIELD_PATH_UNKNOWN},
                 {"", FIELD_PATH_UNKNOWN},
                 {".name", FIELD_PATH_UNKNOWN},
                 {"connect_timeout.seconds", FIELD_PATH_SINGULAR}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        ck_assert_msg(field_path_look(STR(CLUSTER_NAME), str_of(cases[i].path)) == cases[i].want,
                      "%s", cases[i].path);
    ck_assert_int_eq(field_path_look(STR("no.such.Message"), STR("name")), FIELD_PATH_UNKNOWN);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("proxy/admin/admin_config_dump");
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_sections_in_order);
    tcase_add_test(tc, test_static_and_dynamic_clusters);
    tcase_add_test(tc, test_refused_versions_are_shown);
    tcase_add_test(tc, test_warming_cluster);
    tcase_add_test(tc, test_endpoints);
    tcase_add_test(tc, test_private_keys_stay_secret);
    tcase_add_test(tc, test_masks);
    tcase_add_test(tc, test_masks_that_fit_nowhere);
    tcase_add_test(tc, test_resources_there_are_not);
    tcase_add_test(tc, test_name_regex);
    tcase_add_test(tc, test_many_resources_come_in_slices);
    tcase_add_test(tc, test_field_paths);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
