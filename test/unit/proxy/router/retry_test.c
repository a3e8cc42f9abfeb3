/* Retry decisions: what a policy and a request's headers ask for, and which answers and failures
 * are tried again. Envoy 1.40's answers (observed). */
#include "proxy/router/retry.h"

#include "proxy/http/stream.h"
#include "proxy/network/hcm.h"
#include "proxy/router/route_private.h"
#include "proxy/router/router_private.h"
#include "test/support/yaml_message.h"
#include <check.h>
#include <stdlib.h>

static struct arena arena;
static struct errors errors;
static struct stream stream;
static struct route route;
static struct headers head;
static struct regex_list regexes;
static struct hcm_config hcm = {.suppress_envoy_headers = true};
static struct hcm_conn hcm_conn = {.config = &hcm};
static struct cluster_config cluster_config;
static struct cluster cluster = {.config = &cluster_config};
static struct loop *loop;
static struct worker worker;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
    route = (struct route){0};
    loop = loop_new(true);
    worker.loop = loop;
    stream = (struct stream){
        .arena = &arena, .request = &head, .route = &route, .hc = &hcm_conn, .worker = &worker};
    stream.router.stream = &stream;
    headers_init(&head, &arena);
}

static void teardown(void)
{
    errors_cleanup(&errors);
    arena_cleanup(&arena);
    loop_free(&loop);
}

static struct router *start(const char *policy, const char *fields)
{
    struct str rest = str_of(fields), line;
    if (policy) {
        route.retry = retry_policy_compile(
            &regexes, &arena, yaml_message("envoy.config.route.v3.RetryPolicy", policy, &arena),
            &errors);
        ck_assert(errors_ok(&errors));
    }
    headers_init(&head, &arena);
    while (str_next(&rest, '\n', &line)) {
        ptrdiff_t colon = str_chr(line, ':');
        headers_add(&head, str_n(line.p, (size_t)colon),
                    str_trim(str_n(line.p + colon + 1, line.len - (size_t)colon - 1)));
    }
    stream.router = (struct router){.stream = &stream, .cluster = &cluster};
    stream.router.internal = headers_known(&head, HDR_X_ENVOY_INTERNAL) != NULL;
    timeouts_init(&stream.router);
    retry_init(&stream.router);
    return &stream.router;
}

static const struct {
    const char *on;
    unsigned status;
    const char *field; /* of the response, or NULL */
    bool again;
} responses[] = {
    {"5xx", 500, NULL, true},
    {"5xx", 599, NULL, true},
    {"5xx", 499, NULL, false},
    {"5xx", 600, NULL, false},
    {"5xx", 503, "x-envoy-overloaded", true},
    {"5xx", 503, "x-envoy-ratelimited", false},
    {"5xx,envoy-ratelimited", 503, "x-envoy-ratelimited", true},
    {"envoy-ratelimited", 503, NULL, false},
    {"gateway-error", 501, NULL, false},
    {"gateway-error", 502, NULL, true},
    {"gateway-error", 503, NULL, true},
    {"gateway-error", 504, NULL, true},
    {"gateway-error", 505, NULL, false},
    {"retriable-4xx", 409, NULL, true},
    {"retriable-4xx", 404, NULL, false},
    {"retriable-status-codes", 418, NULL, true},
    {"retriable-status-codes", 503, NULL, false},
    {"reset,connect-failure,refused-stream", 503, NULL, false},
    {"cancelled", 200, "grpc-status: 1", true},
    {"deadline-exceeded", 200, "grpc-status: 4", true},
    {"resource-exhausted", 200, "grpc-status: 8", true},
    {"internal", 200, "grpc-status: 13", true},
    {"unavailable", 200, "grpc-status: 14", true},
    {"unavailable", 200, "grpc-status: 0", false},
    {"unavailable", 200, "grpc-status: 1", false},
    {"unavailable", 200, "grpc-status: x", false},
    {"unavailable", 503, NULL, false},
    {"", 503, NULL, false},
};

START_TEST(response)
{
    struct router *r = start(arena_printf(&arena,
                                          "{retry_on: '%s', retriable_status_codes: [418, 425]}",
                                          responses[_i].on)
                                 .p,
                             NULL);
    struct headers h;
    headers_init(&h, &arena);
    h.status = (uint16_t)responses[_i].status;
    struct str field = str_of(responses[_i].field);
    ptrdiff_t colon = str_chr(field, ':');
    if (field.len)
        headers_add(&h, colon < 0 ? field : str_n(field.p, (size_t)colon),
                    colon < 0 ? STR("true") : str_of(field.p + colon + 2));
    ck_assert_msg(retry_wants_response(r, &h) == responses[_i].again, "%s: %u %s", responses[_i].on,
                  responses[_i].status, responses[_i].field ? responses[_i].field : "");
}
END_TEST

/* For every word, the failures that it tries again: before the request was begun, and after. */
static const struct {
    const char *on;
    unsigned before, after; /* sets of 1 << try_failure */
} failures[] = {
#define ALL                                                                                        \
    (1 << TRY_CONNECT_FAILED | 1 << TRY_CONNECT_TIMEOUT | 1 << TRY_CONN_TERMINATED |               \
     1 << TRY_REMOTE_RESET | 1 << TRY_REFUSED | 1 << TRY_PROTOCOL_ERROR | 1 << TRY_TIMEOUT)
    {"reset", ALL, ALL},
    {"5xx", ALL, ALL},
    {"gateway-error", ALL, ALL},
    {"reset-before-request", ALL, 0},
    {"connect-failure", 1 << TRY_CONNECT_FAILED | 1 << TRY_CONNECT_TIMEOUT,
     1 << TRY_CONNECT_FAILED | 1 << TRY_CONNECT_TIMEOUT},
    {"refused-stream", 1 << TRY_REFUSED, 1 << TRY_REFUSED},
    {"retriable-4xx,retriable-status-codes,unavailable", 0, 0},
    {"", 0, 0},
};

START_TEST(failure)
{
    struct router *r = start(arena_printf(&arena, "{retry_on: '%s'}", failures[_i].on).p, NULL);
    for (unsigned f = TRY_OVERFLOW; f <= TRY_TIMEOUT; f++) {
        ck_assert_msg(retry_wants_failure(r, f, false) == (failures[_i].before >> f & 1), "%s: %u",
                      failures[_i].on, f);
        ck_assert_msg(retry_wants_failure(r, f, true) == (failures[_i].after >> f & 1), "%s: %u",
                      failures[_i].on, f);
    }
    ck_assert(!retry_wants_failure(r, TRY_OVERFLOW, false)); /* never into an open breaker */
}
END_TEST

START_TEST(from_headers)
{
    struct router *r = start(NULL, "x-envoy-retry-on: 5xx, nonsense");
    ck_assert_uint_eq(r->retry.on, RETRY(5XX));
    ck_assert_uint_eq(r->retries_left, 1);
    ck_assert_uint_eq(r->retry.backoff_base_ms, 25);
    ck_assert_uint_eq(r->retry.backoff_max_ms, 250);
    ck_assert(!headers_find(&head, STR("x-envoy-retry-on"))); /* taken out */
    r = start("{retry_on: reset, num_retries: 5}",
              "x-envoy-retry-on: gateway-error\nx-envoy-max-retries: 2\nx-envoy-retry-grpc-on: "
              "cancelled,5xx");
    ck_assert_uint_eq(r->retry.on, RETRY(RESET) | RETRY(GATEWAY_ERROR) | RETRY(GRPC_CANCELLED));
    ck_assert_uint_eq(r->retries_left, 2);
    r = start("{retry_on: reset, num_retries: 5}", "x-envoy-max-retries: many");
    ck_assert_uint_eq(r->retries_left, 5);
    r = start("{retry_on: 5xx, num_retries: 0}", "x-envoy-retry-on: reset");
    ck_assert_uint_eq(r->retries_left, 0); /* the policy's number stays */
    r = start("{retry_on: 5xx, num_retries: 0}", "x-envoy-max-retries: 99999999999999999999");
    ck_assert_uint_eq(r->retries_left, 0);
}
END_TEST

START_TEST(status_codes_from_callers_of_ours)
{
    static const char fields[] = "x-envoy-retry-on: retriable-status-codes\n"
                                 "x-envoy-retriable-status-codes: 418, x, 99, 600, 500";
    struct headers h;
    headers_init(&h, &arena);
    h.status = 418;
    struct router *r = start("{retriable_status_codes: [404]}", fields);
    ck_assert(!retry_wants_response(r, &h)); /* a stranger's */
    r = start("{retriable_status_codes: [404]}",
              arena_printf(&arena, "x-envoy-internal: true\n%s", fields).p);
    ck_assert_uint_eq(r->retry.num_status_codes, 3);
    ck_assert(retry_wants_response(r, &h));
    h.status = 404;
    ck_assert(retry_wants_response(r, &h));
    ck_assert(!headers_find(&head, STR("x-envoy-retriable-status-codes")));
}
END_TEST

static const struct {
    const char *policy, *fields;
    bool has_timeout;
    uint64_t route_ms, timeout_ms, per_try_ms;
} timeouts[] = {
    {NULL, NULL, false, 0, 15000, 0},
    {NULL, NULL, true, 0, 0, 0},
    {NULL, NULL, true, 3000, 3000, 0},
    {"{per_try_timeout: 1s}", NULL, true, 3000, 3000, 1000},
    {"{per_try_timeout: 3s}", NULL, true, 3000, 3000, 0}, /* not shorter than the whole */
    {"{per_try_timeout: 5s}", NULL, true, 0, 0, 5000},
    {NULL, "x-envoy-upstream-rq-timeout-ms: 77", true, 3000, 77, 0},
    {NULL, "x-envoy-upstream-rq-timeout-ms: 0", true, 3000, 0, 0},
    {NULL, "x-envoy-upstream-rq-timeout-ms: x", true, 3000, 3000, 0},
    {NULL, "x-envoy-upstream-rq-per-try-timeout-ms: 9", true, 3000, 3000, 9},
    {"{per_try_timeout: 1s}", "x-envoy-upstream-rq-per-try-timeout-ms: 9", true, 3000, 3000, 9},
    {"{per_try_timeout: 1s}", "x-envoy-upstream-rq-timeout-ms: 500", true, 3000, 500, 0},
};

START_TEST(timeout)
{
    route.has_timeout = timeouts[_i].has_timeout;
    route.timeout_ms = timeouts[_i].route_ms;
    struct router *r = start(timeouts[_i].policy, timeouts[_i].fields);
    ck_assert_uint_eq(r->timeout_ms, timeouts[_i].timeout_ms);
    ck_assert_uint_eq(r->per_try_ms, timeouts[_i].per_try_ms);
    ck_assert(!headers_find(&head, STR("x-envoy-upstream-rq-timeout-ms")));
    ck_assert(!headers_find(&head, STR("x-envoy-upstream-rq-per-try-timeout-ms")));
}
END_TEST

static const struct {
    const char *back_off;
    uint64_t base, max;
} backoffs[] = {
    {"{base_interval: 0.1s}", 100, 1000},
    {"{base_interval: 0.1s, max_interval: 0.3s}", 100, 300},
    {"{base_interval: 0.0001s}", 1, 10},
};

START_TEST(backoff)
{
    struct router *r = start(arena_printf(&arena, "{retry_back_off: %s}", backoffs[_i].back_off).p,
                             NULL);
    ck_assert_uint_eq(r->retry.backoff_base_ms, backoffs[_i].base);
    ck_assert_uint_eq(r->retry.backoff_max_ms, backoffs[_i].max);
}
END_TEST

static struct headers *response_with(unsigned status, const char *name, const char *value)
{
    static struct headers h;
    headers_init(&h, &arena);
    h.status = (uint16_t)status;
    headers_add(&h, str_of(name), str_of(value));
    return &h;
}

START_TEST(retriable_headers)
{
    static const char policy[] = "{retry_on: retriable-headers, retriable_headers: [{name: X-A, "
                                 "string_match: {prefix: b}}, {name: x-c, present_match: true}]}";
    struct router *r = start(policy, NULL);
    ck_assert(retry_wants_response(r, response_with(200, "x-a", "bcd")));
    ck_assert(!retry_wants_response(r, response_with(200, "x-a", "cd")));
    ck_assert(retry_wants_response(r, response_with(200, "x-c", "")));
    ck_assert(!retry_wants_response(r, response_with(503, "x-d", "")));
    r = start(policy, "x-envoy-internal: true\nx-envoy-retriable-header-names: X-D , x-e");
    ck_assert(retry_wants_response(r, response_with(200, "x-d", "")));
    ck_assert(retry_wants_response(r, response_with(200, "x-e", "")));
    ck_assert(!headers_find(&head, STR("x-envoy-retriable-header-names")));
    r = start(policy, "x-envoy-retriable-header-names: x-d"); /* a stranger's */
    ck_assert(!retry_wants_response(r, response_with(200, "x-d", "")));
}
END_TEST

START_TEST(retriable_request_headers)
{
    static const char policy[] = "{retry_on: 5xx, retriable_request_headers: [{name: ':method', "
                                 "string_match: {exact: GET}}, {name: x-a, present_match: true}]}";
    ck_assert_uint_eq(start(policy, NULL)->retry.on, 0);
    ck_assert_uint_eq(start(policy, "x-a: 1")->retry.on, RETRY(5XX));
    ck_assert_uint_eq(start(policy, "x-envoy-retry-on: reset")->retry.on, 0);
}
END_TEST

static const struct {
    const char *name, *value;
    uint64_t ms;
} waits[] = {
    {"retry-after", "3", 3000}, {"retry-after", " 20 ", 20000},
    {"retry-after", "21", 0},   {"retry-after", "", 0},
    {"retry-after", "-1", 0},   {"retry-after", "0", 0},
    {"retry-after", "3.5", 0},  {"x-other", "3", 0},
    {"x-reset", "1", 0},        {"x-reset", "9999999999", 0},
};

START_TEST(reset_headers)
{
    struct router *r = start("{retry_on: 5xx, rate_limited_retry_back_off: {max_interval: 20s, "
                             "reset_headers: [{name: X-Reset, format: UNIX_TIMESTAMP}, "
                             "{name: Retry-After}]}}",
                             NULL);
    struct headers *h = response_with(503, waits[_i].name, waits[_i].value);
    ck_assert_uint_eq(retry_wait_ms(r, h), waits[_i].ms);
    uint64_t now = loop_wall_us(loop) / 1000000;
    h = response_with(503, "x-reset", arena_printf(&arena, "%llu", now + 7ULL).p);
    ck_assert_uint_eq(retry_wait_ms(r, h), 7000);
    headers_add(h, STR("retry-after"), STR("3")); /* the first one that says something */
    ck_assert_uint_eq(retry_wait_ms(r, h), 7000);
}
END_TEST

static const struct {
    const char *timeout; /* the client's, or NULL */
    uint64_t max, offset, wanted;
    const char *sent;
} grpc[] = {
    {"1S", 5000, 0, 1000, "1000m"},
    {"9S", 5000, 0, 5000, "5000m"},
    {"9S", 0, 0, 9000, "9000m"},
    {NULL, 5000, 0, 5000, "5000m"},
    {NULL, 0, 0, 0, NULL},
    {"100m", 5000, 40, 60, "60m"},
    {"100m", 5000, 100, 100, "100m"},
    {"1500u", 5000, 0, 2, "2m"},
    {"5n", 5000, 0, 1, "1m"},
    {"1H", 0, 0, 3600000, "3600000m"},
    {"99999999H", 0, 0, 359999996400000, "99999999H"},
    {"123456789S", 5000, 0, 5000, "5000m"},
    {"S", 5000, 0, 5000, "5000m"},
    {"1x", 5000, 0, 5000, "5000m"},
    {"-1S", 5000, 0, 5000, "5000m"},
};

START_TEST(grpc_timeouts)
{
    route.has_max_grpc_timeout = true;
    route.max_grpc_timeout_ms = grpc[_i].max;
    route.old_grpc_timeout_offset_ms = grpc[_i].offset;
    const char *fields = grpc[_i].timeout ? arena_printf(&arena,
                                                         "content-type: application/grpc\n"
                                                         "grpc-timeout: %s",
                                                         grpc[_i].timeout)
                                                .p
                                          : "content-type: application/grpc";
    struct router *r = start(NULL, fields);
    ck_assert_uint_eq(r->timeout_ms, grpc[_i].wanted);
    struct header *f = headers_find(&head, STR("grpc-timeout"));
    if (grpc[_i].sent)
        ck_assert(f && str_eq(f->value, str_of(grpc[_i].sent)));
    route.own_durations = true; /* the newer fields have nothing to do with it */
    ck_assert_uint_eq(start(NULL, fields)->timeout_ms, 0);
}
END_TEST

START_TEST(rare_headers)
{
    static const char fields[] = "x-envoy-internal: true\n"
                                 "x-envoy-upstream-stream-duration-ms: 70\n"
                                 "x-envoy-hedge-on-per-try-timeout: true\n"
                                 "x-envoy-upstream-rq-timeout-alt-response: 1";
    struct router *r = start(NULL, fields);
    ck_assert_uint_eq(r->max_try_ms, 70);
    ck_assert_uint_eq(r->timeout_status, 204);
    ck_assert(r->hedge);
    HEADERS_FOREACH(f, &head)
        ck_assert(f->id == HDR_X_ENVOY_INTERNAL);
    static const struct hedge_policy hedge = {true};
    route.hedge = &hedge;
    ck_assert(start(NULL, NULL)->hedge);
    ck_assert(
        !start(NULL, "x-envoy-internal: true\nx-envoy-hedge-on-per-try-timeout: false")->hedge);
}
END_TEST

static const struct {
    const char *name, *value;
    bool valid;
} strict[] = {
    {"x-envoy-max-retries", "3", true},
    {"x-envoy-max-retries", "3x", false},
    {"x-envoy-max-retries", "", false},
    {"x-envoy-retry-on", "5xx,reset", true},
    {"x-envoy-retry-on", "5xx,bogus", false},
    {"x-envoy-retry-on", "cancelled", false},
    {"x-envoy-retry-grpc-on", "cancelled, internal", true},
    {"x-envoy-retry-grpc-on", "5xx", false},
    {"x-envoy-upstream-rq-timeout-ms", "1", true},
};

START_TEST(strict_headers)
{
    ck_assert(retry_header_valid(str_of(strict[_i].name), str_of(strict[_i].value)) ==
              strict[_i].valid);
}
END_TEST

/* Errors with their paths: what cannot be honoured is refused. */
static const struct {
    const char *policy, *path;
} refused[] = {
    {"{retry_host_predicate: [{name: a}]}", "retry_host_predicate[0]"},
    {"{retry_options_predicates: [{name: a, typed_config: {'@type': "
     "type.googleapis.com/google.protobuf.BoolValue, value: true}}]}",
     "retry_options_predicates[0]"},
    {"{retry_priority: {name: a}}", "retry_priority.typed_config"},
    {"{retry_back_off: {base_interval: 1s, max_interval: 0.5s}}", "retry_back_off.max_interval"},
};

START_TEST(refusals)
{
    (void)retry_policy_compile(
        &regexes, &arena,
        yaml_message("envoy.config.route.v3.RetryPolicy", refused[_i].policy, &arena), &errors);
    ck_assert_uint_ge(errors.num_errors, 1);
    ck_assert_msg(str_starts(errors.first->path, str_of(refused[_i].path)), "%.*s",
                  STR_ARG(errors.first->text));
}
END_TEST

START_TEST(unknown_word_is_said)
{
    (void)start("{retry_on: '5xx, nonsense'}", NULL);
    ck_assert_uint_eq(errors.num_warnings, 1);
    ck_assert(str_find(errors.warn_first->text, STR("nonsense")) >= 0);
}
END_TEST

int main(void)
{
    const struct {
        const TTest *test;
        int n;
    } tests[] = {
        {response, ARRAY_LEN(responses)},
        {failure, ARRAY_LEN(failures)},
        {from_headers, 1},
        {status_codes_from_callers_of_ours, 1},
        {timeout, ARRAY_LEN(timeouts)},
        {backoff, ARRAY_LEN(backoffs)},
        {retriable_headers, 1},
        {retriable_request_headers, 1},
        {reset_headers, ARRAY_LEN(waits)},
        {grpc_timeouts, ARRAY_LEN(grpc)},
        {rare_headers, 1},
        {strict_headers, ARRAY_LEN(strict)},
        {refusals, ARRAY_LEN(refused)},
        {unknown_word_is_said, 1},
    };
    Suite *s = suite_create("retry");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    for (size_t i = 0; i < ARRAY_LEN(tests); i++)
        tcase_add_loop_test(t, tests[i].test, 0, tests[i].n);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
