#include "cluster/original_dst.h"

#include "cluster/pools.h"
#include "test/support/cluster_fixture.h"
#include <check.h>

static struct cluster_fixture f;

static struct cluster_config *config_new(void)
{
    struct cluster_config *config = cluster_config_new(&f.home, STR("c"));
    config->type = CLUSTER_ORIGINAL_DST;
    config->lb_policy = LB_CLUSTER_PROVIDED;
    return config;
}

static void setup(void)
{
    fixture_start(&f);
}

static void teardown(void)
{
    fixture_stop(&f);
}

static struct cluster *cluster(void)
{
    return worker_clusters_find(f.worker, STR("c"));
}

static struct host *pick(const char *address)
{
    struct addr a;
    struct lb_request rq = {.original_dst = &a};
    ck_assert(addr_parse_ip_port(str_of(address), &a));
    return cluster_pick(cluster(), &rq);
}

static void own(const char *address)
{
    struct cluster_table *t = cluster_table_copy(f.table);
    struct addr a;
    ck_assert(addr_parse_ip_port(str_of(address), &a));
    cluster_table_set_own(t, &a, 1);
    worker_clusters_swap(f.worker, t);
    cluster_table_unref(f.table);
    f.table = t;
}

START_TEST(a_host_for_each_address)
{
    struct host *a, *b, *again;
    fixture_publish(&f, config_new(), NULL, 0);
    a = pick("10.1.1.1:80");
    b = pick("10.1.1.1:81");
    again = pick("10.1.1.1:80");
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_ne(a, b);
    ck_assert_ptr_eq(a, again);
    ck_assert(str_eq(a->address_text, STR("10.1.1.1:80")));
    host_unref(a);
    host_unref(b);
    host_unref(again);
    a = pick("[fe80::1%1]:80");
    b = pick("[fe80::1%2]:80");
    ck_assert_ptr_ne(a, b);
    host_unref(a);
    host_unref(b);
}
END_TEST

START_TEST(nowhere_to_go)
{
    struct addr pipe;
    fixture_publish(&f, config_new(), NULL, 0);
    ck_assert_ptr_null(cluster_pick(cluster(), &(struct lb_request){0}));
    ck_assert(addr_parse_pipe(STR("/x"), &pipe));
    ck_assert_ptr_null(cluster_pick(cluster(), &(struct lb_request){.original_dst = &pipe}));
    ck_assert_ptr_null(pick("10.1.1.1:0"));
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_ORIGINAL_DST_HOST_INVALID), 3);
}
END_TEST

START_TEST(port_override)
{
    struct cluster_config *config = config_new();
    struct host *h;
    config->upstream_port_override = 8080;
    fixture_publish(&f, config, NULL, 0);
    h = pick("10.1.1.1:80");
    ck_assert(str_eq(h->address_text, STR("10.1.1.1:8080")));
    host_unref(h);
    h = pick("10.1.1.1:0");
    ck_assert_ptr_nonnull(h);
    host_unref(h);
}
END_TEST

START_TEST(unused_hosts_are_forgotten)
{
    struct host *h;
    fixture_publish(&f, config_new(), NULL, 0);
    h = pick("10.1.1.1:80");
    host_unref(pick("10.1.1.2:80"));
    h->cx_active = 1;           /* a connection of its own */
    loop_advance(f.loop, 5001); /* both were used in this interval */
    fixture_turn(&f, 2);
    ck_assert_uint_eq(original_dst_count(cluster()->original_dst), 2);
    loop_advance(f.loop, 5001);
    fixture_turn(&f, 2);
    ck_assert_uint_eq(original_dst_count(cluster()->original_dst), 1);
    ck_assert(!h->removed);
    h->cx_active = 0;
    loop_advance(f.loop, 5001);
    fixture_turn(&f, 2);
    ck_assert_uint_eq(original_dst_count(cluster()->original_dst), 0);
    ck_assert(h->removed);
    host_unref(h);
}
END_TEST

START_TEST(cleanup_never)
{
    struct cluster_config *config = config_new();
    config->cleanup_interval_ms = 9223372036000u; /* Istio's */
    fixture_publish(&f, config, NULL, 0);
    host_unref(pick("10.1.1.1:80"));
    loop_advance(f.loop, 1000 * 1000);
    fixture_turn(&f, 2);
    ck_assert_uint_eq(original_dst_count(cluster()->original_dst), 1);
}
END_TEST

START_TEST(loop_guard)
{
    struct host *h;
    fixture_publish(&f, config_new(), NULL, 0);
    own("127.0.0.1:15001");
    ck_assert_ptr_null(pick("127.0.0.1:15001"));
    h = pick("127.0.0.1:15002");
    ck_assert_ptr_nonnull(h);
    host_unref(h);
    h = pick("127.0.0.2:15001"); /* another address */
    ck_assert_ptr_nonnull(h);
    host_unref(h);
    own("0.0.0.0:15001");
    ck_assert_ptr_null(pick("127.0.0.2:15001")); /* known, but the listeners are others now */
    ck_assert_ptr_null(pick("127.9.9.9:15001"));
    h = pick("10.255.255.254:15001"); /* some other machine */
    ck_assert_ptr_nonnull(h);
    host_unref(h);
    h = pick("[::1]:15001"); /* 0.0.0.0 takes no IPv6 */
    ck_assert_ptr_nonnull(h);
    host_unref(h);
    own("[::]:15001");
    ck_assert_ptr_null(pick("[::1]:15001"));
    ck_assert_ptr_null(pick("127.0.0.1:15001"));
}
END_TEST

START_TEST(guard_with_override)
{
    struct cluster_config *config = config_new();
    config->upstream_port_override = 15001;
    fixture_publish(&f, config, NULL, 0);
    own("127.0.0.1:15001");
    ck_assert_ptr_null(pick("127.0.0.1:80"));
}
END_TEST

START_TEST(type_changes)
{
    struct cluster_config *config;
    struct host *h;
    fixture_publish(&f, config_new(), NULL, 0);
    host_unref(pick("10.1.1.1:80"));
    config = cluster_config_new(&f.home, STR("c"));
    h = fixture_host(&f, "127.0.0.1:7");
    fixture_publish(&f, config, &h, 1);
    ck_assert_ptr_null(cluster()->original_dst);
    h = cluster_pick(cluster(), &(struct lb_request){0});
    ck_assert_uint_eq(addr_port(&h->addr), 7);
    host_unref(h);
    fixture_publish(&f, config_new(), NULL, 0);
    host_unref(pick("10.1.1.1:80"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster/original_dst");
    TCase *t = tcase_create("original_dst");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_host_for_each_address);
    tcase_add_test(t, nowhere_to_go);
    tcase_add_test(t, port_override);
    tcase_add_test(t, unused_hosts_are_forgotten);
    tcase_add_test(t, cleanup_never);
    tcase_add_test(t, loop_guard);
    tcase_add_test(t, guard_with_override);
    tcase_add_test(t, type_changes);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
