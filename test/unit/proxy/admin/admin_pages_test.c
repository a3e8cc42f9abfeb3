/* The pages that need no more than a server's plain fields, asked without a socket. */
#include "proxy/admin/admin_handler.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/stats.h"
#include "proxy/server.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static struct server server;
static struct options options;
static struct arena arena;
static struct admin_response response;
static char *body;
static unsigned slices;

#define TEST_STATS(X)                                                                              \
    X(RQ_TOTAL, "rq_total", COUNTER)                                                               \
    X(RQ_ACTIVE, "rq_active", GAUGE)                                                               \
    X(RQ_TIME, "rq_time", HISTOGRAM)                                                               \
    X(VERSION, "version_text", TEXT)
enum { TEST_STATS(STATS_ENUM) NUM_STATS };
static const struct stats_def defs[] = {TEST_STATS(STATS_DEF)};
static struct stats_table table = STATS_TABLE(defs);
static struct stats_scope *scope;

static struct stats_scope *scope_of(const char *name)
{
    const struct stats_part parts[] = {{STR("cluster"), NULL},
                                       {str_of(name), "envoy_cluster_name"}};
    return stats_scope_new(&table, parts, ARRAY_LEN(parts));
}

static void setup(void)
{
    stats_init(2);
    server = (struct server){.options = &options, .state = SERVER_LIVE};
    server.loop = loop_new(true);
    arena_init(&arena, 0);
    scope = scope_of("a");
}

static void forget(void)
{
    admin_response_cleanup(&response);
    response = (struct admin_response){0};
    mem_free(body);
    body = NULL;
}

static void teardown(void)
{
    forget();
    arena_cleanup(&arena);
    stats_scope_free(&scope);
    stats_cleanup();
    mem_free(table.sorted);
    table.sorted = NULL;
    loop_free(&server.loop);
    log_set_all(LOG_LEVEL_INFO);
    buffer_free_list_trim();
}

/* Asks and returns the whole body. */
static const char *ask(const char *method, const char *target)
{
    struct str t = str_of(target);
    ptrdiff_t mark = str_chr(t, '?');
    struct admin_request rq = {.server = &server, .arena = &arena, .method = str_of(method)};
    rq.path = mark < 0 ? t : str_n(t.p, (size_t)mark);
    struct str query = mark < 0 ? STR_NULL : str_n(t.p + mark + 1, t.len - (size_t)mark - 1);
    forget();
    ck_assert(admin_query_parse(&rq.query, query, false, &arena));
    admin_respond(&rq, &response);
    for (slices = 0; response.more; slices++) {
        if (!response.more(response.arg, &response.body))
            break;
    }
    body = mem_alloc(response.body.len + 1);
    body[buffer_copy_out(&response.body, 0, body, response.body.len)] = '\0';
    return body;
}

static const char *get(const char *target)
{
    return ask("GET", target);
}

static void expect(const char *target, unsigned status, const char *want)
{
    ck_assert_str_eq(get(target), want);
    ck_assert_uint_eq(response.status, status);
}

START_TEST(test_unknown_path)
{
    static const char *const paths[] = {"/nope", "", "*", "/ready/", "/READY", "//ready", "ready"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        ck_assert(strstr(get(paths[i]), "invalid path. admin commands are:\n  /: ") == body);
        ck_assert_uint_eq(response.status, 404);
        ck_assert_str_eq(response.content_type, ADMIN_TEXT);
    }
}
END_TEST

START_TEST(test_every_page_is_in_help_and_sorted)
{
    const char *at = get("/help");
    for (size_t i = 0; i < admin_num_pages; i++) {
        char line[128];
        (void)snprintf(line, sizeof(line), "  %s%s: ", admin_pages[i].path,
                       admin_pages[i].mutates ? " (POST)" : "");
        at = strstr(at, line);
        ck_assert_msg(at, "%s", line);
        ck_assert(i == 0 || strcmp(admin_pages[i - 1].path, admin_pages[i].path) < 0);
    }
}
END_TEST

START_TEST(test_what_changes_something_wants_post)
{
    static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE", "post", ""};
    for (size_t i = 0; i < admin_num_pages; i++) {
        if (!admin_pages[i].mutates)
            continue;
        for (size_t m = 0; m < ARRAY_LEN(methods); m++) {
            (void)ask(methods[m], admin_pages[i].path);
            ck_assert_uint_eq(response.status, 405);
            ck_assert(!response.after);
        }
    }
    ck_assert(!server.health_failed);
}
END_TEST

START_TEST(test_home_is_a_page_of_links_and_forms)
{
    (void)get("/");
    ck_assert_str_eq(response.content_type, ADMIN_HTML);
    ck_assert(strstr(body, "<a href=\"stats/prometheus\">stats/prometheus</a>"));
    ck_assert(strstr(body, "<form method=\"post\" action=\"quitquitquit\">"));
    ck_assert(strstr(body, "<code>&lt;name&gt;</code>"));
    ck_assert(!strstr(body, "<a href=\"quitquitquit\""));
}
END_TEST

START_TEST(test_ready)
{
    static const struct {
        enum server_state state;
        bool failed;
        unsigned status;
        const char *text;
    } cases[] = {{SERVER_LIVE, false, 200, "LIVE\n"},
                 {SERVER_LIVE, true, 503, "DRAINING\n"},
                 {SERVER_DRAINING, false, 503, "DRAINING\n"},
                 {SERVER_PRE_INITIALIZING, true, 503, "PRE_INITIALIZING\n"},
                 {SERVER_INITIALIZING, false, 503, "INITIALIZING\n"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        server.state = cases[i].state;
        server.health_failed = cases[i].failed;
        expect("/ready", cases[i].status, cases[i].text);
    }
}
END_TEST

START_TEST(test_healthcheck)
{
    ck_assert_str_eq(ask("POST", "/healthcheck/fail"), "OK\n");
    expect("/ready", 503, "DRAINING\n");
    ck_assert_str_eq(ask("POST", "/healthcheck/ok"), "OK\n");
    expect("/ready", 200, "LIVE\n");
}
END_TEST

START_TEST(test_quit_waits_for_its_answer)
{
    ck_assert_str_eq(ask("POST", "/quitquitquit"), "OK\n");
    ck_assert_ptr_nonnull(response.after);
}
END_TEST

START_TEST(test_logging)
{
    log_set_all(LOG_LEVEL_WARN);
    ck_assert(strstr(ask("POST", "/logging"), "active loggers:\n  a2a: warning\n") == body);
    ck_assert(strstr(ask("POST", "/logging?level=debug"), "  upstream: debug\n"));
    ck_assert(strstr(ask("POST", "/logging?upstream=trace"), "  upstream: trace\n"));
    ck_assert(strstr(body, "  http: debug\n"));
    ck_assert(strstr(ask("POST", "/logging?paths=upstream:info,http:off"), "  upstream: info\n"));
    ck_assert(strstr(body, "  http: off\n"));
    ck_assert_uint_eq(response.status, 200);
}
END_TEST

START_TEST(test_logging_refuses)
{
    static const struct {
        const char *target, *error;
    } cases[] = {{"/logging?level=loud", "error: unknown logger level\n"},
                 {"/logging?nope=debug", "error: unknown logger name\n"},
                 {"/logging?http=loud", "error: unknown logger level\n"},
                 {"/logging?paths=http:debug,nope:debug", "error: unknown logger name or level\n"},
                 {"/logging?paths=http", "error: unknown logger name or level\n"},
                 {"/logging?level=debug&http=info", "error: invalid number of parameters\n"}};
    log_set_all(LOG_LEVEL_WARN);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        (void)ask("POST", cases[i].target);
        ck_assert_uint_eq(response.status, 400);
        ck_assert(strstr(body, cases[i].error) == body);
        ck_assert(strstr(body, "  http: warning\n"));
    }
}
END_TEST

START_TEST(test_not_supported_is_said)
{
    (void)ask("POST", "/heapprofiler?enable=y");
    ck_assert_uint_eq(response.status, 501);
    (void)ask("POST", "/cpuprofiler?enable=y");
    ck_assert_uint_eq(response.status, 501);
    (void)ask("POST", "/runtime_modify?a=b");
    ck_assert_uint_eq(response.status, 503);
    (void)ask("POST", "/runtime_modify");
    ck_assert_uint_eq(response.status, 400);
}
END_TEST

START_TEST(test_pages_before_anything_is_there)
{
    expect("/listeners", 200, "");
    expect("/clusters", 200, "");
    expect("/init_dump", 200, "{}\n");
    expect("/listeners?format=json", 200, "{\n \"listener_statuses\": []\n}\n");
    expect("/clusters?format=json", 200, "{\n \"cluster_statuses\": []\n}\n");
    expect("/runtime", 200, "{\n \"layers\": [],\n \"entries\": {}\n}\n");
    ck_assert(strstr(get("/server_info"), "\"state\": \"LIVE\""));
    ck_assert(strstr(get("/memory"), "\"allocated\": \""));
    expect("/certs", 200, "{\n \"certificates\": []\n}\n");
}
END_TEST

/* --- statistics --------------------------------------------------------------------------------
 */

START_TEST(test_stats_text)
{
    stats_add(scope, 1, RQ_TOTAL, 7);
    stats_text_set(scope, VERSION, STR("v<1>"));
    expect("/stats", 200,
           "cluster.a.version_text: \"v&lt;1&gt;\"\n"
           "cluster.a.rq_active: 0\n"
           "cluster.a.rq_total: 7\n"
           "cluster.a.rq_time: No recorded values\n");
    expect("/stats?usedonly", 200,
           "cluster.a.version_text: \"v&lt;1&gt;\"\ncluster.a.rq_total: 7\n");
    expect("/stats?filter=rq_t&usedonly=", 200, "cluster.a.rq_total: 7\n");
    expect("/stats?filter=^(cluster\\.a)\\.(rq_total|nope)$", 200, "cluster.a.rq_total: 7\n");
    expect("/stats?filter=%5Ecluster%5C.a%5C.rq_to", 200, "cluster.a.rq_total: 7\n");
    expect("/stats?filter=rq_&invert_filter", 200, "cluster.a.version_text: \"v&lt;1&gt;\"\n");
    expect("/stats?filter=zzz", 200, "");
}
END_TEST

START_TEST(test_stats_types)
{
    expect("/stats?type=Counters", 200, "cluster.a.rq_total: 0\n");
    expect("/stats?type=Gauges", 200, "cluster.a.rq_active: 0\n");
    expect("/stats?type=Histograms", 200, "cluster.a.rq_time: No recorded values\n");
    expect("/stats?type=TextReadouts", 200, "cluster.a.version_text: \"\"\n");
    expect("/stats?type=None", 400, "invalid &type= param\n");
}
END_TEST

START_TEST(test_stats_refuses)
{
    (void)get("/stats?filter=(");
    ck_assert_uint_eq(response.status, 400);
    ck_assert_str_eq(body, "Invalid re2 regex: missing ): (\n");
    (void)get("/stats?format=xml");
    ck_assert_uint_eq(response.status, 400);
    (void)get("/stats?histogram_buckets=many");
    ck_assert_uint_eq(response.status, 400);
    (void)get("/stats/prometheus?filter=(");
    ck_assert_uint_eq(response.status, 400);
    (void)get("/stats?format=prometheus&histogram_buckets=disjoint");
    ck_assert_uint_eq(response.status, 400);
    (void)get("/clusters?filter=(");
    ck_assert_uint_eq(response.status, 400);
}
END_TEST

START_TEST(test_stats_histograms)
{
    stats_record(scope, 1, RQ_TIME, 3);
    stats_flush();
    expect("/stats?filter=rq_time&histogram_buckets=detailed", 200,
           "cluster.a.rq_time:\n  totals=3,0.1:1\n  intervals=3,0.1:1\n  summary=P0(3.05,3.05) "
           "P25(3.05,3.05) P50(3.05,3.05) P75(3.05,3.05) P90(3.05,3.05) P95(3.05,3.05) "
           "P99(3.05,3.05) P99.5(3.05,3.05) P99.9(3.05,3.05) P100(3.05,3.05)\n");
    ck_assert(strstr(get("/stats?filter=rq_time&histogram_buckets=cumulative"),
                     "cluster.a.rq_time: B0.5(0,0) B1(0,0) B5(1,1) B10(1,1) ") == body);
    ck_assert(strstr(get("/stats?filter=rq_time&histogram_buckets=disjoint"),
                     "cluster.a.rq_time: B0.5(0,0) B1(0,0) B5(1,1) B10(0,0) ") == body);
}
END_TEST

START_TEST(test_stats_json)
{
    stats_add(scope, 1, RQ_TOTAL, 7);
    stats_text_set(scope, VERSION, STR("v\"<1>"));
    expect("/stats?format=json&type=Counters", 200,
           "{\"stats\":[{\"name\":\"cluster.a.rq_total\",\"value\":7}]}");
    ck_assert_str_eq(response.content_type, ADMIN_JSON);
    expect("/stats?format=json&type=TextReadouts", 200,
           "{\"stats\":[{\"name\":\"cluster.a.version_text\",\"value\":\"v\\\"<1>\"}]}");
    expect("/stats?format=json&filter=zzz", 200, "{\"stats\":[]}");
}
END_TEST

START_TEST(test_stats_json_histograms)
{
    static const char *const modes[] = {"summary", "cumulative", "disjoint", "detailed"};
    static const char *const lists[] = {"computed_quantiles", "buckets", "buckets", "details"};
    struct stats_scope *other = scope_of("b");
    stats_record(scope, 1, RQ_TIME, 3);
    stats_flush();
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        char target[128];
        struct json_error err;
        (void)snprintf(target, sizeof(target), "/stats?format=json&histogram_buckets=%s", modes[i]);
        const struct json *j = json_parse(str_of(get(target)), 0, &arena, &err);
        ck_assert_msg(j, "%s: %s: %s", modes[i], err.text, body);
        ck_assert_uint_eq(json_get(j, "stats")->count, 7);
        ck_assert(strstr(body, lists[i]));
        ck_assert(strstr(body, "\"name\":\"cluster.a.rq_time\""));
        ck_assert(strstr(body, "\"name\":\"cluster.b.rq_time\""));
    }
    stats_scope_free(&other);
}
END_TEST

/* CVE-2026-73546: names and texts come from configuration. */
START_TEST(test_html_is_escaped)
{
    struct stats_scope *evil = scope_of("<script>alert('\"&\")</script>");
    stats_text_set(evil, VERSION, STR("</pre><script>"));
    (void)get("/stats?format=html");
    ck_assert_str_eq(response.content_type, ADMIN_HTML);
    ck_assert(!strstr(body, "<script>"));
    ck_assert(strstr(body, "cluster.&lt;script&gt;alert(&#39;&quot;&amp;&quot;)&lt;/script&gt;."));
    ck_assert(strstr(body, "&lt;/pre&gt;&lt;script&gt;"));
    ck_assert(strstr(body, "</pre></body></html>\n"));
    stats_scope_free(&evil);
}
END_TEST

START_TEST(test_many_stats_come_in_slices)
{
    enum { MANY = 5000 };
    struct stats_scope **all = mem_alloc(MANY * sizeof(struct stats_scope *));
    char name[32], line[64], last[64] = "";
    unsigned lines = 0;
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof(name), "many%d", i);
        all[i] = scope_of(name);
    }
    (void)get("/stats?type=Counters");
    ck_assert_uint_ge(slices, 2);
    for (const char *at = body; *at; at = strchr(at, '\n') + 1) {
        (void)snprintf(line, sizeof(line), "%.*s", (int)strcspn(at, ":"), at);
        ck_assert(strcmp(last, line) < 0);
        (void)snprintf(last, sizeof(last), "%s", line);
        lines++;
    }
    ck_assert_uint_eq(lines, MANY + 1);
    for (int i = 0; i < MANY; i++)
        stats_scope_free(&all[i]);
    mem_free(all);
}
END_TEST

START_TEST(test_reset_counters)
{
    stats_add(scope, 1, RQ_TOTAL, 7);
    ck_assert_str_eq(ask("POST", "/reset_counters"), "OK\n");
    expect("/stats?type=Counters&usedonly", 200, "cluster.a.rq_total: 0\n");
    stats_inc(scope, 1, RQ_TOTAL);
    expect("/stats?type=Counters", 200, "cluster.a.rq_total: 1\n");
}
END_TEST

START_TEST(test_prometheus)
{
    static const char want[] = "# TYPE envoy_cluster_rq_total counter\n"
                               "envoy_cluster_rq_total{envoy_cluster_name=\"a\"} 7\n";
    stats_add(scope, 1, RQ_TOTAL, 7);
    ck_assert(strstr(get("/stats/prometheus"), want));
    ck_assert_str_eq(response.content_type, ADMIN_TEXT);
    ck_assert(strstr(get("/stats?format=prometheus&usedonly&filter=rq_total"), want) == body);
    ck_assert_str_eq(get("/stats/prometheus?usedonly&filter=rq_active"), "");
    ck_assert(!strstr(get("/stats/prometheus?invert_filter&filter=rq_total"), "rq_total"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("proxy/admin/admin_pages");
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_unknown_path);
    tcase_add_test(tc, test_every_page_is_in_help_and_sorted);
    tcase_add_test(tc, test_what_changes_something_wants_post);
    tcase_add_test(tc, test_home_is_a_page_of_links_and_forms);
    tcase_add_test(tc, test_ready);
    tcase_add_test(tc, test_healthcheck);
    tcase_add_test(tc, test_quit_waits_for_its_answer);
    tcase_add_test(tc, test_logging);
    tcase_add_test(tc, test_logging_refuses);
    tcase_add_test(tc, test_not_supported_is_said);
    tcase_add_test(tc, test_pages_before_anything_is_there);
    tcase_add_test(tc, test_stats_text);
    tcase_add_test(tc, test_stats_types);
    tcase_add_test(tc, test_stats_refuses);
    tcase_add_test(tc, test_stats_histograms);
    tcase_add_test(tc, test_stats_json);
    tcase_add_test(tc, test_stats_json_histograms);
    tcase_add_test(tc, test_html_is_escaped);
    tcase_add_test(tc, test_many_stats_come_in_slices);
    tcase_add_test(tc, test_reset_counters);
    tcase_add_test(tc, test_prometheus);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
