#include "base/stats_prometheus.h"
#include "base/stats_tags.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define TEST_STATS(X)                                                                              \
    X(RQ_TOTAL, "upstream_rq_total", COUNTER)                                                      \
    X(RQ_2XX, "upstream_rq_2xx", COUNTER)                                                          \
    X(RQ_4XX, "upstream_rq_4xx", COUNTER)                                                          \
    X(CX_ACTIVE, "upstream_cx_active", GAUGE)                                                      \
    X(RQ_TIME, "upstream_rq_time", HISTOGRAM)                                                      \
    X(VERSION, "version_text", TEXT)
enum { TEST_STATS(STATS_ENUM) NUM_STATS };
static const struct stats_def defs[] = {TEST_STATS(STATS_DEF)};
static struct stats_table table = STATS_TABLE(defs);

static const struct stats_def one_def[] = {{"downstream_cx_total", STATS_COUNTER}};
static struct stats_table one = STATS_TABLE(one_def);
static const struct stats_def live_def[] = {{"live", STATS_GAUGE}};
static struct stats_table live = STATS_TABLE(live_def);

static char printed[65536];
static struct arena arena;
static struct str err;

static void on_text(void *arg, struct str text)
{
    size_t len = strlen(printed);
    ck_assert_uint_lt(len + text.len, sizeof(printed));
    memcpy(printed + len, text.p, text.len);
    printed[len + text.len] = '\0';
}

static const char *print(struct stats_prometheus p)
{
    printed[0] = '\0';
    p.emit = on_text;
    stats_prometheus_write(&p);
    return printed;
}

static struct stats_scope *cluster(const char *name)
{
    struct stats_part parts[] = {{STR("cluster")}, {str_of(name), "envoy_cluster_name"}};
    return stats_scope_new(&table, parts, ARRAY_LEN(parts));
}

static void setup(void)
{
    stats_init(2);
    arena_init(&arena, 0);
}

static void teardown(void)
{
    stats_tags_reset();
    stats_prometheus_reset();
    stats_cleanup();
    arena_cleanup(&arena);
    mem_free(table.sorted);
    table.sorted = NULL;
}

START_TEST(test_as_envoy_prints_it)
{
    struct stats_scope *a = cluster("a"), *b = cluster("b.c");
    struct stats_scope *server = stats_scope_named(&live, STR("server"));
    stats_add(a, 1, RQ_TOTAL, 3);
    stats_inc(b, 1, RQ_4XX);
    stats_count_code(b, 1, "upstream_rq_", 404);
    stats_count_code(b, 1, "external.upstream_rq_", 404);
    stats_gauge_set(server, 0, 0, 1);
    stats_gauge_set(b, 0, CX_ACTIVE, 0);
    ck_assert_str_eq(
        print((struct stats_prometheus){.used_only = true}),
        "# TYPE envoy_cluster_external_upstream_rq counter\n"
        "envoy_cluster_external_upstream_rq{envoy_response_code=\"404\","
        "envoy_cluster_name=\"b.c\"} 1\n"
        "# TYPE envoy_cluster_upstream_rq counter\n"
        "envoy_cluster_upstream_rq{envoy_response_code=\"404\",envoy_cluster_name=\"b.c\"} 1\n"
        "# TYPE envoy_cluster_upstream_rq_total counter\n"
        "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"a\"} 3\n"
        "# TYPE envoy_cluster_upstream_rq_xx counter\n"
        "envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"4\","
        "envoy_cluster_name=\"b.c\"} 1\n"
        "# TYPE envoy_cluster_upstream_cx_active gauge\n"
        "envoy_cluster_upstream_cx_active{envoy_cluster_name=\"b.c\"} 0\n"
        "# TYPE envoy_server_live gauge\n"
        "envoy_server_live{} 1\n");
    stats_scope_free(&a);
    stats_scope_free(&b);
    stats_scope_free(&server);
}
END_TEST

START_TEST(test_one_type_line_a_metric)
{
    struct stats_scope *a = cluster("a"), *b = cluster("b");
    const char *all = print((struct stats_prometheus){0}), *p = all;
    int n = 0;
    while ((p = strstr(p, "# TYPE envoy_cluster_upstream_rq_xx counter\n"))) {
        n++;
        p++;
    }
    ck_assert_int_eq(n, 1);
    ck_assert(strstr(all, "envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"2\","
                          "envoy_cluster_name=\"b\"} 0\n"
                          "envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"4\","
                          "envoy_cluster_name=\"a\"} 0\n") != NULL);
    ck_assert(strstr(all, "version_text") == NULL);
    stats_scope_free(&a);
    stats_scope_free(&b);
}
END_TEST

START_TEST(test_histogram)
{
    struct stats_scope *a = cluster("a");
    stats_record(a, 1, RQ_TIME, 0);
    stats_record(a, 1, RQ_TIME, 5);
    stats_record(a, 0, RQ_TIME, 2000000);
    ck_assert(strstr(print((struct stats_prometheus){.used_only = true}), "rq_time") == NULL);
    stats_flush();
    const char *all = print((struct stats_prometheus){.used_only = true});
    ck_assert(strstr(all, "# TYPE envoy_cluster_upstream_rq_time histogram\n"
                          "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"a\","
                          "le=\"0.5\"} 1\n") != NULL);
    ck_assert(strstr(all, "{envoy_cluster_name=\"a\",le=\"5\"} 2\n") != NULL);
    ck_assert(strstr(all, "le=\"1800000\"} 2\n") != NULL);
    ck_assert(strstr(all, "le=\"3600000\"} 3\n") != NULL);
    ck_assert(strstr(all, "le=\"+Inf\"} 3\n"
                          "envoy_cluster_upstream_rq_time_sum{envoy_cluster_name=\"a\"} 2000005\n"
                          "envoy_cluster_upstream_rq_time_count{envoy_cluster_name=\"a\"} 3\n"));
    stats_scope_free(&a);
}
END_TEST

static const double two_bounds[] = {1.5, 100};
static const double *bounds_of(void *arg, struct str name, size_t *num)
{
    *num = 2;
    return str_eq(name, STR("cluster.a.upstream_rq_time")) ? two_bounds : NULL;
}

START_TEST(test_other_bounds)
{
    struct stats_scope *a = cluster("a");
    stats_record(a, 1, RQ_TIME, 5);
    stats_flush();
    stats_set_bounds(bounds_of, NULL);
    ck_assert(strstr(print((struct stats_prometheus){.used_only = true}),
                     "le=\"1.5\"} 0\nenvoy_cluster_upstream_rq_time_bucket{"
                     "envoy_cluster_name=\"a\",le=\"100\"} 1\n") != NULL);
    stats_scope_free(&a);
}
END_TEST

static bool keep_rq_total(void *arg, struct str name)
{
    return str_eq(name, STR("cluster.a\"\\\nb.upstream_rq_total"));
}

START_TEST(test_filter_and_escaping)
{
    struct stats_scope *a = cluster("a\"\\\nb");
    ck_assert_str_eq(print((struct stats_prometheus){.keep = keep_rq_total}),
                     "# TYPE envoy_cluster_upstream_rq_total counter\n"
                     "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"a\\\"\\\\\\nb\"} 0\n");
    stats_scope_free(&a);
}
END_TEST

START_TEST(test_texts_when_asked)
{
    struct stats_scope *a = cluster("a");
    stats_text_set(a, VERSION, STR("v\"1"));
    ck_assert_str_eq(print((struct stats_prometheus){.used_only = true, .texts = true}),
                     "# TYPE envoy_cluster_version_text gauge\n"
                     "envoy_cluster_version_text{envoy_cluster_name=\"a\","
                     "text_value=\"v\\\"1\"} 0\n");
    stats_scope_free(&a);
}
END_TEST

START_TEST(test_stem_and_nested_parts)
{
    struct stats_part parts[] = {{STR("listener")},
                                 {STR("127.0.0.1:80"), "envoy_listener_address"},
                                 {STR("0"), "envoy_worker_id", "worker"}};
    struct stats_scope *s = stats_scope_new(&one, parts, 3);
    stats_inc(s, 0, 0);
    ck_assert(str_eq(s->prefix, STR("listener.127.0.0.1_80.worker_0.")));
    static const char *const expected =
        "# TYPE envoy_listener_worker_downstream_cx_total counter\n"
        "envoy_listener_worker_downstream_cx_total{envoy_worker_id=\"0\","
        "envoy_listener_address=\"127.0.0.1_80\"} 1\n";
    ck_assert_str_eq(print((struct stats_prometheus){0}), expected);
    /* The same, when another pattern makes every name be cut one by one. */
    ck_assert(stats_tags_add_pattern(STR("x"), STR("^nothing(.)"), &arena, &err));
    ck_assert_str_eq(print((struct stats_prometheus){0}),
                     "# TYPE envoy_listener_worker_downstream_cx_total counter\n"
                     "envoy_listener_worker_downstream_cx_total{envoy_listener_address="
                     "\"127.0.0.1_80\",envoy_worker_id=\"0\"} 1\n");
    stats_scope_free(&s);
}
END_TEST

START_TEST(test_patterns_of_the_bootstrap)
{
    struct stats_scope *a = cluster("outbound|80||x.ns.svc.cluster.local;");
    struct stats_part parts[] = {{STR("listener")},
                                 {STR("0.0.0.0_80"), "envoy_listener_address"},
                                 {STR("http")},
                                 {STR("in_0.0.0.0_9080"), "envoy_http_conn_manager_prefix"}};
    struct stats_scope *l = stats_scope_new(&one, parts, 4);
    stats_tags_use_defaults(false);
    ck_assert(stats_tags_add_pattern(STR("cluster_name"), STR("^cluster(\\.(.+);)"), &arena, &err));
    ck_assert(
        stats_tags_add_pattern(STR("response_code_class"), STR("_rq(_(\\dxx))$"), &arena, &err));
    ck_assert(stats_tags_add_pattern(
        STR("http.prefix"), STR("^listener(?=\\.).*?\\.http\\.(((?:in_[_.[:digit:]]*))\\.)"),
        &arena, &err));
    stats_tags_add_fixed(STR("zone"), STR("z\"1"));
    stats_inc(a, 0, RQ_2XX);
    stats_inc(l, 0, 0);
    ck_assert_str_eq(print((struct stats_prometheus){.used_only = true}),
                     "# TYPE envoy_cluster_upstream_rq counter\n"
                     "envoy_cluster_upstream_rq{cluster_name="
                     "\"outbound|80||x.ns.svc.cluster.local\",response_code_class=\"2xx\","
                     "zone=\"z\\\"1\"} 1\n"
                     "# TYPE envoy_listener_0_0_0_0_80_http_downstream_cx_total counter\n"
                     "envoy_listener_0_0_0_0_80_http_downstream_cx_total{"
                     "http_prefix=\"in_0.0.0.0_9080\",zone=\"z\\\"1\"} 1\n");
    stats_scope_free(&a);
    stats_scope_free(&l);
}
END_TEST

START_TEST(test_bad_patterns)
{
    ck_assert(!stats_tags_add_pattern(STR("x"), STR("("), &arena, &err));
    ck_assert_uint_gt(err.len, 0);
    err = STR_NULL;
    ck_assert(!stats_tags_add_pattern(STR("x"), STR("no group"), &arena, &err));
    ck_assert_uint_gt(err.len, 0);
    ck_assert(!stats_tags_add_pattern(STR("x"), STR("(?=a)(b)"), &arena, &err));
    ck_assert(!stats_tags_by_name());
}
END_TEST

START_TEST(test_namespace_without_prefix)
{
    struct stats_part parts[] = {{STR("istiocustom")}, {STR("istio_x")}};
    struct stats_scope *s = stats_scope_new(&live, parts, 2);
    stats_prometheus_add_namespace(STR("istiocustom"));
    ck_assert_str_eq(print((struct stats_prometheus){0}),
                     "# TYPE istio_x_live gauge\nistio_x_live{} 0\n");
    stats_scope_free(&s);
}
END_TEST

START_TEST(test_fixed_tags_with_defaults)
{
    struct stats_scope *a = cluster("a");
    stats_tags_add_fixed(STR("az"), STR("1"));
    stats_inc(a, 0, RQ_TOTAL);
    ck_assert(strstr(print((struct stats_prometheus){.used_only = true}),
                     "{envoy_cluster_name=\"a\",az=\"1\"} 1\n") != NULL);
    stats_scope_free(&a);
}
END_TEST

static bool read_seven(void *arg, uint32_t idx, uint64_t *out)
{
    ck_assert_ptr_nonnull(arg);
    *out = 7;
    return idx == CX_ACTIVE;
}

START_TEST(test_slices_give_the_same)
{
    struct stats_scope *a = cluster("a"), *b = cluster("b"), *c = cluster("c");
    stats_count_code(a, 1, "upstream_rq_", 200);
    stats_count_code(c, 0, "upstream_rq_", 503);
    struct arena copy;
    arena_init(&copy, 0);
    struct str whole = arena_str(&copy, str_of(print((struct stats_prometheus){.texts = true})));
    for (size_t lines = 1; lines < 50; lines += 3) {
        struct stats_prometheus p = {.texts = true, .emit = on_text};
        struct stats_prometheus_run *r = stats_prometheus_begin(&p);
        unsigned slices = 1;
        printed[0] = '\0';
        while (stats_prometheus_more(r, lines))
            slices++;
        stats_prometheus_end(&r);
        ck_assert_ptr_null(r);
        ck_assert_str_eq(printed, whole.p);
        ck_assert_uint_gt(slices, 1);
    }
    arena_cleanup(&copy);
    stats_scope_free(&a);
    stats_scope_free(&b);
    stats_scope_free(&c);
}
END_TEST

static bool keep_none(void *arg, struct str name)
{
    ++*(unsigned *)arg;
    return false;
}

START_TEST(test_what_is_not_printed_counts_too)
{
    struct stats_scope *a = cluster("a");
    unsigned looked = 0;
    struct stats_prometheus p = {.keep = keep_none, .emit = on_text, .arg = &looked};
    struct stats_prometheus_run *r = stats_prometheus_begin(&p);
    ck_assert(stats_prometheus_more(r, 2));
    ck_assert_uint_eq(looked, 2);
    stats_prometheus_end(&r); /* in the middle */
    stats_scope_free(&a);
}
END_TEST

START_TEST(test_scopes_may_go_between_slices)
{
    struct stats_scope *a = cluster("a"), *b = cluster("b");
    int owner;
    stats_scope_set_reader(a, read_seven, &owner);
    stats_add(a, 0, RQ_TOTAL, 3);
    struct stats_prometheus p = {.emit = on_text};
    struct stats_prometheus_run *r = stats_prometheus_begin(&p),
                                *other = stats_prometheus_begin(&p);
    printed[0] = '\0';
    ck_assert(stats_prometheus_more(r, 1));
    stats_scope_free(&a); /* whatever the reader stands for is gone too */
    while (stats_prometheus_more(r, 1))
        continue;
    ck_assert(strstr(printed, "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"a\"} 3\n"));
    ck_assert(strstr(printed, "envoy_cluster_upstream_cx_active{envoy_cluster_name=\"a\"} 0\n"));
    stats_prometheus_end(&r);
    ck_assert(strstr(print((struct stats_prometheus){0}), "{envoy_cluster_name=\"a\"}"));
    stats_prometheus_end(&other);
    ck_assert(!strstr(print((struct stats_prometheus){0}), "{envoy_cluster_name=\"a\"}"));
    stats_scope_free(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/stats_prometheus");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_as_envoy_prints_it);
    tcase_add_test(tc, test_one_type_line_a_metric);
    tcase_add_test(tc, test_histogram);
    tcase_add_test(tc, test_other_bounds);
    tcase_add_test(tc, test_filter_and_escaping);
    tcase_add_test(tc, test_texts_when_asked);
    tcase_add_test(tc, test_stem_and_nested_parts);
    tcase_add_test(tc, test_patterns_of_the_bootstrap);
    tcase_add_test(tc, test_bad_patterns);
    tcase_add_test(tc, test_namespace_without_prefix);
    tcase_add_test(tc, test_fixed_tags_with_defaults);
    tcase_add_test(tc, test_slices_give_the_same);
    tcase_add_test(tc, test_what_is_not_printed_counts_too);
    tcase_add_test(tc, test_scopes_may_go_between_slices);
    tcase_add_checked_fixture(tc, setup, teardown);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
