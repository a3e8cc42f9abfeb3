#include "base/stats_visit.h"
#include "test/unit/xds/fixture.c"

static void on_resource(void *arg, const struct xds_resource_info *r)
{
    struct fixture *f = arg;
    say(f, "[%s %.*s%s v=%.*s s=%d%s%s]", r->ops->label, STR_ARG(r->name),
        r->is_static ? " static" : "", STR_ARG(r->version), (int)r->status,
        r->bytes.len ? " bytes" : "", r->updated_us ? " t" : "");
    if (r->error.len) {
        ck_assert(str_starts(r->error, STR("envoy.config.")));
        ck_assert_uint_gt(r->error_us, 0);
        ck_assert_uint_gt(r->error_bytes.len, 0);
        say(f, "err@%.*s", STR_ARG(r->error_version));
    }
}

static void expect_state(struct fixture *f, const struct resource_ops *ops, const char *state)
{
    f->log[0] = 0;
    xds_foreach(f->x, ops, on_resource, f);
    expect_told(f, state);
}

START_TEST(test_state_of_each_resource)
{
    struct fixture f;
    struct watcher a, b;
    fixture_init(&f);
    collect(&f, &cds_ops);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    watch(&b, &f, "b", &from_ads, &eds_ops, "eb");
    expect_state(&f, NULL, "[eds ea v= s=1] [eds eb v= s=1]");
    run(&f);
    serve_list(&f, CDS_URL, "1", "1", "b", 2, "a", 1, NULL);
    serve_list(&f, CDS_URL, "2", "2", "b", BAD, "a", 1, "c", BAD, NULL);
    expect_state(&f, &cds_ops,
                 "[cds a v=2 s=3 bytes t] [cds b v=1 s=4 bytes t] err@2 [cds c v= s=4] err@2");
    serve_list(&f, CDS_URL, "3", "3", "b", 2, "a", 1, NULL);
    expect_state(&f, &cds_ops, "[cds a v=3 s=3 bytes t] [cds b v=3 s=3 bytes t]");
    serve_list(&f, EDS_URL, "1", "1", "ea", 1, NULL);
    advance(&f, XDS_FETCH_TIMEOUT_MS);
    expect_state(&f, &eds_ops, "[eds ea v=1 s=3 bytes t] [eds eb v= s=6]");
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&b.sub);
    run(&f);
    expect_state(&f, &eds_ops, "");
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_static_resources_take_the_same_way)
{
    struct fixture f;
    struct errors e;
    struct arena a;
    fixture_init(&f);
    errors_init(&e);
    arena_init(&a, 0);
    ck_assert(xds_static(f.x, &cds_ops, resource(&f, CDS_URL, "xds-grpc", 4), &e));
    expect_told(&f, "( xds-grpc=4@ )"); /* inside the call */
    ck_assert(!xds_static(f.x, &cds_ops, resource(&f, CDS_URL, "xds-grpc", 5), &e));
    ck_assert(!xds_static(f.x, &cds_ops, resource(&f, CDS_URL, "bad", BAD), &e));
    ck_assert(!xds_static(f.x, &cds_ops, resource(&f, CDS_URL, "busy", BAD_APPLY), &e));
    ck_assert(!xds_static(f.x, &cds_ops, STR("\x0a\x7f"), &e));
    ck_assert(xds_static(f.x, &sds_ops, resource(&f, SDS_URL, "cert", 1), &e));
    struct str text = errors_text(&e, &a);
    ck_assert_msg(str_find(text, STR("xds-grpc: duplicate name")) >= 0, "%.*s", STR_ARG(text));
    ck_assert_int_ge(str_find(text, STR("endpoints[0].priority: is the number")), 0);
    ck_assert_int_ge(str_find(text, STR("is in use")), 0);
    ck_assert_int_ge(str_find(text, STR("malformed")), 0);
    expect_state(&f, &cds_ops, "[cds xds-grpc static v= s=3 bytes t]");
    errors_cleanup(&e);
    arena_cleanup(&a);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_a_dynamic_resource_never_replaces_a_static_one)
{
    struct fixture f;
    struct errors e;
    fixture_init(&f);
    errors_init(&e);
    ck_assert(xds_static(f.x, &cds_ops, resource(&f, CDS_URL, "st", 4), &e));
    collect(&f, &cds_ops);
    run(&f);
    f.next_line = f.num_lines;
    f.log[0] = 0;
    serve_list(&f, CDS_URL, "1", "1", "st", 5, "a", 1, NULL);
    expect_line(&f, "Cluster v=1 n=1 names="); /* as Envoy: left aside, not refused */
    expect_told(&f, "( a=1@1 ) settled");
    serve_list(&f, CDS_URL, "2", "2", NULL);
    expect_told(&f, "( -a )");
    errors_cleanup(&e);
    fixture_cleanup(&f);
}
END_TEST

/* --- counters --------------------------------------------------------------------------------- */

static uint64_t stat(const char *name)
{
    uint64_t value;
    ck_assert_msg(stats_find(str_of(name), &value), "no stat %s", name);
    return value;
}

START_TEST(test_counters)
{
    struct fixture f;
    struct watcher a, b, again;
    uint64_t value;
    fixture_init(&f);
    collect(&f, &cds_ops);
    watch(&a, &f, "a", &from_ads, &eds_ops, "e");
    watch(&b, &f, "b", &from_ads, &eds_ops, "none");
    run(&f);
    ck_assert_uint_eq(stat("control_plane.connected_state"), 1);
    serve_list(&f, CDS_URL, "1", "1", "a", 1, NULL);
    serve_list(&f, CDS_URL, "4", "2", "a", 1, NULL);
    serve_list(&f, CDS_URL, "3", "3", "a", BAD, NULL);
    serve_list(&f, EDS_URL, "1", "1", "e", 1, NULL);
    serve_list(&f, EDS_URL, "2", "2", "e", BAD, NULL);
    advance(&f, XDS_FETCH_TIMEOUT_MS);
    hang_up(&f);
    ck_assert_uint_eq(stat("control_plane.connected_state"), 0);
    ck_assert_uint_eq(stat("cluster_manager.cds.update_attempt"), 5);
    ck_assert_uint_eq(stat("cluster_manager.cds.update_success"), 2);
    ck_assert_uint_eq(stat("cluster_manager.cds.update_rejected"), 1);
    ck_assert_uint_eq(stat("cluster_manager.cds.update_failure"), 1);
    ck_assert_uint_eq(stat("cluster_manager.cds.config_reload"), 1);
    /* What Envoy 1.40 shows for the version text "4". */
    ck_assert_uint_eq(stat("cluster_manager.cds.version"), 10464417414901951369u);
    ck_assert_uint_gt(stat("cluster_manager.cds.update_time"), 1500000000000);
    ck_assert_uint_eq(stat("cluster.e.update_attempt"), 4);
    ck_assert_uint_eq(stat("cluster.e.update_success"), 1);
    ck_assert_uint_eq(stat("cluster.e.update_rejected"), 1);
    ck_assert_uint_eq(stat("cluster.e.update_failure"), 1);
    ck_assert_uint_eq(stat("cluster.e.init_fetch_timeout"), 0);
    ck_assert(!stats_find(STR("cluster.e.config_reload"), &value));
    ck_assert_uint_eq(stat("cluster.none.init_fetch_timeout"), 1);
    ck_assert_uint_eq(stat("cluster.none.update_attempt"), 3); /* a timeout and a failure more */
    /* A cluster that is replaced goes on counting. */
    watch(&again, &f, "again", &from_ads, &eds_ops, "e");
    xds_unsubscribe(&a.sub);
    ck_assert_uint_eq(stat("cluster.e.update_success"), 1);
    xds_unsubscribe(&again.sub);
    ck_assert(!stats_find(STR("cluster.e.update_success"), &value));
    xds_unsubscribe(&b.sub);
    fixture_cleanup(&f);
}
END_TEST

static void add(TCase *t)
{
    tcase_add_test(t, test_state_of_each_resource);
    tcase_add_test(t, test_static_resources_take_the_same_way);
    tcase_add_test(t, test_a_dynamic_resource_never_replaces_a_static_one);
    tcase_add_test(t, test_counters);
}

int main(void)
{
    return test_main("xds/xds", add);
}
