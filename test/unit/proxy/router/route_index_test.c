/* The index of a virtual host's routes: the same route as by looking at all of them in order, and
 * how few of them are looked at. */
#include "proxy/router/route_private.h"

#include "test/support/route_fixture.h"
#include <check.h>
#include <stdlib.h>

static struct arena arena;
static struct errors errors;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
}

static void teardown(void)
{
    errors_cleanup(&errors);
    arena_cleanup(&arena);
}

static const struct route_list *routes_of(const struct route_table *t)
{
    return &t->inside->vhosts.any->routes;
}

static struct route_matching matching(const struct route_match_input *in)
{
    struct str path = in->headers->path;
    return (struct route_matching){
        .in = in, .path = str_n(path.p, route_path_len(path)), .scratch = &arena};
}

/* --- order --- */

static struct str random_path(int segments)
{
    static const char *const words[] = {"a", "b", "ab", "A", "aB", ""};
    struct str path = STR("");
    for (int i = 0; i < segments; i++)
        path = arena_printf(&arena, "%.*s/%s", STR_ARG(path), words[random() % 6]);
    return path;
}

/* Of every kind, with and without case and a condition. */
static struct str random_route(void)
{
    static const char *const conditions[] = {"", "", ", headers: [{name: x, present_match: true}]",
                                             ", grpc: {}"};
    static const char *const kinds[] = {"prefix", "path", "path_separated_prefix"};
    struct str path = random_path(1 + (int)(random() % 3));
    const char *condition = conditions[random() % 4];
    switch (random() % 6) {
    case 0:
        return arena_printf(&arena,
                            "{match: {safe_regex: {regex: '%s.*'}%s}, route: {cluster: c}},",
                            path.p, condition);
    case 1:
        while (path.len > 1 && path.p[path.len - 1] == '/') /* it may not end so */
            path.len--;
        return arena_printf(&arena,
                            "{match: {path_separated_prefix: '%.*s'%s}, route: {cluster: c}},",
                            STR_ARG(path.len > 1 ? path : STR("/a")), condition);
    default:
        return arena_printf(
            &arena, "{match: {%s: '%s', case_sensitive: %s%s}, route: {cluster: c}},",
            kinds[random() % 2], path.p, random() % 3 ? "true" : "false", condition);
    }
}

START_TEST(same_as_in_order)
{
    struct str all = STR("");
    srandom((unsigned)_i + 1);
    for (int i = 0; i < (_i % 2 ? 200 : 6); i++) {
        struct str one = random_route();
        all = arena_printf(&arena, "%.*s%.*s", STR_ARG(all), STR_ARG(one));
    }
    struct route_table *t = route_fixture_routes(all.p, &arena, &errors);
    const struct route_list *l = routes_of(t);
    for (int i = 0; i < 300; i++) {
        struct headers h = route_fixture_head("h", random_path(1 + (int)(random() % 4)).p, &arena);
        if (random() % 2)
            headers_add(&h, STR("x"), STR("1"));
        if (random() % 4 == 0)
            headers_add_known(&h, HDR_CONTENT_TYPE, STR("application/grpc"));
        struct route_match_input in = {.headers = &h};
        struct route_matching m = matching(&in), all_of_them = m;
        const struct route *want = NULL;
        for (size_t k = 0; k < l->n && !want; k++)
            want = route_conditions_fit(&l->v[k], &all_of_them) ? &l->v[k].route : NULL;
        ck_assert_ptr_eq(route_list_find(l, &m), want);
    }
    route_table_unref(t);
}
END_TEST

/* More prefixes in one path than lists are merged. */
START_TEST(nested_deeply)
{
    struct str all = STR("");
    for (int i = 40; i > 0; i--)
        all = arena_printf(&arena,
                           "%.*s{name: n%d, match: {prefix: '/%.*s', headers: [{name: x, "
                           "string_match: {exact: '%d'}}]}, route: {cluster: c}},",
                           STR_ARG(all), i, i, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", i);
    struct route_table *t = route_fixture_routes(all.p, &arena, &errors);
    for (int i = 1; i <= 41; i++) {
        struct headers h = route_fixture_head("h", "/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                                              &arena);
        headers_add(&h, STR("x"), arena_printf(&arena, "%d", i));
        struct route_match_input in = {.headers = &h};
        struct route_matching m = matching(&in);
        const struct route *r = route_list_find(routes_of(t), &m);
        ck_assert((r != NULL) == (i <= 40));
        if (r)
            ck_assert(str_eq(r->name, arena_printf(&arena, "n%d", i)));
    }
    route_table_unref(t);
}
END_TEST

/* --- cost --- */

/* Routes looked at for a path, with `n` routes of other paths before the one that fits. */
static size_t examined(int n, const char *format, const char *path)
{
    struct str all = STR("");
    for (int i = 0; i < n; i++)
        all = arena_printf(&arena, "%.*s{match: {%s: '/service-%d'}, route: {cluster: c}},",
                           STR_ARG(all), format, i);
    all = arena_printf(&arena, "%.*s{name: last, match: {prefix: /}, route: {cluster: c}}",
                       STR_ARG(all));
    struct route_table *t = route_fixture_routes(all.p, &arena, &errors);
    struct headers h = route_fixture_head("h", path, &arena);
    struct route_match_input in = {.headers = &h};
    struct route_matching m = matching(&in);
    ck_assert_ptr_nonnull(route_list_find(routes_of(t), &m));
    route_table_unref(t);
    return m.examined;
}

START_TEST(few_are_examined)
{
    static const char *const kinds[] = {"prefix", "path", "path_separated_prefix"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        ck_assert_uint_eq(examined(10, kinds[i], "/service-7"), 1);
        /* a separated prefix is tried where a longer word begins like it: -7, -77 and -777 */
        ck_assert_uint_eq(examined(1000, kinds[i], "/service-777"), i == 2 ? 3 : 1);
        ck_assert_uint_eq(examined(10, kinds[i], "/other"), 1);
        ck_assert_uint_eq(examined(1000, kinds[i], "/other"), 1);
    }
}
END_TEST

int main(void)
{
    TCase *c = tcase_create("all");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, same_as_in_order, 0, 12);
    tcase_add_test(c, nested_deeply);
    tcase_add_test(c, few_are_examined);
    Suite *s = suite_create("route_index");
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
