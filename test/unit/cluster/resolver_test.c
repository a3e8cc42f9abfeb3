#include "cluster/resolver.h"

#include "base/stats_visit.h"
#include "test/support/fake_dns.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static struct loop *loop;
static struct resolver *resolver;
static struct fake_dns dns;
static struct resolver_options options;

static const struct fake_dns_name zone[] = {
    {"one.test", "10.0.0.1", 60},          {"two.test", "10.0.0.1 10.0.0.2", 30},
    {"six.test", "fd00::1 10.0.0.6", 60},  {"none.test", "", 60},
    {"short.search.test", "10.0.0.8", 60},
};

/* What an asker was told. */
struct told {
    struct resolver_query q;
    enum dns_status status;
    uint64_t ttl_ms;
    char addrs[256];
    struct told *cancel; /* in on_answer */
    bool again;          /* asks once more in on_answer */
};

static unsigned answers;

static void ask(struct told *t, const char *name, enum dns_family family, uint64_t max_age_ms);

static void on_answer(void *arg, const struct dns_answer *a)
{
    struct told *t = arg;
    char text[ADDR_TEXT_MAX];

    answers++;
    t->status = a->status;
    t->ttl_ms = a->ttl_ms;
    t->addrs[0] = 0;
    for (uint32_t i = 0; i < a->num_addrs && i < 8; i++) {
        struct str s = addr_format_ip(&a->addrs[i], text);
        size_t n = strlen(t->addrs);
        snprintf(t->addrs + n, sizeof(t->addrs) - n, "%s%.*s", n ? " " : "", STR_ARG(s));
    }
    if (t->cancel)
        resolver_cancel(&t->cancel->q);
    if (t->again) {
        t->again = false;
        ask(t, "one.test", DNS_V4_ONLY, 0);
    }
}

static void ask(struct told *t, const char *name, enum dns_family family, uint64_t max_age_ms)
{
    t->q.on_answer = on_answer;
    t->q.arg = t;
    resolver_ask(resolver, &options, str_of(name), family, max_age_ms, false, &t->q);
}

static void expect(struct told *t, const char *name, enum dns_family family, enum dns_status status,
                   const char *addrs)
{
    unsigned before = answers;
    ask(t, name, family, 0);
    ck_assert_uint_eq(answers, before); /* never before it returns */
    fake_dns_wait(&dns, &answers, before + 1);
    ck_assert_int_eq(t->status, status);
    ck_assert_str_eq(t->addrs, addrs);
}

static uint64_t stat(const char *name)
{
    uint64_t n = UINT64_MAX;
    ck_assert_msg(stats_find(str_of(name), &n), "%s", name);
    return n;
}

static void setup(void)
{
    stats_init(1);
    loop = loop_new(false);
    fake_dns_start(&dns, loop);
    dns.zone = zone;
    dns.num_zone = ARRAY_LEN(zone);
    resolver = resolver_new(loop);
    options = (struct resolver_options){
        .servers = str_of(dns.server), .no_search = true, .tries = 2, .timeout_ms = 200};
    answers = 0;
}

static void teardown(void)
{
    resolver_free(&resolver);
    fake_dns_stop(&dns);
    loop_free(&loop);
    stats_cleanup();
}

START_TEST(an_answer_has_its_addresses_and_the_ttl)
{
    struct told t = {0};
    expect(&t, "two.test", DNS_V4_ONLY, DNS_OK, "10.0.0.1 10.0.0.2");
    ck_assert_uint_eq(t.ttl_ms, 30000);
    expect(&t, "none.test", DNS_V4_ONLY, DNS_NO_RECORDS, "");
    expect(&t, "nowhere.test", DNS_V4_ONLY, DNS_NO_RECORDS, "");
    ck_assert_uint_eq(stat("dns.cares.not_found"), 2);
    ck_assert_uint_eq(stat("dns.cares.resolve_total"), 3);
    ck_assert_uint_eq(stat("dns.cares.pending_resolutions"), 0);
}
END_TEST

START_TEST(many_who_ask_are_one_question)
{
    struct told t[50] = {0};
    for (int i = 0; i < 50; i++)
        ask(&t[i], i % 2 ? "one.test" : "ONE.test", DNS_V4_ONLY, 60000);
    fake_dns_wait(&dns, &answers, 50);
    ck_assert_uint_eq(dns.asked, 1);
    ck_assert_uint_eq(stat("dns.cares.shared"), 49);
    ask(&t[0], "one.test", DNS_V4_ONLY, 60000); /* young enough */
    fake_dns_wait(&dns, &answers, 51);
    ck_assert_uint_eq(dns.asked, 1);
    ck_assert_uint_eq(stat("dns.cares.cache_hit"), 1);
    ask(&t[0], "one.test", DNS_V4_ONLY, 0); /* too old for this one */
    fake_dns_wait(&dns, &answers, 52);
    ck_assert_uint_eq(dns.asked, 2);
    t[0].q.on_answer = on_answer; /* by TTL it is still fresh */
    resolver_ask(resolver, &options, STR("one.test"), DNS_V4_ONLY, 0, true, &t[0].q);
    fake_dns_wait(&dns, &answers, 53);
    ck_assert_uint_eq(dns.asked, 2);
}
END_TEST

START_TEST(families)
{
    struct told t = {0};
    expect(&t, "six.test", DNS_AUTO, DNS_OK, "fd00::1");
    expect(&t, "one.test", DNS_AUTO, DNS_OK, "10.0.0.1");
    expect(&t, "six.test", DNS_V4_PREFERRED, DNS_OK, "10.0.0.6");
    expect(&t, "six.test", DNS_V6_ONLY, DNS_OK, "fd00::1");
    expect(&t, "one.test", DNS_V6_ONLY, DNS_NO_RECORDS, "");
    expect(&t, "none.test", DNS_AUTO, DNS_NO_RECORDS, "");
    dns.asked = dns.asked_v6 = 0;
    ask(&t, "six.test", DNS_ALL, 0);
    answers = 0;
    fake_dns_wait(&dns, &answers, 1);
    ck_assert_uint_eq(dns.asked, 2);
    ck_assert_uint_eq(dns.asked_v6, 1);
    ck_assert_ptr_nonnull(strstr(t.addrs, "fd00::1"));
    ck_assert_ptr_nonnull(strstr(t.addrs, "10.0.0.6"));
}
END_TEST

START_TEST(a_failure_keeps_what_was_known)
{
    struct told t = {0};
    expect(&t, "one.test", DNS_V4_ONLY, DNS_OK, "10.0.0.1");
    dns.rcode = 2; /* SERVFAIL */
    expect(&t, "one.test", DNS_V4_ONLY, DNS_FAILED, "10.0.0.1");
    dns.asked = 0; /* a failure is kept for a while */
    ask(&t, "one.test", DNS_V4_ONLY, 60000);
    fake_dns_wait(&dns, &answers, 3);
    ck_assert_int_eq(t.status, DNS_FAILED);
    ck_assert_uint_eq(dns.asked, 0);
    dns.rcode = 0;
    dns.silent = true;
    expect(&t, "one.test", DNS_V4_ONLY, DNS_FAILED, "10.0.0.1");
    ck_assert_uint_ge(stat("dns.cares.timeouts"), 1);
    dns.silent = false;
    expect(&t, "one.test", DNS_V4_ONLY, DNS_OK, "10.0.0.1");
    ck_assert_uint_eq(stat("dns.cares.get_addr_failure"), 2);
    expect(&t, "none.test", DNS_V4_ONLY, DNS_NO_RECORDS, ""); /* which is an answer */
}
END_TEST

START_TEST(who_cancels_is_not_told)
{
    struct told a = {0}, b = {0}, c = {0};
    a.cancel = &b; /* while both are being told */
    ask(&a, "one.test", DNS_V4_ONLY, 0);
    ask(&b, "one.test", DNS_V4_ONLY, 0);
    ask(&c, "one.test", DNS_V4_ONLY, 0);
    resolver_cancel(&c.q);
    fake_dns_wait(&dns, &answers, 1);
    a.cancel = NULL;
    a.again = true; /* a question from an answer */
    ask(&a, "one.test", DNS_V4_ONLY, 0);
    fake_dns_wait(&dns, &answers, 3);
    ck_assert_uint_eq(dns.asked, 3);
    ck_assert_str_eq(b.addrs, "");
    ck_assert_str_eq(c.addrs, "");
}
END_TEST

START_TEST(it_ends_with_questions_on_their_way)
{
    struct told t[3] = {0};
    dns.silent = true;
    ask(&t[0], "one.test", DNS_V4_ONLY, 0);
    ask(&t[1], "two.test", DNS_ALL, 0);
    ask(&t[2], "...", DNS_ALL, 0);
    loop_run_once(loop, false);
    resolver_free(&resolver);
    resolver_cancel(&t[0].q);
    resolver_cancel(&t[1].q);
    ck_assert_uint_le(answers, 1);
}
END_TEST

START_TEST(nobody_is_there_for_a_while)
{
    struct told t = {0};
    uint64_t begin;

    expect(&t, "one.test", DNS_V4_ONLY, DNS_OK, "10.0.0.1");
    fake_dns_close(&dns);
    expect(&t, "one.test", DNS_V4_ONLY, DNS_FAILED, "10.0.0.1");
    expect(&t, "two.test", DNS_V4_ONLY, DNS_FAILED, "");
    fake_dns_open(&dns);
    expect(&t, "two.test", DNS_V4_ONLY, DNS_OK, "10.0.0.1 10.0.0.2");
    begin = loop_now_ms(loop);
    while (loop_now_ms(loop) < begin + 1100)
        loop_run_once(loop, false);
    expect(&t, "one.test", DNS_V4_ONLY, DNS_OK, "10.0.0.1");
    ck_assert_uint_eq(stat("dns.cares.reinits"), 1);
}
END_TEST

START_TEST(search_list_and_hosts_file)
{
    struct told t = {0};
    setenv("LOCALDOMAIN", "search.test", 1);
    options.no_search = false;
    expect(&t, "short", DNS_V4_ONLY, DNS_OK, "10.0.0.8");
    expect(&t, "one.test", DNS_V4_ONLY, DNS_OK, "10.0.0.1");
    options.no_search = true;
    expect(&t, "short", DNS_V4_ONLY, DNS_NO_RECORDS, "");
    unsetenv("LOCALDOMAIN");
    dns.asked = 0;
    expect(&t, "localhost", DNS_V4_ONLY, DNS_OK, "127.0.0.1");
    ck_assert_uint_eq(dns.asked, 0);
}
END_TEST

START_TEST(names_of_a_bad_form_are_not_asked)
{
    static const char *const bad[] = {"", ".", "a..b", ".a", "a b", "a\tb", "caf\xc3\xa9"};
    struct told t = {0};
    char name[300], label[80];

    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        expect(&t, bad[i], DNS_V4_ONLY, DNS_FAILED, "");
    memset(label, 'a', sizeof(label));
    ck_assert(resolver_name_valid(str_n(label, 63)));
    ck_assert(!resolver_name_valid(str_n(label, 64)));
    for (int i = 0; i < 300; i++)
        name[i] = i % 2 ? '.' : 'a';
    ck_assert(resolver_name_valid(str_n(name, 253)));
    ck_assert(resolver_name_valid(str_n(name, 254))); /* with the dot of the root */
    ck_assert(!resolver_name_valid(str_n(name, 255)));
    ck_assert(resolver_name_valid(STR("_sip.a-b.test.")));
    ck_assert_uint_eq(dns.asked, 0);
    ck_assert_uint_eq(stat("dns.cares.bad_name"), ARRAY_LEN(bad));
}
END_TEST

START_TEST(sockets_are_renewed)
{
    struct told t = {0};
    options.udp_max_queries = 2;
    for (int i = 0; i < 6; i++)
        expect(&t, "one.test", DNS_V4_ONLY, DNS_OK, "10.0.0.1");
    ck_assert_uint_eq(stat("dns.cares.reinits"), 2);
    ck_assert_uint_ge(dns.ports, 2); /* the kernel may give a port twice */
    options = (struct resolver_options){.servers = str_of(dns.server), .max_channel_ms = 1};
    expect(&t, "one.test", DNS_V4_ONLY, DNS_OK, "10.0.0.1");
    for (int i = 0; i < 3; i++)
        loop_run_once(loop, false);
    uint64_t start = loop_now_ms(loop);
    while (loop_now_ms(loop) < start + 3)
        loop_run_once(loop, false);
    expect(&t, "one.test", DNS_V4_ONLY, DNS_OK, "10.0.0.1");
    ck_assert_uint_eq(stat("dns.cares.reinits"), 3);
}
END_TEST

START_TEST(more_names_than_may_be_asked_at_a_time)
{
    static struct told t[400];
    char name[32];
    memset(t, 0, sizeof(t));
    for (int i = 0; i < 400; i++) {
        snprintf(name, sizeof(name), "n%d.test", i);
        ask(&t[i], name, DNS_V4_ONLY, 60000);
    }
    ck_assert_uint_eq(stat("dns.cares.pending_resolutions"), 400);
    fake_dns_wait(&dns, &answers, 400);
    ck_assert_uint_eq(dns.asked, 400);
    ck_assert_uint_eq(stat("dns.cares.pending_resolutions"), 0);
}
END_TEST

START_TEST(options_come_and_go)
{
    struct told t = {0};
    for (unsigned i = 1; i < RESOLVER_CHANNELS_MAX + 10; i++) {
        options.udp_max_queries = 1000 + i;
        expect(&t, "one.test", DNS_V4_ONLY, DNS_OK, "10.0.0.1");
    }
    ck_assert_uint_eq(stat("dns.cares.overflow"), 0);
    options.servers = STR("this is no server");
    expect(&t, "one.test", DNS_V4_ONLY, DNS_FAILED, "");
}
END_TEST

START_TEST(too_many_options_in_use_fail)
{
    static struct told t[RESOLVER_CHANNELS_MAX + 1];
    memset(t, 0, sizeof(t));
    dns.silent = true;
    for (unsigned i = 0; i <= RESOLVER_CHANNELS_MAX; i++) {
        options.udp_max_queries = 1000 + i;
        ask(&t[i], "one.test", DNS_V4_ONLY, 0);
    }
    fake_dns_wait(&dns, &answers, 1);
    ck_assert_int_eq(t[RESOLVER_CHANNELS_MAX].status, DNS_FAILED);
    ck_assert_uint_eq(stat("dns.cares.overflow"), 1);
}
END_TEST

/* --- servers that lie ------------------------------------------------------------------------- */

static size_t wrong_id(void *arg, const uint8_t *q, size_t len, uint8_t *out, size_t cap)
{
    size_t n = fake_dns_answer(&dns, q, len, out, cap);
    out[0] ^= 1;
    return n;
}

static size_t other_question(void *arg, const uint8_t *q, size_t len, uint8_t *out, size_t cap)
{
    size_t n = fake_dns_answer(&dns, q, len, out, cap);
    out[13] = 'x';
    return n;
}

static size_t garbage(void *arg, const uint8_t *q, size_t len, uint8_t *out, size_t cap)
{
    for (int i = 0; i < 600; i++)
        out[i] = (uint8_t)(i * 7);
    return 600;
}

static size_t garbage_behind_the_head(void *arg, const uint8_t *q, size_t len, uint8_t *out,
                                      size_t cap)
{
    size_t n = fake_dns_answer(&dns, q, len, out, cap);
    memset(out + len, 0xff, 100);
    out[7] = 200; /* records */
    return n > len + 100 ? n : len + 100;
}

static size_t cut_short(void *arg, const uint8_t *q, size_t len, uint8_t *out, size_t cap)
{
    return fake_dns_answer(&dns, q, len, out, cap) - 3;
}

static size_t head_only(void *arg, const uint8_t *q, size_t len, uint8_t *out, size_t cap)
{
    (void)fake_dns_answer(&dns, q, len, out, cap);
    return 12;
}

static size_t few_bytes(void *arg, const uint8_t *q, size_t len, uint8_t *out, size_t cap)
{
    memcpy(out, q, 4);
    return 4;
}

/* The name of the record refers to itself. */
static size_t name_loop(void *arg, const uint8_t *q, size_t len, uint8_t *out, size_t cap)
{
    size_t n = fake_dns_answer(&dns, q, len, out, cap);
    size_t at = n - 16;
    out[at] = (uint8_t)(0xc0 | at >> 8);
    out[at + 1] = (uint8_t)at;
    return n;
}

/* one.test is one.test is one.test ... */
static size_t cname_loop(void *arg, const uint8_t *q, size_t len, uint8_t *out, size_t cap)
{
    static const uint8_t cname[] = {0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12};
    memcpy(out, q, len);
    out[2] = 0x81;
    out[3] = 0x80;
    out[7] = 30;
    for (int i = 0; i < 30; i++)
        memcpy(out + len + (size_t)i * sizeof(cname), cname, sizeof(cname));
    return len + 30 * sizeof(cname);
}

/* An address of another name. */
static size_t other_owner(void *arg, const uint8_t *q, size_t len, uint8_t *out, size_t cap)
{
    size_t n = fake_dns_answer(&dns, q, len, out, cap);
    memmove(out + n - 16 + 6, out + n - 16 + 2, 14);
    memcpy(out + n - 16, "\4evil", 6);
    return n + 4;
}

static size_t huge(void *arg, const uint8_t *q, size_t len, uint8_t *out, size_t cap)
{
    size_t n = fake_dns_answer(&dns, q, len, out, cap);
    for (unsigned i = 1; i < 3000 && n + 16 <= 60000; i++, n += 16) {
        memcpy(out + n, out + n - 16, 16);
        out[n + 15] = (uint8_t)i;
        out[n + 14] = (uint8_t)(i >> 8);
        out[6] = (uint8_t)((i + 1) >> 8);
        out[7] = (uint8_t)(i + 1);
    }
    return n;
}

static const struct {
    const char *what;
    size_t (*lie)(void *, const uint8_t *, size_t, uint8_t *, size_t);
} lies[] = {
    {"wrong_id", wrong_id},
    {"other_question", other_question},
    {"garbage", garbage},
    {"garbage_behind_the_head", garbage_behind_the_head},
    {"cut_short", cut_short},
    {"head_only", head_only},
    {"few_bytes", few_bytes},
    {"name_loop", name_loop},
    {"cname_loop", cname_loop},
    {"other_owner", other_owner},
    {"huge", huge},
};

START_TEST(a_lie_is_no_answer_and_does_no_harm)
{
    struct told t = {0};
    unsigned before;

    dns.lie = lies[_i].lie;
    ask(&t, "one.test", DNS_V4_ONLY, 0);
    before = answers;
    fake_dns_wait(&dns, &answers, before + 1);
    if (dns.lie != huge) { /* whose beginning may be read: the library takes 4 KiB of UDP */
        ck_assert_msg(t.status != DNS_OK, "%s: %s", lies[_i].what, t.addrs);
        ck_assert_str_eq(t.addrs, "");
    }
    dns.lie = NULL;
    expect(&t, "one.test", DNS_V4_ONLY, DNS_OK, "10.0.0.1");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster/resolver");
    TCase *t = tcase_create("resolver");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, an_answer_has_its_addresses_and_the_ttl);
    tcase_add_test(t, many_who_ask_are_one_question);
    tcase_add_test(t, families);
    tcase_add_test(t, a_failure_keeps_what_was_known);
    tcase_add_test(t, who_cancels_is_not_told);
    tcase_add_test(t, it_ends_with_questions_on_their_way);
    tcase_add_test(t, nobody_is_there_for_a_while);
    tcase_add_test(t, search_list_and_hosts_file);
    tcase_add_test(t, names_of_a_bad_form_are_not_asked);
    tcase_add_test(t, sockets_are_renewed);
    tcase_add_test(t, more_names_than_may_be_asked_at_a_time);
    tcase_add_test(t, options_come_and_go);
    tcase_add_test(t, too_many_options_in_use_fail);
    tcase_add_loop_test(t, a_lie_is_no_answer_and_does_no_harm, 0, ARRAY_LEN(lies));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
