/* A host that the request itself asks for. */
#include "cluster/cluster.h"

#include "test/support/cluster_fixture.h"
#include <check.h>
#include <stdlib.h>

static struct cluster_fixture fixture;
static struct host *hosts[3];
static struct cluster *cluster;

static void setup(void)
{
    fixture_start(&fixture);
    struct cluster_config *config = cluster_config_new(&fixture.home, STR("c"));
    hosts[0] = fixture_host(&fixture, "10.0.0.1:80");
    hosts[1] = fixture_host(&fixture, "10.0.0.2:80");
    hosts[2] = fixture_host(&fixture, "[2001:db8::1]:80");
    (void)host_set_flag(hosts[1], HOST_FAILED_EDS);
    (void)host_set_flag(hosts[2], HOST_DEGRADED_EDS);
    fixture_publish(&fixture, config, hosts, 3);
    cluster = worker_clusters_find(fixture.worker, STR("c"));
    ck_assert_ptr_nonnull(cluster);
}

static void teardown(void)
{
    fixture_stop(&fixture);
}

/* Which host is picked, -1: none. */
static int pick(const char *address, bool strict)
{
    struct addr addr;
    int found = -1;
    ck_assert(addr_parse_ip_port(str_of(address), &addr));
    struct host *h = cluster_pick(
        cluster, &(struct lb_request){.override_host = &addr, .override_strict = strict});
    for (int i = 0; i < 3; i++)
        found = h == hosts[i] ? i : found;
    host_unref(h);
    return found;
}

START_TEST(a_member_that_is_not_unhealthy)
{
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(pick("[2001:db8::1]:80", false), 2);
        ck_assert_int_eq(pick("10.0.0.1:80", true), 0);
    }
}
END_TEST

/* The balancer's choice: the healthy one, or the degraded one for its share. */
START_TEST(another_one_otherwise)
{
    static const char *const addresses[] = {"10.0.0.2:80", "10.0.0.1:81", "10.0.0.9:80"};
    for (int i = 0; i < 60; i++) {
        int found = pick(addresses[i % 3], false);
        ck_assert(found == 0 || found == 2);
    }
}
END_TEST

START_TEST(none_if_strict)
{
    ck_assert_int_eq(pick("10.0.0.2:80", true), -1);
    ck_assert_int_eq(pick("10.0.0.1:81", true), -1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster");
    TCase *t = tcase_create("override host");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_member_that_is_not_unhealthy);
    tcase_add_test(t, another_one_otherwise);
    tcase_add_test(t, none_if_strict);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
