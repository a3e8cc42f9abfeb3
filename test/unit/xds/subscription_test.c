#include "test/unit/xds/fixture.c"

START_TEST(test_watchers_of_one_resource_share_it)
{
    struct fixture f;
    struct watcher a, b;
    fixture_init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "e");
    watch(&b, &f, "b", &from_ads, &eds_ops, "e");
    run(&f);
    expect_line(&f, "ClusterLoadAssignment v= n= names=e node=\n\x02me");
    serve_list(&f, EDS_URL, "1", "1", "e", 4, NULL);
    expect_line(&f, "ClusterLoadAssignment v=1 n=1 names=e");
    expect_told(&f, "a:4 b:4");
    ck_assert_ptr_eq(xds_subscription_current(a.sub), xds_subscription_current(b.sub));
    xds_unsubscribe(&a.sub);
    ck_assert_ptr_null(a.sub);
    run(&f);
    serve_list(&f, EDS_URL, "2", "2", "e", 5, NULL);
    expect_told(&f, "b:5");
    xds_unsubscribe(&b.sub);
    xds_unsubscribe(&b.sub); /* nothing */
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_cached_resource_is_delivered_promptly_but_not_inside)
{
    struct fixture f;
    struct watcher a, b;
    fixture_init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "e");
    run(&f);
    serve_list(&f, EDS_URL, "1", "1", "e", 4, NULL);
    f.log[0] = 0;
    f.next_line = f.num_lines;
    watch(&b, &f, "b", &from_ads, &eds_ops, "e");
    ck_assert_str_eq(f.log, "");
    ck_assert_ptr_null(xds_subscription_current(b.sub));
    run(&f);
    expect_told(&f, "b:4"); /* a cluster that is sent again warms from this */
    expect_silence(&f);
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&b.sub);
    fixture_cleanup(&f);
}
END_TEST

/* The server would not send again what it thinks we have. */
START_TEST(test_leaving_and_coming_back_in_one_turn_keeps_the_cache)
{
    struct fixture f;
    struct watcher a;
    fixture_init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "e");
    run(&f);
    serve_list(&f, EDS_URL, "1", "1", "e", 4, NULL);
    f.log[0] = 0;
    xds_unsubscribe(&a.sub);
    watch(&a, &f, "b", &from_ads, &eds_ops, "e");
    run(&f);
    expect_told(&f, "b:4");
    xds_unsubscribe(&a.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_unsubscribed_names_are_forgotten_and_asked_for_anew)
{
    struct fixture f;
    struct watcher a, b;
    fixture_init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    watch(&b, &f, "b", &from_ads, &eds_ops, "eb");
    run(&f);
    serve_list(&f, EDS_URL, "1", "1", "ea", 4, "eb", 5, NULL);
    f.next_line = f.num_lines;
    xds_unsubscribe(&a.sub);
    run(&f);
    expect_line(&f, "ClusterLoadAssignment v=1 n=1 names=eb");
    ck_assert_uint_eq(f.num_live, 1);
    f.log[0] = 0;
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    expect_line(&f, "ClusterLoadAssignment v=1 n=1 names=ea,eb");
    expect_told(&f, "");
    serve_list(&f, EDS_URL, "1", "2", "ea", 4, NULL);
    expect_told(&f, "a:4");
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&b.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_no_callback_after_unsubscribe)
{
    struct fixture f;
    struct watcher a, b;
    fixture_init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "e");
    watch(&b, &f, "b", &from_ads, &eds_ops, "e");
    run(&f);
    struct reply r = reply_new(&f, EDS_URL, "1", "1");
    reply_add(&r, "e", 4);
    struct xds_call *c = last_call(&f);
    c->receiving = false;
    c->ev->on_message(c->arg, r.bytes); /* both callbacks are posted */
    xds_unsubscribe(&a.sub);
    b.leave = true;
    run(&f);
    expect_told(&f, "b:4");
    ck_assert_ptr_null(b.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_leaving_inside_error_and_absent)
{
    struct fixture f;
    struct watcher a, b;
    fixture_init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    watch(&b, &f, "b", &from_ads, &eds_ops, "eb");
    a.leave = b.leave = true;
    run(&f);
    serve_list(&f, EDS_URL, "1", "1", "ea", BAD, NULL);
    ck_assert_ptr_null(a.sub);
    advance(&f, XDS_FETCH_TIMEOUT_MS);
    ck_assert_ptr_null(b.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_absent_after_the_fetch_timeout_and_it_may_still_come)
{
    struct fixture f;
    struct watcher a, b;
    struct xds_source for_ever = from_ads;
    for_ever.initial_fetch_timeout_ms = 0;
    fixture_init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    watch(&b, &f, "b", &for_ever, &eds_ops, "eb");
    run(&f);
    advance(&f, XDS_FETCH_TIMEOUT_MS - 10);
    expect_told(&f, "");
    advance(&f, 10);
    expect_told(&f, "a:absent0");
    advance(&f, 10 * XDS_FETCH_TIMEOUT_MS);
    expect_told(&f, ""); /* once, and not b */
    serve_list(&f, EDS_URL, "1", "1", "ea", 1, "eb", 2, NULL);
    expect_told(&f, "a:1 b:2");
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&b.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_timeout_is_disarmed_by_update_and_by_error)
{
    struct fixture f;
    struct watcher a, b, c;
    fixture_init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    watch(&b, &f, "b", &from_ads, &eds_ops, "eb");
    run(&f);
    serve_list(&f, EDS_URL, "1", "1", "ea", 1, "eb", BAD, NULL);
    f.log[0] = 0;
    watch(&c, &f, "c", &from_ads, &eds_ops, "ea"); /* cached: no timer at all */
    advance(&f, 3 * XDS_FETCH_TIMEOUT_MS);
    expect_told(&f, "c:1");
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&b.sub);
    xds_unsubscribe(&c.sub);
    fixture_cleanup(&f);
}
END_TEST

/* Neither the time before there is a way to connect nor a lost stream ends the wait early or
 * starts it again. */
START_TEST(test_timeout_counts_from_the_first_attempt)
{
    struct fixture f;
    struct watcher a;
    fixture_init(&f);
    f.dial_fails = true;
    watch(&a, &f, "a", &from_ads, &eds_ops, "e");
    advance(&f, 1);
    ck_assert_uint_ge(f.num_dials, 1);
    advance(&f, XDS_FETCH_TIMEOUT_MS - 2);
    expect_told(&f, "");
    advance(&f, 2);
    expect_told(&f, "a:absent0");
    ck_assert_uint_gt(f.num_dials, 3);
    xds_unsubscribe(&a.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_collection_settles_once)
{
    struct fixture f;
    fixture_init(&f);
    collect(&f, &cds_ops);
    collect(&f, &lds_ops);
    run(&f);
    expect_told(&f, "");
    serve_list(&f, CDS_URL, "1", "1", "a", BAD, NULL);
    expect_told(&f, "( ) settled"); /* refused is an answer too */
    serve_list(&f, CDS_URL, "2", "2", "a", 1, NULL);
    expect_told(&f, "( a=1@2 )");
    advance(&f, XDS_FETCH_TIMEOUT_MS);
    expect_told(&f, "settled"); /* lds, by its timeout */
    serve_list(&f, LDS_URL, "1", "1", "w", 1, NULL);
    expect_told(&f, "( w=1@1 )");
    fixture_cleanup(&f);
}
END_TEST

/* --- streams of their own --------------------------------------------------------------------- */

static const struct xds_source from_sds = {
    .kind = XDS_SOURCE_GRPC,
    .initial_fetch_timeout_ms = 0,
    .server = {.cluster = {"sds-grpc", 8}, .node_on_first_only = true},
};

START_TEST(test_own_stream_for_each_name)
{
    struct fixture f;
    struct watcher a, b, c;
    fixture_init(&f);
    watch(&a, &f, "a", &from_sds, &sds_ops, "default");
    watch(&b, &f, "b", &from_sds, &sds_ops, "ROOTCA");
    watch(&c, &f, "c", &from_sds, &sds_ops, "default");
    run(&f);
    ck_assert_uint_eq(f.num_calls, 2);
    ck_assert_str_eq(f.calls[0]->method,
                     "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets");
    ck_assert_str_eq(f.calls[0]->authority, "sds-grpc");
    expect_line(&f, "Secret v= n= names=default node=\n\x02me");
    expect_line(&f, "Secret v= n= names=ROOTCA node=\n\x02me");
    struct reply r = reply_new(&f, SDS_URL, "1", "1");
    reply_add(&r, "default", 3);
    serve_on(f.calls[0], r.bytes);
    expect_line(&f, "Secret v=1 n=1 names=default");
    expect_told(&f, "a:3 c:3");
    /* One stream goes down: the other secret does not notice. */
    f.calls[0]->ev->on_close(f.calls[0]->arg, 14, STR("gone"));
    r = reply_new(&f, SDS_URL, "9", "9");
    reply_add(&r, "ROOTCA", 5);
    serve_on(f.calls[1], r.bytes);
    expect_line(&f, "Secret v=9 n=9 names=ROOTCA");
    expect_told(&f, "b:5");
    xds_unsubscribe(&a.sub);
    run(&f);
    advance(&f, 500);
    ck_assert_uint_eq(f.num_calls, 3); /* c still wants it */
    expect_line(&f, "Secret v=1 n= names=default node=\n\x02me");
    xds_unsubscribe(&c.sub);
    run(&f);
    ck_assert(f.calls[2]->closed);
    ck_assert(!f.calls[1]->closed);
    xds_unsubscribe(&b.sub);
    run(&f);
    ck_assert(f.calls[1]->closed);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_same_name_from_two_sources_is_two_resources)
{
    struct fixture f;
    struct watcher a, b;
    struct xds_source other = from_sds;
    other.server.cluster = STR("other");
    fixture_init(&f);
    watch(&a, &f, "a", &from_sds, &sds_ops, "default");
    watch(&b, &f, "b", &other, &sds_ops, "default");
    run(&f);
    ck_assert_uint_eq(f.num_calls, 2);
    ck_assert_str_eq(f.calls[1]->authority, "other");
    struct reply r = reply_new(&f, SDS_URL, "1", "1");
    reply_add(&r, "default", 3);
    serve_on(f.calls[1], r.bytes);
    expect_told(&f, "b:3");
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&b.sub);
    fixture_cleanup(&f);
}
END_TEST

/* A secret generator that is down closes each stream; it must recover when it is back, and the
 * watcher with timeout 0 waits for ever. */
START_TEST(test_outage_then_recovery_of_an_own_stream)
{
    struct fixture f;
    struct watcher a;
    fixture_init(&f);
    watch(&a, &f, "a", &from_sds, &sds_ops, "default");
    run(&f);
    for (int i = 0; i < 5; i++) {
        hang_up(&f);
        advance(&f, 30000);
    }
    expect_told(&f, "");
    ck_assert_uint_eq(f.num_calls, 6);
    serve_list(&f, SDS_URL, "1", "1", "default", 3, NULL);
    expect_told(&f, "a:3");
    xds_unsubscribe(&a.sub);
    fixture_cleanup(&f);
}
END_TEST

static void add(TCase *t)
{
    tcase_add_test(t, test_watchers_of_one_resource_share_it);
    tcase_add_test(t, test_cached_resource_is_delivered_promptly_but_not_inside);
    tcase_add_test(t, test_leaving_and_coming_back_in_one_turn_keeps_the_cache);
    tcase_add_test(t, test_unsubscribed_names_are_forgotten_and_asked_for_anew);
    tcase_add_test(t, test_no_callback_after_unsubscribe);
    tcase_add_test(t, test_leaving_inside_error_and_absent);
    tcase_add_test(t, test_absent_after_the_fetch_timeout_and_it_may_still_come);
    tcase_add_test(t, test_timeout_is_disarmed_by_update_and_by_error);
    tcase_add_test(t, test_timeout_counts_from_the_first_attempt);
    tcase_add_test(t, test_collection_settles_once);
    tcase_add_test(t, test_own_stream_for_each_name);
    tcase_add_test(t, test_same_name_from_two_sources_is_two_resources);
    tcase_add_test(t, test_outage_then_recovery_of_an_own_stream);
}

int main(void)
{
    return test_main("xds/subscription", add);
}
