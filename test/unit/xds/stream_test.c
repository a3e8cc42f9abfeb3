#include "test/unit/xds/fixture.c"

START_TEST(test_backoff_grows_with_jitter_and_has_a_ceiling)
{
    struct fixture f;
    fixture_init(&f);
    f.dial_fails = true;
    collect(&f, &cds_ops);
    run(&f);
    ck_assert_uint_eq(f.num_dials, 1);
    /* The n-th wait is below 500 ms times 2^n, and never above 30 s. */
    uint64_t bound = 500;
    for (size_t n = 1; n < 12; n++) {
        advance(&f, bound);
        ck_assert_uint_ge(f.num_dials, n + 1);
        f.num_dials = n + 1;
        bound = bound * 2 > 30000 ? 30000 : bound * 2;
    }
    advance(&f, 600000);
    ck_assert_uint_ge(f.num_dials, 12 + 600 / 30); /* it never gives up */
    ck_assert_uint_lt(f.num_dials, 400);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_backoff_starts_over_after_a_response)
{
    struct fixture f;
    fixture_init(&f);
    f.dial_fails = true;
    collect(&f, &cds_ops);
    run(&f);
    advance(&f, 200000);
    f.dial_fails = false;
    advance(&f, 30000);
    ck_assert_uint_eq(f.num_calls, 1);
    serve_list(&f, CDS_URL, "1", "1", "a", 1, NULL);
    hang_up(&f);
    ck_assert_uint_eq(f.num_calls, 1);
    advance(&f, 500);
    ck_assert_uint_eq(f.num_calls, 2);
    /* Not by the mere connection. */
    hang_up(&f);
    advance(&f, 1000);
    hang_up(&f);
    ck_assert_uint_eq(f.num_calls, 3);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_last_good_configuration_outlives_the_stream)
{
    struct fixture f;
    struct watcher a;
    fixture_init(&f);
    collect(&f, &cds_ops);
    watch(&a, &f, "a", &from_ads, &eds_ops, "e");
    run(&f);
    ck_assert(xds_connected(f.x));
    serve_list(&f, CDS_URL, "1", "1", "c", 1, NULL);
    serve_list(&f, EDS_URL, "1", "1", "e", 1, NULL);
    f.log[0] = 0;
    f.dial_fails = true;
    hang_up(&f);
    ck_assert(!xds_connected(f.x));
    advance(&f, 24 * 3600 * 1000);
    expect_told(&f, "");
    ck_assert_ptr_nonnull(xds_subscription_current(a.sub));
    xds_unsubscribe(&a.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_changes_while_down_are_asked_for_on_the_new_stream)
{
    struct fixture f;
    struct watcher a, b;
    fixture_init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    serve_list(&f, EDS_URL, "1", "1", "ea", 1, NULL);
    f.next_line = f.num_lines;
    hang_up(&f);
    watch(&b, &f, "b", &from_ads, &eds_ops, "eb");
    xds_unsubscribe(&a.sub);
    run(&f);
    expect_silence(&f);
    advance(&f, 500);
    expect_line(&f, "ClusterLoadAssignment v=1 n= names=eb node=\n\x02me");
    expect_silence(&f);
    xds_unsubscribe(&b.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_malformed_response_ends_the_stream_not_the_state)
{
    static const char *const bad[] = {
        "\x0a\x05"
        "1",                /* cut short */
        "\x08\x01",         /* version_info as a number */
        "\x0b\x0c",         /* a group */
        "\x0a\x02\xff\xfe", /* version_info is not UTF-8 */
        "\x32\x02\x0a\x7f", /* control_plane is malformed */
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    };
    struct fixture f;
    fixture_init(&f);
    collect(&f, &cds_ops);
    run(&f);
    serve_list(&f, CDS_URL, "1", "1", "a", 1, NULL);
    f.log[0] = 0;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        f.next_line = f.num_lines;
        serve_on(last_call(&f), str_of(bad[i]));
        ck_assert(last_call(&f)->closed);
        expect_silence(&f);
        advance(&f, 500);
        ck_assert_uint_eq(f.num_calls, i + 2);
        expect_line(&f, "Cluster v=1 n= names= node=\n\x02me");
    }
    expect_told(&f, "");
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rate_limit_holds_requests_and_with_them_the_server)
{
    struct fixture f;
    struct xds_server server = {
        .cluster = STR("cp"), .rate_limited = true, .rate_tokens = 2, .rate_fill = 1};
    fixture_init_with(&f, &server);
    collect(&f, &cds_ops);
    collect(&f, &lds_ops);
    run(&f);
    ck_assert_uint_eq(f.num_lines, 2);
    serve_list(&f, CDS_URL, "1", "1", "a", 1, NULL);
    ck_assert_uint_eq(f.num_lines, 2);    /* no token for the ACK */
    ck_assert(!last_call(&f)->receiving); /* nor is the next message asked for */
    advance(&f, 990);
    ck_assert_uint_eq(f.num_lines, 2);
    advance(&f, 20);
    ck_assert_uint_eq(f.num_lines, 3);
    ck_assert(last_call(&f)->receiving);
    fixture_cleanup(&f);
}
END_TEST

/* Each answer leaves before the next response is taken, so each nonce is answered once. */
START_TEST(test_each_response_is_answered_once)
{
    struct fixture f;
    char nonce[16], line[64];
    fixture_init(&f);
    collect(&f, &cds_ops);
    run(&f);
    f.next_line = f.num_lines;
    for (int i = 0; i < 50; i++) {
        snprintf(nonce, sizeof(nonce), "%d", i);
        serve_list(&f, CDS_URL, nonce, nonce, "a", i, NULL);
        snprintf(line, sizeof(line), "Cluster v=%d n=%d names=", i, i);
        expect_line(&f, line);
        expect_silence(&f);
    }
    fixture_cleanup(&f);
}
END_TEST

enum { MANY = 3000 };

static void serve_many(struct fixture *f, int value)
{
    struct reply r = reply_new(f, CDS_URL, "1", "1");
    struct xds_call *c = last_call(f);
    char name[32];
    char *all = arena_alloc(&f->arena, MANY * 128), *p = all;
    for (int i = 0; i < MANY; i++) {
        struct arena a;
        arena_init(&a, 0);
        struct arena keep = f->arena;
        f->arena = a;
        snprintf(name, sizeof(name), "cluster-%d", i);
        struct str one = pb_cat(&f->arena, STR_NULL, 2,
                                any_of(f, CDS_URL, resource(f, CDS_URL, name, value)));
        memcpy(p, one.p, one.len);
        p += one.len;
        arena_cleanup(&f->arena);
        f->arena = keep;
    }
    char *message = arena_alloc(&f->arena, r.bytes.len + (size_t)(p - all));
    memcpy(message, r.bytes.p, r.bytes.len);
    memcpy(message + r.bytes.len, all, (size_t)(p - all));
    c->receiving = false;
    f->log[0] = 0;
    f->num_compiles = 0;
    c->ev->on_message(c->arg, str_n(message, r.bytes.len + (size_t)(p - all)));
}

START_TEST(test_a_large_response_is_taken_in_slices)
{
    struct fixture f;
    struct watcher w;
    fixture_init(&f);
    collect(&f, &cds_ops);
    run(&f);
    serve_many(&f, 1);
    size_t first = f.num_compiles;
    ck_assert_uint_gt(first, 100);
    ck_assert_uint_lt(first, MANY);
    ck_assert(!last_call(&f)->receiving);
    f.next_line = f.num_lines;
    watch(&w, &f, "w", &from_ads, &eds_ops, "e"); /* as an applied cluster does */
    loop_run_once(f.loop, false);                 /* others have their turn between slices */
    ck_assert_uint_lt(f.num_compiles, MANY);
    expect_silence(&f);
    run(&f);
    ck_assert_uint_eq(f.num_compiles, MANY);
    ck_assert(last_call(&f)->receiving);
    expect_line(&f, "Cluster v=1 n=1 names=");
    expect_line(&f, "ClusterLoadAssignment v= n= names=e");
    expect_silence(&f);
    xds_unsubscribe(&w.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_a_response_cut_off_half_way_removes_nothing)
{
    struct fixture f;
    fixture_init(&f);
    collect(&f, &cds_ops);
    run(&f);
    serve_list(&f, CDS_URL, "0", "0", "old", 1, NULL);
    serve_many(&f, 1);
    hang_up(&f);
    ck_assert_ptr_null(strstr(f.log, "-old"));
    size_t so_far = f.num_compiles;
    ck_assert_uint_lt(so_far, MANY);
    advance(&f, 500);
    ck_assert_uint_eq(f.num_compiles, so_far);
    ck_assert_str_eq(f.lines[f.num_lines - 1], "Cluster v=0 n= names= node=\n\x02me");
    f.num_compiles = 0;
    serve_list(&f, CDS_URL, "2", "2", "old", 1, NULL);
    ck_assert_uint_eq(f.num_compiles, 0);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_freed_while_a_response_is_under_way)
{
    struct fixture f;
    fixture_init(&f);
    collect(&f, &cds_ops);
    run(&f);
    serve_many(&f, 1);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_control_plane_says_its_name)
{
    struct fixture f;
    fixture_init(&f);
    collect(&f, &cds_ops);
    run(&f);
    ck_assert_uint_eq(xds_control_plane(f.x).len, 0);
    struct reply r = reply_new(&f, CDS_URL, "1", "1");
    r.bytes = pb_cat(&f.arena, r.bytes, 6, pb_cat(&f.arena, STR_NULL, 1, STR("istiod-1")));
    serve(&r);
    ck_assert(str_eq(xds_control_plane(f.x), STR("istiod-1")));
    fixture_cleanup(&f);
}
END_TEST

static void add(TCase *t)
{
    tcase_add_test(t, test_backoff_grows_with_jitter_and_has_a_ceiling);
    tcase_add_test(t, test_backoff_starts_over_after_a_response);
    tcase_add_test(t, test_last_good_configuration_outlives_the_stream);
    tcase_add_test(t, test_changes_while_down_are_asked_for_on_the_new_stream);
    tcase_add_test(t, test_malformed_response_ends_the_stream_not_the_state);
    tcase_add_test(t, test_rate_limit_holds_requests_and_with_them_the_server);
    tcase_add_test(t, test_each_response_is_answered_once);
    tcase_add_test(t, test_a_large_response_is_taken_in_slices);
    tcase_add_test(t, test_a_response_cut_off_half_way_removes_nothing);
    tcase_add_test(t, test_freed_while_a_response_is_under_way);
    tcase_add_test(t, test_control_plane_says_its_name);
}

int main(void)
{
    return test_main("xds/stream", add);
}
