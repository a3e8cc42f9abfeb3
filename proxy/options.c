#include "proxy/options.h"

#include "base/log.h"
#include "base/str.h"
#include "proxy/version.h"
#include <stdio.h>
#include <string.h>

enum flag_kind {
    FLAG_NONE,
    FLAG_TEXT,
    FLAG_NUMBER,
    FLAG_SPECIAL,
    FLAG_IGNORED,
    FLAG_IGNORED_VALUE
};

struct flag {
    const char *name;
    char letter;
    enum flag_kind kind;
    size_t offset;
    uint64_t max;
    const char *help;
};

#define TEXT(name, letter, member, help)                                                           \
    {                                                                                              \
        name, letter, FLAG_TEXT, offsetof(struct options, member), 0, help                         \
    }
#define NUMBER(name, member, max, help)                                                            \
    {                                                                                              \
        name, 0, FLAG_NUMBER, offsetof(struct options, member), max, help                          \
    }
#define SWITCH(name, member, help)                                                                 \
    {                                                                                              \
        name, 0, FLAG_NONE, offsetof(struct options, member), 0, help                              \
    }
#define SPECIAL(name, help)                                                                        \
    {                                                                                              \
        name, 0, FLAG_SPECIAL, 0, 0, help                                                          \
    }
/* Envoy's, accepted and without effect here; the text says why. */
#define IGNORED(name, kind, help)                                                                  \
    {                                                                                              \
        name, 0, kind, 0, 0, help                                                                  \
    }

static const struct flag flags[] = {
    TEXT("config-path", 'c', config_path,
         "bootstrap file: .json, .yaml, .yml or .pb names its form"),
    TEXT("config-yaml", 0, config_yaml,
         "bootstrap as YAML or JSON text, merged over --config-path"),
    SPECIAL("mode", "serve, validate or init_only"),
    NUMBER("concurrency", concurrency_arg, 1024, "worker threads; 0 or unset: one a core"),
    TEXT("log-level", 'l', log_level, "trace, debug, info, warning, error, critical, off"),
    TEXT("component-log-level", 0, component_levels,
         "levels of single components: upstream:debug,config:trace"),
    TEXT("log-path", 0, log_path, "application log file; stderr by default"),
    TEXT("log-format", 0, log_format, "format of the application log (spdlog's patterns)"),
    TEXT("service-node", 0, service_node, "node.id, if the bootstrap has none"),
    TEXT("service-cluster", 0, service_cluster, "node.cluster, if the bootstrap has none"),
    TEXT("service-zone", 0, service_zone, "node.locality.zone, if the bootstrap has none"),
    NUMBER("drain-time-s", drain_time_s, UINT32_MAX, "how long a drain takes (600)"),
    SPECIAL("drain-strategy", "gradual or immediate"),
    NUMBER("parent-shutdown-time-s", parent_shutdown_time_s, UINT32_MAX,
           "hot restart: when the parent ends (900)"),
    NUMBER("restart-epoch", restart_epoch, UINT32_MAX, "hot restart epoch; only 0 is supported"),
    NUMBER("base-id", base_id, UINT32_MAX, "hot restart: which family of processes"),
    SWITCH("disable-hot-restart", disable_hot_restart, "hot restart is off"),
    SPECIAL("local-address-ip-version", "v4 or v6"),
    SWITCH("allow-unknown-static-fields", allow_unknown_static,
           "unknown fields of the bootstrap are counted, not refused"),
    SWITCH("reject-unknown-dynamic-fields", reject_unknown_dynamic,
           "unknown fields of resources are refused"),
    SWITCH("strict-fields", strict_fields,
           "known fields that are not supported are refused, not only warned about"),
    NUMBER("file-flush-interval-msec", file_flush_interval_ms, UINT32_MAX,
           "how often access logs are written (10000)"),
    NUMBER("file-flush-min-size-kb", file_flush_min_kb, UINT32_MAX,
           "how much is gathered before access logs are written (64)"),
    TEXT("admin-address-path", 0, admin_address_path, "file to write the admin port's address to"),
    SWITCH("log-format-escaped", log_format_escaped,
           "application log lines are escaped as C strings are"),
    IGNORED("enable-fine-grain-logging", FLAG_IGNORED, "accepted, no effect"),
    IGNORED("skip-deprecated-logs", FLAG_IGNORED,
            "accepted, no effect: nothing is logged of deprecated fields"),
    SWITCH("enable-core-dump", enable_core_dump,
           "core dumps also where the program file has capabilities"),
    IGNORED("ignore-unknown-dynamic-fields", FLAG_IGNORED, "accepted, no effect"),
    IGNORED("skip-hot-restart-on-no-parent", FLAG_IGNORED, "accepted, no effect"),
    IGNORED("skip-hot-restart-parent-stats", FLAG_IGNORED, "accepted, no effect"),
    IGNORED("cpuset-threads", FLAG_IGNORED,
            "accepted: the cores the process may use are always what counts"),
    IGNORED("disable-extensions", FLAG_IGNORED_VALUE, "accepted, no effect"),
    IGNORED("base-id-path", FLAG_IGNORED_VALUE, "accepted, no effect"),
    IGNORED("socket-path", FLAG_IGNORED_VALUE, "accepted, no effect"),
    IGNORED("socket-mode", FLAG_IGNORED_VALUE, "accepted, no effect"),
    IGNORED("stats-tag", FLAG_IGNORED_VALUE, "accepted, no effect"),
    SPECIAL("version", "print the version"),
    SPECIAL("help", "print this"),
};

static enum options_result fail(const char *name, const char *value, const char *why)
{
    fprintf(stderr, "attache: --%s%s%s: %s\n", name, value ? " " : "", value ? value : "", why);
    return OPTIONS_EXIT_ERROR;
}

static void print_help(void)
{
    printf("attache: a service-mesh sidecar and gateway. Flags as Envoy's:\n\n");
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        char letter[8] = "";
        if (flags[i].letter)
            snprintf(letter, sizeof(letter), "-%c, ", flags[i].letter);
        printf("  %4s--%-30s %s\n", letter, flags[i].name, flags[i].help);
    }
}

/* One of a few words. */
static bool pick(const char *value, const char *const *words, size_t n, size_t *out)
{
    for (*out = 0; *out < n; ++*out) {
        if (strcmp(value, words[*out]) == 0)
            return true;
    }
    return false;
}

static enum options_result set_special(struct options *o, const struct flag *f, const char *value)
{
    static const char *const modes[] = {"serve", "validate", "init_only"};
    static const char *const strategies[] = {"gradual", "immediate"};
    static const char *const versions[] = {"v4", "v6"};
    size_t i;
    if (strcmp(f->name, "mode") == 0) {
        if (!pick(value, modes, ARRAY_LEN(modes), &i))
            return fail(f->name, value, "must be serve, validate or init_only");
        o->mode = (enum run_mode)i;
    } else if (strcmp(f->name, "drain-strategy") == 0) {
        if (!pick(value, strategies, ARRAY_LEN(strategies), &i))
            return fail(f->name, value, "must be gradual or immediate");
        o->drain_immediate = i == 1;
    } else {
        if (!pick(value, versions, ARRAY_LEN(versions), &i))
            return fail(f->name, value, "must be v4 or v6");
        o->local_v6 = i == 1;
    }
    return OPTIONS_RUN;
}

static enum options_result set_flag(struct options *o, const struct flag *f, const char *value)
{
    char *at = (char *)o + f->offset;
    switch (f->kind) {
    case FLAG_NONE:
        *(bool *)at = true;
        return OPTIONS_RUN;
    case FLAG_TEXT:
        *(const char **)at = value;
        return OPTIONS_RUN;
    case FLAG_NUMBER:
        if (!str_to_u64(str_of(value), (uint64_t *)at) || *(uint64_t *)at > f->max)
            return fail(f->name, value, "must be a number in range");
        return OPTIONS_RUN;
    case FLAG_SPECIAL:
        return set_special(o, f, value);
    case FLAG_IGNORED:
    case FLAG_IGNORED_VALUE:
        return OPTIONS_RUN;
    }
    return OPTIONS_RUN;
}

/* Finds "--name", "--name=value" or "-l". */
static const struct flag *find_flag(const char *arg, const char **value)
{
    *value = NULL;
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        const struct flag *f = &flags[i];
        if (arg[0] == '-' && arg[1] != '-' && f->letter && arg[1] == f->letter) {
            *value = arg[2] ? arg + 2 : NULL;
            return f;
        }
        size_t len = strlen(f->name);
        if (strncmp(arg, "--", 2) != 0 || strncmp(arg + 2, f->name, len) != 0)
            continue;
        if (arg[2 + len] == '=')
            *value = arg + 3 + len;
        if (arg[2 + len] == '=' || arg[2 + len] == '\0')
            return f;
    }
    return NULL;
}

static bool takes_value(const struct flag *f)
{
    return f->kind == FLAG_TEXT || f->kind == FLAG_NUMBER || f->kind == FLAG_IGNORED_VALUE ||
           (f->kind == FLAG_SPECIAL && strcmp(f->name, "version") != 0 &&
            strcmp(f->name, "help") != 0);
}

static enum options_result check(const struct options *o)
{
    enum log_level level;
    if (o->log_level && !log_parse_level(str_of(o->log_level), &level))
        return fail("log-level", o->log_level, "is not a level");
    if (o->restart_epoch)
        return fail("restart-epoch", NULL, "hot restart is not supported yet; only epoch 0");
    if (!o->config_path && !o->config_yaml) {
        fprintf(stderr, "attache: at least one of --config-path and --config-yaml is required\n");
        return OPTIONS_EXIT_ERROR;
    }
    return OPTIONS_RUN;
}

enum options_result options_parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){
        .drain_time_s = 600,
        .parent_shutdown_time_s = 900,
        .file_flush_interval_ms = 10000,
        .file_flush_min_kb = 64,
        .argc = argc,
        .argv = argv,
    };
    for (int i = 1; i < argc; i++) {
        const char *value;
        const struct flag *f = find_flag(argv[i], &value);
        if (!f || (value && !takes_value(f))) {
            fprintf(stderr, "attache: unknown argument: %s (see --help)\n", argv[i]);
            return OPTIONS_EXIT_ERROR;
        }
        if (strcmp(f->name, "help") == 0) {
            print_help();
            return OPTIONS_EXIT_OK;
        }
        if (strcmp(f->name, "version") == 0) {
            printf("attache  version: %s\n", ATTACHE_VERSION_TEXT);
            return OPTIONS_EXIT_OK;
        }
        if (takes_value(f) && !value) {
            if (i + 1 >= argc)
                return fail(f->name, NULL, "needs a value");
            value = argv[++i];
        }
        enum options_result r = set_flag(o, f, value);
        if (r != OPTIONS_RUN)
            return r;
    }
    o->concurrency = (unsigned)o->concurrency_arg;
    return check(o);
}
