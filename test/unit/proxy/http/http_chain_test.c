/* The driver of HTTP filters, with filters that do as they are told. What passes is written down as
 * a text: "h" a head, "H" one that ends, "d:text", "D:text", "t" trailers; in front of it which
 * filter saw it, nothing for the chain's end. */
#include "proxy/http/http_chain.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct arena arena;
static struct http_chain chain;
static struct headers head, trailers;
static char log_text[1024];
static int paused[2];
static int too_large[2];
static int completed;

static void note(const char *who, const char *what, const struct buffer *b)
{
    char bytes[64];
    size_t n = b ? buffer_copy_out(b, 0, bytes, sizeof(bytes)) : 0;
    size_t at = strlen(log_text);
    snprintf(log_text + at, sizeof(log_text) - at, "%s%s%s%.*s ", who, what, b ? ":" : "", (int)n,
             n ? bytes : "");
}

/* What the next call of a filter returns; by name, way and kind of call. */
struct plan {
    enum filter_status headers, data, trailers;
    bool add_trailers;
    const char *replace; /* body becomes this */
};
static struct plan plans[3][2];

static struct plan *plan_of(const struct http_filter *f, enum http_way way)
{
    return &plans[f->name.p[0] - 'a'][way];
}

static enum filter_status headers_cb(struct http_filter *f, enum http_way way, bool end)
{
    note(f->name.p, end ? "H" : "h", NULL);
    return plan_of(f, way)->headers;
}

static enum filter_status data_cb(struct http_filter *f, enum http_way way, struct buffer *b,
                                  bool end)
{
    struct plan *p = plan_of(f, way);
    note(f->name.p, end ? "D" : "d", b);
    if (p->replace) {
        buffer_drain(b, b->len);
        buffer_add_str(b, str_of(p->replace));
    }
    if (end && p->add_trailers)
        headers_add(way == HTTP_REQUEST ? http_filter_add_request_trailers(f)
                                        : http_filter_add_response_trailers(f),
                    STR("x"), STR("y"));
    return p->data;
}

static enum filter_status trailers_cb(struct http_filter *f, enum http_way way)
{
    note(f->name.p, "t", NULL);
    return plan_of(f, way)->trailers;
}

static enum filter_status rq_headers(struct http_filter *f, struct headers *h, bool end)
{
    return headers_cb(f, HTTP_REQUEST, end);
}

static enum filter_status rq_data(struct http_filter *f, struct buffer *b, bool end)
{
    return data_cb(f, HTTP_REQUEST, b, end);
}

static enum filter_status rq_trailers(struct http_filter *f, struct headers *h)
{
    return trailers_cb(f, HTTP_REQUEST);
}

static enum filter_status rs_headers(struct http_filter *f, struct headers *h, bool end)
{
    return headers_cb(f, HTTP_RESPONSE, end);
}

static enum filter_status rs_data(struct http_filter *f, struct buffer *b, bool end)
{
    return data_cb(f, HTTP_RESPONSE, b, end);
}

static enum filter_status rs_trailers(struct http_filter *f, struct headers *h)
{
    return trailers_cb(f, HTTP_RESPONSE);
}

static void on_complete(struct http_filter *f)
{
    completed++;
}

static bool tell_writable;

static void rq_writable(struct http_filter *f)
{
    if (tell_writable)
        note(f->name.p, "w", NULL);
}

static const struct http_filter_ops seeing = {
    .on_request_headers = rq_headers,
    .on_request_data = rq_data,
    .on_request_trailers = rq_trailers,
    .on_response_headers = rs_headers,
    .on_response_data = rs_data,
    .on_response_trailers = rs_trailers,
    .on_request_writable = rq_writable,
    .on_complete = on_complete,
};

static const struct http_filter_ops blind = {.on_complete = on_complete};

static void end_headers(void *user, struct headers *h, bool end)
{
    ck_assert_ptr_eq(h, &head);
    note("", end ? "H" : "h", NULL);
}

static void end_data(void *user, struct buffer *b, bool end)
{
    note("", end ? "D" : "d", b);
    buffer_drain(b, b->len);
}

static void end_trailers(void *user, struct headers *h)
{
    note("", "t", NULL);
}

static void pause_rq(void *user)
{
    paused[HTTP_REQUEST]++;
}

static void resume_rq(void *user)
{
    paused[HTTP_REQUEST]--;
}

static void pause_rs(void *user)
{
    paused[HTTP_RESPONSE]++;
}

static void resume_rs(void *user)
{
    paused[HTTP_RESPONSE]--;
}

static void large_rq(void *user)
{
    too_large[HTTP_REQUEST]++;
}

static void large_rs(void *user)
{
    too_large[HTTP_RESPONSE]++;
}

static void reply(void *user, unsigned status, uint64_t flags, struct str details, struct str body,
                  void (*add)(void *arg, struct headers *h), void *arg)
{
    note("", "reply", NULL);
}

static bool full;

static bool blocked_rq(void *user)
{
    return full;
}

static const struct http_chain_ends ends = {
    .headers = {end_headers, end_headers},
    .data = {end_data, end_data},
    .trailers = {end_trailers, end_trailers},
    .pause = {pause_rq, pause_rs},
    .resume = {resume_rq, resume_rs},
    .blocked = {blocked_rq, NULL},
    .too_large = {large_rq, large_rs},
    .reply = reply,
};

static void setup(void)
{
    static const struct http_filter_config configs[] = {
        {.ops = &seeing, .name = {"a", 1}},
        {.ops = &seeing, .name = {"x", 1}, .disabled = true},
        {.ops = &blind, .name = {"-", 1}},
        {.ops = &seeing, .name = {"b", 1}},
    };
    arena_init(&arena, 0);
    headers_init(&head, &arena);
    headers_init(&trailers, &arena);
    memset(plans, 0, sizeof(plans));
    full = tell_writable = false;
    log_text[0] = '\0';
    completed = too_large[0] = too_large[1] = paused[0] = paused[1] = 0;
    chain = (struct http_chain){0};
    http_chain_init(&chain, configs, 4, NULL, &ends, NULL, NULL, &arena, 10);
}

static void teardown(void)
{
    http_chain_complete(&chain);
    http_chain_complete(&chain);
    ck_assert_int_eq(completed, 3);
    arena_cleanup(&arena);
}

static void feed(enum http_way way, const char *text, bool end)
{
    struct buffer b;
    buffer_init(&b);
    buffer_add_str(&b, str_of(text));
    http_chain_data(&chain, way, &b, end);
    buffer_cleanup(&b);
}

static void check_log(const char *want)
{
    ck_assert_str_eq(log_text, want);
    log_text[0] = '\0';
}

#define REQUEST_OF(name) (&chain.filters[(name) == 'a' ? 0 : 2])

START_TEST(test_order)
{
    http_chain_headers(&chain, HTTP_REQUEST, &head, false);
    feed(HTTP_REQUEST, "1", false);
    feed(HTTP_REQUEST, "2", true);
    check_log("ah bh h ad:1 bd:1 d:1 aD:2 bD:2 D:2 ");
    http_chain_headers(&chain, HTTP_RESPONSE, &head, false);
    feed(HTTP_RESPONSE, "3", false);
    http_chain_trailers(&chain, HTTP_RESPONSE, &trailers);
    check_log("bh ah h bd:3 ad:3 d:3 bt at t ");
}
END_TEST

START_TEST(test_paused_head_holds_all)
{
    plans[0][HTTP_REQUEST].headers = FILTER_PAUSE;
    http_chain_headers(&chain, HTTP_REQUEST, &head, false);
    feed(HTTP_REQUEST, "12345678", false);
    ck_assert_int_eq(paused[HTTP_REQUEST], 0);
    feed(HTTP_REQUEST, "abc", false);
    ck_assert_int_eq(paused[HTTP_REQUEST], 1);
    http_chain_trailers(&chain, HTTP_REQUEST, &trailers);
    check_log("ah ");
    http_filter_continue_request(REQUEST_OF('a'));
    check_log("bh h bd:12345678abc d:12345678abc bt t ");
    ck_assert_int_eq(paused[HTTP_REQUEST], 0);
}
END_TEST

START_TEST(test_paused_head_that_ends)
{
    plans[0][HTTP_REQUEST].headers = FILTER_PAUSE;
    http_chain_headers(&chain, HTTP_REQUEST, &head, true);
    http_filter_continue_request(REQUEST_OF('a'));
    http_filter_continue_request(REQUEST_OF('a')); /* nothing is held any more */
    check_log("aH bH H ");
}
END_TEST

START_TEST(test_collect)
{
    plans[1][HTTP_REQUEST] = (struct plan){.headers = FILTER_COLLECT, .data = FILTER_COLLECT};
    http_chain_headers(&chain, HTTP_REQUEST, &head, false);
    feed(HTTP_REQUEST, "12", false);
    feed(HTTP_REQUEST, "34", false);
    check_log("ah bh ad:12 bd:12 ad:34 bd:34 ");
    plans[1][HTTP_REQUEST].data = FILTER_CONTINUE;
    feed(HTTP_REQUEST, "5", true);
    check_log("aD:5 bD:5 h D:12345 ");
}
END_TEST

START_TEST(test_collect_ends_with_trailers)
{
    plans[0][HTTP_REQUEST] = (struct plan){.headers = FILTER_COLLECT, .data = FILTER_COLLECT};
    http_chain_headers(&chain, HTTP_REQUEST, &head, false);
    feed(HTTP_REQUEST, "12", false);
    http_chain_trailers(&chain, HTTP_REQUEST, &trailers);
    check_log("ah ad:12 at bh h bd:12 d:12 bt t ");
}
END_TEST

START_TEST(test_collect_and_wait)
{
    plans[0][HTTP_RESPONSE] = (struct plan){.headers = FILTER_COLLECT, .data = FILTER_COLLECT};
    http_chain_headers(&chain, HTTP_RESPONSE, &head, false);
    feed(HTTP_RESPONSE, "12", true);
    check_log("bh ah bD:12 aD:12 ");
    http_filter_continue_response(REQUEST_OF('a'));
    check_log("h D:12 ");
}
END_TEST

START_TEST(test_collect_too_much)
{
    plans[0][HTTP_REQUEST] = (struct plan){.headers = FILTER_COLLECT, .data = FILTER_COLLECT};
    http_chain_headers(&chain, HTTP_REQUEST, &head, false);
    feed(HTTP_REQUEST, "1234567890", false);
    ck_assert_int_eq(too_large[HTTP_REQUEST], 0);
    feed(HTTP_REQUEST, "1", false);
    ck_assert_int_eq(too_large[HTTP_REQUEST], 1);
    feed(HTTP_REQUEST, "2", true); /* nothing passes any more */
    check_log("ah ad:1234567890 ");
}
END_TEST

/* What the limit refuses is refused also when it is the end that brings it. */
START_TEST(test_collect_too_much_at_the_end)
{
    plans[0][HTTP_REQUEST].headers = FILTER_COLLECT;
    http_chain_headers(&chain, HTTP_REQUEST, &head, false);
    feed(HTTP_REQUEST, "12345678901", true);
    ck_assert_int_eq(too_large[HTTP_REQUEST], 1);
    check_log("ah ");
}
END_TEST

START_TEST(test_two_hold_in_order)
{
    plans[1][HTTP_REQUEST].data = FILTER_PAUSE;
    http_chain_headers(&chain, HTTP_REQUEST, &head, false);
    feed(HTTP_REQUEST, "1", false);
    plans[0][HTTP_REQUEST].data = FILTER_PAUSE;
    feed(HTTP_REQUEST, "2", true);
    check_log("ah bh h ad:1 bd:1 aD:2 ");
    http_filter_continue_request(REQUEST_OF('a')); /* b goes on holding */
    check_log("");
    http_filter_continue_request(REQUEST_OF('b'));
    check_log("D:12 ");
}
END_TEST

START_TEST(test_changes_body)
{
    plans[1][HTTP_RESPONSE].replace = "new";
    http_chain_headers(&chain, HTTP_RESPONSE, &head, false);
    feed(HTTP_RESPONSE, "old", true);
    check_log("bh ah h bD:old aD:new D:new ");
}
END_TEST

START_TEST(test_added_trailers)
{
    plans[0][HTTP_REQUEST].add_trailers = true;
    http_chain_headers(&chain, HTTP_REQUEST, &head, false);
    feed(HTTP_REQUEST, "1", true);
    check_log("ah bh h aD:1 bd:1 d:1 bt t ");
}
END_TEST

START_TEST(test_added_trailers_are_held)
{
    plans[0][HTTP_REQUEST] = (struct plan){.add_trailers = true, .data = FILTER_PAUSE};
    http_chain_headers(&chain, HTTP_REQUEST, &head, false);
    feed(HTTP_REQUEST, "1", true);
    check_log("ah bh h aD:1 ");
    http_filter_continue_request(REQUEST_OF('a'));
    check_log("bd:1 d:1 bt t ");
}
END_TEST

START_TEST(test_injected)
{
    struct buffer b;
    buffer_init(&b);
    buffer_add_str(&b, STR("own"));
    plans[1][HTTP_RESPONSE].trailers = FILTER_CONSUMED;
    http_chain_headers(&chain, HTTP_RESPONSE, &head, false);
    http_chain_trailers(&chain, HTTP_RESPONSE, &trailers);
    check_log("bh ah h bt ");
    http_filter_inject_response(REQUEST_OF('b'), &b, true);
    ck_assert_uint_eq(b.len, 0);
    check_log("aD:own D:own ");
}
END_TEST

START_TEST(test_consumed_body)
{
    struct buffer b;
    buffer_init(&b);
    plans[0][HTTP_REQUEST].data = FILTER_CONSUMED;
    http_chain_headers(&chain, HTTP_REQUEST, &head, false);
    feed(HTTP_REQUEST, "1", false);
    feed(HTTP_REQUEST, "2", true);
    check_log("ah bh h ad:1 aD:2 ");
    buffer_add_str(&b, STR("own"));
    http_filter_inject_request(REQUEST_OF('a'), &b, false);
    http_filter_inject_request(REQUEST_OF('a'), &b, false); /* nothing is not passed on */
    check_log("bd:own d:own ");
    headers_add(http_filter_add_request_trailers(REQUEST_OF('a')), STR("x"), STR("y"));
    buffer_add_str(&b, STR("end"));
    http_filter_inject_request(REQUEST_OF('a'), &b, true);
    check_log("bd:end d:end bt t ");
}
END_TEST

START_TEST(test_blocked)
{
    struct buffer b;
    buffer_init(&b);
    full = true;
    ck_assert(http_filter_request_blocked(REQUEST_OF('a')));
    ck_assert(!http_filter_response_blocked(REQUEST_OF('a')));
    full = false;
    ck_assert(!http_filter_request_blocked(REQUEST_OF('a')));
    plans[2][HTTP_REQUEST].data = plans[1][HTTP_REQUEST].data = FILTER_PAUSE;
    http_chain_headers(&chain, HTTP_REQUEST, &head, false);
    feed(HTTP_REQUEST, "12345678901", false);
    check_log("ah bh h ad:12345678901 bd:12345678901 ");
    ck_assert(http_filter_request_blocked(REQUEST_OF('a'))); /* b holds more than it may */
    ck_assert(!http_filter_request_blocked(REQUEST_OF('b')));
    tell_writable = true;
    http_filter_continue_request(REQUEST_OF('b'));
    check_log("d:12345678901 aw bw ");
    http_chain_writable(&chain, HTTP_REQUEST);
    http_chain_writable(&chain, HTTP_RESPONSE);
    check_log("aw bw ");
}
END_TEST

START_TEST(test_reply_stops_the_request)
{
    plans[0][HTTP_REQUEST].headers = FILTER_PAUSE;
    http_chain_headers(&chain, HTTP_REQUEST, &head, false);
    feed(HTTP_REQUEST, "1", false);
    http_filter_reply(REQUEST_OF('a'), 403, 0, STR("no"), STR_NULL, NULL, NULL);
    http_filter_continue_request(REQUEST_OF('a'));
    feed(HTTP_REQUEST, "2", true);
    check_log("ah reply ");
    http_chain_headers(&chain, HTTP_RESPONSE, &head, true);
    check_log("bH aH H ");
}
END_TEST

START_TEST(test_no_filters)
{
    struct http_chain none = {0};
    http_chain_init(&none, NULL, 0, NULL, &ends, NULL, NULL, &arena, 10);
    http_chain_headers(&none, HTTP_REQUEST, &head, true);
    check_log("H ");
    http_chain_complete(&none);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("http_chain");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_order);
    tcase_add_test(t, test_paused_head_holds_all);
    tcase_add_test(t, test_paused_head_that_ends);
    tcase_add_test(t, test_collect);
    tcase_add_test(t, test_collect_ends_with_trailers);
    tcase_add_test(t, test_collect_and_wait);
    tcase_add_test(t, test_collect_too_much);
    tcase_add_test(t, test_collect_too_much_at_the_end);
    tcase_add_test(t, test_two_hold_in_order);
    tcase_add_test(t, test_changes_body);
    tcase_add_test(t, test_added_trailers);
    tcase_add_test(t, test_added_trailers_are_held);
    tcase_add_test(t, test_injected);
    tcase_add_test(t, test_consumed_body);
    tcase_add_test(t, test_blocked);
    tcase_add_test(t, test_reply_stops_the_request);
    tcase_add_test(t, test_no_filters);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
