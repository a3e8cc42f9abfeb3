/* Which first bytes are HTTP: the judgements of Envoy 1.40's http_inspector (observed), and that a
 * decision is made at the first byte that leaves no other, never before, and never changes. */
#include "proxy/listener/http_preface.h"

#include <check.h>
#include <stdlib.h>

static const struct {
    const char *line;
    enum http_preface want;
} cases[] = {
    {"GET / HTTP/1.1\r\n", HTTP_PREFACE_11},
    {"GET / HTTP/1.1\n", HTTP_PREFACE_11},
    {"OPTIONS * HTTP/1.1\r\n", HTTP_PREFACE_11},
    {"CONNECT foo:80 HTTP/1.1\r\n", HTTP_PREFACE_11},
    {"CONNECT foo HTTP/1.1\r\n", HTTP_PREFACE_11},
    {"GET http://a/ HTTP/1.1\r\n", HTTP_PREFACE_11},
    {"GET FOO://a HTTP/1.1\r\n", HTTP_PREFACE_11},
    {"GET *x HTTP/1.1\r\n", HTTP_PREFACE_11},
    {"GET  / HTTP/1.1\r\n", HTTP_PREFACE_11},
    {"GET\t/\tHTTP/1.1\r\n", HTTP_PREFACE_11},
    {"GET / HTTP/1.1 \r\n", HTTP_PREFACE_11},
    {"GET /\x01 HTTP/1.1\r\n", HTTP_PREFACE_11},
    {"get / HTTP/1.1\r\n", HTTP_PREFACE_11},
    {"GETX / HTTP/1.1\r\n", HTTP_PREFACE_11},
    {"M-SEARCH * HTTP/1.1\r\n", HTTP_PREFACE_11},
    {"GET / HTTP/1.0\r\n", HTTP_PREFACE_10},
    {"GET / HTTP/0.9\r\n", HTTP_PREFACE_10},
    {"GET / HTTP/1.2\r\n", HTTP_PREFACE_10},
    {"GET / HTTP/2.0\r\n", HTTP_PREFACE_10},
    {"GET /\r\n", HTTP_PREFACE_10},
    {"GET / \r\n", HTTP_PREFACE_10},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTP_PREFACE_2},
    {"PRI * HTTP/2.0\r\n\r\nSX", HTTP_PREFACE_10},
    {"GET", HTTP_PREFACE_MORE},
    {"GET ", HTTP_PREFACE_MORE},
    {"GET h", HTTP_PREFACE_MORE},
    {"GET http:", HTTP_PREFACE_MORE},
    {"GET / HTT", HTTP_PREFACE_MORE},
    {"GET / HTTP/1.1", HTTP_PREFACE_MORE},
    {"SSH-2.0-x", HTTP_PREFACE_MORE}, /* a method, for all we know */
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", HTTP_PREFACE_MORE},
    {"\r\n", HTTP_PREFACE_NONE},
    {" ", HTTP_PREFACE_NONE},
    {"G@T", HTTP_PREFACE_NONE},
    {"\xff", HTTP_PREFACE_NONE},
    {"GET\r\n", HTTP_PREFACE_NONE},
    {"GET \r\n", HTTP_PREFACE_NONE},
    {"SSH-2.0-x\r\n", HTTP_PREFACE_NONE},
    {"EHLO x\r\n", HTTP_PREFACE_NONE},
    {"GET httpx H", HTTP_PREFACE_NONE},
    {"GET ?", HTTP_PREFACE_NONE},
    {"GET :", HTTP_PREFACE_NONE},
    {"GET http:/x", HTTP_PREFACE_NONE},
    {"GET /a b", HTTP_PREFACE_NONE},
    {"GET / h", HTTP_PREFACE_NONE},
    {"GET / HTTP/x", HTTP_PREFACE_NONE},
    {"GET / HTTP/1x", HTTP_PREFACE_NONE},
    {"GET / HTTP/1.x", HTTP_PREFACE_NONE},
    {"GET / HTTP/1.10", HTTP_PREFACE_NONE},
    {"GET / HTTP/1.1 x", HTTP_PREFACE_NONE},
};

START_TEST(judged)
{
    struct str line = str_of(cases[_i].line);
    ck_assert_msg(http_preface_look(line) == cases[_i].want, "%s: %d, want %d", line.p,
                  http_preface_look(line), cases[_i].want);
    /* What begins so stays so, and every shorter beginning may still become it or anything. */
    for (size_t n = 0; n < line.len; n++) {
        enum http_preface early = http_preface_look(str_n(line.p, n));
        bool last = n + 1 == line.len || line.p[n] == '\n'; /* CR decides, LF is not waited for */
        ck_assert_msg(early == HTTP_PREFACE_MORE || (last && early == cases[_i].want), "%s at %zu",
                      line.p, n);
    }
}
END_TEST

START_TEST(nul_is_a_byte)
{
    ck_assert_int_eq(http_preface_look(STR("\0")), HTTP_PREFACE_NONE);
    ck_assert_int_eq(http_preface_look(STR("GE\0")), HTTP_PREFACE_NONE);
    ck_assert_int_eq(http_preface_look(STR("GET /\0 HTTP/1.1\r\n")), HTTP_PREFACE_11);
    ck_assert_int_eq(http_preface_look(STR_NULL), HTTP_PREFACE_MORE);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("http_preface");
    TCase *t = tcase_create("all");
    tcase_add_loop_test(t, judged, 0, (int)ARRAY_LEN(cases));
    tcase_add_test(t, nul_is_a_byte);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
