/* The command line: Envoy's flags, in all their forms, and what is refused. */
#include "proxy/options.h"

#include "base/alloc.h"
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ARGS = 16 };

static struct options o;

/* `line`: arguments with spaces between them. What is printed is dropped. */
static enum options_result parse(const char *line)
{
    static char copy[512];
    char *argv[MAX_ARGS] = {(char *)(uintptr_t) "attache"};
    int argc = 1;
    ck_assert_uint_lt(strlen(line), sizeof(copy));
    memcpy(copy, line, strlen(line) + 1);
    for (char *p = copy; *p; p++) {
        if (*p == ' ') {
            *p = '\0';
            continue;
        }
        if (p > copy && p[-1])
            continue;
        ck_assert_int_lt(argc, MAX_ARGS);
        argv[argc++] = p;
    }
    fflush(NULL);
    int out = dup(1), err = dup(2), null = open("/dev/null", O_WRONLY);
    dup2(null, 1);
    dup2(null, 2);
    enum options_result r = options_parse(&o, argc, argv);
    fflush(NULL);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    close(null);
    return r;
}

START_TEST(defaults)
{
    ck_assert_int_eq(parse("-c b.yaml"), OPTIONS_RUN);
    ck_assert_str_eq(o.config_path, "b.yaml");
    ck_assert_int_eq(o.mode, MODE_SERVE);
    ck_assert_uint_eq(o.concurrency, 0);
    ck_assert_uint_eq(o.drain_time_s, 600);
    ck_assert_uint_eq(o.parent_shutdown_time_s, 900);
    ck_assert_uint_eq(o.file_flush_interval_ms, 10000);
    ck_assert(!o.drain_immediate && !o.allow_unknown_static && !o.reject_unknown_dynamic);
    ck_assert(!o.strict_fields && !o.local_v6 && !o.service_node && !o.admin_address_path);
}
END_TEST

/* What pilot-agent passes. */
START_TEST(all)
{
    ck_assert_int_eq(
        parse(
            "-c /etc/b.json --drain-time-s 45 --drain-strategy immediate --parent-shutdown-time-s "
            "60 --local-address-ip-version v4 --file-flush-interval-msec 1000 "
            "--disable-hot-restart --concurrency 2"),
        OPTIONS_RUN);
    ck_assert_uint_eq(o.drain_time_s, 45);
    ck_assert(o.drain_immediate && o.disable_hot_restart && !o.local_v6);
    ck_assert_uint_eq(o.parent_shutdown_time_s, 60);
    ck_assert_uint_eq(o.file_flush_interval_ms, 1000);
    ck_assert_uint_eq(o.concurrency, 2);
    ck_assert_int_eq(parse("--config-yaml={} --log-format=%v -lwarning --component-log-level "
                           "upstream:debug --allow-unknown-static-fields"),
                     OPTIONS_RUN);
    ck_assert_str_eq(o.config_yaml, "{}");
    ck_assert_str_eq(o.log_format, "%v");
    ck_assert_str_eq(o.log_level, "warning");
    ck_assert_str_eq(o.component_levels, "upstream:debug");
    ck_assert(o.allow_unknown_static);
    ck_assert_int_eq(parse("-c b --service-node n --service-cluster c --service-zone z --mode "
                           "validate --reject-unknown-dynamic-fields --strict-fields"),
                     OPTIONS_RUN);
    ck_assert_str_eq(o.service_node, "n");
    ck_assert_str_eq(o.service_cluster, "c");
    ck_assert_str_eq(o.service_zone, "z");
    ck_assert_int_eq(o.mode, MODE_VALIDATE);
    ck_assert(o.reject_unknown_dynamic && o.strict_fields);
    ck_assert_int_eq(parse("-c b --admin-address-path=/a=b --base-id 3 --restart-epoch 0 "
                           "--log-path /l --mode init_only --local-address-ip-version v6"),
                     OPTIONS_RUN);
    ck_assert_str_eq(o.admin_address_path, "/a=b");
    ck_assert_int_eq(o.mode, MODE_INIT_ONLY);
    ck_assert(o.local_v6);
}
END_TEST

START_TEST(without_effect_but_accepted)
{
    ck_assert_int_eq(parse("-c b --cpuset-threads --disable-extensions x --base-id-path /p "
                           "--socket-path=@x --socket-mode 600 --enable-fine-grain-logging"),
                     OPTIONS_RUN);
}
END_TEST

START_TEST(the_last_counts)
{
    ck_assert_int_eq(parse("-c a --config-path b --concurrency 1 --concurrency 4"), OPTIONS_RUN);
    ck_assert_str_eq(o.config_path, "b");
    ck_assert_uint_eq(o.concurrency, 4);
}
END_TEST

START_TEST(asks_only)
{
    ck_assert_int_eq(parse("--version"), OPTIONS_EXIT_OK);
    ck_assert_int_eq(parse("--help"), OPTIONS_EXIT_OK);
    ck_assert_int_eq(parse("-c b --version"), OPTIONS_EXIT_OK);
}
END_TEST

static const char *const bad[] = {
    "",
    "-c",
    "--concurrency 2",
    "-c b --concurrency",
    "-c b --concurrency x",
    "-c b --concurrency -1",
    "-c b --concurrency 99999999999",
    "-c b --concurrency 2x",
    "-c b --drain-time-s 5s",
    "-c b --mode sometimes",
    "-c b --drain-strategy slow",
    "-c b --local-address-ip-version v5",
    "-c b --log-level loud",
    "-c b -l",
    "-c b --nonsense",
    "-c b --config",
    "-c b --config-pathx",
    "-c b --strict-fields=yes",
    "-c b positional",
    "-c b -x",
    "-c b -",
    "-c b --",
    "-c b --restart-epoch 1",
};

START_TEST(refused)
{
    ck_assert_msg(parse(bad[_i]) == OPTIONS_EXIT_ERROR, "%s", bad[_i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("options");
    TCase *t = tcase_create("all");
    tcase_add_test(t, defaults);
    tcase_add_test(t, all);
    tcase_add_test(t, without_effect_but_accepted);
    tcase_add_test(t, the_last_counts);
    tcase_add_test(t, asks_only);
    tcase_add_loop_test(t, refused, 0, (int)ARRAY_LEN(bad));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
