/* The radix tree against a list that is searched from end to end. */
#include "proxy/router/trie.h"

#include <check.h>
#include <stdlib.h>

static struct arena arena;

static void setup(void)
{
    arena_init(&arena, 0);
}

static void teardown(void)
{
    arena_cleanup(&arena);
}

static void put(struct trie *t, const char *key)
{
    *trie_put(t, &arena, str_of(key)) = (void *)(uintptr_t)key;
}

static void expect(const struct trie *t, const char *text, const char *want)
{
    struct trie_walk w;
    struct str got = STR("");
    const char *key;
    trie_walk_start(&w, t, str_of(text));
    while ((key = trie_walk_next(&w))) {
        ck_assert_uint_eq(w.at, strlen(key));
        got = arena_printf(&arena, "%.*s[%s]", STR_ARG(got), key);
    }
    ck_assert_ptr_null(trie_walk_next(&w)); /* the end stays the end */
    ck_assert_msg(str_eq(got, str_of(want)), "%s: %.*s", text, STR_ARG(got));
}

START_TEST(prefixes)
{
    struct trie t = {.fold = false};
    expect(&t, "/a", "");
    const char *keys[] = {"/ab/c", "/a", "/abc", "/", "/ab", "x"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
        put(&t, keys[i]);
    expect(&t, "/ab/cd", "[/][/a][/ab][/ab/c]");
    expect(&t, "/abc", "[/][/a][/ab][/abc]");
    expect(&t, "/b", "[/]");
    expect(&t, "/A", "[/]");
    expect(&t, "", "");
    expect(&t, "y", "");
    put(&t, "");
    expect(&t, "", "[]");
    expect(&t, "xy", "[][x]");
}
END_TEST

START_TEST(folded_and_reversed)
{
    struct trie f = {.fold = true}, r = {.reverse = true};
    put(&f, "/abc");
    put(&f, "/a");
    expect(&f, "/ABCd", "[/a][/abc]");
    put(&r, ".com");
    put(&r, ".a.com");
    put(&r, "-x.com");
    expect(&r, "b.a.com", "[.com][.a.com]");
    expect(&r, "y-x.com", "[.com][-x.com]");
    expect(&r, ".a.com", "[.com][.a.com]");
    expect(&r, "com", "");
}
END_TEST

/* Random keys of few letters, so that they share much. */
START_TEST(same_as_search)
{
    struct trie t = {.reverse = _i & 1};
    enum { N = 300 };
    char *keys[N];
    srandom((unsigned)_i);
    for (int i = 0; i < N; i++) {
        size_t len = (size_t)random() % 7;
        keys[i] = arena_bytes(&arena, 8);
        for (size_t k = 0; k < len; k++)
            keys[i][k] = (char)('a' + random() % 3);
        keys[i][len] = '\0';
        put(&t, keys[i]);
    }
    for (int i = 0; i < N; i++) {
        struct str text = str_of(keys[i]);
        bool in[8] = {false};
        for (int k = 0; k < N; k++) {
            struct str key = str_of(keys[k]);
            if (t.reverse ? str_ends(text, key) : str_starts(text, key))
                in[key.len] = true;
        }
        struct trie_walk w;
        size_t len = 0;
        trie_walk_start(&w, &t, text);
        while (trie_walk_next(&w)) {
            while (len < w.at)
                ck_assert(!in[len++]);
            ck_assert(in[len++]);
        }
        while (len < 8)
            ck_assert(!in[len++]);
    }
}
END_TEST

int main(void)
{
    TCase *c = tcase_create("all");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, prefixes);
    tcase_add_test(c, folded_and_reversed);
    tcase_add_loop_test(c, same_as_search, 0, 8);
    Suite *s = suite_create("trie");
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
