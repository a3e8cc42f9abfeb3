/* The bootstrap: read from a file and --config-yaml, merged, completed with the command line. */
#include "proxy/bootstrap.h"

#include "envoy/config/core/v3/base.pb-c.h"
#include "test/support/yaml_message.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct arena arena;
static struct errors errors;
static struct options options;
static struct bootstrap *b;
static char folder[] = "/tmp/attache-bootstrap-XXXXXX";
static struct str last_file;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
    options = (struct options){0};
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void teardown(void)
{
    bootstrap_free(&b);
    if (last_file.len)
        unlink(last_file.p);
    rmdir(folder);
    errors_cleanup(&errors);
    arena_cleanup(&arena);
}

static void write_file(const char *name, struct str text)
{
    last_file = arena_printf(&arena, "%s/%s", folder, name);
    FILE *f = fopen(last_file.p, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text.p, 1, text.len, f), text.len);
    fclose(f);
    options.config_path = last_file.p;
}

static bool load(void)
{
    bootstrap_free(&b);
    b = bootstrap_load(&options, &errors);
    ck_assert((b != NULL) == errors_ok(&errors));
    return b != NULL;
}

static const Envoy__Config__Core__V3__Node *node(void)
{
    return PB_UNPACK(Envoy__Config__Core__V3__Node, envoy__config__core__v3__node, b->node, &arena,
                     &errors, NULL);
}

#define EXAMPLE_JSON                                                                               \
    "{\"node\": {\"id\": \"me\", \"cluster\": \"c\",}, \"stats_flush_interval\": \"3s\","          \
    " \"static_resources\": {\"clusters\": [{\"name\": \"one\"}]}}"
#define EXAMPLE_YAML                                                                               \
    "node: {id: me, cluster: c}\nstats_flush_interval: 3s\nstatic_resources:\n  clusters:\n  - "   \
    "name: one\n"

static void check_example(void)
{
    ck_assert_str_eq(b->msg->node->id, "me");
    ck_assert_int_eq(b->msg->stats_flush_interval->seconds, 3);
    ck_assert_uint_eq(b->msg->static_resources->n_clusters, 1);
    ck_assert_str_eq(b->msg->static_resources->clusters[0]->name, "one");
    ck_assert(b->loaded_us > 0);
}

START_TEST(forms)
{
    write_file("b.json", STR(EXAMPLE_JSON)); /* with the comma that Istio's template leaves */
    ck_assert(load());
    check_example();
    struct str wire = arena_str(&arena, b->bytes);
    unlink(last_file.p);
    write_file("b.yaml", STR(EXAMPLE_YAML));
    ck_assert(load());
    check_example();
    unlink(last_file.p);
    write_file("b.yml", STR(EXAMPLE_JSON)); /* JSON is YAML, but for that comma */
    ck_assert(load());
    unlink(last_file.p);
    write_file("b.pb", wire);
    ck_assert(load());
    check_example();
    options = (struct options){.config_yaml = EXAMPLE_YAML};
    ck_assert(load());
    check_example();
}
END_TEST

/* As Envoy merges them: the later scalar wins, messages are merged, lists grow. */
START_TEST(merged)
{
    write_file("b.yaml", STR(EXAMPLE_YAML));
    options.config_yaml = "{node: {cluster: other}, stats_flush_interval: 7s, admin: {address: "
                          "{pipe: {path: /p}}}, static_resources: {clusters: [{name: two}]}}";
    ck_assert(load());
    ck_assert_str_eq(b->msg->node->id, "me");
    ck_assert_str_eq(b->msg->node->cluster, "other");
    ck_assert_int_eq(b->msg->stats_flush_interval->seconds, 7);
    ck_assert_str_eq(b->msg->admin->address->pipe->path, "/p");
    ck_assert_uint_eq(b->msg->static_resources->n_clusters, 2);
    ck_assert_str_eq(b->msg->static_resources->clusters[1]->name, "two");
}
END_TEST

START_TEST(node_from_the_command_line)
{
    options = (struct options){
        .config_yaml = "{}", .service_node = "sn", .service_cluster = "sc", .service_zone = "sz"};
    ck_assert(load());
    ck_assert_str_eq(node()->id, "sn");
    ck_assert_str_eq(node()->cluster, "sc");
    ck_assert_str_eq(node()->locality->zone, "sz");
    ck_assert_str_eq(node()->user_agent_name, "attache");
    options.config_yaml = "{node: {id: me, cluster: c, locality: {zone: z}}}"; /* wins */
    ck_assert(load());
    ck_assert_str_eq(node()->id, "me");
    ck_assert_str_eq(node()->cluster, "c");
    ck_assert_str_eq(node()->locality->zone, "z");
}
END_TEST

static const struct {
    const char *yaml, *path, *text;
} bad[] = {
    {"{nope: 1}", "nope", ""},
    {"{node: {nope: 1}}", "node.nope", ""},
    {"{node: {id: [1]}}", "node.id", ""},
    {"{stats_flush_interval: soon}", "stats_flush_interval", ""},
    {"{static_resources: {clusters: [{name: a}, {connect_timeout: 1s}]}}",
     "static_resources.clusters[1].name", ""},
    {"{", "", "--config-yaml: line"},
    {"[1]", "", ""},
};

START_TEST(refused)
{
    options.config_yaml = bad[_i].yaml;
    ck_assert_msg(!load(), "%s", bad[_i].yaml);
    expect_error(&errors, bad[_i].path, bad[_i].text);
}
END_TEST

START_TEST(unknown_fields_counted)
{
    options.config_yaml = "{nope: 1, node: {id: me, neither: {a: 2}}}";
    options.allow_unknown_static = true;
    ck_assert(load());
    ck_assert_uint_eq(b->counts.unknown_fields, 2);
    ck_assert_str_eq(b->msg->node->id, "me");
}
END_TEST

START_TEST(files_that_cannot_be_read)
{
    options.config_path = "/nonexistent/b.yaml";
    ck_assert(!load());
    expect_error(&errors, "", "/nonexistent/b.yaml: No such file");
    options.config_path = folder;
    ck_assert(!load());
    expect_error(&errors, "", "not a regular file");
    write_file("b.txt", STR("{}"));
    ck_assert(!load());
    expect_error(&errors, "", ".yaml");
    unlink(last_file.p);
    write_file("b.json", STR("{\n\"node\": }"));
    ck_assert(!load());
    expect_error(&errors, "", "b.json: line 2");
    unlink(last_file.p);
    write_file("b.pb", STR("\x0b\x0b\x0b")); /* groups */
    ck_assert(!load());
}
END_TEST

START_TEST(stats_config)
{
    options.config_yaml =
        "{stats_config: {stats_matcher: {inclusion_list: {patterns: [{safe_regex: "
        "{regex: '['}}]}}, stats_tags: [{tag_name: a, regex: '('}]}}";
    ck_assert(load());
    ck_assert(!bootstrap_stats(b, &errors));
    expect_error(&errors, "stats_config.stats_matcher.inclusion_list.patterns[0].safe_regex.regex",
                 "");
    expect_error(&errors, "stats_config.stats_tags[0].regex", "");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bootstrap");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, forms);
    tcase_add_test(t, merged);
    tcase_add_test(t, node_from_the_command_line);
    tcase_add_loop_test(t, refused, 0, (int)ARRAY_LEN(bad));
    tcase_add_test(t, unknown_fields_counted);
    tcase_add_test(t, files_that_cannot_be_read);
    tcase_add_test(t, stats_config);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
