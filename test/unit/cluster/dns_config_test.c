#include "cluster/dns_config.h"

#include "cluster/cluster_config.h"
#include "cluster/load_assignment.h"
#include "test/support/fake_xds.h"
#include <check.h>
#include <stdio.h>

#define CARES(x)                                                                                   \
    "{'name':'cares','typed_config':{'@type':'type.googleapis.com/"                                \
    "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig'" x "}}"
#define DNS_CLUSTER(x)                                                                             \
    "'cluster_type':{'name':'envoy.cluster.dns','typed_config':{'@type':'type.googleapis.com/"     \
    "envoy.extensions.clusters.dns.v3.DnsCluster'" x "}}"
#define SERVER(port) "{'socket_address':{'address':'10.0.0.53','port_value':" #port "}}"
#define ENDPOINT(host)                                                                             \
    "{'endpoint':{'address':{'socket_address':{'address':'" host "','port_value':80}}}}"
#define ASSIGNMENT(endpoints)                                                                      \
    "'load_assignment':{'cluster_name':'c','endpoints':[{'lb_endpoints':[" endpoints "]}]}"

static struct arena arena;
static struct errors errs;
static const struct resolver_options *fallback;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errs);
    fallback = NULL;
}

static void teardown(void)
{
    errors_cleanup(&errs);
    arena_cleanup(&arena);
}

static struct cluster_config *compile(const char *members)
{
    struct cluster_compile_env env = {.is_static = true, .dns = fallback};
    struct str json = arena_printf(&arena, "{'name':'c',%s}", members);
    char *text = arena_strdup(&arena, json.p);
    for (char *p = text; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    return cluster_config_compile(&env, json_to_pb("envoy.config.cluster.v3.Cluster", text, &arena),
                                  &errs);
}

static struct cluster_config *good(const char *members)
{
    struct cluster_config *c = compile(members);
    ck_assert_msg(c != NULL, "%s: %s", members, errors_text(&errs, &arena).p);
    ck_assert_ptr_nonnull(c->dns);
    return c;
}

START_TEST(defaults)
{
    struct cluster_config *c = good("'type':'STRICT_DNS'," ASSIGNMENT(ENDPOINT("a.test")));
    const struct dns_config *d = c->dns;
    ck_assert_int_eq(c->type, CLUSTER_STRICT_DNS);
    ck_assert(!d->logical && !d->respect_ttl && d->wait_for_warm);
    ck_assert_int_eq(d->family, DNS_AUTO);
    ck_assert_uint_eq(d->refresh_ms, 5000);
    ck_assert_uint_eq(d->jitter_ms, 0);
    ck_assert_uint_eq(d->failure_base_ms, 0);
    ck_assert_uint_eq(d->resolver.servers.len, 0);
    ck_assert(!d->resolver.use_tcp && !d->resolver.no_search);
    cluster_config_unref(c);
}
END_TEST

START_TEST(what_a_cluster_says)
{
    struct cluster_config *c = good(
        "'type':'LOGICAL_DNS','dns_refresh_rate':'7s','dns_jitter':'0.5s','respect_dns_ttl':true,"
        "'dns_failure_refresh_rate':{'base_interval':'2s'},'dns_lookup_family':'V4_PREFERRED',"
        "'wait_for_warm_on_init':false," ASSIGNMENT(ENDPOINT("a.test")));
    const struct dns_config *d = c->dns;
    ck_assert_int_eq(c->type, CLUSTER_LOGICAL_DNS);
    ck_assert(d->logical && d->respect_ttl && !d->wait_for_warm);
    ck_assert_int_eq(d->family, DNS_V4_PREFERRED);
    ck_assert_uint_eq(d->refresh_ms, 7000);
    ck_assert_uint_eq(d->jitter_ms, 500);
    ck_assert_uint_eq(d->failure_base_ms, 2000);
    ck_assert_uint_eq(d->failure_max_ms, 20000);
    cluster_config_unref(c);
}
END_TEST

START_TEST(endpoints_are_names_or_addresses)
{
    struct cluster_config *c = good(
        "'type':'STRICT_DNS'," ASSIGNMENT(ENDPOINT("a.test") "," ENDPOINT("10.0.0.1")));
    const struct assigned_endpoint *ep = c->assignment->localities[0].endpoints;
    ck_assert_uint_eq(c->assignment->localities[0].num_endpoints, 2);
    ck_assert(str_eq(ep[0].dns_name, STR("a.test")) && str_eq(ep[0].hostname, STR("a.test")));
    ck_assert_uint_eq(ep[0].dns_port, 80);
    ck_assert_int_eq(addr_family(&ep[0].addr), ADDR_NONE);
    ck_assert_uint_eq(ep[1].dns_name.len, 0);
    ck_assert_int_eq(addr_family(&ep[1].addr), ADDR_IPV4);
    ck_assert(str_eq(ep[1].hostname, STR("10.0.0.1")));
    cluster_config_unref(c);
}
END_TEST

START_TEST(how_to_ask)
{
    struct cluster_config *c = good(
        "'type':'STRICT_DNS','typed_dns_resolver_config':" CARES(",'resolvers':[" SERVER(
            53) "," SERVER(0) "],'use_resolvers_as_fallback':true,"
                              "'filter_unroutable_families':true,'dns_resolver_options':{"
                              "'use_tcp_for_dns_lookups':true,'no_default_search_domain':true},"
                              "'udp_max_queries':100,'query_timeout_seconds':3,'query_tries':2,"
                              "'rotate_nameservers':true,'edns0_max_payload_size':1200,"
                              "'max_udp_channel_duration':'60s','reinit_channel_on_timeout':true"));
    const struct resolver_options *o = &c->dns->resolver;
    ck_assert_msg(str_eq(o->servers, STR("10.0.0.53:53,10.0.0.53:53")), "%.*s",
                  STR_ARG(o->servers));
    ck_assert(o->servers_as_fallback && o->filter_unroutable && o->use_tcp && o->no_search);
    ck_assert(o->rotate && o->reinit_on_timeout);
    ck_assert_uint_eq(o->udp_max_queries, 100);
    ck_assert_uint_eq(o->timeout_ms, 3000);
    ck_assert_uint_eq(o->tries, 2);
    ck_assert_uint_eq(o->edns_size, 1200);
    ck_assert_uint_eq(o->max_channel_ms, 60000);
    cluster_config_unref(c);
}
END_TEST

START_TEST(older_forms_and_the_bootstrap)
{
    static const struct resolver_options def = {.servers = {"10.9.9.9:53", 11}, .use_tcp = true};
    struct cluster_config *c;

    fallback = &def;
    c = good("'type':'STRICT_DNS'");
    ck_assert(str_eq(c->dns->resolver.servers, STR("10.9.9.9:53")) && c->dns->resolver.use_tcp);
    cluster_config_unref(c);
    c = good("'type':'STRICT_DNS','dns_resolution_config':{'resolvers':[" SERVER(
        54) "],'dns_resolver_options':{'no_default_search_domain':true}}");
    ck_assert(str_eq(c->dns->resolver.servers, STR("10.0.0.53:54")));
    ck_assert(!c->dns->resolver.use_tcp && c->dns->resolver.no_search);
    cluster_config_unref(c);
    c = good("'type':'STRICT_DNS','dns_resolvers':[" SERVER(55) "],'use_tcp_for_dns_lookups':true");
    ck_assert(str_eq(c->dns->resolver.servers, STR("10.0.0.53:55")) && c->dns->resolver.use_tcp);
    cluster_config_unref(c);
}
END_TEST

START_TEST(the_newer_form)
{
    struct cluster_config *c = good(DNS_CLUSTER(
        ",'dns_refresh_rate':'9s','dns_failure_refresh_rate':{'base_interval':'1s',"
        "'max_interval':'3s'},'respect_dns_ttl':true,'dns_jitter':'1s','dns_lookup_family':"
        "'V6_ONLY','typed_dns_resolver_config':" CARES(",'resolvers':[" SERVER(53) "]")));
    ck_assert_int_eq(c->type, CLUSTER_STRICT_DNS);
    ck_assert_int_eq(c->dns->family, DNS_V6_ONLY);
    ck_assert_uint_eq(c->dns->refresh_ms, 9000);
    ck_assert_uint_eq(c->dns->failure_max_ms, 3000);
    ck_assert(c->dns->respect_ttl && c->dns->jitter_ms == 1000 && c->dns->resolver.servers.len);
    cluster_config_unref(c);
    c = good(DNS_CLUSTER(",'all_addresses_in_single_endpoint':true") "," ASSIGNMENT(
        ENDPOINT("a.test")) ",'dns_refresh_rate':'3s'");
    ck_assert_int_eq(c->type, CLUSTER_LOGICAL_DNS);
    ck_assert_int_eq(c->dns->family, DNS_AUTO);
    ck_assert_uint_eq(c->dns->refresh_ms, 5000);
    ck_assert_uint_eq(errs.num_warnings, 1); /* dns_refresh_rate of the cluster */
    cluster_config_unref(c);
}
END_TEST

START_TEST(without_effect)
{
    struct cluster_config *c = compile("'type':'STATIC','dns_refresh_rate':'3s',"
                                       "'dns_lookup_family':'V4_ONLY','respect_dns_ttl':true");
    ck_assert_ptr_nonnull(c);
    ck_assert_ptr_null(c->dns);
    ck_assert_uint_eq(errs.num_warnings, 3);
    cluster_config_unref(c);
}
END_TEST

static const struct {
    const char *members, *error;
} bad[] = {
    {"'type':'LOGICAL_DNS'," ASSIGNMENT(ENDPOINT("a.test") "," ENDPOINT("b.test")),
     "load_assignment.endpoints: LOGICAL_DNS needs one"},
    {"'type':'LOGICAL_DNS'," ASSIGNMENT(""), "load_assignment.endpoints: LOGICAL_DNS needs one"},
    {"'type':'STRICT_DNS'," ASSIGNMENT("{'endpoint':{'address':{'pipe':{'path':'/x'}}}}"),
     "endpoint.address: a socket_address is required"},
    {"'type':'STRICT_DNS'," ASSIGNMENT(
         "{'endpoint':{'address':{'socket_address':{'address':'a.test','port_value':80,"
         "'protocol':'UDP'}}}}"),
     "socket_address.protocol: only TCP"},
    {"'type':'STATIC'," ASSIGNMENT(ENDPOINT("a.test")), "malformed IP address: a.test"},
    {"'type':'STRICT_DNS','dns_failure_refresh_rate':{'base_interval':'2s','max_interval':'1s'}",
     "dns_failure_refresh_rate.max_interval: is below"},
    {"'type':'STRICT_DNS','dns_refresh_rate':'0s'", "dns_refresh_rate: "},
    {"'type':'STRICT_DNS','dns_lookup_family':77", "dns_lookup_family: "},
    {"'type':'STRICT_DNS','typed_dns_resolver_config':{'name':'x'}", "typed_dns_resolver_config"},
    {"'type':'STRICT_DNS','typed_dns_resolver_config':{'name':'x','typed_config':{'@type':"
     "'type.googleapis.com/envoy.config.core.v3.DnsResolverOptions'}}",
     "typed_config: envoy.config.core.v3.DnsResolverOptions is no DNS resolver"},
    {"'type':'STRICT_DNS','typed_dns_resolver_config':" CARES(
         ",'resolvers':[{'pipe':{'path':'/x'}}]"),
     "resolvers[0]: a DNS server needs a socket_address"},
    {"'type':'STRICT_DNS','typed_dns_resolver_config':" CARES(
         ",'resolvers':[{'socket_address':{'address':'dns.test','port_value':53}}]"),
     "resolvers[0].socket_address.address: malformed"},
    {"'type':'STRICT_DNS','typed_dns_resolver_config':" CARES(",'query_tries':1000"),
     "query_tries: must be"},
    {"'type':'STRICT_DNS','typed_dns_resolver_config':" CARES(",'query_timeout_seconds':100000"),
     "query_timeout_seconds: must be"},
    {"'cluster_type':{'name':'x'}", "cluster_type.typed_config: cluster type 'x' needs"},
    {"'cluster_type':{'name':'x','typed_config':{'@type':"
     "'type.googleapis.com/envoy.config.core.v3.DnsResolverOptions'}}",
     "cluster_type.typed_config: envoy.config.core.v3.DnsResolverOptions is no type"},
    {DNS_CLUSTER(",'dns_refresh_rate':'0s'"), "cluster_type.typed_config.dns_refresh_rate: "},
};

START_TEST(refused)
{
    struct cluster_config *c = compile(bad[_i].members);
    ck_assert_msg(c == NULL, "accepted: %s", bad[_i].members);
    ck_assert_msg(strstr(errors_text(&errs, &arena).p, bad[_i].error) != NULL, "%s\nis not in\n%s",
                  bad[_i].error, errors_text(&errs, &arena).p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster/dns_config");
    TCase *t = tcase_create("dns_config");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, defaults);
    tcase_add_test(t, what_a_cluster_says);
    tcase_add_test(t, endpoints_are_names_or_addresses);
    tcase_add_test(t, how_to_ask);
    tcase_add_test(t, older_forms_and_the_bootstrap);
    tcase_add_test(t, the_newer_form);
    tcase_add_test(t, without_effect);
    tcase_add_loop_test(t, refused, 0, ARRAY_LEN(bad));
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
