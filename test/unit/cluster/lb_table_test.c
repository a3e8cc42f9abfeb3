#include "cluster/lb_table.h"

#include "base/hash.h"
#include "base/random.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

enum { NUM = 50 };

static char names[NUM][32];
static struct lb_table_entry entries[NUM];

static void setup(void)
{
    double sum = 0;
    random_seed_for_test(3);
    for (int i = 0; i < NUM; i++)
        sum += 1 + i % 4;
    for (int i = 0; i < NUM; i++) {
        snprintf(names[i], sizeof(names[i]), "10.0.0.%d:80", i);
        entries[i] = (struct lb_table_entry){str_of(names[i]), (1 + i % 4) / sum};
    }
}

static struct lb_table *build(const struct lb_table_config *config, uint32_t num, uint64_t slice)
{
    struct lb_table *t = lb_table_new(config, entries, num);
    uint64_t budget = slice;
    while (!lb_table_step(t, &budget)) {
        ck_assert_uint_eq(budget, 0); /* all of it was used */
        budget = slice;
    }
    return t;
}

static void check_slices(const struct lb_table_config *config)
{
    struct lb_table *whole = build(config, NUM, UINT64_MAX), *sliced = build(config, NUM, 7);
    for (int i = 0; i < 20000; i++) {
        uint64_t hash = random_u64();
        uint32_t attempt = i % 3;
        ck_assert_uint_eq(lb_table_find(whole, hash, attempt),
                          lb_table_find(sliced, hash, attempt));
    }
    ck_assert_uint_eq(lb_table_find(whole, 0, 0), lb_table_find(sliced, 0, 0));
    ck_assert_uint_eq(lb_table_find(whole, UINT64_MAX, 0), lb_table_find(sliced, UINT64_MAX, 0));
    lb_table_free(&whole);
    lb_table_free(&sliced);
    ck_assert_ptr_null(whole);
}

static const struct lb_table_config ring = {
    .kind = LB_TABLE_RING, .min_size = 1024, .max_size = 8 << 20};
static const struct lb_table_config maglev = {.kind = LB_TABLE_MAGLEV, .size = 65537};

START_TEST(slices_make_the_same_table)
{
    struct lb_table_config murmur = ring;
    murmur.murmur = true;
    check_slices(&ring);
    check_slices(&maglev);
    check_slices(&murmur);
}
END_TEST

struct point {
    uint64_t hash;
    uint32_t owner;
};

static int by_hash(const void *a, const void *b)
{
    uint64_t x = ((const struct point *)a)->hash, y = ((const struct point *)b)->hash;
    return x < y ? -1 : x > y;
}

/* Four hosts of equal weight and a ring of 40: ten points each, at the hashes of KEY_0 to KEY_9. */
START_TEST(ring_is_ketama)
{
    const struct lb_table_config config = {.kind = LB_TABLE_RING, .min_size = 40, .max_size = 100};
    struct point points[40];
    struct lb_table *t;
    for (uint32_t i = 0; i < 40; i++) {
        char text[64];
        int n = snprintf(text, sizeof(text), "%s_%u", names[i / 10], i % 10);
        points[i] = (struct point){hash_xxh64(text, (size_t)n, 0), i / 10};
    }
    qsort(points, 40, sizeof(points[0]), by_hash);
    for (int i = 0; i < 4; i++)
        entries[i].weight = 0.25;
    t = build(&config, 4, UINT64_MAX);
    ck_assert_uint_eq(lb_table_size_of(t).size, 40);
    ck_assert_uint_eq(lb_table_size_of(t).least, 10);
    ck_assert_uint_eq(lb_table_size_of(t).most, 10);
    for (int i = 0; i < 40; i++) {
        uint64_t next = points[(i + 1) % 40].hash;
        ck_assert_uint_eq(lb_table_find(t, points[i].hash, 0), points[i].owner);
        ck_assert_uint_eq(lb_table_find(t, points[i].hash + 1, 0), points[(i + 1) % 40].owner);
        ck_assert_uint_eq(lb_table_find(t, next, 3), points[(i + 4) % 40].owner);
    }
    lb_table_free(&t);
}
END_TEST

START_TEST(rings_have_a_size)
{
    struct lb_table_config small = {.kind = LB_TABLE_RING, .min_size = 1, .max_size = 7};
    struct lb_table_config empty = {.kind = LB_TABLE_RING, .min_size = 0, .max_size = 0};
    struct lb_table *t = build(&small, NUM, UINT64_MAX);
    ck_assert_uint_ge(lb_table_size_of(t).size, 7); /* fewer than hosts: some have none */
    ck_assert_uint_le(lb_table_size_of(t).size, 8); /* one more by rounding */
    ck_assert_uint_eq(lb_table_size_of(t).least, 0);
    ck_assert_uint_eq(lb_table_size_of(t).most, 1);
    for (int i = 0; i < 100; i++)
        ck_assert_uint_lt(lb_table_find(t, random_u64(), 0), NUM);
    lb_table_free(&t);
    t = build(&empty, NUM, UINT64_MAX);
    ck_assert_uint_eq(lb_table_size_of(t).size, 0);
    lb_table_free(&t);
    t = build(&ring, 0, UINT64_MAX);
    ck_assert_uint_eq(lb_table_size_of(t).size, 0);
    lb_table_free(&t);
}
END_TEST

START_TEST(long_keys)
{
    static char key[4000];
    struct lb_table *t;
    memset(key, 'k', sizeof(key) - 1);
    entries[0] = (struct lb_table_entry){str_of(key), 1};
    t = build(&ring, 1, UINT64_MAX);
    ck_assert_uint_eq(lb_table_size_of(t).size, 1024);
    ck_assert_uint_eq(lb_table_find(t, 5, 0), 0);
    lb_table_free(&t);
}
END_TEST

START_TEST(maglev_follows_weights)
{
    struct lb_table *t = build(&maglev, NUM, UINT64_MAX), *fewer;
    unsigned picks[NUM] = {0}, moved = 0;
    for (uint64_t i = 0; i < 65537; i++)
        picks[lb_table_find(t, i, 0)]++;
    for (int i = 0; i < NUM; i++) {
        double want = entries[i].weight * 65537;
        ck_assert_msg(picks[i] > want * 0.98 && picks[i] < want * 1.02, "%d: %u", i, picks[i]);
    }
    fewer = build(&maglev, NUM - 1, UINT64_MAX); /* only little of the rest moves */
    for (uint64_t i = 0; i < 65537; i++) {
        uint32_t before = lb_table_find(t, i, 0);
        moved += before != NUM - 1 && before != lb_table_find(fewer, i, 0);
    }
    ck_assert_uint_lt(moved, 65537 / 20);
    ck_assert_uint_eq(lb_table_size_of(t).size, 65537);
    lb_table_free(&t);
    lb_table_free(&fewer);
}
END_TEST

/* What g++'s std::hash<std::string> gives. */
START_TEST(murmur)
{
    ck_assert_uint_eq(murmur_hash2("", 0), 0x553e93901e462a6eu);
    ck_assert_uint_eq(murmur_hash2("a", 1), 0x454ddee488c1ed6bu);
    ck_assert_uint_eq(murmur_hash2("abcdefgh", 8), 0x783db3e38db898bbu);
    ck_assert_uint_eq(murmur_hash2("10.0.0.1:80_17", 14), 0x3d938892823c2ba7u);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lb_table");
    TCase *tc = tcase_create("lb_table");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, slices_make_the_same_table);
    tcase_add_test(tc, ring_is_ketama);
    tcase_add_test(tc, rings_have_a_size);
    tcase_add_test(tc, long_keys);
    tcase_add_test(tc, maglev_follows_weights);
    tcase_add_test(tc, murmur);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
