#include "test/unit/xds/fixture.c"

#define LONG_CLUSTER "envoy.config.cluster.v3.Cluster"
#define NODE " node=\n\x02me"

static const struct xds_server delta_server = {
    .cluster = {"cp", 2}, .node_on_first_only = true, .delta = true};

static void init(struct fixture *f)
{
    fixture_init_with(f, &delta_server);
}

/* --- what the server says --------------------------------------------------------------------- */

static struct reply delta_new(struct fixture *f, const char *url, const char *version,
                              const char *nonce)
{
    return reply_new(f, url, version, nonce); /* the scalars have the same numbers */
}

static struct str wrapper(struct fixture *f, const char *url, const char *name, const char *version,
                          int value)
{
    struct str w = pb_cat(&f->arena, STR_NULL, 1, str_of(version));
    w = pb_cat(&f->arena, w, 3, str_of(name));
    if (value < 0)
        return w; /* a heartbeat */
    return pb_cat(&f->arena, w, 2, any_of(f, url, resource(f, url, name, value)));
}

static void delta_add(struct reply *r, const char *name, const char *version, int value)
{
    reply_any(r, wrapper(r->f, r->url, name, version, value));
}

static void delta_remove(struct reply *r, const char *name)
{
    r->bytes = pb_cat(&r->f->arena, r->bytes, 6, str_of(name));
}

/* One resource "name", of the response's version; a negative value: its removal. */
static void say_one(struct fixture *f, const char *url, const char *version, const char *nonce,
                    const char *name, int value)
{
    struct reply r = delta_new(f, url, version, nonce);
    if (value < 0)
        delta_remove(&r, name);
    else
        delta_add(&r, name, version, value);
    serve(&r);
}

static void skip_lines(struct fixture *f)
{
    f->next_line = f->num_lines;
    f->log[0] = 0;
}

/* --- tests: the number is the rule's --------------------------------------------------------- */

START_TEST(test_rule_1_2_10_first_requests)
{
    struct fixture f;
    struct watcher w, v;
    init(&f);
    collect(&f, &lds_ops);
    watch(&w, &f, "w", &from_ads, &eds_ops, "e2");
    watch(&v, &f, "v", &from_ads, &eds_ops, "e1");
    collect(&f, &cds_ops);
    run(&f);
    ck_assert_str_eq(last_call(&f)->method, "/envoy.service.discovery.v3.AggregatedDiscoveryService"
                                            "/DeltaAggregatedResources");
    expect_line(&f, "Cluster n=" NODE);
    expect_line(&f, "ClusterLoadAssignment n= +e1,e2");
    expect_line(&f, "Listener n=");
    expect_silence(&f);
    xds_unsubscribe(&w.sub);
    xds_unsubscribe(&v.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_1_a_stream_for_each_source)
{
    struct fixture f;
    struct watcher w;
    const struct xds_source own = {
        XDS_SOURCE_GRPC, XDS_FETCH_TIMEOUT_MS, {.cluster = {"sds", 3}, .delta = true}};
    init(&f);
    watch(&w, &f, "w", &own, &sds_ops, "s");
    run(&f);
    ck_assert_str_eq(last_call(&f)->method,
                     "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets");
    expect_line(&f, "Secret n= +s" NODE);
    /* The type need not be said where there is only one. */
    struct reply r = {&f, SDS_URL, STR_NULL};
    r.bytes = pb_cat(&f.arena, r.bytes, 5, STR("n1"));
    delta_add(&r, "s", "1", 4);
    serve(&r);
    expect_told(&f, "w:4");
    expect_line(&f, "Secret n=n1" NODE);
    xds_unsubscribe(&w.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_4_7_one_answer_for_each_response)
{
    struct fixture f;
    init(&f);
    collect(&f, &cds_ops);
    collect(&f, &lds_ops);
    run(&f);
    skip_lines(&f);
    struct reply r = delta_new(&f, CDS_URL, "sys1", "c1");
    delta_add(&r, "a", "va", 5);
    delta_add(&r, "b", "vb", 6);
    serve(&r);
    expect_line(&f, "Cluster n=c1");
    expect_told(&f, "( a=5@va b=6@vb ) settled");
    ck_assert(str_eq(xds_version(f.x, &cds_ops), STR("sys1")));
    say_one(&f, LDS_URL, "9", "l1", "web", 1);
    expect_line(&f, "Listener n=l1");
    r = delta_new(&f, CDS_URL, "sys2", "c2"); /* nothing changed, and an answer all the same */
    serve(&r);
    expect_line(&f, "Cluster n=c2");
    expect_silence(&f);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_5_6_nack_and_the_good_ones_are_used)
{
    struct fixture f;
    init(&f);
    collect(&f, &cds_ops);
    run(&f);
    say_one(&f, CDS_URL, "1", "n1", "a", 1);
    skip_lines(&f);
    struct reply r = delta_new(&f, CDS_URL, "2", "n2");
    delta_add(&r, "a", "2", BAD);
    delta_add(&r, "b", "2", 3);
    delta_add(&r, "c", "2", BAD_APPLY);
    serve(&r);
    expect_line(&f, "Cluster n=n2 err=" LONG_CLUSTER
                    " a: endpoints[0].priority: is the number of the beast\n" LONG_CLUSTER
                    " a: policy: is cursed\n" LONG_CLUSTER " c: address: is in use");
    expect_told(&f, "( b=3@2 )");
    ck_assert(str_eq(xds_version(f.x, &cds_ops), STR("1")));
    /* The versions that we say we have are those in use. */
    hang_up(&f);
    advance(&f, 500);
    expect_line(&f, "Cluster n= init=a:1,b:2" NODE);
    say_one(&f, CDS_URL, "3", "n3", "a", 9);
    expect_line(&f, "Cluster n=n3");
    expect_told(&f, "( a=9@3 )");
    expect_silence(&f);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_9_changed_names_leave_without_a_nonce)
{
    struct fixture f;
    struct watcher a, b, c;
    init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    say_one(&f, EDS_URL, "1", "n1", "ea", 1);
    skip_lines(&f);
    watch(&b, &f, "b", &from_ads, &eds_ops, "eb");
    watch(&c, &f, "c", &from_ads, &eds_ops, "ec");
    xds_unsubscribe(&a.sub);
    run(&f);
    expect_line(&f, "ClusterLoadAssignment n= +eb,ec -ea");
    /* What comes and goes within one turn is not said. */
    watch(&a, &f, "a", &from_ads, &eds_ops, "ed");
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&c.sub);
    watch(&c, &f, "c", &from_ads, &eds_ops, "ec");
    run(&f);
    expect_silence(&f);
    /* What was given up is asked for anew, and is not taken from a cache. */
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    expect_line(&f, "ClusterLoadAssignment n= +ea");
    expect_told(&f, "");
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&b.sub);
    xds_unsubscribe(&c.sub);
    run(&f);
    expect_line(&f, "ClusterLoadAssignment n= -ea,eb,ec");
    expect_silence(&f);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_9_the_answer_goes_before_the_names_it_brought)
{
    struct fixture f;
    struct watcher a, b;
    init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    skip_lines(&f);
    struct reply r = delta_new(&f, EDS_URL, "1", "n1");
    delta_add(&r, "ea", "1", 1);
    watch(&b, &f, "b", &from_ads, &eds_ops, "eb"); /* due before the response is seen */
    serve(&r);
    expect_line(&f, "ClusterLoadAssignment n=n1");
    expect_line(&f, "ClusterLoadAssignment n= +eb");
    expect_silence(&f);
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&b.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_12_removal_of_collected_ones)
{
    struct fixture f;
    init(&f);
    collect(&f, &cds_ops);
    run(&f);
    struct reply r = delta_new(&f, CDS_URL, "1", "n1");
    delta_add(&r, "a", "1", 1);
    delta_add(&r, "b", "1", 2);
    serve(&r);
    skip_lines(&f);
    say_one(&f, CDS_URL, "2", "n2", "nonesuch", -1);
    expect_line(&f, "Cluster n=n2");
    expect_told(&f, "( )");
    r = delta_new(&f, CDS_URL, "3", "n3");
    delta_remove(&r, "a");
    delta_add(&r, "c", "3", 3);
    serve(&r);
    expect_line(&f, "Cluster n=n3");
    expect_told(&f, "( c=3@3 -a )"); /* b is not named, and stays */
    hang_up(&f);
    advance(&f, 500);
    expect_line(&f, "Cluster n= init=b:1,c:3" NODE);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_12_removal_goes_first_where_the_type_needs_it)
{
    struct fixture f;
    struct resource_ops ops = lds_ops;
    ops.remove_first = true;
    ops.type_url = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    init(&f);
    xds_register(f.x, &ops, &f);
    collect(&f, &ops);
    run(&f);
    struct reply r = delta_new(&f, ops.type_url, "1", "n1");
    delta_add(&r, "a", "1", 1);
    delta_add(&r, "stays", "1", 1);
    serve(&r);
    skip_lines(&f);
    r = delta_new(&f, ops.type_url, "2", "n2");
    delta_add(&r, "b", "2", 1);
    delta_remove(&r, "a");
    serve(&r);
    expect_told(&f, "( -a b=1@2 )");
    skip_lines(&f);
    r = delta_new(&f, ops.type_url, "3", "n3");
    delta_add(&r, "b", "3", 2);
    delta_remove(&r, "b");
    serve(&r);
    expect_line(&f, "RouteConfiguration n=n3 err=envoy.config.route.v3.RouteConfiguration b: both "
                    "in resources and removed");
    expect_told(&f, "( b=2@3 )");
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_12_17_removal_of_a_named_one_and_its_return)
{
    struct fixture f;
    struct watcher a, late;
    init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    say_one(&f, EDS_URL, "1", "n1", "ea", 1);
    expect_told(&f, "a:1");
    skip_lines(&f);
    say_one(&f, EDS_URL, "2", "n2", "ea", -1);
    expect_line(&f, "ClusterLoadAssignment n=n2");
    expect_told(&f, "a:absent1");
    say_one(&f, EDS_URL, "2", "n3", "ea", -1); /* said twice, told once */
    expect_told(&f, "");
    watch(&late, &f, "late", &from_ads, &eds_ops, "ea");
    run(&f);
    expect_told(&f, "late:1"); /* the last good one, for ever */
    skip_lines(&f);
    hang_up(&f);
    advance(&f, 500);
    expect_line(&f, "ClusterLoadAssignment n= +ea" NODE); /* but the server must send it again */
    say_one(&f, EDS_URL, "3", "n4", "ea", 2);
    expect_told(&f, "a:2 late:2");
    hang_up(&f);
    skip_lines(&f);
    advance(&f, 1000);
    expect_line(&f, "ClusterLoadAssignment n= +ea init=ea:3" NODE);
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&late.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_16_a_name_that_does_not_exist)
{
    struct fixture f;
    struct watcher a, late;
    init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    say_one(&f, EDS_URL, "1", "n1", "ea", -1);
    expect_told(&f, "a:absent1");
    /* Who comes later need not wait for what the server will not say again. */
    watch(&late, &f, "late", &from_ads, &eds_ops, "ea");
    run(&f);
    expect_told(&f, "late:absent1");
    say_one(&f, EDS_URL, "2", "n2", "ea", 1);
    expect_told(&f, "a:1 late:1");
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&late.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_14_15_duplicates_strangers_and_wrong_types)
{
    struct fixture f;
    struct watcher a;
    init(&f);
    collect(&f, &cds_ops);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    skip_lines(&f);
    struct reply r = delta_new(&f, CDS_URL, "1", "n1");
    delta_add(&r, "a", "1", 1);
    delta_add(&r, "a", "1", 2);
    reply_any(&r, wrapper(&f, EDS_URL, "x", "1", 0));
    struct str w = pb_cat(&f.arena, STR_NULL, 3, STR("outer"));
    reply_any(&r, pb_cat(&f.arena, w, 2, any_of(&f, CDS_URL, resource(&f, CDS_URL, "inner", 1))));
    delta_add(&r, "nobody", "1", -1);
    reply_any(&r, STR("\x0a\x7f"));
    serve(&r);
    expect_line(&f, "Cluster n=n1 err=" LONG_CLUSTER " a: duplicate name in one response\n"
                    "resources[2]: type_url is " EDS_URL ", expected " CDS_URL "\n" LONG_CLUSTER
                    " inner: is called outer in its wrapper\n" LONG_CLUSTER
                    " nobody: a Resource without a body, of a version that is not here\n"
                    "resources[5]: malformed protobuf in envoy.service.discovery.v3.Resource");
    expect_told(&f, "( a=1@1 ) settled");
    say_one(&f, EDS_URL, "1", "n2", "stranger", BAD);
    expect_line(&f, "ClusterLoadAssignment n=n2");
    say_one(&f, SDS_URL, "1", "n3", "s", 1);
    expect_silence(&f);
    say_one(&f, EDS_URL, "2", "n4", "ea", 1);
    expect_line(&f, "ClusterLoadAssignment n=n4");
    xds_unsubscribe(&a.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_16_no_answer_in_time)
{
    struct fixture f;
    struct watcher a;
    init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    advance(&f, XDS_FETCH_TIMEOUT_MS - 1);
    expect_told(&f, "");
    advance(&f, 1);
    expect_told(&f, "a:absent0");
    say_one(&f, EDS_URL, "1", "n1", "ea", 7);
    expect_told(&f, "a:7");
    xds_unsubscribe(&a.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_19_a_second_watcher_is_served_from_what_is_there)
{
    struct fixture f;
    struct watcher a, b;
    init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    say_one(&f, EDS_URL, "1", "n1", "ea", 7);
    skip_lines(&f);
    watch(&b, &f, "b", &from_ads, &eds_ops, "ea"); /* the cluster that takes the place of a's */
    xds_unsubscribe(&a.sub);
    run(&f);
    expect_told(&f, "b:7");
    expect_silence(&f);
    xds_unsubscribe(&b.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_20_pause_holds_back_names_and_no_answer)
{
    struct fixture f;
    struct watcher a, b;
    init(&f);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    skip_lines(&f);
    xds_pause(f.x, &eds_ops);
    watch(&b, &f, "b", &from_ads, &eds_ops, "eb");
    run(&f);
    expect_silence(&f);
    say_one(&f, EDS_URL, "1", "n1", "ea", 1);
    expect_line(&f, "ClusterLoadAssignment n=n1");
    expect_silence(&f);
    xds_resume(f.x, &eds_ops);
    run(&f);
    expect_line(&f, "ClusterLoadAssignment n= +eb");
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&b.sub);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_21_22_reconnect_says_everything_again)
{
    struct fixture f;
    struct watcher a, b, c;
    init(&f);
    collect(&f, &cds_ops);
    collect(&f, &lds_ops);
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    watch(&b, &f, "b", &from_ads, &eds_ops, "eb");
    run(&f);
    say_one(&f, CDS_URL, "5", "n5", "c", 1);
    say_one(&f, EDS_URL, "8", "n8", "ea", 1);
    skip_lines(&f);
    hang_up(&f);
    watch(&c, &f, "c", &from_ads, &eds_ops, "ec");
    xds_unsubscribe(&a.sub);
    advance(&f, 500);
    ck_assert_uint_eq(f.num_calls, 2);
    /* What is not wanted any more is not known either; no nonce; nothing that was not had. */
    expect_line(&f, "Cluster n= init=c:5" NODE);
    expect_line(&f, "ClusterLoadAssignment n= +eb,ec");
    expect_line(&f, "Listener n=");
    expect_silence(&f);
    expect_told(&f, "");
    say_one(&f, EDS_URL, "9", "m1", "eb", 2);
    expect_line(&f, "ClusterLoadAssignment n=m1");
    expect_told(&f, "b:2");
    watch(&a, &f, "a", &from_ads, &eds_ops, "ea");
    run(&f);
    expect_line(&f, "ClusterLoadAssignment n= +ea"); /* never versions later on */
    skip_lines(&f);
    xds_unsubscribe(&a.sub);
    xds_unsubscribe(&b.sub);
    xds_unsubscribe(&c.sub);
    run(&f);
    expect_line(&f, "ClusterLoadAssignment n= -ea,eb,ec");
    hang_up(&f);
    advance(&f, 1000);
    expect_line(&f, "Cluster n= init=c:5" NODE);
    expect_line(&f, "Listener n="); /* a first request for no endpoints would ask for all */
    expect_silence(&f);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_23_malformed_as_a_whole_ends_the_stream)
{
    struct fixture f;
    static const char *const bad[] = {"\x0a\x7f", "\x08\x01", "\x32\x01\xff", "\x3a\x02\x0a\x7f"};
    init(&f);
    collect(&f, &cds_ops);
    run(&f);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        skip_lines(&f);
        serve_on(last_call(&f), str_of(bad[i]));
        ck_assert(!xds_connected(f.x));
        expect_silence(&f);
        advance(&f, 30000);
        expect_line(&f, "Cluster n=" NODE);
    }
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_24_rate_limit)
{
    struct fixture f;
    struct watcher w;
    struct xds_server server = delta_server;
    server.rate_limited = true;
    server.rate_tokens = 1;
    server.rate_fill = 1;
    fixture_init_with(&f, &server);
    collect(&f, &cds_ops);
    watch(&w, &f, "w", &from_ads, &eds_ops, "e");
    run(&f);
    expect_line(&f, "Cluster n=" NODE);
    expect_silence(&f);
    advance(&f, 1000);
    expect_line(&f, "ClusterLoadAssignment n= +e");
    expect_silence(&f);
    xds_unsubscribe(&w.sub);
    fixture_cleanup(&f);
}
END_TEST

/* Resource.ttl, 6: Duration. */
static struct str with_ttl(struct fixture *f, struct str resource, uint64_t seconds)
{
    struct str ttl = STR("\x08");
    put_varint(&ttl, &f->arena, seconds);
    return pb_cat(&f->arena, resource, 6, ttl);
}

START_TEST(test_rule_26_time_to_live)
{
    struct fixture f;
    init(&f);
    collect(&f, &cds_ops);
    run(&f);
    struct reply r = delta_new(&f, CDS_URL, "1", "n1");
    reply_any(&r, with_ttl(&f, wrapper(&f, CDS_URL, "a", "1", 1), 2));
    reply_any(&r, with_ttl(&f, wrapper(&f, CDS_URL, "b", "1", 2), 2));
    reply_any(&r, with_ttl(&f, wrapper(&f, CDS_URL, "c", "1", 3), 2));
    serve(&r);
    skip_lines(&f);
    advance(&f, 1000);
    r = delta_new(&f, CDS_URL, "1", "n2");
    reply_any(&r, with_ttl(&f, wrapper(&f, CDS_URL, "a", "1", -1), 2)); /* lives on */
    delta_add(&r, "b", "2", 2);                                         /* for ever */
    f.num_compiles = 0;
    serve(&r);
    expect_line(&f, "Cluster n=n2");
    ck_assert_uint_eq(f.num_compiles, 0);
    expect_told(&f, "( )");
    advance(&f, 1000);
    expect_told(&f, "( -c )");
    advance(&f, 1000);
    expect_told(&f, "( -a )");
    advance(&f, 10000);
    expect_told(&f, "");
    r = delta_new(&f, CDS_URL, "1", "n3");
    reply_any(&r, with_ttl(&f, wrapper(&f, CDS_URL, "d", "1", 1), 0));
    reply_any(&r, with_ttl(&f, wrapper(&f, CDS_URL, "e", "1", 1), UINT64_MAX));
    serve(&r);
    expect_line(&f, "Cluster n=n3 err="
                    "resources[0]: ttl of envoy.service.discovery.v3.Resource is not a duration "
                    "above 0\n"
                    "resources[1]: ttl of envoy.service.discovery.v3.Resource is not a duration "
                    "above 0");
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_26_the_end_of_a_named_one)
{
    struct fixture f;
    struct watcher w;
    init(&f);
    watch(&w, &f, "w", &from_ads, &eds_ops, "e");
    run(&f);
    struct reply r = delta_new(&f, EDS_URL, "1", "n1");
    reply_any(&r, with_ttl(&f, wrapper(&f, EDS_URL, "e", "1", 1), 2));
    serve(&r);
    expect_told(&f, "w:1");
    hang_up(&f); /* also while nobody is there to renew it */
    advance(&f, 2000);
    expect_told(&f, "w:absent1");
    run(&f);
    advance(&f, 30000); /* connected again */
    skip_lines(&f);
    r = delta_new(&f, EDS_URL, "1", "n2");
    reply_any(&r, with_ttl(&f, wrapper(&f, EDS_URL, "e", "1", -1), 2)); /* too late */
    serve(&r);
    expect_told(&f, "");
    expect_line(&f, "ClusterLoadAssignment n=n2 err="
                    "envoy.config.endpoint.v3.ClusterLoadAssignment e: a Resource without a body, "
                    "of a version that is not here");
    xds_unsubscribe(&w.sub);
    fixture_cleanup(&f);
}
END_TEST

/* A field of the envelope that is not honoured is warned about once, and disturbs nothing. */
START_TEST(test_fields_that_are_ignored_are_named)
{
    struct fixture f;
    init(&f);
    collect(&f, &cds_ops);
    run(&f);
    skip_lines(&f);
    size_t before = map_count(&f.x->warned);
    struct reply r = delta_new(&f, CDS_URL, "1", "n1");
    reply_any(&r, pb_cat(&f.arena, wrapper(&f, CDS_URL, "a", "1", 1), 4, STR("alias")));
    reply_any(&r, pb_cat(&f.arena, wrapper(&f, CDS_URL, "b", "1", 2), 4, STR("alias")));
    reply_any(&r, pb_cat(&f.arena, wrapper(&f, CDS_URL, "c", "1", 3), 7, STR("\x08\x01")));
    r.bytes = pb_cat(&f.arena, r.bytes, 9, STR_NULL);
    serve(&r);
    expect_line(&f, "Cluster n=n1");
    expect_told(&f, "( a=1@1 b=2@1 c=3@1 ) settled");
    ck_assert_uint_eq(map_count(&f.x->warned), before + 3);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_rule_40_a_large_response_is_taken_in_slices)
{
    struct fixture f;
    char name[32];
    init(&f);
    collect(&f, &cds_ops);
    run(&f);
    struct reply r = delta_new(&f, CDS_URL, "1", "n1");
    for (int i = 0; i < 800; i++) {
        snprintf(name, sizeof(name), "c%d", i);
        delta_add(&r, name, "1", i + 1);
    }
    delta_remove(&r, "c1");
    struct xds_call *c = last_call(&f);
    skip_lines(&f);
    c->receiving = false;
    c->ev->on_message(c->arg, r.bytes);
    ck_assert_uint_lt(f.num_compiles, 800);
    /* Half way the stream breaks: what was applied is what we say we have. */
    hang_up(&f);
    size_t applied = f.num_compiles;
    ck_assert_uint_gt(applied, 0);
    advance(&f, 500);
    const char *line = f.lines[f.next_line];
    size_t known = strstr(line, "init=") != NULL;
    for (const char *p = line; (p = strchr(p, ',')) != NULL; p++)
        known++;
    ck_assert_uint_eq(known, applied);
    fixture_cleanup(&f);
}
END_TEST

static void add(TCase *t)
{
    tcase_add_test(t, test_rule_1_2_10_first_requests);
    tcase_add_test(t, test_rule_1_a_stream_for_each_source);
    tcase_add_test(t, test_rule_4_7_one_answer_for_each_response);
    tcase_add_test(t, test_rule_5_6_nack_and_the_good_ones_are_used);
    tcase_add_test(t, test_rule_9_changed_names_leave_without_a_nonce);
    tcase_add_test(t, test_rule_9_the_answer_goes_before_the_names_it_brought);
    tcase_add_test(t, test_rule_12_removal_of_collected_ones);
    tcase_add_test(t, test_rule_12_removal_goes_first_where_the_type_needs_it);
    tcase_add_test(t, test_rule_12_17_removal_of_a_named_one_and_its_return);
    tcase_add_test(t, test_rule_14_15_duplicates_strangers_and_wrong_types);
    tcase_add_test(t, test_rule_16_a_name_that_does_not_exist);
    tcase_add_test(t, test_rule_16_no_answer_in_time);
    tcase_add_test(t, test_rule_19_a_second_watcher_is_served_from_what_is_there);
    tcase_add_test(t, test_rule_20_pause_holds_back_names_and_no_answer);
    tcase_add_test(t, test_rule_21_22_reconnect_says_everything_again);
    tcase_add_test(t, test_rule_23_malformed_as_a_whole_ends_the_stream);
    tcase_add_test(t, test_rule_24_rate_limit);
    tcase_add_test(t, test_rule_26_time_to_live);
    tcase_add_test(t, test_rule_26_the_end_of_a_named_one);
    tcase_add_test(t, test_fields_that_are_ignored_are_named);
    tcase_add_test(t, test_rule_40_a_large_response_is_taken_in_slices);
}

int main(void)
{
    return test_main("xds/delta", add);
}
