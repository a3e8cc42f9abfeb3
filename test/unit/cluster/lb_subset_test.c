/* Which subset is chosen from is compared with Envoy in test/conformance/balancers.py; here is what
 * that cannot see. */
#include "cluster/lb_subset.h"

#include "base/random.h"
#include "cluster/cluster_config.h"
#include "cluster/lb.h"
#include "cluster/load_assignment.h"
#include <check.h>
#include <stdio.h>

enum { NUM = 8 };

static struct host *hosts[NUM];
static struct host_set *set;
static struct lb *lb;
static struct cluster_config *config;
static struct subset_config subsets;
static struct subset_selector selectors[2];
static struct str keys[2] = {STR("stage"), STR("version")};

/* A serialised Value of a short string. */
static struct str value_of(const char *text, char *room)
{
    size_t len = strlen(text);
    room[0] = 3 << 3 | 2;
    room[1] = (char)len;
    memcpy(room + 2, text, len);
    return str_n(room, len + 2);
}

static void label(struct host *h, const char *stage, const char *version)
{
    char a[32], b[32];
    union {
        struct labels l;
        char room[sizeof(struct labels) + 2 * sizeof(struct label)];
    } u = {.l = {.num = version ? 2 : 1}};
    u.l.v[0] = (struct label){keys[0], value_of(stage, a)};
    if (version)
        u.l.v[1] = (struct label){keys[1], value_of(version, b)};
    (void)host_set_labels(h, &u.l);
}

static struct lb_choice ask(const char *stage, const char *version)
{
    char a[32], b[32];
    union {
        struct labels l;
        char room[sizeof(struct labels) + 2 * sizeof(struct label)];
    } u = {0};
    if (stage)
        u.l.v[u.l.num++] = (struct label){keys[0], value_of(stage, a)};
    if (version)
        u.l.v[u.l.num++] = (struct label){keys[1], value_of(version, b)};
    return lb_pick(lb, &(struct lb_request){.match = &u.l});
}

static void build(void)
{
    struct host_group g = {.hosts = hosts, .num_hosts = NUM};
    struct host_set_spec spec = {.groups = &g,
                                 .num_groups = 1,
                                 .panic_per_cent = 0,
                                 .table = config->table,
                                 .subsets = &subsets};
    uint64_t budget = UINT64_MAX;
    struct host_set *old = set;
    set = host_set_new(NULL, &spec);
    ck_assert(host_set_step(set, &budget));
    if (!lb)
        lb = lb_new(config, NULL);
    lb_update(lb, set);
    host_set_unref(old);
}

static void setup(void)
{
    random_seed_for_test(5);
    config = cluster_config_new(NULL, STR("c"));
    for (int i = 0; i < NUM; i++) {
        struct host_info info = {0};
        char text[32];
        snprintf(text, sizeof(text), "127.0.0.1:%d", i + 1);
        ck_assert(addr_parse_ip_port(str_of(text), &info.addr));
        hosts[i] = host_new(NULL, &info);
        label(hosts[i], i < 4 ? "dev" : "prod", i == 7 ? NULL : i % 2 ? "1" : "2");
    }
    selectors[0] = (struct subset_selector){.keys = {1, keys}};
    selectors[1] = (struct subset_selector){.keys = {2, keys}};
    subsets = (struct subset_config){
        .selectors = selectors, .num_selectors = 2, .fallback = SUBSET_NO_FALLBACK};
}

static void teardown(void)
{
    lb_free(&lb);
    host_set_unref(set);
    set = NULL;
    for (int i = 0; i < NUM; i++)
        host_unref(hosts[i]);
    cluster_config_unref(config);
}

static unsigned number(const struct host *h)
{
    return addr_port(&h->addr) - 1;
}

START_TEST(subsets_take_turns_of_their_own)
{
    build();
    ck_assert_uint_eq(set->subsets->map.num, 2 + 4);
    for (int i = 0; i < 12; i++) {
        unsigned dev = number(ask("dev", NULL).host), other = number(ask("dev", NULL).host);
        struct lb_choice c = ask("prod", "1");
        ck_assert(dev < 4 && other < 4 && dev != other);
        ck_assert_uint_eq(number(c.host), 5); /* 7 has no version */
        ck_assert_int_eq(c.subset, LB_SUBSET_SELECTED);
    }
    ck_assert_ptr_null(ask("none", NULL).host);
    ck_assert_ptr_null(ask(NULL, "1").host); /* no selector of that key */
    ck_assert_ptr_null(ask(NULL, NULL).host);
}
END_TEST

START_TEST(health_counts_in_a_subset)
{
    ck_assert(host_set_flag(hosts[5], HOST_FAILED_OUTLIER));
    build();
    ck_assert_ptr_null(ask("prod", "1").host);
    ck_assert_ptr_nonnull(ask("prod", NULL).host);
    ck_assert(host_clear_flag(hosts[5], HOST_FAILED_OUTLIER));
    build();
    ck_assert_ptr_eq(ask("prod", "1").host, hosts[5]);
}
END_TEST

START_TEST(other_metadata_other_subset)
{
    build();
    ck_assert_ptr_null(ask("test", NULL).host);
    label(hosts[0], "test", "1");
    build();
    ck_assert_ptr_eq(ask("test", NULL).host, hosts[0]);
    for (int i = 0; i < 10; i++)
        ck_assert_ptr_ne(ask("dev", NULL).host, hosts[0]);
}
END_TEST

START_TEST(single_hosts)
{
    selectors[0].single = true;
    build();
    for (int i = 0; i < 5; i++)
        ck_assert_ptr_eq(ask("prod", NULL).host, hosts[4]);
}
END_TEST

START_TEST(fallbacks)
{
    struct lb_choice c;
    subsets.fallback = SUBSET_DEFAULT;
    subsets.panic_any = true;
    build(); /* no default_subset: everybody */
    c = ask("none", NULL);
    ck_assert_ptr_nonnull(c.host);
    ck_assert_int_eq(c.subset, LB_SUBSET_FALLBACK);
    for (int i = 0; i < NUM; i++)
        (void)!host_set_flag(hosts[i], HOST_FAILED_EDS);
    build();
    ck_assert_ptr_null(ask("none", NULL).host);
    ck_assert_int_eq(ask("none", NULL).subset, LB_SUBSET_PANIC);
    selectors[0].fallback = SUBSET_NO_FALLBACK;
    build();
    ck_assert_int_eq(ask("none", NULL).subset, LB_SUBSET_NONE);
}
END_TEST

/* Their tables are built with those of the whole, in slices. */
START_TEST(hash_tables_of_subsets)
{
    static const struct lb_table_config maglev = {.kind = LB_TABLE_MAGLEV, .size = 251};
    struct host_group g = {.hosts = hosts, .num_hosts = NUM};
    struct host_set_spec spec = {
        .groups = &g, .num_groups = 1, .table = &maglev, .subsets = &subsets};
    struct host_set *s = host_set_new(NULL, &spec);
    unsigned slices = 0;
    uint64_t budget = 50;
    while (!host_set_step(s, &budget)) {
        budget = 50;
        slices++;
    }
    ck_assert_uint_gt(slices, 6 * 251 / 50);
    host_set_unref(s);
    config->lb_policy = LB_MAGLEV;
    config->table = &maglev;
    build();
    ck_assert_uint_lt(number(ask("dev", NULL).host), 4);
}
END_TEST

/* A serialised Value that is a list of so many strings, of which 26 are different. */
static struct str list_of(unsigned num, char *room)
{
    char *p = room;
    unsigned len = num * 6;
    *p++ = 6 << 3 | 2;
    if (len > 127)
        *p++ = (char)((len & 0x7f) | 0x80);
    *p++ = (char)(len > 127 ? len >> 7 : len);
    for (unsigned i = 0; i < num; i++) {
        *p++ = 1 << 3 | 2;
        *p++ = 4;
        *p++ = 3 << 3 | 2;
        *p++ = 2;
        *p++ = (char)('a' + i % 26);
        *p++ = 'x';
    }
    return str_n(room, (size_t)(p - room));
}

START_TEST(one_host_of_many_combinations_takes_no_other_out)
{
    char a[2000], b[2000];
    union {
        struct labels l;
        char room[sizeof(struct labels) + 2 * sizeof(struct label)];
    } u = {.l = {.num = 2}};
    u.l.v[0] = (struct label){keys[0], list_of(300, a)};
    u.l.v[1] = (struct label){keys[1], list_of(300, b)};
    (void)host_set_labels(hosts[0], &u.l);
    subsets.list_as_any = true;
    build();
    ck_assert_ptr_nonnull(ask("prod", "1").host); /* of a later host; 90,000 combinations
 are of the first */
    ck_assert_ptr_nonnull(ask("prod", NULL).host);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster/lb_subset");
    TCase *t = tcase_create("subset");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, subsets_take_turns_of_their_own);
    tcase_add_test(t, health_counts_in_a_subset);
    tcase_add_test(t, other_metadata_other_subset);
    tcase_add_test(t, single_hosts);
    tcase_add_test(t, fallbacks);
    tcase_add_test(t, hash_tables_of_subsets);
    tcase_add_test(t, one_host_of_many_combinations_takes_no_other_out);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
