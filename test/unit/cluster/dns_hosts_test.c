#include "cluster/dns_hosts.h"

#include "base/stats_visit.h"
#include "test/support/fake_dns.h"
#include <check.h>
#include <stdio.h>

static struct loop *loop;
static struct resolver *resolver;
static struct fake_dns dns;
static struct dns_config config;
static struct stats_scope *stats;
static struct dns_hosts *hosts;
static struct load_assignment names;
static struct assigned_locality localities[2];
static struct assigned_endpoint endpoints[4];
static unsigned updates, calm, failures, any;
static char members[512];

static void on_members(void *arg, struct load_assignment *la)
{
    char text[ADDR_TEXT_MAX];
    members[0] = 0;
    for (uint32_t i = 0; i < la->num_localities; i++) {
        for (uint32_t k = 0; k < la->localities[i].num_endpoints; k++) {
            const struct assigned_endpoint *ep = &la->localities[i].endpoints[k];
            size_t n = strlen(members);
            snprintf(members + n, sizeof(members) - n, "%s%u/%.*s*%u", n ? " " : "", i,
                     STR_ARG(addr_format(&ep->addr, text)), ep->weight);
            if (ep->hc_addr.sa.sa_family != AF_UNSPEC)
                snprintf(members + strlen(members), sizeof(members) - strlen(members), "^%.*s",
                         STR_ARG(addr_format(&ep->hc_addr, text)));
        }
    }
    updates++;
    any++;
}

static void on_answer(void *arg, bool failed)
{
    failures += failed;
    calm += !failed;
    any++;
}

static const struct dns_hosts_ops ops = {on_members, on_answer};

static void setup(void)
{
    const struct stats_part parts[] = {{STR("cluster"), NULL}, {STR("c"), NULL}};
    stats_init(1);
    loop = loop_new(false);
    fake_dns_start(&dns, loop);
    resolver = resolver_new(loop);
    stats = stats_scope_new(&dns_hosts_stats_table, parts, ARRAY_LEN(parts));
    config = (struct dns_config){
        .family = DNS_V4_ONLY,
        .refresh_ms = 50,
        .resolver = {
            .servers = str_of(dns.server), .no_search = true, .tries = 1, .timeout_ms = 100}};
    names = (struct load_assignment){.localities = localities, .num_localities = 2};
    refcount_init(&names.ref);
    endpoints[0] = (struct assigned_endpoint){
        .dns_name = STR("a.test"), .dns_port = 80, .weight = 3};
    endpoints[1] = (struct assigned_endpoint){
        .dns_name = STR("b.test"), .dns_port = 80, .weight = 4};
    localities[0] = (struct assigned_locality){.endpoints = endpoints, .num_endpoints = 1};
    localities[1] = (struct assigned_locality){.endpoints = endpoints + 1, .num_endpoints = 0};
    updates = calm = failures = any = 0;
    members[0] = 0;
}

static void teardown(void)
{
    dns_hosts_free(&hosts);
    resolver_free(&resolver);
    fake_dns_stop(&dns);
    loop_free(&loop);
    stats_scope_free(&stats);
    stats_cleanup();
}

static void zone(const struct fake_dns_name *v, unsigned n)
{
    dns.zone = v;
    dns.num_zone = n;
}

static void start(void)
{
    hosts = dns_hosts_new(loop, resolver, &config, &names, stats, &ops, NULL);
    ck_assert_uint_eq(any, 0);
}

static void wait_for(const unsigned *what)
{
    fake_dns_wait(&dns, what, *what + 1);
}

static uint64_t stat(const char *name)
{
    uint64_t n = UINT64_MAX;
    ck_assert_msg(stats_find(str_of(name), &n), "%s", name);
    return n;
}

static const struct fake_dns_name first[] = {{"a.test", "10.0.0.1 10.0.0.2", 60},
                                             {"b.test", "10.0.0.2 10.0.0.3", 60}};
static const struct fake_dns_name turned[] = {{"a.test", "10.0.0.2 10.0.0.1", 60}};
static const struct fake_dns_name other[] = {{"a.test", "10.0.0.9", 60}};
static const struct fake_dns_name empty[] = {{"a.test", "", 60}};

START_TEST(answers_become_endpoints)
{
    zone(first, 2);
    start();
    wait_for(&updates);
    ck_assert_str_eq(members, "0/10.0.0.1:80*3 0/10.0.0.2:80*3");
    zone(turned, 1); /* the same in another order */
    wait_for(&calm);
    ck_assert_uint_eq(updates, 1);
    zone(other, 1);
    wait_for(&updates);
    ck_assert_str_eq(members, "0/10.0.0.9:80*3");
    zone(empty, 1);
    wait_for(&updates);
    ck_assert_str_eq(members, "");
    ck_assert_uint_ge(stat("cluster.c.update_success"), 4);
    ck_assert_uint_eq(stat("cluster.c.update_failure"), 0);
}
END_TEST

START_TEST(an_address_of_two_names_counts_once)
{
    zone(first, 2);
    localities[1].num_endpoints = 1;
    start();
    fake_dns_wait(&dns, &updates, 2);
    ck_assert_str_eq(members, "0/10.0.0.1:80*3 0/10.0.0.2:80*3 1/10.0.0.3:80*4");
}
END_TEST

START_TEST(one_name_two_ports)
{
    zone(first, 1);
    endpoints[1].dns_name = STR("a.test");
    endpoints[1].dns_port = 81;
    localities[1].num_endpoints = 1;
    start();
    fake_dns_wait(&dns, &updates, 2);
    ck_assert_str_eq(members, "0/10.0.0.1:80*3 0/10.0.0.2:80*3 1/10.0.0.1:81*4 1/10.0.0.2:81*4");
    ck_assert_uint_eq(dns.asked, 1);
}
END_TEST

/* Only the address that a name resolves to is known late. */
START_TEST(checked_at_another_port)
{
    zone(first, 1);
    endpoints[0].hc_port = 8080;
    start();
    fake_dns_wait(&dns, &updates, 1);
    ck_assert_str_eq(members, "0/10.0.0.1:80*3^10.0.0.1:8080 0/10.0.0.2:80*3^10.0.0.2:8080");
    dns_hosts_free(&hosts);
    ck_assert(addr_parse_ip_port(STR("10.9.9.9:99"), &endpoints[0].hc_addr));
    hosts = dns_hosts_new(loop, resolver, &config, &names, stats, &ops, NULL);
    fake_dns_wait(&dns, &updates, 2);
    ck_assert_str_eq(members, "0/10.0.0.1:80*3^10.9.9.9:99 0/10.0.0.2:80*3^10.9.9.9:99");
}
END_TEST

START_TEST(literals_need_no_answer)
{
    ck_assert(addr_parse_ip(STR("10.0.0.7"), 70, &endpoints[1].addr));
    endpoints[1].dns_name = STR_NULL;
    localities[1].num_endpoints = 1;
    dns.silent = true;
    start();
    wait_for(&updates);
    ck_assert_str_eq(members, "1/10.0.0.7:70*4");
    wait_for(&failures);
    dns.silent = false;
    zone(other, 1);
    wait_for(&updates);
    ck_assert_str_eq(members, "0/10.0.0.9:80*3 1/10.0.0.7:70*4");
}
END_TEST

START_TEST(failures_take_nothing_away)
{
    zone(first, 1);
    start();
    wait_for(&updates);
    dns.rcode = 2;
    wait_for(&failures);
    wait_for(&failures);
    dns.rcode = 0;
    dns.silent = true;
    wait_for(&failures);
    ck_assert_uint_eq(updates, 1);
    dns.silent = false;
    wait_for(&calm);
    ck_assert_uint_eq(updates, 1);
}
END_TEST

START_TEST(who_comes_during_a_failure_takes_what_was_known)
{
    struct dns_hosts *before;
    zone(first, 1);
    start();
    wait_for(&updates);
    before = hosts;
    dns.rcode = 2;
    wait_for(&failures);
    members[0] = 0;
    hosts = dns_hosts_new(loop, resolver, &config, &names, stats, &ops, NULL);
    dns_hosts_free(&before);
    wait_for(&updates);
    ck_assert_str_eq(members, "0/10.0.0.1:80*3 0/10.0.0.2:80*3");
}
END_TEST

START_TEST(logical_takes_the_first)
{
    config.logical = true;
    zone(first, 1);
    start();
    wait_for(&updates);
    ck_assert_str_eq(members, "0/10.0.0.1:80*3");
    zone(turned, 1);
    wait_for(&updates);
    ck_assert_str_eq(members, "0/10.0.0.2:80*3");
    zone(empty, 1); /* for which a failure stands */
    wait_for(&failures);
    zone(NULL, 0);
    wait_for(&failures);
    ck_assert_uint_eq(updates, 2);
}
END_TEST

START_TEST(back_off_and_jitter)
{
    config.refresh_ms = 3600 * 1000;
    config.failure_base_ms = 2;
    config.failure_max_ms = 20;
    config.jitter_ms = 5;
    dns.rcode = 5;
    start();
    for (int i = 0; i < 6; i++)
        wait_for(&failures);
    dns.rcode = 0;
    zone(first, 1);
    wait_for(&updates);
    dns.asked = 0;
    for (int i = 0; i < 50; i++)
        loop_run_once(loop, false);
    ck_assert_uint_eq(dns.asked, 0);
}
END_TEST

START_TEST(by_ttl)
{
    static const struct fake_dns_name hour[] = {{"a.test", "10.0.0.1", 3600}};
    static const struct fake_dns_name none[] = {{"a.test", "10.0.0.1", 0}};
    config.respect_ttl = true;
    zone(none, 1); /* says nothing: refresh_ms */
    start();
    wait_for(&updates);
    wait_for(&calm);
    zone(hour, 1);
    wait_for(&calm);
    dns.asked = 0;
    uint64_t begin = loop_now_ms(loop);
    while (loop_now_ms(loop) < begin + 150) /* three times refresh_ms */
        loop_run_once(loop, false);
    ck_assert_uint_eq(dns.asked, 0);
}
END_TEST

START_TEST(no_endpoints_at_all)
{
    localities[0].num_endpoints = 0;
    start();
    wait_for(&updates);
    ck_assert_str_eq(members, "");
    ck_assert_uint_eq(dns.asked, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster/dns_hosts");
    TCase *t = tcase_create("dns_hosts");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, answers_become_endpoints);
    tcase_add_test(t, an_address_of_two_names_counts_once);
    tcase_add_test(t, one_name_two_ports);
    tcase_add_test(t, literals_need_no_answer);
    tcase_add_test(t, checked_at_another_port);
    tcase_add_test(t, failures_take_nothing_away);
    tcase_add_test(t, who_comes_during_a_failure_takes_what_was_known);
    tcase_add_test(t, logical_takes_the_first);
    tcase_add_test(t, back_off_and_jitter);
    tcase_add_test(t, by_ttl);
    tcase_add_test(t, no_endpoints_at_all);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
