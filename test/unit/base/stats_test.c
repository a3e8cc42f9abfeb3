#include "base/stats.h"
#include "base/stats_visit.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define TEST_STATS(X)                                                                              \
    X(RQ_TOTAL, "upstream_rq_total", COUNTER)                                                      \
    X(CX_ACTIVE, "upstream_cx_active", GAUGE)                                                      \
    X(RQ_TIME, "upstream_rq_time", HISTOGRAM)                                                      \
    X(OPEN, "circuit_breakers.default.cx_open", GAUGE)                                             \
    X(VERSION, "version_text", TEXT)
enum { TEST_STATS(STATS_ENUM) NUM_STATS };
static const struct stats_def defs[] = {TEST_STATS(STATS_DEF)};
static struct stats_table table = STATS_TABLE(defs);

static const struct stats_def one_def[] = {{"ssl.handshake", STATS_COUNTER}};
static struct stats_table one = STATS_TABLE(one_def);

static struct stats_scope *cluster(const char *name)
{
    struct stats_part parts[] = {{STR("cluster"), NULL}, {str_of(name), "envoy_cluster_name"}};
    return stats_scope_new(&table, parts, ARRAY_LEN(parts));
}

static void setup(void)
{
    stats_init(3);
}

static void teardown(void)
{
    stats_cleanup();
    mem_free(table.sorted);
    mem_free(one.sorted);
    table.sorted = one.sorted = NULL;
}

static char printed[8192];
static bool print(void *arg, const struct stats_view *v)
{
    size_t len = strlen(printed);
    (void)snprintf(printed + len, sizeof(printed) - len, "%.*s: %llu%s%.*s%s\n", STR_ARG(v->name),
                   (unsigned long long)v->value, v->used ? "" : " unused", STR_ARG(v->text),
                   v->histogram ? " values" : "");
    return true;
}

static const char *show(unsigned kinds)
{
    printed[0] = '\0';
    ck_assert(stats_visit(kinds, print, NULL));
    return printed;
}

START_TEST(test_sums_over_threads)
{
    struct stats_scope *s = cluster("a");
    ck_assert_uint_eq(stats_sum(s, RQ_TOTAL), 0);
    ck_assert(!stats_used(s, RQ_TOTAL));
    stats_inc(s, 0, RQ_TOTAL);
    stats_add(s, 2, RQ_TOTAL, 41);
    ck_assert_uint_eq(stats_sum(s, RQ_TOTAL), 42);
    ck_assert(stats_used(s, RQ_TOTAL));
    stats_gauge_inc(s, 1, CX_ACTIVE);
    stats_gauge_dec(s, 2, CX_ACTIVE); /* closed by another thread: wraps, and adds up again */
    ck_assert_uint_eq(stats_sum(s, CX_ACTIVE), 0);
    ck_assert(stats_used(s, CX_ACTIVE));
    stats_gauge_add(s, 1, CX_ACTIVE, 10);
    stats_gauge_add(s, 1, CX_ACTIVE, -3);
    ck_assert_uint_eq(stats_sum(s, CX_ACTIVE), 7);
    stats_gauge_set(s, 1, CX_ACTIVE, UINT64_MAX); /* a version hash needs all 64 bits */
    stats_gauge_set(s, 2, CX_ACTIVE, 0);
    ck_assert_uint_eq(stats_sum(s, CX_ACTIVE), UINT64_MAX);
    stats_scope_free(&s);
    ck_assert_ptr_null(s);
}
END_TEST

START_TEST(test_gauge_set_to_zero_is_used)
{
    struct stats_scope *s = cluster("a");
    ck_assert(!stats_used(s, CX_ACTIVE));
    stats_gauge_set(s, 0, CX_ACTIVE, 0);
    ck_assert(stats_used(s, CX_ACTIVE));
    ck_assert(!stats_used(s, OPEN));
    stats_scope_free(&s);
}
END_TEST

START_TEST(test_visit_is_sorted)
{
    struct stats_scope *b = cluster("b"), *a = cluster("a"), *ab = cluster("a-b");
    struct stats_part ssl_parts[] = {{STR("cluster"), NULL}, {STR("a"), "envoy_cluster_name"}};
    struct stats_scope *ssl = stats_scope_new(&one, ssl_parts, 2);
    struct stats_scope *top = stats_scope_named(&one, STR("cluster"));
    stats_count_code(a, 1, "upstream_rq_", 503);
    stats_count_code(a, 2, "upstream_rq_", 200);
    stats_count_code(a, 1, "upstream_rq_", 200);
    stats_count_name(a, 1, "ssl.ciphers.", STR("AES"));
    stats_inc(b, 1, RQ_TOTAL);
    stats_gauge_set(b, 0, CX_ACTIVE, 0);
    ck_assert_str_eq(show(STATS_SHOW_NUMBERS),
                     "cluster.a-b.circuit_breakers.default.cx_open: 0 unused\n"
                     "cluster.a-b.upstream_cx_active: 0 unused\n"
                     "cluster.a-b.upstream_rq_total: 0 unused\n"
                     "cluster.a.circuit_breakers.default.cx_open: 0 unused\n"
                     "cluster.a.ssl.ciphers.AES: 1\n"
                     "cluster.a.ssl.handshake: 0 unused\n"
                     "cluster.a.upstream_cx_active: 0 unused\n"
                     "cluster.a.upstream_rq_200: 2\n"
                     "cluster.a.upstream_rq_503: 1\n"
                     "cluster.a.upstream_rq_total: 0 unused\n"
                     "cluster.b.circuit_breakers.default.cx_open: 0 unused\n"
                     "cluster.b.upstream_cx_active: 0\n"
                     "cluster.b.upstream_rq_total: 1\n"
                     "cluster.ssl.handshake: 0 unused\n");
    uint64_t v = 0;
    ck_assert(stats_find(STR("cluster.a.upstream_rq_200"), &v) && v == 2);
    ck_assert(!stats_find(STR("cluster.a.upstream_rq_201"), &v));
    ck_assert(!stats_find(STR("cluster.a.upstream_rq_time"), &v));
    stats_scope_free(&a);
    stats_scope_free(&b);
    stats_scope_free(&ab);
    stats_scope_free(&ssl);
    stats_scope_free(&top);
    ck_assert_str_eq(show(STATS_SHOW_NUMBERS), "");
}
END_TEST

static bool stop_at_third(void *arg, const struct stats_view *v)
{
    return ++*(int *)arg < 3;
}

START_TEST(test_visit_can_stop)
{
    struct stats_scope *s = cluster("a"), *t = cluster("b");
    int seen = 0;
    ck_assert(!stats_visit(STATS_SHOW_NUMBERS, stop_at_third, &seen));
    ck_assert_int_eq(seen, 3);
    stats_scope_free(&s);
    stats_scope_free(&t);
}
END_TEST

START_TEST(test_same_table_and_prefix_is_one_scope)
{
    struct stats_scope *a = cluster("x"), *b = cluster("x");
    ck_assert_ptr_eq(a, b);
    stats_inc(a, 0, RQ_TOTAL);
    stats_scope_free(&a);
    ck_assert_uint_eq(stats_sum(b, RQ_TOTAL), 1);
    stats_scope_free(&b);
    b = cluster("x");
    ck_assert_uint_eq(stats_sum(b, RQ_TOTAL), 0);
    stats_scope_free(&b);
}
END_TEST

START_TEST(test_names_are_cleaned)
{
    struct stats_scope *s = cluster("outbound|80||a:b");
    ck_assert(str_eq(s->prefix, STR("cluster.outbound|80||a_b.")));
    ck_assert(str_eq(s->base, STR("cluster.")));
    ck_assert_uint_eq(s->num_tags, 1);
    ck_assert(str_eq(s->tags[0].text, STR("outbound|80||a_b")));
    char out[64];
    ck_assert(str_eq(stats_clean_name(STR("a://b:/c:d\0e/f"), out), STR("a_b_c_d_e/f")));
    stats_scope_free(&s);
}
END_TEST

START_TEST(test_histograms_by_interval)
{
    struct stats_scope *s = cluster("a");
    stats_flush();
    ck_assert_ptr_null(stats_histogram(s, RQ_TIME));
    stats_record(s, 1, RQ_TIME, 5);
    stats_record(s, 2, RQ_TIME, 7);
    ck_assert_ptr_null(stats_histogram(s, RQ_TIME)); /* not before a flush */
    ck_assert_str_eq(show(STATS_SHOW_HISTOGRAMS), "cluster.a.upstream_rq_time: 0 unused\n");
    stats_flush();
    const struct stats_merged *m = stats_histogram(s, RQ_TIME);
    ck_assert_uint_eq(m->cumulative.count, 2);
    ck_assert_uint_eq(m->interval.count, 2);
    stats_record(s, 1, RQ_TIME, 5000);
    stats_flush();
    m = stats_histogram(s, RQ_TIME);
    ck_assert_uint_eq(m->cumulative.count, 3);
    ck_assert_uint_eq(m->interval.count, 1);
    ck_assert_uint_eq(m->interval.sum, 5000);
    stats_flush();
    ck_assert_uint_eq(stats_histogram(s, RQ_TIME)->interval.count, 0);
    ck_assert_uint_eq(stats_histogram(s, RQ_TIME)->cumulative.sum, 5012);
    ck_assert_str_eq(show(STATS_SHOW_HISTOGRAMS), "cluster.a.upstream_rq_time: 0 values\n");
    stats_scope_free(&s);
}
END_TEST

START_TEST(test_texts)
{
    struct stats_scope *s = cluster("a");
    ck_assert_uint_eq(stats_text_get(s, VERSION).len, 0);
    ck_assert(!stats_used(s, VERSION));
    stats_text_set(s, VERSION, STR("v1"));
    stats_text_set(s, VERSION, STR("v22"));
    ck_assert(str_eq(stats_text_get(s, VERSION), STR("v22")));
    ck_assert_str_eq(show(STATS_SHOW_TEXTS), "cluster.a.version_text: 0v22\n");
    stats_scope_free(&s);
}
END_TEST

static bool read_open(void *arg, uint32_t idx, uint64_t *out)
{
    *out = *(uint64_t *)arg;
    return idx == OPEN;
}

START_TEST(test_reader)
{
    uint64_t value = 9;
    struct stats_scope *s = cluster("a");
    stats_scope_set_reader(s, read_open, &value);
    stats_inc(s, 0, RQ_TOTAL);
    ck_assert_uint_eq(stats_sum(s, OPEN), 9);
    ck_assert_uint_eq(stats_sum(s, RQ_TOTAL), 1);
    ck_assert(stats_used(s, OPEN));
    stats_scope_free(&s);
}
END_TEST

START_TEST(test_lazy_scopes_appear_with_use)
{
    struct stats_scope *s = cluster("a");
    stats_scope_set_lazy(s);
    ck_assert_str_eq(show(STATS_SHOW_NUMBERS), "");
    stats_inc(s, 1, RQ_TOTAL);
    ck_assert(strstr(show(STATS_SHOW_NUMBERS), "cluster.a.upstream_rq_total: 1\n") != NULL);
    stats_scope_free(&s);
}
END_TEST

static bool only_rq(void *arg, struct str name)
{
    ++*(int *)arg;
    return str_find(name, STR("_rq_")) >= 0;
}

START_TEST(test_matcher)
{
    int asked = 0;
    struct stats_scope *s = cluster("a");
    stats_set_matcher(only_rq, &asked);
    stats_count_code(s, 0, "upstream_rq_", 204);
    stats_count_name(s, 0, "ssl.ciphers.", STR("x"));
    ck_assert_str_eq(show(STATS_SHOW_NUMBERS), "cluster.a.upstream_rq_204: 1\n"
                                               "cluster.a.upstream_rq_total: 0 unused\n");
    int after_first = asked;
    (void)show(STATS_SHOW_NUMBERS);
    ck_assert_int_eq(asked - after_first, 2); /* only the dynamic ones are asked again */
    stats_set_matcher(NULL, NULL);
    ck_assert(strstr(show(STATS_SHOW_NUMBERS), "ssl.ciphers.x") != NULL);
    stats_scope_free(&s);
}
END_TEST

START_TEST(test_dynamic_is_bounded)
{
    struct stats_scope *s = cluster("a");
    char name[16];
    uint64_t v = 0;
    for (int i = 0; i < STATS_MAX_DYNAMIC + 100; i++) {
        int n = snprintf(name, sizeof(name), "n%d", i);
        stats_count_name(s, 0, "ssl.ciphers.", str_n(name, (size_t)n));
    }
    for (uint32_t i = 0; i < 5; i++)
        stats_count_code(s, 0, "upstream_rq_", 900 + i);
    ck_assert(stats_find(STR("cluster.a.ssl.ciphers._other"), &v) && v == 100);
    ck_assert(stats_find(STR("cluster.a.upstream_rq__other"), &v) && v == 5);
    ck_assert_uint_eq(s->blocks[0]->num_dynamic, STATS_MAX_DYNAMIC + 2);
    stats_scope_free(&s);
}
END_TEST

/* --- threads: run under ThreadSanitizer --------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 20000 };
static struct stats_scope *shared;
static _Atomic(int) running;

static void *writer(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < ROUNDS; i++) {
        stats_inc(shared, me, RQ_TOTAL);
        stats_gauge_inc(shared, me, CX_ACTIVE);
        stats_record(shared, me, RQ_TIME, (uint64_t)i);
        stats_count_code(shared, me, "upstream_rq_", 200 + (uint32_t)i / 1000 % 20);
        stats_gauge_dec(shared, me, CX_ACTIVE);
    }
    atomic_fetch_sub(&running, 1);
    return NULL;
}

START_TEST(test_writers_and_a_reader)
{
    pthread_t t[THREADS];
    uint64_t v = 0, sum = 0, last = 0;
    stats_cleanup();
    stats_init(THREADS + 1);
    shared = cluster("a");
    running = THREADS;
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, writer, (void *)(uintptr_t)(i + 1)), 0);
    while (atomic_load(&running)) {
        stats_flush();
        (void)show(STATS_SHOW_NUMBERS | STATS_SHOW_HISTOGRAMS);
        ck_assert(stats_find(STR("cluster.a.upstream_rq_total"), &v) && v >= last);
        last = v;
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    stats_flush();
    ck_assert_uint_eq(stats_sum(shared, RQ_TOTAL), THREADS * ROUNDS);
    ck_assert_uint_eq(stats_sum(shared, CX_ACTIVE), 0);
    ck_assert_uint_eq(stats_histogram(shared, RQ_TIME)->cumulative.count, THREADS * ROUNDS);
    for (int code = 200; code < 220; code++) {
        char name[64];
        int n = snprintf(name, sizeof(name), "cluster.a.upstream_rq_%d", code);
        ck_assert(stats_find(str_n(name, (size_t)n), &v));
        sum += v;
    }
    ck_assert_uint_eq(sum, THREADS * ROUNDS);
    stats_scope_free(&shared);
}
END_TEST

static char last_name[128];
static unsigned slice_left;

static bool print_slice(void *arg, const struct stats_view *v)
{
    (void)print(arg, v);
    (void)snprintf(last_name, sizeof(last_name), "%.*s", STR_ARG(v->name));
    return --slice_left > 0;
}

START_TEST(test_visit_in_slices)
{
    struct stats_scope *a = cluster("a"), *ab = cluster("a.b"), *z = cluster("z");
    char whole[sizeof(printed)];
    stats_count_code(a, 1, "upstream_rq_", 503);
    stats_count_code(z, 2, "upstream_rq_", 200);
    (void)snprintf(whole, sizeof(whole), "%s", show(STATS_SHOW_NUMBERS));
    for (unsigned size = 1; size < 12; size++) {
        bool all;
        printed[0] = last_name[0] = '\0';
        do {
            slice_left = size;
            all = stats_visit_after(str_of(last_name), STATS_SHOW_NUMBERS, print_slice, NULL);
        } while (!all);
        ck_assert_str_eq(printed, whole);
    }
    ck_assert(stats_visit_after(STR("zz"), STATS_SHOW_NUMBERS, print_slice, NULL));
    ck_assert_str_eq(printed, whole);
    stats_scope_free(&a);
    stats_scope_free(&ab);
    stats_scope_free(&z);
}
END_TEST

START_TEST(test_reset_counters)
{
    struct stats_scope *s = cluster("a");
    uint64_t v;
    for (unsigned t = 0; t < 3; t++) {
        stats_add(s, t, RQ_TOTAL, 5);
        stats_gauge_inc(s, t, CX_ACTIVE);
        stats_count_code(s, t, "upstream_rq_", 200);
    }
    stats_reset_counters();
    ck_assert_uint_eq(stats_sum(s, RQ_TOTAL), 0);
    ck_assert_uint_eq(stats_sum(s, CX_ACTIVE), 3);
    ck_assert(stats_used(s, RQ_TOTAL));
    ck_assert(stats_find(STR("cluster.a.upstream_rq_200"), &v) && v == 0);
    stats_inc(s, 1, RQ_TOTAL);
    stats_count_code(s, 2, "upstream_rq_", 200);
    ck_assert_uint_eq(stats_sum(s, RQ_TOTAL), 1);
    ck_assert(stats_find(STR("cluster.a.upstream_rq_200"), &v) && v == 1);
    stats_reset_counters();
    ck_assert_uint_eq(stats_sum(s, RQ_TOTAL), 0);
    stats_scope_free(&s);
}
END_TEST

START_TEST(test_abort_thread_out_of_range)
{
    struct stats_scope *s = cluster("a");
    (void)stats_block_new(s, 3);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/stats");
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, test_sums_over_threads);
    tcase_add_test(tc, test_gauge_set_to_zero_is_used);
    tcase_add_test(tc, test_visit_is_sorted);
    tcase_add_test(tc, test_visit_can_stop);
    tcase_add_test(tc, test_visit_in_slices);
    tcase_add_test(tc, test_reset_counters);
    tcase_add_test(tc, test_same_table_and_prefix_is_one_scope);
    tcase_add_test(tc, test_names_are_cleaned);
    tcase_add_test(tc, test_histograms_by_interval);
    tcase_add_test(tc, test_texts);
    tcase_add_test(tc, test_reader);
    tcase_add_test(tc, test_lazy_scopes_appear_with_use);
    tcase_add_test(tc, test_matcher);
    tcase_add_test(tc, test_dynamic_is_bounded);
    tcase_add_test(tc, test_writers_and_a_reader);
    tcase_add_test_raise_signal(tc, test_abort_thread_out_of_range, SIGABRT);
    tcase_add_checked_fixture(tc, setup, teardown);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
