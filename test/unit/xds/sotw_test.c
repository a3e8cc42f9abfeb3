#include "test/unit/xds/fixture.c"

static const char LONG_NAME[] = "envoy.config.endpoint.v3.ClusterLoadAssignment";

START_TEST(test_first_requests_leave_in_order_and_node_goes_once)
{
    struct fixture f;
    struct watcher w;
    fixture_init(&f);
    collect(&f, &lds_ops);
    watch(&w, &f, "w", &from_ads, &eds_ops, "e1");
    collect(&f, &cds_ops);
    ck_assert_uint_eq(f.num_lines, 0); /* nothing inside the call */
    run(&f);
    ck_assert_str_eq(last_call(&f)->method, "/envoy.service.discovery.v3.AggregatedDiscoveryService"
                                            "/StreamAggregatedResources");
    ck_assert_str_eq(last_call(&f)->authority, "cp");
    expect_line(&f, "Cluster v= n= names= node=\n\x02me");
    expect_line(&f, "ClusterLoadAssignment v= n= names=e1");
    expect_line(&f, "Listener v= n= names=");
    expect_silence(&f);
    xds_unsubscribe(&w.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_node_goes_with_each_request_when_asked_for)
{
    struct fixture f;
    struct xds_server server = {.cluster = STR("cp")};
    fixture_init_with(&f, &server);
    collect(&f, &lds_ops);
    collect(&f, &cds_ops);
    run(&f);
    expect_line(&f, "Cluster v= n= names= node=\n\x02me");
    expect_line(&f, "Listener v= n= names= node=\n\x02me");
    expect_silence(&f);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_ack_and_versions_are_walled_off_by_type)
{
    struct fixture f;
    fixture_init(&f);
    collect(&f, &cds_ops);
    collect(&f, &lds_ops);
    run(&f);
    f.next_line = f.num_lines;
    serve_list(&f, CDS_URL, "1", "c1", "a", 5, "b", 6, NULL);
    expect_line(&f, "Cluster v=1 n=c1 names=");
    expect_told(&f, "( a=5@1 b=6@1 ) settled");
    serve_list(&f, LDS_URL, "7", "l1", "web", 1, NULL);
    expect_line(&f, "Listener v=7 n=l1 names=");
    serve_list(&f, CDS_URL, "2", "c2", "a", 5, "b", 7, NULL);
    expect_line(&f, "Cluster v=2 n=c2 names=");
    expect_silence(&f);
    expect_told(&f, "( web=1@7 ) settled ( b=7@2 )");
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_nack_has_every_error_and_the_last_good_version)
{
    struct fixture f;
    fixture_init(&f);
    collect(&f, &cds_ops);
    run(&f);
    f.next_line = f.num_lines;
    serve_list(&f, CDS_URL, "1", "n1", "a", 1, "b", 2, NULL);
    expect_line(&f, "Cluster v=1 n=n1 names=");
    f.log[0] = 0;
    /* The good ones are applied, the refused ones keep what they had, or have nothing. */
    serve_list(&f, CDS_URL, "2", "n2", "a", BAD, "b", 3, "c", BAD_APPLY, "d", 4, NULL);
    expect_line(&f,
                "Cluster v=1 n=n2 names= err="
                "envoy.config.cluster.v3.Cluster a: endpoints[0].priority: is the number of the "
                "beast\n"
                "envoy.config.cluster.v3.Cluster a: policy: is cursed\n"
                "envoy.config.cluster.v3.Cluster c: address: is in use");
    expect_told(&f, "( b=3@2 d=4@2 )");
    ck_assert(str_eq(xds_version(f.x, &cds_ops), STR("1")));
    serve_list(&f, CDS_URL, "3", "n3", "a", 9, "b", 3, "c", 8, "d", 4, NULL);
    expect_line(&f, "Cluster v=3 n=n3 names=");
    expect_silence(&f);
    expect_told(&f, "( a=9@3 c=8@3 )");
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_absent_from_a_wildcard_list_is_removed)
{
    struct fixture f;
    fixture_init(&f);
    collect(&f, &cds_ops);
    run(&f);
    serve_list(&f, CDS_URL, "1", "1", "a", 1, "b", 2, "c", 3, NULL);
    f.log[0] = 0;
    serve_list(&f, CDS_URL, "2", "2", "c", 3, "a", BAD, NULL);
    expect_told(&f, "( -b )"); /* a is refused, not absent */
    serve_list(&f, CDS_URL, "3", "3", NULL);
    expect_told(&f, "( -a -c )");
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_nothing_is_removed_when_a_resource_has_no_name)
{
    struct fixture f;
    fixture_init(&f);
    collect(&f, &cds_ops);
    run(&f);
    serve_list(&f, CDS_URL, "1", "1", "a", 1, "b", 2, NULL);
    f.log[0] = 0;
    f.next_line = f.num_lines;
    struct reply r = reply_new(&f, CDS_URL, "2", "2");
    reply_add(&r, "c", 3);
    reply_any(&r, any_of(&f, CDS_URL, STR("\x0a\x7f")));
    reply_any(&r, any_of(&f, EDS_URL, resource(&f, EDS_URL, "e", 0)));
    reply_any(&r, STR("\x08\x01"));
    serve(&r);
    expect_told(&f, "( c=3@2 )");
    expect_line(&f, "Cluster v=1 n=2 names= err="
                    "envoy.config.cluster.v3.Cluster resources[1]: malformed, or without a name\n"
                    "resources[2]: type_url is " EDS_URL ", expected " CDS_URL "\n"
                    "resources[3]: wrong wire type in google.protobuf.Any");
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_duplicate_names_are_refused_and_the_first_is_used)
{
    struct fixture f;
    fixture_init(&f);
    collect(&f, &cds_ops);
    run(&f);
    f.next_line = f.num_lines;
    serve_list(&f, CDS_URL, "1", "1", "a", 1, "a", 2, NULL);
    expect_line(&f, "Cluster v= n=1 names= err="
                    "envoy.config.cluster.v3.Cluster a: duplicate name in one response");
    expect_told(&f, "( a=1@1 ) settled");
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_unchanged_resources_are_not_compiled_again)
{
    struct fixture f;
    struct watcher w;
    fixture_init(&f);
    collect(&f, &cds_ops);
    watch(&w, &f, "w", &from_ads, &eds_ops, "e");
    run(&f);
    serve_list(&f, CDS_URL, "1", "1", "a", 1, "b", 2, NULL);
    serve_list(&f, EDS_URL, "1", "1", "e", 1, NULL);
    f.num_compiles = 0;
    f.log[0] = 0;
    serve_list(&f, CDS_URL, "2", "2", "b", 2, "a", 1, NULL);
    serve_list(&f, EDS_URL, "2", "2", "e", 1, NULL);
    ck_assert_uint_eq(f.num_compiles, 0);
    expect_told(&f, "( )");
    xds_unsubscribe(&w.sub);
    fixture_cleanup(&f);
}
END_TEST

/* map<string, Any> typed_extension_protocol_options = 36, as Go marshals it: in any order. */
START_TEST(test_the_order_of_map_entries_is_no_change)
{
    struct fixture f;
    fixture_init(&f);
    collect(&f, &cds_ops);
    run(&f);
    struct str any = pb_cat(&f.arena, STR_NULL, 1, STR("type.googleapis.com/x.Y"));
    struct str e1 = pb_cat(&f.arena, pb_cat(&f.arena, STR_NULL, 1, STR("k1")), 2, any);
    struct str e2 = pb_cat(&f.arena, pb_cat(&f.arena, STR_NULL, 1, STR("k2")), 2, any);
    struct str base = pb_cat(&f.arena, STR_NULL, 1, STR("a"));
    struct str one = pb_cat(&f.arena, pb_cat(&f.arena, base, 36, e1), 36, e2);
    struct str two = pb_cat(&f.arena, pb_cat(&f.arena, base, 36, e2), 36, e1);
    ck_assert(!str_eq(one, two));
    struct reply r = reply_new(&f, CDS_URL, "1", "1");
    reply_any(&r, any_of(&f, CDS_URL, one));
    serve(&r);
    ck_assert_uint_eq(f.num_compiles, 1);
    r = reply_new(&f, CDS_URL, "2", "2");
    reply_any(&r, any_of(&f, CDS_URL, two));
    serve(&r);
    ck_assert_uint_eq(f.num_compiles, 1);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_named_resources_that_are_absent_stay)
{
    struct fixture f;
    struct watcher a, b;
    fixture_init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    watch(&b, &f, "b", &from_ads, &eds_ops, "eb");
    run(&f);
    expect_line(&f, "ClusterLoadAssignment v= n= names=ea,eb node=\n\x02me");
    serve_list(&f, EDS_URL, "1", "1", "ea", 1, "eb", 2, NULL);
    expect_line(&f, "ClusterLoadAssignment v=1 n=1 names=ea,eb");
    expect_told(&f, "a:1 b:2");
    serve_list(&f, EDS_URL, "2", "2", "ea", 3, NULL);
    expect_told(&f, "a:3");
    serve_list(&f, EDS_URL, "3", "3", NULL);
    expect_told(&f, "");
    ck_assert_int_eq(((struct compiled *)xds_subscription_current(b.sub))->value, 2);
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&b.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_one_refused_resource_does_not_hold_back_the_others)
{
    struct fixture f;
    struct watcher a, b;
    char told[256];
    fixture_init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    watch(&b, &f, "b", &from_ads, &eds_ops, "eb");
    run(&f);
    f.next_line = f.num_lines;
    serve_list(&f, EDS_URL, "1", "1", "ea", BAD, "eb", 2, NULL);
    snprintf(told, sizeof(told),
             "a:error{%s ea: endpoints[0].priority: is the number of the beast\n"
             "%s ea: policy: is cursed} b:2",
             LONG_NAME, LONG_NAME);
    expect_told(&f, told);
    ck_assert_uint_lt(f.next_line, f.num_lines);
    ck_assert_ptr_nonnull(strstr(f.lines[f.next_line], "v= n=1 names=ea,eb err="));
    /* Who comes later is told too, not left to wait. */
    struct watcher late;
    watch(&late, &f, "late", &from_ads, &eds_ops, "ea");
    ck_assert_str_eq(f.log, "");
    run(&f);
    ck_assert_ptr_nonnull(strstr(f.log, "late:error{"));
    f.log[0] = 0;
    serve_list(&f, EDS_URL, "2", "2", "ea", 4, "eb", 2, NULL);
    expect_told(&f, "a:4 late:4");
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&b.sub);
    xds_unsubscribe(&late.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_resources_nobody_asked_for_are_left_aside)
{
    struct fixture f;
    struct watcher a;
    fixture_init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    f.next_line = f.num_lines;
    serve_list(&f, EDS_URL, "1", "1", "zz", BAD, "ea", 1, NULL);
    expect_line(&f, "ClusterLoadAssignment v=1 n=1 names=ea");
    expect_told(&f, "a:1");
    /* So are whole responses of such a type; the stream goes on. */
    serve_list(&f, CDS_URL, "1", "1", "a", 1, NULL);
    expect_silence(&f);
    serve_list(&f, EDS_URL, "2", "2", "ea", 2, NULL);
    expect_line(&f, "ClusterLoadAssignment v=2 n=2 names=ea");
    xds_unsubscribe(&a.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_reconnect_repeats_versions_and_forgets_nonces)
{
    struct fixture f;
    struct watcher a;
    fixture_init(&f);
    collect(&f, &cds_ops);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    serve_list(&f, CDS_URL, "5", "n5", "c", 1, NULL);
    serve_list(&f, CDS_URL, "6", "n6", "c", BAD, NULL);
    serve_list(&f, EDS_URL, "8", "n8", "ea", 1, NULL);
    f.next_line = f.num_lines;
    f.log[0] = 0;
    hang_up(&f);
    expect_silence(&f);
    advance(&f, 500);
    ck_assert_uint_eq(f.num_calls, 2);
    expect_line(&f, "Cluster v=5 n= names= node=\n\x02me");
    expect_line(&f, "ClusterLoadAssignment v=8 n= names=ea");
    expect_silence(&f);
    expect_told(&f, ""); /* what is there stays */
    serve_list(&f, CDS_URL, "7", "x", "c", 2, NULL);
    expect_line(&f, "Cluster v=7 n=x names=");
    xds_unsubscribe(&a.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_named_type_that_nobody_wants_is_silent_on_a_new_stream)
{
    struct fixture f;
    struct watcher a;
    fixture_init(&f);
    collect(&f, &cds_ops);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    serve_list(&f, EDS_URL, "1", "n1", "ea", 1, NULL);
    f.next_line = f.num_lines;
    xds_unsubscribe(&a.sub);
    run(&f);
    /* On this stream an empty list says that nothing is wanted any more. */
    expect_line(&f, "ClusterLoadAssignment v=1 n=n1 names=");
    hang_up(&f);
    advance(&f, 500);
    /* On a new one it would ask for everything. */
    expect_line(&f, "Cluster v= n= names= node=\n\x02me");
    expect_silence(&f);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_pause_holds_back_one_type)
{
    struct fixture f;
    struct watcher a;
    fixture_init(&f);
    collect(&f, &cds_ops);
    run(&f);
    f.next_line = f.num_lines;
    xds_pause(f.x, &cds_ops);
    xds_pause(f.x, &cds_ops);
    serve_list(&f, CDS_URL, "1", "1", "a", 1, NULL);
    expect_silence(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    expect_line(&f, "ClusterLoadAssignment v= n= names=ea");
    serve_list(&f, EDS_URL, "1", "1", "ea", 1, NULL); /* the stream is not stopped */
    expect_line(&f, "ClusterLoadAssignment v=1 n=1 names=ea");
    xds_resume(f.x, &cds_ops);
    run(&f);
    expect_silence(&f);
    xds_resume(f.x, &cds_ops);
    run(&f);
    expect_line(&f, "Cluster v=1 n=1 names=");
    expect_silence(&f);
    xds_unsubscribe(&a.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_wrapped_resources_and_time_to_live)
{
    struct fixture f;
    struct watcher a, b;
    const char *url = "type.googleapis.com/envoy.service.discovery.v3.Resource";
    fixture_init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "alias");
    watch(&b, &f, "b", &from_ads, &eds_ops, "eb");
    run(&f);
    f.next_line = f.num_lines;
    struct reply r = reply_new(&f, EDS_URL, "1", "1");
    struct str w = pb_cat(&f.arena, STR_NULL, 3, STR("alias"));
    w = pb_cat(&f.arena, w, 2, any_of(&f, EDS_URL, resource(&f, EDS_URL, "ea", 7)));
    reply_any(&r, any_of(&f, url, w));
    w = pb_cat(&f.arena, STR_NULL, 2, any_of(&f, EDS_URL, resource(&f, EDS_URL, "eb", 8)));
    w = pb_cat(&f.arena, w, 6, STR("\x08\x05"));
    reply_any(&r, any_of(&f, url, w));
    serve(&r);
    expect_line(&f, "ClusterLoadAssignment v=1 n=1 names=alias,eb");
    expect_told(&f, "a:7 b:8");
    advance(&f, 4999);
    expect_told(&f, "");
    advance(&f, 1);
    expect_told(&f, "b:absent1");
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&b.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_error_text_is_bounded_and_utf8)
{
    struct fixture f;
    char name[128];
    fixture_init(&f);
    collect(&f, &cds_ops);
    run(&f);
    f.next_line = f.num_lines;
    struct reply r = reply_new(&f, CDS_URL, "1", "1");
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "cluster-\xc3\xa9-%d", i);
        reply_add(&r, name, BAD);
    }
    serve(&r);
    const char *line = f.lines[f.next_line];
    ck_assert_uint_lt(strlen(line), 4300);
    ck_assert(utf8_ok(str_of(line)));
    ck_assert_ptr_nonnull(strstr(line, "more)"));
    fixture_cleanup(&f);
}
END_TEST

static void add(TCase *t)
{
    tcase_add_test(t, test_first_requests_leave_in_order_and_node_goes_once);
    tcase_add_test(t, test_node_goes_with_each_request_when_asked_for);
    tcase_add_test(t, test_ack_and_versions_are_walled_off_by_type);
    tcase_add_test(t, test_nack_has_every_error_and_the_last_good_version);
    tcase_add_test(t, test_absent_from_a_wildcard_list_is_removed);
    tcase_add_test(t, test_nothing_is_removed_when_a_resource_has_no_name);
    tcase_add_test(t, test_duplicate_names_are_refused_and_the_first_is_used);
    tcase_add_test(t, test_unchanged_resources_are_not_compiled_again);
    tcase_add_test(t, test_the_order_of_map_entries_is_no_change);
    tcase_add_test(t, test_named_resources_that_are_absent_stay);
    tcase_add_test(t, test_one_refused_resource_does_not_hold_back_the_others);
    tcase_add_test(t, test_resources_nobody_asked_for_are_left_aside);
    tcase_add_test(t, test_reconnect_repeats_versions_and_forgets_nonces);
    tcase_add_test(t, test_named_type_that_nobody_wants_is_silent_on_a_new_stream);
    tcase_add_test(t, test_pause_holds_back_one_type);
    tcase_add_test(t, test_wrapped_resources_and_time_to_live);
    tcase_add_test(t, test_error_text_is_bounded_and_utf8);
}

int main(void)
{
    return test_main("xds/sotw", add);
}
