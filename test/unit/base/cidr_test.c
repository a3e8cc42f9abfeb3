#include "base/cidr.h"
#include "base/random.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>

static struct addr ip(const char *text)
{
    struct addr a;
    ck_assert_msg(addr_parse_ip(str_of(text), 0, &a), "%s", text);
    return a;
}

static struct cidr range(const char *text)
{
    struct cidr c;
    ck_assert_msg(cidr_parse(str_of(text), &c), "%s", text);
    return c;
}

START_TEST(test_parse_and_format)
{
    static const char *const t[][2] = {
        {"10.1.2.3/8", "10.0.0.0/8"}, {"10.1.2.3", "10.1.2.3/32"},
        {"0.0.0.0/0", "0.0.0.0/0"},   {"10.255.0.0/9", "10.128.0.0/9"},
        {"::1", "::1/128"},           {"2001:db8:ffff::/33", "2001:db8:8000::/33"},
        {"1.2.3.4/0", "0.0.0.0/0"},   {"ffff::/1", "8000::/1"}};
    char buf[CIDR_TEXT_MAX];
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        struct cidr c = range(t[i][0]), d = range(t[i][1]);
        ck_assert_str_eq(cidr_format(&c, buf).p, t[i][1]);
        ck_assert(cidr_eq(&c, &d));
    }
}
END_TEST

START_TEST(test_parse_refuses)
{
    static const char *const bad[] = {"",
                                      "/",
                                      "/8",
                                      "10.0.0.0/",
                                      "10.0.0.0/33",
                                      "::/129",
                                      "10/8",
                                      "10.0.0.0/8/8",
                                      "10.0.0.0/-1",
                                      "10.0.0.0/+8",
                                      "10.0.0.0/8 ",
                                      "10.0.0.0/0008",
                                      "x/8",
                                      "fe80::1%1/64",
                                      "::/4294967296"};
    struct cidr c;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert_msg(!cidr_parse(str_of(bad[i]), &c), "%s", bad[i]);
        ck_assert_int_eq(c.family, ADDR_NONE);
    }
    ck_assert(!cidr_make(STR("10.0.0.0"), 33, &c));
    ck_assert(!cidr_make(STR("10.0.0.0"), 256 + 8, &c));
    ck_assert(cidr_make(STR("10.0.0.0"), 32, &c));
}
END_TEST

START_TEST(test_contains)
{
    static const struct {
        const char *cidr, *addr;
        bool in;
    } t[] = {{"10.0.0.0/8", "10.255.1.1", true},
             {"10.0.0.0/8", "11.0.0.0", false},
             {"10.0.0.128/25", "10.0.0.127", false},
             {"10.0.0.128/25", "10.0.0.128", true},
             {"0.0.0.0/0", "1.2.3.4", true},
             {"0.0.0.0/0", "::1", false},
             {"::/0", "1.2.3.4", false},
             {"::/0", "ff::1", true},
             {"10.0.0.0/8", "::ffff:10.1.1.1", true},
             {"10.0.0.0/8", "::ffff:11.1.1.1", false},
             {"::ffff:0:0/96", "::ffff:11.1.1.1", true},
             {"2001:db8::/33", "2001:db8:8000::", false},
             {"1.2.3.4/31", "1.2.3.5", true},
             {"1.2.3.4/31", "1.2.3.6", false}};
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        struct cidr c = range(t[i].cidr);
        struct addr a = ip(t[i].addr);
        ck_assert_msg(cidr_contains(&c, &a) == t[i].in, "%s %s", t[i].cidr, t[i].addr);
    }
    struct cidr none = {0};
    struct addr p = {0};
    char buf[CIDR_TEXT_MAX];
    ck_assert(!cidr_contains(&none, &p));
    ck_assert_uint_eq(cidr_format(&none, buf).len, 0);
    struct cidr all = range("0.0.0.0/0");
    ck_assert(addr_parse_pipe(STR("/x"), &p) && !cidr_contains(&all, &p));
}
END_TEST

START_TEST(test_map_most_specific_wins)
{
    static const char *const ranges[] = {"10.0.0.0/8",  "0.0.0.0/0",   "10.1.0.0/16",
                                         "10.1.2.3/32", "10.1.2.0/24", "192.168.0.0/16",
                                         "::/0",        "fd00::/8",    "fd00::1/128"};
    static const char *const lookups[][2] = {{"10.9.9.9", "10.0.0.0/8"},
                                             {"10.1.9.9", "10.1.0.0/16"},
                                             {"10.1.2.3", "10.1.2.3/32"},
                                             {"10.1.2.4", "10.1.2.0/24"},
                                             {"10.1.3.0", "10.1.0.0/16"},
                                             {"11.0.0.0", "0.0.0.0/0"},
                                             {"192.168.5.5", "192.168.0.0/16"},
                                             {"192.169.0.0", "0.0.0.0/0"},
                                             {"fd00::1", "fd00::1/128"},
                                             {"fd00::2", "fd00::/8"},
                                             {"fe00::", "::/0"},
                                             {"::ffff:10.1.2.3", "10.1.2.3/32"},
                                             {"255.255.255.255", "0.0.0.0/0"},
                                             {"0.0.0.0", "0.0.0.0/0"}};
    struct cidr_map m;
    cidr_map_init(&m);
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        struct cidr c = range(ranges[i]);
        void **slot = cidr_map_slot(&m, &c);
        ck_assert_ptr_null(*slot);
        *slot = (void *)(uintptr_t)ranges[i];
    }
    struct cidr again = range("10.0.0.0/8");
    ck_assert_ptr_eq(*cidr_map_slot(&m, &again), ranges[0]);
    cidr_map_seal(&m);
    for (size_t i = 0; i < ARRAY_LEN(lookups); i++) {
        struct addr a = ip(lookups[i][0]);
        const char *found = cidr_map_find(&m, &a);
        ck_assert_msg(found && strcmp(found, lookups[i][1]) == 0, "%s found %s", lookups[i][0],
                      found ? found : "nothing");
    }
    struct addr pipe = {0};
    ck_assert_ptr_null(cidr_map_find(&m, &pipe));
    cidr_map_cleanup(&m, NULL);
}
END_TEST

/* Against the definition, on ranges in a small space so that they nest and touch. */
START_TEST(test_map_agrees_with_a_scan)
{
    random_seed_for_test(9);
    for (int round = 0; round < 50; round++) {
        struct cidr_map m;
        struct cidr all[60];
        cidr_map_init(&m);
        for (size_t i = 0; i < ARRAY_LEN(all); i++) {
            all[i] = range("10.0.0.0/8");
            all[i].bits = (uint8_t)(20 + random_below(13));
            all[i].ip[2] = (uint8_t)random_below(16);
            all[i].ip[3] = (uint8_t)random_below(256);
            char buf[CIDR_TEXT_MAX];
            ck_assert(cidr_parse(cidr_format(&all[i], buf), &all[i]));
            *cidr_map_slot(&m, &all[i]) = &all[i];
        }
        cidr_map_seal(&m);
        for (int k = 0; k < 500; k++) {
            struct addr a = ip("10.0.0.0");
            a.in.sin_addr.s_addr |= htonl((uint32_t)random_below(4096 + 100));
            const struct cidr *best = NULL, *got = cidr_map_find(&m, &a);
            for (size_t i = 0; i < ARRAY_LEN(all); i++) {
                if (cidr_contains(&all[i], &a) && (!best || all[i].bits > best->bits))
                    best = &all[i];
            }
            ck_assert_int_eq(best != NULL, got != NULL);
            if (best)
                ck_assert(cidr_eq(best, got));
        }
        cidr_map_cleanup(&m, NULL);
    }
}
END_TEST

START_TEST(test_map_empty)
{
    struct cidr_map m;
    struct addr a = ip("1.2.3.4");
    cidr_map_init(&m);
    cidr_map_seal(&m);
    ck_assert_ptr_null(cidr_map_find(&m, &a));
    cidr_map_cleanup(&m, NULL);
}
END_TEST

START_TEST(test_abort_adding_to_a_sealed_map)
{
    struct cidr_map m;
    struct cidr c = range("1.2.3.4");
    cidr_map_init(&m);
    cidr_map_seal(&m);
    *cidr_map_slot(&m, &c) = &m;
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/cidr");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_parse_and_format);
    tcase_add_test(tc, test_parse_refuses);
    tcase_add_test(tc, test_contains);
    tcase_add_test(tc, test_map_most_specific_wins);
    tcase_add_test(tc, test_map_agrees_with_a_scan);
    tcase_add_test(tc, test_map_empty);
    tcase_add_test_raise_signal(tc, test_abort_adding_to_a_sealed_map, SIGABRT);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
