#include "test/unit/xds/fixture.c"
#include "xds/file_source.h"
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/xds-file-XXXXXX";

static void setup(void)
{
    memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    char cmd[128];
    snprintf(cmd, sizeof(cmd), "rm -rf -- '%s'", dir);
    ck_assert_int_eq(system(cmd), 0);
}

static struct str path_of(struct fixture *f, const char *name)
{
    return arena_printf(&f->arena, "%s/%s", dir, name);
}

static void write_file(struct fixture *f, const char *name, struct str text)
{
    FILE *file = fopen(path_of(f, name).p, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text.p, 1, text.len, file), text.len);
    fclose(file);
}

/* As editors and Kubernetes do: written beside it, moved into its place. */
static void move_file(struct fixture *f, const char *name, struct str text)
{
    write_file(f, "tmp", text);
    ck_assert_int_eq(rename(path_of(f, "tmp").p, path_of(f, name).p), 0);
    run(f);
}

static struct xds_source source(struct fixture *f, const char *name)
{
    return (struct xds_source){.kind = XDS_SOURCE_PATH,
                               .initial_fetch_timeout_ms = XDS_FETCH_TIMEOUT_MS,
                               .path = path_of(f, name)};
}

static void collect_file(struct fixture *f, const char *name)
{
    struct xds_source src = source(f, name);
    xds_collect(f->x, &src, &cds_ops, NULL, on_settled, f);
    run(f);
}

#define YAML(version, name, seconds)                                                               \
    "version_info: \"" version "\"\n"                                                              \
    "resources:\n"                                                                                 \
    "- \"@type\": " CDS_URL "\n"                                                                   \
    "  name: " name "\n"                                                                           \
    "  connect_timeout: " seconds "s\n"

START_TEST(test_yaml_file_and_what_is_moved_into_its_place)
{
    struct fixture f;
    fixture_init_with(&f, NULL);
    write_file(&f, "cds.yaml", STR(YAML("1", "a", "5")));
    collect_file(&f, "cds.yaml");
    expect_told(&f, "( a=5@1 ) settled");
    ck_assert(str_eq(xds_version(f.x, &cds_ops), STR("1")));
    move_file(&f, "cds.yaml", STR(YAML("2", "b", "6")));
    expect_told(&f, "( b=6@2 -a )");
    move_file(&f, "other.yaml", STR(YAML("3", "c", "6")));
    expect_told(&f, "");
    write_file(&f, "cds.yaml", STR(YAML("4", "d", "6"))); /* not atomic: not seen */
    run(&f);
    expect_told(&f, "");
    ck_assert_uint_eq(f.num_dials, 0);
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_json_and_binary)
{
    struct fixture f;
    fixture_init_with(&f, NULL);
    write_file(&f, "cds.json",
               STR("{\"versionInfo\": \"7\", \"resources\": [{\"@type\": \"" CDS_URL
                   "\", \"name\": \"a\", \"connectTimeout\": \"3s\",},],}"));
    collect_file(&f, "cds.json");
    expect_told(&f, "( a=3@7 ) settled");
    fixture_cleanup(&f);

    fixture_init_with(&f, NULL);
    struct reply r = reply_new(&f, CDS_URL, "8", "");
    reply_add(&r, "b", 4);
    write_file(&f, "cds.pb", r.bytes);
    collect_file(&f, "cds.pb");
    expect_told(&f, "( b=4@8 ) settled");
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_bad_files_leave_what_was_good)
{
    static const char *const bad[] = {
        "",
        "resources: [",
        "- 1\n- 2\n",
        "version_info: {}\n",
        "type_url: " EDS_URL "\n",
        "resources:\n- \"@type\": " CDS_URL "\n  name: a\n  connect_timeout: nonsense\n",
        "resources:\n- name: a\n",
        YAML("9", "a", "666"),
    };
    struct fixture f;
    fixture_init_with(&f, NULL);
    write_file(&f, "cds.yaml", STR(YAML("1", "a", "5")));
    collect_file(&f, "cds.yaml");
    f.log[0] = 0;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        move_file(&f, "cds.yaml", str_of(bad[i]));
        ck_assert_msg(!strstr(f.log, "-a") && !strstr(f.log, "a="), "%zu: %s", i, f.log);
        ck_assert(str_eq(xds_version(f.x, &cds_ops), STR("1")));
        f.log[0] = 0;
    }
    ck_assert_int_eq(unlink(path_of(&f, "cds.yaml").p), 0);
    run(&f);
    expect_told(&f, "");
    move_file(&f, "cds.yaml", STR(YAML("2", "a", "6")));
    expect_told(&f, "( a=6@2 )");
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_a_missing_file_settles_by_timeout_and_may_come)
{
    struct fixture f;
    fixture_init_with(&f, NULL);
    collect_file(&f, "cds.yaml");
    expect_told(&f, "");
    advance(&f, XDS_FETCH_TIMEOUT_MS);
    expect_told(&f, "settled");
    move_file(&f, "cds.yaml", STR(YAML("1", "a", "5")));
    expect_told(&f, "( a=5@1 )");
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_named_resource_from_a_file)
{
    struct fixture f;
    struct watcher a, b;
    fixture_init_with(&f, NULL);
    write_file(&f, "sds.yaml",
               STR("resources:\n- \"@type\": " EDS_URL "\n  cluster_name: e\n"
                   "  endpoints: [{priority: 3}]\n"));
    struct xds_source src = source(&f, "sds.yaml");
    watch(&a, &f, "a", &src, &eds_ops, "e");
    watch(&b, &f, "b", &src, &eds_ops, "none");
    run(&f);
    expect_told(&f, "a:3");
    advance(&f, XDS_FETCH_TIMEOUT_MS);
    expect_told(&f, "b:absent0");
    xds_unsubscribe(&a.sub);
    run(&f);
    move_file(&f, "sds.yaml",
              STR("resources:\n- \"@type\": " EDS_URL "\n  cluster_name: none\n"
                  "  endpoints: [{priority: 4}]\n"));
    expect_told(&f, "b:4"); /* the watch of the directory outlived a's */
    xds_unsubscribe(&b.sub);
    run(&f);
    ck_assert(list_empty(&f.x->files));
    ck_assert_ptr_null(f.x->watch);
    fixture_cleanup(&f);
}
END_TEST

/* A ConfigMap: the file is a link through ..data, which is moved as a whole. */
START_TEST(test_watched_directory)
{
    struct fixture f;
    fixture_init_with(&f, NULL);
    ck_assert_int_eq(mkdir(path_of(&f, "v1").p, 0700), 0);
    ck_assert_int_eq(mkdir(path_of(&f, "v2").p, 0700), 0);
    write_file(&f, "v1/cds.yaml", STR(YAML("1", "a", "5")));
    write_file(&f, "v2/cds.yaml", STR(YAML("2", "a", "6")));
    ck_assert_int_eq(symlink("v1", path_of(&f, "..data").p), 0);
    ck_assert_int_eq(symlink("..data/cds.yaml", path_of(&f, "cds.yaml").p), 0);
    struct xds_source src = source(&f, "cds.yaml");
    src.watched_directory = str_of(dir);
    xds_collect(f.x, &src, &cds_ops, NULL, on_settled, &f);
    run(&f);
    expect_told(&f, "( a=5@1 ) settled");
    ck_assert_int_eq(symlink("v2", path_of(&f, "..tmp").p), 0);
    ck_assert_int_eq(rename(path_of(&f, "..tmp").p, path_of(&f, "..data").p), 0);
    run(&f);
    expect_told(&f, "( a=6@2 )");
    fixture_cleanup(&f);
}
END_TEST

START_TEST(test_check_refuses_what_can_never_be_read)
{
    struct fixture f;
    struct errors e;
    static const char *const bad[] = {"", "/nonexistent/cds.yaml", "/etc/passwd", "/tmp/x.pb_text"};
    fixture_init_with(&f, NULL);
    errors_init(&e);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert(!xds_file_check(str_of(bad[i]), &e));
        ck_assert_uint_eq(e.num_errors, i + 1);
    }
    write_file(&f, "x.json", STR("{}"));
    ck_assert(xds_file_check(path_of(&f, "x.json"), &e));
    errors_cleanup(&e);
    fixture_cleanup(&f);
}
END_TEST

static void add(TCase *t)
{
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_yaml_file_and_what_is_moved_into_its_place);
    tcase_add_test(t, test_json_and_binary);
    tcase_add_test(t, test_bad_files_leave_what_was_good);
    tcase_add_test(t, test_a_missing_file_settles_by_timeout_and_may_come);
    tcase_add_test(t, test_named_resource_from_a_file);
    tcase_add_test(t, test_watched_directory);
    tcase_add_test(t, test_check_refuses_what_can_never_be_read);
}

int main(void)
{
    return test_main("xds/file_source", add);
}
