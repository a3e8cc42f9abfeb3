/* Accept-encoding against what is offered; every row is what Envoy 1.40 answers. */
#include "proxy/filters/compressor_choice.h"

#include "base/alloc.h"
#include <check.h>
#include <stdlib.h>

static const struct {
    const char *accept;
    enum compressor_verdict verdict;
    const char *encoding;
} rows[] = {
    {"", COMPRESSOR_NOT_VALID, "identity"},
    {"gzip", COMPRESSOR_CHOSEN, "gzip"},
    {"br", COMPRESSOR_CHOSEN, "br"},
    {"gzip, br", COMPRESSOR_CHOSEN, "gzip"},
    {"br, gzip", COMPRESSOR_CHOSEN, "br"},
    {"zstd;q=0.5, br;q=0.7", COMPRESSOR_CHOSEN, "br"},
    {"br;q=0.5, zstd;q=0.5", COMPRESSOR_CHOSEN, "zstd"}, /* choose_first */
    {"*", COMPRESSOR_WILDCARD, "gzip"},
    {"*;q=0", COMPRESSOR_NOT_VALID, "identity"},
    {"*;q=0.5, gzip;q=0", COMPRESSOR_WILDCARD, "br"},
    {"identity", COMPRESSOR_IDENTITY, "identity"},
    {"identity;q=0.5, gzip;q=0.4", COMPRESSOR_IDENTITY, "identity"},
    {"identity;q=0", COMPRESSOR_NOT_VALID, "identity"},
    {"gzip;q=0", COMPRESSOR_NOT_VALID, "identity"},
    {"gzip;q=0, br;q=0, zstd;q=0, *", COMPRESSOR_NOT_VALID, "identity"},
    {"gzip;q=abc, br", COMPRESSOR_CHOSEN, "br"},
    {"gzip;q=", COMPRESSOR_NOT_VALID, "identity"},
    {"gzip;q=1.0;foo=1", COMPRESSOR_NOT_VALID, "identity"},
    {"gzip;Q=0.5", COMPRESSOR_CHOSEN, "gzip"},
    {"gzip;x=1", COMPRESSOR_CHOSEN, "gzip"},
    {"gzip;;", COMPRESSOR_CHOSEN, "gzip"},
    {"GZIP", COMPRESSOR_NOT_VALID, "identity"},
    {",,gzip", COMPRESSOR_CHOSEN, "gzip"},
    {"gzip;q=2", COMPRESSOR_CHOSEN, "gzip"},
    {"gzip;q=-1", COMPRESSOR_NOT_VALID, "identity"},
    {"gzip;q=1e-3", COMPRESSOR_CHOSEN, "gzip"},
    {"deflate", COMPRESSOR_NOT_VALID, "identity"},
};

START_TEST(choices)
{
    static const struct compressor_offer offers[] = {
        {{"gzip", 4}, false}, {{"br", 2}, false}, {{"zstd", 4}, true}, {{"gzip", 4}, true}};
    struct compressor_decision d = compressor_choose(str_of(rows[_i].accept), offers,
                                                     ARRAY_LEN(offers));
    ck_assert_int_eq(d.verdict, rows[_i].verdict);
    ck_assert(str_eq(d.encoding, str_of(rows[_i].encoding)));
}
END_TEST

START_TEST(nothing_is_offered)
{
    ck_assert_int_eq(compressor_choose(STR("gzip"), NULL, 0).verdict, COMPRESSOR_NOT_VALID);
}
END_TEST

START_TEST(types)
{
    struct arena a;
    struct compressor_types t;
    char own[] = "Text/Own", *configured[] = {own};
    arena_init(&a, 0);
    compressor_types_compile(&t, NULL, 0, &a);
    ck_assert(compressor_type_allowed(&t, STR("text/html; charset=utf-8")));
    ck_assert(compressor_type_allowed(&t, STR("APPLICATION/JSON")));
    ck_assert(!compressor_type_allowed(&t, STR("image/png")));
    ck_assert(!compressor_type_allowed(&t, STR("")));
    compressor_types_compile(&t, configured, 1, &a);
    ck_assert(compressor_type_allowed(&t, STR("text/own;x")));
    ck_assert(!compressor_type_allowed(&t, STR("text/html")));
    arena_cleanup(&a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("compressor_choice");
    TCase *tc = tcase_create("choice");
    tcase_add_loop_test(tc, choices, 0, ARRAY_LEN(rows));
    tcase_add_test(tc, nothing_is_offered);
    tcase_add_test(tc, types);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
